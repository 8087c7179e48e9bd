# SPDX-License-Identifier: Apache-2.0
"""A node with ioasid installed: the broker and the keeper, what the broker tells, images."""
import json
import os
import shutil
import signal
import subprocess
import sys

import cluster
import page
from cluster import Daemon, check_output, output, wait

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
PAGE = os.path.join(TOP, "docs", "integrations", "kubernetes.md")
SHARE = "/usr/share/ioasid/kubernetes"
# What is charged to the host, or to whoever is connected, without any pod.
LINGER = 16
NOT_OF_PODS = {"connections", "requests_in_flight", "watch_streams", "broker_bytes"}


class Node:
    def __init__(self, build, logs):
        self.build, self.logs = build, logs
        self.cluster = cluster.Cluster(logs)
        self.broker = self.keeper = None
        self.pods_pb = None

    # ---- as the page says

    def install(self):
        check_output(["cmake", "--install", self.build, "--prefix", "/usr"])
        # The broker's own places, see packaging/systemd.
        check_output(["install", "-m", "755", os.path.join(self.build, "bin", "ioasidd"),
                      os.path.join(self.build, "bin", "ioasid-keeper"), "/usr/sbin"])
        check_output(["ldconfig"])
        self.messages()
        blocks = page.section(PAGE, "From install to a container")
        (self.node_block, policy, self.image_block, self.plugin_block,
         self.pod_block) = [text for _, text in blocks]
        cluster.write("/etc/ioasid/policy.d/60-kubernetes.json", policy, 0o644)

    def messages(self):
        """PodResources, as a client of it."""
        proto = os.path.join(TOP, "integrations", "kubernetes", "proto")
        os.mkdir("/run/proto")
        check_output(["protoc", "-I" + proto, "--python_out=/run/proto",
                      os.path.join(proto, "podresources.proto")])
        sys.path.insert(0, "/run/proto")
        import podresources_pb2
        self.pods_pb = podresources_pb2

    def do(self, block, **names):
        """The lines of a block of the page; what the last one printed."""
        out = ""
        for line in page.commands(block):
            for name, value in names.items():
                line = line.replace(name, value)
            status, out = output(["sh", "-ec", line], 120, cwd="/run",
                                 env={**os.environ, "KUBECONFIG": cluster.ETC + "/admin.conf"})
            if status:
                raise AssertionError("%s\n%s" % (line, out))
        return out

    def start_broker(self):
        """The page's own lines; without hardware the broker is told of the devices."""
        *before, ioasidd = page.commands(self.node_block)
        # A second time, after a reboot, the user is there already.
        self.do("\n".join(line for line in before
                          if not line.startswith("useradd") or not self.broker))
        os.makedirs("/run/ioasid-keeper", 0o700, exist_ok=True)
        self.keeper = Daemon("keeper", ["ioasid-keeper", "--listen", "/run/ioasid/keeper.sock",
                                        "--no-fdstore", "--max-fds", "4096",
                                        "--max-fds-per-owner", "2048"], self.logs)
        self.keeper.start()
        topology = os.path.join(HERE, "..", "topology.json")
        self.broker = Daemon("ioasidd", ["sh", "-ec", "exec %s --shim soft --topology %s "
                                         "--audit /run/ioasid/audit.log" % (ioasidd, topology)],
                             self.logs)
        self.start_broker_again()

    def start_broker_again(self):
        self.broker.start()
        if not wait(self.answers, 20):
            raise AssertionError("no broker: " + self.broker.tail())

    def make_images(self):
        """The page's image; one with a program that does DMA; the one of every pod's sandbox."""
        self.do(self.image_block)
        make = SHARE + "/make-image"
        for arguments in (["--name", "localhost/tenant:1", "--program",
                           os.path.join(self.build, "tests", "oci_tenant")],
                          ["--name", "localhost/pause:1", "--command", "sleep",
                           "--command", "2147483647"]):
            check_output([make, *arguments, "/run/image.tar"])
            check_output(["ctr", "-n", "k8s.io", "images", "import", "/run/image.tar"])

    def start_plugin(self):
        """The manifest; only the times of the test's own are put into its configuration."""
        with open(SHARE + "/daemonset.yaml") as f:
            text = f.read()
        changed = text.replace('"version": 1,', '"version": 1, "poll_seconds": 1, '
                               '"settle_seconds": 6, "grace_seconds": 2, '
                               '"linger_seconds": %d,' % LINGER)
        assert changed != text
        with open(SHARE + "/daemonset.yaml", "w") as f:
            f.write(changed)
        return self.do(self.plugin_block, NODE=cluster.NODE)

    # ---- the broker

    @staticmethod
    def ask(*arguments):
        status, out = output(["ioasidctl", "-s", "/run/ioasid/admin.sock", "-o", "json",
                              *arguments])
        return json.loads(out) if status == 0 else None

    def answers(self):
        return self.ask("status") is not None

    def leases(self):
        """Of pods, by name; None: no answer."""
        found = self.ask("lease", "list")
        return found and {x["lease"]: x for x in found["leases"] if x["lease"].startswith("k8s.")}

    def lease_of(self, namespace, pod):
        """The only one of a pod, or None."""
        found = [x for name, x in (self.leases() or {}).items()
                 if name.startswith("k8s.%s.%s." % (namespace, pod))]
        return found[0] if len(found) == 1 else None

    def claimed(self):
        return sorted(d["device"] for d in self.ask("device", "list")["devices"]
                      if d["state"] != "free")

    def charges(self):
        """What any tenant has of anything."""
        return [(t["tenant"], r["resource"], r["own"]) for t in self.ask("tenant", "list")["tenants"]
                for r in t["resources"] if r["own"] and r["resource"] not in NOT_OF_PODS
                and not (r["resource"] == "leases" and not t["tenant"])]

    # ---- the kubelet

    def pod_resources(self):
        """{(namespace, pod): {resource: ids}}"""
        import grpc
        with grpc.insecure_channel("unix:/var/lib/kubelet/pod-resources/kubelet.sock", [
                ("grpc.default_authority", "localhost")]) as channel:
            answer = self.pods_pb.ListPodResourcesResponse.FromString(
                channel.unary_unary("/v1.PodResourcesLister/List")(b"", timeout=10))
        return {(p.namespace, p.name): {d.resource_name: list(d.device_ids)
                                        for c in p.containers for d in c.devices}
                for p in answer.pod_resources}

    def allocatable(self):
        node = self.cluster.get("node", cluster.NODE) or {"status": {}}
        return {name.split("/")[1]: amount
                for name, amount in node["status"].get("allocatable", {}).items()
                if name.startswith("ioasid.io/")}

    @staticmethod
    def pids(program):
        """Processes on the node of that name."""
        return [int(pid) for pid in output(["pgrep", "-f", program])[1].split()]

    @staticmethod
    def mounts():
        with open("/proc/self/mountinfo") as f:
            return [line.split()[4] for line in f if "/run/ioasid" in line.split()[4]]

    def reboot(self):
        """As if the power had gone: no process and no file in memory is left but the control
        plane's, which is another machine's as a rule."""
        for name in ("kubelet", "containerd"):
            self.cluster.daemons[name].end(signal.SIGKILL)
        self.broker.end(signal.SIGKILL)
        self.keeper.end(signal.SIGKILL)
        subprocess.run(["pkill", "-KILL", "-f", "^/?[^ ]*containerd-shim-runc-v2"], check=True)
        wait(lambda: not self.kill_containers(), 20)
        for place in ("/run/containerd", "/run/ioasid", "/run/runc"):
            with open("/proc/self/mountinfo") as f:
                below = [line.split()[4] for line in f if line.split()[4].startswith(place)]
            for mount in reversed(below):
                check_output(["umount", "-l", mount])
            shutil.rmtree(place, ignore_errors=True)
        os.mkdir("/run/containerd")
        self.start_broker()
        for name in ("containerd", "kubelet"):
            self.cluster.daemons[name].start()

    @staticmethod
    def kill_containers():
        """Those that were there."""
        pids = []
        for at, _, files in os.walk("/sys/fs/cgroup/pids/kubepods"):
            with open(os.path.join(at, "cgroup.procs")) as f:
                pids += [int(pid) for pid in f.read().split()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    def kill_plugin(self):
        subprocess.run(["pkill", "-KILL", "-x", "-f",
                        "ioasid-device-plugin --config /etc/ioasid/kubernetes.json"], check=True)
