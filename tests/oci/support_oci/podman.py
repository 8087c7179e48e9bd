# SPDX-License-Identifier: Apache-2.0
"""podman, with either runtime below: by a folder of hooks, and by CDI names.

podman looks for CDI files in /etc/cdi and nowhere else that could be told: the runner's mount
namespace gets an /etc of its own above the host's.
"""
import json
import os
import signal
import subprocess
import time
import unittest

from .host import ALONE, ALONE_2, GROUP, may_lock_all

PACKAGING = os.path.join(os.path.dirname(__file__), "..", "..", "..", "packaging", "oci")
CONFIG = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Podman:
    below = None
    # What podman says of this kind of host, and not of what a test does.
    noise = ()
    # Whether the runtime gives the kernel device rules where cgroups are of v2.
    rules_of_v2 = True

    @classmethod
    def setUpClass(cls):
        if cls.rules_of_v2 and cls.below == "crun" and cls.cgroups == "v2" and not may_lock_all():
            raise unittest.SkipTest("crun raises RLIMIT_MEMLOCK for rules of v2, and this user may not")
        super().setUpClass()
        try:
            cls.prepare()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def prepare(cls):
        host = cls.host
        cls.place = os.path.join(host.folder, "podman")
        os.makedirs(cls.place)
        # An overlay's upper layer is not to be on an overlay.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", cls.place], check=True)
        for name in ("upper", "work", "hooks", "prestart"):
            os.makedirs(os.path.join(cls.place, name))
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=/etc,upperdir=%s/upper,"
                        "workdir=%s/work" % (cls.place, cls.place), "/etc"], check=True)
        with open(os.path.join(cls.place, "containers.conf"), "w", encoding="utf-8") as f:
            f.write(CONFIG)
        for name in ("ioasid-hook.json", "ioasid-hook-poststop.json"):
            with open(os.path.join(PACKAGING, name), encoding="utf-8") as f:
                entry = json.load(f)
            # As it is shipped, but for where hook and configuration are.
            entry["hook"]["path"] = host.hook
            entry["hook"]["args"] += ["--config", host.config]
            with open(os.path.join(cls.place, "hooks", name), "w", encoding="utf-8") as f:
                json.dump(entry, f)
            text = json.dumps(entry).replace("createRuntime", "prestart")
            with open(os.path.join(cls.place, "prestart", name), "w", encoding="utf-8") as f:
                f.write(text)
        host.ctl("-t", "org/a", "cdi", "generate", "--hook", host.hook, "--hook-config",
                 host.config, socket="agents")
        # podman makes them, and the root is one for all.
        for name in ("ioasid", ".containerenv"):
            os.makedirs(os.path.join(host.rootfs, "run", name), exist_ok=True)
        os.rmdir(os.path.join(host.rootfs, "run", ".containerenv"))

    @classmethod
    def tearDownClass(cls):
        for path in ("/etc", cls.place):
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)
        super().tearDownClass()

    def base(self):
        """Where this user's podman keeps things."""
        return ["--root", self.place + "/root", "--runroot", self.place + "/runroot", "--tmpdir",
                self.place + "/tmp"]

    def rootfs(self):
        return self.host.rootfs

    def identity(self):
        return {}

    def environment(self):
        return {**os.environ, "CONTAINERS_CONF": os.path.join(self.place, "containers.conf")}

    def podman(self, *words, hooks="hooks"):
        base = ["podman", *self.base(), "--runtime", self.below]
        if hooks:
            base += ["--hooks-dir", os.path.join(self.place, hooks)]
        done = subprocess.run([*base, *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120, check=False, env=self.environment(),
                              **self.identity())
        err = [line for line in done.stderr.splitlines(True)
               if not any(noise in line for noise in self.noise)]
        return done.returncode, done.stdout, "".join(err)

    def run_podman(self, *options, program=("/bin/tenant", "1"), hooks="hooks", detach=()):
        return self.podman("run", *detach, "--network", "none", "--pids-limit", "0", "--user",
                           "1000", *options, "--rootfs", self.rootfs(), *program, hooks=hooks)

    def annotated(self, tenant, devices, **more):
        return self.run_podman("--rm", "--annotation", "io.ioasid.tenant=" + tenant,
                               "--annotation", "io.ioasid.devices=" + devices, **more)

    def by_name(self, *devices, **more):
        names = ["--device=ioasid.io/device=org-a-" + d.replace(":", "_") for d in devices]
        return self.run_podman("--rm", *names, hooks=None, **more)

    def test_hooks_dir(self):
        self.assertEqual(self.annotated("org/a", "%s %s" % (ALONE, ALONE_2)),
                         (0, "turn 1: %s %s\n" % (ALONE, ALONE_2), ""))
        # Its poststop came.
        self.assertEqual(self.host.folders(), [])

    def test_hooks_dir_that_names_prestart(self):
        self.assertEqual(self.annotated("org/a", ALONE, hooks="prestart"),
                         (0, "turn 1: %s\n" % ALONE, ""))
        self.assertEqual(self.host.folders(), [])

    # The kernel asks the container's device rules first, and then who has this number: nobody.
    node_says = "Operation not permitted"

    def test_node_that_is_mounted(self):
        node = os.path.join(self.place, "node")
        if not os.path.exists(node):
            os.mknod(node, 0o20666, os.makedev(240, 7))
            os.chmod(node, 0o666)
        code, out, err = self.run_podman("--rm", "-v", node + ":/dev/vfio/devices/vfio0",
                                         program=("/bin/busybox", "cat", "/dev/vfio/devices/vfio0"))
        self.assertEqual((code, out, err), (1, "", "cat: can't open '/dev/vfio/devices/vfio0': %s\n"
                                            % self.node_says))

    def refused(self, result, line):
        code, out, err = result
        self.assertEqual((code in (126, 127), out), (True, ""), err)
        if self.below == "crun":
            # crun gives hooks no stderr (the hook tells the system's log), unless asked.
            self.assertIn("error executing hook", err)
        else:
            self.assertEqual(err.count("ioasid-oci-hook:"), 1, err)
            self.assertIn("ioasid-oci-hook: " + line, err.replace('\\"', '"'))
        # podman calls no poststop for what never started.
        self.assertEqual(self.host.wait_idle(), {})

    def test_over_quota(self):
        devices = " ".join((ALONE, ALONE_2, "0000:01:00.0"))
        self.refused(self.annotated("org/a", devices),
                     "tenant org/a: cannot claim 0000:03:00.0, 0000:04:00.0, 0000:01:00.0: devices "
                     "of org/a: limit 2, used 0, requested 3 [QUOTA]")

    def test_over_quota_by_name(self):
        self.refused(self.by_name(ALONE, ALONE_2, "0000:01:00.0"),
                     "tenant org/a: cannot claim ")

    def test_message_where_the_operator_asks_crun_for_it(self):
        said = os.path.join(self.base()[1], "said")
        self.run_podman("--rm", "--annotation", "run.oci.hooks.stderr=" + said, "--annotation",
                        "io.ioasid.tenant=lab/c")
        if self.below == "crun":
            with open(said, encoding="utf-8") as f:
                self.assertIn('scope.tenant: "lab/c" is not in the caller\'s subtree "org"',
                              f.read())

    def test_tenant_of_somebody_else(self):
        self.refused(self.annotated("lab/c", ALONE),
                     'tenant lab/c: no lease for the container: scope.tenant: "lab/c" is not in '
                     'the caller\'s subtree "org"')

    def test_without_annotation_the_hook_is_not_called(self):
        code, out, _ = self.run_podman("--rm", program=("/bin/busybox", "ls", "/run/ioasid"))
        self.assertEqual((code, out), (0, ""))

    def test_one_name(self):
        self.assertEqual(self.by_name(ALONE), (0, "turn 1: %s\n" % ALONE, ""))
        self.assertEqual(self.host.folders(), [])

    def test_names_of_one_container_are_one_lease(self):
        """The two devices of a group: neither could be claimed without the other."""
        self.assertEqual(self.by_name(*GROUP), (0, "turn 1: %s %s\n" % GROUP, ""))
        self.assertEqual(self.host.folders(), [])

    def test_environment_of_a_name(self):
        code, out, _ = self.by_name(ALONE, program=("/bin/busybox", "env"))
        self.assertEqual(code, 0)
        self.assertIn("IOASID_SOCKET=/run/ioasid/ioasid.sock\n", out)
        self.assertIn("IOASID_LEASE_FILE=/run/ioasid/lease.json\n", out)

    def test_name_that_is_not_there(self):
        code, _, err = self.by_name("0000:99:00.0")
        self.assertNotEqual(code, 0)
        self.assertIn("unresolvable CDI devices", err)

    def running(self):
        code, name, err = self.annotated("org/a", ALONE, program=("/bin/tenant", "0"),
                                         detach=("--detach",))
        self.assertEqual(code, 0, err)
        name = name.strip()
        self.addCleanup(self.podman, "rm", "--force", "--time", "0", "--ignore", name)
        end = time.monotonic() + 20
        while "turn 2:" not in self.podman("logs", name)[1]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})
        return name

    def test_removed_while_it_runs(self):
        name = self.running()
        self.assertEqual(self.podman("rm", "--force", "--time", "0", name)[0], 0)
        self.assertEqual(self.host.wait_idle(), {})

    def test_init_killed(self):
        name = self.running()
        pid = self.podman("inspect", "--format", "{{.State.Pid}}", name)[1]
        os.kill(int(pid), signal.SIGKILL)
        self.assertEqual(self.host.wait_idle(folders=False), {})
        self.podman("rm", "--force", "--ignore", name)
