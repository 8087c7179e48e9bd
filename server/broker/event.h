/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_EVENT_H
#define IOASID_BROKER_EVENT_H

#include "server/broker/call.h"

/* What happened, newest EVENT_LOG_SIZE kept, numbered without gaps; and who watches. */
#define EVENT_LOG_SIZE 4096

int event_log_new(struct event_log **ret_log); /* -ENOMEM */
void event_log_free(struct event_log *log);    /* NULL-safe; nobody watches any more */

/* Number of the newest event; 0: none yet. */
uint64_t event_log_last(const struct event_log *log);
/* Goes on after the number `last`: of what was before nothing is known. */
void event_log_continue(struct event_log *log, uint64_t last);
/*
 * Records an event and offers it to the watchers.  Never fails: without memory the event
 * counts as lost.  lease, device and text may be NULL.
 */
void event_emit(struct broker *broker, Ioasid__V1__EventType type, const struct tenant *tenant,
		const struct lease *lease, uint64_t ioasid, const char *device, const char *format,
		...) __attribute__((format(printf, 7, 8)));

/* What the watchers are charged, one after the other. */
typedef void (*event_charge_fn)(void *data, const struct charge *charge);
void event_watchers_each(struct event_log *log, event_charge_fn each, void *data);

/* Handlers of WatchEvents of both services. */
int event_watch_own(struct broker_call *call);
int event_watch_all(struct broker_call *call);

#endif
