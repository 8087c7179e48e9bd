/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text names of enumerations against the descriptors that protoc-c generated from the
 * API: every member has a name, the name is the member's own spelling, names lead back to
 * their members, and a number beyond the last one has none.
 */
#include "vocab.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NAME_MAX_LEN 64

/*
 * One enumeration, its functions wrapped so that all have one type.  from_name is NULL
 * where the API of vocab.h has none.
 */
struct vocabulary {
	const ProtobufCEnumDescriptor *descriptor;
	const char *(*name)(unsigned value);
	int (*from_name)(const char *name, unsigned *ret);
};

#define WRAP_NAME(word, type)                                                                      \
	static const char *word##_name(unsigned value)                                             \
	{                                                                                          \
		return vocab_##word##_name((type)value);                                           \
	}
#define WRAP_FROM_NAME(word, type)                                                                 \
	static int word##_from_name(const char *name, unsigned *ret)                               \
	{                                                                                          \
		type value = (type)*ret;                                                           \
		int r = vocab_##word##_from_name(name, &value);                                    \
                                                                                                   \
		*ret = (unsigned)value;                                                            \
		return r;                                                                          \
	}

WRAP_NAME(format, Ioasid__V1__PageTableFormat)
WRAP_NAME(kind, Ioasid__V1__IoasidKind)
WRAP_NAME(snoop, Ioasid__V1__SnoopMode)
WRAP_NAME(fault, Ioasid__V1__FaultCause)
WRAP_NAME(granularity, Ioasid__V1__InvalidateGranularity)
WRAP_NAME(device_state, Ioasid__V1__DeviceState)
WRAP_NAME(event, Ioasid__V1__EventType)
WRAP_NAME(refused_by, Ioasid__V1__RefusedBy)
WRAP_FROM_NAME(format, Ioasid__V1__PageTableFormat)
WRAP_FROM_NAME(kind, Ioasid__V1__IoasidKind)
WRAP_FROM_NAME(snoop, Ioasid__V1__SnoopMode)
WRAP_FROM_NAME(granularity, Ioasid__V1__InvalidateGranularity)
WRAP_FROM_NAME(event, Ioasid__V1__EventType)

static const struct vocabulary vocabularies[] = {
	{&ioasid__v1__page_table_format__descriptor, format_name, format_from_name},
	{&ioasid__v1__ioasid_kind__descriptor, kind_name, kind_from_name},
	{&ioasid__v1__snoop_mode__descriptor, snoop_name, snoop_from_name},
	{&ioasid__v1__fault_cause__descriptor, fault_name, NULL},
	{&ioasid__v1__invalidate_granularity__descriptor, granularity_name, granularity_from_name},
	{&ioasid__v1__device_state__descriptor, device_state_name, NULL},
	{&ioasid__v1__event_type__descriptor, event_name, event_from_name},
	{&ioasid__v1__refused_by__descriptor, refused_by_name, NULL},
};
#define N_VOCABULARIES (sizeof(vocabularies) / sizeof(vocabularies[0]))

/* Letters and digits only, small: "X86_64_4L" and "x86_64-4l" are one spelling. */
static void normalize(const char *text, char ret[static NAME_MAX_LEN])
{
	size_t n = 0;

	for (; *text; text++)
		if (*text != '_' && *text != '-') {
			assert_true(n + 1 < NAME_MAX_LEN);
			ret[n++] = (char)tolower((unsigned char)*text);
		}
	ret[n] = '\0';
}

/* What all members of an enumeration begin with, "PAGE_TABLE_FORMAT_". */
static size_t prefix_length(const ProtobufCEnumDescriptor *descriptor)
{
	const char *first = descriptor->values[0].name;
	size_t n = strlen(first);

	for (unsigned i = 1; i < descriptor->n_values; i++) {
		size_t same = 0;

		while (same < n && descriptor->values[i].name[same] == first[same])
			same++;
		n = same;
	}
	while (n > 0 && first[n - 1] != '_')
		n--;
	return n;
}

