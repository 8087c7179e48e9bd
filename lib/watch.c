/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches: a stream that a thread reads into a bounded queue, so that a program can wait
 * for the next message with poll().  gRPC itself has no fd to poll: nothing moves on its
 * sockets unless some thread is inside it.
 *
 * Lock: one mutex for the queue and the end.  The eventfd is readable exactly while the
 * queue holds something or the end is known; that changes under the mutex only.  The
 * thread, and nobody else, reads the stream.  When the queue is full it waits inside gRPC,
 * whose flow control then holds the broker back, and which goes on answering the broker's
 * keepalive pings.
 */
#include "socket.h"
#include "watch_source.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define QUEUE_SIZE 256

struct ioasid_watch {
	struct watch_source source;
	pthread_t thread;
	int eventfd;

	pthread_mutex_t lock;
	/* Under lock. */
	/* The thread waits in stream_wait(), to be woken once. */
	bool waiting;
	void *queue[QUEUE_SIZE];
	size_t first;
	size_t n;
	bool cancelled;
	/* The thread has ended; why. */
	bool ended;
	int end;
	struct ioasid_error *end_error;
};

/* One message as a public object. */
static int read_one(struct ioasid_watch *watch, void **ret_object, struct ioasid_error **ret_error)
{
	__attribute__((cleanup(result_freep))) struct result *result = NULL;
	int r;

	result = result_new(source_root_size(&watch->source));
	if (!result)
		return error_no_memory(ret_error);
	r = source_read(&watch->source, result, ret_error);
	if (r < 0)
		return r;
	if (result_failed(result))
		return error_no_memory(ret_error);
	*ret_object = result_root(result);
	result = NULL;
	return 0;
}

/* Under lock. */
static void signal_readable(struct ioasid_watch *watch)
{
	/* Adding 1 to a counter of 64 bits that others reset to 0 never blocks. */
	(void)eventfd_write(watch->eventfd, 1);
}

/* Under lock: there is room, or it was cancelled. */
static void wake_thread(struct ioasid_watch *watch)
{
	if (watch->waiting) {
		watch->waiting = false;
		stream_wake(&watch->source.stream);
	}
}

static void *watch_thread(void *argument)
{
	struct ioasid_watch *watch = argument;
	struct ioasid_error *error = NULL;
	int r = 0;

	for (;;) {
		void *object = NULL;

		r = read_one(watch, &object, &error);
		if (r < 0)
			break;
		pthread_mutex_lock(&watch->lock);
		while (watch->n == QUEUE_SIZE && !watch->cancelled) {
			watch->waiting = true;
			pthread_mutex_unlock(&watch->lock);
			stream_wait(&watch->source.stream);
			pthread_mutex_lock(&watch->lock);
		}
		if (watch->cancelled) {
			/* Nothing is added any more; a read soon ends the loop. */
			result_free_root(object);
		} else {
			watch->queue[(watch->first + watch->n) % QUEUE_SIZE] = object;
			if (!watch->n++)
				signal_readable(watch);
		}
		pthread_mutex_unlock(&watch->lock);
	}

	pthread_mutex_lock(&watch->lock);
	if (watch->cancelled) {
		ioasid_error_free(error);
		error = NULL;
		r = error_cancelled(watch->source.method->name, &error);
	}
	/* To the program, EAGAIN means that nothing is there yet. */
	if (r == -EAGAIN) {
		r = -EBUSY;
		error->error = r;
	}
	watch->end = r;
	watch->end_error = error;
	watch->ended = true;
	signal_readable(watch);
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

static int watch_start(struct call *call, enum watch_kind kind, const struct method *method,
		       const ProtobufCMessage *request, struct ioasid_watch **ret_watch)
{
	struct ioasid_watch *watch = calloc(1, sizeof(*watch));
	sigset_t all, before;
	int r;

	if (!watch)
		return error_no_memory(call->ret_error);
	pthread_mutex_init(&watch->lock, NULL);
	watch->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch->eventfd < 0) {
		r = -errno;
		goto fail;
	}
	r = source_open(&watch->source, kind, call, method, request);
	if (r < 0)
		goto fail_with_error;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&watch->thread, NULL, watch_thread, watch);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		goto fail;
	*ret_watch = watch;
	return 0;

fail:
	error_make(
		&(const struct error_info){
			.error = r,
			.code = IOASID_RESOURCE_EXHAUSTED,
			.reason = "INVALID_CALL",
			.method = method->name,
		},
		call->ret_error, "cannot make a thread or an eventfd: %s",
		strerrordesc_np(-r) ?: "unknown error");
fail_with_error:
	source_close(&watch->source);
	if (watch->eventfd >= 0)
		close(watch->eventfd);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
	return r;
}

/* A watch has no deadline unless its scope has one. */
static int watch_begin(struct call *call, struct ioasid_client *client,
		       const struct ioasid_scope *scope, struct ioasid_error **ret_error)
{
	int r = call_begin(call, client, scope, 0, ret_error);

	if (!scope || !scope->timeout_ms)
		call->deadline_us = UINT64_MAX;
	return r;
}

static int watch_events(const struct method *method, bool scoped, struct ioasid_client *client,
			const struct ioasid_scope *scope, const struct ioasid_event_filter *filter,
			struct ioasid_watch **ret_watch, struct ioasid_error **ret_error)
{
	Ioasid__V1__WatchEventsRequest request = IOASID__V1__WATCH_EVENTS_REQUEST__INIT;
	static const struct ioasid_event_filter everything;
	CALL_AUTO struct call call;
	int r = watch_begin(&call, client, scope, ret_error);

