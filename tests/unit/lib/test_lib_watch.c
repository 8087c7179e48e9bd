/* SPDX-License-Identifier: Apache-2.0 */
/* Watches: order, waiting, poll(), a consumer that is slow, and every way to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_broker.h"
#include "ioasid.h"
#include "wire.h"

#include "ioasid.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static struct {
	/* Events to send, then: */
	unsigned n_events;
	enum {
		THEN_WAIT,
		THEN_END,
		THEN_REFUSE,
		THEN_REFUSE_BUSY,
		THEN_GARBAGE,
	} then;
	_Atomic unsigned sent;
	_Atomic bool gone;
	char path[64];
	uint64_t after;
	size_t n_types;
	unsigned types[4];
	bool scoped;
	char tenant[32];
	size_t text_size;
} script;

static void send_event(struct fake_call *call, uint64_t i)
{
	Ioasid__V1__Event event = IOASID__V1__EVENT__INIT;
	char text[8192] = "";

	event.sequence = i;
	event.lost = i % 3;
	event.time_us = 1700000000000000 + i;
	event.type = IOASID__V1__EVENT_TYPE__EVENT_TYPE_ATTACHED;
	event.tenant = "org/a";
	event.lease = "vm";
	event.ioasid = i + 1;
	event.device = "0000:00:01.0";
	memset(text, 'x', script.text_size);
	event.text = text;
	if (fake_call_send(call, &event.base))
		script.sent++;
	else
		script.gone = true;
}

static void send_fault(struct fake_call *call, uint64_t i)
{
	Ioasid__V1__FaultEvent event = IOASID__V1__FAULT_EVENT__INIT;
	Ioasid__V1__Fault fault = IOASID__V1__FAULT__INIT;
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;

	fault.cause = IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_PERMISSION;
	fault.address = 0x1000;
	pasid.value = 9;
	event.sequence = i;
	event.ioasid = 3;
	event.device = "0000:00:02.0";
	event.pasid = &pasid;
	event.fault = i ? &fault : NULL;
	event.cookie = 77;
	event.group = 4;
	event.last = true;
	event.deadline_ms = 250;
	script.sent += fake_call_send(call, &event.base);
}

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	bool faults = !strcmp(path, "/ioasid.v1.Broker/WatchFaults");
	struct wire wire;

	snprintf(script.path, sizeof(script.path), "%s", path);
	if (!faults) {
		Ioasid__V1__WatchEventsRequest *request =
			fake_call_unpack(call, &ioasid__v1__watch_events_request__descriptor);

		script.after = request->after_sequence;
		script.n_types = request->n_types;
		for (size_t i = 0; i < request->n_types && i < 4; i++)
			script.types[i] = request->types[i];
		script.scoped = request->scope;
		if (request->scope)
			snprintf(script.tenant, sizeof(script.tenant), "%s",
				 request->scope->tenant);
	}
	for (unsigned i = 0; i < script.n_events && !script.gone; i++)
		(faults ? send_fault : send_event)(call, i);
	switch (script.then) {
	case THEN_WAIT:
		fake_call_wait_cancelled(call);
		script.gone = true;
		fake_call_finish(call, 1, "", NULL, 0);
		break;
	case THEN_END:
		fake_call_finish(call, 0, "", NULL, 0);
		break;
	case THEN_REFUSE:
		wire_status(&wire, 7, "not for you");
		wire_error_info(&wire, "ROLE_FORBIDDEN", NULL, NULL);
		fake_call_finish(call, 7, "", wire.bytes, wire.n);
		break;
	case THEN_REFUSE_BUSY:
		wire_status(&wire, 10, "busy");
		wire_error_info(&wire, "BUSY", NULL, NULL);
		fake_call_finish(call, 10, "", wire.bytes, wire.n);
		break;
	case THEN_GARBAGE:
		fake_call_send_bytes(call, "\xff\xff", 2);
		fake_call_wait_cancelled(call);
		fake_call_finish(call, 1, "", NULL, 0);
		break;
	}
}

static void no_fds(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
}

static struct fake_broker *broker;
static struct ioasid_client *client;
static struct ioasid_watch *watch;
static struct ioasid_error *error;

/* Of connections that are replaced, test_lib_restart.c. */
static const struct ioasid_options one_connection = {.reconnect_ms = IOASID_NO_RECONNECT};

static int setup(void **state)
{
	memset(&script, 0, sizeof(script));
	broker = fake_broker_new(handler, no_fds, NULL);
	watch = NULL;
	error = NULL;
	return ioasid_connect(fake_broker_path(broker), &one_connection, &client, &error);
}

static int teardown(void **state)
{
	ioasid_watch_close(watch);
	ioasid_error_free(error);
	ioasid_client_unref(client);
	fake_broker_free(broker);
	return 0;
}

static void start(const struct ioasid_scope *scope, const struct ioasid_event_filter *filter)
{
	assert_int_equal(ioasid_watch_events(client, scope, filter, &watch, &error), 0);
}

