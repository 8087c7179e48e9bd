/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node at a time: the best one gives all it has (or all that is needed), then the question
 * is asked again.  Ids of no known node count as a node of their own.
 */
#include "prefer.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

enum {
	NOT_ASKED,
	AVAILABLE,
	CHOSEN,
};

struct question {
	const struct inventory_resource *resource;
	/* For each id of the resource. */
	uint8_t *states;
	size_t needed;
	size_t n_chosen;
	const struct inventory_id **chosen;
};

static void choose(struct question *q, size_t index)
{
	q->states[index] = CHOSEN;
	q->chosen[q->n_chosen++] = &q->resource->ids[index];
	q->needed--;
}

static size_t count(const struct question *q, int32_t node, uint8_t state)
{
	size_t n = 0;

	for (size_t i = 0; i < q->resource->n_ids; i++)
		n += q->states[i] == state && q->resource->ids[i].numa_node == node;
	return n;
}

/* Is node a, which has `a_free` ids, to be taken before b? */
static bool is_better(const struct question *q, int32_t a, size_t a_free, int32_t b, size_t b_free)
{
	size_t a_has = count(q, a, CHOSEN), b_has = count(q, b, CHOSEN);

	if (a_has != b_has)
		return a_has > b_has;
	if ((a_free >= q->needed) != (b_free >= q->needed))
		return a_free >= q->needed;
	if (a_free != b_free)
		return a_free >= q->needed ? a_free < b_free : a_free > b_free;
	/* An unknown node is -1 and comes last. */
	return (uint32_t)a < (uint32_t)b;
}

/* There is an available id. */
static int32_t best_node(const struct question *q)
{
	int32_t best = -1, last = INT32_MIN;
	size_t best_free = 0;

	for (size_t i = 0; i < q->resource->n_ids; i++) {
		int32_t node = q->resource->ids[i].numa_node;
		size_t n;

		if (q->states[i] != AVAILABLE || node == last)
			continue;
		last = node;
		n = count(q, node, AVAILABLE);
		if (!best_free || (node != best && is_better(q, node, n, best, best_free))) {
			best = node;
			best_free = n;
		}
	}
	return best;
}

static int index_of(const struct inventory_resource *resource, const char *name, size_t *ret_index)
{
	const struct inventory_id *id = inventory_find(resource, name);

	if (!id)
		return PREFER_E_UNKNOWN;
	*ret_index = id - resource->ids;
	return 0;
}

static int ask(struct question *q, char *const *available, size_t n_available,
	       char *const *must_include, size_t n_must_include)
{
	size_t index;

	for (size_t i = 0; i < n_available; i++) {
		if (index_of(q->resource, available[i], &index) || q->states[index])
			return PREFER_E_UNKNOWN;
		q->states[index] = AVAILABLE;
	}
	if (q->needed > n_available || q->needed < n_must_include)
		return PREFER_E_COUNT;
	for (size_t i = 0; i < n_must_include; i++) {
		if (index_of(q->resource, must_include[i], &index) || q->states[index] != AVAILABLE)
			return PREFER_E_UNKNOWN;
		choose(q, index);
	}
	while (q->needed) {
		int32_t node = best_node(q);

		for (size_t i = 0; i < q->resource->n_ids && q->needed; i++)
			if (q->states[i] == AVAILABLE && q->resource->ids[i].numa_node == node)
				choose(q, i);
	}
	return 0;
}

int prefer(const struct inventory_resource *resource, char *const *available, size_t n_available,
	   char *const *must_include, size_t n_must_include, size_t size,
	   const struct inventory_id **ret_chosen)
{
	struct question q = {.resource = resource, .needed = size, .chosen = ret_chosen};
	int r;

	q.states = calloc(resource->n_ids + 1, 1);
	if (!q.states)
		return -ENOMEM;
	r = ask(&q, available, n_available, must_include, n_must_include);
	free(q.states);
	return r;
}
