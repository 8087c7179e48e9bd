# SPDX-License-Identifier: Apache-2.0
"""The tenants' CPUs, writing page tables.

Each lane has a file for tables, which it maps at TABLES in its spaces.  Between rounds, when nothing is
in flight, it writes an entry now and then: maps, unmaps, permissions, large pages, tables put elsewhere, and nonsense.
Afterwards it mostly gives the command that its caches need, often enough another one or none; what
that leaves to the caches the model knows (tables.py).

What it wants next of a lane stands in lane.wishes: requests for the generator to make, in order.
"""

import struct

import ioasid_pb2 as pb
from tables import ADDRESS, LEAF, PAGE, READ, TABLE, WRITE, Bound, Pasid, Place, TooMany, Walk, layout, pack

TABLES = 0x70000000  # where spaces have the pages for tables
PASIDS = (1, 2, 3, 255)  # that lanes mostly use
PAGES = 32  # of a lane's file for tables
BASES = [0, 0x10000, 0x200000, 0x40000000, TABLES, 0x100000000, (1 << 39) - 16 * PAGE, (1 << 47) - 16 * PAGE]
HIGH = [(1 << 64) - 16 * PAGE]  # where the sign extends


def tables_of(lane):
    """The registered memory that has all pages for tables, or None."""
    for _, m in sorted(lane.lease.memories.items()) if lane.lease else ():
        if m.file is lane.tables and m.length == PAGES * PAGE and m.write:
            return m
    return None


def slot_of_tables(lane, vm, memory):
    """The pages for tables, as a slot where they are expected."""
    free = next(n for n in range(len(vm.slots) + 1) if n not in vm.slots)
    return pb.SetMemorySlotRequest(
        vm=vm.id, slot=free, guest_address=TABLES, size=PAGES * PAGE, memory=memory.id,
        read_only=lane.rng.random() < 0.08,
    )  # fmt: skip


