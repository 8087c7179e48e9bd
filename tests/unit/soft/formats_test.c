/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Formats, walk and building, below the shim: entries bit by bit against the masks of the
 * specifications, the edges of the input spaces, every cause of a fault, and what is built
 * against what is walked.
 */

#include "soft/build.h"
#include "soft/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define K4 (4ull << 10)
#define M2 (2ull << 20)
#define G1 (1ull << 30)

static const struct soft_env env48 = {.output_bits = 48, .device_tlb = true};

/* Those of Intel, whose tables are alike. */
static const struct soft_format *format_at(size_t index)
{
	static const struct soft_format *const formats[] = {
		&soft_format_x86_64_4l, &soft_format_x86_64_5l, &soft_format_vtdss_4l,
		&soft_format_vtdss_5l,	&soft_format_vtdss_3l,	&soft_format_ept_4l,
		&soft_format_ept_5l,
	};

	return index < sizeof(formats) / sizeof(formats[0]) ? formats[index] : NULL;
}

static struct soft_shape shape_of(const struct soft_format *format, uint8_t input_bits)
{
	struct soft_shape shape = {0};

	assert_int_equal(soft_shape_init(format,
					 &(struct soft_shape_spec){.input_bits = input_bits}, NULL,
					 &shape),
			 0);
	return shape;
}

static uint64_t leaf_of(const struct soft_format *format, unsigned int level, uint64_t address,
			uint32_t prot, bool snoop)
{
	return format->make_leaf(&env48, level, soft_format_shift(format, level), address, prot,
				 snoop);
}

static uint64_t table_of(const struct soft_format *format, uint64_t address)
{
	return format->make_table(&env48, 2, address);
}

static unsigned int index_of(unsigned int level, uint64_t address)
{
	return address >> (12 + 9 * (level - 1)) & 511;
}

/* ---- entries ---- */

static void test_samples(void **state)
{
	const struct soft_format *x86 = &soft_format_x86_64_4l, *ss = &soft_format_vtdss_4l;
	const struct soft_format *ept = &soft_format_ept_4l;
	uint32_t rw = SHIM_READ | SHIM_WRITE;

	assert_int_equal(leaf_of(x86, 1, 0x12345000, rw | SHIM_EXEC, false), 0x12345067);
	assert_int_equal(leaf_of(x86, 2, 0x40000000, rw | SHIM_EXEC, false), 0x400000e7);
	assert_int_equal(leaf_of(x86, 1, 0x12345000, SHIM_READ, false), 0x8000000012345025ull);
	assert_int_equal(table_of(x86, 0x12345000), 0x12345027);
	assert_int_equal(leaf_of(ss, 1, 0x12345000, rw, false), 0x12345003);
	assert_int_equal(leaf_of(ss, 2, 0x40000000, rw, true), 0x40000883);
	assert_int_equal(leaf_of(ss, 1, 0x12345000, SHIM_WRITE, false), 0x12345002);
	assert_int_equal(table_of(ss, 0x12345000), 0x12345003);
	assert_int_equal(leaf_of(ept, 1, 0x12345000, rw | SHIM_EXEC, false), 0x12345037);
	assert_int_equal(leaf_of(ept, 2, 0x40000000, SHIM_READ, false), 0x400000b1);
	assert_int_equal(table_of(ept, 0x12345000), 0x12345007);
}

struct mask {
	const struct soft_format *format;
	unsigned int level;
	bool leaf;
	uint64_t reserved; /* for 48 output bits and device TLBs, no snoop control */
};

