/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `ioasidctl walk` inside the process: every option that is refused, by name and with the reason;
 * what an answer looks like; and tables that are made here for what real ones do not hold.
 * tests/cli/walk.py runs the program on real tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "run_cli.h"
#include "walk.h"

/* Memory of a machine, from physical address 0 on, which is a file as well. */
static uint64_t *memory;
static char path[64];
#define MEMORY_SIZE (64ull << 12)

static int setup(void **state)
{
	int fd = memfd_create("memory", 0);

	if (fd < 0 || ftruncate(fd, MEMORY_SIZE))
		return -1;
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return memory == MAP_FAILED ? -1 : 0;
}

static int clear(void **state)
{
	memset(memory, 0, MEMORY_SIZE);
	return 0;
}

static void put(uint64_t table, unsigned int index, uint64_t entry)
{
	memory[table / 8 + index] = entry;
}

#define X86 "walk", "--format", "x86_64-4l", "--root", "0x1000", "--image", path
#define SS  "walk", "--format", "vtdss-3l", "--root", "0x1000", "--image", path

/* Usage errors leave nothing on standard output. */
static void refuse(const char *why, const char *const *words)
{
	struct run_cli run;

	run_cli(&run, words);
	if (run.exit_code != CLI_USAGE || run.out_size || !strstr(run.err, why))
		fail_msg("exit code %d, out \"%s\", error \"%s\", not \"%s\"", run.exit_code,
			 run.out, run.err, why);
	run_cli_deinit(&run);
}
#define REFUSED(why, ...) refuse(why, (const char *const[]){__VA_ARGS__, NULL})

static void test_usage(void **state)
{
	REFUSED("missing --format", "walk", "--root", "0x1000", "--image", path, "0");
	REFUSED("missing --root", "walk", "--format", "ept-4l", "--image", path, "0");
	REFUSED("missing --image", "walk", "--format", "ept-4l", "--root", "0", "0");
	REFUSED("missing ADDR", X86);
	REFUSED("--all: not with addresses", X86, "--all", "0");
	REFUSED("--limit: is for", X86, "0", "--limit", "5");
	REFUSED("--access: is for addresses", X86, "--all", "--access", "read");
	REFUSED("--supervisor: without --access", X86, "0", "--supervisor");
	REFUSED("ADDR: got \"ffff\"", X86, "ffff");
	REFUSED("ADDR: got \"0x10000000000000000\"", X86, "0x10000000000000000");
	REFUSED("ADDR: - is given twice", X86, "-", "-");
	REFUSED("--format: got \"x86\"", "walk", "--format", "x86", "--root", "0", "--image", path,
		"0");
	REFUSED("--phys-bits: got \"57\"", X86, "0", "--phys-bits", "57");
	REFUSED("--image-format: got \"qcow2\"", X86, "0", "--image-format", "qcow2");
	REFUSED("--sl: got \"4\"", X86, "0", "--sl", "4");
	REFUSED("--limit: got \"0\"", X86, "--all", "--limit", "0");
}

static void test_shape_options(void **state)
{
	REFUSED("--va-bits: format x86_64-4l takes addresses of 13 to 48 bits, not 49", X86, "0",
		"--va-bits", "49");
	REFUSED("--ttbr1: format x86_64-4l has no upper half", X86, "0", "--ttbr1");
	REFUSED("--tbi: format x86_64-4l", X86, "0", "--tbi");
	REFUSED("--lpa2: format x86_64-4l has no FEAT_LPA2", X86, "0", "--lpa2");
	REFUSED("--sl: format x86_64-4l has no start level", X86, "0", "--sl", "0");
	REFUSED("--nested-va-bits: there is no --nested-on", X86, "0", "--nested-va-bits", "40");
	REFUSED("--nested-lpa2: there is no --nested-on", X86, "0", "--nested-lpa2");
	REFUSED("--nested-lpa2: format vtdss-3l has no", X86, "0", "--nested-on", "vtdss-3l:0x2000",
		"--nested-lpa2");
	REFUSED("--nested-va-bits: format vtdss-3l takes", X86, "0", "--nested-on",
		"vtdss-3l:0x2000", "--nested-va-bits", "40");
	REFUSED("--sl: format vtdss-3l has no start level", X86, "0", "--nested-on",
		"vtdss-3l:0x2000", "--sl", "1");
	REFUSED("--nested-on: got \"vtdss-3l\"", X86, "0", "--nested-on", "vtdss-3l");
	REFUSED("--nested-on: got \"vtdss-3l:\"", X86, "0", "--nested-on", "vtdss-3l:");
	REFUSED("--nested-on: got \":0x2000\"", X86, "0", "--nested-on", ":0x2000");
	REFUSED("expected an address such as 0x1000 after the ':'", X86, "0", "--nested-on",
		"vtdss-3l:2000h");
	REFUSED("--nested-on: got format \"vtd\", expected one of x86_64-4l", X86, "0",
		"--nested-on", "vtd:0x2000");
	REFUSED("--nested-on: got 0x2008, expected a multiple of 4096", X86, "0", "--nested-on",
		"vtdss-3l:0x2008");
	REFUSED("--root: got 0x1003, expected a multiple of 4096", "walk", "--format", "x86_64-4l",
		"--root", "0x1003", "--image", path, "0");
	REFUSED("--root: 0x100000000 has more than the 32 bits of --phys-bits", "walk", "--format",
		"x86_64-4l", "--root", "0x100000000", "--image", path, "0", "--phys-bits", "32");
}

