/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DeviceDma: has a simulated device read or write memory through the IOMMU.  A blocked
 * access is an answer, not an error.  Large transfers run on a worker.
 */
#include "server/broker/dma.h"

#include "server/broker/attachment.h"
#include "server/broker/event.h"
#include "server/broker/lease.h"
#include "server/broker/translate.h"

#include "vocab.h"

#define DMA_MAX	  (1u << 20)
#define DMA_LIGHT (64u << 10)

struct dma_work {
	struct device *device;
	uint32_t pasid;
	uint32_t access;
	uint64_t iova;
	uint8_t *buffer;
	size_t length;
	size_t done;
	struct shim_fault fault;
	int result;
};

static void dma_run(struct op *op)
{
	struct dma_work *w = call_of_op(op)->data;

	w->result = shim_dma(w->device->shim, w->pasid, w->access, w->iova, w->buffer, w->length,
			     &w->done, &w->fault);
}

static void dma_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__DeviceDmaResponse *p = (void *)call->response;
	struct dma_work *w = call->data;

	if (w->result) {
		call_end(call, refuse_shim(call, w->result, "DMA", NULL));
		return;
	}
	p->done = w->done;
	if (w->access == SHIM_READ)
		p->data = (ProtobufCBinaryData){.len = w->done, .data = w->buffer};
	if (w->fault.cause) {
		p->fault = fault_describe(&call->scratch, &w->fault);
		if (!p->fault) {
			call_end(call, refuse_no_memory(call));
			return;
		}
		event_emit(call->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_FAULT, call->tenant,
			   call->lease, 0, w->device->info->address, "%s at 0x%llx",
			   vocab_fault_name(p->fault->cause), (unsigned long long)w->fault.address);
	}
	call_end(call, OUTCOME_OK);
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
	return call_run(call, dma_run, dma_complete, length > DMA_LIGHT);
}
