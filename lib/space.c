/* SPDX-License-Identifier: Apache-2.0 */
/* IOASIDs: negotiate, alloc, free, look at. */
#include "convert.h"
#include "list.h"
#include "page_table.h"

LIST_LAYOUT(Ioasid__V1__ListIoasidsResponse, ioasids, struct ioasid_infos);

#define ALLOC_FLAGS (IOASID_ALLOC_FAULTS | IOASID_ALLOC_PASID | IOASID_ALLOC_DIRTY_TRACKING)

static void convert_refusal(struct result *result, const void *message, void *ret_refusal)
{
	const Ioasid__V1__Refusal *from = message;
	struct ioasid_refusal *to = ret_refusal;

	to->format = (enum ioasid_format)from->format;
	to->by = (enum ioasid_refused_by)from->by;
	to->who = from->who;
	to->reason = from->reason;
}

void convert_choice(struct result *result, const void *message, void *ret_choice)
{
	const Ioasid__V1__Choice *from = message;
	struct ioasid_choice *to = ret_choice;

	to->format = (enum ioasid_format)from->format;
	to->kernel_chosen = from->kernel_chosen;
	to->input_bits = from->input_bits;
	to->output_bits = from->output_bits;
	to->page_sizes = from->page_sizes;
	to->enforce_snoop = from->enforce_snoop;
	to->n_valid = from->n_valid;
	to->valid = list_convert(result, from->n_valid, (void **)from->valid, sizeof(**to->valid),
				 convert_range);
	to->n_passed_over = from->n_passed_over;
	to->passed_over = list_convert(result, from->n_passed_over, (void **)from->passed_over,
				       sizeof(**to->passed_over), convert_refusal);
}

void convert_info(struct result *result, const void *message, void *ret_info)
{
	/* Never NULL for the program. */
	static const Ioasid__V1__Choice none = IOASID__V1__CHOICE__INIT;
	const Ioasid__V1__Ioasid *from = message;
	struct ioasid_info *to = ret_info;

	to->id = from->ioasid;
	to->kind = (enum ioasid_kind)from->kind;
	to->choice = convert_optional(result, from->choice ?: &none, sizeof(*to->choice),
				      convert_choice);
	to->parent = from->parent;
	to->depth = from->depth;
	to->n_devices = from->n_devices;
	to->devices = list_strings(from->devices);
	to->label = from->label;
	to->mappings = from->mappings;
	to->mapped_bytes = from->mapped_bytes;
	to->attachments = from->attachments;
	to->children = from->children;
	to->dirty_tracking = from->dirty_tracking;
	to->table = convert_optional(result, from->table, sizeof(*to->table), page_table_convert);
	to->pasid_table = convert_optional(result, from->pasid_table, sizeof(*to->pasid_table),
					   pasid_table_convert);
	to->tracking = from->tracking;
	to->vm = from->vm;
}

/* The request as a message, in memory of the call. */
static int fill_request(struct call *call, const struct ioasid_alloc_request *from,
			Ioasid__V1__AllocRequest *to, Ioasid__V1__PageTable *table)
{
	Ioasid__V1__FormatCandidate *candidates;
	Ioasid__V1__FormatCandidate **pointers;
	int r;

	if (!from)
		return call_invalid(call, "request is NULL");
	for (size_t i = 0; i < sizeof(from->reserved) / sizeof(from->reserved[0]); i++)
		if (from->reserved[i] || from->reserved32)
			return call_invalid(call, "request: reserved members are not 0");
	if (from->flags & ~ALLOC_FLAGS)
		return call_invalid(call, "request: unknown flags %#x", from->flags);
	r = call_check_strings(call, "request: devices", from->devices, from->n_devices);
	if (!r)
		r = call_check_array(call, "request: candidates", from->candidates,
				     from->n_candidates);
	if (!r && from->table)
		r = page_table_fill(call, from->table, table);
	if (r < 0)
		return r;

	candidates = result_alloc(call->result, from->n_candidates, sizeof(*candidates));
	pointers = result_alloc(call->result, from->n_candidates, sizeof(*pointers));
	if (result_failed(call->result))
		return error_no_memory(call->ret_error);
	for (size_t i = 0; i < from->n_candidates; i++) {
		ioasid__v1__format_candidate__init(&candidates[i]);
		candidates[i].format = (Ioasid__V1__PageTableFormat)from->candidates[i];
		pointers[i] = &candidates[i];
	}
	to->scope = call_scope(call);
	to->n_devices = from->n_devices;
	to->devices = (char **)from->devices;
	to->kind = (Ioasid__V1__IoasidKind)from->kind;
	to->parent = from->parent;
	to->n_candidates = from->n_candidates;
	to->candidates = pointers;
	to->input_bits = from->input_bits;
	to->table_bits = from->table_bits;
	to->snoop = (Ioasid__V1__SnoopMode)from->snoop;
	to->faults = !!(from->flags & IOASID_ALLOC_FAULTS);
	to->pasid = !!(from->flags & IOASID_ALLOC_PASID);
	to->dirty_tracking = !!(from->flags & IOASID_ALLOC_DIRTY_TRACKING);
	to->table = from->table ? table : NULL;
	to->vm = from->vm;
	to->label = text_or_empty(from->label);
	return 0;
}

