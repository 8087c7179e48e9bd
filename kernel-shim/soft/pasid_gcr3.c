/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GCR3 tables of AMD (AMD IOMMU spec 2.2.6): one to three levels of 512 entries, by DTE.GLX, which
 * is the table's shape (0 to 2).
 *
 *	level 3	indexed by PASID 19:18 (20 bits in all), level 2 by 17:9, level 1 by 8:0
 *	entry	bit 0 V, 51:12 address of the next table; in level 1, of the root that is the
 *		process's CR3.  Bits 11:1 and 63:52 are reserved.
 *
 * How many levels the page tables have, the DTE says (guest paging mode), for all PASIDs alike:
 * here the IOASID's format.
 */

#include "soft/pasidtable.h"

#include <stdio.h>

#define LEVEL_BITS 9
#define GLX_MAX	   2

#define ENTRY_V	       (1ull << 0)
#define ENTRY_ADDRESS  soft_bits(12, 52)
#define ENTRY_RESERVED (soft_bits(1, 12) | soft_bits(52, 64))

static bool suits(enum shim_format format, char *ret_reason)
{
	if (format == SHIM_FORMAT_X86_64_4L || format == SHIM_FORMAT_X86_64_5L)
		return true;
	snprintf(ret_reason, SHIM_REASON_MAX, "the entries of a GCR3 table lead to x86-64 tables");
	return false;
}

static uint64_t root_bytes(const struct shim_pasid_table *table, char *ret_reason)
{
	if (table->shape > GLX_MAX) {
		snprintf(ret_reason, SHIM_REASON_MAX, "GLX, the shape of a GCR3 table, is 0 to 2");
		return 0;
	}
	if (table->pasid_bits > LEVEL_BITS * (table->shape + 1)) {
		snprintf(ret_reason, SHIM_REASON_MAX,
			 "a GCR3 table with GLX %u has PASIDs of %u bits at most", table->shape,
			 LEVEL_BITS * (table->shape + 1));
		return 0;
	}
	return SOFT_PAGE_SIZE;
}

static bool find(const struct soft_pasid_lookup *l, uint32_t pasid,
		 struct soft_pasid_entry *ret_entry)
{
	uint64_t at = l->stages->root, entry = 0;

	for (unsigned int level = l->stages->pasid_shape + 1; level; level--) {
		uint32_t index = pasid >> (LEVEL_BITS * (level - 1)) & ((1u << LEVEL_BITS) - 1);

		if (!soft_pasid_read(l, at + index * sizeof(entry), &entry))
			return false;
		if (!(entry & ENTRY_V))
			return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, entry);
		if (entry & ENTRY_RESERVED)
			return soft_pasid_fail(l, SHIM_FAULT_RESERVED_BITS, entry);
		if (!soft_pasid_address(l, entry, ENTRY_ADDRESS, &at))
			return false;
	}
	*ret_entry = (struct soft_pasid_entry){.words = {entry}};
	return true;
}

static enum shim_fault_cause apply(const struct soft_pasid_entry *entry, enum shim_format format,
				   uint64_t iova, struct soft_stage *stage)
{
	stage->format = soft_format_find(format);
	(void)soft_shape_init(stage->format, &(struct soft_shape_spec){0}, NULL, &stage->shape);
	stage->root = entry->words[0] & ENTRY_ADDRESS;
	stage->flags = 0;
	return SHIM_FAULT_NONE;
}

const struct soft_pasid_format soft_pasid_gcr3 = {
	.id = SHIM_PASID_AMD_GCR3,
	.suits = suits,
	.root_bytes = root_bytes,
	.find = find,
	.apply = apply,
};
