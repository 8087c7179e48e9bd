/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of quota.h.
 *
 * Owns: need, charged, peak and the counters of every node; nobody else writes them.
 * Never: allocates, reads a clock, takes a lock, recomputes a sum over children.
 *
 * One number travels up the chain.  If need(n) goes from a to b, then what n takes of its
 * parent, share(n) = max(need(n), reserved(n)), goes from max(a, reserved) to
 * max(b, reserved), and that difference is the delta of need(parent).  It never grows on
 * the way, so the walk ends where it becomes 0: a charge inside a reservation is paid.
 * Checking walks the chain and writes nothing; only then applying walks it again.
 *
 * No overflow: need(n) + delta is tested as delta <= UINT64_MAX - need(n), and
 * own <= charged <= need holds by induction over the tree, so need bounds every other sum.
 *
 * A broken invariant (giving back what was never charged) would let a tenant take without
 * paying from then on; it ends the process in every build, asserts compiled in or not.
 */

#include "quota.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUOTA_ASSERT(cond)                                                                         \
	do {                                                                                       \
		if (!(cond))                                                                       \
			quota_bug(__func__, #cond);                                                \
	} while (0)

/*
 * Rates beyond this are held as this: elapsed (at most 1 s = 10^6 us) * rate + fraction
 * stays below 2^64 and no rate that can be measured is affected.
 */
#define QUOTA_RATE_MAX	    UINT64_C(1000000000000)
#define QUOTA_US_PER_S	    UINT64_C(1000000)
#define QUOTA_MILLI	    UINT64_C(1000)
#define QUOTA_MICRO	    UINT64_C(1000000)
#define QUOTA_BUCKET_FULL   UINT64_MAX
#define QUOTA_RATE_INDEX(r) ((r)-_QUOTA_CEILING_MAX)

static const char *const quota_names[_QUOTA_MAX] = {
	[QUOTA_IOASIDS] = "ioasids",
	[QUOTA_IOASIDS_KERNEL] = "ioasids_kernel",
	[QUOTA_IOASIDS_USER] = "ioasids_user",
	[QUOTA_IOASIDS_PROCESS] = "ioasids_process",
	[QUOTA_IOASIDS_KVM] = "ioasids_kvm",
	[QUOTA_PASIDS] = "pasids",
	[QUOTA_DEVICES] = "devices",
	[QUOTA_MAP_ENTRIES] = "map_entries",
	[QUOTA_REGISTERED_BYTES] = "registered_bytes",
	[QUOTA_MAPPED_BYTES] = "mapped_bytes",
	[QUOTA_PINNED_BYTES] = "pinned_bytes",
	[QUOTA_VMS] = "vms",
	[QUOTA_LEASES] = "leases",
	[QUOTA_CONNECTIONS] = "connections",
	[QUOTA_WATCH_STREAMS] = "watch_streams",
	[QUOTA_FAULT_SLOTS] = "fault_slots",
	[QUOTA_REQUESTS_IN_FLIGHT] = "requests_in_flight",
	[QUOTA_KEPT_FDS] = "kept_fds",
	[QUOTA_BROKER_BYTES] = "broker_bytes",
	[QUOTA_NESTING_DEPTH] = "nesting_depth",
	[QUOTA_CHILDREN_PER_PARENT] = "children_per_parent",
	[QUOTA_CALLS_PER_SECOND] = "calls_per_second",
	[QUOTA_INVALIDATIONS_PER_SECOND] = "invalidations_per_second",
};

static _Noreturn void quota_bug(const char *function, const char *condition)
{
	fprintf(stderr, "%s: broken invariant: %s\n", function, condition);
	abort();
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

const char *quota_resource_name(enum quota_resource r)
{
	return (unsigned)r < _QUOTA_MAX ? quota_names[r] : NULL;
}

int quota_resource_from_name(const char *name, enum quota_resource *ret)
{
	for (unsigned r = 0; r < _QUOTA_MAX; r++) {
		if (!strcmp(name, quota_names[r])) {
			*ret = r;
			return 0;
		}
	}
	return -EINVAL;
}

bool quota_resource_is_bytes(enum quota_resource r)
{
	switch (r) {
	case QUOTA_REGISTERED_BYTES:
	case QUOTA_MAPPED_BYTES:
	case QUOTA_PINNED_BYTES:
	case QUOTA_BROKER_BYTES:
		return true;
	default:
		return false;
	}
}

void quota_node_init(struct quota_node *node, struct quota_node *parent)
{
	*node = (struct quota_node){.parent = parent};
	for (unsigned r = 0; r < _QUOTA_MAX; r++)
		node->limit[r] = QUOTA_UNLIMITED;
	for (unsigned r = _QUOTA_CEILING_MAX; r < _QUOTA_MAX; r++)
		node->bucket_milli[QUOTA_RATE_INDEX(r)] = QUOTA_BUCKET_FULL;
}

void quota_node_deinit(struct quota_node *node)
{
	for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++) {
		QUOTA_ASSERT(!node->own[r]);
		QUOTA_ASSERT(!node->charged[r]);
		QUOTA_ASSERT(!node->need[r]);
		(void)quota_set_reservation(node, r, 0, NULL);
	}
	node->parent = NULL;
}

bool quota_node_is_idle(const struct quota_node *node)
{
	for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++)
		if (node->charged[r])
			return false;
	return true;
}

