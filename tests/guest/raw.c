/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw calls of iommufd and VFIO.  See raw.h.  Invariant: a structure goes to the kernel
 * zeroed but for what the caller said, so that a kernel that knows more fields sees defaults.
 */
#include "raw.h"

#include "uapi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int raw_cdev_open(const char *bdf)
{
	char path[512];
	struct dirent *entry;
	int fd = -ENODEV;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		break;
	}
	closedir(dir);
	return fd;
}

int raw_iommu_open(void)
{
	int fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int raw_drop_to(unsigned int uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return 0;
}

static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

int raw_bind(int cdev, int iommufd, uint32_t *dev_id)
{
	struct raw_bind_iommufd arg = {.argsz = sizeof(arg), .iommufd = iommufd};
	int ret = call(cdev, RAW_BIND_IOMMUFD, &arg);

	if (!ret && dev_id)
		*dev_id = arg.out_devid;
	return ret;
}

int raw_attach(int cdev, uint32_t pt_id)
{
	struct raw_attach arg = {.argsz = sizeof(arg), .pt_id = pt_id};

	return call(cdev, RAW_ATTACH_IOMMUFD, &arg);
}

int raw_detach(int cdev)
{
	/* Without pt_id, which is not part of detach's structure. */
	struct raw_attach arg = {.argsz = offsetof(struct raw_attach, pt_id)};

	return call(cdev, RAW_DETACH_IOMMUFD, &arg);
}

int raw_ioas_alloc(int iommufd, uint32_t *ioas_id)
{
	struct raw_ioas_alloc arg = {.size = sizeof(arg)};
	int ret = call(iommufd, RAW_IOAS_ALLOC, &arg);

	if (!ret)
		*ioas_id = arg.out_ioas_id;
	return ret;
}

int raw_destroy(int iommufd, uint32_t id)
{
	struct raw_iommu_destroy arg = {.size = sizeof(arg), .id = id};

	return call(iommufd, RAW_IOMMU_DESTROY, &arg);
}

int raw_map_file(int iommufd, uint32_t ioas_id, int fd, uint64_t start, uint64_t length,
		 uint64_t iova, int writable)
{
	struct raw_ioas_map_file arg = {
		.size = sizeof(arg),
		.flags = RAW_MAP_FIXED_IOVA | RAW_MAP_READABLE | (writable ? RAW_MAP_WRITEABLE : 0),
		.ioas_id = ioas_id,
		.fd = fd,
		.start = start,
		.length = length,
		.iova = iova,
	};

	return call(iommufd, RAW_IOAS_MAP_FILE, &arg);
}

int raw_unmap(int iommufd, uint32_t ioas_id, uint64_t iova, uint64_t length)
{
	struct raw_ioas_unmap arg = {
		.size = sizeof(arg), .ioas_id = ioas_id, .iova = iova, .length = length};

	return call(iommufd, RAW_IOAS_UNMAP, &arg);
}
