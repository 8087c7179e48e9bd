# SPDX-License-Identifier: Apache-2.0
"""What a policy allows, seen from the outside: devices, formats, host devices."""
from support import policy
from support.case import Case

POLICY = policy.default()


class Policy(Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.reload, POLICY)

    def reload(self, content):
        self.world.server.write_policy(content)
        self.admin.ReloadPolicy()

    def with_rules(self, path, **rules):
        changed = policy.default()
        changed["tenants"][path].update(rules)
        self.reload(changed)

    def test_rules_for_devices(self):
        """Each kind of rule lets exactly the devices in that it names."""
        first = self.inventory.single[0]
        every = [d for d in self.inventory.all.values() if d not in self.inventory.host]
        for rule, fits in (
                (dict(address=first.address), lambda d: d.address == first.address),
                (dict(group=first.group), lambda d: d.group == first.group),
                (dict(vendor_device=first.vendor_device),
                 lambda d: d.vendor_device == first.vendor_device),
                (dict(vendor_device=first.vendor_device[:4] + ":*"),
                 lambda d: d.vendor_device[:4] == first.vendor_device[:4]),
                ({"class": first.class_code[:2]},
                 lambda d: d.class_code[:2] == first.class_code[:2]),
                ({"class": first.class_code}, lambda d: d.class_code == first.class_code)):
            with self.subTest(rule=rule):
                self.with_rules("org/a", devices=[rule])
                listed = {d.address for d in self.a.ListDevices().devices}
                allowed = {d.address for d in every if fits(d)}
                self.assertEqual(listed & {d.address for d in every}, allowed)
                for device in every:
                    if device.address not in allowed:
                        self.refused("POLICY_FORBIDDEN", self.a.ClaimDevice,
                                     devices=[device.address], text="org/a")
                # The other tenant is not concerned.
                self.assertEqual(len(self.b.ListDevices().devices), len(self.inventory.all))

    def test_a_tenant_has_no_more_than_its_parent(self):
        first, second = (d.address for d in self.inventory.single[:2])
        self.with_rules("org", devices=[{"address": first}])
        refusal = self.refused("POLICY_FORBIDDEN", self.a.ClaimDevice, devices=[second])
        self.assertIn("org", refusal.text())
        self.a.ClaimDevice(devices=[first])
        self.connect(policy.C).ClaimDevice(devices=[second])

    def test_formats(self):
        pb = self.pb
        hidden, shown, word = (pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_VTDSS_4L,
                               "vtdss-4l")
        if self.world.shim != "soft":
            self.need_formats()
            hidden, shown, word = (pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN,
                                   pb.PAGE_TABLE_FORMAT_VTDSS_3L, "vtdss-3l")
        self.with_rules("org/a", formats=[word])
        device = self.device(self.a)
        both = [{"format": hidden}, {"format": shown}]
        choice = self.a.Alloc(kind=pb.IOASID_KIND_KERNEL, devices=[device],
                              candidates=both).choice
        self.assertEqual(choice.format, shown)
        (passed,) = choice.passed_over
        self.assertEqual((passed.format, passed.by, passed.who),
                         (hidden, pb.REFUSED_BY_POLICY, "org/a"))
        self.assertTrue(passed.reason)
        refusal = self.a.attempt("Alloc", kind=pb.IOASID_KIND_KERNEL, devices=[device],
                                 candidates=both[:1])
        self.assertIn(refusal.reason, ("POLICY_FORBIDDEN", "FORMAT_UNSUPPORTED"))
        self.check_refusal(refusal, refusal.reason, text="org/a")

    def test_kinds(self):
        self.with_rules("org/a", kinds=["user"])
        self.refused("POLICY_FORBIDDEN", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     text="org/a")
        self.alloc(self.b)

    def test_host_device_that_policy_gives_away(self):
        self.need_host()
        host = self.inventory.host[0].address
        self.refused("DEVICE_IN_USE", self.a.ClaimDevice, devices=[host])
        changed = policy.default()
        changed["host"]["allow_host_devices"] = [host]
        self.reload(changed)
        self.a.ClaimDevice(devices=[host])
        self.assertEqual(self.used("org/a", "devices"), 1)

    def test_device_taken_from_the_policy_stays_with_its_holder(self):
        device = self.device(self.a)
        ioasid = self.alloc(self.a, [device])
        self.with_rules("org/a", devices=[{"vendor_device": "dead:beef"}])
        self.a.Attach(device=device, ioasid=ioasid)
        self.a.ReleaseDevice(devices=[device])
        self.refused("POLICY_FORBIDDEN", self.a.ClaimDevice, devices=[device])
