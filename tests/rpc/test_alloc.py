# SPDX-License-Identifier: Apache-2.0
"""Negotiate, Alloc, Free, GetIoasid, ListIoasids: formats, features, kinds, refusals."""
from support import policy
from support.case import PAGE, Case

POLICY = policy.default()
POLICY["tenants"]["org/d"]["kinds"] = []


class Formats(Case):
    def formats_of(self, *addresses):
        """Formats that every one of the devices can use."""
        return set.intersection(*(set(self.inventory.formats(a)) for a in addresses))

    def two_iommus(self):
        """Two devices on IOMMUs of different formats, and what they share."""
        self.need_iommus()
        for one in self.inventory.single:
            for two in self.inventory.single:
                f1, f2 = self.formats_of(one.address), self.formats_of(two.address)
                if one.iommu != two.iommu and f1 != f2 and f1 & f2:
                    return one.address, two.address
        return self.fail("no two devices on IOMMUs of different formats")

    def test_choice_is_the_first_candidate_that_fits(self):
        device = self.device(self.a)
        able = sorted(self.formats_of(device))
        unable = [f for f in self.pb.PageTableFormat.values() if f and f not in able]
        for first in able:
            order = unable[:2] + [first] + [f for f in able if f != first]
            answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                  candidates=[{"format": f} for f in order])
            self.assertEqual(answer.choice.format, first)
            self.assertEqual([r.format for r in answer.choice.passed_over], unable[:2])
            for refusal in answer.choice.passed_over:
                self.assertNotEqual(refusal.by, self.pb.REFUSED_BY_UNSPECIFIED)
                self.assertTrue(refusal.reason)
            self.a.Free(ioasid=answer.ioasid)

    def test_choice_says_what_the_device_says(self):
        device = self.device(self.a)
        caps = self.inventory.all[device].capabilities
        for f, cap in self.inventory.formats(device).items():
            choice = self.a.Negotiate(alloc=dict(kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                                 candidates=[{"format": f}])).choice
            with self.subTest(format=f):
                self.assertEqual((choice.format, choice.input_bits, choice.output_bits,
                                  choice.page_sizes, choice.kernel_chosen),
                                 (f, cap.input_bits, cap.output_bits, cap.page_sizes,
                                  f == self.pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN))
                self.assert_valid(choice.valid, cap.input_bits, caps.reserved, f)

    def assert_valid(self, valid, bits, reserved, f):
        """valid is the width less the reserved ranges, in order, without touching."""
        last = -1
        for r in valid:
            self.assertGreater(r.start, last)
            self.assertLessEqual(r.start, r.last)
            last = r.last
        canonical = f in (self.pb.PAGE_TABLE_FORMAT_X86_64_4L, self.pb.PAGE_TABLE_FORMAT_X86_64_5L)
        if not canonical:
            self.assertLess(last, 1 << bits)

        def inside(address):
            return any(r.start <= address <= r.last for r in valid)
        for r in reserved:
            for address in (r.start, r.last):
                self.assertFalse(inside(address), hex(address))
            if r.start:
                self.assertTrue(inside(r.start - 1))
            self.assertTrue(inside(r.last + 1))

    def test_device_refuses_and_is_named(self):
        one, two = self.two_iommus()
        self.a.ClaimDevice(devices=[one, two])
        for mine, other in ((one, two), (two, one)):
            only = self.formats_of(mine) - self.formats_of(other)
            for f in only:
                refusal = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, devices=[mine, other],
                                       kind=self.pb.IOASID_KIND_KERNEL, candidates=[{"format": f}])
                self.assertIn(other, refusal.text())
        self.assertEqual(self.used("org/a", "ioasids"), 0)

    def test_common_format_of_devices_on_two_iommus(self):
        one, two = self.two_iommus()
        self.a.ClaimDevice(devices=[one, two])
        common = self.formats_of(one, two)
        answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[one, two])
        self.assertIn(answer.choice.format, common)
        every = [f for f in self.pb.PageTableFormat.values() if f and
                 f != self.pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN]
        answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[one, two],
                              candidates=[{"format": f} for f in every])
        first = next(f for f in every if f in common)
        self.assertEqual(answer.choice.format, first)
        passed = answer.choice.passed_over
        self.assertEqual([r.format for r in passed], every[:every.index(first)])
        for r in passed:
            if r.by == self.pb.REFUSED_BY_DEVICE:
                self.assertIn(r.who, (one, two))
                self.assertNotIn(r.format, self.formats_of(r.who))

    def test_no_candidate_fits(self):
        device = self.device(self.a)
        able = self.formats_of(device)
        unable = [f for f in self.pb.PageTableFormat.values() if f and f not in able][:5]
        refusal = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, devices=[device],
                               kind=self.pb.IOASID_KIND_KERNEL,
                               candidates=[{"format": f} for f in unable])
        # Who and why for every one of them, even if these are all formats there are.
        every = [f for f in self.pb.PageTableFormat.values() if f and f not in able]
        whole = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, devices=[device],
                             kind=self.pb.IOASID_KIND_KERNEL,
                             candidates=[{"format": f} for f in every])
        self.assertGreaterEqual(len(whole.preconditions), len(every))
        self.assertGreaterEqual(len(refusal.preconditions), len(unable))
        for kind, subject, description in refusal.preconditions:
            self.assertTrue(description)

    def test_candidates_out_of_range(self):
        for candidates, field in (([{"format": 0}], "candidates[0].format"),
                                  ([{"format": 1}, {"format": 999}], "candidates[1].format"),
                                  ([{"format": 1}] * 33, "candidates")):
            refusal = self.refused("MALFORMED" if len(candidates) > 32 else "INVALID_FIELD",
                                   self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                                   candidates=candidates)
            self.assertTrue(refusal.fields[0][0].startswith("candidates"), refusal.fields)
            self.assertIn(refusal.fields[0][0], (field, "candidates"))

    def test_width(self):
        device = self.device(self.a)
        widest = max(f.input_bits for f in self.inventory.formats(device).values())
        for bits in (1, min(39, widest), widest):
            answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                  input_bits=bits)
            self.assertGreaterEqual(answer.choice.input_bits, bits)
        refusal = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                 input_bits=widest + 1)
        self.assertIn(refusal.reason, ("FORMAT_UNSUPPORTED", "INVALID_FIELD"))
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     devices=[device], input_bits=65, field="input_bits")

    def test_width_passes_over_narrow_formats(self):
        device = self.device(self.a)
        caps = sorted(self.inventory.formats(device).values(), key=lambda f: f.input_bits)
        narrow, wide = caps[0], caps[-1]
        if self.world.shim != "soft" and narrow.input_bits == wide.input_bits:
            self.skipTest("all formats of the device have one width")
        self.assertLess(narrow.input_bits, wide.input_bits)
        choice = self.a.Negotiate(alloc=dict(
            kind=self.pb.IOASID_KIND_KERNEL, devices=[device], input_bits=wide.input_bits,
            candidates=[{"format": narrow.format}, {"format": wide.format}])).choice
        self.assertEqual(choice.format, wide.format)
        self.assertEqual(choice.passed_over[0].format, narrow.format)

    def test_features_that_a_device_lacks(self):
        """Each flag is granted where every device has it, and refused, naming one, where not."""
        tried = 0
        for flag, able in (("pasid", lambda c: c.pasid_bits > 0),
                           ("dirty_tracking", lambda c: c.dirty_tracking),
                           ("faults", lambda c: c.recoverable_faults)):
            without = self.inventory.having(lambda c: not able(c))
            for device in without[:1]:
                self.a.ClaimDevice(devices=[device])
                refusal = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL,
                                         devices=[device], **{flag: True})
                self.assertIn(refusal.reason,
                              ("INCOMPATIBLE", "FORMAT_UNSUPPORTED", "UNIMPLEMENTED"))
                self.check_refusal(refusal, refusal.reason)
                self.a.ReleaseDevice(devices=[device])
                tried += 1
        with_pasid = self.inventory.having(lambda c: c.pasid_bits > 0)
        if with_pasid:
            self.a.ClaimDevice(devices=with_pasid[:1])
            self.alloc(self.a, with_pasid[:1], pasid=True)
            tried += 1
        self.assertTrue(tried)

    def test_snoop(self):
        tried = 0
        for device in self.inventory.having(lambda c: c.snoop_control)[:1]:
            self.a.ClaimDevice(devices=[device])
            for mode, enforced in (("ENFORCE", {True}), ("NONE", {False}),
                                   ("AUTO", {True, False})):
                answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                      snoop="SNOOP_MODE_" + mode)
                self.assertIn(answer.choice.enforce_snoop, enforced)
            tried += 1
        for device in self.inventory.having(lambda c: not c.snoop_control)[:1]:
            self.a.ClaimDevice(devices=[device])
            refusal = self.a.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL, devices=[device],
                                     snoop="SNOOP_MODE_ENFORCE")
            self.assertIn(refusal.reason, ("INCOMPATIBLE", "FORMAT_UNSUPPORTED"))
            self.assertIn(device, refusal.text())
            tried += 1
        if self.world.shim == "soft":
            self.assertEqual(tried, 2, "the topology has IOMMUs with and without snoop control")
        self.assertTrue(tried)
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, snoop=9,
                     field="snoop")


