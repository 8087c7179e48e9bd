/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Images of memory that are any bytes: the parsers of ELF cores and of pages, and what
 * `ioasidctl walk` does with what they found.  The input is a header that chooses formats, a root
 * and an address, followed by the file.  Whatever the file holds, the index keeps its invariants
 * (image.h), a load gives the bytes of the file that the index says and no others, and a walk, a
 * listing and a count end.
 */

#include "cli.h"
#include "output.h"
#include "walk.h"

#include <endian.h>
#include <string.h>

/* Enough for a listing to get into the last level. */
#define ENTRIES 700

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct header {
	uint8_t image_format, granule, format, parent, flags, style;
	uint8_t root[8], parent_root[8], address[8];
} __attribute__((packed));

#define NESTED	 1u
#define AF_FAULT 2u
#define STATS	 4u

static void must(bool holds)
{
	if (!holds)
		abort();
}

static uint64_t u64(const uint8_t bytes[8])
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

/* ---- the index ---- */

static void check_index(const struct image *image)
{
	must(image->n_extents);
	for (size_t i = 0; i < image->n_extents; i++) {
		const struct image_extent *e = &image->extents[i];

		must(e->length);
		must(e->offset <= image->size && e->length <= image->size - e->offset);
		must(e->address + (e->length - 1) >= e->address);
		must(!i || e[-1].address + (e[-1].length - 1) < e->address);
	}
}

/* A load against the index, gone through from its beginning. */
static void check_load(const struct image *image, uint64_t address)
{
	uint64_t value = 0x5a5a5a5a5a5a5a5a, expected = value;
	bool there = false;

	for (size_t i = 0; i < image->n_extents; i++) {
		const struct image_extent *e = &image->extents[i];

		if (address < e->address || address - e->address >= e->length ||
		    e->length - (address - e->address) < sizeof(value))
			continue;
		memcpy(&expected, image->bytes + e->offset + (address - e->address),
		       sizeof(expected));
		expected = le64toh(expected);
		there = true;
	}
	must(!image_load(image, address, &value) == there);
	must(value == expected);
	must(there || image->state->missing == address);
	must(!image->state->broken);
}

static void check_loads(const struct image *image, uint64_t address)
{
	check_load(image, address);
	check_load(image, 0);
	check_load(image, UINT64_MAX);
	for (size_t i = 0; i < image->n_extents && i < 64; i++) {
		const struct image_extent *e = &image->extents[i];

		for (int k = -8; k <= 8; k++) {
			check_load(image, e->address + (uint64_t)k);
			check_load(image, e->address + e->length + (uint64_t)k);
		}
	}
}

/* ---- walks ---- */

static const struct soft_format *format_of(uint8_t number)
{
	size_t n = 0;

	while (soft_format_at(n))
		n++;
	return soft_format_at(number % n);
}

static bool stage_init(struct soft_stage *stage, const struct header *h, const struct walk *walk,
		       unsigned int i)
{
	*stage = (struct soft_stage){
		.format = format_of(i ? h->parent : h->format),
		.env =
			{
				.output_bits = 52,
				.snoop_control = true,
				.device_tlb = true,
				.access_dirty = !(h->flags & AF_FAULT),
			},
		.load = image_load,
		.memory = &walk->image,
		.tables_in_next = !i && h->flags & NESTED,
	};
	stage->faults_unused = h->flags & AF_FAULT && stage->format->accessed && stage->format->use;
	if (soft_shape_init(stage->format, &(struct soft_shape_spec){0}, NULL, &stage->shape))
		return false;
	/* As walk_setup() wants it. */
	stage->root = u64(i ? h->parent_root : h->root) & soft_bits(stage->format->granule, 52) &
		      ~(soft_shape_root_bytes(&stage->shape) - 1);
	return true;
}

static void walk_all(const struct header *h, struct image *image)
{
	static FILE *null;
	static const struct cli_format *const formats[] = {&format_table, &format_json, &format_id};
	struct cli cli = {.format = formats[h->style % 3]};
	struct walk walk = {
		.cli = &cli,
		.style = (enum walk_style)(h->style % 3),
		.path = "image",
		.image = *image,
		.n_stages = h->flags & NESTED ? 2 : 1,
		.limit = ENTRIES,
	};

	for (unsigned int i = 0; i < walk.n_stages; i++)
		if (!stage_init(&walk.stages[i], h, &walk, i))
			return;
	if (!null)
		null = fopen("/dev/null", "w");
	must(null);
	cli.out = null;
	must(walk_answer(&walk, u64(h->address)) == CLI_OK);
	/* Either may end at the limit, and at nothing else. */
	must(walk_list(&walk) == CLI_OK || cli.error_exit == CLI_FAILED);
	cli_error_clear(&cli);
	if (h->flags & STATS)
		must(walk_stats(&walk) == CLI_OK || cli.error_exit == CLI_FAILED);
	cli_error_clear(&cli);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char problem[IMAGE_PROBLEM_MAX] = "";
	struct image_spec spec;
	struct image image;
	struct header h;
	int r;

	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	spec = (struct image_spec){
		.format = (enum image_format)(h.image_format % 4),
		.granule = 4096u << h.granule % 3 * 2,
	};
	r = image_parse(data + sizeof(h), size - sizeof(h), &spec, problem, &image);
	must(r == 0 || (r == IMAGE_E_BAD && *problem && strlen(problem) < IMAGE_PROBLEM_MAX));
	if (r)
		return 0;
	check_index(&image);
	check_loads(&image, u64(h.address));
	walk_all(&h, &image);
	image_close(&image);
	return 0;
}
