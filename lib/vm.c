/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual machines, for IOASIDs of kind KVM, and the DMA service of kind PROCESS. */
#include "convert.h"
#include "fd_pass.h"
#include "list.h"

LIST_LAYOUT(Ioasid__V1__ListVmsResponse, vms, struct ioasid_vms);

int ioasid_vm_create(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *label, uint64_t *ret_vm, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "CreateVm", create_vm_response, true, MAKES_LEASE);
	Ioasid__V1__CreateVmRequest request = IOASID__V1__CREATE_VM_REQUEST__INIT;
	Ioasid__V1__CreateVmResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.label = text_or_empty(label);
	r = call_unary(&call, &method, &request.base, &response);
	if (!r)
		*ret_vm = response->vm;
	return r;
}

int ioasid_vm_set_slot(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t vm,
		       const struct ioasid_memory_slot *slot, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "SetMemorySlot", set_memory_slot_response, true, IN_LEASE);
	Ioasid__V1__SetMemorySlotRequest request = IOASID__V1__SET_MEMORY_SLOT_REQUEST__INIT;
	Ioasid__V1__SetMemorySlotResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r && !slot)
		r = call_invalid(&call, "slot is NULL");
	if (!r && (slot->reserved[0] || slot->reserved[1]))
		r = call_invalid(&call, "slot: reserved members are not 0");
	if (!r && slot->flags & ~IOASID_SLOT_READ_ONLY)
		r = call_invalid(&call, "slot: unknown flags %#x", slot->flags);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.vm = vm;
	request.slot = slot->slot;
	request.guest_address = slot->guest_address;
	request.size = slot->size;
	request.memory = slot->memory;
	request.offset = slot->offset;
	request.read_only = !!(slot->flags & IOASID_SLOT_READ_ONLY);
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_vm_destroy(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t vm,
		      struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "DestroyVm", destroy_vm_response, true, IN_LEASE);
	Ioasid__V1__DestroyVmRequest request = IOASID__V1__DESTROY_VM_REQUEST__INIT;
	Ioasid__V1__DestroyVmResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.vm = vm;
	return call_unary(&call, &method, &request.base, &response);
}

void convert_vm(struct result *result, const void *message, void *ret_vm)
{
	const Ioasid__V1__Vm *from = message;
	struct ioasid_vm *to = ret_vm;

	to->id = from->vm;
	to->label = from->label;
	to->slots = from->slots;
	to->slot_bytes = from->slot_bytes;
	to->ioasids = from->ioasids;
}

int ioasid_vm_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		   struct ioasid_vms **ret_vms, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListVms", list_vms_response, false, IN_LEASE);
	Ioasid__V1__ListVmsRequest request = IOASID__V1__LIST_VMS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_vms), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = list_call(&call, &method, &request.base, &request.page_token, sizeof(struct ioasid_vm),
		      convert_vm);
	return r < 0 ? r : call_publish(&call, ret_vms);
}

void ioasid_vms_free(struct ioasid_vms *vms)
{
	result_free_root(vms);
}

static int ask_ticket(struct call *call, struct ioasid_ticket *ret_ticket)
{
	static const struct method method =
		METHOD("Broker", "OpenDmaService", open_dma_service_response, false, MAKES_LEASE);
	Ioasid__V1__OpenDmaServiceRequest request = IOASID__V1__OPEN_DMA_SERVICE_REQUEST__INIT;
	Ioasid__V1__OpenDmaServiceResponse *response;
	int r;

	request.scope = call_scope(call);
	r = call_unary(call, &method, &request.base, &response);
	return r < 0 ? r : fd_pass_ticket(call, method.name, &response->ticket, 0, ret_ticket);
}

int ioasid_dma_service_open(struct ioasid_client *client, const struct ioasid_scope *scope,
			    int *ret_fd, struct ioasid_error **ret_error)
{
	struct fd_pass_retry retry;
	struct ioasid_ticket ticket;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	fd_pass_begin(&retry, &call);
	do {
		r = ask_ticket(&call, &ticket);
		if (!r)
			r = fd_pass_take(&call, ticket.bytes, ret_fd);
	} while (fd_pass_again(&retry, r));
	return fd_pass_end(&retry, r);
}
