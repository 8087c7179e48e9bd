/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Charges as members of objects.  The arithmetic is policy/quota.c's; this file ties an
 * amount to its owner so that it is given back to the one that was charged, exactly once.
 * State thread only.
 */
#include "server/broker/charge.h"

#include "server/broker/fault_point.h"
#include "server/broker/state.h"

#include <assert.h>
#include <string.h>

/* What an earlier broker granted is counted whatever the limits are by now. */
static int charge_quota(struct tenant *tenant, const struct quota_amount *amounts, size_t n,
			struct quota_refusal *ret_refusal)
{
	if (!tenant->broker->restoring)
		return quota_charge(&tenant->quota, amounts, n, ret_refusal);
	return quota_charge_existing(&tenant->quota, amounts, n) ? -EOVERFLOW : 0;
}

int charge_take(struct charge *charge, struct tenant *tenant, const struct quota_amount *amounts,
		size_t n, struct quota_refusal *ret_refusal)
{
	int r;

	assert(!charge->tenant && n <= CHARGE_AMOUNTS_MAX);
	tenant->broker->charge_changes++;
	r = charge_quota(tenant, amounts, n, ret_refusal);
	if (r)
		return r;
	memcpy(charge->amounts, amounts, n * sizeof(*amounts));
	charge->n = n;
	charge->tenant = tenant;
	tenant->n_charges++;
	FAULT_POINT_HERE("charge");
	return 0;
}

int charge_check(struct tenant *tenant, const struct quota_amount *amounts, size_t n,
		 struct quota_refusal *ret_refusal)
{
	/* A charge that does not fit has no effect but to be counted. */
	if (quota_probe(&tenant->quota, amounts, n, ret_refusal))
		return quota_charge(&tenant->quota, amounts, n, ret_refusal);
	return 0;
}

int charge_probe(struct tenant *tenant, const struct quota_amount *amounts, size_t n)
{
	return tenant->broker->restoring ? 0 : quota_probe(&tenant->quota, amounts, n, NULL);
}

static struct quota_amount *charge_amount(struct charge *charge, enum quota_resource r)
{
	for (uint32_t i = 0; i < charge->n; i++)
		if (charge->amounts[i].resource == r)
			return &charge->amounts[i];
	assert(!"a charge grows only in what it has");
	return NULL;
}

int charge_grow(struct charge *charge, enum quota_resource r, uint64_t by,
		struct quota_refusal *ret_refusal)
{
	struct quota_amount more = {.resource = r, .amount = by};
	struct quota_amount *a = charge_amount(charge, r);
	int e = charge_quota(charge->tenant, &more, 1, ret_refusal);

	if (!e)
		a->amount += by;
	charge->tenant->broker->charge_changes++;
	return e;
}

void charge_shrink(struct charge *charge, enum quota_resource r, uint64_t by)
{
	struct quota_amount less = {.resource = r, .amount = by};
	struct quota_amount *a = charge_amount(charge, r);

	assert(a->amount >= by);
	a->amount -= by;
	charge->tenant->broker->charge_changes++;
	quota_uncharge(&charge->tenant->quota, &less, 1);
}

void charge_release(struct charge *charge)
{
	struct tenant *tenant = charge->tenant;

	if (!tenant)
		return;
	quota_uncharge(&tenant->quota, charge->amounts, charge->n);
	tenant->broker->charge_changes++;
	charge->tenant = NULL;
	charge->n = 0;
	tenant->n_charges--;
	tenant_collect(tenant);
}

void charge_move(struct charge *to, struct charge *from)
{
	assert(!to->tenant);
	*to = *from;
	from->tenant = NULL;
	from->n = 0;
}

static struct page_union *page_union_of(struct tenant *tenant, enum quota_resource r)
{
	assert(r == QUOTA_REGISTERED_BYTES || r == QUOTA_PINNED_BYTES);
	return r == QUOTA_REGISTERED_BYTES ? &tenant->registered : &tenant->pinned;
}

int page_charge_take(struct page_charge *charge, struct tenant *tenant, enum quota_resource r,
		     struct page_key key, uint64_t start, uint64_t end,
		     struct quota_refusal *ret_refusal)
{
	struct page_union *u = page_union_of(tenant, r);
	struct quota_amount amount = {.resource = r};
	int e;

	assert(!charge->tenant);
	tenant->broker->charge_changes++;
	e = page_union_add(u, key, start, end, &amount.amount);
	if (e)
		return e;
	e = charge_quota(tenant, &amount, 1, ret_refusal);
	if (e) {
		page_union_remove(u, key, start, end);
		return e;
	}
	*charge = (struct page_charge){.tenant = tenant, .key = key, .start = start, .end = end};
	tenant->n_charges++;
	return 0;
}

void page_charge_release(struct page_charge *charge, enum quota_resource r)
{
	struct tenant *tenant = charge->tenant;
	struct quota_amount amount = {.resource = r};

	if (!tenant)
		return;
	amount.amount = page_union_remove(page_union_of(tenant, r), charge->key, charge->start,
					  charge->end);
	quota_uncharge(&tenant->quota, &amount, 1);
	tenant->broker->charge_changes++;
	charge->tenant = NULL;
	tenant->n_charges--;
	tenant_collect(tenant);
}
