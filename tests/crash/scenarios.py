# SPDX-License-Identifier: Apache-2.0
"""
The mutating methods, each with something to change: a scenario builds up what its one call
changes, and names that call.  A method may have several, "Free.pending": what is done is another.

Which steps a scenario has is not written here but found out; what it does not have is in
ABSENT, with the reason, and nothing else may be missing.
"""
import itertools
import os
import re

from support import policy
from support.client import Refused

from stage import FAR, HIGH, LOW, NAMED, NEW, PAGE, check

STEPS = ("policy", "charge", "reserve", "intent", "shim", "before_result", "result", "publish",
         "audit", "reply")
KEYS = itertools.count(1)


class Scenario:
    """Of one run: what it built."""

    # "a": the tenant's call; "admin"
    by = "a"
    # What becomes of it between its intent and its result.
    rule = "undone"
    # What it is at a step where that differs from the rule.
    at = {}
    # More fault points: (where, step, n), n-th time.
    more = ()

    def __init__(self, stage, inventory):
        self.stage, self.pb = stage, stage.pb
        self.d0, self.d1, self.free = inventory.nesting[:3]
        self.group = inventory.group
        self.conn = self.token = self.secret = None
        # Admin keys outlive what else a run leaves.
        self.key = "one call %d.%d" % (os.getpid(), next(KEYS))

    # ---- before

    def build(self, conn):
        """Furniture: two memories, a space with two mappings and a device, one without, a
        nested one, a device to spare, a named lease with a space."""
        s = self.stage
        self.conn, self.token = conn, s.token(conn)
        self.m1, _ = s.memory(conn, 16)
        self.m2, self.m2_fd = s.memory(conn, 4, seed=2)
        conn.ClaimDevice(devices=[self.d0, self.d1])
        self.main = s.alloc(conn, [self.d0], label="main")
        self.other = s.alloc(conn, [self.d0, self.d1], label="other")
        conn.Map(ioasid=self.main, entries=[s.entry(LOW, self.m1, 8),
                                            s.entry(HIGH, self.m1, 2, 8, write=False)])
        conn.Map(ioasid=self.other, entries=[s.entry(FAR, self.m1, 1, 3)])
        self.child = s.alloc(conn, [self.d0], parent=self.main)
        conn.Map(ioasid=self.child, entries=[dict(
            iova=NEW, length=2 * PAGE, from_parent=True, parent_address=LOW + PAGE, read=True)])
        conn.Attach(device=self.d0, ioasid=self.main)
        self.secret = conn.OpenLease(name=NAMED, linger_seconds=300).secret
        self.named = s.alloc(conn, lease=NAMED)
        self.prepare()

    def prepare(self):
        """What only this scenario needs."""

    def make_ready(self):
        """After the picture that is the one before."""

    # ---- the call

    method = None

    def call(self):
        """The fields of the one call, without its key."""
        raise NotImplementedError

    def fields(self):
        return dict(self.call(), key=self.key)

    def caller(self):
        return self.stage.admin if self.by == "admin" else self.conn

    def attempt(self):
        return self.caller().send(self.method, self.fields())

    def comparable(self, answer):
        """What two runs must agree in."""
        return str(answer)

    def is_seen(self, retried):
        """Is the retry's refusal the answer that the documentation promises?"""
        return False

    # ---- after

    scopes = ({}, {"lease": NAMED})

    def come_back(self, conn):
        """As libioasid does it: with the token, then the named leases."""
        self.conn = conn
        answer = conn.attempt("Resume", token=self.token)
        if self.resumed() is None:
            check(not isinstance(answer, Refused) or answer.reason == "NOT_FOUND",
                  "Resume: %s", answer)
            return
        check(not isinstance(answer, Refused), "Resume: %s", answer)
        names = sorted(lease.name for lease in answer.leases)
        check(names == self.resumed(), "Resume gave %s", names)

    def resumed(self):
        """Names of the leases that Resume must give; None: that depends."""
        return ["", NAMED]

    def picture(self):
        return [(what, self.normal(text)) for what, text in self._picture()]

    def normal(self, text):
        """A text without what may differ between an undone request's repetition and a first."""
        return text

    def _picture(self):
        s = self.stage
        return s.picture(self.conn, [(d, {}) for d in (self.d0, self.d1, self.free)],
                         self.scopes) + s.overview()

    def tidy(self):
        """What the end of its leases does not undo."""


class Alloc(Scenario):
    method = "Alloc"

    def call(self):
        return dict(kind=self.pb.IOASID_KIND_KERNEL, devices=[self.d1], label="new")


