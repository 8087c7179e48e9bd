/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One accepted connection: a grpc_server of its own on the shared completion queue, a session
 * of the broker, and a watch on the socket's end.  The end comes from the watch, from a kick
 * (which is a shutdown(2), so it comes through the watch too), or from the server's own end.
 * State thread only.
 */
#include "server.h"

#include "clock.h"
#include "services.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/impl/codegen/compression_types.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

/* A client may send this much metadata; it is never looked at. */
#define METADATA_MAX 8192
#define N_ARMED	     2
/* Looks at the sockets, this far apart, and how often one must have been emptied a little. */
#define STALL_SAMPLES	  20
#define STALL_INTERVAL_US 1000
#define STALL_DRAINS	  2
/* How long a peer that was pinged may take to answer. */
#define PONG_MS 10000

static void shutdown_fired(struct cq_tag *tag, bool ok);
static void connection_ended(void *userdata);

static grpc_arg arg_int(const char *key, int value)
{
	return (grpc_arg){
		.type = GRPC_ARG_INTEGER,
		.key = (char *)key,
		.value.integer = value,
	};
}

static grpc_server *server_new(struct transport *transport, grpc_resource_quota *quota)
{
	const struct transport_config *config = &transport->config;
	int keepalive_ms =
		config->keepalive_seconds ? (int)config->keepalive_seconds * 1000 : INT_MAX;
	grpc_arg args[] = {
		arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, config->streams),
		arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, config->message_max),
		arg_int(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX),
		arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms),
		arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, PONG_MS),
		arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0),
		/* Messages are small or memory-bound; a compressed one could be a bomb. */
		arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
			1 << GRPC_COMPRESS_NONE),
		arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
		arg_int(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0),
		{
			.type = GRPC_ARG_POINTER,
			.key = (char *)GRPC_ARG_RESOURCE_QUOTA,
			.value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()},
		},
	};
	grpc_channel_args channel_args = {
		.num_args = sizeof(args) / sizeof(args[0]),
		.args = args,
	};
	grpc_server *server = grpc_server_create(&channel_args, NULL);

	if (!server)
		return NULL;
	grpc_server_register_completion_queue(server, transport->cq, NULL);
	grpc_server_start(server);
	return server;
}

/* Everything but the server, for an arrival that comes to nothing. */
static void connection_free(struct connection *connection)
{
	struct transport *transport = connection->transport;

	list_remove(&connection->link);
	list_remove(&connection->ending_link);
	list_remove(&connection->refused_link);
	list_remove(&connection->unarmed_link);
	if (connection->control_fd >= 0)
		close(connection->control_fd);
	principal_leave(transport->principals, connection->principal, clock_us());
	transport->n_connections--;
	free(connection);
}

void connection_release(struct connection *connection)
{
	if (connection->server_ended && list_is_empty(&connection->calls))
		connection_free(connection);
}

static int connection_start(struct connection *connection, int fd)
{
	struct transport *transport = connection->transport;
	grpc_resource_quota *quota = principal_quota(transport->principals, connection->principal);
	bool refused = false;
	int r;

	connection->control_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (connection->control_fd < 0 || !quota)
		return quota ? -errno : -ENOMEM;
	r = broker_session_open(transport->broker, &connection->peer, connection, &refused,
				&connection->session);
	if (r)
		return r;
	r = -ENOMEM;
	connection->server = server_new(transport, quota);
	if (connection->server)
		r = watches_add(acceptor_watches(transport->acceptor), connection->control_fd,
				EPOLLRDHUP | EPOLLHUP, connection_ended, connection,
				&connection->watch);
	if (r < 0) {
		broker_session_close(connection->session);
		connection->session = NULL;
		return r;
	}
	if (refused) {
		connection->close_at = clock_us() + transport->config.refused_ms * UINT64_C(1000);
		list_append(&transport->refused, &connection->refused_link);
	}
	return 0;
}

void connection_arrived(struct mail *mail)
{
	struct arrival *arrival = container_of(mail, struct arrival, mail);
	struct transport *transport = arrival->userdata;

	list_append(&transport->arrivals, &arrival->link);
}

static void connection_open(struct transport *transport, struct arrival *arrival)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	int fd = arrival->fd, r;

	if (!connection || transport->stopping) {
		principal_leave(transport->principals, arrival->principal, clock_us());
		close(fd);
		free(connection);
		free(arrival);
		return;
	}
	connection->transport = transport;
	connection->principal = arrival->principal;
	connection->unsent = principal_unsent(arrival->principal);
	connection->peer = (struct broker_peer){
		.socket = arrival->listener->name,
		.uid = arrival->peer.uid,
		.gid = arrival->peer.gid,
		.pid = arrival->peer.pid,
	};
	connection->shutdown_tag.fired = shutdown_fired;
	list_init(&connection->calls);
	list_init(&connection->ending_link);
	list_init(&connection->refused_link);
	list_init(&connection->unarmed_link);
	list_append(&transport->connections, &connection->link);
	transport->n_connections++;
	free(arrival);

	r = connection_start(connection, fd);
	if (r) {
		if (r < 0)
			transport_log(transport, LOG_WARNING,
				      "cannot serve a connection of uid %u: %s",
				      connection->peer.uid, strerror(-r));
		close(fd);
		if (!connection->server) {
			connection_free(connection);
			return;
		}
		connection->closing = true;
		grpc_server_shutdown_and_notify(connection->server, transport->cq,
						&connection->shutdown_tag);
		return;
	}
	for (int i = 0; i < N_ARMED; i++)
		if (call_arm(connection) < 0)
			connection_kick(connection);
	/* gRPC owns the fd from here on. */
	grpc_server_add_channel_from_fd(connection->server, fd, transport->credentials);
}