/* VT-d spec 9.7, 9.8 as QEMU checks them; see the comments in the formats' files. */
static const struct mask masks[] = {
	{&soft_format_x86_64_4l, 1, true, 0x000f000000000000},
	{&soft_format_x86_64_4l, 2, false, 0x000f000000000000},
	{&soft_format_x86_64_4l, 3, false, 0x000f000000000000},
	{&soft_format_x86_64_4l, 4, false, 0x000f000000000080},
	{&soft_format_x86_64_5l, 5, false, 0x000f000000000080},
	{&soft_format_x86_64_4l, 2, true, 0x000f0000001fe000},
	{&soft_format_x86_64_4l, 3, true, 0x000f00003fffe000},
	{&soft_format_vtdss_4l, 1, true, 0x000f000000000800},
	{&soft_format_vtdss_4l, 2, false, 0x400f000000000800},
	{&soft_format_vtdss_4l, 3, false, 0x400f000000000800},
	{&soft_format_vtdss_4l, 4, false, 0x400f000000000880},
	{&soft_format_vtdss_5l, 5, false, 0x400f000000000880},
	{&soft_format_vtdss_4l, 2, true, 0x000f0000001ff800},
	{&soft_format_vtdss_4l, 3, true, 0x000f00003ffff800},
	/* SDM vol 3, 28.3; bit 3 makes type 7 of write-back. */
	{&soft_format_ept_4l, 1, true, 0x000f000000000008},
	{&soft_format_ept_4l, 2, false, 0x000f000000000078},
	{&soft_format_ept_4l, 3, false, 0x000f000000000078},
	{&soft_format_ept_4l, 4, false, 0x000f0000000000f8},
	{&soft_format_ept_5l, 5, false, 0x000f0000000000f8},
	{&soft_format_ept_4l, 2, true, 0x000f0000001ff008},
	{&soft_format_ept_4l, 3, true, 0x000f00003ffff008},
};

static enum soft_entry_kind kind_of(const struct mask *m, const struct soft_env *env, uint64_t raw)
{
	struct soft_entry entry;

	m->format->decode(env, m->level, raw, &entry);
	return entry.kind;
}

static void test_reserved_bits(void **state)
{
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		const struct mask *m = &masks[i];
		enum soft_entry_kind plain = m->leaf ? SOFT_ENTRY_LEAF : SOFT_ENTRY_TABLE;
		uint64_t base =
			m->leaf ? leaf_of(m->format, m->level, G1, SHIM_READ | SHIM_WRITE, false)
				: table_of(m->format, G1);

		assert_int_equal(kind_of(m, &env48, base), plain);
		for (unsigned int bit = 0; bit < 64; bit++) {
			enum soft_entry_kind kind = kind_of(m, &env48, base | 1ull << bit);
			enum soft_entry_kind expected = plain;

			/* PS makes a leaf of a table at these levels. */
			if (bit == 7 && !m->leaf && m->level <= 3)
				continue;
			if (m->reserved & 1ull << bit)
				expected = bit >= 48 && bit < 52 ? SOFT_ENTRY_WIDTH
								 : SOFT_ENTRY_RESERVED;
			if (kind != expected)
				fail_msg("%s level %u %s bit %u: kind %d, expected %d",
					 m->format->name, m->level, m->leaf ? "leaf" : "table", bit,
					 kind, expected);
		}
	}
}

static void test_reserved_by_iommu(void **state)
{
	const struct mask leaf = {&soft_format_vtdss_4l, 1, true, 0};
	const struct mask table = {&soft_format_vtdss_4l, 2, false, 0};
	struct soft_env env = {.output_bits = 52};

	/* Bit 11 is SNP where snoops can be controlled, bit 62 TM where devices have TLBs. */
	assert_int_equal(kind_of(&leaf, &env, 0x1803), SOFT_ENTRY_RESERVED);
	assert_int_equal(kind_of(&leaf, &env, 0x4000000000001003), SOFT_ENTRY_RESERVED);
	env.snoop_control = env.device_tlb = true;
	assert_int_equal(kind_of(&leaf, &env, 0x1803), SOFT_ENTRY_LEAF);
	assert_int_equal(kind_of(&leaf, &env, 0x4000000000001003), SOFT_ENTRY_LEAF);
	assert_int_equal(kind_of(&table, &env, 0x1803), SOFT_ENTRY_RESERVED);
	/* Not present, whatever else it holds. */
	assert_int_equal(kind_of(&leaf, &env, 0xfffffffffffffffc), SOFT_ENTRY_EMPTY);
	assert_int_equal(kind_of(&(struct mask){&soft_format_x86_64_4l, 1, true, 0}, &env,
				 0xfffffffffffffffe),
			 SOFT_ENTRY_EMPTY);
	/* Every width: the first bit beyond it is refused, the last within is not. */
	for (unsigned int bits = 32; bits < 52; bits++) {
		env.output_bits = (uint8_t)bits;
		assert_int_equal(kind_of(&leaf, &env, 1ull << bits | 3), SOFT_ENTRY_WIDTH);
		assert_int_equal(kind_of(&leaf, &env, 1ull << (bits - 1) | 3), SOFT_ENTRY_LEAF);
	}
}

