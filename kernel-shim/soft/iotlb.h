/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_IOTLB_H
#define IOASID_SOFT_IOTLB_H

/*
 * An IOTLB: a finite, set-associative cache of translations, one for each IOMMU (and a
 * small one for each device with a device TLB).  It knows nothing of tables: what was put
 * in stays until it is evicted or invalidated, however the tables change.  The IOMMU's
 * paging-structure cache and its PASID cache are made of the same.
 *
 * An entry's tag names one address space in one state; tags are 64 bits and never used
 * twice, so giving a space a new tag drops all that is cached for it, and a space that
 * ends can never be hit again.  Beside it, an entry says for which PASID it is (who), so
 * that one PASID of a space can be dropped.
 *
 * Any thread.  A set is a cache line guarded by a sequence count: lookups write nothing
 * and never wait; an insertion that finds the set busy is dropped; invalidation waits for
 * the few stores of an insertion.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOFT_IOTLB_WAYS 2

/*
 * Sizes of pages that can be cached; a translation of another size is cut down to one.  The
 * larger ones are those of paging structures.
 */
enum soft_iotlb_size {
	SOFT_IOTLB_4K,
	SOFT_IOTLB_2M,
	SOFT_IOTLB_1G,
	SOFT_IOTLB_512G,
	SOFT_IOTLB_256T,
};

/* For which PASID; SOFT_WHO_NOBODY: without one; SOFT_WHO_ALL: whichever, when dropping. */
#define SOFT_WHO_NOBODY 0u
#define SOFT_WHO_ALL	UINT32_MAX

static inline uint32_t soft_who(uint32_t pasid)
{
	return pasid + 1; /* 21 bits; SHIM_NO_PASID becomes NOBODY */
}

struct soft_iotlb_way {
	uint64_t tag; /* 0: empty */
	/* Page number of the input at its size (52 bits) << 12 | who 8:0 << 3 | size. */
	uint64_t key;
	/* who 20:9 << 52 | address of the output page, 51:12 | permissions (SHIM_*). */
	uint64_t value;
};

struct soft_iotlb_set {
	uint64_t sequence; /* odd: being written */
	struct soft_iotlb_way ways[SOFT_IOTLB_WAYS];
	uint64_t victim; /* the way to replace next */
} __attribute__((aligned(64)));

struct soft_iotlb {
	struct soft_iotlb_set *sets;
	uint32_t mask;	/* sets - 1 */
	uint32_t sizes; /* bit n: pages of size n were put in at some time */
};

/* entries: rounded up to a power of two of at least 2 * SOFT_IOTLB_WAYS.  -ENOMEM. */
int soft_iotlb_init(struct soft_iotlb *iotlb, size_t entries);
void soft_iotlb_deinit(struct soft_iotlb *iotlb);

/* page_size: at least 4 KiB; output: where address goes, 52 bits. */
void soft_iotlb_insert(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t address,
		       uint64_t output, uint64_t page_size, uint32_t prot);
/* An entry of just this size and output, which is any page. */
void soft_iotlb_put(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t address,
		    enum soft_iotlb_size size, uint64_t output, uint32_t prot);

/* Drops what is cached for [first, last] of this tag, for one PASID or for all. */
void soft_iotlb_drop(struct soft_iotlb *iotlb, uint64_t tag, uint32_t who, uint64_t first,
		     uint64_t last);
void soft_iotlb_drop_all(struct soft_iotlb *iotlb);

static inline uint64_t soft_iotlb_key(uint64_t page, uint32_t who, enum soft_iotlb_size size)
{
	return page << 12 | (who & 0x1ff) << 3 | size;
}

static inline uint64_t soft_iotlb_value(uint64_t output, uint32_t who, uint32_t prot)
{
	return (uint64_t)(who >> 9) << 52 | (output & 0x000ffffffffff000ull) | (prot & 0xfff);
}

static inline uint64_t soft_iotlb_address(uint64_t value)
{
	return value & 0x000ffffffffff000ull;
}

static inline uint32_t soft_iotlb_prot(uint64_t value)
{
	return value & 0xfff;
}

static inline unsigned int soft_iotlb_shift(enum soft_iotlb_size size)
{
	return 12 + 9 * (unsigned int)size;
}

/* Sets are picked by page number, spread by tag so that spaces do not pile up. */
static inline struct soft_iotlb_set *soft_iotlb_set(const struct soft_iotlb *iotlb, uint64_t tag,
						    uint64_t page, enum soft_iotlb_size size)
{
	return &iotlb->sets[(page + tag * 0x9e3779b1u + size * 0x85ebca6bu) & iotlb->mask];
}

static inline bool soft_iotlb_lookup_size(const struct soft_iotlb *iotlb, uint64_t tag,
					  uint32_t who, uint64_t address, enum soft_iotlb_size size,
					  uint64_t *ret_value)
{
	uint64_t page = address >> soft_iotlb_shift(size), key = soft_iotlb_key(page, who, size);
	const struct soft_iotlb_set *set = soft_iotlb_set(iotlb, tag, page, size);
	uint64_t sequence = __atomic_load_n(&set->sequence, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < SOFT_IOTLB_WAYS; i++) {
		const struct soft_iotlb_way *way = &set->ways[i];
		/* Acquire: the sequence is read again only after these. */
		uint64_t way_tag = __atomic_load_n(&way->tag, __ATOMIC_ACQUIRE);
		uint64_t way_key = __atomic_load_n(&way->key, __ATOMIC_ACQUIRE);
		uint64_t value = __atomic_load_n(&way->value, __ATOMIC_ACQUIRE);

		if (way_tag == tag && way_key == key && value >> 52 == who >> 9) {
			if ((sequence & 1) ||
			    __atomic_load_n(&set->sequence, __ATOMIC_RELAXED) != sequence)
				return false;
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/*
 * True: *ret_output (of this very address), *ret_page_size and *ret_prot are set.
 */
static inline bool soft_iotlb_lookup(const struct soft_iotlb *iotlb, uint64_t tag, uint32_t who,
				     uint64_t address, uint64_t *ret_output,
				     uint64_t *ret_page_size, uint32_t *ret_prot)
{
	uint32_t sizes = __atomic_load_n(&iotlb->sizes, __ATOMIC_RELAXED);

	for (enum soft_iotlb_size size = 0; sizes; size++, sizes >>= 1) {
		uint64_t value, rest = (1ull << soft_iotlb_shift(size)) - 1;

		if (!(sizes & 1) || !soft_iotlb_lookup_size(iotlb, tag, who, address, size, &value))
			continue;
		*ret_output = soft_iotlb_address(value) | (address & rest);
		*ret_page_size = rest + 1;
		*ret_prot = soft_iotlb_prot(value);
		return true;
	}
	return false;
}

#endif
