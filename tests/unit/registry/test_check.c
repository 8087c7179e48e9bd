/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each invariant, broken alone beside two leases that are sound: the lease that breaks it has the
 * damage that says so, the others have none.
 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Leases 1 and 2 are whole; lease 3 is, but for the case. */
#define VICTIM 3u

static void expect(struct fixture *f, const char *text)
{
	const struct registry_image *image = fixture_load(f);

	assert_int_equal(image->damaged, 0);
	assert_string_equal(lease_of(image, 1)->damage, "");
	assert_string_equal(lease_of(image, 2)->damage, "");
	if (!strstr(lease_of(image, VICTIM)->damage, text))
		fail_msg("'%s' does not say '%s'", lease_of(image, VICTIM)->damage, text);
	if (!*text)
		assert_string_equal(lease_of(image, VICTIM)->damage, "");
}

static void base(struct fixture *f)
{
	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	put_whole_lease(f, 2);
	put_whole_lease(f, VICTIM);
}

#define PUT(field, record)                                                                         \
	do {                                                                                       \
		void *records[] = {&(record)};                                                     \
		BATCH(batch);                                                                      \
		batch.field = (void *)records;                                                     \
		batch.n_##field = 1;                                                               \
		put(f, VICTIM, &batch);                                                            \
	} while (0)

static void soundness(void **state)
{
	base(*state);
	expect(*state, "");
}

