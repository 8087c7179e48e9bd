/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Kind KVM: the second-level table of a virtual machine, used and not copied.
 *
 * Owns the VM's slots (KVM_SET_USER_MEMORY_REGION's rules) and its one EPT.  The tables that
 * devices are attached to (struct soft_pt with a vm) have none of their own: all of them walk
 * this one, those of four levels from the table below its first 5-level entry.
 *
 * The EPT is filled as KVM fills it: a walk that meets an absent entry runs soft_vm_filled(),
 * which finds the slot and writes one entry, of 2 MiB where slot and memory are aligned alike
 * and the slot has all of it, else of 4 KiB.  What no slot has stays absent: that is the
 * device's fault, and no page request.  Nothing is pinned, nothing is read ahead.
 *
 * Invariants: an entry is there only while its slot is, and lies in one slot whole.  A change
 * of a slot goes: slots and entries under vm->fill; then, under ctx->flush for writing,
 * vm->flushes, after which no IOTLB entry of the VM's tables or of their children counts any
 * more; then the empty tables go back.  A walk that fills holds ctx->flush for reading, so it
 * is over before that, and what it wrote is taken out or belongs to a slot that stays.
 *
 * Threads: slots change on the context's thread; entries are filled by any that does DMA.
 */

#include "soft/vm.h"

#include "soft/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LARGE	    (1ull << 21)
#define ADDRESS_MAX (1ull << 57)
/* A walk of four stages reads no more entries than that, and each could be one to fill. */
#define TRIES_MAX 512

bool soft_vm_has_format(enum shim_format format)
{
	return format == SHIM_FORMAT_EPT_4L || format == SHIM_FORMAT_EPT_5L;
}

static struct soft_shim *shim_of(const struct soft_vm *vm)
{
	return soft_shim_of(vm->base.shim);
}

static const struct soft_shape ept_5l_shape = {.levels = 5, .input_bits = 57, .root_bits = 9};

static struct soft_builder builder_of(struct soft_vm *vm)
{
	return (struct soft_builder){
		.tables = &shim_of(vm)->tables,
		.format = &soft_format_ept_5l,
		.shape = &ept_5l_shape,
		.root = &vm->root,
		.n_tables = &vm->n_tables,
	};
}

int soft_vm_create(struct shim_ctx *base, struct shim_vm **ret_vm)
{
	struct soft_ctx *ctx = soft_ctx_of(base);
	struct soft_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->base.shim = base->shim;
	vm->ctx = ctx;
	pthread_mutex_init(&vm->fill, NULL);
	SHIM_LIST_ADD(ctx->vms, vm);
	*ret_vm = &vm->base;
	return 0;
}

void soft_vm_destroy(struct shim_vm *base)
{
	struct soft_table_list dead = {0};
	struct soft_builder builder;
	struct soft_vm *vm;

	/* With tables: against the contract; they must not dangle. */
	if (!base || soft_vm_of(base)->n_pts)
		return;
	vm = soft_vm_of(base);
	builder = builder_of(vm);
	soft_build_clear(&builder, &dead);
	soft_tables_put(&shim_of(vm)->tables, &dead);
	SHIM_LIST_REMOVE(vm->ctx->vms, vm);
	pthread_mutex_destroy(&vm->fill);
	free(vm->slots);
	free(vm);
}

uint64_t soft_vm_root(const struct soft_vm *vm, enum shim_format format)
{
	uint64_t root = __atomic_load_n(&vm->root, __ATOMIC_ACQUIRE);
	struct soft_entry entry;

	if (!root || format == SHIM_FORMAT_EPT_5L)
		return root;
	soft_format_ept_5l.decode(
		&(struct soft_env){.output_bits = 52}, 5,
		__atomic_load_n(soft_table_entries(&shim_of(vm)->tables, root), __ATOMIC_ACQUIRE),
		&entry);
	return entry.address;
}

/* ---- slots ---- */

