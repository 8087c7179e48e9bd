/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_EXEC_CHILD_H
#define IOASID_CLI_EXEC_CHILD_H

/*
 * The process of `ioasidctl exec`: forked first, so that a lease can be tied to it, and told
 * later what it is given and that it may run the program.  It knows nothing of leases.
 *
 *	exec_child_fork()	before anything has started a thread
 *	exec_child_run()	it executes the program, or says why it cannot
 *	exec_child_wait()	relays signals; its end
 *	exec_child_end()	whatever came before: nothing of it is left
 *
 * A child whose parent dies before exec_child_run() exits; after that it lives by itself.
 */

#include "cli.h"

#include <sys/types.h>

/* ioasid_claim() takes as many, and one message carries them beside the lease. */
#define EXEC_DEVICES_MAX 64

struct exec_child {
	pid_t pid; /* 0: there is none (any more) */
	int pidfd;
	int channel;
};
#define EXEC_CHILD_INIT                                                                            \
	{                                                                                          \
		.pidfd = -1, .channel = -1                                                         \
	}

/*
 * What the program finds: $IOASID_SOCKET, $IOASID_LEASE_FILE, $IOASID_DEVICE_FDS and, if it has
 * one, $IOASID_CONTEXT_FD.
 */
struct exec_gifts {
	int lease_fd;
	int context_fd; /* -1: none */
	size_t n_fds;
	const char *const *devices; /* one for each fd, "0000:3b:00.0" */
	const int *fds;
};

/*
 * socket NULL: the library's default.  The program's signals are as this process got its own.
 * -errno.
 */
int exec_child_fork(struct cli *cli, char *const *argv, const char *socket,
		    struct exec_child *child);
/*
 * Signals that exec_child_wait() relays are blocked from here on, for good.  0: the program
 * runs, or the child was killed before; > 0: the errno of its exec; -errno: it could not be
 * told.
 */
int exec_child_run(struct exec_child *child, const struct exec_gifts *gifts);
/* Exit status as a shell gives it: the program's, or 128 and the signal that ended it. */
int exec_child_wait(struct exec_child *child);
/* Kills and reaps it if it is there.  For a child that does not run the program yet. */
void exec_child_end(struct exec_child *child);

#endif
