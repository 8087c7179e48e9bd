/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every mapping of a table, and counts of what is in it.  The tables are gone through in the
 * order of addresses, each range is printed as soon as it ends, and nothing is kept of what was
 * seen: memory does not grow with the tables.  A table that leads to itself is seen as often as
 * it is reached, which is bounded by the levels; the work is bounded by a number of entries
 * (--limit), behind which the listing says where it stopped.
 *
 * What is in a table but translates nothing (reserved bits, tables that the image lacks) is listed
 * with its cause; what is not present is left out.  With a parent, what a page maps is looked up
 * there range by range, and what the parent lacks is listed as well.
 *
 * Inputs of a stage are "raw" here: without the bits above its input width, which are put back
 * when an address is printed.
 */
#include "walk.h"

#include <inttypes.h>

#define CHUNK		    512u /* entries, 4 KiB: no page of a parent is smaller */
#define GRANTS		    (SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_PRIVILEGED_EXEC)
#define LAST_OF(low, shift) ((low) | soft_bits(0, shift))

enum stopped { GOING, BY_LIMIT, BY_IMAGE, BY_OUTPUT };

struct listing {
	struct walk *walk;
	struct walk_counts *counts; /* not NULL: one stage is counted, nothing printed */
	uint64_t left;		    /* entries that may still be looked at */
	enum stopped stopped;
	uint64_t at; /* the address that was reached */
	struct walk_range pending;
	bool has_pending;
};

/* A part of a stage's inputs that is looked at for a part of stage 0's. */
struct span {
	unsigned int stage;
	uint64_t low, high; /* inclusive */
	uint64_t address;   /* of stage 0, for low */
	uint32_t prot;	    /* what the stages before allow */
	uint8_t shift;	    /* their smallest page */
};

/* ---- ranges ---- */

/* With the bits above the input width. */
static uint64_t whole_address(const struct soft_stage *stage, uint64_t raw)
{
	const struct soft_format *format = stage->format;
	unsigned int bits = stage->shape.input_bits;
	bool top = stage->shape.upper;

	if (format->input == SOFT_INPUT_CANONICAL && bits == format->input_bits)
		top = raw >> (bits - 1) & 1;
	return top ? raw | soft_bits(bits, 64) : raw;
}

static void flush(struct listing *l)
{
	if (l->has_pending)
		walk_print_range(l->walk, &l->pending);
	l->has_pending = false;
}

static bool continues(const struct walk_range *a, const struct walk_range *b)
{
	if (a->address + a->length != b->address || a->cause != b->cause ||
	    a->length + b->length < a->length)
		return false;
	return a->cause ||
	       (a->output + a->length == b->output && a->shift == b->shift && a->prot == b->prot);
}

static void put(struct listing *l, const struct walk_range *range)
{
	if (l->has_pending && continues(&l->pending, range)) {
		l->pending.length += range->length;
		return;
	}
	flush(l);
	if (ferror(l->walk->cli->out))
		l->stopped = BY_OUTPUT;
	l->pending = *range;
	l->has_pending = true;
}

/* The address of stage 0 that an input of the span's stage belongs to. */
static uint64_t address_of(const struct listing *l, const struct span *span, uint64_t input)
{
	return whole_address(&l->walk->stages[0], span->address + (input - span->low));
}

static void count_problem(struct walk_counts *counts, const char *cause)
{
	for (size_t i = 0; i < WALK_PROBLEMS_MAX; i++) {
		if (counts->problems[i].cause && counts->problems[i].cause != cause)
			continue;
		counts->problems[i].cause = cause;
		counts->problems[i].entries++;
		return;
	}
}

static void put_fault(struct listing *l, const struct span *span, uint64_t low, uint64_t high,
		      enum shim_fault_cause cause)
{
	if (l->counts) {
		count_problem(l->counts, walk_cause_name(cause));
		return;
	}
	put(l, &(struct walk_range){
		       .address = address_of(l, span, low),
		       .length = high - low + 1,
		       .cause = walk_cause_name(cause),
	       });
}

/* ---- tables ---- */

static void list_span(struct listing *l, const struct span *span);

/* n entries that begin at an address of the space that the table lies in; within one chunk. */
static enum shim_fault_cause read_entries(struct listing *l, const struct soft_stage *stage,
					  uint64_t at, size_t n, uint64_t *ret_entries)
{
	struct walk *walk = l->walk;
	struct soft_translation where;
	struct shim_fault fault;

	if (stage->tables_in_next) {
		if (!soft_walk_parent(walk->stages, walk->n_stages, at, SHIM_READ | SOFT_USER, NULL,
				      &where, &fault))
			return fault.cause;
		at = where.output;
	}
	if (!image_load_many(&walk->image, at, n, ret_entries))
		return SHIM_FAULT_NONE;
	return SHIM_FAULT_MEMORY_ERROR;
}

