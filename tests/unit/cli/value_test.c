/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one argument: numbers at their exact boundaries, and that every refusal says what
 * was expected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/ioasid.h"
#include "output.h"
#include "value.h"

#include <errno.h>

static void number_is(const char *text, bool units, uint64_t expected)
{
	uint64_t n = 77;

	assert_int_equal(value_number(text, units, &n), 0);
	assert_true(n == expected);
}

static void number_fails(const char *text, bool units, int error)
{
	uint64_t n = 77;

	assert_int_equal(value_number(text, units, &n), error);
	assert_true(n == 77);
}

static void test_numbers(void **state)
{
	number_is("0", false, 0);
	number_is("010", false, 10);
	number_is("0x10", false, 16);
	number_is("0XfF", false, 255);
	number_is("18446744073709551615", false, UINT64_MAX);
	number_is("0xffffffffffffffff", true, UINT64_MAX);
	number_is("1K", true, 1024);
	number_is("3m", true, UINT64_C(3) << 20);
	number_is("2G", true, UINT64_C(2) << 30);
	number_is("0x10T", true, UINT64_C(16) << 40);
	number_is("16777215T", true, UINT64_C(0xffffff) << 40);
	number_is("0T", true, 0);

	number_fails("18446744073709551616", false, -ERANGE);
	number_fails("0x10000000000000000", false, -ERANGE);
	number_fails("16777216T", true, -ERANGE);
	number_fails("18014398509481984K", true, -ERANGE);
	number_fails("", true, -EINVAL);
	number_fails("0x", true, -EINVAL);
	number_fails("-1", true, -EINVAL);
	number_fails("+1", true, -EINVAL);
	number_fails(" 1", true, -EINVAL);
	number_fails("1 ", true, -EINVAL);
	number_fails("1K", false, -EINVAL);
	number_fails("1KB", true, -EINVAL);
	number_fails("1P", true, -EINVAL);
	number_fails("1.5K", true, -EINVAL);
	number_fails("12a", false, -EINVAL);
	number_fails("K", true, -EINVAL);
}

static void test_size_round_trip(void **state)
{
	static const struct {
		uint64_t value;
		const char *text;
	} cases[] = {
		{0, "0"},
		{1, "1"},
		{1023, "1023"},
		{1024, "1K"},
		{1536, "1536"},
		{65536, "64K"},
		{1 << 20, "1M"},
		{UINT64_C(3) << 30, "3G"},
		{UINT64_C(1) << 40, "1T"},
		{UINT64_C(1) << 63, "8388608T"},
		{UINT64_MAX, "18446744073709551615"},
	};
	char buffer[24];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(render_size(cases[i].value, buffer, sizeof(buffer)),
				    cases[i].text);
		number_is(cases[i].text, true, cases[i].value);
	}
}

