/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log and its watchers.
 *
 * A ring of the newest events, numbered from 1 without gaps; each watcher has a cursor into
 * it and sends one message at a time, so a watcher that stops reading costs a cursor and
 * nothing else.  When the ring overtakes a cursor, what that watcher should have seen is
 * counted and told with its next event.  State thread only.
 */
#include "server/broker/event.h"

#include "server/broker/journal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
	uint64_t time_us;
	Ioasid__V1__EventType type;
	uint64_t ioasid;
	const char *lease;
	const char *device;
	const char *text;
	char tenant[]; /* the other strings follow */
};

struct event_watcher {
	TAILQ_ENTRY(event_watcher) link;
	struct broker_call *call;
	char tenant[POLICY_PATH_MAX + 1];
	bool subtree;	/* also what is below tenant */
	uint32_t types; /* bit n: EventType n; 0: all */
	uint64_t next;	/* sequence number to look at */
	uint64_t lost;
	struct charge charge;
};
TAILQ_HEAD(event_watchers, event_watcher);

struct event_log {
	struct event *ring[EVENT_LOG_SIZE]; /* of number n at n % size; NULL: no memory for it */
	uint64_t first;			    /* number of the first event of this run */
	uint64_t next;			    /* number of the next event */
	struct event_watchers watchers;
};

int event_log_new(struct event_log **ret_log)
{
	struct event_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->first = 1;
	log->next = 1;
	TAILQ_INIT(&log->watchers);
	*ret_log = log;
	return 0;
}

void event_log_free(struct event_log *log)
{
	if (!log)
		return;
	assert(TAILQ_EMPTY(&log->watchers));
	for (size_t i = 0; i < EVENT_LOG_SIZE; i++)
		free(log->ring[i]);
	free(log);
}

uint64_t event_log_last(const struct event_log *log)
{
	return log->next - 1;
}

void event_log_continue(struct event_log *log, uint64_t last)
{
	assert(log->next == log->first && TAILQ_EMPTY(&log->watchers));
	log->first = last + 1;
	log->next = last + 1;
}

void event_watchers_each(struct event_log *log, event_charge_fn each, void *data)
{
	const struct event_watcher *w;

	TAILQ_FOREACH(w, &log->watchers, link)
	each(data, &w->charge);
}

static bool watcher_wants(const struct event_watcher *w, const struct event *e)
{
	if (w->types && !(w->types & 1u << e->type))
		return false;
	return w->subtree ? policy_path_in_subtree(e->tenant, w->tenant)
			  : !strcmp(e->tenant, w->tenant);
}

static void watcher_send(struct event_watcher *w, const struct event *e, uint64_t sequence)
{
	Ioasid__V1__Event m = IOASID__V1__EVENT__INIT;

	m.sequence = sequence;
	m.lost = w->lost;
	m.time_us = e->time_us;
	m.type = e->type;
	m.tenant = (char *)e->tenant;
	m.lease = (char *)e->lease;
	m.ioasid = e->ioasid;
	m.device = (char *)e->device;
	m.text = (char *)e->text;
	w->lost = 0;
	w->call->writable = false;
	w->call->ops->send(w->call->userdata, &m.base);
}

/* Sends the next event that the watcher wants, if the transport can take one. */
static void watcher_pump(struct event_log *log, struct event_watcher *w)
{
	while (w->call->writable && w->next < log->next) {
		uint64_t sequence = w->next++;
		const struct event *e = log->ring[sequence % EVENT_LOG_SIZE];

		if (!e)
			w->lost++;
		else if (watcher_wants(w, e))
			watcher_send(w, e, sequence);
	}
}

/* The slot of event `sequence` is about to be used again. */
static void log_overwrite(struct event_log *log, uint64_t sequence)
{
	const struct event *e = log->ring[sequence % EVENT_LOG_SIZE];
	struct event_watcher *w;

	TAILQ_FOREACH(w, &log->watchers, link)
	{
		if (w->next > sequence)
			continue;
		w->next = sequence + 1;
		if (!e || watcher_wants(w, e))
			w->lost++;
	}
}

static char *append(char *at, const char *text, const char **ret)
{
	size_t n = strlen(text) + 1;

	*ret = memcpy(at, text, n);
	return at + n;
}

