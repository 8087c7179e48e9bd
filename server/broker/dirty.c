/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking: which pages devices have written.
 *
 * A bitmap is read and sent part by part.  Each part is a turn of its own in the lease, so a
 * reader that is slow holds up nobody and costs one part's memory; between two parts the
 * IOASID may go, and then the stream ends with NOT_FOUND.  What a part that was read with
 * clearing says is clean from then on: a stream that breaks off leaves the caller not knowing
 * what was in the part on its way, which the API says.
 *
 * After a restart of the broker on a shim whose tables end with it, all that is mapped is dirty
 * once (restore_objects.c).  State thread; shim calls in ops.
 */
#include "server/broker/dirty.h"

#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of bitmap in one part: 2 GiB in pages of 4 KiB. */
#define PART_BYTES (64u << 10)

/* ---- SetDirtyTracking ---- */

static int refuse_ioasid(struct broker_call *call, uint64_t id, const char *why)
{
	return refuse_precondition(
		call, OUTCOME_WRONG_STATE,
		scratch_printf(&call->scratch, "ioasid %llu", (unsigned long long)id) ?: "ioasid",
		"%s", why);
}

/* A table that a tenant wrote, with more pages than one look may take: no quota of anybody's. */
static int refuse_large(struct broker_call *call, uint64_t id, const char *advice)
{
	return refuse_ioasid(call, id,
			     scratch_printf(&call->scratch, "its table has more than %d pages%s",
					    SHIM_DIRTY_TABLES_MAX, advice)
				     ?: "its table is too large");
}

struct track_work {
	struct ioasid *ioasid;
	bool enable;
	int result;
};

static void track_run(struct op *op)
{
	struct track_work *w = call_of_op(op)->data;

	w->result = shim_pt_track_dirty(w->ioasid->pt, w->enable, false);
}

static void track_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct track_work *w = call->data;

	if (w->result == SHIM_E_LIMIT) {
		call_end(call, refuse_large(call, w->ioasid->object.id.value, ""));
		return;
	}
	if (w->result) {
		call_end(call, refuse_shim(call, w->result, "dirty tracking", NULL));
		return;
	}
	w->ioasid->tracking = w->enable;
	ioasid_result(call, w->ioasid);
	call_end(call, OUTCOME_OK);
}

int rpc_set_dirty_tracking(struct broker_call *call)
{
	const Ioasid__V1__SetDirtyTrackingRequest *q = (const void *)call->request;
	struct track_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	int r;

	if (!w || !call_response(call))
		return refuse_no_memory(call);
	w->ioasid = ioasid_find(call->lease, q->ioasid);
	w->enable = q->enable;
	if (!w->ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	if (!w->ioasid->dirty_tracking)
		return refuse_ioasid(call, q->ioasid, "it was allocated without dirty_tracking");
	call->note = q->enable ? "on" : "off";
	call->data = w;
	journal_intent(call)->ioasid = q->ioasid;
	r = journal_begin(call, record_ioasid_bound(w->ioasid), 0);
	return r ?: call_run(call, track_run, track_complete, false);
}

/* ---- ReadDirtyBitmap ---- */

struct dirty_read {
	struct ioasid *ioasid; /* during an op */
	uint64_t id;
	uint64_t iova, left; /* what is still to be read */
	uint64_t part;	     /* bytes of IOVA that the op reads */
	unsigned page_shift;
	bool clear;
	uint64_t sequence;
	int result;
	uint8_t bitmap[PART_BYTES];
};

static void dirty_finish(struct broker_call *call)
{
	free(call->data);
}

static void dirty_run(struct op *op)
{
	struct dirty_read *d = call_of_op(op)->data;

	memset(d->bitmap, 0, sizeof(d->bitmap));
	d->result = shim_pt_read_dirty(d->ioasid->pt, d->iova, d->part, d->page_shift, d->clear,
				       d->bitmap);
}

static void dirty_send(struct broker_call *call, struct dirty_read *d)
{
	Ioasid__V1__ReadDirtyBitmapResponse m = IOASID__V1__READ_DIRTY_BITMAP_RESPONSE__INIT;
	uint64_t pages = d->part >> d->page_shift;

	m.sequence = ++d->sequence;
	m.iova = d->iova;
	m.page_size = UINT64_C(1) << d->page_shift;
	m.bitmap = (ProtobufCBinaryData){.len = (pages + 7) / 8, .data = d->bitmap};
	d->iova += d->part;
	d->left -= d->part;
	call->writable = false;
	call->ops->send(call->userdata, &m.base);
}

static void dirty_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct dirty_read *d = call->data;

	if (call->cancelled) {
		call_end(call, refuse(call, OUTCOME_CANCELLED, "the caller went away"));
		return;
	}
	if (d->result == SHIM_E_RANGE) {
		call_end(call, refuse_field(call, OUTCOME_INVALID_FIELD, "iova",
					    "the range does not fit into the IOASID's space"));
		return;
	}
	if (d->result == SHIM_E_LIMIT) {
		call_end(call,
			 refuse_large(call, d->id, " in this range: read it in smaller ones"));
		return;
	}
	if (d->result) {
		call_end(call, refuse_shim(call, d->result, "dirty bitmap", NULL));
		return;
	}
	dirty_send(call, d);
	call_park(call);
}