static void test_every_member_has_its_name(void **state)
{
	for (size_t v = 0; v < N_VOCABULARIES; v++) {
		const ProtobufCEnumDescriptor *d = vocabularies[v].descriptor;
		size_t prefix = prefix_length(d);

		assert_true(d->n_values > 1);
		assert_true(prefix > 0);
		for (unsigned i = 0; i < d->n_values; i++) {
			const char *name = vocabularies[v].name((unsigned)d->values[i].value);
			char expected[NAME_MAX_LEN], got[NAME_MAX_LEN];

			if (!name)
				fail_msg("%s has no name", d->values[i].name);
			normalize(d->values[i].name + prefix, expected);
			normalize(name, got);
			assert_string_equal(got, expected);
		}
	}
}

static void test_numbers_beyond_have_none(void **state)
{
	for (size_t v = 0; v < N_VOCABULARIES; v++) {
		const ProtobufCEnumDescriptor *d = vocabularies[v].descriptor;
		unsigned last = 0;

		for (unsigned i = 0; i < d->n_values; i++)
			if ((unsigned)d->values[i].value > last)
				last = (unsigned)d->values[i].value;
		assert_non_null(vocabularies[v].name(last));
		assert_null(vocabularies[v].name(last + 1));
		assert_null(vocabularies[v].name(0x7fffffffu));
		/* A negative enum on the wire. */
		assert_null(vocabularies[v].name(0xffffffffu));
	}
}

static void test_names_lead_back(void **state)
{
	for (size_t v = 0; v < N_VOCABULARIES; v++) {
		const ProtobufCEnumDescriptor *d = vocabularies[v].descriptor;

		if (!vocabularies[v].from_name)
			continue;
		for (unsigned i = 0; i < d->n_values; i++) {
			unsigned number = (unsigned)d->values[i].value, back = number + 1;
			const char *name = vocabularies[v].name(number);

			if (!strcmp(name, "unspecified"))
				continue;
			assert_int_equal(vocabularies[v].from_name(name, &back), 0);
			assert_int_equal(back, number);
		}
	}
}

/* A name that is none is refused and leaves the result alone. */
static void test_unknown_names_are_refused(void **state)
{
	static const char *const none[] = {"",	       "unspecified", "KERNEL", "kernel ",
					   "x86_64-4", "vtdss-6l",    "auto2",	"lease_opened"};

	for (size_t v = 0; v < N_VOCABULARIES; v++) {
		if (!vocabularies[v].from_name)
			continue;
		for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
			unsigned number = 1;

			assert_int_equal(vocabularies[v].from_name(none[i], &number), -EINVAL);
			assert_int_equal(number, 1);
		}
	}
}

/* The words for policies: as many as the enumeration has, one slot each, no hole but 0. */
static void test_policy_words_are_complete(void **state)
{
	assert_int_equal(vocab_n_formats, ioasid__v1__page_table_format__descriptor.n_values);
	assert_int_equal(vocab_n_kinds, ioasid__v1__ioasid_kind__descriptor.n_values);
	assert_null(vocab_formats[0]);
	assert_null(vocab_kinds[0]);
	for (size_t i = 1; i < vocab_n_formats; i++)
		assert_string_equal(vocab_formats[i], format_name((unsigned)i));
	for (size_t i = 1; i < vocab_n_kinds; i++)
		assert_string_equal(vocab_kinds[i], kind_name((unsigned)i));
	/* They are bits of a 64-bit mask there. */
	assert_true(vocab_n_formats <= 64);
	assert_true(vocab_n_kinds <= 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_member_has_its_name),
		cmocka_unit_test(test_numbers_beyond_have_none),
		cmocka_unit_test(test_names_lead_back),
		cmocka_unit_test(test_unknown_names_are_refused),
		cmocka_unit_test(test_policy_words_are_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
