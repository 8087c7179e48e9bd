# SPDX-License-Identifier: Apache-2.0
"""The hook called as a runtime would, on a process that stands for a container's init: what
runtimes never do, or never so that one could look at it."""
import concurrent.futures
import fcntl
import json
import os
import signal
import subprocess
import time

from .host import ALONE, ALONE_2, GROUP, ROOTLESS


class Init:
    """A process with a mount namespace of its own, and a bundle."""

    def __init__(self, host, name, hooks=None):
        self.host, self.name = host, name
        self.bundle = os.path.join(host.folder, "direct", name)
        os.makedirs(os.path.join(self.bundle, "rootfs"), exist_ok=True)
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as f:
            json.dump({"root": {"path": "rootfs"}, "hooks": hooks or {}}, f)
        self.process = subprocess.Popen(["unshare", "--mount", "--propagation", "private",
                                         "sleep", "1000"])
        while os.readlink("/proc/%d/ns/mnt" % self.process.pid) == os.readlink("/proc/self/ns/mnt"):
            time.sleep(0.01)

    def state(self, **changes):
        state = {"ociVersion": "1.0.2", "id": self.name, "status": "creating",
                 "pid": self.process.pid, "bundle": self.bundle,
                 "annotations": {"io.ioasid.tenant": "org/a", "io.ioasid.devices": ALONE}}
        state.update(changes)
        return {key: value for key, value in state.items() if value is not None}

    def hook(self, stage="createRuntime", arguments=(), text=None, config=None, env=None, **changes):
        """(status, its line without the name)."""
        if text is None:
            text = json.dumps(self.state(**changes))
        done = subprocess.run([self.host.hook, stage, "--config", config or self.host.config,
                               *arguments], input=text, env=env, capture_output=True, text=True,
                              timeout=60, check=False)
        assert not done.stdout, done.stdout
        lines = done.stderr.splitlines()
        assert len(lines) == (done.returncode > 0), done.stderr
        return done.returncode, (lines[0].removeprefix("ioasid-oci-hook: ") if lines else "")

    def read(self, path):
        with open("/proc/%d/root/%s/rootfs/%s" % (self.process.pid, self.bundle, path),
                  encoding="utf-8") as f:
            return f.read()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Direct:
    def init(self, name, **more):
        init = Init(self.host, name, **more)
        self.addCleanup(init.hook, "poststop")
        self.addCleanup(init.kill)
        return init

    def test_twice_is_once(self):
        init = self.init("twice")
        self.assertEqual(init.hook(), (0, ""))
        first = init.read("run/ioasid/lease.json")
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(init.read("run/ioasid/lease.json"), first)
        self.assertEqual(len(self.host.leases()), 1)
        mounts = init_mounts(init)
        self.assertEqual(len(mounts), 2, mounts)
        self.assertEqual(init.hook("poststop"), (0, ""))
        self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))
        self.assertEqual(init.hook("poststop"), (0, ""))

    def test_more_devices_later(self):
        init = self.init("more")
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(init.hook(arguments=("--device", ALONE_2)), (0, ""))
        self.assertEqual(json.loads(init.read("run/ioasid/lease.json"))["devices"],
                         [ALONE, ALONE_2])
        self.assertEqual(self.host.claimed(), {ALONE: "org/a", ALONE_2: "org/a"})

    def test_poststop_needs_id_and_bundle_only(self):
        init = self.init("bare")
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(init.hook("poststop", pid=None, annotations=None), (0, ""))
        self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))

    def test_same_id_in_another_bundle(self):
        init, other = self.init("same"), self.init("other")
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(other.hook("poststop", id="same"), (0, ""))
        self.assertEqual(len(self.host.leases()), 1)

    def test_still_running(self):
        init, other = self.init("one"), self.init("two")
        self.assertEqual(init.hook(), (0, ""))
        code, line = init.hook(pid=other.process.pid)
        self.assertEqual(code, 1)
        self.assertEqual(line, "a container with this id and bundle still runs, its init is "
                               "process %d" % init.process.pid)
        self.assertEqual(len(self.host.leases()), 1)

    def test_killed_after_the_open_and_called_again(self):
        """The second call gets the lease of the first by its key: the secret was never written."""
        init = self.init("key")
        self.assertEqual(init.hook(), (0, ""))
        first = json.loads(init.read("run/ioasid/lease.json"))
        record = os.path.join(self.host.state, self.host.folders()[0], "hook.json")
        with open(record, encoding="utf-8") as f:
            content = json.load(f)
        self.assertEqual(content.pop("secret"), first["secret"])
        content["devices"] = []
        with open(record, "w", encoding="utf-8") as f:
            json.dump(content, f)
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(json.loads(init.read("run/ioasid/lease.json")), first)

    def test_broker_comes_back(self):
        init = self.init("back")
        self.host.server.kill()
        self.host.clear_sockets()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(init.hook)
            time.sleep(0.5)
            self.assertFalse(call.done())
            self.host.server.start()
            self.assertEqual(call.result(), (0, ""))
        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})

    def rootless(self, user, tenant):
        """createRuntime and poststop as podman calls them for a user: in a user namespace.  What
        they said, and the lease that the container saw."""
        place = os.path.join(self.host.folder, "rootless-%d" % user)
        os.makedirs(place + "/bundle/rootfs", exist_ok=True)
        for path in (place, place + "/bundle", place + "/bundle/rootfs"):
            os.chown(path, user, user)
        with open(place + "/bundle/config.json", "w", encoding="utf-8") as f:
            json.dump({"root": {"path": "rootfs"}}, f)
        with open(self.host.config, encoding="utf-8") as f:
            config = json.load(f)
        config["state_dir"] = place + "/state"
        with open(place + "/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        # To the tenant's socket a rootless runtime has to get, too.
        tenants = os.path.dirname(os.path.dirname(self.host.tenant_sockets["lab/c"]))
        os.chmod(self.host.folder, 0o755)
        os.chmod(tenants, 0o711)
        self.addCleanup(os.chmod, tenants, 0o700)
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private",
             "/usr/bin/python3", "-c", ROOTLESS_SCRIPT, self.host.hook, place, tenant],
            user=user, group=user, extra_groups=[], capture_output=True, text=True, timeout=60,
            check=False)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def test_rootless(self):
        said = self.rootless(ROOTLESS, "lab/c")
        lease = said.pop("lease")
        self.assertEqual(said, {"createRuntime": [0, ""], "poststop": [0, ""], "left": []})
        self.assertEqual((lease["tenant"], lease["devices"]), ("lab/c", [ALONE]))

    def test_tenant_of_another_user(self):
        for user, tenant, line in (
                (ROOTLESS, "org/a", 'tenant org/a: no lease for the container: scope.tenant: '
                                    '"org/a" is not in the caller\'s subtree "lab" '
                                    '[ROLE_FORBIDDEN]'),
                (ROOTLESS + 1, "org/a", "tenant org/a: no lease for the container: ")):
            with self.subTest(user):
                code, err = self.rootless(user, tenant)["createRuntime"]
                self.assertEqual((code, err[:len(line) + 17]),
                                 (1, "ioasid-oci-hook: " + line))
                self.assertEqual(self.host.leases(), {})

    def test_two_containers_with_one_hash(self):
        init = self.init("hash")
        self.assertEqual(init.hook(), (0, ""))
        record = os.path.join(self.host.state, self.host.folders()[0], "hook.json")
        with open(record, encoding="utf-8") as f:
            own = f.read()
        with open(record, "w", encoding="utf-8") as f:
            f.write(own.replace('"id":"hash"', '"id":"elsewhere"'))
        self.assertEqual(init.hook("poststop"), (0, ""))
        self.assertEqual(init.hook(), (1, 'the container "elsewhere" of %s has the same lease '
                                          'name; choose another id' % init.bundle))
        self.assertEqual((len(self.host.leases()), len(self.host.folders())), (1, 1))
        with open(record, "w", encoding="utf-8") as f:
            f.write(own)

    def test_nothing_appears_on_the_host(self):
        """Folders below shared mounts, as on every host with systemd."""
        folder = os.path.join(self.host.folder, "shared")
        os.makedirs(folder)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-R", folder], check=True)
        subprocess.run(["mount", "--make-shared", folder], check=True)
        self.host.write_config(state_dir=os.path.join(folder, "state"))
        init = self.init("shared")
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            before = f.read()
        self.assertEqual(init.hook(), (0, ""))
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(len(init_mounts(init)), 2)
        self.assertEqual(init.hook("poststop"), (0, ""))
        self.assertEqual(os.listdir(os.path.join(folder, "state")), [])

    def test_init_of_the_host(self):
        """A number that is not a container's is not mounted over."""
        init = self.init("host")
        self.assertEqual(init.hook(pid=os.getpid()),
                         (1, "the container has no mount namespace of its own"))

    def test_init_has_ended(self):
        init = self.init("ended")
        pid = init.process.pid
        init.kill()
        self.assertEqual(init.hook(pid=pid),
                         (1, "the container's init, process %d: No such file or directory" % pid))

    def test_secrets_are_not_open(self):
        init = self.init("modes")
        self.assertEqual(init.hook(), (0, ""))
        folder = os.path.join(self.host.state, self.host.folders()[0])
        for path, mode in ((self.host.state, 0o700), (folder, 0o700),
                           (folder + "/hook.json", 0o600), (folder + "/container", 0o755),
                           (folder + "/container/lease.json", 0o444)):
            self.assertEqual(os.stat(path).st_mode & 0o7777, mode, path)

    def test_state_folder_of_somebody_else(self):
        init = self.init("foreign")
        state = os.path.join(self.host.folder, "open-state")
        os.makedirs(state)
        os.chmod(state, 0o755)
        self.host.write_config(state_dir=state)
        code, line = init.hook()
        self.host.write_config()
        self.assertEqual((code, line), (1, "state_dir %s: has to belong to uid 0 and have the "
                                           "mode 0700" % state))

    def test_states(self):
        init = self.init("states")
        what = "state on stdin: "
        for text, line in (
                ("", what + "empty"),
                ("[]", what + "expected a JSON object"),
                ("{", what + "line 1, column 2: the text ends where a key is expected"),
                ("{} {}", what + "line 1, column 4: more text after the JSON value"),
                ("{}", what + "ociVersion: missing"),
                ('{"ociVersion": 1}', what + "ociVersion: expected a string"),
                (json.dumps(init.state(id="")), what + "id: expected 1 to 1024 bytes"),
                (json.dumps(init.state(bundle="b")), what + "bundle: expected an absolute path"),
                (json.dumps(init.state(bundle="/nowhere")),
                 "/nowhere/config.json: No such file or directory"),
                (json.dumps(init.state(pid="1")), what + "pid: expected a whole number"),
                (json.dumps(init.state(pid=-1)), what + "pid: expected 0 to 2147483647"),
                (json.dumps(init.state(pid=None)), what + "pid: missing or 0"),
                (json.dumps(init.state(annotations=[])), what + "annotations: expected an object"),
                (json.dumps(init.state(annotations={"io.ioasid.tenant": 1})),
                 what + "annotations: io.ioasid.tenant: expected a string"),
                ('{"id": "%s"}' % ("x" * (1 << 20)), what + "longer than 1048576 bytes"),
                ("[" * 100, what + "line 1, column 33: objects and arrays too deep in each other"),
                ('{"id": "a", "id": "b"}', what + 'line 1, column 13: key "id" is there twice'),
                ('{"annotations": {"io.ioasid.tenant": "org/a", "io.ioasid.tenan\\u0074": "org/b"}}',
                 what + 'line 1, column 47: key "io.ioasid.tenant" is there twice'),
                ('{"id": "a\\u0000b"}', what + "line 1, column 10: a NUL in a string"),
                ('{"id": "\\ud800"}', what + "line 1, column 9: half of a surrogate pair"),
                ('{"id": "a", "pid": 18446744073709551616}',
                 what + "line 1, column 20: number 18446744073709551616 is too large"),
                ('{"x": [%s0]}' % ("0," * 200000), what + "line 1, column 400004: too many values")):
            with self.subTest(line):
                code, said = init.hook(text=text)
                self.assertEqual((code, said[:len(line)]), (1, line))
        self.assertEqual(self.host.problems(), {})

    def test_odd_bundle(self):
        """What a path may hold, it may hold."""
        for name in ("sp ace", "new\nline\ttab", "\u00fcml\u00e4ut \U0001f600", "q'u\"o\\te$(x)`%s"):
            with self.subTest(name):
                init = self.init(name)
                self.assertEqual(init.hook(id="odd"), (0, ""))
                self.assertEqual(init.hook(id="odd"), (0, ""))
                lease = json.loads(init.read("run/ioasid/lease.json"))
                self.assertRegex(lease["lease"], "^oci-odd-[0-9a-f]{16}$")
                self.assertEqual(init.hook("poststop", id="odd"), (0, ""))
                self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))
        code, line = self.init("a\nb\x1b[2J").hook(id="odd", pid=1 << 30)
        self.assertEqual((code, line), (1, "the container's init, process %d: No such file or "
                                           "directory" % (1 << 30)))
        code, line = self.init("gone").hook(bundle="/a\nb\x1b[2J\u009b\u202e")
        self.assertEqual((code, line), (1, "/a?b?[2J??/config.json: No such file or directory"))

    def test_config_json_that_is_no_file(self):
        init = self.init("nofile")
        path = os.path.join(init.bundle, "config.json")
        for make, line in ((os.mkfifo, "%s: empty" % path),
                           (os.mkdir, "%s: cannot read it: Is a directory" % path)):
            os.unlink(path)
            make(path)
            self.assertEqual(init.hook(), (1, line))

    def test_hooks_of_config_json_that_make_no_sense(self):
        what = "config.json of the bundle: "
        for hooks, line in (
                ([], what + "hooks: expected an object"),
                ({"createRuntime": {}}, what + "hooks: createRuntime: expected an array"),
                ({"createRuntime": [1]}, what + "hooks.createRuntime: expected objects"),
                ({"createRuntime": [{}]}, what + "hooks: path: missing"),
                ({"createRuntime": [{"path": "/x/ioasid-oci-hook", "args": 60}]},
                 what + "hooks: args: expected an array"),
                ({"createRuntime": [{"path": "/x/ioasid-oci-hook", "args": ["", "", 1]}]},
                 what + "hooks.createRuntime: args: expected strings"),
                ({"createRuntime": [{"path": "/x/ioasid-oci-hook", "args": ["x"] * 163}]},
                 what + "hooks.createRuntime: more than 160 arguments")):
            with self.subTest(line):
                init = self.init("senseless", hooks=hooks or [])
                with open(os.path.join(init.bundle, "config.json"), "w", encoding="utf-8") as f:
                    json.dump({"root": {"path": "rootfs"}, "hooks": hooks}, f)
                self.assertEqual(init.hook(), (1, line))

    def test_long_ids(self):
        init = self.init("long")
        self.assertEqual(init.hook(id="i" * 1024), (0, ""))
        self.assertEqual(init.hook("poststop", id="i" * 1023 + "j"), (0, ""))
        name, = self.host.leases()
        self.assertRegex(name, "^oci-i{64}-[0-9a-f]{16}$")
        self.assertEqual(init.hook("poststop", id="i" * 1024), (0, ""))
        self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))
        self.assertEqual(init.hook(id="i" * 1025),
                         (1, "state on stdin: id: expected 1 to 1024 bytes"))

    def test_large_annotations(self):
        init = self.init("large")
        tenant, size = {"io.ioasid.tenant": "org/a"}, 1 << 16
        self.assertEqual(init.hook(annotations={**tenant, "other": "x" * size,
                                                "io.ioasid.devices": ", ".join([ALONE] * 4000)}),
                         (0, ""))
        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})
        self.assertEqual(init.hook("poststop"), (0, ""))
        for name, value, line in (
                ("tenant", "t" * size, 'io.ioasid.tenant: "%s" is no tenant (as "org/team")'
                 % ("t" * 64)),
                ("devices", "d" * size, 'io.ioasid.devices: "%s" is no device (an address as '
                 '0000:3b:00.0)' % ("d" * 64)),
                ("devices", ",".join("0000:%02x:%02x.0" % (i // 32, i % 32) for i in range(4000)),
                 "io.ioasid.devices: more than 64 devices"),
                ("ioasids", "9" * size, 'io.ioasid.ioasids: "%s": expected a whole number'
                 % ("9" * 64)),
                ("memory", "9" * size, 'io.ioasid.memory: "%s": expected bytes, as 4096, 64K, '
                 '512M, 4G or 1T' % ("9" * 64))):
            with self.subTest(name, line=line):
                self.assertEqual(init.hook(annotations={**tenant, "io.ioasid." + name: value}),
                                 (1, line))

    def tmpfs(self, name, options):
        folder = os.path.join(self.host.folder, name)
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700," + options, "tmpfs", folder],
                       check=True)
        self.addCleanup(subprocess.run, ["umount", folder], check=True)
        self.host.write_config(state_dir=folder)
        return folder

    def test_no_room(self):
        """/run is full: at each file that the hook makes, and at each page."""
        for kind in ("nr_inodes", "nr_blocks"):
            refused = 0
            for n in range(1, 12):
                with self.subTest(kind, n=n):
                    folder = self.tmpfs("full-%s-%d" % (kind, n), "%s=%d" % (kind, n))
                    init = self.init("full-%s-%d" % (kind, n))
                    code, line = init.hook()
                    if code:
                        refused += 1
                        self.assertRegex(line, "^cannot (make|write) .*: No space left on device$")
                        # What is left with no room for a record is an empty folder at most.
                        self.assertEqual((self.host.leases(), os.listdir(folder)), ({}, []), line)
                    else:
                        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})
                        # Without room it still ends.
                        subprocess.run(["dd", "if=/dev/zero", "bs=1M", "count=1",
                                        "of=%s/fill" % folder], stderr=subprocess.DEVNULL,
                                       check=False)
                        self.assertEqual(init.hook("poststop"), (0, ""))
                        self.assertEqual(self.host.leases(), {})
                        self.assertLessEqual(os.listdir(folder), ["fill"])
            self.assertIn(refused, range(2 if kind == "nr_inodes" else 1, 11), kind)

    def test_state_folder_that_is_read_only(self):
        folder = self.tmpfs("readonly", "ro")
        init = self.init("readonly")
        code, line = init.hook()
        self.assertEqual(code, 1)
        self.assertRegex(line, "^cannot make %s/oci-readonly-[0-9a-f]{16}: Read-only file system$"
                         % folder)
        self.assertEqual(init.hook("poststop"), (0, ""))

    def test_sockets_on_a_read_only_mount(self):
        """What the hook needs of /run/ioasid is to connect."""
        run = self.host.server.run
        subprocess.run(["mount", "--rbind", run, run], check=True)
        self.addCleanup(subprocess.run, ["umount", "-R", run], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", run], check=True)
        init = self.init("ro-sockets")
        self.assertEqual(init.hook(), (0, ""))
        self.assertEqual(init.hook("poststop"), (0, ""))

    def test_two_at_the_same_time(self):
        for turn in range(5):
            init = self.init("twins-%d" % turn)
            devices = (ALONE, ALONE_2)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                calls = [pool.submit(init.hook, arguments=("--device", device), annotations={
                    "io.ioasid.tenant": "org/a"}) for device in devices * 2]
                self.assertEqual([call.result() for call in calls], [(0, "")] * 4)
            self.assertEqual(self.host.claimed(), dict.fromkeys(devices, "org/a"))
            self.assertEqual(len(self.host.leases()), 1)
            self.assertEqual(sorted(json.loads(init.read("run/ioasid/lease.json"))["devices"]),
                             sorted(devices))
            self.assertEqual(len(init_mounts(init)), 2)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                calls = [pool.submit(init.hook, "poststop") for _ in range(2)]
                self.assertEqual([call.result() for call in calls], [(0, "")] * 2)
            self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))

    def test_poststop_before_create_has_ended(self):
        """It waits, and takes what was made meanwhile."""
        init = self.init("early")
        self.host.server.kill()
        self.host.clear_sockets()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            create = pool.submit(init.hook)
            while not self.host.folders():
                time.sleep(0.01)
            stop = pool.submit(init.hook, "poststop")
            time.sleep(0.3)
            self.assertFalse(create.done() or stop.done())
            self.host.server.start()
            self.assertEqual((create.result(), stop.result()), ((0, ""), (0, "")))
        self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))

    def test_run_that_does_not_end(self):
        init = self.init("stuck")
        self.assertEqual(init.hook(), (0, ""))
        folder = os.open(os.path.join(self.host.state, self.host.folders()[0]), os.O_RDONLY)
        self.addCleanup(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        self.host.write_config(timeout=1)
        for stage in ("createRuntime", "poststop"):
            self.assertEqual(init.hook(stage), (1, "another run of the hook for this container "
                                                   "does not end"))
        fcntl.flock(folder, fcntl.LOCK_UN)
        self.assertEqual(init.hook("poststop"), (0, ""))

    def test_same_id_twice_at_the_same_time(self):
        """Two runtimes of one host know nothing of each other's ids."""
        one, two = self.init("id"), self.init("id-elsewhere")
        devices = {"io.ioasid.tenant": "org/a", "io.ioasid.devices": ALONE_2}
        self.assertEqual(one.hook(), (0, ""))
        self.assertEqual(two.hook(id="id", annotations=devices), (0, ""))
        self.assertEqual(len(self.host.leases()), 2)
        self.assertEqual(self.host.claimed(), {ALONE: "org/a", ALONE_2: "org/a"})
        self.assertEqual(one.hook("poststop"), (0, ""))
        self.assertEqual(self.host.claimed(), {ALONE_2: "org/a"})
        self.assertEqual(two.hook("poststop", id="id"), (0, ""))

    def test_id_and_bundle_of_a_container_that_ended(self):
        """Nobody called poststop, and the next of this name has another tenant."""
        init = self.init("reused")
        self.assertEqual(init.hook(), (0, ""))
        first = self.host.leases()
        init.kill()
        again = self.init("reused")
        self.assertEqual(again.hook(annotations={"io.ioasid.tenant": "org/b",
                                                 "io.ioasid.devices": ALONE}), (0, ""))
        self.assertEqual(self.host.claimed(), {ALONE: "org/b"})
        (name, lease), = self.host.leases().items()
        self.assertEqual(([name], lease["tenant"]), (list(first), "org/b"))
        self.assertEqual(json.loads(again.read("run/ioasid/lease.json"))["tenant"], "org/b")

    def test_more_leases_than_the_tenant_may_have(self):
        """The hook's own connection has one for as long as it works."""
        b = {"io.ioasid.tenant": "org/b"}
        inits = [self.init("lease-%d" % i) for i in range(4)]
        for init in inits[:3]:
            self.assertEqual(init.hook(annotations=b), (0, ""))
        self.assertEqual(inits[3].hook(annotations=b),
                         (1, "tenant org/b: no lease for the container: leases of org/b: limit 4, "
                             "used 4, requested 1 [QUOTA]"))
        self.assertEqual((len(self.host.leases()), len(self.host.folders())), (3, 3))
        self.assertEqual(inits[0].hook("poststop"), (0, ""))
        self.assertEqual(inits[3].hook(annotations=b), (0, ""))

    def test_tenant_that_is_drained(self):
        init = self.init("drained")
        self.host.ctl("tenant", "drain", "org/b")
        code, line = init.hook(annotations={"io.ioasid.tenant": "org/b"})
        self.host.ctl("tenant", "drain", "org/b", "--end")
        self.assertEqual(code, 1)
        self.assertIn("tenant org/b: no lease for the container: ", line)
        self.assertIn("drain", line)
        self.assertEqual(init.hook(annotations={"io.ioasid.tenant": "org/b"}), (0, ""))

    def test_configurations(self):
        init = self.init("config")
        path = os.path.join(self.host.folder, "bad.json")
        for text, line in (
                (None, "No such file or directory"),
                ("{}", "tenants: missing"),
                ('{"tenants": {}, "socked": ""}', "socked: no such key"),
                ('{"tenants": {}, "timeout": 0}', "timeout: expected 1 to 600"),
                ('{"tenants": {}, "state_dir": "x"}', "state_dir: expected an absolute path"),
                ('{"tenants": {"a": {}}}', "tenants.a: socket: missing"),
                ('{"tenants": {"a": {"socket": "/s"}}}',
                 "tenants.a: socket: expected a socket in a folder of its own"),
                ('{"tenants": {},}', "line 1, column 16: '}' where a key is expected"),
                ('{"tenants": {"a": {"socket": "/r/a/s"}, "a": {"socket": "/r/b/s"}}}',
                 'line 1, column 41: key "a" is there twice')):
            with self.subTest(line):
                if text is not None:
                    with open(path, "w", encoding="utf-8") as f:
                        f.write(text)
                elif os.path.exists(path):
                    os.unlink(path)
                code, said = init.hook(config=path)
                self.assertEqual((code, said[:len(path) + 2 + len(line)]),
                                 (1, "%s: %s" % (path, line)))

    def test_closed_folder_of_the_socket(self):
        init = self.init("closed")
        folder = os.path.dirname(self.host.tenant_sockets["org/a"])
        os.chmod(folder, 0o700)
        code, line = init.hook()
        os.chmod(folder, 0o755)
        self.assertEqual(code, 1)
        self.assertIn("has the mode 0700: programs of the container could not pass", line)

    def test_usage(self):
        init = self.init("usage")
        for stage, arguments, line in (
                ("poststart", (), "poststart: no such stage; expected createRuntime, prestart or "
                                  "poststop"),
                ("createRuntime", ("--device",), "--device: no such option, or no value behind it"),
                ("createRuntime", ("--evil", "1"), "--evil: no such option"),
                ("createRuntime", ("--tenant", "org/b"),
                 "io.ioasid.tenant: tenant org/a, but --tenant says org/b: one container has one "
                 "tenant")):
            self.assertEqual(init.hook(stage, arguments), (1, line))

    def test_hooks_of_config_json_ask_together(self):
        """Half of a group cannot be claimed: the first call asks for what the second will."""
        hooks = {"createRuntime": [{"path": "/x/ioasid-oci-hook",
                                    "args": ["ioasid-oci-hook", "createRuntime", "--tenant",
                                             "org/a", "--device", device]} for device in GROUP]}
        init = self.init("together", hooks=hooks)
        for device in GROUP:
            self.assertEqual(init.hook(arguments=("--tenant", "org/a", "--device", device),
                                       annotations=None), (0, ""))
        self.assertEqual(sorted(self.host.claimed()), list(GROUP))

    def test_without_stderr_the_system_log_is_told(self):
        """As crun calls hooks, and with none at all."""
        init = self.init("silent")
        script = ("import os, socket, subprocess, sys\n"
                  "null = os.open('/dev/null', os.O_RDWR)\n"
                  "subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', '/dev'], check=True)\n"
                  "os.mknod('/dev/null', 0o20666, os.makedev(1, 3))\n"
                  "log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                  "log.bind('/dev/log')\n"
                  "subprocess.run(sys.argv[1:], stderr=null)\n"
                  "log.settimeout(5)\n"
                  "print(log.recv(4096).decode())\n")
        lab = {"io.ioasid.tenant": "lab/c"}
        for closed, state, line in (
                ("", init.state(bundle="b"), "state on stdin: bundle: expected an absolute path"),
                # Something else could have got its number by then.
                (">&- 2>&-", init.state(annotations=lab), "tenant lab/c: no lease for the container")):
            with self.subTest(closed):
                done = subprocess.run(["unshare", "--mount", "--propagation", "private",
                                       "/usr/bin/python3", "-c", script, "sh", "-c",
                                       'exec "$@" ' + closed, "sh", self.host.hook,
                                       "createRuntime", "--config", self.host.config],
                                      input=json.dumps(state), capture_output=True, text=True,
                                      timeout=60, check=False)
                self.assertIn(line, done.stdout, done.stderr)


ROOTLESS_SCRIPT = """
import json, os, subprocess, sys, time
hook, place, tenant = sys.argv[1:]
init = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "100"])
while os.readlink("/proc/%d/ns/mnt" % init.pid) == os.readlink("/proc/self/ns/mnt"):
    time.sleep(0.01)
state = {"ociVersion": "1.0.2", "id": "rootless", "pid": init.pid, "bundle": place + "/bundle",
         "annotations": {"io.ioasid.tenant": tenant, "io.ioasid.devices": "0000:03:00.0"}}
said = {"lease": None}
for stage in ("createRuntime", "poststop"):
    done = subprocess.run([hook, stage, "--config", place + "/config.json"],
                          input=json.dumps(state), capture_output=True, text=True)
    said[stage] = [done.returncode, done.stderr]
    path = "/proc/%d/root%s/bundle/rootfs/run/ioasid/lease.json" % (init.pid, place)
    if stage == "createRuntime" and done.returncode == 0:
        with open(path) as f:
            said["lease"] = json.load(f)
init.kill()
said["left"] = os.listdir(place + "/state")
print(json.dumps(said))
"""


def init_mounts(init):
    with open("/proc/%d/mountinfo" % init.process.pid, encoding="utf-8") as f:
        return [line.split()[4] for line in f if "/run/ioasid" in line and init.bundle in line]
