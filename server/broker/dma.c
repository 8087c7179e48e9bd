/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DeviceDma: has a simulated device read or write memory through the IOMMU.  A blocked
 * access is an answer, not an error.  Where the device can ask for a page, the call is parked
 * until the answer and then goes on where it was.  Large transfers run on a worker.
 */
#include "server/broker/dma.h"

#include "server/broker/attachment.h"
#include "server/broker/dma_service.h"
#include "server/broker/fault.h"
#include "server/broker/lease.h"
#include "server/broker/pasid.h"
#include "server/broker/translate.h"

#define DMA_MAX	  (1u << 20)
#define DMA_LIGHT (64u << 10)

struct dma_work {
	struct device *device;
	uint32_t pasid;
	uint32_t physical; /* in this round */
	uint32_t access;
	uint64_t iova;
	uint8_t *buffer;
	size_t length;
	size_t done;  /* of all rounds */
	size_t moved; /* of the last one */
	struct shim_fault fault;
	struct fault *request;	  /* waits for its answer; NULL: none */
	struct dma_access *asked; /* of a process, all of its pieces; NULL: none */
	int result;
};

static void dma_run(struct op *op)
{
	struct dma_work *w = call_of_op(op)->data;

	w->moved = 0;
	w->result = shim_dma(w->device->shim, w->physical, w->access, w->iova + w->done,
			     w->buffer + w->done, w->length - w->done, &w->moved, &w->fault);
}

static void dma_finish(struct broker_call *call)
{
	struct dma_work *w = call->data;

	fault_forget(w->request);
	dma_service_forget(w->asked);
}

static int dma_answer(struct broker_call *call)
{
	Ioasid__V1__DeviceDmaResponse *p = (void *)call->response;
	struct dma_work *w = call->data;

	p->done = w->done;
	if (w->access == SHIM_READ)
		p->data = (ProtobufCBinaryData){.len = w->done, .data = w->buffer};
	if (!w->fault.cause)
		return OUTCOME_OK;
	p->fault = fault_describe(&call->scratch, &w->fault);
	return p->fault ? OUTCOME_OK : refuse_no_memory(call);
}

static int dma_turn(struct broker_call *call);

/* The page is there, or it will not be. */
static void dma_answered(struct broker_call *call, bool success)
{
	struct dma_work *w = call->data;

	w->request = NULL;
	if (success)
		call_unpark(call, dma_turn);
	else
		call_end(call, dma_answer(call));
}

/* Blocked: the device asks for the page, if it can; true: it waits. */
static bool dma_blocked(struct broker_call *call, struct dma_work *w)
{
	struct attachment *a = attachment_reached(call->lease, w->device, w->pasid);
	struct fault_where where = {
		.device = w->device,
		.pasid = w->pasid,
		.ioasid = a ? a->ioasid : NULL,
		.what = w->fault,
	};

	if (w->fault.recoverable && !call->cancelled &&
	    fault_request(call, &where, dma_answered, &w->request))
		return true;
	fault_record(call->lease, &where);
	return false;
}

/* What of [at, at + length) lies before the next reserved range; 0: it begins in one. */
static size_t unreserved(const struct device *device, uint64_t at, size_t length)
{
	const struct shim_caps *caps = &device->info->caps;

	for (size_t i = 0; i < caps->n_reserved; i++) {
		const struct shim_range *r = &caps->reserved[i];

		if (at >= r->start && at <= r->last)
			return 0;
		if (at < r->start && r->start - at < length)
			length = r->start - at;
	}
	return length;
}

/* The process refused it, or cannot be asked. */
static void dma_process_blocked(struct broker_call *call, enum shim_fault_cause cause)
{
	struct dma_work *w = call->data;

	w->fault = (struct shim_fault){
		.cause = cause,
		.access = w->access,
		.address = w->iova + w->done,
	};
	dma_blocked(call, w);
	call_end(call, dma_answer(call));
}

static void dma_process_answered(struct broker_call *call, size_t moved,
				 enum shim_fault_cause cause)
{
	struct dma_work *w = call->data;

	w->done += moved;
	if (cause)
		dma_process_blocked(call, cause);
	else if (w->done == w->length)
		call_end(call, dma_answer(call));
	else
		call_unpark(call, dma_turn);
}

