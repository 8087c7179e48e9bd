/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request from its bytes to its answer: the steps of docs/ARCHITECTURE.md that every
 * method shares.  Method-specific work is in rpc_*.c.
 *
 *	role -> rate and in-flight charge -> border, decode -> scope: tenant and lease ->
 *	turn in the lease -> key -> handler -> answer -> audit
 *
 * Invariants: every call that was started is finished exactly once; whatever was charged
 * for the call itself is given back there.  State thread only.
 */
#include "server/broker/call.h"

#include "server/broker/audit.h"
#include "server/broker/border.h"
#include "server/broker/event.h"
#include "server/broker/fault_point.h"
#include "server/broker/journal.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * Decoded form of n bytes: an empty sub-message is two bytes on the wire and up to 128 in
 * memory, with the pointer to it, and 96 while protobuf-c scans it.
 */
#define SCRATCH_CAP(n)	((n)*160 + (64u << 10))
#define SCRATCH_CAP_MAX (8u << 20)
/* Room for an answer on top; pages of lists are bounded to fit. */
#define ANSWER_CAP (16u << 20)

void call_settle_key(struct broker_call *call)
{
	struct key_entry *entry = call->key_entry;
	uint8_t *bytes;
	size_t n;

	if (!entry || key_entry_is_settled(entry))
		return;
	n = protobuf_c_message_get_packed_size(call->response);
	bytes = scratch_alloc(&call->scratch, n);
	if (!bytes) {
		key_entry_lose(entry);
		return;
	}
	protobuf_c_message_pack(call->response, bytes);
	key_entry_keep(call->keys, entry, bytes, n);
}

void call_act_for(struct broker_call *call, struct tenant *tenant)
{
	struct tenant *before = call->tenant;

	if (tenant)
		tenant->n_calls++;
	call->tenant = tenant;
	if (before) {
		before->n_calls--;
		tenant_collect(before);
	}
}

void call_end(struct broker_call *call, int code)
{
	struct lease *lease = call->lease;
	struct broker_answer answer = {0};
	bool unused;
	uint8_t *details = NULL, minimal[OUTCOME_MINIMAL_SIZE];

	assert(code >= 0);
	if (code == OUTCOME_OK && !call->response && !(call->method->flags & METHOD_STREAMS))
		code = refuse_no_memory(call);
	call->outcome.code = code;
	if (call->parked)
		LIST_REMOVE(call, parking);
	if (call->on_finish)
		call->on_finish(call);
	if (call->on_end) {
		call->on_end(call);
		call->on_end = NULL;
	}
	if (code == OUTCOME_OK && (call->intent_open || call->key_entry) && !call->written)
		journal_result(call, NULL);
	else if (code != OUTCOME_OK && call->key_entry)
		key_table_forget(call->keys, call->key_entry);
	journal_end(call);
	if (code == OUTCOME_OK)
		FAULT_POINT(call->method->path, "publish");
	if (code != OUTCOME_OK || call->method->flags & METHOD_MUTATES) {
		audit_call(call);
		FAULT_POINT(call->method->path, "audit");
	}
	if (code == OUTCOME_QUOTA && call->session && call->session->tenant)
		event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_QUOTA_REFUSED,
			   call->tenant ?: call->session->tenant, lease, 0, NULL, "%s: %s",
			   strrchr(call->method->path, '/') + 1, call->outcome.message);
	answer.code = outcome_status(code);
	answer.message = call->outcome.message;
	if (code == OUTCOME_OK) {
		answer.response = call->response;
	} else {
		/* Room for the words of the refusal, whatever the request used up. */
		scratch_extend(&call->scratch, 256u << 10);
		answer.n_details = outcome_pack_details(&call->outcome, &call->scratch, &details);
		answer.details = details;
		if (!answer.n_details) {
			answer.n_details =
				outcome_pack_minimal(code, call->outcome.message, minimal);
			answer.details = minimal;
		}
	}
	if (call->session)
		LIST_REMOVE(call, of_session);
	call->broker->n_calls--;
	charge_release(&call->charge);
	call->ops->finish(call->userdata, &answer);
	FAULT_POINT(call->method->path, "reply");
	if (lease && lease->active == call)
		lease->active = NULL;
	else if (!call->made_lease)
		lease = NULL;
	/* A refused request has changed nothing: the lease made for it goes again. */
	unused = code != OUTCOME_OK && call->made_lease;
	call_act_for(call, NULL);
	scratch_deinit(&call->scratch);
	free(call);
	if (lease) {
		lease->made_in_vain = lease->made_in_vain || unused;
		lease_run_queue(lease);
	}
}

