/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RISC-V entry by entry: encodings, the order of checks, U in both stages, NAPOT, large pages,
 * A and D.  What all formats have in common is in properties_test.c, tables that a real
 * kernel built in vectors_test.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench.h"

#define RW  (SHIM_READ | SHIM_WRITE)
#define RWX (RW | SHIM_EXEC)

#define PTE_V	    (1ull << 0)
#define PTE_R	    (1ull << 1)
#define PTE_W	    (1ull << 2)
#define PTE_X	    (1ull << 3)
#define PTE_U	    (1ull << 4)
#define PTE_A	    (1ull << 6)
#define PTE_D	    (1ull << 7)
#define PTE_N	    (1ull << 63)
#define PTE_PBMT(n) ((uint64_t)(n) << 61)
#define PTE_RW	    (PTE_V | PTE_R | PTE_W | PTE_U | PTE_A | PTE_D)

static const struct soft_env env56 = {.output_bits = 56};

static const struct soft_format *const first[] = {
	&soft_format_sv39,
	&soft_format_sv48,
	&soft_format_sv57,
};

static const struct soft_format *const second[] = {
	&soft_format_sv39x4,
	&soft_format_sv48x4,
	&soft_format_sv57x4,
};

static const struct soft_format *both(size_t i)
{
	return i < 3 ? first[i] : i < 6 ? second[i - 3] : NULL;
}

static struct soft_entry decode(const struct soft_format *format, unsigned int level, uint64_t raw)
{
	struct soft_entry entry;

	format->decode(&env56, level, raw, &entry);
	return entry;
}

static enum soft_entry_kind kind_of(unsigned int level, uint64_t raw)
{
	struct soft_entry a = decode(&soft_format_sv57, level, raw);
	struct soft_entry b = decode(&soft_format_sv57x4, level, raw);

	/* But for U the stages are alike. */
	assert_int_equal(a.kind, b.kind);
	return a.kind;
}

/* ---- entries ---- */

static void test_samples(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		const struct soft_format *f = both(i);

		/* formats.md 6 */
		assert_true(f->make_leaf(&env56, 1, 12, 0x12345000, RW, false) == 0x048d14d7);
		assert_true(f->make_leaf(&env56, 1, 16, 0x10000, RW, false) == 0x80000000000060d7);
		assert_true(f->make_table(&env56, 2, 0x1000) == 0x401);
		/* V R U A at 2M; V X U A at the highest page. */
		assert_true(f->make_leaf(&env56, 2, 21, 0x200000, SHIM_READ, false) == 0x80053);
		assert_true(f->make_leaf(&env56, 1, 12, 0x00fffffffffff000, SHIM_EXEC, false) ==
			    0x003ffffffffffc59);
	}
}

static void test_read_write_execute(void **state)
{
	/* By X W R: what leads to a table, a page, or is reserved (W without R). */
	static const enum soft_entry_kind kinds[] = {
		SOFT_ENTRY_TABLE, SOFT_ENTRY_LEAF, SOFT_ENTRY_RESERVED, SOFT_ENTRY_LEAF,
		SOFT_ENTRY_LEAF,  SOFT_ENTRY_LEAF, SOFT_ENTRY_RESERVED, SOFT_ENTRY_LEAF,
	};

	for (unsigned int level = 1; level <= 5; level++)
		for (uint64_t rwx = 0; rwx < 8; rwx++) {
			enum soft_entry_kind kind = kind_of(level, PTE_V | rwx << 1);

			if (!rwx && level == 1)
				assert_int_equal(kind, SOFT_ENTRY_RESERVED);
			else
				assert_int_equal(kind, kinds[rwx]);
			assert_int_equal(kind_of(level, rwx << 1 | 0xfffull << 52),
					 SOFT_ENTRY_EMPTY);
		}
}

static void test_reserved_bits(void **state)
{
	for (unsigned int level = 1; level <= 5; level++) {
		uint64_t page = PTE_V | PTE_R, table = PTE_V;

		for (unsigned int bit = 54; bit < 61; bit++) {
			assert_int_equal(kind_of(level, page | 1ull << bit), SOFT_ENTRY_RESERVED);
			assert_int_equal(kind_of(level, table | 1ull << bit), SOFT_ENTRY_RESERVED);
		}
		for (unsigned int type = 0; type < 4; type++) {
			assert_int_equal(kind_of(level, page | PTE_PBMT(type)),
					 type == 3 ? SOFT_ENTRY_RESERVED : SOFT_ENTRY_LEAF);
			assert_int_equal(kind_of(level, table | PTE_PBMT(type)),
					 type || level == 1 ? SOFT_ENTRY_RESERVED
							    : SOFT_ENTRY_TABLE);
		}
		/* U, G, A, D and RSW: of what leads to a table, U, A and D are reserved. */
		for (unsigned int bit = 4; bit < 10; bit++) {
			bool wrong = bit == 4 || bit == 6 || bit == 7 || level == 1;

			assert_int_equal(kind_of(level, page | 1ull << bit), SOFT_ENTRY_LEAF);
			assert_int_equal(kind_of(level, table | 1ull << bit),
					 wrong ? SOFT_ENTRY_RESERVED : SOFT_ENTRY_TABLE);
		}
		assert_int_equal(kind_of(level, table | PTE_N), SOFT_ENTRY_RESERVED);
	}
}

