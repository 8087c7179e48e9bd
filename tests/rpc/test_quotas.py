# SPDX-License-Identifier: Apache-2.0
"""
Every quota that has an object: n fit and n + 1 do not, whoever's limit it is; what a refusal
tells to whom; races for the last unit; what is left when all is freed.
"""
import re
import time

from support import fdpass, policy
from support.case import PAGE, Case
from support.client import Refused

POLICY = policy.default()
TOP = 2 ** 64 - 1


class Unit:
    """How to use one unit of a resource: setup() for a connection, then call(i)."""

    def __init__(self, case, conn, **scope):
        self.case, self.conn, self.scope = case, conn, scope
        self.setup()

    def setup(self):
        pass

    def space(self):
        return self.conn.Alloc(kind=self.case.pb.IOASID_KIND_KERNEL, **self.scope).ioasid


class Ioasids(Unit):
    names, size, n = ("ioasids", "ioasids_kernel"), 1, 3

    def call(self, i):
        return "Alloc", dict(kind=self.case.pb.IOASID_KIND_KERNEL, **self.scope)

    def undo(self, answer):
        self.conn.Free(ioasid=answer.ioasid, **self.scope)


class Devices(Unit):
    names, size, n = ("devices",), 1, 2

    def call(self, i):
        return "ClaimDevice", dict(devices=[self.case.inventory.single[i].address], **self.scope)

    def undo(self, answer):
        self.conn.ReleaseDevice(devices=[answer.devices[0].address], **self.scope)


class Maps(Unit):
    names, size, n = ("map_entries",), 1, 3

    def setup(self):
        self.ioasid = self.space()
        self.memory = self.case.memory(self.conn, pages=32, scope=self.scope)

    def call(self, i):
        return "Map", dict(ioasid=self.ioasid, **self.scope,
                           entries=[self.case.entry(0x10100000 + i * PAGE, self.memory, 1,
                                                    i * PAGE)])

    def undo(self, answer):
        self.conn.Unmap(ioasid=self.ioasid, ranges=[{"iova": answer.iovas[0], "length": PAGE}],
                        **self.scope)


class MappedBytes(Maps):
    names, size, n = ("mapped_bytes", "pinned_bytes"), PAGE, 3


class RegisteredBytes(Unit):
    names, size, n = ("registered_bytes",), PAGE, 3

    def setup(self):
        self.tickets = [self.case.given(self.conn, self.conn.actor.memfd(size=PAGE), **self.scope)
                        for _ in range(8)]

    def call(self, i):
        return "RegisterMemory", dict(ticket=self.tickets[i % 8], read=True, **self.scope)

    def undo(self, answer):
        self.conn.UnregisterMemory(memory=answer.memory, **self.scope)
        self.tickets = [self.case.given(self.conn, self.conn.actor.memfd(size=PAGE), **self.scope)
                        for _ in range(8)]


class Leases(Unit):
    names, size, n = ("leases",), 1, 3

    def call(self, i):
        return "OpenLease", dict(name="lease-%d-%d" % (id(self), i), **self.scope)

    def undo(self, answer):
        self.conn.CloseLease(lease="lease-%d-0" % id(self), **self.scope)


class Pasids(Unit):
    names, size, n = ("pasids",), 1, 3

    def setup(self):
        self.device = self.case.inventory.having(lambda c: c.pasid_bits > 0)[0]
        self.conn.ClaimDevice(devices=[self.device], **self.scope)
        self.ioasid = self.conn.Alloc(kind=self.case.pb.IOASID_KIND_KERNEL, pasid=True,
                                      devices=[self.device], **self.scope).ioasid

    def call(self, i):
        return "Attach", dict(device=self.device, ioasid=self.ioasid, pasid={"value": i + 1},
                              **self.scope)

    def undo(self, answer):
        self.conn.Detach(device=self.device, pasid={"value": 1}, **self.scope)


