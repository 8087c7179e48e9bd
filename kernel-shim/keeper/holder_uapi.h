/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_HOLDER_UAPI_H
#define IOASID_KEEPER_HOLDER_UAPI_H

/*
 * Two calls that the keeper makes for the process that a context is given to.  <linux/pidfd.h>
 * has the first since Linux 6.13 (PIDFD_GET_INFO), <linux/iommufd.h> the second since 6.2
 * (IOMMU_OPTION); the names here are others, so that both can be included.
 */

#include <linux/ioctl.h>
#include <stdint.h>

/* struct pidfd_info, its first version. */
struct pidfd_process {
	uint64_t mask; /* in: what is wanted; out: what is there */
	uint64_t cgroup;
	uint32_t tid;
	uint32_t pid;
	uint32_t parent;
	uint32_t ruid;
	uint32_t rgid;
	uint32_t euid;
	uint32_t egid;
	uint32_t suid;
	uint32_t sgid;
	uint32_t fsuid;
	uint32_t fsgid;
	uint32_t spare;
};

#define PIDFD_PROCESS_IDS   (1u << 0)
#define PIDFD_PROCESS_CREDS (1u << 1)
#define PIDFD_PROCESS	    _IOWR(0xff, 11, struct pidfd_process)

/* struct iommu_option. */
struct iommufd_option {
	uint32_t size;
	uint32_t option;
	uint16_t op;
	uint16_t reserved;
	uint32_t object;
	uint64_t value;
};

/* Whom pinned pages count for: 0 the user, 1 the process. */
#define IOMMUFD_OPTION_RLIMIT_MODE 0
#define IOMMUFD_OPTION_BY_PROCESS  1
#define IOMMUFD_OPTION_OP_SET	   0
#define IOMMUFD_OPTION_OP_GET	   1
#define IOMMUFD_OPTION		   _IO(';', 0x87)

_Static_assert(sizeof(struct pidfd_process) == 64, "PIDFD_INFO_SIZE_VER0");
_Static_assert(sizeof(struct iommufd_option) == 24, "struct iommu_option");

#endif
