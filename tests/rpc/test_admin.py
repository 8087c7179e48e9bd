# SPDX-License-Identifier: Apache-2.0
"""The Admin service: usage, limits, reload, drain, revoke, listings, events."""
import json
import time

from support import policy
from support.case import Case
from support.client import Refused

POLICY = policy.default()
TOP = 2 ** 64 - 1


class Usage(Case):
    def test_ancestors_hold_the_sum(self):
        for conn, n in ((self.a, 2), (self.b, 3)):
            for _ in range(n):
                self.alloc(conn)
        self.alloc(self.connect(policy.C))
        for path, used, own in (("org/a", 2, 2), ("org/b", 3, 3), ("org", 5, 0), ("lab/c", 1, 1),
                                ("lab", 1, 0), ("", 6, 0)):
            usage = self.usage(path)["ioasids"]
            self.assertEqual((usage.used, usage.own), (used, own), path)

    def test_tenants_are_listed(self):
        tenants = {t.path: t for t in self.admin.ListTenants().tenants}
        self.assertLessEqual({"org", "org/a", "org/b", "org/d", "lab", "lab/c", "lab/g"},
                             set(tenants))
        self.assertEqual(tenants["org/a"].parent, "org")
        self.assertFalse(any(t.draining or t.orphaned for t in tenants.values()))
        sub = [t.path for t in self.admin.ListTenants(subtree="org").tenants]
        self.assertEqual(sorted(sub), ["org", "org/a", "org/b", "org/d"])

    def test_listing_pages(self):
        whole = [t.path for t in self.admin.ListTenants().tenants]
        seen, token = [], ""
        while True:
            page = self.admin.ListTenants(page_size=2, page_token=token)
            seen += [t.path for t in page.tenants]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(seen, whole)

    def test_unused_resources_are_left_out_unless_asked_for(self):
        self.alloc(self.a)
        short = {t.path: {r.resource for r in t.resources}
                 for t in self.admin.ListTenants().tenants}
        self.assertIn("ioasids", short["org/a"])
        self.assertNotIn("vms", short["org/a"])
        self.assertIn("vms", self.usage("org/a"))

    def test_unknown_subtree(self):
        answer = self.admin.attempt("ListTenants", subtree="nothing")
        if isinstance(answer, Refused):
            self.check_refusal(answer, "NOT_FOUND")
        else:
            self.assertEqual(len(answer.tenants), 0)


class Limits(Case):
    def test_set_limits_answers_with_the_tenant(self):
        self.limited("org/a", ioasids=9)
        tenant = self.admin.SetLimits(tenant="org/a", limits=[
            {"resource": "ioasids", "amount": 8}]).tenant
        self.assertEqual(tenant.path, "org/a")
        self.assertEqual({r.resource: r.limit for r in tenant.resources}["ioasids"], 8)
        self.assertEqual({r.resource: r.limit for r in self.a.GetQuota().resources}["ioasids"], 8)

    def test_bad_requests_change_nothing(self):
        before = {r: u.limit for r, u in self.usage("org/a").items()}
        good = {"resource": "ioasids", "amount": 1}
        self.refused("NOT_FOUND", self.admin.SetLimits, tenant="org/none", limits=[good])
        for limits, field in (([good, {"resource": "none", "amount": 1}], "limits[1].resource"),
                              ([good, good], None), ([], "limits")):
            with self.subTest(limits=limits):
                answer = self.admin.attempt("SetLimits", tenant="org/a", limits=limits)
                if field:
                    self.check_refusal(answer, "INVALID_FIELD", field=field)
                elif isinstance(answer, Refused):
                    self.check_refusal(answer, "INVALID_FIELD")
                else:
                    self._set_limits("org/a", {"ioasids": before["ioasids"]})
        self.assertEqual({r: u.limit for r, u in self.usage("org/a").items()}, before)

    def test_limits_last_until_the_next_reload(self):
        self._set_limits("org/a", {"ioasids": 3})
        self.admin.ReloadPolicy()
        self.assertEqual(self.usage("org/a")["ioasids"].limit, TOP)


