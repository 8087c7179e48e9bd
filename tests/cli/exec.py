#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`ioasidctl exec` against a real ioasidd with the software IOMMU: programs that take up what they
were given, exit statuses, signals, refusals; and that nothing is left of a lease when exec has
returned, whoever was killed, and whichever of the two.

usage: exec.py BIN_DIR GIVEN_DMA [unittest arguments]     prints "N passed, N failed" last

BIN_DIR has ioasidd, ioasidctl and, for a broker that is restarted, ioasid-keeper.
"""
import ctypes
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
SLOW = 5 if any(os.environ.get(s + "_OPTIONS") for s in ("ASAN", "TSAN")) else 1
DEVICE, OTHER, FORBIDDEN = "0000:01:00.0", "0000:03:00.0", "0000:04:00.0"
PAIR = ("0000:02:00.0", "0000:02:00.1")
RELAYED = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH")
# What a connection costs while it is there; ioasidctl's own ends a moment after the program.
OF_CONNECTIONS = ("connections", "requests_in_flight", "broker_bytes")

# Says which signals it got, one a line, until it is told to end.
LISTENER = r"""
import signal, sys
def got(number, frame):
    print("got", signal.Signals(number).name, flush=True)
for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"):
    signal.signal(getattr(signal, "SIG" + name), got)
print("ready", flush=True)
for line in sys.stdin:
    if line == "end\n":
        sys.exit(3)
    print("echo", line, end="", flush=True)
"""


# Takes each signal as it comes, so that two are not taken for one.
COUNTER = r"""
import os, signal, sys
names = [getattr(signal, "SIG" + n) for n in ("INT", "QUIT", "WINCH", "TERM")]
signal.pthread_sigmask(signal.SIG_BLOCK, names)
os.write(1, b"ready\n")
while True:
    number = signal.sigwaitinfo(names).si_signo
    os.write(1, b"got %s\n" % signal.Signals(number).name.encode())
    if number == signal.SIGTERM:
        sys.exit(3)