/* The first that ends after this address. */
static size_t slot_after(const struct soft_vm *vm, uint64_t address)
{
	size_t low = 0, high = vm->n_slots;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct soft_vm_slot *slot = &vm->slots[middle];

		if (slot->address + (slot->length - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct soft_vm_slot *slot_find(const struct soft_vm *vm, uint32_t number)
{
	for (size_t i = 0; i < vm->n_slots; i++)
		if (vm->slots[i].number == number)
			return &vm->slots[i];
	return NULL;
}

static bool overlaps(const struct soft_vm *vm, const struct soft_vm_slot *slot)
{
	for (size_t i = slot_after(vm, slot->address); i < vm->n_slots; i++) {
		if (vm->slots[i].address > slot->address + (slot->length - 1))
			return false;
		if (vm->slots[i].number != slot->number)
			return true;
	}
	return false;
}

static int make_room(struct soft_vm *vm)
{
	size_t room = vm->room ? 2 * vm->room : 8;
	struct soft_vm_slot *slots;

	if (vm->n_slots < vm->room)
		return 0;
	slots = reallocarray(NULL, room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	if (vm->n_slots)
		memcpy(slots, vm->slots, vm->n_slots * sizeof(*slots));
	pthread_mutex_lock(&vm->fill);
	free(vm->slots);
	vm->slots = slots;
	vm->room = room;
	pthread_mutex_unlock(&vm->fill);
	return 0;
}

/* vm->fill is held. */
static void insert(struct soft_vm *vm, const struct soft_vm_slot *slot)
{
	size_t i = slot_after(vm, slot->address);

	memmove(&vm->slots[i + 1], &vm->slots[i], (vm->n_slots - i) * sizeof(*slot));
	vm->slots[i] = *slot;
	vm->n_slots++;
}

/* vm->fill is held.  The slot and its entries. */
static void take_out(struct soft_vm *vm, struct soft_vm_slot *slot, struct soft_table_list *dead)
{
	struct soft_builder builder = builder_of(vm);
	size_t i = (size_t)(slot - vm->slots);

	soft_build_unmap(&builder, slot->address, slot->length, dead);
	vm->n_slots--;
	memmove(slot, slot + 1, (vm->n_slots - i) * sizeof(*slot));
}

/* Takes `old` out and puts `slot` (NULL: nothing) in its place. */
static void change(struct soft_vm *vm, struct soft_vm_slot *old, const struct soft_vm_slot *slot)
{
	struct soft_table_list dead = {0};

	pthread_mutex_lock(&vm->fill);
	take_out(vm, old, &dead);
	if (slot)
		insert(vm, slot);
	pthread_mutex_unlock(&vm->fill);
	pthread_rwlock_wrlock(&vm->ctx->flush);
	vm->flushes++;
	pthread_rwlock_unlock(&vm->ctx->flush);
	soft_tables_put(&shim_of(vm)->tables, &dead);
}

static int check_slot(const struct soft_vm *vm, const struct soft_vm_slot *slot)
{
	uint64_t end;

	if (slot->mem->ctx != vm->ctx)
		return -EINVAL;
	if ((slot->address | slot->length | slot->offset) % SOFT_PAGE_SIZE ||
	    __builtin_add_overflow(slot->address, slot->length, &end) || end > ADDRESS_MAX ||
	    __builtin_add_overflow(slot->offset, slot->length, &end) ||
	    end > slot->mem->piece.length)
		return SHIM_E_RANGE;
	/* A slot that cannot be read is none of KVM's. */
	if (!(slot->prot & SHIM_READ) || slot->prot & ~(SHIM_READ | SHIM_WRITE))
		return -EINVAL;
	return slot->prot & ~slot->mem->prot ? -EACCES : 0;
}

int soft_vm_set_slot(struct shim_vm *base, uint32_t number, uint64_t address, uint64_t length,
		     struct shim_mem *mem, uint64_t offset, uint32_t prot)
{
	struct soft_vm *vm = soft_vm_of(base);
	struct soft_vm_slot *old = slot_find(vm, number);
	struct soft_vm_slot slot = {
		.address = address,
		.length = length,
		.offset = offset,
		.number = number,
		.prot = prot,
	};
	int r;

	if (!length) {
		if (!old)
			return SHIM_E_NO_MAPPING;
		change(vm, old, NULL);
		return 0;
	}
	if (!mem)
		return -EINVAL;
	slot.mem = soft_mem_of(mem);
	r = check_slot(vm, &slot);
	if (r)
		return r;
	slot.target = slot.mem->piece.start + offset;
	if (overlaps(vm, &slot))
		return SHIM_E_OVERLAP;
	if (old && (old->mem != slot.mem || old->offset != offset || old->length != length))
		return -EINVAL;
	if (old) {
		change(vm, old, &slot);
		return 0;
	}
	r = make_room(vm);
	if (r)
		return r;
	/* That nothing was there is cached nowhere. */
	pthread_mutex_lock(&vm->fill);
	insert(vm, &slot);
	pthread_mutex_unlock(&vm->fill);
	return 0;
}

uint64_t soft_vm_slot_bound(struct shim_vm *base, uint64_t address, uint64_t length,
			    struct shim_mem *mem, uint64_t offset)
{
	uint64_t last = address + length - 1, pages = 1; /* the root */
	uint64_t target = soft_mem_of(mem)->piece.start + offset;

	(void)base;
	for (unsigned int level = 3; level <= 5; level++) {
		unsigned int shift = soft_format_shift(&soft_format_ept_5l, level);

		pages += (last >> shift) - (address >> shift) + 1;
	}
	if ((address ^ target) % LARGE)
		pages += last / LARGE - address / LARGE + 1;
	else
		pages += 2; /* before the first large page, and after the last */
	return pages * SOFT_PAGE_SIZE;
}

/* ---- filling ---- */

/* vm->fill is held. */
static bool fill(struct soft_vm *vm, const struct soft_vm_slot *slot, uint64_t address)
{
	struct soft_builder builder = builder_of(vm);
	uint64_t delta = slot->target - slot->address, size = LARGE, at = address & ~(LARGE - 1);
	uint64_t done;
	int r;

	if (delta % LARGE || at < slot->address ||
	    at + (LARGE - 1) > slot->address + (slot->length - 1)) {
		size = SOFT_PAGE_SIZE;
		at = address & ~(SOFT_PAGE_SIZE - 1);
	}
	/* EPT has execute, memory has no say in it: as KVM, what can be read can be executed. */
	r = soft_build_map(&builder, at, size, at + delta, slot->prot | SHIM_EXEC, &done);
	/* Another walk was first. */
	return !r || r == SHIM_E_OVERLAP;
}

bool soft_vm_filled(struct soft_pt *pt, const struct shim_fault *fault, unsigned int *tries)
{
	bool filled = false;
	struct soft_vm *vm;
	size_t i;

	if (fault->cause != SHIM_FAULT_NOT_PRESENT && fault->cause != SHIM_FAULT_PARENT_NOT_PRESENT)
		return false;
	for (unsigned int stage = 1; stage < fault->stage && pt; stage++)
		pt = pt->parent;
	if (!pt || !pt->vm || ++*tries > TRIES_MAX)
		return false;
	vm = pt->vm;
	pthread_mutex_lock(&vm->fill);
	i = slot_after(vm, fault->address);
	if (i < vm->n_slots && vm->slots[i].address <= fault->address)
		filled = fill(vm, &vm->slots[i], fault->address);
	pthread_mutex_unlock(&vm->fill);
	return filled;
}
