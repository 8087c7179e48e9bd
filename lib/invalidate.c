/* SPDX-License-Identifier: Apache-2.0 */
/* Flushing IOTLBs.  Fewer done than asked for is an answer: the tenant is over its rate. */
#include "call.h"

static int invalidate(struct call *call, Ioasid__V1__InvalidateRequest *request, size_t *ret_done,
		      uint32_t *ret_retry_after_ms)
{
	static const struct method method =
		METHOD("Broker", "Invalidate", invalidate_response, true, IN_LEASE);
	Ioasid__V1__InvalidateResponse *response;
	int r = call_unary(call, &method, &request->base, &response);

	if (r < 0)
		return r;
	*ret_done = response->done;
	if (ret_retry_after_ms)
		*ret_retry_after_ms = response->retry_after_ms;
	return 0;
}

int ioasid_invalidate(struct ioasid_client *client, const struct ioasid_scope *scope,
		      uint64_t ioasid, const struct ioasid_invalidate_entry *entries,
		      size_t n_entries, size_t *ret_done, uint32_t *ret_retry_after_ms,
		      struct ioasid_error **ret_error)
{
	Ioasid__V1__InvalidateRequest request = IOASID__V1__INVALIDATE_REQUEST__INIT;
	Ioasid__V1__Pasid *pasids;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r)
		r = call_check_array(&call, "entries", entries, n_entries);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.entries = result_table(call.result, n_entries, sizeof(**request.entries));
	pasids = result_alloc(call.result, n_entries, sizeof(*pasids));
	if (result_failed(call.result))
		return error_no_memory(ret_error);
	request.n_entries = n_entries;
	for (size_t i = 0; i < n_entries; i++) {
		const struct ioasid_invalidate_entry *from = &entries[i];
		Ioasid__V1__InvalidateEntry *to = request.entries[i];

		if (from->reserved)
			return call_invalid(&call, "entries[%zu]: reserved is not 0", i);
		if (from->flags & ~IOASID_INVALIDATE_LEAF)
			return call_invalid(&call, "entries[%zu]: unknown flags %#x", i,
					    from->flags);
		ioasid__v1__invalidate_entry__init(to);
		to->granularity = (Ioasid__V1__InvalidateGranularity)from->granularity;
		to->iova = from->iova;
		to->length = from->length;
		to->leaf = !!(from->flags & IOASID_INVALIDATE_LEAF);
		to->device = text_or_empty(from->device);
		if (from->pasid != IOASID_NO_PASID) {
			ioasid__v1__pasid__init(&pasids[i]);
			pasids[i].value = from->pasid;
			to->pasid = &pasids[i];
		}
	}
	return invalidate(&call, &request, ret_done, ret_retry_after_ms);
}

int ioasid_invalidate_native(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t ioasid, enum ioasid_native_invalidation type,
			     const void *entries, size_t size, size_t *ret_done,
			     uint32_t *ret_retry_after_ms, struct ioasid_error **ret_error)
{
	Ioasid__V1__InvalidateRequest request = IOASID__V1__INVALIDATE_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r)
		r = call_check_array(&call, "entries", entries, size);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.native_type = (Ioasid__V1__NativeInvalidation)type;
	request.native.len = size;
	request.native.data = (uint8_t *)entries;
	return invalidate(&call, &request, ret_done, ret_retry_after_ms);
}
