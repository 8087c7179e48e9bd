/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenLease, AdoptLease, CloseLease, ListLeases.
 *
 * A named lease is opened by a principal (socket and uid) and adopted by the same principal
 * with its secret; whoever is not that principal, or has another secret, learns no more
 * than for a name that does not exist.  One that an agent opens for handover is adopted by its
 * tenant's own programs as well, and the agent takes it back from them: a container's hook
 * closes what the container still holds.
 */
#include "server/broker/rpc_lease.h"

#include "server/broker/delegation.h"
#include "server/broker/fault_point.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/page.h"
#include "server/broker/process.h"
#include "server/broker/ticket.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define LINGER_MAX 86400

static bool is_opener(const struct broker_session *s, const struct lease *lease)
{
	return s->peer.uid == lease->opener.uid && !strcmp(s->socket, lease->opener.socket);
}

/* Takes as long for a near miss as for any other. */
static bool secret_differs(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;

	for (size_t i = 0; i < LEASE_SECRET_SIZE; i++)
		difference |= a[i] ^ b[i];
	return difference;
}

/* A program of the tenant that an agent opened it for. */
static bool is_heir(const struct broker_session *s, const struct lease *lease)
{
	return lease->handover && s->role == POLICY_ROLE_TENANT && s->tenant == lease->tenant;
}

static int answer_secret(struct broker_call *call, const struct lease *lease)
{
	Ioasid__V1__OpenLeaseResponse *p = call_response(call);

	if (p)
		p->secret.data = scratch_alloc(&call->scratch, LEASE_SECRET_SIZE);
	if (!p || !p->secret.data)
		return refuse_no_memory(call);
	memcpy(p->secret.data, lease->secret, LEASE_SECRET_SIZE);
	p->secret.len = LEASE_SECRET_SIZE;
	return OUTCOME_OK;
}

/* The same OpenLease again, by the same principal: the same answer, held again. */
static int open_again(struct broker_call *call, struct lease *lease)
{
	struct broker_session *s = call->session;

	if (!call->key[0] || !lease->open_key || strcmp(lease->open_key, call->key) ||
	    !is_opener(s, lease) || (lease->holder && lease->holder != s))
		return refuse(call, OUTCOME_NAME_TAKEN, "lease name \"%s\" is in use", lease->name);
	if (lease->open_hash != call->hash)
		return refuse(call, OUTCOME_KEY_REUSED, "key \"%s\" belongs to another request",
			      call->key);
	if (!lease->holder)
		lease_set_holder(lease, s);
	return answer_secret(call, lease);
}

/* Takes the pidfd out of the ticket. */
static int open_watch(struct broker_call *call, struct lease *lease, struct ticket *ticket)
{
	int r;

	lease->watch.fd = ticket->fd;
	r = lease_watch_process(lease);
	if (r) {
		lease->watch.fd = -1;
		return refuse(call, OUTCOME_INTERNAL, "the process cannot be watched: %s",
			      strerror(-r));
	}
	lease->watched = process_of_pidfd(ticket->fd);
	ticket->fd = -1;
	ticket_free(ticket);
	return OUTCOME_OK;
}

/* One limit each; field: "limits[0].resource" or the like. */
static int read_limit(struct broker_call *call, size_t i, const Ioasid__V1__ResourceAmount *from,
		      struct lease_limits *limits)
{
	uint64_t *to;
	const char *field;

	field = scratch_printf(&call->scratch, "limits[%zu].resource", i);
	if (!field)
		return refuse_no_memory(call);
	if (!strcmp(from->resource, quota_resource_name(QUOTA_IOASIDS)))
		to = &limits->ioasids;
	else if (!strcmp(from->resource, quota_resource_name(QUOTA_REGISTERED_BYTES)))
		to = &limits->registered_bytes;
	else
		return refuse_field(call, OUTCOME_INVALID_FIELD, field,
				    "a lease has limits of ioasids and registered_bytes only");
	if (*to != UINT64_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "is there twice");
	*to = from->amount;
	return OUTCOME_OK;
}

/* What is charged in full, and whom it is given to. */
static int open_check_delegate(struct broker_call *call, const Ioasid__V1__OpenLeaseRequest *q,
			       const struct lease_limits *limits)
{
	if (!q->watch_ticket.len)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "delegate",
				    "only with a watch_ticket: that process has the context, and "
				    "is ended with the lease");
	if (!limits->ioasids || limits->ioasids == UINT64_MAX || !limits->registered_bytes ||
	    limits->registered_bytes == UINT64_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "limits",
				    "delegate needs both, ioasids and registered_bytes, not 0: "
				    "they are charged in full");
	return OUTCOME_OK;
}

