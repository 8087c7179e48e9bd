/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables that a tenant writes, nested on a parent.  Their root and every table page are
 * addresses of the parent, and go through it before each read, so wherever their entries
 * point, nothing is reached but what the parent maps.  They lie in the tenant's memory, which
 * it rewrites while they are walked, and may lose pages: entries are read once, as a whole
 * word, under guard.
 *
 * What is bound is one word, pt->root, which DMA reads once a walk: the root, whose low bits
 * are free, with SHIM_TABLE_* and whether anything is bound, or the layout, shape and size of a
 * PASID table (pasidtable.c).  Binding another stores the word, then drops what is cached under
 * ctx->flush for writing.
 */

#include "soft/guard.h"
#include "soft/internal.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>

/* Bits of the word; SOFT_USER_PASIDS is bit 4. */
#define BOUND		   (1ull << 0)
#define FLAGS_SHIFT	   1 /* of a page table */
#define PASID_SHAPE_SHIFT  1 /* of a PASID table, in their place */
#define PASID_SHAPE	   3u
#define PASID_BITS_SHIFT   5
#define PASID_BITS	   31u
#define PASID_FORMAT_SHIFT 10 /* less 1 */
#define PASID_FORMAT	   3u
#define FLAGS		   (SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT | SHIM_TABLE_EXTENDED_ACCESS)

#define REASON(reason, ...)                                                                        \
	do {                                                                                       \
		if (reason)                                                                        \
			snprintf(reason, SHIM_REASON_MAX, __VA_ARGS__);                            \
	} while (0)

/* ---- reading ---- */

static int load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	const struct soft_window *window = memory;
	uint64_t raw;

	if (address % sizeof(raw) || !soft_window_is_memory(window, address, sizeof(raw)) ||
	    !soft_guard_load(soft_window_pointer(window, address), &raw))
		return -EFAULT;
	*ret_entry = le64toh(raw);
	return 0;
}

static int update(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	const struct soft_window *window = memory;
	uint64_t was = htole64(*expected);
	bool swapped;

	if (address % sizeof(was) || !soft_window_is_memory(window, address, sizeof(was)) ||
	    !soft_guard_swap(soft_window_pointer(window, address), &was, htole64(wanted), &swapped))
		return -EFAULT;
	*expected = le64toh(was);
	return !swapped;
}

static enum shim_pasid_format pasid_format(uint64_t word)
{
	return (enum shim_pasid_format)((word >> PASID_FORMAT_SHIFT & PASID_FORMAT) + 1);
}

bool soft_user_pasid_format(const struct soft_pt *pt, enum shim_pasid_format *ret_format)
{
	uint64_t word = __atomic_load_n(&pt->root, __ATOMIC_ACQUIRE);

	if (pt->kind != SHIM_KIND_USER || !(word & SOFT_USER_PASIDS))
		return false;
	*ret_format = pasid_format(word);
	return true;
}

void soft_user_stage(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t who, uint64_t root,
		     struct soft_stage *stage)
{
	stage->empty = !(root & BOUND);
	stage->root = root & ~(SOFT_PAGE_SIZE - 1);
	stage->flags = root >> FLAGS_SHIFT & FLAGS;
	if (root & SOFT_USER_PASIDS) {
		stage->pasids = soft_pasid_format_find(pasid_format(root));
		stage->pasid_shape = root >> PASID_SHAPE_SHIFT & PASID_SHAPE;
		stage->pasid_bits = root >> PASID_BITS_SHIFT & PASID_BITS;
		stage->empty = true;
	}
	stage->tables_in_next = true;
	stage->load = load;
	stage->update = update;
	if (!iommu)
		return;
	stage->structures = &iommu->structures;
	stage->tag = soft_pt_tag(pt);
	stage->who = who;
}

/* ---- binding ---- */

uint64_t soft_user_word(const struct shim_table *table)
{
	return table->root | (uint64_t)table->flags << FLAGS_SHIFT | BOUND;
}

int soft_user_check(const struct soft_pt *pt, const struct soft_pt *parent,
		    const struct shim_table *table, char *ret_reason)
{
	const struct soft_format *format = soft_format_find(pt->format);
	/* The word keeps flags below 4 KiB, whatever the format allows. */
	uint64_t bytes = soft_shape_root_bytes(&pt->shape);

	if (bytes < SOFT_PAGE_SIZE)
		bytes = SOFT_PAGE_SIZE;
	if (table->flags & ~format->table_flags) {
		REASON(ret_reason, "tables of format %s have no flags 0x%x", format->name,
		       table->flags & ~format->table_flags);
		return SHIM_E_UNSUPPORTED;
	}
	if (table->root % bytes) {
		REASON(ret_reason, "the root 0x%llx is not aligned to %llu KiB",
		       (unsigned long long)table->root, (unsigned long long)bytes >> 10);
		return SHIM_E_RANGE;
	}
	if (!soft_pt_range_fits(parent, table->root, bytes)) {
		REASON(ret_reason, "the root 0x%llx is not an address of the parent",
		       (unsigned long long)table->root);
		return SHIM_E_RANGE;
	}
	if ((table->root + bytes - 1) >> pt->output_bits) {
		REASON(ret_reason, "the root 0x%llx is beyond the %u bits that tables lead to",
		       (unsigned long long)table->root, pt->output_bits);
		return SHIM_E_RANGE;
	}
	return 0;
}

/* Puts what is bound in the place of what was; returns when nobody goes by that any more. */
static void rebind(struct soft_pt *pt, uint64_t word)
{
	__atomic_store_n(&pt->root, word, __ATOMIC_RELEASE);
	pthread_rwlock_wrlock(&pt->ctx->flush);
	soft_flush_all(pt);
	__atomic_store_n(&pt->pasid_tag, soft_tag_new(soft_shim_of(pt->base.shim)),
			 __ATOMIC_RELAXED);
	pt->flushes++;
	pthread_rwlock_unlock(&pt->ctx->flush);
}

int soft_pt_bind_table(struct shim_pt *base, const struct shim_table *table, char *ret_reason)
{
	struct soft_pt *pt = soft_pt_of(base);
	int r;

	if (pt->kind != SHIM_KIND_USER) {
		REASON(ret_reason, "only to kind USER can a table be bound");
		return SHIM_E_UNSUPPORTED;
	}
	if (table) {
		r = soft_user_check(pt, pt->parent, table, ret_reason);
		if (r)
			return r;
	}
	rebind(pt, table ? soft_user_word(table) : 0);
	return 0;
}

int soft_pt_bind_pasid_table(struct shim_pt *base, const struct shim_pasid_table *table,
			     char *ret_reason)
{
	struct soft_pt *pt = soft_pt_of(base);
	int r;

	if (pt->kind != SHIM_KIND_USER) {
		REASON(ret_reason, "only to kind USER can a PASID table be bound");
		return SHIM_E_UNSUPPORTED;
	}
	if (table) {
		r = soft_pasid_table_check(pt, table, ret_reason);
		if (r)
			return r;
	}
	rebind(pt, table ? table->root | (uint64_t)table->pasid_bits << PASID_BITS_SHIFT |
				   (uint64_t)(table->format - 1) << PASID_FORMAT_SHIFT |
				   (uint64_t)table->shape << PASID_SHAPE_SHIFT | SOFT_USER_PASIDS |
				   BOUND
			 : 0);
	return 0;
}