class Vms(Unit):
    names, size, n = ("vms",), 1, 3

    def call(self, i):
        return "CreateVm", self.scope

    def undo(self, answer):
        self.conn.DestroyVm(vm=answer.vm, **self.scope)


class KvmSpaces(Unit):
    names, size, n = ("ioasids_kvm",), 1, 3

    def setup(self):
        self.vm = self.conn.CreateVm(**self.scope).vm

    def call(self, i):
        return "Alloc", dict(kind=self.case.pb.IOASID_KIND_KVM, vm=self.vm, **self.scope)

    def undo(self, answer):
        self.conn.Free(ioasid=answer.ioasid, **self.scope)


UNITS = (Ioasids, Devices, Maps, MappedBytes, RegisteredBytes, Leases, Pasids, Vms, KvmSpaces)


class Counted(Case):
    def each(self):
        for unit in UNITS:
            if unit is Pasids and self.world.shim != "soft" and \
                    not self.inventory.having(lambda c: c.pasid_bits > 0):
                continue  # counted as skipped by the next test
            if unit in (Vms, KvmSpaces) and not self.has_kind(self.pb.IOASID_KIND_KVM):
                continue  # no kernel offers it: test_vm.py says so
            for name in unit.names:
                yield unit, name

    def test_pasids_are_among_the_units(self):
        if self.world.shim != "soft":
            self.need_pasids()
        self.assertIn((Pasids, "pasids"), list(self.each()))

    def fill(self, unit, name, path, conn, **scope):
        """n units fit below a limit of path; the refusal of one more."""
        user = unit(self, conn, **scope)
        base = self.usage(path)[name].used
        limit = base + unit.n * unit.size
        before = {p: self.usage(p)[name] for p in {path, "org/a"}}
        self.limited(path, **{name: limit})
        answers = [conn.send(*user.call(i)) for i in range(unit.n)]
        for answer in answers:
            if isinstance(answer, Refused):
                raise answer
        self.assertEqual(self.used(path, name), limit)
        refusal = self.check_refusal(conn.send(*user.call(unit.n)), "QUOTA")
        self.assertEqual(self.used(path, name), limit)
        # It is counted where the limit is and for whom it was.
        self.assertEqual(self.usage(path)[name].refused_local, before[path].refused_local + 1)
        self.assertEqual(self.usage("org/a")[name].refused, before["org/a"].refused + 1)
        # With one given back one fits again.
        user.undo(answers[0])
        again = conn.send(*user.call(unit.n))
        self.assertNotIsInstance(again, Refused, again)
        self.assertEqual(self.used(path, name), limit)
        self.assertGreaterEqual(self.usage(path)[name].peak, limit)
        return refusal, limit, unit.size

    def test_own_limit(self):
        for unit, name in self.each():
            with self.subTest(name):
                conn = self.connect()
                refusal, limit, size = self.fill(unit, name, "org/a", conn)
                ((subject, text),) = refusal.quota
                self.assertEqual(subject, "org/a")
                self.assertIn(name, text)
                numbers = [int(x) for x in re.findall(r"\d+", text)]
                # Its own limit, use and request.
                self.assertEqual(sorted(numbers), sorted([limit, limit, size]), text)
                conn.close()
                self.assertEqual(self.world.wait_idle(), [])
                self.doCleanups()

    def test_limit_of_an_ancestor(self):
        for unit, name in self.each():
            with self.subTest(name):
                conn = self.connect()
                refusal, _, _ = self.fill(unit, name, "org", conn)
                ((subject, text),) = refusal.quota
                self.assertEqual(subject, "org")
                self.assertIn(name, text)
                # Only name and resource: not a number anywhere.
                self.assertIsNone(re.search(r"\d", refusal.text()), refusal.text())
                conn.close()
                self.assertEqual(self.world.wait_idle(), [])
                self.doCleanups()

    def test_limit_of_the_host(self):
        for unit, name in ((Ioasids, "ioasids"), (Maps, "map_entries")):
            with self.subTest(name):
                conn = self.connect()
                refusal, _, _ = self.fill(unit, name, "", conn)
                self.assertIsNone(re.search(r"\d", refusal.text()), refusal.text())
                conn.close()
                self.doCleanups()

    def test_agent_of_the_ancestor_sees_the_numbers(self):
        agent = self.connect(policy.AGENT, "agents")
        refusal, limit, size = self.fill(Ioasids, "ioasids", "org", agent, tenant="org/a")
        ((subject, text),) = refusal.quota
        self.assertEqual(subject, "org")
        self.assertEqual(sorted(int(x) for x in re.findall(r"\d+", text)),
                         sorted([limit, limit, size]), text)

    def test_a_limit_of_zero(self):
        for unit, name in self.each():
            with self.subTest(name):
                conn = self.connect()
                user = unit(self, conn)
                self.limited("org/a", **{name: 0})
                self.check_refusal(conn.send(*user.call(0)), "QUOTA")
                conn.close()
                self.doCleanups()

    def test_several_units_in_one_request_are_all_or_nothing(self):
        user = Maps(self, self.a)
        self.limited("org/a", map_entries=5)
        entries = [user.call(i)[1]["entries"][0] for i in range(6)]
        refusal = self.refused("QUOTA", self.a.Map, ioasid=user.ioasid, entries=entries)
        self.assertEqual(sorted(int(x) for x in re.findall(r"\d+", refusal.quota[0][1])),
                         [0, 5, 6])
        self.assertEqual(self.used("org/a", "map_entries", "mapped_bytes"), [0, 0])
        self.a.Map(ioasid=user.ioasid, entries=entries[:5])
        self.refused("QUOTA", self.a.Map, ioasid=user.ioasid, entries=entries[5:])

    def test_refusal_by_one_resource_charges_no_other(self):
        user = Maps(self, self.a)
        before = {n: u.used for n, u in self.usage("org/a").items()}
        self.limited("org/a", pinned_bytes=0)
        self.check_refusal(self.a.send(*user.call(0)), "QUOTA", text="pinned_bytes")
        after = {n: u.used for n, u in self.usage("org/a").items()}
        self.assertEqual(before, after)

    def test_limit_below_use_blocks_growth_and_takes_nothing(self):
        ids = [self.alloc(self.a) for _ in range(4)]
        self.limited("org/a", ioasids=2)
        self.assertEqual(len(self.a.ListIoasids().ioasids), 4)
        call = dict(kind=self.pb.IOASID_KIND_KERNEL)
        for n in range(2):
            self.refused("QUOTA", self.a.Alloc, **call)
            self.a.Free(ioasid=ids.pop())
        self.refused("QUOTA", self.a.Alloc, **call)
        self.a.Free(ioasid=ids.pop())
        self.a.Alloc(**call)
        self.refused("QUOTA", self.a.Alloc, **call)

    def test_release_is_never_refused(self):
        user = Maps(self, self.a)
        device = self.device(self.a)
        iova = self.a.send(*user.call(0)).iovas[0]
        ioasid = self.alloc(self.a, [device])
        self.a.Attach(device=device, ioasid=ioasid)
        self.limited("org/a", **{r: 0 for r in self.usage("org/a") if r not in (
            "connections", "requests_in_flight")})
        time.sleep(0.1)
        self.a.Unmap(ioasid=user.ioasid, ranges=[{"iova": iova, "length": PAGE}])
        self.a.Detach(device=device)
        self.a.ReleaseDevice(devices=[device])
        self.a.UnregisterMemory(memory=user.memory.id)
        self.a.Free(ioasid=user.ioasid)
        self.a.CloseLease()
        self.assertEqual(self.used("org/a", "ioasids", "leases", "kept_fds"), [0, 0, 0])