/* What does not depend on what there is. */
static int open_check(struct broker_call *call, const Ioasid__V1__OpenLeaseRequest *q,
		      struct lease_limits *ret_limits)
{
	struct lease_limits limits = {UINT64_MAX, UINT64_MAX};
	int r = OUTCOME_OK;

	if (!lease_name_is_valid(q->name))
		return refuse_field(call, OUTCOME_INVALID_FIELD, "name",
				    "must be 1 to %d of A-Z a-z 0-9 . _ -", LEASE_NAME_MAX);
	if (q->linger_seconds > LINGER_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "linger_seconds", "at most %d",
				    LINGER_MAX);
	if (q->keep && !q->watch_ticket.len)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "keep",
				    "only with a watch_ticket: nothing else would end the lease");
	if (q->keep && q->linger_seconds)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "linger_seconds",
				    "must be 0 with keep");
	if (q->handover && call->session->role != POLICY_ROLE_AGENT)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "handover",
				    "only an agent hands a lease over");
	for (size_t i = 0; i < q->n_limits && !r; i++)
		r = read_limit(call, i, q->limits[i], &limits);
	if (!r && q->delegate)
		r = open_check_delegate(call, q, &limits);
	if (!r)
		*ret_limits = limits;
	return r;
}

int rpc_open_lease(struct broker_call *call)
{
	const Ioasid__V1__OpenLeaseRequest *q = (const void *)call->request;
	struct lease *connection, *lease;
	struct quota_refusal refusal;
	struct ticket *ticket = NULL;
	struct lease_limits limits;
	char *key = NULL;
	int r;

	r = open_check(call, q, &limits);
	if (r)
		return r;
	lease = lease_find_named(call->tenant, q->name);
	if (lease)
		return open_again(call, lease);
	if (!tenant_accepts(call->tenant))
		return refuse_precondition(call, OUTCOME_WRONG_STATE, call->tenant->path,
					   "the tenant is being drained or left the policy");
	r = q->delegate ? delegation_check(call) : OUTCOME_OK;
	if (r)
		return r;
	if (q->watch_ticket.len) {
		connection = lease_find_held(call->session, call->tenant, "");
		ticket = ticket_find(connection, &q->watch_ticket, TICKET_PROCESS);
		if (!ticket || ticket->fd < 0)
			return refuse(call, OUTCOME_TICKET_REFUSED,
				      "watch_ticket: unknown, used, expired, without an fd, or of "
				      "another lease or purpose");
	}
	if (call->key[0]) {
		key = strdup(call->key);
		if (!key)
			return refuse_no_memory(call);
	}
	r = lease_new(call->session, call->tenant, q->name, &refusal, &lease);
	if (r) {
		free(key);
		return refuse_charge(call, r, &refusal);
	}
	lease->open_key = key;
	lease->open_hash = call->hash;
	lease->linger_seconds = q->linger_seconds;
	lease->keep = q->keep;
	lease->handover = q->handover;
	lease->limits = limits;
	lease->opener = call->session->peer;
	memcpy(lease->opener_socket, call->session->socket, sizeof(lease->opener_socket));
	lease->opener.socket = lease->opener_socket;
	call->note = scratch_strdup(&call->scratch, q->name);
	r = OUTCOME_OK;
	if (getrandom(lease->secret, LEASE_SECRET_SIZE, 0) != LEASE_SECRET_SIZE)
		r = refuse(call, OUTCOME_INTERNAL, "no random bytes");
	if (!r)
		r = answer_secret(call, lease);
	if (!r && q->delegate)
		r = delegation_open(call, lease, ticket->fd, limits.ioasids,
				    limits.registered_bytes);
	if (!r && ticket)
		r = open_watch(call, lease, ticket);
	if (r) {
		lease_close(lease, "it could not be opened");
	} else {
		FAULT_POINT(call->method->path, "before_result");
		journal_lease(lease);
		FAULT_POINT(call->method->path, "result");
	}
	return r;
}

