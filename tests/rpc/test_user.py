# SPDX-License-Identifier: Apache-2.0
"""Kind USER: tables that a tenant writes, nested on a parent; flows F4, F5, F5b and F7."""
import struct
import time

from support import policy
from support.case import PAGE, Case, pattern
from support.tables import PasidTable, SecondStage, Tables

POLICY = policy.default()

RAM = 128  # pages of guest memory; tables are written from page 64 on


class Guest(Case):
    """A guest's memory, its address space, and devices that can nest."""

    def setUp(self):
        super().setUp()
        pb = self.pb
        self.X86, self.SS = pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_VTDSS_4L
        able = [d.address for d in self.inventory.single if self.can_nest(d)]
        if not able:
            self.skipTest("no device nests tables that a tenant writes")
        pasids = [d for d in able if self.inventory.all[d].capabilities.pasid_bits]
        self.dev1, self.dev2 = (pasids + [d for d in able if d not in pasids])[:2]
        self.a.ClaimDevice(devices=[self.dev1, self.dev2])
        self.bytes = pattern(RAM * PAGE)
        self.mem = self.memory(self.a, pages=RAM, fill=self.bytes)
        self.gpa = self.alloc(self.a, [self.dev1, self.dev2],
                              candidates=[dict(format=self.SS)])
        self.map(self.a, self.gpa, self.entry(0, self.mem, RAM))

    def can_nest(self, device):
        c = device.capabilities
        formats = {f.format: f for f in c.formats}
        user = any(k.kind == self.pb.IOASID_KIND_USER and k.supported for k in c.kinds)
        return user and c.max_depth > 1 and self.X86 in formats and self.SS in formats and \
            formats[self.X86].nest_child and formats[self.SS].nest_parent

    def tables(self, pages=range(64, 96), **more):
        return Tables(self.mem, pages, **more)

    def user(self, devices=None, root=None, parent=None, format=None, **more):
        if root is not None:
            more["table"] = dict(root=root, format=format or self.X86)
        return self.alloc(self.a, devices or [self.dev1], kind=self.pb.IOASID_KIND_USER,
                          parent=parent or self.gpa,
                          candidates=[dict(format=format or self.X86)], **more)

    def bind(self, ioasid, root, **more):
        self.a.BindPageTable(ioasid=ioasid, table=dict(root=root, **more))

    def invalidate(self, ioasid, iova=None, length=PAGE, **more):
        pb = self.pb
        entry = dict(granularity=pb.INVALIDATE_GRANULARITY_ALL) if iova is None else dict(
            granularity=pb.INVALIDATE_GRANULARITY_RANGE, iova=iova, length=length)
        entry.update(more)
        self.assertEqual(self.a.Invalidate(ioasid=ioasid, entries=[entry]).done, 1)

    def page(self, n):
        return self.bytes[n * PAGE:(n + 1) * PAGE]

    def watch_faults(self):
        stream = self.a.watch("WatchFaults", timeout=60)
        self.addCleanup(stream.cancel)
        return stream

    def fault_of_pasid(self, stream, ioasid, pasid, address):
        """A blocked access is told with its PASID and the IOASID that it met there, once."""
        self.assertTrue(self.dma_read(self.a, self.dev1, address, 8, pasid).HasField("fault"))
        event = stream.next(5 * self.slow)
        self.assertIsNotNone(event, "no fault was told")
        self.assertEqual((event.ioasid, event.device, event.HasField("pasid"), event.pasid.value,
                          event.fault.address, event.cookie),
                         (ioasid, self.dev1, True, pasid, address, 0))


