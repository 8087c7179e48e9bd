/* SPDX-License-Identifier: Apache-2.0 */
/* What the strict reader takes, what it refuses and where, and that a refusal leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <json-c/json.h>

#include "integrations/json/json_text.h"

static const struct json_text_limits limits = {
	.bytes_max = 4096,
	.depth_max = 4,
	.values_max = 100,
};

/* In a buffer of its exact size, so that a sanitizer sees a read beyond it. */
static int parse(const char *text, size_t n, struct json_object **ret_object, char *problem)
{
	char *exact = malloc(n ? n : 1);
	int r;

	assert_non_null(exact);
	memcpy(exact, text, n);
	r = json_text_parse(exact, n, &limits, ret_object, problem);
	free(exact);
	return r;
}

static void good_n(const char *text, size_t n, const char *again)
{
	char problem[JSON_TEXT_PROBLEM_SIZE] = "";
	struct json_object *object = NULL;
	int r = parse(text, n, &object, problem);

	if (r)
		print_error("%s: %s\n", text, problem);
	assert_int_equal(r, 0);
	assert_string_equal(problem, "");
	assert_string_equal(
		json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE),
		again);
	json_object_put(object);
}

static void good(const char *text, const char *again)
{
	good_n(text, strlen(text), again);
}

static void bad_n(const char *text, size_t n, const char *expected)
{
	char problem[JSON_TEXT_PROBLEM_SIZE] = "";
	struct json_object *mark = json_object_new_object(), *object = mark;

	assert_int_equal(parse(text, n, &object, problem), JSON_TEXT_E_INVALID);
	assert_ptr_equal(object, mark);
	assert_string_equal(problem, expected);
	json_object_put(mark);
}

static void bad(const char *text, const char *expected)
{
	bad_n(text, strlen(text), expected);
}

static void test_values(void **state)
{
	good("{}", "{}");
	good(" [ ] \r\n\t", "[]");
	good("null", "null");
	good("[true,false,null]", "[true,false,null]");
	good("{\"a\":{\"a\":[{\"a\":1}]},\"b\":\"x\"}", "{\"a\":{\"a\":[{\"a\":1}]},\"b\":\"x\"}");
	good("[0,-0,7,-7]", "[0,0,7,-7]");
	good("[1.5,1e3,0.25E+1,-2E-1]", "[1.5,1e3,0.25E+1,-2E-1]");
}

static void test_shape(void **state)
{
	bad("", "line 1, column 1: the text ends where a value is expected");
	bad(" \n ", "line 2, column 2: the text ends where a value is expected");
	bad("{", "line 1, column 2: the text ends where a key is expected");
	bad("{\"a\"", "line 1, column 5: the text ends where ':' is expected");
	bad("{\"a\":", "line 1, column 6: the text ends where a value is expected");
	bad("{\"a\":1", "line 1, column 7: the text ends where ',' or '}' is expected");
	bad("{\"a\":1,}", "line 1, column 8: '}' where a key is expected");
	bad("{a:1}", "line 1, column 2: 'a' where a key is expected");
	bad("{'a':1}", "line 1, column 2: ''' where a key is expected");
	bad("{1:1}", "line 1, column 2: '1' where a key is expected");
	bad("[1,]", "line 1, column 4: ']' where a value is expected");
	bad("[,1]", "line 1, column 2: ',' where a value is expected");
	bad("[1 2]", "line 1, column 4: '2' where ',' or ']' is expected");
	bad("[1}", "line 1, column 3: '}' where ',' or ']' is expected");
	bad("]", "line 1, column 1: ']' where a value is expected");
	bad("[\n // no\n]", "line 2, column 2: '/' where a value is expected");
	bad("[True]", "line 1, column 2: 'T' where a value is expected");
	bad("[nul]", "line 1, column 2: 'n' where a value is expected");
	bad("[truex]", "line 1, column 6: 'x' where ',' or ']' is expected");
	bad("[NaN]", "line 1, column 2: 'N' where a value is expected");
	bad("[-Infinity]", "line 1, column 3: 'I' where a digit is expected");
	/* A byte order mark, and blanks that are none in JSON. */
	bad("\xef\xbb\xbf{}", "line 1, column 1: byte 0xef where a value is expected");
	bad("[\v1]", "line 1, column 2: byte 0x0b where a value is expected");
}

