/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ARMv8 tables that are built, in all the shapes that they have, against what the walk finds in
 * them: page sizes, contiguous groups, addresses of 52 bits, both halves, concatenated roots,
 * dirty state, and every table given back.
 */

#include "soft/build.h"
#include "soft/walk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BIT(n)	   (1ull << (n))
#define CONTIGUOUS BIT(52)
#define DBM	   BIT(51)
#define RW	   (SHIM_READ | SHIM_WRITE)

/* A format with a shape and an environment. */
struct variant {
	const struct soft_format *format;
	struct soft_shape_spec shape;
	bool access_dirty, clean;
};

static const struct variant variants[] = {
	{&soft_format_armv8_s1_4k, {0}},
	{&soft_format_armv8_s1_4k, {.input_bits = 25}},
	{&soft_format_armv8_s1_4k, {.input_bits = 39, .upper = true}},
	{&soft_format_armv8_s1_4k, {.upper = true, .top_byte_ignored = true}, true, true},
	{&soft_format_armv8_s1_4k, {.input_bits = 52, .lpa2 = true}},
	{&soft_format_armv8_s1_16k, {0}, true, false},
	{&soft_format_armv8_s1_16k, {.input_bits = 36}},
	{&soft_format_armv8_s1_16k, {.input_bits = 47, .upper = true}},
	{&soft_format_armv8_s1_16k, {.input_bits = 52, .lpa2 = true, .upper = true}},
	{&soft_format_armv8_s1_64k, {0}},
	{&soft_format_armv8_s1_64k, {.input_bits = 29}},
	{&soft_format_armv8_s1_64k, {.input_bits = 52, .upper = true}, true, true},
	{&soft_format_armv8_s2_4k, {0}, true, true},
	{&soft_format_armv8_s2_4k, {.input_bits = 40, .levels = 3}},
	{&soft_format_armv8_s2_4k, {.input_bits = 43, .levels = 3}},
	{&soft_format_armv8_s2_4k, {.input_bits = 34, .levels = 2}, true, false},
	{&soft_format_armv8_s2_4k, {.input_bits = 52, .levels = 4, .lpa2 = true}},
	{&soft_format_armv8_s2_4k, {.input_bits = 52, .lpa2 = true}},
	{&soft_format_armv8_s2_16k, {0}},
	{&soft_format_armv8_s2_16k, {.input_bits = 40, .levels = 2}},
	{&soft_format_armv8_s2_16k, {.input_bits = 50, .lpa2 = true}, true, true},
	{&soft_format_armv8_s2_64k, {0}},
	{&soft_format_armv8_s2_64k, {.input_bits = 44, .levels = 2}},
	{&soft_format_armv8_s2_64k, {.input_bits = 52}, true, false},
};
#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

struct bench {
	const struct variant *variant;
	const struct soft_format *format;
	struct soft_window window;
	struct soft_tables tables;
	struct soft_shape shape;
	uint64_t root;
	uint32_t n_tables;
};

static void bench_init(struct bench *b, const struct variant *variant, uint64_t limit)
{
	memset(b, 0, sizeof(*b));
	b->variant = variant;
	b->format = variant->format;
	assert_int_equal(soft_window_init(&b->window, 1ull << 30, false, NULL), 0);
	assert_int_equal(soft_tables_init(&b->tables, &b->window, limit), 0);
	assert_int_equal(soft_shape_init(b->format, &variant->shape, NULL, &b->shape), 0);
}

static struct soft_env env_of(const struct bench *b)
{
	return (struct soft_env){
		.output_bits = 52,
		.access_dirty = b->variant->access_dirty,
		.lpa2 = b->variant->shape.lpa2,
	};
}

static struct soft_builder builder_of(struct bench *b)
{
	return (struct soft_builder){
		.tables = &b->tables,
		.format = b->format,
		.shape = &b->shape,
		.env = env_of(b),
		.clean = b->variant->clean,
		.root = &b->root,
		.n_tables = &b->n_tables,
	};
}

