/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keeper holds of registered memory.
 *
 * Every call of the keeper may block, so all but those of a request's own op are made by one op
 * of this file, on a worker, in rounds: fds that are to be dropped; and, after the keeper was
 * started anew (it then has no memfds), everything again, ROUND at a time.  Order: what is
 * dropped while a round gives the same fd is dropped in a later round.
 *
 * Owns struct kept_fds, and a struct kept_fd from kept_fd_drop() on.  Invariants: a name is
 * used for one memory ever (ids of a lease are not used again); a surplus fd at the keeper is
 * dropped by the next start at the latest.  State thread, but for the run of the op and what
 * says so.
 */
#include "server/broker/kept_fd.h"

#include "kernel-shim/keeper/client.h"
#include "server/broker/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <syslog.h>
#include <unistd.h>

#define ROUND 64
/* Between two looks whether a keeper that ended is there again. */
#define AGAIN_US UINT64_C(200000)
/* At the start. */
#define START_TRIES    100
#define START_PAUSE_US 100000

struct kept_fd {
	STAILQ_ENTRY(kept_fd) link; /* fds->dropped, fds->round */
	struct keeper *keeper;
	char name[64];
	char owner[];
};
STAILQ_HEAD(kept_fd_queue, kept_fd);

/* One that is given again: its own copies, for the memory may go meanwhile. */
struct given {
	int fd;
	char name[64];
	char owner[KEEPER_OWNER_MAX];
};

enum job { JOB_NONE, JOB_DROP, JOB_WATCH, JOB_GIVE };

struct kept_fds {
	struct broker *broker;
	struct keeper *keeper;
	struct broker_watch watch; /* fd -1: the keeper is not there, as far as is known */
	uint64_t watch_at_us;	   /* when to look for it again */
	bool lost;		   /* it was there once, and ended */
	int first_watch;	   /* made before anything was asked of it; -1: none */
	bool started;		   /* what was there is reconciled */
	bool stopped;
	struct kept_fd_queue dropped;
	/* Giving again: from the memory after this one; lease serial 0: nothing is given. */
	uint64_t give_lease, give_id;
	uint64_t n_given, n_failed;

	struct op op;
	enum job job; /* of the op; JOB_NONE: it does not run */
	int result;
	int new_watch;
	struct kept_fd_queue round;
	struct given given[ROUND];
	size_t n;
};

static void name_of(uint64_t lease, uint64_t id, char ret_name[static 64])
{
	snprintf(ret_name, 64, "m.%llu.%llu", (unsigned long long)lease, (unsigned long long)id);
}

bool kept_fds_are_kept(const struct broker *broker)
{
	return broker->kept_fds && broker->registry;
}

int kept_fd_new(struct broker *broker, const char *owner, uint64_t lease, uint64_t id,
		struct kept_fd **ret_kept)
{
	size_t n = strlen(owner) + 1;
	struct kept_fd *k = calloc(1, sizeof(*k) + n);

	if (!k)
		return -ENOMEM;
	k->keeper = broker->kept_fds->keeper;
	name_of(lease, id, k->name);
	memcpy(k->owner, owner, n);
	*ret_kept = k;
	return 0;
}

void kept_fd_free(struct kept_fd *kept)
{
	free(kept);
}

int kept_fd_hold(struct kept_fd *kept, int fd, char *ret_reason)
{
	int r = keeper_fd_hold(kept->keeper, kept->owner, kept->name, fd);

	if (r == KEEPER_E_LIMIT)
		snprintf(ret_reason, KEEPER_REASON_MAX, "its limit of fds is reached");
	else if (r > 0)
		snprintf(ret_reason, KEEPER_REASON_MAX, "it refuses");
	return r;
}

int kept_fd_take(struct kept_fd *kept, int *ret_fd)
{
	return keeper_fd_take(kept->keeper, kept->name, ret_fd);
}

/* ---- the op ---- */

static void fds_go(struct kept_fds *fds);

static void watch_ready(struct broker_watch *watch)
{
	struct kept_fds *fds = CONTAINER_OF(watch, struct kept_fds, watch);

	close(watch->fd);
	watch->fd = -1;
	fds->lost = true;
	broker_log(fds->broker, LOG_WARNING, "the keeper has ended; waiting for the next one");
	/* At once, or as soon as it is time again. */
	broker_expect(fds->broker, fds->watch_at_us);
	fds_go(fds);
}

