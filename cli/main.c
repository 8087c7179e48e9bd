/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasidctl: the command line client of ioasidd, through libioasid.
 *
 * From words to an answer: args.c finds the row of the table (commands.c) and reads the
 * values by their types (value.c); the row's handler (cmd_*.c) asks the broker through the
 * library (session.c) and makes a document (doc.c, objects.c); output.c and table.c print
 * it.  Failures are stored (error.c) and printed here, once.
 */
#include "cli.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A standard stream that is closed would be the number of the next fd that is opened, and
 * answers would go into the broker's socket.  The other direction of /dev/null keeps the
 * number, and writing still fails.
 */
static void keep_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			_exit(CLI_FAILED);
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/*
 * $IOASID_LEASE is the name of a lease; else $IOASID_LEASE_FILE may be one that was given to this
 * process.  What is wrong with a file concerns commands in it only.
 */
static void find_lease(struct cli *cli)
{
	cli->lease = environment("IOASID_LEASE");
	if (cli->lease || !environment("IOASID_LEASE_FILE"))
		return;
	if (ioasid_given_read(&cli->given, &cli->given_error) < 0)
		return;
	cli->lease = cli->given->lease;
	cli->tenant = cli->given->tenant;
}

int main(int argc, char **argv)
{
	struct cli cli = {
		.format = &format_table,
		.in = stdin,
		.out = stdout,
		.err = stderr,
		.socket = environment("IOASID_SOCKET"),
		.secret_file = environment("IOASID_LEASE_SECRET_FILE"),
	};
	int r;

	keep_standard_fds();
	cli.sigpipe_was_ignored = signal(SIGPIPE, SIG_IGN) == SIG_IGN;
	/* What gRPC core says on standard error is no answer; its failures are the library's. */
	cli.grpc_is_quiet = !getenv("GRPC_VERBOSITY") && !setenv("GRPC_VERBOSITY", "NONE", 0);
	setlocale(LC_CTYPE, "");
	find_lease(&cli);
	r = cli_run(&cli, argc - 1, argv + 1);
	if (r)
		cli_error_print(&cli);
	cli_error_clear(&cli);
	session_close(&cli);
	ioasid_given_free(cli.given);
	ioasid_error_free(cli.given_error);
	free(cli.answer_id);
	if (fclose(stdout) && !r) {
		fprintf(stderr, "ioasidctl: cannot write the answer: %s\n", strerror(errno));
		r = CLI_FAILED;
	}
	return r;
}
