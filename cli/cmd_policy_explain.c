/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy explain: would this be allowed, and which rule of which file says so?  Works on
 * the files alone, by the functions that the broker asks; nothing is counted as used.  A
 * question of policy/explain.h holds one word of each sort: several formats, kinds or
 * amounts are several questions, whose lines are put together.
 */
#include "families.h"
#include "objects.h"
#include "policy_words.h"

#include "policy/explain.h"

#include <string.h>

static const struct cli_column form[] = {
	{"allowed", "allowed", RENDER_BOOL},
	{"role", "role", .optional = true},
	{"tenant", "tenant", .optional = true},
	{},
};
static const struct cli_column line_columns[] = {
	{"topic", "ABOUT"}, {"verdict", "VERDICT"}, {"text", "WHY"}, {"rule", "RULE"}, {},
};
static const struct cli_section sections[] = {{"lines", NULL, line_columns}, {}};
static const struct cli_view view = {.form = form, .sections = sections, .id = "allowed"};

static void explanation_freep(struct policy_explanation **explanation)
{
	policy_explanation_free(*explanation);
}

static void add_lines(struct json_object *lines, const struct policy_explanation *e, bool first)
{
	for (size_t i = 0; i < e->n_lines; i++) {
		const struct policy_explanation_line *l = &e->lines[i];
		struct json_object *o;

		/* Who the caller is was told already. */
		if (!first && !strcmp(l->topic, "identity"))
			continue;
		o = doc_object();
		doc_put_text(o, "topic", l->topic);
		doc_put_text(o, "verdict", policy_mark_name(l->mark));
		doc_put_text(o, "tenant", l->tenant);
		doc_put_text(o, "text", l->text);
		doc_put_text(o, "rule", l->rule);
		doc_put(lines, NULL, o);
	}
}

/* 0, or the exit code of the gravest line, which is *ret_line. */
static enum cli_exit verdict(struct json_object *lines, struct json_object **ret_line)
{
	enum cli_exit code = CLI_OK;

	for (size_t i = 0; i < json_object_array_length(lines); i++) {
		struct json_object *o = json_object_array_get_idx(lines, i);

		if (strcmp(doc_get_text(o, "verdict"), policy_mark_name(POLICY_MARK_DENIES)))
			continue;
		if (code == CLI_OK || strcmp(doc_get_text(o, "topic"), "quota"))
			*ret_line = o;
		if (strcmp(doc_get_text(o, "topic"), "quota"))
			return CLI_DENIED;
		code = CLI_QUOTA;
	}
	return code;
}

struct question {
	struct policy_question question;
	struct policy_caller caller;
	struct policy_device device;
};

/* Who asks, and about which device. */
static int question_init(struct cli *cli, const struct cli_args *args, struct question *q)
{
	const char *pci = args_text(args, "vendor-device", "0000:0000");

	*q = (struct question){
		.caller =
			{
				.socket = cli->socket,
				.uid = (uid_t)args_number(args, "uid", UINT32_MAX),
				.gid = (gid_t)args_number(args, "gid",
							  args_number(args, "uid", UINT32_MAX)),
			},
		.device =
			{
				.address = args_text(args, "device", NULL),
				.vendor = (uint16_t)strtoul(pci, NULL, 16),
				.device = (uint16_t)strtoul(strchr(pci, ':') + 1, NULL, 16),
				.class_code =
					(uint32_t)strtoul(args_text(args, "class", "0"), NULL, 16),
				.group = (uint32_t)args_number(args, "group", UINT32_MAX),
			},
	};
	if (!args_has(args, "uid") && !args_has(args, "gid") && !cli->tenant)
		return cli_usage(cli, "policy explain: expected --socket and --uid, or --tenant");
	if ((args_has(args, "uid") || args_has(args, "gid")) && !cli->socket)
		return cli_usage(cli, "--uid: expected --socket NAME, a listening socket, with it");
	if (!q->device.address &&
	    (args_has(args, "vendor-device") || args_has(args, "class") || args_has(args, "group")))
		return cli_usage(cli, "policy explain: --vendor-device, --class and --group tell "
				      "about a --device");
	q->question.tenant = cli->tenant;
	if (args_has(args, "uid") || args_has(args, "gid"))
		q->question.caller = &q->caller;
	if (q->device.address)
		q->question.device = &q->device;
	q->question.delegate = args_has(args, "delegate");
	return CLI_OK;
}