static void fds_run(struct op *op)
{
	struct kept_fds *fds = CONTAINER_OF(op, struct kept_fds, op);
	struct kept_fd *k;

	switch (fds->job) {
	case JOB_DROP:
		/* A keeper that is not there has no fds either. */
		STAILQ_FOREACH(k, &fds->round, link)
		(void)keeper_fd_drop(fds->keeper, k->name);
		break;
	case JOB_WATCH:
		fds->result = keeper_watch(fds->keeper, &fds->new_watch);
		break;
	case JOB_GIVE:
		for (size_t i = 0; i < fds->n; i++) {
			struct given *g = &fds->given[i];

			if (keeper_fd_hold(fds->keeper, g->owner, g->name, g->fd))
				fds->n_failed++;
			else
				fds->n_given++;
			close(g->fd);
		}
		break;
	case JOB_NONE:
		break;
	}
}

static void watch_found(struct kept_fds *fds)
{
	struct broker *broker = fds->broker;

	fds->watch_at_us = broker_now(broker) + AGAIN_US;
	if (fds->result) {
		broker_expect(broker, fds->watch_at_us);
		return;
	}
	fds->watch = (struct broker_watch){.fd = fds->new_watch, .ready = watch_ready};
	if (fds->stopped || broker->host_ops->watch(broker->host, &fds->watch)) {
		close(fds->watch.fd);
		fds->watch.fd = -1;
		broker_expect(broker, fds->watch_at_us);
		return;
	}
	/* At the first time the fds are there: they were reconciled. */
	if (fds->lost) {
		fds->give_lease = 1;
		fds->give_id = 0;
		fds->n_given = fds->n_failed = 0;
	}
}

static void fds_complete(struct op *op)
{
	struct kept_fds *fds = CONTAINER_OF(op, struct kept_fds, op);
	struct kept_fd *k;

	while ((k = STAILQ_FIRST(&fds->round))) {
		STAILQ_REMOVE_HEAD(&fds->round, link);
		free(k);
	}
	if (fds->job == JOB_WATCH)
		watch_found(fds);
	fds->n = 0;
	fds->job = JOB_NONE;
	fds_go(fds);
}

/* The next memory after (give_lease, give_id); NULL: there is none. */
static struct memory *next_to_give(struct kept_fds *fds)
{
	struct lease *lease;
	struct object *o;

	TAILQ_FOREACH(lease, &fds->broker->leases, all)
	{
		if (lease->serial < fds->give_lease || lease->state == LEASE_REAPING)
			continue;
		if (lease->serial > fds->give_lease) {
			fds->give_lease = lease->serial;
			fds->give_id = 0;
		}
		while ((o = lease_any_after(lease, fds->give_id))) {
			fds->give_id = o->id.value;
			if (o->type == OBJECT_MEMORY)
				return CONTAINER_OF(o, struct memory, object);
		}
	}
	return NULL;
}

static void collect_given(struct kept_fds *fds)
{
	struct memory *m;

	while (fds->n < ROUND && (m = next_to_give(fds))) {
		struct given *g = &fds->given[fds->n];

		if (!m->kept)
			continue;
		g->fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
		if (g->fd < 0) {
			fds->n_failed++;
			continue;
		}
		memcpy(g->name, m->kept->name, sizeof(g->name));
		snprintf(g->owner, sizeof(g->owner), "%s", m->kept->owner);
		fds->n++;
	}
	if (fds->n)
		return;
	fds->give_lease = 0;
	broker_log(fds->broker, fds->n_failed ? LOG_ERR : LOG_NOTICE,
		   "the keeper was started anew: %llu fds given again, %llu it did not take",
		   (unsigned long long)fds->n_given, (unsigned long long)fds->n_failed);
}

static enum job choose_job(struct kept_fds *fds)
{
	if (fds->watch.fd < 0 && !fds->stopped && broker_now(fds->broker) >= fds->watch_at_us)
		return JOB_WATCH;
	if (fds->give_lease && fds->watch.fd >= 0) {
		collect_given(fds);
		if (fds->n)
			return JOB_GIVE;
	}
	if (STAILQ_EMPTY(&fds->dropped))
		return JOB_NONE;
	STAILQ_CONCAT(&fds->round, &fds->dropped);
	return JOB_DROP;
}

static void fds_go(struct kept_fds *fds)
{
	if (fds->job != JOB_NONE || !fds->started)
		return;
	if (fds->first_watch >= 0) {
		fds->new_watch = fds->first_watch;
		fds->first_watch = -1;
		fds->result = 0;
		watch_found(fds);
	}
	fds->job = choose_job(fds);
	if (fds->job == JOB_NONE)
		return;
	fds->op.run = fds_run;
	fds->op.complete = fds_complete;
	op_start(&fds->op, fds->broker, fds, true);
}

