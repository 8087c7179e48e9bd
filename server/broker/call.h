/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_CALL_H
#define IOASID_BROKER_CALL_H

#include "server/broker/scratch.h"
#include "server/broker/op.h"
#include "server/broker/outcome.h"
#include "server/broker/state.h"

#include "ioasid.pb-c.h"

/* A handler's promise to call call_end() later; every other value is an outcome. */
#define CALL_PENDING (-1)

#define ROLE_BIT(role) (1u << (role))
#define ROLES_TA       (ROLE_BIT(POLICY_ROLE_TENANT) | ROLE_BIT(POLICY_ROLE_AGENT))
#define ROLES_OM       (ROLE_BIT(POLICY_ROLE_OBSERVER) | ROLE_BIT(POLICY_ROLE_ADMIN))
#define ROLES_M	       ROLE_BIT(POLICY_ROLE_ADMIN)

enum method_flags {
	/* Changes something: audited; scope.key is honoured in the lease. */
	METHOD_MUTATES = 1 << 0,
	/* One at a time in its lease. */
	METHOD_EXCLUSIVE = 1 << 1,
	/* Acts in a lease; call->lease may be NULL if there is none yet. */
	METHOD_LEASE = 1 << 2,
	/* ... and makes the connection lease if there is none. */
	METHOD_MAKES_LEASE = 1 << 3,
	/* Gives something back: never refused by quota or rate. */
	METHOD_RELEASES = 1 << 4,
	METHOD_STREAMS = 1 << 5,
	/* Has a Scope as its first field. */
	METHOD_SCOPE = 1 << 6,
	/* The scope is in field `alloc` (Negotiate). */
	METHOD_SCOPE_IN_ALLOC = 1 << 7,
	/* Scope.tenant may be empty for observer and admin: then the whole subtree. */
	METHOD_TENANT_OPTIONAL = 1 << 8,
	/* Its idempotency key is a field `key` of the request, remembered by the broker. */
	METHOD_BROKER_KEY = 1 << 9,
	/* What it answers ends with the broker: its key is not remembered beyond. */
	METHOD_TRANSIENT = 1 << 10,
	/* Names a ticket: repeated, perhaps to the next broker, it comes with another one. */
	METHOD_TICKET = 1 << 11,
	/* Makes an object in the lease's context: not where that is a process's (delegation.c). */
	METHOD_BUILDS = 1 << 12,
};

struct broker_method {
	const char *path;
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *response;
	uint32_t roles;
	uint32_t flags;
	/* An outcome code, or CALL_PENDING. */
	int (*handler)(struct broker_call *call);
	/* Not NULL: not built; why. */
	const char *absent;
};

struct broker_call {
	struct op op; /* first */
	struct broker *broker;
	struct broker_session *session; /* NULL: gone */
	LIST_ENTRY(broker_call) of_session;
	STAILQ_ENTRY(broker_call) waiting;
	LIST_ENTRY(broker_call) parking;
	/* What the call does with its next turn in the lease; NULL: it begins. */
	int (*next)(struct broker_call *call);
	const struct broker_method *method;
	const struct broker_call_ops *ops;
	void *userdata;
	ProtobufCMessage *request;
	ProtobufCMessage *response;	/* in the scratch */
	const Ioasid__V1__Scope *scope; /* never NULL after decoding */
	struct tenant *tenant;		/* acted for; NULL: no particular one */
	struct lease *lease;
	struct charge charge;
	uint64_t hash; /* of the request's bytes */
	uint64_t started_us;
	bool made_lease; /* the connection lease, for this call */
	bool queued;	 /* in lease->waiting */
	bool parked;	 /* in lease->parked */
	bool cancelled;	 /* the caller is gone */
	bool gives_back; /* as a method with METHOD_RELEASES: never for want of registry */
	/* Of work on a worker that can be given up; NULL: none. */
	struct shim_cancel *shim_cancel;
	bool writable; /* streams */
	/* For the audit: what it was about; a refusal's words with nothing left out. */
	const char *note;
	const char *audit_message;
	struct key_table *keys;	     /* that remembers this call; NULL: none */
	struct key_entry *key_entry; /* in it, reserved for the answer */
	const char *key;	     /* idempotency key; never NULL after decoding */
	/* See journal.h. */
	struct registry_room room;
	bool intent_open;
	bool written; /* the result is */
	/* The handler's own. */
	void *data;
	/* Streams: the transport took a message; NULL until the stream began. */
	void (*on_writable)(struct broker_call *call);
	/* Called once when the call ends for whatever reason; what it owns goes. */
	void (*on_finish)(struct broker_call *call);
	/* Streams: likewise; a call that has it can be cancelled at any time. */
	void (*on_end)(struct broker_call *call);
	/* Large and initialised by themselves: last. */
	Ioasid__Registry__Intent intent;
	struct scratch scratch;
	struct outcome outcome;
};

