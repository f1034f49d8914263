"""The cases: what each proxy is set up for, what is sent to it, and what is read from it."""

import contextlib
import dataclasses
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from typing import Callable

from . import loads, procs, servers

HOSTS = 10_000
CHANGE_SECONDS = 0.1
IDLE_CONNECTIONS = {False: 10_000, True: 2_000}  # by whether TLS; a handshake takes the client a while
SPARE_DESCRIPTORS = 1_000


@dataclasses.dataclass
class Case:
    """`send(proxy's url, seconds, folder, command before it)` gives a load; none: connections are only held open."""

    about: str
    send: Callable | None
    setup: dict = dataclasses.field(default_factory=dict)
    path: str = "/"
    at_rate: bool = False


def plain(connections: int, script: str = "") -> Callable:
    return lambda url, seconds, folder, before=None: loads.wrk(url, seconds, connections, folder, script, before)


def h2(url, seconds, _folder, before=None):
    return loads.h2load(url, seconds, before)


CASES = {
    "get64": Case("small GET, 64 kept connections", plain(64)),
    "get1000": Case("small GET, 1,000 kept connections", plain(1000)),
    "connect": Case("a new connection for each request", plain(64, loads.CLOSE)),
    "post64k": Case("POST of 64 KiB", plain(64, loads.POST)),
    "body1m": Case("answers of 1 MiB", plain(64), path="/1m"),
    "h2c": Case("HTTP/2 without TLS, 8 connections with 100 streams each", h2, {"h2": True}),
    "h2": Case("HTTP/2 with TLS, 8 connections with 100 streams each", h2, {"h2": True, "tls": True}),
    "tls": Case("small GET, 64 kept TLS connections", plain(64), {"tls": True}),
    "handshake": Case("a new TLS connection for each request (P-256, no resumption)", plain(64, loads.CLOSE), {"tls": True}),
    "idle": Case("memory per idle connection, 10,000 of them or as many as descriptors allow", None),
    "idle-tls": Case("memory per idle TLS connection, 2,000 of them", None, {"tls": True}),
    "hosts": Case("10,000 hosts, each request to another", plain(64, loads.HOSTS.replace("HOSTS", str(HOSTS))), {"hosts": HOSTS}),
    "changing": Case("the set of backends changes every 100 ms", plain(64), {"changing": True}),
    "latency": Case("latency at 70 % of HAProxy's saturation, open loop", None, at_rate=True),
}


@dataclasses.dataclass
class Run:
    """How often and how long, and what has been found."""

    peers: list[servers.Peer]
    rounds: int
    seconds: int
    threads: int
    limit: int
    began: float = dataclasses.field(default_factory=time.monotonic)

    def over(self) -> bool:
        return time.monotonic() - self.began > self.limit

    def all(self, names: list[str], group: procs.Group, work: pathlib.Path) -> dict:
        work.chmod(0o755)  # nginx's workers are another user
        backends = servers.start_backend(group, work / "backend", 3)
        certificate = make_certificate(work)
        results = {}
        for name in names:
            if self.over():
                results[name] = {peer.name: {"note": "no time left"} for peer in self.peers}
                continue
            say(f"{name}: {CASES[name].about}")
            used = backends if CASES[name].setup.get("changing") else backends[:1]
            task = servers.Task(used, self.threads, certificate=certificate, **CASES[name].setup)
            results[name] = self.case(CASES[name], task, group, work / name)
        return results

    def case(self, case: Case, task: servers.Task, group: procs.Group, work: pathlib.Path) -> dict:
        started, seen = [], {peer.name: [] for peer in self.peers}
        notes = {}
        for peer in self.peers:
            try:
                peer.start(task, group, work / peer.name)
                started.append(peer)
            except procs.Trouble as trouble:
                notes[peer.name] = str(trouble)
        rate = self.rate(started, notes) if case.at_rate else None
        rounds = self.rounds if case.send or case.at_rate else 1
        for n in range(rounds):
            for peer in started:
                if self.over() or peer.name in notes:
                    continue
                try:
                    seen[peer.name].append(self.round(case, task, peer, rate, warm=n > 0))
                    say(f"  {peer.name}: {brief(seen[peer.name][-1])}")
                except (procs.Trouble, OSError, subprocess.TimeoutExpired) as trouble:
                    notes[peer.name] = str(trouble)
        for peer in started:
            if peer.name not in notes and case.send and not self.over():
                with contextlib.suppress(procs.Trouble):
                    seen[peer.name].append(syscalls(case, task, peer))
            group.end(peer.process)
        return {peer.name: summary(seen[peer.name], notes.get(peer.name)) for peer in self.peers}

    def rate(self, started: list[servers.Peer], notes: dict) -> int | None:
        """70 % of what HAProxy (or the first of all) can do under the same tool."""
        measured = next((peer for peer in started if peer.name == "haproxy"), started[0] if started else None)
        try:
            loads.oha(url(measured, False, "/"), 1, None)
            load = loads.oha(url(measured, False, "/"), self.seconds, None)
        except (procs.Trouble, AttributeError) as trouble:
            notes.update({peer.name: f"no rate: {trouble}" for peer in started})
            return None
        return max(int(load.requests / load.seconds * 0.7), 1)

    def round(self, case: Case, task: servers.Task, peer: servers.Peer, rate: int | None, warm: bool) -> dict:
        where = url(peer, task.tls, case.path)
        if case.at_rate:
            send = lambda seconds: loads.oha(where, seconds, rate)
        elif case.send:
            send = lambda seconds: case.send(where, seconds, peer.folder)
        else:
            return idle(task, peer)
        if not warm:  # connections to backends, learned costs, memory
            send(1)
        with changing(task, peer):
            pids = peer.pids()
            cpu, switches, voluntary = procs.cpu_seconds(pids), procs.switches(pids), procs.switches(pids, "voluntary")
            load = send(self.seconds)
            after = peer.pids()
            cpu = procs.cpu_seconds(after) - cpu
            switches = procs.switches(after) - switches if after == pids else None
            voluntary = procs.switches(after, "voluntary") - voluntary if after == pids else None
        found = {
            "cpu_us": cpu * 1e6 / max(load.requests, 1), "rate": load.requests / load.seconds, "errors": load.errors,
            "switches": None if switches is None else switches / max(load.requests, 1),
            "voluntary": None if voluntary is None else voluntary / max(load.requests, 1), "resident_kib": procs.resident_kib(peer.pids()),
            "p50_us": load.p50, "p99_us": load.p99, "p999_us": load.p999, "asked_rate": rate,
        }
        return {key: value for key, value in found.items() if value is not None}


