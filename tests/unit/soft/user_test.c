/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Kind USER: tables that the tenant writes, on parents of both families; what binding,
 * unbinding and a parent's change do to devices that go through them.
 */

#include "tenant.h"

#include <fcntl.h>

static const enum shim_format formats[] = {
	SHIM_FORMAT_X86_64_4L,
	SHIM_FORMAT_X86_64_5L,
	SHIM_FORMAT_VTDSS_4L,
	SHIM_FORMAT_VTDSS_5L,
};
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

static bool is_x86(enum shim_format format)
{
	return format == SHIM_FORMAT_X86_64_4L || format == SHIM_FORMAT_X86_64_5L;
}

/* A leaf's bits for reading, or for reading and writing. */
static uint64_t leaf_bits(enum shim_format format, bool write)
{
	return (is_x86(format) ? P | U : SS_R) | (write ? W : 0);
}

static struct shim_pt *parent_of(struct fixture *f, enum shim_format format)
{
	struct shim_pt *parent = fixture_pt(f, format, NULL);

	assert_int_equal(fixture_map(f, parent, BASE, f->length, 0, RW), 0);
	return parent;
}

static void test_every_pair_of_formats(void **state)
{
	for (size_t c = 0; c < N_FORMATS; c++) {
		for (size_t p = 0; p < N_FORMATS; p++) {
			struct shim_pt *parent, *pt;
			struct shim_fault fault;
			struct shim_walk walk;
			struct tenant t;
			struct fixture f;
			uint8_t byte;

			fixture_open(&f, NULL, 0, 8 * M2);
			parent = parent_of(&f, formats[p]);
			t = tenant_new(&f, BASE, formats[c], TABLES);
			pt = tenant_pt(&f, formats[c], parent,
				       &(struct shim_table){.root = t.root});
			fixture_attach(f.dev0, SHIM_NO_PASID, pt);
			fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_NOT_PRESENT);
			/* Absence is not cached: what the tenant writes is there at once. */
			tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | leaf_bits(formats[c], true));
			tenant_set(&t, 1, 0x6000, (BASE + 0x9000) | leaf_bits(formats[c], false));
			tenant_set(&t, 2, 2 * M2,
				   (BASE + 3 * M2) | leaf_bits(formats[c], true) | PS);
			f.bytes[0x8123] = 0x5a;
			fixture_expect_byte(f.dev0, 0x5123, 0x5a);
			byte = 0xa5;
			assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 0x5124,
						     &byte, 1, &fault),
					 1);
			assert_int_equal(f.bytes[0x8124], 0xa5);
			fixture_expect_fault(f.dev0, SHIM_WRITE, 0x6000, SHIM_FAULT_PERMISSION);
			f.bytes[3 * M2 + 0x12345] = 0x77;
			fixture_expect_byte(f.dev0, 2 * M2 + 0x12345, 0x77);

			assert_int_equal(shim_pt_walk(pt, 0x5123, SHIM_READ, &walk), 0);
			assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
			assert_ptr_equal(walk.mem, f.mem);
			assert_int_equal(walk.offset, 0x8123);
			assert_int_equal(walk.page_size, K4);
			assert_int_equal(walk.prot & RW, RW);
			assert_true(walk.n_levels > t.levels && walk.n_levels <= SHIM_WALK_MAX);
			/* Mapping is the tenant's, not the shim's. */
			assert_int_equal(fixture_map_child(pt, 0, K4, BASE, RW),
					 SHIM_E_UNSUPPORTED);
			assert_int_equal(fixture_unmap(pt, 0x5000, K4), SHIM_E_UNSUPPORTED);
			assert_int_equal(shim_pt_table_bytes(pt), 0);
			fixture_close(&f);
		}
	}
}

