/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_WALK_H
#define IOASID_CLI_WALK_H

/*
 * What the parts of `ioasidctl walk` share: page tables of some machine, read from an image of its
 * memory by the code that the software IOMMU walks with (kernel-shim/soft/walk.h).  Nothing is
 * asked of a broker, nothing is written to the image.
 *
 *	cmd_walk.c	the command: options, addresses, standard input
 *	walk_setup.c	from options to the stages of a walk
 *	walk_answer.c	one address
 *	walk_list.c	every mapping, as ranges; counting them
 *	walk_print.c	what all of these say in JSON and to people
 *
 * Levels are counted from the leaves, as everywhere in ioasid: level 1 has the smallest pages.
 *
 * Answers are printed as they are found: no document is built, as there may be millions.  All
 * that is printed is made of numbers and of names that are constants here, so there is nothing to
 * escape.
 *
 * Threads: one.
 */

#include "args.h"
#include "image.h"

#include "soft/walk.h"

#define WALK_STAGES_MAX 2

enum walk_style { WALK_PEOPLE, WALK_JSON, WALK_ID };

struct walk {
	struct cli *cli;
	enum walk_style style;
	const char *path; /* of the image, as given */
	struct image image;
	/* Stage 0 is the table of --format; 1 that of --nested-on. */
	struct soft_stage stages[WALK_STAGES_MAX];
	unsigned int n_stages;
	uint32_t access; /* as asked of soft_walk(); 0: nothing is asked */
	uint64_t limit;	 /* entries that a listing looks at */
	bool printed;	 /* something, so that what comes next is set off */
};

/* Opens the image and reads all options but the addresses.  An exit code. */
int walk_setup(struct cli *cli, const struct cli_args *args, struct walk *ret_walk);
void walk_deinit(struct walk *walk);

/* NULL: no such format is built here.  "amdv1-4" and "amdv1-4l" are one. */
const struct soft_format *walk_format(const char *name, size_t length);
/* Names that --format takes, as completion offers them; ends with NULL. */
extern const char *const walk_format_names[];

/* Prints the answer for one address, a fault or not.  An exit code. */
int walk_answer(struct walk *walk, uint64_t address);
/* Exit code 1 with the failure stored, if the image could not be read; else 0. */
int walk_check_image(struct walk *walk);

/* ---- every mapping ---- */

#define WALK_PROBLEMS_MAX 8

/* Consecutive addresses that mean the same. */
struct walk_range {
	uint64_t address, length;
	const char *cause; /* NULL: they translate; else what follows is not set */
	uint64_t output;
	uint8_t shift; /* pages of 2^shift bytes */
	uint32_t prot;
};

/* Prints all ranges; exit code 1 where the limit ended it. */
int walk_list(struct walk *walk);
/* Counts pages and tables of each stage, and prints that.  As walk_list(). */
int walk_stats(struct walk *walk);

/* What the table of one stage holds; see walk_stats(). */
struct walk_counts {
	uint64_t tables[SOFT_LEVELS_MAX + 1]; /* by level, as often as they are reached */
	uint64_t table_bytes;
	uint64_t page_bytes[64]; /* mapped by pages of 2^index bytes */
	struct {
		const char *cause;
		uint64_t entries;
	} problems[WALK_PROBLEMS_MAX];
};

/* ---- what is printed ---- */

const char *walk_cause_name(enum shim_fault_cause cause);
/* "r-xu" */
void walk_perm(uint32_t prot, char ret_perm[5]);
void walk_print_answer(struct walk *walk, uint64_t address, const struct shim_walk *trace,
		       const struct soft_translation *where, const struct shim_fault *fault,
		       const char *cause);
void walk_print_list_head(struct walk *walk);
void walk_print_range(struct walk *walk, const struct walk_range *range);
void walk_print_counts(struct walk *walk, const struct walk_counts *counts);

#endif
