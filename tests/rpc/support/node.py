# SPDX-License-Identifier: Apache-2.0
"""
The Node suite: installs its packages into the build folder, runs it as a tenant's uid in a
copy that this uid can read, and redeems its tickets (a helper with the same uid).
"""
import hashlib
import json
import os
import shutil
import subprocess

from . import fdpass, policy
from .case import PAGE, pattern
from .client import PROTO
from .orphan import die_with_parent
from .world import World

SOURCE = os.path.join(os.path.dirname(__file__), "..", "node")
FILES = ("package.json", "package-lock.json", ".npmrc")


def install(build):
    """npm ci into BUILD/tests/rpc-node, once for every lock file."""
    folder = os.path.join(build, "tests", "rpc-node")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(SOURCE, "package-lock.json"), "rb") as f:
        want = hashlib.sha256(f.read()).hexdigest()
    mark = os.path.join(folder, "installed")
    if os.path.exists(mark) and open(mark).read() == want:
        return folder
    for name in FILES:
        shutil.copy(os.path.join(SOURCE, name), folder)
    subprocess.run(["npm", "ci", "--loglevel=error"], cwd=folder, check=True,
                   stdin=subprocess.DEVNULL)
    with open(mark, "w") as f:
        f.write(want)
    return folder


def give(world, message):
    """What the suite asked for: a memfd of so many pages, filled, given with its ticket."""
    actor = world.actor(policy.A)
    seals = message.get("seals", fdpass.SEAL_SHRINK)
    fd = actor.memfd(size=message["pages"] * PAGE, seals=seals)
    actor.pwrite(fd, pattern(message["pages"] * PAGE), 0)
    status, _ = actor.exchange(world.server.socket("tenants"), fdpass.request(
        fdpass.GIVE, bytes.fromhex(message["give"])), [fd])
    actor.drop_fd(fd)
    return {"status": status}


def converse(world, folder, result):
    sockets = [world.server.socket(n) for n in ("tenants", "watch", "admin")]
    with open(os.path.join(world.server.folder, "node.stderr"), "w+") as errors:
        node = subprocess.Popen(
            ["node", "suite.mjs", os.path.join(folder, "proto"), *sockets], cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            user=policy.A, group=policy.A, extra_groups=[], preexec_fn=die_with_parent,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
        count = 0
        for line in node.stdout:
            message, reply = json.loads(line), {}
            if "give" in message:
                reply = give(world, message)
            else:
                count += 1
                left = world.wait_idle()
                problems = [] if message["ok"] else [message["error"]]
                if left:
                    problems.append("still charged after the test: %s" % left)
                result.extra("node: " + message["test"], problems)
            node.stdin.write(json.dumps(reply) + "\n")
            node.stdin.flush()
        code = node.wait()
        errors.seek(0)
        result.extra("node: ends by itself", [] if code == 0 and count else [
            "exit status %s after %d tests: %s" % (code, count, errors.read()[-3000:])])


def run(api, options, result):
    if not shutil.which("node") or not shutil.which("npm"):
        result.extra("node: is there", ["node and npm are not in PATH (Debian: nodejs, npm)"])
        return
    world = World(api, options.build, options.slow, policy.default(), None, ())
    try:
        folder = os.path.join(world.server.folder, "node")
        shutil.copytree(os.path.join(install(options.build), "node_modules"),
                        os.path.join(folder, "node_modules"), symlinks=True)
        for name in ("suite.mjs", "package.json"):
            shutil.copy(os.path.join(SOURCE, name), folder)
        os.mkdir(os.path.join(folder, "proto"))
        for name in ("ioasid.proto", "rpc_status.proto"):
            shutil.copy(os.path.join(PROTO, name), os.path.join(folder, "proto"))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        converse(world, folder, result)
    finally:
        problems = world.end()
    result.extra("node: ends clean", problems)
