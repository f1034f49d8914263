"""A gRPC server that knows no schema: `grpc_backend.py PORT`. Serves until it is killed."""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    context.set_trailing_metadata((("x-length", str(len(request))),))
    return request[::-1]


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü")


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def hang(request, context):
    while context.is_active():
        time.sleep(0.01)
    Handler.cancelled += 1
    return b""


class Handler(grpc.GenericRpcHandler):
    cancelled = 0

    def service(self, details):
        return {
            "/t.T/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/t.T/Fail": grpc.unary_unary_rpc_method_handler(fail),
            "/t.T/Chat": grpc.stream_stream_rpc_method_handler(chat),
            "/t.T/Count": grpc.unary_stream_rpc_method_handler(count),
            "/t.T/Hang": grpc.unary_unary_rpc_method_handler(hang),
            "/t.T/Cancelled": grpc.unary_unary_rpc_method_handler(lambda *_: str(Handler.cancelled).encode()),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
