/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Admin service: tenants and their limits, policy reload, drain, revoke, and the list
 * of everything.  Limits change here and nowhere in an allocation (R16).
 */
#include "server/broker/rpc_admin.h"

#include "server/broker/attachment.h"
#include "server/broker/device.h"
#include "server/broker/event.h"
#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/memory.h"
#include "server/broker/page.h"
#include "server/broker/rpc_lease.h"
#include "server/broker/rpc_quota.h"
#include "server/broker/ticket.h"
#include "server/broker/vm.h"

#include <stdio.h>
#include <string.h>

#define LIMITS_MAX 64
/* Objects of one kind that a list shows for one lease. */
#define SHOWN_MAX 1024

/* The subtree of a request: inside the caller's own; an outcome. */
static int find_subtree(struct broker_call *call, const char *path, struct tenant **ret_top)
{
	struct tenant *own = call->session->tenant;

	*ret_top = own;
	if (!path[0])
		return OUTCOME_OK;
	if (strlen(path) > POLICY_PATH_MAX || !policy_path_in_subtree(path, own->path))
		return refuse(call, OUTCOME_ROLE_FORBIDDEN,
			      "subtree: \"%s\" is not in the caller's subtree \"%s\"", path,
			      own->path);
	*ret_top = tenant_find(call->broker, path);
	return *ret_top ? OUTCOME_OK
			: refuse(call, OUTCOME_NOT_FOUND, "subtree: no tenant \"%s\"", path);
}

static Ioasid__V1__Tenant *tenant_describe(struct scratch *scratch, const struct tenant *tenant,
					   bool unused)
{
	Ioasid__V1__Tenant *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__tenant__init(d);
	d->path = (char *)tenant->path;
	d->parent = tenant->parent ? (char *)tenant->parent->path : (char *)"";
	d->draining = tenant->draining;
	d->orphaned = !tenant->policy;
	return usage_describe(scratch, tenant, unused, &d->n_resources, &d->resources) ? d : NULL;
}

int rpc_list_tenants(struct broker_call *call)
{
	const Ioasid__V1__ListTenantsRequest *q = (const void *)call->request;
	Ioasid__V1__ListTenantsResponse *p = call_response(call);
	struct tenant *top, *t;
	uint32_t size = q->page_size ?: PAGE_DEFAULT;
	int r;

	if (q->page_size > PAGE_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "page_size", "at most %d",
				    PAGE_MAX);
	r = find_subtree(call, q->subtree, &top);
	if (r)
		return r;
	if (p)
		p->tenants = scratch_calloc(&call->scratch, size, sizeof(*p->tenants));
	if (!p || !p->tenants)
		return refuse_no_memory(call);
	/* The token is the last path, with a slash in front so that the host's is not empty. */
	if (q->page_token[0] && q->page_token[0] != '/')
		return refuse_field(call, OUTCOME_INVALID_FIELD, "page_token",
				    "not a token of this server");
	t = q->page_token[0] ? tenant_after(call->broker, q->page_token + 1)
			     : tenant_first(call->broker);
	for (; t; t = tenant_next(t)) {
		if (!tenant_is_below(t, top))
			continue;
		if (p->n_tenants == size) {
			p->next_page_token =
				scratch_printf(&call->scratch, "/%s", p->tenants[size - 1]->path);
			return p->next_page_token ? OUTCOME_OK : refuse_no_memory(call);
		}
		p->tenants[p->n_tenants] = tenant_describe(&call->scratch, t, q->with_unused);
		if (!p->tenants[p->n_tenants])
			return refuse_no_memory(call);
		p->n_tenants++;
	}
	return OUTCOME_OK;
}

/* What differs from the policy, and the answer. */
static void tenant_write(struct broker_call *call, const struct tenant *t)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops = &drop;
	Ioasid__Registry__Tenant *records;
	struct record_tenant record;

	if (record_tenant(&record, t)) {
		records = &record.tenant;
		batch.tenants = &records;
		batch.n_tenants = 1;
	} else {
		drop.tenant = record_tenant_path(t);
		batch.drops = &drops;
		batch.n_drops = 1;
	}
	journal_result(call, &batch);
}

