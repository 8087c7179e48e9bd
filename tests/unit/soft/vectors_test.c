/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walk against tables that real kernels built and answers that are not ours
 * (tests/data/page-tables/README.md): every line of every set must agree in address, page
 * size and permissions, and no page may be asked for that the set does not have.
 */

#include "soft/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA IOASID_SOURCE_DIR "/tests/data/page-tables/"

struct record {
	uint64_t address;
	uint64_t entries[512];
};

struct set {
	const char *folder;
	const struct soft_format *format;
	struct soft_shape_spec shape;
	uint64_t root;
	bool is_cpu;
	uint8_t output_bits; /* 0: 52 */
	struct record *records;
	size_t n_records;
	uint64_t *asked; /* per record: how often it was read */
	uint64_t strays; /* reads outside of the records */
};

static int compare_records(const void *a, const void *b)
{
	uint64_t x = ((const struct record *)a)->address, y = ((const struct record *)b)->address;

	return x < y ? -1 : x > y;
}

static void set_load(struct set *set)
{
	char path[512];
	FILE *file;
	long size;

	snprintf(path, sizeof(path), DATA "%s/pages.bin", set->folder);
	file = fopen(path, "rb");
	assert_non_null(file);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	size = ftell(file);
	rewind(file);
	assert_int_equal(size % (long)sizeof(struct record), 0);
	set->n_records = (size_t)size / sizeof(struct record);
	assert_true(set->n_records > 0);
	set->records = calloc(set->n_records, sizeof(struct record));
	set->asked = calloc(set->n_records, sizeof(uint64_t));
	assert_non_null(set->records);
	assert_non_null(set->asked);
	assert_int_equal(fread(set->records, sizeof(struct record), set->n_records, file),
			 set->n_records);
	fclose(file);
	qsort(set->records, set->n_records, sizeof(struct record), compare_records);
}

static void set_unload(struct set *set)
{
	free(set->records);
	free(set->asked);
}

static int load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	struct set *set = (struct set *)memory;
	size_t low = 0, high = set->n_records;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct record *record = &set->records[middle];

		if (address < record->address) {
			high = middle;
		} else if (address >= record->address + 4096) {
			low = middle + 1;
		} else {
			set->asked[middle]++;
			*ret_entry = record->entries[(address - record->address) / 8];
			return 0;
		}
	}
	set->strays++;
	return -EFAULT;
}

static bool walk(struct set *set, uint64_t va, uint32_t access, struct soft_translation *ret,
		 struct shim_fault *ret_fault)
{
	struct soft_stage stage = {
		.format = set->format,
		.env = {.output_bits = set->output_bits ?: 52},
		.root = set->root,
		.load = load,
		.memory = set,
	};

	assert_int_equal(soft_shape_init(set->format, &set->shape, NULL, &stage.shape), 0);
	return soft_walk(&stage, 1, va, access, NULL, ret, ret_fault);
}

static uint64_t size_of_name(const char *name)
{
	if (!strcmp(name, "4K"))
		return 4096;
	if (!strcmp(name, "2M"))
		return 2ull << 20;
	if (!strcmp(name, "64K"))
		return 64ull << 10;
	assert_string_equal(name, "1G");
	return 1ull << 30;
}

/* "rw-u", "rw--", "r-xu", "rw", "-w", "r---P": the letters say it all. */
static uint32_t prot_of_name(const struct set *set, const char *name)
{
	return (strchr(name, 'r') ? SHIM_READ : 0) | (strchr(name, 'w') ? SHIM_WRITE : 0) |
	       (strchr(name, 'x') ? SHIM_EXEC : 0) |
	       (strchr(name, 'P') ? SOFT_PRIVILEGED_EXEC : 0) |
	       (strchr(name, 'u') || !set->is_cpu ? SOFT_USER : 0);
}

