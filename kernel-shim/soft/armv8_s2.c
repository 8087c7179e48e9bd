/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ARMv8 stage 2 (Arm ARM, D8.3.2, D8.4.2).  Shape of entries: armv8.h.
 *
 *	leaf: 5:2 MemAttr, 6 S2AP[0] read, 7 S2AP[1] write, 9:8 SH, 11 FnXS, 54:53 XN
 *
 * Tables have no permissions.  Write-only and execute-only are legal.  XN as with FEAT_XNX:
 * 0 everyone executes, 1 only the unprivileged, 2 nobody, 3 only the privileged (QEMU
 * get_S2prot()).  Units without it look at bit 54 alone, which comes to the same for the
 * unprivileged, as DMA is.
 *
 * Dirty state (FEAT_HAFDBS): DBM makes of S2AP[1] "written": DBM = 1 and S2AP[1] = 1 is dirty,
 * S2AP[1] = 0 can be written where the IOMMU keeps the bit, which sets S2AP[1].  Without DBM it
 * keeps nothing, and a page is as S2AP[1] says (pseudocode S2ApplyOutputPerms).
 *
 * What is built here has MemAttr 15, write-back that stage 1 may lower (without FWB, as Linux
 * io-pgtable-arm.c); XN is 2 where nothing is executed: nobody's by either reading (Linux writes
 * 3, which FEAT_XNX lets the privileged execute).
 */

#include "soft/armv8.h"

#define S2_MEMATTR	      (0xfull << 2)
#define S2_MEMATTR_WRITE_BACK (0xfull << 2)
#define S2_READ		      (1ull << 6)
#define S2_WRITE	      (1ull << 7)
#define S2_FNXS		      (1ull << 11)
#define S2_XN		      (3ull << 53)
#define S2_XN_SHIFT	      53
#define S2_XN_ALL	      (2ull << 53)

static bool is_writable(uint64_t entry, bool kept)
{
	return entry & S2_WRITE || (kept && entry & ARMV8_DBM);
}

static inline __attribute__((always_inline)) void s2_decode(unsigned int granule,
							    const struct soft_env *env,
							    unsigned int level, uint64_t entry,
							    struct soft_entry *ret)
{
	unsigned int xn = entry >> S2_XN_SHIFT & 3;

	armv8_decode(granule, env, level, entry, ret);
	if (ret->kind == SOFT_ENTRY_EMPTY)
		return;
	if (ret->shift)
		ret->prot = SOFT_USER | (entry & S2_READ ? SHIM_READ : 0) |
			    (is_writable(entry, env->access_dirty) ? SHIM_WRITE : 0) |
			    (xn < 2 ? SHIM_EXEC : 0) |
			    (xn == 0 || xn == 3 ? SOFT_PRIVILEGED_EXEC : 0);
	else
		ret->prot = SOFT_USER | SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_PRIVILEGED_EXEC;
}

static uint64_t s2_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	if (!leaf)
		return entry;
	if (access & SHIM_WRITE && entry & ARMV8_DBM)
		entry |= S2_WRITE;
	return entry | ARMV8_AF;
}

static bool s2_is_dirty(uint64_t entry)
{
	return entry & ARMV8_DBM && entry & S2_WRITE;
}

/* What cannot be written stays so. */
static uint64_t s2_set_dirty(uint64_t entry, bool dirty)
{
	if (!is_writable(entry, true))
		return entry;
	entry |= ARMV8_DBM;
	return dirty ? entry | S2_WRITE : entry & ~S2_WRITE;
}

static inline uint64_t s2_make_leaf(unsigned int granule, const struct soft_env *env,
				    unsigned int level, unsigned int shift, uint64_t address,
				    uint32_t prot)
{
	uint64_t writable = S2_WRITE | (env->access_dirty ? ARMV8_DBM : 0);

	return armv8_make_leaf(granule, env, level, shift, address) | S2_MEMATTR_WRITE_BACK |
	       (prot & SHIM_READ ? S2_READ : 0) | (prot & SHIM_WRITE ? writable : 0) |
	       (prot & SHIM_EXEC ? 0 : S2_XN_ALL);
}

ARMV8_GRANULE(s2, 4k, 12)
ARMV8_GRANULE(s2, 16k, 14)
ARMV8_GRANULE(s2, 64k, 16)

#define FIELDS_BELOW                                                                               \
	{"V", ARMV8_VALID, SOFT_IN_BOTH}, {"T", ARMV8_TABLE, SOFT_IN_BOTH},                        \
		{"MemAttr", S2_MEMATTR, SOFT_IN_LEAF}, {"S2AP[0]", S2_READ, SOFT_IN_LEAF},         \
	{                                                                                          \
		"S2AP[1]", S2_WRITE, SOFT_IN_LEAF                                                  \
	}
#define FIELDS_ABOVE                                                                               \
	{"AF", ARMV8_AF, SOFT_IN_LEAF}, {"FnXS", S2_FNXS, SOFT_IN_LEAF},                           \
		{"DBM", ARMV8_DBM, SOFT_IN_LEAF}, {"Contiguous", ARMV8_CONTIGUOUS, SOFT_IN_LEAF},  \
		{"XN", S2_XN, SOFT_IN_LEAF},                                                       \
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

/* Up to 16 concatenated tables. */
#define S2_COMMON                                                                                  \
	.input_bits = 48, .input_bits_min = 25, .input_bits_max = 52, .concatenated = 4,           \
	.execute = true, .tells_privileged_exec = true, .accessed = ARMV8_AF,                      \
	.faults_unused = true, .use = s2_use, .is_dirty = s2_is_dirty, .set_dirty = s2_set_dirty

const struct soft_format soft_format_armv8_s2_4k = {
	.id = SHIM_FORMAT_ARMV8_S2_4K,
	.name = "armv8-s2-4k",
	.levels = 4,
	.granule = 12,
	.page_sizes = ARMV8_PAGE_SIZES_4K,
	.fields = fields,
	.decode = s2_decode_4k,
	.make_table = s2_make_table_4k,
	.make_leaf = s2_make_leaf_4k,
	S2_COMMON,
};

const struct soft_format soft_format_armv8_s2_16k = {
	.id = SHIM_FORMAT_ARMV8_S2_16K,
	.name = "armv8-s2-16k",
	.levels = 3, /* level 0 needs FEAT_LPA2: two tables are concatenated instead */
	.granule = 14,
	.page_sizes = ARMV8_PAGE_SIZES_16K,
	.fields = fields,
	.decode = s2_decode_16k,
	.make_table = s2_make_table_16k,
	.make_leaf = s2_make_leaf_16k,
	S2_COMMON,
};

const struct soft_format soft_format_armv8_s2_64k = {
	.id = SHIM_FORMAT_ARMV8_S2_64K,
	.name = "armv8-s2-64k",
	.levels = 3,
	.granule = 16,
	.page_sizes = ARMV8_PAGE_SIZES_64K,
	.fields = fields_64k,
	.decode = s2_decode_64k,
	.make_table = s2_make_table_64k,
	.make_leaf = s2_make_leaf_64k,
	S2_COMMON,
};
