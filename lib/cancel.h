/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_CANCEL_H
#define LIBIOASID_CANCEL_H

/* Tokens that end calls.  All functions accept a NULL token, which is never fired. */

#include "ioasid.h"

#include <grpc/grpc.h>
#include <pthread.h>

/* A call under way, or a wait, in the list of its token. */
struct cancel_node {
	grpc_call *call;
	pthread_mutex_t *lock;
	pthread_cond_t *wake;
	struct cancel_node *next;
	struct cancel_node **link;
};

struct ioasid_cancel *cancel_ref(struct ioasid_cancel *cancel);
/* The call is cancelled at once if the token is fired already. */
void cancel_add(struct ioasid_cancel *cancel, struct cancel_node *node, grpc_call *call);
/*
 * Firing broadcasts the condition under its lock.  The waiter asks cancel_fired() under that
 * lock, but holds it neither here nor in cancel_remove().
 */
void cancel_add_waiter(struct ioasid_cancel *cancel, struct cancel_node *node,
		       pthread_mutex_t *lock, pthread_cond_t *wake);
/* Afterwards the token does not touch the call. */
void cancel_remove(struct ioasid_cancel *cancel, struct cancel_node *node);
bool cancel_fired(struct ioasid_cancel *cancel);
/* Sleeps until the time is over or the token is fired. */
void cancel_sleep(struct ioasid_cancel *cancel, uint64_t microseconds);

#endif