class Flows(Guest):
    def test_F4_hardware_nesting(self):
        self.a.Attach(device=self.dev1, ioasid=self.gpa)
        self.a.Attach(device=self.dev2, ioasid=self.gpa)
        child = self.user([self.dev2])
        # Its attachment implies the parent's, which it replaces; nothing is bound yet.
        self.a.Attach(device=self.dev2, ioasid=child)
        self.assertBlocked(self.dma_read(self.a, self.dev2, 0x7000, 8), "NOT_PRESENT")
        t = self.tables()
        t.map(0x7000, 5 * PAGE)
        t.map(0x7fff_0000_0000, 9 * PAGE, write=False)
        self.bind(child, t.root)
        self.assertReads(self.a, self.dev2, 0x7000, self.page(5))
        self.assertReads(self.a, self.dev2, 0x7fff_0000_0000, self.page(9))
        self.dma_write(self.a, self.dev2, 0x7010, b"through both")
        self.assertEqual(self.mem.read(12, 5 * PAGE + 0x10), b"through both")
        blocked = self.dma_write(self.a, self.dev2, 0x7fff_0000_0000, b"x")
        self.assertBlocked(blocked, "PERMISSION")
        # The other device is on the parent still.
        self.assertReads(self.a, self.dev1, 0x9000, self.page(9))
        # A change of the table is seen after an invalidation, and not before.
        t.map(0x7000, 6 * PAGE)
        self.assertReads(self.a, self.dev2, 0x7800, self.bytes[5 * PAGE + 0x800:][:64])
        self.invalidate(child, 0x7000, leaf=True)
        self.assertReads(self.a, self.dev2, 0x7000, self.page(6))
        # The pages of the table are the guest's addresses, too: the parent is asked for each.
        if self.has_levels:
            walk = self.a.Translate(ioasid=child, iova=0x7000, access=self.pb.ACCESS_READ)
            own = [(level.level, level.table) for level in walk.levels if level.stage == 1]
            self.assertEqual([level for level, _ in own], [4, 3, 2, 1])
            self.assertEqual(own[0][1], t.root)
            self.assertEqual((walk.memory, walk.offset), (self.mem.id, 6 * PAGE))
            self.assertTrue(any(level.stage == 2 for level in walk.levels))
        # Binding on a root is refused.
        self.refused("NOT_FOUND", self.a.BindPageTable, ioasid=self.gpa,
                     table=dict(root=t.root, format=self.SS))

    def test_F5_guest_sva_by_pasid(self):
        self.need_pasids()
        self.a.Attach(device=self.dev1, ioasid=self.gpa)
        self.a.Attach(device=self.dev2, ioasid=self.gpa)
        first, second = self.tables(range(64, 80)), self.tables(range(80, 96))
        first.map(0x400000, 3 * PAGE)
        second.map(0x400000, 4 * PAGE)
        spaces = {7: self.user(root=first.root), 9: self.user(root=second.root)}
        for pasid, ioasid in spaces.items():
            self.a.Attach(device=self.dev1, ioasid=ioasid, pasid={"value": pasid})
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 9)
        # Without PASID, and the other device: as before.
        self.assertReads(self.a, self.dev1, 0x1000, self.page(1))
        self.assertReads(self.a, self.dev2, 0x1000, self.page(1))
        # Invalidations and faults of a PASID are its own.
        first.map(0x400000, 10 * PAGE)
        second.map(0x400000, 11 * PAGE)
        by_pasid = dict(granularity=self.pb.INVALIDATE_GRANULARITY_PASID, pasid={"value": 7})
        self.a.Invalidate(ioasid=spaces[7], entries=[by_pasid])
        self.assertReads(self.a, self.dev1, 0x400000, self.page(10), 7)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 9)
        if self.told:
            faults = self.watch_faults()
            for pasid, ioasid in spaces.items():
                self.fault_of_pasid(faults, ioasid, pasid, 0x500000 + pasid * PAGE)
            self.assertIsNone(faults.next(0.1))
        self.a.Detach(device=self.dev1, pasid={"value": 7})
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x400000, 8, 7), "NOT_ATTACHED")
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 9)

    def pasid_table(self):
        self.need_pasids()
        caps = self.inventory.all[self.dev1].capabilities
        ioasid = self.user()
        answer = self.a.attempt("BindPasidTable", ioasid=ioasid, root=0x50000,
                                format=self.pb.PASID_TABLE_FORMAT_VTD,
                                pasid_bits=caps.pasid_bits)
        if getattr(answer, "reason", "") == "INCOMPATIBLE":
            self.skipTest("no device reads VT-d PASID tables")
        return ioasid, caps.pasid_bits

    def test_F5b_the_guests_pasid_table(self):
        ioasid, bits = self.pasid_table()
        first, second = self.tables(range(64, 80)), self.tables(range(80, 96))
        table = PasidTable(self.tables(range(96, 104)))
        first.map(0x400000, 3 * PAGE)
        second.map(0x400000, 4 * PAGE)
        table.set(7, first.root)
        table.set(300, second.root)
        self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=bits,
                              format=self.pb.PASID_TABLE_FORMAT_VTD)
        self.a.Attach(device=self.dev1, ioasid=ioasid)
        # No PASID is attached one by one.
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 300)
        self.assertTrue(self.dma_read(self.a, self.dev1, 0x400000, 8, 8).HasField("fault"))
        # The PASID cache is stale until it is invalidated.
        table.set(7, second.root)
        self.invalidate(ioasid)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.a.Invalidate(ioasid=ioasid, entries=[
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_PASID_CACHE, pasid={"value": 7}),
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_PASID, pasid={"value": 7})])
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 7)
        if self.told:
            faults = self.watch_faults()
            for pasid in (7, 300):
                self.fault_of_pasid(faults, ioasid, pasid, 0x500000 + pasid * PAGE)
            self.assertIsNone(faults.next(0.1))
        got = self.a.GetIoasid(ioasid=ioasid).ioasid
        self.assertEqual((got.pasid_table.root, got.pasid_table.pasid_bits), (table.root, bits))
        self.assertFalse(got.HasField("table"))
        self.a.UnbindPasidTable(ioasid=ioasid)
        self.assertTrue(self.dma_read(self.a, self.dev1, 0x400000, 8, 7).HasField("fault"))
        self.refused("WRONG_STATE", self.a.UnbindPasidTable, ioasid=ioasid)

    def test_F5b_page_request_through_the_guests_pasid_table(self):
        """Told with its PASID and IOASID; it ends with the attachment that it came through."""
        self.need_pasids()
        able = [d for d in (self.dev1, self.dev2)
                if self.inventory.all[d].capabilities.recoverable_faults]
        if not able:
            self.skipTest("no device that nests tenants' tables has page requests")
        self.dev1 = able[0]
        bits = self.inventory.all[self.dev1].capabilities.pasid_bits
        first, second = self.tables(range(64, 80)), self.tables(range(80, 96))
        table = PasidTable(self.tables(range(96, 104)))
        table.set(7, first.root)
        table.set(9, second.root)
        ioasid = self.user([self.dev1], faults=True)
        other = self.user([self.dev1], second.root, faults=True)
        self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=bits,
                              format=self.pb.PASID_TABLE_FORMAT_VTD)
        self.a.Attach(device=self.dev1, ioasid=ioasid)
        # One PASID is tracked, by a space of its own.
        self.a.Attach(device=self.dev1, ioasid=other, pasid={"value": 9})
        faults = self.watch_faults()

        def waits(pasid):
            return self.a.start("DeviceDma", device=self.dev1, access=self.pb.ACCESS_READ,
                                iova=0x500000, length=8, pasid={"value": pasid})

        def told(pasid, where):
            event = faults.next(5 * self.slow)
            self.assertTrue(event and event.cookie, event)
            self.assertEqual((event.ioasid, event.pasid.value), (where, pasid))
            return event

        waiting = waits(7)
        event = told(7, ioasid)
        first.map(0x500000, 4 * PAGE)
        self.a.RespondFault(cookie=event.cookie, code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)
        self.assertEqual(waiting.result().data, self.page(4)[:8])
        first.unmap(0x500000)
        self.invalidate(ioasid, granularity=self.pb.INVALIDATE_GRANULARITY_PASID,
                        pasid={"value": 7})
        waiting, remains = waits(7), waits(9)
        seen = {}
        for _ in range(2):
            event = faults.next(5 * self.slow)
            seen[event.pasid.value] = event
        self.assertEqual({p: e.ioasid for p, e in seen.items() if e.cookie},
                         {7: ioasid, 9: other})
        began = time.monotonic()
        self.a.Detach(device=self.dev1)
        self.assertTrue(waiting.result().HasField("fault"))
        # At once, and not by the time-out of page requests.
        self.assertLess(time.monotonic() - began, 2 * self.slow)
        self.assertEqual(self.used("org/a", "fault_slots"), 1)
        self.a.RespondFault(cookie=seen[9].cookie, code=self.pb.FAULT_RESPONSE_CODE_INVALID)
        self.assertTrue(remains.result().HasField("fault"))
        self.assertEqual(self.used("org/a", "fault_slots"), 0)

    def test_F5b_a_pasid_that_waits_is_the_pasid_tables(self):
        """Its IOASID is named, and what it waits at answers it by going."""
        self.need_soft("page requests come from DeviceDma here")
        if not self.inventory.all[self.dev1].capabilities.recoverable_faults:
            self.skipTest("a device with page requests is needed")
        caps = self.inventory.all[self.dev1].capabilities
        table = PasidTable(self.tables(range(96, 104)))
        table.set(7, self.tables(range(64, 80)).root)
        watch = self.a.watch("WatchFaults", timeout=60)
        self.addCleanup(watch.cancel)
        for end in ("Detach", "Free"):
            with self.subTest(end):
                ioasid = self.user(faults=True)
                self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=caps.pasid_bits,
                                      format=self.pb.PASID_TABLE_FORMAT_VTD)
                self.a.Attach(device=self.dev1, ioasid=ioasid)
                dma = self.a.start("DeviceDma", device=self.dev1, pasid={"value": 7}, length=8,
                                   access=self.pb.ACCESS_READ, iova=0x400000)
                event = watch.next(5 * self.slow)
                self.assertEqual((event.ioasid, event.pasid.value), (ioasid, 7))
                began = time.monotonic()
                if end == "Detach":
                    self.a.Detach(device=self.dev1)
                else:
                    self.a.Free(ioasid=ioasid)
                self.assertTrue(dma.result().HasField("fault"))
                self.assertLess(time.monotonic() - began, event.deadline_ms / 2000)
                if end == "Free":
                    self.a.Detach(device=self.dev1)

    def test_F5b_a_pasid_table_goes_on_by_the_guests_pasids(self):
        """A policy that translates comes later: the table's entries are the guest's own still."""
        ioasid, bits = self.pasid_table()
        if not self.inventory.all[self.dev2].capabilities.pasid_bits:
            self.skipTest("one device with PASIDs only")
        first, second = self.tables(range(64, 80)), self.tables(range(80, 96))
        table = PasidTable(self.tables(range(96, 104)))
        first.map(0x400000, 3 * PAGE)
        second.map(0x400000, 4 * PAGE)
        for pasid, own in ((7, first), (9, second)):
            table.set(pasid, own.root)
        self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=bits,
                              format=self.pb.PASID_TABLE_FORMAT_VTD)
        self.a.Attach(device=self.dev1, ioasid=ioasid)
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = "translated"
        self.addCleanup(self.reload, policy.default())
        self.reload(changed)
        elsewhere = self.user([self.dev2], first.root)
        tracked = self.user([self.dev1], second.root)
        self.a.Attach(device=self.dev2, ioasid=elsewhere, pasid={"value": 7})
        self.a.Attach(device=self.dev1, ioasid=tracked, pasid={"value": 9})
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(4), 9)
        if self.told:
            faults = self.watch_faults()
            self.fault_of_pasid(faults, ioasid, 7, 0x500000)
            self.fault_of_pasid(faults, tracked, 9, 0x500000)
        # What is tracked is named by its own space.
        second.map(0x400000, 5 * PAGE)
        self.invalidate(tracked, granularity=self.pb.INVALIDATE_GRANULARITY_PASID,
                        pasid={"value": 9})
        self.assertReads(self.a, self.dev1, 0x400000, self.page(5), 9)
        # PASID 7 stands for another at the other device, and not here.
        table.set(7, second.root)
        for scope in ("PASID_CACHE", "PASID"):
            self.invalidate(ioasid, pasid={"value": 7},
                            granularity=getattr(self.pb, "INVALIDATE_GRANULARITY_" + scope))
        self.assertReads(self.a, self.dev1, 0x400000, self.page(5), 7)
        self.assertReads(self.a, self.dev2, 0x400000, self.page(3), 7)

    def test_F5b_a_pasid_table_has_no_dirty_pages(self):
        self.need_pasids()
        if not self.inventory.all[self.dev1].capabilities.dirty_tracking:
            self.skipTest("a device with dirty bits is needed")
        ioasid = self.user([self.dev1], dirty_tracking=True)
        self.refused("WRONG_STATE", self.a.BindPasidTable, ioasid=ioasid, root=0x50000,
                     pasid_bits=6, format=self.pb.PASID_TABLE_FORMAT_VTD)

    def test_F5b_a_pasid_table_is_for_the_guests_own_pasids(self):
        """Whose PASIDs are translated, or forbidden, has none of them in a table either."""
        ioasid, bits = self.pasid_table()
        self.addCleanup(self.reload, policy.default())
        for word in ("translated", "none", "identity"):
            changed = policy.default()
            changed["tenants"]["org/a"]["pasid_policy"] = word
            self.reload(changed)
            bind = dict(ioasid=ioasid, root=0x50000, pasid_bits=bits,
                        format=self.pb.PASID_TABLE_FORMAT_VTD)
            if word == "identity":
                self.a.BindPasidTable(**bind)
            else:
                self.refused("POLICY_FORBIDDEN", self.a.BindPasidTable, **bind, text="pasid_policy")

    def reload(self, content):
        self.world.server.write_policy(content)
        self.admin.ReloadPolicy()

    def test_F7_pasid_table_with_spaces_that_are_tracked(self):
        ioasid, bits = self.pasid_table()
        first = self.tables(range(64, 80))
        table = PasidTable(self.tables(range(96, 104)))
        first.map(0x400000, 3 * PAGE)
        table.set(7, first.root)
        self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=bits,
                              format=self.pb.PASID_TABLE_FORMAT_VTD)
        self.a.Attach(device=self.dev1, ioasid=ioasid)
        written = self.mem.read(8 * PAGE, 96 * PAGE)
        # The VMM has seen the new entry: a space of its own for it, which is tracked only.
        space = self.user(root=first.root)
        self.a.Attach(device=self.dev1, ioasid=space, pasid={"value": 7})
        self.assertEqual({(x.pasid.value if x.HasField("pasid") else None): x.ioasid
                          for x in self.a.ListAttachments().attachments},
                         {None: ioasid, 7: space})
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        first.map(0x400000, 12 * PAGE)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.a.Invalidate(ioasid=space, entries=[
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_PASID, pasid={"value": 7})])
        self.assertReads(self.a, self.dev1, 0x400000, self.page(12), 7)
        # The guest's table is the guest's: nobody wrote an entry, and none is taken out.
        self.a.Detach(device=self.dev1, pasid={"value": 7})
        self.assertEqual(self.mem.read(8 * PAGE, 96 * PAGE), written)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(12), 7)


