# SPDX-License-Identifier: Apache-2.0
"""ioasidctl cdi."""
import json
import os

from .cdi_watch import Vfio
from .host import ALONE, ALONE_2, GROUP

KIND = "ioasid.io/device="


class Cdi:
    def setUp(self):
        super().setUp()
        self.dir = os.path.join(self.host.folder, "cdi", self.id())

    def cdi(self, *words, tenant="org/a", code=0, socket="agents"):
        return self.host.ctl("cdi", *words, "--dir", self.dir,
                             *(("--tenant", tenant) if tenant else ()), socket=socket, code=code)

    def spec(self, name):
        with open(os.path.join(self.dir, name), encoding="utf-8") as f:
            return json.load(f)

    def setUpFolder(self):
        os.makedirs(os.path.dirname(self.dir), exist_ok=True)

    def test_generate(self):
        self.setUpFolder()
        vfio = Vfio(os.path.join(self.host.folder, "vfio"))
        vfio.bind(ALONE, 7)
        answer = self.cdi("generate", ALONE, ALONE_2, "--sysfs", vfio.sysfs, "--dev", vfio.dev,
                          "--hook", "/x/hook", "--hook-config", "/x/config")
        self.assertEqual([d["name"] for d in answer["devices"]],
                         [KIND + "org-a-0000_03_00.0", KIND + "org-a-0000_04_00.0"])
        self.assertEqual(os.listdir(self.dir), ["ioasid-org-a.json"])
        self.assertEqual(os.stat(answer["file"]).st_mode & 0o7777, 0o644)
        spec = self.spec("ioasid-org-a.json")
        self.assertEqual((spec["cdiVersion"], spec["kind"]), ("0.5.0", "ioasid.io/device"))
        self.assertEqual(spec["containerEdits"], {
            "env": ["IOASID_SOCKET=/run/ioasid/ioasid.sock",
                    "IOASID_LEASE_FILE=/run/ioasid/lease.json"]})
        first, second = spec["devices"]
        self.assertEqual(first["name"], "org-a-0000_03_00.0")
        self.assertEqual(first["containerEdits"], {
            "deviceNodes": [{"path": "/dev/vfio/devices/vfio7", "permissions": "rw"}],
            "hooks": [{"hookName": stage, "path": "/x/hook", "timeout": 60,
                       "args": ["ioasid-oci-hook", stage, "--config", "/x/config", "--tenant",
                                "org/a", "--device", ALONE]}
                      for stage in ("createRuntime", "poststop")]})
        self.assertNotIn("deviceNodes", second["containerEdits"])

    def test_all_that_the_tenant_may_have(self):
        self.setUpFolder()
        self.assertEqual([d["device"] for d in self.cdi("generate", tenant="org/b")["devices"]],
                         [ALONE])
        self.assertLess(set(GROUP), {d["device"] for d in self.cdi("generate")["devices"]})

    def test_by_the_tenant_itself(self):
        self.setUpFolder()
        self.host.ctl("cdi", "generate", "--dir", self.dir, socket="org/b")
        self.assertEqual([d["name"] for d in self.spec("ioasid-org-b.json")["devices"]],
                         ["org-b-0000_03_00.0"])

    def test_refusals(self):
        self.setUpFolder()
        self.cdi("generate", tenant="lab/c", code=3)
        self.cdi("generate", ALONE_2, tenant="org/b", code=5)
        self.cdi("generate", tenant=None, code=2)
        self.cdi("generate", "--hook", "hook", code=2)
        self.cdi("remove", code=5)
        self.cdi("remove", tenant=None, code=2)
        self.cdi("remove", "--all", code=2)
        self.assertFalse(os.path.exists(self.dir))

    def test_list_and_remove(self):
        self.setUpFolder()
        self.assertEqual(self.cdi("list")["devices"], [])
        self.cdi("generate", ALONE, ALONE_2)
        self.cdi("generate", tenant="org/b")
        with open(os.path.join(self.dir, "ioasid-foreign.json"), "w", encoding="utf-8") as f:
            f.write('{"kind": "vendor/class", "devices": [{"name": "x"}]}')
        with open(os.path.join(self.dir, "ioasid-broken.json"), "w", encoding="utf-8") as f:
            f.write("{")
        # A device that went away since.
        path = os.path.join(self.dir, "ioasid-org-a.json")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("0000:04:00.0", "0000:77:00.0").replace("0000_04", "0000_77"))
        rows = [(d["name"], d["tenant"], d["device"], d["state"])
                for d in self.cdi("list", tenant=None)["devices"]]
        expected = [(KIND + "org-a-0000_03_00.0", "org/a", ALONE, "free"),
                    (KIND + "org-a-0000_77_00.0", "org/a", "0000:77:00.0", "gone"),
                    (KIND + "org-b-0000_03_00.0", "org/b", ALONE, "free")]
        self.assertEqual(rows, expected)
        self.assertEqual([(d["name"], d["state"])
                          for d in self.cdi("list", tenant=None, socket="nobody")["devices"]],
                         [(row[0], "unknown") for row in expected])
        self.assertEqual([f["file"] for f in self.cdi("remove")["files"]], [path])
        self.assertEqual(len(self.cdi("remove", "--all", tenant=None)["files"]), 1)
        self.assertEqual(sorted(os.listdir(self.dir)),
                         ["ioasid-broken.json", "ioasid-foreign.json"])

    def test_written_whole_or_not(self):
        """A generate that is refused leaves the last file."""
        self.setUpFolder()
        self.cdi("generate", ALONE)
        before = self.spec("ioasid-org-a.json")
        self.cdi("generate", "0000:99:00.0", code=5)
        self.assertEqual(self.spec("ioasid-org-a.json"), before)
        self.cdi("generate", ALONE_2)
        self.assertEqual(os.listdir(self.dir), ["ioasid-org-a.json"])
        self.assertEqual(len(self.spec("ioasid-org-a.json")["devices"]), 1)
