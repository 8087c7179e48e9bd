/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of events are trusted within one life of a registry's broker only.  The same
 * generation before and after means that the connection ended and the broker did not: it
 * goes on from the number, and says itself what it has lost.  Else the log of events that
 * the earlier broker had is gone with what nobody had read yet, and a gap is told at once,
 * before anything else comes, because that may be long after.
 */
#include "watch_source.h"
#include "cancel.h"
#include "convert.h"
#include "mend.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* Between two tries of a stream that a broker on its way up refuses. */
#define PAUSE_MS 50

static uint64_t *after_of(struct watch_source *source)
{
	return source->kind == WATCH_EVENTS
		       ? &((Ioasid__V1__WatchEventsRequest *)source->request)->after_sequence
		       : &((Ioasid__V1__WatchFaultsRequest *)source->request)->after_sequence;
}

/* ---- messages ---- */

static void convert_event(struct result *result, const void *message, void *ret_event)
{
	const Ioasid__V1__Event *from = message;
	struct ioasid_event *to = ret_event;

	to->sequence = from->sequence;
	to->lost = from->lost;
	to->time_us = from->time_us;
	to->type = (enum ioasid_event_type)from->type;
	to->tenant = from->tenant;
	to->lease = from->lease;
	to->ioasid = from->ioasid;
	to->device = from->device;
	to->text = from->text;
}

static void convert_fault_event(struct result *result, const void *message, void *ret_event)
{
	static const Ioasid__V1__Fault none = IOASID__V1__FAULT__INIT;
	const Ioasid__V1__FaultEvent *from = message;
	struct ioasid_fault_event *to = ret_event;

	to->sequence = from->sequence;
	to->lost = from->lost;
	to->ioasid = from->ioasid;
	to->device = from->device;
	to->pasid = from->pasid ? from->pasid->value : IOASID_NO_PASID;
	to->fault =
		convert_optional(result, from->fault ?: &none, sizeof(*to->fault), convert_fault);
	to->cookie = from->cookie;
	to->group = from->group;
	to->last = from->last;
	to->deadline_ms = from->deadline_ms;
}

size_t source_root_size(const struct watch_source *source)
{
	return source->kind == WATCH_EVENTS ? sizeof(struct ioasid_event)
					    : sizeof(struct ioasid_fault_event);
}

static void fill(struct watch_source *source, struct result *into, const ProtobufCMessage *message)
{
	if (source->kind == WATCH_EVENTS)
		convert_event(into, message, result_root(into));
	else
		convert_fault_event(into, message, result_root(into));
}

static void fill_gap(struct watch_source *source, struct result *into)
{
	Ioasid__V1__FaultEvent fault = IOASID__V1__FAULT_EVENT__INIT;
	Ioasid__V1__Event event = IOASID__V1__EVENT__INIT;
	struct timespec now;

	if (source->kind == WATCH_EVENTS) {
		clock_gettime(CLOCK_REALTIME, &now);
		event.sequence = source->last;
		event.lost = 1;
		event.time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
		event.type = (Ioasid__V1__EventType)IOASID_EVENT_GAP;
		event.text = (char *)"the broker was restarted; events may be missing here";
		fill(source, into, &event.base);
	} else {
		fault.sequence = source->last;
		fault.lost = 1;
		fill(source, into, &fault.base);
	}
}

/* ---- streams ---- */

static void close_stream(struct watch_source *source)
{
	pthread_mutex_lock(&source->lock);
	source->open = false;
	pthread_mutex_unlock(&source->lock);
	stream_close(&source->stream);
}

static int open_stream(struct watch_source *source, struct ioasid_error **ret_error)
{
	int r;

	source->call.ret_error = ret_error;
	r = stream_open(&source->stream, &source->call, source->method, source->request,
			&source->stop);
	if (r < 0)
		return r;
	pthread_mutex_lock(&source->lock);
	source->open = true;
	if (source->stop)
		stream_cancel(&source->stream);
	pthread_mutex_unlock(&source->lock);
	return 0;
}

static int open_next(struct watch_source *source, struct ioasid_error **ret_error)
{
	uint64_t generation;
	int r;

	*after_of(source) = source->last;
	r = open_stream(source, ret_error);
	if (r < 0)
		return r;
	generation = mend_generation(source->call.client, source->stream.link);
	source->gap = source->gap || (!source->told && (!source->last || !generation ||
							generation != source->generation));
	source->fresh = true;
	source->generation = generation;
	return 0;
}