static void test_bytes_behind_it(void **state)
{
	bad("{} {}", "line 1, column 4: more text after the JSON value");
	bad("{}\n\nx", "line 3, column 1: more text after the JSON value");
	bad_n("{}\0", 3, "line 1, column 3: more text after the JSON value");
	bad("1 1", "line 1, column 3: more text after the JSON value");
	bad("{}}", "line 1, column 3: more text after the JSON value");
}

static void test_keys_are_there_once(void **state)
{
	bad("{\"a\":1,\"b\":2,\"a\":1}", "line 1, column 14: key \"a\" is there twice");
	bad("[{\"x\":[\n{\"a\":1,\n \"a\":2}]}]", "line 3, column 2: key \"a\" is there twice");
	bad("{\"o\":{},\"p\":1,\"o\":{\"q\":1}}", "line 1, column 15: key \"o\" is there twice");
	/* However it is spelt; null is a value, too. */
	bad("{\"web\":1,\"w\\u0065b\":2}", "line 1, column 10: key \"web\" is there twice");
	bad("{\"a\":null,\"a\":null}", "line 1, column 11: key \"a\" is there twice");
	bad("{\"\":1,\"\":2}", "line 1, column 7: key \"\" is there twice");
	/* The same name elsewhere is another one. */
	good("[{\"a\":1},{\"a\":{\"a\":2}},{\"A\":1,\"a\":2}]",
	     "[{\"a\":1},{\"a\":{\"a\":2}},{\"A\":1,\"a\":2}]");
	/* What is shown of it is one line, and not long. */
	bad("{\"\\n\\u001b[2J\":1,\"\\n\\u001b[2J\":1}",
	    "line 1, column 18: key \"??[2J\" is there twice");
	bad("{\"123456789012345678901234567890123456789012345678901234567890123\xc3\xa4x\":1,"
	    "\"123456789012345678901234567890123456789012345678901234567890123\xc3\xa4x\":1}",
	    "line 1, column 73: key "
	    "\"123456789012345678901234567890123456789012345678901234567890123\" is there twice");
}

static void test_nul(void **state)
{
	bad_n("{\"a\":\0}", 7, "line 1, column 6: byte 0x00 where a value is expected");
	bad_n("[\0]", 3, "line 1, column 2: byte 0x00 where a value is expected");
	bad_n("\0", 1, "line 1, column 1: byte 0x00 where a value is expected");
	bad_n("[\"a\0b\"]", 7, "line 1, column 4: byte 0x00 in a string, where an escape is due");
	bad("[\"a\\u0000b\"]", "line 1, column 4: a NUL in a string");
	bad("{\"a\\u0000\":1}", "line 1, column 4: a NUL in a string");
}

static void test_strings(void **state)
{
	good("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]", "[\"\\\"\\\\/\\b\\f\\n\\r\\t\"]");
	good("[\"\\u00e4\\u20AC\\uFFFF\\ud83d\\uDE00\"]",
	     "[\"\xc3\xa4\xe2\x82\xac\xef\xbf\xbf\xf0\x9f\x98\x80\"]");
	/* The first and the last of each length, and around the surrogates. */
	good("[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf"
	     "\xbf\"]",
	     "[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf"
	     "\xbf\"]");
	good("[\"\x7f\"]", "[\"\x7f\"]");
	bad("[\"\\x41\"]", "line 1, column 3: an escape that JSON does not have");
	bad("[\"\\'\"]", "line 1, column 3: an escape that JSON does not have");
	bad("[\"\\u12g4\"]", "line 1, column 3: \\u without four hexadecimal digits");
	bad("[\"\\u12\"]", "line 1, column 3: \\u without four hexadecimal digits");
	bad("[\"a\tb\"]", "line 1, column 4: byte 0x09 in a string, where an escape is due");
	bad("[\"a", "line 1, column 4: the text ends in a string");
	bad("[\"a\\", "line 1, column 4: an escape that JSON does not have");
	bad("[\"a\\\"", "line 1, column 6: the text ends in a string");
	bad("[\"a\\u", "line 1, column 4: \\u without four hexadecimal digits");
}

static void test_surrogates(void **state)
{
	static const char *const halves[] = {
		"[\"\\ud800\"]",	"[\"\\udc00\"]",       "[\"\\udfff\\ud800\"]",
		"[\"\\ud800\\ud800\"]", "[\"\\ud800x\"]",      "[\"\\ud800\\n\"]",
		"[\"\\ud800\\u0041\"]", "[\"\\ud800\\udc0\"]", "[\"\\udbff\\ue000\"]",
	};

	for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i++)
		bad(halves[i], "line 1, column 3: half of a surrogate pair");
	bad("[\"\\ud800", "line 1, column 3: half of a surrogate pair");
	bad("[\"\\ud800\\u", "line 1, column 3: half of a surrogate pair");
	good("[\"\\ud800\\udc00\\udbff\\udfff\"]", "[\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]");
}

