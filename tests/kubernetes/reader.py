# SPDX-License-Identifier: Apache-2.0
"""reader.py SOCKET: opens ListAndWatch, says so, and is stopped by whoever started it; then reads
what comes within a second, and tells how many lists that were, and how many ids are healthy in
the last.  Its window of HTTP/2 is the least one."""
import sys
import threading

import grpc

channel = grpc.insecure_channel("unix:" + sys.argv[1], [("grpc.http2.bdp_probe", 0),
                                                        ("grpc.http2.lookahead_bytes", 1024)])
stream = channel.unary_stream("/v1beta1.DevicePlugin/ListAndWatch")(b"")
last, n = next(stream), 1
print("reads", flush=True)
sys.stdin.readline()
threading.Timer(1, stream.cancel).start()
try:
    for last in stream:
        n += 1
except grpc.RpcError:
    pass
print(n, last.count(b"\x07Healthy"), flush=True)
