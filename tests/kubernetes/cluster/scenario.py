# SPDX-License-Identifier: Apache-2.0
"""
The tests, one after the other on one node; after each no pod, lease, claim or charge may be
left.  The first ones are the page's lines from install to a container.
"""
import os
import re
import signal
import time
import traceback

from cluster import NODE, wait
from node import LINGER, Node

DAEMONSET = "ioasid-system"
PLUGIN = "app=ioasid-device-plugin"
NICS = ["0000-01-00.0", "0000-02-00.0_0000-02-00.1", "0000-05-00.0"]


def check(true, *words):
    if not true:
        raise AssertionError(" ".join(str(w) for w in words))


def equal(a, b, *words):
    check(a == b, "%r is not %r" % (a, b), *words)


def pod(namespace, name, command, limits, image="localhost/tenant:1", **spec):
    """With a program of a user without privileges."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                 "automountServiceAccountToken": False, **spec,
                 "containers": [{
                     "name": "main", "image": image, "imagePullPolicy": "Never",
                     "command": command,
                     "securityContext": {"runAsUser": 1000, "runAsNonRoot": True,
                                         "allowPrivilegeEscalation": False,
                                         "capabilities": {"drop": ["ALL"]}},
                     "resources": {"limits": {"ioasid.io/" + k: v for k, v in limits.items()}}}]}}


FOREVER = ["oci_tenant", "0"]
SLEEP = ["sleep", "1000000"]


class Tests:
    def __init__(self, node):
        self.node, self.cluster = node, node.cluster
        self.started = []

    # ---- help

    def apply(self, namespace, name, command, limits, **more):
        self.started.append((namespace, name))
        self.cluster.apply(pod(namespace, name, command, limits, **more))

    def start(self, namespace, name, command, limits, **more):
        """Its lease, when the container runs."""
        self.apply(namespace, name, command, limits, **more)
        check(wait(lambda: self.cluster.runs(namespace, name), 60), namespace, name,
              "does not run:", self.cluster.events(namespace, name))
        lease = self.node.lease_of(namespace, name)
        check(lease, "no lease of", namespace, name, "but", self.node.leases())
        return lease

    def end_pods(self):
        for namespace, name in self.started:
            self.cluster.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=1",
                                 "--ignore-not-found", "--wait=false")
        for namespace, name in self.started:
            check(wait(lambda: not self.cluster.pod(namespace, name), 60), name, "does not end")
        self.started = []

    def idle(self):
        """Nothing at the broker, no file in a folder, no mount."""
        node = self.node
        wait(lambda: node.leases() == {} and not node.claimed() and not node.charges(), 30)
        equal(node.leases(), {})
        equal(node.claimed(), [])
        equal(node.charges(), [])
        ids = "/run/ioasid/kubernetes/ids"
        wait(lambda: not any(os.listdir(os.path.join(ids, x)) for x in os.listdir(ids)), 10)
        equal([x for x in os.listdir(ids) if os.listdir(os.path.join(ids, x))], [])
        equal(node.ask("check")["verdict"], "ok")
        equal(node.mounts(), [])

    def turns(self, namespace, name):
        """How often its devices have done what they should, and nothing else."""
        lines = self.cluster.log(namespace, name).splitlines()
        check(all(line.startswith("turn ") for line in lines), lines[-3:])
        return len(lines)

    def goes_on(self, namespace, name):
        before = self.turns(namespace, name)
        check(wait(lambda: self.turns(namespace, name) > before, 20), name, "does not go on:",
              self.cluster.container(namespace, name))

    def plugin_pod(self):
        """The running one."""
        found = self.cluster.get("-n", DAEMONSET, "pods", "-l", PLUGIN) or {"items": []}
        ready = [p["metadata"]["name"] for p in found["items"]
                 if not p["metadata"].get("deletionTimestamp")
                 and any(c["ready"] for c in p["status"].get("containerStatuses", []))]
        return ready[0] if len(ready) == 1 else None

    def capacity_is(self, **amounts):
        check(wait(lambda: self.node.allocatable() == amounts, 40), self.node.allocatable())

    # ---- the page

    def test_01_daemonset(self):
        """The plugin runs as the manifest says, with no more than it says."""
        out = self.node.start_plugin()
        check(self.plugin_pod(), "no pod of the DaemonSet", out)
        self.capacity_is(nic="3", nvme="1", ioas="64")
        pid = [p for p in self.node.pids("ioasid-device-plugin")
               if b"ioasid-device-plugin\0" in open("/proc/%d/cmdline" % p, "rb").read()[:21]][0]
        with open("/proc/%d/status" % pid) as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        # DAC_OVERRIDE and FOWNER.
        for name in ("CapPrm", "CapEff", "CapBnd"):
            equal(int(status[name], 16), 1 << 1 | 1 << 3, name)
        equal((status["NoNewPrivs"], status["Uid"].split()[0]), ("1", "0"))

    def test_02_page(self):
        """The page's pod, as user 1000: its lease file and the devices, by its environment."""
        self.started.append(("web", "dma"))
        listed = self.node.do(self.node.pod_block)
        check(re.search(r"k8s\.web\.dma\.\w{8}\s+acme/web", listed), listed)
        log = self.cluster.log("web", "dma")
        check('"tenant":"acme/web"' in log.replace(" ", "") and "0000:01:00.0" in log, log)
        equal(self.node.pod_resources()["web", "dma"], {"ioasid.io/nic": [NICS[0]]})

    # ---- pods

    def test_dma(self):
        """Both devices of a group, in the pod's memory and not beside it."""
        self.start("web", "other", SLEEP, {"nic": 1})
        lease = self.start("web", "pair", FOREVER, {"nic": 1})
        equal((lease["tenant"], lease["devices"]), ("acme/web", 2))
        self.goes_on("web", "pair")
        check("0000:02:00.0 0000:02:00.1" in self.cluster.log("web", "pair"))
        equal(self.node.claimed(), ["0000:01:00.0", "0000:02:00.0", "0000:02:00.1"])
        # Without ids of the plugin there is nothing of it in a pod.
        self.apply("web", "plain", ["sh", "-c", "env; ls /run; sleep 100"], {})
        check(wait(lambda: self.cluster.runs("web", "plain"), 60))
        check("ioasid" not in self.cluster.log("web", "plain").lower().replace("localhost/", ""))

    def test_environment(self):
        """Two resources: two leases, each under its name; ioasidctl adopts by the environment."""
        script = ('for r in NIC IOAS; do eval s=\\$IOASID_SOCKET_$r f=\\$IOASID_LEASE_FILE_$r; '
                  'ls -ld ${f%/*}; IOASID_SOCKET=$s IOASID_LEASE_FILE=$f ioasidctl -o id ioasid '
                  'alloc && echo $r $s $f; done; '
                  'touch /run/ioasid/x || echo read only; sleep 1000')
        self.apply("web", "two", ["sh", "-c", script], {"nic": 1, "ioas": 2})
        check(wait(lambda: "read only" in self.cluster.log("web", "two"), 60),
              self.cluster.log("web", "two"), self.cluster.events("web", "two"))
        log = self.cluster.log("web", "two")
        for word in ("NIC /run/ioasid/ioasid.sock /run/ioasid/lease.json",
                     "IOAS /run/ioasid-ioas/ioasid.sock /run/ioasid-ioas/lease.json"):
            check(word in log, word, "not in", log)
        leases = self.node.leases().values()
        equal(sorted((x["ioasids"], x["devices"]) for x in leases), [(1, 0), (1, 1)])
        equal(sorted(self.node.pod_resources()["web", "two"]), ["ioasid.io/ioas", "ioasid.io/nic"])

    def test_tenants(self):
        """The namespace decides; one tenant's secret opens nothing of another's."""
        web = self.start("web", "a", SLEEP, {"nic": 1})
        store = self.start("store", "a", SLEEP, {"nvme": 1})
        equal((web["tenant"], store["tenant"]), ("acme/web", "acme/store"))
        status, text = self.cluster.kubectl("-n", "store", "exec", "a", "--", "cat",
                                            "/run/ioasid-nvme/lease.json")
        secret = re.search(r'"secret":\s*"(\w{64})"', text).group(1)
        script = ("echo %s >/tmp/s && ioasidctl lease adopt %s --secret-file /tmp/s"
                  % (secret, store["lease"]))
        status, out = self.cluster.kubectl("-n", "web", "exec", "a", "--", "sh", "-c", script)
        check(status and "no lease" in out.lower() or "NOT_FOUND" in out, status, out)

    def test_capacity(self):
        """Pods to the last group; the next one waits for the scheduler, and runs after a
        deletion, which nobody tells the plugin of."""
        for i in range(3):
            self.start("web", "n%d" % i, FOREVER, {"nic": 1})
        equal(sorted(i for x in self.node.pod_resources().values()
                     for i in x.get("ioasid.io/nic", [])), NICS)
        self.apply("web", "queued", FOREVER, {"nic": 1})
        check(wait(lambda: any("Insufficient ioasid.io/nic" in e for e in
                               self.cluster.events("web", "queued", "FailedScheduling")), 30),
              self.cluster.events("web", "queued"))
        time.sleep(3)
        equal(self.cluster.phase("web", "queued"), "Pending")
        equal(len(self.node.leases()), 3)
        self.cluster.delete("web", "n1")
        check(wait(lambda: self.cluster.runs("web", "queued"), 60), self.cluster.events("web", "queued"))
        equal(len(self.node.leases()), 3)
        self.goes_on("web", "queued")
        for name in ("n0", "n2"):
            self.goes_on("web", name)
        self.cluster.delete("web", "n0")
        check(wait(lambda: len(self.node.leases()) == 2, 30), "the lease of a deleted pod is left")

    def test_container_restart(self):
        """A container that ends and is started again: a new lease each time."""
        self.apply("web", "again", ["sh", "-c", "ioasidctl ioasid alloc && sleep 2"], {"ioas": 1},
                   restartPolicy="Always")
        check(wait(lambda: self.cluster.runs("web", "again"), 60))
        first = self.node.lease_of("web", "again")
        check(wait(lambda: self.cluster.container("web", "again").get("restartCount", 0) and
                   self.cluster.runs("web", "again"), 60), self.cluster.container("web", "again"))
        check(wait(lambda: (self.node.lease_of("web", "again") or first)["lease"] !=
                   first["lease"], 10), "the same lease")

    def test_killed(self):
        """kill -9 of the program: the pod fails; its ids go to the next pod."""
        self.start("web", "victim", FOREVER, {"nic": 3})
        self.goes_on("web", "victim")
        for pid in self.node.pids("^oci_tenant 0$"):
            os.kill(pid, signal.SIGKILL)
        check(wait(lambda: self.cluster.phase("web", "victim") == "Failed", 30))
        self.start("web", "heir", FOREVER, {"nic": 1})
        self.goes_on("web", "heir")
        check(wait(lambda: [x["devices"] for x in self.node.leases().values()] == [1], 20),
              self.node.leases())

    def test_completed(self):
        """A pod that is over and not deleted, as those of jobs: what it had goes back."""
        self.apply("web", "job", ["sh", "-c", "oci_tenant 100"], {"nic": 1})
        check(wait(lambda: self.cluster.phase("web", "job") == "Succeeded", 60))
        check(wait(lambda: not self.node.leases(), 30), self.node.leases(),
              self.node.pod_resources())

    def test_init_container(self):
        """It and the container after it have the same ids one after the other, and no lease."""
        self.started.append(("web", "two"))
        both = pod("web", "two", FOREVER, {"nic": 1})
        first = dict(both["spec"]["containers"][0], name="init",
                     command=["sh", "-c", "ioasidctl -o id ioasid alloc && cat $IOASID_LEASE_FILE"])
        both["spec"]["initContainers"] = [first]
        self.cluster.apply(both)
        check(wait(lambda: self.cluster.runs("web", "two"), 60), self.cluster.events("web", "two"))
        self.goes_on("web", "two")
        lease = self.node.lease_of("web", "two")
        equal(len(self.node.leases()), 1)
        equal(lease["ioasids"], 1)
        check(lease["lease"] not in self.cluster.log("web", "two", "-c", "init"))

    def test_init_container_alone(self):
        """With ids that no container of the pod has: PodResources do not tell of it."""
        self.started.append(("web", "alone"))
        both = pod("web", "alone", SLEEP, {})
        both["spec"]["initContainers"] = [dict(
            both["spec"]["containers"][0], name="init",
            resources={"limits": {"ioasid.io/nic": 1}})]
        self.cluster.apply(both)
        wanted = "PodResources name no container of ioasid.io/nic"
        check(wait(lambda: any(wanted in e for e in self.cluster.events("web", "alone", "Failed")),
                   60), self.cluster.events("web", "alone"))

    def test_idle(self):
        """For longer than a lease lasts unheld nobody holds it: it is there all the same."""
        lease = self.start("web", "idle", SLEEP, {"nic": 1})
        time.sleep(2.5 * LINGER)
        equal(list(self.node.leases()), [lease["lease"]])
        status, out = self.cluster.kubectl("-n", "web", "exec", "idle", "--", "oci_tenant", "1")
        equal((status, out), (0, "turn 1: 0000:01:00.0\n"))

    def test_many(self):
        """Thirty pods at once, deleted at once."""
        for i in range(30):
            self.apply("web", "m%d" % i, SLEEP, {"ioas": 2})
        check(wait(lambda: len(self.node.leases()) == 30, 120), len(self.node.leases()))
        check(wait(lambda: all(self.cluster.runs(*p) for p in self.started), 60))

    # ---- refusals

    def test_over_quota(self):
        """The tenant's limit in the pod's event; it starts when there is room."""
        self.start("store", "first", SLEEP, {"nvme": 1})
        self.apply("store", "second", FOREVER, {"nic": 1})
        wanted = "devices of acme/store: limit 1, used 1, requested 1"
        check(wait(lambda: any(wanted in e and 'namespace "store"' in e for e in
                               self.cluster.events("store", "second", "Failed")), 60),
              self.cluster.events("store", "second"))
        equal(len(self.node.leases()), 1)
        equal(self.node.claimed(), ["0000:03:00.0"])
        described = self.cluster.kubectl("-n", "store", "describe", "pod", "second")[1]
        check(wanted in described, described)
        self.cluster.delete("store", "first")
        check(wait(lambda: self.cluster.runs("store", "second"), 90), "does not start:",
              self.cluster.events("store", "second"))
        self.goes_on("store", "second")

    def test_no_tenant(self):
        self.apply("nobody", "a", SLEEP, {"ioas": 1})
        check(wait(lambda: any('namespace "nobody" has no tenant' in e for e in
                               self.cluster.events("nobody", "a", "Failed")), 60),
              self.cluster.events("nobody", "a"))
        equal(self.node.leases(), {})

    # ---- restarts

    def test_kubelet_restart(self):
        """Stopped and killed: containers go on, resources are there again, a lease stays."""
        lease = self.start("web", "a", FOREVER, {"nic": 1})
        for how in (signal.SIGTERM, signal.SIGKILL):
            self.cluster.restart("kubelet", how)
            check(wait(lambda: os.path.exists("/var/lib/kubelet/device-plugins/ioasid-nic.sock") and
                       os.path.exists("/var/lib/kubelet/device-plugins/kubelet.sock"), 30))
            check(wait(self.cluster.node_is_ready, 60))
            self.capacity_is(nic="3", nvme="1", ioas="64")
            # Longer than settle_seconds: it is not released by a kubelet that forgot its pods.
            time.sleep(9)
            equal(list(self.node.leases()), [lease["lease"]])
            self.goes_on("web", "a")
        equal(self.node.pod_resources()["web", "a"], {"ioasid.io/nic": [NICS[0]]})
        equal(self.cluster.container("web", "a")["restartCount"], 0)
        self.start("web", "b", FOREVER, {"nic": 1})
        self.goes_on("web", "b")

    def test_kubelet_without_apiserver(self):
        """It has no pods then, for longer than it has to settle: nothing is taken from those that
        run."""
        lease = self.start("web", "a", FOREVER, {"nic": 1})
        log = "/var/log/containers/a_web_main-%s.log" % self.cluster.container("web", "a")[
            "containerID"].split("/")[-1]
        self.cluster.daemons["apiserver"].end(signal.SIGKILL)
        try:
            self.cluster.restart("kubelet")
            socket = "/var/lib/kubelet/device-plugins/ioasid-nic.sock"
            check(wait(lambda: os.path.exists(socket), 30))
            check(wait(lambda: self.node.pod_resources() == {}, 60), self.node.pod_resources())
            time.sleep(12)
            equal(self.node.pod_resources(), {})
            equal(list(self.node.leases()), [lease["lease"]])
            size = os.path.getsize(log)
            check(wait(lambda: os.path.getsize(log) > size, 10), "its program does not go on")
        finally:
            self.cluster.daemons["apiserver"].start()
            check(wait(self.cluster.node_is_ready, 120))
        self.capacity_is(nic="3", nvme="1", ioas="64")
        check(wait(lambda: self.cluster.log("web", "a").startswith("turn "), 60))
        self.goes_on("web", "a")
        equal(list(self.node.leases()), [lease["lease"]])

    def test_deleted_without_kubelet(self):
        """The kubelet is away while a pod is deleted."""
        self.start("web", "a", FOREVER, {"nic": 1})
        self.cluster.daemons["kubelet"].end()
        self.cluster.kubectl("-n", "web", "delete", "pod", "a", "--grace-period=1", "--wait=false")
        time.sleep(3)
        equal(len(self.node.leases()), 1)
        self.cluster.daemons["kubelet"].start()
        check(wait(lambda: not self.node.leases(), 60), self.node.leases())
        check(wait(self.cluster.node_is_ready, 60))
        self.capacity_is(nic="3", nvme="1", ioas="64")

    def test_start_without_plugin(self):
        """A restarted kubelet asks no plugin that is not registered yet: a container that it
        starts meanwhile has its last lease, and no other pod gets one."""
        script = "cat $IOASID_LEASE_FILE; ioasidctl -o id ioasid alloc; exec sleep 4711"
        lease = self.start("web", "a", ["sh", "-c", script], {"nic": 1}, restartPolicy="Always")
        self.cluster.kubectl("label", "node", NODE, "ioasid.io/broker-")
        check(wait(lambda: not self.cluster.get("-n", DAEMONSET, "pods")["items"], 60))
        try:
            self.cluster.restart("kubelet")
            check(wait(self.cluster.node_is_ready, 60))
            self.apply("store", "b", SLEEP, {"nvme": 1})
            for pid in self.node.pids("^sleep 4711$"):
                os.kill(pid, signal.SIGKILL)
            check(wait(lambda: self.cluster.container("web", "a").get("restartCount", 0) and
                       self.cluster.runs("web", "a"), 60), self.cluster.events("web", "a"))
            check(wait(lambda: lease["lease"] in self.cluster.log("web", "a"), 20),
                  self.cluster.log("web", "a"))
            equal(list(self.node.leases()), [lease["lease"]])
        finally:
            self.cluster.kubectl("label", "node", NODE, "ioasid.io/broker=true")
            check(wait(self.plugin_pod, 60))
        self.capacity_is(nic="3", nvme="1", ioas="64")
        check(wait(lambda: self.cluster.runs("store", "b"), 60), self.cluster.events("store", "b"))
        equal(len(self.node.leases()), 2)

    def test_plugin_restart(self):
        """kill -9, and its pod deleted: leases stay, pods go on, one that goes meanwhile is
        noticed."""
        a = self.start("web", "a", FOREVER, {"nic": 1})
        self.start("web", "b", FOREVER, {"nic": 1})
        before = self.plugin_pod()
        self.node.kill_plugin()
        check(wait(lambda: not self.plugin_pod(), 20))
        self.cluster.delete("web", "b")
        check(wait(self.plugin_pod, 60), "the plugin does not come back")
        equal(self.plugin_pod(), before)
        check(wait(lambda: list(self.node.leases()) == [a["lease"]], 30), self.node.leases())
        self.capacity_is(nic="3", nvme="1", ioas="64")
        self.cluster.kubectl("-n", DAEMONSET, "delete", "pod", before)
        check(wait(lambda: self.plugin_pod() not in (None, before), 60))
        self.capacity_is(nic="3", nvme="1", ioas="64")
        equal(list(self.node.leases()), [a["lease"]])
        self.goes_on("web", "a")
        self.start("web", "c", FOREVER, {"nic": 1})
        self.goes_on("web", "c")

    def test_broker_restart(self):
        """kill -9: DMA goes on, also of memory that was mapped before; while it is away the node
        has nothing, and a pod waits."""
        lease = self.start("web", "a", FOREVER, {"nic": 1})
        self.goes_on("web", "a")
        self.node.broker.end(signal.SIGKILL)
        check(wait(lambda: self.node.allocatable().get("nic") == "0", 40), self.node.allocatable())
        self.apply("web", "b", FOREVER, {"nic": 1})
        check(wait(lambda: any("Insufficient" in e for e in self.cluster.events("web", "b")), 30))
        self.node.start_broker_again()
        self.capacity_is(nic="3", nvme="1", ioas="64")
        check(wait(lambda: self.cluster.runs("web", "b"), 60), self.cluster.events("web", "b"))
        check(lease["lease"] in self.node.leases())
        for name in ("a", "b"):
            self.goes_on("web", name)
        equal(self.cluster.container("web", "a")["restartCount"], 0)

    def test_reboot(self):
        """The kubelet starts its containers again, until the plugin is there without a lease; then
        each start has one: nothing of the last boot's is needed, or left."""
        lease = self.start("web", "a", FOREVER, {"nic": 1}, restartPolicy="Always")
        script = "ioasidctl -o id ioasid alloc && exec sleep 1000000"
        self.start("store", "b", ["sh", "-c", script], {"nvme": 1}, restartPolicy="Always")
        self.node.reboot()
        check(wait(self.cluster.node_is_ready, 60))
        check(wait(self.plugin_pod, 120), "the plugin does not come back")
        self.capacity_is(nic="3", nvme="1", ioas="64")
        check(wait(lambda: self.cluster.container("web", "a").get("restartCount", 0) and
                   self.cluster.runs("web", "a") and self.node.lease_of("web", "a") and
                   self.node.lease_of("store", "b"), 300), self.cluster.events("web", "a"),
              self.cluster.events("store", "b"))
        check(lease["lease"] not in self.node.leases())
        check(wait(lambda: self.cluster.log("web", "a").startswith("turn "), 60))
        self.goes_on("web", "a")

    def test_runtime_restart(self):
        """containerd killed: containers go on."""
        lease = self.start("web", "a", FOREVER, {"nic": 1})
        self.cluster.restart("containerd", signal.SIGKILL)
        check(wait(lambda: self.cluster.log("web", "a").startswith("turn "), 60))
        self.goes_on("web", "a")
        equal(list(self.node.leases()), [lease["lease"]])
        equal(self.cluster.container("web", "a")["restartCount"], 0)
        self.start("web", "b", FOREVER, {"nic": 1})


