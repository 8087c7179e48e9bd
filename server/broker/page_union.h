/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_PAGE_UNION_H
#define IOASID_BROKER_PAGE_UNION_H

#include "server/broker/tree.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Counts the union of ranges of files, so that a page is charged once however often it is
 * registered or mapped (R8).
 */
RB_HEAD(page_file_tree, page_file);
struct page_union {
	struct page_file_tree files;
	uint64_t bytes; /* of the union */
};

/* A file, by st_dev and st_ino. */
struct page_key {
	dev_t dev;
	ino_t ino;
};

void page_union_init(struct page_union *u);
/* Asserts that it is empty. */
void page_union_deinit(struct page_union *u);
/*
 * Adds [start, end) of a file; *ret_grown: bytes that no range covered before.  -ENOMEM:
 * nothing changed.  start < end.
 */
int page_union_add(struct page_union *u, struct page_key key, uint64_t start, uint64_t end,
		   uint64_t *ret_grown);
/*
 * Takes away a range that was added; returns the bytes that no range covers any more.
 * Never fails and allocates nothing.
 */
uint64_t page_union_remove(struct page_union *u, struct page_key key, uint64_t start, uint64_t end);

#endif
