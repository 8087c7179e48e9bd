/* SPDX-License-Identifier: Apache-2.0 */

/*
 * VT-d's registers decoded.  The values were printed by kernels, on hardware and in QEMU; what
 * they mean is known from elsewhere: the machines' data sheets and QEMU's command line.
 */

#include "iommufd/vtd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define K4 (UINT64_C(1) << 12)
#define M2 (UINT64_C(1) << 21)
#define G1 (UINT64_C(1) << 30)

struct vector {
	const char *origin;
	uint64_t cap, ecap;
	struct vtd_abilities expected;
	/* The formats offered, in order. */
	struct {
		enum shim_format format;
		uint8_t bits;
		uint64_t pages;
	} formats[3];
};

static const struct vector vectors[] = {
	{
		.origin = "QEMU 7.2, -device intel-iommu,intremap=on,caching-mode=on",
		.cap = 0xd2008c22260286,
		.ecap = 0xf00f4a,
		.expected = {.second_stage_levels = 3,
			     .second_stage_bits = 39,
			     .address_bits = 39,
			     .second_stage_pages = K4 | M2 | G1},
		.formats = {{SHIM_FORMAT_VTDSS_3L, 39, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 39, K4 | M2 | G1}},
	},
	{
		.origin = "QEMU 7.2, the same with aw-bits=48: tables of 3 and of 4 levels",
		.cap = 0xd2008c222f0686,
		.ecap = 0xf00f4a,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 48,
			     .address_bits = 48,
			     .second_stage_pages = K4 | M2 | G1},
		.formats = {{SHIM_FORMAT_VTDSS_4L, 48, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 48, K4 | M2 | G1}},
	},
	{
		.origin = "QEMU 7.2, the first with x-scalable-mode=on: no first stage, no PASIDs",
		.cap = 0xd2008c22260286,
		.ecap = 0x480080f00f4a,
		.expected = {.second_stage_levels = 3,
			     .second_stage_bits = 39,
			     .address_bits = 39,
			     .second_stage_pages = K4 | M2 | G1,
			     .scalable = true,
			     .second_stage_scalable = true},
		.formats = {{SHIM_FORMAT_VTDSS_3L, 39, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 39, K4 | M2 | G1}},
	},
	{
		.origin = "QEMU 10.0, x-scalable-mode=on,x-flts=on: first stage, or legacy mode",
		.cap = 0x1d2008c222f0686,
		.ecap = 0x880000f00f4a,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 48,
			     .address_bits = 48,
			     .second_stage_pages = K4 | M2 | G1,
			     .first_stage_pages = K4 | M2 | G1,
			     .scalable = true,
			     .first_stage_possible = true},
		.formats = {{SHIM_FORMAT_KERNEL_CHOSEN, 47, K4 | M2 | G1}},
	},
	{
		/* Boot log: "DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap ... ecap ...". */
		.origin = "Core i5-7Y57, graphics: 4 levels, 39 bits used",
		.cap = 0x1c0000c40660462,
		.ecap = 0x19e2ff0505e,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 39,
			     .address_bits = 39,
			     .second_stage_pages = K4 | M2 | G1,
			     .device_tlb = true},
		.formats = {{SHIM_FORMAT_VTDSS_4L, 39, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 39, K4 | M2 | G1}},
	},
	{
		/* "dmar0: reg_base_addr fed90000 ver 1:0 cap c0000020660462 ecap f0101a". */
		.origin = "Core of the fourth generation, graphics: no large pages",
		.cap = 0xc0000020660462,
		.ecap = 0xf0101a,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 39,
			     .address_bits = 39,
			     .second_stage_pages = K4},
		.formats = {{SHIM_FORMAT_VTDSS_4L, 39, K4}, {SHIM_FORMAT_KERNEL_CHOSEN, 39, K4}},
	},
	{
		/* The same machine's dmar1. */
		.origin = "Core i5-7Y57, everything else",
		.cap = 0xd2008c40660462,
		.ecap = 0xf050da,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 39,
			     .address_bits = 39,
			     .second_stage_pages = K4 | M2 | G1,
			     .snoop_control = true},
		.formats = {{SHIM_FORMAT_VTDSS_4L, 39, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 39, K4 | M2 | G1}},
	},
	{
		/* "dmar0: reg_base_addr d37fc000 ver 1:0 cap ... ecap ...". */
		.origin = "Xeon Scalable, second generation",
		.cap = 0x8d2078c106f0466,
		.ecap = 0xf020df,
		.expected = {.second_stage_levels = 4,
			     .second_stage_bits = 48,
			     .address_bits = 48,
			     .second_stage_pages = K4 | M2 | G1,
			     .device_tlb = true,
			     .snoop_control = true},
		.formats = {{SHIM_FORMAT_VTDSS_4L, 48, K4 | M2 | G1},
			    {SHIM_FORMAT_KERNEL_CHOSEN, 48, K4 | M2 | G1}},
	},
	{
		/*
		 * "dmar0: reg_base_addr d97fc000 ver 6:0 cap ... ecap ...": Sapphire Rapids,
		 * the first with all of scalable mode, on a host that complains of having no
		 * PASIDs.
		 */
		.origin = "Xeon Scalable, fourth generation, PASIDs off",
		.cap = 0x19ed008c40780c66,
		.ecap = 0x3ee9e86f050df,
		.expected = {.second_stage_levels = 5,
			     .second_stage_bits = 57,
			     .address_bits = 57,
			     .second_stage_pages = K4 | M2 | G1,
			     .first_stage_pages = K4 | M2 | G1,
			     .scalable = true,
			     .second_stage_scalable = true,
			     .first_stage_possible = true,
			     .first_stage_5l = true,
			     .nesting = true,
			     .snoop_control = true,
			     .device_tlb = true,
			     .dirty = true},
		.formats = {{SHIM_FORMAT_KERNEL_CHOSEN, 47, K4 | M2 | G1}},
	},
	{
		.origin = "the same with bits 40 (PASID) and 29 (PRS) set, by the specification",
		.cap = 0x19ed008c40780c66,
		.ecap = 0x3ef9ea6f050df,
		.expected = {.second_stage_levels = 5,
			     .second_stage_bits = 57,
			     .address_bits = 57,
			     .second_stage_pages = K4 | M2 | G1,
			     .first_stage_pages = K4 | M2 | G1,
			     .scalable = true,
			     .second_stage_scalable = true,
			     .first_stage_possible = true,
			     .first_stage_5l = true,
			     .nesting = true,
			     .snoop_control = true,
			     .device_tlb = true,
			     .page_requests = true,
			     .dirty = true,
			     .pasid_bits = 20},
		.formats = {{SHIM_FORMAT_KERNEL_CHOSEN, 47, K4 | M2 | G1}},
	},
};
#define N_VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static void test_decode(void **state)
{
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vtd_abilities *e = &vectors[i].expected;
		struct vtd_abilities a;

		print_message("%s\n", vectors[i].origin);
		vtd_decode(vectors[i].cap, vectors[i].ecap, &a);
		assert_int_equal(a.second_stage_levels, e->second_stage_levels);
		assert_int_equal(a.second_stage_bits, e->second_stage_bits);
		assert_int_equal(a.address_bits, e->address_bits);
		assert_int_equal(a.second_stage_pages, e->second_stage_pages);
		assert_int_equal(a.first_stage_pages, e->first_stage_pages);
		assert_int_equal(a.scalable, e->scalable);
		assert_int_equal(a.first_stage_possible, e->first_stage_possible);
		assert_int_equal(a.second_stage_scalable, e->second_stage_scalable);
		assert_int_equal(a.first_stage_5l, e->first_stage_5l);
		assert_int_equal(a.nesting, e->nesting);
		assert_int_equal(a.snoop_control, e->snoop_control);
		assert_int_equal(a.device_tlb, e->device_tlb);
		assert_int_equal(a.page_requests, e->page_requests);
		assert_int_equal(a.dirty, e->dirty);
		assert_int_equal(a.pasid_bits, e->pasid_bits);
	}
}

