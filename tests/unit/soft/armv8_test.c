/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ARMv8 formats below the shim: every bit of an entry, the shapes of tables, and walks over
 * entries that the tests lay out themselves, at addresses that they compute themselves.  What is
 * built is in armv8_build_test.c.
 */

#include "soft/walk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BIT(n)	   (1ull << (n))
#define AF	   BIT(10)
#define DBM	   BIT(51)
#define CONTIGUOUS BIT(52)

static const struct soft_format *const stage1[] = {
	&soft_format_armv8_s1_4k,
	&soft_format_armv8_s1_16k,
	&soft_format_armv8_s1_64k,
};
static const struct soft_format *const stage2[] = {
	&soft_format_armv8_s2_4k,
	&soft_format_armv8_s2_16k,
	&soft_format_armv8_s2_64k,
};
#define FORMATS 6

static const struct soft_format *format_at(unsigned int i)
{
	return i < 3 ? stage1[i] : stage2[i - 3];
}

static bool is_stage1(const struct soft_format *format)
{
	return format->input == SOFT_INPUT_HALVES;
}

static unsigned int shift_of(unsigned int granule, unsigned int level)
{
	return granule + (granule - 3) * (level - 1);
}

static struct soft_entry decode(const struct soft_format *format, const struct soft_env *env,
				unsigned int level, uint64_t raw)
{
	struct soft_entry entry;

	memset(&entry, 0xa5, sizeof(entry));
	format->decode(env, level, raw, &entry);
	return entry;
}

/* ---- entries ---- */

static void test_list(void **state)
{
	static const char *const names[] = {
		"armv8-s1-4k", "armv8-s1-16k", "armv8-s1-64k",
		"armv8-s2-4k", "armv8-s2-16k", "armv8-s2-64k",
	};

	for (unsigned int i = 0; i < FORMATS; i++) {
		assert_ptr_equal(soft_format_by_name(names[i], strlen(names[i])), format_at(i));
		assert_ptr_equal(soft_format_find(SHIM_FORMAT_ARMV8_S1_4K + i), format_at(i));
	}
	assert_int_equal(stage1[0]->page_sizes, 0x442211000);
	assert_int_equal(stage1[1]->page_sizes, 0x42204000);
	assert_int_equal(stage1[2]->page_sizes, 0x420210000);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(stage1[i]->page_sizes, stage2[i]->page_sizes);
}

/*
 * What Linux's io-pgtable-arm.c makes for IOMMU_READ, IOMMU_WRITE and IOMMU_CACHE: type, AttrIndx
 * 1 or MemAttr 15, AP_UNPRIV, AP_RDONLY, HAP, SH_IS, AF, nG.
 */
static void test_samples(void **state)
{
	const uint32_t rw = SHIM_READ | SHIM_WRITE, x = SHIM_EXEC;
	const struct soft_env env = {.output_bits = 48}, dirty = {.access_dirty = true};
	const struct soft_env lpa2 = {.lpa2 = true};
	const struct soft_format *s1 = stage1[0], *s2 = stage2[0];

	assert_true(s1->make_leaf(&env, 1, 12, 0x12345000, rw | x, false) == 0x12345f47);
	assert_true(s1->make_leaf(&env, 1, 12, 0x12345000, SHIM_READ | x, false) == 0x12345fc7);
	assert_true(s1->make_leaf(&env, 2, 21, 0x40000000, rw | x, false) == 0x40000f45);
	assert_true(s1->make_leaf(&env, 1, 12, 0x12345000, rw, false) == 0x60000012345f47);
	assert_true(s1->make_leaf(&dirty, 1, 12, 0x12345000, rw, false) == 0x68000012345f47);
	assert_true(s1->make_leaf(&dirty, 1, 12, 0x12345000, SHIM_READ, false) == 0x60000012345fc7);
	assert_true(s1->make_leaf(&env, 1, 16, 0x12345000, rw | x, false) == 0x10000012345f47);
	assert_true(s1->make_leaf(&lpa2, 1, 12, 0x12345000, rw | x, false) == 0x12345c47);
	assert_true(s1->make_table(&env, 2, 0x12345000) == 0x12345003);
	assert_true(s2->make_leaf(&env, 1, 12, 0x12345000, rw | x, false) == 0x123457ff);
	assert_true(s2->make_leaf(&env, 2, 21, 0x40000000, rw | x, false) == 0x400007fd);
	assert_true(s2->make_leaf(&env, 1, 12, 0x12345000, SHIM_READ, false) == 0x4000001234577f);
	assert_true(s2->make_leaf(&env, 1, 12, 0x12345000, SHIM_WRITE | x, false) == 0x123457bf);
	assert_true(s2->make_leaf(&dirty, 1, 12, 0x12345000, rw | x, false) == 0x80000123457ff);
	assert_true(s2->make_table(&env, 2, 0x12345000) == 0x12345003);
}

/* Sizes of table 5.2 of the formats' reference (Arm ARM D8.2.2 to D8.2.4), by level. */
struct size {
	unsigned int granule, level;
	bool lpa2;
	uint8_t output_bits;
	unsigned int shift, group; /* of the leaf; 0: only tables */
};

static const struct size sizes[] = {
	{12, 1, false, 48, 12, 16}, {12, 2, false, 48, 21, 25}, {12, 3, false, 48, 30, 34},
	{12, 4, false, 48, 0, 0},   {12, 4, false, 52, 0, 0},	{12, 1, true, 52, 12, 16},
	{12, 2, true, 52, 21, 25},  {12, 3, true, 52, 30, 34},	{12, 4, true, 52, 39, 39},
	{12, 5, true, 52, 0, 0},    {14, 1, false, 48, 14, 21}, {14, 2, false, 48, 25, 30},
	{14, 3, false, 48, 0, 0},   {14, 4, false, 48, 0, 0},	{14, 1, true, 52, 14, 21},
	{14, 2, true, 52, 25, 30},  {14, 3, true, 52, 36, 36},	{14, 4, true, 52, 0, 0},
	{16, 1, false, 48, 16, 21}, {16, 2, false, 48, 29, 34}, {16, 3, false, 48, 0, 0},
	{16, 1, false, 52, 16, 21}, {16, 2, false, 52, 29, 34}, {16, 3, false, 52, 42, 42},
	{14, 3, false, 52, 0, 0},
};

