/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_ARMV8_H
#define IOASID_SOFT_ARMV8_H

/*
 * What the ARMv8 formats of both stages share: VMSAv8-64 descriptors (Arm ARM, D8.3) for
 * granules of 4K, 16K and 64K.  armv8_s1.c and armv8_s2.c hold the permissions.
 *
 *	bits 1:0  x0 invalid; 11 table, or page at the lowest level; 01 block
 *	10 AF, 16 nT (blocks), 51 DBM, 52 contiguous
 *
 * Levels are counted from the leaves: ARM's level 3 is 1 here, its level -1 is 5.
 *
 *	granule	pages	blocks						address bits of an entry
 *	4K	4K	2M, 1G; 512G with FEAT_LPA2			47:12
 *	16K	16K	32M; 64G with FEAT_LPA2				47:14
 *	64K	64K	512M; 4T where physical addresses have 52 bits	47:16, 51:48 in 15:12
 *
 * With FEAT_LPA2 (4K, 16K): 49:12 or 49:14, and 51:50 in 9:8, where else SH is (the fields as in
 * QEMU's target/arm/ptw.c, get_phys_addr_lpae()).
 *
 * The contiguous bit makes a group of 16 entries (4K, levels 1 to 3), 128 (16K, level 1), 32
 * (16K, level 2; 64K, levels 1 and 2), and is ignored elsewhere (pseudocode ContiguousBit,
 * ContiguousSize).  What a group of unlike entries means is the implementation's choice: here
 * an entry never translates more than its own part, so that none is given what another has.
 *
 * Readings taken, where the manual leaves a choice or names no fault:
 *  - A block where there are none, and 01 at the lowest level, are translation faults
 *    (pseudocode DecodeDescriptorType, BlockDescSupported; QEMU lpae_block_desc_valid()).
 *  - Bits that are RES0 where an address could lie are refused as reserved: those below the
 *    address of a page or block but nT, and 49:48 without LPA2.  QEMU ignores them; tables that
 *    kernels write do not have them.  Other bits that mean nothing are ignored.
 *  - Bits 15:12 with a granule of 64K are address bits also where the output has no more than
 *    48, and then beyond it (pseudocode LeafBase: IMPLEMENTATION DEFINED).
 *  - Order: translation, reserved, address size; the walk adds access flag, then permission
 *    (QEMU get_phys_addr_lpae()).
 *
 * Not held against a table: an input that is wider than the output (stage 2), and start levels
 * that need a certain output width.
 */

#include "soft/format.h"

#define ARMV8_VALID	 (1ull << 0)
#define ARMV8_TABLE	 (1ull << 1) /* or a page */
#define ARMV8_SH	 (3ull << 8)
#define ARMV8_AF	 (1ull << 10)
#define ARMV8_NT	 (1ull << 16)
#define ARMV8_DBM	 (1ull << 51)
#define ARMV8_CONTIGUOUS (1ull << 52)
#define ARMV8_OA_64K	 (0xfull << 12) /* address bits 51:48 */

#define ARMV8_PAGE_SIZES_4K                                                                        \
	(1ull << 12 | 1ull << 16 | 1ull << 21 | 1ull << 25 | 1ull << 30 | 1ull << 34)
#define ARMV8_PAGE_SIZES_16K (1ull << 14 | 1ull << 21 | 1ull << 25 | 1ull << 30)
#define ARMV8_PAGE_SIZES_64K (1ull << 16 | 1ull << 21 | 1ull << 29 | 1ull << 34)

static inline unsigned int armv8_shift(unsigned int granule, unsigned int level)
{
	return granule + (granule - 3) * (level - 1);
}

static inline bool armv8_is_wide(const struct soft_env *env, unsigned int granule)
{
	return env->lpa2 && granule != 16;
}

static inline bool armv8_has_blocks(const struct soft_env *env, unsigned int granule,
				    unsigned int level)
{
	switch (level) {
	case 2:
		return true;
	case 3:
		return granule == 12 || (granule == 14 ? env->lpa2 : env->output_bits > 48);
	case 4:
		return granule == 12 && env->lpa2;
	default:
		return false;
	}
}

/* log2 of the entries of a contiguous group; 0: the bit means nothing. */
static inline unsigned int armv8_group(unsigned int granule, unsigned int level)
{
	switch (granule) {
	case 12:
		return level <= 3 ? 4 : 0;
	case 14:
		return level == 1 ? 7 : level == 2 ? 5 : 0;
	default:
		return level <= 2 ? 5 : 0;
	}
}