"""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def until(condition, what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * SLOW} s: {what}")
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Broker:
    SOCKETS = ("tenants", "agents", "web", "admin")

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="ioasid-exec-")
        uid = os.getuid()
        self.policy = {
            "version": 1,
            "tenants": {
                "org": {"devices": [{"group": 1}, {"group": 2}, {"group": 3}],
                        "limits": {"registered_bytes": "16M"}},
                "org/a": {"limits": {"ioasids": 200, "leases": 300}},
                "acme": {"devices": [{"any": True}]},
                "acme/web": {},
                "acme/db": {},
            },
            "identities": [
                {"socket": "tenants", "uid": uid, "role": "tenant", "tenant": "org/a"},
                {"socket": "agents", "uid": uid, "role": "agent", "subtree": "acme"},
                {"socket": "web", "role": "tenant", "tenant": "acme/web"},
                {"socket": "admin", "role": "admin"},
            ],
        }
        with open(os.path.join(self.folder, "policy.json"), "w", encoding="ascii") as f:
            json.dump(self.policy, f)
        self.process = self.keeper = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def socket(self, name):
        return self.path(name + ".sock")

    def _spawn(self, log, *argv):
        with open(self.path(log), "ab") as f:
            # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                    preexec_fn=die_with_parent, cwd=self.folder)

    def _wait_listening(self, process, path):
        def listens():
            if process.poll() is not None:
                raise AssertionError(self.said())
            with socket.socket(socket.AF_UNIX) as s:
                return s.connect_ex(path) == 0
        until(listens, "listening on " + path)

    def start(self):
        if self.keeper is None:
            path = self.path("keeper.sock")
            self.keeper = self._spawn(
                "keeper.log", os.path.join(BIN, "ioasid-keeper"), "--listen", path, "--client",
                str(os.getuid()), "--no-fdstore", "--max-fds", "2048", "--max-contexts", "16",
                "--max-devices", "16", "--state", self.path("keeper.state"))
            until(lambda: os.path.exists(path) or self.keeper.poll() is not None, path)
            if self.keeper.poll() is not None:
                raise AssertionError(self.said())
        listen = [word for name in self.SOCKETS
                  for word in ("--listen", f"{name}={self.socket(name)}:0600")]
        self.process = self._spawn(
            "log", os.path.join(BIN, "ioasidd"), "--policy", self.path("policy.json"), "--shim",
            "soft", "--topology", os.path.join(HERE, "topology.json"), "--audit", "none",
            "--registry", self.path("registry"), "--keeper", self.path("keeper.sock"), *listen)
        for name in self.SOCKETS:
            self._wait_listening(self.process, self.socket(name))

    def kill(self):
        self.process.kill()
        self.process.wait()
        for name in self.SOCKETS:
            os.unlink(self.socket(name))

    def stop(self):
        status = []
        for process in (self.process, self.keeper):
            if process is None:
                continue
            process.terminate()
            try:
                status.append(process.wait(20 * SLOW))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status.append("killed")
        text = self.said()
        shutil.rmtree(self.folder, ignore_errors=True)
        if status != [0, 0] or re.search("Sanitizer|runtime error", text):
            raise AssertionError(f"ioasidd, ioasid-keeper ended with {status}\n{text[-3000:]}")

    def said(self):
        text = ""
        for name in ("log", "keeper.log"):
            with open(self.path(name), encoding="utf-8", errors="replace") as f:
                text += f.read()
        return text


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.broker.start()

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def tearDown(self):
        self.nothing_left()

    # ---- running ----

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("IOASID_")}
        env["PATH"] = BIN + ":" + env.get("PATH", "/usr/bin:/bin")
        env["IOASID_SOCKET"] = self.broker.socket("tenants")
        env.update(more)
        return env

    def ctl(self, *words, **more):
        return subprocess.run(["ioasidctl", *words], capture_output=True, text=True, check=False,
                              env=self.environment(**more), stdin=subprocess.DEVNULL,
                              timeout=60 * SLOW, cwd=self.broker.folder)

    def exec_words(self, *words, socket="tenants", devices=(DEVICE,)):
        # pylint: disable-next=redefined-outer-name
        out = ["ioasidctl", "-s", self.broker.socket(socket), "exec"]
        for device in devices:
            out += ["--device", device]
        return out + list(words)

    def run_exec(self, *words, input=None, **more):
        # pylint: disable-next=redefined-builtin
        return subprocess.run(self.exec_words(*words, **more), capture_output=True, text=True,
                              check=False, env=self.environment(), input=input or "",
                              timeout=60 * SLOW, cwd=self.broker.folder)

    def start_exec(self, *words, **more):
        """Not waited for, a job of its own; what it says can be read a line at a time."""
        def begin():
            die_with_parent()
            os.setpgid(0, 0)
        # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
        process = subprocess.Popen(
            self.exec_words(*words, **more), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=self.environment(), preexec_fn=begin)
        process.unread = b""
        self.addCleanup(self.finish, process)
        return process

    @staticmethod
    def finish(process):
        process.poll()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()

    def line(self, process, timeout=20):
        while b"\n" not in process.unread:
            readable, _, _ = select.select([process.stdout], [], [], timeout * SLOW)
            if not readable:
                self.fail("no line came")
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                self.fail("it ended: " + process.stderr.read())
            process.unread += more
        line, _, process.unread = process.unread.partition(b"\n")
        return line.decode()

    def child_of(self, process):
        path = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(path, encoding="ascii") as f:
            return int(f.read().split()[0])

    def left_behind(self):
        """For sh: a program that is in the lease when sh ends; it ends with the test."""
        said = self.broker.path("said")

        def end():
            with open(said + ".pid", encoding="ascii") as f:
                os.kill(int(f.read()), signal.SIGKILL)
        self.addCleanup(end)
        return (f": >{said}; {DMA} hold >{said} 2>&1 </dev/null & echo $! >{said}.pid; "
                f"until grep -q ready {said}; do sleep 0.02; done; exit 4")

    # ---- what there is ----

    def admin(self, *words):
        r = self.ctl("-s", self.broker.socket("admin"), "-o", "json", *words)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def leases(self):
        return self.admin("lease", "list")["leases"]

    def charged(self):
        return {(t["tenant"], r["resource"]): r["own"]
                for t in self.admin("tenant", "list", "--unused")["tenants"]
                for r in t["resources"] if r["own"] and r["resource"] not in OF_CONNECTIONS}

    def nothing_left(self):
        """At once: exec has awaited it."""
        self.assertEqual(self.leases(), [])
        self.assertEqual(self.charged(), {})
        self.assertEqual(self.admin("check")["problems"], [])

    def nothing_left_soon(self):
        until(lambda: not self.leases() and not self.charged(), "the end of the lease")

    def one_lease(self):
        leases = self.leases()
        self.assertEqual(len(leases), 1, leases)
        return leases[0]


class Programs(Case):
    def test_dma(self):
        r = self.run_exec("--", DMA, devices=(DEVICE, OTHER))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertRegex(r.stdout, rf"^dma {DEVICE} exec-\d+-[0-9a-f]+\ndma {OTHER} exec-\S+\n$")

    def test_pair(self):
        r = self.run_exec("--", DMA, devices=(",".join(PAIR),))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(r.stdout.count("dma 0000:02:00."), 2)

    def test_no_device(self):
        r = self.run_exec("--", DMA, devices=())
        self.assertEqual((r.returncode, r.stderr, r.stdout), (0, "", ""))

    def test_what_is_given(self):
        r = self.run_exec("--", "sh", "-c", r"""
            env | grep ^IOASID_ | sort
            cat "/proc/self/fd/${IOASID_LEASE_FILE#fd:}"
            ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> \(.*\)/fd \1 \2/p'
            grep -E '^Sig(Blk|Ign)' /proc/self/status""")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        lines = r.stdout.splitlines()
        self.assertRegex(lines[0], r"^IOASID_LEASE_FILE=fd:\d+$")
        self.assertEqual(lines[1], "IOASID_SOCKET=" + self.broker.socket("tenants"))
        lease = json.loads(lines[2])
        self.assertEqual(sorted(lease), ["devices", "lease", "secret", "tenant", "version"])
        self.assertEqual((lease["version"], lease["tenant"], lease["devices"]),
                         (1, "org/a", [DEVICE]))
        self.assertRegex(lease["secret"], "^[0-9a-f]{64}$")
        # Standard streams, the lease, and the folder that ls reads: no socket, no pidfd.
        more = [l for l in lines if l.startswith("fd ") and int(l.split()[1]) > 2]
        self.assertEqual(len([l for l in more if "memfd:ioasid-lease" in l]), 1, more)
        self.assertFalse([l for l in more if re.search("socket|pidfd|eventfd|eventpoll", l)], more)
        self.assertIn("SigBlk:\t0000000000000000", lines)
        self.assertIn("SigIgn:\t0000000000000000", lines)

    def test_lease_file_is_sealed(self):
        r = self.run_exec("--", "/usr/bin/python3", "-c", """
