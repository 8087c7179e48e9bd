/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/quota.h by examples worked out by hand: boundaries of every resource, hierarchy,
 * reservations, ceilings, rates on a clock of our own, and the invariants that end the
 * process.  test_quota_random.c compares the arithmetic with the formula at large.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/quota.h"

#define SECOND UINT64_C(1000000)

static int charge(struct quota_node *node, enum quota_resource r, uint64_t amount)
{
	struct quota_refusal refusal;

	return quota_charge(node, &(struct quota_amount){r, amount}, 1, &refusal);
}

static void uncharge(struct quota_node *node, enum quota_resource r, uint64_t amount)
{
	quota_uncharge(node, &(struct quota_amount){r, amount}, 1);
}

static void test_names(void **state)
{
	enum quota_resource r;

	for (unsigned i = 0; i < _QUOTA_MAX; i++) {
		assert_non_null(quota_resource_name(i));
		assert_int_equal(quota_resource_from_name(quota_resource_name(i), &r), 0);
		assert_int_equal(r, i);
	}
	assert_string_equal(quota_resource_name(QUOTA_MAP_ENTRIES), "map_entries");
	assert_null(quota_resource_name(_QUOTA_MAX));
	assert_null(quota_resource_name(-1));
	r = QUOTA_VMS;
	assert_int_equal(quota_resource_from_name("ioasid", &r), -EINVAL);
	assert_int_equal(quota_resource_from_name("", &r), -EINVAL);
	assert_int_equal(r, QUOTA_VMS);
	assert_true(quota_resource_is_bytes(QUOTA_PINNED_BYTES));
	assert_false(quota_resource_is_bytes(QUOTA_PASIDS));
}

static void test_boundary_of_every_resource(void **state)
{
	static const uint64_t limits[] = {0, 1, 7, UINT64_MAX - 1};

	for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++) {
		for (unsigned i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
			uint64_t limit = limits[i];
			struct quota_refusal refusal;
			struct quota_node node;

			quota_node_init(&node, NULL);
			quota_set_limit(&node, r, limit);
			assert_int_equal(charge(&node, r, limit), 0);
			assert_int_equal(node.need[r], limit);
			assert_int_equal(
				quota_charge(&node, &(struct quota_amount){r, 1}, 1, &refusal),
				QUOTA_E_REFUSED);
			assert_ptr_equal(refusal.node, &node);
			assert_int_equal(refusal.resource, r);
			assert_int_equal(refusal.limit, limit);
			assert_int_equal(refusal.used, limit);
			assert_int_equal(refusal.requested, 1);
			assert_int_equal(node.need[r], limit);
			assert_int_equal(node.own[r], limit);
			assert_int_equal(node.refused[r], 1);
			assert_int_equal(node.refused_local[r], 1);
			assert_int_equal(charge(&node, r, 0), 0);
			uncharge(&node, r, limit);
			assert_int_equal(charge(&node, r, limit + 1), QUOTA_E_REFUSED);
			assert_int_equal(charge(&node, r, UINT64_MAX), QUOTA_E_REFUSED);
			assert_int_equal(node.refused[r], 3);
			assert_int_equal(node.need[r], 0);
			assert_int_equal(node.peak[r], limit);
			assert_true(quota_node_is_idle(&node));
			quota_node_deinit(&node);
		}
	}
}

