/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's devices and who has claimed them.
 *
 * Owns broker->devices, fixed at start, sorted by address.  Invariants: a device belongs to
 * at most one lease (device->lease); all claimed devices of a group belong to the same one;
 * a device goes to the next holder only after shim_dev_release() or shim_ctx_free() of the
 * last one returned and the shim says that it is free (device_held.c).  Group completeness is
 * checked at Claim, over what is asked for and what the lease already holds.  State thread.
 */
#include "server/broker/device.h"

#include "server/broker/attachment.h"
#include "server/broker/delegation.h"
#include "server/broker/device_describe.h"
#include "server/broker/device_held.h"
#include "server/broker/event.h"
#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/page.h"
#include "server/broker/ticket.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM_MAX 64

static int device_compare(const void *a, const void *b)
{
	return strcmp(((const struct device *)a)->info->address,
		      ((const struct device *)b)->info->address);
}

int devices_create(struct broker *broker)
{
	size_t n = shim_device_count(broker->shim);

	TAILQ_INIT(&broker->held);
	broker->devices = calloc(n ? n : 1, sizeof(*broker->devices));
	broker->held_check = calloc(n ? n : 1, sizeof(struct device *));
	if (!broker->devices || !broker->held_check)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		broker->devices[i].info = shim_device_info(broker->shim, i);
	broker->n_devices = n;
	qsort(broker->devices, n, sizeof(*broker->devices), device_compare);
	for (size_t i = 0; i < n; i++)
		broker->devices[i].index = i;
	return 0;
}

void devices_destroy(struct broker *broker)
{
	for (size_t i = 0; i < broker->n_devices; i++)
		assert(!broker->devices[i].lease && !broker->devices[i].held);
	free(broker->devices);
	free(broker->held_check);
	broker->held_check = NULL;
	broker->devices = NULL;
	broker->n_devices = 0;
}

static int address_compare(const void *address, const void *device)
{
	return strcmp(address, ((const struct device *)device)->info->address);
}

struct device *device_find(struct broker *broker, const char *address)
{
	return bsearch(address, broker->devices, broker->n_devices, sizeof(*broker->devices),
		       address_compare);
}

bool device_is_allowed(const struct device *device, const struct tenant *tenant,
		       struct policy_verdict *ret_verdict)
{
	const struct shim_device_info *info = device->info;
	struct policy_device d = {
		.address = info->address,
		.vendor = info->vendor,
		.device = info->device,
		.class_code = info->class_code,
		.group = info->group,
	};

	*ret_verdict = (struct policy_verdict){.allowed = true};
	if (!tenant)
		return true;
	if (!tenant->policy) {
		*ret_verdict = (struct policy_verdict){
			.tenant = tenant->path,
			.rule = "the tenant is no longer in the policy",
		};
		return false;
	}
	policy_device_verdict(tenant->policy, &d, ret_verdict);
	return ret_verdict->allowed;
}

void devices_mark_revoking(struct lease *lease)
{
	struct device *d;

	TAILQ_FOREACH(d, &lease->devices, link)
	d->revoking = true;
}

/* Back to the pool. */
static void device_forget(struct device *device)
{
	struct lease *lease = device->lease;

	assert(!device->n_attachments);
	if (device->bound)
		journal_drop_device(lease, device);
	TAILQ_REMOVE(&lease->devices, device, link);
	lease->n_devices--;
	device->lease = NULL;
	device->bound = false;
	device->revoking = false;
	device->fd_given = false;
	device->shim = NULL;
	charge_release(&device->charge);
}

void device_let_go(struct device *device)
{
	const char *address = device->info->address;
	struct shim *shim = device->lease->broker->shim;

	shim_dev_release(device->shim);
	device->not_free = shim_dev_is_free(shim, address) != 0;
}

void device_reap(struct device *device)
{
	struct lease *lease = device->lease;
	bool bound = device->bound;

	if (device->not_free && !lease->broker->shutting_down) {
		assert(!device->n_attachments);
		device->delegation = delegation_ref(lease->delegation);
		journal_held(lease->broker, device);
		journal_drop_device(lease, device);
		TAILQ_REMOVE(&lease->devices, device, link);
		lease->n_devices--;
		device->lease = NULL;
		device->bound = false;
		device->shim = NULL;
		device_hold(lease->broker, device);
		return;
	}
	device->not_free = false;
	/* The charge goes back before the event tells that the device is free. */
	device_forget(device);
	if (bound)
		event_emit(lease->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_DEVICE_RELEASED,
			   lease->tenant, lease, 0, device->info->address, NULL);
}

