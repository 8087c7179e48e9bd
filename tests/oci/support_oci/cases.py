# SPDX-License-Identifier: Apache-2.0
"""The tests, for each runtime."""
import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import unittest

from .cdi import Cdi
from .cdi_watch import CdiWatch
from .container import Container
from .direct import Direct
from .faults import Faults
from .host import ALONE, ALONE_2, GROUP, Host, many_devices, may_lock_all
from .podman import Podman
from .rootless import Rootless

BUILD = None
MANY = 20
CGROUPS = None


def configure(build, many, cgroups):
    global BUILD, MANY, CGROUPS
    BUILD, MANY, CGROUPS = build, many, cgroups


class Case(unittest.TestCase):
    runtime = cgroups = None
    host = None

    @classmethod
    def setUpClass(cls):
        cls.host = cls.make_host(BUILD)

    @classmethod
    def make_host(cls, build):
        return Host(build)

    @classmethod
    def tearDownClass(cls):
        problems = cls.host.close()
        if problems:
            raise AssertionError("\n".join(problems))

    def revive(self):
        """The broker, if a test has brought it down."""
        self.host.write_config()
        if not self.host.server.alive():
            self.host.clear_sockets()
            self.host.server.start()

    def setUp(self):
        self.addCleanup(self._is_idle)
        self.addCleanup(self.revive)

    def _is_idle(self):
        self.assertEqual(self.host.wait_idle(), {})

    def container(self, name, args, annotations=None, **more):
        container = Container(self.host, self.runtime, name, args, annotations, **more)
        self.addCleanup(container.delete)
        return container

    def run_tenant(self, name, devices, turns="3", **annotations):
        return self.container(name, ["/bin/tenant", turns],
                              {"tenant": "org/a", "devices": devices, **annotations}).run()


class Basic:
    def test_one_device(self):
        self.assertEqual(self.run_tenant("one", ALONE),
                         (0, "".join("turn %d: %s\n" % (i, ALONE) for i in (1, 2, 3)), ""))

    def test_told_by_the_environment(self):
        container = self.container("told", ["/bin/tenant", "1"],
                                   {"tenant": "org/a", "devices": ALONE})
        container.spec["process"]["env"].append("IOASID_LEASE_FILE=/run/ioasid/lease.json")
        container.write_spec()
        self.assertEqual(container.run(), (0, "turn 1: %s\n" % ALONE, ""))

    def test_two_devices(self):
        code, out, err = self.run_tenant("two", "%s, %s" % (ALONE, ALONE_2), "1")
        self.assertEqual((code, out, err), (0, "turn 1: %s %s\n" % (ALONE, ALONE_2), ""))

    def test_group(self):
        code, out, err = self.run_tenant("group", ",".join(GROUP), "1")
        self.assertEqual((code, out, err), (0, "turn 1: %s %s\n" % GROUP, ""))


class Prestart:
    """The stage that createRuntime came after, and that old callers still name."""

    def prestart(self, name, annotations, **more):
        return self.container(name, ["/bin/tenant", "1"], annotations, stage="prestart", **more)

    def test_prestart(self):
        container = self.prestart("pre", {"tenant": "org/a", "devices": ALONE})
        self.assertEqual(container.run(), (0, "turn 1: %s\n" % ALONE, ""))
        self.assertEqual(self.host.folders(), [])

    def test_lease_ends_with_the_init(self):
        """The pid is the host's there, too."""
        container = self.container("pre-crash", ["/bin/tenant", "0"],
                                   {"tenant": "org/a", "devices": ALONE}, stage="prestart",
                                   poststop=False)
        self.assertEqual(container.start(), (0, ""))
        container.wait_for("turn 1:")
        folder, = self.host.folders()
        with open(os.path.join(self.host.state, folder, "hook.json"), encoding="utf-8") as f:
            self.assertEqual(json.load(f)["pid"], container.pid())
        container.kill_init()
        self.assertEqual(self.host.wait_idle(folders=False), {})
        container.delete()
        self.assertEqual(self.prestart("pre-tidy", {"tenant": "org/a"}).run(),
                         (0, "turn 1:\n", ""))

    def test_calls_ask_together(self):
        calls = [("--tenant", "org/a", "--device", device) for device in GROUP]
        container = self.prestart("pre-group", {}, calls=calls)
        self.assertEqual(container.run(), (0, "turn 1: %s %s\n" % GROUP, ""))

    def test_refused(self):
        code, out, err = self.prestart("pre-no", {"tenant": "lab/c"}, poststop=False).run()
        self.assertEqual((code != 0, out, err.count("ioasid-oci-hook:")), (True, "", 1), err)
        self.assertIn("ioasid-oci-hook: tenant lab/c: no lease for the container: ", err)
        self.assertEqual(self.host.wait_idle(), {})

    def test_both_stages(self):
        """A caller that names both, as they are the same moment to it."""
        container = self.prestart("pre-both", {"tenant": "org/a", "devices": ALONE})
        hooks = container.spec["hooks"]
        hooks["createRuntime"] = [dict(call, args=[call["args"][0], "createRuntime",
                                                   *call["args"][2:]])
                                  for call in hooks["prestart"]]
        container.write_spec()
        self.assertEqual(container.run(), (0, "turn 1: %s\n" % ALONE, ""))


