/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fd over one connection of its own: connect, 32 bytes there, 16 bytes back, close.
 * No gRPC.  Every fd that arrives is either handed out or closed, also when the reply is
 * not what it should be.
 */
#include "fd_pass.h"
#include "socket.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	OP_GIVE = 1,
	OP_TAKE = 2,
};

enum {
	STATUS_OK = 0,
	STATUS_MALFORMED = 1,
	STATUS_REFUSED = 2,
	STATUS_UNSUITABLE = 3,
	STATUS_BUSY = 4,
	STATUS_UNAVAILABLE = 5,
};

struct wire_request {
	char magic[4];
	uint8_t version;
	uint8_t op;
	uint16_t flags;
	uint8_t ticket[IOASID_TICKET_SIZE];
	uint64_t reserved;
};
static_assert(sizeof(struct wire_request) == 32, "docs/fd-protocol.md");

struct wire_reply {
	char magic[4];
	uint8_t version;
	uint8_t status;
	uint16_t flags;
	uint64_t reserved;
};
static_assert(sizeof(struct wire_reply) == 16, "docs/fd-protocol.md");

struct exchange {
	const char *name;
	struct ioasid_error **ret_error;
	uint64_t deadline_us;
	int socket;
	/* What came with the reply; -1: none. */
	int received;
};

static int wait_for(struct exchange *exchange, short events)
{
	struct pollfd p = {.fd = exchange->socket, .events = events};

	for (;;) {
		int r = poll(&p, 1, time_left_ms(exchange->deadline_us));

		if (r > 0)
			return 0;
		if (!r)
			return error_timed_out(exchange->name, exchange->ret_error);
		if (errno != EINTR)
			return error_connection_lost(exchange->name, strerrordesc_np(errno),
						     exchange->ret_error);
	}
}

static int send_request(struct exchange *exchange, const struct wire_request *request, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	size_t sent = 0;

	while (sent < sizeof(*request)) {
		struct iovec iov = {(char *)request + sent, sizeof(*request) - sent};
		struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;

		/* The fd travels with the first byte, once. */
		if (fd >= 0 && !sent) {
			control.header = (struct cmsghdr){
				.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
			};
			memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
			message.msg_control = &control;
			message.msg_controllen = sizeof(control.space);
		}
		n = sendmsg(exchange->socket, &message, MSG_NOSIGNAL);
		if (n >= 0) {
			sent += (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(exchange, POLLOUT);

			if (r < 0)
				return r;
		} else if (errno == EBADF || errno == ETOOMANYREFS) {
			return error_invalid(exchange->name, exchange->ret_error,
					     "the fd cannot be passed: %m");
		} else if (errno != EINTR) {
			return error_connection_lost(exchange->name, strerrordesc_np(errno),
						     exchange->ret_error);
		}
	}
	return 0;
}

/* Keeps the first fd of a message and closes the others. */
static void collect_fds(struct exchange *exchange, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (exchange->received < 0)
				exchange->received = fd;
			else
				close(fd);
		}
	}
}

static int receive_reply(struct exchange *exchange, struct wire_reply *ret_reply)
{
	struct wire_reply reply = {0};
	size_t received = 0;

	while (received < sizeof(reply)) {
		union {
			struct cmsghdr header;
			/* Room for more than one, so that no fd is left in the kernel unseen. */
			char space[CMSG_SPACE(4 * sizeof(int))];
		} control;
		struct iovec iov = {(char *)&reply + received, sizeof(reply) - received};
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(exchange->socket, &message, MSG_CMSG_CLOEXEC);

		if (n > 0) {
			collect_fds(exchange, &message);
			received += (size_t)n;
		} else if (!n) {
			return error_connection_lost(exchange->name, "it ended without a reply",
						     exchange->ret_error);
		} else if (errno == EAGAIN) {
			int r = wait_for(exchange, POLLIN);

			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return error_connection_lost(exchange->name, strerrordesc_np(errno),
						     exchange->ret_error);
		}
	}
	*ret_reply = reply;
	return 0;
}

