/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failures.  A failure is a document {"type": "error", status, reason, message, violations,
 * metadata} and an exit code; it is stored where it happens and printed once, at the edge.
 * A later failure of the same command does not replace the first.
 */
#include "cli.h"
#include "doc.h"
#include "output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void cli_oom(void)
{
	static const char text[] = "ioasidctl: out of memory\n";

	fwrite(text, 1, sizeof(text) - 1, stderr);
	_Exit(CLI_FAILED);
}

void *cli_alloc(size_t size)
{
	void *p = calloc(1, size ?: 1);

	if (!p)
		cli_oom();
	return p;
}

void *cli_grow(void *old, size_t size)
{
	void *p = realloc(old, size);

	if (!p)
		cli_oom();
	return p;
}

char *cli_strdup(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		cli_oom();
	return copy;
}

char *cli_printf(const char *format, ...)
{
	char *text;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&text, format, ap);
	va_end(ap);
	if (r < 0)
		cli_oom();
	return text;
}

static int fail_v(struct cli *cli, enum cli_exit exit_code, const char *status, const char *reason,
		  const char *format, va_list ap)
{
	_cleanup_free_ char *message = NULL;

	if (cli->error)
		return cli->error_exit;
	if (vasprintf(&message, format, ap) < 0)
		cli_oom();
	cli->error = doc_new("error");
	cli->error_exit = exit_code;
	doc_put_u64(cli->error, "exit_code", exit_code);
	doc_put_text(cli->error, "status", status);
	doc_put_text(cli->error, "reason", reason);
	doc_put_text(cli->error, "message", message);
	doc_put(cli->error, "violations", doc_array());
	doc_put(cli->error, "metadata", doc_object());
	return exit_code;
}

int cli_fail(struct cli *cli, enum cli_exit exit_code, const char *status, const char *reason,
	     const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_v(cli, exit_code, status, reason, format, ap);
	va_end(ap);
	return r;
}

int cli_usage(struct cli *cli, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_v(cli, CLI_USAGE, "INVALID_ARGUMENT", "USAGE", format, ap);
	va_end(ap);
	return r;
}

int cli_errno(struct cli *cli, int error, const char *format, ...)
{
	_cleanup_free_ char *what = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&what, format, ap);
	va_end(ap);
	if (r < 0)
		cli_oom();
	return cli_fail(cli, CLI_FAILED, "UNKNOWN", "LOCAL", "%s: %s", what, strerror(abs(error)));
}

void cli_violation(struct cli *cli, const char *kind, const char *type, const char *subject,
		   const char *description)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "kind", kind);
	doc_put_text_if(o, "type", type);
	doc_put_text(o, "subject", subject);
	doc_put_text(o, "description", description);
	doc_put(doc_get(cli->error, "violations"), NULL, o);
}

void cli_metadata(struct cli *cli, const char *key, const char *value)
{
	doc_put_text(doc_get(cli->error, "metadata"), key, value);
}

void cli_error_clear(struct cli *cli)
{
	json_object_put(cli->error);
	cli->error = NULL;
	cli->error_exit = CLI_OK;
}

void cli_error_print(struct cli *cli)
{
	if (!cli->error)
		return;
	cli->format->error(cli->err, cli->error);
	fflush(cli->err);
}
