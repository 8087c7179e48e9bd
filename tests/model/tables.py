# SPDX-License-Identifier: Apache-2.0
"""Tables that tenants write, and what caches may remember of them.

A walker of the model's own, over the bytes that the memory files should hold (client.File.mirror):
Intel 64 paging (SDM vol 3, 4.5; VT-d first stage) and VT-d second stage (VT-d spec 9.8).

What may be stale.  A walk does not find one place but every place that it may find: where a word
of a table was another since the last command that makes caches forget it, both values count.  Only
these are remembered: an entry that was present and that a walk came by while it was so.
  - Entries that lead to tables go by ALL, by RANGE without leaf over the address, and by PASID for that
    PASID's accesses; entries that lead to pages by these and by RANGE with leaf.
  - Binding makes the space forget all.  What a parent maps is never remembered: Unmap is at once.
So for an address whose table has not been written since, there is one place, and one answer.

Accessed and dirty bits are the walker's to write, not the model's to know: a word that a walk came
by is loose, and its bits are never compared until the tenant writes it again (File.same).

Time is the model's: it counts what changed.  Nothing here changes the state but Walk.remember().
"""

import struct

import ioasid_pb2 as pb

PAGE = 4096
READ, WRITE, EXECUTE = pb.ACCESS_READ, pb.ACCESS_WRITE, pb.ACCESS_EXECUTE
ADDRESS = 0x000F_FFFF_FFFF_F000
EVERYTHING = frozenset((READ, WRITE, EXECUTE))
PLACES_MAX = 48  # of one address; more is not worth following

EMPTY, TABLE, LEAF = "empty", "table", "leaf"


class Entry:
    __slots__ = ("kind", "address", "prot", "user")

    def __init__(self, kind, address=0, prot=EVERYTHING, user=True):
        self.kind = kind  # or a FaultCause
        self.address = address
        self.prot = prot
        self.user = user


class X86:
    """P 0, R/W 1, U/S 2, A 5, D 6, PS 7, EA 10, XD 63."""

    P, RW, US, A, D, PS, EA, XD = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 10, 1 << 63
    TABLE, PAGE_RO, PAGE_RW = P | RW | US, P | US, P | RW | US
    accessed, dirty = A, D
    always_access_dirty = True
    flags = True

    @staticmethod
    def decode(level, raw, output_bits, snoop):
        if not raw & 1:
            return Entry(EMPTY)
        size = PAGE << 9 * (level - 1)
        leaf = level == 1 or (level <= 3 and raw & X86.PS)
        reserved = 0
        if leaf and level > 1:
            reserved = (size - 1) & ~0x1FFF
        elif not leaf and level >= 4:
            reserved = X86.PS
        prot = {READ} | ({WRITE} if raw & X86.RW else set()) | (set() if raw & X86.XD else {EXECUTE})
        return _decoded(leaf, size, raw, reserved, output_bits, frozenset(prot), bool(raw & X86.US))


class Vtdss:
    """R 0, W 1, PS 7, A 8, D 9, SNP 11, TM 62."""

    R, W, PS, A, D, SNP, TM = 1, 2, 1 << 7, 1 << 8, 1 << 9, 1 << 11, 1 << 62
    TABLE, PAGE_RO, PAGE_RW = R | W, R, R | W
    accessed, dirty = A, D
    always_access_dirty = False
    flags = False

    @staticmethod
    def decode(level, raw, output_bits, snoop):
        if not raw & 3:
            return Entry(EMPTY)
        size = PAGE << 9 * (level - 1)
        leaf = level == 1 or (level <= 3 and raw & Vtdss.PS)
        reserved = Vtdss.TM  # of leaves as well: no IOMMU of the test has device TLBs
        if leaf:
            reserved |= ((size - 1) & ~0xFFF) | (0 if snoop else Vtdss.SNP)
        else:
            reserved |= Vtdss.SNP | (Vtdss.PS if level >= 4 else 0)
        prot = ({READ} if raw & 1 else set()) | ({WRITE} if raw & 2 else set())
        return _decoded(leaf, size, raw, reserved, output_bits, frozenset(prot), True)


def _decoded(leaf, size, raw, reserved, output_bits, prot, user):
    if raw & reserved:
        return Entry(pb.FAULT_CAUSE_RESERVED_BITS, 0, prot, user)
    if (raw & ADDRESS) >> output_bits:
        return Entry(pb.FAULT_CAUSE_OUTPUT_WIDTH, 0, prot, user)
    address = raw & ADDRESS & ~(size - 1) if leaf else raw & ADDRESS
    return Entry(LEAF if leaf else TABLE, address, prot, user)


def layout(format_):
    return X86 if format_.sign_extended else Vtdss


