/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no single file can tell: order, parents, tenants and identities defined twice,
 * identities of unknown tenants, reservations that do not fit.
 *
 * Owns: the order of the vectors; it alone sorts them.  Never: reads a text; everything
 * that a problem names was kept as a place.
 *
 * Sums are 64 bits and stop at UINT64_MAX, which is above every limit that is not "max";
 * under "max" a sum that does not fit 64 bits is refused as well, as quota.c would.
 *
 * Runs on the one thread that loads.
 */

#include "policy_internal.h"
#include "problem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 5, 6))) static int fail_at(const struct policy *policy,
							 struct policy_problem *problem,
							 struct policy_place place,
							 const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	problem_set(problem, policy->files[place.file].name, place.line, place.column, path, fmt,
		    ap);
	va_end(ap);
	return POLICY_E_INVALID;
}

static const char *place_file(const struct policy *policy, struct policy_place place)
{
	return policy->files[place.file].name;
}

static int place_compare(struct policy_place a, struct policy_place b)
{
	if (a.file != b.file)
		return a.file < b.file ? -1 : 1;
	if (a.line != b.line)
		return a.line < b.line ? -1 : 1;
	return a.column < b.column ? -1 : a.column > b.column;
}

static int tenant_compare(const void *a, const void *b)
{
	const struct policy_tenant *ta = a, *tb = b;
	int order = strcmp(ta->path, tb->path);

	return order ? order : place_compare(ta->place, tb->place);
}

/* Every '/' sorts after its prefix, so that parents come before their children. */
static int check_tenants(struct policy *policy, struct policy_problem *problem)
{
	char path[sizeof(problem->path)];

	/* [0], the host, has the empty path and stays where it is. */
	qsort(policy->tenants, policy->n_tenants, sizeof(*policy->tenants), tenant_compare);
	for (size_t i = 1; i < policy->n_tenants; i++) {
		struct policy_tenant *tenant = &policy->tenants[i], *before = tenant - 1;
		char parent[POLICY_PATH_MAX + 1];
		const char *slash;

		policy_tenant_where(tenant, NULL, NULL, path, sizeof(path));
		if (!strcmp(tenant->path, before->path))
			return fail_at(policy, problem, tenant->place, path,
				       "this tenant is defined twice, first at %s:%u:%u",
				       place_file(policy, before->place), before->place.line,
				       before->place.column);
		slash = strrchr(tenant->path, '/');
		snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - tenant->path) : 0,
			 tenant->path);
		tenant->parent = policy_tenant_find(policy, parent);
		if (!tenant->parent)
			return fail_at(policy, problem, tenant->place, path,
				       "its parent \"%s\" is not defined", parent);
	}
	return 0;
}

/* ---- reservations ---- */

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t tenant_share(const struct policy_tenant *tenant, enum quota_resource r,
			     uint64_t need)
{
	uint64_t reserved = policy_tenant_reservation(tenant, r);

	return need > reserved ? need : reserved;
}

void policy_needs(const struct policy *policy, enum quota_resource r, uint64_t *ret_needs)
{
	memset(ret_needs, 0, policy->n_tenants * sizeof(*ret_needs));
	/* Backwards: a tenant's need is complete before it is added to its parent's. */
	for (size_t i = policy->n_tenants - 1; i > 0; i--) {
		const struct policy_tenant *tenant = &policy->tenants[i];
		size_t parent = tenant->parent - policy->tenants;

		ret_needs[parent] =
			add_saturated(ret_needs[parent], tenant_share(tenant, r, ret_needs[i]));
	}
}

/* Where a limit was written, for messages; a default was written nowhere. */
static void limit_origin(const struct policy *policy, const struct policy_tenant *tenant,
			 enum quota_resource r, char *ret, size_t size)
{
	const struct policy_amount *limit =
		policy_tenant_amount(tenant->limits, tenant->n_limits, r);

	if (limit)
		snprintf(ret, size, "%.200s:%u", place_file(policy, limit->place),
			 limit->place.line);
	else
		snprintf(ret, size, "%s", tenant->parent ? "not limited" : "built-in default");
}