static void test_formats(void **state)
{
	for (size_t i = 0; i < N_VECTORS; i++) {
		struct vtd_unit unit = {"dmar7", vectors[i].cap, vectors[i].ecap};
		struct shim_caps caps;
		size_t n = 0;

		vtd_caps(&unit, &caps);
		for (; n < 3 && vectors[i].formats[n].format; n++) {
			const struct shim_format_cap *cap = &caps.formats[n];

			assert_int_equal(cap->format, vectors[i].formats[n].format);
			assert_int_equal(cap->input_bits, vectors[i].formats[n].bits);
			assert_int_equal(cap->page_sizes, vectors[i].formats[n].pages);
			assert_false(cap->execute || cap->nest_child);
			assert_int_equal(cap->nest_parent, caps.max_depth > 1);
		}
		/* The tables of tenants come last; bit 26: NEST, bit 60: five levels. */
		if (caps.max_depth > 1) {
			assert_true(unit.ecap >> 26 & 1);
			assert_int_equal(caps.formats[n].format, SHIM_FORMAT_X86_64_4L);
			assert_int_equal(caps.formats[n].input_bits, 48);
			assert_true(caps.formats[n++].nest_child);
			if (unit.cap >> 60 & 1)
				assert_int_equal(caps.formats[n++].format, SHIM_FORMAT_X86_64_5L);
		}
		assert_int_equal(caps.n_formats, n);
		assert_string_equal(caps.kind_absent[SHIM_KIND_KERNEL], "");
	}
}

