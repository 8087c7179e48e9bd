/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/explain.h: every line of the answers, and that verdict and arithmetic are those of
 * the broker's functions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/explain.h"

static const char *const formats[] = {NULL, "fmt-a", "fmt-b"};
static const char *const kinds[] = {NULL, "kernel", "user"};
static const struct policy_vocabulary vocabulary = {formats, 3, kinds, 3};

static const char text[] =
	"{\"version\": 1,\n"
	"\"host\": {\"limits\": {\"vms\": 20}, \"formats\": [\"fmt-a\"]},\n"
	"\"tenants\": {\n"
	"\"org\": {\"limits\": {\"vms\": 10, \"nesting_depth\": 2},\n"
	"  \"devices\": [{\"group\": 9},\n"
	"    {\"class\": \"02\"}]},\n"
	"\"org/a\": {\"reservations\": {\"vms\": 4}, \"kinds\": [\"kernel\"]},\n"
	"\"org/b\": {\"reservations\": {\"vms\": 3}},\n"
	"\"bare\": {\"delegate\": true}},\n"
	"\"identities\": [\n"
	"{\"socket\": \"tenants\", \"uid\": 1001, \"role\": \"tenant\", \"tenant\": \"org/a\"},\n"
	"{\"socket\": \"agents\", \"gid\": 50, \"role\": \"agent\", \"subtree\": \"org\"},\n"
	"{\"socket\": \"tenants\", \"role\": \"observer\"},\n"
	"{\"socket\": \"admin\", \"role\": \"admin\"}]}";

static struct policy *policy;

static int setup(void **state)
{
	struct policy_problem problem;

	return policy_parse("p.json", text, strlen(text), &vocabulary, &policy, &problem);
}

static int teardown(void **state)
{
	policy_free(policy);
	return 0;
}

/* The answer as text, a line each: "mark topic [rule] text". */
static char *ask(const struct policy_question *question, bool *ret_allowed)
{
	struct policy_explanation *explanation;
	char *answer = calloc(1, 8192), *end = answer;
	bool denies = false;

	assert_non_null(answer);
	assert_int_equal(policy_explain(policy, &vocabulary, question, &explanation), 0);
	for (size_t i = 0; i < explanation->n_lines; i++) {
		const struct policy_explanation_line *line = &explanation->lines[i];

		denies |= line->mark == POLICY_MARK_DENIES;
		end += sprintf(end, "%s %s [%s] %s\n", policy_mark_name(line->mark), line->topic,
			       line->rule ? line->rule : "", line->text);
	}
	assert_int_equal(explanation->allowed, !denies);
	*ret_allowed = explanation->allowed;
	policy_explanation_free(explanation);
	return answer;
}

static void check(const struct policy_question *question, bool allowed, const char *expected)
{
	bool found;
	char *answer = ask(question, &found);

	assert_string_equal(answer, expected);
	assert_int_equal(found, allowed);
	free(answer);
}

static void test_who(void **state)
{
	const struct policy_caller a = {"tenants", 1001, 7}, other = {"tenants", 5, 7};
	const struct policy_caller nobody = {"x\n", 1001, 7}, agent = {"agents", 0, 50};
	struct policy_explanation *explanation;
	const struct policy_question nothing = {0};
	const struct quota_amount one = {QUOTA_VMS, 1};

	assert_int_equal(policy_explain(policy, &vocabulary, &nothing, &explanation), -EINVAL);
	policy_explanation_free(NULL);
	check(&(struct policy_question){.caller = &a}, true,
	      "allows identity [p.json:11: identities[0]] socket \"tenants\", uid 1001, gid 7 is "
	      "tenant of \"org/a\"\n");
	check(&(struct policy_question){.caller = &a, .tenant = "org/b"}, false,
	      "allows identity [p.json:11: identities[0]] socket \"tenants\", uid 1001, gid 7 is "
	      "tenant of \"org/a\"\n"
	      "denies identity [p.json:11: identities[0]] this caller is \"org/a\" and nobody "
	      "else\n");
	check(&(struct policy_question){.caller = &nobody}, false,
	      "denies identity [] no identity is for socket \"x?\", uid 1001, gid 7\n");
	check(&(struct policy_question){.tenant = "org/\x1b"}, false,
	      "denies identity [] no tenant \"org/?\" is defined\n");
	check(&(struct policy_question){.caller = &other}, true,
	      "allows identity [p.json:13: identities[2]] socket \"tenants\", uid 5, gid 7 is "
	      "observer of the host\n");
	check(&(struct policy_question){.caller = &other, .tenant = "bare", .amount = &one}, false,
	      "allows identity [p.json:13: identities[2]] socket \"tenants\", uid 5, gid 7 is "
	      "observer of the host\n"
	      "denies identity [p.json:13: identities[2]] role \"observer\" holds no objects of "
	      "its own\n"
	      "allows quota [] \"bare\" has vms max, 0 reserved by its children: 1 more fits\n"
	      "allows quota [p.json:2: host.limits.vms] the host has vms 20, 7 reserved by its "
	      "children: 1 more fits\n");
	check(&(struct policy_question){.caller = &agent}, false,
	      "allows identity [p.json:12: identities[1]] socket \"agents\", uid 0, gid 50 is "
	      "agent of \"org\"\n"
	      "denies identity [] an agent names the tenant that it acts for; none was given\n");
	check(&(struct policy_question){.caller = &agent, .tenant = "bare"}, false,
	      "allows identity [p.json:12: identities[1]] socket \"agents\", uid 0, gid 50 is "
	      "agent of \"org\"\n"
	      "denies identity [p.json:12: identities[1]] \"bare\" is not in this agent's subtree "
	      "\"org\"\n");

	assert_int_equal(
		policy_explain(policy, &vocabulary,
			       &(struct policy_question){.caller = &agent, .tenant = "org/b"},
			       &explanation),
		0);
	assert_true(explanation->allowed);
	assert_int_equal(explanation->role, POLICY_ROLE_AGENT);
	assert_string_equal(explanation->tenant, "org/b");
	policy_explanation_free(explanation);
}

