/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of ioasid-keeper. */
#include "keeper/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct options options;
static char problem[256];

static int parse(const char *a, const char *b)
{
	char name[] = "ioasid-keeper", client[] = "--client=0";
	char *argv[] = {name, client, (char *)a, (char *)b, NULL};

	problem[0] = '\0';
	memset(&options, 0, sizeof(options));
	return options_parse(2 + (a != NULL) + (b != NULL), argv, &options, problem);
}

static void test_defaults(void **state)
{
	assert_int_equal(parse(NULL, NULL), 0);
	assert_int_equal(options.client, 0);
	assert_null(options.listen);
	assert_true(options.fd_store);
	assert_int_equal(options.limits.total[CHARGE_FD], 32768);
	assert_int_equal(options.limits.owner[CHARGE_FD], 16384);
	assert_int_equal(options.limits.owner[CHARGE_DEVICE], 64);
	assert_int_equal(options.n_holders, 0);
}

static void test_values(void **state)
{
	assert_int_equal(parse("--max-devices-per-owner=1", "--max-fds=65536"), 0);
	assert_int_equal(options.limits.owner[CHARGE_DEVICE], 1);
	assert_int_equal(options.limits.total[CHARGE_FD], 65536);
	assert_int_equal(parse("--client=4294967294", "--no-fdstore"), 0);
	assert_int_equal(options.client, 4294967294);
	assert_false(options.fd_store);
	assert_int_equal(
		parse("--allow-host-device=0000:3b:00.0", "--allow-host-device=0000:3b:00.1"), 0);
	assert_int_equal(options.n_allowed, 2);
	assert_string_equal(options.allowed[1], "0000:3b:00.1");
	options_deinit(&options);
	assert_int_equal(parse("--holder=64055", "--holder=nobody"), 0);
	assert_int_equal(options.n_holders, 2);
	assert_int_equal(options.holders[0], 64055);
	assert_int_equal(options.holders[1], 65534);
	assert_int_equal(parse("--help", NULL), 0);
	assert_int_equal(options.action, OPTIONS_HELP);
}

static void test_wrong(void **state)
{
	static const char *const wrong[] = {
		"--max-fds=0",
		"--max-fds=65537",
		"--max-fds=-1",
		"--max-fds=",
		"--max-fds=1x",
		"--holder=0",
		"--holder=root",
		"--holder=4294967295",
		"--holder=no-such-user",
		"--holder=",
		"--client=4294967295",
		"--client=",
		"--client=no-such-user",
		"--allow-host-device=3b:00.0",
		"--nonsense",
		"--listen",
		"word",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(parse("--allow-host-device=0000:3b:00.0", wrong[i]), 1);
		assert_true(problem[0]);
		assert_null(options.allowed);
	}
}

static void test_too_many_holders(void **state)
{
	char name[] = "ioasid-keeper", client[] = "--client=0", holder[] = "--holder=1000";
	char *argv[OPTIONS_HOLDERS_MAX + 4] = {name, client};

	for (int i = 0; i <= OPTIONS_HOLDERS_MAX; i++)
		argv[2 + i] = holder;
	assert_int_equal(options_parse(2 + OPTIONS_HOLDERS_MAX, argv, &options, problem), 0);
	assert_int_equal(options.n_holders, OPTIONS_HOLDERS_MAX);
	assert_int_equal(options_parse(3 + OPTIONS_HOLDERS_MAX, argv, &options, problem), 1);
	assert_string_equal(problem, "--holder: at most 64");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_too_many_holders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
