/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_FOLDER_H
#define KUBERNETES_FOLDER_H

/*
 * The folders that containers are given: STATE_DIR/ids/ID, with ioasid.sock and lease.json
 * in it while the id is bound, and empty else.
 *
 * Invariant: a folder that is opened for a container is a new one under the old name.  A
 * container that was given the one before keeps an empty, dead folder and never sees what the
 * next one gets.
 *
 * The socket is a hard link of the broker's where both are reached by one mount; else a bind
 * mount of it.  Any thread; calls for one id at a time.
 */

#include <stdbool.h>
#include <stddef.h>

struct folders;

/* Makes STATE_DIR and what is in it. */
int folders_new(const char *state_dir, struct folders **ret_folders);
void folders_free(struct folders *folders);
/* Of STATE_DIR, for files in it; the folders' own. */
int folders_state_fd(const struct folders *folders);
/* The id has an empty, new folder; what it had before is gone. */
int folder_reset(struct folders *folders, const char *id);
int folder_fill(struct folders *folders, const char *id, const char *socket, const char *lease,
		size_t length);
/* If the broker has another socket now, then the folder has, too, if it was filled. */
int folder_follow(struct folders *folders, const char *id, const char *socket);
int folder_remove(struct folders *folders, const char *id);
/* Those that keep() does not want, left over from a plugin that was killed. */
void folders_sweep(struct folders *folders, bool (*keep)(void *userdata, const char *id),
		   void *userdata);

#endif
