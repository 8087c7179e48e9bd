/* SPDX-License-Identifier: Apache-2.0 */
/*
 * completion bash: a completion function made from the table of commands.  Nouns, verbs,
 * options and the words of enumerations are data in it; devices, leases and ids are asked
 * for with -o id when somebody presses Tab, and a broker that does not answer completes
 * nothing.
 */
#include "families.h"
#include "help.h"
#include "value.h"

#include <string.h>

/* What to say for a value: words, files, or a command that lists ids. */
static void value_words(FILE *out, const struct cli_param *p, const char *indent)
{
	const char *word, *noun = NULL;

	switch (p->type) {
	case CLI_FILE:
	case CLI_ARGUMENT:
		fprintf(out, "%s_ioasidctl_files\n", indent);
		return;
	case CLI_DEVICE:
		fprintf(out, "%s_ioasidctl_words \"$(_ioasidctl_ids device list)\"\n", indent);
		fprintf(out, "%s__ltrim_colon_completions \"$cur\" 2>/dev/null\n", indent);
		return;
	case CLI_ID:
		if (!strcmp(p->name, "IOASID") || !strcmp(p->name, "parent"))
			noun = "ioasid";
		else if (!strcmp(p->name, "MEMORY") || !strcmp(p->name, "memory"))
			noun = "memory";
		if (noun)
			fprintf(out, "%s_ioasidctl_words \"$(_ioasidctl_ids %s list)\"\n", indent,
				noun);
		else
			fprintf(out, "%s:\n", indent);
		return;
	default:
		break;
	}
	if (!value_word(p, 0)) {
		fprintf(out, "%s:\n", indent);
		return;
	}
	fprintf(out, "%s_ioasidctl_words '", indent);
	for (size_t i = 0; (word = value_word(p, i)); i++)
		fprintf(out, "%s%s", i ? " " : "", word);
	fputs("'\n", out);
}

static void option_names(FILE *out, const struct cli_param *params)
{
	for (const struct cli_param *p = params; p && p->name; p++)
		fprintf(out, " --%s", p->name);
}

/* "--size" alone is told apart by command: the same name may have other words. */
static void option_values(FILE *out, const char *prefix, const struct cli_param *params)
{
	for (const struct cli_param *p = params; p && p->name; p++) {
		if (p->type == CLI_FLAG)
			continue;
		fprintf(out, "\t'%s--%s')\n", prefix, p->name);
		value_words(out, p, "\t\t");
		fputs("\t\treturn ;;\n", out);
		if (p->letter) {
			fprintf(out, "\t'%s-%c')\n", prefix, p->letter);
			value_words(out, p, "\t\t");
			fputs("\t\treturn ;;\n", out);
		}
	}
}

static void flags_with_value(FILE *out)
{
	fputs("\tlocal valued='", out);
	for (const struct cli_param *p = cli_globals; p->name; p++)
		if (p->type != CLI_FLAG) {
			fprintf(out, " --%s", p->name);
			if (p->letter)
				fprintf(out, " -%c", p->letter);
		}
	for (size_t i = 0; i < cli_n_commands; i++)
		for (const struct cli_param *p = cli_commands[i]->options; p && p->name; p++)
			if (p->type != CLI_FLAG)
				fprintf(out, " --%s", p->name);
	fputs(" '\n", out);
}

/* "noun verb", or the noun alone; free(). */
static char *name_of(const struct cli_command *c)
{
	return cli_printf("%s%s%s", c->noun, c->verb ? " " : "", c->verb ?: "");
}

/* Which words of the line are the noun and the verb, and how many arguments follow. */
static void words_of_the_line(FILE *out)
{
	fputs("\tlocal cur prev word noun='' verb='' command i n=0 skip=''\n"
	      "\tlocal -a words=() connection=()\n"
	      "\tif declare -F _get_comp_words_by_ref >/dev/null; then\n"
	      "\t\tlocal cword\n"
	      "\t\t_get_comp_words_by_ref -n := cur prev words cword\n"
	      "\telse\n"
	      "\t\tcur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\t\twords=(\"${COMP_WORDS[@]}\")\n"
	      "\t\tlocal cword=$COMP_CWORD\n"
	      "\tfi\n"
	      "\tCOMPREPLY=()\n",
	      out);
	flags_with_value(out);
	fputs("\tlocal of_connection=' --socket -s --lease -l --secret-file --tenant -t '\n"
	      "\tfor ((i = 1; i < cword; i++)); do\n"
	      "\t\tword=${words[i]}\n"
	      "\t\tif [[ -n $skip ]]; then skip=''; continue; fi\n"
	      "\t\tif [[ $word == -* ]]; then\n"
	      "\t\t\t[[ $valued == *\" $word \"* ]] && skip=1\n"
	      "\t\t\t[[ $of_connection == *\" $word \"* ]] &&\n"
	      "\t\t\t\tconnection+=(\"$word\" \"${words[i+1]}\")\n"
	      "\t\t\tcontinue\n"
	      "\t\tfi\n"
	      "\t\tif [[ -z $noun ]]; then noun=$word\n"
	      "\t\telif [[ -z $verb && $n -eq 0 ]] && _ioasidctl_is_verb \"$noun\" \"$word\"\n"
	      "\t\tthen verb=$word\n"
	      "\t\telse n=$((n + 1)); fi\n"
	      "\tdone\n",
	      out);
}

