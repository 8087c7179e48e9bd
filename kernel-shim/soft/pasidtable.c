/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PASID tables that a tenant writes: VT-d's, scalable mode (VT-d spec 3.4.3, 9.5, 9.6).
 *
 *	directory	indexed by PASID 19:6; bit 0 P, 1 FPD, 51:12 address of a table
 *	table		indexed by PASID 5:0; 64 bytes:
 *		qword 0	bit 0 P, 1 FPD, 8:6 PGTT (1 first stage, 3 nested)
 *		qword 2	bit 0 SRE, 3:2 FSPM (0: 4 levels, 1: 5), 4 WPE, 7 EAFE,
 *			63:12 FSPTPTR
 *
 * The directory, the tables, and the page tables that entries lead to are all addresses of
 * the parent, which takes the place of what an entry says of a second stage: SSPTPTR, AW,
 * the domain id and the rest are not looked at.
 *
 * A device whose table without PASID has a PASID table goes by it for every PASID; without
 * one, by entry 0 (RID_PASID).  What is found goes into the IOMMU's PASID cache, and is
 * stale there until SHIM_INVALIDATE_PASID_CACHE; absence is not kept.  A parent's change
 * leaves it: it holds the parent's addresses, and nothing that they led to.
 */

#include "soft/internal.h"

#include <errno.h>
#include <stdio.h>

#define PASID_TABLE_BITS 6

#define DIR_P	     (1ull << 0)
#define DIR_RESERVED (soft_bits(2, 12) | ~((1ull << 52) - 1))

#define ENTRY_BYTES    64
#define ENTRY_P	       (1ull << 0)
#define ENTRY_PGTT(q)  ((q) >> 6 & 7)
#define PGTT_FIRST     1
#define PGTT_NESTED    3
#define ENTRY_SRE      (1ull << 0)
#define ENTRY_FSPM(q)  ((q) >> 2 & 3)
#define ENTRY_WPE      (1ull << 4)
#define ENTRY_EAFE     (1ull << 7)
#define ENTRY_RESERVED soft_bits(8, 12)

/* In the PASID cache, beside the root. */
#define CACHED_VALID (1u << 0)
#define CACHED_5L    (1u << 1)
#define CACHED_FLAGS 2 /* shift of SHIM_TABLE_* */

#define REASON(reason, ...)                                                                        \
	do {                                                                                       \
		if (reason)                                                                        \
			snprintf(reason, SHIM_REASON_MAX, __VA_ARGS__);                            \
	} while (0)

struct lookup {
	const struct soft_stage *stages;
	unsigned int n_stages;
	uint64_t iova;
	struct shim_walk *trace;
	struct shim_fault *fault;
};

static bool fail(const struct lookup *l, enum shim_fault_cause cause, uint64_t entry)
{
	*l->fault = (struct shim_fault){
		.cause = cause,
		.stage = 1,
		.address = l->iova,
		.entry = entry,
	};
	return false;
}

/* A qword at an address of the parent. */
static bool read_qword(const struct lookup *l, uint64_t address, uint64_t *ret_value)
{
	const struct soft_stage *stage = &l->stages[0];
	struct soft_translation where;

	if (!soft_walk_parent(l->stages, l->n_stages, address, SHIM_READ | SOFT_USER, l->trace,
			      &where, l->fault))
		return false;
	if (stage->load(stage->memory, where.output, ret_value))
		return fail(l, SHIM_FAULT_MEMORY_ERROR, 0);
	return true;
}

/* What the entry says, in the form of the PASID cache. */
static bool read_entry(const struct lookup *l, uint32_t pasid, uint64_t *ret_root,
		       uint32_t *ret_bits)
{
	const struct soft_stage *stage = &l->stages[0];
	uint64_t beyond = soft_bits(stage->env.output_bits, 52), dir, first, third, at;

	/* Nothing is attached there. */
	if (pasid >> stage->pasid_bits)
		return fail(l, SHIM_FAULT_NOT_ATTACHED, 0);
	if (!read_qword(l, stage->root + (pasid >> PASID_TABLE_BITS) * sizeof(dir), &dir))
		return false;
	if (!(dir & DIR_P))
		return fail(l, SHIM_FAULT_NOT_ATTACHED, dir);
	if (dir & DIR_RESERVED)
		return fail(l, SHIM_FAULT_RESERVED_BITS, dir);
	if (dir & beyond)
		return fail(l, SHIM_FAULT_OUTPUT_WIDTH, dir);
	at = (dir & soft_bits(12, 52)) + (pasid & ((1u << PASID_TABLE_BITS) - 1)) * ENTRY_BYTES;
	if (!read_qword(l, at, &first))
		return false;
	if (!(first & ENTRY_P))
		return fail(l, SHIM_FAULT_NOT_ATTACHED, first);
	if (ENTRY_PGTT(first) != PGTT_FIRST && ENTRY_PGTT(first) != PGTT_NESTED)
		return fail(l, SHIM_FAULT_BAD_ENTRY, first);
	if (!read_qword(l, at + 2 * sizeof(third), &third))
		return false;
	if (third & ENTRY_RESERVED)
		return fail(l, SHIM_FAULT_RESERVED_BITS, third);
	if (ENTRY_FSPM(third) > 1)
		return fail(l, SHIM_FAULT_BAD_ENTRY, third);
	if (third & (beyond | ~((1ull << 52) - 1)))
		return fail(l, SHIM_FAULT_OUTPUT_WIDTH, third);
	*ret_root = third & soft_bits(12, 52);
	*ret_bits = CACHED_VALID | (ENTRY_FSPM(third) ? CACHED_5L : 0) |
		    ((third & ENTRY_SRE ? SHIM_TABLE_SUPERVISOR : 0) |
		     (third & ENTRY_WPE ? SHIM_TABLE_WRITE_PROTECT : 0) |
		     (third & ENTRY_EAFE ? SHIM_TABLE_EXTENDED_ACCESS : 0))
			    << CACHED_FLAGS;
	return true;
}

