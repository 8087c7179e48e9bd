# SPDX-License-Identifier: Apache-2.0
"""ioasidctl cdi generate --watch: what the file says while devices, policy, broker and VFIO nodes
come and go, and what others do to it.  Nodes are those of a sysfs and a /dev made for the test."""
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time

from support.orphan import die_with_parent

from .host import ALONE, ALONE_2, GROUP, policy

ADDRESSES = sorted(["0000:01:00.0", *GROUP, ALONE, ALONE_2])
FILE = "ioasid-org-a.json"
# Longer than any test: what happens then has come by an event.
NEVER = 3600


class Vfio:
    """A device's entry in sysfs and its node in /dev; /dev/vfio is not there at first."""

    def __init__(self, folder):
        self.sysfs, self.dev = os.path.join(folder, "sysfs"), os.path.join(folder, "dev")
        os.makedirs(self.sysfs)
        os.makedirs(self.dev)

    def _entry(self, device):
        return "%s/bus/pci/devices/%s/vfio-dev" % (self.sysfs, device)

    def node(self, number):
        return "%s/vfio/devices/vfio%d" % (self.dev, number)

    def make_node(self, number, target="/dev/null"):
        """A link to a character device: as good as one, without mknod."""
        os.makedirs(os.path.dirname(self.node(number)), exist_ok=True)
        os.symlink(target, self.node(number))

    def bind(self, device, number):
        """As the kernel does: sysfs before the node."""
        entry = "%s/vfio%d" % (self._entry(device), number)
        os.makedirs(entry)
        rdev = os.stat("/dev/null").st_rdev
        with open(entry + "/dev", "w", encoding="utf-8") as f:
            f.write("%d:%d\n" % (os.major(rdev), os.minor(rdev)))
        self.make_node(number)

    def unbind(self, device, number, only_the_node=False):
        os.unlink(self.node(number))
        if not only_the_node:
            shutil.rmtree(self._entry(device))


