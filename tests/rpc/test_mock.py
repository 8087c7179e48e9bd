# SPDX-License-Identifier: Apache-2.0
"""The kernel's mock devices: nested tables, invalidations, PASIDs, page requests and dirty pages
by RPC, and what the kernel says of it (MD_CHECK_IOTLB and others, by tests/mock/door.c).  A nested
table is one number to the mock, its root's page; its IOTLB has four entries of it, and an
invalidated one is 0.  DMA through such a table it cannot do: test_user.py and the guest jobs for
arm64 do that."""
import struct
import time

from support import policy
from support.case import PAGE, Case, pattern
from support.client import Refused
from support.door import READ, WRITE

ARGUMENTS = ("--grace", "60", "--fault-timeout", "8000")
POLICY = policy.default()

RAM = 0x1000000  # where a guest's memory lies in its parent


class Mock(Case):
    def setUp(self):
        super().setUp()
        self.door = self.world.server.door
        self.X86 = self.pb.PAGE_TABLE_FORMAT_X86_64_4L
        self.devices = [d.address for d in self.inventory.single]

    def guest(self, conn, *devices, pages=16, seed=1, **more):
        """Devices, memory, and a space with it."""
        conn.ClaimDevice(devices=list(devices))
        memory = self.memory(conn, pages=pages, fill=pattern(pages * PAGE, seed))
        space = self.alloc(conn, devices, **more)
        self.map(conn, space, *self.entries(RAM, memory, pages))
        return space, memory

    def user(self, conn, device, parent, **more):
        return self.alloc(conn, [device], kind=self.pb.IOASID_KIND_USER, parent=parent,
                          candidates=[dict(format=self.X86)], **more)

    def bind(self, conn, ioasid, root):
        conn.BindPageTable(ioasid=ioasid, table=dict(root=root, format=self.X86))

    def range(self, iova, length=PAGE, **more):
        return dict(granularity=self.pb.INVALIDATE_GRANULARITY_RANGE, iova=iova, length=length,
                    **more)

    def assertIotlb(self, device, *values, pasid=None):
        self.assertTrue(self.door.iotlb(device, values, pasid),
                        "IOTLB of %s (PASID %s) is not %s" % (device, pasid, values))


