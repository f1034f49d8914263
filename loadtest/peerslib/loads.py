"""What is sent to a proxy: wrk, h2load and oha as subprocesses, and connections that only stay open."""

import dataclasses
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess

from . import procs


@dataclasses.dataclass
class Load:
    """What a load saw. Latencies in microseconds; none where the tool does not tell."""

    requests: int
    seconds: float
    errors: int = 0
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None


# Prints the outcome as JSON; `%s` is what builds the requests.
WRK = """
%s
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nOUTCOME {"requests":%%d,"micros":%%d,"errors":%%d,"p50":%%d,"p99":%%d,"p999":%%d}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9)))
end
"""
POST = 'wrk.method = "POST"; wrk.body = string.rep("z", 65536)'
CLOSE = 'wrk.headers["Connection"] = "close"'
HOSTS = """
local all = {}
init = function(args)
  for n = 0, HOSTS - 1 do all[n] = wrk.format("GET", "/", { ["Host"] = "h" .. n .. ".test" }) end
end
request = function() return all[math.random(0, HOSTS - 1)] end
"""


def wrk(url: str, seconds: int, connections: int, folder: pathlib.Path, script: str = "", before: list | None = None) -> Load:
    """Keeps so many connections busy. `before`: a command that runs wrk, as `perf stat` does."""
    lua = folder / "wrk.lua"
    lua.write_text(WRK % script)
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(lua), url]
    outcome = output((before or []) + command, seconds)
    found = re.search(r"^OUTCOME (.*)$", outcome, re.MULTILINE)
    if not found:
        raise procs.Trouble(f"wrk says {outcome.strip()[-200:]}")
    seen = json.loads(found[1])
    return Load(seen["requests"], seen["micros"] / 1e6, seen["errors"], seen["p50"], seen["p99"], seen["p999"])


def h2load(url: str, seconds: int, before: list | None = None) -> Load:
    """Eight connections with a hundred streams each."""
    need("h2load", "nghttp2-client")
    outcome = output((before or []) + ["h2load", "-t2", "-c8", "-m100", "-D", str(seconds), url], seconds)
    found = re.search(r"requests: (\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored", outcome)
    status = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", outcome)
    if not found or not status or int(status[1]) == 0:
        raise procs.Trouble(f"h2load got no answer: {outcome.strip()[-200:]}")
    bad = int(found[3]) + int(found[4]) + sum(int(status[n]) for n in (3, 4))
    return Load(int(status[1]), float(seconds), bad)


def oha(url: str, seconds: int, rate: int | None) -> Load:
    """64 connections; at a fixed rate, with the time a request waited for its turn counted, or as fast as it goes."""
    need("oha", "cargo install --locked oha")
    pace = ["-q", str(rate), "--latency-correction"] if rate else []
    text = output(["oha", "--no-tui", "--output-format", "json", "-c64", "-z", f"{seconds}s", *pace, url], seconds)
    seen = json.loads(text)
    codes = seen["statusCodeDistribution"]
    good = sum(count for code, count in codes.items() if code.startswith("2"))
    if not good:
        raise procs.Trouble(f"oha got no good answer: {codes} {seen['errorDistribution']}")
    bad = sum(codes.values()) - good
    bad += sum(count for what, count in seen["errorDistribution"].items() if "deadline" not in what)
    micros = {name: (seen["latencyPercentiles"][name] or 0) * 1e6 for name in ["p50", "p99", "p99.9"]}
    return Load(good, seen["summary"]["total"], bad, micros["p50"], micros["p99"], micros["p99.9"])


def need(tool: str, package: str) -> None:
    if not shutil.which(tool):
        raise procs.Trouble(f"install {tool} ({package})")


def output(command: list, seconds: int) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise procs.Trouble(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def hold_open(port: int, count: int, tls: bool) -> list[socket.socket]:
    """Connections that have each had one answer and are idle now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        if tls:
            connection = context.wrap_socket(connection, server_hostname="h0.test")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h0.test\r\n\r\n")
        seen = b""
        while not seen.rstrip().endswith(b"x" * 100) and not seen.endswith(b"0\r\n\r\n"):
            more = connection.recv(4096)
            if not more:
                raise procs.Trouble(f"connection {len(held)} was closed after {seen[:80]!r}")
            seen += more
        held.append(connection)
    return held
