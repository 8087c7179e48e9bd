# SPDX-License-Identifier: Apache-2.0
"""
The hosts of packaging/topologies, all behind one broker: devices of a VT-d server, an AMD server, an
SMMUv3 board and a RISC-V board.  What is negotiated across devices of different abilities, and
DMA through every pair of formats that can be nested.
"""
import glob
import json
import os

from support import policy
from support.case import PAGE, Case, pattern

POLICY = policy.default()
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging",
                      "topologies")
FILES = sorted(glob.glob(os.path.join(FOLDER, "*.json")))
# A profile's devices are in a domain of their own here.
DOMAINS = {name: 0x100 * (i + 1) for i, name in enumerate(
    ("vtd-server", "amd-server", "smmuv3-board", "riscv-board"))}


def profile(path):
    with open(path) as f:
        return json.load(f)


def merged():
    whole = {"version": 1, "iommus": [], "devices": []}
    for path in FILES:
        name = os.path.splitext(os.path.basename(path))[0]
        one = profile(path)
        whole["iommus"] += one["iommus"]
        for d in one["devices"]:
            domain, rest = d["address"].split(":", 1)
            d["address"] = "%04x:%s" % (DOMAINS[name] + int(domain, 16), rest)
            d["group"] += DOMAINS[name]
            whole["devices"].append(d)
    return whole


TOPOLOGY = merged()


