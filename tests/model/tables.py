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
from pasids import Entries
from processes import BASE, refusal

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
    def decode(level, raw, output_bits, snoop, tlb=False):
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
    def decode(level, raw, output_bits, snoop, tlb=False):
        if not raw & 3:
            return Entry(EMPTY)
        size = PAGE << 9 * (level - 1)
        leaf = level == 1 or (level <= 3 and raw & Vtdss.PS)
        reserved = 0 if leaf and tlb else Vtdss.TM
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
    """A table that is bound, or that an entry of a PASID table leads to."""

    def __init__(self, format_, root, supervisor, write_protect, extended):
        self.format = format_
        self.root = root
        self.supervisor = supervisor
        self.write_protect = write_protect
        self.extended = extended

    @classmethod
    def of(cls, format_, message):
        return cls(format_, message.root, message.supervisor_request, message.write_protect, message.extended_access)

    def key(self):
        return (self.format.number, *self.fields())

    def fields(self):
        return (self.root, self.supervisor, self.write_protect, self.extended)


class Pasid:
    """What words of a PASID table say: the directory's, and the first and third of an entry."""

    P, FIRST, NESTED = 1, 1, 3  # PGTT
    FPD, RESERVED = 2, 0xFFC

    @staticmethod
    def of_directory(word, output_bits):
        if not word & Pasid.P:
            return pb.FAULT_CAUSE_NOT_ATTACHED
        if word & Pasid.RESERVED or word >> 52:
            return pb.FAULT_CAUSE_RESERVED_BITS
        return pb.FAULT_CAUSE_OUTPUT_WIDTH if word >> output_bits else None

    @staticmethod
    def of_first(word):
        if not word & Pasid.P:
            return pb.FAULT_CAUSE_NOT_ATTACHED
        return None if word >> 6 & 7 in (Pasid.FIRST, Pasid.NESTED) else pb.FAULT_CAUSE_BAD_ENTRY

    @staticmethod
    def of_third(word, output_bits):
        if word & 0xF00:
            return pb.FAULT_CAUSE_RESERVED_BITS
        if word >> 2 & 3 > 1:
            return pb.FAULT_CAUSE_BAD_ENTRY
        return pb.FAULT_CAUSE_OUTPUT_WIDTH if word >> output_bits else None

    @staticmethod
    def bound(word, formats):
        """SRE 0, FSPM 3:2, WPE 4, EAFE 7."""
        return Bound(formats[word >> 2 & 3], word & ADDRESS, bool(word & 1), bool(word & 1 << 4), bool(word & 1 << 7))


