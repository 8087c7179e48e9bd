/* SPDX-License-Identifier: Apache-2.0 */
/*
 * help: texts for people, made from the table of commands.
 */
#include "help.h"
#include "families.h"
#include "value.h"

#include <string.h>

static void param_usage(FILE *out, const struct cli_param *p, bool option)
{
	char metavar[64];
	bool optional = !(p->flags & CLI_REQUIRED);

	fputs(optional ? " [" : " ", out);
	if (option) {
		fprintf(out, "--%s", p->name);
		if (p->type != CLI_FLAG)
			fprintf(out, " %s", value_metavar(p, metavar, sizeof(metavar)));
	} else {
		fprintf(out, "%s%s", p->name, p->flags & CLI_REPEATED ? "..." : "");
	}
	fputs(optional ? "]" : "", out);
}

char *help_usage(const struct cli_command *c)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		cli_oom();
	fputs(c->noun, out);
	if (c->verb)
		fprintf(out, c->flags & CLI_DIRECT ? " [%s]" : " %s", c->verb);
	for (const struct cli_param *p = c->args; p && p->name; p++)
		param_usage(out, p, false);
	for (const struct cli_param *p = c->options; p && p->name; p++)
		param_usage(out, p, true);
	if (fclose(out))
		cli_oom();
	return text;
}

static const char exit_codes[] =
	"Exit codes: 0 ok, 1 failed, 2 usage, 3 denied, 4 quota, 5 not found, 6 no server.\n";

static void param_line(FILE *out, const struct cli_param *p, bool option)
{
	_cleanup_free_ char *left = NULL;
	char metavar[64], letter[8] = "    ";

	value_metavar(p, metavar, sizeof(metavar));
	if (p->letter)
		snprintf(letter, sizeof(letter), "-%c, ", p->letter);
	if (option)
		left = cli_printf("%s--%s%s%s", letter, p->name, p->type == CLI_FLAG ? "" : " ",
				  p->type == CLI_FLAG ? "" : metavar);
	else
		left = cli_strdup(p->name);
	if (strlen(left) > 30)
		fprintf(out, "  %s\n  %30s  %s\n", left, "", p->help);
	else
		fprintf(out, "  %-30s  %s\n", left, p->help);
}

static void words_line(FILE *out, const struct cli_param *p)
{
	const char *word;

	if (!value_word(p, 0) || p->type == CLI_WORD)
		return;
	fprintf(out, "  %30s  ", "");
	for (size_t i = 0; (word = value_word(p, i)); i++)
		fprintf(out, "%s%s",
			i ? (i % 6 ? ", " : ",\n                                  ") : "", word);
	fputc('\n', out);
}

void help_overview(FILE *out)
{
	fputs("ioasidctl: ask ioasidd, the broker of a host's IOMMUs\n\n"
	      "usage: ioasidctl [OPTIONS] NOUN [VERB] [ARGS] [OPTIONS]\n\n",
	      out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *name = cli_printf(c->flags & CLI_DIRECT ? "%s [%s]" : "%s %s",
						       c->noun, c->verb ?: "");

		if (i && strcmp(cli_commands[i - 1]->noun, c->noun) && c->verb)
			fputc('\n', out);
		fprintf(out, "  %-20s  %s\n", name, c->summary);
	}
	fputs("\nOptions that every command takes:\n", out);
	for (const struct cli_param *p = cli_globals; p->name; p++)
		param_line(out, p, true);
	fputs("\nSizes and addresses: decimal or 0x..., with K, M, G or T.  Lists: a,b,c.\n", out);
	fputs(exit_codes, out);
	fputs("More: ioasidctl help NOUN [VERB]\n", out);
}

bool help_noun(FILE *out, const char *noun)
{
	size_t n = 0;

	for (size_t i = 0; i < cli_n_commands; i++)
		n += !strcmp(cli_commands[i]->noun, noun);
	if (!n)
		return false;
	if (n > 1)
		fprintf(out, "ioasidctl %s: %s\n\n", noun, cli_noun_summary(noun));
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *usage = NULL;

		if (strcmp(c->noun, noun))
			continue;
		if (n == 1) {
			help_command(out, c);
			return true;
		}
		usage = help_usage(c);
		fprintf(out, "  %s\n      %s\n", usage, c->summary);
	}
	return true;
}

void help_command(FILE *out, const struct cli_command *c)
{
	_cleanup_free_ char *usage = help_usage(c);

	fprintf(out, "usage: ioasidctl %s\n\n%s\n", usage, c->summary);
	if (c->help)
		fprintf(out, "%s\n", c->help);
	fprintf(out, "\nWho: %s%s\n", c->roles, c->flags & CLI_OFFLINE ? " (needs no broker)" : "");
	if (c->args && c->args->name)
		fputs("\nArguments:\n", out);
	for (const struct cli_param *p = c->args; p && p->name; p++) {
		param_line(out, p, false);
		words_line(out, p);
	}
	if (c->options && c->options->name)
		fputs("\nOptions:\n", out);
	for (const struct cli_param *p = c->options; p && p->name; p++) {
		param_line(out, p, true);
		words_line(out, p);
	}
	if (c->example)
		fprintf(out, "\nExample: %s\n", c->example);
}

/* ---- the reference of docs/ioasidctl.md ---- */

