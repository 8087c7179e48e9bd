/* SPDX-License-Identifier: Apache-2.0 */

/*
 * VT-d second stage, 3 to 5 levels (VT-d spec 3.7, 9.8).
 *
 *	bit 0 R, 1 W, 7 PS (2M, 1G leaves), 8 A, 9 D, 11 SNP, 51:12 address, 62 TM.
 *
 * There is no present bit: an entry with R = W = 0 is not present, whatever else it holds;
 * write-only is legal.  R and W are ANDed over the walk.  Reserved: bits 11 and 62 in
 * tables, bit 11 in leaves unless the IOMMU has snoop control, bit 62 in leaves unless it
 * has device TLBs, PS at levels 4 and 5, in large leaves the address bits below the page
 * size, address bits from the output width to 51.  Bits 61:52 and 63 are ignored, and bit
 * 2 (X), as no execute support is claimed.  A and D are ignored too, but in tables made for
 * dirty tracking, where they are kept (SSADE in a PASID entry).
 */

#include "soft/format.h"

#define VTDSS_R	   (1ull << 0)
#define VTDSS_W	   (1ull << 1)
#define VTDSS_PS   (1ull << 7)
#define VTDSS_A	   (1ull << 8)
#define VTDSS_D	   (1ull << 9)
#define VTDSS_SNP  (1ull << 11)
#define VTDSS_TM   (1ull << 62)
#define VTDSS_ADDR 0x000ffffffffff000ull

static void vtdss_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
			 struct soft_entry *ret)
{
	unsigned int shift = SOFT_PAGE_SHIFT + 9 * (level - 1);
	uint64_t reserved = VTDSS_SNP | VTDSS_TM;

	*ret = (struct soft_entry){.level = (uint8_t)(level - 1)};
	if (!(entry & (VTDSS_R | VTDSS_W))) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	if (level == 1 || (level <= 3 && (entry & VTDSS_PS))) {
		ret->kind = SOFT_ENTRY_LEAF;
		ret->shift = ret->group = (uint8_t)shift;
		ret->address = entry & VTDSS_ADDR & ~((1ull << shift) - 1);
		reserved = soft_bits(12, shift) | (env->snoop_control ? 0 : VTDSS_SNP) |
			   (env->device_tlb ? 0 : VTDSS_TM);
	} else {
		ret->kind = SOFT_ENTRY_TABLE;
		ret->address = entry & VTDSS_ADDR;
		if (level >= 4)
			reserved |= VTDSS_PS;
	}
	ret->prot =
		(entry & VTDSS_R ? SHIM_READ : 0) | (entry & VTDSS_W ? SHIM_WRITE : 0) | SOFT_USER;
	if (entry & reserved)
		ret->kind = SOFT_ENTRY_RESERVED;
	else if (entry & soft_bits(env->output_bits, 52))
		ret->kind = SOFT_ENTRY_WIDTH;
}

static uint64_t vtdss_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	return entry | VTDSS_A | (leaf && access & SHIM_WRITE ? VTDSS_D : 0);
}

static bool vtdss_is_dirty(uint64_t entry)
{
	return entry & VTDSS_D;
}

static uint64_t vtdss_set_dirty(uint64_t entry, bool dirty)
{
	return dirty ? entry | VTDSS_D : entry & ~VTDSS_D;
}

static uint64_t vtdss_make_table(const struct soft_env *env, unsigned int level, uint64_t address)
{
	return address | VTDSS_R | VTDSS_W;
}

static uint64_t vtdss_make_leaf(const struct soft_env *env, unsigned int level, unsigned int shift,
				uint64_t address, uint32_t prot, bool snoop)
{
	return address | (prot & SHIM_READ ? VTDSS_R : 0) | (prot & SHIM_WRITE ? VTDSS_W : 0) |
	       (level > 1 ? VTDSS_PS : 0) | (snoop ? VTDSS_SNP : 0);
}

static const struct soft_field fields[] = {
	{"R", VTDSS_R, SOFT_IN_BOTH},
	{"W", VTDSS_W, SOFT_IN_BOTH},
	{"X", 1ull << 2, SOFT_IN_BOTH},
	{"EMT", 7ull << 3, SOFT_IN_LEAF},
	{"IPAT", 1ull << 6, SOFT_IN_LEAF},
	{"PS", VTDSS_PS, SOFT_IN_BOTH},
	{"A", VTDSS_A, SOFT_IN_BOTH},
	{"D", VTDSS_D, SOFT_IN_LEAF},
	{"SNP", VTDSS_SNP, SOFT_IN_BOTH},
	{"TM", VTDSS_TM, SOFT_IN_BOTH},
	{0},
};

#define VTDSS_COMMON                                                                               \
	.granule = 12, .accessed = VTDSS_A, .snoop_in_leaf = true,                                 \
	.page_sizes = (1ull << 12) | (1ull << 21) | (1ull << 30), .fields = fields,                \
	.decode = vtdss_decode, .use = vtdss_use, .is_dirty = vtdss_is_dirty,                      \
	.set_dirty = vtdss_set_dirty, .make_table = vtdss_make_table, .make_leaf = vtdss_make_leaf

const struct soft_format soft_format_vtdss_3l = {
	.id = SHIM_FORMAT_VTDSS_3L,
	.name = "vtdss-3l",
	.levels = 3,
	.input_bits = 39,
	VTDSS_COMMON,
};

const struct soft_format soft_format_vtdss_4l = {
	.id = SHIM_FORMAT_VTDSS_4L,
	.name = "vtdss-4l",
	.levels = 4,
	.input_bits = 48,
	VTDSS_COMMON,
};

const struct soft_format soft_format_vtdss_5l = {
	.id = SHIM_FORMAT_VTDSS_5L,
	.name = "vtdss-5l",
	.levels = 5,
	.input_bits = 57,
	VTDSS_COMMON,
};
