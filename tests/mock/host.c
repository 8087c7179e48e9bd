/* SPDX-License-Identifier: Apache-2.0 */

/* The inventory of mock devices, and how their IOMMU takes a tenant's table. */

#include "mock.h"
#include "mock_uapi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP_FIRST 240u

/* ---- nested tables ---- */

static void table(enum shim_format format, const struct shim_table *t, void *ret_data)
{
	struct mock_table data = {.iotlb = (uint32_t)(t->root >> 12)};

	memcpy(ret_data, &data, sizeof(data));
}

/* One page is one of its entries; more are all. */
static int entry(const struct shim_invalidate *i, void *ret_entry)
{
	struct mock_invalidate e = {.flags = MOCK_INVALIDATE_ALL};

	if (i->scope == SHIM_INVALIDATE_RANGE && i->iova >> 12 == (i->iova + i->length - 1) >> 12)
		e = (struct mock_invalidate){.entry = i->iova >> 12 & (MOCK_IOTLB_ENTRIES - 1)};
	memcpy(ret_entry, &e, sizeof(e));
	return 0;
}

const struct iommufd_nested mock_nested = {
	.data_type = MOCK_DATA_TYPE,
	.data_size = sizeof(struct mock_table),
	.table = table,
	.invalidate_type = MOCK_INVALIDATE_TYPE,
	.entry_size = sizeof(struct mock_invalidate),
	.entry = entry,
};

/* ---- inventory ---- */

static void caps(struct shim_caps *ret)
{
	*ret = (struct shim_caps){
		.formats = {{.format = SHIM_FORMAT_KERNEL_CHOSEN,
			     .input_bits = MOCK_INPUT_BITS,
			     .output_bits = 52,
			     .page_sizes = UINT64_C(1) << 12,
			     .nest_parent = true},
			    {.format = SHIM_FORMAT_X86_64_4L,
			     .input_bits = 48,
			     .output_bits = 52,
			     .page_sizes = UINT64_C(1) << 12,
			     .tenant_only = true,
			     .nest_child = true}},
		.n_formats = 2,
		.reserved = {{.last = MOCK_APERTURE_FIRST - 1, .use = "aperture"}},
		.n_reserved = 1,
		.pasid_bits = MOCK_PASID_BITS,
		.max_depth = 2,
		.recoverable_faults = true,
		.dirty_tracking = true,
		.snoop_control = true,
		.invalidations = 1u << SHIM_INVALIDATE_ALL | 1u << SHIM_INVALIDATE_RANGE |
				 1u << SHIM_INVALIDATE_PASID | 1u << SHIM_INVALIDATE_DEVICE_TLB,
	};
	snprintf(ret->kind_absent[SHIM_KIND_PROCESS], SHIM_REASON_MAX,
		 "iommufd offers no page table of a process (SVA) to user space");
	snprintf(ret->kind_absent[SHIM_KIND_KVM], SHIM_REASON_MAX,
		 "iommufd offers no page table of KVM's");
	snprintf(ret->feature_absent[SHIM_FEATURE_DEVICE_FD], SHIM_REASON_MAX,
		 "a mock device has no descriptor");
}

int mock_host(const struct iommufd_sys *sys, const char *sysfs_root,
	      const struct iommufd_kernel *kernel, struct iommufd_host *ret_host,
	      struct iommufd_problem *ret_problem)
{
	struct iommufd_host host = {
		.units = calloc(1, sizeof(*host.units)),
		.n_units = 1,
		.slots = calloc(MOCK_DEVICES, sizeof(*host.slots)),
		.n_slots = MOCK_DEVICES,
		.reserved = calloc(1, sizeof(*host.reserved)),
		.n_reserved = 1,
	};

	if (!host.units || !host.slots || !host.reserved) {
		iommufd_host_deinit(&host);
		return -ENOMEM;
	}
	snprintf(host.units->name, sizeof(host.units->name), "mock");
	host.units->nested = &mock_nested;
	caps(&host.units->caps);
	host.reserved[0] = host.units->caps.reserved[0];
	for (unsigned i = 0; i < MOCK_DEVICES; i++) {
		struct shim_device_info *info = &host.slots[i].info;

		snprintf(info->address, sizeof(info->address), "0000:f0:%02x.0", i);
		snprintf(info->iommu, sizeof(info->iommu), "mock");
		info->vendor = 0x1234;
		info->device = 0x10cc;
		info->class_code = 0x00ff00;
		info->group = GROUP_FIRST + i;
		info->numa_node = -1;
		info->caps = host.units->caps;
		host.slots[i].unit = host.units;
	}
	*ret_host = host;
	return 0;
}
