# SPDX-License-Identifier: Apache-2.0
"""Kills of the broker in the model test (--kills N).

A round in which the broker is killed is one like the others, with one difference: every request
that changes something has a key.  At a random moment the broker is killed (-9): half of them by another
process after a random time, half of them by itself at a random one of the places between two steps of
a request (fault_point.h).  Another one starts on its registry and keeper, every connection is made
anew and resumes what it had.  Answers that came are judged as always.  A request whose answer
was lost may have been done or not: it is sent again, with the same key, and must come to what it
would have come to.  Then every counter must be the model's, and Check finds nothing.

What ends with a broker, and so in the model: tickets, with the fds given for them, and the counts
of refusals.
"""

import os
import subprocess
import time

import ioasid_pb2 as pb
from client import Connection, Server

WARM = 60  # rounds, in which there comes to be something

# Done twice they would have two effects.
KEYED = set(
    """Alloc Free Map Unmap Attach Detach Replace ClaimDevice ReleaseDevice RegisterMemory UnregisterMemory
    BindPageTable UnbindPageTable SetDirtyTracking BindPasidTable UnbindPasidTable CreateVm SetMemorySlot DestroyVm""".split()
)


class KeptServer(Server):
    """One that is killed and started again, with a keeper beside it."""

    def __init__(self, build, folder, arguments, sockets):
        self.keeper_log = open(os.path.join(folder, "keeper.log"), "wb")
        keeper = os.path.join(folder, "keeper")
        os.mkdir(keeper)
        socket = os.path.join(keeper, "sock")
        self.keeper = subprocess.Popen(
            [os.path.join(build, "bin", "ioasid-keeper"), "--listen", socket, "--client", "0", "--no-fdstore",
             "--max-fds", "8192", "--state", os.path.join(keeper, "state")],
            stdin=subprocess.DEVNULL, stdout=self.keeper_log, stderr=self.keeper_log,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not os.path.exists(socket):
            if self.keeper.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ioasid-keeper did not start")
            time.sleep(0.02)
        self.sockets = sockets
        self.binary = os.path.join(build, "bin", "ioasidd")
        self.crashing = os.path.join(build, "tests", "ioasidd_crash")
        self.armed = os.path.join(folder, "armed")
        self.arguments = [
            *arguments, "--keeper", socket, "--registry", os.path.join(folder, "registry"), "--grace", "60",
        ]  # fmt: skip
        try:
            super().__init__(self.binary, folder, self.arguments, sockets)
        except RuntimeError:
            self.keeper.kill()
            raise

    def arm(self):
        """The next crash begins: its fault point counts from now on."""
        with open(self.armed, "w"):
            pass

    def kill(self):
        """If it has not done it itself."""
        self.process.kill()
        self.process.wait()
        for socket in self.sockets:
            os.unlink(socket)
        if os.path.exists(self.armed):
            os.unlink(self.armed)

    def start_again(self, point=0):
        """point: it kills itself at the so manyth fault point after arm(); 0: it does not."""
        environment = dict(os.environ)
        if point:
            environment.update({"IOASID_CRASH": f"any:any:{point}", "IOASID_CRASH_WHILE": self.armed})
        self.process = subprocess.Popen(
            [self.crashing if point else self.binary, *self.arguments],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not all(os.path.exists(s) for s in self.sockets):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ioasidd did not start again: {self.tail()}")
            time.sleep(0.002)

    def stop(self):
        status = super().stop()
        self.keeper.terminate()
        if self.keeper.wait(60) and status == 0:
            return f"ioasid-keeper: {self.keeper.returncode}"
        return status


def is_lost(answer):
    return answer.code == "UNAVAILABLE" and not answer.reason


class Crashes:
    """Part of the test (driver.Test)."""

    killed = 0
    crashing = False  # in this round
    until_crash = 0  # rounds

    def key_for(self, lane, method, request):
        if self.crashing and method in KEYED and not request.scope.key:
            lane.n_keys += 1
            request.scope.key = f"k{lane.n_keys}"

    def crash_now(self):
        """Is it time?"""
        if self.killed >= self.kills or self.rounds < WARM:
            return False
        if self.until_crash:
            self.until_crash -= 1
            return False
        self.until_crash = self.rng.randrange(4)
        return True

    def note_token(self, owner, slot):
        """What this connection may resume with."""
        if self.kills:
            answer = owner.connections[slot].call("GetStatus", pb.GetStatusRequest())
            owner.tokens[slot] = answer.response.resume_token

    def begin_crash(self):
        """The requests of the round are about to be sent."""
        self.server.arm()
        self.killer = None
        if self.rng.random() < 0.5:
            # A process of its own: this one's threads wait for each other.
            delay = str(int(self.rng.random() ** 2 * 20000))
            self.killer = subprocess.Popen(
                ["/bin/sh", "-c", 'read go; sleep "0.$(printf %06d "$1")"; kill -9 "$2"', "killer", delay,
                 str(self.server.process.pid)], stdin=subprocess.PIPE,
            )  # fmt: skip
            self.killer.stdin.write(b"go\n")
            self.killer.stdin.close()

    def crash(self, now):
        """They are in flight."""
        if self.killer:
            self.killer.wait()
        else:
            # A point that is never passed: it ends at rest.
            deadline = time.monotonic() + 0.02
            while self.server.alive() and time.monotonic() < deadline:
                time.sleep(0.001)
        self.server.kill()
        self.killed += 1
        lost = []
        for flight in now.flights:
            answers = [Connection.finish(x) for x in flight.futures]
            came = [a for a in answers if not is_lost(a)]
            if any(a.code != "ABORTED" for a in came):
                self.judged(flight, came)
            else:
                lost.append((flight, came))
        self.server.start_again(self.rng.choice((0, 1)) * (1 + int(self.rng.random() * 90)))
        self._come_back()
        self._services_again()
        again = {flight.lane for flight, _ in lost if flight.plan.method == "RegisterMemory"}
        for owner in self.owners:
            owner.tenant.refused.clear()
            for lane in owner.lanes:
                if lane.lease:
                    lane.lease.watched = False  # the log of faults is the broker's own
                    lane.lease.n_faults = 0
                    self.world.bits_unknown(lane.lease)
                    for space in self.world.objects(lane.lease)[0]:
                        if space.dirty is not None:
                            space.dirty.everything(space)
                if lane not in again:
                    self._drop_ticket(lane)
        self.refused_by.clear()
        for flight, came in lost:
            self._again(flight, came)
        self._wait_counters()
        self._check()
        restart = self.admin.call("GetStatus", pb.GetStatusRequest()).response.restart
        if restart.leases_ended:
            self.diverge("admin", "GetStatus", "", "no lease ended", restart, "after a kill")
        self.tally["(requests undone)"] += restart.undone
        self.tally["(requests redone)"] += restart.redone
        self.tally["(broker killed)"] += 1
        self.tally["(answers lost)"] += len(lost)

    def _again(self, flight, came):
        connection = flight.lane.owner.connections[flight.lane.slot]
        answer = connection.call(flight.plan.method, flight.plan.request)
        if flight.plan.method == "RegisterMemory" and answer.reason == "TICKET_REFUSED":
            # It was not done, and its ticket is gone.
            self._drop_ticket(flight.lane)
            self.tally["(not done)"] += 1
            return
        self.judged(flight, [*came, answer])
        if flight.plan.method == "RegisterMemory":
            self._drop_ticket(flight.lane)

    def _come_back(self):
        self.admin.close()
        self.admin = Connection(self.admin_socket, os.geteuid(), 20 * self.slow)
        for owner in self.owners:
            for slot, old in enumerate(owner.connections):
                old.close()
                names = sorted(lane.name for lane in owner.lanes if lane.lease and lane.slot == slot)
                request = pb.ResumeRequest(token=owner.tokens[slot])
                answer = self._resume(owner, slot, request)
                seen = sorted(lease.name for lease in answer.response.leases) if answer.code == "OK" else []
                if seen != names:
                    self.diverge(f"{owner.path} {slot}", "Resume", request, names, answer, "other leases")
                self.note_token(owner, slot)

    def _resume(self, owner, slot, request):
        """A channel of gRPC's dials again by itself, and its end is not noticed at once: for
        that long the tenant has a connection too many."""
        until = time.monotonic() + 5 * self.slow
        while True:
            connection = owner.connections[slot] = Connection(self.tenant_socket, owner.uid, 20 * self.slow)
            answer = connection.call("Resume", request)
            if answer.metadata.get("resource") != "connections" or time.monotonic() > until:
                return answer
            connection.close()
            time.sleep(0.05)

    def _check(self):
        answer = self.admin.call("Admin.Check", pb.CheckRequest())
        if answer.code != "OK" or answer.response.problems:
            self.diverge("admin", "Check", "", "no problems", answer, "after a kill")