/* Consecutive inputs of one page. */
static void list_part(struct listing *l, const struct span *span, uint64_t low, uint64_t high,
		      uint32_t prot, const struct soft_entry *entry, uint64_t raw)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	uint64_t output = entry->address | (low & soft_bits(0, entry->shift));
	uint8_t shift = entry->shift < span->shift ? entry->shift : span->shift;

	if (shift > stage->env.output_bits)
		shift = stage->env.output_bits;
	if (stage->faults_unused && stage->format->accessed & ~raw) {
		put_fault(l, span, low, high, SHIM_FAULT_ACCESS_FLAG);
	} else if (low & soft_bits(stage->env.output_bits, entry->shift)) {
		put_fault(l, span, low, high, SHIM_FAULT_OUTPUT_WIDTH);
	} else if (l->counts) {
		l->counts->page_bytes[entry->shift] += high - low + 1;
	} else if (span->stage + 1 < l->walk->n_stages) {
		list_span(l, &(struct span){
				     .stage = span->stage + 1,
				     .low = output,
				     .high = output + (high - low),
				     .address = span->address + (low - span->low),
				     .prot = prot,
				     .shift = shift,
			     });
	} else if (!(prot & GRANTS)) {
		put_fault(l, span, low, high, SHIM_FAULT_PERMISSION);
	} else {
		put(l, &(struct walk_range){
			       .address = address_of(l, span, low),
			       .length = high - low + 1,
			       .output = output,
			       .shift = shift,
			       .prot = prot,
		       });
	}
}

/*
 * What an entry maps of inputs low to high.  A page that is smaller than that is there over and
 * over; of one that is larger than all physical addresses, there is a part.
 */
static void list_page(struct listing *l, const struct span *span, uint64_t low, uint64_t high,
		      uint32_t prot, const struct soft_entry *entry, uint64_t raw)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	unsigned int shift =
		entry->shift < stage->env.output_bits ? entry->shift : stage->env.output_bits;

	/* As soft_walk() has it. */
	if (stage->format->guards_privileged_exec && !((SHIM_WRITE | SOFT_USER) & ~prot))
		prot &= ~SOFT_PRIVILEGED_EXEC;
	for (;;) {
		uint64_t last = LAST_OF(low, shift);

		list_part(l, span, low, last < high ? last : high, prot, entry, raw);
		if (last >= high || l->stopped != GOING)
			return;
		if (!l->left) {
			l->stopped = BY_LIMIT;
			return;
		}
		l->left--;
		low = last + 1;
	}
}

/* Where in a stage's tree. */
struct place {
	unsigned int level;
	uint64_t table;
	uint64_t base; /* input of the first entry */
	uint32_t prot; /* what the entries above allow */
};

static void list_table(struct listing *l, const struct span *span, const struct place *place);

/* The entry for inputs low to high, which it has all or some of. */
static void list_entry(struct listing *l, const struct span *span, const struct place *place,
		       uint64_t slot, uint64_t low, uint64_t high, uint64_t raw)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	struct place next = *place;
	struct soft_entry entry;
	uint64_t last;

	stage->format->decode(&stage->env, place->level, raw, &entry);
	switch (entry.kind) {
	case SOFT_ENTRY_EMPTY:
		if (span->stage && !l->counts)
			put_fault(l, span, low, high, SHIM_FAULT_PARENT_NOT_PRESENT);
		return;
	case SOFT_ENTRY_RESERVED:
		put_fault(l, span, low, high, SHIM_FAULT_RESERVED_BITS);
		return;
	case SOFT_ENTRY_WIDTH:
		put_fault(l, span, low, high, SHIM_FAULT_OUTPUT_WIDTH);
		return;
	case SOFT_ENTRY_LEAF:
		list_page(l, span, low, high, place->prot & entry.prot, &entry, raw);
		return;
	case SOFT_ENTRY_TABLE:
		break;
	}
	/* Where levels are skipped, only inputs that are 0 there are below. */
	last = LAST_OF(slot, soft_format_shift(stage->format, entry.level + 1u));
	next.level = entry.level;
	next.table = entry.address;
	next.base = slot;
	next.prot = place->prot & entry.prot;
	if (low <= last)
		list_table(l, span, &next);
	if (high > last && span->stage && !l->counts && l->stopped == GOING)
		put_fault(l, span, low > last ? low : last + 1, high,
			  SHIM_FAULT_PARENT_NOT_PRESENT);
}

