/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ARMv8 stage 1 with two privilege levels (Arm ARM, D8.3.1, D8.4.1; SMMUv3 with STRW of EL1, or
 * EL2 with E2H).  Shape of entries: armv8.h.
 *
 *	leaf:  4:2 AttrIndx, 5 NS, 6 AP[1], 7 AP[2], 9:8 SH, 11 nG, 50 GP, 53 PXN, 54 UXN
 *	table: 59 PXNTable, 60 UXNTable, 62:61 APTable, 63 NSTable
 *
 * AP[1]: the unprivileged may read, and write if the privileged may.  AP[2]: nobody may write.
 * Everything can be read by the privileged.  UXN keeps the unprivileged from executing, and only
 * it: a page that they may not read can be one that they execute.  PXN keeps the privileged from
 * it, and so does a page that the unprivileged can write, after what the tables on the way take
 * away (pseudocode S1DirectBasePermissions; QEMU get_S1prot()): the walk sees to that.  A page
 * that only waits for its first write counts as one that can be written.  SCTLR.WXN, PAN and
 * HPD have no counterpart here.
 *
 * APTable[0] takes the unprivileged's access away, APTable[1] writing (pseudocode
 * S1ApplyTablePerms; QEMU as well).
 *
 * Dirty state (FEAT_HAFDBS): DBM makes of AP[2] "not written yet": DBM = 1 and AP[2] = 0 is
 * dirty, AP[2] = 1 can be written where the IOMMU keeps the bit, which clears AP[2].  Without DBM
 * it keeps nothing, and a page is as AP[2] says (pseudocode S1ApplyOutputPerms).
 *
 * PXN is bit 53 and UXN 54 (QEMU get_phys_addr_lpae(), Linux arch/arm64 pgtable-hwdef.h).
 * What is built here has both or neither, is for the unprivileged, not global, has AttrIndx 1,
 * which by Linux's MAIR (io-pgtable-arm.c) is write-back memory, and DBM where it can be written
 *and the bits are kept.
 */

#include "soft/armv8.h"

#define S1_ATTR		   (7ull << 2)
#define S1_ATTR_WRITE_BACK (1ull << 2)
#define S1_NS		   (1ull << 5)
#define S1_AP_UNPRIVILEGED (1ull << 6)
#define S1_AP_READ_ONLY	   (1ull << 7)
#define S1_NG		   (1ull << 11)
#define S1_GP		   (1ull << 50)
#define S1_PXN		   (1ull << 53)
#define S1_UXN		   (1ull << 54)
#define S1_PXN_TABLE	   (1ull << 59)
#define S1_UXN_TABLE	   (1ull << 60)
#define S1_AP_TABLE	   (3ull << 61)
#define S1_AP_TABLE_USER   (1ull << 61)
#define S1_AP_TABLE_WRITE  (1ull << 62)
#define S1_NS_TABLE	   (1ull << 63)

static bool is_writable(uint64_t entry, bool kept)
{
	return !(entry & S1_AP_READ_ONLY) || (kept && entry & ARMV8_DBM);
}

static inline __attribute__((always_inline)) void s1_decode(unsigned int granule,
							    const struct soft_env *env,
							    unsigned int level, uint64_t entry,
							    struct soft_entry *ret)
{
	armv8_decode(granule, env, level, entry, ret);
	if (ret->kind == SOFT_ENTRY_EMPTY)
		return;
	if (ret->shift)
		ret->prot = SHIM_READ | (is_writable(entry, env->access_dirty) ? SHIM_WRITE : 0) |
			    (entry & S1_AP_UNPRIVILEGED ? SOFT_USER : 0) |
			    (entry & S1_UXN ? 0 : SHIM_EXEC) |
			    (entry & S1_PXN ? 0 : SOFT_PRIVILEGED_EXEC);
	else
		ret->prot = SHIM_READ | (entry & S1_AP_TABLE_WRITE ? 0 : SHIM_WRITE) |
			    (entry & S1_AP_TABLE_USER ? 0 : SOFT_USER) |
			    (entry & S1_UXN_TABLE ? 0 : SHIM_EXEC) |
			    (entry & S1_PXN_TABLE ? 0 : SOFT_PRIVILEGED_EXEC);
}

static uint64_t s1_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	if (!leaf)
		return entry;
	if (access & SHIM_WRITE && entry & ARMV8_DBM)
		entry &= ~S1_AP_READ_ONLY;
	return entry | ARMV8_AF;
}

static bool s1_is_dirty(uint64_t entry)
{
	return entry & ARMV8_DBM && !(entry & S1_AP_READ_ONLY);
}

/* What cannot be written stays so. */
static uint64_t s1_set_dirty(uint64_t entry, bool dirty)
{
	if (!is_writable(entry, true))
		return entry;
	entry |= ARMV8_DBM;
	return dirty ? entry & ~S1_AP_READ_ONLY : entry | S1_AP_READ_ONLY;
}