int rpc_adopt_lease(struct broker_call *call)
{
	const Ioasid__V1__AdoptLeaseRequest *q = (const void *)call->request;
	struct lease *lease = NULL;
	bool takes;

	if (!lease_name_is_valid(q->name))
		return refuse_field(call, OUTCOME_INVALID_FIELD, "name",
				    "must be 1 to %d of A-Z a-z 0-9 . _ -", LEASE_NAME_MAX);
	if (q->secret.len != LEASE_SECRET_SIZE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "secret", "must be %d bytes",
				    LEASE_SECRET_SIZE);
	lease = lease_find_named(call->tenant, q->name);
	if (!lease || (!is_opener(call->session, lease) && !is_heir(call->session, lease)) ||
	    secret_differs(lease->secret, q->secret.data))
		return refuse(call, OUTCOME_NOT_FOUND, "no lease \"%s\" with this secret", q->name);
	takes = lease->handover && is_opener(call->session, lease);
	if (lease->holder && lease->holder != call->session && !takes)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, q->name,
					   "another connection holds it");
	if (!call_response(call))
		return refuse_no_memory(call);
	if (lease->holder != call->session)
		lease_take_from_holder(lease);
	if (!lease->holder)
		lease_set_holder(lease, call->session);
	call->note = scratch_strdup(&call->scratch, q->name);
	return OUTCOME_OK;
}

int lease_close_and_wait(struct broker_call *call, struct lease *lease, const char *why)
{
	if (!call_response(call))
		return refuse_no_memory(call);
	if (lease->closer)
		return refuse(call, OUTCOME_BUSY, "the lease is being closed already");
	call->note = scratch_printf(&call->scratch, "lease %llu %s",
				    (unsigned long long)lease->serial, lease->name ?: "");
	call->lease = NULL;
	lease->closer = call;
	lease_close(lease, why);
	return CALL_PENDING;
}

int rpc_close_lease(struct broker_call *call)
{
	if (!call->lease)
		return refuse(call, OUTCOME_NOT_FOUND, "this connection has no lease yet");
	return lease_close_and_wait(call, call->lease, "its holder closed it");
}

static bool describe_limit(struct broker_call *call, enum quota_resource resource, uint64_t limit,
			   Ioasid__V1__Lease *d)
{
	Ioasid__V1__ResourceAmount *amount;

	if (limit == UINT64_MAX)
		return true;
	amount = scratch_alloc(&call->scratch, sizeof(*amount));
	if (!amount)
		return false;
	ioasid__v1__resource_amount__init(amount);
	amount->resource = (char *)quota_resource_name(resource);
	amount->amount = limit;
	d->limits[d->n_limits++] = amount;
	return true;
}

Ioasid__V1__Lease *lease_describe(struct broker_call *call, const struct lease *lease)
{
	Ioasid__V1__Lease *d = scratch_alloc(&call->scratch, sizeof(*d));
	const struct broker_session *s = call->session;

	if (!d)
		return NULL;
	ioasid__v1__lease__init(d);
	d->name = lease->name ?: (char *)"";
	d->tenant = lease->tenant->path;
	d->mine = lease->holder == s;
	d->held = lease->holder != NULL;
	d->closing = lease->state != LEASE_OPEN;
	d->awaited = lease->awaited != NULL;
	d->linger_seconds = lease->linger_seconds;
	d->keep = lease->keep;
	d->handover = lease->handover;
	d->delegate = lease->delegation != NULL;
	d->limits = scratch_calloc(&call->scratch, 2, sizeof(*d->limits));
	if (!d->limits || !describe_limit(call, QUOTA_IOASIDS, lease->limits.ioasids, d) ||
	    !describe_limit(call, QUOTA_REGISTERED_BYTES, lease->limits.registered_bytes, d))
		return NULL;
	d->ioasids = lease->n_ioasids;
	d->memories = lease->n_memory;
	d->devices = lease->n_devices;
	d->attachments = lease->n_attachments;
	if (ROLE_BIT(s->role) & ROLES_OM) {
		d->serial = lease->serial;
		if (lease->holder) {
			d->uid = lease->holder->peer.uid;
			d->pid = (uint32_t)lease->holder->peer.pid;
		}
	}
	return d;
}

int rpc_list_leases(struct broker_call *call)
{
	const Ioasid__V1__ListLeasesRequest *q = (const void *)call->request;
	Ioasid__V1__ListLeasesResponse *p = call_response(call);
	struct broker_session *s = call->session;
	const struct lease *lease;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->leases = scratch_calloc(&call->scratch, page.size, sizeof(*p->leases));
	if (!p || !p->leases)
		return refuse_no_memory(call);
	TAILQ_FOREACH(lease, &call->broker->leases, all)
	{
		bool seen = s->role == POLICY_ROLE_TENANT
				    ? lease->tenant == s->tenant
				    : tenant_is_below(lease->tenant, call->tenant ?: s->tenant);

		if (lease->serial <= page.after || !seen)
			continue;
		if (p->n_leases == page.size)
			return page_continue(call, &page, &p->next_page_token);
		p->leases[p->n_leases] = lease_describe(call, lease);
		if (!p->leases[p->n_leases])
			return refuse_no_memory(call);
		p->n_leases++;
		page.after = lease->serial;
	}
	return OUTCOME_OK;
}