static void bench_deinit(struct bench *b)
{
	struct soft_builder builder = builder_of(b);
	struct soft_table_list dead = {0};

	soft_build_clear(&builder, &dead);
	assert_int_equal(b->n_tables, 0);
	soft_tables_put(&b->tables, &dead);
	assert_int_equal(soft_tables_used(&b->tables), 0);
	soft_tables_deinit(&b->tables);
	soft_window_deinit(&b->window);
}

static int map(struct bench *b, uint64_t iova, uint64_t length, uint64_t target, uint32_t prot)
{
	struct soft_builder builder = builder_of(b);
	uint64_t done;

	return soft_build_map(&builder, iova, length, target, prot, &done);
}

static bool is_whole(struct bench *b, uint64_t iova, uint64_t length)
{
	struct soft_builder builder = builder_of(b);

	return soft_build_is_whole(&builder, iova, length);
}

static void unmap(struct bench *b, uint64_t iova, uint64_t length)
{
	struct soft_builder builder = builder_of(b);
	struct soft_table_list dead = {0};

	assert_true(soft_build_is_whole(&builder, iova, length));
	soft_build_unmap(&builder, iova, length, &dead);
	soft_tables_put(&b->tables, &dead);
}

static struct soft_stage stage_of(const struct bench *b)
{
	return (struct soft_stage){
		.format = b->format,
		.env = env_of(b),
		.shape = b->shape,
		.empty = !b->root,
		.root = b->root,
		.load = soft_window_load,
		.update = soft_window_update,
		.memory = &b->window,
	};
}

static bool walk(const struct bench *b, uint64_t address, uint32_t access,
		 struct soft_translation *ret, struct shim_fault *ret_fault)
{
	struct soft_stage stage = stage_of(b);

	return soft_walk(&stage, 1, address, access, NULL, ret, ret_fault);
}

static void expect_page(const struct bench *b, uint64_t address, uint64_t output, uint64_t size)
{
	struct soft_translation where = {0};
	struct shim_fault fault = {0};

	if (!walk(b, address, SHIM_READ | SOFT_USER, &where, &fault))
		fail_msg("%s: %llx faults with cause %d at level %u", b->format->name,
			 (unsigned long long)address, fault.cause, fault.level);
	assert_true(where.output == output);
	assert_true(where.page_size == size);
}

static void expect_none(const struct bench *b, uint64_t address)
{
	struct soft_translation where;
	struct shim_fault fault = {0};

	assert_false(walk(b, address, SHIM_READ, &where, &fault));
	assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
}

/* First address of the table's half, and how much it maps. */
static uint64_t base_of(const struct bench *b)
{
	return b->shape.upper ? -BIT(b->shape.input_bits) : 0;
}

static uint64_t space_of(const struct bench *b)
{
	return BIT(b->shape.input_bits);
}

/* The entry of a level on the way to an address, for tests that look at it or bend it. */
static uint64_t *entry_at(const struct bench *b, uint64_t address, unsigned int level)
{
	unsigned int granule = b->format->granule, stride = granule - 3;
	uint64_t table = b->root, *entry = NULL;

	for (unsigned int l = b->shape.levels; l >= level; l--) {
		unsigned int bits = l == b->shape.levels ? b->shape.root_bits : stride;
		uint64_t index = address >> (granule + stride * (l - 1)) & (BIT(bits) - 1);

		entry = &soft_table_entries(&b->tables, table)[index];
		/* Tables lie low. */
		table = *entry & 0xfffffff000;
	}
	return entry;
}

/* The size of the page or block that a leaf of this size consists of. */
static unsigned int own_shift(const struct soft_format *format, unsigned int shift)
{
	unsigned int own = format->granule;

	while (own + format->granule - 3 <= shift)
		own += format->granule - 3;
	return own;
}

static unsigned int level_of(const struct soft_format *format, unsigned int shift)
{
	return (shift - format->granule) / (format->granule - 3) + 1;
}

/* ---- page sizes and groups ---- */

