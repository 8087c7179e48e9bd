/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_LISTENERS_H
#define KUBERNETES_LISTENERS_H

/*
 * The sockets in the kubelet's folder on which it calls this plugin, and the thread that
 * accepts there: a thread of its own, because a kubelet calls back before it answers Register.
 * Only root, or the plugin's own user, is let in.
 */

#include "config.h"
#include "server.h"

/* Bytes of a socket's name with its NUL. */
#define LISTENERS_NAME_SIZE 64

struct listeners;

int listeners_new(const struct config *config, struct server *server,
		  struct listeners **ret_listeners);
/* Unlinks the sockets.  NULL-safe. */
void listeners_free(struct listeners *listeners);
/*
 * The socket of the resource is there, made anew if somebody deleted it (*ret_fresh).  One
 * thread.
 */
int listeners_ensure(struct listeners *listeners, unsigned resource, bool *ret_fresh);
/* Its name within the folder. */
void listeners_name(const struct config *config, unsigned resource, char name[LISTENERS_NAME_SIZE]);

#endif
