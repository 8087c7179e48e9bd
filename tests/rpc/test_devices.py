# SPDX-License-Identifier: Apache-2.0
"""Devices: the inventory, claim and release, groups, host use, policy."""
from support import policy
from support.case import Case

POLICY = policy.default()
# org/d may have nothing but the devices of one vendor:device that exists nowhere.
POLICY["tenants"]["org/d"]["devices"] = [{"vendor_device": "dead:beef"}]


class Listing(Case):
    def test_inventory_has_what_the_suites_need(self):
        self.assertGreaterEqual(len(self.inventory.single), 3)
        # A mock device is a group of its own.
        if self.world.shim != "mock":
            self.assertGreaterEqual(len(self.inventory.groups), 1)
        if self.world.shim == "soft":
            self.assertGreaterEqual(len(self.inventory.iommus), 2)
            self.assertGreaterEqual(len(self.inventory.host), 1)

    def test_capabilities_come_only_if_asked_for(self):
        self.assertFalse(any(d.HasField("capabilities") for d in self.a.ListDevices().devices))
        for d in self.a.ListDevices(with_capabilities=True).devices:
            self.assertTrue(d.capabilities.formats, d.address)
            self.assertEqual(self.a.GetDevice(device=d.address).device, d)

    def test_capabilities_make_sense(self):
        for d in self.inventory.all.values():
            caps = d.capabilities
            self.assertRegex(d.address, r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
            self.assertRegex(d.vendor_device, r"^[0-9a-f]{4}:[0-9a-f]{4}$")
            self.assertRegex(d.class_code, r"^[0-9a-f]{6}$")
            for f in caps.formats:
                self.assertIn(f.input_bits, range(30, 65))
                self.assertIn(f.output_bits, range(36, 65))
                self.assertTrue(f.page_sizes & 1 << 12)
            for r in caps.reserved:
                self.assertLessEqual(r.start, r.last)
                self.assertTrue(r.use)
            # Mock devices have no interrupts.
            use = "msi" if self.world.shim != "mock" else "aperture"
            self.assertTrue(any(r.use == use for r in caps.reserved))
            self.assertGreaterEqual(caps.max_depth, 1)
            kinds = {k.kind: k for k in caps.kinds}
            self.assertTrue(kinds[self.pb.IOASID_KIND_KERNEL].supported)
            for k in caps.kinds:
                self.assertNotEqual(k.supported, bool(k.reason), k)

    def test_pages_of_a_listing_join_to_the_whole(self):
        whole = [d.address for d in self.a.ListDevices().devices]
        for size in (1, 2, len(whole) - 1, len(whole), len(whole) + 1):
            parts, token, pages = [], "", 0
            while pages == 0 or token:
                page = self.a.ListDevices(page_size=size, page_token=token)
                self.assertLessEqual(len(page.devices), size)
                parts += [d.address for d in page.devices]
                token, pages = page.next_page_token, pages + 1
                self.assertLessEqual(pages, len(whole) + 1)
            self.assertEqual(parts, whole)

    def test_bad_page_requests_are_refused(self):
        self.refused("INVALID_FIELD", self.a.ListDevices, page_size=1025, field="page_size")
        for token in ("x", "-1", "99999999999999999999999", "\u00e9", "a" * 1000):
            with self.subTest(token=token[:30]):
                self.refused("INVALID_FIELD", self.a.ListDevices, page_token=token,
                             field="page_token")

    def test_unknown_device_is_not_found(self):
        for name in ("0000:ff:1f.7", "nothing", "0000:FF:1f.7", "a" * 300):
            with self.subTest(name=name[:20]):
                self.refused("NOT_FOUND", self.a.GetDevice, device=name)
                self.refused("NOT_FOUND", self.a.ClaimDevice, devices=[name])
        self.refused("INVALID_FIELD", self.a.GetDevice, device="", field="device")

    def test_state_depends_on_who_looks(self):
        pb, address = self.pb, self.device(self.a)
        self.assertEqual(self.a.GetDevice(device=address).device.state, pb.DEVICE_STATE_CLAIMED)
        theirs = self.b.GetDevice(device=address).device
        self.assertEqual(theirs.state, pb.DEVICE_STATE_UNAVAILABLE)
        self.assertEqual((theirs.tenant, theirs.lease), ("", ""))
        seen = self.admin.GetDevice(device=address).device
        self.assertEqual((seen.state, seen.tenant), (pb.DEVICE_STATE_CLAIMED, "org/a"))
        self.a.ReleaseDevice(devices=[address])
        self.assertEqual(self.b.GetDevice(device=address).device.state, pb.DEVICE_STATE_FREE)

    def test_agent_of_the_subtree_sees_the_holder(self):
        address = self.device(self.a)
        agent = self.connect(policy.AGENT, "agents")
        self.assertEqual(agent.GetDevice(device=address, tenant="org/a").device.tenant, "org/a")

    def test_named_lease_is_shown_to_its_tenant(self):
        self.a.OpenLease(name="nic")
        address = self.device(self.a, lease="nic")
        self.assertEqual(self.a.GetDevice(device=address).device.lease, "nic")
        self.assertEqual(self.b.GetDevice(device=address).device.lease, "")
        self.a.CloseLease(lease="nic")

    def test_device_that_policy_forbids_is_refused_to_that_tenant(self):
        d = self.connect(policy.D)
        address = self.inventory.single[0].address
        self.refused("POLICY_FORBIDDEN", d.ClaimDevice, devices=[address], text="org/d")


class Claim(Case):
    def test_claim_and_release(self):
        address = self.inventory.single[0].address
        answer = self.a.ClaimDevice(devices=[address])
        self.assertEqual([d.address for d in answer.devices], [address])
        self.assertEqual(answer.devices[0].state, self.pb.DEVICE_STATE_CLAIMED)
        self.assertEqual(self.used("org/a", "devices"), 1)
        self.a.ReleaseDevice(devices=[address])
        self.assertEqual(self.used("org/a", "devices"), 0)

    def test_claimed_device_is_refused_to_others_and_twice(self):
        address = self.device(self.a)
        self.refused("DEVICE_IN_USE", self.b.ClaimDevice, devices=[address])
        self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=[address])
        self.a.OpenLease(name="second")
        self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=[address], lease="second")
        self.a.CloseLease(lease="second")

    def test_claim_of_several_is_all_or_nothing(self):
        one, two = (d.address for d in self.inventory.single[:2])
        self.b.ClaimDevice(devices=[two])
        self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=[one, two])
        self.assertEqual(self.a.GetDevice(device=one).device.state, self.pb.DEVICE_STATE_FREE)
        self.assertEqual(self.used("org/a", "devices"), 0)
        self.b.ReleaseDevice(devices=[two])
        self.a.ClaimDevice(devices=[one, two])
        self.assertEqual(self.used("org/a", "devices"), 2)

    def test_bad_lists_are_refused(self):
        one = self.inventory.single[0].address
        for devices, reason in (([], "INVALID_FIELD"), ([one, one], "INVALID_FIELD"),
                                ([one] * 65, "MALFORMED"), ([""], "INVALID_FIELD"),
                                ([one, ""], "INVALID_FIELD")):
            with self.subTest(n=len(devices)):
                refusal = self.refused(reason, self.a.ClaimDevice, devices=devices)
                self.assertTrue(refusal.fields[0][0].startswith("devices"), refusal.fields)
                self.refused(reason, self.a.ReleaseDevice, devices=devices)

    def test_release_of_what_is_not_claimed(self):
        one = self.inventory.single[0].address
        self.refused("NOT_CLAIMED", self.a.ReleaseDevice, devices=[one])
        self.b.ClaimDevice(devices=[one])
        self.refused("NOT_CLAIMED", self.a.ReleaseDevice, devices=[one])
        self.refused("NOT_FOUND", self.a.ReleaseDevice, devices=["0000:ff:1f.7"])
        self.assertEqual(self.used("org/b", "devices"), 1)

    def test_release_detaches_first(self):
        device = self.device(self.a)
        ioasid = self.alloc(self.a, [device])
        memory = self.memory(self.a)
        self.map(self.a, ioasid, self.entry(0x10010000, memory))
        self.a.Attach(device=device, ioasid=ioasid)
        self.a.ReleaseDevice(devices=[device])
        self.assertEqual(len(self.a.ListAttachments().attachments), 0)
        self.assertEqual(self.a.GetIoasid(ioasid=ioasid).ioasid.attachments, 0)
        self.refused_dma("NOT_CLAIMED", self.a, device)

    def test_host_device_is_refused(self):
        self.need_host()
        for device in self.inventory.host:
            self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=[device.address])
            self.assertEqual(self.a.GetDevice(device=device.address).device.state,
                             self.pb.DEVICE_STATE_HOST)

    def test_device_goes_with_its_connection(self):
        other = self.connect()
        address = self.device(other)
        other.close()
        self.world.wait_idle()
        self.assertEqual(self.a.GetDevice(device=address).device.state, self.pb.DEVICE_STATE_FREE)

    def test_many_clients_race_for_one_device(self):
        address = self.inventory.single[0].address
        clients = [self.connect(uid) for uid in (policy.A, policy.B, policy.C) for _ in range(4)]
        actors = {c.actor for c in clients}
        for actor in actors:
            actor.post("burst", [c.prepared("ClaimDevice", {"devices": [address]})
                                 for c in clients if c.actor is actor], 20)
        outcomes = [o for actor in actors for o in actor.collect()]
        codes = sorted(o[0] for o in outcomes)
        self.assertEqual(codes, ["FAILED_PRECONDITION"] * 11 + ["OK"])