static void expect_event(uint64_t sequence)
{
	struct ioasid_event *event = NULL;

	assert_int_equal(ioasid_watch_next_event(watch, 5000, &event, &error), 0);
	assert_int_equal(event->sequence, sequence);
	assert_int_equal(event->lost, sequence % 3);
	assert_int_equal(event->time_us, 1700000000000000 + sequence);
	assert_int_equal(event->type, IOASID_EVENT_ATTACHED);
	assert_string_equal(event->tenant, "org/a");
	assert_string_equal(event->lease, "vm");
	assert_int_equal(event->ioasid, sequence + 1);
	assert_string_equal(event->device, "0000:00:01.0");
	assert_int_equal(strlen(event->text), script.text_size);
	ioasid_event_free(event);
}

/* The end, and again the end. */
static void expect_end(int r, const char *reason)
{
	struct pollfd p = {.fd = ioasid_watch_fd(watch), .events = POLLIN};

	for (int i = 0; i < 3; i++) {
		struct ioasid_event *event = NULL;

		assert_int_equal(ioasid_watch_next_event(watch, 5000, &event, &error), r);
		assert_string_equal(error->reason, reason);
		assert_int_equal(error->error, r);
		ioasid_error_free(error);
		error = NULL;
		assert_int_equal(poll(&p, 1, 0), 1);
	}
}

static void test_events_in_order(void **state)
{
	static const enum ioasid_event_type types[] = {IOASID_EVENT_FAULT, IOASID_EVENT_ATTACHED};
	const struct ioasid_event_filter filter = {
		.after_sequence = 17, .n_types = 2, .types = types};
	const struct ioasid_scope scope = {.tenant = "org/b"};

	script.n_events = 20;
	script.then = THEN_END;
	script.text_size = 5;
	start(&scope, &filter);
	for (uint64_t i = 0; i < 20; i++)
		expect_event(i);
	expect_end(-EPIPE, "STREAM_ENDED");
	assert_string_equal(script.path, "/ioasid.v1.Broker/WatchEvents");
	assert_int_equal(script.after, 17);
	assert_int_equal(script.n_types, 2);
	assert_int_equal(script.types[0], 15);
	assert_int_equal(script.types[1], 7);
	assert_true(script.scoped);
	assert_string_equal(script.tenant, "org/b");
}

static void test_all_events(void **state)
{
	script.n_events = 1;
	assert_int_equal(ioasid_watch_all_events(client, NULL, NULL, &watch, &error), 0);
	expect_event(0);
	assert_string_equal(script.path, "/ioasid.v1.Admin/WatchEvents");
	assert_false(script.scoped);
}

static void test_faults(void **state)
{
	struct ioasid_fault_event *fault;
	struct ioasid_event *event;

	script.n_events = 2;
	assert_int_equal(ioasid_watch_faults(client, NULL, 3, 0, &watch, &error), 0);
	assert_int_equal(ioasid_watch_next_event(watch, 0, &event, &error), -EINVAL);
	/* A fault event without a fault is not one that crashes. */
	assert_int_equal(ioasid_watch_next_fault(watch, 5000, &fault, &error), 0);
	assert_int_equal(fault->fault->cause, IOASID_FAULT_UNSPECIFIED);
	ioasid_fault_event_free(fault);
	assert_int_equal(ioasid_watch_next_fault(watch, 5000, &fault, &error), 0);
	assert_int_equal(fault->fault->cause, IOASID_FAULT_PERMISSION);
	assert_int_equal(fault->fault->address, 0x1000);
	assert_int_equal(fault->ioasid, 3);
	assert_string_equal(fault->device, "0000:00:02.0");
	assert_int_equal(fault->pasid, 9);
	assert_int_equal(fault->cookie, 77);
	assert_int_equal(fault->group, 4);
	assert_true(fault->last);
	assert_int_equal(fault->deadline_ms, 250);
	ioasid_fault_event_free(fault);
}

static void test_waiting(void **state)
{
	struct ioasid_event *event = NULL;
	struct timespec before, after;
	long ms;

	start(NULL, NULL);
	assert_int_equal(ioasid_watch_next_event(watch, 0, &event, &error), -EAGAIN);
	assert_null(error);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(ioasid_watch_next_event(watch, 120, &event, &error), -EAGAIN);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	assert_true(ms >= 119 && ms < 2000);
	assert_null(event);
	assert_null(error);
}

/* The fd is readable exactly while something waits. */
static void test_poll(void **state)
{
	struct ioasid_event *event;
	struct pollfd p;
	unsigned n = 0;

	script.n_events = 100;
	start(NULL, NULL);
	p = (struct pollfd){.fd = ioasid_watch_fd(watch), .events = POLLIN};
	while (n < 100) {
		assert_int_equal(poll(&p, 1, 5000), 1);
		while (!ioasid_watch_next_event(watch, 0, &event, &error)) {
			assert_int_equal(event->sequence, n++);
			ioasid_event_free(event);
		}
		assert_null(error);
	}
	assert_int_equal(poll(&p, 1, 50), 0);
}

