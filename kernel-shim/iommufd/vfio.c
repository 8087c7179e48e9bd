/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The back end of real devices: VFIO's character devices.  Structures filled, nothing decided.
 * A device is bound as long as its descriptor is open, whoever has it.
 */

#include "iommufd/backend.h"
#include "iommufd/internal.h"

static int vfio_bind(struct iommufd_dev *dev)
{
	const struct iommufd_sys *sys = iommufd_sys_of(dev->ctx);
	struct vfio_cdev_bind arg = {.argsz = sizeof(arg), .iommufd = dev->ctx->fd};
	int r = sys->ioctl(sys->user, dev->fd, VFIO_CDEV_BIND_IOMMUFD, &arg);

	if (!r)
		dev->id = arg.out_devid;
	return r;
}

static int vfio_attach(struct iommufd_dev *dev, uint32_t pasid, uint32_t pt_id, uint32_t ioas)
{
	const struct iommufd_sys *sys = iommufd_sys_of(dev->ctx);
	struct vfio_cdev_attach arg = {.argsz = VFIO_CDEV_ATTACH_SIZE, .pt_id = pt_id};

	if (pasid != SHIM_NO_PASID) {
		arg.argsz = sizeof(arg);
		arg.flags = VFIO_CDEV_PASID;
		arg.pasid = pasid;
	}
	return sys->ioctl(sys->user, dev->fd, VFIO_CDEV_ATTACH_PT, &arg);
}

static int vfio_detach(struct iommufd_dev *dev, uint32_t pasid)
{
	const struct iommufd_sys *sys = iommufd_sys_of(dev->ctx);
	struct vfio_cdev_detach arg = {.argsz = VFIO_CDEV_DETACH_SIZE};

	if (pasid != SHIM_NO_PASID) {
		arg.argsz = sizeof(arg);
		arg.flags = VFIO_CDEV_PASID;
		arg.pasid = pasid;
	}
	return sys->ioctl(sys->user, dev->fd, VFIO_CDEV_DETACH_PT, &arg);
}

const struct iommufd_backend iommufd_backend_vfio = {
	.name = "vfio",
	.has_fds = true,
	.objects = 1,
	.host = iommufd_host_read,
	.bind = vfio_bind,
	.attach = vfio_attach,
	.detach = vfio_detach,
};
