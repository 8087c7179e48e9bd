/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What must hold of every format in format.c's list, in every shape that its tables can have:
 * what is built is what is walked, and comes down again; nothing an entry holds leads astray.
 * A format that is added to the list is covered without a change here.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench.h"

#include "soft/nesting.h"

#define RWX (SHIM_READ | SHIM_WRITE | SHIM_EXEC)

static uint64_t seed = 1;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* ---- formats and shapes ---- */

/* Input widths that are tried beside a format's own; those that it refuses are left out. */
static const uint8_t widths[] = {0, 13, 21, 32, 33, 40, 43, 47, 52};

/* Calls visit() for every shape of every format; at least one each. */
static void for_each_shape(void (*visit)(const struct soft_format *format,
					 const struct soft_shape_spec *spec))
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++) {
		unsigned int n = 0;

		for (size_t k = 0; k < sizeof(widths) * 4; k++) {
			struct soft_shape_spec spec = {
				.input_bits = widths[k / 4],
				.upper = k & 1,
				.lpa2 = k & 2,
			};
			struct soft_shape shape;

			if (soft_shape_init(format, &spec, NULL, &shape))
				continue;
			seed = 1 + i + k * 64;
			visit(format, &spec);
			n++;
		}
		assert_true(n > 0);
	}
}

static unsigned int highest(uint64_t bits)
{
	return 63 - (unsigned int)__builtin_clzll(bits);
}

/* What of the page sizes fits into the input of a shape. */
static uint64_t sizes_of(const struct bench *b)
{
	unsigned int bits = b->shape.input_bits;

	return b->format->page_sizes & (bits > 63 ? UINT64_MAX : (1ull << bits) - 1);
}

/* The level at which a leaf of this size stands. */
static unsigned int level_of(const struct soft_format *format, unsigned int shift)
{
	unsigned int level = 1;

	while (level < SOFT_LEVELS_MAX && soft_format_shift(format, level + 1) <= shift)
		level++;
	return level;
}

/* One part of the input space that has no hole. */
struct space {
	uint64_t first, last;
};

static unsigned int spaces_of(const struct bench *b, struct space ret_spaces[2])
{
	unsigned int bits = b->shape.input_bits;
	bool halves = b->format->input == SOFT_INPUT_CANONICAL && bits == b->format->input_bits;

	ret_spaces[0] = (struct space){0, soft_bits(0, bits - halves)};
	ret_spaces[1] = (struct space){~ret_spaces[0].last, UINT64_MAX};
	if (b->shape.upper)
		ret_spaces[0] = ret_spaces[1];
	return halves ? 2 : 1;
}

/* How wide the addresses are that an entry of this format can hold. */
static uint8_t output_bits_of(const struct soft_format *format, const struct soft_env *env)
{
	struct soft_env wide = *env;
	uint8_t bits = 56;

	for (; bits > 32; bits--) {
		uint64_t address = 1ull << (bits - 1), raw;
		struct soft_entry entry;

		wide.output_bits = bits;
		raw = format->make_leaf(&wide, 1, format->granule, address, SHIM_READ, false);
		format->decode(&wide, 1, raw, &entry);
		if (entry.kind == SOFT_ENTRY_LEAF && entry.address == address)
			break;
	}
	return bits;
}

static void init(struct bench *b, const struct soft_format *format,
		 const struct soft_shape_spec *spec, uint64_t limit)
{
	bench_init_shape(b, format, spec, limit);
	b->env.output_bits = output_bits_of(format, &b->env);
}

static bool allows(const struct soft_format *format, uint32_t prot)
{
	return prot && (format->execute || !(prot & SHIM_EXEC)) &&
	       (!(prot & format->needs_read) || prot & SHIM_READ);
}

static uint32_t rnd_prot(const struct soft_format *format)
{
	uint32_t prot;

	do
		prot = rnd() & RWX;
	while (!allows(format, prot));
	return prot;
}

