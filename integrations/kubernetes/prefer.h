/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_PREFER_H
#define KUBERNETES_PREFER_H

/*
 * Which of the ids that are free a container had best: few NUMA nodes, beginning with those of
 * what it must have; a node that just suffices before a larger one; then by name.  The same
 * question always has the same answer.  Pure (any thread).
 */

#include "inventory.h"

enum prefer_error {
	/* An id that the resource does not have, or one twice. */
	PREFER_E_UNKNOWN = 1,
	/* More than available, or fewer than must be included. */
	PREFER_E_COUNT = 2,
};

/* ret_chosen: room for `size` of them; pointers into the resource. */
int prefer(const struct inventory_resource *resource, char *const *available, size_t n_available,
	   char *const *must_include, size_t n_must_include, size_t size,
	   const struct inventory_id **ret_chosen);

#endif
