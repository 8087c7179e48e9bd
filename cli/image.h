/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_IMAGE_H
#define IOASID_CLI_IMAGE_H

/*
 * Physical memory of some machine, in a file: which bytes of the file are which addresses.
 *
 *	raw		byte n of the file is address base + n (pmemsave, memory of a guest)
 *	elf-core	the PT_LOAD segments of an ELF core by p_paddr (QEMU's dump-guest-memory,
 *			/proc/vmcore, makedumpfile -E); only what is in the file (p_filesz) is
 *memory pages		records of {u64 little-endian address, one granule of bytes}, in any order
 *
 * The file is mapped and never read whole: opening costs what its index costs, which is nothing
 * for raw, the program headers for elf-core and one word a record for pages.  What the file says
 * is checked before it is used; a file that is damaged is refused with what is wrong, and one
 * that shrinks or fails while it is read (SIGBUS) is an answer, not a crash.
 *
 * Invariant: extents are sorted by address, do not overlap, do not wrap, and lie in the file.
 *
 * Threads: one for each image.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum image_format {
	IMAGE_AUTO, /* by what the file begins with and by its size */
	IMAGE_RAW,
	IMAGE_ELF_CORE,
	IMAGE_PAGES,
};

struct image_spec {
	enum image_format format;
	uint64_t base;	  /* raw: address of the first byte */
	uint32_t granule; /* pages: bytes of a page in a record, a power of two */
};

struct image_extent {
	uint64_t address; /* physical */
	uint64_t offset;  /* in the file */
	uint64_t length;  /* not 0 */
};

struct image {
	enum image_format format; /* never AUTO */
	const uint8_t *bytes;	  /* the file */
	uint64_t size;
	bool mapped; /* bytes are a mapping of ours */
	struct image_extent *extents;
	size_t n_extents;
	/* Kept by the reading functions, which take a const pointer as walks do. */
	struct image_state {
		size_t last;	   /* extent that was used last */
		uint64_t missing;  /* last address that was asked for and is not there */
		uint64_t bad_byte; /* offset in the file that could not be read, if broken */
		bool broken;
	} * state;
};

#define IMAGE_PROBLEM_MAX 256

/* The file is no image as spec says; ret_problem says why, without the file's name. */
#define IMAGE_E_BAD 1

/* -errno: it cannot be opened or mapped. */
int image_open(const char *path, const struct image_spec *spec, char ret_problem[IMAGE_PROBLEM_MAX],
	       struct image *ret_image);
/* The same for a file that is in memory, which must stay there. */
int image_parse(const void *bytes, uint64_t size, const struct image_spec *spec,
		char ret_problem[IMAGE_PROBLEM_MAX], struct image *ret_image);
void image_close(struct image *image);

/*
 * The little-endian word at an address.  Fit to be soft_stage.load.  -EFAULT: not wholly in the
 * image (state->missing), or not to be read (state->broken).
 */
int image_load(const void *image, uint64_t address, uint64_t *ret_value);
/* The same for n words; none is set if one is missing. */
int image_load_many(const struct image *image, uint64_t address, size_t n, uint64_t *ret_values);

static inline void image_closep(struct image *image)
{
	image_close(image);
}
#define _cleanup_image_ __attribute__((cleanup(image_closep)))

/* ---- between image*.c ---- */

/* Bytes of the file.  False: beyond its end, or not to be read (state->broken). */
bool image_bytes(const struct image *image, uint64_t offset, void *to, uint64_t length);
int image_bad(char ret_problem[IMAGE_PROBLEM_MAX], const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Fill in the extents.  0 or IMAGE_E_BAD. */
int image_parse_elf(struct image *image, char ret_problem[IMAGE_PROBLEM_MAX]);
int image_parse_pages(struct image *image, uint32_t granule, char ret_problem[IMAGE_PROBLEM_MAX]);
void image_sort(struct image *image);

#endif
