"""What was found, as data and as tables."""

import datetime
import os
import platform

from . import aims, cases

COLUMNS = {
    "cpu_us": ("CPU µs", "{:.1f}"),
    "ratio": ("ratio", "{:.2f}"),
    "rate": ("req/s", "{:.0f}"),
    "p50_us": ("p50 µs", "{:.0f}"),
    "p99_us": ("p99 µs", "{:.0f}"),
    "p999_us": ("p99.9 µs", "{:.0f}"),
    "kib_per_connection": ("KiB/conn", "{:.1f}"),
    "resident_kib": ("RSS MiB", "{:.1f}"),
    "syscalls": ("syscalls", "{:.2f}"),
    "switches": ("switches", "{:.3f}"),
    "voluntary": ("volunt.", "{:.3f}"),
    "errors": ("errors", "{:.0f}"),
}


def document(results: dict, run: cases.Run, versions: dict, absent: dict) -> dict:
    for peers in results.values():
        base = peers.get("nginx", {}).get("cpu_us")
        for found in peers.values():
            if base and "cpu_us" in found:
                found["ratio"] = found["cpu_us"] / base
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "at": datetime.datetime.now().isoformat("T", "seconds")}
    how = {"rounds": run.rounds, "seconds": run.seconds, "threads": run.threads}
    return {"machine": machine, "how": how, "versions": versions, "absent": absent, "cases": results,
            "aims": aims.verdicts(results)}


def tables(found: dict) -> str:
    lines = [f"{name}: {version}" for name, version in found["versions"].items()]
    for name, peers in found["cases"].items():
        used = [key for key in COLUMNS if any(key in peer for peer in peers.values())]
        lines += ["", f"{name}: {cases.CASES[name].about}", row(["", *(COLUMNS[key][0] for key in used)])]
        for peer, values in peers.items():
            lines.append(row([peer, *(cell(key, values.get(key)) for key in used)]) + (f"  {values['note']}" if "note" in values else ""))
    return "\n".join(lines + verdict(found))


def verdict(found: dict) -> list[str]:
    lines = ["", "to reach:"] if found["aims"] else []
    for aim in found["aims"]:
        name, form = COLUMNS[aim["key"]]
        unit = f" × {aim['peer']}" if aim["peer"] else ""
        value = f"{aim['value']:.2f}" if aim["peer"] else form.format(aim["value"])
        done = "reached" if aim["reached"] else "MISSED"
        lines.append(f"{aim['case']:10}{name:>10}{value:>10}   ≤ {aim['most']:g}{unit}: {done}")
    return lines


def cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return COLUMNS[key][1].format(value / 1024 if key == "resident_kib" else value)


def row(cells: list[str]) -> str:
    return f"{cells[0]:8}" + "".join(f"{text:>10}" for text in cells[1:])
