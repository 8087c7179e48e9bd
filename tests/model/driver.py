# SPDX-License-Identifier: Apache-2.0
"""The model test: 3 tenants, several connections each, a broker, and a model that knows better.

Concurrent and exactly checked, both.  The test proceeds in rounds.  In a round every lane (a
lease: that of each connection, and a named one each tenant passes between its connections)
puts one operation in flight, or several that only read, all at the same time and on their
own connections; then the answers are gathered, each compared with what the model foretold,
and the effects applied to the model.  For the forecast to be one value and not a set, the
operations of a round must commute, and Round.admit() sees to it:
  - what an operation's answer depends on, and what it changes, are sets of parts of the state
    (an IOASID, a device, the bytes of a file, who pins its pages): no operation is admitted
    whose writes meet another's reads or writes;
  - a quota couples everybody under one parent.  An operation is expected to pass only if it
    fits on top of all that the others of the round could be charged, and to be refused only if
    it does not fit after all that they could give back.  In between, it depends on the order;
    it then waits for another round.
Races whose winner is nobody's to foretell are run as contests between rounds: everybody
claims the same device, allocates the last n units of a limit (the tenant's, or their
parent's), opens the same name; exactly n must win and everyone else must be refused for that
one reason.  The winners give back what they won, so the state does not depend on who won,
and the same seed replays the same test.

Other things that happen between and beside rounds: a connection is killed with calls in
flight while the others go on, and its lease must vanish; a named lease that it held is
adopted by the tenant's other connection; requests are repeated with their idempotency key,
also twice at once; at audits everything is at rest and every list, every counter of every
tenant and their parents, and every byte of every file is compared.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time

import ioasid_pb2 as pb
from client import PAGE, Connection, File, Server
from model import FORMATS, READ, STATUS, WRITE, Device, Plan, World, differ

MIB = 1 << 20
GIB = 1 << 30
ORG = "org"
TENANTS = {"org/red": 50001, "org/green": 50002, "org/blue": 50003}
SLOTS = 2  # connections of a tenant
CONTEST_EVERY = 40  # rounds
KILL_EVERY = 90
AUDIT_EVERY = 400

# ---- the world of the test -------------------------------------------------------------

X4, X5 = pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_X86_64_5L
V3, V4, V5 = pb.PAGE_TABLE_FORMAT_VTDSS_3L, pb.PAGE_TABLE_FORMAT_VTDSS_4L, pb.PAGE_TABLE_FORMAT_VTDSS_5L
FORMAT_WORDS = {X4: "x86_64-4l", X5: "x86_64-5l", V3: "vtdss-3l", V4: "vtdss-4l", V5: "vtdss-5l"}

MSI = (0xFEE00000, 0xFEEFFFFF)
IOMMUS = {
    "dmar0": dict(formats=[X4, V3, V4], pasid_bits=20, snoop=True, depth=4, reserved=[MSI]),
    "dmar1": dict(formats=[V4, V5], pasid_bits=0, snoop=False, depth=4, reserved=[MSI, (0, 0xFFFF)]),
    "dmar2": dict(formats=[X4, X5, V4, V5], pasid_bits=8, snoop=True, depth=3, reserved=[]),
}
# (bus, IOMMU, devices in the group)
GROUPS = [
    ("10", "dmar0", 1), ("11", "dmar0", 1), ("12", "dmar0", 2), ("13", "dmar0", 1), ("14", "dmar0", 1),
    ("15", "dmar0", 1), ("20", "dmar1", 1), ("21", "dmar1", 1), ("22", "dmar1", 3), ("23", "dmar1", 1),
    ("30", "dmar2", 1), ("31", "dmar2", 1), ("32", "dmar2", 2), ("33", "dmar2", 1), ("34", "dmar2", 1),
]  # fmt: skip

TENANT_LIMITS = {
    "ioasids": 12, "pasids": 4, "devices": 7, "map_entries": 60, "registered_bytes": 1300 * PAGE,
    "mapped_bytes": 1400 * PAGE, "pinned_bytes": 1200 * PAGE, "leases": 5, "connections": 3,
    "kept_fds": 18, "nesting_depth": 3, "children_per_parent": 3,
}  # fmt: skip
ORG_LIMITS = {
    "ioasids": 30, "pasids": 9, "devices": 16, "map_entries": 150, "registered_bytes": 1500 * PAGE,
    "mapped_bytes": 2400 * PAGE, "pinned_bytes": 1400 * PAGE, "leases": 13, "connections": 8,
    "kept_fds": 46,
}  # fmt: skip
RESERVED = {"org/red": {"ioasids": 6, "map_entries": 20}, "org/green": {"devices": 4}}


def model_devices():
    devices = []
    for number, (bus, iommu, n) in enumerate(GROUPS):
        caps = IOMMUS[iommu]
        for function in range(n):
            devices.append(
                Device(
                    f"0000:{bus}:00.{function}", iommu, number + 1, caps["formats"], caps["reserved"],
                    caps["pasid_bits"], caps["snoop"], caps["depth"],
                )
            )  # fmt: skip
    return devices


def quota_tree():
    tree = {
        "": dict(parent=None, limits={}, reserved={}),
        ORG: dict(parent="", limits=ORG_LIMITS, reserved={}),
    }
    for path in TENANTS:
        tree[path] = dict(parent=ORG, limits=TENANT_LIMITS, reserved=RESERVED.get(path, {}))
    return tree


def topology_json():
    iommus = []
    for name, caps in IOMMUS.items():
        iommus.append(
            {
                "name": name,
                "formats": [FORMAT_WORDS[n] for n in caps["formats"]],
                "pasid_bits": caps["pasid_bits"],
                "max_depth": caps["depth"],
                "snoop_control": caps["snoop"],
                # Small, so that entries are evicted and come back all the time.
                "iotlb_entries": 16,
                "reserved": [
                    {"start": hex(start), "last": hex(last), "use": "msi"} for start, last in caps["reserved"]
                ],
            }
        )
    devices = [
        {"address": d.address, "vendor_device": "8086:10fb", "class": "020000", "iommu": d.iommu, "group": d.group}
        for d in model_devices()
    ]
    return json.dumps({"version": 1, "iommus": iommus, "devices": devices}, indent=1)


def policy_json():
    tenants = {ORG: {"devices": [{"any": True}], "limits": ORG_LIMITS}}
    identities = [{"socket": "admin", "uid": 0, "role": "admin"}]
    for path, uid in TENANTS.items():
        tenants[path] = {"limits": TENANT_LIMITS, "reservations": RESERVED.get(path, {})}
        identities.append({"socket": "tenants", "uid": uid, "role": "tenant", "tenant": path})
    return json.dumps({"version": 1, "tenants": tenants, "identities": identities}, indent=1)


class Divergence(Exception):
    pass


# ---- lanes -----------------------------------------------------------------------------


class Ticket:
    def __init__(self, ticket):
        self.bytes = ticket
        self.opened = time.monotonic()
        self.file = None  # what was given with it


class Lane:
    """One lease and whoever speaks for it."""

    def __init__(self, owner, name, slot, seed):
        self.owner = owner
        self.name = name  # "": the connection lease
        self.slot = slot  # of the connection that holds it; None: nobody does
        self.label = f"{owner.path.rsplit('/', 1)[-1]}{slot if not name else name}"
        self.rng = random.Random(f"{seed}/{self.label}")
        self.lease = None
        self.secret = None
        self.ticket = None
        self.history = collections.deque(maxlen=24)  # keyed requests that had an effect
        self.n_keys = 0
        self.retired = []  # ids that the lease had
        self.files = []


class Owner:
    """A tenant of the model with its connections."""

    def __init__(self, tenant, uid):
        self.tenant = tenant
        self.path = tenant.path
        self.uid = uid
        self.connections = [None] * SLOTS
        self.lanes = []
        self.unsure_refusals = 0


class Flight:
    """A request in flight, perhaps twice, and what it must come to."""

    __slots__ = ("lane", "plan", "futures")

    def __init__(self, lane, plan, copies):
        self.lane = lane
        self.plan = plan
        self.futures = [None] * copies


class Round:
    """Operations that may be in flight together: they commute (see the top)."""

    def __init__(self, quota):
        self.quota = quota
        self.reads = set()
        self.writes = set()
        self.charged = {}
        self.released = {}
        self.refused = []  # (tenant path, charges) that must not fit in any order
        self.flights = []

    def _certain(self, path, charges):
        """True: fits in any order; False: in none; None: it depends."""
        if not charges:
            return True
        high = dict(self.charged)
        for resource, amount in charges.items():
            high[path, resource] = high.get((path, resource), 0) + amount
        fits = True
        for resource in {r for (_, r), amount in high.items() if amount}:
            for node in self.quota.own:
                need = self.quota.need(node, resource, high)
                limit = self.quota.limit[node].get(resource)
                if limit is not None and need > limit and need > self.quota.need(node, resource, {}):
                    fits = False
        if fits:
            return True
        low = {k: -min(v, self.quota.own[k[0]][k[1]]) for k, v in self.released.items()}
        return False if not self.quota.fits(path, charges, low) else None

    def admit(self, plan, path):
        """Whether it may fly with the others.  Settles its quota verdict."""
        if plan.writes & self.writes or plan.writes & self.reads or plan.reads & self.writes:
            return False
        verdict = True
        if not plan.refusals:
            verdict = self._certain(path, plan.charges)
            if verdict is None:
                return False
        if verdict is False:
            plan.refuse("QUOTA")
            self.refused.append((path, dict(plan.charges)))
        elif plan.refusals:
            if self._certain(path, plan.maybe) is not True:
                plan.refuse("QUOTA")
        elif not plan.replay:
            if plan.releases and not self._refusals_stand(path, plan.releases):
                return False
            for resource, amount in plan.charges.items():
                self.charged[path, resource] = self.charged.get((path, resource), 0) + amount
            for resource, amount in plan.releases.items():
                self.released[path, resource] = self.released.get((path, resource), 0) + amount
        self.reads |= plan.reads
        self.writes |= plan.writes
        return True

    def _refusals_stand(self, path, releases):
        if not self.refused:
            return True
        low = dict(self.released)
        for resource, amount in releases.items():
            low[path, resource] = low.get((path, resource), 0) + amount
        low = {k: -min(v, self.quota.own[k[0]][k[1]]) for k, v in low.items()}
        return all(not self.quota.fits(p, charges, low) for p, charges in self.refused)


# ---- what lanes do ---------------------------------------------------------------------

IOVA_BASES = [
    0, 0x10000, 0x200000, 0x3F0000, 0xFEDF0000, 0xFEEF8000, 0x100000000,
    (1 << 39) - 16 * PAGE, (1 << 47) - 16 * PAGE, (1 << 48) - 16 * PAGE, (1 << 57) - 16 * PAGE,
    (1 << 64) - 16 * PAGE,
]  # fmt: skip


class Generator:
    """Random requests of one lane: mostly sensible, often wrong in one respect."""

    def __init__(self, world, owners):
        self.world = world
        self.owners = owners
        self.kinds = {
            self.claim: 4, self.release: 1, self.ticket: 5, self.unregister: 2, self.negotiate: 3,
            self.alloc: 6, self.free: 2, self.map: 24, self.unmap: 7, self.attach: 7, self.detach: 2,
            self.replace: 4, self.dma: 40, self.translate: 8, self.invalidate: 3, self.look: 6,
            self.retry: 4,
        }  # fmt: skip
        self._functions = list(self.kinds)
        self._weights = list(self.kinds.values())

    def requests(self, lane):
        """A list of (method, request, copies): one that writes, or some that read."""
        rng = lane.rng
        make = rng.choices(self._functions, self._weights)[0]
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
        return "ReleaseDevice", pb.ReleaseDeviceRequest(devices=[self._any_device(lane)])

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
        r.label = rng.choice(("", "ring", "pool é", "x" * 64))
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
            numbers = rng.sample((X4, X5, V3, V4, V5), rng.randint(1, 5))
            if rng.random() < 0.15:
                numbers.insert(0, rng.choice((pb.PAGE_TABLE_FORMAT_SV48, pb.PAGE_TABLE_FORMAT_AMDV1_4L)))
            if rng.random() < 0.02:
                numbers.append(rng.choice((0, 27, 1000)))
            for number in numbers:
                r.candidates.add().format = number
        if rng.random() < 0.1:
            r.input_bits = rng.choice((30, 39, 40, 48, 49, 57, 58, 64, 65))
        if rng.random() < 0.06:
            r.snoop = rng.choice((pb.SNOOP_MODE_ENFORCE, pb.SNOOP_MODE_NONE))
        if rng.random() < 0.04:
            r.pasid = True
        r.label = rng.choice(("", "", "gpa", "giova", "z" * 64))
        roll = rng.random()
        if roll < 0.01:
            r.label = "z" * 65
        elif roll < 0.02:
            r.kind = rng.choice((0, pb.IOASID_KIND_PROCESS, pb.IOASID_KIND_KVM, 9))
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

    # -- mappings --

    def map(self, lane):
        rng = lane.rng
        if not (lane.lease.ioasids and lane.lease.memories) and rng.random() < 0.9:
            return None
        r = pb.MapRequest(ioasid=self._space_id(lane))
        space = lane.lease.ioasids.get(r.ioasid)
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
        if space is not None and space.starts and rng.random() < 0.9:
            m = space.maps[rng.choice(space.starts)]
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

    # -- reading --

    def dma(self, lane):
        rng = lane.rng
        if not lane.lease.attachments and rng.random() < 0.95:
            return None
        r = pb.DeviceDmaRequest(access=WRITE if rng.random() < 0.4 else READ)
        self._attached_or_not(lane, r)
        key = (r.device, r.pasid.value if r.HasField("pasid") else 0)
        r.iova = self._address(lane, lane.lease.attachments.get(key))
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


# ---- the test --------------------------------------------------------------------------


class Test:
    def __init__(self, arguments, sockets, server):
        self.seed = arguments.seed
        self.target = arguments.ops
        self.server = server
        self.tenant_socket, self.admin_socket = sockets
        self.rng = random.Random(f"{self.seed}/test")
        self.world = World(model_devices(), quota_tree(), TENANTS)
        self.n = 0  # operations answered and compared
        self.rounds = 0
        self.tally = collections.Counter()
        self.recent = collections.deque(maxlen=20)
        self.most_in_flight = 0
        self.admin = Connection(self.admin_socket, os.geteuid())
        self.owners = []
        self.files = []
        for path, uid in TENANTS.items():
            owner = Owner(self.world.tenants[path], uid)
            self.owners.append(owner)
            shared = self._new_file(f"{path}/shared", 24)
            for slot in range(SLOTS):
                self._connect(owner, slot)
                owner.lanes.append(Lane(owner, "", slot, self.seed))
            owner.lanes.append(Lane(owner, "pool", None, self.seed))
            for lane in owner.lanes:
                lane.files = [
                    shared,
                    self._new_file(f"{lane.label}/small", 12),
                    self._new_file(f"{lane.label}/medium", 48),
                ]
            owner.lanes[0].files.append(self._new_file(f"{path}/huge", 1024 + 64))
        self.generator = Generator(self.world, self.owners)

    def _new_file(self, label, pages):
        file = File(label.replace("/", "-"), pages, self.rng.randbytes(pages * PAGE))
        self.files.append(file)
        return file

    def _connect(self, owner, slot):
        owner.connections[slot] = Connection(self.tenant_socket, owner.uid)
        self.world.quota.add(owner.path, {"connections": 1})

    def lanes(self):
        return [lane for owner in self.owners for lane in owner.lanes if lane.slot is not None]

    # -- comparing --

    def diverge(self, who, method, request, expected, answer, wrong):
        lines = [f"DIVERGENCE at operation {self.n}, seed {self.seed}: {who} {method}: {wrong}"]
        lines.append(f"  request:  {' '.join(str(request).split())[:2000]}")
        lines.append(f"  expected: {expected}")
        lines.append(f"  seen:     {answer}")
        lines.append("the last operations before it:")
        for number, label, m, r, seen in self.recent:
            text = " ".join(str(r).split())
            lines.append(f"  #{number} {label} {m} {text[:300]} -> {str(seen)[:300]}")
        lines.append(f"replay with: tests/model/run --seed {self.seed} --ops {self.target}")
        raise Divergence("\n".join(lines))

    def judged(self, flight, answers):
        """Compares the answers to one request and applies its effect."""
        lane, plan = flight.lane, flight.plan
        owner = lane.owner
        effective = None
        for answer in answers:
            self.n += 1
            busy = len(answers) > 1 and answer.reason == "BUSY" and answer.code == "ABORTED"
            if busy:
                self.tally["same key twice at once: BUSY"] += 1
                continue
            wrong = plan.judge(answer)
            if wrong is None and effective is not None and answer.response != effective.response:
                wrong = "two answers to one idempotent request differ"
            if wrong:
                self.diverge(lane.label, plan.method, plan.request, plan.expectation(), answer, wrong)
            effective = answer
            self.tally[f"{plan.method} {answer.outcome}"] += 1
            if answer.reason == "QUOTA":
                owner.tenant.refusals += 1
                self._disclosure(owner, plan, answer)
            self.recent.append((self.n, lane.label, plan.method, plan.request, answer))
        if effective is None:
            self.diverge(lane.label, plan.method, plan.request, plan.expectation(), answers[-1], "nobody was served")
        if effective.code == "OK" and not plan.replay:
            plan.commit(effective.response)
            if plan.method == "OpenTicket":
                lane.ticket = Ticket(effective.response.ticket)
            elif plan.method == "RegisterMemory":
                lane.ticket = None
            elif plan.method == "Free":
                lane.retired.append(plan.request.ioasid)
            elif plan.method == "UnregisterMemory":
                lane.retired.append(plan.request.memory)
            if plan.method != "Negotiate" and plan.request.scope.key:
                lane.history.append((plan.method, plan.request))
        if effective.code == "OK" and plan.method == "DeviceDma":
            cause = effective.response.fault.cause
            what = pb.FaultCause.Name(cause)[12:].lower() if cause else "all bytes moved"
            self.tally[f"  DMA: {what}{', after some bytes' if cause and effective.response.done else ''}"] += 1

    def _disclosure(self, owner, plan, answer):
        """Of an ancestor a tenant learns the name and the resource, no number."""
        for subject, description in answer.violations:
            if subject == owner.path:
                continue
            if subject not in (ORG, "") or any(c.isdigit() for c in description):
                self.diverge(
                    owner.path, plan.method, plan.request, "no number of an ancestor", answer, "discloses too much"
                )

    # -- rounds --

    def round(self, victim=None):
        """victim: (owner, slot) of a connection to kill meanwhile."""
        now = Round(self.world.quota)
        doomed = None
        if victim:
            doomed = self._doom(now, *victim)
        order = self.lanes()
        self.rng.shuffle(order)
        for lane in order:
            if victim and lane.owner is victim[0] and lane.slot == victim[1]:
                continue
            if lane.lease is None:
                self._begin(lane)
            self._fill(now, lane)
        for flight in now.flights:
            connection = flight.lane.owner.connections[flight.lane.slot]
            flight.futures = [connection.start(flight.plan.method, flight.plan.request) for _ in flight.futures]
        self.most_in_flight = max(self.most_in_flight, sum(len(f.futures) for f in now.flights))
        if victim:
            self._kill(*victim, doomed)
        answers = [(f, [Connection.finish(x) for x in f.futures]) for f in now.flights]
        for flight, list_ in answers:
            self.judged(flight, list_)
        self.rounds += 1
        if victim:
            self._buried(*victim)
        self._give_fds()
        self._touch_memory()

    def _fill(self, now, lane):
        """Finds something for a lane that commutes with what the others do."""
        for _ in range(8):
            taken = False
            for method, request, copies in self.generator.requests(lane):
                file = None
                if method == "RegisterMemory" and lane.ticket and request.ticket == lane.ticket.bytes:
                    file = lane.ticket.file
                plan = self.world.plan(method, lane.lease, request, file)
                if now.admit(plan, lane.owner.path):
                    now.flights.append(Flight(lane, plan, copies))
                    taken = True
            if taken:
                return
        self.tally["(idle)"] += 1

    def _begin(self, lane):
        """The first act of a lane makes its lease."""
        owner = lane.owner
        if not lane.name:
            request = pb.OpenTicketRequest(purpose=pb.TICKET_PURPOSE_MEMORY)
            self._alone(owner, lane.slot, "OpenTicket", request)
        lane.lease = self.world.lease_opened(owner.tenant, lane.name)
        lane.history.clear()
        lane.retired.clear()
        lane.ticket = None

    def _alone(self, owner, slot, method, request, refusal=None, connection=None):
        """One operation by itself; refusal: the reasons that it must be refused for."""
        connection = connection or owner.connections[slot]
        plan = Plan(method, None, request)
        if refusal:
            plan.refuse(*refusal)
        answer = connection.call(method, request)
        self.n += 1
        label = owner.path if owner else "admin"
        wrong = plan.judge(answer)
        if wrong:
            self.diverge(label, method, request, plan.expectation(), answer, wrong)
        self.recent.append((self.n, label, method, request, answer))
        self.tally[f"{method} {answer.outcome}"] += 1
        if answer.reason == "QUOTA":
            owner.tenant.refusals += 1
        return answer.response

    def _give_fds(self):
        """Between rounds each open ticket gets its fd."""
        for lane in self.lanes():
            ticket = lane.ticket
            if ticket is None:
                continue
            if ticket.file:
                age = time.monotonic() - ticket.opened
                if age > 7:  # it found no room; let it expire, at 10 s, before going on
                    time.sleep(max(0, 10.05 - age))
                    self.tally["(ticket expired)"] += 1
                    self.world.quota.add(lane.owner.path, {"kept_fds": 1}, -1)
                    lane.ticket = None
                    self._wait_counters()
                continue
            owner = lane.owner
            fits = self.world.quota.fits(owner.path, {"kept_fds": 1}, {})
            file = lane.rng.choice(lane.files)
            status = owner.connections[lane.slot].give(ticket.bytes, file.fd)
            self.n += 1
            self.tally[f"GIVE {status}"] += 1
            if status != (0 if fits else 4):
                self.diverge(lane.label, "GIVE", "", 0 if fits else 4, status, "another wire status")
            if fits:
                self.world.quota.add(owner.path, {"kept_fds": 1})
                ticket.file = file
            else:
                lane.ticket = None  # it holds nothing and expires

    def _touch_memory(self):
        """The tenants' CPUs write into their memory, for devices to read."""
        for _ in range(2):
            file = self.rng.choice(self.files)
            offset = self.rng.randrange(file.length - 64)
            file.cpu_write(offset, self.rng.randbytes(64))

    # -- connections that die --

    def _doom(self, now, owner, slot):
        """Reserves all that the end of a connection touches; requests to be cut off."""
        lane = owner.lanes[slot]
        lease = lane.lease
        requests = []
        if lease:
            plan = Plan("(kill)", lease, None)
            plan.writes.add(("lease", lease))
            for spaces in (lease.ioasids.values(), lease.attachments.values()):
                self.world._may_end(plan, lease, spaces)
                for space in spaces:
                    plan.writes.update(("space", s) for s in space.chain())
            for memory in lease.memories.values():
                plan.writes.add(("registered", owner.tenant, memory.file))
            for name in lease.devices:
                plan.writes.update(("device", n) for n in self.world.groups[self.world.devices[name].group])
            plan.releases = self.world.holdings(lease)
            plan.releases["kept_fds"] += 1
            plan.charges = {}
            assert now.admit(plan, owner.path)
            for method, request, _ in sum((self.generator.requests(lane) for _ in range(3)), []):
                # Nothing whose half-done effect would outlive the lease or be charged.
                if method in ("Free", "Detach", "Replace", "Unmap", "Translate", "GetIoasid", "ListMappings"):
                    requests.append((method, request))
        return requests

    def _kill(self, owner, slot, requests):
        connection = owner.connections[slot]
        for method, request in requests:
            connection.start(method, request)
            self.tally["(cut off)"] += 1
        connection.close()

    def _buried(self, owner, slot):
        lane = owner.lanes[slot]
        if lane.lease:
            self.world.lease_closed(lane.lease)
            lane.lease = None
            if lane.ticket and lane.ticket.file:
                self.world.quota.add(owner.path, {"kept_fds": 1}, -1)
            lane.ticket = None
        self.world.quota.add(owner.path, {"connections": 1}, -1)
        orphan = owner.lanes[SLOTS]
        if orphan.slot == slot:
            orphan.slot = None
        self._wait_counters()
        self._connect(owner, slot)

    def _wait_counters(self):
        """Until the broker has noticed an end: its counters must become the model's."""
        deadline = time.monotonic() + 30
        while True:
            wrong = self._counters()
            if wrong is None:
                return
            if time.monotonic() > deadline:
                self.diverge("admin", "ListTenants", "", "the model's counters", wrong, "30 s after a connection ended")
            time.sleep(0.002)

    # -- named leases --

    def named(self, owner):
        """One step in the life of a tenant's named lease."""
        lane = owner.lanes[SLOTS]
        rng = self.rng
        slot = rng.randrange(SLOTS)
        if lane.lease is None:
            request = pb.OpenLeaseRequest(name="pool", linger_seconds=3600)
            roll = rng.random()
            if roll < 0.1:
                request.name = rng.choice(("", "a/b", "x" * 129, "sp ace"))
                self._alone(owner, slot, "OpenLease", request, ["INVALID_FIELD"])
                return
            if not self.world.quota.fits(owner.path, {"leases": 1}, {}):
                self._alone(owner, slot, "OpenLease", request, ["QUOTA"])
                return
            lane.secret = self._alone(owner, slot, "OpenLease", request).secret
            if len(lane.secret) != 32:
                self.diverge(owner.path, "OpenLease", request, "32 bytes", lane.secret, "secret")
            lane.slot = slot
            self._begin(lane)
        elif lane.slot is None:
            request = pb.AdoptLeaseRequest(name="pool", secret=lane.secret)
            roll = rng.random()
            if roll < 0.3:
                request.secret = bytes(32)
                self._alone(owner, slot, "AdoptLease", request, ["NOT_FOUND"])
                return
            if roll < 0.4:
                request.name = "nobody"
                self._alone(owner, slot, "AdoptLease", request, ["NOT_FOUND"])
                return
            self._alone(owner, slot, "AdoptLease", request)
            lane.slot = slot
        else:
            roll = rng.random()
            other = 1 - lane.slot
            if roll < 0.3:
                request = pb.OpenLeaseRequest(name="pool")
                self._alone(owner, slot, "OpenLease", request, ["NAME_TAKEN"])
            elif roll < 0.5:
                request = pb.AdoptLeaseRequest(name="pool", secret=lane.secret)
                self._alone(owner, other, "AdoptLease", request, ["WRONG_STATE"])
            elif roll < 0.7:
                request = pb.ListMemoryRequest()
                request.scope.lease = "pool"
                self._alone(owner, other, "ListMemory", request, ["WRONG_STATE", "NOT_FOUND"])
            elif roll < 0.8:
                stranger = rng.choice([o for o in self.owners if o is not owner])
                # The stranger has a lease of this name as well, or none: the secret decides.
                request = pb.AdoptLeaseRequest(name="pool", secret=lane.secret)
                held = stranger.lanes[SLOTS].slot is not None
                self._alone(stranger, 0, "AdoptLease", request, ["NOT_FOUND"] + ["WRONG_STATE"] * held)
            elif roll < 0.9:
                request = pb.CloseLeaseRequest()
                request.scope.lease = "pool"
                self._alone(owner, lane.slot, "CloseLease", request)
                self.world.lease_closed(lane.lease)
                if lane.ticket and lane.ticket.file:
                    self.world.quota.add(owner.path, {"kept_fds": 1}, -1)
                lane.lease, lane.slot, lane.ticket = None, None, None
                self._wait_counters()

    # -- contests --

    def _limit(self, path, resource, amount):
        request = pb.SetLimitsRequest(tenant=path)
        request.limits.add(resource=resource, amount=amount)
        self._alone(None, None, "Admin.SetLimits", request, connection=self.admin)

    def contest(self):
        make = self.rng.choice(
            (self.contest_device, self.contest_tenant, self.contest_parent, self.contest_parent, self.contest_name)
        )
        make()

    def _race(self, entries, winners, losers):
        """entries: (lane, plan).  Exactly `winners` of them succeed; returns those."""
        futures = [(lane, plan, lane.owner.connections[lane.slot].start(plan.method, plan.request)) for lane, plan in entries]
        self.most_in_flight = max(self.most_in_flight, len(futures))
        won = []
        for lane, plan, future in futures:
            answer = Connection.finish(future)
            self.n += 1
            self.recent.append((self.n, lane.label, plan.method, plan.request, answer))
            self.tally[f"race: {plan.method} {answer.outcome}"] += 1
            if answer.code == "OK":
                won.append((lane, plan, answer.response))
            elif answer.reason != losers or answer.code != STATUS[losers]:
                self.diverge(lane.label, plan.method, plan.request, f"OK or {losers}", answer, "in a race")
            elif losers == "QUOTA":
                lane.owner.tenant.refusals += 1
                self._disclosure(lane.owner, plan, answer)
        if len(won) != winners:
            lane, plan, _ = futures[0]
            self.diverge(
                "all", plan.method, plan.request, f"{winners} winners of {len(futures)}", f"{len(won)}: {[w[0].label for w in won]}", "in a race"
            )
        return won

    def contest_device(self):
        free = [g for g, names in self.world.groups.items() if all(self.world.devices[n].lease is None for n in names)]
        lanes = [lane for lane in self.lanes() if lane.lease]
        if not free or len(lanes) < 2:
            return
        names = self.world.groups[self.rng.choice(free)]
        entries = []
        for lane in lanes:
            request = pb.ClaimDeviceRequest(devices=names)
            request.scope.lease = lane.name
            plan = self.world.plan("ClaimDevice", lane.lease, request)
            if self.world.quota.fits(lane.owner.path, plan.charges, {}):
                entries.append((lane, plan))
        if len(entries) < 2:
            return
        for lane, plan, response in self._race(entries, 1, "DEVICE_IN_USE"):
            plan.commit(response)
            request = pb.ReleaseDeviceRequest(devices=names)
            request.scope.lease = lane.name
            undo = self.world.plan("ReleaseDevice", lane.lease, request)
            undo.commit(self._alone(lane.owner, lane.slot, "ReleaseDevice", request))

    def _alloc_race(self, lanes, path, spare, parent_free):
        quota = self.world.quota
        before = {p: quota.limit[p].get("ioasids") for p in (ORG, *TENANTS)}
        if parent_free:
            self._limit(ORG, "ioasids", 10**6)
            quota.limit[ORG]["ioasids"] = 10**6
        else:
            for p in TENANTS:
                self._limit(p, "ioasids", 10**6)
                quota.limit[p]["ioasids"] = 10**6
        self._limit(path, "ioasids", quota.need(path, "ioasids", {}) + spare)
        entries = []
        for lane in lanes:
            for _ in range(3):
                request = pb.AllocRequest(kind=pb.IOASID_KIND_KERNEL, label="race")
                request.scope.lease = lane.name
                request.candidates.add().format = V4
                entries.append((lane, self.world.plan("Alloc", lane.lease, request)))
        # Room inside a reservation is nobody else's: it is filled on top of what is spare.
        if path == ORG:
            winners = 0
            for owner in self.owners:
                idle = quota.reserved[owner.path].get("ioasids", 0) - quota.need(owner.path, "ioasids", {})
                asked = sum(1 for lane, _ in entries if lane.owner is owner)
                winners += max(0, min(idle, asked))
            winners = min(winners + spare, len(entries))
        else:
            winners = min(spare, len(entries))
        for lane, plan, response in self._race(entries, winners, "QUOTA"):
            wrong = plan.check(response)
            if wrong:
                self.diverge(lane.label, "Alloc", plan.request, "as foretold", response, wrong)
            plan.commit(response)
            request = pb.FreeRequest(ioasid=response.ioasid)
            request.scope.lease = lane.name
            undo = self.world.plan("Free", lane.lease, request)
            undo.commit(self._alone(lane.owner, lane.slot, "Free", request))
        for p, limit in before.items():
            self._limit(p, "ioasids", limit)
            quota.limit[p]["ioasids"] = limit

    def contest_tenant(self):
        owner = self.rng.choice(self.owners)
        lanes = [lane for lane in owner.lanes if lane.slot is not None and lane.lease]
        self._alloc_race(lanes, owner.path, self.rng.randint(0, 4), parent_free=True)

    def contest_parent(self):
        lanes = [lane for lane in self.lanes() if lane.lease]
        self._alloc_race(lanes, ORG, self.rng.randint(0, 9), parent_free=False)

    def contest_name(self):
        owner = self.rng.choice(self.owners)
        if not self.world.quota.fits(owner.path, {"leases": 2}, {}):
            return
        entries = []
        for slot in (0, 1, 0, 1):
            entries.append((owner.lanes[slot], Plan("OpenLease", None, pb.OpenLeaseRequest(name="race"))))
        for lane, _, _ in self._race(entries, 1, "NAME_TAKEN"):
            request = pb.CloseLeaseRequest()
            request.scope.lease = "race"
            self._alone(owner, lane.slot, "CloseLease", request)
        self._wait_counters()

    # -- audits --

    def _counters(self):
        """What differs between the broker's counters and the model's, or None."""
        answer = self.admin.call("Admin.ListTenants", pb.ListTenantsRequest(with_unused=True))
        if answer.code != "OK":
            return str(answer)
        seen = {t.path: {r.resource: r for r in t.resources} for t in answer.response.tenants}
        quota = self.world.quota
        if not set(quota.own) - {""} <= set(seen):
            return f"tenants: {sorted(seen)}"
        for path, own in quota.own.items():
            if path not in seen:
                continue
            for resource, amount in own.items():
                usage = seen[path].get(resource)
                now = (usage.own, usage.used) if usage else (0, 0)
                expected = (amount, quota.need(path, resource, {}))
                if path == "" and resource == "connections":
                    expected = (now[0], expected[1] - amount + now[0])  # the admin's own
                if now != expected:
                    return f"{path} {resource}: expected own, used {expected}, seen {now}"
        return None

    def audit(self):
        """At rest, everything must be equal."""
        self._wait_counters()
        for owner in self.owners:
            sums = self.world.sums(owner.tenant)
            own = self.world.quota.own[owner.path]
            sums["connections"] = own["connections"]
            sums["kept_fds"] += sum(1 for lane in owner.lanes if lane.ticket and lane.ticket.file)
            assert sums == own, f"the model contradicts itself: {owner.path} {sums} {own}"
            self._audit_quota(owner)
            self._audit_leases(owner)
        self._audit_devices()
        for lane in self.lanes():
            if lane.lease is None:
                continue
            self._audit_negotiate(lane)
            requests = [("ListMemory", {}), ("ListIoasids", {}), ("ListAttachments", {})]
            requests += [("ListMappings", {"ioasid": i}) for i in lane.lease.ioasids]
            for method, fields in requests:
                request = getattr(pb, method + "Request")(**fields)
                request.scope.lease = lane.name
                plan = self.world.plan(method, lane.lease, request)
                answer = lane.owner.connections[lane.slot].call(method, request)
                self.n += 1
                wrong = plan.judge(answer)
                if wrong:
                    self.diverge(lane.label, method, request, plan.expectation(), answer, "audit: " + wrong)
        for file in self.files:
            at = file.difference()
            if at is not None:
                seen, expected = file.view[at : at + 16].hex(), file.mirror[at : at + 16].hex()
                self.diverge(file.label, "(memory)", f"offset {at:#x}", expected, seen, "audit: bytes differ")
        self.tally["(audit)"] += 1

    def _audit_negotiate(self, lane):
        request = pb.NegotiateRequest(alloc=pb.AllocRequest(kind=pb.IOASID_KIND_KERNEL))
        request.alloc.scope.lease = lane.name
        response = self._alone(lane.owner, lane.slot, "Negotiate", request)
        fits = self.world.quota.fits(lane.owner.path, {"ioasids": 1, "ioasids_kernel": 1}, {})
        wrong = differ(within_quota=(fits, response.within_quota), says=(not fits, bool(response.quota_refusal)))
        if wrong:
            self.diverge(lane.label, "Negotiate", request, "", response, "audit: " + wrong)

    def _audit_quota(self, owner):
        request = pb.GetQuotaRequest()
        response = self._alone(owner, 0, "GetQuota", request)
        quota = self.world.quota
        wrong = differ(tenant=(owner.path, response.tenant))
        seen = {r.resource: r for r in response.resources}
        refused = 0
        for resource, amount in quota.own[owner.path].items():
            r = seen.get(resource) or pb.ResourceUsage()
            limit = quota.limit[owner.path].get(resource)
            if limit is not None:
                wrong = wrong or differ(**{resource + " limit": (limit, r.limit)})
            need = quota.need(owner.path, resource, {})
            wrong = wrong or differ(
                **{
                    resource + " own": (amount, r.own),
                    resource + " used": (need, r.used),
                    resource + " reserved": (quota.reserved[owner.path].get(resource, 0), r.reserved),
                    resource + " peak": (True, r.peak >= need),
                }
            )
        refused = sum(r.refused for r in response.resources)
        if refused != owner.tenant.refusals:
            wrong = wrong or f"refused: expected {owner.tenant.refusals} in all, seen {refused}"
        if wrong:
            self.diverge(owner.path, "GetQuota", request, "the model's", response, "audit: " + wrong)

    def _audit_leases(self, owner):
        response = self._alone(owner, 0, "ListLeases", pb.ListLeasesRequest())
        expected = collections.Counter()
        for lane in owner.lanes:
            if lane.lease:
                held = lane.slot is not None
                expected[self._lease_row(lane.lease.name, lane.slot == 0, held, lane.lease)] += 1
        seen = collections.Counter(
            (x.name, x.mine, x.held, x.ioasids, x.memories, x.devices, x.attachments) for x in response.leases
        )
        if seen != expected:
            self.diverge(owner.path, "ListLeases", "", dict(expected), dict(seen), "audit")

    @staticmethod
    def _lease_row(name, mine, held, lease):
        return (name, mine, held, len(lease.ioasids), len(lease.memories), len(lease.devices), len(lease.attachments))

    def _audit_devices(self):
        for owner in self.owners:
            response = self._alone(owner, 0, "ListDevices", pb.ListDevicesRequest())
            seen = {d.address: (d.state, d.iommu, d.group, sorted(d.group_members)) for d in response.devices}
            expected = {}
            for address, d in self.world.devices.items():
                state = pb.DEVICE_STATE_FREE
                if d.lease is not None:
                    mine = d.lease.tenant is owner.tenant
                    state = pb.DEVICE_STATE_CLAIMED if mine else pb.DEVICE_STATE_UNAVAILABLE
                others = sorted(m for m in self.world.groups[d.group] if m != address)
                expected[address] = (state, d.iommu, d.group, others)
            if seen != expected:
                wrong = {a: (expected.get(a), seen.get(a)) for a in {*seen, *expected} if seen.get(a) != expected.get(a)}
                self.diverge(owner.path, "ListDevices", "", "", wrong, "audit (expected, seen)")

    # -- all of it --

    def run(self):
        self.audit()
        while self.n < self.target:
            if self.rounds % AUDIT_EVERY == AUDIT_EVERY - 1:
                self.audit()
            if self.rounds % CONTEST_EVERY == CONTEST_EVERY - 1:
                self.contest()
            if self.rng.random() < 0.05:
                self.named(self.rng.choice(self.owners))
            victim = None
            if self.rounds % KILL_EVERY == KILL_EVERY - 1:
                victim = (self.rng.choice(self.owners), self.rng.randrange(SLOTS))
            self.round(victim)
        self.audit()
        self.free_everything()

    def free_everything(self):
        """Half by calls, half by hanging up; then every counter must be zero."""
        for owner in self.owners:
            for lane in owner.lanes:
                if lane.slot is None or lane.lease is None:
                    continue
                for address in sorted(lane.lease.devices):
                    self._do(lane, "ReleaseDevice", pb.ReleaseDeviceRequest(devices=[address]))
                for space in sorted(lane.lease.ioasids.values(), key=lambda s: -s.depth):
                    self._do(lane, "Free", pb.FreeRequest(ioasid=space.id))
                for memory in sorted(lane.lease.memories):
                    self._do(lane, "UnregisterMemory", pb.UnregisterMemoryRequest(memory=memory))
                request = pb.CloseLeaseRequest()
                request.scope.lease = lane.name
                self._alone(owner, lane.slot, "CloseLease", request)
                self.world.lease_closed(lane.lease)
                if lane.ticket and lane.ticket.file:
                    self.world.quota.add(owner.path, {"kept_fds": 1}, -1)
                lane.lease = lane.ticket = None
            pool = owner.lanes[SLOTS]
            if pool.lease:  # held by nobody: adopt it to close it
                self._alone(owner, 0, "AdoptLease", pb.AdoptLeaseRequest(name="pool", secret=pool.secret))
                request = pb.CloseLeaseRequest()
                request.scope.lease = "pool"
                self._alone(owner, 0, "CloseLease", request)
                self.world.lease_closed(pool.lease)
                if pool.ticket and pool.ticket.file:
                    self.world.quota.add(owner.path, {"kept_fds": 1}, -1)
                pool.lease = None
        self._wait_counters()
        for owner in self.owners:
            for slot, connection in enumerate(owner.connections):
                connection.close()
                self.world.quota.add(owner.path, {"connections": 1}, -1)
        self._wait_counters()
        for path, own in self.world.quota.own.items():
            assert not any(own.values()), f"the model did not come to zero: {path} {own}"

    def _do(self, lane, method, request):
        request.scope.lease = lane.name
        plan = self.world.plan(method, lane.lease, request)
        plan.commit(self._alone(lane.owner, lane.slot, method, request))


