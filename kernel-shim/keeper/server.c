/* SPDX-License-Identifier: Apache-2.0 */
/* See server.h. */
#include "server.h"

#include "function.h"
#include "holder.h"
#include "log.h"
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SEND_SECONDS 10

/* A place for a connection.  All is the accepting thread's, but that the other ends it. */
struct connection {
	const struct server_config *config;
	int fd;
	bool used; /* there is a thread to join */
	atomic_bool ended;
	pthread_t thread;
};

/* A request and what its reply is made of. */
struct exchange {
	struct keeper_request request;
	struct keeper_reply reply;
	int fds[KEEPER_DEVICES_MAX];
};

/* fd: the one that came with the request, or -1; taken where it is kept. */
static int execute(const struct server_config *config, struct exchange *exchange, int *fd)
{
	const struct keeper_request *request = &exchange->request;
	const char(*addresses)[KEEPER_PCI_MAX] = (const char(*)[KEEPER_PCI_MAX])request->addresses;
	struct vault *vault = config->vault;
	struct keeper_reply *reply = &exchange->reply;

	switch (request->op) {
	case KEEPER_OP_HELLO:
		return 0;
	case KEEPER_OP_CONTEXT_OPEN:
		return vault_context_open(vault, request->owner, reply->reason, &reply->context,
					  &exchange->fds[0]);
	case KEEPER_OP_CONTEXT_CLOSE:
		return vault_context_close(vault, request->context, reply->reason);
	case KEEPER_OP_CONTEXT_NEXT:
		return vault_context_next(vault, request->context, &reply->context);
	case KEEPER_OP_CONTEXT_TAKE:
		return vault_context_take(vault, request->context, &exchange->fds[0]);
	case KEEPER_OP_CLAIM:
		return vault_claim(vault, request->context, addresses, request->n_addresses,
				   reply->reason, exchange->fds);
	case KEEPER_OP_RELEASE:
		return vault_release(vault, request->context, addresses, request->n_addresses,
				     reply->reason);
	case KEEPER_OP_DEVICE_TAKE:
		return vault_take(vault, request->context, addresses, request->n_addresses,
				  reply->reason, exchange->fds);
	case KEEPER_OP_CLAIM_NEXT:
		return vault_claim_next(vault, request->context, request->addresses[0],
					reply->name);
	case KEEPER_OP_IS_FREE:
		return vault_is_free(vault, request->addresses[0], reply->reason);
	case KEEPER_OP_EXAMINE:
		return function_examine(config->host, request->addresses[0], &reply->device);
	case KEEPER_OP_CONTEXT_DELEGATE:
		return vault_context_delegate(vault, request->context, *fd, request->uid,
					      request->bytes, reply->reason);
	case KEEPER_OP_HOLDER_END:
		return holder_end(config->host, *fd, reply->reason);
	case KEEPER_OP_FD_HOLD:
		return vault_fd_hold(vault, request->owner, request->name, fd, reply->reason);
	case KEEPER_OP_FD_TAKE:
		return vault_fd_take(vault, request->name, &exchange->fds[0]);
	case KEEPER_OP_FD_DROP:
		return vault_fd_drop(vault, request->name);
	case KEEPER_OP_FD_NEXT:
		return vault_fd_next(vault, request->name, reply->name);
	default:
		return -EPROTO;
	}
}

/* The client does not know that it succeeded. */
static void undo(const struct server_config *config, const struct exchange *exchange)
{
	const struct keeper_request *request = &exchange->request;
	char reason[KEEPER_REASON_MAX] = "";

	if (request->op == KEEPER_OP_CONTEXT_OPEN)
		(void)vault_context_close(config->vault, exchange->reply.context, reason);
	else if (request->op == KEEPER_OP_CLAIM)
		(void)vault_release(config->vault, request->context,
				    (const char(*)[KEEPER_PCI_MAX])request->addresses,
				    request->n_addresses, reason);
}

