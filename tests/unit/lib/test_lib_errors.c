/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of refusals, below any connection: every detail, and every way to be broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/error.h"
#include "lib/result.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>

static void everything(struct wire *wire)
{
	struct wire detail, inner;

	wire_status(wire, 8, "over the limit");
	wire_error_info(wire, "QUOTA", "done", "3");

	detail.n = inner.n = 0;
	wire_text(&inner, 1, "org/team");
	wire_text(&inner, 2, "ioasids: limit 2, used 2, asked 1");
	wire_message(&detail, 1, &inner);
	inner.n = 0;
	wire_text(&inner, 1, "org");
	wire_text(&inner, 2, "mapped_bytes");
	wire_message(&detail, 1, &inner);
	wire_detail(wire, "google.rpc.QuotaFailure", &detail);

	detail.n = inner.n = 0;
	wire_text(&inner, 1, "GROUP");
	wire_text(&inner, 2, "0000:01:00.1");
	wire_text(&inner, 3, "must be claimed as well");
	wire_message(&detail, 1, &inner);
	wire_detail(wire, "google.rpc.PreconditionFailure", &detail);

	detail.n = inner.n = 0;
	wire_text(&inner, 1, "entries[3].length");
	wire_text(&inner, 2, "is 0");
	wire_message(&detail, 1, &inner);
	wire_detail(wire, "google.rpc.BadRequest", &detail);

	/* 1 s and 1 ns: rounded up to the next millisecond. */
	detail.n = inner.n = 0;
	wire_int(&inner, 1, 1);
	wire_int(&inner, 2, 1);
	wire_message(&detail, 1, &inner);
	wire_detail(wire, "google.rpc.RetryInfo", &detail);

	detail.n = 0;
	wire_text(&detail, 1, "nobody knows this one");
	wire_detail(wire, "google.rpc.DebugInfo", &detail);
}

static void check_everything(const struct ioasid_error *error)
{
	assert_int_equal(error->error, -EDQUOT);
	assert_int_equal(error->code, IOASID_RESOURCE_EXHAUSTED);
	assert_int_equal(error->origin, IOASID_ORIGIN_BROKER);
	assert_string_equal(error->reason, "QUOTA");
	assert_string_equal(error->message, "over the limit");
	assert_string_equal(error->method, "Alloc");
	assert_int_equal(error->n_metadata, 1);
	assert_string_equal(error->metadata[0].key, "done");
	assert_string_equal(error->metadata[0].value, "3");
	assert_string_equal(ioasid_error_metadata(error, "done"), "3");
	assert_null(ioasid_error_metadata(error, "don"));
	assert_int_equal(ioasid_error_done(error), 3);
	assert_int_equal(error->n_violations, 4);
	assert_int_equal(error->violations[0].kind, IOASID_VIOLATION_QUOTA);
	assert_string_equal(error->violations[0].type, "");
	assert_string_equal(error->violations[0].subject, "org/team");
	assert_string_equal(error->violations[0].description, "ioasids: limit 2, used 2, asked 1");
	assert_string_equal(error->violations[1].subject, "org");
	assert_int_equal(error->violations[2].kind, IOASID_VIOLATION_PRECONDITION);
	assert_string_equal(error->violations[2].type, "GROUP");
	assert_string_equal(error->violations[2].subject, "0000:01:00.1");
	assert_string_equal(error->violations[2].description, "must be claimed as well");
	assert_int_equal(error->violations[3].kind, IOASID_VIOLATION_FIELD);
	assert_string_equal(error->violations[3].subject, "entries[3].length");
	assert_string_equal(error->violations[3].description, "is 0");
	assert_int_equal(error->retry_delay_ms, 1001);
}

static void test_every_detail(void **state)
{
	struct ioasid_error *error = NULL, *copy = NULL;
	struct wire wire;

	everything(&wire);
	assert_int_equal(error_from_details("Alloc", IOASID_RESOURCE_EXHAUSTED, "-", wire.bytes,
					    wire.n, &error),
			 -EDQUOT);
	check_everything(error);
	assert_int_equal(error_copy(error, &copy), -EDQUOT);
	/* The copy owes nothing to the original. */
	ioasid_error_free(error);
	check_everything(copy);
	ioasid_error_free(copy);
	assert_int_equal(error_from_details("Alloc", IOASID_RESOURCE_EXHAUSTED, "-", wire.bytes,
					    wire.n, NULL),
			 -EDQUOT);
}