static void test_sums_never_overflow(void **state)
{
	const struct quota_amount twice[] = {{QUOTA_MAPPED_BYTES, UINT64_MAX},
					     {QUOTA_MAPPED_BYTES, 2}};
	const struct quota_amount exact[] = {{QUOTA_MAPPED_BYTES, UINT64_MAX - 5},
					     {QUOTA_MAPPED_BYTES, 5}};
	struct quota_node root, a, b;
	struct quota_refusal refusal;

	quota_node_init(&root, NULL);
	quota_node_init(&a, &root);
	quota_node_init(&b, &root);
	/* Everything unlimited: the number of bits is the only limit left. */
	assert_int_equal(quota_charge(&a, twice, 2, &refusal), QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &a);
	assert_int_equal(refusal.requested, UINT64_MAX);
	assert_int_equal(quota_charge(&a, exact, 2, &refusal), 0);
	assert_int_equal(root.need[QUOTA_MAPPED_BYTES], UINT64_MAX);
	assert_int_equal(charge(&a, QUOTA_MAPPED_BYTES, 1), QUOTA_E_REFUSED);
	/* b itself has room, the sum at the root has none. */
	assert_int_equal(
		quota_charge(&b, &(struct quota_amount){QUOTA_MAPPED_BYTES, 1}, 1, &refusal),
		QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &root);
	assert_int_equal(quota_set_reservation(&b, QUOTA_MAPPED_BYTES, 1, &refusal),
			 QUOTA_E_REFUSED);
	assert_int_equal(b.reserved[QUOTA_MAPPED_BYTES], 0);
	quota_uncharge(&a, exact, 2);
	assert_int_equal(quota_set_reservation(&b, QUOTA_MAPPED_BYTES, UINT64_MAX, &refusal), 0);
	assert_int_equal(charge(&a, QUOTA_MAPPED_BYTES, 1), QUOTA_E_REFUSED);
	quota_node_deinit(&b);
	assert_int_equal(root.need[QUOTA_MAPPED_BYTES], 0);
	quota_node_deinit(&a);
	quota_node_deinit(&root);
}

static void test_all_or_nothing(void **state)
{
	const struct quota_amount amounts[] = {
		{QUOTA_IOASIDS, 1}, {QUOTA_IOASIDS_KERNEL, 1}, {QUOTA_BROKER_BYTES, 4096}};
	const struct quota_amount twice[] = {
		{QUOTA_PASIDS, 2}, {QUOTA_IOASIDS, 2}, {QUOTA_PASIDS, 2}};
	struct quota_node host, org, team, before[3];
	struct quota_refusal refusal;

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&team, &org);
	quota_set_limit(&host, QUOTA_BROKER_BYTES, 8192);
	quota_set_limit(&team, QUOTA_IOASIDS, 10);
	assert_int_equal(quota_probe(&team, amounts, 3, &refusal), 0);
	assert_true(quota_node_is_idle(&host));
	assert_int_equal(quota_charge(&team, amounts, 3, &refusal), 0);
	assert_int_equal(quota_charge(&team, amounts, 3, &refusal), 0);
	before[0] = host, before[1] = org, before[2] = team;
	/* The third fits everywhere but at the root's last resource. */
	assert_int_equal(quota_probe(&team, amounts, 3, &refusal), QUOTA_E_REFUSED);
	assert_memory_equal(&before[0], &host, sizeof(host));
	assert_memory_equal(&before[2], &team, sizeof(team));
	assert_int_equal(quota_charge(&team, amounts, 3, &refusal), QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &host);
	assert_int_equal(refusal.resource, QUOTA_BROKER_BYTES);
	assert_int_equal(refusal.limit, 8192);
	assert_int_equal(refusal.used, 8192);
	assert_int_equal(refusal.requested, 4096);
	before[0].refused_local[QUOTA_BROKER_BYTES]++;
	before[2].refused[QUOTA_BROKER_BYTES]++;
	assert_memory_equal(&before[0], &host, sizeof(host));
	assert_memory_equal(&before[1], &org, sizeof(org));
	assert_memory_equal(&before[2], &team, sizeof(team));

	/* One resource in two amounts counts as their sum. */
	quota_set_limit(&org, QUOTA_PASIDS, 3);
	assert_int_equal(quota_charge(&team, twice, 3, &refusal), QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &org);
	assert_int_equal(refusal.requested, 4);
	assert_int_equal(team.own[QUOTA_IOASIDS], 2);
	quota_set_limit(&org, QUOTA_PASIDS, 4);
	assert_int_equal(quota_charge(&team, twice, 3, NULL), 0);
	assert_int_equal(host.need[QUOTA_PASIDS], 4);
	assert_int_equal(host.charged[QUOTA_PASIDS], 4);
	assert_int_equal(host.own[QUOTA_PASIDS], 0);
	quota_uncharge(&team, twice, 3);
	quota_uncharge(&team, amounts, 3);
	assert_false(quota_node_is_idle(&host));
	quota_uncharge(&team, amounts, 3);
	assert_true(quota_node_is_idle(&host));
	assert_int_equal(quota_charge(&team, NULL, 0, &refusal), 0);
	quota_node_deinit(&team);
	quota_node_deinit(&org);
	quota_node_deinit(&host);
}

