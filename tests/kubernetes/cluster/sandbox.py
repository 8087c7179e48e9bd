# SPDX-License-Identifier: Apache-2.0
"""
Runs a program on a machine of its own (see `machine`): namespaces, and cgroups below this
process's own.  When it is over, or this process is told to end, no process, mount, interface or
cgroup of it is left.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "ioasid-kubelet-%d" % os.getpid()


def hierarchies():
    """This process's cgroup in each hierarchy of version 1, by the path that it is mounted at."""
    mounts, own = {}, {}
    with open("/proc/self/mountinfo") as f:
        for line in f:
            before, after = line.split(" - ", 1)
            kind, _, options = after.split()[:3]
            if kind == "cgroup":
                mounts[before.split()[4]] = set(options.split(","))
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers:
                continue
            for place, options in mounts.items():
                if set(controllers.split(",")) <= options:
                    own[controllers] = place + path
                    break
    return own


def make_cgroup(parent):
    path = os.path.join(parent, NAME)
    os.mkdir(path)
    # A new cpuset has nothing, and nobody can be in it.
    for name in ("cpuset.cpus", "cpuset.mems"):
        try:
            with open(os.path.join(parent, name)) as f:
                value = f.read()
            with open(os.path.join(path, name), "w") as f:
                f.write(value)
        except FileNotFoundError:
            pass
    return path


def remove_cgroup(path):
    for at, _, _ in os.walk(path, topdown=False):
        # The kernel lets go of a cgroup a moment after its last process.
        for _ in range(100):
            try:
                os.rmdir(at)
                break
            except OSError:
                time.sleep(0.1)


def run(binds, arguments, logs=None):
    """Logs of the machine are written to the folder.  The program's exit status, or a sentence that says why there is no such machine."""
    parents = hierarchies()
    for name in ("cpu", "cpuset", "memory", "pids", "devices"):
        if not any(name in controllers.split(",") for controllers in parents):
            return ("a kubelet 1.20 needs cgroups of version 1, and this machine has no '%s' of "
                    "it (boot with systemd.unified_cgroup_hierarchy=0)" % name)
    folder = tempfile.mkdtemp(prefix="ioasid-kubelet-")
    paths = []

    def enter():
        for path in paths:
            with open(os.path.join(path, "cgroup.procs"), "w") as f:
                f.write("0")

    def end(number, frame):
        sys.exit(128 + number)

    child = None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        for parent in parents.values():
            paths.append(make_cgroup(parent))
        child = subprocess.Popen(
            ["env", "MACHINE_LOGS=" + (logs or ""), "unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork",
             "--kill-child", "--propagation", "private", os.path.join(HERE, "machine"), folder,
             *binds, "--", *arguments], stdin=subprocess.DEVNULL, preexec_fn=enter)
        return child.wait()
    finally:
        if child and child.poll() is None:
            child.kill()
            child.wait()
        for path in paths:
            remove_cgroup(path)
        os.rmdir(folder)
