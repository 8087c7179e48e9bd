/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings of KERNEL IOASIDs: Map, Unmap and the record of what is mapped.
 *
 * Owns struct mapping.  Invariants: mappings of an IOASID do not overlap; each is charged
 * (entry, bytes, the pages that it pins, the record) from before the shim maps it until
 * after the shim has unmapped and flushed it; a mapping that is not `published` yet is
 * seen by no list.  The table's own growth is charged to the IOASID: its upper bound
 * before the shim works, what it came to afterwards.  State thread; shim calls in ops.
 */
#include "server/broker/mapping.h"

#include "server/broker/fault_point.h"
#include "server/broker/ioasid.h"
#include "server/broker/iova_ranges.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/memory.h"
#include "server/broker/page.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 1024
/* Most that a number adds to an answer. */
#define IOVA_BYTES 11
/* Mappings that one call to the shim takes down. */
#define UNMAP_SLICE 4096
/* Mappings that one request may step over in search of a free IOVA. */
#define SEARCH_MAX 65536

static int mapping_compare(const struct mapping *a, const struct mapping *b)
{
	return a->iova < b->iova ? -1 : a->iova > b->iova;
}

TREE_GENERATE(mapping_tree, mapping, node, mapping_compare)

struct mapping *mapping_first(struct ioasid *ioasid)
{
	return RB_MIN(mapping_tree, &ioasid->mappings);
}

/* The first mapping that ends after `iova`. */
static struct mapping *mapping_from(struct ioasid *ioasid, uint64_t iova)
{
	struct mapping find = {.iova = iova}, *m, *before;

	m = RB_NFIND(mapping_tree, &ioasid->mappings, &find);
	if (m && m->iova == iova)
		return m;
	before = m ? RB_PREV(mapping_tree, &ioasid->mappings, m)
		   : RB_MAX(mapping_tree, &ioasid->mappings);
	return before && iova - before->iova < before->length ? before : m;
}

struct mapping *mapping_at(struct ioasid *ioasid, uint64_t iova)
{
	struct mapping *m = mapping_from(ioasid, iova);

	return m && m->iova <= iova ? m : NULL;
}

/* The first mapping that touches [iova, iova + length); NULL: free. */
static struct mapping *mapping_overlap(struct ioasid *ioasid, uint64_t iova, uint64_t length)
{
	struct mapping *m = mapping_from(ioasid, iova);

	return m && (m->iova <= iova || m->iova - iova < length) ? m : NULL;
}

void mapping_insert(struct ioasid *ioasid, struct mapping *mapping)
{
	RB_INSERT(mapping_tree, &ioasid->mappings, mapping);
	ioasid->n_mappings++;
	ioasid->mapped_bytes += mapping->length;
}

void mapping_free(struct ioasid *ioasid, struct mapping *mapping)
{
	RB_REMOVE(mapping_tree, &ioasid->mappings, mapping);
	ioasid->n_mappings--;
	ioasid->mapped_bytes -= mapping->length;
	page_charge_release(&mapping->pinned, QUOTA_PINNED_BYTES);
	charge_release(&mapping->charge);
	if (mapping->memory)
		memory_put(mapping->memory);
	free(mapping);
}

struct mapping *mapping_not_before(struct ioasid *ioasid, uint64_t iova)
{
	struct mapping find = {.iova = iova};

	return RB_NFIND(mapping_tree, &ioasid->mappings, &find);
}

struct mapping *mapping_next(struct ioasid *ioasid, struct mapping *mapping)
{
	return RB_NEXT(mapping_tree, &ioasid->mappings, mapping);
}

/* ---- choosing an IOVA ---- */

/* The largest page that fits the length and divides the source's address. */
static uint64_t choose_alignment(const struct ioasid *ioasid, uint64_t length, uint64_t source)
{
	uint64_t best = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t size = UINT64_C(1) << bit;

		if (ioasid->choice.page_sizes & size &&
		    (!best || (size <= length && !(source % size))))
			best = size;
	}
	return best;
}