static void test_the_nearest_node_refuses(void **state)
{
	struct quota_node host, org, team;
	struct quota_refusal refusal;
	const struct quota_amount two = {QUOTA_LEASES, 2};

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&team, &org);
	quota_set_limit(&host, QUOTA_LEASES, 0);
	quota_set_limit(&org, QUOTA_LEASES, 1);
	assert_int_equal(quota_charge(&team, &two, 1, &refusal), QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &org);
	assert_int_equal(charge(&team, QUOTA_LEASES, 1), QUOTA_E_REFUSED);
	assert_int_equal(host.refused_local[QUOTA_LEASES], 1);
	assert_int_equal(host.refused[QUOTA_LEASES], 0);
	assert_int_equal(org.refused_local[QUOTA_LEASES], 1);
	assert_int_equal(org.refused[QUOTA_LEASES], 0);
	assert_int_equal(team.refused_local[QUOTA_LEASES], 0);
	assert_int_equal(team.refused[QUOTA_LEASES], 2);
}

/*
 * host 10 <- { a reserved 4, b }: what a leaves of its four stays out of b's reach.
 *
 *	a    b    need(host) = max(a, 4) + b
 *	0    0    4
 *	0    6    10	b: one more refused
 *	4    6    10	a's charges do not move the host
 *	5    6    refused by the host
 *	5    5    10	after b gave one back
 */
static void test_reservation(void **state)
{
	struct quota_node host, a, b;
	struct quota_refusal refusal;

	quota_node_init(&host, NULL);
	quota_node_init(&a, &host);
	quota_node_init(&b, &host);
	quota_set_limit(&host, QUOTA_DEVICES, 10);
	assert_int_equal(quota_set_reservation(&a, QUOTA_DEVICES, 4, &refusal), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 4);
	assert_true(quota_node_is_idle(&host));

	assert_int_equal(charge(&b, QUOTA_DEVICES, 6), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 10);
	assert_int_equal(host.charged[QUOTA_DEVICES], 6);
	assert_int_equal(charge(&b, QUOTA_DEVICES, 1), QUOTA_E_REFUSED);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(charge(&a, QUOTA_DEVICES, 1), 0);
		assert_int_equal(host.need[QUOTA_DEVICES], 10);
	}
	assert_int_equal(quota_charge(&a, &(struct quota_amount){QUOTA_DEVICES, 1}, 1, &refusal),
			 QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &host);
	assert_int_equal(refusal.used, 10);
	uncharge(&b, QUOTA_DEVICES, 1);
	assert_int_equal(host.need[QUOTA_DEVICES], 9);
	assert_int_equal(charge(&a, QUOTA_DEVICES, 1), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 10);
	assert_int_equal(host.charged[QUOTA_DEVICES], 10);
	uncharge(&a, QUOTA_DEVICES, 3);
	assert_int_equal(host.need[QUOTA_DEVICES], 9);
	/* A charge across the edge of the reservation moves the host by what is beyond it. */
	assert_int_equal(charge(&a, QUOTA_DEVICES, 3), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 10);

	/* Raising beyond what is left is refused and changes nothing; lowering gives back. */
	uncharge(&a, QUOTA_DEVICES, 5);
	assert_int_equal(quota_set_reservation(&a, QUOTA_DEVICES, 6, &refusal), QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &host);
	assert_int_equal(refusal.requested, 6);
	assert_int_equal(a.reserved[QUOTA_DEVICES], 4);
	assert_int_equal(host.need[QUOTA_DEVICES], 9);
	assert_int_equal(quota_set_reservation(&a, QUOTA_DEVICES, 5, &refusal), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 10);
	assert_int_equal(quota_set_reservation(&a, QUOTA_DEVICES, 1, &refusal), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 6);
	assert_int_equal(charge(&a, QUOTA_DEVICES, 2), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 7);
	/* Below its use a reservation costs nothing to raise. */
	quota_set_limit(&host, QUOTA_DEVICES, 0);
	assert_int_equal(quota_set_reservation(&a, QUOTA_DEVICES, 2, &refusal), 0);
	assert_int_equal(host.need[QUOTA_DEVICES], 7);
	uncharge(&a, QUOTA_DEVICES, 2);
	uncharge(&b, QUOTA_DEVICES, 5);
	assert_int_equal(host.need[QUOTA_DEVICES], 2);
	assert_int_equal(host.peak[QUOTA_DEVICES], 10);
	quota_node_deinit(&a);
	quota_node_deinit(&b);
	quota_node_deinit(&host);
}

