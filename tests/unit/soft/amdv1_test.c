/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AMD v1 entry by entry: sizes and their encoding, levels that are left out, reserved bits,
 * permissions, and the copies of which a large page is made.  What all formats have in common
 * is in properties_test.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench.h"

#define RW (SHIM_READ | SHIM_WRITE)

static const struct soft_env env52 = {.output_bits = 52};

static const struct soft_format *const modes[] = {
	&soft_format_amdv1_1, &soft_format_amdv1_2, &soft_format_amdv1_3,
	&soft_format_amdv1_4, &soft_format_amdv1_5, &soft_format_amdv1_6,
};

static struct soft_entry decode(const struct soft_env *env, unsigned int level, uint64_t raw)
{
	struct soft_entry entry;

	soft_format_amdv1_6.decode(env, level, raw, &entry);
	return entry;
}

static enum soft_entry_kind kind_of(unsigned int level, uint64_t raw)
{
	return decode(&env52, level, raw).kind;
}

static uint64_t leaf_of(unsigned int level, unsigned int shift, uint64_t address, uint32_t prot,
			bool snoop)
{
	return soft_format_amdv1_6.make_leaf(&env52, level, shift, address, prot, snoop);
}

/* ---- sizes ---- */

struct size {
	unsigned int shift, level, slots;
	uint64_t raw;
};

/* Pages at 2^40, IR + IW + PR; formats.md 4, computed with Linux's PAGE_SIZE_PTE(). */
static const struct size sizes[] = {
	{12, 1, 1, 0x6000010000000001},	  {13, 1, 2, 0x6000010000000e01},
	{14, 1, 4, 0x6000010000001e01},	  {16, 1, 16, 0x6000010000007e01},
	{20, 1, 256, 0x600001000007fe01}, {21, 2, 1, 0x6000010000000001},
	{22, 2, 2, 0x60000100001ffe01},	  {25, 2, 16, 0x6000010000fffe01},
	{32, 3, 4, 0x600001007ffffe01},	  {38, 3, 256, 0x6000011ffffffe01},
};

static void test_size_table(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct size *s = &sizes[i];
		struct soft_entry entry = decode(&env52, s->level, s->raw);

		assert_true(leaf_of(s->level, s->shift, 1ull << 40, RW, false) == s->raw);
		assert_int_equal(entry.kind, SOFT_ENTRY_LEAF);
		assert_int_equal(entry.shift, s->shift);
		assert_int_equal(entry.group, s->shift);
		assert_true(entry.address == 1ull << 40);
		assert_int_equal(entry.prot, RW | SOFT_USER);
	}
}

/* What is built has just that many equal entries, whatever part of it each maps. */
static void test_sizes_are_replicated(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct size *s = &sizes[i];
		uint64_t own = 1ull << (12 + 9 * (s->level - 1)), at = 1ull << 40;
		struct soft_translation where;
		struct shim_fault fault;
		struct bench b;

		bench_init(&b, &soft_format_amdv1_5);
		assert_int_equal(bench_map(&b, at, 1ull << s->shift, 1ull << 40, RW), 0);
		for (unsigned int slot = 0; slot < s->slots; slot++)
			assert_true(*bench_entry_at(&b, at + slot * own, s->level) == s->raw);
		assert_int_equal(soft_table_record(&b.tables, (uint64_t)((uint8_t *)bench_entry_at(
										 &b, at, s->level) -
									 b.window.base) &
								      ~0xfffull)
					 ->used,
				 s->slots);
		assert_true(
			bench_walk(&b, at + (1ull << s->shift) - 5, SHIM_WRITE, &where, &fault));
		assert_true(where.output == (1ull << 40) + (1ull << s->shift) - 5);
		assert_true(where.page_size == 1ull << s->shift);
		bench_unmap(&b, at, 1ull << s->shift);
		bench_deinit(&b);
	}
}