class Forgotten:
    """When the caches last forgot what they knew of a space's table."""

    def __init__(self):
        self.all = 0
        self.pasids = {}  # pasid -> when
        self.entries = Entries()
        self.ranges = []  # (start, last, leaf, when)

    def rebound(self, now):
        self.everything(now)
        self.entries.everything(now)

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
        self.exact = set()  # files of words that nobody's bits may change
        self.missed = set()  # files of words that it could not set bits in
        self.stale = False  # a remembered value was considered
        self.leaves = []  # (space, address, file, offset): leaves of an access that keep dirty bits
        self.resolved = []  # (space, bound): what entries of PASID tables said

    def places(self, space, address, access):
        """Every Place or Fault that an access may come to."""
        found = {}
        for result in self._reach(space, address, access, 1, ()):
            found[result.key()] = result
            if len(found) > PLACES_MAX:
                raise TooMany
        return list(found.values())

    def remember(self, now):
        """The walks were made: what they came by may be cached from now on, and be written to."""
        for space in {space for space, _ in self.resolved}:
            space.forgotten.entries.walked(self.pasid, [b for s, b in self.resolved if s is space], now)
        for file, offset, space, bits in self.words:
            file.walked.setdefault(offset, set()).add(space)
            if bits:
                file.loose.add(offset)

    # -- one stage --

    def _reach(self, space, address, access, stage, steps):
        outside = space.format.outside(address)
        if space.pasid_table and stage == 1:
            # Its entries choose their formats for themselves.
            yield from self._by_pasid(space, address, access)
        elif outside:
            yield Fault(outside, stage, address, steps)
        elif space.kind == pb.IOASID_KIND_USER:
            yield from self._user(space, address, access, stage, steps)
        elif space.kind == pb.IOASID_KIND_PROCESS:
            yield self._process(space, address, access, steps)
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

    @staticmethod
    def _process(space, address, access, steps):
        if space.service is None:
            return Fault(pb.FAULT_CAUSE_NOT_ATTACHED, 0, address, steps)
        cause = refusal(address - BASE, access == WRITE)
        if cause:
            return Fault(cause, 0, address, steps)
        return Place(space.service.memory, address - BASE, EVERYTHING, (*steps, (space, address)))

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
        yield from self._level(space, table, address, access, stage, steps, space.format.levels(), table.root, EVERYTHING)

    def _by_pasid(self, space, address, access):
        entries = space.forgotten.entries
        found = set_of(self._entry_of_pasid(space, address))
        if not self.fresh:
            since = space.forgotten.since(address, self.pasid, True)
            known = entries.known(self.pasid, since)
            self.stale = self.stale or bool(known)
            found = [*found, *(b for b in known if b.key() not in {f.key() for f in found})]
        for bound in found:
            if isinstance(bound, Fault):
                yield bound
                continue
            outside = bound.format.outside(address)
            if self.device and bound.format.number not in self.device.formats:
                yield Fault(pb.FAULT_CAUSE_BAD_ENTRY, 1, address)
            elif outside:
                yield Fault(outside, 1, address)
            else:
                levels = bound.format.levels()
                yield from self._level(space, bound, address, access, 1, (), levels, bound.root, EVERYTHING)

    def _words(self, space, at):
        """A word of a PASID table, as it is, or Faults."""
        for where in set_of(self._reach(space.parent, at, READ, 2, ())):
            if isinstance(where, Fault):
                yield where
                continue
            file, offset = where.memory.file, where.memory.offset + where.offset
            if offset in file.loose or (file, offset) in self.set:
                raise TooMany  # bits of it are an IOMMU's to write
            self.words.add((file, offset, space, False))
            self.exact.add(file)
            yield file.word(offset)

    def _entry_of_pasid(self, space, address):
        """Bounds and Faults that the walk's PASID may come to (VT-d spec 9.5, 9.6)."""
        table, pasid = space.pasid_table, self.pasid
        if pasid >> table.pasid_bits:
            yield Fault(pb.FAULT_CAUSE_NOT_ATTACHED, 1, address)
            return
        for directory in self._words(space, table.root + (pasid >> 6) * 8):
            cause = directory if isinstance(directory, Fault) else Pasid.of_directory(directory, self.output_bits)
            if cause:
                yield cause if isinstance(cause, Fault) else Fault(cause, 1, address)
                continue
            at = (directory & ADDRESS) + (pasid & 63) * 64
            for first in self._words(space, at):
                cause = first if isinstance(first, Fault) else Pasid.of_first(first)
                if cause:
                    yield cause if isinstance(cause, Fault) else Fault(cause, 1, address)
                    continue
                for third in self._words(space, at + 16):
                    cause = third if isinstance(third, Fault) else Pasid.of_third(third, self.output_bits)
                    if cause:
                        yield cause if isinstance(cause, Fault) else Fault(cause, 1, address)
                        continue
                    bound = Pasid.bound(third, table.formats)
                    self.resolved.append((space, bound))
                    yield bound

    def _level(self, space, bound, address, access, stage, steps, level, at, prot):
        """The entry of this level in the table at `at`; prot: what those above leave."""
        slot = at + (address >> (12 + 9 * (level - 1)) & 511) * 8
        for where in set_of(self._reach(space.parent, slot, READ, stage + 1, ())):
            if isinstance(where, Fault):
                yield where
                continue
            file, offset = where.memory.file, where.memory.offset + where.offset
            for raw, old in self._values(space, bound, address, stage, level, file, offset):
                yield from self._entry(space, bound, address, access, stage, steps, level, slot, file, offset, raw, old, prot)

    def _values(self, space, bound, address, stage, level, file, offset):
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
            entry = self._decode(space, bound, level, old)
            if entry.kind not in (TABLE, LEAF):
                continue
            if when > space.forgotten.since(address, pasid, entry.kind == TABLE):
                seen.add(old)
                self.stale = True
                yield old, True

    def _decode(self, space, bound, level, raw):
        entry = layout(bound.format).decode(level, raw, self.output_bits, (self.device or space).snoop_control, (self.device or space).tlb)
        if entry.kind != EMPTY:
            if bound.supervisor:
                entry.user = True
                if not bound.write_protect:
                    entry.prot = entry.prot | {WRITE}
            if not entry.user:
                # To who has no privilege it allows nothing.
                entry.prot = frozenset()
        return entry

    def _entry(self, space, bound, address, access, stage, steps, level, slot, file, offset, raw, old, prot):
        entry = self._decode(space, bound, level, raw)
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
            for end in self._bits(space, bound, access, stage, level, slot, file, offset, raw, old, entry):
                if end is None:
                    goes_on = True
                else:
                    yield end
            if not goes_on:
                return
        if entry.kind == TABLE:
            yield from self._level(space, bound, address, access, stage, steps, level - 1, entry.address, prot)
        elif access not in prot:
            yield Fault(self._denied(stage), stage, address, steps)
        else:
            if access == WRITE and self._keeps_bits(space, bound):
                self.leaves.append((space, address & ~(PAGE - 1), file, offset))
            size = PAGE << 9 * (level - 1)
            further = entry.address + address % size
            for end in self._reach(space.parent, further, access, stage + 1, (*steps, (space, address))):
                yield self._narrowed(end, prot)

    def _keeps_bits(self, space, bound):
        kept = self.device.access_dirty if self.device else space.access_dirty
        return kept and (layout(bound.format).always_access_dirty or space.dirty_tracking)

    def sure_leaf(self, space, address, pasid):
        """(file, offset) of the leaf whose dirty bit a write there sets, if it was not set, or None."""
        words = {(file, offset) for s, a, file, offset in self.leaves if s is space and a == address & ~(PAGE - 1)}
        if len(words) != 1 or space.dirty is None:
            return None
        (file, offset), = words
        since = space.forgotten.since(address, pasid, False)
        if any(when > since for when, _, who in file.history.get(offset, ()) if space in who):
            return None
        return (file, offset) if file.undirtied.get(offset, 0) <= max(since, space.dirty.since(address)) else None

    def _bits(self, space, bound, access, stage, level, slot, file, offset, raw, old, entry):
        """None if the entry can be used; Faults where its bits cannot be set."""
        shape = layout(bound.format)
        if not self._keeps_bits(space, bound):
            yield None
            return
        bits = shape.accessed
        if entry.kind == LEAF and access == WRITE:
            bits |= shape.dirty
        if bound.extended and shape.flags:
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