/* ---- ClaimDevice ---- */

struct claim {
	struct device *devices[CLAIM_MAX];
	size_t n;
	int result;
	bool no_context; /* the result is of that */
	char reason[SHIM_REASON_MAX];
};

static bool claim_has(const struct claim *claim, const struct device *device)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->devices[i] == device)
			return true;
	return false;
}

/* Finds every device of a request; an outcome. */
static int claim_collect(struct broker_call *call, char **addresses, size_t n, struct claim *claim)
{
	if (!n)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "devices", "none given");
	if (n > CLAIM_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "devices", "at most %d, found %zu",
				    CLAIM_MAX, n);
	for (size_t i = 0; i < n; i++) {
		struct device *d = device_find(call->broker, addresses[i]);
		char field[32];

		snprintf(field, sizeof(field), "devices[%zu]", i);
		if (!addresses[i][0])
			return refuse_field(call, OUTCOME_INVALID_FIELD, field, "empty");
		if (!d)
			return refuse(call, OUTCOME_NOT_FOUND, "no device \"%s\"", addresses[i]);
		if (claim_has(claim, d))
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "\"%s\" is named twice", addresses[i]);
		claim->devices[claim->n++] = d;
	}
	return OUTCOME_OK;
}

/* It waits for the others of its group. */
static bool companion_is_claimed(const struct broker *broker, const struct device *device)
{
	for (size_t i = 0; i < broker->n_devices; i++)
		if (broker->devices[i].lease &&
		    broker->devices[i].info->group == device->info->group)
			return true;
	return false;
}

static int claim_check_device(struct broker_call *call, const struct device *d)
{
	const char *address = d->info->address;
	struct policy_verdict verdict;

	if (!device_is_allowed(d, call->tenant, &verdict))
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "device %s: policy of %s forbids it (%s)", address,
			      verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
	/* Where the shim asks at the moment of the claim, what it saw at its start may be over. */
	if (d->info->host_use[0] && !call->broker->shim->ops->asks_host_use &&
	    !policy_host_device_allowed(call->broker->policy, address))
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, address,
					   "the host uses it: %s", d->info->host_use);
	if (d->lease == call->lease && d->lease)
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, address,
					   "this lease has claimed it already");
	if (d->held)
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, address,
					   companion_is_claimed(call->broker, d)
						   ? "a companion of its group is still claimed"
						   : "its last holder still has it open");
	if (d->lease && d->revoking)
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, address,
					   "being taken back from its last holder");
	if (d->lease)
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, address,
					   "claimed by another lease");
	return OUTCOME_OK;
}

/* Names the companions that the tenant may know and counts the others. */
static int claim_check_groups(struct broker_call *call, const struct claim *claim)
{
	struct broker *broker = call->broker;
	struct outcome *o = &call->outcome;
	unsigned missing = 0, unnamed = 0;
	struct policy_verdict verdict;

	for (size_t i = 0; i < broker->n_devices; i++) {
		const struct device *d = &broker->devices[i];
		bool concerned = false;

		if (claim_has(claim, d) || d->lease == call->lease)
			continue;
		for (size_t k = 0; !concerned && k < claim->n; k++)
			concerned = claim->devices[k]->info->group == d->info->group;
		if (!concerned)
			continue;
		missing++;
		if (!device_is_allowed(d, call->tenant, &verdict)) {
			unnamed++;
			continue;
		}
		outcome_add_violation(o, &call->scratch, d->info->address,
				      "companion in group %u must be claimed as well",
				      d->info->group);
	}
	if (!missing)
		return OUTCOME_OK;
	if (unnamed)
		outcome_add_violation(o, &call->scratch, "(not named)",
				      "%u companions that this tenant may not have", unnamed);
	if (missing > unnamed)
		return refuse(call, OUTCOME_GROUP_INCOMPLETE,
			      "the group is not complete: %s is missing%s",
			      o->violations[0].subject, missing > 1 ? " (and others)" : "");
	return refuse(
		call, OUTCOME_GROUP_INCOMPLETE,
		"the group is not complete: devices that this tenant may not have are missing");
}

/* Charged and marked, so that nobody else gets them while the shim works. */
static int claim_reserve(struct broker_call *call, struct claim *claim)
{
	struct quota_amount amount = {QUOTA_DEVICES, 1}, all = {QUOTA_DEVICES, claim->n};
	struct quota_refusal refusal;
	size_t n;
	int r;

	r = charge_check(call->tenant, &all, 1, &refusal);
	if (r)
		return refuse_charge(call, r, &refusal);
	for (n = 0; n < claim->n; n++) {
		struct device *d = claim->devices[n];

		r = charge_take(&d->charge, call->tenant, &amount, 1, &refusal);
		if (r)
			break;
		d->lease = call->lease;
		TAILQ_INSERT_TAIL(&call->lease->devices, d, link);
		call->lease->n_devices++;
	}
	if (!r)
		return OUTCOME_OK;
	while (n--)
		device_forget(claim->devices[n]);
	return refuse_charge(call, r, &refusal);
}

