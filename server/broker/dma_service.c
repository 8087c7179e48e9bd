/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA services: kind PROCESS.  A device's access is carried to the process by a message, and
 * the process touches its own memory with its own page tables (docs/process.md).
 *
 * Owns the broker's end of each service's socket, and the accesses under way.  The broker never
 * touches a process's memory, so there is nothing that it could do there by mistake: whoever
 * holds the other end answers for itself.  It was taken by the process that asked for it (the
 * kernel's word: SO_PEERCRED), and libioasid's is closed by exec, so that a program with other
 * rights, setuid or not, never gets an access meant for the one before.  A tenant that hands
 * its end on gives away what it could read out and send by any other way.
 *
 * What comes back is a tenant's bytes: parse_answer() takes exactly what docs/process.md
 * describes, for an access that is under way; all else ends the service.
 *
 * Lives.  A service ends when its socket hangs up, its process ends (a pidfd tells, as a forked
 * child may still have the socket), its answers are wrong, or its lease ends.  Then everything
 * under way is blocked at once and the process's IOASIDs reach nothing for good.  After a
 * restart of the broker they wait: the same process, told by pid and start time, may open its
 * service again.
 *
 * Nobody waits without bound: a piece is answered within DMA_SERVICE_TIMEOUT_US or blocked,
 * its call is parked meanwhile, and a process that does not answer at all has
 * DMA_SERVICE_ACCESSES_MAX of them and gets no more.  An access of several pieces keeps its place
 * from the first to the last, so that it is never cut off by those that began after it.
 * State thread.
 */
#include "server/broker/dma_service.h"

#include "server/broker/attachment.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/negotiate.h"
#include "server/broker/process.h"
#include "server/broker/session.h"
#include "server/broker/ticket.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* docs/process.md */
struct wire_access {
	uint64_t id;
	uint32_t op; /* SHIM_READ 1, SHIM_WRITE 2, OP_END */
	uint32_t length;
	uint64_t address;
};
/* The service is over; a broker that ends or is killed says nothing, as it may be opened again. */
#define OP_END 3
_Static_assert(sizeof(struct wire_access) == 24, "docs/process.md");

struct wire_answer {
	uint64_t id;
	uint32_t done;
	uint32_t cause; /* of ioasid.v1.FaultCause; 0: all of it is done */
};
_Static_assert(sizeof(struct wire_answer) == 16, "docs/process.md");

/* Answers that one look at a socket takes. */
#define ANSWERS 32

/* One of a service's places.  Free: neither asked nor held. */
struct dma_access {
	struct dma_service *service;
	TAILQ_ENTRY(dma_access) by_deadline; /* broker->dma_accesses, while asked and held */
	uint64_t id;			     /* 0: the process has been asked for nothing */
	struct broker_call *call;	     /* NULL: nobody holds it, or waits for it any more */
	struct dma_access **holder;	     /* the call's pointer to this */
	dma_service_done_fn done;
	uint64_t deadline_us;
	struct device *device;
	uint32_t pasid;
	uint32_t access;
	uint32_t length;
	uint8_t *buffer;
};

struct dma_service {
	LIST_ENTRY(dma_service) link; /* lease->services */
	struct lease *lease;
	struct process_id process;
	bool taken;
	struct broker_watch watch; /* our end of the socket */
	struct broker_watch pid_watch;
	uint64_t last_id;
	struct ioasid_list ioasids;
	struct dma_access accesses[DMA_SERVICE_ACCESSES_MAX];
	struct charge charge;
	bool *gone; /* whoever is at it wants to know that it ended; NULL: nobody */
};

/* ---- IOASIDs ---- */

static struct dma_service *service_of(struct lease *lease, const struct process_id *process)
{
	struct dma_service *s;

	LIST_FOREACH(s, &lease->services, link)
	{
		if (process_is_same(&s->process, process))
			return s;
	}
	return NULL;
}

static struct process_id caller_of(const struct broker_call *call)
{
	const struct broker_session *session = call->session;

	return session->process.pid ? session->process : process_of_pid(session->peer.pid);
}

struct dma_service *dma_service_of_caller(struct broker_call *call)
{
	struct process_id process;
	struct dma_service *s;

	if (!call->lease || !call->session)
		return NULL;
	process = caller_of(call);
	s = service_of(call->lease, &process);
	return s && s->taken ? s : NULL;
}

void dma_service_add(struct dma_service *service, struct ioasid *ioasid)
{
	ioasid->service = service;
	ioasid->process = service->process;
	LIST_INSERT_HEAD(&service->ioasids, ioasid, of_service);
}

void dma_service_await(struct ioasid *ioasid, const struct process_id *process)
{
	if (!process->pid)
		return;
	ioasid->process = *process;
	LIST_INSERT_HEAD(&ioasid->object.lease->unserved, ioasid, of_service);
}

void dma_service_remove(struct ioasid *ioasid)
{
	if (!ioasid->process.pid)
		return;
	LIST_REMOVE(ioasid, of_service);
	ioasid->service = NULL;
	ioasid->process = (struct process_id){0};
}

static void adopt_awaiting(struct dma_service *s)
{
	struct ioasid *i, *next;

	for (i = LIST_FIRST(&s->lease->unserved); i; i = next) {
		next = LIST_NEXT(i, of_service);
		if (!process_is_same(&i->process, &s->process))
			continue;
		LIST_REMOVE(i, of_service);
		dma_service_add(s, i);
	}
}

/* ---- accesses ---- */

/* A call is parked until the process answers. */
static bool is_awaited(const struct dma_access *a)
{
	return a->id && a->call;
}

static void stop_awaiting(struct dma_access *a)
{
	if (is_awaited(a))
		TAILQ_REMOVE(&a->service->lease->broker->dma_accesses, a, by_deadline);
}

/* Nobody holds it; the process may still answer. */
static void let_go(struct dma_access *a)
{
	if (!a->call)
		return;
	stop_awaiting(a);
	*a->holder = NULL;
	a->call = NULL;
	a->buffer = NULL;
}

void dma_service_forget(struct dma_access *access)
{
	if (access)
		let_go(access);
}

/*
 * Blocked for good.  A call between two pieces is told when it asks for the next one.  The place
 * may be used again, and the service be gone, when this returns.
 */
static void block(struct dma_access *a, enum shim_fault_cause cause)
{
	struct broker_call *call = is_awaited(a) ? a->call : NULL;
	dma_service_done_fn done = a->done;

	let_go(a);
	if (call)
		done(call, 0, cause);
}

/* The call holds its place until it lets go; the service may be gone when this returns. */
static void answered(struct dma_access *a, size_t moved, enum shim_fault_cause cause)
{
	stop_awaiting(a);
	a->id = 0;
	if (a->call)
		a->done(a->call, moved, cause);
}

static struct dma_access *access_find(struct dma_service *s, uint64_t id)
{
	for (size_t i = 0; i < DMA_SERVICE_ACCESSES_MAX; i++)
		if (s->accesses[i].id == id)
			return &s->accesses[i];
	return NULL;
}

static struct dma_access *access_find_free(struct dma_service *s)
{
	for (size_t i = 0; i < DMA_SERVICE_ACCESSES_MAX; i++)
		if (!s->accesses[i].id && !s->accesses[i].call)
			return &s->accesses[i];
	return NULL;
}

static bool send_access(struct dma_service *s, const struct dma_access *a, uint64_t address)
{
	struct wire_access wire = {
		.id = htole64(a->id),
		.op = htole32(a->access),
		.length = htole32(a->length),
		.address = htole64(address),
	};
	struct iovec iov[] = {
		{&wire, sizeof(wire)},
		{a->buffer, a->access == SHIM_WRITE ? a->length : 0},
	};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;

	do
		n = sendmsg(s->watch.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n >= 0;
}

enum shim_fault_cause dma_service_ask(struct broker_call *call, const struct dma_request *request,
				      dma_service_done_fn done, struct dma_access **access)
{
	const struct attachment *where = request->attachment;
	struct dma_service *s = where->ioasid->service;
	struct broker *broker = call->broker;
	struct dma_access *a = *access;

	/* Attached elsewhere since the last piece. */
	if (a && a->service != s) {
		let_go(a);
		a = NULL;
	}
	if (!s)
		return SHIM_FAULT_NOT_ATTACHED;
	if (!a)
		a = access_find_free(s);
	if (!a)
		return SHIM_FAULT_MEMORY_ERROR;
	*a = (struct dma_access){
		.service = s,
		.id = s->last_id + 1,
		.call = call,
		.holder = access,
		.done = done,
		.deadline_us = broker_now(broker) + DMA_SERVICE_TIMEOUT_US,
		.device = where->device,
		.pasid = where->pasid,
		.access = request->access,
		.length = request->length < DMA_SERVICE_CHUNK ? request->length : DMA_SERVICE_CHUNK,
		.buffer = request->buffer,
	};
	if (!send_access(s, a, request->address)) {
		/* It takes nothing more; if it is gone, the watch tells. */
		a->id = 0;
		a->call = NULL;
		*access = NULL;
		return SHIM_FAULT_MEMORY_ERROR;
	}
	s->last_id++;
	/* All have the same time, so this one's is the last. */
	TAILQ_INSERT_TAIL(&broker->dma_accesses, a, by_deadline);
	broker_expect(broker, a->deadline_us);
	*access = a;
	return SHIM_FAULT_NONE;
}

void dma_services_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct dma_access *a;

	while ((a = TAILQ_FIRST(&broker->dma_accesses)) && a->deadline_us <= now_us)
		block(a, SHIM_FAULT_MEMORY_ERROR);
	if (a && a->deadline_us < *next_us)
		*next_us = a->deadline_us;
}

void dma_services_drop_attachment(const struct attachment *attachment)
{
	struct dma_service *s = attachment->ioasid->service;

	for (size_t i = 0; s && i < DMA_SERVICE_ACCESSES_MAX; i++) {
		struct dma_access *a = &s->accesses[i];

		if (a->call && a->device == attachment->device && a->pasid == attachment->pasid)
			block(a, SHIM_FAULT_NOT_ATTACHED);
	}
}

/* ---- end ---- */

static void unwatch(struct dma_service *s, struct broker_watch *watch)
{
	if (watch->fd < 0)
		return;
	s->lease->broker->host_ops->unwatch(s->lease->broker->host, watch);
	close(watch->fd);
	watch->fd = -1;
}

static void say_end(const struct dma_service *s)
{
	struct wire_access wire = {.op = htole32(OP_END)};

	/* If there is no room for it, it may come back, and is refused then. */
	if (s->watch.fd >= 0 && !s->lease->leaving)
		(void)send(s->watch.fd, &wire, sizeof(wire), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void service_free(struct dma_service *s)
{
	if (s->gone)
		*s->gone = true;
	charge_release(&s->charge);
	free(s);
}

static void service_end(struct dma_service *s)
{
	struct lease *lease = s->lease;
	struct ioasid *i;

	LIST_REMOVE(s, link);
	say_end(s);
	unwatch(s, &s->watch);
	unwatch(s, &s->pid_watch);
	tickets_drop_service(lease, s);
	while ((i = LIST_FIRST(&s->ioasids))) {
		dma_service_remove(i);
		/* For good: a later program of this process is another. */
		if (lease->state == LEASE_OPEN)
			journal_ioasid(lease, i);
	}
	for (size_t k = 0; k < DMA_SERVICE_ACCESSES_MAX; k++)
		block(&s->accesses[k], SHIM_FAULT_NOT_ATTACHED);
	service_free(s);
}

void dma_services_end(struct lease *lease)
{
	while (!LIST_EMPTY(&lease->services))
		service_end(LIST_FIRST(&lease->services));
}

/* ---- answers ---- */

/* NULL: it is not one, or not to anything that was asked. */
static struct dma_access *parse_answer(struct dma_service *s, const uint8_t *bytes, size_t n,
				       size_t *ret_done, enum shim_fault_cause *ret_cause)
{
	struct wire_answer wire;
	struct dma_access *a;
	uint32_t done, cause;
	uint64_t id;

	if (n < sizeof(wire))
		return NULL;
	memcpy(&wire, bytes, sizeof(wire));
	id = le64toh(wire.id);
	done = le32toh(wire.done);
	cause = le32toh(wire.cause);
	a = id ? access_find(s, id) : NULL;
	if (!a || done > a->length || (done == a->length) != !cause)
		return NULL;
	if (cause && cause != SHIM_FAULT_NOT_PRESENT && cause != SHIM_FAULT_PERMISSION &&
	    cause != SHIM_FAULT_MEMORY_ERROR)
		return NULL;
	if (n - sizeof(wire) != (a->access == SHIM_READ ? done : 0))
		return NULL;
	*ret_done = done;
	*ret_cause = (enum shim_fault_cause)cause;
	return a;
}

/* False: it ends. */
static bool take_answer(struct dma_service *s, const uint8_t *bytes, size_t n)
{
	enum shim_fault_cause cause = SHIM_FAULT_NONE;
	struct dma_access *a;
	size_t done = 0;

	a = parse_answer(s, bytes, n, &done, &cause);
	if (!a)
		return false;
	if (a->call && a->access == SHIM_READ)
		memcpy(a->buffer, bytes + sizeof(struct wire_answer), done);
	answered(a, done, cause);
	return true;
}

static void answers_came(struct broker_watch *watch)
{
	struct dma_service *s = CONTAINER_OF(watch, struct dma_service, watch);
	struct broker *broker = s->lease->broker;
	/* One byte more than the longest, to know a longer one. */
	uint8_t bytes[sizeof(struct wire_answer) + DMA_SERVICE_CHUNK + 1];
	bool gone = false;

	for (unsigned int k = 0; k < ANSWERS; k++) {
		/* Without room for control data the kernel closes whatever fds are sent. */
		ssize_t n = recv(watch->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		/* What an answer leads to may end the service. */
		s->gone = &gone;
		if (n <= 0 || !take_answer(s, bytes, (size_t)n)) {
			service_end(s);
			return;
		}
		if (gone)
			return;
		s->gone = NULL;
	}
	if (broker->host_ops->watch(broker->host, watch))
		service_end(s);
}

static void process_ended(struct broker_watch *watch)
{
	struct dma_service *s = CONTAINER_OF(watch, struct dma_service, pid_watch);

	close(watch->fd);
	watch->fd = -1;
	service_end(s);
}

/* ---- OpenDmaService ---- */

void dma_service_taken(struct dma_service *service)
{
	service->taken = true;
	adopt_awaiting(service);
}

static int charge_service(struct broker_call *call, struct dma_service *s)
{
	struct quota_amount amounts[] = {
		{QUOTA_BROKER_BYTES, sizeof(*s)},
		{QUOTA_KEPT_FDS, 2},
	};
	struct quota_refusal refusal;
	int r = charge_take(&s->charge, call->tenant, amounts, 2, &refusal);

	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

/* The process, and the socket whose other end is *ret_fd. */
static int service_connect(struct broker_call *call, struct dma_service *s, int *ret_fd)
{
	struct broker *broker = call->broker;
	int fds[2], r;

	r = process_open(&s->process, &s->pid_watch.fd);
	if (r == -ESRCH)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, "process",
					   "the calling process cannot be told from others, or has "
					   "ended");
	if (r || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return refuse_no_memory(call);
	s->watch.fd = fds[0];
	*ret_fd = fds[1];
	s->watch.ready = answers_came;
	s->pid_watch.ready = process_ended;
	if (broker->host_ops->watch(broker->host, &s->pid_watch)) {
		close(s->pid_watch.fd);
		s->pid_watch.fd = -1;
		return refuse_no_memory(call);
	}
	if (broker->host_ops->watch(broker->host, &s->watch)) {
		close(s->watch.fd);
		s->watch.fd = -1;
		return refuse_no_memory(call);
	}
	return OUTCOME_OK;
}

static int service_ticket(struct broker_call *call, struct dma_service *s, int fd,
			  Ioasid__V1__OpenDmaServiceResponse *p)
{
	struct ticket *ticket;
	int r = ticket_with_fd(call, TICKET_DMA, fd, &ticket);

	if (r)
		return r;
	ticket->service = s;
	memcpy(p->ticket.data, ticket->bytes, TICKET_SIZE);
	p->ticket.len = TICKET_SIZE;
	return OUTCOME_OK;
}

int rpc_open_dma_service(struct broker_call *call)
{
	Ioasid__V1__OpenDmaServiceResponse *p = call_response(call);
	struct dma_service *s, *before;
	struct process_id process;
	int r, fd = -1;

	if (p)
		p->ticket.data = scratch_alloc(&call->scratch, TICKET_SIZE);
	if (!p || !p->ticket.data)
		return refuse_no_memory(call);
	r = negotiate_kind(call, SHIM_KIND_PROCESS);
	if (r)
		return r;
	process = caller_of(call);
	before = service_of(call->lease, &process);
	if (before && before->taken)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, "service",
					   "this process has a DMA service in this lease already");
	s = calloc(1, sizeof(*s));
	if (!s)
		return refuse_no_memory(call);
	s->lease = call->lease;
	s->process = process;
	s->watch.fd = s->pid_watch.fd = -1;
	LIST_INIT(&s->ioasids);
	for (size_t i = 0; i < DMA_SERVICE_ACCESSES_MAX; i++)
		s->accesses[i].service = s;
	LIST_INSERT_HEAD(&call->lease->services, s, link);
	r = charge_service(call, s);
	if (!r)
		r = service_connect(call, s, &fd);
	if (!r)
		r = service_ticket(call, s, fd, p);
	if (r) {
		if (fd >= 0)
			close(fd);
		service_end(s);
		return r;
	}
	/* What was opened and never taken makes way. */
	if (before)
		service_end(before);
	return OUTCOME_OK;
}

void dma_services_each_charge(const struct lease *lease, dma_service_charge_fn each, void *data)
{
	const struct dma_service *s;

	LIST_FOREACH(s, &lease->services, link)
	{
		each(data, &s->charge);
	}
}
