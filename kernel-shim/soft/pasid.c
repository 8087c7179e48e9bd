/* SPDX-License-Identifier: Apache-2.0 */

/* See pasid.h. */

#include "soft/pasid.h"

#include <errno.h>
#include <stdlib.h>

#define BITS   7
#define LEVELS 3
#define SLOTS  (1u << BITS)

struct soft_pasid_node {
	void *slots[SLOTS]; /* nodes; at level 0 page tables */
	unsigned int used;
};

static unsigned int slot_of(uint32_t pasid, unsigned int level)
{
	return (pasid >> (BITS * level)) & (SLOTS - 1);
}

struct shim_pt *soft_pasid_get(const struct soft_pasid_table *table, uint32_t pasid)
{
	const struct soft_pasid_node *node = __atomic_load_n(&table->root, __ATOMIC_ACQUIRE);

	if (pasid >> (BITS * LEVELS))
		return NULL;
	for (unsigned int level = LEVELS - 1; node && level; level--)
		node = __atomic_load_n(&node->slots[slot_of(pasid, level)], __ATOMIC_ACQUIRE);
	return node ? __atomic_load_n(&node->slots[slot_of(pasid, 0)], __ATOMIC_ACQUIRE) : NULL;
}

/* Frees nodes without an entry on the way to this PASID. */
static void prune(struct soft_pasid_table *table, uint32_t pasid)
{
	struct soft_pasid_node *path[LEVELS], *node = table->root;
	unsigned int level = LEVELS;

	while (level && node) {
		path[--level] = node;
		node = level ? node->slots[slot_of(pasid, level)] : NULL;
	}
	for (; level < LEVELS && !path[level]->used; level++) {
		free(path[level]);
		if (level == LEVELS - 1) {
			table->root = NULL;
		} else {
			path[level + 1]->slots[slot_of(pasid, level + 1)] = NULL;
			path[level + 1]->used--;
		}
	}
}

int soft_pasid_set(struct soft_pasid_table *table, uint32_t pasid, struct shim_pt *pt)
{
	struct soft_pasid_node *node = NULL;
	void **slot = (void **)&table->root;

	for (unsigned int level = LEVELS; level; level--) {
		struct soft_pasid_node *parent = node;

		node = *slot;
		if (!node) {
			node = calloc(1, sizeof(*node));
			/* Nodes made on the way stay: a lookup may be in them. */
			if (!node)
				return -ENOMEM;
			if (parent)
				parent->used++;
			__atomic_store_n(slot, node, __ATOMIC_RELEASE);
		}
		slot = &node->slots[slot_of(pasid, level - 1)];
	}
	if (!*slot)
		node->used++;
	__atomic_store_n(slot, pt, __ATOMIC_RELEASE);
	return 0;
}

void soft_pasid_clear(struct soft_pasid_table *table, uint32_t pasid)
{
	struct soft_pasid_node *node = table->root;

	for (unsigned int level = LEVELS - 1; node && level; level--)
		node = node->slots[slot_of(pasid, level)];
	if (!node || !node->slots[slot_of(pasid, 0)])
		return;
	node->slots[slot_of(pasid, 0)] = NULL;
	node->used--;
	prune(table, pasid);
}

static void drain(struct soft_pasid_node *node, unsigned int level,
		  void (*each)(struct shim_pt *pt))
{
	for (unsigned int i = 0; i < SLOTS && node->used; i++) {
		if (!node->slots[i])
			continue;
		node->used--;
		if (level)
			drain(node->slots[i], level - 1, each);
		else
			each(node->slots[i]);
	}
	free(node);
}

void soft_pasid_drain(struct soft_pasid_table *table, void (*each)(struct shim_pt *pt))
{
	if (table->root)
		drain(table->root, LEVELS - 1, each);
	table->root = NULL;
}