static void nouns(FILE *out)
{
	fputs("\tif [[ -z $noun ]]; then\n\t\tif [[ $cur == -* ]]; then _ioasidctl_words '", out);
	option_names(out, cli_globals);
	fputs("'\n\t\telse _ioasidctl_words '", out);
	for (size_t i = 0; i < cli_n_commands; i++)
		if (!i || strcmp(cli_commands[i - 1]->noun, cli_commands[i]->noun))
			fprintf(out, "%s%s", i ? " " : "", cli_commands[i]->noun);
	fputs("'; fi\n\t\treturn\n\tfi\n", out);
}

/* A noun's direct command is named by the noun alone when no verb was given. */
static void values_of_options(FILE *out)
{
	fputs("\tcommand=\"$noun${verb:+ $verb}\"\n\tcase \"$command $prev\" in\n", out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *name = name_of(c), *prefix = cli_printf("%s ", name);
		_cleanup_free_ char *direct = cli_printf("%s ", c->noun);

		option_values(out, prefix, c->options);
		if (c->flags & CLI_DIRECT)
			option_values(out, direct, c->options);
	}
	fputs("\tesac\n", out);
}

static void names_of_options(FILE *out)
{
	fputs("\tif [[ $cur == -* ]]; then\n\t\tcase \"$command\" in\n", out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *name = name_of(c);

		fprintf(out, "\t\t'%s'", name);
		if (c->flags & CLI_DIRECT)
			fprintf(out, " | '%s'", c->noun);
		fputs(") _ioasidctl_words '", out);
		option_names(out, c->options);
		option_names(out, cli_globals);
		fputs("' ;;\n", out);
	}
	fputs("\t\tesac\n\t\treturn\n\tfi\n", out);
}

static void positionals(FILE *out)
{
	fputs("\tcase \"$command $n\" in\n", out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		_cleanup_free_ char *name = name_of(c);
		unsigned n = 0;

		for (const struct cli_param *p = c->args; p && p->name; p++, n++) {
			_cleanup_free_ char *at =
				p->flags & CLI_REPEATED ? cli_strdup("'*") : cli_printf("%u'", n);

			fprintf(out, "\t'%s %s", name, at);
			/* The first word after the noun may still become a verb. */
			if (c->flags & CLI_DIRECT && n)
				fprintf(out, " | '%s %s", c->noun, at);
			fputs(")\n", out);
			value_words(out, p, "\t\t");
			fputs("\t\treturn ;;\n", out);
		}
	}
	fputs("\tesac\n", out);
}

static void verbs(FILE *out)
{
	fputs("\tif [[ -z $verb && $n -eq 0 ]]; then\n\t\tcase \"$noun\" in\n", out);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		bool first = !i || strcmp(cli_commands[i - 1]->noun, c->noun);
		bool last = i + 1 == cli_n_commands || strcmp(cli_commands[i + 1]->noun, c->noun);

		if (!c->verb)
			continue;
		if (first)
			fprintf(out, "\t\t%s) _ioasidctl_words '", c->noun);
		fprintf(out, "%s%s", first ? "" : " ", c->verb);
		if (last)
			fputs("' ;;\n", out);
	}
	fputs("\t\tesac\n\tfi\n", out);
}

static void is_verb(FILE *out)
{
	fputs("_ioasidctl_is_verb() {\n\tcase \"$1 $2\" in\n", out);
	for (size_t i = 0; i < cli_n_commands; i++)
		if (cli_commands[i]->verb)
			fprintf(out, "\t'%s %s') return 0 ;;\n", cli_commands[i]->noun,
				cli_commands[i]->verb);
	fputs("\tesac\n\treturn 1\n}\n", out);
}

void completion_bash(FILE *out)
{
	fputs("# bash completion of ioasidctl; made by `ioasidctl completion bash`\n"
	      "_ioasidctl_ids() {\n"
	      "\tioasidctl \"${connection[@]}\" -o id --timeout 2 \"$@\" 2>/dev/null\n"
	      "}\n"
	      "_ioasidctl_words() {\n"
	      "\tmapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
	      "}\n"
	      "_ioasidctl_files() {\n"
	      "\tcompopt -o filenames 2>/dev/null\n"
	      "\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	      "}\n",
	      out);
	is_verb(out);
	fputs("_ioasidctl() {\n", out);
	words_of_the_line(out);
	fputs("\tcase \"$prev\" in\n", out);
	option_values(out, "", cli_globals);
	fputs("\tesac\n", out);
	nouns(out);
	values_of_options(out);
	names_of_options(out);
	positionals(out);
	verbs(out);
	fputs("}\ncomplete -F _ioasidctl ioasidctl\n", out);
}

static int completion(struct cli *cli, const struct cli_args *args)
{
	completion_bash(cli->out);
	return cli_flush(cli);
}

static const char *const shells[] = {"bash", NULL};
static const struct cli_param shell_args[] = {
	{"SHELL", CLI_WORD, CLI_REQUIRED, .words = shells, .help = "bash"},
	{},
};

const struct cli_command cmd_completion = {
	.noun = "completion",
	.flags = CLI_OFFLINE | CLI_NO_SHELL,
	.roles = "everyone",
	.summary = "print the completion function for bash",
	.example = "source <(ioasidctl completion bash)",
	.args = shell_args,
	.run = completion,
};
