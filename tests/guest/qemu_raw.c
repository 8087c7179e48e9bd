/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu_raw UID BDF PROGRAM ARGUMENT...
 *
 * Runs a program as `ioasidctl exec --delegate` does, without ioasid: as root it opens an iommufd
 * context and the device, and the program has the two descriptors, by number in $IOASID_CONTEXT_FD
 * and $IOASID_DEVICE_FDS, and nothing else: it is UID, with no way back.  So a job tells what QEMU
 * and the kernel do from what the broker does.
 */
#include "raw.h"
#include "report.h"

#include <fcntl.h>
#include <unistd.h>

static void give(int fd, const char *format, const char *device, const char *variable)
{
	char text[64];

	need(fd, variable);
	need(fcntl(fd, F_SETFD, 0) < 0 ? -errno : 0, "it is inherited");
	snprintf(text, sizeof(text), format, device, fd);
	need(setenv(variable, text, 1) ? -errno : 0, "it is told");
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: qemu_raw UID BDF PROGRAM ARGUMENT...\n");
		return 2;
	}
	give(raw_iommu_open(), "%s%d", "", "IOASID_CONTEXT_FD");
	give(raw_cdev_open(argv[2]), "%s=%d", argv[2], "IOASID_DEVICE_FDS");
	need(raw_drop_to((unsigned int)strtoul(argv[1], NULL, 10)), "root is given up");
	execvp(argv[3], argv + 3);
	report(0, "run the program", strerror(errno));
	return 1;
}
