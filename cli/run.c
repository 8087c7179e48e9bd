/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running one command line: global options, the command, its values, its handler.  Used by
 * main() once and by the shell for each line.
 */
#include "args.h"
#include "families.h"
#include "help.h"
#include "session.h"

#include <string.h>

static int run_help(struct cli *cli, const struct cli_words *words)
{
	size_t used;
	const struct cli_command *command;

	if (!words->n) {
		help_overview(cli->out);
		return cli_flush(cli);
	}
	command = args_command(cli, words, &used);
	if (command && (used == 2 || !command->verb)) {
		help_command(cli->out, command);
		return cli_flush(cli);
	}
	if (help_noun(cli->out, words->words[0])) {
		cli_error_clear(cli);
		return cli_flush(cli);
	}
	return cli->error_exit;
}

int cli_run(struct cli *cli, int argc, char *const *argv)
{
	const struct cli_command *before = cli->command, *command;
	struct cli_words words = {};
	struct cli_args args = {};
	size_t used;
	int r = args_globals(cli, argc, argv, &words);

	if (r)
		return r;
	if (words.help) {
		r = run_help(cli, &words);
	} else if (words.version) {
		fprintf(cli->out, "ioasidctl %s\n", IOASID_VERSION);
		r = cli_flush(cli);
	} else {
		command = args_command(cli, &words, &used);
		r = command ? args_parse(cli, command, words.words + used, words.n - used, &args)
			    : CLI_USAGE;
		if (!r && cli->in_shell && command->flags & CLI_NO_SHELL)
			r = cli_usage(cli, "%s: not inside a shell", command->noun);
		if (!r) {
			cli->command = command;
			r = command->run(cli, &args);
			cli->command = before;
		}
	}
	args_deinit(&args);
	args_words_deinit(&words);
	return r;
}
