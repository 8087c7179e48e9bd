/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DMA service of kind PROCESS (docs/process.md): a thread that does for a device what the
 * device would do with the process's own page tables.
 *
 * It touches memory with process_vm_readv() and process_vm_writev() on its own process: a page
 * that is not there, or may not be written, is an error there and no signal here, whatever
 * other threads map and unmap meanwhile; no tracing is involved, and no other process could be
 * meant.  A page whose fault nobody resolves (userfaultfd) stops this thread and nothing else:
 * the broker has its own time.
 *
 * The socket is closed by exec, so that what is executed, setuid or not, is not reached.  A
 * forked child has neither this thread nor the right to end its parent's service: that is what
 * `pid` is for.
 *
 * When the broker ends, the thread opens the service again with the next one, which knows the
 * process's IOASIDs still.  When the broker ends the service, it says so (ACCESS_END), and the
 * thread ends with it.
 */
#include "call.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* How long stopping waits for an access that is under way. */
#define STOP_WAIT_MS 1000
/* The most that a broker may ask for at once; this release's asks for a quarter. */
#define LENGTH_MAX (64u << 10)

enum { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_END = 3 };

struct wire_access {
	uint64_t id;
	uint32_t op;
	uint32_t length;
	uint64_t address;
};
static_assert(sizeof(struct wire_access) == 24, "docs/process.md");

struct wire_answer {
	uint64_t id;
	uint32_t done;
	uint32_t cause;
};
static_assert(sizeof(struct wire_answer) == 16, "docs/process.md");

struct ioasid_service {
	struct ioasid_client *client;
	struct ioasid_cancel *cancel;
	char *lease, *tenant; /* NULL: the client's default */
	pid_t pid;
	int fd;
	pthread_t thread;
	pthread_mutex_t lock; /* fd, while the thread replaces it */
	atomic_bool stopping, running;
	atomic_uint refs; /* the caller's, and the thread's */
	uint8_t message[sizeof(struct wire_access) + LENGTH_MAX];
	uint8_t answer[sizeof(struct wire_answer) + LENGTH_MAX];
};

static void service_unref(struct ioasid_service *service)
{
	if (atomic_fetch_sub(&service->refs, 1) > 1)
		return;
	if (service->fd >= 0)
		close(service->fd);
	ioasid_cancel_unref(service->cancel);
	pthread_mutex_destroy(&service->lock);
	free(service->lease);
	free(service->tenant);
	free(service);
}

/* ---- memory ---- */

/* Bytes that could be moved; 0 with *ret_error: the first page cannot be touched so. */
static size_t move_some(const struct ioasid_service *service, uint32_t op, uint64_t address,
			uint8_t *buffer, size_t length, int *ret_error)
{
	struct iovec here = {buffer, length};
	struct iovec there = {(void *)(uintptr_t)address, length};
	ssize_t n;

	if (op == ACCESS_WRITE)
		n = process_vm_writev(service->pid, &here, 1, &there, 1, 0);
	else
		n = process_vm_readv(service->pid, &here, 1, &there, 1, 0);
	*ret_error = n < 0 ? errno : 0;
	return n < 0 ? 0 : (size_t)n;
}

static uint32_t cause_of(const struct ioasid_service *service, uint32_t op, uint64_t address,
			 int error)
{
	uint8_t byte;

	if (error != EFAULT)
		return IOASID_FAULT_MEMORY_ERROR;
	/* Is it there, and only not to be written? */
	if (op == ACCESS_WRITE && move_some(service, ACCESS_READ, address, &byte, 1, &error))
		return IOASID_FAULT_PERMISSION;
	return IOASID_FAULT_NOT_PRESENT;
}

static uint32_t move(const struct ioasid_service *service, uint32_t op, uint64_t address,
		     uint8_t *buffer, size_t length, size_t *ret_done)
{
	size_t done = 0;
	int error = 0;

	while (done < length) {
		size_t n = move_some(service, op, address + done, buffer + done, length - done,
				     &error);

		if (!n)
			break;
		done += n;
	}
	*ret_done = done;
	return done == length ? 0 : cause_of(service, op, address + done, error ?: EFAULT);
}

/* ---- the thread ---- */

