/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker dies and comes back: before, in and after a call's effect, with what it
 * remembers and without, once and again and again.  What was made is there exactly once, what
 * is gone is told, and nobody waits longer than asked to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ioasid.h"
#include "model_broker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const struct model_options remembers = {.registry = true};
static const struct model_options forgets;
static const struct model_options no_grace = {.registry = true, .no_grace = true};

static struct ioasid_client *client;
static struct ioasid_error *error;

static void connect_with(const struct ioasid_options *options)
{
	assert_int_equal(ioasid_connect(model_path(), options, &client, &error), 0);
}

static void begin(const struct model_options *options)
{
	model_start(options);
	connect_with(NULL);
}

static int setup(void **state)
{
	client = NULL;
	error = NULL;
	return 0;
}

static int teardown(void **state)
{
	ioasid_error_free(error);
	ioasid_client_unref(client);
	model_stop();
	return 0;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void restart(void)
{
	model_kill();
	model_revive();
}

static int alloc_in(const struct ioasid_scope *scope, uint64_t *ret_id)
{
	const struct ioasid_alloc_request request = {.kind = IOASID_KIND_KERNEL};

	ioasid_error_free(error);
	error = NULL;
	return ioasid_alloc(client, scope, &request, ret_id, NULL, &error);
}

static uint64_t must_alloc(const struct ioasid_scope *scope)
{
	uint64_t id = 0;

	assert_int_equal(alloc_in(scope, &id), 0);
	assert_true(id);
	return id;
}

static size_t listed(const struct ioasid_scope *scope)
{
	struct ioasid_infos *infos = NULL;
	size_t n;

	assert_int_equal(ioasid_list(client, scope, &infos, &error), 0);
	n = infos->n;
	ioasid_infos_free(infos);
	return n;
}

static void expect_lost(const struct ioasid_scope *scope)
{
	struct ioasid_infos *infos = NULL;
	uint64_t id = 0;

	assert_int_equal(alloc_in(scope, &id), -ESTALE);
	assert_string_equal(error->reason, "LEASE_LOST");
	assert_int_equal(error->origin, IOASID_ORIGIN_LOCAL);
	assert_true(ioasid_error_is_lease_lost(error));
	assert_false(ioasid_error_is_no_server(error));
	assert_int_equal(id, 0);
	ioasid_error_free(error);
	error = NULL;
	assert_int_equal(ioasid_list(client, scope, &infos, &error), -ESTALE);
	assert_int_equal(ioasid_free(client, scope, 1, NULL, NULL), -ESTALE);
	assert_null(infos);
	ioasid_error_free(error);
	error = NULL;
}

/* ---- what is remembered and asked ---- */

/* A call that makes nothing costs what it did: no GetStatus, no thread, no key. */
static void test_reads_cost_nothing(void **state)
{
	begin(&remembers);
	assert_int_equal(listed(NULL), 0);
	assert_int_equal(model_calls("GetStatus"), 0);
	must_alloc(NULL);
	must_alloc(NULL);
	assert_int_equal(model_calls("GetStatus"), 1);
	assert_int_equal(model_calls("Alloc"), 2);
	assert_int_equal(ioasid_client_restarts(client), 0);
}

static void test_pause_and_nothing_else(void **state)
{
	uint64_t first, second;

	begin(&remembers);
	first = must_alloc(NULL);
	restart();
	second = must_alloc(NULL);
	assert_int_not_equal(first, second);
	assert_int_equal(listed(NULL), 2);
	assert_true(model_has("", first) && model_has("", second));
	assert_int_equal(model_leases(), 1);
	assert_int_equal(ioasid_client_restarts(client), 1);
	assert_int_equal(ioasid_client_forget_lost(client), 0);
	for (int i = 0; i < 5; i++)
		restart();
	assert_int_equal(ioasid_free(client, NULL, first, NULL, &error), 0);
	assert_int_equal(listed(NULL), 1);
	assert_true(ioasid_client_restarts(client) >= 2);
}

/* The thread sees it while the program does nothing. */
static void test_idle_program(void **state)
{
	struct pollfd p;
	int fd;

	begin(&remembers);
	must_alloc(NULL);
	fd = ioasid_client_fd(client);
	restart();
	for (int i = 0; i < 500 && !ioasid_client_restarts(client); i++)
		poll(NULL, 0, 10);
	assert_int_equal(ioasid_client_restarts(client), 1);
	assert_int_equal(model_calls("Resume"), 1);
	/* The same fd stands for the new connection. */
	assert_int_equal(ioasid_client_fd(client), fd);
	p = (struct pollfd){.fd = fd, .events = POLLRDHUP};
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(listed(NULL), 1);
}

static void test_nothing_held_goes_on(void **state)
{
	begin(&forgets);
	assert_int_equal(listed(NULL), 0);
	restart();
	assert_int_equal(listed(NULL), 0);
	assert_int_equal(model_calls("Resume"), 0);
	assert_int_equal(must_alloc(NULL), 1);
}

/* ---- one effect ---- */

static const enum model_moment moments[] = {MODEL_BEFORE, MODEL_AFTER};

static void test_alloc_once(void **state)
{
	for (size_t i = 0; i < 2; i++) {
		uint64_t id;

		begin(&remembers);
		must_alloc(NULL);
		model_die_at("Alloc", 1, moments[i], 30);
		id = must_alloc(NULL);
		assert_true(model_has("", id));
		assert_int_equal(model_effects("Alloc"), 2);
		assert_int_equal(listed(NULL), 2);
		assert_int_equal(model_leases(), 1);
		if (!i) {
			ioasid_client_unref(client);
			model_stop();
		}
	}
}

/* The very first call, whose lease nobody knows of yet. */
static void test_first_call_once(void **state)
{
	static const struct model_options *const options[] = {&remembers, &forgets};

	for (size_t i = 0; i < 4; i++) {
		bool remembering = options[i / 2]->registry;
		uint64_t id;

		begin(options[i / 2]);
		model_die_at("Alloc", 1, moments[i % 2], 30);
		id = must_alloc(NULL);
		assert_true(model_has("", id));
		assert_int_equal(listed(NULL), 1);
		assert_int_equal(model_leases(), 1);
		/* What was forgotten is made again: one in this world. */
		assert_int_equal(model_effects("Alloc"), !remembering && i % 2 ? 2 : 1);
		if (i < 3) {
			ioasid_client_unref(client);
			model_stop();
		}
	}
}

static void test_free_once(void **state)
{
	uint64_t id;

	begin(&remembers);
	for (size_t i = 0; i < 2; i++) {
		id = must_alloc(NULL);
		model_die_at("Free", 1, moments[i], 20);
		assert_int_equal(ioasid_free(client, NULL, id, NULL, &error), 0);
		assert_false(model_has("", id));
		model_wait_revived();
	}
	assert_int_equal(model_effects("Free"), 2);
	/* Without a restart a wrong id is one. */
	assert_int_equal(ioasid_free(client, NULL, id, NULL, &error), -ENOENT);
}

static void test_key_of_the_program(void **state)
{
	const struct ioasid_scope scope = {.key = "mine"};
	uint64_t id, again;

	begin(&remembers);
	model_die_at("Alloc", 1, MODEL_AFTER, 20);
	id = must_alloc(&scope);
	again = must_alloc(&scope);
	assert_int_equal(id, again);
	assert_int_equal(model_effects("Alloc"), 1);
}

static void test_status_dies(void **state)
{
	begin(&remembers);
	model_die_at("GetStatus", 1, MODEL_AFTER, 20);
	must_alloc(NULL);
	assert_int_equal(listed(NULL), 1);
	assert_int_equal(model_effects("Alloc"), 1);
}

/* The new connection dies while it takes the leases over: before and after it has them. */
static void test_resume_dies(void **state)
{
	begin(&remembers);
	for (size_t i = 0; i < 2; i++) {
		uint64_t id = must_alloc(NULL);

		model_die_at("Resume", 1, moments[i], 30);
		restart();
		assert_true(listed(NULL) == i + 1);
		model_wait_revived();
		assert_int_equal(listed(NULL), i + 1);
		assert_true(model_has("", id));
		assert_int_equal(model_leases(), 1);
	}
	/* And several in a row. */
	for (unsigned i = 0; i < 6; i++) {
		model_die_at("Resume", 1, MODEL_AFTER, 10);
		restart();
		assert_int_equal(listed(NULL), 2);
		model_wait_revived();
	}
	assert_int_equal(listed(NULL), 2);
}

static void test_reconciling(void **state)
{
	const struct model_options options = {.registry = true, .reconciling = 7};

	begin(&options);
	must_alloc(NULL);
	restart();
	must_alloc(NULL);
	assert_int_equal(listed(NULL), 2);
}

/* ---- fds ---- */

static int memfd(void)
{
	int fd = memfd_create("restart", MFD_CLOEXEC);

	assert_return_code(fd, errno);
	assert_return_code(ftruncate(fd, 4096), errno);
	return fd;
}

static void test_memory_once(void **state)
{
	static const char *const steps[] = {"OpenTicket", "give", "RegisterMemory"};

	begin(&remembers);
	for (size_t i = 0; i < 6; i++) {
		struct ioasid_memory *memory = NULL;
		int fd = memfd();

		model_die_at(steps[i / 2], 1, moments[i % 2], 30);
		assert_int_equal(ioasid_register_memory(client, NULL, fd, 0, 0, IOASID_READ, NULL,
							&memory, &error),
				 0);
		assert_int_equal(model_effects("RegisterMemory"), i + 1);
		assert_true(model_has("", memory->id));
		ioasid_memory_free(memory);
		close(fd);
		model_wait_revived();
	}
	assert_int_equal(model_leases(), 1);
	assert_int_equal(ioasid_client_forget_lost(client), 0);
}

/* What a ticket was for is the program's to know. */
static void test_ticket_of_the_program(void **state)
{
	struct ioasid_memory *memory = NULL;
	struct ioasid_ticket ticket;
	int fd = memfd();

	begin(&remembers);
	assert_int_equal(ioasid_ticket_open(client, NULL, IOASID_TICKET_MEMORY, &ticket, &error),
			 0);
	assert_int_equal(ioasid_ticket_give(model_path(), ticket.bytes, fd, 0, &error), 0);
	restart();
	assert_int_equal(ioasid_register_ticket(client, NULL, ticket.bytes, 0, 0, IOASID_READ, NULL,
						&memory, &error),
			 -EACCES);
	assert_string_equal(error->reason, "TICKET_REFUSED");
	assert_null(memory);
	close(fd);
}

/* ---- leases ---- */

static void test_named_lease(void **state)
{
	const struct ioasid_scope scope = {.lease = "vm"};
	uint8_t secret[32], again[32] = {0};

	begin(&remembers);
	for (size_t i = 0; i < 2; i++) {
		char name[8];

		snprintf(name, sizeof(name), "vm%zu", i);
		model_die_at("OpenLease", 1, moments[i], 20);
		assert_int_equal(ioasid_lease_open(client, NULL, name, 60, -1, secret, &error), 0);
		model_wait_revived();
	}
	assert_int_equal(model_effects("OpenLease"), 2);
	assert_int_equal(ioasid_lease_open(client, NULL, "vm", 60, -1, again, &error), 0);
	must_alloc(&scope);
	restart();
	must_alloc(&scope);
	assert_int_equal(listed(&scope), 2);
	assert_int_equal(model_leases(), 3);
}

/* The grace of the connection is over, the secret is still good. */
static void test_adopted_by_secret(void **state)
{
	const struct ioasid_scope scope = {.lease = "vm"};
	struct ioasid_client *other = NULL;
	uint8_t secret[32];
	uint64_t id;

	begin(&remembers);
	assert_int_equal(ioasid_lease_open(client, NULL, "vm", 60, -1, secret, &error), 0);
	id = must_alloc(&scope);
	/* Another connection of the program takes it, and forgets to give it back. */
	assert_int_equal(ioasid_connect(model_path(), NULL, &other, &error), 0);
	assert_int_equal(ioasid_lease_adopt(other, NULL, "vm", secret, &error), 0);
	ioasid_client_unref(other);
	restart();
	assert_int_equal(listed(&scope), 1);
	assert_true(model_has("vm", id));
	assert_true(model_calls("AdoptLease") >= 2);
}

static void test_close_once(void **state)
{
	const struct ioasid_scope scope = {.lease = "vm"};
	uint8_t secret[32];

	begin(&remembers);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(ioasid_lease_open(client, NULL, "vm", 60, -1, secret, &error), 0);
		model_die_at("CloseLease", 1, moments[i], 20);
		assert_int_equal(ioasid_lease_close(client, &scope, &error), 0);
		assert_int_equal(model_effects("CloseLease"), i + 1);
		assert_int_equal(model_leases(), 0);
		model_wait_revived();
	}
	/* The first time NOT_FOUND is what it says. */
	assert_int_equal(ioasid_lease_close(client, &scope, &error), -ENOENT);
}

