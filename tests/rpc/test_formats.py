# SPDX-License-Identifier: Apache-2.0
"""Every page-table format of the software IOMMU, over RPC: tables are built and walked, nest by
the rules of their architecture, and say what can be mapped."""
from support.case import PAGE, Case, pattern

FORMATS = (["x86_64-4l", "x86_64-5l", "vtdss-3l", "vtdss-4l", "vtdss-5l"] +
           ["amdv1-%d" % n for n in range(1, 7)] +
           ["armv8-s%d-%dk" % (s, g) for s in (1, 2) for g in (4, 16, 64)] +
           ["sv39", "sv48", "sv57", "sv39x4", "sv48x4", "sv57x4"])
TOPOLOGY = {
    "version": 1,
    "iommus": [{"name": "every", "formats": FORMATS, "access_dirty": True}],
    "devices": [{"address": "0000:01:00.0", "vendor_device": "8086:10fb", "class": "020000",
                 "iommu": "every", "group": 1}],
}
# What nests on what, of one architecture; anything else does not.
PAIRS = [("x86_64-", ("x86_64-", "vtdss-", "amdv1-")), ("vtdss-", ("x86_64-", "vtdss-")),
         ("armv8-s1-", ("armv8-s2-",)), ("sv", ("x4",))]
SIGNED = ("x86_64-4l", "x86_64-5l", "sv39", "sv48", "sv57")
LENGTH = 16 * PAGE  # a page of the largest granule


def nests(child, parent):
    if child.endswith("x4"):
        return False
    for name, parents in PAIRS:
        if child.startswith(name):
            return any(parent.endswith(p) if p == "x4" else parent.startswith(p)
                       for p in parents)
    return False


class Formats(Case):
    def setUp(self):
        super().setUp()
        self.need_soft("it has every format")
        self.dev = self.device(self.a)
        self.bytes = pattern(4 * LENGTH)
        self.mem = self.memory(self.a, pages=64, fill=self.bytes)

    def number(self, name):
        if name.startswith("amdv1-"):
            name += "l"
        return getattr(self.pb, "PAGE_TABLE_FORMAT_" + name.upper().replace("-", "_"))

    def space(self, name, **more):
        return self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[self.dev],
                            candidates=[dict(format=self.number(name))], **more)

    def test_each_carries_dma(self):
        for name in FORMATS:
            with self.subTest(name):
                answer = self.space(name)
                self.assertEqual(answer.choice.format, self.number(name))
                bits = answer.choice.input_bits - (name in SIGNED)
                self.assertEqual(answer.choice.valid[-1].last, 2 ** bits - 1)
                top = 2 ** bits - LENGTH
                self.map(self.a, answer.ioasid, self.entry(LENGTH, self.mem, 16, LENGTH),
                         self.entry(top, self.mem, 16, 2 * LENGTH))
                self.a.Attach(device=self.dev, ioasid=answer.ioasid)
                self.assertReads(self.a, self.dev, LENGTH, self.bytes[LENGTH:LENGTH + 100])
                self.assertReads(self.a, self.dev, top + LENGTH - 50,
                                 self.bytes[3 * LENGTH - 50:3 * LENGTH])
                self.assertBlocked(self.dma_read(self.a, self.dev, 2 * LENGTH, 8), "NOT_PRESENT")
                self.a.Unmap(ioasid=answer.ioasid, all=True)
                self.assertBlocked(self.dma_read(self.a, self.dev, LENGTH, 8), "NOT_PRESENT")
                self.a.Detach(device=self.dev)
                self.a.Free(ioasid=answer.ioasid)

    def test_each_pair_nests_or_is_refused_by_name(self):
        nested = 0
        for parent in FORMATS:
            on = self.space(parent).ioasid
            self.map(self.a, on, self.entry(2 * LENGTH, self.mem, 16, LENGTH))
            for name in FORMATS:
                with self.subTest("%s on %s" % (name, parent)):
                    if not nests(name, parent):
                        self.refused("FORMAT_UNSUPPORTED", self.space, text="nest", name=name,
                                     parent=on)
                        continue
                    nested += 1
                    child = self.space(name, parent=on).ioasid
                    self.map(self.a, child, self.child_entry(LENGTH, 2 * LENGTH, 16))
                    self.a.Attach(device=self.dev, ioasid=child)
                    self.assertReads(self.a, self.dev, LENGTH + 7,
                                     self.bytes[LENGTH + 7:LENGTH + 77])
                    self.a.Detach(device=self.dev)
                    self.a.Free(ioasid=child)
            self.a.Free(ioasid=on)
        self.assertEqual(nested, 2 * 11 + 3 * 5 + 9 + 9)

    def test_write_only_where_the_format_can(self):
        for name in FORMATS:
            with self.subTest(name):
                ioasid = self.space(name).ioasid
                entry = self.entry(LENGTH, self.mem, 16, read=False)
                if name.startswith(("vtdss-", "amdv1-", "armv8-s2-")):
                    self.map(self.a, ioasid, entry)
                else:
                    self.refused("INVALID_FIELD", self.a.Map, text="without read", ioasid=ioasid,
                                 entries=[entry])
                self.a.Free(ioasid=ioasid)
