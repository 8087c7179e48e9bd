/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One RPC, from the slot that waits for it to its last batch.  A unary call costs three
 * events of the completion queue: the request, its message, and one batch that holds the
 * whole answer.  Only a call that does not answer at once asks separately to be told when
 * its caller goes away.
 *
 * What it never does: judge a request.  It finds the method by name and carries bytes.
 *
 * Back-pressure: a stream has one message under way; the next is asked for when gRPC has
 * taken the last, which it does only as the client reads.  State thread only.
 */
#include "server.h"

#include "clock.h"
#include "refusal.h"
#include "services.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define FREE_CALLS_MAX 1024
/*
 * gRPC looks at its sockets only when its queue is empty; a stream whose messages leave at
 * once would keep it full for good.  So after this many messages streams wait for a look.
 */
#define SENDS_BETWEEN_POLLS 16
/*
 * For the same reason: so many requests are taken up, then what else has come waits for a
 * look at the sockets of others.  Without it one client that sends requests faster than they
 * are answered is served alone.
 */
#define REQUESTS_BETWEEN_POLLS 32
/*
 * Calls that were reset before their request could be read, as a burst and a second.  They
 * do not count as streams of HTTP/2, so nothing else limits them (CVE-2023-44487).
 */
#define RESETS_MAX    4096
#define RESETS_SECOND 1024
/* Message and details must fit in the 8 KiB of metadata that clients take by default. */
#define TRAILER_MAX 5120

static void request_fired(struct cq_tag *tag, bool ok);
static void receive_fired(struct cq_tag *tag, bool ok);
static void close_fired(struct cq_tag *tag, bool ok);
static void send_fired(struct cq_tag *tag, bool ok);
static void end_fired(struct cq_tag *tag, bool ok);

/* ---- life ---- */

static struct call *call_new(struct connection *connection)
{
	struct transport *transport = connection->transport;
	struct call *call = transport->free_calls;

	if (call) {
		transport->free_calls = call->next_free;
		transport->n_free_calls--;
		memset(call, 0, sizeof(*call));
	} else {
		call = calloc(1, sizeof(*call));
		if (!call)
			return NULL;
	}
	call->connection = connection;
	call->request_tag.fired = request_fired;
	call->receive_tag.fired = receive_fired;
	call->close_tag.fired = close_fired;
	call->send_tag.fired = send_fired;
	call->end_tag.fired = end_fired;
	call->status_message = grpc_empty_slice();
	call->status_details = grpc_empty_slice();
	list_init(&call->deferred_link);
	list_append(&connection->calls, &call->link);
	return call;
}

static void call_free(struct call *call)
{
	struct transport *transport = call->connection->transport;

	list_remove(&call->link);
	list_remove(&call->deferred_link);
	if (transport->n_free_calls == FREE_CALLS_MAX) {
		free(call);
		return;
	}
	call->next_free = transport->free_calls;
	transport->free_calls = call;
	transport->n_free_calls++;
}

void calls_trim(struct transport *transport)
{
	while (transport->free_calls) {
		struct call *call = transport->free_calls;

		transport->free_calls = call->next_free;
		free(call);
	}
	transport->n_free_calls = 0;
}

/* gRPC has taken the message, or dropped it. */
static void message_sent(struct call *call)
{
	*call->connection->unsent -= call->n_unsent;
	call->n_unsent = 0;
}

/*
 * Frees the call if it was answered and gRPC holds nothing of it.  The batch whose tag is
 * being handled still counts, so the call lives until the end of its handler.
 */
static void call_release(struct call *call)
{
	struct connection *connection = call->connection;

	if (!call->answered || call->n_batches)
		return;
	message_sent(call);
	grpc_byte_buffer_destroy(call->sending);
	grpc_byte_buffer_destroy(call->response);
	grpc_slice_unref(call->status_message);
	grpc_slice_unref(call->status_details);
	grpc_call_unref(call->grpc);
	connection->n_calls--;
	call_free(call);
	connection_release(connection);
}

static bool call_batch(struct call *call, const grpc_op *ops, size_t n_ops, struct cq_tag *tag)
{
	grpc_call_error error = grpc_call_start_batch(call->grpc, ops, n_ops, tag, NULL);

	if (error == GRPC_CALL_OK) {
		call->n_batches++;
		return true;
	}
	transport_log(call->connection->transport, LOG_ERR, "gRPC refused a batch: %s",
		      grpc_call_error_to_string(error));
	return false;
}

/* ---- the answer ---- */

static void call_add_headers(struct call *call, grpc_op *ops, size_t *n_ops)
{
	if (call->headers_sent)
		return;
	call->headers_sent = true;
	ops[(*n_ops)++].op = GRPC_OP_SEND_INITIAL_METADATA;
}

