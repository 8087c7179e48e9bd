/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stays stale, and which command ends it: IOTLB, paging-structure cache, PASID cache,
 * device TLBs; by the neutral commands and by VT-d's own.  And PASID tables.
 */

#include "tenant.h"

#define PASIDS_AT 0x800000ull /* offset of PASID directories in the memory */

/* VT-d PASID entry. */
#define PE_P	  (1ull << 0)
#define PE_FIRST  (1ull << 6)
#define PE_NESTED (3ull << 6)
#define PE_SRE	  (1ull << 0)
#define PE_5L	  (1ull << 2)
#define PE_WPE	  (1ull << 4)
#define PE_EAFE	  (1ull << 7)

static int invalidate(struct shim_pt *pt, struct shim_invalidate entry)
{
	size_t done = 99;
	int r = shim_pt_invalidate(pt, &entry, 1, &done);

	assert_int_equal(done, r ? 0 : 1);
	return r;
}

static int invalidate_range(struct shim_pt *pt, uint64_t iova, uint64_t length, bool leaf)
{
	return invalidate(pt, (struct shim_invalidate){
				      .scope = SHIM_INVALIDATE_RANGE,
				      .iova = iova,
				      .length = length,
				      .leaf = leaf,
			      });
}

static void expect_byte(struct shim_dev *dev, uint32_t pasid, uint64_t iova, uint8_t expected)
{
	struct shim_fault fault;
	uint8_t byte = (uint8_t)~expected;

	assert_int_equal(fixture_dma(dev, pasid, SHIM_READ, iova, &byte, 1, &fault), 1);
	assert_int_equal(byte, expected);
}

static struct shim_fault expect_fault(struct shim_dev *dev, uint32_t pasid, uint64_t iova,
				      enum shim_fault_cause cause)
{
	struct shim_fault fault;
	uint8_t byte = 0;

	assert_int_equal(fixture_dma(dev, pasid, SHIM_READ, iova, &byte, 1, &fault), 0);
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.access, SHIM_READ);
	return fault;
}

/* A fixture with a parent over all of the memory, of which the first 256 pages count up. */
static struct shim_pt *open_with_parent(struct fixture *f)
{
	struct shim_pt *parent;

	fixture_open(f, NULL, 0, 16 * M2);
	for (unsigned int i = 0; i < 256; i++)
		f->bytes[i * K4] = (uint8_t)i;
	parent = fixture_pt(f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(f, parent, BASE, f->length, 0, RW), 0);
	return parent;
}

static uint64_t page(unsigned int n)
{
	return (BASE + n * K4) | P | W | U;
}

/* ---- paging structures ---- */

