/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested DMA behind an SMMUv3 through ioasidd and the keeper: two tenants without privilege write
 * stage-1 tables of 39 bits, and each case compares bytes.
 *
 *	nested_tenants TENANTS-SOCKET ADMIN-SOCKET EDU EDU
 *
 * ana does most; bob has the same addresses, tables and ASIDs and must notice nothing.
 */
#include "nested_scene.h"

#define DOORBELL UINT64_C(0x8000000) /* where Linux puts it in every parent */

static struct nested_tenant ana, bob;

static int64_t alloc(struct nested_tenant *t, unsigned bits, unsigned root)
{
	return DO(&t->actor, ACT_ALLOC_USER, .text = t->device, .a = t->parent, .b = bits,
		  .c = root ? gpa(root) : 0);
}

static int64_t bind(struct nested_tenant *t, unsigned page)
{
	return DO(&t->actor, ACT_BIND_TABLE, .a = t->user, .b = gpa(page));
}

static int64_t bind_cds(struct nested_tenant *t, unsigned page)
{
	return DO(&t->actor, ACT_BIND_CDS, .a = t->user, .b = gpa(page));
}

static int64_t native(struct nested_tenant *t, const char *words)
{
	return DO(&t->actor, ACT_NATIVE, .a = t->user, .text = words);
}

static void widths(struct nested_tenant *t)
{
	expect(alloc(t, 24, 0), -EBUSY, "tables of 24 bits are refused");
	expect(alloc(t, 49, 0), -EBUSY, "tables of 49 bits are refused");
	t->user = (uint64_t)must(alloc(t, BITS, 0), "a table of 39 bits");
	expect(DO(&t->actor, ACT_WIDTH, .a = t->user), BITS, "it has 39 bits");
}

static void both_stages(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_ATTACH, .text = t->device, .a = t->user), "attach, nothing bound");
	reach(t, AT_X, UNTOUCHED, "nothing bound: nothing is reached");
	expect(bind(t, L1), 0, "bind a table whose root is of level 1");
	reach(t, AT_X, A, "a read goes through both stages");
	reach_at(t, IOVA_HIGH + AT_X * ACTOR_PAGE, A, "with bit 38 set, too");
	write_at(t, AT_TARGET);
	report(page_is(t, TARGET, A), "a write goes through both stages", "bytes differ");
	reach_at(t, IOVA_BEYOND + AT_X * ACTOR_PAGE, UNTOUCHED, "bit 39 is beyond the table");
}

/* The same leaves below a root of level 0, and below one of two entries. */
static void other_widths(struct nested_tenant *t)
{
	uint64_t wide = (uint64_t)must(alloc(t, 0, L0), "a table of the widest");
	uint64_t narrow = (uint64_t)must(alloc(t, 31, L1), "a table of 31 bits");
	uint64_t x = AT_X * ACTOR_PAGE;

	expect(DO(&t->actor, ACT_WIDTH, .a = wide), 48, "the widest has 48 bits");
	must(DO(&t->actor, ACT_REPLACE, .text = t->device, .a = wide), "replace");
	reach(t, AT_X, A, "48 bits: a read goes through");
	reach_at(t, IOVA_BEYOND + x, A, "48 bits: bit 39 is not beyond it");
	must(DO(&t->actor, ACT_REPLACE, .text = t->device, .a = narrow), "replace");
	reach(t, AT_X, A, "31 bits: a read goes through");
	reach_at(t, IOVA_HIGH + x, UNTOUCHED, "31 bits: bit 38 is beyond it");
	must(DO(&t->actor, ACT_REPLACE, .text = t->device, .a = t->user), "replace");
	reach(t, AT_X, A, "39 bits again");
	must(DO(&t->actor, ACT_FREE, .a = wide), "free");
	must(DO(&t->actor, ACT_FREE, .a = narrow), "free");
}

static void stale(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	move_x(t, B);
	reach(t, AT_X, A, "a changed entry is stale");
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_RANGE, .c = iova(AT_RO),
		  .d = ACTOR_PAGE, .e = true),
	       1, "invalidate another page");
	reach(t, AT_X, A, "stale still");
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_RANGE, .c = iova(AT_X),
		  .d = ACTOR_PAGE, .e = true),
	       1, "invalidate its own, leaf");
	reach(t, AT_X, B, "fresh");
	/* A table page in place of another one. */
	set_word(t, L2, smmu_index(IOVA, 2), smmu_table(gpa(OTHER_L3)));
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_RANGE, .c = IOVA,
		  .d = 512 * ACTOR_PAGE),
	       1, "invalidate a range of 512 pages");
	reach(t, AT_X, D, "fresh, of the other table page");
	set_word(t, L2, smmu_index(IOVA, 2), smmu_table(gpa(L3)));
	move_x(t, A);
	invalidate_all(t);
	reach(t, AT_X, A, "fresh");
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_RANGE, .c = IOVA_BEYOND,
		  .d = ACTOR_PAGE),
	       -ACTOR_REFUSED, "a range beyond 39 bits is refused");
}

