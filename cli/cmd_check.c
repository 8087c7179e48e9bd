/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: does the broker agree with itself?  What it finds is its answer, and the exit code
 * says whether that is nothing, so that a monitor can run it.
 */
#include "args.h"
#include "families.h"
#include "session.h"

SESSION_CLEANUP(ioasid_check_report, ioasid_check_report_free)

static const struct cli_column form[] = {
	{"verdict", "verdict"},
	{"tenants", "tenants"},
	{"leases", "leases"},
	{"objects", "objects"},
	{"counters", "counters"},
	{"omitted", "problems not shown", .optional = true},
	{},
};
static const struct cli_column columns[] = {
	{"subject", "SUBJECT"},
	{"text", "PROBLEM"},
	{},
};
static const struct cli_section sections[] = {
	{"problems", NULL, columns},
	{},
};
static const struct cli_view view = {.form = form, .sections = sections, .id = "subject"};

static int check(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_check_report_free) struct ioasid_check_report *report = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	bool good;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_check(c.client, &c.scope, &report, &c.error) < 0)
		return session_fail(cli, c.error);
	good = !report->n_problems && !report->omitted;
	document = doc_new("check");
	doc_put_text(document, "verdict", good ? "ok" : "problems");
	doc_put_u64(document, "tenants", report->tenants);
	doc_put_u64(document, "leases", report->leases);
	doc_put_u64(document, "objects", report->objects);
	doc_put_u64(document, "counters", report->counters);
	doc_put_u64(document, "omitted", report->omitted);
	list = doc_array();
	for (size_t i = 0; i < report->n_problems; i++) {
		struct json_object *o = doc_object();

		doc_put_text(o, "subject", report->problems[i]->subject);
		doc_put_text(o, "text", report->problems[i]->text);
		doc_put(list, NULL, o);
	}
	doc_put(document, "problems", list);
	r = cli_show(cli, document);
	return r || good ? r : CLI_FAILED;
}

const struct cli_command cmd_check = {
	.noun = "check",
	.flags = CLI_NO_LEASE,
	.roles = "observer, admin",
	.summary = "have the broker compare what it counts with what it has",
	.help = "Every counter with the objects that it counts, references with those who refer, "
		"attachments and tables with the IOMMU where it can tell, and the registry with "
		"all of it.  Changes nothing.  Exit code 0: everything agrees; 1: it does not, and "
		"the answer says where, or the command failed.",
	.example = "ioasidctl -o json check",
	.view = &view,
	.run = check,
};
