# SPDX-License-Identifier: Apache-2.0
"""
Registers by QEMU's gdb stub, which has those that the monitor does not show (TTBR0_EL1, ...) and
lets the privilege of the stopped processor be set.  Nothing else of the protocol is spoken.
"""
import re
import socket


class Registers:
    def __init__(self, path, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""
        self._ask("qSupported:xmlRegisters=i386;qXfer:features:read+")
        self.numbers, self.sizes = {}, {}
        self._describe("target.xml", [0])

    def _byte(self):
        if not self.buffer:
            self.buffer = self.socket.recv(65536)
            if not self.buffer:
                raise OSError("QEMU closed its gdb stub")
        byte, self.buffer = self.buffer[:1], self.buffer[1:]
        return byte

    def _ask(self, text):
        data = text.encode("latin-1")
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) % 256))
        while self._byte() != b"$":
            pass
        answer = bytearray()
        while (byte := self._byte()) != b"#":
            answer += bytes([self._byte()[0] ^ 0x20]) if byte == b"}" else byte
        self._byte()
        self._byte()
        self.socket.sendall(b"+")
        return answer.decode("latin-1")

    def _describe(self, name, following):
        """Reads the target description; a register without a number follows the one before."""
        text, part = "", "m"
        while part[0] == "m":
            part = self._ask(f"qXfer:features:read:{name}:{len(text):x},800")
            text += part[1:]
        for match in re.finditer(r"<(xi:include|reg)\s([^>]*)>", text):
            attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', match.group(2)))
            if match.group(1) == "xi:include":
                self._describe(attributes["href"], following)
                continue
            number = int(attributes.get("regnum", following[0]))
            following[0] = number + 1
            self.numbers.setdefault(attributes["name"], number)
            self.sizes[attributes["name"]] = int(attributes["bitsize"]) // 8

    def read(self, name):
        answer = self._ask(f"p{self.numbers[name]:x}")
        if answer.startswith("E") or not answer:
            raise OSError(f"register {name}: {answer}")
        return int.from_bytes(bytes.fromhex(answer), "little")

    def write(self, name, value):
        data = value.to_bytes(self.sizes[name], "little").hex()
        if self._ask(f"P{self.numbers[name]:x}={data}") != "OK":
            raise OSError(f"register {name} cannot be set")

    def close(self):
        self.socket.close()
