/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_UAPI_H
#define IOASID_IOMMUFD_UAPI_H

/*
 * What this shim uses of the kernel's interface to iommufd and to VFIO character devices.
 * Debian 12 ships no <linux/iommufd.h> and a <linux/vfio.h> that knows no character devices,
 * so the definitions are here.  Numbers, layouts and names of members are the kernel's stable
 * ABI (Documentation/userspace-api/iommufd.rst, Documentation/driver-api/vfio.rst); the type
 * names begin with iommufd_ so that they do not meet the kernel's where both are included.
 *
 * Every iommufd structure begins with its own size.  A kernel that knows more members takes
 * the rest as zero; one that knows fewer refuses a non-zero rest with E2BIG.  So a structure
 * goes out zeroed but for what is meant.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

/* ---- iommufd: ioctls of /dev/iommu, type ';', numbers from 0x80 ---- */

#define IOMMUFD_CALL(number)	_IO(';', number)
#define IOMMUFD_CALL_NUMBER(rq) _IOC_NR(rq)
#define IOMMUFD_CALL_FIRST	0x80u
#define IOMMUFD_CALL_LAST	0x94u

#define IOMMU_DESTROY		IOMMUFD_CALL(0x80)
#define IOMMU_IOAS_ALLOC	IOMMUFD_CALL(0x81)
#define IOMMU_IOAS_ALLOW_IOVAS	IOMMUFD_CALL(0x82)
#define IOMMU_IOAS_IOVA_RANGES	IOMMUFD_CALL(0x84)
#define IOMMU_IOAS_UNMAP	IOMMUFD_CALL(0x86)
#define IOMMU_HWPT_ALLOC	IOMMUFD_CALL(0x89) /* 6.6 */
#define IOMMU_GET_HW_INFO	IOMMUFD_CALL(0x8a) /* 6.6 */
#define IOMMU_HWPT_SET_DIRTY	IOMMUFD_CALL(0x8b) /* 6.7 */
#define IOMMU_HWPT_GET_DIRTY	IOMMUFD_CALL(0x8c) /* 6.7 */
#define IOMMU_HWPT_INVALIDATE	IOMMUFD_CALL(0x8d) /* 6.8 */
#define IOMMU_FAULT_QUEUE_ALLOC IOMMUFD_CALL(0x8e) /* 6.11 */
#define IOMMU_IOAS_MAP_FILE	IOMMUFD_CALL(0x8f) /* 6.13 */
#define IOMMU_VIOMMU_ALLOC	IOMMUFD_CALL(0x90) /* 6.13 */
#define IOMMU_VDEVICE_ALLOC	IOMMUFD_CALL(0x91) /* 6.13 */
#define IOMMU_VEVENTQ_ALLOC	IOMMUFD_CALL(0x93) /* 6.15 */

/* Any object, by id. */
struct iommufd_destroy {
	__u32 size;
	__u32 id;
};

struct iommufd_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};

struct iommufd_iova_range {
	__aligned_u64 start;
	__aligned_u64 last; /* inclusive */
};

/* ALLOW_IOVAS: these stay usable, whatever is attached; what would take them is refused. */
struct iommufd_ioas_allow_iovas {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas;
	__u32 reserved;
	__aligned_u64 allowed_iovas; /* struct iommufd_iova_range[] */
};

/* IOVA_RANGES: what may be mapped as of now; EMSGSIZE, with the count, if there are more. */
struct iommufd_ioas_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas; /* in, out */
	__u32 reserved;
	__aligned_u64 allowed_iovas; /* struct iommufd_iova_range[] */
	__aligned_u64 out_iova_alignment;
};

#define IOMMU_IOAS_MAP_FIXED_IOVA (1u << 0)
#define IOMMU_IOAS_MAP_WRITEABLE  (1u << 1)
#define IOMMU_IOAS_MAP_READABLE	  (1u << 2)

struct iommufd_ioas_map_file {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start; /* in the file */
	__aligned_u64 length;
	__aligned_u64 iova;
};

/* A superset of whole mappings; 0 and U64_MAX: all of them.  length out: what was unmapped. */
struct iommufd_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};

#define IOMMU_HWPT_ALLOC_NEST_PARENT	(1u << 0)
#define IOMMU_HWPT_ALLOC_DIRTY_TRACKING (1u << 1)
#define IOMMU_HWPT_FAULT_ID_VALID	(1u << 2)
#define IOMMU_HWPT_ALLOC_PASID		(1u << 3)

