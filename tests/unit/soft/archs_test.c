/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AMD's and RISC-V's formats on the software IOMMU: capabilities, what nests on what, DMA
 * through tables that it builds and through a RISC-V table that a tenant wrote, and dirty pages
 * of which each has several entries.  ARM's are in armv8_shim_test.c.
 */

#include "fixture.h"

#include "soft/nesting.h"

#include <stdio.h>

#define BASE   (3ull << 30) /* of the tenant's memory in the parent */
#define LENGTH (4 * M2)

/* DEV0 behind AMD's, DEV1 behind RISC-V's; %s: whether accessed and dirty bits are kept. */
static const char topology[] =
	"{\"version\": 1,\n"
	" \"iommus\": [{\"name\": \"amd0\",\n"
	"   \"formats\": [\"x86_64-4l\", \"x86_64-5l\", \"amdv1-1\", \"amdv1-2\", \"amdv1-3l\",\n"
	"               \"amdv1-4\", \"amdv1-5\", \"amdv1-6\"],\n"
	"   \"snoop_control\": true, \"access_dirty\": %s},\n"
	"  {\"name\": \"riscv0\",\n"
	"   \"formats\": [\"sv39\", \"sv48\", \"sv57\", \"sv39x4\", \"sv48x4\", \"sv57x4\"],\n"
	"   \"access_dirty\": %s}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"amd0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"riscv0\", \"group\": 2}]}\n";

static void open_host(struct fixture *f, bool access_dirty)
{
	const char *word = access_dirty ? "true" : "false";
	char text[2048];

	assert_true(snprintf(text, sizeof(text), topology, word, word) < (int)sizeof(text));
	fixture_open(f, text, 0, LENGTH);
}

static bool is_riscv(enum shim_format format)
{
	return format >= SHIM_FORMAT_SV39 && format <= SHIM_FORMAT_SV57X4;
}

static bool is_amd(enum shim_format format)
{
	return format == SHIM_FORMAT_X86_64_4L || format == SHIM_FORMAT_X86_64_5L ||
	       (format >= SHIM_FORMAT_AMDV1_1L && format <= SHIM_FORMAT_AMDV1_6L);
}

static struct shim_dev *device_for(struct fixture *f, enum shim_format format)
{
	return is_riscv(format) ? f->dev1 : f->dev0;
}

static void write_byte(struct shim_dev *dev, uint64_t iova, uint8_t byte)
{
	struct shim_fault fault;

	assert_int_equal(fixture_dma(dev, SHIM_NO_PASID, SHIM_WRITE, iova, &byte, 1, &fault), 1);
}

static void test_caps(void **state)
{
	struct fixture f;

	open_host(&f, true);
	for (unsigned int d = 0; d < 2; d++) {
		const struct shim_caps *caps =
			&soft_dev_of(d ? f.dev1 : f.dev0)->slot->desc->info.caps;

		assert_int_equal(caps->n_formats, d ? 6 : 8);
		for (size_t i = 0; i < caps->n_formats; i++) {
			const struct shim_format_cap *cap = &caps->formats[i];
			bool first = cap->format <= SHIM_FORMAT_X86_64_5L ||
				     (d && cap->format <= SHIM_FORMAT_SV57);

			assert_int_equal(cap->nest_child, first);
			/* x86-64 on x86-64 is walked too. */
			assert_int_equal(cap->nest_parent, !first || !d);
			assert_int_equal(cap->nest_on, soft_nesting_parents(cap->format));
			assert_int_equal(cap->input_bits,
					 soft_format_find(cap->format)->input_bits);
			assert_int_equal(cap->output_bits, 48);
			assert_true(cap->access_dirty);
		}
	}
	fixture_close(&f);
}

