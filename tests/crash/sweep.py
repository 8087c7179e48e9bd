# SPDX-License-Identifier: Apache-2.0
"""
The sweep: a broker that kills itself at every step of every mutating method.

For each scenario once without a crash: the picture before its call, the answer, the picture
after it.  Then, for every step: built up anew in ioasidd_crash with that step armed, called with
a key, and the connection is lost.  ioasidd starts on what was left; the tenant comes back.  Then

  - the picture is the one before or the one after, as the step and the method's rule say,
  - Check finds nothing; a device reads through exactly what is mapped (part of the picture),
  - the call repeated with its key, twice, gets the answer of the run without a crash, and the
    picture is the one after: it had one effect,
  - what another tenant has is as it was, and its device reads what it did,
  - when the tenant's leases are gone, counters, keeper and registry hold what they did before.
"""
import json
import time
import traceback

from support import policy
from support.client import Refused
from support.world import Inventory

from scenarios import SCENARIOS, STEPS
from stage import FAR, LOW, PAGE, Stage, Wrong, check, difference

# Steps that a scenario's call does not have, and why.  The pairs that never fire must be exactly
# these.
ABSENT = {}


def absent(scenarios, steps, why):
    for scenario in scenarios.split():
        for step in steps.split():
            ABSENT[scenario, step] = why


absent("Free Free.pending Free.large Unmap Unmap.large Detach Detach.last ReleaseDevice"
       " ReleaseDevice.all UnregisterMemory UnregisterMemory.pending CloseLease CloseLease.large"
       " CloseLease.named Revoke.device Revoke.lease SetMemorySlot.delete DestroyVm"
       " DestroyVm.pending Free.vm",
       "charge", "it gives back")
absent("Attach.nested Replace Replace.last AdoptLease Resume", "charge",
       "it takes over what is charged already")
absent("SetMemorySlot.move", "charge", "its tables come to as much there")
absent("Invalidate", "charge", "a rate is no charge")
absent("BindPageTable BindPageTable.over UnbindPageTable BindPasidTable UnbindPasidTable"
       " SetDirtyTracking SetDirtyTracking.off", "charge", "it makes no object")
absent("SetLimits ReloadPolicy DrainTenant DrainTenant.close", "charge", "it is of no tenant's")
absent("Invalidate", "reserve intent", "it changes no object")
absent("OpenTicket OpenDmaService", "reserve intent result", "a ticket ends with the broker: nothing is written")
absent("UnregisterMemory UnregisterMemory.pending OpenLease AdoptLease Resume SetLimits"
       " DrainTenant ReloadPolicy", "reserve intent",
       "its result is one batch, and the shim is not asked before it")
absent("OpenTicket OpenDmaService OpenLease AdoptLease Resume SetLimits DrainTenant DrainTenant.close"
       " ReloadPolicy", "shim", "the shim is not asked")
absent("Free.pending UnregisterMemory.pending DestroyVm.pending", "shim", "nothing ends yet")
absent("RespondFault", "charge reserve intent shim before_result result publish",
       "it is refused: no page request outlives the broker")
absent("GetDeviceFd", "charge reserve intent shim before_result result publish",
       "it is refused: a simulated device has no fd")
absent("GetContextFd", "charge reserve intent shim before_result result publish",
       "it is refused: no lease of simulated devices has a context to give away")
# Their answer is a refusal every time.
REFUSED = ("GetDeviceFd", "GetContextFd", "RespondFault")


class Pair:
    def __init__(self, scenario, where, step, n=1):
        self.scenario, self.where, self.step, self.n = scenario, where, step, n

    @property
    def armed(self):
        return "%s:%s:%d" % (self.where, self.step, self.n)

    def __str__(self):
        own = SCENARIOS[self.scenario].method
        return "%s %s%s%s" % (self.scenario, "" if self.where == own else self.where + ":",
                              self.step, "" if self.n == 1 else " %d" % self.n)

    def expected(self):
        """Which pictures there may be after the restart."""
        rule, at = SCENARIOS[self.scenario].rule, SCENARIOS[self.scenario].at
        if self.step in at:
            return (at[self.step],) if at[self.step] else ("before", "after")
        if self.step in ("policy", "charge", "reserve"):
            return ("before",)
        if self.step in ("result", "publish", "audit", "reply"):
            return ("after",)
        if self.step in ("intent", "shim", "before_result"):
            return ("after",) if rule == "redone" else ("before",)
        return ("before", "after")


def pairs():
    for name, scenario in SCENARIOS.items():
        for step in STEPS:
            yield Pair(name, scenario.method, step)
        for where, step, n in scenario.more:
            yield Pair(name, where, step, n)


