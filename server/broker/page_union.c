/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Union of file ranges by counted boundaries.
 *
 * For each file an ordered set of boundaries; a boundary holds how many ranges cover the
 * bytes from it to the next one, and how many ranges begin or end exactly there.  Adding a
 * range inserts at most two boundaries; removing it deletes those that no other range has.
 * So removal never allocates, and a file of n ranges has at most 2n boundaries.
 *
 * Cost: O(log n + boundaries inside the range).  One thread.
 */
#include "server/broker/page_union.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct page_boundary {
	RB_ENTRY(page_boundary) node;
	uint64_t at;
	uint32_t cover; /* ranges over [at, next->at) */
	uint32_t ends;	/* ranges that begin or end at `at` */
};
RB_HEAD(page_boundary_tree, page_boundary);

struct page_file {
	RB_ENTRY(page_file) node;
	struct page_key key;
	uint64_t n_ranges;
	struct page_boundary_tree boundaries;
};

static int boundary_compare(const struct page_boundary *a, const struct page_boundary *b)
{
	return a->at < b->at ? -1 : a->at > b->at;
}

static int file_compare(const struct page_file *a, const struct page_file *b)
{
	if (a->key.dev != b->key.dev)
		return a->key.dev < b->key.dev ? -1 : 1;
	return a->key.ino < b->key.ino ? -1 : a->key.ino > b->key.ino;
}

TREE_GENERATE(page_boundary_tree, page_boundary, node, boundary_compare)
TREE_GENERATE(page_file_tree, page_file, node, file_compare)

void page_union_init(struct page_union *u)
{
	RB_INIT(&u->files);
	u->bytes = 0;
}

void page_union_deinit(struct page_union *u)
{
	assert(RB_EMPTY(&u->files));
	assert(u->bytes == 0);
}

/* The boundary at `at`; a new one takes over the cover of the bytes that it splits. */
static struct page_boundary *boundary_get(struct page_file *file, uint64_t at)
{
	struct page_boundary find = {.at = at}, *b, *before;

	b = RB_NFIND(page_boundary_tree, &file->boundaries, &find);
	if (b && b->at == at)
		return b;
	before = b ? RB_PREV(page_boundary_tree, &file->boundaries, b)
		   : RB_MAX(page_boundary_tree, &file->boundaries);
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->at = at;
	b->cover = before ? before->cover : 0;
	RB_INSERT(page_boundary_tree, &file->boundaries, b);
	return b;
}

static void boundary_put(struct page_file *file, struct page_boundary *b)
{
	if (b->ends)
		return;
	RB_REMOVE(page_boundary_tree, &file->boundaries, b);
	free(b);
}

static void file_put(struct page_union *u, struct page_file *file)
{
	if (file->n_ranges)
		return;
	assert(RB_EMPTY(&file->boundaries));
	RB_REMOVE(page_file_tree, &u->files, file);
	free(file);
}

int page_union_add(struct page_union *u, struct page_key key, uint64_t start, uint64_t end,
		   uint64_t *ret_grown)
{
	struct page_file find = {.key = key}, *file;
	struct page_boundary *first, *last;
	uint64_t grown = 0;

	assert(start < end);
	file = RB_FIND(page_file_tree, &u->files, &find);
	if (!file) {
		file = calloc(1, sizeof(*file));
		if (!file)
			return -ENOMEM;
		file->key = key;
		RB_INIT(&file->boundaries);
		RB_INSERT(page_file_tree, &u->files, file);
	}
	first = boundary_get(file, start);
	if (!first) {
		file_put(u, file);
		return -ENOMEM;
	}
	last = boundary_get(file, end);
	if (!last) {
		boundary_put(file, first);
		file_put(u, file);
		return -ENOMEM;
	}
	for (struct page_boundary *b = first; b != last;) {
		struct page_boundary *next = RB_NEXT(page_boundary_tree, &file->boundaries, b);

		if (b->cover++ == 0)
			grown += next->at - b->at;
		b = next;
	}
	first->ends++;
	last->ends++;
	file->n_ranges++;
	u->bytes += grown;
	*ret_grown = grown;
	return 0;
}

uint64_t page_union_remove(struct page_union *u, struct page_key key, uint64_t start, uint64_t end)
{
	struct page_file find_file = {.key = key}, *file;
	struct page_boundary find = {.at = start}, *first, *last;
	uint64_t shrunk = 0;

	file = RB_FIND(page_file_tree, &u->files, &find_file);
	assert(file);
	first = RB_FIND(page_boundary_tree, &file->boundaries, &find);
	find.at = end;
	last = RB_FIND(page_boundary_tree, &file->boundaries, &find);
	assert(first && last && file->n_ranges);
	for (struct page_boundary *b = first; b != last;) {
		struct page_boundary *next = RB_NEXT(page_boundary_tree, &file->boundaries, b);

		assert(b->cover);
		if (--b->cover == 0)
			shrunk += next->at - b->at;
		b = next;
	}
	first->ends--;
	last->ends--;
	file->n_ranges--;
	boundary_put(file, first);
	boundary_put(file, last);
	file_put(u, file);
	u->bytes -= shrunk;
	return shrunk;
}