/* ---- entries ---- */

/* Each part of a leaf of each size says the size, and where it leads. */
static void leaves(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct bench b;

	init(&b, format, spec, 0);
	for (uint64_t left = sizes_of(&b); left; left &= left - 1) {
		unsigned int shift = (unsigned int)__builtin_ctzll(left);
		unsigned int level = level_of(format, shift);
		unsigned int own = soft_format_shift(format, level);
		uint64_t address = 1ull << (b.env.output_bits - 1);
		uint64_t parts = 1ull << (shift - own);

		/* A size that descriptors of this shape have not, or the output is narrower than.
		 */
		if (level > b.shape.levels || shift >= b.env.output_bits ||
		    (format->input_bits_max && level == 4 && !spec->lpa2))
			continue;
		for (uint64_t part = 0; part < parts; part += 1 + rnd() % 7) {
			uint64_t at = address + (part << own);
			uint64_t raw =
				format->make_leaf(&b.env, level, shift, at, SHIM_READ, false);
			struct soft_entry entry;

			format->decode(&b.env, level, raw, &entry);
			if (entry.kind != SOFT_ENTRY_LEAF || entry.group != shift ||
			    entry.shift > shift || entry.shift < own ||
			    entry.address != (at & -(1ull << entry.shift)) ||
			    (entry.prot & RWX) != SHIM_READ || !(entry.prot & SOFT_USER))
				fail_msg("%s, 2^%u bytes, part %llu", format->name, shift,
					 (unsigned long long)part);
		}
	}
	bench_deinit(&b);
}

static void test_leaves(void **state)
{
	for_each_shape(leaves);
}

/* Whatever an entry holds, what is said of it is consistent, and uses do not change it. */
static void any_entry(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct bench b;

	init(&b, format, spec, 0);
	b.env.access_dirty = true;
	for (unsigned int n = 0; n < 40000; n++) {
		unsigned int level = 1 + rnd() % b.shape.levels;
		unsigned int own = soft_format_shift(format, level);
		/* Few bits, many bits, and something like a leaf. */
		uint64_t raw = rnd() & (n & 1 ? rnd() : UINT64_MAX) & (n & 2 ? rnd() : UINT64_MAX);
		uint32_t access = 1u << rnd() % 3;
		uint64_t used;
		struct soft_entry entry = {0}, again = {0};

		b.env.output_bits = 32 + rnd() % 25;
		if (n & 4)
			raw ^= format->make_leaf(&b.env, level, own, 0, SHIM_READ, false);
		format->decode(&b.env, level, raw, &entry);
		assert_false(entry.prot & ~SOFT_PROT_ALL);
		if (entry.kind == SOFT_ENTRY_TABLE) {
			assert_true(entry.level >= 1 && entry.level < level);
		} else if (entry.kind == SOFT_ENTRY_LEAF) {
			assert_true(entry.shift >= own && entry.group >= entry.shift);
			assert_true(entry.group < own + soft_format_stride(format) ||
				    entry.group == own);
			assert_false(entry.address & soft_bits(0, entry.shift));
		} else {
			assert_true(entry.kind <= SOFT_ENTRY_WIDTH);
			continue;
		}
		assert_false(entry.address >> b.env.output_bits);
		if (!format->use)
			continue;
		used = format->use(level, entry.kind == SOFT_ENTRY_LEAF, raw, access);
		assert_true(format->use(level, entry.kind == SOFT_ENTRY_LEAF, used, access) ==
			    used);
		format->decode(&b.env, level, used, &again);
		assert_true(again.kind == entry.kind && again.address == entry.address &&
			    again.prot == entry.prot && again.level == entry.level &&
			    again.shift == entry.shift && again.group == entry.group);
		if (entry.kind != SOFT_ENTRY_LEAF || !(entry.prot & SHIM_WRITE))
			continue;
		for (unsigned int dirty = 0; dirty < 2; dirty++) {
			uint64_t set = format->set_dirty(raw, dirty);

			format->decode(&b.env, level, set, &again);
			assert_true(again.kind == SOFT_ENTRY_LEAF &&
				    again.address == entry.address && again.prot == entry.prot);
		}
	}
	b.env.access_dirty = false;
	b.env.output_bits = 56;
	bench_deinit(&b);
}