import fcntl, os
fd = int(os.environ["IOASID_LEASE_FILE"][3:])
print(fcntl.fcntl(fd, 1034), os.read(fd, 1))
try:
    os.pwrite(fd, b"x", 0)
except PermissionError:
    print("refused")
""")
        self.assertEqual((r.returncode, r.stdout), (0, "15 b'{'\nrefused\n"), r.stderr)

    def test_arguments_are_passed_on(self):
        words = ["", "a b", "--help", "--", "-x", "two\nlines", "$HOME", "\x7f\x1b[1m"]
        r = self.run_exec("--", "/usr/bin/python3", "-c", "import sys; print(sys.argv[1:])",
                          *words)
        self.assertEqual((r.returncode, r.stdout), (0, f"{words}\n"), r.stderr)

    def test_relative_socket(self):
        r = subprocess.run(
            ["ioasidctl", "-s", "tenants.sock", "exec", "--device", DEVICE, "--", "sh", "-c",
             f"cd / && exec {DMA}"], capture_output=True, text=True, check=False,
            env=self.environment(), cwd=self.broker.folder, timeout=60 * SLOW)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_ioasidctl_as_the_program(self):
        r = self.run_exec("--ioasids", "1", "--memory", "1M", "--", "ioasidctl", "shell", "-e",
                          input=f"""