static void test_connection_lease_lost(void **state)
{
	static const struct model_options *const options[] = {&forgets, &no_grace};

	for (size_t i = 0; i < 2; i++) {
		begin(options[i]);
		must_alloc(NULL);
		restart();
		expect_lost(NULL);
		expect_lost(NULL);
		/* No lease was made in its place, and what is in none works. */
		assert_int_equal(model_leases(), 0);
		restart();
		expect_lost(NULL);
		assert_int_equal(ioasid_client_forget_lost(client), 1);
		assert_int_equal(ioasid_client_forget_lost(client), 0);
		assert_int_equal(must_alloc(NULL), 1);
		restart();
		expect_lost(NULL);
		/* To close what is lost is to know it. */
		assert_int_equal(ioasid_lease_close(client, NULL, &error), 0);
		assert_int_equal(must_alloc(NULL), 1);
		if (!i) {
			ioasid_client_unref(client);
			model_stop();
		}
	}
}

static void test_lost_in_a_call(void **state)
{
	uint64_t id = 0;

	begin(&forgets);
	must_alloc(NULL);
	model_die_at("Alloc", 1, MODEL_AFTER, 20);
	assert_int_equal(alloc_in(NULL, &id), -ESTALE);
	assert_string_equal(error->reason, "LEASE_LOST");
	assert_int_equal(model_leases(), 0);
}

