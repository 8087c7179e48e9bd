# SPDX-License-Identifier: Apache-2.0
"""Leases: what ties objects to a client's life."""
import time

from support import fdpass, policy
from support.case import PAGE, Case

POLICY = policy.default()


class Connection(Case):
    def test_objects_go_with_the_connection(self):
        other = self.connect()
        device = self.device(other)
        ioasid, memory = self.alloc(other, [device]), self.memory(other)
        self.map(other, ioasid, self.entry(0x10010000, memory))
        child = self.alloc(other, [device], **self.nested(ioasid))
        other.Attach(device=device, ioasid=child)
        self.assertEqual(self.used("org/a", "ioasids", "devices", "leases"), [2, 1, 1])
        other.close()
        self.assertEqual(self.world.wait_idle(), [])

    def test_objects_go_with_a_killed_client(self):
        actor = self.fresh_actor(policy.A)
        other = self.connect(actor=actor)
        device = self.device(other)
        ioasid, memory = self.alloc(other, [device]), self.memory(other)
        self.map(other, ioasid, self.entry(0x10010000, memory))
        other.Attach(device=device, ioasid=ioasid)
        actor.kill()
        self.assertEqual(self.world.wait_idle(), [])
        self.a.ClaimDevice(devices=[device])

    def test_connections_do_not_see_each_others_objects(self):
        other = self.connect()
        ioasid = self.alloc(self.a)
        self.assertEqual(len(other.ListIoasids().ioasids), 0)
        mine = self.alloc(other)
        if mine != ioasid:
            self.refused("NOT_FOUND", other.GetIoasid, ioasid=ioasid)

    def test_reading_opens_no_lease(self):
        self.a.ListDevices()
        self.a.ListIoasids()
        self.a.GetQuota()
        self.assertEqual(self.used("org/a", "leases"), 0)
        self.alloc(self.a)
        self.assertEqual(self.used("org/a", "leases"), 1)

    def test_closed_connection_lease_is_made_anew(self):
        self.alloc(self.a)
        self.a.CloseLease()
        self.assertEqual(self.used("org/a", "ioasids", "leases"), [0, 0])
        self.alloc(self.a)
        self.assertEqual(self.used("org/a", "ioasids", "leases"), [1, 1])