static void native_commands(struct nested_tenant *t)
{
	move_x(t, B);
	expect(native(t, "10 0 3 1 10 0"), -ACTOR_REFUSED - 1,
	       "TLBI_NH_ALL, CFGI_STE, TLBI_NH_ALL: one is done");
	reach(t, AT_X, B, "it made the entry fresh");
	move_x(t, A);
	expect(native(t, "3 1 10 0"), -ACTOR_REFUSED, "CFGI_STE first: nothing is done");
	reach(t, AT_X, B, "it is stale");
	/* ASID 7 is not that of a bound table. */
	expect(native(t, "7000000000011 0"), 1, "TLBI_NH_ASID of another ASID");
	reach(t, AT_X, B, "leaves it stale");
	expect(native(t, "777700000005 1 10 0"), -ACTOR_REFUSED,
	       "CFGI_CD of an unknown stream: nothing is done");
	reach(t, AT_X, B, "leaves it stale");
	expect(native(t, "10 0 30 0 10 0"), 3, "three good ones");
	reach(t, AT_X, A, "fresh");
}

static void events(struct nested_tenant *t, struct nested_tenant *other)
{
	drop_faults(t);
	drop_faults(other);
	reach(t, AT_MISSING, NOTHING, "an entry that is not there");
	faulted(t, IOASID_FAULT_NOT_PRESENT, iova(AT_MISSING), "is reported to its tenant");
	write_at(t, AT_RO);
	report(page_is(t, C, C), "a write through a read-only entry is blocked", "bytes differ");
	faulted(t, IOASID_FAULT_PERMISSION, iova(AT_RO), "is reported to its tenant");
	expect(DO(&other->actor, ACT_DROP_FAULTS, .a = 300), 0, "nothing of it to the other");
}

/* What the parent does not have, or not for writing. */
static void beyond_the_parent(struct nested_tenant *t)
{
	uint64_t keep = smmu_table(gpa(L2)), outside = gpa(ACTOR_PAGES + 4);

	reach(t, AT_OUTSIDE, NOTHING, "a leaf to an address that the parent lacks is blocked");
	must(DO(&t->actor, ACT_FILL, .a = SPARE, .b = 77), "fill");
	write_at(t, AT_PARENT_RO);
	expect(DO(&t->actor, ACT_COMPARE, .a = SPARE, .b = 77), 0,
	       "a write where the parent is read-only is blocked");
	must(DO(&t->actor, ACT_FILL, .a = SPARE, .b = t->seed + B), "fill");
	reach(t, AT_PARENT_RO, B, "a read is not");
	set_word(t, L1, smmu_index(IOVA, 1), smmu_table(outside));
	invalidate_all(t);
	reach(t, AT_X, UNTOUCHED, "a table at an address that the parent lacks");
	set_word(t, L1, smmu_index(IOVA, 1), keep);
	expect(DO(&t->actor, ACT_BIND_TABLE, .a = t->user, .b = outside), 0,
	       "a root at such an address can be bound");
	reach(t, AT_X, UNTOUCHED, "and reaches nothing");
	expect(DO(&t->actor, ACT_BIND_CDS, .a = t->user, .b = outside), 0,
	       "a descriptor there, too");
	reach(t, AT_X, UNTOUCHED, "and reaches nothing");
	expect(DO(&t->actor, ACT_BIND_TABLE, .a = t->user, .b = UINT64_C(1) << 44), -EINVAL,
	       "a root beyond the parent's width is refused");
	expect(bind(t, L1), 0, "the good one");
	reach(t, AT_X, A, "lets it through");
}

static void parent_unmapped(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_UNMAP_ALL, .a = t->parent), "unmap");
	reach(t, AT_X, UNTOUCHED, "the parent is unmapped: blocked at once");
	report(page_is(t, A, A) && page_is(t, B, B), "and nothing is written", "bytes differ");
	nested_map(t);
	reach(t, AT_X, A, "mapped again: lets it through");
}

