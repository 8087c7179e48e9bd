/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resume: leases that a restart of the broker left without their connection, and the process
 * that comes back for them.
 *
 * A connection lease is worth no more than its connection, which the restart has ended without
 * the client's doing.  So it waits for a while for the same process (socket, uid, pid, start
 * time of the process) with the token that the broker had given that connection; when the
 * process ends, or the time is over, the lease ends.  Whoever else comes learns nothing.
 *
 * Owns lease->awaited and its watch.  State thread.
 */
#include "server/broker/rpc_resume.h"

#include "server/broker/fault_point.h"
#include "server/broker/lease.h"
#include "server/broker/process.h"
#include "server/broker/rpc_lease.h"
#include "server/broker/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void claimant_ended(struct broker_watch *watch)
{
	struct lease *lease = CONTAINER_OF(watch, struct lease, awaited_watch);

	close(watch->fd);
	watch->fd = -1;
	lease_close(lease, "its process ended before it came back");
}

int lease_await(struct lease *lease, struct lease_claimant *claimant, uint64_t until_us)
{
	struct broker *broker = lease->broker;
	int r;

	lease->awaited = claimant;
	lease->linger_until_us = until_us;
	broker_expect(broker, until_us);
	if (lease->name)
		return 0;
	r = process_open(&claimant->process, &lease->awaited_watch.fd);
	if (r)
		return r;
	lease->awaited_watch.ready = claimant_ended;
	r = broker->host_ops->watch(broker->host, &lease->awaited_watch);
	if (r) {
		close(lease->awaited_watch.fd);
		lease->awaited_watch.fd = -1;
	}
	return r;
}

void lease_await_no_more(struct lease *lease)
{
	lease_unwatch(lease, &lease->awaited_watch);
	if (lease->awaited)
		explicit_bzero(lease->awaited, sizeof(*lease->awaited));
	free(lease->awaited);
	lease->awaited = NULL;
}

/* Takes as long for a near miss as for any other. */
static bool token_differs(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;

	for (size_t i = 0; i < RESUME_TOKEN_SIZE; i++)
		difference |= a[i] ^ b[i];
	return difference;
}

static bool is_awaited_for(const struct lease *lease, const struct broker_session *s,
			   const uint8_t *token)
{
	const struct lease_claimant *c = lease->awaited;

	return lease->state == LEASE_OPEN && c && !token_differs(c->token, token) &&
	       c->uid == s->peer.uid && !strcmp(c->socket, s->socket) &&
	       process_is_same(&c->process, &s->process) && s->tenant &&
	       tenant_is_below(lease->tenant, s->tenant);
}

/* Nothing is taken over before everything can be. */
static int check_all(struct broker_call *call, const uint8_t *token, size_t *ret_n)
{
	struct broker_session *s = call->session;
	struct lease *lease;
	size_t n = 0;

	TAILQ_FOREACH(lease, &call->broker->leases, all)
	{
		if (!is_awaited_for(lease, s, token))
			continue;
		if (!lease->name && lease_find_held(s, lease->tenant, ""))
			return refuse_precondition(
				call, OUTCOME_WRONG_STATE, lease->tenant->path,
				"this connection has a connection lease already");
		n++;
	}
	*ret_n = n;
	return OUTCOME_OK;
}

int rpc_resume(struct broker_call *call)
{
	const Ioasid__V1__ResumeRequest *q = (const void *)call->request;
	Ioasid__V1__ResumeResponse *p = call_response(call);
	struct broker_session *s = call->session;
	struct lease *lease;
	size_t n = 0;
	int r;

	if (q->token.len != RESUME_TOKEN_SIZE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "token", "must be %d bytes",
				    RESUME_TOKEN_SIZE);
	session_find_process(s);
	r = check_all(call, q->token.data, &n);
	if (r)
		return r;
	if (!n)
		return refuse(call, OUTCOME_NOT_FOUND,
			      "no lease waits for this process with this token");
	if (p)
		p->leases = scratch_calloc(&call->scratch, n, sizeof(*p->leases));
	if (!p || !p->leases)
		return refuse_no_memory(call);
	TAILQ_FOREACH(lease, &call->broker->leases, all)
	{
		if (!is_awaited_for(lease, s, q->token.data))
			continue;
		p->leases[p->n_leases] = lease_describe(call, lease);
		if (!p->leases[p->n_leases])
			return refuse_no_memory(call);
		p->n_leases++;
	}
	n = 0;
	TAILQ_FOREACH(lease, &call->broker->leases, all)
	{
		if (!is_awaited_for(lease, s, q->token.data))
			continue;
		lease_set_holder(lease, s);
		FAULT_POINT(call->method->path, "resume_lease");
		p->leases[n]->mine = p->leases[n]->held = true;
		p->leases[n]->awaited = false;
		n++;
	}
	call->note = scratch_printf(&call->scratch, "%zu leases", n);
	return OUTCOME_OK;
}
