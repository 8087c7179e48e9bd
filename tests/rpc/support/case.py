# SPDX-License-Identifier: Apache-2.0
"""The base of every test: connections that end with the test, refusals that are decoded,
objects made in one line, and counters that must be zero afterwards."""
import time
import unittest

from . import dma, fdpass, policy
from .client import Refused
from .status import problems_of

PAGE = 4096
MIB = 1 << 20


def pattern(size, seed=1):
    """Bytes that name their own place: every 8 hold seed and offset."""
    return b"".join(((seed << 48) | at).to_bytes(8, "little") for at in range(0, size, 8))[:size]


class Memory:
    def __init__(self, actor, fd, number, length):
        self.actor, self.fd, self.id, self.length = actor, fd, number, length

    def read(self, length, offset=0):
        return self.actor.pread(self.fd, length, offset)

    def write(self, data, offset=0):
        self.actor.pwrite(self.fd, data, offset)


class Case(unittest.TestCase):
    # Set by the runner.
    world = None
    # Some tests leave things on purpose; they say so.
    ends_idle = True

    @property
    def pb(self):
        return self.world.api.pb

    @property
    def admin(self):
        return self.world.admin

    @property
    def inventory(self):
        return self.world.inventory

    @property
    def slow(self):
        return self.world.slow

    @property
    def told(self):
        """Does a device say what became of its DMA, and why?  Simulated ones do."""
        return self.world.shim != "iommufd"

    def often(self, n):
        """So many times; twice where each DMA takes 100 ms."""
        return range(n if self.told else min(n, 2))

    # -- what this server has not: a test that needs it is skipped, and counted so

    def need_told(self, what="why the IOMMU refuses a DMA"):
        if not self.told:
            self.skipTest("needs simulated devices: a real one is not told " + what)

    @property
    def by_call(self):
        """Does a device's DMA come from a call, DeviceDma?  A real one has a descriptor instead."""
        return self.world.shim != "iommufd"

    def need_dma_calls(self, why):
        if not self.by_call:
            self.skipTest("needs DMA by call: " + why)

    def need_soft(self, why):
        """What no capability tells of."""
        if self.world.shim != "soft":
            self.skipTest("needs the software IOMMU: " + why)

    def has_kind(self, kind):
        return any(k.kind == kind and k.supported for d in self.inventory.single
                   for k in d.capabilities.kinds)

    def need_kind(self, kind):
        if not self.has_kind(kind):
            self.skipTest("no device has kind %s (kinds)" % self.pb.IoasidKind.Name(kind)[12:])

    def has_software_nesting(self, depth=2):
        """A KERNEL table below a KERNEL one: then a format is both child and parent.  Where
        only tenants' tables nest, those are children and nothing else."""
        return any(d.capabilities.max_depth >= depth and
                   any(f.nest_child and f.nest_parent for f in d.capabilities.formats)
                   for d in self.inventory.single)

    def need_software_nesting(self, depth=2):
        if not self.has_software_nesting(depth):
            self.skipTest("no device has KERNEL tables %d deep (max_depth, formats that are "
                          "nest_child and nest_parent)" % depth)

    def need_groups(self):
        if not self.inventory.groups:
            self.skipTest("no group has several devices")

    def need_pasids(self):
        if not self.inventory.having(lambda c: c.pasid_bits > 0):
            self.skipTest("no device has PASIDs (pasid_bits)")

    def need_formats(self, n=2):
        if all(len(self.inventory.formats(d.address)) < n for d in self.inventory.single):
            self.skipTest("no device has a choice of formats for kind KERNEL")

    def need_iommus(self):
        if len(self.inventory.iommus) < 2:
            self.skipTest("there is one IOMMU only")

    def need_host(self):
        if not self.inventory.host:
            self.skipTest("no device that may be claimed is in use by the host")

    @property
    def has_levels(self):
        """Does Translate show the table, level by level?"""
        return self.world.shim == "soft"

    def need_levels(self):
        if not self.has_levels:
            self.skipTest("Translate shows no levels: the tables are the kernel's")

    def setUp(self):
        self.world.revive()
        self.edu = dma.EduDma(self) if self.world.shim == "iommufd" else None
        self._connections, self._fresh = [], []
        self.a_by_uid = {}

    def tearDown(self):
        self.doCleanups()
        if self.world.server.alive():
            self.check_counters()
        for connection in self._connections:
            connection.close()
        for actor in self._fresh:
            actor.kill()
        self.assertTrue(self.world.server.alive(),
                        "ioasidd ended:\n" + self.world.server.stderr()[-6000:]
                        if not self.world.server.alive() else "")
        if self.ends_idle:
            self.assertEqual(self.world.wait_idle(), [], "still charged after the test")
            self.assertEqual(self.world.wait_free(), [], "devices still held after the test")

    def check_counters(self):
        """While what the test made is still there: do counters, objects and registry agree?"""
        answer = self.admin.attempt("Check")
        if isinstance(answer, Refused):
            # Somebody is at work all the time.
            self.check_refusal(answer, "BUSY")
            return
        self.assertEqual(["%s: %s" % (p.subject, p.text) for p in answer.problems], [])

    # -- connections

    def connect(self, uid=policy.A, socket="tenants", **more):
        connection = self.world.connect(uid, socket, **more)
        self._connections.append(connection)
        return connection

    def fresh_actor(self, uid=policy.A):
        actor = self.world.fresh_actor(uid)
        self._fresh.append(actor)
        return actor

    @property
    def a(self):
        """The test's connection as tenant org/a."""
        return self._of(policy.A)

    @property
    def b(self):
        return self._of(policy.B)

    def _of(self, uid):
        if uid not in self.a_by_uid:
            self.a_by_uid[uid] = self.connect(uid)
        return self.a_by_uid[uid]

    # -- refusals

    def check_refusal(self, refused, reason, field=None, text=None):
        if not isinstance(refused, Refused):
            self.fail("expected %s, got the answer: %r" % (reason, refused))
        bad = problems_of(refused, reason)
        if bad:
            self.fail("%.300s, in %s\n%.2000s" % ("; ".join(bad), refused, refused.text()))
        if field is not None:
            named = [f for f, _ in refused.fields]
            self.assertTrue(any(field == f for f in named),
                            "BadRequest should name %r, names %r" % (field, named))
        if text is not None:
            self.assertIn(text, refused.text())
        return refused

    def refused(self, reason, call, field=None, text=None, **fields):
        """call(**fields) is refused for reason, with everything that belongs to it."""
        try:
            answer = call(**fields)
        except Refused as refused:
            return self.check_refusal(refused, reason, field, text)
        return self.fail("expected %s, got the answer: %r" % (reason, answer))

    # -- tickets and memory

    def ticket(self, conn, purpose=None, **scope):
        if purpose is None:
            purpose = self.pb.TICKET_PURPOSE_MEMORY
        return conn.OpenTicket(purpose=purpose, **scope).ticket

    def give(self, conn, ticket, fd, path=None):
        """Redeems a ticket; the status byte."""
        return conn.actor.exchange(path or conn.path, fdpass.request(fdpass.GIVE, ticket),
                                   [fd])[0]

    def given(self, conn, fd, **scope):
        """A ticket whose fd has been given."""
        ticket = self.ticket(conn, **scope)
        self.assertEqual(self.give(conn, ticket, fd), fdpass.OK)
        return ticket

    def memory(self, conn, pages=16, read=True, write=True, offset=0, length=0, label="",
               fill=None, scope=None, **memfd):
        fd = conn.actor.memfd(size=pages * PAGE, **memfd)
        if fill is not None:
            conn.actor.pwrite(fd, fill, 0)
        scope = scope or {}
        answer = conn.RegisterMemory(ticket=self.given(conn, fd, **scope), offset=offset,
                                     length=length, read=read, write=write, label=label, **scope)
        if self.edu:
            self.edu.memories.append((conn.actor, fd))
        return Memory(conn.actor, fd, answer.memory, answer.length)

    # -- devices and address spaces

    def device(self, conn, index=0, **scope):
        """Claims the index-th device that is alone in its group."""
        address = self.inventory.single[index].address
        conn.ClaimDevice(devices=[address], **scope)
        return address

    def alloc(self, conn, devices=(), kind=None, **more):
        kind = self.pb.IOASID_KIND_KERNEL if kind is None else kind
        return conn.Alloc(kind=kind, devices=list(devices), **more).ioasid

    def entry(self, iova, memory, pages=1, offset=0, read=True, write=True, **more):
        if iova is None:
            more["choose"] = True
            iova = 0
        return dict(iova=iova, length=pages * PAGE, memory=getattr(memory, "id", memory),
                    offset=offset, read=read, write=write, **more)

    def nested(self, parent):
        """Arguments of Alloc: a child of it, where there are such; else a space beside it."""
        return {"parent": parent} if self.has_software_nesting() else {}

    def entries(self, iova, memory, pages):
        """One mapping; a page each where a kernel may join pages in a leaf, dirty as a whole."""
        if self.has_levels:
            return [self.entry(iova, memory, pages)]
        return [self.entry(iova + n * PAGE, memory, 1, n * PAGE) for n in range(pages)]

    def map(self, conn, ioasid, *entries, **scope):
        return list(conn.Map(ioasid=ioasid, entries=list(entries), **scope).iovas)

    def child_entry(self, iova, parent_address, pages=1, read=True, write=True):
        return dict(iova=iova, length=pages * PAGE, from_parent=True,
                    parent_address=parent_address, read=read, write=write)

    def mappings(self, conn, ioasid, **scope):
        """[(iova, length)] in order."""
        listing = conn.ListMappings(ioasid=ioasid, page_size=1024, **scope)
        return sorted((m.iova, m.length) for m in listing.mappings)

    # -- DMA: simulated (DeviceDma), or a real device's (dma.py)

    def dma_read(self, conn, device, iova, length, pasid=None, **scope):
        if self.edu:
            return self.edu.read(conn, device, iova, length, **scope)
        return conn.DeviceDma(device=device, access=self.pb.ACCESS_READ, iova=iova, length=length,
                              pasid=None if pasid is None else {"value": pasid}, **scope)

    def dma_write(self, conn, device, iova, data, pasid=None, **scope):
        if self.edu:
            return self.edu.write(conn, device, iova, data, **scope)
        return conn.DeviceDma(device=device, access=self.pb.ACCESS_WRITE, iova=iova, data=data,
                              pasid=None if pasid is None else {"value": pasid}, **scope)

    def refused_dma(self, reason, conn, device, **scope):
        """A device that is no longer one's own cannot be driven."""
        if self.edu:
            return self.refused(reason, conn.GetDeviceFd, device=device, **scope)
        return self.refused(reason, conn.DeviceDma, device=device, access=self.pb.ACCESS_READ,
                            iova=0x10010000, length=8, **scope)

    def assertReads(self, conn, device, iova, expected, pasid=None, **scope):
        if self.edu:
            wrong = self.edu.differs(conn, device, iova, expected, **scope)
            if wrong:
                self.fail("DMA " + wrong)
            return
        got = self.dma_read(conn, device, iova, len(expected), pasid, **scope)
        self.assertFalse(got.HasField("fault"), "DMA at %#x: %s" % (iova, got.fault))
        self.assertEqual(got.done, len(expected))
        self.assertTrue(got.data == expected, "DMA at %#x read other bytes" % iova)

    def assertBlocked(self, answer, *causes, done=0):
        """By one of these causes, where the device is told."""
        if self.edu:
            self.assertTrue(answer.HasField("fault"), "the DMA was not blocked")
            self.assertEqual(answer.done, done)
            return answer.fault
        names = [self.pb.FaultCause.Name(answer.fault.cause)[12:]] if answer.HasField("fault") \
            else ["no fault at all"]
        self.assertIn(names[0], causes)
        self.assertEqual(answer.done, done)
        return answer.fault

    # -- quotas

    def usage(self, path, conn=None):
        """resource -> ResourceUsage of a tenant, as the admin sees it."""
        for tenant in self.admin.ListTenants(subtree=path, with_unused=True,
                                             page_size=1024).tenants:
            if tenant.path == path:
                return {r.resource: r for r in tenant.resources}
        return self.fail("no tenant %r" % path)

    def used(self, path, *resources):
        usage = self.usage(path)
        values = [usage[r].used for r in resources]
        return values[0] if len(values) == 1 else values

    def wait_used(self, path, resource, value):
        """Until so much is charged: for what ends in the background."""
        end = time.monotonic() + 5 * self.slow
        while self.used(path, resource) != value:
            self.assertLess(time.monotonic(), end, "%s of %s is %d, not %d" % (
                resource, path, self.used(path, resource), value))
            time.sleep(0.01)

    def limited(self, path, **limits):
        """Sets limits and puts the old ones back when the test ends."""
        before = self.usage(path)
        self.addCleanup(self._set_limits, path, {r: before[r].limit for r in limits})
        self._set_limits(path, limits)

    def _set_limits(self, path, limits):
        self.admin.SetLimits(tenant=path, limits=[
            {"resource": r, "amount": n} for r, n in limits.items()])
