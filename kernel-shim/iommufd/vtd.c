/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See vtd.h.  Fields by the Intel VT-d specification, Capability Register (CAP) and Extended
 * Capability Register (ECAP): sections 10.4.2 and 10.4.3 up to revision 3.x, 11.4.2 and 11.4.3
 * since.
 *
 * Which table is it?  The kernel chooses, and tells nobody.  In legacy mode only second-stage
 * tables exist.  In scalable mode the kernel takes first-stage tables where the unit has them.
 * Whether scalable mode is on cannot be seen without root.  So second stage is proven where
 * the unit has no scalable mode or no first stage in it; otherwise a table is "kernel-chosen",
 * with what both stages have in common.
 *
 * The levels are proven only if no smaller table of the unit would hold MGAW: kernels have
 * differed in whether they take the deepest table or the smallest that suffices.
 */

#include "iommufd/vtd.h"

#include <stdio.h>
#include <string.h>

#define K4 (UINT64_C(1) << 12)
#define M2 (UINT64_C(1) << 21)
#define G1 (UINT64_C(1) << 30)

/* Physical addresses in an entry are bits 51:12 (spec, 9.8); the host's width is not in CAP. */
#define OUTPUT_BITS 52

/* The lower half of a four-level first-stage space: addresses above are not canonical. */
#define FIRST_STAGE_BITS 47

static bool bit(uint64_t value, unsigned n)
{
	return value >> n & 1;
}

static unsigned field(uint64_t value, unsigned high, unsigned low)
{
	return (unsigned)(value >> low & ((UINT64_C(1) << (high - low + 1)) - 1));
}

static unsigned min_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* CAP.SAGAW: bit n set: tables of n + 2 levels; an address width of 30 + 9n. */
static unsigned width_of(unsigned agaw)
{
	return min_of(30 + 9 * agaw, 64);
}

static void decode_second_stage(uint64_t cap, struct vtd_abilities *a)
{
	unsigned sagaw = field(cap, 12, 8), mgaw = field(cap, 21, 16) + 1;
	unsigned deepest = 0, enough = 0;

	/* Bits 0 and 4 are reserved. */
	for (unsigned agaw = 1; agaw <= 3; agaw++) {
		if (!(sagaw & 1u << agaw))
			continue;
		deepest = agaw;
		if (!enough && width_of(agaw) >= mgaw)
			enough = agaw;
	}
	if (!deepest)
		return;
	a->second_stage_bits = (uint8_t)min_of(width_of(deepest), mgaw);
	if (!enough || enough == deepest)
		a->second_stage_levels = (uint8_t)(deepest + 2);
	/* CAP.SSLPS 37:34: bit 0 is 2 MiB, bit 1 is 1 GiB. */
	a->second_stage_pages = K4 | (bit(cap, 34) ? M2 : 0) | (bit(cap, 35) ? G1 : 0);
}

void vtd_decode(uint64_t cap, uint64_t ecap, struct vtd_abilities *ret)
{
	struct vtd_abilities a = {0};

	a.address_bits = (uint8_t)(field(cap, 21, 16) + 1);
	decode_second_stage(cap, &a);
	a.scalable = bit(ecap, 43);			       /* SMTS */
	a.second_stage_scalable = a.scalable && bit(ecap, 46); /* SSTS */
	a.first_stage_possible = a.scalable && bit(ecap, 47);  /* FSTS */
	a.first_stage_5l = a.first_stage_possible && bit(cap, 60);
	if (a.first_stage_possible)
		a.first_stage_pages = K4 | M2 | (bit(cap, 56) ? G1 : 0); /* FS1GP */
	a.device_tlb = bit(ecap, 2);
	a.snoop_control = bit(ecap, 7);
	a.nesting = a.scalable && bit(ecap, 26);
	a.page_requests = a.scalable && bit(ecap, 29);
	a.dirty = a.second_stage_scalable && bit(ecap, 45); /* SSADS */
	/* PSS 39:35: one less than the width, only with PASID. */
	if (a.scalable && bit(ecap, 40))
		a.pasid_bits = (uint8_t)min_of(field(ecap, 39, 35) + 1, 20);
	*ret = a;
}

#define ABSENT(caps, feature, ...)                                                                 \
	snprintf((caps)->feature_absent[feature], SHIM_REASON_MAX, __VA_ARGS__)

