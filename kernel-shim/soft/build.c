/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See build.h.  Every operation is a recursion down the levels, at most SOFT_LEVELS_MAX
 * deep.  Ranges are [at, last], inclusive, so that the top of the address space needs no
 * special case.  Entries of tables that walks can reach are accessed atomically.
 */

#include "soft/build.h"

#include <string.h>

static uint64_t entry_get(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

static void entry_set(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* Last address that the entry of this level at this address maps. */
static uint64_t slot_last(unsigned int level, uint64_t at)
{
	return at | ((1ull << soft_level_shift(level)) - 1);
}

static bool is_leaf(const struct soft_builder *b, unsigned int level, uint64_t raw,
		    uint64_t *ret_table)
{
	/* Our own entries have no reserved bits, whatever the IOMMU. */
	static const struct soft_env env = {
		.output_bits = 52,
		.snoop_control = true,
		.device_tlb = true,
	};
	struct soft_entry entry;

	if (level == 1)
		return true;
	b->format->decode(&env, level, raw, &entry);
	*ret_table = entry.address;
	return entry.kind != SOFT_ENTRY_TABLE;
}

static uint64_t leaf_size(const struct soft_builder *b, unsigned int level)
{
	uint64_t size = 1ull << soft_level_shift(level);

	return b->format->page_sizes & size ? size : 0;
}

/* A page of this level can map [at, last] wholly or from at on. */
static bool leaf_fits(const struct soft_builder *b, unsigned int level, uint64_t at, uint64_t last,
		      uint64_t target)
{
	uint64_t size = leaf_size(b, level);

	return size && !((at | target) & (size - 1)) && last - at >= size - 1;
}

/* ---- map ---- */

struct mapping {
	const struct soft_builder *b;
	uint64_t at, last, target;
	uint32_t prot;
};

/* Two entries that are stored at once, where the machine can. */
typedef uint64_t entry_pair __attribute__((vector_size(16), aligned(8)));

/* Leaves of consecutive pages, in a table that nobody looks into yet. */
static void fill(uint64_t *entries, uint64_t n, uint64_t leaf, uint64_t step)
{
	entry_pair next = {leaf, leaf + step}, two = {2 * step, 2 * step};
	uint64_t i = 0;

	for (; i + 8 <= n; i += 8) {
		entry_pair *at = (entry_pair *)&entries[i];

		at[0] = next;
		at[1] = next + two;
		at[2] = next + two + two;
		at[3] = next + two + two + two;
		next += two + two + two + two;
	}
	for (; i < n; i++)
		entries[i] = leaf + i * step;
}

/*
 * Maps from m->at to last (within this table) and moves m->at on.  private: no walk can
 * reach the table yet.
 */
static int map_table(struct mapping *m, uint64_t table, unsigned int level, uint64_t last,
		     bool private)
{
	const struct soft_builder *b = m->b;
	uint64_t *entries = soft_table_entries(b->tables, table);
	struct soft_table_record *record = soft_table_record(b->tables, table);
	unsigned int index = soft_level_index(level, m->at);

	for (;; index++) {
		uint64_t end = slot_last(level, m->at) < last ? slot_last(level, m->at) : last;
		uint64_t raw = private && level == 1 ? 0 : entry_get(&entries[index]);

		if (leaf_fits(b, level, m->at, last, m->target)) {
			unsigned int shift = soft_level_shift(level);
			uint64_t step = 1ull << shift;
			uint64_t n = ((last - m->at) >> shift) + (slot_last(level, last) == last);
			uint64_t leaf = b->format->make_leaf(level, m->target, m->prot, b->snoop);

			if (b->clean)
				leaf &= ~b->format->dirty;
			if (n > SOFT_TABLE_ENTRIES - index)
				n = SOFT_TABLE_ENTRIES - index;
			if (private && level == 1) {
				fill(&entries[index], n, leaf, step);
			} else {
				for (uint64_t i = 0; i < n; i++) {
					if (entry_get(&entries[index + i])) {
						n = i;
						raw = 1;
						break;
					}
					entry_set(&entries[index + i], leaf + i * step);
				}
			}
			record->used += (uint16_t)n;
			m->target += n << shift;
			m->at += n << shift; /* wraps to 0 after the very last page */
			if (raw)
				return SHIM_E_OVERLAP;
			index += (unsigned int)n - 1;
			if (m->at - 1 == last)
				return 0;
			continue;
		}
		if (raw) {
			uint64_t child;
			int r;

			if (is_leaf(b, level, raw, &child))
				return SHIM_E_OVERLAP;
			r = map_table(m, child, level - 1, end, private);
			if (r)
				return r;
		} else {
			/* All of a lowest table will be written: its old bytes do not matter. */
			bool full = level == 2 && end - m->at == slot_last(2, 0);
			uint64_t child;
			int r;

			r = soft_tables_get(b->tables, !full, &child);
			if (r)
				return r;
			r = map_table(m, child, level - 1, end, true);
			if (r && !soft_table_record(b->tables, child)->used) {
				struct soft_table_list list = {0};

				soft_table_list_add(b->tables, &list, child);
				soft_tables_put(b->tables, &list);
				return r;
			}
			++*b->n_tables;
			record->used++;
			entry_set(&entries[index], b->format->make_table(child));
			if (r)
				return r;
		}
		if (m->at - 1 == last)
			return 0;
	}
}

int soft_build_map(const struct soft_builder *b, uint64_t iova, uint64_t length, uint64_t target,
		   uint32_t prot, uint64_t *ret_done)
{
	struct mapping m = {
		.b = b,
		.at = iova,
		.last = iova + length - 1,
		.target = target,
		.prot = prot,
	};
	bool new_root = !*b->root;
	uint64_t root = *b->root;
	int r;

	*ret_done = 0;
	if (new_root) {
		r = soft_tables_get(b->tables, true, &root);
		if (r)
			return r;
	}
	r = map_table(&m, root, b->format->levels, m.last, new_root);
	if (new_root) {
		if (soft_table_record(b->tables, root)->used) {
			++*b->n_tables;
			__atomic_store_n(b->root, root, __ATOMIC_RELEASE);
		} else {
			struct soft_table_list list = {0};

			soft_table_list_add(b->tables, &list, root);
			soft_tables_put(b->tables, &list);
		}
	}
	if (r)
		*ret_done = m.at - iova;
	return r;
}

/* ---- unmap ---- */

static bool whole_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			uint64_t at, uint64_t last)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	unsigned int index = soft_level_index(level, at);
	uint64_t size = 1ull << soft_level_shift(level);

	if (level == 1 && last - at == size * SOFT_TABLE_ENTRIES - 1)
		return soft_table_record(b->tables, table)->used == SOFT_TABLE_ENTRIES;
	for (;; index++) {
		uint64_t end = slot_last(level, at) < last ? slot_last(level, at) : last;
		uint64_t raw = entry_get(&entries[index]), child;

		if (!raw)
			return false;
		if (is_leaf(b, level, raw, &child)) {
			if (end - at != size - 1)
				return false;
		} else if (!whole_table(b, child, level - 1, at, end)) {
			return false;
		}
		if (end == last)
			return true;
		at = end + 1;
	}
}