static void test_delegate(void **state)
{
	check(&(struct policy_question){.tenant = "org/a", .delegate = true}, false,
	      "note delegate [] \"org/a\" says nothing of delegate: what is above decides\n"
	      "note delegate [] \"org\" says nothing of delegate: what is above decides\n"
	      "note delegate [] the host says nothing of delegate: it sets no bound\n"
	      "denies delegate [] no tenant of the chain has \"delegate\": true\n");
	check(&(struct policy_question){.tenant = "bare", .delegate = true}, true,
	      "allows delegate [p.json:9: tenants.bare.delegate] \"bare\" allows leases whose "
	      "context is the tenant's own\n"
	      "note delegate [] the host says nothing of delegate: it sets no bound\n");
}

static void test_device(void **state)
{
	const struct policy_device nic = {"0000:3b:00.0", 0x8086, 0x10fb, 0x020000, 3};
	const struct policy_device gpu = {"0000:17:00.0", 0x10de, 0x2330, 0x030200, 4};

	check(&(struct policy_question){.tenant = "org/a", .device = &nic}, true,
	      "note device [] \"org/a\" lists no devices: what is above decides\n"
	      "allows device [p.json:6: tenants.org.devices[1]] \"org\" allows device 0000:3b:00.0 "
	      "by {\"class\": \"02\"}\n"
	      "note device [] the host lists no devices: it sets no bound\n"
	      "note device [] while the host itself uses device 0000:3b:00.0 it cannot be "
	      "claimed: it is not in \"allow_host_devices\"\n");
	check(&(struct policy_question){.tenant = "org", .device = &gpu}, false,
	      "denies device [p.json:5: tenants.org.devices] none of the 2 rules of \"org\" "
	      "matches device 0000:17:00.0\n"
	      "note device [] the host lists no devices: it sets no bound\n"
	      "note device [] while the host itself uses device 0000:17:00.0 it cannot be "
	      "claimed: it is not in \"allow_host_devices\"\n");
	check(&(struct policy_question){.tenant = "bare", .device = &nic}, false,
	      "note device [] \"bare\" lists no devices: what is above decides\n"
	      "note device [] the host lists no devices: it sets no bound\n"
	      "denies device [built in: a tenant below the host that lists no \"devices\" has "
	      "none] no tenant of the chain lists any device\n"
	      "note device [] while the host itself uses device 0000:3b:00.0 it cannot be "
	      "claimed: it is not in \"allow_host_devices\"\n");
}

/* Every sort of rule is told as it would be written. */
static void test_rules(void **state)
{
	static const char *const rules[] = {
		"{\"address\": \"0000:3b:00.0\"}",
		"{\"group\": 3}",
		"{\"vendor_device\": \"8086:10fb\"}",
		"{\"vendor_device\": \"8086:*\"}",
		"{\"class\": \"020000\"}",
		"{\"any\": true}",
	};
	const struct policy_device nic = {"0000:3B:00.0", 0x8086, 0x10fb, 0x020000, 3};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct policy_explanation *explanation;
		struct policy_problem problem;
		char one[128], expected[128];
		struct policy *p = NULL;
		int n;

		n = snprintf(one, sizeof(one),
			     "{\"version\": 1, \"tenants\": {\"a\": {\"devices\": [%s]}}}",
			     rules[i]);
		assert_int_equal(policy_parse("p.json", one, n, &vocabulary, &p, &problem), 0);
		assert_int_equal(
			policy_explain(p, NULL,
				       &(struct policy_question){.tenant = "a", .device = &nic},
				       &explanation),
			0);
		snprintf(expected, sizeof(expected), "\"a\" allows device 0000:3B:00.0 by %s",
			 rules[i]);
		assert_string_equal(explanation->lines[0].text, expected);
		assert_string_equal(explanation->lines[0].rule, "p.json:1: tenants.a.devices[0]");
		policy_explanation_free(explanation);
		policy_free(p);
	}
}

