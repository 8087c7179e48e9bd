/* SPDX-License-Identifier: Apache-2.0 */

/* Kinds KVM and PROCESS of the software IOMMU, through the contract. */

#include "fixture.h"

#include "soft/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static struct shim_vm *make_vm(struct fixture *f)
{
	struct shim_vm *vm = NULL;

	assert_int_equal(shim_vm_create(f->ctx, &vm), 0);
	return vm;
}

static struct shim_pt *make_pt(struct fixture *f, struct shim_vm *vm, enum shim_format format)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KVM, .format = format, .vm = vm};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;
	int r = shim_pt_create(f->ctx, &spec, reason, &pt);

	if (r)
		fail_msg("%d: %s", r, reason);
	return pt;
}

static int set(struct fixture *f, struct shim_vm *vm, uint32_t slot, uint64_t at, uint64_t length,
	       uint64_t offset, uint32_t prot)
{
	return shim_vm_set_slot(vm, slot, at, length, f->mem, offset, prot);
}

static uint32_t tables_of(const struct shim_vm *vm)
{
	return ((const struct soft_vm *)vm)->n_tables;
}

static void test_slots_by_kvms_rules(void **state)
{
	struct fixture f;
	struct shim_vm *vm;

	fixture_open(&f, NULL, 0, 8 * M2);
	vm = make_vm(&f);
	assert_int_equal(set(&f, vm, 3, 0, 0, 0, 0), SHIM_E_NO_MAPPING);
	assert_int_equal(set(&f, vm, 3, M2, M2, 0, RW), 0);
	/* Overlap by a page at either end, inside, around; beside is fine. */
	assert_int_equal(set(&f, vm, 4, M2 - K4, 2 * K4, 0, RW), SHIM_E_OVERLAP);
	assert_int_equal(set(&f, vm, 4, 2 * M2 - K4, 2 * K4, 0, RW), SHIM_E_OVERLAP);
	assert_int_equal(set(&f, vm, 4, M2 + K4, K4, 0, RW), SHIM_E_OVERLAP);
	assert_int_equal(set(&f, vm, 4, 0, 4 * M2, 0, RW), SHIM_E_OVERLAP);
	assert_int_equal(set(&f, vm, 4, 2 * M2, K4, 0, RW), 0);
	assert_int_equal(set(&f, vm, 5, M2 - K4, K4, 0, RW), 0);
	/* Its memory and its size stay; its address may change, but not into another slot. */
	assert_int_equal(set(&f, vm, 3, M2, M2, K4, RW), -EINVAL);
	assert_int_equal(set(&f, vm, 3, M2, M2 - K4, 0, RW), -EINVAL);
	assert_int_equal(set(&f, vm, 3, M2 + K4, M2, 0, RW), SHIM_E_OVERLAP);
	assert_int_equal(set(&f, vm, 3, 4 * M2, M2, 0, RW), 0);
	/* Onto a part of where it was. */
	assert_int_equal(set(&f, vm, 3, 4 * M2 + K4, M2, 0, RW), 0);
	assert_int_equal(set(&f, vm, 3, 4 * M2 + K4, M2, 0, SHIM_READ), 0);
	/* Alignment, ends of memory and address space. */
	assert_int_equal(set(&f, vm, 9, 123, K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, 16 * M2, 123, 0, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, 16 * M2, K4, 123, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, 16 * M2, 8 * M2, K4, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, (1ull << 57) - K4, 2 * K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, 0 - K4, 2 * K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(set(&f, vm, 9, (1ull << 57) - K4, K4, 0, RW), 0);
	assert_int_equal(set(&f, vm, 9, 16 * M2, K4, 0, SHIM_WRITE), -EINVAL);
	/* Many, so that the array grows, in an order that is not theirs. */
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(set(&f, vm, 100 + i * 37 % 100, G1 + i * 37 % 100 * K4, K4, 0, RW),
				 0);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(set(&f, vm, 100 + i, 0, 0, 0, 0), 0);
	assert_int_equal(set(&f, vm, 100, 0, 0, 0, 0), SHIM_E_NO_MAPPING);
	fixture_close(&f);
}

static void test_filled_on_first_use(void **state)
{
	struct shim_pt *four, *five;
	struct shim_walk walk;
	struct fixture f;
	struct shim_vm *vm;

	fixture_open(&f, NULL, 0, 4 * M2);
	vm = make_vm(&f);
	four = make_pt(&f, vm, SHIM_FORMAT_EPT_4L);
	five = make_pt(&f, vm, SHIM_FORMAT_EPT_5L);
	assert_int_equal(set(&f, vm, 0, G1, 2 * M2, 0, RW), 0);
	assert_int_equal(set(&f, vm, 1, G1 + 2 * M2, K4, 3 * M2, SHIM_READ), 0);
	assert_int_equal(tables_of(vm), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, four);
	f.bytes[M2 + 5] = 0x5a;
	f.bytes[3 * M2 + 7] = 0x77;
	fixture_expect_fault(f.dev0, SHIM_READ, G1 - K4, SHIM_FAULT_NOT_PRESENT);
	assert_int_equal(tables_of(vm), 0);
	fixture_expect_byte(f.dev0, G1 + M2 + 5, 0x5a);
	/* Root, 512G, 1G, and 2M as one leaf. */
	assert_int_equal(tables_of(vm), 4);
	/* The other format's is the same. */
	fixture_attach(f.dev0, 1, five);
	assert_int_equal(shim_pt_walk(five, G1 + M2 + 5, SHIM_WRITE, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
	assert_int_equal(walk.page_size, M2);
	assert_int_equal(walk.n_levels, 4);
	assert_ptr_equal(walk.mem, f.mem);
	assert_int_equal(walk.offset, M2 + 5);
	assert_int_equal(tables_of(vm), 4);
	/* Translate fills; read-only gives no write. */
	assert_int_equal(shim_pt_walk(four, G1 + 2 * M2, SHIM_WRITE, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_PERMISSION);
	assert_int_equal(tables_of(vm), 5);
	fixture_expect_byte(f.dev0, G1 + 2 * M2 + 7, 0x77);
	fixture_expect_fault(f.dev0, SHIM_WRITE, G1 + 2 * M2 + 7, SHIM_FAULT_PERMISSION);
	fixture_expect_fault(f.dev0, SHIM_READ, G1 + 2 * M2 + K4, SHIM_FAULT_NOT_PRESENT);
	/* Of 5 levels, what 4 cannot reach. */
	assert_int_equal(set(&f, vm, 2, 1ull << 48, K4, 0, RW), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 1ull << 48, SHIM_FAULT_ADDRESS_WIDTH);
	assert_int_equal(shim_pt_walk(five, 1ull << 48, SHIM_READ, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
	/* Nothing of it is a table's own, and nothing can be mapped. */
	assert_int_equal(shim_pt_table_bytes(four), 0);
	assert_int_equal(fixture_map(&f, four, 0, K4, 0, RW), SHIM_E_UNSUPPORTED);
	fixture_close(&f);
}

/* Slots that are gone or moved are gone for devices and children, whatever they have cached. */
static void test_change_is_seen_at_once(void **state)
{
	struct shim_pt *ept, *child;
	struct fixture f;
	struct shim_vm *vm;

	fixture_open(&f, NULL, 0, 4 * M2);
	vm = make_vm(&f);
	ept = make_pt(&f, vm, SHIM_FORMAT_EPT_4L);
	child = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, ept);
	assert_int_equal(fixture_map_child(child, 0x7000, K4, G1, RW), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, child);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x7000, SHIM_FAULT_PARENT_NOT_PRESENT);
	f.bytes[0] = 1;
	f.bytes[M2] = 2;
	assert_int_equal(set(&f, vm, 0, G1, M2, 0, RW), 0);
	fixture_expect_byte(f.dev0, 0x7000, 1);
	assert_int_equal(set(&f, vm, 0, 0, 0, 0, 0), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x7000, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(tables_of(vm), 0);
	assert_int_equal(set(&f, vm, 0, G1, M2, M2, RW), 0);
	fixture_expect_byte(f.dev0, 0x7000, 2);
	assert_int_equal(set(&f, vm, 0, 2 * G1, M2, M2, RW), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0x7000, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(set(&f, vm, 0, G1, M2, M2, SHIM_READ), 0);
	fixture_expect_byte(f.dev0, 0x7000, 2);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x7000, SHIM_FAULT_PARENT_PERMISSION);
	/* Of the neighbours in one table only its own entries go. */
	assert_int_equal(set(&f, vm, 1, G1 + 16 * M2, K4, 0, RW), 0);
	assert_int_equal(set(&f, vm, 2, G1 + 16 * M2 + K4, K4, M2, RW), 0);
	assert_int_equal(shim_detach(f.dev0, SHIM_NO_PASID), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, ept);
	fixture_expect_byte(f.dev0, G1 + 16 * M2, 1);
	fixture_expect_byte(f.dev0, G1 + 16 * M2 + K4, 2);
	assert_int_equal(set(&f, vm, 1, 0, 0, 0, 0), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, G1 + 16 * M2, SHIM_FAULT_NOT_PRESENT);
	fixture_expect_byte(f.dev0, G1 + 16 * M2 + K4, 2);
	fixture_close(&f);
}

/* The bound is never exceeded, whatever the alignment. */
static void test_bound(void **state)
{
	static const uint64_t addresses[] = {0, K4, M2 - K4, M2, G1 - K4, (1ull << 39) - M2 - K4};
	static const uint64_t offsets[] = {0, K4, M2};
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	for (size_t a = 0; a < sizeof(addresses) / sizeof(addresses[0]); a++) {
		for (size_t o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
			struct shim_vm *vm = make_vm(&f);
			struct shim_pt *pt = make_pt(&f, vm, SHIM_FORMAT_EPT_4L);
			uint64_t length = 5 * M2 + 3 * K4;
			uint64_t bound =
				shim_vm_slot_bound(vm, addresses[a], length, f.mem, offsets[o]);
			struct shim_walk walk;

			assert_int_equal(set(&f, vm, 0, addresses[a], length, offsets[o], RW), 0);
			for (uint64_t at = 0; at < length; at += K4) {
				assert_int_equal(
					shim_pt_walk(pt, addresses[a] + at, SHIM_READ, &walk), 0);
				assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
				assert_int_equal(walk.offset, offsets[o] + at);
			}
			assert_true(tables_of(vm) * K4 <= bound);
			assert_true(bound <= tables_of(vm) * K4 + 8 * K4);
			shim_pt_destroy(pt);
			shim_vm_destroy(vm);
		}
	}
	fixture_close(&f);
}

static void test_refusals(void **state)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KVM, .format = SHIM_FORMAT_EPT_4L};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;
	struct shim_ctx *other;
	struct fixture f;
	struct shim_vm *vm;

	fixture_open(&f, NULL, 0, M2);
	vm = make_vm(&f);
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &pt), -EINVAL);
	assert_int_equal(shim_ctx_new(f.shim, "other", reason, &other), 0);
	spec.vm = vm;
	assert_int_equal(shim_pt_create(other, &spec, reason, &pt), -EINVAL);
	spec.format = SHIM_FORMAT_VTDSS_4L;
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &pt), SHIM_E_UNSUPPORTED);
	assert_null(pt);
	/* No table pages left: the device's error, and nothing leaks. */
	shim_ctx_free(other);
	fixture_close(&f);

	fixture_open(&f, NULL, 3, M2);
	vm = make_vm(&f);
	pt = make_pt(&f, vm, SHIM_FORMAT_EPT_4L);
	assert_int_equal(set(&f, vm, 0, 0, K4, 0, RW), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
	fixture_close(&f);
}

/* Devices write while slots come, move and go: never elsewhere than where a slot was. */

struct race {
	struct fixture f;
	struct shim_dev *dev;
	atomic_bool stop;
	_Atomic uint64_t moved;
};

static void *do_dma(void *data)
{
	struct race *race = data;
	uint8_t ones[64];

	memset(ones, 0xff, sizeof(ones));
	for (uint64_t n = 0; !race->stop; n++) {
		struct shim_fault fault;
		size_t done;

		assert_int_equal(shim_dma(race->dev, SHIM_NO_PASID, SHIM_WRITE, G1 + n % 1024 * K4,
					  ones, sizeof(ones), &done, &fault),
				 0);
		race->moved += done;
	}
	return NULL;
}

/* Both have written a little more, or had the time to. */
static void wait_for_dma(struct race *races, unsigned int bytes)
{
	uint64_t before[2] = {races[0].moved, races[1].moved};

	for (unsigned int tries = 0; tries < 200; tries++) {
		if (races[0].moved - before[0] >= bytes && races[1].moved - before[1] >= bytes)
			return;
		sched_yield();
	}
}

static void test_change_beside_dma(void **state)
{
	struct shim_dev *devs[2];
	struct shim_pt *pt;
	pthread_t threads[2];
	struct race races[2] = {0};
	struct shim_vm *vm;
	struct fixture *f = &races[0].f;

	fixture_open(f, NULL, 0, 4 * M2);
	vm = make_vm(f);
	pt = make_pt(f, vm, SHIM_FORMAT_EPT_4L);
	devs[0] = f->dev0;
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV0_MORE, NULL, &devs[1]), 0);
	for (int i = 0; i < 2; i++) {
		fixture_attach(devs[i], SHIM_NO_PASID, pt);
		races[i].dev = devs[i];
		assert_int_equal(pthread_create(&threads[i], NULL, do_dma, &races[i]), 0);
	}
	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t at = i % 3 == 2 ? G1 + M2 : G1;

		if (i % 2 == 0)
			assert_int_equal(set(f, vm, 0, at, M2, 0, RW), 0);
		else
			assert_int_equal(set(f, vm, 0, at, 2 * K4, 2 * M2, RW), 0);
		if (i % 5 == 0)
			assert_int_equal(set(f, vm, 0, at, i % 2 ? 2 * K4 : M2, i % 2 ? 2 * M2 : 0,
					     SHIM_READ),
					 0);
		wait_for_dma(races, i % 2 ? 8 : 64);
		assert_int_equal(set(f, vm, 0, 0, 0, 0, 0), 0);
		/* Whatever was written is over: a page that a device could still reach would
		 * change. */
		memset(f->bytes, 0, 64);
		memset(f->bytes + 2 * M2, 0, 64);
		for (unsigned int k = 0; k < 20; k++) {
			assert_int_equal(__atomic_load_n(&f->bytes[0], __ATOMIC_RELAXED), 0);
			assert_int_equal(__atomic_load_n(&f->bytes[2 * M2], __ATOMIC_RELAXED), 0);
		}
		assert_int_equal(f->bytes[3 * M2], 0);
	}
	for (int i = 0; i < 2; i++) {
		races[i].stop = true;
		pthread_join(threads[i], NULL);
	}
	assert_true(races[0].moved && races[1].moved);
	fixture_close(f);
}

