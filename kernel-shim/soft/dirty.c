/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Dirty pages, by the dirty bits of leaves.
 *
 * KERNEL tables that are made for it: while they are tracked, leaves begin clean, a walk for a
 * write sets the bit, and what is cached of a clean leaf does not allow writing (walk.h,
 * cached), so the first write after each cleaning is a walk.  To clear: take the bit out with
 * an atomic operation, then, under ctx->flush for writing, drop what is cached.  DMA holds
 * that lock from its look-up to its last byte.  So a write through something cached before is
 * over when the caller gets the bitmap, in which it is; a walk that sets the bit after it
 * was taken out is in the next one.
 *
 * Only a leaf that lies within the range as a whole is cleaned; one that reaches beyond it
 * would be clean for who asks for the rest, so it is told dirty and stays so.
 *
 * USER tables: the bits are the tenant's own, found through the parent as a walk finds them.
 * Work is bounded by SHIM_DIRTY_TABLES_MAX; a bit in a page that the parent lets only read stays.
 * The bits of second-stage tables are kept only where dirty tracking was asked for.
 */

#include "soft/internal.h"
#include "soft/vm.h"

#include <errno.h>

struct search {
	struct soft_pt *pt;
	/* To look into tables without a trace, and to change them. */
	struct soft_stage stages[SOFT_STAGES_MAX], changing[SOFT_STAGES_MAX];
	unsigned int n_stages;
	/* The range, and where its bits go; bitmap NULL: nowhere. */
	uint64_t first, last;
	unsigned int page_shift;
	uint8_t *bitmap;
	bool clear;
	bool soil;    /* sets the bits of what can be written, instead */
	bool cleared; /* something was */
	uint32_t tables_left;
};

static void mark(const struct search *s, uint64_t first, uint64_t last)
{
	if (!s->bitmap)
		return;
	if (first < s->first)
		first = s->first;
	if (last > s->last)
		last = s->last;
	for (uint64_t n = (first - s->first) >> s->page_shift;
	     n <= (last - s->first) >> s->page_shift; n++)
		s->bitmap[n / 8] |= (uint8_t)(1u << n % 8);
}

/* Stages to look into, and to change; as they are now. */
static void take_stages(struct search *s)
{
	s->n_stages = soft_pt_stages(s->pt, NULL, SOFT_WHO_NOBODY, s->stages);
	for (unsigned int i = 0; i < s->n_stages; i++) {
		s->changing[i] = s->stages[i];
		s->stages[i].update = NULL;
	}
}

/*
 * Where the table page lies, for reading or for setting bits.  What a VM has not filled, or not
 * again, it fills for this as for a device, which may have been there before.
 */
static bool find_table(struct search *s, uint64_t table, uint32_t access, uint64_t *ret_physical)
{
	const struct soft_stage *stages = access == SHIM_WRITE ? s->changing : s->stages;
	struct soft_translation where;
	struct shim_fault fault;
	unsigned int tries = 0;

	*ret_physical = table;
	if (!s->stages[0].tables_in_next)
		return true;
	while (!soft_walk_parent(stages, s->n_stages, table, access | SOFT_USER, NULL, &where,
				 &fault)) {
		if (!soft_vm_filled(s->pt, &fault, &tries))
			return false;
		take_stages(s); /* the VM's table may have begun with it */
	}
	*ret_physical = where.output;
	return true;
}

/* Makes a leaf clean, or dirty, whatever else changes in it meanwhile. */
static void change(struct search *s, uint64_t table, unsigned int index, uint64_t raw)
{
	const struct soft_stage *stage = &s->changing[0];
	const struct soft_format *format = stage->format;
	uint64_t physical;

	if (!find_table(s, table, SHIM_WRITE, &physical))
		return;
	physical += index * sizeof(raw);
	for (unsigned int i = 0; format->is_dirty(raw) != s->soil; i++) {
		int r;

		/* Only a tenant changes an entry for so long. */
		if (i > SOFT_WALK_RESTARTS && stage->tables_in_next)
			return;
		r = stage->update(stage->memory, physical, &raw, format->set_dirty(raw, s->soil));
		if (r < 0)
			return;
		if (!r)
			break;
	}
	s->cleared |= s->clear;
}

static int search_below(struct search *s, const struct soft_entry *entry, unsigned int level,
			uint64_t at, uint64_t last);