bool soft_pasid_table_resolve(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
			      struct soft_stage *stages, unsigned int n_stages, uint64_t iova,
			      struct shim_walk *trace, struct shim_fault *ret_fault)
{
	struct lookup l = {stages, n_stages, iova, trace, ret_fault};
	uint64_t tag = __atomic_load_n(&pt->pasid_tag, __ATOMIC_RELAXED), value = 0, root = 0;
	enum shim_format format;
	uint32_t bits = 0;

	if (iommu &&
	    soft_iotlb_lookup_size(&iommu->pasids, tag, SOFT_WHO_NOBODY,
				   (uint64_t)pasid << SOFT_PAGE_SHIFT, SOFT_IOTLB_4K, &value)) {
		root = soft_iotlb_address(value);
		bits = soft_iotlb_prot(value);
	} else {
		if (!read_entry(&l, pasid, &root, &bits))
			return false;
		if (iommu)
			soft_iotlb_put(&iommu->pasids, tag, SOFT_WHO_NOBODY,
				       (uint64_t)pasid << SOFT_PAGE_SHIFT, SOFT_IOTLB_4K, root,
				       bits);
	}
	format = bits & CACHED_5L ? SHIM_FORMAT_X86_64_5L : SHIM_FORMAT_X86_64_4L;
	if (iommu && !(iommu->desc->formats & 1u << format))
		return fail(&l, SHIM_FAULT_BAD_ENTRY, 0);
	stages[0].format = soft_format_find(format);
	(void)soft_shape_init(stages[0].format, &(struct soft_shape_spec){0}, NULL,
			      &stages[0].shape);
	stages[0].root = root;
	stages[0].flags = bits >> CACHED_FLAGS;
	stages[0].empty = false;
	return true;
}

int soft_pasid_table_check(const struct soft_pt *pt, const struct shim_pasid_table *table,
			   char *ret_reason)
{
	uint64_t bytes = SOFT_PAGE_SIZE;

	if (table->format != SHIM_PASID_VTD || table->shape) {
		REASON(ret_reason, "the software IOMMU reads PASID tables of VT-d only");
		return SHIM_E_UNSUPPORTED;
	}
	if (pt->format != SHIM_FORMAT_X86_64_4L && pt->format != SHIM_FORMAT_X86_64_5L) {
		REASON(ret_reason, "the entries of a PASID table lead to x86-64 tables");
		return SHIM_E_UNSUPPORTED;
	}
	for (const struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next) {
		const struct shim_device_info *info = &dev->slot->desc->info;

		if (soft_dev_attached(dev, SHIM_NO_PASID) == pt && !info->caps.pasid_tables) {
			REASON(ret_reason, "%s: IOMMU %s reads no PASID tables", info->address,
			       info->iommu);
			return SHIM_E_UNSUPPORTED;
		}
	}
	if (!table->pasid_bits || table->pasid_bits > 20) {
		REASON(ret_reason, "PASIDs have 1 to 20 bits, not %u", table->pasid_bits);
		return SHIM_E_RANGE;
	}
	while (bytes < sizeof(uint64_t) << table->pasid_bits >> PASID_TABLE_BITS)
		bytes *= 2;
	if (table->root % SOFT_PAGE_SIZE || !soft_pt_range_fits(pt->parent, table->root, bytes) ||
	    (table->root + bytes - 1) >> pt->output_bits) {
		REASON(ret_reason,
		       "the directory of %llu bytes at 0x%llx is misaligned or outside of the "
		       "parent",
		       (unsigned long long)bytes, (unsigned long long)table->root);
		return SHIM_E_RANGE;
	}
	return 0;
}

int soft_pasid_cache_drop(struct soft_pt *pt, uint32_t pasid)
{
	struct soft_shim *shim = soft_shim_of(pt->base.shim);
	uint64_t at = (uint64_t)pasid << SOFT_PAGE_SHIFT;

	if (!soft_user_has_pasids(pt))
		return SHIM_E_UNSUPPORTED;
	if (pasid == SHIM_NO_PASID) {
		__atomic_store_n(&pt->pasid_tag, soft_tag_new(shim), __ATOMIC_RELAXED);
		return 0;
	}
	if (pasid >> 20)
		return SHIM_E_RANGE;
	for (uint64_t left = pt->iommus; left; left &= left - 1)
		soft_iotlb_drop(&shim->iommus[__builtin_ctzll(left)].pasids, pt->pasid_tag,
				SOFT_WHO_ALL, at, at | (SOFT_PAGE_SIZE - 1));
	return 0;
}
