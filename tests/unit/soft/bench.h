/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SOFT_BENCH_H
#define TESTS_UNIT_SOFT_BENCH_H

/*
 * A window with one table in it, below the shim, of any format: what build.c writes and walk.c
 * reads, entry by entry.  One thread.
 */

#include "soft/build.h"
#include "soft/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bench {
	struct soft_window window;
	struct soft_tables tables;
	const struct soft_format *format;
	struct soft_env env; /* of the IOMMU that walks; strict but for the output width */
	struct soft_shape shape;
	uint64_t root;
	uint32_t n_tables;
	bool snoop, clean;
};

/* limit: pages of tables, 0: as many as there are. */
static inline void bench_init_shape(struct bench *b, const struct soft_format *format,
				    const struct soft_shape_spec *spec, uint64_t limit)
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(soft_window_init(&b->window, 1ull << 30, false, NULL), 0);
	assert_int_equal(soft_tables_init(&b->tables, &b->window, limit), 0);
	b->format = format;
	b->env = (struct soft_env){.output_bits = 52, .lpa2 = spec->lpa2};
	assert_int_equal(soft_shape_init(format, spec, NULL, &b->shape), 0);
}

static inline void bench_init(struct bench *b, const struct soft_format *format)
{
	bench_init_shape(b, format, &(struct soft_shape_spec){0}, 0);
}

static inline struct soft_builder bench_builder(struct bench *b)
{
	return (struct soft_builder){
		.tables = &b->tables,
		.format = b->format,
		.shape = &b->shape,
		.env = b->env,
		.snoop = b->snoop,
		.clean = b->clean,
		.root = &b->root,
		.n_tables = &b->n_tables,
	};
}

static inline void bench_deinit(struct bench *b)
{
	struct soft_builder builder = bench_builder(b);
	struct soft_table_list dead = {0};

	soft_build_clear(&builder, &dead);
	assert_int_equal(b->n_tables, 0);
	soft_tables_put(&b->tables, &dead);
	assert_int_equal(soft_tables_used(&b->tables), 0);
	soft_tables_deinit(&b->tables);
	soft_window_deinit(&b->window);
}

static inline int bench_map(struct bench *b, uint64_t iova, uint64_t length, uint64_t target,
			    uint32_t prot)
{
	struct soft_builder builder = bench_builder(b);
	uint64_t done;

	return soft_build_map(&builder, iova, length, target, prot, &done);
}

/* Takes out what is mapped there, whole or not. */
static inline void bench_take_out(struct bench *b, uint64_t iova, uint64_t length)
{
	struct soft_builder builder = bench_builder(b);
	struct soft_table_list dead = {0};

	soft_build_unmap(&builder, iova, length, &dead);
	soft_tables_put(&b->tables, &dead);
}

static inline bool bench_is_whole(struct bench *b, uint64_t iova, uint64_t length)
{
	struct soft_builder builder = bench_builder(b);

	return soft_build_is_whole(&builder, iova, length);
}

static inline void bench_unmap(struct bench *b, uint64_t iova, uint64_t length)
{
	assert_true(bench_is_whole(b, iova, length));
	bench_take_out(b, iova, length);
}

static inline struct soft_stage bench_stage(const struct bench *b)
{
	return (struct soft_stage){
		.format = b->format,
		.env = b->env,
		.shape = b->shape,
		.empty = !b->root,
		.root = b->root,
		.load = soft_window_load,
		.memory = &b->window,
	};
}

static inline bool bench_walk(const struct bench *b, uint64_t address, uint32_t access,
			      struct soft_translation *ret, struct shim_fault *ret_fault)
{
	struct soft_stage stage = bench_stage(b);

	return soft_walk(&stage, 1, address, access, NULL, ret, ret_fault);
}

static inline void bench_expect_fault(const struct bench *b, uint64_t address, uint32_t access,
				      enum shim_fault_cause cause, unsigned int level)
{
	struct soft_translation where;
	struct shim_fault fault = {0};

	assert_false(bench_walk(b, address, access, &where, &fault));
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.level, level);
	assert_int_equal(fault.stage, 1);
	assert_true(fault.address == address);
}

/*
 * The entry on the way to an address at a level, or the leaf above it, whose level is then in
 * *level.  The way exists.
 */
static inline uint64_t *bench_entry(const struct bench *b, uint64_t address, unsigned int *level)
{
	uint64_t table = b->root;

	for (unsigned int l = b->shape.levels;;) {
		uint64_t *entry = &soft_table_entries(
			&b->tables, table)[soft_shape_index(b->format, &b->shape, l, address)];
		struct soft_entry decoded;

		if (l == *level)
			return entry;
		b->format->decode(&b->env, l, *entry, &decoded);
		if (decoded.kind != SOFT_ENTRY_TABLE) {
			assert_int_equal(decoded.kind, SOFT_ENTRY_LEAF);
			*level = l;
			return entry;
		}
		table = decoded.address;
		l = decoded.level;
	}
}

static inline uint64_t *bench_entry_at(const struct bench *b, uint64_t address, unsigned int level)
{
	unsigned int found = level;
	uint64_t *entry = bench_entry(b, address, &found);

	assert_int_equal(found, level);
	return entry;
}

#endif
