# SPDX-License-Identifier: Apache-2.0
"""The end of the server under load, and the end of peers that no longer answer."""
import os
import signal
import time

from support import policy
from support.case import Case
from support.client import Refused

POLICY = policy.default()
ARGUMENTS = ("--keepalive", "1")


class Suspending(Case):
    def suspend(self, actor):
        """Its process stops; only SIGKILL reaches it, which the end of the test sends."""
        os.kill(actor.pid, signal.SIGSTOP)
        self.addCleanup(actor.kill)


class Shutdown(Suspending):
    def stop(self):
        self.assertEqual(self.world.server.stop(), [])

    def tearDown(self):
        self.world.revive()
        super().tearDown()

    def busy(self):
        """Every kind of object, a stream, and requests under way."""
        self.a.OpenLease(name="vm", linger_seconds=600)
        device = self.device(self.a, lease="vm")
        ioasid = self.alloc(self.a, [device], lease="vm")
        memory = self.memory(self.a, pages=256, scope={"lease": "vm"})
        self.map(self.a, ioasid, self.entry(0x10100000, memory, 256), lease="vm")
        self.a.Attach(device=device, ioasid=ioasid, lease="vm")
        self.a.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY)
        return device, ioasid, memory

    def test_with_objects_streams_and_idle_connections(self):
        self.busy()
        stream = self.b.watch("WatchEvents")
        self.assertIsNone(stream.next(0.1))
        others = [self.connect(policy.C) for _ in range(10)]
        for conn in others:
            conn.GetStatus()
        self.stop()
        answer = stream.drain()
        self.assertEqual([e for e in answer if e.type in (5, 6)], [])
        self.assertIsInstance(self.a.attempt("GetStatus"), Refused)

    def test_with_requests_under_way(self):
        device, ioasid, memory = self.busy()
        calls = [self.a.start("Map", ioasid=ioasid, lease="vm", entries=[
            self.entry(0x20000000 + ((n * 512 + i) << 18), memory, 64) for i in range(512)])
            for n in range(8)]
        calls += [self.a.start("DeviceDma", device=device, access=self.pb.ACCESS_READ,
                               iova=0x10100000, length=1 << 20, lease="vm") for _ in range(32)]
        self.stop()
        for call in calls:
            answer = call.result()
            if isinstance(answer, Refused):
                self.assertIn(answer.code, ("UNAVAILABLE", "CANCELLED"))

    def test_with_a_client_that_does_not_read(self):
        slow = self.connect(policy.OBSERVER, "watch", actor=self.fresh_actor(policy.OBSERVER))
        slow.watch("Admin/WatchEvents", read=False, timeout=60)
        for _ in range(10):
            ids = [r.ioasid for r in self.a.many(
                [("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL))] * 200)]
            self.a.many([("Free", dict(ioasid=i)) for i in ids])
        self.suspend(slow.actor)
        self.stop()

    def test_with_half_open_connections(self):
        raws = self.b.actor.raws(self.b.path, 20)
        for n, raw in enumerate(raws):
            self.b.actor.raw_send(raw, (b"", b"PRI * HT", b"IOFD", b"PRI * HTTP/2.0\r\n")[n % 4])
        self.stop()

    def test_twice(self):
        """The second signal cuts the end short, if it comes before the end."""
        self.alloc(self.a)
        self.world.server.process.send_signal(signal.SIGTERM)
        problems = self.world.server.stop()
        if problems:
            self.assertEqual(len(problems), 2, problems)
            self.assertEqual(problems[0], "exit status 1 after SIGTERM")
            self.assertIn("giving up: ", problems[1])


class Keepalive(Suspending):
    def test_peer_that_no_longer_answers_is_let_go(self):
        actor = self.fresh_actor(policy.B)
        gone = self.connect(policy.B, actor=actor)
        device = self.device(gone)
        ioasid = self.alloc(gone, [device])
        self.assertNotEqual(ioasid, 0)
        gone.watch("WatchEvents", timeout=120)
        self.suspend(actor)
        end = time.monotonic() + 20 * self.slow
        while self.used("org/b", "devices"):
            self.assertLess(time.monotonic(), end, "a stopped client holds its device for ever")
            time.sleep(0.1)
        self.a.ClaimDevice(devices=[device])
