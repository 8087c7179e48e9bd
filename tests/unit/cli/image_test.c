/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of memory: what each format holds, what is refused and why, and a file that shrinks
 * while it is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"

static char problem[IMAGE_PROBLEM_MAX];

/* A file in memory. */
struct file {
	uint8_t bytes[65536];
	size_t size;
};

static int open_as(const struct file *file, enum image_format format, struct image *ret)
{
	const struct image_spec spec = {.format = format, .granule = 4096};

	memset(problem, 0, sizeof(problem));
	return image_parse(file->bytes, file->size, &spec, problem, ret);
}

static void refused(const struct file *file, enum image_format format, const char *why)
{
	struct image image;

	assert_int_equal(open_as(file, format, &image), IMAGE_E_BAD);
	if (!strstr(problem, why))
		fail_msg("\"%s\" does not say \"%s\"", problem, why);
}

static void holds(const struct image *image, uint64_t address, uint64_t expected)
{
	uint64_t value = 0;

	assert_int_equal(image_load(image, address, &value), 0);
	assert_int_equal(value, expected);
}

static void lacks(const struct image *image, uint64_t address)
{
	uint64_t value = 7;

	assert_int_equal(image_load(image, address, &value), -EFAULT);
	assert_int_equal(value, 7);
	assert_int_equal(image->state->missing, address);
	assert_false(image->state->broken);
}

static void put_u64(struct file *file, size_t at, uint64_t value)
{
	assert_true(at + 8 <= sizeof(file->bytes));
	memcpy(file->bytes + at, &value, 8);
}

/* ---- raw ---- */

static void test_raw(void **state)
{
	struct image_spec spec = {.format = IMAGE_RAW, .base = 0x40000000, .granule = 4096};
	static struct file file = {.size = 4100};
	struct image image;

	put_u64(&file, 0, 1);
	put_u64(&file, 4092, 2);
	assert_int_equal(image_parse(file.bytes, file.size, &spec, problem, &image), 0);
	holds(&image, 0x40000000, 1);
	holds(&image, 0x40000ffc, 2);
	lacks(&image, 0x40000ffd);
	lacks(&image, 0x40001000);
	lacks(&image, 0x3fffffff);
	lacks(&image, 0);
	lacks(&image, UINT64_MAX);
	image_close(&image);

	/* The last byte may be the last address, and no further. */
	spec.base = UINT64_MAX - 4099;
	assert_int_equal(image_parse(file.bytes, file.size, &spec, problem, &image), 0);
	holds(&image, UINT64_MAX - 7, 2);
	lacks(&image, UINT64_MAX - 6);
	image_close(&image);
	spec.base++;
	assert_int_equal(image_parse(file.bytes, file.size, &spec, problem, &image), IMAGE_E_BAD);
	assert_non_null(strstr(problem, "beyond 2^64"));
	file.size = 0;
	refused(&file, IMAGE_RAW, "empty");
}

static void test_many(void **state)
{
	static struct file file = {.size = 8192};
	struct image image;
	uint64_t words[3] = {5, 5, 5};

	put_u64(&file, 8176, 1);
	put_u64(&file, 8184, 2);
	assert_int_equal(open_as(&file, IMAGE_RAW, &image), 0);
	assert_int_equal(image_load_many(&image, 8176, 3, words), -EFAULT);
	assert_int_equal(words[0], 5);
	assert_int_equal(image_load_many(&image, 8168, 3, words), 0);
	assert_int_equal(words[1], 1);
	assert_int_equal(words[2], 2);
	image_close(&image);
}

/* ---- pages ---- */

static void put_page(struct file *file, uint64_t address, uint64_t mark)
{
	put_u64(file, file->size, address);
	put_u64(file, file->size + 8, mark);
	put_u64(file, file->size + 8 + 4088, ~mark);
	file->size += 8 + 4096;
}

static void test_pages(void **state)
{
	static struct file file;
	struct image image;

	put_page(&file, 0x8000, 3);
	put_page(&file, 0x1000, 1);
	put_page(&file, 0x2000, 2);
	put_page(&file, UINT64_MAX - 0x1fff, 4);
	assert_int_equal(open_as(&file, IMAGE_PAGES, &image), 0);
	holds(&image, 0x1000, 1);
	holds(&image, 0x1ff8, ~1ull);
	holds(&image, 0x2000, 2);
	holds(&image, 0x8000, 3);
	holds(&image, 0x8ff8, ~3ull);
	holds(&image, UINT64_MAX - 0x1fff, 4);
	lacks(&image, 0xff8);
	lacks(&image, 0x3000);
	lacks(&image, 0x7ff8);
	lacks(&image, 0x9000);
	lacks(&image, 0);
	image_close(&image);
}

