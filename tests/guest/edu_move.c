/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edu_move copy SOURCE TARGET LENGTH
 * edu_move load SOURCE LENGTH
 * edu_move store TARGET LENGTH
 *
 * Lets an edu move bytes by DMA: from an address to its buffer, from its buffer to an address,
 * or both.  A program for `ioasidctl device fd`: the device is the descriptor whose number is in
 * $IOASID_DEVICE_FD.  Whether the IOMMU let the bytes through it cannot tell (see edu.h).
 */
#include "edu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 0);
	return errno || *end || end == text ? -EINVAL : 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: edu_move copy SOURCE TARGET LENGTH | load SOURCE LENGTH | "
			"store TARGET LENGTH\n");
	return 2;
}

static int failed(const char *what, int r)
{
	fprintf(stderr, "edu_move: %s: %s\n", what, strerror(-r));
	return 1;
}

int main(int argc, char **argv)
{
	const char *fd = getenv("IOASID_DEVICE_FD");
	int copy = argc == 5 && !strcmp(argv[1], "copy"), r;
	int load = argc == 4 && !strcmp(argv[1], "load");
	int store = argc == 4 && !strcmp(argv[1], "store");
	uint64_t cdev, address, target = 0, length;
	struct edu edu;

	if (!(copy || load || store) || number(argv[2], &address) ||
	    (copy && number(argv[3], &target)) || number(argv[argc - 1], &length))
		return usage();
	if (!fd || number(fd, &cdev))
		return failed("$IOASID_DEVICE_FD", -EBADF);
	r = edu_open((int)cdev, &edu);
	if (r)
		return failed("the device", r);
	if (copy || load) {
		r = edu_to_device(&edu, address, length);
		if (!r)
			printf("the device read %" PRIu64 " bytes at 0x%" PRIx64 "\n", length,
			       address);
	}
	if (copy)
		address = target;
	if (!r && (copy || store)) {
		r = edu_from_device(&edu, address, length);
		if (!r)
			printf("the device wrote %" PRIu64 " bytes to 0x%" PRIx64 "\n", length,
			       address);
	}
	edu_close(&edu);
	return r ? failed("the device", r) : 0;
}