/* Bits 1:0 by level: invalid, block, table, page. */
static void test_kinds(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 2; i++) {
		const struct size *s = &sizes[i / 2];
		const struct soft_format *format = (i % 2 ? stage1 : stage2)[(s->granule - 12) / 2];
		const struct soft_env env = {.output_bits = s->output_bits, .lpa2 = s->lpa2};
		struct soft_entry entry;

		assert_int_equal(format->granule, s->granule);
		for (unsigned int low = 0; low < 4; low += 2)
			assert_int_equal(decode(format, &env, s->level, AF | low).kind,
					 SOFT_ENTRY_EMPTY);
		/* Nothing else matters then. */
		assert_int_equal(decode(format, &env, s->level, ~1ull).kind, SOFT_ENTRY_EMPTY);
		entry = decode(format, &env, s->level, AF | 1);
		assert_int_equal(entry.kind,
				 s->level > 1 && s->shift ? SOFT_ENTRY_LEAF : SOFT_ENTRY_EMPTY);
		if (entry.kind == SOFT_ENTRY_LEAF)
			assert_int_equal(entry.shift, s->shift);
		entry = decode(format, &env, s->level, AF | 3);
		assert_int_equal(entry.kind, s->level > 1 ? SOFT_ENTRY_TABLE : SOFT_ENTRY_LEAF);
		if (s->level > 1)
			assert_int_equal(entry.level, s->level - 1);
		if (!s->shift)
			continue;
		/* The contiguous bit makes a group, and never a larger page. */
		entry = decode(format, &env, s->level, AF | (s->level > 1 ? 1 : 3));
		assert_int_equal(entry.group, s->shift);
		entry = decode(format, &env, s->level, CONTIGUOUS | AF | (s->level > 1 ? 1 : 3));
		assert_int_equal(entry.kind, SOFT_ENTRY_LEAF);
		assert_int_equal(entry.shift, s->shift);
		assert_int_equal(entry.group, s->group);
	}
}

/* Which address bit a bit of an entry is; 0: none. */
static unsigned int address_bit(unsigned int granule, bool lpa2, unsigned int bit)
{
	if (granule == 16 && bit >= 12 && bit < 16)
		return bit + 36;
	if (granule != 16 && lpa2 && (bit == 8 || bit == 9))
		return bit + 42;
	return bit >= granule && bit < (granule != 16 && lpa2 ? 50 : 48) ? bit : 0;
}

static void check_address_bits(const struct soft_format *format, bool lpa2, unsigned int level,
			       bool table)
{
	const struct soft_env env = {.output_bits = 52, .lpa2 = lpa2};
	unsigned int granule = format->granule;
	unsigned int shift = table ? granule : shift_of(granule, level);
	uint64_t low = table || level == 1 ? 3 : 1, seen = 0, made, zero;

	if (!table && decode(format, &env, level, low).kind != SOFT_ENTRY_LEAF)
		return;
	for (unsigned int bit = 2; bit < 64; bit++) {
		unsigned int expected = address_bit(granule, lpa2, bit);
		struct soft_entry entry = decode(format, &env, level, BIT(bit) | low);
		uint64_t address = expected >= shift ? BIT(expected) : 0;

		if (entry.kind == SOFT_ENTRY_RESERVED) {
			/* Below the block, or above the field. */
			assert_true(!address);
			continue;
		}
		assert_int_equal(entry.kind, table ? SOFT_ENTRY_TABLE : SOFT_ENTRY_LEAF);
		assert_true(entry.address == address);
		seen |= address;
		if (!address)
			continue;
		/* And back. */
		if (table) {
			made = format->make_table(&env, level, address);
			zero = format->make_table(&env, level, 0);
		} else {
			made = format->make_leaf(&env, level, shift, address, SHIM_READ, false);
			zero = format->make_leaf(&env, level, shift, 0, SHIM_READ, false);
		}
		assert_true((made ^ zero) == BIT(bit));
	}
	assert_true(seen == soft_bits(shift, granule == 16 || lpa2 ? 52 : 48));
}

static void test_address_bits(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++)
		for (unsigned int lpa2 = 0; lpa2 < 2; lpa2++)
			for (unsigned int level = 1;
			     level <= 5 && shift_of(format_at(i)->granule, level) < 52; level++) {
				check_address_bits(format_at(i), lpa2, level, false);
				if (level > 1)
					check_address_bits(format_at(i), lpa2, level, true);
			}
}

struct mask {
	unsigned int granule, level;
	bool table, lpa2;
	uint64_t reserved; /* with any output */
	uint64_t wide;	   /* an address beyond 48 bits */
};

static const struct mask masks[] = {
	{12, 1, false, false, 0x0003000000000000, 0},
	{12, 2, false, false, 0x00030000001ef000, 0},
	{12, 3, false, false, 0x000300003ffef000, 0},
	{12, 2, true, false, 0x0003000000000000, 0},
	{12, 4, true, false, 0x0003000000000000, 0},
	{12, 1, false, true, 0, 0x0003000000000300},
	{12, 2, false, true, 0x00000000001ef000, 0x0003000000000300},
	{12, 4, false, true, 0x0000007ffffef000, 0x0003000000000300},
	{12, 5, true, true, 0, 0x0003000000000300},
	{14, 1, false, false, 0x0003000000003000, 0},
	{14, 2, false, false, 0x0003000001fef000, 0},
	{14, 2, true, false, 0x0003000000003000, 0},
	{14, 1, false, true, 0x0000000000003000, 0x0003000000000300},
	{14, 3, false, true, 0x0000000ffffef000, 0x0003000000000300},
	{14, 4, true, true, 0x0000000000003000, 0x0003000000000300},
	{16, 1, false, false, 0x0003000000000000, 0x000000000000f000},
	{16, 2, false, false, 0x000300001ffe0000, 0x000000000000f000},
	{16, 2, true, false, 0x0003000000000000, 0x000000000000f000},
	/* LPA2 means nothing to it. */
	{16, 2, false, true, 0x000300001ffe0000, 0x000000000000f000},
};

/* Each bit alone: reserved, beyond the output, or without a say in what kind of entry it is. */
static void test_reserved_bits(void **state)
{
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]) * 4; i++) {
		const struct mask *m = &masks[i / 4];
		const struct soft_format *format = (i % 2 ? stage1 : stage2)[(m->granule - 12) / 2];
		struct soft_env env = {.output_bits = i & 2 ? 48 : 52, .lpa2 = m->lpa2};
		enum soft_entry_kind plain = m->table ? SOFT_ENTRY_TABLE : SOFT_ENTRY_LEAF;
		uint64_t base = AF | (m->table || m->level == 1 ? 3 : 1);

		assert_int_equal(decode(format, &env, m->level, base).kind, plain);
		for (unsigned int bit = 2; bit < 64; bit++) {
			enum soft_entry_kind expected = plain;
			enum soft_entry_kind kind =
				decode(format, &env, m->level, base | BIT(bit)).kind;

			if (m->reserved & BIT(bit))
				expected = SOFT_ENTRY_RESERVED;
			else if (m->wide & BIT(bit) && env.output_bits == 48)
				expected = SOFT_ENTRY_WIDTH;
			if (kind != expected)
				fail_msg("%s level %u mask %zu bit %u: kind %d, expected %d",
					 format->name, m->level, i / 4, bit, kind, expected);
		}
	}
}