/* The broker does not know the number that the stream was to begin after. */
static bool is_unknown_number(const struct ioasid_error *error)
{
	if (error->origin != IOASID_ORIGIN_BROKER || error->code != IOASID_INVALID_ARGUMENT)
		return false;
	for (size_t i = 0; i < error->n_violations; i++)
		if (!strcmp(error->violations[i].subject, "after_sequence"))
			return true;
	return false;
}

/* Does another stream take the place of one that ended so?  Sleeps where it would be early. */
static bool goes_on(struct watch_source *source, const struct ioasid_error *error)
{
	struct call *call = &source->call;

	if (source->stop)
		return false;
	if (mend_cuts_off(call->client, source->stream.link, error)) {
		source->told = false;
		return true;
	}
	/* A gap that was told when this stream took the place is not told again. */
	if (source->fresh && source->last && is_unknown_number(error)) {
		source->last = 0;
		return true;
	}
	if (error->origin != IOASID_ORIGIN_BROKER || !call_is_trouble(error) ||
	    !call_waits_for_broker(call))
		return false;
	cancel_sleep(call->cancel, PAUSE_MS * 1000);
	return true;
}

static void went_well(struct watch_source *source, const ProtobufCMessage *message)
{
	source->last = source->kind == WATCH_EVENTS
			       ? ((const Ioasid__V1__Event *)message)->sequence
			       : ((const Ioasid__V1__FaultEvent *)message)->sequence;
	source->fresh = source->told = false;
	source->call.trouble_us = 0;
}

int source_read(struct watch_source *source, struct result *into, struct ioasid_error **ret_error)
{
	for (;;) {
		struct ioasid_error *error = NULL;
		ProtobufCMessage *message;
		int r;

		if (!source->open) {
			r = open_next(source, ret_error);
			if (r < 0)
				return r;
		}
		if (source->gap) {
			source->gap = false;
			source->told = true;
			fill_gap(source, into);
			return 0;
		}
		r = stream_read(&source->stream, into, &message, &error);
		if (!r) {
			went_well(source, message);
			fill(source, into, message);
			return 0;
		}
		if (!goes_on(source, error)) {
			*ret_error = error;
			return r;
		}
		ioasid_error_free(error);
		close_stream(source);
	}
}

void source_stop(struct watch_source *source)
{
	pthread_mutex_lock(&source->lock);
	source->stop = true;
	if (source->open)
		stream_cancel(&source->stream);
	pthread_mutex_unlock(&source->lock);
	mend_wake(source->call.client);
}

/* ---- beginning and end ---- */

static ProtobufCMessage *copy_request(const ProtobufCMessage *request)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	grpc_slice slice = grpc_slice_malloc(size);
	ProtobufCMessage *copy;

	protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
	copy = protobuf_c_message_unpack(request->descriptor, NULL, size,
					 GRPC_SLICE_START_PTR(slice));
	grpc_slice_unref(slice);
	return copy;
}

int source_open(struct watch_source *source, enum watch_kind kind, struct call *call,
		const struct method *method, const ProtobufCMessage *request)
{
	const Ioasid__V1__Scope *scope;
	int r;

	call_aim(call, method);
	*source = (struct watch_source){
		.kind = kind,
		.method = method,
		.call = {.deadline_us = call->deadline_us, .key = ""},
		.request = copy_request(request),
	};
	if (!source->request)
		return error_no_memory(call->ret_error);
	source->last = *after_of(source);
	/* Both kinds begin with it. */
	scope = ((const Ioasid__V1__WatchEventsRequest *)source->request)->scope;
	ioasid__v1__scope__init(&source->call.scope);
	if (scope)
		source->call.scope = *scope;
	source->call.client = ioasid_client_ref(call->client);
	source->call.cancel = cancel_ref(call->cancel);
	pthread_mutex_init(&source->lock, NULL);
	r = open_stream(source, call->ret_error);
	if (r < 0) {
		source_close(source);
		return r;
	}
	source->generation = mend_generation(call->client, source->stream.link);
	return 0;
}

void source_close(struct watch_source *source)
{
	if (!source->request)
		return;
	close_stream(source);
	pthread_mutex_destroy(&source->lock);
	protobuf_c_message_free_unpacked(source->request, NULL);
	ioasid_cancel_unref(source->call.cancel);
	ioasid_client_unref(source->call.client);
	source->request = NULL;
}