bool soft_build_is_whole(const struct soft_builder *b, uint64_t iova, uint64_t length)
{
	return *b->root && whole_table(b, *b->root, b->format->levels, iova, iova + length - 1);
}

static void clear_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			struct soft_table_list *dead)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	unsigned int used = soft_table_record(b->tables, table)->used;

	for (unsigned int i = 0; level > 1 && used; i++) {
		uint64_t raw = entry_get(&entries[i]), child;

		if (!raw)
			continue;
		used--;
		if (!is_leaf(b, level, raw, &child))
			clear_table(b, child, level - 1, dead);
	}
	--*b->n_tables;
	soft_table_list_add(b->tables, dead, table);
}

static void unmap_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			uint64_t at, uint64_t last, struct soft_table_list *dead)
{
	uint64_t *entries = soft_table_entries(b->tables, table);
	struct soft_table_record *record = soft_table_record(b->tables, table);
	unsigned int index = soft_level_index(level, at);

	for (;; index++) {
		uint64_t end = slot_last(level, at) < last ? slot_last(level, at) : last;
		uint64_t raw = entry_get(&entries[index]), child;
		bool gone = raw;

		if (raw && !is_leaf(b, level, raw, &child)) {
			if (end - at == slot_last(level, 0)) {
				clear_table(b, child, level - 1, dead);
			} else {
				unmap_table(b, child, level - 1, at, end, dead);
				gone = !soft_table_record(b->tables, child)->used;
				if (gone) {
					--*b->n_tables;
					soft_table_list_add(b->tables, dead, child);
				}
			}
		}
		if (gone) {
			entry_set(&entries[index], 0);
			record->used--;
		}
		if (end == last)
			return;
		at = end + 1;
	}
}

