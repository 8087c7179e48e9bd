/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a policy.  Refused: the problem is complete, clean and inside the text.
 * Accepted: what the policy promises holds, and explanations agree with verdicts.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_check.h"
#include "policy/explain.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const formats[] = {NULL, "x86_64-4l", "vtdss-4l", NULL, "sv39"};
static const char *const kinds[] = {NULL, "kernel", "user", "process", "kvm"};
static const struct policy_vocabulary vocabulary = {formats, 5, kinds, 5};

static const struct policy_device devices[] = {
	{"0000:3b:00.0", 0x8086, 0x10fb, 0x020000, 1},
	{"0000:17:00.1", 0x1af4, 0x1041, 0x010802, 7},
};

static void check_clean(const char *s, size_t size)
{
	CHECK(memchr(s, '\0', size));
	for (; *s; s++)
		CHECK((unsigned char)*s >= 0x20 && *s != 0x7f);
}

static void check_problem(const struct policy_problem *problem, const uint8_t *data, size_t size)
{
	unsigned line = 1, column = 1;
	size_t i;

	check_clean(problem->path, sizeof(problem->path));
	check_clean(problem->message, sizeof(problem->message));
	CHECK(*problem->message);
	CHECK(!strcmp(problem->file, "fuzz.json"));
	/* The place is one of the text, or just behind it. */
	for (i = 0; i < size && (line != problem->line || column != problem->column); i++) {
		if (data[i] == '\n') {
			line++;
			column = 1;
		} else {
			column++;
		}
	}
	CHECK(line == problem->line && column == problem->column);
}

static bool explained(const struct policy *policy, const struct policy_question *question)
{
	struct policy_explanation *explanation;
	bool allowed;

	CHECK(!policy_explain(policy, &vocabulary, question, &explanation));
	allowed = explanation->allowed;
	for (size_t i = 0; i < explanation->n_lines; i++)
		check_clean(explanation->lines[i].text, strlen(explanation->lines[i].text) + 1);
	policy_explanation_free(explanation);
	return allowed;
}

static void check_tenant(const struct policy *policy, size_t index)
{
	const struct policy_tenant *tenant = policy_tenant_at(policy, index);
	const struct policy_tenant *parent = policy_tenant_parent(tenant);
	const char *path = policy_tenant_path(tenant);
	struct policy_verdict verdict, above;

	CHECK(policy_tenant_find(policy, path) == tenant);
	CHECK(!parent == !index);
	if (index) {
		CHECK(parent < tenant);
		CHECK(policy_path_in_subtree(path, policy_tenant_path(parent)));
		CHECK(strcmp(policy_tenant_path(policy_tenant_at(policy, index - 1)), path) < 0);
	}
	for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++)
		CHECK(policy_tenant_reservation(tenant, r) <= policy_tenant_limit(tenant, r));
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		policy_device_verdict(tenant, &devices[i], &verdict);
		CHECK(verdict.allowed || (verdict.tenant && verdict.rule));
		CHECK(explained(policy,
				&(struct policy_question){.tenant = path, .device = &devices[i]}) ==
		      verdict.allowed);
	}
	for (unsigned i = 0; i < 5; i++) {
		policy_format_verdict(tenant, i, &verdict);
		CHECK(verdict.allowed || (verdict.tenant && verdict.rule));
		if (parent) {
			policy_format_verdict(parent, i, &above);
			CHECK(above.allowed || !verdict.allowed);
		}
		if (formats[i])
			CHECK(explained(policy, &(struct policy_question){.tenant = path,
									  .format = formats[i]}) ==
			      verdict.allowed);
		policy_kind_verdict(tenant, i, &verdict);
		CHECK(i || !verdict.allowed);
	}
}

/* What the reservations promise can be set up in a real tree of quotas, all at once. */
static void check_reservations(const struct policy *policy)
{
	size_t n = policy_n_tenants(policy);
	struct quota_node *nodes = calloc(n, sizeof(*nodes));

	CHECK(nodes);
	for (size_t i = 0; i < n; i++) {
		const struct policy_tenant *tenant = policy_tenant_at(policy, i);
		const struct policy_tenant *parent = policy_tenant_parent(tenant);

		size_t p = 0;

		while (parent && policy_tenant_at(policy, p) != parent)
			p++;
		quota_node_init(&nodes[i], parent ? &nodes[p] : NULL);
		for (unsigned r = 0; r < _QUOTA_MAX; r++)
			quota_set_limit(&nodes[i], r, policy_tenant_limit(tenant, r));
	}
	for (size_t i = 0; i < n; i++)
		for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++)
			CHECK(!quota_set_reservation(
				&nodes[i], r,
				policy_tenant_reservation(policy_tenant_at(policy, i), r), NULL));
	for (size_t i = n; i-- > 0;)
		quota_node_deinit(&nodes[i]);
	free(nodes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_problem problem = {.message = ""};
	struct policy_identity identity;
	struct policy *policy = NULL;
	size_t n;
	int r = policy_parse("fuzz.json", (const char *)data, size, &vocabulary, &policy, &problem);

	CHECK(r == 0 || r == POLICY_E_INVALID);
	if (r) {
		CHECK(!policy);
		check_problem(&problem, data, size);
		return 0;
	}
	n = policy_n_tenants(policy);
	for (size_t i = 0; i < n && i < 32; i++)
		check_tenant(policy, i);
	if (n < 32)
		check_reservations(policy);
	for (unsigned i = 0; i < 8; i++) {
		const struct policy_caller caller = {i & 1 ? "tenants" : "admin", i & 2 ? 1001 : 0,
						     i & 4 ? 999 : 0};

		r = policy_identify(policy, &caller, &identity);
		CHECK(r == 0 || r == POLICY_E_NO_MATCH);
		if (r)
			continue;
		CHECK(policy_tenant_find(policy, identity.tenant));
		CHECK(identity.role != POLICY_ROLE_TENANT || *identity.tenant);
		CHECK(identity.role != POLICY_ROLE_ADMIN || !(i & 1));
		(void)explained(policy, &(struct policy_question){.caller = &caller,
								  .device = &devices[0]});
	}
	policy_free(policy);
	return 0;
}
