/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_FORMAT_H
#define IOASID_SOFT_FORMAT_H

/*
 * The contract of a page-table format: how one entry is read and how one is made.  A
 * format knows neither where tables lie nor how they are walked or built; walk.c and
 * build.c do that for all formats.  Adding a format is one file that defines a struct
 * soft_format for each of its sizes, and one line in format.c.
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

/* What depends on the IOMMU that reads an entry, not on the format. */
struct soft_env {
	uint8_t output_bits; /* width of physical addresses that it puts out, 32..52 */
	bool snoop_control;
	bool device_tlb;
	bool access_dirty; /* it can keep the accessed and dirty bits of entries */
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
	uint64_t address; /* TABLE: of the next table; LEAF: of the page */
};

struct soft_format {
	enum shim_format id;
	const char *name; /* "x86_64-4l" */
	uint8_t levels;
	uint8_t input_bits;
	/* Upper bits repeat the top input bit (x86-64 canonical form); else they are 0. */
	bool sign_extend;
	bool execute;
	/* Snooping is enforced by a bit of the leaf. */
	bool snoop_in_leaf;
	/*
	 * Bits that the IOMMU sets: in every entry that it uses; in a leaf that it writes
	 * through; and like the first where the table asks for extended access.
	 */
	uint64_t accessed, dirty, extended;
	/* They are kept for every table, not just for those that are made for it. */
	bool always_access_dirty;
	uint32_t table_flags; /* SHIM_TABLE_* that mean something here */
	/* Prots that a leaf cannot give without SHIM_READ. */
	uint32_t needs_read;
	uint64_t page_sizes; /* bit n: leaves of 2^n bytes */

	/* Level 1 is the lowest.  The entry is read once by the caller. */
	void (*decode)(const struct soft_env *env, unsigned int level, uint64_t entry,
		       struct soft_entry *ret);
	uint64_t (*make_table)(uint64_t address);
	/*
	 * A leaf of the level's natural size.  The entry of the next page is this one plus
	 * the size: the address field is linear in the entry.
	 */
	uint64_t (*make_leaf)(unsigned int level, uint64_t address, uint32_t prot, bool snoop);
};

#define SOFT_PAGE_SHIFT	   12
#define SOFT_PAGE_SIZE	   (1ull << SOFT_PAGE_SHIFT)
#define SOFT_INDEX_BITS	   9
#define SOFT_TABLE_ENTRIES (1u << SOFT_INDEX_BITS)
#define SOFT_LEVELS_MAX	   5

/* log2 of the bytes that one entry of a level maps. */
static inline unsigned int soft_level_shift(unsigned int level)
{
	return SOFT_PAGE_SHIFT + SOFT_INDEX_BITS * (level - 1);
}

static inline unsigned int soft_level_index(unsigned int level, uint64_t address)
{
	return (address >> soft_level_shift(level)) & (SOFT_TABLE_ENTRIES - 1);
}

/* Bits [low, high) set; high <= 63. */
static inline uint64_t soft_bits(unsigned int low, unsigned int high)
{
	return high > low ? ((1ull << high) - 1) & ~((1ull << low) - 1) : 0;
}

/*
 * Whether an address is one of the format's, narrowed to input_bits (<= the format's):
 * NONE, NON_CANONICAL or ADDRESS_WIDTH.  A narrowed canonical format keeps the lower part.
 */
static inline enum shim_fault_cause soft_format_check_input(const struct soft_format *format,
							    unsigned int input_bits,
							    uint64_t address)
{
	if (format->sign_extend) {
		int64_t top = (int64_t)address >> (format->input_bits - 1);

		if (top != 0 && top != -1)
			return SHIM_FAULT_NON_CANONICAL;
		if (input_bits == format->input_bits)
			return SHIM_FAULT_NONE;
	}
	return address >> input_bits ? SHIM_FAULT_ADDRESS_WIDTH : SHIM_FAULT_NONE;
}

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

#endif