/* What is printed for the words has a text. */
static void answers(const char *expected, const char *const *words)
{
	struct run_cli run;

	run_cli(&run, words);
	if (run.exit_code)
		fail_msg("%s", run.err);
	if (!strstr(run.out, expected))
		fail_msg("\"%s\" has no \"%s\"", run.out, expected);
	run_cli_deinit(&run);
}
#define ANSWERS(expected, ...) answers(expected, (const char *const[]){__VA_ARGS__, NULL})

#define TABLE(format, root) "walk", "--format", format, "--root", root, "--image", path

/* What ARM and RISC-V have that others have not. */
static void test_shapes(void **state)
{
	REFUSED("--lpa2: format armv8-s1-64k has no FEAT_LPA2", TABLE("armv8-s1-64k", "0"), "0",
		"--lpa2");
	REFUSED("--va-bits: format armv8-s1-4k takes addresses of", TABLE("armv8-s1-4k", "0"), "0",
		"--va-bits", "52");
	REFUSED("--sl: format armv8-s1-4k has no start level", TABLE("armv8-s1-4k", "0"), "0",
		"--sl", "1");
	REFUSED("--ttbr1: format armv8-s2-4k has no upper half", TABLE("armv8-s2-4k", "0"), "0",
		"--ttbr1");
	REFUSED("--sl: format armv8-s2-4k: ", TABLE("armv8-s2-4k", "0"), "0", "--sl", "3");
	REFUSED("--va-bits, --sl: format armv8-s2-4k: 2 levels", TABLE("armv8-s2-4k", "0"), "0",
		"--sl", "2", "--va-bits", "40");
	REFUSED("--root: got 0x1000, expected a multiple of 16384", TABLE("sv39x4", "0x1000"), "0");
	/* Two concatenated tables; a root of 64 bytes. */
	REFUSED("--root: got 0x1000, expected a multiple of 8192", TABLE("armv8-s2-4k", "0x1000"),
		"0", "--va-bits", "40", "--sl", "1");
	REFUSED("--root: got 0x1020, expected a multiple of 64", TABLE("armv8-s1-4k", "0x1020"),
		"0", "--va-bits", "42");
	REFUSED("--nested-va-bits, --sl: format armv8-s2-4k", TABLE("armv8-s1-4k", "0x1000"), "0",
		"--nested-on", "armv8-s2-4k:0x2000", "--nested-va-bits", "40", "--sl", "2");
	/* 42 bits: 4 levels, of which the root has 8 entries, anywhere in a page. */
	put(0x1000, 24 + 1, 0x2003);
	put(0x2000, 0, 0x3003);
	put(0x3000, 0, 0x4003);
	put(0x4000, 1, 0x5f43);
	ANSWERS("\"output\":\"0x5008\",\"page_size\":4096,\"perm\":\"rwxu\"",
		TABLE("armv8-s1-4k", "0x10c0"), "-o", "json", "--va-bits", "42", "0x8000001008");
	ANSWERS("\"output\":\"0x5008\"", TABLE("armv8-s1-4k", "0x10c0"), "-o", "json", "--va-bits",
		"42", "--ttbr1", "0xfffffc8000001008");
	ANSWERS("{\"address\":\"0xfffffc8000001000\",\"length\":4096,\"result\":\"ok\",",
		TABLE("armv8-s1-4k", "0x10c0"), "-o", "json", "--va-bits", "42", "--ttbr1",
		"--all");
	ANSWERS("\"cause\":\"address-width\"", TABLE("armv8-s1-4k", "0x10c0"), "-o", "json",
		"--va-bits", "42", "--ttbr1", "0x8000001008");
	ANSWERS("\"output\":\"0x5008\"", TABLE("armv8-s1-4k", "0x10c0"), "-o", "json", "--va-bits",
		"42", "--tbi", "0xab00008000001008");
	put(0x4000, 1, 0x5b43);
	ANSWERS("\"output\":\"0x5008\"", TABLE("armv8-s1-4k", "0x10c0"), "-o", "json", "--va-bits",
		"42", "0x8000001008");
	ANSWERS("\"cause\":\"access-flag\"", TABLE("armv8-s1-4k", "0x10c0"), "-o", "json",
		"--va-bits", "42", "0x8000001008", "--af-fault");
	/* Either spelling of AMD's modes: a leaf of 8K. */
	put(0x8000, 2, 0x6000000000010e01);
	put(0x8000, 3, 0x6000000000010e01);
	ANSWERS("\"output\":\"0x11010\",\"page_size\":8192", TABLE("amdv1-1", "0x8000"), "-o",
		"json", "0x3010");
	ANSWERS("{\"address\":\"0x2000\",\"length\":8192,\"result\":\"ok\",\"output\":\"0x10000\","
		"\"page_size\":8192,",
		TABLE("amdv1-1l", "0x8000"), "-o", "json", "--all");
	/* RISC-V has 56 bits of address, unless told. */
	put(0x1000, 0, 1ull << 53 | 0xcf);
	ANSWERS("\"output\":\"0x80000000000000\"", TABLE("sv39", "0x1000"), "-o", "json", "0x0");
	ANSWERS("\"cause\":\"output-width\"", TABLE("sv39", "0x1000"), "-o", "json", "0x0",
		"--phys-bits", "52");
}

