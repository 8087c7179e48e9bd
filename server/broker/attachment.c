/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attachments: (RID, optional guest PASID) -> IOASID, at most one each.
 *
 * Owns struct attachment.  Invariants: an attachment holds its IOASID (a freed one stays
 * until the last attachment goes) and counts on its device; attaching to a child implies
 * its parents, so only the child's record exists.  Attach over an attachment to an ancestor
 * replaces it atomically; over any other it is refused.  State thread; shim calls in ops.
 */
#include "server/broker/attachment.h"

#include "server/broker/device.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/ioasid.h"
#include "server/broker/iova_ranges.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/negotiate.h"
#include "server/broker/page.h"
#include "server/broker/pasid.h"

#include "vocab.h"

#include <assert.h>
#include <stdlib.h>

/* PCIe: a PASID is 20 bits wide at most. */
#define PASID_BITS_MAX 20

static int attachment_compare(const struct attachment *a, const struct attachment *b)
{
	if (a->device->index != b->device->index)
		return a->device->index < b->device->index ? -1 : 1;
	/* The RID, SHIM_NO_PASID, comes first. */
	return (uint32_t)(a->pasid + 1) < (uint32_t)(b->pasid + 1)
		       ? -1
		       : (uint32_t)(a->pasid + 1) > (uint32_t)(b->pasid + 1);
}

TREE_GENERATE(attachment_tree, attachment, node, attachment_compare)

struct attachment *attachment_find(struct lease *lease, const struct device *device, uint32_t pasid)
{
	struct attachment find = {.device = (struct device *)device, .pasid = pasid};

	return RB_FIND(attachment_tree, &lease->attachments, &find);
}

bool attachment_has_pasid_table(struct lease *lease, const struct device *device)
{
	const struct attachment *a = attachment_find(lease, device, SHIM_NO_PASID);

	return a && a->ioasid->binding.kind == BINDING_PASID_TABLE;
}

struct attachment *attachment_reached(struct lease *lease, const struct device *device,
				      uint32_t pasid)
{
	struct attachment *a = attachment_find(lease, device, pasid);

	if (a || pasid == SHIM_NO_PASID || !attachment_has_pasid_table(lease, device))
		return a;
	return attachment_find(lease, device, SHIM_NO_PASID);
}

struct attachment *attachment_first(struct lease *lease)
{
	return RB_MIN(attachment_tree, &lease->attachments);
}

struct attachment *attachment_next(struct lease *lease, struct attachment *a)
{
	return RB_NEXT(attachment_tree, &lease->attachments, a);
}

void attachment_insert(struct lease *lease, struct attachment *attachment)
{
	RB_INSERT(attachment_tree, &lease->attachments, attachment);
	lease->n_attachments++;
	attachment->device->n_attachments++;
	attachment->ioasid->n_attachments++;
}

void attachment_reap(struct attachment *attachment)
{
	struct ioasid *ioasid = attachment->ioasid;
	struct lease *lease = ioasid->object.lease;

	faults_drop_attachment(attachment);
	dma_services_drop_attachment(attachment);
	RB_REMOVE(attachment_tree, &lease->attachments, attachment);
	lease->n_attachments--;
	attachment->device->n_attachments--;
	ioasid->n_attachments--;
	journal_drop_attachment(lease, attachment);
	pasid_put(lease, attachment->pasid);
	charge_release(&attachment->charge);
	event_emit(lease->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_DETACHED, lease->tenant, lease,
		   ioasid->object.id.value, attachment->device->info->address, NULL);
	free(attachment);
	ioasid_put(ioasid);
}

void attachments_reap_device(struct device *device)
{
	struct attachment find = {.device = device, .pasid = SHIM_NO_PASID}, *a;

	while (device->n_attachments) {
		a = RB_NFIND(attachment_tree, &device->lease->attachments, &find);
		assert(a && a->device == device);
		attachment_reap(a);
	}
}

int attachment_device(struct broker_call *call, const char *address, struct device **ret_device)
{
	struct device *d = device_find(call->broker, address);

	if (!address[0])
		return refuse_field(call, OUTCOME_INVALID_FIELD, "device", "empty");
	if (!d)
		return refuse(call, OUTCOME_NOT_FOUND, "no device \"%s\"", address);
	if (!call->lease || d->lease != call->lease || !d->bound)
		return refuse_precondition(call, OUTCOME_NOT_CLAIMED, address,
					   "not claimed by this lease");
	*ret_device = d;
	return OUTCOME_OK;
}

