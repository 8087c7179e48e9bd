/* SPDX-License-Identifier: Apache-2.0 */
/* Every field of the keeper's datagrams: the bounds, and one step outside each. */
#include "keeper/protocol.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Offsets as docs/keeper-protocol.md states them. */
enum {
	AT_VERSION = 4,
	AT_OP = 5,
	AT_N = 6,
	AT_CONTEXT = 8,
	AT_OWNER = 16,
	AT_NAME = 272,
	AT_ADDRESSES = 336,
	AT_BYTES = 1360,
	AT_UID = 1368,
	AT_END = 1372,
};

static struct keeper_request sample(enum keeper_op op)
{
	struct keeper_request request = {.op = op};

	switch (op) {
	case KEEPER_OP_CONTEXT_OPEN:
		strcpy(request.owner, "acme/ml");
		break;
	case KEEPER_OP_CONTEXT_CLOSE:
	case KEEPER_OP_CONTEXT_TAKE:
		request.context = 7;
		break;
	case KEEPER_OP_CONTEXT_DELEGATE:
		request.context = 7;
		request.bytes = 1 << 20;
		request.uid = 1000;
		break;
	case KEEPER_OP_HOLDER_END:
		strcpy(request.owner, "acme/ml");
		break;
	case KEEPER_OP_CLAIM:
	case KEEPER_OP_RELEASE:
	case KEEPER_OP_DEVICE_TAKE:
		request.context = 7;
		request.n_addresses = 2;
		strcpy(request.addresses[0], "0000:3b:00.0");
		strcpy(request.addresses[1], "0000:3b:00.1");
		break;
	case KEEPER_OP_IS_FREE:
	case KEEPER_OP_EXAMINE:
		request.n_addresses = 1;
		strcpy(request.addresses[0], "0000:3b:00.0");
		break;
	case KEEPER_OP_CLAIM_NEXT:
		request.context = 7;
		request.n_addresses = 1;
		strcpy(request.addresses[0], "0000:3b:00.0");
		break;
	case KEEPER_OP_FD_HOLD:
		strcpy(request.owner, "acme/ml");
		strcpy(request.name, "mem.1");
		break;
	case KEEPER_OP_FD_TAKE:
	case KEEPER_OP_FD_DROP:
	case KEEPER_OP_FD_NEXT:
		strcpy(request.name, "mem.1");
		break;
	default:
		break;
	}
	return request;
}

static size_t fds_of(enum keeper_op op)
{
	return op == KEEPER_OP_FD_HOLD || op == KEEPER_OP_CONTEXT_DELEGATE ||
	       op == KEEPER_OP_HOLDER_END;
}

static int parse(const struct keeper_request *request, size_t n_fds)
{
	uint8_t bytes[KEEPER_REQUEST_SIZE];
	struct keeper_request back;

	keeper_request_build(request, bytes);
	return keeper_request_parse(bytes, sizeof(bytes), n_fds, &back);
}

static void test_round_trip(void **state)
{
	for (enum keeper_op op = 1; op < _KEEPER_OP_MAX; op++) {
		struct keeper_request request = sample(op), back;
		uint8_t bytes[KEEPER_REQUEST_SIZE];

		memset(&back, 0x5a, sizeof(back));
		keeper_request_build(&request, bytes);
		assert_int_equal(keeper_request_parse(bytes, sizeof(bytes), fds_of(op), &back), 0);
		assert_memory_equal(&back, &request, sizeof(back));
		assert_int_equal(keeper_request_parse(bytes, sizeof(bytes) - 1, fds_of(op), &back),
				 -EPROTO);
		assert_int_equal(keeper_request_parse(bytes, 0, fds_of(op), &back), -EPROTO);
		for (size_t n = 0; n < 4; n++)
			assert_int_equal(parse(&request, n), n == fds_of(op) ? 0 : -EPROTO);
	}
}

