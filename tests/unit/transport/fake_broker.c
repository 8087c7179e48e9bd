/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker without tenants: broker.h with methods that do nothing but exercise its host.
 * The double against which the transport is tested.  It keeps the rules of the header and
 * aborts when its host breaks one: a call on a dead session, a wrong thread, a second
 * writable, a session closed twice.
 */
#include "server/broker/broker.h"
#include "server/transport/fd_protocol.h"
#include "server/transport/list.h"

#include "fake.pb-c.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: host broke: %s\n", __FILE__, __LINE__, #what);     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define MAGIC 0x5e551011

struct broker {
	const struct broker_host_ops *ops;
	void *host;
	pthread_t thread;
	bool has_thread;
	struct list sessions;
	struct list calls;
	size_t n_sessions, n_calls, n_works, n_fds;
	uint64_t n_cancelled;
	bool stopping;
	uint8_t ticket[16];
	bool ticket_open;
};

struct broker_session {
	struct list link;
	struct broker *broker;
	unsigned magic;
	struct broker_peer peer;
	void *connection;
	bool refused;
};

struct broker_call {
	struct broker_work work;
	struct list link;
	struct broker *broker;
	struct broker_session *session; /* NULL: closed */
	const struct broker_method *method;
	const struct broker_call_ops *ops;
	void *userdata;
	Fake__V1__Request *request;
	bool on_worker;
	bool cancelled;
	bool writable;
	uint64_t n_sent;
	uint64_t deadline; /* UINT64_MAX: none */
};

struct broker_method {
	const char *path;
	bool streaming;
	void (*start)(struct broker_call *call);
};

static void on_state_thread(struct broker *broker)
{
	if (!broker->has_thread) {
		broker->thread = pthread_self();
		broker->has_thread = true;
	}
	CHECK(pthread_equal(broker->thread, pthread_self()));
}

static void call_finish(struct broker_call *call, int code, const char *message,
			const uint8_t *details, size_t n_details, Fake__V1__Reply *reply)
{
	struct broker_answer answer = {
		.code = code,
		.message = message,
		.details = details,
		.n_details = n_details,
		.response = reply ? &reply->base : NULL,
	};

	list_remove(&call->link);
	call->broker->n_calls--;
	call->ops->finish(call->userdata, &answer);
	if (call->request)
		fake__v1__request__free_unpacked(call->request, NULL);
	free(call);
}

static void start_echo(struct broker_call *call)
{
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;

	reply.payload = call->request->payload;
	reply.uid = call->session->peer.uid;
	reply.pid = call->session->peer.pid;
	reply.socket = (char *)call->session->peer.socket;
	reply.sessions = call->broker->n_sessions;
	reply.calls = call->broker->n_calls;
	reply.works = call->broker->n_works;
	reply.fds = call->broker->n_fds;
	reply.cancelled = call->broker->n_cancelled;
	call_finish(call, 0, NULL, NULL, 0, &reply);
}

static void slow_run(struct broker_work *work)
{
	struct broker_call *call = container_of(work, struct broker_call, work);
	struct timespec pause = {
		.tv_sec = call->request->delay_ms / 1000,
		.tv_nsec = call->request->delay_ms % 1000 * 1000000L,
	};

	nanosleep(&pause, NULL);
}

static void slow_done(struct broker_work *work)
{
	struct broker_call *call = container_of(work, struct broker_call, work);
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;

	on_state_thread(call->broker);
	call->broker->n_works--;
	if (call->cancelled)
		call_finish(call, 1, "cancelled", NULL, 0, NULL);
	else
		call_finish(call, 0, NULL, NULL, 0, &reply);
}

static void start_slow(struct broker_call *call)
{
	call->on_worker = true;
	call->work.run = slow_run;
	call->work.done = slow_done;
	/* The request chooses its key, so that tests can be two tenants in one process. */
	call->work.fairness_key = (const void *)(uintptr_t)(call->request->n * 4096 + 16);
	call->broker->n_works++;
	call->broker->ops->submit(call->broker->host, &call->work);
}

static void start_hang(struct broker_call *call)
{
}

static void start_timer(struct broker_call *call)
{
	struct broker *broker = call->broker;

	call->deadline = broker->ops->monotonic_us(broker->host) + call->request->delay_ms * 1000;
}