void soft_build_unmap(const struct soft_builder *b, uint64_t iova, uint64_t length,
		      struct soft_table_list *dead)
{
	uint64_t root = *b->root;

	if (!root)
		return;
	unmap_table(b, root, b->format->levels, iova, iova + length - 1, dead);
	if (!soft_table_record(b->tables, root)->used) {
		__atomic_store_n(b->root, 0, __ATOMIC_RELEASE);
		--*b->n_tables;
		soft_table_list_add(b->tables, dead, root);
	}
}

void soft_build_clear(const struct soft_builder *b, struct soft_table_list *dead)
{
	uint64_t root = *b->root;

	if (!root)
		return;
	__atomic_store_n(b->root, 0, __ATOMIC_RELEASE);
	clear_table(b, root, b->format->levels, dead);
}

/* ---- bound ---- */

/*
 * Tables that mapping [at, last] needs below an empty entry (or an empty root) of this
 * level: one for each entry of each lower level that the range touches.  Where the target
 * is aligned as the address is, pages of that level cover all but the two ends.
 */
static uint64_t bound_empty(const struct soft_builder *b, unsigned int level, uint64_t at,
			    uint64_t last, uint64_t target)
{
	uint64_t n = 0;

	for (unsigned int l = level; l >= 2; l--) {
		unsigned int shift = soft_level_shift(l);
		uint64_t slots = (last >> shift) - (at >> shift) + 1;
		uint64_t rest = leaf_size(b, l) - 1;

		if (leaf_size(b, l) && !((at ^ target) & rest)) {
			bool head = (at & rest) != 0, tail = (~last & rest) != 0;

			n += slots == 1 ? head || tail : (uint64_t)head + tail;
		} else {
			n += slots;
		}
	}
	return n;
}

static uint64_t bound_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			    uint64_t at, uint64_t last, uint64_t target)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	uint64_t n = 0;

	if (level == 1)
		return 0;
	for (;;) {
		uint64_t end = slot_last(level, at) < last ? slot_last(level, at) : last;
		uint64_t raw = entry_get(&entries[soft_level_index(level, at)]), child;

		if (!raw)
			n += leaf_fits(b, level, at, end, target)
				     ? 0
				     : bound_empty(b, level, at, end, target);
		else if (!is_leaf(b, level, raw, &child))
			n += bound_table(b, child, level - 1, at, end, target);
		if (end == last)
			return n;
		target += end + 1 - at;
		at = end + 1;
	}
}

uint64_t soft_build_bound(const struct soft_builder *b, uint64_t iova, uint64_t length,
			  uint64_t target)
{
	uint64_t last = iova + length - 1;

	if (!*b->root)
		return 1 + bound_empty(b, b->format->levels, iova, last, target);
	return bound_table(b, *b->root, b->format->levels, iova, last, target);
}