class Tables(Mock):
    def setUp(self):
        super().setUp()
        self.dev, self.other = self.devices[:2]
        self.gpa, self.mem = self.guest(self.a, self.dev, self.other)
        self.child = self.user(self.a, self.dev, self.gpa)

    def test_the_test_can_tell(self):
        self.bind(self.a, self.child, RAM)
        self.a.Attach(device=self.dev, ioasid=self.child)
        self.assertIotlb(self.dev, *[RAM >> 12] * 4)
        for wrong in range(4):
            values = [RAM >> 12] * 4
            values[wrong] += 1
            with self.assertRaises(self.failureException):
                self.assertIotlb(self.dev, *values)

    def test_F4_a_bound_table_is_the_kernels(self):
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        self.a.Attach(device=self.other, ioasid=self.gpa)
        self.assertReads(self.a, self.dev, RAM, pattern(PAGE))
        # Its attachment implies the parent's.  Nothing is bound: nothing is there.
        self.a.Attach(device=self.dev, ioasid=self.child)
        self.assertBlocked(self.dma_read(self.a, self.dev, RAM, 8), "NOT_PRESENT")
        self.bind(self.a, self.child, RAM + 3 * PAGE)
        self.assertIotlb(self.dev, *[(RAM >> 12) + 3] * 4)
        got = self.a.GetIoasid(ioasid=self.child).ioasid
        self.assertEqual((got.table.root, got.parent), (RAM + 3 * PAGE, self.gpa))
        # Another in its place; nothing is left of the first.
        self.bind(self.a, self.child, RAM + 4 * PAGE)
        self.assertIotlb(self.dev, *[(RAM >> 12) + 4] * 4)
        # The other device is on the parent still.
        self.assertReads(self.a, self.other, RAM, pattern(PAGE))
        self.a.UnbindPageTable(ioasid=self.child)
        self.assertBlocked(self.dma_read(self.a, self.dev, RAM, 8), "NOT_PRESENT")
        self.refused("WRONG_STATE", self.a.UnbindPageTable, ioasid=self.child)

    def test_a_table_at_alloc_and_two_devices_behind_it(self):
        child = self.user(self.a, self.dev, self.gpa, table=dict(root=RAM, format=self.X86))
        for device in (self.dev, self.other):
            self.a.Attach(device=device, ioasid=child)
            self.assertIotlb(device, *[RAM >> 12] * 4)
        # One invalidation is for both, and so is a bind.
        self.a.Invalidate(ioasid=child, entries=[self.range(PAGE)])
        self.bind(self.a, child, RAM + PAGE)
        for device in (self.dev, self.other):
            self.assertIotlb(device, *[(RAM >> 12) + 1] * 4)

    def test_dma_through_it_is_refused_and_not_guessed(self):
        self.bind(self.a, self.child, RAM)
        self.a.Attach(device=self.dev, ioasid=self.child)
        answer = self.a.attempt("DeviceDma", device=self.dev, access=self.pb.ACCESS_READ, iova=RAM,
                                length=8)
        self.check_refusal(answer, "UNIMPLEMENTED")

    def test_a_root_outside_of_the_parent(self):
        self.bind(self.a, self.child, RAM)
        self.a.Attach(device=self.dev, ioasid=self.child)
        for root in (RAM + 8, 1 << 31, 1 << 60):
            self.refused("INVALID_FIELD", self.a.BindPageTable, ioasid=self.child,
                         table=dict(root=root), field="table")
        self.assertIotlb(self.dev, *[RAM >> 12] * 4)

    def test_a_bind_undisturbed_by_the_parents_changes(self):
        self.bind(self.a, self.child, RAM)
        self.a.Attach(device=self.dev, ioasid=self.child)
        other = self.memory(self.a, pages=4)
        self.map(self.a, self.gpa, self.entry(RAM + (1 << 20), other, 4))
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertIotlb(self.dev, *[RAM >> 12] * 4)
        self.assertTrue(self.a.Free(ioasid=self.gpa).pending)
        self.a.Detach(device=self.dev)
        self.a.Free(ioasid=self.child)
        self.assertEqual(self.used("org/a", "ioasids", "map_entries", "pinned_bytes"), [0, 0, 0])