/* host <- org (reserved 8) <- team (reserved 3): growth stops where it is paid for. */
static void test_nested_reservations(void **state)
{
	struct quota_node host, org, team, other;
	struct quota_refusal refusal;

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&team, &org);
	quota_node_init(&other, &org);
	quota_set_limit(&host, QUOTA_VMS, 9);
	assert_int_equal(quota_set_reservation(&org, QUOTA_VMS, 8, &refusal), 0);
	assert_int_equal(quota_set_reservation(&team, QUOTA_VMS, 3, &refusal), 0);
	assert_int_equal(host.need[QUOTA_VMS], 8);
	assert_int_equal(org.need[QUOTA_VMS], 3);
	assert_int_equal(charge(&team, QUOTA_VMS, 3), 0);
	assert_int_equal(org.need[QUOTA_VMS], 3);
	assert_int_equal(charge(&other, QUOTA_VMS, 5), 0);
	assert_int_equal(org.need[QUOTA_VMS], 8);
	assert_int_equal(host.need[QUOTA_VMS], 8);
	assert_int_equal(charge(&other, QUOTA_VMS, 1), 0);
	assert_int_equal(host.need[QUOTA_VMS], 9);
	assert_int_equal(quota_charge(&team, &(struct quota_amount){QUOTA_VMS, 1}, 1, &refusal),
			 QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &host);
	uncharge(&other, QUOTA_VMS, 6);
	uncharge(&team, QUOTA_VMS, 3);
	quota_node_deinit(&team);
	assert_int_equal(org.need[QUOTA_VMS], 0);
	assert_int_equal(host.need[QUOTA_VMS], 8);
	quota_node_deinit(&other);
	quota_node_deinit(&org);
	assert_int_equal(host.need[QUOTA_VMS], 0);
	quota_node_deinit(&host);
}

static void test_limit_below_use_blocks_growth_only(void **state)
{
	struct quota_node host, org, team;

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&team, &org);
	assert_int_equal(quota_set_reservation(&team, QUOTA_IOASIDS, 6, NULL), 0);
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 4), 0);
	quota_set_limit(&org, QUOTA_IOASIDS, 2);
	quota_set_limit(&host, QUOTA_IOASIDS, 0);
	assert_int_equal(team.own[QUOTA_IOASIDS], 4);
	/* Inside the reservation nothing above grows. */
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 2), 0);
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 1), QUOTA_E_REFUSED);
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 0), 0);
	uncharge(&team, QUOTA_IOASIDS, 5);
	assert_int_equal(org.need[QUOTA_IOASIDS], 6);
	quota_set_limit(&team, QUOTA_IOASIDS, 1);
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 1), QUOTA_E_REFUSED);
	uncharge(&team, QUOTA_IOASIDS, 1);
	assert_int_equal(charge(&team, QUOTA_IOASIDS, 1), 0);
	uncharge(&team, QUOTA_IOASIDS, 1);
	quota_node_deinit(&team);
	quota_node_deinit(&org);
	quota_node_deinit(&host);
}

