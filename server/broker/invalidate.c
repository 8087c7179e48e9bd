/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invalidate: an array of commands, done in order.  Over the tenant's rate the prefix that
 * fits is done, and the answer tells how many and when to go on; flushes that the broker
 * makes by itself are free.
 */
#include "server/broker/invalidate.h"

#include "server/broker/attachment.h"
#include "server/broker/ioasid.h"
#include "server/broker/lease.h"
#include "server/broker/pasid.h"

#include <errno.h>
#include <stdio.h>

#define ENTRIES_MAX 4096

struct invalidate_work {
	struct ioasid *ioasid;
	struct shim_invalidate *entries;
	enum shim_native native_type; /* 0: entries */
	const uint8_t *native;
	size_t n;
	size_t done;
	int result;
};

/* The first thing wrong with an entry by itself: which field, and why.  NULL: nothing. */
static const char *entry_defect(const Ioasid__V1__InvalidateEntry *e, const char **ret_field)
{
	bool ranged =
		e->granularity == IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_RANGE;
	bool device_tlb = e->granularity ==
			  IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_DEVICE_TLB;
	bool by_pasid =
		e->granularity == IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_PASID;

	*ret_field = "granularity";
	if (e->granularity ==
	    IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_UNSPECIFIED)
		return "must be given";
	*ret_field = "length";
	if (ranged && !e->length)
		return "must not be 0";
	if (!ranged && !device_tlb && e->length)
		return "belongs to range and device-tlb";
	if (e->length && e->iova + (e->length - 1) < e->iova)
		return "wraps around the end of the address space";
	*ret_field = "iova";
	if (!ranged && !device_tlb && e->iova)
		return "belongs to range and device-tlb";
	*ret_field = "device";
	if (e->device[0] && !device_tlb)
		return "belongs to device-tlb";
	*ret_field = "pasid";
	if (e->pasid && (e->pasid->value == 0 || e->pasid->value >> 20))
		return "must be 1 to 1048575";
	if (by_pasid && !e->pasid)
		return "must be given";
	return NULL;
}

/* What caches of the IOASID call a guest's PASID.  A PASID table has the guest's own. */
static uint32_t number_of(struct broker_call *call, const struct ioasid *ioasid, uint32_t guest)
{
	return ioasid->binding.kind == BINDING_PASID_TABLE ? guest
							   : pasid_physical(call->lease, guest);
}

static int check_entry(struct broker_call *call, const struct ioasid *ioasid, size_t index,
		       const Ioasid__V1__InvalidateEntry *e, struct shim_invalidate *ret)
{
	struct device *device = NULL;
	const char *name, *defect = entry_defect(e, &name);
	char field[64];
	int r;

	snprintf(field, sizeof(field), "entries[%zu].%s", index, name);
	if (defect)
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "%s", defect);
	if (e->granularity ==
		    IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_PASID_CACHE &&
	    ioasid->binding.kind != BINDING_PASID_TABLE) {
		snprintf(field, sizeof(field), "entries[%zu]", index);
		return refuse_precondition(call, OUTCOME_WRONG_STATE, field,
					   "no PASID table is bound to this IOASID");
	}
	if (e->device[0]) {
		r = attachment_device(call, e->device, &device);
		if (r)
			return r;
	}
	*ret = (struct shim_invalidate){
		.scope = (enum shim_invalidate_scope)e->granularity,
		.iova = e->iova,
		.length = e->length,
		.leaf = e->leaf,
		.pasid = e->pasid ? number_of(call, ioasid, e->pasid->value) : SHIM_NO_PASID,
		.table_pasid = e->pasid ? e->pasid->value : SHIM_NO_PASID,
		.dev = device ? device->shim : NULL,
	};
	return OUTCOME_OK;
}

static void invalidate_run(struct op *op)
{
	struct invalidate_work *w = call_of_op(op)->data;

	if (w->native_type)
		w->result = shim_pt_invalidate_native(w->ioasid->pt, w->native_type, w->native,
						      w->n, &w->done);
	else
		w->result = shim_pt_invalidate(w->ioasid->pt, w->entries, w->n, &w->done);
}