class Named(Case):
    def open(self, conn=None, name="vm", linger=0, **more):
        conn = conn or self.a
        secret = conn.OpenLease(name=name, linger_seconds=linger, **more).secret
        self.addCleanup(self.revoke, name)
        return secret

    def revoke(self, name):
        """Whatever the test left of it goes."""
        for lease in self.admin.ListLeases().leases:
            if lease.name == name:
                self.admin.Revoke(lease_serial=lease.serial)

    def lease(self, name="vm", conn=None):
        found = [x for x in (conn or self.admin).ListLeases().leases if x.name == name]
        return found[0] if found else None

    def wait_gone(self, name="vm", seconds=5):
        end = time.monotonic() + seconds * self.slow
        while self.lease(name):
            if time.monotonic() > end:
                self.fail("lease %s is still there" % name)
            time.sleep(0.02)

    def wait_unheld(self, name="vm"):
        end = time.monotonic() + 5 * self.slow
        while self.lease(name).held:
            self.assertLess(time.monotonic(), end, "still held")
            time.sleep(0.01)

    def test_open_list_close(self):
        secret = self.open(linger=30)
        self.assertEqual(len(secret), 32)
        ioasid = self.alloc(self.a, lease="vm")
        mine = self.lease(conn=self.a)
        self.assertEqual((mine.tenant, mine.mine, mine.held, mine.linger_seconds, mine.ioasids,
                          mine.uid, mine.pid, mine.serial),
                         ("org/a", True, True, 30, 1, 0, 0, 0))
        seen = self.lease()
        self.assertEqual((seen.uid, seen.pid), (policy.A, self.a.actor.pid))
        self.assertNotEqual(seen.serial, 0)
        self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=ioasid)
        self.a.GetIoasid(ioasid=ioasid, lease="vm")
        self.a.CloseLease(lease="vm")
        self.assertIsNone(self.lease())
        self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=ioasid, lease="vm")
        self.refused("NOT_FOUND", self.a.CloseLease, lease="vm")

    def test_names(self):
        for name in ("a", "x" * 128, "A.b_c-9"):
            self.open(name=name)
            self.a.CloseLease(lease=name)
        for name in ("", "x" * 129, "a b", "a/b", "\u00e9", "a\n"):
            with self.subTest(name=name[:9]):
                self.refused("INVALID_FIELD", self.a.OpenLease, name=name, field="name")
        self.refused("INVALID_FIELD", self.a.OpenLease, name="y", lease="vm",
                     field="scope.lease")
        self.refused("INVALID_FIELD", self.a.OpenLease, name="y", linger_seconds=86401,
                     field="linger_seconds")

    def test_name_is_unique_in_the_tenant(self):
        self.open()
        self.refused("NAME_TAKEN", self.a.OpenLease, name="vm")
        self.refused("NAME_TAKEN", self.connect().OpenLease, name="vm")
        # Another tenant's names are its own.
        self.b.OpenLease(name="vm")
        self.b.CloseLease(lease="vm")

    def test_only_the_holder_may_use_it(self):
        self.open()
        other = self.connect()
        refusal = other.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, lease="vm")
        self.assertIn(refusal.reason, ("WRONG_STATE", "NOT_FOUND"))
        self.check_refusal(refusal, refusal.reason)
        self.assertIn(other.attempt("CloseLease", lease="vm").reason,
                      ("WRONG_STATE", "NOT_FOUND"))

    def test_adopted_by_the_same_principal_with_the_secret(self):
        first = self.connect()
        secret = self.open(first, linger=30)
        ioasid = self.alloc(first, lease="vm")
        first.close()
        self.wait_unheld()
        second = self.connect()
        self.refused("NOT_FOUND", second.AdoptLease, name="nothing", secret=secret)
        for wrong in (bytes(32), secret[:-1] + bytes([secret[-1] ^ 1])):
            refusal = second.attempt("AdoptLease", name="vm", secret=wrong)
            self.assertIn(refusal.reason, ("NOT_FOUND", "WRONG_STATE"))
            self.check_refusal(refusal, refusal.reason)
        for wrong in (b"", secret[:-1], secret + b"x"):
            refusal = second.attempt("AdoptLease", name="vm", secret=wrong)
            self.assertIn(refusal.reason, ("INVALID_FIELD", "NOT_FOUND"))
        second.AdoptLease(name="vm", secret=secret)
        self.assertEqual(second.GetIoasid(ioasid=ioasid, lease="vm").ioasid.ioasid, ioasid)

    def test_one_holder_at_a_time(self):
        secret = self.open(linger=30)
        self.refused("WRONG_STATE", self.connect().AdoptLease, name="vm", secret=secret)
        self.alloc(self.a, lease="vm")

    def test_another_uid_cannot_adopt(self):
        first = self.connect()
        secret = self.open(first, linger=30)
        first.close()
        self.wait_unheld()
        # Another tenant: nothing of that name is there.
        stranger = self.refused("NOT_FOUND", self.b.AdoptLease, name="vm", secret=secret)
        never = self.refused("NOT_FOUND", self.b.AdoptLease, name="xy", secret=secret)
        self.assertEqual(stranger.raw.replace(b"vm", b"xy"), never.raw)

    def test_another_uid_of_the_tenant_cannot_adopt(self):
        """A principal is socket and uid; the tenant of both is lab/g, by their group."""
        first = self.connect(64777, gid=policy.GID_G)
        secret = self.open(first, linger=30)
        ticket = first.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY, lease="vm").ticket
        second = self.connect(64778, gid=policy.GID_G)
        self.assertEqual(second.GetStatus().tenant, "lab/g")
        self.assertEqual(self.give(second, ticket, second.actor.memfd(size=PAGE)),
                         fdpass.REFUSED)
        first.close()
        self.wait_unheld()
        self.refused("NOT_FOUND", second.AdoptLease, name="vm", secret=secret)
        self.connect(64777, gid=policy.GID_G).AdoptLease(name="vm", secret=secret)

    def test_close_while_a_long_request_is_under_way(self):
        self.open()
        ioasid = self.alloc(self.a, lease="vm")
        memory = self.memory(self.a, pages=512, scope={"lease": "vm"})
        for _ in range(3):
            self.a.start("Map", ioasid=ioasid, lease="vm", entries=[
                self.entry(0x10000000 + i * 0x300000, memory, 512) for i in range(512)])
        self.a.CloseLease(lease="vm")
        self.assertIsNone(self.lease())
        self.assertEqual(self.used("org/a", "ioasids", "map_entries", "leases"), [0, 0, 0])

    def test_linger_ends(self):
        first = self.connect()
        self.open(first, linger=1)
        self.alloc(first, lease="vm")
        first.close()
        self.wait_unheld()
        self.assertEqual(self.used("org/a", "ioasids"), 1)
        began = time.monotonic()
        self.wait_gone()
        self.assertGreater(time.monotonic() - began, 0.5)
        self.assertEqual(self.used("org/a", "ioasids", "leases"), [0, 0])

    def test_no_linger_ends_at_once(self):
        first = self.connect()
        self.open(first, linger=0)
        self.alloc(first, lease="vm")
        first.close()
        self.wait_gone()

    def test_devices_and_dma_survive_the_holder(self):
        first = self.connect()
        secret = self.open(first, linger=30)
        device = self.device(first, lease="vm")
        ioasid = self.alloc(first, [device], lease="vm")
        memory = self.memory(first, scope={"lease": "vm"}, fill=b"still here")
        self.map(first, ioasid, self.entry(0x10010000, memory), lease="vm")
        first.Attach(device=device, ioasid=ioasid, lease="vm")
        first.close()
        self.wait_unheld()
        self.refused("DEVICE_IN_USE", self.b.ClaimDevice, devices=[device])
        second = self.connect()
        second.AdoptLease(name="vm", secret=secret)
        self.assertReads(second, device, 0x10010000, b"still here", lease="vm")

    def test_objects_do_not_cross_leases(self):
        self.open()
        device = self.device(self.a, lease="vm")
        inside, outside = self.alloc(self.a, lease="vm"), self.alloc(self.a)
        memory = self.memory(self.a)
        self.refused("NOT_CLAIMED", self.a.Attach, device=device, ioasid=outside)
        if outside != inside:
            self.refused("NOT_FOUND", self.a.Attach, device=device, ioasid=outside, lease="vm")
        if memory.id not in (inside, outside):
            self.refused("NOT_FOUND", self.a.Map, ioasid=inside, lease="vm",
                         entries=[self.entry(0x10010000, memory)])
        self.refused("NOT_CLAIMED", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     devices=[device])

    def test_watched_process_ends_the_lease(self):
        victim = self.fresh_actor(policy.A)
        ticket = self.ticket(self.a, self.pb.TICKET_PURPOSE_PROCESS)
        self.assertEqual(victim.exchange(self.a.path, fdpass.request(fdpass.GIVE, ticket),
                                         [victim.pidfd()])[0], fdpass.OK)
        self.open(linger=600, watch_ticket=ticket)
        self.alloc(self.a, lease="vm")
        victim.kill()
        self.wait_gone()
        self.assertEqual(self.used("org/a", "ioasids", "kept_fds"), [0, 0])
        self.refused("NOT_FOUND", self.a.ListIoasids, lease="vm")

    def test_bad_watch_tickets(self):
        fd = self.a.actor.memfd(size=PAGE)
        memory = self.given(self.a, fd)
        for ticket in (memory, b"x" * 16, self.ticket(self.a, self.pb.TICKET_PURPOSE_PROCESS)):
            self.refused("TICKET_REFUSED", self.a.OpenLease, name="w", watch_ticket=ticket)
        self.assertIn(self.a.attempt("OpenLease", name="w", watch_ticket=b"x").reason,
                      ("INVALID_FIELD", "TICKET_REFUSED"))
        self.assertIsNone(self.lease("w"))

    def watching(self, conn, victim, **scope):
        """A watch_ticket for the process of an actor."""
        ticket = self.ticket(conn, self.pb.TICKET_PURPOSE_PROCESS, **scope)
        self.assertEqual(victim.exchange(conn.path, fdpass.request(fdpass.GIVE, ticket),
                                         [victim.pidfd()])[0], fdpass.OK)
        return ticket

    def test_kept_as_long_as_the_process_lives(self):
        victim, first = self.fresh_actor(policy.A), self.connect()
        secret = self.open(first, keep=True, watch_ticket=self.watching(first, victim))
        self.alloc(first, lease="vm")
        first.close()
        self.wait_unheld()
        # A lease without a holder and without a time to linger would be gone at once.
        time.sleep(0.3)
        second = self.connect()
        second.AdoptLease(name="vm", secret=secret)
        self.assertEqual(len(second.ListIoasids(lease="vm").ioasids), 1)
        self.assertTrue(self.lease().keep)
        victim.kill()
        self.wait_gone()
        self.assertEqual(self.used("org/a", "ioasids", "kept_fds"), [0, 0])

    def test_bad_ways_to_keep(self):
        victim = self.fresh_actor(policy.A)
        self.refused("INVALID_FIELD", self.a.OpenLease, name="w", keep=True, field="keep")
        self.refused("INVALID_FIELD", self.a.OpenLease, name="w", keep=True, linger_seconds=1,
                     watch_ticket=self.watching(self.a, victim), field="linger_seconds")
        self.assertIsNone(self.lease("w"))

    def test_bad_ways_to_delegate(self):
        both = [dict(resource="ioasids", amount=1), dict(resource="registered_bytes", amount=PAGE)]
        self.refused("INVALID_FIELD", self.a.OpenLease, name="w", delegate=True, limits=both,
                     field="delegate")
        victim = self.fresh_actor(policy.A)
        ticket = self.watching(self.a, victim)
        for limits in ([], both[:1], both[1:], [both[0], dict(both[1], amount=0)],
                       [dict(both[0], amount=0), both[1]]):
            self.refused("INVALID_FIELD", self.a.OpenLease, name="w", delegate=True,
                         watch_ticket=ticket, limits=limits, field="limits")
        # Simulated devices have no context to give away; elsewhere this tenant may have none.
        reason = "UNIMPLEMENTED" if self.world.shim == "soft" else "POLICY_FORBIDDEN"
        self.refused(reason, self.a.OpenLease, name="w", delegate=True, watch_ticket=ticket,
                     limits=both, text="delegate")
        self.assertIsNone(self.lease("w"))
        # The ticket is as it was.
        self.open(name="w", linger=1, watch_ticket=ticket)
        self.refused("WRONG_STATE", self.a.GetContextFd, lease="w")
        self.refused("NOT_FOUND", self.connect().GetContextFd)

    def test_limits_of_its_own(self):
        self.open(limits=[dict(resource="ioasids", amount=2),
                          dict(resource="registered_bytes", amount=3 * PAGE)])
        one, two = (self.alloc(self.a, lease="vm") for _ in range(2))
        refusal = self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, lease="vm")
        self.assertIn("ioasids of lease vm: limit 2, used 2, requested 1", refusal.message)
        # The tenant's other leases are not concerned, and what is given back counts no more.
        self.alloc(self.a)
        self.a.Free(ioasid=one, lease="vm")
        self.alloc(self.a, lease="vm")
        memory = self.memory(self.a, 2, scope={"lease": "vm"})
        self.memory(self.a, 1, scope={"lease": "vm"})
        before = self.used("org/a", "registered_bytes", "kept_fds")
        ticket = self.given(self.a, self.a.actor.memfd(size=PAGE), lease="vm")
        refusal = self.refused("QUOTA", self.a.RegisterMemory, lease="vm", read=True,
                               ticket=ticket)
        self.assertIn("registered_bytes of lease vm: limit 12288, used 12288, requested 4096",
                      refusal.message)
        self.assertEqual(self.used("org/a", "registered_bytes"), before[0])
        self.a.UnregisterMemory(memory=memory.id, lease="vm")
        self.memory(self.a, 2, scope={"lease": "vm"})
        self.assertEqual({x.resource: x.amount for x in self.lease(conn=self.a).limits},
                         {"ioasids": 2, "registered_bytes": 3 * PAGE})
        self.assertTrue(two)

    def test_memory_that_is_mapped_still_counts(self):
        self.open(limits=[dict(resource="registered_bytes", amount=PAGE)])
        memory = self.memory(self.a, 1, scope={"lease": "vm"})
        ioasid = self.alloc(self.a, lease="vm")
        self.map(self.a, ioasid, self.entry(0x10010000, memory), lease="vm")
        self.a.UnregisterMemory(memory=memory.id, lease="vm")
        ticket = self.given(self.a, self.a.actor.memfd(size=PAGE), lease="vm")
        self.refused("QUOTA", self.a.RegisterMemory, lease="vm", read=True, ticket=ticket)
        self.a.Unmap(ioasid=ioasid, lease="vm", ranges=[dict(iova=0x10010000, length=PAGE)])
        self.memory(self.a, 1, scope={"lease": "vm"})

    def test_limits_of_nothing_and_bad_ones(self):
        self.open(limits=[dict(resource="ioasids", amount=0)])
        self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, lease="vm")
        for limits, field in (([("vms", 1)], "limits[0].resource"),
                              ([("", 1)], "limits[0].resource"),
                              ([("ioasids", 1), ("ioasids", 2)], "limits[1].resource")):
            self.refused("INVALID_FIELD", self.a.OpenLease, name="w", field=field,
                         limits=[dict(resource=r, amount=n) for r, n in limits])
        self.assertIsNone(self.lease("w"))

    def test_close_with_everything_in_it(self):
        self.open()
        device = self.device(self.a, lease="vm")
        memory = self.memory(self.a, scope={"lease": "vm"})
        gpa = self.alloc(self.a, [device], lease="vm")
        child = self.alloc(self.a, [device], lease="vm", **self.nested(gpa))
        self.map(self.a, gpa, self.entry(0x10010000, memory), lease="vm")
        if self.nested(gpa):
            self.map(self.a, child, self.child_entry(0x1000, 0x10010000), lease="vm")
        self.a.Attach(device=device, ioasid=child, lease="vm")
        self.a.CloseLease(lease="vm")
        self.assertEqual(self.used("org/a", "ioasids", "devices", "leases", "map_entries",
                                   "registered_bytes", "pinned_bytes", "kept_fds"), [0] * 7)
        self.b.ClaimDevice(devices=[device])

    def test_listing_pages(self):
        names = ["n%d" % i for i in range(5)]
        for name in names:
            self.open(name=name)
        seen, token = [], ""
        while True:
            page = self.a.ListLeases(page_size=2, page_token=token)
            seen += [x.name for x in page.leases]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(sorted(n for n in seen if n), names)

    def test_unknown_lease_is_not_found_in_every_method(self):
        for name, method in sorted(self.world.api.methods.items()):
            if method.service != "Broker" or "lease" in method.fields or \
                    "scope" not in method.fields or method.streaming:
                continue
            if name.split("/")[1] in ("GetQuota", "ExplainQuota", "ListDevices", "GetDevice",
                                      "ListLeases", "OpenLease", "AdoptLease"):
                continue
            refusal = self.a.attempt(name, lease="never")
            with self.subTest(name):
                self.assertIn(refusal.reason, ("NOT_FOUND", "INVALID_FIELD", "UNIMPLEMENTED"))