static void test_napot_encodings(void **state)
{
	for (unsigned int level = 1; level <= 5; level++)
		for (uint64_t low = 0; low < 16; low++) {
			uint64_t raw = PTE_RW | PTE_N | (0x10 | low) << 10;
			struct soft_entry entry = decode(&soft_format_sv57, level, raw);

			if (level > 1 || low != 8) {
				assert_int_equal(entry.kind, SOFT_ENTRY_RESERVED);
				continue;
			}
			assert_int_equal(entry.kind, SOFT_ENTRY_LEAF);
			assert_int_equal(entry.shift, 16);
			assert_int_equal(entry.group, 16);
			assert_true(entry.address == 0x10000);
		}
}

/* Any bit of the PPN below the size of the page. */
static void test_misaligned_pages(void **state)
{
	for (unsigned int level = 1; level <= 5; level++) {
		unsigned int shift = 12 + 9 * (level - 1);

		for (unsigned int bit = 12; bit < 56; bit++) {
			struct soft_entry entry =
				decode(&soft_format_sv57, level, PTE_RW | 1ull << (bit - 2));

			assert_int_equal(entry.kind,
					 bit < shift ? SOFT_ENTRY_RESERVED : SOFT_ENTRY_LEAF);
			if (bit >= shift) {
				assert_int_equal(entry.shift, shift);
				assert_true(entry.address == 1ull << bit);
			}
		}
	}
}

static void test_output_width(void **state)
{
	for (size_t i = 0; i < 6; i++)
		for (uint8_t bits = 32; bits < 56; bits++) {
			const struct soft_env env = {.output_bits = bits};
			struct soft_entry entry;

			both(i)->decode(&env, 1, PTE_RW | 1ull << (bits - 2), &entry);
			assert_int_equal(entry.kind, SOFT_ENTRY_WIDTH);
			both(i)->decode(&env, 1, PTE_RW | 1ull << (bits - 3), &entry);
			assert_int_equal(entry.kind, SOFT_ENTRY_LEAF);
			both(i)->decode(&env, 2, PTE_V | 1ull << (bits - 2), &entry);
			assert_int_equal(entry.kind, SOFT_ENTRY_WIDTH);
		}
}

/* ---- walks ---- */

/* One page of 4K at 0x5000, whose entry tests bend. */
static uint64_t *bench_page(struct bench *b, const struct soft_format *format)
{
	bench_init(b, format);
	assert_int_equal(bench_map(b, 0x5000, 0x1000, 0x12345000, RW), 0);
	return bench_entry_at(b, 0x5000, 1);
}

/*
 * Who may use a page: by U and privilege in the first stage; in the G-stage every access is
 * unprivileged.
 */
static void test_user_bit(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		struct soft_translation where;
		struct shim_fault fault;
		struct bench b;
		uint64_t *entry = bench_page(&b, both(i));

		for (unsigned int u = 0; u < 2; u++)
			for (unsigned int user = 0; user < 2; user++)
				for (unsigned int rwx = 1; rwx < 8; rwx++) {
					uint32_t access;
					bool whose = i < 3 ? u == user : u;

					if ((rwx & 3) == 2)
						continue;
					*entry = (PTE_RW & ~(PTE_R | PTE_W | PTE_U)) | rwx << 1 |
						 (u ? PTE_U : 0) | 0x12345ull << 10;
					for (access = 1; access <= 4; access <<= 1) {
						uint32_t asked = access | (user ? SOFT_USER : 0);

						if (!whose || !(rwx & access)) {
							bench_expect_fault(&b, 0x5000, asked,
									   SHIM_FAULT_PERMISSION,
									   1);
							continue;
						}
						assert_true(bench_walk(&b, 0x5000, asked, &where,
								       &fault));
						assert_int_equal(where.prot & RWX, rwx);
						assert_true(where.output == 0x12345000);
					}
				}
		bench_deinit(&b);
	}
}

struct order {
	unsigned int level;
	uint64_t raw;
	uint32_t access;
	enum shim_fault_cause cause;
};