class Bound:
    """A table that is bound."""

    def __init__(self, message):
        self.root = message.root
        self.supervisor = message.supervisor_request
        self.write_protect = message.write_protect
        self.extended = message.extended_access

    def fields(self):
        return (self.root, self.supervisor, self.write_protect, self.extended)


class Forgotten:
    """When the caches last forgot what they knew of a space's table."""

    def __init__(self):
        self.all = 0
        self.pasids = {}  # pasid -> when
        self.ranges = []  # (start, last, leaf, when)

    def everything(self, now):
        self.all = now
        self.pasids.clear()
        self.ranges.clear()

    def pasid(self, pasid, now):
        self.pasids[pasid] = now

    def range(self, start, last, leaf, now):
        self.ranges.append((start, last, leaf, now))
        if len(self.ranges) > 64:  # to forget that something was forgotten is to allow more
            del self.ranges[0]

    def since(self, address, pasid, table):
        when = max(self.all, self.pasids.get(pasid, 0) if pasid else 0)
        for start, last, leaf, at in self.ranges:
            if start <= address <= last and not (table and leaf):
                when = max(when, at)
        return when


class Fault:
    def __init__(self, cause, stage, address, steps=()):
        self.cause = cause
        self.stage = stage
        self.address = address
        self.steps = steps  # as of a Place, up to there

    def key(self):
        return (self.cause, self.stage, self.address)


class Place:
    """Where an address leads to."""

    def __init__(self, memory, offset, prot, steps):
        self.memory = memory
        self.offset = offset
        self.prot = prot
        self.steps = steps  # ((space, address in it), ...)

    def key(self):
        return (self.memory, self.offset, self.prot, self.steps)


class TooMany(Exception):
    """More places than are worth following."""


