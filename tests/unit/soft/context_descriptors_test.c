/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables of context descriptors (SMMUv3) that a tenant writes: their shapes, what a descriptor
 * says, what is cached of it and by which of SMMUv3's commands that goes.  Descriptors and tables
 * are laid out here by Arm IHI 0070 5.4 and the Arm ARM D8.3, not by the code under test.
 */

#include "tenant.h"

static const char topology[] =
	"{\"version\": 1,\n"
	" \"iommus\": [{\"name\": \"smmu0\",\n"
	"   \"formats\": [\"armv8-s1-4k\", \"armv8-s1-64k\", \"armv8-s2-4k\"],\n"
	"   \"output_bits\": 48, \"pasid_bits\": 20, \"access_dirty\": true,\n"
	"   \"iotlb_entries\": 1024}],\n"
	" \"devices\": [\n"
	"   {\"address\": \"0000:01:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu0\", \"group\": 1},\n"
	"   {\"address\": \"0000:81:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020000\",\n"
	"    \"iommu\": \"smmu0\", \"group\": 2}]}\n";

#define LENGTH (8 * M2)
#define K64    (64ull << 10)
#define UPPER  0xffff000000000000ull /* the upper half of 48 bits begins here */
#define CDS    (BASE + 4 * M2)
#define L2_CDS (BASE + 5 * M2)

/* Descriptors of stage 1: a table; a page, attributes 0, inner-shareable, accessed, for all. */
#define TABLE	  3ull
#define AF	  (1ull << 10)
#define PAGE_RW	  (0x343ull | AF)
#define READ_ONLY (1ull << 7)

/* A context descriptor, word 0. */
#define T0SZ(n)	 ((uint64_t)(n))
#define TG0_64K	 (1ull << 6)
#define EPD0	 (1ull << 14)
#define T1SZ(n)	 ((uint64_t)(n) << 16)
#define TG1_4K	 (2ull << 22)
#define EPD1	 (1ull << 30)
#define V	 (1ull << 31)
#define IPS(n)	 ((uint64_t)(n) << 32)
#define TBI0	 (1ull << 38)
#define TBI1	 (1ull << 39)
#define AA64	 (1ull << 41)
#define HD	 (1ull << 42)
#define HA	 (1ull << 43)
#define ASID(n)	 ((uint64_t)(n) << 48)
#define PLAIN(n) (T0SZ(16) | T1SZ(16) | TG1_4K | V | IPS(5) | AA64 | HA | HD | ASID(n))

struct world {
	struct fixture f;
	struct shim_pt *parent, *pt;
	uint64_t next; /* offset of the next free page */
};

/* Page i of the memory is full of i. */
static void world_open(struct world *w)
{
	fixture_open(&w->f, topology, 0, LENGTH);
	for (uint64_t at = 0; at < M2; at += K4)
		memset(w->f.bytes + at, (int)(at / K4), K4);
	w->next = M2;
	w->parent = fixture_pt(&w->f, SHIM_FORMAT_ARMV8_S2_4K, NULL);
	assert_int_equal(fixture_map(&w->f, w->parent, BASE, LENGTH, 0, RW), 0);
	w->pt = tenant_pt(&w->f, SHIM_FORMAT_ARMV8_S1_4K, w->parent, NULL);
	fixture_attach(w->f.dev0, SHIM_NO_PASID, w->pt);
}

static void world_close(struct world *w)
{
	fixture_close(&w->f);
}

static _Atomic uint64_t *at(const struct world *w, uint64_t address)
{
	assert_true(address >= BASE && address - BASE < LENGTH);
	return (_Atomic uint64_t *)(w->f.bytes + (address - BASE));
}

static uint64_t new_table(struct world *w)
{
	uint64_t offset = w->next;

	w->next += K64;
	assert_true(w->next <= 4 * M2);
	return BASE + offset;
}

