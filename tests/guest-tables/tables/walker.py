# SPDX-License-Identifier: Apache-2.0
"""
A small walker for the tables of three architectures and of VT-d, written from the manuals and from nothing of ioasid: it
chooses addresses, tells which table pages they need, and is a second oracle beside QEMU.  It is
slow and has no options.  Levels are numbered from 1, the last table, upwards.

Sources: Intel SDM vol. 3, 4.5; VT-d 9.8; RISC-V privileged, 12.3-12.6, Svnapot, Svpbmt; Arm ARM D8.
"""
import struct
from dataclasses import dataclass, field


@dataclass
class Leaf:
    output: int  # of the address that was asked for
    size: int
    perms: str  # as in translations.tsv
    entry: int
    level: int
    group: bool  # NAPOT or contiguous: part of a group of entries
    start: int  # first address of the page or block
    tables: list = field(default_factory=list)  # (address, bytes) of the pages read


@dataclass
class Fault:
    level: int  # 0: the address itself
    tables: list = field(default_factory=list)
    outside: bool = False  # for want of a table page


class Format:
    """What all have in common.  A subclass says what an entry means."""

    name = ""
    granule = 4096
    signed = True  # bits above the input are copies of the highest one

    def __init__(self, input_bits, shifts):
        self.input_bits = input_bits
        self.shifts = shifts  # of each level, [0] is that of level 1
        self.perm_start = 0

    def levels(self):
        return len(self.shifts)

    def selects(self, address):
        """Whether the processor looks an address up in this table at all."""
        return True

    def index_bits(self, level):
        top = self.input_bits if level == self.levels() else self.shifts[level]
        return top - self.shifts[level - 1]

    def strip(self, address):
        """The bits that index tables, or None for an address outside of the table's reach."""
        high = address >> (self.input_bits - 1)
        if high not in ((0, (1 << (65 - self.input_bits)) - 1) if self.signed else (0, 1)):
            return None
        return address & ((1 << self.input_bits) - 1)

    def full(self, offset):
        """The inverse."""
        if self.signed and offset >> (self.input_bits - 1):
            offset |= -1 << self.input_bits & (1 << 64) - 1
        return offset

    def decode(self, entry, level, inherited):
        """None, ("table", address, inherited) or ("leaf", address, size, perms, group)."""
        raise NotImplementedError

    def table_page(self, table, index):
        at = table + index * 8
        return at & ~(self.granule - 1), at & (self.granule - 1)

    def walk(self, read, root, address):
        offset = self.strip(address)
        if offset is None:
            return Fault(0)
        tables, table, inherited = [], root, self.perm_start
        for level in range(self.levels(), 0, -1):
            shift = self.shifts[level - 1]
            index = offset >> shift & ((1 << self.index_bits(level)) - 1)
            page, at = self.table_page(table, index)
            data = read(page, self.granule)
            if data is None:
                return Fault(level, tables, True)
            tables.append(page)
            entry = struct.unpack_from("<Q", data, at)[0]
            found = self.decode(entry, level, inherited)
            if found is None:
                return Fault(level, tables)
            if found[0] == "table":
                table, inherited = found[1:]
                continue
            _, base, size, perms, group = found
            start = offset & ~(size - 1)
            return Leaf(base + (offset & (size - 1)), size, perms, entry, level, group,
                        self.full(start), tables)
        raise AssertionError("the last level has no tables")

    def leaves(self, read, root):
        """All leaves, (start, size, level, perms, group) with rising offsets."""
        def visit(table, level, offset, inherited):
            shift, bits = self.shifts[level - 1], self.index_bits(level)
            first, at = self.table_page(table, 0)
            data = read(first, self.granule)
            if data is None:
                return
            skip = 0
            for index, (entry,) in enumerate(struct.iter_unpack("<Q", data[at:at + (8 << bits)])):
                if not entry:
                    continue
                found = self.decode(entry, level, inherited)
                here = offset | index << shift
                if found is None or here < skip:
                    continue
                if found[0] == "table":
                    yield from visit(found[1], level - 1, here, found[2])
                    continue
                _, _, size, perms, group = found
                skip = here + size
                yield self.full(here), size, level, perms, group
        yield from visit(root, self.levels(), 0, self.perm_start)


class X86(Format):
    """Tables are ANDed: writable and user; execute is refused by any of them."""

    def __init__(self, levels):
        super().__init__(12 + 9 * levels, [12 + 9 * i for i in range(levels)])
        self.name = f"x86_64-{levels}l"
        self.perm_start = 7  # write 1, user 2, execute 4

    def decode(self, entry, level, inherited):
        if not entry & 1:
            return None
        allowed = inherited & ((entry >> 1 & 3) | (0 if entry >> 63 else 4))
        address = entry & 0x000ffffffffff000
        if level > 1 and not entry & 0x80:
            return "table", address, allowed
        if level > 3:
            return None
        size = 1 << self.shifts[level - 1]
        # Bit 12 of a large page is PAT, the bits above it up to its size are reserved.
        if level > 1 and address & (size - 1) & ~0x1000:
            return None
        perms = "r" + ("w" if allowed & 1 else "-") + ("x" if allowed & 4 else "-") + \
            ("u" if allowed & 2 else "-")
        return "leaf", address & ~(size - 1), size, perms, False