static void test_beyond_the_parent(void **state)
{
	for (size_t c = 0; c < N_FORMATS; c++) {
		struct shim_pt *parent, *pt;
		struct tenant t;
		struct fixture f;
		struct soft_shim *shim;

		fixture_open(&f, NULL, 0, 8 * M2);
		shim = soft_shim_of(f.shim);
		parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
		t = tenant_new(&f, BASE, formats[c], TABLES);
		pt = tenant_pt(&f, formats[c], parent, &(struct shim_table){.root = t.root});
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		for (unsigned int level = 1; level <= t.levels; level++) {
			/* Where its memory really is, the shim's own tables, and just beyond. */
			const uint64_t targets[] = {
				soft_mem_of(f.mem)->piece.start,
				soft_pt_of(parent)->root,
				shim->window.bytes - K4,
				BASE + f.length,
				BASE - K4,
				0,
			};
			uint64_t iova = (uint64_t)level << (12 + 9 * (level - 1));
			uint64_t bits = level == 1 ? leaf_bits(formats[c], true) : t.table_bits;

			for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
				tenant_set(&t, level, iova, targets[i] | bits);
				fixture_expect_fault(f.dev0, SHIM_READ, iova,
						     SHIM_FAULT_PARENT_NOT_PRESENT);
				fixture_expect_fault(f.dev0, SHIM_WRITE, iova,
						     SHIM_FAULT_PARENT_NOT_PRESENT);
				/* Paging structures are cached: the command for it. */
				assert_int_equal(
					shim_pt_invalidate(pt,
							   &(struct shim_invalidate){
								   .scope = SHIM_INVALIDATE_ALL},
							   1, &(size_t){0}),
					0);
			}
			tenant_set(&t, level, iova, 0);
		}
		fixture_close(&f);
	}
}

static void test_permissions_of_both(void **state)
{
	struct shim_pt *parent, *pt;
	struct shim_fault fault;
	struct tenant t;
	struct fixture f;
	uint8_t byte = 0;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	/* 2 MiB to write to, then 2 MiB to read, as one large page and as small ones. */
	assert_int_equal(fixture_map(&f, parent, BASE, M2, 0, RW), 0);
	assert_int_equal(fixture_map(&f, parent, BASE + M2, M2, M2, SHIM_READ), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	tenant_set(&t, 1, 0x1000, (BASE + M2) | P | W | U);
	tenant_set(&t, 2, G1, (BASE + M2) | P | W | U | PS);
	fixture_expect_byte(f.dev0, 0x1000, 0);
	fixture_expect_byte(f.dev0, G1, 0);
	assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 0x1000, &byte, 1, &fault),
			 0);
	assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
	assert_int_equal(fault.stage, 2);
	fixture_expect_fault(f.dev0, SHIM_WRITE, G1 + 0x5000, SHIM_FAULT_PARENT_PERMISSION);
	/* A large page of the tenant's ends where the parent's ends. */
	tenant_set(&t, 3, 2 * G1, BASE | P | W | U | PS);
	assert_int_equal(
		fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 2 * G1 + 2 * M2, &byte, 1, &fault),
		0);
	assert_int_equal(fault.cause, SHIM_FAULT_PARENT_NOT_PRESENT);
	fixture_close(&f);
}

static void test_refused(void **state)
{
	const char *const one = "{\"version\": 1, \"iommus\": [{\"name\": \"a\", \"formats\": "
				"[\"vtdss-4l\", \"x86_64-4l\"], \"max_depth\": 1}], \"devices\": ["
				"{\"address\": \"" DEV0 "\", \"vendor_device\": \"8086:10fb\", "
				"\"class\": \"020000\", \"iommu\": \"a\", \"group\": 1}]}";
	struct shim_pt *parent, *kernel, *pt = NULL;
	char reason[SHIM_REASON_MAX] = "";
	struct shim_table table = {0};
	struct shim *flat;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
	kernel = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, parent);
	assert_int_equal(tenant_try_create(&f,
					   (struct shim_pt_spec){.format = SHIM_FORMAT_X86_64_4L},
					   reason, &pt),
			 SHIM_E_UNSUPPORTED);
	assert_non_null(strstr(reason, "parent"));
	table.root = 0x1001;
	assert_int_equal(tenant_try_create(&f,
					   (struct shim_pt_spec){.format = SHIM_FORMAT_X86_64_4L,
								 .parent = parent,
								 .table = &table},
					   reason, &pt),
			 SHIM_E_RANGE);
	assert_null(pt);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	assert_int_equal(shim_pt_bind_table(pt, &table, reason), SHIM_E_RANGE);
	table.root = 1ull << 48; /* beyond the parent's input */
	assert_int_equal(shim_pt_bind_table(pt, &table, reason), SHIM_E_RANGE);
	table.root = (1ull << 48) - K4; /* nothing is there; that is no error */
	assert_int_equal(shim_pt_bind_table(pt, &table, reason), 0);
	table.flags = 1u << 3;
	assert_int_equal(shim_pt_bind_table(pt, &table, reason), SHIM_E_UNSUPPORTED);
	table.flags = SHIM_TABLE_SUPERVISOR;
	assert_int_equal(shim_pt_bind_table(kernel, &table, reason), SHIM_E_UNSUPPORTED);
	shim_pt_destroy(pt);
	pt = tenant_pt(&f, SHIM_FORMAT_VTDSS_4L, parent, NULL);
	for (uint32_t flag = 1; flag < 8; flag <<= 1) {
		table.flags = flag;
		assert_int_equal(shim_pt_bind_table(pt, &table, reason), SHIM_E_UNSUPPORTED);
	}
	/* Depth: KERNEL, USER, USER, USER, and no further. */
	for (unsigned int depth = 3; depth <= 4; depth++)
		pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, pt, NULL);
	assert_int_equal(tenant_try_create(&f,
					   (struct shim_pt_spec){.format = SHIM_FORMAT_X86_64_4L,
								 .parent = pt},
					   reason, &(struct shim_pt *){NULL}),
			 SHIM_E_UNSUPPORTED);
	fixture_close(&f);

	flat = fixture_shim(one, 0);
	assert_string_not_equal(shim_device_info(flat, 0)->caps.kind_absent[SHIM_KIND_USER], "");
	shim_free(flat);
}