class Walk:
    """Walks for one access, or several of one device; collects what they came by."""

    def __init__(self, device=None, pasid=0, output_bits=48):
        self.device = device
        self.pasid = pasid
        self.fresh = device is None  # by the tables, as Translate
        self.output_bits = output_bits
        self.words = set()  # (file, offset, space, may be written by the walker)
        self.written = set()  # (space, address): pages that the walker may write bits to
        self.set = set()  # (file, offset) of words that this walk sets bits in
        self.missed = set()  # files of words that it could not set bits in
        self.stale = False  # a remembered value was considered

    def places(self, space, address, access):
        """Every Place or Fault that an access may come to."""
        found = {}
        for result in self._reach(space, address, access, 1, ()):
            found[result.key()] = result
            if len(found) > PLACES_MAX:
                raise TooMany
        return list(found.values())

    def remember(self):
        """The walks were made: what they came by may be cached from now on, and be written to."""
        for file, offset, space, bits in self.words:
            file.walked.setdefault(offset, set()).add(space)
            if bits:
                file.loose.add(offset)

    # -- one stage --

    def _reach(self, space, address, access, stage, steps):
        outside = space.format.outside(address)
        if outside:
            yield Fault(outside, stage, address, steps)
        elif space.kind == pb.IOASID_KIND_USER:
            yield from self._user(space, address, access, stage, steps)
        elif space.vm:
            yield self._slot(space, address, access, stage, steps)
        else:
            yield from self._mapped(space, address, access, stage, steps)

    def _mapped(self, space, address, access, stage, steps):
        m = space.find(address)
        if m is None:
            absent = pb.FAULT_CAUSE_NOT_PRESENT if stage == 1 else pb.FAULT_CAUSE_PARENT_NOT_PRESENT
            yield Fault(absent, stage, address, steps)
        elif access not in m.prot:
            yield Fault(self._denied(stage), stage, address, steps)
        elif m.memory:
            yield Place(m.memory, m.offset + address - m.iova, frozenset(m.prot), (*steps, (space, address)))
        else:
            further = m.parent_address + address - m.iova
            for end in self._reach(space.parent, further, access, stage + 1, (*steps, (space, address))):
                yield self._narrowed(end, frozenset(m.prot))

    def _slot(self, space, address, access, stage, steps):
        slot = space.vm.find(address)
        if slot is None:
            absent = pb.FAULT_CAUSE_NOT_PRESENT if stage == 1 else pb.FAULT_CAUSE_PARENT_NOT_PRESENT
            return Fault(absent, stage, address, steps)
        if access not in slot.prot():
            return Fault(self._denied(stage), stage, address, steps)
        return Place(slot.memory, slot.offset + address - slot.address, slot.prot(), (*steps, (space, address)))

    @staticmethod
    def _narrowed(end, prot):
        if isinstance(end, Fault):
            return end
        return Place(end.memory, end.offset, end.prot & prot, end.steps)

    @staticmethod
    def _denied(stage):
        return pb.FAULT_CAUSE_PERMISSION if stage == 1 else pb.FAULT_CAUSE_PARENT_PERMISSION

    def _user(self, space, address, access, stage, steps):
        table = space.table
        if table is None:
            absent = pb.FAULT_CAUSE_NOT_PRESENT if stage == 1 else pb.FAULT_CAUSE_PARENT_NOT_PRESENT
            yield Fault(absent, stage, address, steps)
            return
        yield from self._level(space, address, access, stage, steps, space.format.levels(), table.root, EVERYTHING)

    def _level(self, space, address, access, stage, steps, level, at, prot):
        """The entry of this level in the table at `at`; prot: what those above leave."""
        slot = at + (address >> (12 + 9 * (level - 1)) & 511) * 8
        for where in set_of(self._reach(space.parent, slot, READ, stage + 1, ())):
            if isinstance(where, Fault):
                yield where
                continue
            file, offset = where.memory.file, where.memory.offset + where.offset
            for raw, old in self._values(space, address, stage, level, file, offset):
                yield from self._entry(space, address, access, stage, steps, level, slot, file, offset, raw, old, prot)

    def _values(self, space, address, stage, level, file, offset):
        """(value, whether a remembered one) that the word may be taken for."""
        self.words.add((file, offset, space, False))
        now = file.word(offset)
        yield now, False
        if self.fresh:
            return
        pasid = self.pasid if stage == 1 else 0
        seen = {now}
        for when, old, who in file.history.get(offset, ()):
            if space not in who or old in seen:
                continue
            entry = self._decode(space, level, old)
            if entry.kind not in (TABLE, LEAF):
                continue
            if when > space.forgotten.since(address, pasid, entry.kind == TABLE):
                seen.add(old)
                self.stale = True
                yield old, True

    def _decode(self, space, level, raw):
        entry = layout(space.format).decode(level, raw, self.output_bits, self.device.snoop if self.device else space.snoop_control)
        table = space.table
        if entry.kind != EMPTY:
            if table.supervisor:
                entry.user = True
                if not table.write_protect:
                    entry.prot = entry.prot | {WRITE}
            if not entry.user:
                # To who has no privilege it allows nothing.
                entry.prot = frozenset()
        return entry

    def _entry(self, space, address, access, stage, steps, level, slot, file, offset, raw, old, prot):
        entry = self._decode(space, level, raw)
        absent = pb.FAULT_CAUSE_NOT_PRESENT if stage == 1 else pb.FAULT_CAUSE_PARENT_NOT_PRESENT
        if entry.kind == EMPTY:
            yield Fault(absent, stage, address, steps)
            return
        if entry.kind not in (TABLE, LEAF):
            yield Fault(entry.kind, stage, address, steps)
            return
        prot = prot & entry.prot
        if access in prot:
            goes_on = False
            for end in self._bits(space, access, stage, level, slot, file, offset, raw, old, entry):
                if end is None:
                    goes_on = True
                else:
                    yield end
            if not goes_on:
                return
        if entry.kind == TABLE:
            yield from self._level(space, address, access, stage, steps, level - 1, entry.address, prot)
        elif access not in prot:
            yield Fault(self._denied(stage), stage, address, steps)
        else:
            size = PAGE << 9 * (level - 1)
            further = entry.address + address % size
            for end in self._reach(space.parent, further, access, stage + 1, (*steps, (space, address))):
                yield self._narrowed(end, prot)

    def _bits(self, space, access, stage, level, slot, file, offset, raw, old, entry):
        """None if the entry can be used; Faults where its bits cannot be set."""
        shape = layout(space.format)
        kept = self.device.access_dirty if self.device else space.access_dirty
        if not kept or not (shape.always_access_dirty or space.dirty_tracking):
            yield None
            return
        bits = shape.accessed
        if entry.kind == LEAF and access == WRITE:
            bits |= shape.dirty
        if space.table.extended and shape.flags:
            bits |= X86.EA
        # A table may be its own parent's as well: then this very walk has set them before.
        loose = offset in file.loose or (file, offset) in self.set
        if raw & bits == bits and not loose:
            yield None
            return
        self.words.add((file, offset, space, True))
        self.set.add((file, offset))
        good = loose or old
        for end in set_of(self._reach(space.parent, slot, WRITE, stage + 1, ())):
            if isinstance(end, Fault):
                self.missed.add(file)
                yield end
            else:
                good = True
                self.written.update((s, a & ~(PAGE - 1)) for s, a in end.steps)
        if good:
            yield None


def set_of(results):
    found = {}
    for r in results:
        found[r.key()] = r
        if len(found) > PLACES_MAX:
            raise TooMany
    return found.values()


# ---- what a tenant writes -------------------------------------------------------------


def pack(value):
    return struct.pack("<Q", value)
