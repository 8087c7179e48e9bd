/* SPDX-License-Identifier: Apache-2.0 */
/* The scratch memory of a request: alignment, the cap to the byte, overflow. */
#include "server/broker/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void cap_is_exact(void **state)
{
	struct scratch s;

	scratch_init(&s, 1 << 20);
	assert_non_null(scratch_alloc(&s, (1 << 20) - 16));
	assert_non_null(scratch_alloc(&s, 1));
	assert_false(s.over_cap);
	assert_null(scratch_alloc(&s, 1));
	assert_true(s.over_cap);
	scratch_extend(&s, 16);
	assert_false(s.over_cap);
	assert_non_null(scratch_alloc(&s, 16));
	scratch_deinit(&s);
}

static void everything_is_aligned_and_apart(void **state)
{
	struct scratch s;
	char *before = NULL;

	scratch_init(&s, 16 << 20);
	for (size_t n = 0; n < 3000; n++) {
		char *p = scratch_alloc(&s, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, (int)n, n);
		if (before)
			assert_int_equal((unsigned char)*before, (unsigned char)(n - 1));
		before = n ? p : NULL;
	}
	scratch_deinit(&s);
}

static void sizes_that_overflow_are_refused(void **state)
{
	struct scratch s;

	scratch_init(&s, SIZE_MAX);
	assert_null(scratch_calloc(&s, SIZE_MAX / 2, 3));
	scratch_deinit(&s);
	scratch_init(&s, 4096);
	assert_null(scratch_alloc(&s, SIZE_MAX - 8));
	assert_null(scratch_alloc(&s, SIZE_MAX));
	assert_string_equal(scratch_printf(&s, "%d-%s", 7, "x"), "7-x");
	scratch_deinit(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cap_is_exact),
		cmocka_unit_test(everything_is_aligned_and_apart),
		cmocka_unit_test(sizes_that_overflow_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
