# SPDX-License-Identifier: Apache-2.0
"""
Kubernetes on one node: etcd, apiserver, controller-manager, scheduler, kubelet, containerd, each a
process that can be killed and started again.  Runs on the machine that `machine` makes, at the
paths that a node has.
"""
import json
import os
import secrets
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "rpc"))

from support.orphan import die_with_parent  # noqa: E402

ADDRESS, NODE = "192.0.2.1", "node"
ETC, PKI = "/etc/kubernetes", "/etc/kubernetes/pki"
CONTAINERD = "/run/containerd/containerd.sock"
USERS = {"admin": "system:masters", "system:kube-scheduler": "",
         "system:kube-controller-manager": "", "system:node:" + NODE: "system:nodes"}


def wait(test, seconds, every=0.2):
    """The first true answer, or the last one."""
    end = time.monotonic() + seconds
    while True:
        answer = test()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(every)


def write(path, content, mode=0o600):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(content if isinstance(content, str) else json.dumps(content, indent=1))
    os.chmod(path, mode)


def output(arguments, timeout=60, **more):
    """(exit status, what it printed)."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, **more)
    return done.returncode, done.stdout


def check_output(arguments, **more):
    status, out = output(arguments, 120, **more)
    if status:
        raise AssertionError("%s: %s" % (" ".join(arguments), out[-2000:]))
    return out


class Daemon:
    def __init__(self, name, arguments, logs):
        self.name, self.arguments = name, arguments
        self.log = os.path.join(logs, name + ".log")
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)

    def end(self, how=signal.SIGTERM, seconds=30):
        """The exit status."""
        if not self.process:
            return None
        self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def runs(self):
        return self.process.poll() is None

    def tail(self, lines=15):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-lines:])


class Cluster:
    def __init__(self, logs, start_seconds=180):
        self.logs, self.start_seconds = logs, start_seconds
        self.tokens = {user: secrets.token_hex(16) for user in USERS}
        self.daemons = {}
        self.configure()

    # ---- configuration

    def configure(self):
        write(ETC + "/tokens.csv", "".join(
            '%s,%s,%d,"%s"\n' % (self.tokens[user], user, i, group)
            for i, (user, group) in enumerate(USERS.items())))
        for user in USERS:
            write("%s/%s.conf" % (ETC, user.split(":")[-1]), {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {
                    "server": "https://%s:6443" % ADDRESS,
                    "certificate-authority": PKI + "/apiserver.crt"}}],
                "users": [{"name": "u", "user": {"token": self.tokens[user]}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        os.makedirs(PKI, exist_ok=True)
        for command in ("genrsa -out %s/sa.key 2048", "rsa -in %s/sa.key -pubout -out %s/sa.pub"):
            subprocess.run(["openssl"] + command.replace("%s", PKI).split(), check=True,
                           capture_output=True)
        for name in ("none", "loopback"):
            os.makedirs("/opt/cni/bin", exist_ok=True)
            os.symlink(os.path.join(HERE, "cni"), "/opt/cni/bin/" + name)
        write("/etc/cni/net.d/10-none.conf", {"cniVersion": "0.3.1", "name": "none",
                                              "type": "none"})
        write("/etc/containerd/config.toml", """
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
                    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
