/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walk core; see walk.h.  A stage is walked from its root down; where its tables are
 * addresses of the next stage, each load is preceded by a whole walk there, which is what
 * hardware does for nested first-stage tables.  The recursion goes one stage up at a
 * time, so it is at most SOFT_STAGES_MAX deep.
 */

#include "soft/walk.h"

#include <stdio.h>

struct walk {
	const struct soft_stage *stages;
	unsigned int n_stages;
	struct shim_walk *trace;
	struct shim_fault *fault;
};

static const char *size_name(unsigned int level)
{
	static const char *const names[] = {"", "4K", "2M", "1G"};

	return level < 4 ? names[level] : "?";
}

static void describe(struct shim_walk_level *out, const struct soft_entry *entry)
{
	switch (entry->kind) {
	case SOFT_ENTRY_EMPTY:
		snprintf(out->decoded, sizeof(out->decoded), "not present");
		break;
	case SOFT_ENTRY_TABLE:
		snprintf(out->decoded, sizeof(out->decoded), "table");
		break;
	case SOFT_ENTRY_LEAF:
		snprintf(out->decoded, sizeof(out->decoded), "page %s %s%s%s%s",
			 size_name(out->level), entry->prot & SHIM_READ ? "R" : "",
			 entry->prot & SHIM_WRITE ? "W" : "", entry->prot & SHIM_EXEC ? "X" : "",
			 entry->prot & SOFT_USER ? "" : " supervisor");
		break;
	case SOFT_ENTRY_RESERVED:
		snprintf(out->decoded, sizeof(out->decoded), "reserved bits set");
		break;
	case SOFT_ENTRY_WIDTH:
		snprintf(out->decoded, sizeof(out->decoded), "address beyond the output width");
		break;
	}
}

static void trace_level(struct shim_walk *trace, unsigned int stage, unsigned int level,
			uint64_t input, uint64_t table, uint64_t raw,
			const struct soft_entry *entry)
{
	struct shim_walk_level *out;

	if (trace->n_levels == SHIM_WALK_MAX)
		return;
	out = &trace->levels[trace->n_levels++];
	*out = (struct shim_walk_level){
		.stage = (uint8_t)(stage + 1),
		.level = (uint8_t)level,
		.input = input,
		.table = table,
		.index = soft_level_index(level, input),
		.entry = raw,
	};
	describe(out, entry);
}

static bool fail(struct walk *walk, enum shim_fault_cause cause, unsigned int stage,
		 unsigned int level, uint32_t access, uint64_t address, uint64_t entry)
{
	*walk->fault = (struct shim_fault){
		.cause = cause,
		.stage = (uint8_t)(stage + 1),
		.level = (uint8_t)level,
		.access = access & ~SOFT_USER,
		.address = address,
		.entry = entry,
	};
	return false;
}

/* ---- the paging-structure cache ---- */

/*
 * An entry of level n that leads to a table is kept as a "page" of the size that it maps:
 * SOFT_IOTLB_2M for level 2, and so on.
 */
static enum soft_iotlb_size structure_size(unsigned int level)
{
	return (enum soft_iotlb_size)(level - 1);
}

/*
 * Where to begin: at the lowest table that is known from entries which allow the access.
 * One that does not is a miss: the walk tells why.
 */
static void begin(const struct soft_stage *stage, uint64_t address, uint32_t wanted,
		  unsigned int *level, uint64_t *table, uint32_t *prot)
{
	uint64_t value;

	*level = stage->format->levels;
	*table = stage->root;
	*prot = SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_USER;
	if (!stage->structures)
		return;
	for (unsigned int known = 2; known <= stage->format->levels; known++) {
		if (!soft_iotlb_lookup_size(stage->structures, stage->tag, stage->who, address,
					    structure_size(known), &value) ||
		    (wanted & ~value))
			continue;
		*level = known - 1;
		*table = soft_iotlb_address(value);
		*prot = soft_iotlb_prot(value);
		return;
	}
}

/* ---- one entry ---- */

/* Where in the walk, and what was found. */
struct step {
	unsigned int index, level;
	uint64_t address; /* input of the stage */
	uint64_t slot;	  /* of the entry, in the space that the table lies in */
	uint32_t access, wanted;
	uint32_t prot; /* what the entries above allow */
	uint64_t raw;
	struct soft_entry entry;
};

