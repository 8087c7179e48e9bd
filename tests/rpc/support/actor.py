# SPDX-License-Identifier: Apache-2.0
"""
An actor is a process with a uid of its own: it holds gRPC channels, streams, memfds and raw
sockets, and does what the suite tells it over a pipe.  The broker sees nothing but its
kernel credentials.  The process that runs the suites never starts gRPC itself, so that an
actor is one cheap fork.  Killing an actor is what a crash of a client is.
"""
import grpc
import multiprocessing.connection
import os
import queue
import signal
import socket
import struct
import threading
import traceback

from . import edu, fdpass
from .orphan import die_with_parent

CHANNEL_OPTIONS = [
    # One connection a channel, never shared or made twice.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.default_authority", "localhost"),
]


def _outcome(error):
    """(status name, message, details bytes, None) of a finished call that failed."""
    details = b""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            details = value
    return error.code().name, error.details() or "", details, None


class _Worker:
    """The actor's side.  Each public method is an operation."""

    def __init__(self):
        self.things, self.marked = {}, {}
        self.last = self.page = 0

    def _keep(self, thing):
        self.last += 1
        self.things[self.last] = thing
        return self.last

    # -- gRPC

    def open(self, path, options=()):
        return self._keep(grpc.insecure_channel("unix:" + path, CHANNEL_OPTIONS + list(options)))

    def close(self, channel):
        self.things.pop(channel).close()

    def _future(self, channel, method, data, timeout):
        return self.things[channel].unary_unary(method).future(data, timeout=timeout)

    @staticmethod
    def _gather(future):
        try:
            return "OK", "", b"", future.result()
        except grpc.RpcError:
            return _outcome(future)
        except grpc.FutureCancelledError:
            return "CANCELLED", "", b"", None

    def call(self, channel, method, data, timeout):
        return self._gather(self._future(channel, method, data, timeout))

    def call_messages(self, channel, method, datas, timeout):
        """A unary method called with so many request messages."""
        future = self.things[channel].stream_unary(method).future(iter(datas), timeout=timeout)
        return self._gather(future)

    def call_zeros(self, channel, method, size, timeout):
        """A request of zero bytes, compressed: little on the wire, much for who unpacks it."""
        return self._gather(self.things[channel].unary_unary(method).future(
            bytes(size), timeout=timeout, compression=grpc.Compression.Gzip))

    def call_metadata(self, channel, method, data, metadata, timeout):
        return self._gather(self.things[channel].unary_unary(method).future(
            data, timeout=timeout, metadata=metadata))

    def burst(self, calls, timeout):
        """calls: [(channel, method, data)], all in flight at once."""
        futures = [self._future(c, m, d, timeout) for c, m, d in calls]
        return [self._gather(f) for f in futures]

    def start(self, channel, method, data, timeout):
        return self._keep(self._future(channel, method, data, timeout))

    def wait(self, call):
        return self._gather(self.things.pop(call))

    def cancel(self, call):
        self.things[call].cancel()

    def hammer(self, channel, method, data, count, timeout):
        """count calls one after the other; returns how often each status came."""
        seen = {}
        for _ in range(count):
            code = self.call(channel, method, data, timeout)[0]
            seen[code] = seen.get(code, 0) + 1
        return seen

    # -- streams

    def stream(self, channel, method, data, timeout, read=True):
        call = self.things[channel].unary_stream(method)(data, timeout=timeout)
        messages = queue.Queue()

        def reader():
            try:
                for message in call:
                    messages.put(("OK", "", b"", message))
                messages.put(("END", "", b"", None))
            except grpc.RpcError as e:
                messages.put(_outcome(e))
            except ValueError:  # the channel was closed
                messages.put(("CANCELLED", "", b"", None))

        if read:
            threading.Thread(target=reader, daemon=True).start()
        return self._keep((call, messages, reader))

    def stream_read(self, stream):
        """Begins to read a stream that was opened with read=False."""
        threading.Thread(target=self.things[stream][2], daemon=True).start()

    def stream_next(self, stream, timeout):
        try:
            return self.things[stream][1].get(timeout=timeout)
        except queue.Empty:
            return None

    def stream_cancel(self, stream):
        self.things[stream][0].cancel()

    def bidi(self, channel, method, datas, timeout):
        try:
            replies = list(self.things[channel].stream_stream(method)(iter(datas), timeout=timeout))
            return ("OK", "", b"", None), replies
        except grpc.RpcError as e:
            return _outcome(e), []

    # -- fds

    def memfd(self, **kwargs):
        return self._keep(fdpass.memfd(**kwargs))

    def open_file(self, path):
        return self._keep(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def pidfd(self):
        return self._keep(os.pidfd_open(os.getpid()))

    def drop_fd(self, fd):
        os.close(self.things.pop(fd))

    def pread(self, fd, length, offset):
        return os.pread(self.things[fd], length, offset)

    def pwrite(self, fd, data, offset):
        return os.pwrite(self.things[fd], data, offset)

    def punch(self, fd, offset, length):
        fdpass.punch(self.things[fd], offset, length)

    # -- a real device's DMA, and what it leaves in memory: see dma.py

    def edu_moves(self, fd, moves):
        """[("load" or "store", iova, length)]"""
        device = edu.Edu(self.things[fd])
        try:
            for what, iova, length in moves:
                getattr(device, what)(iova, length)
        finally:
            device.close()

    def scratch(self):
        """The actor's page for such moves."""
        if not self.page:
            self.page = self.memfd(size=4096)
        return self.page

    def mark(self, fd, mark):
        """Every byte of a memfd; False where that cannot be done, for seals or its mode."""
        size = os.fstat(self.things[fd]).st_size
        try:
            before = os.pread(self.things[fd], size, 0)
            os.pwrite(self.things[fd], bytes([mark]) * size, 0)
        except OSError:
            return False
        self.marked[fd] = mark, before
        return True

    def unmark(self, fd, keep):
        """[(offset, bytes)] that are no mark now; those stay if keep, all else is as before."""
        mark, before = self.marked.pop(fd)
        now = os.pread(self.things[fd], len(before), 0)
        runs, at = [], 0
        if now.count(mark) < len(now):
            while at < len(now):
                rest = now[at:at + 65536].lstrip(bytes([mark]))
                if not rest:
                    at += 65536
                    continue
                at += len(now[at:at + 65536]) - len(rest)
                run = now[at:].split(bytes([mark]), 1)[0]
                runs.append((at, run))
                at += len(run)
        os.pwrite(self.things[fd], before, 0)
        for offset, run in runs if keep else ():
            os.pwrite(self.things[fd], run, offset)
        return runs

    def exchange(self, path, message, fds=(), timeout=10.0):
        status, got = fdpass.exchange(path, message, [self.things[f] for f in fds], timeout)
        return status, [self._keep(f) for f in got]

    # -- the process's end of a DMA service (docs/process.md), spoken by hand

    def service(self, fd):
        s = socket.socket(fileno=self.things.pop(fd))
        return self._keep(s)

    def service_receive(self, service, timeout):
        """The next message; None: none in time; b"": the broker has closed it."""
        s = self.things[service]
        s.settimeout(timeout)
        try:
            return s.recv(1 << 20)
        except socket.timeout:
            return None
        except ConnectionError:
            return b""

    def service_send(self, service, data):
        try:
            self.things[service].send(data)
            return True
        except OSError:
            return False

    def service_close(self, service):
        self.things.pop(service).close()

    def service_serve(self, service, base, data, writable):
        """Answers from a thread: [base, base + len(data)) is there; writable bytes of it."""
        s, memory = self.things[service], bytearray(data)
        s.settimeout(None)

        def serve():
            while True:
                try:
                    message = s.recv(1 << 20)
                except OSError:
                    return
                if not message:
                    return
                number, op, length, address = struct.unpack_from("<QIIQ", message)
                at = address - base
                limit = writable if op == 2 else len(memory)
                done = max(0, min(length, limit - at)) if 0 <= at else 0
                cause = 0 if done == length else 2 if 0 <= at + done < len(memory) else 1
                if op == 2:
                    memory[at:at + done] = message[24:24 + done]
                part = bytes(memory[at:at + done]) if op == 1 else b""
                try:
                    s.send(struct.pack("<QII", number, done, cause) + part)
                except OSError:
                    return
        threading.Thread(target=serve, daemon=True).start()
        return self._keep(memory)

    def served(self, memory, at, length):
        return bytes(self.things[memory][at:at + length])

    # -- raw sockets

    def raw(self, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect(path)
        return self._keep(s)

    def raws(self, path, count):
        """As many connections as come about, at most count."""
        made = []
        for _ in range(count):
            try:
                made.append(self.raw(path))
            except OSError:
                break
        return made

    def raw_send(self, raw, data):
        try:
            self.things[raw].sendall(data)
            return True
        except OSError:
            return False

    def raw_closed(self, raw, timeout):
        """Reads until the peer closes; False: it did not within timeout."""
        s = self.things[raw]
        s.settimeout(timeout)
        try:
            while s.recv(65536):
                pass
            return True
        except ConnectionError:
            return True
        except socket.timeout:
            return False

    def raw_close(self, raw):
        self.things.pop(raw).close()


def _main(pipe, uid, gid):
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _Worker()
    while True:
        try:
            name, args, kwargs = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            reply = (True, getattr(worker, name)(*args, **kwargs))
        except Exception:  # the suite gets to see it
            reply = (False, traceback.format_exc())
        pipe.send(reply)


class Actor:
    """The suite's side: actor.OPERATION(...) does it there and returns its result."""

    def __init__(self, uid, gid=None):
        self.uid = uid
        self.pipe, theirs = multiprocessing.connection.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # Pipes of other actors: their ends must close when the suite's do.
                keep = theirs.fileno()
                os.closerange(3, keep)
                os.closerange(keep + 1, 4096)
                _main(theirs, uid, uid if gid is None else gid)
            finally:
                os._exit(1)
        theirs.close()

    def post(self, name, *args, **kwargs):
        """Begins an operation; collect() its result.  Lets several actors work at once."""
        self.pipe.send((name, args, kwargs))

    def collect(self):
        good, value = self.pipe.recv()
        if not good:
            raise RuntimeError("actor (uid %d) failed:\n%s" % (self.uid, value))
        return value

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def operation(*args, **kwargs):
            self.post(name, *args, **kwargs)
            return self.collect()
        return operation

    def kill(self):
        """SIGKILL, as a crash."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.pipe.close()