static void call_add_close(struct call *call, grpc_op *ops, size_t *n_ops)
{
	if (call->close_requested)
		return;
	call->close_requested = true;
	ops[*n_ops].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	ops[(*n_ops)++].data.recv_close_on_server.cancelled = &call->cancelled;
}

/* Sends the outcome once it is known and the last message of a stream is out. */
static void call_end(struct call *call)
{
	grpc_op ops[4];
	grpc_metadata trailer;
	size_t n_ops = 0;
	grpc_op *op;

	if (!call->finished || call->answered || call->send_in_flight)
		return;
	memset(ops, 0, sizeof(ops));
	call_add_headers(call, ops, &n_ops);
	if (call->response) {
		op = &ops[n_ops++];
		op->op = GRPC_OP_SEND_MESSAGE;
		op->data.send_message.send_message = call->response;
	}
	op = &ops[n_ops++];
	op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	op->data.send_status_from_server.status = call->status;
	if (!GRPC_SLICE_IS_EMPTY(call->status_message))
		op->data.send_status_from_server.status_details = &call->status_message;
	if (!GRPC_SLICE_IS_EMPTY(call->status_details)) {
		memset(&trailer, 0, sizeof(trailer));
		trailer.key = grpc_slice_from_static_string("grpc-status-details-bin");
		trailer.value = call->status_details;
		op->data.send_status_from_server.trailing_metadata_count = 1;
		op->data.send_status_from_server.trailing_metadata = &trailer;
	}
	call_add_close(call, ops, &n_ops);
	call->answered = true;
	if (!call_batch(call, ops, n_ops, &call->end_tag))
		call_release(call);
}

static void connection_count_reset(struct connection *connection)
{
	uint64_t now = clock_us(), since = now - connection->resets_at;

	connection->resets_at = now;
	if (since / (1000000 / RESETS_SECOND) >= connection->n_resets)
		connection->n_resets = 0;
	else
		connection->n_resets -= since / (1000000 / RESETS_SECOND);
	if (++connection->n_resets != RESETS_MAX || connection->closing)
		return;
	connection_expel(connection, "it resets its calls as soon as it makes them");
}

static void end_fired(struct cq_tag *tag, bool ok)
{
	struct call *call = container_of(tag, struct call, end_tag);

	if (call->cancelled && !call->was_read)
		connection_count_reset(call->connection);
	call->n_batches--;
	call_release(call);
}

static grpc_byte_buffer *message_pack(struct call *call, const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	grpc_slice slice = grpc_slice_malloc(size);
	grpc_byte_buffer *buffer;

	protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	call->n_unsent = size;
	*call->connection->unsent += size;
	return buffer;
}

/* message and details are copied. */
static void call_set_refusal(struct call *call, grpc_status_code status, const char *message,
			     const uint8_t *details, size_t n_details)
{
	size_t n_message = message ? strnlen(message, TRAILER_MAX / 4) : 0;

	call->finished = true;
	call->status = status;
	call->status_message = grpc_slice_from_copied_buffer(message, n_message);
	if (n_details && n_message + n_details <= TRAILER_MAX)
		call->status_details =
			grpc_slice_from_copied_buffer((const char *)details, n_details);
}

static void call_refuse(struct call *call, grpc_status_code status, const char *reason,
			const char *message)
{
	uint8_t details[REFUSAL_DETAILS_MAX];

	call_set_refusal(call, status, message, details,
			 refusal_details(status, reason, message, details));
}

/* response: NULL for a stream. */
static void call_set_success(struct call *call, const ProtobufCMessage *response)
{
	call->finished = true;
	call->status = GRPC_STATUS_OK;
	if (response)
		call->response = message_pack(call, response);
}

void call_finish(struct call *call, grpc_status_code status, const char *reason,
		 const char *message, const ProtobufCMessage *response)
{
	if (call->finished)
		return;
	if (status == GRPC_STATUS_OK)
		call_set_success(call, response);
	else
		call_refuse(call, status, reason, message);
	call_end(call);
}

/* ---- messages of streams ---- */

void call_send(struct call *call, const ProtobufCMessage *message)
{
	grpc_op ops[2];
	size_t n_ops = 0;

	memset(ops, 0, sizeof(ops));
	call_add_headers(call, ops, &n_ops);
	call->sending = message_pack(call, message);
	ops[n_ops].op = GRPC_OP_SEND_MESSAGE;
	ops[n_ops++].data.send_message.send_message = call->sending;
	call->send_in_flight = call_batch(call, ops, n_ops, &call->send_tag);
	if (!call->send_in_flight) {
		message_sent(call);
		grpc_byte_buffer_destroy(call->sending);
		call->sending = NULL;
	}
}

