/* SPDX-License-Identifier: Apache-2.0 */
/* A socket, a channel made of it, one call, one completion queue. */
#include "unary.h"

#include "auto.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>

#include <grpc/support/time.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A node has some hundred pods. */
#define ANSWER_MAX (16 << 20)

struct exchange {
	grpc_channel *channel;
	grpc_completion_queue *queue;
	grpc_call *call;
	grpc_byte_buffer *request;
	grpc_byte_buffer *answer;
	grpc_metadata_array headers;
	grpc_metadata_array trailers;
	grpc_status_code status;
	grpc_slice details;
};

static int connect_to(const char *path, unsigned timeout_ms, int *ret_fd)
{
	const struct timeval wait = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	AUTO_CLOSE int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* connect() waits for room in the backlog no longer than sends may take. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static grpc_channel *channel_of(int fd)
{
	grpc_arg args[] = {
		{
			.type = GRPC_ARG_INTEGER,
			.key = (char *)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
			.value.integer = ANSWER_MAX,
		},
		{
			.type = GRPC_ARG_STRING,
			.key = (char *)GRPC_ARG_DEFAULT_AUTHORITY,
			.value.string = (char *)"localhost",
		},
	};
	const grpc_channel_args channel_args = {sizeof(args) / sizeof(args[0]), args};
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	grpc_channel *channel =
		grpc_channel_create_from_fd("kubelet", fd, credentials, &channel_args);

	grpc_channel_credentials_release(credentials);
	return channel;
}

static void exchange_init(struct exchange *x, int fd, const char *method,
			  const ProtobufCMessage *request, gpr_timespec deadline)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	grpc_slice slice = grpc_slice_malloc(size), path = grpc_slice_from_copied_string(method);

	memset(x, 0, sizeof(*x));
	protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
	x->request = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	grpc_metadata_array_init(&x->headers);
	grpc_metadata_array_init(&x->trailers);
	x->details = grpc_empty_slice();
	x->queue = grpc_completion_queue_create_for_next(NULL);
	x->channel = channel_of(fd);
	x->call = grpc_channel_create_call(x->channel, NULL, GRPC_PROPAGATE_DEFAULTS, x->queue,
					   path, NULL, deadline, NULL);
	grpc_slice_unref(path);
}

static void exchange_deinit(struct exchange *x)
{
	grpc_call_unref(x->call);
	grpc_channel_destroy(x->channel);
	grpc_completion_queue_shutdown(x->queue);
	while (grpc_completion_queue_next(x->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
		       .type != GRPC_QUEUE_SHUTDOWN)
		;
	grpc_completion_queue_destroy(x->queue);
	grpc_byte_buffer_destroy(x->request);
	grpc_byte_buffer_destroy(x->answer);
	grpc_metadata_array_destroy(&x->headers);
	grpc_metadata_array_destroy(&x->trailers);
	grpc_slice_unref(x->details);
}

/* The call has a deadline, so its one batch ends. */
static bool exchange_run(struct exchange *x)
{
	grpc_op ops[6];

	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = x->request;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &x->headers;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &x->answer;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &x->trailers;
	ops[5].data.recv_status_on_client.status = &x->status;
	ops[5].data.recv_status_on_client.status_details = &x->details;
	if (grpc_call_start_batch(x->call, ops, 6, x, NULL) != GRPC_CALL_OK)
		return false;
	grpc_completion_queue_next(x->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	return true;
}

static ProtobufCMessage *exchange_answer(struct exchange *x, const ProtobufCMessageDescriptor *type)
{
	grpc_byte_buffer_reader reader;
	ProtobufCMessage *message;
	grpc_slice all;

	if (!x->answer || !grpc_byte_buffer_reader_init(&reader, x->answer))
		return NULL;
	all = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	message = message_unpack(type, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all));
	grpc_slice_unref(all);
	return message;
}

static int explain(const struct exchange *x, const char *path, const char *method,
		   char problem[UNARY_PROBLEM_SIZE])
{
	size_t n = GRPC_SLICE_LENGTH(x->details);

	snprintf(problem, UNARY_PROBLEM_SIZE, "%s of %s: status %d: %.*s", method, path, x->status,
		 (int)(n < 300 ? n : 300), (const char *)GRPC_SLICE_START_PTR(x->details));
	if (x->status == GRPC_STATUS_DEADLINE_EXCEEDED)
		return -ETIMEDOUT;
	return x->status == GRPC_STATUS_UNAVAILABLE ? -ECONNRESET : -EPROTO;
}

int unary_call(const char *socket_path, const char *method, const ProtobufCMessage *request,
	       const ProtobufCMessageDescriptor *answer_type, unsigned timeout_ms,
	       ProtobufCMessage **ret_answer, char ret_problem[UNARY_PROBLEM_SIZE])
{
	ProtobufCMessage *answer = NULL;
	struct exchange x;
	int fd = -1, r;

	r = connect_to(socket_path, timeout_ms, &fd);
	if (r) {
		snprintf(ret_problem, UNARY_PROBLEM_SIZE, "%s: %s", socket_path, strerror(-r));
		return r;
	}
	exchange_init(&x, fd, method, request,
		      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
				   gpr_time_from_millis(timeout_ms, GPR_TIMESPAN)));
	if (!exchange_run(&x)) {
		snprintf(ret_problem, UNARY_PROBLEM_SIZE, "%s: gRPC took no call", socket_path);
		r = -EIO;
	} else if (x.status != GRPC_STATUS_OK) {
		r = explain(&x, socket_path, method, ret_problem);
	} else {
		answer = exchange_answer(&x, answer_type);
		if (!answer) {
			snprintf(ret_problem, UNARY_PROBLEM_SIZE,
				 "%s of %s: its answer cannot be read", method, socket_path);
			r = -EPROTO;
		}
	}
	exchange_deinit(&x);
	if (!r)
		*ret_answer = answer;
	return r;
}
