# SPDX-License-Identifier: Apache-2.0
"""Software nesting: a KERNEL child of a KERNEL parent.  Translate, level by level."""
from support import policy
from support.case import PAGE, Case, pattern

POLICY = policy.default()


class Nested(Case):
    def setUp(self):
        super().setUp()
        self.need_software_nesting()
        self.dev = self.device(self.a)
        self.gpa = self.alloc(self.a, [self.dev])
        self.bytes = pattern(16 * PAGE)
        self.mem = self.memory(self.a, pages=16, fill=self.bytes)

    def child(self, parent=None, **more):
        return self.alloc(self.a, [self.dev], parent=parent or self.gpa, **more)

    def page(self, n, count=1):
        return self.bytes[n * PAGE:(n + count) * PAGE]

    def test_child_is_known_as_one(self):
        child = self.child()
        got = self.a.GetIoasid(ioasid=child).ioasid
        self.assertEqual((got.parent, got.depth), (self.gpa, 2))
        self.assertEqual(self.a.GetIoasid(ioasid=self.gpa).ioasid.children, 1)
        self.a.Free(ioasid=child)
        self.assertEqual(self.a.GetIoasid(ioasid=self.gpa).ioasid.children, 0)

    def test_child_reads_through_its_parent(self):
        child = self.child()
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem, 16))
        self.map(self.a, child, self.child_entry(0x7000, 0x43000, 2),
                 self.child_entry(0x20000, 0x40000))
        self.a.Attach(device=self.dev, ioasid=child)
        self.assertReads(self.a, self.dev, 0x7000, self.page(3, 2))
        self.assertReads(self.a, self.dev, 0x20000, self.page(0))
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x43000, 8), "NOT_PRESENT")
        self.dma_write(self.a, self.dev, 0x7008, b"through two")
        self.assertEqual(self.mem.read(11, 3 * PAGE + 8), b"through two")

    def test_parent_range_need_not_be_mapped_yet(self):
        child = self.child()
        self.map(self.a, child, self.child_entry(0x7000, 0x43000))
        self.a.Attach(device=self.dev, ioasid=child)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x7000, 8), "PARENT_NOT_PRESENT",
                           "NOT_PRESENT")
        self.map(self.a, self.gpa, self.entry(0x43000, self.mem))
        self.assertReads(self.a, self.dev, 0x7000, self.page(0))

    def test_unmap_in_the_parent_blocks_the_child(self):
        child = self.child()
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem), self.entry(0x41000, self.mem))
        self.map(self.a, child, self.child_entry(0x7000, 0x40000),
                 self.child_entry(0x8000, 0x41000))
        self.a.Attach(device=self.dev, ioasid=child)
        for _ in range(5):
            self.assertReads(self.a, self.dev, 0x7000, self.page(0))
            self.a.Unmap(ioasid=self.gpa, ranges=[{"iova": 0x40000, "length": PAGE}])
            self.assertBlocked(self.dma_read(self.a, self.dev, 0x7000, 8), "PARENT_NOT_PRESENT",
                               "NOT_PRESENT")
            self.assertReads(self.a, self.dev, 0x8000, self.page(0))
            self.map(self.a, self.gpa, self.entry(0x40000, self.mem))

    def test_permissions_are_the_least_of_both(self):
        for parent_write, child_write in ((True, True), (True, False), (False, True)):
            with self.subTest(parent=parent_write, child=child_write):
                child = self.child()
                self.map(self.a, self.gpa, self.entry(0x40000, self.mem, write=parent_write))
                self.map(self.a, child, self.child_entry(0x7000, 0x40000, write=child_write))
                self.a.Attach(device=self.dev, ioasid=child)
                answer = self.dma_write(self.a, self.dev, 0x7000, self.page(0)[:4])
                if parent_write and child_write:
                    self.assertEqual(answer.done, 4)
                else:
                    self.assertBlocked(answer, "PERMISSION", "PARENT_PERMISSION")
                self.assertReads(self.a, self.dev, 0x7000, self.page(0))
                self.a.Detach(device=self.dev)
                self.a.Free(ioasid=child)
                self.a.Unmap(ioasid=self.gpa, all=True)

    def test_attach_to_the_child_replaces_the_attachment_to_the_parent(self):
        child = self.child()
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem))
        self.map(self.a, child, self.child_entry(0x7000, 0x40000))
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        self.assertReads(self.a, self.dev, 0x40000, self.page(0))
        self.a.Attach(device=self.dev, ioasid=child)
        self.assertReads(self.a, self.dev, 0x7000, self.page(0))
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x40000, 8), "NOT_PRESENT")
        (attachment,) = self.a.ListAttachments().attachments
        self.assertEqual(attachment.ioasid, child)
        # The other way round it is not implied.
        self.refused("ALREADY_ATTACHED", self.a.Attach, device=self.dev, ioasid=self.gpa)

    def test_grandchild_replaces_too(self):
        child = self.child()
        depth = self.inventory.all[self.dev].capabilities.max_depth
        if depth < 3:
            refusal = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, parent=child,
                                     devices=[self.dev])
            self.assertIn(refusal.reason, ("INCOMPATIBLE", "UNIMPLEMENTED", "QUOTA"))
            return
        grandchild = self.child(child)
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem))
        self.map(self.a, child, self.child_entry(0x7000, 0x40000))
        self.map(self.a, grandchild, self.child_entry(0x1000, 0x7000))
        self.a.Attach(device=self.dev, ioasid=self.gpa)
        self.a.Attach(device=self.dev, ioasid=grandchild)
        self.assertReads(self.a, self.dev, 0x1000, self.page(0))
        self.assertEqual(self.a.GetIoasid(ioasid=grandchild).ioasid.depth, 3)
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x1000, 8), "PARENT_NOT_PRESENT",
                           "NOT_PRESENT")

    def test_sibling_is_no_ancestor(self):
        one, two = self.child(), self.child()
        self.a.Attach(device=self.dev, ioasid=one)
        self.refused("ALREADY_ATTACHED", self.a.Attach, device=self.dev, ioasid=two)
        self.a.Replace(device=self.dev, ioasid=two)

    def test_depth_of_the_hardware(self):
        depth = self.inventory.all[self.dev].capabilities.max_depth
        ioasid = self.gpa
        for _ in range(depth - 1):
            ioasid = self.child(ioasid)
        refusal = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, parent=ioasid,
                                 devices=[self.dev])
        self.assertIn(refusal.reason, ("INCOMPATIBLE", "QUOTA", "UNIMPLEMENTED",
                                       "FORMAT_UNSUPPORTED"))
        self.check_refusal(refusal, refusal.reason)

    def test_free_of_a_parent_is_pending(self):
        child = self.child()
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem))
        self.map(self.a, child, self.child_entry(0x7000, 0x40000))
        self.a.Attach(device=self.dev, ioasid=child)
        self.assertTrue(self.a.Free(ioasid=self.gpa).pending)
        self.refused("NOT_FOUND", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, parent=self.gpa)
        self.assertReads(self.a, self.dev, 0x7000, self.page(0))
        self.assertEqual(self.used("org/a", "ioasids"), 2)
        self.assertTrue(self.a.Free(ioasid=child).pending)
        self.assertEqual(self.used("org/a", "ioasids"), 2)
        self.a.Detach(device=self.dev)
        self.assertEqual(self.used("org/a", "ioasids", "map_entries"), [0, 0])

    def test_sources_of_a_child(self):
        child = self.child()
        entry = self.child_entry(0x7000, 0x40000)
        for change in (dict(memory=self.mem.id), dict(parent_address=0x40001),
                       dict(parent_address=2 ** 64 - PAGE, length=2 * PAGE),
                       dict(from_parent=False, memory=self.mem.id, parent_address=0)):
            with self.subTest(change=change):
                self.refused("INVALID_FIELD", self.a.Map, ioasid=child,
                             entries=[{**entry, **change}])
        self.assertEqual(self.mappings(self.a, child), [])

    def test_parent_must_be_there(self):
        for parent in (self.gpa + 1000, 2 ** 63):
            self.refused("NOT_FOUND", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                         parent=parent)
        other = self.alloc(self.b)
        if other != self.gpa:
            self.refused("NOT_FOUND", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, parent=other)

    def test_nothing_is_pinned_by_a_child(self):
        self.map(self.a, self.gpa, self.entry(0x40000, self.mem, 4))
        before = self.used("org/a", "pinned_bytes", "registered_bytes")
        self.map(self.a, self.child(), self.child_entry(0x7000, 0x40000, 4))
        self.assertEqual(self.used("org/a", "pinned_bytes", "registered_bytes"), before)

    def test_mapping_of_a_child_is_listed_with_its_source(self):
        child = self.child()
        self.map(self.a, child, self.child_entry(0x7000, 0x43000, 2, write=False))
        (m,) = self.a.ListMappings(ioasid=child).mappings
        self.assertEqual((m.iova, m.length, m.memory, m.from_parent, m.parent_address, m.read,
                          m.write), (0x7000, 2 * PAGE, 0, True, 0x43000, True, False))


