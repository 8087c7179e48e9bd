/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The newest FAULT_LOG_SIZE faults of a lease, and its WatchFaults streams.  There is a log from
 * the first stream on: before, there is nobody who could ask for what was.
 *
 * Numbers grow by one with each fault, and go on from a number that no earlier broker has
 * reached: the registry's generation is in their upper half.  A watcher has a cursor and sends
 * one message at a time; what the ring overtook is counted and told with its next event.  So a
 * tenant that faults as fast as it can and never reads costs itself this ring and nothing else.
 *
 * Owns struct fault_log, charged to the lease's tenant like its watchers.  State thread.
 */
#include "server/broker/fault_log.h"

#include "server/broker/ioasid.h"
#include "server/broker/lease.h"
#include "server/broker/translate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct fault_watcher {
	TAILQ_ENTRY(fault_watcher) link;
	struct broker_call *call;
	uint64_t ioasid; /* 0: all */
	uint64_t next;	 /* sequence number to look at */
	uint64_t lost;
	struct charge charge;
};
TAILQ_HEAD(fault_watchers, fault_watcher);

struct fault_log {
	struct broker *broker;
	struct charge charge;
	uint64_t first; /* number of this broker's first event */
	uint64_t next;
	struct fault_watchers watchers;
	struct fault_event ring[FAULT_LOG_SIZE]; /* number n at n % size */
};

/* The lease's log, made if there is none yet.  QUOTA_E_REFUSED, -ENOMEM. */
static int log_get(struct lease *lease, struct quota_refusal *ret_refusal,
		   struct fault_log **ret_log)
{
	struct quota_amount amount = {QUOTA_BROKER_BYTES, sizeof(struct fault_log)};
	struct fault_log *log = lease->fault_log;
	struct registry_stats stats = {0};
	int r;

	if (!log) {
		log = calloc(1, sizeof(*log));
		if (!log)
			return -ENOMEM;
		r = charge_take(&log->charge, lease->tenant, &amount, 1, ret_refusal);
		if (r) {
			free(log);
			return r;
		}
		if (lease->broker->registry)
			registry_stats(lease->broker->registry, &stats);
		log->broker = lease->broker;
		log->first = log->next = (stats.generation << 32) + 1;
		TAILQ_INIT(&log->watchers);
		lease->fault_log = log;
	}
	*ret_log = log;
	return 0;
}

void fault_log_free(struct fault_log *log)
{
	if (!log)
		return;
	assert(TAILQ_EMPTY(&log->watchers));
	charge_release(&log->charge);
	free(log);
}

static uint64_t oldest(const struct fault_log *log)
{
	return log->next > log->first + FAULT_LOG_SIZE ? log->next - FAULT_LOG_SIZE : log->first;
}

static bool wants(const struct fault_watcher *w, const struct fault_event *e)
{
	return !w->ioasid || w->ioasid == e->ioasid;
}

static void send(const struct fault_log *log, struct fault_watcher *w, const struct fault_event *e,
		 uint64_t sequence)
{
	uint64_t now = broker_now(log->broker);
	Ioasid__V1__FaultEvent m = IOASID__V1__FAULT_EVENT__INIT;
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;
	Ioasid__V1__Fault fault;

	fault_fill(&fault, &e->what);
	m.sequence = sequence;
	m.lost = w->lost;
	m.ioasid = e->ioasid;
	m.device = (char *)e->device->info->address;
	if (e->pasid != SHIM_NO_PASID) {
		pasid.value = e->pasid;
		m.pasid = &pasid;
	}
	m.fault = &fault;
	m.cookie = e->cookie;
	m.group = e->group;
	m.last = e->last;
	m.deadline_ms = e->deadline_us > now ? (uint32_t)((e->deadline_us - now) / 1000) : 0;
	w->lost = 0;
	w->call->writable = false;
	w->call->ops->send(w->call->userdata, &m.base);
}

static void pump(const struct fault_log *log, struct fault_watcher *w)
{
	while (w->call->writable && w->next < log->next) {
		uint64_t sequence = w->next++;
		const struct fault_event *e = &log->ring[sequence % FAULT_LOG_SIZE];

		if (wants(w, e))
			send(log, w, e, sequence);
	}
}

