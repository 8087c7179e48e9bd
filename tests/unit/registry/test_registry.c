/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is put is what is read, for every kind of record; what drops take with them; the life of
 * the files: begin, commit, abandon, aside, lock.
 */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/crc32c.h"
#include "registry/log_format.h"

static void crc_is_castagnoli(void **state)
{
	uint8_t bytes[333];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_by_table(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 3));
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; n < sizeof(bytes) - from; n++) {
			assert_int_equal(crc32c(5, bytes + from, n),
					 crc32c_by_table(5, bytes + from, n));
			assert_int_equal(crc32c(crc32c(0, bytes, from), bytes + from, n),
					 crc32c(0, bytes, from + n));
		}
}

static void an_empty_folder_has_none(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), REGISTRY_E_NONE);
	assert_null(f->image);
	fixture_open(f, NULL);
	assert_null(f->image);
}

static void the_folder_is_made(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(rmdir(f->folder), 0);
	fixture_start(f, NULL);
	assert_int_equal(stat(f->folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(fixture_load(f)->n_leases, 0);
	assert_memory_equal(&f->image->boot, &test_boot, sizeof(test_boot));
	assert_int_equal(f->image->generation, 1);
	assert_int_equal(f->image->schema, REGISTRY_SCHEMA);
	assert_int_equal(f->image->bytes, LOG_HEADER_SIZE);
}

/* The body is the n-th that was put. */
static void assert_is_body(struct fixture *f, size_t n, const Ioasid__Registry__Batch *batch)
{
	uint8_t bytes[512];

	assert_int_equal(protobuf_c_message_get_packed_size(&batch->base), f->bodies[n].size);
	protobuf_c_message_pack(&batch->base, bytes);
	assert_memory_equal(bytes, f->bodies[n].bytes, f->bodies[n].size);
}

static void every_record_comes_back(void **state)
{
	struct fixture *f = *state;
	const struct registry_image *image;
	const struct registry_lease *l;

	fixture_start(f, NULL);
	put_whole_lease(f, 7);
	put_zero(f);
	put_vm(f, 8, 1, 2);
	image = fixture_load(f);
	assert_int_equal(image->damaged, 0);
	assert_string_equal(image->damage, "");
	assert_false(image->lost);
	assert_int_equal(image->batches, 15);
	assert_int_equal(image->n_leases, 2);
	l = lease_of(image, 7);
	assert_non_null(l);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->next_id, 3);
	assert_int_equal(image->last_serial, 40);
	assert_int_equal(image->event_sequence, 1000);

#define IS_SINGLE(n, field, record)                                                                \
	do {                                                                                       \
		BATCH(batch);                                                                      \
		batch.field = (void *)record;                                                      \
		assert_is_body(f, n, &batch);                                                      \
	} while (0)
#define IS_ARRAY(n, owner, field)                                                                  \
	do {                                                                                       \
		BATCH(batch);                                                                      \
		batch.field = (void *)(owner)->field;                                              \
		batch.n_##field = (owner)->n_##field;                                              \
		assert_int_equal((owner)->n_##field, 1);                                           \
		assert_is_body(f, n, &batch);                                                      \
	} while (0)
	IS_SINGLE(0, lease, l->lease);
	IS_ARRAY(1, l, memories);
	IS_ARRAY(2, l, devices);
	IS_ARRAY(3, l, ioasids);
	IS_ARRAY(4, l, mappings);
	IS_ARRAY(5, l, attachments);
	IS_ARRAY(6, l, keys);
	IS_SINGLE(7, intent, l->intent);
	IS_ARRAY(8, image, tenants);
	IS_ARRAY(9, image, held);
	IS_ARRAY(10, image, keys);
	l = lease_of(image, 8);
	IS_ARRAY(12, l, vms);
	IS_ARRAY(13, l, slots);
	IS_ARRAY(14, l, ioasids);
}

static void drop(struct fixture *f, uint64_t lease, Ioasid__Registry__Drop *dropped)
{
	Ioasid__Registry__Drop *drops[] = {dropped};
	BATCH(batch);

	batch.drops = drops;
	batch.n_drops = 1;
	put(f, lease, &batch);
}

static void drops_take_with_them(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Drop d = IOASID__REGISTRY__DROP__INIT;
	const struct registry_lease *l;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	put_whole_lease(f, 2);
	put_whole_lease(f, 3);
	d.lease = true;
	drop(f, 2, &d);
	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.intent = true;
	drop(f, 1, &d);
	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.key = TEXT("key-1");
	drop(f, 1, &d);
	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.attachment = &(Ioasid__Registry__Attachment)IOASID__REGISTRY__ATTACHMENT__INIT;
	d.attachment->device = TEXT("0000:01:00.0");
	d.attachment->pasid = 6;
	drop(f, 1, &d);
	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.ioasid = 2;
	drop(f, 1, &d);
	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.ioasid = 90;
	drop(f, 1, &d);
	assert_int_equal(fixture_load(f)->n_leases, 2);
	assert_int_equal(f->image->last_serial, 3);
	l = lease_of(f->image, 1);
	assert_string_equal(l->damage, "");
	assert_null(l->intent);
	assert_int_equal(l->n_keys, 0);
	assert_int_equal(l->n_attachments, 0);
	assert_int_equal(l->n_ioasids, 0);
	assert_int_equal(l->n_mappings, 0);
	assert_int_equal(l->n_memories, 1);
	assert_int_equal(l->n_devices, 1);
	assert_int_equal(l->next_id, 91);
	l = lease_of(f->image, 3);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_mappings, 1);
}

static void drop_slot(struct fixture *f, uint64_t lease, uint64_t vm, uint32_t number)
{
	Ioasid__Registry__Slot slot = IOASID__REGISTRY__SLOT__INIT;
	Ioasid__Registry__Drop d = IOASID__REGISTRY__DROP__INIT;

	slot.vm = vm;
	slot.slot = number;
	d.slot = &slot;
	drop(f, lease, &d);
}

static void drop_vm(struct fixture *f, uint64_t lease, uint64_t vm)
{
	Ioasid__Registry__Drop d = IOASID__REGISTRY__DROP__INIT;

	d.vm = vm;
	drop(f, lease, &d);
}

/* A slot alone, or a VM with its slots; and what is put again after it is there again. */
static void drops_of_vms(void **state)
{
	struct fixture *f = *state;
	const struct registry_lease *l;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	put_vm(f, 1, 4, 5);
	put_vm(f, 1, 6, 7);
	put_whole_lease(f, 2);
	put_vm(f, 2, 4, 5);
	drop_slot(f, 1, 4, 7);
	l = lease_of(fixture_load(f), 1);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_vms, 2);
	assert_int_equal(l->n_slots, 1);
	assert_int_equal(l->slots[0]->vm, 6);
	/* There was none of that number, or of that VM. */
	drop_slot(f, 1, 6, 8);
	drop_slot(f, 1, 9, 7);
	assert_int_equal(lease_of(fixture_load(f), 1)->n_slots, 1);
	put_vm(f, 1, 4, 5);
	assert_int_equal(lease_of(fixture_load(f), 1)->n_slots, 2);
	/* The IOASIDs of a VM go before it. */
	for (uint64_t id = 5; id <= 7; id += 2) {
		Ioasid__Registry__Drop d = IOASID__REGISTRY__DROP__INIT;

		d.ioasid = id;
		drop(f, 1, &d);
	}
	drop_vm(f, 1, 4);
	l = lease_of(fixture_load(f), 1);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_vms, 1);
	assert_int_equal(l->vms[0]->id, 6);
	assert_int_equal(l->n_slots, 1);
	assert_int_equal(l->slots[0]->vm, 6);
	drop_vm(f, 1, 6);
	drop_vm(f, 1, 90);
	l = lease_of(fixture_load(f), 1);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_vms, 0);
	assert_int_equal(l->n_slots, 0);
	assert_int_equal(l->next_id, 91);
	/* The other lease has its own. */
	l = lease_of(f->image, 2);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_vms, 1);
	assert_int_equal(l->n_slots, 1);
	assert_int_equal(l->next_id, 6);
}

