# SPDX-License-Identifier: Apache-2.0
"""What the lanes of the model test ask for: random requests, mostly sensible, often wrong.

Everything is drawn from the lane's own random numbers, and only from what is the same in
every run of a seed: never from the clock, nor from numbers that a race handed out.
"""

import ioasid_pb2 as pb
from client import STREAMS
from model import EPT, PAGE, READ, WRITE
from pasids import X86_64
from processes import BASE
from processes import PAGES as PROCESS_PAGES
from scribe import PAGES, PASIDS, TABLES, make_native, slot_of_tables, tables_of
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
            self.read_dirty: 6, self.machine: 9, self.scalable: 12, self.sva: 6,
        }  # fmt: skip
        if world.real:
            # Real devices do their DMA by themselves, between rounds: driver.real_dma().
            for make in (self.dma, self.wish, self.nest, self.bind, self.track, self.read_dirty, self.machine, self.scalable, self.sva):
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
        if method in ("Negotiate", "DeviceDma"):
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
            request.pasid.value = lane.rng.choice(PASIDS)
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
                numbers.insert(0, rng.choice((pb.PAGE_TABLE_FORMAT_SV48, pb.PAGE_TABLE_FORMAT_AMDV1_4L, EPT[0])))
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

    def wish(self, lane):
        """What the lane's scribe asked for."""
        return lane.wishes.popleft() if lane.wishes else None

    def nest(self, lane):
        """The next thing that is missing for DMA through tables of the lane's own."""
        rng, lease = lane.rng, lane.lease
        memory = tables_of(lane)
        if memory is None:
            return self.ticket(lane)
        spaces = [s for _, s in sorted(lease.ioasids.items())]
        grounds = [s for s in spaces if s.kind in (pb.IOASID_KIND_KERNEL, pb.IOASID_KIND_KVM) and not s.parent]
        if not grounds:
            return "Alloc", self._with_devices(lane, pb.AllocRequest(kind=pb.IOASID_KIND_KERNEL))
        ready = [s for s in grounds if s.backs(TABLES)]
        if not ready or (len(ready) < len(grounds) and rng.random() < 0.1):
            space = rng.choice([s for s in grounds if s not in ready])
            if space.vm and space.vm.freed:
                return None
            if space.vm:
                return "SetMemorySlot", slot_of_tables(lane, space.vm, memory)
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
            if self.world.devices[device].pasid_bits and rng.random() < (0.1 if space.pasid_table else 0.5):
                pasid = rng.choice(PASIDS)
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
        unbound = [s for s in written if not s.is_bound()]
        if unbound:
            return self._some_bind(lane, rng.choice(unbound))
        return None

    def scalable(self, lane):
        """The next thing that is missing for DMA through a PASID table of the lane's own."""
        rng, lease = lane.rng, lane.lease
        if lane.owner.tenant.pasid_policy != "identity":
            return None
        able = [d for d in sorted(lease.devices) if self.world.devices[d].pasid_tables]
        if not able:
            groups = [names for _, names in sorted(self.world.groups.items()) if self.world.devices[names[0]].pasid_tables]
            free = [names for names in groups if all(self.world.devices[n].lease is None for n in names)]
            return ("ClaimDevice", pb.ClaimDeviceRequest(devices=rng.choice(free))) if free else None
        spaces = [s for _, s in sorted(lease.ioasids.items())]
        written = [s for s in spaces if s.kind == pb.IOASID_KIND_USER and s.format.sign_extended]
        whole = [s for s in written if s.pasid_table]
        by = [d for (d, pasid), s in sorted(lease.attachments.items(), key=lambda a: a[0]) if s in whole and not pasid]
        if by:
            return self._stand_in(lane, rng.choice(by), written) or self.nest(lane)
        if whole:
            space = rng.choice(whole)
            device = rng.choice([d for d in space.devices if d in able] or able)
            if (device, 0) in lease.attachments:
                return "Replace", pb.ReplaceRequest(device=device, ioasid=space.id)
            return "Attach", pb.AttachRequest(device=device, ioasid=space.id)
        grounded = [s for s in written if s.parent.backs(TABLES)]
        if len(written) > 1 and grounded:
            return self._pasid_bind_request(lane, rng.choice(grounded))
        grounds = [s for s in spaces if not s.parent and s.backs(TABLES) and (not s.devices or s.devices[0] in able)]
        if not grounds:
            return self.nest(lane)
        r = self._user_request(lane, rng.choice(grounds))
        r.candidates[0].format = X86_64[0]
        return "Alloc", r

    def _stand_in(self, lane, device, written):
        """A space for one entry of a device's PASID table, by which the tenant names it."""
        pasids = [p for p in sorted(lane.lease.attachments[device, 0].led) if p and (device, p) not in lane.lease.attachments]
        if not pasids or lane.rng.random() < 0.3:
            return None
        r = pb.AttachRequest(device=device, ioasid=lane.rng.choice(written).id)
        r.pasid.value = lane.rng.choice(pasids)
        return "Attach", r

    def _with_devices(self, lane, r):
        mine = sorted(lane.lease.devices)
        if mine and lane.rng.random() < 0.8:
            r.devices.append(lane.rng.choice(mine))
        able = [self.world.devices[d].dirty for d in r.devices]
        r.dirty_tracking = r.kind != pb.IOASID_KIND_KVM and all(able) and lane.rng.random() < 0.5
        r.faults = all(self.world.devices[d].faults for d in r.devices) and lane.rng.random() < 0.3
        return r

    def _user_request(self, lane, parent):
        rng = lane.rng
        r = pb.AllocRequest(kind=pb.IOASID_KIND_USER, parent=parent.id)
        device = rng.choice(parent.devices) if parent.devices else None
        if device and device in lane.lease.devices:
            r.devices.append(device)
            r.faults = self.world.devices[device].faults and rng.random() < 0.3
            r.dirty_tracking = self.world.devices[device].dirty and rng.random() < 0.75
        else:
            self._with_devices(lane, r)
        formats = self.world.devices[r.devices[0]].formats if r.devices else FORMATS
        r.candidates.add().format = rng.choice([f for f in formats if f not in EPT])
        if rng.random() < 0.5:
            self._table(lane, r.table, r.candidates[0].format)
        return r

    def _table(self, lane, table, format_):
        """A root for it, mostly a page that is nobody else's."""
        rng = lane.rng
        taken = {p for p, s in lane.pages.items() if s.is_bound() and not s.freed}
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
            method = rng.choice(("UnbindPageTable", "UnbindPasidTable"))
            return method, getattr(pb, method + "Request")(ioasid=self._space_id(lane))
        space = rng.choice(written)
        if rng.random() < (0.15 if space.table else 0.02):
            return "UnbindPageTable", pb.UnbindPageTableRequest(ioasid=space.id)
        if rng.random() < (0.1 if space.pasid_table else 0.02):
            return "UnbindPasidTable", pb.UnbindPasidTableRequest(ioasid=space.id)
        if space.pasid_table and rng.random() < 0.8:
            return None
        return self._some_bind(lane, space)

    def _some_bind(self, lane, space):
        """A table, or a PASID table where it is of use, and now and then where it is not."""
        able = space.format.sign_extended and lane.owner.tenant.pasid_policy == "identity"
        whole = sum(1 for s in lane.lease.ioasids.values() if s.pasid_table)
        if lane.rng.random() < ((0.6 if not whole else 0.3) if able else 0.03):
            return self._pasid_bind_request(lane, space)
        return self._bind_request(lane, space)

    def _pasid_bind_request(self, lane, space):
        rng = lane.rng
        r = pb.BindPasidTableRequest(ioasid=space.id, format=pb.PASID_TABLE_FORMAT_VTD)
        table = pb.PageTable()
        self._table(lane, table, space.format.number)
        old = [s.pasid_table.root for _, s in sorted(lane.lease.ioasids.items()) if s.pasid_table]
        r.root = rng.choice(old) if old and rng.random() < 0.4 else table.root
        r.pasid_bits = rng.choice((8, 8, 10, 20, 20, 7))
        roll = rng.random()
        if roll < 0.02:
            r.pasid_bits = rng.choice((0, 21, 1 << 31))
        elif roll < 0.04:
            r.format = rng.choice((0, 2, 3, 77))
        elif roll < 0.05:
            r.shape = 1
        elif roll < 0.06:
            r.ioasid = self._space_id(lane)
        return "BindPasidTable", r

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

    # -- virtual machines --

    def machine(self, lane):
        """The next thing that is missing for DMA into a VM, or a change of its slots."""
        rng, lease = lane.rng, lane.lease
        vms = [vm for _, vm in sorted(lease.vms.items())]
        if not vms or rng.random() < 0.04:
            return "CreateVm", pb.CreateVmRequest(label=rng.choice(("", "guest", "v" * 64, "v" * 65)))
        if rng.random() < 0.03:
            return "DestroyVm", pb.DestroyVmRequest(vm=self._vm_id(lane))
        spaces = [s for _, s in sorted(lease.ioasids.items()) if s.vm]
        if len(spaces) < 2 and rng.random() < 0.5:
            return "Alloc", self._vm_request(lane)
        idle = [s for s in spaces if not s.attachments and not s.children]
        if idle and lease.devices and rng.random() < 0.4:
            space = rng.choice(idle)
            r = pb.AttachRequest(device=rng.choice(space.devices or sorted(lease.devices)), ioasid=space.id)
            self._pasid(lane, r)
            return "Attach", r
        return "SetMemorySlot", self._slot(lane, rng.choice(vms))

    def _vm_id(self, lane):
        vms = sorted(lane.lease.vms)
        if not vms or lane.rng.random() < 0.03:
            return self._bad_id(lane, vms)
        return lane.rng.choice(vms)

    def _vm_request(self, lane):
        rng = lane.rng
        r = pb.AllocRequest(kind=pb.IOASID_KIND_KVM, vm=self._vm_id(lane))
        mine = [d for d in sorted(lane.lease.devices) if set(EPT) & set(self.world.devices[d].formats)]
        if mine and rng.random() < 0.7:
            r.devices.append(rng.choice(mine))
        elif rng.random() < 0.2:
            r.devices.append(self._any_device(lane))
        roll = rng.random()
        if roll < 0.3:
            r.candidates.add().format = rng.choice(EPT)
        elif roll < 0.35:
            r.candidates.add().format = rng.choice(FORMATS)
        elif roll < 0.4:
            r.input_bits = rng.choice((39, 48, 57, 58))
        roll = rng.random()
        if roll < 0.03:
            r.parent = self._space_id(lane)
        elif roll < 0.05:
            r.faults = True
        elif roll < 0.07:
            r.dirty_tracking = True
        elif roll < 0.08:
            r.table.root = PAGE
        elif roll < 0.1:
            r.snoop = rng.choice((pb.SNOOP_MODE_ENFORCE, pb.SNOOP_MODE_NONE))
        return r

    def _slot(self, lane, vm):
        """A new slot, one that moves, or one that goes."""
        rng = lane.rng
        r = pb.SetMemorySlotRequest(vm=vm.id, slot=rng.randrange(6))
        if rng.random() < 0.02:
            r.vm = self._vm_id(lane)
        old = vm.slots.get(r.slot)
        hot = [(k, a) for k, a in lane.hot if lane.lease.attachments.get(k) and lane.lease.attachments[k].vm is vm]
        if hot and rng.random() < 0.5:
            # What a device has used of late.
            address = rng.choice(hot)[1]
            r.slot = next((n for n, s in sorted(vm.slots.items()) if s is vm.find(address)), r.slot)
            old = vm.slots.get(r.slot)
        if old and rng.random() < 0.55:
            return r  # deleted
        if old:
            r.size, r.offset, r.memory, r.read_only = old.length, old.offset, old.memory.id, old.read_only
        else:
            self._new_slot(lane, r)
        bases = (0, 0x10000, 0x200000, 0x40000000, TABLES, 0xFEDF0000, 1 << 32, (1 << 48) - 8 * PAGE, (1 << 57) - 16 * PAGE)
        r.guest_address = rng.choice(bases) + rng.randrange(16) * PAGE
        if r.size >= 512 * PAGE and rng.random() < 0.6:
            r.guest_address = rng.choice((0x40000000, 0x80000000)) + r.offset % (512 * PAGE)
        elif old and rng.random() < 0.4:
            r.guest_address = max(0, old.address + rng.choice((-2, -1, 0, 1, 2)) * PAGE)
        elif vm.slots and rng.random() < 0.3:
            # Beside another.
            start, length = rng.choice(vm.extents())
            r.guest_address = max(0, rng.choice((start + length, start - r.size)))
        roll = rng.random()
        if roll < 0.01:
            r.guest_address += 8
        elif roll < 0.02:
            r.size += rng.choice((1, PAGE, -1))
        elif roll < 0.03:
            r.offset += rng.choice((PAGE, 512))
        elif roll < 0.04:
            r.slot = rng.choice((32763, 32764, (1 << 32) - 1))
        elif roll < 0.05:
            r.guest_address = rng.choice(((1 << 57) - PAGE, (1 << 64) - PAGE, 1 << 57))
        elif roll < 0.06:
            r.read_only = not r.read_only
        elif roll < 0.07:
            r.memory = self._memory_id(lane)
        return r

    def _new_slot(self, lane, r):
        rng = lane.rng
        tables = tables_of(lane)
        if tables and rng.random() < 0.25:
            r.memory, r.size = tables.id, PAGES * PAGE
            return
        r.memory = self._memory_id(lane)
        memory = lane.lease.memories.get(r.memory)
        total = memory.length // PAGE if memory else 16
        pages = rng.choice((1, 1, 2, 3, 4, 8, 16))
        if total >= 512 and rng.random() < 0.5:
            pages = rng.choice((512, 513, total))
        pages = min(pages, total)
        r.size = pages * PAGE
        r.offset = rng.randint(0, total - pages) * PAGE if rng.random() < 0.6 else 0
        r.read_only = rng.random() < 0.15 or (memory is not None and not memory.write and rng.random() < 0.9)

    # -- processes --

    def sva(self, lane):
        """The next thing that is missing for DMA into the process."""
        rng, lease = lane.rng, lane.lease
        spaces = [s for _, s in sorted(lease.ioasids.items()) if s.kind == pb.IOASID_KIND_PROCESS]
        alive = [s for s in spaces if s.service]
        if len(alive) < 2 and (rng.random() < 0.5 if lease.service else rng.random() < 0.05):
            r = pb.AllocRequest(kind=pb.IOASID_KIND_PROCESS)
            mine = sorted(lease.devices)
            if mine and rng.random() < 0.5:
                r.devices.append(rng.choice(mine))
            roll = rng.random()
            if roll < 0.03:
                r.parent = self._space_id(lane)
            elif roll < 0.06:
                r.candidates.add().format = rng.choice(FORMATS)
            elif roll < 0.08:
                r.faults = True
            elif roll < 0.1:
                r.dirty_tracking = True
            elif roll < 0.12:
                r.table.root = PAGE
            elif roll < 0.14:
                r.vm = 1
            elif roll < 0.2:
                r.snoop = rng.choice((pb.SNOOP_MODE_ENFORCE, pb.SNOOP_MODE_NONE))
            elif roll < 0.25:
                r.pasid = True
            return "Alloc", r
        dead = [s for s in spaces if not s.service]
        if dead and rng.random() < 0.2:
            return "Free", pb.FreeRequest(ioasid=rng.choice(dead).id)
        idle = [s for s in alive if not s.attachments]
        if idle and lease.devices:
            space = rng.choice(idle)
            r = pb.AttachRequest(device=rng.choice(space.devices or sorted(lease.devices)), ioasid=space.id)
            self._pasid(lane, r)
            return "Attach", r
        return None

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
        if space is not None and space.pasid_table:
            # Its entries lead to tables of the lane's others.
            others = [s for _, s in sorted(lane.lease.ioasids.items()) if s.table and s.format.sign_extended and s.vas]
            space = rng.choice(others) if others else space
        if space is not None and space.kind == pb.IOASID_KIND_PROCESS and rng.random() < 0.95:
            return BASE - PAGE + rng.randrange((PROCESS_PAGES + 2) * PAGE)
        if space is not None and space.vas and rng.random() < 0.9:
            va = rng.choice(list(space.vas))
            size = PAGE << 9 * (space.vas[va] - 1)
            return (va + rng.randrange(min(size, PAGES * PAGE) + PAGE)) % (1 << 64)
        if space is not None and space.vm and space.vm.slots and rng.random() < 0.9:
            start, length = rng.choice(space.extents())
            if rng.random() < 0.8:
                return start + rng.randrange(length)
            return max(0, rng.choice((start, start + length)) + rng.randint(-32, 32))
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
        if space is not None and space.kind == pb.IOASID_KIND_USER and rng.random() < 0.3:
            e = r.entries.add(granularity=rng.choice((pb.INVALIDATE_GRANULARITY_PASID, pb.INVALIDATE_GRANULARITY_PASID_CACHE)))
            if e.granularity == pb.INVALIDATE_GRANULARITY_PASID_CACHE and not space.pasid_table and rng.random() < 0.9:
                e.granularity = pb.INVALIDATE_GRANULARITY_PASID
            if rng.random() < 0.95:
                e.pasid.value = rng.choice(PASIDS) if rng.random() < 0.97 else rng.choice((0, 1 << 20))
        if rng.random() < 0.15 and not self.world.real:
            e = r.entries.add(granularity=pb.INVALIDATE_GRANULARITY_DEVICE_TLB)
            tlbs = [d for d in sorted(lane.lease.devices) if self.world.devices[d].tlb]
            if rng.random() < 0.5:
                e.device = rng.choice(tlbs) if tlbs and rng.random() < 0.9 else self._any_device(lane)
            if rng.random() < 0.5:
                e.iova = min(self._address(lane, space) // PAGE * PAGE, (1 << 39) - PAGE)
                e.length = PAGE * rng.choice((1, 1, 8)) if rng.random() < 0.95 else 0
            if not tlbs and rng.random() < 0.9:
                r.entries.pop()
        if rng.random() < 0.03:
            rng.choice(list(r.entries)).granularity = rng.choice((0, 6, 77))
        written = space is not None and space.kind == pb.IOASID_KIND_USER and space.format.sign_extended
        if rng.random() < (0.3 if written else 0.03) and not self.world.real:
            make_native(rng, r)
        return "Invalidate", r

    def cure(self, lane, space, address):
        """(method, request) that puts a page there; None: there is none to be had."""
        page = address // PAGE * PAGE
        if space.backs(page) or space.freed or not space.is_valid(page, PAGE):
            return None
        able = [m for _, m in sorted(lane.lease.memories.items()) if m.read and m.write and m.file is not lane.tables]
        if space.vm:
            if not able or space.vm.freed:
                return None
            free = next(n for n in range(len(space.vm.slots) + 1) if n not in space.vm.slots)
            return "SetMemorySlot", pb.SetMemorySlotRequest(
                vm=space.vm.id, slot=free, guest_address=page, size=PAGE, memory=lane.rng.choice(able).id
            )
        r = pb.MapRequest(ioasid=space.id)
        e = r.entries.add(iova=page, length=PAGE, read=True, write=True)
        if space.parent:
            e.from_parent = True
            e.parent_address = self._address(lane, space.parent) // PAGE * PAGE
            return "Map", r
        if not able:
            return None
        memory = lane.rng.choice(able)
        e.memory = memory.id
        e.offset = lane.rng.randrange(memory.length // PAGE) * PAGE
        return "Map", r

    # -- dirty pages --

    def _tracked(self, lane, tracked):
        spaces = [s for _, s in sorted(lane.lease.ioasids.items()) if s.dirty_tracking]
        spaces = [s for s in spaces if s.dirty is not None] if tracked else spaces
        own = [s for _, s in self._attached_own(lane) if s.dirty_tracking and (s.dirty is not None) == tracked]
        if own and lane.rng.random() < 0.6:
            return lane.rng.choice(own).id
        if spaces and lane.rng.random() < 0.95:
            return lane.rng.choice(spaces).id
        return self._space_id(lane)

    @staticmethod
    def _attached_own(lane):
        """[(device, PASID), space]: by tables of the tenant's own."""
        attached = sorted(lane.lease.attachments.items(), key=lambda a: a[0])
        return [(key, s) for key, s in attached if s.table]

    def track(self, lane):
        r = pb.SetDirtyTrackingRequest(ioasid=self._tracked(lane, False), enable=lane.rng.random() < 0.85)
        return "SetDirtyTracking", r

    def read_dirty(self, lane):
        rng = lane.rng
        idle = [s for _, s in self._attached_own(lane) if s.dirty_tracking and s.dirty is None]
        if idle and rng.random() < 0.6:
            return "SetDirtyTracking", pb.SetDirtyTrackingRequest(ioasid=rng.choice(idle).id, enable=True)
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
        whole = [d for (d, p), s in sorted(lane.lease.attachments.items(), key=lambda a: a[0]) if s.pasid_table and not p]
        if whole and rng.random() < 0.7:
            r.device = rng.choice(whole)
            r.ClearField("pasid")
            set_ = sorted(lane.lease.attachments[r.device, 0].led)
            pasid = rng.choice(set_ if set_ and rng.random() < 0.85 else PASIDS)
            if pasid:
                r.pasid.value = pasid
        pasid = r.pasid.value if r.HasField("pasid") else 0
        space = self.world.goes_by(lane.lease, r.device, pasid)
        if space is not None and space.pasid_table:
            space = space.led.get(pasid, space)
        r.iova = self._address(lane, space)
        if lane.hot and rng.random() < 0.35:
            # Again where it has been, while the IOTLB may still know the way.
            (r.device, pasid), r.iova = rng.choice(list(lane.hot))
            r.ClearField("pasid")
            if pasid:
                r.pasid.value = pasid
        tracked = [(key, s) for key, s in self._attached_own(lane) if s.dirty is not None and (s.dirty.written or s.vas)]
        if tracked and rng.random() < 0.4:
            # Again where it has written, while the IOTLB may know the page for dirty.
            (r.device, pasid), space = rng.choice(tracked)
            r.ClearField("pasid")
            if pasid:
                r.pasid.value = pasid
            r.iova = rng.choice(sorted(space.dirty.written) or list(space.vas)) + rng.randrange(PAGE)
            r.access = WRITE if rng.random() < 0.8 else READ
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
