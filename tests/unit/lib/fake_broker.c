/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread accepts and tells the two protocols apart, one takes new calls from gRPC, and
 * each call has a thread and a completion queue of its own.  Only for tests: whatever must
 * not fail is asserted.
 */
#include "fake_broker.h"

#include <assert.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#undef assert
#define assert(x)                                                                                  \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define CONNECTIONS_MAX 256

struct fake_broker {
	fake_handler_t handler;
	fake_fd_handler_t fd_handler;
	void *userdata;
	char directory[32];
	char path[108];
	bool killed;
	int listener;
	int stop[2];
	grpc_server *server;
	grpc_completion_queue *queue;
	pthread_t acceptor;
	pthread_t dispatcher;

	pthread_mutex_t lock;
	pthread_cond_t idle;
	/* Under lock. */
	size_t n_calls;
	int connections[CONNECTIONS_MAX];
	/* By the fd that gRPC has. */
	uint64_t numbers[1024];
	size_t n_connections;
};

struct fake_call {
	struct fake_broker *broker;
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array metadata;
	grpc_completion_queue *queue;
	int cancelled;
	bool close_plucked;
	bool metadata_sent;
	bool finished;
	uint8_t *request;
	size_t n_request;
	const ProtobufCMessageDescriptor *descriptor;
	ProtobufCMessage *unpacked;
};

/* Of this process. */
static _Atomic uint64_t n_connections;