class Watcher:
    """One ioasidctl that follows, as systemd would see it."""

    def __init__(self, test, *words, interval=NEVER, tenant="org/a", watch=True, socket_name=None):
        host = test.host
        self.test, folder = test, test.folder
        self.number = test.n_watchers = test.n_watchers + 1
        self.out, self.err = ("%s/%s-%d" % (folder, name, self.number) for name in ("out", "err"))
        notify = "%s/n%d" % (folder, self.number)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(notify)
        self.said, self.closed = [], False
        command = [os.path.join(host.build, "bin", "ioasidctl"), "-o", "json", "-s",
                   host.tenant_sockets.get(socket_name) or host.server.socket("agents"),
                   "cdi", "generate", "--dir", test.dir, "--sysfs", test.vfio.sysfs, "--dev",
                   test.vfio.dev, *words]
        if watch:
            command += ["--watch", "--interval", str(interval)]
        if not socket_name:
            command += ["--tenant", tenant]
        with open(self.out, "w", encoding="utf-8") as out, \
                open(self.err, "w", encoding="utf-8") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, preexec_fn=die_with_parent,
                                            env={**os.environ, "NOTIFY_SOCKET": notify})
        test.addCleanup(self.close)

    def close(self):
        if not self.closed:
            self.closed = True
            self.process.kill()
            self.process.wait()
            self.notify.close()

    def told(self, text, seconds=20):
        """Waits until systemd was told so."""
        end = time.monotonic() + seconds
        while not any(text in line for line in self.said):
            self.notify.settimeout(max(end - time.monotonic(), 0.01))
            try:
                self.said.append(self.notify.recv(65536).decode())
            except TimeoutError:
                raise AssertionError("not told %r but %r; %s" % (text, self.said,
                                                                self.errors())) from None

    def ready(self):
        self.told("READY=1")
        return self

    def lines(self):
        """(state, number of devices) of each line."""
        with open(self.out, encoding="utf-8") as f:
            return [(d["state"], d["count"]) for d in map(json.loads, f)]

    def errors(self):
        with open(self.err, encoding="utf-8") as f:
            return f.read()

    def end(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        code = self.process.wait(15)
        self.closed = True
        self.notify.close()
        return code

    def fails(self):
        """It ends by itself: (status, message)."""
        code = self.process.wait(20)
        return code, json.loads(self.errors().splitlines()[-1])["message"]


class CdiWatch:
    def setUp(self):
        super().setUp()
        self.folder = os.path.join(self.host.folder, "w-" + self.id().rsplit(".", 1)[1][5:20])
        os.makedirs(self.folder)
        self.dir = os.path.join(self.folder, "cdi")
        self.path = os.path.join(self.dir, FILE)
        self.vfio = Vfio(self.folder)
        self.n_watchers = 0
        self.addCleanup(self.reload)

    def reload(self, change=lambda rules: None):
        """Another policy, without a restart."""
        rules = policy()
        change(rules)
        self.host.server.write_policy(rules)
        if self.host.server.alive():
            self.host.ctl("policy", "reload")

    def devices(self):
        """address -> node, of the file; None: there is none."""
        try:
            with open(self.path, encoding="utf-8") as f:
                spec = json.load(f)
        except FileNotFoundError:
            return None
        self.assertEqual((spec["cdiVersion"], spec["kind"]), ("0.5.0", "ioasid.io/device"))
        found = {}
        for device in spec["devices"]:
            args = device["containerEdits"]["hooks"][0]["args"]
            nodes = device["containerEdits"].get("deviceNodes", [{"path": None}])
            self.assertEqual(len(nodes), 1)
            if nodes[0]["path"]:
                self.assertEqual(nodes[0]["permissions"], "rw")
            found[args[args.index("--device") + 1]] = nodes[0]["path"]
        return found

    def becomes(self, expected, seconds=10, what=None):
        end = time.monotonic() + seconds
        look = what or self.devices
        while look() != expected:
            self.assertLess(time.monotonic(), end, "%r, expected %r" % (look(), expected))
            time.sleep(0.02)

    def stays(self, expected, seconds=0.8):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertEqual(self.devices(), expected)
            time.sleep(0.05)

    def without(self, *gone, nodes=()):
        return {a: dict(nodes).get(a) for a in ADDRESSES if a not in gone}

    def wrote(self, watcher, *counts):
        """A line comes after what it tells of."""
        self.becomes([("written" if n else "removed", n) for n in counts], what=watcher.lines)

    def names(self):
        return sorted(os.listdir(self.dir))

    def allow_only(self, *addresses):
        def change(rules):
            rules["tenants"]["org/a"]["devices"] = [{"address": a} for a in addresses]
        self.reload(change)

    # ---- a life ----

    def test_begin_and_end(self):
        for sign in (signal.SIGTERM, signal.SIGINT):
            watcher = Watcher(self).ready()
            self.assertEqual(self.devices(), self.without())
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o644)
            self.assertIn("STATUS=org/a: 5 devices in %s" % self.path, watcher.said[-1])
            self.assertEqual(watcher.process.poll(), None)
            watcher.process.send_signal(sign)
            watcher.told("STOPPING=1")
            # A second one changes nothing.
            self.assertEqual(watcher.end(sign), 0)
            self.assertEqual(watcher.errors(), "")
            # The file stays, and nothing beside it.
            self.assertEqual(self.names(), [FILE])
        # The second found it as it is to be.
        self.assertEqual(watcher.lines(), [])

    def test_policy(self):
        """An agent is not told of a reload: it is found by looking."""
        watcher = Watcher(self, interval=1).ready()
        self.allow_only(ALONE)
        self.becomes(self.without(*(a for a in ADDRESSES if a != ALONE)))
        self.allow_only(ALONE, ALONE_2)
        self.becomes({ALONE: None, ALONE_2: None})
        self.allow_only("0000:99:00.0")
        self.becomes(None)
        watcher.told("STATUS=org/a: 0 devices, and no %s" % self.path)
        self.assertEqual(watcher.process.poll(), None)
        self.reload()
        self.becomes(self.without())
        self.wrote(watcher, 5, 1, 2, 0, 5)
        self.assertEqual(watcher.errors(), "")

    def streams(self):
        """Watches of the agent."""
        return sum(int(r["used"]) for t in self.host.ctl("tenant", "list")["tenants"]
                   for r in t["resources"]
                   if (t["tenant"], r["resource"]) == ("org", "watch_streams"))

    def test_tenant_goes_and_comes(self):
        watcher = Watcher(self, interval=1).ready()

        def change(rules):
            del rules["tenants"]["org/a"]
            rules["identities"] = [r for r in rules["identities"] if r.get("tenant") != "org/a"]
        self.reload(change)
        self.becomes(None)
        # It does not keep the tenant, which the broker would not forget while it is watched.
        self.becomes(0, what=self.streams)
        watcher.told('STATUS=org/a: there is no file: scope.tenant: no tenant "org/a"')
        self.reload()
        self.becomes(self.without(), 20)
        self.wrote(watcher, 5, 0, 5)
        self.becomes(1, what=self.streams)
        self.assertEqual([json.loads(line)["message"] for line in watcher.errors().splitlines()],
                         ['scope.tenant: no tenant "org/a"'])

    def test_only_these(self):
        watcher = Watcher(self, ALONE, "0000:99:00.0", interval=1).ready()
        self.assertEqual(self.devices(), {ALONE: None})
        self.allow_only(ALONE_2)
        self.becomes(None)
        self.reload()
        self.becomes({ALONE: None})
        self.assertEqual(watcher.end(), 0)

    def test_by_the_tenant_itself(self):
        Watcher(self, socket_name="org/b").ready()
        self.assertEqual(self.names(), [".ioasid-org-b.json.lock", "ioasid-org-b.json"])

    def test_refused_at_the_start(self):
        for words, more, code, line in (
                ((), {"tenant": "lab/c"}, 3, 'scope.tenant: "lab/c" is not in the caller\'s '
                                             'subtree "org"'),
                (("--hook", "hook"), {}, 2, "--hook, --hook-config: expected an absolute path"),
                (("--interval", "1"), {"watch": False}, 2, "--interval: only with --watch")):
            with self.subTest(line):
                status, message = Watcher(self, *words, **more).fails()
                self.assertEqual((status, message), (code, line))
        self.assertFalse(os.path.exists(self.dir))

    def test_put_right_again(self):
        """Whatever somebody does to the file."""
        Watcher(self, interval=1).ready()
        os.unlink(self.path)
        self.becomes(self.without())
        with open(self.path, "w", encoding="utf-8") as f:
            f.write('{"cdiVersion": "0.5.0", "kind": "ioasid.io/device", "devices": []}')
        self.becomes(self.without())
        shutil.rmtree(self.dir)
        self.becomes(self.without(), what=lambda: self.devices() if os.path.exists(self.path)
                     else None)

    # ---- the broker ----

    def test_broker_restarts_with_other_devices(self):
        watcher = Watcher(self).ready()
        self.host.server.kill()
        self.host.clear_sockets()
        watcher.told("the file stays as it is: no server at ")
        self.stays(self.without(), 1)
        with open(self.host.server.topology, encoding="utf-8") as f:
            topology = f.read()
        fewer = json.loads(topology)
        fewer["devices"] = [d for d in fewer["devices"] if d["address"] != ALONE_2]
        self.addCleanup(self.host.server.start)
        self.addCleanup(self.host.clear_sockets)
        self.addCleanup(self.host.server.kill)
        self.addCleanup(self.host.server._write, self.host.server.topology, topology)
        self.host.server._write(self.host.server.topology, json.dumps(fewer))
        self.host.server.start()
        # It was asked for at growing distances, 15 seconds at most.
        self.becomes(self.without(ALONE_2), 20)
        # In order this time.
        self.assertEqual(self.host.server.terminate(), 0)
        self.host.server._write(self.host.server.topology, topology)
        self.host.server.start()
        self.becomes(self.without(), 20)
        self.wrote(watcher, 5, 4, 5)
        # Once for each time that it was seen to be away; the second was short.
        self.assertIn(watcher.errors().count("\n"), (1, 2), watcher.errors())

    def test_before_the_broker(self):
        self.host.server.kill()
        self.host.clear_sockets()
        watcher = Watcher(self)
        watcher.told("STATUS=org/a: no server at ")
        self.assertFalse(os.path.exists(self.dir))
        self.host.server.start()
        watcher.ready()
        self.assertEqual(self.devices(), self.without())

    def test_broker_that_hangs(self):
        watcher = Watcher(self, interval=1).ready()
        self.host.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.host.server.process.send_signal, signal.SIGCONT)
        watcher.told("the file stays as it is: ", 30)
        self.assertEqual(self.devices(), self.without())
        # A call is not waited for longer than 5 seconds.
        begun = time.monotonic()
        self.assertEqual(watcher.end(), 0)
        self.assertLess(time.monotonic() - begun, 7)

    def test_no_watch_stream_for_it(self):
        def change(rules):
            rules["tenants"]["org"]["limits"]["watch_streams"] = 0
        self.reload(change)
        watcher = Watcher(self, interval=1).ready()
        end = time.monotonic() + 10
        while "watch_streams of org" not in watcher.errors():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

        def fewer(rules):
            change(rules)
            rules["tenants"]["org/a"]["devices"] = [{"address": ALONE}]
        self.reload(fewer)
        self.becomes({ALONE: None})
        self.assertEqual(watcher.errors().count("\n"), 1)

    def test_events_are_taken_together(self):
        """Each look at it is a line, as the file is removed all the time."""
        watcher = Watcher(self).ready()
        time.sleep(1.5)
        begun, before = time.monotonic(), len(watcher.lines())
        script = "\n".join(["device claim %s\ndevice release %s" % (ALONE, ALONE)] * 1500)
        with subprocess.Popen([os.path.join(self.host.build, "bin", "ioasidctl"), "-s",
                               self.host.tenant_sockets["org/a"], "shell", "-e"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                              preexec_fn=die_with_parent) as shell:
            shell.stdin.write(script)
            shell.stdin.close()
            while shell.poll() is None:
                if os.path.exists(self.path):
                    os.unlink(self.path)
                time.sleep(0.01)
        self.assertEqual(shell.returncode, 0)
        self.becomes(self.without(), 1)
        looks, seconds = len(watcher.lines()) - before, time.monotonic() - begun
        self.assertGreater(looks, 0)
        self.assertLessEqual(looks, seconds / 0.2 + 2)

    # ---- nodes ----

    def test_node_comes_and_goes(self):
        """By inotify: it looks by itself in an hour."""
        watcher = Watcher(self).ready()
        time.sleep(1.2)
        self.vfio.bind(ALONE, 7)
        self.becomes(self.without(nodes={ALONE: "/dev/vfio/devices/vfio7"}))
        self.vfio.bind(ALONE_2, 3)
        self.becomes(self.without(nodes={ALONE: "/dev/vfio/devices/vfio7",
                                         ALONE_2: "/dev/vfio/devices/vfio3"}))
        # The node goes before the entry in sysfs does.
        self.vfio.unbind(ALONE, 7, only_the_node=True)
        self.becomes(self.without(nodes={ALONE_2: "/dev/vfio/devices/vfio3"}))
        shutil.rmtree(self.vfio.dev + "/vfio")
        self.becomes(self.without())
        shutil.rmtree(self.vfio.sysfs)
        self.vfio.bind(ALONE, 0)
        self.becomes(self.without(nodes={ALONE: "/dev/vfio/devices/vfio0"}))
        self.assertEqual(watcher.errors(), "")

    def test_number_of_another_device(self):
        self.vfio.bind(ALONE, 7)
        Watcher(self, interval=1).ready()
        self.assertEqual(self.devices()[ALONE], "/dev/vfio/devices/vfio7")
        os.unlink(self.vfio.node(7))
        self.vfio.make_node(7, "/dev/zero")
        self.becomes(self.without())
        os.unlink(self.vfio.node(7))
        with open(self.vfio.node(7), "w", encoding="utf-8"):
            pass
        self.stays(self.without())

    def claim(self, device):
        """Until the test ends, or the returned function is called."""
        out = os.path.join(self.folder, "claim")
        holder = subprocess.Popen(
            [os.path.join(self.host.build, "bin", "ioasidctl"), "-s",
             self.host.tenant_sockets["org/a"], "exec", "--device", device, "--", "sh", "-c",
             "touch %s; exec sleep 1000" % out], stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent)

        def release():
            holder.terminate()
            holder.wait()
        self.addCleanup(release)
        self.becomes(True, what=lambda: os.path.exists(out))
        os.unlink(out)
        return release

    def test_node_of_a_claim(self):
        """Bound by the keeper for as long as the claim: the next device may get the number."""
        Watcher(self, interval=1).ready()
        release = self.claim(ALONE)
        self.vfio.bind(ALONE, 7)
        self.stays(self.without())
        self.vfio.unbind(ALONE, 7)
        release()
        self.stays(self.without())

    def test_node_is_named_when_its_device_is_free(self):
        """By the broker's event: it looks by itself in an hour."""
        release = self.claim(ALONE)
        self.vfio.bind(ALONE, 7)
        Watcher(self).ready()
        # Longer than until the second look, of which it needs none.
        self.stays(self.without(), 1.5)
        release()
        named = self.without(nodes={ALONE: "/dev/vfio/devices/vfio7"})
        self.becomes(named)
        # It is the operator's: it stays while the device is claimed, for another run as well.
        self.claim(ALONE)
        self.stays(named)
        last = Watcher(self, watch=False)
        self.assertEqual(last.process.wait(20), 1)
        self.assertEqual(self.devices(), named)

    def test_restart_while_a_device_is_claimed(self):
        self.vfio.bind(ALONE, 7)
        named = self.without(nodes={ALONE: "/dev/vfio/devices/vfio7"})
        self.assertEqual(Watcher(self).ready().end(), 0)
        self.claim(ALONE)
        watcher = Watcher(self).ready()
        self.assertEqual((self.devices(), watcher.lines()), (named, []))
        self.vfio.unbind(ALONE, 7)
        self.becomes(self.without())

    def test_node_goes_while_the_broker_is_away(self):
        self.vfio.bind(ALONE, 7)
        watcher = Watcher(self).ready()
        self.host.server.kill()
        self.host.clear_sockets()
        watcher.told("the file stays as it is: no server at ")
        self.vfio.unbind(ALONE, 7)
        self.becomes(self.without())
        # What was not there is not believed without a broker.
        self.vfio.bind(ALONE_2, 8)
        self.stays(self.without())
        self.host.server.start()
        self.becomes(self.without(nodes={ALONE_2: "/dev/vfio/devices/vfio8"}), 20)

    # ---- who writes ----

    def test_one_writer(self):
        first = Watcher(self).ready()
        line = "%s: process %d writes it (cdi generate --watch); end that first" % (
            self.path, first.process.pid)
        for other in [Watcher(self), Watcher(self, watch=False)]:
            self.assertEqual(other.fails(), (1, line))
        self.host.ctl("cdi", "remove", "--dir", self.dir, "--tenant", "org/a", code=1)
        self.host.ctl("cdi", "remove", "--dir", self.dir, "--all", code=1)
        self.assertEqual(self.devices(), self.without())
        # Another tenant's is another file.
        other = Watcher(self, tenant="org/b").ready()
        self.assertEqual((first.end(), other.end()), (0, 0))
        self.assertEqual(self.names(), [FILE, "ioasid-org-b.json"])
        self.host.ctl("cdi", "remove", "--dir", self.dir, "--tenant", "org/a")
        self.assertEqual(self.names(), ["ioasid-org-b.json"])

    def test_killed(self):
        """At any moment: the file is whole, and the next one begins at once."""
        for i in range(8):
            watcher = Watcher(self, *([ALONE] if i % 2 else []))
            if i < 4:
                watcher.ready()
            else:
                time.sleep(0.01 * i)
            self.assertEqual(watcher.end(signal.SIGKILL), -9)
            if os.path.exists(self.path):
                self.assertIn(self.devices(), ({ALONE: None}, self.without()))
        with open(os.path.join(self.dir, ".%s.new" % FILE), "w", encoding="utf-8") as f:
            f.write("{")
        watcher = Watcher(self).ready()
        self.assertEqual(self.devices(), self.without())
        self.assertEqual(watcher.end(), 0)
        self.assertEqual([n for n in self.names() if not n.endswith(".new")], [FILE])

    def test_many_at_the_same_time(self):
        """Who comes first has it; when he ends, the next may."""
        watchers = [Watcher(self) for _ in range(6)]
        self.becomes(1, what=lambda: sum(w.process.poll() is None for w in watchers))
        alive = [w for w in watchers if w.process.poll() is None]
        self.assertEqual({w.process.returncode for w in watchers if w not in alive}, {1})
        alive[0].ready()
        alive[0].end()
        self.assertEqual(self.names(), [FILE])

    # ---- what stands in the way ----

    def test_links(self):
        os.makedirs(self.dir)
        outside = os.path.join(self.folder, "outside")
        with open(outside, "w", encoding="utf-8") as f:
            f.write("mine")
        for name in (FILE, ".%s.new" % FILE):
            os.symlink(outside, os.path.join(self.dir, name))
        self.assertEqual(Watcher(self).ready().end(), 0)
        self.assertEqual(os.path.islink(self.path), False)
        self.assertEqual(self.devices(), self.without())
        os.symlink(outside, os.path.join(self.dir, ".%s.lock" % FILE))
        status, message = Watcher(self).fails()
        self.assertEqual((status, message), (1, "%s/.%s.lock: Too many levels of symbolic links" % (
            self.dir, FILE)))
        with open(outside, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")
        self.assertEqual(os.stat(outside).st_nlink, 1)

    def test_no_plain_files(self):
        os.makedirs(self.dir)
        os.mkfifo(self.path)
        self.assertEqual(Watcher(self).ready().end(), 0)
        self.assertEqual(self.devices(), self.without())
        os.unlink(self.path)
        os.makedirs(self.path)
        self.assertEqual(Watcher(self).fails(), (1, self.path + ": Is a directory"))
        self.assertEqual(self.names(), [FILE])
        os.rmdir(self.path)
        os.mkfifo(os.path.join(self.dir, ".%s.lock" % FILE))
        self.assertEqual(Watcher(self).fails()[0], 1)

    def mount(self, *words):
        subprocess.run(["mount", *words], check=True)

    def test_read_only(self):
        os.makedirs(self.dir)
        self.mount("-t", "tmpfs", "tmpfs", self.dir)
        self.addCleanup(subprocess.run, ["umount", self.dir], check=True)
        self.mount("-o", "remount,ro", self.dir)
        status, message = Watcher(self).fails()
        self.assertEqual((status, message), (1, "%s/.%s.lock: Read-only file system" % (self.dir,
                                                                                       FILE)))
        self.mount("-o", "remount,rw", self.dir)
        watcher = Watcher(self, interval=1).ready()
        # Another folder takes its place, and goes again.
        self.mount("-t", "tmpfs", "-o", "ro", "tmpfs", self.dir)
        self.allow_only(ALONE)
        watcher.told("the file stays as it is: %s/.%s.lock: Read-only file system" % (self.dir,
                                                                                     FILE))
        subprocess.run(["umount", self.dir], check=True)
        self.becomes({ALONE: None}, 20)
        self.assertEqual(watcher.errors().count("\n"), 1, watcher.errors())

    def test_disk_full(self):
        os.makedirs(self.dir)
        self.mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", self.dir)
        self.addCleanup(subprocess.run, ["umount", self.dir], check=True)
        watcher = Watcher(self, interval=1).ready()
        filler = os.path.join(self.dir, "filler")
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        self.allow_only(ALONE)
        watcher.told("the file stays as it is: %s: No space left on device" % self.path)
        self.assertEqual(self.devices(), self.without())
        self.assertEqual(self.names(), [".%s.lock" % FILE, "filler", FILE])
        os.unlink(filler)
        self.becomes({ALONE: None}, 20)

    def test_nobody_reads_its_lines(self):
        """A terminal that is gone ends it."""
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [os.path.join(self.host.build, "bin", "ioasidctl"), "-s",
             self.host.server.socket("agents"), "-t", "org/a", "cdi", "generate", "--watch",
             "--interval", "1", "--dir", self.dir], stdin=subprocess.DEVNULL, stdout=writer,
            stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        os.close(writer)
        self.assertIn(FILE, os.read(reader, 65536).decode())
        os.close(reader)
        self.allow_only(ALONE)
        self.assertIn("cannot write the answer", process.communicate(timeout=20)[1])
        self.assertEqual(process.returncode, 1)
