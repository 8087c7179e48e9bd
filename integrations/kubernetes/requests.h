/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_REQUESTS_H
#define KUBERNETES_REQUESTS_H

/*
 * What the kubelet is answered.  Allocate knows ids and nothing of the pod: it tells where the
 * container will find its lease, and closes the folder.  On the server's thread; nothing here
 * waits.
 */

#include "binder.h"

struct requests {
	const struct config *config;
	struct catalog *catalog;
	struct folders *folders;
	/* Set before the first connection. */
	struct binder *binder;
};

/* For server_new(), with a struct requests as userdata. */
extern const struct server_ops requests_ops;

/* The list that ListAndWatch sends. */
void requests_publish(struct server *server, unsigned port,
		      const struct inventory_resource *resource);

#endif