class Binding(Guest):
    def test_table_at_alloc_another_in_its_place_and_none(self):
        first, second = self.tables(range(64, 80)), self.tables(range(80, 96))
        first.map(0x1000, 1 * PAGE)
        second.map(0x1000, 2 * PAGE)
        child = self.user(root=first.root)
        self.a.Attach(device=self.dev1, ioasid=child)
        self.assertReads(self.a, self.dev1, 0x1000, self.page(1))
        got = self.a.GetIoasid(ioasid=child).ioasid
        self.assertEqual((got.table.root, got.table.format), (first.root, self.X86))
        # A bind in its place needs no invalidation.
        self.bind(child, second.root, format=self.X86)
        self.assertReads(self.a, self.dev1, 0x1000, self.page(2))
        self.a.UnbindPageTable(ioasid=child)
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x1000, 8), "NOT_PRESENT")
        self.refused("WRONG_STATE", self.a.UnbindPageTable, ioasid=child)
        self.assertFalse(self.a.GetIoasid(ioasid=child).ioasid.HasField("table"))

    def test_bad_requests(self):
        t = self.tables()
        child = self.user(root=t.root)
        bind = self.a.BindPageTable
        self.refused("INVALID_FIELD", bind, ioasid=child, field="table")
        for root in (t.root + 8, 1 << 60):
            self.refused("INVALID_FIELD", bind, ioasid=child, field="table",
                         table=dict(root=root))
        self.refused("INVALID_FIELD", bind, ioasid=child, field="table.format",
                     table=dict(root=t.root, format=self.SS))
        self.refused("NOT_FOUND", bind, ioasid=child + 100, table=dict(root=t.root))
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_USER,
                     devices=[self.dev1], field="parent")
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     devices=[self.dev1], table=dict(root=t.root, format=self.X86), field="table")
        answer = self.a.attempt("Map", ioasid=child, entries=[self.child_entry(0x1000, 0)])
        self.assertIn(answer.reason, ("NOT_FOUND", "INVALID_FIELD", "INCOMPATIBLE",
                                      "UNIMPLEMENTED"), answer)
        for bits in (0, 21):
            self.refused("INVALID_FIELD", self.a.BindPasidTable, ioasid=child, root=0,
                         format=self.pb.PASID_TABLE_FORMAT_VTD, pasid_bits=bits,
                         field="pasid_bits")
        # Of an SMMUv3 it may be one descriptor; who lacks such tables says so.
        self.refused("INCOMPATIBLE", self.a.BindPasidTable, ioasid=child, root=0,
                     format=self.pb.PASID_TABLE_FORMAT_SMMUV3_CD, pasid_bits=0)
        # Still as it was.
        self.assertEqual(self.a.GetIoasid(ioasid=child).ioasid.table.root, t.root)

    def test_another_tenant_does_not_see_it(self):
        child = self.user(root=self.tables().root)
        self.refused("NOT_FOUND", self.b.BindPageTable, ioasid=child, table=dict(root=0))
        self.refused("NOT_FOUND", self.b.UnbindPageTable, ioasid=child)


