/* SPDX-License-Identifier: Apache-2.0 */
/* See nested_scene.h.  No state. */
#include "nested_scene.h"

#define FAULT_MS 3000u

static uint64_t seed_of(const struct nested_tenant *t, unsigned page)
{
	return t->seed + page;
}

void set_word(struct nested_tenant *t, unsigned page, unsigned index, uint64_t value)
{
	must(DO(&t->actor, ACT_WORD, .a = page, .b = index, .c = value), "write a word");
}

void set_entry(struct nested_tenant *t, unsigned table, unsigned entry, uint64_t value)
{
	set_word(t, table, smmu_index(iova(entry), 3), value);
}

void move_x(struct nested_tenant *t, unsigned page)
{
	set_entry(t, L3, AT_X, leaf(page, SMMU_RW));
}

void set_cd(struct nested_tenant *t, unsigned root, uint16_t asid)
{
	uint64_t cd[8];

	smmu_cd(cd, gpa(root), asid);
	cd[3] = 0xffff; /* attributes 0 and 1: write-back */
	for (unsigned i = 1; i < 8; i++)
		set_word(t, CD, i, cd[i]);
	set_word(t, CD, 0, cd[0]);
}

static void write_tables(struct nested_tenant *t, unsigned l1, unsigned l2, unsigned l3)
{
	set_word(t, l1, smmu_index(IOVA, 1), smmu_table(gpa(l2)));
	set_word(t, l1, smmu_index(IOVA_HIGH, 1), smmu_table(gpa(l2)));
	set_word(t, l2, smmu_index(IOVA, 2), smmu_table(gpa(l3)));
	set_entry(t, l3, AT_OUT, leaf(OUT, SMMU_RW));
	set_entry(t, l3, AT_TARGET, leaf(TARGET, SMMU_RW));
}

static void write_memory(struct nested_tenant *t)
{
	for (unsigned page = 0; page < ACTOR_PAGES; page++)
		must(DO(&t->actor, ACT_FILL, .a = page,
			.b = page >= A && page <= D ? seed_of(t, page) : 0),
		     "fill");
	write_tables(t, L1, L2, L3);
	write_tables(t, OTHER_L1, OTHER_L2, OTHER_L3);
	/* Of 48 bits: both halves of what L1 spans, and of what is above it. */
	set_word(t, L0, 0, smmu_table(gpa(L1)));
	set_word(t, L0, 1, smmu_table(gpa(L1)));
	move_x(t, A);
	set_entry(t, L3, AT_OUTSIDE, leaf(ACTOR_PAGES, SMMU_RW));
	set_entry(t, L3, AT_RO, leaf(C, SMMU_RO));
	set_entry(t, L3, AT_PARENT_RO, leaf(ACTOR_PAGES + 1, SMMU_RW));
	set_entry(t, OTHER_L3, AT_X, leaf(D, SMMU_RW));
}

void nested_map(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_MAP_ALL, .a = t->parent, .b = GPA, .d = RW, .e = t->memory),
	     "map memory in the parent");
	must(DO(&t->actor, ACT_MAP, .a = t->parent, .b = gpa(ACTOR_PAGES + 1), .c = SPARE,
		.d = IOASID_READ, .e = t->memory),
	     "and a page read-only");
}

void nested_open(struct nested_tenant *t, unsigned uid, const char *socket, const char *device,
		 uint64_t seed)
{
	struct actor *a = &t->actor;

	t->device = device;
	t->seed = seed;
	actor_start(a, uid);
	must(DO(a, ACT_CONNECT, .text = socket, .a = true), "connect");
	must(DO(a, ACT_CLAIM, .text = device), "claim");
	write_memory(t);
	t->memory = (uint64_t)must(DO(a, ACT_MEMORY, .a = ACTOR_MEMORY), "register");
	t->parent = (uint64_t)must(DO(a, ACT_ALLOC, .text = device), "a parent");
	nested_map(t);
	must(DO(a, ACT_DEVICE_FD, .text = device), "device fd");
	must(DO(a, ACT_WATCH, ), "watch faults");
}

void nested_close(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_CLOSE_FD, ), "close");
	must(DO(&t->actor, ACT_RELEASE, .text = t->device), "release");
	actor_end(&t->actor, false);
}

bool page_is(struct nested_tenant *t, unsigned page, unsigned data)
{
	return !DO(&t->actor, ACT_COMPARE, .a = page, .b = seed_of(t, data));
}

int reaches_at(struct nested_tenant *t, uint64_t address)
{
	must(DO(&t->actor, ACT_FILL, .a = OUT, .b = UNTOUCHED_SEED), "fill");
	must(DO(&t->actor, ACT_TO_DEVICE, .a = address), "the device reads");
	must(DO(&t->actor, ACT_FROM_DEVICE, .a = address - address % (512 * ACTOR_PAGE)),
	     "the device writes");
	for (unsigned page = A; page <= D; page++)
		if (page_is(t, OUT, page))
			return (int)page;
	if (!DO(&t->actor, ACT_COMPARE, .a = OUT, .b = UNTOUCHED_SEED))
		return UNTOUCHED;
	return DO(&t->actor, ACT_COMPARE, .a = OUT, .b = 0) ? GARBAGE : NOTHING;
}

void reach_at(struct nested_tenant *t, uint64_t address, int wanted, const char *name)
{
	char why[80];
	int got = reaches_at(t, address);

	snprintf(why, sizeof(why), "got page %d, not %d", got, wanted);
	report(got == wanted, name, why);
}

void reach(struct nested_tenant *t, unsigned entry, int wanted, const char *name)
{
	reach_at(t, iova(entry), wanted, name);
}

void write_at(struct nested_tenant *t, unsigned entry)
{
	must(DO(&t->actor, ACT_TO_DEVICE, .a = iova(AT_X)), "the device reads");
	must(DO(&t->actor, ACT_FROM_DEVICE, .a = iova(entry)), "the device writes");
}

void invalidate_all(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_ALL),
	     "invalidate all");
}

void drop_faults(struct nested_tenant *t)
{
	must(DO(&t->actor, ACT_DROP_FAULTS, .a = 200), "drop faults");
}

void faulted(struct nested_tenant *t, enum ioasid_fault_cause cause, uint64_t address,
	     const char *name)
{
	expect(DO(&t->actor, ACT_FAULT, .a = t->user, .b = address, .c = FAULT_MS,
		  .text = t->device),
	       cause, name);
	drop_faults(t);
}
