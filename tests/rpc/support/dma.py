# SPDX-License-Identifier: Apache-2.0
"""
DMA of a real device in place of the DeviceDma of simulated ones: QEMU's "edu" (edu.py), driven
by the tenant itself through the fd that GetDeviceFd gives it.

The device tells nothing, so what it did is found out from memory:
  - A write: every byte of every memory of the test is set to a mark that the data has not, and
    looked at afterwards.  What is no mark was written; the rest gets its old bytes back.  So a
    write that is called blocked reached no memory of any tenant of the test.
  - A read: the device moves what it read into a scratch page, and the tenant looks there.  The
    scratch page is mapped into the same address space for just that time, at its far end, and
    charged for just that time.  To tell zeros that were read from a read that was refused
    (zeros, too), the test's memories are marked as well.
  - Without an attachment there is no way to look into the device's buffer: then a write is
    tried in the place of a read.

One call opens the device, uses and closes it: while a tenant has a device open, it cannot go
to another one.  A move takes 100 ms; of long reads four pieces are compared.
"""
from . import edu, fdpass

PAGE = 4096
SAMPLES = 4


class Untold:
    """A fault that a device cannot tell of: only that there was one is known."""

    def __getattr__(self, name):
        raise AssertionError("an edu is not told the %s of a fault: ask case.told" % name)


class Outcome:
    """As much of a DeviceDmaResponse as can be known."""

    def __init__(self, done, length, data=b""):
        self.done, self.data, self.blocked = done, data, done < length
        self.fault = Untold()

    def HasField(self, name):
        assert name == "fault"
        return self.blocked


