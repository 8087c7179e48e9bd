/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_MOCK_UAPI_H
#define IOASID_TEST_MOCK_UAPI_H

/*
 * What tests use of the kernel's mock devices (CONFIG_IOMMUFD_TEST): one more call of iommufd,
 * with a number of the operation inside.  It is no stable ABI: numbers and layouts are those of
 * Linux 6.15 to 7.3.  A kernel refuses a structure that is smaller than its own.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

#define MOCK_CALL _IO(';', 0x80 + 32)

enum mock_op {
	MOCK_OP_CHECK_REFS = 4,
	MOCK_OP_CREATE_ACCESS = 5,
	MOCK_OP_ACCESS_RW = 8,
	MOCK_OP_REPLACE = 10,
	MOCK_OP_DEVICE = 12,
	MOCK_OP_DIRTY = 13,
	MOCK_OP_CHECK_IOTLB = 14,
	MOCK_OP_PAGE_REQUEST = 15,
	MOCK_OP_PASID_ATTACH = 18,
	MOCK_OP_PASID_REPLACE = 19,
	MOCK_OP_PASID_DETACH = 20,
	MOCK_OP_PASID_CHECK = 21,
};

/* Addresses that its tables can hold, the page of its IOMMU, the width of its PASIDs. */
#define MOCK_APERTURE_FIRST 0x1000000u
#define MOCK_INPUT_BITS	    31u
#define MOCK_IO_PAGE	    2048u
#define MOCK_PASID_BITS	    20u
/* Its second attachment by this one fails, for the kernel's own tests. */
#define MOCK_PASID_FAILS 1024u

#define MOCK_DEVICE_PASID (1u << 2)
#define MOCK_ACCESS_WRITE (1u << 0)

#define MOCK_HW_INFO_TYPE    0xfeedbeefu
#define MOCK_DATA_TYPE	     0xdeadu
#define MOCK_INVALIDATE_TYPE 0xdeadbeefu

/* A nested table is one number, with which the IOTLB is filled: four entries. */
#define MOCK_IOTLB_ENTRIES 4u
struct mock_table {
	__u32 iotlb;
};

/* Invalidated entries are 0. */
#define MOCK_INVALIDATE_ALL (1u << 0)
struct mock_invalidate {
	__u32 flags;
	__u32 entry;
};

struct mock_cmd {
	__u32 size;
	__u32 op;
	__u32 id; /* of the device (out_device), an IOAS, a HWPT; or an access's descriptor */
	__u32 reserved;
	union {
		struct {
			__u32 out_device; /* this handle, which ends it */
			__u32 out_hwpt;
			__u32 out_bound; /* the device as iommufd knows it */
			__u32 flags;
		} device; /* id: attached to this */
		struct {
			__u32 pt;
		} replace;
		struct {
			__u32 out_fd;
			__u32 flags;
		} create_access;
		struct {
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 bytes;
			__u32 flags;
		} access_rw;
		struct {
			__u32 flags;
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 page_size;
			__aligned_u64 bitmap;
			__aligned_u64 out_dirty;
		} dirty;
		struct {
			__u32 entry;
			__u32 expected;
		} check_iotlb;
		struct {
			__u32 bound;
			__u32 pasid; /* 0: without */
			__u32 group;
			__u32 perm;
			__u64 address;
		} page_request;
		struct {
			__u32 pasid;
			__u32 pt;
		} pasid;
	};
	__u32 last;
};

_Static_assert(sizeof(struct mock_cmd) == 72, "ABI");

#endif
