# SPDX-License-Identifier: Apache-2.0
"""The host of a test: a broker with a socket for agents and one for each tenant, the hook's
configuration, a root file system, and what an administrator sees of all of it."""
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time

from support.server import SERVER_UID, Server

# tenant -> name of its socket
TENANTS = {"org/a": "org-a", "org/b": "org-b", "lab/c": "lab-c"}
# A user who starts containers without being root.
ROOTLESS = 61200
ALONE, ALONE_2 = "0000:03:00.0", "0000:04:00.0"
GROUP = ("0000:02:00.0", "0000:02:00.1")
TOPOLOGY = os.path.join(os.path.dirname(__file__), "..", "..", "cli", "topology.json")


def many_devices(n):
    """A topology of n devices, each alone in its group."""
    with open(TOPOLOGY, encoding="utf-8") as f:
        topology = json.load(f)
    topology["devices"] = [
        {"address": "0000:%02x:%02x.0" % (1 + i // 32, i % 32), "vendor_device": "144d:a808",
         "class": "010802", "iommu": "dmar1", "group": i + 1, "numa_node": 0} for i in range(n)]
    return topology


def policy():
    agent = {"socket": "agents", "uid": 0, "role": "agent", "subtree": "org"}
    return {
        "version": 1,
        "tenants": {
            "org": {"limits": {}, "devices": [{"any": True}]},
            "org/a": {"limits": {"devices": 2, "ioasids": 400, "registered_bytes": "1G"}},
            "org/b": {"limits": {"leases": 4}, "devices": [{"address": ALONE}]},
            "lab": {"limits": {}, "devices": [{"any": True}]},
            "lab/c": {"limits": {}},
        },
        "identities": [
            agent, {"socket": "agents", "uid": ROOTLESS, "role": "agent", "subtree": "lab"},
            {"socket": "admin", "role": "admin"},
            *({"socket": name, "role": "tenant", "tenant": tenant}
              for tenant, name in TENANTS.items()),
        ],
    }


def may_lock_all():
    """crun raises this limit before it gives the kernel device rules of cgroup v2."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK,
                           (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (PermissionError, ValueError):
        return False
    resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    return True


class Host:
    def __init__(self, build, topology=None, change=lambda policy: None):
        self.build = build
        self.hook = os.path.join(build, "bin", "ioasid-oci-hook")
        self.folder = tempfile.mkdtemp(prefix="ioasid-oci-")
        rules = policy()
        change(rules)
        if topology is None:
            with open(TOPOLOGY, encoding="utf-8") as f:
                topology = json.load(f)
        # Memory of a tenant outlives the broker in the keeper.
        self.server = Server(build, rules, topology, keeper=True)
        self.tenant_sockets = {}
        for tenant, name in TENANTS.items():
            folder = os.path.join(self.server.run, "tenants", name)
            os.makedirs(folder)
            os.chown(os.path.dirname(folder), SERVER_UID, SERVER_UID)
            os.chown(folder, SERVER_UID, SERVER_UID)
            self.tenant_sockets[tenant] = os.path.join(folder, "ioasid.sock")
            self.server.arguments += ["--listen", "%s=%s:0666" % (name,
                                                                   self.tenant_sockets[tenant])]
        os.chmod(os.path.join(self.server.run, "tenants"), 0o700)
        self.state = os.path.join(self.folder, "state")
        self.config = os.path.join(self.folder, "oci-hook.json")
        self.write_config()
        self.rootfs = os.path.join(self.folder, "rootfs")
        try:
            self._make_rootfs()
            self.server.start()
        except BaseException:
            self.server.remove()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def write_config(self, **changes):
        config = {"socket": self.server.socket("agents"), "state_dir": self.state, "timeout": 20,
                  "tenants": {t: {"socket": s} for t, s in self.tenant_sockets.items()}}
        config.update(changes)
        with open(self.config, "w", encoding="utf-8") as f:
            json.dump(config, f)

    def _make_rootfs(self):
        """busybox, the tenant's program, and the libraries that it needs."""
        for name in ("bin", "proc", "dev", "sys", "tmp", "run", "etc"):
            os.makedirs(os.path.join(self.rootfs, name))
        shutil.copy(shutil.which("busybox"), os.path.join(self.rootfs, "bin", "busybox"))
        os.symlink("busybox", os.path.join(self.rootfs, "bin", "sh"))
        program = os.path.join(self.build, "tests", "oci_tenant")
        shutil.copy(program, os.path.join(self.rootfs, "bin", "tenant"))
        listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for path in re.findall(r"(?:=> |^\s*)(/\S+)", listing.stdout, re.M):
            # Where the loader looks by itself, but for its own path.
            target = path if "ld-linux" in path else "/usr/lib/" + os.path.basename(path)
            target = self.rootfs + target
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)

    def clear_sockets(self):
        self.server.clear()
        for path in self.tenant_sockets.values():
            if os.path.exists(path):
                os.unlink(path)

    def ctl(self, *words, socket="admin", code=0):
        done = subprocess.run([os.path.join(self.build, "bin", "ioasidctl"), "-o", "json", "-s",
                               self.tenant_sockets.get(socket) or self.server.socket(socket),
                               *words], capture_output=True,
                              text=True, timeout=60, check=False)
        if done.returncode != code:
            raise AssertionError("ioasidctl %s: %d: %s" % (words, done.returncode, done.stderr))
        return json.loads(done.stdout) if done.stdout else {}

    def leases(self):
        """Named ones, by name."""
        return {l["lease"]: l for l in self.ctl("lease", "list")["leases"] if l["lease"]}

    def claimed(self):
        return {d["device"]: d["tenant"] for d in self.ctl("device", "list")["devices"]
                if d["state"] not in ("free", "host")}

    def charged(self):
        """What tenants are charged, broker_bytes and all; the connection of hooks' too."""
        return {(t["tenant"], r["resource"]): r["used"]
                for t in self.ctl("tenant", "list")["tenants"] if t["tenant"]
                for r in t["resources"] if int(r["used"])}

    def folders(self):
        return sorted(os.listdir(self.state)) if os.path.isdir(self.state) else []

    def problems(self, folders=True):
        """What is left."""
        left = {"leases": self.leases(), "claimed": self.claimed(), "charged": self.charged(),
                "check": self.ctl("check")["problems"]}
        if folders:
            left["folders"] = self.folders()
        return {name: what for name, what in left.items() if what}

    def wait_idle(self, seconds=10, folders=True):
        end = time.monotonic() + seconds
        while True:
            problems = self.problems(folders)
            if not problems or time.monotonic() > end:
                return problems
            time.sleep(0.05)

    def close(self):
        problems = self.server.stop()
        self.server.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        return problems
