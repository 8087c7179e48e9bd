/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port is a grpc_server without a listener: connections are handed to it, because the files
 * of the sockets come and go with the kubelet while calls go on.  All ports share one
 * completion queue.
 *
 * The lock covers lists, counters and the state of streams: a list is published by another
 * thread than the one that learns that a message has left.
 */
#include "server.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE				    "/v1beta1.DevicePlugin/"
#define MESSAGE_MAX			    (1 << 20)
#define CALLS_MAX			    64
#define STREAMS_MAX			    8
#define CONNECTIONS			    16
#define ARMED				    2
#define DETAILS_MAX			    2048
#define IDLE_MS				    (10 * 60 * 1000)
#define KEEPALIVE_MS			    60000
#define LIST_METHOD			    "ListAndWatch"
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

struct tag {
	void (*fired)(struct tag *tag, bool ok);
};

struct port {
	struct server *server;
	grpc_server *grpc;
	struct tag shutdown_tag;
	/* Duplicates, to see which connections have ended; -1: free. */
	int connections[CONNECTIONS];
	unsigned n_calls;
	unsigned n_streams;
	struct server_call *streams;
	/* The newest list; generation 0: none yet. */
	grpc_slice list;
	uint64_t generation;
};

struct server {
	const struct server_ops *ops;
	void *userdata;
	grpc_completion_queue *queue;
	grpc_server_credentials *credentials;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned n_running;
	bool stopping;
	unsigned n_ports;
	struct port ports[];
};

struct server_call {
	struct port *port;
	grpc_call *grpc;
	grpc_call_details details;
	grpc_metadata_array metadata;
	grpc_byte_buffer *received;
	grpc_byte_buffer *sent;
	int cancelled;
	int method; /* enum server_method; -1: ListAndWatch */
	struct tag request_tag;
	struct tag receive_tag;
	struct tag send_tag;
	struct tag close_tag;
	struct tag end_tag;
	/* Streams, under the lock. */
	struct server_call *next;
	uint64_t generation;
	bool headers_sent;
	bool sending;
	bool closed;
	bool ended;
};

static const struct {
	const char *name;
	int method;
} methods[] = {
	{"GetDevicePluginOptions", SERVER_OPTIONS},
	{"GetPreferredAllocation", SERVER_PREFER},
	{"Allocate", SERVER_ALLOCATE},
	{"PreStartContainer", SERVER_PRE_START},
	{LIST_METHOD, -1},
};

static grpc_byte_buffer *pack(const ProtobufCMessage *message)
{
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
	grpc_byte_buffer *buffer;

	protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return buffer;
}

/* ---- the end of a call ---- */

static void call_free(struct server_call *call)
{
	struct port *port = call->port;

	pthread_mutex_lock(&port->server->lock);
	port->n_calls--;
	pthread_mutex_unlock(&port->server->lock);
	grpc_byte_buffer_destroy(call->received);
	grpc_byte_buffer_destroy(call->sent);
	grpc_call_unref(call->grpc);
	free(call);
}

static void end_fired(struct tag *tag, bool ok)
{
	call_free(container_of(tag, struct server_call, end_tag));
}

/* with_close: the batch asks for the caller's end, which a stream has asked for before. */
static void call_end(struct server_call *call, grpc_status_code status, const char *message,
		     bool with_close)
{
	grpc_slice details = grpc_empty_slice();
	grpc_op ops[4];
	size_t n = 0;

	memset(ops, 0, sizeof(ops));
	if (!call->headers_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->headers_sent = true;
	if (call->sent && status == GRPC_STATUS_OK && with_close) {
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = call->sent;
	}
	if (message)
		details = grpc_slice_from_copied_buffer(message, strnlen(message, DETAILS_MAX));
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n].data.send_status_from_server.status = status;
	ops[n++].data.send_status_from_server.status_details = &details;
	if (with_close) {
		ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
		ops[n++].data.recv_close_on_server.cancelled = &call->cancelled;
	}
	/* gRPC refuses only batches that are put together wrongly: then the call stays. */
	(void)grpc_call_start_batch(call->grpc, ops, n, &call->end_tag, NULL);
	grpc_slice_unref(details);
}

void server_finish(struct server_call *call, grpc_status_code status, const char *message,
		   const ProtobufCMessage *response)
{
	if (response)
		call->sent = pack(response);
	call_end(call, status, message, true);
}

/* ---- streams ---- */