static void test_any_entry(void **state)
{
	for_each_shape(any_entry);
}

/* ---- the input space ---- */

static int count_load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	++*(unsigned int *)(uintptr_t)memory;
	return -EFAULT;
}

static void outside(const struct bench *b, uint64_t address)
{
	unsigned int loads = 0;
	struct soft_stage stage = bench_stage(b);
	struct soft_translation where;
	struct shim_fault fault = {0};

	stage.empty = false;
	stage.load = count_load;
	stage.memory = &loads;
	assert_false(soft_walk(&stage, 1, address, SHIM_READ, NULL, &where, &fault));
	assert_true(fault.cause == SHIM_FAULT_NON_CANONICAL ||
		    fault.cause == SHIM_FAULT_ADDRESS_WIDTH);
	assert_int_equal(fault.level, 0);
	assert_int_equal(loads, 0);
}

static void edges(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct space spaces[2];
	struct bench b;
	unsigned int n;

	init(&b, format, spec, 0);
	n = spaces_of(&b, spaces);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t page = 1ull << format->granule, last = spaces[i].last;
		struct soft_translation where;
		struct shim_fault fault;

		assert_int_equal(bench_map(&b, spaces[i].first, page, 4 * page, SHIM_READ), 0);
		if (last - spaces[i].first >= page)
			assert_int_equal(bench_map(&b, last - page + 1, page, 8 * page, SHIM_READ),
					 0);
		assert_true(bench_walk(&b, spaces[i].first, SHIM_READ | SOFT_USER, &where, &fault));
		assert_true(where.output == 4 * page);
		if (last - spaces[i].first >= page) {
			assert_true(bench_walk(&b, last, SHIM_READ | SOFT_USER, &where, &fault));
			assert_true(where.output == 9 * page - 1);
		}
		/* One beyond, and each higher bit flipped. */
		if (last != UINT64_MAX)
			outside(&b, last + 1);
		if (spaces[i].first)
			outside(&b, spaces[i].first - 1);
		for (unsigned int bit = b.shape.input_bits; bit < 64; bit++)
			outside(&b, spaces[i].first ^ 1ull << bit);
	}
	bench_deinit(&b);
}

static void test_edges(void **state)
{
	for_each_shape(edges);
}

/* ---- maps against a plain list ---- */

enum { PIECES = 24 };

struct piece {
	uint64_t iova, last, target;
	uint32_t prot;
};

static const struct piece *piece_at(const struct piece *pieces, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (address >= pieces[i].iova && address <= pieces[i].last)
			return &pieces[i];
	return NULL;
}

static bool is_free(const struct piece *pieces, size_t n, uint64_t iova, uint64_t last)
{
	for (size_t i = 0; i < n; i++)
		if (iova <= pieces[i].last && pieces[i].iova <= last)
			return false;
	return true;
}

static void check_address(const struct bench *b, const struct piece *pieces, size_t n,
			  uint64_t address)
{
	const struct piece *piece = piece_at(pieces, n, address);
	uint64_t sizes = b->format->page_sizes;

	for (uint32_t access = 1; access <= SHIM_EXEC; access <<= 1) {
		struct soft_translation where;
		struct shim_fault fault = {0};
		bool ok = bench_walk(b, address, access | SOFT_USER, &where, &fault);

		assert_int_equal(ok, piece && piece->prot & access);
		if (!ok) {
			assert_int_equal(fault.stage, 1);
			if (piece)
				assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
			else
				assert_true(fault.cause == SHIM_FAULT_NOT_PRESENT ||
					    fault.level == 0);
			continue;
		}
		assert_true(where.output == piece->target + (address - piece->iova));
		assert_int_equal(where.prot & RWX, piece->prot);
		assert_true(where.page_size & sizes);
		assert_false(where.page_size & (where.page_size - 1));
		assert_true((address & -where.page_size) >= piece->iova);
		assert_true((address | (where.page_size - 1)) <= piece->last);
	}
}