class AllocNested(Alloc):
    def call(self):
        return dict(kind=self.pb.IOASID_KIND_KERNEL, devices=[self.d0], parent=self.main)


class Free(Scenario):
    method, rule = "Free", "redone"

    def call(self):
        return dict(ioasid=self.other)


class FreePending(Free):
    def call(self):
        return dict(ioasid=self.main)


class FreeLarge(Free):
    more = (("Free", "free_slice", 1), ("Free", "free_slice", 2))

    def prepare(self):
        self.stage.fill(self.conn, self.other, self.m2, 1500)


class Map(Scenario):
    method = "Map"

    def call(self):
        s = self.stage
        return dict(ioasid=self.main, entries=[
            s.entry(NEW, self.m2, 2), s.entry(FAR, self.m2, 1, 3, write=False),
            dict(choose=True, length=PAGE, memory=self.m1, offset=0, read=True)])


class MapNested(Map):
    def call(self):
        return dict(ioasid=self.child, entries=[dict(
            iova=FAR, length=PAGE, from_parent=True, parent_address=LOW, read=True)])


class Unmap(Scenario):
    method, rule = "Unmap", "redone"

    def call(self):
        return dict(ioasid=self.main, ranges=[{"iova": HIGH, "length": 2 * PAGE}])


class UnmapLarge(Unmap):
    more = (("Unmap", "unmap_slice", 1), ("Unmap", "unmap_slice", 2))

    def prepare(self):
        self.stage.fill(self.conn, self.main, self.m2, 9000)

    def call(self):
        return dict(ioasid=self.main, all=True)


class Attach(Scenario):
    method = "Attach"

    def call(self):
        return dict(device=self.d1, ioasid=self.other)


class AttachNested(Attach):
    """To the child of what it is attached to: a replace."""

    def call(self):
        return dict(device=self.d0, ioasid=self.child)


class Detach(Scenario):
    method, rule = "Detach", "redone"

    def call(self):
        return dict(device=self.d0)


class DetachLast(Detach):
    """The space was freed and goes with its last attachment."""

    def prepare(self):
        self.conn.Free(ioasid=self.child)
        self.conn.Free(ioasid=self.main)


class Replace(Scenario):
    method = "Replace"

    def call(self):
        return dict(device=self.d0, ioasid=self.other)


class ReplaceLast(Replace):
    """What it leaves was freed, and goes."""

    def prepare(self):
        self.conn.Free(ioasid=self.child)
        self.conn.Free(ioasid=self.main)


class BindPageTable(Scenario):
    """A table below the main space, in the place of none."""
    method = "BindPageTable"

    def prepare(self):
        pb = self.pb
        self.user = self.conn.Alloc(
            kind=pb.IOASID_KIND_USER, devices=[self.d0], parent=self.main,
            candidates=[dict(format=pb.PAGE_TABLE_FORMAT_X86_64_4L)]).ioasid

    def call(self):
        return dict(ioasid=self.user, table=dict(root=LOW + PAGE))


class BindPageTableOver(BindPageTable):
    def prepare(self):
        super().prepare()
        self.conn.BindPageTable(ioasid=self.user, table=dict(root=LOW + 2 * PAGE))
        self.conn.Attach(device=self.d0, ioasid=self.user)


class UnbindPageTable(BindPageTableOver):
    method, rule = "UnbindPageTable", "redone"

    def call(self):
        return dict(ioasid=self.user)


class BindPasidTable(BindPageTableOver):
    method = "BindPasidTable"

    def call(self):
        return dict(ioasid=self.user, format=self.pb.PASID_TABLE_FORMAT_VTD, root=LOW + PAGE,
                    pasid_bits=20)


class UnbindPasidTable(BindPageTable):
    method, rule = "UnbindPasidTable", "redone"

    def prepare(self):
        super().prepare()
        self.conn.BindPasidTable(ioasid=self.user, format=self.pb.PASID_TABLE_FORMAT_VTD,
                                 root=LOW + PAGE, pasid_bits=20)
        self.conn.Attach(device=self.d0, ioasid=self.user)

    def call(self):
        return dict(ioasid=self.user)


class SetDirtyTracking(Scenario):
    method = "SetDirtyTracking"

    def prepare(self):
        self.tracked = self.stage.alloc(self.conn, [self.d1], dirty_tracking=True)
        self.conn.Map(ioasid=self.tracked, entries=[self.stage.entry(LOW, self.m2, 2)])

    def call(self):
        return dict(ioasid=self.tracked, enable=True)


class SetDirtyTrackingOff(SetDirtyTracking):
    def prepare(self):
        super().prepare()
        self.conn.SetDirtyTracking(ioasid=self.tracked, enable=True)

    def call(self):
        return dict(ioasid=self.tracked, enable=False)


