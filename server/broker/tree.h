/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_TREE_H
#define IOASID_BROKER_TREE_H

/*
 * Ordered trees: libbsd's red-black macros (header only).  TREE_GENERATE makes static
 * functions of which a file may leave some unused.
 */
#include <bsd/sys/tree.h>

#define TREE_GENERATE(name, type, field, compare)                                                  \
	RB_GENERATE_INTERNAL(name, type, field, compare, __attribute__((unused)) static)

/* A safe walk: the current node may be removed. */
#define TREE_FOREACH_SAFE(x, name, head, next)                                                     \
	for ((x) = RB_MIN(name, head); (x) && ((next) = RB_NEXT(name, head, x), 1); (x) = (next))

#endif