static void test_output_width(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		struct soft_env env = {.lpa2 = true};

		for (unsigned int bits = 32; bits < 52; bits++) {
			uint64_t in, out;

			env.output_bits = (uint8_t)bits;
			in = format->make_leaf(&env, 1, format->granule, BIT(bits - 1), SHIM_READ,
					       false);
			out = format->make_leaf(&env, 1, format->granule, BIT(bits), SHIM_READ,
						false);
			assert_int_equal(decode(format, &env, 1, in).kind, SOFT_ENTRY_LEAF);
			assert_int_equal(decode(format, &env, 1, out).kind, SOFT_ENTRY_WIDTH);
			out = format->make_table(&env, 2, BIT(bits));
			assert_int_equal(decode(format, &env, 2, out).kind, SOFT_ENTRY_WIDTH);
		}
	}
}

/* Bits by name, as the reference has them (table 5.1). */
struct named {
	const char *name;
	uint64_t mask;
	uint8_t where;
};

static const struct named named1[] = {
	{"V", 0x1, SOFT_IN_BOTH},
	{"T", 0x2, SOFT_IN_BOTH},
	{"AttrIndx", 0x1c, SOFT_IN_LEAF},
	{"NS", 0x20, SOFT_IN_LEAF},
	{"AP[1]", 0x40, SOFT_IN_LEAF},
	{"AP[2]", 0x80, SOFT_IN_LEAF},
	{"AF", 0x400, SOFT_IN_LEAF},
	{"nG", 0x800, SOFT_IN_LEAF},
	{"GP", 0x4000000000000, SOFT_IN_LEAF},
	{"DBM", 0x8000000000000, SOFT_IN_LEAF},
	{"Contiguous", 0x10000000000000, SOFT_IN_LEAF},
	{"PXN", 0x20000000000000, SOFT_IN_LEAF},
	{"UXN", 0x40000000000000, SOFT_IN_LEAF},
	{"PXNTable", 0x800000000000000, SOFT_IN_TABLE},
	{"UXNTable", 0x1000000000000000, SOFT_IN_TABLE},
	{"APTable", 0x6000000000000000, SOFT_IN_TABLE},
	{"NSTable", 0x8000000000000000, SOFT_IN_TABLE},
};

static const struct named named2[] = {
	{"V", 0x1, SOFT_IN_BOTH},
	{"T", 0x2, SOFT_IN_BOTH},
	{"MemAttr", 0x3c, SOFT_IN_LEAF},
	{"S2AP[0]", 0x40, SOFT_IN_LEAF},
	{"S2AP[1]", 0x80, SOFT_IN_LEAF},
	{"AF", 0x400, SOFT_IN_LEAF},
	{"FnXS", 0x800, SOFT_IN_LEAF},
	{"DBM", 0x8000000000000, SOFT_IN_LEAF},
	{"Contiguous", 0x10000000000000, SOFT_IN_LEAF},
	{"XN", 0x60000000000000, SOFT_IN_LEAF},
};

static const struct soft_field *find_field(const struct soft_format *format, const char *name)
{
	for (const struct soft_field *field = format->fields; field->mask; field++)
		if (!strcmp(field->name, name))
			return field;
	fail_msg("%s has no field %s", format->name, name);
	return NULL;
}

static void test_fields(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		const struct named *named = i < 3 ? named1 : named2;
		size_t n = i < 3 ? sizeof(named1) / sizeof(named1[0])
				 : sizeof(named2) / sizeof(named2[0]);
		uint64_t seen = 0;
		size_t count = 0;

		for (size_t k = 0; k < n; k++) {
			const struct soft_field *field = find_field(format, named[k].name);

			assert_true(field->mask == named[k].mask);
			assert_int_equal(field->where, named[k].where);
		}
		if (format->granule == 16) {
			assert_true(find_field(format, "SH")->mask == 0x300);
			assert_true(find_field(format, "OA[51:48]")->mask == 0xf000);
		} else {
			assert_true(find_field(format, "SH/OA[51:50]")->mask == 0x300);
		}
		for (const struct soft_field *field = format->fields; field->mask; field++) {
			assert_false(seen & field->mask);
			seen |= field->mask;
			count++;
		}
		assert_int_equal(count, n + (format->granule == 16 ? 2 : 1));
	}
}

/* ---- shapes ---- */

/*
 * Whether ARM's start level fits: pseudocode S2InvalidSL and S2InconsistentSL, as QEMU's
 * check_s2_mmu_setup() has them, for a unit with any output width and without FEAT_TTST.
 */
static bool stage2_allows(unsigned int granule, int start, int input, bool lpa2)
{
	int stride = (int)granule - 3, least;

	switch (granule) {
	case 12:
		if (start < (lpa2 ? -1 : 0) || start > 2)
			return false;
		break;
	case 14:
		if (start < (lpa2 ? 0 : 1) || start > 3)
			return false;
		break;
	default:
		if (start < 1 || start > 3)
			return false;
	}
	least = (3 - start) * stride + (int)granule + 1;
	return input >= least && input <= least + stride - 1 + 4;
}

static void test_stage2_shapes(void **state)
{
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int n = 0; n < 2 * 64 * 8; n++) {
			const struct soft_format *format = stage2[i];
			struct soft_shape_spec spec = {
				.input_bits = n / 16 + 1, .levels = n / 2 % 8, .lpa2 = n % 2};
			bool wide = spec.lpa2 || format->granule == 16;
			bool allowed = !(spec.lpa2 && format->granule == 16) &&
				       spec.input_bits >= 25 && spec.input_bits <= (wide ? 52 : 48);
			struct soft_shape shape = {0};
			char reason[SHIM_REASON_MAX] = "";
			int r = soft_shape_init(format, &spec, reason, &shape);

			if (spec.levels)
				allowed = allowed && stage2_allows(format->granule, 4 - spec.levels,
								   spec.input_bits, spec.lpa2);
			if (r != (allowed ? 0 : SHIM_E_INCOMPATIBLE))
				fail_msg("%s: %u bits, %u levels, lpa2 %d: %d %s", format->name,
					 spec.input_bits, spec.levels, spec.lpa2, r, reason);
			if (r) {
				assert_true(*reason && !shape.levels);
				continue;
			}
			if (spec.levels)
				assert_int_equal(shape.levels, spec.levels);
			/* Left to itself, a shape that is allowed too. */
			assert_true(stage2_allows(format->granule, 4 - shape.levels,
						  spec.input_bits, spec.lpa2));
			assert_int_equal(shape.input_bits, spec.input_bits);
			assert_int_equal(shape.root_bits,
					 spec.input_bits - shift_of(format->granule, shape.levels));
		}
	}
}