static void markdown_params(FILE *out, const struct cli_param *params, bool option)
{
	char metavar[64];

	for (const struct cli_param *p = params; p && p->name; p++) {
		if (!option)
			fprintf(out, "- `%s`: %s\n", p->name, p->help);
		else if (p->type == CLI_FLAG)
			fprintf(out, "- `--%s`: %s\n", p->name, p->help);
		else
			fprintf(out, "- `--%s %s`: %s\n", p->name,
				value_metavar(p, metavar, sizeof(metavar)), p->help);
	}
}

void help_markdown(FILE *out)
{
	fputs("### Options that every command takes\n\n", out);
	markdown_params(out, cli_globals, true);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *usage = help_usage(c);

		if (!i || strcmp(cli_commands[i - 1]->noun, c->noun))
			fprintf(out, "\n### %s: %s\n", c->noun, cli_noun_summary(c->noun));
		fprintf(out, "\n`ioasidctl %s`\n\n%s%s. ", usage,
			(char[]){(char)(*c->summary & ~0x20), 0}, c->summary + 1);
		if (c->help)
			fprintf(out, "%s ", c->help);
		fprintf(out, "Who: %s.\n\n", c->roles);
		markdown_params(out, c->args, false);
		markdown_params(out, c->options, true);
		if (c->example)
			fprintf(out, "\n    %s\n", c->example);
	}
}

/* ---- the man page ---- */

/* Text of a man page: a dash is \-, a backslash \\, a line never begins with a dot. */
static void roff(FILE *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p == '-')
			fputs("\\-", out);
		else if (*p == '\\')
			fputs("\\\\", out);
		else if ((*p == '.' || *p == '\'') && p == text)
			fprintf(out, "\\&%c", *p);
		else
			fputc(*p, out);
	}
}

static void man_params(FILE *out, const struct cli_param *params, bool option)
{
	char metavar[64];

	for (const struct cli_param *p = params; p && p->name; p++) {
		fputs(".TP\n.B ", out);
		roff(out, option ? "--" : "");
		roff(out, p->name);
		if (option && p->type != CLI_FLAG) {
			fputs(" \\fI", out);
			roff(out, value_metavar(p, metavar, sizeof(metavar)));
			fputs("\\fR", out);
		}
		fputc('\n', out);
		roff(out, p->help);
		fputc('\n', out);
	}
}

void help_man(FILE *out)
{
	fputs(".TH IOASIDCTL 1 \"\" \"ioasid " IOASID_VERSION "\"\n"
	      ".SH NAME\nioasidctl \\- ask ioasidd, the broker of a host's IOMMUs\n"
	      ".SH SYNOPSIS\n.B ioasidctl\n[OPTIONS] NOUN [VERB] [ARGS] [OPTIONS]\n"
	      ".SH OPTIONS\n",
	      out);
	man_params(out, cli_globals, true);
	fputs(".SH COMMANDS\n", out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *usage = help_usage(c);

		fputs(".SS ", out);
		roff(out, usage);
		fputc('\n', out);
		roff(out, c->summary);
		fputs(".\n", out);
		if (c->help) {
			roff(out, c->help);
			fputc('\n', out);
		}
		man_params(out, c->args, false);
		man_params(out, c->options, true);
	}
	fputs(".SH EXIT STATUS\n", out);
	fputs(exit_codes, out);
	fputs(".SH ENVIRONMENT\n.B IOASID_SOCKET, IOASID_LEASE, IOASID_LEASE_SECRET_FILE\n"
	      "stand for \\-\\-socket, \\-\\-lease and \\-\\-secret\\-file.\n"
	      ".PP\n.B IOASID_LEASE_FILE\n"
	      "is a lease that was given to this process, and acted in if no other is named.\n",
	      out);
}

/* ---- the command ---- */

static const char *const as_words[] = {"text", "markdown", "man", NULL};

static int help(struct cli *cli, const struct cli_args *args)
{
	const char *noun = args_text(args, "NOUN", NULL), *verb = args_text(args, "VERB", NULL);
	const char *as = args_text(args, "as", "text");

	if (!strcmp(as, "markdown")) {
		help_markdown(cli->out);
	} else if (!strcmp(as, "man")) {
		help_man(cli->out);
	} else if (!noun) {
		help_overview(cli->out);
	} else if (verb) {
		const struct cli_command *found = NULL;

		for (size_t i = 0; i < cli_n_commands; i++)
			if (!strcmp(cli_commands[i]->noun, noun) && cli_commands[i]->verb &&
			    !strcmp(cli_commands[i]->verb, verb))
				found = cli_commands[i];
		if (!found)
			return cli_usage(cli, "help: there is no command \"%s %s\"", noun, verb);
		help_command(cli->out, found);
	} else if (!help_noun(cli->out, noun)) {
		return cli_usage(cli, "help: there is no command \"%s\"; see `ioasidctl help`",
				 noun);
	}
	return cli_flush(cli);
}

static const struct cli_param help_args[] = {
	{"NOUN", CLI_TEXT, .help = "about this command"},
	{"VERB", CLI_TEXT, .help = "and this verb of it"},
	{},
};
static const struct cli_param help_options[] = {
	{"as", CLI_WORD, .words = as_words, .value = "text|markdown|man",
	 .help = "the whole reference in another form"},
	{},
};

const struct cli_command cmd_help = {
	.noun = "help",
	.flags = CLI_OFFLINE,
	.roles = "everyone",
	.summary = "show all commands, those of a noun, or one",
	.args = help_args,
	.options = help_options,
	.run = help,
};
