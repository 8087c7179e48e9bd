# SPDX-License-Identifier: Apache-2.0
"""
Page tables as a tenant writes them: into its own memory, by the manuals, in a few lines that
share nothing with the server's walkers.

Intel SDM vol 3, 4.5: an entry has P (bit 0), R/W (1), U/S (2), A (5), D (6), PS (7) for large
pages, the address in 51:12, XD (63).  VT-d spec 9.8 (second stage): R (0), W (1), PS (7).
VT-d spec 9.4-9.6: a PASID directory entry is P (0) and the address of a table of 64 entries of
64 bytes; there P (0), PGTT in 8:6, FSPM in 131:130 of the entry, FSPTPTR in 191:140.
"""
import struct

PAGE = 4096
P, RW, US, A, D, PS, XD = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
SS_R, SS_W = 1, 2
ADDRESS = 0x000F_FFFF_FFFF_F000


class Tables:
    """Writes tables into pages of a memory that lies at address `base` of the parent."""

    table_bits, page_bits, large = P | RW | US, P | US, PS

    def __init__(self, memory, pages, base=0, levels=4):
        self.memory, self.base, self.levels = memory, base, levels
        self.free = list(pages)
        self.root = self.page()

    def page(self):
        """A page of zeros for a table; its address in the parent."""
        n = self.free.pop(0)
        self.memory.write(bytes(PAGE), n * PAGE)
        return self.base + n * PAGE

    def read(self, address):
        return struct.unpack("<Q", self.memory.read(8, address - self.base))[0]

    def write(self, address, value):
        self.memory.write(struct.pack("<Q", value), address - self.base)

    def slot(self, va, level, make=True):
        """Where the entry of this level for va lies; tables above are made."""
        table = self.root
        for at in range(self.levels, level, -1):
            where = table + (va >> (12 + 9 * (at - 1)) & 511) * 8
            entry = self.read(where)
            if not entry:
                if not make:
                    raise KeyError(hex(va))
                entry = self.page() | self.table_bits
                self.write(where, entry)
            table = entry & ADDRESS
        return table + (va >> (12 + 9 * (level - 1)) & 511) * 8

    def leaf(self, write):
        return self.page_bits | (RW if write else 0)

    def map(self, va, address, level=1, write=True, extra=0):
        where = self.slot(va, level)
        self.write(where, address | self.leaf(write) | (self.large if level > 1 else 0) | extra)
        return where

    def unmap(self, va, level=1):
        self.write(self.slot(va, level, make=False), 0)


class SecondStage(Tables):
    table_bits, page_bits = SS_R | SS_W, SS_R

    def leaf(self, write):
        return SS_R | (SS_W if write else 0)


class PasidTable:
    """VT-d scalable mode: a directory of tables of 64 entries."""

    def __init__(self, tables):
        self.tables, self.root = tables, tables.page()

    def set(self, pasid, root, levels=4, pgtt=1):
        where = self.root + (pasid >> 6) * 8
        entry = self.tables.read(where)
        if not entry:
            entry = self.tables.page() | P
            self.tables.write(where, entry)
        at = (entry & ADDRESS) + (pasid & 63) * 64
        # Present last, as the specification asks of software.
        self.tables.write(at + 16, root | (levels == 5) << 2)
        self.tables.write(at, P | pgtt << 6)
        return at

    def clear(self, pasid):
        entry = self.tables.read(self.root + (pasid >> 6) * 8)
        self.tables.write((entry & ADDRESS) + (pasid & 63) * 64, 0)
