/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual machines, for IOASIDs of kind KVM: memory slots by the rules of
 * KVM_SET_USER_MEMORY_REGION, and one table of the shim that all IOASIDs of the VM share.
 *
 * Owns struct vm and its slots.  A slot refers to its memory as a mapping does: unregistered
 * meanwhile, the memory is pending.  Nothing is pinned for it.  The shim fills the VM's table
 * when a device first needs a page, on any thread, so the most that the tables of a slot can
 * come to (shim.h, vm_slot_bound) is charged with the slot, and never grows.
 *
 * Invariants: a VM is listed in its lease until destroyed; then in lease->unlisted while an
 * IOASID is of it (charged, invisible), then also on lease->retiring_vms until its table is
 * taken down and its slots are gone.  The shim's slots are the broker's while no op is in
 * flight.  State thread.
 */
#include "server/broker/vm.h"

#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"
#include "server/broker/memory.h"
#include "server/broker/negotiate.h"
#include "server/broker/page.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096
/* What a shim keeps for a VM, and for a slot beside its tables. */
#define SHIM_VM_RECORD	 256
#define SHIM_SLOT_RECORD 160

static int slot_compare(const struct vm_slot *a, const struct vm_slot *b)
{
	return a->number < b->number ? -1 : a->number > b->number;
}

static int place_compare(const struct vm_slot *a, const struct vm_slot *b)
{
	return a->address < b->address ? -1 : a->address > b->address;
}

TREE_GENERATE(vm_slot_tree, vm_slot, by_number, slot_compare)
TREE_GENERATE(vm_place_tree, vm_slot, by_address, place_compare)

struct vm *vm_find(struct lease *lease, uint64_t id)
{
	struct object *o = lease_object(lease, OBJECT_VM, id);

	return o ? CONTAINER_OF(o, struct vm, object) : NULL;
}

struct vm_slot *vm_slot_first(struct vm *vm)
{
	return RB_MIN(vm_slot_tree, &vm->slots);
}

struct vm_slot *vm_slot_next(struct vm_slot *slot)
{
	return RB_NEXT(vm_slot_tree, &slot->vm->slots, slot);
}

struct vm_slot *vm_slot_not_before(struct vm *vm, uint32_t number)
{
	return RB_NFIND(vm_slot_tree, &vm->slots, &(struct vm_slot){.number = number});
}

/* Of those that begin at or before this address the last; NULL: none. */
static struct vm_slot *slot_before(struct vm *vm, uint64_t address)
{
	struct vm_slot *s;

	s = RB_NFIND(vm_place_tree, &vm->places, &(struct vm_slot){.address = address});
	if (!s)
		return RB_MAX(vm_place_tree, &vm->places);
	return s->address > address ? RB_PREV(vm_place_tree, &vm->places, s) : s;
}

struct vm_slot *vm_slot_at(struct vm *vm, uint64_t address)
{
	struct vm_slot *s = slot_before(vm, address);

	return s && address - s->address < s->length ? s : NULL;
}

static struct vm_slot *slot_find(struct vm *vm, uint32_t number)
{
	return RB_FIND(vm_slot_tree, &vm->slots, &(struct vm_slot){.number = number});
}

/* ---- end ---- */

static void slot_insert(struct vm *vm, struct vm_slot *slot)
{
	slot->vm = vm;
	RB_INSERT(vm_slot_tree, &vm->slots, slot);
	RB_INSERT(vm_place_tree, &vm->places, slot);
	vm->n_slots++;
	vm->slot_bytes += slot->length;
	vm->table_bytes += slot->table_bytes;
}

void vm_slot_free(struct vm *vm, struct vm_slot *slot)
{
	struct memory *memory = slot->memory;

	RB_REMOVE(vm_slot_tree, &vm->slots, slot);
	RB_REMOVE(vm_place_tree, &vm->places, slot);
	vm->n_slots--;
	vm->slot_bytes -= slot->length;
	vm->table_bytes -= slot->table_bytes;
	charge_release(&slot->charge);
	free(slot);
	memory_put(memory);
}

