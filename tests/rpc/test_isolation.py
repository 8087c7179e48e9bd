# SPDX-License-Identifier: Apache-2.0
"""What another holds cannot be told from what never was: answers are compared byte by byte."""
import re

from support import policy
from support.case import PAGE, Case
from support.client import Refused

POLICY = policy.default()


class Isolation(Case):
    def setUp(self):
        super().setUp()
        # A holds one of everything; its ids are made large by use.
        for _ in range(40):
            self.a.Free(ioasid=self.alloc(self.a))
        self.dev = self.device(self.a)
        self.space = self.alloc(self.a, [self.dev])
        self.mem = self.memory(self.a, label="secret of a")
        self.map(self.a, self.space, self.entry(0x10010000, self.mem))
        self.a.Attach(device=self.dev, ioasid=self.space)
        self.mine = self.inventory.single[1].address
        self.b.ClaimDevice(devices=[self.mine])

    def calls(self, ioasid, memory):
        """Every method that takes an id, with it."""
        pb = self.pb
        yield "Free", dict(ioasid=ioasid)
        yield "GetIoasid", dict(ioasid=ioasid)
        yield "ListMappings", dict(ioasid=ioasid)
        yield "Translate", dict(ioasid=ioasid, iova=0x10010000, access=pb.ACCESS_READ)
        yield "Map", dict(ioasid=ioasid, entries=[self.entry(0x10020000, memory)])
        yield "Unmap", dict(ioasid=ioasid, all=True)
        yield "Unmap", dict(ioasid=ioasid, ranges=[{"iova": 0x10010000, "length": PAGE}])
        yield "Attach", dict(ioasid=ioasid, device=self.mine)
        yield "Replace", dict(ioasid=ioasid, device=self.mine)
        yield "Invalidate", dict(ioasid=ioasid, entries=[dict(
            granularity=pb.INVALIDATE_GRANULARITY_ALL)])
        yield "Alloc", dict(kind=pb.IOASID_KIND_KERNEL, parent=ioasid)
        yield "UnregisterMemory", dict(memory=memory)

    @staticmethod
    def essence(refusal, *numbers):
        """Everything of a refusal, its own id blotted out."""
        text = repr((refusal.code, refusal.message, refusal.raw))
        for number in numbers:
            text = re.sub(r"\b%d\b|\b0x%x\b" % (number, number), "ID", text)
        return text

    def answers(self, conn, ioasid, memory):
        return [(name, self.essence(conn.attempt(name, **fields), ioasid, memory))
                for name, fields in self.calls(ioasid, memory)]

    def test_foreign_ids_are_not_found_exactly_as_ids_that_never_were(self):
        # As many digits as A's, so that lengths on the wire say nothing either.
        never = {}
        for number in (self.space, self.mem.id):
            never[number] = int(str(number).translate(str.maketrans("0123456789", "9876543218")))
        for conn in (self.b, self.connect(policy.C), self.connect()):
            foreign = self.answers(conn, self.space, self.mem.id)
            missing = self.answers(conn, never[self.space], never[self.mem.id])
            for (name, one), (_, other) in zip(foreign, missing):
                if conn.uid == policy.A and name in ("Attach", "Replace"):
                    continue  # the device is B's
                with self.subTest(method=name, uid=conn.uid):
                    self.assertEqual(one, other)
                    self.assertIn("NOT_FOUND", one)
        # Nothing of A has changed.
        self.assertEqual(self.mappings(self.a, self.space), [(0x10010000, PAGE)])
        self.assertReads(self.a, self.dev, 0x10010000, bytes(8))

    def test_foreign_id_before_and_after_it_is_freed(self):
        other = self.connect()
        ioasid, memory = self.alloc(other), self.memory(other).id
        while_there = self.answers(self.b, ioasid, memory)
        other.close()
        self.wait_leases(1 + 1)
        self.assertEqual(while_there, self.answers(self.b, ioasid, memory))

    def wait_leases(self, n):
        import time
        end = time.monotonic() + 5 * self.slow
        while len(self.admin.ListLeases().leases) > n:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_devices_of_another_tenant(self):
        nobody = self.inventory.single[2].address
        for method, fields in (
                ("DeviceDma", dict(access=self.pb.ACCESS_READ, iova=0x10010000, length=8))
                if self.by_call else ("GetDeviceFd", {}),
                ("Detach", {}), ("Attach", dict(ioasid=self.alloc(self.b)))):
            held = self.b.attempt(method, device=self.dev, **fields)
            free = self.b.attempt(method, device=nobody, **fields)
            self.check_refusal(held, "NOT_CLAIMED")
            self.assertEqual(self.essence(held).replace(self.dev, "DEV"),
                             self.essence(free).replace(nobody, "DEV"))

    def test_lease_names_of_another_tenant(self):
        secret = self.a.OpenLease(name="vm-of-a").secret
        for method, fields in (("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL)),
                               ("ListIoasids", {}), ("ListMemory", {}), ("CloseLease", {}),
                               ("ListAttachments", {}), ("ClaimDevice", dict(devices=[self.dev])),
                               ("OpenTicket", dict(purpose=self.pb.TICKET_PURPOSE_MEMORY))):
            with self.subTest(method):
                theirs = self.b.attempt(method, lease="vm-of-a", **fields)
                never = self.b.attempt(method, lease="vm-of-x", **fields)
                self.check_refusal(theirs, "NOT_FOUND")
                self.assertEqual(self.essence(theirs).replace("vm-of-a", "NAME"),
                                 self.essence(never).replace("vm-of-x", "NAME"))
        theirs = self.b.attempt("AdoptLease", name="vm-of-a", secret=secret)
        never = self.b.attempt("AdoptLease", name="vm-of-x", secret=secret)
        self.check_refusal(theirs, "NOT_FOUND")
        self.assertEqual(self.essence(theirs).replace("vm-of-a", "NAME"),
                         self.essence(never).replace("vm-of-x", "NAME"))
        self.assertFalse([x for x in self.b.ListLeases().leases if x.name])
        self.a.CloseLease(lease="vm-of-a")

    def test_tickets_of_another_tenant(self):
        given = self.given(self.a, self.a.actor.memfd(size=PAGE))
        theirs = self.b.attempt("RegisterMemory", ticket=given, read=True)
        never = self.b.attempt("RegisterMemory", ticket=b"never was one...", read=True)
        self.check_refusal(theirs, "TICKET_REFUSED")
        self.assertEqual(self.essence(theirs), self.essence(never))

    def test_own_lists_hold_only_own_objects(self):
        self.assertEqual(len(self.b.ListIoasids().ioasids), 0)
        self.assertEqual(len(self.b.ListMemory().memory), 0)
        self.assertEqual(len(self.b.ListAttachments().attachments), 0)
        for lease in self.b.ListLeases().leases:
            self.assertEqual(lease.tenant, "org/b")

    def test_usage_of_others_is_not_shown(self):
        answer = self.b.GetQuota()
        self.assertEqual(answer.tenant, "org/b")
        self.assertEqual({r.resource: r.used for r in answer.resources}["ioasids"], 0)
        status = self.b.GetStatus()
        self.assertEqual((status.connections, status.leases, status.ioasids), (0, 0, 0))

    def test_events_of_others_are_not_shown(self):
        stream = self.b.watch("WatchEvents")
        mine = self.connect(policy.B)
        ready = self.alloc(mine)
        for conn in (self.a, self.connect(policy.C)):
            conn.Free(ioasid=self.alloc(conn))
        self.a.OpenLease(name="seen")
        self.a.CloseLease(lease="seen")
        mine.Free(ioasid=ready)
        for event in stream.drain():
            self.assertFalse(isinstance(event, Refused))
            self.assertEqual(event.tenant, "org/b")

    def test_paths_of_others_in_scope_are_refused(self):
        self.a.ListIoasids(tenant="org/a")
        for path in ("org/b", "org", "lab/c", "org/a/x", "none", ""):
            if path:
                foreign = self.a.attempt("ListIoasids", tenant=path)
                self.assertIn(foreign.reason, ("ROLE_FORBIDDEN", "POLICY_FORBIDDEN",
                                               "INVALID_FIELD", "NOT_FOUND"))
        there, never = self.a.attempt("ListIoasids", tenant="lab/c"), \
            self.a.attempt("ListIoasids", tenant="lab/x")
        self.assertEqual(self.essence(there).replace("lab/c", "P"),
                         self.essence(never).replace("lab/x", "P"))