/* ARM's start level of stage 1: 4 - (width - 4) / stride (QEMU get_phys_addr_lpae()). */
static void test_stage1_shapes(void **state)
{
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int n = 0; n < 2 * 64; n++) {
			const struct soft_format *format = stage1[i];
			struct soft_shape_spec spec = {.input_bits = n / 2 + 1, .lpa2 = n % 2};
			bool wide = spec.lpa2 || format->granule == 16;
			bool allowed = !(spec.lpa2 && format->granule == 16) &&
				       spec.input_bits >= 25 && spec.input_bits <= (wide ? 52 : 48);
			struct soft_shape shape = {0};

			assert_int_equal(soft_shape_init(format, &spec, NULL, &shape),
					 allowed ? 0 : SHIM_E_INCOMPATIBLE);
			if (!allowed)
				continue;
			assert_int_equal(shape.levels,
					 (spec.input_bits - 4) / (format->granule - 3));
			assert_int_equal(shape.root_bits,
					 spec.input_bits - shift_of(format->granule, shape.levels));
			/* It has no start level. */
			spec.levels = shape.levels;
			assert_int_equal(soft_shape_init(format, &spec, NULL, &shape),
					 SHIM_E_INCOMPATIBLE);
		}
	}
}

struct shaped {
	const struct soft_format *format;
	struct soft_shape_spec spec;
	unsigned int levels;
	uint64_t root_bytes;
};

static const struct shaped shaped[] = {
	{&soft_format_armv8_s1_4k, {0}, 4, 4096},
	{&soft_format_armv8_s1_4k, {.input_bits = 39}, 3, 4096},
	{&soft_format_armv8_s1_4k, {.input_bits = 40}, 4, 64}, /* 16 bytes, aligned to 64 */
	{&soft_format_armv8_s1_4k, {.input_bits = 25}, 2, 128},
	{&soft_format_armv8_s1_4k, {.input_bits = 52, .lpa2 = true}, 5, 128},
	{&soft_format_armv8_s1_16k, {0}, 4, 64},
	{&soft_format_armv8_s1_16k, {.input_bits = 47}, 3, 16384},
	{&soft_format_armv8_s1_16k, {.input_bits = 52, .lpa2 = true}, 4, 256},
	{&soft_format_armv8_s1_64k, {0}, 3, 512},
	{&soft_format_armv8_s1_64k, {.input_bits = 42}, 2, 65536},
	{&soft_format_armv8_s1_64k, {.input_bits = 52}, 3, 8192},
	{&soft_format_armv8_s1_64k, {.input_bits = 25}, 1, 4096},
	{&soft_format_armv8_s2_4k, {0}, 4, 4096},
	{&soft_format_armv8_s2_4k, {.input_bits = 40}, 4, 64},
	{&soft_format_armv8_s2_4k, {.input_bits = 40, .levels = 3}, 3, 8192},
	{&soft_format_armv8_s2_4k, {.input_bits = 43, .levels = 3}, 3, 65536},
	{&soft_format_armv8_s2_4k, {.input_bits = 52, .levels = 4, .lpa2 = true}, 4, 65536},
	{&soft_format_armv8_s2_16k, {0}, 3, 32768}, /* no level 0: two tables */
	{&soft_format_armv8_s2_16k, {.lpa2 = true}, 4, 64},
	{&soft_format_armv8_s2_16k, {.input_bits = 40, .levels = 2}, 2, 262144},
	{&soft_format_armv8_s2_64k, {0}, 3, 512},
	{&soft_format_armv8_s2_64k, {.input_bits = 46, .levels = 2}, 2, 1048576},
};

static void test_known_shapes(void **state)
{
	for (size_t i = 0; i < sizeof(shaped) / sizeof(shaped[0]); i++) {
		const struct shaped *s = &shaped[i];
		struct soft_shape shape;

		assert_int_equal(soft_shape_init(s->format, &s->spec, NULL, &shape), 0);
		assert_int_equal(shape.levels, s->levels);
		assert_true(soft_shape_root_bytes(&shape) == s->root_bytes);
	}
	for (unsigned int i = 0; i < 3; i++) {
		struct soft_shape shape;

		/* Without a wish, the format's own. */
		assert_int_equal(
			soft_shape_init(stage2[i], &(struct soft_shape_spec){0}, NULL, &shape), 0);
		assert_int_equal(shape.levels, stage2[i]->levels);
		assert_int_equal(
			soft_shape_init(stage1[i], &(struct soft_shape_spec){0}, NULL, &shape), 0);
		assert_int_equal(shape.levels, stage1[i]->levels);
		assert_int_equal(soft_shape_init(stage2[i],
						 &(struct soft_shape_spec){.upper = true}, NULL,
						 &shape),
				 SHIM_E_INCOMPATIBLE);
		assert_int_equal(
			soft_shape_init(stage2[i],
					&(struct soft_shape_spec){.top_byte_ignored = true}, NULL,
					&shape),
			SHIM_E_INCOMPATIBLE);
	}
}

/* ---- walks over a few entries, each where the test says that it is ---- */

struct memory {
	uint64_t address[8], entry[8];
	unsigned int n, loads, updates;
};

static int load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	struct memory *m = (struct memory *)memory;

	m->loads++;
	for (unsigned int i = 0; i < m->n; i++)
		if (m->address[i] == address) {
			*ret_entry = m->entry[i];
			return 0;
		}
	return -EFAULT;
}

static int update(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	struct memory *m = (struct memory *)memory;

	for (unsigned int i = 0; i < m->n; i++)
		if (m->address[i] == address) {
			assert_true(m->entry[i] == *expected);
			m->entry[i] = wanted;
			m->updates++;
			return 0;
		}
	return -EFAULT;
}

