/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_FORMAT_H
#define IOASID_SOFT_FORMAT_H

/*
 * The contract of a page-table format: how one entry is read and how one is made.  A
 * format knows neither where tables lie nor how they are walked or built; walk.c and
 * build.c do that for all formats.  Adding a format is one file that defines a struct
 * soft_format for each of its sizes, and one line in format.c.
 *
 * Levels are counted from the leaves: level 1 holds the smallest pages, whatever an
 * architecture calls it (ARM's level 3, RISC-V's level 0).  Entries have 8 bytes.
 *
 * Formats are constant data and pure functions: any thread, no lock.
 */

#include "shim.h"

/*
 * Beside SHIM_READ, SHIM_WRITE and SHIM_EXEC, in the permissions of an entry and in the
 * access asked for: the request is unprivileged.  Formats without privilege grant it
 * always.  DMA without a privileged-mode request is unprivileged.
 */
#define SOFT_USER (1u << 8)
/*
 * In the permissions of an entry only; the walk asks for them in place of what the request
 * says.  Executing, privileged, where a format tells it apart from SHIM_EXEC (ARM), which then
 * is the unprivileged's, whether or not they have SOFT_USER to read; and privileged use at all,
 * where a page can be the unprivileged's alone (RISC-V).
 */
#define SOFT_PRIVILEGED_EXEC (1u << 9)
#define SOFT_PRIVILEGED	     (1u << 10)
#define SOFT_PROT_ALL                                                                              \
	(SHIM_READ | SHIM_WRITE | SHIM_EXEC | SOFT_USER | SOFT_PRIVILEGED_EXEC | SOFT_PRIVILEGED)

/* What depends on the IOMMU that reads an entry, not on the format. */
struct soft_env {
	uint8_t output_bits; /* width of physical addresses that it puts out, 32..56 */
	bool snoop_control;
	bool device_tlb;
	/* It keeps the accessed and dirty bits of the entries of this table. */
	bool access_dirty;
	bool lpa2; /* ARM, granules of 4K and 16K: descriptors of FEAT_LPA2 (TCR.DS) */
};

enum soft_entry_kind {
	SOFT_ENTRY_EMPTY,
	SOFT_ENTRY_TABLE,
	SOFT_ENTRY_LEAF,
	/* A reserved bit is set. */
	SOFT_ENTRY_RESERVED,
	/* The address has bits beyond the output width. */
	SOFT_ENTRY_WIDTH,
};

struct soft_entry {
	enum soft_entry_kind kind;
	uint32_t prot;	  /* what this entry allows; ANDed over the walk */
	uint64_t address; /* TABLE: of the next table; LEAF: of the page, aligned to its size */
	uint8_t level;	  /* TABLE: of the next table, below this one */
	uint8_t shift;	  /* LEAF: the page has 2^shift bytes */
	/*
	 * LEAF: it is one of a group of entries that map 2^group bytes together and are made
	 * and taken out together; = shift, or more where each entry of the group translates
	 * only its own part (ARM's contiguous bit).
	 */
	uint8_t group;
};

/* What the bits of an entry above the input width must be. */
enum soft_input {
	SOFT_INPUT_ZERO,      /* 0 */
	SOFT_INPUT_CANONICAL, /* copies of the top input bit (x86-64, RISC-V) */
	SOFT_INPUT_HALVES,    /* ARM stage 1: 0, or 1 in the table of the upper half */
};

/* One bit or field of an entry, for people. */
struct soft_field {
	const char *name;
	uint64_t mask;
	uint8_t where; /* SOFT_IN_* */
};
#define SOFT_IN_TABLE (1u << 0)
#define SOFT_IN_LEAF  (1u << 1)
#define SOFT_IN_BOTH  (SOFT_IN_TABLE | SOFT_IN_LEAF)

