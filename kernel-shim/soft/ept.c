/* SPDX-License-Identifier: Apache-2.0 */

/*
 * EPT, 4 and 5 levels (Intel SDM vol 3, 28.3): the tables of kind KVM, which vm.c fills.
 *
 *	bit 0 R, 1 W, 2 X, 5:3 memory type (leaves), 6 IPAT (leaves), 7 large page (levels 2,
 *	3), 51:12 address.
 *
 * There is no present bit: an entry with R = W = X = 0 is not present, whatever else it
 * holds.  R, W and X are ANDed over the walk.  What the SDM calls a misconfiguration is
 * "reserved" here: W or X without R (execute-only is not claimed), memory types 2, 3 and 7,
 * bits 6:3 in tables and 7 above level 3, in large leaves the address bits below the page
 * size.  Beyond the output width is told apart, as for every format.  Ignored: bits 11:8
 * (accessed and dirty among them, which EPTP bit 6 would switch on) and 63:52.
 *
 * Only one thing sets this format apart for an IOMMU: no bit enforces snooping.
 */

#include "soft/format.h"

#define EPT_R	 (1ull << 0)
#define EPT_W	 (1ull << 1)
#define EPT_X	 (1ull << 2)
#define EPT_TYPE (7ull << 3)
#define EPT_IPAT (1ull << 6)
#define EPT_PS	 (1ull << 7)
#define EPT_ADDR 0x000ffffffffff000ull

#define EPT_TYPE_WRITE_BACK (6ull << 3)

/* Types 2, 3 and 7 mean nothing (SDM vol 3, 28.3.3.1). */
static bool type_is_reserved(uint64_t entry)
{
	unsigned int type = (entry & EPT_TYPE) >> 3;

	return type == 2 || type == 3 || type == 7;
}

static void ept_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
		       struct soft_entry *ret)
{
	unsigned int shift = SOFT_PAGE_SHIFT + 9 * (level - 1);
	uint64_t reserved = EPT_TYPE | EPT_IPAT;
	bool wrong = !(entry & EPT_R);

	*ret = (struct soft_entry){.level = (uint8_t)(level - 1)};
	if (!(entry & (EPT_R | EPT_W | EPT_X))) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	if (level == 1 || (level <= 3 && (entry & EPT_PS))) {
		ret->kind = SOFT_ENTRY_LEAF;
		ret->shift = ret->group = (uint8_t)shift;
		ret->address = entry & EPT_ADDR & ~((1ull << shift) - 1);
		reserved = soft_bits(12, shift);
		wrong = wrong || type_is_reserved(entry);
	} else {
		ret->kind = SOFT_ENTRY_TABLE;
		ret->address = entry & EPT_ADDR;
		if (level >= 4)
			reserved |= EPT_PS;
	}
	ret->prot = (entry & EPT_R ? SHIM_READ : 0) | (entry & EPT_W ? SHIM_WRITE : 0) |
		    (entry & EPT_X ? SHIM_EXEC : 0) | SOFT_USER;
	if (wrong || entry & reserved)
		ret->kind = SOFT_ENTRY_RESERVED;
	else if (entry & soft_bits(env->output_bits, 52))
		ret->kind = SOFT_ENTRY_WIDTH;
}

static uint64_t ept_make_table(const struct soft_env *env, unsigned int level, uint64_t address)
{
	return address | EPT_R | EPT_W | EPT_X;
}

static uint64_t ept_make_leaf(const struct soft_env *env, unsigned int level, unsigned int shift,
			      uint64_t address, uint32_t prot, bool snoop)
{
	return address | (prot & SHIM_READ ? EPT_R : 0) | (prot & SHIM_WRITE ? EPT_W : 0) |
	       (prot & SHIM_EXEC ? EPT_X : 0) | (level > 1 ? EPT_PS : 0) | EPT_TYPE_WRITE_BACK;
}

static const struct soft_field fields[] = {
	{"R", EPT_R, SOFT_IN_BOTH},	  {"W", EPT_W, SOFT_IN_BOTH},
	{"X", EPT_X, SOFT_IN_BOTH},	  {"MT", EPT_TYPE, SOFT_IN_LEAF},
	{"IPAT", EPT_IPAT, SOFT_IN_LEAF}, {"PS", EPT_PS, SOFT_IN_BOTH},
	{"A", 1ull << 8, SOFT_IN_BOTH},	  {"D", 1ull << 9, SOFT_IN_LEAF},
	{"XU", 1ull << 10, SOFT_IN_BOTH}, {0},
};

#define EPT_COMMON                                                                                 \
	.granule = 12, .fields = fields, .execute = true, .needs_read = SHIM_WRITE | SHIM_EXEC,    \
	.page_sizes = (1ull << 12) | (1ull << 21) | (1ull << 30), .decode = ept_decode,            \
	.make_table = ept_make_table, .make_leaf = ept_make_leaf

const struct soft_format soft_format_ept_4l = {
	.id = SHIM_FORMAT_EPT_4L,
	.name = "ept-4l",
	.levels = 4,
	.input_bits = 48,
	EPT_COMMON,
};

const struct soft_format soft_format_ept_5l = {
	.id = SHIM_FORMAT_EPT_5L,
	.name = "ept-5l",
	.levels = 5,
	.input_bits = 57,
	EPT_COMMON,
};