int attachment_pasid(struct broker_call *call, const struct device *device,
		     const Ioasid__V1__Pasid *pasid, uint32_t *ret_pasid)
{
	unsigned bits = device->info->caps.pasid_bits;

	if (!pasid) {
		*ret_pasid = SHIM_NO_PASID;
		return OUTCOME_OK;
	}
	if (pasid->value == 0 || pasid->value >> PASID_BITS_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "pasid", "must be 1 to %u",
				    (1u << PASID_BITS_MAX) - 1);
	if (!bits)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, device->info->address,
					   "its IOMMU %s has no PASIDs", device->info->iommu);
	if (pasid->value >> bits)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "pasid",
				    "device %s has PASIDs of %u bits", device->info->address, bits);
	*ret_pasid = pasid->value;
	return OUTCOME_OK;
}

/* Can this device use that IOASID and everything above it? */
static int check_compatible(struct broker_call *call, const struct device *d,
			    const struct ioasid *ioasid)
{
	const struct shim_device_info *info = d->info;
	const struct shim_format_cap *cap = device_format(d, ioasid->choice.format);
	const char *obstacle;

	/* No table, and no format. */
	if (ioasid->kind == SHIM_KIND_PROCESS) {
		obstacle = info->caps.kind_absent[SHIM_KIND_PROCESS];
		return obstacle[0] ? refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
							 "%s", obstacle)
				   : OUTCOME_OK;
	}
	if (!cap || (ioasid->parent && !cap->nest_child))
		return refuse_precondition(
			call, OUTCOME_INCOMPATIBLE, info->address,
			"its IOMMU %s cannot use format %s%s", info->iommu,
			vocab_format_name((Ioasid__V1__PageTableFormat)ioasid->choice.format),
			cap ? " nested" : "");
	obstacle = device_nesting_obstacle(&call->scratch, d, ioasid->parent, ioasid->depth);
	if (obstacle)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address, "%s",
					   obstacle);
	if (cap->input_bits < ioasid->choice.input_bits ||
	    cap->output_bits < ioasid->choice.output_bits)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
					   "its IOMMU %s takes %u bits in, %u out; the IOASID has "
					   "%u and %u",
					   info->iommu, cap->input_bits, cap->output_bits,
					   ioasid->choice.input_bits, ioasid->choice.output_bits);
	obstacle = ioasid->kind == SHIM_KIND_USER ? device_table_obstacle(&call->scratch, d, cap,
									  ioasid->choice.input_bits)
						  : NULL;
	if (obstacle)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address, "%s",
					   obstacle);
	if (ioasid->choice.page_sizes & ~cap->page_sizes)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
					   "its IOMMU %s has not all page sizes of the IOASID",
					   info->iommu);
	if (ioasid->choice.enforce_snoop && !info->caps.snoop_control)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
					   "its IOMMU %s cannot enforce snooping", info->iommu);
	if (ioasid->dirty_tracking && !info->caps.dirty_tracking)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
					   "its IOMMU %s cannot track dirty pages", info->iommu);
	for (size_t i = 0; i < info->caps.n_reserved; i++) {
		const struct shim_range *r = &info->caps.reserved[i];

		if (iova_ranges_touch(ioasid->choice.valid, r->start, r->last))
			return refuse_precondition(
				call, OUTCOME_INCOMPATIBLE, info->address,
				"its reserved range [0x%llx, 0x%llx] (%s) may be mapped in this "
				"IOASID; name the device at Alloc",
				(unsigned long long)r->start, (unsigned long long)r->last, r->use);
	}
	return OUTCOME_OK;
}

/* ---- Attach, Replace ---- */

struct attach_work {
	struct device *device;
	uint32_t pasid;
	struct ioasid *ioasid;
	struct attachment *attachment; /* new, or the one that is moved */
	bool replace;
	int result;
	char reason[SHIM_REASON_MAX];
};

static void attach_run(struct op *op)
{
	struct attach_work *w = call_of_op(op)->data;

	if (w->replace)
		w->result = shim_replace(w->device->shim, w->attachment->physical, w->ioasid->pt,
					 w->reason);
	else
		w->result = shim_attach(w->device->shim, w->attachment->physical, w->ioasid->pt,
					w->reason);
}

static int attach_refusal(struct broker_call *call, const struct attach_work *w)
{
	if (w->result == SHIM_E_INCOMPATIBLE || w->result == SHIM_E_UNSUPPORTED)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, w->device->info->address,
					   "%s", w->reason[0] ? w->reason : "the shim says so");
	return refuse_shim(call, w->result, w->replace ? "replace" : "attach", w->reason);
}