/* Counters are set up again, whatever the limits have become. */
static void test_what_exists_is_counted_over_the_limit(void **state)
{
	struct quota_amount amounts[] = {{QUOTA_IOASIDS, 5}, {QUOTA_IOASIDS, 2}};
	struct quota_node parent, child;

	quota_node_init(&parent, NULL);
	quota_node_init(&child, &parent);
	quota_set_limit(&parent, QUOTA_IOASIDS, 6);
	quota_set_limit(&child, QUOTA_IOASIDS, 0);
	assert_int_equal(quota_charge_existing(&child, amounts, 2), 0);
	assert_int_equal(child.own[QUOTA_IOASIDS], 7);
	assert_int_equal(child.need[QUOTA_IOASIDS], 7);
	assert_int_equal(parent.need[QUOTA_IOASIDS], 7);
	assert_int_equal(parent.own[QUOTA_IOASIDS], 0);
	assert_int_equal(parent.refused[QUOTA_IOASIDS], 0);
	assert_int_equal(charge(&child, QUOTA_IOASIDS, 1), QUOTA_E_REFUSED);
	/* But no sum wraps around. */
	amounts[0].amount = UINT64_MAX - 7;
	amounts[1].amount = 1;
	assert_int_equal(quota_charge_existing(&child, amounts, 2), QUOTA_E_REFUSED);
	assert_int_equal(parent.need[QUOTA_IOASIDS], 7);
	assert_int_equal(quota_charge_existing(&child, amounts, 1), 0);
	uncharge(&child, QUOTA_IOASIDS, UINT64_MAX);
	quota_node_deinit(&child);
	quota_node_deinit(&parent);
}

static void test_ceilings(void **state)
{
	const struct quota_node *by;
	struct quota_node host, org, team;
	struct quota_refusal refusal;

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&team, &org);
	assert_int_equal(quota_ceiling(&team, QUOTA_NESTING_DEPTH, &by), QUOTA_UNLIMITED);
	assert_ptr_equal(by, &team);
	quota_set_limit(&host, QUOTA_NESTING_DEPTH, 4);
	quota_set_limit(&team, QUOTA_NESTING_DEPTH, 8);
	assert_int_equal(quota_ceiling(&team, QUOTA_NESTING_DEPTH, &by), 4);
	assert_ptr_equal(by, &host);
	quota_set_limit(&org, QUOTA_NESTING_DEPTH, 2);
	assert_int_equal(quota_ceiling(&team, QUOTA_NESTING_DEPTH, &by), 2);
	assert_ptr_equal(by, &org);
	assert_int_equal(quota_ceiling(&host, QUOTA_NESTING_DEPTH, NULL), 4);
	assert_int_equal(quota_ceiling(&team, QUOTA_CHILDREN_PER_PARENT, NULL), QUOTA_UNLIMITED);

	assert_int_equal(quota_ceiling_check(&team, QUOTA_NESTING_DEPTH, 2, &refusal), 0);
	assert_int_equal(team.refused[QUOTA_NESTING_DEPTH], 0);
	assert_int_equal(quota_ceiling_check(&team, QUOTA_NESTING_DEPTH, 3, &refusal),
			 QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &org);
	assert_int_equal(refusal.resource, QUOTA_NESTING_DEPTH);
	assert_int_equal(refusal.limit, 2);
	assert_int_equal(refusal.requested, 3);
	assert_int_equal(team.refused[QUOTA_NESTING_DEPTH], 1);
	assert_int_equal(org.refused_local[QUOTA_NESTING_DEPTH], 1);
}

