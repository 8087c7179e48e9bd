/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request, one answer.  The thread that calls sends one batch with all six operations
 * and plucks its tag from a queue of its own, so it is also the thread that reads the
 * socket; see client.h.
 *
 * Who refused: the broker always sends grpc-status-details-bin.  A status without it comes
 * from gRPC: the deadline, our own cancellation, the end of the connection, or a peer that
 * is no broker.
 */
#include "mend.h"
#include "cancel.h"
#include "socket.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* Between two tries of a call that found the broker busy, when it names no delay. */
#define RETRY_FIRST_MS 5
#define RETRY_MAX_MS   500
/* Between a cancelled call and the end of the connection, when the broker goes away. */
#define HANG_UP_MS 100

int ioasid_key_make(char ret_key[IOASID_KEY_SIZE])
{
	uint8_t bytes[(IOASID_KEY_SIZE - 1) / 2];

	/* Requests of up to 256 bytes are answered whole. */
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -errno;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret_key[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		ret_key[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	ret_key[IOASID_KEY_SIZE - 1] = 0;
	return 0;
}

int call_begin(struct call *call, struct ioasid_client *client, const struct ioasid_scope *scope,
	       size_t root_size, struct ioasid_error **ret_error)
{
	static const struct ioasid_scope defaults;
	const struct client_given *given;

	*call = (struct call){.client = client, .ret_error = ret_error};
	ioasid__v1__scope__init(&call->scope);
	if (!client)
		return error_invalid("", ret_error, "client is NULL");
	if (!scope)
		scope = &defaults;
	if (scope->reserved[0] || scope->reserved[1])
		return error_invalid("", ret_error, "scope: reserved members are not 0");
	if (scope->flags & ~IOASID_SCOPE_RETRY)
		return error_invalid("", ret_error, "scope: unknown flags %#x", scope->flags);
	call->cancel = scope->cancel;
	call->flags = scope->flags;
	call->deadline_us = time_deadline_us(scope->timeout_ms ?: client->timeout_ms);
	given = atomic_load(&client->given);
	call->default_lease = scope->lease ? NULL : client->lease ?: given ? given->lease : "";
	call->scope.lease = (char *)(scope->lease ?: call->default_lease);
	call->scope.tenant =
		(char *)(scope->tenant ?: client->tenant ?: given ? given->tenant : "");
	call->key = scope->key ?: "";
	call->result = result_new(root_size);
	return call->result ? 0 : error_no_memory(ret_error);
}

void call_aim(struct call *call, const struct method *method)
{
	bool in_lease = method->place == IN_LEASE || method->place == MAKES_LEASE;

	/* A default is no wish of the program's: the broker refuses a lease where none is used. */
	if (call->default_lease)
		call->scope.lease = (char *)(in_lease ? call->default_lease : "");
}

char *call_key(struct call *call)
{
	const struct ioasid_client *client = call->client;

	/* Whatever may be sent twice has a key. */
	if (!*call->key && !call->key_error &&
	    (call->flags & IOASID_SCOPE_RETRY || client->mend.limit_ms)) {
		call->key_error = ioasid_key_make(call->key_made);
		if (!call->key_error)
			call->key = call->key_made;
	}
	return (char *)call->key;
}

void call_end(struct call *call)
{
	result_free(call->result);
}

int call_publish(struct call *call, void *ret_root)
{
	if (result_failed(call->result))
		return error_no_memory(call->ret_error);
	*(void **)ret_root = result_root(call->result);
	call->result = NULL;
	return 0;
}

int call_invalid(struct call *call, const char *format, ...)
{
	char message[256];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	return error_invalid("", call->ret_error, "%s", message);
}

int call_check_array(struct call *call, const char *name, const void *array, size_t n)
{
	return n && !array ? call_invalid(call, "%s is NULL", name) : 0;
}

int call_check_strings(struct call *call, const char *name, const char *const *strings, size_t n)
{
	int r = call_check_array(call, name, strings, n);

	for (size_t i = 0; !r && i < n; i++)
		if (!strings[i])
			r = call_invalid(call, "%s[%zu] is NULL", name, i);
	return r;
}

void call_outcome_init(struct call_outcome *outcome)
{
	*outcome = (struct call_outcome){.status = GRPC_STATUS_UNKNOWN};
	grpc_metadata_array_init(&outcome->trailing);
	outcome->details = grpc_empty_slice();
}

void call_outcome_deinit(struct call_outcome *outcome)
{
	grpc_metadata_array_destroy(&outcome->trailing);
	grpc_slice_unref(outcome->details);
}

/* The status message without anything that could not be printed on one line. */
static void copy_text(grpc_slice slice, char *to, size_t size)
{
	size_t n = GRPC_SLICE_LENGTH(slice);

	if (n > size - 1)
		n = size - 1;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = GRPC_SLICE_START_PTR(slice)[i];

		to[i] = c < ' ' || c == 0x7f ? ' ' : (char)c;
	}
	to[n] = 0;
}

/* A broker that goes away may cancel what is under way before it hangs up. */
static bool is_lost(const struct call_outcome *outcome, const struct link *link)
{
	if (outcome->status == GRPC_STATUS_UNAVAILABLE)
		return true;
	return link_hung_up(link, outcome->status == GRPC_STATUS_CANCELLED ? HANG_UP_MS : 0);
}

int call_outcome_error(const struct call_outcome *outcome, struct link *link,
		       struct ioasid_cancel *cancel, const char *method,
		       struct ioasid_error **ret_error)
{
	enum ioasid_code code = (enum ioasid_code)outcome->status;
	char message[1024];

	if (outcome->status == GRPC_STATUS_OK) {
		link->answered = true;
		return 0;
	}
	copy_text(outcome->details, message, sizeof(message));
	for (size_t i = 0; i < outcome->trailing.count; i++) {
		const grpc_metadata *entry = &outcome->trailing.metadata[i];
		int r;

		if (grpc_slice_str_cmp(entry->key, "grpc-status-details-bin"))
			continue;
		r = error_from_details(method, code, message, GRPC_SLICE_START_PTR(entry->value),
				       GRPC_SLICE_LENGTH(entry->value), ret_error);
		if (r != -EBADMSG) {
			link->answered = true;
			return r;
		}
	}

	if (cancel_fired(cancel))
		return error_cancelled(method, ret_error);
	if (outcome->status == GRPC_STATUS_DEADLINE_EXCEEDED)
		return error_timed_out(method, ret_error);
	if (is_lost(outcome, link))
		return error_connection_lost(method, message, ret_error);
	return error_make(
		&(const struct error_info){
			.error = error_errno_of_code(code, ""),
			.code = code,
			.origin = IOASID_ORIGIN_GRPC,
			.reason = "",
			.method = method,
		},
		ret_error, "%s", *message ? message : "refused without a message");
}

int call_pack(const struct method *method, const ProtobufCMessage *request,
	      grpc_byte_buffer **ret_buffer, struct ioasid_error **ret_error)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	grpc_slice slice;

	if (size > CLIENT_MESSAGE_MAX)
		return error_invalid(method->name, ret_error,
				     "the request has %zu bytes, the broker takes %d", size,
				     CLIENT_MESSAGE_MAX);
	slice = grpc_slice_malloc(size);
	protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
	*ret_buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return 0;
}

