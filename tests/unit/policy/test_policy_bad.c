/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that is not a policy is refused with its place, and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bad_policies.h"
#include "policy/policy.h"

static const char *const formats[] = {"fmt-a", "fmt-b", NULL, "fmt-d"};
static const char *const kinds[] = {NULL, "kernel", "user"};
static const struct policy_vocabulary vocabulary = {formats, 4, kinds, 3};

static void test_bad_policies(void **state)
{
	unsigned n_wrong = 0;

	assert_true(N_BAD_POLICIES >= 60);
	for (size_t i = 0; i < N_BAD_POLICIES; i++) {
		const struct bad_policy *bad = &bad_policies[i];
		size_t length = bad->length ? bad->length : strlen(bad->text);
		struct policy *policy = (struct policy *)&n_wrong;
		struct policy_problem problem = {0};
		/* A copy of exactly that size, so that the sanitizer sees a read beyond it. */
		char *text = malloc(length ? length : 1);
		int r;

		assert_non_null(text);
		memcpy(text, bad->text, length);
		r = policy_parse("test.json", text, length, &vocabulary, &policy, &problem);
		free(text);
		if (r == POLICY_E_INVALID && problem.line == bad->line &&
		    problem.column == bad->column && !strcmp(problem.path, bad->path) &&
		    !strcmp(problem.message, bad->message) && !strcmp(problem.file, "test.json") &&
		    policy == (struct policy *)&n_wrong)
			continue;
		n_wrong++;
		print_error(
			"%s\n  returned %d, expected %u:%u %s: %s\n  found    %s %u:%u %s: %s\n",
			bad->text, r, bad->line, bad->column, bad->path, bad->message, problem.file,
			problem.line, problem.column, problem.path, problem.message);
	}
	print_message("%zu bad policies\n", N_BAD_POLICIES);
	assert_int_equal(n_wrong, 0);
}

static int parse(const char *text, size_t length, struct policy_problem *problem)
{
	struct policy *policy = NULL;
	int r = policy_parse("big.json", text, length, &vocabulary, &policy, problem);

	policy_free(policy);
	return r;
}

/* Deeper than any stack, refused at the level that is one too many. */
static void test_depth_bomb(void **state)
{
	struct policy_problem problem;
	size_t n = 1 << 20;
	char *text = malloc(n);

	assert_non_null(text);
	memset(text, '[', n);
	assert_int_equal(parse(text, n, &problem), POLICY_E_INVALID);
	assert_int_equal(problem.column, 17);
	assert_string_equal(problem.message, "nested deeper than 16 levels");
	for (size_t i = 0; i + 5 <= n; i += 5)
		memcpy(text + i, "{\"a\":", 5);
	assert_int_equal(parse(text, n, &problem), POLICY_E_INVALID);
	assert_int_equal(problem.column, 5 * 16 + 1);
	free(text);
}

static void test_too_large(void **state)
{
	size_t n = ((size_t)32 << 20) + 1;
	struct policy_problem problem;
	char *text = malloc(n);

	assert_non_null(text);
	memset(text, ' ', n);
	memcpy(text, "{\"version\": 1}", 14);
	assert_int_equal(parse(text, n - 1, &problem), 0);
	assert_int_equal(parse(text, n, &problem), POLICY_E_INVALID);
	assert_string_equal(problem.message, "the text is larger than 33554432 bytes");
	/* More values than a policy can need, in less. */
	for (size_t i = 0; i < n; i++)
		text[i] = i % 2 ? '1' : ',';
	text[0] = '[';
	assert_int_equal(parse(text, n - 1, &problem), POLICY_E_INVALID);
	assert_string_equal(problem.message, "more than 2097152 values");
	free(text);
}