def prepare(node):
    """What every test stands on; the page's first three steps."""
    node.install()
    node.start_broker()
    failed = node.cluster.start()
    if failed:
        raise AssertionError("%s does not come up:\n%s" % (
            failed, node.cluster.daemons[failed].tail()))
    node.make_images()
    for name in ("store", "nobody"):
        node.cluster.kubectl("create", "namespace", name)
    check(wait(lambda: node.cluster.get("-n", "nobody", "serviceaccount", "default"), 60))


def names(word):
    found = sorted(n for n in dir(Tests) if n.startswith("test_"))
    # The page's are what the others need.
    return [n for n in found if word in n or n.startswith("test_0")]


def run_one(tests, name):
    try:
        getattr(tests, name)()
        tests.end_pods()
        tests.idle()
        for daemon in list(tests.cluster.daemons.values()) + [tests.node.broker, tests.node.keeper]:
            check(daemon.runs(), daemon.name, "has ended")
        return None
    except Exception:
        text = traceback.format_exc()
        status, said = tests.cluster.kubectl("-n", DAEMONSET, "logs", "-l", PLUGIN, "--tail=15")
        try:
            tests.end_pods()
        except Exception:
            text += "\nand its pods do not end"
        return text + "\nthe plugin said:\n" + said


def run(arguments):
    node = Node(arguments.build, "/var/log/machine")
    passed = failed = 0
    try:
        prepare(node)
        tests = Tests(node)
        for name in names(arguments.k):
            begun = time.monotonic()
            text = run_one(tests, name)
            passed, failed = passed + (not text), failed + bool(text)
            if text:
                print("FAIL %s\n%s" % (name, text), flush=True)
            elif arguments.v:
                print("ok   %s (%.0f s)" % (name, time.monotonic() - begun), flush=True)
    except Exception:
        traceback.print_exc()
        failed += 1
    finally:
        node.cluster.stop()
    print("%d passed, %d failed" % (passed, failed), flush=True)
    return failed > 0