/* The last descriptor for an address in a table of 4K, four levels. */
static _Atomic uint64_t *descriptor(struct world *w, uint64_t root, uint64_t iova)
{
	uint64_t table = root;

	for (unsigned int shift = 39; shift > 12; shift -= 9) {
		_Atomic uint64_t *entry = at(w, table + (iova >> shift & 511) * 8);

		if (!*entry)
			*entry = new_table(w) | TABLE;
		table = *entry & 0x0000fffffffff000ull;
	}
	return at(w, table + (iova >> 12 & 511) * 8);
}

static void map_page(struct world *w, uint64_t root, uint64_t iova, uint64_t page, uint64_t bits)
{
	*descriptor(w, root, iova) = (BASE + page * K4) | bits;
}

static void set_cd(struct world *w, uint64_t address, uint64_t word, uint64_t lower, uint64_t upper)
{
	*at(w, address) = word;
	*at(w, address + 8) = lower;
	*at(w, address + 16) = upper;
}

static int bind_cds(struct world *w, uint64_t root, uint8_t bits, uint32_t shape)
{
	const struct shim_pasid_table table = {
		.format = SHIM_PASID_SMMUV3_CD,
		.root = root,
		.pasid_bits = bits,
		.shape = shape,
	};
	char reason[SHIM_REASON_MAX] = "";

	return shim_pt_bind_pasid_table(w->pt, &table, reason);
}

static void expect_byte(struct world *w, uint32_t pasid, uint64_t iova, uint8_t expected)
{
	struct shim_fault fault;
	uint8_t byte = (uint8_t)~expected;

	if (fixture_dma(w->f.dev0, pasid, SHIM_READ, iova, &byte, 1, &fault) != 1)
		fail_msg("PASID %u, 0x%llx: cause %d at level %u", pasid, (unsigned long long)iova,
			 fault.cause, fault.level);
	assert_int_equal(byte, expected);
}

static void expect_fault(struct world *w, uint32_t pasid, uint32_t access, uint64_t iova,
			 enum shim_fault_cause cause)
{
	struct shim_fault fault;
	uint8_t byte = 0;

	assert_int_equal(fixture_dma(w->f.dev0, pasid, access, iova, &byte, 1, &fault), 0);
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.access, access);
}

static int command(struct world *w, uint64_t first, uint64_t second)
{
	const uint64_t words[2] = {first, second};
	size_t done = 77;
	int r = shim_pt_invalidate_native(w->pt, SHIM_NATIVE_SMMUV3, words, 1, &done);

	assert_int_equal(done, r ? 0 : 1);
	return r;
}

#define CFGI_CD(ssid)	(0x05 | (uint64_t)(ssid) << 12)
#define CFGI_CD_ALL	0x06
#define TLBI_NH_ALL	0x10
#define TLBI_NH_ASID(n) (0x11 | ASID(n))
#define TLBI_NH_VA(n)	(0x12 | ASID(n))
#define TLBI_NH_VAA	0x13
#define TLBI_LEAF	1ull
#define TLBI_PAGES(n)	((uint64_t)((n)-1) << 12)
#define TLBI_TG_4K	(1ull << 10)

/* ---- shapes ---- */