static bool pluck(grpc_completion_queue *queue, void *tag)
{
	grpc_event event =
		grpc_completion_queue_pluck(queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

	assert(event.type == GRPC_OP_COMPLETE);
	return event.success;
}

static bool batch(struct fake_call *call, grpc_op *ops, size_t n)
{
	assert(grpc_call_start_batch(call->call, ops, n, ops, NULL) == GRPC_CALL_OK);
	return pluck(call->queue, ops);
}

static void receive(struct fake_call *call)
{
	grpc_byte_buffer *buffer = NULL;
	grpc_byte_buffer_reader reader;
	grpc_op ops[1] = {0}, close_op[1] = {0};
	grpc_slice slice;

	close_op[0].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	close_op[0].data.recv_close_on_server.cancelled = &call->cancelled;
	assert(grpc_call_start_batch(call->call, close_op, 1, &call->cancelled, NULL) ==
	       GRPC_CALL_OK);
	ops[0].op = GRPC_OP_RECV_MESSAGE;
	ops[0].data.recv_message.recv_message = &buffer;
	if (!batch(call, ops, 1) || !buffer)
		return;
	assert(grpc_byte_buffer_reader_init(&reader, buffer));
	slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	call->n_request = GRPC_SLICE_LENGTH(slice);
	call->request = malloc(call->n_request + 1);
	assert(call->request);
	memcpy(call->request, GRPC_SLICE_START_PTR(slice), call->n_request);
	grpc_slice_unref(slice);
	grpc_byte_buffer_destroy(buffer);
}

static void *call_thread(void *argument)
{
	struct fake_call *call = argument;
	struct fake_broker *broker = call->broker;
	char path[128];

	snprintf(path, sizeof(path), "%.*s", (int)GRPC_SLICE_LENGTH(call->details.method),
		 (const char *)GRPC_SLICE_START_PTR(call->details.method));
	receive(call);
	broker->handler(call, path, broker->userdata);
	assert(call->finished);
	if (!call->close_plucked)
		pluck(call->queue, &call->cancelled);
	if (call->unpacked)
		protobuf_c_message_free_unpacked(call->unpacked, NULL);
	free(call->request);
	grpc_call_details_destroy(&call->details);
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_unref(call->call);
	grpc_completion_queue_shutdown(call->queue);
	grpc_completion_queue_destroy(call->queue);
	free(call);

	pthread_mutex_lock(&broker->lock);
	if (!--broker->n_calls)
		pthread_cond_broadcast(&broker->idle);
	pthread_mutex_unlock(&broker->lock);
	return NULL;
}

static struct fake_call *arm(struct fake_broker *broker)
{
	struct fake_call *call = calloc(1, sizeof(*call));

	assert(call);
	call->broker = broker;
	call->queue = grpc_completion_queue_create_for_pluck(NULL);
	grpc_call_details_init(&call->details);
	grpc_metadata_array_init(&call->metadata);
	assert(grpc_server_request_call(broker->server, &call->call, &call->details,
					&call->metadata, call->queue, broker->queue,
					call) == GRPC_CALL_OK);
	return call;
}

static void *dispatcher_thread(void *argument)
{
	struct fake_broker *broker = argument;

	arm(broker);
	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			broker->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		struct fake_call *call = event.tag;
		pthread_attr_t attributes;
		pthread_t thread;

		if (event.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		if (event.tag == broker) {
			/* The server is shut down; nothing else comes. */
			grpc_completion_queue_shutdown(broker->queue);
			continue;
		}
		if (!event.success) {
			grpc_call_details_destroy(&call->details);
			grpc_metadata_array_destroy(&call->metadata);
			grpc_completion_queue_shutdown(call->queue);
			grpc_completion_queue_destroy(call->queue);
			free(call);
			continue;
		}
		pthread_mutex_lock(&broker->lock);
		broker->n_calls++;
		pthread_mutex_unlock(&broker->lock);
		arm(broker);
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		assert(!pthread_create(&thread, &attributes, call_thread, call));
		pthread_attr_destroy(&attributes);
	}
}

static void serve_fd(struct fake_broker *broker, int connection)
{
	uint8_t request[32] = {0};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {request, sizeof(request)};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd = -1;

	assert(recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) == 32);
	if (CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	broker->fd_handler(connection, request, fd, broker->userdata);
	if (fd >= 0)
		close(fd);
	close(connection);
}

static void serve_grpc(struct fake_broker *broker, int connection)
{
	grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
	int duplicate = fcntl(connection, F_DUPFD_CLOEXEC, 3);

	assert(duplicate >= 0 && connection < 1024);
	pthread_mutex_lock(&broker->lock);
	assert(broker->n_connections < CONNECTIONS_MAX);
	broker->numbers[connection] = ++n_connections;
	if (broker->killed)
		shutdown(duplicate, SHUT_RDWR);
	broker->connections[broker->n_connections++] = duplicate;
	pthread_mutex_unlock(&broker->lock);
	assert(!fcntl(connection, F_SETFL, O_NONBLOCK));
	grpc_server_add_channel_from_fd(broker->server, connection, credentials);
	grpc_server_credentials_release(credentials);
}

static void *acceptor_thread(void *argument)
{
	struct fake_broker *broker = argument;

	for (;;) {
		struct pollfd p[] = {
			{.fd = broker->listener, .events = POLLIN},
			{.fd = broker->stop[0], .events = POLLIN},
		};
		char magic[4];
		int connection;

		assert(poll(p, 2, -1) > 0);
		if (p[1].revents)
			return NULL;
		/*
		 * Not through libc: ThreadSanitizer notes who used an fd, does not see gRPC close
		 * it, and would take the next use of the number for a race.
		 */
		connection = (int)syscall(SYS_accept4, broker->listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0)
			return NULL; /* killed */
		if (syscall(SYS_recvfrom, connection, magic, 4, MSG_PEEK | MSG_WAITALL, NULL,
			    NULL) != 4)
			close(connection);
		else if (!memcmp(magic, "IOFD", 4))
			serve_fd(broker, connection);
		else
			serve_grpc(broker, connection);
	}
}

struct fake_broker *fake_broker_new(fake_handler_t handler, fake_fd_handler_t fd_handler,
				    void *userdata)
{
	char directory[32] = "/tmp/ioasid-lib-XXXXXX", path[48];
	struct fake_broker *broker;

	assert(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	broker = fake_broker_new_at(path, handler, fd_handler, userdata);
	strcpy(broker->directory, directory);
	return broker;
}

struct fake_broker *fake_broker_new_at(const char *path, fake_handler_t handler,
				       fake_fd_handler_t fd_handler, void *userdata)
{
	struct fake_broker *broker = calloc(1, sizeof(*broker));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	assert(broker && strlen(path) < sizeof(broker->path));
	broker->handler = handler;
	broker->fd_handler = fd_handler;
	broker->userdata = userdata;
	pthread_mutex_init(&broker->lock, NULL);
	pthread_cond_init(&broker->idle, NULL);
	strcpy(broker->path, path);
	strcpy(address.sun_path, broker->path);
	unlink(path);
	broker->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert(!bind(broker->listener, (struct sockaddr *)&address, sizeof(address)));
	assert(!listen(broker->listener, 64));
	assert(!pipe2(broker->stop, O_CLOEXEC));

	grpc_init();
	broker->server = grpc_server_create(NULL, NULL);
	broker->queue = grpc_completion_queue_create_for_next(NULL);
	grpc_server_register_completion_queue(broker->server, broker->queue, NULL);
	grpc_server_start(broker->server);
	assert(!pthread_create(&broker->dispatcher, NULL, dispatcher_thread, broker));
	assert(!pthread_create(&broker->acceptor, NULL, acceptor_thread, broker));
	return broker;
}

void fake_broker_hang_up(struct fake_broker *broker)
{
	pthread_mutex_lock(&broker->lock);
	for (size_t i = 0; i < broker->n_connections; i++)
		shutdown(broker->connections[i], SHUT_RDWR);
	pthread_mutex_unlock(&broker->lock);
}

void fake_broker_kill(struct fake_broker *broker)
{
	pthread_mutex_lock(&broker->lock);
	broker->killed = true;
	shutdown(broker->listener, SHUT_RDWR);
	pthread_mutex_unlock(&broker->lock);
	fake_broker_hang_up(broker);
}

static void wait_idle(struct fake_broker *broker)
{
	pthread_mutex_lock(&broker->lock);
	while (broker->n_calls)
		pthread_cond_wait(&broker->idle, &broker->lock);
	pthread_mutex_unlock(&broker->lock);
}

void fake_broker_free(struct fake_broker *broker)
{
	if (!broker)
		return;
	assert(write(broker->stop[1], "", 1) == 1);
	pthread_join(broker->acceptor, NULL);
	close(broker->listener);
	fake_broker_hang_up(broker);
	wait_idle(broker);
	grpc_server_shutdown_and_notify(broker->server, broker->queue, broker);
	grpc_server_cancel_all_calls(broker->server);
	pthread_join(broker->dispatcher, NULL);
	/* Some may have come before the server was shut. */
	wait_idle(broker);
	grpc_server_destroy(broker->server);
	grpc_completion_queue_destroy(broker->queue);
	grpc_shutdown();
	for (size_t i = 0; i < broker->n_connections; i++)
		close(broker->connections[i]);
	close(broker->stop[0]);
	close(broker->stop[1]);
	if (*broker->directory) {
		unlink(broker->path);
		rmdir(broker->directory);
	}
	pthread_cond_destroy(&broker->idle);
	pthread_mutex_destroy(&broker->lock);
	free(broker);
}

const char *fake_broker_path(const struct fake_broker *broker)
{
	return broker->path;
}

uint64_t fake_call_connection(const struct fake_call *call)
{
	struct fake_broker *broker = call->broker;
	char *peer = grpc_call_get_peer(call->call);
	uint64_t number;
	int fd;

	assert(sscanf(peer, "fd:%d", &fd) == 1 && fd >= 0 && fd < 1024);
	pthread_mutex_lock(&broker->lock);
	number = broker->numbers[fd];
	pthread_mutex_unlock(&broker->lock);
	gpr_free(peer);
	return number;
}

const uint8_t *fake_call_request(struct fake_call *call, size_t *ret_length)
{
	*ret_length = call->n_request;
	return call->request;
}

void *fake_call_unpack(struct fake_call *call, const ProtobufCMessageDescriptor *descriptor)
{
	if (!call->unpacked)
		call->unpacked =
			protobuf_c_message_unpack(descriptor, NULL, call->n_request, call->request);
	assert(call->unpacked && call->unpacked->descriptor == descriptor);
	return call->unpacked;
}

bool fake_call_send_bytes(struct fake_call *call, const void *bytes, size_t length)
{
	grpc_slice slice = grpc_slice_from_copied_buffer(bytes, length);
	grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_op ops[2] = {0};
	size_t n = 0;
	bool ok;

	grpc_slice_unref(slice);
	if (!call->metadata_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->metadata_sent = true;
	ops[n].op = GRPC_OP_SEND_MESSAGE;
	ops[n++].data.send_message.send_message = buffer;
	ok = batch(call, ops, n);
	grpc_byte_buffer_destroy(buffer);
	return ok;
}

bool fake_call_send(struct fake_call *call, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(length + 1);
	bool ok;

	assert(bytes);
	protobuf_c_message_pack(message, bytes);
	ok = fake_call_send_bytes(call, bytes, length);
	free(bytes);
	return ok;
}

void fake_call_finish(struct fake_call *call, int code, const char *message, const void *details,
		      size_t n_details)
{
	grpc_slice text = grpc_slice_from_copied_string(message);
	grpc_metadata trailing = {
		.key = grpc_slice_from_static_string("grpc-status-details-bin"),
	};
	grpc_op ops[2] = {0};
	size_t n = 0;

	if (!call->metadata_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->metadata_sent = true;
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n].data.send_status_from_server.status = (grpc_status_code)code;
	ops[n].data.send_status_from_server.status_details = &text;
	if (details) {
		trailing.value = grpc_slice_from_copied_buffer(details, n_details);
		ops[n].data.send_status_from_server.trailing_metadata_count = 1;
		ops[n].data.send_status_from_server.trailing_metadata = &trailing;
	}
	n++;
	batch(call, ops, n);
	if (details)
		grpc_slice_unref(trailing.value);
	grpc_slice_unref(text);
	call->finished = true;
}

void fake_call_reply(struct fake_call *call, const ProtobufCMessage *message)
{
	fake_call_send(call, message);
	fake_call_finish(call, 0, "", NULL, 0);
}

void fake_call_wait_cancelled(struct fake_call *call)
{
	assert(!call->close_plucked);
	pluck(call->queue, &call->cancelled);
	call->close_plucked = true;
}