/* Kernels have differed in which of two sufficient tables they take. */
static void test_ambiguous_levels(void **state)
{
	/* SAGAW: 4 and 5 levels; MGAW 48. */
	struct vtd_unit unit = {"dmar0", 0xd2008c222f0c86, 0xf00f4a};
	struct shim_caps caps;

	vtd_caps(&unit, &caps);
	assert_int_equal(caps.n_formats, 1);
	assert_int_equal(caps.formats[0].format, SHIM_FORMAT_KERNEL_CHOSEN);
	assert_int_equal(caps.formats[0].input_bits, 48);
}

static void test_reasons(void **state)
{
	struct vtd_unit unit = {"dmar0", 0xd2008c22260286, 0xf00f4a};
	struct shim_caps caps;

	vtd_caps(&unit, &caps);
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_NESTING],
			    "VT-d ECAP.SMTS is 0 on dmar0");
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_SNOOP], "VT-d ECAP.SC is 0 on dmar0");
	unit.ecap = 0x480080f00f4a;
	vtd_caps(&unit, &caps);
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_NESTING],
			    "VT-d ECAP.NEST is 0 on dmar0");
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_PASID],
			    "VT-d ECAP.PASID is 0 on dmar0");
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_FAULTS],
			    "VT-d ECAP.PRS is 0 on dmar0");
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_DIRTY],
			    "VT-d ECAP.SSADS is 0 on dmar0");
	/* No table of any size: nothing is offered. */
	unit.cap &= ~UINT64_C(0x1f00);
	vtd_caps(&unit, &caps);
	assert_int_equal(caps.n_formats, 0);
	assert_string_equal(caps.kind_absent[SHIM_KIND_KERNEL], "VT-d CAP.SAGAW is 0 on dmar0");
}

/* Whatever the bits: no width of 0 or over 57, no table that is not one. */
static void test_any_registers(void **state)
{
	uint64_t x = 88172645463325252u;

	for (int i = 0; i < 100000; i++) {
		struct vtd_unit unit = {.name = "dmar0"};
		struct shim_caps caps;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		unit.cap = x;
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		unit.ecap = x;
		vtd_caps(&unit, &caps);
		assert_true(caps.n_formats <= 4);
		assert_true(caps.pasid_bits <= 20);
		for (size_t k = 0; k < caps.n_formats; k++) {
			assert_in_range(caps.formats[k].input_bits, 1, 57);
			assert_true(caps.formats[k].page_sizes & K4);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),		 cmocka_unit_test(test_formats),
		cmocka_unit_test(test_ambiguous_levels), cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_any_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
