/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency keys: what is remembered, what makes way, what is charged. */
#include "server/broker/key_table.h"

#include "server/broker/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct key_table *table;
	struct tenant *tenant;
	struct broker broker; /* all zero: nothing is restored */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->tenant = calloc(1, sizeof(*f->tenant) + 1);
	quota_node_init(&f->tenant->quota, NULL);
	f->tenant->broker = &f->broker;
	/* In a policy: it is not collected when its last charge goes. */
	f->tenant->policy = (const struct policy_tenant *)f;
	*state = f;
	return key_table_new(&f->table);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	key_table_free(f->table);
	assert_int_equal(f->tenant->n_charges, 0);
	quota_node_deinit(&f->tenant->quota);
	free(f->tenant);
	free(f);
	return 0;
}

static struct key_entry *reserve(struct fixture *f, const char *key)
{
	struct quota_refusal refusal;
	struct key_entry *entry = NULL;

	assert_int_equal(key_table_reserve(f->table, key, f, 42, f->tenant, &refusal, &entry), 0);
	return entry;
}

static void answers_are_kept(void **state)
{
	struct fixture *f = *state;
	struct key_entry *entry = reserve(f, "k");
	const uint8_t *bytes;
	size_t n;

	assert_ptr_equal(key_table_find(f->table, "k"), entry);
	assert_false(key_entry_is_settled(entry));
	assert_false(key_entry_answer(entry, &bytes, &n));
	key_entry_keep(f->table, entry, (const uint8_t *)"answer", 6);
	assert_true(key_entry_is_settled(entry));
	assert_true(key_entry_answer(entry, &bytes, &n));
	assert_int_equal(n, 6);
	assert_memory_equal(bytes, "answer", 6);
	assert_int_equal(key_entry_hash(entry), 42);
	assert_null(key_table_find(f->table, "K"));
}

static void the_oldest_answered_makes_way(void **state)
{
	struct fixture *f = *state;
	char key[16];

	reserve(f, "in progress");
	for (int i = 0; i < KEY_TABLE_MAX - 1; i++) {
		snprintf(key, sizeof(key), "%d", i);
		key_entry_keep(f->table, reserve(f, key), NULL, 0);
	}
	assert_non_null(key_table_find(f->table, "0"));
	key_entry_keep(f->table, reserve(f, "one more"), NULL, 0);
	assert_null(key_table_find(f->table, "0"));
	assert_non_null(key_table_find(f->table, "1"));
	assert_non_null(key_table_find(f->table, "in progress"));
}

static void a_key_beyond_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	struct quota_refusal refusal;
	struct key_entry *entry = NULL;
	uint64_t one;

	reserve(f, "a");
	one = f->tenant->quota.own[QUOTA_BROKER_BYTES];
	quota_set_limit(&f->tenant->quota, QUOTA_BROKER_BYTES, 2 * one);
	reserve(f, "b");
	assert_int_equal(key_table_reserve(f->table, "c", f, 1, f->tenant, &refusal, &entry),
			 QUOTA_E_REFUSED);
	assert_null(entry);
	assert_null(key_table_find(f->table, "c"));
	key_table_forget(f->table, key_table_find(f->table, "a"));
	reserve(f, "c");
}

static void a_long_answer_displaces_older_ones_or_is_lost(void **state)
{
	struct fixture *f = *state;
	struct key_entry *old = reserve(f, "old"), *new;
	uint8_t answer[4096] = {0};
	const uint8_t *bytes;
	size_t n;

	key_entry_keep(f->table, old, (const uint8_t *)"x", 1);
	new = reserve(f, "new");
	quota_set_limit(&f->tenant->quota, QUOTA_BROKER_BYTES,
			f->tenant->quota.own[QUOTA_BROKER_BYTES]);
	key_entry_keep(f->table, new, answer, 300);
	assert_null(key_table_find(f->table, "old"));
	assert_true(key_entry_answer(new, &bytes, &n));
	key_table_forget(f->table, new);
	new = reserve(f, "again");
	key_entry_keep(f->table, new, answer, sizeof(answer));
	/* Known to have been done, so that it is not done twice. */
	assert_true(key_entry_is_settled(new));
	assert_false(key_entry_answer(new, &bytes, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(the_oldest_answered_makes_way, setup, teardown),
		cmocka_unit_test_setup_teardown(a_key_beyond_the_limit_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_answer_displaces_older_ones_or_is_lost,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