class EduDma:
    """Of one test: its devices' DMA, and the memories that it could reach."""

    def __init__(self, case):
        self.case = case
        self.memories = []  # (actor, fd)

    # -- the device

    def _device(self, conn, device, scope):
        ticket = conn.GetDeviceFd(device=device, **scope).ticket
        status, fds = conn.actor.exchange(conn.path, fdpass.request(fdpass.TAKE, ticket))
        if status != fdpass.OK or len(fds) != 1:
            raise AssertionError("TAKE of %s: status %s, %d fds" % (device, status, len(fds)))
        return fds[0]

    def _attached(self, conn, device, scope):
        """The id of the space that the device is attached to, or None."""
        for x in conn.ListAttachments(page_size=1024, **scope).attachments:
            if x.device == device and not x.HasField("pasid"):
                return x.ioasid
        return None

    # -- marks

    def _mark(self, mark):
        self._marked = [(actor, fd) for actor, fd in self.memories
                        if actor.pid and actor.mark(fd, mark)]

    def _unmark(self, keep):
        """[(offset, bytes)] of what is no mark in any memory."""
        return [run for actor, fd in self._marked for run in actor.unmark(fd, keep)]

    # -- moves

    def write(self, conn, device, iova, data, **scope):
        """Each piece in its turn, up to the first that is refused."""
        with self._Session(self, conn, device, iova, len(data), scope) as session:
            done = 0
            if session.scratch is None:
                # Of what is in the buffer nothing is known: one of two marks is not in it.
                done = max(session.write(iova, data, m) for m in (0x69, 0x96))
                return Outcome(done, len(data))
            while done < len(data):
                piece = data[done:done + edu.MOST]
                n = session.write(iova + done, piece)
                done += n
                if n < len(piece):
                    break
        return Outcome(done, len(data))

    def read(self, conn, device, iova, length, **scope):
        if self._attached(conn, device, scope) is None:
            return self.write(conn, device, iova, bytes(min(length, edu.FAULT_MOST)), **scope)
        with self._Session(self, conn, device, iova, length, scope) as session:
            done, data = 0, b""
            while done < length:
                n = min(edu.MOST, length - done)
                reached = session.reached(iova + done, n)
                data += session.read(iova + done, reached) if reached else b""
                done += reached
                if reached < n:
                    break
        return Outcome(done, length, data)

    def differs(self, conn, device, iova, expected, **scope):
        """Why the device does not read these bytes there, or None."""
        places = range(0, len(expected), edu.MOST)
        if len(places) > SAMPLES:
            places = [places[i * (len(places) - 1) // (SAMPLES - 1)] for i in range(SAMPLES)]
        with self._Session(self, conn, device, iova, len(expected), scope) as session:
            for at in places:
                piece = expected[at:at + edu.MOST]
                got = session.read(iova + at, len(piece))
                if got != piece:
                    first = next(i for i in range(len(piece)) if got[i] != piece[i])
                    return "at %#x: %s, not %s" % (iova + at + first,
                                                   got[first:first + 8].hex(),
                                                   piece[first:first + 8].hex())
                if not any(piece) and session.reached(iova + at, len(piece)) < len(piece):
                    return "at %#x: blocked" % (iova + at)
        return None

    def copy(self, conn, device, source, target, length, **scope):
        """From one address to another, without a scratch page and with no look at memory."""
        fd = self._device(conn, device, scope)
        try:
            conn.actor.edu_moves(fd, [("load", source, length), ("store", target, length)])
        finally:
            conn.actor.drop_fd(fd)

    class _Session:
        """The device opened, and a scratch page where it is attached."""

        def __init__(self, dma, conn, device, iova, length, scope):
            self.dma, self.conn, self.device, self.scope = dma, conn, device, scope
            self.span = iova, iova + length
            self.scratch = None

        def __enter__(self):
            self.fd = self.dma._device(self.conn, self.device, self.scope)
            self.ioasid = self.dma._attached(self.conn, self.device, self.scope)
            if self.ioasid is not None:
                try:
                    self._map_scratch()
                except BaseException:
                    self.conn.actor.drop_fd(self.fd)
                    raise
            return self

        def _map_scratch(self):
            conn, case = self.conn, self.dma.case
            self.page = conn.actor.scratch()
            self.memory = conn.RegisterMemory(
                ticket=case.given(conn, self.page, **self.scope), read=True, write=True,
                **self.scope).memory
            valid = conn.GetIoasid(ioasid=self.ioasid, **self.scope).ioasid.choice.valid
            taken = [(i, i + n) for i, n in case.mappings(conn, self.ioasid, **self.scope)]
            taken.append(self.span)
            at = valid[-1].last + 1 - PAGE
            while any(first < at + PAGE and at < end for first, end in taken):
                at -= PAGE
            conn.Map(ioasid=self.ioasid, entries=[case.entry(at, self.memory)], **self.scope)
            self.scratch = at

        def __exit__(self, *error):
            if self.scratch is not None:
                self.conn.Unmap(ioasid=self.ioasid, **self.scope,
                                ranges=[{"iova": self.scratch, "length": PAGE}])
                self.conn.UnregisterMemory(memory=self.memory, **self.scope)
            self.conn.actor.drop_fd(self.fd)

        def _moves(self, *moves):
            self.conn.actor.edu_moves(self.fd, list(moves))

        def write(self, iova, data, mark=None):
            """How many bytes of it arrived; where it is not attached, of what is in the buffer."""
            moves = [("store", iova, len(data))]
            if self.scratch is not None:
                self.conn.actor.pwrite(self.page, data, 0)
                moves.insert(0, ("load", self.scratch, len(data)))
            mark = mark or next((m for m in (0xa5, 0x5a, *range(1, 256)) if m not in data), None)
            if mark is None:
                raise AssertionError("data with every byte there is cannot be told from a mark")
            self.dma._mark(mark)
            try:
                self._moves(*moves)
            finally:
                changed = self.dma._unmark(keep=self.scratch is not None)
            got = sum(len(run) for _, run in changed)
            if self.scratch is not None and sorted(b"".join(r for _, r in changed)) != \
                    sorted(data[:got]):
                raise AssertionError("the device wrote other bytes: %r" % changed)
            return got

        def read(self, iova, length):
            """What the device reads there: zeros where it is refused."""
            self.conn.actor.pwrite(self.page, b"\x33" * length, 0)
            self._moves(("load", iova, length), ("store", self.scratch, length))
            return self.conn.actor.pread(self.page, length, 0)

        def reached(self, iova, length):
            """How many bytes from there on the device may read, of memories of the test."""
            self.dma._mark(0xa5)
            try:
                got = self.read(iova, length)
            finally:
                self.dma._unmark(keep=False)
            reached = len(got) - len(got.lstrip(b"\xa5"))
            if got[reached:].strip(b"\0"):
                raise AssertionError("the device read bytes that are of no memory of the test: %s"
                                     % got[reached:reached + 16].hex())
            return reached
