/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: memfds that devices may reach. */
#include "convert.h"
#include "fd_pass.h"
#include "list.h"

LIST_LAYOUT(Ioasid__V1__ListMemoryResponse, memory, struct ioasid_memories);

struct registration {
	uint64_t offset;
	uint64_t length;
	uint32_t flags;
	const char *label;
};

static int register_with(struct call *call, const uint8_t ticket[IOASID_TICKET_SIZE],
			 const struct registration *registration, struct ioasid_memory **ret_memory)
{
	static const struct method method =
		METHOD("Broker", "RegisterMemory", register_memory_response, true, MAKES_LEASE);
	Ioasid__V1__RegisterMemoryRequest request = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__RegisterMemoryResponse *response;
	struct ioasid_memory *memory = call_root(call);
	int r;

	request.scope = call_scope(call);
	request.ticket.len = IOASID_TICKET_SIZE;
	request.ticket.data = (uint8_t *)ticket;
	request.offset = registration->offset;
	request.length = registration->length;
	request.read = !!(registration->flags & IOASID_READ);
	request.write = !!(registration->flags & IOASID_WRITE);
	request.label = text_or_empty(registration->label);
	r = call_unary(call, &method, &request.base, &response);
	if (r < 0)
		return r;
	memory->id = response->memory;
	memory->length = response->length;
	memory->page_size = response->page_size;
	memory->flags = registration->flags;
	memory->label = result_strdup(call->result, request.label);
	return call_publish(call, ret_memory);
}

static int check_flags(struct call *call, uint32_t flags)
{
	if (flags & ~(IOASID_READ | IOASID_WRITE))
		return call_invalid(call, "flags: %#x has bits besides READ and WRITE", flags);
	return 0;
}

int ioasid_register_memory(struct ioasid_client *client, const struct ioasid_scope *scope, int fd,
			   uint64_t offset, uint64_t length, uint32_t flags, const char *label,
			   struct ioasid_memory **ret_memory, struct ioasid_error **ret_error)
{
	const struct registration registration = {offset, length, flags, label};
	struct fd_pass_retry retry;
	struct ioasid_ticket ticket;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_memory), ret_error);

	if (!r)
		r = check_flags(&call, flags);
	if (r < 0)
		return r;
	fd_pass_begin(&retry, &call);
	do {
		r = fd_pass_give(&call, IOASID_TICKET_MEMORY, fd, &ticket);
		if (!r)
			r = register_with(&call, ticket.bytes, &registration, ret_memory);
	} while (fd_pass_again(&retry, r));
	return fd_pass_end(&retry, r);
}

int ioasid_register_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			   const uint8_t ticket[IOASID_TICKET_SIZE], uint64_t offset,
			   uint64_t length, uint32_t flags, const char *label,
			   struct ioasid_memory **ret_memory, struct ioasid_error **ret_error)
{
	const struct registration registration = {offset, length, flags, label};
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_memory), ret_error);

	if (!r)
		r = check_flags(&call, flags);
	if (!r && !ticket)
		r = call_invalid(&call, "ticket is NULL");
	return r < 0 ? r : register_with(&call, ticket, &registration, ret_memory);
}

int ioasid_unregister_memory(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t memory, bool *ret_pending, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "UnregisterMemory", unregister_memory_response, true, IN_LEASE);
	Ioasid__V1__UnregisterMemoryRequest request = IOASID__V1__UNREGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__UnregisterMemoryResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.memory = memory;
	r = call_unary(&call, &method, &request.base, &response);
	if (!r && ret_pending)
		*ret_pending = response->pending;
	return r;
}

int ioasid_memory_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       struct ioasid_memories **ret_memories, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListMemory", list_memory_response, false, IN_LEASE);
	Ioasid__V1__ListMemoryRequest request = IOASID__V1__LIST_MEMORY_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_memories), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_memory), convert_memory);
	return r < 0 ? r : call_publish(&call, ret_memories);
}

void ioasid_memory_free(struct ioasid_memory *memory)
{
	result_free_root(memory);
}

void ioasid_memories_free(struct ioasid_memories *memories)
{
	result_free_root(memories);
}