/* The next part, in a turn of its own. */
static int dirty_turn(struct broker_call *call)
{
	struct dirty_read *d = call->data;
	uint64_t most = (uint64_t)PART_BYTES * 8 << d->page_shift;

	d->ioasid = ioasid_find(call->lease, d->id);
	if (!d->ioasid)
		return refuse_id(call, "ioasid", "IOASID", d->id);
	if (!d->ioasid->tracking)
		return refuse_ioasid(call, d->id, "dirty pages are not tracked now");
	d->part = d->left < most ? d->left : most;
	return call_run(call, dirty_run, dirty_complete, d->part >> 12 > OP_LIGHT_PAGES);
}

static void dirty_writable(struct broker_call *call)
{
	struct dirty_read *d = call->data;

	if (!call->parked)
		return;
	if (d->left)
		call_unpark(call, dirty_turn);
	else
		call_end(call, OUTCOME_OK);
}

static int check_range(struct broker_call *call, const Ioasid__V1__ReadDirtyBitmapRequest *q,
		       const struct ioasid *ioasid)
{
	uint64_t smallest = ioasid->choice.page_sizes & -ioasid->choice.page_sizes;

	if (!q->page_size || q->page_size & (q->page_size - 1) || q->page_size < smallest)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "page_size",
				    "must be a power of two, at least %llu",
				    (unsigned long long)smallest);
	if (q->iova % q->page_size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "iova",
				    "must be a multiple of page_size");
	if (!q->length || q->length % q->page_size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "length",
				    "must be a multiple of page_size, and not 0");
	if (q->iova + (q->length - 1) < q->iova)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "length",
				    "wraps around the end of the address space");
	return OUTCOME_OK;
}

int rpc_read_dirty_bitmap(struct broker_call *call)
{
	const Ioasid__V1__ReadDirtyBitmapRequest *q = (const void *)call->request;
	const struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct quota_refusal refusal;
	struct dirty_read *d;
	int r;

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	r = check_range(call, q, ioasid);
	if (r)
		return r;
	r = charge_grow(&call->charge, QUOTA_BROKER_BYTES, sizeof(*d), &refusal);
	if (r)
		return refuse_charge(call, r, &refusal);
	d = calloc(1, sizeof(*d));
	if (!d)
		return refuse_no_memory(call);
	d->id = q->ioasid;
	d->iova = q->iova;
	d->left = q->length;
	d->page_shift = (unsigned)__builtin_ctzll(q->page_size);
	d->clear = !q->no_clear;
	call->data = d;
	call->on_finish = dirty_finish;
	call->on_writable = dirty_writable;
	return dirty_turn(call);
}