static void test_bind_replace_unbind(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant one, two;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
	f.bytes[0x8000] = 1;
	f.bytes[0x9000] = 2;
	one = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	two = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES + M2);
	tenant_set(&one, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	tenant_set(&two, 1, 0x5000, (BASE + 0x9000) | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_NOT_PRESENT);
	tenant_bind(pt, one.root, 0);
	fixture_expect_byte(f.dev0, 0x5000, 1);
	tenant_bind(pt, two.root, 0);
	fixture_expect_byte(f.dev0, 0x5000, 2);
	/* A refused one leaves the old. */
	assert_int_equal(shim_pt_bind_table(pt, &(struct shim_table){.root = one.root + 8}, NULL),
			 SHIM_E_RANGE);
	fixture_expect_byte(f.dev0, 0x5000, 2);
	assert_int_equal(shim_pt_bind_table(pt, NULL, NULL), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_NOT_PRESENT);
	fixture_close(&f);
}

/* Address 0 of the parent is a root like any other. */
static void test_root_at_zero(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, 0, f.length, 0, RW), 0);
	t = tenant_new(&f, 0, SHIM_FORMAT_X86_64_4L, 0);
	f.bytes[M2] = 9;
	tenant_set(&t, 1, 0x5000, M2 | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = 0});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_expect_byte(f.dev0, 0x5000, 9);
	fixture_close(&f);
}

/*
 * Four deep: KERNEL, and three tables of tenants one below the other.  Each lower one's
 * memory is where the one above maps it.
 */