static inline uint64_t s1_make_leaf(unsigned int granule, const struct soft_env *env,
				    unsigned int level, unsigned int shift, uint64_t address,
				    uint32_t prot)
{
	uint64_t writable = env->access_dirty ? ARMV8_DBM : 0;

	return armv8_make_leaf(granule, env, level, shift, address) | S1_ATTR_WRITE_BACK |
	       S1_AP_UNPRIVILEGED | S1_NG | (prot & SHIM_WRITE ? writable : S1_AP_READ_ONLY) |
	       (prot & SHIM_EXEC ? 0 : S1_UXN | S1_PXN);
}

ARMV8_GRANULE(s1, 4k, 12)
ARMV8_GRANULE(s1, 16k, 14)
ARMV8_GRANULE(s1, 64k, 16)

#define FIELDS_BELOW                                                                               \
	{"V", ARMV8_VALID, SOFT_IN_BOTH}, {"T", ARMV8_TABLE, SOFT_IN_BOTH},                        \
		{"AttrIndx", S1_ATTR, SOFT_IN_LEAF}, {"NS", S1_NS, SOFT_IN_LEAF},                  \
		{"AP[1]", S1_AP_UNPRIVILEGED, SOFT_IN_LEAF},                                       \
	{                                                                                          \
		"AP[2]", S1_AP_READ_ONLY, SOFT_IN_LEAF                                             \
	}
#define FIELDS_ABOVE                                                                               \
	{"AF", ARMV8_AF, SOFT_IN_LEAF}, {"nG", S1_NG, SOFT_IN_LEAF}, {"GP", S1_GP, SOFT_IN_LEAF},  \
		{"DBM", ARMV8_DBM, SOFT_IN_LEAF}, {"Contiguous", ARMV8_CONTIGUOUS, SOFT_IN_LEAF},  \
		{"PXN", S1_PXN, SOFT_IN_LEAF}, {"UXN", S1_UXN, SOFT_IN_LEAF},                      \
		{"PXNTable", S1_PXN_TABLE, SOFT_IN_TABLE},                                         \
		{"UXNTable", S1_UXN_TABLE, SOFT_IN_TABLE},                                         \
		{"APTable", S1_AP_TABLE, SOFT_IN_TABLE}, {"NSTable", S1_NS_TABLE, SOFT_IN_TABLE},  \
	{                                                                                          \
		0                                                                                  \
	}

static const struct soft_field fields[] = {
	FIELDS_BELOW,
	{"SH/OA[51:50]", ARMV8_SH, SOFT_IN_BOTH},
	FIELDS_ABOVE,
};

static const struct soft_field fields_64k[] = {
	FIELDS_BELOW,
	{"SH", ARMV8_SH, SOFT_IN_LEAF},
	{"OA[51:48]", ARMV8_OA_64K, SOFT_IN_BOTH},
	FIELDS_ABOVE,
};

#define S1_COMMON                                                                                  \
	.input_bits = 48, .input_bits_min = 25, .input_bits_max = 52, .input = SOFT_INPUT_HALVES,  \
	.execute = true, .tells_privileged_exec = true, .guards_privileged_exec = true,            \
	.accessed = ARMV8_AF, .faults_unused = true, .needs_read = SHIM_WRITE | SHIM_EXEC,         \
	.use = s1_use, .is_dirty = s1_is_dirty, .set_dirty = s1_set_dirty

const struct soft_format soft_format_armv8_s1_4k = {
	.id = SHIM_FORMAT_ARMV8_S1_4K,
	.name = "armv8-s1-4k",
	.levels = 4,
	.granule = 12,
	.page_sizes = ARMV8_PAGE_SIZES_4K,
	.fields = fields,
	.decode = s1_decode_4k,
	.make_table = s1_make_table_4k,
	.make_leaf = s1_make_leaf_4k,
	S1_COMMON,
};

const struct soft_format soft_format_armv8_s1_16k = {
	.id = SHIM_FORMAT_ARMV8_S1_16K,
	.name = "armv8-s1-16k",
	.levels = 4,
	.granule = 14,
	.page_sizes = ARMV8_PAGE_SIZES_16K,
	.fields = fields,
	.decode = s1_decode_16k,
	.make_table = s1_make_table_16k,
	.make_leaf = s1_make_leaf_16k,
	S1_COMMON,
};

const struct soft_format soft_format_armv8_s1_64k = {
	.id = SHIM_FORMAT_ARMV8_S1_64K,
	.name = "armv8-s1-64k",
	.levels = 3,
	.granule = 16,
	.page_sizes = ARMV8_PAGE_SIZES_64K,
	.fields = fields_64k,
	.decode = s1_decode_64k,
	.make_table = s1_make_table_64k,
	.make_leaf = s1_make_leaf_64k,
	S1_COMMON,
};
