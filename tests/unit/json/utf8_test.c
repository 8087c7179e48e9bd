/* SPDX-License-Identifier: Apache-2.0 */
/* What is a character, and what people see of text that somebody else wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "integrations/json/utf8.h"

static void test_length(void **state)
{
	uint32_t c = 7;

	assert_int_equal(utf8_length("a", 1, &c), 1);
	assert_int_equal(c, 'a');
	assert_int_equal(utf8_length("\xc3\xa4x", 3, &c), 2);
	assert_int_equal(c, 0xe4);
	assert_int_equal(utf8_length("\xf4\x8f\xbf\xbf", 4, &c), 4);
	assert_int_equal(c, 0x10ffff);
	assert_int_equal(utf8_length("\0", 1, &c), 1);
	assert_int_equal(c, 0);
	c = 7;
	assert_int_equal(utf8_length("", 0, &c), 0);
	assert_int_equal(utf8_length("\xc3\xa4", 1, &c), 0);
	assert_int_equal(utf8_length("\xed\xa0\x80", 3, &c), 0);
	assert_int_equal(utf8_length("\xc0\x80", 2, &c), 0);
	assert_int_equal(utf8_length("\xf4\x90\x80\x80", 4, &c), 0);
	assert_int_equal(c, 7);
	assert_int_equal(utf8_length("a", 1, NULL), 1);
}

static void plain(const char *text, const char *expected)
{
	char buffer[64];

	snprintf(buffer, sizeof(buffer), "%s", text);
	utf8_make_plain(buffer);
	assert_string_equal(buffer, expected);
}

static void test_plain(void **state)
{
	plain("", "");
	plain("web \xc3\xa4 \xf0\x9f\x98\x80", "web \xc3\xa4 \xf0\x9f\x98\x80");
	plain("a\nb\rc\td\033[2Je\x7f", "a?b?c?d?[2Je?");
	/* CSI in one character; a line separator; what turns the order of the rest. */
	plain("a\xc2\x9b"
	      "2Jb",
	      "a?2Jb");
	plain("a\xe2\x80\xa8"
	      "b\xe2\x80\xae"
	      "c\xe2\x81\xa7"
	      "d",
	      "a?b?c?d");
	/* The ones beside these are characters. */
	plain("\xc2\xa0\xe2\x80\xa7\xe2\x80\xaf", "\xc2\xa0\xe2\x80\xa7\xe2\x80\xaf");
	/* No character, or a half of one at the end. */
	plain("a\xff\xc3", "a??");
	plain("\xe2\x82", "??");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