static void check_size(struct bench *b, unsigned int shift)
{
	uint64_t size = BIT(shift), at = base_of(b) + size, target = 5 * BIT(40) & -size;
	unsigned int own = own_shift(b->format, shift), level = level_of(b->format, shift);
	uint64_t part = BIT(own), n = size >> own, page = BIT(b->format->granule);

	assert_int_equal(map(b, at, size, target, RW), 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t raw = *entry_at(b, at + i * part, level);

		/* Each entry of a group tells of it, and has an address of its own. */
		assert_int_equal((raw & CONTIGUOUS) != 0, n > 1);
		expect_page(b, at + i * part + 0x123, target + i * part + 0x123, part);
	}
	expect_none(b, at - 1);
	if (at + size - base_of(b) < space_of(b))
		expect_none(b, at + size);
	/* A group is made and taken out as a whole. */
	assert_true(is_whole(b, at, size));
	if (n > 1) {
		assert_false(is_whole(b, at, size - part));
		assert_false(is_whole(b, at + part, size - part));
		assert_false(is_whole(b, at + part, part));
		assert_int_equal(map(b, at + part, part, 0, RW), SHIM_E_OVERLAP);
	}
	unmap(b, at, size);
	assert_int_equal(b->root, 0);
	/* Not aligned, not long enough, no target for it: smaller ones. */
	if (shift == b->format->granule)
		return;
	assert_int_equal(map(b, at, size, target + size / 2, RW), 0);
	expect_page(b, at + size - 1, target + size / 2 + size - 1,
		    BIT(own_shift(b->format, shift - 1)));
	unmap(b, at, size);
	assert_int_equal(map(b, at, size / 2, target, RW), 0);
	expect_page(b, at, target, BIT(own_shift(b->format, shift - 1)));
	unmap(b, at, size / 2);
	/* Smaller ones before it and behind, as far as they must. */
	if (2 * size + page - 1 < space_of(b)) {
		assert_int_equal(map(b, at - page, size + 2 * page, target - page, RW), 0);
		expect_page(b, at - 1, target - 1, page);
		expect_page(b, at, target, part);
		assert_int_equal((*entry_at(b, at, level) & CONTIGUOUS) != 0, n > 1);
		expect_page(b, at + size, target + size, page);
		unmap(b, at - page, size + 2 * page);
	}
	assert_int_equal(b->root, 0);
	assert_int_equal(soft_tables_used(&b->tables), 0);
}

static void test_page_sizes(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		struct bench b;

		bench_init(&b, &variants[i], 0);
		/* A concatenated root may stand below the level of the largest ones. */
		for (unsigned int shift = 0; shift < b.shape.input_bits; shift++)
			if (b.format->page_sizes >> shift & 1 &&
			    level_of(b.format, shift) <= b.shape.levels)
				check_size(&b, shift);
		bench_deinit(&b);
	}
}

/* One entry of a group is bent: it gives what it says, and its neighbours what they say. */
static void test_unlike_group(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		struct soft_translation where;
		struct shim_fault fault = {0};
		uint64_t at, page, group = 0, was, *entry;
		struct bench b;

		bench_init(&b, &variants[i], 0);
		page = BIT(b.format->granule);
		group = b.format->granule == 12 ? 16 : b.format->granule == 14 ? 128 : 32;
		at = base_of(&b) + group * page;
		assert_int_equal(map(&b, at, group * page, BIT(38), RW), 0);
		entry = entry_at(&b, at + 3 * page, 1);
		was = *entry;
		assert_true(was & CONTIGUOUS);
		/* Read-only, elsewhere, absent, without the bit. */
		*entry = b.format->concatenated ? was & ~(DBM | 0x80) : (was & ~DBM) | 0x80;
		assert_false(walk(&b, at + 3 * page, SHIM_WRITE, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		assert_true(walk(&b, at + 2 * page, SHIM_WRITE, &where, &fault));
		assert_true(where.page_size == page);
		assert_true(walk(&b, at + 4 * page, SHIM_WRITE, &where, &fault));
		*entry = was ^ BIT(30);
		expect_page(&b, at + 3 * page, (BIT(38) + 3 * page) ^ BIT(30), page);
		expect_page(&b, at + 2 * page, BIT(38) + 2 * page, page);
		*entry = 0;
		expect_none(&b, at + 3 * page);
		expect_page(&b, at + 4 * page, BIT(38) + 4 * page, page);
		*entry = was ^ CONTIGUOUS;
		expect_page(&b, at + 3 * page, BIT(38) + 3 * page, page);
		*entry = was;
		unmap(&b, at, group * page);
		bench_deinit(&b);
	}
}

/* ---- addresses of 52 bits ---- */

/* Runs across the places where the field of the address is in pieces, entry by entry. */
static void test_wide_targets(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		bool wide = variants[i].shape.lpa2 || variants[i].format->granule == 16;
		unsigned int first = wide ? 40 : 38, last = wide ? 51 : 47;
		uint64_t page = BIT(variants[i].format->granule);
		struct bench b;

		bench_init(&b, &variants[i], 0);
		for (unsigned int bit = first; bit <= last; bit++) {
			/* Out of step by a page, so that they are pages. */
			for (uint64_t n = 2; n < 260; n += 43) {
				uint64_t at = base_of(&b), target = BIT(bit) - n / 2 * page;

				if (!(target & (2 * page - 1)))
					at += page;
				if (n * page + page > space_of(&b))
					continue;
				assert_int_equal(map(&b, at, n * page, target, SHIM_READ), 0);
				for (uint64_t k = 0; k < n; k++)
					expect_page(&b, at + k * page + 7, target + k * page + 7,
						    page);
				unmap(&b, at, n * page);
			}
		}
		bench_deinit(&b);
	}
}

