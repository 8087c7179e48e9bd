/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/quota.h against the formula, recomputed from scratch in 128 bits over a tree that
 * grows, shrinks and is charged at random.  The model keeps own, reserved and limit only,
 * and decides each operation by trying it: an operation fits if every node whose need grew
 * is within its limit afterwards.
 *
 *	test_quota_random [SEED [OPERATIONS]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/quota.h"

#define N_NODES 24
#define N_RES	3 /* of those that are charged: few, so that they meet */

typedef unsigned __int128 u128;

struct model_node {
	bool live;
	int parent;
	uint64_t own[N_RES], reserved[N_RES], limit[N_RES], peak[N_RES];
	uint64_t refused[N_RES], refused_local[N_RES];
};

static const enum quota_resource resources[N_RES] = {QUOTA_IOASIDS, QUOTA_MAPPED_BYTES,
						     QUOTA_BROKER_BYTES};
static struct model_node model[N_NODES];
static struct quota_node real[N_NODES];
static uint64_t rng_state = 20260801;
static unsigned long n_operations = 300000;

static uint64_t rng(void)
{
	/* splitmix64 */
	uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Mostly small, sometimes at the end of the range, so that both kinds of edge are met. */
static uint64_t rng_amount(void)
{
	switch (rng() % 64) {
	case 0:
		return UINT64_MAX - rng() % 4;
	case 1:
		return UINT64_MAX / 2 + rng() % 4;
	case 2:
		return rng() >> rng() % 64;
	case 3:
		return 0;
	default:
		return rng() % 8;
	}
}

static u128 model_need(int node, unsigned r, bool charged)
{
	u128 sum = model[node].own[r];

	for (int c = 0; c < N_NODES; c++) {
		u128 need;

		if (!model[c].live || c == node || model[c].parent != node)
			continue;
		need = model_need(c, r, charged);
		sum += !charged && need < model[c].reserved[r] ? model[c].reserved[r] : need;
	}
	return sum;
}

/*
 * The nearest node from `from` up whose need of r grew, compared with before[], and is above
 * its limit; -1: none.
 */
static int model_refuser(int from, unsigned r, const u128 *before)
{
	for (int n = from; n >= 0; n = model[n].parent) {
		u128 need = model_need(n, r, false);

		if (need > before[n] && need > model[n].limit[r])
			return n;
	}
	return -1;
}

static void model_needs(unsigned r, u128 *ret)
{
	for (int n = 0; n < N_NODES; n++)
		ret[n] = model[n].live ? model_need(n, r, false) : 0;
}

static void model_peaks(void)
{
	for (int n = 0; n < N_NODES; n++) {
		for (unsigned r = 0; model[n].live && r < N_RES; r++) {
			u128 need = model_need(n, r, false);

			if (need > model[n].peak[r])
				model[n].peak[r] = need;
		}
	}
}

static void check_all(void)
{
	for (int n = 0; n < N_NODES; n++) {
		bool idle = true;

		if (!model[n].live)
			continue;
		for (unsigned i = 0; i < N_RES; i++) {
			enum quota_resource r = resources[i];

			assert_true(real[n].need[r] == model_need(n, i, false));
			assert_true(real[n].charged[r] == model_need(n, i, true));
			assert_int_equal(real[n].own[r], model[n].own[i]);
			assert_int_equal(real[n].reserved[r], model[n].reserved[i]);
			assert_int_equal(real[n].limit[r], model[n].limit[i]);
			assert_int_equal(real[n].peak[r], model[n].peak[i]);
			assert_int_equal(real[n].refused[r], model[n].refused[i]);
			assert_int_equal(real[n].refused_local[r], model[n].refused_local[i]);
			idle = idle && !real[n].charged[r];
		}
		assert_int_equal(quota_node_is_idle(&real[n]), idle);
	}
}

static void node_add(int n, int parent)
{
	model[n] = (struct model_node){.live = true, .parent = parent};
	for (unsigned r = 0; r < N_RES; r++)
		model[n].limit[r] = QUOTA_UNLIMITED;
	quota_node_init(&real[n], parent < 0 ? NULL : &real[parent]);
}

static unsigned long n_charged, n_refused, n_refused_above, n_reservations_refused, n_removed;

static void op_charge(int n)
{
	struct quota_amount amounts[4];
	unsigned which[4], count = 1 + rng() % 4;
	struct quota_refusal refusal, probe;
	uint64_t own[N_RES];
	u128 before[N_RES][N_NODES], total[N_RES] = {0};
	int refuser = -1, ret;
	unsigned first = 0;

	for (unsigned i = 0; i < count; i++) {
		which[i] = rng() % N_RES;
		amounts[i] = (struct quota_amount){resources[which[i]], rng_amount()};
		total[which[i]] += amounts[i].amount;
	}
	for (unsigned r = 0; r < N_RES; r++) {
		own[r] = model[n].own[r];
		model_needs(r, before[r]);
	}
	for (first = 0; first < count && refuser < 0; first++) {
		unsigned r = which[first];

		/* More than 64 bits of own are at this node; the model's own cannot hold it. */
		if (own[r] + total[r] > UINT64_MAX) {
			refuser = n;
		} else {
			model[n].own[r] = own[r] + total[r];
			refuser = model_refuser(n, r, before[r]);
		}
	}
	ret = quota_probe(&real[n], amounts, count, &probe);
	assert_int_equal(quota_charge(&real[n], amounts, count, &refusal), ret);
	if (refuser < 0) {
		assert_int_equal(ret, 0);
		n_charged++;
		return;
	}
	first--;
	assert_int_equal(ret, QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &real[refuser]);
	assert_ptr_equal(probe.node, &real[refuser]);
	assert_int_equal(refusal.resource, resources[which[first]]);
	assert_int_equal(refusal.limit, model[refuser].limit[which[first]]);
	assert_true(refusal.used == before[which[first]][refuser]);
	assert_true(refusal.requested ==
		    (total[which[first]] > UINT64_MAX ? UINT64_MAX : total[which[first]]));
	model[n].refused[which[first]]++;
	model[refuser].refused_local[which[first]]++;
	for (unsigned r = 0; r < N_RES; r++)
		model[n].own[r] = own[r];
	n_refused++;
	n_refused_above += refuser != n;
}

static void op_uncharge(int n)
{
	struct quota_amount amounts[2 * N_RES];
	size_t count = 0;

	for (unsigned r = 0; r < N_RES; r++) {
		uint64_t part = model[n].own[r];

		if (part && rng() % 4)
			part = rng() % 8 ? rng() % part : part;
		if (part > 2) {
			amounts[count++] = (struct quota_amount){resources[r], part / 2};
			amounts[count++] = (struct quota_amount){resources[r], part - part / 2};
		} else {
			amounts[count++] = (struct quota_amount){resources[r], part};
		}
		model[n].own[r] -= part;
	}
	quota_uncharge(&real[n], amounts, count);
}

static void op_reserve(int n)
{
	unsigned r = rng() % N_RES;
	uint64_t old = model[n].reserved[r], reserved = rng_amount();
	struct quota_refusal refusal;
	u128 before[N_NODES];
	int refuser;

	model_needs(r, before);
	model[n].reserved[r] = reserved;
	refuser = model[n].parent < 0 ? -1 : model_refuser(model[n].parent, r, before);
	if (refuser < 0) {
		assert_int_equal(quota_set_reservation(&real[n], resources[r], reserved, &refusal),
				 0);
		return;
	}
	assert_int_equal(quota_set_reservation(&real[n], resources[r], reserved, &refusal),
			 QUOTA_E_REFUSED);
	assert_ptr_equal(refusal.node, &real[refuser]);
	model[n].reserved[r] = old;
	n_reservations_refused++;
}

static void op_tree(int n)
{
	if (!model[n].live) {
		int parent = rng() % N_NODES;

		/* A random parent among the live: long chains and wide rows both come about. */
		while (!model[parent].live)
			parent = (parent + 1) % N_NODES;
		node_add(n, parent);
		return;
	}
	for (int c = 0; c < N_NODES; c++)
		if (model[c].live && model[c].parent == n)
			return;
	for (unsigned r = 0; r < N_RES; r++)
		if (model[n].own[r])
			return;
	if (n == 0)
		return;
	quota_node_deinit(&real[n]);
	model[n].live = false;
	n_removed++;
}

static void test_random(void **state)
{
	memset(model, 0, sizeof(model));
	node_add(0, -1);
	for (int n = 1; n < 8; n++)
		node_add(n, rng() % n);
	for (unsigned long i = 0; i < n_operations; i++) {
		unsigned what = rng() % 16;
		int n = rng() % N_NODES;

		if (what == 15) {
			op_tree(n);
		} else if (!model[n].live) {
			continue;
		} else if (what < 7) {
			op_charge(n);
		} else if (what < 11) {
			op_uncharge(n);
		} else if (what < 13) {
			op_reserve(n);
		} else {
			unsigned r = rng() % N_RES;

			model[n].limit[r] =
				rng() % 4 ? rng() % 100 : QUOTA_UNLIMITED - rng_amount();
			quota_set_limit(&real[n], resources[r], model[n].limit[r]);
		}
		model_peaks();
		if (i % 16 == 0)
			check_all();
	}
	check_all();
	print_message("%lu operations: %lu charged, %lu refused (%lu by an ancestor), "
		      "%lu reservations refused, %lu nodes removed\n",
		      n_operations, n_charged, n_refused, n_refused_above, n_reservations_refused,
		      n_removed);
	/* The run means something only if every kind of outcome was common. */
	assert_true(n_charged > n_operations / 100);
	assert_true(n_refused_above > n_operations / 100);
	assert_true(n_refused > n_refused_above);
	assert_true(n_reservations_refused > n_operations / 1000);
	assert_true(n_removed > n_operations / 1000);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	if (argc > 1)
		rng_state = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		n_operations = strtoul(argv[2], NULL, 0);
	print_message("seed %llu\n", (unsigned long long)rng_state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