static bool walk_from(struct walk *walk, unsigned int index, uint64_t address, uint32_t access,
		      struct soft_translation *ret);

static bool fail_step(struct walk *walk, enum shim_fault_cause cause, const struct step *step,
		      uint64_t entry)
{
	return fail(walk, cause, step->index, step->level, step->access, step->address, entry);
}

static void decode(const struct soft_stage *stage, struct step *step)
{
	stage->format->decode(&stage->env, step->level, step->raw, &step->entry);
	if (!(stage->flags & SHIM_TABLE_SUPERVISOR))
		return;
	/* Without WPE, a supervisor's writes do not ask for R/W, as without CR0.WP. */
	if (!(stage->flags & SHIM_TABLE_WRITE_PROTECT) && step->entry.prot)
		step->entry.prot |= SHIM_WRITE;
}

/* The bits that this use of the entry leaves in it and that are not there yet. */
static uint64_t bits_to_set(const struct soft_stage *stage, const struct step *step)
{
	const struct soft_format *format = stage->format;
	uint64_t bits = format->accessed;

	if (!stage->access_dirty ||
	    (step->entry.kind != SOFT_ENTRY_TABLE && step->entry.kind != SOFT_ENTRY_LEAF))
		return 0;
	/* What is refused is not used. */
	if (step->wanted & ~(step->prot & step->entry.prot))
		return 0;
	if (stage->flags & SHIM_TABLE_EXTENDED_ACCESS)
		bits |= format->extended;
	if (step->entry.kind == SOFT_ENTRY_LEAF && step->access & SHIM_WRITE)
		bits |= format->dirty;
	return bits & ~step->raw;
}

/* Reads the entry and sets the bits that are to be set. */
static bool take_entry(struct walk *walk, struct step *step)
{
	const struct soft_stage *stage = &walk->stages[step->index];
	unsigned int restarts = 0;
	bool writable = !stage->tables_in_next;
	uint64_t physical = step->slot, bits;
	struct soft_translation where;

	if (stage->tables_in_next) {
		if (step->index + 1 == walk->n_stages)
			return fail_step(walk, SHIM_FAULT_BAD_ENTRY, step, 0);
		if (!walk_from(walk, step->index + 1, step->slot, SHIM_READ | SOFT_USER, &where))
			return false;
		physical = where.output;
	}
	if (stage->load(stage->memory, physical, &step->raw))
		return fail_step(walk, SHIM_FAULT_MEMORY_ERROR, step, 0);
	for (;; restarts++) {
		int r;

		decode(stage, step);
		bits = bits_to_set(stage, step);
		if (!bits)
			return true;
		if (!writable) {
			if (!walk_from(walk, step->index + 1, step->slot, SHIM_WRITE | SOFT_USER,
				       &where))
				return false;
			physical = where.output;
			writable = true;
		}
		if (!stage->update)
			return true;
		/* Somebody changes it again and again, and not to set these bits. */
		if (restarts == SOFT_WALK_RESTARTS)
			return fail_step(walk, SHIM_FAULT_BAD_ENTRY, step, step->raw);
		r = stage->update(stage->memory, physical, &step->raw, step->raw | bits);
		if (r < 0)
			return fail_step(walk, SHIM_FAULT_MEMORY_ERROR, step, step->raw);
		if (!r) {
			step->raw |= bits;
			return true;
		}
	}
}

/* ---- a stage ---- */

static bool walk_from(struct walk *walk, unsigned int index, uint64_t address, uint32_t access,
		      struct soft_translation *ret)
{
	const struct soft_stage *stage = &walk->stages[index];
	const struct soft_format *format = stage->format;
	struct step step = {.index = index, .address = address, .access = access};
	unsigned int denied_level = 0;
	uint64_t table, denied_entry = 0, size;
	enum shim_fault_cause cause;

