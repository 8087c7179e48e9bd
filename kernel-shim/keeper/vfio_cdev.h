/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_VFIO_CDEV_H
#define IOASID_KEEPER_VFIO_CDEV_H

/*
 * The one call of the VFIO cdev that the keeper makes.  <linux/vfio.h> has it since Linux 6.6
 * (VFIO_DEVICE_BIND_IOMMUFD); the names here are others, so that both can be included.
 */

#include <linux/ioctl.h>
#include <stdint.h>

struct vfio_cdev_bind {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
};

#define VFIO_CDEV_BIND _IO(';', 100 + 18)

#endif
