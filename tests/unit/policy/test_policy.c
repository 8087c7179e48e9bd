/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/policy.h on good policies: limits, defaults, chains of lists, identities, folders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policy/policy.h"

static const char *const formats[] = {NULL, "fmt-a", "fmt-b", "fmt-c"};
static const char *const kinds[] = {NULL, "kernel", "user"};
static const struct policy_vocabulary vocabulary = {formats, 4, kinds, 3};

static struct policy *parse(const char *text)
{
	struct policy_problem problem = {0};
	struct policy *policy = NULL;

	if (policy_parse("dir/p.json", text, strlen(text), &vocabulary, &policy, &problem))
		fail_msg("%s:%u:%u: %s: %s", problem.file, problem.line, problem.column,
			 problem.path, problem.message);
	return policy;
}

static void test_empty(void **state)
{
	const struct policy_caller caller = {"tenants", 0, 0};
	struct policy_identity identity;
	struct policy *policy = parse("{\"version\": 1}");
	const struct policy_tenant *host;

	assert_int_equal(policy_n_tenants(policy), 1);
	assert_null(policy_tenant_at(policy, 1));
	host = policy_tenant_at(policy, 0);
	assert_ptr_equal(policy_tenant_find(policy, ""), host);
	assert_string_equal(policy_tenant_path(host), "");
	assert_null(policy_tenant_parent(host));
	assert_null(policy_tenant_find(policy, "a"));
	assert_int_equal(policy_identify(policy, &caller, &identity), POLICY_E_NO_MATCH);
	assert_false(policy_host_device_allowed(policy, "0000:00:00.0"));
	/* docs/policy.md, the table of defaults. */
	assert_int_equal(policy_tenant_limit(host, QUOTA_IOASIDS), 262144);
	assert_int_equal(policy_tenant_limit(host, QUOTA_IOASIDS_KVM), QUOTA_UNLIMITED);
	assert_int_equal(policy_tenant_limit(host, QUOTA_CONNECTIONS), 4096);
	assert_int_equal(policy_tenant_limit(host, QUOTA_BROKER_BYTES), UINT64_C(4294967296));
	assert_int_equal(policy_tenant_limit(host, QUOTA_NESTING_DEPTH), 4);
	assert_int_equal(policy_tenant_limit(host, QUOTA_CALLS_PER_SECOND), QUOTA_UNLIMITED);
	for (unsigned r = 0; r < _QUOTA_MAX; r++) {
		assert_true(policy_tenant_limit(host, r) > 0);
		assert_int_equal(policy_tenant_reservation(host, r), 0);
	}
	policy_free(policy);
	policy_free(NULL);
}

static void test_roles(void **state)
{
	assert_string_equal(policy_role_name(POLICY_ROLE_NONE), "none");
	assert_string_equal(policy_role_name(POLICY_ROLE_AGENT), "agent");
	assert_null(policy_role_name(99));
}

