/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ARMv8 formats on the software IOMMU: DMA through tables that it builds, of granules larger than
 * the machine's pages, nested ones too, and their dirty pages.
 */

#include "fixture.h"

#include "soft/nesting.h"

static const char topology[] =
	"{\"version\": 1,\n"
	" \"iommus\": [{\"name\": \"smmu0\",\n"
	"   \"formats\": [\"armv8-s1-4k\", \"armv8-s1-16k\", \"armv8-s1-64k\",\n"
	"               \"armv8-s2-4k\", \"armv8-s2-16k\", \"armv8-s2-64k\"],\n"
	"   \"output_bits\": 48, \"access_dirty\": true, \"iotlb_entries\": 1024}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu0\", \"group\": 2}]}\n";

#define LENGTH (8 * M2)
#define BASE   (3 * G1)

static const enum shim_format formats[] = {
	SHIM_FORMAT_ARMV8_S1_4K, SHIM_FORMAT_ARMV8_S1_16K, SHIM_FORMAT_ARMV8_S1_64K,
	SHIM_FORMAT_ARMV8_S2_4K, SHIM_FORMAT_ARMV8_S2_16K, SHIM_FORMAT_ARMV8_S2_64K,
};
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

static uint64_t granule_of(enum shim_format format)
{
	return 1ull << soft_format_find(format)->granule;
}

static void write_byte(struct shim_dev *dev, uint64_t iova, uint8_t byte)
{
	struct shim_fault fault;

	assert_int_equal(fixture_dma(dev, SHIM_NO_PASID, SHIM_WRITE, iova, &byte, 1, &fault), 1);
}

static void test_dma(void **state)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		uint64_t granule = granule_of(formats[i]);
		struct shim_pt *pt;
		struct fixture f;

		fixture_open(&f, topology, 0, LENGTH);
		pt = fixture_pt(&f, formats[i], NULL);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		/* Pages, groups and blocks, one after the other. */
		assert_int_equal(fixture_map(&f, pt, BASE - granule, LENGTH - granule, granule, RW),
				 0);
		for (uint64_t at = 0; at < LENGTH - granule; at += M2 / 3) {
			f.bytes[granule + at] = (uint8_t)(at / 4096 + 1);
			fixture_expect_byte(f.dev0, BASE - granule + at, (uint8_t)(at / 4096 + 1));
			write_byte(f.dev0, BASE - granule + at, 0x77);
			assert_int_equal(f.bytes[granule + at], 0x77);
		}
		fixture_expect_fault(f.dev0, SHIM_READ, BASE - granule - 1, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_fault(f.dev0, SHIM_READ, BASE + LENGTH - 2 * granule,
				     SHIM_FAULT_NOT_PRESENT);
		/* Less than a granule is no page. */
		if (granule > K4)
			assert_int_equal(fixture_map(&f, pt, 0, K4, 0, RW), SHIM_E_RANGE);
		assert_int_equal(fixture_map(&f, pt, 0, granule, 0, SHIM_READ), 0);
		fixture_expect_byte(f.dev0, granule - 1, 0);
		fixture_expect_fault(f.dev0, SHIM_WRITE, 0, SHIM_FAULT_PERMISSION);
		assert_int_equal(fixture_unmap(pt, BASE - granule, LENGTH - granule), 0);
		fixture_expect_fault(f.dev0, SHIM_READ, BASE, SHIM_FAULT_NOT_PRESENT);
		fixture_close(&f);
	}
}

/* A child's addresses are its parent's, of whatever granule. */
static void test_nested(void **state)
{
	unsigned int pairs = 0;

	for (size_t c = 0; c < N_FORMATS; c++) {
		for (size_t p = 0; p < N_FORMATS; p++) {
			uint64_t granule = granule_of(formats[c]);
			struct shim_pt *parent, *child;
			struct fixture f;

			/* Stage 1 on stage 2, whatever the granules. */
			if (!(soft_nesting_parents(formats[c]) & 1u << formats[p]))
				continue;
			pairs++;
			fixture_open(&f, topology, 0, LENGTH);
			parent = fixture_pt(&f, formats[p], NULL);
			child = fixture_pt(&f, formats[c], parent);
			assert_int_equal(fixture_map(&f, parent, BASE, M2, M2, RW), 0);
			assert_int_equal(fixture_map_child(child, granule, M2, BASE, RW), 0);
			fixture_attach(f.dev0, SHIM_NO_PASID, child);
			f.bytes[M2 + 0x54321] = 0x5a;
			fixture_expect_byte(f.dev0, granule + 0x54321, 0x5a);
			write_byte(f.dev0, granule + M2 - 1, 0x5b);
			assert_int_equal(f.bytes[2 * M2 - 1], 0x5b);
			fixture_close(&f);
		}
	}
	assert_int_equal(pairs, 9);
}

static const char wide[] =
	"{\"version\": 1,\n"
	" \"iommus\": [\n"
	"  {\"name\": \"smmu0\", \"formats\": [\"armv8-s1-4k\", \"armv8-s1-16k\", "
	"\"armv8-s1-64k\",\n"
	"   \"armv8-s2-4k\", \"armv8-s2-16k\", \"armv8-s2-64k\"],\n"
	"   \"output_bits\": 52, \"lpa2\": true},\n"
	"  {\"name\": \"smmu1\", \"formats\": [\"armv8-s1-4k\", \"armv8-s2-4k\"]}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu1\", \"group\": 2}]}\n";

