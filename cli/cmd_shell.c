/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell: commands line by line from standard input, all on one connection, which stays
 * open until the input ends.  So a script can hold a connection lease, and compare what
 * the CPU and a device see of the same memory.
 *
 * A line is words as a POSIX shell splits them: blanks separate, '...' and "..." quote,
 * \ escapes one character, # begins a comment.  $NAME is replaced outside of '...';
 * NAME=COMMAND... runs the command and keeps the id of its answer (what -o id prints).
 * Global options on a line hold for that line.  There is nothing else: no pipes, no
 * conditions.
 */
#include "args.h"
#include "families.h"
#include "session.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct variable {
	char *name;
	char *value;
};

struct shell {
	struct cli *cli;
	struct variable *variables;
	size_t n_variables;
	char **words;
	size_t n_words;
	unsigned long line;
};

static void shell_deinit(struct shell *s)
{
	for (size_t i = 0; i < s->n_variables; i++) {
		free(s->variables[i].name);
		free(s->variables[i].value);
	}
	free(s->variables);
	for (size_t i = 0; i < s->n_words; i++)
		free(s->words[i]);
	free(s->words);
}

/* ---- variables ---- */

static struct variable *variable_find(struct shell *s, const char *name, size_t length)
{
	for (size_t i = 0; i < s->n_variables; i++)
		if (strlen(s->variables[i].name) == length &&
		    !memcmp(s->variables[i].name, name, length))
			return &s->variables[i];
	return NULL;
}

static void variable_set(struct shell *s, const char *name, size_t length, const char *value)
{
	struct variable *v = variable_find(s, name, length), *more;

	if (!v) {
		more = cli_grow(s->variables, (s->n_variables + 1) * sizeof(*more));
		s->variables = more;
		v = &more[s->n_variables++];
		*v = (struct variable){.name = cli_printf("%.*s", (int)length, name)};
	}
	free(v->value);
	v->value = cli_strdup(value);
}

static size_t name_length(const char *text)
{
	size_t n = 0;

	if (!isalpha((unsigned char)*text) && *text != '_')
		return 0;
	while (isalnum((unsigned char)text[n]) || text[n] == '_')
		n++;
	return n;
}

/* ---- words ---- */

struct word {
	char *text;
	size_t n;
	bool open; /* there is a word, perhaps an empty one */
};

static void append(struct word *w, const char *text, size_t n)
{
	char *more = cli_grow(w->text, w->n + n + 1);

	w->text = more;
	memcpy(more + w->n, text, n);
	w->n += n;
	more[w->n] = 0;
	w->open = true;
}

static void finish(struct shell *s, struct word *w)
{
	char **more;

	if (!w->open)
		return;
	more = cli_grow(s->words, (s->n_words + 1) * sizeof(*more));
	s->words = more;
	more[s->n_words++] = w->text;
	*w = (struct word){};
}

/* A "$NAME" at p; how many characters it takes, 0: the failure is stored. */
static size_t expand(struct shell *s, struct word *w, const char *p)
{
	size_t length = name_length(p + 1);
	struct variable *v = length ? variable_find(s, p + 1, length) : NULL;

	if (!v) {
		cli_usage(s->cli, "line %lu: no variable \"$%.*s\" was set", s->line, (int)length,
			  p + 1);
		return 0;
	}
	append(w, v->value, strlen(v->value));
	return length + 1;
}

static int split(struct shell *s, const char *line)
{
	struct word w = {};
	char quote = 0;

	for (const char *p = line; *p;) {
		size_t n = 1;

		if (quote == '\'' && *p != '\'') {
			append(&w, p, 1);
		} else if (quote && *p == quote) {
			quote = 0;
		} else if (*p == '\\' && p[1]) {
			append(&w, p + 1, 1);
			n = 2;
		} else if (*p == '$') {
			n = expand(s, &w, p);
			if (!n) {
				free(w.text);
				return CLI_USAGE;
			}
		} else if (quote) {
			append(&w, p, 1);
		} else if (*p == '\'' || *p == '"') {
			quote = *p;
			append(&w, "", 0);
		} else if (isspace((unsigned char)*p)) {
			finish(s, &w);
		} else if (*p == '#' && !w.open) {
			break;
		} else {
			append(&w, p, 1);
		}
		p += n;
	}
	if (quote) {
		free(w.text);
		return cli_usage(s->cli, "line %lu: the quote %c is not closed", s->line, quote);
	}
	finish(s, &w);
	return CLI_OK;
}

