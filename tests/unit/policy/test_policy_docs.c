/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/policy.md and packaging/policy.d say what the code does: the examples are policies,
 * are the same in both places, mean what the text says; the tables name every resource with
 * its built-in limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/explain.h"
#include "proto/vocab.h"

#define EXAMPLE IOASID_SOURCE_DIR "/packaging/policy.d"

static struct policy_vocabulary vocabulary(void)
{
	return (struct policy_vocabulary){vocab_formats, vocab_n_formats, vocab_kinds,
					  vocab_n_kinds};
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	assert_non_null(f);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

static struct policy *load_example(void)
{
	const struct policy_vocabulary words = vocabulary();
	struct policy_problem problem = {0};
	struct policy *policy = NULL;

	if (policy_load(EXAMPLE, &words, &policy, &problem))
		fail_msg("%s:%u:%u: %s: %s", problem.file, problem.line, problem.column,
			 problem.path, problem.message);
	return policy;
}

static void test_the_examples_are_one(void **state)
{
	static const char *const files[] = {EXAMPLE "/10-host.json", EXAMPLE "/50-acme.json"};
	char *docs = read_file(IOASID_SOURCE_DIR "/docs/policy.md"), *at = docs;
	unsigned n = 0;

	while ((at = strstr(at, "```json\n"))) {
		char *end = strstr(at, "\n```\n"), *text;

		assert_non_null(end);
		assert_true(n < 2);
		text = read_file(files[n++]);
		at += strlen("```json\n");
		assert_int_equal(strlen(text), end + 1 - at);
		assert_memory_equal(text, at, strlen(text));
		free(text);
		at = end;
	}
	assert_int_equal(n, 2);
	free(docs);
}

static uint64_t table_value(const char *s)
{
	uint64_t value;
	char *end;

	if (!strncmp(s, "max ", 4))
		return QUOTA_UNLIMITED;
	value = strtoull(s, &end, 10);
	switch (*end) {
	case 'G':
		return value << 30;
	case 'T':
		return value << 40;
	default:
		assert_int_equal(*end, ' ');
		return value;
	}
}

static void test_the_table_of_resources(void **state)
{
	char *docs = read_file(IOASID_SOURCE_DIR "/docs/policy.md");
	const struct policy_vocabulary words = vocabulary();
	struct policy_problem problem;
	struct policy *policy = NULL;

	assert_int_equal(policy_parse("x", "{\"version\": 1}", 14, &words, &policy, &problem), 0);
	for (unsigned r = 0; r < _QUOTA_MAX; r++) {
		char row[64];
		const char *at;

		snprintf(row, sizeof(row), "\n| `%s` | ", quota_resource_name(r));
		at = strstr(strstr(docs, "\n### Resources\n"), row);
		if (!at)
			fail_msg("no row for %s", quota_resource_name(r));
		at += strlen(row);
		assert_int_equal(table_value(at),
				 policy_tenant_limit(policy_tenant_at(policy, 0), r));
		at = strstr(at, " | ") + 3;
		assert_int_equal(!strncmp(at, "bytes", 5), quota_resource_is_bytes(r));
		assert_int_equal(!strncmp(at, "ceiling", 7),
				 r >= _QUOTA_COUNTED_MAX && r < _QUOTA_CEILING_MAX);
		assert_int_equal(!strncmp(at, "rate", 4), r >= _QUOTA_CEILING_MAX);
	}
	policy_free(policy);
	free(docs);
}

static bool may(const struct policy *policy, const char *tenant, const struct policy_device *device)
{
	struct policy_verdict verdict;

	policy_device_verdict(policy_tenant_find(policy, tenant), device, &verdict);
	return verdict.allowed;
}

static void test_what_the_example_means(void **state)
{
	const struct policy_device nic = {"0000:3b:00.0", 0x8086, 0x10fb, 0x020000, 7};
	const struct policy_device ssd = {"0000:5e:00.0", 0x144d, 0xa80a, 0x010802, 8};
	const struct policy_device gpu = {"0000:17:00.0", 0x10de, 0x2330, 0x030200, 31};
	const struct policy_caller web = {"tenants", 1001, 1001}, metrics = {"tenants", 990, 990};
	const struct policy_caller hook = {"agents", 0, 986}, nobody = {"tenants", 1003, 986};
	const struct policy_vocabulary words = vocabulary();
	const struct quota_amount amount = {QUOTA_IOASIDS, 70};
	struct policy_explanation *explanation;
	struct policy *policy = load_example();
	struct policy_identity identity;

	assert_true(may(policy, "acme/web", &nic));
	assert_true(may(policy, "acme/web", &ssd));
	assert_false(may(policy, "acme/web", &gpu));
	assert_true(may(policy, "acme/store", &ssd));
	assert_false(may(policy, "acme/store", &nic));
	/* In group 31, but nothing that acme has. */
	assert_false(may(policy, "acme/store", &gpu));
	assert_int_equal(policy_identify(policy, &web, &identity), 0);
	assert_string_equal(identity.tenant, "acme/web");
	assert_int_equal(policy_identify(policy, &metrics, &identity), 0);
	assert_int_equal(identity.role, POLICY_ROLE_OBSERVER);
	assert_int_equal(policy_identify(policy, &hook, &identity), 0);
	assert_int_equal(identity.role, POLICY_ROLE_AGENT);
	assert_int_equal(policy_identify(policy, &nobody, &identity), POLICY_E_NO_MATCH);
	/* The command at the top of the page. */
	assert_int_equal(policy_explain(policy, &words,
					&(struct policy_question){
						.caller = &web, .device = &nic, .amount = &amount},
					&explanation),
			 0);
	assert_false(explanation->allowed);
	for (size_t i = 0; i < explanation->n_lines; i++) {
		const struct policy_explanation_line *line = &explanation->lines[i];

		if (line->mark == POLICY_MARK_DENIES)
			assert_string_equal(line->rule,
					    "50-acme.json:10: tenants.acme/web.limits.ioasids");
	}
	policy_explanation_free(explanation);
	policy_free(policy);
}

/* The messages at the end of the page, word for word. */
static void test_the_examples_of_mistakes(void **state)
{
	static const struct {
		const char *from, *to;
	} mistakes[] = {
		{"\"nesting_depth\": 2", "\"ioasids\": 2"},
		{"\"acme\": {", "\"acme-2\": {"},
		{"\"uid\": 1001", "\"uid\": \"web\""},
	};
	char *docs = read_file(IOASID_SOURCE_DIR "/docs/policy.md");
	char *good = read_file(EXAMPLE "/50-acme.json");
	const struct policy_vocabulary words = vocabulary();

	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		const char *at = strstr(good, mistakes[i].from);
		struct policy_problem problem = {0};
		struct policy *policy = NULL;
		char line[1200], *text = NULL;
		int n;

		assert_non_null(at);
		n = asprintf(&text, "%.*s%s%s", (int)(at - good), good, mistakes[i].to,
			     at + strlen(mistakes[i].from));
		assert_true(n > 0);
		assert_int_equal(policy_parse("50-acme.json", text, n, &words, &policy, &problem),
				 POLICY_E_INVALID);
		snprintf(line, sizeof(line), "\n%s:%u:%u: %s: %s\n", problem.file, problem.line,
			 problem.column, problem.path, problem.message);
		if (!strstr(docs, line))
			fail_msg("not in the page: %s", line);
		free(text);
	}
	free(good);
	free(docs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_examples_are_one),
		cmocka_unit_test(test_the_table_of_resources),
		cmocka_unit_test(test_what_the_example_means),
		cmocka_unit_test(test_the_examples_of_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
