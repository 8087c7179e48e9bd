/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_H
#define IOASID_IOMMUFD_H

/*
 * The shim for Linux iommufd: real devices behind a real IOMMU, page tables built by the
 * kernel from memfds (IOASIDs of kind KERNEL).
 *
 * It runs without privilege and opens no device node: ioasid-keeper opens /dev/iommu and the
 * VFIO character devices and hands over descriptors (keeper/client.h).  What the host has is
 * read from sysfs; the few things that only root can read the keeper tells.
 */

#include "shim.h"

struct iommufd_options {
	const char *keeper_socket; /* path of the keeper's socket; required */
	const char *sysfs_root;	   /* NULL: "/sys"; another one for tests */
};

/* Why there is no shim, in words for the operator. */
struct iommufd_problem {
	char message[256];
};

enum iommufd_error {
	/* The keeper is not there, or speaks another protocol. */
	IOMMUFD_E_KEEPER = 1,
	/* The running kernel lacks a call that the shim cannot do without. */
	IOMMUFD_E_KERNEL,
	/* No PCI function of this host is behind an IOMMU, or sysfs cannot be read. */
	IOMMUFD_E_HOST,
};

/* [blocking] IOMMUFD_E_* (ret_problem is filled); -ENOMEM. */
int iommufd_shim_new(const struct iommufd_options *options, struct shim **ret_shim,
		     struct iommufd_problem *ret_problem);

/*
 * What was found and chosen, one line: the kernel's calls, how tables are made, what is not
 * there and why.  Borrowed; valid as long as the shim.
 */
const char *iommufd_shim_describe(const struct shim *shim);

#endif