class Widths(Guest):
    """AllocRequest.table_bits: the tenant's word of how wide its tables are."""

    def nestable(self):
        return {n: f for n, f in self.inventory.formats(self.dev1).items() if f.nest_child}

    def ask(self, method="Negotiate", **more):
        request = dict(kind=self.pb.IOASID_KIND_USER, devices=[self.dev1], parent=self.gpa, **more)
        if method == "Negotiate":
            return self.a.attempt(method, alloc=request)
        return self.a.attempt(method, **request)

    def test_what_a_device_reads_is_told(self):
        for f in self.inventory.formats(self.dev1).values():
            if f.nest_child:
                self.assertIn(f.table_bits_least, range(25, f.input_bits + 1), f)
            else:
                self.assertEqual(f.table_bits_least, 0, f)
        # VT-d's levels are formats of their own.
        for n in (self.X86, self.SS):
            self.assertEqual(self.nestable()[n].table_bits_least, self.nestable()[n].input_bits)

    def test_a_width_picks_the_format(self):
        formats = self.nestable()
        widths = {f.input_bits for f in formats.values()}
        self.assertGreater(len(widths), 1, formats)
        for bits in sorted(widths):
            order = sorted(formats, key=lambda n: (formats[n].input_bits == bits, n))
            got = self.ask(candidates=[dict(format=n) for n in order], table_bits=bits).choice
            self.assertEqual((got.input_bits, formats[got.format].input_bits), (bits, bits))
            # Every other width was passed over, and it is said why.
            passed = {p.format: p for p in got.passed_over}
            self.assertEqual(set(passed), {n for n in order if formats[n].input_bits != bits})
            for p in passed.values():
                self.assertEqual((p.by, p.who), (self.pb.REFUSED_BY_DEVICE, self.dev1))
                self.assertIn(f"reads tables of {formats[p.format].input_bits} bits", p.reason)
                self.assertIn(f"not of {bits}", p.reason)
            # Without candidates, too.
            self.assertEqual(self.ask(table_bits=bits).choice.input_bits, bits)

    def test_a_width_that_no_format_has(self):
        for bits in (24, 38, 40, 47, 49, 64):
            self.assertEqual(self.ask(table_bits=bits).reason, "FORMAT_UNSUPPORTED", bits)
        refusal = self.ask("Alloc", candidates=[dict(format=self.X86)], table_bits=39)
        self.assertEqual(refusal.reason, "FORMAT_UNSUPPORTED")
        self.assertIn("tables of 48 bits in this format, not of 39", refusal.message)

    def test_bad_requests(self):
        for more in (dict(table_bits=65), dict(table_bits=1 << 31),
                     dict(table_bits=48, input_bits=49)):
            refusal = self.ask("Alloc", **more)
            self.assertEqual(refusal.reason, "INVALID_FIELD", more)
            self.assertEqual(refusal.fields[0][0], "table_bits", refusal)
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     devices=[self.dev1], table_bits=48, field="table_bits")

    def test_dma_through_39_bits(self):
        three = self.pb.PAGE_TABLE_FORMAT_VTDSS_3L
        able = self.inventory.having(
            lambda c: any(f.format == three and f.nest_child for f in c.formats))
        if not able:
            self.skipTest("no device reads tables of three levels")
        dev = able[0]
        if dev not in (self.dev1, self.dev2):
            self.a.ClaimDevice(devices=[dev])
        gpa = self.alloc(self.a, [dev], candidates=[dict(format=self.SS)])
        self.map(self.a, gpa, self.entry(0, self.mem, RAM))
        t = SecondStage(self.mem, range(64, 80), levels=3)
        last = (1 << 39) - PAGE
        t.map(0x9000, 9 * PAGE)
        t.map(last, 11 * PAGE)
        child = self.alloc(self.a, [dev], kind=self.pb.IOASID_KIND_USER, parent=gpa,
                           table_bits=39)
        got = self.a.GetIoasid(ioasid=child).ioasid.choice
        self.assertEqual((got.format, got.input_bits), (three, 39))
        self.bind(child, t.root)
        self.a.Attach(device=dev, ioasid=child)
        self.assertReads(self.a, dev, 0x9000, self.page(9))
        self.assertReads(self.a, dev, last, self.page(11))
        self.assertBlocked(self.dma_read(self.a, dev, 1 << 39, 8), "ADDRESS_WIDTH")
        t.map(last, 12 * PAGE)
        self.assertReads(self.a, dev, last, self.page(11))
        self.invalidate(child, last)
        self.assertReads(self.a, dev, last, self.page(12))
        entry = dict(granularity=self.pb.INVALIDATE_GRANULARITY_RANGE, iova=1 << 39, length=PAGE)
        self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=child, entries=[entry])


