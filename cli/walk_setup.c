/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the options of `ioasidctl walk` to the stages of a walk.  Every refusal names the option.
 *
 * What depends on the IOMMU and not on the format is taken so that a table of a real host reads
 * as that host reads it: snoop control and device TLBs are there (VT-d bits 11 and 62 of a leaf
 * are not reserved), and whoever walks sets accessed and dirty bits itself, unless --af-fault says
 * that nobody does.  Nothing is ever set in the image.
 */
#include "walk.h"
#include "output.h"
#include "value.h"

#include "lib/ioasid.h"

#include <inttypes.h>
#include <string.h>

#define PHYSICAL_BITS	52
#define WIDEST_BITS	56
#define ENTRIES_DEFAULT (256ull << 20)

const char *const walk_format_names[] = {
	"x86_64-4l",	"x86_64-5l",   "vtdss-3l",     "vtdss-4l",     "vtdss-5l",
	"ept-4l",	"ept-5l",      "amdv1-1",      "amdv1-2",      "amdv1-3",
	"amdv1-4",	"amdv1-5",     "amdv1-6",      "armv8-s1-4k",  "armv8-s1-16k",
	"armv8-s1-64k", "armv8-s2-4k", "armv8-s2-16k", "armv8-s2-64k", "sv39",
	"sv48",		"sv57",	       "sv39x4",       "sv48x4",       "sv57x4",
	"amdv1-1l",	"amdv1-2l",    "amdv1-3l",     "amdv1-4l",     "amdv1-5l",
	"amdv1-6l",	NULL,
};

/* AMD's number is a mode, not a number of levels, and is known with and without "l". */
const struct soft_format *walk_format(const char *name, size_t length)
{
	static const char amd[] = "amdv1-";
	const struct soft_format *format = soft_format_by_name(name, length);
	char other[sizeof(amd) + 2];

	if (format || length < sizeof(amd) || length > sizeof(amd) + 1 ||
	    memcmp(name, amd, sizeof(amd) - 1))
		return format;
	snprintf(other, sizeof(other), "%s%c%s", amd, name[sizeof(amd) - 1],
		 length == sizeof(amd) ? "l" : "");
	return soft_format_by_name(other, strlen(other));
}

static int unknown_format(struct cli *cli, const char *option, const char *name, size_t length)
{
	_cleanup_free_ char *names = cli_strdup("");
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++) {
		char *longer = cli_printf("%s%s%s", names, i ? ", " : "", format->name);

		free(names);
		names = longer;
	}
	return cli_usage(cli, "walk: --%s: got format \"%.*s\", expected one of %s", option,
			 (int)length, name, names);
}

/* ---- shapes ---- */

/* The shape of one table, and by which options it was asked for. */
struct wish {
	const struct soft_format *format;
	struct soft_shape_spec spec;
	const char *width, *wide, *start; /* options; NULL: not given */
};

static bool has_start_level(const struct soft_format *format)
{
	return format->concatenated;
}

static bool has_lpa2(const struct soft_format *format)
{
	return format->input_bits_max && format->granule != 16;
}

/* The options that a format knows nothing of are refused by name; what is left is a number. */
static int take_shape(struct cli *cli, const struct wish *wish, struct soft_shape *ret)
{
	const struct soft_format *format = wish->format;
	char reason[SHIM_REASON_MAX] = "";

	if (wish->spec.upper && format->input != SOFT_INPUT_HALVES)
		return cli_usage(cli, "walk: --ttbr1: format %s has no upper half", format->name);
	if (wish->spec.top_byte_ignored && format->input != SOFT_INPUT_HALVES)
		return cli_usage(cli, "walk: --tbi: format %s has no top byte to ignore",
				 format->name);
	if (wish->spec.lpa2 && !has_lpa2(format))
		return cli_usage(cli, "walk: --%s: format %s has no FEAT_LPA2 descriptors",
				 wish->wide, format->name);
	if (!soft_shape_init(format, &wish->spec, reason, ret))
		return CLI_OK;
	if (wish->start && !wish->width)
		return cli_usage(cli, "walk: --%s: %s", wish->start, reason);
	return cli_usage(cli, "walk: --%s%s%s: %s", wish->width ?: "format",
			 wish->start ? ", --" : "", wish->start ?: "", reason);
}

/* ARM's last level is 3 for every granule. */
static uint8_t levels_of_start(const char *start)
{
	return (uint8_t)(*start == '-' ? 5 : '4' - *start);
}

/* ---- physical addresses ---- */

/*
 * How wide they are where nobody says: 52 bits, which is what most formats can hold at most, but
 * for those that can hold more, which have no bits above that to reserve (RISC-V).
 */
