#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The transport with a fake broker behind it, over real sockets.

Usage: test_transport.py SERVER SOURCE_FOLDER [unittest arguments]

The fake aborts when its host breaks a rule of broker.h, and every test ends with an orderly
end of the server, which must exit 0: a leaked call, session or fd fails the test.
"""
import array
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc

SERVER, SOURCE = sys.argv[1:3]
del sys.argv[1:3]
PROTO = os.path.join(SOURCE, "proto")
generated = tempfile.TemporaryDirectory()
GENERATED = generated.name
for proto in ("tests/unit/transport/fake.proto",
              "server/transport/proto/grpc/health/v1/health.proto",
              "server/transport/proto/grpc/reflection/v1alpha/reflection.proto"):
    folder, name = os.path.split(os.path.join(SOURCE, proto))
    subprocess.check_call(["protoc", f"--python_out={GENERATED}", f"-I{folder}", name])
sys.path.insert(0, GENERATED)
sys.path.insert(1, os.path.dirname(os.path.abspath(__file__)))
import fake_pb2  # noqa: E402
import health_pb2  # noqa: E402
import reflection_pb2  # noqa: E402
import raw_http2  # noqa: E402
from raw_http2 import RawClient  # noqa: E402

Request, Reply = fake_pb2.Request, fake_pb2.Reply
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBL", 0, 0, 4, 0, 0)
SLOW = float(os.environ.get("TEST_SLOWNESS", "1"))
# A sanitizer keeps what was freed; it finds leaks itself when the server ends.
SANITIZED = SLOW > 1


class Server:
    def __init__(self, folder, arguments=(), audit="none", **environment):
        self.path = os.path.join(folder, "tenants.sock")
        self.admin = os.path.join(folder, "admin.sock")
        self.strangers = os.path.join(folder, "strangers.sock")
        self.log_path = os.path.join(folder, "log")
        self.log = open(self.log_path, "w+")
        env = dict(os.environ, **{f"FAKE_{k.upper()}": str(v) for k, v in environment.items()})
        self.process = subprocess.Popen(
            [SERVER, "--listen", f"tenants={self.path}", "--listen", f"admin={self.admin}:0600",
             "--listen", f"strangers={self.strangers}", "--audit", audit, *arguments],
            stderr=self.log, env=env)
        deadline = time.time() + 20 * SLOW
        while "listening: strangers" not in self.text():
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError(self.text())
            time.sleep(0.02)

    def text(self):
        with open(self.log_path) as log:
            return log.read()

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int([x for x in status if x.startswith("VmRSS")][0].split()[1]) * 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "does not end"
        self.log.close()
        return code


def channel(path, **options):
    return grpc.insecure_channel(f"unix:{path}", options=[
        ("grpc.use_local_subchannel_pool", 1), *options.items()])


def unary(where, method, path="/fake.v1.Fake/"):
    return where.unary_unary(path + method, request_serializer=Request.SerializeToString,
                             response_deserializer=Reply.FromString)


def stream(where, method, path="/fake.v1.Fake/"):
    return where.unary_stream(path + method, request_serializer=Request.SerializeToString,
                              response_deserializer=Reply.FromString)


def wait_for(condition, seconds=10):
    deadline = time.time() + seconds * SLOW
    while not condition():
        if time.time() > deadline:
            return False
        time.sleep(0.02)
    return True


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10 * SLOW)
    s.connect(path)
    return s


def closed_after(s):
    """Seconds until the server closes the connection."""
    start = time.time()
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.time() - start


class TransportTest(unittest.TestCase):
    environment = {}
    audit = "none"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.server = Server(self.folder.name, audit=self.audit, **self.environment)
        self.channel = channel(self.server.path)

    def tearDown(self):
        self.channel.close()
        code = self.server.stop()
        self.assertEqual(code, 0, open(self.server.log_path).read())
        self.assertFalse(os.path.exists(self.server.path))
        self.folder.cleanup()

    def counters(self):
        return unary(self.channel, "Echo")(Request(), timeout=10 * SLOW)

    def assertAlone(self):
        """Nothing is left but this test's own connection and call."""
        def alone():
            c = self.counters()
            return (c.sessions, c.calls, c.works) == (1, 1, 0)
        self.assertTrue(wait_for(alone), self.counters())

    def assertFails(self, code, call, *args, **kwargs):
        with self.assertRaises(grpc.RpcError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception


class Calls(TransportTest):
    def test_identity_is_the_socket_and_the_kernels_word(self):
        reply = unary(self.channel, "Echo")(
            Request(payload=b"x"), metadata=(("x-tenant", "other"), ("socket", "admin")))
        self.assertEqual((reply.uid, reply.pid, reply.socket, reply.payload),
                         (os.getuid(), os.getpid(), "tenants", b"x"))
        with channel(self.server.admin) as admin:
            self.assertEqual(unary(admin, "Echo")(Request()).socket, "admin")

    def test_empty_and_largest_message(self):
        echo = unary(self.channel, "Echo")
        self.assertEqual(echo(Request()).payload, b"")
        with channel(self.server.path, **{"grpc.max_receive_message_length": -1}) as big:
            # 5 bytes of framing: tag and length of the field.
            payload = random.randbytes((4 << 20) - 5)
            self.assertEqual(Request(payload=payload).ByteSize(), 4 << 20)
            self.assertEqual(unary(big, "Echo")(Request(payload=payload)).payload, payload)
            self.assertFails(grpc.StatusCode.RESOURCE_EXHAUSTED, unary(big, "Echo"),
                             Request(payload=payload + b"x"))
        self.assertEqual(echo(Request(payload=b"after")).payload, b"after")

    def test_unknown_method(self):
        for path in "/fake.v1.Fake/None", "/fake.v1.Fake/", "/", "/fake.v1.Fake/Echo/":
            error = self.assertFails(
                grpc.StatusCode.UNIMPLEMENTED,
                unary(self.channel, "", path), Request(), timeout=5 * SLOW)
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            self.assertIn(b"UNIMPLEMENTED", details)
            self.assertIn(b"google.rpc.ErrorInfo", details)

    def test_refusal_carries_message_and_details_bytes(self):
        details = bytes(range(256)) * 8
        error = self.assertFails(
            grpc.StatusCode.FAILED_PRECONDITION, unary(self.channel, "Refuse"),
            Request(n=9, text="not now: ü", payload=details))
        self.assertEqual(error.details(), "not now: ü")
        self.assertEqual(dict(error.trailing_metadata())["grpc-status-details-bin"], details)

    def test_details_that_no_client_could_take_are_left_out(self):
        error = self.assertFails(
            grpc.StatusCode.NOT_FOUND, unary(self.channel, "Refuse"),
            Request(n=5, text="gone", payload=bytes(6000)))
        self.assertEqual(error.details(), "gone")
        self.assertNotIn("grpc-status-details-bin", dict(error.trailing_metadata()))

    def test_compressed_request_is_refused(self):
        with grpc.insecure_channel(f"unix:{self.server.path}",
                                   compression=grpc.Compression.Gzip) as zipped:
            self.assertFails(grpc.StatusCode.UNIMPLEMENTED, unary(zipped, "Echo"),
                             Request(payload=bytes(100000)), timeout=5 * SLOW)
        self.assertAlone()

    def test_call_without_message(self):
        call = self.channel.stream_unary("/fake.v1.Fake/Echo",
                                         request_serializer=Request.SerializeToString,
                                         response_deserializer=Reply.FromString)
        error = self.assertFails(grpc.StatusCode.INVALID_ARGUMENT, call, iter(()))
        self.assertIn(b"MALFORMED",
                      dict(error.trailing_metadata())["grpc-status-details-bin"])

    def test_message_that_is_none(self):
        call = self.channel.unary_unary("/fake.v1.Fake/Echo")
        self.assertFails(grpc.StatusCode.INVALID_ARGUMENT, call, b"\xff\xff\xff\xff")

    def test_many_at_once_on_many_connections(self):
        errors = []

        def client(seed):
            rng = random.Random(seed)
            with channel(self.server.path) as mine:
                echo, slow = unary(mine, "Echo"), unary(mine, "Slow")
                pending = []
                for _ in range(150):
                    payload = rng.randbytes(rng.choice((0, 1, 100, 20000)))
                    call = echo if rng.random() < 0.9 else slow
                    pending.append((call is echo, payload,
                                    call.future(Request(payload=payload, n=seed, delay_ms=2))))
                for echoed, payload, future in pending:
                    got = future.result(30 * SLOW)
                    if echoed and got.payload != payload:
                        errors.append("mixed up")
        threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        self.assertAlone()

    def test_deadline_and_cancellation_reach_the_broker(self):
        self.assertFails(grpc.StatusCode.DEADLINE_EXCEEDED, unary(self.channel, "Hang"),
                         Request(), timeout=0.2)
        future = unary(self.channel, "Hang").future(Request())
        self.assertTrue(wait_for(lambda: self.counters().calls == 2))
        future.cancel()
        self.assertAlone()
        self.assertEqual(self.counters().cancelled, 2)

    def test_cancelled_work_is_awaited(self):
        slow = unary(self.channel, "Slow")
        self.assertFails(grpc.StatusCode.DEADLINE_EXCEEDED, slow, Request(delay_ms=500),
                         timeout=0.1)
        self.assertEqual(self.counters().works, 1)
        self.assertAlone()

    def test_timers(self):
        timer = unary(self.channel, "Timer")
        start = time.time()
        futures = [timer.future(Request(delay_ms=ms)) for ms in (300, 100, 200)]
        for future in futures:
            future.result(10)
        self.assertGreaterEqual(time.time() - start, 0.29)
        self.assertLess(time.time() - start, 2 * SLOW)

    def test_blocking_work_of_one_key_leaves_workers_to_others(self):
        # Four workers: twenty calls of one key hold two of them for two and a half seconds.
        slow = unary(self.channel, "Slow")
        hogs = [slow.future(Request(n=1, delay_ms=250)) for _ in range(20)]
        self.assertTrue(wait_for(lambda: self.counters().works == 20))
        start = time.time()
        slow(Request(n=2, delay_ms=1))
        self.assertLess(time.time() - start, 0.2 * SLOW)
        start = time.time()
        for hog in hogs:
            hog.result(30)
        self.assertGreater(time.time() - start, 1.5)

    def test_kick(self):
        with channel(self.server.path) as mine:
            self.assertFails(grpc.StatusCode.UNAVAILABLE, unary(mine, "Kick"), Request(),
                             timeout=5 * SLOW)
        self.assertAlone()


class Streams(TransportTest):
    def test_all_messages_in_order(self):
        got = [r.index for r in stream(self.channel, "Stream")(Request(n=5000, size=100))]
        self.assertEqual(got, list(range(1, 5001)))

    def test_stalled_reader_costs_no_memory_and_no_one_else(self):
        with channel(self.server.path) as mine:
            calls = [stream(mine, "Stream")(Request(size=100000)) for _ in range(20)]
            for call in calls:
                next(call)
            time.sleep(0.5)
            before = self.server.memory()
            slowest = 0
            for _ in range(100):
                start = time.time()
                self.counters()
                slowest = max(slowest, time.time() - start)
                time.sleep(0.01)
            if not SANITIZED:
                self.assertLess(self.server.memory() - before, 8 << 20)
            self.assertLess(slowest, 0.5 * SLOW)
            for call in calls:
                call.cancel()
        self.assertAlone()

    def test_endless_stream_does_not_starve_others(self):
        stop = threading.Event()

        def reader():
            with channel(self.server.path) as mine:
                call = stream(mine, "Stream")(Request(size=10))
                for _ in call:
                    if stop.is_set():
                        break
                call.cancel()
        thread = threading.Thread(target=reader)
        thread.start()
        times = []
        for _ in range(200):
            start = time.time()
            self.counters()
            times.append(time.time() - start)
        stop.set()
        thread.join()
        # Python's own lock is shared with the reader: a generous bound on the median.
        self.assertLess(sorted(times)[100], 0.1 * SLOW)
        self.assertAlone()

    def test_stream_limit_of_a_connection(self):
        with channel(self.server.path) as mine:
            calls = [stream(mine, "Stream")(Request(size=1)) for _ in range(128)]
            for call in calls:
                next(call)
            # HTTP/2 makes the 129th wait at the client.
            self.assertFails(grpc.StatusCode.DEADLINE_EXCEEDED, unary(mine, "Echo"), Request(),
                             timeout=0.5)
            calls[0].cancel()
            unary(mine, "Echo")(Request(), timeout=5 * SLOW)
            for call in calls:
                call.cancel()
        self.assertAlone()


class Hostile(TransportTest):
    environment = {"guests": 64, "pending": 32, "open": 100, "rate": 100000}

    def test_silence_is_ended_after_two_seconds(self):
        silent, half = connect(self.server.path), connect(self.server.path)
        half.send(b"PR")
        self.assertAlmostEqual(closed_after(silent), 2, delta=0.5 * SLOW)
        self.assertLess(closed_after(half), 0.5 * SLOW)

    def test_garbage_is_closed_at_once(self):
        for bytes_ in b"GET / HTTP/1.1\r\n\r\n", b"\0", b"PRX ", b"IOFX", b"\xff" * 100000:
            s = connect(self.server.path)
            try:
                s.sendall(bytes_)
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.assertLess(closed_after(s), 0.5 * SLOW)
        self.assertAlone()

    def test_garbage_after_the_preface(self):
        rng = random.Random(1)
        for _ in range(60):
            s = connect(self.server.path)
            s.sendall(PREFACE[:rng.randrange(4, len(PREFACE) + 1)] +
                      rng.randbytes(rng.randrange(2000)))
            s.close()
        self.assertAlone()

    def test_killed_clients(self):
        program = f"""
import sys; sys.path.insert(0, {GENERATED!r})
import grpc, fake_pb2, time
c = grpc.insecure_channel("unix:{self.server.path}")
R = fake_pb2.Request
f = [c.unary_unary("/fake.v1.Fake/" + m).future(R(delay_ms=400).SerializeToString())
     for m in ("Hang", "Slow", "Slow", "Timer", "Hang", "Echo") for _ in range(10)]
s = c.unary_stream("/fake.v1.Fake/Stream")(R(size=1000).SerializeToString())
next(s)
print("ready", flush=True)
time.sleep(100)
"""
        for _ in range(3):
            p = subprocess.Popen(["/usr/bin/python3", "-c", program], stdout=subprocess.PIPE)
            self.assertEqual(p.stdout.readline(), b"ready\n")
            self.assertGreater(self.counters().calls, 20)
            p.kill()
            p.wait()
            p.stdout.close()
            self.assertAlone()
        self.assertGreater(self.counters().cancelled, 60)

    def test_silent_flood_leaves_room(self):
        flood = []
        for _ in range(200):
            try:
                flood.append(connect(self.server.path))
            except OSError:
                pass
        # A speaking client comes through while the flood stands.
        with channel(self.server.admin) as other:
            unary(other, "Echo")(Request(), timeout=5 * SLOW)
        for s in flood:
            s.close()
        self.assertAlone()

    def test_speaking_flood_is_capped(self):
        flood = []
        for _ in range(150):
            s = connect(self.server.path)
            try:
                s.sendall(PREFACE)
            except (BrokenPipeError, ConnectionResetError):
                pass
            flood.append(s)
        with channel(self.server.admin) as admin:
            def sessions():
                return unary(admin, "Echo")(Request(), timeout=5 * SLOW).sessions
            # A hundred of the flood, less this test's channel if it had connected, and admin.
            self.assertTrue(wait_for(lambda: 90 <= sessions() <= 102), sessions())
            for s in flood:
                s.close()
            self.assertTrue(wait_for(lambda: sessions() <= 2), sessions())
        self.assertAlone()

    def test_refused_session_hears_why_and_ends(self):
        with channel(self.server.strangers) as mine:
            self.assertFails(grpc.StatusCode.UNAUTHENTICATED, unary(mine, "Echo"), Request(),
                             timeout=5 * SLOW)
        s = connect(self.server.strangers)
        s.sendall(PREFACE)
        self.assertAlmostEqual(closed_after(s), 5, delta=1 * SLOW)
        self.assertAlone()


def pump(clients, seconds, until=lambda: False):
    deadline = time.time() + seconds
    while time.time() < deadline and not until():
        if not any([c.step() for c in clients if not c.closed]):
            time.sleep(0.002)


class Memory(TransportTest):
    environment = {"unsent": 1 << 20}

    def test_messages_that_never_end_are_bounded(self):
        # 400 streams of four connections could hold 1.6 GB.
        clients = [RawClient(self.server.path) for _ in range(4)]
        part = bytes((4 << 20) - 1)
        for c in clients:
            for _ in range(100):
                c.open("/fake.v1.Fake/Echo", part, announced=4 << 20)
        pump(clients, 20 * SLOW, lambda: sum(c.ended for c in clients) > 200)
        self.assertGreater(sum(c.ended for c in clients), 200)
        if not SANITIZED:
            self.assertLess(self.server.memory(), 200 << 20)
        with channel(self.server.admin) as other:
            unary(other, "Echo")(Request(), timeout=5 * SLOW)
        for c in clients:
            c.close()
        self.assertAlone()

    def test_answers_that_nobody_reads_are_bounded(self):
        big, request = unary(self.channel, "Big"), Request(size=100000)
        self.assertEqual(len(big(request).payload), 100000)
        c = RawClient(self.server.path, reads=False)
        for _ in range(100):
            c.open("/fake.v1.Fake/Big", request.SerializeToString())
        pump([c], 0.5 * SLOW)
        # The same caller, on another connection: its share is used up, others' is not.
        error = self.assertFails(grpc.StatusCode.RESOURCE_EXHAUSTED, big, request)
        self.assertIn("wait to be read", error.details())
        with channel(self.server.admin) as other:
            self.assertEqual(len(unary(other, "Big")(request).payload), 100000)
        c.close()
        self.assertAlone()
        self.assertEqual(len(big(request).payload), 100000)

    def flood(self, frames, seconds):
        """Sends without end while another principal calls; how long that one's calls took."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.server.path)
            s.settimeout(seconds)
            s.sendall(PREFACE)
            end, times = time.time() + seconds, []
            done = threading.Event()

            def ask():
                with channel(self.server.admin) as other:
                    while not done.is_set():
                        start = time.time()
                        unary(other, "Echo")(Request(), timeout=10 * SLOW)
                        times.append(time.time() - start)
            asking = threading.Thread(target=ask)
            asking.start()
            closed = False
            try:
                while not closed and time.time() < end:
                    s.sendall(next(frames))
            except (BrokenPipeError, ConnectionResetError):
                closed = True
            except (socket.timeout, StopIteration):
                pass
            done.set()
            asking.join()
        return closed, times

    def test_streams_that_are_reset_as_fast_as_they_can_be_sent(self):
        self.channel.close()  # it is of the same principal, who is barred
        h = raw_http2.headers("/fake.v1.Fake/Echo")
        frames = (b"".join(
            raw_http2.frame(raw_http2.HEADERS, 4, i, h) +
            raw_http2.frame(raw_http2.RST_STREAM, 0, i, struct.pack(">I", 8))
            for i in range(first, first + 1000, 2)) for first in range(1, 400001, 1000))
        frames = iter([b"".join(frames)])
        closed, times = self.flood(frames, 20 * SLOW)
        self.assertTrue(closed, "the server reads on and on")
        # Half a second of the server's own time, and whatever else the machine has to do.
        self.assertLess(max(times), 15 * SLOW)
        if not SANITIZED:
            # What half a second of this machine's time takes in, 250 to 500 MiB; all of the
            # flood would be 1.3 GiB.
            self.assertLess(self.server.memory(), 800 << 20)
        self.assertTrue(wait_for(
            lambda: "closing a connection of uid 0" in open(self.server.log_path).read()))
        # Who did it connects, and waits a moment before anybody talks to him.
        with channel(self.server.path) as again:
            unary(again, "Echo")(Request(), timeout=20 * SLOW, wait_for_ready=True)

    def test_streams_that_are_reset_in_small_bursts(self):
        """Mostly too slow for the server to notice a stall: the resets are counted."""
        c = RawClient(self.server.path)
        for _ in range(200):
            for _ in range(100):
                c.open("/fake.v1.Fake/Echo", reset=True)
            pump([c], 10 * SLOW, lambda: not c.out or c.closed)
            pump([c], 0.01, lambda: c.closed)
        pump([c], 5 * SLOW, lambda: c.closed)
        self.assertTrue(c.closed)
        self.assertTrue(wait_for(
            lambda: "closing a connection of uid 0" in open(self.server.log_path).read()))
        c.close()

    def test_a_few_resets_are_no_misuse(self):
        c = RawClient(self.server.path)
        for _ in range(1000):
            c.open("/fake.v1.Fake/Echo", reset=True)
        pump([c], 1 * SLOW, lambda: c.closed)
        self.assertFalse(c.closed)
        c.close()
        self.assertAlone()


class Sessions(TransportTest):
    environment = {"sessions_max": 3}

    def test_too_many_sessions_are_closed_at_once(self):
        held = [channel(self.server.path) for _ in range(3)]
        for c in held:
            unary(c, "Echo")(Request(), timeout=5 * SLOW)
        s = connect(self.server.path)
        s.sendall(PREFACE)
        self.assertLess(closed_after(s), 1 * SLOW)
        for c in held:
            c.close()
        self.assertAlone()


class Rate(TransportTest):
    environment = {"rate": 20}

    def test_connections_of_one_principal_are_slowed(self):
        start = time.time()
        for _ in range(40):
            with channel(self.server.path) as c:
                unary(c, "Echo")(Request(), timeout=20 * SLOW)
        # Twenty at once, twenty more in a second.
        self.assertGreater(time.time() - start, 0.8)
        with channel(self.server.admin) as other:
            start = time.time()
            unary(other, "Echo")(Request(), timeout=5 * SLOW)
            self.assertLess(time.time() - start, 0.5 * SLOW)


class Leaks(TransportTest):
    environment = {"rate": 1000000}

    def burst(self, n):
        for i in range(n):
            s = connect(self.server.path)
            s.sendall(PREFACE if i % 3 else b"PRI ")
            s.close()
            if i % 200 == 199:
                # The most at once decides how much the allocator holds: keep it the same.
                self.assertAlone()
        self.assertAlone()

    def test_ten_thousand_connections(self):
        self.burst(1000)
        fds, memory = self.server.fds(), self.server.memory()
        self.burst(10000)
        self.assertEqual(self.server.fds(), fds)
        if not SANITIZED:
            self.assertLess(self.server.memory() - memory, 10000 * 300)


def fd_request(op=1, ticket=bytes(16), version=1, flags=0, reserved=0, magic=b"IOFD"):
    return magic + struct.pack("<BBH16sQ", version, op, flags, ticket, reserved)


class FdProtocol(TransportTest):
    def ticket(self):
        return unary(self.channel, "Ticket")(Request()).payload

    def exchange(self, request, fds=(), path=None):
        """(status, fds) of the reply; None when the connection just ends."""
        with connect(path or self.server.path) as s:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            s.sendmsg([request], rights if fds else [])
            try:
                reply, ancillary, _, _ = s.recvmsg(100, socket.CMSG_SPACE(16))
            except ConnectionResetError:
                return None, []
            got = array.array("i")
            for _, _, data in ancillary:
                got.frombytes(data[:len(data) - len(data) % 4])
            if not reply:
                return None, []
            self.assertEqual(len(reply), 16)
            self.assertEqual((reply[:5], reply[6:]), (b"IOFD\1", bytes(10)))
            return reply[5], list(got)

    def setUp(self):
        super().setUp()
        self.memfd = os.memfd_create("given")

    def tearDown(self):
        os.close(self.memfd)
        super().tearDown()

    def test_give_and_take(self):
        self.assertEqual(self.exchange(fd_request(1, self.ticket()), [self.memfd]), (0, []))
        self.assertEqual(self.counters().fds, 1)
        status, fds = self.exchange(fd_request(2, self.ticket()))
        self.assertEqual((status, len(fds)), (0, 1))
        self.assertEqual(os.pread(fds[0], 10, 0), b"taken")
        os.close(fds[0])

    def test_ticket_is_used_up_and_unknown_ones_are_refused(self):
        ticket = self.ticket()
        self.assertEqual(self.exchange(fd_request(2, bytes(16)))[0], 2)
        status, fds = self.exchange(fd_request(2, ticket))
        os.close(fds[0])
        self.assertEqual(status, 0)
        self.assertEqual(self.exchange(fd_request(2, ticket))[0], 2)

    def test_malformed(self):
        ticket, before = self.ticket(), self.server.fds()
        other = os.memfd_create("other")
        for request, fds in (
                (fd_request(1, ticket), []),
                (fd_request(1, ticket), [self.memfd, other]),
                (fd_request(1, ticket), [self.memfd] * 20),
                (fd_request(2, ticket), [self.memfd]),
                (fd_request(0, ticket), []), (fd_request(3, ticket), [self.memfd]),
                (fd_request(2, ticket, version=0), []), (fd_request(2, ticket, version=2), []),
                (fd_request(2, ticket, flags=1), []), (fd_request(2, ticket, flags=256), []),
                (fd_request(2, ticket, reserved=1), []),
                (fd_request(2, ticket, reserved=1 << 63), [])):
            self.assertEqual(self.exchange(request, fds)[0], 1, (request, fds))
        os.close(other)
        self.assertTrue(wait_for(lambda: self.server.fds() == before), self.server.fds())
        # None of them used the ticket.
        status, fds = self.exchange(fd_request(2, ticket))
        self.assertEqual(status, 0)
        os.close(fds[0])

    def test_fd_that_comes_late_is_malformed(self):
        with connect(self.server.path) as s:
            request = fd_request(1, self.ticket())
            s.sendall(request[:10])
            time.sleep(0.1)
            socket.send_fds(s, [request[10:]], [self.memfd])
            self.assertEqual(s.recv(16)[5], 1)

    def test_request_in_pieces(self):
        with connect(self.server.path) as s:
            request = fd_request(1, self.ticket())
            socket.send_fds(s, [request[:1]], [self.memfd])
            for i in range(1, 32):
                time.sleep(0.005)
                s.sendall(request[i:i + 1])
            self.assertEqual(s.recv(16)[5], 0)

    def test_half_a_request(self):
        before = self.server.fds()
        with connect(self.server.path) as s:
            socket.send_fds(s, [fd_request()[:20]], [self.memfd])
            self.assertAlmostEqual(closed_after(s), 2, delta=0.5 * SLOW)
        with connect(self.server.path) as s:
            socket.send_fds(s, [fd_request()[:20]], [self.memfd])
        self.assertTrue(wait_for(lambda: self.server.fds() == before), self.server.fds())

    def test_wrong_magic(self):
        self.assertEqual(self.exchange(fd_request(magic=b"IOFE"))[0], None)


class Health(TransportTest):
    def check(self, service):
        call = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString)
        return call(health_pb2.HealthCheckRequest(service=service)).status

    def watch(self, service):
        call = self.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString)
        return call(health_pb2.HealthCheckRequest(service=service))

    def test_check(self):
        for service in "", "ioasid.v1.Broker", "ioasid.v1.Admin":
            self.assertEqual(self.check(service), 1)
        self.assertFails(grpc.StatusCode.NOT_FOUND, self.check, "ioasid.v1.Other")
        self.assertFails(grpc.StatusCode.INVALID_ARGUMENT, self.check, "x" * 1000)

    def test_watch(self):
        unknown = self.watch("nobody")
        self.assertEqual(next(unknown).status, 3)
        unknown.cancel()
        call = self.watch("")
        self.assertEqual(next(call).status, 1)
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(call).status, 2)
        self.assertFails(grpc.StatusCode.UNAVAILABLE, next, call)


class Reflection(TransportTest):
    def ask(self, *questions):
        call = self.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
        return list(call(iter(reflection_pb2.ServerReflectionRequest(**q) for q in questions)))

    def test_services(self):
        answer, = self.ask({"list_services": ""})
        self.assertEqual(
            sorted(s.name for s in answer.list_services_response.service),
            ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
             "ioasid.v1.Admin", "ioasid.v1.Broker"])

    def test_files_resolve_to_callable_descriptors(self):
        from google.protobuf import descriptor_pb2, descriptor_pool
        symbols = {"ioasid.v1.Broker": "ioasid.proto", "ioasid.v1.Broker.Alloc": "ioasid.proto",
                   "ioasid.v1.AllocRequest": "ioasid.proto",
                   "ioasid.v1.AllocRequest.scope": "ioasid.proto",
                   "ioasid.v1.IoasidKind": "ioasid.proto",
                   "ioasid.v1.IOASID_KIND_KERNEL": "ioasid.proto",
                   "grpc.health.v1.Health.Check": "grpc/health/v1/health.proto",
                   "grpc.health.v1.HealthCheckResponse.ServingStatus":
                       "grpc/health/v1/health.proto"}
        answers = self.ask(*({"file_containing_symbol": s} for s in symbols))
        pool = descriptor_pool.DescriptorPool()
        seen = set()
        for answer, (symbol, name) in zip(answers, symbols.items()):
            file, = answer.file_descriptor_response.file_descriptor_proto
            parsed = descriptor_pb2.FileDescriptorProto.FromString(file)
            self.assertEqual(parsed.name, name, symbol)
            if name not in seen:
                pool.Add(parsed)
            seen.add(name)
        alloc = pool.FindServiceByName("ioasid.v1.Broker").FindMethodByName("Alloc")
        self.assertEqual(alloc.input_type.full_name, "ioasid.v1.AllocRequest")

    def test_whole_api_equals_the_proto_file(self):
        from google.protobuf import descriptor_pb2
        with tempfile.NamedTemporaryFile() as out:
            subprocess.check_call(["protoc", f"--descriptor_set_out={out.name}", f"-I{PROTO}",
                                   os.path.join(PROTO, "ioasid.proto")])
            expected = descriptor_pb2.FileDescriptorSet.FromString(out.read()).file[0]
        answer, = self.ask({"file_by_filename": "ioasid.proto"})
        file, = answer.file_descriptor_response.file_descriptor_proto
        self.assertEqual(descriptor_pb2.FileDescriptorProto.FromString(file), expected)

    def test_errors(self):
        answers = self.ask({"file_by_filename": "none.proto"},
                           {"file_containing_symbol": "ioasid.v1.Broke"},
                           {"file_containing_symbol": "ioasid.v1"},
                           {"file_containing_symbol": ""},
                           {"all_extension_numbers_of_type": "ioasid.v1.AllocRequest"}, {})
        self.assertEqual([a.error_response.error_code for a in answers], [5, 5, 5, 5, 5, 3])
        self.assertEqual(answers[0].original_request.file_by_filename, "none.proto")


class Life(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def test_calls_are_told_of_the_end(self):
        server = Server(self.folder.name)
        with channel(server.path) as mine:
            futures = [unary(mine, m).future(Request(delay_ms=300)) for m in ("Hang", "Slow")]
            unary(mine, "Echo")(Request())
            server.process.send_signal(signal.SIGTERM)
            for future in futures:
                self.assertEqual(future.exception(10 * SLOW).code(),
                                 grpc.StatusCode.UNAVAILABLE)
                self.assertIn("shutting down", future.exception().details())
        self.assertEqual(server.stop(), 0)

    def test_end_beside_a_stalled_reader(self):
        server = Server(self.folder.name)
        with channel(server.path) as mine:
            call = stream(mine, "Stream")(Request(size=1000000))
            next(call)
            start = time.time()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.time() - start, 4 * SLOW)

    def test_end_is_not_waited_for_forever(self):
        server = Server(self.folder.name, drain_ms=300)
        with channel(server.path) as mine:
            unary(mine, "Slow").future(Request(delay_ms=3000))
            unary(mine, "Echo")(Request())
            start = time.time()
            self.assertEqual(server.stop(), 1)
            self.assertLess(time.time() - start, 2 * SLOW)
        self.assertFalse(os.path.exists(server.path))

    def test_second_server_is_refused_and_a_stale_socket_replaced(self):
        server = Server(self.folder.name)
        second = subprocess.run([SERVER, "--listen", f"tenants={server.path}"],
                                stderr=subprocess.PIPE, text=True, timeout=20 * SLOW)
        self.assertEqual(second.returncode, 1)
        self.assertIn(server.path, second.stderr)
        self.assertIn("listening", second.stderr)
        with channel(server.path) as mine:
            unary(mine, "Echo")(Request())
        server.process.kill()
        server.process.wait()
        server.log.close()
        self.assertTrue(os.path.exists(server.path))
        again = Server(self.folder.name)
        with channel(again.path) as mine:
            unary(mine, "Echo")(Request())
        self.assertEqual(again.stop(), 0)

    def test_foreign_file_stays(self):
        path = os.path.join(self.folder.name, "precious")
        with open(path, "w") as f:
            f.write("data")
        run = subprocess.run([SERVER, "--listen", f"tenants={path}"], stderr=subprocess.PIPE,
                             text=True, timeout=20 * SLOW)
        self.assertEqual(run.returncode, 1)
        self.assertIn("not a socket", run.stderr)
        self.assertEqual(open(path).read(), "data")

    def test_successors_socket_stays(self):
        server = Server(self.folder.name)
        os.unlink(server.path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(server.path)
        self.assertEqual(server.stop(), 0)
        self.assertTrue(os.path.exists(server.path))
        successor.close()

    def test_modes(self):
        server = Server(self.folder.name)
        self.assertEqual(os.stat(server.path).st_mode & 0o777, 0o666)
        self.assertEqual(os.stat(server.admin).st_mode & 0o777, 0o600)
        self.assertEqual(server.stop(), 0)

    def test_socket_activation_notification_and_watchdog(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify_path = os.path.join(self.folder.name, "notify")
        notify.bind(notify_path)
        notify.settimeout(10 * SLOW)
        path = os.path.join(self.folder.name, "activated")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(5)
        listener.set_inheritable(True)
        program = ("import os,sys\nfd=int(sys.argv[1])\nif fd!=3: os.dup2(fd,3)\n"
                   "os.set_inheritable(3,True)\nos.environ['LISTEN_PID']=str(os.getpid())\n"
                   "os.environ['WATCHDOG_PID']=str(os.getpid())\n"
                   "os.execv(sys.argv[2],sys.argv[2:])")
        env = dict(os.environ, LISTEN_FDS="1", LISTEN_FDNAMES="tenants",
                   NOTIFY_SOCKET=notify_path, WATCHDOG_USEC="200000")
        server = subprocess.Popen(
            ["/usr/bin/python3", "-c", program, str(listener.fileno()), SERVER, "--audit", "none"],
            env=env, close_fds=False, stderr=subprocess.PIPE)
        self.assertEqual(notify.recv(1000), b"READY=1")
        with channel(path) as mine:
            self.assertEqual(unary(mine, "Echo")(Request(), timeout=10 * SLOW).socket, "tenants")
        seen = [notify.recv(1000) for _ in range(3)]
        self.assertEqual(set(seen), {b"WATCHDOG=1"})
        server.send_signal(signal.SIGHUP)
        while not (message := notify.recv(1000)).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            self.assertEqual(message, b"WATCHDOG=1")
        self.assertEqual(notify.recv(1000), b"READY=1")
        server.send_signal(signal.SIGTERM)
        while (message := notify.recv(1000)) != b"STOPPING=1":
            self.assertEqual(message, b"WATCHDOG=1")
        _, errors = server.communicate(timeout=20 * SLOW)
        self.assertEqual(server.returncode, 0, errors)
        self.assertTrue(os.path.exists(path))  # systemd's
        listener.close()
        notify.close()

    def test_out_of_fds(self):
        server = Server(self.folder.name, rate=100000)
        subprocess.check_call(["prlimit", f"--pid={server.process.pid}",
                               f"--nofile={server.fds() + 20}"])
        with channel(server.path) as mine:
            unary(mine, "Echo")(Request(), timeout=5 * SLOW)
            flood = [connect(server.path) for _ in range(60)]
            for s in flood:
                try:
                    s.sendall(PREFACE)
                except OSError:
                    pass
            unary(mine, "Echo")(Request(), timeout=5 * SLOW)
            self.assertTrue(wait_for(lambda: "Too many open files" in server.text()))
            for s in flood:
                s.close()
            with channel(server.path) as late:
                unary(late, "Echo")(Request(), timeout=20 * SLOW, wait_for_ready=True)
        self.assertEqual(server.stop(), 0)


class Audit(unittest.TestCase):
    def run_audit(self, audit, n, text, after=None, **popen):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(folder, audit=audit(folder))
            with channel(server.path) as mine:
                unary(mine, "Audit")(Request(n=n, text=text), timeout=10 * SLOW)
                if after:
                    after(server, mine, folder)
            self.assertEqual(server.stop(), 0)
            path = audit(folder)
            return open(path).read().splitlines() if os.path.isfile(path) else None

    def test_records_are_lines(self):
        lines = self.run_audit(lambda f: f + "/audit", 500, '{"a":"line\nbreak"}')
        self.assertEqual(lines, ['{"a":"line break"}'] * 500)

    def test_losses_are_counted_in_the_next_record(self):
        def after(server, mine, folder):
            time.sleep(0.2)
            unary(mine, "Audit")(Request(n=1, text='{"b":2}'))
        # The ring of the test server has 64 KiB.
        lines = self.run_audit(lambda f: f + "/audit", 2000, json.dumps({"a": "x" * 90}), after)
        records = [json.loads(line) for line in lines]
        # The writer may have made room in between: then an earlier record tells a part, or all.
        self.assertEqual(records[-1].pop("b"), 2)
        for record in records:
            self.assertIn(list(record), ([], ["lost"], ["a"], ["lost", "a"]))
        lost = sum(r.get("lost", 0) for r in records)
        self.assertEqual(lost + len(records) - 1, 2000)
        self.assertGreater(lost, 500)

    def test_rotation(self):
        def after(server, mine, folder):
            path = folder + "/audit"
            wait_for(lambda: len(open(path).readlines()) == 3)
            os.rename(path, path + ".1")
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: os.path.exists(path))
            unary(mine, "Audit")(Request(n=2, text='{"b":2}'))
        lines = self.run_audit(lambda f: f + "/audit", 3, '{"a":1}', after)
        self.assertEqual(lines, ['{"b":2}'] * 2)

    def test_blocked_pipe_blocks_no_one(self):
        def after(server, mine, folder):
            start = time.time()
            for _ in range(50):
                unary(mine, "Audit")(Request(n=100, text="{%s}" % ("x" * 100)), timeout=5 * SLOW)
            self.assertLess(time.time() - start, 5 * SLOW)
        with tempfile.TemporaryDirectory() as outside:
            fifo = outside + "/fifo"
            os.mkfifo(fifo)
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            self.run_audit(lambda f: fifo, 10, '{"a":1}', after)
            os.close(reader)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
