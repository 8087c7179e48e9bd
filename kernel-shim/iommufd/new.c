/* SPDX-License-Identifier: Apache-2.0 */

/* The shim that ioasidd gets: real devices.  A test build puts another file in its place. */

#include "iommufd/internal.h"

int iommufd_shim_new(const struct iommufd_options *options, struct shim **ret_shim,
		     struct iommufd_problem *ret_problem)
{
	struct iommufd_sys sys;
	int r = iommufd_open_sys(options, &sys, ret_problem);

	if (r)
		return r;
	return iommufd_shim_new_on(&sys, &iommufd_backend_vfio, options->sysfs_root, ret_shim,
				   ret_problem);
}
