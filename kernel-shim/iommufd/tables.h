/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_TABLES_H
#define IOASID_IOMMUFD_TABLES_H

/*
 * How much memory the kernel needs for the tables of one IOASID.  The kernel does not tell,
 * so it is counted here, as if every page were mapped alone (4 KiB leaves):
 *
 *	bytes = 4096 * (number of different regions of 2 MiB, 1 GiB, 512 GiB and 256 TiB that
 *	        mappings touch: each such region is one table page)
 *	      + 512 * (number of chunks: the kernel's records of an area and its pages)
 *
 * It is what one IOMMU's copy takes at most, without the root page: the kernel takes less
 * where it can use larger leaves, and once more for each further IOMMU that the table is
 * attached behind.
 *
 * A mapping has all regions in its middle to itself.  Only those at its ends can be shared
 * with neighbours, so only these are remembered, with a count: at most eight a mapping.
 */

#include <stddef.h>
#include <stdint.h>

#define TABLES_PAGE	   4096u
#define TABLES_CHUNK_BYTES 512u

struct tables_edge;

struct tables {
	uint64_t pages;
	uint64_t chunks;
	struct tables_edge *edges; /* open addressing; a power of two of slots, or none */
	size_t room;
	size_t used;
};

/* Room for n more mappings, so that tables_add() cannot fail.  -ENOMEM. */
int tables_reserve(struct tables *tables, size_t n);
void tables_add(struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks);
/* What was added, with the same arguments. */
void tables_remove(struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks);
void tables_clear(struct tables *tables);

uint64_t tables_bytes(const struct tables *tables);
/* What tables_add() would add at most. */
uint64_t tables_bound(const struct tables *tables, uint64_t iova, uint64_t length, uint64_t chunks);

#endif
