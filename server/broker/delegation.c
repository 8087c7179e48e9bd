/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases whose context is their holder's own (docs/delegate.md): OpenLease's part of it, what it
 * costs, and GetContextFd.
 *
 * The broker keeps nothing of its own in such a context and knows nothing of what is in it, so
 * no method that makes an object acts in the lease (METHOD_BUILDS).  What was declared when it
 * was opened is charged in full, for as long as anybody may use it: the charges are one object
 * that the lease holds, and after the lease each of its devices that somebody still has open.
 *
 * Invariant: a context's descriptor is given out only after the registry knows that it may be.
 * State thread, but for context_run().
 */
#include "server/broker/delegation.h"

#include "server/broker/fault_point.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/ticket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int delegation_new(struct tenant *tenant, uint64_t lease, uint64_t ioasids, uint64_t bytes,
		   struct quota_refusal *ret_refusal, struct delegation **ret_delegation)
{
	const struct quota_amount amounts[] = {
		{QUOTA_IOASIDS, ioasids},
		{QUOTA_IOASIDS_KERNEL, ioasids},
		{QUOTA_KEPT_FDS, 1},
		{QUOTA_BROKER_BYTES, sizeof(struct delegation)},
	};
	/* Whichever of the three the tenant is held to. */
	const struct quota_amount memory[] = {
		{QUOTA_REGISTERED_BYTES, bytes},
		{QUOTA_MAPPED_BYTES, bytes},
		{QUOTA_PINNED_BYTES, bytes},
	};
	struct delegation *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	r = charge_take(&d->charge, tenant, amounts, 4, ret_refusal);
	if (!r)
		r = charge_take(&d->memory, tenant, memory, 3, ret_refusal);
	if (r) {
		charge_release(&d->charge);
		free(d);
		return r;
	}
	d->broker = tenant->broker;
	d->refs = 1;
	d->lease = lease;
	d->ioasids = ioasids;
	d->bytes = bytes;
	d->holder = -1;
	LIST_INSERT_HEAD(&d->broker->delegations, d, all);
	*ret_delegation = d;
	return 0;
}

struct delegation *delegation_ref(struct delegation *delegation)
{
	if (delegation)
		delegation->refs++;
	return delegation;
}

void delegation_unref(struct delegation *delegation)
{
	if (!delegation)
		return;
	assert(delegation->refs);
	if (--delegation->refs)
		return;
	LIST_REMOVE(delegation, all);
	if (delegation->holder >= 0)
		close(delegation->holder);
	charge_release(&delegation->memory);
	charge_release(&delegation->charge);
	free(delegation);
}

void delegation_end_holder(struct delegation *delegation, const char *tenant)
{
	struct delegation *d = delegation;
	int r;

	if (!d || d->holder < 0 || !d->given)
		return;
	r = shim_holder_end(d->broker->shim, tenant, d->holder, d->problem);
	if (r && !d->problem[0])
		snprintf(d->problem, sizeof(d->problem), "%s",
			 r < 0 ? strerror(-r) : "the shim does not");
}

struct delegation *delegation_find(struct broker *broker, uint64_t lease)
{
	struct delegation *d;

	LIST_FOREACH(d, &broker->delegations, all)
	if (d->lease == lease)
		return d;
	return NULL;
}

void delegations_each_charge(struct broker *broker, delegation_charge_fn fn, void *userdata)
{
	const struct delegation *d;

	LIST_FOREACH(d, &broker->delegations, all)
	{
		fn(userdata, &d->charge);
		fn(userdata, &d->memory);
	}
}

/* ---- OpenLease ---- */

int delegation_check(struct broker_call *call)
{
	const struct tenant *tenant = call->tenant;
	struct policy_verdict verdict = {
		.tenant = tenant->path,
		.rule = "the tenant is no longer in the policy",
	};

	if (!shim_delegates(call->broker->shim))
		return refuse(call, OUTCOME_UNIMPLEMENTED,
			      "delegate: shim \"%s\" has no contexts to give away",
			      call->broker->shim->ops->name);
	if (tenant->policy)
		policy_delegate_verdict(tenant->policy, &verdict);
	if (!verdict.allowed)
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "delegate: policy of %s forbids it (%s)",
			      verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
	return OUTCOME_OK;
}