/* A slot is written whole each time: the newest counts, and a VM that was destroyed says so. */
static void slots_that_change(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Slot slot = IOASID__REGISTRY__SLOT__INIT, *put_slots[] = {&slot};
	Ioasid__Registry__Vm vm = IOASID__REGISTRY__VM__INIT, *put_vms[] = {&vm};
	const struct registry_lease *l;
	BATCH(batch);

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	put_vm(f, 1, 4, 5);
	slot.vm = 4;
	slot.slot = 7;
	slot.guest_address = 0x80000000;
	slot.size = 0x4000;
	slot.memory = 1;
	vm.id = 4;
	vm.label = TEXT("renamed");
	batch.slots = put_slots;
	batch.n_slots = 1;
	batch.vms = put_vms;
	batch.n_vms = 1;
	put(f, 1, &batch);
	l = lease_of(fixture_load(f), 1);
	assert_string_equal(l->damage, "");
	assert_int_equal(l->n_slots, 1);
	assert_int_equal(l->slots[0]->guest_address, 0x80000000);
	assert_int_equal(l->slots[0]->offset, 0);
	assert_false(l->slots[0]->read_only);
	assert_int_equal(l->n_vms, 1);
	assert_string_equal(l->vms[0]->label, "renamed");
	assert_false(l->vms[0]->freed);
}