class Walks(Guest):
    def attached(self, t, **more):
        child = self.user(root=t.root, **more)
        self.a.Attach(device=self.dev1, ioasid=child)
        return child

    def test_large_pages_and_permissions_combine(self):
        t = self.tables()
        # A page of 2 MiB in the child over pages of 4 KiB in the parent, which ends at RAM.
        t.map(0x200000, 0, level=2)
        child = self.attached(t)
        self.assertReads(self.a, self.dev1, 0x200000 + 3 * PAGE, self.page(3))
        blocked = self.dma_read(self.a, self.dev1, 0x200000 + RAM * PAGE - 8, 16)
        self.assertBlocked(blocked, "PARENT_NOT_PRESENT", done=8)
        got = self.a.Translate(ioasid=child, iova=0x203000, access=self.pb.ACCESS_READ)
        self.assertEqual((got.memory, got.offset, got.page_size), (self.mem.id, 3 * PAGE, PAGE))
        self.assertEqual({level.stage for level in got.levels}, {1, 2})

    def test_what_the_parent_lacks_or_forbids(self):
        t = self.tables()
        ro = self.memory(self.a, pages=2, fill=pattern(2 * PAGE, seed=9))
        self.map(self.a, self.gpa, self.entry(1 << 30, ro, 2, write=False))
        t.map(0x1000, 1 << 30)
        t.map(0x2000, 2 << 30)
        self.attached(t)
        self.assertReads(self.a, self.dev1, 0x1000, pattern(PAGE, seed=9))
        self.assertBlocked(self.dma_write(self.a, self.dev1, 0x1000, b"x"), "PARENT_PERMISSION")
        self.assertEqual(ro.read(PAGE), pattern(PAGE, seed=9))
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x2000, 8), "PARENT_NOT_PRESENT")

    def test_a_table_where_the_parent_has_nothing(self):
        t = self.tables()
        where = t.slot(0x1000, 2)
        t.write(where, (5 << 30) | 7)
        child = self.attached(t)
        fault = self.assertBlocked(self.dma_read(self.a, self.dev1, 0x1000, 8),
                                   "PARENT_NOT_PRESENT")
        self.assertEqual(fault.stage, 2)
        self.bind(child, 6 << 30)
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x1000, 8), "PARENT_NOT_PRESENT")

    def test_the_parent_unmapped_under_it(self):
        t = self.tables()
        other = self.memory(self.a, pages=1, fill=pattern(PAGE, seed=5))
        self.map(self.a, self.gpa, self.entry(1 << 30, other))
        t.map(0x1000, 1 << 30)
        t.map(0x2000, 2 * PAGE)
        self.attached(t)
        self.assertReads(self.a, self.dev1, 0x1000, pattern(PAGE, seed=5))
        # Without any invalidation by the tenant.
        self.a.Unmap(ioasid=self.gpa, ranges=[dict(iova=1 << 30, length=PAGE)])
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x1000, 8), "PARENT_NOT_PRESENT")
        self.assertReads(self.a, self.dev1, 0x2000, self.page(2))
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x2000, 8), "PARENT_NOT_PRESENT")

    def test_hostile_entries(self):
        t = self.tables()
        child = self.attached(t)
        slot = t.slot(0x1000, 1)
        for entry, causes in (
                (0, ("NOT_PRESENT",)),
                (0x5000 | 7 | 1 << 51, ("OUTPUT_WIDTH", "RESERVED_BITS", "PARENT_NOT_PRESENT",
                                        "ADDRESS_WIDTH")),
                (0xffff_ffff_ffff_ffff, ("OUTPUT_WIDTH", "RESERVED_BITS", "PARENT_NOT_PRESENT",
                                         "ADDRESS_WIDTH"))):
            t.write(slot, entry)
            self.invalidate(child)
            self.assertBlocked(self.dma_read(self.a, self.dev1, 0x1000, 8), *causes)
        # A table that is its own: the root maps itself, and is data at the last level.
        t.write(t.root + 511 * 8, t.root | 7)
        self.invalidate(child)
        va = 0xffff_ffff_ffff_f000
        answer = self.dma_read(self.a, self.dev1, va, 8)
        self.assertFalse(answer.HasField("fault"), answer)
        self.assertEqual(struct.unpack("<Q", answer.data)[0] & ~0x60, t.read(t.root) & ~0x60)
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x8000_0000_0000, 8), "NON_CANONICAL")

    def test_second_stage_below_second_stage(self):
        t = SecondStage(self.mem, range(64, 80))
        t.map(0x9000, 9 * PAGE)
        child = self.user(root=t.root, format=self.SS)
        self.a.Attach(device=self.dev1, ioasid=child)
        self.assertReads(self.a, self.dev1, 0x9000, self.page(9))

    def test_deeper_nesting(self):
        if all(d.capabilities.max_depth < 3 for d in self.inventory.single):
            self.skipTest("no device nests three deep (max_depth)")
        t = SecondStage(self.mem, range(64, 80))
        for n in range(RAM):
            t.map(n * PAGE + (1 << 31), n * PAGE)
        middle = self.user(root=t.root, format=self.SS)
        u = Tables(self.mem, range(96, 112), base=0)
        # Its tables and pages are addresses of the middle one.
        u.base = 1 << 31
        u.free, root = list(range(96, 112)), None
        root = u.page()
        u.root = root
        u.map(0x5000, (1 << 31) + 5 * PAGE)
        inner = self.user(root=u.root, parent=middle)
        self.a.Attach(device=self.dev1, ioasid=inner)
        self.assertReads(self.a, self.dev1, 0x5000, self.page(5))
        self.assertEqual(self.a.GetIoasid(ioasid=inner).ioasid.depth, 3)
        # More entries than an answer lists.
        got = self.a.Translate(ioasid=inner, iova=0x5008, access=self.pb.ACCESS_READ)
        self.assertEqual((got.memory, got.offset), (self.mem.id, 5 * PAGE + 8))
        # What the root loses, the innermost loses.
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertBlocked(self.dma_read(self.a, self.dev1, 0x5000, 8), "PARENT_NOT_PRESENT")


