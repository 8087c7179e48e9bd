/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_CALL_H
#define LIBIOASID_CALL_H

/*
 * The one path by which every function of the library asks the broker: begin a call with
 * the program's arguments, send one or more requests, publish what came of it.
 *
 *	CALL_AUTO struct call call;
 *	r = call_begin(&call, client, scope, sizeof(struct ioasid_x), ret_error);
 *	...
 *	request.scope = call_scope(&call);
 *	r = call_unary(&call, &method, &request.base, &response);
 *	...
 *	return call_publish(&call, (void **)ret_x);
 *
 * One deadline holds for all requests of a call.  A call belongs to one thread.
 *
 * A request that the end of a connection cuts off is sent again on the next one (mend.h),
 * with the same bytes: the key makes it one effect.
 */

#include "client.h"
#include "error.h"
#include "result.h"

#include "ioasid.pb-c.h"

/* What a method has to do with leases; see mend.h. */
enum method_place {
	OUTSIDE_LEASES,
	/* Outside, but the broker is to know this client again after a restart. */
	HOLDS,
	/* Acts in the scope's lease. */
	IN_LEASE,
	/* The same, and makes the connection lease if there is none. */
	MAKES_LEASE,
};

struct method {
	const char *path;
	const char *name;
	const ProtobufCMessageDescriptor *response;
	/* Takes an idempotency key. */
	bool keyed;
	enum method_place place;
};

/* METHOD("Broker", "Alloc", alloc_response, true, MAKES_LEASE) */
#define METHOD(service, name_, response_, keyed_, place_)                                          \
	{                                                                                          \
		.path = "/ioasid.v1." service "/" name_, .name = name_,                            \
		.response = &ioasid__v1__##response_##__descriptor, .keyed = keyed_,               \
		.place = place_,                                                                   \
	}

/* Methods that are called for a call and on behalf of the client, too. */
extern const struct method method_get_status;
extern const struct method method_adopt_lease;

struct call {
	struct ioasid_client *client;
	struct ioasid_cancel *cancel;
	struct ioasid_error **ret_error;
	/* CLOCK_MONOTONIC, microseconds. */
	uint64_t deadline_us;
	/* IOASID_SCOPE_* */
	uint32_t flags;
	/* The root to be; owns the answers that were unpacked into it. */
	struct result *result;
	Ioasid__V1__Scope scope;
	/* Of the client, for methods that act in a lease; NULL: the program named one. */
	const char *default_lease;
	/* Of the program, or made when the first request wants one; else "". */
	const char *key;
	char key_made[IOASID_KEY_SIZE];
	int key_error;
	/* The connection that answered last. */
	uint64_t epoch;
	/* A request was cut off by the end of a connection. */
	bool interrupted;
	/* Since when the broker has been on its way up or down; 0: it is not. */
	uint64_t trouble_us;
};

/* root_size 0: nothing is returned but numbers. */
int call_begin(struct call *call, struct ioasid_client *client, const struct ioasid_scope *scope,
	       size_t root_size, struct ioasid_error **ret_error);
void call_end(struct call *call);
#define CALL_AUTO __attribute__((cleanup(call_end)))

/* The scope is going to be sent with a request of this method. */
void call_aim(struct call *call, const struct method *method);
static inline Ioasid__V1__Scope *call_scope(struct call *call)
{
	return &call->scope;
}
/* For requests that have a key but no scope. */
char *call_key(struct call *call);
static inline void *call_root(struct call *call)
{
	return result_root(call->result);
}

/* *ret_response (a pointer to a pointer to the message) lives in call->result. */
int call_unary(struct call *call, const struct method *method, const ProtobufCMessage *request,
	       void *ret_response);
/* The same into another result, for answers that are not kept. */
int call_unary_into(struct call *call, const struct method *method, const ProtobufCMessage *request,
		    struct result *into, void *ret_response);
/* Hands the root out; fails if memory had run out on the way. */
int call_publish(struct call *call, void *ret_root);
/* The broker seems to be on its way up or down: is there time left to wait for it? */
bool call_waits_for_broker(struct call *call);
/* Is it, by what it said? */
bool call_is_trouble(const struct ioasid_error *error);
/* -EINVAL, naming the argument. */
int call_invalid(struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -EINVAL unless there are n elements (strings: none of them NULL). */
int call_check_array(struct call *call, const char *name, const void *array, size_t n);
int call_check_strings(struct call *call, const char *name, const char *const *strings, size_t n);

/* The text, or "" for NULL, in the type that protobuf-c wants. */
static inline char *text_or_empty(const char *text)
{
	return (char *)(text ?: "");
}

/* ---- below calls: shared with streams ---- */

/* What gRPC fills in when a call ends. */
struct call_outcome {
	grpc_metadata_array trailing;
	grpc_status_code status;
	grpc_slice details;
};
/* Where a request goes; all borrowed. */
struct call_target {
	struct ioasid_client *client;
	struct link *link;
	struct ioasid_cancel *cancel;
	uint64_t deadline_us;
};
/* One request, once. */
int call_once(const struct call_target *target, const struct method *method,
	      const ProtobufCMessage *request, struct result *into, ProtobufCMessage **ret_response,
	      struct ioasid_error **ret_error);
void call_outcome_init(struct call_outcome *outcome);
void call_outcome_deinit(struct call_outcome *outcome);
/* 0 for an OK; else the error that it is. */
int call_outcome_error(const struct call_outcome *outcome, struct link *link,
		       struct ioasid_cancel *cancel, const char *method,
		       struct ioasid_error **ret_error);
/* -EINVAL: too long for the broker. */
int call_pack(const struct method *method, const ProtobufCMessage *request,
	      grpc_byte_buffer **ret_buffer, struct ioasid_error **ret_error);
int call_unpack(const struct method *method, grpc_byte_buffer *buffer, struct result *into,
		ProtobufCMessage **ret_message, struct ioasid_error **ret_error);
grpc_call *call_create(struct link *link, const struct method *method, grpc_completion_queue *queue,
		       uint64_t deadline_us);

#endif