struct world {
	struct memory memory;
	struct soft_stage stage;
};

static void world_init(struct world *w, const struct soft_format *format,
		       const struct soft_shape_spec *spec, uint64_t root)
{
	*w = (struct world){
		.stage =
			{
				.format = format,
				.env = {.output_bits = 52, .lpa2 = spec->lpa2},
				.root = root,
				.load = load,
				.update = update,
				.memory = &w->memory,
			},
	};
	assert_int_equal(soft_shape_init(format, spec, NULL, &w->stage.shape), 0);
}

/* Where the tables lie that are not the root: aligned for any granule. */
static uint64_t table_at(unsigned int level)
{
	return (uint64_t)level << 20;
}

/* The entry of a level on the way to an address. */
static uint64_t slot_of(const struct world *w, unsigned int level, uint64_t address)
{
	unsigned int granule = w->stage.format->granule, shift = shift_of(granule, level);
	unsigned int levels = w->stage.shape.levels;
	unsigned int top = level == levels ? w->stage.shape.input_bits : shift + granule - 3;

	return (level == levels ? w->stage.root : table_at(level)) +
	       8 * ((address & soft_bits(0, top)) >> shift);
}

/* Lays a path to an address: tables, and at this level the entry. */
static void lay(struct world *w, uint64_t address, unsigned int level, uint64_t entry)
{
	w->memory.n = 0;
	for (unsigned int l = w->stage.shape.levels; l >= level; l--) {
		w->memory.address[w->memory.n] = slot_of(w, l, address);
		w->memory.entry[w->memory.n++] = l > level ? table_at(l - 1) | 3 : entry;
	}
}

/* The entry of this level that lay() made. */
static uint64_t *laid(struct world *w, unsigned int level)
{
	return &w->memory.entry[w->stage.shape.levels - level];
}

static bool walk(const struct world *w, uint64_t address, uint32_t access,
		 struct soft_translation *ret, struct shim_fault *ret_fault)
{
	return soft_walk(&w->stage, 1, address, access, NULL, ret, ret_fault);
}

static void expect_page(const struct world *w, uint64_t address, uint64_t output, uint64_t size)
{
	struct soft_translation where = {0};
	struct shim_fault fault = {0};

	if (!walk(w, address, SHIM_READ, &where, &fault))
		fail_msg("%s: %llx faults with cause %d at level %u", w->stage.format->name,
			 (unsigned long long)address, fault.cause, fault.level);
	assert_true(where.output == output);
	assert_true(where.page_size == size);
}

static void expect_fault(const struct world *w, uint64_t address, uint32_t access,
			 enum shim_fault_cause cause, unsigned int level)
{
	struct soft_translation where;
	struct shim_fault fault = {0};

	assert_false(walk(w, address, access, &where, &fault));
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.level, level);
	assert_true(fault.address == address);
	if (level && cause != SHIM_FAULT_MEMORY_ERROR)
		assert_true(fault.entry == *laid((struct world *)w, level));
}

/* A leaf that everyone may read and write, and execute as far as that lets them. */
static uint64_t leaf_of(const struct soft_format *format, unsigned int level)
{
	return AF | (level == 1 ? 3 : 1) | (is_stage1(format) ? 0x40 : 0xc0);
}

/* ---- the input ---- */