int call_unpack(const struct method *method, grpc_byte_buffer *buffer, struct result *into,
		ProtobufCMessage **ret_message, struct ioasid_error **ret_error)
{
	grpc_byte_buffer_reader reader;
	grpc_slice whole;
	int r = 0;

	if (!grpc_byte_buffer_reader_init(&reader, buffer))
		return error_bad_answer(method->name, "it cannot be decompressed", ret_error);
	whole = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	*ret_message =
		protobuf_c_message_unpack(method->response, result_allocator(into),
					  GRPC_SLICE_LENGTH(whole), GRPC_SLICE_START_PTR(whole));
	grpc_slice_unref(whole);
	if (result_failed(into))
		r = error_no_memory(ret_error);
	else if (!*ret_message)
		r = error_bad_answer(method->name, "it is not the message of this method",
				     ret_error);
	return r;
}

grpc_call *call_create(struct link *link, const struct method *method, grpc_completion_queue *queue,
		       uint64_t deadline_us)
{
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	if (deadline_us != UINT64_MAX) {
		uint64_t now = time_now_us();
		int64_t left = deadline_us > now ? (int64_t)(deadline_us - now) : 0;

		deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					gpr_time_from_micros(left, GPR_TIMESPAN));
	}
	return grpc_channel_create_call(link->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
					grpc_slice_from_static_string(method->path), NULL, deadline,
					NULL);
}

int call_once(const struct call_target *target, const struct method *method,
	      const ProtobufCMessage *request, struct result *into, ProtobufCMessage **ret_response,
	      struct ioasid_error **ret_error)
{
	struct ioasid_client *client = target->client;
	grpc_byte_buffer *sent, *received = NULL;
	grpc_completion_queue *queue;
	grpc_metadata_array initial;
	struct call_outcome outcome;
	struct cancel_node node;
	grpc_op ops[6] = {0};
	grpc_call *c;
	int r;

	if (cancel_fired(target->cancel))
		return error_cancelled(method->name, ret_error);
	r = call_pack(method, request, &sent, ret_error);
	if (r < 0)
		return r;
	queue = client_queue_get(client);
	c = call_create(target->link, method, queue, target->deadline_us);
	grpc_metadata_array_init(&initial);
	call_outcome_init(&outcome);

	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = sent;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &initial;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &received;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &outcome.trailing;
	ops[5].data.recv_status_on_client.status = &outcome.status;
	ops[5].data.recv_status_on_client.status_details = &outcome.details;