/* Of tables of its own, in the tenant's own descriptors: with nothing of the broker's. */
static void descriptors(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	set_cd(t, L1, ASID);
	expect(bind_cds(t, CD), 0, "bind a table of one descriptor");
	reach(t, AT_X, A, "a read goes through it");
	set_cd(t, OTHER_L1, ASID + 1);
	invalidate_all(t);
	reach(t, AT_X, A, "a changed descriptor is stale");
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_PASID_CACHE), 1,
	       "invalidate descriptors");
	reach(t, AT_X, D, "fresh");
	drop_faults(t);
	set_word(t, CD, 0, 0);
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_PASID_CACHE), 1,
	       "a descriptor without V");
	reach(t, AT_X, UNTOUCHED, "blocks everything");
	faulted(t, IOASID_FAULT_BAD_ENTRY, 0, "and is reported");
	set_cd(t, L1, ASID);
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_PASID_CACHE), 1,
	       "a good one");
	reach(t, AT_X, A, "lets it through");
}

/* The same ASID, IOVA and addresses; both with descriptors of their own. */
static void apart(struct nested_tenant *t, struct nested_tenant *other)
{
	struct actor *o = &other->actor;

	other->user = (uint64_t)must(alloc(other, BITS, 0), "the other's table");
	must(DO(o, ACT_ATTACH, .text = other->device, .a = other->user), "attach");
	set_cd(other, L1, ASID);
	expect(bind_cds(other, CD), 0, "the other's descriptor, with the same ASID");
	reach(other, AT_X, A, "the same IOVA leads to the other's own page");
	reach(t, AT_X, A, "and here to this one's");
	move_x(t, B);
	move_x(other, B);
	expect(native(other, "7000000000012 40001000 7000000000011 0 10 0 30 0"), 4,
	       "the other invalidates this address, the ASID, and all");
	invalidate_all(other);
	expect(DO(o, ACT_INVALIDATE, .a = other->user, .b = IOASID_GRANULARITY_PASID_CACHE), 1,
	       "and descriptors");
	reach(other, AT_X, B, "fresh there");
	reach(t, AT_X, A, "stale here");
	expect(native(t, "8000000000012 40001000"), 1, "one's own, of another ASID");
	reach(t, AT_X, A, "leaves it stale");
	expect(native(t, "7000000000012 40001000"), 1, "one's own, of this ASID");
	reach(t, AT_X, B, "fresh");
	/* And with descriptors of the broker's, in which the ASIDs are equal as well. */
	expect(bind(t, L1), 0, "both with a table bound");
	expect(bind(other, L1), 0, "both with a table bound");
	reach(t, AT_X, B, "this one's page");
	reach(other, AT_X, B, "the other's page");
	move_x(t, A);
	invalidate_all(other);
	reach(t, AT_X, B, "the other's invalidation leaves it stale");
	invalidate_all(t);
	reach(t, AT_X, A, "one's own does not");
}

/* The broker's page of descriptors, which the device's walks read. */
static void broker_page(struct nested_tenant *t)
{
	struct actor *a = &t->actor;
	uint64_t at = (uint64_t)must(DO(a, ACT_RESERVED, .text = t->device, .a = true),
				     "where the broker keeps descriptors is reported");

	expect(DO(a, ACT_MAP, .a = t->parent, .b = at, .c = SPARE, .d = RW, .e = t->memory),
	       -EINVAL, "it cannot be mapped");
	set_entry(t, L3, AT_DESCRIPTORS, leaf_at(at, SMMU_RW));
	invalidate_all(t);
	for (int i = 0; i < 2; i++) {
		(void)reaches_at(t, iova(AT_DESCRIPTORS));
		expect(DO(a, ACT_PEEK, .a = OUT, .b = 1), (int64_t)gpa(L1),
		       i ? "a device's write does not change it"
			 : "a device reads its own descriptor there");
		if (!i)
			write_at(t, AT_DESCRIPTORS);
	}
	reach(t, AT_X, A, "DMA goes on");
}

static void doorbell(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	expect(DO(a, ACT_RESERVED, .text = t->device), (int64_t)DOORBELL,
	       "the MSI window is reported");
	expect(DO(a, ACT_MAP, .a = t->parent, .b = DOORBELL, .c = SPARE, .d = RW, .e = t->memory),
	       -EINVAL, "it cannot be mapped");
	must(DO(a, ACT_IRQ_OPEN, ), "the device's interrupt");
	expect(DO(a, ACT_IRQ, .a = 300), 0, "the table does not lead there: no interrupt");
	/* 2 MiB of it to itself, as a device; AF, AP[1]. */
	set_word(t, DOORBELL_L2, smmu_index(DOORBELL, 2),
		 DOORBELL | 1u << 10 | 1u << 6 | 2u << 2 | 1u);
	set_word(t, L1, smmu_index(DOORBELL, 1), smmu_table(gpa(DOORBELL_L2)));
	invalidate_all(t);
	expect(DO(a, ACT_IRQ, .a = 3000), 1, "the table leads there: an interrupt");
	reach(t, AT_X, A, "DMA goes on");
}