void event_emit(struct broker *broker, Ioasid__V1__EventType type, const struct tenant *tenant,
		const struct lease *lease, uint64_t ioasid, const char *device, const char *format,
		...)
{
	struct event_log *log = broker->events;
	const char *path = tenant ? tenant->path : "";
	const char *name = lease && lease->name ? lease->name : "";
	struct event_watcher *w, *next;
	uint64_t sequence = log->next;
	struct event *e;
	char text[256] = "";
	const char *ignored;
	char *at;

	if (format) {
		va_list ap;

		va_start(ap, format);
		vsnprintf(text, sizeof(text), format, ap);
		va_end(ap);
	}
	device = device ?: "";
	if (sequence > broker->events_written)
		journal_broker(broker);
	if (sequence >= log->first + EVENT_LOG_SIZE)
		log_overwrite(log, sequence - EVENT_LOG_SIZE);
	free(log->ring[sequence % EVENT_LOG_SIZE]);
	e = malloc(sizeof(*e) + strlen(path) + strlen(name) + strlen(device) + strlen(text) + 4);
	log->ring[sequence % EVENT_LOG_SIZE] = e;
	if (e) {
		e->time_us = broker->host_ops->realtime_us(broker->host);
		e->type = type;
		e->ioasid = ioasid;
		at = append(e->tenant, path, &ignored);
		at = append(at, name, &e->lease);
		at = append(at, device, &e->device);
		append(at, text, &e->text);
	}
	log->next++;
	for (w = TAILQ_FIRST(&log->watchers); w; w = next) {
		next = TAILQ_NEXT(w, link);
		watcher_pump(log, w);
	}
}

static void watch_writable(struct broker_call *call)
{
	watcher_pump(call->broker->events, call->data);
}

static void watch_end(struct broker_call *call)
{
	struct event_watcher *w = call->data;

	TAILQ_REMOVE(&call->broker->events->watchers, w, link);
	charge_release(&w->charge);
	free(w);
}

static int event_watch(struct broker_call *call, const struct tenant *tenant, bool subtree)
{
	const Ioasid__V1__WatchEventsRequest *q = (const void *)call->request;
	struct event_log *log = call->broker->events;
	struct quota_amount amounts[] = {
		{QUOTA_WATCH_STREAMS, 1},
		{QUOTA_BROKER_BYTES, sizeof(struct event_watcher)},
	};
	struct quota_refusal refusal;
	struct event_watcher *w;
	uint64_t oldest;
	int r;

	if (q->n_types > 64)
		return refuse_field(call, OUTCOME_MALFORMED, "types", "at most 64, found %zu",
				    q->n_types);
	for (size_t i = 0; i < q->n_types; i++) {
		char field[32];

		snprintf(field, sizeof(field), "types[%zu]", i);
		if (q->types[i] == IOASID__V1__EVENT_TYPE__EVENT_TYPE_UNSPECIFIED)
			return refuse_field(call, OUTCOME_INVALID_FIELD, field, "must be given");
	}
	if (q->after_sequence >= log->next)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "after_sequence",
				    "the newest event is %llu",
				    (unsigned long long)(log->next - 1));
	w = calloc(1, sizeof(*w));
	if (!w)
		return refuse_no_memory(call);
	r = charge_take(&w->charge, call->session->tenant, amounts, 2, &refusal);
	if (r) {
		free(w);
		return refuse_charge(call, r, &refusal);
	}
	strcpy(w->tenant, tenant->path);
	w->subtree = subtree;
	for (size_t i = 0; i < q->n_types; i++)
		w->types |= 1u << q->types[i];
	w->call = call;
	w->next = q->after_sequence ? q->after_sequence + 1 : log->next;
	oldest = log->next > log->first + EVENT_LOG_SIZE ? log->next - EVENT_LOG_SIZE : log->first;
	if (w->next < oldest) {
		/* How many of those concerned this watcher is not known any more. */
		w->lost = oldest - w->next;
		w->next = oldest;
	}
	TAILQ_INSERT_TAIL(&log->watchers, w, link);
	call->data = w;
	call->on_writable = watch_writable;
	call->on_end = watch_end;
	watcher_pump(log, w);
	return CALL_PENDING;
}

int event_watch_own(struct broker_call *call)
{
	return event_watch(call, call->tenant ?: call->session->tenant,
			   call->session->role != POLICY_ROLE_TENANT);
}

int event_watch_all(struct broker_call *call)
{
	return event_watch(call, call->tenant ?: call->session->tenant, true);
}