static int status_error(struct exchange *exchange, uint8_t status)
{
	static const struct {
		int error;
		enum ioasid_code code;
		const char *reason;
		const char *text;
	} table[] = {
		[STATUS_MALFORMED] = {-EPROTO, IOASID_INVALID_ARGUMENT, "MALFORMED",
				      "the broker does not understand this request"},
		[STATUS_REFUSED] = {-EACCES, IOASID_PERMISSION_DENIED, "TICKET_REFUSED",
				    "the ticket is unknown, expired, used or not this caller's"},
		[STATUS_UNSUITABLE] = {-EINVAL, IOASID_INVALID_ARGUMENT, "FD_UNSUITABLE",
				       "the fd is not of the kind that the ticket is for"},
		[STATUS_BUSY] = {-EDQUOT, IOASID_RESOURCE_EXHAUSTED, "QUOTA",
				 "the tenant holds as many fds as its limit kept_fds allows"},
		[STATUS_UNAVAILABLE] = {-EHOSTDOWN, IOASID_UNAVAILABLE, "SHUTTING_DOWN",
					"the broker is shutting down"},
	};

	if (status >= sizeof(table) / sizeof(table[0]))
		return error_bad_answer(exchange->name, "its status is unknown",
					exchange->ret_error);
	return error_make(
		&(const struct error_info){
			.error = table[status].error,
			.code = table[status].code,
			.origin = IOASID_ORIGIN_BROKER,
			.reason = table[status].reason,
			.method = exchange->name,
		},
		exchange->ret_error, "%s", table[status].text);
}

static int exchange_on(struct exchange *exchange, uint8_t op,
		       const uint8_t ticket[IOASID_TICKET_SIZE], int fd)
{
	struct wire_request request = {.magic = "IOFD", .version = 1, .op = op};
	struct wire_reply reply;
	int r;

	memcpy(request.ticket, ticket, IOASID_TICKET_SIZE);
	r = send_request(exchange, &request, fd);
	if (!r)
		r = receive_reply(exchange, &reply);
	if (r < 0)
		return r;
	if (memcmp(reply.magic, "IOFD", 4) || reply.version != 1)
		return error_bad_answer(exchange->name, "it is not of the fd-passing protocol",
					exchange->ret_error);
	if (reply.status != STATUS_OK)
		return status_error(exchange, reply.status);
	if (op == OP_TAKE && exchange->received < 0)
		return error_bad_answer(exchange->name, "no fd came with it", exchange->ret_error);
	return 0;
}

static int exchange_run(const char *name, const char *socket_path, uint8_t op,
			const uint8_t ticket[IOASID_TICKET_SIZE], int fd, uint32_t timeout_ms,
			int *ret_fd, struct ioasid_error **ret_error)
{
	struct exchange exchange = {
		.name = name,
		.ret_error = ret_error,
		.deadline_us = time_deadline_us(timeout_ms ?: SOCKET_TIMEOUT_MS),
		.received = -1,
	};
	int r;

	if (!ticket)
		return error_invalid(name, ret_error, "ticket is NULL");
	r = socket_connect(socket_path_or_default(socket_path), timeout_ms, &exchange.socket,
			   ret_error);
	if (r < 0)
		return r;
	r = exchange_on(&exchange, op, ticket, fd);
	close(exchange.socket);
	if (!r && ret_fd)
		*ret_fd = exchange.received;
	else if (exchange.received >= 0)
		close(exchange.received);
	return r;
}

int ioasid_ticket_give(const char *socket_path, const uint8_t ticket[IOASID_TICKET_SIZE], int fd,
		       uint32_t timeout_ms, struct ioasid_error **ret_error)
{
	if (fd < 0)
		return error_invalid("give", ret_error, "fd is negative");
	return exchange_run("give", socket_path, OP_GIVE, ticket, fd, timeout_ms, NULL, ret_error);
}

int ioasid_ticket_take(const char *socket_path, const uint8_t ticket[IOASID_TICKET_SIZE],
		       uint32_t timeout_ms, int *ret_fd, struct ioasid_error **ret_error)
{
	if (!ret_fd)
		return error_invalid("take", ret_error, "ret_fd is NULL");
	return exchange_run("take", socket_path, OP_TAKE, ticket, -1, timeout_ms, ret_fd,
			    ret_error);
}