/* Every pair: those of one architecture carry DMA through both tables, others are refused. */
static void test_nesting(void **state)
{
	unsigned int nested = 0, refused = 0;

	for (int c = 1; c < SHIM_FORMAT_KERNEL_CHOSEN; c++)
		for (int p = 1; p < SHIM_FORMAT_KERNEL_CHOSEN; p++) {
			char reason[SHIM_REASON_MAX] = "";
			struct shim_pt *parent, *child = NULL;
			struct shim_dev *dev;
			struct fixture f;
			int r;

			if ((!is_amd(c) && !is_riscv(c)) || (!is_amd(p) && !is_riscv(p)))
				continue;
			open_host(&f, false);
			parent = fixture_pt(&f, (enum shim_format)p, NULL);
			r = shim_pt_create(f.ctx,
					   &(struct shim_pt_spec){
						   .kind = SHIM_KIND_KERNEL,
						   .format = (enum shim_format)c,
						   .parent = parent,
					   },
					   reason, &child);
			if (!(soft_nesting_parents((enum shim_format)c) & 1u << p)) {
				assert_int_equal(r, SHIM_E_UNSUPPORTED);
				assert_non_null(strstr(reason, "does not nest on format"));
				refused++;
				fixture_close(&f);
				continue;
			}
			assert_int_equal(r, 0);
			nested++;
			assert_int_equal(is_amd(c), is_amd(p));
			dev = device_for(&f, (enum shim_format)c);
			assert_int_equal(fixture_map(&f, parent, 0x10000, 0x20000, M2, RW), 0);
			assert_int_equal(fixture_map_child(child, 0x5000, 0x10000, 0x10000, RW), 0);
			fixture_attach(dev, SHIM_NO_PASID, child);
			f.bytes[M2 + 0x1234] = 0x5a;
			fixture_expect_byte(dev, 0x5000 + 0x1234, 0x5a);
			write_byte(dev, 0x5000 + 0xffff, 0x5b);
			assert_int_equal(f.bytes[M2 + 0xffff], 0x5b);
			fixture_expect_fault(dev, SHIM_READ, 0x4000, SHIM_FAULT_NOT_PRESENT);
			assert_int_equal(fixture_unmap(parent, 0x10000, 0x20000), 0);
			fixture_expect_fault(dev, SHIM_READ, 0x5000, SHIM_FAULT_PARENT_NOT_PRESENT);
			fixture_close(&f);
		}
	/* x86-64 on x86-64 and on AMD v1; Sv on Svx4. */
	assert_int_equal(nested, 4 + 12 + 9);
	assert_int_equal(refused, 14 * 14 - nested);
}

/* The whole of a large page is written if any of it was, whichever entry the write went by. */
static void test_dirty_groups(void **state)
{
	static const enum shim_format formats[] = {
		SHIM_FORMAT_AMDV1_1L, SHIM_FORMAT_AMDV1_4L, SHIM_FORMAT_AMDV1_6L,
		SHIM_FORMAT_SV39,     SHIM_FORMAT_SV48X4,   SHIM_FORMAT_SV57X4,
	};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		struct shim_dev *dev;
		uint32_t bits = 0;
		struct shim_pt *pt = NULL;
		struct fixture f;

		open_host(&f, true);
		dev = device_for(&f, formats[i]);
		assert_int_equal(shim_pt_create(f.ctx,
						&(struct shim_pt_spec){
							.kind = SHIM_KIND_KERNEL,
							.format = formats[i],
							.dirty_tracking = true,
							.devices = &dev,
							.n_devices = 1,
						},
						NULL, &pt),
				 0);
		/* 16 pages as one, then 16 pages as such: target and address out of step. */
		assert_int_equal(fixture_map(&f, pt, 0x10000, 0x10000, M2, RW), 0);
		assert_int_equal(fixture_map(&f, pt, 0x20000, 0x10000, 0x11000, RW), 0);
		fixture_attach(dev, SHIM_NO_PASID, pt);
		write_byte(dev, 0x1f000, 1);
		assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
		for (unsigned int round = 0; round < 2; round++) {
			assert_int_equal(shim_pt_read_dirty(pt, 0x10000, 0x20000, 12, false,
							    (uint8_t *)&bits),
					 0);
			assert_int_equal(bits, 0);
			fixture_expect_byte(dev, 0x13000, f.bytes[M2 + 0x3000]);
			write_byte(dev, 0x13008, 0x61);
			write_byte(dev, 0x1a008, 0x62);
			write_byte(dev, 0x23008, 0x63);
			/* A part is told and stays. */
			assert_int_equal(
				shim_pt_read_dirty(pt, 0x18000, 0x8000, 12, true, (uint8_t *)&bits),
				0);
			assert_int_equal(bits, 0xff);
			bits = 0;
			assert_int_equal(shim_pt_read_dirty(pt, 0x10000, 0x20000, 12, true,
							    (uint8_t *)&bits),
					 0);
			assert_int_equal(bits, 0x0008ffff);
			bits = 0;
		}
		fixture_close(&f);
	}
}

/* All dirty from the beginning: every copy says so. */
static void test_all_dirty(void **state)
{
	struct shim_pt *pt = NULL;
	uint16_t bits = 0;
	struct fixture f;

	open_host(&f, true);
	assert_int_equal(shim_pt_create(f.ctx,
					&(struct shim_pt_spec){
						.kind = SHIM_KIND_KERNEL,
						.format = SHIM_FORMAT_AMDV1_4L,
						.dirty_tracking = true,
						.devices = &f.dev0,
						.n_devices = 1,
					},
					NULL, &pt),
			 0);
	assert_int_equal(fixture_map(&f, pt, 0x10000, 0x10000, M2, RW), 0);
	assert_int_equal(shim_pt_track_dirty(pt, true, true), 0);
	assert_int_equal(shim_pt_read_dirty(pt, 0x10000, 0x10000, 12, true, (uint8_t *)&bits), 0);
	assert_int_equal(bits, 0xffff);
	bits = 0;
	assert_int_equal(shim_pt_read_dirty(pt, 0x10000, 0x10000, 12, true, (uint8_t *)&bits), 0);
	assert_int_equal(bits, 0);
	fixture_close(&f);
}

