# SPDX-License-Identifier: Apache-2.0
"""Kind PROCESS: the memory of a process, here of the test's own (docs/process.md).

A lane's process memory is a file of its own at BASE: pages that can be written, some that can only be read,
and a hole.  Service is the process's end, a thread that answers; Processes the part of the test that
opens and closes services, at rest; ProcessSpaces the part of the model.

A space goes on as long as its service: then it reaches nothing for good.  Only what a killed broker
had waits for the service to be opened again.

An access that the thread was too slow for (a busy machine) is told by its time, and then may come to
MEMORY_ERROR: what the process made of it is taken as it is found.
"""

import socket
import struct
import threading

import ioasid_pb2 as pb
from client import File

PAGE = 4096
BASE = 0x7F0000000000
PAGES = 16
READ_ONLY, HOLE = (12, 13), (14,)
READ_OP, WRITE_OP = 1, 2
STEP_EVERY = 7  # rounds
SECONDS = 1  # that a process has for an answer


class Service:
    """The process's end of a service's socket; also the model's idea of it."""

    def __init__(self, fd, file):
        self.file = file
        self.memory = Pages(file)
        self.socket = socket.socket(fileno=fd)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                message = self.socket.recv(1 << 16)
                if len(message) < 24:
                    return
                number, op, length, address = struct.unpack_from("<QIIQ", message)
                if op not in (READ_OP, WRITE_OP):
                    return
                self.socket.send(self._answer(number, op, length, address, message[24:]))
            except OSError:
                return

    def _answer(self, number, op, length, address, data):
        done, cause = 0, 0
        while done < length and not cause:
            at = address + done - BASE
            cause = refusal(at, op == WRITE_OP)
            if not cause:
                done += min(length - done, PAGE - at % PAGE)
        at = address - BASE
        if op == WRITE_OP and done:
            self.file.view[at : at + done] = data[:done]
        return struct.pack("<QII", number, done, cause) + (self.file.view[at : at + done] if op == READ_OP else b"")

    def close(self):
        """Hangs up."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.socket.close()


class Pages:
    """What a Place of a process is in."""

    offset = 0

    def __init__(self, file):
        self.file = file


def refusal(at, write):
    """Why the process cannot touch its byte `at`; 0: it can."""
    if not 0 <= at < PAGES * PAGE or at // PAGE in HOLE:
        return pb.FAULT_CAUSE_NOT_PRESENT
    return pb.FAULT_CAUSE_PERMISSION if write and at // PAGE in READ_ONLY else 0


class Processes:
    """Part of the test (driver.Test)."""

    def service_step(self):
        rng = self.rng
        lanes = [lane for lane in self.lanes() if lane.lease]
        if not lanes:
            return
        lane = rng.choice(lanes)
        if not lane.lease.service:
            self._open_service(lane)
        elif rng.random() < 0.3:
            request = pb.OpenDmaServiceRequest()
            request.scope.lease = lane.name
            self._alone(lane.owner, lane.slot, "OpenDmaService", request, ["WRONG_STATE"])
        elif rng.random() < 0.3:
            lane.lease.service.close()
            self.world.service_ended(lane.lease)
            self._wait_counters()
            self.tally["(service closed)"] += 1

    def _open_service(self, lane):
        request = pb.OpenDmaServiceRequest()
        request.scope.lease = lane.name
        # The process's end lies in the ticket until it is taken.
        if not self.world.quota.fits(lane.owner.path, {"kept_fds": 3}, {}):
            self._alone(lane.owner, lane.slot, "OpenDmaService", request, ["QUOTA"])
            return
        response = self._alone(lane.owner, lane.slot, "OpenDmaService", request)
        fd = lane.owner.connections[lane.slot].take(response.ticket)
        self.world.service_opened(lane.lease, Service(fd, lane.process))

    def _services_again(self):
        """After a kill of the broker; by limits that are not met meanwhile."""
        lanes = [lane for owner in self.owners for lane in owner.lanes if lane.lease and lane.lease.service]
        for lane in lanes:
            lane.lease.service.close()
            self.world.service_ended(lane.lease, awaited=True)
        # Who holds no lease cannot ask for it yet.
        lanes = [lane for lane in lanes if lane.slot is not None]
        if not lanes:
            return
        limits = {p: x["kept_fds"] for p, x in self.world.quota.limit.items() if "kept_fds" in x}
        for path, limit in limits.items():
            self._limit(path, "kept_fds", 10**6)
            self.world.quota.limit[path]["kept_fds"] = 10**6
        for lane in lanes:
            self._open_service(lane)
        for path, limit in limits.items():
            self._limit(path, "kept_fds", limit)
            self.world.quota.limit[path]["kept_fds"] = limit

    def new_process(self, label):
        file = File(label.replace("/", "-"), PAGES, self.rng.randbytes(PAGES * PAGE))
        self.files.append(file)
        return file

    def was_late(self, plan, answer, seconds):
        """The thread was not in time."""
        if plan.process is None or answer.code != "OK" or seconds < SECONDS * 0.9:
            return False
        return answer.response.fault.cause == pb.FAULT_CAUSE_MEMORY_ERROR


class ProcessSpaces:
    """Part of the model (model.World)."""

    def service_opened(self, lease, service):
        lease.service = service
        self.quota.add(lease.tenant.path, {"kept_fds": 2})
        for space in self.objects(lease)[0]:
            if space.awaits_service:
                space.awaits_service = False
                space.service = service

    def service_ended(self, lease, awaited=False):
        for space in self.objects(lease)[0]:
            if space.service is not None:
                space.awaits_service = awaited
                space.service = None
        lease.service = None
        self.quota.add(lease.tenant.path, {"kept_fds": 2}, -1)

    @staticmethod
    def _plan_space_of_process(plan, lease, a):
        if a.parent or a.faults or a.dirty_tracking or a.candidates:
            plan.refuse("INVALID_FIELD")
        if lease.service is None:
            plan.refuse("WRONG_STATE")
