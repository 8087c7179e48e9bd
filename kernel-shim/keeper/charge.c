/* SPDX-License-Identifier: Apache-2.0 */
/* See charge.h. */
#include "charge.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct charge_owner {
	char name[KEEPER_OWNER_MAX]; /* first: the tree compares it */
	unsigned n[_CHARGE_KINDS];
	unsigned n_all;
};

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static struct charge_owner *owner_get(struct charge_table *table, const char *name)
{
	void **node = tfind(name, &table->owners, compare);
	struct charge_owner *owner;

	if (node)
		return *node;
	owner = calloc(1, sizeof(*owner));
	if (!owner)
		return NULL;
	snprintf(owner->name, sizeof(owner->name), "%s", name);
	if (!tsearch(owner, &table->owners, compare)) {
		free(owner);
		return NULL;
	}
	return owner;
}

static void owner_put(struct charge_table *table, struct charge_owner *owner)
{
	if (owner->n_all)
		return;
	tdelete(owner, &table->owners, compare);
	free(owner);
}

int charge_take(struct charge_table *table, enum charge_kind kind, const char *owner_name,
		char *ret_reason, struct charge *ret_charge)
{
	static const char *const names[] = {"contexts", "devices", "held fds"};
	const struct charge_limits *limits = &table->limits;
	struct charge_owner *owner = owner_get(table, owner_name);

	if (!owner)
		return -ENOMEM;
	if (owner->n[kind] >= limits->owner[kind] || table->n[kind] >= limits->total[kind]) {
		if (owner->n[kind] >= limits->owner[kind])
			snprintf(ret_reason, KEEPER_REASON_MAX, "%.100s has %u %s already",
				 owner->name, owner->n[kind], names[kind]);
		else
			snprintf(ret_reason, KEEPER_REASON_MAX, "the keeper has %u %s already",
				 table->n[kind], names[kind]);
		owner_put(table, owner);
		return KEEPER_E_LIMIT;
	}
	owner->n[kind]++;
	owner->n_all++;
	table->n[kind]++;
	*ret_charge = (struct charge){.kind = kind, .owner = owner};
	return 0;
}

void charge_give_back(struct charge_table *table, struct charge *charge)
{
	struct charge_owner *owner = charge->owner;

	if (!owner)
		return;
	assert(owner->n[charge->kind] && table->n[charge->kind]);
	owner->n[charge->kind]--;
	owner->n_all--;
	table->n[charge->kind]--;
	charge->owner = NULL;
	owner_put(table, owner);
}

const char *charge_owner_name(const struct charge *charge)
{
	return charge->owner->name;
}

void charge_table_deinit(struct charge_table *table)
{
	for (size_t i = 0; i < _CHARGE_KINDS; i++)
		assert(table->n[i] == 0);
	assert(!table->owners);
}