m=memory register --size 64K --fill 00
s=ioasid alloc --devices {DEVICE}
a=map $s any 64K --memory $m
attach {DEVICE} $s
dma write {DEVICE} $a --text "from the device"
memory read $m 0 15 --as text
""")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("from the device", r.stdout)

    def test_one_run_after_the_other(self):
        r = self.run_exec("--", "sh", "-ec", f"""
            for i in 1 2 3 4 5 6; do ioasidctl -o id ioasid alloc --label $i; done
            ioasidctl -o json ioasid list; ioasidctl device show {DEVICE} >&2""")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stdout.count('"label": "'), 6)
        self.assertIn("claimed", r.stderr)

    def test_name_of_another_lease_is_not_passed_on(self):
        r = subprocess.run(
            self.exec_words("--", "ioasidctl", "ioasid", "list"), text=True,
            capture_output=True, check=False, timeout=60 * SLOW,
            env=self.environment(IOASID_LEASE="web", IOASID_LEASE_SECRET_FILE="/nonexistent"))
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_nested(self):
        r = self.run_exec("--", "ioasidctl", "exec", "--device", OTHER, "--", DMA)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertRegex(r.stdout, rf"^dma {OTHER} exec-\S+\n$")

    def test_named_leases_are_as_before(self):
        secret = self.broker.path("secret")
        env = {"IOASID_LEASE": "web.1", "IOASID_LEASE_SECRET_FILE": secret}
        self.assertEqual(self.ctl("lease", "open", "web.1", **env).returncode, 0)
        self.assertEqual(self.ctl("ioasid", "alloc", **env).returncode, 0)
        self.assertEqual(self.ctl("lease", "close", **env).returncode, 0)

    def test_lease_that_makes_no_sense(self):
        r = self.ctl("ioasid", "list", IOASID_LEASE_FILE="/nonexistent/lease.json")
        self.assertEqual(r.returncode, 1)
        self.assertIn("/nonexistent/lease.json: No such file", r.stderr)
        r = self.ctl("ioasid", "list", IOASID_LEASE_FILE="fd:77")
        self.assertEqual(r.returncode, 1)
        self.assertIn("fd:77: Bad file descriptor", r.stderr)
        path = self.broker.path("lease.json")
        with open(path, "w", encoding="ascii") as f:
            f.write('{"version":1,"tenant":"org/a","lease":"x","secret":"00","devices":[]}')
        r = self.ctl("ioasid", "list", IOASID_LEASE_FILE=path)
        self.assertEqual(r.returncode, 1)
        self.assertIn('"secret": expected 64 hexadecimal digits', r.stderr)
        self.assertEqual(self.ctl("status", IOASID_LEASE_FILE=path).returncode, 0)
        with open(path, "w", encoding="ascii") as f:
            f.write('{"version":1,"tenant":"org/a","lease":"x","secret":"%064d","devices":[]}' % 0)
        self.assertEqual(self.ctl("ioasid", "list", IOASID_LEASE_FILE=path).returncode, 5)


class Agents(Case):
    def test_program_is_the_tenant(self):
        r = self.run_exec("--tenant", "acme/web", "--socket-for-child", self.broker.socket("web"),
                          "--", "sh", "-ec", f"{DMA}; ioasidctl -o json status",
                          socket="agents", devices=(FORBIDDEN,))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn(f"dma {FORBIDDEN}", r.stdout)
        status = json.loads(r.stdout.split("\n", 1)[1])
        self.assertEqual((status["role"], status["tenant"]), ("tenant", "acme/web"))

    def test_program_is_the_agent(self):
        r = self.run_exec("--tenant", "acme/web", "--", "sh", "-ec",
                          f"{DMA}; ioasidctl -o id ioasid list", socket="agents")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn(f"dma {DEVICE}", r.stdout)

    def test_lease_is_taken_back(self):
        """From a program that the child left behind, on the tenant's socket."""
        r = self.run_exec("--tenant", "acme/web", "--socket-for-child", self.broker.socket("web"),
                          "--", "sh", "-c", self.left_behind(), socket="agents")
        self.assertEqual((r.returncode, r.stderr), (4, ""))

    def test_of_another_tenant(self):
        r = self.run_exec("--tenant", "acme/db", "--socket-for-child", self.broker.socket("web"),
                          "--", DMA, socket="agents")
        self.assertEqual(r.returncode, 9)
        self.assertIn("only an agent may name another tenant", r.stderr)

    def test_refusals(self):
        r = self.run_exec("--tenant", "org/a", "--", "echo", "ran", socket="agents")
        self.assertEqual((r.returncode, r.stdout), (3, ""))
        self.assertIn("subtree", r.stderr)
        r = self.run_exec("--", "echo", "ran", socket="agents")
        self.assertNotEqual(r.returncode, 0)
        self.assertEqual(r.stdout, "")
        self.assertIn("names the tenant", r.stderr)
        r = self.run_exec("--", "echo", "ran", socket="admin")
        self.assertEqual((r.returncode, r.stdout), (3, ""))


