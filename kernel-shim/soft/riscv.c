/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RISC-V Sv39, Sv48 and Sv57, and the G-stage's Sv39x4, Sv48x4 and Sv57x4 (privileged spec 12.3
 * to 12.6, the chapters on Svnapot, Svpbmt and the hypervisor extension, as the IOMMU walks them).
 * The architecture counts levels from 0, which is 1 here.
 *
 *	bit 0 V, 1 R, 2 W, 3 X, 4 U, 5 G, 6 A, 7 D, 9:8 RSW, 53:10 PPN, 62:61 PBMT, 63 N.
 *
 * An entry with R or X is a page, else it leads to a table; both may stand at any level, but
 * tables not at the lowest.  The PPN gives an address of 56 bits.  N at the lowest level makes
 * 64 KiB of it: 16 equal entries, whose PPN ends in 1000b.
 *
 * Only the page has permissions.  Writing needs reading.  In the first stage U makes it the
 * unprivileged's, and theirs alone: SUM is not asked for.  To the G-stage every access is
 * unprivileged, so that a page without U allows none.
 *
 * The order of checks is that of the reference model (riscv-non-isa/riscv-iommu): encodings
 * that are reserved, then the output width, then permissions, then the alignment of large pages
 * and of N, then A and D.  Reserved: W without R, bits 60:54, PBMT 3, N above the lowest level,
 * and in what leads to a table PBMT, A, D and U, and R = X = 0 at the lowest level.  The
 * IOMMU has Svnapot and Svpbmt, and not Svrsw60t59b.  Older states of the model do not look
 * at A, D and U there; the privileged spec has them reserved.
 *
 * A and D are kept for every first-stage table where the IOMMU keeps any (DC.tc.SADE), and in
 * the G-stage's where dirty tracking was asked for (GADE); else a page without A, or a write
 * without D, is a fault.  So what is built here has both.
 */

#include "soft/format.h"

#define RISCV_V	       (1ull << 0)
#define RISCV_R	       (1ull << 1)
#define RISCV_W	       (1ull << 2)
#define RISCV_X	       (1ull << 3)
#define RISCV_U	       (1ull << 4)
#define RISCV_G	       (1ull << 5)
#define RISCV_A	       (1ull << 6)
#define RISCV_D	       (1ull << 7)
#define RISCV_RSW      (3ull << 8)
#define RISCV_PPN      0x003ffffffffffc00ull
#define RISCV_RESERVED (0x7full << 54)
#define RISCV_PBMT     (3ull << 61)
#define RISCV_N	       (1ull << 63)

/* From the PPN's place to the address's. */
#define PPN_SHIFT    2
#define ADDRESS_BITS 56

#define NAPOT_SHIFT 16
#define NAPOT_MASK  (0xfull << SOFT_PAGE_SHIFT)
#define NAPOT_64K   (0x8ull << SOFT_PAGE_SHIFT)

/* Step 3 of the walk, and 4 for what leads to a table. */
static bool is_reserved(unsigned int level, uint64_t entry)
{
	uint64_t reserved = RISCV_RESERVED | (level > 1 ? RISCV_N : 0);

	if ((entry & (RISCV_R | RISCV_W)) == RISCV_W || (entry & RISCV_PBMT) == RISCV_PBMT)
		return true;
	if (!(entry & (RISCV_R | RISCV_X))) {
		reserved |= RISCV_PBMT | RISCV_A | RISCV_D | RISCV_U;
		if (level == 1)
			return true;
	}
	return entry & reserved;
}

static uint32_t prot_of(uint64_t entry)
{
	return (entry & RISCV_R ? SHIM_READ : 0) | (entry & RISCV_W ? SHIM_WRITE : 0) |
	       (entry & RISCV_X ? SHIM_EXEC : 0);
}

/* prot: that of a page. */
static void decode(const struct soft_env *env, unsigned int level, uint64_t entry, uint32_t prot,
		   struct soft_entry *ret)
{
	unsigned int shift = SOFT_PAGE_SHIFT + 9 * (level - 1);
	uint64_t address = (entry & RISCV_PPN) << PPN_SHIFT;

	*ret = (struct soft_entry){.level = (uint8_t)(level - 1), .prot = SOFT_PROT_ALL};
	if (!(entry & RISCV_V)) {
		ret->kind = SOFT_ENTRY_EMPTY;
		return;
	}
	if (is_reserved(level, entry)) {
		ret->kind = SOFT_ENTRY_RESERVED;
		return;
	}
	ret->address = address;
	if (address & soft_bits(env->output_bits, ADDRESS_BITS)) {
		ret->kind = SOFT_ENTRY_WIDTH;
		return;
	}
	if (!(entry & (RISCV_R | RISCV_X))) {
		ret->kind = SOFT_ENTRY_TABLE;
		return;
	}
	ret->kind = SOFT_ENTRY_LEAF;
	ret->prot = prot;
	/* The walk looks at the permissions first (permission_first). */
	if (address & soft_bits(SOFT_PAGE_SHIFT, shift))
		ret->kind = SOFT_ENTRY_RESERVED;
	if (entry & RISCV_N) {
		if ((address & NAPOT_MASK) != NAPOT_64K)
			ret->kind = SOFT_ENTRY_RESERVED;
		shift = NAPOT_SHIFT;
		ret->address = address & ~NAPOT_MASK;
	}
	ret->shift = ret->group = (uint8_t)shift;
}

