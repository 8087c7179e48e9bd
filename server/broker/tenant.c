/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of live tenants.  Owns struct tenant; a tenant is made when a policy names it
 * and goes when no policy does and nothing is charged to it.
 *
 * Invariants: a parent outlives its children; the quota nodes form the same tree; a
 * tenant without `policy` is orphaned: it takes no new objects.  State thread only.
 */
#include "server/broker/tenant.h"

#include "server/broker/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int tenant_compare(const struct tenant *a, const struct tenant *b)
{
	return strcmp(a->path, b->path);
}

TREE_GENERATE(tenant_tree, tenant, node, tenant_compare)

struct tenant *tenant_find(struct broker *broker, const char *path)
{
	size_t n = strlen(path) + 1;
	struct {
		struct tenant tenant;
		char path[POLICY_PATH_MAX + 1];
	} find;

	if (n > sizeof(find.path))
		return NULL;
	memcpy(find.tenant.path, path, n);
	return RB_FIND(tenant_tree, &broker->tenants, &find.tenant);
}

struct tenant *tenant_first(struct broker *broker)
{
	return RB_MIN(tenant_tree, &broker->tenants);
}

struct tenant *tenant_next(struct tenant *tenant)
{
	return RB_NEXT(tenant_tree, &tenant->broker->tenants, tenant);
}

struct tenant *tenant_after(struct broker *broker, const char *after)
{
	size_t n = strlen(after) + 1;
	struct {
		struct tenant tenant;
		char path[POLICY_PATH_MAX + 1];
	} find;
	struct tenant *t;

	if (n > sizeof(find.path))
		return NULL;
	memcpy(find.tenant.path, after, n);
	t = RB_NFIND(tenant_tree, &broker->tenants, &find.tenant);
	return t && !strcmp(t->path, after) ? tenant_next(t) : t;
}

bool tenant_accepts(const struct tenant *tenant)
{
	for (; tenant; tenant = tenant->parent)
		if (tenant->draining || !tenant->policy)
			return false;
	return true;
}

bool tenant_is_below(const struct tenant *tenant, const struct tenant *top)
{
	for (; tenant; tenant = tenant->parent)
		if (tenant == top)
			return true;
	return false;
}

static int tenant_make(struct broker *broker, const char *path, struct tenant *parent,
		       struct tenant **ret)
{
	size_t n = strlen(path) + 1;
	struct tenant *t = calloc(1, sizeof(*t) + n);

	if (!t)
		return -ENOMEM;
	memcpy(t->path, path, n);
	t->broker = broker;
	t->parent = parent;
	quota_node_init(&t->quota, t->parent ? &t->parent->quota : NULL);
	page_union_init(&t->registered);
	page_union_init(&t->pinned);
	RB_INIT(&t->leases);
	if (t->parent)
		t->parent->n_children++;
	RB_INSERT(tenant_tree, &broker->tenants, t);
	*ret = t;
	return 0;
}

static int tenant_create(struct broker *broker, const struct policy_tenant *policy,
			 struct tenant **ret)
{
	const struct policy_tenant *parent = policy_tenant_parent(policy);
	struct tenant *p = parent ? tenant_find(broker, policy_tenant_path(parent)) : NULL;

	assert(!parent || p);
	return tenant_make(broker, policy_tenant_path(policy), p, ret);
}

int tenant_ensure(struct broker *broker, const char *path, struct tenant **ret_tenant)
{
	char part[POLICY_PATH_MAX + 1];
	struct tenant *t = tenant_find(broker, "");
	size_t length = strlen(path);
	int r;

	if (length > POLICY_PATH_MAX)
		return -ENAMETOOLONG;
	for (size_t n = 0; n < length; n++) {
		struct tenant *parent = t;

		n += strcspn(path + n, "/");
		memcpy(part, path, n);
		part[n] = '\0';
		t = tenant_find(broker, part);
		if (t)
			continue;
		r = tenant_make(broker, part, parent, &t);
		if (r)
			return r;
		for (unsigned q = 0; q < _QUOTA_MAX; q++)
			quota_set_limit(&t->quota, q, 0);
	}
	*ret_tenant = t;
	return 0;
}

static bool tenant_is_idle(const struct tenant *t)
{
	return !t->n_children && !t->n_sessions && !t->n_leases && !t->n_charges && !t->n_calls;
}

