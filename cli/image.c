/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, reading and closing images, raw ones, and what a file is when nobody said; see
 * image.h.  The index of ELF cores is made in image_elf.c, that of pages in image_pages.c.
 */
#include "image.h"
#include "cli.h"

#include "soft/guard.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALLEST_PAGE 4096

int image_bad(char ret_problem[IMAGE_PROBLEM_MAX], const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(ret_problem, IMAGE_PROBLEM_MAX, format, ap);
	va_end(ap);
	return IMAGE_E_BAD;
}

bool image_bytes(const struct image *image, uint64_t offset, void *to, uint64_t length)
{
	if (offset > image->size || length > image->size - offset)
		return false;
	if (!image->mapped) {
		memcpy(to, image->bytes + offset, length);
		return true;
	}
	if (soft_guard_copy(to, image->bytes + offset, length))
		return true;
	image->state->broken = true;
	image->state->bad_byte = offset;
	return false;
}

/* ---- the index ---- */

static int by_address(const void *a, const void *b)
{
	const struct image_extent *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

void image_sort(struct image *image)
{
	for (size_t i = 1; i < image->n_extents; i++)
		if (by_address(&image->extents[i - 1], &image->extents[i]) > 0) {
			qsort(image->extents, image->n_extents, sizeof(*image->extents),
			      by_address);
			return;
		}
}

/* The extent that holds an address, or NULL. */
static const struct image_extent *extent_of(const struct image *image, uint64_t address)
{
	const struct image_extent *e;
	size_t low = 0, high = image->n_extents;

	if (!high)
		return NULL;
	/* Below the extent's address this is a huge number. */
	e = &image->extents[image->state->last];
	if (address - e->address < e->length)
		return e;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (image->extents[middle].address <= address)
			low = middle;
		else
			high = middle;
	}
	e = &image->extents[low];
	if (address - e->address >= e->length)
		return NULL;
	image->state->last = low;
	return e;
}

/* ---- reading ---- */

int image_load_many(const struct image *image, uint64_t address, size_t n, uint64_t *ret_values)
{
	const struct image_extent *e = extent_of(image, address);
	uint64_t length = n * sizeof(*ret_values), inside;

	if (!e || e->length - (address - e->address) < length) {
		image->state->missing = address;
		return -EFAULT;
	}
	inside = e->offset + (address - e->address);
	if (!image_bytes(image, inside, ret_values, length))
		return -EFAULT;
	for (size_t i = 0; i < n; i++)
		ret_values[i] = le64toh(ret_values[i]);
	return 0;
}

int image_load(const void *image, uint64_t address, uint64_t *ret_value)
{
	uint64_t value;
	int r = image_load_many(image, address, 1, &value);

	if (!r)
		*ret_value = value;
	return r;
}

/* ---- raw, and what a file is ---- */

static int parse_raw(struct image *image, uint64_t base, char ret_problem[IMAGE_PROBLEM_MAX])
{
	if (base + image->size < base && base + image->size)
		return image_bad(ret_problem,
				 "%" PRIu64 " bytes from address 0x%" PRIx64 " on end beyond 2^64",
				 image->size, base);
	image->extents = cli_alloc(sizeof(*image->extents));
	image->extents[0] = (struct image_extent){.address = base, .length = image->size};
	image->n_extents = 1;
	return 0;
}

/* Dumps that hold compressed pages, which cannot be mapped. */
static const char *compressed_dump(const struct image *image)
{
	static const struct {
		const char *magic, *what;
	} kinds[] = {
		{"KDUMP   ", "a kdump-compressed dump"},
		{"DISKDUMP", "a diskdump"},
		{"makedumpfile", "a flattened dump of makedumpfile"},
		{"PAGEDU64", "a Windows crash dump"},
	};
	char begin[12] = "";

	if (!image_bytes(image, 0, begin, sizeof(begin)))
		return NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!memcmp(begin, kinds[i].magic, strlen(kinds[i].magic)))
			return kinds[i].what;
	return NULL;
}

