/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's monitor protocol (QMP): JSON over a unix socket.  One command at a time; events that
 * come in between are kept by name.  Used by one thread.  A socket that ends, and text that is
 * no JSON, end the program; an error that QEMU answers is the caller's.
 */
#ifndef TESTS_GUEST_QEMU_QMP_H
#define TESTS_GUEST_QEMU_QMP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

struct qmp {
	int fd;
	struct json_tokener *tokener;
	struct json_object *greeting;
	struct json_object *events; /* of all that came, by name */
	size_t have;
	char bytes[4096];
};

/* Tries for a minute, and gets ready for commands. */
void qmp_connect(struct qmp *qmp, const char *path);
void qmp_close(struct qmp *qmp);

/* command: the whole of it, JSON; fd is passed with it unless it is -1.  What it returns, to be
 * put; else NULL, and the reason in ret_error. */
struct json_object *qmp_do(struct qmp *qmp, const char *command, int fd, const char **ret_error);
/* Whether QEMU said so, since it was connected or within ten seconds. */
bool qmp_event(struct qmp *qmp, const char *name);

/* A member of members: qmp_get(answer, "version", "qemu", "major", NULL); or NULL. */
struct json_object *qmp_get(struct json_object *object, ...) __attribute__((sentinel));

#endif