/* Each has two things wrong with it; 40 bits go out, and nobody sets A and D. */
static const struct order orders[] = {
	/* V=0 before all. */
	{1, ~PTE_V, SHIM_READ, SHIM_FAULT_NOT_PRESENT},
	/* Reserved encodings before the width and before permissions. */
	{1, PTE_RW | 1ull << 54 | 1ull << 38, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	{1, PTE_V | PTE_W | PTE_A, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	{2, PTE_V | PTE_R | PTE_N, SHIM_WRITE, SHIM_FAULT_RESERVED_BITS},
	{2, PTE_V | PTE_A | 1ull << 38, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	{1, PTE_V, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	/* The width before permissions. */
	{1, PTE_V | PTE_R | PTE_U | 1ull << 38, SHIM_WRITE, SHIM_FAULT_OUTPUT_WIDTH},
	/* Permissions before alignment, NAPOT and A. */
	{2, PTE_V | PTE_R | PTE_U | PTE_A | 1ull << 10, SHIM_WRITE, SHIM_FAULT_PERMISSION},
	{2, PTE_V | PTE_R | PTE_A | 1ull << 10, SHIM_READ, SHIM_FAULT_PERMISSION},
	{1, PTE_V | PTE_R | PTE_U | PTE_A | PTE_N, SHIM_WRITE, SHIM_FAULT_PERMISSION},
	{1, PTE_V | PTE_R | PTE_U, SHIM_WRITE, SHIM_FAULT_PERMISSION},
	/* Alignment and NAPOT before A. */
	{2, PTE_V | PTE_R | PTE_U | 1ull << 10, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	{1, PTE_V | PTE_R | PTE_U | PTE_N, SHIM_READ, SHIM_FAULT_RESERVED_BITS},
	/* A, then D. */
	{1, PTE_V | PTE_R | PTE_U, SHIM_READ, SHIM_FAULT_ACCESS_FLAG},
	{1, PTE_V | PTE_R | PTE_W | PTE_U | PTE_A, SHIM_WRITE, SHIM_FAULT_ACCESS_FLAG},
	{1, PTE_V | PTE_R | PTE_W | PTE_U | PTE_D, SHIM_WRITE, SHIM_FAULT_ACCESS_FLAG},
};

static void test_order_of_checks(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		struct bench b;

		bench_page(&b, both(i));
		for (size_t k = 0; k < sizeof(orders) / sizeof(orders[0]); k++) {
			const struct order *o = &orders[k];
			uint64_t *entry = bench_entry_at(&b, 0x5000, o->level), was = *entry;
			struct soft_stage stage = bench_stage(&b);
			struct soft_translation where;
			struct shim_fault fault = {0};

			stage.faults_unused = true;
			stage.env.output_bits = 40;
			*entry = o->raw;
			if (soft_walk(&stage, 1, 0x5000, o->access | SOFT_USER, NULL, &where,
				      &fault) ||
			    fault.cause != o->cause || fault.level != o->level)
				fail_msg("%s, case %zu: cause %d at level %u, not %d at %u",
					 both(i)->name, k, fault.cause, fault.level, o->cause,
					 o->level);
			assert_true(fault.entry == o->raw);
			*entry = was;
		}
		bench_deinit(&b);
	}
}

/* The effective low bits of the PPN come from the address, in each of the 16 copies. */
static void test_napot_copies(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		struct soft_translation where;
		struct shim_fault fault;
		struct bench b;

		bench_init(&b, both(i));
		assert_int_equal(bench_map(&b, 0x30000, 0x10000, 0x70000, RW), 0);
		for (uint64_t at = 0; at < 0x10000; at += 0x1000) {
			assert_true(*bench_entry_at(&b, 0x30000 + at, 1) ==
				    (PTE_N | PTE_RW | 0x78000 >> 2));
			assert_true(bench_walk(&b, 0x30123 + at, SHIM_WRITE | SOFT_USER, &where,
					       &fault));
			assert_true(where.output == 0x70123 + at);
			assert_true(where.page_size == 0x10000);
		}
		bench_unmap(&b, 0x30000, 0x10000);
		bench_deinit(&b);
	}
}

static void test_large_pages(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		const struct soft_format *f = both(i);
		struct soft_translation where;
		struct shim_fault fault;

		for (unsigned int level = 2; level <= f->levels; level++) {
			uint64_t size = 1ull << (12 + 9 * (level - 1));
			struct bench b;

			bench_init(&b, f);
			b.env.output_bits = 56;
			assert_int_equal(bench_map(&b, size, size, 2 * size, RW), 0);
			assert_int_equal(b.n_tables, f->levels - level + (f->root_extra ? 4 : 1));
			assert_true(bench_walk(&b, 2 * size - 1, SHIM_READ | SOFT_USER, &where,
					       &fault));
			assert_true(where.output == 3 * size - 1);
			assert_true(where.page_size == size);
			/* With the address of a page that is not aligned to it. */
			for (unsigned int bit = 12; 1ull << bit < size; bit++) {
				uint64_t *entry = bench_entry_at(&b, size, level), was = *entry;

				*entry |= 1ull << (bit - 2);
				bench_expect_fault(&b, size, SHIM_READ | SOFT_USER,
						   SHIM_FAULT_RESERVED_BITS, level);
				*entry = was;
			}
			bench_unmap(&b, size, size);
			bench_deinit(&b);
		}
	}
}

/* 11 bits of index, over tables of 16K. */
static void test_g_stage_root(void **state)
{
	for (size_t i = 0; i < 3; i++) {
		const struct soft_format *f = second[i];
		uint64_t top = 1ull << f->input_bits;
		struct soft_translation where;
		struct shim_fault fault;
		struct bench b;

		assert_int_equal(f->input_bits, first[i]->input_bits + 2);
		bench_init(&b, f);
		assert_int_equal(soft_shape_root_bytes(&b.shape), 16384);
		assert_int_equal(bench_map(&b, top - 0x1000, 0x1000, 0x7000, RW), 0);
		assert_int_equal(b.root % 16384, 0);
		/* The last of the 2048 entries. */
		assert_ptr_equal(bench_entry_at(&b, top - 1, f->levels),
				 soft_table_entries(&b.tables, b.root) + 2047);
		assert_true(bench_walk(&b, top - 1, SHIM_READ | SOFT_USER, &where, &fault));
		assert_true(where.output == 0x7fff);
		bench_expect_fault(&b, top, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
		bench_expect_fault(&b, UINT64_MAX, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
		bench_deinit(&b);
	}
}

static void test_canonical(void **state)
{
	for (size_t i = 0; i < 3; i++) {
		unsigned int bits = first[i]->input_bits;
		struct bench b;

		bench_page(&b, first[i]);
		/* Each bit above the sign must be its copy. */
		for (unsigned int bit = bits - 1; bit < 64; bit++) {
			bench_expect_fault(&b, 1ull << bit, SHIM_READ, SHIM_FAULT_NON_CANONICAL, 0);
			bench_expect_fault(&b, ~(1ull << bit), SHIM_READ, SHIM_FAULT_NON_CANONICAL,
					   0);
		}
		bench_expect_fault(&b, soft_bits(bits - 1, 64), SHIM_READ, SHIM_FAULT_NOT_PRESENT,
				   first[i]->levels);
		bench_deinit(&b);
	}
}

/* By the IOMMU: A with each use, D with a write, in pages only, and in those that allow it. */
static void test_access_dirty(void **state)
{
	for (size_t i = 0; i < 6; i++) {
		struct soft_translation where;
		struct soft_stage stage;
		struct shim_fault fault;
		struct bench b;
		uint64_t *entry = bench_page(&b, both(i));
		uint64_t table = *bench_entry_at(&b, 0x5000, 2);
		uint64_t plain = *entry & ~(PTE_A | PTE_D);

		stage = bench_stage(&b);
		stage.env.access_dirty = true;
		stage.update = soft_window_update;
		*entry = plain & ~PTE_W;
		assert_false(
			soft_walk(&stage, 1, 0x5000, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		assert_true(*entry == (plain & ~PTE_W));
		*entry = plain;
		assert_true(
			soft_walk(&stage, 1, 0x5000, SHIM_READ | SOFT_USER, NULL, &where, &fault));
		assert_true(*entry == (plain | PTE_A));
		assert_false(where.cached & SHIM_WRITE);
		assert_true(where.prot & SHIM_WRITE);
		assert_true(
			soft_walk(&stage, 1, 0x5000, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_true(*entry == (plain | PTE_A | PTE_D));
		assert_true(where.cached & SHIM_WRITE);
		/* What leads there has no such bits, and would be reserved with them. */
		assert_true(*bench_entry_at(&b, 0x5000, 2) == table);
		bench_deinit(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),		 cmocka_unit_test(test_read_write_execute),
		cmocka_unit_test(test_reserved_bits),	 cmocka_unit_test(test_napot_encodings),
		cmocka_unit_test(test_misaligned_pages), cmocka_unit_test(test_output_width),
		cmocka_unit_test(test_user_bit),	 cmocka_unit_test(test_order_of_checks),
		cmocka_unit_test(test_napot_copies),	 cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_g_stage_root),	 cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_access_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
