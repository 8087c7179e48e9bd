/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the descriptor, the reserved range and the mapping of one file.  It knows no format; what
 * is in use, what is dirty and what a byte means is its user's.
 *
 * Invariants: [0, size) is mapped shared, and allocated; [size, reserved) is reserved and not
 * accessible; bytes that are neither below used nor in [dirty_start, dirty) are zero.
 *
 * Growth goes in steps of an eighth, at least `step`, so that a log of many small batches
 * asks the kernel rarely, and at most STEP_LARGEST, so that none of them takes long; where there is
 * no space for a step, for what is needed and no more.
 */

#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESERVE	      ((size_t)64 << 30)
#define RESERVE_LEAST ((size_t)64 << 20)
#define STEP_LARGEST  ((size_t)4 << 20)
#define PAGE	      ((size_t)4096)

static size_t page_up(size_t size)
{
	return (size + PAGE - 1) & ~(PAGE - 1);
}

static int reserve(struct log_file *file)
{
	/* Less where the process may not have that many addresses (RLIMIT_AS). */
	for (size_t size = RESERVE; size >= RESERVE_LEAST; size /= 2) {
		void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			       -1, 0);

		if (p == MAP_FAILED)
			continue;
		file->bytes = p;
		file->reserved = size;
		return 0;
	}
	return -ENOMEM;
}

static int extend_to(struct log_file *file, size_t size)
{
	int r;

	if (size > file->reserved)
		return -ENOSPC;
	do
		r = file->allocate(file->data, file->fd, file->size, size - file->size);
	while (r == -EINTR);
	/* A quota, or the memory limit of a cgroup. */
	if (r == -EDQUOT || r == -ENOMEM || r == -EFBIG)
		r = -ENOSPC;
	if (r)
		return r;
	if (mmap(file->bytes + file->size, size - file->size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, file->fd, (off_t)file->size) == MAP_FAILED)
		return errno == ENOMEM ? -ENOSPC : -errno;
	file->size = size;
	return 0;
}

int log_file_extend(struct log_file *file, size_t size)
{
	size_t step = file->size / 8;
	int r;

	if (size <= file->size)
		return 0;
	if (size > file->reserved)
		return -ENOSPC;
	if (step < file->step)
		step = file->step;
	if (step > STEP_LARGEST)
		step = STEP_LARGEST;
	size = page_up(size);
	if (size - file->size < step) {
		r = extend_to(file, page_up(file->size + step));
		if (r != -ENOSPC)
			return r;
	}
	return extend_to(file, size);
}

void log_file_shrink(struct log_file *file, size_t size)
{
	size = page_up(size);
	if (size >= file->size || size < file->used)
		return;
	/* The pages go from the mapping before they go from the file: no store finds them gone. */
	if (mmap(file->bytes + size, file->size - size, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return;
	file->size = size;
	if (file->dirty > size)
		file->dirty = size;
	if (ftruncate(file->fd, (off_t)size))
		return;
}

void log_file_clean(struct log_file *file, size_t bytes)
{
	if (file->dirty_start >= file->dirty)
		return;
	if (bytes > file->dirty - file->dirty_start)
		bytes = file->dirty - file->dirty_start;
	memset(file->bytes + file->dirty_start, 0, bytes);
	file->dirty_start += bytes;
}

int log_file_open(struct log_file *file, int folder, const char *name, size_t step,
		  log_allocate_fn allocate, void *data)
{
	struct log_file new = {
		.step = step ? step : LOG_FILE_STEP, .allocate = allocate, .data = data};
	struct stat st;
	int r;

	new.fd = openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (new.fd < 0)
		return -errno;
	r = fstat(new.fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (!r)
		r = reserve(&new);
	/* What it holds already, holes filled. */
	if (!r && st.st_size > 0) {
		size_t size = (size_t)st.st_size & ~(PAGE - 1);

		/* All of it or nothing: what is not mapped would not be known to be dirty. */
		if (size > new.reserved || ftruncate(new.fd, (off_t)size) ||
		    (size && extend_to(&new, size)))
			r = ftruncate(new.fd, 0) ? -errno : 0;
		new.dirty = new.size;
	}
	if (r) {
		log_file_close(&new);
		return r;
	}
	*file = new;
	return 0;
}

void log_file_close(struct log_file *file)
{
	if (file->bytes)
		munmap(file->bytes, file->reserved);
	if (file->fd >= 0)
		close(file->fd);
	*file = (struct log_file)LOG_FILE_NONE;
}