/* What need(parent) changes by when need(node) goes up by delta, which does not overflow. */
static uint64_t share_growth(const struct quota_node *node, unsigned r, uint64_t delta)
{
	uint64_t reserved = node->reserved[r];

	return max_u64(node->need[r] + delta, reserved) - max_u64(node->need[r], reserved);
}

/*
 * Does need of r fit when it grows by delta from node on up?  NULL: yes; else the lowest
 * node at which it does not.  delta is the one that arrived there.
 */
static const struct quota_node *growth_refused_by(const struct quota_node *node, unsigned r,
						  uint64_t delta)
{
	for (; node && delta; node = node->parent) {
		uint64_t need;

		if (__builtin_add_overflow(node->need[r], delta, &need) || need > node->limit[r])
			return node;
		delta = share_growth(node, r, delta);
	}
	return NULL;
}

static void need_grow(struct quota_node *node, unsigned r, uint64_t delta)
{
	for (; node && delta; node = node->parent) {
		uint64_t up = share_growth(node, r, delta);

		node->need[r] += delta;
		node->peak[r] = max_u64(node->peak[r], node->need[r]);
		delta = up;
	}
}

static void need_shrink(struct quota_node *node, unsigned r, uint64_t delta)
{
	for (; node && delta; node = node->parent) {
		QUOTA_ASSERT(node->need[r] >= delta);
		node->need[r] -= delta;
		delta = share_growth(node, r, delta);
	}
}

static void refusal_set(struct quota_refusal *ret, const struct quota_node *node, unsigned r,
			uint64_t requested)
{
	if (!ret)
		return;
	*ret = (struct quota_refusal){
		.node = node,
		.resource = r,
		.limit = node->limit[r],
		.used = node->need[r],
		.requested = requested,
	};
}

int quota_probe(const struct quota_node *node, const struct quota_amount *amounts, size_t n,
		struct quota_refusal *ret_refusal)
{
	uint64_t total[_QUOTA_COUNTED_MAX] = {0};
	bool overflow[_QUOTA_COUNTED_MAX] = {false};

	for (size_t i = 0; i < n; i++) {
		unsigned r = amounts[i].resource;

		QUOTA_ASSERT(r < _QUOTA_COUNTED_MAX);
		if (__builtin_add_overflow(total[r], amounts[i].amount, &total[r])) {
			total[r] = UINT64_MAX;
			overflow[r] = true;
		}
	}
	/* In the order of the request, so that the answer does not depend on the enum. */
	for (size_t i = 0; i < n; i++) {
		unsigned r = amounts[i].resource;
		const struct quota_node *by;

		/* A sum beyond 2^64 - 1 fits no limit, not even an empty unlimited node. */
		by = overflow[r] ? node : growth_refused_by(node, r, total[r]);
		if (by) {
			refusal_set(ret_refusal, by, r, total[r]);
			return QUOTA_E_REFUSED;
		}
	}
	return 0;
}