class Refusals:
    """What an operator reads: one line of the hook in what the runtime prints."""

    def refused(self, container, line):
        code, out, err = container.run()
        self.assertNotEqual(code, 0)
        self.assertEqual(out, "")
        # runc puts it into a quoted string.
        err = err.replace('\\"', '"')
        self.assertEqual(err.count("ioasid-oci-hook:"), 1, err)
        self.assertIn("ioasid-oci-hook: %s" % line, err)
        # Nothing of it was left for poststop to end.
        self.assertEqual(self.host.wait_idle(), {})
        self.assertFalse(os.path.exists(os.path.join(self.host.folder, "ran")))

    def ask(self, line, **annotations):
        self.refused(self.container("refused", ["/bin/tenant", "1"], annotations, poststop=False),
                     line)

    def test_over_quota(self):
        devices = ",".join((ALONE, ALONE_2, "0000:01:00.0"))
        self.ask("tenant org/a: cannot claim 0000:03:00.0, 0000:04:00.0, 0000:01:00.0: devices of "
                 "org/a: limit 2, used 0, requested 3 [QUOTA]", tenant="org/a", devices=devices)

    def test_tenant_outside_of_the_agent(self):
        self.ask('tenant lab/c: no lease for the container: scope.tenant: "lab/c" is not in the '
                 'caller\'s subtree "org"', tenant="lab/c", devices=ALONE)

    def test_tenant_without_socket(self):
        self.ask("tenant org/x: %s names no socket for it (tenants.org/x)" % self.host.config,
                 tenant="org/x")

    def test_device_not_allowed(self):
        self.ask("tenant org/b: cannot claim 0000:04:00.0: device 0000:04:00.0: policy of org/b "
                 "forbids it (", tenant="org/b", devices=ALONE_2)

    def test_device_unknown(self):
        self.ask('tenant org/a: cannot claim 0000:99:00.0: no device "0000:99:00.0" [NOT_FOUND]',
                 tenant="org/a",
                 devices="0000:99:00.0")

    def test_half_a_group(self):
        self.ask("tenant org/a: cannot claim %s: the group is not complete: %s is missing "
                 "[GROUP_INCOMPLETE]; %s: companion in group 2 must be claimed as well" % (
                     *GROUP, GROUP[1]), tenant="org/a", devices=GROUP[0])

    def test_device_in_use(self):
        other = self.container("holder", ["/bin/tenant", "0"],
                               {"tenant": "org/a", "devices": ALONE})
        self.assertEqual(other.start(), (0, ""))
        other.wait_for("turn 1:")
        code, _, err = self.container("late", ["/bin/tenant", "1"],
                                      {"tenant": "org/b", "devices": ALONE}).run()
        self.assertNotEqual(code, 0)
        self.assertIn("ioasid-oci-hook: tenant org/b: cannot claim 0000:03:00.0: "
                      "0000:03:00.0: claimed by another lease [DEVICE_IN_USE]", err)
        self.assertEqual(list(self.host.claimed().values()), ["org/a"])
        before = len(other.said())
        other.wait_for("turn", after=before)
        other.delete()

    def test_annotations(self):
        for annotations, line in (
                ({"devices": ALONE}, "io.ioasid.tenant: missing, though devices or limits are "
                                     "asked for"),
                ({"tenant": "../lab"}, 'io.ioasid.tenant: "../lab" is no tenant (as "org/team")'),
                ({"tenant": "org/a", "devices": "3:00.0"},
                 'io.ioasid.devices: "3:00.0" is no device (an address as 0000:3b:00.0)'),
                ({"tenant": "org/a", "devices": ALONE + ","},
                 'io.ioasid.devices: "" is no device'),
                ({"tenant": "org/a", "ioasids": "-1"},
                 'io.ioasid.ioasids: "-1": expected a whole number'),
                ({"tenant": "org/a", "memory": "1X"},
                 'io.ioasid.memory: "1X": expected bytes, as 4096, 64K, 512M, 4G or 1T'),
                ({"tenant": "org/a", "memory": "18014398509481984K"},
                 'io.ioasid.memory: "18014398509481984K": expected bytes')):
            with self.subTest(**annotations):
                self.ask(line, **annotations)

    def test_without_annotations_nothing_happens(self):
        self.assertEqual(self.container("plain", ["/bin/busybox", "ls", "/run"]).run(),
                         (0, "ioasid\n" if os.path.exists(self.host.rootfs + "/run/ioasid") else "",
                          ""))

    def test_broker_down(self):
        self.host.server.kill()
        self.host.clear_sockets()
        self.host.write_config(timeout=1)
        code, _, err = self.container("alone", ["/bin/tenant", "1"],
                                      {"tenant": "org/a", "devices": ALONE}).run()
        self.revive()
        self.assertNotEqual(code, 0)
        self.assertIn("ioasid-oci-hook: the broker ioasidd does not answer: no server at %s: "
                      % self.host.server.socket("agents"), err)


