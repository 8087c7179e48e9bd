/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOASIDs: one I/O address space each, one page table of the shim.
 *
 * Owns struct ioasid from Alloc to its destruction.  Invariants: listed in its lease until
 * freed; then in lease->unlisted while an attachment or a child refers to it (charged,
 * invisible: R13), then also on lease->retiring_ioasids until its mappings and its table are
 * taken down.  A child refers to its parent, so a parent goes last.  State thread.
 */
#include "server/broker/ioasid.h"

#include "server/broker/fault_point.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/iova_ranges.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/mapping.h"
#include "server/broker/negotiate.h"
#include "server/broker/page.h"
#include "server/broker/page_table.h"
#include "server/broker/vm.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Most that an id adds to an answer. */
#define ID_BYTES 11
/* What a shim keeps for an empty table; its tables are charged as they grow. */
#define SHIM_TABLE_RECORD 192

struct ioasid *ioasid_find(struct lease *lease, uint64_t id)
{
	struct object *o = lease_object(lease, OBJECT_IOASID, id);

	return o ? CONTAINER_OF(o, struct ioasid, object) : NULL;
}

/* ---- end ---- */

static void ioasid_settle(struct ioasid *ioasid)
{
	if (ioasid->n_attachments || ioasid->n_children)
		return;
	LIST_INSERT_HEAD(&ioasid->object.lease->retiring_ioasids, ioasid, retiring);
}

void ioasid_retire(struct ioasid *ioasid)
{
	struct lease *lease = ioasid->object.lease;

	lease_unpublish(&ioasid->object);
	faults_drop_ioasid(ioasid);
	ioasid->freed = true;
	lease->n_pending_ioasids++;
	/* Else it goes at once, and that is written then. */
	if (ioasid->n_attachments || ioasid->n_children)
		journal_ioasid(lease, ioasid);
	event_emit(lease->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_IOASID_FREED, lease->tenant,
		   lease, ioasid->object.id.value, NULL,
		   ioasid->n_attachments || ioasid->n_children ? "pending" : NULL);
	ioasid_settle(ioasid);
}

void ioasid_put(struct ioasid *ioasid)
{
	if (ioasid->freed)
		ioasid_settle(ioasid);
}

/* Never published, or reaped: the shim's table is gone. */
static void ioasid_free(struct ioasid *ioasid)
{
	iova_ranges_unref(ioasid->choice.valid);
	charge_release(&ioasid->charge);
	free(ioasid->devices);
	free(ioasid->label);
	free(ioasid);
}

static void ioasid_destroy(struct ioasid *ioasid)
{
	struct ioasid *parent = ioasid->parent;
	struct lease *lease = ioasid->object.lease;
	struct vm *vm = ioasid->vm;

	LIST_REMOVE(ioasid, retiring);
	dma_service_remove(ioasid);
	lease_forget(&ioasid->object);
	journal_drop_ioasid(lease, ioasid);
	lease->n_ioasids--;
	lease->n_pending_ioasids--;
	lease->broker->n_ioasids--;
	ioasid_free(ioasid);
	if (parent) {
		parent->n_children--;
		ioasid_put(parent);
	}
	if (vm) {
		vm->n_ioasids--;
		vm_put(vm);
	}
}

void ioasids_reap_retiring(struct lease *lease, unsigned *budget)
{
	struct ioasid *ioasid;

	while (*budget && (ioasid = LIST_FIRST(&lease->retiring_ioasids))) {
		/* The table first: nothing may reach the memory when its mappings let go. */
		if (ioasid->pt && lease->ctx)
			return;
		ioasid->pt = NULL;
		while (*budget && ioasid->n_mappings) {
			mapping_free(ioasid, mapping_first(ioasid));
			--*budget;
		}
		if (!*budget)
			return;
		ioasid_destroy(ioasid);
		--*budget;
	}
	/* Those whose last IOASID this was among them. */
	vms_reap_retiring(lease, budget);
}

static void destroy_tables(struct op *op)
{
	struct ioasid *ioasid;

	LIST_FOREACH(ioasid, &call_of_op(op)->lease->retiring_ioasids, retiring)
	{
		shim_pt_destroy(ioasid->pt);
		ioasid->pt = NULL;
	}
	vms_end_tables(call_of_op(op)->lease);
}

