/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From words to a command and its values; and what a user is told when they make no sense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "args.h"
#include "run_cli.h"

/* Parses to the values; exit code. */
static int parse(struct cli *cli, struct cli_args *ret_args, const struct cli_command **ret_command,
		 const char *const *words)
{
	struct cli_words left = {};
	char *argv[64];
	size_t used;
	int argc = 0, r;

	while (words[argc]) {
		argv[argc] = (char *)words[argc];
		argc++;
	}
	*cli = (struct cli){.format = &format_table};
	r = args_globals(cli, argc, argv, &left);
	if (r)
		return r;
	*ret_command = args_command(cli, &left, &used);
	r = *ret_command ? args_parse(cli, *ret_command, left.words + used, left.n - used, ret_args)
			 : (int)cli->error_exit;
	args_words_deinit(&left);
	return r;
}
#define PARSE(cli, args, command, ...)                                                             \
	parse(cli, args, command, (const char *const[]){__VA_ARGS__, NULL})

static void test_direct_and_verb(void **state)
{
	const struct cli_command *c;
	struct cli_args args = {};
	struct cli cli;

	assert_int_equal(PARSE(&cli, &args, &c, "map", "3", "any", "64K", "--memory", "2"), 0);
	assert_string_equal(c->verb, "add");
	assert_int_equal(args_number(&args, "IOASID", 0), 3);
	assert_true(args_at(&args, "IOVA", 0)->any);
	assert_int_equal(args_number(&args, "LENGTH", 0), 65536);
	args_deinit(&args);
	assert_int_equal(PARSE(&cli, &args, &c, "map", "add", "3", "0x10", "1", "--memory=2"), 0);
	assert_string_equal(c->verb, "add");
	assert_int_equal(args_number(&args, "memory", 0), 2);
	args_deinit(&args);
	assert_int_equal(PARSE(&cli, &args, &c, "map", "list", "3"), 0);
	assert_string_equal(c->verb, "list");
	args_deinit(&args);
	assert_int_equal(PARSE(&cli, &args, &c, "unmap", "--all", "3"), 0);
	assert_null(c->verb);
	assert_true(args_has(&args, "all"));
	args_deinit(&args);
}

static void test_globals_anywhere(void **state)
{
	const struct cli_command *c;
	struct cli_args args = {};
	struct cli cli;

	assert_int_equal(PARSE(&cli, &args, &c, "-o", "json", "device", "--lease=web", "list",
			       "-s/run/x", "--timeout", "7"),
			 0);
	assert_ptr_equal(cli.format, &format_json);
	assert_string_equal(cli.lease, "web");
	assert_string_equal(cli.socket, "/run/x");
	assert_int_equal(cli.timeout_ms, 7000);
	args_deinit(&args);

	/* The value of a command's option is never taken for a global option. */
	assert_int_equal(
		PARSE(&cli, &args, &c, "dma", "write", "0000:3b:00.0", "0", "--text", "-o"), 0);
	assert_string_equal(args_text(&args, "text", NULL), "-o");
	assert_ptr_equal(cli.format, &format_table);
	args_deinit(&args);

	/* After "--" nothing is an option. */
	assert_int_equal(PARSE(&cli, &args, &c, "policy", "check", "--", "--socket"), 0);
	assert_string_equal(args_text(&args, "PATH", NULL), "--socket");
	assert_null(cli.socket);
	args_deinit(&args);
}

static void test_lists(void **state)
{
	const struct cli_command *c;
	struct cli_args args = {};
	struct cli cli;
	char **texts;
	size_t n;

	assert_int_equal(PARSE(&cli, &args, &c, "ioasid", "alloc", "--formats",
			       "vtdss-4l,x86_64-4l", "--formats", "sv39"),
			 0);
	assert_int_equal(args_count(&args, "formats"), 3);
	assert_string_equal(args_at(&args, "formats", 1)->text, "x86_64-4l");
	assert_null(args_at(&args, "formats", 3));
	args_deinit(&args);
	assert_int_equal(PARSE(&cli, &args, &c, "device", "claim", "0000:3b:00.0", "0000:3b:00.1"),
			 0);
	texts = args_texts(&args, "DEVICE", &n);
	assert_int_equal(n, 2);
	assert_string_equal(texts[1], "0000:3b:00.1");
	free(texts);
	args_deinit(&args);
}