static void test_hex(void **state)
{
	uint8_t *bytes = NULL;
	size_t n = 0;

	assert_int_equal(value_hex("de AD:be ef", &bytes, &n), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(bytes, "\xde\xad\xbe\xef", 4);
	free(bytes);
	bytes = NULL;
	assert_int_equal(value_hex("", &bytes, &n), -EINVAL);
	assert_int_equal(value_hex("  ", &bytes, &n), -EINVAL);
	assert_int_equal(value_hex("abc", &bytes, &n), -EINVAL);
	assert_int_equal(value_hex("a b", &bytes, &n), -EINVAL);
	assert_int_equal(value_hex("0x12", &bytes, &n), -EINVAL);
	assert_null(bytes);
}

static void good(const struct cli_param *p, const char *text, uint64_t number)
{
	struct cli_value v;
	char *expected = NULL;

	assert_int_equal(value_parse(p, text, &v, &expected), 0);
	assert_true(v.number == number);
	assert_string_equal(v.text, text);
	assert_null(expected);
	value_deinit(&v);
}

static void bad(const struct cli_param *p, const char *text, const char *says)
{
	struct cli_value v = {.number = 77};
	char *expected = NULL;

	assert_int_equal(value_parse(p, text, &v, &expected), -EINVAL);
	assert_true(v.number == 77);
	assert_non_null(expected);
	assert_non_null(strstr(expected, says));
	free(expected);
}

static void test_types(void **state)
{
	const struct cli_param id = {"ID", CLI_ID}, kind = {"kind", CLI_KIND};
	const struct cli_param format = {"format", CLI_FORMAT}, snoop = {"snoop", CLI_SNOOP};
	const struct cli_param prot = {"prot", CLI_PROT}, device = {"DEVICE", CLI_DEVICE};
	const struct cli_param pasid = {"pasid", CLI_UINT, .min = 1, .max = 1048575};
	const struct cli_param any = {"IOVA", CLI_ADDRESS, CLI_OR_ANY};
	const struct cli_param what = {"what", CLI_GRANULARITY}, access = {"access", CLI_ACCESS};
	const struct cli_param event = {"event", CLI_EVENT};
	const struct cli_param label = {"label", CLI_TEXT, .max = 4};
	const struct cli_param argument = {"PROGRAM", CLI_ARGUMENT, CLI_REQUIRED};
	struct cli_value v;
	char *expected = NULL;

	good(&argument, "", 0);
	good(&argument, "two\nlines\x7f", 0);
	good(&id, "1", 1);
	bad(&id, "0", "1 or more");
	good(&kind, "kernel", IOASID_KIND_KERNEL);
	good(&kind, "kvm", IOASID_KIND_KVM);
	bad(&kind, "Kernel", "one of kernel, user, process, kvm");
	good(&format, "x86_64-4l", IOASID_FORMAT_X86_64_4L);
	good(&format, "kernel-chosen", IOASID_FORMAT_KERNEL_CHOSEN);
	bad(&format, "unspecified", "vtdss-3l");
	good(&snoop, "auto", IOASID_SNOOP_AUTO);
	good(&snoop, "none", IOASID_SNOOP_NONE);
	good(&what, "all", IOASID_GRANULARITY_ALL);
	good(&what, "pasid-cache", IOASID_GRANULARITY_PASID_CACHE);
	good(&access, "read", IOASID_ACCESS_READ);
	good(&access, "execute", IOASID_ACCESS_EXECUTE);
	good(&event, "fault", IOASID_EVENT_FAULT);
	good(&prot, "rw", IOASID_READ | IOASID_WRITE);
	good(&prot, "r--", IOASID_READ);
	good(&prot, "xwr", IOASID_READ | IOASID_WRITE | IOASID_EXECUTE);
	bad(&prot, "rr", "each once");
	bad(&prot, "", "each once");
	bad(&prot, "---", "each once");
	good(&device, "0000:3b:00.0", 0);
	good(&device, "ffff:ff:1f.7", 0);
	bad(&device, "0000:3b:00.8", "0000:3b:00.0");
	bad(&device, "3b:00.0", "0000:3b:00.0");
	bad(&device, "0000:3b:00.00", "0000:3b:00.0");
	bad(&device, "", "0000:3b:00.0");
	good(&pasid, "1", 1);
	good(&pasid, "1048575", 1048575);
	bad(&pasid, "0", "from 1 to 1048575");
	bad(&pasid, "1048576", "from 1 to 1048575");
	bad(&pasid, "1K", "from 1 to 1048575");
	good(&label, "abcd", 0);
	bad(&label, "abcde", "1 to 4 bytes");
	bad(&label, "a\nb", "control");

	assert_int_equal(value_parse(&any, "any", &v, &expected), 0);
	assert_true(v.any);
	value_deinit(&v);
	assert_int_equal(value_parse(&any, "0x1000", &v, &expected), 0);
	assert_false(v.any);
	assert_true(v.number == 0x1000);
	value_deinit(&v);
	bad(&any, "some", "any");
}

static void test_amounts(void **state)
{
	const struct cli_param set = {"LIMIT", CLI_AMOUNT, CLI_OR_MAX};
	const struct cli_param ask = {"AMOUNT", CLI_AMOUNT};
	struct cli_value v;
	char *expected = NULL;

	assert_int_equal(value_parse(&ask, "pinned_bytes=64M", &v, &expected), 0);
	assert_string_equal(v.resource, "pinned_bytes");
	assert_true(v.number == 64 << 20);
	value_deinit(&v);
	assert_int_equal(value_parse(&set, "pasids=max", &v, &expected), 0);
	assert_true(v.number == UINT64_MAX);
	value_deinit(&v);
	bad(&ask, "pasids=max", "a number after");
	bad(&set, "pasid=1", "a resource before");
	bad(&set, "=1", "RESOURCE=AMOUNT");
	bad(&set, "pasids=", "RESOURCE=AMOUNT");
	bad(&set, "pasids", "RESOURCE=AMOUNT");
	bad(&set, "pasids=18446744073709551616", "a number after");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_size_round_trip),
		cmocka_unit_test(test_hex),	cmocka_unit_test(test_types),
		cmocka_unit_test(test_amounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
