/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/json_scan.h: shape and places.  What it refuses is in bad_policies.h; what it
 * accepts is compared with json-c by tests/fuzz/policy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "policy/json_scan.h"

static struct json_scan scan_text(const char *text)
{
	struct json_scan_fault fault;
	struct json_scan scan = {0};

	if (json_scan_init(&scan, text, strlen(text), 16, 1000, &fault))
		fail_msg("%s: offset %zu: %s: %s", text, fault.offset, fault.path, fault.message);
	return scan;
}

static void check_node(const struct json_scan *scan, unsigned i, uint32_t offset, uint32_t end,
		       uint32_t key_offset, uint32_t n_children, uint32_t next, uint32_t line,
		       uint32_t column)
{
	const struct json_node *node = &scan->nodes[i];

	assert_int_equal(node->offset, offset);
	assert_int_equal(node->end, end);
	assert_int_equal(node->key_offset, key_offset);
	assert_int_equal(node->n_children, n_children);
	assert_int_equal(node->next, next);
	assert_int_equal(node->line, line);
	assert_int_equal(node->column, column);
}

static void test_shape(void **state)
{
	struct json_scan scan = scan_text("{\"a\" : [1, {} ],\r\n\t\"a\":\"x\"\n}");
	const uint32_t none = JSON_SCAN_NO_KEY;

	assert_int_equal(scan.n_nodes, 5);
	check_node(&scan, 0, 0, 28, none, 2, 5, 1, 1);
	check_node(&scan, 1, 7, 15, 1, 2, 4, 1, 2);
	check_node(&scan, 2, 8, 9, none, 0, 3, 1, 9);
	check_node(&scan, 3, 11, 13, none, 0, 4, 1, 12);
	check_node(&scan, 4, 23, 26, 19, 0, 5, 2, 2);
	json_scan_deinit(&scan);
	assert_null(scan.nodes);
	json_scan_deinit(&scan);
}

static void test_accepted(void **state)
{
	static const char *const texts[] = {
		"0",
		"-0",
		"-0.5e+10",
		"1E-0",
		"10.01",
		"true",
		"false",
		"null",
		"\"\"",
		" [ ] ",
		"{}",
		"[[[]]]",
		"{\"\":{}}",
		"[1,\n2\t]",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		"\"\x7f\"",
		"\"\xc2\x80\"",
		"\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\"",
		"\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
		"\"\\uD7FF\\uE000\\uFFFF\\u0001\"",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct json_scan scan = scan_text(texts[i]);

		json_scan_deinit(&scan);
	}
}

static void test_strings(void **state)
{
	static const struct {
		const char *text;
		size_t raw, decoded;
	} cases[] = {
		{"\"\"", 2, 0},
		{"\"ab\" ", 4, 2},
		{"\"\\\"\"", 4, 1},
		{"\"\\\\\" \"", 4, 1},
		{"\"\\u0041\\u00e4\\u20ac\"", 20, 6},
		{"\"\xf0\x9d\x84\x9e\"", 6, 4},
		{"\"\xe2\x82\xac\"", 5, 3},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t raw = 0, decoded = 99;

		json_scan_string(cases[i].text, 0, &raw, &decoded);
		assert_int_equal(raw, cases[i].raw);
		assert_int_equal(decoded, cases[i].decoded);
	}
}

static void test_position(void **state)
{
	unsigned line, column;

	json_scan_position("ab\n\ncd", 0, &line, &column);
	assert_int_equal(line, 1);
	assert_int_equal(column, 1);
	json_scan_position("ab\n\ncd", 2, &line, &column);
	assert_int_equal(line, 1);
	assert_int_equal(column, 3);
	json_scan_position("ab\n\ncd", 3, &line, &column);
	assert_int_equal(line, 2);
	assert_int_equal(column, 1);
	json_scan_position("ab\n\ncd", 6, &line, &column);
	assert_int_equal(line, 3);
	assert_int_equal(column, 3);
}

static void test_limits(void **state)
{
	struct json_scan_fault fault;
	struct json_scan scan;
	char deep[80];

	/* [1,2] is three values and one level. */
	assert_int_equal(json_scan_init(&scan, "[1,2]", 5, 1, 3, &fault), 0);
	json_scan_deinit(&scan);
	assert_int_equal(json_scan_init(&scan, "[1,2]", 5, 1, 2, &fault), JSON_SCAN_E_INVALID);
	assert_int_equal(fault.offset, 3);
	assert_string_equal(fault.message, "more than 2 values");
	assert_int_equal(json_scan_init(&scan, "[1,2]", 5, 0, 3, &fault), JSON_SCAN_E_INVALID);
	assert_string_equal(fault.message, "nested deeper than 0 levels");
	assert_int_equal(json_scan_init(&scan, "1", 1, 0, 1, &fault), 0);
	json_scan_deinit(&scan);
	/* More than the scan can do is what it can do. */
	for (unsigned n = JSON_SCAN_DEPTH_MAX; n <= JSON_SCAN_DEPTH_MAX + 1; n++) {
		memset(deep, '[', n);
		memset(deep + n, ']', n);
		assert_int_equal(json_scan_init(&scan, deep, 2 * n, 1000, 1000, &fault),
				 n > JSON_SCAN_DEPTH_MAX ? JSON_SCAN_E_INVALID : 0);
		if (n <= JSON_SCAN_DEPTH_MAX)
			json_scan_deinit(&scan);
	}
	assert_int_equal(fault.offset, JSON_SCAN_DEPTH_MAX);
	assert_int_equal(json_scan_init(&scan, "", UINT32_MAX, 1, 1, &fault), JSON_SCAN_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shape),	cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_strings), cmocka_unit_test(test_position),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
