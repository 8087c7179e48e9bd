/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of command lines, driven by the table of commands.  Global options may stand
 * anywhere before "--"; the options of a command stand anywhere after its noun and verb.
 * Every refusal names the argument, shows what was given and says what was expected.
 */
#include "args.h"
#include "output.h"
#include "value.h"

#include <stdlib.h>
#include <string.h>

/* ---- global options ---- */

static const struct cli_param *param_find(const struct cli_param *params, const char *name,
					  size_t length)
{
	for (const struct cli_param *p = params; p && p->name; p++)
		if (strlen(p->name) == length && !memcmp(p->name, name, length))
			return p;
	return NULL;
}

static const struct cli_param *param_of_letter(const struct cli_param *params, char letter)
{
	for (const struct cli_param *p = params; p && p->name; p++)
		if (p->letter && p->letter == letter)
			return p;
	return NULL;
}

static int global_set(struct cli *cli, const struct cli_param *p, const char *text,
		      struct cli_words *words)
{
	struct cli_value value = {};
	char *expected = NULL;
	uint64_t number = 0;

	if (p->type != CLI_FLAG) {
		if (value_parse(p, text, &value, &expected) < 0) {
			cli_usage(cli, "--%s: got \"%s\", expected %s", p->name, text, expected);
			free(expected);
			return CLI_USAGE;
		}
		number = value.number;
		value_deinit(&value);
	}
	if (!strcmp(p->name, "help"))
		words->help = true;
	else if (!strcmp(p->name, "version"))
		words->version = true;
	else if (!strcmp(p->name, "socket"))
		cli->socket = text;
	else if (!strcmp(p->name, "lease"))
		cli->lease = text;
	else if (!strcmp(p->name, "secret-file"))
		cli->secret_file = text;
	else if (!strcmp(p->name, "tenant"))
		cli->tenant = text;
	else if (!strcmp(p->name, "key"))
		cli->key = text;
	else if (!strcmp(p->name, "timeout"))
		cli->timeout_ms = number * 1000;
	else if (!strcmp(p->name, "output"))
		cli->format = cli_format_find(text);
	return CLI_OK;
}

/*
 * Is the word after options[i] its value?  Only global options matter here: an option of
 * a command keeps its value as the next word, whatever that is, and must not have that
 * value taken for a global option.  The command is not known yet, so any option of that
 * name in the table decides; names mean the same everywhere (checked by a test).
 */
static const struct cli_param *command_option(const char *name, size_t length)
{
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_param *p = param_find(cli_commands[i]->options, name, length);

		if (p)
			return p;
	}
	return NULL;
}

int args_globals(struct cli *cli, int argc, char *const *argv, struct cli_words *ret_words)
{
	struct cli_words words = {.words = cli_alloc((argc + 1) * sizeof(char *))};
	int r = CLI_OK;

	for (int i = 0; i < argc && !r; i++) {
		const struct cli_param *p;
		char *word = argv[i];
		char *text = NULL;

		if (!strcmp(word, "--")) {
			for (; i < argc; i++)
				words.words[words.n++] = argv[i];
			break;
		}
		if (word[0] == '-' && word[1] == '-') {
			size_t length = strcspn(word + 2, "=");

			p = param_find(cli_globals, word + 2, length);
			if (!p) {
				p = command_option(word + 2, length);
				words.words[words.n++] = word;
				if (p && p->type != CLI_FLAG && !word[2 + length] && i + 1 < argc)
					words.words[words.n++] = argv[++i];
				continue;
			}
			if (word[2 + length])
				text = word + 3 + length;
		} else if (word[0] == '-' && word[1]) {
			p = param_of_letter(cli_globals, word[1]);
			if (!p) {
				words.words[words.n++] = word;
				continue;
			}
			if (word[2])
				text = word + 2;
		} else {
			words.words[words.n++] = word;
			continue;
		}
		if (p->type == CLI_FLAG) {
			if (text)
				r = cli_usage(cli, "%s: this option takes no value", word);
		} else if (!text) {
			if (i + 1 >= argc)
				r = cli_usage(cli, "%s: expected a value after it", word);
			else
				text = argv[++i];
		}
		if (!r)
			r = global_set(cli, p, text, &words);
	}
	if (r) {
		free(words.words);
		return r;
	}
	*ret_words = words;
	return CLI_OK;
}