/* The nodes of a chain are the caller's and writable; a refusal names one of them. */
static void refusal_count(struct quota_node *node, const struct quota_refusal *refusal)
{
	node->refused[refusal->resource]++;
	for (; node; node = node->parent) {
		if (node == refusal->node) {
			node->refused_local[refusal->resource]++;
			return;
		}
	}
	QUOTA_ASSERT(!"the refusing node is in the chain");
}

static void charge_all(struct quota_node *node, const struct quota_amount *amounts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned r = amounts[i].resource;

		node->own[r] += amounts[i].amount;
		for (struct quota_node *up = node; up; up = up->parent)
			up->charged[r] += amounts[i].amount;
		need_grow(node, r, amounts[i].amount);
	}
}

int quota_charge(struct quota_node *node, const struct quota_amount *amounts, size_t n,
		 struct quota_refusal *ret_refusal)
{
	struct quota_refusal refusal;

	if (quota_probe(node, amounts, n, &refusal)) {
		refusal_count(node, &refusal);
		if (ret_refusal)
			*ret_refusal = refusal;
		return QUOTA_E_REFUSED;
	}
	charge_all(node, amounts, n);
	return 0;
}

int quota_charge_existing(struct quota_node *node, const struct quota_amount *amounts, size_t n)
{
	uint64_t total[_QUOTA_COUNTED_MAX] = {0}, sum;

	for (size_t i = 0; i < n; i++) {
		unsigned r = amounts[i].resource;

		QUOTA_ASSERT(r < _QUOTA_COUNTED_MAX);
		if (__builtin_add_overflow(total[r], amounts[i].amount, &total[r]))
			return QUOTA_E_REFUSED;
		/* An ancestor's need grows by no more than the amount. */
		for (const struct quota_node *up = node; up; up = up->parent)
			if (__builtin_add_overflow(up->need[r], total[r], &sum))
				return QUOTA_E_REFUSED;
	}
	charge_all(node, amounts, n);
	return 0;
}

void quota_uncharge(struct quota_node *node, const struct quota_amount *amounts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned r = amounts[i].resource;

		QUOTA_ASSERT(r < _QUOTA_COUNTED_MAX);
		QUOTA_ASSERT(node->own[r] >= amounts[i].amount);
		node->own[r] -= amounts[i].amount;
		for (struct quota_node *up = node; up; up = up->parent) {
			QUOTA_ASSERT(up->charged[r] >= amounts[i].amount);
			up->charged[r] -= amounts[i].amount;
		}
		need_shrink(node, r, amounts[i].amount);
	}
}

uint64_t quota_ceiling(const struct quota_node *node, enum quota_resource r,
		       const struct quota_node **ret_node)
{
	const struct quota_node *by = node;

	QUOTA_ASSERT(r >= _QUOTA_COUNTED_MAX && r < _QUOTA_CEILING_MAX);
	for (const struct quota_node *up = node->parent; up; up = up->parent)
		if (up->limit[r] < by->limit[r])
			by = up;
	if (ret_node)
		*ret_node = by;
	return by->limit[r];
}

int quota_ceiling_check(struct quota_node *node, enum quota_resource r, uint64_t value,
			struct quota_refusal *ret_refusal)
{
	struct quota_refusal refusal;
	const struct quota_node *by;

	if (value <= quota_ceiling(node, r, &by))
		return 0;
	refusal = (struct quota_refusal){
		.node = by,
		.resource = r,
		.limit = by->limit[r],
		.requested = value,
	};
	refusal_count(node, &refusal);
	if (ret_refusal)
		*ret_refusal = refusal;
	return QUOTA_E_REFUSED;
}

static uint64_t bucket_rate(const struct quota_node *node, unsigned r)
{
	return min_u64(node->limit[r], QUOTA_RATE_MAX);
}

/*
 * A rate of L tokens a second adds L micro-tokens each us.  What is less than a milli-token
 * is kept in bucket_rest, so that many small steps give what one large step does.
 */
