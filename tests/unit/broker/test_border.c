/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The border: byte strings written by hand from the wire format, each with the verdict and
 * the field that it must name.
 */
#include "server/broker/border.h"

#include "ioasid.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static const struct {
	const char *what;
	const uint8_t *bytes;
	size_t length;
	int verdict;
	const char *field;
} cases[] = {
	/* AllocRequest: 1 scope {1 lease, 2 tenant, 3 key}, 2 devices, 3 kind, 4 parent,
	 * 5 candidates {1 format}, 13 label */
	{"nothing", BYTES(""), 0, ""},
	{"a kind", BYTES("\x18\x01"), 0, ""},
	{"text",
	 BYTES("\x6a\x03"
	       "abc"),
	 0, ""},
	{"two-byte character", BYTES("\x6a\x02\xc3\xa9"), 0, ""},
	{"highest character", BYTES("\x6a\x04\xf4\x8f\xbf\xbf"), 0, ""},
	{"nested text", BYTES("\x0a\x03\x0a\x01x"), 0, ""},
	{"tag cut short", BYTES("\x80"), BORDER_E_MALFORMED, ""},
	{"field number 0", BYTES("\x00\x00"), BORDER_E_MALFORMED, ""},
	{"value cut short", BYTES("\x18\x80"), BORDER_E_MALFORMED, "kind"},
	{"value of eleven bytes", BYTES("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	 BORDER_E_MALFORMED, "parent"},
	{"length beyond the end",
	 BYTES("\x6a\x05"
	       "ab"),
	 BORDER_E_MALFORMED, "label"},
	{"huge length", BYTES("\x6a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), BORDER_E_MALFORMED,
	 "label"},
	{"unknown field", BYTES("\xfa\x01\x00"), BORDER_E_MALFORMED, ""},
	{"group", BYTES("\x1b\x1c"), BORDER_E_MALFORMED, "kind"},
	{"number for text", BYTES("\x68\x01"), BORDER_E_MALFORMED, "label"},
	{"text for a number",
	 BYTES("\x22\x01"
	       "a"),
	 BORDER_E_MALFORMED, "parent"},
	{"fixed64 for a number", BYTES("\x21\x01\x02\x03\x04\x05\x06\x07\x08"), BORDER_E_MALFORMED,
	 "parent"},
	{"fixed64 cut short", BYTES("\x21\x01\x02"), BORDER_E_MALFORMED, "parent"},
	{"NUL in text",
	 BYTES("\x6a\x03"
	       "a\0b"),
	 BORDER_E_MALFORMED, "label"},
	{"lone continuation", BYTES("\x6a\x01\x80"), BORDER_E_MALFORMED, "label"},
	{"overlong slash", BYTES("\x6a\x02\xc0\xaf"), BORDER_E_MALFORMED, "label"},
	{"overlong of three", BYTES("\x6a\x03\xe0\x80\xaf"), BORDER_E_MALFORMED, "label"},
	{"surrogate", BYTES("\x6a\x03\xed\xa0\x80"), BORDER_E_MALFORMED, "label"},
	{"beyond the last character", BYTES("\x6a\x04\xf4\x90\x80\x80"), BORDER_E_MALFORMED,
	 "label"},
	{"character cut short", BYTES("\x6a\x02\xe2\x82"), BORDER_E_MALFORMED, "label"},
	{"second device bad",
	 BYTES("\x12\x01"
	       "a"
	       "\x12\x01\xff"),
	 BORDER_E_MALFORMED, "devices[1]"},
	{"bad key in scope", BYTES("\x0a\x03\x1a\x01\xff"), BORDER_E_MALFORMED, "scope.key"},
	{"unknown in scope", BYTES("\x0a\x02\x78\x01"), BORDER_E_MALFORMED, "scope"},
	{"no such kind", BYTES("\x18\x63"), BORDER_E_ENUM, "kind"},
	{"negative kind", BYTES("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), BORDER_E_ENUM,
	 "kind"},
	{"no such format", BYTES("\x2a\x02\x08\x01\x2a\x02\x08\x7f"), BORDER_E_ENUM,
	 "candidates[1].format"},
};

static void each_defect_is_named(void **state)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct border_problem problem = {.field = "untouched"};
		int r = border_check(&ioasid__v1__alloc_request__descriptor, cases[i].bytes,
				     cases[i].length, &problem);

		if (r != cases[i].verdict)
			fail_msg("%s: verdict %d, expected %d", cases[i].what, r, cases[i].verdict);
		if (r && strcmp(problem.field, cases[i].field))
			fail_msg("%s: field \"%s\", expected \"%s\"", cases[i].what, problem.field,
				 cases[i].field);
	}
}

static void packed_enumerations_are_checked(void **state)
{
	struct border_problem problem;

	/* WatchEventsRequest: 3 types, packed. */
	assert_int_equal(border_check(&ioasid__v1__watch_events_request__descriptor,
				      BYTES("\x1a\x02\x01\x02"), &problem),
			 0);
	assert_int_equal(border_check(&ioasid__v1__watch_events_request__descriptor,
				      BYTES("\x1a\x02\x01\x7f"), &problem),
			 BORDER_E_ENUM);
	assert_int_equal(border_check(&ioasid__v1__watch_events_request__descriptor,
				      BYTES("\x1a\x01\x80"), &problem),
			 BORDER_E_MALFORMED);
}

static void arrays_end_at_4096_elements(void **state)
{
	struct border_problem problem;
	uint8_t bytes[2 * 4097];

	for (size_t i = 0; i < sizeof(bytes); i += 2)
		memcpy(bytes + i, "\x2a\x00", 2);
	assert_int_equal(
		border_check(&ioasid__v1__alloc_request__descriptor, bytes, 2 * 4096, &problem), 0);
	assert_int_equal(
		border_check(&ioasid__v1__alloc_request__descriptor, bytes, 2 * 4097, &problem),
		BORDER_E_MALFORMED);
	assert_string_equal(problem.field, "candidates");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_defect_is_named),
		cmocka_unit_test(packed_enumerations_are_checked),
		cmocka_unit_test(arrays_end_at_4096_elements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