void args_words_deinit(struct cli_words *words)
{
	free(words->words);
	*words = (struct cli_words){};
}

/* ---- the command ---- */

static char *nouns(void)
{
	char *out = cli_strdup("");

	for (size_t i = 0; i < cli_n_commands; i++) {
		char *longer;

		if (i && !strcmp(cli_commands[i]->noun, cli_commands[i - 1]->noun))
			continue;
		longer = cli_printf("%s%s%s", out, *out ? ", " : "", cli_commands[i]->noun);
		free(out);
		out = longer;
	}
	return out;
}

const struct cli_command *args_command(struct cli *cli, const struct cli_words *words,
				       size_t *ret_used)
{
	const struct cli_command *direct = NULL;
	_cleanup_free_ char *verbs = cli_strdup("");
	bool known = false;

	if (!words->n) {
		cli_usage(cli, "expected a command; see `ioasidctl help`");
		return NULL;
	}
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		char *longer;

		if (strcmp(c->noun, words->words[0]))
			continue;
		known = true;
		if (!c->verb || c->flags & CLI_DIRECT)
			direct = c;
		if (!c->verb)
			continue;
		if (words->n > 1 && !strcmp(c->verb, words->words[1])) {
			*ret_used = 2;
			return c;
		}
		longer = cli_printf("%s%s%s", verbs, *verbs ? ", " : "", c->verb);
		free(verbs);
		verbs = longer;
	}
	if (direct) {
		*ret_used = 1;
		return direct;
	}
	if (!known && words->words[0][0] == '-') {
		cli_usage(cli, "unknown option \"%s\" before the command; see `ioasidctl help`",
			  words->words[0]);
	} else if (!known) {
		_cleanup_free_ char *all = nouns();

		cli_usage(cli, "unknown command \"%s\"; expected one of %s", words->words[0], all);
	} else if (words->n > 1) {
		cli_usage(cli, "%s: unknown verb \"%s\"; expected one of %s", words->words[0],
			  words->words[1], verbs);
	} else {
		cli_usage(cli, "%s: expected a verb after it, one of %s", words->words[0], verbs);
	}
	return NULL;
}

/* ---- its values ---- */

static void push(struct cli_args *args, const struct cli_value *value)
{
	struct cli_value *more = cli_grow(args->values, (args->n + 1) * sizeof(*more));

	args->values = more;
	more[args->n++] = *value;
}

static int add_value(struct cli *cli, const struct cli_command *command,
		     const struct cli_param *param, const char *dashes, const char *text,
		     struct cli_args *args)
{
	struct cli_value value;
	char *expected = NULL;

	if (value_parse(param, text, &value, &expected) < 0) {
		cli_usage(cli, "%s%s%s: %s%s: got \"%s\", expected %s", command->noun,
			  command->verb ? " " : "", command->verb ?: "", dashes, param->name, text,
			  expected);
		free(expected);
		return CLI_USAGE;
	}
	push(args, &value);
	return CLI_OK;
}

static int add_option(struct cli *cli, const struct cli_command *command,
		      const struct cli_param *param, const char *text, struct cli_args *args)
{
	_cleanup_free_ char *copy = NULL;
	char *rest, *one;
	int r = CLI_OK;

	if (!(param->flags & CLI_REPEATED)) {
		if (args_has(args, param->name))
			return cli_usage(cli, "--%s: given twice", param->name);
		return add_value(cli, command, param, "--", text, args);
	}
	copy = cli_strdup(text);
	rest = copy;
	while (!r && (one = strsep(&rest, ",")))
		r = add_value(cli, command, param, "--", one, args);
	return r;
}