/* False: the service is over, or that is none of a broker's messages. */
static bool serve_one(struct ioasid_service *service, size_t n)
{
	struct wire_access access;
	struct wire_answer answer;
	size_t done = 0, length;
	uint32_t op;

	if (n < sizeof(access))
		return false;
	memcpy(&access, service->message, sizeof(access));
	op = le32toh(access.op);
	length = le32toh(access.length);
	if ((op != ACCESS_READ && op != ACCESS_WRITE) || !length || length > LENGTH_MAX ||
	    n - sizeof(access) != (op == ACCESS_WRITE ? length : 0))
		return false;
	answer.cause = htole32(move(service, op, le64toh(access.address),
				    op == ACCESS_WRITE ? service->message + sizeof(access)
						       : service->answer + sizeof(answer),
				    length, &done));
	answer.id = access.id;
	answer.done = htole32((uint32_t)done);
	memcpy(service->answer, &answer, sizeof(answer));
	/* A broker that has gone is heard of with the next message. */
	(void)send(service->fd, service->answer, sizeof(answer) + (op == ACCESS_READ ? done : 0),
		   MSG_NOSIGNAL);
	return true;
}

/* Until the socket ends; true: without a word, as when the broker does. */
static bool serve(struct ioasid_service *service)
{
	for (;;) {
		ssize_t n = recv(service->fd, service->message, sizeof(service->message), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return true;
		if (!serve_one(service, (size_t)n))
			return false;
	}
}

static bool open_again(struct ioasid_service *service)
{
	struct ioasid_scope scope = {
		.lease = service->lease,
		.tenant = service->tenant,
		.cancel = service->cancel,
	};
	int fd;

	if (ioasid_dma_service_open(service->client, &scope, &fd, NULL))
		return false;
	pthread_mutex_lock(&service->lock);
	close(service->fd);
	service->fd = fd;
	/* It was told to stop before there was a new socket to shut down. */
	if (service->stopping)
		shutdown(fd, SHUT_RDWR);
	pthread_mutex_unlock(&service->lock);
	return true;
}

static void *run(void *data)
{
	struct ioasid_service *service = data;

	do {
		if (!serve(service))
			break;
	} while (!service->stopping && open_again(service));
	service->running = false;
	/* A device finds nobody rather than somebody who does not answer. */
	shutdown(service->fd, SHUT_RDWR);
	service_unref(service);
	return NULL;
}

/* ---- start, stop ---- */

static bool copy_text(const char *from, char **ret_to)
{
	if (!from)
		return true;
	*ret_to = strdup(from);
	return *ret_to != NULL;
}

static int start_thread(struct ioasid_service *service)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	service->refs = 2;
	service->running = true;
	r = pthread_create(&service->thread, NULL, run, service);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		service->refs = 1;
	else
		pthread_setname_np(service->thread, "ioasid-service");
	return -r;
}

static struct ioasid_service *service_new(struct ioasid_client *client,
					  const struct ioasid_scope *scope)
{
	struct ioasid_service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->client = client;
	service->pid = getpid();
	service->fd = -1;
	service->refs = 1;
	pthread_mutex_init(&service->lock, NULL);
	service->cancel = ioasid_cancel_new();
	if (!service->cancel || (scope && !copy_text(scope->lease, &service->lease)) ||
	    (scope && !copy_text(scope->tenant, &service->tenant))) {
		service_unref(service);
		return NULL;
	}
	return service;
}

int ioasid_service_start(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_service **ret_service, struct ioasid_error **ret_error)
{
	struct ioasid_service *service = service_new(client, scope);
	int r;

	if (!service)
		return error_no_memory(ret_error);
	r = ioasid_dma_service_open(client, scope, &service->fd, ret_error);
	if (!r && start_thread(service))
		r = error_no_memory(ret_error);
	if (r) {
		service_unref(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

bool ioasid_service_is_running(const struct ioasid_service *service)
{
	return service->running;
}

static void join(struct ioasid_service *service)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_WAIT_MS % 1000 * 1000000l;
	until.tv_sec += STOP_WAIT_MS / 1000;
	/* One that waits for a page cannot be waited for: it frees what it has when it is over. */
	if (pthread_timedjoin_np(service->thread, NULL, &until))
		pthread_detach(service->thread);
}

struct ioasid_service *ioasid_service_stop(struct ioasid_service *service)
{
	if (!service)
		return NULL;
	/* A child has no such thread, and must leave its parent's socket as it is. */
	if (service->pid != getpid()) {
		close(service->fd);
		service->fd = -1;
		return NULL;
	}
	service->stopping = true;
	ioasid_cancel_fire(service->cancel);
	pthread_mutex_lock(&service->lock);
	shutdown(service->fd, SHUT_RDWR);
	pthread_mutex_unlock(&service->lock);
	join(service);
	service_unref(service);
	return NULL;
}
