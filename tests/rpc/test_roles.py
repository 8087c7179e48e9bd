# SPDX-License-Identifier: Apache-2.0
"""Who may call what: every method of the service descriptor, as every role."""
import time

from support import policy
from support.case import Case
from support.client import Refused

POLICY = policy.default()

# What issue 01 leaves to later, each with a well-formed request.
NOT_BUILT = ["GetDeviceFd"]


class Roles(Case):
    def peers(self):
        yield "T", self.a
        yield "A", self.connect(policy.AGENT, "agents")
        yield "O", self.connect(policy.OBSERVER, "watch")
        yield "M", self.admin

    def outcome(self, conn, method):
        """Of an empty request: Refused, or None when it was let in."""
        if not method.streaming:
            answer = conn.attempt(method.service + "/" + method.name)
            return answer if isinstance(answer, Refused) else None
        stream = conn.watch(method.service + "/" + method.name)
        answer = stream.next(0.3 * self.slow)
        stream.cancel()
        return answer if isinstance(answer, Refused) else None

    def api_methods(self):
        return [m for m in self.world.api.methods.values() if m.service != "Health"]

    def test_every_method_refuses_every_role_that_may_not_call_it(self):
        tried = 0
        for role, conn in self.peers():
            for method in self.api_methods():
                if role in method.roles:
                    continue
                tried += 1
                with self.subTest(role=role, method=method.path):
                    self.check_refusal(self.outcome(conn, method), "ROLE_FORBIDDEN")
        self.assertGreater(tried, 80)

    def test_every_method_lets_every_role_in_that_may_call_it(self):
        for role, conn in self.peers():
            for method in self.api_methods():
                # Streams are let in by tests of their own; a reload has an effect.
                if role not in method.roles or method.streaming or method.name == "ReloadPolicy":
                    continue
                refused = self.outcome(conn, method)
                with self.subTest(role=role, method=method.path):
                    reason = getattr(refused, "reason", None)
                    self.assertNotIn(reason, ("ROLE_FORBIDDEN", "NO_TENANT", "INTERNAL"))
                    if refused:
                        self.check_refusal(refused, reason)

    def test_unknown_peer_is_refused_by_every_method(self):
        peers = [self.connect(policy.STRANGER), self.connect(policy.A, "agents"),
                 self.connect(0, "tenants")]
        for method in self.api_methods():
            with self.subTest(method=method.path):
                stranger = self.connect(policy.STRANGER)
                self.check_refusal(self.outcome(stranger, method), "NO_TENANT")
                stranger.close()
        for peer in peers[1:]:
            self.check_refusal(peer.attempt("GetStatus"), "NO_TENANT")

    def test_methods_that_are_not_built_say_so(self):
        pb, device = self.pb, self.device(self.a)
        for name, fields in dict(GetDeviceFd=dict(device=device)).items():
            self.assertIn(name, NOT_BUILT)
            if name == "GetDeviceFd" and not self.by_call:
                # Real devices have one, and simulated ones DMA by call.
                name, fields = "DeviceDma", dict(device=device, access=pb.ACCESS_READ, iova=0,
                                                 length=8)
            with self.subTest(name):
                if self.world.api.method(name).streaming:
                    answer = self.a.watch(name, **fields).next()
                else:
                    answer = self.a.attempt(name, **fields)
                refusal = self.check_refusal(answer, "UNIMPLEMENTED")
                self.assertGreater(len(refusal.message), 20, refusal.message)

    def test_status_tells_who_one_is(self):
        expected = {"T": ("tenant", "org/a"), "A": ("agent", "org"), "O": ("observer", ""),
                    "M": ("admin", "")}
        for role, conn in self.peers():
            status = conn.GetStatus()
            self.assertEqual((status.role, status.tenant), expected[role])
            self.assertEqual(status.shim, self.world.server.shim)
            self.assertTrue(status.version)
            self.assertTrue(status.capabilities)
            self.assertEqual(status.connections > 0, role in "OM")

    def test_identity_by_group(self):
        member = self.connect(64777, gid=policy.GID_G)
        self.assertEqual(member.GetStatus().tenant, "lab/g")
        # The rule for the uid is more specific than the one for the group.
        both = self.connect(policy.A, gid=policy.GID_G)
        self.assertEqual(both.GetStatus().tenant, "org/a")

    def test_metadata_never_names_the_caller(self):
        # The channel's authority is the only thing that a client can say before a call.
        liar = self.connect(policy.STRANGER, options=[("grpc.default_authority", "admin")])
        self.refused("NO_TENANT", liar.GetStatus)


