/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random changes of some leases against a model, with snapshots that are written in slices
 * between them, given up now and then, and with a file system that is full now and then.  What is
 * read is always the model.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEASES	 8u
#define IOASIDS	 6u
#define MAPPINGS 16u
#define STEPS	 300000u

struct model_ioasid {
	uint64_t id;		   /* 0: none */
	uint64_t length[MAPPINGS]; /* of the mapping at 1 MiB x n; 0: none */
};

struct model_lease {
	uint64_t serial; /* 0: none */
	uint64_t last_id;
	uint64_t intent; /* hash of it; 0: none */
	struct model_ioasid ioasids[IOASIDS];
};

struct world {
	struct fixture *f;
	struct model_lease leases[LEASES];
	uint64_t last_serial;
	unsigned snapshot; /* next slice to write */
	size_t left;
	unsigned refused, compactions, abandoned;
};

static uint64_t seed = 88172645463325252ull;

static unsigned rnd(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 20) % n;
}

static int limited(void *data, int fd, size_t offset, size_t length)
{
	size_t *left = data;

	if (length > *left)
		return -ENOSPC;
	return fallocate(fd, 0, (off_t)offset, (off_t)length) ? -errno : 0;
}

/* ---- a batch of one change ---- */

struct one {
	Ioasid__Registry__Batch batch;
	Ioasid__Registry__Drop drop, *drops[1];
	Ioasid__Registry__Lease lease;
	Ioasid__Registry__Intent intent;
	Ioasid__Registry__Ioasid ioasid, *ioasids[1];
	Ioasid__Registry__Mapping mapping, *mappings[1];
};

static void one_init(struct one *one)
{
	one->batch = (Ioasid__Registry__Batch)IOASID__REGISTRY__BATCH__INIT;
	one->drop = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	one->drops[0] = &one->drop;
	one->ioasids[0] = &one->ioasid;
	one->mappings[0] = &one->mapping;
}

static void one_lease(struct one *one)
{
	one->lease = (Ioasid__Registry__Lease)IOASID__REGISTRY__LEASE__INIT;
	one->lease.tenant = TEXT("org");
	one->batch.lease = &one->lease;
}

static void one_ioasid(struct one *one, uint64_t id)
{
	one->ioasid = (Ioasid__Registry__Ioasid)IOASID__REGISTRY__IOASID__INIT;
	one->ioasid.id = id;
	one->ioasid.kind = 1;
	/* Mappings come from it: then they need no memory. */
	one->ioasid.parent = id > 1 ? 1 : 0;
	one->batch.ioasids = one->ioasids;
	one->batch.n_ioasids = 1;
}

static void one_mapping(struct one *one, uint64_t id, unsigned n, uint64_t length)
{
	one->mapping = (Ioasid__Registry__Mapping)IOASID__REGISTRY__MAPPING__INIT;
	one->mapping.ioasid = id;
	one->mapping.iova = (uint64_t)n << 20;
	one->mapping.length = length;
	one->mapping.prot = 1;
	one->batch.mappings = one->mappings;
	one->batch.n_mappings = 1;
}

static void one_intent(struct one *one, uint64_t hash)
{
	one->intent = (Ioasid__Registry__Intent)IOASID__REGISTRY__INTENT__INIT;
	one->intent.method = TEXT("/ioasid.v1.Broker/Alloc");
	one->intent.hash = hash;
	one->batch.intent = &one->intent;
}

static bool change(struct world *w, enum registry_class class, uint64_t serial, struct one *one)
{
	struct registry_room room = {0};

	if (registry_room_take(w->f->registry, class, registry_batch_size(&one->batch), &room)) {
		assert_int_equal(class, REGISTRY_GROWS);
		w->refused++;
		return false;
	}
	registry_append(w->f->registry, &room, serial, &one->batch);
	return true;
}

static void step(struct world *w)
{
	struct model_lease *l = &w->leases[rnd(LEASES)];
	struct model_ioasid *a = &l->ioasids[rnd(IOASIDS)];
	const unsigned n = rnd(MAPPINGS);
	struct one one;

	one_init(&one);
	if (!l->serial) {
		/* With the IOASID 1, which is the parent of all others. */
		one_lease(&one);
		one_ioasid(&one, 1);
		if (change(w, REGISTRY_GROWS, w->last_serial + 1, &one)) {
			*l = (struct model_lease){.serial = ++w->last_serial, .last_id = 1};
			l->ioasids[0].id = 1;
		}
		return;
	}
	if (!rnd(100)) {
		one.drop.lease = true;
		one.batch.drops = one.drops;
		one.batch.n_drops = 1;
		assert_true(change(w, REGISTRY_RELEASES, l->serial, &one));
		*l = (struct model_lease){0};
		return;
	}
	if (!a->id) {
		one_ioasid(&one, l->last_id + 1);
		if (l->intent) {
			one.drop.intent = true;
			one.batch.drops = one.drops;
			one.batch.n_drops = 1;
		}
		if (change(w, REGISTRY_GROWS, l->serial, &one)) {
			*a = (struct model_ioasid){.id = ++l->last_id};
			l->intent = 0;
		}
		return;
	}
	if (a->id > 1 && !rnd(20)) {
		one.drop.ioasid = a->id;
		one.batch.drops = one.drops;
		one.batch.n_drops = 1;
		assert_true(change(w, REGISTRY_RELEASES, l->serial, &one));
		*a = (struct model_ioasid){0};
		return;
	}
	if (!rnd(5)) {
		one_intent(&one, seed | 1);
		if (change(w, REGISTRY_GROWS, l->serial, &one))
			l->intent = one.intent.hash;
		return;
	}
	if (a->id == 1)
		return;
	if (a->length[n] && rnd(2)) {
		one.drop.mapping = &one.mapping;
		one_mapping(&one, a->id, n, 1);
		one.batch.n_mappings = 0;
		one.batch.drops = one.drops;
		one.batch.n_drops = 1;
		assert_true(change(w, REGISTRY_RELEASES, l->serial, &one));
		a->length[n] = 0;
		return;
	}
	one_mapping(&one, a->id, n, rnd(1 << 20) + 1);
	if (change(w, REGISTRY_GROWS, l->serial, &one))
		a->length[n] = one.mapping.length;
}