static void test_limits(void **state)
{
	struct policy *policy = parse(
		"{\"version\": 1,"
		"\"host\": {\"limits\": {\"connections\": 0, \"kept_fds\": \"max\"}},"
		"\"tenants\": {"
		"\"org/b\": {\"limits\": {\"mapped_bytes\": \"3M\", \"pinned_bytes\": \"7\","
		"   \"registered_bytes\": 12, \"broker_bytes\": \"1T\"}},"
		"\"org\": {\"limits\": {\"ioasids\": 18446744073709551614, \"calls_per_second\": 5,"
		"   \"mapped_bytes\": \"16777215T\", \"nesting_depth\": 0, \"vms\": \"max\"},"
		"   \"reservations\": {\"ioasids\": 9, \"mapped_bytes\": \"2K\"}},"
		"\"org-2\": {}, \"org/b/c\": {}, \"0\": {}}}");
	static const char *const order[] = {"", "0", "org", "org-2", "org/b", "org/b/c"};
	const struct policy_tenant *org, *b;

	assert_int_equal(policy_n_tenants(policy), 6);
	for (size_t i = 0; i < 6; i++) {
		const struct policy_tenant *tenant = policy_tenant_at(policy, i);

		assert_string_equal(policy_tenant_path(tenant), order[i]);
		assert_ptr_equal(policy_tenant_find(policy, order[i]), tenant);
	}
	org = policy_tenant_find(policy, "org");
	b = policy_tenant_find(policy, "org/b");
	assert_ptr_equal(policy_tenant_parent(b), org);
	assert_ptr_equal(policy_tenant_parent(policy_tenant_find(policy, "org/b/c")), b);
	assert_ptr_equal(policy_tenant_parent(org), policy_tenant_at(policy, 0));
	assert_ptr_equal(policy_tenant_parent(policy_tenant_find(policy, "org-2")),
			 policy_tenant_at(policy, 0));
	assert_null(policy_tenant_find(policy, "org/"));
	assert_null(policy_tenant_find(policy, "or"));

	assert_int_equal(policy_tenant_limit(policy_tenant_at(policy, 0), QUOTA_CONNECTIONS), 0);
	assert_int_equal(policy_tenant_limit(policy_tenant_at(policy, 0), QUOTA_KEPT_FDS),
			 QUOTA_UNLIMITED);
	assert_int_equal(policy_tenant_limit(policy_tenant_at(policy, 0), QUOTA_LEASES), 65536);
	assert_int_equal(policy_tenant_limit(org, QUOTA_IOASIDS), UINT64_MAX - 1);
	assert_int_equal(policy_tenant_limit(org, QUOTA_MAPPED_BYTES), UINT64_C(16777215) << 40);
	assert_int_equal(policy_tenant_limit(org, QUOTA_VMS), QUOTA_UNLIMITED);
	assert_int_equal(policy_tenant_limit(org, QUOTA_NESTING_DEPTH), 0);
	assert_int_equal(policy_tenant_limit(org, QUOTA_CALLS_PER_SECOND), 5);
	assert_int_equal(policy_tenant_limit(org, QUOTA_CONNECTIONS), QUOTA_UNLIMITED);
	assert_int_equal(policy_tenant_reservation(org, QUOTA_IOASIDS), 9);
	assert_int_equal(policy_tenant_reservation(org, QUOTA_MAPPED_BYTES), 2048);
	assert_int_equal(policy_tenant_reservation(org, QUOTA_VMS), 0);
	assert_int_equal(policy_tenant_limit(b, QUOTA_MAPPED_BYTES), 3 << 20);
	assert_int_equal(policy_tenant_limit(b, QUOTA_PINNED_BYTES), 7);
	assert_int_equal(policy_tenant_limit(b, QUOTA_REGISTERED_BYTES), 12);
	assert_int_equal(policy_tenant_limit(b, QUOTA_BROKER_BYTES), UINT64_C(1) << 40);
	policy_free(policy);
}

/* Exactly as much as fits may be reserved, at every level. */
static void test_reservations_that_fit(void **state)
{
	struct policy *policy = parse(
		"{\"version\": 1, \"host\": {\"limits\": {\"vms\": 10, \"leases\": \"max\"}},"
		"\"tenants\": {\"a\": {\"limits\": {\"vms\": 6}, \"reservations\": {\"vms\": 4}},"
		"\"a/x\": {\"reservations\": {\"vms\": 3}}, \"a/y\": {\"reservations\": {\"vms\": "
		"3}},"
		"\"b\": {\"reservations\": {\"vms\": 4}},"
		"\"c\": {\"reservations\": {\"leases\": 18446744073709551614}},"
		"\"d\": {\"reservations\": {\"leases\": 1}}}}");

	policy_free(policy);
}

static void test_path_in_subtree(void **state)
{
	assert_true(policy_path_in_subtree("org/team", ""));
	assert_true(policy_path_in_subtree("", ""));
	assert_true(policy_path_in_subtree("org/team", "org"));
	assert_true(policy_path_in_subtree("org", "org"));
	assert_false(policy_path_in_subtree("organ", "org"));
	assert_false(policy_path_in_subtree("org-2/team", "org"));
	assert_false(policy_path_in_subtree("or", "org"));
	assert_false(policy_path_in_subtree("", "org"));
}