/* First fit in [from, last] of the valid ranges; *steps bounds the search. */
static bool search_iova(struct ioasid *ioasid, uint64_t from, uint64_t last, uint64_t length,
			uint64_t align, unsigned *steps, uint64_t *ret_iova)
{
	const struct iova_ranges *valid = ioasid->choice.valid;

	for (size_t i = 0; i < valid->n; i++) {
		uint64_t end = valid->ranges[i].last < last ? valid->ranges[i].last : last;
		uint64_t at = valid->ranges[i].start > from ? valid->ranges[i].start : from;

		while (at <= end) {
			struct mapping *m;

			if (__builtin_add_overflow(at, align - 1, &at))
				break;
			at &= ~(align - 1);
			if (at > end || length - 1 > end - at)
				break;
			m = mapping_overlap(ioasid, at, length);
			if (!m) {
				*ret_iova = at;
				return true;
			}
			if (!*steps)
				return false;
			--*steps;
			if (__builtin_add_overflow(m->iova, m->length, &at))
				break;
		}
	}
	return false;
}

/* From where the last search ended, then from the beginning; never at address 0. */
static bool choose_iova(struct ioasid *ioasid, uint64_t length, uint64_t source, unsigned *steps,
			uint64_t *ret_iova)
{
	uint64_t align = choose_alignment(ioasid, length, source);
	uint64_t hint = ioasid->choose_hint ?: align;

	if (!search_iova(ioasid, hint, UINT64_MAX, length, align, steps, ret_iova) &&
	    !search_iova(ioasid, align, UINT64_MAX, length, align, steps, ret_iova))
		return false;
	ioasid->choose_hint = *ret_iova + length;
	return true;
}

/* ---- Map ---- */

struct map_work {
	struct ioasid *ioasid;
	struct mapping **mappings;
	struct shim_map *maps;
	size_t n;
	uint64_t bound; /* table bytes charged in advance */
	/* For the registry, if one is kept: of the intent, of the result. */
	Ioasid__Registry__Range *ranges, **range_pointers;
	Ioasid__Registry__Mapping *records, **record_pointers;
	struct shim_cancel cancel;
	int result;
};

static void map_field(char *field, size_t size, size_t index, const char *name)
{
	snprintf(field, size, "entries[%zu].%s", index, name);
}

