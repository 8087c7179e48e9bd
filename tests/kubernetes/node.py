# SPDX-License-Identifier: Apache-2.0
"""A node: a broker with the software IOMMU, the plugin, a kubelet, and programs in pods."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "rpc"))

from support import client as rpc_client  # noqa: E402
from support.orphan import die_with_parent  # noqa: E402
from support.server import Server  # noqa: E402
from support.status import Refused as BrokerRefused  # noqa: E402

import kubelet as kubelet_module  # noqa: E402

IOAS, NIC, NVME = "ioasid.io/ioas", "ioasid.io/nic", "ioasid.io/nvme"
# One more device than a container may have.
ACC, N_ACC = "ioasid.io/acc", 65


class Peer:
    """A client of the broker on one connection."""

    def __init__(self, api, path):
        self.api = api
        self.channel = grpc.insecure_channel("unix:" + path, kubelet_module.OPTIONS + [
            ("grpc.default_authority", "localhost")])

    def __getattr__(self, name):
        if not name[0].isupper():
            raise AttributeError(name)
        method = self.api.method(name)

        def call(**fields):
            try:
                return method.Response.FromString(self.channel.unary_unary(method.path)(
                    method.bytes(fields), timeout=20))
            except grpc.RpcError as error:
                details = b"".join(v for k, v in error.trailing_metadata() or ()
                                   if k == "grpc-status-details-bin")
                raise BrokerRefused(name, error.code().name, error.details() or "", details,
                                    self.api.rpc_status) from None
        return call

    def close(self):
        self.channel.close()


class Node:
    def __init__(self, build, slow=1):
        self.build, self.slow = build, slow
        self.folder = tempfile.mkdtemp(prefix="k8s-")
        self.api = rpc_client.Api(tempfile.mkdtemp(dir=self.folder))
        self.kubelet = kubelet_module.Kubelet(
            self.folder, *kubelet_module.messages(tempfile.mkdtemp(dir=self.folder)))
        with open(os.path.join(HERE, "policy.json")) as f:
            policy = json.load(f)
        with open(os.path.join(HERE, "topology.json")) as f:
            topology = json.load(f)
        topology["devices"] += [
            {"address": "0000:%02x:00.0" % (0x10 + i), "vendor_device": "8086:0b25",
             "class": "088000", "iommu": "dmar0", "group": 100 + i} for i in range(N_ACC)]
        self.server = Server(build, policy, topology, slow)
        for name in ("acme-web", "acme-store"):
            self.server.arguments += ["--listen", "%s=%s:0666" % (name, self.server.socket(name))]
        self.state = os.path.join(self.folder, "state")
        self.log = os.path.join(self.folder, "plugin.log")
        self.config = {
            "version": 1,
            "broker": self.server.socket("agents"),
            "kubelet_dir": self.kubelet.folder,
            "pod_resources": self.kubelet.pod_resources,
            "state_dir": self.state,
            "poll_seconds": 1, "grace_seconds": 1, "settle_seconds": 2,
            "cdi": "ioasid.io/node",
            "namespaces": {
                "web": {"tenant": "acme/web", "socket": self.server.socket("acme-web")},
                "store": {"tenant": "acme/store", "socket": self.server.socket("acme-store")},
                "alien": {"tenant": "other", "socket": self.server.socket("tenants")},
            },
            "resources": [
                {"name": IOAS, "ioas": 8},
                {"name": NIC, "match": {"class": "02"}},
                {"name": NVME, "match": {"vendor_device": "144d:*"}},
                {"name": ACC, "match": {"class": "0880"}},
            ],
        }
        self.process = None

    # ---- the plugin

    def start_plugin(self):
        """With the capabilities that packaging/kubernetes/daemonset.yaml gives it; where it has
        to mount, with one more."""
        path = os.path.join(self.folder, "config.json")
        capabilities = ["dac_override", "fowner"]
        if not self.config["state_dir"].startswith(self.folder):
            capabilities.append("sys_admin")
        with open(path, "w") as f:
            json.dump(self.config, f)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--bounding-set", "-all,+" + ",+".join(capabilities), "--no-new-privs",
                 os.path.join(self.build, "bin", "ioasid-device-plugin"), "--config", path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

    def kill_plugin(self):
        self.process.kill()
        self.process.wait()

    def stop_plugin(self):
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30 * self.slow)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "not ended within 30 s"

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    # ---- the broker

    def admin(self, name, **fields):
        peer = Peer(self.api, self.server.socket("admin"))
        try:
            return getattr(peer, name)(**fields)
        finally:
            peer.close()

    def leases(self):
        """Named ones."""
        return {lease.name: lease for lease in self.admin("ListLeases", page_size=1024).leases
                if lease.name}

    def claimed(self):
        return sorted(d.address for d in self.admin("ListDevices", page_size=1024).devices
                      if d.state != self.api.pb.DEVICE_STATE_FREE)

    def wait(self, test, seconds=10):
        end = time.monotonic() + seconds * self.slow
        while not test():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    # ---- a program in a pod

    def ioasidctl(self, pod, *arguments):
        """(exit status, what it printed), as uid 1000 and with the container's mount at its place."""
        mount, environment = pod.answer.mounts[0], dict(pod.answer.envs)
        script = ('mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p "$1" && '
                  'mount --bind -o ro "$2" "$1" && shift 2 && '
                  'exec setpriv --reuid 1000 --regid 1000 --clear-groups "$@"')
        fd = os.open(os.path.join(self.build, "bin", "ioasidctl"), os.O_RDONLY)
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", mount.container_path, mount.host_path,
             "/proc/self/fd/%d" % fd, *arguments],
            pass_fds=[fd], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment,
                                "LD_LIBRARY_PATH": os.path.join(self.build, "lib")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        os.close(fd)
        return done.returncode, done.stdout + done.stderr

    def lease_of(self, pod):
        with open(os.path.join(pod.folder, "lease.json")) as f:
            return json.load(f)

    def program(self, pod):
        """It holds its lease; (connection, lease file)."""
        lease = self.lease_of(pod)
        peer = Peer(self.api, os.path.join(pod.folder, "ioasid.sock"))
        peer.AdoptLease(name=lease["lease"], secret=bytes.fromhex(lease["secret"]))
        return peer, lease

    def alloc(self, peer, lease, devices=()):
        return peer.Alloc(kind=self.api.pb.IOASID_KIND_KERNEL, lease=lease["lease"],
                          devices=devices).ioasid
