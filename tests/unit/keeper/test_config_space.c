/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of extended capabilities, also where the device lies. */
#include "keeper/config_space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t config[CONFIG_SPACE_MAX];

static void capability(size_t at, unsigned id, unsigned next)
{
	uint32_t header = id | 1 << 16 | (uint32_t)next << 20;

	memcpy(config + at, &header, 4);
}

static void pasid(size_t at, unsigned bits, bool exec)
{
	config[at + 4] = exec ? 2 : 0;
	config[at + 5] = bits;
}

/* Exactly size bytes, so that a sanitizer sees a read behind them. */
static struct config_capabilities examine(size_t size)
{
	struct config_capabilities capabilities;
	uint8_t *copy = malloc(size + !size);

	assert_non_null(copy);
	memcpy(copy, config, size);
	config_space_examine(copy, size, &capabilities);
	free(copy);
	return capabilities;
}

static int setup(void **state)
{
	memset(config, 0, sizeof(config));
	return 0;
}

static void test_all_three(void **state)
{
	struct config_capabilities found;

	capability(0x100, 0x01, 0x200);
	capability(0x200, 0x0f, 0x300);
	capability(0x300, 0x13, 0xff8);
	capability(0xff8, 0x1b, 0);
	pasid(0xff8, 16, true);
	found = examine(CONFIG_SPACE_MAX);
	assert_true(found.ats && found.pri && found.pasid_exec);
	assert_int_equal(found.pasid_bits, 16);
}

static void test_nothing(void **state)
{
	struct config_capabilities found = examine(CONFIG_SPACE_MAX);

	assert_false(found.ats || found.pri || found.pasid_exec || found.pasid_bits);
	memset(config, 0xff, sizeof(config));
	found = examine(CONFIG_SPACE_MAX);
	assert_false(found.ats || found.pri || found.pasid_exec || found.pasid_bits);
}

static void test_loops(void **state)
{
	capability(0x100, 0x0f, 0x100);
	assert_true(examine(CONFIG_SPACE_MAX).ats);
	capability(0x100, 0x0f, 0x200);
	capability(0x200, 0x13, 0x100);
	assert_true(examine(CONFIG_SPACE_MAX).pri);
	/* Into the ordinary registers, and to the last byte. */
	capability(0x200, 0x13, 0x040);
	capability(0x040, 0x1b, 0x300);
	assert_int_equal(examine(CONFIG_SPACE_MAX).pasid_bits, 0);
	capability(0x200, 0x13, 0xfff);
	assert_true(examine(CONFIG_SPACE_MAX).pri);
}

static void test_width(void **state)
{
	capability(0x100, 0x1b, 0);
	for (unsigned bits = 0; bits < 32; bits++) {
		pasid(0x100, bits, true);
		assert_int_equal(examine(CONFIG_SPACE_MAX).pasid_bits, bits > 20 ? 20 : bits);
		assert_int_equal(examine(CONFIG_SPACE_MAX).pasid_exec, bits != 0);
	}
}

static void test_every_size(void **state)
{
	capability(0x100, 0x0f, 0x108);
	capability(0x108, 0x1b, 0x110);
	pasid(0x108, 20, false);
	for (size_t size = 0; size <= 0x120; size++) {
		struct config_capabilities found = examine(size);

		assert_int_equal(found.ats, size >= 0x104);
		assert_int_equal(found.pasid_bits, size >= 0x10e ? 20 : 0);
	}
}

static void test_noise(void **state)
{
	srand(1);
	for (unsigned round = 0; round < 2000; round++) {
		for (size_t i = 0; i < sizeof(config); i++)
			config[i] = rand() >> 7;
		assert_true(examine(CONFIG_SPACE_MAX).pasid_bits <= 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_all_three, setup),
		cmocka_unit_test_setup(test_nothing, setup),
		cmocka_unit_test_setup(test_loops, setup),
		cmocka_unit_test_setup(test_width, setup),
		cmocka_unit_test_setup(test_every_size, setup),
		cmocka_unit_test_setup(test_noise, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
