# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand, for what no gRPC library would do: messages that never end, streams that
are reset as soon as they are opened, answers that nobody reads.  It keeps the protocol's
rules, so that the server has no cause to hang up."""
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


def frame(kind, flags, stream, payload=b""):
    return b"".join((struct.pack(">I", len(payload))[1:], struct.pack(">BBI", kind, flags, stream),
                     payload))


def header(name, value):
    """Literal, never indexed, no Huffman code."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(path):
    return b"".join(header(*h) for h in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()),
        (b":authority", b"x"), (b"te", b"trailers"), (b"content-type", b"application/grpc")))


class RawClient:
    def __init__(self, path, reads=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.reads = reads
        self.out = bytearray(PREFACE + frame(SETTINGS, 0, 0))
        self.incoming = bytearray()
        self.window = self.initial = 65535
        self.windows = {}  # of open streams
        self.pending = {}  # bytes still to be sent on a stream
        self.ended = 0
        self.closed = False
        self.next_stream = 1

    def open(self, path, message=None, announced=None, reset=False):
        """A call.  announced: length that the message claims to have; it then never ends."""
        stream = self.next_stream
        self.next_stream += 2
        self.out += frame(HEADERS, 4, stream, headers(path))
        if reset:
            self.out += frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        elif announced is None:
            self.out += frame(DATA, 1, stream, b"\0" + struct.pack(">I", len(message)) + message)
        else:
            self.out += frame(DATA, 0, stream, b"\0" + struct.pack(">I", announced))
            self.window -= 5
            self.windows[stream] = self.initial - 5
            self.pending[stream] = memoryview(message)
        return stream

    def _received(self, kind, flags, stream, payload):
        if kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE and stream in self.windows:
            self.windows[stream] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & 1:
            for i in range(0, len(payload), 6):
                key, value = struct.unpack_from(">HI", payload, i)
                if key == 4:
                    for s in self.windows:
                        self.windows[s] += value - self.initial
                    self.initial = value
            self.out += frame(SETTINGS, 1, 0)
        elif kind == PING and not flags & 1:
            self.out += frame(PING, 1, 0, payload)
        elif kind in (RST_STREAM, HEADERS) and stream in self.windows:
            del self.windows[stream], self.pending[stream]
            self.ended += 1

    def step(self):
        """Moves bytes both ways; False: nothing moved."""
        moved = False
        try:
            data = self.socket.recv(1 << 20) if self.reads else None
            if data == b"":
                self.closed = True
            elif data:
                moved = True
                self.incoming += data
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        while len(self.incoming) >= 9:
            size = int.from_bytes(self.incoming[:3], "big")
            if len(self.incoming) < 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self.incoming, 3)
            payload = bytes(self.incoming[9:9 + size])
            del self.incoming[:9 + size]
            self._received(kind, flags, stream, payload)
        for stream in list(self.windows):
            n = min(len(self.pending[stream]), self.window, self.windows[stream], 16384)
            if n <= 0 or len(self.out) > 100000:
                continue
            self.out += frame(DATA, 0, stream, self.pending[stream][:n])
            self.pending[stream] = self.pending[stream][n:]
            self.window -= n
            self.windows[stream] -= n
        try:
            if self.out and not self.closed:
                n = self.socket.send(self.out[:65536])
                del self.out[:n]
                moved = moved or n > 0
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return moved

    def close(self):
        self.socket.close()
