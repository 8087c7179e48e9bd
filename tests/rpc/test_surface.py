# SPDX-License-Identifier: Apache-2.0
"""What stands around the API: health, reflection, the .proto that the server says it has."""
import os
import subprocess
import tempfile

from google.protobuf import descriptor_pb2

from support import policy
from support.case import Case
from support.client import PROTO

POLICY = policy.default()
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Health(Case):
    def test_services_are_serving(self):
        for service in ("", "ioasid.v1.Broker", "ioasid.v1.Admin"):
            answer = self.a.send("Health/Check", dict(service=service))
            self.assertEqual(answer.status, self.world.api.health.HealthCheckResponse.SERVING)

    def test_unknown_service(self):
        self.assertEqual(self.a.send("Health/Check", dict(service="nothing")).code, "NOT_FOUND")

    def test_watch_tells_at_once(self):
        states = self.world.api.health.HealthCheckResponse
        for service, state in (("", states.SERVING), ("nothing", states.SERVICE_UNKNOWN)):
            stream = self.a.watch("Health/Watch", service=service)
            self.assertEqual(stream.next().status, state)
            self.assertIsNone(stream.next(0.1))
            stream.cancel()


class Reflection(Case):
    def ask(self, *requests, conn=None):
        pb = self.world.api.reflection
        conn = conn or self.a
        outcome, replies = conn.actor.bidi(
            conn.channel, REFLECTION,
            [pb.ServerReflectionRequest(**r).SerializeToString() for r in requests], 20)
        self.assertEqual(outcome[0], "OK", outcome)
        return [pb.ServerReflectionResponse.FromString(r) for r in replies]

    def test_services(self):
        (answer,) = self.ask(dict(list_services=""))
        names = {s.name for s in answer.list_services_response.service}
        self.assertLessEqual({"ioasid.v1.Broker", "ioasid.v1.Admin", "grpc.health.v1.Health"},
                             names)

    @staticmethod
    def compiled():
        """The file's descriptor, as protoc makes it from the .proto."""
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run(["protoc", "-I" + PROTO, "--descriptor_set_out=" + out.name,
                            os.path.join(PROTO, "ioasid.proto")], check=True)
            (mine,) = descriptor_pb2.FileDescriptorSet.FromString(out.read()).file
            return mine.SerializeToString()

    def test_descriptor_is_the_proto(self):
        for ask in (dict(file_containing_symbol="ioasid.v1.Broker"),
                    dict(file_containing_symbol="ioasid.v1.AllocRequest"),
                    dict(file_containing_symbol="ioasid.v1.Broker.Alloc"),
                    dict(file_by_filename="ioasid.proto")):
            with self.subTest(ask=ask):
                (answer,) = self.ask(ask)
                files = [descriptor_pb2.FileDescriptorProto.FromString(f)
                         for f in answer.file_descriptor_response.file_descriptor_proto]
                (theirs,) = [f for f in files if f.package == "ioasid.v1"]
                self.assertEqual(theirs.SerializeToString(), self.compiled())

    def test_unknown_symbols_are_errors_inside_of_the_stream(self):
        answers = self.ask(dict(file_containing_symbol="no.such.Thing"),
                           dict(file_by_filename="no.proto"), dict(list_services=""))
        self.assertEqual([a.WhichOneof("message_response") for a in answers],
                         ["error_response", "error_response", "list_services_response"])
        self.assertEqual(answers[0].error_response.error_code, 5)


class Streams(Case):
    def test_unknown_methods(self):
        for path in ("/ioasid.v1.Broker/Nothing", "/ioasid.v1.Nothing/Alloc", "/x/y",
                     "/ioasid.v1.Broker/", "/ioasid.v1.Broker/alloc"):
            outcome = self.a.actor.call(self.a.channel, path, b"", 10 * self.slow)
            self.assertEqual(outcome[0], "UNIMPLEMENTED", path)

    def test_deadline_and_cancel_leave_nothing(self):
        stream = self.a.watch("WatchEvents", timeout=0.3)
        self.assertEqual(stream.next(5).code, "DEADLINE_EXCEEDED")
        stream = self.a.watch("WatchEvents")
        self.assertIsNone(stream.next(0.1))
        stream.cancel()
        for _ in range(50):
            call = self.a.start("Alloc", kind=self.pb.IOASID_KIND_KERNEL)
            call.cancel()
        # Some were done before they were cancelled, and are there to be freed.
        self.a.GetStatus()
        for ioasid in self.a.ListIoasids(page_size=1024).ioasids:
            self.a.Free(ioasid=ioasid.ioasid)
        self.a.CloseLease()
        self.assertEqual(self.used("org/a", "ioasids"), 0)

    def test_calls_go_on_beside_a_stream(self):
        streams = [self.a.watch("WatchEvents") for _ in range(5)]
        for _ in range(20):
            self.a.Free(ioasid=self.alloc(self.a))
        for stream in streams:
            self.assertGreaterEqual(len(stream.drain()), 40)
