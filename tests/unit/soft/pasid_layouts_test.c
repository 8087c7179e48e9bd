/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PASID tables of AMD (GCR3) and RISC-V (process directories) that a tenant writes, laid out here
 * by AMD IOMMU spec 2.2.6 and RISC-V IOMMU spec 2.2 to 2.4.  VT-d's are in caches_test.c,
 * SMMUv3's in context_descriptors_test.c.
 */

#include "tenant.h"

#define LENGTH (8 * M2)
#define DIRS   (BASE + 6 * M2) /* three pages for directories */

static const char amd[] =
	"{\"version\": 1,\n"
	" \"iommus\": [{\"name\": \"ivhd0\", \"formats\": [\"x86_64-4l\", \"x86_64-5l\", "
	"\"amdv1-4\"],\n"
	"   \"output_bits\": 48, \"pasid_bits\": 20, \"access_dirty\": true}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"1002:740f\", \"class\": "
	"\"038000\",\n"
	"    \"iommu\": \"ivhd0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"1002:740f\", \"class\": "
	"\"038000\",\n"
	"    \"iommu\": \"ivhd0\", \"group\": 2}]}\n";

static const char riscv[] =
	"{\"version\": 1,\n"
	" \"iommus\": [{\"name\": \"iommu0\", \"formats\": [\"sv39\", \"sv48\", \"sv39x4\"],\n"
	"   \"output_bits\": 48, \"pasid_bits\": 20, \"access_dirty\": true}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"10de:2684\", \"class\": "
	"\"030000\",\n"
	"    \"iommu\": \"iommu0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"10de:2684\", \"class\": "
	"\"030000\",\n"
	"    \"iommu\": \"iommu0\", \"group\": 2}]}\n";

struct world {
	struct fixture f;
	struct shim_pt *parent, *pt;
	uint64_t next;
};

/* Page i of the memory is full of i. */
static void world_open(struct world *w, const char *topology, enum shim_format parent,
		       enum shim_format child)
{
	fixture_open(&w->f, topology, 0, LENGTH);
	for (uint64_t at = 0; at < M2 / 4; at += K4)
		memset(w->f.bytes + at, (int)(at / K4), K4);
	w->next = M2;
	w->parent = fixture_pt(&w->f, parent, NULL);
	assert_int_equal(fixture_map(&w->f, w->parent, BASE, LENGTH, 0, RW), 0);
	w->pt = tenant_pt(&w->f, child, w->parent, NULL);
	fixture_attach(w->f.dev0, SHIM_NO_PASID, w->pt);
}

static _Atomic uint64_t *at(const struct world *w, uint64_t address)
{
	assert_true(address >= BASE && address - BASE < LENGTH);
	return (_Atomic uint64_t *)(w->f.bytes + (address - BASE));
}

static int bind(struct world *w, enum shim_pasid_format format, uint8_t bits, uint32_t shape)
{
	const struct shim_pasid_table table = {
		.format = format,
		.root = DIRS,
		.pasid_bits = bits,
		.shape = shape,
	};

	return shim_pt_bind_pasid_table(w->pt, &table, NULL);
}

static void expect_byte(struct world *w, uint32_t pasid, uint64_t iova, uint8_t expected)
{
	struct shim_fault fault;
	uint8_t byte = (uint8_t)~expected;

	if (fixture_dma(w->f.dev0, pasid, SHIM_READ, iova, &byte, 1, &fault) != 1)
		fail_msg("PASID %u, 0x%llx: cause %d", pasid, (unsigned long long)iova,
			 fault.cause);
	assert_int_equal(byte, expected);
}

static void expect_fault(struct world *w, uint32_t pasid, uint64_t iova,
			 enum shim_fault_cause cause)
{
	struct shim_fault fault;
	uint8_t byte = 0;

	assert_int_equal(fixture_dma(w->f.dev0, pasid, SHIM_READ, iova, &byte, 1, &fault), 0);
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.access, SHIM_READ);
}

static void invalidate(struct world *w, enum shim_invalidate_scope scope, uint32_t pasid)
{
	const struct shim_invalidate entry = {.scope = scope, .pasid = pasid};
	size_t done;

	assert_int_equal(shim_pt_invalidate(w->pt, &entry, 1, &done), 0);
}

/* A table of this many levels, page K4 of which is page `page` of the memory. */
static uint64_t new_table(struct world *w, unsigned int levels, uint64_t table, uint64_t leaf,
			  unsigned int address_shift)
{
	uint64_t root = BASE + w->next, entry;

	for (unsigned int level = levels; level; level--) {
		entry = level > 1 ? ((BASE + w->next + K4) >> address_shift) | table : leaf;
		/* Indices of K4 are 0, but in the lowest table. */
		*at(w, BASE + w->next + (level > 1 ? 0 : 8)) = entry;
		w->next += K4;
	}
	return root;
}