static void tenant_destroy(struct tenant *t)
{
	assert(tenant_is_idle(t));
	assert(RB_EMPTY(&t->leases));
	if (t->parent)
		t->parent->n_children--;
	RB_REMOVE(tenant_tree, &t->broker->tenants, t);
	quota_node_deinit(&t->quota);
	page_union_deinit(&t->registered);
	page_union_deinit(&t->pinned);
	free(t);
}

void tenant_collect(struct tenant *tenant)
{
	while (tenant && !tenant->policy && tenant_is_idle(tenant)) {
		struct tenant *parent = tenant->parent;

		tenant_destroy(tenant);
		tenant = parent;
	}
}

/* Limits cannot fail; reservations can, where they do not fit into what is used. */
static int tenant_apply(struct tenant *t, const struct policy_tenant *policy,
			struct quota_refusal *ret_refusal)
{
	for (unsigned r = 0; r < _QUOTA_MAX; r++)
		quota_set_limit(&t->quota, r, policy ? policy_tenant_limit(policy, r) : 0);
	t->limits_unset |= t->limits_set != 0;
	t->limits_set = 0;
	for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++) {
		uint64_t reserved = policy ? policy_tenant_reservation(policy, r) : 0;
		int e;

		if (t->quota.reserved[r] == reserved)
			continue;
		e = quota_set_reservation(&t->quota, r, reserved, ret_refusal);
		if (e)
			return e;
	}
	return 0;
}

/* Children before parents, so that a whole branch can go. */
static void tenants_drop_orphans(struct broker *broker)
{
	struct quota_refusal refusal;
	struct tenant *t, *previous;

	for (t = RB_MAX(tenant_tree, &broker->tenants); t; t = previous) {
		previous = RB_PREV(tenant_tree, &broker->tenants, t);
		if (t->policy)
			continue;
		tenant_apply(t, NULL, &refusal);
		if (tenant_is_idle(t))
			tenant_destroy(t);
	}
}

/* Everybody is an orphan without a share until a policy names it. */
static void tenants_detach(struct broker *broker)
{
	struct quota_refusal refusal;

	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		t->policy = NULL;
		for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++)
			if (t->quota.reserved[r])
				quota_set_reservation(&t->quota, r, 0, &refusal);
	}
}

/* The policy that was in force fits: nothing was charged in between. */
static void tenants_restore(struct broker *broker, const struct policy *policy)
{
	struct quota_refusal refusal;

	tenants_detach(broker);
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		t->policy = policy_tenant_find(policy, t->path);
		if (t->policy && tenant_apply(t, t->policy, &refusal))
			broker_log(broker, 4, "tenant %s: a reservation could not be restored",
				   t->path);
	}
	tenants_drop_orphans(broker);
}

int tenants_create(struct broker *broker, const struct policy *policy)
{
	struct quota_refusal refusal;

	for (size_t i = 0; i < policy_n_tenants(policy); i++) {
		const struct policy_tenant *p = policy_tenant_at(policy, i);
		struct tenant *t;
		int e = tenant_create(broker, p, &t);

		if (!e) {
			t->policy = p;
			e = tenant_apply(t, p, &refusal);
		}
		if (e) {
			tenants_destroy(broker);
			return e < 0 ? e : -EINVAL;
		}
	}
	return 0;
}

int tenants_reload(struct broker *broker, const struct policy *policy,
		   struct quota_refusal *ret_refusal)
{
	int e = 0;

	tenants_detach(broker);
	for (size_t i = 0; !e && i < policy_n_tenants(policy); i++) {
		const struct policy_tenant *p = policy_tenant_at(policy, i);
		struct tenant *t = tenant_find(broker, policy_tenant_path(p));

		if (!t)
			e = tenant_create(broker, p, &t);
		if (!e) {
			t->policy = p;
			e = tenant_apply(t, p, ret_refusal);
		}
	}
	if (e) {
		tenants_restore(broker, broker->policy);
		return e;
	}
	tenants_drop_orphans(broker);
	return 0;
}

void tenants_destroy(struct broker *broker)
{
	struct tenant *t, *previous;

	for (t = RB_MAX(tenant_tree, &broker->tenants); t; t = previous) {
		previous = RB_PREV(tenant_tree, &broker->tenants, t);
		tenant_destroy(t);
	}
}
