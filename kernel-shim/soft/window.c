/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See window.h.  Pieces form a ring ordered by address; free space is what lies between
 * two neighbours, so giving back is unlinking and cannot fail.  A search goes round from
 * where the last one ended (next fit): in a space that is large beside what is registered,
 * it looks at one gap.
 *
 * A piece whose range cannot be taken back to PROT_NONE (the process is out of mappings)
 * stays where it is, unreachable by any table and never handed out again.
 */

#include "soft/window.h"

#include <errno.h>
#include <linux/magic.h>
#include <search.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#define WINDOW_MIN (64ull << 20)

static int compare(const void *a, const void *b)
{
	const struct soft_piece *x = a, *y = b;

	if (x->start + x->length <= y->start)
		return -1;
	return x->start >= y->start + y->length;
}

int soft_window_init(struct soft_window *window, uint64_t bytes, bool flexible,
		     void (*drop)(struct soft_piece *piece))
{
	void *base;

	for (;; bytes /= 2) {
		if (bytes < WINDOW_MIN)
			return -ENOMEM;
		base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			    0);
		if (base != MAP_FAILED)
			break;
		if (!flexible || bytes == WINDOW_MIN)
			return -ENOMEM;
	}
	/* A child must not carry tenants' memory, nor a core dump. */
	(void)madvise(base, bytes, MADV_DONTFORK);
	(void)madvise(base, bytes, MADV_DONTDUMP);
	*window = (struct soft_window){
		.base = base,
		.bytes = bytes,
		.tables_bytes = bytes / 8,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.drop = drop,
	};
	window->anchor.start = 0;
	window->anchor.length = window->tables_bytes;
	window->anchor.prev = window->anchor.next = &window->anchor;
	window->cursor = &window->anchor;
	return 0;
}

void soft_window_deinit(struct soft_window *window)
{
	struct soft_piece *piece;

	if (!window->base)
		return;
	munmap(window->base, window->bytes);
	while ((piece = window->stuck)) {
		window->stuck = piece->next_stuck;
		tdelete(piece, &window->index, compare);
		window->drop(piece);
	}
	pthread_mutex_destroy(&window->lock);
	window->base = NULL;
}

/* Where a piece could go behind this one; 0: the gap is too small. */
static uint64_t gap_fit(const struct soft_window *window, const struct soft_piece *after,
			uint64_t length, uint64_t align)
{
	uint64_t start = (after->start + after->length + align - 1) & ~(align - 1);
	uint64_t end = after->next == &window->anchor ? window->bytes : after->next->start;

	return start < end && end - start >= length ? start : 0;
}

int soft_window_map(struct soft_window *window, int fd, uint64_t offset, uint64_t length,
		    bool writable, struct soft_piece *piece)
{
	uint64_t align = 4096, start = 0;
	struct soft_piece *after;
	struct statfs fs;
	void *at;
	int r = 0;

	if (fstatfs(fd, &fs))
		return -errno;
	/* Of hugetlb memory, only whole pages: the kernel would map more than was asked for. */
	if ((uint32_t)fs.f_type == HUGETLBFS_MAGIC) {
		align = (uint64_t)fs.f_bsize;
		if (offset % align || length % align)
			return -EINVAL;
	}
	if (!length || length > window->bytes)
		return -ENOMEM;
	while (align < 1ull << 30 && align * 2 <= length)
		align *= 2;

	pthread_mutex_lock(&window->lock);
	after = window->cursor;
	do {
		start = gap_fit(window, after, length, align);
		if (start)
			break;
		after = after->next;
	} while (after != window->cursor);
	if (!start) {
		r = -ENOMEM;
		goto out;
	}
	piece->start = start;
	piece->length = length;
	if (!tsearch(piece, &window->index, compare)) {
		r = -ENOMEM;
		goto out;
	}
	at = mmap(soft_window_pointer(window, start), length,
		  PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		  fd, (off_t)offset);
	if (at == MAP_FAILED) {
		r = -errno;
		tdelete(piece, &window->index, compare);
		/* A late failure can leave a hole, where somebody else's mapping could land. */
		(void)mmap(soft_window_pointer(window, start), length, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
			   0);
		goto out;
	}
	(void)madvise(at, length, MADV_DONTFORK);
	(void)madvise(at, length, MADV_DONTDUMP);
	piece->prev = after;
	piece->next = after->next;
	piece->prev->next = piece->next->prev = piece;
	window->cursor = piece;
out:
	pthread_mutex_unlock(&window->lock);
	return r;
}

/* With the lock.  False: there was no mapping to be had. */
static bool take_away(struct soft_window *window, struct soft_piece *piece)
{
	void *at = mmap(soft_window_pointer(window, piece->start), piece->length, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (at == MAP_FAILED)
		return false;
	(void)madvise(at, piece->length, MADV_DONTFORK);
	(void)madvise(at, piece->length, MADV_DONTDUMP);
	tdelete(piece, &window->index, compare);
	piece->prev->next = piece->next;
	piece->next->prev = piece->prev;
	if (window->cursor == piece)
		window->cursor = piece->prev;
	window->drop(piece);
	return true;
}

void soft_window_unmap(struct soft_window *window, struct soft_piece *piece)
{
	pthread_mutex_lock(&window->lock);
	piece->next_stuck = window->stuck;
	window->stuck = piece;
	while (window->stuck) {
		struct soft_piece *next = window->stuck->next_stuck;

		if (!take_away(window, window->stuck))
			break;
		window->stuck = next;
	}
	pthread_mutex_unlock(&window->lock);
}

struct soft_piece *soft_window_find(struct soft_window *window, uint64_t address)
{
	struct soft_piece key = {.start = address, .length = 1};
	struct soft_piece **found;

	pthread_mutex_lock(&window->lock);
	found = tfind(&key, &window->index, compare);
	pthread_mutex_unlock(&window->lock);
	return found ? *found : NULL;
}

int soft_window_load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	const struct soft_window *window = memory;

	if (address >= __atomic_load_n(&window->tables_ready, __ATOMIC_RELAXED) || address % 8)
		return -EFAULT;
	/* Acquire: what a table's address leads to was written before the address was. */
	*ret_entry = __atomic_load_n((const uint64_t *)soft_window_pointer(window, address),
				     __ATOMIC_ACQUIRE);
	return 0;
}

int soft_window_update(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	const struct soft_window *window = memory;

	if (address >= __atomic_load_n(&window->tables_ready, __ATOMIC_RELAXED) || address % 8)
		return -EFAULT;
	return !__atomic_compare_exchange_n((uint64_t *)soft_window_pointer(window, address),
					    expected, wanted, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE);
}