/* ARM's stages, the second with a start level; granules that differ. */
static void test_nested_arm(void **state)
{
	/* 0x0 to 0xffff of the parent is 0x20000 and up: level 1 of ARM, two tables. */
	put(0x2000, 0, 0x4003);
	put(0x4000, 0, 0x5003);
	for (unsigned int i = 0; i < 16; i++)
		put(0x5000, i, 0x204ff + i * 0x1000ull);
	put(0x21000, 0, 0x2003);
	put(0x22000, 0, 0x3003);
	put(0x23000, 5, 0x8f43);
	ANSWERS("\"output\":\"0x28010\",\"page_size\":4096,\"perm\":\"rw",
		TABLE("armv8-s1-4k", "0x1000"), "-o", "json", "--va-bits", "39", "--nested-on",
		"armv8-s2-4k:0x2000", "--nested-va-bits", "40", "--sl", "1", "0x5010");
	ANSWERS("{\"address\":\"0x5000\",\"length\":4096,\"result\":\"ok\",\"output\":\"0x28000\"",
		TABLE("armv8-s1-4k", "0x1000"), "-o", "json", "--va-bits", "39", "--nested-on",
		"armv8-s2-4k:0x2000", "--nested-va-bits", "40", "--sl", "1", "--all");
}

/* Every format that is built is a word of --format; each takes a root or says what it wants. */
static void test_formats(void **state)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++) {
		bool listed = false;
		struct run_cli run;

		for (size_t k = 0; walk_format_names[k]; k++)
			listed |= walk_format(walk_format_names[k], strlen(walk_format_names[k])) ==
				  format;
		if (!listed)
			fail_msg("%s is no word of --format", format->name);
		RUN(&run, "-o", "json", "walk", "--format", format->name, "--root", "0", "--image",
		    path, "--image-format", "raw", "0x0");
		assert_int_equal(run.exit_code, 0);
		assert_non_null(strstr(run.out, "\"cause\":\"not-present\""));
		run_cli_deinit(&run);
		RUN(&run, "-o", "json", "walk", "--format", format->name, "--root", "0", "--image",
		    path, "--image-format", "raw", "--all", "--stats");
		assert_int_equal(run.exit_code, 0);
		assert_non_null(strstr(run.out, "\"pages\":[]"));
		run_cli_deinit(&run);
	}
	assert_null(walk_format("amdv1-9", 7));
	assert_null(walk_format("amdv1-", 6));
	assert_null(walk_format("amdv1-4ll", 9));
}