def start_server(build, folder):
    files = {"policy.json": policy_json(), "topology.json": topology_json()}
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    sockets = [os.path.join(folder, "tenants.sock"), os.path.join(folder, "admin.sock")]
    arguments = [
        "--shim", "soft", "--audit", "none",
        "--policy", os.path.join(folder, "policy.json"),
        "--topology", os.path.join(folder, "topology.json"),
        "--listen", f"tenants={sockets[0]}:0666",
        "--listen", f"admin={sockets[1]}:0600",
    ]  # fmt: skip
    return Server(os.path.join(build, "bin", "ioasidd"), folder, arguments, sockets), sockets


def main():
    parser = argparse.ArgumentParser(description="Model test of the broker.")
    parser.add_argument("--build", required=True, help="build folder with bin/ioasidd")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ops", type=int, default=100000)
    parser.add_argument("--verbose", action="store_true", help="print how often each outcome came")
    arguments = parser.parse_args()
    if os.geteuid():
        print("model: speaks as three uids and so must be run by root", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    folder = tempfile.mkdtemp(prefix="ioasid-model-")
    os.chmod(folder, 0o755)
    server = None
    passed, failed = 0, 1
    started = time.monotonic()
    test = None
    try:
        server, sockets = start_server(arguments.build, folder)
        test = Test(arguments, sockets, server)
        test.run()
        test.admin.close()
        status = server.stop()
        if status != 0:
            print(f"ioasidd ended with {status}: {server.tail()}")
        else:
            passed, failed = test.n, 0
    except Divergence as divergence:
        print(divergence)
        passed = test.n - 1
    finally:
        if server:
            if server.alive():
                server.stop()
            elif failed and server.process.returncode:
                print(f"ioasidd ended with {server.process.returncode}: {server.tail(60)}")
        shutil.rmtree(folder, ignore_errors=True)
    if test and (arguments.verbose or failed):
        for what, count in sorted(test.tally.items()):
            print(f"{count:8} {what}")
    if test:
        seconds = time.monotonic() - started
        print(
            f"seed {arguments.seed}: {test.n} operations in {test.rounds} rounds, at most {test.most_in_flight} "
            f"in flight, {seconds:.1f} s, {test.n / seconds:.0f}/s"
        )
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