class Groups(Case):
    def setUp(self):
        super().setUp()
        self.need_groups()
        self.members = sorted(d.address for d in self.inventory.groups[0])

    def test_members_know_each_other(self):
        for address in self.members:
            device = self.a.GetDevice(device=address).device
            self.assertEqual(sorted(device.group_members),
                             [m for m in self.members if m != address])
            self.assertEqual(device.hidden_members, 0)

    def test_incomplete_group_is_refused_and_names_the_companions(self):
        for address in self.members:
            refusal = self.refused("GROUP_INCOMPLETE", self.a.ClaimDevice, devices=[address])
            subjects = {s for _, s, _ in refusal.preconditions}
            self.assertEqual(subjects, set(self.members) - {address})
        self.assertEqual(self.used("org/a", "devices"), 0)

    def test_whole_group_is_claimed_at_once(self):
        self.a.ClaimDevice(devices=self.members)
        self.assertEqual(self.used("org/a", "devices"), len(self.members))
        self.a.ReleaseDevice(devices=self.members)

    def test_group_belongs_to_one_lease(self):
        self.a.ClaimDevice(devices=self.members)
        for address in self.members:
            self.refused("DEVICE_IN_USE", self.b.ClaimDevice, devices=[address])

    def test_released_member_is_given_to_no_other_lease(self):
        self.a.ClaimDevice(devices=self.members)
        self.a.ReleaseDevice(devices=self.members[:1])
        refusal = self.b.attempt("ClaimDevice", devices=self.members[:1])
        self.assertIn(getattr(refusal, "reason", "granted"), ("GROUP_INCOMPLETE", "DEVICE_IN_USE"))
        if self.world.shim != "soft":
            # A real group is given back as a whole: the rest has to go first.
            self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=self.members[:1],
                         text="group")
            self.assertEqual(self.used("org/a", "devices"), len(self.members))
            self.a.ReleaseDevice(devices=self.members[1:])
            self.assertEqual(self.world.wait_free(), [])
            self.b.ClaimDevice(devices=self.members)
            return
        # With what the lease already holds the group is complete.
        self.a.ClaimDevice(devices=self.members[:1])


class HiddenCompanion(Case):
    """A tenant whose policy hides a companion learns only that one is missing."""

    def test_companion_that_policy_hides_is_not_named(self):
        self.need_groups()
        members = sorted(d.address for d in self.inventory.groups[0])
        changed = policy.default()
        changed["tenants"]["org/d"]["devices"] = [{"address": members[0]}]
        self.world.server.write_policy(changed)
        self.addCleanup(self._restore)
        self.admin.ReloadPolicy()
        d = self.connect(policy.D)
        refusal = self.refused("GROUP_INCOMPLETE", d.ClaimDevice, devices=members[:1])
        for hidden in members[1:]:
            self.assertNotIn(hidden, refusal.text())
            self.assertNotIn(hidden.encode(), refusal.raw)
        device = d.GetDevice(device=members[0]).device
        self.assertEqual(list(device.group_members), [])
        self.assertEqual(device.hidden_members, len(members) - 1)

    def _restore(self):
        self.world.server.write_policy(POLICY)
        self.admin.ReloadPolicy()