/* ---- the ends of the space, and the size of tables ---- */

static void test_edges(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		uint64_t page = BIT(variants[i].format->granule), first, last;
		struct soft_translation where;
		struct shim_fault fault = {0};
		struct bench b;

		bench_init(&b, &variants[i], 0);
		first = base_of(&b);
		last = first + space_of(&b) - page;
		assert_int_equal(map(&b, first, page, 0x10000, SHIM_READ), 0);
		assert_int_equal(map(&b, last, page, 0x20000, SHIM_READ), 0);
		expect_page(&b, first, 0x10000, page);
		expect_page(&b, last + page - 1, 0x20000 + page - 1, page);
		expect_none(&b, first + page);
		expect_none(&b, last - 1);
		assert_false(walk(&b, first - 1, SHIM_READ, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_ADDRESS_WIDTH);
		assert_false(walk(&b, last + page, SHIM_READ, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_ADDRESS_WIDTH);
		unmap(&b, last, page);
		unmap(&b, first, page);
		assert_int_equal(b.root, 0);
		bench_deinit(&b);
	}
}

static uint32_t table_pages(const struct bench *b)
{
	return 1u << (b->format->granule - 12);
}

static uint32_t root_pages(const struct bench *b)
{
	uint64_t bytes = soft_shape_root_bytes(&b->shape);

	return bytes > 4096 ? (uint32_t)(bytes / 4096) : 1;
}

static void test_table_sizes(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		uint64_t page = BIT(variants[i].format->granule);
		struct bench b;

		bench_init(&b, &variants[i], 0);
		assert_int_equal(map(&b, base_of(&b), page, 0x10000, SHIM_READ), 0);
		assert_int_equal(b.n_tables,
				 root_pages(&b) + (b.shape.levels - 1u) * table_pages(&b));
		assert_int_equal(soft_tables_used(&b.tables), b.n_tables);
		/* Aligned to their size. */
		assert_int_equal(b.root % (4096ull * root_pages(&b)), 0);
		bench_deinit(&b);
	}
}

static void test_out_of_tables(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		unsigned int block = 2u * variants[i].format->granule - 3;
		uint64_t page = BIT(variants[i].format->granule);

		if (variants[i].shape.input_bits && variants[i].shape.input_bits < block + 3)
			continue;
		for (uint64_t limit = 1; limit < 120; limit += 3) {
			struct soft_table_list dead = {0};
			struct soft_builder builder;
			uint64_t done, at;
			struct bench b;
			int r;

			bench_init(&b, &variants[i], limit);
			builder = builder_of(&b);
			at = base_of(&b) + BIT(block) - 4 * page;
			/* Four tables of pages. */
			r = soft_build_map(&builder, at, 2 * BIT(block) + 8 * page, page, RW,
					   &done);
			if (!r) {
				assert_true(b.n_tables <= limit);
				bench_deinit(&b);
				continue;
			}
			assert_int_equal(r, -ENOMEM);
			assert_true(!done || soft_build_is_whole(&builder, at, done));
			if (done)
				soft_build_unmap(&builder, at, done, &dead);
			soft_tables_put(&b.tables, &dead);
			assert_int_equal(b.root, 0);
			assert_int_equal(b.n_tables, 0);
			bench_deinit(&b);
		}
	}
}