#define IOMMU_HWPT_DATA_NONE	   0u
#define IOMMU_HWPT_DATA_VTD_S1	   1u
#define IOMMU_HWPT_DATA_ARM_SMMUV3 2u /* ste[2], little-endian */

struct iommufd_hwpt_alloc {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 pt_id; /* an IOAS, a nesting parent, or a vIOMMU */
	__u32 out_hwpt_id;
	__u32 reserved;
	__u32 data_type;
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 fault_id;
	__u32 reserved2;
};

/* Flags of VT-d's first stage. */
#define IOMMU_VTD_S1_SRE  (1u << 0)
#define IOMMU_VTD_S1_EAFE (1u << 1)
#define IOMMU_VTD_S1_WPE  (1u << 2)

struct iommufd_hwpt_vtd_s1 {
	__aligned_u64 flags;
	__aligned_u64 pgtbl_addr; /* in the parent */
	__u32 addr_width;
	__u32 reserved;
};

#define IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 0u

#define IOMMU_VTD_INV_FLAGS_LEAF (1u << 0)

/* addr 0 and npages U64_MAX: everything. */
struct iommufd_vtd_s1_invalidate {
	__aligned_u64 addr;
	__aligned_u64 npages;
	__u32 flags;
	__u32 reserved;
};

#define IOMMU_HWPT_DIRTY_ENABLE (1u << 0)

struct iommufd_set_dirty {
	__u32 size;
	__u32 flags;
	__u32 hwpt_id;
	__u32 reserved;
};

#define IOMMU_HWPT_DIRTY_NO_CLEAR (1u << 0)

/* The whole range must be mapped, else EINVAL.  Bits are set, none is cleared. */
struct iommufd_get_dirty {
	__u32 size;
	__u32 hwpt_id;
	__u32 flags;
	__u32 reserved;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 page_size;
	__aligned_u64 data; /* u64[]: bit n is page n */
};

struct iommufd_fault_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_fault_id;
	__u32 out_fault_fd;
};

/* A read of a fault queue gives whole groups of these, as many as there is room for. */
#define IOMMU_PGFAULT_FLAGS_PASID_VALID (1u << 0)
#define IOMMU_PGFAULT_FLAGS_LAST_PAGE	(1u << 1)
#define IOMMU_PGFAULT_PERM_READ		(1u << 0)
#define IOMMU_PGFAULT_PERM_WRITE	(1u << 1)
#define IOMMU_PGFAULT_PERM_EXEC		(1u << 2)
#define IOMMU_PGFAULT_PERM_PRIV		(1u << 3)
struct iommufd_pgfault {
	__u32 flags;
	__u32 dev_id;
	__u32 pasid;
	__u32 grpid;
	__u32 perm;
	__u32 reserved;
	__aligned_u64 addr;
	__u32 length;
	__u32 cookie; /* of the group */
};

/* A write answers groups. */
#define IOMMUFD_PAGE_RESP_SUCCESS 0u
#define IOMMUFD_PAGE_RESP_INVALID 1u
struct iommufd_page_response {
	__u32 cookie;
	__u32 code;
};

#define IOMMU_HW_INFO_TYPE_NONE	      0u
#define IOMMU_HW_INFO_TYPE_INTEL_VTD  1u
#define IOMMU_HW_INFO_TYPE_ARM_SMMUV3 2u

#define IOMMU_HW_CAP_DIRTY_TRACKING (1u << 0)

struct iommufd_hw_info {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 data_len; /* out: what the kernel has */
	__aligned_u64 data_uptr;
	__u32 out_data_type;
	__u8 out_max_pasid_log2; /* 6.15; an older kernel leaves it alone */
	__u8 reserved[3];
	__aligned_u64 out_capabilities;
};

/* Read-only mappings in a nesting parent would be writable for some devices. */
#define IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 (1u << 0)

struct iommufd_hw_info_vtd {
	__u32 flags;
	__u32 reserved;
	__aligned_u64 cap_reg;
	__aligned_u64 ecap_reg;
};

struct iommufd_hw_info_arm_smmuv3 {
	__u32 flags;
	__u32 reserved;
	__u32 idr[6];
	__u32 iidr;
	__u32 aidr;
};

