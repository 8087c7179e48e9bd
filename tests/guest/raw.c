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

int raw_hw_info_smmuv3(int iommufd, uint32_t dev_id, uint32_t *type, uint32_t idr[6])
{
	uint32_t data[10] = {0}; /* flags, reserved, idr[6], iidr, aidr */
	struct raw_hw_info arg = {
		.size = sizeof(arg),
		.dev_id = dev_id,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)data,
	};
	int ret = call(iommufd, RAW_GET_HW_INFO, &arg);

	if (!ret) {
		*type = arg.out_data_type;
		memcpy(idr, data + 2, 6 * sizeof(*idr));
	}
	return ret;
}

int raw_hwpt_parent(int iommufd, uint32_t dev_id, uint32_t ioas_id, uint32_t *hwpt_id)
{
	struct raw_hwpt_alloc arg = {
		.size = sizeof(arg),
		.flags = RAW_HWPT_NEST_PARENT,
		.dev_id = dev_id,
		.pt_id = ioas_id,
	};
	int ret = call(iommufd, RAW_HWPT_ALLOC, &arg);

	if (!ret)
		*hwpt_id = arg.out_hwpt_id;
	return ret;
}

int raw_hwpt_nested(int iommufd, uint32_t dev_id, uint32_t viommu_id, const uint64_t ste[2],
		    uint32_t *hwpt_id)
{
	struct raw_hwpt_alloc arg = {
		.size = sizeof(arg),
		.dev_id = dev_id,
		.pt_id = viommu_id,
		.data_type = RAW_DATA_SMMUV3,
		.data_len = 2 * sizeof(*ste),
		.data_uptr = (uintptr_t)ste,
	};
	int ret = call(iommufd, RAW_HWPT_ALLOC, &arg);

	if (!ret)
		*hwpt_id = arg.out_hwpt_id;
	return ret;
}

int raw_viommu_alloc(int iommufd, uint32_t dev_id, uint32_t parent, uint32_t *viommu_id)
{
	struct raw_viommu_alloc arg = {
		.size = sizeof(arg),
		.type = RAW_VIOMMU_SMMUV3,
		.dev_id = dev_id,
		.hwpt_id = parent,
	};
	int ret = call(iommufd, RAW_VIOMMU_ALLOC, &arg);

	if (!ret)
		*viommu_id = arg.out_viommu_id;
	return ret;
}

int raw_vdevice_alloc(int iommufd, uint32_t viommu_id, uint32_t dev_id, uint64_t virt_id,
		      uint32_t *vdevice_id)
{
	struct raw_vdevice_alloc arg = {
		.size = sizeof(arg),
		.viommu_id = viommu_id,
		.dev_id = dev_id,
		.virt_id = virt_id,
	};
	int ret = call(iommufd, RAW_VDEVICE_ALLOC, &arg);

	if (!ret)
		*vdevice_id = arg.out_vdevice_id;
	return ret;
}

int raw_veventq_alloc(int iommufd, uint32_t viommu_id, uint32_t depth, uint32_t *veventq_id,
		      int *fd)
{
	struct raw_veventq_alloc arg = {
		.size = sizeof(arg),
		.viommu_id = viommu_id,
		.type = RAW_VIOMMU_SMMUV3,
		.veventq_depth = depth,
	};
	int ret = call(iommufd, RAW_VEVENTQ_ALLOC, &arg);

	if (!ret) {
		*veventq_id = arg.out_veventq_id;
		*fd = (int)arg.out_veventq_fd;
	}
	return ret;
}

int raw_viommu_commands(int iommufd, uint32_t viommu_id, const void *commands, uint32_t *n)
{
	struct raw_hwpt_invalidate arg = {
		.size = sizeof(arg),
		.hwpt_id = viommu_id,
		.data_uptr = (uintptr_t)commands,
		.data_type = RAW_VIOMMU_SMMUV3,
		.entry_len = 16,
		.entry_num = *n,
	};
	int ret = call(iommufd, RAW_HWPT_INVALIDATE, &arg);

	*n = arg.entry_num;
	return ret;
}