/* Cut anywhere, flipped anywhere: an error or none, never memory that is not ours. */
static void test_broken_bytes(void **state)
{
	struct wire wire;
	unsigned refused = 0;

	everything(&wire);
	for (size_t cut = 0; cut < wire.n; cut++) {
		uint8_t *exact = malloc(cut ?: 1);
		struct ioasid_error *error = NULL;
		int r;

		memcpy(exact, wire.bytes, cut);
		r = error_from_details("Alloc", IOASID_RESOURCE_EXHAUSTED, "-", exact, cut, &error);
		if (r == -EBADMSG) {
			refused++;
			assert_null(error);
		} else {
			assert_non_null(error);
			assert_int_equal(r, error->error);
		}
		ioasid_error_free(error);
		free(exact);
	}
	/* Only cuts between fields of the outer message leave a message. */
	assert_true(refused > wire.n - 10);

	for (size_t i = 0; i < wire.n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			struct ioasid_error *error = NULL;

			wire.bytes[i] ^= 1u << bit;
			error_from_details("Alloc", IOASID_RESOURCE_EXHAUSTED, "-", wire.bytes,
					   wire.n, &error);
			ioasid_error_free(error);
			wire.bytes[i] ^= 1u << bit;
		}
}

static void test_status_must_agree(void **state)
{
	struct ioasid_error *error = NULL;
	struct wire wire;

	everything(&wire);
	assert_int_equal(
		error_from_details("Alloc", IOASID_NOT_FOUND, "-", wire.bytes, wire.n, &error),
		-EBADMSG);
	assert_null(error);
}

static void test_status_without_details(void **state)
{
	struct ioasid_error *error = NULL;
	struct wire wire;

	wire_status(&wire, 5, "");
	assert_int_equal(error_from_details("Free", IOASID_NOT_FOUND, "from the trailer",
					    wire.bytes, wire.n, &error),
			 -ENOENT);
	assert_string_equal(error->reason, "");
	assert_string_equal(error->message, "from the trailer");
	assert_int_equal(error->retry_delay_ms, -1);
	assert_int_equal(error->n_violations, 0);
	assert_int_equal(ioasid_error_done(error), 0);
	ioasid_error_free(error);
}

static void test_done_is_a_number(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} cases[] = {
		{"0", 0},  {"1023", 1023},
		{"-1", 0}, {"18446744073709551615", UINT64_MAX},
		{"", 0},   {"18446744073709551616", 0},
		{" 7", 0}, {"7x", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct ioasid_metadata metadata = {"done", cases[i].text};
		const struct ioasid_error error = {.n_metadata = 1, .metadata = &metadata};

		assert_int_equal(ioasid_error_done(&error), cases[i].value);
	}
}