static inline uint64_t armv8_address(const struct soft_env *env, unsigned int granule,
				     uint64_t entry)
{
	if (granule == 16)
		return (entry & soft_bits(16, 48)) | (entry & ARMV8_OA_64K) << 36;
	if (env->lpa2)
		return (entry & soft_bits(granule, 50)) | (entry & ARMV8_SH) << 42;
	return entry & soft_bits(granule, 48);
}

/* The bits of an entry that say an address; the inverse of armv8_address(). */
static inline uint64_t armv8_place(const struct soft_env *env, unsigned int granule,
				   uint64_t address)
{
	if (granule == 16)
		return (address & soft_bits(16, 48)) | (address >> 36 & ARMV8_OA_64K);
	if (env->lpa2)
		return (address & soft_bits(granule, 50)) | (address >> 42 & ARMV8_SH);
	return address & soft_bits(granule, 48);
}

/* All of *ret but the permissions. */
static inline __attribute__((always_inline)) void armv8_decode(unsigned int granule,
							       const struct soft_env *env,
							       unsigned int level, uint64_t entry,
							       struct soft_entry *ret)
{
	unsigned int shift = armv8_shift(granule, level);
	bool table = entry & ARMV8_TABLE && level > 1, block = level > 1 && !table;
	uint64_t reserved = soft_bits(12, table ? granule : shift);

	*ret = (struct soft_entry){.level = (uint8_t)(level - 1)};
	if (!(entry & ARMV8_VALID) || (level == 1 && !(entry & ARMV8_TABLE)) ||
	    (block && !armv8_has_blocks(env, granule, level))) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	ret->address = armv8_address(env, granule, entry);
	if (table) {
		ret->kind = SOFT_ENTRY_TABLE;
	} else {
		ret->kind = SOFT_ENTRY_LEAF;
		ret->shift = ret->group = (uint8_t)shift;
		if (entry & ARMV8_CONTIGUOUS)
			ret->group += (uint8_t)armv8_group(granule, level);
		ret->address &= ~soft_bits(0, shift);
	}
	if (granule == 16)
		reserved &= ~ARMV8_OA_64K;
	if (block)
		reserved &= ~ARMV8_NT;
	if (!armv8_is_wide(env, granule))
		reserved |= soft_bits(48, 50);
	if (entry & reserved)
		ret->kind = SOFT_ENTRY_RESERVED;
	else if (ret->address & soft_bits(env->output_bits, 52))
		ret->kind = SOFT_ENTRY_WIDTH;
}

/* Address, kind and group of a leaf, which has been used and is inner shareable. */
static inline uint64_t armv8_make_leaf(unsigned int granule, const struct soft_env *env,
				       unsigned int level, unsigned int shift, uint64_t address)
{
	return armv8_place(env, granule, address) | ARMV8_VALID | ARMV8_AF |
	       (level == 1 ? ARMV8_TABLE : 0) | (armv8_is_wide(env, granule) ? 0 : ARMV8_SH) |
	       (shift > armv8_shift(granule, level) ? ARMV8_CONTIGUOUS : 0);
}

static inline uint64_t armv8_make_table(unsigned int granule, const struct soft_env *env,
					uint64_t address)
{
	return armv8_place(env, granule, address) | ARMV8_VALID | ARMV8_TABLE;
}

/*
 * What depends on the granule, for one stage: decode, make_table, make_leaf, from stage_decode()
 * and stage_make_leaf() that take it as their first argument.
 */
#define ARMV8_GRANULE(stage, name, granule)                                                        \
	static void stage##_decode_##name(const struct soft_env *env, unsigned int level,          \
					  uint64_t entry, struct soft_entry *ret)                  \
	{                                                                                          \
		stage##_decode(granule, env, level, entry, ret);                                   \
	}                                                                                          \
	static uint64_t stage##_make_table_##name(const struct soft_env *env, unsigned int level,  \
						  uint64_t address)                                \
	{                                                                                          \
		return armv8_make_table(granule, env, address);                                    \
	}                                                                                          \
	static uint64_t stage##_make_leaf_##name(const struct soft_env *env, unsigned int level,   \
						 unsigned int shift, uint64_t address,             \
						 uint32_t prot, bool snoop)                        \
	{                                                                                          \
		return stage##_make_leaf(granule, env, level, shift, address, prot);               \
	}

#endif