static size_t compare_lines(struct set *set, bool stop_at_stray)
{
	char path[512], line[512], pa[64], size[16], perms[16], tag[256];
	unsigned long long va;
	size_t lines = 0, faults = 0;
	FILE *file;

	snprintf(path, sizeof(path), DATA "%s/translations.tsv", set->folder);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct soft_translation where = {0};
		struct shim_fault fault = {0};
		uint32_t prot, whose;
		bool ok;

		if (line[0] == '#')
			continue;
		assert_int_equal(
			sscanf(line, "%llx %63s %15s %15s %255s", &va, pa, size, perms, tag), 5);
		lines++;
		/* A mapping that cannot be read is found by asking for what it allows. */
		prot = prot_of_name(set, perms);
		/* A page of RISC-V is the unprivileged's alone, or the privileged's. */
		whose = set->format->tells_privileged ? prot & SOFT_USER : 0;
		ok = walk(set, va,
			  (prot & SHIM_WRITE && !(prot & SHIM_READ) ? SHIM_WRITE : SHIM_READ) |
				  whose,
			  &where, &fault);
		if (set->strays && stop_at_stray) {
			fclose(file);
			return lines;
		}
		if (!strcmp(pa, "FAULT")) {
			faults++;
			/* Neither the privileged nor the others. */
			if (set->format->tells_privileged && !ok)
				ok = walk(set, va, SHIM_READ | SOFT_USER, &where, &fault);
			if (ok)
				fail_msg("%s: %llx (%s) translates to %llx", set->folder, va, tag,
					 (unsigned long long)where.output);
			continue;
		}
		if (!ok)
			fail_msg("%s: %llx (%s) faults with cause %d at level %u", set->folder, va,
				 tag, fault.cause, fault.level);
		if (where.output != strtoull(pa, NULL, 16) ||
		    where.page_size != size_of_name(size) ||
		    (where.prot & ~SOFT_PRIVILEGED) != prot)
			fail_msg("%s: %llx (%s) gives %llx size %llx prot %x, not %s %s %s",
				 set->folder, va, tag, (unsigned long long)where.output,
				 (unsigned long long)where.page_size, where.prot, pa, size, perms);
		/* What is not allowed faults, for that reason and no other. */
		if (!(prot & SHIM_WRITE)) {
			assert_false(walk(set, va, SHIM_WRITE | whose, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		}
		if (set->format->tells_privileged && whose) {
			assert_false(walk(set, va, SHIM_READ, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		}
		if (!(prot & SOFT_USER)) {
			assert_false(walk(set, va, SHIM_READ | SOFT_USER, &where, &fault));
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		}
	}
	fclose(file);
	assert_true(faults > 0 && faults < lines);
	return lines;
}

static struct set x86_64 = {
	.folder = "x86_64-4level",
	.format = &soft_format_x86_64_4l,
	.root = 0x102670000,
	.is_cpu = true,
};

static struct set vtdss = {
	.folder = "vtd-legacy-ss-4level",
	.format = &soft_format_vtdss_4l,
	.root = 0x148e79000,
};

static struct set aarch64 = {
	.folder = "aarch64-4k-va48-ttbr1",
	.format = &soft_format_armv8_s1_4k,
	.shape = {.input_bits = 48, .upper = true, .top_byte_ignored = true},
	.root = 0x428f9000,
	.is_cpu = true,
};

static struct set sv48 = {
	.folder = "riscv-sv48",
	.format = &soft_format_sv48,
	.root = 0x1429ba000,
	.is_cpu = true,
	.output_bits = 56,
};

static void agree(struct set *set, size_t expected)
{
	set_load(set);
	assert_int_equal(compare_lines(set, false), expected);
	assert_int_equal(set->strays, 0);
	/* The records are just what is needed: a walk that skips one has gone wrong too. */
	for (size_t i = 0; i < set->n_records; i++)
		if (!set->asked[i])
			fail_msg("%s: page %llx was never read", set->folder,
				 (unsigned long long)set->records[i].address);
	set_unload(set);
}

/* The counts are those of meta.json: no line may be passed over. */
static void test_x86_64(void **state)
{
	agree(&x86_64, 1804);
}

static void test_vtdss(void **state)
{
	agree(&vtdss, 2328);
}

static void test_aarch64(void **state)
{
	agree(&aarch64, 1000);
}

static void test_sv48(void **state)
{
	agree(&sv48, 2069);
}

/* Takes each page out in turn: the walk must ask for it and be noticed. */
static void missing(struct set *set)
{
	set_load(set);
	for (size_t i = 0; i < set->n_records; i++) {
		uint64_t address = set->records[i].address;

		set->strays = 0;
		set->records[i].address = address | 1ull << 63;
		qsort(set->records, set->n_records, sizeof(struct record), compare_records);
		compare_lines(set, true);
		assert_true(set->strays > 0);
		set->records[set->n_records - 1].address = address;
		qsort(set->records, set->n_records, sizeof(struct record), compare_records);
	}
	set->strays = 0;
	set_unload(set);
}

static void test_missing_page_is_noticed(void **state)
{
	missing(&x86_64);
	missing(&vtdss);
	missing(&aarch64);
	missing(&sv48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_64),
		cmocka_unit_test(test_vtdss),
		cmocka_unit_test(test_aarch64),
		cmocka_unit_test(test_sv48),
		cmocka_unit_test(test_missing_page_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