class Invalidations(Mock):
    ROOT = RAM + 5 * PAGE

    def setUp(self):
        super().setUp()
        self.dev = self.devices[0]
        self.gpa, self.mem = self.guest(self.a, self.dev)
        self.child = self.user(self.a, self.dev, self.gpa)
        self.bind(self.a, self.child, self.ROOT)
        self.a.Attach(device=self.dev, ioasid=self.child)
        self.v = self.ROOT >> 12
        self.assertIotlb(self.dev, *[self.v] * 4)

    def invalidate(self, *entries):
        self.assertEqual(self.a.Invalidate(ioasid=self.child, entries=entries).done, len(entries))

    def test_too_narrow_a_range_leaves_the_rest(self):
        self.invalidate(self.range(0x7002000))
        self.assertIotlb(self.dev, self.v, self.v, 0, self.v)
        self.invalidate(self.range(0x7000000, leaf=True), self.range(0x7003fff, 1))
        self.assertIotlb(self.dev, 0, self.v, 0, 0)
        # Two pages are more than one command of the mock's can say: everything goes.
        self.invalidate(self.range(0x7000000, 2 * PAGE))
        self.assertIotlb(self.dev, 0, 0, 0, 0)

    def test_every_granularity_reaches_the_kernel(self):
        pb = self.pb
        for entry in (dict(granularity=pb.INVALIDATE_GRANULARITY_ALL),
                      dict(granularity=pb.INVALIDATE_GRANULARITY_PASID, pasid={"value": 7}),
                      dict(granularity=pb.INVALIDATE_GRANULARITY_DEVICE_TLB, device=self.dev)):
            with self.subTest(entry=entry):
                self.bind(self.a, self.child, self.ROOT)
                self.assertIotlb(self.dev, *[self.v] * 4)
                self.invalidate(entry)
                self.assertIotlb(self.dev, 0, 0, 0, 0)

    def test_what_comes_before_a_bad_entry_is_done(self):
        refusal = self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=self.child, entries=[
            self.range(0x7001000), self.range(0x7002000, 0), self.range(0x7003000)])
        self.assertEqual(refusal.fields[0][0], "entries[1].length")
        # Refused as a whole, before anything is done.
        self.assertIotlb(self.dev, *[self.v] * 4)

    def test_over_the_rate_the_prefix_is_done(self):
        self.limited("org/a", invalidations_per_second=2)
        time.sleep(1.1)
        done = self.a.Invalidate(ioasid=self.child,
                                 entries=[self.range(n * PAGE) for n in range(4)]).done
        self.assertIn(done, (2, 3))
        self.assertIotlb(self.dev, *[0] * done, *[self.v] * (4 - done))

    def test_native_commands_of_another_hardware_are_refused(self):
        self.refused("UNIMPLEMENTED", self.a.Invalidate, ioasid=self.child,
                     native=struct.pack("<QQII", 0, 1, 0, 0),
                     native_type=self.pb.NATIVE_INVALIDATION_VTD_S1)
        self.assertIotlb(self.dev, *[self.v] * 4)

    def test_another_tenants_invalidations(self):
        """The same addresses, the same root: each its own."""
        device = self.devices[1]
        gpa, _ = self.guest(self.b, device, seed=2)
        child = self.user(self.b, device, gpa)
        self.bind(self.b, child, self.ROOT)
        self.b.Attach(device=device, ioasid=child)
        self.refused("NOT_FOUND", self.b.Invalidate, ioasid=self.child + 1000,
                     entries=[self.range(0)])
        self.b.Invalidate(ioasid=child, entries=[
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_ALL)])
        self.assertIotlb(device, 0, 0, 0, 0)
        self.assertIotlb(self.dev, *[self.v] * 4)