static void check_device(struct policy *policy, const char *path, const char *address,
			 const char *tenant, const char *rule)
{
	/* vendor, device, class and group by the digit of the function. */
	static const struct policy_device devices[] = {
		{NULL, 0x8086, 0x10fb, 0x020000, 1},
		{NULL, 0x8086, 0x0a54, 0x010802, 2},
		{NULL, 0x1af4, 0x1041, 0x020000, 7},
		{NULL, 0x10de, 0x2330, 0x030200, 8},
	};
	struct policy_device device = devices[address[11] - '0'];
	struct policy_verdict verdict;

	device.address = address;
	policy_device_verdict(policy_tenant_find(policy, path), &device, &verdict);
	assert_int_equal(verdict.allowed, tenant == NULL);
	if (tenant) {
		assert_string_equal(verdict.tenant, tenant);
		assert_string_equal(verdict.rule, rule);
	} else if (rule) {
		assert_string_equal(verdict.rule, rule);
	}
}

static void test_devices(void **state)
{
	struct policy *policy = parse(
		"{\"version\": 1, \"host\": {\"allow_host_devices\": [\"0000:00:1F.2\", "
		"\"10000:e1:00.0\"]}, \"tenants\": {\n"
		"\"org\": {\"devices\": [{\"class\": \"02\"}, {\"vendor_device\": \"8086:*\"}]},\n"
		"\"org/all\": {},\n"
		"\"org/net\": {\"devices\": [{\"class\": \"0200\"}]},\n"
		"\"org/net/one\": {\"devices\": [{\"address\": \"0000:3B:00.0\"},\n"
		" {\"address\": \"0000:3b:00.3\"}]},\n"
		"\"org/none\": {\"devices\": []},\n"
		"\"org/any\": {\"devices\": [{\"any\": true}]},\n"
		"\"grp\": {\"devices\": [{\"group\": 7}, {\"class\": \"030200\"}]},\n"
		"\"exact\": {\"devices\": [{\"vendor_device\": \"8086:0A54\"}]},\n"
		"\"bare\": {}, \"bare/kid\": {}, \"bare/list\": {\"devices\": [{\"any\": true}]}\n"
		"}}");
	static const char built_in[] =
		"built in: a tenant below the host that lists no \"devices\" has none";

	check_device(policy, "org", "0000:3b:00.0", NULL, "p.json:2: tenants.org.devices");
	check_device(policy, "org", "0000:3b:00.1", NULL, NULL);
	check_device(policy, "org", "0000:3b:00.2", NULL, NULL);
	check_device(policy, "org", "0000:3b:00.3", "org", "p.json:2: tenants.org.devices");
	check_device(policy, "org/all", "0000:3b:00.1", NULL, "p.json:2: tenants.org.devices");
	check_device(policy, "org/all", "0000:3b:00.3", "org", "p.json:2: tenants.org.devices");
	check_device(policy, "org/net", "0000:3b:00.2", NULL, "p.json:4: tenants.org/net.devices");
	check_device(policy, "org/net", "0000:3b:00.1", "org/net",
		     "p.json:4: tenants.org/net.devices");
	/* The address as the rule has it but for its case; a device the ancestors refuse. */
	check_device(policy, "org/net/one", "0000:3b:00.0", NULL, NULL);
	check_device(policy, "org/net/one", "0000:3B:00.0", NULL, NULL);
	check_device(policy, "org/net/one", "0000:3c:00.0", "org/net/one",
		     "p.json:5: tenants.org/net/one.devices");
	check_device(policy, "org/net/one", "0000:3b:00.3", "org/net",
		     "p.json:4: tenants.org/net.devices");
	check_device(policy, "org/none", "0000:3b:00.0", "org/none",
		     "p.json:7: tenants.org/none.devices");
	check_device(policy, "org/any", "0000:3b:00.0", NULL, NULL);
	check_device(policy, "org/any", "0000:3b:00.3", "org", "p.json:2: tenants.org.devices");
	check_device(policy, "grp", "0000:3b:00.2", NULL, NULL);
	check_device(policy, "grp", "0000:3b:00.3", NULL, NULL);
	check_device(policy, "grp", "0000:3b:00.0", "grp", "p.json:9: tenants.grp.devices");
	check_device(policy, "exact", "0000:3b:00.1", NULL, NULL);
	check_device(policy, "exact", "0000:3b:00.0", "exact", "p.json:10: tenants.exact.devices");
	check_device(policy, "bare", "0000:3b:00.0", "bare", built_in);
	check_device(policy, "bare/kid", "0000:3b:00.0", "bare", built_in);
	/* A list below a top-level tenant without one counts: it is the chain that must name. */
	check_device(policy, "bare/list", "0000:3b:00.0", NULL, NULL);
	check_device(policy, "", "0000:3b:00.0", NULL, NULL);

	assert_true(policy_host_device_allowed(policy, "0000:00:1f.2"));
	assert_true(policy_host_device_allowed(policy, "10000:E1:00.0"));
	assert_false(policy_host_device_allowed(policy, "0000:00:1f.1"));
	assert_false(policy_host_device_allowed(policy, "1f.2"));
	policy_free(policy);
}

