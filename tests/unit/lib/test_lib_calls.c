/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls against a broker that behaves, misbehaves, hangs, dies: what the program is told,
 * and that nothing waits longer than it was asked to.
 */
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
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* What the next calls meet. */
enum behaviour {
	ANSWER,
	REFUSE_QUOTA,
	REFUSE_PLAIN,
	REFUSE_GARBAGE,
	HANG,
	NO_MESSAGE,
	NO_PROTOBUF,
	BUSY_TWICE,
	RATE_FOR_EVER,
	SAME_PAGE,
};

static struct {
	_Atomic enum behaviour behaviour;
	_Atomic unsigned calls;
	pthread_mutex_t lock;
	char keys[4][65];
} script = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void refuse(struct fake_call *call, int code, const char *reason, int retry_ms)
{
	struct wire wire, detail = {.n = 0}, duration = {.n = 0};

	wire_status(&wire, code, "refused");
	wire_error_info(&wire, reason, "done", "7");
	if (retry_ms) {
		wire_int(&duration, 2, (uint64_t)retry_ms * 1000000);
		wire_message(&detail, 1, &duration);
		wire_detail(&wire, "google.rpc.RetryInfo", &detail);
	}
	fake_call_finish(call, code, "refused", wire.bytes, wire.n);
}

static void answer_status(struct fake_call *call)
{
	Ioasid__V1__GetStatusResponse response = IOASID__V1__GET_STATUS_RESPONSE__INIT;
	char *capabilities[] = {"kernel", "dma"};

	response.version = "1.2.3";
	response.shim = "soft";
	response.n_capabilities = 2;
	response.capabilities = capabilities;
	response.role = "tenant";
	response.tenant = "org/a";
	response.uptime_seconds = 99;
	fake_call_reply(call, &response.base);
}

static void answer_alloc(struct fake_call *call, unsigned n)
{
	Ioasid__V1__AllocRequest *request =
		fake_call_unpack(call, &ioasid__v1__alloc_request__descriptor);
	Ioasid__V1__AllocResponse response = IOASID__V1__ALLOC_RESPONSE__INIT;
	Ioasid__V1__Choice choice = IOASID__V1__CHOICE__INIT;

	pthread_mutex_lock(&script.lock);
	if (n < 4)
		snprintf(script.keys[n], sizeof(script.keys[n]), "%s", request->scope->key);
	pthread_mutex_unlock(&script.lock);
	response.ioasid = 42;
	response.choice = &choice;
	fake_call_reply(call, &response.base);
}

/* Seven mappings in pages of three. */
static void answer_mappings(struct fake_call *call, bool same_page)
{
	Ioasid__V1__ListMappingsRequest *request =
		fake_call_unpack(call, &ioasid__v1__list_mappings_request__descriptor);
	Ioasid__V1__ListMappingsResponse response = IOASID__V1__LIST_MAPPINGS_RESPONSE__INIT;
	unsigned first = same_page ? 3 : (unsigned)atoi(request->page_token);
	Ioasid__V1__Mapping items[3], *pointers[3];
	char token[16] = "";

	for (unsigned i = 0; i < 3 && first + i < 7; i++) {
		ioasid__v1__mapping__init(&items[i]);
		items[i].iova = 0x1000 * (first + i);
		pointers[i] = &items[i];
		response.n_mappings++;
	}
	response.mappings = pointers;
	if (first + 3 < 7)
		snprintf(token, sizeof(token), "%u", same_page ? 3 : first + 3);
	response.next_page_token = token;
	fake_call_reply(call, &response.base);
}

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	enum behaviour behaviour = script.behaviour;
	unsigned n = script.calls++;

	switch (behaviour) {
	case REFUSE_QUOTA:
		refuse(call, 8, "QUOTA", 0);
		return;
	case REFUSE_PLAIN:
		fake_call_finish(call, 12, "no such\nmethod", NULL, 0);
		return;
	case REFUSE_GARBAGE:
		fake_call_finish(call, 5, "not found", "\xff\xff\xff", 3);
		return;
	case HANG:
		fake_call_wait_cancelled(call);
		fake_call_finish(call, 1, "", NULL, 0);
		return;
	case NO_MESSAGE:
		fake_call_finish(call, 0, "", NULL, 0);
		return;
	case NO_PROTOBUF:
		fake_call_send_bytes(call, "\xff\xff\xff\xff", 4);
		fake_call_finish(call, 0, "", NULL, 0);
		return;
	case BUSY_TWICE:
		if (n < 2) {
			/* Another thread may read the key while this one writes. */
			Ioasid__V1__AllocRequest *request =
				fake_call_unpack(call, &ioasid__v1__alloc_request__descriptor);

			pthread_mutex_lock(&script.lock);
			snprintf(script.keys[n], sizeof(script.keys[n]), "%s", request->scope->key);
			pthread_mutex_unlock(&script.lock);
			if (n == 0)
				refuse(call, 10, "BUSY", 0);
			else
				refuse(call, 8, "RATE", 30);
			return;
		}
		break;
	case RATE_FOR_EVER:
		refuse(call, 8, "RATE", 20);
		return;
	default:
		break;
	}
	if (!strcmp(path, "/ioasid.v1.Broker/GetStatus"))
		answer_status(call);
	else if (!strcmp(path, "/ioasid.v1.Broker/Alloc"))
		answer_alloc(call, n);
	else if (!strcmp(path, "/ioasid.v1.Broker/ListMappings"))
		answer_mappings(call, behaviour == SAME_PAGE);
	else
		fake_call_finish(call, 12, "not in this script", NULL, 0);
}

