# SPDX-License-Identifier: Apache-2.0
"""
A process that has given a device its own address space through libioasid: tests/rpc/process.c,
which does what it is told.
"""
import os
import select
import subprocess
import time

PAGE = 4096
PAGES = 8
SIZE = PAGES * PAGE
# What its memory begins with.
PATTERN = bytes((i * 7 + i // PAGE) & 255 for i in range(SIZE))


class Process:
    """lease "": its connection's; else a named one, whose secret is then `secret`."""

    def __init__(self, server, uid, device, lease="", slow=1):
        self.slow, self.buffer = slow, b""
        program = os.path.join(server.build, "tests", "ioasid_rpc_process")
        # The folder of the build may be closed to others: it starts as root.
        self.process = subprocess.Popen(
            [program, str(uid), lease, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"IOASID_SOCKET": server.socket("tenants"), "LANG": "C.UTF-8",
                 **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}})
        try:
            words = self.answer()
            self.address, self.secret = int(words[0]), bytes.fromhex(words[1])
        except BaseException:
            self.kill()
            raise

    def say(self, *words):
        self.process.stdin.write((" ".join(str(w) for w in words) + "\n").encode())
        self.process.stdin.flush()

    def answer(self, timeout=30):
        """The words of the next line; AssertionError: it did not come, or says "error"."""
        end = time.monotonic() + timeout * self.slow
        fd = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
            data = os.read(fd, 1 << 20) if ready else b""
            if not data:
                raise AssertionError("no answer" if not ready else "the process ended")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        words = line.decode().split()
        if words[:1] == ["error"]:
            raise AssertionError("the process says: " + line.decode())
        return words

    def ask(self, *words):
        self.say(*words)
        return self.answer()

    def must(self, *words):
        answer = self.ask(*words)
        if answer != ["ok"]:
            raise AssertionError("%s: %s" % (" ".join(map(str, words)), " ".join(answer)))

    @staticmethod
    def moved(words):
        """(cause, bytes that moved, their content) of an answer to read or write."""
        return int(words[0]), int(words[1]), bytes.fromhex(words[2] if words[2:] else "")

    def read(self, offset, length):
        return self.moved(self.ask("read", offset, length))

    def write(self, offset, data):
        return self.moved(self.ask("write", offset, data.hex()))[:2]

    def peek(self, offset, length):
        return bytes.fromhex(self.ask("peek", offset, length)[0])

    def service(self):
        """(is the service running, restarts of the broker that were noticed)"""
        running, restarts = self.ask("service")
        return running == "1", int(restarts)

    def effective_uid(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(next(line for line in f if line.startswith("Uid:")).split()[2])

    def exits(self, timeout=10):
        """Waits for its end; the exit status."""
        return self.process.wait(timeout * self.slow)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