int rpc_set_limits(struct broker_call *call)
{
	const Ioasid__V1__SetLimitsRequest *q = (const void *)call->request;
	Ioasid__V1__SetLimitsResponse *p = call_response(call);
	enum quota_resource resources[LIMITS_MAX];
	uint64_t before[_QUOTA_MAX];
	uint32_t set_before;
	struct tenant *t;
	int r;

	r = find_subtree(call, q->tenant, &t);
	if (r)
		return r;
	if (!q->n_limits)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "limits", "none given");
	if (q->n_limits > LIMITS_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "limits", "at most %d, found %zu",
				    LIMITS_MAX, q->n_limits);
	for (size_t i = 0; i < q->n_limits; i++) {
		char field[48];

		snprintf(field, sizeof(field), "limits[%zu].resource", i);
		if (quota_resource_from_name(q->limits[i]->resource, &resources[i]))
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "no resource \"%s\"", q->limits[i]->resource);
		for (size_t k = 0; k < i; k++)
			if (resources[k] == resources[i])
				return refuse_field(call, OUTCOME_INVALID_FIELD, field,
						    "%s is named twice", q->limits[i]->resource);
	}
	if (!p)
		return refuse_no_memory(call);
	memcpy(before, t->quota.limit, sizeof(before));
	set_before = t->limits_set;
	for (size_t i = 0; i < q->n_limits; i++) {
		quota_set_limit(&t->quota, resources[i], q->limits[i]->amount);
		t->limits_set |= UINT32_C(1) << resources[i];
	}
	p->tenant = tenant_describe(&call->scratch, t, true);
	r = p->tenant ? journal_reserve(call, RECORD_TENANT_BOUND) : refuse_no_memory(call);
	if (r) {
		for (size_t i = 0; i < q->n_limits; i++)
			quota_set_limit(&t->quota, resources[i], before[resources[i]]);
		t->limits_set = set_before;
		return r;
	}
	tenant_write(call, t);
	for (size_t i = 0; i < q->n_limits; i++)
		event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LIMIT_CHANGED, t, NULL,
			   0, NULL, "%s: %llu, was %llu", q->limits[i]->resource,
			   (unsigned long long)q->limits[i]->amount,
			   (unsigned long long)before[resources[i]]);
	call_act_for(call, t);
	call->note = "limits";
	return OUTCOME_OK;
}

int rpc_reload_policy(struct broker_call *call)
{
	Ioasid__V1__ReloadPolicyResponse *p = call_response(call);
	struct broker *broker = call->broker;
	char problem[1024];
	struct tenant *t;
	size_t n = 0;
	int r;

	if (!broker->policy_path)
		return refuse(call, OUTCOME_UNIMPLEMENTED,
			      "the broker was started without a policy path");
	if (!p)
		return refuse_no_memory(call);
	r = broker_reload_policy(broker, problem, sizeof(problem));
	if (r < 0)
		return refuse_no_memory(call);
	if (r)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, "policy", "%s", problem);
	p->generation = broker->policy_generation;
	for (t = tenant_first(broker); t; t = tenant_next(t))
		n += !t->policy;
	p->orphaned = scratch_calloc(&call->scratch, n, sizeof(*p->orphaned));
	for (t = tenant_first(broker); t && p->orphaned; t = tenant_next(t))
		if (!t->policy)
			p->orphaned[p->n_orphaned++] = t->path;
	return OUTCOME_OK;
}

static bool is_open_below(const struct lease *lease, const struct tenant *t)
{
	return lease->state == LEASE_OPEN && tenant_is_below(lease->tenant, t);
}

/* First that it drains and ends leases is written: a crash between the leases ends them all. */
int rpc_drain_tenant(struct broker_call *call)
{
	const Ioasid__V1__DrainTenantRequest *q = (const void *)call->request;
	Ioasid__V1__DrainTenantResponse *p = call_response(call);
	struct lease *lease, *next;
	struct tenant *t;
	bool was_draining, was_closing;
	int r;

	r = find_subtree(call, q->tenant, &t);
	if (r)
		return r;
	if (q->close_leases && !q->drain)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "close_leases",
				    "only together with drain");
	if (!p)
		return refuse_no_memory(call);
	was_draining = t->draining;
	was_closing = t->closes_leases;
	t->draining = q->drain;
	t->closes_leases = q->drain && (q->close_leases || was_closing);
	r = journal_reserve(call, RECORD_TENANT_BOUND);
	if (r) {
		t->draining = was_draining;
		t->closes_leases = was_closing;
		return r;
	}
	call_act_for(call, t);
	call->note = q->drain ? "drain" : "end of drain";
	event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_TENANT_DRAINED, t, NULL, 0,
		   NULL, "%s", call->note);
	TAILQ_FOREACH(lease, &call->broker->leases, all)
	p->leases_closed += q->close_leases && is_open_below(lease, t);
	tenant_write(call, t);
	for (lease = TAILQ_FIRST(&call->broker->leases); lease && q->close_leases; lease = next) {
		next = TAILQ_NEXT(lease, all);
		if (is_open_below(lease, t))
			lease_close(lease, "its tenant is drained");
	}
	return OUTCOME_OK;
}

