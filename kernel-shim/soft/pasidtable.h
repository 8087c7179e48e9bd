/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_PASIDTABLE_H
#define IOASID_SOFT_PASIDTABLE_H

/*
 * PASID tables that tenants write, in the layout of each architecture: one file a layout behind
 * struct soft_pasid_format.  A layout finds the entry of a PASID, word by word through the
 * parent, and says what an entry means; where what it found is kept is pasidtable.c's matter.
 *
 * Formats are constant data and functions without state: any thread, no lock.
 */

#include "soft/internal.h"

/* One look into a PASID table. */
struct soft_pasid_lookup {
	const struct soft_stage *stages; /* [0]: the PASID table's */
	unsigned int n_stages;
	uint64_t iova;		 /* for faults */
	struct shim_walk *trace; /* or NULL */
	struct shim_fault *fault;
};

/* Says why there is no entry; false, to be returned. */
bool soft_pasid_fail(const struct soft_pasid_lookup *lookup, enum shim_fault_cause cause,
		     uint64_t entry);
/* A word at an address of the parent. */
bool soft_pasid_read(const struct soft_pasid_lookup *lookup, uint64_t address, uint64_t *ret_value);
/*
 * An address that an entry holds: OUTPUT_WIDTH if it is beyond what tables lead to.  mask: where
 * the entry has it.
 */
bool soft_pasid_address(const struct soft_pasid_lookup *lookup, uint64_t entry, uint64_t mask,
			uint64_t *ret_address);

struct soft_pasid_format {
	enum shim_pasid_format id;
	/*
	 * Whether IOASIDs of this format can have such a table; else a reason of SHIM_REASON_MAX
	 * bytes.
	 */
	bool (*suits)(enum shim_format format, char *ret_reason);
	/* The shape and the width: bytes of the root, 0: there is no such table, and the reason. */
	uint64_t (*root_bytes)(const struct shim_pasid_table *table, char *ret_reason);
	/* The entry of a PASID, which is within the width. */
	bool (*find)(const struct soft_pasid_lookup *lookup, uint32_t pasid,
		     struct soft_pasid_entry *ret_entry);
	/*
	 * What an entry means for an address: sets format, shape, root, flags and environment of
	 * the stage.  format: the IOASID's.  NONE, or why it translates nothing.
	 */
	enum shim_fault_cause (*apply)(const struct soft_pasid_entry *entry,
				       enum shim_format format, uint64_t iova,
				       struct soft_stage *stage);
	/*
	 * The number by which translations are tagged in the caches in place of the PASID, 20
	 * bits; NULL: the PASID.
	 */
	uint32_t (*space_id)(const struct soft_pasid_entry *entry);
};

extern const struct soft_pasid_format soft_pasid_vtd;
extern const struct soft_pasid_format soft_pasid_gcr3;
extern const struct soft_pasid_format soft_pasid_cd;
extern const struct soft_pasid_format soft_pasid_pdt;

#endif
