/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process sends to the broker on the socket of its DMA service (docs/process.md): any
 * bytes at all, as answers, while devices have accesses under way in it, time passes, calls are
 * cancelled, the device is detached and the socket is closed and opened again.  Beside it another
 * tenant's process, which answers well.
 *
 * A model of docs/process.md decides of each message whether it is an answer.  If it is, the
 * device gets exactly that; if it is not, the service has ended and the devices in it are
 * blocked.  Either way nothing that was asked of the other process is answered, and what the
 * other process answers is what its device gets.  At the end nothing is left: no counter, no fd.
 *
 * The input is steps of {u8 what, u16 little-endian n, ...}; see step().  The other process is
 * pid 1, which is always there; nobody asks it.
 */
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "server/broker/broker.h"
#include "tests/failnth/host.h"

#include "ioasid.pb-c.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* docs/process.md */
#define ACCESSES_MAX 8
#define CHUNK	     16384u
#define ANSWER_SIZE  16u
#define ACCESS_SIZE  24u
#define OP_READ	     1u
#define OP_WRITE     2u
#define OP_END	     3u

#define CALLS_MAX  32
#define LENGTH_MAX 40000u
#define ADDRESS	   0x7f0000000000ull
#define WATCHES	   16
#define CANCELLED  1

enum { MINE, OTHER, PROCESSES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A DeviceDma under way, or answered. */
struct dma {
	struct broker_call *call;
	bool answered;
	int code;
	uint32_t op, length, done;
	unsigned int cause;
	/* By the model. */
	bool over;
	uint32_t wanted_done;
	unsigned int wanted_cause;
	/* READ: what the device got, and what it should have. */
	uint8_t data[LENGTH_MAX], wanted[LENGTH_MAX];
};

/* What the process was asked for and has not answered, by the model. */
struct asked {
	uint64_t id; /* 0: free */
	uint32_t op, length;
	uint64_t address, deadline_us;
	struct dma *dma; /* NULL: nobody waits any more */
	bool seen;	 /* its message has arrived */
};

struct process {
	struct broker_session *session;
	struct broker_peer peer;
	const char *device;
	uint64_t space;
	bool attached, served;
	int fd; /* its end */
	uint64_t last_id;
	struct asked asked[ACCESSES_MAX];
	size_t n_dmas;
	struct dma dmas[CALLS_MAX];
};

static struct {
	struct host host; /* first: the ops of tests/failnth get it */
	struct broker_host_ops ops;
	struct broker_watch *watches[WATCHES];
	struct broker *broker;
	struct shim *shim;
	struct process processes[PROCESSES];
} run;

static const char policy_text[] =
	"{\"version\":1,\"tenants\":{\"mine\":{\"devices\":[{\"any\":true}]},"
	"\"other\":{\"devices\":[{\"any\":true}]}},\"identities\":["
	"{\"socket\":\"tenants\",\"uid\":1000,\"role\":\"tenant\",\"tenant\":\"mine\"},"
	"{\"socket\":\"tenants\",\"uid\":1001,\"role\":\"tenant\",\"tenant\":\"other\"}]}";

/* ---- the host: that of tests/failnth, and fds that are looked at ---- */

static int watch(void *data, struct broker_watch *watch)
{
	for (size_t i = 0; i < WATCHES; i++)
		if (!run.watches[i]) {
			run.watches[i] = watch;
			return 0;
		}
	abort();
}

static void unwatch(void *data, struct broker_watch *watch)
{
	for (size_t i = 0; i < WATCHES; i++)
		if (run.watches[i] == watch)
			run.watches[i] = NULL;
}

static bool fire_one(void)
{
	for (size_t i = 0; i < WATCHES; i++) {
		struct broker_watch *w = run.watches[i];
		struct pollfd p = {.fd = w ? w->fd : -1, .events = POLLIN};

		if (!w || poll(&p, 1, 0) <= 0)
			continue;
		run.watches[i] = NULL;
		w->ready(w);
		return true;
	}
	return false;
}

static void pump(void)
{
	do
		host_pump(&run.host, run.broker);
	while (fire_one());
}

static size_t count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	REQUIRE(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- the model ---- */

static struct asked *asked_find(struct process *p, uint64_t id)
{
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		if (p->asked[i].id == id)
			return &p->asked[i];
	return NULL;
}

static void model_over(struct dma *d, unsigned int cause)
{
	d->over = true;
	d->wanted_cause = cause;
}

/* The next piece of a call; it goes on, or is blocked. */
static void model_ask(struct process *p, struct dma *d)
{
	struct asked *a = asked_find(p, 0);

	if (!p->attached || !p->served) {
		model_over(d, IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_NOT_ATTACHED);
		return;
	}
	if (!a) {
		model_over(d, IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_MEMORY_ERROR);
		return;
	}
	*a = (struct asked){
		.id = ++p->last_id,
		.op = d->op,
		.length = d->length - d->wanted_done < CHUNK ? d->length - d->wanted_done : CHUNK,
		.address = ADDRESS + d->wanted_done,
		.deadline_us = run.host.now_us + 1000000,
		.dma = d,
	};
}

static void model_end_service(struct process *p)
{
	p->served = false;
	for (size_t i = 0; i < ACCESSES_MAX; i++) {
		if (p->asked[i].id && p->asked[i].dma)
			model_over(p->asked[i].dma,
				   IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_NOT_ATTACHED);
		p->asked[i] = (struct asked){0};
	}
}

static void model_detach(struct process *p)
{
	p->attached = false;
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		if (p->asked[i].id && p->asked[i].dma) {
			model_over(p->asked[i].dma,
				   IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_NOT_ATTACHED);
			p->asked[i].dma = NULL;
		}
}

static void model_expire(struct process *p)
{
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		if (p->asked[i].id && p->asked[i].dma &&
		    p->asked[i].deadline_us <= run.host.now_us) {
			model_over(p->asked[i].dma,
				   IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_MEMORY_ERROR);
			p->asked[i].dma = NULL;
		}
}

/* NULL: these bytes are no answer. */
static struct asked *model_parse(struct process *p, const uint8_t *bytes, size_t n)
{
	uint32_t done, cause;
	struct asked *a;
	uint64_t id;

	if (n < ANSWER_SIZE)
		return NULL;
	memcpy(&id, bytes, 8);
	memcpy(&done, bytes + 8, 4);
	memcpy(&cause, bytes + 12, 4);
	id = le64toh(id);
	done = le32toh(done);
	cause = le32toh(cause);
	a = id ? asked_find(p, id) : NULL;
	if (!a || done > a->length || (cause == 0) != (done == a->length))
		return NULL;
	if (cause != 0 && cause != 1 && cause != 2 && cause != 9)
		return NULL;
	return n - ANSWER_SIZE == (a->op == OP_READ ? done : 0) ? a : NULL;
}

static void model_answer(struct process *p, const uint8_t *bytes, size_t n)
{
	struct asked *a, was;
	uint32_t done, cause;

	if (!p->served)
		return;
	a = model_parse(p, bytes, n);
	if (!a) {
		model_end_service(p);
		return;
	}
	memcpy(&done, bytes + 8, 4);
	memcpy(&cause, bytes + 12, 4);
	was = *a;
	*a = (struct asked){0};
	if (!was.dma)
		return;
	if (was.op == OP_READ)
		memcpy(was.dma->wanted + was.dma->wanted_done, bytes + ANSWER_SIZE, le32toh(done));
	was.dma->wanted_done += le32toh(done);
	if (cause || was.dma->wanted_done == was.dma->length)
		model_over(was.dma, le32toh(cause));
	else
		model_ask(p, was.dma);
}

/* ---- the broker's calls ---- */

static void dma_finish(void *userdata, const struct broker_answer *answer)
{
	const Ioasid__V1__DeviceDmaResponse *r = (const void *)answer->response;
	struct dma *d = userdata;

	REQUIRE(!d->answered);
	d->answered = true;
	d->call = NULL;
	d->code = answer->code;
	if (answer->code)
		return;
	d->done = r->done;
	d->cause = r->fault ? r->fault->cause : 0;
	REQUIRE(r->data.len <= sizeof(d->data));
	REQUIRE(r->data.len == (d->op == OP_READ ? r->done : 0));
	if (r->data.len)
		memcpy(d->data, r->data.data, r->data.len);
}

static void no_send(void *userdata, const ProtobufCMessage *message)
{
	abort();
}

static const struct broker_call_ops dma_ops = {.finish = dma_finish, .send = no_send};

static int call(struct process *p, const char *method, const ProtobufCMessage *request)
{
	uint8_t bytes[1024];
	size_t n = protobuf_c_message_pack(request, bytes);

	return host_call(&run.host, run.broker, p->session, method, bytes, n);
}

static void begin(struct process *p, uint32_t op, uint32_t length)
{
	const struct broker_method *method = broker_method_find(
		"/ioasid.v1.Broker/DeviceDma", strlen("/ioasid.v1.Broker/DeviceDma"));
	Ioasid__V1__DeviceDmaRequest q = IOASID__V1__DEVICE_DMA_REQUEST__INIT;
	static uint8_t packed[LENGTH_MAX + 256], bytes[LENGTH_MAX];
	struct dma *d;

	/* What was sent before is looked at before. */
	pump();
	if (p->n_dmas == CALLS_MAX)
		return;
	d = &p->dmas[p->n_dmas++];
	memset(d, 0, offsetof(struct dma, data));
	d->op = op;
	d->length = length % LENGTH_MAX ?: 1;
	q.device = (char *)p->device;
	q.iova = ADDRESS;
	q.access =
		op == OP_READ ? IOASID__V1__ACCESS__ACCESS_READ : IOASID__V1__ACCESS__ACCESS_WRITE;
	if (op == OP_READ)
		q.length = d->length;
	else
		q.data = (ProtobufCBinaryData){.len = d->length, .data = bytes};
	model_ask(p, d);
	broker_call_start(p->session, method, packed, protobuf_c_message_pack(&q.base, packed),
			  &dma_ops, d, &d->call);
	/* It may be over already. */
	if (d->answered)
		d->call = NULL;
}

static void cancel(struct process *p, size_t n)
{
	struct dma *d = p->n_dmas ? &p->dmas[n % p->n_dmas] : NULL;

	pump();
	if (!d || !d->call || d->answered)
		return;
	broker_call_cancel(d->call);
	pump();
	REQUIRE(d->answered && d->code == CANCELLED);
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		if (p->asked[i].dma == d)
			p->asked[i].dma = NULL;
	d->over = true;
}

static void service_open(struct process *p)
{
	Ioasid__V1__OpenDmaServiceRequest q = IOASID__V1__OPEN_DMA_SERVICE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AttachRequest attach = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__OpenDmaServiceResponse *given;
	Ioasid__V1__AllocResponse *space;

	REQUIRE(call(p, "/ioasid.v1.Broker/OpenDmaService", &q.base) == 0);
	given = ioasid__v1__open_dma_service_response__unpack(NULL, run.host.n_response,
							      run.host.response);
	REQUIRE(given && given->ticket.len == 16);
	REQUIRE(broker_ticket_take(run.broker, &run.processes[p == &run.processes[MINE]].peer,
				   given->ticket.data, &p->fd) == BROKER_TICKET_REFUSED);
	REQUIRE(broker_ticket_take(run.broker, &p->peer, given->ticket.data, &p->fd) == 0);
	ioasid__v1__open_dma_service_response__free_unpacked(given, NULL);
	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_PROCESS;
	REQUIRE(call(p, "/ioasid.v1.Broker/Alloc", &alloc.base) == 0);
	space = ioasid__v1__alloc_response__unpack(NULL, run.host.n_response, run.host.response);
	REQUIRE(space);
	attach.device = (char *)p->device;
	attach.ioasid = p->space = space->ioasid;
	ioasid__v1__alloc_response__free_unpacked(space, NULL);
	REQUIRE(call(p, "/ioasid.v1.Broker/Attach", &attach.base) == 0);
	p->last_id = 0;
	p->attached = p->served = true;
}

static void detach(struct process *p)
{
	Ioasid__V1__DetachRequest q = IOASID__V1__DETACH_REQUEST__INIT;
	bool was = p->attached;

	q.device = (char *)p->device;
	pump();
	model_detach(p);
	REQUIRE(call(p, "/ioasid.v1.Broker/Detach", &q.base) == (was ? 0 : 9));
}

/* Another service in the old one's place, with a space of its own. */
static void service_renew(struct process *p)
{
	Ioasid__V1__FreeRequest q = IOASID__V1__FREE_REQUEST__INIT;

	if (p->attached)
		detach(p);
	q.ioasid = p->space;
	REQUIRE(call(p, "/ioasid.v1.Broker/Free", &q.base) == 0);
	close(p->fd);
	pump();
	model_end_service(p);
	service_open(p);
}

/* ---- what has come of it ---- */

/* The messages that have arrived are those that the model has sent, in order. */
static void look_at_socket(struct process *p)
{
	uint8_t bytes[ACCESS_SIZE + CHUNK + 1];
	uint64_t id, address;
	uint32_t op, length;
	struct asked *a;
	ssize_t n;

	while ((n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		REQUIRE(n >= (ssize_t)ACCESS_SIZE);
		memcpy(&id, bytes, 8);
		memcpy(&op, bytes + 8, 4);
		memcpy(&length, bytes + 12, 4);
		memcpy(&address, bytes + 16, 8);
		if (le32toh(op) == OP_END) {
			REQUIRE(!id && !p->served);
			continue;
		}
		a = asked_find(p, le64toh(id));
		/* Answered, by a guess, before it was seen; or the service has ended since. */
		if (!a)
			continue;
		REQUIRE(!a->seen && a->op == le32toh(op) && a->length == le32toh(length) &&
			a->address == le64toh(address));
		REQUIRE((size_t)n == ACCESS_SIZE + (a->op == OP_WRITE ? a->length : 0));
		a->seen = true;
	}
	/* RESET: it ended with messages that it had not looked at. */
	REQUIRE(p->served ? n < 0 && errno == EAGAIN : !n || errno == ECONNRESET);
	for (size_t i = 0; i < ACCESSES_MAX; i++)
		REQUIRE(!p->asked[i].id || p->asked[i].seen);
}

static void look(struct process *p)
{
	for (size_t i = 0; i < p->n_dmas; i++) {
		const struct dma *d = &p->dmas[i];

		REQUIRE(d->answered == d->over);
		if (!d->answered || d->code == CANCELLED)
			continue;
		REQUIRE(!d->code && d->done == d->wanted_done && d->cause == d->wanted_cause);
		if (d->op == OP_READ)
			REQUIRE(!memcmp(d->data, d->wanted, d->done));
	}
	look_at_socket(p);
}

static void forget_answered(struct process *p)
{
	for (size_t i = 0; i < p->n_dmas; i++)
		if (!p->dmas[i].answered)
			return;
	p->n_dmas = 0;
}

/* ---- steps ---- */

/* Answers the oldest of what has reached the process, in full. */
static void answer_well(struct process *p, uint8_t filler)
{
	static uint8_t bytes[ANSWER_SIZE + CHUNK];
	struct asked *oldest = NULL;
	uint64_t id;
	uint32_t done;
	size_t n;

	for (size_t i = 0; i < ACCESSES_MAX; i++)
		if (p->asked[i].id && p->asked[i].seen && (!oldest || p->asked[i].id < oldest->id))
			oldest = &p->asked[i];
	if (!oldest || !p->served)
		return;
	memset(bytes, filler, sizeof(bytes));
	id = htole64(oldest->id);
	done = htole32(oldest->length);
	memcpy(bytes, &id, 8);
	memcpy(bytes + 8, &done, 4);
	memset(bytes + 12, 0, 4);
	n = ANSWER_SIZE + (oldest->op == OP_READ ? oldest->length : 0);
	REQUIRE(send(p->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n);
	model_answer(p, bytes, n);
}

/* Bit 7: the broker looks later, at this and the next ones together.  Bytes that are used. */
static size_t step(uint8_t what, uint16_t n, const uint8_t *rest, size_t size)
{
	struct process *mine = &run.processes[MINE], *other = &run.processes[OTHER];
	size_t used = 0;

	switch (what & 0x0f) {
	case 0:
	case 1:
		begin(mine, what & 1 ? OP_WRITE : OP_READ, n);
		break;
	case 2:
	case 3:
		begin(other, what & 1 ? OP_WRITE : OP_READ, n);
		break;
	case 4:
	case 5:
	case 6: /* any bytes */
		used = n < size ? n : size;
		if (send(mine->fd, rest, used, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)used &&
		    used)
			model_answer(mine, rest, used);
		/* An empty message cannot be told from the end of the socket. */
		else if (!used)
			model_end_service(mine);
		break;
	case 7:
		answer_well(mine, (uint8_t)n);
		break;
	case 8:
	case 9:
		answer_well(other, (uint8_t)n);
		break;
	case 10:
		pump();
		run.host.now_us += n * 50ull;
		model_expire(mine);
		model_expire(other);
		break;
	case 11:
		cancel(mine, n);
		break;
	case 12:
		detach(mine);
		break;
	case 13:
		pump();
		shutdown(mine->fd, SHUT_RDWR);
		model_end_service(mine);
		break;
	case 14:
		service_renew(mine);
		break;
	default:
		pump();
		forget_answered(mine);
		forget_answered(other);
		break;
	}
	if (what & 0x80 && (what & 0x0f) < 10)
		return used;
	pump();
	look(mine);
	look(other);
	return used;
}

/* ---- an input ---- */

static void process_start(struct process *p, const char *device, uid_t uid, pid_t pid)
{
	Ioasid__V1__ClaimDeviceRequest claim = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	char *devices[] = {(char *)device};
	bool refused;

	memset(p, 0, offsetof(struct process, dmas));
	p->device = device;
	p->peer = (struct broker_peer){.socket = "tenants", .uid = uid, .gid = uid, .pid = pid};
	REQUIRE(!broker_session_open(run.broker, &p->peer, NULL, &refused, &p->session) &&
		!refused);
	claim.devices = devices;
	claim.n_devices = 1;
	REQUIRE(call(p, "/ioasid.v1.Broker/ClaimDevice", &claim.base) == 0);
}

static void start(void)
{
	struct broker_config config = {.host_ops = &run.ops, .host = &run.host};
	struct policy_problem problem;
	struct soft_problem trouble;

	memset(&run.watches, 0, sizeof(run.watches));
	host_init(&run.host);
	run.ops = host_ops;
	run.ops.watch = watch;
	run.ops.unwatch = unwatch;
	REQUIRE(!soft_shim_new(NULL, NULL, &run.shim, &trouble));
	config.shim = run.shim;
	REQUIRE(!policy_parse("fuzz", policy_text, strlen(policy_text), broker_policy_vocabulary(),
			      &config.policy, &problem));
	REQUIRE(!broker_new(&config, &run.broker));
	process_start(&run.processes[MINE], "0000:01:00.0", 1000, getpid());
	process_start(&run.processes[OTHER], "0000:03:00.0", 1001, 1);
	service_open(&run.processes[MINE]);
	service_open(&run.processes[OTHER]);
}

static void stop(void)
{
	for (size_t i = 0; i < PROCESSES; i++) {
		struct process *p = &run.processes[i];

		broker_session_close(p->session);
		pump();
		for (size_t k = 0; k < p->n_dmas; k++)
			REQUIRE(p->dmas[k].answered);
		close(p->fd);
	}
	broker_shutdown(run.broker);
	pump();
	REQUIRE(broker_drained(run.broker));
	/* Asserts that every counter is zero. */
	broker_free(run.broker);
	shim_free(run.shim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t fds = count_fds();

	start();
	while (size >= 3) {
		uint8_t what = data[0];
		uint16_t n = (uint16_t)(data[1] | data[2] << 8);
		size_t used;

		data += 3;
		size -= 3;
		used = step(what, n, data, size);
		data += used;
		size -= used;
	}
	/* Whatever was left for later. */
	pump();
	look(&run.processes[MINE]);
	look(&run.processes[OTHER]);
	stop();
	REQUIRE(count_fds() == fds);
	return 0;
}