/* A range of some pages of one size, with or without smaller ones around; false: no luck. */
static bool rnd_piece(const struct bench *b, const struct space *space, struct piece *ret)
{
	uint64_t sizes = sizes_of(b), page = 1ull << b->format->granule, length, step;
	unsigned int shift, k;

	/* Any of the sizes; leaves of at least that, so that there are not too many. */
	do
		shift = rnd() % 64;
	while (!(sizes & 1ull << shift));
	length = (1ull << shift) * (1 + rnd() % 3) + page * (rnd() % 2 ? rnd() % 4 : 0);
	if (length - 1 > space->last - space->first || length < page ||
	    highest(length) + 1u >= b->env.output_bits)
		return false;
	k = shift;
	for (uint64_t left = sizes & soft_bits(0, shift); left && rnd() % 2;) {
		if (length >> highest(left) > 2048)
			break;
		k = highest(left);
		left &= ~(1ull << k);
	}
	step = 1ull << k;
	ret->iova = rnd();
	if (rnd() % 4) /* a crowded part */
		ret->iova %= 8ull << shift;
	ret->iova = space->first + ret->iova % (space->last - space->first - length + 2 ?: 1);
	ret->iova &= -(rnd() % 2 ? page : rnd() % 2 ? step : 1ull << shift);
	ret->last = ret->iova + length - 1;
	ret->target = rnd() % ((1ull << b->env.output_bits) - length);
	ret->target = (ret->target & -step) | (ret->iova & (step - 1));
	ret->prot = rnd_prot(b->format);
	return ret->iova >= space->first && ret->last <= space->last && ret->last >= ret->iova &&
	       !((ret->target + length - 1) >> b->env.output_bits);
}