static void no_fds(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
}

static struct fake_broker *broker;
static struct ioasid_client *client;
static struct ioasid_error *error;

/* Of connections that are replaced, test_lib_restart.c. */
static const struct ioasid_options one_connection = {.reconnect_ms = IOASID_NO_RECONNECT};

static int setup(void **state)
{
	script.behaviour = ANSWER;
	script.calls = 0;
	broker = fake_broker_new(handler, no_fds, NULL);
	error = NULL;
	return ioasid_connect(fake_broker_path(broker), &one_connection, &client, &error);
}

static int teardown(void **state)
{
	ioasid_error_free(error);
	client = ioasid_client_unref(client);
	fake_broker_free(broker);
	return 0;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int ask(const struct ioasid_scope *scope)
{
	struct ioasid_server_status *status;
	int r;

	ioasid_error_free(error);
	error = NULL;
	r = ioasid_server_status(client, scope, &status, &error);
	if (!r)
		ioasid_server_status_free(status);
	assert_int_equal(r, error ? error->error : 0);
	return r;
}

static int ask_alloc(const struct ioasid_scope *scope)
{
	const struct ioasid_alloc_request request = {.kind = IOASID_KIND_KERNEL};
	uint64_t id = 0;
	int r;

	ioasid_error_free(error);
	error = NULL;
	r = ioasid_alloc(client, scope, &request, &id, NULL, &error);
	assert_int_equal(id, r ? 0 : 42);
	return r;
}

/* ---- connecting ---- */

static void test_no_server(void **state)
{
	static const struct {
		const char *path;
		int error;
	} cases[] = {
		{"/tmp/ioasid-lib-there-is-no-such-socket", -ENOENT},
		{"/dev/null", -ECONNREFUSED},
		{"@ioasid-lib-there-is-no-such-name", -ECONNREFUSED},
		{"/tmp/ioasid-lib-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		 -ENAMETOOLONG},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ioasid_client *none = NULL;
		double start = now();

		assert_int_equal(ioasid_connect(cases[i].path, NULL, &none, &error),
				 cases[i].error);
		assert_true(now() - start < 1);
		assert_null(none);
		assert_true(ioasid_error_is_no_server(error));
		assert_int_equal(error->origin, IOASID_ORIGIN_CONNECT);
		assert_string_equal(error->reason, "NO_SERVER");
		assert_non_null(strstr(error->message, cases[i].path));
		assert_string_equal(error->method, "connect");
		ioasid_error_free(error);
		error = NULL;
		assert_int_equal(ioasid_connect(cases[i].path, NULL, &none, NULL), cases[i].error);
	}
}

/* A socket that this process may not use is no missing server. */
static void test_socket_permissions(void **state)
{
	struct ioasid_client *none = NULL;
	bool root = !geteuid();
	int r;

	assert_return_code(chmod(fake_broker_path(broker), 0), errno);
	/* Root may do anything.  The system call changes this thread alone. */
	if (root)
		assert_return_code(syscall(SYS_setresuid, -1, 65534, -1), errno);
	r = ioasid_connect(fake_broker_path(broker), NULL, &none, &error);
	if (root)
		assert_return_code(syscall(SYS_setresuid, -1, 0, -1), errno);
	assert_int_equal(r, -EACCES);
	assert_true(ioasid_error_is_denied(error));
	assert_false(ioasid_error_is_no_server(error));
	assert_int_equal(error->origin, IOASID_ORIGIN_CONNECT);
}

/* A listener whose backlog is full holds connect() back. */
static void test_connect_timeout(void **state)
{
	const struct ioasid_options options = {.connect_timeout_ms = 200};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ioasid_client *none = NULL, *first[2] = {NULL, NULL};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	char path[64];
	double start;

	snprintf(path, sizeof(path), "/tmp/ioasid-lib-backlog-%d", getpid());
	strcpy(address.sun_path, path);
	assert_return_code(bind(listener, (struct sockaddr *)&address, sizeof(address)), errno);
	assert_return_code(listen(listener, 0), errno);
	assert_int_equal(ioasid_connect(path, &options, &first[0], NULL), 0);
	start = now();
	assert_int_equal(ioasid_connect(path, &options, &none, &error), -ETIMEDOUT);
	assert_true(now() - start >= 0.19 && now() - start < 2);
	assert_true(ioasid_error_is_no_server(error));
	ioasid_client_unref(first[0]);
	close(listener);
	unlink(path);
}

static void test_default_path(void **state)
{
	struct ioasid_client *other = NULL;

	setenv("IOASID_SOCKET", fake_broker_path(broker), 1);
	assert_int_equal(ioasid_connect(NULL, NULL, &other, &error), 0);
	assert_string_equal(ioasid_client_socket(other), fake_broker_path(broker));
	ioasid_client_unref(other);
	setenv("IOASID_SOCKET", "/tmp/ioasid-lib-there-is-no-such-socket", 1);
	assert_int_equal(ioasid_connect(NULL, NULL, &other, &error), -ENOENT);
	unsetenv("IOASID_SOCKET");
}

static void test_reserved_members(void **state)
{
	const struct ioasid_options options = {.reserved = {0, 0, 1}};
	const struct ioasid_scope scope = {.reserved = {0, 1}}, flags = {.flags = 1u << 31};
	struct ioasid_client *none = NULL;

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &none, &error),
			 -EINVAL);
	assert_int_equal(ask(&scope), -EINVAL);
	assert_string_equal(error->reason, "INVALID_CALL");
	assert_int_equal(ask(&flags), -EINVAL);
	assert_int_equal(script.calls, 0);
}

