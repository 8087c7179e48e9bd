# SPDX-License-Identifier: Apache-2.0
"""Dirty tracking: which pages devices have written."""
import threading

from support import policy
from support.case import PAGE, Case
from support.client import Refused

POLICY = policy.default()


class Dirty(Case):
    PAGES = 64

    def setUp(self):
        super().setUp()
        self.need_dma_calls("writes come from DeviceDma here")
        able = [d.address for d in self.inventory.single if d.capabilities.dirty_tracking]
        if not able:
            self.skipTest("no device has dirty tracking")
        self.dev = able[0]
        self.a.ClaimDevice(devices=[self.dev])
        self.mem = self.memory(self.a, pages=self.PAGES)
        self.ioasid = self.alloc(self.a, [self.dev], dirty_tracking=True)
        self.map(self.a, self.ioasid, *self.entries(0x10100000, self.mem, self.PAGES))
        self.a.Attach(device=self.dev, ioasid=self.ioasid)

    def track(self, enable=True):
        self.a.SetDirtyTracking(ioasid=self.ioasid, enable=enable)

    def write(self, page, length=8):
        self.dma_write(self.a, self.dev, 0x10100000 + page * PAGE, b"x" * length)

    def read(self, iova=0x10100000, length=None, page_size=PAGE, no_clear=False):
        """Numbers of the dirty pages, from iova."""
        stream = self.a.watch("ReadDirtyBitmap", ioasid=self.ioasid, iova=iova,
                              length=length or self.PAGES * PAGE, page_size=page_size,
                              no_clear=no_clear)
        dirty, sequence = set(), 0
        while True:
            part = stream.next(10 * self.slow)
            if part == "END":
                return dirty
            self.assertFalse(part is None or isinstance(part, Refused), part)
            sequence += 1
            self.assertEqual((part.sequence, part.page_size), (sequence, page_size))
            first = (part.iova - iova) // page_size
            dirty |= {first + at * 8 + n for at, byte in enumerate(part.bitmap) if byte
                      for n in range(8) if byte >> n & 1}

    def refusal(self, reason, **fields):
        stream = self.a.watch("ReadDirtyBitmap", **dict(dict(
            ioasid=self.ioasid, iova=0x10100000, length=PAGE, page_size=PAGE), **fields))
        return self.check_refusal(stream.next(), reason)

    def test_written_pages_and_no_others(self):
        self.write(9)
        self.track()
        self.assertEqual(self.read(), set())
        for page in (0, 7, 63):
            self.write(page)
        self.dma_read(self.a, self.dev, 0x10100000 + 5 * PAGE, 8)
        self.write(20, 2 * PAGE)
        self.assertEqual(self.read(no_clear=True), {0, 7, 20, 21, 63})
        self.assertEqual(self.read(), {0, 7, 20, 21, 63})
        self.assertEqual(self.read(), set())
        # A page whose translation is cached is noticed again.
        self.write(7)
        self.assertEqual(self.read(), {7})

    def test_a_part_of_the_range(self):
        self.track()
        self.write(3)
        self.write(40)
        self.assertEqual(self.read(0x10100000 + 32 * PAGE, 16 * PAGE), {8})
        self.assertEqual(self.read(), {3})
        self.assertEqual(self.read(0, 0x10100000), set())

    def test_larger_pieces(self):
        self.track()
        self.write(3)
        self.write(40)
        self.assertEqual(self.read(page_size=16 * PAGE), {0, 2})

    def test_on_and_off(self):
        info = self.a.GetIoasid(ioasid=self.ioasid).ioasid
        self.assertEqual((info.dirty_tracking, info.tracking), (True, False))
        self.refusal("WRONG_STATE")
        self.track()
        self.assertTrue(self.a.GetIoasid(ioasid=self.ioasid).ioasid.tracking)
        self.write(1)
        self.track(False)
        self.refusal("WRONG_STATE")
        self.track()
        self.assertEqual(self.read(), set())

    def test_bad_requests(self):
        self.track()
        for fields, field in ((dict(page_size=PAGE // 2), "page_size"), (dict(page_size=0),
                              "page_size"), (dict(page_size=3 * PAGE), "page_size"),
                              (dict(iova=0x10100800), "iova"), (dict(length=0), "length"),
                              (dict(length=100), "length"),
                              (dict(iova=2 ** 64 - PAGE, length=2 * PAGE), "length")):
            with self.subTest(**fields):
                refusal = self.refusal("INVALID_FIELD", **fields)
                self.assertEqual(refusal.fields[0][0], field)
        self.refusal("NOT_FOUND", ioasid=self.ioasid + 9)
        plain = self.alloc(self.a, [self.dev])
        self.refused("WRONG_STATE", self.a.SetDirtyTracking, ioasid=plain, enable=True)
        self.refused("NOT_FOUND", self.b.SetDirtyTracking, ioasid=self.ioasid, enable=True)

    def test_new_mappings_are_tracked_too(self):
        self.track()
        self.map(self.a, self.ioasid, *self.entries(0x10900000, self.mem, 2))
        self.dma_write(self.a, self.dev, 0x10901000, b"y")
        self.assertEqual(self.read(0x10900000, 2 * PAGE), {1})

    def test_a_large_range_comes_in_parts(self):
        self.track()
        self.write(2)
        # 2 GiB a part, where the width allows: sixteen.
        bits = self.a.GetIoasid(ioasid=self.ioasid).ioasid.choice.input_bits
        self.assertEqual(self.read(0, min(32 << 30, 1 << bits)), {0x10100 + 2})

    def test_no_write_is_lost_while_a_device_writes_all_the_while(self):
        """Writes in flight beside each read: every page is in one of the reads, none in none."""
        self.track()
        for n in range(self.often_rounds()):
            pages = {(n * 7 + k * 5) % self.PAGES for k in range(12)}
            writes = [self.a.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_WRITE,
                                   iova=0x10100000 + page * PAGE, data=b"z" * 16)
                      for page in pages]
            seen = self.read()
            for write in writes:
                self.assertFalse(write.result().HasField("fault"))
            self.assertEqual(seen | self.read(), pages)

    def often_rounds(self):
        return 40