static void random_maps(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct piece pieces[PIECES];
	struct space spaces[2];
	unsigned int n_spaces, mapped = 0;
	size_t n = 0;
	struct bench b;

	init(&b, format, spec, 0);
	n_spaces = spaces_of(&b, spaces);
	for (unsigned int step = 0; step < 160; step++) {
		struct soft_builder builder = bench_builder(&b);
		uint64_t before = b.n_tables, bound, done;
		struct piece p;

		if (n == PIECES || (n && rnd() % 5 < 2)) {
			size_t i = rnd() % n;

			bench_unmap(&b, pieces[i].iova, pieces[i].last - pieces[i].iova + 1);
			pieces[i] = pieces[--n];
			continue;
		}
		if (!rnd_piece(&b, &spaces[rnd() % n_spaces], &p))
			continue;
		bound = soft_build_bound(&builder, p.iova, p.last - p.iova + 1, p.target);
		if (!is_free(pieces, n, p.iova, p.last)) {
			/* What it had done is a part of it, and comes out again. */
			assert_int_equal(soft_build_map(&builder, p.iova, p.last - p.iova + 1,
							p.target, p.prot, &done),
					 SHIM_E_OVERLAP);
			assert_true(!done || is_free(pieces, n, p.iova, p.iova + done - 1));
			assert_true(b.n_tables - before <= bound);
			if (done)
				bench_unmap(&b, p.iova, done);
			assert_int_equal(b.n_tables, before);
			continue;
		}
		assert_int_equal(bench_map(&b, p.iova, p.last - p.iova + 1, p.target, p.prot), 0);
		mapped++;
		if (b.n_tables - before > bound)
			fail_msg("%s: %llu pages of tables, the bound was %llu", format->name,
				 (unsigned long long)(b.n_tables - before),
				 (unsigned long long)bound);
		/* Honest, and no wild guess either: the tables above and at both ends. */
		if (bound > b.n_tables - before + (3ull * b.shape.levels << (format->granule - 12)))
			fail_msg("%s: %llu pages of tables, the bound was %llu (%llx-%llx to %llx)",
				 format->name, (unsigned long long)(b.n_tables - before),
				 (unsigned long long)bound, (unsigned long long)p.iova,
				 (unsigned long long)p.last, (unsigned long long)p.target);
		assert_int_equal(b.n_tables, soft_tables_used(&b.tables));
		pieces[n++] = p;
		for (size_t i = 0; i < n; i++) {
			const struct piece *q = &pieces[i];

			if (i + 1 < n && step % 8)
				continue;
			check_address(&b, pieces, n, q->iova);
			check_address(&b, pieces, n, q->last);
			check_address(&b, pieces, n, q->iova + rnd() % (q->last - q->iova + 1));
			check_address(&b, pieces, n, q->last + 1);
			check_address(&b, pieces, n, q->iova - 1);
			/* A part is not the whole, and neither is more. */
			assert_true(bench_is_whole(&b, q->iova, q->last - q->iova + 1));
			if (q->last < spaces[0].last && !piece_at(pieces, n, q->last + 1))
				assert_false(bench_is_whole(&b, q->iova, q->last - q->iova + 2));
		}
	}
	assert_true(mapped > 5);
	while (n--)
		bench_unmap(&b, pieces[n].iova, pieces[n].last - pieces[n].iova + 1);
	assert_int_equal(b.root, 0);
	assert_int_equal(b.n_tables, 0);
	bench_deinit(&b);
}

static void test_random_maps(void **state)
{
	for_each_shape(random_maps);
}

/* Every size of the format is built where address and target are aligned to it. */
static void each_size(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct space spaces[2];
	struct bench b;
	uint64_t last_size = 0;

	init(&b, format, spec, 0);
	spaces_of(&b, spaces);
	for (uint64_t left = sizes_of(&b); left; left &= left - 1) {
		uint64_t size = left & -left;
		struct soft_translation where;
		struct shim_fault fault;

		if (size - 1 > spaces[0].last - spaces[0].first ||
		    highest(size) >= b.env.output_bits)
			continue;
		assert_int_equal(bench_map(&b, spaces[0].first, size, 0, SHIM_READ), 0);
		assert_true(bench_walk(&b, spaces[0].first + size - 1, SHIM_READ | SOFT_USER,
				       &where, &fault));
		assert_true(where.output == size - 1);
		/* A contiguous entry of ARM translates only its own part. */
		if (where.page_size != size)
			assert_true(where.page_size < size && where.page_size >= last_size / 64);
		/* A leaf is one: no part of it goes alone. */
		if (where.page_size == size && size >> format->granule > 1)
			assert_false(bench_is_whole(&b, spaces[0].first, size / 2));
		bench_unmap(&b, spaces[0].first, size);
		assert_int_equal(b.n_tables, 0);
		last_size = size;
	}
	assert_true(last_size > 0);
	bench_deinit(&b);
}

static void test_each_size(void **state)
{
	for_each_shape(each_size);
}

/* ---- faults ---- */