	step.wanted = stage->flags & SHIM_TABLE_SUPERVISOR ? access & ~SOFT_USER : access;
	cause = soft_format_check_input(format, stage->input_bits, address);
	if (cause != SHIM_FAULT_NONE)
		return fail(walk, cause, index, 0, access, address, 0);
	if (stage->empty)
		return fail(walk, SHIM_FAULT_NOT_PRESENT, index, format->levels, access, address,
			    0);
	for (begin(stage, address, step.wanted, &step.level, &table, &step.prot);; step.level--) {
		step.slot = table + soft_level_index(step.level, address) * sizeof(step.raw);
		if (!take_entry(walk, &step))
			return false;
		if (walk->trace)
			trace_level(walk->trace, index, step.level, address, table, step.raw,
				    &step.entry);
		/* The entry that takes a wanted permission away is the one at fault. */
		if ((step.wanted & step.prot & ~step.entry.prot) && !denied_level) {
			denied_level = step.level;
			denied_entry = step.raw;
		}
		step.prot &= step.entry.prot;
		switch (step.entry.kind) {
		case SOFT_ENTRY_TABLE:
			/* Level 1 has no tables: a format never decodes one there. */
			table = step.entry.address;
			if (stage->structures && !denied_level)
				soft_iotlb_put(stage->structures, stage->tag, stage->who, address,
					       structure_size(step.level), table, step.prot);
			continue;
		case SOFT_ENTRY_LEAF:
			break;
		case SOFT_ENTRY_EMPTY:
			return fail_step(walk, SHIM_FAULT_NOT_PRESENT, &step, step.raw);
		case SOFT_ENTRY_RESERVED:
			return fail_step(walk, SHIM_FAULT_RESERVED_BITS, &step, step.raw);
		case SOFT_ENTRY_WIDTH:
			return fail_step(walk, SHIM_FAULT_OUTPUT_WIDTH, &step, step.raw);
		}
		break;
	}
	if (denied_level)
		return fail(walk, SHIM_FAULT_PERMISSION, index, denied_level, access, address,
			    denied_entry);

	size = 1ull << soft_level_shift(step.level);
	*ret = (struct soft_translation){
		.output = step.entry.address | (address & (size - 1)),
		.page_size = size,
		.prot = step.prot,
		.cached = step.prot,
	};
	if (stage->access_dirty && !(step.raw & format->dirty))
		ret->cached &= ~SHIM_WRITE;
	if (walk->trace && index + 1 == walk->n_stages)
		walk->trace->root_address = address;
	if (index + 1 < walk->n_stages) {
		struct soft_translation next;

		if (!walk_from(walk, index + 1, ret->output, access, &next))
			return false;
		ret->output = next.output;
		ret->prot &= next.prot;
		ret->cached &= next.cached;
		if (next.page_size < ret->page_size)
			ret->page_size = next.page_size;
	}
	return true;
}

static bool run(const struct soft_stage *stages, unsigned int n_stages, unsigned int first,
		uint64_t address, uint32_t access, struct shim_walk *trace,
		struct soft_translation *ret, struct shim_fault *ret_fault)
{
	struct walk walk = {
		.stages = stages,
		.n_stages = n_stages,
		.trace = trace,
		.fault = ret_fault,
	};

	if (walk_from(&walk, first, address, access, ret))
		return true;
	/* From the child's side, what its parent lacks is the parent's refusal. */
	if (ret_fault->stage > 1) {
		if (ret_fault->cause == SHIM_FAULT_NOT_PRESENT)
			ret_fault->cause = SHIM_FAULT_PARENT_NOT_PRESENT;
		else if (ret_fault->cause == SHIM_FAULT_PERMISSION)
			ret_fault->cause = SHIM_FAULT_PARENT_PERMISSION;
	}
	/* A table read or a bit set on the way: the device asked for something else. */
	ret_fault->access = access & ~SOFT_USER;
	return false;
}

bool soft_walk(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
	       uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
	       struct shim_fault *ret_fault)
{
	return run(stages, n_stages, 0, address, access, trace, ret, ret_fault);
}

bool soft_walk_parent(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
		      uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
		      struct shim_fault *ret_fault)
{
	return run(stages, n_stages, 1, address, access, trace, ret, ret_fault);
}

uint64_t soft_walk_bound(const struct soft_stage *stages, unsigned int n_stages)
{
	uint64_t next = 0;

	/*
	 * Each level: a walk of the next stage to read and one to write, a load, exchanges.
	 * Then the next stage for the output.
	 */
	for (unsigned int i = n_stages; i--;) {
		const struct soft_stage *stage = &stages[i];
		bool writes = stage->access_dirty && stage->update;
		uint64_t walks = stage->tables_in_next ? 1 + stage->access_dirty : 0;
		uint64_t entry = 1 + (writes ? SOFT_WALK_RESTARTS : 0) + walks * next;

		next += stage->format->levels * entry;
	}
	return next;
}