static void sv_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
		      struct soft_entry *ret)
{
	decode(env, level, entry, prot_of(entry) | (entry & RISCV_U ? SOFT_USER : SOFT_PRIVILEGED),
	       ret);
}

static void g_decode(const struct soft_env *env, unsigned int level, uint64_t entry,
		     struct soft_entry *ret)
{
	decode(env, level, entry,
	       entry & RISCV_U ? prot_of(entry) | SOFT_USER | SOFT_PRIVILEGED : 0, ret);
}

/* What leads to a table has no such bits. */
static uint64_t riscv_use(unsigned int level, bool leaf, uint64_t entry, uint32_t access)
{
	return leaf ? entry | RISCV_A | (access & SHIM_WRITE ? RISCV_D : 0) : entry;
}

static bool riscv_is_dirty(uint64_t entry)
{
	return entry & RISCV_D;
}

static uint64_t riscv_set_dirty(uint64_t entry, bool dirty)
{
	return dirty ? entry | RISCV_D : entry & ~RISCV_D;
}

static uint64_t riscv_make_table(const struct soft_env *env, unsigned int level, uint64_t address)
{
	return address >> PPN_SHIFT | RISCV_V;
}

static uint64_t riscv_make_leaf(const struct soft_env *env, unsigned int level, unsigned int shift,
				uint64_t address, uint32_t prot, bool snoop)
{
	uint64_t entry = RISCV_V | RISCV_U | RISCV_A;

	address &= ~((1ull << shift) - 1);
	if (shift == NAPOT_SHIFT) {
		address |= NAPOT_64K;
		entry |= RISCV_N;
	}
	return entry | address >> PPN_SHIFT | (prot & SHIM_READ ? RISCV_R : 0) |
	       (prot & SHIM_WRITE ? RISCV_W | RISCV_D : 0) | (prot & SHIM_EXEC ? RISCV_X : 0);
}

static const struct soft_field fields[] = {
	{"V", RISCV_V, SOFT_IN_BOTH},	  {"R", RISCV_R, SOFT_IN_BOTH},
	{"W", RISCV_W, SOFT_IN_BOTH},	  {"X", RISCV_X, SOFT_IN_BOTH},
	{"U", RISCV_U, SOFT_IN_BOTH},	  {"G", RISCV_G, SOFT_IN_BOTH},
	{"A", RISCV_A, SOFT_IN_BOTH},	  {"D", RISCV_D, SOFT_IN_BOTH},
	{"RSW", RISCV_RSW, SOFT_IN_BOTH}, {"PBMT", RISCV_PBMT, SOFT_IN_BOTH},
	{"N", RISCV_N, SOFT_IN_BOTH},	  {0},
};

#define SIZES_3 ((1ull << 12) | (1ull << NAPOT_SHIFT) | (1ull << 21) | (1ull << 30))
#define SIZES_4 (SIZES_3 | (1ull << 39))
#define SIZES_5 (SIZES_4 | (1ull << 48))

#define RISCV_COMMON                                                                               \
	.granule = SOFT_PAGE_SHIFT, .execute = true, .needs_read = SHIM_WRITE,                     \
	.accessed = RISCV_A, .faults_unused = true, .permission_first = true, .fields = fields,    \
	.use = riscv_use, .is_dirty = riscv_is_dirty, .set_dirty = riscv_set_dirty,                \
	.make_table = riscv_make_table, .make_leaf = riscv_make_leaf

#define SV(bits, n_levels)                                                                         \
	const struct soft_format soft_format_sv##bits = {                                          \
		.id = SHIM_FORMAT_SV##bits,                                                        \
		.name = "sv" #bits,                                                                \
		.levels = n_levels,                                                                \
		.input_bits = bits,                                                                \
		.input = SOFT_INPUT_CANONICAL,                                                     \
		.tells_privileged = true,                                                          \
		.always_access_dirty = true,                                                       \
		.page_sizes = SIZES_##n_levels,                                                    \
		.decode = sv_decode,                                                               \
		RISCV_COMMON,                                                                      \
	};                                                                                         \
	const struct soft_format soft_format_sv##bits##x4 = {                                      \
		.id = SHIM_FORMAT_SV##bits##X4,                                                    \
		.name = "sv" #bits "x4",                                                           \
		.levels = n_levels,                                                                \
		.input_bits = bits + 2,                                                            \
		.root_extra = 2,                                                                   \
		.page_sizes = SIZES_##n_levels,                                                    \
		.decode = g_decode,                                                                \
		RISCV_COMMON,                                                                      \
	}

SV(39, 3);
SV(48, 4);
SV(57, 5);
