"""What sc-proxy is to reach beside the others, and whether it did."""

import dataclasses

OURS = "sc"


@dataclasses.dataclass(frozen=True)
class Aim:
    """`key` of a case is to be at most `most`, times that of `peer` if one is named; `best`: the best of all others."""

    case: str
    key: str
    most: float
    peer: str = ""


AIMS = [
    Aim("get64", "cpu_us", 0.85, "nginx"),
    Aim("get1000", "cpu_us", 0.85, "nginx"),
    Aim("connect", "cpu_us", 1.0, "best"),
    Aim("post64k", "cpu_us", 1.0, "best"),
    Aim("body1m", "cpu_us", 1.2, "best"),
    Aim("h2c", "cpu_us", 1.5, "best"),
    Aim("h2", "cpu_us", 1.5, "best"),
    Aim("tls", "cpu_us", 1.2, "best"),
    Aim("handshake", "cpu_us", 1.2, "best"),
    Aim("hosts", "cpu_us", 1.0, "best"),
    Aim("changing", "cpu_us", 1.0, "best"),
    Aim("changing", "errors", 0),
    Aim("get64", "syscalls", 4.3),
    Aim("get64", "switches", 0.05),
    Aim("idle", "kib_per_connection", 4),
    Aim("idle-tls", "kib_per_connection", 25),
    Aim("latency", "p99_us", 1.0, "haproxy"),
]


def verdicts(results: dict) -> list[dict]:
    """Each aim that was measured, with what was found: a plain number, or a ratio where the aim is one."""
    found = []
    for aim in AIMS:
        peers = {name: values[aim.key] for name, values in results.get(aim.case, {}).items() if aim.key in values}
        ours = peers.pop(OURS, None)
        base = min(peers.values(), default=None) if aim.peer == "best" else peers.get(aim.peer)
        if ours is None or (aim.peer and not base):
            continue
        value = ours / base if aim.peer else ours
        found.append({**dataclasses.asdict(aim), "value": value, "reached": value <= aim.most})
    return found
