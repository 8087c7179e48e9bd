# SPDX-License-Identifier: Apache-2.0
"""A client of docs/fd-protocol.md, written from the document alone."""
import array
import fcntl
import os
import socket
import struct

MAGIC = b"IOFD"
GIVE, TAKE = 1, 2
OK, MALFORMED, REFUSED, UNSUITABLE, BUSY, UNAVAILABLE = range(6)

F_ADD_SEALS = 1033
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE = 1, 2, 4, 8
SEAL_FUTURE_WRITE = 16


def request(op, ticket, magic=MAGIC, version=1, flags=0, reserved=0):
    return struct.pack("<4sBBH16sQ", magic, version, op, flags, ticket, reserved)


def exchange(path, message, fds=(), timeout=10.0):
    """Sends message (fds with its first byte); returns (status or None if the peer closed
    without an answer, fds that came back)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        s.connect(path)
        try:
            if fds:
                s.sendmsg([message],
                          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            else:
                s.sendall(message)
        except BrokenPipeError:
            pass
        data, got = b"", []
        while len(data) < 16:
            try:
                part, ancillary, _, _ = s.recvmsg(16 - len(data), socket.CMSG_SPACE(4 * 4),
                                                  socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                return None, got
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    a = array.array("i")
                    a.frombytes(payload[:len(payload) - len(payload) % a.itemsize])
                    got += list(a)
            if not part:
                return None, got
            data += part
        magic, version, status, flags, reserved = struct.unpack("<4sBBHQ", data)
        if (magic, version, flags, reserved) != (MAGIC, 1, 0, 0):
            raise AssertionError("bad reply %r" % data)
        if s.recv(1):
            raise AssertionError("bytes after the reply")
        return status, got


def memfd(size, seals=SEAL_SHRINK, holes=(), fill=b"\0", read_only=False, write_only=False):
    """A memfd of size bytes whose pages all exist but for holes [(offset, length)]."""
    fd = os.memfd_create("rpc-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    for start in range(0, size, 1 << 20):
        n = min(1 << 20, size - start)
        os.pwrite(fd, (fill * (n // len(fill) + 1))[:n], start)
    for offset, length in holes:
        punch(fd, offset, length)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    if read_only or write_only:
        again = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY if read_only else os.O_WRONLY)
        os.close(fd)
        fd = again
    return fd


def punch(fd, offset, length):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size_punch = 1 | 2
    if libc.fallocate(fd, keep_size_punch, ctypes.c_long(offset), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")
