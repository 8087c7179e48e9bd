/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See tables.h.  The table of edges is never more than half full; a removal closes the gap
 * behind it, so that there are no tombstones and no growth without mappings.
 */

#include "iommufd/tables.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A table page of level n has entries for this many bits: x86 of all kinds, 512 entries. */
static const unsigned char shifts[] = {21, 30, 39, 48};
#define N_SHIFTS    (sizeof(shifts) / sizeof(shifts[0]))
#define EDGES_MAX   (2 * N_SHIFTS) /* of one mapping */
#define ROOM_MIN    64u
#define KEY_NOTHING 0 /* keys are counted from 1 */

struct tables_edge {
	uint64_t key;
	uint64_t count;
};

/* The regions of one mapping: those it has to itself, and keys of those at its ends. */
struct regions {
	uint64_t own;
	uint64_t keys[EDGES_MAX];
	size_t n_keys;
};

static uint64_t key_of(uint64_t region, size_t level)
{
	return (region * N_SHIFTS + level) + 1;
}

static void regions_of(uint64_t iova, uint64_t length, struct regions *ret)
{
	uint64_t end_of = iova + length - 1;

	*ret = (struct regions){0};
	for (size_t level = 0; level < N_SHIFTS; level++) {
		uint64_t size = UINT64_C(1) << shifts[level];
		uint64_t first = iova >> shifts[level], last = end_of >> shifts[level];
		bool first_shared = iova & (size - 1), last_shared = (end_of + 1) & (size - 1);

		ret->own += last - first + 1;
		if (first_shared || (first == last && last_shared)) {
			ret->own--;
			ret->keys[ret->n_keys++] = key_of(first, level);
		}
		if (last_shared && first != last) {
			ret->own--;
			ret->keys[ret->n_keys++] = key_of(last, level);
		}
	}
}

static size_t home_of(const struct tables *tables, uint64_t key)
{
	return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (tables->room - 1);
}

/* Where the key is, or would be put. */
static size_t slot_of(const struct tables *tables, uint64_t key)
{
	size_t i = home_of(tables, key);

	while (tables->edges[i].key != KEY_NOTHING && tables->edges[i].key != key)
		i = (i + 1) & (tables->room - 1);
	return i;
}

int tables_reserve(struct tables *tables, size_t n)
{
	struct tables grown = *tables;
	size_t needed;

	if (n > SIZE_MAX / (4 * EDGES_MAX) - tables->used)
		return -ENOMEM;
	needed = 2 * (tables->used + n * EDGES_MAX);
	if (needed <= tables->room)
		return 0;
	for (grown.room = ROOM_MIN; grown.room < needed;)
		grown.room *= 2;
	grown.edges = calloc(grown.room, sizeof(*grown.edges));
	if (!grown.edges)
		return -ENOMEM;
	for (size_t i = 0; i < tables->room; i++)
		if (tables->edges[i].key != KEY_NOTHING)
			grown.edges[slot_of(&grown, tables->edges[i].key)] = tables->edges[i];
	free(tables->edges);
	*tables = grown;
	return 0;
}

void tables_add(struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks)
{
	struct regions regions;

	regions_of(iova, length, &regions);
	tables->pages += regions.own;
	tables->chunks += chunks;
	for (size_t i = 0; i < regions.n_keys; i++) {
		struct tables_edge *edge = &tables->edges[slot_of(tables, regions.keys[i])];

		if (edge->key == KEY_NOTHING) {
			edge->key = regions.keys[i];
			tables->used++;
			tables->pages++;
		}
		edge->count++;
	}
}

/* Takes slot i out and moves up what would no longer be found behind the gap. */
static void close_gap(struct tables *tables, size_t i)
{
	size_t mask = tables->room - 1;

	for (size_t k = (i + 1) & mask; tables->edges[k].key != KEY_NOTHING; k = (k + 1) & mask) {
		size_t home = home_of(tables, tables->edges[k].key);

		if (((k - home) & mask) < ((k - i) & mask))
			continue;
		tables->edges[i] = tables->edges[k];
		i = k;
	}
	tables->edges[i] = (struct tables_edge){0};
	tables->used--;
}

void tables_remove(struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks)
{
	struct regions regions;

	if (!tables->room)
		return;
	regions_of(iova, length, &regions);
	tables->pages -= regions.own;
	tables->chunks -= chunks;
	for (size_t i = 0; i < regions.n_keys; i++) {
		size_t slot = slot_of(tables, regions.keys[i]);

		/* Against the contract: it was not added. */
		if (tables->edges[slot].key == KEY_NOTHING)
			continue;
		if (--tables->edges[slot].count)
			continue;
		close_gap(tables, slot);
		tables->pages--;
	}
}

void tables_clear(struct tables *tables)
{
	free(tables->edges);
	*tables = (struct tables){0};
}

uint64_t tables_bytes(const struct tables *tables)
{
	return tables->pages * TABLES_PAGE + tables->chunks * TABLES_CHUNK_BYTES;
}

uint64_t tables_bound(const struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks)
{
	struct regions regions;
	uint64_t pages;

	regions_of(iova, length, &regions);
	pages = regions.own;
	for (size_t i = 0; i < regions.n_keys; i++)
		pages += !tables->room ||
			 tables->edges[slot_of(tables, regions.keys[i])].key == KEY_NOTHING;
	return pages * TABLES_PAGE + chunks * TABLES_CHUNK_BYTES;
}
