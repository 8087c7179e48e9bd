/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_REGISTRY_FIXTURE_H
#define IOASID_TESTS_REGISTRY_FIXTURE_H

/* A folder of its own for each test, on a tmpfs where there is one, and records to put there. */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "registry/registry.h"
#include "registry/registry_internal.h"

struct fixture {
	char folder[256];
	struct registry *registry;
	struct registry_image *image;
	struct registry_problem problem;
	/* The bodies that put() was given, in order. */
	struct {
		uint8_t bytes[512];
		size_t size;
	} bodies[32];
	size_t n_bodies;
};

extern const struct registry_boot_id test_boot;

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Opens it; options may be NULL.  0 is expected. */
void fixture_open(struct fixture *f, const struct registry_options *options);
/* Opens it and begins an empty log. */
void fixture_start(struct fixture *f, const struct registry_options *options);
void fixture_close(struct fixture *f);
/* As another process would see it; goes with the fixture. */
const struct registry_image *fixture_load(struct fixture *f);

/* Appends, with room taken for it. */
void put(struct fixture *f, uint64_t lease, const Ioasid__Registry__Batch *batch);
const struct registry_lease *lease_of(const struct registry_image *image, uint64_t serial);

/* The bytes of the log; to be freed. */
uint8_t *log_read(const struct fixture *f, const char *name, size_t *ret_size);
void log_write(const struct fixture *f, const char *name, const uint8_t *bytes, size_t size);

/* A lease with an IOASID 2, a memory 1, a mapping, a device, an attachment, a key, an intent. */
void put_whole_lease(struct fixture *f, uint64_t serial);
/* Into that lease: a VM with slot 7 at 0x40000000 in memory 1, and an IOASID of it. */
void put_vm(struct fixture *f, uint64_t serial, uint64_t vm, uint64_t ioasid);
/* Tenants, held devices, a key, the counters. */
void put_zero(struct fixture *f);

/* protobuf-c has no const members. */
#define TEXT(s) ((char *)(uintptr_t)(s))

#define BATCH(name) Ioasid__Registry__Batch name = IOASID__REGISTRY__BATCH__INIT
#define LEASE(name) Ioasid__Registry__Lease name = IOASID__REGISTRY__LEASE__INIT

#endif