/* Everything about one entry that does not depend on what is mapped. */
static int map_check_entry(struct broker_call *call, struct ioasid *ioasid, size_t index,
			   const Ioasid__V1__MapEntry *e, struct memory **ret_memory,
			   uint32_t *ret_prot)
{
	uint64_t least = ioasid->choice.page_sizes & -ioasid->choice.page_sizes;
	struct memory *memory = NULL;
	uint64_t source = e->offset, end;
	const char *bad = NULL, *why = NULL;
	uint32_t prot;
	char field[48];

	prot = (e->read ? SHIM_READ : 0) | (e->write ? SHIM_WRITE : 0) |
	       (e->execute ? SHIM_EXEC : 0);
	if (!e->length || e->length % least) {
		bad = "length";
		why = "must be a non-zero multiple of the smallest page size";
	} else if (!e->choose && e->iova % least) {
		bad = "iova";
		why = "must be a multiple of the smallest page size";
	} else if (!e->choose && e->iova + (e->length - 1) < e->iova) {
		bad = "length";
		why = "wraps around the end of the address space";
	} else if (!e->choose && !iova_ranges_hold(ioasid->choice.valid, e->iova, e->length)) {
		bad = "iova";
		why = "outside the valid ranges (reserved, or beyond the input width)";
	} else if (!(prot & (SHIM_READ | SHIM_WRITE))) {
		bad = "read";
		why = "read, write or both must be set";
	} else if (!(prot & SHIM_READ) && !ioasid->choice.write_only) {
		bad = "read";
		why = "this format cannot express write without read";
	} else if (prot & SHIM_EXEC && !ioasid->choice.execute) {
		bad = "execute";
		why = "this format, on these devices, has no execute permission";
	} else if (e->from_parent && !ioasid->parent) {
		bad = "from_parent";
		why = "the IOASID has no parent";
	} else if (!e->from_parent && ioasid->parent) {
		bad = "from_parent";
		why = "a nested IOASID maps addresses of its parent";
	} else if (e->from_parent && (e->memory || e->offset)) {
		bad = "memory";
		why = "memory and offset must be 0 with from_parent";
	} else if (!e->from_parent && e->parent_address) {
		bad = "parent_address";
		why = "only with from_parent";
	}
	if (!bad && e->from_parent) {
		source = e->parent_address;
		if (source % least) {
			bad = "parent_address";
			why = "must be a multiple of the smallest page size";
		} else if (__builtin_add_overflow(source, e->length - 1, &end) ||
			   !iova_ranges_hold(ioasid->parent->choice.valid, source, e->length)) {
			bad = "parent_address";
			why = "outside the valid ranges of the parent";
		}
	}
	if (bad) {
		map_field(field, sizeof(field), index, bad);
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "%s", why);
	}
	if (!e->from_parent) {
		memory = memory_find(call->lease, e->memory);
		if (!memory) {
			map_field(field, sizeof(field), index, "memory");
			return refuse_id(call, field, "memory", e->memory);
		}
		if (e->offset % least) {
			bad = "offset";
			why = "must be a multiple of the smallest page size";
		} else if (__builtin_add_overflow(e->offset, e->length, &end) ||
			   end > memory->length) {
			bad = "length";
			why = "reaches beyond the end of the registered memory";
		} else if (prot & SHIM_READ && !(memory->prot & SHIM_READ)) {
			bad = "read";
			why = "the memory is not registered for reading";
		} else if (prot & SHIM_WRITE && !(memory->prot & SHIM_WRITE)) {
			bad = "write";
			why = "the memory is not registered for writing";
		}
	}
	if (bad) {
		map_field(field, sizeof(field), index, bad);
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "%s", why);
	}
	*ret_memory = memory;
	*ret_prot = prot;
	return OUTCOME_OK;
}

bool mapping_pins(const struct memory *memory, uint64_t offset, uint64_t length,
		  uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t end;

	if (!memory || !length || __builtin_add_overflow(offset, length, &end) ||
	    end > memory->length)
		return false;
	*ret_start = (memory->offset + offset) / memory->page_size * memory->page_size;
	*ret_end = (memory->offset + end + memory->page_size - 1) / memory->page_size *
		   memory->page_size;
	return true;
}