static void bucket_refill(struct quota_node *node, unsigned r, uint64_t now_us)
{
	unsigned i = QUOTA_RATE_INDEX(r);
	uint64_t rate = bucket_rate(node, r), capacity = rate * QUOTA_MILLI, elapsed, micro;

	if (now_us > node->bucket_time_us[i]) {
		elapsed = min_u64(now_us - node->bucket_time_us[i], QUOTA_US_PER_S);
		node->bucket_time_us[i] = now_us;
		micro = elapsed * rate + node->bucket_rest[i];
		node->bucket_milli[i] = add_saturated(node->bucket_milli[i], micro / QUOTA_MILLI);
		node->bucket_rest[i] = micro % QUOTA_MILLI;
	}
	if (node->bucket_milli[i] >= capacity) {
		node->bucket_milli[i] = capacity;
		node->bucket_rest[i] = 0;
	}
}

/* Time until the bucket holds a whole token; UINT64_MAX: never. */
static uint64_t bucket_wait_us(const struct quota_node *node, unsigned r)
{
	unsigned i = QUOTA_RATE_INDEX(r);
	uint64_t rate = bucket_rate(node, r), missing;

	if (!rate)
		return UINT64_MAX;
	if (node->bucket_milli[i] >= QUOTA_MILLI)
		return 0;
	missing = QUOTA_MICRO - (node->bucket_milli[i] * QUOTA_MILLI + node->bucket_rest[i]);
	return (missing + rate - 1) / rate;
}

uint64_t quota_rate_take(struct quota_node *node, enum quota_resource r, uint64_t want,
			 uint64_t now_us, struct quota_refusal *ret_refusal)
{
	struct quota_refusal refusal = {.resource = r, .requested = want};
	uint64_t given = want;
	unsigned i;

	QUOTA_ASSERT(r >= _QUOTA_CEILING_MAX && r < _QUOTA_MAX);
	i = QUOTA_RATE_INDEX(r);
	for (struct quota_node *up = node; up; up = up->parent) {
		if (up->limit[r] == QUOTA_UNLIMITED)
			continue;
		bucket_refill(up, r, now_us);
		if (up->bucket_milli[i] / QUOTA_MILLI < given) {
			given = up->bucket_milli[i] / QUOTA_MILLI;
			refusal.node = up;
		}
	}
	for (struct quota_node *up = node; up; up = up->parent) {
		if (up->limit[r] == QUOTA_UNLIMITED)
			continue;
		up->bucket_milli[i] -= given * QUOTA_MILLI;
		refusal.retry_after_us = max_u64(refusal.retry_after_us, bucket_wait_us(up, r));
	}
	if (given < want) {
		refusal.limit = refusal.node->limit[r];
		/* A second's worth, less what is left: what the last second took. */
		refusal.used =
			bucket_rate(refusal.node, r) - refusal.node->bucket_milli[i] / QUOTA_MILLI;
		refusal_count(node, &refusal);
		if (ret_refusal)
			*ret_refusal = refusal;
	}
	return given;
}

void quota_set_limit(struct quota_node *node, enum quota_resource r, uint64_t limit)
{
	QUOTA_ASSERT((unsigned)r < _QUOTA_MAX);
	/* An unlimited bucket is not refilled; it is full when a limit comes back. */
	if (r >= _QUOTA_CEILING_MAX && node->limit[r] == QUOTA_UNLIMITED)
		node->bucket_milli[QUOTA_RATE_INDEX(r)] = QUOTA_BUCKET_FULL;
	node->limit[r] = limit;
}

int quota_set_reservation(struct quota_node *node, enum quota_resource r, uint64_t reserved,
			  struct quota_refusal *ret_refusal)
{
	uint64_t before, after;

	QUOTA_ASSERT((unsigned)r < _QUOTA_COUNTED_MAX);
	before = max_u64(node->need[r], node->reserved[r]);
	after = max_u64(node->need[r], reserved);
	if (after > before) {
		const struct quota_node *by;

		by = growth_refused_by(node->parent, r, after - before);
		if (by) {
			refusal_set(ret_refusal, by, r, reserved);
			return QUOTA_E_REFUSED;
		}
		need_grow(node->parent, r, after - before);
	} else {
		need_shrink(node->parent, r, before - after);
	}
	node->reserved[r] = reserved;
	return 0;
}