class Stale(Guest):
    """What is cached stays until the right command, and no longer."""

    def setUp(self):
        super().setUp()
        self.t = self.tables()
        for n in range(4):
            self.t.map(0x10000 + n * PAGE, n * PAGE)
        self.child = self.user(root=self.t.root)
        self.a.Attach(device=self.dev1, ioasid=self.child)
        for n in range(4):
            self.reads(n, n)
        for n in range(4):
            self.t.map(0x10000 + n * PAGE, (n + 20) * PAGE)

    def reads(self, n, page):
        self.assertReads(self.a, self.dev1, 0x10000 + n * PAGE, self.page(page)[:64])

    def test_nothing_is_seen_without_a_command(self):
        for n in range(4):
            self.reads(n, n)

    def test_too_narrow_a_range_leaves_the_rest(self):
        self.invalidate(self.child, 0x11000, 2 * PAGE)
        for n, page in enumerate((0, 21, 22, 3)):
            self.reads(n, page)
        self.invalidate(self.child)
        for n in range(4):
            self.reads(n, n + 20)

    def test_leaf_only_leaves_the_upper_levels(self):
        # The table of the last level is replaced as a whole.
        new = self.t.page()
        for n in range(16, 20):
            self.t.write(new + n * 8, (n + 14) * PAGE | 7)
        self.t.write(self.t.slot(0x10000, 2), new | 7)
        self.invalidate(self.child, 0x10000, 4 * PAGE, leaf=True)
        for n in range(4):
            self.reads(n, n + 20)
        self.invalidate(self.child, 0x10000, 4 * PAGE)
        for n in range(4):
            self.reads(n, n + 30)

    def test_native_entries_of_vtd(self):
        pb = self.pb

        def native(*entries):
            return b"".join(struct.pack("<QQII", *e) for e in entries)

        answer = self.a.Invalidate(ioasid=self.child, native_type=pb.NATIVE_INVALIDATION_VTD_S1,
                                   native=native((0x11000, 1, 1, 0), (0x12000, 1, 0, 0)))
        self.assertEqual(answer.done, 2)
        for n, page in enumerate((0, 21, 22, 3)):
            self.reads(n, page)
        refusal = self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=self.child,
                               native_type=pb.NATIVE_INVALIDATION_VTD_S1, field="native[1]",
                               native=native((0x10000, 1, 0, 0), (0x13000, 1, 2, 0)))
        self.assertEqual(refusal.metadata["done"], "1")
        self.reads(0, 20)
        self.reads(3, 3)
        self.a.Invalidate(ioasid=self.child, native_type=pb.NATIVE_INVALIDATION_VTD_S1,
                          native=native((0, 2 ** 64 - 1, 0, 0)))
        self.reads(3, 23)
        for bad in (b"", native((0, 1, 0, 0))[:-1]):
            self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=self.child, native=bad,
                         native_type=pb.NATIVE_INVALIDATION_VTD_S1, field=None)


