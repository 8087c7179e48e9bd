/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_STATE_H
#define IOASID_OCI_STATE_H

/*
 * What a runtime says of a container on a hook's stdin.  id and bundle are always there and
 * name the container; pid is believed at prestart and createRuntime only, where it is the
 * init's in the host's namespace.
 */

#include <sys/types.h>

struct json_object;

struct state {
	struct json_object *document; /* owns the text below */
	const char *id;
	const char *bundle; /* absolute */
	pid_t pid;	    /* 0: none was told */
	struct json_object *annotations;
};

int state_read(int fd, struct state *ret_state);
void state_deinit(struct state *state);
/* NULL: not there. */
int state_annotation(const struct state *state, const char *name, const char **ret_value);

#endif
