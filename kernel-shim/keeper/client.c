/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See client.h.
 *
 * The pool: idle connections lie in a stack; a call takes the top one or makes one more, and
 * waits where CONNECTIONS_MAX are in use.  A connection on which anything went wrong is
 * closed, never reused.
 *
 * The keeper may be restarted at any time, and no caller notices where that can be: a call is
 * tried once more, on a new connection, where its request was certainly not delivered (the
 * connection lay idle meanwhile), and where doing it twice is doing it once.  Where systemd has
 * the keeper's socket, the new connection waits for the new keeper.
 */
#include "client.h"

#include "protocol.h"
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* With a watch half of what the keeper takes, so that a successor of this process finds room. */
#define CONNECTIONS_MAX 31

struct keeper {
	struct sockaddr_un address;
	pthread_mutex_t lock;
	pthread_cond_t returned;
	unsigned n_used;
	unsigned n_idle;
	int idle[CONNECTIONS_MAX];
};

static int connection_new(struct keeper *keeper)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&keeper->address, sizeof(keeper->address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* fresh: none that lay idle; the others are as stale as the one that failed. */
static int connection_take(struct keeper *keeper, bool fresh)
{
	int fd = -1;

	pthread_mutex_lock(&keeper->lock);
	while (keeper->n_used == CONNECTIONS_MAX)
		pthread_cond_wait(&keeper->returned, &keeper->lock);
	while (keeper->n_idle && fd < 0) {
		fd = keeper->idle[--keeper->n_idle];
		if (fresh)
			close_fd(&fd);
	}
	keeper->n_used++;
	pthread_mutex_unlock(&keeper->lock);
	return fd;
}

/* fd -1: it was closed. */
static void connection_put(struct keeper *keeper, int fd)
{
	pthread_mutex_lock(&keeper->lock);
	keeper->n_used--;
	/* Used and idle ones together can be more than there is room for. */
	if (fd >= 0 && keeper->n_idle < CONNECTIONS_MAX - keeper->n_used) {
		keeper->idle[keeper->n_idle++] = fd;
		fd = -1;
	}
	pthread_cond_signal(&keeper->returned);
	pthread_mutex_unlock(&keeper->lock);
	close_fd(&fd);
}

static int receive_reply(int sock, const struct keeper_request *request,
			 struct keeper_reply *ret_reply, int *ret_fds)
{
	uint8_t bytes[KEEPER_REPLY_SIZE];
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	ssize_t n = wire_receive(sock, bytes, sizeof(bytes), fds, &n_fds);
	int r;

	if (n == 0 || n == -ECONNRESET)
		return -EPIPE;
	if (n < 0)
		return n;
	r = keeper_reply_parse(bytes, n, n_fds, request, ret_reply);
	if (r < 0)
		wire_close(fds, n_fds);
	else if (n_fds)
		memcpy(ret_fds, fds, n_fds * sizeof(int));
	return r;
}

/* What the keeper may have done before it ended without an answer, and may do again. */
static bool is_repeatable(enum keeper_op op)
{
	switch (op) {
	case KEEPER_OP_HELLO:
	case KEEPER_OP_CONTEXT_NEXT:
	case KEEPER_OP_CONTEXT_TAKE:
	case KEEPER_OP_DEVICE_TAKE:
	case KEEPER_OP_CLAIM_NEXT:
	case KEEPER_OP_IS_FREE:
	case KEEPER_OP_EXAMINE:
	case KEEPER_OP_FD_HOLD:
	case KEEPER_OP_FD_TAKE:
	case KEEPER_OP_FD_NEXT:
	case KEEPER_OP_CONTEXT_DELEGATE:
	case KEEPER_OP_HOLDER_END:
		return true;
	case KEEPER_OP_CONTEXT_OPEN:
	case KEEPER_OP_CONTEXT_CLOSE:
	case KEEPER_OP_CLAIM:
	case KEEPER_OP_RELEASE:
	case KEEPER_OP_FD_DROP:
	case _KEEPER_OP_MAX:
		break;
	}
	return false;
}

/* On one connection.  *ret_delivered is always set: the keeper may have got it. */
static int try_call(struct keeper *keeper, bool fresh, const struct keeper_request *request, int fd,
		    struct keeper_reply *ret_reply, int *ret_fds, bool *ret_delivered)
{
	uint8_t bytes[KEEPER_REQUEST_SIZE];
	int sock = connection_take(keeper, fresh), r;

	*ret_delivered = false;
	keeper_request_build(request, bytes);
	if (sock < 0)
		sock = connection_new(keeper);
	if (sock < 0) {
		connection_put(keeper, -1);
		return sock;
	}
	r = wire_send(sock, bytes, sizeof(bytes), &fd, fd >= 0);
	if (r == -ECONNRESET)
		r = -EPIPE;
	*ret_delivered = r != -EPIPE;
	if (!r)
		r = receive_reply(sock, request, ret_reply, ret_fds);
	if (r < 0)
		close_fd(&sock);
	connection_put(keeper, sock);
	return r;
}

/* One request, one reply.  The status of the reply is returned; ret_reply may be NULL. */
static int call(struct keeper *keeper, const struct keeper_request *request, int fd,
		struct keeper_reply *ret_reply, int *ret_fds)
{
	uint8_t bytes[KEEPER_REQUEST_SIZE];
	struct keeper_request checked;
	struct keeper_reply reply;
	bool delivered;
	int r;

	keeper_request_build(request, bytes);
	if (keeper_request_parse(bytes, sizeof(bytes), fd >= 0, &checked) < 0)
		return -EINVAL; /* what the protocol cannot say */
	r = try_call(keeper, false, request, fd, &reply, ret_fds, &delivered);
	if (r == -EPIPE && (!delivered || is_repeatable(request->op)))
		r = try_call(keeper, true, request, fd, &reply, ret_fds, &delivered);
	if (r < 0)
		return r;
	if (ret_reply)
		*ret_reply = reply;
	return reply.status;
}

int keeper_connect(const char *path, struct keeper **ret_keeper)
{
	struct keeper_request request = {.op = KEEPER_OP_HELLO};
	struct keeper *keeper;
	int r;

	if (strlen(path) >= sizeof(keeper->address.sun_path))
		return -ENAMETOOLONG;
	keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return -ENOMEM;
	keeper->address.sun_family = AF_UNIX;
	snprintf(keeper->address.sun_path, sizeof(keeper->address.sun_path), "%s", path);
	pthread_mutex_init(&keeper->lock, NULL);
	pthread_cond_init(&keeper->returned, NULL);
	r = call(keeper, &request, -1, NULL, NULL);
	if (r) {
		keeper_free(keeper);
		return r < 0 ? r : -EPROTO;
	}
	*ret_keeper = keeper;
	return 0;
}

int keeper_watch(struct keeper *keeper, int *ret_fd)
{
	struct keeper_request request = {.op = KEEPER_OP_HELLO};
	__attribute__((cleanup(close_fd))) int sock = -1;
	uint8_t bytes[KEEPER_REQUEST_SIZE];
	struct keeper_reply reply;
	int r;

	keeper_request_build(&request, bytes);
	sock = connection_new(keeper);
	if (sock < 0)
		return sock;
	r = wire_send(sock, bytes, sizeof(bytes), NULL, 0);
	/* A connection that the keeper did not take is at its end. */
	if (!r)
		r = receive_reply(sock, &request, &reply, NULL);
	if (r < 0)
		return r == -ECONNRESET ? -EPIPE : r;
	if (reply.status)
		return -EPROTO;
	*ret_fd = sock;
	sock = -1;
	return 0;
}

void keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return;
	wire_close(keeper->idle, keeper->n_idle);
	pthread_cond_destroy(&keeper->returned);
	pthread_mutex_destroy(&keeper->lock);
	free(keeper);
}

