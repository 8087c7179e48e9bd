# SPDX-License-Identifier: Apache-2.0
"""Kind USER: tables that a tenant writes, nested on a parent; flows F4, F5, F5b and F7."""
import struct

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
        got = self.a.GetIoasid(ioasid=ioasid).ioasid
        self.assertEqual((got.pasid_table.root, got.pasid_table.pasid_bits), (table.root, bits))
        self.assertFalse(got.HasField("table"))
        self.a.UnbindPasidTable(ioasid=ioasid)
        self.assertTrue(self.dma_read(self.a, self.dev1, 0x400000, 8, 7).HasField("fault"))
        self.refused("WRONG_STATE", self.a.UnbindPasidTable, ioasid=ioasid)

    def test_F7_pasid_table_with_spaces_that_are_tracked(self):
        ioasid, bits = self.pasid_table()
        first = self.tables(range(64, 80))
        table = PasidTable(self.tables(range(96, 104)))
        first.map(0x400000, 3 * PAGE)
        table.set(7, first.root)
        self.a.BindPasidTable(ioasid=ioasid, root=table.root, pasid_bits=bits,
                              format=self.pb.PASID_TABLE_FORMAT_VTD)
        self.a.Attach(device=self.dev1, ioasid=ioasid)
        # The VMM has seen the new entry: a space of its own for it, which is tracked only.
        space = self.user(root=first.root)
        self.a.Attach(device=self.dev1, ioasid=space, pasid={"value": 7})
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        first.map(0x400000, 12 * PAGE)
        self.assertReads(self.a, self.dev1, 0x400000, self.page(3), 7)
        self.a.Invalidate(ioasid=space, entries=[
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_PASID, pasid={"value": 7})])
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
        # Still as it was.
        self.assertEqual(self.a.GetIoasid(ioasid=child).ioasid.table.root, t.root)

    def test_another_tenant_does_not_see_it(self):
        child = self.user(root=self.tables().root)
        self.refused("NOT_FOUND", self.b.BindPageTable, ioasid=child, table=dict(root=0))
        self.refused("NOT_FOUND", self.b.UnbindPageTable, ioasid=child)


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
