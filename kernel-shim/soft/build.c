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

static unsigned int level_shift(const struct soft_builder *b, unsigned int level)
{
	return soft_format_shift(b->format, level);
}

/* Last address that the entry of this level at this address maps. */
static uint64_t slot_last(const struct soft_builder *b, unsigned int level, uint64_t at)
{
	return at | ((1ull << level_shift(b, level)) - 1);
}

static uint64_t slot_end(const struct soft_builder *b, unsigned int level, uint64_t at,
			 uint64_t last)
{
	uint64_t end = slot_last(b, level, at);

	return end < last ? end : last;
}

static unsigned int index_of(const struct soft_builder *b, unsigned int level, uint64_t at)
{
	return soft_shape_index(b->format, b->shape, level, at);
}

static uint64_t entries_of(const struct soft_builder *b, unsigned int level)
{
	return 1ull << (level == b->shape->levels ? b->shape->root_bits
						  : soft_format_stride(b->format));
}

/* Pages of a table of this level, as an order. */
static unsigned int order_of(const struct soft_builder *b, unsigned int level)
{
	unsigned int bits =
		level == b->shape->levels ? b->shape->root_bits + 3u : b->format->granule;

	return bits > SOFT_PAGE_SHIFT ? bits - SOFT_PAGE_SHIFT : 0;
}

static uint32_t pages_of(const struct soft_builder *b, unsigned int level)
{
	return 1u << order_of(b, level);
}

/* Not a leaf: *ret_entry says where the table is. */
static bool is_leaf(const struct soft_builder *b, unsigned int level, uint64_t raw,
		    struct soft_entry *ret_entry)
{
	struct soft_env env = b->env;

	/* Our own entries have no reserved bits, whatever the IOMMU. */
	env.output_bits = 56;
	env.snoop_control = true;
	env.device_tlb = true;
	b->format->decode(&env, level, raw, ret_entry);
	return ret_entry->kind != SOFT_ENTRY_TABLE;
}

/* Sizes of leaves that stand at this level. */
static uint64_t level_sizes(const struct soft_builder *b, unsigned int level)
{
	return b->format->page_sizes &
	       soft_bits(level_shift(b, level),
			 level_shift(b, level + 1) < 64 ? level_shift(b, level + 1) : 64);
}

