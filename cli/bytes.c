/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that commands take and give; see bytes.h.  A comparison is made of the very bytes
 * that were read, after they were shown.
 */
#include "bytes.h"
#include "doc.h"
#include "output.h"
#include "session.h"
#include "value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

const char *const bytes_as_words[] = {"dump", "hex", "text", NULL};

void bytes_deinit(struct bytes *bytes)
{
	free(bytes->bytes);
	*bytes = (struct bytes){};
}

void bytes_repeat(uint8_t *to, size_t n, const uint8_t *pattern, size_t n_pattern)
{
	for (size_t i = 0; i < n; i++)
		to[i] = pattern[i % n_pattern];
}

/* ---- where from ---- */

static int read_file(struct cli *cli, const char *path, struct bytes *ret_bytes)
{
	_cleanup_(bytes_deinit) struct bytes b = {};
	size_t room = 0;
	int fd, r = 0;

	fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (fd < 0)
		return cli_errno(cli, errno, "cannot open %s", path);
	for (;;) {
		ssize_t got;

		if (b.n == room) {
			uint8_t *more;

			room = room ? 2 * room : 65536;
			more = cli_grow(b.bytes, room);
			b.bytes = more;
		}
		got = read(fd, b.bytes + b.n, room - b.n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			r = errno;
		if (got <= 0)
			break;
		b.n += got;
		if (b.n > BYTES_MAX) {
			r = EFBIG;
			break;
		}
	}
	if (fd != STDIN_FILENO)
		close(fd);
	if (r)
		return cli_errno(cli, r, "cannot read %s", path);
	*ret_bytes = b;
	b = (struct bytes){};
	return CLI_OK;
}

static void copy(struct bytes *to, const void *from, size_t n)
{
	to->bytes = cli_alloc(n);
	memcpy(to->bytes, from, n);
	to->n = n;
}

int bytes_source(struct cli *cli, const struct cli_args *args, struct bytes *ret_bytes)
{
	const struct cli_value *hex = args_at(args, "hex", 0), *fill = args_at(args, "fill", 0);
	const char *text = args_text(args, "text", NULL), *from = args_text(args, "from", NULL);
	struct bytes b = {};

	if (!!hex + !!text + !!from + !!fill != 1)
		return cli_usage(cli, "expected one of --hex, --text, --from and --fill");
	if (!fill != !args_has(args, "length"))
		return cli_usage(cli, "--fill and --length go together");
	if (from) {
		int r = read_file(cli, from, &b);

		if (r)
			return r;
	} else if (hex) {
		copy(&b, hex->bytes, hex->n_bytes);
	} else if (text) {
		copy(&b, text, strlen(text));
	} else {
		b.n = args_number(args, "length", 0);
		b.bytes = cli_alloc(b.n);
		bytes_repeat(b.bytes, b.n, fill->bytes, fill->n_bytes);
	}
	if (!b.n) {
		bytes_deinit(&b);
		return cli_usage(cli, "%s: there are no bytes to write",
				 from ? "--from" : "--text");
	}
	*ret_bytes = b;
	return CLI_OK;
}

/* ---- compared with ---- */

static int memory_view(struct cli *cli, const char *text, size_t n, struct bytes *ret_bytes)
{
	_cleanup_free_ char *copy_of = cli_strdup(text);
	char *plus = strchr(copy_of, '+');
	struct session_memory *m;
	uint64_t id, offset = 0;

	if (plus)
		*plus++ = 0;
	if (value_number(copy_of, false, &id) < 0 || !id ||
	    (plus && value_number(plus, true, &offset) < 0))
		return cli_usage(cli,
				 "--compare-memory: expected MEMORY or MEMORY+OFFSET, got \"%s\"",
				 text);
	m = session_memory_find(cli, id);
	if (!m)
		return cli->error_exit;
	if (offset > m->size)
		offset = m->size;
	copy(ret_bytes, m->bytes + offset, n < m->size - offset ? n : m->size - offset);
	return CLI_OK;
}

bool bytes_compares(const struct cli_args *args)
{
	return args_has(args, "compare-hex") || args_has(args, "compare-text") ||
	       args_has(args, "compare-file") || args_has(args, "compare-fill") ||
	       args_has(args, "compare-memory");
}

static int wanted_bytes(struct cli *cli, const struct cli_args *args, size_t n,
			struct bytes *ret_bytes)
{
	const struct cli_value *v;

	if ((v = args_at(args, "compare-hex", 0)))
		copy(ret_bytes, v->bytes, v->n_bytes);
	else if ((v = args_at(args, "compare-text", 0)))
		copy(ret_bytes, v->text, strlen(v->text));
	else if ((v = args_at(args, "compare-file", 0))) {
		int r = read_file(cli, v->text, ret_bytes);

		/* The file may go on: its beginning is compared. */
		if (!r && ret_bytes->n > n)
			ret_bytes->n = n;
		return r;
	} else if ((v = args_at(args, "compare-memory", 0)))
		return memory_view(cli, v->text, n, ret_bytes);
	else if ((v = args_at(args, "compare-fill", 0))) {
		ret_bytes->n = n;
		ret_bytes->bytes = cli_alloc(n);
		bytes_repeat(ret_bytes->bytes, n, v->bytes, v->n_bytes);
	}
	return CLI_OK;
}

static int difference(struct cli *cli, const struct bytes *wanted, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n && i < wanted->n; i++)
		if (bytes[i] != wanted->bytes[i])
			return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "DIFFERENT",
					"byte %zu is 0x%02x, expected 0x%02x", i, bytes[i],
					wanted->bytes[i]);
	if (n != wanted->n)
		return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "DIFFERENT",
				"%zu bytes were read, expected %zu", n, wanted->n);
	return CLI_OK;
}