void connection_kick(struct connection *connection)
{
	shutdown(connection->control_fd, SHUT_RDWR);
}

void connection_expel(struct connection *connection, const char *why)
{
	struct transport *transport = connection->transport;

	/* Its last bytes are read yet, and it may be found to misuse them once more. */
	if (atomic_exchange(&connection->expelled, true))
		return;
	principal_bar(transport->principals, connection->principal, clock_us());
	transport_log(transport, LOG_WARNING, "closing a connection of uid %u: %s",
		      connection->peer.uid, why);
	connection_kick(connection);
}

/* A socket that holds less than before is being read; those that wait for gRPC only fill. */
static void sample_unread(watch_fn fired, int fd, void *userdata, void *argument)
{
	struct connection *connection = userdata;
	bool first = *(const int *)argument == 0;
	int unread = 0;

	if (fired != connection_ended || ioctl(fd, SIOCINQ, &unread) < 0)
		return;
	if (first)
		connection->n_drains = 0;
	else if (unread < connection->unread)
		connection->n_drains++;
	connection->unread = unread;
}

static void expel_staller(watch_fn fired, int fd, void *userdata, void *argument)
{
	struct connection *connection = userdata;

	if (fired == connection_ended && connection->n_drains >= STALL_DRAINS)
		connection_expel(connection, "it sends frames faster than they can be read");
}

void connections_find_staller(struct transport *transport)
{
	struct watches *watches = acceptor_watches(transport->acceptor);

	for (int i = 0; i < STALL_SAMPLES; i++) {
		watches_each(watches, sample_unread, &i);
		usleep(STALL_INTERVAL_US);
		if (!stall_lasts(&transport->stall))
			return;
	}
	watches_each(watches, expel_staller, NULL);
}

static void connection_ended(void *userdata)
{
	struct connection *connection = userdata;

	list_append(&connection->transport->endings, &connection->ending_link);
}

bool connections_step(struct transport *transport)
{
	struct list *item;

	/* What ends makes room for what comes. */
	if (!list_is_empty(&transport->endings)) {
		item = transport->endings.next;
		list_remove(item);
		connection_close(container_of(item, struct connection, ending_link), true);
		return true;
	}
	if (!list_is_empty(&transport->arrivals)) {
		item = transport->arrivals.next;
		list_remove(item);
		connection_open(transport, container_of(item, struct arrival, link));
		return true;
	}
	return false;
}

/* One after the other from the start: the broker may end several with one cancellation. */
static void connection_cancel_calls(struct connection *connection)
{
	struct list *item = connection->calls.next;

	while (item != &connection->calls) {
		struct call *call = container_of(item, struct call, link);

		if (!call->gone && call->broker_running) {
			call_cancel(call);
			item = connection->calls.next;
			continue;
		}
		/* A question may never come; a watcher of health is told by health_stop(). */
		item = item->next;
		if (call->service == &reflection_info && call->headers_sent)
			call_finish(call, GRPC_STATUS_UNAVAILABLE, "SHUTTING_DOWN",
				    "the connection is being closed", NULL);
	}
}

void connection_close(struct connection *connection, bool abrupt)
{
	struct transport *transport = connection->transport;

	if (!connection->closing) {
		connection->closing = true;
		list_remove(&connection->refused_link);
		watches_remove(acceptor_watches(transport->acceptor), connection->watch);
		connection_cancel_calls(connection);
		broker_session_close(connection->session);
		connection->session = NULL;
		grpc_server_shutdown_and_notify(connection->server, transport->cq,
						&connection->shutdown_tag);
	}
	if (abrupt && !connection->server_ended)
		grpc_server_cancel_all_calls(connection->server);
}

static void shutdown_fired(struct cq_tag *tag, bool ok)
{
	struct connection *connection = container_of(tag, struct connection, shutdown_tag);

	grpc_server_destroy(connection->server);
	connection->server = NULL;
	connection->server_ended = true;
	connection_release(connection);
}

uint64_t connections_expire(struct transport *transport, uint64_t now)
{
	while (!list_is_empty(&transport->refused)) {
		struct connection *connection =
			container_of(transport->refused.next, struct connection, refused_link);

		if (connection->close_at > now)
			return connection->close_at;
		list_remove(&connection->refused_link);
		connection_kick(connection);
	}
	return UINT64_MAX;
}
