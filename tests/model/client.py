# SPDX-License-Identifier: Apache-2.0
"""The model test's way to a broker: connections, calls in flight, fds, decoded refusals.

A connection speaks as the uid it was made for: the kernel notes the effective uid at
connect(), so the effective uid is switched for just that moment.  A channel that has to
connect again later would do so as root and be refused: a lost connection never heals
silently.  Nothing here knows what an answer should be.

Used from one thread; the only other threads are gRPC's own.
"""

import contextlib
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import time

import grpc

import ioasid_pb2 as pb
import rpc_status_pb2 as rs

BROKER = "/ioasid.v1.Broker/"
ADMIN = "/ioasid.v1.Admin/"
PAGE = 4096
# Methods that answer in a stream, and of what.
STREAMS = {"ReadDirtyBitmap": "ReadDirtyBitmapResponse", "WatchFaults": "FaultEvent"}

F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2


@contextlib.contextmanager
def effective_uid(uid):
    """Everything that connects inside does so as uid."""
    before = os.geteuid()
    if uid != before:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid != before:
            os.seteuid(before)


class Answer:
    """What a call came to: a response, or a refusal with its decoded details."""

    __slots__ = ("code", "reason", "message", "metadata", "violations", "response")

    def __init__(self, code, reason="", message="", metadata=None, violations=(), response=None):
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = metadata or {}
        self.violations = violations
        self.response = response

    @property
    def outcome(self):
        return "OK" if self.code == "OK" else f"{self.code}/{self.reason}"

    def __str__(self):
        if self.code == "OK":
            return "OK {" + " ".join(str(self.response).split())[:600] + "}"
        details = f" {self.metadata}" if self.metadata else ""
        return f"{self.outcome}: {self.message}{details}"


def _decode_error(error):
    code = error.code().name
    reason, metadata, violations = "", {}, []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in rs.Status.FromString(value).details:
            kind = detail.type_url.rsplit("/", 1)[-1]
            if kind == "google.rpc.ErrorInfo":
                info = rs.ErrorInfo.FromString(detail.value)
                reason = info.reason
                metadata = {e.key: e.value for e in info.metadata}
            elif kind == "google.rpc.QuotaFailure":
                for v in rs.QuotaFailure.FromString(detail.value).violations:
                    violations.append((v.subject, v.description))
            elif kind == "google.rpc.BadRequest":
                for v in rs.BadRequest.FromString(detail.value).field_violations:
                    violations.append((v.field, v.description))
    return Answer(code, reason, error.details() or "", metadata, violations)


class Stream:
    """An answer that comes in parts."""

    def __init__(self, call):
        self.call = call


class Connection:
    """One connection, and so one connection lease."""

    def __init__(self, path, uid, timeout=20):
        self.path = path
        self.uid = uid
        self.timeout = timeout
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", 16 << 20),
            ("grpc.max_send_message_length", 16 << 20),
        ]
        self.channel = grpc.insecure_channel("unix:" + path, options=options)
        self._methods = {}
        with effective_uid(uid):
            grpc.channel_ready_future(self.channel).result(timeout)

    def start(self, method, request):
        """Puts a call in flight; finish() waits for its answer."""
        if method in STREAMS:
            return self.stream(method, request)
        call = self._methods.get(method)
        if call is None:
            path = (ADMIN if method.startswith("Admin.") else BROKER) + method.rsplit(".", 1)[-1]
            response = getattr(pb, method.rsplit(".", 1)[-1] + "Response")
            call = self.channel.unary_unary(
                path,
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=response.FromString,
            )
            self._methods[method] = call
        return call.future(request, timeout=self.timeout)

    def stream(self, method, request, timeout=None):
        """A call whose answer is a stream, in flight: finish() waits for the whole of it."""
        call = self._methods.get(method)
        if call is None:
            call = self._methods[method] = self.channel.unary_stream(
                BROKER + method,
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=getattr(pb, STREAMS[method]).FromString,
            )
        return Stream(call(request, timeout=timeout or self.timeout))

    @staticmethod
    def finish(future):
        try:
            if isinstance(future, Stream):
                return Answer("OK", response=list(future.call))
            return Answer("OK", response=future.result())
        except grpc.FutureCancelledError:
            return Answer("CANCELLED", "(local)")
        except grpc.RpcError as error:
            return _decode_error(error)

    def call(self, method, request):
        return self.finish(self.start(method, request))

    def give(self, ticket, fd):
        """GIVE of docs/fd-protocol.md; returns the wire status."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(self.timeout)
            with effective_uid(self.uid):
                s.connect(self.path)
            request = struct.pack("<4sBBH16sQ", b"IOFD", 1, 1, 0, ticket, 0)
            socket.send_fds(s, [request], [fd])
            reply = b""
            while len(reply) < 16:
                part = s.recv(16 - len(reply))
                if not part:
                    break
                reply += part
        if len(reply) != 16 or reply[:5] != b"IOFD\x01" or reply[6:] != bytes(10):
            raise RuntimeError(f"not a reply of the fd protocol: {reply!r}")
        return reply[5]

    def take(self, ticket):
        """TAKE of docs/fd-protocol.md; returns the fd."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(self.timeout)
            with effective_uid(self.uid):
                s.connect(self.path)
            s.sendall(struct.pack("<4sBBH16sQ", b"IOFD", 1, 2, 0, ticket, 0))
            reply, fds, _, _ = socket.recv_fds(s, 16, 1)
        if len(reply) != 16 or reply[5] != 0 or len(fds) != 1:
            raise RuntimeError(f"TAKE: {reply!r}, {len(fds)} fds")
        return fds[0]

    def close(self):
        self.channel.close()


