/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token holds the list of gRPC calls that were started with it; firing cancels each and
 * stays in force.  The lock is held over grpc_call_cancel(), which calls nothing of ours,
 * so that a call cannot be destroyed while it is being cancelled.
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
	/* Under lock. */
	bool fired;
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
	for (struct cancel_node *node = cancel->calls; node; node = node->next)
		grpc_call_cancel(node->call, NULL);
	pthread_cond_broadcast(&cancel->fired_cond);
	pthread_mutex_unlock(&cancel->lock);
}

void cancel_add(struct ioasid_cancel *cancel, struct cancel_node *node, grpc_call *call)
{
	if (!cancel)
		return;
	pthread_mutex_lock(&cancel->lock);
	node->call = call;
	node->next = cancel->calls;
	node->link = &cancel->calls;
	if (node->next)
		node->next->link = &node->next;
	cancel->calls = node;
	if (cancel->fired)
		grpc_call_cancel(call, NULL);
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
	bool fired;

	if (!cancel)
		return false;
	pthread_mutex_lock(&cancel->lock);
	fired = cancel->fired;
	pthread_mutex_unlock(&cancel->lock);
	return fired;
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