static void test_words(void **state)
{
	check(&(struct policy_question){.tenant = "org/a", .format = "fmt-a", .kind = "user"},
	      false,
	      "note format [] \"org/a\" lists no formats: what is above decides\n"
	      "note format [] \"org\" lists no formats: what is above decides\n"
	      "allows format [p.json:2: host.formats] the host allows \"fmt-a\"\n"
	      "denies kind [p.json:7: tenants.org/a.kinds] \"org/a\" does not list \"user\"\n"
	      "note kind [] \"org\" lists no kinds: what is above decides\n"
	      "note kind [] the host lists no kinds: it sets no bound\n");
	check(&(struct policy_question){.tenant = "bare", .format = "fmt-z"}, false,
	      "denies format [] there is no format \"fmt-z\"\n");
}

/* Limits of org 10, of the host 20; a has 4 and b has 3 of org's reserved. */
static void test_quota(void **state)
{
	struct policy_question question = {.tenant = "org/a"};
	struct quota_amount amount = {QUOTA_VMS, 4};

	question.amount = &amount;
	check(&question, true,
	      "allows quota [] \"org/a\" has vms max, 0 reserved by its children: 4 more fits\n"
	      "note quota [p.json:7: tenants.org/a.reservations.vms] \"org/a\" has 4 reserved: its "
	      "parent gives 0 more\n");
	amount.amount = 7;
	check(&question, true,
	      "allows quota [] \"org/a\" has vms max, 0 reserved by its children: 7 more fits\n"
	      "note quota [p.json:7: tenants.org/a.reservations.vms] \"org/a\" has 4 reserved: its "
	      "parent gives 3 more\n"
	      "allows quota [p.json:4: tenants.org.limits.vms] \"org\" has vms 10, 7 reserved by "
	      "its children: 3 more fits\n"
	      "allows quota [p.json:2: host.limits.vms] the host has vms 20, 7 reserved by its "
	      "children: 3 more fits\n");
	amount.amount = 8;
	check(&question, false,
	      "allows quota [] \"org/a\" has vms max, 0 reserved by its children: 8 more fits\n"
	      "note quota [p.json:7: tenants.org/a.reservations.vms] \"org/a\" has 4 reserved: its "
	      "parent gives 4 more\n"
	      "denies quota [p.json:4: tenants.org.limits.vms] \"org\" has vms 10, 7 reserved by "
	      "its children: 4 more does not fit\n");
	amount = (struct quota_amount){QUOTA_NESTING_DEPTH, 3};
	check(&question, false,
	      "allows quota [] \"org/a\" has nesting_depth max: 3 fits\n"
	      "denies quota [p.json:4: tenants.org.limits.nesting_depth] \"org\" has "
	      "nesting_depth 2: 3 is more\n"
	      "allows quota [] the host has nesting_depth 4 (built in): 3 fits\n");
	amount = (struct quota_amount){_QUOTA_MAX, 3};
	check(&question, false, "denies quota [] there is no such resource\n");
	amount = (struct quota_amount){QUOTA_LEASES, UINT64_MAX};
	check(&question, false,
	      "allows quota [] \"org/a\" has leases max, 0 reserved by its children: "
	      "18446744073709551615 more fits\n"
	      "allows quota [] \"org\" has leases max, 0 reserved by its children: "
	      "18446744073709551615 more fits\n"
	      "denies quota [] the host has leases 65536 (built in), 0 reserved by its children: "
	      "18446744073709551615 more does not fit\n");
}

/* The same answer as quota_probe() on a tree with these limits, for every amount. */
static void test_quota_agrees(void **state)
{
	size_t n = policy_n_tenants(policy);
	struct quota_node nodes[8];
	unsigned n_refused = 0;

	assert_true(n <= 8);
	for (size_t i = 0; i < n; i++) {
		const struct policy_tenant *tenant = policy_tenant_at(policy, i);
		const struct policy_tenant *parent = policy_tenant_parent(tenant);
		size_t p = 0;

		while (parent && policy_tenant_at(policy, p) != parent)
			p++;
		quota_node_init(&nodes[i], parent ? &nodes[p] : NULL);
		quota_set_limit(&nodes[i], QUOTA_VMS, policy_tenant_limit(tenant, QUOTA_VMS));
		assert_int_equal(quota_set_reservation(&nodes[i], QUOTA_VMS,
						       policy_tenant_reservation(tenant, QUOTA_VMS),
						       NULL),
				 0);
	}
	for (size_t i = 0; i < n; i++) {
		for (uint64_t amount = 0; amount < 25; amount++) {
			const struct quota_amount want = {QUOTA_VMS, amount};
			struct policy_question question = {
				.tenant = policy_tenant_path(policy_tenant_at(policy, i)),
				.amount = &want,
			};
			bool fits = !quota_probe(&nodes[i], &want, 1, NULL), allowed;

			free(ask(&question, &allowed));
			assert_int_equal(allowed, fits);
			n_refused += !fits;
		}
	}
	assert_true(n_refused > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who),	 cmocka_unit_test(test_device),
		cmocka_unit_test(test_rules),	 cmocka_unit_test(test_words),
		cmocka_unit_test(test_quota),	 cmocka_unit_test(test_quota_agrees),
		cmocka_unit_test(test_delegate),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