static void pump_all(struct fault_log *log)
{
	struct fault_watcher *w, *next;

	for (w = TAILQ_FIRST(&log->watchers); w; w = next) {
		next = TAILQ_NEXT(w, link);
		pump(log, w);
	}
}

void fault_log_append(struct lease *lease, const struct fault_event *event)
{
	struct fault_log *log = lease->fault_log;
	struct fault_watcher *w;

	if (!log)
		return;
	if (log->next >= log->first + FAULT_LOG_SIZE) {
		uint64_t overwritten = log->next - FAULT_LOG_SIZE;

		TAILQ_FOREACH(w, &log->watchers, link)
		{
			if (w->next > overwritten)
				continue;
			w->next = overwritten + 1;
			w->lost += wants(w, &log->ring[overwritten % FAULT_LOG_SIZE]);
		}
	}
	log->ring[log->next++ % FAULT_LOG_SIZE] = *event;
	pump_all(log);
}

void fault_log_lose(struct lease *lease, uint64_t n)
{
	struct fault_watcher *w;

	if (!lease->fault_log)
		return;
	TAILQ_FOREACH(w, &lease->fault_log->watchers, link)
	w->lost += n;
}

static void watch_writable(struct broker_call *call)
{
	struct fault_watcher *w = call->data;

	pump(call->lease->fault_log, w);
}

static void watch_finish(struct broker_call *call)
{
	struct fault_watcher *w = call->data;

	TAILQ_REMOVE(&call->lease->fault_log->watchers, w, link);
	charge_release(&w->charge);
	free(w);
}

/* Where a stream begins, and what it has missed. */
static void place(const struct fault_log *log, struct fault_watcher *w, uint64_t after_sequence)
{
	w->next = after_sequence ? after_sequence + 1 : log->next;
	if (w->next < log->first) {
		/* Of an earlier broker: how many there were since is not known. */
		w->lost = 1;
		w->next = log->first;
	}
	if (w->next < oldest(log)) {
		w->lost += oldest(log) - w->next;
		w->next = oldest(log);
	}
}

static int watcher_new(struct broker_call *call, struct fault_watcher **ret_watcher)
{
	struct quota_amount amounts[] = {
		{QUOTA_WATCH_STREAMS, 1},
		{QUOTA_BROKER_BYTES, sizeof(struct fault_watcher)},
	};
	struct fault_watcher *w = calloc(1, sizeof(*w));
	struct quota_refusal refusal;
	int r;

	if (!w)
		return refuse_no_memory(call);
	r = charge_take(&w->charge, call->lease->tenant, amounts, 2, &refusal);
	if (r) {
		free(w);
		return refuse_charge(call, r, &refusal);
	}
	*ret_watcher = w;
	return OUTCOME_OK;
}

int fault_log_watch(struct broker_call *call, uint64_t ioasid, uint64_t after_sequence)
{
	struct lease *lease = call->lease;
	bool had_log = lease->fault_log;
	struct quota_refusal refusal;
	struct fault_watcher *w;
	struct fault_log *log;
	int r;

	r = log_get(lease, &refusal, &log);
	if (r)
		return refuse_charge(call, r, &refusal);
	r = after_sequence < log->next
		    ? watcher_new(call, &w)
		    : refuse_field(call, OUTCOME_INVALID_FIELD, "after_sequence",
				   "the newest fault is %llu", (unsigned long long)(log->next - 1));
	if (r) {
		if (!had_log) {
			fault_log_free(log);
			lease->fault_log = NULL;
		}
		return r;
	}
	w->call = call;
	w->ioasid = ioasid;
	place(log, w, after_sequence);
	TAILQ_INSERT_TAIL(&log->watchers, w, link);
	call->data = w;
	call->on_writable = watch_writable;
	call->on_finish = watch_finish;
	call_park(call);
	pump(log, w);
	return CALL_PENDING;
}

void fault_log_each_charge(const struct fault_log *log,
			   void (*each)(void *data, const struct charge *charge), void *data)
{
	const struct fault_watcher *w;

	if (!log)
		return;
	each(data, &log->charge);
	TAILQ_FOREACH(w, &log->watchers, link)
	each(data, &w->charge);
}
