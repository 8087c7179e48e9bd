/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few calls of iommufd and of VFIO character devices that the raw guest programs make.
 * Debian 12 ships no <linux/iommufd.h>, and a <linux/vfio.h> from before character devices.
 *
 * It is written apart from whatever definitions the project's own shim uses, on purpose: the
 * raw programs are the second opinion.  Numbers and layouts are the kernel's stable ABI
 * (Documentation/userspace-api/iommufd.rst).  Nothing outside tests/guest includes it.
 */
#ifndef TESTS_GUEST_UAPI_H
#define TESTS_GUEST_UAPI_H

#include <linux/types.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#define RAW_IOMMU_DESTROY  _IO(';', 0x80)
#define RAW_IOAS_ALLOC	   _IO(';', 0x81)
#define RAW_IOAS_UNMAP	   _IO(';', 0x86)
#define RAW_IOAS_MAP_FILE  _IO(';', 0x8f)
#define RAW_BIND_IOMMUFD   _IO(';', VFIO_BASE + 18)
#define RAW_ATTACH_IOMMUFD _IO(';', VFIO_BASE + 19)
#define RAW_DETACH_IOMMUFD _IO(';', VFIO_BASE + 20)

#define RAW_MAP_FIXED_IOVA 1u
#define RAW_MAP_WRITEABLE  2u
#define RAW_MAP_READABLE   4u

struct raw_iommu_destroy {
	__u32 size;
	__u32 id;
};

struct raw_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};

struct raw_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length; /* out: what was unmapped */
};

struct raw_ioas_map_file {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start;
	__aligned_u64 length;
	__aligned_u64 iova;
};

struct raw_bind_iommufd {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};

struct raw_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id; /* unused by detach */
};

#endif