/* [at, last], which lies in this table.  SHIM_E_LIMIT. */
static int search_table(struct search *s, uint64_t table, unsigned int level, uint64_t at,
			uint64_t last)
{
	const struct soft_stage *stage = &s->stages[0];
	uint64_t size = 1ull << soft_format_shift(stage->format, level), physical;

	if (stage->tables_in_next && !s->tables_left--) {
		s->tables_left = 0;
		return SHIM_E_LIMIT;
	}
	/* What a device cannot reach has not been written through. */
	if (!find_table(s, table, SHIM_READ, &physical))
		return 0;
	for (;;) {
		unsigned int index = soft_shape_index(stage->format, &stage->shape, level, at);
		uint64_t end = at | (size - 1), leaf_size, raw;
		struct soft_entry entry;
		int r = 0;

		if (stage->load(stage->memory, physical + index * sizeof(raw), &raw))
			return 0;
		stage->format->decode(&stage->env, level, raw, &entry);
		if (entry.kind == SOFT_ENTRY_TABLE) {
			r = search_below(s, &entry, level, at, end < last ? end : last);
		} else if (entry.kind == SOFT_ENTRY_LEAF && stage->format->is_dirty(raw)) {
			/* Any entry of a leaf of several tells that all of it was written. */
			leaf_size = 1ull << entry.shift;
			mark(s, at & ~(leaf_size - 1), at | (leaf_size - 1));
			if (s->clear && (at & ~(leaf_size - 1)) >= s->first &&
			    (at | (leaf_size - 1)) <= s->last)
				change(s, table, index, raw);
		} else if (entry.kind == SOFT_ENTRY_LEAF && s->soil && entry.prot & SHIM_WRITE) {
			change(s, table, index, raw);
		}
		if (r)
			return r;
		if (end >= last)
			return 0;
		at = end + 1;
	}
}

/* What a table maps that an entry leads to, which may leave levels out. */
static int search_below(struct search *s, const struct soft_entry *entry, unsigned int level,
			uint64_t at, uint64_t last)
{
	const struct soft_format *format = s->stages[0].format;
	uint64_t size = 1ull << soft_format_shift(format, level);
	uint64_t below = 1ull << soft_format_shift(format, entry->level + 1u);

	/* Only the first part has an address that is 0 between. */
	if ((at & (size - 1)) >= below)
		return 0;
	if (last - (at & ~(size - 1)) >= below)
		last = (at & ~(size - 1)) + below - 1;
	return search_table(s, entry->address, entry->level, at, last);
}

/*
 * Looks through a range, and returns when what was cached of cleaned leaves is gone, also if
 * it did not get through.
 */
static int search(struct soft_pt *pt, struct search s)
{
	int r = 0;

	s.pt = pt;
	s.tables_left = SHIM_DIRTY_TABLES_MAX;
	take_stages(&s);
	if (!s.stages[0].empty)
		r = search_table(&s, s.stages[0].root, s.stages[0].shape.levels, s.first, s.last);
	if (!s.cleared)
		return r;
	pthread_rwlock_wrlock(&pt->ctx->flush);
	soft_flush_translations(pt, s.first, s.last);
	pt->flushes++;
	pthread_rwlock_unlock(&pt->ctx->flush);
	return r;
}

/* All of the input space, in its halves. */
static int search_all(struct soft_pt *pt, bool soil)
{
	const struct soft_format *format = soft_format_find(pt->format);
	bool halves =
		format->input == SOFT_INPUT_CANONICAL && pt->shape.input_bits == format->input_bits;
	struct search s = {
		.last = soft_bits(0, pt->shape.input_bits - halves),
		.page_shift = SOFT_PAGE_SHIFT,
		.clear = !soil,
		.soil = soil,
	};
	int r = search(pt, s);

	if (r || !halves)
		return r;
	s.first = ~s.last;
	s.last = UINT64_MAX;
	return search(pt, s);
}

int soft_pt_track_dirty(struct shim_pt *base, bool enable, bool all_dirty)
{
	struct soft_pt *pt = soft_pt_of(base);
	int r;

	if (!pt->dirty_tracking)
		return SHIM_E_UNSUPPORTED;
	if (enable == pt->tracking && !all_dirty)
		return 0;
	pt->tracking = enable;
	if (!enable)
		return 0;
	/* Leaves that are made from now on are clean; now those that are there. */
	r = search_all(pt, all_dirty);
	if (r)
		pt->tracking = false;
	return r;
}

int soft_pt_read_dirty(struct shim_pt *base, uint64_t iova, uint64_t length,
		       unsigned int page_shift, bool clear, uint8_t *bitmap)
{
	struct soft_pt *pt = soft_pt_of(base);

	if (!pt->tracking)
		return SHIM_E_UNSUPPORTED;
	if (page_shift < SOFT_PAGE_SHIFT || page_shift > 63 ||
	    !soft_pt_range_fits(pt, iova, length))
		return SHIM_E_RANGE;
	return search(pt, (struct search){
				  .first = iova,
				  .last = iova + length - 1,
				  .page_shift = page_shift,
				  .bitmap = bitmap,
				  .clear = clear,
			  });
}