/* An encoded size needs entries at its level, neither fewer than one nor more than half a table. */
static void test_encoded_size_fits_level(void **state)
{
	for (unsigned int level = 1; level <= 6; level++) {
		unsigned int own = 12 + 9 * (level - 1);

		for (unsigned int shift = 13; shift <= 53; shift++) {
			uint64_t raw = 0x6000000000000e01 | soft_bits(12, shift - 1);
			bool fits = level < 6 && shift >= own && shift < own + 9;
			struct soft_entry entry = decode(&env52, level, raw);

			assert_int_equal(entry.kind, fits ? SOFT_ENTRY_LEAF : SOFT_ENTRY_RESERVED);
			/* As QEMU's hw/i386/amd_iommu.c counts: the ones from bit 0 on. */
			assert_int_equal(1 + __builtin_ctzll(~(raw | 0xfff)), shift);
			if (fits)
				assert_int_equal(entry.shift, shift);
		}
		/* A page of the level's own size; its address has nothing below. */
		assert_int_equal(kind_of(level, 0x6000000000000001),
				 level < 6 ? SOFT_ENTRY_LEAF : SOFT_ENTRY_RESERVED);
		for (unsigned int bit = 12; bit < own && bit < 52; bit++)
			assert_int_equal(kind_of(level, 0x6000000000000001 | 1ull << bit),
					 SOFT_ENTRY_RESERVED);
	}
}

/* 512G is walked, but not built: 1T as one page, and 512G as two of 256G. */
static void test_512g(void **state)
{
	const uint64_t g512 = 1ull << 39;
	struct soft_translation where;
	struct shim_fault fault;
	struct bench b;

	assert_int_equal(decode(&env52, 4, 0x6000000000000001).shift, 39);
	bench_init(&b, &soft_format_amdv1_5);
	assert_int_equal(bench_map(&b, 0, 4 * g512, 0, RW), 0);
	assert_int_equal(b.n_tables, 2);
	assert_true(bench_walk(&b, 3 * g512, SHIM_READ, &where, &fault));
	assert_true(where.page_size == 4 * g512);
	bench_unmap(&b, 0, 4 * g512);
	assert_int_equal(bench_map(&b, g512, g512, g512, RW), 0);
	assert_int_equal(b.n_tables, 3);
	assert_true(bench_walk(&b, g512, SHIM_READ, &where, &fault));
	assert_true(where.page_size == g512 / 2);
	bench_unmap(&b, g512, g512);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		assert_false(modes[i]->page_sizes & g512);
	bench_deinit(&b);
}

/* A bound counts no tables below pages of 1T and more, for which 512G has none of its own. */
static void test_bound_of_large_pages(void **state)
{
	struct soft_builder builder;
	struct bench b;

	bench_init(&b, &soft_format_amdv1_6);
	builder = bench_builder(&b);
	/* Root, level 5; 2^51 bytes are 4096 times 512G. */
	assert_true(soft_build_bound(&builder, 1ull << 51, 1ull << 51, 1ull << 51) <= 4);
	assert_int_equal(bench_map(&b, 1ull << 51, 1ull << 51, 0, RW), 0);
	assert_int_equal(b.n_tables, 2);
	bench_unmap(&b, 1ull << 51, 1ull << 51);
	bench_deinit(&b);
}

/* Of a page that is larger than the output space, what lies outside is refused by address. */
static void test_page_beyond_output(void **state)
{
	struct soft_translation where;
	struct shim_fault fault;
	struct bench b;

	bench_init(&b, &soft_format_amdv1_6);
	assert_int_equal(bench_map(&b, 0, 1ull << 51, 0, RW), 0);
	b.env.output_bits = 40;
	assert_true(bench_walk(&b, (1ull << 40) - 1, SHIM_READ, &where, &fault));
	assert_true(where.output == (1ull << 40) - 1);
	assert_true(where.page_size == 1ull << 40);
	bench_expect_fault(&b, 1ull << 40, SHIM_READ, SHIM_FAULT_OUTPUT_WIDTH, 5);
	bench_expect_fault(&b, (1ull << 51) - 1, SHIM_READ, SHIM_FAULT_OUTPUT_WIDTH, 5);
	bench_expect_fault(&b, 1ull << 51, SHIM_READ, SHIM_FAULT_NOT_PRESENT, 5);
	b.env.output_bits = 52;
	bench_deinit(&b);
}

