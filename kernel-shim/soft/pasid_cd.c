/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Context-descriptor tables of SMMUv3 (Arm IHI 0070, 5.4), by S1Fmt, which is the table's shape:
 *
 *	0	one table of descriptors of 64 bytes
 *	1, 2	two levels: entries of 8 bytes (bit 0 V, 51:12 address) that each lead to 64, or
 *1024, descriptors
 *
 *	word 0	5:0 T0SZ, 7:6 TG0 (0 4K, 1 64K, 2 16K), 14 EPD0, 21:16 T1SZ, 23:22 TG1 (1 16K,
 *		2 4K, 3 64K), 30 EPD1, 31 V, 34:32 IPS, 38 TBI0, 39 TBI1, 41 AA64, 42 HD, 43 HA,
 *		63:48 ASID
 *	word 1	51:4 TTB0; word 2	51:4 TTB1
 *
 * Bit 55 of an address chooses the half, as for the processor's tables (Arm ARM D8.2).  The widths
 * of TG0 and TG1 are those of formats.md's mark [M]; the second source is Linux's
 * arm-smmu-v3.c, which writes TG0 as here.  Where HA is set and HD is not, neither bit is
 * written back, and a clear access flag is no fault.  FEAT_LPA2 (CD.DS) is not looked at: wider
 * descriptors than 48 bits are those of the 64K granule.
 *
 * Translations are tagged by ASID, so two PASIDs with one ASID share them, and a descriptor that
 * is changed without a new ASID leaves what is cached: as in hardware.
 */

#include "soft/pasidtable.h"

#include <stdio.h>

#define CD_BYTES 64

#define L1_V	   (1ull << 0)
#define L1_ADDRESS soft_bits(12, 52)

#define CD_V	   (1ull << 31)
#define CD_AA64	   (1ull << 41)
#define CD_HD	   (1ull << 42)
#define CD_HA	   (1ull << 43)
#define CD_IPS(w)  ((w) >> 32 & 7)
#define CD_ASID(w) ((w) >> 48)
#define CD_TTB	   soft_bits(4, 52)

static bool suits(enum shim_format format, char *ret_reason)
{
	if (format == SHIM_FORMAT_ARMV8_S1_4K || format == SHIM_FORMAT_ARMV8_S1_16K ||
	    format == SHIM_FORMAT_ARMV8_S1_64K)
		return true;
	snprintf(ret_reason, SHIM_REASON_MAX,
		 "context descriptors lead to tables of ARM's stage 1");
	return false;
}

/* log2 of the descriptors that an entry of the first level leads to; 0: there is one level. */
static unsigned int leaf_bits(uint32_t shape)
{
	return shape == 1 ? 6 : shape == 2 ? 10 : 0;
}

static uint64_t root_bytes(const struct shim_pasid_table *table, char *ret_reason)
{
	unsigned int leaf = leaf_bits(table->shape);
	uint64_t bytes;

	if (table->shape > 2) {
		snprintf(ret_reason, SHIM_REASON_MAX,
			 "S1Fmt, the shape of a table of context descriptors, is 0 to 2");
		return 0;
	}
	if (!table->shape)
		return (uint64_t)CD_BYTES << table->pasid_bits;
	bytes = table->pasid_bits > leaf ? sizeof(uint64_t) << (table->pasid_bits - leaf) : 64;
	return bytes < 64 ? 64 : bytes;
}

static bool find(const struct soft_pasid_lookup *l, uint32_t pasid,
		 struct soft_pasid_entry *ret_entry)
{
	unsigned int leaf = leaf_bits(l->stages->pasid_shape);
	uint64_t at = l->stages->root;
	struct soft_pasid_entry entry;

	if (leaf) {
		uint64_t first;

		if (!soft_pasid_read(l, at + (pasid >> leaf) * sizeof(first), &first))
			return false;
		if (!(first & L1_V))
			return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, first);
		if (!soft_pasid_address(l, first, L1_ADDRESS, &at))
			return false;
		pasid &= (1u << leaf) - 1;
	}
	at += (uint64_t)pasid * CD_BYTES;
	for (unsigned int i = 0; i < SOFT_PASID_WORDS; i++)
		if (!soft_pasid_read(l, at + i * sizeof(uint64_t), &entry.words[i]))
			return false;
	if (!(entry.words[0] & CD_V))
		return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, entry.words[0]);
	if (!(entry.words[0] & CD_AA64))
		return soft_pasid_fail(l, SHIM_FAULT_BAD_ENTRY, entry.words[0]);
	*ret_entry = entry;
	return true;
}

static const struct soft_format *granule_of(uint64_t word, bool upper)
{
	static const enum shim_format lower_half[4] = {
		SHIM_FORMAT_ARMV8_S1_4K, SHIM_FORMAT_ARMV8_S1_64K, SHIM_FORMAT_ARMV8_S1_16K};
	static const enum shim_format upper_half[4] = {SHIM_FORMAT_NONE, SHIM_FORMAT_ARMV8_S1_16K,
						       SHIM_FORMAT_ARMV8_S1_4K,
						       SHIM_FORMAT_ARMV8_S1_64K};

	return soft_format_find(upper ? upper_half[word >> 22 & 3] : lower_half[word >> 6 & 3]);
}

static enum shim_fault_cause apply(const struct soft_pasid_entry *entry, enum shim_format format,
				   uint64_t iova, struct soft_stage *stage)
{
	static const uint8_t widths[8] = {32, 36, 40, 42, 44, 48, 52, 52};
	uint64_t word = entry->words[0];
	bool upper = iova >> 55 & 1;
	unsigned int size = word >> (upper ? 16 : 0) & 63;
	struct soft_shape_spec spec = {
		.input_bits = (uint8_t)(64 - size),
		.upper = upper,
		.top_byte_ignored = word >> (upper ? 39 : 38) & 1,
	};

	/* No walk in this half. */
	if (word >> (upper ? 30 : 14) & 1)
		return SHIM_FAULT_NOT_PRESENT;
	stage->format = granule_of(word, upper);
	if (!stage->format || soft_shape_init(stage->format, &spec, NULL, &stage->shape))
		return SHIM_FAULT_BAD_ENTRY;
	stage->root =
		entry->words[upper ? 2 : 1] & CD_TTB & ~(soft_shape_root_bytes(&stage->shape) - 1);
	stage->flags = 0;
	stage->env.lpa2 = false;
	if (widths[CD_IPS(word)] < stage->env.output_bits)
		stage->env.output_bits = widths[CD_IPS(word)];
	stage->env.access_dirty &= (word & CD_HA) && (word & CD_HD);
	stage->faults_unused = !(word & CD_HA);
	return SHIM_FAULT_NONE;
}

static uint32_t space_id(const struct soft_pasid_entry *entry)
{
	return (uint32_t)CD_ASID(entry->words[0]);
}

const struct soft_pasid_format soft_pasid_cd = {
	.id = SHIM_PASID_SMMUV3_CD,
	.suits = suits,
	.root_bytes = root_bytes,
	.find = find,
	.apply = apply,
	.space_id = space_id,
};
