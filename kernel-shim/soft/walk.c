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

/* "4K", "2M", "512G". */
static void size_name(unsigned int shift, char ret_name[8])
{
	static const char units[] = "KMGTPE";
	unsigned int unit = (shift - 10) / 10;

	snprintf(ret_name, 8, "%u%c", 1u << (shift - 10) % 10, units[unit]);
}

static void describe(struct shim_walk_level *out, const struct soft_entry *entry)
{
	char size[8];

	switch (entry->kind) {
	case SOFT_ENTRY_EMPTY:
		snprintf(out->decoded, sizeof(out->decoded), "not present");
		break;
	case SOFT_ENTRY_TABLE:
		snprintf(out->decoded, sizeof(out->decoded), "table");
		break;
	case SOFT_ENTRY_LEAF:
		size_name(entry->shift, size);
		snprintf(out->decoded, sizeof(out->decoded), "page %s %s%s%s%s", size,
			 entry->prot & SHIM_READ ? "R" : "", entry->prot & SHIM_WRITE ? "W" : "",
			 entry->prot & SHIM_EXEC ? "X" : "",
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
			unsigned int index, uint64_t input, uint64_t table, uint64_t raw,
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
		.index = index,
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
 * An entry that leads to a table is kept as a "page" of the largest size of the cache that is
 * not larger than what the entry maps: with tables of 4 KiB just that, SOFT_IOTLB_2M for level 2
 * and so on; with larger ones a part of it, around the address that was asked for.  No two
 * levels of a format come to the same size.  False: it is not kept (AMD v1, level 6).
 */
static bool structure_size(const struct soft_format *format, unsigned int level,
			   enum soft_iotlb_size *ret_size)
{
	unsigned int steps = (soft_format_shift(format, level) - SOFT_PAGE_SHIFT) / 9;

	if (steps > SOFT_IOTLB_256T)
		return false;
	*ret_size = (enum soft_iotlb_size)steps;
	return true;
}

/* Beside the permissions, which leave these bits free: the level of the table. */
#define KEPT_LEVEL_SHIFT 3
#define KEPT_LEVEL	 7u

/*
 * Where to begin: at the lowest table that is known from entries which allow the access.
 * One that does not is a miss: the walk tells why.
 */
static void begin(const struct soft_stage *stage, uint64_t address, uint32_t wanted,
		  unsigned int *level, uint64_t *table, uint32_t *prot)
{
	enum soft_iotlb_size size;
	uint64_t value;

	*level = stage->shape.levels;
	*table = stage->root;
	*prot = SOFT_PROT_ALL;
	if (!stage->structures)
		return;
	for (unsigned int known = 2; known <= stage->shape.levels; known++) {
		if (!structure_size(stage->format, known, &size) ||
		    !soft_iotlb_lookup_size(stage->structures, stage->tag, stage->who, address,
					    size, &value) ||
		    (wanted & ~value))
			continue;
		*level = value >> KEPT_LEVEL_SHIFT & KEPT_LEVEL;
		*table = soft_iotlb_address(value);
		*prot = soft_iotlb_prot(value) & SOFT_PROT_ALL;
		return;
	}
}

/* For all that the table maps, which is less than what the entry does if that skips levels. */
static void keep(const struct soft_stage *stage, uint64_t address, const struct soft_entry *entry,
		 uint32_t prot)
{
	enum soft_iotlb_size size;

	if (stage->structures && structure_size(stage->format, entry->level + 1u, &size))
		soft_iotlb_put(stage->structures, stage->tag, stage->who, address, size,
			       entry->address, prot | (uint32_t)entry->level << KEPT_LEVEL_SHIFT);
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
	const uint32_t written = SHIM_WRITE | SOFT_USER;

	stage->format->decode(&stage->env, step->level, step->raw, &step->entry);
	if (stage->format->guards_privileged_exec && step->entry.kind == SOFT_ENTRY_LEAF &&
	    !(written & ~(step->prot & step->entry.prot)))
		step->entry.prot &= ~SOFT_PRIVILEGED_EXEC;
	if (!(stage->flags & SHIM_TABLE_SUPERVISOR))
		return;
	/* Without WPE, a supervisor's writes do not ask for R/W, as without CR0.WP. */
	if (!(stage->flags & SHIM_TABLE_WRITE_PROTECT) && step->entry.prot)
		step->entry.prot |= SHIM_WRITE;
}

/* What this use makes of the entry. */
static uint64_t used(const struct soft_stage *stage, const struct step *step)
{
	const struct soft_format *format = stage->format;
	uint64_t raw = step->raw;

	if (!stage->env.access_dirty || !format->use ||
	    (step->entry.kind != SOFT_ENTRY_TABLE && step->entry.kind != SOFT_ENTRY_LEAF))
		return raw;
	/* What is refused is not used. */
	if (step->wanted & ~(step->prot & step->entry.prot))
		return raw;
	raw = format->use(step->level, step->entry.kind == SOFT_ENTRY_LEAF, raw, step->access);
	return stage->flags & SHIM_TABLE_EXTENDED_ACCESS ? raw | format->extended : raw;
}

/* Reads the entry and notes its use in it. */
static bool take_entry(struct walk *walk, struct step *step)
{
	const struct soft_stage *stage = &walk->stages[step->index];
	unsigned int restarts = 0;
	bool writable = !stage->tables_in_next;
	uint64_t physical = step->slot, wanted;
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
		wanted = used(stage, step);
		if (wanted == step->raw)
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
		/* Somebody changes it again and again, and not to note a use. */
		if (restarts == SOFT_WALK_RESTARTS)
			return fail_step(walk, SHIM_FAULT_BAD_ENTRY, step, step->raw);
		r = stage->update(stage->memory, physical, &step->raw, wanted);
		if (r < 0)
			return fail_step(walk, SHIM_FAULT_MEMORY_ERROR, step, step->raw);
		if (!r) {
			step->raw = wanted;
			return true;
		}
	}
}

/* ---- a stage ---- */

/* What the access asks of the permissions. */
static uint32_t wanted_of(const struct soft_stage *stage, uint32_t access)
{
	const struct soft_format *format = stage->format;
	uint32_t wanted = access;

	if (stage->flags & SHIM_TABLE_SUPERVISOR)
		wanted &= ~SOFT_USER;
	/* The unprivileged may execute what they cannot read. */
	if (format->tells_privileged_exec && wanted & SHIM_EXEC && wanted & SOFT_USER)
		return wanted & ~SOFT_USER;
	if (!access || wanted & SOFT_USER)
		return wanted;
	if (format->tells_privileged)
		wanted |= SOFT_PRIVILEGED;
	if (format->tells_privileged_exec && wanted & SHIM_EXEC)
		wanted = (wanted & ~SHIM_EXEC) | SOFT_PRIVILEGED_EXEC;
	return wanted;
}

/* An entry may lead to a table more than one level below, for an address that is 0 there. */
static bool skips(const struct soft_format *format, const struct step *step)
{
	unsigned int low = soft_format_shift(format, step->entry.level + 1u);

	return step->address & soft_bits(low, soft_format_shift(format, step->level));
}

static bool walk_from(struct walk *walk, unsigned int index, uint64_t address, uint32_t access,
		      struct soft_translation *ret)
{
	const struct soft_stage *stage = &walk->stages[index];
	const struct soft_format *format = stage->format;
	struct step step = {.index = index, .address = address, .access = access};
	unsigned int denied_level = 0;
	uint64_t table, denied_entry = 0, size;
	enum shim_fault_cause cause;

	if (stage->identity && index + 1 < walk->n_stages)
		return walk_from(walk, index + 1, address, access, ret);
	step.wanted = wanted_of(stage, access);
	cause = soft_shape_check_input(format, &stage->shape, address);
	if (cause != SHIM_FAULT_NONE)
		return fail(walk, cause, index, 0, access, address, 0);
	if (stage->empty)
		return fail(walk, SHIM_FAULT_NOT_PRESENT, index, stage->shape.levels, access,
			    address, 0);
	begin(stage, address, step.wanted, &step.level, &table, &step.prot);
	for (;;) {
		unsigned int slot = soft_shape_index(format, &stage->shape, step.level, address);

		step.slot = table + slot * sizeof(step.raw);
		if (!take_entry(walk, &step))
			return false;
		if (walk->trace)
			trace_level(walk->trace, index, step.level, slot, address, table, step.raw,
				    &step.entry);
		/* The entry that takes a wanted permission away is the one at fault. */
		if ((step.wanted & step.prot & ~step.entry.prot) && !denied_level) {
			denied_level = step.level;
			denied_entry = step.raw;
		}
		step.prot &= step.entry.prot;
		switch (step.entry.kind) {
		case SOFT_ENTRY_TABLE:
			/* Level 1 has no tables, and each is below the last: it ends. */
			if (step.entry.level + 1u != step.level && skips(format, &step))
				return fail_step(walk, SHIM_FAULT_NOT_PRESENT, &step, step.raw);
			table = step.entry.address;
			if (!denied_level)
				keep(stage, address, &step.entry, step.prot);
			step.level = step.entry.level;
			continue;
		case SOFT_ENTRY_LEAF:
			break;
		case SOFT_ENTRY_EMPTY:
			return fail_step(walk, SHIM_FAULT_NOT_PRESENT, &step, step.raw);
		case SOFT_ENTRY_RESERVED:
			if (format->permission_first && denied_level)
				break;
			return fail_step(walk, SHIM_FAULT_RESERVED_BITS, &step, step.raw);
		case SOFT_ENTRY_WIDTH:
			return fail_step(walk, SHIM_FAULT_OUTPUT_WIDTH, &step, step.raw);
		}
		break;
	}
	/* The order of ARM: a page that nobody may use yet comes before permissions. */
	if (stage->faults_unused && format->accessed & ~step.raw &&
	    !(format->permission_first && denied_level))
		return fail_step(walk, SHIM_FAULT_ACCESS_FLAG, &step, step.raw);
	if (denied_level)
		return fail(walk, SHIM_FAULT_PERMISSION, index, denied_level, access, address,
			    denied_entry);
	/* What is left to note is a first write. */
	if (stage->faults_unused && format->use(step.level, true, step.raw, access) != step.raw)
		return fail_step(walk, SHIM_FAULT_ACCESS_FLAG, &step, step.raw);

	size = 1ull << step.entry.shift;
	/* Of a page that is larger than all that the IOMMU can put out, there is a part. */
	if (step.entry.shift > stage->env.output_bits) {
		if (address & (size - 1) & ~soft_bits(0, stage->env.output_bits))
			return fail_step(walk, SHIM_FAULT_OUTPUT_WIDTH, &step, step.raw);
		size = 1ull << stage->env.output_bits;
	}
	*ret = (struct soft_translation){
		.output = step.entry.address | (address & (size - 1)),
		.page_size = size,
		.prot = step.prot,
		.cached = step.prot,
	};
	/* A page without a dirty bit of its own (ARM without DBM) has nothing to set. */
	if (stage->env.access_dirty && format->use &&
	    format->use(step.level, true, step.raw, SHIM_WRITE) != step.raw)
		ret->cached &= ~SHIM_WRITE;
	/* Whoever got here without SOFT_USER being asked for may execute, and no more. */
	if (access & SOFT_USER & ~step.prot && !(stage->flags & SHIM_TABLE_SUPERVISOR))
		ret->cached &= SHIM_EXEC;
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
		bool notes = stage->env.access_dirty && stage->format->use;
		bool writes = notes && stage->update;
		uint64_t walks = stage->tables_in_next ? 1 + notes : 0;
		uint64_t entry = 1 + (writes ? SOFT_WALK_RESTARTS : 0) + walks * next;

		next += stage->shape.levels * entry;
	}
	return next;
}