/* ---- answers ---- */

static void test_answer(void **state)
{
	struct ioasid_server_status *status;

	assert_int_equal(ioasid_server_status(client, NULL, &status, &error), 0);
	assert_string_equal(status->version, "1.2.3");
	assert_string_equal(status->shim, "soft");
	assert_int_equal(status->n_capabilities, 2);
	assert_string_equal(status->capabilities[1], "dma");
	assert_string_equal(status->role, "tenant");
	assert_string_equal(status->tenant, "org/a");
	assert_int_equal(status->uptime_seconds, 99);
	ioasid_server_status_free(status);
}

static void test_refusal(void **state)
{
	script.behaviour = REFUSE_QUOTA;
	assert_int_equal(ask(NULL), -EDQUOT);
	assert_true(ioasid_error_is_quota(error));
	assert_int_equal(error->origin, IOASID_ORIGIN_BROKER);
	assert_string_equal(error->method, "GetStatus");
	assert_string_equal(error->message, "refused");
	assert_int_equal(ioasid_error_done(error), 7);
	/* Nobody who does not ask has to free. */
	assert_int_equal(ioasid_server_status(client, NULL, NULL, NULL), -EDQUOT);
}

static void test_status_that_no_broker_sent(void **state)
{
	script.behaviour = REFUSE_PLAIN;
	assert_int_equal(ask(NULL), -EOPNOTSUPP);
	assert_int_equal(error->origin, IOASID_ORIGIN_GRPC);
	assert_string_equal(error->message, "no such method");
	script.behaviour = REFUSE_GARBAGE;
	assert_int_equal(ask(NULL), -ENOENT);
	assert_int_equal(error->origin, IOASID_ORIGIN_GRPC);
	/* gRPC's own RESOURCE_EXHAUSTED is no quota; see also the details above. */
	assert_false(ioasid_error_is_quota(error));
}