static int check_required(struct cli *cli, const struct cli_command *command,
			  const struct cli_args *args)
{
	const char *verb = command->verb ?: "";
	const char *space = command->verb ? " " : "";

	for (const struct cli_param *p = command->args; p && p->name; p++)
		if (p->flags & CLI_REQUIRED && !args_has(args, p->name))
			return cli_usage(cli, "%s%s%s: missing %s (%s)", command->noun, space, verb,
					 p->name, p->help);
	for (const struct cli_param *p = command->options; p && p->name; p++)
		if (p->flags & CLI_REQUIRED && !args_has(args, p->name))
			return cli_usage(cli, "%s%s%s: missing --%s (%s)", command->noun, space,
					 verb, p->name, p->help);
	return CLI_OK;
}

int args_parse(struct cli *cli, const struct cli_command *command, char *const *words, size_t n,
	       struct cli_args *ret_args)
{
	const struct cli_param *next = command->args;
	struct cli_args args = {};
	bool options = true;
	int r = CLI_OK;

	for (size_t i = 0; i < n && !r; i++) {
		const char *word = words[i];

		if (options && !strcmp(word, "--")) {
			options = false;
			continue;
		}
		if (options && word[0] == '-' && word[1]) {
			size_t length = word[1] == '-' ? strcspn(word + 2, "=") : 0;
			const struct cli_param *p =
				word[1] == '-' ? param_find(command->options, word + 2, length)
				: !word[2]     ? param_of_letter(command->options, word[1])
					       : NULL;
			const char *text = length && word[2 + length] ? word + 3 + length : NULL;

			if (!p)
				r = cli_usage(cli,
					      "%s%s%s: unknown option \"%s\"; see `ioasidctl help "
					      "%s%s%s`",
					      command->noun, command->verb ? " " : "",
					      command->verb ?: "", word, command->noun,
					      command->verb ? " " : "", command->verb ?: "");
			else if (p->type == CLI_FLAG && text)
				r = cli_usage(cli, "--%s: this option takes no value", p->name);
			else if (p->type == CLI_FLAG)
				r = add_option(cli, command, p, "", &args);
			else if (!text && i + 1 >= n)
				r = cli_usage(cli, "--%s: expected a value after it", p->name);
			else
				r = add_option(cli, command, p, text ?: words[++i], &args);
			continue;
		}
		if (!next || !next->name) {
			r = cli_usage(cli, "%s%s%s: unexpected argument \"%s\"", command->noun,
				      command->verb ? " " : "", command->verb ?: "", word);
			continue;
		}
		r = add_value(cli, command, next, "", word, &args);
		if (!(next->flags & CLI_REPEATED))
			next++;
	}
	if (!r)
		r = check_required(cli, command, &args);
	if (r) {
		args_deinit(&args);
		return r;
	}
	*ret_args = args;
	return CLI_OK;
}

void args_deinit(struct cli_args *args)
{
	for (size_t i = 0; i < args->n; i++)
		value_deinit(&args->values[i]);
	free(args->values);
	*args = (struct cli_args){};
}

size_t args_count(const struct cli_args *args, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < args->n; i++)
		n += !strcmp(args->values[i].param->name, name);
	return n;
}

const struct cli_value *args_at(const struct cli_args *args, const char *name, size_t index)
{
	for (size_t i = 0; i < args->n; i++)
		if (!strcmp(args->values[i].param->name, name) && !index--)
			return &args->values[i];
	return NULL;
}

bool args_has(const struct cli_args *args, const char *name)
{
	return args_at(args, name, 0);
}

const char *args_text(const struct cli_args *args, const char *name, const char *otherwise)
{
	const struct cli_value *v = args_at(args, name, 0);

	return v ? v->text : otherwise;
}

uint64_t args_number(const struct cli_args *args, const char *name, uint64_t otherwise)
{
	const struct cli_value *v = args_at(args, name, 0);

	return v ? v->number : otherwise;
}

char **args_texts(const struct cli_args *args, const char *name, size_t *ret_n)
{
	size_t n = args_count(args, name);
	char **texts = n ? cli_alloc(n * sizeof(*texts)) : NULL;

	for (size_t i = 0; i < n; i++)
		texts[i] = args_at(args, name, i)->text;
	*ret_n = n;
	return texts;
}
