/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The strict reader against json-c's own: whatever the strict one takes, json-c takes too, and
 * makes the same of it; what it made is written and read again to the same.
 */
#include "integrations/json/json_text.h"
#include "integrations/json/utf8.h"
#include "tests/fuzz/policy/fuzz_check.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BYTES_MAX 65536

static const struct json_text_limits limits = {
	.bytes_max = BYTES_MAX,
	.depth_max = 16,
	.values_max = 10000,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* json-c 0.16 takes some pairs of \u escapes for halves. */
static bool json_c_is_right(const char *text)
{
	return !strstr(text, "\\u");
}

static void check_json_c(const char *text, size_t size, struct json_object *object)
{
	struct json_tokener *tokener = json_tokener_new_ex(17);
	struct json_object *theirs;

	CHECK(tokener);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL, by which json-c knows that a number at the end has ended. */
	theirs = json_tokener_parse_ex(tokener, text, (int)size + 1);
	CHECK(json_tokener_get_error(tokener) == json_tokener_success);
	CHECK(json_object_equal(object, theirs));
	json_object_put(theirs);
	json_tokener_free(tokener);
}

static void check_again(struct json_object *object)
{
	char problem[JSON_TEXT_PROBLEM_SIZE] = "";
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	struct json_object *again = NULL;
	size_t n;

	CHECK(text);
	n = strlen(text);
	/* Escapes make it longer. */
	if (n > BYTES_MAX)
		return;
	CHECK(!json_text_parse(text, n, &limits, &again, problem));
	CHECK(json_object_equal(object, again));
	json_object_put(again);
}

static void check_problem(char *problem)
{
	char plain[JSON_TEXT_PROBLEM_SIZE];

	CHECK(*problem && strlen(problem) < JSON_TEXT_PROBLEM_SIZE - 1);
	strcpy(plain, problem);
	utf8_make_plain(plain);
	CHECK(!strcmp(plain, problem));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char problem[JSON_TEXT_PROBLEM_SIZE] = "";
	struct json_object *mark = (void *)problem, *object = mark;
	/* Read in a buffer of its exact size, so that a sanitizer sees a read beyond it. */
	char *exact = malloc(size ?: 1), *text = malloc(size + 1);

	CHECK(exact && text);
	if (size) {
		memcpy(exact, data, size);
		memcpy(text, data, size);
	}
	text[size] = '\0';
	if (json_text_parse(exact, size, &limits, &object, problem)) {
		CHECK(object == mark);
		check_problem(problem);
	} else {
		CHECK(!*problem && size <= BYTES_MAX && !memchr(text, '\0', size));
		if (json_c_is_right(text))
			check_json_c(text, size, object);
		check_again(object);
		json_object_put(object);
	}
	free(text);
	free(exact);
	return 0;
}
