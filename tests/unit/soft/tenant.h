/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_SOFT_TENANT_H
#define IOASID_TEST_SOFT_TENANT_H

/*
 * A tenant that writes page tables into its memory, entry by entry by the manuals' layouts
 * and not by the shim's own builder.  Its memory lies in the parent at BASE, so an address
 * that was not translated leads nowhere; tables are taken from TABLES on.
 */

#include "fixture.h"

#include "soft/guard.h"

#include <signal.h>
#include <stdatomic.h>

#define BASE   (3ull << 30)
#define TABLES 0x100000ull /* offset in the memory */

/* x86-64: P, R/W, U/S, A, D, PS, EA, XD. */
#define P  (1ull << 0)
#define W  (1ull << 1)
#define U  (1ull << 2)
#define A  (1ull << 5)
#define D  (1ull << 6)
#define PS (1ull << 7)
#define EA (1ull << 10)
#define XD (1ull << 63)

/* VT-d second stage: A and D lie elsewhere. */
#define SS_R (1ull << 0)
#define SS_W (1ull << 1)
#define SS_A (1ull << 8)
#define SS_D (1ull << 9)

/*
 * cmocka takes SIGBUS and SIGSEGV for itself while a test runs: main() keeps the guard's
 * handlers, and a test that makes memory vanish puts them back.
 */
static struct sigaction tenant_guard[2];

static inline void tenant_guard_keep(void)
{
	assert_int_equal(soft_guard_init(), 0);
	sigaction(SIGBUS, NULL, &tenant_guard[0]);
	sigaction(SIGSEGV, NULL, &tenant_guard[1]);
}

static inline void tenant_guard_arm(void)
{
	sigaction(SIGBUS, &tenant_guard[0], NULL);
	sigaction(SIGSEGV, &tenant_guard[1], NULL);
}

struct tenant {
	struct fixture *f;
	uint64_t base; /* where its memory begins in the address space that it writes for */
	unsigned int levels;
	uint64_t table_bits; /* of an entry that leads to a table */
	uint64_t root;	     /* address, as the tenant sees it */
	uint64_t next;	     /* offset of the next free page */
};

/* The entry at an address of the tenant's; its own mapping of the memory. */
static inline _Atomic uint64_t *tenant_at(const struct tenant *t, uint64_t address)
{
	assert_true(address >= t->base && address - t->base < t->f->length);
	return (_Atomic uint64_t *)(t->f->bytes + (address - t->base));
}

static inline uint64_t tenant_page(struct tenant *t)
{
	uint64_t offset = t->next;

	t->next += K4;
	assert_true(t->next <= t->f->length);
	memset(t->f->bytes + offset, 0, K4);
	return t->base + offset;
}

static inline struct tenant tenant_new(struct fixture *f, uint64_t base, enum shim_format format,
				       uint64_t tables)
{
	struct tenant t = {.f = f, .base = base, .next = tables};

	t.levels = format == SHIM_FORMAT_X86_64_5L || format == SHIM_FORMAT_VTDSS_5L ? 5
		   : format == SHIM_FORMAT_VTDSS_3L				     ? 3
										     : 4;
	t.table_bits =
		format == SHIM_FORMAT_X86_64_4L || format == SHIM_FORMAT_X86_64_5L ? P | W | U : 3;
	t.root = tenant_page(&t);
	return t;
}

static inline unsigned int tenant_index(unsigned int level, uint64_t iova)
{
	return iova >> (12 + 9 * (level - 1)) & 511;
}

/* The entry of this level for the iova; tables above it are made where there are none. */
static inline _Atomic uint64_t *tenant_entry(struct tenant *t, unsigned int level, uint64_t iova)
{
	uint64_t table = t->root;

	for (unsigned int l = t->levels; l > level; l--) {
		_Atomic uint64_t *entry = tenant_at(t, table + tenant_index(l, iova) * 8ull);

		if (!*entry)
			*entry = tenant_page(t) | t->table_bits;
		table = *entry & 0x000ffffffffff000ull;
	}
	return tenant_at(t, table + tenant_index(level, iova) * 8ull);
}

/* Whole entry: address and bits. */
static inline void tenant_set(struct tenant *t, unsigned int level, uint64_t iova, uint64_t entry)
{
	*tenant_entry(t, level, iova) = entry;
}

static inline int tenant_try_create(struct fixture *f, struct shim_pt_spec spec, char *ret_reason,
				    struct shim_pt **ret_pt)
{
	spec.kind = SHIM_KIND_USER;
	return shim_pt_create(f->ctx, &spec, ret_reason, ret_pt);
}

static inline struct shim_pt *tenant_pt(struct fixture *f, enum shim_format format,
					struct shim_pt *parent, const struct shim_table *table)
{
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;
	int r = tenant_try_create(
		f, (struct shim_pt_spec){.format = format, .parent = parent, .table = table},
		reason, &pt);

	if (r)
		fail_msg("%d: %s", r, reason);
	return pt;
}

static inline void tenant_bind(struct shim_pt *pt, uint64_t root, uint32_t flags)
{
	char reason[SHIM_REASON_MAX] = "";
	int r = shim_pt_bind_table(pt, &(struct shim_table){.root = root, .flags = flags}, reason);

	if (r)
		fail_msg("%d: %s", r, reason);
}

#endif
