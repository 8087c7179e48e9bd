/* SPDX-License-Identifier: Apache-2.0 */
/* Groups as a whole, names, health and order; and which ids are preferred. */
#include "inventory.h"
#include "prefer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CONFIG                                                                                     \
	"{\"version\":1,\"namespaces\":{},\"resources\":["                                         \
	"{\"name\":\"x.io/ioas\",\"ioas\":3},"                                                     \
	"{\"name\":\"x.io/nic\",\"match\":{\"class\":\"0200\"}},"                                  \
	"{\"name\":\"x.io/samsung\",\"match\":{\"vendor_device\":\"144d:*\"}},"                    \
	"{\"name\":\"x.io/one\",\"match\":{\"addresses\":[\"0000:09:00.0\"]}}]}"

static const struct inventory_device devices[] = {
	{"0000:09:00.0", "1af4:1041", "ff0000", 9, 1, true},
	{"0000:02:00.1", "8086:1521", "020000", 2, 0, true},
	{"0000:02:00.0", "8086:1521", "020000", 2, 0, true},
	{"0000:03:00.0", "144d:a808", "010802", 3, 1, false},
	{"0000:04:00.0", "8086:0001", "020000", 4, -1, true},
	/* In a group with a NIC that comes first in the configuration. */
	{"0000:04:00.1", "144d:a808", "010802", 4, 0, true},
	{"0000:05:00.0", "1234:11e8", "00ff00", 5, 0, true},
	/* A second tenant that sees the same. */
	{"0000:02:00.0", "8086:1521", "020000", 2, 0, false},
};

static struct config *config_of(const char *text)
{
	char problem[CONFIG_PROBLEM_SIZE];
	struct config *config = NULL;

	if (config_parse(text, strlen(text), &config, problem))
		fail_msg("%s", problem);
	return config;
}

static struct inventory *inventory_of(bool alive)
{
	struct config *config = config_of(CONFIG);
	struct inventory *inventory = NULL;

	assert_int_equal(inventory_new(config, devices, sizeof(devices) / sizeof(devices[0]), alive,
				       &inventory),
			 0);
	config_free(config);
	return inventory;
}

static void test_groups(void **state)
{
	struct inventory *i = inventory_of(true);
	const struct inventory_id *id;

	assert_int_equal(i->n_resources, 4);
	assert_int_equal(i->resources[0].n_ids, 3);
	assert_string_equal(i->resources[0].ids[2].name, "ioas-0002");
	assert_int_equal(i->resources[0].ids[2].n_addresses, 0);
	assert_int_equal(i->resources[1].n_ids, 2);
	id = &i->resources[1].ids[0];
	assert_string_equal(id->name, "0000-02-00.0_0000-02-00.1");
	assert_int_equal(id->n_addresses, 2);
	assert_string_equal(id->addresses[1], "0000:02:00.1");
	assert_int_equal(id->numa_node, 0);
	assert_true(id->healthy);
	/* Not one node, not offered twice. */
	id = &i->resources[1].ids[1];
	assert_string_equal(id->name, "0000-04-00.0_0000-04-00.1");
	assert_int_equal(id->numa_node, -1);
	assert_int_equal(i->resources[2].n_ids, 1);
	assert_string_equal(i->resources[2].ids[0].name, "0000-03-00.0");
	assert_false(i->resources[2].ids[0].healthy);
	assert_int_equal(i->resources[3].n_ids, 1);
	assert_int_equal(i->resources[3].ids[0].numa_node, 1);
	assert_ptr_equal(inventory_find(&i->resources[2], "0000-03-00.0"), i->resources[2].ids);
	assert_null(inventory_find(&i->resources[2], "0000-03-00.1"));
	inventory_free(i);
}

static void test_one_bad_member(void **state)
{
	const struct inventory_device two[] = {
		{"0000:02:00.0", "8086:1521", "020000", 2, 0, true},
		{"0000:02:00.1", "8086:1521", "020000", 2, 0, false},
	};
	struct config *config = config_of(CONFIG);
	struct inventory *i = NULL;

	assert_int_equal(inventory_new(config, two, 2, true, &i), 0);
	assert_int_equal(i->resources[1].n_ids, 1);
	assert_false(i->resources[1].ids[0].healthy);
	inventory_free(i);
	config_free(config);
}

/* Whole or not at all: no start could have it, and one tenant that may have it suffices. */
static void test_hidden_member(void **state)
{
	const struct inventory_device devices_of_two[] = {
		{"0000:02:00.0", "8086:1521", "020000", 2, 0, true, true},
		{"0000:04:00.0", "8086:0001", "020000", 4, 0, true, true},
		{"0000:04:00.0", "8086:0001", "020000", 4, 0, true, false},
		{"0000:04:00.1", "8086:0001", "020000", 4, 0, true, false},
	};
	struct config *config = config_of(CONFIG);
	struct inventory *i = NULL;

	assert_int_equal(inventory_new(config, devices_of_two, 4, true, &i), 0);
	assert_int_equal(i->resources[1].n_ids, 1);
	assert_string_equal(i->resources[1].ids[0].name, "0000-04-00.0_0000-04-00.1");
	inventory_free(i);
	config_free(config);
}

