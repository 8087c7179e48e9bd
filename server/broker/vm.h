/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_VM_H
#define IOASID_BROKER_VM_H

#include "server/broker/call.h"

/* Slot numbers are below that: KVM's own maximum (32767 less three that it keeps). */
#define VM_SLOTS_MAX 32764

/* Visible in its lease; NULL: none. */
struct vm *vm_find(struct lease *lease, uint64_t id);
/* Invisible; queued for destruction (lease->retiring_vms) when no IOASID is of it. */
void vm_retire(struct vm *vm);
/* An IOASID of it is gone (its count is already lowered). */
void vm_put(struct vm *vm);
/* Destroys what is queued, slots counted, until the budget is used up or a table is in the way. */
void vms_reap_retiring(struct lease *lease, unsigned *budget);
/* [blocking] The shim's part of what is queued; on a worker if vms_are_heavy(). */
void vms_end_tables(struct lease *lease);
bool vms_are_heavy(const struct lease *lease);

/* By number. */
struct vm_slot *vm_slot_first(struct vm *vm);
struct vm_slot *vm_slot_next(struct vm_slot *slot);
struct vm_slot *vm_slot_not_before(struct vm *vm, uint32_t number);
/* The slot that this address of the guest lies in; NULL: none. */
struct vm_slot *vm_slot_at(struct vm *vm, uint64_t address);
/* The shim's slot is gone: the record, its charge, its reference to the memory. */
void vm_slot_free(struct vm *vm, struct vm_slot *slot);

/* For a start: from the registry's records.  Complete enough for vm_retire() even if it failed. */
int vm_restore(struct lease *lease, const Ioasid__Registry__Vm *record, struct vm **ret_vm);
int vm_slot_restore(struct vm *vm, const Ioasid__Registry__Slot *record, struct memory *memory);

/* NULL: no memory. */
Ioasid__V1__Vm *vm_describe(struct scratch *scratch, const struct vm *vm);

int rpc_create_vm(struct broker_call *call);
int rpc_set_memory_slot(struct broker_call *call);
int rpc_destroy_vm(struct broker_call *call);
int rpc_list_vms(struct broker_call *call);

#endif
