# SPDX-License-Identifier: Apache-2.0
"""The reference model: what a broker must answer, written from proto/ioasid.proto alone.

It shares no code with the broker and none of its shape.  An address space of kind KERNEL is a
sorted list of mappings; a DMA is a loop over pages that looks each one up, goes on in the
parent, and ends in a byte array that mirrors a memfd; a quota is a sum.  Tables that tenants write
are walked in those byte arrays, with what caches may remember of them: tables.py.

How it is used.  plan_X(lease, request) reads the state and changes nothing.  The Plan says
  - refusals: the reasons for which this request must be refused.  Where a request has more
    than one defect any of them may be named, as the API orders no two of them;
  - charges and releases, for the quota verdict, which depends on what else is in flight;
  - reads and writes: the parts of the state that the answer depends on, or changes;
  - check(response): what differs from the prediction, or None;  commit(response): the effect.
Ids, chosen IOVAs and the format where the client leaves the choice are taken from the
answer, after check() found them legal.

Invariant: after commit() of every answered plan the model equals the broker's state, in any
order of those plans whose reads and writes do not meet.  World.sums() recomputes all
counters from the objects; the incremental ones must agree.
"""

import bisect
import collections
import struct

import ioasid_pb2 as pb
from dirty import BITS_MAX, Cleaning, Pages, Search, Written
from pasids import X86_64, PasidBound, Pasids
from tables import Bound, Fault, Forgotten, Place, TooMany, Walk
from processes import ProcessSpaces
from vms import Vms

PAGE = 4096
OUTPUT_BITS = 48  # of every simulated IOMMU of the test
U64 = (1 << 64) - 1
UNLIMITED = U64

STATUS = {
    "MALFORMED": "INVALID_ARGUMENT",
    "INVALID_FIELD": "INVALID_ARGUMENT",
    "NOT_FOUND": "NOT_FOUND",
    "ROLE_FORBIDDEN": "PERMISSION_DENIED",
    "POLICY_FORBIDDEN": "PERMISSION_DENIED",
    "TICKET_REFUSED": "PERMISSION_DENIED",
    "NO_TENANT": "UNAUTHENTICATED",
    "QUOTA": "RESOURCE_EXHAUSTED",
    "RATE": "RESOURCE_EXHAUSTED",
    "FORMAT_UNSUPPORTED": "FAILED_PRECONDITION",
    "GROUP_INCOMPLETE": "FAILED_PRECONDITION",
    "NOT_CLAIMED": "FAILED_PRECONDITION",
    "NOT_ATTACHED": "FAILED_PRECONDITION",
    "DEVICE_IN_USE": "FAILED_PRECONDITION",
    "INCOMPATIBLE": "FAILED_PRECONDITION",
    "WOULD_SPLIT": "FAILED_PRECONDITION",
    "MEMORY_UNSUITABLE": "FAILED_PRECONDITION",
    "WRONG_STATE": "FAILED_PRECONDITION",
    "OVERLAP": "ALREADY_EXISTS",
    "NAME_TAKEN": "ALREADY_EXISTS",
    "KEY_REUSED": "ALREADY_EXISTS",
    "ALREADY_ATTACHED": "ALREADY_EXISTS",
    "BUSY": "ABORTED",
    "UNIMPLEMENTED": "UNIMPLEMENTED",
}

READ, WRITE, EXECUTE = pb.ACCESS_READ, pb.ACCESS_WRITE, pb.ACCESS_EXECUTE
COUNTED = (
    "ioasids ioasids_kernel ioasids_user ioasids_process ioasids_kvm pasids devices map_entries "
    "registered_bytes mapped_bytes pinned_bytes vms leases connections kept_fds"
).split()
RESOURCE_OF_KIND = {
    pb.IOASID_KIND_KERNEL: "ioasids_kernel",
    pb.IOASID_KIND_USER: "ioasids_user",
    pb.IOASID_KIND_PROCESS: "ioasids_process",
    pb.IOASID_KIND_KVM: "ioasids_kvm",
}
KEYS_REMEMBERED = 1024
# Map where the broker does not make the table.
NOT_BY_MAP = ("NOT_FOUND",)


class Format:
    """A page-table format as an address space: width, sign extension, what entries can say."""

    def __init__(
        self, number, bits, sign_extended=False, read_implied=False, output_bits=OUTPUT_BITS, kernel_chosen=False
    ):
        self.number = number
        self.bits = bits
        self.output_bits = output_bits
        self.kernel_chosen = kernel_chosen
        self.sign_extended = sign_extended
        self.read_implied = read_implied

    def outside(self, address):
        """Why no entry can be found for an address, or None."""
        if self.sign_extended:
            top = address >> (self.bits - 1)
            if top not in (0, (1 << (65 - self.bits)) - 1):
                return pb.FAULT_CAUSE_NON_CANONICAL
        elif address >> self.bits:
            return pb.FAULT_CAUSE_ADDRESS_WIDTH
        return None

    def levels(self):
        """Of a table that a tenant writes."""
        return (self.bits - 12) // 9

    def last(self):
        """The highest IOVA that may be mapped: the lower half, where the sign extends."""
        return (1 << (self.bits - self.sign_extended)) - 1


FORMATS = {
    f.number: f
    for f in (
        Format(pb.PAGE_TABLE_FORMAT_X86_64_4L, 48, sign_extended=True, read_implied=True),
        Format(pb.PAGE_TABLE_FORMAT_X86_64_5L, 57, sign_extended=True, read_implied=True),
        Format(pb.PAGE_TABLE_FORMAT_VTDSS_3L, 39),
        Format(pb.PAGE_TABLE_FORMAT_VTDSS_4L, 48),
        Format(pb.PAGE_TABLE_FORMAT_VTDSS_5L, 57),
        Format(pb.PAGE_TABLE_FORMAT_EPT_4L, 48),
        Format(pb.PAGE_TABLE_FORMAT_EPT_5L, 57),
    )
}
# Of a process: the CPU's own affair.
NO_FORMAT = Format(0, 64, output_bits=0)
# Of virtual machines' own tables, and of no others.
EPT = (pb.PAGE_TABLE_FORMAT_EPT_4L, pb.PAGE_TABLE_FORMAT_EPT_5L)


class Device:
    """A simulated function, as the test's own topology describes it."""

    def __init__(
        self, address, iommu, group, formats, reserved, pasid_bits, snoop, max_depth, faults=False, dirty=False,
        access_dirty=False, tlb=False,
    ):  # fmt: skip
        self.address = address
        self.iommu = iommu
        self.group = group
        self.formats = formats  # numbers
        self.reserved = reserved  # [(start, last)]
        self.pasid_bits = pasid_bits
        self.snoop = self.snoop_control = snoop
        self.max_depth = max_depth
        self.faults = faults
        self.dirty = dirty
        self.access_dirty = access_dirty  # its IOMMU sets these bits in tables that tenants write
        self.tlb = tlb
        # Its IOMMU reads VT-d's PASID tables.
        self.pasid_tables = bool(pasid_bits and max_depth > 1 and set(formats) & set(X86_64))
        self.lease = None


class Mapping:
    __slots__ = ("iova", "length", "memory", "offset", "parent_address", "prot")

    def __init__(self, iova, length, memory, offset, parent_address, prot):
        self.iova = iova
        self.length = length
        self.memory = memory  # None: from the parent
        self.offset = offset
        self.parent_address = parent_address
        self.prot = prot  # set of Access


