# SPDX-License-Identifier: Apache-2.0
"""
One ioasidd in a folder of its own: made from a policy and a topology, run as a uid without
privileges, stopped with SIGTERM and looked at: exit status, sanitizer reports, what it left.
With the shim "iommufd" an ioasid-keeper of its own, as root, beside it.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .door import Door
from .orphan import die_with_parent

SERVER_UID = 64000
SOCKETS = ("tenants", "agents", "watch", "admin")
SANITIZER = re.compile(r"(ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer"
                       r"|runtime error:|Assertion .* failed|ASSERTION FAILED).*")


# What the suites may claim on a real host: QEMU's "edu" and nothing else; the kernel's mock.
EDU = "1234:11e8"
MOCK = "1234:10cc"


class Server:
    def __init__(self, build, policy, topology=None, slow=1, arguments=(), shim="soft",
                 keeper=False, daemon="ioasidd"):
        self.build = build
        # The mock is another back end of the same shim, in a broker of its own.
        self.is_mock = shim == "mock"
        if self.is_mock:
            shim, daemon = "iommufd", os.path.join(build, "tests", "ioasidd_mock")
        self.shim = shim
        self.slow = slow
        self.arguments = list(arguments)
        self.folder = tempfile.mkdtemp(prefix="ioasid-rpc-")
        os.chmod(self.folder, 0o755)
        self.run = os.path.join(self.folder, "run")
        os.mkdir(self.run)
        os.chown(self.run, SERVER_UID, SERVER_UID)
        self.policy = os.path.join(self.folder, "policy.json")
        self.audit = os.path.join(self.run, "audit.log")
        self.log = os.path.join(self.folder, "stderr")
        self.write_policy(policy)
        self.topology = None
        if topology:
            self.topology = os.path.join(self.folder, "topology.json")
            self._write(self.topology, topology)
        self.process = self.keeper = None
        # With the software IOMMU the keeper is optional; memory outlives the broker only with it.
        self.with_keeper = keeper or shim == "iommufd"
        self.daemon = daemon
        self.registry = os.path.join(self.run, "registry")
        self.environment = {}
        self.door = Door(os.path.join(self.run, "mock-door")) if self.is_mock else None

    @staticmethod
    def _write(path, content):
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        with open(path + ".new", "w") as f:
            f.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def write_policy(self, policy):
        if self.shim == "iommufd" and not self.is_mock:
            policy = only_edu(policy)
        self._write(self.policy, policy)

    def socket(self, name):
        return os.path.join(self.run, name + ".sock")

    def _start_keeper(self):
        folder = os.path.join(self.folder, "keeper")
        os.makedirs(folder, mode=0o711, exist_ok=True)
        path = self.keeper_socket()
        if os.path.exists(path):
            os.unlink(path)
        with open(os.path.join(self.folder, "keeper.stderr"), "ab") as log:
            self.keeper = subprocess.Popen(
                [os.path.join(self.build, "bin", "ioasid-keeper"), "--listen", path,
                 "--client", str(SERVER_UID), "--no-fdstore", "--max-fds", "8192",
                 "--state", os.path.join(folder, "state")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        end = time.monotonic() + 20 * self.slow
        while not os.path.exists(path):
            if self.keeper.poll() is not None or time.monotonic() > end:
                raise RuntimeError("ioasid-keeper does not start:\n" + self.keeper_said())
            time.sleep(0.02)

    def keeper_socket(self):
        return os.path.join(self.folder, "keeper", "sock")

    def keeper_said(self):
        try:
            with open(os.path.join(self.folder, "keeper.stderr"), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def start(self):
        self.spawn()
        self._wait_ready(20 * self.slow)

    def spawn(self, keeper=None):
        """Starts it, the keeper first where it is not there, and waits for nothing.  keeper: the
        socket of another one."""
        binary = self.daemon if "/" in self.daemon else os.path.join(
            self.build, "bin", self.daemon)
        argv = ["ioasidd", "--policy", self.policy, "--shim", self.shim, "--audit", self.audit,
                "--registry", self.registry]
        if self.with_keeper:
            if self.keeper is None:
                self._start_keeper()
            argv += ["--keeper", keeper or self.keeper_socket()]
        if self.shim != "iommufd" and self.topology:
            argv += ["--topology", self.topology]
        for name in SOCKETS:
            argv += ["--listen", "%s=%s:0666" % (name, self.socket(name))]
        argv += self.arguments
        # The folder of the build may be closed to the server's uid: it gets the open file.
        fd = os.open(binary, os.O_RDONLY)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                argv, executable="/proc/self/fd/%d" % fd, pass_fds=[fd], cwd=self.run,
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=SERVER_UID, group=SERVER_UID, extra_groups=[],
                preexec_fn=die_with_parent)
        os.close(fd)

    def kill(self):
        """kill -9, and what the kernel leaves of it."""
        self.process.kill()
        self.process.wait()
        self.clear()

    def terminate(self):
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(15 * self.slow)

    def restart_keeper(self):
        """kill -9 and a new one, which has no memfds."""
        self.keeper.kill()
        self.keeper.wait()
        self._start_keeper()

    def check_config(self, *arguments):
        """(exit status, what it printed) of ioasidd with these options alone."""
        done = subprocess.run([os.path.join(self.build, "bin", "ioasidd"), *arguments],
                              env=self._environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=20 * self.slow, cwd=self.run)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def _environment(self):
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": self.run}
        for name in ("ASAN", "UBSAN", "TSAN", "LSAN"):
            name += "_OPTIONS"
            options = os.environ.get(name, "")
            # The server's uid may not see the source tree: it gets copies.
            for path in re.findall(r"\bsuppressions=([^:]+)", options):
                copy = os.path.join(self.folder, os.path.basename(path))
                shutil.copy(path, copy)
                os.chmod(copy, 0o644)
                options = options.replace(path, copy)
            env[name] = ":".join(filter(None, [options, "exitcode=99"]))
        if self.door:
            env["IOASID_MOCK_DOOR"] = self.door.path
        env.update(self.environment)
        if "IOASID_CHECK_RUN" in os.environ:
            env["IOASID_CHECK_RUN"] = os.environ["IOASID_CHECK_RUN"]
        return env

    def _wait_ready(self, seconds):
        end = time.monotonic() + seconds
        waiting = list(SOCKETS)
        while waiting:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                try:
                    s.connect(self.socket(waiting[0]))
                    waiting.pop(0)
                    continue
                except OSError:
                    pass
            if self.process.poll() is not None:
                raise RuntimeError("ioasidd ended with %s at start:\n%s" %
                                   (self.process.returncode, self.stderr()))
            if time.monotonic() > end:
                raise RuntimeError("ioasidd does not listen on %s:\n%s" % (waiting, self.stderr()))
            time.sleep(0.02)

    def stderr(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def hangup(self):
        self.process.send_signal(signal.SIGHUP)

    def rss_kib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def open_fds(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def stop(self):
        """SIGTERM; returns a list of what was wrong with the end."""
        problems = []
        if self.process is None:
            return problems
        if self.process.poll() is not None:
            problems.append("ended before SIGTERM with %s" % self.process.returncode)
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(15 * self.slow)
                if code != 0:
                    problems.append("exit status %s after SIGTERM" % code)
            except subprocess.TimeoutExpired:
                problems.append("did not end within %d s of SIGTERM" % (15 * self.slow))
                self.process.kill()
                self.process.wait()
        problems += self._stop_keeper()
        report = SANITIZER.search(self.stderr() + self.keeper_said())
        if report:
            problems.append("report on stderr: " + report.group(0))
        left = [n for n in os.listdir(self.run) if n.endswith(".sock")]
        if left:
            problems.append("left sockets behind: %s" % ", ".join(sorted(left)))
        if problems:
            problems.append("stderr ends with:\n" + self.stderr()[-6000:])
        self.process = None
        return problems

    def _stop_keeper(self):
        if self.keeper is None:
            return []
        keeper, self.keeper = self.keeper, None
        keeper.terminate()
        try:
            code = keeper.wait(15 * self.slow)
        except subprocess.TimeoutExpired:
            keeper.kill()
            code = "%s, killed: it did not end" % keeper.wait()
        return [] if code == 0 else ["ioasid-keeper: exit status %s after SIGTERM:\n%s" % (
            code, self.keeper_said()[-3000:])]

    def clear(self):
        """What a server that was brought down left behind."""
        for name in os.listdir(self.run):
            if name.endswith(".sock"):
                os.unlink(os.path.join(self.run, name))

    def remove(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._stop_keeper()
        shutil.rmtree(self.folder, ignore_errors=True)


def only_edu(policy):
    """The policy with the devices that suites may drive in place of any: a guest has others,
    and lives on some of them."""
    if isinstance(policy, str):
        return policy
    if isinstance(policy, dict):
        if policy == {"any": True}:
            return {"vendor_device": EDU}
        return {key: only_edu(value) for key, value in policy.items()}
    if isinstance(policy, list):
        return [only_edu(value) for value in policy]
    return policy
