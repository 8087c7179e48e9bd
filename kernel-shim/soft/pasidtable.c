/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PASID tables that a tenant writes, whatever their layout (pasidtable.h): checked when they are
 * bound, looked into when a device asks, and cached.
 *
 * The tables, and the page tables that entries lead to, are all addresses of the parent, which
 * takes the place of what an entry might say of a second stage.
 *
 * A device whose table without PASID has a PASID table goes by it for every PASID; without
 * one, by entry 0 (RID_PASID).  What is found goes into the IOMMU's PASID cache, and is
 * stale there until SHIM_INVALIDATE_PASID_CACHE; absence is not kept.  A parent's change
 * leaves it: it holds the parent's addresses, and nothing that they led to.
 */

#include "soft/pasidtable.h"

#include <errno.h>
#include <stdio.h>

#define REASON(reason, ...)                                                                        \
	do {                                                                                       \
		if (reason)                                                                        \
			snprintf(reason, SHIM_REASON_MAX, __VA_ARGS__);                            \
	} while (0)

const struct soft_pasid_format *soft_pasid_format_find(enum shim_pasid_format id)
{
	static const struct soft_pasid_format *const formats[] = {&soft_pasid_vtd, &soft_pasid_gcr3,
								  &soft_pasid_cd, &soft_pasid_pdt};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (formats[i]->id == id)
			return formats[i];
	return NULL;
}

bool soft_pasid_format_tags(enum shim_pasid_format id)
{
	return soft_pasid_format_find(id)->space_id;
}

/* ---- looking ---- */

bool soft_pasid_fail(const struct soft_pasid_lookup *l, enum shim_fault_cause cause, uint64_t entry)
{
	*l->fault = (struct shim_fault){
		.cause = cause,
		.stage = 1,
		.address = l->iova,
		.entry = entry,
	};
	return false;
}

bool soft_pasid_read(const struct soft_pasid_lookup *l, uint64_t address, uint64_t *ret_value)
{
	const struct soft_stage *stage = &l->stages[0];
	struct soft_translation where;

	if (!soft_walk_parent(l->stages, l->n_stages, address, SHIM_READ | SOFT_USER, l->trace,
			      &where, l->fault))
		return false;
	if (stage->load(stage->memory, where.output, ret_value))
		return soft_pasid_fail(l, SHIM_FAULT_MEMORY_ERROR, 0);
	return true;
}

bool soft_pasid_address(const struct soft_pasid_lookup *l, uint64_t entry, uint64_t mask,
			uint64_t *ret_address)
{
	if (entry & mask & soft_bits(l->stages[0].env.output_bits, 64))
		return soft_pasid_fail(l, SHIM_FAULT_OUTPUT_WIDTH, entry);
	*ret_address = entry & mask;
	return true;
}

/* The entry of a PASID, from the cache or from the table. */
static bool find(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
		 const struct soft_pasid_lookup *l, struct soft_pasid_entry *ret_entry)
{
	const struct soft_stage *stage = &l->stages[0];
	uint64_t tag = __atomic_load_n(&pt->pasid_tag, __ATOMIC_RELAXED);

	if (iommu && soft_pasid_cache_lookup(&iommu->pasids, tag, pasid, ret_entry))
		return true;
	/* Nothing is attached there. */
	if (pasid >> stage->pasid_bits)
		return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, 0);
	if (!stage->pasids->find(l, pasid, ret_entry))
		return false;
	if (iommu)
		soft_pasid_cache_put(&iommu->pasids, tag, pasid, ret_entry);
	return true;
}

bool soft_pasid_table_who(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
			  uint64_t iova, uint32_t *ret_who, struct shim_fault *ret_fault)
{
	struct soft_stage stages[SOFT_STAGES_MAX];
	struct soft_pasid_lookup l = {
		.stages = stages,
		.iova = iova,
		.fault = ret_fault,
	};
	struct soft_pasid_entry entry;
	enum shim_pasid_format id;

	/* It may have been unbound meanwhile. */
	if (!soft_user_pasid_format(pt, &id) || !soft_pasid_format_tags(id)) {
		*ret_who = soft_who(pasid);
		return true;
	}
	l.n_stages = soft_pt_stages(pt, iommu, soft_who(pasid), stages);
	if (!stages[0].pasids || !stages[0].pasids->space_id)
		return soft_pasid_fail(&l, SHIM_FAULT_NOT_ATTACHED, 0);
	if (!find(pt, iommu, pasid, &l, &entry))
		return false;
	*ret_who = soft_who(stages[0].pasids->space_id(&entry));
	return true;
}