/* ---- lines ---- */

static void words_clear(struct shell *s)
{
	while (s->n_words)
		free(s->words[--s->n_words]);
}

/* "NAME=COMMAND": cuts the name off the first word; free(); NULL: there is none. */
static char *cut_name(struct shell *s)
{
	size_t length = name_length(s->words[0]);
	char *name;

	if (!length || s->words[0][length] != '=')
		return NULL;
	name = cli_printf("%.*s", (int)length, s->words[0]);
	memmove(s->words[0], s->words[0] + length + 1, strlen(s->words[0]) - length);
	return name;
}

/* Failures are stored. */
static int run_words(struct shell *s)
{
	_cleanup_free_ char *name = cut_name(s);
	struct cli *cli = s->cli;
	size_t skip = name && !*s->words[0];
	int r;

	free(cli->answer_id);
	cli->answer_id = NULL;
	r = cli_run(cli, (int)(s->n_words - skip), s->words + skip);
	if (r || !name)
		return r;
	if (!cli->answer_id)
		return cli_usage(cli, "line %lu: the answer has no id to keep in $%s", s->line,
				 name);
	variable_set(s, name, strlen(name), cli->answer_id);
	return CLI_OK;
}

/* A line's own global options end with it. */
static void options_restore(struct cli *cli, const struct cli *before)
{
	cli->format = before->format;
	cli->socket = before->socket;
	cli->lease = cli->shell_lease;
	cli->secret_file = before->secret_file;
	cli->tenant = before->tenant;
	cli->key = before->key;
	cli->timeout_ms = before->timeout_ms;
	cli->command = before->command;
}

static int run_line(struct shell *s, const char *line)
{
	const struct cli before = *s->cli;
	struct cli *cli = s->cli;
	int r = split(s, line);

	if (!r && s->n_words)
		r = run_words(s);
	if (r)
		cli_error_print(cli);
	cli_error_clear(cli);
	options_restore(cli, &before);
	words_clear(s);
	return r;
}

static int shell(struct cli *cli, const struct cli_args *args)
{
	__attribute__((cleanup(shell_deinit))) struct shell s = {.cli = cli};
	bool stop = args_has(args, "stop"), echo = args_has(args, "echo");
	bool prompt = isatty(fileno(cli->in)) && isatty(fileno(cli->out));
	_cleanup_free_ char *line = NULL;
	size_t room = 0;
	int failed = CLI_OK;
	ssize_t n;

	cli->in_shell = true;
	cli->compact = true;
	cli->shell_lease = cli->lease && *cli->lease ? cli_strdup(cli->lease) : NULL;
	cli->lease = cli->shell_lease;
	for (;;) {
		int r;

		if (prompt)
			fputs("ioasid> ", cli->out);
		fflush(cli->out);
		n = getline(&line, &room, cli->in);
		if (n < 0)
			break;
		s.line++;
		if (echo)
			fprintf(cli->out, "> %s%s", line, line[n - 1] == '\n' ? "" : "\n");
		r = run_line(&s, line);
		if (r && !failed)
			failed = r;
		if (r && stop)
			break;
	}
	if (!feof(cli->in) && ferror(cli->in) && !failed)
		failed = cli_errno(cli, errno, "cannot read commands");
	cli->lease = NULL;
	free(cli->shell_lease);
	cli->shell_lease = NULL;
	return failed;
}

static const struct cli_param options[] = {
	{"stop", CLI_FLAG, .letter = 'e', .help = "end at the first command that fails"},
	{"echo", CLI_FLAG, .letter = 'x', .help = "show each command before its answer"},
	{},
};

const struct cli_command cmd_shell = {
	.noun = "shell",
	.flags = CLI_OFFLINE | CLI_NO_SHELL,
	.roles = "everyone",
	.summary = "read commands from standard input and run them on one connection",
	.help = "The connection, and with it the connection lease, lasts until the input ends. "
		"NAME=COMMAND keeps the id of the answer, and $NAME gives it back.  The exit code "
		"is that of the first command that failed.",
	.example = "m=memory register --size 2M",
	.options = options,
	.run = shell,
};
