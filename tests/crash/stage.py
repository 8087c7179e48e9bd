# SPDX-License-Identifier: Apache-2.0
"""
What the crash tests play on: a keeper, a broker with a registry that is killed and started
again, a tenant whose requests are cut short ("a", org/a) and one that goes on beside it and must
not notice ("b", org/b).  And the picture of everything that can be seen of them.

A picture is a list of (what was asked, answer as text), compared as a whole: lists of every
kind, counters of every tenant, and what a device reads at every address that is, was or will be
mapped.  What two runs cannot have in common is left out: serial numbers, process ids.
"""
import os
import subprocess
import time

from support import fdpass, policy
from support.actor import Actor
from support.case import PAGE, pattern
from support.client import Connection, Refused
from support.server import SERVER_UID, Server

# IOVAs of the furniture.
LOW, HIGH, NEW, FAR = 0x100000, 0x200000, 0x300000, 0x400000
NAMED = "vm"


class Wrong(AssertionError):
    """What should hold does not."""


def check(holds, text, *arguments):
    if not holds:
        raise Wrong(text % arguments if arguments else text)


class Stage:
    def __init__(self, api, build, slow, policy_=None, topology=None, grace=60, name=""):
        self.api, self.pb, self.build, self.slow = api, api.pb, build, slow
        self.policy = policy_ or policy.default()
        self.server = Server(build, self.policy, topology, slow, ["--grace", str(grace)],
                             keeper=True)
        self.arming = os.path.join(self.server.folder, "armed")
        self.arm_at_start = False
        self.actors, self.name = {}, name
        self.connections = []

    # ---- the broker

    def start(self, crash="", daemon="ioasidd"):
        """crash: what IOASID_CRASH arms, in ioasidd_crash."""
        if crash:
            daemon = "ioasidd_crash"
        self.server.daemon = daemon if daemon == "ioasidd" else os.path.join(
            self.build, "tests", daemon)
        if not self.arm_at_start:
            self.disarm()
        else:
            self.arm()
        self.server.environment = {"IOASID_CRASH": crash, "IOASID_CRASH_WHILE": self.arming} \
            if crash else {}
        self.server.start()
        self.admin = self.connect(policy.ADMIN, "admin")

    def arm(self):
        """From now on the armed point counts."""
        with open(self.arming, "w"):
            os.chmod(self.arming, 0o644)

    def disarm(self):
        if os.path.exists(self.arming):
            os.unlink(self.arming)

    def kill(self):
        self.server.kill()

    def restart(self):
        self.kill()
        self.start()

    def died(self, seconds=1.0):
        """Did it kill itself?  Any other end is a failure."""
        end = time.monotonic() + seconds * self.slow
        while self.server.alive():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        code = self.server.process.returncode
        check(code == -9, "the broker ended with %s:\n%s", code, self.server.stderr()[-4000:])
        self.server.clear()
        return True

    def log_size(self):
        return os.path.getsize(self.server.log)

    def said(self, since=0):
        with open(self.server.log, "rb") as f:
            f.seek(since)
            return f.read().decode(errors="replace")

    def wait_said(self, text, since=0, seconds=10):
        end = time.monotonic() + seconds * self.slow
        while text not in self.said(since):
            check(time.monotonic() < end, "the log does not say %r:\n%s", text,
                  self.said(since)[-3000:])
            time.sleep(0.02)

    def end(self):
        for actor in self.actors.values():
            actor.kill()
        problems = self.server.stop() if self.server.alive() else []
        self.server.remove()
        return problems

    # ---- clients

    def actor(self, uid):
        if uid not in self.actors:
            self.actors[uid] = Actor(uid)
        return self.actors[uid]

    def connect(self, uid, socket="tenants", actor=None):
        options = []
        if self.slow > 1:
            options = [("grpc.min_reconnect_backoff_ms", 20000 * self.slow)]
        conn = Connection(self.api, actor or self.actor(uid), self.server.socket(socket),
                          20 * self.slow, options)
        self.connections.append(conn)
        return conn

    def hang_up(self, *but):
        """Every connection goes, except those of these actors."""
        for conn in self.connections:
            if conn.actor not in but:
                conn.close()
        self.connections = [c for c in self.connections if c.actor in but]

    def token(self, conn):
        return conn.GetStatus().resume_token

    def memory(self, conn, pages, seed=1, **scope):
        fd = conn.actor.memfd(size=pages * PAGE)
        conn.actor.pwrite(fd, pattern(pages * PAGE, seed), 0)
        ticket = self.ticket(conn, fd, **scope)
        return conn.RegisterMemory(ticket=ticket, read=True, write=True, **scope).memory, fd

    def ticket(self, conn, fd, **scope):
        ticket = conn.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY, **scope).ticket
        status = conn.actor.exchange(conn.path, fdpass.request(fdpass.GIVE, ticket), [fd])[0]
        check(status == fdpass.OK, "GIVE: status %s", status)
        return ticket

    def alloc(self, conn, devices=(), **more):
        return conn.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=list(devices), **more).ioasid

    def entry(self, iova, memory, pages=1, offset=0, **more):
        return dict({"iova": iova, "length": pages * PAGE, "memory": memory,
                     "offset": offset * PAGE, "read": True, "write": True}, **more)

    def fill(self, conn, ioasid, memory, count, base=0x10000000, **scope):
        """count mappings of one page, apart from each other."""
        for first in range(0, count, 1024):
            conn.Map(ioasid=ioasid, entries=[
                self.entry(base + 2 * PAGE * i, memory)
                for i in range(first, min(first + 1024, count))], **scope)

    # ---- what is there

    def picture(self, conn, devices, scopes):
        """devices: [(address, scope)] whose DMA is looked at; scopes: of its leases."""
        seen = []

        def look(what, answer):
            text = "%s: %s" % (answer.reason, answer.message) if isinstance(answer, Refused) \
                else str(answer)
            seen.append((what, text))
            return answer

        for scope in scopes:
            name = scope.get("lease", "")
            answer = look("ListIoasids " + name, conn.attempt("ListIoasids", page_size=1024, **scope))
            for i in getattr(answer, "ioasids", ()):
                look("GetIoasid", conn.attempt("GetIoasid", ioasid=i.ioasid, **scope))
                look("ListMappings %d" % i.ioasid,
                     conn.attempt("ListMappings", ioasid=i.ioasid, page_size=1024, **scope))
            look("ListMemory " + name, conn.attempt("ListMemory", page_size=1024, **scope))
            look("ListVms " + name, conn.attempt("ListVms", page_size=1024, **scope))
            look("ListAttachments " + name,
                 conn.attempt("ListAttachments", page_size=1024, **scope))
        for device, scope in devices:
            look("GetDevice " + device, conn.attempt("GetDevice", device=device))
            for iova in DMA_AT:
                look("DMA of %s at %#x" % (device, iova), conn.attempt(
                    "DeviceDma", device=device, access=self.pb.ACCESS_READ, iova=iova,
                    length=8, **scope))
        return seen

    def overview(self):
        """What an admin sees, without what differs from run to run."""
        seen = []
        for name in ("ListLeases", "ListObjects"):
            answer = self.admin.send(name, {"page_size": 1024})
            check(not isinstance(answer, Refused), "%s: %s", name, answer)
            for lease in answer.leases:
                lease = lease.lease if name == "ListObjects" else lease
                lease.ClearField("serial")
                lease.ClearField("pid")
            seen.append((name, str(answer)))
        answer = self.admin.ListTenants(page_size=1024, with_unused=True)
        for tenant in answer.tenants:
            for r in tenant.resources:
                if r.resource in NOT_COMPARED or (r.resource == "broker_bytes"
                                                  and not tenant.path):
                    r.Clear()
                # Counted since the start.
                for field in ("peak", "refused_local", "refused"):
                    r.ClearField(field)
            seen.append(("tenant " + tenant.path, str(tenant)))
        return seen

    def consistent(self):
        """Admin.Check finds nothing."""
        end = time.monotonic() + 5 * self.slow
        while True:
            answer = self.admin.attempt("Check")
            if not isinstance(answer, Refused):
                break
            check(answer.reason == "BUSY" and time.monotonic() < end, "Check: %s", answer)
            time.sleep(0.01)
        check(not answer.problems, "Check: %s", "; ".join(
            "%s: %s" % (p.subject, p.text) for p in answer.problems))

    def kept(self, *command):
        """Names of the fds that the keeper holds; or another command of keeper_fds."""
        path = os.path.join(self.build, "tests", "keeper_fds")
        fd = os.open(path, os.O_RDONLY)
        try:
            done = subprocess.run(
                ["keeper_fds", self.server.keeper_socket(), *(command or ["list"])],
                executable="/proc/self/fd/%d" % fd, pass_fds=[fd], capture_output=True, text=True,
                user=SERVER_UID, group=SERVER_UID, extra_groups=[], cwd="/", timeout=20)
        finally:
            os.close(fd)
        check(done.returncode == 0, "keeper_fds %s: %s", command, done.stderr)
        return done.stdout.split()

    def registry(self, what="check"):
        """What ioasidctl says of the registry's files; fails if it is not sound."""
        done = subprocess.run([os.path.join(self.build, "bin", "ioasidctl"), "-o", "json", "registry",
                               what, self.server.registry], capture_output=True, text=True,
                              timeout=20)
        check(done.returncode == 0, "ioasidctl registry %s: %s%s", what, done.stdout, done.stderr)
        return done.stdout

    def until(self, test, what, seconds=5.0):
        end = time.monotonic() + seconds * self.slow
        while True:
            value = test()
            if value:
                return value
            check(time.monotonic() < end, "%s: not in time", what() if callable(what) else what)
            time.sleep(0.005)


# Of the calls that ask.  The host's broker_bytes also hold the keys of the Admin service, which
# outlive everything; that they are the sum of what there is, Check says.
NOT_COMPARED = {"requests_in_flight"}
DMA_AT = (LOW - PAGE, LOW, LOW + 3 * PAGE, LOW + 7 * PAGE, LOW + 8 * PAGE, HIGH, HIGH + PAGE,
          HIGH + 2 * PAGE, NEW, NEW + PAGE, NEW + 3 * PAGE, FAR, FAR + PAGE)


def difference(one, other):
    """The first thing in which two pictures differ, for people; "": none."""
    for (what, a), (what_b, b) in zip(one, other):
        if what != what_b:
            return "%s, there %s" % (what, what_b)
        if a != b:
            a_lines, b_lines = a.splitlines(), b.splitlines()
            at = next((i for i, (x, y) in enumerate(zip(a_lines, b_lines)) if x != y),
                      min(len(a_lines), len(b_lines)))
            return "%s:\n%s\n  --- and there\n%s" % (
                what, "\n".join(a_lines[max(0, at - 3):at + 3]),
                "\n".join(b_lines[max(0, at - 3):at + 3]))
    return "" if len(one) == len(other) else "%d things, there %d" % (len(one), len(other))