class Limits:
    def test_ioasids(self):
        code, out, err = self.run_tenant("ioasids", ALONE, "ioasids", ioasids="3")
        self.assertEqual((code, err), (1, ""))
        lines = out.splitlines()
        self.assertEqual(lines[:3], ["ioasids: 1", "ioasids: 2", "ioasids: 3"])
        self.assertRegex(lines[3], r"^ioasid: ioasids of lease oci-ioasids-[0-9a-f]{16}: limit 3, "
                                   r"used 3, requested 1 \[QUOTA\]$")

    def test_memory(self):
        code, out, _ = self.run_tenant("memory", ALONE, "memory", memory="128K")
        self.assertEqual(code, 1)
        self.assertEqual(out.splitlines()[:2], ["memory: 1", "memory: 2"])
        self.assertIn("registered_bytes of lease oci-memory-", out.splitlines()[2])
        self.assertIn(": limit 131072, used 131072, requested 65536 [QUOTA]", out)

    def test_annotations_do_not_widen(self):
        code, out, _ = self.run_tenant("wide", ALONE, "ioasids", ioasids="100000000")
        self.assertEqual(code, 1)
        self.assertEqual(out.count("ioasids: "), 400)
        self.assertIn("ioasid: ioasids of org/a: limit 400, used 400, requested 1 [QUOTA]", out)

    def test_arguments_and_annotations_add_up(self):
        """CDI: a call for each device, and the lower of two limits."""
        calls = (("--tenant", "org/a", "--device", GROUP[0], "--ioasids", "2"),
                 ("--tenant", "org/a", "--device", GROUP[1]))
        code, out, err = self.container("cdi", ["/bin/tenant", "1"], calls=calls).run()
        self.assertEqual((code, out, err), (0, "turn 1: %s %s\n" % GROUP, ""))
        code, out, _ = self.container("cdi-2", ["/bin/tenant", "ioasids"], {"ioasids": "5"},
                                      calls=calls).run()
        self.assertEqual((code, out.count("ioasids: ")), (1, 2))

    def test_two_tenants(self):
        calls = (("--tenant", "org/a", "--device", ALONE),
                 ("--tenant", "org/b", "--device", ALONE_2))
        code, _, err = self.container("two-tenants", ["/bin/tenant", "1"], calls=calls).run()
        self.assertNotEqual(code, 0)
        self.assertIn("one container has one tenant", err)