/* What an operation does not use must be zero: any byte of the datagram, one at a time. */
static void test_every_byte(void **state)
{
	for (enum keeper_op op = 1; op < _KEEPER_OP_MAX; op++) {
		struct keeper_request request = sample(op), back;
		uint8_t bytes[KEEPER_REQUEST_SIZE], again[KEEPER_REQUEST_SIZE];

		keeper_request_build(&request, bytes);
		for (size_t i = 0; i < sizeof(bytes); i++) {
			uint8_t old = bytes[i];

			bytes[i] ^= 0x81;
			memset(&back, 0x5a, sizeof(back));
			if (keeper_request_parse(bytes, sizeof(bytes), fds_of(op), &back) == 0) {
				/* Only a context, bytes and a uid may be any number. */
				assert_true((i >= AT_CONTEXT && i < AT_OWNER) ||
					    (i >= AT_BYTES && i < AT_END));
				keeper_request_build(&back, again);
				assert_memory_equal(again, bytes, sizeof(bytes));
			} else {
				assert_int_equal(*(uint8_t *)&back.n_addresses, 0x5a);
			}
			bytes[i] = old;
		}
	}
}

static void test_header(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_HELLO), back;
	uint8_t bytes[KEEPER_REQUEST_SIZE];

	keeper_request_build(&request, bytes);
	for (unsigned op = 0; op < 256; op++) {
		bytes[AT_OP] = op;
		if (op == 0 || op >= _KEEPER_OP_MAX)
			assert_int_equal(keeper_request_parse(bytes, sizeof(bytes), 0, &back),
					 -EPROTO);
	}
	bytes[AT_OP] = KEEPER_OP_HELLO;
	for (unsigned version = 0; version < 256; version++) {
		bytes[AT_VERSION] = version;
		assert_int_equal(keeper_request_parse(bytes, sizeof(bytes), 0, &back),
				 version == KEEPER_VERSION ? 0 : -EPROTO);
	}
}

static void test_layout(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_CLAIM);
	uint8_t bytes[KEEPER_REQUEST_SIZE];

	strcpy(request.owner, "o");
	strcpy(request.name, "n");
	request.context = 0x0807060504030201;
	request.bytes = 0x1817161514131211;
	request.uid = 0x24232221;
	keeper_request_build(&request, bytes);
	assert_memory_equal(bytes, "IOKP\3\5\2\0\1\2\3\4\5\6\7\10o", 17);
	assert_int_equal(bytes[AT_NAME], 'n');
	assert_memory_equal(bytes + AT_ADDRESSES + 16, "0000:3b:00.1", 13);
	assert_memory_equal(bytes + AT_BYTES, "\x11\x12\x13\x14\x15\x16\x17\x18", 8);
	assert_memory_equal(bytes + AT_UID, "\x21\x22\x23\x24\0\0\0\0", 8);
}

static void test_addresses(void **state)
{
	static const char *const good[] = {"0000:00:00.0", "ffff:ff:1f.7", "0001:3b:10.3"};
	static const char *const bad[] = {"",
					  "0000:00:00.8",
					  "0000:00:20.0",
					  "0000:00:00.00",
					  "000:00:00.0",
					  "0000:0A:00.0",
					  "0000-00:00.0",
					  "0000:00:00,0",
					  "0000:00:00.",
					  "../../../etc",
					  "10000:00:00.0",
					  " 000:00:00.0",
					  "0000:00:00.0/",
					  "0000:00:00.0\n"};
	struct keeper_request request = {.op = KEEPER_OP_EXAMINE, .n_addresses = 1};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		memset(request.addresses, 0, sizeof(request.addresses));
		strcpy(request.addresses[0], good[i]);
		assert_int_equal(parse(&request, 0), 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		memset(request.addresses, 0, sizeof(request.addresses));
		strcpy(request.addresses[0], bad[i]);
		assert_int_equal(parse(&request, 0), -EPROTO);
	}
	/* Not terminated, and something behind the NUL. */
	memset(request.addresses[0], '0', KEEPER_PCI_MAX);
	assert_int_equal(parse(&request, 0), -EPROTO);
	memcpy(request.addresses[0], "0000:00:00.0\0x\0", KEEPER_PCI_MAX);
	assert_int_equal(parse(&request, 0), -EPROTO);
}

