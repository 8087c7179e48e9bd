/* SPDX-License-Identifier: Apache-2.0 */
/* The form of refusals on the wire: never longer than a client's metadata may be. */
#include "server/broker/outcome.h"

#include "rpc_status.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void the_longest_refusal_fits(void **state)
{
	Ioasid__Rpcstatus__Status *status;
	struct outcome o;
	struct scratch s;
	uint8_t *bytes = NULL;
	char text[9000];
	size_t n;

	memset(text, 'w', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	scratch_init(&s, 16 << 20);
	outcome_init(&o);
	for (int i = 0; i < 2 * OUTCOME_VIOLATIONS_MAX; i++)
		outcome_add_violation(&o, &s, "0000:00:00.0", "%s", text);
	for (int i = 0; i < 16; i++)
		outcome_add_metadata(&o, &s, "key", "%d", i);
	outcome_set(&o, &s, OUTCOME_GROUP_INCOMPLETE, "%s", text);
	n = outcome_pack_details(&o, &s, &bytes);
	assert_true(n > 0);
	/* In base64, with the message beside it, below 8 KiB. */
	assert_true((n + 2) / 3 * 4 + strlen(o.message) < 8000);
	status = ioasid__rpcstatus__status__unpack(NULL, n, bytes);
	assert_non_null(status);
	assert_int_equal(status->n_details, 2);
	assert_true(strlen(status->message) <= OUTCOME_TEXT_MAX);
	ioasid__rpcstatus__status__free_unpacked(status, NULL);
	scratch_deinit(&s);
}

static void texts_are_cut_at_a_character(void **state)
{
	struct outcome o;
	struct scratch s;
	char text[3 * 300 + 1] = "";

	for (int i = 0; i < 300; i++)
		strcat(text, "\xe2\x82\xac");
	scratch_init(&s, 16 << 20);
	outcome_init(&o);
	for (int shift = 0; shift < 3; shift++) {
		size_t n;

		outcome_set(&o, &s, OUTCOME_NOT_FOUND, "%.*s%s", shift, "ab", text);
		n = strlen(o.message);
		assert_string_equal(o.message + n - 3, "...");
		/* The byte before the dots ends a character. */
		assert_int_equal((unsigned char)o.message[n - 4], 0xac);
		assert_int_equal((n - 3 - shift) % 3, 0);
	}
	scratch_deinit(&s);
}

static void without_memory_the_reason_is_still_there(void **state)
{
	uint8_t bytes[OUTCOME_MINIMAL_SIZE];
	Ioasid__Rpcstatus__Status *status;
	Ioasid__Rpcstatus__ErrorInfo *info;
	char text[1000];
	size_t n;

	memset(text, 'w', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	n = outcome_pack_minimal(OUTCOME_MEMORY_UNSUITABLE, text, bytes);
	assert_true(n <= sizeof(bytes));
	status = ioasid__rpcstatus__status__unpack(NULL, n, bytes);
	assert_non_null(status);
	assert_int_equal(status->n_details, 1);
	info = ioasid__rpcstatus__error_info__unpack(NULL, status->details[0]->value.len,
						     status->details[0]->value.data);
	assert_non_null(info);
	assert_string_equal(info->reason, "MEMORY_UNSUITABLE");
	assert_string_equal(info->domain, "ioasid");
	ioasid__rpcstatus__error_info__free_unpacked(info, NULL);
	ioasid__rpcstatus__status__free_unpacked(status, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_refusal_fits),
		cmocka_unit_test(texts_are_cut_at_a_character),
		cmocka_unit_test(without_memory_the_reason_is_still_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