static void test_widths(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		for (unsigned int n = 25; n <= 52; n++) {
			const struct soft_format *format = format_at(i);
			struct soft_shape_spec spec = {.input_bits = (uint8_t)n};
			uint64_t last = BIT(n) - 1, size = BIT(format->granule);
			struct world w;

			spec.lpa2 = n > 48 && format->granule != 16;
			world_init(&w, format, &spec, 0x7000000);
			lay(&w, last, 1, leaf_of(format, 1) | 0x5550000);
			expect_page(&w, last, 0x5550000 + size - 1, size);
			lay(&w, 0, 1, leaf_of(format, 1) | 0x5550000);
			expect_page(&w, 0x123, 0x5550123, size);
			expect_fault(&w, last + 1, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			expect_fault(&w, UINT64_MAX, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			expect_fault(&w, BIT(63), SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			if (!is_stage1(format))
				continue;
			spec.upper = true;
			world_init(&w, format, &spec, 0x7000000);
			lay(&w, UINT64_MAX, 1, leaf_of(format, 1) | 0x5550000);
			expect_page(&w, UINT64_MAX, 0x5550000 + size - 1, size);
			lay(&w, ~last, 1, leaf_of(format, 1) | 0x5550000);
			expect_page(&w, ~last, 0x5550000, size);
			expect_fault(&w, ~last - 1, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			expect_fault(&w, last, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			expect_fault(&w, 0, SHIM_READ, SHIM_FAULT_ADDRESS_WIDTH, 0);
			/* One bit that differs, anywhere above the width. */
			for (unsigned int bit = n; bit < 64; bit++) {
				expect_fault(&w, ~last ^ BIT(bit), SHIM_READ,
					     SHIM_FAULT_ADDRESS_WIDTH, 0);
			}
		}
	}
}

static void test_top_byte_ignored(void **state)
{
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int upper = 0; upper < 2; upper++) {
			const struct soft_shape_spec spec = {.upper = upper,
							     .top_byte_ignored = true};
			uint64_t base = upper ? 0xffff800000000000 : 0x00007fff00000000;
			struct world w;

			world_init(&w, stage1[i], &spec, 0x7000000);
			lay(&w, base, 1, leaf_of(stage1[i], 1) | 0x5550000);
			for (unsigned int bit = 48; bit < 64; bit++) {
				if (bit >= 56)
					expect_page(&w, base ^ BIT(bit), 0x5550000,
						    BIT(stage1[i]->granule));
				else
					expect_fault(&w, base ^ BIT(bit), SHIM_READ,
						     SHIM_FAULT_ADDRESS_WIDTH, 0);
			}
			/* Bit 55 chooses the half, whatever stands above. */
			expect_page(&w, base ^ 0xff00000000000000, 0x5550000,
				    BIT(stage1[i]->granule));
			expect_fault(&w, base ^ 0x00ff000000000000, SHIM_READ,
				     SHIM_FAULT_ADDRESS_WIDTH, 0);
		}
	}
}

/* ---- the root ---- */

static void test_roots(void **state)
{
	for (size_t i = 0; i < sizeof(shaped) / sizeof(shaped[0]); i++) {
		const struct shaped *s = &shaped[i];
		struct world w;
		uint64_t last;

		/* Aligned to its own size, and to no more. */
		world_init(&w, s->format, &s->spec, 0x40000000 + s->root_bytes);
		last = BIT(w.stage.shape.input_bits) - 1;
		lay(&w, last, 1, leaf_of(s->format, 1) | 0x5550000);
		/* The last entry of the root. */
		assert_true(w.memory.address[0] ==
			    w.stage.root + (8ull << w.stage.shape.root_bits) - 8);
		expect_page(&w, last, 0x5550000 + BIT(s->format->granule) - 1,
			    BIT(s->format->granule));
	}
}

static void test_blocks(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 2; i++) {
		const struct size *s = &sizes[i / 2];
		const struct soft_format *format = (i % 2 ? stage1 : stage2)[(s->granule - 12) / 2];
		const struct soft_shape_spec spec = {.lpa2 = s->lpa2};
		uint64_t address, output;
		struct world w;

		world_init(&w, format, &spec, 0x7000000);
		w.stage.env.output_bits = s->output_bits;
		if (s->level > w.stage.shape.levels)
			continue;
		address = 0x123456789abc;
		lay(&w, address, s->level, leaf_of(format, s->level) | BIT(45));
		if (!s->shift) {
			expect_fault(&w, address, SHIM_READ, SHIM_FAULT_NOT_PRESENT, s->level);
			continue;
		}
		output = BIT(45) | (address & soft_bits(0, s->shift));
		expect_page(&w, address, output, BIT(s->shift));
		/* A contiguous entry is believed for its own part, whatever its neighbours are. */
		*laid(&w, s->level) |= CONTIGUOUS;
		expect_page(&w, address, output, BIT(s->shift));
	}
}

/* ---- faults ---- */

static void test_faults_at_each_level(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		const struct soft_shape_spec spec = {.input_bits = 52,
						     .lpa2 = format->granule != 16};
		const uint64_t address = 0xfedcba9876543;
		struct world w;

		world_init(&w, format, &spec, 0x7000000);
		for (unsigned int level = w.stage.shape.levels; level; level--) {
			lay(&w, address, 1, leaf_of(format, 1));
			*laid(&w, level) &= ~1ull;
			expect_fault(&w, address, SHIM_READ, SHIM_FAULT_NOT_PRESENT, level);
			/* Also before permission and access flag. */
			*laid(&w, level) = 0xfffffffffffffffe;
			expect_fault(&w, address, SHIM_WRITE, SHIM_FAULT_NOT_PRESENT, level);
			/* 13:12 below 16K, 49:48 of 64K; 4K with LPA2 has none in pages and tables.
			 */
			if (format->granule != 12) {
				lay(&w, address, 1, leaf_of(format, 1));
				*laid(&w, level) |= format->granule == 14 ? BIT(13) : BIT(49);
				expect_fault(&w, address, SHIM_READ, SHIM_FAULT_RESERVED_BITS,
					     level);
			}
			lay(&w, address, 1, leaf_of(format, 1));
			*laid(&w, level) |= format->granule == 16 ? BIT(15) : BIT(9);
			w.stage.env.output_bits = 51;
			expect_fault(&w, address, SHIM_READ, SHIM_FAULT_OUTPUT_WIDTH, level);
			w.stage.env.output_bits = 52;
			lay(&w, address, 1, leaf_of(format, 1));
			w.memory.address[w.stage.shape.levels - level] ^= 8;
			expect_fault(&w, address, SHIM_READ, SHIM_FAULT_MEMORY_ERROR, level);
		}
	}
}

/* Translation, address size, access flag, permission. */
static void test_order_of_faults(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		uint64_t read_only = is_stage1(format) ? 0xc0 : 0x40, leaf = 3 | read_only;
		uint64_t wide = BIT(47);
		struct world w;

		world_init(&w, format, &(struct soft_shape_spec){0}, 0x7000000);
		w.stage.faults_unused = true;
		w.stage.env.output_bits = 40;
		lay(&w, 0x1230000, 1, leaf | wide | AF);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_OUTPUT_WIDTH, 1);
		lay(&w, 0x1230000, 1, leaf | wide);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_OUTPUT_WIDTH, 1);
		lay(&w, 0x1230000, 1, (leaf | wide) & ~2ull);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_NOT_PRESENT, 1);
		lay(&w, 0x1230000, 1, leaf);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_ACCESS_FLAG, 1);
		expect_fault(&w, 0x1230000, SHIM_READ, SHIM_FAULT_ACCESS_FLAG, 1);
		lay(&w, 0x1230000, 1, leaf | AF);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, 1);
		expect_page(&w, 0x1230000, 0, BIT(format->granule));
		/* The flag of a block, and one that takes writing away above it. */
		lay(&w, 0x1230000, 2, leaf & ~2ull);
		expect_fault(&w, 0x1230000, SHIM_READ, SHIM_FAULT_ACCESS_FLAG, 2);
		/* Where nobody asks for it, it translates. */
		w.stage.faults_unused = false;
		expect_page(&w, 0x1230000, 0x1230000 & soft_bits(0, shift_of(format->granule, 2)),
			    BIT(shift_of(format->granule, 2)));
		if (!is_stage1(format))
			continue;
		w.stage.faults_unused = true;
		lay(&w, 0x1230000, 1, 3 | 0x40);
		*laid(&w, 2) |= BIT(62);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_ACCESS_FLAG, 1);
		*laid(&w, 1) |= AF;
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, 2);
	}
}

/* ---- permissions ---- */

struct allowed {
	bool read, write, exec;
};

static void expect_allowed(const struct world *w, struct allowed user, struct allowed privileged)
{
	const struct {
		uint32_t access;
		bool allowed;
	} all[] = {
		{SHIM_READ | SOFT_USER, user.read}, {SHIM_WRITE | SOFT_USER, user.write},
		{SHIM_EXEC | SOFT_USER, user.exec}, {SHIM_READ, privileged.read},
		{SHIM_WRITE, privileged.write},	    {SHIM_EXEC, privileged.exec},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct soft_translation where = {0};
		struct shim_fault fault = {0};
		struct world copy = *w;
		bool ok;

		copy.stage.memory = &copy.memory;
		ok = walk(&copy, 0x1230000, all[i].access, &where, &fault);
		if (ok != all[i].allowed)
			fail_msg("%s: leaf %llx table %llx access %x: %d, expected %d",
				 w->stage.format->name,
				 (unsigned long long)w->memory.entry[w->memory.n - 1],
				 (unsigned long long)w->memory.entry[w->memory.n - 2],
				 all[i].access, ok, all[i].allowed);
		if (!ok)
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		/* What is kept of it gives no more than it has. */
		if (ok && all[i].access & SOFT_USER) {
			assert_false(where.cached & SHIM_READ && !user.read);
			assert_false(where.cached & SHIM_WRITE && !user.write);
			assert_false(where.cached & SHIM_EXEC && !user.exec);
		}
	}
}

