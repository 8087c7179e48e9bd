# SPDX-License-Identifier: Apache-2.0
"""Faults: records and page requests, who is told, who answers; flow F6."""
import time

from support import policy
from support.case import PAGE, Case, pattern
from support.client import Refused

POLICY = policy.default()


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.need_dma_calls("faults come from DeviceDma here")
        able = [d.address for d in self.inventory.single if d.capabilities.recoverable_faults]
        if len(able) < 2:
            self.skipTest("two devices with page requests (recoverable_faults) are needed")
        self.dev, self.other = able[:2]
        self.a.ClaimDevice(devices=[self.dev, self.other])
        self.mem = self.memory(self.a, pages=8, fill=pattern(8 * PAGE))
        self.ioasid = self.alloc(self.a, [self.dev, self.other], faults=True)
        for device in (self.dev, self.other):
            self.a.Attach(device=device, ioasid=self.ioasid)
        self.watch = self.a.watch("WatchFaults", timeout=60)
        self.addCleanup(self.watch.cancel)

    def begin(self, device=None, iova=0x10010000, length=64, conn=None, **more):
        """A DMA that may wait."""
        conn = conn or self.a
        return conn.start("DeviceDma", device=device or self.dev, access=self.pb.ACCESS_READ,
                          iova=iova, length=length, **more)

    def event(self, stream=None):
        got = (stream or self.watch).next(5 * self.slow)
        self.assertIsNotNone(got, "no fault was told")
        self.assertFalse(isinstance(got, Refused), got)
        return got

    def respond(self, event, word="SUCCESS"):
        self.a.RespondFault(cookie=event.cookie, code=self.pb.FaultResponseCode.Value(
            "FAULT_RESPONSE_CODE_" + word))

    def slots(self):
        return self.used("org/a", "fault_slots")


class Waiting(Faults):
    def setUp(self):
        self.need_soft("DMA that waits for a page (of the mock's requests: test_mock.py)")
        super().setUp()


class Requests(Waiting):
    def test_F6_a_page_fault_is_answered_and_the_access_goes_on(self):
        dma = self.begin(iova=0x10010040)
        event = self.event()
        self.assertEqual((event.ioasid, event.device, event.last), (self.ioasid, self.dev, True))
        self.assertEqual((event.fault.address, event.fault.access),
                         (0x10010040, self.pb.ACCESS_READ))
        self.assertTrue(event.cookie and event.deadline_ms)
        self.assertFalse(event.HasField("pasid"))
        self.assertEqual(self.slots(), 1)
        # The rest of the lease goes on while the device waits.
        self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem))
        self.respond(event)
        answer = dma.result()
        self.assertFalse(answer.HasField("fault"), answer)
        self.assertEqual(answer.data, pattern(PAGE)[0x40:0x80])
        self.assertEqual(self.slots(), 0)

    def test_an_access_over_two_pages_asks_twice(self):
        dma = self.begin(iova=0x10010ff0, length=32)
        for page in (0x10010000, 0x10011000):
            event = self.event()
            self.assertEqual(event.fault.address & ~0xfff, page)
            self.map(self.a, self.ioasid, self.entry(page, self.mem, 1, page - 0x10010000))
            self.respond(event)
        self.assertEqual(dma.result().data, pattern(2 * PAGE)[0xff0:0x1010])

    def test_invalid_ends_the_access_with_its_fault(self):
        dma = self.begin()
        self.respond(self.event(), "INVALID")
        answer = dma.result()
        self.assertEqual((answer.done, answer.fault.cause),
                         (0, self.pb.FAULT_CAUSE_NOT_PRESENT))

    def test_success_without_a_page_asks_again(self):
        dma = self.begin()
        first = self.event()
        self.respond(first)
        second = self.event()
        self.assertNotEqual(first.cookie, second.cookie)
        self.refused("NOT_FOUND", self.a.RespondFault, cookie=first.cookie,
                     code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)
        self.respond(second, "INVALID")
        self.assertTrue(dma.result().HasField("fault"))

    def test_several_devices_wait_on_one_ioasid(self):
        """One answer is for one device."""
        waiting = {d: self.begin(d) for d in (self.dev, self.other)}
        events = {}
        for _ in waiting:
            event = self.event()
            events[event.device] = event
        self.assertEqual(set(events), set(waiting))
        self.map(self.a, self.ioasid, self.entry(0x10010000, self.mem))
        self.respond(events[self.other])
        self.assertEqual(waiting[self.other].result().data, pattern(64))
        self.assertEqual(self.slots(), 1)
        self.respond(events[self.dev])
        self.assertEqual(waiting[self.dev].result().data, pattern(64))

    def test_bad_answers(self):
        dma = self.begin()
        event = self.event()
        ok = self.pb.FAULT_RESPONSE_CODE_SUCCESS
        self.refused("INVALID_FIELD", self.a.RespondFault, cookie=0, code=ok, field="cookie")
        self.refused("INVALID_FIELD", self.a.RespondFault, cookie=event.cookie, field="code")
        self.refused("NOT_FOUND", self.a.RespondFault, cookie=event.cookie + 1, code=ok)
        # Another tenant, and another lease of this one.
        self.refused("NOT_FOUND", self.b.RespondFault, cookie=event.cookie, code=ok)
        self.refused("NOT_FOUND", self.connect().RespondFault, cookie=event.cookie, code=ok)
        self.assertEqual(self.slots(), 1)
        self.respond(event, "INVALID")
        dma.result()


