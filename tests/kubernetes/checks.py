# SPDX-License-Identifier: Apache-2.0
"""What the tests say of an answer."""
from kubelet import Refused


def check(true, *words):
    if not true:
        raise AssertionError(" ".join(str(w) for w in words))


def equal(a, b, *words):
    check(a == b, "%r is not %r" % (a, b), *words)


def refused(code, call, *args, **fields):
    """What the refusal says."""
    try:
        call(*args, **fields)
    except Refused as error:
        equal(error.code, code, error.text)
        return error.text
    raise AssertionError("not refused")
