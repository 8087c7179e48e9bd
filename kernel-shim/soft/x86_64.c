/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Intel 64 4- and 5-level paging (SDM vol 3, 4.5), which VT-d uses as first stage
 * (VT-d spec 9.7) and AMD as v2.
 *
 *	bit 0 P, 1 R/W, 2 U/S, 5 A, 6 D, 7 PS (2M, 1G leaves), 51:12 address, 63 XD.
 *
 * P implies read.  R/W, U/S and not-XD are ANDed over the walk.  Reserved: PS at levels 4
 * and 5; in large leaves the address bits below the page size, save bit 12, which is PAT;
 * address bits from the output width to 51.  Bits 62:52 are ignored.  A and D are kept for
 * every table (VT-d spec 3.6, SDM vol 3, 4.8) where the IOMMU keeps any.
 *
 * What is built here has A set, and D where writable, so that a walk need not set them; for a
 * table whose dirty pages are tracked build.c leaves D out.
 */

#include "soft/format.h"

#define X86_P	 (1ull << 0)
#define X86_RW	 (1ull << 1)
#define X86_US	 (1ull << 2)
#define X86_A	 (1ull << 5)
#define X86_D	 (1ull << 6)
#define X86_PS	 (1ull << 7)
#define X86_EA	 (1ull << 10) /* VT-d first stage, where the table asks for it */
#define X86_XD	 (1ull << 63)
#define X86_ADDR 0x000ffffffffff000ull

static void x86_64_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
			  struct soft_entry *ret)
{
	unsigned int shift = SOFT_PAGE_SHIFT + 9 * (level - 1);
	uint64_t reserved = 0;

	*ret = (struct soft_entry){.level = (uint8_t)(level - 1)};
	if (!(entry & X86_P)) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	if (level == 1 || (level <= 3 && (entry & X86_PS))) {
		ret->kind = SOFT_ENTRY_LEAF;
		ret->shift = ret->group = (uint8_t)shift;
		ret->address = entry & X86_ADDR & ~((1ull << shift) - 1);
		reserved = soft_bits(13, shift);
	} else {
		ret->kind = SOFT_ENTRY_TABLE;
		ret->address = entry & X86_ADDR;
		if (level >= 4)
			reserved = X86_PS;
	}
	ret->prot = SHIM_READ | (entry & X86_RW ? SHIM_WRITE : 0) |
		    (entry & X86_XD ? 0 : SHIM_EXEC) | (entry & X86_US ? SOFT_USER : 0);
	if (entry & reserved)
		ret->kind = SOFT_ENTRY_RESERVED;
	else if (entry & soft_bits(env->output_bits, 52))
		ret->kind = SOFT_ENTRY_WIDTH;
}

static uint64_t x86_64_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	return entry | X86_A | (leaf && access & SHIM_WRITE ? X86_D : 0);
}

static bool x86_64_is_dirty(uint64_t entry)
{
	return entry & X86_D;
}

static uint64_t x86_64_set_dirty(uint64_t entry, bool dirty)
{
	return dirty ? entry | X86_D : entry & ~X86_D;
}

static uint64_t x86_64_make_table(const struct soft_env *env, unsigned int level, uint64_t address)
{
	return address | X86_P | X86_RW | X86_US | X86_A;
}

static uint64_t x86_64_make_leaf(const struct soft_env *env, unsigned int level, unsigned int shift,
				 uint64_t address, uint32_t prot, bool snoop)
{
	return address | X86_P | X86_US | X86_A | (prot & SHIM_WRITE ? X86_RW | X86_D : 0) |
	       (prot & SHIM_EXEC ? 0 : X86_XD) | (level > 1 ? X86_PS : 0);
}

static const struct soft_field fields[] = {
	{"P", X86_P, SOFT_IN_BOTH},	  {"RW", X86_RW, SOFT_IN_BOTH},
	{"US", X86_US, SOFT_IN_BOTH},	  {"PWT", 1ull << 3, SOFT_IN_BOTH},
	{"PCD", 1ull << 4, SOFT_IN_BOTH}, {"A", X86_A, SOFT_IN_BOTH},
	{"D", X86_D, SOFT_IN_LEAF},	  {"PS", X86_PS, SOFT_IN_BOTH},
	{"G", 1ull << 8, SOFT_IN_LEAF},	  {"PKEY", 0xfull << 59, SOFT_IN_LEAF},
	{"XD", X86_XD, SOFT_IN_BOTH},	  {0},
};

#define X86_64_COMMON                                                                              \
	.granule = 12, .input = SOFT_INPUT_CANONICAL, .accessed = X86_A, .extended = X86_EA,       \
	.always_access_dirty = true,                                                               \
	.table_flags =                                                                             \
		SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT | SHIM_TABLE_EXTENDED_ACCESS,     \
	.execute = true, .needs_read = SHIM_WRITE | SHIM_EXEC,                                     \
	.page_sizes = (1ull << 12) | (1ull << 21) | (1ull << 30), .fields = fields,                \
	.decode = x86_64_decode, .use = x86_64_use, .is_dirty = x86_64_is_dirty,                   \
	.set_dirty = x86_64_set_dirty, .make_table = x86_64_make_table,                            \
	.make_leaf = x86_64_make_leaf

const struct soft_format soft_format_x86_64_4l = {
	.id = SHIM_FORMAT_X86_64_4L,
	.name = "x86_64-4l",
	.levels = 4,
	.input_bits = 48,
	X86_64_COMMON,
};

const struct soft_format soft_format_x86_64_5l = {
	.id = SHIM_FORMAT_X86_64_5L,
	.name = "x86_64-5l",
	.levels = 5,
	.input_bits = 57,
	X86_64_COMMON,
};
