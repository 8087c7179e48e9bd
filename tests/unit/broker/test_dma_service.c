/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's access of several pieces to a process (docs/process.md), with the lease busy between
 * two of them: it keeps its place, and the place is free again however it ends.  The broker runs
 * on the host of tests/failnth, which works when it is told to; the process is this one, pid 1
 * being what nobody asks.
 */
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "server/broker/broker.h"
#include "tests/failnth/host.h"

#include "ioasid.pb-c.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* docs/process.md */
#define ACCESSES_MAX 8
#define PIECE	     16384u
#define ADDRESS	     0x7f0000000000ull
#define DEVICE	     "0000:01:00.0"
#define CANCELLED    1

#define NOT_ATTACHED IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_NOT_ATTACHED
#define MEMORY_ERROR IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_MEMORY_ERROR

struct dma {
	struct broker_call *call;
	bool answered;
	int code;
	size_t done;
	unsigned int cause;
};

struct fixture {
	struct host host; /* first: the ops of tests/failnth get it */
	struct broker_host_ops ops;
	struct broker_watch *service; /* the broker's end, while it looks at it */
	struct broker *broker;
	struct shim *shim;
	struct broker_session *session;
	int fd;
	uint64_t space;
	uint64_t asked[ACCESSES_MAX];
	struct dma dmas[ACCESSES_MAX], late[2], more[ACCESSES_MAX + 1];
};

static struct fixture *watching;

/* A service's socket is watched after its process. */
static int watch(void *data, struct broker_watch *w)
{
	watching->service = w;
	return 0;
}

static void unwatch(void *data, struct broker_watch *w)
{
	if (watching->service == w)
		watching->service = NULL;
}

static const char policy_text[] =
	"{\"version\":1,\"tenants\":{\"mine\":{\"devices\":[{\"any\":true}]}},\"identities\":["
	"{\"socket\":\"tenants\",\"uid\":1000,\"role\":\"tenant\",\"tenant\":\"mine\"}]}";

static int call(struct fixture *f, const char *method, const ProtobufCMessage *request)
{
	uint8_t bytes[1024];
	size_t n = protobuf_c_message_pack(request, bytes);

	return host_call(&f->host, f->broker, f->session, method, bytes, n);
}

static void dma_finish(void *userdata, const struct broker_answer *answer)
{
	const Ioasid__V1__DeviceDmaResponse *r = (const void *)answer->response;
	struct dma *d = userdata;

	assert_false(d->answered);
	d->answered = true;
	d->code = answer->code;
	d->done = answer->code ? 0 : r->done;
	d->cause = answer->code || !r->fault ? 0 : r->fault->cause;
}

static void no_send(void *userdata, const ProtobufCMessage *message)
{
	fail();
}

static void other_finish(void *userdata, const struct broker_answer *answer)
{
	struct dma *d = userdata;

	d->answered = true;
	d->code = answer->code;
}

static const struct broker_call_ops dma_ops = {.finish = dma_finish, .send = no_send};
static const struct broker_call_ops other_ops = {.finish = other_finish, .send = no_send};

/* A read; the broker takes it up, and goes on with it when it is pumped. */
static void begin(struct fixture *f, size_t length, struct dma *d)
{
	static const char name[] = "/ioasid.v1.Broker/DeviceDma";
	Ioasid__V1__DeviceDmaRequest q = IOASID__V1__DEVICE_DMA_REQUEST__INIT;
	uint8_t bytes[256];

	*d = (struct dma){0};
	q.device = (char *)DEVICE;
	q.iova = ADDRESS;
	q.access = IOASID__V1__ACCESS__ACCESS_READ;
	q.length = length;
	broker_call_start(f->session, broker_method_find(name, strlen(name)), bytes,
			  protobuf_c_message_pack(&q.base, bytes), &dma_ops, d, &d->call);
}

/* The id of the next piece that the process is asked for; 0: none. */
static uint64_t next_asked(struct fixture *f, uint32_t *ret_length)
{
	uint8_t bytes[64];
	uint64_t id;

	if (recv(f->fd, bytes, sizeof(bytes), MSG_DONTWAIT) != 24)
		return 0;
	memcpy(&id, bytes, 8);
	memcpy(ret_length, bytes + 12, 4);
	*ret_length = le32toh(*ret_length);
	return le64toh(id);
}

