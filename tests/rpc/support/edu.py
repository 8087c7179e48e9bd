# SPDX-License-Identifier: Apache-2.0
"""
QEMU's "edu" through the fd of its VFIO device, as tests/guest/edu.h: a device that moves bytes
between an I/O virtual address and a buffer of its own.  Runs in an actor.

The buffer cannot be looked at but by moving it on, and the device never tells whether the
IOMMU let a move through: dma.py finds that out from memory.
"""
import fcntl
import mmap
import os
import struct
import time

MOST = 2048  # bytes in one move
# What QEMU refuses of a move it refuses by 4 bytes, each a fault in the kernel's log.
FAULT_MOST = 64

_GET_REGION_INFO = 0x3b6c
_BAR0, _CONFIG = 0, 7
_BUFFER = 0x40000
_SOURCE, _TARGET, _COUNT, _COMMAND = (at // 8 for at in (0x80, 0x88, 0x90, 0x98))
_RUN, _TO_MEMORY = 1, 2


class Edu:
    """Holds no copy of the fd; but its mapping keeps the device open until close()."""

    def __init__(self, fd):
        _, offset = self._region(fd, _CONFIG)
        (command,) = struct.unpack("<H", os.pread(fd, 2, offset + 4))
        os.pwrite(fd, struct.pack("<H", command | 6), offset + 4)  # memory, bus master
        size, offset = self._region(fd, _BAR0)
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE,
                              offset=offset)
        # Registers from 0x80 on take 64 bits in one access, which an element of this is.
        # Those before take 32.
        self._registers = memoryview(self._map).cast("Q")
        with memoryview(self._map).cast("I") as words:
            is_edu = words[0] & 0xffff == 0x00ed
        if not is_edu:
            self.close()
            raise RuntimeError("not an edu")

    @staticmethod
    def _region(fd, index):
        info = bytearray(struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        fcntl.ioctl(fd, _GET_REGION_INFO, info)
        return struct.unpack("<IIIIQQ", info)[4:]

    def close(self):
        self._registers.release()
        self._map.close()

    def _move(self, source, target, length, command):
        assert 0 < length <= MOST
        self._registers[_SOURCE] = source
        self._registers[_TARGET] = target
        self._registers[_COUNT] = length
        self._registers[_COMMAND] = command | _RUN
        end = time.monotonic() + 20
        while self._registers[_COMMAND] & _RUN:
            if time.monotonic() > end:
                raise RuntimeError("the edu does not end its move")
            time.sleep(0.004)

    def load(self, iova, length):
        """A DMA read: memory -> buffer.  What the IOMMU refuses of it becomes zeros."""
        self._move(iova, _BUFFER, length, 0)

    def store(self, iova, length):
        """A DMA write: buffer -> memory."""
        self._move(_BUFFER, iova, length, _TO_MEMORY)
