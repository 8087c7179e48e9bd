/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AMD v1: the I/O page tables for host translations, modes 1 to 6 (AMD IOMMU spec 2.2.3).  The
 * mode is the number of levels; a level here has the mode's number.
 *
 *	bit 0 PR, 5 A, 6 D, 11:9 NextLevel, 51:12 address, 59 U, 60 FC, 61 IR, 62 IW.
 *
 * NextLevel says what an entry is: 0, a page of the level's own size; 7, one of another size;
 * else a table of that level.  The size of a page with NextLevel 7 stands in its address: with
 * the first 0 from bit 12 on at bit k it has 2^(k+1) bytes, and bits k:12 are no address.  All
 * entries that it covers are the same, and each translates the whole page.  Above bit 51 the
 * address counts as 0.
 *
 * A table may be more than one level below; the address is then 0 in between (walk.c).
 *
 * IR and IW are ANDed over the walk; writing without reading is legal.  Of the input nothing is
 * sign-extended.  A and D are kept in tables made for dirty tracking (DTE.HAD).  A page is dirty
 * if any of its entries is.
 *
 * Where the manual is not at hand, and Linux (generic_pt/fmt/amdv1.h) and QEMU are silent or
 * take anything, the strict reading was taken.  Reserved: bits 58:52; a NextLevel that is not
 * below the entry's own level; a page at level 6, where Linux makes none; in a page of the
 * level's own size the address bits below it; an encoded size that is not the level's own to
 * 256 times that, for which there are not the entries.  U and FC of a table are ignored: Linux
 * leaves them out.  512 GiB is walked as any other size, but not built: Linux tells of hardware
 * that gets it wrong, and builds up to 2^51 bytes.
 */

#include "soft/format.h"

#define AMDV1_PR       (1ull << 0)
#define AMDV1_A	       (1ull << 5)
#define AMDV1_D	       (1ull << 6)
#define AMDV1_NEXT     (7ull << 9)
#define AMDV1_ADDR     0x000ffffffffff000ull
#define AMDV1_RESERVED (0x7full << 52)
#define AMDV1_U	       (1ull << 59)
#define AMDV1_FC       (1ull << 60)
#define AMDV1_IR       (1ull << 61)
#define AMDV1_IW       (1ull << 62)

#define NEXT_SHIFT 9
#define NEXT_OWN   0u /* a page of the level's size */
#define NEXT_SIZE  7u /* a page that says its size */

#define LEVEL_TABLES_ONLY 6

/* log2 of the size that stands in the address of a page. */
static unsigned int size_shift(uint64_t address)
{
	return 1u + (unsigned int)__builtin_ctzll(~(address | (SOFT_PAGE_SIZE - 1)));
}

static void amdv1_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
			 struct soft_entry *ret)
{
	unsigned int own = SOFT_PAGE_SHIFT + 9 * (level - 1), shift = own;
	unsigned int next = entry >> NEXT_SHIFT & 7;
	uint64_t reserved = AMDV1_RESERVED;
	bool wrong = false;

	*ret = (struct soft_entry){.level = (uint8_t)next};
	if (!(entry & AMDV1_PR)) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	if (next == NEXT_OWN || next == NEXT_SIZE) {
		ret->kind = SOFT_ENTRY_LEAF;
		if (next == NEXT_SIZE)
			shift = size_shift(entry & AMDV1_ADDR);
		else
			reserved |= soft_bits(SOFT_PAGE_SHIFT, own) & AMDV1_ADDR;
		ret->shift = ret->group = (uint8_t)shift;
		ret->address = entry & AMDV1_ADDR & ~((1ull << shift) - 1);
		wrong = shift < own || shift >= own + 9 || level == LEVEL_TABLES_ONLY;
	} else {
		ret->kind = SOFT_ENTRY_TABLE;
		ret->address = entry & AMDV1_ADDR;
		wrong = next >= level;
	}
	ret->prot = (entry & AMDV1_IR ? SHIM_READ : 0) | (entry & AMDV1_IW ? SHIM_WRITE : 0) |
		    SOFT_USER;
	if (wrong || entry & reserved)
		ret->kind = SOFT_ENTRY_RESERVED;
	else if (ret->address & soft_bits(env->output_bits, 52))
		ret->kind = SOFT_ENTRY_WIDTH;
}

static uint64_t amdv1_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	return entry | AMDV1_A | (leaf && access & SHIM_WRITE ? AMDV1_D : 0);
}

static bool amdv1_is_dirty(uint64_t entry)
{
	return entry & AMDV1_D;
}

static uint64_t amdv1_set_dirty(uint64_t entry, bool dirty)
{
	return dirty ? entry | AMDV1_D : entry & ~AMDV1_D;
}

static uint64_t amdv1_make_table(const struct soft_env *env, unsigned int level, uint64_t address)
{
	return address | (uint64_t)(level - 1) << NEXT_SHIFT | AMDV1_PR | AMDV1_IR | AMDV1_IW;
}

static uint64_t amdv1_make_leaf(const struct soft_env *env, unsigned int level, unsigned int shift,
				uint64_t address, uint32_t prot, bool snoop)
{
	uint64_t entry = address & ~((1ull << shift) - 1);

	if (shift != SOFT_PAGE_SHIFT + 9 * (level - 1))
		entry |= AMDV1_NEXT | soft_bits(SOFT_PAGE_SHIFT, shift - 1);
	return entry | AMDV1_PR | (prot & SHIM_READ ? AMDV1_IR : 0) |
	       (prot & SHIM_WRITE ? AMDV1_IW : 0) | (snoop ? AMDV1_FC : 0);
}

static const struct soft_field fields[] = {
	{"PR", AMDV1_PR, SOFT_IN_BOTH},
	{"A", AMDV1_A, SOFT_IN_BOTH},
	{"D", AMDV1_D, SOFT_IN_LEAF},
	{"NextLevel", AMDV1_NEXT, SOFT_IN_BOTH},
	{"U", AMDV1_U, SOFT_IN_LEAF},
	{"FC", AMDV1_FC, SOFT_IN_LEAF},
	{"IR", AMDV1_IR, SOFT_IN_BOTH},
	{"IW", AMDV1_IW, SOFT_IN_BOTH},
	{0},
};

/* Every power of two from 4 KiB to below a limit, but 512 GiB. */
#define SIZES_BELOW(limit) (((1ull << (limit)) - (1ull << 12)) & ~(1ull << 39))

#define AMDV1(mode, bits, sizes_below)                                                             \
	const struct soft_format soft_format_amdv1_##mode = {                                      \
		.id = SHIM_FORMAT_AMDV1_##mode##L,                                                 \
		.name = "amdv1-" #mode,                                                            \
		.alias = "amdv1-" #mode "l",                                                       \
		.levels = mode,                                                                    \
		.input_bits = bits,                                                                \
		.granule = SOFT_PAGE_SHIFT,                                                        \
		.accessed = AMDV1_A,                                                               \
		.snoop_in_leaf = true,                                                             \
		.page_sizes = SIZES_BELOW(sizes_below),                                            \
		.fields = fields,                                                                  \
		.decode = amdv1_decode,                                                            \
		.use = amdv1_use,                                                                  \
		.is_dirty = amdv1_is_dirty,                                                        \
		.set_dirty = amdv1_set_dirty,                                                      \
		.make_table = amdv1_make_table,                                                    \
		.make_leaf = amdv1_make_leaf,                                                      \
	}

AMDV1(1, 21, 21);
AMDV1(2, 30, 30);
AMDV1(3, 39, 39);
AMDV1(4, 48, 48);
AMDV1(5, 57, 52);
AMDV1(6, 64, 52);
