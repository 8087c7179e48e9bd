/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What each page-table format costs, without a shim around it:
 *
 *	hit	a hit in the IOTLB, which is the same for all formats
 *	cached	a walk from the lowest table on, which the paging-structure cache knows
 *	miss	a walk from the root, through tables that exceed the last-level cache
 *	nested	the same in two stages, tables of the first found through the second
 *	map, unmap	one page in a table that is there, and a whole table full of them, each page
 *
 * The baselines of the same run: a hand-written walk of x86-64 tables that checks the present bit
 * and nothing else, over the same bytes as the format x86_64-4l is walked; and for each format a
 * chase of as many random pointers, as the walk reads entries, through as much memory as its
 * tables have, which is what the machine allows.  Goal (P3): a miss <= 1.3 times the chase.
 * Nothing here passes or fails.
 *
 * usage: bench_walk [FORMAT...]	without one: all
 */

#include "soft/build.h"
#include "soft/iotlb.h"
#include "soft/walk.h"

#include "measure.h"

#include <string.h>

#define WALKS	    100000u
#define TABLE_BYTES (256ull << 20) /* about so many, where the input is wide enough */

struct table {
	struct soft_window *window;
	struct soft_tables *tables;
	const struct soft_format *format;
	struct soft_shape shape;
	uint64_t root, leaves;
	uint32_t n_tables;
};

static struct soft_window window;
static struct soft_tables tables;

static void table_init(struct table *t, const struct soft_format *format)
{
	*t = (struct table){.window = &window, .tables = &tables, .format = format};
	must(!soft_shape_init(format, &(struct soft_shape_spec){0}, NULL, &t->shape), "shape");
}

static struct soft_builder builder_of(struct table *t)
{
	return (struct soft_builder){
		.tables = t->tables,
		.format = t->format,
		.shape = &t->shape,
		.root = &t->root,
		.n_tables = &t->n_tables,
	};
}

static void table_map(struct table *t, uint64_t iova, uint64_t length, uint64_t target)
{
	struct soft_builder builder = builder_of(t);
	uint64_t done;

	must(!soft_build_map(&builder, iova, length, target, SHIM_READ | SHIM_WRITE, &done), "map");
}

static void table_unmap(struct table *t, uint64_t iova, uint64_t length)
{
	struct soft_builder builder = builder_of(t);
	struct soft_table_list dead = {0};

	soft_build_unmap(&builder, iova, length, &dead);
	soft_tables_put(t->tables, &dead);
}

static void table_clear(struct table *t)
{
	struct soft_builder builder = builder_of(t);
	struct soft_table_list dead = {0};

	soft_build_clear(&builder, &dead);
	soft_tables_put(t->tables, &dead);
}

static struct soft_stage stage_of(const struct table *t)
{
	return (struct soft_stage){
		.format = t->format,
		.env = {.output_bits = 52},
		.shape = t->shape,
		.root = t->root,
		.load = soft_window_load,
		.memory = t->window,
	};
}

/* ---- a sparse table: a page in each lowest table ---- */

static unsigned int lowest_span(const struct soft_format *format)
{
	return format->granule + soft_format_stride(format);
}

static uint64_t leaf_address(const struct table *t, uint64_t leaf)
{
	const struct soft_format *format = t->format;
	uint64_t page = (leaf * 2654435761u) >> 7 & ((1u << soft_format_stride(format)) - 1);

	return (leaf << lowest_span(format)) + (page << format->granule);
}

static void fill_sparse(struct table *t, uint64_t bytes)
{
	unsigned int room = t->shape.input_bits - (t->format->input == SOFT_INPUT_CANONICAL);
	uint64_t most =
		1ull << (room - lowest_span(t->format) < 40 ? room - lowest_span(t->format) : 40);

	t->leaves = bytes >> t->format->granule;
	if (t->leaves > most)
		t->leaves = most;
	for (uint64_t i = 0; i < t->leaves; i++)
		table_map(t, leaf_address(t, i), 1ull << t->format->granule, 0);
}