/*
 * Arm ARM, pseudocode S1DirectBasePermissions: AP, then APTable, then PXN with "locations writable
 * by unprivileged cannot be executed by privileged".  DBM clears AP[2] where the bits are kept.
 */
static void test_stage1_permissions(void **state)
{
	for (unsigned int n = 0; n < 3 * 64 * 256; n++) {
		const struct soft_format *format = stage1[n % 3];
		unsigned int ap = n / 3 % 4, xn = n / 12 % 4, dbm = n / 48 % 2, kept = n / 96 % 2;
		unsigned int upper = n / 192 % 16, lower = n / 3072 % 16;
		unsigned int table = upper | lower, ap_table = table >> 2;
		struct allowed user = {0}, privileged = {.read = true};
		struct world w;

		world_init(&w, format, &(struct soft_shape_spec){0}, 0x7000000);
		w.stage.env.access_dirty = kept;
		lay(&w, 0x1230000, 1,
		    AF | 3 | (uint64_t)ap << 6 | (uint64_t)xn << 53 | (uint64_t)dbm << 51);
		*laid(&w, 2) |= (uint64_t)lower << 59;
		*laid(&w, 3) |= (uint64_t)upper << 59;
		if (kept && dbm)
			ap &= 1;
		privileged.write = !(ap & 2);
		user.read = ap & 1;
		user.write = ap == 1;
		if (ap_table & 1)
			user.read = user.write = false;
		if (ap_table & 2)
			user.write = privileged.write = false;
		user.exec = !(xn & 2) && !(table & 2);
		privileged.exec = !(xn & 1) && !(table & 1) && !user.write;
		expect_allowed(&w, user, privileged);
	}
}

/* Arm ARM D8.4.2; XN with FEAT_XNX. */
static void test_stage2_permissions(void **state)
{
	static const struct {
		bool user, privileged;
	} executes[] = {{true, true}, {true, false}, {false, false}, {false, true}};

	for (unsigned int n = 0; n < 3 * 64; n++) {
		const struct soft_format *format = stage2[n % 3];
		unsigned int ap = n / 3 % 4, xn = n / 12 % 4, dbm = n / 48 % 2, kept = n / 96 % 2;
		struct allowed user, privileged;
		struct world w;

		world_init(&w, format, &(struct soft_shape_spec){0}, 0x7000000);
		w.stage.env.access_dirty = kept;
		lay(&w, 0x1230000, 1,
		    AF | 3 | (uint64_t)ap << 6 | (uint64_t)xn << 53 | (uint64_t)dbm << 51);
		/* What restricts in stage 1 is ignored in a table here. */
		*laid(&w, 2) |= 0xfull << 59;
		user = (struct allowed){ap & 1, ap & 2 || (dbm && kept), executes[xn].user};
		privileged = user;
		privileged.exec = executes[xn].privileged;
		expect_allowed(&w, user, privileged);
	}
}

/* The entry at fault is the first that takes the permission away. */
static void test_permission_levels(void **state)
{
	for (unsigned int i = 0; i < 3; i++) {
		struct world w;

		world_init(&w, stage1[i], &(struct soft_shape_spec){0}, 0x7000000);
		for (unsigned int level = 2; level <= w.stage.shape.levels; level++) {
			lay(&w, 0x1230000, 1, AF | 3 | 0x40);
			*laid(&w, level) |= BIT(62);
			expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, level);
			*laid(&w, level) ^= 3ull << 61;
			expect_fault(&w, 0x1230000, SHIM_READ | SOFT_USER, SHIM_FAULT_PERMISSION,
				     level);
			*laid(&w, level) ^= 3ull << 60;
			expect_fault(&w, 0x1230000, SHIM_EXEC | SOFT_USER, SHIM_FAULT_PERMISSION,
				     level);
			*laid(&w, level) ^= 3ull << 59;
			expect_fault(&w, 0x1230000, SHIM_EXEC, SHIM_FAULT_PERMISSION, level);
		}
		/* What the unprivileged write is the page's own fault. */
		lay(&w, 0x1230000, 1, AF | 3 | 0x40);
		expect_fault(&w, 0x1230000, SHIM_EXEC, SHIM_FAULT_PERMISSION, 1);
	}
}

/* ---- accessed and dirty ---- */

static uint64_t clean_leaf(const struct soft_format *format)
{
	return 3 | DBM | (is_stage1(format) ? 0xc0 : 0x40);
}

static void test_use(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		uint64_t clean = clean_leaf(format), dirty = clean ^ 0x80, read_only = clean ^ DBM;
		struct soft_translation where;
		struct shim_fault fault = {0};
		struct world w;

		world_init(&w, format, &(struct soft_shape_spec){0}, 0x7000000);
		w.stage.env.access_dirty = true;
		lay(&w, 0x1230000, 1, clean);
		/* A read sets AF, and leaves the page clean: the first write is to be a walk. */
		assert_true(walk(&w, 0x1230000, SHIM_READ | SOFT_USER, &where, &fault));
		assert_true(*laid(&w, 1) == (clean | AF));
		assert_true(where.prot & SHIM_WRITE);
		assert_false(where.cached & SHIM_WRITE);
		assert_true(walk(&w, 0x1230000, SHIM_WRITE | SOFT_USER, &where, &fault));
		assert_true(*laid(&w, 1) == (dirty | AF));
		assert_true(where.cached & SHIM_WRITE);
		assert_int_equal(w.memory.updates, 2);
		/* Nothing is left to do; nothing is done to tables. */
		assert_true(walk(&w, 0x1230000, SHIM_WRITE | SOFT_USER, &where, &fault));
		assert_int_equal(w.memory.updates, 2);
		/* Without DBM nothing is kept, and a page that can be written is cached as such. */
		lay(&w, 0x1230000, 1, (dirty ^ DBM) | AF);
		assert_true(walk(&w, 0x1230000, SHIM_WRITE | SOFT_USER, &where, &fault));
		assert_true(where.cached & SHIM_WRITE);
		assert_int_equal(w.memory.updates, 2);
		lay(&w, 0x1230000, 1, read_only);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, 1);
		/* What is refused is not used. */
		assert_true(*laid(&w, 1) == read_only);
		/* Where the bits are not kept, clean is read-only. */
		w.stage.env.access_dirty = false;
		lay(&w, 0x1230000, 1, clean | AF);
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, 1);
		w.stage.faults_unused = true;
		expect_fault(&w, 0x1230000, SHIM_WRITE, SHIM_FAULT_PERMISSION, 1);
		lay(&w, 0x1230000, 1, dirty | AF);
		assert_true(walk(&w, 0x1230000, SHIM_WRITE | SOFT_USER, &where, &fault));
		assert_int_equal(w.memory.updates, 2);
	}
}

