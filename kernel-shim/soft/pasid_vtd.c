/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PASID tables of VT-d, scalable mode (VT-d spec 3.4.3, 9.5, 9.6).
 *
 *	directory	indexed by PASID 19:6; bit 0 P, 1 FPD, 51:12 address of a table
 *	table		indexed by PASID 5:0; 64 bytes:
 *		qword 0	bit 0 P, 1 FPD, 8:6 PGTT (1 first stage, 3 nested)
 *		qword 2	bit 0 SRE, 3:2 FSPM (0: 4 levels, 1: 5), 4 WPE, 7 EAFE,
 *			63:12 FSPTPTR
 *
 * The parent takes the place of what an entry says of a second stage: SSPTPTR, AW, the domain
 * id and the rest are not looked at.
 */

#include "soft/pasidtable.h"

#include <stdio.h>

#define PASID_TABLE_BITS 6

#define DIR_P	     (1ull << 0)
#define DIR_RESERVED (soft_bits(2, 12) | soft_bits(52, 64))

#define ENTRY_BYTES    64
#define ENTRY_P	       (1ull << 0)
#define ENTRY_PGTT(q)  ((q) >> 6 & 7)
#define PGTT_FIRST     1
#define PGTT_NESTED    3
#define ENTRY_SRE      (1ull << 0)
#define ENTRY_FSPM(q)  ((q) >> 2 & 3)
#define ENTRY_WPE      (1ull << 4)
#define ENTRY_EAFE     (1ull << 7)
#define ENTRY_RESERVED soft_bits(8, 12)

static bool suits(enum shim_format format, char *ret_reason)
{
	if (format == SHIM_FORMAT_X86_64_4L || format == SHIM_FORMAT_X86_64_5L)
		return true;
	snprintf(ret_reason, SHIM_REASON_MAX,
		 "the entries of VT-d's PASID table lead to x86-64 "
		 "tables");
	return false;
}

static uint64_t root_bytes(const struct shim_pasid_table *table, char *ret_reason)
{
	uint64_t bytes = SOFT_PAGE_SIZE;

	if (table->shape) {
		snprintf(ret_reason, SHIM_REASON_MAX, "VT-d's PASID tables have one shape, 0");
		return 0;
	}
	while (bytes < sizeof(uint64_t) << table->pasid_bits >> PASID_TABLE_BITS)
		bytes *= 2;
	return bytes;
}

static bool find(const struct soft_pasid_lookup *l, uint32_t pasid,
		 struct soft_pasid_entry *ret_entry)
{
	uint64_t dir, at, first, third, unused;

	if (!soft_pasid_read(l, l->stages->root + (pasid >> PASID_TABLE_BITS) * sizeof(dir), &dir))
		return false;
	if (!(dir & DIR_P))
		return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, dir);
	if (dir & DIR_RESERVED)
		return soft_pasid_fail(l, SHIM_FAULT_RESERVED_BITS, dir);
	if (!soft_pasid_address(l, dir, soft_bits(12, 52), &at))
		return false;
	at += (pasid & ((1u << PASID_TABLE_BITS) - 1)) * ENTRY_BYTES;
	if (!soft_pasid_read(l, at, &first))
		return false;
	if (!(first & ENTRY_P))
		return soft_pasid_fail(l, SHIM_FAULT_NOT_ATTACHED, first);
	if (ENTRY_PGTT(first) != PGTT_FIRST && ENTRY_PGTT(first) != PGTT_NESTED)
		return soft_pasid_fail(l, SHIM_FAULT_BAD_ENTRY, first);
	if (!soft_pasid_read(l, at + 2 * sizeof(third), &third))
		return false;
	if (third & ENTRY_RESERVED)
		return soft_pasid_fail(l, SHIM_FAULT_RESERVED_BITS, third);
	if (ENTRY_FSPM(third) > 1)
		return soft_pasid_fail(l, SHIM_FAULT_BAD_ENTRY, third);
	if (!soft_pasid_address(l, third, soft_bits(12, 64), &unused))
		return false;
	*ret_entry = (struct soft_pasid_entry){.words = {first, third}};
	return true;
}

static enum shim_fault_cause apply(const struct soft_pasid_entry *entry, enum shim_format format,
				   uint64_t iova, struct soft_stage *stage)
{
	uint64_t third = entry->words[1];

	stage->format = ENTRY_FSPM(third) ? &soft_format_x86_64_5l : &soft_format_x86_64_4l;
	(void)soft_shape_init(stage->format, &(struct soft_shape_spec){0}, NULL, &stage->shape);
	stage->root = third & soft_bits(12, 52);
	stage->flags = (third & ENTRY_SRE ? SHIM_TABLE_SUPERVISOR : 0) |
		       (third & ENTRY_WPE ? SHIM_TABLE_WRITE_PROTECT : 0) |
		       (third & ENTRY_EAFE ? SHIM_TABLE_EXTENDED_ACCESS : 0);
	return SHIM_FAULT_NONE;
}

const struct soft_pasid_format soft_pasid_vtd = {
	.id = SHIM_PASID_VTD,
	.suits = suits,
	.root_bytes = root_bytes,
	.find = find,
	.apply = apply,
};
