/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The words of smmuv3.c.  The registers are those that QEMU 10.0.2's SMMUv3 has, as Linux 7.3.4
 * told them in the guest; entries and commands are written down by hand from IHI 0070.
 */

#include "iommufd/smmuv3.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint32_t qemu[6] = {0x0d44101b, 0x02730010, 0, 0x1414, 0, 0x74};

static void test_decode(void **state)
{
	const uint32_t other[6] = {1u << 1 | 1u << 19, 20u << 6, 0, 0, 0, 6 | 1u << 6};
	struct smmuv3_abilities a;

	smmuv3_decode(qemu, &a);
	assert_true(a.both_stages && a.asid16 && !a.two_level_cds);
	assert_int_equal(a.ssid_bits, 0);
	assert_int_equal(a.output_bits, 44);
	assert_true(a.granules[0] && a.granules[1] && a.granules[2]);
	smmuv3_decode(other, &a);
	assert_true(!a.both_stages && !a.asid16 && a.two_level_cds);
	assert_int_equal(a.ssid_bits, 20);
	/* 52 bits are not claimed. */
	assert_int_equal(a.output_bits, 48);
	assert_true(!a.granules[0] && !a.granules[1] && a.granules[2]);
}

static void test_caps(void **state)
{
	struct smmuv3_abilities a;
	struct shim_caps caps;

	smmuv3_decode(qemu, &a);
	smmuv3_caps("smmu3.x", &a, "", &caps);
	assert_int_equal(caps.n_formats, 4);
	assert_int_equal(caps.formats[0].format, SHIM_FORMAT_KERNEL_CHOSEN);
	assert_true(caps.formats[0].nest_parent && !caps.formats[0].nest_child);
	assert_int_equal(caps.formats[0].input_bits, 44);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(caps.formats[i].format, SHIM_FORMAT_ARMV8_S1_4K + i - 1);
		assert_true(caps.formats[i].nest_child);
		assert_int_equal(caps.formats[i].input_bits, 48);
		assert_int_equal(caps.formats[i].table_bits_least, 25);
		assert_int_equal(caps.formats[i].output_bits, 44);
	}
	assert_int_equal(caps.max_depth, 2);
	assert_int_equal(caps.pasid_tables, 1u << SHIM_PASID_SMMUV3_CD);
	assert_int_equal(caps.native_invalidations, 1u << SHIM_NATIVE_SMMUV3);
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_NESTING], "");
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_PASID],
			    "SMMUv3 IDR1.SSIDSIZE is 0 on smmu3.x");
	smmuv3_caps("smmu3.x", &a, "because", &caps);
	assert_int_equal(caps.n_formats, 1);
	assert_int_equal(caps.max_depth, 1);
	assert_int_equal(caps.pasid_tables | caps.native_invalidations, 0);
	assert_string_equal(caps.feature_absent[SHIM_FEATURE_NESTING], "because");
}

static void test_roots(void **state)
{
	/* Levels below the first take 9 (11, 13) bits each; the rest is the root's. */
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_4K, 48), 4096);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_4K, 39), 4096);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_4K, 40), 64);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_4K, 36), 512);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_16K, 48), 64);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_16K, 47), 16384);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_64K, 48), 512);
	assert_int_equal(smmuv3_root_size(SHIM_FORMAT_ARMV8_S1_64K, 42), 65536);
	assert_int_equal(smmuv3_page_shift(SHIM_FORMAT_ARMV8_S1_64K), 16);
	assert_int_equal(smmuv3_page_shift(SHIM_FORMAT_ARMV8_S2_64K), 0);
}