static void call_writable(struct call *call)
{
	if (call->finished || call->gone)
		return;
	if (call->service)
		call->service->writable(call);
	else
		broker_call_writable(call->broker_call);
}

static void send_fired(struct cq_tag *tag, bool ok)
{
	struct call *call = container_of(tag, struct call, send_tag);
	struct transport *transport = call->connection->transport;

	message_sent(call);
	grpc_byte_buffer_destroy(call->sending);
	call->sending = NULL;
	call->send_in_flight = false;
	call_end(call);
	/* A message that could not be sent: the caller is gone, which close_fired() tells. */
	if (ok && !call->finished) {
		if (transport->sends_since_poll++ < SENDS_BETWEEN_POLLS)
			call_writable(call);
		else
			list_append(&transport->deferred, &call->deferred_link);
	}
	call->n_batches--;
	call_release(call);
}

void calls_resume(struct transport *transport)
{
	struct list now;

	transport->sends_since_poll = 0;
	if (list_is_empty(&transport->deferred))
		return;
	/* Those that are deferred again meanwhile wait for the next look. */
	now = transport->deferred;
	now.next->prev = &now;
	now.prev->next = &now;
	list_init(&transport->deferred);
	while (!list_is_empty(&now)) {
		struct call *call = container_of(now.next, struct call, deferred_link);

		list_remove(&call->deferred_link);
		call_writable(call);
	}
}

/* ---- the broker's half ---- */

static void broker_finished(void *userdata, const struct broker_answer *answer)
{
	struct call *call = userdata;

	call->broker_running = false;
	call->broker_call = NULL;
	/* The server ends and cut the call short: the caller did not, and may try again. */
	if (answer->code == GRPC_STATUS_CANCELLED && call->connection->transport->stopping) {
		call_finish(call, GRPC_STATUS_UNAVAILABLE, "SHUTTING_DOWN",
			    "the server is shutting down", NULL);
		return;
	}
	if (answer->code == GRPC_STATUS_OK)
		call_set_success(call, answer->response);
	else
		call_set_refusal(call, answer->code, answer->message, answer->details,
				 answer->n_details);
	call_end(call);
}

static void broker_sends(void *userdata, const ProtobufCMessage *message)
{
	call_send(userdata, message);
}

static const struct broker_call_ops broker_ops = {
	.finish = broker_finished,
	.send = broker_sends,
};

/* Asks to be told when the caller goes away; a stream's headers go out with it. */
static void call_watch_close(struct call *call, bool with_headers)
{
	grpc_op ops[2];
	size_t n_ops = 0;

	memset(ops, 0, sizeof(ops));
	if (with_headers)
		call_add_headers(call, ops, &n_ops);
	call_add_close(call, ops, &n_ops);
	if (n_ops)
		call_batch(call, ops, n_ops, &call->close_tag);
}

static void close_fired(struct cq_tag *tag, bool ok)
{
	struct call *call = container_of(tag, struct call, close_tag);

	if (call->cancelled && !call->finished)
		call_cancel(call);
	call->n_batches--;
	call_release(call);
}

void call_cancel(struct call *call)
{
	if (call->gone)
		return;
	call->gone = true;
	list_remove(&call->deferred_link);
	if (call->broker_running)
		broker_call_cancel(call->broker_call);
	else if (call->service)
		call_finish(call, GRPC_STATUS_CANCELLED, "CANCELLED", "the caller went away", NULL);
	/* Else it waits for its message, which gRPC fails, or has its answer already. */
}

static void call_start(struct call *call, const uint8_t *bytes, size_t length)
{
	call->was_read = true;
	if (call->service) {
		if (call->service->is_streaming)
			call_watch_close(call, true);
		call->service->received(call, bytes, length);
		return;
	}
	if (broker_method_is_streaming(call->method))
		call_watch_close(call, true);
	call->broker_running = true;
	broker_call_start(call->connection->session, call->method, bytes, length, &broker_ops, call,
			  &call->broker_call);
	if (!call->finished)
		call_watch_close(call, false);
}

static bool call_can_start(struct call *call)
{
	if (call->finished)
		return false;
	if (call->connection->closing || call->gone) {
		call_finish(call, GRPC_STATUS_UNAVAILABLE, "SHUTTING_DOWN",
			    "the connection is being closed", NULL);
		return false;
	}
	return true;
}

