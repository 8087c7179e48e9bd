/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DMA of a simulated device, on any thread.  It goes in chunks; for each, ctx->flush is
 * held for reading from the look-up of the attachment until the last byte is copied, which
 * is what those who take translations away wait for.
 */

#include "soft/guard.h"
#include "soft/vm.h"

#include <errno.h>
#include <string.h>

/* What stands for a device without PASID in a PASID table (VT-d: RID_PASID). */
#define RID_PASID 0u

struct access {
	struct soft_dev *dev;
	struct soft_pt *pt;
	/* How its translations are cached. */
	uint64_t tag;
	uint32_t who;
	uint32_t pasid;	 /* the entry of a PASID table */
	bool odd;	 /* the address has another name in the caches: it stays out of them */
	uint32_t access; /* SHIM_READ or SHIM_WRITE */
	uint64_t iova;
	uint8_t *buf;
	size_t len, done;
	bool process; /* the access is the process's to make */
	struct shim_fault fault;
};

static bool fail(struct access *a, enum shim_fault_cause cause, uint64_t address)
{
	a->fault = (struct shim_fault){.cause = cause, .access = a->access, .address = address};
	return false;
}

/*
 * Which table the access goes by, and for which PASID there: one without PASID that has a
 * PASID table stands for all PASIDs of the device.  NULL: none.
 */
static struct soft_pt *find_table(const struct soft_dev *dev, uint32_t *pasid)
{
	struct soft_pt *all = soft_dev_attached(dev, SHIM_NO_PASID);

	if (all && soft_user_has_pasids(all)) {
		if (*pasid == SHIM_NO_PASID)
			*pasid = RID_PASID;
		return all;
	}
	return *pasid == SHIM_NO_PASID ? all : soft_dev_attached(dev, *pasid);
}

/* Cuts *last down to what lies before the next reserved range; false: inside of one. */
static bool outside_reserved(const struct soft_dev *dev, uint64_t iova, uint64_t *last)
{
	const struct shim_caps *caps = &dev->slot->desc->info.caps;

	for (size_t i = 0; i < caps->n_reserved; i++) {
		const struct shim_range *range = &caps->reserved[i];

		if (iova >= range->start && iova <= range->last)
			return false;
		if (iova < range->start && *last >= range->start)
			*last = range->start - 1;
	}
	return true;
}

/* By the tables; what is found is cached. */
static bool walk(struct access *a, uint64_t iova, struct soft_translation *ret)
{
	struct soft_iommu *iommu = a->dev->slot->iommu;
	struct soft_stage stages[SOFT_STAGES_MAX];
	unsigned int tries = 0;

	for (;;) {
		unsigned int n = soft_pt_stages(a->pt, iommu, a->who, stages);
		bool found = !stages[0].pasids ||
			     soft_pasid_table_resolve(a->pt, iommu, a->pasid, stages, n, iova, NULL,
						      &a->fault);

		a->odd = !soft_shape_is_plain(&stages[0].shape, iova);

		if (found &&
		    soft_walk(stages, n, iova, a->access | SOFT_USER, NULL, ret, &a->fault))
			break;
		if (!soft_vm_filled(a->pt, &a->fault, &tries)) {
			if (!found)
				a->fault.access = a->access;
			return false;
		}
		a->fault = (struct shim_fault){0};
	}
	if (!a->odd)
		soft_iotlb_insert(&iommu->iotlb, a->tag, a->who, iova, ret->output, ret->page_size,
				  ret->cached);
	return true;
}

static bool lookup(const struct access *a, const struct soft_iotlb *iotlb, uint64_t iova,
		   struct soft_translation *ret)
{
	/* An entry that does not allow the access is a miss: the walk tells why. */
	if (!soft_iotlb_lookup(iotlb, a->tag, a->who, iova, &ret->output, &ret->page_size,
			       &ret->cached))
		return false;
	return !(a->access & ~ret->cached);
}

/* The device's own TLB, the IOMMU's, the tables. */
static bool translate(struct access *a, uint64_t iova, struct soft_translation *ret)
{
	struct soft_iotlb *own = &a->dev->tlb;

	if (own->sets && lookup(a, own, iova, ret))
		return true;
	if (!lookup(a, &a->dev->slot->iommu->iotlb, iova, ret) && !walk(a, iova, ret))
		return false;
	if (own->sets && !a->odd)
		soft_iotlb_insert(own, a->tag, a->who, iova, ret->output, ret->page_size,
				  ret->cached);
	return true;
}