static void test_entries(void **state)
{
	uint64_t ste[2], cd[8];

	smmuv3_ste_abort(ste);
	assert_int_equal(ste[0], 1);
	assert_int_equal(ste[1], 0);
	smmuv3_ste_cds(0x8100040, 0, 0, ste);
	assert_int_equal(ste[0], 0x810004b);
	assert_int_equal(ste[1], 0xd4);
	/* Two levels of 64 KiB, 2^16 descriptors; without a substream, descriptor 0. */
	smmuv3_ste_cds(0x100000000, 2, 16, ste);
	assert_int_equal(ste[0], 0x800000010000002b);
	assert_int_equal(ste[1], 0xd6);

	smmuv3_cd(SHIM_FORMAT_ARMV8_S1_4K, 39, 44, 0x100001000, 0xfffe, cd);
	assert_int_equal(cd[0], 0xfffee204c0003519);
	assert_int_equal(cd[1], 0x100001000);
	assert_int_equal(cd[2], 0);
	assert_int_equal(cd[3], 0xf404ff44);
	for (int i = 4; i < 8; i++)
		assert_int_equal(cd[i], 0);
	smmuv3_cd(SHIM_FORMAT_ARMV8_S1_64K, 48, 48, 0x10000, 1, cd);
	assert_int_equal(cd[0], 0x0001e205c0003550);
	smmuv3_cd(SHIM_FORMAT_ARMV8_S1_16K, 48, 48, 0x10000, 1, cd);
	assert_int_equal(cd[0], 0x0001e205c0003590);
}

static void expect_command(struct smmuv3_command c, uint64_t low, uint64_t high)
{
	assert_int_equal(c.word[0], low);
	assert_int_equal(c.word[1], high);
	assert_true(smmuv3_command_allowed(&c));
}

static void test_commands(void **state)
{
	struct smmuv3_command c = {{0}};
	unsigned allowed = 0;

	expect_command(smmuv3_tlbi_all(), 0x10, 0);
	expect_command(smmuv3_tlbi_asid(7), 0x0007000000000011, 0);
	expect_command(smmuv3_tlbi_va(7, 0x40001234, true), 0x0007000000000012, 0x40001001);
	expect_command(smmuv3_tlbi_vaa(0x40001000, false), 0x13, 0x40001000);
	expect_command(smmuv3_cfgi_cd(0x28, 5), 0x0000002800005005, 1);
	expect_command(smmuv3_cfgi_cd_all(0x28), 0x0000002800000006, 0);
	/* And NSNH_ALL; no configuration of streams, no device's TLB. */
	for (unsigned op = 0; op < 256; op++) {
		c.word[0] = op;
		allowed += smmuv3_command_allowed(&c);
	}
	assert_int_equal(allowed, 7);
	c.word[0] = 0x40;
	assert_false(smmuv3_command_allowed(&c));
}

static void test_events(void **state)
{
	/* As the guest's kernel printed it: a read at 0x40003000 that stage 1 has no page for. */
	const uint64_t seen[4] = {0x0000002800000010, 0x0000028800000000, 0x40003000, 0};
	const uint64_t written[4] = {0x0000002800000013, 0x0000020000000000, 0x40004010, 0};
	const uint64_t fetched[4] = {0x0000002800000011, 0x0000000c00000000, 0x40004010, 0};
	const uint64_t bad_cd[4] = {0x000000280000380a, 0, 0, 0};
	const uint64_t unknown[4] = {0x00000028000000ff, 0, 0, 0};
	struct shim_report r = {0};
	uint32_t sid = 0;

	smmuv3_event(seen, &sid, &r);
	assert_int_equal(sid, 0x28);
	assert_int_equal(r.pasid, SHIM_NO_PASID);
	assert_int_equal(r.fault.cause, SHIM_FAULT_NOT_PRESENT);
	assert_int_equal(r.fault.access, SHIM_READ);
	assert_int_equal(r.fault.stage, 1);
	assert_int_equal(r.fault.address, 0x40003000);
	smmuv3_event(written, &sid, &r);
	assert_int_equal(r.fault.cause, SHIM_FAULT_PERMISSION);
	assert_int_equal(r.fault.access, SHIM_WRITE);
	smmuv3_event(fetched, &sid, &r);
	assert_int_equal(r.fault.cause, SHIM_FAULT_OUTPUT_WIDTH);
	assert_int_equal(r.fault.access, SHIM_EXEC);
	smmuv3_event(bad_cd, &sid, &r);
	assert_int_equal(r.fault.cause, SHIM_FAULT_BAD_ENTRY);
	assert_int_equal(r.pasid, 3);
	assert_int_equal(r.fault.access | r.fault.stage | r.fault.address, 0);
	smmuv3_event(unknown, &sid, &r);
	assert_int_equal(r.fault.cause, SHIM_FAULT_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),	 cmocka_unit_test(test_caps),
		cmocka_unit_test(test_roots),	 cmocka_unit_test(test_entries),
		cmocka_unit_test(test_commands), cmocka_unit_test(test_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
