# SPDX-License-Identifier: Apache-2.0
"""Map and Unmap: validation as a whole, exact edges, supersets, nothing changed on refusal."""
from support import policy
from support.case import MIB, PAGE, Case

POLICY = policy.default()
TOP = 2 ** 64


class Map(Case):
    def setUp(self):
        super().setUp()
        self.space = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL)
        self.ioasid, self.choice = self.space.ioasid, self.space.choice
        self.mem = self.memory(self.a, pages=64)

    def charges(self):
        return self.used("org/a", "map_entries", "mapped_bytes", "pinned_bytes")

    def refuse_map(self, reason, *entries, field=None):
        """Refused, and nothing changed."""
        before = self.mappings(self.a, self.ioasid), self.charges()
        refusal = self.refused(reason, self.a.Map, ioasid=self.ioasid, entries=list(entries),
                               field=field)
        self.assertEqual((self.mappings(self.a, self.ioasid), self.charges()), before)
        return refusal

    def test_map_is_listed_and_charged(self):
        iovas = self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem, 4),
                         self.entry(0x10020000, self.mem, 2, offset=4 * PAGE, write=False))
        self.assertEqual(iovas, [0x10010000, 0x10020000])
        listed = self.a.ListMappings(ioasid=self.ioasid).mappings
        self.assertEqual([(m.iova, m.length, m.memory, m.offset, m.read, m.write, m.from_parent)
                          for m in sorted(listed, key=lambda m: m.iova)],
                         [(0x10010000, 4 * PAGE, self.mem.id, 0, True, True, False),
                          (0x10020000, 2 * PAGE, self.mem.id, 4 * PAGE, True, False, False)])
        self.assertEqual(self.charges(), [2, 6 * PAGE, 6 * PAGE])

    def test_pinned_counts_a_page_once(self):
        self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem, 4),
                 self.entry(0x10020000, self.mem, 4), self.entry(0x10030000, self.mem, 4, 2 * PAGE))
        self.assertEqual(self.charges(), [3, 12 * PAGE, 6 * PAGE])
        self.a.Unmap(ioasid=self.ioasid, ranges=[{"iova": 0x10010000, "length": 4 * PAGE}])
        self.assertEqual(self.charges(), [2, 8 * PAGE, 6 * PAGE])
        self.a.Unmap(ioasid=self.ioasid, ranges=[{"iova": 0x10020000, "length": 4 * PAGE}])
        self.assertEqual(self.charges(), [1, 4 * PAGE, 4 * PAGE])

    def test_overlap_inside_the_request(self):
        for first, second in (((0, 4), (3, 4)), ((0, 4), (0, 4)), ((0, 4), (1, 1)),
                              ((1, 1), (0, 4)), ((3, 1), (0, 4))):
            with self.subTest(first=first, second=second):
                self.refuse_map("OVERLAP", *(self.entry(0x10010000 + at * PAGE, self.mem, pages)
                                             for at, pages in (first, second)))

    def test_overlap_with_what_is_mapped(self):
        self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem, 4))
        for iova, pages in ((0x10010000, 4), (0x10010000, 1), (0x10013000, 1), (0x1000f000, 2),
                            (0x10013000, 2), (0x1000f000, 6)):
            with self.subTest(iova=hex(iova), pages=pages):
                self.refuse_map("OVERLAP", self.entry(0x10080000, self.mem),
                                self.entry(iova, self.mem, pages))
        # Neighbours are none.
        self.map(self.a, self.ioasid, self.entry(0x1000f000, self.mem),
                 self.entry(0x10014000, self.mem))

    def test_misaligned_and_empty(self):
        good = self.entry(0x10010000, self.mem)
        for field, value in (("iova", 0x10010001), ("iova", 0x10010800), ("length", 0),
                             ("length", 1), ("length", PAGE - 1), ("length", PAGE + 1),
                             ("offset", 1), ("offset", PAGE // 2)):
            with self.subTest(field=field, value=value):
                refusal = self.refuse_map("INVALID_FIELD", self.entry(0x10080000, self.mem),
                                          {**good, field: value})
                self.assertEqual(refusal.fields[0][0], "entries[1]." + field)

    def test_wrap_around_and_width(self):
        bits = self.choice.input_bits
        for iova, length in ((TOP - PAGE, 2 * PAGE), (TOP - PAGE, PAGE), (PAGE, TOP - PAGE),
                             (0x10010000, TOP - PAGE), (1 << bits, PAGE),
                             ((1 << bits) - PAGE, 2 * PAGE)):
            with self.subTest(iova=hex(iova), length=hex(length)):
                refusal = self.refuse_map("INVALID_FIELD",
                                          {**self.entry(iova, self.mem), "length": length})
                self.assertTrue(refusal.fields[0][0].startswith("entries[0]"))

    def test_last_valid_page(self):
        last = self.choice.valid[-1].last
        self.map(self.a, self.ioasid, self.entry(last + 1 - PAGE, self.mem))
        self.refuse_map("INVALID_FIELD", self.entry((last + 1) % TOP, self.mem))

    def test_reserved_range(self):
        device = self.device(self.a)
        ioasid = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[device]).ioasid
        reserved = self.inventory.all[device].capabilities.reserved
        # One with valid pages on both sides, where there is one.
        r = next((r for r in reserved if r.use == "msi"), reserved[0])
        beside = [iova for iova in (r.start - PAGE, r.last + 1) if iova >= 0]
        for iova, pages in ((r.start, 1), (r.last + 1 - PAGE, 1), (r.start - PAGE, 2),
                            (r.last + 1 - PAGE, 2)):
            if iova < 0:
                continue
            with self.subTest(iova=hex(iova)):
                self.refused("INVALID_FIELD", self.a.Map, ioasid=ioasid,
                             entries=[self.entry(iova, self.mem, pages)])
        self.assertEqual(self.mappings(self.a, ioasid), [])
        self.map(self.a, ioasid, *(self.entry(iova, self.mem) for iova in beside))

    def test_source_must_lie_in_the_memory(self):
        for offset, length in ((64 * PAGE, PAGE), (63 * PAGE, 2 * PAGE), (0, 65 * PAGE),
                               (TOP - PAGE, PAGE), (PAGE, TOP - PAGE)):
            with self.subTest(offset=hex(offset)):
                self.refuse_map("INVALID_FIELD", {**self.entry(0x10100000, self.mem),
                                                  "offset": offset, "length": length})
        self.map(self.a, self.ioasid, self.entry(0x10100000, self.mem, 1, 63 * PAGE))

    def test_memory_must_be_there(self):
        self.refuse_map("NOT_FOUND", self.entry(0x10010000, 12345678))
        self.refuse_map("INVALID_FIELD", self.entry(0x10010000, 0))
        other = self.memory(self.b)
        if other.id != self.mem.id:
            self.refuse_map("NOT_FOUND", self.entry(0x10010000, other.id))

    def test_permission_is_bounded_by_the_registration(self):
        fixed = self.memory(self.a, write=False)
        write_only = self.memory(self.a, read=False)
        for memory, read, write in ((fixed, True, True), (fixed, False, True),
                                    (write_only, True, False)):
            refusal = self.a.attempt("Map", ioasid=self.ioasid, entries=[
                self.entry(0x10010000, memory, read=read, write=write)])
            self.assertIn(refusal.reason, ("INVALID_FIELD", "MEMORY_UNSUITABLE"))
            self.check_refusal(refusal, refusal.reason)
        self.map(self.a, self.ioasid, self.entry(0x10010000, fixed, write=False))
        self.refuse_map("INVALID_FIELD", self.entry(0x10090000, self.mem, read=False, write=False))

    def test_a_root_has_no_parent_to_map_from(self):
        self.refuse_map("INVALID_FIELD", self.child_entry(0x10010000, 0x10020000))
        self.refuse_map("INVALID_FIELD", {**self.entry(0x10010000, self.mem), "from_parent": True,
                                          "parent_address": 0})

    def test_number_of_entries(self):
        self.refuse_map("INVALID_FIELD", field="entries")
        page = [self.entry(0x11000000 + i * PAGE, self.mem) for i in range(1025)]
        self.refuse_map("MALFORMED", *page, field="entries")
        self.map(self.a, self.ioasid, *page[:1024])
        self.assertEqual(self.charges(), [1024, 1024 * PAGE, PAGE])

    def test_choose(self):
        taken = self.map(self.a, self.ioasid, self.entry(None, self.mem, 4),
                         self.entry(None, self.mem, 1), self.entry(0x10010000, self.mem, 2),
                         self.entry(None, self.mem, 3))
        taken += self.map(self.a, self.ioasid, self.entry(None, self.mem, 64))
        spans = sorted(self.mappings(self.a, self.ioasid))
        self.assertEqual(len(spans), 5)
        self.assertEqual(sorted(taken), [s for s, _ in spans])
        for (start, length), (after, _) in zip(spans, spans[1:]):
            self.assertLessEqual(start + length, after)
        for start, length in spans:
            self.assertTrue(any(r.start <= start and start + length - 1 <= r.last
                                for r in self.choice.valid))
            self.assertEqual(start % PAGE, 0)

    def test_chosen_address_is_aligned_as_the_source_allows(self):
        if not self.choice.page_sizes & 1 << 21:
            self.skipTest("no 2M pages")
        big = self.memory(self.a, pages=4 * MIB // PAGE)
        (iova,) = self.map(self.a, self.ioasid, self.entry(None, big, 4 * MIB // PAGE))
        self.assertEqual(iova % (2 * MIB), 0)

    def test_choose_finds_the_last_gap(self):
        narrow = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL)
        low = narrow.choice.valid[0]
        first = self.map(self.a, narrow.ioasid, self.entry(None, self.mem))
        second = self.map(self.a, narrow.ioasid, self.entry(None, self.mem))
        self.a.Unmap(ioasid=narrow.ioasid, ranges=[{"iova": first[0], "length": PAGE}])
        third = self.map(self.a, narrow.ioasid, self.entry(None, self.mem))
        self.assertNotEqual(third, second)
        self.assertGreaterEqual(third[0], low.start)

    def test_failure_at_any_entry_changes_nothing(self):
        good = [self.entry(0x10010000 + i * 0x10000, self.mem) for i in range(10)]
        for at in (0, 5, 9):
            entries = list(good)
            entries[at] = self.entry(0x10010001, self.mem)
            with self.subTest(at=at):
                refusal = self.refuse_map("INVALID_FIELD", *entries)
                self.assertEqual(refusal.fields[0][0], "entries[%d].iova" % at)

    def test_listing_pages(self):
        wanted = [(0x10100000 + i * 0x2000, PAGE) for i in range(25)]
        self.map(self.a, self.ioasid, *(self.entry(i, self.mem) for i, _ in wanted))
        seen, token = [], ""
        while True:
            page = self.a.ListMappings(ioasid=self.ioasid, page_size=10, page_token=token)
            seen += [(m.iova, m.length) for m in page.mappings]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(seen, wanted)


class Unmap(Case):
    # Spans are pages from here on.
    BASE = 0x10000000

    def setUp(self):
        super().setUp()
        self.ioasid = self.alloc(self.a)
        self.mem = self.memory(self.a, pages=64)

    def lay(self, *spans):
        """Exactly these mappings, [(first page, last page)]."""
        self.a.Unmap(ioasid=self.ioasid, all=True)
        for first, last in spans:
            self.map(self.a, self.ioasid,
                     self.entry(self.BASE + first * PAGE, self.mem, last - first + 1))

    def unmap(self, *spans):
        return self.a.Unmap(ioasid=self.ioasid, ranges=[
            {"iova": self.BASE + first * PAGE, "length": (last - first + 1) * PAGE}
            for first, last in spans])

    def left(self):
        return [((i - self.BASE) // PAGE, (i + n - self.BASE) // PAGE - 1)
                for i, n in self.mappings(self.a, self.ioasid)]

    def refuse_unmap(self, reason, *spans):
        before = self.left()
        refusal = self.refused(reason, lambda: self.unmap(*spans))
        self.assertEqual(self.left(), before)
        return refusal

    def test_examples_of_the_virtio_iommu_specification(self):
        # Virtio 1.2, 5.13.6.6: what is mapped, what is unmapped, what is left.
        # Page 0 stands at 16 here.  An empty range is an error of this API.
        def at(*spans):
            return [(16 + first, 16 + last) for first, last in spans]
        for mapped, unmapped, left in (
                ([(0, 9)], (0, 9), []),
                ([(0, 4), (5, 9)], (0, 9), []),
                ([(0, 9)], (0, 4), None),
                ([(0, 4), (5, 9)], (0, 4), [(5, 9)]),
                ([(0, 4)], (0, 9), []),
                ([(0, 4), (10, 14)], (0, 14), [])):
            with self.subTest(mapped=mapped, unmapped=unmapped):
                self.lay(*at(*mapped))
                if left is None:
                    self.refuse_unmap("WOULD_SPLIT", *at(unmapped))
                else:
                    answer = self.unmap(*at(unmapped))
                    self.assertEqual(answer.mappings, len(mapped) - len(left))
                    self.assertEqual(self.left(), at(*left))
        self.lay()
        self.refuse_unmap("NOT_FOUND", *at((0, 9)))

    def test_superset_of_whole_mappings(self):
        self.lay((16, 19), (24, 24), (32, 39))
        answer = self.unmap((8, 47))
        self.assertEqual((answer.mappings, answer.bytes), (3, 13 * PAGE))
        self.assertEqual(self.used("org/a", "map_entries", "mapped_bytes", "pinned_bytes"),
                         [0, 0, 0])

    def test_split_is_refused_at_every_edge(self):
        self.lay((16, 19), (20, 23))
        for span in ((16, 18), (17, 19), (17, 18), (15, 18), (19, 23), (16, 22), (17, 30),
                     (0, 16)):
            with self.subTest(span=span):
                self.refuse_unmap("WOULD_SPLIT", span)

    def test_one_bad_range_stops_all(self):
        self.lay((16, 19), (20, 23), (24, 27))
        self.refuse_unmap("WOULD_SPLIT", (16, 19), (20, 22))
        self.refuse_unmap("NOT_FOUND", (16, 19), (40, 43))
        self.refuse_unmap("NOT_FOUND", (40, 43), (16, 19))

    def test_several_ranges(self):
        self.lay((16, 19), (20, 23), (24, 27))
        answer = self.unmap((24, 27), (16, 19))
        self.assertEqual((answer.mappings, answer.bytes), (2, 8 * PAGE))
        self.assertEqual(self.left(), [(20, 23)])

    def test_ranges_that_overlap_each_other(self):
        self.lay((16, 19), (20, 23))
        for spans in (((16, 19), (16, 19)), ((16, 23), (20, 23)), ((16, 19), (16, 23))):
            with self.subTest(spans=spans):
                before = self.left()
                refusal = self.a.attempt("Unmap", ioasid=self.ioasid, ranges=[
                    {"iova": self.BASE + f * PAGE, "length": (n - f + 1) * PAGE}
                    for f, n in spans])
                self.assertIn(refusal.reason, ("INVALID_FIELD", "NOT_FOUND"))
                self.check_refusal(refusal, refusal.reason)
                self.assertEqual(self.left(), before)

    def test_bad_ranges(self):
        self.lay((16, 19))
        for iova, length in ((self.BASE + 16 * PAGE, 0), (TOP - PAGE, 2 * PAGE),
                             (PAGE, TOP - PAGE + 1)):
            with self.subTest(iova=hex(iova), length=hex(length)):
                refusal = self.refused("INVALID_FIELD", self.a.Unmap, ioasid=self.ioasid,
                                       ranges=[{"iova": iova, "length": length % TOP}])
                self.assertTrue(refusal.fields[0][0].startswith("ranges[0]"))
        self.refused("INVALID_FIELD", self.a.Unmap, ioasid=self.ioasid, field="ranges")
        self.refused("MALFORMED", self.a.Unmap, ioasid=self.ioasid,
                     ranges=[{"iova": i * PAGE, "length": PAGE} for i in range(1025)],
                     field="ranges")
        self.assertEqual(self.left(), [(16, 19)])

    def test_range_to_the_very_top(self):
        # [0, 2^64) has no length, but [PAGE, 2^64) has.
        self.lay((16, 19), (24, 24))
        answer = self.a.Unmap(ioasid=self.ioasid, ranges=[{"iova": PAGE, "length": TOP - PAGE}])
        self.assertEqual(answer.mappings, 2)

    def test_all(self):
        self.lay((16, 19), (24, 24))
        self.refused("INVALID_FIELD", self.a.Unmap, ioasid=self.ioasid, all=True,
                     ranges=[{"iova": 16 * PAGE, "length": 4 * PAGE}])
        answer = self.a.Unmap(ioasid=self.ioasid, all=True)
        self.assertEqual((answer.mappings, answer.bytes), (2, 5 * PAGE))
        answer = self.a.Unmap(ioasid=self.ioasid, all=True)
        self.assertEqual((answer.mappings, answer.bytes), (0, 0))

    def test_unmapped_range_can_be_mapped_again(self):
        for _ in range(20):
            self.lay((16, 31))
            self.unmap((16, 31))
        self.assertEqual(self.left(), [])