static void stream_next(struct broker_call *call)
{
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;
	uint8_t *payload;

	if (call->request->n && call->n_sent == call->request->n) {
		call_finish(call, 0, NULL, NULL, 0, NULL);
		return;
	}
	CHECK(call->writable);
	payload = calloc(1, call->request->size + 1);
	reply.index = ++call->n_sent;
	reply.payload.data = payload;
	reply.payload.len = call->request->size;
	call->writable = false;
	call->ops->send(call->userdata, &reply.base);
	free(payload);
}

static void start_stream(struct broker_call *call)
{
	stream_next(call);
}

static void start_refuse(struct broker_call *call)
{
	call_finish(call, call->request->n, call->request->text, call->request->payload.data,
		    call->request->payload.len, NULL);
}

static void start_kick(struct broker_call *call)
{
	call->broker->ops->kick(call->broker->host, call->session->connection);
}

static void start_ticket(struct broker_call *call)
{
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;
	struct broker *broker = call->broker;

	for (int i = 0; i < 16; i++)
		broker->ticket[i] = i * 7 + 1;
	broker->ticket_open = true;
	reply.payload.data = broker->ticket;
	reply.payload.len = sizeof(broker->ticket);
	call_finish(call, 0, NULL, NULL, 0, &reply);
}

static void start_audit(struct broker_call *call)
{
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;
	struct broker *broker = call->broker;

	for (unsigned i = 0; i < call->request->n; i++)
		broker->ops->audit(broker->host, call->request->text, strlen(call->request->text));
	call_finish(call, 0, NULL, NULL, 0, &reply);
}

static void start_big(struct broker_call *call)
{
	Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;
	uint8_t *payload = calloc(1, call->request->size + 1);

	reply.payload.data = payload;
	reply.payload.len = call->request->size;
	call_finish(call, 0, NULL, NULL, 0, &reply);
	free(payload);
}

static const struct broker_method methods[] = {
	{"/fake.v1.Fake/Echo", false, start_echo},    {"/fake.v1.Fake/Slow", false, start_slow},
	{"/fake.v1.Fake/Hang", false, start_hang},    {"/fake.v1.Fake/Timer", false, start_timer},
	{"/fake.v1.Fake/Stream", true, start_stream}, {"/fake.v1.Fake/Refuse", false, start_refuse},
	{"/fake.v1.Fake/Kick", false, start_kick},    {"/fake.v1.Fake/Ticket", false, start_ticket},
	{"/fake.v1.Fake/Audit", false, start_audit},  {"/fake.v1.Fake/Big", false, start_big},
};
#define N_METHODS (sizeof(methods) / sizeof(methods[0]))

const struct broker_method *broker_method_find(const char *path, size_t length)
{
	for (size_t i = 0; i < N_METHODS; i++)
		if (strlen(methods[i].path) == length && !memcmp(methods[i].path, path, length))
			return &methods[i];
	return NULL;
}

bool broker_method_is_streaming(const struct broker_method *method)
{
	return method->streaming;
}

const char *broker_method_path(const struct broker_method *method)
{
	return method->path;
}

const struct broker_method *broker_method_at(size_t index)
{
	return index < N_METHODS ? &methods[index] : NULL;
}

void broker_call_start(struct broker_session *session, const struct broker_method *method,
		       const uint8_t *request, size_t length, const struct broker_call_ops *ops,
		       void *userdata, struct broker_call **ret_call)
{
	struct broker_call *call = calloc(1, sizeof(*call));

	CHECK(session && session->magic == MAGIC);
	on_state_thread(session->broker);
	call->broker = session->broker;
	call->session = session;
	call->method = method;
	call->ops = ops;
	call->userdata = userdata;
	call->writable = true;
	call->deadline = UINT64_MAX;
	call->broker->n_calls++;
	list_append(&call->broker->calls, &call->link);
	*ret_call = call;
	call->request = fake__v1__request__unpack(NULL, length, request);
	if (!call->request)
		call_finish(call, 3, "not a Request", NULL, 0, NULL);
	else if (session->refused)
		call_finish(call, 16, "no tenant", NULL, 0, NULL);
	else
		method->start(call);
}

