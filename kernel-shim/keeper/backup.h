/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_BACKUP_H
#define IOASID_KEEPER_BACKUP_H

/*
 * What outlives the keeper: copies of its own fds in systemd's fd store, and the state file's
 * text on a tmpfs.  Held fds of ioasidd are never put into the store: systemd hands all
 * names to the next start in one environment variable, and thousands would make that fail.
 *
 * The fd store is the service manager's and works by messages: what was removed is closed
 * when backup_barrier() returns, or soon after.
 */

#include <stdbool.h>
#include <stddef.h>

#define BACKUP_NAME_MAX 64

struct backup {
	const char *state_path; /* NULL: no state file */
	bool fd_store;
};

/* One that systemd kept. */
struct backup_fd {
	char name[BACKUP_NAME_MAX];
	int fd;
};

void backup_put(const struct backup *backup, const char *name, int fd);
void backup_remove(const struct backup *backup, const char *name);
void backup_barrier(const struct backup *backup);

/* Replaces the state file in one step. */
int backup_write(const struct backup *backup, const char *text, size_t size);

#endif
