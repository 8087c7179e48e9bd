/* SPDX-License-Identifier: Apache-2.0 */

/* The inventory, from sysfs trees in the shape that Linux 7.3.4 shows in QEMU. */

#include "fake.h"

#include <errno.h>
#include <stdio.h>

static const struct iommufd_kernel all_calls = {.calls = UINT32_MAX};

static int read_host(struct fake *fake, struct fake_tree *tree, const struct iommufd_kernel *kernel,
		     struct iommufd_host *host, struct iommufd_problem *problem)
{
	struct iommufd_sys sys = fake_sys(fake);

	return iommufd_host_read(&sys, tree->root, kernel, host, problem);
}

static void test_standard(void **state)
{
	struct iommufd_problem problem;
	const struct iommufd_slot *slot;
	struct iommufd_host host;
	struct fake_tree tree;
	struct fake fake;

	fake_init(&fake);
	fake_tree_standard(&tree);
	snprintf(fake_device(&fake, "0000:81:00.0")->keeper.host_use, KEEPER_REASON_MAX,
		 "it holds the root file system");
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), 0);
	assert_int_equal(host.n_slots, 5);
	assert_int_equal(host.n_units, 2);
	/* Bridges are not in it, of whatever kind. */
	assert_null(iommufd_host_find(&host, "0000:00:00.0"));
	assert_null(iommufd_host_find(&host, "0000:00:04.0"));
	assert_null(iommufd_host_find(&host, "0000:02:00.0"));
	assert_null(iommufd_host_find(&host, ""));
	assert_null(iommufd_host_find(&host, "ffff:ff:ff.f"));
	for (size_t i = 1; i < host.n_slots; i++)
		assert_true(strcmp(host.slots[i - 1].info.address, host.slots[i].info.address) < 0);

	slot = iommufd_host_find(&host, "0000:03:02.0");
	assert_string_equal(slot->info.address, "0000:03:02.0");
	assert_string_equal(slot->info.iommu, "dmar0");
	assert_string_equal(slot->info.driver, "");
	assert_int_equal(slot->info.vendor, 0x1234);
	assert_int_equal(slot->info.device, 0x11e8);
	assert_int_equal(slot->info.class_code, 0xff00);
	assert_int_equal(slot->info.group, 5);
	assert_int_equal(slot->info.numa_node, -1);
	assert_string_equal(slot->info.host_use, "");
	assert_int_equal(slot->info.caps.formats[0].format, SHIM_FORMAT_VTDSS_3L);
	assert_int_equal(slot->info.caps.n_reserved, 1);
	assert_int_equal(slot->info.caps.reserved[0].start, 0xfee00000);
	assert_int_equal(slot->info.caps.reserved[0].last, 0xfeefffff);
	assert_string_equal(slot->info.caps.reserved[0].use, "msi");
	assert_int_equal(slot->info.caps.pasid_bits, 0);
	assert_int_equal(slot->info.caps.invalidations, 6);
	assert_string_equal(slot->info.caps.kind_absent[SHIM_KIND_KERNEL], "");
	assert_string_equal(slot->info.caps.kind_absent[SHIM_KIND_USER],
			    "VT-d ECAP.SMTS is 0 on dmar0");
	assert_true(slot->info.caps.kind_absent[SHIM_KIND_PROCESS][0]);
	assert_true(slot->info.caps.kind_absent[SHIM_KIND_KVM][0]);
	assert_ptr_equal(slot->unit, iommufd_host_find(&host, "0000:00:03.0")->unit);

	slot = iommufd_host_find(&host, "0000:81:00.0");
	assert_string_equal(slot->info.driver, "nvme");
	assert_string_equal(slot->info.host_use, "it holds the root file system");
	assert_int_equal(slot->info.caps.pasid_bits, 16); /* the device's, not the unit's 20 */
	assert_true(slot->info.caps.device_tlb);
	assert_true(slot->info.caps.snoop_control);
	assert_string_equal(slot->info.caps.kind_absent[SHIM_KIND_USER], "");
	assert_ptr_equal(slot->unit->nested, &iommufd_nested_vtd);
	assert_int_equal(slot->info.caps.max_depth, 2);
	assert_int_equal(slot->info.caps.native_invalidations, 1u << SHIM_NATIVE_VTD_S1);
	assert_true(slot->info.caps.dirty_tracking);
	assert_false(slot->info.caps.recoverable_faults);
	assert_string_equal(slot->info.caps.feature_absent[SHIM_FEATURE_FAULTS],
			    "the device has no PRI capability");

	assert_int_equal(host.n_reserved, 1);
	iommufd_host_deinit(&host);
	fake_tree_free(&tree);
}

