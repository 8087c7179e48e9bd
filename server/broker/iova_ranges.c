/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of IOVA that may be mapped.  Owns the shared sets; a set is immutable.  State
 * thread only.
 */
#include "server/broker/iova_ranges.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CUTS_MAX 1024

struct cut {
	uint64_t start;
	uint64_t last;
};

static int cut_compare(const void *a, const void *b)
{
	const struct cut *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static size_t ranges_size(size_t n)
{
	return sizeof(struct iova_ranges) + n * sizeof(((struct iova_ranges *)0)->ranges[0]);
}

/* The set that is there already, or this one; takes it over. */
static struct iova_ranges *ranges_share(struct broker *broker, struct iova_ranges *r)
{
	struct iova_ranges *other;

	r->refs = 1;
	LIST_FOREACH(other, &broker->ranges, link)
	{
		if (other->n == r->n &&
		    !memcmp(other->ranges, r->ranges, r->n * sizeof(r->ranges[0]))) {
			free(r);
			return iova_ranges_ref(other);
		}
	}
	LIST_INSERT_HEAD(&broker->ranges, r, link);
	return r;
}

int iova_ranges_make(struct broker *broker, uint64_t last, struct device *const *devices,
		     size_t n_devices, struct iova_ranges **ret_ranges)
{
	struct iova_ranges *r;
	struct cut *cuts;
	size_t n_cuts = 0;
	uint64_t next = 0;
	bool more = true;

	for (size_t i = 0; i < n_devices; i++)
		n_cuts += devices[i]->info->caps.n_reserved;
	cuts = calloc(n_cuts ? n_cuts : 1, sizeof(*cuts));
	r = calloc(1, ranges_size(n_cuts + 1));
	if (!cuts || !r) {
		free(cuts);
		free(r);
		return -ENOMEM;
	}
	n_cuts = 0;
	for (size_t i = 0; i < n_devices; i++) {
		const struct shim_caps *caps = &devices[i]->info->caps;

		for (size_t k = 0; k < caps->n_reserved; k++)
			cuts[n_cuts++] =
				(struct cut){caps->reserved[k].start, caps->reserved[k].last};
	}
	qsort(cuts, n_cuts, sizeof(*cuts), cut_compare);
	for (size_t i = 0; i < n_cuts && more; i++) {
		if (cuts[i].start > last)
			break;
		if (cuts[i].start > next) {
			r->ranges[r->n].start = next;
			r->ranges[r->n++].last = cuts[i].start - 1;
		}
		if (cuts[i].last >= next) {
			more = cuts[i].last < last;
			next = cuts[i].last + 1;
		}
	}
	if (more && next <= last) {
		r->ranges[r->n].start = next;
		r->ranges[r->n++].last = last;
	}
	free(cuts);
	*ret_ranges = ranges_share(broker, r);
	return 0;
}

int iova_ranges_intern(struct broker *broker, const uint64_t *pairs, size_t n,
		       struct iova_ranges **ret_ranges)
{
	struct iova_ranges *r = calloc(1, ranges_size(n));

	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		r->ranges[i].start = pairs[2 * i];
		r->ranges[i].last = pairs[2 * i + 1];
	}
	r->n = n;
	*ret_ranges = ranges_share(broker, r);
	return 0;
}

struct iova_ranges *iova_ranges_ref(struct iova_ranges *ranges)
{
	ranges->refs++;
	return ranges;
}

void iova_ranges_unref(struct iova_ranges *ranges)
{
	if (!ranges)
		return;
	assert(ranges->refs);
	if (--ranges->refs)
		return;
	LIST_REMOVE(ranges, link);
	free(ranges);
}

bool iova_ranges_hold(const struct iova_ranges *ranges, uint64_t start, uint64_t length)
{
	for (size_t i = 0; i < ranges->n; i++)
		if (start >= ranges->ranges[i].start && start <= ranges->ranges[i].last)
			return length - 1 <= ranges->ranges[i].last - start;
	return false;
}

bool iova_ranges_touch(const struct iova_ranges *ranges, uint64_t start, uint64_t last)
{
	for (size_t i = 0; i < ranges->n; i++)
		if (start <= ranges->ranges[i].last && last >= ranges->ranges[i].start)
			return true;
	return false;
}
