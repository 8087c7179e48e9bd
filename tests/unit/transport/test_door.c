/* SPDX-License-Identifier: Apache-2.0 */
/* What the door is made of: the fd protocol's bytes, the counts of principals. */
#include "server/transport/fd_protocol.h"
#include "server/transport/principal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* docs/fd-protocol.md, byte by byte. */
static const uint8_t give[32] = {
	'I',  'O',  'F',  'D',	1,    1,    0,	  0,	0xa0, 0xa1, 0xa2,
	0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad,
	0xae, 0xaf, 0,	  0,	0,    0,    0,	  0,	0,    0,
};

static void test_request(void **state)
{
	struct fd_request request;
	uint8_t take[32];

	assert_int_equal(fd_request_parse(give, sizeof(give), 1, &request), FD_STATUS_OK);
	assert_int_equal(request.op, FD_OP_GIVE);
	assert_memory_equal(request.ticket, give + 8, 16);
	memcpy(take, give, sizeof(take));
	take[5] = 2;
	assert_int_equal(fd_request_parse(take, sizeof(take), 0, &request), FD_STATUS_OK);
	assert_int_equal(request.op, FD_OP_TAKE);
}

static void test_request_refusals(void **state)
{
	struct fd_request request;

	memset(&request, 0x5a, sizeof(request));
	assert_int_equal(fd_request_parse(give, 31, 1, &request), FD_STATUS_MALFORMED);
	assert_int_equal(fd_request_parse(give, 0, 1, &request), FD_STATUS_MALFORMED);
	assert_int_equal(fd_request_parse(give, 32, 0, &request), FD_STATUS_MALFORMED);
	assert_int_equal(fd_request_parse(give, 32, 2, &request), FD_STATUS_MALFORMED);
	/* Every byte that is not the ticket's has one value only; op has two. */
	for (int at = 0; at < 32; at++) {
		for (int value = 0; value < 256; value++) {
			uint8_t bytes[32];
			int good = value == give[at] || (at >= 8 && at < 24);

			memcpy(bytes, give, sizeof(bytes));
			bytes[at] = value;
			assert_int_equal(fd_request_parse(bytes, 32, 1, &request),
					 good ? FD_STATUS_OK : FD_STATUS_MALFORMED);
		}
	}
}

static void test_reply(void **state)
{
	static const uint8_t refused[16] = {'I', 'O', 'F', 'D', 1, 2};
	uint8_t reply[16];

	memset(reply, 0xff, sizeof(reply));
	fd_reply_build(FD_STATUS_REFUSED, reply);
	assert_memory_equal(reply, refused, 16);
}

static struct principal_table *table_new(void)
{
	static const struct principal_limits limits = {
		.pending = 2,
		.open = 3,
		.open_listener = 4,
		.rate = 10,
		.memory = 1 << 20,
	};
	struct principal_table *table;

	assert_int_equal(principal_table_new(&limits, &table), 0);
	return table;
}

static int arrive(struct principal_table *table, size_t listener, uid_t uid, uint64_t now,
		  struct principal **ret_principal)
{
	return principal_arrive(table, listener, uid, now, ret_principal);
}

static void test_pending_limit(void **state)
{
	struct principal_table *table = table_new();
	struct principal *one, *other;

	assert_int_equal(arrive(table, 0, 7, 0, &one), 0);
	assert_int_equal(arrive(table, 0, 7, 0, &one), 0);
	assert_int_equal(arrive(table, 0, 7, 0, &one), PRINCIPAL_E_LIMIT);
	/* Another uid, or the same on another socket, is someone else. */
	assert_int_equal(arrive(table, 0, 8, 0, &other), 0);
	principal_leave_pending(table, other, 0);
	assert_int_equal(arrive(table, 1, 7, 0, &other), 0);
	principal_leave_pending(table, other, 0);
	principal_leave_pending(table, one, 0);
	assert_int_equal(arrive(table, 0, 7, 0, &one), 0);
	principal_leave_pending(table, one, 0);
	principal_leave_pending(table, one, 0);
	principal_table_free(table);
}