def start_pairs():
    """The broker that starts is killed as well."""
    for step in ("lease", "sweep", "fds", "compact", "commit"):
        yield Pair("Map", "restore", step)
        yield Pair("Unmap", "restore", step)
        yield Pair("Free.pending", "restore", step)


class Devices:
    """Of the built-in topology, as a client sees it."""

    def __init__(self, stage):
        listing = stage.admin.ListDevices(with_capabilities=True, page_size=1024)
        inventory = Inventory(stage.pb, listing.devices)
        self.nesting = inventory.having(lambda c: c.max_depth > 1)
        self.group = [d.address for d in inventory.groups[0]]
        check(len(self.nesting) >= 4, "devices for nesting: %s", self.nesting)


class Bystander:
    """Tenant org/b, who has something all the time and notices no more than that the broker was
    away."""

    def __init__(self, stage, devices):
        self.stage, self.device = stage, devices.nesting[3]
        self.conn = stage.connect(policy.B)
        memory, _ = stage.memory(self.conn, 4, seed=9)
        self.conn.ClaimDevice(devices=[self.device])
        ioasid = stage.alloc(self.conn, [self.device])
        self.conn.Map(ioasid=ioasid, entries=[stage.entry(LOW, memory, 2),
                                              stage.entry(FAR, memory, 1, 3)])
        self.conn.Attach(device=self.device, ioasid=ioasid)
        self.token = stage.token(self.conn)
        self.first = self.picture()

    def picture(self):
        return self.stage.picture(self.conn, [(self.device, {})], [{}])

    def come_back(self):
        self.conn.close()
        self.conn = self.stage.connect(policy.B)
        answer = self.conn.attempt("Resume", token=self.token)
        check(not isinstance(answer, Refused), "the other tenant's Resume: %s", answer)
        self.token = self.stage.token(self.conn)
        self.look()

    def look(self):
        wrong = difference(self.first, self.picture())
        check(not wrong, "another tenant sees: %s", wrong)


class Reference:
    """The run without a crash."""

    def __init__(self, before, answer, after):
        self.before, self.answer, self.after = before, answer, after

    def which(self, picture):
        """"before", "after", "both", or what is wrong."""
        before, after = difference(self.before, picture), difference(self.after, picture)
        if not before and not after:
            return "both"
        if before and after:
            raise Wrong("it is neither as before (%s)\nnor as after the call (%s)" % (
                before, after))
        return "after" if before else "before"


