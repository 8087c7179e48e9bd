/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of threads for blocking work; fairness and threads are told in workers.h. */
#include "workers.h"

#include "list.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#define N_LANES 256

struct lane {
	struct list ready; /* in workers.ready while it has work that may run */
	struct broker_work *head;
	struct broker_work **tail;
	unsigned n_running;
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct list ready;
	struct lane lanes[N_LANES];
	unsigned lane_limit;
	bool stopping;

	/* Run, waiting for the state thread; under the lock. */
	struct broker_work *finished;
	struct broker_work **finished_tail;
	bool posted;
	struct mail mail;
	struct mailbox *mailbox;

	size_t n_pending; /* state thread's */
	unsigned n_threads;
	pthread_t threads[WORKERS_MAX];
};

static struct lane *lane_of(struct workers *workers, const void *key)
{
	/* Fibonacci hashing: allocations differ in their middle bits. */
	uint64_t hash = (uint64_t)(uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15);

	return &workers->lanes[hash >> 56];
}

/* A lane is ready when it has work and is below its limit; called with the lock held. */
static void lane_update(struct workers *workers, struct lane *lane)
{
	bool ready = lane->head && lane->n_running < workers->lane_limit;

	if (!ready)
		list_remove(&lane->ready);
	else if (list_is_empty(&lane->ready))
		list_append(&workers->ready, &lane->ready);
}

static void *worker_main(void *userdata)
{
	struct workers *workers = userdata;

	pthread_mutex_lock(&workers->lock);
	for (;;) {
		struct broker_work *work;
		struct lane *lane;
		bool post;

		while (list_is_empty(&workers->ready) && !workers->stopping)
			pthread_cond_wait(&workers->wanted, &workers->lock);
		/* Work of a lane at its limit is taken by the worker that holds the lane. */
		if (list_is_empty(&workers->ready))
			break;

		lane = container_of(workers->ready.next, struct lane, ready);
		work = lane->head;
		lane->head = work->next;
		if (!lane->head)
			lane->tail = &lane->head;
		lane->n_running++;
		/* To the end of the round, or out of it. */
		list_remove(&lane->ready);
		lane_update(workers, lane);
		pthread_mutex_unlock(&workers->lock);

		work->run(work);

		pthread_mutex_lock(&workers->lock);
		lane->n_running--;
		lane_update(workers, lane);
		work->next = NULL;
		*workers->finished_tail = work;
		workers->finished_tail = &work->next;
		post = !workers->posted;
		workers->posted = true;
		if (post) {
			pthread_mutex_unlock(&workers->lock);
			mailbox_post(workers->mailbox, &workers->mail);
			pthread_mutex_lock(&workers->lock);
		}
	}
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

static void workers_deliver(struct mail *mail)
{
	struct workers *workers = container_of(mail, struct workers, mail);
	struct broker_work *work;

	pthread_mutex_lock(&workers->lock);
	work = workers->finished;
	workers->finished = NULL;
	workers->finished_tail = &workers->finished;
	workers->posted = false;
	pthread_mutex_unlock(&workers->lock);
	while (work) {
		struct broker_work *next = work->next;

		workers->n_pending--;
		work->done(work);
		work = next;
	}
}

int workers_new(unsigned n, struct mailbox *mailbox, struct workers **ret_workers)
{
	struct workers *workers = calloc(1, sizeof(*workers));
	int r;

	if (!workers)
		return -ENOMEM;
	workers->mailbox = mailbox;
	workers->mail.deliver = workers_deliver;
	workers->lane_limit = n / 2 ? n / 2 : 1;
	workers->finished_tail = &workers->finished;
	list_init(&workers->ready);
	for (size_t i = 0; i < N_LANES; i++) {
		list_init(&workers->lanes[i].ready);
		workers->lanes[i].tail = &workers->lanes[i].head;
	}
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wanted, NULL);
	for (; workers->n_threads < n; workers->n_threads++) {
		r = pthread_create(&workers->threads[workers->n_threads], NULL, worker_main,
				   workers);
		if (r) {
			workers_free(workers);
			return -r;
		}
	}
	*ret_workers = workers;
	return 0;
}

void workers_free(struct workers *workers)
{
	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->stopping = true;
	pthread_cond_broadcast(&workers->wanted);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->n_threads; i++)
		pthread_join(workers->threads[i], NULL);
	pthread_cond_destroy(&workers->wanted);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

void workers_submit(struct workers *workers, struct broker_work *work)
{
	struct lane *lane = lane_of(workers, work->fairness_key);

	work->next = NULL;
	workers->n_pending++;
	pthread_mutex_lock(&workers->lock);
	*lane->tail = work;
	lane->tail = &work->next;
	lane_update(workers, lane);
	pthread_cond_signal(&workers->wanted);
	pthread_mutex_unlock(&workers->lock);
}

size_t workers_pending(const struct workers *workers)
{
	return workers->n_pending;
}