static void claim_run(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct claim *claim = call->data;
	const char *addresses[CLAIM_MAX];
	struct shim_dev *bound[CLAIM_MAX];
	struct shim_ctx *ctx;

	for (size_t i = 0; i < claim->n; i++)
		addresses[i] = claim->devices[i]->info->address;
	claim->result = lease_context(call->lease, claim->reason, &ctx);
	claim->no_context = claim->result != 0;
	if (!claim->result)
		claim->result = shim_dev_bind(ctx, addresses, claim->n, claim->reason, bound);
	for (size_t i = 0; !claim->result && i < claim->n; i++)
		claim->devices[i]->shim = bound[i];
}

static int claim_refusal(struct broker_call *call, const struct claim *claim)
{
	const char *subject = claim->devices[0]->info->address, *reason = claim->reason;

	if (claim->no_context && call->lease->delegation)
		return refuse_delegation(call, claim->result, reason);
	/* The reason names the device; which it is of several only the shim knows. */
	if (claim->result == SHIM_E_NO_DEVICE)
		return refuse(call, OUTCOME_NOT_FOUND, "%s", reason);
	for (size_t i = 0; i < claim->n; i++) {
		const char *address = claim->devices[i]->info->address;
		size_t length = strlen(address);

		/* The refusal begins with its subject; it need not be said twice. */
		if (!strncmp(reason, address, length) && !strncmp(reason + length, ": ", 2)) {
			subject = address;
			reason += length + 2;
			break;
		}
	}
	if (claim->result == SHIM_E_DEVICE_BUSY || claim->result == SHIM_E_REFUSED)
		return refuse_precondition(call, OUTCOME_DEVICE_IN_USE, subject, "%s", reason);
	return refuse_shim(call, claim->result, "claim a device", claim->reason);
}

static int claim_begin(struct broker_call *call, struct claim *claim)
{
	int r;

	journal_intent(call);
	r = journal_intent_devices(call, claim->devices, claim->n);
	return r ?: journal_begin(call, claim->n * RECORD_DEVICE_BOUND, 0);
}

static void claim_write(struct broker_call *call, struct claim *claim)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Device records[CLAIM_MAX], *pointers[CLAIM_MAX];

	for (size_t i = 0; i < claim->n; i++) {
		shim_dev_save(claim->devices[i]->shim, &claim->devices[i]->saved);
		record_device(&records[i], claim->devices[i]);
		pointers[i] = &records[i];
	}
	batch.devices = pointers;
	batch.n_devices = claim->n;
	journal_result(call, &batch);
}

static void claim_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__ClaimDeviceResponse *p = (void *)call->response;
	struct claim *claim = call->data;

	if (claim->result) {
		for (size_t i = 0; i < claim->n; i++)
			device_forget(claim->devices[i]);
		call_end(call, claim_refusal(call, claim));
		return;
	}
	for (size_t i = 0; i < claim->n; i++) {
		p->devices[i]->state = IOASID__V1__DEVICE_STATE__DEVICE_STATE_CLAIMED;
		p->devices[i]->lease = call->lease->name ?: (char *)"";
	}
	p->n_devices = claim->n;
	claim_write(call, claim);
	for (size_t i = 0; i < claim->n; i++) {
		struct device *d = claim->devices[i];

		d->bound = true;
		d->revoking = call->lease->state != LEASE_OPEN;
		event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_DEVICE_CLAIMED,
			   call->tenant, call->lease, 0, d->info->address, NULL);
	}
	call_end(call, OUTCOME_OK);
}