A_D_BITS = (0x60, 0x07)  # of the first two bytes of a word: x86-64 A, D and EA; second stage A, D


DIRTY_BITS = (0x40, 0x02)  # of these the dirty ones; which of them is the format's affair


class File:
    """A sealed memfd and the bytes it should hold.

    Walkers set accessed and dirty bits in words of tables that lie here.  Such a word is loose: in
    those bits it may be either (same()).  history: what words that a walk came by held before."""

    def __init__(self, label, n_pages, content):
        self.label = label
        self.length = n_pages * PAGE
        self.fd = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.length)
        self.view = mmap.mmap(self.fd, self.length)
        self.view[:] = content
        self.mirror = bytearray(content)
        self.loose = set()  # offsets of words
        self.walked = {}  # offset of a word -> spaces whose walks came by since it was written
        self.history = {}  # offset of a word -> [(when it went, what it was, the spaces)]
        self.dirtied = {}  # offset of a word -> spaces whose devices' writes set its dirty bit for certain
        self.undirtied = {}  # offset of a word -> when the broker took the bit out
        fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_SHRINK)

    def word(self, offset):
        return int.from_bytes(self.mirror[offset : offset + 8], "little")

    def cpu_write(self, offset, data, now):
        """What the tenant's CPU would do."""
        self.written(offset, data, now)
        self.view[offset : offset + len(data)] = data
        # What is left of the words at both ends is what is there.
        for word in {offset & ~7, (offset + len(data) - 1) & ~7} & self.loose:
            self.mirror[word : word + 8] = self.view[word : word + 8]
        self.loose.difference_update(range(offset & ~7, offset + len(data), 8))

    def written(self, offset, data, now):
        """Somebody wrote that at time now."""
        if self.walked:
            for word in range(offset & ~7, offset + len(data), 8):
                spaces = self.walked.pop(word, None)
                if spaces:
                    self.history.setdefault(word, []).append((now, self.word(word), frozenset(spaces)))
        if self.dirtied:
            for word in range(offset & ~7, offset + len(data), 8):
                self.dirtied.pop(word, None)
        self.mirror[offset : offset + len(data)] = data

    def cleaned(self, offset, bit, now):
        """The broker took a dirty bit out of a word."""
        self.dirtied.pop(offset, None)
        self.undirtied[offset] = now
        self.mirror[offset : offset + 8] = (self.word(offset) & ~bit).to_bytes(8, "little")

    def not_dirtied(self):
        """Offset of a word that lacks a bit that it should have, or None."""
        for offset in self.dirtied:
            if not any(self.view[offset + at] & mask for at, mask in enumerate(DIRTY_BITS)):
                return offset
        return None

    def bits_unknown(self):
        """Somebody may have set or taken out accessed and dirty bits, at rest."""
        self.dirtied.clear()
        if self.mirror == self.view[:]:
            return
        for offset in range(0, self.length, 8):
            if self.mirror[offset : offset + 8] != self.view[offset : offset + 8]:
                self.loose.add(offset)

    def bits_taken(self, now):
        """Dirty bits of any words here may have been taken out."""
        self.dirtied.clear()
        for offset in range(0, self.length, 8):
            self.undirtied[offset] = now
            self.loose.add(offset)

    def same(self, offset, seen):
        """Are these the bytes that should be there?"""
        return self._first_wrong(offset, seen) is None

    def holds(self, offset, data):
        """Is that there now?"""
        return self.view[offset : offset + len(data)] == data

    def _first_wrong(self, offset, seen):
        expected = self.mirror[offset : offset + len(seen)]
        if expected == seen or len(expected) != len(seen):
            return None if expected == seen else offset + len(expected)
        now = bytearray(seen)
        first = offset & ~7
        end = offset + len(seen)
        words = self.loose if len(self.loose) < len(seen) // 8 else range(first, end, 8)
        for word in words:
            if first <= word < end and word in self.loose:
                for at, mask in enumerate(A_D_BITS, word - offset):
                    if 0 <= at < len(seen):
                        now[at] = (now[at] & ~mask) | (expected[at] & mask)
        if now == expected:
            return None
        return offset + next(i for i in range(len(seen)) if now[i] != expected[i])

    def difference(self):
        """Offset of the first byte that is not as it should be; None: all are."""
        return self._first_wrong(0, self.view[:])

    def settle(self, oldest):
        """At rest and as it should be: bits are what they are; what went before `oldest` nobody knows."""
        for word in self.loose:
            self.mirror[word : word + 8] = self.view[word : word + 8]
        self.loose.clear()
        self.undirtied = {word: when for word, when in self.undirtied.items() if when > oldest}
        for word, entries in list(self.history.items()):
            kept = [e for e in entries if e[0] > oldest]
            if kept:
                self.history[word] = kept
            else:
                del self.history[word]

    def close(self):
        self.view.close()
        os.close(self.fd)


class Server:
    """An ioasidd of our own in a folder of our own."""

    def __init__(self, binary, folder, arguments, sockets):
        self.log_path = os.path.join(folder, "ioasidd.log")
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [binary, *arguments], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        deadline = time.monotonic() + 30
        while not all(os.path.exists(s) for s in sockets):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ioasidd did not start: {self.tail()}")
            time.sleep(0.02)

    def tail(self, n=30):
        self.log.flush()
        with open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-n:])

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        """SIGTERM and wait; returns the exit status."""
        if self.alive():
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            self.log.close()