static void test_structures_are_stale(void **state)
{
	struct shim_pt *pt;
	struct fixture f;
	struct tenant t, other;
	_Atomic uint64_t *pd;

	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, open_with_parent(&f), NULL);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	other = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES + M2);
	for (unsigned int i = 0; i < 8; i++) {
		tenant_set(&t, 1, i * K4, page(1 + i));
		tenant_set(&other, 1, i * K4, page(100 + i));
	}
	tenant_bind(pt, t.root, 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	/* The directory leads to another table; pages that were never asked for are stale. */
	pd = tenant_entry(&t, 2, 0);
	*pd = *tenant_entry(&other, 2, 0);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	/* With leaf, pages are looked up anew, by the way that is known. */
	assert_int_equal(invalidate_range(pt, 0, 2 * M2, true), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	/* A range that does not touch it. */
	assert_int_equal(invalidate_range(pt, M2, M2, false), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 2 * K4, 3);
	/* One page of what the directory entry maps is enough for the way there. */
	assert_int_equal(invalidate_range(pt, 4 * K4, K4, false), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 4 * K4, 104);
	expect_byte(f.dev0, SHIM_NO_PASID, 5 * K4, 105);
	/* The translations outside of the range were not dropped. */
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	expect_byte(f.dev0, SHIM_NO_PASID, 2 * K4, 3);
	assert_int_equal(invalidate(pt, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 100);
	/* A way that takes a permission away is not gone by for who needs it. */
	*tenant_entry(&t, 3, 0) &= ~W;
	assert_int_equal(invalidate(pt, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 6 * K4, 106);
	*tenant_entry(&t, 3, 0) |= W;
	{
		struct shim_fault fault;
		uint8_t byte = 9;

		assert_int_equal(
			fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 7 * K4, &byte, 1, &fault),
			1);
	}
	fixture_close(&f);
}

/* A parent's change takes the ways along, as they were found through it. */
static void test_structures_and_the_parent(void **state)
{
	struct shim_pt *parent, *pt;
	struct fixture f;
	struct tenant t;

	fixture_open(&f, NULL, 0, 16 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, BASE, M2, 0, RW), 0);
	assert_int_equal(fixture_map(&f, parent, BASE + M2, M2, M2, RW), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, M2);
	f.bytes[K4] = 1;
	f.bytes[2 * K4] = 2;
	tenant_set(&t, 1, 0, page(1));
	tenant_set(&t, 1, K4, page(2));
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	assert_int_equal(fixture_unmap(parent, BASE + M2, M2), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, 0, SHIM_FAULT_PARENT_NOT_PRESENT);
	/* Other memory in its place, with other tables. */
	f.bytes[8 * M2 + t.next - M2 - K4] = 0;
	assert_int_equal(fixture_map(&f, parent, BASE + M2, M2, 8 * M2, RW), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, 0, SHIM_FAULT_NOT_PRESENT);
	memcpy(f.bytes + 8 * M2, f.bytes + M2, M2);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	fixture_close(&f);
}

/* The same of a table in the middle: what was found through its parent before is not used. */
static void test_structures_in_the_middle(void **state)
{
	struct shim_pt *parent, *middle, *pt;
	struct tenant above, other, t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 16 * M2);
	f.bytes[K4] = 1;
	f.bytes[2 * K4] = 2;
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	/* The middle's tables: two sets, of which the parent shows one at BASE + 4M. */
	assert_int_equal(fixture_map(&f, parent, BASE, 2 * M2, 0, RW), 0);
	assert_int_equal(fixture_map(&f, parent, BASE + 2 * M2, M2, 2 * M2, RW), 0);
	above = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, 2 * M2);
	other = (struct tenant){
		.f = &f,
		.base = BASE - M2, /* what lies at 6M is seen where 4M was */
		.levels = 4,
		.table_bits = P | W | U,
		.next = 3 * M2,
	};
	other.root = tenant_page(&other);
	/* Other pages for the lower tables, so that a way that is kept leads astray. */
	(void)tenant_page(&other);
	for (uint64_t at = 0; at < M2; at += K4) {
		tenant_set(&above, 1, 5 * G1 + at, (BASE + at) | P | W | U | A | D);
		tenant_set(&other, 1, 5 * G1 + at, (BASE + (at ^ 3 * K4)) | P | W | U | A | D);
	}
	middle = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent,
			   &(struct shim_table){.root = above.root});
	t = (struct tenant){.f = &f, .base = 5 * G1, .levels = 4, .table_bits = P | W | U};
	t.next = TABLES;
	t.root = tenant_page(&t);
	tenant_set(&t, 1, 0, (5 * G1 + K4) | P | W | U);
	/* Its tables are where both sets lead to: pages of four are turned round. */
	for (uint64_t at = TABLES; at < TABLES + 4 * K4; at += K4)
		memcpy(f.bytes + TABLES + 4 * K4 + ((at - TABLES) ^ 3 * K4), f.bytes + at, K4);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, middle, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	memcpy(f.bytes + TABLES, f.bytes + TABLES + 4 * K4, 4 * K4);
	assert_int_equal(fixture_unmap(parent, BASE + 2 * M2, M2), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, 0, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(fixture_map(&f, parent, BASE + 2 * M2, M2, 3 * M2, RW), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 2);
	fixture_close(&f);
}

/*
 * A table in the middle that changes its own ways: its command reaches every IOMMU that walks it
 * for a child, though no device is attached to it; one that came by attach and one by replace.
 */