static int map_charge(struct broker_call *call, struct mapping *m, const Ioasid__V1__MapEntry *e)
{
	struct quota_amount amounts[] = {
		{QUOTA_MAP_ENTRIES, 1},
		{QUOTA_MAPPED_BYTES, m->length},
		{QUOTA_BROKER_BYTES, sizeof(*m)},
	};
	struct quota_refusal refusal;
	uint64_t start, end;
	int r;

	r = charge_take(&m->charge, call->tenant, amounts, 3, &refusal);
	if (!r && mapping_pins(m->memory, e->offset, e->length, &start, &end)) {
		r = page_charge_take(&m->pinned, call->tenant, QUOTA_PINNED_BYTES, m->memory->key,
				     start, end, &refusal);
		if (r)
			charge_release(&m->charge);
	}
	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

/* One entry: checked, charged, in the tree but not published. */
static int map_reserve(struct broker_call *call, struct map_work *w, size_t index,
		       const Ioasid__V1__MapEntry *e, unsigned *steps)
{
	struct ioasid *ioasid = w->ioasid;
	uint64_t source = e->from_parent ? e->parent_address : e->offset;
	struct mapping *m, *other;
	struct memory *memory = NULL;
	uint64_t iova = e->iova;
	uint32_t prot = 0;
	char field[48];
	int r;

	r = map_check_entry(call, ioasid, index, e, &memory, &prot);
	if (r)
		return r;
	map_field(field, sizeof(field), index, "iova");
	if (e->choose && !choose_iova(ioasid, e->length, source, steps, &iova))
		return refuse_field(call, OUTCOME_OVERLAP, field,
				    "no free range of %llu bytes was found",
				    (unsigned long long)e->length);
	other = mapping_overlap(ioasid, iova, e->length);
	if (other)
		return refuse_field(
			call, OUTCOME_OVERLAP, field,
			"[0x%llx, 0x%llx] overlaps the mapping at 0x%llx of 0x%llx bytes",
			(unsigned long long)iova, (unsigned long long)(iova + (e->length - 1)),
			(unsigned long long)other->iova, (unsigned long long)other->length);
	m = calloc(1, sizeof(*m));
	if (!m)
		return refuse_no_memory(call);
	m->iova = iova;
	m->length = e->length;
	m->memory = memory;
	m->offset = source;
	m->prot = prot;
	r = map_charge(call, m, e);
	if (r) {
		free(m);
		return r;
	}
	if (memory)
		memory->n_mappings++;
	mapping_insert(ioasid, m);
	w->mappings[index] = m;
	w->maps[index] = (struct shim_map){
		.iova = iova,
		.length = m->length,
		.mem = memory ? memory->shim : NULL,
		.offset = memory ? m->offset : 0,
		.parent_address = memory ? 0 : m->offset,
		.prot = prot,
	};
	return OUTCOME_OK;
}

/*
 * Would the whole request fit?  Only so can a refusal tell what was asked for, and not how
 * far the request got.  The union's growth is found by adding every range and taking all
 * of them away again.
 */
static int map_check_total(struct broker_call *call, const Ioasid__V1__MapRequest *q)
{
	struct quota_amount amounts[] = {
		{QUOTA_MAP_ENTRIES, q->n_entries},
		{QUOTA_MAPPED_BYTES, 0},
		{QUOTA_PINNED_BYTES, 0},
		{QUOTA_BROKER_BYTES, q->n_entries * sizeof(struct mapping)},
	};
	struct page_union *pinned = &call->tenant->pinned;
	struct quota_refusal refusal;
	struct memory *memory;
	uint64_t start, end, grown;
	size_t n;
	int r = 0;

	for (n = 0; n < q->n_entries; n++) {
		const Ioasid__V1__MapEntry *e = q->entries[n];

		if (__builtin_add_overflow(amounts[1].amount, e->length, &amounts[1].amount))
			amounts[1].amount = UINT64_MAX;
		memory = e->from_parent ? NULL : memory_find(call->lease, e->memory);
		if (!mapping_pins(memory, e->offset, e->length, &start, &end))
			continue;
		r = page_union_add(pinned, memory->key, start, end, &grown);
		if (r)
			break;
		amounts[2].amount += grown;
	}
	while (n--) {
		const Ioasid__V1__MapEntry *e = q->entries[n];

		memory = e->from_parent ? NULL : memory_find(call->lease, e->memory);
		if (mapping_pins(memory, e->offset, e->length, &start, &end))
			page_union_remove(pinned, memory->key, start, end);
	}
	if (!r)
		r = charge_check(call->tenant, amounts, 4, &refusal);
	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

static void map_undo(struct map_work *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->mappings[i])
			mapping_free(w->ioasid, w->mappings[i]);
}

/* What the tables really came to; the bound that was charged for growth goes back. */
static void settle_table_bytes(struct ioasid *ioasid, uint64_t bound)
{
	uint64_t now = shim_pt_table_bytes(ioasid->pt);
	uint64_t charged = ioasid->table_bytes + bound;

	assert(now <= charged);
	charge_shrink(&ioasid->charge, QUOTA_BROKER_BYTES, charged - now);
	ioasid->table_bytes = now;
}

static void map_run(struct op *op)
{
	struct map_work *w = call_of_op(op)->data;

	w->result = shim_pt_map(w->ioasid->pt, w->maps, w->n, &w->cancel);
}

static int map_refusal(struct broker_call *call, int error)
{
	if (error == SHIM_E_RANGE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "entries",
				    "the shim refuses a range: reserved or misaligned");
	if (error == SHIM_E_OVERLAP)
		return refuse_field(call, OUTCOME_OVERLAP, "entries",
				    "the shim has a mapping in the way");
	return refuse_shim(call, error, "map", NULL);
}

static int map_begin(struct broker_call *call, struct map_work *w)
{
	Ioasid__Registry__Intent *intent = journal_intent(call);
	struct scratch *s = &call->scratch;

	if (!call->broker->registry)
		return OUTCOME_OK;
	w->ranges = scratch_calloc(s, w->n, sizeof(*w->ranges));
	w->range_pointers = scratch_calloc(s, w->n, sizeof(*w->range_pointers));
	w->records = scratch_calloc(s, w->n, sizeof(*w->records));
	w->record_pointers = scratch_calloc(s, w->n, sizeof(*w->record_pointers));
	if (!w->ranges || !w->range_pointers || !w->records || !w->record_pointers)
		return refuse_no_memory(call);
	for (size_t i = 0; i < w->n; i++) {
		ioasid__registry__range__init(&w->ranges[i]);
		w->ranges[i].iova = w->maps[i].iova;
		w->ranges[i].last = w->maps[i].iova + (w->maps[i].length - 1);
		w->range_pointers[i] = &w->ranges[i];
		w->record_pointers[i] = &w->records[i];
	}
	intent->ioasid = w->ioasid->object.id.value;
	intent->ranges = w->range_pointers;
	intent->n_ranges = w->n;
	return journal_begin(call, w->n * RECORD_MAPPING_BOUND, w->n * IOVA_BYTES);
}

static void map_write(struct broker_call *call, struct map_work *w)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;

	if (!call->broker->registry) {
		journal_result(call, NULL);
		return;
	}
	for (size_t i = 0; i < w->n; i++)
		record_mapping(&w->records[i], w->ioasid, w->mappings[i]);
	batch.mappings = w->record_pointers;
	batch.n_mappings = w->n;
	journal_result(call, &batch);
}

