/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status table that clients read, at the top of proto/ioasid.proto, against the one
 * that the broker answers by (server/broker/outcome.c): both name the same reasons, each
 * with the same gRPC status.
 */
#include "server/broker/outcome.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS_MAX 128

struct row {
	char reason[40];
	int status;
};

static struct row documented[ROWS_MAX];
static size_t n_documented;

/* By number, as in gRPC's doc/statuscodes.md. */
static const char *const status_names[] = {
	"OK",
	"CANCELLED",
	"UNKNOWN",
	"INVALID_ARGUMENT",
	"DEADLINE_EXCEEDED",
	"NOT_FOUND",
	"ALREADY_EXISTS",
	"PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION",
	"ABORTED",
	"OUT_OF_RANGE",
	"UNIMPLEMENTED",
	"INTERNAL",
	"UNAVAILABLE",
	"DATA_LOSS",
	"UNAUTHENTICATED",
};

/* Documented for what this broker does not answer: with the reason why. */
static const char *const documented_only[] = {
	"RECONCILING", /* by a broker that reads its registry back after a crash */
};

static int status_number(const char *name)
{
	for (size_t i = 0; i < sizeof(status_names) / sizeof(status_names[0]); i++)
		if (!strcmp(status_names[i], name))
			return (int)i;
	fail_msg("'%s' is no gRPC status", name);
	return -1;
}

/* The next word of capitals; NULL: the text does not go on with one. */
static char *take_word(char **text)
{
	char *word = *text, *p;

	for (p = word; isupper((unsigned char)*p) || *p == '_'; p++)
		;
	if (p == word || (*p && *p != ' ' && *p != ','))
		return NULL;
	*text = *p ? p + 1 : p;
	if (*p == ',')
		*text += strspn(*text, " ");
	*p = '\0';
	return word;
}

/*
 * A row is "//   STATUS   REASON   when", with the status left out where it is that of the
 * row before; a cell of reasons may hold several, with commas between them.
 */
static void parse_row(char *line, size_t reason_column, int *status)
{
	char *text, *word;
	bool more;

	if (line[5] && line[5] != ' ') {
		text = line + 5;
		word = take_word(&text);
		assert_non_null(word);
		*status = status_number(word);
	}
	text = line + reason_column;
	do {
		char *end = strpbrk(text, " ,");

		more = end && *end == ',';
		word = take_word(&text);
		if (!word)
			return;
		assert_true(n_documented < ROWS_MAX);
		assert_true(strlen(word) < sizeof(documented[0].reason));
		strcpy(documented[n_documented].reason, word);
		documented[n_documented++].status = *status;
	} while (more);
}

static int read_documented(void **state)
{
	FILE *f = fopen(IOASID_SOURCE_DIR "/proto/ioasid.proto", "re");
	size_t reason_column = 0;
	char line[256];
	int status = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!reason_column) {
			/* "//   -----  -----  -----": where the second run begins. */
			if (!strncmp(line, "//   ---", 8)) {
				reason_column = 5 + strspn(line + 5, "-");
				reason_column += strspn(line + reason_column, " ");
			}
			continue;
		}
		if (!strcmp(line, "//"))
			break;
		/* Lines that end before the column go on with another cell. */
		if (strlen(line) <= reason_column)
			continue;
		if (line[reason_column - 1] != ' ')
			fail_msg("the status table's columns do not line up: %s", line);
		parse_row(line, reason_column, &status);
	}
	fclose(f);
	return n_documented ? 0 : -1;
}

static const struct row *find_documented(const char *reason)
{
	for (size_t i = 0; i < n_documented; i++)
		if (!strcmp(documented[i].reason, reason))
			return &documented[i];
	return NULL;
}

static void test_every_answer_is_documented(void **state)
{
	for (int code = OUTCOME_OK + 1; code < _OUTCOME_MAX; code++) {
		const char *reason = outcome_reason((enum outcome_code)code);
		const struct row *row;

		if (!reason)
			fail_msg("outcome %d has no reason", code);
		row = find_documented(reason);
		if (!row)
			fail_msg("%s is not in the status table of ioasid.proto", reason);
		assert_int_equal(outcome_status((enum outcome_code)code), row->status);
	}
}

static void test_every_documented_reason_is_answered(void **state)
{
	for (size_t i = 0; i < n_documented; i++) {
		bool found = false;

		for (int code = OUTCOME_OK + 1; code < _OUTCOME_MAX; code++)
			found |= !strcmp(outcome_reason((enum outcome_code)code),
					 documented[i].reason);
		for (size_t k = 0; k < sizeof(documented_only) / sizeof(documented_only[0]); k++)
			found |= !strcmp(documented_only[k], documented[i].reason);
		if (!found)
			fail_msg("%s is documented and no outcome has it", documented[i].reason);
	}
}

static void test_reasons_are_documented_once(void **state)
{
	for (size_t i = 0; i < n_documented; i++)
		for (size_t k = i + 1; k < n_documented; k++)
			assert_string_not_equal(documented[i].reason, documented[k].reason);
	/* A parser that saw a part of the table only would find nothing wrong. */
	assert_true(n_documented >= _OUTCOME_MAX - 2);
	assert_non_null(find_documented("MALFORMED"));
	assert_non_null(find_documented("SHUTTING_DOWN"));
	assert_non_null(find_documented("INTERNAL"));
}

static void test_success_is_success(void **state)
{
	assert_int_equal(outcome_status(OUTCOME_OK), 0);
	assert_string_equal(outcome_reason(OUTCOME_OK), "OK");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_answer_is_documented),
		cmocka_unit_test(test_every_documented_reason_is_answered),
		cmocka_unit_test(test_reasons_are_documented_once),
		cmocka_unit_test(test_success_is_success),
	};

	return cmocka_run_group_tests(tests, read_documented, NULL);
}