struct soft_format {
	enum shim_format id;
	const char *name;  /* "x86_64-4l" */
	const char *alias; /* as the API spells it, where that is different; NULL */
	uint8_t levels;	   /* for input_bits */
	uint8_t input_bits;
	uint8_t granule;    /* 2^granule bytes in a table, and in the smallest page */
	uint8_t root_extra; /* index bits that the root has beyond the others' (RISC-V x4: 2) */
	/*
	 * ARM: the input width chooses the levels, and the root may have fewer entries than
	 * other tables; in stage 2 the root may be up to 2^concatenated tables.  Widths up to
	 * input_bits_max need descriptors of 52 bits.  0 of all: the levels are fixed, and a
	 * narrower input leaves the upper part of the root unused.
	 */
	uint8_t input_bits_min, input_bits_max;
	uint8_t concatenated;
	enum soft_input input;
	bool execute;
	/* Snooping is enforced by a bit of the leaf. */
	bool snoop_in_leaf;
	/* SOFT_PRIVILEGED_EXEC, SOFT_PRIVILEGED mean something in its entries. */
	bool tells_privileged_exec, tells_privileged;
	/* What the unprivileged can write by all entries of the walk, the privileged never execute.
	 */
	bool guards_privileged_exec;
	/*
	 * The accessed bit of leaves: a mask, 0: there is none.  faults_unused: where nobody sets
	 * it, a leaf without it is a fault (ARM, RISC-V).
	 */
	uint64_t accessed;
	bool faults_unused;
	/*
	 * What is not permitted is told before that, and before reserved bits of a leaf, for
	 * which decode() then says what the leaf would allow (RISC-V).
	 */
	bool permission_first;
	/* Accessed and dirty bits are kept for every table, not just for those made for it. */
	bool always_access_dirty;
	uint64_t extended;    /* set on use, where the table asks for extended access */
	uint32_t table_flags; /* SHIM_TABLE_* that mean something here */
	/* Prots that a leaf cannot give without SHIM_READ. */
	uint32_t needs_read;
	/*
	 * Bit n: leaves of 2^n bytes.  Such a leaf stands at the highest level whose own page is
	 * not larger, in as many consecutive entries as it takes.
	 */
	uint64_t page_sizes;
	const struct soft_field *fields; /* ends with a mask of 0 */

	/* The entry is read once by the caller.  Sets all of *ret that its kind has. */
	void (*decode)(const struct soft_env *env, unsigned int level, uint64_t entry,
		       struct soft_entry *ret);
	/*
	 * What the entry is after a use that it allows, where such bits are kept; access: as
	 * asked, 0: on the way to a leaf (TABLE) or nothing but a look.  NULL: the same.
	 */
	uint64_t (*use)(unsigned int level, bool leaf, uint64_t entry, uint32_t access);
	/* Of a leaf.  NULL: no dirty bit. */
	bool (*is_dirty)(uint64_t entry);
	/* The leaf, with that changed: it can still be written through. */
	uint64_t (*set_dirty)(uint64_t entry, bool dirty);

	uint64_t (*make_table)(const struct soft_env *env, unsigned int level, uint64_t address);
	/*
	 * The entry of a leaf of 2^shift bytes; where such bits are kept for every table, accessed,
	 * and dirty if it can be written.
	 * Of several entries for one leaf: the one whose own part begins at address, which
	 * where each entry translates the whole leaf is the same for all.  output_bits of the
	 * environment is not looked at.
	 */
	uint64_t (*make_leaf)(const struct soft_env *env, unsigned int level, unsigned int shift,
			      uint64_t address, uint32_t prot, bool snoop);
};

#define SOFT_PAGE_SHIFT 12
#define SOFT_PAGE_SIZE	(1ull << SOFT_PAGE_SHIFT)
#define SOFT_LEVELS_MAX 6

/* Bits [low, high) set; high <= 64. */
static inline uint64_t soft_bits(unsigned int low, unsigned int high)
{
	if (high <= low)
		return 0;
	return (high == 64 ? UINT64_MAX : (1ull << high) - 1) & ~((1ull << low) - 1);
}

/* log2 of the entries of a table, but for the root. */
static inline unsigned int soft_format_stride(const struct soft_format *format)
{
	return format->granule - 3u;
}

/* log2 of the bytes that one entry of a level maps. */
static inline unsigned int soft_format_shift(const struct soft_format *format, unsigned int level)
{
	return format->granule + soft_format_stride(format) * (level - 1);
}

/* ---- shape ---- */

/* What is not the format's alone: how wide one table's input is. */
struct soft_shape {
	uint8_t levels; /* the root's level */
	uint8_t input_bits;
	uint8_t root_bits; /* log2 of the root's entries */
	bool upper;	   /* the bits above the input width are 1 (ARM TTBR1) */
	bool top_byte_ignored;
};

struct soft_shape_spec {
	uint8_t input_bits; /* 0: the format's */
	uint8_t levels;	    /* ARM stage 2; 0: the fewest without concatenated tables */
	bool upper, top_byte_ignored, lpa2;
};