void *call_response(struct broker_call *call)
{
	const ProtobufCMessageDescriptor *d = call->method->response;

	call->response = scratch_alloc(&call->scratch, d->sizeof_message);
	if (call->response)
		d->message_init(call->response);
	return call->response;
}

int call_run(struct broker_call *call, void (*run)(struct op *op), void (*complete)(struct op *op),
	     bool heavy)
{
	call->op.run = run;
	call->op.complete = complete;
	FAULT_POINT_START(&call->op, call->method->path);
	op_start(&call->op, call->broker, call->tenant, heavy);
	return CALL_PENDING;
}

/* In the registry: another hash would make every repeated request another one. */
static uint64_t hash_bytes(const uint8_t *data, size_t length)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ length;

	while (length >= 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
		data += 8;
		length -= 8;
	}
	while (length--)
		h = (h ^ *data++) * UINT64_C(0x100000001b3);
	return h ^ h >> 29;
}

/* ---- the key ---- */

/* Answers a repeated request; 0: it is not one. */
static int call_replay(struct broker_call *call, struct key_entry *entry)
{
	const uint8_t *bytes;
	size_t n;

	if (key_entry_method(entry) != call->method || key_entry_hash(entry) != call->hash)
		return refuse(call, OUTCOME_KEY_REUSED, "key \"%s\" belongs to another request",
			      call->key);
	if (!key_entry_is_settled(entry))
		return refuse(call, OUTCOME_BUSY, "a request with this key is in progress");
	if (!key_entry_answer(entry, &bytes, &n))
		return refuse(call, OUTCOME_INTERNAL,
			      "this request was done before; its answer is lost");
	call->response = protobuf_c_message_unpack(call->method->response, &call->scratch.allocator,
						   n, bytes);
	call->note = "repeated";
	return call->response ? OUTCOME_OK : refuse_no_memory(call);
}

/* Which table remembers the call, and who pays for it. */
static int call_find_keys(struct broker_call *call, struct tenant **ret_payer)
{
	struct key_table **keys = NULL;

	if (call->method->flags & METHOD_BROKER_KEY) {
		keys = &call->broker->keys;
		*ret_payer = tenant_find(call->broker, "");
	} else if (call->lease && call->method->flags & METHOD_EXCLUSIVE) {
		keys = &call->lease->keys;
		*ret_payer = call->lease->tenant;
	}
	if (keys && !*keys && key_table_new(keys))
		return refuse_no_memory(call);
	call->keys = keys ? *keys : NULL;
	return OUTCOME_OK;
}

static int call_take_key(struct broker_call *call)
{
	struct tenant *payer = NULL;
	struct quota_refusal refusal;
	struct key_entry *entry;
	int r;

	/* A call that waited for its turn in a lease has its entry already. */
	if (!call->key[0] || call->key_entry || !(call->method->flags & METHOD_MUTATES))
		return CALL_PENDING;
	r = call_find_keys(call, &payer);
	if (r)
		return r;
	if (!call->keys)
		return CALL_PENDING;
	entry = key_table_find(call->keys, call->key);
	if (entry)
		return call_replay(call, entry);
	r = key_table_reserve(call->keys, call->key, call->method, call->hash, payer, &refusal,
			      &call->key_entry);
	/* Giving back is never refused; what cannot be remembered is done again if it is repeated.
	 */
	if (r > 0 && call->method->flags & METHOD_RELEASES)
		return CALL_PENDING;
	return r ? refuse_charge(call, r, &refusal) : CALL_PENDING;
}

void call_park(struct broker_call *call)
{
	struct lease *lease = call->lease;

	call->parked = true;
	LIST_INSERT_HEAD(&lease->parked, call, parking);
	if (lease->active != call)
		return;
	lease->active = NULL;
	lease_run_queue(lease);
}