/* All of the piece, and the broker looks at it at once. */
static void answer(struct fixture *f, uint64_t id, uint32_t length)
{
	static uint8_t bytes[16 + PIECE];
	struct broker_watch *w = f->service;

	id = htole64(id);
	memcpy(bytes, &id, 8);
	length = htole32(length);
	memcpy(bytes + 8, &length, 4);
	assert_int_equal(send(f->fd, bytes, 16 + le32toh(length), MSG_DONTWAIT),
			 16 + le32toh(length));
	assert_non_null(w);
	f->service = NULL;
	w->ready(w);
}

static void service_open(struct fixture *f)
{
	Ioasid__V1__OpenDmaServiceRequest q = IOASID__V1__OPEN_DMA_SERVICE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AttachRequest attach = IOASID__V1__ATTACH_REQUEST__INIT;
	struct broker_peer me = {.socket = "tenants", .uid = 1000, .gid = 1000, .pid = getpid()};
	Ioasid__V1__OpenDmaServiceResponse *given;
	Ioasid__V1__AllocResponse *space;

	assert_int_equal(call(f, "/ioasid.v1.Broker/OpenDmaService", &q.base), 0);
	given = ioasid__v1__open_dma_service_response__unpack(NULL, f->host.n_response,
							      f->host.response);
	assert_int_equal(broker_ticket_take(f->broker, &me, given->ticket.data, &f->fd), 0);
	ioasid__v1__open_dma_service_response__free_unpacked(given, NULL);
	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_PROCESS;
	assert_int_equal(call(f, "/ioasid.v1.Broker/Alloc", &alloc.base), 0);
	space = ioasid__v1__alloc_response__unpack(NULL, f->host.n_response, f->host.response);
	f->space = space->ioasid;
	ioasid__v1__alloc_response__free_unpacked(space, NULL);
	attach.device = (char *)DEVICE;
	attach.ioasid = f->space;
	assert_int_equal(call(f, "/ioasid.v1.Broker/Attach", &attach.base), 0);
}

/* As many accesses of two pieces as there is place for, each asked for its first one. */
static int setup(void **state)
{
	static struct fixture fixture;
	struct fixture *f = *state = &fixture;
	struct broker_config config = {.host_ops = &f->ops, .host = &f->host};
	struct broker_peer me = {.socket = "tenants", .uid = 1000, .gid = 1000, .pid = getpid()};
	Ioasid__V1__ClaimDeviceRequest claim = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	char *device = (char *)DEVICE;
	struct policy_problem problem;
	struct soft_problem trouble;
	bool refused;

	memset(f, 0, sizeof(*f));
	watching = f;
	host_init(&f->host);
	f->ops = host_ops;
	f->ops.watch = watch;
	f->ops.unwatch = unwatch;
	assert_int_equal(soft_shim_new(NULL, NULL, &f->shim, &trouble), 0);
	config.shim = f->shim;
	assert_int_equal(policy_parse("test", policy_text, strlen(policy_text),
				      broker_policy_vocabulary(), &config.policy, &problem),
			 0);
	assert_int_equal(broker_new(&config, &f->broker), 0);
	assert_int_equal(broker_session_open(f->broker, &me, NULL, &refused, &f->session), 0);
	claim.devices = &device;
	claim.n_devices = 1;
	assert_int_equal(call(f, "/ioasid.v1.Broker/ClaimDevice", &claim.base), 0);
	service_open(f);
	for (size_t i = 0; i < ACCESSES_MAX; i++) {
		uint32_t length = 0;

		begin(f, PIECE + 1, &f->dmas[i]);
		host_pump(&f->host, f->broker);
		f->asked[i] = next_asked(f, &length);
		assert_int_not_equal(f->asked[i], 0);
		assert_int_equal(length, PIECE);
	}
	return 0;
}

/* broker_free() asserts that every counter is zero. */
static int teardown(void **state)
{
	struct fixture *f = *state;

	broker_session_close(f->session);
	host_pump(&f->host, f->broker);
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		assert_true(f->dmas[i].answered);
	close(f->fd);
	broker_shutdown(f->broker);
	host_pump(&f->host, f->broker);
	assert_true(broker_drained(f->broker));
	broker_free(f->broker);
	shim_free(f->shim);
	return 0;
}

/* So long that a worker begins it: the lease's other calls wait until it has. */
#define LONG (100u << 10)

/*
 * The lease is at an access, and another one waits, when the first piece of access 0 is answered:
 * its second piece comes after them.
 */
static void answer_when_busy(struct fixture *f, struct dma *ret_late)
{
	begin(f, LONG, &ret_late[0]);
	begin(f, 1, &ret_late[1]);
	answer(f, f->asked[0], PIECE);
	assert_false(ret_late[0].answered || ret_late[1].answered);
}

