/* SPDX-License-Identifier: Apache-2.0 */

/* The count of table pages, against a plain count of all regions. */

#include "iommufd/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define K4 (UINT64_C(1) << 12)
#define M2 (UINT64_C(1) << 21)
#define G1 (UINT64_C(1) << 30)

static void test_by_hand(void **state)
{
	struct tables t = {0};

	/* One page: a table of each level below the root. */
	assert_int_equal(tables_bound(&t, 0, K4, 1), 4 * 4096 + 512);
	assert_int_equal(tables_reserve(&t, 3), 0);
	tables_add(&t, 0, K4, 1);
	assert_int_equal(tables_bytes(&t), 4 * 4096 + 512);
	/* Its neighbour shares them all. */
	assert_int_equal(tables_bound(&t, K4, K4, 1), 512);
	tables_add(&t, K4, K4, 1);
	assert_int_equal(tables_bytes(&t), 4 * 4096 + 1024);
	/* 1 GiB at 1 GiB: 512 leaves and the table above them; the rest is shared. */
	tables_add(&t, G1, G1, 4);
	assert_int_equal(tables_bytes(&t), (4 + 513) * 4096 + 6 * 512);
	tables_remove(&t, 0, K4, 1);
	assert_int_equal(tables_bytes(&t), (4 + 513) * 4096 + 5 * 512);
	tables_remove(&t, K4, K4, 1);
	tables_remove(&t, G1, G1, 4);
	assert_int_equal(tables_bytes(&t), 0);
	assert_int_equal(t.used, 0);
	tables_clear(&t);
}

/* In a space of 2^33 bytes: a flag for each region. */
#define SPACE (UINT64_C(1) << 33)
static uint64_t count(const bool *pages)
{
	static bool seen[2][SPACE / M2];
	uint64_t n = 0;

	memset(seen, 0, sizeof(seen));
	for (uint64_t i = 0; i < SPACE / M2 * 16; i++) {
		if (!pages[i])
			continue;
		seen[0][i / 16] = true;
		seen[1][i / 16 / 512] = true;
	}
	for (uint64_t i = 0; i < SPACE / M2; i++)
		n += (uint64_t)seen[0][i] + seen[1][i];
	return n + (n ? 2 : 0);
}

static void test_against_plain_count(void **state)
{
	/* Pages of 128 KiB: few enough to look at all of them. */
	const uint64_t unit = M2 / 16;
	static bool pages[SPACE / M2 * 16];
	struct {
		uint64_t first, n;
	} maps[64] = {{0}};
	struct tables t = {0};

	srand(7);
	for (int step = 0; step < 1500; step++) {
		size_t i = (size_t)rand() % 64;
		uint64_t first = (uint64_t)rand() % (SPACE / unit);
		uint64_t n = 1 + (uint64_t)rand() % (rand() % 4 ? 40 : 9000), bound;
		bool clear = first + n <= SPACE / unit;

		if (maps[i].n) {
			memset(&pages[maps[i].first], 0, maps[i].n);
			tables_remove(&t, maps[i].first * unit, maps[i].n * unit, 1);
			maps[i].n = 0;
		} else {
			if (rand() % 2)
				first &= ~UINT64_C(15);
			for (uint64_t k = 0; clear && k < n; k++)
				clear = !pages[first + k];
			if (!clear)
				continue;
			maps[i].first = first;
			maps[i].n = n;
			memset(&pages[first], 1, n);
			bound = tables_bytes(&t) + tables_bound(&t, first * unit, n * unit, 1);
			assert_int_equal(tables_reserve(&t, 1), 0);
			tables_add(&t, first * unit, n * unit, 1);
			assert_int_equal(tables_bytes(&t), bound);
		}
		assert_int_equal(t.pages, count(pages));
	}
	for (size_t i = 0; i < 64; i++)
		if (maps[i].n)
			tables_remove(&t, maps[i].first * unit, maps[i].n * unit, 1);
	assert_int_equal(tables_bytes(&t), 0);
	assert_int_equal(t.used, 0);
	tables_clear(&t);
}

/* A bound for several maps is taken before any is made. */
static void test_bounds_add_up(void **state)
{
	struct tables t = {0};
	uint64_t bound = 0;

	for (uint64_t i = 0; i < 100; i++)
		bound += tables_bound(&t, i * K4, K4, 1);
	assert_int_equal(tables_reserve(&t, 100), 0);
	for (uint64_t i = 0; i < 100; i++)
		tables_add(&t, i * K4, K4, 1);
	assert_true(tables_bytes(&t) <= bound);
	assert_int_equal(tables_bytes(&t), 4 * 4096 + 100 * 512);
	tables_clear(&t);
}

static void test_the_top(void **state)
{
	struct tables t = {0};
	uint64_t last = (UINT64_C(1) << 57) - K4;

	assert_int_equal(tables_reserve(&t, 2), 0);
	tables_add(&t, last, K4, 1);
	tables_add(&t, 0, last, 1);
	assert_int_equal(t.pages, (UINT64_C(1) << 36) + (1u << 27) + (1u << 18) + (1u << 9));
	tables_remove(&t, last, K4, 1);
	tables_remove(&t, 0, last, 1);
	assert_int_equal(tables_bytes(&t), 0);
	/* Nothing was added: nothing is taken. */
	tables_clear(&t);
	tables_remove(&t, 0, K4, 1);
	assert_int_equal(tables_bytes(&t), 0);
	assert_int_equal(tables_reserve(&t, SIZE_MAX / 2), -12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_against_plain_count),
		cmocka_unit_test(test_bounds_add_up),
		cmocka_unit_test(test_the_top),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
