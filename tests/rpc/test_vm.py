# SPDX-License-Identifier: Apache-2.0
"""Kind KVM: VMs, memory slots by KVM's rules, one table shared by the IOASIDs of a VM."""
import struct

from support import policy
from support.case import MIB, PAGE, Case, pattern

POLICY = policy.default()
POLICY["tenants"]["org/d"]["kinds"] = ["kernel"]
GPA = 1 << 30
TOP = 2 ** 64 - 1


class Vms(Case):
    def setUp(self):
        super().setUp()
        self.need_kind(self.pb.IOASID_KIND_KVM)
        self.dev = self.device(self.a)
        self.mem = self.memory(self.a, pages=16, fill=pattern(16 * PAGE))
        self.vm = self.a.CreateVm(label="guest").vm

    def space(self, vm=None, devices=None, **more):
        return self.alloc(self.a, [self.dev] if devices is None else devices,
                          self.pb.IOASID_KIND_KVM, vm=vm or self.vm, **more)

    def slot(self, slot, address, pages=16, offset=0, vm=None, memory=None, **more):
        return self.a.SetMemorySlot(vm=vm or self.vm, slot=slot, guest_address=address,
                                    size=pages * PAGE, memory=(memory or self.mem).id,
                                    offset=offset, **more)

    def drop(self, slot, vm=None):
        return self.a.SetMemorySlot(vm=vm or self.vm, slot=slot)

    def refused_slot(self, reason, slot, address, pages=16, offset=0, field=None, **more):
        fields = dict(vm=self.vm, slot=slot, guest_address=address, size=pages * PAGE,
                      memory=self.mem.id, offset=offset)
        return self.refused(reason, self.a.SetMemorySlot, field=field, **{**fields, **more})

    def attached(self, **more):
        space = self.space(**more)
        self.a.Attach(device=self.dev, ioasid=space)
        return space

    def blocked(self, address, cause="NOT_PRESENT"):
        self.assertBlocked(self.dma_read(self.a, self.dev, address, 8), cause)