static void vm_settle(struct vm *vm)
{
	if (!vm->n_ioasids)
		LIST_INSERT_HEAD(&vm->object.lease->retiring_vms, vm, retiring);
}

void vm_retire(struct vm *vm)
{
	struct lease *lease = vm->object.lease;

	lease_unpublish(&vm->object);
	vm->freed = true;
	lease->n_pending_vms++;
	/* Else it goes at once, and that is written then. */
	if (vm->n_ioasids)
		journal_vm(lease, vm);
	vm_settle(vm);
}

void vm_put(struct vm *vm)
{
	if (vm->freed)
		vm_settle(vm);
}

/* Never published, or reaped: the shim's part is gone. */
static void vm_free(struct vm *vm)
{
	charge_release(&vm->charge);
	free(vm);
}

static void vm_destroy(struct vm *vm)
{
	struct lease *lease = vm->object.lease;

	LIST_REMOVE(vm, retiring);
	lease_forget(&vm->object);
	journal_drop_vm(lease, vm);
	lease->n_vms--;
	lease->n_pending_vms--;
	vm_free(vm);
}

void vms_reap_retiring(struct lease *lease, unsigned *budget)
{
	struct vm *vm;

	while (*budget && (vm = LIST_FIRST(&lease->retiring_vms))) {
		/* The table first: nothing may reach the memory when its slots let go. */
		if (vm->shim && lease->ctx)
			return;
		vm->shim = NULL;
		while (*budget && vm->n_slots) {
			vm_slot_free(vm, vm_slot_first(vm));
			--*budget;
		}
		if (!*budget)
			return;
		vm_destroy(vm);
		--*budget;
	}
}

void vms_end_tables(struct lease *lease)
{
	struct vm *vm;

	LIST_FOREACH(vm, &lease->retiring_vms, retiring)
	{
		shim_vm_destroy(vm->shim);
		vm->shim = NULL;
	}
}

static bool is_heavy(uint64_t table_bytes)
{
	return table_bytes / PAGE > OP_LIGHT_PAGES;
}

bool vms_are_heavy(const struct lease *lease)
{
	const struct vm *vm;

	LIST_FOREACH(vm, &lease->retiring_vms, retiring)
	{
		if (vm->shim && is_heavy(vm->table_bytes))
			return true;
	}
	return false;
}

/* ---- CreateVm ---- */

struct creation {
	struct vm *vm;
	int result;
	char reason[SHIM_REASON_MAX];
};

static int charge_vm(struct vm *vm, struct tenant *tenant, struct quota_refusal *ret_refusal)
{
	struct quota_amount amounts[] = {
		{QUOTA_VMS, 1},
		{QUOTA_BROKER_BYTES, sizeof(*vm) + SHIM_VM_RECORD},
	};

	return charge_take(&vm->charge, tenant, amounts, 2, ret_refusal);
}

static struct vm *vm_new(struct lease *lease, const char *label)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->object = (struct object){.lease = lease, .type = OBJECT_VM};
	RB_INIT(&vm->slots);
	RB_INIT(&vm->places);
	snprintf(vm->label, sizeof(vm->label), "%s", label);
	return vm;
}

static void create_run(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct creation *c = call->data;
	struct shim_ctx *ctx;

	c->result = lease_context(call->lease, c->reason, &ctx);
	if (!c->result)
		c->result = shim_vm_create(ctx, &c->vm->shim);
}