static void add_format(struct shim_caps *caps, enum shim_format format, unsigned bits,
		       uint64_t pages)
{
	caps->formats[caps->n_formats++] = (struct shim_format_cap){
		.format = format,
		.input_bits = (uint8_t)bits,
		.output_bits = OUTPUT_BITS,
		.page_sizes = pages,
	};
}

/* A tenant writes it; execute permission and accessed and dirty bits are as it says. */
static void add_child(struct shim_caps *caps, enum shim_format format, unsigned bits,
		      uint64_t pages)
{
	add_format(caps, format, bits, pages);
	caps->formats[caps->n_formats - 1].access_dirty = true;
	caps->formats[caps->n_formats - 1].nest_child = true;
	caps->formats[caps->n_formats - 1].tenant_only = true;
}

static void add_formats(const struct vtd_abilities *a, struct shim_caps *caps)
{
	static const enum shim_format by_levels[] = {
		[3] = SHIM_FORMAT_VTDSS_3L,
		[4] = SHIM_FORMAT_VTDSS_4L,
		[5] = SHIM_FORMAT_VTDSS_5L,
	};
	unsigned bits = a->second_stage_bits;
	uint64_t pages = a->second_stage_pages;

	if (!a->second_stage_bits && !a->first_stage_possible)
		return;
	/* What is proven comes first: a client without preference gets the better answer. */
	if (!a->first_stage_possible && a->second_stage_levels)
		add_format(caps, by_levels[a->second_stage_levels], bits, pages);
	if (a->first_stage_possible) {
		bits = min_of(bits ? bits : a->address_bits, FIRST_STAGE_BITS);
		pages = pages ? pages & a->first_stage_pages : a->first_stage_pages;
	}
	add_format(caps, SHIM_FORMAT_KERNEL_CHOSEN, bits, pages);
	if (!a->nesting)
		return;
	for (size_t i = 0; i < caps->n_formats; i++)
		caps->formats[i].nest_parent = true;
	add_child(caps, SHIM_FORMAT_X86_64_4L, 48, a->first_stage_pages);
	if (a->first_stage_5l)
		add_child(caps, SHIM_FORMAT_X86_64_5L, 57, a->first_stage_pages);
}

void vtd_caps(const struct vtd_unit *unit, struct shim_caps *ret_caps)
{
	struct shim_caps *caps = ret_caps;
	struct vtd_abilities a;

	vtd_decode(unit->cap, unit->ecap, &a);
	memset(caps, 0, sizeof(*caps));
	/* A tenant's table is of the first stage, its parent of the second. */
	a.nesting = a.nesting && a.first_stage_possible && a.second_stage_scalable;
	caps->max_depth = a.nesting ? 2 : 1;
	caps->recoverable_faults = a.page_requests;
	caps->dirty_tracking = a.dirty;
	caps->snoop_control = a.snoop_control;
	caps->device_tlb = a.device_tlb;
	caps->pasid_bits = a.pasid_bits;
	add_formats(&a, caps);
	if (!caps->n_formats)
		snprintf(caps->kind_absent[SHIM_KIND_KERNEL], SHIM_REASON_MAX,
			 "VT-d CAP.SAGAW is 0 on %s", unit->name);
	if (!a.snoop_control)
		ABSENT(caps, SHIM_FEATURE_SNOOP, "VT-d ECAP.SC is 0 on %s", unit->name);
	if (!a.pasid_bits)
		ABSENT(caps, SHIM_FEATURE_PASID, "VT-d ECAP.%s is 0 on %s",
		       a.scalable ? "PASID" : "SMTS", unit->name);
	if (!a.page_requests)
		ABSENT(caps, SHIM_FEATURE_FAULTS, "VT-d ECAP.%s is 0 on %s",
		       a.scalable ? "PRS" : "SMTS", unit->name);
	if (!a.dirty)
		ABSENT(caps, SHIM_FEATURE_DIRTY, "VT-d ECAP.%s is 0 on %s",
		       a.second_stage_scalable ? "SSADS"
		       : a.scalable	       ? "SSTS"
					       : "SMTS",
		       unit->name);
	if (!a.nesting)
		ABSENT(caps, SHIM_FEATURE_NESTING, "VT-d ECAP.%s is 0 on %s",
		       !a.scalable		 ? "SMTS"
		       : !bit(unit->ecap, 26)	 ? "NEST"
		       : !a.first_stage_possible ? "FSTS"
						 : "SSTS",
		       unit->name);
}