class Ends:
    def running(self, name, devices=ALONE, **more):
        container = self.container(name, ["/bin/tenant", "0"],
                                   {"tenant": "org/a", "devices": devices}, **more)
        self.assertEqual(container.start(), (0, ""))
        container.wait_for("turn 2:")
        return container

    def test_poststop_takes_it_from_the_holder(self):
        container = self.running("held")
        lease, = self.host.leases().values()
        self.assertTrue(lease["held"])
        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})
        self.assertEqual(container.delete(), (0, ""))
        # With an init that lives: Direct.test_twice_is_once.
        self.assertEqual(self.host.leases(), {})
        self.assertEqual(self.host.folders(), [])

    def test_init_killed_and_poststop_never_called(self):
        container = self.running("crash", "%s,%s" % (ALONE, ALONE_2), poststop=False)
        container.kill_init()
        self.assertEqual(self.host.wait_idle(folders=False), {})
        self.assertEqual(len(self.host.folders()), 1)
        # The next one tidies up.
        container.delete()
        again = self.running("next")
        self.assertEqual([n[:9] for n in self.host.folders()], ["oci-next-"])
        again.delete()

    def test_same_name_after_a_crash(self):
        for _ in range(5):
            container = self.running("again", poststop=False)
            container.kill_init()
            container.delete()
        last = self.running("again")
        last.delete()

    def test_program_ends_and_the_next_adopts(self):
        """The lease outlives its holder as long as the init lives."""
        script = "/bin/tenant 1; /bin/busybox sleep 0.3; /bin/tenant ioasids | " \
                 "/bin/busybox tail -n 1"
        code, out, _ = self.container("second", ["/bin/sh", "-c", script],
                                      {"tenant": "org/a", "devices": ALONE, "ioasids": "4"}).run()
        lines = out.splitlines()
        self.assertEqual((code, lines[0]), (0, "turn 1: %s" % ALONE))
        self.assertIn("limit 4, used 4", lines[1])

    def test_broker_restarts_under_a_container(self):
        container = self.running("restart")
        self.host.server.kill()
        self.host.clear_sockets()
        self.host.server.start()
        at = len(container.said())
        container.wait_for("turn", after=at)
        container.wait_for("\n", after=at + 200)
        self.assertEqual(len(self.host.leases()), 1)
        # A connect() of its own goes to the new socket.
        with open("/proc/%d/root/run/ioasid/lease.json" % container.pid(), encoding="utf-8") as f:
            self.assertEqual(json.load(f)["lease"], *self.host.leases())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.connect("/proc/%d/root/run/ioasid/ioasid.sock" % container.pid())
        self.assertEqual(container.delete(), (0, ""))
        self.assertEqual(self.host.folders(), [])

    def test_broker_restarts_before_the_init_is_killed(self):
        container = self.running("restart-crash", poststop=False)
        self.host.server.kill()
        self.host.clear_sockets()
        container.kill_init()
        self.host.server.start()
        self.assertEqual(self.host.wait_idle(folders=False), {})
        container.delete()
        self.running("tidy").delete()

    def test_broker_down_at_poststop(self):
        container = self.running("down")
        self.host.write_config(timeout=1)
        self.host.server.kill()
        self.host.clear_sockets()
        code, err = container.delete()
        self.assertIn("ioasid-oci-hook: the broker ioasidd does not answer: no server at ", err)
        self.revive()
        self.assertEqual(self.host.wait_idle(folders=False), {})
        self.running("tidy").delete()

    def test_hook_killed_half_way(self):
        """At many moments; the runtime then ends the container, as a hook has failed."""
        killer = os.path.join(self.host.folder, "killer")
        with open(killer, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nexec 3<&0\n\"%s\" \"$@\" <&3 & pid=$!\nsleep $DELAY\nkill -9 $pid && "
                    "echo hit >>%s/hits\nwait $pid\n" % (self.host.hook, self.host.folder))
        os.chmod(killer, 0o755)
        hits = os.path.join(self.host.folder, "hits")
        left = 0
        for ms in (1, 3, 5, 7, 9, 11, 13, 15, 17, 20, 24, 28, 34, 42, 60):
            wrapper = os.path.join(self.host.folder, "killer-%d" % ms)
            with open(wrapper, "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\nDELAY=%g; export DELAY\nexec %s \"$@\"\n"
                        % (ms / 1000, killer))
            os.chmod(wrapper, 0o755)
            container = self.container("half-%d" % ms, ["/bin/tenant", "1"],
                                       {"tenant": "org/a", "devices": ALONE}, poststop=False,
                                       hook=wrapper)
            container.run()
            container.delete()
            self.assertEqual(self.host.wait_idle(folders=False), {})
            left += len(self.host.folders())
        with open(hits, encoding="utf-8") as f:
            self.assertGreater(len(f.read().splitlines()), 3)
        self.assertGreater(left, 0)
        self.running("tidy").delete()


