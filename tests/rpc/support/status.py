# SPDX-License-Identifier: Apache-2.0
"""The status table of ioasid.proto, and the decoding of grpc-status-details-bin."""

# reason -> gRPC status, as the table at the top of the .proto says.
CODE_OF = {reason: code for code, reasons in {
    "INVALID_ARGUMENT": "MALFORMED INVALID_FIELD",
    "NOT_FOUND": "NOT_FOUND",
    "PERMISSION_DENIED": "ROLE_FORBIDDEN POLICY_FORBIDDEN TICKET_REFUSED",
    "UNAUTHENTICATED": "NO_TENANT",
    "RESOURCE_EXHAUSTED": "QUOTA RATE",
    "FAILED_PRECONDITION": "FORMAT_UNSUPPORTED GROUP_INCOMPLETE NOT_CLAIMED NOT_ATTACHED"
                           " DEVICE_IN_USE INCOMPATIBLE WOULD_SPLIT MEMORY_UNSUITABLE WRONG_STATE",
    "ALREADY_EXISTS": "OVERLAP NAME_TAKEN KEY_REUSED ALREADY_ATTACHED",
    "ABORTED": "BUSY",
    "UNAVAILABLE": "SHIM_GONE RECONCILING SHUTTING_DOWN REGISTRY_FULL",
    "UNIMPLEMENTED": "UNIMPLEMENTED",
    "CANCELLED": "CANCELLED",
    "INTERNAL": "INTERNAL",
}.items() for reason in reasons.split()}

CODE_NUMBER = {name: n for n, name in enumerate(
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS"
    " PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE"
    " UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split())}

TYPE_PREFIX = "type.googleapis.com/google.rpc."


class Refused(Exception):
    """A call that did not end OK, with its details decoded."""

    def __init__(self, method, code, message, details, messages):
        super().__init__("%s: %s: %.300s" % (method, code, message))
        self.method, self.code, self.message, self.raw = method, code, message, details
        self.reason, self.domain, self.metadata = None, None, {}
        self.fields, self.quota, self.preconditions, self.retry_s = [], [], [], None
        self.status = None
        if not details:
            return
        self.status = messages.Status.FromString(details)
        for detail in self.status.details:
            if not detail.type_url.startswith(TYPE_PREFIX):
                raise AssertionError("unknown detail %r" % detail.type_url)
            kind = detail.type_url[len(TYPE_PREFIX):]
            value = getattr(messages, kind).FromString(detail.value)
            if kind == "ErrorInfo":
                if self.reason is not None:
                    raise AssertionError("two ErrorInfo")
                self.reason, self.domain = value.reason, value.domain
                self.metadata = {m.key: m.value for m in value.metadata}
            elif kind == "BadRequest":
                self.fields += [(v.field, v.description) for v in value.field_violations]
            elif kind == "QuotaFailure":
                self.quota += [(v.subject, v.description) for v in value.violations]
            elif kind == "PreconditionFailure":
                self.preconditions += [(v.type, v.subject, v.description)
                                       for v in value.violations]
            elif kind == "RetryInfo":
                self.retry_s = value.retry_delay.seconds + value.retry_delay.nanos / 1e9

    def text(self):
        """Everything that a person or program could read in it."""
        parts = [self.message] + [v for kv in self.metadata.items() for v in kv]
        for group in (self.fields, self.quota, self.preconditions):
            parts += [text for violation in group for text in violation]
        return "\n".join(parts)


def problems_of(refused, reason):
    """What is wrong with a refusal that should be for reason; [] when nothing is."""
    bad = []
    if refused.code != CODE_OF.get(reason):
        bad.append("status %s, expected %s" % (refused.code, CODE_OF.get(reason, "a reason")))
    if refused.reason != reason:
        bad.append("reason %s, expected %s" % (refused.reason, reason))
    if refused.status is None:
        return bad + ["no grpc-status-details-bin"]
    if refused.domain != "ioasid":
        bad.append("domain %r" % refused.domain)
    if refused.status.code != CODE_NUMBER[refused.code]:
        bad.append("details say code %d" % refused.status.code)
    if refused.status.message != refused.message or not refused.message:
        bad.append("message %r, in details %r" % (refused.message, refused.status.message))
    needs = {"INVALID_FIELD": refused.fields, "QUOTA": refused.quota,
             "FORMAT_UNSUPPORTED": refused.preconditions,
             "GROUP_INCOMPLETE": refused.preconditions}
    if reason in needs and not needs[reason]:
        bad.append("the detail that belongs to %s is missing" % reason)
    if any(not field for field, _ in refused.fields):
        bad.append("BadRequest names no field")
    if reason == "RATE" and not refused.retry_s:
        bad.append("RetryInfo is missing")
    return bad