class Pasids(Mock):
    def setUp(self):
        super().setUp()
        self.dev = self.devices[0]
        self.gpa, self.mem = self.guest(self.a, self.dev)
        self.second = self.alloc(self.a, [self.dev])
        self.map(self.a, self.second, self.entry(RAM, self.mem, 1, 2 * PAGE))

    def translated(self):
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = "translated"
        self.addCleanup(self.reload, policy.default())
        self.reload(changed)

    def reload(self, content):
        self.world.server.write_policy(content)
        self.admin.ReloadPolicy()

    def attach(self, ioasid, pasid):
        self.a.Attach(device=self.dev, ioasid=ioasid, pasid={"value": pasid})

    def test_attach_replace_detach(self):
        self.attach(self.gpa, 5)
        self.attach(self.second, 6)
        self.assertEqual(self.door.pasids(self.dev), [5, 6])
        for pasid in (5, 6):
            self.assertTrue(self.door.is_attached(self.dev, pasid))
        page = pattern(16 * PAGE)
        self.assertReads(self.a, self.dev, RAM, page[:64], 5)
        self.assertReads(self.a, self.dev, RAM, page[2 * PAGE:][:64], 6)
        self.assertBlocked(self.dma_read(self.a, self.dev, RAM, 8), "NOT_ATTACHED")
        self.a.Replace(device=self.dev, pasid={"value": 5}, ioasid=self.second)
        self.assertTrue(self.door.is_attached(self.dev, 5))
        self.assertReads(self.a, self.dev, RAM, page[2 * PAGE:][:64], 5)
        self.a.Detach(device=self.dev, pasid={"value": 5})
        self.assertEqual(self.door.pasids(self.dev), [6])
        self.assertFalse(self.door.is_attached(self.dev, 5))
        self.assertBlocked(self.dma_read(self.a, self.dev, RAM, 8, 5), "NOT_ATTACHED")
        self.assertReads(self.a, self.dev, RAM, page[2 * PAGE:][:64], 6)

    def test_F5_a_tenants_tables_by_pasid(self):
        children = {}
        for pasid, root in ((7, RAM), (9, RAM + PAGE)):
            children[pasid] = self.user(self.a, self.dev, self.gpa,
                                        table=dict(root=root, format=self.X86))
            self.attach(children[pasid], pasid)
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        self.assertIotlb(self.dev, *[RAM >> 12] * 4, pasid=7)
        self.assertIotlb(self.dev, *[(RAM >> 12) + 1] * 4, pasid=9)
        # Invalidations of one are not the other's, and it is bound anew without it.
        self.a.Invalidate(ioasid=children[7], entries=[self.range(PAGE)])
        self.assertIotlb(self.dev, RAM >> 12, 0, RAM >> 12, RAM >> 12, pasid=7)
        self.assertIotlb(self.dev, *[(RAM >> 12) + 1] * 4, pasid=9)
        self.bind(self.a, children[9], RAM + 2 * PAGE)
        self.assertIotlb(self.dev, *[(RAM >> 12) + 2] * 4, pasid=9)
        self.assertIotlb(self.dev, RAM >> 12, 0, RAM >> 12, RAM >> 12, pasid=7)
        self.assertReads(self.a, self.dev, RAM, pattern(PAGE))

    def test_the_kernel_has_other_pasids_than_the_guest(self):
        self.translated()
        self.attach(self.gpa, 700)
        self.attach(self.second, 500)
        physical = self.door.pasids(self.dev)
        self.assertEqual(len(physical), 2)
        self.assertFalse({700, 500} & set(physical))
        self.assertEqual(sorted(x.pasid.value for x in self.a.ListAttachments().attachments),
                         [500, 700])
        self.assertReads(self.a, self.dev, RAM, pattern(64), 700)

    def test_a_release_takes_them_all(self):
        self.attach(self.gpa, 5)
        self.attach(self.user(self.a, self.dev, self.gpa,
                              table=dict(root=RAM, format=self.X86)), 6)
        self.a.ReleaseDevice(devices=[self.dev])
        self.assertEqual(self.used("org/a", "pasids", "devices"), [0, 0])
        self.a.ClaimDevice(devices=[self.dev])
        self.assertEqual(self.door.pasids(self.dev), [])
        self.attach(self.gpa, 5)
        self.assertReads(self.a, self.dev, RAM, pattern(64), 5)