class Invalidate(Scenario):
    method = "Invalidate"

    def call(self):
        return dict(ioasid=self.main, entries=[
            dict(granularity=self.pb.INVALIDATE_GRANULARITY_RANGE, iova=LOW, length=PAGE)])


class RespondFault(Scenario):
    """What waits for an answer ends with the broker: nothing of it is written, and a repeated
    answer is for nobody."""
    method = "RespondFault"

    def call(self):
        return dict(cookie=1, code=self.pb.FAULT_RESPONSE_CODE_SUCCESS)


class ClaimDevice(Scenario):
    method = "ClaimDevice"

    def call(self):
        return dict(devices=[self.free])


class ClaimDeviceGroup(ClaimDevice):
    def call(self):
        return dict(devices=self.group)


class ReleaseDevice(Scenario):
    method, rule = "ReleaseDevice", "redone"

    def call(self):
        return dict(devices=[self.d0])


class ReleaseDeviceAll(ReleaseDevice):
    def call(self):
        return dict(devices=[self.d0, self.d1])


class GetDeviceFd(Scenario):
    """Simulated devices have no fd: the call is refused, which is its answer every time."""
    method = "GetDeviceFd"

    def call(self):
        return dict(device=self.d0)


class GetContextFd(Scenario):
    """Of a lease that was not opened with delegate, which simulated devices have no other of."""
    method = "GetContextFd"

    def call(self):
        return {}


class OpenTicket(Scenario):
    """Tickets end with the broker, and so do their keys."""
    method = "OpenTicket"
    at = dict.fromkeys(("publish", "audit", "reply"), "before")

    def call(self):
        return dict(purpose=self.pb.TICKET_PURPOSE_MEMORY)

    def comparable(self, answer):
        # A ticket is a new one each time, and ends with the broker.
        answer.ClearField("ticket")
        return str(answer)


class OpenDmaService(OpenTicket):
    """A service is a socket, which ends with the broker."""
    method = "OpenDmaService"

    def call(self):
        return {}


class RegisterMemory(Scenario):
    method = "RegisterMemory"

    def prepare(self):
        self.fd = self.conn.actor.memfd(size=3 * PAGE)

    def normal(self, text):
        # The id that the undone request was to get is not given again: the keeper may hold an
        # fd under its name.
        return text.replace("memory: 7\n", "memory: 6\n")

    def comparable(self, answer):
        return self.normal(str(answer))

    # A ticket ends with the broker and belongs to neither picture.
    def make_ready(self):
        self.give()

    def give(self):
        self.ticket = self.stage.ticket(self.conn, self.fd)

    def call(self):
        return dict(ticket=self.ticket, read=True, label="late")

    def attempt(self):
        answer = super().attempt()
        # Tickets end with the broker, so a request that was undone needs another.
        if isinstance(answer, Refused) and answer.reason == "TICKET_REFUSED":
            self.give()
            answer = super().attempt()
        return answer


class UnregisterMemory(Scenario):
    """Written before it is done, without an intent."""
    method = "UnregisterMemory"
    at = {"shim": "after"}

    def call(self):
        return dict(memory=self.m2)


class UnregisterMemoryPending(UnregisterMemory):
    def call(self):
        return dict(memory=self.m1)


class OpenLease(Scenario):
    method = "OpenLease"
    scopes = ({}, {"lease": NAMED}, {"lease": "second"})

    def call(self):
        return dict(name="second", linger_seconds=300,
                    limits=[dict(resource="ioasids", amount=3)])

    def comparable(self, answer):
        secret = answer.secret
        check(len(secret) == 32, "a secret of %d bytes", len(secret))
        return ""

    def resumed(self):
        return None


class AdoptLease(Scenario):
    """A lease that lingers since another connection of the tenant went."""
    method = "AdoptLease"
    scopes = ({}, {"lease": NAMED}, {"lease": "left"})

    def prepare(self):
        s = self.stage
        first = s.connect(policy.A)
        self.left_secret = first.OpenLease(name="left", linger_seconds=300).secret
        s.alloc(first, lease="left")
        first.close()
        s.until(lambda: any(lease.name == "left" and not lease.held
                            for lease in s.admin.ListLeases().leases), "the lease is left")

    def call(self):
        return dict(name="left", secret=self.left_secret)

    def resumed(self):
        return None

    def tidy(self):
        self.conn.attempt("AdoptLease", name="left", secret=self.left_secret)
        self.conn.attempt("CloseLease", lease="left")


