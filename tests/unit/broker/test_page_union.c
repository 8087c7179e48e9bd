/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The union of file ranges against a reference that counts every page in an array: sums
 * after each step, and nothing left at the end.
 */
#include "server/broker/page_union.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES 64
#define FILES 3
#define LIVE  200

struct range {
	int file;
	unsigned start, end;
};

static unsigned covers[FILES][PAGES];

static uint64_t reference(void)
{
	uint64_t n = 0;

	for (int f = 0; f < FILES; f++)
		for (int p = 0; p < PAGES; p++)
			n += covers[f][p] > 0;
	return n;
}

static struct page_key key_of(int file)
{
	/* Equal inode numbers on different devices must not be mixed up. */
	return (struct page_key){.dev = file ? 7 : 8, .ino = file == 2 ? 5 : 4};
}

static void random_ranges_match_the_reference(void **state)
{
	struct range live[LIVE];
	struct page_union u;
	unsigned n = 0;

	srandom(20261122);
	page_union_init(&u);
	for (unsigned step = 0; step < 200000; step++) {
		uint64_t before = reference(), grown = 0;

		if (n < LIVE && (n == 0 || random() % 2)) {
			struct range r = {.file = random() % FILES};

			r.start = random() % PAGES;
			r.end = r.start + 1 + random() % (PAGES - r.start);
			for (unsigned p = r.start; p < r.end; p++)
				covers[r.file][p]++;
			assert_int_equal(page_union_add(&u, key_of(r.file), r.start, r.end, &grown),
					 0);
			assert_int_equal(grown, reference() - before);
			live[n++] = r;
		} else {
			unsigned i = random() % n;
			struct range r = live[i];

			for (unsigned p = r.start; p < r.end; p++)
				covers[r.file][p]--;
			assert_int_equal(page_union_remove(&u, key_of(r.file), r.start, r.end),
					 before - reference());
			live[i] = live[--n];
		}
		assert_int_equal(u.bytes, reference());
	}
	while (n--)
		page_union_remove(&u, key_of(live[n].file), live[n].start, live[n].end);
	page_union_deinit(&u);
}

static void ends_of_the_address_space(void **state)
{
	struct page_union u;
	uint64_t grown;

	page_union_init(&u);
	assert_int_equal(page_union_add(&u, key_of(0), 0, UINT64_MAX, &grown), 0);
	assert_int_equal(grown, UINT64_MAX);
	assert_int_equal(page_union_add(&u, key_of(0), UINT64_MAX - 1, UINT64_MAX, &grown), 0);
	assert_int_equal(grown, 0);
	assert_int_equal(page_union_remove(&u, key_of(0), 0, UINT64_MAX), UINT64_MAX - 1);
	assert_int_equal(u.bytes, 1);
	assert_int_equal(page_union_remove(&u, key_of(0), UINT64_MAX - 1, UINT64_MAX), 1);
	page_union_deinit(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ranges_match_the_reference),
		cmocka_unit_test(ends_of_the_address_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
