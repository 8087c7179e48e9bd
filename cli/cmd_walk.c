/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk: page tables in an image of some machine's memory, read without a broker; see walk.h.
 *
 * A fault is an answer, not a failure: the exit code is 0 when all addresses were answered.
 *
 * Addresses from standard input are answered one by one.  Where the input is a pipe or a
 * terminal, somebody may wait for an answer before the next question, so each is written out at
 * once; where it is a file, nobody does.
 */
#include "families.h"
#include "value.h"
#include "walk.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static inline void walk_deinitp(struct walk *walk)
{
	walk_deinit(walk);
}
#define _cleanup_walk_ __attribute__((cleanup(walk_deinitp)))

/* ---- addresses ---- */

/* Without the blanks around it; empty for a line that is blank or a comment. */
static char *trim(char *line)
{
	char *end;

	line += strspn(line, " \t\r\n");
	if (*line == '#')
		*line = 0;
	end = line + strlen(line);
	while (end > line && strchr(" \t\r\n", end[-1]))
		*--end = 0;
	return line;
}

static int answer_lines(struct walk *walk)
{
	struct cli *cli = walk->cli;
	bool waits = lseek(fileno(cli->in), 0, SEEK_CUR) < 0;
	_cleanup_free_ char *line = NULL;
	unsigned long number = 0;
	size_t room = 0;
	int r = CLI_OK;

	while (!r && getline(&line, &room, cli->in) >= 0) {
		const char *text = trim(line);
		uint64_t address;

		number++;
		if (!*text)
			continue;
		if (value_number(text, true, &address) < 0)
			return cli_fail(
				cli, CLI_FAILED, "INVALID_ARGUMENT", "LOCAL",
				"walk: -: line %lu: got \"%s\", expected an address such as "
				"0x1000 or 1G",
				number, text);
		r = walk_answer(walk, address);
		if (!r && (waits || ferror(cli->out)))
			r = cli_flush(cli);
	}
	if (!r && ferror(cli->in))
		return cli_errno(cli, errno, "walk: -: cannot read standard input");
	return r;
}

static int check_addresses(struct cli *cli, const struct cli_args *args)
{
	size_t n = args_count(args, "ADDR"), dashes = 0;
	uint64_t address;

	for (size_t i = 0; i < n; i++) {
		const char *text = args_at(args, "ADDR", i)->text;

		if (strcmp(text, "-")) {
			if (value_number(text, true, &address) < 0)
				return cli_usage(cli,
						 "walk: ADDR: got \"%s\", expected an address such "
						 "as 0x1000 or 1G, or - for standard input",
						 text);
			continue;
		}
		if (dashes++)
			return cli_usage(cli, "walk: ADDR: - is given twice");
		if (cli->in_shell)
			return cli_usage(cli, "walk: ADDR: -: not inside a shell, which reads "
					      "standard input itself");
	}
	return CLI_OK;
}

static int answer_addresses(struct walk *walk, const struct cli_args *args)
{
	size_t n = args_count(args, "ADDR");
	int r = CLI_OK;

	for (size_t i = 0; !r && i < n; i++) {
		const char *text = args_at(args, "ADDR", i)->text;
		uint64_t address = 0;

		if (!strcmp(text, "-")) {
			r = answer_lines(walk);
			continue;
		}
		value_number(text, true, &address);
		r = walk_answer(walk, address);
	}
	return r;
}

/* ---- the command ---- */

static int check_modes(struct cli *cli, const struct cli_args *args)
{
	bool all = args_has(args, "all"), stats = args_has(args, "stats");
	bool some = args_has(args, "ADDR");

	if (all && some)
		return cli_usage(cli, "walk: --all: not with addresses, all are listed");
	if (!all && !stats && !some)
		return cli_usage(cli,
				 "walk: missing ADDR (or - to read addresses, --all, --stats)");
	if (!all && !stats && args_has(args, "limit"))
		return cli_usage(cli, "walk: --limit: is for --all and --stats");
	if (!some && args_has(args, "access"))
		return cli_usage(cli, "walk: --access: is for addresses; --all and --stats show "
				      "what each page allows");
	return CLI_OK;
}