class CloseLease(Scenario):
    """A lease takes its keys with it, so that a second close finds none."""
    method, rule = "CloseLease", "redone"
    more = (("lease", "lease_context", 1), ("lease", "lease_reap", 1))

    def call(self):
        return dict()

    def resumed(self):
        return None

    def is_seen(self, retried):
        return retried.reason == "NOT_FOUND"


class CloseLeaseLarge(CloseLease):
    more = (("lease", "lease_reap", 2),)

    def prepare(self):
        self.stage.fill(self.conn, self.main, self.m2, 1500)


class CloseLeaseNamed(CloseLease):
    more = (("lease", "lease_reap", 1),)

    def call(self):
        return dict(lease=NAMED)


class Resume(Scenario):
    """The broker was killed before; this is the coming back.  A client notes the token of its
    new connection before it resumes with the old one, and after a crash in the middle comes with
    both: what it had taken over has the new one, all else the old one."""
    method = "Resume"
    at = dict.fromkeys(STEPS, None)
    more = (("Resume", "resume_lease", 1), ("Resume", "resume_lease", 2))

    def call(self):
        return dict(token=self.old)

    def fields(self):
        return self.call()

    def resumed(self):
        return None

    def come_back(self, conn):
        self.conn = conn
        back = []
        for token in (self.token, self.old):
            answer = conn.attempt("Resume", token=token)
            if isinstance(answer, Refused):
                check(answer.reason == "NOT_FOUND", "Resume: %s", answer)
            else:
                back += [lease.name for lease in answer.leases]
        check(sorted(back) == ["", NAMED], "Resume gave %s", back)

    def is_seen(self, retried):
        # Everything has been taken over.
        return retried.reason == "NOT_FOUND"

    def comparable(self, answer):
        for lease in answer.leases:
            lease.ClearField("serial")
        return str(answer)


class OfVm(Scenario):
    """A VM with two slots, one of them on memory that was unregistered, and a device in it."""

    def prepare(self):
        c = self.conn
        self.m3, _ = self.stage.memory(c, 2, seed=3)
        self.vm = c.CreateVm(label="guest").vm
        c.SetMemorySlot(vm=self.vm, slot=1, guest_address=LOW, size=4 * PAGE, memory=self.m1)
        c.SetMemorySlot(vm=self.vm, slot=2, guest_address=HIGH, size=PAGE, memory=self.m3,
                        read_only=True)
        c.UnregisterMemory(memory=self.m3)
        self.space = c.Alloc(kind=self.pb.IOASID_KIND_KVM, vm=self.vm, devices=[self.d1]).ioasid
        c.Attach(device=self.d1, ioasid=self.space)

    def normal(self, text):
        # How far down a table is filled depends on which devices have been at it.
        return re.sub(r"\n  level: \d+", "", text)


class CreateVm(OfVm):
    method = "CreateVm"

    def call(self):
        return dict(label="new")


class AllocOfVm(OfVm):
    method = "Alloc"

    def call(self):
        return dict(kind=self.pb.IOASID_KIND_KVM, vm=self.vm)


class SetMemorySlot(OfVm):
    method = "SetMemorySlot"

    def call(self):
        return dict(vm=self.vm, slot=0, guest_address=FAR, size=PAGE, memory=self.m1, offset=PAGE)


class SetMemorySlotMove(OfVm):
    method = "SetMemorySlot"

    def call(self):
        return dict(vm=self.vm, slot=1, guest_address=LOW + PAGE, size=4 * PAGE, memory=self.m1)


class SetMemorySlotDelete(OfVm):
    """The last reference to the memory goes with it."""
    method, rule = "SetMemorySlot", "redone"

    def call(self):
        return dict(vm=self.vm, slot=2)


class DestroyVm(OfVm):
    method, rule = "DestroyVm", "redone"

    def prepare(self):
        super().prepare()
        self.conn.Detach(device=self.d1)
        self.conn.Free(ioasid=self.space)

    def call(self):
        return dict(vm=self.vm)


class DestroyVmPending(OfVm):
    method, rule = "DestroyVm", "redone"

    def call(self):
        return dict(vm=self.vm)


class FreeOfVm(OfVm):
    """The VM was destroyed, and goes with its last space."""
    method, rule = "Free", "redone"

    def prepare(self):
        super().prepare()
        self.conn.DestroyVm(vm=self.vm)
        self.conn.Detach(device=self.d1)

    def call(self):
        return dict(ioasid=self.space)