void broker_call_writable(struct broker_call *call)
{
	on_state_thread(call->broker);
	CHECK(call->method->streaming && !call->writable);
	call->writable = true;
	stream_next(call);
}

void broker_call_cancel(struct broker_call *call)
{
	on_state_thread(call->broker);
	if (call->cancelled)
		return;
	call->cancelled = true;
	call->broker->n_cancelled++;
	if (!call->on_worker)
		call_finish(call, 1, "cancelled", NULL, 0, NULL);
}

int broker_session_open(struct broker *broker, const struct broker_peer *peer, void *connection,
			bool *ret_refused, struct broker_session **ret_session)
{
	const char *limit = getenv("FAKE_SESSIONS_MAX");
	struct broker_session *session;

	on_state_thread(broker);
	if (limit && broker->n_sessions >= strtoul(limit, NULL, 10))
		return BROKER_E_CONNECTIONS;
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->broker = broker;
	session->magic = MAGIC;
	session->peer = *peer;
	session->connection = connection;
	session->refused = !strcmp(peer->socket, "strangers");
	*ret_refused = session->refused;
	*ret_session = session;
	list_append(&broker->sessions, &session->link);
	broker->n_sessions++;
	return 0;
}

void broker_session_close(struct broker_session *session)
{
	struct list *item;

	CHECK(session && session->magic == MAGIC);
	on_state_thread(session->broker);
	list_for_each (item, &session->broker->calls) {
		struct broker_call *call = container_of(item, struct broker_call, link);

		if (call->session != session)
			continue;
		CHECK(call->cancelled);
		call->session = NULL;
	}
	session->magic = 0;
	list_remove(&session->link);
	session->broker->n_sessions--;
	free(session);
}

int broker_ticket_give(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int fd)
{
	on_state_thread(broker);
	if (!broker->ticket_open || memcmp(broker->ticket, ticket, 16))
		return BROKER_TICKET_REFUSED;
	broker->ticket_open = false;
	broker->n_fds++;
	close(fd);
	return 0;
}

int broker_ticket_take(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int *ret_fd)
{
	on_state_thread(broker);
	if (!broker->ticket_open || memcmp(broker->ticket, ticket, 16))
		return BROKER_TICKET_REFUSED;
	broker->ticket_open = false;
	*ret_fd = memfd_create("taken", MFD_CLOEXEC);
	if (*ret_fd >= 0 && write(*ret_fd, "taken", 5) == 5)
		return 0;
	return BROKER_TICKET_UNAVAILABLE;
}

int broker_new(const struct broker_config *config, struct broker **ret_broker)
{
	struct broker *broker = calloc(1, sizeof(*broker));

	if (!broker)
		return -ENOMEM;
	broker->ops = config->host_ops;
	broker->host = config->host;
	list_init(&broker->sessions);
	list_init(&broker->calls);
	*ret_broker = broker;
	return 0;
}

void broker_ending(struct broker *broker)
{
}

void broker_shutdown(struct broker *broker)
{
	on_state_thread(broker);
	CHECK(!broker->n_sessions);
	broker->stopping = true;
}

bool broker_drained(struct broker *broker)
{
	return broker->stopping && !broker->n_calls && !broker->n_works && !broker->n_sessions;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	CHECK(!broker->n_calls && !broker->n_works && !broker->n_sessions);
	free(broker);
}

uint64_t broker_next_deadline(struct broker *broker)
{
	uint64_t next = UINT64_MAX;
	struct list *item;

	on_state_thread(broker);
	list_for_each (item, &broker->calls) {
		struct broker_call *call = container_of(item, struct broker_call, link);

		if (call->deadline < next)
			next = call->deadline;
	}
	return next;
}

void broker_tick(struct broker *broker)
{
	uint64_t now = broker->ops->monotonic_us(broker->host);
	struct list *item, *after;

	list_for_each_safe (item, after, &broker->calls) {
		struct broker_call *call = container_of(item, struct broker_call, link);
		Fake__V1__Reply reply = FAKE__V1__REPLY__INIT;

		if (call->deadline <= now)
			call_finish(call, 0, NULL, NULL, 0, &reply);
	}
}

int broker_reload_policy(struct broker *broker, char *ret_problem, size_t problem_size)
{
	on_state_thread(broker);
	snprintf(ret_problem, problem_size, "the fake has no policy");
	return 1;
}