	/* A well-formed first batch on a fresh call is always accepted. */
	if (grpc_call_start_batch(c, ops, 6, c, NULL) == GRPC_CALL_OK) {
		cancel_add(target->cancel, &node, c);
		/* The call ends by its own deadline at the latest. */
		grpc_completion_queue_pluck(queue, c, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		cancel_remove(target->cancel, &node);
		r = call_outcome_error(&outcome, target->link, target->cancel, method->name,
				       ret_error);
		if (!r && !received)
			r = error_bad_answer(method->name, "there is none", ret_error);
		if (!r)
			r = call_unpack(method, received, into, ret_response, ret_error);
	} else {
		r = error_bad_answer(method->name, "gRPC refused the call", ret_error);
	}

	grpc_byte_buffer_destroy(sent);
	grpc_byte_buffer_destroy(received);
	grpc_metadata_array_destroy(&initial);
	call_outcome_deinit(&outcome);
	grpc_call_unref(c);
	client_queue_put(client, queue);
	return r;
}

bool call_is_trouble(const struct ioasid_error *error)
{
	return error->code == IOASID_UNAVAILABLE &&
	       (!strcmp(error->reason, "SHUTTING_DOWN") || !strcmp(error->reason, "RECONCILING"));
}

bool call_waits_for_broker(struct call *call)
{
	uint32_t limit_ms = call->client->mend.limit_ms;
	uint64_t now = time_now_us();

	if (!limit_ms)
		return false;
	if (!call->trouble_us)
		call->trouble_us = now;
	return limit_ms == IOASID_NO_TIMEOUT || now - call->trouble_us < limit_ms * UINT64_C(1000);
}

static bool is_worth_waiting(struct call *call, const struct ioasid_error *error)
{
	if (error->origin != IOASID_ORIGIN_BROKER)
		return false;
	if (call_is_trouble(error))
		return call_waits_for_broker(call);
	/* One that was cut off may be under way still, and its repetition counts for the rate. */
	return (call->interrupted || call->flags & IOASID_SCOPE_RETRY) &&
	       (error->code == IOASID_ABORTED || !strcmp(error->reason, "RATE"));
}

/* May the call be sent again, and when?  Sleeps until then. */
static bool again(struct call *call, const struct ioasid_error *error, uint64_t *backoff_ms)
{
	uint64_t delay_ms = *backoff_ms;
	int left_ms = time_left_ms(call->deadline_us);

	if (!is_worth_waiting(call, error))
		return false;
	if (error->retry_delay_ms > 0)
		delay_ms = (uint64_t)error->retry_delay_ms;
	if (left_ms >= 0 && (uint64_t)left_ms <= delay_ms)
		return false;
	*backoff_ms = *backoff_ms * 2 < RETRY_MAX_MS ? *backoff_ms * 2 : RETRY_MAX_MS;
	/* If it was fired meanwhile, the next try says so. */
	cancel_sleep(call->cancel, delay_ms * 1000);
	return true;
}

/* *ret_cut_off: a connection has ended under it, and the next one makes that good. */
static int send_once(struct call *call, const struct method *method,
		     const ProtobufCMessage *request, struct result *into,
		     ProtobufCMessage **ret_response, bool *ret_cut_off,
		     struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	struct call_target target = {client, NULL, call->cancel, call->deadline_us};
	int r = mend_enter(call, method, NULL, &target.link, ret_error);

	*ret_cut_off = false;
	if (r < 0)
		return r;
	r = call_once(&target, method, request, into, ret_response, ret_error);
	if (r < 0) {
		*ret_cut_off = mend_cuts_off(client, target.link, *ret_error);
		if (*ret_cut_off)
			mend_break(client, target.link);
	} else {
		*ret_cut_off = !mend_settle(call, method, target.link);
	}
	link_unref(target.link);
	return r;
}

int call_unary_into(struct call *call, const struct method *method, const ProtobufCMessage *request,
		    struct result *into, void *ret_response)
{
	uint64_t backoff_ms = RETRY_FIRST_MS;
	ProtobufCMessage *response;

	call_aim(call, method);
	call->scope.key = method->keyed ? call_key(call) : (char *)"";
	if (call->key_error)
		return error_make(
			&(const struct error_info){
				.error = call->key_error,
				.code = IOASID_INTERNAL,
				.reason = "INVALID_CALL",
				.method = method->name,
			},
			call->ret_error, "the kernel gave no random bytes for a key");
	for (;;) {
		struct ioasid_error *error = NULL;
		bool cut_off;
		int r = send_once(call, method, request, into, &response, &cut_off, &error);

		if (cut_off) {
			call->interrupted = true;
			ioasid_error_free(error);
			continue;
		}
		if (!r) {
			*(ProtobufCMessage **)ret_response = response;
			return 0;
		}
		if (!again(call, error, &backoff_ms)) {
			if (call->ret_error)
				*call->ret_error = error;
			else
				ioasid_error_free(error);
			return r;
		}
		ioasid_error_free(error);
	}
}

int call_unary(struct call *call, const struct method *method, const ProtobufCMessage *request,
	       void *ret_response)
{
	return call_unary_into(call, method, request, call->result, ret_response);
}