static void test_structures_of_who_is_walked_for_a_child(void **state)
{
	struct shim_pt *parent, *middle, *pt, *aside;
	struct tenant ways[2], t;
	struct fixture f;

	parent = open_with_parent(&f);
	aside = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		ways[i] = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES + i * M2);
		for (unsigned int k = 0; k < 8; k++)
			tenant_set(&ways[i], 1, 5 * G1 + k * K4, page(1 + 100 * i + k) | A | D);
		/* Where the child's tables lie: the same for both. */
		for (unsigned int k = 0; k < 8; k++)
			tenant_set(&ways[i], 1, 6 * G1 + k * K4,
				   (BASE + 8 * M2 + k * K4) | P | W | U | A | D);
	}
	middle = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent,
			   &(struct shim_table){.root = ways[0].root});
	t = (struct tenant){.f = &f, .levels = 4, .table_bits = P | W | U};
	t.base = 6 * G1 - 8 * M2;
	t.next = 8 * M2;
	t.root = tenant_page(&t);
	for (unsigned int k = 0; k < 8; k++)
		tenant_set(&t, 1, k * K4, (5 * G1 + k * K4) | P | W | U | A | D);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, middle, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_attach(f.dev1, SHIM_NO_PASID, aside);
	assert_int_equal(shim_replace(f.dev1, SHIM_NO_PASID, pt, NULL), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 1);
	expect_byte(f.dev1, SHIM_NO_PASID, 0, 1);
	/* The middle's directory leads to the other table. */
	*tenant_entry(&ways[0], 2, 5 * G1) = *tenant_entry(&ways[1], 2, 5 * G1);
	/* Leaf: its ways stay, whichever IOMMU knows them. */
	assert_int_equal(invalidate_range(middle, 5 * G1, 2 * M2, true), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	expect_byte(f.dev1, SHIM_NO_PASID, K4, 2);
	assert_int_equal(invalidate_range(middle, 5 * G1, 2 * M2, false), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, 2 * K4, 103);
	expect_byte(f.dev1, SHIM_NO_PASID, 2 * K4, 103);
	fixture_close(&f);
}

/* ---- VT-d's own layout ---- */

struct native {
	uint64_t address, pages;
	uint32_t flags, reserved;
} __attribute__((packed));

static void test_native(void **state)
{
	struct native array[3] = {{0, 1, 1, 0}, {BASE + 1, 1, 0, 0}, {0, 1, 0, 0}};
	const struct native wrong[] = {
		{0, 1, 2, 0},		{0, 1, 0, 1},	       {0, 0, 0, 0},
		{K4, UINT64_MAX, 0, 0}, {1ull << 60, 1, 0, 0}, {0, 1ull << 40, 0, 0},
	};
	struct shim_pt *parent, *pt, *ss;
	struct fixture f;
	struct tenant t;
	size_t done = 99;

	parent = open_with_parent(&f);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	for (unsigned int i = 0; i < 4; i++)
		tenant_set(&t, 1, i * K4, page(1 + i));
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	ss = tenant_pt(&f, SHIM_FORMAT_VTDSS_4L, parent, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	for (unsigned int i = 0; i < 4; i++) {
		expect_byte(f.dev0, SHIM_NO_PASID, i * K4, (uint8_t)(1 + i));
		tenant_set(&t, 1, i * K4, page(11 + i));
	}
	/* The first is done, the second means nothing. */
	assert_int_equal(shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, array, 3, &done),
			 -EINVAL);
	assert_int_equal(done, 1);
	expect_byte(f.dev0, SHIM_NO_PASID, 0, 11);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(
			shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, &wrong[i], 1, &done),
			-EINVAL);
		assert_int_equal(done, 0);
	}
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	array[0] = (struct native){2 * K4, 2, 0, 0};
	assert_int_equal(shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, array, 1, &done), 0);
	assert_int_equal(done, 1);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 2);
	expect_byte(f.dev0, SHIM_NO_PASID, 2 * K4, 13);
	expect_byte(f.dev0, SHIM_NO_PASID, 3 * K4, 14);
	/* Everything; with leaf the ways stay. */
	*tenant_entry(&t, 2, 0) = 0;
	array[0] = (struct native){0, UINT64_MAX, 1, 0};
	assert_int_equal(shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, array, 1, &done), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 12);
	array[0].flags = 0;
	assert_int_equal(shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, array, 1, &done), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, K4, SHIM_FAULT_NOT_PRESENT);
	/* Only first-stage tables of tenants. */
	assert_int_equal(shim_pt_invalidate_native(ss, SHIM_NATIVE_VTD_S1, array, 1, &done),
			 SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_invalidate_native(parent, SHIM_NATIVE_VTD_S1, array, 1, &done),
			 SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_invalidate_native(pt, SHIM_NATIVE_SMMUV3, array, 1, &done),
			 SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 0);
	fixture_close(&f);
}

