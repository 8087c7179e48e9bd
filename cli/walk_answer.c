/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One address: the walk, and what is an answer of this tool beyond what a walk says.
 *
 * Where nothing is asked of the permissions (no --access), a page that grants nothing to anybody
 * is a permission fault: no access at all would get through.  And where a nested table's accessed
 * bit would have to be set in memory that its parent holds read-only, the look does without: it
 * sets nothing.
 */
#include "walk.h"

#define GRANTS (SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_PRIVILEGED_EXEC)

static bool look(const struct walk *walk, uint64_t address, struct shim_walk *trace,
		 struct soft_translation *ret, struct shim_fault *ret_fault)
{
	struct soft_stage stages[WALK_STAGES_MAX];

	trace->n_levels = 0;
	if (soft_walk(walk->stages, walk->n_stages, address, walk->access, trace, ret, ret_fault))
		return true;
	if (walk->access || walk->n_stages == 1 || ret_fault->cause != SHIM_FAULT_PARENT_PERMISSION)
		return false;
	for (unsigned int i = 0; i < walk->n_stages; i++) {
		stages[i] = walk->stages[i];
		stages[i].env.access_dirty = false;
	}
	trace->n_levels = 0;
	return soft_walk(stages, walk->n_stages, address, 0, trace, ret, ret_fault);
}

int walk_answer(struct walk *walk, uint64_t address)
{
	struct soft_translation where = {0};
	struct shim_fault fault = {0};
	struct shim_walk trace;
	bool ok = look(walk, address, &trace, &where, &fault);
	int r = walk_check_image(walk);

	if (r)
		return r;
	if (ok && !(where.prot & GRANTS)) {
		const struct shim_walk_level *last = &trace.levels[trace.n_levels - 1];

		ok = false;
		fault = (struct shim_fault){
			.cause = SHIM_FAULT_PERMISSION,
			.stage = last->stage,
			.level = last->level,
			.address = last->input,
			.entry = last->entry,
		};
	}
	walk_print_answer(walk, address, &trace, &where, ok ? NULL : &fault,
			  ok ? NULL : walk_cause_name(fault.cause));
	return CLI_OK;
}