static void refused(const char *says, const char *const *words)
{
	struct run_cli run;

	run_cli(&run, words);
	if (run.exit_code != CLI_USAGE || !strstr(run.err, says) || run.out_size)
		fail_msg("exit %d, error \"%s\", expected \"%s\"", run.exit_code, run.err, says);
	run_cli_deinit(&run);
}
#define REFUSED(says, ...) refused(says, (const char *const[]){__VA_ARGS__, NULL})

static void test_refusals(void **state)
{
	refused("expected a command", (const char *const[]){NULL});
	REFUSED("unknown command \"frob\"", "frob");
	REFUSED("unknown option \"--frob\"", "--frob");
	REFUSED("expected a verb after it, one of list, show", "device");
	REFUSED("unknown verb \"frob\"", "device", "frob");
	REFUSED("missing DEVICE", "device", "show");
	REFUSED("DEVICE: got \"x\", expected the address", "device", "show", "x");
	REFUSED("missing LENGTH", "map", "1", "0");
	REFUSED("unexpected argument \"extra\"", "status", "extra");
	REFUSED("unknown option \"--frob\"", "status", "--frob");
	REFUSED("--all: this option takes no value", "unmap", "1", "--all=yes");
	REFUSED("--memory: expected a value after it", "map", "1", "0", "1", "--memory");
	REFUSED("--socket: expected a value after it", "status", "--socket");
	REFUSED("--memory: given twice", "map", "1", "0", "1", "--memory", "1", "--memory", "2");
	REFUSED("--output: got \"xml\", expected one of table, json, id", "-o", "xml", "status");
	REFUSED("--formats: got \"\"", "ioasid", "alloc", "--formats", "sv39,");
	REFUSED("--pasid: got \"1048576\"", "attach", "0000:00:00.0", "1", "--pasid", "1048576");
	REFUSED("either --memory or --parent-address", "map", "1", "0", "1");
	REFUSED("either --memory or --parent-address", "map", "1", "0", "1", "--memory", "1",
		"--parent-address", "0");
	REFUSED("--offset: it goes with --memory", "map", "1", "0", "1", "--parent-address", "0",
		"--offset", "0");
	REFUSED("either IOVA and LENGTH or --all", "unmap", "1");
	REFUSED("either IOVA and LENGTH or --all", "unmap", "1", "0", "1", "--all");
	REFUSED("missing LENGTH", "unmap", "1", "0");
	REFUSED("one of --hex, --text, --from and --fill", "dma", "write", "0000:00:00.0", "0");
	REFUSED("one of --hex, --text, --from and --fill", "dma", "write", "0000:00:00.0", "0",
		"--hex", "00", "--text", "a");
	REFUSED("--fill and --length go together", "dma", "write", "0000:00:00.0", "0", "--fill",
		"00");
	REFUSED("--size BYTES, --file PATH or --fd N", "memory", "register");
	REFUSED("multiple of the page size", "memory", "register", "--size", "1000");
	REFUSED("memory has no execute access", "memory", "register", "--size", "4K", "--prot",
		"rx");
	REFUSED("--linger: expected at least 1", "lease", "open", "web", "--linger", "0");
	REFUSED("either --serial or --device", "tenant", "revoke");
	REFUSED("--close-leases: it does not go with --end", "tenant", "drain", "a", "--end",
		"--close-leases");
	REFUSED("both IOVA and LENGTH", "invalidate", "1", "0");
}

static void test_errors_as_json(void **state)
{
	struct json_object *o;
	struct run_cli run;

	RUN(&run, "device", "show", "x", "-o", "json");
	assert_int_equal(run.exit_code, CLI_USAGE);
	o = json_tokener_parse(run.err);
	assert_non_null(o);
	assert_int_equal(doc_get_u64(o, "schema_version"), DOC_SCHEMA_VERSION);
	assert_string_equal(doc_get_text(o, "type"), "error");
	assert_string_equal(doc_get_text(o, "reason"), "USAGE");
	assert_int_equal(doc_get_u64(o, "exit_code"), CLI_USAGE);
	assert_non_null(doc_get(o, "violations"));
	assert_non_null(doc_get(o, "metadata"));
	json_object_put(o);
	run_cli_deinit(&run);
}

static void test_no_server(void **state)
{
	struct run_cli run;

	RUN(&run, "--socket", "/nonexistent/socket", "device", "list");
	assert_int_equal(run.exit_code, CLI_NO_SERVER);
	assert_non_null(strstr(run.err, "/nonexistent/socket"));
	assert_int_equal(run.out_size, 0);
	run_cli_deinit(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct_and_verb), cmocka_unit_test(test_globals_anywhere),
		cmocka_unit_test(test_lists),		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_errors_as_json),	cmocka_unit_test(test_no_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