static void test_open_limits(void **state)
{
	struct principal_table *table = table_new();
	struct principal *a, *b, *c;
	uint64_t retry;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(arrive(table, 0, 1, 0, &a), 0);
		assert_int_equal(principal_promote(table, a, 0, &retry), 0);
	}
	assert_int_equal(arrive(table, 0, 1, 0, &a), 0);
	assert_int_equal(principal_promote(table, a, 0, &retry), PRINCIPAL_E_LIMIT);
	/* The listener's total is four: the fourth is another's, the fifth nobody's. */
	assert_int_equal(arrive(table, 0, 2, 0, &b), 0);
	assert_int_equal(principal_promote(table, b, 0, &retry), 0);
	assert_int_equal(arrive(table, 0, 2, 0, &b), 0);
	assert_int_equal(principal_promote(table, b, 0, &retry), PRINCIPAL_E_TOTAL);
	/* The other listener has its own. */
	assert_int_equal(arrive(table, 1, 1, 0, &c), 0);
	assert_int_equal(principal_promote(table, c, 0, &retry), 0);
	principal_leave(table, c, 0);
	/* A refused promotion is still pending; room lets it through. */
	principal_leave(table, a, 0);
	assert_int_equal(principal_promote(table, b, 0, &retry), 0);
	principal_leave_pending(table, a, 0);
	principal_leave(table, a, 0);
	principal_leave(table, a, 0);
	principal_leave(table, b, 0);
	principal_leave(table, b, 0);
	principal_table_free(table);
}

static int promote(struct principal_table *table, uint64_t now, struct principal *a,
		   uint64_t *ret_retry)
{
	int r = principal_promote(table, a, now, ret_retry);

	if (!r) {
		principal_leave(table, a, now);
		assert_int_equal(arrive(table, 0, 1, now, &a), 0);
	}
	return r;
}

static void test_bar(void **state)
{
	static const uint64_t bars[] = {1, 4, 16, 64, 256, 300, 300};
	struct principal_table *table = table_new();
	uint64_t now = 5000000, retry = 0;
	struct principal *a, *b;

	assert_int_equal(arrive(table, 0, 1, now, &a), 0);
	assert_int_equal(arrive(table, 0, 2, now, &b), 0);
	for (size_t i = 0; i < sizeof(bars) / sizeof(bars[0]); i++) {
		uint64_t bar = bars[i] * 1000000;

		principal_bar(table, a, now);
		/* At the same time: the same offence. */
		principal_bar(table, a, now + 1);
		assert_int_equal(promote(table, now + bar - 1, a, &retry), PRINCIPAL_E_RATE);
		assert_int_equal(retry, 1);
		now += bar;
		assert_int_equal(promote(table, now, a, &retry), 0);
	}
	/* Nobody else. */
	assert_int_equal(principal_promote(table, b, now, &retry), 0);
	principal_leave(table, b, now);
	/* Ten minutes later it is forgotten, and not a microsecond sooner. */
	principal_bar(table, a, now + 600000000 - 1);
	assert_int_equal(promote(table, now + 600000000, a, &retry), PRINCIPAL_E_RATE);
	assert_int_equal(retry, 300000000 - 1);
	now += 600000000 - 1 + 300000000 + 600000000;
	principal_bar(table, a, now);
	assert_int_equal(promote(table, now, a, &retry), PRINCIPAL_E_RATE);
	assert_int_equal(retry, 1000000);
	principal_leave_pending(table, a, now);
	principal_table_free(table);
}

static void test_rate(void **state)
{
	struct principal_table *table = table_new();
	struct principal *p = NULL;
	uint64_t retry = 0;

	/* Ten a second and ten at once; closing and coming back changes nothing. */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(arrive(table, 0, 1, 1000, &p), 0);
		assert_int_equal(principal_promote(table, p, 1000, &retry), 0);
		principal_leave(table, p, 1000);
	}
	assert_int_equal(arrive(table, 0, 1, 1000, &p), 0);
	assert_int_equal(principal_promote(table, p, 1000, &retry), PRINCIPAL_E_RATE);
	assert_int_equal(retry, 100000);
	assert_int_equal(principal_promote(table, p, 100999, &retry), PRINCIPAL_E_RATE);
	assert_int_equal(retry, 1);
	assert_int_equal(principal_promote(table, p, 101000, &retry), 0);
	principal_leave(table, p, 101000);
	/* An hour's rest is worth one second of credit. */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(arrive(table, 0, 1, UINT64_C(3600000000), &p), 0);
		assert_int_equal(principal_promote(table, p, UINT64_C(3600000000), &retry), 0);
		principal_leave(table, p, UINT64_C(3600000000));
	}
	assert_int_equal(arrive(table, 0, 1, UINT64_C(3600000000), &p), 0);
	assert_int_equal(principal_promote(table, p, UINT64_C(3600000000), &retry),
			 PRINCIPAL_E_RATE);
	principal_leave_pending(table, p, UINT64_C(3600000000));
	principal_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),	    cmocka_unit_test(test_request_refusals),
		cmocka_unit_test(test_reply),	    cmocka_unit_test(test_pending_limit),
		cmocka_unit_test(test_open_limits), cmocka_unit_test(test_bar),
		cmocka_unit_test(test_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