class Sweep:
    """One stage and its part of the pairs."""

    def __init__(self, api, build, slow):
        self.stage = Stage(api, build, slow)
        self.references = {}
        self.since = 0

    def open(self):
        self.stage.start()
        self.devices = Devices(self.stage)
        self.bystander = Bystander(self.stage, self.devices)
        self.idle = self.stage.overview()
        self.idle_kept = self.stage.kept()
        self.idle_leases = self.leases()

    def leases(self):
        """In the registry."""
        return sorted(str(d.get("serial")) for d in map(
            json.loads, self.stage.registry("dump").splitlines()) if d.get("record") == "lease")

    def _build(self, name):
        scenario = SCENARIOS[name](self.stage, self.devices)
        scenario.build(self.stage.connect(policy.A))
        return scenario

    def _ready(self, scenario, crash=""):
        """Resume needs a broker that was killed before."""
        if scenario.method != "Resume":
            return
        self.stage.kill()
        self.stage.start(crash)
        self.bystander.come_back()
        scenario.conn = self.stage.connect(policy.A)
        scenario.old, scenario.token = scenario.token, self.stage.token(scenario.conn)

    def _release(self, scenario):
        """The tenant goes; then all is as it was without it."""
        s = self.stage
        scenario.tidy()
        s.hang_up(self.bystander.conn.actor, s.admin.actor)
        s.until(self._leases_gone, lambda: "leases stay: %s" % s.admin.ListLeases())
        s.until(lambda: not difference(self.idle, s.overview()),
                lambda: "after the end of its leases: " + difference(self.idle, s.overview()))
        s.until(lambda: s.kept() == self.idle_kept,
                lambda: "the keeper holds %s" % s.kept())
        now = self.leases()
        check(now == self.idle_leases, "leases in the registry: %s, at first %s", now,
              self.idle_leases)
        s.consistent()
        self.bystander.look()

    def _leases_gone(self):
        """Those that linger end by an admin's hand."""
        left = [lease for lease in self.stage.admin.ListLeases().leases
                if lease.tenant == "org/a"]
        for lease in left:
            if not lease.held and not lease.closing:
                self.stage.admin.attempt("Revoke", lease_serial=lease.serial)
        return not left

    def reference(self, name):
        if name not in self.references:
            scenario = self._build(name)
            self._ready(scenario)
            before = scenario.picture() if scenario.method != "Resume" else []
            scenario.make_ready()
            answer = scenario.attempt()
            check(not isinstance(answer, Refused) or name in REFUSED, "%s: %s", name, answer)
            after = scenario.picture()
            self.references[name] = Reference(before, self._comparable(scenario, answer), after)
            self._release(scenario)
        return self.references[name]

    @staticmethod
    def _comparable(scenario, answer):
        if isinstance(answer, Refused):
            return "%s: %s" % (answer.reason, answer.message)
        return scenario.comparable(answer)

    def _retry(self, scenario, reference):
        """Twice with the same key."""
        for time_ in ("retried", "retried again"):
            answer = scenario.attempt()
            same = self._comparable(scenario, answer)
            check(same == reference.answer or (isinstance(answer, Refused) and
                                               scenario.is_seen(answer)),
                  "%s: answer %r, without a crash %r", time_, same[:600], reference.answer[:600])
            if not isinstance(scenario.caller(), str):
                wrong = difference(reference.after, scenario.picture())
                check(not wrong, "%s: %s", time_, wrong)

    def run(self, pair):
        """"before" or "after", as it was found; None: the step was not passed."""
        s = self.stage
        reference = self.reference(pair.scenario)
        restore = pair.where == "restore"
        first = Pair(pair.scenario, SCENARIOS[pair.scenario].method, "before_result") \
            if restore else pair
        s.kill()
        resumes = SCENARIOS[pair.scenario].method == "Resume"
        s.start("" if resumes else first.armed)
        self.bystander.come_back()
        scenario = self._build(pair.scenario)
        self._ready(scenario, first.armed)
        self.since = s.log_size()
        scenario.make_ready()
        s.arm()
        answer = scenario.attempt()
        fired = s.died(0.3 if not isinstance(answer, Refused) or answer.code != "UNAVAILABLE"
                       else 5)
        s.disarm()
        if not fired:
            check(not isinstance(answer, Refused) or pair.scenario in REFUSED,
                  "%s", answer)
            self._release(scenario)
            return None
        if restore:
            self._crash_at_start(pair)
        s.start()
        self.bystander.come_back()
        scenario.come_back(s.connect(policy.A))
        s.consistent()
        found = reference.which(scenario.picture()) if reference.before else "after"
        expected = pair.expected() if not restore else first.expected()
        check(found in expected or found == "both", "it is as %s the call, expected %s", found,
              " or ".join(expected))
        self._retry(scenario, reference)
        s.consistent()
        self._release(scenario)
        return found

    def _crash_at_start(self, pair):
        s = self.stage
        try:
            s.arm_at_start = True
            s.start(pair.armed)
        except Exception:
            # It died while it was waited for.
            pass
        finally:
            s.arm_at_start = False
        check(s.died(5), "the start did not pass %s", pair.step)

    def again(self):
        """After a failure: a new stage for what follows."""
        self.close()
        self.stage = Stage(self.stage.api, self.stage.build, self.stage.slow)
        self.references = {}
        self.open()

    def close(self):
        return self.stage.end()

    def untouched(self):
        """Methods of the API that are built, that may change something, and that no scenario
        tries."""
        s, left = self.stage, []
        tried = {scenario.method for scenario in SCENARIOS.values()}
        conn = s.connect(policy.A)
        for name, method in s.api.methods.items():
            if name.startswith("Health/") or method.name in tried or method.name in READS:
                continue
            answer = (s.admin if name.startswith("Admin/") else conn).send(name, {})
            if not isinstance(answer, Refused) or answer.reason != "UNIMPLEMENTED":
                left.append(name)
        return left

    def judged(self, pair):
        """(found, what was wrong)"""
        try:
            found = self.run(pair)
        except Exception:
            text = traceback.format_exc()
            said = self.stage.said(self.since)[-3000:]
            self.again()
            return "failed", text + "\nthe brokers' log:\n" + said
        key = pair.scenario, pair.step if pair.n == 1 else "%s %d" % (pair.step, pair.n)
        if found is None and key not in ABSENT:
            return "absent", "the step was never passed, and is not in the table of absent ones"
        if found is not None and key in ABSENT:
            return found, "the table says that there is no such step: " + ABSENT[key]
        return found or "absent", ""


# They change nothing that outlives them.
READS = set("""GetStatus ListDevices GetDevice ListMemory Negotiate GetIoasid ListIoasids
    ListMappings ListAttachments Translate DeviceDma ListLeases GetQuota ExplainQuota WatchEvents
    ListTenants ListObjects Check WatchFaults ReadDirtyBitmap
    ListVms""".split())