static void test_counts(void **state)
{
	struct keeper_request request = {.op = KEEPER_OP_CLAIM, .context = 1};

	for (unsigned n = 0; n <= KEEPER_DEVICES_MAX; n++) {
		request.n_addresses = n;
		if (n)
			sprintf(request.addresses[n - 1], "0000:%02x:00.0", n);
		assert_int_equal(parse(&request, 0), n ? 0 : -EPROTO);
	}
	assert_int_equal(keeper_request_reply_fds(&request), KEEPER_DEVICES_MAX);
	request.n_addresses = KEEPER_DEVICES_MAX + 1;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request.n_addresses = UINT16_MAX;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request.n_addresses = KEEPER_DEVICES_MAX;
	strcpy(request.addresses[63], request.addresses[0]);
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_EXAMINE);
	strcpy(request.addresses[1], "0000:00:00.1");
	request.n_addresses = 2;
	assert_int_equal(parse(&request, 0), -EPROTO);
}

static void test_strings(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_FD_HOLD);

	memset(request.owner, 'a', KEEPER_OWNER_MAX - 1);
	memset(request.name, 'a', KEEPER_NAME_MAX - 1);
	assert_int_equal(parse(&request, 1), 0);
	request.owner[KEEPER_OWNER_MAX - 1] = 'a';
	assert_int_equal(parse(&request, 1), -EPROTO);
	request = sample(KEEPER_OP_FD_HOLD);
	memset(request.name, 'a', KEEPER_NAME_MAX);
	assert_int_equal(parse(&request, 1), -EPROTO);
	for (unsigned c = 1; c < 256; c++) {
		request = sample(KEEPER_OP_FD_HOLD);
		request.owner[1] = c;
		assert_int_equal(parse(&request, 1), c > ' ' && c <= '~' ? 0 : -EPROTO);
		request = sample(KEEPER_OP_FD_HOLD);
		request.name[1] = c;
		assert_int_equal(parse(&request, 1),
				 (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
						 (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
						 c == '-'
					 ? 0
					 : -EPROTO);
	}
}

static void test_reply(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_EXAMINE);
	struct keeper_reply reply = {
		.op = KEEPER_OP_EXAMINE,
		.device = {.pasid_bits = 20, .pasid_exec = true, .reset = true},
	};
	struct keeper_reply back;
	uint8_t bytes[KEEPER_REPLY_SIZE];

	strcpy(reply.device.driver, "nvme");
	memset(reply.device.host_use, 'x', KEEPER_REASON_MAX - 1);
	keeper_reply_build(&reply, bytes);
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), 0, &request, &back), 0);
	assert_memory_equal(&back, &reply, sizeof(back));
	/* Of another request; fds that were not to come; too short. */
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), 1, &request, &back), -EPROTO);
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes) - 1, 0, &request, &back), -EPROTO);
	request.op = KEEPER_OP_IS_FREE;
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), 0, &request, &back), -EPROTO);
	request = sample(KEEPER_OP_CLAIM);
	reply = (struct keeper_reply){.op = KEEPER_OP_CLAIM};
	keeper_reply_build(&reply, bytes);
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), 1, &request, &back), -EPROTO);
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), 2, &request, &back), 0);
	for (int status = -4097; status < 9; status++) {
		reply.status = status;
		keeper_reply_build(&reply, bytes);
		assert_int_equal(
			keeper_reply_parse(bytes, sizeof(bytes), status ? 0 : 2, &request, &back),
			status >= -4095 && status <= KEEPER_E_UNSUPPORTED ? 0 : -EPROTO);
	}
}

/* What the walks begin with, and what they do not take. */
static void test_next(void **state)
{
	struct keeper_request request = {.op = KEEPER_OP_FD_NEXT};

	assert_int_equal(parse(&request, 0), 0);
	request.name[1] = 'x'; /* none, and something behind its NUL */
	assert_int_equal(parse(&request, 0), -EPROTO);
	request.name[0] = '/';
	assert_int_equal(parse(&request, 0), -EPROTO);
	memset(request.name, 'a', KEEPER_NAME_MAX);
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_FD_NEXT);
	strcpy(request.owner, "acme");
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_FD_NEXT);
	request.context = 1;
	assert_int_equal(parse(&request, 0), -EPROTO);

	request = (struct keeper_request){.op = KEEPER_OP_CLAIM_NEXT, .context = 1};
	assert_int_equal(parse(&request, 0), 0);
	request.context = 0;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_CLAIM_NEXT);
	strcpy(request.addresses[1], "0000:3b:00.1");
	assert_int_equal(parse(&request, 0), -EPROTO);
	request.n_addresses = 2;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_CLAIM_NEXT);
	request.n_addresses = 0;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_CLAIM_NEXT);
	strcpy(request.addresses[0], "../../x");
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_CLAIM_NEXT);
	strcpy(request.name, "n");
	assert_int_equal(parse(&request, 0), -EPROTO);
}