/* The same walk as policy_needs(), stopping at the first child that does not fit. */
static int check_reserved(const struct policy *policy, enum quota_resource r, uint64_t *needs,
			  struct policy_problem *problem)
{
	memset(needs, 0, policy->n_tenants * sizeof(*needs));
	for (size_t i = policy->n_tenants - 1; i > 0; i--) {
		const struct policy_tenant *tenant = &policy->tenants[i];
		size_t parent = tenant->parent - policy->tenants;
		uint64_t share = tenant_share(tenant, r, needs[i]), sum;
		uint64_t limit = policy_tenant_limit(tenant->parent, r);
		const struct policy_amount *reservation;
		char path[sizeof(problem->path)], origin[256];

		if (!__builtin_add_overflow(needs[parent], share, &sum) && sum <= limit) {
			needs[parent] = sum;
			continue;
		}
		reservation = policy_tenant_amount(tenant->reservations, tenant->n_reservations, r);
		limit_origin(policy, tenant->parent, r, origin, sizeof(origin));
		if (reservation && reservation->value >= needs[i]) {
			policy_tenant_where(tenant, "reservations", quota_resource_name(r), path,
					    sizeof(path));
		} else {
			/* What its own children reserve is more than it reserves itself. */
			reservation = NULL;
			policy_tenant_where(tenant, NULL, NULL, path, sizeof(path));
		}
		return fail_at(
			policy, problem, reservation ? reservation->place : tenant->place, path,
			"%" PRIu64 " of %s reserved here and %" PRIu64
			" reserved by its siblings are more than the limit of \"%.255s\", "
			"%" PRIu64 " (%s)",
			share, quota_resource_name(r), needs[parent],
			*tenant->parent->path ? tenant->parent->path : "host", limit, origin);
	}
	return 0;
}

static int check_reservations(const struct policy *policy, struct policy_problem *problem)
{
	bool reserved[_QUOTA_COUNTED_MAX] = {false};
	uint64_t *needs;
	int r = 0;

	for (size_t i = 1; i < policy->n_tenants; i++) {
		const struct policy_tenant *tenant = &policy->tenants[i];

		for (size_t j = 0; j < tenant->n_reservations; j++) {
			const struct policy_amount *amount = &tenant->reservations[j];
			uint64_t limit = policy_tenant_limit(tenant, amount->resource);
			char path[sizeof(problem->path)];

			reserved[amount->resource] = true;
			if (amount->value <= limit)
				continue;
			policy_tenant_where(tenant, "reservations",
					    quota_resource_name(amount->resource), path,
					    sizeof(path));
			return fail_at(policy, problem, amount->place, path,
				       "%" PRIu64 " reserved, but its own limit is %" PRIu64,
				       amount->value, limit);
		}
	}
	needs = calloc(policy->n_tenants, sizeof(*needs));
	if (!needs)
		return -ENOMEM;
	for (unsigned i = 0; !r && i < _QUOTA_COUNTED_MAX; i++)
		if (reserved[i])
			r = check_reserved(policy, i, needs, problem);
	free(needs);
	return r;
}

/* ---- identities ---- */

int policy_identity_compare(const struct policy_identity_rule *a,
			    const struct policy_identity_rule *b)
{
	int order = strcmp(a->socket, b->socket);

	if (order)
		return order;
	if (a->has_uid != b->has_uid)
		return a->has_uid ? -1 : 1;
	if (a->has_uid && a->uid != b->uid)
		return a->uid < b->uid ? -1 : 1;
	if (a->has_gid != b->has_gid)
		return a->has_gid ? -1 : 1;
	if (a->has_gid && a->gid != b->gid)
		return a->gid < b->gid ? -1 : 1;
	return 0;
}

static int identity_order(const void *a, const void *b)
{
	const struct policy_identity_rule *ia = a, *ib = b;
	int order = policy_identity_compare(ia, ib);

	return order ? order : place_compare(ia->place, ib->place);
}

static int check_identities(struct policy *policy, struct policy_problem *problem)
{
	char path[sizeof(problem->path)];

	for (size_t i = 0; i < policy->n_identities; i++) {
		const struct policy_identity_rule *rule = &policy->identities[i];

		if (policy_tenant_find(policy, rule->tenant))
			continue;
		snprintf(path, sizeof(path), "identities[%zu].%s", rule->index,
			 rule->role == POLICY_ROLE_TENANT ? "tenant" : "subtree");
		return fail_at(policy, problem, rule->tenant_place, path,
			       "no tenant \"%s\" is defined", rule->tenant);
	}
	if (policy->n_identities)
		qsort(policy->identities, policy->n_identities, sizeof(*policy->identities),
		      identity_order);
	for (size_t i = 1; i < policy->n_identities; i++) {
		const struct policy_identity_rule *rule = &policy->identities[i],
						  *before = rule - 1;

		if (policy_identity_compare(before, rule))
			continue;
		snprintf(path, sizeof(path), "identities[%zu]", rule->index);
		return fail_at(
			policy, problem, rule->place, path,
			"as specific as identities[%zu] at %s:%u:%u: same socket, uid and gid",
			before->index, place_file(policy, before->place), before->place.line,
			before->place.column);
	}
	return 0;
}

static int address_order(const void *a, const void *b)
{
	return strcmp(a, b);
}

int policy_check(struct policy *policy, struct policy_problem *problem)
{
	int r = check_tenants(policy, problem);

	if (!r)
		r = check_reservations(policy, problem);
	if (!r)
		r = check_identities(policy, problem);
	if (!r && policy->n_host_devices)
		qsort(policy->host_devices, policy->n_host_devices, sizeof(*policy->host_devices),
		      address_order);
	return r;
}
