/* SPDX-License-Identifier: Apache-2.0 */

/* See nesting.h. */

#include "soft/nesting.h"

_Static_assert(_SHIM_FORMAT_MAX <= 32, "a bit for each format");

/* Ranges of formats, from the first to the last. */
static const struct {
	enum shim_format child, child_last;
	enum shim_format parent, parent_last;
} rules[] = {
	/*
	 * Intel (VT-d spec 3.8): the first stage on the second, and on EPT, where a VM's own table
	 * is shared.  Beyond that any of these tables on any other, to any depth, as the
	 * software IOMMU walks them all alike; but a VM's table hangs on nothing.
	 */
	{SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_VTDSS_5L, SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_EPT_5L},
	/* AMD (AMD IOMMU spec 2.2.6): guest tables, v2, on host tables, v1. */
	{SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_X86_64_5L, SHIM_FORMAT_AMDV1_1L, SHIM_FORMAT_AMDV1_6L},
	/* ARM (SMMUv3 spec 3.3): stage 1 on stage 2; granules need not be the same. */
	{SHIM_FORMAT_ARMV8_S1_4K, SHIM_FORMAT_ARMV8_S1_64K, SHIM_FORMAT_ARMV8_S2_4K,
	 SHIM_FORMAT_ARMV8_S2_64K},
	/* RISC-V (IOMMU spec, two-stage translation): the first stage on the G-stage. */
	{SHIM_FORMAT_SV39, SHIM_FORMAT_SV57, SHIM_FORMAT_SV39X4, SHIM_FORMAT_SV57X4},
};

uint32_t soft_nesting_parents(enum shim_format child)
{
	uint32_t parents = 0;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (child < rules[i].child || child > rules[i].child_last)
			continue;
		for (unsigned int n = rules[i].parent; n <= rules[i].parent_last; n++)
			parents |= 1u << n;
	}
	return parents;
}
