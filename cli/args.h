/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_ARGS_H
#define IOASID_CLI_ARGS_H

/*
 * From words to a command and its values.  Handlers read values by the parameter's name.
 */

#include "cli.h"

/* Global options anywhere in argv; the words that are left, in order. */
struct cli_words {
	char **words; /* borrowed from argv */
	size_t n;
	bool help, version;
};

/*
 * Splits argv (without the program's name) into global options, stored in cli, and words.
 * "--" ends the options: what follows is positional.  An exit code.
 */
int args_globals(struct cli *cli, int argc, char *const *argv, struct cli_words *ret_words);
void args_words_deinit(struct cli_words *words);

/*
 * The command that words begin with; *ret_used: how many words name it.  NULL: none; the
 * failure is stored.
 */
const struct cli_command *args_command(struct cli *cli, const struct cli_words *words,
				       size_t *ret_used);
/* Positionals and options of a command.  An exit code. */
int args_parse(struct cli *cli, const struct cli_command *command, char *const *words, size_t n,
	       struct cli_args *ret_args);
void args_deinit(struct cli_args *args);

/* How often a parameter was given. */
size_t args_count(const struct cli_args *args, const char *name);
bool args_has(const struct cli_args *args, const char *name);
/* The index-th value; NULL: not given so often. */
const struct cli_value *args_at(const struct cli_args *args, const char *name, size_t index);
/* First value, or the default. */
const char *args_text(const struct cli_args *args, const char *name, const char *otherwise);
uint64_t args_number(const struct cli_args *args, const char *name, uint64_t otherwise);
/* New array of the texts of all values; free() the array only; NULL if none. */
char **args_texts(const struct cli_args *args, const char *name, size_t *ret_n);

#endif