static void create_complete(struct op *op)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	struct broker_call *call = call_of_op(op);
	Ioasid__V1__CreateVmResponse *p = (void *)call->response;
	Ioasid__Registry__Vm record, *records = &record;
	struct creation *c = call->data;
	struct vm *vm = c->vm;

	if (c->result) {
		vm_free(vm);
		call_end(call, refuse_shim(call, c->result, "create a VM", c->reason));
		return;
	}
	vm->object.id.value = call->lease->next_id;
	p->vm = vm->object.id.value;
	record_vm(&record, vm);
	batch.vms = &records;
	batch.n_vms = 1;
	journal_result(call, &batch);
	call->lease->n_vms++;
	lease_publish(call->lease, &vm->object);
	call->note = scratch_printf(&call->scratch, "vm %llu", (unsigned long long)p->vm);
	call_end(call, OUTCOME_OK);
}

/* Some device of the tenant's must have the kind; and the policy allow it. */
static int check_kvm(struct broker_call *call)
{
	if (call->broker->shim->ops->vm_create)
		return negotiate_kind(call, SHIM_KIND_KVM);
	return refuse(call, OUTCOME_UNIMPLEMENTED, "kind kvm: shim %s has no virtual machines",
		      call->broker->shim->ops->name);
}

int rpc_create_vm(struct broker_call *call)
{
	const Ioasid__V1__CreateVmRequest *q = (const void *)call->request;
	struct creation *c = scratch_calloc(&call->scratch, 1, sizeof(*c));
	struct quota_refusal refusal;
	int r;

	if (!c || !call_response(call))
		return refuse_no_memory(call);
	r = check_kvm(call);
	if (r)
		return r;
	if (strlen(q->label) > LABEL_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "label", "at most %d bytes",
				    LABEL_MAX);
	c->vm = vm_new(call->lease, q->label);
	if (!c->vm)
		return refuse_no_memory(call);
	r = charge_vm(c->vm, call->tenant, &refusal);
	if (r) {
		vm_free(c->vm);
		return refuse_charge(call, r, &refusal);
	}
	call->data = c;
	journal_intent(call);
	r = journal_begin(call, RECORD_VM_BOUND, 11);
	if (r) {
		vm_free(c->vm);
		return r;
	}
	return call_run(call, create_run, create_complete, false);
}

/* ---- SetMemorySlot ---- */

struct slot_change {
	struct vm *vm;
	struct vm_slot *slot; /* as it was, or new; not in the VM yet if it is new */
	uint64_t address;     /* where it is to be; deletes: not looked at */
	uint64_t table_bytes; /* there */
	bool is_new, deletes;
	int result;
};

static void slot_run(struct op *op)
{
	struct slot_change *c = call_of_op(op)->data;
	const struct vm_slot *s = c->slot;

	c->result = shim_vm_set_slot(c->vm->shim, s->number, c->address, c->deletes ? 0 : s->length,
				     s->memory->shim, s->offset,
				     SHIM_READ | (s->read_only ? 0 : SHIM_WRITE));
}

static void slot_write(struct broker_call *call, const struct slot_change *c)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops = &drop;
	Ioasid__Registry__Slot record, *records = &record;

	record_slot(&record, c->vm, c->slot);
	if (c->deletes) {
		drop.slot = &record;
		batch.drops = &drops;
		batch.n_drops = 1;
	} else {
		batch.slots = &records;
		batch.n_slots = 1;
	}
	journal_result(call, &batch);
}

/* A new one never was; one that exists is charged as before. */
static void slot_undo(const struct slot_change *c)
{
	struct vm_slot *s = c->slot;

	if (c->is_new) {
		charge_release(&s->charge);
		free(s);
	} else if (c->table_bytes > s->table_bytes) {
		charge_shrink(&s->charge, QUOTA_BROKER_BYTES, c->table_bytes - s->table_bytes);
	}
}

static void slot_move(struct slot_change *c)
{
	struct vm_slot *s = c->slot;
	struct vm *vm = c->vm;

	RB_REMOVE(vm_place_tree, &vm->places, s);
	s->address = c->address;
	RB_INSERT(vm_place_tree, &vm->places, s);
	if (c->table_bytes < s->table_bytes)
		charge_shrink(&s->charge, QUOTA_BROKER_BYTES, s->table_bytes - c->table_bytes);
	vm->table_bytes += c->table_bytes - s->table_bytes;
	s->table_bytes = c->table_bytes;
}

