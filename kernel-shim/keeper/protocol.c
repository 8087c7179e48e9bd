/* SPDX-License-Identifier: Apache-2.0 */
/* Parser and builder of the keeper's datagrams, docs/keeper-protocol.md. */
#include "protocol.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static const char magic[4] = {'I', 'O', 'K', 'P'};

/* The datagrams as they travel: little-endian, no holes. */
struct wire_request {
	char magic[4];
	uint8_t version;
	uint8_t op;
	uint16_t n_addresses;
	uint64_t context;
	char owner[KEEPER_OWNER_MAX];
	char name[KEEPER_NAME_MAX];
	char addresses[KEEPER_DEVICES_MAX][KEEPER_PCI_MAX];
	uint64_t bytes;
	uint32_t uid;
	uint32_t reserved;
};

struct wire_reply {
	char magic[4];
	uint8_t version;
	uint8_t op;
	uint16_t reserved;
	uint32_t status;
	uint32_t reserved2;
	uint64_t context;
	uint8_t pasid_bits;
	uint8_t flags;
	uint8_t reserved3[6];
	char reason[KEEPER_REASON_MAX];
	char driver[KEEPER_DRIVER_MAX];
	char host_use[KEEPER_REASON_MAX];
	char name[KEEPER_NAME_MAX];
};

_Static_assert(sizeof(struct wire_request) == KEEPER_REQUEST_SIZE, "docs/keeper-protocol.md");
_Static_assert(sizeof(struct wire_reply) == KEEPER_REPLY_SIZE, "docs/keeper-protocol.md");

enum {
	FLAG_PASID_EXEC = 1,
	FLAG_ATS = 2,
	FLAG_PRI = 4,
	FLAG_RESET = 8,
	FLAGS_ALL = 15,
	PASID_BITS_MAX = 20,
};

enum use {
	UNUSED,
	USED,
	OPTIONAL, /* zero: from the first */
};

/* Which fields an operation uses; all others are zero. */
static const struct rule {
	enum use context;
	enum use name;
	bool owner;
	bool bytes; /* and uid, which may be 0 */
	uint8_t min_addresses;
	uint8_t max_addresses;
	uint8_t fds;	   /* with the request */
	uint8_t reply_fds; /* with a successful reply */
	bool fd_each;	   /* instead: as many as its addresses */
} rules[_KEEPER_OP_MAX] = {
	[KEEPER_OP_HELLO] = {0},
	[KEEPER_OP_CONTEXT_OPEN] = {.owner = true, .reply_fds = 1},
	[KEEPER_OP_CONTEXT_CLOSE] = {.context = USED},
	[KEEPER_OP_CONTEXT_NEXT] = {.context = OPTIONAL},
	[KEEPER_OP_CLAIM] = {.context = USED,
			     .min_addresses = 1,
			     .max_addresses = KEEPER_DEVICES_MAX,
			     .fd_each = true},
	[KEEPER_OP_RELEASE] = {.context = USED,
			       .min_addresses = 1,
			       .max_addresses = KEEPER_DEVICES_MAX},
	[KEEPER_OP_IS_FREE] = {.min_addresses = 1, .max_addresses = 1},
	[KEEPER_OP_EXAMINE] = {.min_addresses = 1, .max_addresses = 1},
	[KEEPER_OP_FD_HOLD] = {.owner = true, .name = USED, .fds = 1},
	[KEEPER_OP_FD_TAKE] = {.name = USED, .reply_fds = 1},
	[KEEPER_OP_FD_DROP] = {.name = USED},
	[KEEPER_OP_CONTEXT_TAKE] = {.context = USED, .reply_fds = 1},
	[KEEPER_OP_FD_NEXT] = {.name = OPTIONAL},
	[KEEPER_OP_DEVICE_TAKE] = {.context = USED,
				   .min_addresses = 1,
				   .max_addresses = KEEPER_DEVICES_MAX,
				   .fd_each = true},
	[KEEPER_OP_CLAIM_NEXT] = {.context = USED, .max_addresses = 1},
	[KEEPER_OP_CONTEXT_DELEGATE] = {.context = USED, .bytes = true, .fds = 1},
	[KEEPER_OP_HOLDER_END] = {.owner = true, .fds = 1},
};

