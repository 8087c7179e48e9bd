/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idempotency keys: which requests a lease has answered, and what.  Owns the entries and
 * the bytes of the answers; never executes anything.  State thread only.
 *
 * Invariant: every entry is charged to the tenant as broker_bytes; n <= KEY_TABLE_MAX.
 */
#include "server/broker/key_table.h"

#include "server/broker/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* What an entry costs before its answer is known. */
#define ENTRY_BYTES (sizeof(struct key_entry) + 256)

struct key_entry {
	RB_ENTRY(key_entry) node;
	TAILQ_ENTRY(key_entry) age;
	const void *method;
	uint64_t hash;
	uint8_t *answer;
	size_t length;
	bool settled; /* answered; only then it may make way for others */
	bool lost;
	uint64_t order;
	struct charge charge;
	char key[KEY_MAX + 1];
};
RB_HEAD(key_tree, key_entry);
TAILQ_HEAD(key_list, key_entry);

struct key_table {
	struct key_tree tree;
	struct key_list ages;
	unsigned n;
	uint64_t last_order;
};

static int key_compare(const struct key_entry *a, const struct key_entry *b)
{
	return strcmp(a->key, b->key);
}

TREE_GENERATE(key_tree, key_entry, node, key_compare)

int key_table_new(struct key_table **ret_table)
{
	struct key_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	RB_INIT(&t->tree);
	TAILQ_INIT(&t->ages);
	*ret_table = t;
	return 0;
}

void key_table_forget(struct key_table *table, struct key_entry *entry)
{
	RB_REMOVE(key_tree, &table->tree, entry);
	TAILQ_REMOVE(&table->ages, entry, age);
	table->n--;
	charge_release(&entry->charge);
	free(entry->answer);
	free(entry);
}

void key_table_free(struct key_table *table)
{
	struct key_entry *entry;

	if (!table)
		return;
	while ((entry = TAILQ_FIRST(&table->ages)))
		key_table_forget(table, entry);
	free(table);
}

bool key_table_is_empty(const struct key_table *table)
{
	return table->n == 0;
}

struct key_entry *key_table_find(struct key_table *table, const char *key)
{
	struct key_entry find;

	if (strlen(key) > KEY_MAX)
		return NULL;
	strcpy(find.key, key);
	return RB_FIND(key_tree, &table->tree, &find);
}

/* The oldest answered request makes way; false: there is none. */
static bool key_table_evict(struct key_table *table)
{
	struct key_entry *entry;

	TAILQ_FOREACH(entry, &table->ages, age)
	if (entry->settled) {
		key_table_forget(table, entry);
		return true;
	}
	return false;
}

int key_table_reserve(struct key_table *table, const char *key, const void *method, uint64_t hash,
		      struct tenant *tenant, struct quota_refusal *ret_refusal,
		      struct key_entry **ret_entry)
{
	struct quota_amount amount = {QUOTA_BROKER_BYTES, ENTRY_BYTES};
	struct key_entry *entry;
	int r;

	if (strlen(key) > KEY_MAX)
		return -EINVAL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	if (table->n >= KEY_TABLE_MAX)
		key_table_evict(table);
	/* What is remembered makes way for what is done now. */
	while (charge_probe(tenant, &amount, 1) && key_table_evict(table))
		;
	r = charge_take(&entry->charge, tenant, &amount, 1, ret_refusal);
	if (r) {
		free(entry);
		return r;
	}
	strcpy(entry->key, key);
	entry->method = method;
	entry->hash = hash;
	entry->lost = true;
	entry->order = ++table->last_order;
	RB_INSERT(key_tree, &table->tree, entry);
	TAILQ_INSERT_TAIL(&table->ages, entry, age);
	table->n++;
	*ret_entry = entry;
	return 0;
}

void key_entry_keep(struct key_table *table, struct key_entry *entry, const uint8_t *answer,
		    size_t length)
{
	struct quota_refusal refusal;

	/* A long answer needs more room than was reserved: older answers make way. */
	while (length > 256 &&
	       charge_grow(&entry->charge, QUOTA_BROKER_BYTES, length - 256, &refusal)) {
		if (!key_table_evict(table)) {
			entry->settled = true;
			return;
		}
	}
	entry->settled = true;
	entry->answer = malloc(length ? length : 1);
	if (!entry->answer)
		return;
	if (length)
		memcpy(entry->answer, answer, length);
	entry->length = length;
	entry->lost = false;
}

void key_entry_lose(struct key_entry *entry)
{
	entry->settled = true;
}

const struct key_entry *key_table_oldest(const struct key_table *table)
{
	return table ? TAILQ_FIRST(&table->ages) : NULL;
}

const struct key_entry *key_entry_newer(const struct key_entry *entry)
{
	return TAILQ_NEXT(entry, age);
}

const struct charge *key_entry_charge(const struct key_entry *entry)
{
	return &entry->charge;
}

const char *key_entry_key(const struct key_entry *entry)
{
	return entry->key;
}

uint64_t key_entry_order(const struct key_entry *entry)
{
	return entry->order;
}

const void *key_entry_method(const struct key_entry *entry)
{
	return entry->method;
}

uint64_t key_entry_hash(const struct key_entry *entry)
{
	return entry->hash;
}

bool key_entry_is_settled(const struct key_entry *entry)
{
	return entry->settled;
}

bool key_entry_answer(const struct key_entry *entry, const uint8_t **ret_bytes, size_t *ret_length)
{
	if (entry->lost)
		return false;
	*ret_bytes = entry->answer;
	*ret_length = entry->length;
	return true;
}