static void test_host_device_list_bounds(void **state)
{
	struct policy *policy = parse("{\"version\": 1, \"host\": {\n\"devices\": [{\"class\": "
				      "\"02\"}]}, \"tenants\": {\n"
				      "\"bare\": {}, \"any\": {\"devices\": [{\"any\": true}]}}}");

	check_device(policy, "any", "0000:3b:00.0", NULL, "p.json:3: tenants.any.devices");
	check_device(policy, "any", "0000:3b:00.1", "", "p.json:2: host.devices");
	/* What the host's list holds is not given to who lists nothing. */
	check_device(policy, "bare", "0000:3b:00.0", "bare",
		     "built in: a tenant below the host that lists no \"devices\" has none");
	check_device(policy, "", "0000:3b:00.0", NULL, NULL);
	check_device(policy, "", "0000:3b:00.1", "", "p.json:2: host.devices");
	policy_free(policy);
}

static void test_formats_and_kinds(void **state)
{
	struct policy *policy =
		parse("{\"version\": 1, \"host\": {\"formats\": [\"fmt-c\", \"fmt-a\"]},\n"
		      "\"tenants\": {\"a\": {},\n"
		      "\"a/b\": {\"formats\": [\"fmt-a\", \"fmt-b\"], \"kinds\": [\"user\"]},\n"
		      "\"a/none\": {\"formats\": [], \"kinds\": []}}}");
	const struct policy_tenant *a = policy_tenant_find(policy, "a");
	const struct policy_tenant *b = policy_tenant_find(policy, "a/b");
	const struct policy_tenant *none = policy_tenant_find(policy, "a/none");
	struct policy_verdict verdict;

	policy_format_verdict(a, 1, &verdict);
	assert_true(verdict.allowed);
	assert_string_equal(verdict.rule, "p.json:1: host.formats");
	policy_format_verdict(a, 3, &verdict);
	assert_true(verdict.allowed);
	policy_format_verdict(a, 2, &verdict);
	assert_false(verdict.allowed);
	assert_string_equal(verdict.tenant, "");
	assert_string_equal(verdict.rule, "p.json:1: host.formats");
	policy_format_verdict(b, 1, &verdict);
	assert_true(verdict.allowed);
	assert_string_equal(verdict.tenant, "a/b");
	/* In the tenant's list, but not in the host's; and the other way round. */
	policy_format_verdict(b, 2, &verdict);
	assert_false(verdict.allowed);
	assert_string_equal(verdict.tenant, "");
	policy_format_verdict(b, 3, &verdict);
	assert_false(verdict.allowed);
	assert_string_equal(verdict.tenant, "a/b");
	assert_string_equal(verdict.rule, "p.json:3: tenants.a/b.formats");
	policy_format_verdict(none, 1, &verdict);
	assert_false(verdict.allowed);
	policy_kind_verdict(none, 1, &verdict);
	assert_false(verdict.allowed);
	policy_kind_verdict(b, 2, &verdict);
	assert_true(verdict.allowed);
	policy_kind_verdict(b, 1, &verdict);
	assert_false(verdict.allowed);
	assert_string_equal(verdict.rule, "p.json:3: tenants.a/b.kinds");
	policy_kind_verdict(a, 1, &verdict);
	assert_true(verdict.allowed);
	assert_null(verdict.rule);
	/* No words of the vocabulary: a hole, its end, beyond the mask. */
	policy_kind_verdict(a, 0, &verdict);
	assert_false(verdict.allowed);
	policy_kind_verdict(a, 3, &verdict);
	assert_false(verdict.allowed);
	policy_format_verdict(a, 64, &verdict);
	assert_false(verdict.allowed);
	assert_string_equal(verdict.rule, "built in: no such word");
	policy_free(policy);
}

