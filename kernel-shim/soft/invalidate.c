/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is cached of a page table, and how it goes.  An IOMMU has three caches: its IOTLB
 * (whole translations, parents' stages included; a device may have one of its own), the
 * paging-structure cache (which entry leads to which table, for what tenants write), and the
 * PASID cache (pasidtable.c).
 *
 * What a tenant changes in its table takes effect only with the command for it: a range with
 * leaf drops translations and leaves the structures; a range without leaf drops both; a
 * PASID's drops that PASID's; a device TLB's only that.  What changes in a parent counts up
 * flushes there, which gives every child a new tag (internal.h).
 *
 * All of it goes under ctx->flush for writing, save the search for a new tag.
 */

#include "soft/vm.h"

#include <errno.h>

static struct soft_shim *shim_of(const struct soft_pt *pt)
{
	return soft_shim_of(pt->base.shim);
}

/* ---- flush ---- */

uint64_t soft_pt_tag(struct soft_pt *pt)
{
	uint64_t seen = 0, tag;

	for (const struct soft_pt *above = pt->parent; above; above = above->parent)
		seen += above->flushes;
	for (const struct soft_pt *at = pt; at; at = at->parent)
		seen += at->vm ? at->vm->flushes : 0;
	if (__atomic_load_n(&pt->parents_seen, __ATOMIC_ACQUIRE) == seen)
		return __atomic_load_n(&pt->tag, __ATOMIC_RELAXED);
	pthread_mutex_lock(&pt->ctx->retag);
	if (pt->parents_seen != seen) {
		__atomic_store_n(&pt->tag, soft_tag_new(shim_of(pt)), __ATOMIC_RELAXED);
		__atomic_store_n(&pt->parents_seen, seen, __ATOMIC_RELEASE);
	}
	tag = pt->tag;
	pthread_mutex_unlock(&pt->ctx->retag);
	return tag;
}

/* Drops translations, which lie in IOTLBs and device TLBs; ctx->flush is held for writing. */
static void drop_translations(struct soft_pt *pt, uint32_t who, uint64_t first, uint64_t last)
{
	struct soft_shim *shim = shim_of(pt);

	for (uint64_t left = pt->iommus; left; left &= left - 1)
		soft_iotlb_drop(&shim->iommus[__builtin_ctzll(left)].iotlb, pt->tag, who, first,
				last);
	for (struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next)
		if (dev->tlb.sets)
			soft_iotlb_drop(&dev->tlb, pt->tag, who, first, last);
}

/* Drops what is known of the way to them. */
static void drop_structures(struct soft_pt *pt, uint32_t who, uint64_t first, uint64_t last)
{
	struct soft_shim *shim = shim_of(pt);

	/* Only what tenants write is kept there. */
	if (pt->kind != SHIM_KIND_USER)
		return;
	for (uint64_t left = pt->iommus; left; left &= left - 1)
		soft_iotlb_drop(&shim->iommus[__builtin_ctzll(left)].structures, pt->tag, who,
				first, last);
}

void soft_flush_translations(struct soft_pt *pt, uint64_t first, uint64_t last)
{
	drop_translations(pt, SOFT_WHO_ALL, first, last);
}

void soft_flush_range(struct soft_pt *pt, uint64_t first, uint64_t last)
{
	drop_translations(pt, SOFT_WHO_ALL, first, last);
	drop_structures(pt, SOFT_WHO_ALL, first, last);
}

void soft_flush_all(struct soft_pt *pt)
{
	__atomic_store_n(&pt->tag, soft_tag_new(shim_of(pt)), __ATOMIC_RELAXED);
}

/* ---- invalidate ---- */

/* A range of the input space, widened to pages. */
static int invalidate_range(const struct soft_pt *pt, const struct shim_invalidate *entry,
			    uint64_t *ret_first, uint64_t *ret_last)
{
	const struct soft_format *format = soft_format_find(pt->format);
	struct soft_shape shape = pt->shape;
	uint64_t first = entry->iova & ~(SOFT_PAGE_SIZE - 1), last;

	if (!entry->length || __builtin_add_overflow(entry->iova, entry->length - 1, &last))
		return SHIM_E_RANGE;
	last |= SOFT_PAGE_SIZE - 1;
	/* The entries of a PASID table choose for themselves; ARM's also which half. */
	if (soft_user_has_pasids(pt)) {
		format = format->input == SOFT_INPUT_CANONICAL ? &soft_format_x86_64_5l : NULL;
		(void)(format &&
		       soft_shape_init(format, &(struct soft_shape_spec){0}, NULL, &shape));
	}
	if (format && (soft_shape_check_input(format, &shape, first) ||
		       soft_shape_check_input(format, &shape, last)))
		return SHIM_E_RANGE;
	*ret_first = first;
	*ret_last = last;
	return 0;
}

static int invalidate_device_tlb(struct soft_pt *pt, const struct shim_invalidate *entry)
{
	const struct soft_dev *only = entry->dev ? soft_dev_of(entry->dev) : NULL;
	uint64_t first = 0, last = UINT64_MAX;
	bool any = false;
	int r;

	if (only && !only->tlb.sets)
		return SHIM_E_UNSUPPORTED;
	if (entry->iova || entry->length) {
		r = invalidate_range(pt, entry, &first, &last);
		if (r)
			return r;
	}
	for (struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next) {
		if (!dev->tlb.sets || (only && dev != only))
			continue;
		any = true;
		soft_iotlb_drop(&dev->tlb, pt->tag, SOFT_WHO_ALL, first, last);
	}
	return any ? 0 : SHIM_E_UNSUPPORTED;
}

static void drop_pasid(struct soft_pt *pt, uint32_t pasid)
{
	drop_translations(pt, soft_who(pasid), 0, UINT64_MAX);
	drop_structures(pt, soft_who(pasid), 0, UINT64_MAX);
}

/*
 * A table attached by PASID to a device whose own table has all PASIDs stands for one entry of
 * that: DMA does not go through it, but the tenant names it in its commands.
 */
static void drop_tracked(const struct soft_pt *pt, uint32_t pasid, uint32_t table_pasid)
{
	for (struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next) {
		struct soft_pt *all = soft_dev_attached(dev, SHIM_NO_PASID);

		if (all && all != pt && soft_user_has_pasids(all) &&
		    soft_dev_attached(dev, pasid) == pt)
			drop_pasid(all, table_pasid);
	}
}

/* Whether what is cached of it is tagged by PASID. */
static bool tags_by_pasid(const struct soft_pt *pt)
{
	enum shim_pasid_format format;

	return !soft_user_pasid_format(pt, &format) || !soft_pasid_format_tags(format);
}

void soft_drop(struct soft_pt *pt, uint32_t who, uint64_t first, uint64_t last, bool leaf)
{
	drop_translations(pt, who, first, last);
	if (!leaf)
		drop_structures(pt, who, first, last);
}

int soft_invalidate_one(struct soft_pt *pt, const struct shim_invalidate *entry)
{
	uint64_t first, last;
	int r;

	switch (entry->scope) {
	case SHIM_INVALIDATE_ALL:
		soft_flush_all(pt);
		pt->flushes++;
		return 0;
	case SHIM_INVALIDATE_RANGE:
		r = invalidate_range(pt, entry, &first, &last);
		if (r)
			return r;
		soft_drop(pt, SOFT_WHO_ALL, first, last, entry->leaf);
		pt->flushes++;
		return 0;
	case SHIM_INVALIDATE_PASID:
		if (entry->pasid >> 20 || entry->table_pasid >> 20)
			return SHIM_E_RANGE;
		/* Nobody told which ASID or PSCID was the PASID's when it was cached. */
		if (tags_by_pasid(pt))
			drop_pasid(pt, entry->pasid);
		else
			soft_drop(pt, SOFT_WHO_ALL, 0, UINT64_MAX, false);
		drop_tracked(pt, entry->pasid, entry->table_pasid);
		return 0;
	case SHIM_INVALIDATE_DEVICE_TLB:
		return invalidate_device_tlb(pt, entry);
	case SHIM_INVALIDATE_PASID_CACHE:
		return soft_pasid_table_forget(pt, entry->pasid);
	}
	return SHIM_E_UNSUPPORTED;
}

int soft_pt_invalidate(struct shim_pt *base, const struct shim_invalidate *entries, size_t n,
		       size_t *ret_done)
{
	struct soft_pt *pt = soft_pt_of(base);
	int r = 0;
	size_t i;

	if (pt->kind == SHIM_KIND_PROCESS) {
		/* The CPU's own tables: nothing of them is cached here. */
		*ret_done = 0;
		return SHIM_E_UNSUPPORTED;
	}
	for (i = 0; i < n && !r; i++) {
		/* One by one, so that DMA gets its turn within a long array. */
		pthread_rwlock_wrlock(&pt->ctx->flush);
		r = soft_invalidate_one(pt, &entries[i]);
		pthread_rwlock_unlock(&pt->ctx->flush);
	}
	*ret_done = r ? i - 1 : i;
	return r;
}