static void test_four_deep(void **state)
{
	const uint64_t space[] = {BASE, 5 * G1, 9 * G1};
	struct shim_pt *pts[4];
	struct shim_walk walk;
	struct fixture f;
	struct tenant t;

	fixture_open(&f, NULL, 0, 8 * M2);
	pts[0] = parent_of(&f, SHIM_FORMAT_VTDSS_5L);
	for (unsigned int i = 1; i < 4; i++) {
		enum shim_format format = i == 2 ? SHIM_FORMAT_VTDSS_4L : SHIM_FORMAT_X86_64_5L;
		uint64_t bits = leaf_bits(format, true);

		t = tenant_new(&f, space[i - 1], format, TABLES + (i - 1) * M2);
		if (i < 3)
			for (uint64_t at = 0; at < f.length; at += M2)
				tenant_set(&t, 2, space[i] + at, (space[i - 1] + at) | bits | PS);
		pts[i] = tenant_pt(&f, format, pts[i - 1], &(struct shim_table){.root = t.root});
	}
	f.bytes[0x7456] = 0x42;
	tenant_set(&t, 1, 0x123000, (9 * G1 + 0x7000) | P | W | U);
	fixture_attach(f.dev0, SHIM_NO_PASID, pts[3]);
	fixture_expect_byte(f.dev0, 0x123456, 0x42);
	assert_int_equal(shim_pt_walk(pts[3], 0x123456, SHIM_WRITE, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
	assert_int_equal(walk.offset, 0x7456);
	assert_int_equal(walk.n_levels, SHIM_WALK_MAX);
	/* The root's memory goes; every stage above feels it at once. */
	assert_int_equal(fixture_unmap(pts[0], BASE, f.length), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x123456, SHIM_FAULT_PARENT_NOT_PRESENT);
	fixture_close(&f);
}

static void test_parent_changes(void **state)
{
	struct shim_pt *parent, *middle, *pt;
	struct tenant above, t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
	/* The middle maps the memory to 5G, in small pages so that one can change. */
	above = tenant_new(&f, BASE, SHIM_FORMAT_VTDSS_4L, TABLES);
	for (uint64_t at = 0; at < 4 * M2; at += K4)
		tenant_set(&above, 1, 5 * G1 + at, (BASE + at) | 3);
	middle = tenant_pt(&f, SHIM_FORMAT_VTDSS_4L, parent,
			   &(struct shim_table){.root = above.root});
	t = tenant_new(&f, 5 * G1, SHIM_FORMAT_X86_64_4L, TABLES + M2);
	tenant_set(&t, 1, 0x5000, (5 * G1 + 0x8000) | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, middle, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	f.bytes[0x8000] = 1;
	f.bytes[0xa000] = 2;
	fixture_expect_byte(f.dev0, 0x5000, 1);
	/* A change in the middle is stale until the middle is told. */
	tenant_set(&above, 1, 5 * G1 + 0x8000, (BASE + 0xa000) | 3);
	fixture_expect_byte(f.dev0, 0x5000, 1);
	assert_int_equal(shim_pt_invalidate(middle,
					    &(struct shim_invalidate){
						    .scope = SHIM_INVALIDATE_RANGE,
						    .iova = 5 * G1 + 0x8000,
						    .length = K4,
						    .leaf = true,
					    },
					    1, &(size_t){0}),
			 0);
	fixture_expect_byte(f.dev0, 0x5000, 2);
	/* Another table for the middle. */
	assert_int_equal(shim_pt_bind_table(middle, NULL, NULL), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_PARENT_NOT_PRESENT);
	tenant_bind(middle, above.root, 0);
	fixture_expect_byte(f.dev0, 0x5000, 2);
	/* And the root's mapping. */
	assert_int_equal(fixture_unmap(parent, BASE, f.length), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_PARENT_NOT_PRESENT);
	fixture_close(&f);
}

/* U/S, and what SRE and WPE make of it. */
static void test_flags(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P);	    /* supervisor, read-only */
	tenant_set(&t, 1, 0x6000, (BASE + 0x9000) | P | U); /* user, read-only */
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_PERMISSION);
	fixture_expect_byte(f.dev0, 0x6000, 0);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x6000, SHIM_FAULT_PERMISSION);
	tenant_bind(pt, t.root, SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT);
	fixture_expect_byte(f.dev0, 0x5000, 0);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x5000, SHIM_FAULT_PERMISSION);
	tenant_bind(pt, t.root, SHIM_TABLE_WRITE_PROTECT);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_PERMISSION);
	tenant_bind(pt, t.root, SHIM_TABLE_SUPERVISOR);
	{
		struct shim_fault fault;
		uint8_t byte = 3;

		assert_int_equal(
			fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 0x5000, &byte, 1, &fault),
			1);
		assert_int_equal(f.bytes[0x8000], 3);
	}
	/* Not even a supervisor goes through what is not there. */
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x7000, SHIM_FAULT_NOT_PRESENT);
	fixture_close(&f);
}

/* The tenant's memory loses pages under the walk. */
static void test_punched(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;

	tenant_guard_arm();
	fixture_open(&f, NULL, 0, 8 * M2);
	parent = parent_of(&f, SHIM_FORMAT_VTDSS_4L);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	/* A hole reads as zeros: nothing is present. */
	assert_int_equal(fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, TABLES,
				   (off_t)(4 * K4)),
			 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_NOT_PRESENT);
	t.next = TABLES + K4;
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	fixture_expect_byte(f.dev0, 0x5000, 0);
	/* Without its end, the memory raises SIGBUS. */
	assert_int_equal(ftruncate(f.fd, TABLES), 0);
	assert_int_equal(shim_pt_invalidate(pt,
					    &(struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL},
					    1, &(size_t){0}),
			 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x5000, SHIM_FAULT_MEMORY_ERROR);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x5000, SHIM_FAULT_MEMORY_ERROR);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair_of_formats),
		cmocka_unit_test(test_beyond_the_parent),
		cmocka_unit_test(test_permissions_of_both),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bind_replace_unbind),
		cmocka_unit_test(test_root_at_zero),
		cmocka_unit_test(test_four_deep),
		cmocka_unit_test(test_parent_changes),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_punched),
	};

	tenant_guard_keep();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