/* ---- AMD ---- */

#define GCR3_V (1ull << 0)

static uint64_t x86_table(struct world *w, unsigned int levels, uint64_t page)
{
	return new_table(w, levels, P | W | U | A, (BASE + page * K4) | P | W | U | A | D, 0);
}

static void test_gcr3_levels(void **state)
{
	static const uint32_t pasids[] = {5, 511, 512, 0x12345, (1u << 20) - 1};

	for (uint32_t glx = 0; glx <= 2; glx++) {
		for (size_t i = 0; i < sizeof(pasids) / sizeof(pasids[0]); i++) {
			uint32_t pasid = pasids[i];
			uint64_t dir = DIRS;
			struct world w;

			world_open(&w, amd, SHIM_FORMAT_AMDV1_4L, SHIM_FORMAT_X86_64_4L);
			assert_int_equal(
				bind(&w, SHIM_PASID_AMD_GCR3, glx == 2 ? 20 : 9 * (glx + 1), glx),
				0);
			expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			for (uint32_t level = glx; level; level--) {
				*at(&w, dir + (pasid >> 9 * level & 511) * 8) = (dir + K4) | GCR3_V;
				dir += K4;
				expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			}
			*at(&w, dir + (pasid & 511) * 8) = x86_table(&w, 4, 7) | GCR3_V;
			if (glx < 2 && pasid >> 9 * (glx + 1))
				expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			else
				expect_byte(&w, pasid, K4, 7);
			expect_fault(&w, pasid ^ 1, K4, SHIM_FAULT_NOT_ATTACHED);
			fixture_close(&w.f);
		}
	}
}

static void test_gcr3_entries(void **state)
{
	struct world w;

	world_open(&w, amd, SHIM_FORMAT_AMDV1_4L, SHIM_FORMAT_X86_64_5L);
	assert_int_equal(bind(&w, SHIM_PASID_AMD_GCR3, 10, 0), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_AMD_GCR3, 9, 3), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_VTD, 9, 0), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_AMD_GCR3, 9, 0), 0);
	/* The IOASID's format says how many levels there are. */
	*at(&w, DIRS + 3 * 8) = x86_table(&w, 5, 7) | GCR3_V;
	expect_byte(&w, 3, K4, 7);
	expect_fault(&w, 3, 1ull << 57, SHIM_FAULT_NON_CANONICAL);
	*at(&w, DIRS + 4 * 8) = BASE | GCR3_V | 1ull << 1;
	expect_fault(&w, 4, K4, SHIM_FAULT_RESERVED_BITS);
	*at(&w, DIRS + 4 * 8) = BASE | GCR3_V | 1ull << 63;
	expect_fault(&w, 4, K4, SHIM_FAULT_RESERVED_BITS);
	*at(&w, DIRS + 4 * 8) = 1ull << 48 | GCR3_V;
	expect_fault(&w, 4, K4, SHIM_FAULT_OUTPUT_WIDTH);
	*at(&w, DIRS + 4 * 8) = (BASE + LENGTH) | GCR3_V;
	expect_fault(&w, 4, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	/* Tagged by PASID, and each level has its command. */
	*at(&w, DIRS + 3 * 8) = x86_table(&w, 5, 9) | GCR3_V;
	expect_byte(&w, 3, K4, 7);
	invalidate(&w, SHIM_INVALIDATE_PASID, 3);
	expect_byte(&w, 3, K4, 7);
	invalidate(&w, SHIM_INVALIDATE_PASID_CACHE, 4);
	invalidate(&w, SHIM_INVALIDATE_PASID, 3);
	expect_byte(&w, 3, K4, 7);
	invalidate(&w, SHIM_INVALIDATE_PASID_CACHE, 3);
	expect_byte(&w, 3, K4, 7);
	invalidate(&w, SHIM_INVALIDATE_PASID, 3);
	expect_byte(&w, 3, K4, 9);
	fixture_close(&w.f);
}

/* ---- RISC-V ---- */

#define PDTE(address) ((address) >> 2 | 1)
#define TA_V	      (1ull << 0)
#define PSCID(n)      ((uint64_t)(n) << 12)
#define FSC(mode, at) ((uint64_t)(mode) << 60 | (at) >> 12)
#define BARE	      0
#define SV39	      8
#define SV48	      9
#define SV57	      10

/* V, R, W, U, A, D; a pointer has V alone. */
static uint64_t riscv_table(struct world *w, unsigned int levels, uint64_t page)
{
	return new_table(w, levels, 1, (BASE + page * K4) >> 2 | 0xd7, 2);
}

static void set_context(struct world *w, uint64_t address, uint64_t ta, uint64_t fsc)
{
	*at(w, address) = ta;
	*at(w, address + 8) = fsc;
}