/* Under the lock.  Sends the newest list if it was not sent and nothing is under way. */
static void stream_push(struct server_call *call)
{
	struct port *port = call->port;
	grpc_op ops[2];
	size_t n = 0;

	if (call->sending || call->closed || call->generation == port->generation)
		return;
	memset(ops, 0, sizeof(ops));
	if (!call->headers_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->headers_sent = true;
	grpc_byte_buffer_destroy(call->sent);
	call->sent = grpc_raw_byte_buffer_create(&port->list, 1);
	ops[n].op = GRPC_OP_SEND_MESSAGE;
	ops[n++].data.send_message.send_message = call->sent;
	call->generation = port->generation;
	call->sending =
		grpc_call_start_batch(call->grpc, ops, n, &call->send_tag, NULL) == GRPC_CALL_OK;
}

/* Under the lock. */
static void stream_end(struct server_call *call)
{
	struct server_call **at = &call->port->streams;

	if (!call->closed || call->sending || call->ended)
		return;
	call->ended = true;
	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	call->port->n_streams--;
	call_end(call, GRPC_STATUS_OK, NULL, false);
}

static void send_fired(struct tag *tag, bool ok)
{
	struct server_call *call = container_of(tag, struct server_call, send_tag);
	struct server *server = call->port->server;

	pthread_mutex_lock(&server->lock);
	call->sending = false;
	if (ok)
		stream_push(call);
	stream_end(call);
	pthread_mutex_unlock(&server->lock);
}

static void close_fired(struct tag *tag, bool ok)
{
	struct server_call *call = container_of(tag, struct server_call, close_tag);
	struct server *server = call->port->server;

	pthread_mutex_lock(&server->lock);
	call->closed = true;
	stream_end(call);
	pthread_mutex_unlock(&server->lock);
}

static void stream_start(struct server_call *call)
{
	struct port *port = call->port;
	struct server *server = port->server;
	bool refused;
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	op.data.recv_close_on_server.cancelled = &call->cancelled;
	pthread_mutex_lock(&server->lock);
	refused = port->n_streams == STREAMS_MAX || server->stopping ||
		  grpc_call_start_batch(call->grpc, &op, 1, &call->close_tag, NULL) != GRPC_CALL_OK;
	if (!refused) {
		port->n_streams++;
		call->next = port->streams;
		port->streams = call;
		stream_push(call);
	}
	pthread_mutex_unlock(&server->lock);
	if (refused)
		call_end(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many streams of this resource",
			 true);
}

void server_publish(struct server *server, unsigned port_index, const ProtobufCMessage *list)
{
	struct port *port = &server->ports[port_index];
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(list));

	protobuf_c_message_pack(list, GRPC_SLICE_START_PTR(slice));
	pthread_mutex_lock(&server->lock);
	grpc_slice_unref(port->list);
	port->list = slice;
	port->generation++;
	for (struct server_call *call = port->streams; call; call = call->next)
		stream_push(call);
	pthread_mutex_unlock(&server->lock);
}

/* ---- requests ---- */

static void call_read(struct server_call *call)
{
	struct server *server = call->port->server;
	grpc_byte_buffer_reader reader;
	grpc_slice all;

	if (!grpc_byte_buffer_reader_init(&reader, call->received)) {
		server_finish(call, GRPC_STATUS_INTERNAL, "unreadable message", NULL);
		return;
	}
	all = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	server->ops->request(server->userdata, call, call->port - server->ports, call->method,
			     GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all));
	grpc_slice_unref(all);
}

static void receive_fired(struct tag *tag, bool ok)
{
	struct server_call *call = container_of(tag, struct server_call, receive_tag);

	if (!ok || !call->received)
		server_finish(call, GRPC_STATUS_INVALID_ARGUMENT, "no request message", NULL);
	else if (call->method < 0)
		stream_start(call);
	else
		call_read(call);
}

static int port_arm(struct port *port);

static bool find_method(const grpc_slice *path, int *ret_method)
{
	const char *text = (const char *)GRPC_SLICE_START_PTR(*path);
	size_t n = GRPC_SLICE_LENGTH(*path), prefix = strlen(SERVICE);

	if (n < prefix || memcmp(text, SERVICE, prefix))
		return false;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (n - prefix == strlen(methods[i].name) &&
		    !memcmp(text + prefix, methods[i].name, n - prefix)) {
			*ret_method = methods[i].method;
			return true;
		}
	return false;
}

static void request_fired(struct tag *tag, bool ok)
{
	struct server_call *call = container_of(tag, struct server_call, request_tag);
	struct port *port = call->port;
	bool known, full;
	grpc_op op;

	known = ok && find_method(&call->details.method, &call->method);
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_details_destroy(&call->details);
	if (!ok) {
		free(call);
		return;
	}
	pthread_mutex_lock(&port->server->lock);
	full = port->n_calls++ >= CALLS_MAX;
	pthread_mutex_unlock(&port->server->lock);
	/* Without memory the port has a slot less. */
	(void)port_arm(port);
	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->received;
	if (!known)
		server_finish(call, GRPC_STATUS_UNIMPLEMENTED, "no such method", NULL);
	else if (full)
		server_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many calls at once", NULL);
	else if (grpc_call_start_batch(call->grpc, &op, 1, &call->receive_tag, NULL) !=
		 GRPC_CALL_OK)
		server_finish(call, GRPC_STATUS_INTERNAL, "the call cannot be read", NULL);
}