class Requests(Mock):
    """A device asks for a page; the kernel tells the shim, and the tenant hears of it."""

    def setUp(self):
        super().setUp()
        self.dev, self.second, self.foreign = self.devices[:3]
        self.gpa, self.mem = self.guest(self.a, self.dev, self.second, faults=True)
        for device in (self.dev, self.second):
            self.a.Attach(device=device, ioasid=self.gpa)
        self.watch = self.watching(self.a)

    def watching(self, conn, **more):
        stream = conn.watch("WatchFaults", timeout=60 * self.slow, **more)
        self.addCleanup(stream.cancel)
        # It is there when it is charged: before that nobody would be told.
        path = policy.TENANT_OF[conn.uid]
        self.wait_used(path, "watch_streams", self.used(path, "watch_streams") or 1)
        return stream

    def event(self, stream=None):
        got = (stream or self.watch).next(5 * self.slow)
        self.assertIsNotNone(got, "no fault was told")
        self.assertFalse(isinstance(got, Refused), got)
        return got

    def respond(self, conn, event, word="SUCCESS"):
        conn.RespondFault(cookie=event.cookie,
                          code=self.pb.FaultResponseCode.Value("FAULT_RESPONSE_CODE_" + word))

    def no_such_fault(self, conn, event):
        self.refused("NOT_FOUND", conn.RespondFault, cookie=event.cookie,
                     code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)

    def test_F6_two_devices_of_a_tenant_and_one_of_another(self):
        space, _ = self.guest(self.b, self.foreign, seed=2, faults=True)
        self.b.Attach(device=self.foreign, ioasid=space)
        theirs = self.watching(self.b)
        # The same group and the same address everywhere: only the device tells them apart.
        for device, access in ((self.dev, READ), (self.foreign, READ | WRITE),
                               (self.second, WRITE)):
            self.door.request_page(device, RAM + 0x1000000, access, group=3)
        mine = {}
        for _ in range(2):
            event = self.event()
            mine[event.device] = event
        self.assertEqual(set(mine), {self.dev, self.second})
        other = self.event(theirs)
        self.assertEqual((other.device, other.ioasid), (self.foreign, space))
        for event, access in ((mine[self.dev], self.pb.ACCESS_READ),
                              (mine[self.second], self.pb.ACCESS_WRITE)):
            self.assertEqual((event.ioasid, event.fault.address, event.fault.access, event.group,
                              event.last, event.HasField("pasid")),
                             (self.gpa, RAM + 0x1000000, access, 3, True, False))
            self.assertTrue(event.cookie and event.deadline_ms)
        self.assertEqual((self.used("org/a", "fault_slots"), self.used("org/b", "fault_slots")),
                         (2, 1))
        # Nobody answers what is another's, and each answer is for one device.
        self.no_such_fault(self.b, mine[self.dev])
        self.no_such_fault(self.a, other)
        self.respond(self.a, mine[self.second])
        self.no_such_fault(self.a, mine[self.second])
        self.assertEqual(self.used("org/a", "fault_slots"), 1)
        self.respond(self.b, other)
        self.respond(self.a, mine[self.dev], "INVALID")
        self.assertEqual((self.used("org/a", "fault_slots"), self.used("org/b", "fault_slots")),
                         (0, 0))
        self.assertIsNone(self.watch.next(0.3))
        self.assertIsNone(theirs.next(0.3))

    def test_a_device_that_asks_for_none_is_told_nothing(self):
        plain = self.alloc(self.a, [self.dev])
        self.a.Replace(device=self.dev, ioasid=plain)
        self.door.request_page(self.dev, RAM)
        self.a.Detach(device=self.dev)
        self.door.request_page(self.dev, RAM)
        self.assertIsNone(self.watch.next(0.3))
        # The other one's arrives.
        self.door.request_page(self.second, RAM)
        self.respond(self.a, self.event())

    def test_of_a_tenants_table(self):
        child = self.user(self.a, self.dev, self.gpa, faults=True,
                          table=dict(root=RAM, format=self.X86))
        self.a.Detach(device=self.dev)
        self.a.Attach(device=self.dev, ioasid=child)
        self.door.request_page(self.dev, 0x7fff12345000, READ | WRITE)
        event = self.event()
        self.assertEqual((event.ioasid, event.device, event.fault.address),
                         (child, self.dev, 0x7fff12345000))
        self.respond(self.a, event)
        # A table in its place, and it asks again.
        self.bind(self.a, child, RAM + PAGE)
        self.door.request_page(self.dev, 0x2000, WRITE)
        event = self.event()
        self.assertEqual(event.fault.address, 0x2000)
        self.respond(self.a, event)

    def test_by_pasid_it_has_the_guests(self):
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = "translated"
        self.addCleanup(lambda: (self.world.server.write_policy(policy.default()),
                                 self.admin.ReloadPolicy()))
        self.world.server.write_policy(changed)
        self.admin.ReloadPolicy()
        self.a.Attach(device=self.dev, ioasid=self.gpa, pasid={"value": 4000})
        (physical,) = self.door.pasids(self.dev)
        self.assertNotEqual(physical, 4000)
        self.door.request_page(self.dev, RAM, READ, pasid=physical)
        event = self.event()
        self.assertEqual((event.device, event.pasid.value), (self.dev, 4000))
        self.respond(self.a, event)
        # With its detachment the kernel has answered what waited.
        self.door.request_page(self.dev, RAM, READ, pasid=physical)
        event = self.event()
        self.a.Detach(device=self.dev, pasid={"value": 4000})
        self.no_such_fault(self.a, event)
        self.assertEqual(self.used("org/a", "fault_slots"), 0)

    def test_nobody_answers(self):
        self.door.request_page(self.dev, RAM)
        event = self.event()
        self.assertEqual(self.used("org/a", "fault_slots"), 1)
        self.wait_used("org/a", "fault_slots", 0)
        self.no_such_fault(self.a, event)

    def test_what_ends_while_it_waits(self):
        for end in (lambda: self.a.Detach(device=self.dev),
                    lambda: self.a.Free(ioasid=self.gpa),
                    lambda: self.a.ReleaseDevice(devices=[self.second])):
            for device in (self.dev, self.second):
                if any(x.device == device for x in self.a.ListAttachments().attachments):
                    self.door.request_page(device, RAM)
                    self.event()
            end()
        self.wait_used("org/a", "fault_slots", 0)

    def test_more_than_there_are_slots(self):
        self.limited("org/a", fault_slots=2)
        for n in range(2):
            self.door.request_page(self.dev, RAM + n * PAGE, group=n)
        waiting = [self.event(), self.event()]
        self.door.request_page(self.second, RAM + 2 * PAGE, group=2)
        # Answered at once, and told as what was blocked.
        record = self.event()
        self.assertEqual((record.device, record.cookie), (self.second, 0))
        self.assertEqual(self.usage("org/a")["fault_slots"].refused, 1)
        for event in waiting:
            self.respond(self.a, event, "INVALID")
        self.assertEqual(self.used("org/a", "fault_slots"), 0)

    def test_many_in_a_row(self):
        """More than are read at once: each is told once, and the queue goes on."""
        for n in range(100):
            self.door.request_page((self.dev, self.second)[n % 2], RAM + n * PAGE, group=n)
        seen = {}
        while len(seen) < 100:
            event = self.event()
            self.assertNotIn(event.cookie, seen)
            seen[event.cookie] = event.fault.address
            # On a slow machine its time may be over.
            answer = self.a.attempt("RespondFault", cookie=event.cookie,
                                    code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)
            if isinstance(answer, Refused):
                self.check_refusal(answer, "NOT_FOUND")
        self.assertEqual(sorted(seen.values()), [RAM + n * PAGE for n in range(100)])
        self.wait_used("org/a", "fault_slots", 0)