/* Entries first to last of a table, which are in one chunk. */
static void list_chunk(struct listing *l, const struct span *span, const struct place *place,
		       uint64_t first, uint64_t last)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	unsigned int shift = soft_format_shift(stage->format, place->level);
	uint64_t at = place->table + first * sizeof(uint64_t), entries[CHUNK];
	enum shim_fault_cause cause = read_entries(l, stage, at, last - first + 1, entries);

	for (uint64_t i = first; i <= last && l->stopped == GOING; i++) {
		uint64_t slot = place->base + (i << shift), low = slot, high = LAST_OF(slot, shift);
		uint64_t raw;

		if (l->walk->image.state->broken) {
			l->stopped = BY_IMAGE;
			return;
		}
		if (low < span->low)
			low = span->low;
		if (high > span->high)
			high = span->high;
		l->at = span->stage && l->counts ? slot : address_of(l, span, low);
		if (!l->left) {
			l->stopped = BY_LIMIT;
			return;
		}
		l->left--;
		raw = entries[i - first];
		/* Some of the chunk may be in the image though not all of it is. */
		if (cause == SHIM_FAULT_MEMORY_ERROR) {
			enum shim_fault_cause one = read_entries(
				l, stage, place->table + i * sizeof(uint64_t), 1, &raw);

			if (one != SHIM_FAULT_NONE) {
				put_fault(l, span, low, high, one);
				continue;
			}
		} else if (cause != SHIM_FAULT_NONE) {
			put_fault(l, span, low, high, cause);
			continue;
		}
		list_entry(l, span, place, slot, low, high, raw);
	}
}

static void list_table(struct listing *l, const struct span *span, const struct place *place)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	bool root = place->level == stage->shape.levels;
	unsigned int shift = soft_format_shift(stage->format, place->level);
	unsigned int bits = root ? stage->shape.root_bits : soft_format_stride(stage->format);
	uint64_t end = shift + bits < 64 ? LAST_OF(place->base, shift + bits) : UINT64_MAX;
	uint64_t low = span->low > place->base ? span->low : place->base;
	uint64_t high = span->high < end ? span->high : end;
	uint64_t first = (low - place->base) >> shift, last = (high - place->base) >> shift, next;

	if (l->counts) {
		l->counts->tables[place->level]++;
		l->counts->table_bytes += root ? soft_shape_root_bytes(&stage->shape)
					       : 1ull << stage->format->granule;
	}
	for (uint64_t i = first; i <= last && l->stopped == GOING; i = next) {
		next = i + CHUNK - (place->table / sizeof(uint64_t) + i) % CHUNK;
		list_chunk(l, span, place, i, next - 1 < last ? next - 1 : last);
	}
}

/* ---- a stage ---- */

/* The last raw input that a stage takes. */
static uint64_t last_input(const struct soft_stage *stage, bool whole)
{
	unsigned int bits = stage->shape.input_bits;

	/* An output of the stage before, which has no upper half. */
	if (!whole && stage->format->input == SOFT_INPUT_CANONICAL &&
	    bits == stage->format->input_bits)
		bits--;
	return soft_bits(0, bits);
}

/* In the parent. */
static void list_span(struct listing *l, const struct span *span)
{
	const struct soft_stage *stage = &l->walk->stages[span->stage];
	uint64_t last = last_input(stage, false);
	struct span inside = *span;

	if (span->high > last) {
		uint64_t low = span->low > last ? span->low : last + 1;

		if (span->low <= last) {
			inside.high = last;
			list_span(l, &inside);
		}
		put_fault(l, span, low, span->high,
			  soft_shape_check_input(stage->format, &stage->shape, low));
		return;
	}
	list_table(l, span,
		   &(struct place){
			   .level = stage->shape.levels,
			   .table = stage->root,
			   .prot = span->prot,
		   });
}

static void list_stage(struct listing *l, unsigned int stage)
{
	const struct span span = {
		.stage = stage,
		.high = last_input(&l->walk->stages[stage], true),
		.prot = SOFT_PROT_ALL,
		.shift = 63,
	};

	list_table(l, &span,
		   &(struct place){
			   .level = l->walk->stages[stage].shape.levels,
			   .table = l->walk->stages[stage].root,
			   .prot = SOFT_PROT_ALL,
		   });
}

static int end_of_listing(struct listing *l)
{
	flush(l);
	switch (l->stopped) {
	case BY_LIMIT:
		return cli_fail(l->walk->cli, CLI_FAILED, "RESOURCE_EXHAUSTED", "LOCAL",
				"walk: --limit: stopped after %" PRIu64
				" entries, at address 0x%" PRIx64
				": a larger --limit goes further; tables that lead to themselves "
				"have no end worth waiting for",
				l->walk->limit, l->at);
	case BY_IMAGE:
		return walk_check_image(l->walk);
	default:
		return CLI_OK;
	}
}

int walk_list(struct walk *walk)
{
	struct listing l = {.walk = walk, .left = walk->limit};

	walk_print_list_head(walk);
	list_stage(&l, 0);
	return end_of_listing(&l);
}

int walk_stats(struct walk *walk)
{
	struct walk_counts counts[WALK_STAGES_MAX] = {};
	struct listing l = {.walk = walk, .left = walk->limit};
	int r;

	for (unsigned int i = 0; i < walk->n_stages && l.stopped == GOING; i++) {
		l.counts = &counts[i];
		list_stage(&l, i);
	}
	r = end_of_listing(&l);
	/* What was counted until then would look like all there is. */
	if (!r)
		walk_print_counts(walk, counts);
	return r;
}
