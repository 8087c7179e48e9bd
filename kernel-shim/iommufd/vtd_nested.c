/* SPDX-License-Identifier: Apache-2.0 */

/*
 * VT-d's first-stage tables and their invalidation, as the kernel takes them: struct
 * iommu_hwpt_vtd_s1 and struct iommu_hwpt_vtd_s1_invalidate.  Pure.
 *
 * The kernel flushes for each device and PASID that the table is attached by, and device TLBs
 * with it.  So commands for one PASID or for device TLBs alone become one for all: more is
 * flushed than was asked, never less.
 */

#include "iommufd/nested.h"
#include "iommufd/uapi.h"

#include <string.h>

#define PAGE UINT64_C(4096)

static void table(enum shim_format format, const struct shim_table *t, void *ret_data)
{
	struct iommufd_hwpt_vtd_s1 data = {
		.pgtbl_addr = t->root,
		.addr_width = format == SHIM_FORMAT_X86_64_5L ? 57 : 48,
	};

	if (t->flags & SHIM_TABLE_SUPERVISOR)
		data.flags |= IOMMU_VTD_S1_SRE;
	if (t->flags & SHIM_TABLE_EXTENDED_ACCESS)
		data.flags |= IOMMU_VTD_S1_EAFE;
	if (t->flags & SHIM_TABLE_WRITE_PROTECT)
		data.flags |= IOMMU_VTD_S1_WPE;
	memcpy(ret_data, &data, sizeof(data));
}

static int entry(const struct shim_invalidate *i, void *ret_entry)
{
	struct iommufd_vtd_s1_invalidate e = {.npages = UINT64_MAX};
	uint64_t first = i->iova / PAGE, last = (i->iova + i->length - 1) / PAGE;

	switch (i->scope) {
	case SHIM_INVALIDATE_ALL:
	case SHIM_INVALIDATE_PASID:
	case SHIM_INVALIDATE_DEVICE_TLB:
		break;
	case SHIM_INVALIDATE_RANGE:
		e.addr = first * PAGE;
		e.npages = last - first + 1;
		e.flags = i->leaf ? IOMMU_VTD_INV_FLAGS_LEAF : 0;
		break;
	case SHIM_INVALIDATE_PASID_CACHE:
		return SHIM_E_UNSUPPORTED;
	}
	memcpy(ret_entry, &e, sizeof(e));
	return 0;
}

static bool entry_valid(const void *bytes)
{
	struct iommufd_vtd_s1_invalidate e;

	memcpy(&e, bytes, sizeof(e));
	if (e.addr % PAGE || e.reserved || e.flags & ~IOMMU_VTD_INV_FLAGS_LEAF || !e.npages)
		return false;
	if (e.npages == UINT64_MAX)
		return !e.addr;
	return e.npages <= (UINT64_MAX - e.addr) / PAGE;
}

const struct iommufd_nested iommufd_nested_vtd = {
	.data_type = IOMMU_HWPT_DATA_VTD_S1,
	.data_size = sizeof(struct iommufd_hwpt_vtd_s1),
	.flags = SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT | SHIM_TABLE_EXTENDED_ACCESS,
	.table = table,
	.invalidate_type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
	.entry_size = sizeof(struct iommufd_vtd_s1_invalidate),
	.entry = entry,
	.native = SHIM_NATIVE_VTD_S1,
	.entry_valid = entry_valid,
};