static void test_too_many(void **state)
{
	char *text = malloc((size_t)16 << 20), *end;
	struct policy_problem problem;

	assert_non_null(text);
	for (unsigned n = 65536; n <= 65537; n++) {
		end = text + sprintf(text, "{\"version\": 1,\n\"tenants\": {");
		for (unsigned i = 0; i < n; i++)
			end += sprintf(end, "%s\"t%u\": {}", i ? "," : "", i);
		end += sprintf(end, "}}");
		assert_int_equal(parse(text, end - text, &problem),
				 n > POLICY_TENANTS_MAX ? POLICY_E_INVALID : 0);
	}
	assert_int_equal(problem.line, 2);
	assert_string_equal(problem.path, "tenants");
	assert_string_equal(problem.message, "more than 65536 tenants in all");

	for (unsigned n = 4096; n <= 4097; n++) {
		end = text + sprintf(text, "{\"version\": 1, \"tenants\": {\"a\": {\"devices\": [");
		for (unsigned i = 0; i < n; i++)
			end += sprintf(end, "%s{\"group\": %u}", i ? "," : "", i);
		end += sprintf(end, "]}}}");
		assert_int_equal(parse(text, end - text, &problem),
				 n > 4096 ? POLICY_E_INVALID : 0);
	}
	assert_string_equal(problem.path, "tenants.a.devices");
	assert_string_equal(problem.message, "expected at most 4096 elements, found 4097");

	for (unsigned n = 262144; n <= 262145; n++) {
		end = text + sprintf(text, "{\"version\": 1, \"identities\": [");
		for (unsigned i = 0; i < n; i++)
			end += sprintf(end,
				       "%s{\"socket\": \"t\", \"uid\": %u, \"role\": \"observer\"}",
				       i ? "," : "", i);
		end += sprintf(end, "]}");
		assert_int_equal(parse(text, end - text, &problem),
				 n > 262144 ? POLICY_E_INVALID : 0);
	}
	assert_string_equal(problem.path, "identities");
	assert_string_equal(problem.message, "more than 262144 identities in all");
	free(text);
}

/* What the text says goes to terminals and logs: one line, no control characters, UTF-8. */
static void test_problems_are_clean(void **state)
{
	struct policy_problem problem;
	char text[4096];
	int n;

	/* 2-byte characters across the end of the path's buffer. */
	n = sprintf(text, "{\"version\": 1, \"\\u001b[2J\\n");
	for (unsigned i = 0; i < 400; i++)
		n += sprintf(text + n, "\xc3\xa4");
	n += sprintf(text + n, "\": 1}");
	assert_int_equal(parse(text, n, &problem), POLICY_E_INVALID);
	assert_int_equal(strlen(problem.path), sizeof(problem.path) - 1);
	for (const char *p = problem.path; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
	assert_memory_equal(problem.path, "[\"?[2J?\xc3\xa4", 9);
	assert_true(problem.path[253] == '\xc3' ? problem.path[254] == '\xa4' : true);

	n = sprintf(text,
		    "{\"version\": 1, \"tenants\": {\"a\": {\"limits\": {\"vms\": \"\\u001b[31m");
	for (unsigned i = 0; i < 400; i++)
		n += sprintf(text + n, "\xe2\x82\xac");
	n += sprintf(text + n, "\"}}}}");
	assert_int_equal(parse(text, n, &problem), POLICY_E_INVALID);
	assert_ptr_equal(
		strstr(problem.message,
		       "expected an unsigned integer or \"max\", found \"?[31m\xe2\x82\xac"),
		problem.message);
	for (const char *p = problem.message; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);

	/* A long name of a file keeps its end. */
	memset(text, 'd', 600);
	memcpy(text, "/begin/", 7);
	strcpy(text + 600, "/end.json");
	{
		struct policy *policy = NULL;

		assert_int_equal(policy_parse(text, "", 0, &vocabulary, &policy, &problem),
				 POLICY_E_INVALID);
		assert_null(policy);
	}
	assert_int_equal(strlen(problem.file), sizeof(problem.file) - 1);
	assert_memory_equal(problem.file, "...ddd", 6);
	assert_string_equal(problem.file + strlen(problem.file) - 9, "/end.json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_policies),	   cmocka_unit_test(test_depth_bomb),
		cmocka_unit_test(test_too_large),	   cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_problems_are_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