class Memory:
    def __init__(self, file, offset, length, read, write, label):
        self.id = 0
        self.file = file
        self.offset = offset
        self.length = length
        self.read = read
        self.write = write
        self.label = label
        self.mappings = 0
        self.freed = False

    def pages(self, offset, length):
        first = (self.offset + offset) // PAGE
        return range(first, first + length // PAGE)


class Ioasid:
    def __init__(self, lease, format_, parent, request):
        self.id = 0
        self.lease = lease
        self.format = format_
        self.valid = []  # [(start, last)], sorted
        self.parent = parent
        self.depth = parent.depth + 1 if parent else 1
        self.kind = request.kind
        self.vm = None  # kind KVM: a vms.Vm
        self.service = None  # kind PROCESS: while its service lives
        self.awaits_service = False  # it was a killed broker's
        self.table = None  # kind USER: what is bound, one of the two or nothing
        self.pasid_table = None
        self.led = {}  # pasid -> the space whose table its entry was made to lead to
        self.forgotten = Forgotten()
        self.vas = {}  # addresses that the tenant's table was written for, and at what level
        self.dirty_tracking = request.dirty_tracking
        self.faults = request.faults
        self.dirty = None  # a dirty.Pages while pages are tracked
        self.snoop_control = True  # of all named devices; so is the next
        self.access_dirty = True
        self.tlb = False
        self.devices = list(request.devices)
        self.label = request.label
        self.snoop = False
        self.starts = []  # sorted iovas ...
        self.maps = {}  # ... and their mappings
        self.attachments = 0
        self.children = 0
        self.freed = False

    def find(self, address):
        i = bisect.bisect_right(self.starts, address) - 1
        if i >= 0:
            m = self.maps[self.starts[i]]
            if address < m.iova + m.length:
                return m
        return None

    def touching(self, start, length):
        """Mappings that share a byte with [start, start + length), in order."""
        i = bisect.bisect_right(self.starts, start)
        if i and self.maps[self.starts[i - 1]].iova + self.maps[self.starts[i - 1]].length > start:
            i -= 1
        found = []
        while i < len(self.starts) and self.starts[i] < start + length:
            found.append(self.maps[self.starts[i]])
            i += 1
        return found

    def extents(self):
        """[(start, bytes)] of what the tenant mapped there, or of its VM's slots."""
        if self.vm:
            return self.vm.extents()
        return [(start, self.maps[start].length) for start in self.starts]

    def is_bound(self):
        return bool(self.table or self.pasid_table)

    def backs(self, address):
        """Does it lead to memory, or on to its parent, by the broker's own doing?"""
        return (self.vm.find(address) if self.vm else self.find(address)) is not None

    def is_valid(self, start, length):
        return any(lo <= start and start + length - 1 <= hi for lo, hi in self.valid)

    def chain(self):
        space = self
        while space:
            yield space
            space = space.parent

    def mapped_bytes(self):
        return sum(m.length for m in self.maps.values())


class Everywhere:
    """The native command for all translations, which leaves what leads to tables."""

    granularity = pb.INVALIDATE_GRANULARITY_RANGE
    iova, length = 0, 1 << 64

    def __init__(self, leaf):
        self.leaf = leaf


class Negotiated:
    """What Alloc may choose."""


class Lease:
    def __init__(self, tenant, name):
        self.tenant = tenant
        self.name = name
        self.ioasids = {}
        self.memories = {}
        self.vms = {}
        self.service = None  # a processes.Service
        self.devices = set()
        self.attachments = {}  # (device address, pasid or 0) -> Ioasid
        self.used_ids = set()
        self.watched = False  # somebody has watched its faults: there is a log, and devices wait
        self.n_faults = 0  # that the log was told of
        self.keys = {}  # key -> (method, request bytes without the key, response)

    def remember(self, key, value):
        self.keys[key] = value
        if len(self.keys) > KEYS_REMEMBERED:
            del self.keys[next(iter(self.keys))]


class Tenant:
    def __init__(self, path, pasid_policy="identity"):
        self.path = path
        self.pasid_policy = pasid_policy
        self.registered = {}  # file -> {page: registrations}
        self.pinned = {}  # file -> {page: mappings}
        self.leases = []
        self.refused = collections.Counter()  # by quota, each resource


class Quota:
    """need(n) = own(n) + sum over children of max(need(c), reserved(c)) <= limit(n)."""

    def __init__(self, tree):
        self.parent = {path: spec["parent"] for path, spec in tree.items()}
        self.limit = {path: dict(spec["limits"]) for path, spec in tree.items()}
        self.reserved = {path: dict(spec["reserved"]) for path, spec in tree.items()}
        self.children = {path: [c for c in tree if tree[c]["parent"] == path] for path in tree}
        self.own = {path: dict.fromkeys(COUNTED, 0) for path in tree}

    def need(self, node, resource, extra):
        total = self.own[node][resource] + extra.get((node, resource), 0)
        for child in self.children[node]:
            total += max(
                self.need(child, resource, extra), self.reserved[child].get(resource, 0)
            )
        return total

    def fits(self, tenant, charges, extra):
        """Would these charges at tenant be granted on top of extra?"""
        after = dict(extra)
        for resource, amount in charges.items():
            after[tenant, resource] = after.get((tenant, resource), 0) + amount
        for resource, amount in charges.items():
            node = tenant
            while amount and node is not None:
                need = self.need(node, resource, after)
                if need == self.need(node, resource, extra):
                    break  # inside a reservation
                if need > self.limit[node].get(resource, UNLIMITED):
                    return False
                node = self.parent[node]
        return True

    def ceiling(self, tenant, resource):
        least = UNLIMITED
        while tenant is not None:
            least = min(least, self.limit[tenant].get(resource, UNLIMITED))
            tenant = self.parent[tenant]
        return least

    def add(self, tenant, charges, sign=1):
        own = self.own[tenant]
        for resource, amount in charges.items():
            own[resource] += sign * amount
            assert own[resource] >= 0, (tenant, resource, own[resource])


class Plan:
    def __init__(self, method, lease, request):
        self.method = method
        self.lease = lease
        self.request = request
        self.refusals = set()
        self.charges = {}
        self.maybe = {}  # of a refused request: charges that may be refused as well
        self.releases = {}
        self.reads = set()
        self.writes = set()
        self.check = lambda response: None
        self.commit = lambda response: None
        self.file = None
        self.waits = False  # it may wait for an answer to a page request
        self.pages = ()  # of a DMA
        self.process = None  # the file of a process that it goes into
        self.through = ""  # the kinds that it goes through
        self.stale = False  # caches may have a say in it
        self.unclear = False  # its outcome is not to be foretold
        self.admitted = lambda: None  # it will be sent
        self.replay = False  # an idempotent retry: the same answer, no effect

    def refuse(self, *reasons):
        self.refusals.update(reasons)

    def expectation(self):
        return " or ".join(sorted(f"{STATUS[r]}/{r}" for r in self.refusals)) or "OK"

    def judge(self, answer):
        """What is wrong with the answer, or None."""
        if self.refusals:
            if answer.reason in self.refusals and answer.code == STATUS[answer.reason]:
                return None
            return "another outcome"
        if answer.code != "OK":
            return "refused"
        return self.check(answer.response)


def pages_at(pages, done):
    """What may be met behind so many bytes."""
    at = 0
    for _, step, ends in pages:
        if at == done:
            return ends
        at += step
    return []


def differ(**pairs):
    """First named pair (expected, seen) that is not equal."""
    for name, (expected, seen) in pairs.items():
        if expected != seen:
            return f"{name}: expected {expected}, seen {seen}"
    return None


class World(Vms, Pasids, ProcessSpaces):
    def __init__(self, devices, tree, tenants, real=False, kinds=(pb.IOASID_KIND_KERNEL,), pasid_policies=()):
        # Of a real shim: a group has one table, and nobody sees its entries.
        self.real = real
        self.kinds = set(kinds)
        self.x86_64 = tuple(FORMATS.get(number) for number in X86_64)
        self.devices = {d.address: d for d in devices}
        self.groups = {}
        for d in devices:
            self.groups.setdefault(d.group, []).append(d.address)
        self.quota = Quota(tree)
        self.tenants = {path: Tenant(path, dict(pasid_policies).get(path, "identity")) for path in tenants}
        self.now = 1  # counts what changes tables or caches
        self.restarts = 0  # of the broker

    def tick(self):
        self.now += 1
        return self.now

    def oldest(self):
        """When the space that has not forgotten for the longest time last did."""
        spaces = {s for t in self.tenants.values() for lease in t.leases for s in self.objects(lease)[0]}
        oldest = min((s.forgotten.all for s in spaces if s.is_bound()), default=self.now)
        for s in spaces:
            s.forgotten.entries.settle(oldest)
        return oldest

    # ---- leases ------------------------------------------------------------------------

    def lease_opened(self, tenant, name):
        lease = Lease(tenant, name)
        tenant.leases.append(lease)
        self.quota.add(tenant.path, {"leases": 1})
        return lease

    def lease_closed(self, lease):
        for address in list(lease.devices):
            self._device_released(lease, address)
        for key in list(lease.attachments):
            self._detached(lease, key)
        for space in sorted(lease.ioasids.values(), key=lambda s: -s.depth):
            self._freed(space)
        for vm in list(lease.vms.values()):
            self._vm_destroyed(vm)
        for memory in list(lease.memories.values()):
            self._unregistered(lease, memory)
        if lease.service:
            self.service_ended(lease)
        lease.tenant.leases.remove(lease)
        self.quota.add(lease.tenant.path, {"leases": 1}, -1)

    @staticmethod
    def objects(lease):
        """Its IOASIDs and memories, with those that are freed but still in use."""
        spaces = set()
        for space in list(lease.ioasids.values()) + list(lease.attachments.values()):
            spaces.update(space.chain())
        memories = set(lease.memories.values())
        memories.update(m.memory for s in spaces for m in s.maps.values() if m.memory)
        memories.update(slot.memory for vm in World.vms(lease, spaces) for slot in vm.slots.values())
        return spaces, memories

    @staticmethod
    def vms(lease, spaces):
        """Its VMs, with those that were destroyed but that a space is still of."""
        return {*lease.vms.values(), *(s.vm for s in spaces if s.vm)}

    def holdings(self, lease):
        """The most that ending objects of a lease can give back."""
        spaces, memories = self.objects(lease)
        bytes_ = sum(s.mapped_bytes() for s in spaces)
        return {
            **self.count_spaces(spaces),
            "map_entries": sum(len(s.maps) for s in spaces),
            "mapped_bytes": bytes_,
            "pinned_bytes": bytes_,
            "registered_bytes": sum(m.length for m in memories),
            "kept_fds": len(memories) + 2 * bool(lease.service),
            "vms": len(self.vms(lease, spaces)),
            "devices": len(lease.devices),
            "pasids": sum(1 for _, pasid in lease.attachments if pasid),
            "leases": 1,
        }

    @staticmethod
    def count_spaces(spaces):
        counts = {"ioasids": len(spaces)}
        for kind, resource in RESOURCE_OF_KIND.items():
            counts[resource] = sum(1 for s in spaces if s.kind == kind)
        return counts

    # ---- effects -----------------------------------------------------------------------

    def _count_pages(self, table, file, pages, sign):
        """Adds to the use of each page; returns bytes that became used or unused."""
        counts = table.setdefault(file, {})
        changed = 0
        for page in pages:
            before = counts.get(page, 0)
            after = before + sign
            assert after >= 0
            if after:
                counts[page] = after
            else:
                del counts[page]
            changed += (before == 0) != (after == 0)
        return changed * PAGE

    def _map(self, space, m):
        tenant = space.lease.tenant
        space.maps[m.iova] = m
        bisect.insort(space.starts, m.iova)
        charges = {"map_entries": 1, "mapped_bytes": m.length}
        if m.memory:
            m.memory.mappings += 1
            pages = m.memory.pages(m.offset, m.length)
            charges["pinned_bytes"] = self._count_pages(tenant.pinned, m.memory.file, pages, 1)
        self.quota.add(tenant.path, charges)

    def _unmap(self, space, m):
        tenant = space.lease.tenant
        if space.dirty is not None:
            space.dirty.unmapped(m)
        del space.maps[m.iova]
        space.starts.remove(m.iova)
        charges = {"map_entries": 1, "mapped_bytes": m.length}
        if m.memory:
            m.memory.mappings -= 1
            pages = m.memory.pages(m.offset, m.length)
            charges["pinned_bytes"] = self._count_pages(tenant.pinned, m.memory.file, pages, -1)
            if m.memory.freed and not m.memory.mappings:
                self._memory_gone(space.lease, m.memory)
        self.quota.add(tenant.path, charges, -1)

    def _memory_gone(self, lease, memory):
        pages = memory.pages(0, memory.length)
        bytes_ = self._count_pages(lease.tenant.registered, memory.file, pages, -1)
        self.quota.add(lease.tenant.path, {"registered_bytes": bytes_, "kept_fds": 1}, -1)

    def _unregistered(self, lease, memory):
        del lease.memories[memory.id]
        memory.freed = True
        if not memory.mappings:
            self._memory_gone(lease, memory)

    def _freed(self, space):
        del space.lease.ioasids[space.id]
        space.freed = True
        self._collect(space)

    def _collect(self, space):
        while space and space.freed and not space.attachments and not space.children:
            for m in list(space.maps.values()):
                self._unmap(space, m)
            self.quota.add(space.lease.tenant.path, {"ioasids": 1, RESOURCE_OF_KIND[space.kind]: 1}, -1)
            if space.vm:
                space.vm.spaces -= 1
                self._vm_collect(space.vm)
            space = space.parent
            if space:
                space.children -= 1

    def _detached(self, lease, key):
        space = lease.attachments.pop(key)
        if key[1]:
            self.quota.add(lease.tenant.path, {"pasids": 1}, -1)
        space.attachments -= 1
        self._collect(space)

    def _device_released(self, lease, address):
        for key in [k for k in lease.attachments if k[0] == address]:
            self._detached(lease, key)
        lease.devices.discard(address)
        self.devices[address].lease = None
        self.quota.add(lease.tenant.path, {"devices": 1}, -1)

    # ---- planning: common --------------------------------------------------------------

    def plan(self, method, lease, request, file=None):
        """file: for RegisterMemory, what was given with the ticket; None: it is no good."""
        scope = getattr(request, "scope", None)
        key = scope.key if scope is not None else ""
        plan = Plan(method, lease, request)
        plan.file = file
        if len(key.encode()) > 64:
            plan.refuse("INVALID_FIELD")
            return plan
        if key:
            scope.key = ""
            bare = request.SerializeToString(deterministic=True)
            scope.key = key
            known = lease.keys.get(key)
            if known:
                plan.reads.add(("lease", lease))
                if known[:2] != (method, bare):
                    plan.refuse("KEY_REUSED")
                    return plan
                plan.replay = True
                plan.check = lambda r: None if r == known[2] else f"a retry got another answer than {known[2]}"
                return plan
        getattr(self, "_plan_" + method)(plan, lease, request)
        if key and not plan.refusals:
            # Its place in the order of remembered keys matters only at the 1024th.
            inner = plan.commit

            def commit(response):
                inner(response)
                lease.remember(key, (method, bare, response))

            plan.commit = commit
        return plan

    def _space(self, plan, lease, id_):
        space = lease.ioasids.get(id_)
        if id_ == 0:
            plan.refuse("INVALID_FIELD")
        elif space is None:
            plan.refuse("NOT_FOUND")
        return space

    def _structural(self, plan, lease):
        """The plan changes which objects the lease has."""
        plan.writes.add(("lease", lease))

    def _uses(self, plan, lease):
        plan.reads.add(("lease", lease))

    def _reads_space(self, plan, space, with_files=None):
        for s in space.chain():
            plan.reads.add(("space", s))
            if s.vm:
                plan.reads.add(("vm", s.vm))
        if with_files:
            for file in {m.memory.file for s in space.chain() for m in s.maps.values() if m.memory}:
                with_files.add(("bytes", file))

    def _may_end(self, plan, lease, spaces):
        """The plan may end spaces, and with them mappings and memories waiting for that."""
        for space in {s for one in spaces for s in one.chain()}:
            for m in space.maps.values():
                if m.memory:
                    plan.writes.add(("pins", lease.tenant, m.memory.file))
                    plan.writes.add(("registered", lease.tenant, m.memory.file))
            if space.vm:
                self._vm_may_end(plan, space.vm)
        plan.releases = self.holdings(lease)

    def _new_id(self, lease, id_):
        if id_ == 0:
            return "id: zero"
        if id_ in lease.used_ids:
            return f"id {id_}: used before in this lease"
        return None

    def _device(self, plan, lease, address):
        """A device that must be claimed by the lease."""
        device = self.devices.get(address)
        if device is None:
            plan.refuse("NOT_FOUND", "INVALID_FIELD")
        elif address not in lease.devices:
            plan.refuse("NOT_CLAIMED")
        return device

    # ---- devices -----------------------------------------------------------------------

    def _plan_ClaimDevice(self, plan, lease, request):
        self._structural(plan, lease)
        names = list(request.devices)
        if not names or len(set(names)) != len(names):
            plan.refuse("INVALID_FIELD", "MALFORMED")
        known = [n for n in names if n in self.devices]
        if len(known) != len(names):
            plan.refuse("NOT_FOUND", "INVALID_FIELD")
        for name in known:
            for member in self.groups[self.devices[name].group]:
                plan.reads.add(("device", member))
            if self.devices[name].lease is not None:
                plan.refuse("DEVICE_IN_USE")
        after = lease.devices | set(known)
        for name in known:
            if not set(self.groups[self.devices[name].group]) <= after:
                plan.refuse("GROUP_INCOMPLETE")
        if plan.refusals:
            return
        plan.writes.update(("device", n) for n in names)
        plan.charges = {"devices": len(names)}

        def check(r):
            return differ(
                devices=(names, [d.address for d in r.devices]),
                states=({pb.DEVICE_STATE_CLAIMED}, {d.state for d in r.devices}),
            )

        def commit(r):
            self.quota.add(lease.tenant.path, plan.charges)
            for name in names:
                self.devices[name].lease = lease
            lease.devices.update(names)

        plan.check, plan.commit = check, commit

    def _plan_ReleaseDevice(self, plan, lease, request):
        self._structural(plan, lease)
        names = list(request.devices)
        if not names or len(set(names)) != len(names):
            plan.refuse("INVALID_FIELD", "MALFORMED")
        for name in names:
            self._device(plan, lease, name)
        if plan.refusals:
            return
        plan.writes.update(("device", n) for n in names)
        ended = [s for (address, _), s in lease.attachments.items() if address in names]
        self._may_end(plan, lease, ended)

        def commit(r):
            for name in names:
                self._device_released(lease, name)

        plan.commit = commit

    # ---- memory ------------------------------------------------------------------------

    def _plan_OpenTicket(self, plan, lease, request):
        self._structural(plan, lease)
        plan.check = lambda r: differ(length=(16, len(r.ticket)), lifetime=(True, 0 < r.lifetime_ms <= 10000))

    def _plan_RegisterMemory(self, plan, lease, request):
        self._structural(plan, lease)
        file = plan.file
        if len(request.label.encode()) > 64 or request.offset % PAGE or request.length % PAGE:
            plan.refuse("INVALID_FIELD")
        if not (request.read or request.write):
            plan.refuse("INVALID_FIELD")
        if file is None:
            plan.refuse("TICKET_REFUSED")
            return
        length = request.length or file.length - request.offset
        if request.offset + length > file.length or length <= 0:
            plan.refuse("INVALID_FIELD")
        if plan.refusals:
            return
        memory = Memory(file, request.offset, length, request.read, request.write, request.label)
        counts = lease.tenant.registered.get(file, {})
        fresh = sum(1 for page in memory.pages(0, length) if page not in counts)
        # The ticket's fd was charged when it was given and is the memory's from now on.
        plan.charges = {"registered_bytes": fresh * PAGE}
        plan.writes.add(("registered", lease.tenant, file))

        def check(r):
            return differ(length=(length, r.length), page_size=(PAGE, r.page_size)) or self._new_id(
                lease, r.memory
            )

        def commit(r):
            memory.id = r.memory
            lease.used_ids.add(r.memory)
            lease.memories[r.memory] = memory
            bytes_ = self._count_pages(lease.tenant.registered, file, memory.pages(0, length), 1)
            self.quota.add(lease.tenant.path, {"registered_bytes": bytes_})

        plan.check, plan.commit = check, commit

    def _plan_UnregisterMemory(self, plan, lease, request):
        self._structural(plan, lease)
        memory = lease.memories.get(request.memory)
        if request.memory == 0:
            plan.refuse("INVALID_FIELD")
        elif memory is None:
            plan.refuse("NOT_FOUND")
        if plan.refusals:
            return
        plan.writes.add(("registered", lease.tenant, memory.file))
        plan.releases = {"registered_bytes": memory.length, "kept_fds": 1}
        plan.check = lambda r: differ(pending=(memory.mappings > 0, r.pending))
        plan.commit = lambda r: self._unregistered(lease, memory)

    def _plan_ListMemory(self, plan, lease, request):
        self._uses(plan, lease)
        plan.reads.update(("space", s) for s in lease.ioasids.values())
        plan.reads.update(("vm", vm) for vm in self.vms(lease, self.objects(lease)[0]))

        def check(r):
            expected = {
                m.id: (m.length, PAGE, m.read, m.write, m.label, m.mappings)
                for m in lease.memories.values()
            }
            seen = {
                m.memory: (m.length, m.page_size, m.read, m.write, m.label, m.mappings)
                for m in r.memory
            }
            return differ(memory=(expected, seen), count=(len(expected), len(r.memory)))

        plan.check = check

    # ---- ioasids -----------------------------------------------------------------------

    def _choose(self, plan, lease, a):
        """What Alloc may answer, or None with the plan's refusals."""
        named = []
        for address in a.devices:
            device = self._device(plan, lease, address)
            if device:
                named.append(device)
        if a.kind not in pb.IoasidKind.values() or a.kind == pb.IOASID_KIND_UNSPECIFIED:
            plan.refuse("INVALID_FIELD")
        elif a.kind not in self.kinds:
            plan.refuse("UNIMPLEMENTED")
        vm = None
        if a.kind == pb.IOASID_KIND_KVM:
            vm = self._plan_space_of_vm(plan, lease, a)
            if any(not set(EPT) & set(d.formats) for d in named):
                plan.refuse("UNIMPLEMENTED")
        if a.kind == pb.IOASID_KIND_PROCESS:
            self._plan_space_of_process(plan, lease, a)
        if a.HasField("table") and a.kind != pb.IOASID_KIND_USER:
            plan.refuse("INVALID_FIELD")
        if a.vm and a.kind != pb.IOASID_KIND_KVM:
            plan.refuse("INVALID_FIELD")
        if a.input_bits > 64 or len(a.label.encode()) > 64:
            plan.refuse("INVALID_FIELD")
        if a.table_bits and (a.kind != pb.IOASID_KIND_USER or not a.input_bits <= a.table_bits <= 64):
            plan.refuse("INVALID_FIELD")
        for c in a.candidates:
            if c.format not in pb.PageTableFormat.values() or not c.format:
                plan.refuse("INVALID_FIELD")
        if len(a.candidates) > 32 or len(a.devices) > 64:
            plan.refuse("MALFORMED", "INVALID_FIELD")
        parent = lease.ioasids.get(a.parent)
        if a.parent and parent is None:
            plan.refuse("NOT_FOUND")
        if a.kind == pb.IOASID_KIND_USER and not a.parent:
            plan.refuse("INVALID_FIELD")
        if parent and parent.kind == pb.IOASID_KIND_PROCESS:
            plan.refuse("INVALID_FIELD")
        if a.kind == pb.IOASID_KIND_KERNEL and parent and parent.kind != pb.IOASID_KIND_KERNEL:
            plan.refuse("INVALID_FIELD")
        depth = parent.depth + 1 if parent else 1
        if depth > self.quota.ceiling(lease.tenant.path, "nesting_depth"):
            plan.refuse("QUOTA")
        if parent and parent.children >= self.quota.ceiling(lease.tenant.path, "children_per_parent"):
            plan.refuse("QUOTA")

        def has_features(d):
            return (
                (d.snoop or a.snoop != pb.SNOOP_MODE_ENFORCE)
                and (d.pasid_bits or not a.pasid)
                and (d.faults or not a.faults)
                and (d.dirty or not a.dirty_tracking)
            )

        def can_use(d, number):
            nested_on = [s.format.number for s in parent.chain()] if parent else []
            return d.max_depth >= depth and {number, *nested_on} <= set(d.formats)

        suited = named or [d for d in self.devices.values() if has_features(d)]
        if not suited or not all(has_features(d) for d in suited):
            plan.refuse("INCOMPATIBLE")

        def usable(number):
            f = FORMATS.get(number)
            if f is None or f.bits < a.input_bits or (number in EPT) != (a.kind == pb.IOASID_KIND_KVM):
                return False
            # Each of these formats has tables of one width.
            if a.table_bits not in (0, f.bits):
                return False
            # Without named devices one that fits is enough.
            return (all if named else any)(can_use(d, number) for d in suited)

        wanted = [c.format for c in a.candidates]
        if not wanted and a.table.format:
            wanted = [a.table.format]
        good = [n for n in (wanted or FORMATS) if usable(n)]
        if a.kind == pb.IOASID_KIND_PROCESS:
            good = wanted = [0]
        if not good:
            plan.refuse("FORMAT_UNSUPPORTED")
        if plan.refusals:
            return None
        if a.HasField("table"):
            # With candidates the table's format must be the one that is chosen.
            self._check_table(plan, FORMATS[good[0]], parent, a.table, devices=suited)
            if plan.refusals and plan.method == "Alloc":
                plan.maybe = {"ioasids": 1, RESOURCE_OF_KIND[a.kind]: 1}
                return None
            plan.refusals.clear()
        chosen = Negotiated()
        chosen.parent = parent
        chosen.vm = vm
        chosen.formats = good[:1] if wanted else good
        chosen.passed = wanted[: wanted.index(good[0])] if wanted else []
        chosen.suited = suited
        chosen.enforce_snoop = a.kind != pb.IOASID_KIND_PROCESS and (
            a.snoop == pb.SNOOP_MODE_ENFORCE
            or (a.snoop == pb.SNOOP_MODE_AUTO and bool(named) and all(d.snoop for d in named))
        )
        return chosen

    @staticmethod
    def valid_ranges(format_, suited):
        """All of the lower addresses but what is reserved for a device that has the format."""
        spans = [(0, format_.last())]
        for device in suited:
            if format_.number and format_.number not in device.formats:
                continue
            for start, last in device.reserved:
                cut = []
                for lo, hi in spans:
                    if last < lo or start > hi:
                        cut.append((lo, hi))
                        continue
                    if lo < start:
                        cut.append((lo, start - 1))
                    if last < hi:
                        cut.append((last + 1, hi))
                spans = cut
        return spans

    def _check_choice(self, a, chosen, choice):
        if choice.format not in chosen.formats:
            return f"format: expected one of {chosen.formats}, seen {choice.format}"
        f = FORMATS.get(choice.format, NO_FORMAT)
        return differ(
            input_bits=(f.bits, choice.input_bits),
            output_bits=(f.output_bits, choice.output_bits),
            kernel_chosen=(f.kernel_chosen, choice.kernel_chosen),
            enforce_snoop=(chosen.enforce_snoop, choice.enforce_snoop),
            valid=(self.valid_ranges(f, chosen.suited), [(v.start, v.last) for v in choice.valid]),
            passed_over=(chosen.passed, [p.format for p in choice.passed_over if a.candidates or a.table.format]),
            page_4k=(True, bool(choice.page_sizes & PAGE)),
        )

    def _plan_Negotiate(self, plan, lease, request):
        self._uses(plan, lease)
        a = request.alloc
        chosen = self._choose(plan, lease, a)
        if chosen is None:
            return
        if chosen.parent:
            plan.reads.add(("space", chosen.parent))
        # within_quota depends on what the others are doing.
        plan.check = lambda r: self._check_choice(a, chosen, r.choice)

    def _plan_Alloc(self, plan, lease, a):
        self._structural(plan, lease)
        chosen = self._choose(plan, lease, a)
        if chosen is None:
            return
        parent = chosen.parent
        if parent:
            plan.writes.add(("space", parent))
        plan.charges = {"ioasids": 1, RESOURCE_OF_KIND[a.kind]: 1}

        def check(r):
            return self._check_choice(a, chosen, r.choice) or self._new_id(lease, r.ioasid)

        def commit(r):
            f = FORMATS.get(r.choice.format, NO_FORMAT)
            space = Ioasid(lease, f, parent, a)
            space.valid = self.valid_ranges(f, chosen.suited)
            space.snoop = chosen.enforce_snoop
            self._made_for(space, a.devices)
            space.forgotten.rebound(self.tick())
            if a.HasField("table"):
                space.table = Bound.of(f, a.table)
            space.id = r.ioasid
            if a.kind == pb.IOASID_KIND_PROCESS:
                space.service = lease.service
            if chosen.vm:
                space.vm = chosen.vm
                space.vm.spaces += 1
            lease.used_ids.add(r.ioasid)
            lease.ioasids[r.ioasid] = space
            if parent:
                parent.children += 1
            self.quota.add(lease.tenant.path, plan.charges)

        plan.check, plan.commit = check, commit

    def _check_table(self, plan, format_, parent, table, devices=()):
        """Can it be bound to a space of this format?"""
        if table.format and table.format != format_.number:
            plan.refuse("INVALID_FIELD")
        if (table.supervisor_request or table.write_protect or table.extended_access) and not format_.sign_extended:
            plan.refuse("INVALID_FIELD")
        # Where no address of the parent can be; what is not mapped there is a device's fault later.
        if table.root % PAGE or table.root >> OUTPUT_BITS or parent.format.outside(table.root):
            plan.refuse("INVALID_FIELD")

    def _plan_BindPageTable(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._user_space(plan, lease, request.ioasid)
        if not request.HasField("table"):
            plan.refuse("INVALID_FIELD")
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        self._check_table(plan, space.format, space.parent, request.table)
        if plan.refusals:
            return
        plan.commit = lambda r: self._bound(space, Bound.of(space.format, request.table))

    def _plan_UnbindPageTable(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._user_space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        if space.table is None:
            plan.refuse("WRONG_STATE")
            return
        plan.commit = lambda r: self._bound(space, None)

    def _user_space(self, plan, lease, id_):
        space = self._space(plan, lease, id_)
        if space and space.kind != pb.IOASID_KIND_USER:
            plan.refuse("NOT_FOUND")
        return space

    def _bound(self, space, table, pasid_table=None):
        space.table = table
        if not (space.pasid_table and pasid_table and space.pasid_table.root == pasid_table.root):
            space.led = {}
        space.pasid_table = pasid_table
        space.forgotten.rebound(self.tick())

    def _plan_Free(self, plan, lease, request):
        self._structural(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        self._may_end(plan, lease, [space])
        plan.check = lambda r: differ(pending=(bool(space.attachments or space.children), r.pending))
        plan.commit = lambda r: self._freed(space)

    def _ioasid_fields(self, s):
        return {
            "kind": s.kind,
            "table": s.table.fields() if s.table else None,
            "pasid_table": s.pasid_table.fields() if s.pasid_table else None,
            "dirty_tracking": s.dirty_tracking,
            "tracking": s.dirty is not None,
            "format": s.format.number,
            "input_bits": s.format.bits,
            "valid": s.valid,
            "parent": s.parent.id if s.parent else 0,
            "vm": s.vm.id if s.vm else 0,
            "depth": s.depth,
            "devices": s.devices,
            "label": s.label,
            "mappings": len(s.maps),
            "mapped_bytes": s.mapped_bytes(),
            "attachments": s.attachments,
            "children": s.children,
        }

    @staticmethod
    def _seen_fields(i):
        return {
            "kind": i.kind,
            "table": Bound.of(None, i.table).fields() if i.HasField("table") else None,
            "pasid_table": PasidBound(i.pasid_table).fields() if i.HasField("pasid_table") else None,
            "dirty_tracking": i.dirty_tracking,
            "tracking": i.tracking,
            "format": i.choice.format,
            "input_bits": i.choice.input_bits,
            "valid": [(v.start, v.last) for v in i.choice.valid],
            "parent": i.parent,
            "vm": i.vm,
            "depth": i.depth,
            "devices": list(i.devices),
            "label": i.label,
            "mappings": i.mappings,
            "mapped_bytes": i.mapped_bytes,
            "attachments": i.attachments,
            "children": i.children,
        }

    def _plan_GetIoasid(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        plan.reads.add(("space", space))
        plan.check = lambda r: differ(
            id=(space.id, r.ioasid.ioasid),
            ioasid=(self._ioasid_fields(space), self._seen_fields(r.ioasid)),
        )

    def _plan_ListIoasids(self, plan, lease, request):
        self._uses(plan, lease)
        plan.reads.update(("space", s) for s in lease.ioasids.values())

        def check(r):
            expected = {s.id: self._ioasid_fields(s) for s in lease.ioasids.values()}
            seen = {i.ioasid: self._seen_fields(i) for i in r.ioasids}
            return differ(ioasids=(expected, seen), count=(len(expected), len(r.ioasids)))

        plan.check = check

    def _plan_Translate(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if request.access not in (READ, WRITE, EXECUTE):
            plan.refuse("INVALID_FIELD")
        if space and space.kind == pb.IOASID_KIND_PROCESS:
            plan.refuse("UNIMPLEMENTED")
        if plan.refusals:
            return
        self._reads_space(plan, space)
        walk = Walk(output_bits=OUTPUT_BITS)
        try:
            places = walk.places(space, request.iova, request.access)
        except TooMany:
            plan.unclear = True
            return
        plan.reads.update(("bytes", file) for file, _, _, _ in walk.words)

        def check(r):
            wrongs = [self._check_translation(space, request, r, place) for place in places]
            return None if None in wrongs else wrongs[0]

        plan.check = check

    def _check_translation(self, space, request, r, place):
        if isinstance(place, Fault):
            return differ(
                fault=((place.cause, place.stage), (r.fault.cause, r.fault.stage)),
                access=(request.access, r.fault.access),
                address=(place.address, r.fault.address),
                memory=(0, r.memory),
            )
        memory, offset = place.memory, place.offset
        # A memory that was unregistered while mapped has no id any more.
        return differ(
            fault=(0, r.fault.cause),
            memory=(memory.id if not (memory.freed and r.memory == 0) else 0, r.memory),
            offset=(offset, r.offset),
            read=(READ in place.prot, r.read),
            write=(WRITE in place.prot, r.write),
            **self._walk(space, request, r),
        )

    def _walk(self, space, request, r):
        """What is to be said of the table itself."""
        if self.real:
            return {"unseen": ((0, 0, 0), (len(r.levels), r.output, r.page_size))}
        filled = {"filled": (space.vm.find(request.iova).page_size(request.iova), r.page_size)} if space.vm else {}
        return filled | {
            "page": (True, r.page_size >= PAGE and r.page_size & (r.page_size - 1) == 0),
            "in_page": (request.iova % PAGE, r.output % PAGE),
            "walked": (True, len(r.levels) > 0),
        }

    # ---- map, unmap --------------------------------------------------------------------

    def _plan_Map(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if not 1 <= len(request.entries) <= 1024:
            plan.refuse("MALFORMED", "INVALID_FIELD")
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        if space.kind != pb.IOASID_KIND_KERNEL:
            plan.refuse(*NOT_BY_MAP)
        new = []  # Mapping; iova None: to be chosen
        for e in request.entries:
            self._plan_entry(plan, lease, space, e, new)
        fixed = sorted((m for m in new if m.iova is not None), key=lambda m: m.iova)
        for a, b in zip(fixed, fixed[1:]):
            if a.iova + a.length > b.iova:
                plan.refuse("OVERLAP")
        if plan.refusals:
            bytes_ = sum(e.length for e in request.entries)
            plan.maybe = {"map_entries": len(request.entries), "mapped_bytes": bytes_, "pinned_bytes": bytes_}
            return
        fresh = 0
        touched = {}
        for m in new:
            if not m.memory:
                continue
            plan.writes.add(("pins", lease.tenant, m.memory.file))
            counts = lease.tenant.pinned.get(m.memory.file, {})
            seen = touched.setdefault(m.memory.file, set())
            for page in m.memory.pages(m.offset, m.length):
                if page not in counts and page not in seen:
                    seen.add(page)
                    fresh += 1
        plan.charges = {
            "map_entries": len(new),
            "mapped_bytes": sum(m.length for m in new),
            "pinned_bytes": fresh * PAGE,
        }

        def check(r):
            if len(r.iovas) != len(new):
                return f"iovas: expected {len(new)}, seen {len(r.iovas)}"
            spans = []
            for m, iova in zip(new, r.iovas):
                if m.iova is not None and iova != m.iova:
                    return f"iova: expected {m.iova:#x}, seen {iova:#x}"
                if iova % PAGE or not space.is_valid(iova, m.length):
                    return f"chosen iova {iova:#x} + {m.length:#x} is not valid"
                if space.touching(iova, m.length):
                    return f"chosen iova {iova:#x} + {m.length:#x} overlaps"
                spans.append((iova, m.length))
            spans.sort()
            for (a, length), (b, _) in zip(spans, spans[1:]):
                if a + length > b:
                    return f"chosen iovas overlap at {b:#x}"
            return None

        def commit(r):
            for m, iova in zip(new, r.iovas):
                m.iova = iova
                self._map(space, m)

        plan.check, plan.commit = check, commit

    def _plan_entry(self, plan, lease, space, e, new):
        prot = set()
        for wanted, access in ((e.read, READ), (e.write, WRITE), (e.execute, EXECUTE)):
            if wanted:
                prot.add(access)
        if not prot:
            plan.refuse("INVALID_FIELD")
        if space.format.read_implied and READ not in prot:
            plan.refuse("INVALID_FIELD", "INCOMPATIBLE")
        if not e.length or e.length % PAGE:
            plan.refuse("INVALID_FIELD")
            return
        iova = None if e.choose else e.iova
        if iova is not None:
            if iova % PAGE or iova + e.length > 1 << 64 or not space.is_valid(iova, e.length):
                plan.refuse("INVALID_FIELD")
            elif space.touching(iova, e.length):
                plan.refuse("OVERLAP")
        memory = None
        if e.from_parent:
            if not space.parent or e.memory:
                plan.refuse("INVALID_FIELD")
            elif e.parent_address % PAGE or not space.parent.is_valid(e.parent_address, e.length):
                plan.refuse("INVALID_FIELD")
            elif (e.parent_address + e.length - 1) >> OUTPUT_BITS:
                plan.refuse("INVALID_FIELD")  # no entry of the child can say that
        else:
            memory = lease.memories.get(e.memory)
            if space.parent or not e.memory:
                plan.refuse("INVALID_FIELD")
            if e.memory and memory is None:
                plan.refuse("NOT_FOUND")
            if memory:
                if e.offset % PAGE or e.offset + e.length > memory.length:
                    plan.refuse("INVALID_FIELD")
                if (READ in prot and not memory.read) or (WRITE in prot and not memory.write):
                    plan.refuse("INVALID_FIELD", "MEMORY_UNSUITABLE")
        new.append(Mapping(iova, e.length, memory, e.offset, e.parent_address, prot))

    def _plan_Unmap(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if request.all and request.ranges:
            plan.refuse("INVALID_FIELD", "MALFORMED")
        if not request.all and not 1 <= len(request.ranges) <= 1024:
            plan.refuse("MALFORMED", "INVALID_FIELD")
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        found = list(space.maps.values()) if request.all else []
        for r in request.ranges:
            if not r.length or r.iova + r.length > 1 << 64:
                plan.refuse("INVALID_FIELD")
                continue
            touching = space.touching(r.iova, r.length)
            if not touching:
                plan.refuse("NOT_FOUND")
            for m in touching:
                if m.iova < r.iova or m.iova + m.length > r.iova + r.length:
                    plan.refuse("WOULD_SPLIT")
            found += touching
        if plan.refusals:
            return
        for m in found:
            if m.memory:
                plan.writes.add(("pins", lease.tenant, m.memory.file))
                if m.memory.freed:
                    plan.writes.add(("registered", lease.tenant, m.memory.file))
        bytes_ = sum(m.length for m in found)
        plan.releases = {
            "map_entries": len(found),
            "mapped_bytes": bytes_,
            "pinned_bytes": bytes_,
            "registered_bytes": sum(m.memory.length for m in found if m.memory and m.memory.freed),
            "kept_fds": len({m.memory for m in found if m.memory and m.memory.freed}),
        }
        plan.check = lambda r: differ(mappings=(len(found), r.mappings), bytes=(bytes_, r.bytes))

        def commit(r):
            for m in found:
                self._unmap(space, m)

        plan.commit = commit

    def _plan_ListMappings(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        plan.reads.add(("space", space))

        def check(r):
            expected = [space.maps[s] for s in space.starts]
            seen = list(r.mappings)
            if len(expected) != len(seen):
                return f"mappings: expected {len(expected)}, seen {len(seen)}"
            for m, s in zip(expected, seen):
                wrong = differ(
                    iova=(m.iova, s.iova),
                    length=(m.length, s.length),
                    memory=((m.memory.id if not m.memory.freed else s.memory) if m.memory else 0, s.memory),
                    offset=(m.offset if m.memory else 0, s.offset),
                    from_parent=(m.memory is None, s.from_parent),
                    parent_address=(0 if m.memory else m.parent_address, s.parent_address),
                    prot=(m.prot, {a for a, w in ((READ, s.read), (WRITE, s.write), (EXECUTE, s.execute)) if w}),
                )
                if wrong:
                    return wrong
            return None

        plan.check = check

    # ---- attachments -------------------------------------------------------------------

    def _attachment_key(self, plan, lease, request):
        pasid = request.pasid.value if request.HasField("pasid") else 0
        if request.HasField("pasid") and not 1 <= pasid < 1 << 20:
            plan.refuse("INVALID_FIELD")
        device = self._device(plan, lease, request.device)
        plan.reads.add(("device", request.device))
        return device, (request.device, pasid)

    @staticmethod
    def _pasid_fits(plan, device, pasid):
        """Is it a PASID that the device can send?"""
        if pasid >> device.pasid_bits:
            plan.refuse("INCOMPATIBLE", *(["INVALID_FIELD"] if device.pasid_bits else []))

    def _compatible(self, plan, device, pasid, space):
        self._pasid_fits(plan, device, pasid)
        if space.kind == pb.IOASID_KIND_PROCESS:
            return  # it has no table
        if self.real:
            for name in self.groups[device.group]:
                if name != device.address and plan.lease.attachments.get((name, 0), space) is not space:
                    plan.refuse("INCOMPATIBLE")
        for s in space.chain():
            if s.format.number not in device.formats:
                plan.refuse("INCOMPATIBLE")
            if s.snoop and not device.snoop:
                plan.refuse("INCOMPATIBLE")
            if s.dirty_tracking and not device.dirty:
                plan.refuse("INCOMPATIBLE")
        if space.pasid_table and not pasid and not device.pasid_tables:
            plan.refuse("INCOMPATIBLE")
        if device.max_depth < space.depth:
            plan.refuse("INCOMPATIBLE")
        # What is reserved for a device must not be mappable: name it at Alloc.
        for lo, hi in space.valid:
            if any(lo <= last and start <= hi for start, last in device.reserved):
                plan.refuse("INCOMPATIBLE")

    def _plan_Attach(self, plan, lease, request):
        self._structural(plan, lease)
        device, key = self._attachment_key(plan, lease, request)
        space = self._space(plan, lease, request.ioasid)
        old = lease.attachments.get(key)
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        self._compatible(plan, device, key[1], space)
        if old and (old is space or old not in space.chain()):
            plan.refuse("ALREADY_ATTACHED")
        if plan.refusals:
            return
        if key[1] and not old and lease.tenant.pasid_policy == "none":
            plan.refuse("POLICY_FORBIDDEN")
            plan.maybe = {"pasids": 1}
            return
        plan.charges = {"pasids": 1} if key[1] and not old else {}
        if old:
            self._may_end(plan, lease, [old])
        plan.commit = lambda r: self._attached(lease, key, space)

    def _plan_Replace(self, plan, lease, request):
        self._structural(plan, lease)
        device, key = self._attachment_key(plan, lease, request)
        space = self._space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        self._compatible(plan, device, key[1], space)
        if key not in lease.attachments:
            plan.refuse("NOT_ATTACHED")
        if plan.refusals:
            return
        self._may_end(plan, lease, [lease.attachments[key]])
        plan.commit = lambda r: self._attached(lease, key, space)

    def _attached(self, lease, key, space):
        old = lease.attachments.get(key)
        space.attachments += 1
        lease.attachments[key] = space
        if old:
            old.attachments -= 1
            self._collect(old)
        elif key[1]:
            self.quota.add(lease.tenant.path, {"pasids": 1})

    def _plan_Detach(self, plan, lease, request):
        self._structural(plan, lease)
        device, key = self._attachment_key(plan, lease, request)
        if plan.refusals:
            return
        self._pasid_fits(plan, device, key[1])
        if key not in lease.attachments:
            plan.refuse("NOT_ATTACHED")
            return
        self._may_end(plan, lease, [lease.attachments[key]])
        plan.commit = lambda r: self._detached(lease, key)

    def _plan_ListAttachments(self, plan, lease, request):
        self._uses(plan, lease)

        def check(r):
            # A freed IOASID that lives on in an attachment has no id any more.
            expected = {k: (s.id if not s.freed else None) for k, s in lease.attachments.items()}
            seen = {}
            for a in r.attachments:
                key = (a.device, a.pasid.value)
                seen[key] = None if expected.get(key, 1) is None else a.ioasid
            return differ(attachments=(expected, seen), count=(len(expected), len(r.attachments)))

        plan.check = check

    def _plan_Invalidate(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if space and space.kind == pb.IOASID_KIND_PROCESS:
            plan.refuse("UNIMPLEMENTED")  # nothing of it is cached
        commands = self._commands(plan, space, request)
        for e in commands:
            self._plan_command(plan, lease, space, e)
        if not commands:
            plan.refuse("INVALID_FIELD")
        if len(commands) > 4096:
            plan.refuse("MALFORMED")
        if plan.refusals:
            return
        (plan.writes if space.kind == pb.IOASID_KIND_USER else plan.reads).add(("space", space))
        plan.check = lambda r: differ(done=(len(commands), r.done), retry=(0, r.retry_after_ms))

        def commit(r):
            now = self.tick()
            for e in commands:
                self._forget(lease, space, e, now)

        plan.commit = commit

    @staticmethod
    def _commands(plan, space, request):
        """As entries, what a native array says as well."""
        if not (request.native_type or request.native):
            return list(request.entries)
        if request.entries or not request.native_type:
            plan.refuse("INVALID_FIELD")
        size = 24 if request.native_type == pb.NATIVE_INVALIDATION_VTD_S1 else 16
        if len(request.native) % size:
            plan.refuse("INVALID_FIELD")
        if space and (request.native_type != pb.NATIVE_INVALIDATION_VTD_S1 or space.kind != pb.IOASID_KIND_USER or not space.format.sign_extended):
            plan.refuse("UNIMPLEMENTED")
        if size != 24 or len(request.native) % size:
            return [pb.InvalidateEntry(granularity=pb.INVALIDATE_GRANULARITY_ALL)] * (len(request.native) // size)
        commands = []
        for address, pages, flags, reserved in struct.iter_unpack("<QQII", request.native):
            e = pb.InvalidateEntry(granularity=pb.INVALIDATE_GRANULARITY_RANGE, leaf=flags & 1)
            whole = not address and pages == U64
            if flags & ~1 or reserved or address % PAGE or (not whole and pages * PAGE > U64):
                plan.refuse("INVALID_FIELD")
            elif whole and not e.leaf:
                e = pb.InvalidateEntry(granularity=pb.INVALIDATE_GRANULARITY_ALL)
            elif whole:
                e = Everywhere(leaf=True)
            else:
                e.iova, e.length = address, pages * PAGE
            commands.append(e)
        return commands

    def _plan_command(self, plan, lease, space, e):
        if isinstance(e, Everywhere):
            return
        if e.granularity not in pb.InvalidateGranularity.values() or not e.granularity:
            plan.refuse("INVALID_FIELD")
        elif e.granularity == pb.INVALIDATE_GRANULARITY_RANGE:
            if not e.length or e.iova + e.length > 1 << 64:
                plan.refuse("INVALID_FIELD")
            elif space:
                # The entries of a PASID table choose for themselves: the widest.
                format_ = FORMATS[X86_64[1]] if space.pasid_table else space.format
                if format_.outside(e.iova) or format_.outside(e.iova + e.length - 1):
                    plan.refuse("INVALID_FIELD")
        elif e.granularity == pb.INVALIDATE_GRANULARITY_PASID:
            if not e.HasField("pasid"):
                plan.refuse("INVALID_FIELD")
        elif e.granularity == pb.INVALIDATE_GRANULARITY_PASID_CACHE:
            if space and not space.pasid_table:
                plan.refuse("WRONG_STATE")
        elif e.granularity == pb.INVALIDATE_GRANULARITY_DEVICE_TLB:
            self._plan_device_tlb(plan, lease, space, e)
        if e.granularity not in (pb.INVALIDATE_GRANULARITY_RANGE, pb.INVALIDATE_GRANULARITY_DEVICE_TLB):
            if e.iova or e.length:
                plan.refuse("INVALID_FIELD")
        if e.device and e.granularity != pb.INVALIDATE_GRANULARITY_DEVICE_TLB:
            plan.refuse("INVALID_FIELD")
        if e.HasField("pasid") and not 1 <= e.pasid.value < 1 << 20:
            plan.refuse("INVALID_FIELD")

    def _plan_device_tlb(self, plan, lease, space, e):
        if e.device:
            device = self._device(plan, lease, e.device)
            if device and not device.tlb:
                plan.refuse("UNIMPLEMENTED")
        elif not any(self.devices[d].tlb for d in lease.devices):
            plan.refuse("UNIMPLEMENTED")
        if e.iova or e.length:
            if not e.length or e.iova + e.length > 1 << 64:
                plan.refuse("INVALID_FIELD")
            elif space:
                format_ = FORMATS[X86_64[1]] if space.pasid_table else space.format
                if format_.outside(e.iova) or format_.outside(e.iova + e.length - 1):
                    plan.refuse("INVALID_FIELD")

    # ---- dirty pages ---------------------------------------------------------------------

    def _plan_SetDirtyTracking(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        if not space.dirty_tracking:
            plan.refuse("WRONG_STATE")
            return
        cleaning = None
        if space.kind == pb.IOASID_KIND_USER and request.enable and space.dirty is None:
            cleaning = self._clean(plan, space, 0, (1 << space.format.bits) - 1, True)
            if not cleaning:
                return
            plan.check = lambda r: cleaning.check_cleaned()

        def commit(r):
            if not request.enable:
                space.dirty = None
            elif space.dirty is None:
                space.dirty = Written() if cleaning else Pages()
                if cleaning:
                    cleaning.range = (0, (1 << 64) - 1)
                    cleaning.done(space.dirty)

        plan.commit = commit

    def _clean(self, plan, space, first, last, clear):
        """A look through a tenant's table, by nothing else that would change it; None: unclear."""
        self._reads_space(plan, space)
        try:
            cleaning = Cleaning(self, Search(space, first, last, OUTPUT_BITS), first, last, clear)
        except TooMany:
            plan.unclear = True
            return None
        for file in cleaning.search.files:
            (plan.writes if clear else plan.reads).add(("bytes", file))
            plan.writes.add(("bits", file))
        for s in space.parent.chain() if clear else ():
            plan.reads.add(("dirty", s))
        return cleaning

    def _made_for(self, space, names):
        """What Translate takes the IOMMU for: what all these devices have, or all of the host."""
        devices = [self.devices[d] for d in names] or list(self.devices.values())
        # Others cannot be attached where that was asked for.
        space.snoop_control = space.snoop or all(d.snoop for d in devices)
        space.access_dirty = space.dirty_tracking or all(d.access_dirty for d in devices)
        space.tlb = all(d.tlb for d in devices)

    def bits_unknown(self, lease):
        """
        Dirty bits of tables may have been set, or taken out, by a broker that ended and the next;
        which makes tables for those of their devices that the lease still has.
        """
        self.restarts += 1
        for space in self.objects(lease)[0]:
            self._made_for(space, [d for d in space.devices if d in lease.devices])
        for memory in self.objects(lease)[1]:
            memory.file.bits_unknown()

    def _plan_ReadDirtyBitmap(self, plan, lease, request):
        self._uses(plan, lease)
        space = self._space(plan, lease, request.ioasid)
        if space:
            plan.reads.add(("space", space))
        size = request.page_size
        if size < PAGE or size & (size - 1):
            plan.refuse("INVALID_FIELD")
        elif request.iova % size or not request.length or request.length % size:
            plan.refuse("INVALID_FIELD")
        if request.iova + request.length > 1 << 64:
            plan.refuse("INVALID_FIELD")
        if space and (space.format.outside(request.iova) or space.format.outside(request.iova + request.length - 1)):
            plan.refuse("INVALID_FIELD")
        if space and space.dirty is None:
            plan.refuse("WRONG_STATE")
        if plan.refusals:
            return
        plan.writes.add(("dirty", space))
        if space.kind == pb.IOASID_KIND_USER:
            if request.length // size > BITS_MAX or request.length > 1 << 32:
                plan.unclear = True
                return
            cleaning = self._clean(plan, space, request.iova, request.iova + request.length - 1, not request.no_clear)
            if cleaning:
                plan.check = lambda parts: cleaning.check(request, parts)
                plan.commit = lambda parts: cleaning.done(space.dirty)
            return
        plan.check = lambda parts: space.dirty.check(space, request, parts)
        if not request.no_clear:
            plan.commit = lambda parts: space.dirty.cleared(space, request)

    # ---- DMA ---------------------------------------------------------------------------

    def _plan_DeviceDma(self, plan, lease, request):
        self._uses(plan, lease)
        device, key = self._attachment_key(plan, lease, request)
        if device:
            self._pasid_fits(plan, device, key[1])
        if request.access == READ:
            length = request.length
        elif request.access == WRITE:
            length = len(request.data)
        else:
            plan.refuse("INVALID_FIELD")
            return
        if not 1 <= length <= 1 << 20:
            plan.refuse("INVALID_FIELD")
        if plan.refusals:
            return
        if request.iova + length > 1 << 64:
            plan.refuse("INVALID_FIELD")
            return
        space = self.goes_by(lease, *key)
        whole = lease.attachments.get((key[0], 0))
        if whole:
            plan.reads.add(("space", whole))  # whether it has a PASID table
        walk = Walk(device, key[1], OUTPUT_BITS)
        plan.admitted = lambda: walk.remember(self.now)
        try:
            pages = self.pages(walk, device, space, request.iova, length, request.access)
        except TooMany:
            plan.unclear = True
            return
        plan.pages = pages
        plan.process = space.service.file if space and space.service else None
        plan.through = "PASID table, " * bool(space and space.pasid_table) + " on ".join(pb.IoasidKind.Name(s.kind)[12:].lower() for s in space.chain()) if space else ""
        self._dma_touches(plan, walk, space, pages, request.access)
        plan.check = lambda r: self._check_dma(request, pages, r)
        sure = self._sure_leaves(walk, pages) if request.access == WRITE else {}
        plan.commit = lambda r: self._moved(lease, request, walk, pages, sure, r)
        plan.stale = walk.stale

    def _dma_touches(self, plan, walk, space, pages, access):
        if space is not None:
            self._reads_space(plan, space)
        tables = {file for file, _, _, _ in walk.words}
        # Bits that it could not set another may set for it meanwhile.
        plan.reads.update(("bits", file) for file, _ in walk.set)
        plan.writes.update(("bits", file) for file in walk.missed)
        plan.writes.update(("bits", file) for file in walk.exact)
        plan.reads.update(("bytes", file) for file in tables)
        for s in space.chain() if space is not None else ():
            if s.dirty is not None:
                plan.reads.add(("dirty", s))
        words = {(file, offset) for file, offset, _, _ in walk.words}
        for _, step, ends in pages:
            for end in ends:
                if isinstance(end, Fault):
                    plan.waits = plan.waits or self.may_wait(walk.device, space, end)
                    continue
                file = end.memory.file
                (plan.writes if access == WRITE else plan.reads).add(("bytes", file))
                if access == WRITE and file in tables:
                    at = end.memory.offset + end.offset
                    if any(file is f and at - 8 < offset < at + step for f, offset in words):
                        plan.unclear = True  # it writes the tables that it goes by

    @staticmethod
    def may_wait(device, space, fault):
        """Would the device ask for the page and wait?"""
        waits = space is not None and space.faults and device.faults and space.lease.watched
        return waits and fault.cause in (
            pb.FAULT_CAUSE_NOT_PRESENT, pb.FAULT_CAUSE_PERMISSION, pb.FAULT_CAUSE_PARENT_NOT_PRESENT,
            pb.FAULT_CAUSE_PARENT_PERMISSION,
        )  # fmt: skip

    def _check_dma(self, request, pages, r):
        done = 0
        for address, step, ends in pages:
            if r.done < done + step:
                break
            wrong = self._check_page(request, done, step, ends, r)
            if wrong:
                return wrong
            done += step
        if r.done != done:
            return f"done: expected {done}, seen {r.done}"
        length = request.length if request.access == READ else len(request.data)
        if done == length:
            return f"fault: expected none, seen {r.fault}" if r.HasField("fault") else None
        faults = [end for end in pages_at(pages, done) if isinstance(end, Fault)]
        if not r.HasField("fault"):
            return f"fault: expected {[f.key() for f in faults]}, seen none"
        if not faults:
            return f"fault: expected none, seen {r.fault}"
        if r.fault.access != request.access:
            return f"access: expected {request.access}, seen {r.fault.access}"
        seen = (r.fault.cause, r.fault.stage, r.fault.address)
        if seen not in [f.key() for f in faults]:
            return f"fault: expected {[f.key() for f in faults]}, seen {seen}"
        return None

    @staticmethod
    def _check_page(request, done, step, ends, r):
        places = [end for end in ends if isinstance(end, Place)]
        if not places:
            return f"done: expected {done} and a fault, seen {r.done}"
        if request.access == WRITE:
            return None
        seen = r.data[done : done + step]
        if any(p.memory.file.same(p.memory.offset + p.offset, seen) for p in places):
            return None
        p = places[0]
        expected = p.memory.file.mirror[p.memory.offset + p.offset :][:step]
        at = next((i for i in range(min(step, len(seen))) if expected[i] != seen[i]), 0)
        return (
            f"data: of {len(places)} places none agrees; differ from byte {done + at}: "
            f"expected {bytes(expected[at : at + 16]).hex()} seen {seen[at : at + 16].hex()}"
        )

    @staticmethod
    def _sure_leaves(walk, pages):
        """address -> [(space, file, offset)]: whose dirty bits a write there finds or sets."""
        sure = {}
        for address, _, ends in pages:
            if len(ends) != 1 or isinstance(ends[0], Fault):
                continue
            for stage, (space, at) in enumerate(ends[0].steps):
                leaf = walk.sure_leaf(space, at, 0 if stage else walk.pasid)
                if leaf:
                    sure.setdefault(address, []).append((space, *leaf))
        return sure

    def _moved(self, lease, request, walk, pages, sure, r):
        """The effect of a DMA; where several places were possible, it is in one of them."""
        lease.n_faults += lease.watched and r.HasField("fault")
        now = self.tick()
        at = 0
        for s, address in walk.written:
            if s.dirty is not None:
                s.dirty.perhaps(address)
        if request.access != WRITE:
            return
        for address, step, ends in pages:
            if at + step > r.done:
                for end in ends:  # it may have been on its way there
                    self._dirtied(end, False)
                return
            data = request.data[at : at + step]
            places = [end for end in ends if isinstance(end, Place)]
            if len(places) > 1:
                for p in places:
                    self._dirtied(p, False)
                there = [p for p in places if p.memory.file.holds(p.memory.offset + p.offset, data)]
                # Where it was before it need not have come now.
                came = [p for p in there if not p.memory.file.same(p.memory.offset + p.offset, data)]
                p = (came or there or places)[0]
            else:
                p = places[0]
                self._dirtied(p, len(ends) == 1)
                for space, file, offset in sure.get(address, ()):
                    file.dirtied.setdefault(offset, set()).add(space)
            p.memory.file.written(p.memory.offset + p.offset, data, now)
            at += step

    @staticmethod
    def _dirtied(end, certain):
        for space, address in end.steps:
            if space.dirty is not None:
                (space.dirty.certainly if certain else space.dirty.perhaps)(address)

    def pages(self, walk, device, space, iova, length, access):
        """[(address, bytes, [Place or Fault])] of a DMA, as far as it may get."""
        if space is None:
            return [(iova, length, [Fault(pb.FAULT_CAUSE_NOT_ATTACHED, 0, iova)])]
        pages, done = [], 0
        while done < length:
            address = iova + done
            step = min(PAGE - address % PAGE, length - done)
            ends = self._reach(walk, device, space, address, access)
            pages.append((address, step, ends))
            if not any(isinstance(end, Place) for end in ends):
                break
            done += step
        return pages

    def moves(self, device, space, iova, length, access):
        """[(file, offset, bytes)] that a DMA gets to, and the fault that ends it, or None.  For
        spaces whose tables the broker makes."""
        walk = Walk(device)
        pieces = []
        for _, step, (end,) in self.pages(walk, device, space, iova, length, access):
            if isinstance(end, Fault):
                return pieces, end
            pieces.append((end.memory.file, end.memory.offset + end.offset, step))
        return pieces, None

    @staticmethod
    def _reach(walk, device, space, address, access):
        for start, last in device.reserved:
            if start <= address <= last:
                return [Fault(pb.FAULT_CAUSE_RESERVED_RANGE, 0, address)]
        return walk.places(space, address, access)

    # ---- the whole ---------------------------------------------------------------------

    def sums(self, tenant):
        """Every counter of a tenant, from its objects alone (connections, fds apart)."""
        total = dict.fromkeys(COUNTED, 0)
        registered, pinned = set(), set()
        for lease in tenant.leases:
            total["leases"] += 1
            total["devices"] += len(lease.devices)
            total["pasids"] += sum(1 for _, pasid in lease.attachments if pasid)
            spaces, memories = self.objects(lease)
            for space in spaces:
                total["map_entries"] += len(space.maps)
                total["mapped_bytes"] += space.mapped_bytes()
                for m in space.maps.values():
                    if m.memory:
                        pinned.update((m.memory.file, p) for p in m.memory.pages(m.offset, m.length))
            for resource, n in self.count_spaces(spaces).items():
                total[resource] += n
            total["vms"] += len(self.vms(lease, spaces))
            for memory in memories:
                registered.update((memory.file, p) for p in memory.pages(0, memory.length))
            total["kept_fds"] += len(memories) + 2 * bool(lease.service)
        total["registered_bytes"] = len(registered) * PAGE
        total["pinned_bytes"] = len(pinned) * PAGE
        return total