void call_unpark(struct broker_call *call, int (*next)(struct broker_call *call))
{
	struct lease *lease = call->lease;

	LIST_REMOVE(call, parking);
	call->parked = false;
	call->next = next;
	call->queued = true;
	STAILQ_INSERT_TAIL(&lease->waiting, call, waiting);
	lease_run_queue(lease);
}

/* A call that was parked goes on. */
static void call_continue(struct broker_call *call)
{
	int (*next)(struct broker_call * call) = call->next;
	int r;

	call->next = NULL;
	r = next(call);
	if (r != CALL_PENDING)
		call_end(call, r);
}

void call_execute(struct broker_call *call)
{
	int r;

	if (call->next) {
		call_continue(call);
		return;
	}
	r = call_take_key(call);
	FAULT_POINT(call->method->path, "policy");
	FAULT_POINT_ENTER(call->method->path);
	if (r == CALL_PENDING)
		r = call->method->handler(call);
	FAULT_POINT_ENTER(NULL);
	if (r != CALL_PENDING)
		call_end(call, r);
}

/* ---- the scope ---- */

static const Ioasid__V1__Scope empty_scope = IOASID__V1__SCOPE__INIT;

static void call_find_scope(struct broker_call *call)
{
	/* Every request with a scope has it as its first field. */
	struct scoped {
		ProtobufCMessage base;
		Ioasid__V1__Scope *scope;
	} *q = (struct scoped *)call->request;

	call->scope = &empty_scope;
	if (call->method->flags & METHOD_SCOPE_IN_ALLOC) {
		q = (struct scoped *)((Ioasid__V1__NegotiateRequest *)q)->alloc;
		if (q && q->scope)
			call->scope = q->scope;
	} else if (call->method->flags & METHOD_SCOPE && q->scope) {
		call->scope = q->scope;
	}
}

static void call_find_key(struct broker_call *call)
{
	const ProtobufCFieldDescriptor *field;

	call->key = call->scope->key;
	if (!(call->method->flags & METHOD_BROKER_KEY))
		return;
	field = protobuf_c_message_descriptor_get_field_by_name(call->method->request, "key");
	call->key = *(const char **)((const char *)call->request + field->offset);
}

/* The tenant that the call acts for, by the caller's role. */
static int call_find_tenant(struct broker_call *call)
{
	const struct broker_session *s = call->session;
	const char *path = call->scope->tenant;

	if (s->role == POLICY_ROLE_TENANT) {
		if (path[0] && strcmp(path, s->tenant->path))
			return refuse(call, OUTCOME_ROLE_FORBIDDEN,
				      "scope.tenant: only an agent may name another tenant");
		call_act_for(call, s->tenant);
		return OUTCOME_OK;
	}
	if (!path[0]) {
		if (s->role == POLICY_ROLE_AGENT && !(call->method->flags & METHOD_TENANT_OPTIONAL))
			return refuse_field(call, OUTCOME_INVALID_FIELD, "scope.tenant",
					    "an agent names the tenant that it acts for");
		return OUTCOME_OK;
	}
	/* Outside the subtree nothing is looked up: what exists there is not the caller's. */
	if (strlen(path) > POLICY_PATH_MAX || !policy_path_in_subtree(path, s->tenant->path))
		return refuse(call, OUTCOME_ROLE_FORBIDDEN,
			      "scope.tenant: \"%s\" is not in the caller's subtree \"%s\"", path,
			      s->tenant->path);
	call_act_for(call, tenant_find(call->broker, path));
	if (!call->tenant)
		return refuse(call, OUTCOME_NOT_FOUND, "scope.tenant: no tenant \"%s\"", path);
	return OUTCOME_OK;
}