int rpc_claim_device(struct broker_call *call)
{
	const Ioasid__V1__ClaimDeviceRequest *q = (const void *)call->request;
	Ioasid__V1__ClaimDeviceResponse *p = call_response(call);
	struct claim *claim = scratch_calloc(&call->scratch, 1, sizeof(*claim));
	int r;

	if (!p || !claim)
		return refuse_no_memory(call);
	r = claim_collect(call, q->devices, q->n_devices, claim);
	for (size_t i = 0; !r && i < claim->n; i++)
		r = claim_check_device(call, claim->devices[i]);
	if (!r)
		r = claim_check_groups(call, claim);
	if (r)
		return r;
	p->devices = scratch_calloc(&call->scratch, claim->n, sizeof(*p->devices));
	if (!p->devices)
		return refuse_no_memory(call);
	for (size_t i = 0; i < claim->n; i++) {
		p->devices[i] = device_describe(call, claim->devices[i], true);
		if (!p->devices[i])
			return refuse_no_memory(call);
	}
	r = claim_reserve(call, claim);
	if (r)
		return r;
	r = claim_begin(call, claim);
	if (r) {
		for (size_t i = 0; i < claim->n; i++)
			device_forget(claim->devices[i]);
		return r;
	}
	call->note = scratch_printf(&call->scratch, "%s%s", claim->devices[0]->info->address,
				    claim->n > 1 ? " and others" : "");
	call->data = claim;
	return call_run(call, claim_run, claim_complete, true);
}

/* ---- ReleaseDevice ---- */

static void release_run(struct op *op)
{
	struct claim *claim = call_of_op(op)->data;

	for (size_t i = 0; i < claim->n; i++)
		device_let_go(claim->devices[i]);
}

static void release_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct claim *claim = call->data;

	for (size_t i = 0; i < claim->n; i++) {
		attachments_reap_device(claim->devices[i]);
		device_reap(claim->devices[i]);
	}
	ioasids_finish_retiring(call);
}

int rpc_release_device(struct broker_call *call)
{
	const Ioasid__V1__ReleaseDeviceRequest *q = (const void *)call->request;
	struct claim *claim = scratch_calloc(&call->scratch, 1, sizeof(*claim));
	int r;

	if (!claim || !call_response(call))
		return refuse_no_memory(call);
	r = claim_collect(call, q->devices, q->n_devices, claim);
	if (r)
		return r;
	for (size_t i = 0; i < claim->n; i++)
		if (!call->lease || claim->devices[i]->lease != call->lease)
			return refuse_precondition(call, OUTCOME_NOT_CLAIMED,
						   claim->devices[i]->info->address,
						   "not claimed by this lease");
	journal_intent(call);
	r = journal_intent_devices(call, claim->devices, claim->n);
	if (!r)
		r = journal_promise(call);
	if (!r)
		r = journal_begin(call, 0, 0);
	if (r)
		return r;
	for (size_t i = 0; i < claim->n; i++) {
		claim->devices[i]->revoking = true;
		tickets_drop_device(call->lease, claim->devices[i]);
	}
	call->note = scratch_printf(&call->scratch, "%s%s", claim->devices[0]->info->address,
				    claim->n > 1 ? " and others" : "");
	call->data = claim;
	return call_run(call, release_run, release_complete, true);
}

/* ---- ListDevices, GetDevice ---- */

int rpc_list_devices(struct broker_call *call)
{
	const Ioasid__V1__ListDevicesRequest *q = (const void *)call->request;
	Ioasid__V1__ListDevicesResponse *p = call_response(call);
	struct policy_verdict verdict;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->devices = scratch_calloc(&call->scratch, page.size, sizeof(*p->devices));
	if (!p || !p->devices)
		return refuse_no_memory(call);
	/* The token is the index of the next device; the inventory is fixed. */
	for (size_t i = page.after; i < call->broker->n_devices; i++) {
		const struct device *d = &call->broker->devices[i];

		if (!device_is_allowed(d, call->tenant, &verdict))
			continue;
		if (p->n_devices == page.size) {
			page.after = i;
			return page_continue(call, &page, &p->next_page_token);
		}
		p->devices[p->n_devices] = device_describe(call, d, q->with_capabilities);
		if (!p->devices[p->n_devices])
			return refuse_no_memory(call);
		p->n_devices++;
	}
	return OUTCOME_OK;
}

int rpc_get_device(struct broker_call *call)
{
	const Ioasid__V1__GetDeviceRequest *q = (const void *)call->request;
	Ioasid__V1__GetDeviceResponse *p = call_response(call);
	const struct device *d = device_find(call->broker, q->device);
	struct policy_verdict verdict;

	if (!q->device[0])
		return refuse_field(call, OUTCOME_INVALID_FIELD, "device", "empty");
	if (!d)
		return refuse(call, OUTCOME_NOT_FOUND, "no device \"%s\"", q->device);
	if (!device_is_allowed(d, call->tenant, &verdict))
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "device %s: policy of %s forbids it (%s)", q->device,
			      verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
	if (!p)
		return refuse_no_memory(call);
	p->device = device_describe(call, d, true);
	return p->device ? OUTCOME_OK : refuse_no_memory(call);
}
