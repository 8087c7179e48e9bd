# SPDX-License-Identifier: Apache-2.0
"""What the lanes of the model test ask for: random requests, mostly sensible, often wrong.

Everything is drawn from the lane's own random numbers, and only from what is the same in
every run of a seed: never from the clock, nor from numbers that a race handed out.
"""

import ioasid_pb2 as pb
from client import STREAMS
from model import PAGE, READ, WRITE
from scribe import PAGES, TABLES
from world import FORMATS

IOVA_BASES = [
    0, 0x10000, 0x200000, 0x3F0000, 0x40000000, 0xFEDF0000, 0xFEEF8000, 0x100000000,
    (1 << 39) - 16 * PAGE, (1 << 47) - 16 * PAGE, (1 << 48) - 16 * PAGE, (1 << 57) - 16 * PAGE,
    (1 << 64) - 16 * PAGE,
]  # fmt: skip


def mappings_behind(space, address):
    """(space, mapping) for each stage of an address, as far as there are mappings."""
    found = []
    while space is not None:
        m = space.find(address)
        if m is None:
            break
        found.append((space, m))
        if m.memory:
            break
        address += m.parent_address - m.iova
        space = space.parent
    return found


class Generator:
    """Random requests of one lane: mostly sensible, often wrong in one respect."""

    def __init__(self, world, owners):
        self.world = world
        self.owners = owners
        self.kinds = {
            self.claim: 4, self.release: 1, self.ticket: 5, self.unregister: 2, self.negotiate: 3,
            self.alloc: 6, self.free: 2, self.map: 24, self.unmap: 7, self.attach: 7, self.detach: 2,
            self.replace: 4, self.dma: 40, self.translate: 8, self.invalidate: 3, self.look: 6,
            self.retry: 4, self.wish: 12, self.nest: 12, self.bind: 3, self.track: 3,
            self.read_dirty: 6,
        }  # fmt: skip
        if world.real:
            # Real devices do their DMA by themselves, between rounds: driver.real_dma().
            for make in (self.dma, self.wish, self.nest, self.bind, self.track, self.read_dirty):
                del self.kinds[make]
        self._functions = list(self.kinds)
        self._weights = list(self.kinds.values())

    def requests(self, lane):
        """A list of (method, request, copies): one that writes, or some that read."""
        rng = lane.rng
        make = rng.choices(self._functions, self._weights)[0]
        if lane.wishes and rng.random() < 0.5:
            make = self.wish
        if lane.ticket and lane.ticket.file and rng.random() < 0.1:
            make = self.ticket  # it waits and will not wait for ever
        if make in (self.dma, self.translate, self.look):
            made = [make(lane) for _ in range(rng.choice((1, 1, 2, 3)))]
            return [(m, r, 1) for m, r in filter(None, made)]
        made = make(lane)
        if made is None:
            return []
        method, request = made
        if method == "Negotiate":
            return [(method, request, 1)]
        request.scope.lease = lane.name
        if method in STREAMS:
            return [(method, request, 1)]
        copies = 1
        if make is not self.retry and method != "OpenTicket" and rng.random() < 0.25:
            lane.n_keys += 1
            request.scope.key = f"k{lane.n_keys}"
            if rng.random() < 0.15:
                copies = 2
        return [(method, request, copies)]

    # -- choosing --

    def _bad_id(self, lane, live):
        """An id that is no good here: zero, freed, another lease's, or from nowhere."""
        rng = lane.rng
        other = rng.choice(rng.choice(self.owners).lanes)
        foreign = sorted(other.lease.ioasids) if other.lease else []
        choice = rng.randrange(4)
        nowhere = rng.getrandbits(63) | 1 << 62
        if choice == 0:
            return 0
        if choice == 1 and lane.retired:
            return rng.choice(lane.retired)
        if choice == 2 and foreign:
            # Numbers of two leases may coincide; then it would be one's own.
            id_ = rng.choice(foreign)
            return nowhere if id_ in live else id_
        return nowhere

    def _space_id(self, lane, deep=False):
        spaces = sorted(lane.lease.ioasids)
        if not spaces or lane.rng.random() < 0.02:
            return self._bad_id(lane, lane.lease.ioasids)
        return lane.rng.choice(spaces)

    def _memory_id(self, lane):
        memories = sorted(lane.lease.memories)
        if not memories or lane.rng.random() < 0.02:
            return self._bad_id(lane, lane.lease.memories)
        return lane.rng.choice(memories)

    def _any_device(self, lane):
        rng = lane.rng
        roll = rng.random()
        if lane.lease.devices and roll < 0.95:
            return rng.choice(sorted(lane.lease.devices))
        if roll < 0.99:
            return rng.choice(sorted(self.world.devices))
        return rng.choice(("0000:ff:1f.7", "0001:10:00.0"))

    def _pasid(self, lane, request):
        roll = lane.rng.random()
        if roll < 0.25:
            request.pasid.value = lane.rng.choice((1, 2, 3, 255))
        elif roll < 0.27:
            request.pasid.value = lane.rng.choice((0, 256, 257, (1 << 20) - 1, 1 << 20, 0xFFFFFFFF))

    # -- devices --

    def claim(self, lane):
        rng = lane.rng
        if len(lane.lease.devices) > 3 and rng.random() < 0.8:
            return None
        groups = sorted(self.world.groups)
        free = [g for g in groups if all(self.world.devices[n].lease is None for n in self.world.groups[g])]
        group = rng.choice(free if free and rng.random() < 0.7 else groups)
        names = list(self.world.groups[group])
        roll = rng.random()
        if roll < 0.12:
            names = names[:-1] or names
        elif roll < 0.2:
            names += self.world.groups[rng.choice(sorted(self.world.groups))]
        elif roll < 0.22:
            names.append("0000:ff:1f.7")
        elif roll < 0.24:
            names = []
        return "ClaimDevice", pb.ClaimDeviceRequest(devices=names)

    def release(self, lane):
        names = [self._any_device(lane)]
        if self.world.real and names[0] in self.world.devices:
            # A real group is given back as a whole; what is in between is left to other tests.
            names = list(self.world.groups[self.world.devices[names[0]].group])
        return "ReleaseDevice", pb.ReleaseDeviceRequest(devices=names)

    # -- memory --

    def ticket(self, lane):
        """Next step of the way to a registered memory."""
        rng = lane.rng
        if lane.ticket and lane.ticket.file:
            return self._register(lane)
        if lane.ticket:
            return None  # its fd is given between rounds
        if len(lane.lease.memories) > 5 and rng.random() < 0.8:
            return None
        return "OpenTicket", pb.OpenTicketRequest(purpose=pb.TICKET_PURPOSE_MEMORY)

    def _register(self, lane):
        rng = lane.rng
        file = lane.ticket.file
        pages = file.length // PAGE
        r = pb.RegisterMemoryRequest(ticket=lane.ticket.bytes, read=True, write=rng.random() < 0.8)
        if rng.random() < 0.1:
            r.read = False
            r.write = True
        if rng.random() < 0.4:
            r.offset = rng.randrange(pages) * PAGE
        if rng.random() < 0.5:
            r.length = rng.randint(1, pages - r.offset // PAGE) * PAGE
        if lane.ticket.rounds > 30:
            # It has waited long for room: take a page that costs nothing, or just one.
            r.offset = min(lane.owner.tenant.registered.get(file) or (0,)) * PAGE
            r.length = PAGE
        r.label = rng.choice(("", "ring", "pool é", "x" * 64))
        if file is lane.tables and rng.random() < 0.9:
            # Whole, or it is of no use.
            r.offset = r.length = 0
            r.read = r.write = True
        roll = rng.random()
        if roll < 0.03:
            r.length = file.length - r.offset + PAGE
        elif roll < 0.05:
            r.offset += 1
        elif roll < 0.06:
            r.label = "y" * 65
        elif roll < 0.07:
            r.read = r.write = False
        elif roll < 0.08:
            r.ticket = bytes(rng.getrandbits(8) for _ in range(16))
        return "RegisterMemory", r

    def unregister(self, lane):
        return "UnregisterMemory", pb.UnregisterMemoryRequest(memory=self._memory_id(lane))

    # -- ioasids --

    def _alloc_request(self, lane):
        rng = lane.rng
        r = pb.AllocRequest(kind=pb.IOASID_KIND_KERNEL)
        mine = sorted(lane.lease.devices)
        if mine and rng.random() < 0.6:
            r.devices.extend(rng.sample(mine, rng.randint(1, min(2, len(mine)))))
        elif rng.random() < 0.05:
            r.devices.append(self._any_device(lane))
        roots = sorted(lane.lease.ioasids)
        if roots and rng.random() < 0.45:
            r.parent = rng.choice(roots)
            if rng.random() < 0.03:
                r.parent = self._bad_id(lane, lane.lease.ioasids)
        roll = rng.random()
        if roll < 0.75:
            numbers = rng.sample(FORMATS, rng.randint(1, len(FORMATS)))
            if rng.random() < 0.15:
                numbers.insert(0, rng.choice((pb.PAGE_TABLE_FORMAT_SV48, pb.PAGE_TABLE_FORMAT_AMDV1_4L)))
            if rng.random() < 0.02:
                numbers.append(rng.choice((0, 27, 1000)))
            for number in numbers:
                r.candidates.add().format = number
        if rng.random() < 0.1:
            r.input_bits = rng.choice((30, 39, 40, 48, 49, 57, 58, 64, 65))
        if rng.random() < (0.15 if r.kind == pb.IOASID_KIND_USER else 0.01):
            r.table_bits = rng.choice((38, 39, 39, 48, 48, 57, 64, 65))
        if rng.random() < 0.06:
            r.snoop = rng.choice((pb.SNOOP_MODE_ENFORCE, pb.SNOOP_MODE_NONE))
        if rng.random() < 0.04:
            r.pasid = True
        if not self.world.real and rng.random() < 0.3:
            r.dirty_tracking = r.kind == pb.IOASID_KIND_KERNEL
        if not self.world.real and rng.random() < 0.2:
            r.faults = True
        r.label = rng.choice(("", "", "gpa", "giova", "z" * 64))
        roll = rng.random()
        if roll < 0.01:
            r.label = "z" * 65
        elif roll < 0.02:
            r.kind = rng.choice((0, 9))
        elif roll < 0.06:
            r.kind = pb.IOASID_KIND_USER
            r.dirty_tracking = False
        elif roll < 0.065:
            r.table.root = PAGE
        elif roll < 0.07:
            r.vm = 5
        return r

    def negotiate(self, lane):
        r = pb.NegotiateRequest(alloc=self._alloc_request(lane))
        r.alloc.scope.lease = lane.name
        return "Negotiate", r

    def alloc(self, lane):
        if len(lane.lease.ioasids) > 4 and lane.rng.random() < 0.6:
            return None
        return "Alloc", self._alloc_request(lane)

    def free(self, lane):
        return "Free", pb.FreeRequest(ioasid=self._space_id(lane))

    # -- tables that the tenant writes --

    @staticmethod
    def tables_of(lane):
        """The registered memory that has all pages for tables, or None."""
        for _, m in sorted(lane.lease.memories.items()) if lane.lease else ():
            if m.file is lane.tables and m.length == PAGES * PAGE and m.write:
                return m
        return None

    def wish(self, lane):
        """What the lane's scribe asked for."""
        return lane.wishes.popleft() if lane.wishes else None

    def nest(self, lane):
        """The next thing that is missing for DMA through tables of the lane's own."""
        rng, lease = lane.rng, lane.lease
        memory = self.tables_of(lane)
        if memory is None:
            return self.ticket(lane)
        spaces = [s for _, s in sorted(lease.ioasids.items())]
        grounds = [s for s in spaces if s.kind == pb.IOASID_KIND_KERNEL and not s.parent]
        if not grounds:
            return "Alloc", self._with_devices(lane, pb.AllocRequest(kind=pb.IOASID_KIND_KERNEL))
        ready = [s for s in grounds if s.find(TABLES)]
        if not ready or (len(ready) < len(grounds) and rng.random() < 0.1):
            space = rng.choice([s for s in grounds if s not in ready])
            r = pb.MapRequest(ioasid=space.id)
            r.entries.add(
                iova=TABLES, length=PAGES * PAGE, memory=memory.id, read=True, write=rng.random() < 0.92
            )
            return "Map", r
        written = [s for s in spaces if s.kind == pb.IOASID_KIND_USER]
        idle = [s for s in written if not s.attachments]
        if idle and lease.devices and rng.random() < 0.5:
            space = rng.choice(idle)
            device = rng.choice(space.devices or sorted(lease.devices))
            pasid = 0
            if self.world.devices[device].pasid_bits and rng.random() < 0.5:
                pasid = rng.choice((1, 2, 3, 255))
            if (device, pasid) in lease.attachments and rng.random() < 0.5:
                r = pb.ReplaceRequest(device=device, ioasid=space.id)
                method = "Replace"
            else:
                r = pb.AttachRequest(device=device, ioasid=space.id)
                method = "Attach"
            if pasid:
                r.pasid.value = pasid
            return method, r
        if len(written) < 4 or rng.random() < 0.1:
            return "Alloc", self._user_request(lane, rng.choice(ready + written))
        unbound = [s for s in written if not s.table]
        if unbound:
            return self._bind_request(lane, rng.choice(unbound))
        return None

    def _with_devices(self, lane, r):
        mine = sorted(lane.lease.devices)
        if mine and lane.rng.random() < 0.8:
            r.devices.append(lane.rng.choice(mine))
        able = [self.world.devices[d].dirty for d in r.devices]
        r.dirty_tracking = r.kind == pb.IOASID_KIND_KERNEL and all(able) and lane.rng.random() < 0.5
        r.faults = all(self.world.devices[d].faults for d in r.devices) and lane.rng.random() < 0.3
        return r

    def _user_request(self, lane, parent):
        rng = lane.rng
        r = pb.AllocRequest(kind=pb.IOASID_KIND_USER, parent=parent.id)
        device = rng.choice(parent.devices) if parent.devices else None
        if device and device in lane.lease.devices:
            r.devices.append(device)
            r.faults = self.world.devices[device].faults and rng.random() < 0.3
        else:
            self._with_devices(lane, r)
        formats = self.world.devices[r.devices[0]].formats if r.devices else FORMATS
        r.candidates.add().format = rng.choice(formats)
        if rng.random() < 0.5:
            self._table(lane, r.table, r.candidates[0].format)
        return r

    def _table(self, lane, table, format_):
        """A root for it, mostly a page that is nobody else's."""
        rng = lane.rng
        taken = {p for p, s in lane.pages.items() if s.table and not s.freed}
        free = [p for p in range(PAGES) if p not in taken] or list(range(PAGES))
        table.root = TABLES + rng.choice(free) * PAGE
        roll = rng.random()
        if roll < 0.04:
            table.root = self._address(lane, rng.choice(list(lane.lease.ioasids.values()))) // PAGE * PAGE
        elif roll < 0.06:
            table.root += rng.choice((8, 1 << 47, 1 << 52, 1 << 63))
        if format_ in (pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_X86_64_5L) and rng.random() < 0.15:
            table.supervisor_request = rng.random() < 0.5
            table.write_protect = rng.random() < 0.5
            table.extended_access = rng.random() < 0.5
        if rng.random() < 0.3:
            table.format = format_
        elif rng.random() < 0.03:
            table.format = rng.choice(FORMATS)

    def bind(self, lane):
        """Binds, binds again, unbinds."""
        rng = lane.rng
        written = [s for _, s in sorted(lane.lease.ioasids.items()) if s.kind == pb.IOASID_KIND_USER]
        if not written:
            if rng.random() < 0.95:
                return None
            return "UnbindPageTable", pb.UnbindPageTableRequest(ioasid=self._space_id(lane))
        space = rng.choice(written)
        if rng.random() < (0.15 if space.table else 0.03):
            return "UnbindPageTable", pb.UnbindPageTableRequest(ioasid=space.id)
        return self._bind_request(lane, space)

    def _bind_request(self, lane, space):
        rng = lane.rng
        r = pb.BindPageTableRequest(ioasid=space.id)
        if rng.random() < 0.02:
            r.ioasid = self._space_id(lane)
        old = [s.table.root for _, s in sorted(lane.lease.ioasids.items()) if s.table]
        self._table(lane, r.table, space.format.number)
        if old and rng.random() < 0.4:
            r.table.root = rng.choice(old)  # one's own again, or another's
        return "BindPageTable", r

    # -- mappings --

    def map(self, lane):
        rng = lane.rng
        if not (lane.lease.ioasids and lane.lease.memories) and rng.random() < 0.9:
            return None
        r = pb.MapRequest(ioasid=self._space_id(lane))
        space = lane.lease.ioasids.get(r.ioasid)
        if space is not None and space.kind != pb.IOASID_KIND_KERNEL and rng.random() < 0.95:
            return None
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            self._entry(lane, space, r.entries.add())
        if rng.random() < 0.01:
            del r.entries[:]
        return "Map", r

    def _entry(self, lane, space, e):
        rng = lane.rng
        e.read = True
        e.write = rng.random() < 0.75
        if rng.random() < 0.05:
            e.read = False
        pages = rng.choice((1, 1, 2, 3, 4, 8, 16))
        memory = None
        if space is not None and space.parent:
            e.from_parent = True
            e.parent_address = self._address(lane, space.parent) // PAGE * PAGE
            if rng.random() < 0.15:
                # One large page of the child over many small ones of its parent.
                pages = 512
                e.parent_address = e.parent_address // (pages * PAGE) * (pages * PAGE)
        else:
            e.memory = self._memory_id(lane)
            memory = lane.lease.memories.get(e.memory)
            if memory:
                total = memory.length // PAGE
                if total >= 512 and rng.random() < 0.3:
                    pages = rng.choice((512, total))
                pages = min(pages, total)
                e.offset = rng.randint(0, total - pages) * PAGE
                if pages >= 512 and rng.random() < 0.7:
                    e.offset = 0
                e.write = e.write and memory.write
                e.read = e.read and memory.read
                if not e.read:
                    e.write = memory.write
                if not (e.read or e.write):
                    e.read = True
        e.length = pages * PAGE
        if rng.random() < 0.12:
            e.choose = True
        elif pages >= 512:
            e.iova = rng.choice((0x40000000, 0x80000000, 0x80000000 + 37 * PAGE))
        elif space is not None and space.starts and rng.random() < 0.3:
            # Right beside another mapping, before or behind.
            m = space.maps[rng.choice(space.starts)]
            e.iova = max(0, rng.choice((m.iova + m.length, m.iova - e.length)) % (1 << 64))
        else:
            bases = IOVA_BASES
            if space is not None and rng.random() < 0.9:
                bases = [b for b in bases if space.is_valid(b, PAGE)]
            e.iova = (rng.choice(bases) + rng.randrange(32) * PAGE) % (1 << 64)
        roll = rng.random()
        if roll < 0.008:
            e.iova = min(e.iova + 1, (1 << 64) - 1)
        elif roll < 0.014:
            e.length += rng.choice((1, 512, -1))
        elif roll < 0.018:
            e.length = 0
        elif roll < 0.024:
            if memory:
                e.offset = memory.length - e.length + PAGE
        elif roll < 0.03:
            e.iova = (1 << 64) - PAGE
            e.length = 2 * PAGE
        elif roll < 0.034:
            e.read = e.write = False
        elif roll < 0.038:
            e.from_parent = not e.from_parent
        elif roll < 0.042 and memory:
            e.read = e.write = True

    def _address(self, lane, space):
        """An address of interest in a space: in, at the edge of, or near a mapping."""
        rng = lane.rng
        if space is not None and space.vas and rng.random() < 0.9:
            va = rng.choice(list(space.vas))
            size = PAGE << 9 * (space.vas[va] - 1)
            return (va + rng.randrange(min(size, PAGES * PAGE) + PAGE)) % (1 << 64)
        if space is not None and space.starts and rng.random() < 0.9:
            m = space.maps[rng.choice(space.starts)]
            if not m.memory and rng.random() < 0.6:
                # Where the parent has something as well.
                below = space.parent.touching(m.parent_address, m.length)
                if below:
                    n = below[int(rng.random() * len(below))]
                    first = max(n.iova, m.parent_address)
                    last = min(n.iova + n.length, m.parent_address + m.length)
                    return m.iova + first - m.parent_address + rng.randrange(last - first)
            roll = rng.random()
            if roll < 0.6:
                return m.iova + rng.randrange(m.length)
            if roll < 0.8:
                return m.iova + rng.randrange(0, m.length, PAGE)
            edge = rng.choice((m.iova, m.iova + m.length))
            return max(0, edge + rng.randint(-32, 32)) & ((1 << 64) - 1)
        return (rng.choice(IOVA_BASES) + rng.randrange(64 * PAGE)) % (1 << 64)

    def unmap(self, lane):
        rng = lane.rng
        if not lane.lease.ioasids and rng.random() < 0.8:
            return None
        r = pb.UnmapRequest(ioasid=self._space_id(lane))
        space = lane.lease.ioasids.get(r.ioasid)
        if rng.random() < 0.05:
            r.all = True
            if rng.random() < 0.1:
                r.ranges.add(iova=0, length=PAGE)
            return "Unmap", r
        starts = list(space.starts) if space is not None else []
        rng.shuffle(starts)
        if lane.hot and rng.random() < 0.4:
            # What a device has used of late: in its space or in one that it is nested on.
            key, address = rng.choice(list(lane.hot))
            there = [s for s in mappings_behind(lane.lease.attachments.get(key), address) if s[0].id in lane.lease.ioasids]
            if there:
                space, m = rng.choice(there)
                r.ioasid = space.id
                starts = [m.iova]
        for start in starts[: rng.choice((1, 1, 1, 2, 4))]:
            m = space.maps[start]
            r.ranges.add(iova=m.iova, length=m.length)
        if not r.ranges:
            r.ranges.add(iova=rng.choice(IOVA_BASES), length=PAGE)
        one = rng.choice(list(r.ranges))
        roll = rng.random()
        if len(r.ranges) > 1:
            pass  # ranges that overlap each other are another matter
        elif roll < 0.08:
            one.length += PAGE * rng.randint(1, 40)
        elif roll < 0.14 and one.length > PAGE:
            one.length -= PAGE
        elif roll < 0.18 and one.length > PAGE:
            one.iova += PAGE
            one.length -= PAGE
        elif roll < 0.2:
            one.iova += 8
        elif roll < 0.22:
            one.length = 0
        elif roll < 0.24:
            one.iova = (1 << 64) - PAGE
            one.length = 2 * PAGE
        elif roll < 0.27:
            one.iova = one.iova // (256 * PAGE) * 256 * PAGE
            one.length = 1024 * PAGE
        if one.iova + one.length > (1 << 64) and one.iova != (1 << 64) - PAGE:
            one.length = (1 << 64) - one.iova
        return "Unmap", r

    # -- attachments --

    def attach(self, lane):
        if not (lane.lease.ioasids and lane.lease.devices) and lane.rng.random() < 0.9:
            return None
        r = pb.AttachRequest(device=self._any_device(lane), ioasid=self._space_id(lane))
        self._pasid(lane, r)
        return "Attach", r

    def replace(self, lane):
        if not lane.lease.attachments and lane.rng.random() < 0.8:
            return None
        r = pb.ReplaceRequest(ioasid=self._space_id(lane))
        self._attached_or_not(lane, r)
        return "Replace", r

    def detach(self, lane):
        r = pb.DetachRequest()
        self._attached_or_not(lane, r)
        return "Detach", r

    def _attached_or_not(self, lane, r):
        if lane.lease.attachments and lane.rng.random() < 0.9:
            r.device, pasid = lane.rng.choice(sorted(lane.lease.attachments))
            if pasid:
                r.pasid.value = pasid
        else:
            r.device = self._any_device(lane)
            self._pasid(lane, r)

    def invalidate(self, lane):
        rng = lane.rng
        r = pb.InvalidateRequest(ioasid=self._space_id(lane))
        space = lane.lease.ioasids.get(r.ioasid)
        for _ in range(rng.choice((1, 1, 4, 16))):
            if rng.random() < 0.3:
                r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_ALL)
            else:
                iova = self._address(lane, space) // PAGE * PAGE
                iova = min(iova, (1 << 39) - PAGE)
                r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_RANGE, iova=iova, length=PAGE)
        if rng.random() < 0.03:
            rng.choice(list(r.entries)).granularity = rng.choice((0, 6, 77))
        return "Invalidate", r

    def cure(self, lane, space, address):
        """A Map that puts a page there; None: there is none to be had."""
        page = address // PAGE * PAGE
        if space.find(page) or space.freed or not space.is_valid(page, PAGE):
            return None
        r = pb.MapRequest(ioasid=space.id)
        e = r.entries.add(iova=page, length=PAGE, read=True, write=True)
        if space.parent:
            e.from_parent = True
            e.parent_address = self._address(lane, space.parent) // PAGE * PAGE
            return r
        able = [m for _, m in sorted(lane.lease.memories.items()) if m.read and m.write and m.file is not lane.tables]
        if not able:
            return None
        memory = lane.rng.choice(able)
        e.memory = memory.id
        e.offset = lane.rng.randrange(memory.length // PAGE) * PAGE
        return r

    # -- dirty pages --

    def _tracked(self, lane, tracked):
        spaces = [s for _, s in sorted(lane.lease.ioasids.items()) if s.dirty_tracking]
        spaces = [s for s in spaces if s.dirty is not None] if tracked else spaces
        if spaces and lane.rng.random() < 0.95:
            return lane.rng.choice(spaces).id
        return self._space_id(lane)

    def track(self, lane):
        r = pb.SetDirtyTrackingRequest(ioasid=self._tracked(lane, False), enable=lane.rng.random() < 0.85)
        return "SetDirtyTracking", r

    def read_dirty(self, lane):
        rng = lane.rng
        r = pb.ReadDirtyBitmapRequest(ioasid=self._tracked(lane, True), no_clear=rng.random() < 0.4)
        space = lane.lease.ioasids.get(r.ioasid)
        if (space is None or space.dirty is None) and rng.random() < 0.9:
            return None
        r.page_size = PAGE << rng.choice((0, 0, 0, 0, 1, 4, 9))
        address = self._address(lane, space)
        if space is not None and space.dirty and space.dirty.written and rng.random() < 0.7:
            address = rng.choice(sorted(space.dirty.written))
        r.iova = address // r.page_size * r.page_size
        r.length = r.page_size * rng.choice((1, 1, 3, 8, 64, 600))
        roll = rng.random()
        if roll < 0.1:
            r.iova = 0
            r.length = 1 << 33 if r.page_size == PAGE else r.page_size << 20
        elif roll < 0.12:
            r.page_size += rng.choice((1, -PAGE, PAGE // 2))
        elif roll < 0.13:
            r.iova += 1
        elif roll < 0.14:
            r.length = rng.choice((0, 1))
        if r.iova + r.length > 1 << 64:
            r.length = r.page_size
        return "ReadDirtyBitmap", r

    # -- reading --

    def dma(self, lane):
        rng = lane.rng
        if not lane.lease.attachments and rng.random() < 0.95:
            return None
        r = pb.DeviceDmaRequest(access=WRITE if rng.random() < 0.4 else READ)
        self._attached_or_not(lane, r)
        key = (r.device, r.pasid.value if r.HasField("pasid") else 0)
        r.iova = self._address(lane, lane.lease.attachments.get(key))
        if lane.hot and rng.random() < 0.35:
            # Again where it has been, while the IOTLB may still know the way.
            (r.device, pasid), r.iova = rng.choice(list(lane.hot))
            r.ClearField("pasid")
            if pasid:
                r.pasid.value = pasid
        length = rng.choice((1, 8, 64, 100, 512, 4096, 5000, 3 * PAGE))
        if rng.random() < 0.004:
            length = 300 * PAGE if rng.random() < 0.5 else 0
        elif rng.random() < 0.01:
            length = 64 * PAGE
        if r.iova + length > 1 << 64:
            length = max(1, (1 << 64) - r.iova)
        if r.access == WRITE:
            r.data = rng.randbytes(length)
        else:
            r.length = length
        if rng.random() < 0.004:
            r.access = rng.choice((0, 4, 9))
        r.scope.lease = lane.name
        return "DeviceDma", r

    def translate(self, lane):
        r = pb.TranslateRequest(ioasid=self._space_id(lane), access=lane.rng.choice((READ, WRITE)))
        r.iova = self._address(lane, lane.lease.ioasids.get(r.ioasid))
        if lane.rng.random() < 0.01:
            r.access = lane.rng.choice((0, 4))
        r.scope.lease = lane.name
        return "Translate", r

    def look(self, lane):
        rng = lane.rng
        method = rng.choice(
            ("GetIoasid", "GetIoasid", "ListMappings", "ListMappings", "ListIoasids", "ListMemory", "ListAttachments")
        )
        r = getattr(pb, method + "Request")()
        if method in ("GetIoasid", "ListMappings"):
            r.ioasid = self._space_id(lane)
        r.scope.lease = lane.name
        return method, r

    def retry(self, lane):
        """A request that had an effect, again; now and then with other arguments."""
        rng = lane.rng
        if not lane.history:
            return None
        method, kept = rng.choice(list(lane.history))
        r = type(kept)()
        r.CopyFrom(kept)
        if rng.random() < 0.2 and hasattr(r, "ioasid"):
            r.ioasid += 1
        return method, r