/* INCOMPATIBLE: ret_reason, NULL or SHIM_REASON_MAX bytes, says why. */
int soft_shape_init(const struct soft_format *format, const struct soft_shape_spec *spec,
		    char *ret_reason, struct soft_shape *ret);

/*
 * Whether a table of this width (of a format, or none) has descriptors of FEAT_LPA2: where it
 * is needed for the width, and nowhere else.  (An IOMMU has a bit for it in each table's
 * context, and may use it for narrower ones, too, whose addresses then could be wider.)
 */
static inline bool soft_format_is_lpa2(const struct soft_format *format, unsigned int input_bits)
{
	return format && format->input_bits_max && format->granule < 16 &&
	       input_bits > format->input_bits;
}

/* Bytes that the root takes, to which it is aligned (ARM: to 64 at least). */
static inline uint64_t soft_shape_root_bytes(const struct soft_shape *shape)
{
	uint64_t bytes = 8ull << shape->root_bits;

	return bytes < 64 ? 64 : bytes;
}

/* The index of an address in the table of this level. */
static inline unsigned int soft_shape_index(const struct soft_format *format,
					    const struct soft_shape *shape, unsigned int level,
					    uint64_t address)
{
	unsigned int bits = level == shape->levels ? shape->root_bits : soft_format_stride(format);

	return (unsigned int)(address >> soft_format_shift(format, level)) & ((1u << bits) - 1);
}

/*
 * Whether an address is one of the table's: NONE, NON_CANONICAL or ADDRESS_WIDTH.  A narrowed
 * canonical format keeps the lower part.
 */
static inline enum shim_fault_cause soft_shape_check_input(const struct soft_format *format,
							   const struct soft_shape *shape,
							   uint64_t address)
{
	if (shape->top_byte_ignored)
		address = (uint64_t)((int64_t)(address << 8) >> 8);
	if (format->input == SOFT_INPUT_CANONICAL) {
		int64_t top = (int64_t)address >> (format->input_bits - 1);

		if (top != 0 && top != -1)
			return SHIM_FAULT_NON_CANONICAL;
		if (shape->input_bits == format->input_bits)
			return SHIM_FAULT_NONE;
	}
	if (shape->upper)
		address = ~address;
	return shape->input_bits < 64 && address >> shape->input_bits ? SHIM_FAULT_ADDRESS_WIDTH
								      : SHIM_FAULT_NONE;
}

/* Whether the address is the one that caches name it by: its ignored top byte is as it should be.
 */
static inline bool soft_shape_is_plain(const struct soft_shape *shape, uint64_t address)
{
	return !shape->top_byte_ignored || (uint64_t)((int64_t)(address << 8) >> 8) == address;
}

/* ---- the list ---- */

/* NULL: not built here. */
const struct soft_format *soft_format_find(enum shim_format id);
const struct soft_format *soft_format_by_name(const char *name, size_t length);
/* Every format, in order of preference; NULL: index out of range. */
const struct soft_format *soft_format_at(size_t index);

extern const struct soft_format soft_format_x86_64_4l;
extern const struct soft_format soft_format_x86_64_5l;
extern const struct soft_format soft_format_vtdss_3l;
extern const struct soft_format soft_format_vtdss_4l;
extern const struct soft_format soft_format_vtdss_5l;
extern const struct soft_format soft_format_ept_4l;
extern const struct soft_format soft_format_ept_5l;
extern const struct soft_format soft_format_armv8_s1_4k;
extern const struct soft_format soft_format_armv8_s1_16k;
extern const struct soft_format soft_format_armv8_s1_64k;
extern const struct soft_format soft_format_armv8_s2_4k;
extern const struct soft_format soft_format_armv8_s2_16k;
extern const struct soft_format soft_format_armv8_s2_64k;
extern const struct soft_format soft_format_amdv1_1;
extern const struct soft_format soft_format_amdv1_2;
extern const struct soft_format soft_format_amdv1_3;
extern const struct soft_format soft_format_amdv1_4;
extern const struct soft_format soft_format_amdv1_5;
extern const struct soft_format soft_format_amdv1_6;
extern const struct soft_format soft_format_sv39;
extern const struct soft_format soft_format_sv48;
extern const struct soft_format soft_format_sv57;
extern const struct soft_format soft_format_sv39x4;
extern const struct soft_format soft_format_sv48x4;
extern const struct soft_format soft_format_sv57x4;

#endif