static void test_process_is_handed_back(void **state)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_PROCESS};
	struct shim_invalidate all = {.scope = SHIM_INVALIDATE_ALL};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL, *other;
	struct shim_fault fault = {0};
	struct shim_walk walk;
	struct fixture f;
	size_t done = 9;
	uint8_t byte = 0;

	fixture_open(&f, NULL, 0, M2);
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &pt), 0);
	other = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, other);
	assert_int_equal(shim_replace(f.dev0, SHIM_NO_PASID, pt, reason), 0);
	fixture_attach(f.dev0, 5, pt);
	fixture_attach(f.dev1, SHIM_NO_PASID, pt);
	assert_int_equal(shim_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 0, &byte, 1, &done, &fault),
			 SHIM_E_PROCESS);
	assert_int_equal(shim_dma(f.dev0, 5, SHIM_WRITE, 0, &byte, 1, &done, &fault),
			 SHIM_E_PROCESS);
	assert_int_equal(done, 9);
	assert_int_equal(shim_pt_walk(pt, 0, SHIM_READ, &walk), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, RW), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_invalidate(pt, &all, 1, &done), SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 0);
	assert_int_equal(shim_pt_table_bytes(pt), 0);
	spec.format = SHIM_FORMAT_X86_64_4L;
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &other), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_replace(f.dev0, SHIM_NO_PASID, other, reason), 0);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots_by_kvms_rules),
		cmocka_unit_test(test_filled_on_first_use),
		cmocka_unit_test(test_change_is_seen_at_once),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_change_beside_dma),
		cmocka_unit_test(test_process_is_handed_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