static void finish_retiring(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	unsigned budget = OP_SLICE;

	ioasids_reap_retiring(call->lease, &budget);
	if (LIST_EMPTY(&call->lease->retiring_ioasids) && LIST_EMPTY(&call->lease->retiring_vms)) {
		call_end(call, OUTCOME_OK);
	} else if (budget) {
		/* Tables are in the way; after them perhaps that of a parent, no deeper. */
		call_run(call, destroy_tables, finish_retiring, vms_are_heavy(call->lease));
	} else {
		FAULT_POINT(call->method->path, "free_slice");
		op->complete = finish_retiring;
		op_later(op, call->broker);
	}
}

int ioasids_finish_retiring(struct broker_call *call)
{
	finish_retiring(&call->op);
	return CALL_PENDING;
}

/* ---- Negotiate ---- */

size_t ioasid_amounts(enum shim_kind kind, size_t n_devices, size_t label_length,
		      struct quota_amount *ret_amounts)
{
	uint64_t bytes = sizeof(struct ioasid) + SHIM_TABLE_RECORD;

	bytes += n_devices * sizeof(struct device *) + label_length;
	ret_amounts[0] = (struct quota_amount){QUOTA_IOASIDS, 1};
	ret_amounts[1] = (struct quota_amount){QUOTA_IOASIDS_KERNEL + (kind - SHIM_KIND_KERNEL), 1};
	ret_amounts[2] = (struct quota_amount){QUOTA_BROKER_BYTES, bytes};
	return 3;
}

static size_t alloc_amounts(const struct negotiation *n, const Ioasid__V1__AllocRequest *q,
			    struct quota_amount *ret_amounts)
{
	return ioasid_amounts(n->kind, n->n_devices, strlen(q->label), ret_amounts);
}

static Ioasid__V1__Choice *describe_negotiation(struct scratch *scratch,
						const struct negotiation *n)
{
	Ioasid__V1__Choice *c = choice_describe(scratch, &n->choice);

	if (c) {
		c->passed_over = n->passed_over;
		c->n_passed_over = n->n_passed_over;
	}
	return c;
}

int rpc_negotiate(struct broker_call *call)
{
	const Ioasid__V1__NegotiateRequest *q = (const void *)call->request;
	Ioasid__V1__NegotiateResponse *p = call_response(call);
	struct negotiation *n = scratch_alloc(&call->scratch, sizeof(*n));
	struct quota_amount amounts[CHARGE_AMOUNTS_MAX];
	struct quota_refusal refusal;
	int r;

	if (!q->alloc)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "alloc", "must be given");
	if (!p || !n)
		return refuse_no_memory(call);
	r = negotiate(call, q->alloc, n);
	if (r)
		return r;
	p->choice = describe_negotiation(&call->scratch, n);
	p->within_quota = !quota_probe(&call->tenant->quota, amounts,
				       alloc_amounts(n, q->alloc, amounts), &refusal);
	if (!p->within_quota) {
		refuse_quota(call, &refusal);
		p->quota_refusal = (char *)call->outcome.message;
		outcome_init(&call->outcome);
	}
	iova_ranges_unref(n->choice.valid);
	return p->choice ? OUTCOME_OK : refuse_no_memory(call);
}

/* ---- Alloc ---- */

struct allocation {
	struct ioasid *ioasid;
	struct shim_pt_spec spec;
	struct shim_dev *devices[NEGOTIATE_DEVICES_MAX];
	int result;
	char reason[SHIM_REASON_MAX];
};

static void alloc_run(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct allocation *a = call->data;
	struct shim_ctx *ctx;

	a->result = lease_context(call->lease, a->reason, &ctx);
	if (!a->result)
		a->result = shim_pt_create(ctx, &a->spec, a->reason, &a->ioasid->pt);
}

static int alloc_refusal(struct broker_call *call, const struct allocation *a)
{
	if (a->result == SHIM_E_UNSUPPORTED)
		return refuse_precondition(call, OUTCOME_FORMAT_UNSUPPORTED,
					   call->broker->shim->ops->name, "%s", a->reason);
	if (a->result == SHIM_E_RANGE)
		return page_table_refusal(call, a->result, "table", a->reason);
	if (a->result == SHIM_E_INCOMPATIBLE)
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE,
					   call->broker->shim->ops->name, "%s", a->reason);
	return refuse_shim(call, a->result, "create a page table", a->reason);
}

void ioasid_result(struct broker_call *call, struct ioasid *ioasid)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Ioasid *records;
	struct record_ioasid record;

	shim_pt_save(ioasid->pt, &ioasid->saved);
	record_ioasid(&record, ioasid);
	records = &record.ioasid;
	batch.ioasids = &records;
	batch.n_ioasids = 1;
	journal_result(call, &batch);
}