class Races(Case):
    def race(self, unit, name, path, actors, tries):
        """Every actor tries at once, so often; exactly as many win as fit."""
        conns = [self.connect(actor.uid, actor=actor) for actor in actors]
        users = [unit(self, conn) for conn in conns]
        base = self.usage(path)[name].used
        self.limited(path, **{name: base + unit.n * unit.size})
        for conn, user in zip(conns, users):
            conn.actor.post("burst", [conn.prepared(*user.call(i)) for i in range(tries)],
                            30 * self.slow)
        won = 0
        for conn in conns:
            for outcome in conn.actor.collect():
                if outcome[0] == "OK":
                    won += 1
                else:
                    self.assertEqual(outcome[0], "RESOURCE_EXHAUSTED", outcome[1])
        self.assertEqual(won, unit.n)
        self.assertEqual(self.used(path, name), base + unit.n * unit.size)

    def test_many_clients_race_for_the_last_units(self):
        of_a, of_b = ([self.fresh_actor(uid) for _ in range(4)] for uid in (policy.A, policy.B))
        for unit, name in ((Ioasids, "ioasids"), (Maps, "map_entries"),
                           (MappedBytes, "pinned_bytes"),
                           (RegisteredBytes, "registered_bytes"), (Leases, "leases")):
            for path, actors in (("org/a", of_a), ("org", of_a[:2] + of_b)):
                with self.subTest(name=name, path=path):
                    self.race(unit, name, path, actors, 4)
                for conn in self._connections:
                    conn.close()
                self.assertEqual(self.world.wait_idle(), [])
                self.doCleanups()

    def test_churn_at_the_limit_loses_nothing(self):
        """Alloc and Free by many at once, with kills in between."""
        self.limited("org", ioasids=6)
        for _ in range(3):
            actors = [self.fresh_actor(uid) for uid in (policy.A, policy.B) for _ in range(3)]
            for actor in actors:
                conn = self.connect(actor.uid, actor=actor)
                actor.post("burst", [conn.prepared(
                    "Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL)) for _ in range(6)], 30)
            for actor in actors[::2]:
                actor.kill()
            for actor in actors[1::2]:
                actor.collect()
                actor.kill()
            self.assertEqual(self.world.wait_idle(), [])


class Structure(Case):
    def test_nesting_depth(self):
        self.need_software_nesting(3)
        device = self.device(self.a)
        self.limited("org/a", nesting_depth=2)
        gpa = self.alloc(self.a, [device])
        child = self.alloc(self.a, [device], parent=gpa)
        refusal = self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                               devices=[device], parent=child)
        self.assertEqual(refusal.quota[0][0], "org/a")
        self.assertIn("nesting_depth", refusal.quota[0][1])
        self.limited("org", nesting_depth=1)
        refusal = self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                               devices=[device], parent=gpa)
        self.assertEqual(refusal.quota[0][0], "org")
        self.assertIsNone(re.search(r"\d", refusal.text()), refusal.text())

    def test_children_per_parent(self):
        self.need_software_nesting()
        device = self.device(self.a)
        self.limited("org/a", children_per_parent=2)
        gpa, other = (self.alloc(self.a, [device]) for _ in range(2))
        children = [self.alloc(self.a, [device], parent=gpa) for _ in range(2)]
        refusal = self.refused("QUOTA", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                               devices=[device], parent=gpa)
        self.assertIn("children_per_parent", refusal.quota[0][1])
        self.alloc(self.a, [device], parent=other)
        self.a.Free(ioasid=children[0])
        self.alloc(self.a, [device], parent=gpa)

    def test_broker_bytes(self):
        ioasid, memory = self.alloc(self.a), self.memory(self.a, pages=1)
        before = self.used("org/a", "broker_bytes")
        self.limited("org/a", broker_bytes=before + 64 * 1024)
        refusal = None
        for i in range(4096):
            # Each in a table of its own.
            answer = self.a.attempt("Map", ioasid=ioasid, entries=[
                self.entry(0x10000000 + (i << 21), memory)])
            if isinstance(answer, Refused):
                refusal = self.check_refusal(answer, "QUOTA")
                break
        self.assertIsNotNone(refusal, "64 KiB of broker memory held 4096 page tables")
        self.assertIn("broker_bytes", refusal.quota[0][1])
        self.assertLessEqual(self.used("org/a", "broker_bytes"), before + 64 * 1024)
        self.a.Unmap(ioasid=ioasid, all=True)
        self.a.Free(ioasid=ioasid)
        self.assertLess(self.used("org/a", "broker_bytes"), before)

    def test_connections(self):
        self.limited("org/a", connections=3)
        actor = self.fresh_actor(policy.A)
        held = [self.connect(actor=actor) for _ in range(3)]
        for conn in held:
            conn.GetStatus()
        self.assertEqual(self.used("org/a", "connections"), 3)
        fourth = self.connect(actor=actor)
        refusal = self.refused("QUOTA", fourth.GetStatus)
        self.assertIn("connections", refusal.quota[0][1])
        self.refused("QUOTA", fourth.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        held[0].Alloc(kind=self.pb.IOASID_KIND_KERNEL)
        # Another tenant does not feel it.
        self.b.GetStatus()
        fourth.close()
        held[0].close()
        self.wait_used("org/a", "connections", 2)
        self.connect(actor=actor).GetStatus()

    def test_watch_streams(self):
        self.limited("org/a", watch_streams=2)
        streams = [self.a.watch("WatchEvents") for _ in range(2)]
        for stream in streams:
            self.assertIsNone(stream.next(0.1))
        self.assertEqual(self.used("org/a", "watch_streams"), 2)
        third = self.a.watch("WatchEvents").next()
        self.assertIn("watch_streams", self.check_refusal(third, "QUOTA").quota[0][1])
        streams[0].cancel()
        self.wait_used("org/a", "watch_streams", 1)
        self.assertIsNone(self.a.watch("WatchEvents").next(0.1))

    def test_requests_in_flight(self):
        self.limited("org/a", requests_in_flight=0)
        self.assertIn("requests_in_flight",
                      self.refused("QUOTA", self.a.GetStatus).quota[0][1])
        self._set_limits("org/a", {"requests_in_flight": 1})
        self.a.GetStatus()
        # A stream is a request in flight for as long as it lasts.
        stream = self.a.watch("WatchEvents")
        self.assertIsNone(stream.next(0.2))
        self.refused("QUOTA", self.a.GetStatus, text="requests_in_flight")
        self.refused("QUOTA", self.connect().Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.b.GetStatus()
        stream.cancel()
        self.wait_used("org/a", "requests_in_flight", 0)
        self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL)

    def test_kept_fds_of_an_ancestor(self):
        self.limited("org", kept_fds=1)
        ticket = self.given(self.a, self.a.actor.memfd(size=PAGE))
        other = self.ticket(self.b)
        self.assertEqual(self.give(self.b, other, self.b.actor.memfd(size=PAGE)), fdpass.BUSY)
        self.a.UnregisterMemory(memory=self.a.RegisterMemory(ticket=ticket, read=True).memory)
        self.assertEqual(self.give(self.b, other, self.b.actor.memfd(size=PAGE)), fdpass.OK)


class Rates(Case):
    def test_calls_per_second(self):
        self.limited("org/a", calls_per_second=10)
        time.sleep(1.1)
        results = self.a.many([("GetStatus", {})] * 60)
        refused = [r for r in results if isinstance(r, Refused)]
        self.assertGreaterEqual(60 - len(refused), 10)
        self.assertLessEqual(60 - len(refused), 25)
        for refusal in refused:
            self.check_refusal(refusal, "RATE")
            self.assertTrue(0 < refusal.retry_s <= 1.1, refusal.retry_s)
        # The other tenant does not wait.
        self.assertFalse([r for r in self.b.many([("GetStatus", {})] * 60)
                          if isinstance(r, Refused)])
        time.sleep(refused[-1].retry_s + 0.05)
        self.a.GetStatus()

    def test_release_is_not_refused_by_the_rate(self):
        ids = [self.alloc(self.a) for _ in range(20)]
        self.limited("org/a", calls_per_second=1)
        results = self.a.many([("Free", dict(ioasid=i)) for i in ids])
        self.assertFalse([str(r) for r in results if isinstance(r, Refused)])


class Explain(Case):
    def explain(self, *amounts, conn=None):
        return (conn or self.a).ExplainQuota(amounts=[{"resource": r, "amount": n}
                                                      for r, n in amounts])

    def test_explain_agrees_with_what_would_happen(self):
        self.limited("org/a", ioasids=5)
        self.alloc(self.a)
        for n, fits in ((0, True), (4, True), (5, False), (TOP, False)):
            with self.subTest(n=n):
                answer = self.explain(("ioasids", n))
                self.assertEqual(answer.fits, fits)
                if not fits:
                    self.assertEqual((answer.refusing_tenant, answer.resource),
                                     ("org/a", "ioasids"))
                    self.assertIn("5", answer.explanation)
        self.assertTrue(self.explain(("ioasids", 2), ("ioasids", 2)).fits)
        self.assertFalse(self.explain(("ioasids", 2), ("ioasids", 3)).fits)
        self.assertFalse(self.explain(("devices", 1), ("ioasids", 5)).fits)
        self.assertEqual(self.used("org/a", "ioasids"), 1)

    def test_of_an_ancestor_only_name_and_resource(self):
        self.limited("org", ioasids=5)
        answer = self.explain(("ioasids", 6))
        self.assertEqual((answer.fits, answer.refusing_tenant, answer.resource),
                         (False, "org", "ioasids"))
        self.assertIsNone(re.search(r"\d", answer.explanation))

    def test_overflowing_amounts_are_refused(self):
        self.alloc(self.a)
        # The host does not limit ioasids_kernel.
        self.limited("org/a", ioasids_kernel=TOP - 1, mapped_bytes=TOP - 1)
        kernel = "ioasids_kernel"
        for amounts in ([(kernel, TOP)], [(kernel, TOP), (kernel, 1)],
                        [(kernel, 2 ** 63), (kernel, 2 ** 63)], [(kernel, TOP - 1)],
                        [("mapped_bytes", TOP), ("mapped_bytes", TOP)]):
            with self.subTest(amounts=amounts):
                self.assertFalse(self.explain(*amounts).fits)
        self.assertTrue(self.explain((kernel, TOP - 2)).fits)

    def test_overflow_where_nothing_is_limited(self):
        self.alloc(self.a)
        self.assertFalse(self.explain(("ioasids_kernel", TOP)).fits)

    def test_unknown_resource(self):
        for name in ("nothing", "", "Ioasids", "ioasids "):
            refusal = self.refused("INVALID_FIELD", self.a.ExplainQuota,
                                   amounts=[{"resource": name, "amount": 1}])
            self.assertEqual(refusal.fields[0][0], "amounts[0].resource")

    def test_get_quota_lists_every_resource(self):
        names = {r.resource for r in self.a.GetQuota().resources}
        self.assertEqual(names, set(
            "ioasids ioasids_kernel ioasids_user ioasids_process ioasids_kvm nesting_depth"
            " children_per_parent pasids devices map_entries registered_bytes mapped_bytes"
            " pinned_bytes vms leases connections watch_streams fault_slots requests_in_flight"
            " calls_per_second invalidations_per_second kept_fds broker_bytes".split()))

    def test_tenant_does_not_see_limits_of_ancestors(self):
        self.limited("org", ioasids=77)
        usage = {r.resource: r for r in self.a.GetQuota().resources}
        self.assertEqual(usage["ioasids"].limit, TOP)