static void test_named_lease_lost(void **state)
{
	const struct ioasid_scope scope = {.lease = "vm"};
	uint8_t secret[32];

	begin(&forgets);
	assert_int_equal(ioasid_lease_open(client, NULL, "vm", 60, -1, secret, &error), 0);
	must_alloc(&scope);
	restart();
	expect_lost(&scope);
	/* The connection lease is another one, and had nothing. */
	must_alloc(NULL);
	expect_lost(&scope);
	assert_int_equal(ioasid_lease_open(client, NULL, "vm", 60, -1, secret, &error), 0);
	assert_int_equal(must_alloc(&scope), 1);
}

/* ---- limits ---- */

static void test_deadline_while_gone(void **state)
{
	const struct ioasid_scope scope = {.timeout_ms = 150};
	double start;
	uint64_t id;

	begin(&remembers);
	must_alloc(NULL);
	model_kill();
	start = now();
	assert_int_equal(alloc_in(&scope, &id), -ECONNRESET);
	assert_string_equal(error->reason, "CONNECTION_LOST");
	assert_true(ioasid_error_is_no_server(error));
	assert_true(now() - start >= 0.14 && now() - start < 1.5);
	model_revive();
	must_alloc(NULL);
	assert_int_equal(listed(NULL), 2);
}