/* One stretch of physical memory; *ret_moved whole pages on failure. */
static bool copy(const struct access *a, uint64_t physical, uint8_t *buf, size_t length,
		 size_t *ret_moved)
{
	const struct soft_window *window = &soft_shim_of(a->dev->base.shim)->window;
	uint8_t *memory = soft_window_pointer(window, physical);
	bool write = a->access == SHIM_WRITE;

	*ret_moved = 0;
	if (!soft_window_is_memory(window, physical, length))
		return false;
	if (soft_guard_copy(write ? memory : buf, write ? buf : memory, length)) {
		*ret_moved = length;
		return true;
	}
	/* Again by pages, to know which one is missing. */
	while (*ret_moved < length) {
		size_t n = SOFT_PAGE_SIZE - (physical + *ret_moved) % SOFT_PAGE_SIZE;

		if (n > length - *ret_moved)
			n = length - *ret_moved;
		if (!soft_guard_copy(write ? memory + *ret_moved : buf + *ret_moved,
				     write ? buf + *ret_moved : memory + *ret_moved, n))
			return false;
		*ret_moved += n;
	}
	return true;
}

/* The PASID's entry may say by what its translations are cached. */
static bool find_space(struct access *a)
{
	unsigned int tries = 0;

	while (!soft_pasid_table_who(a->pt, a->dev->slot->iommu, a->pasid, a->iova + a->done,
				     &a->who, &a->fault)) {
		if (!soft_vm_filled(a->pt, &a->fault, &tries)) {
			a->fault.access = a->access;
			return false;
		}
		a->fault = (struct shim_fault){0};
	}
	return true;
}

/* At most SOFT_DMA_CHUNK bytes; ctx->flush is held for reading. */
static bool run_chunk(struct access *a, uint32_t pasid)
{
	size_t left = a->len - a->done;

	if (left > SOFT_DMA_CHUNK)
		left = SOFT_DMA_CHUNK;
	a->pt = find_table(a->dev, &pasid);
	if (!a->pt)
		return fail(a, SHIM_FAULT_NOT_ATTACHED, a->iova + a->done);
	a->process = a->pt->kind == SHIM_KIND_PROCESS;
	if (a->process)
		return false;
	a->tag = soft_pt_tag(a->pt);
	a->who = soft_who(pasid);
	a->pasid = pasid == SHIM_NO_PASID ? RID_PASID : pasid;
	a->odd = false;
	if (soft_user_has_pasids(a->pt) && !find_space(a))
		return false;
	while (left) {
		uint64_t at = a->iova + a->done, last = UINT64_MAX;
		struct soft_translation where;
		size_t n = left, moved;
		bool copied;

		if (at < a->iova)
			return fail(a, SHIM_FAULT_ADDRESS_WIDTH, at);
		if (!outside_reserved(a->dev, at, &last))
			return fail(a, SHIM_FAULT_RESERVED_RANGE, at);
		if (!translate(a, at, &where))
			return false;
		if (last > (at | (where.page_size - 1)))
			last = at | (where.page_size - 1);
		if (n - 1 > last - at)
			n = (size_t)(last - at) + 1;
		copied = copy(a, where.output, a->buf + a->done, n, &moved);
		a->done += moved;
		left -= moved;
		if (!copied)
			return fail(a, SHIM_FAULT_MEMORY_ERROR, at + moved);
	}
	return true;
}

/* Whether another entry would let the access go on, and the device waits for one. */
static bool is_recoverable(const struct access *a)
{
	if (!a->pt || !a->pt->faults || !a->dev->slot->desc->info.caps.recoverable_faults)
		return false;
	switch (a->fault.cause) {
	case SHIM_FAULT_NOT_PRESENT:
	case SHIM_FAULT_PERMISSION:
	case SHIM_FAULT_PARENT_NOT_PRESENT:
	case SHIM_FAULT_PARENT_PERMISSION:
		return true;
	default:
		return false;
	}
}

int soft_dma(struct shim_dev *base, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
	     size_t len, size_t *ret_done, struct shim_fault *ret_fault)
{
	struct access a = {
		.dev = soft_dev_of(base),
		.access = access,
		.iova = iova,
		.buf = buf,
		.len = len,
	};
	pthread_rwlock_t *flush = &a.dev->ctx->flush;
	bool ok = true;

	if (access != SHIM_READ && access != SHIM_WRITE)
		return -EINVAL;
	while (ok && a.done < len) {
		pthread_rwlock_rdlock(flush);
		ok = run_chunk(&a, pasid);
		a.fault.recoverable = !ok && is_recoverable(&a);
		pthread_rwlock_unlock(flush);
	}
	if (a.process)
		return SHIM_E_PROCESS;
	*ret_done = a.done;
	*ret_fault = a.fault;
	return 0;
}
