/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_CHARGE_H
#define IOASID_BROKER_CHARGE_H

#include "policy/quota.h"
#include "server/broker/page_union.h"

#include <stddef.h>
#include <stdint.h>

struct tenant;

#define CHARGE_AMOUNTS_MAX 4

/*
 * What an object costs its owner; a member of the object that it pays for.  The tenant
 * recorded here is the one that gets it back, whoever the caller is then.  An empty charge
 * is all zero.
 */
struct charge {
	struct tenant *tenant; /* NULL: empty */
	uint32_t n;
	struct quota_amount amounts[CHARGE_AMOUNTS_MAX];
};

/* All or nothing.  QUOTA_E_REFUSED.  The charge must be empty; n <= CHARGE_AMOUNTS_MAX. */
int charge_take(struct charge *charge, struct tenant *tenant, const struct quota_amount *amounts,
		size_t n, struct quota_refusal *ret_refusal);
/* Would it fit?  A refusal is counted as one.  QUOTA_E_REFUSED. */
int charge_check(struct tenant *tenant, const struct quota_amount *amounts, size_t n,
		 struct quota_refusal *ret_refusal);
/* The same, and not counted: for a caller that can make room. */
int charge_probe(struct tenant *tenant, const struct quota_amount *amounts, size_t n);
/* Adds to one of the amounts of a charge.  QUOTA_E_REFUSED: nothing changed. */
int charge_grow(struct charge *charge, enum quota_resource r, uint64_t by,
		struct quota_refusal *ret_refusal);
void charge_shrink(struct charge *charge, enum quota_resource r, uint64_t by);
/* Gives everything back; empty afterwards.  Fine on an empty charge. */
void charge_release(struct charge *charge);

/* `from` is empty afterwards; `to` must be. */
void charge_move(struct charge *to, struct charge *from);

/* A range of a file in one of a tenant's unions; charged as far as the union grew. */
struct page_charge {
	struct tenant *tenant; /* NULL: empty */
	struct page_key key;
	uint64_t start;
	uint64_t end;
};
/* r: QUOTA_REGISTERED_BYTES or QUOTA_PINNED_BYTES.  QUOTA_E_REFUSED, -ENOMEM. */
int page_charge_take(struct page_charge *charge, struct tenant *tenant, enum quota_resource r,
		     struct page_key key, uint64_t start, uint64_t end,
		     struct quota_refusal *ret_refusal);
void page_charge_release(struct page_charge *charge, enum quota_resource r);

#endif