static uint8_t default_bits(const struct soft_format *format)
{
	const struct soft_env env = {.output_bits = WIDEST_BITS};
	const uint64_t high = 1ull << (WIDEST_BITS - 1);
	struct soft_entry entry;

	format->decode(&env, 1, format->make_leaf(&env, 1, format->granule, high, SHIM_READ, false),
		       &entry);
	return entry.kind == SOFT_ENTRY_LEAF && entry.address == high ? WIDEST_BITS : PHYSICAL_BITS;
}

/* ---- roots ---- */

static int take_root(struct cli *cli, const char *option, const struct soft_stage *stage)
{
	const struct soft_format *format = stage->format;
	uint64_t align = soft_shape_root_bytes(&stage->shape);

	/* Only ARM's roots may be smaller than a page, and lie anywhere in one. */
	if (!format->input_bits_max && align < 1ull << format->granule)
		align = 1ull << format->granule;
	if (stage->root & (align - 1))
		return cli_usage(
			cli,
			"walk: --%s: got 0x%" PRIx64 ", expected a multiple of %" PRIu64
			", to which the root of this table is aligned (without the low bits "
			"that a register or context entry holds beside the address)",
			option, stage->root, align);
	if (!stage->tables_in_next && stage->root >> stage->env.output_bits)
		return cli_usage(
			cli, "walk: --%s: 0x%" PRIx64 " has more than the %u bits of --phys-bits",
			option, stage->root, stage->env.output_bits);
	return CLI_OK;
}

/* FORMAT:ROOT */
static int take_nested(struct cli *cli, const char *text, struct soft_stage *stage)
{
	const char *colon = strchr(text, ':');

	if (!colon || colon == text || !colon[1])
		return cli_usage(cli,
				 "walk: --nested-on: got \"%s\", expected FORMAT:ROOT, such as "
				 "vtdss-4l:0x148e79000",
				 text);
	stage->format = walk_format(text, (size_t)(colon - text));
	if (!stage->format)
		return unknown_format(cli, "nested-on", text, (size_t)(colon - text));
	if (value_number(colon + 1, true, &stage->root) < 0)
		return cli_usage(
			cli,
			"walk: --nested-on: got \"%s\", expected an address such as 0x1000 "
			"after the ':'",
			text);
	return CLI_OK;
}

/* ---- stages ---- */

static int take_af_fault(struct walk *walk)
{
	bool some = false;

	for (unsigned int i = 0; i < walk->n_stages; i++) {
		struct soft_stage *stage = &walk->stages[i];

		stage->faults_unused = stage->format->accessed && stage->format->use;
		stage->env.access_dirty = false;
		some |= stage->faults_unused;
	}
	return some ? CLI_OK
		    : cli_usage(walk->cli, "walk: --af-fault: format %s has no accessed flag",
				walk->stages[0].format->name);
}

static int take_stages(struct cli *cli, const struct cli_args *args, struct walk *walk)
{
	const char *format = args_text(args, "format", ""), *sl = args_text(args, "sl", NULL);
	const char *nested = args_text(args, "nested-on", NULL);
	struct wish wishes[WALK_STAGES_MAX] = {};
	struct soft_stage *stages = walk->stages;
	int r;

	for (unsigned int i = 0; i < WALK_STAGES_MAX; i++)
		stages[i] = (struct soft_stage){
			.env =
				{
					.snoop_control = true,
					.device_tlb = true,
					.access_dirty = true,
				},
			.load = image_load,
			.memory = &walk->image,
		};
	stages[0].format = walk_format(format, strlen(format));
	if (!stages[0].format)
		return unknown_format(cli, "format", format, strlen(format));
	stages[0].root = args_number(args, "root", 0);
	walk->n_stages = 1;
	if (nested) {
		r = take_nested(cli, nested, &stages[1]);
		if (r)
			return r;
		stages[0].tables_in_next = true;
		walk->n_stages = 2;
	}

	wishes[0] = (struct wish){
		.format = stages[0].format,
		.spec =
			{
				.input_bits = (uint8_t)args_number(args, "va-bits", 0),
				.upper = args_has(args, "ttbr1"),
				.top_byte_ignored = args_has(args, "tbi"),
				.lpa2 = args_has(args, "lpa2"),
			},
		.width = args_has(args, "va-bits") ? "va-bits" : NULL,
		.wide = "lpa2",
	};
	wishes[1] = (struct wish){
		.format = stages[1].format,
		.spec =
			{
				.input_bits = (uint8_t)args_number(args, "nested-va-bits", 0),
				.lpa2 = args_has(args, "nested-lpa2"),
			},
		.width = args_has(args, "nested-va-bits") ? "nested-va-bits" : NULL,
		.wide = "nested-lpa2",
	};
	if (!nested && (wishes[1].width || wishes[1].spec.lpa2))
		return cli_usage(cli, "walk: --%s: there is no --nested-on",
				 wishes[1].width ?: "nested-lpa2");
	/* Of the two tables only a stage 2 has a start level to choose. */
	if (sl) {
		struct wish *wish =
			has_start_level(wishes[0].format) || !nested ? &wishes[0] : &wishes[1];

		if (!has_start_level(wish->format))
			return cli_usage(cli, "walk: --sl: format %s has no start level to choose",
					 wish->format->name);
		wish->start = "sl";
		wish->spec.levels = levels_of_start(sl);
	}
	for (unsigned int i = 0; i < walk->n_stages; i++) {
		stages[i].env.output_bits =
			(uint8_t)args_number(args, "phys-bits", default_bits(stages[i].format));
		r = take_shape(cli, &wishes[i], &stages[i].shape);
		if (r)
			return r;
		stages[i].env.lpa2 = wishes[i].spec.lpa2;
		r = take_root(cli, i ? "nested-on" : "root", &stages[i]);
		if (r)
			return r;
	}
	return args_has(args, "af-fault") ? take_af_fault(walk) : CLI_OK;
}