/* What has no place is blocked at once; what was begun later has one. */
static void assert_places(struct fixture *f, size_t free)
{
	struct dma *more = f->more;
	uint32_t length = 0;

	assert_in_range(free, 0, ACCESSES_MAX);
	for (size_t i = 0; i <= free; i++) {
		begin(f, 1, &more[i]);
		host_pump(&f->host, f->broker);
		assert_int_equal(more[i].answered, i == free);
	}
	assert_int_equal(more[free].cause, MEMORY_ERROR);
	for (size_t i = 0; i < free; i++) {
		answer(f, next_asked(f, &length), 1);
		host_pump(&f->host, f->broker);
		assert_true(more[i].answered);
		assert_int_equal(more[i].done, 1);
	}
}

static void test_place_is_kept_between_pieces(void **state)
{
	struct fixture *f = *state;
	struct dma *late = f->late;
	uint32_t length = 0;
	uint64_t id;

	answer_when_busy(f, late);
	host_pump(&f->host, f->broker);
	for (size_t i = 0; i < 2; i++) {
		assert_true(late[i].answered);
		assert_int_equal(late[i].cause, MEMORY_ERROR);
	}
	assert_false(f->dmas[0].answered);
	id = next_asked(f, &length);
	assert_int_not_equal(id, 0);
	assert_int_equal(length, 1);
	answer(f, id, 1);
	host_pump(&f->host, f->broker);
	assert_true(f->dmas[0].answered);
	assert_int_equal(f->dmas[0].cause, 0);
	assert_int_equal(f->dmas[0].done, PIECE + 1);
	assert_places(f, 1);
}

static void test_cancelled_between_pieces(void **state)
{
	struct fixture *f = *state;
	struct dma *late = f->late;

	answer_when_busy(f, late);
	broker_call_cancel(f->dmas[0].call);
	host_pump(&f->host, f->broker);
	assert_true(f->dmas[0].answered);
	assert_int_equal(f->dmas[0].code, CANCELLED);
	/* Its place is the first one's that comes after it. */
	assert_false(late[0].answered);
	assert_true(late[1].answered);
	assert_int_equal(late[1].cause, MEMORY_ERROR);
	for (size_t done = 0; done < LONG; done += PIECE) {
		uint32_t length = 0;
		uint64_t id = next_asked(f, &length);

		assert_int_not_equal(id, 0);
		answer(f, id, length);
		host_pump(&f->host, f->broker);
	}
	assert_true(late[0].answered);
	assert_int_equal(late[0].done, LONG);
	assert_places(f, 1);
}

static void test_detached_between_pieces(void **state)
{
	static const char name[] = "/ioasid.v1.Broker/Detach";
	Ioasid__V1__DetachRequest q = IOASID__V1__DETACH_REQUEST__INIT;
	struct fixture *f = *state;
	struct dma *busy = &f->late[0], *detach = &f->late[1];
	uint8_t bytes[64];

	q.device = (char *)DEVICE;
	begin(f, LONG, busy);
	broker_call_start(f->session, broker_method_find(name, strlen(name)), bytes,
			  protobuf_c_message_pack(&q.base, bytes), &other_ops, detach,
			  &detach->call);
	answer(f, f->asked[0], PIECE);
	host_pump(&f->host, f->broker);
	assert_true(busy->answered);
	assert_true(detach->answered);
	assert_int_equal(detach->code, 0);
	for (size_t i = 0; i < ACCESSES_MAX; i++) {
		assert_true(f->dmas[i].answered);
		assert_int_equal(f->dmas[i].cause, NOT_ATTACHED);
		assert_int_equal(f->dmas[i].done, i ? 0 : PIECE);
	}
}

static void test_service_ends_between_pieces(void **state)
{
	struct fixture *f = *state;
	struct dma *late = f->late;

	answer_when_busy(f, late);
	shutdown(f->fd, SHUT_RDWR);
	f->service->ready(f->service);
	host_pump(&f->host, f->broker);
	for (size_t i = 0; i < ACCESSES_MAX; i++) {
		assert_true(f->dmas[i].answered);
		assert_int_equal(f->dmas[i].cause, NOT_ATTACHED);
		assert_int_equal(f->dmas[i].done, i ? 0 : PIECE);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_place_is_kept_between_pieces),
		TEST(test_cancelled_between_pieces),
		TEST(test_detached_between_pieces),
		TEST(test_service_ends_between_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
