"""Processes: started, waited for, read from /proc, ended by pid."""

import os
import pathlib
import resource
import socket
import subprocess
import time

HERTZ = os.sysconf("SC_CLK_TCK")
DESCRIPTORS = 65_536


class Trouble(Exception):
    """Something outside did not do its part; the message says what."""


def raise_descriptor_limit() -> None:
    """Takes as many descriptors as the system lets it; a connection through a proxy takes four on this host."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A started program and its children."""

    def __init__(self, command: list, log: pathlib.Path, env: dict | None = None):
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})},
            )

    def pids(self) -> list[int]:
        found, new = [], [self.popen.pid]
        while new:
            found += new
            new = [child for pid in new for child in children(pid)]
        return found

    def wait_until_listening(self, port: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if self.popen.poll() is not None:
                raise Trouble(f"it ended at once: {self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Trouble(f"it does not listen after {seconds:.0f} s: {self.tail()}") from None
                time.sleep(0.05)

    def tail(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])[-400:]

    def end(self) -> None:
        pids = self.pids()
        self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.popen.wait()


class Group:
    """Ends whatever was started in it."""

    def __init__(self):
        self.running = []

    def start(self, command: list, log: pathlib.Path, env: dict | None = None) -> Process:
        process = Process(command, log, env)
        self.running.append(process)
        return process

    def end(self, process: Process) -> None:
        if process in self.running:
            self.running.remove(process)
            process.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.running:
            self.running.pop().end()


def children(pid: int) -> list[int]:
    try:
        text = " ".join(path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    return [int(child) for child in text.split()]


def cpu_seconds(pids: list[int]) -> float:
    """CPU time of processes with all their threads and of their children that have ended: user and system."""
    return sum(ticks(pid) for pid in pids) / HERTZ


def ticks(pid: int) -> int:
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def switches(pids: list[int], kind: str = "") -> int:
    """Context switches of all threads; `kind` `voluntary`: only where a thread had nothing to do."""
    total, wanted = 0, f"{kind}_ctxt_switches" if kind else "ctxt_switches"
    for pid in pids:
        for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if (line.startswith(wanted) if kind else wanted in line))
    return total


def resident_kib(pids: list[int]) -> int:
    """Resident memory; what several processes share is divided among them."""
    total = 0
    for pid in pids:
        try:
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