static void test_pasid_policy(void **state)
{
	struct policy *policy = parse("{\"version\": 1, \"tenants\": {\"a\": {},\n"
				      "\"a/t\": {\"pasid_policy\": \"translated\"},\n"
				      "\"a/t/i\": {\"pasid_policy\": \"identity\"},\n"
				      "\"a/t/n\": {\"pasid_policy\": \"none\"}}}");
	struct policy_verdict v;

	assert_int_equal(policy_pasid_policy(policy_tenant_find(policy, "a"), &v),
			 POLICY_PASID_IDENTITY);
	assert_null(v.rule);
	assert_int_equal(policy_pasid_policy(policy_tenant_find(policy, "a/t"), &v),
			 POLICY_PASID_TRANSLATED);
	assert_string_equal(v.rule, "p.json:2: tenants.a/t.pasid_policy");
	/* A child narrows and never widens. */
	assert_int_equal(policy_pasid_policy(policy_tenant_find(policy, "a/t/i"), &v),
			 POLICY_PASID_TRANSLATED);
	assert_string_equal(v.tenant, "a/t");
	assert_int_equal(policy_pasid_policy(policy_tenant_find(policy, "a/t/n"), &v),
			 POLICY_PASID_NONE);
	assert_false(v.allowed);
	policy_free(policy);
}

static void check_delegate(const struct policy *policy, const char *path, bool allowed,
			   const char *tenant, const char *rule)
{
	struct policy_verdict v;

	policy_delegate_verdict(policy_tenant_find(policy, path), &v);
	assert_int_equal(v.allowed, allowed);
	assert_string_equal(v.tenant, tenant);
	assert_string_equal(v.rule, rule);
}

static void test_delegate(void **state)
{
	static const char none[] = "no tenant of the chain has \"delegate\": true";
	struct policy *policy = parse("{\"version\": 1, \"host\": {\"delegate\": true},\n"
				      "\"tenants\": {\"n\": {}, \"a\": {\"delegate\": true},\n"
				      "\"a/t\": {},\n"
				      "\"a/f\": {\"delegate\": false},\n"
				      "\"a/f/t\": {\"delegate\": true}}}");

	/* The host's is only a bound. */
	check_delegate(policy, "n", false, "", none);
	check_delegate(policy, "a", true, "a", "p.json:2: tenants.a.delegate");
	check_delegate(policy, "a/t", true, "a", "p.json:2: tenants.a.delegate");
	/* A child narrows and never widens. */
	check_delegate(policy, "a/f", false, "a/f", "p.json:4: tenants.a/f.delegate");
	check_delegate(policy, "a/f/t", false, "a/f", "p.json:4: tenants.a/f.delegate");
	policy_free(policy);
	policy = parse("{\"version\": 1, \"host\": {\"delegate\": false},\n"
		       "\"tenants\": {\"a\": {\"delegate\": true}}}");
	check_delegate(policy, "a", false, "", "p.json:1: host.delegate");
	policy_free(policy);
}

static void check_identity(struct policy *policy, const char *socket, uid_t uid, gid_t gid,
			   enum policy_role role, const char *tenant, const char *rule)
{
	const struct policy_caller caller = {socket, uid, gid};
	struct policy_identity identity = {.role = POLICY_ROLE_NONE};
	int r = policy_identify(policy, &caller, &identity);

	assert_int_equal(r, role == POLICY_ROLE_NONE ? POLICY_E_NO_MATCH : 0);
	assert_int_equal(identity.role, role);
	if (role != POLICY_ROLE_NONE) {
		assert_string_equal(identity.tenant, tenant);
		assert_string_equal(identity.rule, rule);
	}
}