static void test_image_errors(void **state)
{
	struct run_cli run;

	RUN(&run, "walk", "--format", "ept-4l", "--root", "0", "--image", "/nowhere/at/all", "0");
	assert_int_equal(run.exit_code, CLI_FAILED);
	assert_non_null(strstr(run.err, "--image: cannot open /nowhere/at/all: No such file"));
	run_cli_deinit(&run);
	RUN(&run, "walk", "--format", "ept-4l", "--root", "0", "--image", path, "--image-format",
	    "pages", "0");
	assert_int_equal(run.exit_code, CLI_FAILED);
	assert_non_null(strstr(run.err, "its last record is torn"));
	run_cli_deinit(&run);
	RUN(&run, "walk", "--format", "ept-4l", "--root", "0", "--image", path, "--image-format",
	    "elf-core", "0");
	assert_int_equal(run.exit_code, CLI_FAILED);
	assert_non_null(strstr(run.err, "it is no ELF file"));
	run_cli_deinit(&run);
}

/* 0x1000: 4 levels for 0x7000 and, writable to nobody else, for the 2M page at 0x200000. */
static void make_x86(void)
{
	put(0x1000, 0, 0x2007);
	put(0x2000, 0, 0x3007);
	put(0x3000, 0, 0x4007);
	put(0x4000, 7, 0x8000000000005007);
	put(0x3000, 1, 0x00000000002000e3);
	/* Reserved: a 2M page that is not aligned; beyond 52 bits there is nothing. */
	put(0x3000, 2, 0x00000000004020e3);
	/* A table that the image does not have. */
	put(0x3000, 3, 0x0000000010000007);
	put(0x3000, 4, 0x0000100000000081);
	put(0x1000, 511, 0x2007);
}

static void test_answers(void **state)
{
	make_x86();
	ANSWERS("{\"address\":\"0x7123\",\"result\":\"ok\",\"output\":\"0x5123\",\"page_size\":"
		"4096,"
		"\"perm\":\"rw-u\",\"levels\":[{\"stage\":1,\"level\":4,\"table\":\"0x1000\","
		"\"index\":0,\"entry\":\"0x2007\",\"kind\":\"table\",\"bits\":{\"P\":1,\"RW\":1,"
		"\"US\":1,\"PWT\":0,",
		X86, "-o", "json", "0x7123");
	ANSWERS("{\"address\":\"0xffffff8000234567\",\"result\":\"ok\",\"output\":\"0x234567\","
		"\"page_size\":2097152,\"perm\":\"rwx-\",",
		X86, "-o", "json", "0xffffff8000234567");
	ANSWERS("\"result\":\"fault\",\"cause\":\"not-present\",\"level\":1,\"stage\":1,", X86,
		"-o", "json", "0x8000");
	ANSWERS("\"cause\":\"reserved\",\"level\":2,", X86, "-o", "json", "4M");
	ANSWERS("\"cause\":\"not-in-image\",\"level\":1,\"stage\":1,\"input\":\"0x601000\","
		"\"entry\":\"0x0\",\"missing\":\"0x10000008\"",
		X86, "-o", "json", "0x601000");
	ANSWERS("\"result\":\"ok\",\"output\":\"0x100000000000\"", X86, "-o", "json", "0x800000");
	ANSWERS("\"cause\":\"output-width\",\"level\":2,", X86, "-o", "json", "--phys-bits", "44",
		"0x800000");
	ANSWERS("\"cause\":\"non-canonical\",\"level\":0,", X86, "-o", "json", "0x800000000000");
	ANSWERS("\"cause\":\"address-width\",\"level\":0,", SS, "-o", "json", "0x8000000000");
	ANSWERS("0x5000\n-\n", X86, "-o", "id", "0x7000", "0x8000");
}