static void attachment_discard(struct lease *lease, struct attachment *a)
{
	pasid_put(lease, a->pasid);
	charge_release(&a->charge);
	free(a);
}

/* As it will be. */
static void attach_write(struct broker_call *call, struct attach_work *w)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Attachment record, *records = &record;
	struct attachment *a = w->attachment;

	if (w->replace)
		dma_services_drop_attachment(a);
	a->ioasid = w->ioasid;
	shim_attach_save(w->device->shim, a->physical, &a->saved);
	record_attachment(&record, a);
	batch.attachments = &records;
	batch.n_attachments = 1;
	journal_result(call, &batch);
}

static void attach_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct attach_work *w = call->data;
	struct attachment *a = w->attachment;
	struct ioasid *before = NULL;

	if (w->result) {
		if (!w->replace)
			attachment_discard(call->lease, a);
		call_end(call, attach_refusal(call, w));
		return;
	}
	if (w->replace)
		before = a->ioasid;
	attach_write(call, w);
	if (w->replace) {
		before->n_attachments--;
		w->ioasid->n_attachments++;
	} else {
		attachment_insert(call->lease, a);
	}
	event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_ATTACHED, call->tenant,
		   call->lease, w->ioasid->object.id.value, w->device->info->address, NULL);
	if (before)
		ioasid_put(before);
	ioasids_finish_retiring(call);
}

/* The record of a new attachment, charged. */
static int attachment_new(struct broker_call *call, struct attach_work *w)
{
	bool by_pasid = w->pasid != SHIM_NO_PASID;
	struct quota_amount amounts[] = {
		{QUOTA_BROKER_BYTES, sizeof(struct attachment) + (by_pasid ? PASID_RECORD : 0)},
		{QUOTA_PASIDS, 1},
	};
	struct attachment *a = calloc(1, sizeof(*a));
	struct quota_refusal refusal;
	int r;

	if (!a)
		return refuse_no_memory(call);
	a->device = w->device;
	a->pasid = w->pasid;
	r = charge_take(&a->charge, call->tenant, amounts, by_pasid ? 2 : 1, &refusal);
	if (r) {
		free(a);
		return refuse_charge(call, r, &refusal);
	}
	r = pasid_take(call, w->device, w->pasid, &a->physical);
	if (r) {
		charge_release(&a->charge);
		free(a);
		return r;
	}
	w->attachment = a;
	return OUTCOME_OK;
}

/* What Attach and Replace have in common, as far as the compatibility check. */
static int attach_prepare(struct broker_call *call, const char *device,
			  const Ioasid__V1__Pasid *pasid, uint64_t id,
			  struct attach_work **ret_work)
{
	struct attach_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	int r;

	if (!w || !call_response(call))
		return refuse_no_memory(call);
	w->ioasid = ioasid_find(call->lease, id);
	if (!w->ioasid)
		return refuse_id(call, "ioasid", "IOASID", id);
	r = attachment_device(call, device, &w->device);
	if (!r)
		r = attachment_pasid(call, w->device, pasid, &w->pasid);
	if (!r)
		r = check_compatible(call, w->device, w->ioasid);
	if (r)
		return r;
	w->attachment = attachment_find(call->lease, w->device, w->pasid);
	call->note =
		scratch_printf(&call->scratch, "%s to ioasid %llu", device, (unsigned long long)id);
	call->data = w;
	*ret_work = w;
	return OUTCOME_OK;
}

static int attach_begin(struct broker_call *call, struct attach_work *w)
{
	Ioasid__Registry__Intent *intent = journal_intent(call);
	int r;

	intent->ioasid = w->ioasid->object.id.value;
	intent->pasid = w->pasid + 1;
	intent->physical_pasid = w->attachment->physical + 1;
	r = journal_intent_devices(call, &w->device, 1);
	return r ?: journal_begin(call, RECORD_ATTACHMENT_BOUND, 0);
}

static bool is_ancestor(const struct ioasid *ancestor, const struct ioasid *ioasid)
{
	while ((ioasid = ioasid->parent))
		if (ioasid == ancestor)
			return true;
	return false;
}