/* Beside page A. */
enum {
	OR_B,	    /* as a whole: neither is refused */
	OR_REFUSED, /* any part of the read (zeros), of the write (what was there before) */
};

static bool is_right(struct nested_tenant *t, int got, int others)
{
	if (got == A || others == OR_B)
		return got == A || got == B;
	return !DO(&t->actor, ACT_AMONG, .a = OUT, .b = t->seed + A, .c = 0, .d = UNTOUCHED_SEED);
}

/* A device reads while a thread of the tenant rewrites what leads there. */
static void rewritten_at(struct nested_tenant *t, unsigned page, unsigned index, uint64_t first,
			 uint64_t second, int others, const char *name)
{
	int64_t writes;
	unsigned wrong = 0, first_ones = 0;
	char why[80];

	must(DO(&t->actor, ACT_FLIP, .a = page, .b = index, .c = first, .d = second), "rewrite");
	for (int i = 0; i < 8; i++) {
		int got;

		invalidate_all(t);
		got = reaches_at(t, iova(AT_X));
		first_ones += got == A;
		wrong += !is_right(t, got, others);
	}
	writes = must(DO(&t->actor, ACT_FLIP_STOP, ), "stop");
	printf("# %s: %lld writes, %u of 8 found page A\n", name, (long long)writes, first_ones);
	snprintf(why, sizeof(why), "%u of 8 got something else, %lld writes", wrong,
		 (long long)writes);
	report(!wrong && writes > 1000, name, why);
	invalidate_all(t);
	reach(t, AT_X, A, "what it was left at is reached");
}

static void rewritten(struct nested_tenant *t)
{
	rewritten_at(t, L3, smmu_index(iova(AT_X), 3), leaf(A, SMMU_RW), leaf(B, SMMU_RW), OR_B,
		     "a leaf is rewritten during DMA: the one page or the other");
	rewritten_at(t, L3, smmu_index(iova(AT_X), 3), leaf(A, SMMU_RW),
		     leaf(ACTOR_PAGES + 2, SMMU_RW), OR_REFUSED,
		     "to what the parent lacks: the page or nothing");
	rewritten_at(t, L1, smmu_index(IOVA, 1), smmu_table(gpa(L2)),
		     smmu_table(gpa(ACTOR_PAGES + 2)), OR_REFUSED,
		     "a table to where the parent has none: the page or nothing");
}

static void end(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	expect(DO(a, ACT_UNBIND_TABLE, .a = t->user), 0, "unbind");
	reach(t, AT_X, UNTOUCHED, "nothing is reached");
	expect(DO(a, ACT_DETACH, .text = t->device), 0, "detach");
	expect(DO(a, ACT_FREE, .a = t->user), 0, "free the table");
	expect(DO(a, ACT_FREE, .a = t->parent), 0, "and its parent");
	nested_close(t);
}

int main(int argc, char **argv)
{
	struct ioasid_client *admin;
	struct ioasid_error *error;

	if (argc != 5) {
		fprintf(stderr, "usage: nested_tenants TENANTS ADMIN EDU EDU\n");
		return 2;
	}
	nested_open(&ana, UID_ANA, argv[1], argv[3], 20000);
	nested_open(&bob, UID_BOB, argv[1], argv[4], 30000);
	widths(&ana);
	both_stages(&ana);
	other_widths(&ana);
	stale(&ana);
	native_commands(&ana);
	events(&ana, &bob);
	beyond_the_parent(&ana);
	parent_unmapped(&ana);
	descriptors(&ana);
	apart(&ana, &bob);
	events(&ana, &bob);
	events(&bob, &ana);
	broker_page(&ana);
	doorbell(&ana);
	rewritten(&ana);
	end(&ana);
	end(&bob);
	must(ioasid_connect(argv[2], NULL, &admin, &error), "connect as admin");
	director_check_idle(admin, "org/ana");
	director_check_idle(admin, "org/bob");
	ioasid_client_unref(admin);
	return report_failed;
}