class Slots(Vms):
    def test_device_reaches_what_slots_hold(self):
        space = self.attached()
        self.blocked(GPA)
        self.slot(0, GPA, pages=4)
        self.slot(7, 0, pages=2, offset=8 * PAGE)
        self.assertReads(self.a, self.dev, GPA, pattern(16 * PAGE)[:4 * PAGE])
        self.assertReads(self.a, self.dev, PAGE, pattern(16 * PAGE)[9 * PAGE:10 * PAGE])
        self.dma_write(self.a, self.dev, GPA + 2 * PAGE - 4, b"straddle")
        self.assertEqual(self.mem.read(8, 2 * PAGE - 4), b"straddle")
        self.blocked(GPA + 4 * PAGE)
        self.blocked(2 * PAGE)
        got = self.dma_read(self.a, self.dev, GPA + 3 * PAGE, 2 * PAGE)
        self.assertEqual((got.done, got.fault.address), (PAGE, GPA + 4 * PAGE))
        info = self.a.GetIoasid(ioasid=space).ioasid
        self.assertEqual((info.vm, info.mappings, info.attachments), (self.vm, 0, 1))

    def test_deleted_slot_is_gone_when_the_call_returns(self):
        self.attached()
        for i in range(20):
            self.slot(0, GPA, pages=1, offset=i % 16 * PAGE)
            self.assertReads(self.a, self.dev, GPA, pattern(16 * PAGE)[i % 16 * PAGE:][:PAGE])
            self.drop(0)
            self.blocked(GPA)

    def test_moved_slot_is_where_it_is_now(self):
        self.attached()
        self.slot(0, GPA, pages=4)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.slot(0, 2 * GPA, pages=4)
        self.blocked(GPA)
        self.assertReads(self.a, self.dev, 2 * GPA, pattern(PAGE))
        # Onto a part of itself; and where it is already.
        self.slot(0, 2 * GPA + PAGE, pages=4)
        self.slot(0, 2 * GPA + PAGE, pages=4)
        self.blocked(2 * GPA)
        self.assertReads(self.a, self.dev, 2 * GPA + PAGE, pattern(PAGE))

    def test_read_only(self):
        self.attached()
        self.slot(0, GPA, read_only=True)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.assertBlocked(self.dma_write(self.a, self.dev, GPA, b"x"), "PERMISSION")
        self.assertEqual(self.mem.read(PAGE), pattern(PAGE))

    def test_overlap_is_refused_and_changes_nothing(self):
        self.attached()
        self.slot(1, GPA, pages=4)
        for address, pages in ((GPA, 1), (GPA + 3 * PAGE, 1), (GPA - PAGE, 2), (GPA + 3 * PAGE, 2),
                               (GPA - PAGE, 8), (GPA, 4)):
            refusal = self.refused_slot("OVERLAP", 2, address, pages, field="guest_address")
            self.assertIn("slot 1", refusal.message)
        self.slot(2, GPA - PAGE, pages=1)
        self.slot(3, GPA + 4 * PAGE, pages=1)
        self.refused_slot("OVERLAP", 3, GPA + 3 * PAGE, 1, field="guest_address")
        self.refused_slot("OVERLAP", 2, GPA + 4 * PAGE, 1, field="guest_address")
        self.refused_slot("OVERLAP", 1, GPA - 3 * PAGE, 4, field="guest_address")
        # In another VM they are in nobody's way.
        other = self.a.CreateVm().vm
        self.slot(1, GPA, vm=other)
        self.assertReads(self.a, self.dev, GPA - PAGE, pattern(PAGE))
        self.assertReads(self.a, self.dev, GPA + 4 * PAGE, pattern(PAGE))

    def test_what_a_slot_keeps(self):
        other = self.memory(self.a, pages=16)
        self.slot(1, GPA, pages=4)
        for more, field in ((dict(pages=5), "size"), (dict(pages=3), "size"),
                            (dict(offset=PAGE), "offset"), (dict(memory=other.id), "memory"),
                            (dict(read_only=True), "read_only")):
            with self.subTest(field):
                self.refused_slot("INVALID_FIELD", 1, GPA, **{"pages": 4, **more}, field=field)
        self.drop(1)
        self.slot(1, GPA, pages=5, memory=other, read_only=True)

    def test_malformed_slots(self):
        for more, field in (
                (dict(slot=32764), "slot"), (dict(slot=2 ** 32 - 1), "slot"),
                (dict(size=PAGE - 1), "size"), (dict(size=TOP), "size"),
                (dict(guest_address=GPA + 1), "guest_address"), (dict(offset=512), "offset"),
                (dict(guest_address=TOP - PAGE + 1, size=PAGE), "size"),
                (dict(guest_address=TOP - PAGE + 1, size=2 * PAGE), "size"),
                (dict(size=17 * PAGE), "size"), (dict(offset=TOP - PAGE + 1), "size"),
                (dict(offset=15 * PAGE, size=2 * PAGE), "size"),
                (dict(guest_address=1 << 57, size=PAGE), "guest_address"),
                (dict(guest_address=(1 << 57) - PAGE, size=2 * PAGE), "guest_address")):
            with self.subTest(**more):
                fields = dict(vm=self.vm, slot=1, guest_address=GPA, size=PAGE, memory=self.mem.id)
                self.refused("INVALID_FIELD", self.a.SetMemorySlot, field=field, **{**fields, **more})
        self.slot(32763, (1 << 57) - PAGE, pages=1)
        for slot in (0, 32764 - 2):
            self.refused("NOT_FOUND", self.a.SetMemorySlot, vm=self.vm, slot=slot)
        self.refused("INVALID_FIELD", self.a.SetMemorySlot, vm=self.vm, slot=32764, field="slot")
        self.drop(32763)
        self.refused("NOT_FOUND", self.a.SetMemorySlot, vm=self.vm, slot=32763)

    def test_memory_must_suit(self):
        reads = self.memory(self.a, write=False)
        writes = self.memory(self.a, read=False)
        self.refused_slot("MEMORY_UNSUITABLE", 1, GPA, memory=reads.id)
        self.refused_slot("MEMORY_UNSUITABLE", 1, GPA, memory=writes.id)
        self.slot(1, GPA, memory=reads, read_only=True)
        self.refused_slot("INVALID_FIELD", 2, 2 * GPA, memory=0, field="memory")
        for memory in (999, self.vm):
            self.refused_slot("NOT_FOUND", 2, 2 * GPA, memory=memory)

    def test_memory_with_a_slot_is_pending_while_unregistered(self):
        self.attached()
        self.slot(0, GPA)
        self.assertEqual(self.a.ListMemory().memory[0].mappings, 1)
        self.assertTrue(self.a.UnregisterMemory(memory=self.mem.id).pending)
        self.assertEqual(len(self.a.ListMemory().memory), 0)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.assertEqual(self.used("org/a", "registered_bytes"), 16 * PAGE)
        self.drop(0)
        self.assertEqual(self.used("org/a", "registered_bytes"), 0)
        self.blocked(GPA)
        self.refused_slot("NOT_FOUND", 0, GPA)

    def test_nothing_is_pinned_or_mapped(self):
        before = self.used("org/a", "pinned_bytes", "mapped_bytes", "map_entries")
        self.attached()
        self.slot(0, GPA)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.assertEqual(self.used("org/a", "pinned_bytes", "mapped_bytes", "map_entries"), before)

    def test_many_slots(self):
        self.attached()
        for i in range(300):
            self.slot(i * 7 % 300, GPA + i * 7 % 300 * 2 * PAGE, pages=1, offset=i % 16 * PAGE)
        for i in (0, 13, 299):
            number = i * 7 % 300
            self.assertReads(self.a, self.dev, GPA + number * 2 * PAGE,
                             pattern(16 * PAGE)[i % 16 * PAGE:][:PAGE])
            self.blocked(GPA + number * 2 * PAGE + PAGE)
        self.assertEqual(self.a.ListMemory().memory[0].mappings, 300)
        self.check_counters()
        for i in range(0, 300, 2):
            self.drop(i)
        self.blocked(GPA)
        self.assertEqual(self.a.ListMemory().memory[0].mappings, 150)