static void test_pasids_need_all_three(void **state)
{
	struct iommufd_kernel old = all_calls;
	struct iommufd_problem problem;
	const struct shim_caps *caps;
	struct iommufd_host host;
	struct fake_tree tree;
	struct fake fake;

	fake_init(&fake);
	fake_tree_standard(&tree);
	fake_device(&fake, "0000:00:03.0")->keeper.pasid_bits = 20;
	fake_device(&fake, "0000:00:03.0")->keeper.ats = true;
	old.calls &= ~(1u << (0x93 - 0x80));
	assert_int_equal(read_host(&fake, &tree, &old, &host, &problem), 0);
	caps = &iommufd_host_find(&host, "0000:81:00.0")->info.caps;
	assert_int_equal(caps->pasid_bits, 0);
	assert_string_equal(caps->feature_absent[SHIM_FEATURE_PASID],
			    "this kernel has no VFIO_DEVICE_ATTACH_PASID (Linux 6.15)");
	/* The device could, its IOMMU cannot. */
	caps = &iommufd_host_find(&host, "0000:00:03.0")->info.caps;
	assert_int_equal(caps->pasid_bits, 0);
	assert_false(caps->device_tlb);
	assert_string_equal(caps->feature_absent[SHIM_FEATURE_PASID],
			    "VT-d ECAP.SMTS is 0 on dmar0");
	iommufd_host_deinit(&host);

	fake_device(&fake, "0000:81:00.0")->keeper.pasid_bits = 0;
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), 0);
	caps = &iommufd_host_find(&host, "0000:81:00.0")->info.caps;
	assert_string_equal(caps->feature_absent[SHIM_FEATURE_PASID],
			    "the device has no PASID capability");
	iommufd_host_deinit(&host);
	fake_tree_free(&tree);
}

static void test_other_iommus(void **state)
{
	struct iommufd_problem problem;
	const struct shim_caps *caps;
	struct iommufd_host host;
	struct fake_tree tree;
	struct fake fake;

	fake_init(&fake);
	fake_tree_new(&tree);
	fake_tree_file(&tree, "class/iommu/ivhd0/amd-iommu/cap", "40b0f\n");
	fake_tree_file(&tree, "class/iommu/ivhd0/amd-iommu/features", "246577efa2254afa\n");
	fake_tree_device(&tree, "0000:00:03.0", "0x020000\n", "3", "ivhd0", NULL);
	fake_tree_device(&tree, "0000:01:00.0", "0x020000\n", "4", "smmu3.0x0000000009050000",
			 NULL);
	/* No IOMMU, no group: not ours. */
	fake_tree_device(&tree, "0000:03:01.0", "0x020000\n", "5", NULL, NULL);
	fake_tree_device(&tree, "0000:03:02.0", "0x020000\n", NULL, NULL, NULL);
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), 0);
	assert_int_equal(host.n_slots, 2);
	caps = &iommufd_host_find(&host, "0000:00:03.0")->info.caps;
	assert_int_equal(caps->n_formats, 1);
	assert_int_equal(caps->formats[0].format, SHIM_FORMAT_KERNEL_CHOSEN);
	assert_int_equal(caps->formats[0].input_bits, 47);
	assert_string_equal(caps->feature_absent[SHIM_FEATURE_NESTING],
			    "whether AMD IOMMU ivhd0 nests, sysfs does not tell");
	caps = &iommufd_host_find(&host, "0000:01:00.0")->info.caps;
	assert_int_equal(caps->formats[0].input_bits, 39);
	assert_string_equal(
		caps->feature_absent[SHIM_FEATURE_SNOOP],
		"whether SMMUv3 smmu3.0x0000000009050000 enforces snooping, sysfs does not tell");
	iommufd_host_deinit(&host);
	fake_tree_free(&tree);
}