static int call_find_lease(struct broker_call *call)
{
	const char *name = call->scope->lease;
	struct quota_refusal refusal;
	int r;

	call->lease = lease_find_held(call->session, call->tenant, name);
	if (call->lease && call->lease->delegation && call->method->flags & METHOD_BUILDS)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, name,
					   "its context is its process's own (delegate): the "
					   "broker makes nothing in it");
	if (call->lease)
		return OUTCOME_OK;
	if (name[0])
		return refuse(call, OUTCOME_NOT_FOUND, "no lease \"%s\" held by this connection",
			      name);
	if (!(call->method->flags & METHOD_MAKES_LEASE))
		return OUTCOME_OK;
	r = lease_new(call->session, call->tenant, NULL, &refusal, &call->lease);
	if (r)
		return refuse_charge(call, r, &refusal);
	call->made_lease = true;
	return OUTCOME_OK;
}

static int call_resolve(struct broker_call *call)
{
	uint32_t flags = call->method->flags;
	int r;

	call_find_scope(call);
	call_find_key(call);
	if (call->key[0]) {
		const char *field = flags & METHOD_BROKER_KEY ? "key" : "scope.key";

		if (!(flags & METHOD_MUTATES))
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "this method changes nothing");
		if (strlen(call->key) > KEY_MAX)
			return refuse_field(call, OUTCOME_INVALID_FIELD, field, "at most %d bytes",
					    KEY_MAX);
	}
	if (!(flags & (METHOD_SCOPE | METHOD_SCOPE_IN_ALLOC)))
		return OUTCOME_OK;
	r = call_find_tenant(call);
	if (r)
		return r;
	if (!(flags & METHOD_LEASE)) {
		if (call->scope->lease[0])
			return refuse_field(call, OUTCOME_INVALID_FIELD, "scope.lease",
					    "this method acts in no lease");
		return OUTCOME_OK;
	}
	if (flags & METHOD_MAKES_LEASE && !tenant_accepts(call->tenant))
		return refuse_precondition(call, OUTCOME_WRONG_STATE, call->tenant->path,
					   "the tenant is being drained or left the policy");
	return call_find_lease(call);
}

/* ---- start ---- */