static void test_shapes(void **state)
{
	static const struct {
		uint32_t shape, pasid;
		uint64_t cd, first; /* the descriptor; the entry that leads to it */
	} places[] = {
		{0, 3, CDS + 3 * 64, 0},      {0, 200, CDS + 200 * 64, 0},
		{1, 3, L2_CDS + 3 * 64, CDS}, {1, 64 * 5 + 7, L2_CDS + 7 * 64, CDS + 5 * 8},
		{2, 3, L2_CDS + 3 * 64, CDS}, {2, 1024 * 9 + 1023, L2_CDS + 1023 * 64, CDS + 9 * 8},
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint32_t pasid = places[i].pasid;
		struct world w;
		uint64_t root;

		world_open(&w);
		root = new_table(&w);
		map_page(&w, root, K4, 5, PAGE_RW);
		assert_int_equal(bind_cds(&w, CDS, places[i].shape ? 20 : 10, places[i].shape), 0);
		if (places[i].first) {
			expect_fault(&w, pasid, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
			*at(&w, places[i].first) = L2_CDS | 1;
		}
		expect_fault(&w, pasid, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
		set_cd(&w, places[i].cd, PLAIN(9), root, 0);
		expect_byte(&w, pasid, K4, 5);
		expect_fault(&w, pasid + 1, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
		if (!places[i].shape)
			expect_fault(&w, 1024, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
		/* A device without PASID goes by the first one. */
		expect_fault(&w, SHIM_NO_PASID, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
		/* The first level where the parent has nothing. */
		if (places[i].first) {
			*at(&w, places[i].first) = (BASE + LENGTH) | 1;
			assert_int_equal(command(&w, CFGI_CD_ALL, 0), 0);
			expect_fault(&w, pasid, SHIM_READ, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
			*at(&w, places[i].first) = (1ull << 48) | 1;
			expect_fault(&w, pasid, SHIM_READ, K4, SHIM_FAULT_OUTPUT_WIDTH);
		}
		world_close(&w);
	}
}

static void test_refused(void **state)
{
	struct world w;

	world_open(&w);
	assert_int_equal(bind_cds(&w, CDS, 10, 3), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind_cds(&w, CDS + 64, 10, 0), SHIM_E_RANGE);
	assert_int_equal(bind_cds(&w, CDS, 21, 0), SHIM_E_RANGE);
	assert_int_equal(bind_cds(&w, CDS, 0, 0), SHIM_E_RANGE);
	/* 64 bytes each: 64 MiB of descriptors do not end within the parent's input. */
	assert_int_equal(bind_cds(&w, (1ull << 48) - M2, 20, 0), SHIM_E_RANGE);
	assert_int_equal(bind_cds(&w, (1ull << 48) - M2, 15, 0), 0);
	/* Another architecture's. */
	assert_int_equal(shim_pt_bind_pasid_table(w.pt,
						  &(struct shim_pasid_table){
							  .format = SHIM_PASID_VTD,
							  .root = CDS,
							  .pasid_bits = 10,
						  },
						  NULL),
			 SHIM_E_UNSUPPORTED);
	world_close(&w);
}

/* ---- a descriptor ---- */

static void test_halves(void **state)
{
	const uint64_t high = UPPER + 7 * K4;
	uint64_t lower, upper;
	struct world w;

	world_open(&w);
	lower = new_table(&w);
	upper = new_table(&w);
	map_page(&w, lower, 7 * K4, 5, PAGE_RW);
	map_page(&w, upper, 7 * K4, 6, PAGE_RW);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 64, PLAIN(1), lower, upper);
	expect_byte(&w, 1, 7 * K4, 5);
	expect_byte(&w, 1, high, 6);
	expect_fault(&w, 1, SHIM_READ, 1ull << 48, SHIM_FAULT_ADDRESS_WIDTH);
	expect_fault(&w, 1, SHIM_READ, UPPER - K4, SHIM_FAULT_ADDRESS_WIDTH);
	expect_fault(&w, 1, SHIM_READ, 0x4200000000000000ull + 7 * K4, SHIM_FAULT_ADDRESS_WIDTH);
	/* Halves that are off. */
	set_cd(&w, CDS + 2 * 64, PLAIN(2) | EPD0, lower, upper);
	set_cd(&w, CDS + 3 * 64, PLAIN(3) | EPD1, lower, upper);
	expect_fault(&w, 2, SHIM_READ, 7 * K4, SHIM_FAULT_NOT_PRESENT);
	expect_byte(&w, 2, high, 6);
	expect_byte(&w, 3, 7 * K4, 5);
	expect_fault(&w, 3, SHIM_READ, high, SHIM_FAULT_NOT_PRESENT);
	/* Each half has a width of its own: 39 bits have three levels. */
	set_cd(&w, CDS + 4 * 64, (PLAIN(4) & ~63ull) | T0SZ(25),
	       *at(&w, lower) & 0x0000fffffffff000ull, upper);
	expect_byte(&w, 4, 7 * K4, 5);
	expect_byte(&w, 4, high, 6);
	expect_fault(&w, 4, SHIM_READ, 1ull << 39, SHIM_FAULT_ADDRESS_WIDTH);
	world_close(&w);
}

static void test_top_byte(void **state)
{
	const uint64_t tagged = 0x4200000000000000ull + 7 * K4;
	uint64_t lower, upper;
	struct world w;

	world_open(&w);
	lower = new_table(&w);
	upper = new_table(&w);
	map_page(&w, lower, 7 * K4, 5, PAGE_RW);
	map_page(&w, upper, 7 * K4, 6, PAGE_RW);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 64, PLAIN(1) | TBI0 | TBI1, lower, upper);
	expect_byte(&w, 1, tagged, 5);
	expect_byte(&w, 1, 0x42ff000000000000ull + 7 * K4, 6);
	/* A command names the address without the tag, and nothing is left of the others. */
	map_page(&w, lower, 7 * K4, 8, PAGE_RW);
	assert_int_equal(command(&w, TLBI_NH_VA(1), 7 * K4), 0);
	expect_byte(&w, 1, tagged, 8);
	expect_byte(&w, 1, 7 * K4, 8);
	world_close(&w);
}

static void test_granule(void **state)
{
	uint64_t root, leaf;
	struct world w;

	world_open(&w);
	/* 48 bits with 64K: three levels, the root of 64 entries. */
	root = new_table(&w);
	leaf = new_table(&w);
	*at(&w, root) = new_table(&w) | TABLE;
	*at(&w, *at(&w, root) & ~0xffffull) = leaf | TABLE;
	*at(&w, leaf + 3 * 8) = (BASE + K64) | PAGE_RW;
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 64, PLAIN(1) | TG0_64K, root, 0);
	expect_byte(&w, 1, 3 * K64 + 5 * K4, 16 + 5);
	/* TG0 3 means nothing; nor does a granule that the IOMMU lacks. */
	set_cd(&w, CDS + 2 * 64, PLAIN(2) | 3ull << 6, root, 0);
	expect_fault(&w, 2, SHIM_READ, 3 * K64, SHIM_FAULT_BAD_ENTRY);
	set_cd(&w, CDS + 3 * 64, PLAIN(3) | 2ull << 6, root, 0);
	expect_fault(&w, 3, SHIM_READ, 3 * K64, SHIM_FAULT_BAD_ENTRY);
	world_close(&w);
}

static void test_bent_descriptors(void **state)
{
	uint64_t root;
	struct world w;

	world_open(&w);
	root = new_table(&w);
	map_page(&w, root, K4, 5, PAGE_RW);
	*descriptor(&w, root, 2 * K4) = (1ull << 40) | PAGE_RW;
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 1 * 64, PLAIN(1) & ~V, root, 0);
	expect_fault(&w, 1, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
	set_cd(&w, CDS + 2 * 64, PLAIN(2) & ~AA64, root, 0);
	expect_fault(&w, 2, SHIM_READ, K4, SHIM_FAULT_BAD_ENTRY);
	set_cd(&w, CDS + 3 * 64, PLAIN(3) & ~63ull, root, 0); /* 64 bits of input */
	expect_fault(&w, 3, SHIM_READ, K4, SHIM_FAULT_BAD_ENTRY);
	/* IPS 2 is 40 bits, 3 is 42. */
	set_cd(&w, CDS + 4 * 64, (PLAIN(4) & ~IPS(7)) | IPS(2), root, 0);
	expect_byte(&w, 4, K4, 5);
	expect_fault(&w, 4, SHIM_READ, 2 * K4, SHIM_FAULT_OUTPUT_WIDTH);
	set_cd(&w, CDS + 5 * 64, (PLAIN(5) & ~IPS(7)) | IPS(3), root, 0);
	expect_fault(&w, 5, SHIM_READ, 2 * K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	/* The table itself where the parent has nothing. */
	set_cd(&w, CDS + 6 * 64, PLAIN(6), BASE + LENGTH, 0);
	expect_fault(&w, 6, SHIM_READ, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	world_close(&w);
}

/* HA and HD say who sets the access flag and makes a clean page dirty. */
static void test_flags(void **state)
{
	const uint64_t dbm = 1ull << 51;
	uint64_t root;
	struct world w;

	world_open(&w);
	root = new_table(&w);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 1 * 64, PLAIN(1), root, 0);
	set_cd(&w, CDS + 2 * 64, PLAIN(2) & ~(HA | HD), root, 0);
	set_cd(&w, CDS + 3 * 64, PLAIN(3) & ~HD, root, 0);
	for (uint32_t pasid = 1; pasid <= 3; pasid++) {
		map_page(&w, root, pasid * K4, 5, PAGE_RW & ~AF);
		map_page(&w, root, (8 + pasid) * K4, 6, PAGE_RW | READ_ONLY | dbm);
	}
	expect_byte(&w, 1, 1 * K4, 5);
	assert_true(*descriptor(&w, root, 1 * K4) & AF);
	expect_fault(&w, 2, SHIM_READ, 2 * K4, SHIM_FAULT_ACCESS_FLAG);
	expect_byte(&w, 3, 3 * K4, 5);
	{
		struct shim_fault fault;
		uint8_t byte = 6;

		assert_int_equal(fixture_dma(w.f.dev0, 1, SHIM_WRITE, 9 * K4, &byte, 1, &fault), 1);
	}
	assert_false(*descriptor(&w, root, 9 * K4) & READ_ONLY);
	expect_fault(&w, 2, SHIM_WRITE, 10 * K4, SHIM_FAULT_PERMISSION);
	expect_fault(&w, 3, SHIM_WRITE, 11 * K4, SHIM_FAULT_PERMISSION);
	world_close(&w);
}

/* ---- caches ---- */

static void test_asid(void **state)
{
	uint64_t one, two;
	struct world w;

	world_open(&w);
	one = new_table(&w);
	two = new_table(&w);
	map_page(&w, one, K4, 5, PAGE_RW);
	map_page(&w, two, K4, 6, PAGE_RW);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 1 * 64, PLAIN(77), one, 0);
	set_cd(&w, CDS + 2 * 64, PLAIN(77), two, 0);
	set_cd(&w, CDS + 3 * 64, PLAIN(78), two, 0);
	expect_byte(&w, 1, K4, 5);
	/* One ASID is one space, whatever its tables: so much is the tenant's own matter. */
	expect_byte(&w, 2, K4, 5);
	expect_byte(&w, 3, K4, 6);
	assert_int_equal(command(&w, TLBI_NH_ASID(78), 0), 0);
	expect_byte(&w, 2, K4, 5);
	assert_int_equal(command(&w, TLBI_NH_ASID(77), 0), 0);
	expect_byte(&w, 2, K4, 6);
	/* The descriptor is cached, too. */
	set_cd(&w, CDS + 3 * 64, PLAIN(79), one, 0);
	expect_byte(&w, 3, K4, 6);
	assert_int_equal(command(&w, TLBI_NH_ALL, 0), 0);
	expect_byte(&w, 3, K4, 6);
	assert_int_equal(command(&w, CFGI_CD(2), 0), 0);
	expect_byte(&w, 3, K4, 6);
	assert_int_equal(command(&w, CFGI_CD(3), 0), 0);
	expect_byte(&w, 3, K4, 5);
	world_close(&w);
}

/* Too narrow a command leaves the rest stale. */
static void test_narrow_commands(void **state)
{
	uint64_t root, other;
	struct world w;

	world_open(&w);
	root = new_table(&w);
	other = new_table(&w);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 1 * 64, PLAIN(1), root, 0);
	for (uint64_t i = 1; i <= 8; i++) {
		map_page(&w, root, i * K4, 10 + i, PAGE_RW);
		map_page(&w, other, i * K4, 30 + i, PAGE_RW);
		expect_byte(&w, 1, i * K4, (uint8_t)(10 + i));
		map_page(&w, root, i * K4, 20 + i, PAGE_RW);
	}
	assert_int_equal(command(&w, TLBI_NH_VA(2), 1 * K4), 0);
	expect_byte(&w, 1, 1 * K4, 11);
	assert_int_equal(command(&w, TLBI_NH_VA(1), 1 * K4), 0);
	expect_byte(&w, 1, 1 * K4, 21);
	expect_byte(&w, 1, 2 * K4, 12);
	assert_int_equal(command(&w, TLBI_NH_VAA, 2 * K4), 0);
	expect_byte(&w, 1, 2 * K4, 22);
	/* Three pages from the third on. */
	assert_int_equal(command(&w, TLBI_NH_VA(1) | TLBI_PAGES(3), TLBI_TG_4K | 3 * K4), 0);
	for (uint64_t i = 3; i <= 5; i++)
		expect_byte(&w, 1, i * K4, (uint8_t)(20 + i));
	expect_byte(&w, 1, 6 * K4, 16);
	/* The lowest table changes: the leaf command leaves the way to it as it was. */
	*at(&w, *at(&w, *at(&w, root) & 0x0000fffffffff000ull) & 0x0000fffffffff000ull) =
		*at(&w, *at(&w, *at(&w, other) & 0x0000fffffffff000ull) & 0x0000fffffffff000ull);
	assert_int_equal(command(&w, TLBI_NH_VA(1), TLBI_LEAF | 6 * K4), 0);
	expect_byte(&w, 1, 6 * K4, 26);
	assert_int_equal(command(&w, TLBI_NH_VA(1), 6 * K4), 0);
	expect_byte(&w, 1, 6 * K4, 36);
	world_close(&w);
}

static void test_unknown_commands(void **state)
{
	const uint64_t words[] = {TLBI_NH_ALL, 0, TLBI_NH_ALL, 0, 0x46, 0, TLBI_NH_ALL, 0};
	const uint64_t vtd[3] = {0, UINT64_MAX, 0};
	struct world w;
	size_t done;

	world_open(&w);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	assert_int_equal(shim_pt_invalidate_native(w.pt, SHIM_NATIVE_SMMUV3, words, 4, &done),
			 -EINVAL);
	assert_int_equal(done, 2);
	assert_int_equal(shim_pt_invalidate_native(w.pt, SHIM_NATIVE_VTD_S1, vtd, 1, &done),
			 SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_invalidate_native(w.parent, SHIM_NATIVE_SMMUV3, words, 1, &done),
			 SHIM_E_UNSUPPORTED);
	world_close(&w);
}

/* The neutral form, of which a PASID's says less than an ASID's. */
static void test_neutral(void **state)
{
	struct shim_invalidate entry = {.scope = SHIM_INVALIDATE_PASID, .pasid = 1};
	uint64_t root;
	struct world w;
	size_t done;

	world_open(&w);
	root = new_table(&w);
	map_page(&w, root, K4, 5, PAGE_RW);
	assert_int_equal(bind_cds(&w, CDS, 10, 0), 0);
	set_cd(&w, CDS + 1 * 64, PLAIN(500), root, 0);
	expect_byte(&w, 1, K4, 5);
	map_page(&w, root, K4, 6, PAGE_RW);
	expect_byte(&w, 1, K4, 5);
	assert_int_equal(shim_pt_invalidate(w.pt, &entry, 1, &done), 0);
	expect_byte(&w, 1, K4, 6);
	/* A range in the upper half is one of these tables', too. */
	entry = (struct shim_invalidate){
		.scope = SHIM_INVALIDATE_RANGE, .iova = UPPER, .length = K4};
	assert_int_equal(shim_pt_invalidate(w.pt, &entry, 1, &done), 0);
	set_cd(&w, CDS + 1 * 64, 0, 0, 0);
	expect_byte(&w, 1, K4, 6);
	entry = (struct shim_invalidate){.scope = SHIM_INVALIDATE_PASID_CACHE, .pasid = 1};
	assert_int_equal(shim_pt_invalidate(w.pt, &entry, 1, &done), 0);
	/* Hardware asks the descriptor first: what is cached by ASID alone leads nowhere. */
	expect_fault(&w, 1, SHIM_READ, K4, SHIM_FAULT_NOT_ATTACHED);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_halves),		cmocka_unit_test(test_top_byte),
		cmocka_unit_test(test_granule),		cmocka_unit_test(test_bent_descriptors),
		cmocka_unit_test(test_flags),		cmocka_unit_test(test_asid),
		cmocka_unit_test(test_narrow_commands), cmocka_unit_test(test_unknown_commands),
		cmocka_unit_test(test_neutral),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