static void test_utf8(void **state)
{
	static const char *const wrong[] = {
		"\x80",
		"\xbf",
		"\xc3",
		"\xc3(",
		"\xc0\xaf",
		"\xc1\xbf",
		"\xe0\x9f\xbf",
		"\xe2\x82",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xf0\x9f\x98",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xff",
		"\xfe",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[32];

		snprintf(text, sizeof(text), "[\"a%s\"]", wrong[i]);
		bad(text, "line 1, column 4: a string that is not UTF-8");
		snprintf(text, sizeof(text), "{\"%s\":1}", wrong[i]);
		bad(text, "line 1, column 3: a string that is not UTF-8");
		/* Cut off by the end of the text. */
		snprintf(text, sizeof(text), "[\"%s", wrong[i]);
		bad(text, "line 1, column 3: a string that is not UTF-8");
	}
}

static void test_numbers(void **state)
{
	char text[300];

	good("[9223372036854775807,-9223372036854775808,18446744073709551615]",
	     "[9223372036854775807,-9223372036854775808,18446744073709551615]");
	bad("[18446744073709551616]", "line 1, column 2: number 18446744073709551616 is too large");
	bad("[-9223372036854775809]", "line 1, column 2: number -9223372036854775809 is too large");
	bad("[1e309]", "line 1, column 2: number 1e309 is too large");
	bad("[-1e999999999]", "line 1, column 2: number -1e999999999 is too large");
	good("[1e308,1e-999]", "[1e308,1e-999]");
	bad("[01]", "line 1, column 3: '1' where ',' or ']' is expected");
	bad("[-01]", "line 1, column 4: '1' where ',' or ']' is expected");
	bad("[+1]", "line 1, column 2: '+' where a value is expected");
	bad("[.5]", "line 1, column 2: '.' where a value is expected");
	bad("[1.]", "line 1, column 4: ']' where a digit is expected");
	bad("[1e]", "line 1, column 4: ']' where a digit is expected");
	bad("[1e+]", "line 1, column 5: ']' where a digit is expected");
	bad("[-]", "line 1, column 3: ']' where a digit is expected");
	bad("-", "line 1, column 2: the text ends where a digit is expected");
	bad("[0x10]", "line 1, column 3: 'x' where ',' or ']' is expected");
	memset(text, 0, sizeof(text));
	text[0] = '[';
	memset(text + 1, '7', 65);
	text[66] = ']';
	bad(text, "line 1, column 2: a number of more than 64 characters");
}

static void test_limits(void **state)
{
	/* However deep the caller would have it, the stack has an end. */
	const struct json_text_limits deep = {
		.bytes_max = 5000,
		.depth_max = 5000,
		.values_max = 5000,
	};
	char text[5000], problem[JSON_TEXT_PROBLEM_SIZE];
	struct json_object *object = NULL;

	good("[[[[]]]]", "[[[[]]]]");
	bad("[[[[[]]]]]", "line 1, column 5: objects and arrays too deep in each other");
	bad("{\"a\":[{\"a\":[{}]}]}",
	    "line 1, column 13: objects and arrays too deep in each other");
	/* What is beside each other is not in each other. */
	good("[[[[]],[[]]],[[[]]]]", "[[[[]],[[]]],[[[]]]]");

	memset(text, ' ', sizeof(text));
	memcpy(text, "{}", 2);
	good_n(text, 4096, "{}");
	bad_n(text, 4097, "longer than 4096 bytes");

	/* The array is a value itself. */
	memset(text, 0, sizeof(text));
	strcpy(text, "[0");
	for (int i = 1; i < 99; i++)
		strcat(text, ",0");
	strcpy(text + strlen(text), "]");
	assert_int_equal(parse(text, strlen(text), &object, problem), 0);
	assert_int_equal(json_object_array_length(object), 99);
	json_object_put(object);
	strcpy(text + strlen(text) - 1, ",0]");
	bad(text, "line 1, column 200: too many values");

	memset(text, '[', sizeof(text));
	assert_int_equal(json_text_parse(text, sizeof(text), &deep, &object, problem),
			 JSON_TEXT_E_INVALID);
	assert_string_equal(problem,
			    "line 1, column 65: objects and arrays too deep in each other");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_bytes_behind_it),
		cmocka_unit_test(test_keys_are_there_once),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_surrogates),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