class Spaces(Vms):
    def test_one_table_for_all_of_a_vm(self):
        first = self.attached(label="first")
        second = self.space()
        self.slot(0, GPA)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        walk = [self.a.Translate(ioasid=i, iova=GPA, access=self.pb.ACCESS_READ)
                for i in (first, second)]
        tables = [[level.table for level in w.levels] for w in walk]
        self.assertEqual(tables[0], tables[1])
        self.assertEqual((walk[1].memory, walk[1].offset), (self.mem.id, 0))
        # Another VM's is another.
        other = self.a.CreateVm().vm
        self.slot(0, GPA, vm=other)
        third = self.space(other)
        walk = self.a.Translate(ioasid=third, iova=GPA, access=self.pb.ACCESS_READ)
        self.assertEqual(len({level.table for level in walk.levels} & set(tables[0])), 0)

    def test_translate_fills_as_a_device_does(self):
        space = self.space()
        self.slot(0, GPA, read_only=True)
        walk = self.a.Translate(ioasid=space, iova=GPA + PAGE, access=self.pb.ACCESS_WRITE)
        self.assertEqual(self.pb.FaultCause.Name(walk.fault.cause), "FAULT_CAUSE_PERMISSION")
        walk = self.a.Translate(ioasid=space, iova=GPA + PAGE, access=self.pb.ACCESS_READ)
        self.assertFalse(walk.HasField("fault"))
        self.assertEqual([level.level for level in walk.levels], [4, 3, 2, 1])
        walk = self.a.Translate(ioasid=space, iova=2 * GPA, access=self.pb.ACCESS_READ)
        self.assertEqual(self.pb.FaultCause.Name(walk.fault.cause), "FAULT_CAUSE_NOT_PRESENT")

    def test_large_pages_where_all_is_aligned(self):
        big = self.memory(self.a, pages=4 * MIB // PAGE)
        space = self.space()
        self.slot(0, GPA, pages=4 * MIB // PAGE, memory=big)
        walk = self.a.Translate(ioasid=space, iova=GPA + 3 * MIB, access=self.pb.ACCESS_WRITE)
        self.assertEqual((walk.page_size, walk.offset), (2 * MIB, 3 * MIB))
        self.slot(0, GPA + PAGE, pages=4 * MIB // PAGE, memory=big)
        walk = self.a.Translate(ioasid=space, iova=GPA + 3 * MIB, access=self.pb.ACCESS_WRITE)
        self.assertEqual((walk.page_size, walk.offset), (PAGE, 3 * MIB - PAGE))

    def test_format_is_ept_and_only_here(self):
        pb = self.pb
        answer = self.a.Alloc(kind=pb.IOASID_KIND_KVM, vm=self.vm, devices=[self.dev])
        self.assertEqual(answer.choice.format, pb.PAGE_TABLE_FORMAT_EPT_4L)
        five = self.a.Alloc(kind=pb.IOASID_KIND_KVM, vm=self.vm, devices=[self.dev],
                            input_bits=57)
        self.assertEqual(five.choice.format, pb.PAGE_TABLE_FORMAT_EPT_5L)
        self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, kind=pb.IOASID_KIND_KVM, vm=self.vm,
                     devices=[self.dev], candidates=[{"format": pb.PAGE_TABLE_FORMAT_VTDSS_4L}])
        refusal = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, kind=pb.IOASID_KIND_KERNEL,
                               devices=[self.dev],
                               candidates=[{"format": pb.PAGE_TABLE_FORMAT_EPT_4L}])
        self.assertIn("kvm", refusal.text())

    def test_map_is_refused(self):
        space = self.space()
        self.refused("NOT_FOUND", self.a.Map, ioasid=space, entries=[self.entry(GPA, self.mem)])
        self.refused("NOT_FOUND", self.a.Unmap, ioasid=space,
                     ranges=[{"iova": GPA, "length": PAGE}])
        self.slot(0, GPA)
        self.assertEqual(self.mappings(self.a, space), [])

    def test_alloc_names_a_vm_and_little_else(self):
        kvm = dict(kind=self.pb.IOASID_KIND_KVM, devices=[self.dev])
        self.refused("INVALID_FIELD", self.a.Alloc, **kvm, field="vm")
        for vm in (999, self.mem.id):
            self.refused("NOT_FOUND", self.a.Alloc, **kvm, vm=vm)
        self.refused("NOT_FOUND", self.b.Alloc, kind=self.pb.IOASID_KIND_KVM, vm=self.vm)
        space = self.space()
        self.refused("INVALID_FIELD", self.a.Alloc, **kvm, vm=self.vm, parent=space, field="parent")
        self.refused("INVALID_FIELD", self.a.Alloc, **kvm, vm=self.vm, table=dict(root=PAGE),
                     field="table")
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, vm=self.vm,
                     field="vm")

    def child(self, space, **more):
        """Its address 5 * PAGE leads to page 9 of the slot."""
        self.mem.write(bytes(4 * PAGE), 0)
        for level, index, entry in ((0, 0, GPA + PAGE + 7), (1, 0, GPA + 2 * PAGE + 7),
                                    (2, 0, GPA + 3 * PAGE + 7), (3, 5, GPA + 9 * PAGE + 7)):
            self.mem.write(struct.pack("<Q", entry), level * PAGE + index * 8)
        return self.alloc(self.a, [self.dev], self.pb.IOASID_KIND_USER, parent=space,
                          table=dict(root=GPA, format=self.pb.PAGE_TABLE_FORMAT_X86_64_4L), **more)

    def test_dirty_pages_of_a_child(self):
        """They are told, and cleaned, also where the VM's own table is not filled (again) yet."""
        if not self.inventory.all[self.dev].capabilities.dirty_tracking:
            self.skipTest("the device has no dirty tracking")
        self.slot(0, GPA)
        child = self.child(self.space(), dirty_tracking=True)
        self.a.Attach(device=self.dev, ioasid=child)

        def read():
            stream = self.a.watch("ReadDirtyBitmap", ioasid=child, iova=0, length=8 * PAGE,
                                  page_size=PAGE)
            part = stream.next(10 * self.slow)
            self.assertEqual(stream.next(10 * self.slow), "END")
            return part.bitmap

        def again():
            self.drop(0)
            self.slot(0, GPA)

        def write():
            self.dma_write(self.a, self.dev, 5 * PAGE, b"x")

        write()
        again()
        self.a.SetDirtyTracking(ioasid=child, enable=True)
        self.assertEqual(read(), b"\0")
        write()
        again()
        self.assertEqual(read(), b"\x20")
        self.assertEqual(read(), b"\0")
        write()
        self.assertEqual(read(), b"\x20")

    def test_child_that_the_tenant_writes(self):
        """x86-64 in the guest's memory, found by its own addresses (F5 below a VM)."""
        pb = self.pb
        self.slot(0, GPA)
        space = self.space()
        child = self.child(space)
        self.a.Attach(device=self.dev, ioasid=child)
        self.assertReads(self.a, self.dev, 5 * PAGE, pattern(16 * PAGE)[9 * PAGE:10 * PAGE])
        self.drop(0)
        self.blocked(5 * PAGE, "PARENT_NOT_PRESENT")
        self.slot(0, GPA)
        self.assertReads(self.a, self.dev, 5 * PAGE, pattern(16 * PAGE)[9 * PAGE:10 * PAGE])
        # A parent that is freed waits for its child, and the VM for both.
        self.assertTrue(self.a.Free(ioasid=space).pending)
        self.a.DestroyVm(vm=self.vm)
        self.assertReads(self.a, self.dev, 5 * PAGE, pattern(16 * PAGE)[9 * PAGE:10 * PAGE])

    def test_device_without_ept(self):
        poor = [d.address for d in self.inventory.single
                if not any(f.format == self.pb.PAGE_TABLE_FORMAT_EPT_4L
                           for f in d.capabilities.formats)]
        self.assertTrue(poor)
        self.a.ClaimDevice(devices=[poor[0]])
        self.refused("UNIMPLEMENTED", self.a.Alloc, kind=self.pb.IOASID_KIND_KVM, vm=self.vm,
                     devices=[poor[0]], text="EPT")
        self.refused("INCOMPATIBLE", self.a.Attach, device=poor[0], ioasid=self.space())


