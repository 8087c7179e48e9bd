/* SPDX-License-Identifier: Apache-2.0 */
/* See vfio_bar.h.  Keeps no state. */
#include "vfio_bar.h"

#include "uapi.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int region(int cdev, uint32_t index, struct vfio_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;
	return ioctl(cdev, VFIO_DEVICE_GET_REGION_INFO, info) < 0 ? -errno : 0;
}

/* VFIO hands the device over with both off. */
static int enable(int cdev)
{
	struct vfio_region_info config;
	uint16_t command;
	int ret;

	ret = region(cdev, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	if (ret)
		return ret;
	if (pread(cdev, &command, sizeof(command), (off_t)config.offset + PCI_COMMAND) !=
	    sizeof(command))
		return -EIO;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(cdev, &command, sizeof(command), (off_t)config.offset + PCI_COMMAND) !=
	    sizeof(command))
		return -EIO;
	return 0;
}

int vfio_bar_map(int cdev, size_t least, volatile void **ret_bar, size_t *ret_size)
{
	struct vfio_region_info info;
	void *bar;
	int ret;

	ret = region(cdev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	if (ret)
		return ret;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP) || info.size < least)
		return -ENXIO;
	ret = enable(cdev);
	if (ret)
		return ret;
	bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, cdev, (off_t)info.offset);
	if (bar == MAP_FAILED)
		return -errno;
	*ret_bar = bar;
	*ret_size = info.size;
	return 0;
}
