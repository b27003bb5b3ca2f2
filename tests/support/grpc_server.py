"""``python grpc_server.py CERT KEY`` serves gRPC at three ports: plain text, TLS, and without a health service.

It prints the ports, and serves until its stdin ends.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

# HealthCheckRequests, which name a service, and the answers: SERVING, NOT_SERVING, UNKNOWN.
_STATES = {b"": b"\x08\x01", b"\x0a\x04down": b"\x08\x02", b"\x0a\x07unknown": b""}


def _check(request: bytes, context: grpc.ServicerContext) -> bytes:
    if request == b"\x0a\x06secret":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    if request not in _STATES:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return _STATES[request]


def main(cert: str, key: str) -> None:
    """Serve until stdin ends."""
    health = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(_check)}
    )
    with ThreadPoolExecutor() as threads:
        server, bare = grpc.server(threads), grpc.server(threads)
        server.add_generic_rpc_handlers((health,))
        credentials = grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(cert).read_bytes())])
        ports = [server.add_insecure_port("127.0.0.1:0"), server.add_secure_port("127.0.0.1:0", credentials)]
        ports.append(bare.add_insecure_port("127.0.0.1:0"))
        for each in (server, bare):
            each.start()
        print(*ports, flush=True)
        sys.stdin.read()
        for each in (server, bare):
            each.stop(None).wait()


main(*sys.argv[1:])
