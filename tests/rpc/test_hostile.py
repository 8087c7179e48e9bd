# SPDX-License-Identifier: Apache-2.0
"""Clients that mean harm or die: they are limited and cleaned up after, and others go on."""
import os
import random
import time

from support import policy
from support.case import PAGE, Case, pattern
from support.client import Refused

POLICY = policy.default()
POLICY["tenants"]["org/b"]["limits"]["connections"] = 64

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Hostile(Case):
    def assertOthersGoOn(self, conn=None):
        """The quiet tenant gets its answers, and soon."""
        conn = conn or self.a
        worst = 0
        for _ in range(10):
            began = time.monotonic()
            conn.Free(ioasid=self.alloc(conn))
            worst = max(worst, time.monotonic() - began)
        self.assertLess(worst, 2.0 * self.slow)

    def setUp(self):
        super().setUp()
        self.a.GetStatus()
        self.fds = self.world.server.open_fds()

    def tearDown(self):
        super().tearDown()
        end = time.monotonic() + 8 * self.slow
        while self.world.server.open_fds() > self.fds + 2:
            self.assertLess(time.monotonic(), end, "fds leak: %d, were %d" % (
                self.world.server.open_fds(), self.fds))
            time.sleep(0.05)

    def test_garbage_on_the_socket(self):
        bad = self.fresh_actor(policy.B)
        rng = random.Random(3)
        raws = []
        for first in (b"", b"G", PREFACE, PREFACE[:10], PREFACE + b"\0\0\0\x04\0\0\0\0\0", b"IOFD"):
            for _ in range(4):
                raw = bad.raw(self.a.path)
                bad.raw_send(raw, first + rng.randbytes(2000))
                raws.append(raw)
        self.assertOthersGoOn()
        for raw in raws:
            bad.raw_close(raw)
        self.assertOthersGoOn()

    def test_connections_that_say_nothing_are_closed(self):
        bad = self.fresh_actor(policy.B)
        raws = bad.raws(self.a.path, 20)
        self.assertOthersGoOn()
        for raw in raws:
            self.assertTrue(bad.raw_closed(raw, 8 * self.slow), "a silent connection was kept")

    def test_http2_that_stops_after_its_preface_is_closed(self):
        bad = self.fresh_actor(policy.B)
        raws = bad.raws(self.a.path, 10)
        for raw in raws:
            bad.raw_send(raw, PREFACE + b"\0\0\0\x04\0\0\0\0\0")
        self.assertOthersGoOn()
        for raw in raws:
            bad.raw_close(raw)

    def test_http2_abuse(self):
        """Frames that a good client never sends."""
        settings = b"\0\0\0\x04\0\0\0\0\0"
        bad = self.fresh_actor(policy.B)
        for name, frames in (
                ("a frame beyond the maximal size", b"\xff\xff\xff\0\0\0\0\0\1"),
                ("window update of zero", b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"),
                ("header block that never ends", b"\0\0\4\1\0\0\0\0\1abcd" +
                 b"\0\x40\0\x09\0\0\0\0\1" + b"x" * 16384),
                ("reset of an idle stream", b"\0\0\4\3\0\0\0\0\x0d\0\0\0\x08" * 200),
                ("pings", b"\0\0\x08\6\0\0\0\0\0abcdefgh" * 5000),
                ("settings", settings * 5000)):
            with self.subTest(name):
                raw = bad.raw(self.a.path)
                bad.raw_send(raw, PREFACE + settings + frames)
                self.assertOthersGoOn()
                bad.raw_close(raw)

    def test_connections_without_end(self):
        bad = [self.fresh_actor(policy.B) for _ in range(2)]
        for actor in bad:
            actor.post("raws", self.a.path, 500)
        self.assertOthersGoOn()
        for actor in bad:
            actor.collect()
        self.assertOthersGoOn()
        self.assertOthersGoOn(self.connect())
        self.assertLessEqual(self.used("org/b", "connections"), 64)

    def test_more_grpc_connections_than_allowed(self):
        bad = self.fresh_actor(policy.B)
        conns = [self.connect(policy.B, actor=bad) for _ in range(100)]
        outcomes = bad.burst([c.prepared("GetStatus", {}) for c in conns], 20 * self.slow)
        good = [o for o in outcomes if o[0] == "OK"]
        self.assertEqual(len(good), 64)
        self.assertEqual(self.used("org/b", "connections"), 64)
        for outcome in outcomes:
            self.assertIn(outcome[0], ("OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"))
        self.assertOthersGoOn()
        self.assertOthersGoOn(self.connect())

    def test_strangers_without_end(self):
        bad = self.fresh_actor(policy.STRANGER)
        conns = [self.connect(policy.STRANGER, actor=bad) for _ in range(200)]
        outcomes = bad.burst([c.prepared("GetStatus", {}) for c in conns], 20 * self.slow)
        self.assertEqual({o[0] for o in outcomes} - {"UNAUTHENTICATED", "UNAVAILABLE"}, set())
        self.assertOthersGoOn()
        self.assertOthersGoOn(self.connect())

    def test_streams_without_end(self):
        bad = self.connect(policy.B, actor=self.fresh_actor(policy.B))
        streams = [bad.watch("WatchEvents", timeout=60) for _ in range(400)]
        self.assertOthersGoOn()
        # The connection carries so many at once; the rest waits at the client.
        self.assertLessEqual(self.used("org/b", "watch_streams"), 400)
        self.assertTrue(streams)
        bad.actor.kill()
        self.assertOthersGoOn()

    def test_client_that_does_not_read(self):
        bad = self.connect(policy.OBSERVER, "watch", actor=self.fresh_actor(policy.OBSERVER))
        for _ in range(20):
            bad.watch("Admin/WatchEvents", read=False, timeout=60)
        before = self.world.server.rss_kib()
        for _ in range(15):
            ids = [r.ioasid for r in self.a.many(
                [("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL, label="y" * 64))] * 250)]
            self.a.many([("Free", dict(ioasid=i)) for i in ids])
        self.assertOthersGoOn()
        if self.slow == 1:
            self.assertLess(self.world.server.rss_kib() - before, 200 * 1024)
        bad.actor.kill()

    def test_compressed_request_that_is_huge_when_unpacked(self):
        bad = self.connect(policy.B, actor=self.fresh_actor(policy.B))
        bad.GetStatus()
        before = self.world.server.rss_kib()
        outcome = bad.actor.call_zeros(bad.channel, self.world.api.method("Alloc").path, 256 << 20,
                                       60 * self.slow)
        self.assertNotEqual(outcome[0], "OK")
        self.assertOthersGoOn()
        if self.slow == 1:
            self.assertLess(self.world.server.rss_kib() - before, 64 * 1024)

    def test_metadata_without_end(self):
        bad = self.connect(policy.B, actor=self.fresh_actor(policy.B))
        for metadata in ([("x-%d" % i, "y" * 1000) for i in range(200)],
                         [("x", "y" * 1000000)]):
            outcome = bad.actor.call_metadata(bad.channel, self.world.api.method("GetStatus").path,
                                              b"", metadata, 10 * self.slow)
            self.assertNotEqual(outcome[0], "OK")
        self.assertOthersGoOn()

    def test_unary_calls_with_no_message_or_two(self):
        bad = self.connect(policy.B)
        path = self.world.api.method("GetStatus").path
        outcome = bad.actor.call_messages(bad.channel, path, [], 10 * self.slow)
        self.assertEqual(outcome[0], "INVALID_ARGUMENT")
        for datas in ([b"", b""], [b""] * 100):
            self.assertIn(bad.actor.call_messages(bad.channel, path, datas, 10 * self.slow)[0],
                          ("OK", "INVALID_ARGUMENT", "UNIMPLEMENTED", "INTERNAL", "CANCELLED"))
        self.assertOthersGoOn(bad)

    def test_flood_of_calls_does_not_stop_the_quiet_tenant(self):
        floods = [self.connect(policy.B, actor=self.fresh_actor(policy.B)) for _ in range(2)]
        for conn in floods:
            conn.actor.post("burst", [conn.prepared("ListDevices", dict(
                with_capabilities=True))] * 3000, 60 * self.slow)
        self.assertOthersGoOn()
        for conn in floods:
            conn.actor.kill()

    def test_slow_requests_do_not_stop_the_quiet_tenant(self):
        bad = self.connect(policy.B, actor=self.fresh_actor(policy.B))
        ioasid = self.alloc(bad)
        memory = self.memory(bad, pages=256)
        bad.actor.post("burst", [bad.prepared("Map", dict(ioasid=ioasid, entries=[
            self.entry(0x10000000 + (i * 64 + j) * 0x180000, memory, 256)
            for j in range(1, 64)])) for i in range(16)], 60 * self.slow)
        self.assertOthersGoOn()
        bad.actor.kill()


class Killed(Case):
    """A client dies in the middle of each method; nothing of it stays."""

    def busy_client(self, actor):
        conn = self.connect(policy.B, actor=actor)
        device = self.device(conn)
        ioasid = self.alloc(conn, [device])
        memory = self.memory(conn, pages=256, fill=pattern(PAGE))
        self.map(conn, ioasid, self.entry(0x10010000, memory))
        conn.Attach(device=device, ioasid=ioasid)
        return conn, device, ioasid, memory

    def calls(self, conn, device, ioasid, memory):
        """Method -> requests of it that a client may have in flight when it dies."""
        pb = self.pb
        other = self.inventory.single[1].address
        many = [self.entry(0x10000000 + i * 0x180000, memory, 256) for i in range(1024)]
        child = self.alloc(conn, [device], **self.nested(ioasid))
        ready = [self.given(conn, conn.actor.memfd(size=PAGE)) for _ in range(4)]
        yield "ClaimDevice", [dict(devices=[other])]
        yield "ReleaseDevice", [dict(devices=[device])]
        yield "OpenTicket", [dict(purpose=1)] * 8
        yield "RegisterMemory", [dict(ticket=t, read=True) for t in ready]
        yield "UnregisterMemory", [dict(memory=memory.id)]
        yield "Negotiate", [dict(alloc=dict(kind=1, devices=[device]))] * 8
        yield "Alloc", [dict(kind=1, devices=[device])] * 8
        yield "Free", [dict(ioasid=child), dict(ioasid=ioasid)]
        yield "Translate", [dict(ioasid=ioasid, iova=0x10010000, access=1)] * 8
        yield "Map", [dict(ioasid=ioasid, entries=many)]
        yield "Unmap", [dict(ioasid=ioasid, all=True)]
        yield "Attach", [dict(ioasid=child, device=device)]
        yield "Replace", [dict(ioasid=ioasid, device=device)]
        yield "Detach", [dict(device=device)]
        yield "Invalidate", [dict(ioasid=ioasid, entries=[
            dict(granularity=pb.INVALIDATE_GRANULARITY_ALL)] * 4096)] * 4
        if self.by_call:
            yield "DeviceDma", [dict(device=device, access=1, iova=0x10010000, length=PAGE)] * 8
        else:
            yield "GetDeviceFd", [dict(device=device)] * 8
        yield "OpenLease", [dict(name="l%d" % i) for i in range(8)]
        yield "CloseLease", [{}]
        yield "GetQuota", [{}] * 8
        yield "ListIoasids", [{}] * 8
        yield "ListMappings", [dict(ioasid=ioasid)] * 8
        yield "WatchEvents", []

    def test_killed_in_the_middle_of_each_method(self):
        names = [name for name, _ in self.calls_once()]
        self.assertGreater(len(names), 20)
        for name in names:
            for delay in (0, 0.002):
                with self.subTest(method=name, delay=delay):
                    actor = self.fresh_actor(policy.B)
                    client = self.busy_client(actor)
                    calls = dict(self.calls(*client))[name]
                    if name == "WatchEvents":
                        client[0].watch(name)
                    else:
                        for fields in calls:
                            client[0].start(name, **fields)
                    time.sleep(delay)
                    actor.kill()
                    self.assertEqual(self.world.wait_idle(), [])
        self.a.GetStatus()

    def calls_once(self):
        actor = self.fresh_actor(policy.B)
        got = list(self.calls(*self.busy_client(actor)))
        actor.kill()
        self.assertEqual(self.world.wait_idle(), [])
        return got

    def test_fd_given_by_a_client_that_dies(self):
        before = self.world.server.open_fds()
        for _ in range(10):
            actor = self.fresh_actor(policy.B)
            conn = self.connect(policy.B, actor=actor)
            for _ in range(4):
                self.given(conn, actor.memfd(size=PAGE))
            actor.kill()
        self.assertEqual(self.world.wait_idle(), [])
        end = time.monotonic() + 5 * self.slow
        while self.world.server.open_fds() > before + 2:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_many_die_at_once(self):
        actors = [self.fresh_actor(policy.B) for _ in range(8)]
        for actor in actors:
            conn = self.connect(policy.B, actor=actor)
            for _ in range(4):
                ioasid, memory = self.alloc(conn), self.memory(conn)
                self.map(conn, ioasid, *(self.entry(0x10010000 + i * PAGE, memory)
                                         for i in range(64)))
        for actor in actors:
            os.kill(actor.pid, 9)
        self.alloc(self.a)
        for conn in self._connections:
            if conn.actor in actors:
                conn.channel = None
        self.a.close()
        self.assertEqual(self.world.wait_idle(), [])


class Half(Case):
    def test_requests_larger_than_the_window_that_stop_half_way(self):
        """A client that stops in the middle of a message holds nothing but its connection."""
        bad = self.fresh_actor(policy.B)
        headers = b"\0\0\0\x04\0\0\0\0\0"
        raws = [bad.raw(self.a.path) for _ in range(10)]
        for raw in raws:
            bad.raw_send(raw, PREFACE + headers + b"\0\0\x20\x01\x04\0\0\0\x01" + b"\x82" * 10)
        self.a.Free(ioasid=self.alloc(self.a))
        for raw in raws:
            bad.raw_close(raw)
        self.assertNotIsInstance(self.a.attempt("GetStatus"), Refused)