static void test_rate_bucket(void **state)
{
	enum quota_resource r = QUOTA_CALLS_PER_SECOND;
	struct quota_refusal refusal;
	struct quota_node node;
	uint64_t now = 77 * SECOND;

	quota_node_init(&node, NULL);
	assert_int_equal(quota_rate_take(&node, r, UINT64_MAX, now, &refusal), UINT64_MAX);
	quota_set_limit(&node, r, 4);
	/* A full bucket holds one second's worth and no more, however long it waited. */
	assert_int_equal(quota_rate_take(&node, r, 4, now, &refusal), 4);
	assert_int_equal(quota_rate_take(&node, r, 0, now, &refusal), 0);
	assert_int_equal(node.refused[r], 0);
	assert_int_equal(quota_rate_take(&node, r, 1, now, &refusal), 0);
	assert_ptr_equal(refusal.node, &node);
	assert_int_equal(refusal.resource, r);
	assert_int_equal(refusal.limit, 4);
	assert_int_equal(refusal.used, 4);
	assert_int_equal(refusal.requested, 1);
	assert_int_equal(refusal.retry_after_us, SECOND / 4);
	assert_int_equal(node.refused[r], 1);
	assert_int_equal(node.refused_local[r], 1);
	/* One us early is early; on time is on time. */
	assert_int_equal(quota_rate_take(&node, r, 1, now + SECOND / 4 - 1, &refusal), 0);
	assert_int_equal(refusal.retry_after_us, 1);
	assert_int_equal(quota_rate_take(&node, r, 1, now + SECOND / 4, &refusal), 1);
	/* A prefix is given. */
	now += SECOND;
	assert_int_equal(quota_rate_take(&node, r, 9, now, &refusal), 3);
	assert_int_equal(refusal.requested, 9);
	assert_int_equal(refusal.retry_after_us, SECOND / 4);
	now += 3600 * SECOND;
	assert_int_equal(quota_rate_take(&node, r, 9, now, &refusal), 4);
	/* A clock that goes back gives nothing. */
	assert_int_equal(quota_rate_take(&node, r, 1, now - 50 * SECOND, &refusal), 0);
	assert_int_equal(quota_rate_take(&node, r, 9, now + SECOND, &refusal), 4);

	quota_set_limit(&node, r, 0);
	assert_int_equal(quota_rate_take(&node, r, 1, now + 99 * SECOND, &refusal), 0);
	assert_int_equal(refusal.retry_after_us, UINT64_MAX);
	quota_set_limit(&node, r, QUOTA_UNLIMITED);
	assert_int_equal(quota_rate_take(&node, r, 1000, now + 99 * SECOND, &refusal), 1000);
	quota_set_limit(&node, r, 1);
	assert_int_equal(quota_rate_take(&node, r, 2, now + 99 * SECOND, &refusal), 1);
	/* The other rate has a bucket of its own. */
	quota_set_limit(&node, QUOTA_INVALIDATIONS_PER_SECOND, 2);
	assert_int_equal(quota_rate_take(&node, QUOTA_INVALIDATIONS_PER_SECOND, 3, now, &refusal),
			 2);
}

/* What is given over a long time is the rate, to the token, however often one asks. */
static void test_rate_is_exact(void **state)
{
	static const uint64_t rates[] = {2, 3, 7, 999, 1000, 999983, 1000000};
	static const uint64_t steps[] = {1, 3, 333, 999, 1001, 99991};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		for (unsigned j = 0; j < sizeof(steps) / sizeof(*steps); j++) {
			uint64_t rate = rates[i], step = steps[j], now = 0, given = 0, end;
			struct quota_node node;

			/* No step fills the bucket (hence no rate of 1): nothing is lost there. */
			end = step < 100 ? SECOND : 20 * SECOND;
			end -= end % step;
			quota_node_init(&node, NULL);
			quota_set_limit(&node, QUOTA_CALLS_PER_SECOND, rate);
			given +=
				quota_rate_take(&node, QUOTA_CALLS_PER_SECOND, rate + 1, now, NULL);
			assert_int_equal(given, rate);
			for (now = step; now <= end; now += step)
				given += quota_rate_take(&node, QUOTA_CALLS_PER_SECOND, rate, now,
							 NULL);
			assert_int_equal(given, rate + end * rate / SECOND);
		}
	}
}

/* The time that a refusal tells is the first at which a token is there, to the us. */
static void test_rate_tells_when(void **state)
{
	static const uint64_t rates[] = {1, 3, 7, 999, 1000, 999983};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		uint64_t now = 12345;
		struct quota_refusal refusal;
		struct quota_node node;

		quota_node_init(&node, NULL);
		quota_set_limit(&node, QUOTA_CALLS_PER_SECOND, rates[i]);
		assert_int_equal(
			quota_rate_take(&node, QUOTA_CALLS_PER_SECOND, rates[i] + 1, now, &refusal),
			rates[i]);
		for (unsigned j = 0; j < 20; j++) {
			uint64_t wait = refusal.retry_after_us;

			assert_true(wait > 0);
			assert_int_equal(quota_rate_take(&node, QUOTA_CALLS_PER_SECOND, 1,
							 now + wait - 1, &refusal),
					 0);
			now += wait;
			assert_int_equal(
				quota_rate_take(&node, QUOTA_CALLS_PER_SECOND, 2, now, &refusal),
				1);
		}
	}
}