static void test_access(void **state)
{
	make_x86();
	ANSWERS("\"cause\":\"permission\",\"level\":1,", X86, "-o", "json", "0x7000", "--access",
		"execute");
	ANSWERS("\"result\":\"ok\"", X86, "-o", "json", "0x7000", "--access", "write");
	ANSWERS("\"cause\":\"permission\",\"level\":2,", X86, "-o", "json", "2M", "--access",
		"read");
	ANSWERS("\"result\":\"ok\"", X86, "-o", "json", "2M", "--access", "read", "--supervisor");
	/* Accessed flags: clear in the page of 0x7000, set in that of 2M. */
	ANSWERS("\"cause\":\"access-flag\",\"level\":1,", X86, "-o", "json", "0x7000",
		"--af-fault");
	ANSWERS("\"result\":\"ok\"", X86, "-o", "json", "2M", "--af-fault");
	/* A page that grants nothing: read by the table, write by the page. */
	memset(memory, 0, MEMORY_SIZE);
	put(0x1000, 0, 0x2001);
	put(0x2000, 0, 0x3003);
	put(0x3000, 0, 0x4002);
	ANSWERS("\"cause\":\"permission\",\"level\":1,", SS, "-o", "json", "0");
}

static void test_people(void **state)
{
	make_x86();
	ANSWERS("0x7123  =>  0x5123  page 4K  rw-u\n"
		"  level 4  table 0x000000001000  [   0]  0x0000000000002007  table        P RW "
		"US\n",
		X86, "0x7123");
	ANSWERS("  level 1  table 0x000000004000  [   7]  0x8000000000005007  page 4K      P RW US "
		"XD\n\n0x8000  fault: not-present at level 1\n",
		X86, "0x7123", "0x8000");
	ANSWERS("0x601000  fault: not-in-image at level 1: the image has nothing at 0x10000008\n",
		X86, "0x601000");
	ANSWERS("0x800000000000  fault: non-canonical\n", X86, "0x800000000000");
}

static void test_list(void **state)
{
	make_x86();
	/* 0x3000 and the half of the addresses that leads there again. */
	ANSWERS("{\"address\":\"0x7000\",\"length\":4096,\"result\":\"ok\",\"output\":\"0x5000\","
		"\"page_size\":4096,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x200000\",\"length\":2097152,\"result\":\"ok\",\"output\":"
		"\"0x200000\",\"page_size\":2097152,\"perm\":\"rwx-\"}\n"
		"{\"address\":\"0x400000\",\"length\":2097152,\"result\":\"fault\",\"cause\":"
		"\"reserved\"}\n"
		"{\"address\":\"0x600000\",\"length\":2097152,\"result\":\"fault\",\"cause\":"
		"\"not-in-image\"}\n"
		"{\"address\":\"0x800000\",\"length\":2097152,\"result\":\"ok\",\"output\":"
		"\"0x100000000000\",\"page_size\":2097152,\"perm\":\"r-x-\"}\n"
		"{\"address\":\"0xffffff8000007000\",\"length\":4096,",
		X86, "-o", "json", "--all");
	ANSWERS("0x0000000000200000        2M  0x0000000000200000    2M  rwx-\n"
		"0x0000000000400000        2M  fault: reserved\n",
		X86, "--all");
	ANSWERS("{\"result\":\"stats\",\"stages\":[{\"stage\":1,\"format\":\"x86_64-4l\",\"root\":"
		"\"0x1000\",\"tables\":[{\"level\":4,\"count\":1,\"bytes\":4096},{\"level\":3,"
		"\"count\":2,\"bytes\":8192},{\"level\":2,\"count\":2,\"bytes\":8192},{\"level\":1,"
		"\"count\":4,\"bytes\":16384}],\"table_bytes\":36864,\"pages\":[{\"page_size\":"
		"4096,"
		"\"count\":2,\"bytes\":8192},{\"page_size\":2097152,\"count\":4,\"bytes\":8388608}]"
		","
		"\"mapped_bytes\":8396800,\"problems\":[{\"cause\":\"reserved\",\"entries\":2},"
		"{\"cause\":\"not-in-image\",\"entries\":1024}]}]}\n",
		X86, "-o", "json", "--stats");
	ANSWERS("  pages of 2M                        4          8M\n", X86, "--stats");
}