/* Its service may have ended since the request was checked; then the space has ended too. */
static void alloc_serve(struct broker_call *call, struct ioasid *ioasid)
{
	struct dma_service *service;

	if (ioasid->kind != SHIM_KIND_PROCESS)
		return;
	service = dma_service_of_caller(call);
	if (service)
		dma_service_add(service, ioasid);
}

static void alloc_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__AllocResponse *p = (void *)call->response;
	struct allocation *a = call->data;
	struct ioasid *ioasid = a->ioasid;

	if (a->result) {
		ioasid_free(ioasid);
		call_end(call, alloc_refusal(call, a));
		return;
	}
	ioasid->object.id.value = call->lease->next_id;
	alloc_serve(call, ioasid);
	p->ioasid = ioasid->object.id.value;
	ioasid_result(call, ioasid);
	if (ioasid->parent)
		ioasid->parent->n_children++;
	if (ioasid->vm)
		ioasid->vm->n_ioasids++;
	call->lease->n_ioasids++;
	call->broker->n_ioasids++;
	faults_watch_reports(call->lease);
	lease_publish(call->lease, &ioasid->object);
	call->note = scratch_printf(&call->scratch, "ioasid %llu", (unsigned long long)p->ioasid);
	event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_IOASID_ALLOCATED, call->tenant,
		   call->lease, p->ioasid, NULL, NULL);
	call_end(call, OUTCOME_OK);
}

/* The record with its charge; takes over the reference in n->choice.valid. */
static int alloc_record(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
			struct negotiation *n, struct ioasid **ret_ioasid)
{
	struct quota_amount amounts[CHARGE_AMOUNTS_MAX];
	struct ioasid *ioasid = calloc(1, sizeof(*ioasid));
	struct quota_refusal refusal;
	int r;

	if (!ioasid) {
		iova_ranges_unref(n->choice.valid);
		return refuse_no_memory(call);
	}
	ioasid->object = (struct object){.lease = call->lease, .type = OBJECT_IOASID};
	ioasid->kind = n->kind;
	ioasid->depth = n->depth;
	ioasid->dirty_tracking = q->dirty_tracking;
	ioasid->faults = q->faults;
	ioasid->choice = n->choice;
	ioasid->parent = n->parent;
	ioasid->vm = n->vm;
	RB_INIT(&ioasid->mappings);
	r = charge_take(&ioasid->charge, call->tenant, amounts, alloc_amounts(n, q, amounts),
			&refusal);
	if (r) {
		ioasid_free(ioasid);
		return refuse_charge(call, r, &refusal);
	}
	if (n->n_devices) {
		ioasid->devices = malloc(n->n_devices * sizeof(*ioasid->devices));
		if (ioasid->devices) {
			memcpy(ioasid->devices, n->devices,
			       n->n_devices * sizeof(*ioasid->devices));
			ioasid->n_devices = n->n_devices;
		}
	}
	if (q->label[0])
		ioasid->label = strdup(q->label);
	if ((n->n_devices && !ioasid->devices) || (q->label[0] && !ioasid->label)) {
		ioasid_free(ioasid);
		return refuse_no_memory(call);
	}
	*ret_ioasid = ioasid;
	return OUTCOME_OK;
}

int rpc_alloc(struct broker_call *call)
{
	const Ioasid__V1__AllocRequest *q = (const void *)call->request;
	Ioasid__V1__AllocResponse *p = call_response(call);
	struct allocation *a = scratch_calloc(&call->scratch, 1, sizeof(*a));
	struct negotiation *n = scratch_alloc(&call->scratch, sizeof(*n));
	int r;

	if (!p || !a || !n)
		return refuse_no_memory(call);
	r = lease_limit_check(call, QUOTA_IOASIDS, 1);
	if (!r)
		r = negotiate(call, q, n);
	if (r)
		return r;
	p->choice = describe_negotiation(&call->scratch, n);
	if (!p->choice) {
		iova_ranges_unref(n->choice.valid);
		return refuse_no_memory(call);
	}
	r = alloc_record(call, q, n, &a->ioasid);
	if (r)
		return r;
	for (size_t i = 0; i < n->n_devices; i++)
		a->devices[i] = n->devices[i]->shim;
	if (q->table) {
		a->ioasid->binding.kind = BINDING_TABLE;
		r = page_table_read(call, q->table, n->choice.format, &a->ioasid->binding.table);
		if (r) {
			ioasid_free(a->ioasid);
			return r;
		}
	}
	a->spec = (struct shim_pt_spec){
		.kind = n->kind,
		.format = n->choice.format,
		.input_bits = n->choice.input_bits,
		.enforce_snoop = n->choice.enforce_snoop,
		.dirty_tracking = q->dirty_tracking,
		.faults = q->faults,
		.parent = n->parent ? n->parent->pt : NULL,
		.vm = n->vm ? n->vm->shim : NULL,
		.table = q->table ? &a->ioasid->binding.table : NULL,
		.devices = a->devices,
		.n_devices = n->n_devices,
	};
	call->data = a;
	journal_intent(call);
	r = journal_begin(call, record_ioasid_bound(a->ioasid), ID_BYTES);
	if (r) {
		ioasid_free(a->ioasid);
		return r;
	}
	return call_run(call, alloc_run, alloc_complete, false);
}