class Objects(Case):
    def test_alloc_get_list_free(self):
        device = self.device(self.a)
        answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, devices=[device], label="net")
        self.assertNotEqual(answer.ioasid, 0)
        got = self.a.GetIoasid(ioasid=answer.ioasid).ioasid
        self.assertEqual((got.ioasid, got.kind, list(got.devices), got.label, got.parent, got.depth,
                          got.mappings, got.mapped_bytes, got.attachments, got.children),
                         (answer.ioasid, self.pb.IOASID_KIND_KERNEL, [device], "net", 0, 1,
                          0, 0, 0, 0))
        self.assertEqual(got.choice.format, answer.choice.format)
        self.assertEqual([i.ioasid for i in self.a.ListIoasids().ioasids], [answer.ioasid])
        self.assertEqual(self.used("org/a", "ioasids", "ioasids_kernel"), [1, 1])
        self.assertFalse(self.a.Free(ioasid=answer.ioasid).pending)
        self.assertEqual(self.used("org/a", "ioasids", "ioasids_kernel"), [0, 0])
        self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=answer.ioasid)
        self.refused("NOT_FOUND", self.a.Free, ioasid=answer.ioasid)

    def test_ids_are_never_used_again(self):
        seen = set()
        for _ in range(50):
            ioasid = self.alloc(self.a)
            self.assertNotIn(ioasid, seen)
            seen.add(ioasid)
            self.a.Free(ioasid=ioasid)

    def test_listing_pages(self):
        ids = [self.alloc(self.a) for _ in range(7)]
        for size in (1, 3, 7, 8):
            seen, token = [], ""
            while True:
                page = self.a.ListIoasids(page_size=size, page_token=token)
                self.assertLessEqual(len(page.ioasids), size)
                seen += [i.ioasid for i in page.ioasids]
                token = page.next_page_token
                if not token:
                    break
            self.assertEqual(sorted(seen), sorted(ids))

    def test_listing_goes_on_when_objects_go(self):
        ids = [self.alloc(self.a) for _ in range(6)]
        page = self.a.ListIoasids(page_size=3)
        first = [i.ioasid for i in page.ioasids]
        self.a.Free(ioasid=first[-1])
        rest = self.a.ListIoasids(page_size=10, page_token=page.next_page_token)
        self.assertEqual(sorted(first + [i.ioasid for i in rest.ioasids]), sorted(ids))

    def test_other_ids_are_not_ioasids(self):
        memory = self.memory(self.a)
        ioasid = self.alloc(self.a)
        for number in (memory.id + (1 << 40), 2 ** 64 - 1, ioasid + 1):
            self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=number)
        self.refused("INVALID_FIELD", self.a.GetIoasid, ioasid=0, field="ioasid")
        if memory.id != ioasid:
            self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=memory.id)
            self.refused("NOT_FOUND", self.a.UnregisterMemory, memory=ioasid)

    def test_kinds_that_a_device_lacks_say_why(self):
        pb, device = self.pb, self.device(self.a)
        gpa = self.alloc(self.a, [device])
        kinds = {k.kind: k for k in self.inventory.all[device].capabilities.kinds}
        self.assertTrue(kinds[pb.IOASID_KIND_KERNEL].supported)
        for kind in (pb.IOASID_KIND_USER, pb.IOASID_KIND_PROCESS, pb.IOASID_KIND_KVM):
            if kinds[kind].supported:
                continue
            more = dict(parent=gpa) if kind == pb.IOASID_KIND_USER else {}
            refusal = self.refused("UNIMPLEMENTED", self.a.Alloc, devices=[device], kind=kind,
                                   text=kinds[kind].reason, **more)
            self.assertGreater(len(refusal.message), 10)
            self.refused("UNIMPLEMENTED", self.a.Negotiate,
                         alloc=dict(kind=kind, devices=[device], **more))
        for kind in (0, 5, 999, -1):
            self.refused("INVALID_FIELD", self.a.Alloc, kind=kind, field="kind")

    def test_fields_of_other_kinds_are_refused(self):
        for field, value in (("vm", 7), ("table", dict(root=4096, format=1))):
            refusal = self.refused("INVALID_FIELD", self.a.Alloc,
                                   kind=self.pb.IOASID_KIND_KERNEL, **{field: value})
            self.assertTrue(refusal.fields[0][0].startswith(field))

    def test_devices_must_be_claimed_by_the_lease(self):
        one = self.inventory.single[0].address
        call = dict(kind=self.pb.IOASID_KIND_KERNEL)
        self.refused("NOT_CLAIMED", self.a.Alloc, devices=[one], text=one, **call)
        self.b.ClaimDevice(devices=[one])
        self.refused("NOT_CLAIMED", self.a.Alloc, devices=[one], **call)
        self.refused("NOT_FOUND", self.a.Alloc, devices=["0000:ff:1f.7"], **call)
        for devices, reason in (([""], "INVALID_FIELD"), ([one] * 65, "MALFORMED"),
                                ([one, one], "INVALID_FIELD")):
            self.refused(reason, self.a.Alloc, devices=devices, **call)

    def test_label_too_long(self):
        self.alloc(self.a, label="\u00e9" * 32)
        self.refused("INVALID_FIELD", self.a.Alloc, kind=self.pb.IOASID_KIND_KERNEL,
                     label="x" * 65, field="label")

    def test_policy_forbids_a_kind(self):
        d = self.connect(policy.D)
        refusal = self.refused("POLICY_FORBIDDEN", d.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.assertIn("org/d", refusal.text())

    def test_free_is_pending_while_attached(self):
        device = self.device(self.a)
        ioasid = self.alloc(self.a, [device])
        memory = self.memory(self.a, fill=b"here")
        self.map(self.a, ioasid, self.entry(0x10010000, memory))
        self.a.Attach(device=device, ioasid=ioasid)
        self.assertTrue(self.a.Free(ioasid=ioasid).pending)
        # Invisible at once; charged; the device's DMA goes on.
        self.refused("NOT_FOUND", self.a.GetIoasid, ioasid=ioasid)
        self.refused("NOT_FOUND", self.a.Attach, device=device, ioasid=ioasid)
        self.refused("NOT_FOUND", self.a.Unmap, ioasid=ioasid, all=True)
        self.assertEqual(len(self.a.ListIoasids().ioasids), 0)
        self.assertEqual(self.used("org/a", "ioasids"), 1)
        if self.edu:
            # Nothing can be mapped there any more: from one end of the page to the other.
            self.edu.copy(self.a, device, 0x10010000, 0x10010800, 4)
            self.assertEqual(memory.read(4, 0x800), b"here")
        else:
            self.assertReads(self.a, device, 0x10010000, b"here")
        self.a.Detach(device=device)
        self.assertEqual(self.used("org/a", "ioasids", "map_entries", "mapped_bytes"), [0, 0, 0])

    def test_free_unmaps_what_is_mapped(self):
        ioasid, memory = self.alloc(self.a), self.memory(self.a)
        self.map(self.a, ioasid, self.entry(0x10010000, memory, 4))
        self.assertFalse(self.a.Free(ioasid=ioasid).pending)
        self.assertEqual(self.used("org/a", "map_entries", "mapped_bytes", "pinned_bytes"),
                         [0, 0, 0])
        self.assertFalse(self.a.UnregisterMemory(memory=memory.id).pending)


class Dry(Case):
    # A request itself costs these.
    OF_THE_CALL = ("requests_in_flight", "calls_per_second", "broker_bytes")

    def test_negotiate_changes_nothing(self):
        device = self.device(self.a)
        before = self.usage("org/a")
        for _ in range(3):
            answer = self.a.Negotiate(alloc=dict(kind=self.pb.IOASID_KIND_KERNEL,
                                                 devices=[device]))
            self.assertTrue(answer.within_quota)
        after = self.usage("org/a")
        self.assertEqual({r: (u.used, u.peak, u.refused) for r, u in before.items()
                          if r not in self.OF_THE_CALL},
                         {r: (u.used, u.peak, u.refused) for r, u in after.items()
                          if r not in self.OF_THE_CALL})
        self.assertEqual(len(self.a.ListIoasids().ioasids), 0)
        self.assertEqual(self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL,
                                      devices=[device]).choice, answer.choice)

    def test_negotiate_tells_of_quota(self):
        self.limited("org/a", ioasids=1)
        self.alloc(self.a)
        answer = self.a.Negotiate(alloc=dict(kind=self.pb.IOASID_KIND_KERNEL))
        self.assertFalse(answer.within_quota)
        self.assertIn("ioasids", answer.quota_refusal)
        self.assertNotEqual(answer.choice.format, 0)

    def test_negotiate_takes_no_key(self):
        refusal = self.refused("INVALID_FIELD", self.a.Negotiate, key="k",
                               alloc=dict(kind=self.pb.IOASID_KIND_KERNEL))
        self.assertTrue(refusal.fields[0][0].endswith("scope.key"))

    def test_negotiate_without_alloc(self):
        self.refused("INVALID_FIELD", self.a.Negotiate)

    def test_page_of_the_choice_can_be_mapped(self):
        answer = self.a.Alloc(kind=self.pb.IOASID_KIND_KERNEL)
        memory = self.memory(self.a)
        low = answer.choice.valid[0]
        high = answer.choice.valid[-1]
        self.map(self.a, answer.ioasid, self.entry(low.start, memory),
                 self.entry(high.last + 1 - PAGE, memory))
