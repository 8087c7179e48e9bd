/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the kernel says of the IOMMU of a bound device (IOMMU_GET_HW_INFO), against what sysfs
 * said when the shim started.  Formats and widths were promised by the latter; if the two
 * contradict each other, one promise would be wrong, and the device is refused.
 *
 * The kernel also says how wide the device's PASIDs are as things stand, zero where the IOMMU
 * is not in a mode that has them.  That sysfs cannot tell, so it narrows and does not refuse.
 */

#include "iommufd/internal.h"

#include <errno.h>

int iommufd_hw_info_check(struct iommufd_dev *dev, char *ret_reason)
{
	const struct iommufd_shim *shim = iommufd_shim_of(dev->base.shim);
	const struct iommufd_unit *unit = dev->slot->unit;
	struct iommufd_hw_info_vtd vtd = {0};
	struct iommufd_hw_info info = {
		.size = sizeof(info),
		.dev_id = dev->id,
		.data_len = sizeof(vtd),
		.data_uptr = (uintptr_t)&vtd,
	};
	int r;

	if (!iommufd_kernel_has(&shim->kernel, IOMMU_GET_HW_INFO)) {
		dev->pasid_bits = 0;
		return 0;
	}
	r = iommufd_call(dev->ctx, IOMMU_GET_HW_INFO, &info);
	/* The IOMMU's driver has nothing to say. */
	if (r == -EOPNOTSUPP) {
		dev->pasid_bits = 0;
		return 0;
	}
	if (r)
		return r;
	if (vtd.flags & IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 &&
	    info.out_data_type == IOMMU_HW_INFO_TYPE_INTEL_VTD)
		dev->nests_not = "its IOMMU lets nested DMA write to what is mapped read-only "
				 "(erratum SPR17)";
	if (info.out_max_pasid_log2 < dev->pasid_bits)
		dev->pasid_bits = info.out_max_pasid_log2;
	if ((unit->type == IOMMUFD_UNIT_VTD) !=
	    (info.out_data_type == IOMMU_HW_INFO_TYPE_INTEL_VTD))
		return iommufd_refuse(ret_reason, SHIM_E_REFUSED,
				      "%s: its IOMMU %s is%s VT-d by sysfs and of type %u by the "
				      "kernel",
				      dev->slot->info.address, unit->name,
				      unit->type == IOMMUFD_UNIT_VTD ? "" : " not",
				      info.out_data_type);
	if (unit->type == IOMMUFD_UNIT_VTD &&
	    (vtd.cap_reg != unit->cap || vtd.ecap_reg != unit->ecap))
		return iommufd_refuse(
			ret_reason, SHIM_E_REFUSED,
			"%s: %s has CAP %llx ECAP %llx by sysfs, %llx %llx by the kernel",
			dev->slot->info.address, unit->name, (unsigned long long)unit->cap,
			(unsigned long long)unit->ecap, (unsigned long long)vtd.cap_reg,
			(unsigned long long)vtd.ecap_reg);
	return 0;
}