/* false: the connection ends. */
static bool serve_one(const struct server_config *config, int sock)
{
	uint8_t bytes[KEEPER_REQUEST_SIZE], answer[KEEPER_REPLY_SIZE];
	struct exchange exchange = {.reply.op = KEEPER_OP_HELLO};
	struct keeper_reply *reply = &exchange.reply;
	int received[WIRE_FDS_MAX];
	size_t n_received = 0, n_fds = 0;
	ssize_t n = wire_receive(sock, bytes, sizeof(bytes), received, &n_received);
	bool malformed;
	int r;

	if (n == 0 || (n < 0 && n != -EPROTO))
		return false;
	malformed = n < 0 || keeper_request_parse(bytes, n, n_received, &exchange.request) < 0;
	if (malformed) {
		keeper_log(LOG_WARNING, "a request of no known form");
		reply->status = -EPROTO;
	} else {
		reply->op = exchange.request.op;
		reply->status = execute(config, &exchange, n_received ? &received[0] : NULL);
		if (!reply->status)
			n_fds = keeper_request_reply_fds(&exchange.request);
		else if (*reply->reason && reply->op != KEEPER_OP_IS_FREE)
			keeper_log(LOG_INFO, "refused: %s", reply->reason);
	}
	wire_close(received, n_received);
	keeper_reply_build(reply, answer);
	r = wire_send(sock, answer, sizeof(answer), exchange.fds, n_fds);
	wire_close(exchange.fds, n_fds);
	if (r < 0 && !malformed && !reply->status)
		undo(config, &exchange);
	return r == 0 && !malformed;
}

static void *connection_main(void *arg)
{
	struct connection *connection = arg;

	while (serve_one(connection->config, connection->fd))
		continue;
	/* Its peer sees the end now; the number is given back when the thread is joined. */
	shutdown(connection->fd, SHUT_RDWR);
	atomic_store(&connection->ended, true);
	return NULL;
}

static void connection_join(struct connection *connection)
{
	if (!connection->used)
		return;
	pthread_join(connection->thread, NULL);
	close_fd(&connection->fd);
	connection->used = false;
}

static bool peer_may(const struct server_config *config, int sock)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return false;
	if (peer.uid == 0 || peer.uid == config->client)
		return true;
	keeper_log(LOG_WARNING, "uid %u, process %d: not the client", peer.uid, peer.pid);
	return false;
}

static void connection_start(const struct server_config *config, struct connection *connections,
			     int sock)
{
	struct timeval patience = {.tv_sec = SEND_SECONDS};
	struct connection *place = NULL;

	for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++) {
		if (connections[i].used && atomic_load(&connections[i].ended))
			connection_join(&connections[i]);
		if (!connections[i].used)
			place = &connections[i];
	}
	if (!peer_may(config, sock))
		goto refuse;
	if (!place) {
		keeper_log(LOG_WARNING, "%d connections are open: one more is refused",
			   SERVER_CONNECTIONS_MAX);
		goto refuse;
	}
	if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		goto refuse;
	place->config = config;
	place->fd = sock;
	atomic_store(&place->ended, false);
	if (pthread_create(&place->thread, NULL, connection_main, place)) {
		keeper_log(LOG_ERR, "no thread for a connection");
		place->fd = -1;
		goto refuse;
	}
	place->used = true;
	return;
refuse:
	close(sock);
}

int server_run(const struct server_config *config)
{
	struct connection *connections = calloc(SERVER_CONNECTIONS_MAX, sizeof(*connections));
	struct pollfd polled[] = {
		{.fd = config->stop, .events = POLLIN},
		{.fd = config->listener, .events = POLLIN},
	};
	int r = 0;

	if (!connections)
		return -ENOMEM;
	for (;;) {
		int sock;

		if (poll(polled, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			r = -errno;
			break;
		}
		if (polled[0].revents)
			break;
		sock = accept4(config->listener, NULL, NULL, SOCK_CLOEXEC);
		if (sock >= 0) {
			connection_start(config, connections, sock);
		} else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			struct timespec pause = {.tv_nsec = 100 * 1000000};

			/* Out of fds: it stays in the queue. */
			keeper_log(LOG_ERR, "accept: %s", strerror(errno));
			nanosleep(&pause, NULL);
		}
	}
	for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++)
		if (connections[i].used)
			shutdown(connections[i].fd, SHUT_RD);
	for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++)
		connection_join(&connections[i]);
	free(connections);
	return r;
}
