/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map and unmap.  An array goes in one request, never in several: all or none is the
 * broker's promise for a request, and the library could not keep it for more.
 */
#include "list.h"

#include <string.h>

LIST_LAYOUT(Ioasid__V1__ListMappingsResponse, mappings, struct ioasid_mappings);

#define ACCESS_FLAGS (IOASID_READ | IOASID_WRITE | IOASID_EXECUTE)

int ioasid_map(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
	       const struct ioasid_map_entry *entries, size_t n_entries, uint64_t *ret_iovas,
	       struct ioasid_error **ret_error)
{
	static const struct method method = METHOD("Broker", "Map", map_response, true, IN_LEASE);
	Ioasid__V1__MapRequest request = IOASID__V1__MAP_REQUEST__INIT;
	Ioasid__V1__MapResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r)
		r = call_check_array(&call, "entries", entries, n_entries);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.entries = result_table(call.result, n_entries, sizeof(**request.entries));
	if (n_entries && !request.entries)
		return error_no_memory(ret_error);
	request.n_entries = n_entries;
	for (size_t i = 0; i < n_entries; i++) {
		const struct ioasid_map_entry *from = &entries[i];
		Ioasid__V1__MapEntry *to = request.entries[i];

		if (from->reserved)
			return call_invalid(&call, "entries[%zu]: reserved is not 0", i);
		if (from->flags & ~(ACCESS_FLAGS | IOASID_MAP_CHOOSE | IOASID_MAP_FROM_PARENT))
			return call_invalid(&call, "entries[%zu]: unknown flags %#x", i,
					    from->flags);
		ioasid__v1__map_entry__init(to);
		to->iova = from->iova;
		to->choose = !!(from->flags & IOASID_MAP_CHOOSE);
		to->length = from->length;
		to->memory = from->memory;
		to->offset = from->offset;
		to->from_parent = !!(from->flags & IOASID_MAP_FROM_PARENT);
		to->parent_address = from->parent_address;
		to->read = !!(from->flags & IOASID_READ);
		to->write = !!(from->flags & IOASID_WRITE);
		to->execute = !!(from->flags & IOASID_EXECUTE);
	}
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0 || !ret_iovas)
		return r;
	if (response->n_iovas != n_entries)
		return error_bad_answer(method.name, "it has not one address for each entry",
					ret_error);
	memcpy(ret_iovas, response->iovas, n_entries * sizeof(*ret_iovas));
	return 0;
}

static int unmap(struct call *call, Ioasid__V1__UnmapRequest *request, uint64_t *ret_mappings,
		 uint64_t *ret_bytes)
{
	static const struct method method =
		METHOD("Broker", "Unmap", unmap_response, true, IN_LEASE);
	Ioasid__V1__UnmapResponse *response;
	int r = call_unary(call, &method, &request->base, &response);

	if (!r && ret_mappings)
		*ret_mappings = response->mappings;
	if (!r && ret_bytes)
		*ret_bytes = response->bytes;
	return r;
}

int ioasid_unmap(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
		 const struct ioasid_range *ranges, size_t n_ranges, uint64_t *ret_mappings,
		 uint64_t *ret_bytes, struct ioasid_error **ret_error)
{
	Ioasid__V1__UnmapRequest request = IOASID__V1__UNMAP_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r)
		r = call_check_array(&call, "ranges", ranges, n_ranges);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.ranges = result_table(call.result, n_ranges, sizeof(**request.ranges));
	if (n_ranges && !request.ranges)
		return error_no_memory(ret_error);
	request.n_ranges = n_ranges;
	for (size_t i = 0; i < n_ranges; i++) {
		ioasid__v1__unmap_range__init(request.ranges[i]);
		request.ranges[i]->iova = ranges[i].iova;
		request.ranges[i]->length = ranges[i].length;
	}
	return unmap(&call, &request, ret_mappings, ret_bytes);
}

int ioasid_unmap_all(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, uint64_t *ret_mappings, uint64_t *ret_bytes,
		     struct ioasid_error **ret_error)
{
	Ioasid__V1__UnmapRequest request = IOASID__V1__UNMAP_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.all = true;
	return unmap(&call, &request, ret_mappings, ret_bytes);
}

static void convert_mapping(struct result *result, const void *message, void *ret_mapping)
{
	const Ioasid__V1__Mapping *from = message;
	struct ioasid_mapping *to = ret_mapping;

	to->iova = from->iova;
	to->length = from->length;
	to->memory = from->memory;
	to->offset = from->offset;
	to->parent_address = from->parent_address;
	to->flags = (from->read ? IOASID_READ : 0) | (from->write ? IOASID_WRITE : 0) |
		    (from->execute ? IOASID_EXECUTE : 0) |
		    (from->from_parent ? IOASID_MAP_FROM_PARENT : 0);
}

int ioasid_mapping_list(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t ioasid, struct ioasid_mappings **ret_mappings,
			struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListMappings", list_mappings_response, false, IN_LEASE);
	Ioasid__V1__ListMappingsRequest request = IOASID__V1__LIST_MAPPINGS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_mappings), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_mapping), convert_mapping);
	return r < 0 ? r : call_publish(&call, ret_mappings);
}

void ioasid_mappings_free(struct ioasid_mappings *mappings)
{
	result_free_root(mappings);
}