static void test_device_take(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_DEVICE_TAKE);

	assert_int_equal(keeper_request_reply_fds(&request), 2);
	request.context = 0;
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_DEVICE_TAKE);
	strcpy(request.addresses[1], request.addresses[0]);
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = sample(KEEPER_OP_DEVICE_TAKE);
	strcpy(request.name, "n");
	assert_int_equal(parse(&request, 0), -EPROTO);
	request = (struct keeper_request){.op = KEEPER_OP_DEVICE_TAKE, .context = 1};
	for (unsigned n = 0; n <= KEEPER_DEVICES_MAX; n++) {
		request.n_addresses = n;
		if (n)
			sprintf(request.addresses[n - 1], "0000:%02x:00.0", n);
		assert_int_equal(parse(&request, 0), n ? 0 : -EPROTO);
	}
	request.n_addresses = KEEPER_DEVICES_MAX + 1;
	assert_int_equal(parse(&request, 0), -EPROTO);
}

/* A reply of zeroes, but for these. */
static int parse_name(const struct keeper_request *request, int status, const char *name)
{
	struct keeper_reply reply = {.op = request->op, .status = status}, back;
	uint8_t bytes[KEEPER_REPLY_SIZE];
	size_t n_fds = status ? 0 : keeper_request_reply_fds(request);
	int r;

	strcpy(reply.name, name);
	keeper_reply_build(&reply, bytes);
	r = keeper_reply_parse(bytes, sizeof(bytes), n_fds, request, &back);
	if (!r)
		assert_memory_equal(&back, &reply, sizeof(back));
	bytes[KEEPER_REPLY_SIZE - 1] = 'x';
	assert_int_equal(keeper_reply_parse(bytes, sizeof(bytes), n_fds, request, &back), -EPROTO);
	return r;
}

static void test_reply_name(void **state)
{
	struct keeper_request request = sample(KEEPER_OP_FD_NEXT);

	assert_int_equal(parse_name(&request, 0, "mem.10"), 0);
	assert_int_equal(parse_name(&request, 0, "mem.2"), 0);
	assert_int_equal(parse_name(&request, KEEPER_E_NOT_FOUND, ""), 0);
	assert_int_equal(parse_name(&request, KEEPER_E_NOT_FOUND, "mem.2"), -EPROTO);
	assert_int_equal(parse_name(&request, -ENOMEM, "mem.2"), -EPROTO);
	/* No name; none that is behind "mem.1". */
	assert_int_equal(parse_name(&request, 0, ""), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "n/m"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "mem.1"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "mem.0"), -EPROTO);
	request.name[0] = '\0';
	assert_int_equal(parse_name(&request, 0, "-"), 0);

	request = sample(KEEPER_OP_CLAIM_NEXT);
	assert_int_equal(parse_name(&request, 0, "0000:3b:00.1"), 0);
	assert_int_equal(parse_name(&request, KEEPER_E_NOT_FOUND, ""), 0);
	assert_int_equal(parse_name(&request, KEEPER_E_NOT_FOUND, "0000:3b:00.1"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, ""), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "mem.1"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "0000:3b:00.12"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "0000:3b:00.0"), -EPROTO);
	assert_int_equal(parse_name(&request, 0, "0000:3a:00.0"), -EPROTO);
	request.n_addresses = 0;
	memset(request.addresses, 0, sizeof(request.addresses));
	assert_int_equal(parse_name(&request, 0, "0000:00:00.0"), 0);

	for (enum keeper_op op = 1; op < _KEEPER_OP_MAX; op++) {
		if (op == KEEPER_OP_FD_NEXT || op == KEEPER_OP_CLAIM_NEXT)
			continue;
		request = sample(op);
		assert_int_equal(parse_name(&request, 0, ""), 0);
		assert_int_equal(parse_name(&request, 0, "mem.2"), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_header),	   cmocka_unit_test(test_layout),
		cmocka_unit_test(test_addresses),  cmocka_unit_test(test_counts),
		cmocka_unit_test(test_strings),	   cmocka_unit_test(test_reply),
		cmocka_unit_test(test_next),	   cmocka_unit_test(test_device_take),
		cmocka_unit_test(test_reply_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