static void invalidate_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__InvalidateResponse *p = (void *)call->response;
	struct invalidate_work *w = call->data;
	const char *array = w->native_type ? "native" : "entries";
	char field[32];
	int r = OUTCOME_OK;

	snprintf(field, sizeof(field), "%s[%zu]", array, w->done);
	p->done = w->done;
	if (w->result == SHIM_E_UNSUPPORTED)
		r = refuse(call, OUTCOME_UNIMPLEMENTED, "%s: the shim has no such invalidation",
			   field);
	else if (w->native_type && (w->result == -EINVAL || w->result == SHIM_E_RANGE))
		r = refuse_field(call, OUTCOME_INVALID_FIELD, field,
				 "not an invalidation of this architecture's");
	else if (w->result == SHIM_E_RANGE)
		r = refuse_field(call, OUTCOME_INVALID_FIELD, field,
				 "the range does not fit into the IOASID's space");
	else if (w->result)
		r = refuse_shim(call, w->result, "invalidate", NULL);
	if (r)
		outcome_add_metadata(&call->outcome, &call->scratch, "done", "%zu", w->done);
	call_end(call, r);
}

/* Bytes of one entry. */
static size_t native_size(enum shim_native type)
{
	return type == SHIM_NATIVE_VTD_S1 ? 24 : 16;
}

static int read_native(struct broker_call *call, const Ioasid__V1__InvalidateRequest *q,
		       struct invalidate_work *w)
{
	size_t size;

	if (q->n_entries)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "native",
				    "entries and a native array exclude each other");
	if (!q->native_type)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "native_type", "must be given");
	w->native_type = (enum shim_native)q->native_type;
	size = native_size(w->native_type);
	if (!q->native.len || q->native.len % size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "native",
				    "must be entries of %zu bytes, found %zu bytes", size,
				    q->native.len);
	w->native = q->native.data;
	w->n = q->native.len / size;
	if (w->n > ENTRIES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "native", "at most %d, found %zu",
				    ENTRIES_MAX, w->n);
	return OUTCOME_OK;
}

static int read_entries(struct broker_call *call, const Ioasid__V1__InvalidateRequest *q,
			struct invalidate_work *w)
{
	int r = OUTCOME_OK;

	if (!q->n_entries)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "entries", "none given");
	if (q->n_entries > ENTRIES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "entries", "at most %d, found %zu",
				    ENTRIES_MAX, q->n_entries);
	w->entries = scratch_calloc(&call->scratch, q->n_entries, sizeof(*w->entries));
	if (!w->entries)
		return refuse_no_memory(call);
	w->n = q->n_entries;
	for (size_t i = 0; !r && i < q->n_entries; i++)
		r = check_entry(call, w->ioasid, i, q->entries[i], &w->entries[i]);
	return r;
}

int rpc_invalidate(struct broker_call *call)
{
	const Ioasid__V1__InvalidateRequest *q = (const void *)call->request;
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct invalidate_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	Ioasid__V1__InvalidateResponse *p = call_response(call);
	struct quota_refusal refusal;
	size_t wanted;
	int r;

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	if (!w || !p)
		return refuse_no_memory(call);
	w->ioasid = ioasid;
	r = q->native_type || q->native.len ? read_native(call, q, w) : read_entries(call, q, w);
	if (r)
		return r;
	wanted = w->n;
	w->n = quota_rate_take(&call->tenant->quota, QUOTA_INVALIDATIONS_PER_SECOND, wanted,
			       call->started_us, &refusal);
	if (w->n < wanted) {
		uint64_t ms = refusal.retry_after_us / 1000 + 1;

		p->retry_after_ms = ms < UINT32_MAX ? ms : UINT32_MAX;
	}
	if (!w->n)
		return OUTCOME_OK;
	call->data = w;
	return call_run(call, invalidate_run, invalidate_complete, false);
}