static void test_rate_of_a_chain(void **state)
{
	enum quota_resource r = QUOTA_INVALIDATIONS_PER_SECOND;
	struct quota_node host, org, a, b;
	struct quota_refusal refusal;

	quota_node_init(&host, NULL);
	quota_node_init(&org, &host);
	quota_node_init(&a, &org);
	quota_node_init(&b, &org);
	quota_set_limit(&host, r, 10);
	quota_set_limit(&a, r, 6);
	quota_set_limit(&b, r, 6);
	assert_int_equal(quota_rate_take(&a, r, 8, 0, &refusal), 6);
	assert_ptr_equal(refusal.node, &a);
	assert_int_equal(quota_rate_take(&b, r, 8, 0, &refusal), 4);
	assert_ptr_equal(refusal.node, &host);
	assert_int_equal(refusal.limit, 10);
	assert_int_equal(refusal.retry_after_us, SECOND / 10);
	assert_int_equal(host.refused_local[r], 1);
	assert_int_equal(b.refused[r], 1);
	/* b kept the two that the host had not: nothing is taken that is not given. */
	assert_int_equal(quota_rate_take(&b, r, 2, SECOND / 5, &refusal), 2);
	/* The longest wait of the chain: a 1/6 s, the host 1/10 s. */
	assert_int_equal(quota_rate_take(&a, r, 1, SECOND / 5, &refusal), 0);
	assert_int_equal(refusal.retry_after_us, SECOND / 10);
	assert_int_equal(quota_rate_take(&a, r, 1, SECOND * 3 / 10, &refusal), 1);
	/* Bigger than any real rate: no overflow, and never a refusal for its size. */
	quota_set_limit(&host, r, UINT64_MAX - 1);
	quota_set_limit(&a, r, UINT64_MAX - 1);
	assert_int_equal(quota_rate_take(&a, r, UINT64_C(1000000000000), 100 * SECOND, &refusal),
			 UINT64_C(1000000000000));
}

static void bug_uncharge(void)
{
	struct quota_node node;

	quota_node_init(&node, NULL);
	(void)charge(&node, QUOTA_VMS, 1);
	uncharge(&node, QUOTA_VMS, 2);
}

static void bug_uncharge_of_another(void)
{
	struct quota_node host, a;

	quota_node_init(&host, NULL);
	quota_node_init(&a, &host);
	(void)charge(&a, QUOTA_VMS, 1);
	uncharge(&host, QUOTA_VMS, 1);
}

static void bug_deinit(void)
{
	struct quota_node node;

	quota_node_init(&node, NULL);
	(void)charge(&node, QUOTA_VMS, 1);
	quota_node_deinit(&node);
}

static void bug_not_counted(void)
{
	struct quota_node node;

	quota_node_init(&node, NULL);
	(void)charge(&node, QUOTA_CALLS_PER_SECOND, 1);
}

static void assert_aborts(void (*bug)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		bug();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_broken_invariants_end_the_process(void **state)
{
	assert_aborts(bug_uncharge);
	assert_aborts(bug_uncharge_of_another);
	assert_aborts(bug_deinit);
	assert_aborts(bug_not_counted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_boundary_of_every_resource),
		cmocka_unit_test(test_sums_never_overflow),
		cmocka_unit_test(test_all_or_nothing),
		cmocka_unit_test(test_the_nearest_node_refuses),
		cmocka_unit_test(test_reservation),
		cmocka_unit_test(test_nested_reservations),
		cmocka_unit_test(test_limit_below_use_blocks_growth_only),
		cmocka_unit_test(test_what_exists_is_counted_over_the_limit),
		cmocka_unit_test(test_ceilings),
		cmocka_unit_test(test_rate_bucket),
		cmocka_unit_test(test_rate_is_exact),
		cmocka_unit_test(test_rate_tells_when),
		cmocka_unit_test(test_rate_of_a_chain),
		cmocka_unit_test(test_broken_invariants_end_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