static void test_limit(void **state)
{
	const struct ioasid_options options = {.reconnect_ms = 200};
	double start;
	uint64_t id;

	model_start(&remembers);
	connect_with(&options);
	must_alloc(NULL);
	model_kill();
	start = now();
	assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
	assert_true(ioasid_error_is_no_server(error));
	assert_non_null(strstr(error->message, "no server at"));
	assert_true(now() - start >= 0.15 && now() - start < 1.5);
	/* And from then on at once. */
	for (int i = 0; i < 5; i++) {
		start = now();
		assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
		assert_true(now() - start < 0.5);
	}
	/* In the background it goes on: without a call the lease is taken back. */
	model_revive();
	for (int i = 0; i < 300 && !ioasid_client_restarts(client); i++)
		poll(NULL, 0, 10);
	assert_int_equal(ioasid_client_restarts(client), 1);
	assert_int_equal(listed(NULL), 1);
}

/* A program that holds nothing is tried for when it asks. */
static void test_limit_holding_nothing(void **state)
{
	const struct ioasid_options options = {.reconnect_ms = 100};
	struct ioasid_infos *infos;

	model_start(&remembers);
	connect_with(&options);
	assert_int_equal(listed(NULL), 0);
	model_kill();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ioasid_list(client, NULL, &infos, &error), -ECONNRESET);
		ioasid_error_free(error);
		error = NULL;
	}
	model_revive();
	assert_int_equal(listed(NULL), 0);
}

