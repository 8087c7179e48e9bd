# SPDX-License-Identifier: Apache-2.0
"""The tests, for each runtime."""
import unittest

from .container import Container
from .host import ALONE, ALONE_2, GROUP, Host

BUILD = None
MANY = 20


def configure(build, many):
    global BUILD, MANY
    BUILD, MANY = build, many


class Case(unittest.TestCase):
    runtime = None
    host = None

    @classmethod
    def setUpClass(cls):
        cls.host = Host(BUILD)

    @classmethod
    def tearDownClass(cls):
        problems = cls.host.close()
        if problems:
            raise AssertionError("\n".join(problems))

    def tearDown(self):
        self.assertEqual(self.host.wait_idle(), {})

    def container(self, name, args, annotations=None, **more):
        container = Container(self.host, self.runtime, name, args, annotations, **more)
        self.addCleanup(container.delete)
        return container

    def run_tenant(self, name, devices, turns="3", **annotations):
        return self.container(name, ["/bin/tenant", turns],
                              {"tenant": "org/a", "devices": devices, **annotations}).run()


class Basic:
    def test_one_device(self):
        self.assertEqual(self.run_tenant("one", ALONE),
                         (0, "".join("turn %d: %s\n" % (i, ALONE) for i in (1, 2, 3)), ""))

    def test_two_devices(self):
        code, out, err = self.run_tenant("two", "%s, %s" % (ALONE, ALONE_2), "1")
        self.assertEqual((code, out, err), (0, "turn 1: %s %s\n" % (ALONE, ALONE_2), ""))

    def test_group(self):
        code, out, err = self.run_tenant("group", ",".join(GROUP), "1")
        self.assertEqual((code, out, err), (0, "turn 1: %s %s\n" % GROUP, ""))


def of(runtime):
    if runtime == "podman":
        return []
    return [type("%s_%s" % (runtime, kind.__name__), (kind, Case), {"runtime": runtime})
            for kind in (Basic,)]