	if (!filter)
		filter = &everything;
	if (!r && (filter->reserved[0] || filter->reserved[1]))
		r = call_invalid(&call, "filter: reserved members are not 0");
	if (!r)
		r = call_check_array(&call, "filter: types", filter->types, filter->n_types);
	if (r < 0)
		return r;
	if (scoped)
		request.scope = call_scope(&call);
	request.after_sequence = filter->after_sequence;
	request.n_types = filter->n_types;
	request.types = (Ioasid__V1__EventType *)filter->types;
	return watch_start(&call, WATCH_EVENTS, method, &request.base, ret_watch);
}
static_assert(sizeof(enum ioasid_event_type) == sizeof(Ioasid__V1__EventType),
	      "types are not copied");

int ioasid_watch_events(struct ioasid_client *client, const struct ioasid_scope *scope,
			const struct ioasid_event_filter *filter, struct ioasid_watch **ret_watch,
			struct ioasid_error **ret_error)
{
	static const struct method method = METHOD("Broker", "WatchEvents", event, false, HOLDS);

	return watch_events(&method, true, client, scope, filter, ret_watch, ret_error);
}

int ioasid_watch_all_events(struct ioasid_client *client, const struct ioasid_scope *scope,
			    const struct ioasid_event_filter *filter,
			    struct ioasid_watch **ret_watch, struct ioasid_error **ret_error)
{
	static const struct method method = METHOD("Admin", "WatchEvents", event, false, HOLDS);

	return watch_events(&method, false, client, scope, filter, ret_watch, ret_error);
}

int ioasid_watch_faults(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t ioasid, uint64_t after_sequence, struct ioasid_watch **ret_watch,
			struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "WatchFaults", fault_event, false, MAKES_LEASE);
	Ioasid__V1__WatchFaultsRequest request = IOASID__V1__WATCH_FAULTS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = watch_begin(&call, client, scope, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.after_sequence = after_sequence;
	return watch_start(&call, WATCH_FAULTS, &method, &request.base, ret_watch);
}

int ioasid_watch_fd(const struct ioasid_watch *watch)
{
	return watch->eventfd;
}

/* 0, -EAGAIN (nothing there, no error), or the end. */
static int take(struct ioasid_watch *watch, void **ret_object, struct ioasid_error **ret_error)
{
	int r = 0;

	pthread_mutex_lock(&watch->lock);
	if (watch->n) {
		*ret_object = watch->queue[watch->first];
		watch->first = (watch->first + 1) % QUEUE_SIZE;
		watch->n--;
		wake_thread(watch);
		if (!watch->n && !watch->ended) {
			eventfd_t counter;

			(void)eventfd_read(watch->eventfd, &counter);
		}
	} else if (watch->ended) {
		r = watch->end;
		error_copy(watch->end_error, ret_error);
	} else {
		r = -EAGAIN;
	}
	pthread_mutex_unlock(&watch->lock);
	return r;
}

static int next(struct ioasid_watch *watch, enum watch_kind kind, uint32_t timeout_ms,
		void **ret_object, struct ioasid_error **ret_error)
{
	uint64_t deadline_us = time_deadline_us(timeout_ms);

	if (!watch || watch->source.kind != kind)
		return error_invalid("next", ret_error, "not a watch of this kind");
	for (;;) {
		struct pollfd p = {.fd = watch->eventfd, .events = POLLIN};
		int left_ms = time_left_ms(deadline_us);
		int r = take(watch, ret_object, ret_error);

		if (r != -EAGAIN || !left_ms)
			return r;
		(void)poll(&p, 1, left_ms);
	}
}

int ioasid_watch_next_event(struct ioasid_watch *watch, uint32_t timeout_ms,
			    struct ioasid_event **ret_event, struct ioasid_error **ret_error)
{
	return next(watch, WATCH_EVENTS, timeout_ms, (void **)ret_event, ret_error);
}

int ioasid_watch_next_fault(struct ioasid_watch *watch, uint32_t timeout_ms,
			    struct ioasid_fault_event **ret_fault, struct ioasid_error **ret_error)
{
	return next(watch, WATCH_FAULTS, timeout_ms, (void **)ret_fault, ret_error);
}

void ioasid_watch_cancel(struct ioasid_watch *watch)
{
	if (!watch)
		return;
	pthread_mutex_lock(&watch->lock);
	if (!watch->cancelled && !watch->ended) {
		watch->cancelled = true;
		source_stop(&watch->source);
		wake_thread(watch);
	}
	pthread_mutex_unlock(&watch->lock);
}

struct ioasid_watch *ioasid_watch_close(struct ioasid_watch *watch)
{
	if (!watch)
		return NULL;
	ioasid_watch_cancel(watch);
	pthread_join(watch->thread, NULL);
	source_close(&watch->source);
	for (size_t i = 0; i < watch->n; i++)
		result_free_root(watch->queue[(watch->first + i) % QUEUE_SIZE]);
	ioasid_error_free(watch->end_error);
	close(watch->eventfd);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
	return NULL;
}

void ioasid_event_free(struct ioasid_event *event)
{
	result_free_root(event);
}

void ioasid_fault_event_free(struct ioasid_fault_event *event)
{
	result_free_root(event);
}

int ioasid_fault_respond(struct ioasid_client *client, const struct ioasid_scope *scope,
			 uint64_t cookie, enum ioasid_fault_response response,
			 struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "RespondFault", respond_fault_response, true, IN_LEASE);
	Ioasid__V1__RespondFaultRequest request = IOASID__V1__RESPOND_FAULT_REQUEST__INIT;
	Ioasid__V1__RespondFaultResponse *answer;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.cookie = cookie;
	request.code = (Ioasid__V1__FaultResponseCode)response;
	return call_unary(&call, &method, &request.base, &answer);
}
