/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Process directories of RISC-V (RISC-V IOMMU spec 2.2 to 2.4).  The mode is the table's shape: 1
 *PD8, 2 PD17, 3 PD20.
 *
 *	level 3	indexed by process id 19:17, level 2 by 16:8: entries of 8 bytes, bit 0 V, 53:10
 *		PPN of the next; the rest is reserved
 *	level 1	indexed by 7:0: process contexts of 16 bytes
 *		ta	bit 0 V, 1 ENS, 2 SUM, 31:12 PSCID
 *		fsc	43:0 PPN of the root, 63:60 MODE (0 Bare, 8 Sv39, 9 Sv48, 10 Sv57)
 *
 * Modes are numbered as the specification does; the reference model's header has them
 * the other way round in a comment.  Requests of devices are unprivileged, so ENS and SUM change
 * nothing.  With Bare, addresses are the parent's.  Accessed and dirty bits are kept where the
 * IOMMU can (DC.tc.SADE, which the tenant cannot see).
 *
 * Translations are tagged by PSCID.
 */

#include "soft/pasidtable.h"

#include <stdio.h>

#define CONTEXT_BYTES 16

#define ENTRY_V	       (1ull << 0)
#define ENTRY_PPN      soft_bits(10, 54)
#define ENTRY_RESERVED (soft_bits(1, 10) | soft_bits(54, 64))

#define TA_V	     (1ull << 0)
#define TA_PSCID(w)  ((w) >> 12 & 0xfffff)
#define TA_RESERVED  (soft_bits(3, 12) | soft_bits(32, 64))
#define FSC_PPN	     soft_bits(0, 44)
#define FSC_RESERVED soft_bits(44, 60)
#define FSC_MODE(w)  ((w) >> 60)
#define MODE_BARE    0
#define MODE_SV39    8
#define MODE_SV57    10

static bool suits(enum shim_format format, char *ret_reason)
{
	if (format == SHIM_FORMAT_SV39 || format == SHIM_FORMAT_SV48 || format == SHIM_FORMAT_SV57)
		return true;
	snprintf(ret_reason, SHIM_REASON_MAX,
		 "the contexts of a process directory lead to tables Sv39, Sv48 or Sv57");
	return false;
}

/* Width of process ids by mode. */
static unsigned int mode_bits(uint32_t shape)
{
	static const uint8_t bits[] = {0, 8, 17, 20};

	return shape < sizeof(bits) ? bits[shape] : 0;
}

static uint64_t root_bytes(const struct shim_pasid_table *table, char *ret_reason)
{
	unsigned int bits = mode_bits(table->shape);

	if (!bits) {
		snprintf(ret_reason, SHIM_REASON_MAX,
			 "the shape of a process directory is its mode: 1 PD8, 2 PD17, 3 PD20");
		return 0;
	}
	if (table->pasid_bits > bits) {
		snprintf(ret_reason, SHIM_REASON_MAX,
			 "a process directory of mode PD%u has PASIDs of %u bits at most", bits,
			 bits);
		return 0;
	}
	return SOFT_PAGE_SIZE;
}

static bool find(const struct soft_pasid_lookup *l, uint32_t pasid,
		 struct soft_pasid_entry *ret_entry)
{
	uint64_t at = l->stages->root, entry, ta, fsc, unused;

	for (unsigned int level = l->stages->pasid_shape; level > 1; level--) {
		uint32_t index = level == 3 ? pasid >> 17 : pasid >> 8 & 511;

		if (!soft_pasid_read(l, at + index * sizeof(entry), &entry))
			return false;
		if (!(entry & ENTRY_V))
			return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, entry);
		if (entry & ENTRY_RESERVED)
			return soft_pasid_fail(l, SHIM_FAULT_RESERVED_BITS, entry);
		if (!soft_pasid_address(l, (entry & ENTRY_PPN) << 2, soft_bits(12, 56), &at))
			return false;
	}
	at += (uint64_t)(pasid & 255) * CONTEXT_BYTES;
	if (!soft_pasid_read(l, at, &ta) || !soft_pasid_read(l, at + sizeof(ta), &fsc))
		return false;
	if (!(ta & TA_V))
		return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, ta);
	if (ta & TA_RESERVED || fsc & FSC_RESERVED)
		return soft_pasid_fail(l, SHIM_FAULT_RESERVED_BITS, ta & TA_RESERVED ? ta : fsc);
	if (FSC_MODE(fsc) != MODE_BARE && (FSC_MODE(fsc) < MODE_SV39 || FSC_MODE(fsc) > MODE_SV57))
		return soft_pasid_fail(l, SHIM_FAULT_BAD_ENTRY, fsc);
	if (!soft_pasid_address(l, (fsc & FSC_PPN) << 12, soft_bits(12, 56), &unused))
		return false;
	*ret_entry = (struct soft_pasid_entry){.words = {ta, fsc}};
	return true;
}

static enum shim_fault_cause apply(const struct soft_pasid_entry *entry, enum shim_format format,
				   uint64_t iova, struct soft_stage *stage)
{
	static const enum shim_format formats[] = {SHIM_FORMAT_SV39, SHIM_FORMAT_SV48,
						   SHIM_FORMAT_SV57};
	uint64_t fsc = entry->words[1];

	if (FSC_MODE(fsc) == MODE_BARE) {
		stage->identity = true;
		return SHIM_FAULT_NONE;
	}
	stage->format = soft_format_find(formats[FSC_MODE(fsc) - MODE_SV39]);
	if (!stage->format)
		return SHIM_FAULT_BAD_ENTRY;
	(void)soft_shape_init(stage->format, &(struct soft_shape_spec){0}, NULL, &stage->shape);
	stage->root = (fsc & FSC_PPN) << 12;
	stage->faults_unused = stage->format->faults_unused && !stage->env.access_dirty;
	stage->flags = 0;
	return SHIM_FAULT_NONE;
}

static uint32_t space_id(const struct soft_pasid_entry *entry)
{
	return (uint32_t)TA_PSCID(entry->words[0]);
}

const struct soft_pasid_format soft_pasid_pdt = {
	.id = SHIM_PASID_RISCV_PDT,
	.suits = suits,
	.root_bytes = root_bytes,
	.find = find,
	.apply = apply,
	.space_id = space_id,
};
