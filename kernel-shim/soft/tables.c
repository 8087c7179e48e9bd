/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See tables.h.  Pages come from three places, tried in this order: freed pages that are
 * still resident (their bytes are stale), pages whose memory was given back to the system
 * (they read as zero), and pages that were never used, for which the readable part of the
 * window grows in steps of GROW_PAGES.
 *
 * At most KEEP_PAGES freed pages stay resident, so that a burst does not stay in memory
 * for good; each page above that costs one madvise() when it is freed.
 *
 * Blocks of several pages have lists of their own by order, of which as many pages stay
 * resident.  Where nothing else is left for a page, the smallest free block is taken apart;
 * pages are never put together again, so a host that used up its limit with pages refuses
 * blocks.
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

/* Locked: pages from here on, of which none was used, become single ones. */
static void take_apart(struct soft_tables *tables, uint32_t page, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		tables->records[page + i].next = tables->clean;
		tables->clean = page + i;
	}
}

/* Locked: never used pages up to this number, those before it included. */
static int grow_to(struct soft_tables *tables, uint64_t end)
{
	int r = 0;

	if (end > tables->n_pages_max)
		return -ENOMEM;
	while (!r && tables->n_ready < end)
		r = grow(tables);
	return r;
}

/* Locked.  Takes a free block off its list; true: its bytes are stale. */
static bool take_block(struct soft_tables *tables, unsigned int order, uint32_t *ret_page)
{
	struct soft_table_record *record = &tables->records[tables->blocks[order - 1]];
	bool stale = record->used;

	*ret_page = tables->blocks[order - 1];
	tables->blocks[order - 1] = record->next;
	if (stale)
		tables->n_kept -= 1u << order;
	return stale;
}

/* Locked. */
static int get_block(struct soft_tables *tables, unsigned int order, uint32_t *ret_page,
		     bool *ret_stale)
{
	uint32_t n = 1u << order;
	uint64_t first = ((uint64_t)tables->n_fresh + n - 1) & ~(n - 1ull);
	int r;

	if (tables->blocks[order - 1]) {
		*ret_stale = take_block(tables, order, ret_page);
		return 0;
	}
	r = grow_to(tables, first + n);
	if (r)
		return r;
	take_apart(tables, tables->n_fresh, (uint32_t)first - tables->n_fresh);
	tables->n_fresh = (uint32_t)first + n;
	*ret_page = (uint32_t)first;
	return 0;
}

/* Locked.  A page that nobody has, of zeroes. */
static int get_fresh(struct soft_tables *tables, uint32_t *ret_page)
{
	int r = grow_to(tables, tables->n_fresh + 1ull);

	if (!r) {
		*ret_page = tables->n_fresh++;
		return 0;
	}
	for (unsigned int order = 1; order <= SOFT_ORDER_MAX; order++) {
		if (!tables->blocks[order - 1])
			continue;
		if (take_block(tables, order, ret_page))
			memset(soft_table_entries(tables, *ret_page * PAGE), 0, PAGE << order);
		take_apart(tables, *ret_page + 1, (1u << order) - 1);
		return 0;
	}
	return r;
}

int soft_tables_get(struct soft_tables *tables, unsigned int order, bool zero,
		    uint64_t *ret_address)
{
	struct soft_table_record *record;
	bool stale = false;
	uint32_t page = 0;
	int r = 0;

	if (order > SOFT_ORDER_MAX)
		return -ENOMEM;
	pthread_mutex_lock(&tables->lock);
	if (order) {
		r = get_block(tables, order, &page, &stale);
	} else if (tables->free) {
		page = tables->free;
		tables->free = tables->records[page].next;
		tables->n_free--;
		stale = true;
	} else if (tables->clean) {
		page = tables->clean;
		tables->clean = tables->records[page].next;
	} else {
		r = get_fresh(tables, &page);
	}
	if (!r)
		tables->n_used += 1u << order;
	pthread_mutex_unlock(&tables->lock);
	if (r)
		return r;

	record = &tables->records[page];
	record->next = 0;
	record->used = 0;
	record->order = (uint8_t)order;
	*ret_address = page * PAGE;
	if (stale && zero)
		memset(soft_table_entries(tables, *ret_address), 0, PAGE << order);
	return 0;
}

/* Gives memory back to the system: it reads as zero from now on. */
static void drop_bytes(struct soft_tables *tables, uint32_t page, unsigned int order)
{
	void *bytes = soft_table_entries(tables, page * PAGE);

	if (madvise(bytes, PAGE << order, MADV_DONTNEED))
		memset(bytes, 0, PAGE << order);
}

/* Blocks go back to their own lists; the pages of the list are left in it. */
static void put_blocks(struct soft_tables *tables, struct soft_table_list *list)
{
	struct soft_table_list pages = {0};

	for (uint32_t page = list->first, i = list->n, next; i--; page = next) {
		struct soft_table_record *record = &tables->records[page];
		unsigned int order = record->order;
		bool keep;

		next = record->next;
		if (!order) {
			soft_table_list_add(tables, &pages, page * PAGE);
			continue;
		}
		pthread_mutex_lock(&tables->lock);
		keep = tables->n_kept + (1u << order) <= KEEP_PAGES;
		if (keep)
			tables->n_kept += 1u << order;
		pthread_mutex_unlock(&tables->lock);
		if (!keep)
			drop_bytes(tables, page, order);
		pthread_mutex_lock(&tables->lock);
		record->used = keep;
		record->next = tables->blocks[order - 1];
		tables->blocks[order - 1] = page;
		tables->n_used -= 1u << order;
		pthread_mutex_unlock(&tables->lock);
	}
	*list = pages;
}

void soft_tables_put(struct soft_tables *tables, struct soft_table_list *list)
{
	uint32_t drop = 0, page;

	if (list->blocks)
		put_blocks(tables, list);
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
		drop_bytes(tables, page, 0);
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