class Agents(Case):
    def setUp(self):
        super().setUp()
        self.agent = self.connect(policy.AGENT, "agents")

    def test_agent_must_name_the_tenant(self):
        refusal = self.agent.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL)
        self.check_refusal(refusal, "INVALID_FIELD", field="scope.tenant")

    def test_agent_acts_in_its_subtree(self):
        for path in ("org/a", "org/b"):
            ioasid = self.agent.Alloc(kind=self.pb.IOASID_KIND_KERNEL, tenant=path).ioasid
            self.assertEqual(self.used(path, "ioasids"), 1)
            self.agent.GetIoasid(ioasid=ioasid, tenant=path)
            self.agent.Free(ioasid=ioasid, tenant=path)
        self.assertEqual(self.used("org", "ioasids"), 0)

    def test_agent_acts_nowhere_else(self):
        answers = {}
        for path in ("lab/c", "lab/x", "lab", "organ", "org/", "/org", "org//a", "org/nothing"):
            refusal = self.agent.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, tenant=path)
            with self.subTest(path=path):
                self.assertIn(refusal.reason, ("ROLE_FORBIDDEN", "POLICY_FORBIDDEN", "NOT_FOUND",
                                               "INVALID_FIELD"))
                self.check_refusal(refusal, refusal.reason)
            answers[path] = refusal.raw.replace(path.encode(), b"PATH")
        # It does not learn which tenants there are elsewhere.
        self.assertEqual(answers["lab/c"], answers["lab/x"])

    def test_leases_of_two_tenants_are_two(self):
        one = self.agent.Alloc(kind=self.pb.IOASID_KIND_KERNEL, tenant="org/a").ioasid
        self.assertEqual(len(self.agent.ListIoasids(tenant="org/b").ioasids), 0)
        refusal = self.agent.attempt("GetIoasid", ioasid=one, tenant="org/b")
        self.check_refusal(refusal, "NOT_FOUND")

    def test_agent_sees_its_subtree_only(self):
        paths = [t.path for t in self.agent.ListTenants().tenants]
        self.assertEqual(sorted(paths), ["org", "org/a", "org/b", "org/d"])
        refusal = self.agent.attempt("ListTenants", subtree="lab")
        if isinstance(refusal, Refused):
            self.assertIn(refusal.reason, ("ROLE_FORBIDDEN", "NOT_FOUND", "POLICY_FORBIDDEN"))
        else:
            self.assertEqual(len(refusal.tenants), 0)
        self.alloc(self.connect(policy.C))
        self.alloc(self.a)
        tenants = {x.lease.tenant for x in self.agent.ListObjects().leases}
        self.assertEqual(tenants, {"org/a"})

    def test_agents_named_lease_is_of_the_tenant(self):
        self.agent.OpenLease(name="pod", tenant="org/a")
        self.agent.Alloc(kind=self.pb.IOASID_KIND_KERNEL, lease="pod", tenant="org/a")
        refusal = self.agent.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, lease="pod",
                                     tenant="org/b")
        self.check_refusal(refusal, "NOT_FOUND")
        # Of one tenant, but not of one principal: A may not adopt or use it.
        self.assertIsInstance(self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL,
                                             lease="pod"), Refused)
        self.agent.CloseLease(lease="pod", tenant="org/a")
        # Nor may it with the secret: the principal is another.
        secret = self.agent.OpenLease(name="pod", linger_seconds=30, tenant="org/a").secret
        self.refused("WRONG_STATE" if self.a.attempt(
            "AdoptLease", name="pod", secret=secret).reason == "WRONG_STATE" else "NOT_FOUND",
            self.a.AdoptLease, name="pod", secret=secret)
        self.agent.CloseLease(lease="pod", tenant="org/a")

    def test_lease_handed_over(self):
        """To the tenant's programs, by whatever socket and uid; and taken back."""
        secret = self.agent.OpenLease(name="pod", linger_seconds=30, tenant="org/a",
                                      handover=True).secret
        self.addCleanup(self.agent.CloseLease, lease="pod", tenant="org/a")
        device = self.inventory.single[0].address
        self.agent.ClaimDevice(devices=[device], lease="pod", tenant="org/a")
        # The agent holds it still.
        self.refused("WRONG_STATE", self.a.AdoptLease, name="pod", secret=secret)
        first = self.connect(policy.AGENT, "agents")
        first.AdoptLease(name="pod", secret=secret, tenant="org/a")
        self.refused("NOT_FOUND", self.agent.ListIoasids, lease="pod", tenant="org/a")
        first.close()
        self.until_unheld("pod")
        self.refused("NOT_FOUND", self.a.AdoptLease, name="pod", secret=b"x" * 32)
        self.refused("NOT_FOUND", self.b.AdoptLease, name="pod", secret=secret)
        self.refused("ROLE_FORBIDDEN", self.b.AdoptLease, name="pod", secret=secret,
                     tenant="org/a")
        self.a.AdoptLease(name="pod", secret=secret)
        ioasid = self.alloc(self.a, [device], lease="pod")
        self.a.Attach(device=device, ioasid=ioasid, lease="pod")
        faults = self.a.watch("WatchFaults", lease="pod")
        self.assertIsNone(faults.next(0.2))
        # Another program of the tenant does not get what the first one holds; the agent does.
        self.refused("WRONG_STATE", self.connect(policy.A).AdoptLease, name="pod", secret=secret)
        self.agent.AdoptLease(name="pod", secret=secret, tenant="org/a")
        self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=ioasid, lease="pod")
        self.assertIsInstance(faults.next(5 * self.slow), Refused)
        self.agent.GetIoasid(ioasid=ioasid, lease="pod", tenant="org/a")

    def until_unheld(self, name):
        end = time.monotonic() + 5 * self.slow
        while any(x.held for x in self.admin.ListLeases().leases if x.name == name):
            self.assertLess(time.monotonic(), end, "still held")
            time.sleep(0.01)

    def test_only_agents_hand_over(self):
        self.refused("INVALID_FIELD", self.a.OpenLease, name="pod", handover=True,
                     field="handover")
        secret = self.a.OpenLease(name="pod", linger_seconds=30).secret
        self.refused("NOT_FOUND", self.agent.AdoptLease, name="pod", secret=secret,
                     tenant="org/a")
        self.a.CloseLease(lease="pod")

    def test_agent_watches_its_tenants(self):
        stream = self.agent.watch("WatchEvents", tenant="org/a")
        self.assertIsNone(stream.next(0.2))
        self.a.Free(ioasid=self.alloc(self.a))
        events = stream.collect(lambda e: e.type == self.pb.EVENT_TYPE_IOASID_FREED)
        self.assertTrue(events)
        self.assertEqual({e.tenant for e in events}, {"org/a"})

    def test_agent_explains_quota_of_its_tenants(self):
        answer = self.agent.GetQuota(tenant="org/a")
        self.assertEqual(answer.tenant, "org/a")
        self.assertTrue(self.agent.ExplainQuota(
            tenant="org/b", amounts=[{"resource": "ioasids", "amount": 1}]).fits)


class Observers(Case):
    def test_observer_of_a_subtree(self):
        seen = self.connect(policy.OBSERVER_ORG, "watch")
        self.alloc(self.connect(policy.C))
        self.alloc(self.a)
        self.assertEqual({t.path for t in seen.ListTenants().tenants},
                         {"org", "org/a", "org/b", "org/d"})
        self.assertEqual({x.lease.tenant for x in seen.ListObjects().leases}, {"org/a"})
        self.assertEqual({x.tenant for x in seen.ListLeases().leases}, {"org/a"})

    def test_observer_reads_everything_and_changes_nothing(self):
        watcher = self.connect(policy.OBSERVER, "watch")
        self.alloc(self.a, label="looked at")
        (lease,) = watcher.ListObjects().leases
        self.assertEqual([i.label for i in lease.ioasids], ["looked at"])
        self.assertEqual(lease.lease.uid, policy.A)
        self.refused("ROLE_FORBIDDEN", watcher.Revoke, lease_serial=lease.lease.serial)
        self.refused("ROLE_FORBIDDEN", watcher.SetLimits, tenant="org/a")