/* ---- the snapshot, one object at a time ---- */

static int slice(struct world *w, unsigned i)
{
	const unsigned per_ioasid = MAPPINGS + 1, per_lease = 1 + IOASIDS * per_ioasid;
	const struct model_lease *l = &w->leases[i / per_lease];
	const struct model_ioasid *a;
	struct one one;

	one_init(&one);
	i %= per_lease;
	if (!l->serial)
		return 0;
	if (i == per_lease - 1) {
		one_lease(&one);
		if (l->intent)
			one_intent(&one, l->intent);
		return registry_append_new(w->f->registry, l->serial, &one.batch);
	}
	a = &l->ioasids[i / per_ioasid];
	i %= per_ioasid;
	if (!a->id)
		return 0;
	/* Mappings before their IOASID. */
	if (i == MAPPINGS)
		one_ioasid(&one, a->id);
	else if (a->length[i])
		one_mapping(&one, a->id, i, a->length[i]);
	else
		return 0;
	return registry_append_new(w->f->registry, l->serial, &one.batch);
}

static void compact_some(struct world *w)
{
	const unsigned total = LEASES * (1 + IOASIDS * (MAPPINGS + 1));

	if (!registry_is_compacting(w->f->registry)) {
		if (!registry_wants_compaction(w->f->registry) && rnd(2000))
			return;
		assert_int_equal(registry_begin(w->f->registry, &test_boot, NULL), 0);
		w->snapshot = 0;
	}
	for (unsigned n = rnd(10); n && w->snapshot < total; n--)
		assert_int_equal(slice(w, w->snapshot++), 0);
	if (w->snapshot < total) {
		if (!rnd(3000)) {
			registry_abandon(w->f->registry);
			w->abandoned++;
		}
		return;
	}
	assert_int_equal(registry_commit(w->f->registry), 0);
	w->compactions++;
}

/* ---- what is read ---- */

static void compare(struct world *w)
{
	const struct registry_image *image = fixture_load(w->f);
	size_t n_leases = 0;

	assert_int_equal(image->damaged, 0);
	for (unsigned i = 0; i < LEASES; i++) {
		const struct model_lease *m = &w->leases[i];
		const struct registry_lease *l = lease_of(image, m->serial);
		size_t n_ioasids = 0, n_mappings = 0, k;

		if (!m->serial)
			continue;
		n_leases++;
		assert_non_null(l);
		assert_string_equal(l->damage, "");
		assert_non_null(l->lease);
		assert_int_equal(l->intent ? l->intent->hash : 0, m->intent);
		assert_true(l->next_id <= m->last_id + 1);
		for (unsigned j = 0; j < IOASIDS; j++) {
			const struct model_ioasid *a = &m->ioasids[j];

			if (!a->id)
				continue;
			n_ioasids++;
			for (k = 0; k < l->n_ioasids && l->ioasids[k]->id != a->id; k++)
				;
			assert_true(k < l->n_ioasids);
			for (unsigned n = 0; n < MAPPINGS; n++) {
				if (!a->length[n])
					continue;
				n_mappings++;
				for (k = 0; k < l->n_mappings; k++)
					if (l->mappings[k]->ioasid == a->id &&
					    l->mappings[k]->iova == (uint64_t)n << 20)
						break;
				assert_true(k < l->n_mappings);
				assert_int_equal(l->mappings[k]->length, a->length[n]);
			}
		}
		assert_int_equal(l->n_ioasids, n_ioasids);
		assert_int_equal(l->n_mappings, n_mappings);
	}
	assert_int_equal(image->n_leases, n_leases);
}

static void like_a_model(void **state)
{
	struct world w = {.f = *state, .left = SIZE_MAX};
	const struct registry_options options = {
		.slack = 8192, .step = 1, .allocate = limited, .data = &w.left};
	struct registry_stats stats;

	fixture_start(w.f, &options);
	for (unsigned i = 0; i < STEPS; i++) {
		if (!rnd(3000))
			w.left = rnd(3) ? 0 : SIZE_MAX;
		step(&w);
		compact_some(&w);
		if (i % 500 == 0)
			compare(&w);
	}
	compare(&w);
	registry_stats(w.f->registry, &stats);
	assert_int_equal(stats.stale, 0);
	assert_true(w.compactions > 50);
	assert_true(w.abandoned > 0);
	print_message("%u compactions, %u given up, %u refused for space\n", w.compactions,
		      w.abandoned, w.refused);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(like_a_model)};

	return cmocka_run_group_tests_name("registry compaction", tests, NULL, NULL);
}