int delegation_open(struct broker_call *call, struct lease *lease, int pidfd, uint64_t ioasids,
		    uint64_t bytes)
{
	struct quota_refusal refusal;
	struct delegation *d;
	int r = delegation_new(lease->tenant, lease->serial, ioasids, bytes, &refusal, &d);

	if (r)
		return refuse_charge(call, r, &refusal);
	d->holder = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
	if (d->holder < 0) {
		delegation_unref(d);
		return refuse(call, OUTCOME_INTERNAL, "the process cannot be watched: %s",
			      strerror(errno));
	}
	lease->delegation = d;
	return OUTCOME_OK;
}

int refuse_delegation(struct broker_call *call, int error, const char *reason)
{
	/* Its process is not one that could be ended, or has ended. */
	if (error == SHIM_E_REFUSED || error == SHIM_E_GONE)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, call->lease->name, "%s",
					   reason);
	if (error == SHIM_E_UNSUPPORTED)
		return refuse(call, OUTCOME_UNIMPLEMENTED, "a context of its own: %s", reason);
	return refuse_shim(call, error, "open a context", reason);
}

/* ---- GetContextFd ---- */

struct context_fd {
	int result;
	int fd;
	char reason[SHIM_REASON_MAX];
};

static void context_run(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct context_fd *c = call->data;
	struct shim_ctx *ctx;

	c->result = lease_context(call->lease, c->reason, &ctx);
	if (!c->result)
		c->result = shim_ctx_fd(ctx, &c->fd);
}

void delegation_note_given(struct lease *lease)
{
	if (lease->delegation->given && lease->ctx_saved)
		return;
	lease->delegation->given = true;
	if (!lease->ctx_saved) {
		shim_ctx_save(lease->ctx, &lease->saved);
		lease->ctx_saved = true;
	}
	journal_lease(lease);
}

static int context_answer(struct broker_call *call, struct context_fd *c)
{
	Ioasid__V1__GetContextFdResponse *p = (void *)call->response;
	struct ticket *ticket;
	int r;

	if (c->result)
		return refuse_delegation(call, c->result, c->reason);
	if (call->lease->state != LEASE_OPEN || !call->session)
		return refuse(call, OUTCOME_CANCELLED, "the lease closed");
	r = ticket_with_fd(call, TICKET_CONTEXT, c->fd, &ticket);
	if (r)
		return r;
	c->fd = -1;
	/* Before anybody can have it. */
	delegation_note_given(call->lease);
	FAULT_POINT(call->method->path, "result");
	memcpy(p->ticket.data, ticket->bytes, TICKET_SIZE);
	p->ticket.len = TICKET_SIZE;
	return OUTCOME_OK;
}

static void context_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct context_fd *c = call->data;
	int r = context_answer(call, c);

	if (c->fd >= 0)
		close(c->fd);
	call_end(call, r);
}

int rpc_get_context_fd(struct broker_call *call)
{
	Ioasid__V1__GetContextFdResponse *p = call_response(call);
	struct context_fd *c = scratch_calloc(&call->scratch, 1, sizeof(*c));

	if (!call->lease)
		return refuse(call, OUTCOME_NOT_FOUND, "this connection has no lease yet");
	if (!call->lease->delegation)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, call->lease->name ?: "",
					   "the lease was not opened with delegate");
	if (p)
		p->ticket.data = scratch_alloc(&call->scratch, TICKET_SIZE);
	if (!p || !p->ticket.data || !c)
		return refuse_no_memory(call);
	c->fd = -1;
	call->data = c;
	call->note = call->lease->name;
	return call_run(call, context_run, context_complete, true);
}