/* ---- PASIDs ---- */

/* One table at several PASIDs: a PASID's command drops what is cached for it alone. */
static void test_one_pasid(void **state)
{
	const uint32_t pasids[] = {0, 1, 511, 512, (1u << 20) - 1};
	const size_t n = sizeof(pasids) / sizeof(pasids[0]);
	struct shim_pt *parent, *pt;
	struct fixture f;
	struct tenant t;

	parent = open_with_parent(&f);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	/* Each PASID has its page: two of one page may push each other out of the IOTLB. */
	for (unsigned int i = 0; i < n; i++)
		tenant_set(&t, 1, i * K4, page(1 + i));
	tenant_set(&t, 1, n * K4, page(77));
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	expect_byte(f.dev0, SHIM_NO_PASID, n * K4, 77);
	for (unsigned int i = 0; i < n; i++) {
		fixture_attach(f.dev0, pasids[i], pt);
		expect_byte(f.dev0, pasids[i], i * K4, (uint8_t)(1 + i));
	}
	for (unsigned int i = 0; i < n; i++)
		tenant_set(&t, 1, i * K4, page(101 + i));
	tenant_set(&t, 1, n * K4, page(177));
	for (unsigned int k = 0; k < n; k++) {
		assert_int_equal(invalidate(pt,
					    (struct shim_invalidate){
						    .scope = SHIM_INVALIDATE_PASID,
						    .pasid = pasids[k],
					    }),
				 0);
		for (unsigned int i = 0; i < n; i++)
			expect_byte(f.dev0, pasids[i], i * K4, (uint8_t)(i <= k ? 101 + i : 1 + i));
		expect_byte(f.dev0, SHIM_NO_PASID, n * K4, 77);
	}
	/* A range is everybody's. */
	assert_int_equal(invalidate_range(pt, n * K4, K4, true), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, n * K4, 177);
	fixture_close(&f);
}

/* ---- PASID tables ---- */

/* The qwords of a PASID's entry; the table is made in the page after the directory's. */
static _Atomic uint64_t *pasid_entry(struct tenant *t, uint64_t directory, uint32_t pasid)
{
	_Atomic uint64_t *dir = tenant_at(t, directory + (pasid >> 6) * 8);

	if (!*dir)
		*dir = tenant_page(t) | PE_P;
	return tenant_at(t, (*dir & 0x000ffffffffff000ull) + (pasid & 63) * 64);
}

static void pasid_set(struct tenant *t, uint64_t directory, uint32_t pasid, uint64_t first,
		      uint64_t third)
{
	_Atomic uint64_t *entry = pasid_entry(t, directory, pasid);

	entry[2] = third;
	entry[0] = first;
}

static int bind_pasids(struct shim_pt *pt, uint64_t root, uint8_t bits)
{
	char reason[SHIM_REASON_MAX] = "";

	return shim_pt_bind_pasid_table(pt,
					&(struct shim_pasid_table){.format = SHIM_PASID_VTD,
								   .root = root,
								   .pasid_bits = bits},
					reason);
}