static void test_pdt_modes(void **state)
{
	static const uint32_t pasids[] = {5, 255, 256, 0x1ffff, 0x20000, (1u << 20) - 1};
	static const uint8_t bits[] = {0, 8, 17, 20};

	for (uint32_t mode = 1; mode <= 3; mode++) {
		for (size_t i = 0; i < sizeof(pasids) / sizeof(pasids[0]); i++) {
			uint32_t pasid = pasids[i];
			uint64_t dir = DIRS;
			struct world w;

			world_open(&w, riscv, SHIM_FORMAT_SV39X4, SHIM_FORMAT_SV48);
			assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, bits[mode], mode), 0);
			expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			for (uint32_t level = mode; level > 1; level--) {
				uint32_t index = level == 3 ? pasid >> 17 : pasid >> 8 & 511;

				*at(&w, dir + index * 8) = PDTE(dir + K4);
				dir += K4;
				expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			}
			set_context(&w, dir + (pasid & 255) * 16, TA_V | PSCID(9),
				    FSC(SV48, riscv_table(&w, 4, 7)));
			if (pasid >> bits[mode])
				expect_fault(&w, pasid, K4, SHIM_FAULT_NOT_ATTACHED);
			else
				expect_byte(&w, pasid, K4, 7);
			expect_fault(&w, pasid ^ 1, K4, SHIM_FAULT_NOT_ATTACHED);
			fixture_close(&w.f);
		}
	}
}

static void test_pdt_contexts(void **state)
{
	struct world w;
	uint64_t root;

	world_open(&w, riscv, SHIM_FORMAT_SV39X4, SHIM_FORMAT_SV39);
	assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, 9, 1), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, 8, 0), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, 8, 4), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, 8, 1), 0);
	root = riscv_table(&w, 3, 7);
	set_context(&w, DIRS + 1 * 16, TA_V | PSCID(1), FSC(SV39, root));
	expect_byte(&w, 1, K4, 7);
	expect_fault(&w, 1, 1ull << 38, SHIM_FAULT_NON_CANONICAL);
	/* Bare: the parent's addresses. */
	set_context(&w, DIRS + 2 * 16, TA_V | PSCID(2), FSC(BARE, 0));
	expect_byte(&w, 2, BASE + 9 * K4, 9);
	expect_fault(&w, 2, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	/* A mode that means nothing, and one that the IOMMU lacks. */
	set_context(&w, DIRS + 3 * 16, TA_V, FSC(7, root));
	expect_fault(&w, 3, K4, SHIM_FAULT_BAD_ENTRY);
	set_context(&w, DIRS + 4 * 16, TA_V, FSC(SV57, root));
	expect_fault(&w, 4, K4, SHIM_FAULT_BAD_ENTRY);
	set_context(&w, DIRS + 5 * 16, TA_V | 1ull << 3, FSC(SV39, root));
	expect_fault(&w, 5, K4, SHIM_FAULT_RESERVED_BITS);
	set_context(&w, DIRS + 6 * 16, TA_V, FSC(SV39, root) | 1ull << 44);
	expect_fault(&w, 6, K4, SHIM_FAULT_RESERVED_BITS);
	set_context(&w, DIRS + 7 * 16, TA_V, FSC(SV39, 1ull << 48));
	expect_fault(&w, 7, K4, SHIM_FAULT_OUTPUT_WIDTH);
	set_context(&w, DIRS + 8 * 16, TA_V, FSC(SV39, BASE + LENGTH));
	expect_fault(&w, 8, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	fixture_close(&w.f);
}

/* Two processes with one PSCID are one space to the caches. */
static void test_pscid(void **state)
{
	struct world w;

	world_open(&w, riscv, SHIM_FORMAT_SV39X4, SHIM_FORMAT_SV39);
	assert_int_equal(bind(&w, SHIM_PASID_RISCV_PDT, 8, 1), 0);
	set_context(&w, DIRS + 1 * 16, TA_V | PSCID(77), FSC(SV39, riscv_table(&w, 3, 7)));
	set_context(&w, DIRS + 2 * 16, TA_V | PSCID(77), FSC(SV39, riscv_table(&w, 3, 8)));
	set_context(&w, DIRS + 3 * 16, TA_V | PSCID(78), FSC(SV39, riscv_table(&w, 3, 9)));
	expect_byte(&w, 1, K4, 7);
	expect_byte(&w, 2, K4, 7);
	expect_byte(&w, 3, K4, 9);
	invalidate(&w, SHIM_INVALIDATE_PASID, 2);
	expect_byte(&w, 2, K4, 8);
	fixture_close(&w.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gcr3_levels), cmocka_unit_test(test_gcr3_entries),
		cmocka_unit_test(test_pdt_modes),   cmocka_unit_test(test_pdt_contexts),
		cmocka_unit_test(test_pscid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
