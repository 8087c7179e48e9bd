/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota show, quota explain: what the caller's tenant may use, uses, and could still use.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_quota, ioasid_quota_free)
SESSION_CLEANUP(ioasid_quota_answer, ioasid_quota_answer_free)

static const struct cli_section show_sections[] = {
	{"resources", NULL, usage_columns},
	{},
};
static const struct cli_column show_form[] = {{"tenant", "tenant"}, {}};
static const struct cli_view show_view = {
	.form = show_form,
	.sections = show_sections,
	.id = "tenant",
};
static const struct cli_column explain_form[] = {
	{"fits", "fits", RENDER_BOOL},
	{"refusing_tenant", "refused by", .optional = true},
	{"resource", "resource", .optional = true},
	{"explanation", "because", .optional = true},
	{},
};
static const struct cli_view explain_view = {.form = explain_form, .id = "fits"};

struct ioasid_resource_amount *quota_amounts(const struct cli_args *args, const char *name,
					     size_t *ret_n)
{
	size_t n = args_count(args, name);
	struct ioasid_resource_amount *amounts = cli_alloc(n * sizeof(*amounts));

	for (size_t i = 0; i < n; i++) {
		const struct cli_value *v = args_at(args, name, i);

		amounts[i].resource = v->resource;
		amounts[i].amount = v->number;
	}
	*ret_n = n;
	return amounts;
}

static int quota_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_quota_free) struct ioasid_quota *quota = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_quota_get(c.client, &c.scope, &quota, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("quota");
	doc_put_text(document, "tenant", quota->tenant);
	list = doc_array();
	for (size_t i = 0; i < quota->n_resources; i++)
		doc_put(list, NULL, object_usage(quota->resources[i]));
	doc_put(document, "resources", list);
	return cli_show(cli, document);
}

static int quota_explain(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_quota_answer_free) struct ioasid_quota_answer *answer = NULL;
	_cleanup_free_ struct ioasid_resource_amount *amounts = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	size_t n;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	amounts = quota_amounts(args, "AMOUNT", &n);
	if (ioasid_quota_explain(c.client, &c.scope, amounts, n, &answer, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("quota-explain");
	doc_put_bool(document, "fits", answer->fits);
	doc_put_text_if(document, "refusing_tenant", answer->refusing_tenant);
	doc_put_text_if(document, "resource", answer->resource);
	doc_put_text_if(document, "explanation", answer->explanation);
	r = cli_show(cli, document);
	if (!r && !answer->fits)
		r = cli_fail(cli, CLI_QUOTA, "RESOURCE_EXHAUSTED", "QUOTA", "%s",
			     *answer->explanation ? answer->explanation : "it does not fit");
	return r;
}

static const struct cli_param explain_args[] = {
	{"AMOUNT", CLI_AMOUNT, CLI_REQUIRED | CLI_REPEATED, .help = "ioasids=2, pinned_bytes=64M"},
	{},
};

const struct cli_command cmd_quota_show = {
	.noun = "quota",
	.verb = "show",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "show the limits and counters of the caller's tenant",
	.view = &show_view,
	.run = quota_show,
};
const struct cli_command cmd_quota_explain = {
	.noun = "quota",
	.verb = "explain",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "would these amounts fit together, and if not, who refuses?",
	.help = "Charges nothing.  Exit code 0 if they fit, 4 if not.",
	.example = "ioasidctl quota explain ioasids=2 pinned_bytes=64M",
	.args = explain_args,
	.view = &explain_view,
	.run = quota_explain,
};