static void test_identities(void **state)
{
	struct policy *policy = parse(
		"{\"version\": 1, \"tenants\": {\"org\": {}, \"org/a\": {}, \"org/b\": {}},\n"
		"\"identities\": [\n"
		"{\"socket\": \"t\", \"role\": \"observer\"},\n"
		"{\"socket\": \"t\", \"gid\": 50, \"role\": \"agent\", \"subtree\": \"org\"},\n"
		"{\"socket\": \"t\", \"uid\": 1001, \"role\": \"tenant\", \"tenant\": \"org/a\"},\n"
		"{\"socket\": \"t\", \"uid\": 1001, \"gid\": 51, \"role\": \"tenant\", \"tenant\": "
		"\"org/b\"},\n"
		"{\"socket\": \"u\", \"uid\": 0, \"role\": \"agent\", \"subtree\": \"\"},\n"
		"{\"socket\": \"admin\", \"role\": \"admin\"},\n"
		"{\"socket\": \"admin\", \"uid\": 7, \"role\": \"observer\", \"subtree\": "
		"\"org\"},\n"
		"{\"socket\": \"t\", \"uid\": 4294967294, \"role\": \"observer\"}]}");

	check_identity(policy, "t", 1001, 50, POLICY_ROLE_TENANT, "org/a",
		       "p.json:5: identities[2]");
	check_identity(policy, "t", 1001, 51, POLICY_ROLE_TENANT, "org/b",
		       "p.json:6: identities[3]");
	check_identity(policy, "t", 1002, 50, POLICY_ROLE_AGENT, "org", "p.json:4: identities[1]");
	check_identity(policy, "t", 1002, 51, POLICY_ROLE_OBSERVER, "", "p.json:3: identities[0]");
	check_identity(policy, "u", 0, 0, POLICY_ROLE_AGENT, "", "p.json:7: identities[4]");
	check_identity(policy, "u", 1001, 50, POLICY_ROLE_NONE, NULL, NULL);
	check_identity(policy, "tt", 1001, 50, POLICY_ROLE_NONE, NULL, NULL);
	check_identity(policy, "", 0, 0, POLICY_ROLE_NONE, NULL, NULL);
	check_identity(policy, "admin", 0, 0, POLICY_ROLE_ADMIN, "", "p.json:8: identities[5]");
	check_identity(policy, "admin", 7, 0, POLICY_ROLE_OBSERVER, "org",
		       "p.json:9: identities[6]");
	check_identity(policy, "t", 4294967294, 1, POLICY_ROLE_OBSERVER, "",
		       "p.json:10: identities[7]");
	policy_free(policy);
}

/* Escapes are resolved by json-c; names of tenants and keys may be written with them. */
static void test_escapes(void **state)
{
	struct policy *policy =
		parse("{\"ver\\u0073ion\": 1, \"tenants\": {\"\\u0061\\/\\u0062\": "
		      "{\"l\\u0069mits\": {\"\\u0076ms\": \"\\u006dax\"}}, \"a\": {}}}");
	const struct policy_tenant *b = policy_tenant_find(policy, "a/b");

	assert_non_null(b);
	assert_int_equal(policy_tenant_limit(b, QUOTA_VMS), QUOTA_UNLIMITED);
	policy_free(policy);
}

/* ---- folders ---- */

static char folder[] = "/tmp/test-policy-XXXXXX";

static void write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void remove_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_true(!unlink(path) || !rmdir(path));
}

static int load(const char *name, struct policy **ret_policy, struct policy_problem *ret_problem)
{
	char path[128];

	snprintf(path, sizeof(path), "%s%s%s", folder, *name ? "/" : "", name);
	*ret_problem = (struct policy_problem){0};
	*ret_policy = NULL;
	return policy_load(path, &vocabulary, ret_policy, ret_problem);
}

static void check_load_fails(const char *name, int expected, const char *file, unsigned line,
			     const char *message)
{
	struct policy_problem problem;
	struct policy *policy;
	char full[192];

	assert_int_equal(load(name, &policy, &problem), expected);
	assert_null(policy);
	snprintf(full, sizeof(full), "%s%s%s", folder, *file ? "/" : "", file);
	assert_string_equal(problem.file, full);
	assert_int_equal(problem.line, line);
	if (!strstr(problem.message, message))
		fail_msg("expected \"%s\", found \"%s\"", message, problem.message);
}

