/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container asks for, from its annotations and arguments: what is read, at its exact
 * boundaries, that several asks add up to a narrower one, and that each refusal names its field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "integrations/oci/ask.h"
#include "integrations/oci/fail.h"

static void refused(int result, const char *message)
{
	assert_true(result < 0);
	assert_non_null(hook_message());
	if (strncmp(hook_message(), message, strlen(message)))
		fail_msg("expected \"%s\", not \"%s\"", message, hook_message());
	hook_forgive();
}

static void test_tenants(void **state)
{
	static const char *const good[] = {"a", "acme/web", "A-1/b_2/c.3", "0/1/2/3/4/5/6/7"};
	static const char *const bad[] = {"",	  "/",	    "/a",  "a/",  "a//b", "-a",
					  "a/.b", "a/../b", "a b", "a\n", "a/_b", "\xc3\xa4"};
	char longest[ASK_TENANT_SIZE + 1];
	struct ask ask;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ask_init(&ask);
		assert_int_equal(ask_add_tenant(&ask, "x", good[i]), 0);
		assert_string_equal(ask.tenant, good[i]);
	}
	ask_init(&ask);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refused(ask_add_tenant(&ask, "x", bad[i]), "x: \"");
		assert_string_equal(ask.tenant, "");
	}
	memset(longest, 'a', sizeof(longest));
	longest[ASK_TENANT_SIZE] = '\0';
	refused(ask_add_tenant(&ask, "x", longest), "x: \"aaa");
	longest[ASK_TENANT_SIZE - 1] = '\0';
	assert_int_equal(ask_add_tenant(&ask, "x", longest), 0);
}

static void test_one_tenant(void **state)
{
	struct ask ask;

	ask_init(&ask);
	assert_int_equal(ask_add_tenant(&ask, "first", "a/b"), 0);
	assert_int_equal(ask_add_tenant(&ask, "second", "a/b"), 0);
	refused(ask_add_tenant(&ask, "third", "a"),
		"third: tenant a, but first says a/b: one container has one tenant");
	assert_string_equal(ask.tenant, "a/b");
}

static void test_devices(void **state)
{
	static const char *const bad[] = {"",
					  " ",
					  ",",
					  "0000:01:00.0,",
					  ",0000:01:00.0",
					  "000:01:00.0",
					  "0000:01:00.8",
					  "0000:01:00",
					  "0000:1:00.0",
					  "0000-01:00.0",
					  "0000:01:00.0x",
					  "g000:01:00.0",
					  "000000000:01:00.0",
					  "0000:01:00.0;0000:02:00.0"};
	struct ask ask;

	ask_init(&ask);
	assert_int_equal(ask_add_devices(&ask, "x", "0000:3B:00.0, 12345678:00:1f.7"), 0);
	assert_int_equal(ask_add_devices(&ask, "x", " 0000:3b:00.0 0000:00:00.0 "), 0);
	assert_int_equal(ask.n_devices, 3);
	assert_string_equal(ask.devices[0], "0000:3b:00.0");
	assert_string_equal(ask.devices[1], "12345678:00:1f.7");
	assert_string_equal(ask.devices[2], "0000:00:00.0");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ask_init(&ask);
		refused(ask_add_devices(&ask, "x", bad[i]), "x: \"");
	}
}

static void test_many_devices(void **state)
{
	char address[ASK_DEVICE_SIZE];
	struct ask ask;

	ask_init(&ask);
	for (unsigned i = 0; i < ASK_DEVICES_MAX; i++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", i);
		assert_int_equal(ask_add_devices(&ask, "x", address), 0);
	}
	/* One that is there is no more. */
	assert_int_equal(ask_add_devices(&ask, "x", address), 0);
	refused(ask_add_devices(&ask, "x", "0000:ff:00.0"), "x: more than 64 devices");
	assert_int_equal(ask.n_devices, ASK_DEVICES_MAX);
	assert_string_equal(ask.devices[0], "0000:00:00.0");
}

static void test_limits(void **state)
{
	static const char *const bad[] = {"",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "1k",
					  "1KB",
					  "K",
					  "0x10",
					  "18446744073709551615",
					  "18446744073709551616",
					  "16777216T"};
	struct ask ask;

	ask_init(&ask);
	assert_true(ask.max_bytes == UINT64_MAX && ask.max_ioasids == UINT64_MAX);
	assert_int_equal(ask_add_memory(&ask, "x", "18446744073709551614"), 0);
	assert_true(ask.max_bytes == UINT64_MAX - 1);
	assert_int_equal(ask_add_memory(&ask, "x", "16777215T"), 0);
	assert_true(ask.max_bytes == UINT64_C(16777215) << 40);
	assert_int_equal(ask_add_memory(&ask, "x", "3G"), 0);
	assert_int_equal(ask_add_memory(&ask, "x", "5M"), 0);
	/* They narrow only. */
	assert_int_equal(ask_add_memory(&ask, "x", "7M"), 0);
	assert_true(ask.max_bytes == 5u << 20);
	assert_int_equal(ask_add_memory(&ask, "x", "2K"), 0);
	assert_true(ask.max_bytes == 2048);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(ask_add_memory(&ask, "x", bad[i]), "x: \"");
	assert_true(ask.max_bytes == 2048);
	assert_int_equal(ask_add_ioasids(&ask, "x", "0"), 0);
	assert_true(ask.max_ioasids == 0);
	refused(ask_add_ioasids(&ask, "x", "1K"), "x: \"1K\": expected a whole number");
}

static void test_arguments(void **state)
{
	static const char *const words[] = {
		"--tenant",	"a/b",	    "--device", "0000:01:00.0", "--device",
		"0000:02:00.0", "--config", "/x",	"--ioasids",	"7",
		"--memory",	"1M"};
	const char *config = NULL;
	struct ask ask;

	ask_init(&ask);
	assert_int_equal(ask_add_arguments(&ask, 12, words, &config), 0);
	assert_string_equal(ask.tenant, "a/b");
	assert_int_equal(ask.n_devices, 2);
	assert_true(ask.max_ioasids == 7 && ask.max_bytes == 1 << 20);
	assert_string_equal(config, "/x");
	refused(ask_add_arguments(&ask, 1, words, &config),
		"--tenant: no such option, or no value");
	refused(ask_add_arguments(&ask, 2, words + 1, NULL), "a/b: no such option");
	assert_int_equal(ask_add_arguments(&ask, 0, NULL, NULL), 0);
}

static void test_check(void **state)
{
	struct ask ask;

	ask_init(&ask);
	assert_int_equal(ask_check(&ask), 0);
	ask.max_ioasids = 1;
	refused(ask_check(&ask), "io.ioasid.tenant: missing");
	ask_init(&ask);
	ask_add_devices(&ask, "x", "0000:01:00.0");
	refused(ask_check(&ask), "io.ioasid.tenant: missing");
	ask_add_tenant(&ask, "x", "a");
	assert_int_equal(ask_check(&ask), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tenants), cmocka_unit_test(test_one_tenant),
		cmocka_unit_test(test_devices), cmocka_unit_test(test_many_devices),
		cmocka_unit_test(test_limits),	cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