static void test_never(void **state)
{
	const struct ioasid_options options = {.reconnect_ms = IOASID_NO_RECONNECT};
	uint64_t id;

	model_start(&remembers);
	connect_with(&options);
	must_alloc(NULL);
	assert_int_equal(model_calls("GetStatus"), 0);
	restart();
	assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
	assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
	assert_int_equal(ioasid_client_restarts(client), 0);
}

static void *fire_later(void *cancel)
{
	poll(NULL, 0, 100);
	ioasid_cancel_fire(cancel);
	return NULL;
}

static void test_cancel_while_gone(void **state)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();
	const struct ioasid_scope scope = {.cancel = cancel};
	double start = now();
	pthread_t thread;
	uint64_t id;

	begin(&remembers);
	must_alloc(NULL);
	model_kill();
	pthread_create(&thread, NULL, fire_later, cancel);
	assert_int_equal(alloc_in(&scope, &id), -ECANCELED);
	assert_true(now() - start < 2);
	pthread_join(thread, NULL);
	ioasid_cancel_unref(cancel);
	model_revive();
}

static void *disconnect_later(void *unused)
{
	poll(NULL, 0, 100);
	ioasid_client_disconnect(client);
	return NULL;
}

static void test_disconnect_is_for_good(void **state)
{
	pthread_t thread;
	double start = now();
	uint64_t id;

	begin(&remembers);
	must_alloc(NULL);
	model_kill();
	pthread_create(&thread, NULL, disconnect_later, NULL);
	assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
	assert_true(now() - start < 2);
	pthread_join(thread, NULL);
	model_revive();
	assert_int_equal(alloc_in(NULL, &id), -ECONNRESET);
	assert_int_equal(ioasid_client_restarts(client), 0);
}

/* A client goes while its connection is being made, at whatever point that is. */
static void test_unref_while_gone(void **state)
{
	begin(&remembers);
	for (int i = 0; i < 20; i++) {
		double start;

		must_alloc(NULL);
		model_kill();
		if (i % 2) {
			model_delay(200);
			model_revive();
		}
		poll(NULL, 0, i * 3);
		start = now();
		client = ioasid_client_unref(client);
		assert_true(now() - start < 1);
		model_delay(0);
		if (!(i % 2))
			model_revive();
		connect_with(NULL);
	}
}