static int drop_pasid(struct shim_pt *pt, enum shim_invalidate_scope scope, uint32_t pasid)
{
	return invalidate(
		pt, (struct shim_invalidate){.scope = scope, .pasid = pasid, .table_pasid = pasid});
}

static void test_pasid_table(void **state)
{
	const uint64_t directory = BASE + PASIDS_AT;
	struct tenant p = {.base = BASE, .levels = 4, .next = PASIDS_AT + 32 * K4};
	struct shim_pt *parent, *pt;
	struct tenant four, five;
	struct fixture f;

	parent = open_with_parent(&f);
	p.f = &f;
	four = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	five = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_5L, TABLES + M2);
	tenant_set(&four, 1, K4, page(4));
	tenant_set(&four, 1, 2 * K4, (BASE + 6 * K4) | P); /* a supervisor's */
	tenant_set(&five, 1, 1ull << 50, page(5));
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(bind_pasids(pt, directory, 20), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, K4, SHIM_FAULT_NOT_ATTACHED);
	expect_fault(f.dev0, 7, K4, SHIM_FAULT_NOT_ATTACHED);
	/* Absence is not kept. */
	pasid_set(&p, directory, 0, PE_P | PE_FIRST, four.root);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 4);
	expect_byte(f.dev0, 0, K4, 4);
	pasid_set(&p, directory, 7, PE_P | PE_NESTED, five.root | PE_5L);
	expect_byte(f.dev0, 7, 1ull << 50, 5);
	expect_fault(f.dev0, SHIM_NO_PASID, 1ull << 50, SHIM_FAULT_NON_CANONICAL);
	pasid_set(&p, directory, (1u << 20) - 1, PE_P | PE_NESTED,
		  four.root | PE_SRE | PE_WPE | PE_EAFE);
	expect_byte(f.dev0, (1u << 20) - 1, 2 * K4, 6);
	assert_true(*tenant_entry(&four, 1, 2 * K4) & EA);
	expect_fault(f.dev0, 0, 2 * K4, SHIM_FAULT_PERMISSION);
	/* An attachment of a PASID is nothing beside the table. */
	fixture_attach(f.dev0, 9, parent);
	expect_fault(f.dev0, 9, BASE, SHIM_FAULT_NOT_ATTACHED);
	/* What the walk meets is what a device without PASID meets. */
	{
		struct shim_walk walk;

		assert_int_equal(shim_pt_walk(pt, K4, SHIM_READ, &walk), 0);
		assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
		assert_int_equal(walk.offset, 4 * K4);
	}
	/* A table in its place, and back. */
	tenant_bind(pt, five.root, 0);
	expect_fault(f.dev0, SHIM_NO_PASID, K4, SHIM_FAULT_NOT_PRESENT);
	expect_byte(f.dev0, 9, BASE, 0);
	assert_int_equal(bind_pasids(pt, directory, 6), 0);
	expect_byte(f.dev0, SHIM_NO_PASID, K4, 4);
	expect_fault(f.dev0, 64, K4, SHIM_FAULT_NOT_ATTACHED); /* beyond its 6 bits */
	assert_int_equal(shim_pt_bind_pasid_table(pt, NULL, NULL), 0);
	expect_fault(f.dev0, SHIM_NO_PASID, K4, SHIM_FAULT_NOT_PRESENT);
	fixture_close(&f);
}

