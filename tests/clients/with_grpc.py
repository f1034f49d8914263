"""gRPC's own client: all four kinds of calls, statuses, trailers, deadlines and cancelling. `with_grpc.py URL`."""

import queue
import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1].removeprefix("http://"))
unary = channel.unary_unary("/t.T/Unary")

answer, call = unary.with_call(b"x" * 200_000 + b"y", timeout=20)
assert answer == b"y" + b"x" * 200_000, len(answer)
assert ("x-length", "200001") in call.trailing_metadata(), call.trailing_metadata()

many = [unary.future(str(n).encode(), timeout=20) for n in range(500)]
assert [call.result() for call in many] == [str(n).encode()[::-1] for n in range(500)]

try:
    channel.unary_unary("/t.T/Fail")(b"", timeout=20)
    raise SystemExit("it did not fail")
except grpc.RpcError as error:
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: ü"), error

# Each message is answered before the next is sent.
sent = queue.Queue()
answers = channel.stream_stream("/t.T/Chat")(iter(sent.get, None), timeout=20)
for n in range(100):
    sent.put(str(n).encode())
    assert next(answers) == b"re: %d" % n
sent.put(None)
assert list(answers) == [] and answers.code() == grpc.StatusCode.OK

counted = channel.unary_stream("/t.T/Count")(b"20000", timeout=20)
assert sum(int(part) for part in counted) == sum(range(20000))

hang = channel.unary_unary("/t.T/Hang")
try:
    hang(b"", timeout=0.3)
    raise SystemExit("it did not end")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
hang.future(b"", timeout=20).cancel()
cancelled, deadline = channel.unary_unary("/t.T/Cancelled"), time.monotonic() + 10
while cancelled(b"", timeout=20) == b"0":
    assert time.monotonic() < deadline, "the server never heard of it"

try:
    channel.unary_unary("/t.T/Unknown")(b"", timeout=20)
    raise SystemExit("it was answered")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
print("ok")