static void test_bad_pages(void **state)
{
	static struct file file;

	put_page(&file, 0x1000, 1);
	put_page(&file, 0x5000, 1);
	file.size--;
	refused(&file, IMAGE_PAGES, "torn: 4103 of 4104");
	file.size = 8;
	refused(&file, IMAGE_PAGES, "torn: 8 of");
	file.size = 2 * 4104;
	put_page(&file, 0x1000, 2);
	refused(&file, IMAGE_PAGES, "records 1 and 3 hold the same memory");
	put_u64(&file, 2 * 4104, 0x4008);
	refused(&file, IMAGE_PAGES, "records 3 and 2 hold the same memory");
	put_u64(&file, 2 * 4104, UINT64_MAX - 4094);
	refused(&file, IMAGE_PAGES, "record 3: a page at 0xfffffffffffff001 ends beyond");
}

/* ---- ELF cores ---- */

static Elf64_Phdr *segment(struct file *file, unsigned int i)
{
	return (Elf64_Phdr *)(void *)(file->bytes + sizeof(Elf64_Ehdr)) + i;
}

/* Segment i is at file offset 4096 (i + 1). */
static void make_elf(struct file *file, unsigned int n)
{
	Elf64_Ehdr header = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (Elf64_Half)n,
	};

	memset(file, 0, sizeof(*file));
	memcpy(file->bytes, &header, sizeof(header));
	for (unsigned int i = 0; i < n; i++) {
		*segment(file, i) = (Elf64_Phdr){
			.p_type = PT_LOAD,
			.p_offset = 4096 * (i + 1),
			.p_paddr = 0x100000 * i,
			.p_vaddr = 0xdead000,
			.p_filesz = 4096,
			.p_memsz = 4096,
		};
		memset(file->bytes + 4096 * (size_t)(i + 1), 1 + (int)i, 4096);
	}
	file->size = 4096 * (size_t)(n + 1);
}

static Elf64_Ehdr *header(struct file *file)
{
	return (Elf64_Ehdr *)(void *)file->bytes;
}

#define MARK(n) (0x0101010101010101ull * (n))

static void test_elf(void **state)
{
	static struct file file;
	struct image image;

	make_elf(&file, 4);
	/* Unsorted, a note, an empty one, and one of which half is in the file. */
	segment(&file, 0)->p_paddr = 0x40000000;
	segment(&file, 1)->p_type = PT_NOTE;
	segment(&file, 2)->p_filesz = 0;
	segment(&file, 3)->p_filesz = 2048;
	assert_int_equal(open_as(&file, IMAGE_AUTO, &image), 0);
	assert_int_equal(image.format, IMAGE_ELF_CORE);
	assert_int_equal(image.n_extents, 2);
	holds(&image, 0x40000000, MARK(1));
	holds(&image, 0x300000, MARK(4));
	holds(&image, 0x3007f8, MARK(4));
	/* What was left out of the dump is not zero: it is not there. */
	lacks(&image, 0x300800);
	lacks(&image, 0x100000);
	lacks(&image, 0x200000);
	lacks(&image, 0xdead000);
	image_close(&image);
}

static void test_elf_32(void **state)
{
	static struct file file;
	const Elf32_Ehdr head = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_CORE,
		.e_phoff = 64,
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 1,
	};
	const Elf32_Phdr phdr = {
		.p_type = PT_LOAD,
		.p_offset = 4096,
		.p_paddr = 0xfffff000,
		.p_filesz = 4096,
	};
	struct image image;

	memcpy(file.bytes, &head, sizeof(head));
	memcpy(file.bytes + 64, &phdr, sizeof(phdr));
	put_u64(&file, 4096, 0x1122334455667788);
	file.size = 8192;
	assert_int_equal(open_as(&file, IMAGE_ELF_CORE, &image), 0);
	holds(&image, 0xfffff000, 0x1122334455667788);
	lacks(&image, 0x100000000);
	image_close(&image);
}