int rpc_attach(struct broker_call *call)
{
	const Ioasid__V1__AttachRequest *q = (const void *)call->request;
	struct attach_work *w;
	int r;

	r = attach_prepare(call, q->device, q->pasid, q->ioasid, &w);
	if (r)
		return r;
	w->replace = w->attachment && is_ancestor(w->attachment->ioasid, w->ioasid);
	if (w->attachment && !w->replace)
		return refuse(call, OUTCOME_ALREADY_ATTACHED,
			      "device %s is attached already; Replace moves it", q->device);
	if (!w->replace) {
		r = attachment_new(call, w);
		if (r)
			return r;
	}
	r = attach_begin(call, w);
	if (r) {
		if (!w->replace)
			attachment_discard(call->lease, w->attachment);
		return r;
	}
	return call_run(call, attach_run, attach_complete, false);
}

int rpc_replace(struct broker_call *call)
{
	const Ioasid__V1__ReplaceRequest *q = (const void *)call->request;
	struct attach_work *w;
	int r;

	r = attach_prepare(call, q->device, q->pasid, q->ioasid, &w);
	if (r)
		return r;
	if (!w->attachment)
		return refuse_precondition(call, OUTCOME_NOT_ATTACHED, q->device,
					   "nothing is attached there");
	w->replace = true;
	r = attach_begin(call, w);
	if (r)
		return r;
	return call_run(call, attach_run, attach_complete, false);
}

/* ---- Detach ---- */

static void detach_run(struct op *op)
{
	struct attach_work *w = call_of_op(op)->data;

	w->result = shim_detach(w->device->shim, w->attachment->physical);
}

static void detach_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct attach_work *w = call->data;

	if (w->result) {
		call_end(call, refuse_shim(call, w->result, "detach", NULL));
		return;
	}
	attachment_reap(w->attachment);
	ioasids_finish_retiring(call);
}

int rpc_detach(struct broker_call *call)
{
	const Ioasid__V1__DetachRequest *q = (const void *)call->request;
	struct attach_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	int r;

	if (!w || !call_response(call))
		return refuse_no_memory(call);
	r = attachment_device(call, q->device, &w->device);
	if (!r)
		r = attachment_pasid(call, w->device, q->pasid, &w->pasid);
	if (r)
		return r;
	w->attachment = attachment_find(call->lease, w->device, w->pasid);
	if (!w->attachment)
		return refuse_precondition(call, OUTCOME_NOT_ATTACHED, q->device,
					   "nothing is attached there");
	call->note = q->device;
	call->data = w;
	journal_intent(call)->pasid = w->pasid + 1;
	r = journal_intent_devices(call, &w->device, 1);
	if (!r)
		r = journal_promise(call);
	if (!r)
		r = journal_begin(call, 0, 0);
	if (r)
		return r;
	return call_run(call, detach_run, detach_complete, false);
}

/* ---- ListAttachments ---- */

Ioasid__V1__Attachment *attachment_describe(struct scratch *scratch, const struct attachment *a)
{
	Ioasid__V1__Attachment *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__attachment__init(d);
	d->device = (char *)a->device->info->address;
	d->ioasid = a->ioasid->object.id.value;
	if (a->pasid != SHIM_NO_PASID) {
		d->pasid = scratch_alloc(scratch, sizeof(*d->pasid));
		if (!d->pasid)
			return NULL;
		ioasid__v1__pasid__init(d->pasid);
		d->pasid->value = a->pasid;
	}
	return d;
}

int rpc_list_attachments(struct broker_call *call)
{
	const Ioasid__V1__ListAttachmentsRequest *q = (const void *)call->request;
	Ioasid__V1__ListAttachmentsResponse *p = call_response(call);
	struct attachment find, *a = NULL;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->attachments = scratch_calloc(&call->scratch, page.size, sizeof(*p->attachments));
	if (!p || !p->attachments)
		return refuse_no_memory(call);
	if (!call->lease)
		return OUTCOME_OK;
	/* The token is device index and PASID (of the next one), packed. */
	if (page.after >> 32 < call->broker->n_devices) {
		find.device = &call->broker->devices[page.after >> 32];
		find.pasid = (uint32_t)page.after - 1;
		a = RB_NFIND(attachment_tree, &call->lease->attachments, &find);
	}
	for (; a; a = attachment_next(call->lease, a)) {
		if (p->n_attachments == page.size) {
			page.after = (uint64_t)a->device->index << 32 | (uint32_t)(a->pasid + 1);
			return page_continue(call, &page, &p->next_page_token);
		}
		p->attachments[p->n_attachments] = attachment_describe(&call->scratch, a);
		if (!p->attachments[p->n_attachments])
			return refuse_no_memory(call);
		p->n_attachments++;
	}
	return OUTCOME_OK;
}
