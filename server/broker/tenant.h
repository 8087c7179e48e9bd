/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_TENANT_H
#define IOASID_BROKER_TENANT_H

#include "policy/policy.h"
#include "policy/quota.h"
#include "server/broker/page_union.h"
#include "server/broker/tree.h"

#include <stdbool.h>
#include <sys/queue.h>

struct broker;
struct lease;

RB_HEAD(lease_name_tree, lease);
RB_HEAD(tenant_tree, tenant);

/*
 * The live side of a tenant of the policy: counters and leases.  Exists while the policy
 * has it, anything is charged to it or below, or a call acts for it.
 */
struct tenant {
	RB_ENTRY(tenant) node; /* broker->tenants, by path */
	struct broker *broker;
	struct tenant *parent;		    /* NULL: the host */
	const struct policy_tenant *policy; /* NULL: orphaned, no longer in the policy */
	struct quota_node quota;
	struct page_union registered;
	struct page_union pinned;
	struct lease_name_tree leases; /* named ones */
	unsigned n_children;
	unsigned n_sessions;
	unsigned n_leases;
	uint64_t n_charges; /* charges that name this tenant */
	uint64_t n_calls;   /* calls under way that act for it; an agent's watch has nothing else */
	size_t check_index; /* of rpc_check.c, during one pass */
	bool draining;	    /* by an admin */
	bool closes_leases; /* ... who ended its leases with it */
	/* Limits that SetLimits gave it since the policy was loaded; bit n: quota resource n. */
	uint32_t limits_set;
	bool limits_unset; /* by a policy that was loaded, and not written yet */
	char path[];
};

/* Every tenant of a policy, parents first.  -ENOMEM: nothing is left behind. */
int tenants_create(struct broker *broker, const struct policy *policy);
/*
 * Takes over limits, reservations and membership from a new policy.  On failure nothing
 * has changed: -ENOMEM, or QUOTA_E_REFUSED with the reservation that does not fit.
 */
int tenants_reload(struct broker *broker, const struct policy *policy,
		   struct quota_refusal *ret_refusal);
/* Every tenant must be idle. */
void tenants_destroy(struct broker *broker);
struct tenant *tenant_find(struct broker *broker, const char *path);
/*
 * The tenant of that path; made, and its ancestors, as orphans, if the policy has it no more.
 * -ENOMEM.
 */
int tenant_ensure(struct broker *broker, const char *path, struct tenant **ret_tenant);
/* First and next in order of path; NULL: the end. */
struct tenant *tenant_first(struct broker *broker);
struct tenant *tenant_next(struct tenant *tenant);
/* The first tenant whose path is greater than `after`. */
struct tenant *tenant_after(struct broker *broker, const char *after);
/* May new objects be made for it?  False while it, or an ancestor, drains or is orphaned. */
bool tenant_accepts(const struct tenant *tenant);
/* Frees an orphaned tenant that nothing refers to any more, and its parents likewise. */
void tenant_collect(struct tenant *tenant);
/* Is `tenant` at or below `top`? */
bool tenant_is_below(const struct tenant *tenant, const struct tenant *top);

#endif