/* What could not be undone the next broker must know of, too. */
static void table_changed(struct ioasid *ioasid)
{
	struct shim_saved now;

	shim_pt_save(ioasid->pt, &now);
	if (now.n == ioasid->saved.n && !memcmp(now.bytes, ioasid->saved.bytes, now.n))
		return;
	ioasid->saved = now;
	journal_ioasid(ioasid->object.lease, ioasid);
}

static void map_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__MapResponse *p = (void *)call->response;
	struct map_work *w = call->data;

	settle_table_bytes(w->ioasid, w->bound);
	if (w->result) {
		map_undo(w);
		table_changed(w->ioasid);
		call_end(call, map_refusal(call, w->result));
		return;
	}
	for (size_t i = 0; i < w->n; i++)
		p->iovas[i] = w->mappings[i]->iova;
	p->n_iovas = w->n;
	map_write(call, w);
	for (size_t i = 0; i < w->n; i++)
		w->mappings[i]->published = true;
	call->note = scratch_printf(&call->scratch, "ioasid %llu, %zu entries",
				    (unsigned long long)w->ioasid->object.id.value, w->n);
	call_end(call, OUTCOME_OK);
}

int rpc_map(struct broker_call *call)
{
	const Ioasid__V1__MapRequest *q = (const void *)call->request;
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct map_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	Ioasid__V1__MapResponse *p = call_response(call);
	struct quota_refusal refusal;
	unsigned steps = SEARCH_MAX;
	uint64_t pages = 0;
	int r = OUTCOME_OK;

	if (!q->n_entries)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "entries", "none given");
	if (q->n_entries > ENTRIES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "entries", "at most %d, found %zu",
				    ENTRIES_MAX, q->n_entries);
	if (!ioasid || ioasid->kind != SHIM_KIND_KERNEL)
		return refuse_id(call, "ioasid", "IOASID of kind kernel", q->ioasid);
	if (w && p) {
		w->mappings = scratch_calloc(&call->scratch, q->n_entries, sizeof(*w->mappings));
		w->maps = scratch_calloc(&call->scratch, q->n_entries, sizeof(*w->maps));
		p->iovas = scratch_calloc(&call->scratch, q->n_entries, sizeof(*p->iovas));
	}
	if (!w || !p || !w->mappings || !w->maps || !p->iovas)
		return refuse_no_memory(call);
	w->ioasid = ioasid;
	w->n = q->n_entries;
	if (w->n > 1)
		r = map_check_total(call, q);
	/* Fixed entries first: a chosen IOVA must not lie where another entry has to go. */
	for (size_t i = 0; !r && i < w->n; i++)
		if (!q->entries[i]->choose)
			r = map_reserve(call, w, i, q->entries[i], &steps);
	for (size_t i = 0; !r && i < w->n; i++)
		if (q->entries[i]->choose)
			r = map_reserve(call, w, i, q->entries[i], &steps);
	for (size_t i = 0; !r && i < w->n; i++)
		pages += w->maps[i].length / 4096 + 1;
	if (!r) {
		w->bound = shim_pt_map_bound(ioasid->pt, w->maps, w->n);
		r = charge_grow(&ioasid->charge, QUOTA_BROKER_BYTES, w->bound, &refusal);
		if (r)
			r = refuse_charge(call, r, &refusal);
	}
	if (!r) {
		r = map_begin(call, w);
		if (r)
			charge_shrink(&ioasid->charge, QUOTA_BROKER_BYTES, w->bound);
	}
	if (r) {
		map_undo(w);
		return r;
	}
	call->data = w;
	call->shim_cancel = &w->cancel;
	return call_run(call, map_run, map_complete, pages > OP_LIGHT_PAGES);
}

