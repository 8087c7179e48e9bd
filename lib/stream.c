/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's stream on a queue of its own.  Four tags: the request that was sent, the
 * status that ends it, the read that is under way, and the wake from another thread.  The next
 * message is asked for only when the last one was taken, so that gRPC's flow control holds the
 * broker back.
 */
#include "stream.h"
#include "mend.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

static void *sent_tag(struct stream *stream)
{
	return &stream->sent;
}

static void *status_tag(struct stream *stream)
{
	return &stream->outcome;
}

static void *read_tag(struct stream *stream)
{
	return &stream->initial;
}

static void *wake_tag(struct stream *stream)
{
	return &stream->first;
}

static void pluck(struct stream *stream, void *tag)
{
	grpc_completion_queue_pluck(stream->queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

int stream_open(struct stream *stream, struct call *call, const struct method *method,
		const ProtobufCMessage *request, const _Atomic bool *stop)
{
	grpc_op send[3] = {0}, status = {0};
	grpc_byte_buffer *sent;
	struct link *link;
	int r;

	*stream = (struct stream){0};
	if (cancel_fired(call->cancel))
		return error_cancelled(method->name, call->ret_error);
	r = mend_enter(call, method, stop, &link, call->ret_error);
	if (r < 0)
		return r;
	r = call_pack(method, request, &sent, call->ret_error);
	if (r < 0) {
		link_unref(link);
		return r;
	}

	stream->client = ioasid_client_ref(call->client);
	stream->cancel = cancel_ref(call->cancel);
	stream->link = link;
	stream->method = method;
	stream->sent = sent;
	stream->first = true;
	stream->queue = client_queue_get(stream->client);
	stream->call = call_create(stream->link, method, stream->queue, call->deadline_us);
	grpc_metadata_array_init(&stream->initial);
	call_outcome_init(&stream->outcome);

	send[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	send[1].op = GRPC_OP_SEND_MESSAGE;
	send[1].data.send_message.send_message = sent;
	send[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	status.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	status.data.recv_status_on_client.trailing_metadata = &stream->outcome.trailing;
	status.data.recv_status_on_client.status = &stream->outcome.status;
	status.data.recv_status_on_client.status_details = &stream->outcome.details;
	/* Well-formed first batches on a fresh call are always accepted. */
	(void)grpc_call_start_batch(stream->call, send, 3, sent_tag(stream), NULL);
	(void)grpc_call_start_batch(stream->call, &status, 1, status_tag(stream), NULL);
	cancel_add(stream->cancel, &stream->node, stream->call);
	return 0;
}

/* The status; its tag is plucked once.  The call itself stays, for stream_cancel(). */
static int finish(struct stream *stream, struct ioasid_error **ret_error)
{
	struct ioasid_error *error = NULL;
	int r;

	stream->finished = true;
	cancel_remove(stream->cancel, &stream->node);
	pluck(stream, sent_tag(stream));
	pluck(stream, status_tag(stream));
	r = call_outcome_error(&stream->outcome, stream->link, stream->cancel, stream->method->name,
			       &error);
	if (r < 0) {
		if (mend_cuts_off(stream->client, stream->link, error))
			mend_break(stream->client, stream->link);
		if (ret_error)
			*ret_error = error;
		else
			ioasid_error_free(error);
		return r;
	}
	return error_make(
		&(const struct error_info){
			.error = -EPIPE,
			.code = IOASID_OK,
			.origin = IOASID_ORIGIN_BROKER,
			.reason = "STREAM_ENDED",
			.method = stream->method->name,
		},
		ret_error, "the broker has ended the stream");
}

int stream_read(struct stream *stream, struct result *into, void *ret_message,
		struct ioasid_error **ret_error)
{
	grpc_byte_buffer *received = NULL;
	grpc_op ops[2] = {0};
	int r;

	ops[0].op = GRPC_OP_RECV_MESSAGE;
	ops[0].data.recv_message.recv_message = &received;
	ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
	if (grpc_call_start_batch(stream->call, ops, stream->first ? 2 : 1, read_tag(stream),
				  NULL) == GRPC_CALL_OK)
		pluck(stream, read_tag(stream));
	stream->first = false;
	if (!received)
		return finish(stream, ret_error);
	stream->link->answered = true;
	r = call_unpack(stream->method, received, into, ret_message, ret_error);
	grpc_byte_buffer_destroy(received);
	return r;
}

void stream_cancel(struct stream *stream)
{
	grpc_call_cancel(stream->call, NULL);
}

void stream_wait(struct stream *stream)
{
	pluck(stream, wake_tag(stream));
}

void stream_wake(struct stream *stream)
{
	/* An empty batch completes at once. */
	(void)grpc_call_start_batch(stream->call, NULL, 0, wake_tag(stream), NULL);
}

void stream_close(struct stream *stream)
{
	if (!stream->client)
		return;
	if (!stream->finished) {
		stream_cancel(stream);
		finish(stream, NULL);
	}
	grpc_call_unref(stream->call);
	grpc_byte_buffer_destroy(stream->sent);
	grpc_metadata_array_destroy(&stream->initial);
	call_outcome_deinit(&stream->outcome);
	client_queue_put(stream->client, stream->queue);
	ioasid_cancel_unref(stream->cancel);
	link_unref(stream->link);
	ioasid_client_unref(stream->client);
	*stream = (struct stream){0};
}