def url(peer: servers.Peer, tls: bool, path: str) -> str:
    return f"http{'s' if tls else ''}://127.0.0.1:{peer.port}{path}"


def idle(task: servers.Task, peer: servers.Peer) -> dict:
    for connection in loads.hold_open(peer.port, 64, task.tls):
        connection.close()
    before = procs.resident_kib(peer.pids())
    # One address may have half of a proxy's connections, and those are half of its descriptors.
    count = min(IDLE_CONNECTIONS[task.tls], (procs.descriptors() - SPARE_DESCRIPTORS) // 4)
    held = loads.hold_open(peer.port, count, task.tls)
    time.sleep(1)  # buffers that are given back a moment later
    after = procs.resident_kib(peer.pids())
    for connection in held:
        connection.close()
    return {"kib_per_connection": (after - before) / len(held), "resident_kib": after}


def syscalls(case: Case, task: servers.Task, peer: servers.Peer) -> dict:
    """System calls per request, counted by the kernel in a short round of its own."""
    if not shutil.which("perf"):
        return {}
    counted = peer.folder / "perf"
    pids = ",".join(map(str, peer.pids()))
    before = ["perf", "stat", "-x,", "-o", str(counted), "-e", "raw_syscalls:sys_enter", "-p", pids]
    load = case.send(url(peer, task.tls, case.path), 1, peer.folder, before)
    numbers = [line.split(",")[0] for line in counted.read_text().splitlines() if "sys_enter" in line]
    return {"syscalls": int(numbers[0]) / load.requests} if numbers and numbers[0].isdigit() else {}


@contextlib.contextmanager
def changing(task: servers.Task, peer: servers.Peer):
    """Takes one backend after the other out of the set and puts it back, while inside."""
    if not task.changing:
        yield
        return
    stop = threading.Event()

    def loop():
        n = 0
        while not stop.wait(CHANGE_SECONDS):
            n += 1
            with contextlib.suppress(OSError):
                peer.change(task.backends[: 2 + n % 2])

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def summary(rounds: list[dict], note: str | None) -> dict:
    """Medians of what the rounds found; errors are summed."""
    keys = {key: None for found in rounds for key in found}
    medians = {key: statistics.median([found[key] for found in rounds if key in found]) for key in keys}
    if "errors" in medians:
        medians["errors"] = sum(found.get("errors", 0) for found in rounds)
    return {**medians, "rounds": rounds, **({"note": note} if note else {})}


def make_certificate(work: pathlib.Path) -> pathlib.Path | None:
    """A self-signed P-256 certificate and its key in one file."""
    if not shutil.which("openssl"):
        return None
    key, certificate, both = work / "key.pem", work / "cert.pem", work / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
         "/CN=h0.test", "-addext", "subjectAltName=DNS:h0.test,DNS:*.test,IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    both.write_text(certificate.read_text() + key.read_text())
    return both


def brief(found: dict) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in found.items() if key in ("cpu_us", "rate", "p99_us", "kib_per_connection"))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