/* ---- Revoke ---- */

static void revoke_run(struct op *op)
{
	device_let_go(call_of_op(op)->data);
}

static void revoke_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct device *d = call->data;

	attachments_reap_device(d);
	device_reap(d);
	ioasids_finish_retiring(call);
}

/* In turn with the lease's own calls: comes here again when the lease is idle. */
static int revoke_device(struct broker_call *call, struct device *d)
{
	struct lease *lease = d->lease;
	int r;

	if (!lease && !call->lease)
		return refuse_precondition(call, OUTCOME_NOT_CLAIMED, d->info->address,
					   "no lease has claimed it");
	if (!call->lease) {
		if (lease->state != LEASE_OPEN)
			return refuse(call, OUTCOME_BUSY, "its lease is being closed already");
		/*
		 * With its fd the tenant could attach it again to what is left of the lease: so
		 * nothing is left.
		 */
		if (d->fd_given) {
			event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_REVOKED,
				   lease->tenant, lease, 0, d->info->address,
				   "a device whose fd the tenant has was revoked by an admin");
			return lease_close_and_wait(call, lease, "an admin revoked its device");
		}
		call->lease = lease;
		call->queued = true;
		STAILQ_INSERT_TAIL(&lease->waiting, call, waiting);
		lease_run_queue(lease);
		return CALL_PENDING;
	}
	/* It may have been given back while this call waited. */
	if (lease != call->lease)
		return call_response(call) ? OUTCOME_OK : refuse_no_memory(call);
	if (!call_response(call))
		return refuse_no_memory(call);
	journal_intent(call);
	r = journal_intent_devices(call, &d, 1);
	if (!r)
		r = journal_promise(call);
	if (!r)
		r = journal_begin(call, 0, 0);
	if (r)
		return r;
	d->revoking = true;
	tickets_drop_device(lease, d);
	event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_REVOKED, lease->tenant,
		   lease, 0, d->info->address, "device revoked by an admin");
	call->note = d->info->address;
	call->data = d;
	return call_run(call, revoke_run, revoke_complete, true);
}

int rpc_revoke(struct broker_call *call)
{
	const Ioasid__V1__RevokeRequest *q = (const void *)call->request;
	struct device *d;
	struct lease *lease;

	switch (q->what_case) {
	case IOASID__V1__REVOKE_REQUEST__WHAT_DEVICE:
		d = device_find(call->broker, q->device);
		if (!d)
			return refuse(call, OUTCOME_NOT_FOUND, "no device \"%s\"", q->device);
		return revoke_device(call, d);
	case IOASID__V1__REVOKE_REQUEST__WHAT_LEASE_SERIAL:
		TAILQ_FOREACH(lease, &call->broker->leases, all)
		if (lease->serial == q->lease_serial)
			break;
		if (!lease)
			return refuse(call, OUTCOME_NOT_FOUND, "no lease of serial %llu",
				      (unsigned long long)q->lease_serial);
		event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_REVOKED,
			   lease->tenant, lease, 0, NULL, "revoked by an admin");
		return lease_close_and_wait(call, lease, "an admin revoked it");
	default:
		return refuse_field(call, OUTCOME_INVALID_FIELD, "what", "must be given");
	}
}

/* ---- ListObjects ---- */

static bool describe_ioasids(struct broker_call *call, struct lease *lease,
			     Ioasid__V1__LeaseObjects *d)
{
	uint64_t after = 0;
	struct object *o;

	d->ioasids = scratch_calloc(&call->scratch, SHOWN_MAX, sizeof(*d->ioasids));
	if (!d->ioasids)
		return false;
	while (d->n_ioasids < SHOWN_MAX && (o = lease_object_after(lease, OBJECT_IOASID, after))) {
		Ioasid__V1__Ioasid *i =
			ioasid_describe(&call->scratch, CONTAINER_OF(o, struct ioasid, object));

		if (!i)
			return false;
		d->ioasids[d->n_ioasids++] = i;
		after = o->id.value;
	}
	d->omitted += lease->n_ioasids - lease->n_pending_ioasids - d->n_ioasids;
	d->pending += lease->n_pending_ioasids;
	return true;
}