/* ---- Free ---- */

int rpc_free(struct broker_call *call)
{
	const Ioasid__V1__FreeRequest *q = (const void *)call->request;
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	Ioasid__V1__FreeResponse *p;
	int r;

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	p = call_response(call);
	if (!p)
		return refuse_no_memory(call);
	p->pending = ioasid->n_attachments || ioasid->n_children;
	call->note = scratch_printf(&call->scratch, "ioasid %llu", (unsigned long long)q->ioasid);
	journal_intent(call)->ioasid = q->ioasid;
	r = journal_promise(call);
	if (!r)
		r = journal_begin(call, 0, 0);
	if (r)
		return r;
	ioasid_retire(ioasid);
	return ioasids_finish_retiring(call);
}

/* ---- GetIoasid, ListIoasids ---- */

Ioasid__V1__Ioasid *ioasid_describe(struct scratch *scratch, const struct ioasid *ioasid)
{
	Ioasid__V1__Ioasid *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__ioasid__init(d);
	d->ioasid = ioasid->object.id.value;
	d->kind = (Ioasid__V1__IoasidKind)ioasid->kind;
	d->choice = choice_describe(scratch, &ioasid->choice);
	d->devices = scratch_calloc(scratch, ioasid->n_devices, sizeof(*d->devices));
	if (!d->choice || !d->devices)
		return NULL;
	for (uint32_t i = 0; i < ioasid->n_devices; i++)
		d->devices[d->n_devices++] = (char *)ioasid->devices[i]->info->address;
	/* A freed parent is invisible, but the child still hangs on it. */
	d->parent = ioasid->parent ? ioasid->parent->object.id.value : 0;
	d->depth = ioasid->depth;
	d->vm = ioasid->vm ? ioasid->vm->object.id.value : 0;
	d->label = ioasid->label ?: (char *)"";
	d->mappings = ioasid->n_mappings;
	d->mapped_bytes = ioasid->mapped_bytes;
	d->attachments = ioasid->n_attachments;
	d->children = ioasid->n_children;
	d->dirty_tracking = ioasid->dirty_tracking;
	d->tracking = ioasid->tracking;
	return page_table_describe(scratch, ioasid, d) ? d : NULL;
}

int rpc_get_ioasid(struct broker_call *call)
{
	const Ioasid__V1__GetIoasidRequest *q = (const void *)call->request;
	Ioasid__V1__GetIoasidResponse *p = call_response(call);
	const struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	if (!p)
		return refuse_no_memory(call);
	p->ioasid = ioasid_describe(&call->scratch, ioasid);
	return p->ioasid ? OUTCOME_OK : refuse_no_memory(call);
}

int rpc_list_ioasids(struct broker_call *call)
{
	const Ioasid__V1__ListIoasidsRequest *q = (const void *)call->request;
	Ioasid__V1__ListIoasidsResponse *p = call_response(call);
	struct object *o;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->ioasids = scratch_calloc(&call->scratch, page.size, sizeof(*p->ioasids));
	if (!p || !p->ioasids)
		return refuse_no_memory(call);
	while ((o = lease_object_after(call->lease, OBJECT_IOASID, page.after))) {
		if (p->n_ioasids == page.size)
			return page_continue(call, &page, &p->next_page_token);
		p->ioasids[p->n_ioasids] =
			ioasid_describe(&call->scratch, CONTAINER_OF(o, struct ioasid, object));
		if (!p->ioasids[p->n_ioasids])
			return refuse_no_memory(call);
		p->n_ioasids++;
		page.after = o->id.value;
	}
	return OUTCOME_OK;
}