static void the_old_log_stays_until_commit(void **state)
{
	struct fixture *f = *state;
	uint8_t *before, *after;
	size_t n, m;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	fixture_close(f);
	before = log_read(f, "log", &n);
	fixture_open(f, NULL);
	assert_int_equal(f->image->n_leases, 1);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	put_whole_lease(f, 2);
	after = log_read(f, "log", &m);
	assert_int_equal(n, m);
	assert_memory_equal(before, after, n);
	assert_int_equal(fixture_load(f)->leases[0].serial, 1);
	assert_int_equal(registry_commit(f->registry), 0);
	assert_int_equal(fixture_load(f)->n_leases, 1);
	assert_int_equal(f->image->leases[0].serial, 2);
	assert_int_equal(f->image->generation, 2);
	free(before);
	free(after);
}

static void compacting_goes_to_both(void **state)
{
	struct fixture *f = *state;
	LEASE(lease);
	BATCH(batch);

	fixture_start(f, NULL);
	lease.tenant = TEXT("org");
	batch.lease = &lease;
	put(f, 1, &batch);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	assert_true(registry_is_compacting(f->registry));
	put(f, 2, &batch);
	assert_int_equal(fixture_load(f)->n_leases, 2);
	registry_abandon(f->registry);
	assert_false(registry_is_compacting(f->registry));
	put(f, 3, &batch);
	assert_int_equal(fixture_load(f)->n_leases, 3);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	put(f, 4, &batch);
	assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	assert_int_equal(registry_append_new(f->registry, 2, &batch), 0);
	assert_int_equal(fixture_load(f)->n_leases, 4);
	assert_int_equal(registry_commit(f->registry), 0);
	assert_int_equal(fixture_load(f)->n_leases, 3);
	assert_null(lease_of(f->image, 3));
	assert_int_equal(f->image->generation, 2);
	put(f, 5, &batch);
	assert_int_equal(fixture_load(f)->n_leases, 4);
}

static void an_old_log_is_put_aside(void **state)
{
	struct fixture *f = *state;
	uint8_t *bytes;
	size_t n;

	log_write(f, "log.damaged", (const uint8_t *)"older", 5);
	log_write(f, "log", (const uint8_t *)"rubbish", 7);
	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), REGISTRY_E_DAMAGED);
	assert_int_equal(registry_open(f->folder, &f->registry, &f->image, &f->problem),
			 REGISTRY_E_DAMAGED);
	assert_non_null(f->registry);
	assert_null(f->image);
	assert_int_equal(registry_begin(f->registry, &test_boot, "../x"), -EINVAL);
	assert_int_equal(registry_begin(f->registry, &test_boot, "damaged"), 0);
	put_whole_lease(f, 1);
	assert_int_equal(registry_commit(f->registry), 0);
	put_zero(f);
	assert_int_equal(fixture_load(f)->batches, 12);
	bytes = log_read(f, "log.damaged", &n);
	assert_int_equal(n, 7);
	assert_memory_equal(bytes, "rubbish", 7);
	free(bytes);
}

static void one_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct registry *second = NULL;
	struct registry_image *image = NULL;

	fixture_start(f, NULL);
	assert_int_equal(registry_open(f->folder, &second, &image, &f->problem), REGISTRY_E_LOCKED);
	assert_null(second);
	fixture_close(f);
	fixture_open(f, NULL);
}

static void newer_is_left_alone(void **state)
{
	struct fixture *f = *state;
	uint8_t *bytes, *after;
	char newer[32];
	size_t n, m;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	fixture_close(f);
	bytes = log_read(f, "log", &n);
	bytes[8]++;
	/* A newer header may be anything behind the schema. */
	memset(bytes + 12, 0xa5, 4084);
	log_write(f, "log", bytes, n);
	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), REGISTRY_E_NEWER);
	snprintf(newer, sizeof(newer), "schema %d;", REGISTRY_SCHEMA + 1);
	assert_non_null(strstr(f->problem.message, newer));
	assert_int_equal(registry_open(f->folder, &f->registry, &f->image, &f->problem),
			 REGISTRY_E_NEWER);
	assert_null(f->registry);
	after = log_read(f, "log", &m);
	assert_int_equal(n, m);
	assert_memory_equal(bytes, after, n);
	log_write(f, "log", bytes, 12);
	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), REGISTRY_E_NEWER);
	free(bytes);
	free(after);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(crc_is_castagnoli),
		TEST(an_empty_folder_has_none),
		TEST(the_folder_is_made),
		TEST(every_record_comes_back),
		TEST(drops_take_with_them),
		TEST(the_old_log_stays_until_commit),
		TEST(compacting_goes_to_both),
		TEST(an_old_log_is_put_aside),
		TEST(one_at_a_time),
		TEST(newer_is_left_alone),
		TEST(drops_of_vms),
		TEST(slots_that_change),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
