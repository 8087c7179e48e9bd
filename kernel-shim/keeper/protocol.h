/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_PROTOCOL_H
#define IOASID_KEEPER_PROTOCOL_H

/*
 * The bytes of docs/keeper-protocol.md: pure functions, no I/O, shared by both ends.
 *
 * One datagram has one size, whatever the operation: a table says which fields an operation
 * uses, and what it does not use must be zero.  So what is accepted has exactly one encoding.
 */

#include "client.h"

#define KEEPER_VERSION	    3
#define KEEPER_PCI_MAX	    16 /* "0000:3b:00.0" and zeroes, on the wire */
#define KEEPER_DRIVER_MAX   32
#define KEEPER_REQUEST_SIZE 1376
#define KEEPER_REPLY_SIZE   448

/* On the wire; 0 is none. */
enum keeper_op {
	KEEPER_OP_HELLO = 1,
	KEEPER_OP_CONTEXT_OPEN,
	KEEPER_OP_CONTEXT_CLOSE,
	KEEPER_OP_CONTEXT_NEXT,
	KEEPER_OP_CLAIM,
	KEEPER_OP_RELEASE,
	KEEPER_OP_IS_FREE,
	KEEPER_OP_EXAMINE,
	KEEPER_OP_FD_HOLD,
	KEEPER_OP_FD_TAKE,
	KEEPER_OP_FD_DROP,
	KEEPER_OP_CONTEXT_TAKE,
	KEEPER_OP_FD_NEXT,
	KEEPER_OP_DEVICE_TAKE,
	KEEPER_OP_CLAIM_NEXT,
	KEEPER_OP_CONTEXT_DELEGATE,
	KEEPER_OP_HOLDER_END,
	_KEEPER_OP_MAX,
};

/* Strings are terminated and zero behind their NUL. */
struct keeper_request {
	enum keeper_op op;
	uint16_t n_addresses;
	uint64_t context;
	char owner[KEEPER_OWNER_MAX];
	char name[KEEPER_NAME_MAX];
	char addresses[KEEPER_DEVICES_MAX][KEEPER_PCI_MAX];
	uint64_t bytes;
	uint32_t uid;
};

struct keeper_reply {
	enum keeper_op op;
	/* 0, a KEEPER_E_* or -errno; what follows is zero where it is not 0, but for reason. */
	int32_t status;
	uint64_t context;
	char reason[KEEPER_REASON_MAX];
	struct keeper_device device;
	/* FD_NEXT: of a held fd; CLAIM_NEXT: an address. */
	char name[KEEPER_NAME_MAX];
};

/* "dddd:bb:dd.f", hex digits in lower case; nothing else may become part of a path. */
bool keeper_address_is_valid(const char *address);

/*
 * 0, or -EPROTO: not exactly what the document says.  n_fds: how many came with it.  A
 * request says how many fds its success is answered with.
 */
int keeper_request_parse(const uint8_t *bytes, size_t size, size_t n_fds,
			 struct keeper_request *ret_request);
void keeper_request_build(const struct keeper_request *request,
			  uint8_t ret_bytes[static KEEPER_REQUEST_SIZE]);
size_t keeper_request_reply_fds(const struct keeper_request *request);

int keeper_reply_parse(const uint8_t *bytes, size_t size, size_t n_fds,
		       const struct keeper_request *request, struct keeper_reply *ret_reply);
void keeper_reply_build(const struct keeper_reply *reply,
			uint8_t ret_bytes[static KEEPER_REPLY_SIZE]);

#endif
