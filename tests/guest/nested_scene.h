/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of nested DMA through ioasidd have in common: a tenant with a parent that maps all
 * its pages at GPA, stage-1 tables in those pages, and a device below them.
 *
 * What the device reaches at an address is found out by letting it read there and write what it
 * has read to the page OUT: bytes are compared, never a status.  Both tenants have the same
 * addresses, ASIDs and layout; only their data differ.
 */
#ifndef TESTS_GUEST_NESTED_SCENE_H
#define TESTS_GUEST_NESTED_SCENE_H

#include "director.h"
#include "smmuv3.h"

#define RW   (IOASID_READ | IOASID_WRITE)
#define GPA  UINT64_C(0x100000000) /* of page 0 in the parent */
#define IOVA UINT64_C(0x40000000)
/* The same tables once more, where 39 bits are needed, and where they do not suffice. */
#define IOVA_HIGH   (UINT64_C(0x4000000000) + IOVA)
#define IOVA_BEYOND (UINT64_C(0x8000000000) + IOVA)
#define BITS	    39u
#define ASID	    7u /* of tenants' own descriptors */

/* Pages. */
enum {
	CD,
	L0,
	L1,
	L2,
	L3,
	OTHER_L1,
	OTHER_L2,
	OTHER_L3,
	DOORBELL_L2,
	OUT,
	A,
	B,
	C,
	D,
	SPARE,
	TARGET,
};

/* Entries of the last table, one page of IOVA each. */
enum {
	AT_OUT,
	AT_X,
	AT_TARGET,
	AT_OUTSIDE,
	AT_RO,
	AT_MISSING,
	AT_PARENT_RO,
	AT_DESCRIPTORS,
	AT_DOORBELL,
};

/* What reaches() may return beside a page. */
#define NOTHING	  (-1) /* the device has read zeros */
#define UNTOUCHED (-2) /* OUT could not be written */
#define GARBAGE	  (-3)

/* Of OUT's bytes before the device writes there. */
#define UNTOUCHED_SEED 1

struct nested_tenant {
	struct actor actor;
	const char *device;
	uint64_t seed;
	uint64_t memory, parent, user;
};

static inline uint64_t gpa(unsigned page)
{
	return GPA + (uint64_t)page * ACTOR_PAGE;
}

static inline uint64_t iova(unsigned entry)
{
	return IOVA + (uint64_t)entry * ACTOR_PAGE;
}

/* With attribute 1: what the broker's descriptors call write-back, and the tests' own, too. */
static inline uint64_t leaf_at(uint64_t address, uint64_t prot)
{
	return smmu_leaf(address, prot) | 1u << 2;
}

static inline uint64_t leaf(unsigned page, uint64_t prot)
{
	return leaf_at(gpa(page), prot);
}

/* Connects, claims, makes memory with tables, and the parent; opens the device. */
void nested_open(struct nested_tenant *t, unsigned uid, const char *socket, const char *device,
		 uint64_t seed);
/* All pages at GPA, and SPARE once more behind them, read-only. */
void nested_map(struct nested_tenant *t);
/* Gives all back; its counters are for the caller to look at. */
void nested_close(struct nested_tenant *t);

void set_word(struct nested_tenant *t, unsigned page, unsigned index, uint64_t value);
/* An entry of the last table. */
void set_entry(struct nested_tenant *t, unsigned table, unsigned entry, uint64_t value);
/* AT_X leads to that page. */
void move_x(struct nested_tenant *t, unsigned page);
/* The tenant's own descriptor, of 39 bits. */
void set_cd(struct nested_tenant *t, unsigned root, uint16_t asid);

/* A page of data, or one of the above. */
int reaches_at(struct nested_tenant *t, uint64_t address);
void reach_at(struct nested_tenant *t, uint64_t address, int wanted, const char *name);
void reach(struct nested_tenant *t, unsigned entry, int wanted, const char *name);
/* The device writes page A's bytes, which it reads at AT_X, to an entry's address. */
void write_at(struct nested_tenant *t, unsigned entry);
/* Page has the bytes of the page of data, or has not. */
bool page_is(struct nested_tenant *t, unsigned page, unsigned data);

void invalidate_all(struct nested_tenant *t);
/* Nothing is waiting any more. */
void drop_faults(struct nested_tenant *t);
/* The next fault is the tenant's own, of its IOASID and device. */
void faulted(struct nested_tenant *t, enum ioasid_fault_cause cause, uint64_t address,
	     const char *name);

#endif
