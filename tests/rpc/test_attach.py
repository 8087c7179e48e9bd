# SPDX-License-Identifier: Apache-2.0
"""Attach, Detach, Replace, PASIDs; DMA compared byte by byte."""
from support import policy
from support.case import MIB, PAGE, Case, pattern

POLICY = policy.default()


class Attach(Case):
    def setUp(self):
        super().setUp()
        self.dev = self.device(self.a)
        self.ioasid = self.alloc(self.a, [self.dev])
        self.mem = self.memory(self.a, pages=64, fill=pattern(64 * PAGE))

    def attachments(self):
        return sorted((x.device, x.pasid.value if x.HasField("pasid") else None, x.ioasid)
                      for x in self.a.ListAttachments().attachments)

    def test_attach_and_detach(self):
        self.a.Attach(device=self.dev, ioasid=self.ioasid)
        self.assertEqual(self.attachments(), [(self.dev, None, self.ioasid)])
        self.assertEqual(self.a.GetIoasid(ioasid=self.ioasid).ioasid.attachments, 1)
        self.refused("ALREADY_ATTACHED", self.a.Attach, device=self.dev, ioasid=self.ioasid)
        self.refused("ALREADY_ATTACHED", self.a.Attach, device=self.dev,
                     ioasid=self.alloc(self.a, [self.dev]))
        self.a.Detach(device=self.dev)
        self.assertEqual(self.attachments(), [])
        self.refused("NOT_ATTACHED", self.a.Detach, device=self.dev)
        self.refused("NOT_ATTACHED", self.a.Replace, device=self.dev, ioasid=self.ioasid)

    def test_wrong_names(self):
        unclaimed = self.inventory.single[1].address
        for call in (self.a.Attach, self.a.Replace):
            self.refused("INVALID_FIELD", call, device=self.dev, ioasid=0, field="ioasid")
            self.refused("INVALID_FIELD", call, device="", ioasid=self.ioasid, field="device")
            self.refused("NOT_FOUND", call, device=self.dev, ioasid=self.ioasid + 1000)
            self.refused("NOT_FOUND", call, device="0000:ff:1f.7", ioasid=self.ioasid)
            self.refused("NOT_CLAIMED", call, device=unclaimed, ioasid=self.ioasid)
        self.refused("NOT_CLAIMED", self.a.Detach, device=unclaimed)

    def test_device_of_another_iommu_that_cannot_use_the_format(self):
        self.need_iommus()
        formats = set(self.inventory.formats(self.dev))
        other = next(d for d in self.inventory.single
                     if formats - set(self.inventory.formats(d.address)))
        only = sorted(formats - set(self.inventory.formats(other.address)))[0]
        ioasid = self.alloc(self.a, [self.dev], candidates=[{"format": only}])
        self.a.ClaimDevice(devices=[other.address])
        refusal = self.refused("INCOMPATIBLE", self.a.Attach, device=other.address, ioasid=ioasid)
        self.assertGreater(len(refusal.message), 10)
        self.a.Attach(device=self.dev, ioasid=ioasid)

    def test_snooping_that_a_device_lacks(self):
        able = self.inventory.having(lambda c: c.snoop_control)
        unable = self.inventory.having(lambda c: not c.snoop_control)
        if self.world.shim != "soft" and not (able and unable):
            self.skipTest("all devices are alike in snoop control")
        if self.dev != able[0]:
            self.a.ClaimDevice(devices=able[:1])
        if self.dev != unable[0]:
            self.a.ClaimDevice(devices=unable[:1])
        common = sorted(set(self.inventory.formats(able[0])) &
                        set(self.inventory.formats(unable[0])))
        ioasid = self.alloc(self.a, able[:1], snoop="SNOOP_MODE_ENFORCE",
                            candidates=[{"format": f} for f in common])
        self.assertIn("snoop", self.refused("INCOMPATIBLE", self.a.Attach, device=unable[0],
                                            ioasid=ioasid).text())

    def test_several_devices_share_a_space(self):
        other = next(d.address for d in self.inventory.single if d.address != self.dev and
                     set(self.inventory.formats(d.address)) &
                     set(self.inventory.formats(self.dev)))
        self.a.ClaimDevice(devices=[other])
        ioasid = self.alloc(self.a, [self.dev, other])
        self.map(self.a, ioasid, self.entry(0x10100000, self.mem, 8))
        for device in (self.dev, other):
            self.a.Attach(device=device, ioasid=ioasid)
            self.assertReads(self.a, device, 0x10100000, pattern(64 * PAGE)[:8 * PAGE])
        self.dma_write(self.a, other, 0x10100010, b"from the second")
        self.assertReads(self.a, self.dev, 0x10100010, b"from the second")
        self.a.Detach(device=other)
        self.assertReads(self.a, self.dev, 0x10100010, b"from the second")
        self.assertBlocked(self.dma_read(self.a, other, 0x10100000, 8), "NOT_ATTACHED")