def make_native(rng, request):
    """The same as VT-d says it, as far as it can; now and then nonsense."""
    native = []
    for e in request.entries:
        if e.granularity == pb.INVALIDATE_GRANULARITY_ALL:
            native.append([0, (1 << 64) - 1, 0, 0])
        elif e.granularity == pb.INVALIDATE_GRANULARITY_RANGE:
            native.append([e.iova, e.length // PAGE, int(e.leaf), 0])
    if not native:
        return
    if rng.random() < 0.1:
        native.append([0, (1 << 64) - 1, 1, 0])
    if rng.random() < 0.06:
        rng.choice(native)[rng.randrange(4)] ^= rng.choice((1, 2, 1 << 11, 1 << 31))
    if rng.random() < 0.98:
        del request.entries[:]
    request.native_type = rng.choice((1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2))
    request.native = b"".join(struct.pack("<QQII", *one) for one in native)
    if rng.random() < 0.02:
        request.native = request.native[:-1]


class Shadow:
    """A table that an entry of a PASID table leads to, and that no other space has."""

    kind = pb.IOASID_KIND_USER
    pasid_table = vm = None
    starts, children = (), 0

    def __init__(self, whole, bound):
        self.whole = whole
        self.table = bound
        self.format = bound.format
        self.parent = whole.parent
        self.vas = {}

    @property
    def id(self):
        return self.whole.id

    @property
    def freed(self):
        return self.whole.freed or self not in self.whole.led.values()

    def is_bound(self):
        return self.whole.pasid_table is not None


class Scribe:
    """Writes tables for one world of lanes."""

    def __init__(self, world):
        self.world = world

    def write(self, lane, tally):
        """One entry, perhaps, of one of the lane's tables."""
        rng = lane.rng
        tracked = [(k, s) for k, s in sorted(lane.lease.attachments.items(), key=lambda a: a[0]) if s.table and s.dirty and s.dirty.written]
        if tracked and rng.random() < 0.5:
            self._want_dirt(lane, *rng.choice(tracked))
            if rng.random() < 0.7:
                return  # and the table is as it was
        spaces = [s for _, s in sorted(lane.lease.ioasids.items()) if s.table]
        by_pasid = [s for _, s in sorted(lane.lease.ioasids.items()) if s.pasid_table]
        if by_pasid and rng.random() < 0.4:
            what = self._write_pasid(lane, rng.choice(by_pasid), spaces)
            tally[f"  PASID table: {what}"] += 1
            return
        # Often: they are of use only where a device goes by them.
        spaces += 3 * [s for whole in by_pasid for s in whole.led.values() if isinstance(s, Shadow)]
        if not spaces:
            return
        attached = [s for s in spaces if any(getattr(s, "whole", s) in a.chain() for a in lane.lease.attachments.values())]
        space = rng.choice(attached if attached and rng.random() < 0.85 else spaces)
        va, level = self._where(rng, space)
        used = [a for key, a in lane.hot if self._uses(lane, key, space) and not space.format.outside(a)]
        if used and rng.random() < 0.4:
            va, level = rng.choice(used) & ~(PAGE - 1), 1  # what caches know
        if self._find(space, space.table.root) is None and rng.random() < 0.9:
            # First there must be something for it to be written to.
            below = space
            while below.table and self._find(below, below.table.root) is None and below.parent.table:
                below = below.parent
            if self._find(below, below.table.root) is None:
                self._want_ground(lane, below.parent)
                return
            space, va, level = below, TABLES, 2
        roll = rng.random()
        if space.vas and roll < 0.12:
            what = self._put(lane, space, va, level, 0)
        elif space.vas and roll < 0.2:
            what = self._twist(lane, space, va)
        else:
            what = self._map(lane, space, va, level)
        tally[f"  table: {what}"] += 1
        if what != "unreachable":
            self._command(lane, space, va, level, what)

    @staticmethod
    def _want_dirt(lane, key, space):
        """A page to be written and read in turns, which caches know for dirty then."""
        page = space.dirty.page_in_turn(lane.rng)
        if page is None:
            page = space.dirty.last
            r = pb.ReadDirtyBitmapRequest(ioasid=space.id, iova=page, length=PAGE, page_size=PAGE)
            lane.wishes.appendleft(("ReadDirtyBitmap", r))
            return
        r = pb.DeviceDmaRequest(scope=pb.Scope(lease=lane.name), device=key[0], iova=page, access=WRITE, data=lane.rng.randbytes(8))
        if key[1]:
            r.pasid.value = key[1]
        lane.wishes.appendleft(("DeviceDma", r))

    def _uses(self, lane, key, space):
        """May what a device does there go by this table?"""
        by = self.world.goes_by(lane.lease, *key)
        return by is space or (by is not None and by.pasid_table and space.format.sign_extended)

    @staticmethod
    def _want_ground(lane, space):
        """The pages for tables, mapped where they are expected."""
        if space.vm:
            memory = tables_of(lane)
            if memory and not space.vm.freed and not space.backs(TABLES):
                lane.wishes.append(("SetMemorySlot", slot_of_tables(lane, space.vm, memory)))
            return
        if space.kind != pb.IOASID_KIND_KERNEL or space.freed or space.parent or space.touching(TABLES, PAGES * PAGE):
            return
        for id_, m in sorted(lane.lease.memories.items()):
            if m.file is lane.tables and m.length == PAGES * PAGE and m.read:
                r = pb.MapRequest(ioasid=space.id)
                r.entries.add(iova=TABLES, length=m.length, memory=id_, read=True, write=m.write)
                lane.wishes.append(("Map", r))
                return

    # -- where --

    def _where(self, rng, space):
        if space.vas and rng.random() < 0.6:
            va = rng.choice(list(space.vas))
            return va, space.vas[va]
        bases = BASES + (HIGH if space.format.sign_extended else [])
        va = rng.choice(bases) + rng.randrange(12) * PAGE
        if space.children and rng.random() < 0.5:
            va = TABLES
        level = 1
        if rng.random() < (0.9 if va == TABLES else 0.15):
            level = 3 if rng.random() < 0.1 else 2
            va &= ~((PAGE << 9 * (level - 1)) - 1)
        return (va, level) if space.format.outside(va) is None else (0, 1)

    def _target(self, lane, space, level):
        """An address of the parent for a page of that level."""
        rng, parent = lane.rng, space.parent
        size = PAGE << 9 * (level - 1)
        roll = rng.random()
        address = TABLES
        if level > 1 and roll < 0.8:
            pass
        elif parent.kind == pb.IOASID_KIND_USER and parent.vas and roll < 0.95:
            address = rng.choice(list(parent.vas)) + rng.randrange(4) * PAGE * (rng.random() < 0.3)
        elif roll < 0.95 and (extents := parent.extents()):
            start, length = rng.choice(extents)
            address = start + rng.randrange(length // PAGE) * PAGE
        else:
            address = rng.choice(BASES)
        return address & ~(size - 1) & ADDRESS

    def _find(self, space, address):
        """(file, offset) of an address of the parent; None: it has none."""
        try:
            ends = Walk().places(space.parent, address, READ)
        except TooMany:
            return None
        if len(ends) != 1 or not isinstance(ends[0], Place):
            return None
        return ends[0].memory.file, ends[0].memory.offset + ends[0].offset

    def _slot(self, lane, space, va, level, make):
        """Where the entry lies; tables above it are made."""
        shape = layout(space.format)
        at = space.table.root
        for n in range(space.format.levels(), 0, -1):
            place = self._find(space, at + (va >> (12 + 9 * (n - 1)) & 511) * 8)
            if place is None or n == level:
                return place
            entry = shape.decode(n, place[0].word(place[1]), 48, True)
            if entry.kind != TABLE:
                if not make and entry.kind == LEAF:
                    return place
                page = self._page(lane, space)
                if not make or page is None:
                    return None
                raw = (TABLES + page * PAGE) | shape.TABLE
                place[0].cpu_write(place[1], pack(raw), self.world.tick())
                at = raw & ADDRESS
            else:
                at = entry.address
        return None

    def _page(self, lane, space):
        """A page for a table, of zeros; now and then one that is in use."""
        live = {p for p, s in lane.pages.items() if s.is_bound() and not s.freed}
        free = [p for p in range(PAGES) if p not in live]
        if not free and lane.rng.random() < 0.8:
            return None
        page = lane.rng.choice(free or sorted(live))
        lane.pages[page] = space
        lane.tables.cpu_write(page * PAGE, bytes(PAGE), self.world.tick())
        return page

    # -- what --

    def _put(self, lane, space, va, level, raw):
        place = self._slot(lane, space, va, level, False)
        if place is None:
            return "unreachable"
        place[0].cpu_write(place[1], pack(raw), self.world.tick())
        return "cleared" if not raw else "rewritten"

    def _map(self, lane, space, va, level):
        rng = lane.rng
        place = self._slot(lane, space, va, level, True)
        if place is None:
            return "unreachable"
        shape = layout(space.format)
        raw = self._target(lane, space, level) | (shape.PAGE_RW if rng.random() < 0.85 else shape.PAGE_RO)
        if level > 1:
            raw |= shape.PS
        if rng.random() < 0.5:
            raw |= shape.A | shape.D
        place[0].cpu_write(place[1], pack(raw), self.world.tick())
        space.vas[va] = level
        if len(space.vas) > 24:
            del space.vas[rng.choice(list(space.vas))]
        return f"mapped, level {level}"

    def _twist(self, lane, space, va):
        """A bit of an entry somewhere on the way."""
        rng = lane.rng
        level = rng.randint(1, space.format.levels())
        place = self._slot(lane, space, va, level, False)
        if place is None:
            return "unreachable"
        raw = place[0].word(place[1])
        roll = rng.random()
        if roll < 0.5:
            raw ^= 1 << rng.choice((0, 1, 1, 2, 7))
        elif roll < 0.7:
            raw ^= 1 << rng.randrange(64)
        else:
            # The table or page is another.
            raw = raw & ~ADDRESS | (TABLES + rng.randrange(PAGES) * PAGE)
        place[0].cpu_write(place[1], pack(raw), self.world.tick())
        return "twisted"

    # -- PASID tables --

    def _write_pasid(self, lane, space, spaces):
        """An entry that leads to one of the lane's other tables, or to none, or nonsense."""
        rng = lane.rng
        pasid = rng.choice((0, *PASIDS, *space.led))
        directory = self._find(space, space.pasid_table.root + (pasid >> 6) * 8)
        if directory is None:
            self._want_ground(lane, space.parent)
            return "unreachable"
        raw = directory[0].word(directory[1])
        if not raw & Pasid.P or rng.random() < 0.03:
            page = self._page(lane, space)
            if page is None:
                return "unreachable"
            raw = (TABLES + page * PAGE) | Pasid.P
            directory[0].cpu_write(directory[1], pack(raw), self.world.tick())
        at = (raw & ADDRESS) + (pasid & 63) * 64
        first, third = self._find(space, at), self._find(space, at + 16)
        if first is None or third is None:
            return "unreachable"
        others = [s for s in spaces if s.format.sign_extended]
        others += [s for s in space.led.values() if isinstance(s, Shadow)]
        what = self._write_entry(lane, space, pasid, first, third, others)
        self._command_pasid(lane, space, pasid)
        return what

    def _write_entry(self, lane, space, pasid, first, third, others):
        rng = lane.rng
        roll = rng.random()
        if roll < 0.12:
            space.led.pop(pasid, None)
            first[0].cpu_write(first[1], pack(0), self.world.tick())
            return "cleared"
        if roll < 0.2:
            where = rng.choice((first, third))
            raw = where[0].word(where[1]) ^ 1 << rng.choice((*range(13), 40, 50, 60))
            where[0].cpu_write(where[1], pack(raw), self.world.tick())
            return "twisted"
        if not others or len(space.led) < 2:
            page = self._page(lane, space)
            if page is None:
                return "nothing to lead to"
            format_ = self.world.x86_64[rng.random() < 0.1]
            others = [Shadow(space, Bound(format_, TABLES + page * PAGE, False, False, False))]
            lane.pages[page] = others[0]
        space.led[pasid] = rng.choice([s for s in others if s.vas] or others)
        table = space.led[pasid].table
        flags = 0 if rng.random() < 0.8 else rng.choice((1, 1 | 1 << 4, 1 << 4, 1 << 7))
        raw = table.root | (table.format.levels() - 4) << 2 | flags
        third[0].cpu_write(third[1], pack(raw), self.world.tick())
        kind = rng.choice((Pasid.FIRST, Pasid.FIRST, Pasid.FIRST, Pasid.NESTED)) if rng.random() < 0.97 else 2
        first[0].cpu_write(first[1], pack(Pasid.P | kind << 6), self.world.tick())
        return "set"

    @staticmethod
    def _command_pasid(lane, space, pasid):
        """What the caches need: mostly both commands, often enough one or none."""
        rng = lane.rng
        for (device, own), at in sorted(lane.lease.attachments.items(), key=lambda a: a[0])[:4]:
            if at is space and not own and lane.hot:
                lane.hot.append(((device, pasid), rng.choice(list(lane.hot))[1]))
        r = pb.InvalidateRequest(ioasid=space.id)
        if rng.random() < 0.75:
            e = r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_PASID_CACHE)
            if pasid and rng.random() < 0.7:
                e.pasid.value = pasid if rng.random() < 0.9 else rng.choice(PASIDS)
        if rng.random() < 0.7:
            e = r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_ALL)
            if pasid and rng.random() < 0.7:
                e.granularity = pb.INVALIDATE_GRANULARITY_PASID
                e.pasid.value = pasid if rng.random() < 0.9 else rng.choice(PASIDS)
        if r.entries:
            lane.wishes.append(("Invalidate", r))
        Scribe._command_stand_in(lane, space, pasid)

    @staticmethod
    def _command_stand_in(lane, whole, pasid):
        """The PASID's command, by the space that stands for it at a device."""
        attached = lane.lease.attachments
        devices = [d for (d, own), s in sorted(attached.items(), key=lambda a: a[0]) if s is whole and not own]
        spaces = [attached[d, pasid] for d in devices if pasid and (d, pasid) in attached]
        if not spaces or spaces[0].freed or lane.rng.random() < 0.3:
            return False
        r = pb.InvalidateRequest(ioasid=spaces[0].id)
        r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_PASID).pasid.value = pasid
        lane.wishes.append(("Invalidate", r))
        return True

    def cure(self, lane, space, address):
        """Puts a page at an address, for who waits there; False: it cannot."""
        va = address & ~(PAGE - 1)
        place = self._slot(lane, space, va, 1, True)
        if place is None:
            return False
        shape = layout(space.format)
        place[0].cpu_write(place[1], pack(self._target(lane, space, 1) | shape.PAGE_RW), self.world.tick())
        space.vas[va] = 1
        return True

    # -- afterwards --

    def _command(self, lane, space, va, level, what):
        rng = lane.rng
        keys = [k for k, s in lane.lease.attachments.items() if space in s.chain()]
        for key in sorted(keys)[:2]:
            if lane.lease.attachments[key] is space:
                lane.hot.append((key, va + rng.randrange(PAGE)))
        roll = rng.random()
        if roll < 0.3:
            return
        r = pb.InvalidateRequest(ioasid=space.id)
        e = r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_ALL)
        pasids = [k[1] for k in sorted(keys) if k[1] and lane.lease.attachments[k] is space]
        whole = [s for (_, own), s in sorted(lane.lease.attachments.items(), key=lambda a: a[0]) if s.pasid_table and not own]
        if isinstance(space, Shadow):
            pasids = [p for p, s in space.whole.led.items() if s is space and p]
            devices = [d for (d, own), s in sorted(lane.lease.attachments.items(), key=lambda a: a[0]) if s is space.whole and not own]
            if pasids and devices:
                lane.hot.append(((rng.choice(devices), rng.choice(pasids)), va + rng.randrange(PAGE)))
            if pasids and self._command_stand_in(lane, space.whole, rng.choice(pasids)):
                return
        elif whole and not whole[0].freed and space.format.sign_extended and rng.random() < 0.6:
            # What goes by it through a PASID table is cached as that one's.
            r.ioasid, pasids = whole[0].id, list(PASIDS)
        if pasids and rng.random() < 0.4:
            roll = 0.85
        if roll < 0.8:
            e.granularity = pb.INVALIDATE_GRANULARITY_RANGE
            size = PAGE << 9 * (level - 1)
            e.iova, e.length = va & ~(size - 1), size
            # To say leaf where more than a leaf changed is a tenant's mistake.
            e.leaf = rng.random() < (0.7 if what == "mapped, level 1" else 0.3)
        elif roll < 0.9:
            e.granularity = pb.INVALIDATE_GRANULARITY_PASID
            e.pasid.value = rng.choice(pasids or [1])
        if space.format.sign_extended and rng.random() < 0.45:
            make_native(rng, r)
        lane.wishes.append(("Invalidate", r))