static bool describe_memory(struct broker_call *call, struct lease *lease,
			    Ioasid__V1__LeaseObjects *d)
{
	uint64_t after = 0;
	struct object *o;

	d->memory = scratch_calloc(&call->scratch, SHOWN_MAX, sizeof(*d->memory));
	if (!d->memory)
		return false;
	while (d->n_memory < SHOWN_MAX && (o = lease_object_after(lease, OBJECT_MEMORY, after))) {
		Ioasid__V1__Memory *m =
			memory_describe(&call->scratch, CONTAINER_OF(o, struct memory, object));

		if (!m)
			return false;
		d->memory[d->n_memory++] = m;
		after = o->id.value;
	}
	d->omitted += lease->n_memory - lease->n_pending_memory - d->n_memory;
	d->pending += lease->n_pending_memory;
	return true;
}

static bool describe_vms(struct broker_call *call, struct lease *lease, Ioasid__V1__LeaseObjects *d)
{
	uint64_t after = 0;
	struct object *o;

	d->vms = scratch_calloc(&call->scratch, SHOWN_MAX, sizeof(*d->vms));
	if (!d->vms)
		return false;
	while (d->n_vms < SHOWN_MAX && (o = lease_object_after(lease, OBJECT_VM, after))) {
		Ioasid__V1__Vm *v = vm_describe(&call->scratch, CONTAINER_OF(o, struct vm, object));

		if (!v)
			return false;
		d->vms[d->n_vms++] = v;
		after = o->id.value;
	}
	d->omitted += lease->n_vms - lease->n_pending_vms - d->n_vms;
	d->pending += lease->n_pending_vms;
	return true;
}

static bool describe_devices(struct broker_call *call, struct lease *lease,
			     Ioasid__V1__LeaseObjects *d)
{
	struct attachment *a = lease->state == LEASE_OPEN ? attachment_first(lease) : NULL;
	struct device *device;

	d->attachments = scratch_calloc(&call->scratch, SHOWN_MAX, sizeof(*d->attachments));
	d->devices = scratch_calloc(&call->scratch, lease->n_devices, sizeof(*d->devices));
	if (!d->attachments || !d->devices)
		return false;
	for (; a && d->n_attachments < SHOWN_MAX; a = attachment_next(lease, a)) {
		d->attachments[d->n_attachments] = attachment_describe(&call->scratch, a);
		if (!d->attachments[d->n_attachments])
			return false;
		d->n_attachments++;
	}
	d->omitted += lease->n_attachments - d->n_attachments;
	TAILQ_FOREACH(device, &lease->devices, link)
	d->devices[d->n_devices++] = (char *)device->info->address;
	return true;
}

static Ioasid__V1__LeaseObjects *objects_describe(struct broker_call *call, struct lease *lease)
{
	Ioasid__V1__LeaseObjects *d = scratch_alloc(&call->scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__lease_objects__init(d);
	d->lease = lease_describe(call, lease);
	if (!d->lease || !describe_ioasids(call, lease, d) || !describe_memory(call, lease, d) ||
	    !describe_vms(call, lease, d) || !describe_devices(call, lease, d))
		return NULL;
	return d;
}

int rpc_list_objects(struct broker_call *call)
{
	const Ioasid__V1__ListObjectsRequest *q = (const void *)call->request;
	Ioasid__V1__ListObjectsResponse *p = call_response(call);
	size_t room = 2u << 20;
	struct lease *lease;
	struct tenant *top;
	struct page page;
	int r;

	r = find_subtree(call, q->subtree, &top);
	if (!r)
		r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->leases = scratch_calloc(&call->scratch, page.size, sizeof(*p->leases));
	if (!p || !p->leases)
		return refuse_no_memory(call);
	TAILQ_FOREACH(lease, &call->broker->leases, all)
	{
		Ioasid__V1__LeaseObjects *d;
		size_t bytes;

		if (lease->serial <= page.after || !tenant_is_below(lease->tenant, top))
			continue;
		if (p->n_leases == page.size)
			return page_continue(call, &page, &p->next_page_token);
		d = objects_describe(call, lease);
		if (!d)
			return refuse_no_memory(call);
		/* A page ends early rather than becoming longer than a message may be. */
		bytes = protobuf_c_message_get_packed_size(&d->base);
		if (p->n_leases && bytes > room)
			return page_continue(call, &page, &p->next_page_token);
		room -= bytes < room ? bytes : room;
		p->leases[p->n_leases++] = d;
		page.after = lease->serial;
	}
	return OUTCOME_OK;
}