class Reload(Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.write, POLICY)

    def write(self, content, reload=True):
        self.world.server.write_policy(content)
        return self.admin.ReloadPolicy() if reload else None

    def test_good_policy_is_taken(self):
        before = self.admin.GetStatus().policy_generation
        changed = policy.with_limits(org_a={"ioasids": 2})
        answer = self.write(changed)
        self.assertEqual(answer.generation, before + 1)
        self.assertEqual(self.admin.GetStatus().policy_generation, before + 1)
        self.assertEqual(self.usage("org/a")["ioasids"].limit, 2)

    def test_objects_live_through_a_reload(self):
        device = self.device(self.a)
        ioasid, memory = self.alloc(self.a, [device]), self.memory(self.a, fill=b"kept")
        self.map(self.a, ioasid, self.entry(0x10010000, memory))
        self.a.Attach(device=device, ioasid=ioasid)
        self.write(policy.with_limits(org_a={"ioasids": 0}))
        self.assertReads(self.a, device, 0x10010000, b"kept")
        self.assertEqual(self.used("org/a", "ioasids", "map_entries"), [1, 1])
        self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL)

    def test_bad_policy_changes_nothing(self):
        good = policy.default()
        before = (self.admin.GetStatus().policy_generation,
                  {t.path for t in self.admin.ListTenants().tenants})
        for name, text, expect in (
                ("not JSON", "{", ":1"),
                ("empty", "", ""),
                ("unknown key", json.dumps({**good, "tennants": {}}), "tennants"),
                ("wrong type", json.dumps({**good, "tenants": []}), "tenants"),
                ("unknown resource", json.dumps(policy.with_limits(org={"ioasidz": 1})),
                 "ioasidz"),
                ("negative limit", json.dumps(policy.with_limits(org={"ioasids": -1})),
                 "ioasids"),
                ("no parent", json.dumps({**good, "tenants": {**good["tenants"],
                                                             "no/body": {}}}), "no/body"),
                ("unknown tenant", json.dumps({**good, "identities": good["identities"] + [
                    {"socket": "tenants", "uid": 5, "role": "tenant", "tenant": "never"}]}),
                 "never"),
                ("two rules for one caller", json.dumps({
                    **good, "identities": good["identities"] + [
                        {"socket": "tenants", "uid": policy.A, "role": "tenant",
                         "tenant": "org/b"}]}), "identities"),
                ("duplicate key", json.dumps(good).replace('"host"', '"version": 1, "host"', 1),
                 "version")):
            with self.subTest(name):
                self.write(text, reload=False)
                answer = self.admin.attempt("ReloadPolicy")
                self.assertIsInstance(answer, Refused, name)
                self.assertIn(answer.code, ("INVALID_ARGUMENT", "FAILED_PRECONDITION"))
                self.check_refusal(answer, answer.reason)
                # The file and what is wrong in it.
                self.assertIn("policy.json", answer.text())
                self.assertIn(expect, answer.text())
                self.assertEqual((self.admin.GetStatus().policy_generation,
                                  {t.path for t in self.admin.ListTenants().tenants}), before)
                self.a.GetStatus()
        self.alloc(self.a)

    def test_missing_file_changes_nothing(self):
        import os
        os.rename(self.world.server.policy, self.world.server.policy + ".away")
        answer = self.admin.attempt("ReloadPolicy")
        self.assertIsInstance(answer, Refused)
        self.assertNotIn(answer.reason, (None, "INTERNAL"))
        self.a.GetStatus()

    def test_tenant_that_the_policy_drops(self):
        ioasid = self.alloc(self.a)
        changed = policy.default()
        del changed["tenants"]["org/a"]
        changed["identities"] = [i for i in changed["identities"] if i.get("tenant") != "org/a"]
        answer = self.write(changed)
        self.assertEqual(list(answer.orphaned), ["org/a"])
        orphan = next(t for t in self.admin.ListTenants().tenants if t.path == "org/a")
        self.assertTrue(orphan.orphaned)
        self.assertEqual(self.used("org/a", "ioasids"), 1)
        self.assertEqual(self.used("org", "ioasids"), 1)
        # No growth; what it has may be freed.
        self.assertIsInstance(self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL), Refused)
        self.a.Free(ioasid=ioasid)
        self.a.close()
        end = time.monotonic() + 5 * self.slow
        while any(t.path == "org/a" for t in self.admin.ListTenants().tenants):
            self.assertLess(time.monotonic(), end, "the orphan did not go")
            time.sleep(0.02)

    def test_dropped_tenant_that_an_agent_watches(self):
        """The call is all that refers to it, and needs it until its own end."""
        stream = self.connect(policy.AGENT, "agents").watch("WatchEvents", tenant="org/d",
                                                            timeout=60 * self.slow)
        self.assertIsNone(stream.next(0.2))
        changed = policy.default()
        del changed["tenants"]["org/d"]
        changed["identities"] = [i for i in changed["identities"] if i.get("tenant") != "org/d"]
        self.assertEqual(list(self.write(changed).orphaned), ["org/d"])
        orphan, = (t for t in self.admin.ListTenants().tenants if t.path == "org/d")
        self.assertTrue(orphan.orphaned)
        stream.cancel()
        end = time.monotonic() + 5 * self.slow
        while any(t.path == "org/d" for t in self.admin.ListTenants().tenants):
            self.assertLess(time.monotonic(), end, "the orphan did not go")
            time.sleep(0.02)

    def test_dropped_tenant_that_comes_back(self):
        ioasid = self.alloc(self.a)
        changed = policy.default()
        del changed["tenants"]["org/a"]
        changed["identities"] = [i for i in changed["identities"] if i.get("tenant") != "org/a"]
        self.write(changed)
        self.assertEqual(list(self.write(POLICY).orphaned), [])
        self.assertEqual(self.used("org/a", "ioasids"), 1)
        other = self.connect()
        self.alloc(other)
        self.assertEqual(self.used("org/a", "ioasids"), 2)
        self.a.attempt("Free", ioasid=ioasid)

    def test_hangup_reloads(self):
        self.write(policy.with_limits(org_a={"ioasids": 4}), reload=False)
        self.world.server.hangup()
        end = time.monotonic() + 5 * self.slow
        while self.usage("org/a")["ioasids"].limit != 4:
            self.assertLess(time.monotonic(), end, "SIGHUP did not reload")
            time.sleep(0.02)

    def test_role_taken_away(self):
        self.a.GetStatus()
        changed = policy.default()
        changed["identities"] = [i for i in changed["identities"] if i.get("tenant") != "org/a"]
        self.write(changed)
        self.refused("NO_TENANT", self.connect().GetStatus)