static void test_folder(void **state)
{
	struct policy_problem problem;
	struct policy_verdict verdict;
	struct policy *policy;
	char path[128];

	assert_non_null(mkdtemp(folder));
	check_load_fails("", POLICY_E_INVALID, "", 0, "no *.json file is in this folder");
	check_load_fails("gone", -ENOENT, "gone", 0, "cannot be read: No such file or directory");

	/* Children may come in a file before their parents. */
	write_file("10-b.json",
		   "{\"version\": 1, \"tenants\": {\"org/b\": {\"formats\": [\"fmt-a\"]}}}");
	write_file("20-org.json", "{\"version\": 1,\n \"host\": {},\n \"tenants\": {\"org\": {}},\n"
				  "\"identities\": [{\"socket\": \"t\", \"role\": \"observer\"}]}");
	write_file("ignored.txt", "not read");
	write_file(".hidden.json", "not read");
	write_file("backup.json~", "not read");
	assert_int_equal(load("", &policy, &problem), 0);
	assert_int_equal(policy_n_tenants(policy), 3);
	policy_format_verdict(policy_tenant_find(policy, "org/b"), 2, &verdict);
	assert_string_equal(verdict.rule, "10-b.json:1: tenants.org/b.formats");
	policy_free(policy);

	snprintf(path, sizeof(path), "%s//", folder);
	assert_int_equal(policy_load(path, &vocabulary, &policy, &problem), 0);
	policy_free(policy);

	/* One file alone is a policy of its own. */
	assert_int_equal(load("20-org.json", &policy, &problem), 0);
	policy_free(policy);
	check_load_fails("10-b.json", POLICY_E_INVALID, "10-b.json", 1,
			 "its parent \"org\" is not defined");
	check_load_fails("ignored.txt", POLICY_E_INVALID, "ignored.txt", 1, "expected a value");

	/* What clashes between files names both. */
	write_file("30.json", "{\"version\": 1,\n\n\"tenants\": {\n\"org\": {}}}");
	snprintf(path, sizeof(path), "this tenant is defined twice, first at %s/20-org.json:3:14",
		 folder);
	check_load_fails("", POLICY_E_INVALID, "30.json", 4, path);
	write_file("30.json", "{\"version\": 1,\n\"host\": {}}");
	snprintf(path, sizeof(path), "\"host\" is defined twice, first at %s/20-org.json:2:2",
		 folder);
	check_load_fails("", POLICY_E_INVALID, "30.json", 2, path);
	write_file("30.json", "{\"version\": 1,\n\"identities\": [{\"socket\": \"t\", \"role\": "
			      "\"observer\"}]}");
	snprintf(path, sizeof(path), "as specific as identities[0] at %s/20-org.json:4:16", folder);
	check_load_fails("", POLICY_E_INVALID, "30.json", 2, path);
	/* Every file states its version. */
	write_file("30.json", "{}");
	check_load_fails("", POLICY_E_INVALID, "30.json", 1, "the key \"version\" is missing");
	write_file("30.json", "");
	check_load_fails("", POLICY_E_INVALID, "30.json", 1, "found the end of the text");
	remove_file("30.json");

	/* What is no file is not opened in a way that waits for it. */
	snprintf(path, sizeof(path), "%s/40.json", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	check_load_fails("", POLICY_E_INVALID, "40.json", 0, "expected a regular file");
	check_load_fails("40.json", POLICY_E_INVALID, "40.json", 0, "expected a regular file");
	remove_file("40.json");
	assert_int_equal(mkdir(path, 0700), 0);
	check_load_fails("", POLICY_E_INVALID, "40.json", 0, "expected a regular file");
	remove_file("40.json");
	assert_int_equal(symlink("nowhere", path), 0);
	check_load_fails("", -ENOENT, "40.json", 0, "cannot be read");
	remove_file("40.json");
	/* As a mounted ConfigMap does it. */
	assert_int_equal(symlink("ignored.txt", path), 0);
	write_file("ignored.txt", "{\"version\": 1}");
	assert_int_equal(load("", &policy, &problem), 0);
	policy_free(policy);
	remove_file("40.json");

	/* A file without a size that says anything, and one that is too large. */
	assert_int_equal(policy_load("/proc/self/status", &vocabulary, &policy, &problem),
			 POLICY_E_INVALID);
	assert_string_equal(problem.message, "expected a value, found 'N'");
	write_file("50.json", "{\"version\": 1}");
	snprintf(path, sizeof(path), "%s/50.json", folder);
	assert_int_equal(truncate(path, (32 << 20) + 100), 0);
	check_load_fails("", POLICY_E_INVALID, "50.json", 1, "larger than 33554432 bytes");
	remove_file("50.json");

	for (unsigned i = 0; i < 4097; i++) {
		snprintf(path, sizeof(path), "9-%u.json", i);
		write_file(path, "{\"version\": 1}");
		/* With the two that are there. */
		if (i == 4093) {
			assert_int_equal(load("", &policy, &problem), 0);
			policy_free(policy);
		} else if (i == 4094) {
			check_load_fails("", POLICY_E_INVALID, "", 0, "more than 4096 files");
		}
	}
	for (unsigned i = 0; i < 4097; i++) {
		snprintf(path, sizeof(path), "9-%u.json", i);
		remove_file(path);
	}

	remove_file("10-b.json");
	remove_file("20-org.json");
	remove_file("ignored.txt");
	remove_file(".hidden.json");
	remove_file("backup.json~");
	assert_int_equal(rmdir(folder), 0);
}

/*
 * As many tenants as there may be and a user for each.  The time is printed; the bound is
 * loose enough for a sanitizer, and far below what a quadratic search takes.
 */
static void test_large(void **state)
{
	const unsigned n_orgs = 256, n_teams = 255;
	struct timespec begin, end;
	struct policy_problem problem;
	struct policy_identity identity;
	struct policy *policy = NULL;
	char *text = malloc((size_t)24 << 20), *p;

	assert_non_null(text);
	p = text + sprintf(text, "{\"version\": 1, \"tenants\": {");
	for (unsigned o = 0; o < n_orgs; o++) {
		p += sprintf(p, "%s\n\"org%u\": {\"devices\": [{\"any\": true}]}", o ? "," : "", o);
		for (unsigned t = 0; t < n_teams; t++)
			p += sprintf(p,
				     ",\n\"org%u/team%u\": {\"limits\": {\"ioasids\": %u, "
				     "\"mapped_bytes\": \"4G\"}, \"kinds\": [\"kernel\"]}",
				     o, t, t);
	}
	p += sprintf(p, "},\n\"identities\": [");
	for (unsigned i = 0; i < 65536; i++)
		p += sprintf(
			p,
			"%s\n{\"socket\": \"t\", \"uid\": %u, \"role\": \"tenant\", \"tenant\": "
			"\"org%u/team%u\"}",
			i ? "," : "", i, i % n_orgs, i % n_teams);
	p += sprintf(p, "]}\n");
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	assert_int_equal(policy_parse("large.json", text, p - text, &vocabulary, &policy, &problem),
			 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	free(text);
	print_message("65536 tenants, 65536 identities: %.3f s of CPU\n",
		      end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) * 1e-9);
	assert_true(end.tv_sec - begin.tv_sec < 20);
	assert_int_equal(policy_n_tenants(policy), 65537);
	for (unsigned i = 0; i < 65536; i++) {
		const struct policy_caller caller = {"t", i, 1};
		const struct policy_tenant *tenant;
		char path[64];

		snprintf(path, sizeof(path), "org%u/team%u", i % n_orgs, i % n_teams);
		assert_int_equal(policy_identify(policy, &caller, &identity), 0);
		if (strcmp(identity.tenant, path))
			fail_msg("uid %u is %s", i, identity.tenant);
		tenant = policy_tenant_find(policy, path);
		if (policy_tenant_limit(tenant, QUOTA_IOASIDS) != i % n_teams)
			fail_msg("limit of %s", path);
	}
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_reservations_that_fit),
		cmocka_unit_test(test_path_in_subtree),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_host_device_list_bounds),
		cmocka_unit_test(test_formats_and_kinds),
		cmocka_unit_test(test_pasid_policy),
		cmocka_unit_test(test_delegate),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