/* ---- access ---- */

static int take_access(struct cli *cli, const struct cli_args *args, struct walk *walk)
{
	bool supervisor = args_has(args, "supervisor");
	uint32_t access = 0;

	if (supervisor && !args_has(args, "access"))
		return cli_usage(cli, "walk: --supervisor: without --access nothing is asked of "
				      "the permissions");
	switch (args_number(args, "access", 0)) {
	case IOASID_ACCESS_READ:
		access = SHIM_READ;
		break;
	case IOASID_ACCESS_WRITE:
		access = SHIM_WRITE;
		break;
	case IOASID_ACCESS_EXECUTE:
		access = SHIM_EXEC;
		break;
	default:
		break;
	}
	walk->access = access | (access && !supervisor ? SOFT_USER : 0);
	return CLI_OK;
}

/* ---- the image ---- */

static int take_image(struct cli *cli, const struct cli_args *args, struct walk *walk)
{
	static const enum image_format formats[] = {IMAGE_RAW, IMAGE_ELF_CORE, IMAGE_PAGES};
	const struct cli_value *format = args_at(args, "image-format", 0);
	const uint32_t granule = 1u << walk->stages[0].format->granule;
	const struct image_spec spec = {
		.format = format ? formats[format->number] : IMAGE_AUTO,
		.base = args_number(args, "image-base", 0),
		.granule = granule,
	};
	char problem[IMAGE_PROBLEM_MAX];
	int r;

	walk->path = args_text(args, "image", "");
	r = image_open(walk->path, &spec, problem, &walk->image);
	if (r < 0)
		return cli_errno(cli, r, "walk: --image: cannot open %s", walk->path);
	if (r)
		return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "LOCAL",
				"walk: --image: %s: %s", walk->path, problem);
	if (walk->image.format == IMAGE_PAGES && walk->n_stages > 1 &&
	    walk->stages[1].format->granule != walk->stages[0].format->granule)
		return cli_usage(cli,
				 "walk: --nested-on: format %s has other pages than %s, and "
				 "a pages image has one size",
				 walk->stages[1].format->name, walk->stages[0].format->name);
	return CLI_OK;
}

int walk_setup(struct cli *cli, const struct cli_args *args, struct walk *ret_walk)
{
	struct walk *walk = ret_walk;
	int r;

	*walk = (struct walk){
		.cli = cli,
		.style = cli->format == &format_json ? WALK_JSON
			 : cli->format == &format_id ? WALK_ID
						     : WALK_PEOPLE,
		.limit = args_number(args, "limit", ENTRIES_DEFAULT),
	};
	r = take_stages(cli, args, walk);
	if (!r)
		r = take_access(cli, args, walk);
	if (!r)
		r = take_image(cli, args, walk);
	return r;
}

void walk_deinit(struct walk *walk)
{
	image_close(&walk->image);
}

int walk_check_image(struct walk *walk)
{
	const struct image_state *state = walk->image.state;

	if (!state->broken)
		return CLI_OK;
	return cli_fail(walk->cli, CLI_FAILED, "DATA_LOSS", "LOCAL",
			"walk: --image: %s cannot be read at byte %" PRIu64
			": it shrank, or its disk failed",
			walk->path, state->bad_byte);
}