static double time_walks(const struct table *t, const struct soft_stage *stages,
			 unsigned int n_stages)
{
	double start = now_ns();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < WALKS; i++) {
		/* Each address depends on the answer before. */
		uint64_t at = leaf_address(t, (rnd() + (sum >> 12 & 1)) % t->leaves);
		struct soft_translation where;
		struct shim_fault fault;

		must(soft_walk(stages, n_stages, at, SHIM_READ | SOFT_USER, NULL, &where, &fault),
		     "walk");
		sum += where.output;
	}
	use(sum);
	return (now_ns() - start) / WALKS;
}

static double time_chase(const struct table *t, const uint64_t *chase, unsigned int depth)
{
	double start = now_ns();
	uint64_t at = 0, sum = 0;

	for (uint32_t i = 0; i < WALKS; i++) {
		sum += leaf_address(t, rnd() % t->leaves);
		for (unsigned int n = 0; n < depth; n++)
			at = chase[at];
	}
	use(at + sum);
	return (now_ns() - start) / WALKS;
}

/* What somebody writes who needs to read one table once. */
static bool minimal_walk(const struct soft_window *memory, uint64_t table, uint64_t address,
			 uint64_t *ret_output)
{
	for (unsigned int level = 4; level; level--) {
		unsigned int shift = 3 + 9 * level;
		uint64_t entry = ((const uint64_t *)soft_window_pointer(
			memory, table))[address >> shift & 511];

		if (!(entry & 1))
			return false;
		table = entry & 0x000ffffffffff000ull;
		if (level == 1 || (level < 4 && entry & 0x80)) {
			*ret_output = table | (address & ((1ull << shift) - 1));
			return true;
		}
	}
	return false;
}

static double time_minimal(const struct table *t)
{
	double start = now_ns();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < WALKS; i++) {
		uint64_t at = leaf_address(t, (rnd() + (sum >> 12 & 1)) % t->leaves), output = 0;

		must(minimal_walk(t->window, t->root, at, &output), "minimal walk");
		sum += output;
	}
	use(sum);
	return (now_ns() - start) / WALKS;
}

static void print(const char *format, const char *what, double *ours, double *base, double *ratios,
		  const char *goal)
{
	printf("%-14s %-44s %9.1f / %9.1f ns = %6.2f   goal %s\n", format, what, median(ours),
	       median(base), median(ratios), goal);
	fflush(stdout);
}

/* ---- walks ---- */

static void bench_miss(const struct soft_format *format)
{
	double ours[ROUNDS], again[ROUNDS], base[ROUNDS], bare[ROUNDS], ratios[ROUNDS],
		bare_ratios[ROUNDS];
	struct soft_stage stage;
	struct table t;
	uint64_t bytes, *chase;
	char what[64];

	table_init(&t, format);
	fill_sparse(&t, TABLE_BYTES);
	stage = stage_of(&t);
	bytes = (uint64_t)t.n_tables * K4;
	chase = make_chase(bytes);
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = again[r] = time_walks(&t, &stage, 1);
		base[r] = time_chase(&t, chase, t.shape.levels);
		ratios[r] = ours[r] / base[r];
		bare[r] = format == &soft_format_x86_64_4l ? time_minimal(&t) : 1;
		bare_ratios[r] = ours[r] / bare[r];
	}
	snprintf(what, sizeof(what), "miss, %u levels, %llu MiB / chase", t.shape.levels,
		 (unsigned long long)(bytes >> 20));
	print(format->name, what, ours, base, ratios, "<= 1.3");
	if (format == &soft_format_x86_64_4l)
		print(format->name, "the same / minimal walk", again, bare, bare_ratios, "-");
	munmap(chase, bytes);
	table_clear(&t);
}