/* ---- shown ---- */

static int write_file(struct cli *cli, const char *path, const uint8_t *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	size_t done = 0;
	int r = 0;

	if (fd < 0)
		return cli_errno(cli, errno, "cannot make %s", path);
	while (done < n && !r) {
		ssize_t put = write(fd, bytes + done, n - done);

		if (put >= 0)
			done += put;
		else if (errno != EINTR)
			r = errno;
	}
	if (close(fd) < 0 && !r)
		r = errno;
	return r ? cli_errno(cli, r, "cannot write %s", path) : CLI_OK;
}

static void put_text(struct json_object *document, const uint8_t *bytes, size_t n)
{
	_cleanup_free_ char *text = cli_alloc(n + 1);

	for (size_t i = 0; i < n; i++)
		text[i] = (bytes[i] >= 0x20 && bytes[i] < 0x7f) || bytes[i] == '\n' ||
					  bytes[i] == '\t'
				  ? (char)bytes[i]
				  : '.';
	doc_put_text(document, "text", text);
}

int bytes_answer(struct cli *cli, const struct cli_args *args, const uint8_t *bytes, size_t n,
		 struct json_object *document)
{
	const char *as = args_text(args, "as", "dump"), *to = args_text(args, "to", NULL);
	_cleanup_(bytes_deinit) struct bytes wanted = {};
	_cleanup_json_ struct json_object *owned = document;
	bool compares = bytes_compares(args);
	int r = CLI_OK, shown;

	if (to)
		r = write_file(cli, to, bytes, n);
	if (!r && compares)
		r = wanted_bytes(cli, args, n, &wanted);
	if (r)
		return r;
	if (to) {
		doc_put_text(document, "file", to);
	} else {
		doc_put_bytes(document, "data", bytes, n);
		doc_put_text(document, "as", as);
		if (!strcmp(as, "text"))
			put_text(document, bytes, n);
	}
	if (compares) {
		r = difference(cli, &wanted, bytes, n);
		doc_put_bool(document, "equal", !r);
	}
	owned = NULL;
	shown = cli_show(cli, document);
	return r ?: shown;
}