/* SDM vol 3, 28.3.3.1: misconfigurations. */
static void test_ept_misconfigurations(void **state)
{
	const struct mask leaf = {&soft_format_ept_4l, 1, true, 0};
	const struct mask table = {&soft_format_ept_4l, 2, false, 0};

	for (unsigned int rwx = 0; rwx < 8; rwx++) {
		enum soft_entry_kind wrong = rwx & 1 ? SOFT_ENTRY_LEAF : SOFT_ENTRY_RESERVED;

		if (!rwx)
			wrong = SOFT_ENTRY_EMPTY;
		assert_int_equal(kind_of(&leaf, &env48, 0x12345030 | rwx), wrong);
		if (rwx)
			assert_int_equal(kind_of(&table, &env48, 0x12345000 | rwx),
					 rwx & 1 ? SOFT_ENTRY_TABLE : SOFT_ENTRY_RESERVED);
	}
	for (unsigned int type = 0; type < 8; type++)
		assert_int_equal(kind_of(&leaf, &env48, 0x12345007 | type << 3),
				 type == 2 || type == 3 || type == 7 ? SOFT_ENTRY_RESERVED
								     : SOFT_ENTRY_LEAF);
}

/* ---- a window of tables, without a shim ---- */

struct bench {
	struct soft_window window;
	struct soft_tables tables;
	const struct soft_format *format;
	struct soft_shape shape;
	uint64_t root;
	uint32_t n_tables;
	bool snoop;
};

static void bench_init(struct bench *b, const struct soft_format *format, uint64_t limit)
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(soft_window_init(&b->window, 1ull << 30, false, NULL), 0);
	assert_int_equal(soft_tables_init(&b->tables, &b->window, limit), 0);
	b->format = format;
	b->shape = shape_of(format, 0);
}

static struct soft_builder builder_of(struct bench *b)
{
	return (struct soft_builder){
		.tables = &b->tables,
		.format = b->format,
		.shape = &b->shape,
		.snoop = b->snoop,
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
		.env = {.output_bits = 52, .snoop_control = true, .device_tlb = true},
		.shape = b->shape,
		.empty = !b->root,
		.root = b->root,
		.load = soft_window_load,
		.memory = &b->window,
	};
}

static bool walk(const struct bench *b, uint64_t address, uint32_t access,
		 struct soft_translation *ret, struct shim_fault *ret_fault)
{
	struct soft_stage stage = stage_of(b);

	return soft_walk(&stage, 1, address, access, NULL, ret, ret_fault);
}

/* The entry of a level that leads to an address, for tests that bend it. */
static uint64_t *entry_at(const struct bench *b, uint64_t address, unsigned int level)
{
	uint64_t table = b->root;

	for (unsigned int l = b->format->levels; l > level; l--)
		table = soft_table_entries(&b->tables, table)[index_of(l, address)] &
			0x000ffffffffff000ull;
	return &soft_table_entries(&b->tables, table)[index_of(level, address)];
}

/* ---- the input space ---- */

static void expect_fault(const struct bench *b, uint64_t address, enum shim_fault_cause cause)
{
	struct soft_translation where;
	struct shim_fault fault = {0};

	assert_false(walk(b, address, SHIM_READ, &where, &fault));
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.stage, 1);
	assert_int_equal(fault.level, 0);
	assert_true(fault.address == address);
	assert_int_equal(fault.access, SHIM_READ);
}

static void expect_page(const struct bench *b, uint64_t address, uint64_t output)
{
	struct soft_translation where;
	struct shim_fault fault = {0};

	assert_true(walk(b, address, SHIM_READ, &where, &fault));
	assert_true(where.output == output);
}

