/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading with the n-th allocation failing, for every n until nothing fails: -ENOMEM or the
 * same problem as ever, no policy, nothing leaked, and the same text loads afterwards.
 *
 * Without a sanitizer malloc and its kin are our own for the whole process, json-c included.
 * A sanitizer has its own malloc, which must stay; there the calls of the code under test
 * are wrapped by the linker, and the sanitizer looks for leaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/explain.h"

static bool armed;
static unsigned long n_calls, fail_at;
static long n_live;

static bool fails(void)
{
	return armed && ++n_calls == fail_at;
}

static void count(void *p, long change)
{
	if (armed && p)
		n_live += change;
}

#ifdef WRAP_ALLOCATIONS
#define REAL(name) __real_##name
#define OURS(name) __wrap_##name
#else
#define REAL(name) __libc_##name
#define OURS(name) name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *p, size_t size);
void REAL(free)(void *p);
void *OURS(malloc)(size_t size);
void *OURS(calloc)(size_t n, size_t size);
void *OURS(realloc)(void *p, size_t size);
void OURS(free)(void *p);

void *OURS(malloc)(size_t size)
{
	void *p;

	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	p = REAL(malloc)(size);
	count(p, 1);
	return p;
}

void *OURS(calloc)(size_t n, size_t size)
{
	void *p;

	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	p = REAL(calloc)(n, size);
	count(p, 1);
	return p;
}

void *OURS(realloc)(void *old, size_t size)
{
	void *p;

	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	p = REAL(realloc)(old, size);
	if (!old)
		count(p, 1);
	return p;
}

void OURS(free)(void *p)
{
	count(p, -1);
	REAL(free)(p);
}

#ifdef WRAP_ALLOCATIONS
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *s);
int __wrap_asprintf(char **ret, const char *fmt, ...);
int __real_asprintf(char **ret, const char *fmt, ...);

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
	return __wrap_realloc(old, n * size);
}

char *__wrap_strdup(const char *s)
{
	char *p = __wrap_malloc(strlen(s) + 1);

	return p ? strcpy(p, s) : NULL;
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	*ret = __wrap_malloc(n + 1);
	if (!*ret)
		return -1;
	va_start(ap, fmt);
	vsnprintf(*ret, n + 1, fmt, ap);
	va_end(ap);
	return n;
}
#endif

static const char *const formats[] = {NULL, "fmt-a", "fmt-b"};
static const char *const kinds[] = {NULL, "kernel"};
static const struct policy_vocabulary vocabulary = {formats, 3, kinds, 2};

/* Strings longer than json-c keeps without allocating, keys with escapes, every section. */
static const char good[] =
	"{\"version\": 1, \"host\": {\"limits\": {\"vms\": 10, \"mapped_bytes\": \"4096G\"},\n"
	"  \"allow_host_devices\": [\"0000:00:1f.2\"], \"formats\": [\"fmt-a\", \"fmt-b\"]},\n"
	"\"tenants\": {\"organisation\\u002dwith-a-name-that-is-long-enough-to-grow\": {\n"
	"  \"limits\": {\"ioasids\": 5, \"ioasids_kernel\": 5, \"ioasids_user\": 5, \"vms\": 4,\n"
	"    \"ioasids_process\": 5, \"ioasids_kvm\": 5, \"pasids\": 5, \"devices\": 5,\n"
	"    \"map_entries\": 5, \"registered_bytes\": 5, \"mapped_bytes\": 5,\n"
	"    \"pinned_bytes\": 5, \"leases\": 5, \"connections\": 5},\n"
	"  \"reservations\": {\"vms\": 2}, \"devices\": [{\"class\": \"0200\"}, {\"group\": 4},\n"
	"    {\"address\": \"0000:3b:00.0\"}, {\"vendor_device\": \"8086:*\"}, {\"any\": true}],\n"
	"  \"formats\": [\"fmt-a\"], \"kinds\": [\"kernel\"]}, \"b\": {}, \"b/c\": {}},\n"
	"\"identities\": [{\"socket\": \"tenants-socket-with-a-name-that-is-long-enough\", "
	"\"uid\": 7,\n"
	"  \"role\": \"tenant\", \"tenant\":\n"
	"  \"organisation-with-a-name-that-is-long-enough-to-grow\"},\n"
	"  {\"socket\": \"admin\", \"role\": \"admin\"}]}";

static const char duplicate[] =
	"{\"version\": 1, \"tenants\": {\"a-tenant-with-a-name-that-is-long-enough-to-grow\": "
	"{\"limits\": {\"vms\": 1, \"leases\": 2,\n\"\\u0076ms\": 3}}}}";