class Lives(Vms):
    def test_destroyed_vm_is_invisible_and_lives_while_it_is_used(self):
        space = self.attached()
        self.slot(0, GPA)
        self.a.DestroyVm(vm=self.vm)
        for call in (self.a.DestroyVm, self.a.SetMemorySlot):
            self.refused("NOT_FOUND", call, vm=self.vm)
        self.refused("NOT_FOUND", self.a.Alloc, kind=self.pb.IOASID_KIND_KVM, vm=self.vm)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.assertEqual(self.used("org/a", "vms"), 1)
        self.assertTrue(self.a.UnregisterMemory(memory=self.mem.id).pending)
        self.assertTrue(self.a.Free(ioasid=space).pending)
        self.assertReads(self.a, self.dev, GPA, pattern(PAGE))
        self.a.Detach(device=self.dev)
        self.assertEqual(self.used("org/a", "vms", "ioasids_kvm", "registered_bytes"), [0, 0, 0])

    def test_destroyed_vm_without_spaces_goes_at_once(self):
        self.slot(0, GPA)
        self.a.DestroyVm(vm=self.vm)
        self.assertEqual(self.used("org/a", "vms"), 0)
        self.assertFalse(self.a.UnregisterMemory(memory=self.mem.id).pending)

    def test_lease_takes_all_along(self):
        conn = self.connect()
        conn.OpenLease(name="guest")
        vm = conn.CreateVm(lease="guest").vm
        mem = self.memory(conn, scope={"lease": "guest"})
        conn.SetMemorySlot(vm=vm, size=PAGE, memory=mem.id, lease="guest")
        self.alloc(conn, kind=self.pb.IOASID_KIND_KVM, vm=vm, lease="guest")
        # Ids are one lease's own.
        self.refused("NOT_FOUND", conn.DestroyVm, vm=vm)
        self.assertEqual(self.used("org/a", "vms"), 2)
        conn.CloseLease(lease="guest")
        self.wait_used("org/a", "vms", 1)

    def test_foreign_vm_cannot_be_told_from_none(self):
        for vm in (self.vm, 4711):
            refusals = [self.refused("NOT_FOUND", self.b.SetMemorySlot, vm=vm, slot=0),
                        self.refused("NOT_FOUND", self.b.DestroyVm, vm=vm)]
            self.assertEqual({r.message.replace(str(vm), "N") for r in refusals}, {"no VM N"})

    def test_repeated_requests(self):
        first = self.a.CreateVm(label="x", key="make").vm
        self.assertEqual(self.a.CreateVm(label="x", key="make").vm, first)
        self.refused("KEY_REUSED", self.a.CreateVm, label="y", key="make")
        for _ in range(2):
            self.a.SetMemorySlot(vm=first, size=PAGE, memory=self.mem.id, key="set")
        for _ in range(2):
            self.a.SetMemorySlot(vm=first, key="unset")
        for _ in range(2):
            self.a.DestroyVm(vm=first, key="end")
        self.assertEqual(self.used("org/a", "vms"), 1)

    def test_label(self):
        self.a.CreateVm(label="x" * 64)
        self.refused("INVALID_FIELD", self.a.CreateVm, label="x" * 65, field="label")

    def test_tables_are_charged_with_the_slot(self):
        """The most that they can come to, so that no device makes a tenant exceed its limit."""
        self.attached()
        aligned = self.memory(self.a, pages=4 * MIB // PAGE)
        before = self.used("org/a", "broker_bytes")
        self.slot(0, GPA, pages=4 * MIB // PAGE, memory=aligned)
        large = self.used("org/a", "broker_bytes") - before
        self.slot(0, GPA + PAGE, pages=4 * MIB // PAGE, memory=aligned)
        small = self.used("org/a", "broker_bytes") - before
        self.assertGreater(small, large)
        for page in range(0, 4 * MIB // PAGE, 64):
            self.dma_read(self.a, self.dev, GPA + PAGE + page * PAGE, 8)
        self.assertEqual(self.used("org/a", "broker_bytes") - before, small)
        self.slot(0, 2 * GPA, pages=4 * MIB // PAGE, memory=aligned)
        self.assertEqual(self.used("org/a", "broker_bytes") - before, large)
        # A move that costs more than there is: refused, and it stays where it was.
        self.limited("org/a", broker_bytes=self.used("org/a", "broker_bytes") + 6000)
        self.refused("QUOTA", self.a.SetMemorySlot, vm=self.vm, slot=0, guest_address=GPA + PAGE,
                     size=4 * MIB, memory=aligned.id)
        self.assertEqual(self.used("org/a", "broker_bytes") - before, large)
        self.assertFalse(self.dma_read(self.a, self.dev, 2 * GPA, 8).HasField("fault"))
        self.refused("QUOTA", self.a.SetMemorySlot, vm=self.vm, slot=1, guest_address=0,
                     size=PAGE, memory=self.mem.id)
        self.drop(0)
        self.assertEqual(self.used("org/a", "broker_bytes") - before, 0)

    def test_kind_that_the_policy_forbids(self):
        forbidden = self.connect(policy.D)
        self.refused("POLICY_FORBIDDEN", forbidden.CreateVm)
        self.assertEqual(self.used("org/d", "leases"), 0)


class Lists(Vms):
    def test_list(self):
        (listed,) = self.a.ListVms().vms
        self.assertEqual((listed.vm, listed.label, listed.slots, listed.slot_bytes, listed.ioasids),
                         (self.vm, "guest", 0, 0, 0))
        self.slot(0, GPA, pages=4)
        self.slot(9, 2 * GPA, pages=16)
        space = self.space()
        (listed,) = self.a.ListVms().vms
        self.assertEqual((listed.slots, listed.slot_bytes, listed.ioasids), (2, 20 * PAGE, 1))
        self.slot(0, 3 * GPA, pages=4)
        self.drop(9)
        self.a.Free(ioasid=space)
        (listed,) = self.a.ListVms().vms
        self.assertEqual((listed.slots, listed.slot_bytes, listed.ioasids), (1, 4 * PAGE, 0))
        # A slot that is refused is not counted.
        self.refused_slot("OVERLAP", 2, 3 * GPA)
        self.assertEqual(self.a.ListVms().vms[0].slots, 1)
        self.a.DestroyVm(vm=self.vm)
        self.assertEqual(len(self.a.ListVms().vms), 0)

    def test_an_ioasid_says_which(self):
        other = self.a.CreateVm().vm
        spaces = {self.space(): self.vm, self.space(other): other,
                  self.alloc(self.a, [self.dev]): 0}
        self.assertEqual({i.ioasid: i.vm for i in self.a.ListIoasids().ioasids}, spaces)

    def test_destroyed_is_pending_and_in_no_list(self):
        space = self.space()
        self.a.DestroyVm(vm=self.vm)
        self.assertEqual(len(self.a.ListVms().vms), 0)
        (lease,) = self.admin.ListObjects().leases
        self.assertEqual((len(lease.vms), lease.pending), (0, 1))
        # What is of it still says of which it is.
        self.assertEqual(self.a.GetIoasid(ioasid=space).ioasid.vm, self.vm)
        self.a.Free(ioasid=space)
        (lease,) = self.admin.ListObjects().leases
        self.assertEqual(lease.pending, 0)

    def test_pages(self):
        ids = [self.vm] + [self.a.CreateVm().vm for _ in range(4)]
        seen, token = [], ""
        while True:
            page = self.a.ListVms(page_size=2, page_token=token)
            self.assertLessEqual(len(page.vms), 2)
            seen += [v.vm for v in page.vms]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(seen, ids)

    def test_a_tenant_sees_its_leases_own(self):
        self.assertEqual(len(self.b.ListVms().vms), 0)
        self.a.OpenLease(name="second")
        self.assertEqual(len(self.a.ListVms(lease="second").vms), 0)
        second = self.a.CreateVm(label="two", lease="second").vm
        self.assertEqual([v.vm for v in self.a.ListVms(lease="second").vms], [second])
        self.assertEqual([v.label for v in self.a.ListVms().vms], ["guest"])
        self.refused("NOT_FOUND", self.b.ListVms, lease="second")
        self.a.CloseLease(lease="second")

    def test_admin_and_observer_see_all(self):
        """By ListObjects; ListVms is of a lease, and they have none."""
        self.slot(0, GPA, pages=4)
        mine = self.b.CreateVm(label="of b").vm
        watcher = self.connect(policy.OBSERVER, "watch")
        for who in (self.admin, watcher):
            seen = {x.lease.tenant: [(v.vm, v.label, v.slots, v.slot_bytes) for v in x.vms]
                    for x in who.ListObjects().leases}
            self.assertEqual(seen, {"org/a": [(self.vm, "guest", 1, 4 * PAGE)],
                                    "org/b": [(mine, "of b", 0, 0)]})
            self.refused("ROLE_FORBIDDEN", who.ListVms)
        (lease,) = watcher.ListObjects(subtree="org/b").leases
        self.assertEqual([v.vm for v in lease.vms], [mine])
        self.b.DestroyVm(vm=mine)

    def test_agent_sees_its_tenants(self):
        agent = self.connect(policy.AGENT, "agents")
        vm = agent.CreateVm(label="pod", tenant="org/b").vm
        self.assertEqual([v.vm for v in agent.ListVms(tenant="org/b").vms], [vm])
        self.assertEqual(len(agent.ListVms(tenant="org/a").vms), 0)
        self.refused("ROLE_FORBIDDEN", agent.ListVms, tenant="lab/c")
