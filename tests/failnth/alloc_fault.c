/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrapped allocation functions.  One thread; the counters are plain variables.
 *
 * Live blocks are counted exactly although not every block is made here: a block that a
 * library made (open_memstream(), json-c) may be freed through __wrap_free().  So the blocks
 * made here are kept in a hash set, and only members count when they are freed.
 */
#include "alloc_fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret, size_t alignment, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *format, va_list ap);
void __real_free(void *p);
void *__real_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *format, va_list ap);
int __wrap_asprintf(char **ret, const char *format, ...);
void __wrap_free(void *p);
void *__wrap_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset);

static struct {
	bool armed;
	bool hit;
	uint64_t nth;
	uint64_t calls;
} state;

void alloc_fault_arm(uint64_t nth)
{
	state.nth = nth;
	state.calls = 0;
	state.hit = false;
	state.armed = true;
}

uint64_t alloc_fault_disarm(void)
{
	state.armed = false;
	return state.calls;
}

bool alloc_fault_hit(void)
{
	return state.hit;
}

/* Is it this call's turn to fail? */
static bool fails(void)
{
	if (!state.armed || ++state.calls != state.nth)
		return false;
	state.hit = true;
	return true;
}

/* ---- live blocks: open addressing, linear probing, at most half full ---- */

static void **blocks;
static size_t n_slots;
static size_t n_blocks;

static size_t slot_of(const void *p)
{
	return ((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u & (n_slots - 1);
}

static void set_insert(void *p)
{
	size_t i = slot_of(p);

	while (blocks[i])
		i = (i + 1) & (n_slots - 1);
	blocks[i] = p;
	n_blocks++;
}

static void set_grow(void)
{
	size_t old_slots = n_slots;
	void **old = blocks;

	n_slots = n_slots ? n_slots * 2 : 4096;
	blocks = __real_calloc(n_slots, sizeof(*blocks));
	if (!blocks)
		abort(); /* the test itself is out of memory */
	n_blocks = 0;
	for (size_t i = 0; i < old_slots; i++)
		if (old[i])
			set_insert(old[i]);
	__real_free(old);
}

static void *made(void *p)
{
	if (!p)
		return NULL;
	if (n_blocks * 2 >= n_slots)
		set_grow();
	set_insert(p);
	return p;
}

static void unmade(void *p)
{
	size_t i, hole;

	if (!p || !n_slots)
		return;
	for (i = slot_of(p); blocks[i] != p; i = (i + 1) & (n_slots - 1))
		if (!blocks[i])
			return; /* not made here */
	n_blocks--;
	/* Close the gap: whoever probed past it must still be found. */
	hole = i;
	for (;;) {
		size_t home;

		i = (i + 1) & (n_slots - 1);
		if (!blocks[i])
			break;
		home = slot_of(blocks[i]);
		if (((i - home) & (n_slots - 1)) >= ((i - hole) & (n_slots - 1))) {
			blocks[hole] = blocks[i];
			hole = i;
		}
	}
	blocks[hole] = NULL;
}

int64_t alloc_fault_live(void)
{
	return (int64_t)n_blocks;
}

/* ---- the wrapped functions ---- */

void *__wrap_malloc(size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return made(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return made(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *p;

	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	unmade(old);
	p = __real_realloc(old, size);
	if (!p && old && size)
		made(old);
	return made(p);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return __wrap_realloc(old, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return made(__real_aligned_alloc(alignment, size));
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
	int error;

	if (fails())
		return ENOMEM;
	error = __real_posix_memalign(ret, alignment, size);
	if (!error)
		made(*ret);
	return error;
}

char *__wrap_strdup(const char *s)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return made(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return made(__real_strndup(s, n));
}

int __wrap_vasprintf(char **ret, const char *format, va_list ap)
{
	int n;

	if (fails()) {
		errno = ENOMEM;
		return -1;
	}
	n = __real_vasprintf(ret, format, ap);
	if (n >= 0)
		made(*ret);
	return n;
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = __wrap_vasprintf(ret, format, ap);
	va_end(ap);
	return n;
}

void __wrap_free(void *p)
{
	unmade(p);
	__real_free(p);
}

void *__wrap_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (fails()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(address, length, prot, flags, fd, offset);
}
