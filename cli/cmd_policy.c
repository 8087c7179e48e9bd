/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy check: the same parser as the broker's, without a broker.  policy reload: ask the
 * broker to read its policy again.  policy explain is in cmd_policy_explain.c.
 */
#include "families.h"
#include "objects.h"
#include "policy_words.h"
#include "session.h"

#include <string.h>

SESSION_CLEANUP(ioasid_reload, ioasid_reload_free)

static const struct cli_column check_form[] = {
	{"path", "policy"},
	{"verdict", "verdict"},
	{"tenants", "tenants"},
	{},
};
static const struct cli_view check_view = {.form = check_form, .id = "verdict"};
static const struct cli_column reload_form[] = {
	{"generation", "generation"},
	{"orphaned", "orphaned tenants"},
	{},
};
static const struct cli_view reload_view = {.form = reload_form, .id = "generation"};

#define WORDS_MAX 64

/* Entry 0 is the hole of the enumeration's zero. */
static size_t words_of(enum cli_type type, const char **words)
{
	const struct cli_param p = {.type = type};
	const char *word;
	size_t n = 1;

	words[0] = NULL;
	while (n < WORDS_MAX && (word = value_word(&p, n - 1)))
		words[n++] = word;
	return n;
}

const struct policy_vocabulary *policy_words(void)
{
	static const char *formats[WORDS_MAX], *kinds[WORDS_MAX];
	static struct policy_vocabulary words;

	if (!words.n_formats)
		words = (struct policy_vocabulary){
			.formats = formats,
			.n_formats = words_of(CLI_FORMAT, formats),
			.kinds = kinds,
			.n_kinds = words_of(CLI_KIND, kinds),
		};
	return &words;
}

int policy_open(struct cli *cli, const char *path, struct policy **ret_policy)
{
	struct policy_problem problem = {};
	int r = policy_load(path, policy_words(), ret_policy, &problem);

	if (r < 0)
		return cli_errno(cli, r, "cannot read the policy %s", path);
	if (!r)
		return CLI_OK;
	/* The position first, as compilers write it, so that editors find it. */
	if (problem.line)
		cli_fail(cli, CLI_FAILED, "INVALID_ARGUMENT", "LOCAL", "%s:%u:%u: %s%s%s",
			 problem.file, problem.line, problem.column, problem.path,
			 *problem.path ? ": " : "", problem.message);
	else
		cli_fail(cli, CLI_FAILED, "INVALID_ARGUMENT", "LOCAL", "%s: %s%s%s",
			 *problem.file ? problem.file : path, problem.path,
			 *problem.path ? ": " : "", problem.message);
	if (cli->error) {
		struct json_object *o = doc_object();

		doc_put_text(o, "file", problem.file);
		doc_put_u64(o, "line", problem.line);
		doc_put_u64(o, "column", problem.column);
		doc_put_text(o, "path", problem.path);
		doc_put_text(o, "message", problem.message);
		doc_put(cli->error, "problem", o);
	}
	return CLI_FAILED;
}

static int policy_check(struct cli *cli, const struct cli_args *args)
{
	_cleanup_policy_ struct policy *policy = NULL;
	const char *path = args_text(args, "PATH", NULL);
	struct json_object *document;
	int r = policy_open(cli, path, &policy);

	if (r)
		return r;
	document = doc_new("policy-check");
	doc_put_text(document, "path", path);
	doc_put_text(document, "verdict", "ok");
	doc_put_u64(document, "tenants", policy_n_tenants(policy) - 1);
	return cli_show(cli, document);
}

static int policy_reload(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_reload_free) struct ioasid_reload *reload = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_policy_reload(c.client, &c.scope, &reload, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("policy-reload");
	doc_put_u64(document, "generation", reload->generation);
	doc_put(document, "orphaned", object_texts(reload->orphaned, reload->n_orphaned));
	return cli_show(cli, document);
}

static const struct cli_param check_args[] = {
	{"PATH", CLI_FILE, CLI_REQUIRED, .help = "a policy file, or a folder of *.json"},
	{},
};

const struct cli_command cmd_policy_check = {
	.noun = "policy",
	.verb = "check",
	.flags = CLI_OFFLINE,
	.roles = "everyone",
	.summary = "check a policy as the broker would",
	.help = "An error is printed as FILE:LINE:COLUMN: PATH: MESSAGE.",
	.example = "ioasidctl policy check /etc/ioasid/policy.d",
	.args = check_args,
	.view = &check_view,
	.run = policy_check,
};
const struct cli_command cmd_policy_reload = {
	.noun = "policy",
	.verb = "reload",
	.flags = CLI_NO_LEASE,
	.roles = "admin",
	.summary = "let the broker read its policy again",
	.help = "A policy with an error is refused as a whole; the old one stays.",
	.view = &reload_view,
	.run = policy_reload,
};