static int guess(const struct image *image, uint32_t granule, char ret_problem[IMAGE_PROBLEM_MAX],
		 enum image_format *ret_format)
{
	bool pages = image->size % (granule + sizeof(uint64_t)) == 0;
	bool raw = image->size % SMALLEST_PAGE == 0;
	char magic[SELFMAG];

	if (image_bytes(image, 0, magic, sizeof(magic)) && !memcmp(magic, ELFMAG, SELFMAG))
		*ret_format = IMAGE_ELF_CORE;
	else if (raw && !pages)
		*ret_format = IMAGE_RAW;
	else if (pages && !raw)
		*ret_format = IMAGE_PAGES;
	else
		return image_bad(ret_problem,
				 "its size of %" PRIu64 " bytes fits %s: say --image-format",
				 image->size,
				 raw ? "both raw memory and records of pages"
				     : "neither whole pages nor records of pages");
	return 0;
}

static int parse(struct image *image, const struct image_spec *spec,
		 char ret_problem[IMAGE_PROBLEM_MAX])
{
	enum image_format format = spec->format;
	const char *compressed;
	int r;

	if (!image->size)
		return image_bad(ret_problem, "it is empty");
	if (format != IMAGE_RAW && format != IMAGE_PAGES) {
		compressed = compressed_dump(image);
		if (compressed)
			return image_bad(ret_problem,
					 "it is %s: only dumps without compression can be read, "
					 "such as `dump-guest-memory FILE` or `makedumpfile -E`",
					 compressed);
	}
	if (format == IMAGE_AUTO) {
		r = guess(image, spec->granule, ret_problem, &format);
		if (r)
			return r;
	}
	image->format = format;
	if (spec->base && format != IMAGE_RAW)
		return image_bad(ret_problem, "it says itself which addresses it holds: "
					      "--image-base is for raw images only");
	switch (format) {
	case IMAGE_ELF_CORE:
		r = image_parse_elf(image, ret_problem);
		break;
	case IMAGE_PAGES:
		r = image_parse_pages(image, spec->granule, ret_problem);
		break;
	default:
		r = parse_raw(image, spec->base, ret_problem);
		break;
	}
	if (image->state->broken)
		return image_bad(ret_problem,
				 "it cannot be read at byte %" PRIu64 ": it shrank, or its disk "
				 "failed",
				 image->state->bad_byte);
	return r;
}

/* ---- opening ---- */

static int begin(const void *bytes, uint64_t size, bool mapped, const struct image_spec *spec,
		 char ret_problem[IMAGE_PROBLEM_MAX], struct image *ret_image)
{
	struct image image = {.bytes = bytes, .size = size, .mapped = mapped};
	int r;

	image.state = cli_alloc(sizeof(*image.state));
	r = parse(&image, spec, ret_problem);
	if (r) {
		image_close(&image);
		return r;
	}
	*ret_image = image;
	return 0;
}

int image_parse(const void *bytes, uint64_t size, const struct image_spec *spec,
		char ret_problem[IMAGE_PROBLEM_MAX], struct image *ret_image)
{
	return begin(bytes, size, false, spec, ret_problem, ret_image);
}

static int map_fd(int fd, const struct image_spec *spec, char ret_problem[IMAGE_PROBLEM_MAX],
		  struct image *ret_image)
{
	struct stat st;
	void *bytes;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return image_bad(ret_problem, "it is no regular file, and cannot be mapped");
	if (st.st_size <= 0)
		return image_bad(ret_problem, "it is empty");
	r = soft_guard_init();
	if (r < 0)
		return r;
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	/* Tables lie anywhere: what is around one is not wanted. */
	madvise(bytes, (size_t)st.st_size, MADV_RANDOM);
	return begin(bytes, (uint64_t)st.st_size, true, spec, ret_problem, ret_image);
}

int image_open(const char *path, const struct image_spec *spec, char ret_problem[IMAGE_PROBLEM_MAX],
	       struct image *ret_image)
{
	/* Not to wait for a writer, if it is a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return -errno;
	r = map_fd(fd, spec, ret_problem, ret_image);
	close(fd);
	return r;
}

void image_close(struct image *image)
{
	if (image->mapped)
		munmap((void *)(uintptr_t)image->bytes, image->size);
	free(image->extents);
	free(image->state);
	*image = (struct image){};
}
