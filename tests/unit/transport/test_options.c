/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the specs of sockets. */
#include "server/transport/options.h"

#include <stdio.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static int parse(struct options *options, char *problem, size_t size, const char *const *arguments)
{
	char *argv[32] = {(char *)"ioasidd"};
	int argc = 1;

	while (arguments[argc - 1]) {
		assert_true(argc < 31);
		argv[argc] = (char *)arguments[argc - 1];
		argc++;
	}
	return options_parse(argc, argv, options, problem, size);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_defaults(void **state)
{
	struct options options;
	char problem[256];

	assert_int_equal(parse(&options, problem, sizeof(problem), ARGS(NULL)), 0);
	assert_int_equal(options.action, OPTIONS_SERVE);
	assert_string_equal(options.policy, "/etc/ioasid/policy.d");
	assert_string_equal(options.shim, "auto");
	assert_null(options.keeper);
	assert_null(options.registry);
	assert_int_equal(options.grace_seconds, 30);
	assert_int_equal(options.fault_timeout_ms, 5000);
	assert_string_equal(options.audit, "stderr");
	assert_null(options.topology);
	assert_int_equal(options.workers, 4);
	assert_int_equal(options.keepalive_seconds, 0);
	assert_int_equal(options.n_listen, 0);
	options_deinit(&options);
}

static void test_everything(void **state)
{
	struct options options;
	char problem[256];

	assert_int_equal(parse(&options, problem, sizeof(problem),
			       ARGS("--policy", "p.json", "--topology=t=1.json", "--audit", "none",
				    "--workers=256", "--keepalive", "86400", "--grace=3600",
				    "--fault-timeout", "600000", "--registry", "none", "--keeper=k",
				    "--listen", "tenants=/run/a:0600:0", "--listen=b=rel/x",
				    "--check-config")),
			 0);
	assert_int_equal(options.action, OPTIONS_CHECK);
	assert_string_equal(options.policy, "p.json");
	assert_string_equal(options.topology, "t=1.json");
	assert_int_equal(options.workers, 256);
	assert_int_equal(options.keepalive_seconds, 86400);
	assert_int_equal(options.grace_seconds, 3600);
	assert_int_equal(options.fault_timeout_ms, 600000);
	assert_string_equal(options.registry, "none");
	assert_string_equal(options.keeper, "k");
	assert_int_equal(options.n_listen, 2);
	assert_string_equal(options.listen[0].name, "tenants");
	assert_string_equal(options.listen[0].path, "/run/a");
	assert_int_equal(options.listen[0].mode, 0600);
	assert_int_equal(options.listen[0].group, 0);
	assert_string_equal(options.listen[1].path, "rel/x");
	assert_int_equal(options.listen[1].mode, 0666);
	assert_true(options.listen[1].group == (gid_t)-1);
	options_deinit(&options);
}

/* Each complaint begins with the option that it is about. */
static void test_refusals(void **state)
{
	static const struct {
		const char *arguments[4];
		const char *problem;
	} cases[] = {
		{{"--polic"}, "--polic: no such option"},
		{{"--policyx=1"}, "--policyx=1: no such option"},
		{{"policy"}, "policy: no such option"},
		{{"-h"}, "-h: no such option"},
		{{""}, ": no such option"},
		{{"--policy"}, "--policy: needs a value"},
		{{"--policy="}, "--policy : expected a path"},
		{{"--policy=a", "--policy=b"}, "--policy b: given twice"},
		{{"--version=1"}, "--version 1: takes no value"},
		{{"--version", "--version"}, "--version: given twice"},
		{{"--shim", "type1"}, "--shim type1: expected iommufd, soft or auto"},
		{{"--keeper", ""}, "--keeper : expected a path"},
		{{"--registry="}, "--registry : expected a folder, or none"},
		{{"--fault-timeout", "0"}, "--fault-timeout 0: expected a number from 1 to 600000"},
		{{"--grace", "3601"}, "--grace 3601: expected a number from 0 to 3600"},
		{{"--audit="}, "--audit : expected a path, stderr or none"},
		{{"--workers", "0"}, "--workers 0: expected a number from 1 to 256"},
		{{"--workers", "257"}, "--workers 257: expected a number from 1 to 256"},
		{{"--workers", "-1"}, "--workers -1: expected a number from 1 to 256"},
		{{"--workers", "4x"}, "--workers 4x: expected a number from 1 to 256"},
		{{"--workers", "4294967297"},
		 "--workers 4294967297: expected a number from 1 to 256"},
		{{"--keepalive", "86401"}, "--keepalive 86401: expected a number from 0 to 86400"},
		{{"--listen", "x"}, "--listen x: expected NAME=PATH"},
		{{"--listen", "=/x"}, "--listen =/x: expected NAME=PATH"},
		{{"--listen", "a b=/x"}, "--listen a b=/x: expected NAME=PATH"},
		{{"--listen", "a="}, "--listen a=: PATH is empty"},
		{{"--listen", "a=/x:888"}, "--listen a=/x:888: MODE must be octal"},
		{{"--listen", "a=/x:1777"}, "--listen a=/x:1777: MODE must be octal"},
		{{"--listen", "a=/x:"}, "--listen a=/x:: MODE must be octal"},
		{{"--listen", "a=/x:600:no-such-group"},
		 "--listen a=/x:600:no-such-group: GROUP is neither"},
		{{"--listen", "a=/x:600:4294967295"}, "--listen a=/x:600:4294967295: GROUP is"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options options;
		char problem[256] = "";

		assert_int_equal(parse(&options, problem, sizeof(problem), cases[i].arguments),
				 OPTIONS_E_USAGE);
		if (strncmp(problem, cases[i].problem, strlen(cases[i].problem)))
			fail_msg("case %zu: \"%s\"", i, problem);
		options_deinit(&options);
	}
}

static void test_listen_limits(void **state)
{
	struct options options;
	char problem[512];
	char path[200] = "a=/";
	char *argv[2 + LISTENERS_MAX] = {(char *)"ioasidd"};

	/* sun_path holds 107 bytes and the end. */
	memset(path + 3, 'x', 106);
	path[109] = '\0';
	assert_int_equal(parse(&options, problem, sizeof(problem), ARGS("--listen", path)), 0);
	options_deinit(&options);
	strcat(path, "x");
	assert_int_equal(parse(&options, problem, sizeof(problem), ARGS("--listen", path)),
			 OPTIONS_E_USAGE);
	assert_non_null(strstr(problem, "107"));
	options_deinit(&options);

	for (int i = 0; i < LISTENERS_MAX + 1; i++)
		argv[1 + i] = (char *)"--listen=a=b";
	assert_int_equal(options_parse(1 + LISTENERS_MAX, argv, &options, problem, sizeof(problem)),
			 0);
	options_deinit(&options);
	assert_int_equal(options_parse(2 + LISTENERS_MAX, argv, &options, problem, sizeof(problem)),
			 OPTIONS_E_USAGE);
	options_deinit(&options);
}

static void test_names_are_told_apart(void **state)
{
	struct listeners listeners = {0};
	struct listener_spec spec = {
		.name = (char *)"tenants",
		.mode = 0600,
		.group = (gid_t)-1,
	};
	char problem[256], path[64];

	snprintf(path, sizeof(path), "/tmp/ioasid-test-%d.sock", (int)getpid());
	spec.path = path;
	assert_int_equal(listeners_bind(&listeners, &spec, problem, sizeof(problem)), 0);
	assert_int_equal(listeners_bind(&listeners, &spec, problem, sizeof(problem)),
			 LISTENER_E_REFUSED);
	assert_non_null(strstr(problem, "two sockets of this name"));
	assert_int_equal(listeners.n, 1);
	assert_ptr_equal(listeners_find(&listeners, "tenants"), &listeners.list[0]);
	assert_null(listeners_find(&listeners, "tenant"));
	spec.path = (char *)"/nowhere/at/all";
	spec.name = (char *)"other";
	assert_int_equal(listeners_bind(&listeners, &spec, problem, sizeof(problem)),
			 LISTENER_E_REFUSED);
	assert_string_equal(problem, "/nowhere/at/all: No such file or directory");
	listeners_deinit(&listeners);
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_listen_limits),
		cmocka_unit_test(test_names_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
