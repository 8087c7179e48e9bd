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

#define RAW_IOMMU_DESTROY   _IO(';', 0x80)
#define RAW_IOAS_ALLOC	    _IO(';', 0x81)
#define RAW_IOAS_UNMAP	    _IO(';', 0x86)
#define RAW_IOAS_MAP_FILE   _IO(';', 0x8f)
#define RAW_HWPT_ALLOC	    _IO(';', 0x89)
#define RAW_GET_HW_INFO	    _IO(';', 0x8a)
#define RAW_HWPT_INVALIDATE _IO(';', 0x8d)
#define RAW_VIOMMU_ALLOC    _IO(';', 0x90)
#define RAW_VDEVICE_ALLOC   _IO(';', 0x91)
#define RAW_VEVENTQ_ALLOC   _IO(';', 0x93)
#define RAW_BIND_IOMMUFD    _IO(';', VFIO_BASE + 18)
#define RAW_ATTACH_IOMMUFD  _IO(';', VFIO_BASE + 19)
#define RAW_DETACH_IOMMUFD  _IO(';', VFIO_BASE + 20)

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

#define RAW_HWPT_NEST_PARENT 1u
#define RAW_DATA_NONE	     0u
#define RAW_DATA_SMMUV3	     2u /* nested data, and type of hw_info */
#define RAW_VIOMMU_SMMUV3    1u /* also type of invalidation data, and of event queue */

struct raw_hwpt_alloc {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 pt_id;
	__u32 out_hwpt_id;
	__u32 reserved;
	__u32 data_type;
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 fault_id;
	__u32 reserved2;
};

struct raw_hw_info {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 out_data_type;
	__u8 out_max_pasid_log2;
	__u8 reserved[3];
	__aligned_u64 out_capabilities;
};

struct raw_hwpt_invalidate {
	__u32 size;
	__u32 hwpt_id; /* or a vIOMMU */
	__aligned_u64 data_uptr;
	__u32 data_type;
	__u32 entry_len;
	__u32 entry_num; /* out: done */
	__u32 reserved;
};

struct raw_viommu_alloc {
	__u32 size;
	__u32 flags;
	__u32 type;
	__u32 dev_id;
	__u32 hwpt_id;
	__u32 out_viommu_id;
};

struct raw_vdevice_alloc {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 out_vdevice_id;
	__aligned_u64 virt_id;
};

struct raw_veventq_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type;
	__u32 veventq_depth;
	__u32 out_veventq_id;
	__u32 out_veventq_fd;
	__u32 reserved;
};

/* What a read of an event queue gives, again and again; without an event if some were lost. */
#define RAW_VEVENT_LOST 1u
struct raw_vevent_header {
	__u32 flags;
	__u32 sequence;
};
struct raw_vevent_smmuv3 {
	__aligned_u64 evt[4];
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
