/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_NESTING_H
#define IOASID_SOFT_NESTING_H

/*
 * Which formats nest on which: what each architecture's IOMMUs can walk as two stages, and
 * what the software IOMMU walks beyond that.  A constant table; any thread.
 */

#include "shim.h"

/* Bit n: tables of this format can be nested on tables of format n. */
uint32_t soft_nesting_parents(enum shim_format child);

#endif