void kept_fd_drop(struct broker *broker, struct kept_fd *kept)
{
	if (!kept)
		return;
	STAILQ_INSERT_TAIL(&broker->kept_fds->dropped, kept, link);
	fds_go(broker->kept_fds);
}

void kept_fds_tick(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct kept_fds *fds = broker->kept_fds;

	if (!fds || !fds->started || fds->stopped || fds->watch.fd >= 0 || fds->job != JOB_NONE)
		return;
	if (fds->watch_at_us <= now_us)
		fds_go(fds);
	else if (fds->watch_at_us < *next_us)
		*next_us = fds->watch_at_us;
}

/* ---- start and end ---- */

int kept_fds_new(struct broker *broker, struct keeper *keeper, struct kept_fds **ret_fds)
{
	struct kept_fds *fds;

	if (!keeper) {
		*ret_fds = NULL;
		return 0;
	}
	fds = calloc(1, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	fds->broker = broker;
	fds->keeper = keeper;
	fds->watch.fd = -1;
	fds->first_watch = -1;
	STAILQ_INIT(&fds->dropped);
	STAILQ_INIT(&fds->round);
	/* The first tick watches it. */
	broker->next_expiry_us = 0;
	*ret_fds = fds;
	return 0;
}

void kept_fds_stop(struct kept_fds *fds)
{
	if (!fds)
		return;
	fds->stopped = true;
	fds->give_lease = 0;
	if (fds->first_watch >= 0)
		close(fds->first_watch);
	fds->first_watch = -1;
	if (fds->watch.fd < 0)
		return;
	fds->broker->host_ops->unwatch(fds->broker->host, &fds->watch);
	close(fds->watch.fd);
	fds->watch.fd = -1;
}

void kept_fds_free(struct kept_fds *fds)
{
	struct kept_fd *k;

	if (!fds)
		return;
	kept_fds_stop(fds);
	while ((k = STAILQ_FIRST(&fds->dropped))) {
		STAILQ_REMOVE_HEAD(&fds->dropped, link);
		free(k);
	}
	free(fds);
}

/* Is it the name of a memory that a lease has? */
static bool is_known(struct broker *broker, const char *name)
{
	unsigned long long serial, id;
	struct lease *lease;
	struct object *o;
	char same[64];

	if (sscanf(name, "m.%llu.%llu", &serial, &id) != 2 || !id)
		return false;
	name_of(serial, id, same);
	if (strcmp(name, same))
		return false;
	TAILQ_FOREACH(lease, &broker->leases, all)
	if (lease->serial == serial)
		break;
	o = lease ? lease_any_after(lease, id - 1) : NULL;
	return o && o->id.value == id && o->type == OBJECT_MEMORY;
}

static uint64_t memories_of(const struct broker *broker)
{
	const struct lease *lease;
	uint64_t n = 0;

	TAILQ_FOREACH(lease, &broker->leases, all)
	n += lease->n_memory;
	return n;
}

/* It was there a moment ago: one that is being started anew is waited for. */
static int watch_at_last(struct kept_fds *fds)
{
	int r = 0;

	for (unsigned i = 0; i < START_TRIES; i++) {
		r = keeper_watch(fds->keeper, &fds->first_watch);
		if (r != -ENOENT && r != -ECONNREFUSED && r != -EPIPE)
			break;
		usleep(START_PAUSE_US);
	}
	return r;
}

int kept_fds_reconcile(struct broker *broker, uint64_t *ret_dropped)
{
	struct kept_fds *fds = broker->kept_fds;
	char name[64] = "", next[64];
	uint64_t n = 0, found = 0;
	int r;

	*ret_dropped = 0;
	if (!fds)
		return 0;
	/* First: a keeper that is started anew after this is noticed. */
	r = watch_at_last(fds);
	if (r)
		return r < 0 ? r : -EPROTO;
	while (!(r = keeper_fd_next(fds->keeper, name, next))) {
		memcpy(name, next, sizeof(name));
		if (is_known(broker, name)) {
			found++;
			continue;
		}
		r = keeper_fd_drop(fds->keeper, name);
		if (r < 0)
			return r;
		n++;
	}
	if (r < 0)
		return r;
	/* It was started anew while this broker took its fds. */
	if (found < memories_of(broker)) {
		fds->give_lease = 1;
		fds->give_id = 0;
	}
	fds->started = true;
	*ret_dropped = n;
	return 0;
}