class Ends(Case):
    def test_grpc_says_to_the_program_what_it_would(self):
        """ioasidctl keeps gRPC core's own lines from its standard error, and from there only."""
        for more, expected in (({}, "unset"), ({"GRPC_VERBOSITY": "DEBUG"}, "DEBUG")):
            r = self.ctl("exec", "--", "sh", "-c", "echo ${GRPC_VERBOSITY-unset}", **more)
            self.assertEqual((r.returncode, r.stdout), (0, expected + "\n"))
            self.assertEqual(r.stderr == "", not more)

    def test_status(self):
        for status in (0, 1, 7, 255):
            r = self.run_exec("--", "sh", "-c", f"exit {status}")
            self.assertEqual((r.returncode, r.stdout, r.stderr), (status, "", ""))
            self.nothing_left()

    def test_killed_by_itself(self):
        for name, number in (("TERM", 15), ("KILL", 9), ("SEGV", 11)):
            r = self.run_exec("--", "sh", "-c", f"ulimit -c 0; kill -{name} $$")
            self.assertEqual((r.returncode, r.stdout, r.stderr), (128 + number, "", ""))
            self.nothing_left()

    def test_cannot_run(self):
        r = self.run_exec("--", "/nonexistent/program")
        self.assertEqual(r.returncode, 127)
        self.assertIn("cannot run /nonexistent/program: No such file", r.stderr)
        self.nothing_left()
        r = self.run_exec("--", "no-such-program-at-all")
        self.assertEqual(r.returncode, 127)
        r = self.run_exec("--", self.broker.path("policy.json"))
        self.assertEqual(r.returncode, 126)
        self.assertIn("Permission denied", r.stderr)
        self.nothing_left()
        r = self.ctl("-o", "json", "exec", "--", "/nonexistent")
        self.assertEqual(json.loads(r.stderr)["exit_code"], 127)

    def refused(self, status, text, *words, **more):
        marker = self.broker.path("marker")
        r = self.run_exec(*words, "--", "touch", marker, **more)
        self.assertEqual(r.returncode, status, r.stderr)
        self.assertRegex(r.stderr, text)
        self.assertFalse(os.path.exists(marker))
        self.nothing_left()

    def test_refusals(self):
        self.refused(3, FORBIDDEN, devices=(FORBIDDEN,))
        self.refused(3, FORBIDDEN, devices=(DEVICE, FORBIDDEN))
        self.refused(5, "0000:77:00.0", devices=("0000:77:00.0",))
        self.refused(1, "GROUP_INCOMPLETE", devices=(PAIR[0],))
        self.refused(2, "expected the address", devices=("77",))
        self.refused(2, "--memory", "--memory", "x")
        r = self.run_exec("--", DMA)
        self.assertEqual(r.returncode, 0)
        r = self.ctl("-s", self.broker.path("none.sock"), "exec", "--", "echo", "ran")
        self.assertEqual((r.returncode, r.stdout), (6, ""))
        self.assertIn("no server at", r.stderr)
        r = self.ctl("exec", "--device", DEVICE)
        self.assertEqual(r.returncode, 2)
        self.assertIn("PROGRAM", r.stderr)

    def test_delegate_of_simulated_devices(self):
        self.refused(1, 'UNIMPLEMENTED: delegate: shim "soft" has no contexts to give away',
                     "--delegate", "--memory", "64K")
        self.refused(2, "--delegate: expected --memory", "--delegate")
        r = self.ctl("lease", "open", "vmm", "--delegate", "--memory", "64K")
        self.assertEqual(r.returncode, 2)
        self.assertIn("--delegate: expected --watch-pid", r.stderr)
        self.nothing_left()

    def test_device_in_use(self):
        process = self.start_exec("--", DMA, "hold")
        self.line(process)
        self.assertEqual(self.line(process), "ready")
        r = self.run_exec("--", "echo", "ran")
        self.assertEqual(r.stdout, "")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn(DEVICE, r.stderr)
        self.assertTrue(self.one_lease()["held"])
        process.terminate()
        self.assertEqual(process.wait(20 * SLOW), 143)

    def test_limits_of_the_lease(self):
        r = self.run_exec("--ioasids", "1", "--", "sh", "-c",
                          "ioasidctl -o id ioasid alloc; ioasidctl ioasid alloc")
        self.assertEqual(r.returncode, 4)
        self.assertRegex(r.stderr, "ioasids of lease exec-.*limit 1, used 1, requested 1")
        r = self.run_exec("--memory", "64K", "--", "ioasidctl", "memory", "register", "--size",
                          "68K")
        self.assertEqual(r.returncode, 4)
        self.assertIn("limit 65536", r.stderr)
        r = self.run_exec("--memory", "64K", "--", DMA)
        self.assertEqual(r.returncode, 0, r.stderr)
        r = self.run_exec("--memory", "60K", "--", DMA)
        self.assertEqual(r.returncode, 9)

    def test_limits_of_the_tenant(self):
        self.admin("quota", "set", "org/a", "leases=0")
        try:
            self.refused(4, "leases")
        finally:
            self.admin("quota", "set", "org/a", "leases=300")

    def test_program_killed(self):
        process = self.start_exec("--", DMA, "hold")
        self.line(process)
        self.assertEqual(self.line(process), "ready")
        lease = self.one_lease()
        self.assertEqual((lease["ioasids"], lease["devices"], lease["attachments"]), (1, 1, 1))
        os.kill(self.child_of(process), signal.SIGKILL)
        self.assertEqual(process.wait(20 * SLOW), 137)
        self.nothing_left()

    def test_exec_killed(self):
        process = self.start_exec("--", DMA, "hold")
        self.line(process)
        self.assertEqual(self.line(process), "ready")
        child = self.child_of(process)
        process.kill()
        process.wait()
        time.sleep(0.3)
        self.assertTrue(alive(child))
        self.assertTrue(self.one_lease()["held"])
        os.kill(child, signal.SIGKILL)
        self.nothing_left_soon()

    def test_exec_killed_and_nobody_holds(self):
        """Only the pidfd ends it."""
        process = self.start_exec("--", "sh", "-c", "echo ready; exec sleep 600")
        self.assertEqual(self.line(process), "ready")
        child = self.child_of(process)
        process.kill()
        process.wait()
        until(lambda: not self.one_lease()["held"], "the end of the connection")
        time.sleep(0.3)
        self.assertEqual(self.one_lease()["devices"], 1)
        os.kill(child, signal.SIGKILL)
        self.nothing_left_soon()

    def test_exec_killed_anywhere(self):
        marker = self.broker.path("ended")
        for i in range(20):
            process = self.start_exec("--", "sh", "-c", f"sleep 0.05; : >{marker}.{i}")
            time.sleep(0.004 * i)
            process.kill()
            process.wait()
        self.nothing_left_soon()

    def test_ends_while_something_is_left_behind(self):
        r = self.run_exec("--", "sh", "-c", self.left_behind())
        self.assertEqual((r.returncode, r.stderr), (4, ""))
        self.nothing_left()

    def test_end_is_awaited(self):
        process = self.start_exec("--", "sh", "-c", "echo ready; read x; exit 4")
        self.assertEqual(self.line(process), "ready")
        os.kill(self.broker.process.pid, signal.SIGSTOP)
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(1)
        finally:
            os.kill(self.broker.process.pid, signal.SIGCONT)
        self.assertEqual(process.wait(20 * SLOW), 4)
        self.nothing_left()

    def test_broker_restarted(self):
        process = self.start_exec("--", DMA, "again")
        first = self.line(process)
        self.assertEqual(self.line(process), "ready")
        self.broker.kill()
        self.broker.start()
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertEqual(self.line(process), first)
        self.assertEqual(process.wait(40 * SLOW), 0)
        self.nothing_left()

    def test_broker_restarted_and_nobody_holds(self):
        process = self.start_exec("--", "sh", "-c", f"echo ready; read x; exec {DMA}")
        self.assertEqual(self.line(process), "ready")
        for _ in range(2):
            self.broker.kill()
            self.broker.start()
        lease = self.one_lease()
        self.assertEqual((lease["held"], lease["devices"]), (False, 1))
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertRegex(self.line(process), f"^dma {DEVICE}")
        self.assertEqual(process.wait(40 * SLOW), 0)
        self.nothing_left()

    def test_program_killed_while_the_broker_is_down(self):
        process = self.start_exec("--", DMA, "hold")
        self.line(process)
        self.assertEqual(self.line(process), "ready")
        self.broker.kill()
        os.kill(self.child_of(process), signal.SIGKILL)
        self.assertEqual(process.wait(40 * SLOW), 137)
        self.assertRegex(process.stderr.read(), "lease exec-.*no server at")
        self.broker.start()
        self.nothing_left_soon()

    def test_many_at_once(self):
        results = [None] * 100

        def one(i):
            what = (("sh", "-c", f"exit {i}"),
                    ("ioasidctl", "-o", "id", "ioasid", "alloc"),
                    (DMA,), ("sh", "-c", "kill -9 $$"))[i % 4]
            results[i] = self.run_exec("--", *what, devices=())
        threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.nothing_left()
        for i, r in enumerate(results):
            self.assertEqual(r.returncode, (i, 0, 0, 137)[i % 4], r.stderr)
            self.assertEqual(r.stderr, "")