static void test_reserved(void **state)
{
	struct shim_range ranges[SHIM_RESERVED_MAX];
	char text[4096] = "";
	size_t n;

	/* A server with a graphics aperture that may be moved, and AMD's HyperTransport. */
	iommufd_host_parse_reserved("0x000000008b800000 0x000000008fffffff direct-relaxable\n"
				    "0x00000000fee00000 0x00000000feefffff msi\n"
				    "0x000000fd00000000 0x000000ffffffffff reserved\n",
				    ranges, &n);
	assert_int_equal(n, 2);
	assert_string_equal(ranges[0].use, "msi");
	assert_int_equal(ranges[1].start, UINT64_C(0xfd00000000));
	assert_int_equal(ranges[1].last, UINT64_C(0xffffffffff));
	assert_string_equal(ranges[1].use, "reserved");
	iommufd_host_parse_reserved("", ranges, &n);
	assert_int_equal(n, 0);
	iommufd_host_parse_reserved("garbage\n0x2 0x1 msi\n0x10\n\n", ranges, &n);
	assert_int_equal(n, 0);
	/* More than fit: the last is widened, so that none is forgotten. */
	for (unsigned i = 0; i < 40; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "0x%08x 0x%08x direct\n",
			 i << 20, (i << 20) + 0xffff);
	iommufd_host_parse_reserved(text, ranges, &n);
	assert_int_equal(n, SHIM_RESERVED_MAX);
	assert_int_equal(ranges[n - 1].start, (SHIM_RESERVED_MAX - 1) << 20);
	assert_int_equal(ranges[n - 1].last, (39 << 20) + 0xffff);
}

static void test_problems(void **state)
{
	struct iommufd_problem problem;
	struct iommufd_host host;
	struct fake_tree tree;
	struct fake fake;

	fake_init(&fake);
	fake_tree_new(&tree);
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), IOMMUFD_E_HOST);
	assert_non_null(strstr(problem.message, "bus/pci/devices"));
	fake_tree_device(&tree, "0000:00:00.0", "0x060000\n", "0", "dmar0", NULL);
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), IOMMUFD_E_HOST);
	assert_string_equal(problem.message, "no PCI function of this host is behind an IOMMU");
	/* A file that is not what it should be. */
	fake_tree_device(&tree, "0000:00:03.0", "a class\n", "3", "dmar0", NULL);
	assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), IOMMUFD_E_HOST);
	assert_non_null(strstr(problem.message, "0000:00:03.0"));
	fake_tree_free(&tree);

	/* Every question to the keeper: it is down, or does not know the device. */
	fake_tree_standard(&tree);
	for (uint64_t n = 1; n <= 5; n++) {
		fake_arm(&fake, n, -EPIPE);
		assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem),
				 IOMMUFD_E_KEEPER);
		fake_arm(&fake, n, KEEPER_E_NOT_FOUND);
		assert_int_equal(read_host(&fake, &tree, &all_calls, &host, &problem), 0);
		assert_int_equal(host.n_slots, 4);
		iommufd_host_deinit(&host);
	}
	fake_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_standard),     cmocka_unit_test(test_pasids_need_all_three),
		cmocka_unit_test(test_other_iommus), cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_problems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
