# SPDX-License-Identifier: Apache-2.0
"""Invalidate: what is done, what is refused, the rate limit."""
import time

from support import policy
from support.case import PAGE, Case, pattern

POLICY = policy.default()


class Invalidate(Case):
    def setUp(self):
        super().setUp()
        self.dev = self.device(self.a)
        self.ioasid = self.alloc(self.a, [self.dev])
        self.mem = self.memory(self.a, fill=pattern(16 * PAGE))
        self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem, 4))
        self.a.Attach(device=self.dev, ioasid=self.ioasid)
        self.ALL = dict(granularity=self.pb.INVALIDATE_GRANULARITY_ALL)
        self.RANGE = dict(granularity=self.pb.INVALIDATE_GRANULARITY_RANGE, iova=0x10010000,
                          length=PAGE)

    def supported(self, granularity):
        return granularity in self.inventory.all[self.dev].capabilities.invalidations

    def test_entries_are_done_and_counted(self):
        for entries in ([self.ALL], [self.RANGE], [self.RANGE] * 7 + [self.ALL],
                        [{**self.RANGE, "leaf": True}], [{**self.RANGE, "length": 1 << 30}],
                        [self.RANGE] * 4096, [self.ALL] * 4096):
            answer = self.a.Invalidate(ioasid=self.ioasid, entries=entries)
            self.assertEqual((answer.done, answer.retry_after_ms), (len(entries), 0))
        self.assertReads(self.a, self.dev, 0x10010000, pattern(4 * PAGE))

    def test_device_tlb(self):
        entry = dict(granularity=self.pb.INVALIDATE_GRANULARITY_DEVICE_TLB, device=self.dev)
        if self.supported(entry["granularity"]):
            self.assertEqual(self.a.Invalidate(ioasid=self.ioasid, entries=[entry]).done, 1)
            del entry["device"]
            self.assertEqual(self.a.Invalidate(ioasid=self.ioasid, entries=[entry]).done, 1)
        else:
            refusal = self.a.attempt("Invalidate", ioasid=self.ioasid, entries=[entry])
            self.assertIn(refusal.reason, ("INCOMPATIBLE", "INVALID_FIELD", "UNIMPLEMENTED"))
            self.check_refusal(refusal, refusal.reason)

    def test_bad_entries(self):
        for entry, field in (
                (dict(granularity=0), "granularity"), (dict(granularity=99), "granularity"),
                ({**self.RANGE, "length": 0}, "length"),
                ({**self.RANGE, "iova": 2 ** 64 - PAGE, "length": 2 * PAGE}, None)):
            with self.subTest(entry=entry):
                refusal = self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=self.ioasid,
                                       entries=[self.ALL, entry])
                self.assertTrue(refusal.fields[0][0].startswith("entries[1]"), refusal.fields)
                if field:
                    self.assertEqual(refusal.fields[0][0], "entries[1]." + field)

    def test_a_range_beyond_the_space(self):
        bits = self.a.GetIoasid(ioasid=self.ioasid).ioasid.choice.input_bits
        refusal = self.refused("INVALID_FIELD", self.a.Invalidate, ioasid=self.ioasid,
                               entries=[self.ALL, {**self.RANGE, "iova": 1 << bits}])
        self.assertEqual(refusal.fields[0][0], "entries[1]")

    def test_bad_requests(self):
        call = self.a.Invalidate
        self.refused("MALFORMED", call, ioasid=self.ioasid, entries=[self.ALL] * 4097,
                     field="entries")
        self.refused("INVALID_FIELD", call, ioasid=0, entries=[self.ALL], field="ioasid")
        self.refused("NOT_FOUND", call, ioasid=self.ioasid + 1000, entries=[self.ALL])
        refusal = self.a.attempt("Invalidate", ioasid=self.ioasid, native=b"\0" * 24,
                                 native_type=self.pb.NATIVE_INVALIDATION_VTD_S1)
        self.assertIn(refusal.reason, ("UNIMPLEMENTED", "INVALID_FIELD", "INCOMPATIBLE"))
        self.check_refusal(refusal, refusal.reason)
        self.refused("INVALID_FIELD", call, ioasid=self.ioasid, entries=[self.ALL],
                     native=b"\0" * 24, native_type=self.pb.NATIVE_INVALIDATION_VTD_S1)

    def test_over_the_rate_the_prefix_is_done(self):
        self.limited("org/a", invalidations_per_second=10)
        time.sleep(1.1)
        answer = self.a.Invalidate(ioasid=self.ioasid, entries=[self.RANGE] * 25)
        self.assertGreaterEqual(answer.done, 10)
        self.assertLess(answer.done, 25)
        self.assertIn(answer.retry_after_ms, range(1, 1101))
        time.sleep(answer.retry_after_ms / 1000 + 0.005)
        again = self.a.Invalidate(ioasid=self.ioasid, entries=[self.RANGE] * (25 - answer.done))
        self.assertGreaterEqual(again.done, 1)

    def test_rate_of_an_ancestor_counts_too(self):
        self.limited("org", invalidations_per_second=10)
        time.sleep(1.1)
        self.assertEqual(self.a.Invalidate(ioasid=self.ioasid, entries=[self.ALL] * 6).done, 6)
        ioasid = self.alloc(self.b)
        answer = self.b.Invalidate(ioasid=ioasid, entries=[self.ALL] * 20)
        self.assertLess(answer.done, 20)
        self.assertTrue(answer.retry_after_ms)

    def test_internal_flushes_are_free(self):
        self.limited("org/a", invalidations_per_second=0)
        refused = self.a.attempt("Invalidate", ioasid=self.ioasid, entries=[self.ALL])
        self.assertEqual(getattr(refused, "done", 0), 0)
        self.a.Unmap(ioasid=self.ioasid, all=True)
        self.a.Detach(device=self.dev)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8), "NOT_ATTACHED")