class Dirty(Guest):
    """Dirty bits of a tenant's own table: work is bounded, whatever the table looks like."""
    LIMIT = 16384  # kernel-shim/shim.h, SHIM_DIRTY_TABLES_MAX

    def setUp(self):
        super().setUp()
        able = [d for d in (self.dev1, self.dev2)
                if self.inventory.all[d].capabilities.dirty_tracking]
        if not able:
            self.skipTest("no device that nests tenants' tables keeps dirty bits")
        self.dev = able[0]
        self.table = self.tables()
        self.table.map(0x7000, 5 * PAGE)
        self.child = self.user([self.dev], self.table.root, dirty_tracking=True)
        self.a.Attach(device=self.dev, ioasid=self.child)

    def track(self, enable=True):
        return self.a.attempt("SetDirtyTracking", ioasid=self.child, enable=enable)

    def dirty(self, iova, length, page_size=PAGE, **more):
        """The first message of the stream: a part, or the refusal."""
        return self.a.watch("ReadDirtyBitmap", ioasid=self.child, iova=iova, length=length,
                            page_size=page_size, **more).next(20 * self.slow)

    def write_a_maze(self):
        """Three pages that are 512 * 512 tables to who walks them: half of the space."""
        second, third = self.table.page(), self.table.page()
        for n in range(512):
            self.table.write(third + n * 8, third | self.table.table_bits)
            self.table.write(second + n * 8, third | self.table.table_bits)
        for n in range(1, 256):
            self.table.write(self.table.root + n * 8, second | self.table.table_bits)

    def test_bits_of_its_own_table(self):
        self.track()
        self.dma_write(self.a, self.dev, 0x7000, b"x")
        self.assertEqual(self.dirty(0, 16 * PAGE).bitmap, b"\x80\0")
        self.assertEqual(self.dirty(0, 16 * PAGE).bitmap, b"\0\0")

    def limited(self, refusal):
        self.check_refusal(refusal, "WRONG_STATE", text=str(self.LIMIT))

    def test_table_with_too_many_pages(self):
        self.track()
        self.write_a_maze()
        self.limited(self.dirty(0, 1 << 47, 1 << 30))
        self.limited(self.dirty(1 << 39, 1 << 39, 1 << 30, no_clear=True))
        # Other tenants and the IOASID go on; a range that is small enough is read.
        self.assertReads(self.a, self.dev, 0x7000, self.page(5))
        self.dma_write(self.a, self.dev, 0x7000, b"x")
        self.assertEqual(self.dirty(0, 16 * PAGE).bitmap, b"\x80\0")
        self.assertEqual(len(self.dirty(1 << 39, 1 << 31).bitmap), 65536)
        # Switched on, all of the table is looked through; that fails, and it stays off.
        self.assertFalse(hasattr(self.track(False), "reason"))
        self.limited(self.track())
        self.assertFalse(self.a.GetIoasid(ioasid=self.child).ioasid.tracking)
        self.check_refusal(self.dirty(0, 16 * PAGE), "WRONG_STATE")
        # As soon as the tenant has put its table in order it is as any other.
        for n in range(1, 256):
            self.table.write(self.table.root + n * 8, 0)
        self.assertFalse(hasattr(self.track(), "reason"))
        self.assertEqual(self.dirty(0, 16 * PAGE).bitmap, b"\0\0")