static void test_long_group(void **state)
{
	static char addresses[16][16];
	struct inventory_device many[16];
	struct config *config = config_of(CONFIG);
	struct inventory *i = NULL;

	for (int k = 0; k < 16; k++) {
		snprintf(addresses[k], 16, "0000:07:%02x.0", k);
		many[k] = (struct inventory_device){addresses[k], "8086:1", "020000", 7, 0, true};
	}
	assert_int_equal(inventory_new(config, many, 16, true, &i), 0);
	assert_string_equal(i->resources[1].ids[0].name, "0000-07-00.0_and-15");
	assert_int_equal(i->resources[1].ids[0].n_addresses, 16);
	inventory_free(i);
	config_free(config);
}

static void test_health(void **state)
{
	struct inventory *up = inventory_of(true), *again = inventory_of(true),
			 *down = inventory_of(false);

	for (size_t r = 0; r < 4; r++) {
		for (size_t k = 0; k < down->resources[r].n_ids; k++)
			assert_false(down->resources[r].ids[k].healthy);
		assert_true(inventory_resource_equal(&up->resources[r], &again->resources[r]));
		/* The one id of resource 2 is ill in both. */
		assert_true(inventory_resource_equal(&up->resources[r], &down->resources[r]) ==
			    (r == 2));
	}
	inventory_free(up);
	inventory_free(again);
	inventory_free(down);
}

/* a* on node 0, b* on node 1, c* on node 2, u* nowhere. */
static struct inventory_id ids[] = {
	{.name = (char *)"a0", .numa_node = 0},	 {.name = (char *)"a1", .numa_node = 0},
	{.name = (char *)"a2", .numa_node = 0},	 {.name = (char *)"b0", .numa_node = 1},
	{.name = (char *)"b1", .numa_node = 1},	 {.name = (char *)"c0", .numa_node = 2},
	{.name = (char *)"u0", .numa_node = -1},
};
static const struct inventory_resource resource = {7, ids};

static void prefers(const char *available, const char *must, size_t size, int expected_r,
		    const char *expected)
{
	const struct inventory_id *chosen[8];
	char copies[2][64], *lists[2][8], *rest;
	size_t n[2] = {0};
	char got[64] = "";
	int r;

	snprintf(copies[0], sizeof(copies[0]), "%s", available);
	snprintf(copies[1], sizeof(copies[1]), "%s", must);
	for (int i = 0; i < 2; i++)
		for (char *t = strtok_r(copies[i], " ", &rest); t; t = strtok_r(NULL, " ", &rest))
			lists[i][n[i]++] = t;
	r = prefer(&resource, lists[0], n[0], lists[1], n[1], size, chosen);
	assert_int_equal(r, expected_r);
	for (size_t i = 0; !r && i < size; i++) {
		strcat(got, i ? " " : "");
		strcat(got, chosen[i]->name);
	}
	assert_string_equal(got, expected);
}

static void test_prefer(void **state)
{
	const char *all = "u0 c0 b1 b0 a2 a1 a0";

	/* The smallest node that suffices. */
	prefers(all, "", 1, 0, "c0");
	prefers(all, "", 2, 0, "b0 b1");
	prefers(all, "", 3, 0, "a0 a1 a2");
	/* None suffices: the largest first, then what just completes it. */
	prefers(all, "", 4, 0, "a0 a1 a2 c0");
	prefers(all, "", 5, 0, "a0 a1 a2 b0 b1");
	prefers(all, "", 7, 0, "a0 a1 a2 b0 b1 c0 u0");
	/* By what must be included. */
	prefers(all, "a1", 2, 0, "a1 a0");
	prefers(all, "b1", 3, 0, "b1 b0 c0");
	prefers(all, "u0", 2, 0, "u0 c0");
	prefers(all, "u0 a2", 2, 0, "u0 a2");
	prefers("a0 b0", "", 0, 0, "");
	prefers("a0 b0", "", 3, PREFER_E_COUNT, "");
	prefers("a0 b0", "a0 b0", 1, PREFER_E_COUNT, "");
	prefers("a0 b0", "a1", 1, PREFER_E_UNKNOWN, "");
	prefers("a0 zz", "", 1, PREFER_E_UNKNOWN, "");
	prefers("a0 a0", "", 1, PREFER_E_UNKNOWN, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),	   cmocka_unit_test(test_one_bad_member),
		cmocka_unit_test(test_long_group), cmocka_unit_test(test_health),
		cmocka_unit_test(test_prefer),	   cmocka_unit_test(test_hidden_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