/* The documented errno of every status, and the exit-code predicates. */
static void test_errno_and_predicates(void **state)
{
	static const struct {
		enum ioasid_code code;
		const char *reason;
		int error;
		const char *flags; /* d denied, q quota, n not found, r retryable */
	} cases[] = {
		{IOASID_CANCELLED, "CANCELLED", -ECANCELED, ""},
		{IOASID_UNKNOWN, "", -EIO, ""},
		{IOASID_INVALID_ARGUMENT, "INVALID_FIELD", -EINVAL, ""},
		{IOASID_DEADLINE_EXCEEDED, "", -ETIMEDOUT, ""},
		{IOASID_NOT_FOUND, "NOT_FOUND", -ENOENT, "n"},
		{IOASID_ALREADY_EXISTS, "OVERLAP", -EEXIST, ""},
		{IOASID_PERMISSION_DENIED, "POLICY_FORBIDDEN", -EACCES, "d"},
		{IOASID_RESOURCE_EXHAUSTED, "QUOTA", -EDQUOT, "q"},
		{IOASID_RESOURCE_EXHAUSTED, "RATE", -EAGAIN, "qr"},
		{IOASID_FAILED_PRECONDITION, "NOT_CLAIMED", -EBUSY, ""},
		{IOASID_ABORTED, "BUSY", -EAGAIN, "r"},
		{IOASID_OUT_OF_RANGE, "", -EIO, ""},
		{IOASID_UNIMPLEMENTED, "UNIMPLEMENTED", -EOPNOTSUPP, ""},
		{IOASID_INTERNAL, "INTERNAL", -EIO, ""},
		{IOASID_UNAVAILABLE, "RECONCILING", -EHOSTDOWN, "r"},
		{IOASID_DATA_LOSS, "", -EIO, ""},
		{IOASID_UNAUTHENTICATED, "NO_TENANT", -EPERM, "d"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ioasid_error *error = NULL;
		struct wire wire;
		char flags[8];

		wire_status(&wire, (int)cases[i].code, "m");
		wire_error_info(&wire, cases[i].reason, NULL, NULL);
		assert_int_equal(
			error_from_details("M", cases[i].code, "", wire.bytes, wire.n, &error),
			cases[i].error);
		snprintf(flags, sizeof(flags), "%s%s%s%s%s",
			 ioasid_error_is_denied(error) ? "d" : "",
			 ioasid_error_is_quota(error) ? "q" : "",
			 ioasid_error_is_not_found(error) ? "n" : "",
			 ioasid_error_is_retryable(error) ? "r" : "",
			 ioasid_error_is_no_server(error) ? "s" : "");
		assert_string_equal(flags, cases[i].flags);
		ioasid_error_free(error);
	}
	assert_false(ioasid_error_is_denied(NULL) || ioasid_error_is_quota(NULL) ||
		     ioasid_error_is_not_found(NULL) || ioasid_error_is_no_server(NULL) ||
		     ioasid_error_is_retryable(NULL));
	assert_null(ioasid_error_metadata(NULL, "done"));
	ioasid_error_free(NULL);
}

static void test_no_memory(void **state)
{
	struct ioasid_error *error = NULL, *copy = NULL;

	assert_int_equal(error_no_memory(&error), -ENOMEM);
	assert_string_equal(error->reason, "OUT_OF_MEMORY");
	assert_int_equal(error_copy(error, &copy), -ENOMEM);
	assert_ptr_equal(error, copy);
	/* The constant one: freeing it, twice at that, is nothing. */
	ioasid_error_free(error);
	ioasid_error_free(copy);
}

/* Memory of results: alignment, zeros, growth, what does not fit anywhere. */
static void test_result(void **state)
{
	struct result *result = result_new(24);
	unsigned char *pieces[3000];
	unsigned *root = result_root(result);

	for (size_t i = 0; i < 6; i++)
		assert_int_equal(root[i], 0);
	for (size_t i = 0; i < 3000; i++) {
		size_t n = 1 + i * 37 % 5000;

		pieces[i] = result_alloc(result, n, 1);
		assert_non_null(pieces[i]);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		for (size_t j = 0; j < n; j++)
			assert_int_equal(pieces[i][j], 0);
		memset(pieces[i], (int)i, n);
	}
	/* No two overlap. */
	for (size_t i = 0; i < 3000; i++)
		for (size_t j = 0; j < 1 + i * 37 % 5000; j++)
			assert_int_equal(pieces[i][j], i & 0xff);
	assert_false(result_failed(result));
	assert_null(result_alloc(result, 0, 8));
	assert_false(result_failed(result));
	assert_null(result_alloc(result, SIZE_MAX / 2 + 1, 2));
	assert_true(result_failed(result));
	result_free_root(result_root(result));

	result = result_new(0);
	assert_null(result_table(result, SIZE_MAX / 4, 8));
	assert_true(result_failed(result));
	result_free(result);
	result_free(NULL);
	result_free_root(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_detail),
		cmocka_unit_test(test_broken_bytes),
		cmocka_unit_test(test_status_must_agree),
		cmocka_unit_test(test_status_without_details),
		cmocka_unit_test(test_done_is_a_number),
		cmocka_unit_test(test_errno_and_predicates),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
