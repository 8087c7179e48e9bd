/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_UNIT_CLI_RUN_CLI_H
#define IOASID_TESTS_UNIT_CLI_RUN_CLI_H

/*
 * Runs a command line inside the test, without a process: what main() does, with memory
 * streams.
 */

#include "cli.h"
#include "output.h"
#include "session.h"

struct run_cli {
	struct cli cli;
	char *out, *err;
	size_t out_size, err_size;
	int exit_code;
};

/* words ends with NULL. */
static inline void run_cli(struct run_cli *run, const char *const *words)
{
	char *argv[64];
	int argc = 0;

	*run = (struct run_cli){.cli = {.format = &format_table}};
	run->cli.out = open_memstream(&run->out, &run->out_size);
	run->cli.err = open_memstream(&run->err, &run->err_size);
	while (words[argc] && argc < 63) {
		argv[argc] = (char *)words[argc];
		argc++;
	}
	run->exit_code = cli_run(&run->cli, argc, argv);
	if (run->exit_code)
		cli_error_print(&run->cli);
	cli_error_clear(&run->cli);
	session_close(&run->cli);
	free(run->cli.answer_id);
	fclose(run->cli.out);
	fclose(run->cli.err);
}

static inline void run_cli_deinit(struct run_cli *run)
{
	free(run->out);
	free(run->err);
}

#define RUN(run, ...) run_cli(run, (const char *const[]){__VA_ARGS__, NULL})

#endif