class Profiles(Case):
    def setUp(self):
        super().setUp()
        self.need_soft("the profiles are hosts of the software IOMMU")

    def f(self, name):
        if name.startswith("amdv1-"):
            name += "l"
        return getattr(self.pb, "PAGE_TABLE_FORMAT_" + name.upper().replace("-", "_"))

    def at(self, host, rest, domain=0):
        return "%04x:%s" % (DOMAINS[host] + domain, rest)

    def claim(self, *devices):
        self.a.ClaimDevice(devices=list(devices))
        return list(devices)

    def negotiate(self, devices, *formats, **more):
        return self.a.Negotiate(alloc=dict(
            kind=self.pb.IOASID_KIND_KERNEL, devices=devices,
            candidates=[{"format": self.f(f)} for f in formats], **more)).choice

    def assertPassedOver(self, choice, *expected):
        """(format, who) of each."""
        got = [(r.format, r.who) for r in choice.passed_over]
        self.assertEqual(got, [(self.f(f), who) for f, who in expected])
        for r in choice.passed_over:
            self.assertEqual(r.by, self.pb.REFUSED_BY_DEVICE)
            self.assertTrue(r.reason)

    def test_every_file_is_known(self):
        self.assertEqual([os.path.basename(p) for p in FILES],
                         sorted(name + ".json" for name in DOMAINS))

    def test_every_profile_is_a_topology(self):
        rules = os.path.join(self.world.server.folder, "checked.json")
        with open(rules, "w") as f:
            json.dump(POLICY, f)
        for path in FILES:
            with self.subTest(path=os.path.basename(path)):
                status, said = self.world.server.check_config(
                    "--check-config", "--policy", rules, "--topology", path)
                self.assertEqual(status, 0, said)

    # -- the best format that all have

    def test_vtd(self):
        old = self.at("vtd-server", "02:00.0")
        new = self.at("vtd-server", "6b:00.0")
        choice = self.negotiate(self.claim(new, old), "x86_64-4l", "vtdss-5l", "vtdss-4l")
        self.assertEqual(choice.format, self.f("vtdss-4l"))
        self.assertEqual((choice.input_bits, choice.output_bits), (48, 46))
        self.assertPassedOver(choice, ("x86_64-4l", old), ("vtdss-5l", old))

    def test_amd(self):
        old = self.at("amd-server", "c1:00.0")
        new = self.at("amd-server", "41:00.0")
        choice = self.negotiate(self.claim(new, old), "x86_64-4l", "amdv1-6")
        self.assertEqual(choice.format, self.f("amdv1-6"))
        self.assertEqual((choice.input_bits, choice.output_bits), (64, 48))
        self.assertPassedOver(choice, ("x86_64-4l", old))
        self.assertTrue(choice.page_sizes & 1 << 13, "AMD's pages of 8 KiB")
        self.assertFalse(choice.page_sizes & 1 << 39, "pages of 512 GiB")

    def test_smmuv3(self):
        old = self.at("smmuv3-board", "01:00.0", 1)
        new = self.at("smmuv3-board", "01:00.0")
        middle = self.at("smmuv3-board", "03:00.0")
        devices = self.claim(new, old, middle)
        choice = self.negotiate(devices, "armv8-s2-64k", "armv8-s2-16k", "armv8-s2-4k")
        self.assertEqual(choice.format, self.f("armv8-s2-4k"))
        self.assertEqual(choice.output_bits, 44)
        self.assertPassedOver(choice, ("armv8-s2-64k", old), ("armv8-s2-16k", old))
        choice = self.negotiate([new, middle], "armv8-s2-16k", "armv8-s2-64k")
        self.assertEqual(choice.format, self.f("armv8-s2-64k"))
        self.assertPassedOver(choice, ("armv8-s2-16k", middle))
        self.assertEqual(choice.page_sizes & -choice.page_sizes, 64 << 10)

    def test_riscv(self):
        old = self.at("riscv-board", "01:00.0", 1)
        new = self.at("riscv-board", "01:00.0")
        choice = self.negotiate(self.claim(new, old), "sv57x4", "sv48x4", "sv39x4")
        self.assertEqual(choice.format, self.f("sv39x4"))
        self.assertEqual((choice.input_bits, choice.output_bits), (41, 40))
        self.assertPassedOver(choice, ("sv57x4", old), ("sv48x4", old))
        # The first stage extends the sign: the upper half is the processor's.
        choice = self.negotiate([new], "sv39")
        self.assertEqual(choice.valid[-1].last, (1 << 38) - 1)

    def test_nothing_in_common(self):
        intel, amd = self.claim(self.at("vtd-server", "c8:00.0"), self.at("amd-server", "c1:00.0"))
        refusal = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, devices=[intel, amd],
                               kind=self.pb.IOASID_KIND_KERNEL,
                               candidates=[{"format": self.f(f)}
                                           for f in ("vtdss-4l", "amdv1-4", "sv48x4")])
        text = refusal.text()
        for device in (intel, amd):
            self.assertIn(device, text)

    # -- DMA

    def child_and_parent(self, device):
        """Formats of a device, each a child on each parent that takes it."""
        caps = self.inventory.all[device].capabilities.formats
        ept = [self.pb.PAGE_TABLE_FORMAT_EPT_4L, self.pb.PAGE_TABLE_FORMAT_EPT_5L]
        return [(c, p) for c in caps if c.nest_child for p in caps
                if p.nest_parent and p.format not in ept]

    def nest(self, device, child, parent):
        page = max(f.page_sizes & -f.page_sizes for f in (child, parent))
        n = page // PAGE
        data = pattern(3 * page)
        memory = self.memory(self.a, pages=3 * n, fill=data)
        outer = self.alloc(self.a, [device], candidates=[{"format": parent.format}])
        inner = self.alloc(self.a, [device], parent=outer, candidates=[{"format": child.format}])
        self.map(self.a, outer, self.entry(16 * page, memory, 3 * n))
        self.map(self.a, inner, self.child_entry(8 * page, 17 * page, n))
        self.a.Attach(device=device, ioasid=inner)
        self.assertReads(self.a, device, 8 * page, data[page:2 * page])
        self.dma_write(self.a, device, 9 * page - 8, b"12345678")
        self.assertEqual(memory.read(8, 2 * page - 8), b"12345678")
        self.assertBlocked(self.dma_read(self.a, device, 9 * page, 8), "NOT_PRESENT")
        self.a.Unmap(ioasid=outer, all=True)
        self.assertBlocked(self.dma_read(self.a, device, 8 * page, 8), "PARENT_NOT_PRESENT")
        self.a.Detach(device=device)
        for ioasid in (inner, outer):
            self.a.Free(ioasid=ioasid)
        self.a.UnregisterMemory(memory=memory.id)

    def test_every_pair_that_nests(self):
        tried = 0
        for host, rest, pairs in (("vtd-server", "6a:01.0", 16), ("amd-server", "41:00.0", 12),
                                  ("smmuv3-board", "01:00.0", 9), ("riscv-board", "01:00.0", 9)):
            device, = self.claim(self.at(host, rest))
            able = self.child_and_parent(device)
            self.assertEqual(len(able), pairs, host)
            for child, parent in able:
                name = self.pb.PageTableFormat.Name
                with self.subTest(host=host, child=name(child.format),
                                  parent=name(parent.format)):
                    self.nest(device, child, parent)
                    tried += 1
        self.assertEqual(tried, 46)

    def test_stages_of_two_architectures_do_not_nest(self):
        device, = self.claim(self.at("vtd-server", "6a:01.0"))
        outer = self.alloc(self.a, [device], candidates=[{"format": self.f("vtdss-4l")}])
        refusal = self.refused("FORMAT_UNSUPPORTED", self.a.Alloc, devices=[device], parent=outer,
                               kind=self.pb.IOASID_KIND_KERNEL,
                               candidates=[{"format": self.f("sv48")}])
        self.assertIn("sv48", refusal.text())