/* ---- threads ---- */

#define N_THREADS 12

static struct {
	_Atomic unsigned made;
	_Atomic unsigned failed;
	_Atomic bool stop;
} work;

static void *worker(void *argument)
{
	while (!work.stop) {
		const struct ioasid_alloc_request request = {.kind = IOASID_KIND_KERNEL};
		struct ioasid_error *e = NULL;
		uint64_t id;

		if (ioasid_alloc(client, NULL, &request, &id, NULL, &e) < 0) {
			fprintf(stderr, "%s: %s\n", e->reason, e->message);
			ioasid_error_free(e);
			work.failed++;
			return NULL;
		}
		work.made++;
		if (!model_has("", id))
			work.failed++;
		if (ioasid_free(client, NULL, id, NULL, &e) < 0) {
			fprintf(stderr, "%s: %s\n", e->reason, e->message);
			ioasid_error_free(e);
			work.failed++;
			return NULL;
		}
		poll(NULL, 0, 1);
	}
	return NULL;
}

/* Many threads in calls, again and again the end: one connection each time, one effect each. */
static void test_threads(void **state)
{
	pthread_t threads[N_THREADS];

	begin(&remembers);
	work.made = work.failed = 0;
	work.stop = false;
	must_alloc(NULL);
	for (int i = 0; i < N_THREADS; i++)
		pthread_create(&threads[i], NULL, worker, NULL);
	for (unsigned i = 0; i < 8; i++) {
		poll(NULL, 0, 60);
		restart();
		for (int j = 0; j < 500 && ioasid_client_restarts(client) <= i; j++)
			poll(NULL, 0, 10);
		assert_int_equal(ioasid_client_restarts(client), i + 1);
	}
	work.stop = true;
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(work.failed, 0);
	assert_true(work.made > 0);
	assert_int_equal(model_effects("Alloc"), work.made + 1);
	assert_int_equal(model_effects("Free"), work.made);
	assert_int_equal(model_connections(), 9);
	assert_int_equal(listed(NULL), 1);
}

struct timed {
	pthread_t thread;
	uint32_t timeout_ms;
	int r;
	double took;
};

static void *timed_call(void *argument)
{
	struct timed *timed = argument;
	const struct ioasid_scope scope = {.timeout_ms = timed->timeout_ms};
	struct ioasid_infos *infos = NULL;
	double start = now();

	timed->r = ioasid_list(client, &scope, &infos, NULL);
	timed->took = now() - start;
	ioasid_infos_free(infos);
	return NULL;
}

/* Each waits within its own deadline, and the short ones do not end it for the others. */
static void test_deadlines_of_each(void **state)
{
	struct timed timed[8];

	begin(&remembers);
	must_alloc(NULL);
	model_kill();
	for (unsigned i = 0; i < 8; i++) {
		timed[i].timeout_ms = i % 2 ? 20000 : 100 + 20 * i;
		pthread_create(&timed[i].thread, NULL, timed_call, &timed[i]);
	}
	poll(NULL, 0, 600);
	model_revive();
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(timed[i].thread, NULL);
		assert_int_equal(timed[i].r, i % 2 ? 0 : -ECONNRESET);
		assert_true(timed[i].took < (i % 2 ? 10 : 0.6));
	}
	assert_int_equal(ioasid_client_restarts(client), 1);
	assert_int_equal(model_calls("Resume"), 1);
}

/* ---- watching ---- */

static struct ioasid_watch *watch;

