/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel's calls, one function each: structures filled, nothing decided.
 */

#include "iommufd/internal.h"

#include <errno.h>

static const struct iommufd_sys *sys_of(const struct iommufd_ctx *ctx)
{
	return &iommufd_shim_of(ctx->base.shim)->sys;
}

int iommufd_call(struct iommufd_ctx *ctx, unsigned long request, void *arg)
{
	const struct iommufd_sys *sys = sys_of(ctx);

	return sys->ioctl(sys->user, ctx->fd, request, arg);
}

int iommufd_destroy(struct iommufd_ctx *ctx, uint32_t id)
{
	struct iommufd_destroy arg = {.size = sizeof(arg), .id = id};

	return iommufd_call(ctx, IOMMU_DESTROY, &arg);
}

int iommufd_unmap(struct iommufd_ctx *ctx, uint32_t ioas, uint64_t iova, uint64_t length,
		  uint64_t *ret_unmapped)
{
	struct iommufd_ioas_unmap arg = {
		.size = sizeof(arg), .ioas_id = ioas, .iova = iova, .length = length};
	int r = iommufd_call(ctx, IOMMU_IOAS_UNMAP, &arg);

	if (!r)
		*ret_unmapped = arg.length;
	return r;
}

int iommufd_unmap_all(struct iommufd_ctx *ctx, uint32_t ioas)
{
	uint64_t unmapped;
	int r = -EIO;

	for (int i = 0; r && i < IOMMUFD_TRIES; i++) {
		r = iommufd_unmap(ctx, ioas, 0, UINT64_MAX, &unmapped);
		/* There was nothing. */
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

int iommufd_vfio_bind(struct iommufd_dev *dev)
{
	const struct iommufd_sys *sys = sys_of(dev->ctx);
	struct vfio_cdev_bind arg = {.argsz = sizeof(arg), .iommufd = dev->ctx->fd};
	int r = sys->ioctl(sys->user, dev->fd, VFIO_CDEV_BIND_IOMMUFD, &arg);

	if (!r)
		dev->id = arg.out_devid;
	return r;
}

int iommufd_vfio_attach(struct iommufd_dev *dev, uint32_t pasid, uint32_t pt_id)
{
	const struct iommufd_sys *sys = sys_of(dev->ctx);
	struct vfio_cdev_attach arg = {.argsz = VFIO_CDEV_ATTACH_SIZE, .pt_id = pt_id};

	if (pasid != SHIM_NO_PASID) {
		arg.argsz = sizeof(arg);
		arg.flags = VFIO_CDEV_PASID;
		arg.pasid = pasid;
	}
	return sys->ioctl(sys->user, dev->fd, VFIO_CDEV_ATTACH_PT, &arg);
}

int iommufd_vfio_detach(struct iommufd_dev *dev, uint32_t pasid)
{
	const struct iommufd_sys *sys = sys_of(dev->ctx);
	struct vfio_cdev_detach arg = {.argsz = VFIO_CDEV_DETACH_SIZE};

	if (pasid != SHIM_NO_PASID) {
		arg.argsz = sizeof(arg);
		arg.flags = VFIO_CDEV_PASID;
		arg.pasid = pasid;
	}
	return sys->ioctl(sys->user, dev->fd, VFIO_CDEV_DETACH_PT, &arg);
}
