/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_BACKEND_H
#define IOASID_IOMMUFD_BACKEND_H

/*
 * Where devices come from, and how they are bound to a context and attached to a table: VFIO's
 * character devices, or in a test build the kernel's mock devices.  Everything else of the shim
 * is the same for both.
 *
 * All return 0 or -errno; what one call makes in the kernel, the next finds.  Calls on one
 * context are never made from two threads at once, but for dma().
 */

#include "iommufd/host.h"

struct iommufd_ctx;
struct iommufd_dev;

/* Objects in the iommufd that a device of a back end may have beside the device itself. */
#define IOMMUFD_BACKEND_OBJECTS 3u

struct iommufd_backend {
	const char *name;
	/* Devices have descriptors of their own, which a tenant may get. */
	bool has_fds;
	/* A bind makes so many objects at most. */
	unsigned objects;

	/* The inventory.  As iommufd_host_read(). */
	int (*host)(const struct iommufd_sys *sys, const char *sysfs_root,
		    const struct iommufd_kernel *kernel, struct iommufd_host *ret_host,
		    struct iommufd_problem *ret_problem);
	/* What is kept of a device while it is recorded; optional, both or none. */
	int (*init)(struct iommufd_dev *dev);
	void (*deinit)(struct iommufd_dev *dev);

	/* Sets dev->id, and dev->own. */
	int (*bind)(struct iommufd_dev *dev);
	/* Optional: what closing the device's descriptor does not do by itself. */
	void (*unbind)(struct iommufd_dev *dev);
	/*
	 * Attaches, or replaces at once.  pt_id: an IOAS or a HWPT; ioas: whose mappings it has,
	 * 0 where it is a table that a tenant wrote.
	 */
	int (*attach)(struct iommufd_dev *dev, uint32_t pasid, uint32_t pt_id, uint32_t ioas);
	/*
	 * Optional: the object may be a device of a context of which nothing is known: detaches
	 * what would not end with it.
	 */
	void (*forget)(struct iommufd_ctx *ctx, uint32_t id);
	/* Without an attachment: success. */
	int (*detach)(struct iommufd_dev *dev, uint32_t pasid);

	/* Optional: as shim_ops.dma. */
	int (*dma)(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
		   size_t len, size_t *ret_done, struct shim_fault *ret_fault);
};

extern const struct iommufd_backend iommufd_backend_vfio;

#endif
