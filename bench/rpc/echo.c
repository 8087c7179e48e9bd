/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The baseline: an empty unary echo on gRPC's core library, as lean as one can write it.  It
 * accepts, gives the connection to a grpc_server of its own on one shared completion queue,
 * reads the message and answers OK with an empty one.  No method table, no identity, no
 * threads of its own, no limits; defaults of the library but for the same lack of
 * compression that ioasidd has, so that the comparison flatters nobody.
 */
#include "bench.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct echo_call {
	grpc_server *server;
	grpc_call *call;
	grpc_metadata_array metadata;
	grpc_call_details details;
	grpc_byte_buffer *message;
	int cancelled;
	enum { REQUESTED, RECEIVING, ANSWERING } phase;
};

static grpc_completion_queue *cq;
static grpc_byte_buffer *empty;

static void echo_request(struct echo_call *call)
{
	call->phase = REQUESTED;
	call->message = NULL;
	grpc_metadata_array_init(&call->metadata);
	grpc_call_details_init(&call->details);
	if (grpc_server_request_call(call->server, &call->call, &call->details, &call->metadata, cq,
				     cq, call) != GRPC_CALL_OK)
		free(call);
}

static struct echo_call *echo_call_new(grpc_server *server)
{
	struct echo_call *call = calloc(1, sizeof(*call));

	if (!call)
		die("out of memory");
	call->server = server;
	return call;
}

static void echo_receive(struct echo_call *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->message;
	call->phase = RECEIVING;
	grpc_call_start_batch(call->call, &op, 1, call, NULL);
}

static void echo_answer(struct echo_call *call)
{
	grpc_op ops[4];

	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = empty;
	ops[2].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[2].data.send_status_from_server.status = GRPC_STATUS_OK;
	ops[3].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	ops[3].data.recv_close_on_server.cancelled = &call->cancelled;
	call->phase = ANSWERING;
	grpc_call_start_batch(call->call, ops, 4, call, NULL);
}

static void echo_event(struct echo_call *call, bool ok)
{
	switch (call->phase) {
	case REQUESTED:
		grpc_metadata_array_destroy(&call->metadata);
		grpc_call_details_destroy(&call->details);
		if (!ok) {
			free(call);
			return;
		}
		echo_request(echo_call_new(call->server));
		echo_receive(call);
		return;
	case RECEIVING:
		grpc_byte_buffer_destroy(call->message);
		echo_answer(call);
		return;
	case ANSWERING:
		grpc_call_unref(call->call);
		free(call);
		return;
	}
}

static void *echo_accept(void *userdata)
{
	int listener = *(int *)userdata;
	grpc_arg args[] = {
		{.type = GRPC_ARG_INTEGER, .key = (char *)GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION},
		{.type = GRPC_ARG_INTEGER,
		 .key = (char *)GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION},
		{.type = GRPC_ARG_INTEGER, .key = (char *)GRPC_ARG_ENABLE_CHANNELZ},
	};
	grpc_channel_args channel_args = {.num_args = 3, .args = args};

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		grpc_server_credentials *credentials;
		grpc_server *server;

		if (fd < 0)
			continue;
		server = grpc_server_create(&channel_args, NULL);
		grpc_server_register_completion_queue(server, cq, NULL);
		grpc_server_start(server);
		for (int i = 0; i < 2; i++)
			echo_request(echo_call_new(server));
		credentials = grpc_insecure_server_credentials_create();
		grpc_server_add_channel_from_fd(server, fd, credentials);
		grpc_server_credentials_release(credentials);
	}
	return NULL;
}

void echo_serve(const char *socket_path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static int listener;
	pthread_t thread;

	strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 64) < 0)
		die("cannot listen on %s", socket_path);
	grpc_init();
	cq = grpc_completion_queue_create_for_next(NULL);
	empty = grpc_raw_byte_buffer_create(NULL, 0);
	if (pthread_create(&thread, NULL, echo_accept, &listener))
		die("no thread");
	for (;;) {
		grpc_event event =
			grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

		echo_event(event.tag, event.success);
	}
}
