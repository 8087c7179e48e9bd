/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_HOST_H
#define IOASID_IOMMUFD_HOST_H

/*
 * The host's inventory: PCI functions behind an IOMMU, and the IOMMUs.  Read once when the
 * shim starts; immutable afterwards.
 */

#include "iommufd/iommufd.h"
#include "iommufd/nested.h"
#include "iommufd/smmuv3.h"
#include "iommufd/sys.h"

enum iommufd_unit_type {
	IOMMUFD_UNIT_OTHER, /* sysfs tells nothing of it */
	IOMMUFD_UNIT_VTD,
	IOMMUFD_UNIT_AMD,
	IOMMUFD_UNIT_SMMUV3,
};

struct iommufd_unit {
	char name[SHIM_NAME_MAX]; /* "dmar0" */
	enum iommufd_unit_type type;
	uint64_t cap; /* VT-d */
	uint64_t ecap;
	bool known; /* SMMUv3, which sysfs does not describe */
	struct smmuv3_abilities smmuv3;
	const struct iommufd_nested *nested; /* NULL: no tables of tenants */
	struct shim_caps caps;		     /* without what depends on the device */
};

struct iommufd_slot {
	struct shim_device_info info;
	const struct iommufd_unit *unit;
};

struct iommufd_host {
	struct iommufd_unit *units;
	size_t n_units;
	struct iommufd_slot *slots; /* in the order of their addresses */
	size_t n_slots;
	/* The union of all devices' reserved ranges, in order and apart from each other. */
	struct shim_range *reserved;
	size_t n_reserved;
	/* What all SMMUv3 that are known have; no output_bits: there is none. */
	struct {
		bool asid16;
		uint8_t output_bits;
	} smmuv3;
};

/* What the running kernel can do: bit n: iommufd's call 0x80 + n. */
struct iommufd_kernel {
	uint32_t calls;
};
static inline bool iommufd_kernel_has(const struct iommufd_kernel *kernel, unsigned long request)
{
	return kernel->calls >> ((request & 0xff) - 0x80) & 1;
}

/* IOMMUFD_E_KEEPER, IOMMUFD_E_HOST (ret_problem is filled); -ENOMEM. */
int iommufd_host_read(const struct iommufd_sys *sys, const char *sysfs_root,
		      const struct iommufd_kernel *kernel, struct iommufd_host *ret_host,
		      struct iommufd_problem *ret_problem);
void iommufd_host_deinit(struct iommufd_host *host);

/*
 * The unit of the host's turns out to be that; no_nesting "": it nests.  Before the broker
 * serves anybody: whoever has seen the inventory has seen less.  -ENOMEM.
 */
int iommufd_host_learn(struct iommufd_host *host, const struct iommufd_unit *unit,
		       const struct iommufd_kernel *kernel,
		       const struct smmuv3_abilities *abilities, const char *no_nesting);

/* NULL: no such device. */
const struct iommufd_slot *iommufd_host_find(const struct iommufd_host *host, const char *address);

/* For tests: the text of reserved_regions; what is over SHIM_RESERVED_MAX is merged. */
void iommufd_host_parse_reserved(const char *text, struct shim_range *ret_ranges, size_t *ret_n);

#endif
