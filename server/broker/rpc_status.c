/* SPDX-License-Identifier: Apache-2.0 */
/* GetStatus: who the server is, who the caller is to it, and what it can do, by name. */
#include "server/broker/rpc_status.h"

#include "server/broker/state.h"

/* Of the server, whatever its shim. */
static const char *const capabilities[] = {
	"kind-kernel", "negotiate", "translate", "invalidate",	  "named-leases",  "lease-watch",
	"idempotency", "quotas",    "events",	 "policy-reload", "fd-protocol-1", "resume",
};
#define N_CAPABILITIES	    (sizeof(capabilities) / sizeof(capabilities[0]))
#define N_SHIM_CAPABILITIES 10

/* What the shim has, for one device at least. */
static size_t shim_capabilities(const struct broker *broker, char **ret_names)
{
	const struct shim_ops *ops = broker->shim->ops;
	bool nests = false, pasids = false, faults = false, dirty = false;
	bool kinds[_SHIM_KIND_MAX] = {false};
	size_t n = 0;

	for (size_t i = 0; i < broker->n_devices; i++) {
		nests |= broker->devices[i].info->caps.max_depth > 1;
		pasids |= broker->devices[i].info->caps.pasid_bits > 0;
		faults |= broker->devices[i].info->caps.recoverable_faults;
		dirty |= broker->devices[i].info->caps.dirty_tracking;
		for (unsigned kind = SHIM_KIND_KERNEL; kind < _SHIM_KIND_MAX; kind++)
			kinds[kind] |= !broker->devices[i].info->caps.kind_absent[kind][0];
	}
	if (kinds[SHIM_KIND_USER])
		ret_names[n++] = (char *)"kind-user";
	if (kinds[SHIM_KIND_PROCESS])
		ret_names[n++] = (char *)"kind-process";
	if (kinds[SHIM_KIND_KVM])
		ret_names[n++] = (char *)"kind-kvm";
	if (faults)
		ret_names[n++] = (char *)"page-requests";
	if (dirty)
		ret_names[n++] = (char *)"dirty-tracking";
	if (nests)
		ret_names[n++] = (char *)"nesting-kernel";
	if (pasids)
		ret_names[n++] = (char *)"pasid-attach";
	if (ops->dma)
		ret_names[n++] = (char *)"device-dma";
	if (ops->dev_fd)
		ret_names[n++] = (char *)"device-fd";
	if (shim_delegates(broker->shim))
		ret_names[n++] = (char *)"delegate";
	return n;
}

static Ioasid__V1__RestartReport *describe_restart(struct broker_call *call,
						   const struct restart_report *r)
{
	Ioasid__V1__RestartReport *d = scratch_alloc(&call->scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__restart_report__init(d);
	d->leases_restored = r->leases_restored;
	d->leases_ended = r->leases_ended;
	d->memories = r->memories;
	d->ioasids = r->ioasids;
	d->mappings = r->mappings;
	d->attachments = r->attachments;
	d->devices = r->devices;
	d->undone = r->undone;
	d->redone = r->redone;
	d->strays = r->strays;
	d->damaged_records = r->damaged;
	d->duration_us = r->duration_us;
	d->other_boot_leases = r->other_boot_leases;
	return d;
}

int rpc_get_status(struct broker_call *call)
{
	Ioasid__V1__GetStatusResponse *p = call_response(call);
	struct broker *broker = call->broker;
	struct registry_stats stats;

	if (p)
		p->capabilities =
			scratch_calloc(&call->scratch, N_CAPABILITIES + N_SHIM_CAPABILITIES,
				       sizeof(*p->capabilities));
	if (!p || !p->capabilities)
		return refuse_no_memory(call);
	for (size_t i = 0; i < N_CAPABILITIES; i++)
		p->capabilities[p->n_capabilities++] = (char *)capabilities[i];
	p->n_capabilities += shim_capabilities(broker, p->capabilities + N_CAPABILITIES);
	p->version = (char *)IOASID_VERSION;
	p->shim = (char *)broker->shim->ops->name;
	p->role = (char *)policy_role_name(call->session->role);
	p->tenant = call->session->tenant->path;
	p->resume_token.data = call->session->token;
	p->resume_token.len = RESUME_TOKEN_SIZE;
	if (broker->registry) {
		registry_stats(broker->registry, &stats);
		p->registry_generation = stats.generation;
	}
	p->uptime_seconds = (broker_now(broker) - broker->started_us) / 1000000;
	if (ROLE_BIT(call->session->role) & ROLES_OM) {
		p->connections = broker->n_sessions;
		p->leases = broker->n_leases;
		p->ioasids = broker->n_ioasids;
		p->policy_generation = broker->policy_generation;
		if (broker->restart.found) {
			p->restart = describe_restart(call, &broker->restart);
			if (!p->restart)
				return refuse_no_memory(call);
		}
	}
	return OUTCOME_OK;
}