class Dirty(Mock):
    """MOCK_DOMAIN_SET_DIRTY where a device writes.  test_dirty.py does the rest."""

    def setUp(self):
        super().setUp()
        self.dev, self.second = self.devices[:2]
        self.gpa, self.mem = self.guest(self.a, self.dev, self.second, dirty_tracking=True)

    def dirty(self, **more):
        stream = self.a.watch("ReadDirtyBitmap", ioasid=self.gpa, iova=RAM, length=16 * PAGE,
                              page_size=PAGE, **more)
        (part,) = stream.collect(lambda m: True, 10 * self.slow)
        self.assertEqual(stream.next(10 * self.slow), "END")
        return {at * 8 + n for at, byte in enumerate(part.bitmap) for n in range(8)
                if byte >> n & 1}

    def write(self, device, page, pasid=None):
        self.assertFalse(self.dma_write(self.a, device, RAM + page * PAGE + 7, b"x" * 9,
                                        pasid).HasField("fault"))

    def test_a_page_is_dirty_whichever_way_it_was_written(self):
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        self.a.SetDirtyTracking(ioasid=self.gpa, enable=True)
        # Those that come later are tracked, too.
        self.a.Attach(device=self.second, ioasid=self.gpa)
        self.a.Attach(device=self.second, ioasid=self.gpa, pasid={"value": 6})
        self.write(self.dev, 1)
        self.write(self.second, 5)
        self.write(self.second, 9, 6)
        self.dma_read(self.a, self.dev, RAM + 3 * PAGE, 8)
        self.assertEqual(self.dirty(no_clear=True), {1, 5, 9})
        self.assertEqual(self.dirty(), {1, 5, 9})
        self.assertEqual(self.dirty(), set())
        self.write(self.dev, 1)
        self.assertEqual(self.dirty(), {1})

    def test_a_parent_is_tracked_while_a_child_is_bound(self):
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        child = self.user(self.a, self.second, self.gpa, table=dict(root=RAM, format=self.X86))
        self.a.Attach(device=self.second, ioasid=child)
        self.a.SetDirtyTracking(ioasid=self.gpa, enable=True)
        self.write(self.dev, 4)
        self.assertEqual(self.dirty(), {4})
        self.bind(self.a, child, RAM + PAGE)
        self.write(self.dev, 6)
        self.assertEqual(self.dirty(), {6})
        self.assertIotlb(self.second, *[(RAM >> 12) + 1] * 4)


