/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shell's lines, with commands that need no broker: words, quotes, variables, comments,
 * what a failure does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "run_cli.h"

#include <unistd.h>

static char policy[] = "/tmp/cli_shell_test.XXXXXX";

static int setup(void **state)
{
	static const char text[] = "{\"version\": 1, \"tenants\": {\"a\": {}}}\n";
	int fd = mkstemp(policy);

	if (fd < 0 || write(fd, text, sizeof(text) - 1) != sizeof(text) - 1)
		return -1;
	return close(fd);
}

static int teardown(void **state)
{
	return unlink(policy);
}

/* Every "@" of the script is the policy's path. */
static char *fill_in(const char *script)
{
	char *lines = calloc(1, strlen(script) * sizeof(policy) + 1), *to = lines;

	assert_non_null(lines);
	for (; *script; script++) {
		if (*script == '@')
			to = stpcpy(to, policy);
		else
			*to++ = *script;
	}
	return lines;
}

static void shell(struct run_cli *run, const char *flag, const char *script)
{
	char *lines = fill_in(script);
	char *argv[] = {(char *)"shell", (char *)flag};

	*run = (struct run_cli){.cli = {.format = &format_id}};
	run->cli.in = fmemopen(lines, strlen(lines), "r");
	run->cli.out = open_memstream(&run->out, &run->out_size);
	run->cli.err = open_memstream(&run->err, &run->err_size);
	run->exit_code = cli_run(&run->cli, flag ? 2 : 1, argv);
	if (run->exit_code)
		cli_error_print(&run->cli);
	cli_error_clear(&run->cli);
	session_close(&run->cli);
	free(run->cli.answer_id);
	fclose(run->cli.in);
	fclose(run->cli.out);
	fclose(run->cli.err);
	free(lines);
}

static void test_words(void **state)
{
	struct run_cli run;

	shell(&run, NULL,
	      "# a comment\n"
	      "\n"
	      "   \t\n"
	      "policy check @ # another\n"
	      "policy 'check' \"@\"\n"
	      "po\\licy  check @");
	assert_int_equal(run.exit_code, 0);
	assert_string_equal(run.out, "ok\nok\nok\n");
	assert_string_equal(run.err, "");
	run_cli_deinit(&run);
}

static void test_variables(void **state)
{
	struct run_cli run;

	shell(&run, NULL,
	      "v=policy check @\n"
	      "help $v\n"
	      "help '$v'\n"
	      "help \"$v\"-\n"
	      "help \\$v\n"
	      "w= help nothing\n"
	      "help $w\n");
	assert_int_equal(run.exit_code, CLI_USAGE);
	assert_string_equal(run.out, "ok\n");
	assert_non_null(strstr(run.err, "no command \"ok\""));
	assert_non_null(strstr(run.err, "no command \"$v\""));
	assert_non_null(strstr(run.err, "no command \"ok-\""));
	assert_non_null(strstr(run.err, "line 7: no variable \"$w\""));
	run_cli_deinit(&run);
}

static void test_no_id(void **state)
{
	struct run_cli run;

	shell(&run, NULL, "v=help help\n");
	assert_int_equal(run.exit_code, CLI_USAGE);
	assert_non_null(strstr(run.err, "no id"));
	run_cli_deinit(&run);
}

static void test_failures(void **state)
{
	struct run_cli run;

	shell(&run, NULL, "memory read 1 0 1\nfrob\npolicy check @\n");
	assert_int_equal(run.exit_code, CLI_NOT_FOUND); /* the first one's */
	assert_string_equal(run.out, "ok\n");
	assert_non_null(strstr(run.err, "memory 1 was not registered by this process"));
	assert_non_null(strstr(run.err, "unknown command \"frob\""));
	run_cli_deinit(&run);

	shell(&run, "-e", "policy check @\nfrob\npolicy check @\n");
	assert_int_equal(run.exit_code, CLI_USAGE);
	assert_string_equal(run.out, "ok\n");
	run_cli_deinit(&run);

	shell(&run, NULL, "help 'open\npolicy check @\n");
	assert_int_equal(run.exit_code, CLI_USAGE);
	assert_string_equal(run.out, "ok\n");
	assert_non_null(strstr(run.err, "line 1: the quote ' is not closed"));
	run_cli_deinit(&run);
}

static void test_options_of_a_line(void **state)
{
	struct run_cli run;

	shell(&run, NULL, "-o json policy check @\npolicy check @\nshell\ncompletion bash\n");
	assert_int_equal(run.exit_code, CLI_USAGE);
	assert_non_null(strstr(run.out, "\"type\":\"policy-check\""));
	assert_non_null(strstr(run.out, "\nok\n"));
	assert_non_null(strstr(run.err, "shell: not inside a shell"));
	assert_non_null(strstr(run.err, "completion: not inside a shell"));
	run_cli_deinit(&run);
}

static void test_echo(void **state)
{
	struct run_cli run;

	shell(&run, "-x", "policy check @");
	assert_int_equal(run.exit_code, 0);
	assert_memory_equal(run.out, "> policy check /", 16);
	assert_non_null(strstr(run.out, "\nok\n"));
	run_cli_deinit(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_no_id),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_options_of_a_line),
		cmocka_unit_test(test_echo),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
