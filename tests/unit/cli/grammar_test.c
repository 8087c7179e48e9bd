/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands itself: what the parser relies on, and that every text made from
 * the table is complete.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "families.h"
#include "help.h"
#include "run_cli.h"
#include "value.h"

static bool one_line(const char *text)
{
	return text && *text && !strchr(text, '\n') && text[strlen(text) - 1] != '.';
}

static void test_rows(void **state)
{
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];

		assert_non_null(c->run);
		assert_non_null(c->roles);
		assert_true(one_line(c->summary));
		assert_true(*cli_noun_summary(c->noun));
		for (size_t j = 0; j < i; j++) {
			const struct cli_command *d = cli_commands[j];

			if (strcmp(c->noun, d->noun))
				continue;
			/* contiguous, each verb once, a bare noun alone */
			assert_string_equal(cli_commands[i - 1]->noun, c->noun);
			assert_non_null(c->verb);
			assert_non_null(d->verb);
			assert_string_not_equal(c->verb, d->verb);
			assert_false(c->flags & d->flags & CLI_DIRECT);
		}
	}
}

static void test_params(void **state)
{
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		bool optional = false;

		for (const struct cli_param *p = c->args; p && p->name; p++) {
			assert_true(one_line(p->help));
			/* nothing required after something optional or repeated */
			assert_false(optional && p->flags & CLI_REQUIRED);
			optional |= !(p->flags & CLI_REQUIRED) || p->flags & CLI_REPEATED;
		}
		for (const struct cli_param *p = c->options; p && p->name; p++) {
			assert_true(one_line(p->help));
			for (const struct cli_param *g = cli_globals; g->name; g++) {
				assert_string_not_equal(p->name, g->name);
				assert_false(p->letter && p->letter == g->letter);
			}
			/* a name takes a value everywhere or nowhere: args_globals() */
			for (size_t j = 0; j < i; j++)
				for (const struct cli_param *q = cli_commands[j]->options;
				     q && q->name; q++)
					if (!strcmp(p->name, q->name))
						assert_int_equal(p->type == CLI_FLAG,
								 q->type == CLI_FLAG);
		}
	}
}

static void test_help_of_all(void **state)
{
	struct run_cli run, all;

	RUN(&all, "help");
	assert_int_equal(all.exit_code, 0);
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *c = cli_commands[i];
		char *usage = help_usage(c);

		assert_non_null(strstr(all.out, c->summary));
		RUN(&run, "help", c->noun, c->verb);
		assert_int_equal(run.exit_code, 0);
		assert_non_null(strstr(run.out, usage));
		for (const struct cli_param *p = c->options; p && p->name; p++)
			assert_non_null(strstr(run.out, p->help));
		run_cli_deinit(&run);
		RUN(&run, c->noun, c->verb ?: "--help", "--help");
		assert_int_equal(run.exit_code, 0);
		assert_non_null(strstr(run.out, usage));
		run_cli_deinit(&run);
		free(usage);
	}
	run_cli_deinit(&all);
}

static void test_completion_names_all(void **state)
{
	struct run_cli run;

	RUN(&run, "completion", "bash");
	assert_int_equal(run.exit_code, 0);
	for (size_t i = 0; i < cli_n_commands; i++)
		for (const struct cli_param *p = cli_commands[i]->options; p && p->name; p++) {
			char name[64];

			snprintf(name, sizeof(name), "--%s", p->name);
			assert_non_null(strstr(run.out, name));
		}
	run_cli_deinit(&run);
}

/* The reference in docs/ioasidctl.md is what `help --as markdown` prints. */
static void test_docs(void **state)
{
	char *text = NULL, *begin;
	struct run_cli run;
	size_t size = 0;
	FILE *f;

	f = fopen(IOASID_SOURCE_DIR "/docs/ioasidctl.md", "re");
	assert_non_null(f);
	text = calloc(1, 1 << 20);
	assert_non_null(text);
	size = fread(text, 1, (1 << 20) - 1, f);
	fclose(f);
	assert_true(size > 0);
	begin = strstr(text, "### Options that every command takes\n");
	assert_non_null(begin);
	RUN(&run, "help", "--as", "markdown");
	if (strcmp(begin, run.out))
		fail_msg("docs/ioasidctl.md is out of date: replace its reference by the output of "
			 "`ioasidctl help --as markdown`");
	run_cli_deinit(&run);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	    cmocka_unit_test(test_params),
		cmocka_unit_test(test_help_of_all), cmocka_unit_test(test_completion_names_all),
		cmocka_unit_test(test_docs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