static struct shim_pt *wide_pt(struct fixture *f, enum shim_format format, uint8_t input_bits,
			       struct shim_pt *parent)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL,
		.format = format,
		.input_bits = input_bits,
		.parent = parent,
		.devices = &f->dev0,
		.n_devices = 1,
	};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;

	if (shim_pt_create(f->ctx, &spec, reason, &pt))
		fail_msg("%s", reason);
	return pt;
}

/* 52 bits, in both stages: what is mapped there is where a child's addresses lead. */
static void test_wide(void **state)
{
	const uint64_t high = 0xf123456789000ull & ~(M2 - 1),
		       higher = 0xeabcdef012000ull & ~(M2 - 1);

	for (size_t i = 0; i < N_FORMATS / 2; i++) {
		enum shim_format first = formats[i], second = formats[N_FORMATS / 2 + i];
		char reason[SHIM_REASON_MAX] = "";
		struct shim_pt *parent, *child;
		struct fixture f;

		fixture_open(&f, wide, 0, LENGTH);
		parent = wide_pt(&f, second, 52, NULL);
		child = wide_pt(&f, first, 52, parent);
		assert_int_equal(fixture_map(&f, parent, high, M2, M2, RW), 0);
		assert_int_equal(fixture_map_child(child, higher, M2, high, RW), 0);
		fixture_attach(f.dev0, SHIM_NO_PASID, child);
		f.bytes[M2 + 0x54321] = 0x5a;
		fixture_expect_byte(f.dev0, higher + 0x54321, 0x5a);
		fixture_expect_fault(f.dev0, SHIM_READ, higher + M2, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_fault(f.dev0, SHIM_READ, 1ull << 52, SHIM_FAULT_ADDRESS_WIDTH);
		assert_int_equal(fixture_unmap(parent, high, M2), 0);
		fixture_expect_fault(f.dev0, SHIM_READ, higher, SHIM_FAULT_PARENT_NOT_PRESENT);
		/* An IOMMU without it takes no such table. */
		assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, child, reason),
				 SHIM_E_INCOMPATIBLE);
		if (first == SHIM_FORMAT_ARMV8_S1_4K)
			assert_non_null(strstr(reason, "48 bits"));
		fixture_close(&f);
	}
}

static void test_dirty(void **state)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		uint64_t granule = granule_of(formats[i]), bits, page;
		struct shim_pt_spec spec = {
			.kind = SHIM_KIND_KERNEL,
			.format = formats[i],
			.dirty_tracking = true,
		};
		char reason[SHIM_REASON_MAX] = "";
		struct shim_pt *pt;
		struct fixture f;

		fixture_open(&f, topology, 0, LENGTH);
		spec.devices = &f.dev0;
		spec.n_devices = 1;
		assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &pt), 0);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		/* Out of step, so that they are single pages; the last one can only be read. */
		assert_int_equal(fixture_map(&f, pt, 0, 2 * granule, granule, RW), 0);
		assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
		assert_int_equal(fixture_map(&f, pt, 2 * granule, granule, 5 * granule, RW), 0);
		assert_int_equal(fixture_map(&f, pt, 3 * granule, granule, 8 * granule, SHIM_READ),
				 0);
		page = soft_format_find(formats[i])->granule;
		for (unsigned int round = 0; round < 2; round++) {
			bits = 0;
			assert_int_equal(shim_pt_read_dirty(pt, 0, 4 * granule, page, true,
							    (uint8_t *)&bits),
					 0);
			assert_int_equal(bits, 0);
			/* What was cached by a read, and of a page that was clean, is no excuse. */
			fixture_expect_byte(f.dev0, granule, round ? 2 : 0);
			write_byte(f.dev0, granule, 2);
			write_byte(f.dev0, 2 * granule + 1, 3);
			fixture_expect_fault(f.dev0, SHIM_WRITE, 3 * granule,
					     SHIM_FAULT_PERMISSION);
			assert_int_equal(shim_pt_read_dirty(pt, 0, 4 * granule, page, true,
							    (uint8_t *)&bits),
					 0);
			assert_int_equal(bits, 6);
		}
		/* Not tracked any more, clean pages can be written all the same. */
		assert_int_equal(shim_pt_track_dirty(pt, false, false), 0);
		write_byte(f.dev0, 0, 1);
		write_byte(f.dev0, granule, 1);
		/* All that can be written is told at once. */
		assert_int_equal(shim_pt_track_dirty(pt, true, true), 0);
		bits = 0;
		assert_int_equal(
			shim_pt_read_dirty(pt, 0, 4 * granule, page, true, (uint8_t *)&bits), 0);
		assert_int_equal(bits, 7);
		fixture_expect_fault(f.dev0, SHIM_WRITE, 3 * granule, SHIM_FAULT_PERMISSION);
		fixture_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dma),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_wide),
		cmocka_unit_test(test_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
