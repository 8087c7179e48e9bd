/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_LOG_FILE_H
#define IOASID_REGISTRY_LOG_FILE_H

/*
 * A file that is mapped as it grows.  Its address never changes: a large range is reserved, and
 * the file is mapped into it from the start.  What is mapped is allocated (fallocate()), so a
 * store into it can neither fail nor raise SIGBUS, as long as nobody cuts the file.
 *
 * Threads: one.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* fallocate(), or what a test puts in its place: 0 or -errno. */
typedef int (*log_allocate_fn)(void *data, int fd, size_t offset, size_t length);

struct log_file {
	int fd; /* -1: there is none */
	uint8_t *bytes;
	size_t reserved;
	size_t size;  /* mapped and allocated; a multiple of the page */
	size_t used;  /* bytes before this are in use */
	size_t dirty; /* bytes from dirty_start to this may not be zero */
	size_t dirty_start;
	uint64_t salt;
	uint64_t batches;
	size_t step; /* the least it grows by where there is space */
	log_allocate_fn allocate;
	void *data;
};

#define LOG_FILE_NONE                                                                              \
	{                                                                                          \
		.fd = -1                                                                           \
	}
#define LOG_FILE_STEP ((size_t)256 << 10)

/*
 * Opens or makes it, with whatever is in it as dirty bytes.  step: the least it grows by where
 * there is space for it; 0: LOG_FILE_STEP.  -errno.
 */
int log_file_open(struct log_file *file, int folder, const char *name, size_t step,
		  log_allocate_fn allocate, void *data);
void log_file_close(struct log_file *file);
/* At least this large.  -ENOSPC, or another -errno. */
int log_file_extend(struct log_file *file, size_t size);
/* Not larger than this, rounded up; best effort. */
void log_file_shrink(struct log_file *file, size_t size);
/* Clears up to this many dirty bytes. */
void log_file_clean(struct log_file *file, size_t bytes);

#endif