static void expect_event(enum ioasid_event_type type, uint64_t sequence)
{
	struct ioasid_event *event = NULL;
	int r = ioasid_watch_next_event(watch, 10000, &event, &error);

	assert_int_equal(r, 0);
	assert_int_equal(event->type, type);
	assert_int_equal(event->sequence, sequence);
	if (type == IOASID_EVENT_GAP) {
		assert_int_equal(event->lost, 1);
		assert_string_equal(event->tenant, "");
		assert_string_equal(ioasid_event_name(event->type), "gap");
	}
	ioasid_event_free(event);
}

static void wait_watching(unsigned n)
{
	for (int i = 0; i < 500 && model_effects("WatchEvents") < n; i++)
		poll(NULL, 0, 10);
	assert_int_equal(model_effects("WatchEvents"), n);
}

static void test_watch_goes_on(void **state)
{
	begin(&remembers);
	assert_int_equal(ioasid_watch_events(client, NULL, NULL, &watch, &error), 0);
	wait_watching(1);
	model_event();
	model_event();
	expect_event(IOASID_EVENT_ATTACHED, 1);
	expect_event(IOASID_EVENT_ATTACHED, 2);
	restart();
	expect_event(IOASID_EVENT_GAP, 2);
	wait_watching(2);
	model_event();
	expect_event(IOASID_EVENT_ATTACHED, 3);
	/* Before anything has come again. */
	restart();
	expect_event(IOASID_EVENT_GAP, 3);
	watch = ioasid_watch_close(watch);
}

/* The broker does not know the number: from now on, and a gap. */
static void test_watch_counts_anew(void **state)
{
	const struct model_options options = {.registry = true, .counts_anew = true};
	struct ioasid_event *event;

	begin(&options);
	assert_int_equal(ioasid_watch_events(client, NULL, NULL, &watch, &error), 0);
	wait_watching(1);
	for (uint64_t i = 1; i <= 3; i++) {
		model_event();
		expect_event(IOASID_EVENT_ATTACHED, i);
	}
	restart();
	expect_event(IOASID_EVENT_GAP, 3);
	wait_watching(2);
	model_event();
	expect_event(IOASID_EVENT_ATTACHED, 1);
	assert_int_equal(ioasid_watch_next_event(watch, 50, &event, &error), -EAGAIN);
	watch = ioasid_watch_close(watch);
}

static void *cancel_watch_later(void *unused)
{
	poll(NULL, 0, 100);
	ioasid_watch_cancel(watch);
	return NULL;
}

static void test_watch_cancel_while_gone(void **state)
{
	struct ioasid_event *event;
	double start = now();
	pthread_t thread;

	begin(&remembers);
	assert_int_equal(ioasid_watch_events(client, NULL, NULL, &watch, &error), 0);
	wait_watching(1);
	model_kill();
	pthread_create(&thread, NULL, cancel_watch_later, NULL);
	assert_int_equal(ioasid_watch_next_event(watch, 10000, &event, &error), -ECANCELED);
	assert_true(now() - start < 2);
	pthread_join(thread, NULL);
	watch = ioasid_watch_close(watch);
	model_revive();
}

static void test_watch_limit(void **state)
{
	const struct ioasid_options options = {.reconnect_ms = 100};
	struct ioasid_event *event;

	model_start(&remembers);
	connect_with(&options);
	assert_int_equal(ioasid_watch_events(client, NULL, NULL, &watch, &error), 0);
	wait_watching(1);
	model_kill();
	assert_int_equal(ioasid_watch_next_event(watch, 10000, &event, &error), -ECONNRESET);
	assert_true(ioasid_error_is_no_server(error));
	watch = ioasid_watch_close(watch);
	model_revive();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reads_cost_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_and_nothing_else, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_held_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alloc_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_call_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_of_the_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resume_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reconciling, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ticket_of_the_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_named_lease, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopted_by_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connection_lease_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_in_a_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_named_lease_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline_while_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_holding_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_while_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect_is_for_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unref_while_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlines_of_each, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_counts_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_cancel_while_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_limit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
