/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_HELP_H
#define IOASID_CLI_HELP_H

/*
 * Texts made from the table of commands: help for people, the reference of
 * docs/ioasidctl.md, the man page, the bash completion.
 */

#include "cli.h"

/* "map [add] IOASID IOVA LENGTH [--memory ID] ..."; free(). */
char *help_usage(const struct cli_command *command);

void help_overview(FILE *out);
/* All commands of a noun, one line each; false: no such noun. */
bool help_noun(FILE *out, const char *noun);
void help_command(FILE *out, const struct cli_command *command);

void help_markdown(FILE *out);
void help_man(FILE *out);
void completion_bash(FILE *out);

#endif