class Translate(Case):
    def setUp(self):
        super().setUp()
        self.dev = self.device(self.a)
        self.mem = self.memory(self.a, pages=16)

    LEVELS = {"X86_64_4L": 4, "X86_64_5L": 5, "VTDSS_3L": 3, "VTDSS_4L": 4, "VTDSS_5L": 5}

    def walk(self, ioasid, iova, access=None):
        return self.a.Translate(ioasid=ioasid, iova=iova, access=access or self.pb.ACCESS_READ)

    def test_every_format_walks_its_levels(self):
        self.need_levels()
        tried = 0
        for f in self.inventory.formats(self.dev):
            name = self.pb.PageTableFormat.Name(f)[len("PAGE_TABLE_FORMAT_"):]
            if name not in self.LEVELS:
                continue
            tried += 1
            with self.subTest(name):
                ioasid = self.alloc(self.a, [self.dev], candidates=[{"format": f}])
                iova = 0x12345000
                self.map(self.a, ioasid, self.entry(iova, self.mem, 2, 3 * PAGE, write=False))
                got = self.walk(ioasid, iova + PAGE + 0x123)
                self.assertFalse(got.HasField("fault"))
                self.assertEqual([(w.stage, w.level) for w in got.levels],
                                 [(1, n) for n in range(self.LEVELS[name], 0, -1)])
                for w in got.levels:
                    self.assertEqual(w.input, iova + PAGE + 0x123)
                    self.assertEqual(w.index, (w.input >> 12 + 9 * (w.level - 1)) & 0x1ff)
                    self.assertNotEqual(w.entry, 0)
                    self.assertTrue(w.decoded)
                # Each entry names the next table; the last one the page.
                mask = 0x000ffffffffff000
                for w, below in zip(got.levels, got.levels[1:]):
                    self.assertEqual(w.entry & mask, below.table & mask)
                self.assertEqual(got.levels[-1].entry & mask, got.output & ~0xfff)
                self.assertEqual((got.memory, got.offset, got.page_size, got.read, got.write),
                                 (self.mem.id, 4 * PAGE + 0x123, PAGE, True, False))
                self.a.Free(ioasid=ioasid)
        self.assertGreaterEqual(tried, 2)

    def test_faults(self):
        ioasid = self.alloc(self.a, [self.dev])
        self.map(self.a, ioasid, self.entry(0x10010000, self.mem, write=False))
        got = self.walk(ioasid, 0x10011000)
        self.assertEqual(got.fault.cause, self.pb.FAULT_CAUSE_NOT_PRESENT)
        self.assertEqual((got.fault.stage, got.fault.address), (1, 0x10011000))
        if self.has_levels:
            self.assertEqual(got.fault.level, 1)
        got = self.walk(ioasid, 0x10010000, self.pb.ACCESS_WRITE)
        self.assertEqual(got.fault.cause, self.pb.FAULT_CAUSE_PERMISSION)
        if self.has_levels:
            self.assertEqual(got.fault.entry, got.levels[-1].entry)
        else:
            self.assertEqual((got.fault.level, got.fault.entry, len(got.levels)), (0, 0, 0))
        got = self.walk(ioasid, 1 << 62)
        self.assertIn(got.fault.cause, (self.pb.FAULT_CAUSE_ADDRESS_WIDTH,
                                        self.pb.FAULT_CAUSE_NON_CANONICAL))
        for access in (0, 7):
            self.refused("INVALID_FIELD", self.a.Translate, ioasid=ioasid, iova=0, access=access,
                         field="access")
        self.refused("NOT_FOUND", self.a.Translate, ioasid=ioasid + 1000, iova=0,
                     access=self.pb.ACCESS_READ)

    def test_walk_and_dma_agree(self):
        ioasid = self.alloc(self.a, [self.dev])
        self.map(self.a, ioasid, self.entry(0x10010000, self.mem, 2),
                 self.entry(0x10020000, self.mem, 1, 5 * PAGE, write=False))
        self.a.Attach(device=self.dev, ioasid=ioasid)
        for iova in (0x10000000, 0x1000f000, 0x10010000, 0x10011008, 0x10012000, 0x10020010,
                     0x10021000):
            for access, dma in ((self.pb.ACCESS_READ,
                                 lambda at: self.dma_read(self.a, self.dev, at, 4)),
                                (self.pb.ACCESS_WRITE,
                                 lambda at: self.dma_write(self.a, self.dev, at, b"\0" * 4))):
                walk, moved = self.walk(ioasid, iova, access), dma(iova)
                self.assertEqual(walk.HasField("fault"), moved.HasField("fault"), hex(iova))
                if self.told:
                    self.assertEqual(walk.fault.cause, moved.fault.cause, hex(iova))

    def test_nested_walk_shows_both_stages(self):
        self.need_software_nesting()
        gpa = self.alloc(self.a, [self.dev])
        child = self.alloc(self.a, [self.dev], parent=gpa)
        self.map(self.a, gpa, self.entry(0x40000, self.mem, 4))
        self.map(self.a, child, self.child_entry(0x7000, 0x42000))
        got = self.walk(child, 0x7010)
        self.assertEqual({w.stage for w in got.levels}, {1, 2})
        self.assertEqual((got.memory, got.offset), (self.mem.id, 2 * PAGE + 0x10))
        second = [w for w in got.levels if w.stage == 2]
        self.assertTrue(all(w.input == 0x42010 for w in second))
        self.a.Unmap(ioasid=gpa, all=True)
        got = self.walk(child, 0x7010)
        self.assertIn(got.fault.cause, (self.pb.FAULT_CAUSE_PARENT_NOT_PRESENT,
                                        self.pb.FAULT_CAUSE_NOT_PRESENT))
        self.assertEqual((got.fault.stage, got.fault.address), (2, 0x42010))
