/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_WALK_H
#define IOASID_SOFT_WALK_H

/*
 * The walk: one core for all formats, one to SOFT_STAGES_MAX stages.  Stage 0 is the
 * table of the address space itself, stage 1 its parent's, and so on; the output of a
 * stage is the input of the next, the last one's is host-physical.
 *
 * The core owns nothing and reads memory only through a stage's load(); each entry is
 * read once.  Where the IOMMU keeps accessed and dirty bits, an entry is then exchanged for
 * one with the bits, if it is still what was read; else what is there now is taken for read,
 * SOFT_WALK_RESTARTS times at most.
 *
 * It ends whatever the tables hold and whoever changes them meanwhile: soft_walk_bound()
 * says after how many accesses to memory at the latest.  Any thread.
 */

#include "soft/format.h"
#include "soft/iotlb.h"

#define SOFT_STAGES_MAX	   4
#define SOFT_WALK_RESTARTS 8

struct soft_pasid_format;

struct soft_stage {
	const struct soft_format *format;
	struct soft_env env;
	struct soft_shape shape;
	bool empty; /* there is no table yet: nothing is present */
	/*
	 * Table addresses, the root's too, are input of the next stage (a table that the
	 * tenant wrote), and are translated there, for reading, before each load; for
	 * writing, before a bit is set.
	 */
	bool tables_in_next;
	/* An entry whose use would have to be noted in it, and is not, is a fault. */
	bool faults_unused;
	uint32_t flags; /* SHIM_TABLE_* */
	/*
	 * Not NULL: the root is that of a PASID table of so many bits and this shape, and the
	 * stage counts as empty until pasidtable.c has found the entry.
	 */
	const struct soft_pasid_format *pasids;
	uint8_t pasid_bits, pasid_shape;
	bool identity; /* there is no table: addresses are the next stage's */
	uint64_t root;
	/* Reads the entry at this (host-physical) address once.  -EFAULT: no memory there. */
	int (*load)(const void *memory, uint64_t address, uint64_t *ret_entry);
	/*
	 * Puts wanted in the place of *expected: 0; 1: it was another by then, which is
	 * *expected now; -EFAULT.  NULL: nothing is to be changed by the walk; it goes as if
	 * the bits were set.
	 */
	int (*update)(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted);
	const void *memory;
	/*
	 * The paging-structure cache of the IOMMU that walks, and how entries of this table
	 * are named there; NULL: none is used.
	 */
	struct soft_iotlb *structures;
	uint64_t tag;
	uint32_t who;
};

struct soft_translation {
	uint64_t output;
	uint64_t page_size; /* the smallest of all stages' */
	uint32_t prot;	    /* the AND of all stages' */
	/*
	 * prot as it may be cached: without SHIM_WRITE while a dirty bit is still to be set,
	 * so that the first write is a miss.
	 */
	uint32_t cached;
};

/*
 * Translates address for an access: one of SHIM_READ, SHIM_WRITE, SHIM_EXEC, with or
 * without SOFT_USER; 0: nothing is asked of the permissions, *ret tells them.  False: *ret_fault
 * says why, else *ret is set.  trace, if not NULL, gets the entries that were read (levels and
 * n_levels only), as many as fit.
 */
bool soft_walk(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
	       uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
	       struct shim_fault *ret_fault);

/*
 * The same for an address of the parent, that is, from stage 1 on; faults are told as the
 * child sees them.
 */
bool soft_walk_parent(const struct soft_stage *stages, unsigned int n_stages, uint64_t address,
		      uint32_t access, struct shim_walk *trace, struct soft_translation *ret,
		      struct shim_fault *ret_fault);

/*
 * The most entries that a walk of these stages reads or exchanges.  What four stages of five
 * levels come to, of which three are tables that tenants rewrite meanwhile: 65880; where nobody
 * writes and all bits are set: 1295.
 */
uint64_t soft_walk_bound(const struct soft_stage *stages, unsigned int n_stages);

#endif