/* log2 of the largest leaf of this level that can stand at the start of [at, last]; 0: none. */
static unsigned int leaf_shift(const struct soft_builder *b, unsigned int level, uint64_t at,
			       uint64_t last, uint64_t target)
{
	uint64_t sizes = level_sizes(b, level), length = last - at + 1;

	if (at | target)
		sizes &= soft_bits(0, (unsigned int)__builtin_ctzll(at | target) + 1);
	if (length)
		sizes &= soft_bits(0, 64 - (unsigned int)__builtin_clzll(length));
	return sizes ? 63 - (unsigned int)__builtin_clzll(sizes) : 0;
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

static uint64_t leaf_of(const struct mapping *m, unsigned int level, unsigned int shift,
			uint64_t target)
{
	const struct soft_builder *b = m->b;
	uint64_t leaf = b->format->make_leaf(&b->env, level, shift, target, m->prot, b->snoop);

	return b->clean && b->format->set_dirty ? b->format->set_dirty(leaf, false) : leaf;
}

/*
 * Writes n entries, each for the next part of the target.  Mostly an entry is the one before
 * plus a constant; it is not where the field of the address is in pieces (ARM's 52 bits).
 */
static void put_leaves(const struct mapping *m, uint64_t *entries, uint64_t n, unsigned int level,
		       unsigned int shift, bool fresh)
{
	uint64_t size = 1ull << level_shift(m->b, level);
	uint64_t leaf = leaf_of(m, level, shift, m->target), step;
	bool linear;

	if (n == 1) {
		entry_set(entries, leaf);
		return;
	}
	step = leaf_of(m, level, shift, m->target + size) - leaf;
	linear = leaf_of(m, level, shift, m->target + (n - 1) * size) == leaf + (n - 1) * step;
	if (linear && fresh) {
		fill(entries, n, leaf, step);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		entry_set(&entries[i], linear ? leaf + i * step
					      : leaf_of(m, level, shift, m->target + i * size));
}

/* How many of n entries are empty, from the first on. */
static uint64_t count_empty(const uint64_t *entries, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		if (entry_get(&entries[i]))
			break;
	return i;
}

/* How many of n leaves of the level's own size stand before a larger one could. */
static uint64_t before_larger(const struct mapping *m, unsigned int level, uint64_t n)
{
	unsigned int own = level_shift(m->b, level);
	uint64_t larger = level_sizes(m->b, level) >> own >> 1, rest, until;

	if (!larger)
		return n;
	rest = (2ull << own << __builtin_ctzll(larger)) - 1;
	if ((m->at ^ m->target) & rest)
		return n;
	until = (rest - (m->at & rest) + 1) >> own;
	return until < n ? until : n;
}

/*
 * Leaves from m->at on, of 2^shift bytes each: as many as are alike and fit in the table.
 * fresh: its entries' old bytes do not matter.  SHIM_E_OVERLAP: what was free before is mapped.
 */
static int map_leaves(struct mapping *m, uint64_t table, unsigned int level, unsigned int shift,
		      uint64_t last, bool fresh)
{
	const struct soft_builder *b = m->b;
	unsigned int own = level_shift(b, level), index = index_of(b, level, m->at);
	uint64_t *entries = soft_table_entries(b->tables, table) + index;
	uint64_t n, free;

	if (shift == own) {
		n = ((last - m->at) >> own) + (slot_last(b, level, last) == last);
		if (n > entries_of(b, level) - index)
			n = entries_of(b, level) - index;
		n = before_larger(m, level, n);
	} else {
		n = 1ull << (shift - own);
	}
	free = fresh ? n : count_empty(entries, n);
	/* A leaf of several entries is made as a whole. */
	if (free < n && shift > own)
		return SHIM_E_OVERLAP;
	if (free) {
		put_leaves(m, entries, free, level, shift, fresh);
		soft_table_record(b->tables, table)->used += (uint16_t)free;
		m->target += free << own;
		m->at += free << own; /* wraps to 0 after the very last page */
	}
	return free < n ? SHIM_E_OVERLAP : 0;
}

static int map_table(struct mapping *m, uint64_t table, unsigned int level, uint64_t last,
		     bool private);

/* A new table below an empty entry, and what of the mapping goes into it. */
static int map_below(struct mapping *m, uint64_t table, uint64_t *entry, unsigned int level,
		     uint64_t end)
{
	const struct soft_builder *b = m->b;
	/* All of a lowest table will be written: its old bytes do not matter. */
	bool full = level == 2 && end - m->at == slot_last(b, 2, 0);
	uint64_t child;
	int r;

	r = soft_tables_get(b->tables, order_of(b, level - 1), !full, &child);
	if (r)
		return r;
	r = map_table(m, child, level - 1, end, true);
	if (r && !soft_table_record(b->tables, child)->used) {
		struct soft_table_list list = {0};

		soft_table_list_add(b->tables, &list, child);
		soft_tables_put(b->tables, &list);
		return r;
	}
	*b->n_tables += pages_of(b, level - 1);
	soft_table_record(b->tables, table)->used++;
	entry_set(entry, b->format->make_table(&b->env, level, child));
	return r;
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
	int r;

	for (;;) {
		uint64_t *entry = &entries[index_of(b, level, m->at)];
		uint64_t end = slot_end(b, level, m->at, last), raw;
		unsigned int shift = leaf_shift(b, level, m->at, last, m->target);
		struct soft_entry child;

		if (shift) {
			r = map_leaves(m, table, level, shift, last, private && level == 1);
		} else {
			raw = entry_get(entry);
			if (!raw)
				r = map_below(m, table, entry, level, end);
			else if (is_leaf(b, level, raw, &child))
				r = SHIM_E_OVERLAP;
			else
				r = map_table(m, child.address, level - 1, end, private);
		}
		if (r || m->at - 1 == last)
			return r;
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
		r = soft_tables_get(b->tables, order_of(b, b->shape->levels), true, &root);
		if (r)
			return r;
	}
	r = map_table(&m, root, b->shape->levels, m.last, new_root);
	if (new_root) {
		if (soft_table_record(b->tables, root)->used) {
			*b->n_tables += pages_of(b, b->shape->levels);
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
			uint64_t first, uint64_t last)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	uint64_t size = 1ull << level_shift(b, level), at = first;

	if (level == 1 && level < b->shape->levels &&
	    last - first == size * entries_of(b, level) - 1)
		return soft_table_record(b->tables, table)->used == entries_of(b, level);
	for (;;) {
		uint64_t end = slot_end(b, level, at, last);
		uint64_t raw = entry_get(&entries[index_of(b, level, at)]);
		struct soft_entry entry;

		if (!raw)
			return false;
		if (is_leaf(b, level, raw, &entry)) {
			uint64_t rest = (1ull << entry.group) - 1;

			if ((at & ~rest) < first || (at | rest) > last)
				return false;
		} else if (!whole_table(b, entry.address, level - 1, at, end)) {
			return false;
		}
		if (end == last)
			return true;
		at = end + 1;
	}
}

bool soft_build_is_whole(const struct soft_builder *b, uint64_t iova, uint64_t length)
{
	return *b->root && whole_table(b, *b->root, b->shape->levels, iova, iova + length - 1);
}

/* A table goes with all below it. */
static void clear_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			struct soft_table_list *dead)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	unsigned int used = soft_table_record(b->tables, table)->used;

	for (unsigned int i = 0; level > 1 && used; i++) {
		uint64_t raw = entry_get(&entries[i]);
		struct soft_entry child;

		if (!raw)
			continue;
		used--;
		if (!is_leaf(b, level, raw, &child))
			clear_table(b, child.address, level - 1, dead);
	}
	*b->n_tables -= pages_of(b, level);
	soft_table_list_add(b->tables, dead, table);
}

static void unmap_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			uint64_t at, uint64_t last, struct soft_table_list *dead)
{
	uint64_t *entries = soft_table_entries(b->tables, table);
	struct soft_table_record *record = soft_table_record(b->tables, table);

	for (;;) {
		uint64_t *entry = &entries[index_of(b, level, at)];
		uint64_t end = slot_end(b, level, at, last), raw = entry_get(entry);
		struct soft_entry child;
		bool gone = raw;

		if (raw && level > 1 && !is_leaf(b, level, raw, &child)) {
			if (end - at == slot_last(b, level, 0)) {
				clear_table(b, child.address, level - 1, dead);
			} else {
				unmap_table(b, child.address, level - 1, at, end, dead);
				gone = !soft_table_record(b->tables, child.address)->used;
				if (gone) {
					*b->n_tables -= pages_of(b, level - 1);
					soft_table_list_add(b->tables, dead, child.address);
				}
			}
		}
		if (gone) {
			entry_set(entry, 0);
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
	unmap_table(b, root, b->shape->levels, iova, iova + length - 1, dead);
	if (!soft_table_record(b->tables, root)->used) {
		__atomic_store_n(b->root, 0, __ATOMIC_RELEASE);
		*b->n_tables -= pages_of(b, b->shape->levels);
		soft_table_list_add(b->tables, dead, root);
	}
}

void soft_build_clear(const struct soft_builder *b, struct soft_table_list *dead)
{
	uint64_t root = *b->root;

	if (!root)
		return;
	__atomic_store_n(b->root, 0, __ATOMIC_RELEASE);
	clear_table(b, root, b->shape->levels, dead);
}

/* ---- bound ---- */

/* Entries of 2^shift bytes that [at, last] touches. */
static uint64_t slots(uint64_t at, uint64_t last, unsigned int shift)
{
	return (last >> shift) - (at >> shift) + 1;
}

/*
 * How many of the entries of 2^shift bytes that [at, last] touches lead to tables: those before
 * and behind what pages of 2^page bytes cover, the smallest that are not smaller.
 */
static uint64_t bound_slots(uint64_t at, uint64_t last, unsigned int shift, unsigned int page)
{
	uint64_t rest = (1ull << page) - 1, first_in = (at + rest) & ~rest, last_in = last, n = 0;

	if (~last & rest) {
		if (last <= rest)
			return slots(at, last, shift);
		last_in = (last & ~rest) - 1;
	}
	if (first_in < at || last_in < first_in)
		return slots(at, last, shift);
	if (at < first_in)
		n += slots(at, first_in - 1, shift);
	if (last_in < last)
		n += slots(last_in + 1, last, shift);
	return n;
}

/*
 * Pages of the tables that mapping [at, last] needs below an empty entry (or an empty root) of
 * this level: one table for each entry of each lower level that the range touches, but for
 * what large pages cover where the target is aligned as the address is.
 */
static uint64_t bound_empty(const struct soft_builder *b, unsigned int level, uint64_t at,
			    uint64_t last, uint64_t target)
{
	uint64_t n = 0;

	for (unsigned int l = level; l >= 2; l--) {
		unsigned int shift = level_shift(b, l), page;
		uint64_t sizes = b->format->page_sizes & ~soft_bits(0, shift);

		page = sizes ? (unsigned int)__builtin_ctzll(sizes) : 0;
		if (sizes && !((at ^ target) & soft_bits(0, page)))
			n += bound_slots(at, last, shift, page);
		else
			n += slots(at, last, shift);
	}
	return n * pages_of(b, 1);
}

static uint64_t bound_table(const struct soft_builder *b, uint64_t table, unsigned int level,
			    uint64_t at, uint64_t last, uint64_t target)
{
	const uint64_t *entries = soft_table_entries(b->tables, table);
	uint64_t n = 0;

	if (level == 1)
		return 0;
	for (;;) {
		uint64_t end = slot_end(b, level, at, last);
		uint64_t raw = entry_get(&entries[index_of(b, level, at)]);
		struct soft_entry child;

		if (!raw)
			n += leaf_shift(b, level, at, end, target)
				     ? 0
				     : bound_empty(b, level, at, end, target);
		else if (!is_leaf(b, level, raw, &child))
			n += bound_table(b, child.address, level - 1, at, end, target);
		if (end == last)
			return n;
		target += end + 1 - at;
		at = end + 1;
	}
}

uint64_t soft_build_bound(const struct soft_builder *b, uint64_t iova, uint64_t length,
			  uint64_t target)
{
	unsigned int root = b->shape->levels;
	uint64_t last = iova + length - 1;

	if (!*b->root)
		return pages_of(b, root) + bound_empty(b, root, iova, last, target);
	return bound_table(b, *b->root, root, iova, last, target);
}