class Dma(Case):
    def setUp(self):
        super().setUp()
        self.dev = self.device(self.a)
        self.ioasid = self.alloc(self.a, [self.dev])
        self.bytes = pattern(64 * PAGE)
        self.mem = self.memory(self.a, pages=64, fill=self.bytes)

    def attach(self):
        self.a.Attach(device=self.dev, ioasid=self.ioasid)

    def test_the_test_can_tell(self):
        """Other bytes are no success, and a DMA that gets there is not blocked."""
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 1))
        self.attach()
        other = self.bytes[:63] + bytes([self.bytes[63] ^ 1])
        with self.assertRaises(self.failureException):
            self.assertReads(self.a, self.dev, 0x10100000, other)
        with self.assertRaises(self.failureException):
            self.assertReads(self.a, self.dev, 0x10101000, bytes(64))
        for answer in (self.dma_read(self.a, self.dev, 0x10100000, 64),
                       self.dma_write(self.a, self.dev, 0x10100000, b"x" * 64)):
            with self.assertRaises(self.failureException):
                self.assertBlocked(answer, "NOT_PRESENT")
        self.assertEqual(self.mem.read(PAGE), b"x" * 64 + self.bytes[64:PAGE])

    def test_reads_and_writes_are_the_memory(self):
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 64))
        self.attach()
        self.assertReads(self.a, self.dev, 0x10100000, self.bytes)
        for at, n in ((0, 1), (PAGE - 1, 2), (3 * PAGE + 5, 5 * PAGE), (64 * PAGE - 1, 1)):
            data = pattern(n, seed=7)
            answer = self.dma_write(self.a, self.dev, 0x10100000 + at, data)
            self.assertEqual((answer.done, answer.HasField("fault")), (n, False))
            expected = self.bytes[:at] + data + self.bytes[at + n:]
            self.assertTrue(self.mem.read(64 * PAGE) == expected)
            self.assertReads(self.a, self.dev, 0x10100000 + at, data)
            self.mem.write(self.bytes)

    def test_scattered_pages_come_in_their_order(self):
        order = [5, 3, 60, 0, 17, 4]
        self.map(self.a, self.ioasid, *(
            self.entry(0x10200000 + i * PAGE, self.mem, 1, page * PAGE)
            for i, page in enumerate(order)))
        self.attach()
        self.assertReads(self.a, self.dev, 0x10200000,
                         b"".join(self.bytes[p * PAGE:(p + 1) * PAGE] for p in order))

    def test_read_only_mapping_blocks_writes(self):
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 4, write=False))
        self.attach()
        self.assertReads(self.a, self.dev, 0x10100000, self.bytes[:4 * PAGE])
        fault = self.assertBlocked(self.dma_write(self.a, self.dev, 0x10101000, b"x"), "PERMISSION")
        if self.told:
            self.assertEqual((fault.address, fault.access, fault.stage),
                             (0x10101000, self.pb.ACCESS_WRITE, 1))
        self.assertTrue(self.mem.read(64 * PAGE) == self.bytes)

    def test_write_only_mapping(self):
        """Second-stage formats can express it."""
        pb = self.pb
        seconds = [f for f in (pb.PAGE_TABLE_FORMAT_VTDSS_3L, pb.PAGE_TABLE_FORMAT_VTDSS_4L)
                   if f in self.inventory.formats(self.dev)]
        if self.world.shim != "soft" and not seconds:
            self.skipTest("the device has no second-stage format")
        second = self.alloc(self.a, [self.dev], candidates=[{"format": f} for f in seconds])
        self.map(self.a, second, self.entry(0x10100000, self.mem, 1, read=False))
        self.a.Attach(device=self.dev, ioasid=second)
        self.assertEqual(self.dma_write(self.a, self.dev, 0x10100000, b"written").done, 7)
        self.assertEqual(self.mem.read(7), b"written")
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10100000, 7), "PERMISSION")

    def test_write_only_mapping_in_formats_that_cannot(self):
        """First-stage formats cannot express it, and a kernel may choose one; they say so."""
        pb = self.pb
        tried = 0
        for f in (pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN):
            if f in self.inventory.formats(self.dev):
                tried += 1
                first = self.alloc(self.a, [self.dev], candidates=[{"format": f}])
                self.refused("INVALID_FIELD", self.a.Map, ioasid=first, field="entries[0].read",
                             entries=[self.entry(0x10100000, self.mem, 1, read=False)])
        self.assertTrue(tried)

    def test_outside_of_mappings_is_blocked(self):
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 2))
        self.attach()
        valid = self.a.GetIoasid(ioasid=self.ioasid).ioasid.choice.valid
        for iova in (0x100ff000, 0x10102000, valid[0].start, valid[-1].last + 1 - PAGE):
            fault = self.assertBlocked(self.dma_read(self.a, self.dev, iova, 8), "NOT_PRESENT")
            if self.told:
                self.assertEqual(fault.address, iova)
        # Up to the edge it moves; the fault is at the edge.
        got = self.dma_read(self.a, self.dev, 0x10101ff0, 32)
        fault = self.assertBlocked(got, "NOT_PRESENT", done=16)
        self.assertEqual(got.data, self.bytes[0x1ff0:0x2000])
        if self.told:
            self.assertEqual(fault.address, 0x10102000)
        answer = self.dma_write(self.a, self.dev, 0x10101ff0, b"z" * 32)
        fault = self.assertBlocked(answer, "NOT_PRESENT", done=16)
        self.assertEqual(self.mem.read(32, 0x1ff0), b"z" * 16 + self.bytes[0x2000:0x2010])
        if self.told:
            self.assertEqual(fault.address, 0x10102000)

    def test_address_beyond_the_width(self):
        choice = self.a.GetIoasid(ioasid=self.ioasid).ioasid.choice
        self.attach()
        for iova in (1 << choice.input_bits, (1 << 64) - PAGE):
            self.assertBlocked(self.dma_read(self.a, self.dev, iova, 8), "ADDRESS_WIDTH",
                               "NON_CANONICAL", "NOT_PRESENT")

    def test_reserved_range_is_no_memory(self):
        self.attach()
        reserved = self.inventory.all[self.dev].capabilities.reserved
        r = next((r for r in reserved if r.use == "msi"), reserved[0])
        self.assertBlocked(self.dma_read(self.a, self.dev, r.start, 8), "RESERVED_RANGE",
                           "NOT_PRESENT")

    def test_unmapped_is_blocked_at_once(self):
        for n in self.often(10):
            self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 4))
            if n == 0:
                self.attach()
            self.assertReads(self.a, self.dev, 0x10100000, self.bytes[:4 * PAGE])
            self.a.Unmap(ioasid=self.ioasid, ranges=[{"iova": 0x10100000, "length": 4 * PAGE}])
            self.assertBlocked(self.dma_read(self.a, self.dev, 0x10101000, 8), "NOT_PRESENT")

    def test_mapped_again_elsewhere_is_never_stale(self):
        self.attach()
        for page in (0, 7, 3, 63, 0):
            self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 1, page * PAGE))
            self.assertReads(self.a, self.dev, 0x10100000,
                             self.bytes[page * PAGE:(page + 1) * PAGE])
            self.a.Unmap(ioasid=self.ioasid, all=True)

    def test_dma_under_way_ends_before_unmap_returns(self):
        """Many accesses at once while the mapping goes: none of them after the answer."""
        self.need_dma_calls("an edu does one move at a time, and tells its end too late")
        other = self.memory(self.a, pages=64)
        self.attach()
        for _ in range(5):
            self.map(self.a, self.ioasid, self.entry(0x10100000, other, 64))
            reads = [self.a.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_WRITE,
                                  iova=0x10100000, data=b"\xee" * 64 * PAGE) for _ in range(8)]
            self.a.Unmap(ioasid=self.ioasid, all=True)
            other.write(self.bytes)
            self.assertBlocked(self.dma_read(self.a, self.dev, 0x10100000, 8), "NOT_PRESENT")
            for read in reads:
                answer = read.result()
                # A kernel unmaps between two pages of an access, too.
                self.assertIn(answer.done, range(64 * PAGE + 1) if self.world.shim == "mock"
                              else (0, 64 * PAGE))
            # What the tenant wrote after the answer was not overwritten.
            self.assertTrue(other.read(64 * PAGE) == self.bytes)

    def test_detached_is_blocked_at_once(self):
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 4))
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10100000, 8), "NOT_ATTACHED")
        for _ in self.often(5):
            self.attach()
            self.assertReads(self.a, self.dev, 0x10100000, self.bytes[:PAGE])
            self.a.Detach(device=self.dev)
            self.assertBlocked(self.dma_read(self.a, self.dev, 0x10100000, 8), "NOT_ATTACHED")

    def test_replaced_space_is_used_at_once(self):
        second = self.alloc(self.a, [self.dev])
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 1))
        self.map(self.a, second, self.entry(0x10100000, self.mem, 1, PAGE),
                 self.entry(0x10200000, self.mem))
        self.attach()
        for _ in self.often(5):
            self.assertReads(self.a, self.dev, 0x10100000, self.bytes[:PAGE])
            self.a.Replace(device=self.dev, ioasid=second)
            self.assertReads(self.a, self.dev, 0x10100000, self.bytes[PAGE:2 * PAGE])
            self.assertReads(self.a, self.dev, 0x10200000, self.bytes[:8])
            self.a.Replace(device=self.dev, ioasid=self.ioasid)
            self.assertBlocked(self.dma_read(self.a, self.dev, 0x10200000, 8), "NOT_PRESENT")
        self.assertEqual(len(self.a.ListAttachments().attachments), 1)
        # A replaced space is free to go; a replace by itself is no error.
        self.a.Replace(device=self.dev, ioasid=self.ioasid)
        self.assertFalse(self.a.Free(ioasid=second).pending)

    def test_punched_memory_is_an_answer_and_no_crash(self):
        """The tenant may punch its memfd later: zeros or a fault, never another's bytes."""
        self.need_soft("a kernel's device goes on in the pinned page (jobs escapes-*)")
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 4))
        self.attach()
        self.a.actor.punch(self.mem.fd, PAGE, PAGE)
        got = self.dma_read(self.a, self.dev, 0x10101000, 64)
        if got.HasField("fault"):
            self.assertBlocked(got, "MEMORY_ERROR")
        else:
            self.assertEqual(got.data, bytes(64))

    def test_large_dma(self):
        big = self.memory(self.a, pages=MIB // PAGE, fill=pattern(MIB, seed=3))
        self.map(self.a, self.ioasid, self.entry(0x10400000, big, MIB // PAGE))
        self.attach()
        self.assertReads(self.a, self.dev, 0x10400000, pattern(MIB, seed=3))
        n = MIB if not self.edu else 2 * PAGE  # of which an edu moves 2 KiB in 100 ms
        self.assertEqual(self.dma_write(self.a, self.dev, 0x10400000, pattern(n, seed=4)).done, n)
        self.assertTrue(big.read(MIB) == pattern(n, seed=4) + pattern(MIB, seed=3)[n:])

    def test_bad_requests(self):
        self.need_dma_calls("these are requests of DeviceDma")
        self.attach()
        base = dict(device=self.dev, iova=0, access=self.pb.ACCESS_READ, length=8)
        for change, field in ((dict(length=0), "length"), (dict(length=MIB + 1), "length"),
                              (dict(access=0), "access"), (dict(access=9), "access"),
                              (dict(access=self.pb.ACCESS_WRITE, data=b"", length=0), "data"),
                              (dict(access=self.pb.ACCESS_WRITE, data=b"x" * (MIB + 1),
                                    length=0), "data"),
                              (dict(access=self.pb.ACCESS_EXECUTE), "access"),
                              (dict(data=b"x"), "data"),
                              (dict(device=""), "device")):
            with self.subTest(change=str(change)[:50]):
                if field == "access" and change["access"] == self.pb.ACCESS_EXECUTE:
                    # Either refused as a request, or blocked as an access.
                    answer = self.a.attempt("DeviceDma", **{**base, **change})
                    self.assertTrue(getattr(answer, "reason", None) == "INVALID_FIELD" or
                                    answer.HasField("fault"))
                    continue
                self.refused("INVALID_FIELD", self.a.DeviceDma, field=field, **{**base, **change})
        # A range that wraps moves nothing past the end.
        answer = self.a.attempt("DeviceDma", **{**base, "iova": (1 << 64) - 4})
        self.assertTrue(getattr(answer, "reason", None) == "INVALID_FIELD" or
                        answer.HasField("fault"))


class Pasids(Case):
    def setUp(self):
        super().setUp()
        if self.world.shim != "soft":
            self.need_pasids()
        able = self.inventory.having(lambda c: c.pasid_bits > 0)
        self.assertTrue(able, "the topology has a device with PASIDs")
        self.dev = able[0]
        self.bits = self.inventory.all[self.dev].capabilities.pasid_bits
        self.a.ClaimDevice(devices=[self.dev])
        self.spaces = [self.alloc(self.a, [self.dev], pasid=True) for _ in range(3)]
        self.mem = self.memory(self.a, pages=4, fill=pattern(4 * PAGE))
        for n, ioasid in enumerate(self.spaces):
            self.map(self.a, ioasid, self.entry(0x10010000, self.mem, 1, n * PAGE))

    def page(self, n):
        return pattern(4 * PAGE)[n * PAGE:(n + 1) * PAGE]

    def attach(self, pasid, n):
        self.a.Attach(device=self.dev, ioasid=self.spaces[n],
                      pasid=None if pasid is None else {"value": pasid})

    def test_every_pasid_has_its_space(self):
        top = (1 << self.bits) - 1
        for pasid, n in ((None, 0), (1, 1), (top, 2)):
            self.attach(pasid, n)
        for pasid, n in ((None, 0), (1, 1), (top, 2)):
            self.assertReads(self.a, self.dev, 0x10010000, self.page(n), pasid)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8, 2), "NOT_ATTACHED")
        self.assertEqual(self.used("org/a", "pasids"), 2)
        self.a.Detach(device=self.dev, pasid={"value": 1})
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8, 1), "NOT_ATTACHED")
        self.assertReads(self.a, self.dev, 0x10010000, self.page(0))
        self.assertReads(self.a, self.dev, 0x10010000, self.page(2), top)
        self.a.Detach(device=self.dev)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(2), top)
        self.assertEqual(self.used("org/a", "pasids"), 1)

    def test_pasid_attachments_are_listed_as_guest_pasids(self):
        self.attach(5, 1)
        self.attach(None, 0)
        got = sorted((x.HasField("pasid"), x.pasid.value, x.ioasid)
                     for x in self.a.ListAttachments().attachments)
        self.assertEqual(got, [(False, 0, self.spaces[0]), (True, 5, self.spaces[1])])

    def with_policy(self, word):
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = word
        self.addCleanup(self.reload, policy.default())
        self.reload(changed)

    def reload(self, content):
        self.world.server.write_policy(content)
        self.admin.ReloadPolicy()

    def test_translated_pasids_look_like_the_guests(self):
        """Faults, lists and invalidations are in guest PASIDs; the device's are nowhere."""
        self.with_policy("translated")
        self.attach(7, 1)
        self.attach(500, 2)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(1), 7)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(2), 500)
        # The lowest free ones stand for them, and are not the guest's.
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8, 1), "NOT_ATTACHED")
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8, 2), "NOT_ATTACHED")
        self.assertEqual([x.pasid.value for x in self.a.ListAttachments().attachments], [7, 500])
        self.a.Invalidate(ioasid=self.spaces[1], entries=[
            {"granularity": self.pb.INVALIDATE_GRANULARITY_PASID, "pasid": {"value": 7}}])
        self.a.Replace(device=self.dev, pasid={"value": 7}, ioasid=self.spaces[0])
        self.assertReads(self.a, self.dev, 0x10010000, self.page(0), 7)
        # What is attached stays translated when the policy changes; what is new is not.
        self.with_policy("identity")
        self.attach(9, 2)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(0), 7)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(2), 9)
        for pasid in (7, 9, 500):
            self.a.Detach(device=self.dev, pasid={"value": pasid})
        self.assertEqual(self.used("org/a", "pasids"), 0)

    def second_device(self):
        able = self.inventory.having(lambda c: c.pasid_bits > 0)
        if len(able) < 2:
            self.skipTest("one device with PASIDs only")
        self.a.ClaimDevice(devices=[able[1]])
        return able[1]

    def assertPage(self, device, n, pasid):
        self.assertReads(self.a, device, 0x10010000, self.page(n), pasid)

    def test_a_pasid_keeps_its_number_when_the_policy_changes(self):
        """One for all devices of a lease, for as long as it is attached to any."""
        other = self.second_device()
        self.attach(7, 1)
        self.with_policy("translated")
        self.a.Attach(device=other, ioasid=self.spaces[2], pasid={"value": 7})
        self.assertPage(self.dev, 1, 7)
        self.assertPage(other, 2, 7)
        self.a.Invalidate(ioasid=self.spaces[1], entries=[
            {"granularity": self.pb.INVALIDATE_GRANULARITY_PASID, "pasid": {"value": 7}}])
        self.a.Replace(device=self.dev, pasid={"value": 7}, ioasid=self.spaces[0])
        self.assertPage(self.dev, 0, 7)
        self.a.Detach(device=self.dev, pasid={"value": 7})
        # The other attachment is as it was, and nothing new comes to stand in its place.
        self.a.Attach(device=other, ioasid=self.spaces[0], pasid={"value": 9})
        self.assertPage(other, 2, 7)
        self.assertPage(other, 0, 9)
        for pasid in (7, 9):
            self.a.Detach(device=other, pasid={"value": pasid})
        self.assertEqual(self.used("org/a", "pasids"), 0)

    def test_numbers_of_two_policies_do_not_meet(self):
        # What the lowest free one would be is attached as it is.
        self.attach(1, 1)
        self.with_policy("translated")
        self.attach(9, 2)
        self.assertPage(self.dev, 1, 1)
        self.assertPage(self.dev, 2, 9)
        self.a.Detach(device=self.dev, pasid={"value": 1})
        self.a.Detach(device=self.dev, pasid={"value": 9})
        # And the other way round: it stands for another.
        self.attach(9, 2)
        self.with_policy("identity")
        self.refused("WRONG_STATE", self.a.Attach, device=self.dev, pasid={"value": 1},
                     ioasid=self.spaces[1], text="pasid_policy")
        self.assertPage(self.dev, 2, 9)
        self.a.Detach(device=self.dev, pasid={"value": 9})
        self.attach(1, 1)
        self.assertPage(self.dev, 1, 1)

    def test_policy_without_pasids(self):
        self.with_policy("none")
        self.refused("POLICY_FORBIDDEN", self.a.Attach, device=self.dev, pasid={"value": 1},
                     ioasid=self.spaces[0], text="pasid_policy")
        self.attach(None, 0)
        self.assertEqual(self.used("org/a", "pasids"), 0)

    def test_replace_of_one_pasid(self):
        self.attach(5, 1)
        self.attach(6, 1)
        self.a.Replace(device=self.dev, pasid={"value": 5}, ioasid=self.spaces[2])
        self.assertReads(self.a, self.dev, 0x10010000, self.page(2), 5)
        self.assertReads(self.a, self.dev, 0x10010000, self.page(1), 6)
        self.refused("NOT_ATTACHED", self.a.Replace, device=self.dev, pasid={"value": 7},
                     ioasid=self.spaces[2])
        self.refused("ALREADY_ATTACHED", self.a.Attach, device=self.dev, pasid={"value": 5},
                     ioasid=self.spaces[1])

    def test_bad_pasids(self):
        for pasid in (0, 1 << 20, 2 ** 32 - 1):
            with self.subTest(pasid=pasid):
                refusal = self.refused("INVALID_FIELD", self.a.Attach, device=self.dev,
                                       pasid={"value": pasid}, ioasid=self.spaces[0])
                self.assertTrue(refusal.fields[0][0].startswith("pasid"))
        if self.bits < 20:
            refusal = self.a.attempt("Attach", device=self.dev, pasid={"value": 1 << self.bits},
                                     ioasid=self.spaces[0])
            self.assertIn(refusal.reason, ("INVALID_FIELD", "INCOMPATIBLE"))

    def test_device_without_pasids(self):
        unable = self.inventory.having(lambda c: c.pasid_bits == 0)
        if not unable:
            self.skipTest("every device has PASIDs")
        self.a.ClaimDevice(devices=unable[:1])
        ioasid = self.alloc(self.a, unable[:1])
        refusal = self.a.attempt("Attach", device=unable[0], pasid={"value": 1}, ioasid=ioasid)
        self.assertIn(refusal.reason, ("INCOMPATIBLE", "INVALID_FIELD"))
        self.check_refusal(refusal, refusal.reason)

    def test_release_detaches_every_pasid(self):
        for pasid in (1, 2, 3):
            self.attach(pasid, 1)
        self.a.ReleaseDevice(devices=[self.dev])
        self.assertEqual(self.used("org/a", "pasids"), 0)
        self.assertEqual(len(self.a.ListAttachments().attachments), 0)
