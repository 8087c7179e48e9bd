/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_MOCK_H
#define IOASID_TEST_MOCK_H

/*
 * The iommufd shim on the kernel's mock devices, for tests: a back end in the place of VFIO's.
 * Everything between it and the kernel is what real devices have.
 *
 * A mock device lives in the iommufd that made it and has no descriptor.  It is attached from
 * its first moment to its last: "detached" it is at an empty address space of its own.  Its DMA
 * is simulated by an access object of the kernel's on the IOAS: that follows what is mapped and
 * the permissions, and knows no nested tables and no IOTLB.
 */

#include "iommufd/internal.h"

/* Addresses 0000:f0:00.0 and on, each a group of its own, behind one IOMMU named "mock". */
#define MOCK_DEVICES 6u

extern const struct iommufd_backend mock_backend;
extern const struct iommufd_nested mock_nested;

/* Devices that this process has claimed for its contexts; the keeper knows nothing of them. */
int mock_sys_wrap(const struct iommufd_sys *real, struct iommufd_sys *ret_sys);

/* host.c */
int mock_host(const struct iommufd_sys *sys, const char *sysfs_root,
	      const struct iommufd_kernel *kernel, struct iommufd_host *ret_host,
	      struct iommufd_problem *ret_problem);

/* One call; op and size are filled in. */
struct mock_cmd;
int mock_call(struct iommufd_ctx *ctx, unsigned int op, struct mock_cmd *cmd);

/*
 * dma.c: where a device's DMA goes, by PASID; locked, as DMA runs beside other calls.
 */
struct mock_routes;
int mock_routes_new(struct mock_routes **ret_routes);
void mock_routes_free(struct mock_routes *routes);
bool mock_routes_has(struct mock_routes *routes, uint32_t pasid);
/* Room for one more, so that mock_routes_set() cannot fail. */
int mock_routes_reserve(struct mock_routes *routes);
/* Returns when no DMA goes where it went before. */
void mock_routes_set(struct mock_routes *routes, uint32_t pasid, uint32_t pt, uint32_t ioas);
void mock_routes_clear(struct mock_routes *routes, uint32_t pasid);
/* False: nothing is attached by this PASID. */
bool mock_routes_pt(struct mock_routes *routes, uint32_t pasid, uint32_t *ret_pt);
/* The PASIDs, as many as there is room for; returns how many there are. */
size_t mock_routes_pasids(struct mock_routes *routes, uint32_t *ret_pasids, size_t room);
int mock_dma(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
	     size_t len, size_t *ret_done, struct shim_fault *ret_fault);

#endif
