/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_TOPOLOGY_H
#define IOASID_SOFT_TOPOLOGY_H

/*
 * The simulated host: IOMMUs and devices, read from JSON (docs/topology.md).  Immutable
 * once it is parsed.
 */

#include "soft/soft.h"

#define SOFT_IOMMUS_MAX	 64
#define SOFT_DEVICES_MAX 16384
#define SOFT_DEPTH_MAX	 4

struct soft_iommu_desc {
	char name[SHIM_NAME_MAX];
	uint32_t formats; /* bit n: format n */
	uint8_t output_bits;
	uint8_t pasid_bits;
	uint8_t max_depth;
	bool snoop_control;
	bool access_dirty;
	bool lpa2; /* ARM: tables of more than 48 bits */
	bool page_requests;
	uint32_t iotlb_entries;
	uint32_t device_tlb_entries; /* 0: no device TLBs behind it */
	struct shim_range reserved[SHIM_RESERVED_MAX];
	size_t n_reserved;
};

struct soft_device_desc {
	struct shim_device_info info;
	uint32_t iommu; /* index */
	uint32_t formats;
};

struct soft_topology {
	struct soft_iommu_desc *iommus;
	size_t n_iommus;
	struct soft_device_desc *devices;
	size_t n_devices;
	/* Indices of devices, ordered by address. */
	uint32_t *by_address;
};

/* SOFT_E_TOPOLOGY (problem, without the file's name); -ENOMEM. */
int soft_topology_parse(const char *text, size_t length, struct soft_topology **ret_topology,
			struct soft_problem *ret_problem);
void soft_topology_free(struct soft_topology *topology);

/* The index of the device, n_devices if there is none. */
size_t soft_topology_find(const struct soft_topology *topology, const char *address);

#endif
