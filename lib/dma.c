/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA of a simulated device.  The broker takes up to 1 MiB a request; a longer transfer
 * goes in several, each of which the device does on its own, as it would on a bus.  No
 * idempotency key is sent: a transfer that is repeated is simply done again.
 */
#include "convert.h"
#include "call.h"

#include <string.h>

#define CHUNK (1024 * 1024)

struct transfer {
	const char *device;
	uint32_t pasid;
	uint64_t iova;
	size_t length;
	/* One of the two. */
	uint8_t *to;
	const uint8_t *from;
};

/* One request; *ret_done bytes moved, and the root has the fault if there was one. */
static int chunk(struct call *call, const struct transfer *transfer, size_t offset, size_t length,
		 size_t *ret_done)
{
	static const struct method method =
		METHOD("Broker", "DeviceDma", device_dma_response, false, IN_LEASE);
	__attribute__((cleanup(result_freep))) struct result *scratch = NULL;
	Ioasid__V1__DeviceDmaRequest request = IOASID__V1__DEVICE_DMA_REQUEST__INIT;
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;
	Ioasid__V1__DeviceDmaResponse *response;
	struct ioasid_dma_result *root = call_root(call);
	int r;

	scratch = result_new(0);
	if (!scratch)
		return error_no_memory(call->ret_error);
	request.scope = call_scope(call);
	request.device = text_or_empty(transfer->device);
	pasid.value = transfer->pasid;
	request.pasid = transfer->pasid == IOASID_NO_PASID ? NULL : &pasid;
	request.iova = transfer->iova + offset;
	if (transfer->to) {
		request.access = IOASID__V1__ACCESS__ACCESS_READ;
		request.length = (uint32_t)length;
	} else {
		request.access = IOASID__V1__ACCESS__ACCESS_WRITE;
		request.data.len = length;
		request.data.data = (uint8_t *)transfer->from + offset;
	}
	r = call_unary_into(call, &method, &request.base, scratch, &response);
	if (r < 0)
		return r;
	if (response->done > length || (response->done < length && !response->fault) ||
	    (transfer->to && response->data.len != response->done))
		return error_bad_answer(method.name, "its count of bytes is wrong",
					call->ret_error);
	if (transfer->to && response->done)
		memcpy(transfer->to + offset, response->data.data, response->done);
	root->fault = convert_optional(call->result, response->fault, sizeof(*root->fault),
				       convert_fault);
	*ret_done = response->done;
	return 0;
}

static int run(struct ioasid_client *client, const struct ioasid_scope *scope,
	       const struct transfer *transfer, struct ioasid_dma_result **ret_result,
	       struct ioasid_error **ret_error)
{
	struct ioasid_dma_result *root;
	CALL_AUTO struct call call;
	size_t done = 0;
	int r = call_begin(&call, client, scope, sizeof(*root), ret_error);

	if (r < 0)
		return r;
	if (!transfer->to && !transfer->from)
		return call_invalid(&call, "data is NULL");
	/* Whole: the broker would see only the chunk at the end of the address space. */
	if (transfer->length && transfer->iova + (transfer->length - 1) < transfer->iova)
		return call_invalid(&call, "iova and length wrap around");
	root = call_root(&call);
	do {
		size_t left = transfer->length - done, moved = 0;

		r = chunk(&call, transfer, done, left < CHUNK ? left : CHUNK, &moved);
		if (r < 0)
			return r;
		done += moved;
	} while (done < transfer->length && !root->fault);
	root->done = done;
	return call_publish(&call, ret_result);
}

int ioasid_dma_read(struct ioasid_client *client, const struct ioasid_scope *scope,
		    const char *device, uint32_t pasid, uint64_t iova, void *ret_data,
		    size_t length, struct ioasid_dma_result **ret_result,
		    struct ioasid_error **ret_error)
{
	const struct transfer transfer = {device, pasid, iova, length, .to = ret_data};

	return run(client, scope, &transfer, ret_result, ret_error);
}

int ioasid_dma_write(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *device, uint32_t pasid, uint64_t iova, const void *data,
		     size_t length, struct ioasid_dma_result **ret_result,
		     struct ioasid_error **ret_error)
{
	const struct transfer transfer = {device, pasid, iova, length, .from = data};

	return run(client, scope, &transfer, ret_result, ret_error);
}

void ioasid_dma_result_free(struct ioasid_dma_result *result)
{
	result_free_root(result);
}