static int walk_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_walk_ struct walk walk = {};
	int r = check_modes(cli, args), flushed;

	if (!r)
		r = check_addresses(cli, args);
	if (!r)
		r = walk_setup(cli, args, &walk);
	if (r)
		return r;
	if (args_has(args, "all"))
		r = walk_list(&walk);
	else
		r = answer_addresses(&walk, args);
	if (!r && args_has(args, "stats"))
		r = walk_stats(&walk);
	/* What was answered goes out before what went wrong. */
	flushed = cli_flush(cli);
	return r ?: flushed;
}

static const char *const image_formats[] = {"raw", "elf-core", "pages", NULL};
static const char *const start_levels[] = {"-1", "0", "1", "2", "3", NULL};

static const struct cli_param walk_args[] = {
	{"ADDR", CLI_TEXT, CLI_REPEATED,
	 .help = "addresses to translate; - reads them from standard input, one a line"},
	{},
};
static const struct cli_param walk_options[] = {
	{"format", CLI_WORD, CLI_REQUIRED, .value = "FORMAT", .words = walk_format_names,
	 .help = "format of the table, such as x86_64-4l, vtdss-4l, armv8-s1-4k or sv48"},
	{"root", CLI_ADDRESS, CLI_REQUIRED, .value = "PA", .help = "address of its root"},
	{"image", CLI_FILE, CLI_REQUIRED, .value = "FILE",
	 .help = "the memory that it lies in: a dump"},
	{"image-format", CLI_WORD, .value = "raw|elf-core|pages", .words = image_formats,
	 .help = "what the file is (told by its first bytes and its size)"},
	{"image-base", CLI_ADDRESS, .value = "PA",
	 .help = "raw: the address of its first byte (0)"},
	{"nested-on", CLI_TEXT, .value = "FORMAT:ROOT",
	 .help = "the table's addresses are translated by this one"},
	{"all", CLI_FLAG, .help = "list every mapping, as ranges"},
	{"stats", CLI_FLAG, .help = "count pages and tables"},
	{"limit", CLI_UINT, .value = "ENTRIES", .min = 1,
	 .help = "with --all, --stats: give up after so many entries (268435456)"},
	{"access", CLI_ACCESS, .help = "what is asked for (nothing: permissions are only shown)"},
	{"supervisor", CLI_FLAG, .help = "with --access: it is privileged"},
	{"va-bits", CLI_UINT, .value = "N", .min = 1, .max = 64,
	 .help = "width of the table's input: ARM 64 - TxSZ, of a stage 2 the IPA's (the "
		 "format's)"},
	{"ttbr1", CLI_FLAG,
	 .help = "ARM: the table of the upper half, whose addresses begin with ones"},
	{"tbi", CLI_FLAG, .help = "ARM: the top byte of addresses is ignored"},
	{"sl", CLI_WORD, .value = "N", .words = start_levels,
	 .help = "ARM: level at which the stage-2 walk starts, -1 to 3 (by the width)"},
	{"lpa2", CLI_FLAG, .help = "ARM: FEAT_LPA2 descriptors, for 4K and 16K (TCR.DS)"},
	{"nested-va-bits", CLI_UINT, .value = "N", .min = 1, .max = 64,
	 .help = "as --va-bits, of the table of --nested-on"},
	{"nested-lpa2", CLI_FLAG, .help = "as --lpa2, of the table of --nested-on"},
	{"af-fault", CLI_FLAG, .help = "an entry whose accessed flag is clear is a fault"},
	{"phys-bits", CLI_UINT, .value = "N", .min = 32, .max = 56,
	 .help = "width of physical addresses; higher bits of an entry are at fault (52; RISC-V: "
		 "56)"},
	{},
};

const struct cli_command cmd_walk = {
	.noun = "walk",
	.flags = CLI_OFFLINE,
	.roles = "whoever may read the file",
	.summary = "read page tables in a memory dump, level by level",
	.help = "For each address: the entries on the way, and where it leads or why it faults; a "
		"fault is an answer.  With -o json one object a line.  Exit code 0: everything was "
		"answered; 1: the image or an input line is bad, or --limit was reached; 2: "
		"usage.  docs/walk.md tells how to get a dump and where roots are found.",
	.example = "ioasidctl walk --format x86_64-4l --root 0x102670000 --image guest.elf "
		   "0xffffffff81000000",
	.args = walk_args,
	.options = walk_options,
	.run = walk_run,
};