/* ---- Unmap ---- */

struct unmap_range {
	uint64_t first; /* IOVAs, both inclusive */
	uint64_t last;
	size_t index; /* in the request */
};

struct unmap_work {
	struct ioasid *ioasid;
	struct unmap_range *ranges; /* in order of IOVA */
	size_t n_ranges;
	size_t range;		   /* that is being worked on */
	struct mapping **mappings; /* of this slice */
	struct shim_unmap *unmaps;
	size_t room;
	size_t n;
	size_t done;
	uint64_t pages;
	int result;
};

static void unmap_go(struct op *op);

/* Collects the next slice; false: nothing is left. */
static bool unmap_collect(struct unmap_work *w)
{
	w->n = 0;
	w->pages = 0;
	while (w->range < w->n_ranges && w->n < w->room) {
		const struct unmap_range *range = &w->ranges[w->range];
		struct mapping *m = mapping_from(w->ioasid, range->first);

		for (; m && m->iova <= range->last && w->n < w->room;
		     m = RB_NEXT(mapping_tree, &w->ioasid->mappings, m)) {
			w->mappings[w->n] = m;
			w->unmaps[w->n++] = (struct shim_unmap){m->iova, m->length};
			w->pages += m->length / 4096;
		}
		/* A full slice: the rest of this range is found when these are gone. */
		if (m && m->iova <= range->last)
			break;
		w->range++;
	}
	return w->n > 0;
}

static void unmap_run(struct op *op)
{
	struct unmap_work *w = call_of_op(op)->data;

	w->done = 0;
	w->result = shim_pt_unmap(w->ioasid->pt, w->unmaps, w->n, &w->done);
}