static int slot_refusal(struct broker_call *call, const struct slot_change *c)
{
	if (c->result == SHIM_E_RANGE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "guest_address",
				    "beyond what the VM's tables can map");
	return refuse_shim(call, c->result, "set a memory slot", NULL);
}

static void slot_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct slot_change *c = call->data;

	if (c->result) {
		slot_undo(c);
		call_end(call, slot_refusal(call, c));
		return;
	}
	if (c->is_new) {
		c->slot->memory->n_mappings++;
		slot_insert(c->vm, c->slot);
	} else if (!c->deletes) {
		slot_move(c);
	}
	slot_write(call, c);
	if (c->deletes)
		vm_slot_free(c->vm, c->slot);
	call_end(call, OUTCOME_OK);
}

/* What the request says by itself. */
static int slot_check(struct broker_call *call, const Ioasid__V1__SetMemorySlotRequest *q)
{
	uint64_t end;

	if (q->slot >= VM_SLOTS_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "slot",
				    "slot numbers are below %d, found %u", VM_SLOTS_MAX, q->slot);
	if (!q->size)
		return OUTCOME_OK;
	if (q->size % PAGE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "size", "must be a multiple of %d",
				    PAGE);
	if (q->guest_address % PAGE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "guest_address",
				    "must be a multiple of %d", PAGE);
	if (q->offset % PAGE)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "offset",
				    "must be a multiple of %d", PAGE);
	if (__builtin_add_overflow(q->guest_address, q->size, &end))
		return refuse_field(call, OUTCOME_INVALID_FIELD, "size",
				    "the slot wraps around the end of the address space");
	return OUTCOME_OK;
}

static int slot_check_memory(struct broker_call *call, const Ioasid__V1__SetMemorySlotRequest *q,
			     const struct memory *m)
{
	uint64_t end;

	if (__builtin_add_overflow(q->offset, q->size, &end) || end > m->length)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "size",
				    "reaches beyond the end of memory %llu (%llu bytes)",
				    (unsigned long long)q->memory, (unsigned long long)m->length);
	if (!(m->prot & SHIM_READ))
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "memory",
					   "a guest's memory can be read, this was registered "
					   "without");
	if (!q->read_only && !(m->prot & SHIM_WRITE))
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "memory",
					   "it was registered without write: the slot must be "
					   "read_only");
	return OUTCOME_OK;
}

/* As KVM does: a slot that exists keeps its memory, its size and whether it is read-only. */
static int slot_check_same(struct broker_call *call, const Ioasid__V1__SetMemorySlotRequest *q,
			   const struct vm_slot *s, const struct memory *m)
{
	const char *field = s->memory != m		   ? "memory"
			    : s->offset != q->offset	   ? "offset"
			    : s->length != q->size	   ? "size"
			    : s->read_only != q->read_only ? "read_only"
							   : NULL;

	return field ? refuse_field(call, OUTCOME_INVALID_FIELD, field,
				    "slot %u exists with another %s: delete it first", q->slot,
				    field)
		     : OUTCOME_OK;
}

static int slot_check_overlap(struct broker_call *call, const Ioasid__V1__SetMemorySlotRequest *q,
			      struct vm *vm)
{
	struct vm_slot *s = slot_before(vm, q->guest_address + (q->size - 1));

	/* Itself left out; of those before it none reaches further. */
	if (s && s->number == q->slot)
		s = RB_PREV(vm_place_tree, &vm->places, s);
	if (!s || s->address + (s->length - 1) < q->guest_address)
		return OUTCOME_OK;
	return refuse_field(call, OUTCOME_OVERLAP, "guest_address",
			    "overlaps slot %u at 0x%llx, 0x%llx bytes", s->number,
			    (unsigned long long)s->address, (unsigned long long)s->length);
}