class VtdSecondStage(Format):
    """Addresses are unsigned; present is what may be read or written (VT-d 9.8)."""

    signed = False

    def __init__(self, levels):
        super().__init__(12 + 9 * levels, [12 + 9 * i for i in range(levels)])
        self.name = f"vtdss-{levels}l"
        self.perm_start = 3

    def decode(self, entry, level, inherited):
        if not entry & 3:
            return None
        allowed = inherited & entry
        address = entry & 0x000ffffffffff000
        if level > 1 and not entry & 0x80:
            return "table", address, allowed
        size = 1 << self.shifts[level - 1]
        if level > 3 or address & (size - 1):
            return None
        perms = ("r" if allowed & 1 else "-") + ("w" if allowed & 2 else "-")
        return "leaf", address, size, perms, False


class Riscv(Format):
    """With Svnapot and Svpbmt; the privilege that may read is the leaf's U bit alone."""

    def __init__(self, levels):
        super().__init__(12 + 9 * levels, [12 + 9 * i for i in range(levels)])
        self.name = f"sv{self.input_bits}"

    def decode(self, entry, level, inherited):
        if not entry & 1 or entry & 6 == 4 or entry >> 54 & 0x1f or \
                entry >> 59 & 3 or entry >> 61 & 3 == 3:
            return None
        address = (entry >> 10 & ((1 << 44) - 1)) << 12
        if not entry & 0xe:
            if level == 1 or entry & 0xd0 or entry >> 61:
                return None
            return "table", address, 0
        size, group = 1 << self.shifts[level - 1], bool(entry >> 63)
        if group:
            if level > 1 or address >> 12 & 15 != 8:
                return None
            size, address = 65536, address & ~0xffff
        if address & (size - 1):
            return None
        perms = "".join(c if entry & bit else "-"
                        for c, bit in (("r", 2), ("w", 4), ("x", 8), ("u", 16)))
        return "leaf", address, size, perms, group


class Arm(Format):
    """Stage 1 of EL1&0.  perms: r and w of EL1, x of EL0, u: EL0 may read, P: EL1 may execute."""

    signed = False

    def __init__(self, granule, input_bits, upper, lpa2, tbi):
        self.granule = granule
        self.lpa2, self.upper, self.tbi = lpa2, upper, tbi
        page_bits = granule.bit_length() - 1
        shifts, shift = [], page_bits
        while shift < input_bits:
            shifts.append(shift)
            shift += page_bits - 3
        super().__init__(input_bits, shifts)
        self.name = f"armv8-s1-{granule >> 10}k"
        self.perm_start = 0  # APTable 1 and 2, UXNTable 4, PXNTable 8
        # The highest level with blocks: 1G and 32M, one more with LPA2.
        self.block_level = {4096: 3, 16384: 2}[granule] + (1 if lpa2 else 0)

    def selects(self, address):
        return address >> 55 & 1 == self.upper

    def strip(self, address):
        ones = (1 << 64) - (1 << self.input_bits)
        if self.tbi:
            ones &= (1 << 56) - 1
        if address & ones != (ones if self.upper else 0):
            return None
        return address & ((1 << self.input_bits) - 1)

    def full(self, offset):
        return offset | ((1 << 64) - (1 << self.input_bits) if self.upper else 0)

    def address(self, entry):
        page = self.granule
        if self.lpa2:
            return entry & ((1 << 50) - page) | (entry >> 8 & 3) << 50
        return entry & ((1 << 48) - page)

    def decode(self, entry, level, inherited):
        if not entry & 1:
            return None
        if entry & 2 and level > 1:
            return "table", self.address(entry), inherited | entry >> 61 & 3 | \
                (entry >> 60 & 1) << 2 | (entry >> 59 & 1) << 3
        if level > 1 and level > self.block_level or level == 1 and not entry & 2:
            return None
        size = 1 << self.shifts[level - 1]
        user = entry >> 6 & 1 and not inherited & 1
        write = not (entry >> 7 & 1 or inherited & 2)
        perms = "r" + ("w" if write else "-") + \
            ("-" if entry >> 54 & 1 or inherited & 4 else "x") + ("u" if user else "-") + \
            ("-" if entry >> 53 & 1 or inherited & 8 else "P")
        return "leaf", self.address(entry) & ~(size - 1), size, perms, bool(entry >> 52 & 1)


def by_name(name, args):
    """A format by the name and the options that "ioasidctl walk" has for it."""
    if name.startswith("x86_64-"):
        return X86({"x86_64-4l": 4, "x86_64-5l": 5}[name])
    if name.startswith("vtdss-"):
        return VtdSecondStage({"vtdss-3l": 3, "vtdss-4l": 4, "vtdss-5l": 5}[name])
    if name.startswith("sv"):
        return Riscv({"sv39": 3, "sv48": 4, "sv57": 5}[name])
    granule = {"armv8-s1-4k": 4096, "armv8-s1-16k": 16384}[name]
    return Arm(granule, int(args[args.index("--va-bits") + 1]), int("--ttbr1" in args),
               int("--lpa2" in args), int("--tbi" in args))


def as_answer(found):
    """A leaf or a fault as "ioasidctl walk" would say it; x for either execute permission of ARM."""
    if isinstance(found, Fault):
        return {"result": "fault", "cause": "not-in-image" if found.outside else "not-present"}
    return {"result": "ok", "output": f"0x{found.output:x}", "page_size": found.size,
            "perm": found.perms.replace("P", "x")}
