/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_CLI_H
#define IOASID_CLI_CLI_H

/*
 * One run of ioasidctl: options that hold for every command, the connection, the last
 * failure.  A handler returns an exit code; on failure it has called one of the cli_fail
 * functions, and only the edge (main or shell) prints it, once, in the chosen format.
 *
 * Memory: a command line tool that runs out of memory says so and exits 1 (cli_oom());
 * helpers therefore never return NULL for want of memory.
 *
 * Threads: one.
 */

#include "command.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

/* Exit codes; part of the interface (docs/ioasidctl.md). */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_DENIED = 3,
	CLI_QUOTA = 4,
	CLI_NOT_FOUND = 5,
	CLI_NO_SERVER = 6,
	/* Of `exec` only, beside the program's own. */
	CLI_CANNOT_RUN = 126,
	CLI_NO_PROGRAM = 127,
};

struct cli_format;
struct cli_session;
struct ioasid_error;
struct ioasid_given;

struct cli {
	const struct cli_format *format;
	FILE *in; /* a shell's lines */
	FILE *out;
	FILE *err;
	bool compact; /* JSON documents on one line each */
	bool in_shell;
	char *shell_lease; /* the lease that a shell's lines act in; NULL: that of --lease */

	/* Global options; text owned by the vectors they were parsed from. */
	const char *socket;
	const char *lease;
	const char *secret_file;
	const char *tenant;
	const char *key;
	uint64_t timeout_ms;

	/* $IOASID_LEASE_FILE: a lease that was given (exec); or why that makes no sense. */
	struct ioasid_given *given;
	struct ioasid_error *given_error;
	/* As a program that is started is to find them. */
	bool sigpipe_was_ignored;
	bool grpc_is_quiet; /* $GRPC_VERBOSITY was not set before */

	struct cli_session *session; /* connection and what it holds; see session.h */
	const struct cli_command *command;
	struct json_object *error; /* the failure of the last command, or NULL */
	enum cli_exit error_exit;
	char *answer_id; /* primary id of the last document, for the shell's variables */
};

/* ---- failures ---- */

/*
 * Stores a failure and returns exit_code.  status is a gRPC status name, reason a word of
 * the table in proto/ioasid.proto or one of ours: USAGE, NO_SERVER, LOCAL.
 */
int cli_fail(struct cli *cli, enum cli_exit exit_code, const char *status, const char *reason,
	     const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Exit 2: names the argument and what was expected. */
int cli_usage(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exit 1: a failing system call, "what: strerror". */
int cli_errno(struct cli *cli, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* One more violation of the stored failure; kind: quota, precondition, field. */
void cli_violation(struct cli *cli, const char *kind, const char *type, const char *subject,
		   const char *description);
void cli_metadata(struct cli *cli, const char *key, const char *value);
void cli_error_clear(struct cli *cli);
/* Prints the stored failure in the chosen format. */
void cli_error_print(struct cli *cli);

/* ---- answers ---- */

/* Prints the document as the running command's view says; takes ownership. */
int cli_show(struct cli *cli, struct json_object *document);
/* One document of a stream: a single line, flushed. */
int cli_show_event(struct cli *cli, struct json_object *document);
/* 0, or exit code 1 with the failure stored: output could not be written. */
int cli_flush(struct cli *cli);

/* ---- running ---- */

/* Finds the command, parses, runs.  Does not print failures. */
int cli_run(struct cli *cli, int argc, char *const *argv);

void cli_oom(void) __attribute__((noreturn));
/* Zeroed. */
void *cli_alloc(size_t size);
/* As realloc(); size > 0. */
void *cli_grow(void *old, size_t size);
char *cli_strdup(const char *text);
char *cli_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void cli_freep(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ __attribute__((cleanup(cli_freep)))

static inline void cli_json_putp(struct json_object **o)
{
	json_object_put(*o);
}
#define _cleanup_json_ __attribute__((cleanup(cli_json_putp)))

#endif
