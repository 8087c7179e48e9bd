/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See iotlb.h.  Writers of a set: the sequence is made odd, the fields are stored, each
 * with release so that a reader who sees one of them also sees the odd sequence, then the
 * sequence is made even again with release.
 */

#include "soft/iotlb.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

int soft_iotlb_init(struct soft_iotlb *iotlb, size_t entries)
{
	size_t sets = 2;

	while (sets * SOFT_IOTLB_WAYS < entries)
		sets *= 2;
	iotlb->sets = aligned_alloc(sizeof(*iotlb->sets), sets * sizeof(*iotlb->sets));
	if (!iotlb->sets)
		return -ENOMEM;
	memset(iotlb->sets, 0, sets * sizeof(*iotlb->sets));
	iotlb->mask = (uint32_t)(sets - 1);
	iotlb->sizes = 0;
	return 0;
}

void soft_iotlb_deinit(struct soft_iotlb *iotlb)
{
	free(iotlb->sets);
	iotlb->sets = NULL;
}

static bool set_try_lock(struct soft_iotlb_set *set, uint64_t *ret_sequence)
{
	uint64_t sequence = __atomic_load_n(&set->sequence, __ATOMIC_RELAXED);

	*ret_sequence = sequence + 2;
	return !(sequence & 1) &&
	       __atomic_compare_exchange_n(&set->sequence, &sequence, sequence + 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void set_unlock(struct soft_iotlb_set *set, uint64_t sequence)
{
	__atomic_store_n(&set->sequence, sequence, __ATOMIC_RELEASE);
}

static void way_set(struct soft_iotlb_way *way, uint64_t tag, uint64_t key, uint64_t value)
{
	__atomic_store_n(&way->tag, tag, __ATOMIC_RELEASE);
	__atomic_store_n(&way->key, key, __ATOMIC_RELEASE);
	__atomic_store_n(&way->value, value, __ATOMIC_RELEASE);
}

void soft_iotlb_put(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t address,
		    enum soft_iotlb_size size, uint64_t output, uint32_t prot)
{
	uint64_t page = address >> soft_iotlb_shift(size), sequence;
	uint64_t key = soft_iotlb_key(page, who, size);
	struct soft_iotlb_set *set = soft_iotlb_set(iotlb, tag, page, size);
	unsigned int i;

	if (!set_try_lock(set, &sequence))
		return;
	for (i = 0; i < SOFT_IOTLB_WAYS; i++)
		if (set->ways[i].tag == tag && set->ways[i].key == key &&
		    set->ways[i].value >> 52 == who >> 9)
			break;
	if (i == SOFT_IOTLB_WAYS) {
		i = (unsigned int)set->victim;
		set->victim = (i + 1) % SOFT_IOTLB_WAYS;
	}
	way_set(&set->ways[i], tag, key, soft_iotlb_value(output, who, prot));
	set_unlock(set, sequence);
	if (!(__atomic_load_n(&iotlb->sizes, __ATOMIC_RELAXED) & (1u << size)))
		__atomic_fetch_or(&iotlb->sizes, 1u << size, __ATOMIC_RELAXED);
}

void soft_iotlb_insert(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t address,
		       uint64_t output, uint64_t page_size, uint32_t prot)
{
	enum soft_iotlb_size size = SOFT_IOTLB_1G;

	while (size > 0 && 1ull << soft_iotlb_shift(size) > page_size)
		size--;
	output &= ~((1ull << soft_iotlb_shift(size)) - 1);
	soft_iotlb_put(iotlb, tag, who, address, size, output, prot);
}

static uint64_t set_lock(struct soft_iotlb_set *set)
{
	uint64_t sequence;

	while (!set_try_lock(set, &sequence))
		sched_yield();
	return sequence;
}

static bool way_hits(const struct soft_iotlb_way *way, uint64_t tag, uint32_t who, uint64_t first,
		     uint64_t last)
{
	unsigned int shift;
	uint64_t page;

	if (way->tag != tag)
		return false;
	if (who != SOFT_WHO_ALL &&
	    ((way->key >> 3 & 0x1ff) != (who & 0x1ff) || way->value >> 52 != who >> 9))
		return false;
	shift = soft_iotlb_shift(way->key & 7);
	page = way->key >> 12;
	return page >= first >> shift && page <= last >> shift;
}

static void set_drop(struct soft_iotlb_set *set, uint64_t tag, uint32_t who, uint64_t first,
		     uint64_t last)
{
	uint64_t sequence;
	bool any = false;

	/* Mostly there is nothing: look before taking the set. */
	for (unsigned int i = 0; i < SOFT_IOTLB_WAYS; i++)
		any |= __atomic_load_n(&set->ways[i].tag, __ATOMIC_ACQUIRE) == tag;
	if (!any)
		return;
	sequence = set_lock(set);
	for (unsigned int i = 0; i < SOFT_IOTLB_WAYS; i++)
		if (way_hits(&set->ways[i], tag, who, first, last))
			way_set(&set->ways[i], 0, 0, 0);
	set_unlock(set, sequence);
}

void soft_iotlb_drop(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t first,
		     uint64_t last)
{
	uint32_t sizes = __atomic_load_n(&iotlb->sizes, __ATOMIC_RELAXED);

	/* By page where pages are fewer than sets, else set by set. */
	for (enum soft_iotlb_size size = 0; sizes; size++, sizes >>= 1) {
		unsigned int shift = soft_iotlb_shift(size);
		uint64_t from = first >> shift, to = last >> shift;

		if (!(sizes & 1))
			continue;
		if (to - from >= iotlb->mask) {
			for (uint64_t i = 0; i <= iotlb->mask; i++)
				set_drop(&iotlb->sets[i], tag, who, first, last);
			return;
		}
		for (uint64_t page = from;; page++) {
			set_drop(soft_iotlb_set(iotlb, tag, page, size), tag, who, first, last);
			if (page == to)
				break;
		}
	}
}

void soft_iotlb_drop_all(struct soft_iotlb *iotlb)
{
	for (uint64_t i = 0; i <= iotlb->mask; i++) {
		struct soft_iotlb_set *set = &iotlb->sets[i];
		uint64_t sequence = set_lock(set);

		for (unsigned int way = 0; way < SOFT_IOTLB_WAYS; way++)
			way_set(&set->ways[way], 0, 0, 0);
		set_unlock(set, sequence);
	}
}
