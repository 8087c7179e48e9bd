/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_FOLDER_H
#define IOASID_OCI_FOLDER_H

/*
 * STATE_DIR/LEASE, what the hook must know of one container at its next call:
 *
 *   hook.json            id, bundle, tenant, process, devices, the lease's secret
 *   container/           what the container gets to see, see mount.h
 *     lease.json         the lease file of docs/libioasid.md
 *     ioasid.sock        a link to broker/NAME
 *     broker/            empty here; the folder of the tenant's socket is mounted on it
 *
 * The state folder and STATE_DIR are 0700: on the host only the hook's user gets at a secret.
 * container/ and lease.json are open to all (0755, 0444), because in the container they are
 * the container's whole, whatever users and user namespace it has, and nobody else gets there.
 *
 * One run at a time works on a folder: it holds a lock on it (flock), which the kernel ends
 * with the run.
 */

#include "integrations/oci/ask.h"
#include "integrations/oci/names.h"

#include "lib/ioasid.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct config;

struct folder {
	int parent; /* STATE_DIR */
	int fd;
	char name[NAMES_LEASE_SIZE];
};
#define FOLDER_NONE                                                                                \
	{                                                                                          \
		.parent = -1, .fd = -1                                                             \
	}

/* What hook.json says. */
struct record {
	char *id, *bundle; /* free() */
	struct ask ask;	   /* tenant and devices that are claimed; no limits */
	pid_t pid;
	uint64_t started;
	bool has_secret;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
};

/* STATE_DIR, made if make. -ENOENT without a message: it is not there. */
int folder_open_parent(const struct config *config, bool make, int *ret_fd);
/*
 * Waits for the lock as long as the configuration lets a run take; no_wait: -EWOULDBLOCK.
 * -ENOENT without a message: not there, and not to be made.
 */
int folder_open(const struct config *config, const char *name, bool make, bool no_wait,
		struct folder *ret_folder);
void folder_close(struct folder *folder);
/* With all that is in it.  The lock is held until folder_close(). */
int folder_remove(const struct folder *folder);

/* Nobody has written a record into it. */
bool folder_is_new(const struct folder *folder);
/* -ENOENT without a message: an earlier run ended before it wrote one. */
int folder_read(const struct folder *folder, struct record *ret_record);
int folder_write(const struct folder *folder, const struct record *record);
void record_deinit(struct record *record);

/* container/, with everything in it.  *ret_fd is the caller's. */
int folder_write_container(const struct folder *folder, const struct record *record,
			   const char *socket, int *ret_fd);

#endif