""")
        write("/etc/kubernetes/kubelet.json", {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs", "failSwapOn": False, "makeIPTablesUtilChains": False,
            "enforceNodeAllocatable": ["pods"], "resolvConf": "", "oomScoreAdj": 0,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            # What is full on the machine is not what is tested.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%",
                             "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
            "nodeStatusUpdateFrequency": "2s", "syncFrequency": "2s"})

    def add(self, name, *arguments):
        self.daemons[name] = Daemon(name, list(arguments), self.logs)
        self.daemons[name].start()
        return self.daemons[name]

    # ---- start

    def start(self):
        """None, or what does not come up."""
        self.add("etcd", "etcd", "--data-dir", "/var/lib/etcd/data", "--name", NODE)
        self.add("containerd", "containerd")
        self.add("apiserver", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
                 "--cert-dir=" + PKI, "--advertise-address=" + ADDRESS,
                 "--service-cluster-ip-range=203.0.113.0/24", "--allow-privileged=true",
                 "--token-auth-file=" + ETC + "/tokens.csv", "--authorization-mode=Node,RBAC",
                 "--enable-admission-plugins=NodeRestriction", "--endpoint-reconciler-type=none",
                 "--kubelet-preferred-address-types=InternalIP",
                 "--service-account-issuer=https://kubernetes.invalid",
                 "--service-account-key-file=" + PKI + "/sa.pub",
                 "--service-account-signing-key-file=" + PKI + "/sa.key")
        if not wait(lambda: self.kubectl("get", "--raw", "/readyz")[0] == 0, self.start_seconds):
            return "apiserver"
        self.add("controller-manager", "kube-controller-manager", "--leader-elect=false",
                 "--use-service-account-credentials=true",
                 "--kubeconfig=" + ETC + "/kube-controller-manager.conf",
                 "--service-account-private-key-file=" + PKI + "/sa.key",
                 "--root-ca-file=" + PKI + "/apiserver.crt")
        self.add("scheduler", "kube-scheduler", "--leader-elect=false",
                 "--kubeconfig=" + ETC + "/kube-scheduler.conf")
        self.add("kubelet", "kubelet", "--config=/etc/kubernetes/kubelet.json",
                 "--kubeconfig=" + ETC + "/node.conf", "--container-runtime=remote",
                 "--container-runtime-endpoint=unix://" + CONTAINERD,
                 "--hostname-override=" + NODE, "--node-ip=" + ADDRESS)
        if not wait(self.node_is_ready, self.start_seconds):
            return "kubelet"
        return None

    def stop(self):
        for name in ("kubelet", "scheduler", "controller-manager", "apiserver", "etcd",
                     "containerd"):
            if name in self.daemons:
                self.daemons[name].end(seconds=5)

    def restart(self, name, how=signal.SIGTERM):
        self.daemons[name].end(how)
        self.daemons[name].start()

    # ---- kubectl

    def kubectl(self, *arguments, timeout=60):
        return output(["kubectl", "--kubeconfig", ETC + "/admin.conf", *arguments], timeout)

    def get(self, *arguments):
        """The object; None if there is none, or no answer."""
        status, out = self.kubectl("get", "-o", "json", *arguments)
        return json.loads(out) if status == 0 else None

    def node_is_ready(self):
        node = self.get("node", NODE)
        return node and any(c["type"] == "Ready" and c["status"] == "True"
                            for c in node["status"].get("conditions", []))

    def apply(self, thing):
        path = "/run/apply.json"
        write(path, thing)
        status, out = self.kubectl("apply", "-f", path)
        if status:
            raise AssertionError("kubectl apply: " + out)

    # ---- pods

    def pod(self, namespace, name):
        return self.get("-n", namespace, "pod", name)

    def phase(self, namespace, name):
        pod = self.pod(namespace, name)
        return pod and pod["status"].get("phase")

    def container(self, namespace, name):
        """The status of its only container, or {}."""
        pod = self.pod(namespace, name)
        statuses = pod and pod["status"].get("containerStatuses")
        return statuses[0] if statuses else {}

    def runs(self, namespace, name):
        return "running" in self.container(namespace, name).get("state", {})

    def log(self, namespace, name, *more):
        return self.kubectl("-n", namespace, "logs", name, *more)[1]

    def events(self, namespace, name, reason=None):
        """Messages about a pod, the last one first."""
        found = self.get("-n", namespace, "events", "--field-selector",
                         "involvedObject.name=" + name) or {"items": []}
        items = sorted(found["items"], key=lambda e: e.get("lastTimestamp") or "", reverse=True)
        return [e["message"] for e in items if not reason or e["reason"] == reason]

    def delete(self, namespace, name, grace=1):
        self.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=%d" % grace,
                     "--ignore-not-found", timeout=120)
