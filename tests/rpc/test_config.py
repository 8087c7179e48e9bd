# SPDX-License-Identifier: Apache-2.0
"""What ioasidd is started with: good and bad policies, topologies and options."""
import json
import os

from support import policy
from support.case import Case

POLICY = policy.default()

IOMMU = {"name": "one", "formats": ["x86_64-4l"], "output_bits": 48}
DEVICE = {"address": "0000:01:00.0", "vendor_device": "8086:10fb", "class": "020000",
          "iommu": "one", "group": 1}
TOPOLOGY = {"version": 1, "iommus": [IOMMU], "devices": [DEVICE]}


class Config(Case):
    def file(self, name, content):
        path = os.path.join(self.world.server.folder, name)
        with open(path, "w") as f:
            f.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def check(self, policy_=None, topology=None, more=()):
        arguments = ["--check-config", "--policy",
                     self.file("checked-policy.json", policy_ or POLICY)]
        if topology is not None:
            arguments += ["--topology", self.file("checked-topology.json", topology)]
        return self.world.server.check_config(*arguments, *more)

    def test_good_ones(self):
        status, said = self.check()
        self.assertEqual(status, 0, said)
        status, said = self.check(topology=TOPOLOGY)
        self.assertEqual(status, 0, said)

    def test_needs_nothing_that_runs(self):
        """No keeper, and no IOMMU: it is the configuration that is checked."""
        more = ["--shim", "iommufd", "--keeper", "/none.sock"]
        status, said = self.check(more=more)
        self.assertEqual(status, 0, said)
        status, said = self.check(topology=TOPOLOGY, more=more)
        self.assertEqual(status, 1, said)
        self.assertIn("--topology", said)

    def test_policy_in_a_folder(self):
        folder = os.path.join(self.world.server.folder, "policy.d")
        os.mkdir(folder)
        whole = policy.default()
        parts = {"10-org.json": ["org", "org/a", "org/b", "org/d"],
                 "20-lab.json": ["lab", "lab/c", "lab/g"]}
        for name, paths in parts.items():
            self.file("policy.d/" + name, {"version": 1, "tenants": {
                p: whole["tenants"][p] for p in paths}})
        self.file("policy.d/90-who.json", {"version": 1, "identities": whole["identities"]})
        status, said = self.world.server.check_config("--check-config", "--policy", folder)
        self.assertEqual(status, 0, said)
        self.file("policy.d/30-again.json", {"version": 1, "tenants": {"lab/c": {}}})
        status, said = self.world.server.check_config("--check-config", "--policy", folder)
        self.assertEqual(status, 1, said)
        self.assertIn("lab/c", said)
        self.assertIn("30-again.json", said)

    def test_bad_policies_are_named(self):
        for name, text, expect in (
                ("not JSON", "{,}", ":1"), ("no version", json.dumps({"tenants": {}}), "version"),
                ("other version", json.dumps({**POLICY, "version": 2}), "version"),
                ("unknown role", json.dumps({**POLICY, "identities": [
                    {"socket": "tenants", "role": "king"}]}), "king")):
            with self.subTest(name):
                status, said = self.check(policy_=text)
                self.assertEqual(status, 1, said)
                self.assertIn("checked-policy.json", said)
                self.assertIn(expect, said)

    def test_bad_topologies_are_named(self):
        def changed(**more):
            return {**TOPOLOGY, **more}
        for name, topology, expect in (
                ("not JSON", "[", "1"), ("no version", {"iommus": [], "devices": []}, "version"),
                ("unknown key", changed(iommuses=[]), "iommuses"),
                ("wrong type", changed(devices={}), "devices"),
                ("unknown format", changed(iommus=[{**IOMMU, "formats": ["x87"]}]), "x87"),
                ("unknown iommu", changed(devices=[{**DEVICE, "iommu": "two"}]), "two"),
                ("bad address", changed(devices=[{**DEVICE, "address": "1:0.0"}]),
                 "devices[0].address"),
                ("address twice", changed(devices=[DEVICE, DEVICE]), "0000:01:00.0"),
                ("iommu twice", changed(iommus=[IOMMU, IOMMU]), "one"),
                ("bad range", changed(iommus=[{**IOMMU, "reserved": [
                    {"start": "0x2000", "last": "0x1fff", "use": "msi"}]}]), "reserved"),
                ("too wide", changed(iommus=[{**IOMMU, "output_bits": 80}]), "output_bits")):
            with self.subTest(name):
                status, said = self.check(topology=topology)
                self.assertEqual(status, 1, said)
                self.assertIn("checked-topology.json", said)
                self.assertIn(expect, said)

    def test_missing_files(self):
        status, said = self.world.server.check_config("--check-config", "--policy", "/none.json")
        self.assertEqual(status, 1, said)
        self.assertIn("/none.json", said)
        status, said = self.check(more=["--topology", "/none.json"])
        self.assertEqual(status, 1, said)
        self.assertIn("/none.json", said)

    def test_bad_options(self):
        for option in (["--nothing"], ["--workers", "0"], ["--workers", "x"], ["--shim", "hard"],
                       ["--listen", "x"], ["--policy"], ["stray"], ["--listen", "x=/a:9999"]):
            with self.subTest(option):
                status, said = self.check(more=option)
                self.assertEqual(status, 2, said)
                self.assertTrue(said.strip())

    def test_two_servers_do_not_share_a_socket(self):
        path = self.world.server.socket("tenants")
        status, said = self.world.server.check_config(
            "--policy", self.world.server.policy, "--listen", "tenants=" + path,
            "--shim", "soft")
        self.assertEqual(status, 1, said)
        self.assertIn(path, said)
        self.a.GetStatus()