/*
 * Ends the call: sends the answer (call->response if the code is OUTCOME_OK), gives
 * charges back, lets the next call of the lease go.  The call is gone afterwards.
 */
void call_end(struct broker_call *call, int code);
/* Sets call->tenant, which exists until the call has ended.  NULL: none any more. */
void call_act_for(struct broker_call *call, struct tenant *tenant);
/*
 * Remembers the answer under the call's key, if it has one: call->response is complete and
 * the request had its effect.  Done by call_end() at the latest.
 */
void call_settle_key(struct broker_call *call);
/* Allocates the response in the scratch and initialises it; NULL: out of memory. */
void *call_response(struct broker_call *call);
/* The lease's turn has come: takes the key, calls the handler. */
void call_execute(struct broker_call *call);
/*
 * Runs call->op with these; complete() ends with call_end().  Returns CALL_PENDING.
 */
int call_run(struct broker_call *call, void (*run)(struct op *op), void (*complete)(struct op *op),
	     bool heavy);
/*
 * The call waits for something outside of its lease (an answer, a reader): others get their
 * turn meanwhile.  It keeps no pointer to objects of the lease that can go, can be cancelled at
 * any time, and ends when the lease does.
 */
void call_park(struct broker_call *call);
/* A parked call goes on with next(), which is like a handler, when its turn comes. */
void call_unpark(struct broker_call *call, int (*next)(struct broker_call *call));
static inline struct broker_call *call_of_op(struct op *op)
{
	return CONTAINER_OF(op, struct broker_call, op);
}
/* Lets waiting calls of a lease go, as far as it is idle. */
void lease_run_queue(struct lease *lease);
/* Ends every waiting call of a lease. */
void lease_cancel_queue(struct lease *lease, int code, const char *message);

/* ---- refusals: each fills call->outcome and returns its code ---- */

int refuse(struct broker_call *call, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Names the field: INVALID_FIELD, MALFORMED or OVERLAP. */
int refuse_field(struct broker_call *call, int code, const char *field, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
int refuse_precondition(struct broker_call *call, int code, const char *subject, const char *format,
			...) __attribute__((format(printf, 4, 5)));
/* "no IOASID 7": the same words for unknown, foreign, freed and wrong-kind ids. */
int refuse_id(struct broker_call *call, const char *field, const char *what, uint64_t id);
/* Discloses as much as the caller's role may see. */
int refuse_quota(struct broker_call *call, const struct quota_refusal *refusal);
int refuse_no_memory(struct broker_call *call);
int refuse_registry_full(struct broker_call *call);
/*
 * From a positive code of charge_take() with its refusal, or a negative errno; -ENOSPC: the
 * registry's.
 */
int refuse_charge(struct broker_call *call, int error, const struct quota_refusal *refusal);
/* The limit of the call's lease alone; by quota, with its numbers. */
int refuse_lease_limit(struct broker_call *call, enum quota_resource resource, uint64_t limit,
		       uint64_t used, uint64_t requested);
/* An unexpected answer of the shim: errno, or a SHIM_E_* the broker had excluded. */
int refuse_shim(struct broker_call *call, int error, const char *what, const char *reason);

#endif