static int call_admit(struct broker_call *call, size_t length)
{
	struct broker_session *s = call->session;
	struct quota_refusal refusal;
	struct quota_amount amounts[] = {
		{QUOTA_REQUESTS_IN_FLIGHT, 1},
		{QUOTA_BROKER_BYTES, sizeof(*call) + length},
	};
	int r;

	if (call->broker->shutting_down)
		return refuse(call, OUTCOME_SHUTTING_DOWN, "the broker is shutting down");
	if (s->refused)
		return refuse_quota(call, &s->refusal);
	if (s->role == POLICY_ROLE_NONE || !s->tenant)
		return refuse(call, OUTCOME_NO_TENANT,
			      "policy knows no tenant for uid %u on socket \"%s\"", s->peer.uid,
			      s->socket);
	if (!(call->method->roles & ROLE_BIT(s->role)))
		return refuse(call, OUTCOME_ROLE_FORBIDDEN, "role %s may not call %s",
			      policy_role_name(s->role), strrchr(call->method->path, '/') + 1);
	if (call->method->absent)
		return refuse(call, OUTCOME_UNIMPLEMENTED, "%s", call->method->absent);
	/* An admin must get through to a host that is full; releases are never refused. */
	if (s->role == POLICY_ROLE_ADMIN || call->method->flags & METHOD_RELEASES)
		return OUTCOME_OK;
	if (!quota_rate_take(&s->tenant->quota, QUOTA_CALLS_PER_SECOND, 1, call->started_us,
			     &refusal))
		return refuse_quota(call, &refusal);
	r = charge_take(&call->charge, s->tenant, amounts, 2, &refusal);
	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

static int call_hash_without_ticket(struct broker_call *call)
{
	ProtobufCBinaryData *field, ticket;
	uint8_t *bytes;
	size_t n;

	field = call->method->request == &ioasid__v1__open_lease_request__descriptor
			? &((Ioasid__V1__OpenLeaseRequest *)call->request)->watch_ticket
			: &((Ioasid__V1__RegisterMemoryRequest *)call->request)->ticket;
	ticket = *field;
	*field = (ProtobufCBinaryData){0};
	n = protobuf_c_message_get_packed_size(call->request);
	bytes = scratch_alloc(&call->scratch, n);
	if (bytes)
		call->hash = hash_bytes(bytes, protobuf_c_message_pack(call->request, bytes));
	*field = ticket;
	return bytes ? OUTCOME_OK : refuse_no_memory(call);
}

static int call_decode(struct broker_call *call, const uint8_t *request, size_t length)
{
	struct border_problem problem;
	struct quota_refusal refusal;
	size_t cap = SCRATCH_CAP(length);
	int r;

	r = border_check(call->method->request, request, length, &problem);
	if (r) {
		int code = r == BORDER_E_ENUM ? OUTCOME_INVALID_FIELD : OUTCOME_MALFORMED;

		return refuse_field(call, code, problem.field[0] ? problem.field : "request", "%s",
				    problem.message);
	}
	call->scratch.cap = cap < SCRATCH_CAP_MAX ? cap : SCRATCH_CAP_MAX;
	call->request = protobuf_c_message_unpack(call->method->request, &call->scratch.allocator,
						  length, request);
	if (!call->request && call->scratch.over_cap)
		return refuse_field(call, OUTCOME_MALFORMED, "request", "too many elements");
	if (!call->request)
		return refuse_no_memory(call);
	scratch_extend(&call->scratch, ANSWER_CAP);
	if (call->charge.tenant) {
		r = charge_grow(&call->charge, QUOTA_BROKER_BYTES, call->scratch.used, &refusal);
		if (r)
			return refuse_charge(call, r, &refusal);
	}
	if (call->method->flags & METHOD_TICKET)
		return call_hash_without_ticket(call);
	if (call->method->flags & METHOD_MUTATES)
		call->hash = hash_bytes(request, length);
	return OUTCOME_OK;
}

/* Not even the call itself could be made. */
static void answer_no_memory(const struct broker_call_ops *ops, void *userdata)
{
	uint8_t details[OUTCOME_MINIMAL_SIZE];
	struct broker_answer answer = {
		.code = outcome_status(OUTCOME_NO_MEMORY),
		.message = "the broker is out of memory",
		.details = details,
	};

	answer.n_details = outcome_pack_minimal(OUTCOME_NO_MEMORY, answer.message, details);
	ops->finish(userdata, &answer);
}

void broker_call_start(struct broker_session *session, const struct broker_method *method,
		       const uint8_t *request, size_t length, const struct broker_call_ops *ops,
		       void *userdata, struct broker_call **ret_call)
{
	struct broker_call *call = malloc(sizeof(*call));
	struct lease *lease;
	int r;

	*ret_call = call;
	if (!call) {
		answer_no_memory(ops, userdata);
		return;
	}
	memset(call, 0, offsetof(struct broker_call, intent));
	scratch_init(&call->scratch, 64u << 10);
	outcome_init(&call->outcome);
	call->broker = session->broker;
	call->session = session;
	call->method = method;
	call->ops = ops;
	call->userdata = userdata;
	call->scope = &empty_scope;
	call->key = "";
	call->started_us = broker_now(session->broker);
	call->writable = true;
	LIST_INSERT_HEAD(&session->calls, call, of_session);
	session->broker->n_calls++;

	r = call_admit(call, length);
	if (!r)
		r = call_decode(call, request, length);
	if (!r)
		r = call_resolve(call);
	if (r) {
		call_end(call, r);
		return;
	}
	lease = call->lease;
	if (!(method->flags & METHOD_EXCLUSIVE) || !lease) {
		call_execute(call);
		return;
	}
	call->queued = true;
	STAILQ_INSERT_TAIL(&lease->waiting, call, waiting);
	lease_run_queue(lease);
}

void broker_call_writable(struct broker_call *call)
{
	call->writable = true;
	if (call->on_writable)
		call->on_writable(call);
}

void broker_call_cancel(struct broker_call *call)
{
	call->cancelled = true;
	if (call->queued) {
		STAILQ_REMOVE(&call->lease->waiting, call, broker_call, waiting);
		call->queued = false;
	} else if (!call->parked && !call->on_end) {
		/* On a worker or in slices: it ends by itself, a long map sooner. */
		if (call->shim_cancel)
			call->shim_cancel->requested = true;
		return;
	}
	call_end(call, refuse(call, OUTCOME_CANCELLED, "the caller went away"));
}
