/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_MEMORY_FILE_H
#define IOASID_BROKER_MEMORY_FILE_H

#include "server/broker/page_union.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is the fd a file that takes seals (memfd_create(2)); is it a pidfd? */
bool memory_file_is_memfd(int fd);
bool memory_file_is_pidfd(int fd);

enum memory_file_error {
	/* The text says why the file cannot be registered. */
	MEMORY_FILE_E_UNSUITABLE = 1,
};

/* What a tenant's memfd is and allows. */
struct memory_file {
	struct page_key key;
	uint64_t size;
	uint64_t page_size;
	bool writable; /* by access mode and seals */
};

/* -errno; UNSUITABLE: not F_SEAL_SHRINK, write-only, not a memfd. */
int memory_file_examine(int fd, struct memory_file *ret_file, char *ret_why, size_t why_size);
/*
 * Are all pages of [offset, offset + length) there?  Pinning a hole would allocate it in
 * the broker's cgroup.  UNSUITABLE; takes time in proportion to the length.
 */
int memory_file_check_holes(int fd, const struct memory_file *file, uint64_t offset,
			    uint64_t length, char *ret_why, size_t why_size);

#endif