static void not_present(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	uint64_t page = 1ull << format->granule, at;
	struct space spaces[2];
	struct bench b;

	init(&b, format, spec, 0);
	spaces_of(&b, spaces);
	at = spaces[0].first;
	bench_expect_fault(&b, at, SHIM_READ, SHIM_FAULT_NOT_PRESENT, b.shape.levels);
	assert_int_equal(bench_map(&b, at, page, page, rnd_prot(format)), 0);
	for (unsigned int level = 1; level <= b.shape.levels; level++) {
		uint64_t *entry = bench_entry_at(&b, at, level), was = *entry;

		*entry = 0;
		bench_expect_fault(&b, at, SHIM_READ | SOFT_USER, SHIM_FAULT_NOT_PRESENT, level);
		*entry = was;
	}
	/* The memory of a table is gone: the root, then each below. */
	for (unsigned int level = b.shape.levels; level > 1; level--) {
		uint64_t *entry = bench_entry_at(&b, at, level), was = *entry;

		*entry = format->make_table(&b.env, level, 1ull << 31);
		bench_expect_fault(&b, at, SHIM_READ | SOFT_USER, SHIM_FAULT_MEMORY_ERROR,
				   level - 1);
		*entry = was;
	}
	bench_deinit(&b);
}

static void test_not_present_at_each_level(void **state)
{
	for_each_shape(not_present);
}

/* Every permission that a leaf can have against every access, at each size. */
static void permissions(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct space spaces[2];
	struct bench b;

	init(&b, format, spec, 0);
	spaces_of(&b, spaces);
	for (uint64_t left = sizes_of(&b); left; left &= left - 1) {
		uint64_t size = left & -left, at = spaces[0].first;

		if (size - 1 > spaces[0].last - at || highest(size) >= b.env.output_bits)
			continue;
		for (uint32_t prot = 1; prot <= RWX; prot++) {
			struct piece p = {at, at + size - 1, 0, prot};

			if (!allows(format, prot))
				continue;
			assert_int_equal(bench_map(&b, at, size, 0, prot), 0);
			check_address(&b, &p, 1, at);
			check_address(&b, &p, 1, at + size - 1);
			bench_unmap(&b, at, size);
		}
	}
	bench_deinit(&b);
}

static void test_permission_matrix(void **state)
{
	for_each_shape(permissions);
}

/* ---- out of tables ---- */