static void test_elf_big_number(void **state)
{
	static struct file file;
	Elf64_Shdr section = {.sh_info = 2};
	struct image image;

	make_elf(&file, 2);
	header(&file)->e_phnum = PN_XNUM;
	refused(&file, IMAGE_ELF_CORE, "section 0, which it has not");
	header(&file)->e_shoff = file.size;
	refused(&file, IMAGE_ELF_CORE, "section 0 lies beyond");
	memcpy(file.bytes + file.size, &section, sizeof(section));
	file.size += sizeof(section);
	assert_int_equal(open_as(&file, IMAGE_ELF_CORE, &image), 0);
	assert_int_equal(image.n_extents, 2);
	holds(&image, 0x100000, MARK(2));
	image_close(&image);
	section.sh_info = UINT32_MAX;
	memcpy(file.bytes + header(&file)->e_shoff, &section, sizeof(section));
	refused(&file, IMAGE_ELF_CORE, "4294967295 segments, more than");
}

static void test_bad_elf(void **state)
{
	static struct file file;

	make_elf(&file, 2);
	file.size = 20;
	refused(&file, IMAGE_ELF_CORE, "ends within the ELF header");
	make_elf(&file, 2);
	file.bytes[0] = 0;
	refused(&file, IMAGE_ELF_CORE, "no ELF file");
	make_elf(&file, 2);
	file.bytes[EI_CLASS] = 3;
	refused(&file, IMAGE_ELF_CORE, "class is 3");
	make_elf(&file, 2);
	file.bytes[EI_DATA] = ELFDATA2MSB;
	refused(&file, IMAGE_ELF_CORE, "big-endian");
	make_elf(&file, 2);
	header(&file)->e_type = ET_EXEC;
	refused(&file, IMAGE_ELF_CORE, "no core");
	make_elf(&file, 2);
	header(&file)->e_phentsize = 55;
	refused(&file, IMAGE_ELF_CORE, "55 bytes are too small");
	make_elf(&file, 2);
	header(&file)->e_phoff = UINT64_MAX - 8;
	refused(&file, IMAGE_ELF_CORE, "program headers lie beyond");
	make_elf(&file, 2);
	header(&file)->e_phoff = file.size - sizeof(Elf64_Phdr);
	refused(&file, IMAGE_ELF_CORE, "program header 1 of 2");
	make_elf(&file, 0);
	refused(&file, IMAGE_ELF_CORE, "no segment with memory");
	make_elf(&file, 2);
	file.size--;
	refused(&file, IMAGE_ELF_CORE, "segment 1 lies beyond");
	make_elf(&file, 2);
	segment(&file, 0)->p_offset = UINT64_MAX;
	refused(&file, IMAGE_ELF_CORE, "segment 0 lies beyond");
	make_elf(&file, 2);
	segment(&file, 1)->p_paddr = UINT64_MAX - 4094;
	refused(&file, IMAGE_ELF_CORE, "ends beyond 2^64");
}

/* Segments that hold the same memory. */
static void test_overlap(void **state)
{
	static struct file file;
	struct image image;

	/* Other bytes, which differ. */
	make_elf(&file, 2);
	segment(&file, 1)->p_paddr = 0x800;
	refused(&file, IMAGE_ELF_CORE, "overlap and differ at 0x800");
	segment(&file, 1)->p_paddr = 0;
	refused(&file, IMAGE_ELF_CORE, "overlap and differ at 0x0");
	/* Which of them comes first in the file does not matter. */
	segment(&file, 0)->p_paddr = 0xff8;
	refused(&file, IMAGE_ELF_CORE, "overlap and differ at 0xff8");

	/* Other bytes, which are the same: /proc/vmcore. */
	make_elf(&file, 3);
	segment(&file, 1)->p_paddr = 0x800;
	memset(file.bytes + 2 * 4096, 1, 2048);
	segment(&file, 2)->p_paddr = 0xc00;
	segment(&file, 2)->p_filesz = 512;
	memset(file.bytes + 3 * 4096, 1, 512);
	assert_int_equal(open_as(&file, IMAGE_ELF_CORE, &image), 0);
	holds(&image, 0x7f8, MARK(1));
	holds(&image, 0xff8, MARK(1));
	holds(&image, 0x1000, MARK(2));
	holds(&image, 0x17f8, MARK(2));
	lacks(&image, 0x1800);
	image_close(&image);
	/* One byte of the third is another. */
	file.bytes[3 * 4096 + 511] = 9;
	refused(&file, IMAGE_ELF_CORE, "differ at 0xdff");

	/* The same bytes of the file: QEMU's dump with paging.  Neighbours become one. */
	make_elf(&file, 3);
	segment(&file, 1)->p_offset = 4096;
	segment(&file, 1)->p_paddr = 0;
	segment(&file, 2)->p_offset = 4096 + 1024;
	segment(&file, 2)->p_paddr = 1024;
	assert_int_equal(open_as(&file, IMAGE_ELF_CORE, &image), 0);
	assert_int_equal(image.n_extents, 1);
	holds(&image, 0, MARK(1));
	holds(&image, 4096 + 1016, MARK(2));
	lacks(&image, 4096 + 1024);
	image_close(&image);
}

