/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_PASID_CACHE_H
#define IOASID_SOFT_PASID_CACHE_H

/*
 * The PASID cache of an IOMMU (VT-d's PASID cache, SMMUv3's configuration cache, RISC-V's process
 * directory cache): entries of PASID tables that tenants write, as they were read.  It knows
 * nothing of tables: an entry stays until another takes its place or it is dropped, however the
 * table changes.
 *
 * A tag names one table in one state and is never used twice (iotlb.h), so a new tag drops all.
 *
 * Any thread.  A set is a cache line with a sequence count: look-ups write nothing and never
 * wait; an insertion that finds the set busy is dropped.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The words of an entry that its format looks at. */
#define SOFT_PASID_WORDS 3

struct soft_pasid_entry {
	uint64_t words[SOFT_PASID_WORDS];
};

struct soft_pasid_set {
	uint64_t sequence; /* odd: being written */
	uint64_t tag;	   /* 0: empty */
	uint64_t pasid;
	uint64_t words[SOFT_PASID_WORDS];
} __attribute__((aligned(64)));

struct soft_pasid_cache {
	struct soft_pasid_set *sets;
	uint32_t mask; /* sets - 1 */
};

/* entries: a power of two.  -ENOMEM. */
int soft_pasid_cache_init(struct soft_pasid_cache *cache, size_t entries);
void soft_pasid_cache_deinit(struct soft_pasid_cache *cache);

bool soft_pasid_cache_lookup(const struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid,
			     struct soft_pasid_entry *ret_entry);
void soft_pasid_cache_put(struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid,
			  const struct soft_pasid_entry *entry);
/* One PASID's entry. */
void soft_pasid_cache_drop(struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid);

#endif