static void test_input_edges(void **state)
{
	const struct soft_format *format;
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		unsigned int bits = format->input_bits;
		uint64_t top =
			format->input == SOFT_INPUT_CANONICAL ? 1ull << (bits - 1) : 1ull << bits;

		bench_init(&b, format, 0);
		assert_int_equal(map(&b, 0, K4, 0x1000, SHIM_READ), 0);
		assert_int_equal(map(&b, top - K4, K4, 0x2000, SHIM_READ), 0);
		expect_page(&b, 0, 0x1000);
		expect_page(&b, top - 1, 0x2fff);
		expect_fault(&b, top,
			     format->input == SOFT_INPUT_CANONICAL ? SHIM_FAULT_NON_CANONICAL
								   : SHIM_FAULT_ADDRESS_WIDTH);
		if (format->input == SOFT_INPUT_CANONICAL) {
			assert_int_equal(map(&b, -top, K4, 0x3000, SHIM_READ), 0);
			assert_int_equal(map(&b, -K4, K4, 0x4000, SHIM_READ), 0);
			expect_page(&b, -top, 0x3000);
			expect_page(&b, UINT64_MAX, 0x4fff);
			expect_fault(&b, -top - 1, SHIM_FAULT_NON_CANONICAL);
			unmap(&b, -K4, K4);
			unmap(&b, -top, K4);
		} else {
			expect_fault(&b, UINT64_MAX, SHIM_FAULT_ADDRESS_WIDTH);
		}
		bench_deinit(&b);
	}
}

static void test_narrowed_input(void **state)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = format_at(i)); i++) {
		for (unsigned int bits = 13; bits < format->input_bits; bits++) {
			struct soft_shape shape = shape_of(format, (uint8_t)bits);
			enum shim_fault_cause inside, outside, upper;

			inside = soft_shape_check_input(format, &shape, (1ull << bits) - 1);
			outside = soft_shape_check_input(format, &shape, 1ull << bits);
			upper = soft_shape_check_input(format, &shape, UINT64_MAX);
			assert_int_equal(inside, SHIM_FAULT_NONE);
			/* The top bit of a canonical format is its sign. */
			assert_int_equal(outside, format->input == SOFT_INPUT_CANONICAL &&
								  bits == format->input_bits - 1u
							  ? SHIM_FAULT_NON_CANONICAL
							  : SHIM_FAULT_ADDRESS_WIDTH);
			assert_int_equal(upper, SHIM_FAULT_ADDRESS_WIDTH);
		}
	}
}

/* ---- faults ---- */