static void unmap_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__UnmapResponse *p = (void *)call->response;
	struct unmap_work *w = call->data;
	int r;

	for (size_t i = 0; i < w->done; i++) {
		p->mappings++;
		p->bytes += w->mappings[i]->length;
	}
	journal_unmapped(call, w->ioasid, w->mappings, w->done, p->mappings, p->bytes);
	for (size_t i = 0; i < w->done; i++)
		mapping_free(w->ioasid, w->mappings[i]);
	settle_table_bytes(w->ioasid, 0);
	if (w->result) {
		r = refuse_shim(call, w->result, "unmap", NULL);
		outcome_add_metadata(&call->outcome, &call->scratch, "done", "%llu",
				     (unsigned long long)p->mappings);
		call_end(call, r);
		return;
	}
	if (!unmap_collect(w)) {
		call_end(call, OUTCOME_OK);
		return;
	}
	FAULT_POINT(call->method->path, "unmap_slice");
	/* Others have their turn between two slices. */
	op->complete = unmap_go;
	op_later(op, call->broker);
}

static void unmap_go(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct unmap_work *w = call->data;

	call_run(call, unmap_run, unmap_complete, w->pages > OP_LIGHT_PAGES);
}

static int range_compare(const void *a, const void *b)
{
	const struct unmap_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Each range: whole mappings, at least one, none split; ranges apart from each other. */
static int unmap_check_range(struct broker_call *call, const struct unmap_work *w, size_t i)
{
	const struct unmap_range *range = &w->ranges[i];
	struct mapping *m, *end;
	char field[48];

	snprintf(field, sizeof(field), "ranges[%zu]", range->index);
	if (i && w->ranges[i - 1].last >= range->first)
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "overlaps ranges[%zu]",
				    w->ranges[i - 1].index);
	m = mapping_from(w->ioasid, range->first);
	if (!m || m->iova > range->last) {
		outcome_add_metadata(&call->outcome, &call->scratch, "field", "%s", field);
		return refuse(call, OUTCOME_NOT_FOUND, "%s: no mapping in [0x%llx, 0x%llx]", field,
			      (unsigned long long)range->first, (unsigned long long)range->last);
	}
	end = mapping_at(w->ioasid, range->last);
	if (m->iova < range->first)
		end = m;
	else if (end && end->iova + (end->length - 1) <= range->last)
		end = NULL;
	if (end)
		return refuse_precondition(call, OUTCOME_WOULD_SPLIT, field,
					   "would split the mapping at 0x%llx of 0x%llx bytes",
					   (unsigned long long)end->iova,
					   (unsigned long long)end->length);
	return OUTCOME_OK;
}

static int unmap_check(struct broker_call *call, const Ioasid__V1__UnmapRequest *q,
		       struct unmap_work *w)
{
	int r = OUTCOME_OK;

	for (size_t i = 0; i < q->n_ranges; i++) {
		const Ioasid__V1__UnmapRange *range = q->ranges[i];
		char field[48];

		snprintf(field, sizeof(field), "ranges[%zu].length", i);
		if (!range->length)
			return refuse_field(call, OUTCOME_INVALID_FIELD, field, "must not be 0");
		if (range->iova + (range->length - 1) < range->iova)
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "wraps around the end of the address space");
		w->ranges[i] = (struct unmap_range){
			.first = range->iova,
			.last = range->iova + (range->length - 1),
			.index = i,
		};
	}
	w->n_ranges = q->n_ranges;
	qsort(w->ranges, w->n_ranges, sizeof(*w->ranges), range_compare);
	for (size_t i = 0; !r && i < w->n_ranges; i++)
		r = unmap_check_range(call, w, i);
	return r;
}