/* Neighbours become one range where everything agrees. */
static void test_merge(void **state)
{
	put(0x1000, 0, 0x2003);
	put(0x2000, 0, 0x3003);
	for (unsigned int i = 0; i < 512; i++)
		put(0x3000, i, 0x100003 + i * 0x1000ull);
	put(0x2000, 1, 0x4003);
	for (unsigned int i = 0; i < 256; i++)
		put(0x4000, i, 0x300003 + i * 0x1000ull);
	put(0x4000, 3, 0x303001);
	put(0x4000, 9, 0x888003);
	ANSWERS("{\"address\":\"0x0\",\"length\":2109440,\"result\":\"ok\",\"output\":\"0x100000\","
		"\"page_size\":4096,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x203000\",\"length\":4096,\"result\":\"ok\",\"output\":"
		"\"0x303000\","
		"\"page_size\":4096,\"perm\":\"r--u\"}\n"
		"{\"address\":\"0x204000\",\"length\":20480,\"result\":\"ok\",\"output\":"
		"\"0x304000\",\"page_size\":4096,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x209000\",\"length\":4096,\"result\":\"ok\",\"output\":"
		"\"0x888000\",",
		SS, "-o", "json", "--all");
}

/* A root all of whose entries are the root: no end worth waiting for. */
static void test_limit(void **state)
{
	struct run_cli run;

	for (unsigned int i = 0; i < 512; i++)
		put(0x1000, i, 0x1003);
	for (int stats = 0; stats < 2; stats++) {
		RUN(&run, SS, "--limit", "5000", stats ? "--stats" : "--all");
		assert_int_equal(run.exit_code, CLI_FAILED);
		assert_non_null(strstr(run.err, "--limit: stopped after 5000 entries"));
		if (stats)
			assert_int_equal(run.out_size, 0);
		else
			assert_non_null(strstr(run.out, "0x0000000000001000        4K  "
							"0x0000000000001000    4K  rw-u\n"));
		run_cli_deinit(&run);
	}
}

/* ---- nested ---- */

#define NESTED                                                                                     \
	"walk", "--format", "x86_64-4l", "--root", "0x11000", "--nested-on", "vtdss-3l:0x1000",    \
		"--image", path

/*
 * The parent maps 0x10000..0x1ffff to 0x20000, 0x14000 read-only and 0x1f000 not, and 2M to 1G.
 * The child's tables are at 0x11000..0x14000 of the parent.
 */
static void make_nested(void)
{
	put(0x1000, 0, 0x2003);
	put(0x2000, 0, 0x3003);
	for (unsigned int i = 0; i < 16; i++)
		put(0x3000, 16 + i, 0x20003 + i * 0x1000ull);
	put(0x3000, 0x14, 0x24001);
	put(0x3000, 0x1f, 0);
	put(0x2000, 1, 0x40000083);

	put(0x21000, 0, 0x12007);
	put(0x22000, 0, 0x13007);
	put(0x23000, 0, 0x14007);
	put(0x24000, 0, 0x15007);
	put(0x24000, 1, 0x14007);
	put(0x24000, 2, 0x1f007);
	put(0x24000, 3, 0x00234007);
	put(0x24000, 4, 0x8000000000007);
	put(0x23000, 1, 0x200087);
	/* A table where the parent has nothing. */
	put(0x23000, 2, 0x1f007);
}

static void test_nested(void **state)
{
	make_nested();
	ANSWERS("{\"address\":\"0x123\",\"result\":\"ok\",\"output\":\"0x25123\",\"page_size\":"
		"4096,"
		"\"perm\":\"rw-u\",\"levels\":[{\"stage\":2,\"level\":3,\"table\":\"0x1000\",",
		NESTED, "-o", "json", "0x123");
	ANSWERS("{\"stage\":1,\"level\":4,\"table\":\"0x11000\",\"index\":0,\"entry\":\"0x12007\",",
		NESTED, "-o", "json", "0x123");
	/* The page is read-only in the parent; the accessed bit cannot be set, and need not. */
	ANSWERS("\"result\":\"ok\",\"output\":\"0x24000\",\"page_size\":4096,\"perm\":\"r--u\"",
		NESTED, "-o", "json", "0x1000");
	/* Who asks for an access wants it as the hardware does it. */
	ANSWERS("\"cause\":\"parent-permission\",\"level\":1,\"stage\":2,\"input\":\"0x14000\"",
		NESTED, "-o", "json", "--access", "read", "0x0");
	ANSWERS("\"cause\":\"parent-not-present\",\"level\":1,\"stage\":2,\"input\":\"0x1f000\"",
		NESTED, "-o", "json", "0x2000");
	/* 4K of a 2M page of the parent; 2M in 2M. */
	ANSWERS("\"output\":\"0x40034000\",\"page_size\":4096", NESTED, "-o", "json", "0x3000");
	ANSWERS("\"output\":\"0x40012345\",\"page_size\":2097152", NESTED, "-o", "json",
		"0x212345");
	ANSWERS("\"cause\":\"address-width\",\"level\":0,\"stage\":2,\"input\":\"0x8000000000000\"",
		NESTED, "-o", "json", "0x4000");
	ANSWERS("\"cause\":\"parent-not-present\",\"level\":1,\"stage\":2,\"input\":\"0x1f000\"",
		NESTED, "-o", "json", "0x400000");
	ANSWERS("0x2000  fault: parent-not-present at stage 2, level 1, for address 0x1f000\n",
		NESTED, "0x2000");
}

