/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PASIDs: what a tenant calls them, and what goes to the device.
 *
 * By the tenant's pasid_policy a guest PASID goes to the device as it is (identity: the guest
 * programs its device by itself), or another one stands for it (translated: one number for all
 * devices of the lease, taken from those of the host, so that no two leases have the same), or
 * none may be attached at all.  The physical number is nobody's business: it is in no answer.
 * A device whose own table has all PASIDs (BindPasidTable) knows the guest's, whatever the policy
 * is: that is for the caller to see (attachment_has_pasid_table()).
 *
 * Owns lease->pasids, one entry for each guest PASID that is attached somewhere in the lease, and
 * the pool.  An entry counts the attachments that use it, so a PASID has one number in a lease
 * until the last of them goes: a reloaded policy is for what comes.  No two entries of a lease
 * have the same number.  SHIM_NO_PASID is itself everywhere.  State thread.
 */
#include "server/broker/pasid.h"

#include <errno.h>
#include <stdlib.h>

/* PCIe: a PASID has 20 bits at most; 0 is left to hardware that means "none" by it. */
#define PASIDS (1u << 20)

struct pasid {
	RB_ENTRY(pasid) node;
	uint32_t guest;
	uint32_t physical;
	bool translated; /* physical is the pool's; else it is the guest's */
	uint32_t uses;
};

struct pasid_pool {
	uint32_t first_free; /* none is free below */
	uint64_t taken[PASIDS / 64];
};

static int pasid_compare(const struct pasid *a, const struct pasid *b)
{
	return a->guest < b->guest ? -1 : a->guest > b->guest;
}

TREE_GENERATE(pasid_tree, pasid, node, pasid_compare)

void pasid_pool_free(struct pasid_pool *pool)
{
	free(pool);
}

static bool pool_is_taken(const struct pasid_pool *pool, uint32_t pasid)
{
	return pool->taken[pasid / 64] & UINT64_C(1) << pasid % 64;
}

static void pool_take(struct pasid_pool *pool, uint32_t pasid)
{
	pool->taken[pasid / 64] |= UINT64_C(1) << pasid % 64;
}

static void pool_put(struct pasid_pool *pool, uint32_t pasid)
{
	pool->taken[pasid / 64] &= ~(UINT64_C(1) << pasid % 64);
	if (pasid < pool->first_free)
		pool->first_free = pasid;
}

static int pool_get(struct broker *broker, struct pasid_pool **ret_pool)
{
	if (!broker->pasids) {
		broker->pasids = calloc(1, sizeof(*broker->pasids));
		if (!broker->pasids)
			return -ENOMEM;
		broker->pasids->first_free = 1;
	}
	*ret_pool = broker->pasids;
	return 0;
}

static struct pasid *find(const struct lease *lease, uint32_t guest)
{
	struct pasid key = {.guest = guest};

	return RB_FIND(pasid_tree, &((struct lease *)lease)->pasids, &key);
}

/* It goes to devices of the lease as it is. */
static bool is_untranslated(const struct lease *lease, uint32_t pasid)
{
	const struct pasid *p = find(lease, pasid);

	return p && !p->translated;
}

/* The lowest that is free, and that this lease does not use as its own; PASIDS: none. */
static uint32_t pool_find(struct pasid_pool *pool, const struct lease *lease)
{
	uint32_t pasid = pool->first_free;

	while (pasid < PASIDS && pool_is_taken(pool, pasid))
		pasid++;
	pool->first_free = pasid;
	while (pasid < PASIDS && (pool_is_taken(pool, pasid) || is_untranslated(lease, pasid)))
		pasid++;
	return pasid;
}

/* pool: where the number is from; NULL: it is the guest's. */
static int entry_new(struct lease *lease, struct pasid_pool *pool, uint32_t guest,
		     uint32_t physical)
{
	struct pasid *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct pasid){.guest = guest, .physical = physical, .translated = pool, .uses = 1};
	RB_INSERT(pasid_tree, &lease->pasids, p);
	if (pool)
		pool_take(pool, physical);
	return 0;
}

static int refuse_width(struct broker_call *call, const struct device *device)
{
	return refuse_precondition(call, OUTCOME_INCOMPATIBLE, device->info->address,
				   "no translated PASID is left that fits its %u bits",
				   device->info->caps.pasid_bits);
}

/* One more attachment of what is attached already. */
static int use_again(struct broker_call *call, const struct device *device, struct pasid *p,
		     uint32_t *ret_physical)
{
	if (p->physical >> device->info->caps.pasid_bits)
		return refuse_width(call, device);
	p->uses++;
	*ret_physical = p->physical;
	return OUTCOME_OK;
}