bool keeper_address_is_valid(const char *address)
{
	static const char shape[] = "xxxx:xx:xx.7";

	for (size_t i = 0; i < sizeof(shape); i++) {
		char c = address[i];
		bool good = c == shape[i];

		if (shape[i] == 'x')
			good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
		else if (shape[i] == '7')
			good = c >= '0' && c <= '7';
		if (!good)
			return false;
	}
	/* A bus has 32 devices. */
	return address[8] <= '1';
}

static bool is_zero(const void *bytes, size_t size)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < size; i++)
		if (p[i])
			return false;
	return true;
}

/* A NUL inside, and nothing behind it. */
static bool string_is_valid(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	return length < size && is_zero(text + length, size - length);
}

/* Whatever is written into logs and the state file: no blank, no control character. */
static bool owner_is_valid(const char *owner)
{
	if (!string_is_valid(owner, KEEPER_OWNER_MAX) || !*owner)
		return false;
	for (; *owner; owner++)
		if (*owner <= ' ' || *owner > '~')
			return false;
	return true;
}

static bool name_is_valid(const char *name)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				       "0123456789._-";

	return string_is_valid(name, KEEPER_NAME_MAX) && *name &&
	       strspn(name, alphabet) == strlen(name);
}

static bool addresses_are_valid(const struct keeper_request *request)
{
	for (size_t i = 0; i < request->n_addresses; i++) {
		const char *address = request->addresses[i];

		if (!string_is_valid(address, KEEPER_PCI_MAX) || !keeper_address_is_valid(address))
			return false;
		for (size_t j = 0; j < i; j++)
			if (!strcmp(address, request->addresses[j]))
				return false;
	}
	return is_zero((const char *)request->addresses + request->n_addresses * KEEPER_PCI_MAX,
		       (KEEPER_DEVICES_MAX - request->n_addresses) * KEEPER_PCI_MAX);
}

static bool use_is_kept(enum use use, bool present)
{
	return use == OPTIONAL || present == (use == USED);
}

int keeper_request_parse(const uint8_t *bytes, size_t size, size_t n_fds,
			 struct keeper_request *ret_request)
{
	struct keeper_request request = {0};
	struct wire_request wire;
	const struct rule *rule;
	bool named;

	if (size != sizeof(wire))
		return -EPROTO;
	memcpy(&wire, bytes, sizeof(wire));
	if (memcmp(wire.magic, magic, sizeof(magic)) || wire.version != KEEPER_VERSION ||
	    wire.op == 0 || wire.op >= _KEEPER_OP_MAX)
		return -EPROTO;
	rule = &rules[wire.op];
	request.op = wire.op;
	request.n_addresses = le16toh(wire.n_addresses);
	request.context = le64toh(wire.context);
	request.bytes = le64toh(wire.bytes);
	request.uid = le32toh(wire.uid);
	memcpy(request.owner, wire.owner, sizeof(wire.owner));
	memcpy(request.name, wire.name, sizeof(wire.name));
	memcpy(request.addresses, wire.addresses, sizeof(wire.addresses));

	if (n_fds != rule->fds || request.n_addresses < rule->min_addresses ||
	    request.n_addresses > rule->max_addresses)
		return -EPROTO;
	if (!use_is_kept(rule->context, request.context != 0) ||
	    rule->bytes != (request.bytes != 0) || (request.uid && !rule->bytes) || wire.reserved)
		return -EPROTO;
	if (rule->owner ? !owner_is_valid(request.owner)
			: !is_zero(request.owner, sizeof(request.owner)))
		return -EPROTO;
	named = !is_zero(request.name, sizeof(request.name));
	if (!use_is_kept(rule->name, named) || (named && !name_is_valid(request.name)))
		return -EPROTO;
	if (!addresses_are_valid(&request))
		return -EPROTO;
	*ret_request = request;
	return 0;
}

void keeper_request_build(const struct keeper_request *request,
			  uint8_t ret_bytes[static KEEPER_REQUEST_SIZE])
{
	struct wire_request wire = {
		.version = KEEPER_VERSION,
		.op = request->op,
		.n_addresses = htole16(request->n_addresses),
		.context = htole64(request->context),
		.bytes = htole64(request->bytes),
		.uid = htole32(request->uid),
	};

	memcpy(wire.magic, magic, sizeof(magic));
	memcpy(wire.owner, request->owner, sizeof(wire.owner));
	memcpy(wire.name, request->name, sizeof(wire.name));
	memcpy(wire.addresses, request->addresses, sizeof(wire.addresses));
	memcpy(ret_bytes, &wire, sizeof(wire));
}

