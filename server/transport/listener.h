/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_LISTENER_H
#define IOASID_TRANSPORT_LISTENER_H

/*
 * Named listening sockets: bound here, or handed over by systemd.  The name is half of a
 * caller's identity, so no two listeners share one.
 *
 * A path that is in the way is removed only if it is a socket of this very user that nobody
 * listens on; a lock on its folder keeps two starting servers from removing each other's.
 * At the end only the inode that was bound is removed.
 *
 * Threads: made and freed by the main thread while no other runs; read by all between.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LISTENERS_MAX	  64
#define LISTENER_NAME_MAX 63

struct listener {
	char *name;
	int fd;
	/* NULL: given by systemd, which removes it. */
	char *path;
	dev_t device;
	ino_t inode;
};

struct listeners {
	struct listener list[LISTENERS_MAX];
	size_t n;
};

enum listener_error {
	/* *ret_problem says what is wrong and where. */
	LISTENER_E_REFUSED = 1,
};

struct listener_spec {
	char *name;
	char *path;
	mode_t mode;
	gid_t group; /* (gid_t)-1: leave it */
};

/*
 * "NAME=PATH[:MODE[:GROUP]]".  LISTENER_E_REFUSED and a problem, a static or thread-local
 * text; on success the spec owns name and path.
 */
int listener_spec_parse(const char *text, struct listener_spec *ret_spec, const char **ret_problem);
void listener_spec_deinit(struct listener_spec *spec);

/* Adds a bound and listening socket.  problem: text of at least 256 bytes. */
int listeners_bind(struct listeners *listeners, const struct listener_spec *spec, char *ret_problem,
		   size_t problem_size);
/* Adds what systemd passed (LISTEN_FDS).  None is no error. */
int listeners_adopt(struct listeners *listeners, char *ret_problem, size_t problem_size);
const struct listener *listeners_find(const struct listeners *listeners, const char *name);
/* Removes the paths; what is connected stays so. */
void listeners_unlink(struct listeners *listeners);
void listeners_deinit(struct listeners *listeners);

#endif