class Restart(Mock):
    def test_everything_is_where_it_was(self):
        dev, second = self.devices[:2]
        token = self.a.GetStatus().resume_token
        gpa, _ = self.guest(self.a, dev, second, dirty_tracking=True)
        asking = self.alloc(self.a, [second], faults=True)
        child = self.user(self.a, dev, gpa, table=dict(root=RAM, format=self.X86))
        self.a.Attach(device=dev, ioasid=child)
        self.a.Attach(device=dev, ioasid=gpa, pasid={"value": 5})
        self.a.Attach(device=second, ioasid=asking)
        self.a.SetDirtyTracking(ioasid=gpa, enable=True)
        self.dma_write(self.a, dev, RAM + PAGE, b"dirty", 5)
        self.a.Invalidate(ioasid=child, entries=[self.range(2 * PAGE)])
        watch = self.a.watch("WatchFaults", timeout=60 * self.slow)
        self.wait_used("org/a", "watch_streams", 1)
        self.door.request_page(second, RAM)
        self.assertEqual(watch.next(5 * self.slow).device, second)
        self.world.restart()
        a = self.world.connection(self.a.actor, self.a.path)
        self._connections.append(a)
        a.Resume(token=token)
        self.check_counters()
        # The bound table noticed nothing: what was invalidated is, and the rest is there.
        self.assertIotlb(dev, RAM >> 12, RAM >> 12, 0, RAM >> 12)
        self.assertTrue(self.door.is_attached(dev, 5))
        self.assertReads(a, dev, RAM, pattern(64), 5)
        part = a.watch("ReadDirtyBitmap", ioasid=gpa, iova=RAM, length=16 * PAGE,
                       page_size=PAGE).next(10 * self.slow)
        self.assertEqual(part.bitmap[0], 1 << 1)
        # What waited was answered by the kernel; there is a queue again.
        watch = a.watch("WatchFaults", timeout=60 * self.slow)
        self.addCleanup(watch.cancel)
        self.wait_used("org/a", "watch_streams", 1)
        self.assertEqual(self.used("org/a", "fault_slots"), 0)
        self.door.request_page(second, RAM + PAGE, WRITE, group=8)
        event = watch.next(5 * self.slow)
        self.assertEqual((event.device, event.fault.address, event.group),
                         (second, RAM + PAGE, 8))
        a.RespondFault(cookie=event.cookie, code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)
        # And work goes on.
        self.bind(a, child, RAM + PAGE)
        self.assertIotlb(dev, *[(RAM >> 12) + 1] * 4)

    def test_a_lease_that_nobody_resumes_is_ended_in_order(self):
        """Tables, PASIDs and queues of a context whose client died with the broker."""
        actor = self.fresh_actor(policy.B)
        b = self.connect(policy.B, actor=actor)
        dev = self.devices[3]
        gpa, _ = self.guest(b, dev, faults=True)
        b.Attach(device=dev, ioasid=gpa, pasid={"value": 8})
        b.Attach(device=dev, ioasid=self.user(b, dev, gpa,
                                              table=dict(root=RAM, format=self.X86)))
        b.channel = None
        actor.kill()
        self.world.restart()
        self.wait_used("org/b", "devices", 0)
        a = self.connect()
        a.ClaimDevice(devices=[dev])
        self.assertEqual(self.door.pasids(dev), [])
