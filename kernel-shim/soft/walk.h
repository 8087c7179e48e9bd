/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_WALK_H
#define IOASID_SOFT_WALK_H

/*
 * The walk: one core for all formats, one to SOFT_STAGES_MAX stages.  Stage 0 is the
 * table of the address space itself, stage 1 its parent's, and so on; the output of a
 * stage is the input of the next, the last one's is host-physical.
 *
 * The core owns nothing and reads memory only through a stage's load(); each entry is
 * read once.  It ends whatever the tables hold: its depth is bounded by the formats.
 * Any thread.
 */

#include "soft/format.h"

#define SOFT_STAGES_MAX 4

struct soft_stage {
	const struct soft_format *format;
	struct soft_env env;
	uint8_t input_bits; /* <= the format's */
	bool empty;	    /* there is no table yet: nothing is present */
	/*
	 * Table addresses, the root's too, are input of the next stage (a table that the
	 * tenant wrote), and are translated there, for reading, before each load.
	 */
	bool tables_in_next;
	uint64_t root;
	/* Reads the entry at this (host-physical) address once.  -EFAULT: no memory there. */
	int (*load)(const void *memory, uint64_t address, uint64_t *ret_entry);
	const void *memory;
};

struct soft_translation {
	uint64_t output;
	uint64_t page_size; /* the smallest of all stages' */
	uint32_t prot;	    /* the AND of all stages' */
};

/*
 * Translates address for an access: one of SHIM_READ, SHIM_WRITE, SHIM_EXEC, with or
 * without SOFT_USER.  False: *ret_fault says why, else *ret is set.  trace, if not NULL,
 * gets the entries that were read (levels and n_levels only), as many as fit.
 */
bool soft_walk(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
	       uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
	       struct shim_fault *ret_fault);

#endif