/* From the lowest table on: one entry is read. */
static void bench_cached(const struct soft_format *format)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	struct soft_iotlb structures;
	struct soft_stage stage;
	struct table t;
	uint64_t *chase;

	must(!soft_iotlb_init(&structures, 4096), "structures");
	table_init(&t, format);
	/* As many as the cache holds, with room for what falls on the same set. */
	fill_sparse(&t, 512ull << format->granule);
	stage = stage_of(&t);
	stage.structures = &structures;
	stage.tag = 1;
	chase = make_chase((uint64_t)t.n_tables * K4);
	(void)time_walks(&t, &stage, 1);
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_walks(&t, &stage, 1);
		base[r] = time_chase(&t, chase, 1);
		ratios[r] = ours[r] / base[r];
	}
	print(format->name, "lowest table known / one pointer", ours, base, ratios, "-");
	munmap(chase, (uint64_t)t.n_tables * K4);
	table_clear(&t);
	soft_iotlb_deinit(&structures);
}

static void bench_nested(const struct soft_format *child, const struct soft_format *parent)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	struct soft_stage stages[2];
	struct table first, second;
	unsigned int reads;
	uint64_t bytes, *chase;
	char what[64];

	table_init(&first, child);
	table_init(&second, parent);
	fill_sparse(&first, TABLE_BYTES / 2);
	/* The first's tables are where they are, and so are its pages. */
	bytes = (tables.n_ready * K4 + (1ull << parent->granule) - 1) &
		~((1ull << parent->granule) - 1);
	for (uint64_t at = 0; at < bytes; at += 1ull << parent->granule)
		table_map(&second, at, 1ull << parent->granule, at);
	stages[0] = stage_of(&first);
	stages[0].tables_in_next = true;
	stages[1] = stage_of(&second);
	reads = first.shape.levels * (second.shape.levels + 1) + second.shape.levels;
	bytes = (uint64_t)(first.n_tables + second.n_tables) * K4;
	chase = make_chase(bytes);
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_walks(&first, stages, 2);
		base[r] = time_chase(&first, chase, reads);
		ratios[r] = ours[r] / base[r];
	}
	snprintf(what, sizeof(what), "nested on %s, %u reads / chase", parent->name, reads);
	print(child->name, what, ours, base, ratios, "-");
	munmap(chase, bytes);
	table_clear(&first);
	table_clear(&second);
}

static void bench_hit(void)
{
	enum { PAGES = 64, HITS = 1 << 20 };
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	uint64_t chain[4 * PAGES];
	struct soft_iotlb iotlb;

	must(!soft_iotlb_init(&iotlb, 1024), "iotlb");
	for (uint64_t i = 0; i < PAGES; i++)
		soft_iotlb_insert(&iotlb, 42, SOFT_WHO_NOBODY, i * K4, (i + 1000) * K4, K4,
				  SHIM_READ);
	for (uint64_t i = 0; i < 4 * PAGES; i++)
		chain[i] = (i + 37) % (4 * PAGES);
	for (int r = 0; r < ROUNDS; r++) {
		double start = now_ns();
		uint64_t at = 0, output, size;
		uint32_t prot;

		for (uint64_t i = 0; i < HITS; i++) {
			must(soft_iotlb_lookup(&iotlb, 42, SOFT_WHO_NOBODY, at, &output, &size,
					       &prot),
			     "hit");
			at = (output - 1000 * K4 + K4) & (PAGES - 1) << 12;
		}
		use(at);
		ours[r] = (now_ns() - start) / HITS;
		start = now_ns();
		at = 0;
		for (uint64_t i = 0; i < HITS; i++) {
			for (unsigned int n = 0; n < 4; n++)
				at = chain[at];
			use(at);
		}
		base[r] = (now_ns() - start) / HITS;
		ratios[r] = ours[r] / base[r];
	}
	soft_iotlb_deinit(&iotlb);
	print("all", "IOTLB hit / 4 dependent cached loads", ours, base, ratios, "<= 1.0");
}