/* ---- entries ---- */

static void test_reserved_bits(void **state)
{
	static const struct {
		unsigned int level;
		uint64_t raw;
	} entries[] = {
		{1, 0x6000000100000001}, /* 4K */
		{1, 0x6000000100007e01}, /* 64K */
		{2, 0x6000000100000001}, /* 2M */
		{2, 0x6000000100000201}, /* a table of level 1 */
		{6, 0x6000000100000a01}, /* a table of level 5 */
	};

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		enum soft_entry_kind plain = kind_of(entries[i].level, entries[i].raw);

		assert_true(plain == SOFT_ENTRY_LEAF || plain == SOFT_ENTRY_TABLE);
		for (unsigned int bit = 0; bit < 64; bit++) {
			enum soft_entry_kind expected =
				bit >= 52 && bit < 59 ? SOFT_ENTRY_RESERVED : plain;

			/* NextLevel and the address are for other tests. */
			if (bit >= 9 && bit < 52)
				continue;
			assert_int_equal(kind_of(entries[i].level, entries[i].raw | 1ull << bit),
					 expected);
			/* Whatever an entry without PR holds, it is not there. */
			assert_int_equal(
				kind_of(entries[i].level, (entries[i].raw | 1ull << bit) & ~1ull),
				SOFT_ENTRY_EMPTY);
		}
	}
	/* The width, of the address and not of the encoded size. */
	for (uint8_t bits = 32; bits < 52; bits++) {
		const struct soft_env env = {.output_bits = bits};

		assert_int_equal(decode(&env, 1, 0x6000000000000001 | 1ull << bits).kind,
				 SOFT_ENTRY_WIDTH);
		assert_int_equal(decode(&env, 1, 0x6000000000000001 | 1ull << (bits - 1)).kind,
				 SOFT_ENTRY_LEAF);
		assert_int_equal(decode(&env, 2, 0x6000000000000201 | 1ull << bits).kind,
				 SOFT_ENTRY_WIDTH);
		assert_int_equal(decode(&env, 3, 0x6000001ffffffe01).kind, SOFT_ENTRY_LEAF);
	}
}

static void test_next_level(void **state)
{
	for (unsigned int level = 1; level <= 6; level++)
		for (unsigned int next = 1; next <= 6; next++) {
			struct soft_entry entry =
				decode(&env52, level, 0x6000000012345001 | next << 9);

			assert_int_equal(entry.kind,
					 next < level ? SOFT_ENTRY_TABLE : SOFT_ENTRY_RESERVED);
			if (next >= level)
				continue;
			assert_int_equal(entry.level, next);
			assert_true(entry.address == 0x12345000);
			assert_int_equal(entry.prot, RW | SOFT_USER);
		}
}

static void test_snoop(void **state)
{
	assert_true(leaf_of(1, 12, 0x12345000, RW, true) == 0x7000000012345001);
	assert_true(soft_format_amdv1_4.make_table(&env52, 4, 0x12345000) == 0x6000000012345601);
	assert_true(soft_format_amdv1_6.make_table(&env52, 6, 0x12345000) == 0x6000000012345a01);
}