int ioasid_negotiate(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const struct ioasid_alloc_request *request, struct ioasid_offer **ret_offer,
		     struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Negotiate", negotiate_response, false, IN_LEASE);
	Ioasid__V1__NegotiateRequest message = IOASID__V1__NEGOTIATE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__PageTable table = IOASID__V1__PAGE_TABLE__INIT;
	Ioasid__V1__NegotiateResponse *response;
	struct ioasid_offer *offer;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*offer), ret_error);

	if (!r)
		r = fill_request(&call, request, &alloc, &table);
	if (r < 0)
		return r;
	message.alloc = &alloc;
	r = call_unary(&call, &method, &message.base, &response);
	if (r < 0)
		return r;
	if (!response->choice)
		return error_bad_answer(method.name, "it has no choice", ret_error);
	offer = call_root(&call);
	offer->choice = convert_optional(call.result, response->choice, sizeof(*offer->choice),
					 convert_choice);
	offer->within_quota = response->within_quota;
	offer->quota_refusal = response->quota_refusal;
	return call_publish(&call, ret_offer);
}

int ioasid_alloc(struct ioasid_client *client, const struct ioasid_scope *scope,
		 const struct ioasid_alloc_request *request, uint64_t *ret_ioasid,
		 struct ioasid_choice **ret_choice, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Alloc", alloc_response, true, MAKES_LEASE);
	Ioasid__V1__AllocRequest message = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__PageTable table = IOASID__V1__PAGE_TABLE__INIT;
	Ioasid__V1__AllocResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_choice), ret_error);

	if (!r)
		r = fill_request(&call, request, &message, &table);
	if (r < 0)
		return r;
	r = call_unary(&call, &method, &message.base, &response);
	if (r < 0)
		return r;
	if (!response->ioasid || (ret_choice && !response->choice))
		return error_bad_answer(method.name, "it has no id or no choice", ret_error);
	if (ret_choice) {
		uint64_t id = response->ioasid;

		convert_choice(call.result, response->choice, call_root(&call));
		r = call_publish(&call, ret_choice);
		if (r < 0)
			return r;
		*ret_ioasid = id;
		return 0;
	}
	*ret_ioasid = response->ioasid;
	return 0;
}

int ioasid_free(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
		bool *ret_pending, struct ioasid_error **ret_error)
{
	static const struct method method = METHOD("Broker", "Free", free_response, true, IN_LEASE);
	Ioasid__V1__FreeRequest request = IOASID__V1__FREE_REQUEST__INIT;
	Ioasid__V1__FreeResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	r = call_unary(&call, &method, &request.base, &response);
	if (!r && ret_pending)
		*ret_pending = response->pending;
	return r;
}

int ioasid_get(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
	       struct ioasid_info **ret_info, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "GetIoasid", get_ioasid_response, false, IN_LEASE);
	Ioasid__V1__GetIoasidRequest request = IOASID__V1__GET_IOASID_REQUEST__INIT;
	Ioasid__V1__GetIoasidResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_info), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	if (!response->ioasid)
		return error_bad_answer(method.name, "it has no IOASID", ret_error);
	convert_info(call.result, response->ioasid, call_root(&call));
	return call_publish(&call, ret_info);
}

int ioasid_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		struct ioasid_infos **ret_infos, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListIoasids", list_ioasids_response, false, IN_LEASE);
	Ioasid__V1__ListIoasidsRequest request = IOASID__V1__LIST_IOASIDS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_infos), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_info), convert_info);
	return r < 0 ? r : call_publish(&call, ret_infos);
}

void ioasid_choice_free(struct ioasid_choice *choice)
{
	result_free_root(choice);
}

void ioasid_offer_free(struct ioasid_offer *offer)
{
	result_free_root(offer);
}

void ioasid_info_free(struct ioasid_info *info)
{
	result_free_root(info);
}

void ioasid_infos_free(struct ioasid_infos *infos)
{
	result_free_root(infos);
}
