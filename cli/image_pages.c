/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of a pages image: records of {u64 little-endian physical address, one granule of
 * bytes}, in any order.  Addresses need not be multiples of the granule, but no two records may
 * hold the same byte: which of them were right, nobody could tell.
 */
#include "image.h"
#include "cli.h"

#include <endian.h>
#include <inttypes.h>

/* Which record a byte of the file is in, counted from 1. */
static uint64_t record_of(const struct image_extent *e, uint64_t record)
{
	return e->offset / record + 1;
}

int image_parse_pages(struct image *image, uint32_t granule, char ret_problem[IMAGE_PROBLEM_MAX])
{
	uint64_t record = sizeof(uint64_t) + (uint64_t)granule, n = image->size / record;

	if (image->size % record)
		return image_bad(ret_problem,
				 "its last record is torn: %" PRIu64 " of %" PRIu64
				 " bytes (an address and a page of %" PRIu32 ")",
				 image->size % record, record, granule);
	image->extents = cli_alloc(n * sizeof(*image->extents));
	for (uint64_t i = 0; i < n; i++) {
		struct image_extent *e = &image->extents[i];
		uint64_t address;

		if (!image_bytes(image, i * record, &address, sizeof(address)))
			return IMAGE_E_BAD;
		*e = (struct image_extent){
			.address = le64toh(address),
			.offset = i * record + sizeof(address),
			.length = granule,
		};
		if (e->address > UINT64_MAX - granule)
			return image_bad(ret_problem,
					 "record %" PRIu64 ": a page at 0x%" PRIx64
					 " ends beyond 2^64",
					 i + 1, e->address);
	}
	image->n_extents = n;
	image_sort(image);
	for (size_t i = 1; i < n; i++) {
		const struct image_extent *a = &image->extents[i - 1], *b = &image->extents[i];

		if (b->address - a->address < granule)
			return image_bad(ret_problem,
					 "records %" PRIu64 " and %" PRIu64
					 " hold the same memory (0x%" PRIx64 " and 0x%" PRIx64 ")",
					 record_of(a, record), record_of(b, record), a->address,
					 b->address);
	}
	return 0;
}