/* Gives the message's bytes to whoever serves the call, without a copy if they lie together. */
static void call_read(struct call *call, grpc_byte_buffer *received)
{
	grpc_byte_buffer_reader reader;
	grpc_slice *only, whole;

	if (!grpc_byte_buffer_reader_init(&reader, received)) {
		call_finish(call, GRPC_STATUS_INTERNAL, "INTERNAL", "unreadable message", NULL);
		return;
	}
	if (received->data.raw.slice_buffer.count == 1 &&
	    grpc_byte_buffer_reader_peek(&reader, &only)) {
		call_start(call, GRPC_SLICE_START_PTR(*only), GRPC_SLICE_LENGTH(*only));
	} else {
		whole = grpc_byte_buffer_reader_readall(&reader);
		call_start(call, GRPC_SLICE_START_PTR(whole), GRPC_SLICE_LENGTH(whole));
		grpc_slice_unref(whole);
	}
	grpc_byte_buffer_reader_destroy(&reader);
}

static void receive_fired(struct cq_tag *tag, bool ok)
{
	struct call *call = container_of(tag, struct call, receive_tag);
	grpc_byte_buffer *received = call->received;

	/* A stream may live for days: its request need not. */
	call->received = NULL;
	if (!call_can_start(call))
		;
	else if (ok && received)
		call_read(call, received);
	else if (call->service && call->service->is_streaming)
		call->service->received(call, NULL, 0);
	else
		call_finish(call, GRPC_STATUS_INVALID_ARGUMENT, "MALFORMED",
			    "the call carries no request message", NULL);
	grpc_byte_buffer_destroy(received);
	call->n_batches--;
	call_release(call);
}

void call_receive(struct call *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->received;
	if (!call_batch(call, &op, 1, &call->receive_tag))
		call_finish(call, GRPC_STATUS_INTERNAL, "INTERNAL", "the call cannot be read",
			    NULL);
}

/* ---- the request ---- */

int call_arm(struct connection *connection)
{
	grpc_completion_queue *cq = connection->transport->cq;
	struct call *call = call_new(connection);
	grpc_call_error error;

	if (!call)
		return -ENOMEM;
	grpc_metadata_array_init(&call->metadata);
	grpc_call_details_init(&call->details);
	error = grpc_server_request_call(connection->server, &call->grpc, &call->details,
					 &call->metadata, cq, cq, &call->request_tag);
	if (error == GRPC_CALL_OK)
		return 0;
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_details_destroy(&call->details);
	call_free(call);
	return -EIO;
}

static void connection_arm(struct connection *connection)
{
	if (connection->closing || call_arm(connection) == 0)
		return;
	transport_log(connection->transport, LOG_ERR, "no memory for the next call: closing uid %u",
		      connection->peer.uid);
	connection_kick(connection);
}

void calls_arm(struct transport *transport)
{
	transport->requests_since_poll = 0;
	while (!list_is_empty(&transport->unarmed)) {
		struct connection *connection =
			container_of(transport->unarmed.next, struct connection, unarmed_link);

		list_remove(&connection->unarmed_link);
		for (; connection->n_unarmed; connection->n_unarmed--)
			connection_arm(connection);
	}
}

/* Finds who serves the call; the path dies with the details. */
static void call_find_method(struct call *call)
{
	const char *path = (const char *)GRPC_SLICE_START_PTR(call->details.method);
	size_t length = GRPC_SLICE_LENGTH(call->details.method);

	call->method = broker_method_find(path, length);
	if (!call->method)
		call->service = service_find(path, length);
}

static void request_fired(struct cq_tag *tag, bool ok)
{
	struct call *call = container_of(tag, struct call, request_tag);
	struct connection *connection = call->connection;
	struct transport *transport = connection->transport;

	if (ok)
		call_find_method(call);
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_details_destroy(&call->details);
	if (!ok) {
		call_free(call);
		connection_release(connection);
		return;
	}
	connection->n_calls++;
	if (transport->requests_since_poll++ < REQUESTS_BETWEEN_POLLS) {
		connection_arm(connection);
	} else if (!connection->n_unarmed++) {
		list_append(&transport->unarmed, &connection->unarmed_link);
	}
	if (!call_can_start(call))
		return;
	if (!call->method && !call->service)
		call_finish(call, GRPC_STATUS_UNIMPLEMENTED, "UNIMPLEMENTED", "no such method",
			    NULL);
	else if (connection->n_calls > 2 * transport->config.streams)
		/* Calls that were reset count here until the broker has let go of them. */
		call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "QUOTA",
			    "too many calls at once on one connection", NULL);
	else if (*connection->unsent > transport->config.limits.unsent)
		/* Before it is begun: a call that was done gets its answer. */
		call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "QUOTA",
			    "too many answers wait to be read", NULL);
	else
		call_receive(call);
}