static void test_pasid_cache_is_stale(void **state)
{
	const uint64_t directory = BASE + PASIDS_AT;
	struct tenant p = {.base = BASE, .levels = 4, .next = PASIDS_AT + 32 * K4};
	struct shim_pt *parent, *pt;
	struct tenant one, two;
	struct fixture f;

	parent = open_with_parent(&f);
	p.f = &f;
	one = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	two = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES + M2);
	for (unsigned int i = 0; i < 8; i++) {
		tenant_set(&one, 1, i * K4, page(1 + i));
		tenant_set(&two, 1, i * K4, page(101 + i));
	}
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(bind_pasids(pt, directory, 20), 0);
	for (uint32_t pasid = 1; pasid <= 2; pasid++) {
		pasid_set(&p, directory, pasid, PE_P | PE_FIRST, one.root);
		expect_byte(f.dev0, pasid, pasid * K4, (uint8_t)(1 + pasid));
		pasid_set(&p, directory, pasid, PE_P | PE_FIRST, two.root);
	}
	/* Translations, ways and roots: each has its command. */
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID, 1), 0);
	expect_byte(f.dev0, 1, K4, 2);
	assert_int_equal(invalidate(pt, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), 0);
	expect_byte(f.dev0, 1, K4, 2);
	expect_byte(f.dev0, 2, 2 * K4, 3);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID_CACHE, 1), 0);
	expect_byte(f.dev0, 1, K4, 2); /* the translation is still there */
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID, 1), 0);
	expect_byte(f.dev0, 1, K4, 102);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID, 2), 0);
	expect_byte(f.dev0, 2, 2 * K4, 3);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID_CACHE, SHIM_NO_PASID), 0);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID, 2), 0);
	expect_byte(f.dev0, 2, 2 * K4, 103);
	/* One PASID's tables change; only its command counts. */
	tenant_set(&two, 1, K4, page(201));
	tenant_set(&two, 1, 2 * K4, page(202));
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID, 1), 0);
	expect_byte(f.dev0, 1, K4, 201);
	expect_byte(f.dev0, 2, 2 * K4, 103);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID_CACHE, 1u << 20), SHIM_E_RANGE);
	/* The parent takes the table away: nothing is left to go by. */
	assert_int_equal(fixture_unmap(parent, BASE, f.length), 0);
	expect_fault(f.dev0, 1, K4, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(shim_pt_bind_pasid_table(pt, NULL, NULL), 0);
	assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID_CACHE, 1), SHIM_E_UNSUPPORTED);
	fixture_close(&f);
}

static void test_bent_pasid_entries(void **state)
{
	const uint64_t directory = BASE + PASIDS_AT;
	struct tenant p = {.base = BASE, .levels = 4, .next = PASIDS_AT + 32 * K4};
	const struct {
		uint64_t first, third;
		enum shim_fault_cause cause;
	} entries[] = {
		{PE_FIRST, 0, SHIM_FAULT_NOT_ATTACHED},
		{PE_P, 0, SHIM_FAULT_BAD_ENTRY},
		{PE_P | 2ull << 6, 0, SHIM_FAULT_BAD_ENTRY}, /* second stage only */
		{PE_P | 4ull << 6, 0, SHIM_FAULT_BAD_ENTRY}, /* pass-through: never */
		{PE_P | PE_FIRST, 2ull << 2, SHIM_FAULT_BAD_ENTRY},
		{PE_P | PE_FIRST, 1ull << 8, SHIM_FAULT_RESERVED_BITS},
		{PE_P | PE_FIRST, 1ull << 11, SHIM_FAULT_RESERVED_BITS},
		{PE_P | PE_FIRST, 1ull << 48, SHIM_FAULT_OUTPUT_WIDTH},
		{PE_P | PE_FIRST, 1ull << 63, SHIM_FAULT_OUTPUT_WIDTH},
		{PE_P | PE_FIRST, 0, SHIM_FAULT_PARENT_NOT_PRESENT},
	};
	const struct {
		uint64_t entry;
		enum shim_fault_cause cause;
	} dirs[] = {
		{0, SHIM_FAULT_NOT_ATTACHED},
		{BASE, SHIM_FAULT_NOT_ATTACHED},
		{PE_P | 1ull << 2, SHIM_FAULT_RESERVED_BITS},
		{PE_P | 1ull << 11, SHIM_FAULT_RESERVED_BITS},
		{PE_P | 1ull << 62, SHIM_FAULT_RESERVED_BITS},
		{PE_P | 1ull << 51, SHIM_FAULT_OUTPUT_WIDTH},
		{PE_P | K4, SHIM_FAULT_PARENT_NOT_PRESENT},
		{PE_P | (BASE + 16 * M2), SHIM_FAULT_PARENT_NOT_PRESENT},
	};
	struct shim_pt *parent, *pt;
	struct fixture f;

	parent = open_with_parent(&f);
	p.f = &f;
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(bind_pasids(pt, directory, 20), 0);
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		pasid_set(&p, directory, 3, entries[i].first, entries[i].third);
		expect_fault(f.dev0, 3, K4, entries[i].cause);
		assert_int_equal(drop_pasid(pt, SHIM_INVALIDATE_PASID_CACHE, 3), 0);
	}
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		*tenant_at(&p, directory) = dirs[i].entry;
		expect_fault(f.dev0, 3, K4, dirs[i].cause);
	}
	fixture_close(&f);
}

