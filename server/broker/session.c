/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: one connection each, and who is at its other end.
 *
 * Owns struct broker_session.  The principal is (listening socket, peer credentials); policy
 * turns it into a role and a tenant once, at the start, and again when the policy is
 * reloaded.  A peer that policy does not know, or whose tenant has too many connections,
 * gets a session on which everything is refused with the reason; of those only
 * REFUSED_MAX are kept.  State thread.
 */
#include "server/broker/session.h"

#include "server/broker/call.h"
#include "server/broker/event.h"
#include "server/broker/lease.h"
#include "server/broker/process.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define REFUSED_MAX 64
/* What gRPC keeps for one server of one connection (reference/grpc-core.md), rounded up. */
#define CONNECTION_BYTES (24u << 10)

/* Role NONE if policy does not know the peer. */
static void session_identify(const struct broker *broker, const struct policy *policy,
			     const struct broker_session *s, enum policy_role *ret_role,
			     struct tenant **ret_tenant)
{
	struct policy_caller caller = {
		.socket = s->socket,
		.uid = s->peer.uid,
		.gid = s->peer.gid,
	};
	struct policy_identity identity;

	*ret_role = POLICY_ROLE_NONE;
	*ret_tenant = NULL;
	if (policy_identify(policy, &caller, &identity))
		return;
	*ret_tenant = tenant_find((struct broker *)broker, identity.tenant);
	if (*ret_tenant)
		*ret_role = identity.role;
}

static int session_charge(struct broker_session *s)
{
	struct quota_amount amounts[] = {
		{QUOTA_CONNECTIONS, 1},
		{QUOTA_BROKER_BYTES, sizeof(*s) + CONNECTION_BYTES},
	};

	/* An admin must get in to a host that is full. */
	if (s->role == POLICY_ROLE_ADMIN || s->role == POLICY_ROLE_NONE)
		return 0;
	return charge_take(&s->charge, s->tenant, amounts, 2, &s->refusal);
}

int broker_session_open(struct broker *broker, const struct broker_peer *peer, void *connection,
			bool *ret_refused, struct broker_session **ret_session)
{
	struct broker_session *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->broker = broker;
	s->connection = connection;
	s->peer = *peer;
	snprintf(s->socket, sizeof(s->socket), "%s", peer->socket);
	s->peer.socket = s->socket;
	LIST_INIT(&s->leases);
	LIST_INIT(&s->calls);
	/* Small requests are answered whole, and never with an error. */
	if (getrandom(s->token, sizeof(s->token), 0) != sizeof(s->token)) {
		free(s);
		return -EIO;
	}
	session_identify(broker, broker->policy, s, &s->role, &s->tenant);
	s->refused = session_charge(s) > 0;
	if (s->refused || s->role == POLICY_ROLE_NONE) {
		if (broker->n_refused_sessions >= REFUSED_MAX) {
			free(s);
			return BROKER_E_CONNECTIONS;
		}
		broker->n_refused_sessions++;
	}
	if (s->tenant)
		s->tenant->n_sessions++;
	broker->n_sessions++;
	TAILQ_INSERT_TAIL(&broker->sessions, s, all);
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_CONNECTION_OPENED, s->tenant, NULL, 0,
		   NULL, "%s uid %u pid %d as %s%s", s->socket, peer->uid, (int)peer->pid,
		   policy_role_name(s->role), s->refused ? ", refused" : "");
	*ret_refused = s->refused || s->role == POLICY_ROLE_NONE;
	*ret_session = s;
	return 0;
}

void broker_session_close(struct broker_session *s)
{
	struct broker *broker = s->broker;
	struct broker_call *call, *next;
	struct tenant *tenant = s->tenant;
	struct lease *lease;

	for (call = LIST_FIRST(&s->calls); call; call = next) {
		next = LIST_NEXT(call, of_session);
		broker_call_cancel(call);
	}
	/* What is left runs on a worker, or waits for a lease to end. */
	while ((call = LIST_FIRST(&s->calls))) {
		LIST_REMOVE(call, of_session);
		call->session = NULL;
		call->cancelled = true;
	}
	while ((lease = LIST_FIRST(&s->leases)))
		lease_drop_holder(lease);
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_CONNECTION_CLOSED, tenant, NULL, 0,
		   NULL, "%s uid %u pid %d", s->socket, s->peer.uid, (int)s->peer.pid);
	TAILQ_REMOVE(&broker->sessions, s, all);
	broker->n_sessions--;
	if (s->refused || s->role == POLICY_ROLE_NONE)
		broker->n_refused_sessions--;
	charge_release(&s->charge);
	if (tenant) {
		tenant->n_sessions--;
		tenant_collect(tenant);
	}
	free(s);
}

void session_find_process(struct broker_session *session)
{
	if (session->broker->registry && !session->process.pid)
		session->process = process_of_pid(session->peer.pid);
}

void sessions_reidentify(struct broker *broker)
{
	struct broker_session *s, *next;

	for (s = TAILQ_FIRST(&broker->sessions); s; s = next) {
		struct tenant *tenant;
		enum policy_role role;

		next = TAILQ_NEXT(s, all);
		/* A tenant that left the policy drains: what it has stays until it is given back.
		 */
		if (s->tenant && !s->tenant->policy)
			continue;
		session_identify(broker, broker->policy, s, &role, &tenant);
		if (role != s->role || tenant != s->tenant)
			broker->host_ops->kick(broker->host, s->connection);
	}
}