static void test_nested_list(void **state)
{
	make_nested();
	ANSWERS("{\"address\":\"0x0\",\"length\":4096,\"result\":\"ok\",\"output\":\"0x25000\","
		"\"page_size\":4096,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x1000\",\"length\":4096,\"result\":\"ok\",\"output\":\"0x24000\","
		"\"page_size\":4096,\"perm\":\"r--u\"}\n"
		"{\"address\":\"0x2000\",\"length\":4096,\"result\":\"fault\",\"cause\":"
		"\"parent-not-present\"}\n"
		"{\"address\":\"0x3000\",\"length\":4096,\"result\":\"ok\",\"output\":"
		"\"0x40034000\","
		"\"page_size\":4096,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x4000\",\"length\":4096,\"result\":\"fault\",\"cause\":"
		"\"address-width\"}\n"
		"{\"address\":\"0x200000\",\"length\":2097152,\"result\":\"ok\",\"output\":"
		"\"0x40000000\",\"page_size\":2097152,\"perm\":\"rw-u\"}\n"
		"{\"address\":\"0x400000\",\"length\":2097152,\"result\":\"fault\",\"cause\":"
		"\"parent-not-present\"}\n",
		NESTED, "-o", "json", "--all");
	ANSWERS("\"stages\":[{\"stage\":1,\"format\":\"x86_64-4l\",\"root\":\"0x11000\",\"tables\":"
		"["
		"{\"level\":4,\"count\":1,\"bytes\":4096},{\"level\":3,\"count\":1,\"bytes\":4096},"
		"{\"level\":2,\"count\":1,\"bytes\":4096},{\"level\":1,\"count\":2,\"bytes\":8192}]"
		",",
		NESTED, "-o", "json", "--stats");
	ANSWERS("{\"stage\":2,\"format\":\"vtdss-3l\",\"root\":\"0x1000\",\"tables\":[{\"level\":3,"
		"\"count\":1,\"bytes\":4096},{\"level\":2,\"count\":1,\"bytes\":4096},{\"level\":1,"
		"\"count\":1,\"bytes\":4096}],\"table_bytes\":12288,\"pages\":[{\"page_size\":4096,"
		"\"count\":15,\"bytes\":61440},{\"page_size\":2097152,\"count\":1,\"bytes\":"
		"2097152}],"
		"\"mapped_bytes\":2158592,\"problems\":[]}",
		NESTED, "-o", "json", "--stats");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_usage, clear),
		cmocka_unit_test_setup(test_shape_options, clear),
		cmocka_unit_test_setup(test_shapes, clear),
		cmocka_unit_test_setup(test_nested_arm, clear),
		cmocka_unit_test_setup(test_formats, clear),
		cmocka_unit_test_setup(test_image_errors, clear),
		cmocka_unit_test_setup(test_answers, clear),
		cmocka_unit_test_setup(test_access, clear),
		cmocka_unit_test_setup(test_people, clear),
		cmocka_unit_test_setup(test_list, clear),
		cmocka_unit_test_setup(test_merge, clear),
		cmocka_unit_test_setup(test_limit, clear),
		cmocka_unit_test_setup(test_nested, clear),
		cmocka_unit_test_setup(test_nested_list, clear),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