static void test_pasid_table_refused(void **state)
{
	struct shim_pasid_table table = {.format = SHIM_PASID_VTD, .pasid_bits = 20};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *parent, *pt, *ss;
	struct fixture f;

	parent = open_with_parent(&f);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	ss = tenant_pt(&f, SHIM_FORMAT_VTDSS_4L, parent, NULL);
	assert_int_equal(bind_pasids(ss, BASE, 20), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind_pasids(parent, BASE, 20), SHIM_E_UNSUPPORTED);
	assert_int_equal(bind_pasids(pt, BASE + 64, 20), SHIM_E_RANGE);
	assert_int_equal(bind_pasids(pt, BASE, 0), SHIM_E_RANGE);
	assert_int_equal(bind_pasids(pt, BASE, 21), SHIM_E_RANGE);
	/* Its end would be beyond the parent's input. */
	assert_int_equal(bind_pasids(pt, (1ull << 48) - K4, 20), SHIM_E_RANGE);
	assert_int_equal(bind_pasids(pt, (1ull << 48) - K4, 15), 0);
	for (int format = 0; format <= _SHIM_PASID_FORMAT_MAX; format++) {
		table.format = (enum shim_pasid_format)format;
		assert_int_equal(shim_pt_bind_pasid_table(pt, &table, reason),
				 format == SHIM_PASID_VTD ? 0 : SHIM_E_UNSUPPORTED);
	}
	table.format = SHIM_PASID_VTD;
	table.shape = 1;
	assert_int_equal(shim_pt_bind_pasid_table(pt, &table, reason), SHIM_E_UNSUPPORTED);
	/* soft1 reads none, whichever comes first. */
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, pt, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, "PASID table"));
	assert_int_equal(shim_pt_bind_pasid_table(pt, NULL, reason), 0);
	fixture_attach(f.dev1, SHIM_NO_PASID, pt);
	assert_int_equal(bind_pasids(pt, BASE, 20), SHIM_E_UNSUPPORTED);
	fixture_close(&f);
}

static void test_capabilities(void **state)
{
	struct shim *shim = fixture_shim(NULL, 0);

	for (size_t i = 0; i < shim_device_count(shim); i++) {
		const struct shim_device_info *info = shim_device_info(shim, i);
		bool pasids = !strcmp(info->iommu, "soft0");

		assert_int_equal(info->caps.native_invalidations, 1u << SHIM_NATIVE_VTD_S1);
		assert_int_equal(info->caps.pasid_tables, pasids ? 1u << SHIM_PASID_VTD : 0);
		assert_int_equal(info->caps.invalidations >> SHIM_INVALIDATE_PASID_CACHE & 1,
				 pasids);
	}
	shim_free(shim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structures_are_stale),
		cmocka_unit_test(test_structures_and_the_parent),
		cmocka_unit_test(test_structures_in_the_middle),
		cmocka_unit_test(test_structures_of_who_is_walked_for_a_child),
		cmocka_unit_test(test_native),
		cmocka_unit_test(test_one_pasid),
		cmocka_unit_test(test_pasid_table),
		cmocka_unit_test(test_pasid_cache_is_stale),
		cmocka_unit_test(test_bent_pasid_entries),
		cmocka_unit_test(test_pasid_table_refused),
		cmocka_unit_test(test_capabilities),
	};

	tenant_guard_keep();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