static void mappings(void **state)
{
	static const struct {
		uint64_t ioasid, iova, length, memory, offset;
		uint32_t prot;
		const char *text;
	} cases[] = {
		{2, 0x12000, 0x1000, 1, 0, 3, ""},
		{2, 0x13000, 0xfe000, 1, 0x2000, 1, ""},
		{2, UINT64_MAX - 0xfff, 0x1000, 1, 0, 3, ""},
		{2, UINT64_MAX - 0xfff, 0x1001, 1, 0, 3, "empty or wraps"},
		{2, 0x20000, 0, 1, 0, 3, "empty or wraps"},
		{2, 0x20000, UINT64_MAX, 1, 0, 3, "empty or wraps"},
		{2, 0x20000, 0x1000, 1, 0, 0, "its access is none"},
		{2, 0x20000, 0x1000, 1, 0, 4, "its access is none"},
		{5, 0x20000, 0x1000, 1, 0, 3, "its IOASID is not there"},
		{1, 0x20000, 0x1000, 1, 0, 3, "its IOASID is not there"},
		{2, 0x20000, 0x1000, 2, 0, 3, "its memory is not there"},
		{2, 0x20000, 0x1000, 0, 0, 3, "a parent, and there is none"},
		{2, 0x20000, 0x1001, 1, 0xff000, 3, "not inside its memory"},
		{2, 0x20000, 0x1000, 1, UINT64_MAX, 3, "not inside its memory"},
		{2, 0x11fff, 0x1000, 1, 0, 3, "overlaps"},
		{2, 0xf000, 0x1001, 1, 0, 3, "overlaps"},
		{2, 0, 0x80000, 1, 0, 3, "overlaps"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		Ioasid__Registry__Mapping m = IOASID__REGISTRY__MAPPING__INIT;
		struct fixture *f;

		assert_int_equal(i ? fixture_setup(state) : 0, 0);
		f = *state;
		base(f);
		m.ioasid = cases[i].ioasid;
		m.iova = cases[i].iova;
		m.length = cases[i].length;
		m.memory = cases[i].memory;
		m.offset = cases[i].offset;
		m.prot = cases[i].prot;
		PUT(mappings, m);
		expect(f, cases[i].text);
		if (i + 1 < sizeof(cases) / sizeof(cases[0]))
			fixture_teardown(state);
	}
}

static void ioasids(void **state)
{
	static const struct {
		uint64_t id, parent;
		uint32_t kind;
		const char *text;
	} cases[] = {
		{3, 2, 2, ""},
		{3, 0, 4, ""},
		{3, 0, 0, "no kind 0"},
		{3, 0, 5, "no kind 5"},
		{3, 3, 1, "would be younger"},
		{3, 4, 1, "would be younger"},
		{5, 4, 1, "is not there"},
		{3, 1, 1, "is not there"},
		{0, 0, 1, "no id can be that"},
		{UINT64_MAX, 0, 1, "no id can be that"},
		{1, 0, 1, "a memory and an IOASID"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		Ioasid__Registry__Ioasid a = IOASID__REGISTRY__IOASID__INIT;
		struct fixture *f;

		assert_int_equal(i ? fixture_setup(state) : 0, 0);
		f = *state;
		base(f);
		a.id = cases[i].id;
		a.parent = cases[i].parent;
		a.kind = cases[i].kind;
		PUT(ioasids, a);
		expect(f, cases[i].text);
		if (i + 1 < sizeof(cases) / sizeof(cases[0]))
			fixture_teardown(state);
	}
}

static void slots(void **state)
{
	/* Slot 7 is [0x40000000, 0x40004000) of VM 4; memory 1 has 1 MiB. */
	static const struct {
		uint64_t vm, guest_address, size, memory, offset;
		uint32_t slot;
		const char *text;
	} cases[] = {
		{4, 0x40004000, 0x1000, 1, 0, 8, ""},
		{4, 0x3ffff000, 0x1000, 1, 0xff000, 8, ""},
		{4, 0x3ffff000, 0x1000, 1, 0, 0, ""},
		/* The same slot, moved: only the newest counts. */
		{4, 0x40001000, 0x4000, 1, 0x1000, 7, ""},
		/* In another VM it is in nobody's way. */
		{6, 0x40000000, 0x4000, 1, 0x1000, 7, ""},
		{4, 0x50000000, 0, 1, 0, 8, "vm 4 slot 8: it is empty or wraps"},
		{4, UINT64_MAX - 0xfff, 0x1001, 1, 0, 8, "it is empty or wraps"},
		{4, UINT64_MAX - 0xfff, 0x1000, 1, 0, 8, ""},
		{5, 0x50000000, 0x1000, 1, 0, 8, "vm 5 slot 8: its VM is not there"},
		{0, 0x50000000, 0x1000, 1, 0, 8, "its VM is not there"},
		{2, 0x50000000, 0x1000, 1, 0, 8, "its VM is not there"},
		{4, 0x50000000, 0x1000, 9, 0, 8, "its memory is not there"},
		{4, 0x50000000, 0x1000, 0, 0, 8, "its memory is not there"},
		{4, 0x50000000, 0x1001, 1, 0xff000, 8, "it is not inside its memory"},
		{4, 0x50000000, 0x2000, 1, UINT64_MAX - 0xfff, 8, "it is not inside its memory"},
		{4, 0x40003fff, 0x1000, 1, 0, 8, "vm 4: slots 7 and 8 overlap"},
		{4, 0x3ffff000, 0x1001, 1, 0, 8, "vm 4: slots 8 and 7 overlap"},
		{4, 0x40001000, 0x1000, 1, 0, 0, "vm 4: slots 7 and 0 overlap"},
		{4, 0x30000000, 0x100000, 1, 0, 8, ""},
		{4, 0x40000000, 0x4000, 1, 0x1000, 9, "overlap"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		Ioasid__Registry__Slot s = IOASID__REGISTRY__SLOT__INIT;
		struct fixture *f;

		assert_int_equal(i ? fixture_setup(state) : 0, 0);
		f = *state;
		base(f);
		put_vm(f, VICTIM, 4, 5);
		put_vm(f, VICTIM, 6, 7);
		/* An id of one lease is nothing in another. */
		put_vm(f, 1, 4, 5);
		s.vm = cases[i].vm;
		s.slot = cases[i].slot;
		s.guest_address = cases[i].guest_address;
		s.size = cases[i].size;
		s.memory = cases[i].memory;
		s.offset = cases[i].offset;
		PUT(slots, s);
		expect(f, cases[i].text);
		if (i + 1 < sizeof(cases) / sizeof(cases[0]))
			fixture_teardown(state);
	}
}

/* One of many, whichever way they were put. */
static void slots_in_any_order(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Slot s = IOASID__REGISTRY__SLOT__INIT;
	const struct registry_lease *l;

	base(f);
	put_vm(f, VICTIM, 4, 5);
	s.vm = 4;
	s.memory = 1;
	s.size = 0x1000;
	for (uint32_t i = 0; i < 50; i++) {
		s.slot = 100 + i * 7 % 50;
		s.guest_address = 0x1000 * (i * 11 % 50);
		PUT(slots, s);
	}
	expect(f, "");
	l = lease_of(f->image, VICTIM);
	assert_int_equal(l->n_slots, 51);
	for (size_t i = 1; i < l->n_slots; i++)
		assert_true(l->slots[i - 1]->slot < l->slots[i]->slot);
	s.slot = 300;
	s.size = 1;
	s.guest_address = 0x1000 * 31 + 0x800;
	PUT(slots, s);
	expect(f, "overlap");
}

static void vms(void **state)
{
	static const struct {
		uint64_t id;
		const char *text;
	} cases[] = {
		{3, ""},
		{0, "vm 0: no id can be that"},
		{UINT64_MAX, "no id can be that"},
		{1, "id 1 is a VM and something else"},
		{2, "id 2 is a VM and something else"},
	};
	char text[8000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	for (size_t i = 0; i <= sizeof(cases) / sizeof(cases[0]); i++) {
		const bool last = i == sizeof(cases) / sizeof(cases[0]);
		Ioasid__Registry__Vm v = IOASID__REGISTRY__VM__INIT;
		struct fixture *f;

		assert_int_equal(i ? fixture_setup(state) : 0, 0);
		f = *state;
		base(f);
		v.id = last ? 3 : cases[i].id;
		v.label = last ? text : TEXT("guest");
		PUT(vms, v);
		expect(f, last ? "vm 3: its label is too long" : cases[i].text);
		if (!last)
			fixture_teardown(state);
	}
}

static void ioasids_of_vms(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Ioasid a = IOASID__REGISTRY__IOASID__INIT;
	Ioasid__Registry__Intent intent = IOASID__REGISTRY__INTENT__INIT;
	BATCH(intended);

	base(f);
	put_vm(f, VICTIM, 4, 5);
	put_vm(f, 1, 8, 9);
	expect(f, "");
	/* What an intent names is named; no VM of that id need be there. */
	intent.method = TEXT("/ioasid.v1.Broker/SetMemorySlot");
	intent.vm = 88;
	intended.intent = &intent;
	put(f, VICTIM, &intended);
	expect(f, "");
	assert_int_equal(lease_of(f->image, VICTIM)->next_id, 89);
	intent.vm = UINT64_MAX;
	put(f, VICTIM, &intended);
	expect(f, "names an id that none can be");
	intent.vm = 4;
	put(f, VICTIM, &intended);
	expect(f, "");
	/* Another lease's. */
	a.id = 6;
	a.kind = 4;
	a.vm = 8;
	PUT(ioasids, a);
	expect(f, "ioasid 6: its VM 8 is not there");
}

static void no_record(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Memory m = IOASID__REGISTRY__MEMORY__INIT;
	Ioasid__Registry__Memory *memories[] = {&m};
	BATCH(batch);

	base(f);
	m.id = 1;
	m.length = 4096;
	batch.memories = memories;
	batch.n_memories = 1;
	put(f, 9, &batch);
	expect(f, "");
	assert_string_equal(lease_of(f->image, 9)->damage,
			    "there is no record of the lease itself");
	assert_null(lease_of(f->image, 9)->lease);
}

static void attachments(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Attachment a = IOASID__REGISTRY__ATTACHMENT__INIT;

	base(f);
	a.device = TEXT("0000:03:00.0");
	a.pasid = 7;
	a.ioasid = 2;
	PUT(attachments, a);
	expect(f, "");
	/* Of (device, PASID) the newest counts. */
	a.ioasid = 9;
	PUT(attachments, a);
	expect(f, "is attached to ioasid 9, which is not there");
	a.ioasid = 2;
	PUT(attachments, a);
	expect(f, "");
	a.device = TEXT("0000:03:00.1");
	PUT(attachments, a);
	expect(f, "0000:03:00.1 is attached and not claimed");
}

static void a_device_of_two(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Device d = IOASID__REGISTRY__DEVICE__INIT;

	base(f);
	d.address = TEXT("0000:02:00.0");
	PUT(devices, d);
	fixture_load(f);
	assert_string_equal(lease_of(f->image, 1)->damage, "");
	assert_string_equal(lease_of(f->image, 2)->damage,
			    "device 0000:02:00.0 is claimed by lease 3, too");
	assert_string_equal(lease_of(f->image, 3)->damage,
			    "device 0000:02:00.0 is claimed by lease 2, too");
}

static void a_device_that_is_held(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Held held = IOASID__REGISTRY__HELD__INIT;
	Ioasid__Registry__Held *helds[] = {&held};
	char *devices[] = {TEXT("0000:03:00.0")};
	Ioasid__Registry__Intent intent = IOASID__REGISTRY__INTENT__INIT;
	Ioasid__Registry__Lease lease;
	BATCH(batch);

	base(f);
	intent.method = TEXT("/ioasid.v1.Broker/ReleaseDevice");
	held.address = TEXT("0000:03:00.0");
	batch.held = helds;
	batch.n_held = 1;
	put(f, 0, &batch);
	/* The intent is of something else. */
	batch = (Ioasid__Registry__Batch)IOASID__REGISTRY__BATCH__INIT;
	batch.intent = &intent;
	put(f, VICTIM, &batch);
	expect(f, "is claimed, and held");
	/* Where its release has begun, or the end of the lease, it is so for a while. */
	intent.devices = devices;
	intent.n_devices = 1;
	put(f, VICTIM, &batch);
	expect(f, "");
	intent.n_devices = 0;
	put(f, VICTIM, &batch);
	expect(f, "is claimed, and held");
	lease = *lease_of(f->image, VICTIM)->lease;
	lease.closing = true;
	batch = (Ioasid__Registry__Batch)IOASID__REGISTRY__BATCH__INIT;
	batch.lease = &lease;
	put(f, VICTIM, &batch);
	expect(f, "");
}

static void a_name_of_two(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Lease lease;
	BATCH(batch);

	base(f);
	lease = *lease_of(fixture_load(f), VICTIM)->lease;
	lease.name = TEXT("vm-2");
	batch.lease = &lease;
	put(f, VICTIM, &batch);
	fixture_load(f);
	assert_string_equal(lease_of(f->image, 1)->damage, "");
	assert_string_equal(lease_of(f->image, 2)->damage, "lease 3 has the same tenant and name");
	assert_string_equal(lease_of(f->image, 3)->damage, "lease 2 has the same tenant and name");
	lease = *lease_of(f->image, VICTIM)->lease;
	lease.tenant = TEXT("org/other");
	put(f, VICTIM, &batch);
	expect(f, "");
}

static void intents(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Intent intent = IOASID__REGISTRY__INTENT__INIT;
	Ioasid__Registry__Range range = IOASID__REGISTRY__RANGE__INIT;
	Ioasid__Registry__Range *ranges[] = {&range};
	char *devices[] = {TEXT("")};
	BATCH(batch);

	base(f);
	batch.intent = &intent;
	put(f, VICTIM, &batch);
	expect(f, "names no method");
	intent.method = TEXT("/ioasid.v1.Broker/Map");
	put(f, VICTIM, &batch);
	expect(f, "");
	range.iova = 1;
	intent.ranges = ranges;
	intent.n_ranges = 1;
	put(f, VICTIM, &batch);
	expect(f, "ends before it begins");
	intent.n_ranges = 0;
	intent.devices = devices;
	intent.n_devices = 1;
	put(f, VICTIM, &batch);
	expect(f, "without address");
	/* What an intent names is named. */
	intent.n_devices = 0;
	intent.ioasid = 88;
	put(f, VICTIM, &batch);
	expect(f, "");
	assert_int_equal(lease_of(f->image, VICTIM)->next_id, 89);
}

static void texts(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Memory m = IOASID__REGISTRY__MEMORY__INIT;
	char text[8000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	base(f);
	m.id = 8;
	m.length = 1;
	m.label = text;
	PUT(memories, m);
	expect(f, "its label is too long");
	m.label = TEXT("");
	m.length = 0;
	PUT(memories, m);
	expect(f, "empty or wraps");
	m.offset = UINT64_MAX;
	m.length = 2;
	PUT(memories, m);
	expect(f, "empty or wraps");
}

static void order_of_tables(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Key key = IOASID__REGISTRY__KEY__INIT;
	Ioasid__Registry__Memory m = IOASID__REGISTRY__MEMORY__INIT;
	const struct registry_lease *l;
	char name[16];

	base(f);
	key.method = TEXT("/ioasid.v1.Broker/Map");
	key.key = name;
	m.length = 4096;
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "k%u", i * 7 % 50);
		key.order = 1000 - i * 7 % 50;
		PUT(keys, key);
		m.id = 10 + i * 11 % 50;
		PUT(memories, m);
	}
	expect(f, "");
	l = lease_of(f->image, VICTIM);
	assert_int_equal(l->n_keys, 51);
	for (size_t i = 1; i < l->n_keys; i++)
		assert_true(l->keys[i - 1]->order < l->keys[i]->order);
	assert_int_equal(l->n_memories, 51);
	for (size_t i = 1; i < l->n_memories; i++)
		assert_true(l->memories[i - 1]->id < l->memories[i]->id);
	assert_int_equal(l->next_id, 60);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(soundness),
		TEST(mappings),
		TEST(ioasids),
		TEST(slots),
		TEST(slots_in_any_order),
		TEST(vms),
		TEST(ioasids_of_vms),
		TEST(no_record),
		TEST(attachments),
		TEST(a_device_of_two),
		TEST(a_device_that_is_held),
		TEST(a_name_of_two),
		TEST(intents),
		TEST(texts),
		TEST(order_of_tables),
	};

	return cmocka_run_group_tests_name("registry check", tests, NULL, NULL);
}