static void test_dirty_states(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		uint64_t clean = clean_leaf(format), dirty = clean ^ 0x80;
		uint64_t plain = dirty ^ DBM, read_only = clean ^ DBM;

		assert_false(format->is_dirty(clean));
		assert_true(format->is_dirty(dirty));
		assert_false(format->is_dirty(plain));
		assert_false(format->is_dirty(read_only));
		assert_true(format->set_dirty(clean, true) == dirty);
		assert_true(format->set_dirty(dirty, true) == dirty);
		assert_true(format->set_dirty(plain, true) == dirty);
		assert_true(format->set_dirty(clean, false) == clean);
		assert_true(format->set_dirty(dirty, false) == clean);
		assert_true(format->set_dirty(plain, false) == clean);
		/* It does not become one that can be written. */
		assert_true(format->set_dirty(read_only, true) == read_only);
		assert_true(format->set_dirty(read_only, false) == read_only);
	}
}

/* ---- the paging-structure cache ---- */

/* From the lowest table that is known; a permission that was taken away above is still missing. */
static void test_structures(void **state)
{
	for (unsigned int i = 0; i < FORMATS; i++) {
		const struct soft_format *format = format_at(i);
		const struct soft_shape_spec spec = {.input_bits = 52,
						     .lpa2 = format->granule != 16};
		const uint64_t address = 0xfedcba9870000;
		struct soft_translation where;
		struct shim_fault fault = {0};
		struct soft_iotlb structures;
		struct world w;

		world_init(&w, format, &spec, 0x7000000);
		assert_int_equal(soft_iotlb_init(&structures, 64), 0);
		w.stage.structures = &structures;
		w.stage.tag = 1;
		lay(&w, address, 1, leaf_of(format, 1) | 0x5550000);
		expect_page(&w, address, 0x5550000, BIT(format->granule));
		assert_int_equal(w.memory.loads, w.stage.shape.levels);
		expect_page(&w, address + 8, 0x5550008, BIT(format->granule));
		assert_int_equal(w.memory.loads, w.stage.shape.levels + 1u);
		for (unsigned int level = 2; level <= w.stage.shape.levels; level++) {
			/* What is known is not looked at again. */
			*laid(&w, level) &= ~1ull;
			expect_page(&w, address, 0x5550000, BIT(format->granule));
			soft_iotlb_drop_all(&structures);
			assert_false(walk(&w, address, SHIM_READ, &where, &fault));
			assert_int_equal(fault.level, level);
			*laid(&w, level) |= 1;
			expect_page(&w, address, 0x5550000, BIT(format->granule));
			if (!is_stage1(format))
				continue;
			/* A table that lets only read, known by a read. */
			soft_iotlb_drop_all(&structures);
			*laid(&w, level) |= BIT(62);
			expect_page(&w, address, 0x5550000, BIT(format->granule));
			expect_fault(&w, address, SHIM_WRITE, SHIM_FAULT_PERMISSION, level);
			*laid(&w, level) &= ~BIT(62);
			soft_iotlb_drop_all(&structures);
			expect_page(&w, address, 0x5550000, BIT(format->granule));
		}
		soft_iotlb_deinit(&structures);
	}
}

/* ---- both stages ---- */

/* The tables of stage 1 are input of stage 2, which must let them be read, and written for AF. */
static void test_nested(void **state)
{
	for (unsigned int n = 0; n < 9; n++) {
		const struct soft_format *f1 = stage1[n / 3], *f2 = stage2[n % 3];
		const struct soft_shape_spec spec = {0};
		struct soft_translation where;
		struct shim_fault fault = {0};
		struct soft_stage stages[2];
		struct memory *m;
		struct world w;

		/* Stage 2 has one block at its level 2, [0, 2M) at least, at itself. */
		world_init(&w, f2, &spec, 0x7000000);
		lay(&w, 0, 2, AF | 0x40 | 1);
		m = &w.memory;
		stages[1] = w.stage;
		stages[0] = w.stage;
		stages[0].format = f1;
		stages[0].tables_in_next = true;
		stages[0].root = 0;
		assert_int_equal(soft_shape_init(f1, &(struct soft_shape_spec){.input_bits = 25},
						 NULL, &stages[0].shape),
				 0);
		if (stages[0].shape.levels == 2) {
			m->address[m->n] = 0;
			m->entry[m->n++] = 0x10000 | 3;
			m->address[m->n] = 0x10000;
		} else {
			m->address[m->n] = 0;
		}
		m->entry[m->n++] = 0x10000 | AF | 0x40 | 3;
		assert_true(
			soft_walk(stages, 2, 0x123, SHIM_READ | SOFT_USER, NULL, &where, &fault));
		assert_true(where.output == 0x10123);
		assert_true(where.page_size == BIT(f1->granule));
		/* Both must allow it. */
		assert_false(where.prot & SHIM_WRITE);
		assert_true(where.prot & SHIM_EXEC);
		assert_false(
			soft_walk(stages, 2, 0x123, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
		assert_int_equal(fault.stage, 2);
		/* An access flag to set in a page that stage 2 lets only read. */
		m->entry[m->n - 1] &= ~AF;
		stages[0].env.access_dirty = true;
		assert_false(
			soft_walk(stages, 2, 0x123, SHIM_READ | SOFT_USER, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
		assert_true(fault.address == m->address[m->n - 1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_address_bits),
		cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_output_width),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_stage2_shapes),
		cmocka_unit_test(test_stage1_shapes),
		cmocka_unit_test(test_known_shapes),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_top_byte_ignored),
		cmocka_unit_test(test_roots),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_faults_at_each_level),
		cmocka_unit_test(test_order_of_faults),
		cmocka_unit_test(test_stage1_permissions),
		cmocka_unit_test(test_stage2_permissions),
		cmocka_unit_test(test_permission_levels),
		cmocka_unit_test(test_use),
		cmocka_unit_test(test_dirty_states),
		cmocka_unit_test(test_structures),
		cmocka_unit_test(test_nested),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