/* IR and IW of every level are ANDed; each may stand alone. */
static void test_permissions(void **state)
{
	struct soft_translation where;
	struct shim_fault fault;
	struct bench b;

	bench_init(&b, &soft_format_amdv1_4);
	for (uint32_t prot = 1; prot <= 3; prot++) {
		assert_int_equal(bench_map(&b, 0x5000, 0x1000, 0x1000, prot), 0);
		for (unsigned int level = 1; level <= 4; level++) {
			uint64_t *entry = bench_entry_at(&b, 0x5000, level), was = *entry;

			for (uint32_t left = 0; left <= 3; left++) {
				uint32_t both = prot & left;

				*entry = was & ~((uint64_t)(~left & 3) << 61);
				for (uint32_t access = 1; access <= 2; access++) {
					if (both & access) {
						assert_true(bench_walk(&b, 0x5000,
								       access | SOFT_USER, &where,
								       &fault));
						assert_int_equal(where.prot & 7, both);
						continue;
					}
					bench_expect_fault(&b, 0x5000, access | SOFT_USER,
							   SHIM_FAULT_PERMISSION,
							   left & access ? 1 : level);
				}
				bench_expect_fault(&b, 0x5000, SHIM_EXEC, SHIM_FAULT_PERMISSION, 4);
			}
			*entry = was;
		}
		bench_unmap(&b, 0x5000, 0x1000);
	}
	bench_deinit(&b);
}

/* ---- levels left out ---- */

static void test_skipped_levels(void **state)
{
	struct soft_translation where;
	struct shim_fault fault;
	uint64_t *entry, table;
	struct bench b;

	bench_init(&b, &soft_format_amdv1_6);
	assert_int_equal(bench_map(&b, 0x5000, 0x1000, 0x77000, RW), 0);
	table = decode(&env52, 2, *bench_entry_at(&b, 0x5000, 2)).address;
	for (unsigned int level = 3; level <= 6; level++) {
		entry = bench_entry_at(&b, 0x5000, level);

		uint64_t was = *entry;

		/* Straight to the table of level 1. */
		*entry = 0x6000000000000201 | table;
		assert_true(bench_walk(&b, 0x5678, SHIM_READ, &where, &fault));
		assert_true(where.output == 0x77678);
		/* Each bit of the address that is left out must be 0. */
		for (unsigned int bit = 21; bit < 12 + 9 * (level - 1); bit++)
			bench_expect_fault(&b, 0x5678 | 1ull << bit, SHIM_READ,
					   SHIM_FAULT_NOT_PRESENT, level);
		*entry = was;
	}
	/* Not upwards, and not to itself. */
	entry = bench_entry_at(&b, 0x5000, 3);
	for (unsigned int next = 3; next <= 6; next++) {
		uint64_t was = *entry;

		*entry = 0x6000000000000001 | next << 9 | b.root;
		bench_expect_fault(&b, 0x5678, SHIM_READ, SHIM_FAULT_RESERVED_BITS, 3);
		*entry = was;
	}
	bench_deinit(&b);
}

/*
 * The paging-structure cache knows such a table for what it maps only: not for the rest of what
 * the entry covers, where the walk faults.
 */