class SetLimits(Scenario):
    method, by = "SetLimits", "admin"

    def call(self):
        return dict(tenant="org/d", limits=[dict(resource="devices", amount=5),
                                            dict(resource="ioasids", amount=7)])

    def comparable(self, answer):
        for r in answer.tenant.resources:
            for field in ("peak", "refused_local", "refused"):
                r.ClearField(field)
        return str(answer)

    def tidy(self):
        self.stage.admin.ReloadPolicy()


class ReloadPolicy(Scenario):
    """The new policy limits org/d.  A broker that starts reads the new one in any case."""
    method, by = "ReloadPolicy", "admin"
    at = dict.fromkeys(STEPS, "after")

    def prepare(self):
        changed = policy.default()
        changed["tenants"]["org/d"]["limits"]["devices"] = 9
        self.stage.server.write_policy(changed)

    def call(self):
        return {}

    def comparable(self, answer):
        # Counted since the start.
        answer.ClearField("generation")
        return str(answer)

    def tidy(self):
        self.stage.server.write_policy(self.stage.policy)
        self.stage.admin.ReloadPolicy()


class DrainTenant(Scenario):
    method, by = "DrainTenant", "admin"

    def call(self):
        return dict(tenant="org/d", drain=True)

    def tidy(self):
        self.stage.admin.DrainTenant(tenant=self.call()["tenant"], drain=False)


class DrainTenantClose(DrainTenant):
    """That the leases end is written first; reserve and intent are those of their ends."""
    at = dict.fromkeys(("reserve", "intent"), "after")
    more = (("lease", "lease_context", 1), ("lease", "lease_reap", 1))

    def call(self):
        return dict(tenant="org/a", drain=True, close_leases=True)

    def resumed(self):
        return None


class RevokeDevice(Scenario):
    method, by, rule = "Revoke", "admin", "redone"

    def call(self):
        return dict(device=self.d0)


class RevokeLease(Scenario):
    """The end of the lease is the effect; the answer comes after it."""
    method, by, rule = "Revoke", "admin", "redone"
    more = (("lease", "lease_context", 1), ("lease", "lease_reap", 1))

    def prepare(self):
        self.serial = next(lease.serial for lease in self.stage.admin.ListLeases().leases
                           if lease.name == "" and lease.tenant == "org/a")

    def call(self):
        return dict(lease_serial=self.serial)

    def resumed(self):
        return None


SCENARIOS = {
    "Alloc": Alloc, "Alloc.nested": AllocNested,
    "Free": Free, "Free.pending": FreePending, "Free.large": FreeLarge,
    "Map": Map, "Map.nested": MapNested,
    "Unmap": Unmap, "Unmap.large": UnmapLarge,
    "Attach": Attach, "Attach.nested": AttachNested,
    "Detach": Detach, "Detach.last": DetachLast,
    "Replace": Replace, "Replace.last": ReplaceLast,
    "BindPageTable": BindPageTable, "BindPageTable.over": BindPageTableOver,
    "UnbindPageTable": UnbindPageTable,
    "BindPasidTable": BindPasidTable, "UnbindPasidTable": UnbindPasidTable,
    "SetDirtyTracking": SetDirtyTracking, "SetDirtyTracking.off": SetDirtyTrackingOff,
    "RespondFault": RespondFault,
    "Invalidate": Invalidate,
    "ClaimDevice": ClaimDevice, "ClaimDevice.group": ClaimDeviceGroup,
    "ReleaseDevice": ReleaseDevice, "ReleaseDevice.all": ReleaseDeviceAll,
    "GetDeviceFd": GetDeviceFd, "GetContextFd": GetContextFd, "OpenTicket": OpenTicket, "OpenDmaService": OpenDmaService,
    "RegisterMemory": RegisterMemory,
    "UnregisterMemory": UnregisterMemory, "UnregisterMemory.pending": UnregisterMemoryPending,
    "OpenLease": OpenLease, "AdoptLease": AdoptLease,
    "CloseLease": CloseLease, "CloseLease.large": CloseLeaseLarge,
    "CloseLease.named": CloseLeaseNamed,
    "Resume": Resume,
    "CreateVm": CreateVm, "Alloc.vm": AllocOfVm,
    "SetMemorySlot": SetMemorySlot, "SetMemorySlot.move": SetMemorySlotMove,
    "SetMemorySlot.delete": SetMemorySlotDelete,
    "DestroyVm": DestroyVm, "DestroyVm.pending": DestroyVmPending, "Free.vm": FreeOfVm,
    "SetLimits": SetLimits, "ReloadPolicy": ReloadPolicy,
    "DrainTenant": DrainTenant, "DrainTenant.close": DrainTenantClose,
    "Revoke.device": RevokeDevice, "Revoke.lease": RevokeLease,
}
