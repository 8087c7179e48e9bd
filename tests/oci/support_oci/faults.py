# SPDX-License-Identifier: Apache-2.0
"""The hook, in which each call of its own fails once, or is where it is killed (tests/oci/fault.c):
whatever it was doing, nothing is left for good, and the next call does it right."""
import errno
import json
import os
import random

from .direct import Init
from .host import ALONE

CALLS_MAX = 1000


class Faults:
    # All of them, or few enough to be looked at with every change: others each time.
    stride = first = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.runtime == "host":
            cls.stride, cls.first = 13, random.randrange(1, 14)
            print("faults: every 13th call from the %dth" % cls.first, flush=True)

    def was_seen(self, seen, expected):
        self.assertLess(expected if self.stride == 1 else set(), set(seen))

    def run_hook(self, init, stage, at, error):
        """(status, line, the call that it was): no call where there were fewer."""
        to = os.path.join(self.host.folder, "fault")
        env = {**os.environ, "LD_PRELOAD": os.path.join(self.host.build, "tests", "oci_fault.so"),
               "IOASID_FAULT_AT": str(at), "IOASID_FAULT_TO": to}
        if error:
            env["IOASID_FAULT_ERRNO"] = str(error)
        if os.path.exists(to):
            os.unlink(to)
        code, line = init.hook(stage, env=env)
        if not os.path.exists(to):
            return code, line, None
        with open(to, encoding="utf-8") as f:
            return code, line, f.read()

    def sweep(self, name, stage, error, check):
        """check(init, code, line) after each; the calls that there were."""
        seen = []
        for at in range(self.first, CALLS_MAX, self.stride):
            init = Init(self.host, "%s-%d" % (name, at))
            try:
                if stage == "poststop":
                    self.assertEqual(init.hook(), (0, ""))
                code, line, call = self.run_hook(init, stage, at, error)
                with self.subTest(stage=stage, at=at, call=call):
                    if not call:
                        self.assertEqual((code, line), (0, ""))
                        self.assertEqual(init.hook("poststop"), (0, ""))
                        return seen
                    check(init, code, line)
            finally:
                init.kill()
            seen.append(call)
        raise AssertionError("it does not come to an end")

    def right_again(self, init):
        """A call that nothing happens to, and its end."""
        self.assertEqual(init.hook(), (0, ""))
        lease = json.loads(init.read("run/ioasid/lease.json"))
        self.assertEqual((lease["tenant"], lease["devices"]), ("org/a", [ALONE]))
        self.assertEqual(list(self.host.leases()), [lease["lease"]])
        self.assertEqual(self.host.claimed(), {ALONE: "org/a"})
        self.assertEqual(init.hook("poststop"), (0, ""))
        self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))

    def test_every_call_fails(self):
        def check(init, code, line):
            self.assertIn(code, (0, 1))
            if not code:
                return self.right_again(init)
            # A start that was refused has left nothing, or an empty folder, if the failure was
            # between its making and its opening.
            self.assertEqual(self.host.leases(), {}, line)
            self.assertEqual([os.listdir(os.path.join(self.host.state, folder))
                              for folder in self.host.folders()],
                             [[]] * line.startswith((self.host.state + "/oci-", "cannot lock")),
                             line)
            init.kill()
            again = Init(self.host, init.name)
            self.addCleanup(again.kill)
            return self.right_again(again)

        seen = self.sweep("fails", "createRuntime", errno.EIO, check)
        self.was_seen(seen, {"mkdir", "renameat", "open_tree", "move_mount", "setns", "flock",
                             "json_object_new_object", "pthread_create"})

    def test_killed_at_every_call(self):
        def check(init, code, line):
            self.assertEqual(code, -9)
            self.right_again(init)

        seen = self.sweep("killed", "createRuntime", None, check)
        self.was_seen(seen, {"ioasid_connect", "behind ioasid_lease_open_with", "behind ioasid_claim",
                             "renameat", "move_mount"})

    def test_killed_at_every_call_and_never_called_again(self):
        """The runtime ends the init, and the lease ends with it; the next container tidies up."""
        left = []

        def check(init, code, line):
            self.assertEqual(code, -9)
            init.kill()
            self.assertEqual(self.host.wait_idle(folders=False), {})
            left.append(len(self.host.folders()))

        self.sweep("left", "createRuntime", None, check)
        self.assertGreater(max(left), 1)
        last = Init(self.host, "last")
        self.assertEqual(last.hook(), (0, ""))
        self.assertEqual(len(self.host.folders()), 1)
        self.assertEqual(last.hook("poststop"), (0, ""))
        last.kill()

    def test_every_call_of_poststop_fails(self):
        def check(init, code, line):
            self.assertIn(code, (0, 1))
            self.assertEqual(init.hook("poststop"), (0, ""))
            self.assertEqual((self.host.leases(), self.host.folders()), ({}, []), line)

        seen = self.sweep("post-fails", "poststop", errno.EIO, check)
        self.was_seen(seen, {"unlinkat", "flock", "openat"})

    def test_killed_at_every_call_of_poststop(self):
        def check(init, code, line):
            self.assertEqual(code, -9)
            self.assertEqual(init.hook("poststop"), (0, ""))
            self.assertEqual((self.host.leases(), self.host.folders()), ({}, []))

        seen = self.sweep("post-killed", "poststop", None, check)
        self.was_seen(seen, {"behind ioasid_lease_close", "unlinkat"})