/* Left zero, and so refused as malformed, where it does not fit. */
static void put(char *field, size_t size, const char *text)
{
	size_t length = strlen(text);

	if (length < size)
		memcpy(field, text, length);
}

static int put_addresses(struct keeper_request *request, const char *const *addresses, size_t n)
{
	if (n > KEEPER_DEVICES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		put(request->addresses[i], KEEPER_PCI_MAX, addresses[i]);
	request->n_addresses = n;
	return 0;
}

static void tell_reason(int status, const struct keeper_reply *reply, char *ret_reason)
{
	if (status > 0)
		memcpy(ret_reason, reply->reason, KEEPER_REASON_MAX);
}

int keeper_context_open(struct keeper *keeper, const char *owner, char *ret_reason,
			struct keeper_context_id *ret_context, int *ret_fd)
{
	struct keeper_request request = {.op = KEEPER_OP_CONTEXT_OPEN};
	struct keeper_reply reply;
	int r;

	put(request.owner, sizeof(request.owner), owner);
	r = call(keeper, &request, -1, &reply, ret_fd);
	tell_reason(r, &reply, ret_reason);
	if (!r)
		ret_context->value = reply.context;
	return r;
}

int keeper_context_close(struct keeper *keeper, struct keeper_context_id context)
{
	struct keeper_request request = {.op = KEEPER_OP_CONTEXT_CLOSE, .context = context.value};

	return call(keeper, &request, -1, NULL, NULL);
}

int keeper_context_next(struct keeper *keeper, struct keeper_context_id after,
			struct keeper_context_id *ret_context)
{
	struct keeper_request request = {.op = KEEPER_OP_CONTEXT_NEXT, .context = after.value};
	struct keeper_reply reply;
	int r = call(keeper, &request, -1, &reply, NULL);

	if (!r)
		ret_context->value = reply.context;
	return r;
}

int keeper_context_take(struct keeper *keeper, struct keeper_context_id context, int *ret_fd)
{
	struct keeper_request request = {.op = KEEPER_OP_CONTEXT_TAKE, .context = context.value};

	return call(keeper, &request, -1, NULL, ret_fd);
}

int keeper_context_delegate(struct keeper *keeper, struct keeper_context_id context, int pidfd,
			    uid_t opener, uint64_t bytes, char *ret_reason)
{
	struct keeper_request request = {
		.op = KEEPER_OP_CONTEXT_DELEGATE,
		.context = context.value,
		.bytes = bytes,
		.uid = opener,
	};
	struct keeper_reply reply;
	int r = call(keeper, &request, pidfd, &reply, NULL);

	tell_reason(r, &reply, ret_reason);
	return r;
}

int keeper_holder_end(struct keeper *keeper, const char *owner, int pidfd, char *ret_reason)
{
	struct keeper_request request = {.op = KEEPER_OP_HOLDER_END};
	struct keeper_reply reply;
	int r;

	put(request.owner, sizeof(request.owner), owner);
	r = call(keeper, &request, pidfd, &reply, NULL);
	tell_reason(r, &reply, ret_reason);
	return r;
}

int keeper_devices_claim(struct keeper *keeper, struct keeper_context_id context,
			 const char *const *addresses, size_t n, char *ret_reason, int *ret_fds)
{
	struct keeper_request request = {.op = KEEPER_OP_CLAIM, .context = context.value};
	struct keeper_reply reply;
	int r = put_addresses(&request, addresses, n);

	if (r < 0)
		return r;
	r = call(keeper, &request, -1, &reply, ret_fds);
	tell_reason(r, &reply, ret_reason);
	return r;
}

int keeper_devices_release(struct keeper *keeper, struct keeper_context_id context,
			   const char *const *addresses, size_t n)
{
	struct keeper_request request = {.op = KEEPER_OP_RELEASE, .context = context.value};
	int r = put_addresses(&request, addresses, n);

	return r < 0 ? r : call(keeper, &request, -1, NULL, NULL);
}

int keeper_devices_take(struct keeper *keeper, struct keeper_context_id context,
			const char *const *addresses, size_t n, int *ret_fds)
{
	struct keeper_request request = {.op = KEEPER_OP_DEVICE_TAKE, .context = context.value};
	int r = put_addresses(&request, addresses, n);

	return r < 0 ? r : call(keeper, &request, -1, NULL, ret_fds);
}

int keeper_claim_next(struct keeper *keeper, struct keeper_context_id context, const char *after,
		      char ret_address[static KEEPER_ADDRESS_MAX])
{
	struct keeper_request request = {.op = KEEPER_OP_CLAIM_NEXT, .context = context.value};
	struct keeper_reply reply;
	int r = put_addresses(&request, &after, after && *after);

	if (!r)
		r = call(keeper, &request, -1, &reply, NULL);
	if (!r)
		memcpy(ret_address, reply.name, KEEPER_ADDRESS_MAX);
	return r;
}

int keeper_device_is_free(struct keeper *keeper, const char *address)
{
	struct keeper_request request = {.op = KEEPER_OP_IS_FREE, .n_addresses = 1};

	put(request.addresses[0], KEEPER_PCI_MAX, address);
	return call(keeper, &request, -1, NULL, NULL);
}

int keeper_device_examine(struct keeper *keeper, const char *address,
			  struct keeper_device *ret_device)
{
	struct keeper_request request = {.op = KEEPER_OP_EXAMINE, .n_addresses = 1};
	struct keeper_reply reply;
	int r;

	put(request.addresses[0], KEEPER_PCI_MAX, address);
	r = call(keeper, &request, -1, &reply, NULL);
	if (!r)
		*ret_device = reply.device;
	return r;
}

int keeper_fd_hold(struct keeper *keeper, const char *owner, const char *name, int fd)
{
	struct keeper_request request = {.op = KEEPER_OP_FD_HOLD};

	put(request.owner, sizeof(request.owner), owner);
	put(request.name, sizeof(request.name), name);
	return call(keeper, &request, fd, NULL, NULL);
}

int keeper_fd_take(struct keeper *keeper, const char *name, int *ret_fd)
{
	struct keeper_request request = {.op = KEEPER_OP_FD_TAKE};

	put(request.name, sizeof(request.name), name);
	return call(keeper, &request, -1, NULL, ret_fd);
}

int keeper_fd_drop(struct keeper *keeper, const char *name)
{
	struct keeper_request request = {.op = KEEPER_OP_FD_DROP};

	put(request.name, sizeof(request.name), name);
	return call(keeper, &request, -1, NULL, NULL);
}

int keeper_fd_next(struct keeper *keeper, const char *after, char ret_name[static KEEPER_NAME_MAX])
{
	struct keeper_request request = {.op = KEEPER_OP_FD_NEXT};
	struct keeper_reply reply;
	int r;

	if (strlen(after) >= sizeof(request.name))
		return -EINVAL;
	put(request.name, sizeof(request.name), after);
	r = call(keeper, &request, -1, &reply, NULL);
	if (!r)
		memcpy(ret_name, reply.name, KEEPER_NAME_MAX);
	return r;
}
