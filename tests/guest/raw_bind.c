/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_bind [--apart] BDF...: opens each device and binds all to one iommufd context, or with
 * --apart each to one of its own.  For jobs that look at groups.
 *
 * Prints "BDF: bound" or "BDF: NAME of the error" a line, holds all until the last was tried,
 * and exits 0 if all were bound.
 */
#include "raw.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	int first = 1, apart = 0, status = 0, iommufd = -1, cdev, ret, i;

	if (argc > 1 && !strcmp(argv[1], "--apart")) {
		apart = 1;
		first = 2;
	}
	for (i = first; i < argc; i++) {
		if (apart || i == first)
			iommufd = raw_iommu_open();
		cdev = iommufd < 0 ? iommufd : raw_cdev_open(argv[i]);
		ret = cdev < 0 ? cdev : raw_bind(cdev, iommufd, NULL);
		printf("%s: %s\n", argv[i], ret ? strerrorname_np(-ret) : "bound");
		if (ret)
			status = 1;
	}
	return status;
}
