/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_COMMAND_H
#define IOASID_CLI_COMMAND_H

/*
 * The grammar as data: every command is one row of a static table.  The parser, the help
 * texts, the bash completion, the man page and the reference in docs/ioasidctl.md all read
 * these rows and nothing else, so that none of them can disagree with what is accepted.
 *
 * Grammar: NOUN [VERB] [ARGS and --options in any order].  The word after a noun is its
 * verb if the noun has a verb of that name; otherwise the noun's direct command takes it as
 * its first argument ("map 3 any 64K ..." is "map add 3 any 64K ...").
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli;
struct cli_view;

/* How the text of an argument or option is read. */
enum cli_type {
	CLI_FLAG,	 /* option without a value */
	CLI_TEXT,	 /* any UTF-8 text without control characters */
	CLI_UINT,	 /* decimal or 0x..., between min and max */
	CLI_ID,		 /* an id: 1 or more */
	CLI_SIZE,	 /* bytes: decimal or 0x..., with K, M, G or T */
	CLI_ADDRESS,	 /* as CLI_SIZE; shown in hexadecimal */
	CLI_HEX,	 /* bytes as pairs of hexadecimal digits */
	CLI_FILE,	 /* path of a file or folder */
	CLI_ARGUMENT,	 /* of a program that is run: any bytes, none as well */
	CLI_DEVICE,	 /* "0000:3b:00.0" */
	CLI_PCI_ID,	 /* "8086:10fb" */
	CLI_PCI_CLASS,	 /* "020000" */
	CLI_FORMAT,	 /* page-table format of proto/vocab.h */
	CLI_KIND,	 /* kind of IOASID */
	CLI_SNOOP,	 /* snoop mode */
	CLI_GRANULARITY, /* of an invalidation */
	CLI_EVENT,	 /* type of an event */
	CLI_ACCESS,	 /* read, write, execute */
	CLI_PROT,	 /* some of the letters r, w, x */
	CLI_RESOURCE,	 /* name of a quota resource */
	CLI_AMOUNT,	 /* RESOURCE=N, N as CLI_SIZE, or "max" */
	CLI_WORD,	 /* one of words */
};

#define CLI_REQUIRED (1u << 0)
/* Positional: one or more words.  Option: may be repeated, or hold a comma list. */
#define CLI_REPEATED (1u << 1)
/* The word "any" stands for "you choose". */
#define CLI_OR_ANY (1u << 2)
/* CLI_AMOUNT: "max" is accepted. */
#define CLI_OR_MAX (1u << 3)

/* A positional argument or an option; an array of them ends with name NULL. */
struct cli_param {
	const char *name; /* option "size" is given as --size */
	enum cli_type type;
	unsigned flags;
	const char *value; /* metavar, "BYTES"; NULL: made from the name */
	const char *help;
	uint64_t min, max; /* CLI_UINT, CLI_SIZE; max 0: no bound */
	const char *const *words;
	char letter; /* one-letter form of a global option */
};

/* Works without a server. */
#define CLI_OFFLINE (1u << 0)
/* Does not act in a lease: --lease is not adopted first. */
#define CLI_NO_LEASE (1u << 1)
/* The noun's direct command: the verb may be left out. */
#define CLI_DIRECT (1u << 2)
/* Does not make sense inside `ioasidctl shell`. */
#define CLI_NO_SHELL (1u << 3)

/* One parsed value. */
struct cli_value {
	const struct cli_param *param;
	char *text;	 /* as given (one element of a comma list) */
	uint64_t number; /* numbers, enumerations, protection bits, the amount */
	bool any;	 /* the word "any" */
	char *resource;	 /* CLI_AMOUNT */
	uint8_t *bytes;	 /* CLI_HEX */
	size_t n_bytes;
};
struct cli_args {
	struct cli_value *values;
	size_t n;
};

struct cli_command {
	const char *noun;
	const char *verb; /* NULL: the noun has only this command */
	unsigned flags;
	const char *roles;   /* who may call it: "tenant, agent" */
	const char *summary; /* one line */
	const char *help;    /* paragraphs, may be NULL */
	const char *example; /* one line or NULL */
	const struct cli_param *args;
	const struct cli_param *options;
	const struct cli_view *view; /* how the answer looks in a table */
	/* Returns an exit code; a failure was stored by cli_fail(). */
	int (*run)(struct cli *cli, const struct cli_args *args);
};

/* All commands in the order of the help; nouns are contiguous. */
extern const struct cli_command *const cli_commands[];
extern const size_t cli_n_commands;
/* Options that every command takes. */
extern const struct cli_param cli_globals[];
/* One line about a noun. */
const char *cli_noun_summary(const char *noun);

#endif