/* With ever more pages of tables, until a map that needs several succeeds. */
static void out_of_tables(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	uint64_t page = 1ull << format->granule;
	unsigned int failed = 0, levels = 0;

	for (uint64_t limit = 1;; limit++) {
		struct soft_builder builder;
		struct space spaces[2];
		uint64_t at, length, slot, done;
		struct bench b;
		int r;

		init(&b, format, spec, limit);
		levels = b.shape.levels;
		spaces_of(&b, spaces);
		/* Two tables of the lowest level, or what there is, of smallest pages. */
		slot = 1ull << soft_format_shift(format, 2);
		at = spaces[0].first;
		length = spaces[0].last - at + 1;
		if (!length || length > 2 * slot) {
			at += slot - 4 * page;
			length = 8 * page;
		}
		builder = bench_builder(&b);
		r = soft_build_map(&builder, at, length, page, SHIM_READ, &done);
		if (!r) {
			assert_true(b.n_tables <= limit);
			bench_deinit(&b);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		failed++;
		assert_true(done < length && !(done % page));
		if (done)
			bench_unmap(&b, at, done);
		assert_int_equal(b.root, 0);
		assert_int_equal(b.n_tables, 0);
		assert_int_equal(soft_tables_used(&b.tables), 0);
		bench_deinit(&b);
		assert_true(limit < 1024);
	}
	/* A root alone may be one page. */
	assert_true(failed > 0 || levels == 1);
}

static void test_out_of_tables(void **state)
{
	for_each_shape(out_of_tables);
}

/* ---- accessed and dirty ---- */

static void access_dirty(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	struct space spaces[2];
	struct bench b;

	if (!format->is_dirty)
		return;
	init(&b, format, spec, 0);
	spaces_of(&b, spaces);
	b.env.access_dirty = b.clean = true;
	for (uint64_t left = sizes_of(&b); left; left &= left - 1) {
		uint64_t size = left & -left, at = spaces[0].first, offset;
		uint32_t prot = SHIM_READ | SHIM_WRITE;
		struct soft_translation where;
		struct soft_stage stage;
		struct shim_fault fault = {0};
		unsigned int level = 1;
		uint64_t *entry;

		if (size - 1 > spaces[0].last - at || highest(size) >= b.env.output_bits)
			continue;
		assert_int_equal(bench_map(&b, at, size, 0, prot), 0);
		offset = rnd() & (size - 1);
		entry = bench_entry(&b, at + offset, &level);
		stage = bench_stage(&b);
		stage.update = soft_window_update;
		assert_false(format->is_dirty(*entry));
		/* Read: writing is still a miss.  Write: noted, and no longer. */
		for (unsigned int i = 0; i < 2; i++) {
			assert_true(soft_walk(&stage, 1, at + offset, SHIM_READ | SOFT_USER, NULL,
					      &where, &fault));
			assert_false(where.cached & SHIM_WRITE);
			assert_true(where.cached & SHIM_READ);
			assert_false(format->is_dirty(*entry));
			assert_true(!format->accessed ||
				    (*entry & format->accessed) == format->accessed);
			assert_true(soft_walk(&stage, 1, at + offset, SHIM_WRITE | SOFT_USER, NULL,
					      &where, &fault));
			assert_true(format->is_dirty(*entry));
			assert_true(where.cached & SHIM_WRITE);
			assert_true(where.output == offset);
			*entry = format->set_dirty(*entry, false);
			assert_false(format->is_dirty(*entry));
		}
		/* Without anybody to note it, a use that would have to be is a fault. */
		stage.env.access_dirty = false;
		stage.faults_unused = format->faults_unused;
		if (format->faults_unused) {
			uint64_t was = *entry;

			assert_true(soft_walk(&stage, 1, at + offset, SHIM_READ | SOFT_USER, NULL,
					      &where, &fault));
			assert_false(soft_walk(&stage, 1, at + offset, SHIM_WRITE | SOFT_USER, NULL,
					       &where, &fault));
			assert_true(fault.cause == SHIM_FAULT_ACCESS_FLAG ||
				    fault.cause == SHIM_FAULT_PERMISSION);
			*entry &= ~format->accessed;
			assert_false(soft_walk(&stage, 1, at + offset, SHIM_READ | SOFT_USER, NULL,
					       &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_ACCESS_FLAG);
			*entry = was;
		}
		bench_unmap(&b, at, size);
	}
	bench_deinit(&b);
}

static void test_access_dirty(void **state)
{
	for_each_shape(access_dirty);
}

/* What is built for a table whose bits nobody keeps can be used at once, and is not changed. */
static void built_to_be_used(const struct soft_format *format, const struct soft_shape_spec *spec)
{
	uint64_t page = 1ull << format->granule, at;
	struct soft_translation where;
	struct soft_stage stage;
	struct shim_fault fault;
	struct space spaces[2];
	struct bench b;

	init(&b, format, spec, 0);
	spaces_of(&b, spaces);
	at = spaces[0].first;
	assert_int_equal(bench_map(&b, at, page, page, SHIM_READ | SHIM_WRITE), 0);
	stage = bench_stage(&b);
	stage.faults_unused = format->faults_unused;
	assert_true(soft_walk(&stage, 1, at, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
	stage.env.access_dirty = format->always_access_dirty;
	assert_true(soft_walk(&stage, 1, at, SHIM_READ | SOFT_USER, NULL, &where, &fault));
	assert_true(where.cached & SHIM_WRITE);
	bench_deinit(&b);
}

static void test_built_to_be_used(void **state)
{
	for_each_shape(built_to_be_used);
}

/* ---- two stages ---- */

/*
 * A table whose pages are addresses of the parent, for each pair that nests: both windows have
 * the same addresses, so the parent maps the child's tables to themselves.
 */
static void nest(const struct soft_format *child_format, const struct soft_format *parent_format)
{
	const uint64_t m1 = 1ull << 20, page = 1ull << child_format->granule;
	struct soft_translation where;
	struct soft_stage stages[2];
	struct shim_fault fault = {0};
	struct bench child, parent;

	init(&child, child_format, &(struct soft_shape_spec){0}, 0);
	init(&parent, parent_format, &(struct soft_shape_spec){0}, 0);
	assert_int_equal(bench_map(&child, 2 * page, page, m1, SHIM_READ | SHIM_WRITE), 0);
	assert_true(child.n_tables * 4096ull < m1 / 2);
	assert_int_equal(bench_map(&parent, 0, m1, 0, SHIM_READ | SHIM_WRITE), 0);
	assert_int_equal(bench_map(&parent, m1, m1 / 2, 0x40000000, SHIM_READ), 0);
	stages[0] = bench_stage(&child);
	stages[0].tables_in_next = true;
	stages[1] = bench_stage(&parent);
	assert_true(soft_walk(stages, 2, 2 * page + 0x123, SHIM_READ | SOFT_USER, NULL, &where,
			      &fault));
	assert_true(where.output == 0x40000123);
	assert_true(where.page_size <= page && where.page_size >= 4096);
	assert_int_equal(where.prot & (SHIM_READ | SHIM_WRITE), SHIM_READ);
	assert_false(soft_walk(stages, 2, 2 * page, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
	assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
	assert_int_equal(fault.stage, 2);
	/* Without the page, then without the child's tables. */
	bench_unmap(&parent, m1, m1 / 2);
	assert_false(soft_walk(stages, 2, 2 * page, SHIM_READ | SOFT_USER, NULL, &where, &fault));
	assert_int_equal(fault.cause, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(bench_map(&parent, m1, m1 / 2, 0x40000000, SHIM_READ), 0);
	bench_unmap(&parent, 0, m1);
	stages[1] = bench_stage(&parent);
	assert_false(soft_walk(stages, 2, 2 * page, SHIM_READ | SOFT_USER, NULL, &where, &fault));
	assert_int_equal(fault.cause, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_true(fault.address >> 3 == child.root >> 3 || fault.address >= child.root);
	bench_deinit(&child);
	bench_deinit(&parent);
}

static void test_nesting(void **state)
{
	const struct soft_format *child, *parent;
	unsigned int pairs = 0;

	for (size_t c = 0; (child = soft_format_at(c)); c++)
		for (size_t p = 0; (parent = soft_format_at(p)); p++)
			if (soft_nesting_parents(child->id) & 1u << parent->id) {
				nest(child, parent);
				pairs++;
			}
	assert_true(pairs >= 35 + 12 + 9 + 9);
}

/* ---- the list ---- */

static void test_names(void **state)
{
	const struct soft_format *format;
	uint64_t seen = 0;

	for (size_t i = 0; (format = soft_format_at(i)); i++) {
		assert_ptr_equal(soft_format_find(format->id), format);
		assert_ptr_equal(soft_format_by_name(format->name, strlen(format->name)), format);
		assert_false(seen & 1ull << format->id);
		seen |= 1ull << format->id;
		for (const struct soft_field *field = format->fields; field->mask; field++)
			assert_true(field->name && field->where);
		/* The smallest page is a table's size, and every size has a level. */
		assert_int_equal(__builtin_ctzll(format->page_sizes), format->granule);
	}
	/* All that the API names, but for what a kernel chooses. */
	assert_true(seen == (1ull << SHIM_FORMAT_KERNEL_CHOSEN) - 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_any_entry),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_random_maps),
		cmocka_unit_test(test_each_size),
		cmocka_unit_test(test_not_present_at_each_level),
		cmocka_unit_test(test_permission_matrix),
		cmocka_unit_test(test_out_of_tables),
		cmocka_unit_test(test_access_dirty),
		cmocka_unit_test(test_built_to_be_used),
		cmocka_unit_test(test_nesting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