/* A root of 1 MiB: 16 concatenated tables of 64K.  It can be walked, but is not built. */
static void test_largest_root(void **state)
{
	static const struct variant variant = {
		&soft_format_armv8_s2_64k,
		{.input_bits = 46, .levels = 2},
	};
	struct bench b;

	bench_init(&b, &variant, 0);
	assert_int_equal(map(&b, 0, 0x10000, 0x10000, SHIM_READ), -ENOMEM);
	assert_int_equal(b.root, 0);
	bench_deinit(&b);
}

/* ---- dirty ---- */

static void test_dirty(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++) {
		const struct variant *v = &variants[i];
		uint64_t page = BIT(v->format->granule), at, *entry;
		struct soft_translation where;
		struct shim_fault fault = {0};
		struct bench b;

		bench_init(&b, v, 0);
		at = base_of(&b);
		assert_int_equal(map(&b, at, page, 0x10000, RW), 0);
		assert_int_equal(map(&b, at + page, page, 0x10000, SHIM_READ), 0);
		entry = entry_at(&b, at, 1);
		assert_int_equal((*entry & DBM) != 0, v->access_dirty);
		assert_int_equal(v->format->is_dirty(*entry), v->access_dirty && !v->clean);
		assert_true(walk(&b, at, SHIM_WRITE | SOFT_USER, &where, &fault));
		assert_int_equal(v->format->is_dirty(*entry), v->access_dirty);
		if (v->access_dirty) {
			/* Cleaned, it can be written, and the first write is noted again. */
			*entry = v->format->set_dirty(*entry, false);
			assert_true(walk(&b, at, SHIM_READ | SOFT_USER, &where, &fault));
			assert_false(where.cached & SHIM_WRITE);
			assert_false(v->format->is_dirty(*entry));
			assert_true(walk(&b, at, SHIM_WRITE | SOFT_USER, &where, &fault));
			assert_true(v->format->is_dirty(*entry));
		}
		entry = entry_at(&b, at + page, 1);
		assert_false(*entry & DBM);
		assert_false(walk(&b, at + page, SHIM_WRITE, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		bench_deinit(&b);
	}
}

/* ---- random mixes against a plain list ---- */

struct piece {
	uint64_t iova, length, target;
	uint32_t prot;
};

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static unsigned int rnd_size(const struct soft_format *format)
{
	unsigned int n = (unsigned int)__builtin_popcountll(format->page_sizes);
	uint64_t sizes = format->page_sizes;

	for (unsigned int skip = rnd() % n; skip; skip--)
		sizes &= sizes - 1;
	return (unsigned int)__builtin_ctzll(sizes);
}

static const struct piece *piece_at(const struct piece *pieces, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (address - pieces[i].iova < pieces[i].length)
			return &pieces[i];
	return NULL;
}

static bool is_free(const struct piece *pieces, size_t n, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < n; i++)
		if (iova - pieces[i].iova < pieces[i].length || pieces[i].iova - iova < length)
			return false;
	return true;
}

static void check_address(const struct bench *b, const struct piece *pieces, size_t n,
			  uint64_t address)
{
	const struct piece *piece = piece_at(pieces, n, address);
	struct soft_translation where;
	struct shim_fault fault;
	bool ok;

	if (address - base_of(b) >= space_of(b))
		return;
	ok = walk(b, address, SHIM_READ | SOFT_USER, &where, &fault);
	if (!piece) {
		assert_false(ok);
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
		return;
	}
	assert_true(ok);
	assert_true(where.output == piece->target + (address - piece->iova));
	assert_int_equal(where.prot & (RW | SHIM_EXEC), piece->prot);
	assert_true((address & -where.page_size) - piece->iova < piece->length);
	assert_true((address | (where.page_size - 1)) - piece->iova < piece->length);
}

