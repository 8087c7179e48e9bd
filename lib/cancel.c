/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token holds the list of gRPC calls that were started with it; firing cancels each and
 * stays in force.  The lock is held over grpc_call_cancel(), which calls nothing of ours,
 * so that a call cannot be destroyed while it is being cancelled.  The lock of a waiter is
 * taken inside it; whether a token was fired can be asked without any.
 */
#include "cancel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct ioasid_cancel {
	_Atomic unsigned references;
	pthread_mutex_t lock;
	pthread_cond_t fired_cond;
	/* Changes under lock. */
	_Atomic bool fired;
	/* Under lock. */
	struct cancel_node *calls;
};

struct ioasid_cancel *ioasid_cancel_new(void)
{
	struct ioasid_cancel *cancel = calloc(1, sizeof(*cancel));
	pthread_condattr_t attributes;

	if (!cancel)
		return NULL;
	cancel->references = 1;
	pthread_mutex_init(&cancel->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&cancel->fired_cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return cancel;
}

struct ioasid_cancel *cancel_ref(struct ioasid_cancel *cancel)
{
	if (cancel)
		atomic_fetch_add_explicit(&cancel->references, 1, memory_order_relaxed);
	return cancel;
}

struct ioasid_cancel *ioasid_cancel_unref(struct ioasid_cancel *cancel)
{
	if (cancel &&
	    atomic_fetch_sub_explicit(&cancel->references, 1, memory_order_acq_rel) == 1) {
		pthread_cond_destroy(&cancel->fired_cond);
		pthread_mutex_destroy(&cancel->lock);
		free(cancel);
	}
	return NULL;
}

void ioasid_cancel_fire(struct ioasid_cancel *cancel)
{
	if (!cancel)
		return;
	pthread_mutex_lock(&cancel->lock);
	cancel->fired = true;
	for (struct cancel_node *node = cancel->calls; node; node = node->next) {
		if (node->call) {
			grpc_call_cancel(node->call, NULL);
		} else {
			pthread_mutex_lock(node->lock);
			pthread_cond_broadcast(node->wake);
			pthread_mutex_unlock(node->lock);
		}
	}
	pthread_cond_broadcast(&cancel->fired_cond);
	pthread_mutex_unlock(&cancel->lock);
}

/* Under lock. */
static void insert(struct ioasid_cancel *cancel, struct cancel_node *node)
{
	node->next = cancel->calls;
	node->link = &cancel->calls;
	if (node->next)
		node->next->link = &node->next;
	cancel->calls = node;
}

void cancel_add(struct ioasid_cancel *cancel, struct cancel_node *node, grpc_call *call)
{
	if (!cancel)
		return;
	*node = (struct cancel_node){.call = call};
	pthread_mutex_lock(&cancel->lock);
	insert(cancel, node);
	if (cancel->fired)
		grpc_call_cancel(call, NULL);
	pthread_mutex_unlock(&cancel->lock);
}

void cancel_add_waiter(struct ioasid_cancel *cancel, struct cancel_node *node,
		       pthread_mutex_t *lock, pthread_cond_t *wake)
{
	if (!cancel)
		return;
	*node = (struct cancel_node){.lock = lock, .wake = wake};
	pthread_mutex_lock(&cancel->lock);
	insert(cancel, node);
	pthread_mutex_unlock(&cancel->lock);
}

void cancel_remove(struct ioasid_cancel *cancel, struct cancel_node *node)
{
	if (!cancel)
		return;
	pthread_mutex_lock(&cancel->lock);
	*node->link = node->next;
	if (node->next)
		node->next->link = node->link;
	pthread_mutex_unlock(&cancel->lock);
}

bool cancel_fired(struct ioasid_cancel *cancel)
{
	return cancel && cancel->fired;
}

void cancel_sleep(struct ioasid_cancel *cancel, uint64_t microseconds)
{
	struct timespec until;
	uint64_t nanoseconds;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	nanoseconds = (uint64_t)until.tv_nsec + microseconds % 1000000 * 1000;
	until.tv_sec += (time_t)(microseconds / 1000000 + nanoseconds / 1000000000);
	until.tv_nsec = (long)(nanoseconds % 1000000000);
	if (!cancel) {
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
			;
		return;
	}
	pthread_mutex_lock(&cancel->lock);
	while (!cancel->fired && !r)
		r = pthread_cond_timedwait(&cancel->fired_cond, &cancel->lock, &until);
	pthread_mutex_unlock(&cancel->lock);
}