bool soft_pasid_table_resolve(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
			      struct soft_stage *stages, unsigned int n_stages, uint64_t iova,
			      struct shim_walk *trace, struct shim_fault *ret_fault)
{
	struct soft_pasid_lookup l = {stages, n_stages, iova, trace, ret_fault};
	struct soft_stage *stage = &stages[0];
	struct soft_pasid_entry entry;
	enum shim_fault_cause cause;

	if (!find(pt, iommu, pasid, &l, &entry))
		return false;
	cause = stage->pasids->apply(&entry, pt->format, iova, stage);
	if (cause != SHIM_FAULT_NONE)
		return soft_pasid_fail(&l, cause, entry.words[0]);
	stage->empty = false;
	if (stage->identity)
		return true;
	if (iommu && !(iommu->desc->formats & 1u << stage->format->id))
		return soft_pasid_fail(&l, SHIM_FAULT_BAD_ENTRY, entry.words[0]);
	/* What is cached is named by address, and a range is dropped by one of its names only. */
	if (!soft_shape_is_plain(&stage->shape, iova))
		stage->structures = NULL;
	return true;
}

/* ---- binding ---- */

int soft_pasid_table_check(const struct soft_pt *pt, const struct shim_pasid_table *table,
			   char *ret_reason)
{
	const struct soft_pasid_format *format = soft_pasid_format_find(table->format);
	char reason[SHIM_REASON_MAX] = "";
	uint64_t bytes;

	if (!format || !(soft_shim_of(pt->base.shim)->pasid_tables & 1u << table->format)) {
		REASON(ret_reason, "no IOMMU of this host reads PASID tables of format %d",
		       (int)table->format);
		return SHIM_E_UNSUPPORTED;
	}
	if (!format->suits(pt->format, reason)) {
		REASON(ret_reason, "%s", reason);
		return SHIM_E_UNSUPPORTED;
	}
	for (const struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next) {
		const struct shim_device_info *info = &dev->slot->desc->info;

		if (soft_dev_attached(dev, SHIM_NO_PASID) == pt &&
		    !(info->caps.pasid_tables & 1u << table->format)) {
			REASON(ret_reason, "%s: IOMMU %s reads no PASID tables of this format",
			       info->address, info->iommu);
			return SHIM_E_UNSUPPORTED;
		}
	}
	if (!table->pasid_bits || table->pasid_bits > 20) {
		REASON(ret_reason, "PASIDs have 1 to 20 bits, not %u", table->pasid_bits);
		return SHIM_E_RANGE;
	}
	bytes = format->root_bytes(table, reason);
	if (!bytes) {
		REASON(ret_reason, "%s", reason);
		return SHIM_E_UNSUPPORTED;
	}
	if (bytes < SOFT_PAGE_SIZE)
		bytes = SOFT_PAGE_SIZE;
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

/* ---- the cache ---- */

int soft_pasid_table_forget(struct soft_pt *pt, uint32_t pasid)
{
	struct soft_shim *shim = soft_shim_of(pt->base.shim);

	if (!soft_user_has_pasids(pt))
		return SHIM_E_UNSUPPORTED;
	if (pasid == SHIM_NO_PASID) {
		__atomic_store_n(&pt->pasid_tag, soft_tag_new(shim), __ATOMIC_RELAXED);
		return 0;
	}
	if (pasid >> 20)
		return SHIM_E_RANGE;
	for (uint64_t left = pt->iommus; left; left &= left - 1)
		soft_pasid_cache_drop(&shim->iommus[__builtin_ctzll(left)].pasids, pt->pasid_tag,
				      pasid);
	return 0;
}
