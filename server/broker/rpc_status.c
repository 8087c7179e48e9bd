/* SPDX-License-Identifier: Apache-2.0 */
/* GetStatus: who the server is, who the caller is to it, and what it can do, by name. */
#include "server/broker/rpc_status.h"

static const char *const capabilities[] = {
	"kind-kernel", "nesting-kernel", "negotiate",	  "translate",	 "pasid-attach",
	"invalidate",  "named-leases",	 "lease-watch",	  "idempotency", "quotas",
	"events",      "policy-reload",	 "fd-protocol-1",
};

int rpc_get_status(struct broker_call *call)
{
	const size_t n = sizeof(capabilities) / sizeof(capabilities[0]);
	Ioasid__V1__GetStatusResponse *p = call_response(call);
	struct broker *broker = call->broker;

	if (p)
		p->capabilities = scratch_calloc(&call->scratch, n + 1, sizeof(*p->capabilities));
	if (!p || !p->capabilities)
		return refuse_no_memory(call);
	for (size_t i = 0; i < n; i++)
		p->capabilities[p->n_capabilities++] = (char *)capabilities[i];
	if (broker->shim->ops->dma)
		p->capabilities[p->n_capabilities++] = (char *)"device-dma";
	p->version = (char *)IOASID_VERSION;
	p->shim = (char *)broker->shim->ops->name;
	p->role = (char *)policy_role_name(call->session->role);
	p->tenant = call->session->tenant->path;
	p->uptime_seconds = (broker_now(broker) - broker->started_us) / 1000000;
	if (ROLE_BIT(call->session->role) & ROLES_OM) {
		p->connections = broker->n_sessions;
		p->leases = broker->n_leases;
		p->ioasids = broker->n_ioasids;
		p->policy_generation = broker->policy_generation;
	}
	return OUTCOME_OK;
}
