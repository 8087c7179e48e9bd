# SPDX-License-Identifier: Apache-2.0
"""Idempotency keys: the same request again gets the first one's answer."""
from support import policy
from support.case import PAGE, Case

POLICY = policy.default()


class Keys(Case):
    def twice(self, method, **fields):
        """The second answer is the first one's, byte for byte."""
        first = getattr(self.a, method)(**fields)
        second = getattr(self.a, method)(**fields)
        self.assertEqual(first, second)
        return first

    def test_every_mutating_method_answers_the_same(self):
        a = self.a
        device, pair = self.inventory.single[0].address, self.inventory.single[1].address
        self.twice("ClaimDevice", devices=[device], key="claim")
        ticket = self.given(a, a.actor.memfd(size=4 * PAGE))
        memory = self.twice("RegisterMemory", ticket=ticket, read=True, write=True, key="reg")
        ioasid = self.twice("Alloc", kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                            key="alloc").ioasid
        self.assertEqual(self.used("org/a", "ioasids", "devices", "kept_fds"), [1, 1, 1])
        entry = self.entry(None, memory.memory, 4)
        (iova,) = self.twice("Map", ioasid=ioasid, entries=[entry], key="map").iovas
        self.assertEqual(len(self.mappings(a, ioasid)), 1)
        self.twice("Attach", device=device, ioasid=ioasid, key="attach")
        other = self.alloc(a, [device])
        self.twice("Replace", device=device, ioasid=other, key="replace")
        self.twice("Replace", device=device, ioasid=ioasid, key="replace back")
        # The first replace again: its answer, not its effect.
        a.Replace(device=device, ioasid=other, key="replace")
        self.assertEqual(a.ListAttachments().attachments[0].ioasid, ioasid)
        self.twice("Detach", device=device, key="detach")
        self.assertEqual(self.twice("Unmap", ioasid=ioasid, key="unmap", ranges=[
            {"iova": iova, "length": 4 * PAGE}]).mappings, 1)
        self.twice("Free", ioasid=ioasid, key="free")
        self.twice("UnregisterMemory", memory=memory.memory, key="unreg")
        self.twice("ReleaseDevice", devices=[device], key="release")
        a.ClaimDevice(devices=[pair], key="claim 2")
        self.assertEqual(self.used("org/a", "ioasids", "devices", "kept_fds"), [1, 1, 0])

    def test_named_lease_methods(self):
        secret = self.twice("OpenLease", name="vm", linger_seconds=5, key="open").secret
        self.assertEqual(len(secret), 32)
        self.a.CloseLease(lease="vm", key="close")

    def test_another_ticket_is_no_other_argument(self):
        fd = self.a.actor.memfd(size=4 * PAGE)
        first = self.a.RegisterMemory(ticket=self.given(self.a, fd), read=True, key="t")
        again = self.a.RegisterMemory(ticket=self.given(self.a, fd), read=True, key="t")
        self.assertEqual(again.memory, first.memory)
        self.assertEqual(self.used("org/a", "registered_bytes"), 4 * PAGE)
        self.refused("KEY_REUSED", self.a.RegisterMemory, ticket=self.given(self.a, fd),
                     read=True, write=True, key="t")

    def test_giving_back_at_the_limit(self):
        """A key costs memory; a tenant that has none left can still give back, with keys."""
        ids = [self.alloc(self.a, key="a%d" % i) for i in range(8)]
        own = self.usage("org/a")["broker_bytes"].used
        self.limited("org/a", broker_bytes=own)
        for i in ids[:4]:
            self.a.Free(ioasid=i, key="f%d" % i)
        # Older keys made way for these: the last is remembered.
        self.a.Free(ioasid=ids[3], key="f%d" % ids[3])
        self.limited("org/a", broker_bytes=0)
        for i in ids[4:]:
            self.a.Free(ioasid=i, key="f%d" % i)
        self.assertEqual(self.used("org/a", "ioasids"), 0)

    def test_other_arguments_are_refused(self):
        self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k", label="one")
        self.refused("KEY_REUSED", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, key="k",
                     label="two")
        self.assertEqual(self.used("org/a", "ioasids"), 1)

    def test_other_method_is_refused(self):
        ioasid = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k").ioasid
        self.refused("KEY_REUSED", self.a.Free, ioasid=ioasid, key="k")
        self.a.Free(ioasid=ioasid, key="k2")

    def test_keys_belong_to_a_lease(self):
        first = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k")
        self.a.OpenLease(name="vm")
        self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k", lease="vm", label="other")
        self.connect().Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k", label="third")
        self.b.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k", label="fourth")
        self.assertEqual(self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k"), first)
        self.a.CloseLease(lease="vm")

    def test_refused_request_is_not_remembered(self):
        self.limited("org/a", ioasids=0)
        call = dict(kind=self.pb.IOASID_KIND_KERNEL, key="k")
        self.refused("QUOTA", self.a.Alloc, **call)
        self._set_limits("org/a", {"ioasids": 5})
        self.a.Alloc(**call)
        self.refused("NOT_FOUND", self.a.Free, ioasid=123456, key="f")
        self.refused("NOT_FOUND", self.a.Free, ioasid=654321, key="f")

    def test_length_of_a_key(self):
        self.alloc(self.a, key="x" * 64)
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     key="x" * 65, field="scope.key")

    def test_the_last_1024_keys_are_remembered(self):
        self.limited("org/a", ioasids=2)
        ioasid = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="oldest").ioasid
        memory = self.memory(self.a, pages=1)
        for n in range(0, 1023, 93):
            self.assertNotIn(False, [hasattr(r, "iovas") for r in self.a.many(
                [("Map", dict(ioasid=ioasid, key="m%d" % i,
                              entries=[self.entry(0x10000000 + i * PAGE * 16, memory)]))
                 for i in range(n, min(n + 93, 1023))])])
        self.assertEqual(self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="oldest").ioasid,
                         ioasid)
        self.a.Map(ioasid=ioasid, key="one more", entries=[self.entry(0x20000000, memory)])
        self.assertNotEqual(
            self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="oldest").ioasid, ioasid)

    def test_the_same_key_at_the_same_time_acts_once(self):
        results = self.a.many([("Alloc", dict(kind=self.pb.IOASID_KIND_KERNEL, key="k"))] * 20)
        ids = {r.ioasid for r in results if hasattr(r, "ioasid")}
        self.assertEqual(len(ids), 1)
        for r in results:
            if not hasattr(r, "ioasid"):
                self.check_refusal(r, "BUSY")
        self.assertEqual(self.used("org/a", "ioasids"), 1)

    def test_slow_request_with_the_same_key_is_busy_or_the_same(self):
        ioasid = self.alloc(self.a)
        memory = self.memory(self.a, pages=256)
        call = ("Map", dict(ioasid=ioasid, key="k", entries=[
            self.entry(0x10100000 + i * 0x101000, memory, 256) for i in range(1024)]))
        results = self.a.many([call] * 4)
        good = [r for r in results if hasattr(r, "iovas")]
        self.assertTrue(good)
        for r in results:
            if r not in good:
                self.check_refusal(r, "BUSY")
        self.assertEqual(self.used("org/a", "map_entries"), 1024)

    def test_admin_methods_have_keys(self):
        self.limited("org/a", vms=7)
        call = dict(tenant="org/a", limits=[{"resource": "vms", "amount": 3}], key="limit")
        first = self.admin.SetLimits(**call)
        self._set_limits("org/a", {"vms": 9})
        self.assertEqual(self.admin.SetLimits(**call), first)
        self.assertEqual(self.usage("org/a")["vms"].limit, 9)
        self.refused("KEY_REUSED", self.admin.SetLimits, tenant="org/a", key="limit",
                     limits=[{"resource": "vms", "amount": 4}])
