/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_VM_H
#define IOASID_SOFT_VM_H

/* Virtual machines: see vm.c for what they are and who may call when. */

#include "soft/internal.h"

struct soft_vm_slot {
	uint64_t address;
	uint64_t length;
	uint64_t target; /* physical */
	struct soft_mem *mem;
	uint64_t offset;
	uint32_t number;
	uint32_t prot;
};

struct soft_vm {
	struct shim_vm base;
	struct soft_ctx *ctx;
	struct soft_vm *prev, *next;
	pthread_mutex_t fill;	    /* slots, and who builds tables; inside of ctx->flush */
	struct soft_vm_slot *slots; /* by address */
	size_t n_slots, room;
	uint64_t root; /* of 5 levels; 0: none yet; atomic */
	uint32_t n_tables;
	uint32_t n_pts;
	/*
	 * Times that something was taken away.  Every table of the VM counts it among its
	 * ancestors' (struct soft_pt), so that one store drops what all of them have cached.
	 */
	uint64_t flushes; /* written under ctx->flush for writing */
};

static inline struct soft_vm *soft_vm_of(struct shim_vm *vm)
{
	return (struct soft_vm *)vm;
}

int soft_vm_create(struct shim_ctx *ctx, struct shim_vm **ret_vm);
void soft_vm_destroy(struct shim_vm *vm);
int soft_vm_set_slot(struct shim_vm *vm, uint32_t slot, uint64_t address, uint64_t length,
		     struct shim_mem *mem, uint64_t offset, uint32_t prot);
uint64_t soft_vm_slot_bound(struct shim_vm *vm, uint64_t address, uint64_t length,
			    struct shim_mem *mem, uint64_t offset);

/* Whether a table of the VM can have this format: EPT. */
bool soft_vm_has_format(enum shim_format format);
/* The root for that format; 0: nothing is there yet.  ctx->flush is held, or no call runs. */
uint64_t soft_vm_root(const struct soft_vm *vm, enum shim_format format);
/*
 * A walk through pt ended with this fault: was it that a VM had not filled an entry yet, and
 * is it there now?  Then the walk is to be done again, if *tries (0 at first) allows it.
 */
bool soft_vm_filled(struct soft_pt *pt, const struct shim_fault *fault, unsigned int *tries);

#endif
