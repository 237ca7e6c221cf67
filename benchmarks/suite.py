"""The benchmarks of the watchers' side and of imports, as one table: `tox -e bench`.

    python benchmarks/suite.py --out bench
    python benchmarks/suite.py --short --out bench      # whether the suite itself works

Peers run in turns with us, round after round, so that what disturbs the machine disturbs all; a row
is the median of its rounds, a ratio the median of the rounds' ratios. It writes
`bench/results.json` (every figure, and what it was measured on), `bench/table.md`, and, where
matplotlib is installed, `bench/growth.svg`: what a token costs, and what is held, as watchers,
channels, responses and a response's length grow. Takes about a quarter of an hour. sse-starlette
and nchan (Debian's `libnginx-mod-nchan`) are peers where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import gateway_load
import growth
import nchan

FIELDS = ("deliveries_per_cpu_second", "p50_ms", "p99_ms", "kib_per_watcher")
IMPORTS = {  # what is imported, and what of it is not ours to answer for
    "tokenwire.opening": "msgspec",  # which loads the whole core, as a sink does
    "tokenwire_adapters.asgi": "starlette.requests",
    "tokenwire_adapters.redis": "redis.asyncio",
    "tokenwire_adapters.openai": "openai",
    "tokenwire_adapters.anthropic": "anthropic",
}


FORMATS = ("sse", "ws", "chat", "ag_ui")


def load(kind: str, watchers: int, seconds: float, loop: str, wire: str = "sse") -> dict[str, Any]:
    """One run of `gateway_load`; exits where a watcher missed a token."""
    counts = {**dict.fromkeys(FORMATS, 0), wire: watchers}
    options = argparse.Namespace(**counts, loop=loop)
    result = gateway_load.run(kind, options, rate=60.0, seconds=seconds)
    if kind in ("gateway", "asgi"):
        gateway_load.check(result)
    return result


def fan_out(watchers: int, rounds: int, seconds: float, loop: str) -> dict[str, Any]:
    """Every kind of server in turn, for a number of rounds."""
    kinds = ["gateway", "asgi", "joined", "bare"]
    if importlib.util.find_spec("sse_starlette") is not None:
        kinds.append("naive")
    if nchan.module() is not None:
        kinds.append("nchan")
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            runs[kind].append(load(kind, watchers, seconds, loop))
    report: dict[str, Any] = {}
    for kind in kinds:
        medians = {
            field: statistics.median(run[field] or 0.0 for run in runs[kind]) for field in FIELDS
        }
        ratios = [
            ours[FIELDS[0]] / theirs[FIELDS[0]]
            for ours, theirs in zip(runs["gateway"], runs[kind], strict=True)
        ]
        report[kind] = {**medians, "gateway_is": statistics.median(ratios), "ratios": ratios}
    return report


def formats(watchers: int, rounds: int, seconds: float, loop: str) -> dict[str, Any]:
    """The gateway's formats in turn: deliveries of a CPU second, as a ratio of event streams'."""
    runs: dict[str, list[dict[str, Any]]] = {wire: [] for wire in FORMATS}
    for _ in range(rounds):
        for wire in FORMATS:
            runs[wire].append(load("gateway", watchers, seconds, loop, wire))
    report: dict[str, Any] = {}
    for wire in FORMATS:
        pairs = zip(runs[wire], runs["sse"], strict=True)
        ratios = [one[FIELDS[0]] / other[FIELDS[0]] for one, other in pairs]
        medians = {
            name: statistics.median(run[name] or 0.0 for run in runs[wire]) for name in FIELDS
        }
        report[wire] = {**medians, "of_sse": statistics.median(ratios), "ratios": ratios}
    return report


def cpu_of(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """CPU time of commands, in milliseconds, in turns. Their modules are compiled before."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as compiled:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each run would compile them again
        for round_ in range(rounds + 1):
            for name, command in commands.items():
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(command, check=True, env=env, stderr=subprocess.DEVNULL)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                if round_:
                    times[name].append(spent * 1000)
    return times