size_t keeper_request_reply_fds(const struct keeper_request *request)
{
	const struct rule *rule = &rules[request->op];

	return rule->fd_each ? request->n_addresses : rule->reply_fds;
}

/*
 * What the client puts into a caller's buffer, and asks for the next one with.  One that is
 * not behind what was asked for would make it walk in circles.
 */
static bool reply_name_is_valid(const struct keeper_request *request, const struct wire_reply *wire)
{
	if (wire->status)
		return is_zero(wire->name, sizeof(wire->name));
	switch (request->op) {
	case KEEPER_OP_FD_NEXT:
		return name_is_valid(wire->name) && strcmp(wire->name, request->name) > 0;
	case KEEPER_OP_CLAIM_NEXT:
		return string_is_valid(wire->name, sizeof(wire->name)) &&
		       keeper_address_is_valid(wire->name) &&
		       strcmp(wire->name, request->addresses[0]) > 0;
	default:
		return is_zero(wire->name, sizeof(wire->name));
	}
}

int keeper_reply_parse(const uint8_t *bytes, size_t size, size_t n_fds,
		       const struct keeper_request *request, struct keeper_reply *ret_reply)
{
	struct keeper_reply reply = {0};
	struct wire_reply wire;

	if (size != sizeof(wire))
		return -EPROTO;
	memcpy(&wire, bytes, sizeof(wire));
	if (memcmp(wire.magic, magic, sizeof(magic)) || wire.version != KEEPER_VERSION ||
	    wire.op != request->op || wire.reserved || wire.reserved2 ||
	    !is_zero(wire.reserved3, sizeof(wire.reserved3)) || (wire.flags & ~FLAGS_ALL) ||
	    wire.pasid_bits > PASID_BITS_MAX ||
	    !string_is_valid(wire.reason, sizeof(wire.reason)) ||
	    !string_is_valid(wire.driver, sizeof(wire.driver)) ||
	    !string_is_valid(wire.host_use, sizeof(wire.host_use)) ||
	    !reply_name_is_valid(request, &wire))
		return -EPROTO;
	reply.op = wire.op;
	reply.status = (int32_t)le32toh(wire.status);
	reply.context = le64toh(wire.context);
	if (reply.status > KEEPER_E_UNSUPPORTED || reply.status < -4095 ||
	    n_fds != (reply.status ? 0 : keeper_request_reply_fds(request)))
		return -EPROTO;
	memcpy(reply.reason, wire.reason, sizeof(wire.reason));
	reply.device.pasid_bits = wire.pasid_bits;
	reply.device.pasid_exec = wire.flags & FLAG_PASID_EXEC;
	reply.device.ats = wire.flags & FLAG_ATS;
	reply.device.pri = wire.flags & FLAG_PRI;
	reply.device.reset = wire.flags & FLAG_RESET;
	memcpy(reply.device.driver, wire.driver, sizeof(wire.driver));
	memcpy(reply.device.host_use, wire.host_use, sizeof(wire.host_use));
	memcpy(reply.name, wire.name, sizeof(wire.name));
	*ret_reply = reply;
	return 0;
}

/* Both buffers have size bytes; what lies behind the NUL does not travel. */
static void string_copy(char *to, const char *from, size_t size)
{
	memcpy(to, from, strnlen(from, size - 1));
}

void keeper_reply_build(const struct keeper_reply *reply,
			uint8_t ret_bytes[static KEEPER_REPLY_SIZE])
{
	const struct keeper_device *device = &reply->device;
	struct wire_reply wire = {
		.version = KEEPER_VERSION,
		.op = reply->op,
		.status = htole32((uint32_t)reply->status),
		.context = htole64(reply->context),
		.pasid_bits = device->pasid_bits,
		.flags = (device->pasid_exec ? FLAG_PASID_EXEC : 0) | (device->ats ? FLAG_ATS : 0) |
			 (device->pri ? FLAG_PRI : 0) | (device->reset ? FLAG_RESET : 0),
	};

	memcpy(wire.magic, magic, sizeof(magic));
	string_copy(wire.reason, reply->reason, sizeof(wire.reason));
	string_copy(wire.driver, device->driver, sizeof(wire.driver));
	string_copy(wire.host_use, device->host_use, sizeof(wire.host_use));
	string_copy(wire.name, reply->name, sizeof(wire.name));
	memcpy(ret_bytes, &wire, sizeof(wire));
}
