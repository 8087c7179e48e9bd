# SPDX-License-Identifier: Apache-2.0
"""podman run by a user who is not root: everything that root's does, by the policy's rule for
this user's uid, and what only such a user meets.

The user is in the runner's own /etc (podman.py), with a range of ids below the ones given out on
hosts; nothing of it is on the host."""
import json
import os
import shutil
import subprocess

from .host import ALONE, Host, ROOTLESS
from .podman import Podman

STRANGER = ROOTLESS + 1
IDS = 300000


class Rootless(Podman):
    noise = ("Resource limits are not supported and ignored on cgroups V1 rootless",
             "is not a shared mount, this could cause issues")
    rules_of_v2 = False
    node_says = "No such device or address"

    @classmethod
    def make_host(cls, build):
        def change(rules):
            rules["identities"] = [rule for rule in rules["identities"]
                                   if rule.get("uid") != ROOTLESS]
            rules["identities"].append({"socket": "agents", "uid": ROOTLESS, "role": "agent",
                                        "subtree": "org"})
        return Host(build, change=change)

    @classmethod
    def prepare(cls):
        super().prepare()
        for number, uid in enumerate((ROOTLESS, STRANGER)):
            for name, line in (("passwd", "%d:%d::%s/home-%d:/bin/sh" % (uid, uid, cls.place, uid)),
                               ("group", "%d:" % uid)):
                with open("/etc/" + name, "a", encoding="utf-8") as f:
                    f.write("ioasid-%d:x:%s\n" % (uid, line))
            for name in ("subuid", "subgid"):
                with open("/etc/" + name, "a", encoding="utf-8") as f:
                    f.write("ioasid-%d:%d:65536\n" % (uid, IDS + number * 65536))
            for kind in ("home", "run"):
                path = os.path.join(cls.place, "%s-%d" % (kind, uid))
                os.makedirs(path, mode=0o700)
                os.chown(path, uid, uid)
        os.chmod(cls.host.folder, 0o755)
        # A rootless runtime makes the mount of the tenant's folder itself, so it has to get there.
        os.chmod(cls.tenants_folder(), 0o711)
        cls.host.state = os.path.join(cls.place, "run-%d" % ROOTLESS, "ioasid-oci")
        cls.host.write_config()
        for uid in (ROOTLESS, STRANGER):
            root = "%s/rootfs-%d" % (cls.place, uid)
            shutil.copytree(cls.host.rootfs, root, symlinks=True)
            for folder, names, files in os.walk(root):
                for name in [".", *names, *files]:
                    os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)

    @classmethod
    def tearDownClass(cls):
        # podman of a user leaves a process that holds its namespaces.
        for uid in (ROOTLESS, STRANGER):
            subprocess.run(["pkill", "-KILL", "-U", str(uid)], check=False)
        super().tearDownClass()

    @classmethod
    def tenants_folder(cls):
        return os.path.dirname(os.path.dirname(cls.host.tenant_sockets["org/a"]))

    uid = ROOTLESS

    def base(self):
        home, run = ("%s/%s-%d" % (self.place, kind, self.uid) for kind in ("home", "run"))
        return ["--root", home + "/root", "--runroot", run + "/runroot", "--tmpdir", run + "/tmp"]

    def rootfs(self):
        return "%s/rootfs-%d" % (self.place, self.uid)

    def identity(self):
        return {"user": self.uid, "group": self.uid, "extra_groups": [],
                "cwd": "%s/home-%d" % (self.place, self.uid)}

    def environment(self):
        return {**super().environment(), "HOME": "%s/home-%d" % (self.place, self.uid),
                "XDG_RUNTIME_DIR": "%s/run-%d" % (self.place, self.uid)}

    def as_stranger(self):
        self.uid = STRANGER
        self.addCleanup(delattr, self, "uid")

    def hooks_of(self, name, **changes):
        """A hooks folder and a configuration of a user's own."""
        folder = os.path.join(self.place, name)
        os.makedirs(folder)
        with open(self.host.config, encoding="utf-8") as f:
            config = {**json.load(f), **changes}
        with open(folder + "/config", "w", encoding="utf-8") as f:
            json.dump(config, f)
        for entry in os.listdir(self.place + "/hooks"):
            with open(os.path.join(self.place, "hooks", entry), encoding="utf-8") as f:
                text = f.read()
            with open(os.path.join(folder, entry), "w", encoding="utf-8") as f:
                f.write(text.replace(self.host.config, folder + "/config"))
        return name

    def test_who_it_is(self):
        """The broker sees this user and not root; the lease is watched by the init's pidfd."""
        self.running()
        folder, = self.host.folders()
        self.assertEqual(os.stat(os.path.join(self.host.state, folder)).st_uid, ROOTLESS)
        lease, = self.host.leases().values()
        self.assertEqual(lease["tenant"], "org/a")

    def test_user_that_the_policy_does_not_know(self):
        self.as_stranger()
        hooks = self.hooks_of("stranger", state_dir="%s/run-%d/oci" % (self.place, STRANGER))
        self.refused(self.annotated("org/a", ALONE, hooks=hooks),
                     'tenant org/a: no lease for the container: policy knows no tenant for uid %d '
                     'on socket "agents" [NO_TENANT]' % STRANGER)

    def test_closed_socket_of_the_agents(self):
        """As it is where root's runtime alone is to start containers."""
        path = self.host.server.socket("agents")
        mode = os.stat(path).st_mode & 0o7777
        os.chmod(path, 0o600)
        self.addCleanup(os.chmod, path, mode)
        self.refused(self.annotated("org/a", ALONE),
                     "the broker ioasidd does not answer: no server at %s: Permission denied" % path)

    def test_state_of_somebody_else(self):
        """/run/ioasid-oci is root's, as the folder of this user is no other user's."""
        self.as_stranger()
        self.refused(self.annotated("org/a", ALONE),
                     "cannot make state_dir %s: Permission denied" % self.host.state)

    def test_closed_folder_of_the_sockets(self):
        os.chmod(self.tenants_folder(), 0o700)
        self.addCleanup(os.chmod, self.tenants_folder(), 0o711)
        self.refused(self.annotated("org/a", ALONE),
                     "cannot clone the mount of the tenant's socket, %s: Permission denied"
                     % os.path.dirname(self.host.tenant_sockets["org/a"]))

    def test_other_ids_in_the_container(self):
        """A user namespace within the user's."""
        code, out, err = self.run_podman(
            "--rm", "--userns", "keep-id", "--annotation", "io.ioasid.tenant=org/a",
            "--annotation", "io.ioasid.devices=" + ALONE)
        self.assertEqual((code, out), (0, "turn 1: %s\n" % ALONE), err)