class Drain(Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.admin.DrainTenant, tenant="org/a", drain=False)

    def test_draining_refuses_new_objects(self):
        ioasid, memory = self.alloc(self.a), self.memory(self.a)
        self.admin.DrainTenant(tenant="org/a", drain=True)
        self.assertTrue(next(t for t in self.admin.ListTenants().tenants
                             if t.path == "org/a").draining)
        self.refused("WRONG_STATE", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.refused("WRONG_STATE", self.a.ClaimDevice,
                     devices=[self.inventory.single[0].address])
        self.refused("WRONG_STATE", self.connect().OpenLease, name="new")
        # What there is may be used up and freed.
        self.a.GetIoasid(ioasid=ioasid)
        self.a.UnregisterMemory(memory=memory.id)
        self.a.Free(ioasid=ioasid)
        self.alloc(self.b)
        self.admin.DrainTenant(tenant="org/a", drain=False)
        self.alloc(self.a)

    def test_closing_leases(self):
        self.a.OpenLease(name="vm", linger_seconds=60)
        self.alloc(self.a, lease="vm")
        self.alloc(self.a)
        answer = self.admin.DrainTenant(tenant="org/a", drain=True, close_leases=True)
        self.assertEqual(answer.leases_closed, 2)
        self.wait_used("org/a", "leases", 0)
        self.assertEqual(self.used("org/a", "ioasids"), 0)

    def test_draining_a_parent_drains_its_children(self):
        self.addCleanup(self.admin.DrainTenant, tenant="org", drain=False)
        self.alloc(self.a)
        self.alloc(self.b)
        answer = self.admin.DrainTenant(tenant="org", drain=True, close_leases=True)
        self.assertEqual(answer.leases_closed, 2)
        self.wait_used("org", "leases", 0)
        self.refused("WRONG_STATE", self.b.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.alloc(self.connect(policy.C))

    def test_unknown_tenant(self):
        self.refused("NOT_FOUND", self.admin.DrainTenant, tenant="org/none", drain=True)


class Revoke(Case):
    def serial(self, name=""):
        return next(x.serial for x in self.admin.ListLeases().leases if x.name == name)

    def test_lease_by_its_serial_number(self):
        self.a.OpenLease(name="vm", linger_seconds=60)
        device = self.device(self.a, lease="vm")
        ioasid = self.alloc(self.a, [device], lease="vm")
        memory = self.memory(self.a, scope={"lease": "vm"})
        self.map(self.a, ioasid, self.entry(0x10010000, memory), lease="vm")
        self.a.Attach(device=device, ioasid=ioasid, lease="vm")
        self.admin.Revoke(lease_serial=self.serial("vm"))
        self.wait_used("org/a", "leases", 0)
        self.assertEqual(self.used("org/a", "ioasids", "devices", "kept_fds"), [0, 0, 0])
        refusal = self.a.attempt("GetIoasid", ioasid=ioasid, lease="vm")
        self.assertIn(refusal.reason, ("NOT_FOUND", "WRONG_STATE"))
        self.b.ClaimDevice(devices=[device])

    def test_connection_lease(self):
        self.alloc(self.a)
        self.admin.Revoke(lease_serial=self.serial())
        self.wait_used("org/a", "ioasids", 0)

    def test_device(self):
        device = self.device(self.a)
        ioasid, memory = self.alloc(self.a, [device]), self.memory(self.a)
        self.map(self.a, ioasid, self.entry(0x10010000, memory))
        self.a.Attach(device=device, ioasid=ioasid)
        self.admin.Revoke(device=device)
        self.refused_dma("NOT_CLAIMED", self.a, device)
        self.assertEqual(self.a.GetIoasid(ioasid=ioasid).ioasid.attachments, 0)
        self.b.ClaimDevice(devices=[device])

    def test_device_of_a_lease_that_nobody_holds(self):
        first = self.connect()
        first.OpenLease(name="vm", linger_seconds=60)
        self.addCleanup(lambda: self.admin.Revoke(lease_serial=self.serial("vm")))
        device = self.device(first, lease="vm")
        first.close()
        self.wait_used("org/a", "connections", 0)
        self.admin.Revoke(device=device)
        self.b.ClaimDevice(devices=[device])

    def test_device_under_dma(self):
        self.need_dma_calls("a revoked real one goes to nobody while its fd is open (escapes-*)")
        device = self.device(self.a)
        ioasid, memory = self.alloc(self.a, [device]), self.memory(self.a, pages=256)
        self.map(self.a, ioasid, self.entry(0x10100000, memory, 256))
        self.a.Attach(device=device, ioasid=ioasid)
        calls = [self.a.start("DeviceDma", device=device, access=self.pb.ACCESS_READ,
                              iova=0x10100000, length=256 * 4096) for _ in range(16)]
        self.admin.Revoke(device=device)
        self.b.ClaimDevice(devices=[device])
        for call in calls:
            answer = call.result()
            self.assertTrue(getattr(answer, "reason", None) == "NOT_CLAIMED" or
                            answer.done in (0, 256 * 4096), answer)

    def test_nothing_there(self):
        self.refused("NOT_FOUND", self.admin.Revoke, lease_serial=10 ** 9)
        self.refused("INVALID_FIELD", self.admin.Revoke)
        answer = self.admin.attempt("Revoke", device=self.inventory.single[0].address)
        self.check_refusal(answer, answer.reason)
        self.assertIn(answer.reason, ("NOT_FOUND", "NOT_CLAIMED"))
        self.refused("NOT_FOUND", self.admin.Revoke, device="0000:ff:1f.7")


class Objects(Case):
    def test_everything_is_listed(self):
        device = self.device(self.a)
        gpa, memory = self.alloc(self.a, [device], label="gpa"), self.memory(self.a, label="ram")
        child = self.alloc(self.a, [device], **self.nested(gpa))
        self.map(self.a, gpa, self.entry(0x10010000, memory))
        self.a.Attach(device=device, ioasid=child)
        (lease,) = self.admin.ListObjects().leases
        self.assertEqual(lease.lease.tenant, "org/a")
        self.assertEqual({i.ioasid: (i.label, i.parent, i.mappings) for i in lease.ioasids},
                         {gpa: ("gpa", 0, 1), child: ("", self.nested(gpa).get("parent", 0), 0)})
        self.assertEqual([(m.memory, m.label, m.mappings) for m in lease.memory],
                         [(memory.id, "ram", 1)])
        self.assertEqual([(x.device, x.ioasid) for x in lease.attachments], [(device, child)])
        self.assertEqual(list(lease.devices), [device])
        self.assertEqual(lease.omitted, 0)

    def test_subtree_and_pages(self):
        conns = [self.connect(uid) for uid in (policy.A, policy.B, policy.C, policy.A)]
        for conn in conns:
            self.alloc(conn)
        self.assertEqual(len(self.admin.ListObjects().leases), 4)
        self.assertEqual(len(self.admin.ListObjects(subtree="org").leases), 3)
        self.assertEqual(len(self.admin.ListObjects(subtree="org/a").leases), 2)
        seen, token = [], ""
        while True:
            page = self.admin.ListObjects(page_size=1, page_token=token)
            seen += [x.lease.serial for x in page.leases]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(len(set(seen)), 4)

    def test_a_lease_with_very_many_objects(self):
        """The answer stays below 4 MiB and says what it left out."""
        label = "x" * 64
        for n in range(0, 6000, 500):
            self.a.many([("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL, label=label))] * 500)
        (lease,) = self.admin.ListObjects().leases
        self.assertEqual(len(lease.ioasids) + lease.omitted, 6000)
        self.assertLess(lease.ByteSize(), 4 << 20)


class Events(Case):
    def test_what_happens_is_seen_in_order(self):
        stream = self.admin.watch("Admin/WatchEvents")
        self.assertIsNone(stream.next(0.2))
        device = self.device(self.a)
        ioasid = self.alloc(self.a, [device])
        self.a.Attach(device=device, ioasid=ioasid)
        self.a.Detach(device=device)
        self.a.Free(ioasid=ioasid)
        self.a.ReleaseDevice(devices=[device])
        events = stream.collect(lambda e: e.type == self.pb.EVENT_TYPE_DEVICE_RELEASED)
        wanted = ["LEASE_OPENED", "DEVICE_CLAIMED", "IOASID_ALLOCATED", "ATTACHED", "DETACHED",
                  "IOASID_FREED", "DEVICE_RELEASED"]
        names = [self.pb.EventType.Name(e.type)[len("EVENT_TYPE_"):] for e in events]
        self.assertEqual([n for n in names if n in wanted], wanted)
        self.assertLess(abs(events[-1].time_us / 1e6 - time.time()), 60)
        for e in events:
            self.assertEqual(e.lost, 0)
            if e.type == self.pb.EVENT_TYPE_ATTACHED:
                self.assertEqual((e.tenant, e.ioasid, e.device), ("org/a", ioasid, device))
        numbers = [e.sequence for e in events]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    def test_only_the_types_asked_for(self):
        stream = self.admin.watch("Admin/WatchEvents", types=[self.pb.EVENT_TYPE_IOASID_FREED])
        self.assertIsNone(stream.next(0.2))
        for _ in range(5):
            self.a.Free(ioasid=self.alloc(self.a))
        got = stream.drain()
        self.assertEqual([e.type for e in got], [self.pb.EVENT_TYPE_IOASID_FREED] * 5)
        self.assertTrue(all(x.sequence < y.sequence for x, y in zip(got, got[1:])))
        self.assertEqual([e.lost for e in got], [0] * 5)

    def test_resume_after_a_sequence_number(self):
        stream = self.admin.watch("Admin/WatchEvents")
        self.assertIsNone(stream.next(0.2))
        for _ in range(6):
            self.a.Free(ioasid=self.alloc(self.a))
        first = stream.drain()
        stream.cancel()
        again = self.admin.watch("Admin/WatchEvents", after_sequence=first[3].sequence)
        self.assertEqual([e.sequence for e in again.drain()][:len(first) - 4],
                         [e.sequence for e in first[4:]])

    def test_resume_beyond_what_is_held_says_so(self):
        stream = self.admin.watch("Admin/WatchEvents", after_sequence=1,
                                  types=[self.pb.EVENT_TYPE_IOASID_ALLOCATED])
        stream.drain()
        ahead = self.admin.watch("Admin/WatchEvents", after_sequence=TOP)
        answer = ahead.next(0.5)
        if isinstance(answer, Refused):
            self.check_refusal(answer, "INVALID_FIELD")

    def test_bad_types(self):
        for types in ([0], [99], [5, -1]):
            answer = self.admin.watch("Admin/WatchEvents", types=types).next()
            self.check_refusal(answer, "INVALID_FIELD")

    def test_tenant_sees_its_own(self):
        stream = self.a.watch("WatchEvents")
        self.assertIsNone(stream.next(0.2))
        self.limited("org/a", ioasids=0)
        self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.alloc(self.b)
        types = [e.type for e in stream.drain()]
        self.assertIn(self.pb.EVENT_TYPE_QUOTA_REFUSED, types)
        self.assertNotIn(self.pb.EVENT_TYPE_IOASID_ALLOCATED, types)

    def test_a_watcher_that_does_not_read_loses_events_and_is_told(self):
        # Without the probe its window stays at 64 KiB.
        slow = self.connect(policy.OBSERVER, "watch", options=[("grpc.http2.bdp_probe", 0)])
        stream = slow.watch("Admin/WatchEvents", read=False, timeout=60 * self.slow)
        quick = self.admin.watch("Admin/WatchEvents", types=[self.pb.EVENT_TYPE_IOASID_FREED])
        self.assertIsNone(quick.next(0.2))
        # Events with a long name fill the pipe sooner.
        lease = "l" * 128
        self.a.OpenLease(name=lease)
        for _ in range(25):
            ids = [r.ioasid for r in self.a.many(
                [("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL, lease=lease))] * 250)]
            self.a.many([("Free", dict(ioasid=i, lease=lease)) for i in ids])
        self.a.CloseLease(lease=lease)
        stream.read()
        events = stream.drain(1.0)
        self.assertTrue(events)
        lost = sum(e.lost for e in events)
        last = events[-1].sequence - events[0].sequence + 1
        # Every event was seen or is counted as lost; nothing comes twice.
        self.assertEqual(len(events) + lost - events[0].lost, last)
        self.assertGreater(lost, 0, "%d events were all held for one that does not read" % last)


class Audit(Case):
    def test_every_decision_is_recorded(self):
        ioasid = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, label="audited").ioasid
        self.refused("NOT_FOUND", self.a.Free, ioasid=ioasid + 1000)
        self.refused("ROLE_FORBIDDEN", self.a.SetLimits, tenant="org/a")
        self.refused("NO_TENANT", self.connect(policy.STRANGER).Alloc, kind=1)
        end = time.monotonic() + 5 * self.slow
        while True:
            with open(self.world.server.audit) as f:
                text = f.read()
            if text.count("\n") and "NO_TENANT" in text:
                break
            self.assertLess(time.monotonic(), end, "audit has no record of it:\n" + text[-2000:])
            time.sleep(0.05)
        records = [json.loads(line) for line in text.splitlines()]
        for wanted in (("Alloc", "org/a"), ("Free", "NOT_FOUND"), ("SetLimits", "ROLE_FORBIDDEN"),
                       ("Alloc", "NO_TENANT"), ("Alloc", str(policy.A))):
            self.assertTrue(any(all(w in json.dumps(r) for w in wanted) for r in records), wanted)