static struct vm_slot *slot_new(const Ioasid__V1__SetMemorySlotRequest *q, struct memory *m)
{
	struct vm_slot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->number = q->slot;
	s->address = q->guest_address;
	s->length = q->size;
	s->memory = m;
	s->offset = q->offset;
	s->read_only = q->read_only;
	return s;
}

static int charge_slot(struct vm_slot *s, struct tenant *tenant, struct quota_refusal *ret_refusal)
{
	struct quota_amount amount = {
		QUOTA_BROKER_BYTES,
		sizeof(*s) + SHIM_SLOT_RECORD + s->table_bytes,
	};

	return charge_take(&s->charge, tenant, &amount, 1, ret_refusal);
}

/* The slot and its charge where it is to be. */
static int slot_reserve(struct broker_call *call, const Ioasid__V1__SetMemorySlotRequest *q,
			struct memory *m, struct slot_change *c)
{
	struct quota_refusal refusal;
	int r = 0;

	c->table_bytes = shim_vm_slot_bound(c->vm->shim, c->address, q->size, m->shim, q->offset);
	if (c->slot) {
		if (c->table_bytes > c->slot->table_bytes)
			r = charge_grow(&c->slot->charge, QUOTA_BROKER_BYTES,
					c->table_bytes - c->slot->table_bytes, &refusal);
		return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
	}
	c->slot = slot_new(q, m);
	if (!c->slot)
		return refuse_no_memory(call);
	c->is_new = true;
	c->slot->table_bytes = c->table_bytes;
	r = charge_slot(c->slot, c->vm->charge.tenant, &refusal);
	if (r)
		free(c->slot);
	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

static int slot_begin(struct broker_call *call, struct slot_change *c)
{
	Ioasid__Registry__Intent *intent = journal_intent(call);
	uint64_t bytes = c->slot->table_bytes;
	int r = OUTCOME_OK;

	intent->vm = c->vm->object.id.value;
	intent->slot = c->slot->number;
	intent->deletes = c->deletes;
	if (c->deletes)
		r = journal_promise(call);
	if (!r)
		r = journal_begin(call, RECORD_SLOT_BOUND, 0);
	if (r) {
		if (!c->deletes)
			slot_undo(c);
		return r;
	}
	call->note = scratch_printf(&call->scratch, "vm %llu slot %u",
				    (unsigned long long)intent->vm, c->slot->number);
	call->data = c;
	return call_run(call, slot_run, slot_complete, !c->is_new && is_heavy(bytes));
}

int rpc_set_memory_slot(struct broker_call *call)
{
	const Ioasid__V1__SetMemorySlotRequest *q = (const void *)call->request;
	struct slot_change *c = scratch_calloc(&call->scratch, 1, sizeof(*c));
	struct memory *m;
	int r;

	if (!c || !call_response(call))
		return refuse_no_memory(call);
	c->vm = vm_find(call->lease, q->vm);
	if (!c->vm)
		return refuse_id(call, "vm", "VM", q->vm);
	r = slot_check(call, q);
	if (r)
		return r;
	c->slot = slot_find(c->vm, q->slot);
	c->address = q->guest_address;
	if (!q->size) {
		if (!c->slot)
			return refuse(call, OUTCOME_NOT_FOUND, "VM %llu has no slot %u",
				      (unsigned long long)q->vm, q->slot);
		c->deletes = true;
		c->table_bytes = c->slot->table_bytes;
		call->gives_back = true;
		return slot_begin(call, c);
	}
	m = memory_find(call->lease, q->memory);
	if (!m)
		return refuse_id(call, "memory", "memory", q->memory);
	r = slot_check_memory(call, q, m);
	if (!r && c->slot)
		r = slot_check_same(call, q, c->slot, m);
	if (!r)
		r = slot_check_overlap(call, q, c->vm);
	/* Nothing new. */
	if (!r && c->slot && c->slot->address == q->guest_address)
		return OUTCOME_OK;
	if (!r)
		r = slot_reserve(call, q, m, c);
	return r ?: slot_begin(call, c);
}

/* ---- DestroyVm ---- */

int rpc_destroy_vm(struct broker_call *call)
{
	const Ioasid__V1__DestroyVmRequest *q = (const void *)call->request;
	struct vm *vm = vm_find(call->lease, q->vm);
	int r;

	if (!vm)
		return refuse_id(call, "vm", "VM", q->vm);
	if (!call_response(call))
		return refuse_no_memory(call);
	call->note = scratch_printf(&call->scratch, "vm %llu", (unsigned long long)q->vm);
	journal_intent(call)->vm = q->vm;
	r = journal_promise(call);
	if (!r)
		r = journal_begin(call, 0, 0);
	if (r)
		return r;
	vm_retire(vm);
	return ioasids_finish_retiring(call);
}

/* ---- ListVms ---- */

Ioasid__V1__Vm *vm_describe(struct scratch *scratch, const struct vm *vm)
{
	Ioasid__V1__Vm *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__vm__init(d);
	d->vm = vm->object.id.value;
	d->label = (char *)vm->label;
	d->slots = vm->n_slots;
	d->slot_bytes = vm->slot_bytes;
	d->ioasids = vm->n_ioasids;
	return d;
}

int rpc_list_vms(struct broker_call *call)
{
	const Ioasid__V1__ListVmsRequest *q = (const void *)call->request;
	Ioasid__V1__ListVmsResponse *p = call_response(call);
	struct object *o;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->vms = scratch_calloc(&call->scratch, page.size, sizeof(*p->vms));
	if (!p || !p->vms)
		return refuse_no_memory(call);
	while ((o = lease_object_after(call->lease, OBJECT_VM, page.after))) {
		if (p->n_vms == page.size)
			return page_continue(call, &page, &p->next_page_token);
		p->vms[p->n_vms] = vm_describe(&call->scratch, CONTAINER_OF(o, struct vm, object));
		if (!p->vms[p->n_vms])
			return refuse_no_memory(call);
		p->n_vms++;
		page.after = o->id.value;
	}
	return OUTCOME_OK;
}

/* ---- a start ---- */

int vm_restore(struct lease *lease, const Ioasid__Registry__Vm *record, struct vm **ret_vm)
{
	struct vm *vm = vm_new(lease, record->label);
	struct quota_refusal refusal;
	uint64_t next = lease->next_id;
	int r;

	if (!vm)
		return -ENOMEM;
	lease->n_vms++;
	/* Ids come from the registry, and next_id is above them already. */
	lease->next_id = record->id;
	lease_publish(lease, &vm->object);
	lease->next_id = next;
	r = charge_vm(vm, lease->tenant, &refusal);
	if (r)
		return r < 0 ? r : -EOVERFLOW;
	*ret_vm = vm;
	return 0;
}

int vm_slot_restore(struct vm *vm, const Ioasid__Registry__Slot *record, struct memory *memory)
{
	struct vm_slot *s = calloc(1, sizeof(*s));
	struct quota_refusal refusal;
	int r;

	if (!s)
		return -ENOMEM;
	s->number = record->slot;
	s->address = record->guest_address;
	s->length = record->size;
	s->memory = memory;
	s->offset = record->offset;
	s->read_only = record->read_only;
	s->table_bytes =
		shim_vm_slot_bound(vm->shim, s->address, s->length, memory->shim, s->offset);
	memory->n_mappings++;
	slot_insert(vm, s);
	r = charge_slot(s, vm->object.lease->tenant, &refusal);
	if (r)
		return r < 0 ? r : -EOVERFLOW;
	return shim_vm_set_slot(vm->shim, s->number, s->address, s->length, memory->shim, s->offset,
				SHIM_READ | (s->read_only ? 0 : SHIM_WRITE));
}
