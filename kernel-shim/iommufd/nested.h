/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_NESTED_H
#define IOASID_IOMMUFD_NESTED_H

/*
 * How an IOMMU is told of a table that a tenant wrote, and of what changed in it: in the layout
 * of its own, which the kernel hands through.
 */

#include "shim.h"

#define IOMMUFD_NESTED_DATA_MAX	 24u
#define IOMMUFD_NESTED_ENTRY_MAX 24u

struct iommufd_nested {
	uint32_t data_type;
	uint32_t data_size;
	uint32_t flags; /* SHIM_TABLE_* that it knows */
	void (*table)(enum shim_format format, const struct shim_table *table, void *ret_data);

	uint32_t invalidate_type;
	uint32_t entry_size;
	/* The smallest command that does all that was asked.  UNSUPPORTED. */
	int (*entry)(const struct shim_invalidate *invalidate, void *ret_entry);
	/* The layout that a tenant may write by itself; 0: none. */
	enum shim_native native;
	/* Of that: whether it means something. */
	bool (*entry_valid)(const void *entry);
};

/* Intel VT-d, first stage. */
extern const struct iommufd_nested iommufd_nested_vtd;

#endif