static int unmap_begin(struct broker_call *call, struct unmap_work *w)
{
	Ioasid__Registry__Intent *intent = journal_intent(call);
	Ioasid__Registry__Range *ranges;

	if (!call->broker->registry)
		return OUTCOME_OK;
	ranges = scratch_calloc(&call->scratch, w->n_ranges, sizeof(*ranges));
	intent->ranges = scratch_calloc(&call->scratch, w->n_ranges, sizeof(*intent->ranges));
	if (!ranges || !intent->ranges)
		return refuse_no_memory(call);
	for (size_t i = 0; i < w->n_ranges; i++) {
		ioasid__registry__range__init(&ranges[i]);
		ranges[i].iova = w->ranges[i].first;
		ranges[i].last = w->ranges[i].last;
		intent->ranges[intent->n_ranges++] = &ranges[i];
	}
	intent->ioasid = w->ioasid->object.id.value;
	return journal_begin(call, 0, 2 * IOVA_BYTES);
}

int rpc_unmap(struct broker_call *call)
{
	const Ioasid__V1__UnmapRequest *q = (const void *)call->request;
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct unmap_work *w;
	int r;

	if (q->all && q->n_ranges)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "ranges",
				    "must be empty with all");
	if (!q->all && !q->n_ranges)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "ranges", "none given");
	if (q->n_ranges > ENTRIES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "ranges", "at most %d, found %zu",
				    ENTRIES_MAX, q->n_ranges);
	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	if (w) {
		w->room = ioasid->n_mappings < UNMAP_SLICE ? ioasid->n_mappings : UNMAP_SLICE;
		w->ranges = scratch_calloc(&call->scratch, q->n_ranges + 1, sizeof(*w->ranges));
		w->mappings = scratch_alloc(&call->scratch, w->room * sizeof(*w->mappings));
		w->unmaps = scratch_alloc(&call->scratch, w->room * sizeof(*w->unmaps));
	}
	if (!w || !w->ranges || !w->mappings || !w->unmaps || !call_response(call))
		return refuse_no_memory(call);
	w->ioasid = ioasid;
	if (q->all) {
		w->ranges[0] = (struct unmap_range){.first = 0, .last = UINT64_MAX};
		w->n_ranges = 1;
	} else {
		r = unmap_check(call, q, w);
		if (r)
			return r;
	}
	call->note = scratch_printf(&call->scratch, "ioasid %llu", (unsigned long long)q->ioasid);
	call->data = w;
	if (!unmap_collect(w))
		return OUTCOME_OK;
	r = unmap_begin(call, w);
	if (r)
		return r;
	unmap_go(&call->op);
	return CALL_PENDING;
}

/* ---- ListMappings ---- */

static Ioasid__V1__Mapping *mapping_describe(struct scratch *scratch, const struct mapping *m)
{
	Ioasid__V1__Mapping *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__mapping__init(d);
	d->iova = m->iova;
	d->length = m->length;
	d->memory = m->memory ? m->memory->object.id.value : 0;
	d->offset = m->memory ? m->offset : 0;
	d->from_parent = !m->memory;
	d->parent_address = m->memory ? 0 : m->offset;
	d->read = m->prot & SHIM_READ;
	d->write = m->prot & SHIM_WRITE;
	d->execute = m->prot & SHIM_EXEC;
	return d;
}

int rpc_list_mappings(struct broker_call *call)
{
	const Ioasid__V1__ListMappingsRequest *q = (const void *)call->request;
	Ioasid__V1__ListMappingsResponse *p = call_response(call);
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct mapping *m;
	struct page page;
	int r;

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->mappings = scratch_calloc(&call->scratch, page.size, sizeof(*p->mappings));
	if (!p || !p->mappings)
		return refuse_no_memory(call);
	/* The token is the IOVA to go on from. */
	for (m = mapping_from(ioasid, page.after); m;
	     m = RB_NEXT(mapping_tree, &ioasid->mappings, m)) {
		if (!m->published)
			continue;
		if (p->n_mappings == page.size) {
			page.after = m->iova;
			return page_continue(call, &page, &p->next_page_token);
		}
		p->mappings[p->n_mappings] = mapping_describe(&call->scratch, m);
		if (!p->mappings[p->n_mappings])
			return refuse_no_memory(call);
		p->n_mappings++;
	}
	return OUTCOME_OK;
}