/* What a tenant's IOMMU is made of, behind one of the host's. */
#define IOMMU_VIOMMU_TYPE_ARM_SMMUV3 1u

struct iommufd_viommu_alloc {
	__u32 size;
	__u32 flags;
	__u32 type;
	__u32 dev_id;
	__u32 hwpt_id; /* a nesting parent */
	__u32 out_viommu_id;
};

struct iommufd_vdevice_alloc {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 out_vdevice_id;
	__aligned_u64 virt_id; /* SMMUv3: the stream id that commands and events have */
};

#define IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 1u

struct iommufd_hwpt_invalidate {
	__u32 size;
	__u32 hwpt_id; /* or a vIOMMU */
	__aligned_u64 data_uptr;
	__u32 data_type;
	__u32 entry_len;
	__u32 entry_num; /* out, also on failure: how many were done */
	__u32 reserved;
};

#define IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 1u

struct iommufd_veventq_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type;
	__u32 veventq_depth;
	__u32 out_veventq_id;
	__u32 out_veventq_fd;
	__u32 reserved;
};

/* A read gives some of these, each with its event behind it, but for one that tells of a loss. */
#define IOMMU_VEVENTQ_FLAG_LOST_EVENTS (1u << 0)
struct iommufd_vevent_header {
	__u32 flags;
	__u32 sequence; /* of 31 bits */
};
struct iommufd_vevent_arm_smmuv3 {
	__aligned_u64 evt[4];
};

/* ---- VFIO: ioctls of a character device, type ';', numbers from 100 ---- */

#define VFIO_CALL(number) _IO(';', 100 + (number))

#define VFIO_CDEV_BIND_IOMMUFD VFIO_CALL(18)
#define VFIO_CDEV_ATTACH_PT    VFIO_CALL(19)
#define VFIO_CDEV_DETACH_PT    VFIO_CALL(20)

struct vfio_cdev_bind {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};

#define VFIO_CDEV_PASID (1u << 0) /* flag of attach and detach, 6.15 */

/* A second attach is a replace, atomic for the device. */
struct vfio_cdev_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id; /* in: an IOAS or a HWPT; out: the HWPT */
	__u32 pasid;
};

/* Without an attachment: success, nothing is done. */
struct vfio_cdev_detach {
	__u32 argsz;
	__u32 flags;
	__u32 pasid;
};

/* Kernels before PASIDs take these sizes only. */
#define VFIO_CDEV_ATTACH_SIZE 12u
#define VFIO_CDEV_DETACH_SIZE 8u

_Static_assert(sizeof(struct iommufd_destroy) == 8, "ABI");
_Static_assert(sizeof(struct iommufd_ioas_alloc) == 12, "ABI");
_Static_assert(sizeof(struct iommufd_ioas_allow_iovas) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_ioas_iova_ranges) == 32, "ABI");
_Static_assert(sizeof(struct iommufd_ioas_map_file) == 40, "ABI");
_Static_assert(sizeof(struct iommufd_ioas_unmap) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_hwpt_alloc) == 48, "ABI");
_Static_assert(sizeof(struct iommufd_hw_info) == 40, "ABI");
_Static_assert(sizeof(struct iommufd_hw_info_vtd) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_hwpt_vtd_s1) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_vtd_s1_invalidate) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_set_dirty) == 16, "ABI");
_Static_assert(sizeof(struct iommufd_get_dirty) == 48, "ABI");
_Static_assert(sizeof(struct iommufd_fault_alloc) == 16, "ABI");
_Static_assert(sizeof(struct iommufd_pgfault) == 40, "ABI");
_Static_assert(sizeof(struct iommufd_page_response) == 8, "ABI");
_Static_assert(sizeof(struct iommufd_hw_info_arm_smmuv3) == 40, "ABI");
_Static_assert(sizeof(struct iommufd_viommu_alloc) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_vdevice_alloc) == 24, "ABI");
_Static_assert(sizeof(struct iommufd_hwpt_invalidate) == 32, "ABI");
_Static_assert(sizeof(struct iommufd_veventq_alloc) == 32, "ABI");
_Static_assert(sizeof(struct iommufd_vevent_header) == 8, "ABI");
_Static_assert(sizeof(struct vfio_cdev_bind) == 16, "ABI");
_Static_assert(sizeof(struct vfio_cdev_attach) == 16, "ABI");
_Static_assert(sizeof(struct vfio_cdev_detach) == 12, "ABI");

#endif
