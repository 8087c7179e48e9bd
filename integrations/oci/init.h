/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_INIT_H
#define IOASID_OCI_INIT_H

/*
 * The container's init as one process and not as a number: pidfd, start time and mount
 * namespace are of the same one, and it lived when init_open() returned.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct init {
	pid_t pid;
	uint64_t started; /* clock ticks since boot */
	int pidfd;
	int mount_ns;
};
#define INIT_NONE                                                                                  \
	{                                                                                          \
		.pidfd = -1, .mount_ns = -1                                                        \
	}

int init_open(pid_t pid, struct init *ret_init);
void init_close(struct init *init);
/* Does a process with this number and start time live? */
bool init_lives(pid_t pid, uint64_t started);

#endif