static void check_policy(const struct policy *policy)
{
	const struct policy_tenant *tenant =
		policy_tenant_find(policy, "organisation-with-a-name-that-is-long-enough-to-grow");
	const struct policy_caller caller = {"tenants-socket-with-a-name-that-is-long-enough", 7,
					     7};
	struct policy_identity identity;

	assert_non_null(tenant);
	assert_int_equal(policy_n_tenants(policy), 4);
	assert_int_equal(policy_tenant_limit(tenant, QUOTA_CONNECTIONS), 5);
	assert_int_equal(policy_tenant_limit(tenant, QUOTA_VMS), 4);
	assert_int_equal(policy_identify(policy, &caller, &identity), 0);
}

typedef int (*load_fn)(struct policy **ret_policy, struct policy_problem *ret_problem);

static int load_good(struct policy **ret_policy, struct policy_problem *ret_problem)
{
	return policy_parse("good.json", good, strlen(good), &vocabulary, ret_policy, ret_problem);
}

static int load_duplicate(struct policy **ret_policy, struct policy_problem *ret_problem)
{
	return policy_parse("duplicate.json", duplicate, strlen(duplicate), &vocabulary, ret_policy,
			    ret_problem);
}

static char folder[] = "/tmp/test-policy-alloc-XXXXXX";

static int load_folder(struct policy **ret_policy, struct policy_problem *ret_problem)
{
	return policy_load(folder, &vocabulary, ret_policy, ret_problem);
}

/* Returns the outcome of the run in which nothing failed. */
static int sweep(load_fn load, unsigned long *ret_n)
{
	for (unsigned long n = 1;; n++) {
		struct policy *policy = NULL;
		struct policy_problem problem = {0};
		bool all;
		int r;

		n_calls = 0;
		n_live = 0;
		fail_at = n;
		armed = true;
		r = load(&policy, &problem);
		all = n_calls < n;
		policy_free(r ? NULL : policy);
		armed = false;
		if (n_live)
			fail_msg("allocation %lu: %ld not freed", n, n_live);
		if (all) {
			*ret_n = n - 1;
			return r;
		}
		if (r == 0 || r == POLICY_E_INVALID) {
			/*
			 * A failure that changes nothing is one that was survived (qsort() sorts
			 * in place without its buffer); the outcome is checked as a whole.
			 */
			struct policy *again = NULL;

			fail_at = n;
			n_calls = 0;
			armed = true;
			r = load(&again, &problem);
			armed = false;
			if (!r) {
				check_policy(again);
				policy_free(again);
			} else {
				assert_int_equal(r, POLICY_E_INVALID);
				assert_string_equal(problem.message,
						    "this key is there twice, first at 1:92");
			}
			continue;
		}
		if (r != -ENOMEM)
			fail_msg("allocation %lu: %d, expected %d", n, r, -ENOMEM);
		assert_null(policy);
	}
}

static void test_good(void **state)
{
	unsigned long n;

	assert_int_equal(sweep(load_good, &n), 0);
	print_message("%lu allocations, each failed once\n", n);
	/* At least the policy, its tenants, the arena, the scan, and both lists. */
	assert_true(n >= 6);
}

static void test_duplicate(void **state)
{
	unsigned long n;

	assert_int_equal(sweep(load_duplicate, &n), POLICY_E_INVALID);
	print_message("%lu allocations, each failed once\n", n);
	assert_true(n >= 5);
}

static void test_folder(void **state)
{
	char path[64];
	unsigned long n;
	FILE *f;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/a.json", folder);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(good, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(sweep(load_folder, &n), 0);
	print_message("%lu allocations, each failed once\n", n);
	assert_true(n >= 9);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

/* Questions and answers, too. */
static void test_explain(void **state)
{
	const struct policy_caller caller = {"tenants-socket-with-a-name-that-is-long-enough", 7,
					     7};
	const struct policy_device device = {"0000:3b:00.0", 0x8086, 0x10fb, 0x020000, 4};
	const struct quota_amount amount = {QUOTA_VMS, 3};
	const struct policy_question question = {
		.caller = &caller,
		.device = &device,
		.format = "fmt-a",
		.kind = "kernel",
		.amount = &amount,
	};
	struct policy_problem problem;
	struct policy *policy;
	unsigned long n;
	int r;

	assert_int_equal(load_good(&policy, &problem), 0);
	for (n = 1;; n++) {
		struct policy_explanation *explanation = NULL;
		bool all;

		n_calls = 0;
		n_live = 0;
		fail_at = n;
		armed = true;
		r = policy_explain(policy, &vocabulary, &question, &explanation);
		all = n_calls < n;
		if (!r)
			assert_true(explanation->allowed);
		policy_explanation_free(explanation);
		armed = false;
		assert_int_equal(n_live, 0);
		assert_int_equal(r, all ? 0 : -ENOMEM);
		if (all)
			break;
	}
	print_message("%lu allocations, each failed once\n", n - 1);
	assert_true(n >= 3);
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_duplicate),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_explain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