static void test_not_present_at_each_level(void **state)
{
	const struct soft_format *format;
	struct soft_translation where;
	struct shim_fault fault = {0};
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		bench_init(&b, format, 0);
		assert_false(walk(&b, 0x5000, SHIM_READ, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
		assert_int_equal(fault.level, format->levels);
		assert_int_equal(map(&b, 0x5000, K4, 0x1000, SHIM_READ), 0);
		for (unsigned int level = 1; level <= format->levels; level++) {
			uint64_t *entry = entry_at(&b, 0x5000, level), was = *entry;

			/* Neither P nor R nor W: ignored bits must not matter. */
			*entry = 0xffull << 52;
			assert_false(walk(&b, 0x5000, SHIM_READ, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
			assert_int_equal(fault.level, level);
			assert_true(fault.entry == 0xffull << 52);
			*entry = was;
		}
		bench_deinit(&b);
	}
}

static void test_permission_is_anded(void **state)
{
	const struct soft_format *format;
	struct soft_translation where;
	struct shim_fault fault = {0};
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		bench_init(&b, format, 0);
		assert_int_equal(map(&b, 0x5000, K4, 0x1000, SHIM_READ | SHIM_WRITE), 0);
		assert_true(walk(&b, 0x5000, SHIM_WRITE | SOFT_USER, &where, &fault));
		for (unsigned int level = 1; level <= format->levels; level++) {
			uint64_t *entry = entry_at(&b, 0x5000, level), was = *entry;

			/* W is bit 1 in both families. */
			*entry = was & ~2ull;
			assert_true(walk(&b, 0x5000, SHIM_READ, &where, &fault));
			assert_false(where.prot & SHIM_WRITE);
			assert_false(walk(&b, 0x5000, SHIM_WRITE, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
			assert_int_equal(fault.level, level);
			assert_true(fault.entry == *entry);
			assert_int_equal(fault.access, SHIM_WRITE);
			*entry = was;
			if (format->input != SOFT_INPUT_CANONICAL)
				continue;
			/* x86-64: U/S, and XD in a table. */
			*entry = was & ~4ull;
			assert_true(walk(&b, 0x5000, SHIM_READ, &where, &fault));
			assert_false(walk(&b, 0x5000, SHIM_READ | SOFT_USER, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
			*entry = was | 1ull << 63;
			assert_false(walk(&b, 0x5000, SHIM_EXEC, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
			*entry = was;
		}
		bench_deinit(&b);
	}
}

static void test_bent_entries(void **state)
{
	const struct soft_format *format;
	struct soft_translation where;
	struct shim_fault fault = {0};
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		uint64_t *entry, was;

		bench_init(&b, format, 0);
		assert_int_equal(map(&b, 0x5000, K4, 0x1000, SHIM_READ), 0);
		/* A table beyond all tables: there is no memory to read. */
		entry = entry_at(&b, 0x5000, 2);
		was = *entry;
		*entry = (was & 0xfff) | 1ull << 45;
		assert_false(walk(&b, 0x5000, SHIM_READ, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_MEMORY_ERROR);
		assert_int_equal(fault.level, 1);
		*entry = was;
		/* A table that is its own entry ends at the lowest level. */
		entry = entry_at(&b, 0, format->levels);
		was = *entry;
		*entry = table_of(format, b.root);
		assert_true(walk(&b, 0, SHIM_READ, &where, &fault));
		assert_true(where.output == b.root);
		*entry = was;
		/* A reserved bit; an address that is too wide. */
		entry = entry_at(&b, 0x5000, format->levels);
		if (format->levels > 3) {
			was = *entry;
			*entry = was | 1ull << 7;
			assert_false(walk(&b, 0x5000, SHIM_READ, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_RESERVED_BITS);
			assert_int_equal(fault.level, format->levels);
			assert_true(fault.entry == *entry);
			*entry = was;
		}
		entry = entry_at(&b, 0x5000, 1);
		was = *entry;
		*entry = was | 1ull << 49;
		{
			struct soft_stage stage = stage_of(&b);

			stage.env.output_bits = 48;
			assert_false(soft_walk(&stage, 1, 0x5000, SHIM_READ, NULL, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_OUTPUT_WIDTH);
			assert_int_equal(fault.level, 1);
		}
		*entry = was;
		bench_deinit(&b);
	}
}

/* ---- page sizes ---- */

static void expect_size(const struct bench *b, uint64_t address, uint64_t size)
{
	struct soft_translation where;
	struct shim_fault fault;

	assert_true(walk(b, address, SHIM_READ, &where, &fault));
	assert_true(where.page_size == size);
}

static void test_page_sizes(void **state)
{
	const struct soft_format *format;
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		uint32_t upper = format->levels - 3u;

		bench_init(&b, format, 0);
		/* 1G where address, target and length allow; root and upper tables only. */
		assert_int_equal(map(&b, G1, G1, 4 * G1, SHIM_READ), 0);
		expect_size(&b, G1, G1);
		assert_int_equal(b.n_tables, 1 + upper);
		unmap(&b, G1, G1);
		assert_int_equal(b.n_tables, 0);
		/* One page more on both sides: 4K pages there, 1G between. */
		assert_int_equal(map(&b, G1 - K4, G1 + 2 * K4, 4 * G1 - K4, SHIM_READ), 0);
		expect_size(&b, G1 - K4, K4);
		expect_size(&b, G1, G1);
		expect_size(&b, 2 * G1, K4);
		assert_int_equal(b.n_tables, 1 + upper + 4);
		unmap(&b, G1 - K4, G1 + 2 * K4);
		/* A target out of step by 2M: 2M pages; by 4K: 4K pages. */
		assert_int_equal(map(&b, G1, G1, 4 * G1 + M2, SHIM_READ), 0);
		expect_size(&b, G1 + G1 / 2, M2);
		assert_int_equal(b.n_tables, 1 + upper + 1);
		unmap(&b, G1, G1);
		assert_int_equal(map(&b, G1, 4 * M2, 4 * G1 + K4, SHIM_READ), 0);
		expect_size(&b, G1 + M2, K4);
		assert_int_equal(b.n_tables, 1 + upper + 1 + 4);
		unmap(&b, G1, 4 * M2);
		assert_int_equal(b.n_tables, 0);
		/* A page short of 2M is 511 pages of 4K. */
		assert_int_equal(map(&b, 0, M2 - K4, 0, SHIM_READ), 0);
		expect_size(&b, 0, K4);
		unmap(&b, 0, M2 - K4);
		bench_deinit(&b);
	}
}

static void test_overlap_and_split(void **state)
{
	const struct soft_format *format;
	struct soft_table_list dead = {0};
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		struct soft_builder builder;
		uint64_t done;

		bench_init(&b, format, 0);
		builder = builder_of(&b);
		assert_int_equal(map(&b, 4 * M2, M2, 4 * M2, SHIM_READ), 0);
		/* On a large page, under it, and running into it. */
		assert_int_equal(map(&b, 4 * M2, M2, 0, SHIM_READ), SHIM_E_OVERLAP);
		assert_int_equal(map(&b, 4 * M2 + K4, K4, 0, SHIM_READ), SHIM_E_OVERLAP);
		assert_int_equal(
			soft_build_map(&builder, 4 * M2 - 3 * K4, 5 * K4, 0, SHIM_READ, &done),
			SHIM_E_OVERLAP);
		assert_int_equal(done, 3 * K4);
		soft_build_unmap(&builder, 4 * M2 - 3 * K4, done, &dead);
		soft_tables_put(&b.tables, &dead);
		assert_int_equal(soft_build_map(&builder, M2, 4 * M2, 64 * M2, SHIM_READ, &done),
				 SHIM_E_OVERLAP);
		assert_int_equal(done, 3 * M2);
		soft_build_unmap(&builder, M2, done, &dead);
		soft_tables_put(&b.tables, &dead);
		/* A large page over tables. */
		assert_int_equal(map(&b, K4, K4, 0, SHIM_READ), 0);
		assert_int_equal(map(&b, 0, M2, 0, SHIM_READ), SHIM_E_OVERLAP);
		/* Whole means whole: no hole, no part of a page. */
		assert_true(soft_build_is_whole(&builder, 4 * M2, M2));
		assert_false(soft_build_is_whole(&builder, 4 * M2, M2 - K4));
		assert_false(soft_build_is_whole(&builder, 4 * M2 + K4, M2 - K4));
		assert_false(soft_build_is_whole(&builder, 4 * M2, M2 + K4));
		assert_false(soft_build_is_whole(&builder, 0, 2 * K4));
		assert_true(soft_build_is_whole(&builder, K4, K4));
		bench_deinit(&b);
	}
}

static void test_out_of_tables(void **state)
{
	const struct soft_format *format;
	struct bench b;

	for (size_t i = 0; (format = format_at(i)); i++) {
		for (uint64_t limit = 1; limit < 24; limit++) {
			struct soft_table_list dead = {0};
			struct soft_builder builder;
			uint64_t done;
			int r;

			bench_init(&b, format, limit);
			builder = builder_of(&b);
			r = soft_build_map(&builder, G1 - M2, 8 * M2, K4, SHIM_READ, &done);
			if (!r) {
				assert_true(b.n_tables <= limit);
				bench_deinit(&b);
				continue;
			}
			assert_int_equal(r, -ENOMEM);
			/* What is said to be done is done, and no more. */
			assert_int_equal(done % M2, 0);
			assert_true(!done || soft_build_is_whole(&builder, G1 - M2, done));
			if (done)
				soft_build_unmap(&builder, G1 - M2, done, &dead);
			soft_tables_put(&b.tables, &dead);
			assert_int_equal(b.root, 0);
			assert_int_equal(b.n_tables, 0);
			assert_int_equal(soft_tables_used(&b.tables), 0);
			bench_deinit(&b);
		}
	}
}

/* ---- random maps against a plain list ---- */

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

/* Lengths and places that meet the edges of all page sizes. */
static uint64_t rnd_length(void)
{
	static const uint64_t units[] = {K4, K4, M2, G1};
	uint64_t unit = units[rnd() % 4];

	return unit * (1 + rnd() % 4) + (rnd() % 2 ? K4 * (rnd() % 3) : 0);
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
		if (iova < pieces[i].iova + pieces[i].length && pieces[i].iova < iova + length)
			return false;
	return true;
}

static void check_address(const struct bench *b, const struct piece *pieces, size_t n,
			  uint64_t address)
{
	const struct piece *piece = piece_at(pieces, n, address);
	struct soft_translation where;
	struct shim_fault fault;
	bool ok = walk(b, address, SHIM_READ, &where, &fault);

	if (!piece) {
		assert_false(ok);
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
		return;
	}
	assert_true(ok);
	assert_true(where.output == piece->target + (address - piece->iova));
	assert_int_equal(where.prot & (SHIM_READ | SHIM_WRITE), piece->prot);
	/* The page lies within the mapping. */
	assert_true((address & ~(where.page_size - 1)) >= piece->iova);
	assert_true((address | (where.page_size - 1)) <= piece->iova + (piece->length - 1));
}

static void random_maps(const struct soft_format *format)
{
	enum { PIECES = 64 };
	struct piece pieces[PIECES];
	uint64_t space = 1ull << (format->input_bits - 1);
	size_t n = 0;
	struct bench b;

	bench_init(&b, format, 0);
	for (unsigned int step = 0; step < 700; step++) {
		struct soft_builder builder = builder_of(&b);

		if (n < PIECES && rnd() % 5 < 3) {
			struct piece p = {
				.length = rnd_length(),
				.prot = rnd() % 2 ? SHIM_READ : SHIM_READ | SHIM_WRITE,
			};
			uint64_t before = b.n_tables, bound;

			/* A crowded part of 8 GiB at the bottom, or anywhere. */
			p.iova = rnd() % (rnd() % 4 ? 8 * G1 : space - p.length);
			p.iova &= -(rnd() % 2 ? K4 : rnd() % 2 ? M2 : G1);
			p.target = rnd() % (1ull << 46) & -(rnd() % 2 ? K4 : rnd() % 2 ? M2 : G1);
			/* Gigabytes of 4K pages are left to the benchmark. */
			if (p.length >= G1)
				p.target = (p.target & -M2) | (p.iova & (M2 - 1));
			if (!is_free(pieces, n, p.iova, p.length)) {
				/* Whatever it had done is taken out again by the caller. */
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
			/* Honest, and no wild guess either. */
			assert_true(bound <= b.n_tables - before + 2 * format->levels);
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
			if (p->iova)
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
	const struct soft_format *format;

	for (size_t i = 0; (format = format_at(i)); i++)
		for (seed = 1; seed < 4; seed++) {
			uint64_t was = seed;

			random_maps(format);
			seed = was;
		}
}

/* ---- stages ---- */

static void test_two_stages(void **state)
{
	const struct soft_format *child_format, *parent_format;
	struct soft_translation where;
	struct shim_fault fault;

	for (size_t c = 0; (child_format = format_at(c)); c++) {
		for (size_t p = 0; (parent_format = format_at(p)); p++) {
			struct bench child, parent;
			struct soft_stage stages[2];
			struct shim_walk trace = {0};

			bench_init(&child, child_format, 0);
			bench_init(&parent, parent_format, 0);
			assert_int_equal(map(&child, G1, G1, 2 * G1, SHIM_READ | SHIM_WRITE), 0);
			assert_int_equal(map(&parent, 2 * G1, M2, 8 * G1 + 4 * M2, SHIM_READ), 0);
			stages[0] = stage_of(&child);
			stages[1] = stage_of(&parent);
			assert_true(soft_walk(stages, 2, G1 + 0x1234, SHIM_READ | SOFT_USER, &trace,
					      &where, &fault));
			assert_true(where.output == 8 * G1 + 4 * M2 + 0x1234);
			assert_true(where.page_size == M2); /* the smaller one */
			assert_int_equal(where.prot & (SHIM_READ | SHIM_WRITE), SHIM_READ);
			/* 1G leaf at level 3, 2M leaf at level 2. */
			assert_int_equal(trace.n_levels,
					 child_format->levels - 2u + parent_format->levels - 1u);
			assert_int_equal(trace.levels[0].stage, 1);
			assert_int_equal(trace.levels[trace.n_levels - 1].stage, 2);
			assert_true(trace.levels[trace.n_levels - 1].input == 2 * G1 + 0x1234);

			assert_false(
				soft_walk(stages, 2, G1 + M2, SHIM_READ, NULL, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PARENT_NOT_PRESENT);
			assert_int_equal(fault.stage, 2);
			assert_int_equal(fault.level, 2);
			assert_true(fault.address == 2 * G1 + M2);
			assert_false(soft_walk(stages, 2, G1, SHIM_WRITE, NULL, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
			assert_int_equal(fault.stage, 2);
			assert_false(soft_walk(stages, 2, 0, SHIM_READ, NULL, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
			assert_int_equal(fault.stage, 1);
			bench_deinit(&child);
			bench_deinit(&parent);
		}
	}
}

/*
 * A table whose pages are addresses of the parent: the parent maps the child's table pages
 * shifted by 256G, so nothing is found unless every table address is translated.
 */
static void test_tables_in_parent(void **state)
{
	const struct soft_format *format;
	struct soft_translation where;
	struct shim_fault fault;
	const uint64_t shift = 1ull << 38;

	for (size_t i = 0; (format = format_at(i)); i++) {
		struct bench b, parent;
		struct soft_stage stages[2];
		uint64_t first;

		bench_init(&b, format, 0);
		bench_init(&parent, &soft_format_vtdss_5l, 0);
		assert_int_equal(map(&b, 0x7000, K4, 0x9000, SHIM_READ | SHIM_WRITE), 0);
		/* The pages were taken in order, the root first. */
		first = b.root;
		/* Lowest first: entry_at() goes through those above. */
		for (unsigned int level = 2; level <= format->levels; level++)
			*entry_at(&b, 0x7000, level) |= shift;
		for (uint32_t t = 0; t < b.n_tables; t++)
			assert_int_equal(
				map(&parent, shift + first + t * K4, K4, first + t * K4, SHIM_READ),
				0);
		assert_int_equal(map(&parent, 0x9000, K4, 0x77000, SHIM_READ | SHIM_WRITE), 0);
		stages[0] = stage_of(&b);
		stages[0].tables_in_next = true;
		stages[0].root = b.root + shift;
		/* Both tables' bytes lie in b's window, where the parent's outputs point. */
		stages[1] = stage_of(&parent);
		assert_true(soft_walk(stages, 2, 0x7123, SHIM_WRITE, NULL, &where, &fault));
		assert_true(where.output == 0x77123);
		/* Each table page in turn is missing in the parent. */
		for (uint32_t t = 0; t < b.n_tables; t++) {
			unmap(&parent, shift + first + t * K4, K4);
			stages[1] = stage_of(&parent);
			assert_false(soft_walk(stages, 2, 0x7123, SHIM_READ, NULL, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PARENT_NOT_PRESENT);
			assert_int_equal(fault.stage, 2);
			assert_int_equal(
				map(&parent, shift + first + t * K4, K4, first + t * K4, SHIM_READ),
				0);
		}
		/* A table of that kind without a parent leads nowhere. */
		assert_false(soft_walk(stages, 1, 0x7123, SHIM_READ, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_BAD_ENTRY);
		for (unsigned int level = format->levels; level >= 2; level--)
			*entry_at(&b, 0x7000, level) &= ~shift;
		bench_deinit(&b);
		bench_deinit(&parent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_reserved_by_iommu),
		cmocka_unit_test(test_ept_misconfigurations),
		cmocka_unit_test(test_input_edges),
		cmocka_unit_test(test_narrowed_input),
		cmocka_unit_test(test_not_present_at_each_level),
		cmocka_unit_test(test_permission_is_anded),
		cmocka_unit_test(test_bent_entries),
		cmocka_unit_test(test_page_sizes),
		cmocka_unit_test(test_overlap_and_split),
		cmocka_unit_test(test_out_of_tables),
		cmocka_unit_test(test_random_maps),
		cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_tables_in_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
