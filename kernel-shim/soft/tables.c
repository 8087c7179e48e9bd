/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See tables.h.  Pages come from three places, tried in this order: freed pages that are
 * still resident (their bytes are stale), pages whose memory was given back to the system
 * (they read as zero), and pages that were never used, for which the readable part of the
 * window grows in steps of GROW_PAGES.
 *
 * At most KEEP_PAGES freed pages stay resident, so that a burst does not stay in memory
 * for good; each page above that costs one madvise() when it is freed.
 */

#include "soft/tables.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	   4096ull
#define GROW_PAGES 4096u
#define KEEP_PAGES 2048u

int soft_tables_init(struct soft_tables *tables, struct soft_window *window, uint64_t limit)
{
	uint64_t n = window->tables_bytes / PAGE;
	void *records;

	if (n > UINT32_MAX)
		n = UINT32_MAX;
	/* Page 0 is none's. */
	if (limit && limit < n - 1)
		n = limit + 1;
	records = mmap(NULL, n * sizeof(struct soft_table_record), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (records == MAP_FAILED)
		return -ENOMEM;
	*tables = (struct soft_tables){
		.window = window,
		.records = records,
		.n_pages_max = (uint32_t)n,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.n_fresh = 1,
	};
	return 0;
}

void soft_tables_deinit(struct soft_tables *tables)
{
	if (!tables->records)
		return;
	munmap(tables->records, tables->n_pages_max * sizeof(struct soft_table_record));
	pthread_mutex_destroy(&tables->lock);
	tables->records = NULL;
}

/* Locked. */
static int grow(struct soft_tables *tables)
{
	uint32_t n = tables->n_pages_max - tables->n_ready;

	if (n > GROW_PAGES)
		n = GROW_PAGES;
	if (!n || mprotect(soft_window_pointer(tables->window, tables->n_ready * PAGE), n * PAGE,
			   PROT_READ | PROT_WRITE))
		return -ENOMEM;
	tables->n_ready += n;
	__atomic_store_n(&tables->window->tables_ready, tables->n_ready * PAGE, __ATOMIC_RELEASE);
	return 0;
}

int soft_tables_get(struct soft_tables *tables, bool zero, uint64_t *ret_address)
{
	struct soft_table_record *record;
	bool stale = false;
	uint32_t page;
	int r;

	pthread_mutex_lock(&tables->lock);
	if (tables->free) {
		page = tables->free;
		tables->free = tables->records[page].next;
		tables->n_free--;
		stale = true;
	} else if (tables->clean) {
		page = tables->clean;
		tables->clean = tables->records[page].next;
	} else {
		if (tables->n_fresh >= tables->n_ready) {
			r = grow(tables);
			if (r) {
				pthread_mutex_unlock(&tables->lock);
				return r;
			}
		}
		page = tables->n_fresh++;
	}
	tables->n_used++;
	pthread_mutex_unlock(&tables->lock);

	record = &tables->records[page];
	record->next = 0;
	record->used = 0;
	*ret_address = page * PAGE;
	if (stale && zero)
		memset(soft_table_entries(tables, *ret_address), 0, PAGE);
	return 0;
}

void soft_tables_put(struct soft_tables *tables, struct soft_table_list *list)
{
	uint32_t drop = 0, page;

	if (!list->n)
		return;
	pthread_mutex_lock(&tables->lock);
	tables->records[list->last].next = tables->free;
	tables->free = list->first;
	tables->n_free += list->n;
	tables->n_used -= list->n;
	/* Take what is too much off the list, to work on it without the lock. */
	if (tables->n_free > KEEP_PAGES) {
		uint32_t n = tables->n_free - KEEP_PAGES, last = tables->free;

		drop = tables->free;
		for (uint32_t i = 1; i < n; i++)
			last = tables->records[last].next;
		tables->free = tables->records[last].next;
		tables->records[last].next = 0;
		tables->n_free = KEEP_PAGES;
	}
	pthread_mutex_unlock(&tables->lock);
	*list = (struct soft_table_list){0};

	if (!drop)
		return;
	page = drop;
	for (;;) {
		uint64_t address = page * PAGE;

		if (madvise(soft_table_entries(tables, address), PAGE, MADV_DONTNEED))
			memset(soft_table_entries(tables, address), 0, PAGE);
		if (!tables->records[page].next)
			break;
		page = tables->records[page].next;
	}
	pthread_mutex_lock(&tables->lock);
	tables->records[page].next = tables->clean;
	tables->clean = drop;
	pthread_mutex_unlock(&tables->lock);
}

uint64_t soft_tables_used(struct soft_tables *tables)
{
	uint64_t n;

	pthread_mutex_lock(&tables->lock);
	n = tables->n_used;
	pthread_mutex_unlock(&tables->lock);
	return n;
}