static int port_arm(struct port *port)
{
	grpc_completion_queue *queue = port->server->queue;
	struct server_call *call = calloc(1, sizeof(*call));

	if (!call)
		return -ENOMEM;
	call->port = port;
	call->request_tag.fired = request_fired;
	call->receive_tag.fired = receive_fired;
	call->send_tag.fired = send_fired;
	call->close_tag.fired = close_fired;
	call->end_tag.fired = end_fired;
	grpc_metadata_array_init(&call->metadata);
	grpc_call_details_init(&call->details);
	if (grpc_server_request_call(port->grpc, &call->grpc, &call->details, &call->metadata,
				     queue, queue, &call->request_tag) == GRPC_CALL_OK)
		return 0;
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_details_destroy(&call->details);
	free(call);
	return -EIO;
}

/* ---- ports ---- */

int server_adopt(struct server *server, unsigned port_index, int fd)
{
	struct port *port = &server->ports[port_index];
	int *place = NULL, copy;

	for (int i = 0; i < CONNECTIONS; i++) {
		struct pollfd p = {.fd = port->connections[i], .events = POLLRDHUP};

		if (p.fd >= 0 && poll(&p, 1, 0) > 0) {
			close(p.fd);
			port->connections[i] = -1;
		}
		if (port->connections[i] < 0)
			place = &port->connections[i];
	}
	copy = place ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (copy < 0) {
		int r = place ? -errno : -EBUSY;

		close(fd);
		return r;
	}
	*place = copy;
	grpc_server_add_channel_from_fd(port->grpc, fd, server->credentials);
	return 0;
}

static grpc_arg arg_int(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static void shutdown_fired(struct tag *tag, bool ok)
{
	struct server *server = container_of(tag, struct port, shutdown_tag)->server;

	pthread_mutex_lock(&server->lock);
	server->n_running--;
	pthread_cond_broadcast(&server->ended);
	pthread_mutex_unlock(&server->lock);
}

static int port_start(struct server *server, struct port *port)
{
	grpc_arg args[] = {
		arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, CALLS_MAX),
		arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MESSAGE_MAX),
		arg_int(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS),
		arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
	};
	const grpc_channel_args channel_args = {sizeof(args) / sizeof(args[0]), args};
	int r = 0;

	port->server = server;
	port->shutdown_tag.fired = shutdown_fired;
	port->list = grpc_empty_slice();
	for (int i = 0; i < CONNECTIONS; i++)
		port->connections[i] = -1;
	port->grpc = grpc_server_create(&channel_args, NULL);
	if (!port->grpc)
		return -ENOMEM;
	grpc_server_register_completion_queue(port->grpc, server->queue, NULL);
	grpc_server_start(port->grpc);
	server->n_running++;
	for (int i = 0; i < ARMED && !r; i++)
		r = port_arm(port);
	return r;
}

static void *serve(void *argument)
{
	struct server *server = argument;

	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		struct tag *tag = event.tag;

		if (event.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		if (event.type == GRPC_OP_COMPLETE)
			tag->fired(tag, event.success);
	}
}

int server_new(unsigned n_ports, const struct server_ops *ops, void *userdata,
	       struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server) + n_ports * sizeof(struct port));
	int r = 0;

	if (!server)
		return -ENOMEM;
	server->ops = ops;
	server->userdata = userdata;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->ended, NULL);
	server->queue = grpc_completion_queue_create_for_next(NULL);
	server->credentials = grpc_insecure_server_credentials_create();
	r = -pthread_create(&server->thread, NULL, serve, server);
	server->has_thread = !r;
	for (unsigned i = 0; i < n_ports && !r; i++) {
		server->n_ports++;
		r = port_start(server, &server->ports[i]);
	}
	if (r) {
		server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

static void port_deinit(struct port *port)
{
	if (port->grpc)
		grpc_server_destroy(port->grpc);
	grpc_slice_unref(port->list);
	for (int i = 0; i < CONNECTIONS; i++)
		if (port->connections[i] >= 0)
			close(port->connections[i]);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	pthread_mutex_lock(&server->lock);
	server->stopping = true;
	pthread_mutex_unlock(&server->lock);
	for (unsigned i = 0; i < server->n_ports; i++) {
		struct port *port = &server->ports[i];

		if (!port->grpc)
			continue;
		grpc_server_shutdown_and_notify(port->grpc, server->queue, &port->shutdown_tag);
		grpc_server_cancel_all_calls(port->grpc);
	}
	pthread_mutex_lock(&server->lock);
	while (server->n_running)
		pthread_cond_wait(&server->ended, &server->lock);
	pthread_mutex_unlock(&server->lock);
	grpc_completion_queue_shutdown(server->queue);
	if (server->has_thread)
		pthread_join(server->thread, NULL);
	for (unsigned i = 0; i < server->n_ports; i++)
		port_deinit(&server->ports[i]);
	grpc_completion_queue_destroy(server->queue);
	grpc_server_credentials_release(server->credentials);
	pthread_cond_destroy(&server->ended);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