/* ---- what a file is ---- */

static void test_guess(void **state)
{
	static struct file file;
	static uint8_t large[4104 * 512];
	const struct image_spec spec = {.granule = 4096};
	struct image_spec based = spec;
	struct image image;

	file.size = 8192;
	assert_int_equal(open_as(&file, IMAGE_AUTO, &image), 0);
	assert_int_equal(image.format, IMAGE_RAW);
	image_close(&image);
	file.size = 4104;
	assert_int_equal(open_as(&file, IMAGE_AUTO, &image), 0);
	assert_int_equal(image.format, IMAGE_PAGES);
	image_close(&image);
	based.base = 4096;
	assert_int_equal(image_parse(file.bytes, file.size, &based, problem, &image), IMAGE_E_BAD);
	assert_non_null(strstr(problem, "--image-base"));
	file.size = 4100;
	refused(&file, IMAGE_AUTO, "fits neither");
	assert_int_equal(image_parse(large, sizeof(large), &spec, problem, &image), IMAGE_E_BAD);
	assert_non_null(strstr(problem, "fits both"));
	file.size = 8192;
	memcpy(file.bytes, "KDUMP   ", 8);
	refused(&file, IMAGE_AUTO, "kdump-compressed");
	refused(&file, IMAGE_ELF_CORE, "kdump-compressed");
	memcpy(file.bytes, "makedumpfile", 12);
	refused(&file, IMAGE_AUTO, "flattened");
	assert_int_equal(open_as(&file, IMAGE_RAW, &image), 0);
	image_close(&image);
}

/* ---- files ---- */

static void test_files(void **state)
{
	const struct image_spec spec = {.format = IMAGE_RAW, .granule = 4096};
	char path[64];
	struct image image;
	uint64_t value = 1;
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_int_equal(image_open("/nowhere/at/all", &spec, problem, &image), -ENOENT);
	assert_int_equal(image_open("/", &spec, problem, &image), -EISDIR);
	assert_int_equal(image_open("/dev/null", &spec, problem, &image), IMAGE_E_BAD);
	assert_non_null(strstr(problem, "regular"));

	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(image_open(path, &spec, problem, &image), IMAGE_E_BAD);
	assert_non_null(strstr(problem, "empty"));
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(pwrite(fd, &value, 8, 0x80000), 8);
	assert_int_equal(image_open(path, &spec, problem, &image), 0);
	holds(&image, 0x80000, 1);
	holds(&image, 0, 0);
	lacks(&image, 1 << 20);

	/* It shrinks under us: no SIGBUS, and not a zero either. */
	assert_int_equal(ftruncate(fd, 0x80000), 0);
	holds(&image, 0x7fff8, 0);
	assert_int_equal(image_load(&image, 0x80008, &value), -EFAULT);
	assert_true(image.state->broken);
	assert_int_equal(image.state->bad_byte, 0x80008);
	/* And again. */
	assert_int_equal(image_load(&image, 0x90000, &value), -EFAULT);
	image_close(&image);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),	cmocka_unit_test(test_many),
		cmocka_unit_test(test_pages),	cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_elf),	cmocka_unit_test(test_elf_32),
		cmocka_unit_test(test_bad_elf), cmocka_unit_test(test_elf_big_number),
		cmocka_unit_test(test_overlap), cmocka_unit_test(test_guess),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