static struct piece rnd_piece(const struct bench *b)
{
	const struct soft_format *format = b->format;
	unsigned int block = 2u * format->granule - 3;
	uint64_t page = BIT(format->granule), space = space_of(b);
	bool wide = b->variant->shape.lpa2 || format->granule == 16;
	struct piece p = {
		.length = BIT(rnd_size(format)) * (1 + rnd() % 3) + page * (rnd() % 3),
		.prot = SHIM_READ | (rnd() % 2 ? SHIM_WRITE : 0) | (rnd() % 4 ? 0 : SHIM_EXEC),
	};

	while (p.length > space / 4)
		p.length = (p.length / 2 & -page) + page;
	/* A crowded part at the bottom, or anywhere. */
	p.iova = rnd() % (rnd() % 4 && space > BIT(block + 4) ? BIT(block + 4) : space - p.length);
	p.iova &= -BIT(rnd_size(format));
	p.target = rnd() & soft_bits(0, wide ? 51 : 47) & -BIT(rnd_size(format));
	/* Gigabytes of single pages are left to the benchmark. */
	if (p.length >= BIT(block))
		p.target = (p.target & -BIT(block)) | (p.iova & (BIT(block) - 1));
	p.iova += base_of(b);
	return p;
}

static void random_maps(const struct variant *variant)
{
	enum { PIECES = 48 };
	struct piece pieces[PIECES];
	size_t n = 0;
	struct bench b;

	bench_init(&b, variant, 0);
	for (unsigned int step = 0; step < 300; step++) {
		struct soft_builder builder = builder_of(&b);

		if (n < PIECES && rnd() % 5 < 3) {
			struct piece p = rnd_piece(&b);
			uint64_t before = b.n_tables, bound;

			if (!is_free(pieces, n, p.iova, p.length)) {
				struct soft_table_list dead = {0};
				uint64_t done;

				assert_int_equal(soft_build_map(&builder, p.iova, p.length,
								p.target, p.prot, &done),
						 SHIM_E_OVERLAP);
				if (done)
					soft_build_unmap(&builder, p.iova, done, &dead);
				soft_tables_put(&b.tables, &dead);
				assert_int_equal(b.n_tables, before);
				continue;
			}
			bound = soft_build_bound(&builder, p.iova, p.length, p.target);
			assert_int_equal(map(&b, p.iova, p.length, p.target, p.prot), 0);
			assert_true(b.n_tables - before <= bound);
			assert_true(bound <=
				    b.n_tables - before + 2 * b.shape.levels * table_pages(&b));
			pieces[n++] = p;
		} else if (n) {
			size_t i = rnd() % n;

			unmap(&b, pieces[i].iova, pieces[i].length);
			pieces[i] = pieces[--n];
		}
		assert_int_equal(b.n_tables, soft_tables_used(&b.tables));
		for (size_t i = 0; i < n && step % 8 == 0; i++) {
			const struct piece *p = &pieces[i];

			check_address(&b, pieces, n, p->iova);
			check_address(&b, pieces, n, p->iova + p->length - 1);
			check_address(&b, pieces, n, p->iova + rnd() % p->length);
			check_address(&b, pieces, n, p->iova + p->length);
			check_address(&b, pieces, n, p->iova - 1);
		}
	}
	while (n--)
		unmap(&b, pieces[n].iova, pieces[n].length);
	assert_int_equal(b.root, 0);
	bench_deinit(&b);
}

static void test_random_maps(void **state)
{
	for (size_t i = 0; i < VARIANTS; i++)
		for (unsigned int n = 1; n < 4; n++) {
			seed = n;
			random_maps(&variants[i]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_sizes),   cmocka_unit_test(test_unlike_group),
		cmocka_unit_test(test_wide_targets), cmocka_unit_test(test_edges),
		cmocka_unit_test(test_table_sizes),  cmocka_unit_test(test_out_of_tables),
		cmocka_unit_test(test_largest_root), cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_random_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
