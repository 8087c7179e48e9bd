# SPDX-License-Identifier: Apache-2.0
"""A broker that dies at a step of one request, and the next one: what it was about is there or
gone, as docs/design/registry.md says of its method ("Intents and their rules"), and the repeated
request gets its answer and has one effect.  tests/crash does this for every method on the software
IOMMU and looks at everything; this suite is for real devices: what a device reaches, what is left
in the kernel, and what the keeper holds."""
import os
import re
import time

from support import policy
from support.case import PAGE, Case, pattern
from support.client import Refused

KEEPER = True
ARGUMENTS = ("--grace", "60")

IOVA, MORE = 0x10100000, 0x10200000
STEPS = ("intent", "shim", "result", "reply")
# At these the request is done, whatever its method's rule; without it, it is undone or redone.
DONE = ("result", "reply")
# What the keeper has open for others.
HELD = re.compile(r"/dev/iommu|/dev/vfio/|/memfd:|anon_inode:.*(iommufd|vfio)")


class Step(Case):
    def setUp(self):
        super().setUp()
        self.ordinary = self.world.server.daemon
        self.crash = os.path.join(self.world.server.build, "tests", "ioasidd_mock_crash"
                                  if self.world.server.is_mock else "ioasidd_crash")
        if not os.path.exists(self.crash):
            self.skipTest("ioasidd_crash is not built")
        self.addCleanup(self.back_to_the_ordinary)

    def tearDown(self):
        super().tearDown()
        end = time.monotonic() + 5 * self.slow
        while self.keeper_holds():
            self.assertLess(time.monotonic(), end, "the keeper still holds %s" % self.keeper_holds())
            time.sleep(0.05)

    def keeper_holds(self):
        folder, found = "/proc/%d/fd" % self.world.server.keeper.pid, []
        for name in os.listdir(folder):
            try:
                target = os.readlink(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if HELD.match(target):
                found.append(target)
        return found

    def back_to_the_ordinary(self):
        server = self.world.server
        server.daemon, server.environment = self.ordinary, {}

    def next_broker(self, daemon, **environment):
        """The one that runs is killed, if it has not died."""
        server = self.world.server
        server.daemon, server.environment = daemon, environment
        server.kill()
        self.world.start_again()

    def armed(self, where, step):
        """A broker that will die there, as soon as arm() says so."""
        self.arming = os.path.join(self.world.server.folder, "arming")
        if os.path.exists(self.arming):
            os.unlink(self.arming)
        self.next_broker(self.crash, IOASID_CRASH="%s:%s" % (where, step),
                         IOASID_CRASH_WHILE=self.arming)

    def arm(self):
        with open(self.arming, "w"):
            os.chmod(self.arming, 0o644)

    def died(self, answer):
        """It may just have answered; what it answered is repeated to whoever asks again."""
        if isinstance(answer, Refused):
            self.assertEqual(answer.code, "UNAVAILABLE", "%r" % answer)
        self.answered = None if isinstance(answer, Refused) else answer
        self.world.server.process.wait(10 * self.slow)

    def connection(self):
        conn = self.world.connection(self.world.actor(policy.A),
                                     self.world.server.socket("tenants"))
        self._connections.append(conn)
        return conn

    def furnish(self):
        """Two spaces that have other pages at the same addresses; the device, if it is to be
        there, reaches the first."""
        self.data = pattern(8 * PAGE)
        self.address = self.inventory.single[0].address
        self.memory_ = self.memory(self.conn, pages=8, fill=self.data)
        if self.claimed:
            self.conn.ClaimDevice(devices=[self.address])
        named = [self.address] if self.claimed else []
        self.first, self.second = self.alloc(self.conn, named), self.alloc(self.conn, named)
        for ioasid, page in (self.first, 0), (self.second, 4):
            self.map(self.conn, ioasid,
                     self.entry(IOVA, self.memory_, pages=2, offset=page * PAGE))
        if self.attached:
            self.conn.Attach(device=self.address, ioasid=self.first)

    def die_in(self, method, step, **fields):
        """The request, and the state before it; the next broker has been started, and resumed."""
        self.armed(method, step)
        self.conn = self.connection()
        token = self.conn.GetStatus().resume_token
        self.furnish()
        fields = {k: v(self) if callable(v) else v for k, v in fields.items()}
        self.arm()
        answer = self.conn.attempt(method, key="the-key", **fields)
        self.died(answer)
        self.next_broker(self.ordinary)
        self.conn = self.connection()
        self.conn.Resume(token=token)
        self.check_counters()
        return fields

    def repeat(self, method, fields):
        answer = getattr(self.conn, method)(key="the-key", **fields)
        if self.answered is not None:
            self.assertEqual(answer.SerializeToString(), self.answered.SerializeToString())
        self.check_counters()
        again = getattr(self.conn, method)(key="the-key", **fields)
        self.assertEqual(answer.SerializeToString(), again.SerializeToString())
        return answer

    def found(self, undone=0, redone=0, strays=0):
        """What the start says that it has done about it."""
        r = self.admin.GetStatus().restart
        found = r.strays
        if self.world.shim == "soft":
            # Nothing of a software IOMMU outlives its broker.
            strays = 0
        elif self.world.shim == "mock":
            # A mock device is several objects, and there is one more for each attachment.
            self.assertTrue(found or not strays)
            strays = found
        self.assertEqual((r.undone, r.redone, found, r.leases_restored, r.leases_ended),
                         (undone, redone, strays, 1, 0))

    def reaches(self, page=0, pages=2, iova=IOVA):
        """These pages of the memory and no others."""
        self.assertReads(self.conn, self.address, iova,
                         self.data[page * PAGE:(page + pages) * PAGE])

    def reaches_not(self, iova):
        self.assertBlocked(self.dma_read(self.conn, self.address, iova, 64), "NOT_PRESENT",
                           "NOT_ATTACHED")

    def attached_to(self):
        return [a.ioasid for a in self.conn.ListAttachments().attachments]

    # -- what each method was about, and what it comes to

    claimed = attached = True

    def Alloc(self, step):
        fields = self.die_in("Alloc", step, kind=self.pb.IOASID_KIND_KERNEL,
                             devices=lambda s: [s.address])
        self.found(undone=step not in DONE, strays=step == "shim")
        self.assertEqual(self.used("org/a", "ioasids"), 2 + (step in DONE))
        self.reaches()
        self.map(self.conn, self.repeat("Alloc", fields).ioasid,
                 self.entry(IOVA, self.memory_, pages=1))
        self.assertEqual(self.used("org/a", "ioasids"), 3)

    def Free(self, step):
        fields = self.die_in("Free", step, ioasid=lambda s: s.second)
        self.found(redone=step not in DONE)
        self.assertEqual(self.used("org/a", "ioasids", "map_entries"), [1, 1])
        self.reaches()
        self.assertFalse(self.repeat("Free", fields).pending)
        self.refused("NOT_FOUND", self.conn.GetIoasid, ioasid=self.second)

    def ClaimDevice(self, step):
        self.claimed = self.attached = False
        fields = self.die_in("ClaimDevice", step, devices=lambda s: [s.address])
        self.found(undone=step not in DONE, strays=step == "shim")
        self.assertEqual(self.used("org/a", "devices"), int(step in DONE))
        self.repeat("ClaimDevice", fields)
        self.assertEqual(self.used("org/a", "devices"), 1)
        self.conn.Attach(device=self.address, ioasid=self.first)
        self.reaches()
        self.reaches_not(MORE)

    def Map(self, step):
        fields = self.die_in("Map", step, ioasid=lambda s: s.first, entries=lambda s: [
            s.entry(MORE, s.memory_, pages=4)])
        self.found(undone=step not in DONE)
        self.reaches()
        self.assertEqual(self.mappings(self.conn, self.first),
                         [(IOVA, 2 * PAGE)] + [(MORE, 4 * PAGE)] * (step in DONE))
        if step in DONE:
            self.reaches(0, 4, MORE)
        else:
            self.reaches_not(MORE)
        self.repeat("Map", fields)
        self.reaches(0, 4, MORE)
        self.reaches_not(MORE + 4 * PAGE)

    def Unmap(self, step):
        fields = self.die_in("Unmap", step, ioasid=lambda s: s.first,
                             ranges=[{"iova": IOVA, "length": 2 * PAGE}])
        self.found(redone=step not in DONE)
        self.assertEqual(self.mappings(self.conn, self.first), [])
        self.reaches_not(IOVA)
        answer = self.repeat("Unmap", fields)
        self.assertEqual((answer.mappings, answer.bytes), (1, 2 * PAGE))
        self.map(self.conn, self.first, self.entry(IOVA, self.memory_, offset=2 * PAGE))
        self.reaches(2, 1)

    def Attach(self, step):
        self.attached = False
        fields = self.die_in("Attach", step, device=lambda s: s.address, ioasid=lambda s: s.first)
        self.found(undone=step not in DONE)
        self.assertEqual(self.attached_to(), [self.first] * (step in DONE))
        if step in DONE:
            self.reaches()
        else:
            self.reaches_not(IOVA)
        self.repeat("Attach", fields)
        self.reaches()
        self.reaches_not(MORE)

    def Replace(self, step):
        fields = self.die_in("Replace", step, device=lambda s: s.address,
                             ioasid=lambda s: s.second)
        self.found(undone=step not in DONE)
        self.assertEqual(self.attached_to(), [self.second if step in DONE else self.first])
        self.reaches(4 if step in DONE else 0)
        self.repeat("Replace", fields)
        self.assertEqual(self.attached_to(), [self.second])
        self.conn.Unmap(ioasid=self.first, all=True)
        self.reaches(4)
        self.conn.Unmap(ioasid=self.second, all=True)
        self.reaches_not(IOVA)

    def Detach(self, step):
        fields = self.die_in("Detach", step, device=lambda s: s.address)
        self.found(redone=step not in DONE)
        self.assertEqual(self.attached_to(), [])
        self.reaches_not(IOVA)
        self.repeat("Detach", fields)
        self.conn.Attach(device=self.address, ioasid=self.second)
        self.reaches(4)

    def ReleaseDevice(self, step):
        fields = self.die_in("ReleaseDevice", step, devices=lambda s: [s.address])
        self.found(redone=step not in DONE)
        self.assertEqual(self.used("org/a", "devices"), 0)
        self.assertEqual(self.attached_to(), [])
        self.repeat("ReleaseDevice", fields)
        self.conn.ClaimDevice(devices=[self.address])
        self.conn.Attach(device=self.address, ioasid=self.second)
        self.reaches(4)

    def CloseLease(self, step):
        """The end of a lease, which is no request's: nobody comes back for it."""
        self.armed("lease" if step.startswith("lease_") else "CloseLease", step)
        self.conn = self.connection()
        self.furnish()
        self.arm()
        self.died(self.conn.attempt("CloseLease"))
        self.next_broker(self.ordinary)
        self.assertEqual(self.admin.GetStatus().restart.leases_ended, 0)
        for resource in ("devices", "ioasids", "kept_fds", "pinned_bytes"):
            self.wait_used("org/a", resource, 0)
        self.check_counters()
        self.conn = self.connection()
        self.furnish()
        self.reaches()


def _test(method, step):
    def test(self):
        getattr(self, method)(step)
    test.__doc__ = None
    return test


for _method, _steps in (("Alloc", STEPS), ("Free", STEPS),
                        ("ClaimDevice", STEPS), ("Map", STEPS), ("Unmap", STEPS),
                        ("Attach", STEPS), ("Replace", STEPS), ("Detach", STEPS),
                        ("ReleaseDevice", STEPS),
                        ("CloseLease", ("intent", "lease_context", "lease_reap"))):
    for _step in _steps:
        setattr(Step, "test_%s_%s" % (_method, _step), _test(_method, _step))
