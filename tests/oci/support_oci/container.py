# SPDX-License-Identifier: Apache-2.0
"""One container: a bundle, and runc or crun with a state folder of their own."""
import contextlib
import glob
import json
import os
import signal
import subprocess
import time


class Container:
    """annotations: with "io.ioasid." before each name.  arguments: of more calls of the hook."""

    def __init__(self, host, runtime, name, args, annotations=None, calls=((),), rootfs=None,
                 poststop=True, user=1000, stage="createRuntime", mounts=(), namespaces=(),
                 hook=None, folder=None):
        self.host, self.runtime, self.name = host, runtime, name
        self.bundle = os.path.join(host.folder, "bundles", folder or name)
        self.root = os.path.join(host.folder, "runtime", runtime)
        os.makedirs(self.bundle, exist_ok=True)
        os.makedirs(self.root, exist_ok=True)
        hook = hook or host.hook
        stages = {stage: [self._call(hook, stage, more) for more in calls]}
        if poststop:
            stages["poststop"] = [self._call(hook, "poststop", more) for more in calls]
        self.spec = {
            "ociVersion": "1.0.2",
            "process": {"terminal": False, "user": {"uid": user, "gid": user}, "args": list(args),
                        "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": True,
                        "capabilities": {}},
            "root": {"path": rootfs or host.rootfs, "readonly": True},
            "hostname": "oci",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "mode=755", "size=64k"]},
                *mounts,
            ],
            "annotations": {"io.ioasid." + key: value
                            for key, value in (annotations or {}).items()},
            "hooks": stages,
            "linux": {
                "cgroupsPath": "/ioasid-oci-%d-%s-%s" % (os.getpid(), runtime, name),
                "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network",
                                                     *namespaces)],
                "resources": {},
            },
        }
        # crun throws away what hooks say, unless it is told where to.
        self.hook_log = os.path.join(self.bundle, "hook-log")
        if runtime == "crun":
            self.spec["annotations"]["run.oci.hooks.stderr"] = self.hook_log
        self.write_spec()

    def _hook_said(self):
        """Since last asked."""
        if not os.path.exists(self.hook_log):
            return ""
        with open(self.hook_log, encoding="utf-8") as f:
            text = f.read()
        os.unlink(self.hook_log)
        return text

    def _call(self, hook, stage, more):
        return {"path": hook, "args": ["ioasid-oci-hook", stage, "--config", self.host.config,
                                       *more], "timeout": 120}

    def write_spec(self):
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as f:
            json.dump(self.spec, f)

    def command(self, *words):
        return [self.runtime, "--root", self.root, *words]

    def run(self):
        """To its end: (status, stdout, stderr)."""
        done = subprocess.run(self.command("run", "--bundle", self.bundle, self.name),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr + self._hook_said()

    def start(self):
        """In the background: the status and stderr of the runtime."""
        self.log = os.path.join(self.bundle, "log")
        errors = os.path.join(self.bundle, "errors")
        with open(self.log, "w", encoding="utf-8") as out, \
                open(errors, "w", encoding="utf-8") as err:
            status = subprocess.call(self.command("run", "--detach", "--bundle", self.bundle,
                                                  self.name),
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     timeout=120)
        with open(errors, encoding="utf-8") as f:
            return status, f.read() + self._hook_said()

    def said(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text, seconds=20, after=0):
        end = time.monotonic() + seconds
        while text not in self.said()[after:]:
            if time.monotonic() > end:
                raise AssertionError("%s does not say %r but %r" % (self.name, text,
                                                                    self.said()[-2000:]))
            time.sleep(0.02)

    def pid(self):
        state = subprocess.run(self.command("state", self.name), capture_output=True, text=True,
                               check=True)
        return json.loads(state.stdout)["pid"]

    def kill_init(self):
        os.kill(self.pid(), signal.SIGKILL)

    def kill_rest(self):
        """What nobody can delete: a crun that is killed when it has let the program go, and has not
        yet written down its state, leaves a container that it does not know.  Its cgroups do."""
        path = self.spec["linux"]["cgroupsPath"]
        groups = [root + path for root in glob.glob("/sys/fs/cgroup/*") + ["/sys/fs/cgroup"]
                  if os.path.ismount(root) and os.path.isdir(root + path)]
        end = time.monotonic() + 20
        while groups:
            for group in list(groups):
                with open(group + "/cgroup.procs", encoding="utf-8") as f:
                    for pid in f.read().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                try:
                    os.rmdir(group)
                    groups.remove(group)
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)

    def delete(self):
        """With poststop hooks, if there are any.  (status, stderr)."""
        done = subprocess.run(self.command("delete", "--force", self.name), capture_output=True,
                              text=True, timeout=120, check=False)
        return done.returncode, done.stderr + self._hook_said()
