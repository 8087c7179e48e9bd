/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of an ELF core: its PT_LOAD segments by p_paddr (ELF specification, "Program
 * Header"; QEMU dump/dump.c).  Notes and sections are not looked at, but for section 0, which has
 * the number of segments where e_phnum is PN_XNUM.
 *
 * Only bytes that are in the file are memory: what p_memsz has beyond p_filesz was left out of
 * the dump, and is not zero because of that.
 *
 * Segments may hold the same memory twice: QEMU's dump with paging has one for each virtual
 * range, and /proc/vmcore one for the kernel's text beside that of the RAM around it.  Where that
 * are the same bytes of the file, it is nothing to speak of.  Other bytes must be equal; else
 * nobody could tell which are right, and the file is refused.
 */
#include "image.h"
#include "cli.h"

#include <elf.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>

/* Room for a segment for every page of a large guest. */
#define SEGMENTS_MAX (4u << 20)
/* How many bytes are compared at most: a kernel's text, not the memory of a host. */
#define COMPARED_MAX (256ull << 20)

/* What is taken from the headers of either class. */
struct elf {
	bool is_64;
	uint64_t phoff, shoff, n;
	uint16_t type, phentsize;
};

struct segment {
	uint32_t type;
	uint64_t offset, address, length;
};

static int read_header(const struct image *image, char ret_problem[IMAGE_PROBLEM_MAX],
		       struct elf *ret)
{
	uint8_t ident[EI_NIDENT];
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;

	if (!image_bytes(image, 0, ident, sizeof(ident)) || memcmp(ident, ELFMAG, SELFMAG))
		return image_bad(ret_problem, "it is no ELF file");
	if (ident[EI_DATA] != ELFDATA2LSB)
		return image_bad(ret_problem, "it is of a big-endian machine");
	switch (ident[EI_CLASS]) {
	case ELFCLASS64:
		if (!image_bytes(image, 0, &e64, sizeof(e64)))
			break;
		*ret = (struct elf){
			.is_64 = true,
			.phoff = le64toh(e64.e_phoff),
			.shoff = le64toh(e64.e_shoff),
			.n = le16toh(e64.e_phnum),
			.type = le16toh(e64.e_type),
			.phentsize = le16toh(e64.e_phentsize),
		};
		return 0;
	case ELFCLASS32:
		if (!image_bytes(image, 0, &e32, sizeof(e32)))
			break;
		*ret = (struct elf){
			.phoff = le32toh(e32.e_phoff),
			.shoff = le32toh(e32.e_shoff),
			.n = le16toh(e32.e_phnum),
			.type = le16toh(e32.e_type),
			.phentsize = le16toh(e32.e_phentsize),
		};
		return 0;
	default:
		return image_bad(ret_problem, "its ELF class is %u, neither 32 nor 64 bits",
				 ident[EI_CLASS]);
	}
	return image_bad(ret_problem, "it ends within the ELF header");
}

/* The number of segments where 16 bits are too few for it. */
static int read_big_number(const struct image *image, struct elf *elf,
			   char ret_problem[IMAGE_PROBLEM_MAX])
{
	Elf64_Shdr s64;
	Elf32_Shdr s32;
	bool ok;

	if (!elf->shoff)
		return image_bad(ret_problem,
				 "its number of segments is in section 0, which it has not");
	ok = elf->is_64 ? image_bytes(image, elf->shoff, &s64, sizeof(s64))
			: image_bytes(image, elf->shoff, &s32, sizeof(s32));
	if (!ok)
		return image_bad(ret_problem, "section 0 lies beyond the end of the file");
	elf->n = le32toh(elf->is_64 ? s64.sh_info : s32.sh_info);
	return 0;
}

/* False: beyond the end of the file. */
static bool read_segment(const struct image *image, const struct elf *elf, uint64_t at,
			 struct segment *ret)
{
	Elf64_Phdr p64;
	Elf32_Phdr p32;

	if (elf->is_64) {
		if (!image_bytes(image, at, &p64, sizeof(p64)))
			return false;
		*ret = (struct segment){le32toh(p64.p_type), le64toh(p64.p_offset),
					le64toh(p64.p_paddr), le64toh(p64.p_filesz)};
		return true;
	}
	if (!image_bytes(image, at, &p32, sizeof(p32)))
		return false;
	*ret = (struct segment){le32toh(p32.p_type), le32toh(p32.p_offset), le32toh(p32.p_paddr),
				le32toh(p32.p_filesz)};
	return true;
}

static int take_segments(struct image *image, const struct elf *elf,
			 char ret_problem[IMAGE_PROBLEM_MAX])
{
	size_t room = 0;

	for (uint64_t i = 0; i < elf->n; i++) {
		struct segment s;

		/* Does not wrap: phoff lies in the file, n and phentsize are small. */
		if (!read_segment(image, elf, elf->phoff + i * elf->phentsize, &s))
			return image_bad(ret_problem,
					 "program header %" PRIu64 " of %" PRIu64
					 " lies beyond the end of the file",
					 i, elf->n);
		if (s.type != PT_LOAD || !s.length)
			continue;
		if (s.offset > image->size || s.length > image->size - s.offset)
			return image_bad(ret_problem,
					 "segment %" PRIu64
					 " lies beyond the end of the file, at byte %" PRIu64
					 ": the dump was cut off",
					 i, image->size);
		if (s.address > UINT64_MAX - s.length)
			return image_bad(ret_problem,
					 "segment %" PRIu64 " at 0x%" PRIx64 " ends beyond 2^64", i,
					 s.address);
		if (image->n_extents == room) {
			room = room ? 2 * room : 16;
			image->extents = cli_grow(image->extents, room * sizeof(*image->extents));
		}
		image->extents[image->n_extents++] = (struct image_extent){
			.address = s.address,
			.offset = s.offset,
			.length = s.length,
		};
	}
	return 0;
}

/* ---- memory that is there twice ---- */

static uint64_t end_of(const struct image_extent *e)
{
	return e->address + e->length;
}

/* *budget: bytes that may still be compared. */
static int compare(const struct image *image, uint64_t a, uint64_t b, uint64_t length,
		   uint64_t address, uint64_t *budget, char ret_problem[IMAGE_PROBLEM_MAX])
{
	uint8_t x[4096], y[sizeof(x)];

	for (uint64_t done = 0; done < length;) {
		uint64_t n = length - done < sizeof(x) ? length - done : sizeof(x);

		if (*budget < n)
			return image_bad(
				ret_problem,
				"its segments overlap in more than %llu MiB, from 0x%" PRIx64 " on",
				COMPARED_MAX >> 20, address + done);
		*budget -= n;
		if (!image_bytes(image, a + done, x, n) || !image_bytes(image, b + done, y, n))
			return IMAGE_E_BAD;
		for (uint64_t i = 0; i < n; i++)
			if (x[i] != y[i])
				return image_bad(ret_problem,
						 "two segments overlap and differ at 0x%" PRIx64,
						 address + done + i);
		done += n;
	}
	return 0;
}

/*
 * Takes one more extent, which begins in or behind the last of those before it.  What these hold
 * already, without a gap, is compared and left out of it.
 */
static int add_extent(struct image *image, size_t *n, struct image_extent next, uint64_t *budget,
		      char ret_problem[IMAGE_PROBLEM_MAX])
{
	struct image_extent *last = *n ? &image->extents[*n - 1] : NULL;
	uint64_t known = last ? end_of(last) : 0, cut;
	int r;

	for (size_t i = *n; i && end_of(&image->extents[i - 1]) > next.address; i--) {
		const struct image_extent *e = &image->extents[i - 1];
		uint64_t from = e->address > next.address ? e->address : next.address;
		uint64_t to = end_of(e) < end_of(&next) ? end_of(e) : end_of(&next);

		if (from >= to || e->offset - e->address == next.offset - next.address)
			continue;
		r = compare(image, e->offset + (from - e->address),
			    next.offset + (from - next.address), to - from, from, budget,
			    ret_problem);
		if (r)
			return r;
	}
	if (last && known >= end_of(&next))
		return 0;
	if (last && known >= next.address) {
		cut = known - next.address;
		next.address += cut;
		next.offset += cut;
		next.length -= cut;
		if (last->offset - last->address == next.offset - next.address) {
			last->length += next.length;
			return 0;
		}
	}
	image->extents[(*n)++] = next;
	return 0;
}

int image_parse_elf(struct image *image, char ret_problem[IMAGE_PROBLEM_MAX])
{
	uint64_t budget = COMPARED_MAX;
	struct elf elf = {};
	size_t n = 0;
	int r = read_header(image, ret_problem, &elf);

	if (r)
		return r;
	if (elf.type != ET_CORE)
		return image_bad(ret_problem, "it is an ELF file of type %u, but no core (4)",
				 elf.type);
	if (elf.n == PN_XNUM) {
		r = read_big_number(image, &elf, ret_problem);
		if (r)
			return r;
	}
	if (elf.n > SEGMENTS_MAX)
		return image_bad(ret_problem, "it has %" PRIu64 " segments, more than %u", elf.n,
				 SEGMENTS_MAX);
	if (elf.n && elf.phentsize < (elf.is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return image_bad(ret_problem, "its program headers of %u bytes are too small",
				 elf.phentsize);
	if (elf.phoff > image->size)
		return image_bad(ret_problem, "its program headers lie beyond the end of the file");
	r = take_segments(image, &elf, ret_problem);
	if (r)
		return r;
	if (!image->n_extents)
		return image_bad(ret_problem, "it has no segment with memory");
	image_sort(image);
	for (size_t i = 0; i < image->n_extents; i++) {
		r = add_extent(image, &n, image->extents[i], &budget, ret_problem);
		if (r)
			return r;
	}
	image->n_extents = n;
	return 0;
}