static void test_answers_without_sense(void **state)
{
	script.behaviour = NO_MESSAGE;
	assert_int_not_equal(ask(NULL), 0);
	assert_int_equal(error->origin, IOASID_ORIGIN_GRPC);
	script.behaviour = NO_PROTOBUF;
	assert_int_equal(ask(NULL), -EPROTO);
	assert_string_equal(error->reason, "BAD_ANSWER");
	script.behaviour = ANSWER;
	assert_int_equal(ask(NULL), 0);
}

static void test_request_too_long(void **state)
{
	size_t n = 600000;
	struct ioasid_map_entry *entries = calloc(n, sizeof(*entries));

	for (size_t i = 0; i < n; i++)
		entries[i].iova = UINT64_MAX;
	assert_int_equal(ioasid_map(client, NULL, 1, entries, n, NULL, &error), -EINVAL);
	assert_string_equal(error->reason, "INVALID_CALL");
	assert_int_equal(script.calls, 0);
	free(entries);
}

static void test_pages(void **state)
{
	struct ioasid_mappings *mappings;

	assert_int_equal(ioasid_mapping_list(client, NULL, 1, &mappings, &error), 0);
	assert_int_equal(mappings->n, 7);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(mappings->items[i]->iova, 0x1000 * i);
	assert_int_equal(script.calls, 3);
	ioasid_mappings_free(mappings);

	script.behaviour = SAME_PAGE;
	assert_int_equal(ioasid_mapping_list(client, NULL, 1, &mappings, &error), -EPROTO);
	assert_string_equal(error->reason, "BAD_ANSWER");
}

/* ---- time ---- */

static void test_deadline(void **state)
{
	const struct ioasid_scope scope = {.timeout_ms = 150};
	double start = now();

	script.behaviour = HANG;
	assert_int_equal(ask(&scope), -ETIMEDOUT);
	assert_true(now() - start >= 0.14 && now() - start < 3);
	assert_string_equal(error->reason, "TIMED_OUT");
	assert_int_equal(error->origin, IOASID_ORIGIN_LOCAL);
	assert_false(ioasid_error_is_no_server(error));
	/* The connection is as good as before. */
	script.behaviour = ANSWER;
	assert_int_equal(ask(NULL), 0);
}

static void test_deadline_of_client(void **state)
{
	const struct ioasid_options options = {.timeout_ms = 100};
	struct ioasid_client *other;

	script.behaviour = HANG;
	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &other, NULL), 0);
	assert_int_equal(ioasid_free(other, NULL, 1, NULL, &error), -ETIMEDOUT);
	ioasid_client_unref(other);
}

struct later {
	pthread_t thread;
	unsigned ms;
	void (*what)(void *);
	void *argument;
};

static void *later_thread(void *argument)
{
	struct later *later = argument;

	poll(NULL, 0, (int)later->ms);
	later->what(later->argument);
	return NULL;
}

static void later(struct later *later, unsigned ms, void (*what)(void *), void *argument)
{
	later->ms = ms;
	later->what = what;
	later->argument = argument;
	assert_int_equal(pthread_create(&later->thread, NULL, later_thread, later), 0);
}

static void fire(void *cancel)
{
	ioasid_cancel_fire(cancel);
}