class Roots:
    """The root file system is the tenant's, who would like to see the host's."""

    def root(self, name):
        root = os.path.join(self.host.folder, "root-" + name)
        shutil.copytree(self.host.rootfs, root, symlinks=True)
        run = os.path.join(root, "run")
        shutil.rmtree(run)
        return root, run

    def check(self, name, root, where="/run/ioasid"):
        code, out, err = self.container(
            name, ["/bin/tenant", "1"], {"tenant": "org/a", "devices": ALONE}, rootfs=root).run()
        self.assertEqual((code, out, err), (0, "turn 1: %s\n" % ALONE, ""))
        self.assertTrue(os.path.isdir(root + where))
        self.assertEqual(os.listdir(root + where), [])

    def test_no_run(self):
        self.check("norun", self.root("norun")[0])

    def test_run_is_a_link_out(self):
        outside = os.path.join(self.host.folder, "outside")
        os.makedirs(outside)
        root, run = self.root("link")
        os.symlink(outside, run)
        os.makedirs(root + outside)
        self.check("link", root, outside + "/ioasid")
        self.assertEqual(os.listdir(outside), [])

    def test_dots(self):
        outside = os.path.join(self.host.folder, "var")
        root, run = self.root("dots")
        os.symlink("../../../../../../../../var", run)
        os.makedirs(root + "/var")
        self.check("dots", root, "/var/ioasid")
        self.assertFalse(os.path.exists(outside))

    def test_ioasid_is_a_link_out(self):
        outside = os.path.join(self.host.folder, "outside-2")
        os.makedirs(outside)
        root, run = self.root("ioasid-link")
        os.makedirs(run)
        os.symlink(outside, run + "/ioasid")
        os.makedirs(root + outside)
        self.check("ioasid-link", root, outside)
        self.assertEqual(os.listdir(outside), [])

    def test_ioasid_is_a_file(self):
        root, run = self.root("file")
        os.makedirs(run)
        with open(run + "/ioasid", "w", encoding="utf-8"):
            pass
        code, _, err = self.container("file", ["/bin/tenant", "1"], {"tenant": "org/a"},
                                      rootfs=root).run()
        self.assertNotEqual(code, 0)
        self.assertIn("ioasid-oci-hook: /run/ioasid of the container: Not a directory", err)

    def test_run_is_a_tmpfs(self):
        tmpfs = {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
        root, run = self.root("tmpfs")
        os.makedirs(run)
        code, out, err = self.container("tmpfs", ["/bin/tenant", "1"], {"tenant": "org/a"},
                                        rootfs=root, mounts=[tmpfs]).run()
        self.assertEqual((code, out, err), (0, "turn 1:\n", ""))
        self.assertEqual(os.listdir(run), [])

    def test_run_is_read_only(self):
        """Runtimes make a tmpfs read-only behind the hooks."""
        tmpfs = {"destination": "/run", "type": "tmpfs", "source": "tmpfs",
                 "options": ["mode=755", "ro"]}
        root, run = self.root("ro")
        os.makedirs(run)
        self.assertEqual(self.container("ro", ["/bin/tenant", "1"], {"tenant": "org/a"},
                                        rootfs=root, mounts=[tmpfs]).run(), (0, "turn 1:\n", ""))

    def test_root_that_cannot_be_written(self):
        """As of an image that is mounted: the folder has to be in it."""
        for made, line in ((False, "ioasid-oci-hook: /run/ioasid of the container: Read-only file "
                                   "system"), (True, "")):
            with self.subTest(made):
                root = os.path.join(self.host.folder, "root-image-%d" % made)
                os.makedirs(root)
                subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
                self.addCleanup(subprocess.run, ["umount", root], check=True)
                shutil.copytree(self.host.rootfs, root, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(root + "/run")
                os.makedirs(root + "/run" + "/ioasid" * made)
                subprocess.run(["mount", "-o", "remount,ro", root], check=True)
                code, out, err = self.container("image-%d" % made, ["/bin/tenant", "1"],
                                                {"tenant": "org/a"}, rootfs=root).run()
                self.assertEqual((code == 0, out), (made, "turn 1:\n" * made), err)
                self.assertIn(line, err)

    def test_odd_bundle(self):
        for number, folder in enumerate(("sp ace", "\u00fcml\u00e4ut \U0001f600", "new\nline",
                                         "q'u\"o\\te $(x)")):
            with self.subTest(folder):
                container = self.container("odd-%d" % number, ["/bin/tenant", "1"],
                                           {"tenant": "org/a", "devices": ALONE}, folder=folder)
                self.assertEqual(container.run(), (0, "turn 1: %s\n" % ALONE, ""))
                self.assertEqual(self.host.folders(), [])

    def test_what_the_container_may_change(self):
        script = ("cd /run/ioasid; busybox ls -a; busybox ls broker; busybox rm -f lease.json; "
                  "busybox touch x; busybox mkdir broker/y; busybox rm -f broker/ioasid.sock; "
                  "busybox id -u")
        code, out, err = self.container("curious", ["/bin/sh", "-c", script], {"tenant": "org/a"},
                                        user=0).run()
        self.assertEqual((code, out.split()), (0, [".", "..", "broker", "ioasid.sock", "lease.json",
                                                   "ioasid.sock", "0"]))
        self.assertEqual(err.count("Read-only file system"), 4, err)

    def test_user_namespace(self):
        container = self.container("userns", ["/bin/tenant", "1"],
                                   {"tenant": "org/a", "devices": ALONE}, namespaces=["user"])
        for ids in ("uidMappings", "gidMappings"):
            container.spec["linux"][ids] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        root, run = self.root("userns")
        os.makedirs(run)
        for path in (self.host.folder, os.path.dirname(container.bundle), container.bundle, root,
                     container.root):
            os.chmod(path, 0o755)
        os.chown(root, 200000, 200000)
        container.spec["root"]["path"] = root
        container.write_spec()
        code, out, err = container.run()
        self.assertEqual((code, out, err), (0, "turn 1: %s\n" % ALONE, ""))


class Nodes:
    """Device nodes, which the hook does not make: a number without driver, so that an open that
    the container's cgroup allows says so (ENXIO), and one that it does not allow is EPERM."""
    NODE, NUMBER = "/dev/vfio/devices/vfio0", (240, 7)

    def nodes(self, name, script, allowed=(), **more):
        """With the rules that podman and containerd write."""
        if self.runtime == "crun" and self.cgroups == "v2" and not may_lock_all():
            self.skipTest("crun raises RLIMIT_MEMLOCK for rules of v2, and this user may not")
        container = self.container(name, ["/bin/sh", "-c", script], {"tenant": "org/a"}, user=0,
                                   **more)
        container.spec["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"},
                                                           *allowed]
        container.write_spec()
        return container

    def opened(self, container, path=None):
        code, out, err = container.run()
        self.assertEqual((code, out), (1, ""), err)
        start = "cat: can't open '%s': " % (path or self.NODE)
        self.assertEqual(err[:len(start)], start)
        return err.removeprefix(start)

    def test_node_that_the_spec_does_not_name(self):
        """As with `-v /dev/vfio:/dev/vfio`: it is there, and cannot be opened."""
        node = os.path.join(self.host.folder, "node-" + self.runtime)
        os.mknod(node, 0o20666, os.makedev(*self.NUMBER))
        mount = {"destination": self.NODE, "type": "bind", "source": node, "options": ["bind"]}
        said = self.opened(self.nodes("bound", "busybox cat " + self.NODE, mounts=[mount]))
        self.assertEqual(said, "Operation not permitted\n")

    def test_node_of_the_spec(self):
        """What CDI makes of a node."""
        major, minor = self.NUMBER
        rule = {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}
        container = self.nodes("named", "busybox cat " + self.NODE, [rule])
        container.spec["linux"]["devices"] = [{"path": self.NODE, "type": "c", "major": major,
                                               "minor": minor, "fileMode": 0o666, "uid": 0,
                                               "gid": 0}]
        container.write_spec()
        self.assertEqual(self.opened(container), "No such device or address\n")

    def test_node_that_the_container_makes(self):
        container = self.nodes("made", "busybox mknod /dev/x c %d %d; busybox cat /dev/x"
                               % self.NUMBER)
        container.spec["process"]["capabilities"] = {
            kind: ["CAP_MKNOD"] for kind in ("bounding", "effective", "permitted")}
        container.write_spec()
        self.assertEqual(self.opened(container, "/dev/x"), "Operation not permitted\n")

    def test_cgroups_are_of_the_version_that_was_asked_for(self):
        container = self.container("version", ["/bin/tenant", "0"], {"tenant": "org/a"})
        self.assertEqual(container.start(), (0, ""))
        container.wait_for("turn 1:")
        where = {"v1": "/sys/fs/cgroup/devices", "v2": "/sys/fs/cgroup"}[self.cgroups]
        with open(where + container.spec["linux"]["cgroupsPath"] + "/cgroup.procs",
                  encoding="utf-8") as f:
            self.assertIn(str(container.pid()), f.read().split())
        container.delete()


class Crowd:
    """Many at once, and killed at any moment."""

    @classmethod
    def setUpClass(cls):
        def change(rules):
            rules["tenants"]["org/a"]["limits"] = {}
        cls.host = Host(BUILD, many_devices(MANY), change)

    def test_started_and_killed(self):
        devices = ["0000:%02x:%02x.0" % (1 + i // 32, i % 32) for i in range(MANY)]
        dice = random.Random(MANY)
        bad = []

        def life(number):
            # A third is killed by its init's death, a third ends with poststop, the others get
            # the signal while they start.
            kind = number % 3
            container = Container(self.host, self.runtime, "crowd-%d" % number,
                                  ["/bin/tenant", "0"],
                                  {"tenant": "org/a", "devices": devices[number]},
                                  poststop=kind == 1)
            if kind == 2:
                process = subprocess.Popen(
                    container.command("run", "--bundle", container.bundle, container.name),
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, start_new_session=True)
                time.sleep(dice.random() * 0.5)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                container.delete()
                container.kill_rest()
                return
            code, err = container.start()
            if code:
                bad.append("%d: %s" % (number, err))
                return
            container.wait_for("turn 1:", 120)
            if kind == 0:
                container.kill_init()
            code, err = container.delete()
            if code:
                bad.append("%d: %s" % (number, err))

        with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
            list(pool.map(life, range(MANY)))
        self.assertEqual(bad, [])
        self.assertEqual(self.host.wait_idle(30, folders=False), {})
        last = self.container("last", ["/bin/tenant", "1"], {"tenant": "org/a"})
        self.assertEqual(last.run(), (0, "turn 1:\n", ""))


def of(runtime):
    """Of the hook and ioasidctl alone ("host"), of each runtime, and of podman above both, run by
    root and by another user."""
    podmans = {"podman": Podman, "rootless": Rootless}
    if runtime in podmans:
        return [type("%s_%s" % (runtime, below), (podmans[runtime], Case),
                     {"below": below, "cgroups": CGROUPS}) for below in ("runc", "crun")]
    kinds = {"host": (Direct, Faults, Cdi, CdiWatch), "faults": (Faults,)}.get(runtime, (
        Basic, Prestart, Refusals, Limits, Ends, Roots, Nodes, Crowd))
    return [type("%s_%s" % (runtime, kind.__name__), (kind, Case), {"runtime": runtime, "cgroups": CGROUPS})
            for kind in kinds]