/* The address space is a process's: the access is carried there, a piece at a time. */
static void dma_ask_process(struct broker_call *call)
{
	struct dma_work *w = call->data;
	uint64_t at = w->iova + w->done;
	struct dma_request request = {
		.attachment = attachment_find(call->lease, w->device, w->pasid),
		.access = w->access,
		.address = at,
		.buffer = w->buffer + w->done,
		.length = unreserved(w->device, at, w->length - w->done),
	};
	enum shim_fault_cause cause;

	if (!request.attachment)
		cause = SHIM_FAULT_NOT_ATTACHED;
	else if (!request.length)
		cause = SHIM_FAULT_RESERVED_RANGE;
	else
		cause = dma_service_ask(call, &request, dma_process_answered, &w->asked);
	if (cause)
		dma_process_blocked(call, cause);
	else
		call_park(call);
}

static void dma_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct dma_work *w = call->data;

	if (w->result == SHIM_E_PROCESS) {
		dma_ask_process(call);
		return;
	}
	/* Whether it began there or not. */
	dma_service_forget(w->asked);
	if (w->result == SHIM_E_UNSUPPORTED) {
		call_end(call, refuse(call, OUTCOME_UNIMPLEMENTED,
				      "the shim has no such access, or none through this page "
				      "table"));
		return;
	}
	if (w->result) {
		call_end(call, refuse_shim(call, w->result, "DMA", NULL));
		return;
	}
	w->done += w->moved;
	if (w->fault.cause && dma_blocked(call, w))
		call_park(call);
	else
		call_end(call, dma_answer(call));
}

static int dma_turn(struct broker_call *call)
{
	struct dma_work *w = call->data;
	bool own;

	/* Given back while it waited; its attachments went first, and with them the request. */
	if (w->device->lease != call->lease || !w->device->bound)
		return dma_answer(call);
	w->fault = (struct shim_fault){0};
	own = attachment_has_pasid_table(call->lease, w->device);
	w->physical = own ? w->pasid : pasid_physical(call->lease, w->pasid);
	if (!own && pasid_is_hidden(call->lease, w->pasid)) {
		w->fault = (struct shim_fault){
			.cause = SHIM_FAULT_NOT_ATTACHED,
			.access = w->access,
			.address = w->iova + w->done,
		};
		dma_blocked(call, w);
		return dma_answer(call);
	}
	return call_run(call, dma_run, dma_complete, w->length - w->done > DMA_LIGHT);
}

int rpc_device_dma(struct broker_call *call)
{
	const Ioasid__V1__DeviceDmaRequest *q = (const void *)call->request;
	struct dma_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	size_t length;
	int r;

	if (!call->broker->shim->ops->dma)
		return refuse(call, OUTCOME_UNIMPLEMENTED,
			      "DeviceDma: devices of shim %s are not simulated",
			      call->broker->shim->ops->name);
	if (!w || !call_response(call))
		return refuse_no_memory(call);
	r = attachment_device(call, q->device, &w->device);
	if (!r)
		r = attachment_pasid(call, w->device, q->pasid, &w->pasid);
	if (r)
		return r;
	if (q->access != IOASID__V1__ACCESS__ACCESS_READ &&
	    q->access != IOASID__V1__ACCESS__ACCESS_WRITE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "access", "must be read or write");
	w->access = access_to_shim(q->access);
	length = w->access == SHIM_READ ? q->length : q->data.len;
	if (length == 0 || length > DMA_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD,
				    w->access == SHIM_READ ? "length" : "data",
				    "must be 1 to %u bytes, found %zu", DMA_MAX, length);
	if (w->access == SHIM_READ && q->data.len)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "data", "only for a write");
	if (w->access == SHIM_WRITE && q->length)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "length", "only for a read");
	if (q->iova + (length - 1) < q->iova)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "iova",
				    "the access wraps around the end of the address space");
	w->iova = q->iova;
	w->length = length;
	w->buffer = w->access == SHIM_READ ? scratch_alloc(&call->scratch, length) : q->data.data;
	if (!w->buffer)
		return refuse_no_memory(call);
	call->note = q->device;
	call->data = w;
	call->on_finish = dma_finish;
	return dma_turn(call);
}
