/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_QUOTA_H
#define IOASID_POLICY_QUOTA_H

/*
 * Quota arithmetic: the tree of limits, reservations and use.  Pure: no I/O, no clock, no
 * allocation, no lock; one thread owns a tree.
 *
 * Model.  For every counted resource and every node n:
 *
 *     need(n) = own(n) + sum over children c of max(need(c), reserved(c))  <=  limit(n)
 *
 * own(n) is what objects of this very tenant are charged.  A reservation is a share of the
 * parent's limit that is set aside for the child whether used or not.  A charge of delta at
 * n raises need(n) by delta; the parent sees the growth of max(need(n), reserved(n)) only,
 * so that a charge inside a reservation stops there.
 *
 * Invariants.  need(n) is kept, not recomputed, and equals the formula at all times.  A
 * charge is all or nothing over every resource and every ancestor.  A limit below need is
 * legal: it blocks growth and takes nothing back.  Uncharging never fails.  Sums never
 * overflow: what would is refused as over the limit.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Counted resources first; then ceilings (a structural maximum, the least of the chain
 * holds); then rates (tokens per second, every node of the chain has a bucket).
 */
enum quota_resource {
	QUOTA_IOASIDS,
	QUOTA_IOASIDS_KERNEL,
	QUOTA_IOASIDS_USER,
	QUOTA_IOASIDS_PROCESS,
	QUOTA_IOASIDS_KVM,
	QUOTA_PASIDS,
	QUOTA_DEVICES,
	QUOTA_MAP_ENTRIES,
	QUOTA_REGISTERED_BYTES,
	QUOTA_MAPPED_BYTES,
	QUOTA_PINNED_BYTES,
	QUOTA_VMS,
	QUOTA_LEASES,
	QUOTA_CONNECTIONS,
	QUOTA_WATCH_STREAMS,
	QUOTA_FAULT_SLOTS,
	QUOTA_REQUESTS_IN_FLIGHT,
	QUOTA_KEPT_FDS,
	QUOTA_BROKER_BYTES,
	_QUOTA_COUNTED_MAX,

	QUOTA_NESTING_DEPTH = _QUOTA_COUNTED_MAX,
	QUOTA_CHILDREN_PER_PARENT,
	_QUOTA_CEILING_MAX,

	QUOTA_CALLS_PER_SECOND = _QUOTA_CEILING_MAX,
	QUOTA_INVALIDATIONS_PER_SECOND,
	_QUOTA_MAX,
};

#define QUOTA_UNLIMITED UINT64_MAX

/* Name as in policy files and the API ("map_entries"); NULL for a number out of range. */
const char *quota_resource_name(enum quota_resource r);
/* -EINVAL: no such name. */
int quota_resource_from_name(const char *name, enum quota_resource *ret);
/* Counted in bytes: policy files and people write it with K, M, G or T. */
bool quota_resource_is_bytes(enum quota_resource r);

/* Node of the tree; embedded in the owner's tenant object. */
struct quota_node {
	struct quota_node *parent;
	uint64_t limit[_QUOTA_MAX];
	uint64_t reserved[_QUOTA_COUNTED_MAX];
	uint64_t own[_QUOTA_COUNTED_MAX];
	uint64_t charged[_QUOTA_COUNTED_MAX]; /* own, and charged of the children; <= need */
	uint64_t need[_QUOTA_COUNTED_MAX];
	uint64_t peak[_QUOTA_COUNTED_MAX];  /* highest need */
	uint64_t refused_local[_QUOTA_MAX]; /* by this node's limit, for a charge at it or below */
	uint64_t refused[_QUOTA_MAX];	    /* charges at this node refused by any of the chain */
	/*
	 * Token buckets of the rates: tokens in thousandths, the rest in thousandths of that,
	 * time of the last refill in us.
	 */
	uint64_t bucket_milli[_QUOTA_MAX - _QUOTA_CEILING_MAX];
	uint64_t bucket_rest[_QUOTA_MAX - _QUOTA_CEILING_MAX];
	uint64_t bucket_time_us[_QUOTA_MAX - _QUOTA_CEILING_MAX];
};

/* One amount of one resource. */
struct quota_amount {
	enum quota_resource resource;
	uint64_t amount;
};

/* Who refused, what, and by how much; numbers are the refusing node's. */
struct quota_refusal {
	const struct quota_node *node;
	enum quota_resource resource;
	uint64_t limit;
	uint64_t used; /* need at that node; of a rate, tokens taken within the last second */
	uint64_t requested;
	uint64_t retry_after_us; /* rates only; UINT64_MAX: never, the rate is 0 */
};

enum quota_error {
	QUOTA_E_REFUSED = 1,
};

/*
 * Nothing used, every limit QUOTA_UNLIMITED, nothing reserved, buckets full.  parent may be
 * NULL and outlives the node.
 */
void quota_node_init(struct quota_node *node, struct quota_node *parent);
/* Asserts that own and need are zero and takes the reservations back from the parent. */
void quota_node_deinit(struct quota_node *node);
/* True if nothing is charged at or below. */
bool quota_node_is_idle(const struct quota_node *node);

/*
 * Charges every amount at node and up the chain, or none.  The same resource may occur
 * more than once; requested of a refusal is then the sum.  QUOTA_E_REFUSED: *ret_refusal
 * (may be NULL) says which; counters of refusals moved, nothing else.  Named is the first
 * resource in the order of amounts that does not fit, and the node nearest to the tenant
 * that refuses it.  Only counted resources.
 */
int quota_charge(struct quota_node *node, const struct quota_amount *amounts, size_t n,
		 struct quota_refusal *ret_refusal);
/*
 * As quota_charge(), whatever the limits are: for what exists already, when counters are set
 * up again.  QUOTA_E_REFUSED: a sum beyond 2^64 - 1; nothing changed.
 */
int quota_charge_existing(struct quota_node *node, const struct quota_amount *amounts, size_t n);
/* As quota_charge(), without any effect. */
int quota_probe(const struct quota_node *node, const struct quota_amount *amounts, size_t n,
		struct quota_refusal *ret_refusal);
/* Gives back what was charged at node.  Asserts that it was. */
void quota_uncharge(struct quota_node *node, const struct quota_amount *amounts, size_t n);

/* Least limit of the chain for a ceiling; *ret_node (may be NULL) is who sets it. */
uint64_t quota_ceiling(const struct quota_node *node, enum quota_resource r,
		       const struct quota_node **ret_node);
/*
 * QUOTA_E_REFUSED: value is above the ceiling; counted like a refused charge.  used of the
 * refusal is 0.
 */
int quota_ceiling_check(struct quota_node *node, enum quota_resource r, uint64_t value,
			struct quota_refusal *ret_refusal);

/*
 * Takes up to want tokens of a rate at time now_us (monotonic): the same number from every
 * bucket of the chain.  Returns how many were given (0 to want); if fewer, *ret_refusal
 * tells who and when the next one fits.  A bucket holds one second's worth.
 */
uint64_t quota_rate_take(struct quota_node *node, enum quota_resource r, uint64_t want,
			 uint64_t now_us, struct quota_refusal *ret_refusal);

/* A limit may be set below need. */
void quota_set_limit(struct quota_node *node, enum quota_resource r, uint64_t limit);
/*
 * The parent's need changes with it.  QUOTA_E_REFUSED: raising it does not fit under an
 * ancestor's limit; nothing changed.
 */
int quota_set_reservation(struct quota_node *node, enum quota_resource r, uint64_t reserved,
			  struct quota_refusal *ret_refusal);

#endif