/* Both halves of a canonical format; nothing between, and nothing above in the G-stage. */
static void test_riscv_halves(void **state)
{
	struct shim_pt *pt;
	struct fixture f;

	open_host(&f, false);
	pt = fixture_pt(&f, SHIM_FORMAT_SV39, NULL);
	assert_int_equal(fixture_map(&f, pt, -K4, K4, 0x5000, RW), 0);
	assert_int_equal(fixture_map(&f, pt, 1ull << 38, K4, 0x5000, RW), SHIM_E_RANGE);
	fixture_attach(f.dev1, SHIM_NO_PASID, pt);
	f.bytes[0x5000] = 0x77;
	fixture_expect_byte(f.dev1, -K4, 0x77);
	fixture_expect_fault(f.dev1, SHIM_READ, 1ull << 38, SHIM_FAULT_NON_CANONICAL);
	pt = fixture_pt(&f, SHIM_FORMAT_SV39X4, NULL);
	assert_int_equal(fixture_map(&f, pt, (1ull << 41) - K4, K4, 0x5000, RW), 0);
	assert_int_equal(fixture_map(&f, pt, 1ull << 41, K4, 0x5000, RW), SHIM_E_RANGE);
	/* Writing needs reading; executing does not. */
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, SHIM_WRITE), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, SHIM_EXEC), 0);
	fixture_close(&f);
}

/* ---- a table that a tenant wrote ---- */

#define SV_V	(1ull << 0)
#define SV_RWU	(1ull << 1 | 1ull << 2 | 1ull << 4)
#define SV_A	(1ull << 6)
#define SV_D	(1ull << 7)
#define ROOT	0x100000ull /* offset in the memory; below it table after table */
#define LEAF(l) (ROOT + ((l)-1) * K4)

static uint64_t *word(struct fixture *f, uint64_t offset)
{
	return (uint64_t *)(f->bytes + offset);
}

static void tenant_table(bool access_dirty)
{
	static const enum shim_format formats[] = {SHIM_FORMAT_SV39, SHIM_FORMAT_SV48,
						   SHIM_FORMAT_SV57};

	for (unsigned int i = 0; i < 3; i++) {
		unsigned int levels = 3 + i;
		uint64_t leaf = (BASE + 0x8000) >> 2 | SV_V | SV_RWU;
		struct shim_pt *parent, *pt = NULL;
		struct fixture f;

		open_host(&f, access_dirty);
		parent = fixture_pt(&f, (enum shim_format)(SHIM_FORMAT_SV39X4 + i), NULL);
		assert_int_equal(fixture_map(&f, parent, BASE, LENGTH, 0, RW), 0);
		for (unsigned int l = 0; l + 1 < levels; l++)
			*word(&f, ROOT + l * K4) = (BASE + ROOT + (l + 1) * K4) >> 2 | SV_V;
		*word(&f, LEAF(levels) + 5 * 8) = leaf;
		assert_int_equal(
			shim_pt_create(f.ctx,
				       &(struct shim_pt_spec){
					       .kind = SHIM_KIND_USER,
					       .format = formats[i],
					       .parent = parent,
					       .table = &(struct shim_table){.root = BASE + ROOT},
					       .devices = &f.dev1,
					       .n_devices = 1,
				       },
				       NULL, &pt),
			0);
		fixture_attach(f.dev1, SHIM_NO_PASID, pt);
		f.bytes[0x8123] = 0x42;
		if (access_dirty) {
			fixture_expect_byte(f.dev1, 0x5123, 0x42);
			assert_true(*word(&f, LEAF(levels) + 5 * 8) == (leaf | SV_A));
			write_byte(f.dev1, 0x5123, 0x43);
			assert_int_equal(f.bytes[0x8123], 0x43);
			assert_true(*word(&f, LEAF(levels) + 5 * 8) == (leaf | SV_A | SV_D));
		} else {
			/* Nobody sets them: the tenant has to. */
			fixture_expect_fault(f.dev1, SHIM_READ, 0x5123, SHIM_FAULT_ACCESS_FLAG);
			*word(&f, LEAF(levels) + 5 * 8) = leaf | SV_A;
			fixture_expect_byte(f.dev1, 0x5123, 0x42);
			fixture_expect_fault(f.dev1, SHIM_WRITE, 0x5123, SHIM_FAULT_ACCESS_FLAG);
			assert_true(*word(&f, LEAF(levels) + 5 * 8) == (leaf | SV_A));
		}
		/* What leads to a table has no accessed bit. */
		assert_true(*word(&f, ROOT) == ((BASE + ROOT + K4) >> 2 | SV_V));
		fixture_expect_fault(f.dev1, SHIM_READ, 0x6000, SHIM_FAULT_NOT_PRESENT);
		fixture_close(&f);
	}
}

static void test_riscv_tenant_table(void **state)
{
	tenant_table(true);
	tenant_table(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_caps),	     cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_dirty_groups), cmocka_unit_test(test_all_dirty),
		cmocka_unit_test(test_riscv_halves), cmocka_unit_test(test_riscv_tenant_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
