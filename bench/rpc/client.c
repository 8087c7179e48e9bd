/* SPDX-License-Identifier: Apache-2.0 */
/* A closed loop of unary calls on one connection, the same for both servers. */
#include "bench.h"

#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct call {
	struct lane lane;
	grpc_call *call;
	grpc_metadata_array headers;
	grpc_metadata_array trailers;
	grpc_byte_buffer *answer;
	grpc_status_code status;
	grpc_slice status_message;
	uint64_t started;
	bool done;
};

void client_open(struct client *client, const char *path, pid_t server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	client->server = server;
	snprintf(client->socket, sizeof(client->socket), "%s", path);
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("cannot connect to %s", path);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	client->cq = grpc_completion_queue_create_for_next(NULL);
	client->channel = grpc_channel_create_from_fd("ioasid", fd, credentials, NULL);
	grpc_channel_credentials_release(credentials);
}

void client_close(struct client *client)
{
	grpc_channel_destroy(client->channel);
	grpc_completion_queue_shutdown(client->cq);
	while (grpc_completion_queue_next(client->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
		       .type != GRPC_QUEUE_SHUTDOWN)
		;
	grpc_completion_queue_destroy(client->cq);
}

static void call_start(struct client *client, struct call *call, const char *path,
		       const uint8_t *bytes, size_t size)
{
	grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, size);
	grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice method = grpc_slice_from_static_string(path);
	grpc_op ops[6];

	grpc_slice_unref(slice);
	call->call =
		grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->cq,
					 method, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	grpc_metadata_array_init(&call->headers);
	grpc_metadata_array_init(&call->trailers);
	call->answer = NULL;
	call->status_message = grpc_empty_slice();
	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = message;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->headers;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &call->answer;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &call->trailers;
	ops[5].data.recv_status_on_client.status = &call->status;
	ops[5].data.recv_status_on_client.status_details = &call->status_message;
	call->started = now_ns();
	if (grpc_call_start_batch(call->call, ops, 6, call, NULL) != GRPC_CALL_OK)
		die("gRPC refused a batch");
	grpc_byte_buffer_destroy(message);
}

static void call_end(struct call *call, const char *what, grpc_status_code expected)
{
	if (call->status != expected) {
		char *text = grpc_slice_to_c_string(call->status_message);

		die("%s: status %d, expected %d: %s", what, call->status, expected, text);
	}
	grpc_metadata_array_destroy(&call->headers);
	grpc_metadata_array_destroy(&call->trailers);
	grpc_byte_buffer_destroy(call->answer);
	call->answer = NULL;
	grpc_slice_unref(call->status_message);
	grpc_call_unref(call->call);
}

/* The bytes of an answer, copied; the caller unrefs. */
static grpc_slice call_answer(struct call *call)
{
	grpc_byte_buffer_reader reader;
	grpc_slice slice;

	if (!call->answer || !grpc_byte_buffer_reader_init(&reader, call->answer))
		return grpc_empty_slice();
	slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	return slice;
}

static struct call *client_next(struct client *client)
{
	grpc_event event =
		grpc_completion_queue_next(client->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

	return event.tag;
}

ProtobufCMessage *client_call(struct client *client, const char *path,
			      const ProtobufCMessage *request,
			      const ProtobufCMessageDescriptor *descriptor)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	ProtobufCMessage *answer = NULL;
	struct call call = {0};
	uint8_t *bytes = malloc(size + 1);
	grpc_slice slice;

	if (!bytes)
		die("out of memory");
	protobuf_c_message_pack(request, bytes);
	call_start(client, &call, path, bytes, size);
	free(bytes);
	client_next(client);
	slice = call_answer(&call);
	if (descriptor && call.status == GRPC_STATUS_OK)
		answer = protobuf_c_message_unpack(descriptor, NULL, GRPC_SLICE_LENGTH(slice),
						   GRPC_SLICE_START_PTR(slice));
	grpc_slice_unref(slice);
	call_end(&call, path, GRPC_STATUS_OK);
	if (descriptor && !answer)
		die("%s: an answer that cannot be read", path);
	return answer;
}

static void lane_next(struct client *client, const struct workload *workload, struct call *call)
{
	uint8_t bytes[1024];
	const char *path;
	size_t size = workload->request(&call->lane, &path, bytes);

	call_start(client, call, path, bytes, size);
}

static void rest(unsigned us)
{
	struct timespec pause = {.tv_nsec = us * 1000L};

	if (us)
		nanosleep(&pause, NULL);
}

struct result client_run(struct client *client, const struct workload *workload, unsigned n_lanes,
			 double seconds, unsigned pause_us)
{
	struct call *calls = calloc(n_lanes, sizeof(*calls));
	struct samples samples = {0};
	struct result result;
	uint64_t start, end, last = 0, cpu;
	unsigned n_running = n_lanes;

	if (!calls)
		die("out of memory");
	for (unsigned i = 0; i < n_lanes; i++) {
		calls[i].lane.index = i;
		if (workload->prepare)
			workload->prepare(client, &calls[i].lane, n_lanes);
	}
	cpu = client->server ? process_cpu_ns(client->server) : 0;
	start = now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	for (unsigned i = 0; i < n_lanes; i++)
		lane_next(client, workload, &calls[i]);
	while (n_running) {
		struct call *call = client_next(client);

		last = now_ns();
		samples_add(&samples, last - call->started);
		if (workload->answer) {
			grpc_slice slice = call_answer(call);

			workload->answer(&call->lane, GRPC_SLICE_START_PTR(slice),
					 GRPC_SLICE_LENGTH(slice));
			grpc_slice_unref(slice);
		}
		call_end(call, workload->name, workload->status);
		call->lane.step++;
		if (last >= end && call->lane.step % workload->period == 0) {
			n_running--;
			continue;
		}
		rest(pause_us);
		lane_next(client, workload, call);
	}
	cpu = client->server ? process_cpu_ns(client->server) - cpu : 0;
	result.cpu_us = cpu / 1e3 / samples.n;
	result.rate = samples.n / ((last - start) / 1e9);
	result.p50_us = samples_percentile_us(&samples, 0.5);
	result.p99_us = samples_percentile_us(&samples, 0.99);
	samples_free(&samples);
	for (unsigned i = 0; i < n_lanes; i++)
		if (workload->finish)
			workload->finish(client, &calls[i].lane, n_lanes);
	free(calls);
	return result;
}
