/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests with actors (actor.h) have in common: orders with named arguments, and checks of
 * what they return.
 */
#ifndef TESTS_GUEST_DIRECTOR_H
#define TESTS_GUEST_DIRECTOR_H

#include "actor.h"
#include "report.h"

#include <ioasid.h>
#include <unistd.h>

#define UID_ANA 61001
#define UID_BOB 61002

struct arguments {
	const char *text;
	uint64_t a, b, c, d, e;
};

/* DO(&ana, ACT_MAP, .a = space, .b = iova) */
#define DO(actor, op, ...) director_do(actor, op, (struct arguments){__VA_ARGS__})

static inline int64_t director_do(struct actor *actor, enum actor_op op, struct arguments x)
{
	return actor_do(actor, op, x.text, x.a, x.b, x.c, x.d, x.e);
}

static inline void expect(int64_t got, int64_t want, const char *name)
{
	char why[128];

	snprintf(why, sizeof(why), "got %lld (%s), not %lld", (long long)got,
		 got < 0 ? strerror((int)-got) : "no error", (long long)want);
	report(got == want, name, why);
}

/* For what a test stands on. */
static inline int64_t must(int64_t got, const char *what)
{
	if (got < 0) {
		report(0, what, strerror((int)-got));
		exit(1);
	}
	return got;
}

/* Until claiming gives another answer than busy. */
static inline int64_t claim_in_time(struct actor *actor, const char *devices)
{
	int64_t r = -EBUSY;

	for (int i = 0; i < 100 && r == -EBUSY; i++) {
		r = DO(actor, ACT_CLAIM, .text = devices);
		if (r == -EBUSY)
			usleep(100000);
	}
	return r;
}

/* The broker has noticed when the device is no longer claimed. */
static inline bool revoking_in_time(struct ioasid_client *admin, const char *device)
{
	for (int i = 0; i < 100; i++) {
		struct ioasid_device *d;
		struct ioasid_error *error;
		bool there;

		if (ioasid_device_get(admin, NULL, device, &d, &error) < 0) {
			ioasid_error_free(error);
			return false;
		}
		there = d->state == IOASID_DEVICE_REVOKING;
		ioasid_device_free(d);
		if (there)
			return true;
		usleep(100000);
	}
	return false;
}

/* What of a tenant's counters is not zero, into ret_what; "": nothing. */
static inline void director_used(struct ioasid_client *admin, const char *tenant, char *ret_what,
				 size_t size)
{
	struct ioasid_tenants *list;
	struct ioasid_error *error;

	ret_what[0] = '\0';
	if (ioasid_tenant_list(admin, NULL, tenant, true, &list, &error) < 0) {
		snprintf(ret_what, size, "%s", error->message);
		ioasid_error_free(error);
		return;
	}
	for (size_t i = 0; i < list->items[0]->n_resources; i++) {
		const struct ioasid_resource_usage *r = list->items[0]->resources[i];

		if (r->used)
			snprintf(ret_what, size, "%s: %llu", r->resource,
				 (unsigned long long)r->used);
	}
	ioasid_tenants_free(list);
}

/*
 * The counters that a tenant's objects move, in ten seconds: a lease ends behind its client,
 * and a device is charged until the keeper has found that nobody has it.
 */
static inline void director_check_idle(struct ioasid_client *admin, const char *tenant)
{
	char name[80], what[160];

	for (int i = 0; i < 100; i++) {
		director_used(admin, tenant, what, sizeof(what));
		if (!what[0])
			break;
		usleep(100000);
	}
	snprintf(name, sizeof(name), "every counter of %s is zero", tenant);
	report(!what[0], name, what);
}

#endif
