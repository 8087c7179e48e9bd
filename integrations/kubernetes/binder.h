/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_BINDER_H
#define KUBERNETES_BINDER_H

/*
 * Who an id is for.  A thread that answers PreStartContainer: it learns the container from
 * PodResources, its tenant from its namespace, opens the lease and the folder; and that takes
 * the lease back when the container is gone, because nobody says so.
 *
 * Rules.  Each start of a container has a new lease: what an earlier one of these ids had is
 * closed before.  A container counts as gone when the kubelet, up for settle_seconds at least,
 * has twice in a row named its pod without the id or not at all.  A kubelet that does not name the
 * plugin's own pod, where it is one, has not heard of its pods and is not believed.  A lease that
 * the broker no longer has is forgotten, and the folder closed.  What cannot be closed now is
 * closed later, and its ids are refused until then.
 */

#include "catalog.h"
#include "folder.h"
#include "server.h"

struct binder;

struct binder_config {
	const struct config *config;
	struct folders *folders;
	struct catalog *catalog;
	/* The pod that this plugin is, or NULL twice. */
	const char *own_namespace;
	const char *own_pod;
	/* Something was bound or released; any thread. */
	void (*changed)(void *userdata);
	void *userdata;
};

/* Reads the state that an earlier plugin left.  The problem is set for RECORD_E_INVALID. */
int binder_new(const struct binder_config *config, struct binder **ret_binder,
	       char problem[CONFIG_PROBLEM_SIZE]);
/*
 * What waits is answered, what comes later is refused.  Leases stay: containers go on while the
 * plugin is away.  NULL-safe.
 */
void binder_stop(struct binder *binder);
/* Nobody calls binder_pre_start() any more.  NULL-safe. */
void binder_free(struct binder *binder);
/* Answers the call some time; ids are copied.  -EBUSY: too many wait already. */
int binder_pre_start(struct binder *binder, struct server_call *call, unsigned resource,
		     char *const *ids, size_t n_ids);
/* Looks soon whether anything is to be released. */
void binder_poke(struct binder *binder);
/* Does a lease of this plugin have the device?  Any thread. */
bool binder_owns(struct binder *binder, const char *address);

#endif