static void test_cancel(void **state)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();
	const struct ioasid_scope scope = {.timeout_ms = IOASID_NO_TIMEOUT, .cancel = cancel};
	struct later thread;

	script.behaviour = HANG;
	later(&thread, 100, fire, cancel);
	assert_int_equal(ask(&scope), -ECANCELED);
	assert_string_equal(error->reason, "CANCELLED");
	assert_int_equal(error->origin, IOASID_ORIGIN_LOCAL);
	pthread_join(thread.thread, NULL);
	/* It stays fired: the next call is not even sent. */
	assert_int_equal(script.calls, 1);
	assert_int_equal(ask(&scope), -ECANCELED);
	assert_int_equal(script.calls, 1);
	ioasid_cancel_unref(cancel);
	ioasid_cancel_unref(NULL);
	ioasid_cancel_fire(NULL);
}

/* ---- the end of the connection ---- */

static void hang_up(void *unused)
{
	fake_broker_hang_up(broker);
}

static void disconnect(void *unused)
{
	ioasid_client_disconnect(client);
}

static void check_lost(void)
{
	assert_int_equal(error->error, -ECONNRESET);
	assert_int_equal(error->origin, IOASID_ORIGIN_CONNECTION);
	assert_string_equal(error->reason, "CONNECTION_LOST");
	assert_true(ioasid_error_is_no_server(error));
}

static void test_server_gone_in_a_call(void **state)
{
	struct later thread;
	double start;

	script.behaviour = HANG;
	later(&thread, 100, hang_up, NULL);
	ask(NULL);
	check_lost();
	pthread_join(thread.thread, NULL);
	/* And no other connection takes its place. */
	script.behaviour = ANSWER;
	for (int i = 0; i < 3; i++) {
		start = now();
		ask(NULL);
		assert_true(now() - start < 2);
		check_lost();
	}
	assert_int_equal(script.calls, 1);
}

static void test_server_gone_between_calls(void **state)
{
	struct pollfd p = {.fd = ioasid_client_fd(client), .events = POLLRDHUP};

	assert_int_equal(ask(NULL), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	fake_broker_hang_up(broker);
	assert_int_equal(poll(&p, 1, 2000), 1);
	ask(NULL);
	check_lost();
}

static void test_disconnect(void **state)
{
	struct later thread;

	script.behaviour = HANG;
	later(&thread, 100, disconnect, NULL);
	ask(NULL);
	check_lost();
	pthread_join(thread.thread, NULL);
	ioasid_client_disconnect(NULL);
}

/* Somebody listens who does not speak HTTP/2. */
static void *babbler(void *argument)
{
	int connection = accept(*(int *)argument, NULL, NULL);

	assert_true(write(connection, "220 hello\r\n", 11) == 11);
	poll(NULL, 0, 200);
	close(connection);
	return NULL;
}

static void test_not_grpc(void **state)
{
	const struct ioasid_scope scope = {.timeout_ms = 3000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	struct ioasid_client *other;
	pthread_t thread;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/ioasid-lib-babble-%d", getpid());
	strcpy(address.sun_path, path);
	assert_return_code(bind(listener, (struct sockaddr *)&address, sizeof(address)), errno);
	assert_return_code(listen(listener, 1), errno);
	pthread_create(&thread, NULL, babbler, &listener);
	assert_int_equal(ioasid_connect(path, &one_connection, &other, &error), 0);
	assert_int_equal(ioasid_free(other, &scope, 1, NULL, &error), -ECONNRESET);
	assert_true(ioasid_error_is_no_server(error));
	pthread_join(thread, NULL);
	ioasid_client_unref(other);
	close(listener);
	unlink(path);
}

/* ---- keys ---- */

static void test_key_is_sent(void **state)
{
	const struct ioasid_scope scope = {.key = "my key"};

	assert_int_equal(ask_alloc(&scope), 0);
	assert_string_equal(script.keys[0], "my key");
	assert_int_equal(ask_alloc(NULL), 0);
	assert_string_equal(script.keys[1], "");
}

static void test_key_make(void **state)
{
	char keys[100][IOASID_KEY_SIZE];

	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(ioasid_key_make(keys[i]), 0);
		assert_int_equal(strlen(keys[i]), IOASID_KEY_SIZE - 1);
		assert_int_equal(strspn(keys[i], "0123456789abcdef"), IOASID_KEY_SIZE - 1);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(keys[i], keys[j]);
	}
}

static void test_retry_has_one_key(void **state)
{
	const struct ioasid_scope scope = {.flags = IOASID_SCOPE_RETRY};
	double start = now();

	script.behaviour = BUSY_TWICE;
	assert_int_equal(ask_alloc(&scope), 0);
	assert_int_equal(script.calls, 3);
	assert_int_equal(strlen(script.keys[0]), IOASID_KEY_SIZE - 1);
	assert_string_equal(script.keys[0], script.keys[1]);
	assert_string_equal(script.keys[0], script.keys[2]);
	/* It has waited as long as the broker said. */
	assert_true(now() - start >= 0.030);

	/* Without the flag the program decides. */
	script.calls = 0;
	assert_int_equal(ask_alloc(NULL), -EAGAIN);
	assert_true(ioasid_error_is_retryable(error));
	assert_int_equal(script.calls, 1);
}

static void test_retry_ends(void **state)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();
	const struct ioasid_scope timed = {.flags = IOASID_SCOPE_RETRY, .timeout_ms = 400};
	const struct ioasid_scope cancelled = {.flags = IOASID_SCOPE_RETRY, .cancel = cancel};
	struct later thread;
	double start = now();
	int r;

	script.behaviour = RATE_FOR_EVER;
	r = ask_alloc(&timed);
	/* The last refusal, or the last try met the deadline on its way. */
	if (r == -EAGAIN) {
		assert_string_equal(error->reason, "RATE");
		assert_int_equal(error->retry_delay_ms, 20);
	} else {
		assert_int_equal(r, -ETIMEDOUT);
	}
	assert_true(now() - start < 3);
	assert_true(script.calls >= 2 && script.calls <= 21);

	later(&thread, 100, fire, cancel);
	start = now();
	assert_int_equal(ask_alloc(&cancelled), -ECANCELED);
	assert_true(now() - start < 2);
	pthread_join(thread.thread, NULL);
	ioasid_cancel_unref(cancel);
}

