# SPDX-License-Identifier: Apache-2.0
"""What one test module runs in: a server, actors, the inventory as a client sees it."""
import time

from . import policy
from .actor import Actor
from .client import Connection
from .server import EDU, Server

HOST_OWN = {"connections", "requests_in_flight", "watch_streams", "broker_bytes"}


class Inventory:
    """The devices, sorted by what a test needs; from ListDevices and nothing else."""

    def __init__(self, pb, devices, shim="soft"):
        if shim == "iommufd":
            # Of a real host only what the policy gives to tenants, see Server.
            devices = [d for d in devices if d.vendor_device == EDU]
        self.all = {d.address: d for d in devices}
        groups = {}
        for d in devices:
            groups.setdefault(d.group, []).append(d)
        self.host = [d for d in devices if d.state == pb.DEVICE_STATE_HOST]
        usable = [d for d in devices if d.state == pb.DEVICE_STATE_FREE]
        self.single = [d for d in usable if len(groups[d.group]) == 1]
        self.groups = [g for g in groups.values()
                       if len(g) > 1 and all(d.state == pb.DEVICE_STATE_FREE for d in g)]
        self.iommus = sorted({d.iommu for d in devices})

    def on(self, iommu):
        return [d for d in self.single if d.iommu == iommu]

    def formats(self, address):
        """Those of kind KERNEL: EPT (6, 7) is kind KVM's alone, and what can be a child and no
        parent is what tenants write (iommufd)."""
        return {f.format: f for f in self.all[address].capabilities.formats
                if f.format not in (6, 7) and (f.nest_parent or not f.nest_child)}

    def having(self, test):
        """Addresses of single devices whose capabilities pass the test."""
        return [d.address for d in self.single if test(d.capabilities)]


class World:
    def __init__(self, api, build, slow, policy_, topology, arguments, shim="soft",
                 keeper=False):
        self.api, self.slow = api, slow
        self.server = Server(build, policy_, topology, slow, arguments, shim, keeper)
        self.actors, self.extra, self.problems = {}, [], []
        self.policy = policy_
        try:
            self._start()
        except BaseException:
            self.abandon()
            raise

    def _start(self):
        self.idle_use = {}
        self.server.start()
        self.admin = self.connect(policy.ADMIN, "admin")
        listing = self.admin.ListDevices(with_capabilities=True, page_size=1024)
        # What the server says of itself decides what cannot be tried, not the runner's option.
        self.shim = self.admin.GetStatus().shim
        if self.server.is_mock:
            self.shim = "mock"
        self.inventory = Inventory(self.api.pb, listing.devices, self.shim)
        # What reservations hold while nothing is charged.
        self.idle_use = {(path, name): used for path, name, _, used in self.busy_counters()}

    def revive(self):
        """A server that a test brought down comes back for the others; it is not forgotten."""
        if self.server.alive():
            return
        self.problems += self.server.stop()
        self._kill_actors()
        self.server.clear()
        self.server.write_policy(self.policy)
        self._start()

    def restart(self):
        """The server is killed, and another one goes on; actors live."""
        self.server.kill()
        self.start_again()

    def start_again(self):
        self.server.start()
        self.admin.close()
        self.admin = self.connect(policy.ADMIN, "admin")

    def connection(self, actor, path):
        return Connection(self.api, actor, path, 20 * self.slow, self._options(()))

    def _options(self, options):
        if self.slow > 1:
            # By its name the least pause between two attempts, it is the time that one may take.
            options = [("grpc.min_reconnect_backoff_ms", 20000 * self.slow), *options]
        return options

    def _kill_actors(self):
        for actor in list(self.actors.values()) + self.extra:
            actor.kill()
        self.actors, self.extra = {}, []

    def actor(self, uid, gid=None):
        """The module's actor of that uid."""
        key = (uid, gid)
        if key not in self.actors or not self.actors[key].pid:
            self.actors[key] = Actor(uid, gid)
        return self.actors[key]

    def fresh_actor(self, uid):
        """One of its own, to be killed."""
        actor = Actor(uid)
        self.extra.append(actor)
        return actor

    def connect(self, uid, socket="tenants", actor=None, gid=None, options=()):
        options = self._options(options)
        return Connection(self.api, actor or self.actor(uid, gid), self.server.socket(socket),
                          20 * self.slow, options)

    def busy_counters(self):
        """[(tenant, resource, own, used)] of everything that is charged."""
        left, token = [], ""
        while True:
            page = self.admin.ListTenants(page_size=1024, page_token=token)
            for tenant in page.tenants:
                for r in tenant.resources:
                    if tenant.path == "" and r.resource in HOST_OWN:
                        continue
                    if r.own or r.used != self.idle_use.get((tenant.path, r.resource), 0):
                        left.append((tenant.path, r.resource, r.own, r.used))
            token = page.next_page_token
            if not token:
                return left

    def wait_idle(self, seconds=5.0):
        """What is still charged after a while: nothing, if all is well."""
        end = time.monotonic() + seconds * self.slow
        while True:
            left = self.busy_counters()
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.01)

    def wait_free(self, seconds=5.0):
        """Addresses of devices that are held after a while: of a real device whoever had its
        fd must be gone before it is free."""
        end = time.monotonic() + seconds * self.slow
        while True:
            held = [d.address for d in self.admin.ListDevices(page_size=1024).devices
                    if d.address in self.inventory.all
                    and d.state not in (self.api.pb.DEVICE_STATE_FREE,
                                        self.api.pb.DEVICE_STATE_HOST)]
            if not held or time.monotonic() > end:
                return held
            time.sleep(0.02)

    def end(self):
        """Every actor goes, counters must be zero, the server ends; what was wrong."""
        problems = self.problems
        for actor in list(self.actors.values()):
            if actor is not self.admin.actor:
                actor.kill()
        for actor in self.extra:
            actor.kill()
        if self.server.alive():
            try:
                left = self.wait_idle()
                if left:
                    problems.append("still charged at the end: %s" % left)
                leases = self.admin.ListLeases().leases
                if leases:
                    problems.append("leases at the end: %s" % list(leases))
            except Exception as e:
                problems.append("the admin socket at the end: %s" % e)
        problems += self.server.stop()
        if problems and self.server.keeper_said():
            problems.append("ioasid-keeper said:\n" + self.server.keeper_said()[-3000:])
        self.abandon()
        return problems

    def abandon(self):
        self._kill_actors()
        self.server.remove()