static int translate(struct broker_call *call, const struct device *device, uint32_t guest,
		     uint32_t *ret_physical)
{
	struct pasid_pool *pool;
	uint32_t physical;

	if (pool_get(call->broker, &pool))
		return refuse_no_memory(call);
	physical = pool_find(pool, call->lease);
	if (physical >> device->info->caps.pasid_bits)
		return refuse_width(call, device);
	if (entry_new(call->lease, pool, guest, physical))
		return refuse_no_memory(call);
	*ret_physical = physical;
	return OUTCOME_OK;
}

/* Stands for another of the lease, which was attached under another policy. */
static bool is_in_the_way(const struct lease *lease, uint32_t guest)
{
	return pasid_guest(lease, guest) != guest;
}

static int take_as_it_is(struct broker_call *call, const struct device *device, uint32_t guest,
			 uint32_t *ret_physical)
{
	if (is_in_the_way(call->lease, guest))
		return refuse_precondition(call, OUTCOME_WRONG_STATE, device->info->address,
					   "not while PASIDs of the lease are attached by another "
					   "pasid_policy");
	if (entry_new(call->lease, NULL, guest, guest))
		return refuse_no_memory(call);
	*ret_physical = guest;
	return OUTCOME_OK;
}

int pasid_take(struct broker_call *call, const struct device *device, uint32_t guest,
	       uint32_t *ret_physical)
{
	struct policy_verdict verdict;
	struct pasid *p;

	if (guest == SHIM_NO_PASID) {
		*ret_physical = guest;
		return OUTCOME_OK;
	}
	if (!call->tenant->policy)
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "the tenant is no longer in the policy");
	p = find(call->lease, guest);
	switch (policy_pasid_policy(call->tenant->policy, &verdict)) {
	case POLICY_PASID_NONE:
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "pasid: policy of %s allows none (%s)",
			      verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
	case POLICY_PASID_TRANSLATED:
		return p ? use_again(call, device, p, ret_physical)
			 : translate(call, device, guest, ret_physical);
	case POLICY_PASID_IDENTITY:
		break;
	}
	return p ? use_again(call, device, p, ret_physical)
		 : take_as_it_is(call, device, guest, ret_physical);
}

int pasid_restore(struct lease *lease, uint32_t guest, uint32_t physical, bool translated)
{
	struct pasid *p = find(lease, guest);
	struct pasid_pool *pool;
	int r;

	if (guest == SHIM_NO_PASID && !translated)
		return 0;
	if (guest == SHIM_NO_PASID || physical == 0 || physical >= PASIDS ||
	    (p && (p->physical != physical || p->translated != translated)))
		return -EPROTO;
	if (p) {
		p->uses++;
		return 0;
	}
	if (!translated)
		return entry_new(lease, NULL, guest, physical);
	r = pool_get(lease->broker, &pool);
	if (r)
		return r;
	if (pool_is_taken(pool, physical))
		return -EPROTO;
	return entry_new(lease, pool, guest, physical);
}

void pasid_put(struct lease *lease, uint32_t guest)
{
	struct pasid *p = guest == SHIM_NO_PASID ? NULL : find(lease, guest);

	if (!p || --p->uses)
		return;
	if (p->translated)
		pool_put(lease->broker->pasids, p->physical);
	RB_REMOVE(pasid_tree, &lease->pasids, p);
	free(p);
}

bool pasid_is_translated(const struct lease *lease, uint32_t guest)
{
	const struct pasid *p = guest == SHIM_NO_PASID ? NULL : find(lease, guest);

	return p && p->translated;
}

uint32_t pasid_physical(const struct lease *lease, uint32_t guest)
{
	const struct pasid *p = guest == SHIM_NO_PASID ? NULL : find(lease, guest);

	return p ? p->physical : guest;
}

bool pasid_is_hidden(const struct lease *lease, uint32_t guest)
{
	return guest != SHIM_NO_PASID && !find(lease, guest) && pasid_guest(lease, guest) != guest;
}

uint32_t pasid_guest(const struct lease *lease, uint32_t physical)
{
	const struct pasid_pool *pool = lease->broker->pasids;
	struct pasid *p;

	/* Few are translated, mostly, and all are to be looked through. */
	if (physical >= PASIDS || !pool || !pool_is_taken(pool, physical) ||
	    is_untranslated(lease, physical))
		return physical;
	RB_FOREACH(p, pasid_tree, &((struct lease *)lease)->pasids)
	if (p->translated && p->physical == physical)
		return p->guest;
	return physical;
}