def imports(rounds: int, modules: Collection[str] = tuple(IMPORTS)) -> dict[str, Any]:
    """What our modules, and `tokenwire run`, cost beyond what they wrap."""
    report: dict[str, Any] = {}
    empty = [sys.executable, "-c", ""]
    run = [sys.executable, "-m", "tokenwire_adapters.cli", "run", "--to", "memory://", "--"]
    pairs = {"tokenwire run": (run + empty, "python", empty)}
    for module in modules:
        base = IMPORTS[module]
        if importlib.util.find_spec(base.partition(".")[0]) is not None:
            ours, theirs = ([sys.executable, "-c", f"import {name}"] for name in (module, base))
            pairs[module] = (ours, base, theirs)
    for name, (ours, base, theirs) in pairs.items():
        times = cpu_of({"ours": ours, "theirs": theirs}, rounds)
        more = [one - other for one, other in zip(times["ours"], times["theirs"], strict=True)]
        report[name] = {
            "ms": statistics.median(times["ours"]),
            "wraps": base,
            "wrapped_ms": statistics.median(times["theirs"]),
            "beyond_ms": statistics.median(more),
        }
    return report


def grown(
    watchers: list[int], counts: list[int], seconds: float, loop: str
) -> dict[str, list[dict[str, Any]]]:
    """What a token costs, and what is held, by how many watchers and other things there are."""
    points: dict[str, list[dict[str, Any]]] = {"watchers": []}
    for count in watchers:
        result = load("gateway", count, seconds, loop)
        cost = 1e6 / result["deliveries_per_cpu_second"]
        held = result["kib_per_watcher"] * 1024
        points["watchers"].append({"count": count, "us_per_token": cost, "bytes_each": held})
    for kind in growth.KINDS:
        points[kind] = [growth.measure(kind, count) for count in counts]
    return points


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines: list[str] = []
    for watchers, kinds in report["fan_out"].items():
        lines += [
            f"{watchers} event streams of one channel, 60 tokens a second:",
            "",
            "| server | deliveries per CPU second | the gateway is | p50, p99 | KiB per watcher |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {kind} | {row['deliveries_per_cpu_second']:,.0f} | {row['gateway_is']:.2f} times"
            f" | {row['p50_ms']:.0f}, {row['p99_ms']:.0f} ms | {row['kib_per_watcher']:.1f} |"
            for kind, row in kinds.items()
        ]
        lines.append("")
    lines += [
        f"The gateway's formats, {report['formats_watchers']} watchers:",
        "",
        "| format | deliveries per CPU second | of event streams' | p50, p99 | KiB per watcher |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {wire} | {row['deliveries_per_cpu_second']:,.0f} | {row['of_sse']:.2f}"
        f" | {row['p50_ms']:.0f}, {row['p99_ms']:.0f} ms | {row['kib_per_watcher']:.1f} |"
        for wire, row in report["formats"].items()
    ]
    lines.append("")
    for kind, rows in report["growth"].items():
        lines += [f"| {kind} | CPU of a token | bytes of each |", "| --- | --- | --- |"]
        lines += [
            f"| {row['count']:,} | {row['us_per_token']:.1f} µs | {row['bytes_each']:,.0f} |"
            for row in rows
        ]
        lines.append("")
    lines += ["| import | CPU | what is wrapped | beyond it |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{module}` | {row['ms']:.0f} ms | {row['wrapped_ms']:.0f} ms (`{row['wraps']}`)"
        f" | {row['beyond_ms']:.0f} ms |"
        for module, row in report["imports"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--short", action="store_true", help="see whether the suite works")
    parser.add_argument("--loop", choices=["auto", "asyncio"], default="auto")
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    sizes, rounds, seconds = ([10], 1, 0.5) if options.short else ([100, 1000], 5, 5.0)
    watchers = [1, 10] if options.short else [10, 30, 100, 300, 1000, 3000]
    counts = [1, 10] if options.short else [1, 10, 100, 1000, 10_000]
    report: dict[str, Any] = {"machine": gateway_load.machine(), "load_before": os.getloadavg()}
    report["fan_out"] = {n: fan_out(n, rounds, seconds, options.loop) for n in sizes}
    report["formats_watchers"] = sizes[-1]
    report["formats"] = formats(sizes[-1], min(rounds, 3), seconds, options.loop)
    report["growth"] = grown(watchers, counts, seconds, options.loop)
    # The SDKs take seconds to compile.
    report["imports"] = imports(1, list(IMPORTS)[:2]) if options.short else imports(5)
    report["load_after"] = os.getloadavg()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    (options.out / "table.md").write_text(table(report), encoding="utf-8")
    if not growth.draw(report["growth"], options.out / "growth.svg"):
        print("matplotlib is not installed: no plot")
    print(table(report))


if __name__ == "__main__":
    main()