/* ---- threads ---- */

#define N_THREADS 24
#define N_CALLS	  200

static void *caller(void *argument)
{
	for (int i = 0; i < N_CALLS; i++) {
		struct ioasid_server_status *status;

		if (ioasid_server_status(client, NULL, &status, NULL) < 0 ||
		    strcmp(status->version, "1.2.3"))
			return argument;
		ioasid_server_status_free(status);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, caller, threads), 0);
	for (int i = 0; i < N_THREADS; i++) {
		void *bad;

		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(script.calls, N_THREADS * N_CALLS);
}

static void *waiter(void *cancel)
{
	const struct ioasid_scope scope = {.cancel = cancel};
	struct ioasid_server_status *status;

	return (void *)(intptr_t)ioasid_server_status(client, &scope, &status, NULL);
}

/* Calls run at the same time: more of them than one queue could pluck. */
static void test_calls_at_the_same_time(void **state)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();
	pthread_t threads[N_THREADS];

	script.behaviour = HANG;
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, waiter, cancel), 0);
	for (int i = 0; i < 500 && script.calls < N_THREADS; i++)
		poll(NULL, 0, 10);
	assert_int_equal(script.calls, N_THREADS);
	ioasid_cancel_fire(cancel);
	for (int i = 0; i < N_THREADS; i++) {
		void *r;

		pthread_join(threads[i], &r);
		assert_int_equal((intptr_t)r, -ECANCELED);
	}
	ioasid_cancel_unref(cancel);
}

static void test_references(void **state)
{
	struct pollfd p = {.fd = ioasid_client_fd(client), .events = POLLRDHUP};

	assert_ptr_equal(ioasid_client_ref(client), client);
	assert_null(ioasid_client_unref(client));
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(ask(NULL), 0);
	assert_null(ioasid_client_ref(NULL));
	assert_null(ioasid_client_unref(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_server, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_permissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connect_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_default_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserved_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_that_no_broker_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_without_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_request_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline_of_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_gone_in_a_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_gone_between_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_grpc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_is_sent, setup, teardown),
		cmocka_unit_test(test_key_make),
		cmocka_unit_test_setup_teardown(test_retry_has_one_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retry_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_at_the_same_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_references, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