class Signals(Case):
    def listener(self, **more):
        process = self.start_exec("--", "/usr/bin/python3", "-c", LISTENER, **more)
        self.assertEqual(self.line(process), "ready")
        return process

    def say(self, process, text):
        process.stdin.write(text + "\n")
        process.stdin.flush()

    def test_relayed_once(self):
        process = self.listener()
        for name in RELAYED + ("CONT",):
            process.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(self.line(process), "got SIG" + name)
        # Nothing came twice.
        self.say(process, "x")
        self.assertEqual(self.line(process), "echo x")
        self.say(process, "end")
        self.assertEqual(process.wait(20 * SLOW), 3)
        self.nothing_left()

    def test_ends_by_a_relayed_signal(self):
        for name in RELAYED[:-1]:
            process = self.start_exec("--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 600")
            self.assertEqual(self.line(process), "ready")
            number = getattr(signal, "SIG" + name)
            process.send_signal(number)
            self.assertEqual(process.wait(20 * SLOW), 128 + number)
            self.assertEqual(process.stderr.read(), "")
            self.nothing_left()

    def test_job_control(self):
        process = self.listener()
        child = self.child_of(process)
        process.send_signal(signal.SIGTSTP)
        status = []

        def stopped():
            status[:] = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
            return status[0]
        until(stopped, "a stopped job")
        self.assertTrue(os.WIFSTOPPED(status[1]))
        with open(f"/proc/{child}/stat", encoding="ascii") as f:
            self.assertEqual(f.read().rsplit(")", 1)[1].split()[0], "T")
        process.send_signal(signal.SIGCONT)
        self.assertEqual(self.line(process), "got SIGCONT")
        self.say(process, "end")
        until(lambda: process.poll() is not None, "the end")
        self.assertEqual(process.returncode, 3)

    def test_stopped_from_outside(self):
        """By SIGSTOP, as a debugger does: exec goes on waiting."""
        process = self.listener()
        child = self.child_of(process)
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(child, signal.SIGCONT)
        self.assertEqual(self.line(process), "got SIGCONT")
        self.say(process, "end")
        self.assertEqual(process.wait(20 * SLOW), 3)

    def terminal(self, *words):
        """On a terminal of its own, in the foreground."""
        env = self.environment()
        pid, fd = pty.fork()
        if not pid:
            try:
                die_with_parent()
                os.execvpe("ioasidctl", self.exec_words("--", *words), env)
            finally:
                os._exit(99)
        self.addCleanup(os.close, fd)
        return pid, fd

    def read_until(self, fd, pattern):
        text, end = "", time.monotonic() + 20 * SLOW
        while not re.search(pattern, text):
            readable, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
            if not readable:
                self.fail(f"no {pattern!r} in {text!r}")
            try:
                text += os.read(fd, 4096).decode()
            except OSError:
                self.fail(f"it ended: {text!r}")
        return text

    def test_terminal(self):
        """What it sends goes to both, and is not sent again."""
        pid, fd = self.terminal("/usr/bin/python3", "-c", COUNTER)
        self.read_until(fd, "ready")
        text, rounds = "", 40
        for _ in range(rounds):
            os.write(fd, b"\x03")
            text += self.read_until(fd, "got SIGINT")
            # A second one would come now.
            time.sleep(0.02)
        os.write(fd, b"\x1c")
        text += self.read_until(fd, "got SIGQUIT")
        termios.tcsetwinsize(fd, (30, 90))
        text += self.read_until(fd, "got SIGWINCH")
        os.kill(pid, signal.SIGTERM)
        text += self.read_until(fd, "got SIGTERM")
        self.assertEqual(text.count("got "), rounds + 3, text)
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 3)

    def test_terminal_of_another_group(self):
        """A program that has left the group is sent what the terminal sends.  It reads nothing:
        in the background that would stop it."""
        listener = LISTENER.replace("for line in sys.stdin", "while signal.pause() is None")
        pid, fd = self.terminal("/usr/bin/python3", "-c",
                                "import os; os.setpgid(0, 0)" + listener.split("    if line")[0] +
                                "    pass")
        self.read_until(fd, "ready")
        os.write(fd, b"\x03")
        self.read_until(fd, "got SIGINT")
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            os.kill(int(f.read().split()[0]), signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 137)

    def test_before_the_program(self):
        """A broker that does not answer: exec is ended as any program is."""
        os.kill(self.broker.process.pid, signal.SIGSTOP)
        try:
            process = self.start_exec("--", "echo", "ran")
            time.sleep(0.3)
            child = self.child_of(process)
            process.terminate()
            self.assertEqual(process.wait(20 * SLOW), -signal.SIGTERM)
            until(lambda: not alive(child), "the end of the child")
            self.assertEqual(process.stdout.read(), "")
        finally:
            os.kill(self.broker.process.pid, signal.SIGCONT)
        self.nothing_left_soon()


def main():
    global BIN, DMA  # pylint: disable=global-variable-undefined
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    BIN, DMA = (os.path.realpath(p) for p in (sys.argv.pop(1), sys.argv.pop(1)))
    result = unittest.main(exit=False).result
    # One that failed may have left something, too.
    bad = len({test.id() for test, _ in result.failures + result.errors})
    print(f"{max(0, result.testsRun - bad - len(result.skipped))} passed, {bad} failed", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
