/* SPDX-License-Identifier: Apache-2.0 */

/* In the place of kernel-shim/iommufd/new.c: what asks for the iommufd shim gets mock devices. */

#include "door.h"
#include "mock.h"

#include <stdlib.h>
#include <string.h>

int iommufd_shim_new(const struct iommufd_options *options, struct shim **ret_shim,
		     struct iommufd_problem *ret_problem)
{
	const char *door = getenv("IOASID_MOCK_DOOR");
	struct iommufd_sys real, sys;
	int r = door ? mock_door_open(door) : 0;

	if (r) {
		iommufd_problem_set(ret_problem, "the back door %s: %s", door, strerror(-r));
		return r;
	}
	r = iommufd_open_sys(options, &real, ret_problem);
	if (r)
		return r;
	r = mock_sys_wrap(&real, &sys);
	if (r) {
		real.end(real.user);
		return r;
	}
	return iommufd_shim_new_on(&sys, &mock_backend, options->sysfs_root, ret_shim, ret_problem);
}