/* ---- building ---- */

/* One page of this size beside another one, so that no table comes or goes; base: x86_64-4l's. */
static double time_page(const struct soft_format *format, uint64_t size)
{
	enum { N = 20000 };
	uint64_t around = size << 4;
	struct table t;
	double start;

	table_init(&t, format);
	table_map(&t, 0, size, 0);
	start = now_ns();
	for (uint64_t i = 0; i < N; i++) {
		uint64_t at = size * (1 + i % 15);

		table_map(&t, at, size, around + at);
		table_unmap(&t, at, size);
	}
	start = (now_ns() - start) / N;
	table_clear(&t);
	return start;
}

static double time_bulk(const struct soft_format *format, uint64_t bytes)
{
	uint64_t granule = 1ull << format->granule, span = 1ull << lowest_span(format), pages;
	double start;
	struct table t;

	if (bytes > span)
		bytes = span;
	pages = bytes / granule;
	table_init(&t, format);
	/* Out of step by a page, so that no larger page fits. */
	start = now_ns();
	table_map(&t, 0, bytes, granule);
	table_unmap(&t, 0, bytes);
	start = (now_ns() - start) / (double)pages;
	table_clear(&t);
	return start;
}

static void bench_build(const struct soft_format *format)
{
	const struct soft_format *reference = &soft_format_x86_64_4l;
	uint64_t granule = 1ull << format->granule;
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_page(format, granule);
		base[r] = time_page(reference, K4);
		ratios[r] = ours[r] / base[r];
	}
	print(format->name, "map + unmap of a smallest page / x86_64-4l's", ours, base, ratios,
	      "-");
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_bulk(format, 512 * granule);
		base[r] = time_bulk(reference, 512 * K4);
		ratios[r] = ours[r] / base[r];
	}
	print(format->name, "512 of them, each / x86_64-4l's", ours, base, ratios, "-");
	if (!(format->page_sizes & M2) || lowest_span(format) + 4u >= format->input_bits)
		return;
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_page(format, M2);
		base[r] = time_page(reference, M2);
		ratios[r] = ours[r] / base[r];
	}
	print(format->name, "map + unmap of a 2M page / x86_64-4l's", ours, base, ratios, "-");
}

/* ---- all ---- */

static const char *const nested[][2] = {
	{"x86_64-4l", "vtdss-4l"},	  {"x86_64-4l", "amdv1-4"}, {"armv8-s1-4k", "armv8-s2-4k"},
	{"armv8-s1-64k", "armv8-s2-64k"}, {"sv48", "sv48x4"},
};

static const struct soft_format *by_name(const char *name)
{
	return soft_format_by_name(name, strlen(name));
}

static void bench_format(const struct soft_format *format)
{
	bench_miss(format);
	bench_cached(format);
	for (size_t i = 0; i < sizeof(nested) / sizeof(nested[0]); i++) {
		const struct soft_format *parent = by_name(nested[i][1]);

		if (!strcmp(nested[i][0], format->name) && parent)
			bench_nested(format, parent);
	}
	bench_build(format);
}

int main(int argc, char **argv)
{
	const struct soft_format *format;

	must(!soft_window_init(&window, 16ull << 30, false, NULL), "window");
	must(!soft_tables_init(&tables, &window, 0), "tables");
	for (int i = 1; i < argc; i++) {
		if (!by_name(argv[i])) {
			fprintf(stderr, "bench_walk: no format '%s'\n", argv[i]);
			return 2;
		}
	}
	bench_hit();
	for (size_t i = 0; argc == 1 && (format = soft_format_at(i)); i++)
		bench_format(format);
	for (int i = 1; i < argc; i++)
		bench_format(by_name(argv[i]));
	soft_tables_deinit(&tables);
	soft_window_deinit(&window);
	return 0;
}