static void test_skipped_levels_cached(void **state)
{
	struct soft_iotlb structures;
	struct soft_translation where;
	struct soft_stage stage;
	struct shim_fault fault;
	uint64_t table, *entry, was;
	struct bench b;

	assert_int_equal(soft_iotlb_init(&structures, 64), 0);
	bench_init(&b, &soft_format_amdv1_4);
	assert_int_equal(bench_map(&b, 0x5000, 0x1000, 0x77000, RW), 0);
	table = decode(&env52, 2, *bench_entry_at(&b, 0x5000, 2)).address;
	entry = bench_entry_at(&b, 0x5000, 3);
	was = *entry;
	*entry = 0x6000000000000201 | table;
	stage = bench_stage(&b);
	stage.structures = &structures;
	stage.tag = 1;
	for (unsigned int i = 0; i < 2; i++) {
		assert_true(soft_walk(&stage, 1, 0x5000, SHIM_READ, NULL, &where, &fault));
		assert_true(where.output == 0x77000);
		assert_false(soft_walk(&stage, 1, 0x205000, SHIM_READ, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
		assert_int_equal(fault.level, 3);
	}
	/* It is cached: the entry is not looked at again. */
	*entry = 0;
	assert_true(soft_walk(&stage, 1, 0x5000, SHIM_READ, NULL, &where, &fault));
	*entry = was;
	bench_deinit(&b);
	soft_iotlb_deinit(&structures);
}

/* ---- accessed and dirty ---- */

static void test_any_copy_is_dirty(void **state)
{
	struct soft_translation where;
	struct soft_stage stage;
	struct shim_fault fault;
	unsigned int dirty = 0;
	struct bench b;

	bench_init(&b, &soft_format_amdv1_4);
	b.env.access_dirty = b.clean = true;
	assert_int_equal(bench_map(&b, 0x10000, 0x10000, 0x10000, RW), 0);
	stage = bench_stage(&b);
	stage.update = soft_window_update;
	assert_true(soft_walk(&stage, 1, 0x13008, SHIM_READ, NULL, &where, &fault));
	assert_false(where.cached & SHIM_WRITE);
	assert_true(*bench_entry_at(&b, 0x13000, 1) == 0x6000000000017e21);
	assert_true(soft_walk(&stage, 1, 0x13008, SHIM_WRITE, NULL, &where, &fault));
	assert_true(where.cached & SHIM_WRITE);
	/* In the entry that was walked, and no other; the way there is accessed. */
	for (unsigned int i = 0; i < 16; i++) {
		uint64_t raw = *bench_entry_at(&b, 0x10000 + i * 0x1000, 1);

		assert_true(raw == (i == 3 ? 0x6000000000017e61 : 0x6000000000017e01));
		dirty += soft_format_amdv1_4.is_dirty(raw);
	}
	assert_int_equal(dirty, 1);
	for (unsigned int level = 2; level <= 4; level++)
		assert_int_equal(*bench_entry_at(&b, 0x13000, level) & 0x61, 0x21);
	/* Where nobody keeps them, nothing is set. */
	stage.env.access_dirty = false;
	assert_true(soft_walk(&stage, 1, 0x14000, SHIM_WRITE, NULL, &where, &fault));
	assert_true(*bench_entry_at(&b, 0x14000, 1) == 0x6000000000017e01);
	bench_deinit(&b);
}

/* ---- modes ---- */

static void test_reach(void **state)
{
	static const unsigned int reach[] = {21, 30, 39, 48, 57, 64};

	for (size_t i = 0; i < 6; i++) {
		const struct soft_format *format = modes[i];
		uint64_t last = soft_bits(0, reach[i]);
		struct soft_translation where;
		struct shim_fault fault;
		struct bench b;

		bench_init(&b, format);
		assert_int_equal(b.shape.levels, i + 1);
		assert_int_equal(b.shape.root_bits, i == 5 ? 7 : 9);
		assert_int_equal(bench_map(&b, last - 0xfff, 0x1000, 0x1000, RW), 0);
		assert_int_equal(b.n_tables, i + 1);
		assert_true(bench_walk(&b, last, SHIM_READ, &where, &fault));
		assert_true(where.output == 0x1fff);
		bench_expect_fault(&b, last / 2, SHIM_READ, SHIM_FAULT_NOT_PRESENT,
				   (unsigned int)i + 1);
		if (i < 5) {
			bench_expect_fault(&b, last + 1, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			bench_expect_fault(&b, UINT64_MAX, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
		}
		bench_deinit(&b);
		assert_ptr_equal(soft_format_by_name(format->name, 7), format);
		assert_ptr_equal(soft_format_by_name(format->alias, 8), format);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_table),
		cmocka_unit_test(test_sizes_are_replicated),
		cmocka_unit_test(test_encoded_size_fits_level),
		cmocka_unit_test(test_512g),
		cmocka_unit_test(test_bound_of_large_pages),
		cmocka_unit_test(test_page_beyond_output),
		cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_next_level),
		cmocka_unit_test(test_snoop),
		cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_skipped_levels),
		cmocka_unit_test(test_skipped_levels_cached),
		cmocka_unit_test(test_any_copy_is_dirty),
		cmocka_unit_test(test_reach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
