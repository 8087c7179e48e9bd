/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_TABLES_H
#define IOASID_SOFT_TABLES_H

/*
 * The allocator of page tables in the table part of the window, named by physical address.  A
 * table is a block of 2^order pages of 4 KiB, aligned to its size: order 0 for most formats,
 * up to SOFT_ORDER_MAX for ARM's larger granules and for concatenated roots, of which the
 * largest, of 64K tables, are not to be had.  Beside its first
 * page lies a small record: its link in a list, and how many of its entries are in use, so that
 * an empty table is known at once.
 *
 * Physical address 0 is never a table: it stands for "none".
 *
 * The lists of the allocator are locked; a page that was handed out and its record are its
 * holder's alone.
 */

#include "soft/window.h"

struct soft_table_record {
	uint32_t next; /* page number, 0: the end */
	uint16_t used; /* entries that are not zero; up to 2^15 */
	uint8_t order;
};

#define SOFT_ORDER_MAX 6

struct soft_tables {
	struct soft_window *window;
	struct soft_table_record *records; /* by page number */
	uint32_t n_pages_max;
	pthread_mutex_t lock;
	uint32_t n_ready;      /* page numbers below can be used */
	uint32_t n_used;       /* handed out */
	uint32_t free, n_free; /* pages with stale bytes, resident */
	/* Free blocks of order 1 and up; used != 0: the bytes are stale. */
	uint32_t blocks[SOFT_ORDER_MAX];
	uint32_t n_kept;  /* pages in them that are still resident */
	uint32_t clean;	  /* pages that read as zero */
	uint32_t n_fresh; /* page numbers from here to n_ready were never used */
};

/* A list of pages, linked by their records. */
struct soft_table_list {
	uint32_t first, last;
	uint32_t n;
	bool blocks; /* some are larger than a page */
};

/* limit: most pages at once, 0: as many as fit. */
int soft_tables_init(struct soft_tables *tables, struct soft_window *window, uint64_t limit);
/* Every page has been given back. */
void soft_tables_deinit(struct soft_tables *tables);

/*
 * A table of 2^order pages with used = 0; its bytes are zero if asked for, else anything.
 * -ENOMEM, also for an order above SOFT_ORDER_MAX.
 */
int soft_tables_get(struct soft_tables *tables, unsigned int order, bool zero,
		    uint64_t *ret_address);
/* Gives back every table of the list; the list is empty then. */
void soft_tables_put(struct soft_tables *tables, struct soft_table_list *list);
/* Pages handed out. */
uint64_t soft_tables_used(struct soft_tables *tables);

static inline struct soft_table_record *soft_table_record(const struct soft_tables *tables,
							  uint64_t address)
{
	return &tables->records[address >> 12];
}

static inline uint64_t *soft_table_entries(const struct soft_tables *tables, uint64_t address)
{
	return soft_window_pointer(tables->window, address);
}

static inline void soft_table_list_add(const struct soft_tables *tables,
				       struct soft_table_list *list, uint64_t address)
{
	struct soft_table_record *record = soft_table_record(tables, address);

	record->next = list->first;
	list->first = (uint32_t)(address >> 12);
	list->blocks |= record->order > 0;
	if (!list->n++)
		list->last = list->first;
}

#endif
