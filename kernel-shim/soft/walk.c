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

static bool walk_from(struct walk *walk, unsigned int index, uint64_t address, uint32_t access,
		      struct soft_translation *ret)
{
	const struct soft_stage *stage = &walk->stages[index];
	const struct soft_format *format = stage->format;
	unsigned int level = format->levels, denied_level = 0;
	uint64_t table = stage->root, denied_entry = 0, size, raw;
	uint32_t prot = SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_USER;
	enum shim_fault_cause cause;
	struct soft_entry entry;

	cause = soft_format_check_input(format, stage->input_bits, address);
	if (cause != SHIM_FAULT_NONE)
		return fail(walk, cause, index, 0, access, address, 0);
	if (stage->empty)
		return fail(walk, SHIM_FAULT_NOT_PRESENT, index, level, access, address, 0);
	for (;; level--) {
		uint64_t slot = table + soft_level_index(level, address) * sizeof(raw);

		if (stage->tables_in_next) {
			struct soft_translation where;

			if (index + 1 == walk->n_stages)
				return fail(walk, SHIM_FAULT_BAD_ENTRY, index, level, access,
					    address, 0);
			if (!walk_from(walk, index + 1, slot, SHIM_READ | SOFT_USER, &where))
				return false;
			slot = where.output;
		}
		if (stage->load(stage->memory, slot, &raw))
			return fail(walk, SHIM_FAULT_MEMORY_ERROR, index, level, access, address,
				    0);
		format->decode(&stage->env, level, raw, &entry);
		if (walk->trace)
			trace_level(walk->trace, index, level, address, table, raw, &entry);
		/* The entry that takes a wanted permission away is the one at fault. */
		if ((access & prot & ~entry.prot) && !denied_level) {
			denied_level = level;
			denied_entry = raw;
		}
		prot &= entry.prot;
		switch (entry.kind) {
		case SOFT_ENTRY_TABLE:
			/* Level 1 has no tables: a format never decodes one there. */
			table = entry.address;
			continue;
		case SOFT_ENTRY_LEAF:
			break;
		case SOFT_ENTRY_EMPTY:
			return fail(walk, SHIM_FAULT_NOT_PRESENT, index, level, access, address,
				    raw);
		case SOFT_ENTRY_RESERVED:
			return fail(walk, SHIM_FAULT_RESERVED_BITS, index, level, access, address,
				    raw);
		case SOFT_ENTRY_WIDTH:
			return fail(walk, SHIM_FAULT_OUTPUT_WIDTH, index, level, access, address,
				    raw);
		}
		break;
	}
	if (denied_level)
		return fail(walk, SHIM_FAULT_PERMISSION, index, denied_level, access, address,
			    denied_entry);

	size = 1ull << soft_level_shift(level);
	*ret = (struct soft_translation){
		.output = entry.address | (address & (size - 1)),
		.page_size = size,
		.prot = prot,
	};
	if (index + 1 < walk->n_stages) {
		struct soft_translation next;

		if (!walk_from(walk, index + 1, ret->output, access, &next))
			return false;
		ret->output = next.output;
		ret->prot &= next.prot;
		if (next.page_size < ret->page_size)
			ret->page_size = next.page_size;
	}
	return true;
}

bool soft_walk(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
	       uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
	       struct shim_fault *ret_fault)
{
	struct walk walk = {
		.stages = stages,
		.n_stages = n_stages,
		.trace = trace,
		.fault = ret_fault,
	};

	if (walk_from(&walk, 0, address, access, ret))
		return true;
	/* From the child's side, what its parent lacks is the parent's refusal. */
	if (ret_fault->stage > 1) {
		if (ret_fault->cause == SHIM_FAULT_NOT_PRESENT)
			ret_fault->cause = SHIM_FAULT_PARENT_NOT_PRESENT;
		else if (ret_fault->cause == SHIM_FAULT_PERMISSION)
			ret_fault->cause = SHIM_FAULT_PARENT_PERMISSION;
	}
	return false;
}