static int ask(struct cli *cli, const struct policy *policy, const struct cli_args *args,
	       struct question *q, size_t round, struct json_object *document,
	       struct json_object *lines)
{
	__attribute__((cleanup(explanation_freep))) struct policy_explanation *e = NULL;
	const struct cli_value *format = args_at(args, "format", round);
	const struct cli_value *kind = args_at(args, "kind", round);
	const struct cli_value *amount = args_at(args, "amount", round);
	struct quota_amount of = {.amount = amount ? amount->number : 0};
	int r;

	q->question.format = format ? format->text : NULL;
	q->question.kind = kind ? kind->text : NULL;
	q->question.amount = NULL;
	if (amount && !quota_resource_from_name(amount->resource, &of.resource))
		q->question.amount = &of;
	r = policy_explain(policy, policy_words(), &q->question, &e);
	if (r < 0)
		return cli_errno(cli, r, "cannot explain");
	if (!round) {
		if (e->role != POLICY_ROLE_NONE)
			doc_put_text(document, "role", policy_role_name(e->role));
		doc_put_text(document, "tenant", e->tenant);
	}
	add_lines(lines, e, !round);
	q->question.device = NULL;
	q->question.delegate = false;
	return CLI_OK;
}

static size_t n_rounds(const struct cli_args *args)
{
	static const char *const names[] = {"format", "kind", "amount"};
	size_t rounds = 1;

	for (size_t i = 0; i < 3; i++)
		if (args_count(args, names[i]) > rounds)
			rounds = args_count(args, names[i]);
	return rounds;
}

static int explain(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ struct json_object *document = doc_new("policy-explain");
	_cleanup_json_ struct json_object *lines = doc_array();
	_cleanup_policy_ struct policy *policy = NULL;
	struct json_object *line = NULL;
	enum cli_exit code;
	struct question q;
	int r = question_init(cli, args, &q);

	if (!r)
		r = policy_open(cli, args_text(args, "policy", NULL), &policy);
	for (size_t i = 0; i < n_rounds(args) && !r; i++)
		r = ask(cli, policy, args, &q, i, document, lines);
	if (r)
		return r;
	code = verdict(lines, &line);
	doc_put_bool(document, "allowed", !code);
	doc_put(document, "lines", json_object_get(lines));
	r = cli_show(cli, json_object_get(document));
	if (r || !code)
		return r;
	return code == CLI_QUOTA ? cli_fail(cli, code, "RESOURCE_EXHAUSTED", "QUOTA", "%s",
					    doc_get_text(line, "text"))
				 : cli_fail(cli, code, "PERMISSION_DENIED", "POLICY_FORBIDDEN",
					    "%s", doc_get_text(line, "text"));
}

static const struct cli_param options[] = {
	{"policy", CLI_FILE, CLI_REQUIRED, .help = "a policy file, or a folder of *.json"},
	{"uid", CLI_UINT, .help = "the caller's uid, at the listening socket named by --socket",
	 .max = UINT32_MAX - 1},
	{"gid", CLI_UINT, .help = "the caller's gid (the same number as the uid)",
	 .max = UINT32_MAX - 1},
	{"device", CLI_DEVICE, .help = "a device that it would claim"},
	{"vendor-device", CLI_PCI_ID, .help = "what that device is, 8086:10fb"},
	{"class", CLI_PCI_CLASS, .help = "its PCI class, 020000"},
	{"group", CLI_UINT, .help = "its isolation group", .max = UINT32_MAX - 1},
	{"format", CLI_FORMAT, CLI_REPEATED, .help = "formats that it would use"},
	{"kind", CLI_KIND, CLI_REPEATED, .help = "kinds of IOASID that it would use"},
	{"delegate", CLI_FLAG, .help = "whether its leases may have contexts of its own"},
	{"amount", CLI_AMOUNT, CLI_REPEATED, .help = "amounts that it would be charged"},
	{},
};

const struct cli_command cmd_policy_explain = {
	.noun = "policy",
	.verb = "explain",
	.flags = CLI_OFFLINE,
	.roles = "everyone",
	.summary = "would the policy allow this, and which rule of which file says so?",
	.help = "Reads the files only.  Exit code 0: allowed, 3: forbidden, 4: a limit.",
	.example = "ioasidctl policy explain --policy p.d --socket tenants --uid 1001 "
		   "--device 0000:3b:00.0 --vendor-device 8086:10fb --kind kernel",
	.options = options,
	.view = &view,
	.run = explain,
};
