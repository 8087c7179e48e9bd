/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_BUILD_H
#define IOASID_SOFT_BUILD_H

/*
 * Building: writes the bytes of a page table, in any format.  The largest pages are used
 * that address, target and length allow; a table exists as long as it has an entry, the
 * root from the first map on.
 *
 * One thread builds a table at a time.  Walks may run beside: an entry is written whole,
 * a table before the entry that leads to it, and tables that are taken out are handed to
 * the caller, who gives them back when no walk can be in them any more.
 */

#include "soft/format.h"
#include "soft/tables.h"

struct soft_builder {
	struct soft_tables *tables;
	const struct soft_format *format;
	const struct soft_shape *shape;
	struct soft_env env; /* output_bits is not looked at */
	bool snoop;	     /* leaves enforce it */
	bool clean;	     /* dirty pages are tracked: leaves begin without the dirty bit */
	/* The table's state, kept by its owner. */
	uint64_t *root;	    /* 0: none */
	uint32_t *n_tables; /* pages of 4 KiB in use */
};

/*
 * Maps [iova, iova + length) to target; both aligned to the format's granule, the range in one
 * half of the input space, length not 0.  SHIM_E_OVERLAP, -ENOMEM; on failure *ret_done says how
 * much from iova on has been mapped and must be taken out by soft_build_unmap().
 */
int soft_build_map(const struct soft_builder *builder, uint64_t iova, uint64_t length,
		   uint64_t target, uint32_t prot, uint64_t *ret_done);

/* Whether all of the range is mapped and no leaf reaches beyond it. */
bool soft_build_is_whole(const struct soft_builder *builder, uint64_t iova, uint64_t length);

/*
 * Takes out what is mapped in a range; no leaf reaches beyond it.  Tables that became empty are
 * added to dead.
 */
void soft_build_unmap(const struct soft_builder *builder, uint64_t iova, uint64_t length,
		      struct soft_table_list *dead);

/* The most pages that soft_build_map() of this range could add now. */
uint64_t soft_build_bound(const struct soft_builder *builder, uint64_t iova, uint64_t length,
			  uint64_t target);

/* Takes the whole table apart. */
void soft_build_clear(const struct soft_builder *builder, struct soft_table_list *dead);

#endif
