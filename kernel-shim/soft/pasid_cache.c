/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See pasid_cache.h.  Writers make the sequence odd, store the fields with release, so that a
 * reader who sees one of them also sees the odd sequence, and make it even again.
 */

#include "soft/pasid_cache.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

int soft_pasid_cache_init(struct soft_pasid_cache *cache, size_t entries)
{
	cache->sets = aligned_alloc(sizeof(*cache->sets), entries * sizeof(*cache->sets));
	if (!cache->sets)
		return -ENOMEM;
	memset(cache->sets, 0, entries * sizeof(*cache->sets));
	cache->mask = (uint32_t)(entries - 1);
	return 0;
}

void soft_pasid_cache_deinit(struct soft_pasid_cache *cache)
{
	free(cache->sets);
	cache->sets = NULL;
}

/* PASIDs of one table lie beside each other, tables apart from each other. */
static struct soft_pasid_set *set_of(const struct soft_pasid_cache *cache, uint64_t tag,
				     uint32_t pasid)
{
	return &cache->sets[(pasid + tag * 0x9e3779b1u) & cache->mask];
}

bool soft_pasid_cache_lookup(const struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid,
			     struct soft_pasid_entry *ret_entry)
{
	const struct soft_pasid_set *set = set_of(cache, tag, pasid);
	uint64_t sequence = __atomic_load_n(&set->sequence, __ATOMIC_ACQUIRE);
	struct soft_pasid_entry entry;

	/* Acquire: the sequence is read again only after these. */
	if ((sequence & 1) || __atomic_load_n(&set->tag, __ATOMIC_ACQUIRE) != tag ||
	    __atomic_load_n(&set->pasid, __ATOMIC_ACQUIRE) != pasid)
		return false;
	for (unsigned int i = 0; i < SOFT_PASID_WORDS; i++)
		entry.words[i] = __atomic_load_n(&set->words[i], __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&set->sequence, __ATOMIC_RELAXED) != sequence)
		return false;
	*ret_entry = entry;
	return true;
}

static bool set_try_lock(struct soft_pasid_set *set, uint64_t *ret_sequence)
{
	uint64_t sequence = __atomic_load_n(&set->sequence, __ATOMIC_RELAXED);

	*ret_sequence = sequence + 2;
	return !(sequence & 1) &&
	       __atomic_compare_exchange_n(&set->sequence, &sequence, sequence + 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void set_unlock(struct soft_pasid_set *set, uint64_t sequence)
{
	__atomic_store_n(&set->sequence, sequence, __ATOMIC_RELEASE);
}

void soft_pasid_cache_put(struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid,
			  const struct soft_pasid_entry *entry)
{
	struct soft_pasid_set *set = set_of(cache, tag, pasid);
	uint64_t sequence;

	if (!set_try_lock(set, &sequence))
		return;
	__atomic_store_n(&set->tag, tag, __ATOMIC_RELEASE);
	__atomic_store_n(&set->pasid, pasid, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < SOFT_PASID_WORDS; i++)
		__atomic_store_n(&set->words[i], entry->words[i], __ATOMIC_RELEASE);
	set_unlock(set, sequence);
}

void soft_pasid_cache_drop(struct soft_pasid_cache *cache, uint64_t tag, uint32_t pasid)
{
	struct soft_pasid_set *set = set_of(cache, tag, pasid);
	uint64_t sequence;

	while (!set_try_lock(set, &sequence))
		sched_yield();
	if (set->tag == tag && set->pasid == pasid)
		__atomic_store_n(&set->tag, 0, __ATOMIC_RELEASE);
	set_unlock(set, sequence);
}