/* Until the broker has been held back for a while; how many events it has sent. */
static unsigned wait_until_stalled(void)
{
	unsigned sent = 0, quiet = 0;

	while (quiet < 6) {
		poll(NULL, 0, 100);
		quiet = sent == script.sent && sent >= 256 ? quiet + 1 : 0;
		sent = script.sent;
	}
	return sent;
}

/* A slow consumer holds the broker back and loses nothing. */
static void test_back_pressure(void **state)
{
	unsigned stalled;

	script.n_events = 3000;
	script.text_size = 8000;
	script.then = THEN_END;
	start(NULL, NULL);
	stalled = wait_until_stalled();
	/* 256 in the queue, and what the windows of HTTP/2 and the socket hold. */
	assert_true(stalled >= 256 && stalled < 2500);
	for (uint64_t i = 0; i < script.n_events; i++)
		expect_event(i);
	expect_end(-EPIPE, "STREAM_ENDED");
}

static void test_cancel_of_full_watch(void **state)
{
	script.n_events = 1u << 30;
	script.text_size = 1000;
	start(NULL, NULL);
	wait_until_stalled();
	ioasid_watch_cancel(watch);
	ioasid_watch_cancel(watch);
	/* What was queued is still there. */
	for (uint64_t i = 0; i < 256; i++)
		expect_event(i);
	expect_end(-ECANCELED, "CANCELLED");
	ioasid_watch_cancel(watch);
}

static void test_close_of_full_watch(void **state)
{
	script.n_events = 1u << 30;
	script.text_size = 1000;
	start(NULL, NULL);
	while (script.sent < 300)
		poll(NULL, 0, 10);
	watch = ioasid_watch_close(watch);
	for (int i = 0; i < 500 && !script.gone; i++)
		poll(NULL, 0, 10);
	assert_true(script.gone);
}

static void *canceller(void *argument)
{
	poll(NULL, 0, 100);
	ioasid_watch_cancel(watch);
	return NULL;
}

static void test_cancel_wakes_next(void **state)
{
	struct ioasid_event *event;
	pthread_t thread;

	start(NULL, NULL);
	pthread_create(&thread, NULL, canceller, NULL);
	assert_int_equal(ioasid_watch_next_event(watch, IOASID_NO_TIMEOUT, &event, &error),
			 -ECANCELED);
	pthread_join(thread, NULL);
}

static void test_token(void **state)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();
	const struct ioasid_scope scope = {.cancel = cancel};

	start(&scope, NULL);
	ioasid_cancel_fire(cancel);
	expect_end(-ECANCELED, "CANCELLED");
	ioasid_watch_close(watch);
	watch = NULL;
	assert_int_equal(ioasid_watch_events(client, &scope, NULL, &watch, &error), -ECANCELED);
	ioasid_cancel_unref(cancel);
}

static void test_refusal(void **state)
{
	script.then = THEN_REFUSE;
	start(NULL, NULL);
	expect_end(-EACCES, "ROLE_FORBIDDEN");
}

/* EAGAIN means "nothing there"; a refusal must not look like it. */
static void test_busy_is_not_again(void **state)
{
	script.then = THEN_REFUSE_BUSY;
	start(NULL, NULL);
	expect_end(-EBUSY, "BUSY");
}

static void test_garbage(void **state)
{
	script.n_events = 1;
	script.then = THEN_GARBAGE;
	start(NULL, NULL);
	expect_event(0);
	expect_end(-EPROTO, "BAD_ANSWER");
}

static void test_server_gone(void **state)
{
	script.n_events = 2;
	start(NULL, NULL);
	expect_event(0);
	expect_event(1);
	fake_broker_hang_up(broker);
	expect_end(-ECONNRESET, "CONNECTION_LOST");
}

static void test_deadline(void **state)
{
	const struct ioasid_scope scope = {.timeout_ms = 100};

	start(&scope, NULL);
	expect_end(-ETIMEDOUT, "TIMED_OUT");
}

/* The time-out of calls is none of a watch's. */
static void test_no_deadline(void **state)
{
	const struct ioasid_options options = {.timeout_ms = 50,
					       .reconnect_ms = IOASID_NO_RECONNECT};
	struct ioasid_client *other;
	struct ioasid_event *event;

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &other, &error), 0);
	assert_int_equal(ioasid_watch_events(other, NULL, NULL, &watch, &error), 0);
	/* The watch keeps the client. */
	ioasid_client_unref(other);
	assert_int_equal(ioasid_watch_next_event(watch, 300, &event, &error), -EAGAIN);
}

static void test_many_watches(void **state)
{
	struct ioasid_watch *watches[24];

	script.n_events = 50;
	for (size_t i = 0; i < 24; i++)
		assert_int_equal(ioasid_watch_events(client, NULL, NULL, &watches[i], &error), 0);
	for (size_t i = 0; i < 24; i++) {
		watch = watches[i];
		for (uint64_t j = 0; j < 50; j++)
			expect_event(j);
	}
	watch = NULL;
	for (size_t i = 0; i < 24; i++)
		assert_null(ioasid_watch_close(watches[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_events_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_of_full_watch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_of_full_watch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_wakes_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_token, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy_is_not_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_watches, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
