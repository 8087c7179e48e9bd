/* SPDX-License-Identifier: Apache-2.0 */
/* A walk, level by level, without effect. */
#include "convert.h"
#include "list.h"

static void convert_level(struct result *result, const void *message, void *ret_level)
{
	const Ioasid__V1__WalkLevel *from = message;
	struct ioasid_walk_level *to = ret_level;

	to->stage = from->stage;
	to->level = from->level;
	to->input = from->input;
	to->table = from->table;
	to->index = from->index;
	to->entry = from->entry;
	to->decoded = from->decoded;
}

int ioasid_translate(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, uint64_t iova, enum ioasid_access access,
		     struct ioasid_translation **ret_translation, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Translate", translate_response, false, IN_LEASE);
	Ioasid__V1__TranslateRequest request = IOASID__V1__TRANSLATE_REQUEST__INIT;
	Ioasid__V1__TranslateResponse *response;
	struct ioasid_translation *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.iova = iova;
	request.access = (Ioasid__V1__Access)access;
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	to = call_root(&call);
	to->n_levels = response->n_levels;
	to->levels = list_convert(call.result, response->n_levels, (void **)response->levels,
				  sizeof(**to->levels), convert_level);
	to->fault =
		convert_optional(call.result, response->fault, sizeof(*to->fault), convert_fault);
	to->output = response->output;
	to->page_size = response->page_size;
	to->flags = (response->read ? IOASID_READ : 0) | (response->write ? IOASID_WRITE : 0) |
		    (response->execute ? IOASID_EXECUTE : 0);
	to->memory = response->memory;
	to->offset = response->offset;
	return call_publish(&call, ret_translation);
}

void ioasid_translation_free(struct ioasid_translation *translation)
{
	result_free_root(translation);
}
