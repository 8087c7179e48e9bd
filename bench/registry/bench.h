/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BENCH_REGISTRY_H
#define IOASID_BENCH_REGISTRY_H

/*
 * What is measured (objects.c), and the stores that it is measured on.  A store keeps records, as
 * packed by protobuf-c, so that a process that is killed loses none that was committed; nothing is
 * synced, for all of them are on a tmpfs.
 */

#include "registry/registry.h"

#include <stdbool.h>

enum kind {
	KIND_LEASE,
	KIND_IOASID,
	KIND_MAPPING,
	KIND_KEY,
	KIND_INTENT,
};

struct record {
	uint64_t lease;
	enum kind kind;
	uint64_t a, b;			 /* its key in the lease */
	const ProtobufCMessage *message; /* NULL: goes */
};

struct store {
	const char *name;
	void *(*open)(const char *folder);
	/* One transaction; all records are of one lease. */
	void (*apply)(void *store, const struct record *records, size_t n);
	void (*close)(void *store);
	/* Opens it anew and unpacks everything, as a start does.  Objects read. */
	size_t (*load)(const char *folder);
	/* Bytes of its files that hold data. */
	uint64_t (*bytes)(const char *folder);
};

extern const struct store store_log, store_lmdb, store_sqlite;

/* The two transactions of the n-th Alloc: its intent; its result, which takes the intent away. */
struct alloc {
	struct record intent[1];
	struct record result[3];
	Ioasid__Registry__Intent intent_message;
	Ioasid__Registry__Ioasid ioasid;
	Ioasid__Registry__Key key;
	char *devices[1];
	char key_text[40];
	uint8_t answer[48];
};
void alloc_make(uint64_t n, struct alloc *ret);

/* The n-th of the objects: 1000 leases of 1 lease record, 10 IOASIDs and 989 mappings. */
#define OBJECTS_PER_LEASE 1000u
struct object {
	struct record record;
	Ioasid__Registry__Lease lease;
	Ioasid__Registry__Ioasid ioasid;
	Ioasid__Registry__Mapping mapping;
};
void object_make(uint64_t n, struct object *ret);

/* The record's message, unpacked and freed again, by one that can. */
void object_unpack(enum kind kind, const uint8_t *bytes, size_t size);

void must(bool ok, const char *what);
uint64_t file_bytes(const char *folder, const char *name);

#endif