class Ends(Waiting):
    """Nobody answers: the device does not wait for ever."""

    def blocked(self, dma):
        answer = dma.result()
        self.assertFalse(isinstance(answer, Refused), answer)
        self.assertTrue(answer.HasField("fault"))
        self.assertEqual(self.slots(), 0)

    def test_the_time_is_over(self):
        dma = self.begin()
        event = self.event()
        before = time.monotonic()
        self.blocked(dma)
        self.assertLess(time.monotonic() - before, 10 * self.slow)
        self.refused("NOT_FOUND", self.a.RespondFault, cookie=event.cookie,
                     code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)

    def test_the_ioasid_is_freed(self):
        dma = self.begin()
        self.event()
        self.a.Free(ioasid=self.ioasid)
        self.blocked(dma)

    def test_the_device_is_detached(self):
        dma, other = self.begin(), self.begin(self.other)
        events = [self.event(), self.event()]
        self.a.Detach(device=self.dev)
        answer = dma.result()
        self.assertTrue(answer.HasField("fault"))
        self.assertEqual(self.slots(), 1)
        self.respond(next(e for e in events if e.device == self.other), "INVALID")
        self.blocked(other)

    def test_the_device_is_released(self):
        dma = self.begin()
        self.event()
        self.a.ReleaseDevice(devices=[self.dev])
        self.blocked(dma)

    def test_the_caller_goes_away(self):
        dma = self.begin()
        event = self.event()
        dma.cancel()
        self.wait_used("org/a", "fault_slots", 0)
        self.refused("NOT_FOUND", self.a.RespondFault, cookie=event.cookie,
                     code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)

    def test_the_lease_is_revoked(self):
        dma = self.begin()
        self.event()
        self.admin.Revoke(device=self.dev)
        answer = dma.result()
        if isinstance(answer, Refused):
            self.check_refusal(answer, answer.reason)
        else:
            self.assertTrue(answer.HasField("fault"))
        self.assertEqual(self.slots(), 0)

    def test_the_queue_is_full(self):
        """n wait, n + 1 is answered at once, and told as a record."""
        self.limited("org/a", fault_slots=2)
        waiting = [self.begin(iova=n << 16) for n in (1, 2)]
        requests = [self.event() for _ in waiting]
        over = self.begin(iova=3 << 16).result()
        self.assertTrue(over.HasField("fault"))
        record = self.event()
        self.assertEqual((record.cookie, record.fault.address), (0, 3 << 16))
        self.assertEqual(self.slots(), 2)
        self.assertEqual(self.usage("org/a")["fault_slots"].refused, 1)
        for event in requests:
            self.respond(event, "INVALID")
        for dma in waiting:
            self.assertTrue(dma.result().HasField("fault"))


class Records(Faults):
    def test_what_cannot_be_cured_is_a_record(self):
        self.a.Detach(device=self.dev)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8), "NOT_ATTACHED")
        event = self.event()
        self.assertEqual((event.cookie, event.device, event.fault.cause),
                         (0, self.dev, self.pb.FAULT_CAUSE_NOT_ATTACHED))
        self.refused("INVALID_FIELD", self.a.RespondFault, cookie=event.cookie,
                     code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)

    def test_a_space_without_faults_makes_records_only(self):
        plain = self.alloc(self.a, [self.dev])
        self.a.Replace(device=self.dev, ioasid=plain)
        self.assertBlocked(self.dma_read(self.a, self.dev, 0x10010000, 8), "NOT_PRESENT")
        self.assertEqual((self.event().cookie, self.slots()), (0, 0))

    def test_streams_go_on_from_a_number_or_say_what_is_lost(self):
        self.a.Detach(device=self.dev)
        for n in range(300):
            self.dma_read(self.a, self.dev, n << 12, 8)
        first = self.event()
        late = self.a.watch("WatchFaults", after_sequence=first.sequence, timeout=60)
        event = self.event(late)
        # 256 are kept.
        self.assertEqual(event.lost, 300 - 1 - 256)
        self.assertEqual(event.sequence, first.sequence + 1 + event.lost)
        self.assertEqual(event.fault.address, (1 + event.lost) << 12)
        late.cancel()
        ahead = self.a.watch("WatchFaults", after_sequence=first.sequence + 1000, timeout=60)
        self.check_refusal(ahead.next(), "INVALID_FIELD", field="after_sequence")

    def test_a_watch_of_one_ioasid(self):
        second = self.alloc(self.a, [self.other])
        only = self.a.watch("WatchFaults", ioasid=second, timeout=60)
        self.addCleanup(only.cancel)
        self.a.Replace(device=self.other, ioasid=second)
        self.a.Detach(device=self.dev)
        self.dma_read(self.a, self.dev, 0x10010000, 8)
        self.dma_read(self.a, self.other, 0x10020000, 8)
        event = self.event(only)
        self.assertEqual((event.ioasid, event.fault.address), (second, 0x10020000))
        missing = self.a.watch("WatchFaults", ioasid=second + 50, timeout=60)
        self.check_refusal(missing.next(), "NOT_FOUND")

    def test_only_ones_own(self):
        theirs = self.b.watch("WatchFaults", timeout=60)
        self.addCleanup(theirs.cancel)
        self.a.Detach(device=self.dev)
        self.dma_read(self.a, self.dev, 0x10010000, 8)
        self.event()
        self.assertIsNone(theirs.next(0.3))

    def test_streams_are_bounded(self):
        self.limited("org/a", watch_streams=2)
        second = self.a.watch("WatchFaults", timeout=60)
        self.addCleanup(second.cancel)
        self.wait_used("org/a", "watch_streams", 2)
        third = self.a.watch("WatchFaults", timeout=60)
        self.check_refusal(third.next(), "QUOTA")
