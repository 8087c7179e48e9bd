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

--shim iommufd (tests/guest): the same on the machine's own devices, as the server describes
them, with an ioasid-keeper.  DMA is then an edu's and takes 200 ms: every DMA_EVERY rounds one
device copies bytes from one address of its space to another, either perhaps not mapped, and
every byte of every file is compared.  Left out: nesting and PASIDs, which that shim has not (it
is asked for them, and must refuse); giving back a part of a group.
"""

import argparse
import collections
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time

import ioasid_pb2 as pb
from client import Connection, File, Server
from crashes import Crashes, KeptServer
from faults import STEP_EVERY, TIMEOUT_MS, Faults
from generator import Generator
from model import PAGE, READ, STATUS, WRITE, Plan, World, differ
from processes import STEP_EVERY as SERVICE_EVERY
from processes import Processes
from scribe import PAGES, Scribe, tables_of
from support import edu
from support.server import EDU
from support.server import Server as RealServer
from world import (
    KINDS,
    ORG,
    PASID_POLICIES,
    RACE_FORMAT,
    TENANTS,
    model_devices,
    policy_json,
    quota_tree,
    real_devices,
    real_limits,
    topology_json,
)

SLOTS = 2  # connections of a tenant
CONTEST_EVERY = 40  # rounds
KILL_EVERY = 90
AUDIT_EVERY = 400
DMA_EVERY = 4  # of a real device


class Divergence(Exception):
    pass


# ---- lanes -----------------------------------------------------------------------------


class Ticket:
    def __init__(self, ticket):
        self.bytes = ticket
        self.opened = time.monotonic()
        self.file = None  # what was given with it
        self.refused = False  # for want of room
        self.rounds = 0  # its age; time itself would not replay


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
        self.hot = collections.deque(maxlen=6)  # where its devices did DMA of late
        self.files = []
        self.tables = None  # the file for page tables
        self.process = None  # the memory of its process
        self.pages = {}  # page of it -> the space whose table it is
        self.thirsty = collections.deque(maxlen=3)  # DMA that would wait
        self.wishes = collections.deque(maxlen=4)  # (method, request) to make next


class Owner:
    """A tenant of the model with its connections."""

    def __init__(self, tenant, uid):
        self.tenant = tenant
        self.path = tenant.path
        self.uid = uid
        self.connections = [None] * SLOTS
        self.tokens = [b""] * SLOTS  # --kills: what each resumes with
        self.lanes = []


class Flight:
    """A request in flight, perhaps twice, and what it must come to."""

    __slots__ = ("lane", "plan", "futures", "since")

    def __init__(self, lane, plan, copies):
        self.lane = lane
        self.plan = plan
        self.futures = [None] * copies
        self.since = 0


class Round:
    """Operations that may be in flight together: they commute (see the top)."""

    def __init__(self, quota):
        self.quota = quota
        self.reads = set()
        self.writes = set()
        self.charged = {}
        self.released = {}
        self.refused = []  # (tenant path, charges) that must not fit in any order
        self.perhaps = []  # (tenant path, plan): refused anyhow, perhaps for want of room
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
            self.perhaps.append((path, plan))
        elif not plan.replay:
            if plan.releases and not self._refusals_stand(path, plan.releases):
                return False
            for resource, amount in plan.charges.items():
                self.charged[path, resource] = self.charged.get((path, resource), 0) + amount
            for resource, amount in plan.releases.items():
                self.released[path, resource] = self.released.get((path, resource), 0) + amount
        self.reads |= plan.reads
        self.writes |= plan.writes
        for whose, refused in self.perhaps:
            if self._certain(whose, refused.maybe) is not True:
                refused.refuse("QUOTA")
        return True

    def _refusals_stand(self, path, releases):
        if not self.refused:
            return True
        low = dict(self.released)
        for resource, amount in releases.items():
            low[path, resource] = low.get((path, resource), 0) + amount
        low = {k: -min(v, self.quota.own[k[0]][k[1]]) for k, v in low.items()}
        return all(not self.quota.fits(p, charges, low) for p, charges in self.refused)


# ---- the test --------------------------------------------------------------------------


class Test(Crashes, Faults, Processes):
    def __init__(self, arguments, sockets, server):
        self.seed = arguments.seed
        self.target = arguments.ops
        self.kills = arguments.kills
        self.audit_every = AUDIT_EVERY // 10 if self.kills else AUDIT_EVERY
        self.server = server
        self.trace = open(arguments.trace, "w") if arguments.trace else None
        self.tenant_socket, self.admin_socket = sockets
        self.rng = random.Random(f"{self.seed}/test")
        self.slow = arguments.slow
        self.real = arguments.shim != "soft"
        # Seconds for a ticket of 10, less what a round may take.
        self.patience = 4 if self.real else 7
        self.given = set()  # devices whose fd a tenant had: free a little later than others
        self.late = False  # one of those has been given back
        self.admin = Connection(self.admin_socket, os.geteuid(), 20 * self.slow)
        self.world = World(self._devices(), quota_tree(), TENANTS, self.real, [pb.IOASID_KIND_KERNEL] if self.real else KINDS, PASID_POLICIES)
        self.scribe = Scribe(self.world)
        self.n = 0  # operations answered and compared
        self.rounds = 0
        self.tally = collections.Counter()
        self.recent = collections.deque(maxlen=20)
        self.refused_by = collections.Counter()  # (tenant path, resource)
        self.most_in_flight = 0
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
                if not self.real:
                    lane.tables = self._new_file(f"{lane.label}/tables", PAGES)
                    lane.files.append(lane.tables)
                    lane.process = self.new_process(f"{lane.label}/process")
            owner.lanes[0].files.append(self._new_file(f"{path}/huge", 1024 + 64))
        tables = {lane.tables for owner in self.owners for lane in owner.lanes}
        # Over tables nonsense is written with more care (scribe.py).
        self.scribbled = [file for file in self.files if file not in tables]
        self.generator = Generator(self.world, self.owners)

    def _devices(self):
        if not self.real:
            return model_devices()
        answer = self.admin.call("ListDevices", pb.ListDevicesRequest(with_capabilities=True, page_size=1024))
        if answer.code != "OK":
            raise RuntimeError(f"ListDevices: {answer}")
        return real_devices([d for d in answer.response.devices if d.vendor_device == EDU])

    def _new_file(self, label, pages):
        file = File(label.replace("/", "-"), pages, self.rng.randbytes(pages * PAGE))
        self.files.append(file)
        return file

    def _connect(self, owner, slot):
        owner.connections[slot] = Connection(self.tenant_socket, owner.uid, 20 * self.slow)
        self.note_token(owner, slot)
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
        said = self.server.tail(10).rstrip()
        if said:
            lines.append("the server's log ends:\n  " + said.replace("\n", "\n  "))
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
            if self.was_late(plan, answer, time.monotonic() - flight.since):
                self.tally["(process was late)"] += 1
                time.sleep(0.1)
                plan.process.mirror[:] = plan.process.view[:]
                return
            wrong = plan.judge(answer)
            if wrong is None and effective is not None and answer.response != effective.response:
                wrong = "two answers to one idempotent request differ"
            if wrong:
                self.diverge(lane.label, plan.method, plan.request, plan.expectation(), answer, wrong)
            effective = answer
            self.tally[f"{plan.method} {answer.outcome}"] += 1
            if plan.stale:
                self.tally["  (caches may have a say)"] += 1
            if answer.reason == "QUOTA":
                self._refused(owner, plan, answer)
            self.recent.append((self.n, lane.label, plan.method, plan.request, answer))
            if self.trace:
                text = " ".join(str(plan.request).split())
                print(f"#{self.n} {lane.label} {plan.method} {text[:400]} -> {answer.outcome}", file=self.trace)
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
            elif plan.method == "ReleaseDevice":
                self._released(plan.request.devices)
            if plan.method != "Negotiate" and plan.request.scope.key:
                lane.history.append((plan.method, plan.request))
        if effective.code == "OK" and plan.method == "DeviceDma":
            if effective.response.done:
                self.tally[f"  DMA that got through {plan.through}"] += 1
                r = plan.request
                lane.hot.append(((r.device, r.pasid.value if r.HasField("pasid") else 0), r.iova))
            cause = effective.response.fault.cause
            what = pb.FaultCause.Name(cause)[12:].lower() if cause else "all bytes moved"
            self.tally[f"  DMA: {what}{', after some bytes' if cause and effective.response.done else ''}"] += 1

    def _refused(self, owner, plan, answer):
        """Counts a refusal by quota and checks what it discloses."""
        resource, refuser = answer.metadata.get("resource"), answer.metadata.get("tenant")
        wrong = None
        if plan.charges and resource not in plan.charges:
            wrong = f"refused for {resource}, charged would be {sorted(plan.charges)}"
        elif refuser not in (owner.path, ORG):
            wrong = f"refused by {refuser}"
        if wrong:
            self.diverge(owner.path, plan.method, plan.request, plan.expectation(), answer, wrong)
        if plan.method != "Negotiate":
            owner.tenant.refused[resource] += 1
            self.refused_by[refuser, resource] += 1
        # Of an ancestor a tenant learns the name and the resource, no number.
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
        self.crashing = not victim and self.crash_now()
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
        if self.crashing:
            self.begin_crash()
        for flight in now.flights:
            connection = flight.lane.owner.connections[flight.lane.slot]
            flight.since = time.monotonic()
            flight.futures = [connection.start(flight.plan.method, flight.plan.request) for _ in flight.futures]
        self.most_in_flight = max(self.most_in_flight, sum(len(f.futures) for f in now.flights))
        if victim:
            self._kill(*victim, doomed)
        if self.crashing:
            self.crash(now)
        else:
            answers = [(f, [Connection.finish(x) for x in f.futures]) for f in now.flights]
            for flight, list_ in answers:
                self.judged(flight, list_)
        self.rounds += 1
        if victim:
            self._buried(*victim)
        if self.late:
            self._wait_counters()
        self._give_fds()
        self._touch_memory()

    def _fill(self, now, lane):
        """Finds something for a lane that commutes with what the others do."""
        taken = False
        for _ in range(8):
            for method, request, copies in self.generator.requests(lane):
                file = None
                self.key_for(lane, method, request)
                if method == "RegisterMemory" and lane.ticket and request.ticket == lane.ticket.bytes:
                    file = lane.ticket.file
                plan = self.world.plan(method, lane.lease, request, file)
                if plan.waits or plan.unclear:
                    self.tally["(unclear)" if plan.unclear else "(would wait)"] += 1
                    if plan.waits and not plan.refusals:
                        lane.thirsty.append(request)
                    continue
                if now.admit(plan, lane.owner.path):
                    plan.admitted()
                    now.flights.append(Flight(lane, plan, copies))
                    taken = True
            if taken and lane.rng.random() < 0.7:
                return
        if not taken:
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
        lane.hot.clear()
        lane.pages.clear()
        lane.wishes.clear()
        lane.thirsty.clear()
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
            self._refused(owner, plan, answer)
        return answer.response

    def _give_fds(self):
        """Between rounds each open ticket gets its fd."""
        for lane in self.lanes():
            ticket = lane.ticket
            if ticket is None:
                continue
            ticket.rounds += 1
            if ticket.file:
                age = time.monotonic() - ticket.opened
                if age > self.patience:  # it still found no room; let it expire, at 10 s, before going on
                    time.sleep(max(0, 10.05 - age))
                    self._drop_expired()
                    self._wait_counters()
                continue
            if ticket.rounds > 100 or time.monotonic() - ticket.opened > self.patience + 2:
                lane.ticket = None  # it holds nothing and expires
                continue
            if ticket.refused and lane.rng.random() < 0.9:
                continue
            owner = lane.owner
            fits = self.world.quota.fits(owner.path, {"kept_fds": 1}, {})
            file = lane.rng.choice(lane.files)
            if lane.tables and lane.rng.random() < 0.5 and not tables_of(lane):
                file = lane.tables
            status = owner.connections[lane.slot].give(ticket.bytes, file.fd)
            self.n += 1
            self.tally[f"GIVE {status}"] += 1
            if status != (0 if fits else 4):
                self.diverge(lane.label, "GIVE", "", 0 if fits else 4, status, "another wire status")
            if fits:
                self.world.quota.add(owner.path, {"kept_fds": 1})
                ticket.file = file
            else:
                owner.tenant.refused["kept_fds"] += 1
                ticket.refused = True  # still good, for when there is room

    def _touch_memory(self):
        """The tenants' CPUs write into their memory, for devices to read."""
        for _ in range(2):
            file = self.rng.choice(self.scribbled)
            offset = self.rng.randrange(file.length - 64)
            file.cpu_write(offset, self.rng.randbytes(64), self.world.tick())
        for lane in self.lanes():
            if lane.lease and lane.tables and lane.rng.random() < 0.5:
                self.scribe.write(lane, self.tally)

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
            for vm in lease.vms.values():
                self.world._vm_may_end(plan, vm)
            for memory in lease.memories.values():
                plan.writes.add(("registered", owner.tenant, memory.file))
            for name in lease.devices:
                plan.writes.update(("device", n) for n in self.world.groups[self.world.devices[name].group])
            plan.releases = self.world.holdings(lease)
            plan.releases["kept_fds"] += 2  # tickets, the named lease's as well
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
            self._end_lease(lane)
        self.world.quota.add(owner.path, {"connections": 1}, -1)
        orphan = owner.lanes[SLOTS]
        if orphan.slot == slot:
            orphan.slot = None
            self._drop_ticket(orphan)
        self._wait_counters()
        self._connect(owner, slot)

    def _drop_ticket(self, lane):
        """Tickets end with the connection that opened them, and fds given with them."""
        if lane.ticket and lane.ticket.file:
            self.world.quota.add(lane.owner.path, {"kept_fds": 1}, -1)
        lane.ticket = None

    def _released(self, addresses):
        self.late = self.late or bool(self.given & set(addresses))
        self.given -= set(addresses)

    def _drop_expired(self):
        for owner in self.owners:
            for lane in owner.lanes:
                if lane.ticket and lane.ticket.file and time.monotonic() - lane.ticket.opened > 10:
                    self.tally["(ticket expired)"] += 1
                    self._drop_ticket(lane)

    def _end_lease(self, lane):
        self._released(lane.lease.devices)
        if lane.lease.service:
            lane.lease.service.close()
        self.world.lease_closed(lane.lease)
        self._drop_ticket(lane)
        lane.lease = None

    def _wait_counters(self):
        """Until the broker has noticed an end: its counters must become the model's."""
        deadline = time.monotonic() + 30 * self.slow
        while True:
            wrong = self._counters()
            if wrong is None:
                self.late = False
                return
            self._drop_expired()
            if time.monotonic() > deadline:
                self.diverge("admin", "ListTenants", "", "the model's counters", wrong, "30 s after a connection ended")
            time.sleep(0.002)

    # -- DMA of real devices --

    def real_dma(self):
        """One device copies some bytes through its buffer.  At rest, between rounds."""
        able = [
            (lane, address)
            for lane in self.lanes()
            if lane.lease
            for address, pasid in sorted(lane.lease.attachments)
            if not pasid
        ]
        if not able:
            self.tally["(no device to do DMA)"] += 1
            return
        mapped = [(lane, address) for lane, address in able if lane.lease.attachments[address, 0].maps]
        lane, address = self.rng.choice(mapped if mapped and self.rng.random() < 0.9 else able)
        space = lane.lease.attachments[address, 0]
        device = self.world.devices[address]
        n = self.rng.choice((1, 8, 61, 64))  # of longer ones that are refused QEMU makes many faults
        places = []
        for access in (READ, WRITE):
            # Not where messages go, nor above 48 bits, which an edu cuts off.
            iova = next(
                (
                    i
                    for i in (self.generator._address(lane, space) for _ in range(20))
                    if i + n < 1 << 48 and not any(i < last and start < i + n for start, last in device.reserved)
                ),
                0,
            )
            places.append((iova, *self._pieces(device, space, iova, n, access)))
        (source, found, unread), (target, reached, unwritten) = places
        bytes_ = bytearray(n)  # what is refused reads as zeros
        for at, file, offset, k in found:
            bytes_[at : at + k] = file.mirror[offset : offset + k]

        request = pb.GetDeviceFdRequest(device=address)
        request.scope.lease = lane.name
        connection = lane.owner.connections[lane.slot]
        if not self.world.quota.fits(lane.owner.path, {"kept_fds": 1}, {}):
            # It would wait in its ticket, as given ones do.
            self._alone(lane.owner, lane.slot, "GetDeviceFd", request, ["QUOTA"])
            return
        fd = connection.take(self._alone(lane.owner, lane.slot, "GetDeviceFd", request).ticket)
        self.given.add(address)
        try:
            function = edu.Edu(fd)
            function.load(source, n)
            function.store(target, n)
            function.close()
        finally:
            os.close(fd)
        were = [bytes(file.mirror[offset : offset + k]) for _, file, offset, k in reached]
        for at, file, offset, k in reached:
            file.mirror[offset : offset + k] = bytes_[at : at + k]
        what = f"{address}: {n} bytes from {source:#x} to {target:#x}"
        self.n += 1
        self.recent.append((self.n, lane.label, "(DMA)", what, f"{unread and unread.cause} {unwritten and unwritten.cause}"))
        self.tally[f"  edu: read {self._fate(unread, found)}, write {self._fate(unwritten, reached)}"] += 1
        for file in self.files:
            at = file.difference()
            if at is not None:
                seen, expected = file.view[at : at + 64], file.mirror[at : at + 64]
                self._whence(lane, space, source, target, seen[:8], b"".join(were))
                self.diverge(
                    lane.label, "(DMA)", what, f"{file.label} {at:#x}: {expected.hex()}", seen.hex(), "other bytes"
                )

    def _pieces(self, device, space, iova, n, access):
        """[(bytes before it, file, offset, bytes)] that it gets to, and a fault or None.  A real
        device goes on behind a page that it was refused."""
        pieces, fault, at = [], None, 0
        while at < n:
            step = min(PAGE - (iova + at) % PAGE, n - at)
            found, why = self.world.moves(device, space, iova + at, step, access)
            pieces += [(at, *piece) for piece in found]
            fault = fault or why
            at += step
        return pieces, fault

    def _whence(self, lane, space, source, target, bytes_, before):
        """What can be said of bytes that a device should not have moved."""
        print(f"{bytes_.hex()} was {'' if bytes_ in before else 'not '}there before")
        for file in self.files:
            at = file.mirror.find(bytes_)
            if at >= 0:
                print(f"{bytes_.hex()} is in {file.label} at {at:#x}")
        for m in space.touching(max(0, source - 16 * PAGE), 32 * PAGE) + space.touching(target // PAGE * PAGE, PAGE):
            print(f"mapped: {m.iova:#x} + {m.length:#x}: {m.memory.file.label} at {m.memory.offset + m.offset:#x} {m.prot}")
        for iova in (source // PAGE * PAGE, (source // PAGE + 1) * PAGE):
            request = pb.TranslateRequest(ioasid=space.id, iova=iova, access=READ)
            request.scope.lease = lane.name
            print(f"Translate {iova:#x}: {lane.owner.connections[lane.slot].call('Translate', request)}")

    @staticmethod
    def _fate(fault, pieces):
        if fault is None:
            return "done"
        return "refused in part" if pieces else "refused: " + pb.FaultCause.Name(fault.cause)[12:].lower()

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
                self._end_lease(lane)
                lane.slot = None
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
                self._refused(lane.owner, plan, answer)
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
                request.candidates.add().format = RACE_FORMAT[0]
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
        self._audit_objects()
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
            at = file.not_dirtied()
            if at is not None:
                seen = file.view[at : at + 8].hex()
                self.diverge(file.label, "(memory)", f"offset {at:#x}", "", seen, "audit: written through, not dirty")
        oldest = self.world.oldest()
        for file in self.files:
            file.settle(oldest)
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
        for resource, r in seen.items():
            wrong = wrong or differ(**{resource + " refused": (owner.tenant.refused[resource], r.refused)})
            local = self.refused_by[owner.path, resource]
            if resource != "kept_fds":  # GIVE does not say who refused
                wrong = wrong or differ(**{resource + " refused_local": (local, r.refused_local)})
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

    def _lease_row(self, name, mine, held, lease):
        spaces, memories = self.world.objects(lease)
        return (name, mine, held, len(spaces), len(memories), len(lease.devices), len(lease.attachments))

    def _audit_objects(self):
        """What the admin sees of every lease, page by page."""
        seen = collections.Counter()
        token = ""
        while True:
            request = pb.ListObjectsRequest(subtree=ORG, page_size=2, page_token=token)
            answer = self.admin.call("Admin.ListObjects", request)
            if answer.code != "OK":
                self.diverge("admin", "ListObjects", request, "OK", answer, "audit")
            for x in answer.response.leases:
                spaces = ((i.ioasid, i.mappings, i.mapped_bytes, i.attachments, i.children) for i in x.ioasids)
                memories = ((m.memory, m.length, m.mappings) for m in x.memory)
                attached = ((a.device, a.pasid.value) for a in x.attachments)
                row = (x.lease.tenant, x.lease.name, *self._sorted(spaces, memories, attached, x.devices))
                seen[(*row, x.pending, x.omitted)] += 1
            token = answer.response.next_page_token
            if not token:
                break
        expected = collections.Counter()
        for tenant in self.world.tenants.values():
            for lease in tenant.leases:
                every_space, every_memory = self.world.objects(lease)
                spaces = (
                    (s.id, len(s.maps), s.mapped_bytes(), s.attachments, s.children) for s in lease.ioasids.values()
                )
                memories = ((m.id, m.length, m.mappings) for m in lease.memories.values())
                pending = sum(x.freed for x in (*every_space, *every_memory, *self.world.vms(lease, every_space)))
                row = (tenant.path, lease.name, *self._sorted(spaces, memories, lease.attachments, lease.devices))
                expected[(*row, pending, 0)] += 1
        if seen != expected:
            self.diverge("admin", "ListObjects", "", expected - seen, seen - expected, "audit (what differs)")

    @staticmethod
    def _sorted(*lists):
        return (tuple(sorted(x)) for x in lists)

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
        while self.n < self.target or self.killed < self.kills:
            if self.rounds % self.audit_every == self.audit_every - 1:
                self.audit()
            if self.rounds % CONTEST_EVERY == CONTEST_EVERY - 1:
                self.contest()
            if self.rng.random() < 0.05:
                self.named(self.rng.choice(self.owners))
            victim = None
            if self.rounds % KILL_EVERY == KILL_EVERY - 1:
                victim = (self.rng.choice(self.owners), self.rng.randrange(SLOTS))
            self.round(victim)
            if not self.real and self.rounds % STEP_EVERY == 0:
                self.fault_step()
            if not self.real and self.rounds % SERVICE_EVERY == 0:
                self.service_step()
            if self.real and self.rounds % DMA_EVERY == 0:
                self.real_dma()
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
                for vm in sorted(lane.lease.vms):
                    self._do(lane, "DestroyVm", pb.DestroyVmRequest(vm=vm))
                for memory in sorted(lane.lease.memories):
                    self._do(lane, "UnregisterMemory", pb.UnregisterMemoryRequest(memory=memory))
                request = pb.CloseLeaseRequest()
                request.scope.lease = lane.name
                self._alone(owner, lane.slot, "CloseLease", request)
                self._end_lease(lane)
            pool = owner.lanes[SLOTS]
            if pool.lease:  # held by nobody: adopt it to close it
                self._alone(owner, 0, "AdoptLease", pb.AdoptLeaseRequest(name="pool", secret=pool.secret))
                request = pb.CloseLeaseRequest()
                request.scope.lease = "pool"
                self._alone(owner, 0, "CloseLease", request)
                self._end_lease(pool)
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


class Real:
    """ioasid-keeper as root, and ioasidd without privileges, as the RPC suites start them."""

    def __init__(self, build, slow):
        real_limits()
        self.server = RealServer(build, json.loads(policy_json()), slow=slow, shim="iommufd")
        self.process = None
        try:
            self.server.start()
        except BaseException:
            self.server.remove()
            raise
        self.process = self.server.process
        self.sockets = [self.server.socket("tenants"), self.server.socket("admin")]

    def tail(self, n=30):
        return "\n".join((self.server.keeper_said() + self.server.stderr()).splitlines()[-n:])

    def alive(self):
        return self.server.alive()

    def stop(self):
        problems = self.server.stop()
        self.server.remove()
        return "\n".join(problems) or 0


def start_server(arguments, folder):
    if arguments.shim == "iommufd":
        for what, limit in ((resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY), (resource.RLIMIT_NOFILE, 65536)):
            resource.setrlimit(what, (limit, limit))
        server = Real(os.path.abspath(arguments.build), arguments.slow)
        return server, server.sockets
    build = arguments.build
    files = {"policy.json": policy_json(), "topology.json": topology_json()}
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    sockets = [os.path.join(folder, "tenants.sock"), os.path.join(folder, "admin.sock")]
    options = [
        "--shim", "soft", "--audit", "none", "--fault-timeout", str(TIMEOUT_MS * arguments.slow),
        "--policy", os.path.join(folder, "policy.json"),
        "--topology", os.path.join(folder, "topology.json"),
        "--listen", f"tenants={sockets[0]}:0666",
        "--listen", f"admin={sockets[1]}:0600",
    ]  # fmt: skip
    if arguments.kills:
        return KeptServer(os.path.abspath(build), folder, options, sockets), sockets
    return Server(os.path.join(build, "bin", "ioasidd"), folder, options, sockets), sockets


def main():
    parser = argparse.ArgumentParser(description="Model test of the broker.")
    parser.add_argument("--build", required=True, help="build folder with bin/ioasidd")
    parser.add_argument("--shim", choices=("soft", "iommufd"), default="soft")
    parser.add_argument("--slow", type=int, default=1, metavar="N", help="timeouts are N times as long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ops", type=int, default=100000)
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="the broker is killed N times (crashes.py)")
    parser.add_argument("--trace", metavar="FILE", help="write every operation of a round there")
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
        server, sockets = start_server(arguments, folder)
        test = Test(arguments, sockets, server)
        test.run()
        test.admin.close()
        status = server.stop()
        if status != 0:
            print(f"ioasidd ended with {status}: {server.tail()}")
        else:
            passed, failed = test.n, 0
    except (OSError, RuntimeError) as error:
        print(f"model: {error}")
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
