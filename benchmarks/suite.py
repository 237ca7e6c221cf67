"""The benchmarks of the watchers' side and of imports, as one table: `tox -e bench`.

    python benchmarks/suite.py --out bench
    python benchmarks/suite.py --short --out bench      # whether the suite itself works

Peers run in turns with us, round after round, so that what disturbs the machine disturbs all; a row
is the median of its rounds, a ratio the median of the rounds' ratios. It writes
`bench/results.json` (every figure, and what it was measured on), `bench/table.md`, and, where
matplotlib is installed,
`bench/growth.svg`: what a delivery costs and a watcher holds as watchers become more. Takes about a
quarter of an hour. sse-starlette is a peer where it is installed.
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
from pathlib import Path
from typing import Any

import gateway_load

FIELDS = ("deliveries_per_cpu_second", "p50_ms", "p99_ms", "kib_per_watcher")
IMPORTS = {  # what is imported, and what of it is not ours to answer for
    "tokenwire": "msgspec",
    "tokenwire_adapters.asgi": "starlette.requests",
    "tokenwire_adapters.redis": "redis.asyncio",
    "tokenwire_adapters.openai": "openai",
    "tokenwire_adapters.anthropic": "anthropic",
}


def load(kind: str, watchers: int, seconds: float, loop: str) -> dict[str, Any]:
    """One run of `gateway_load`; exits where a watcher missed a token."""
    options = argparse.Namespace(sse=watchers, ws=0, chat=0, ag_ui=0, loop=loop)
    result = gateway_load.run(kind, options, rate=60.0, seconds=seconds)
    if kind in ("gateway", "asgi"):
        gateway_load.check(result)
    return result


def fan_out(watchers: int, rounds: int, seconds: float, loop: str) -> dict[str, Any]:
    """Every kind of server in turn, for a number of rounds."""
    kinds = ["gateway", "asgi", "joined", "bare"]
    if importlib.util.find_spec("sse_starlette") is not None:
        kinds.append("naive")
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


def cpu_of(commands: dict[str, list[str]], rounds: int = 5) -> dict[str, list[float]]:
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


def imports() -> dict[str, Any]:
    """What our modules, and `tokenwire run`, cost beyond what they wrap."""
    report: dict[str, Any] = {}
    empty = [sys.executable, "-c", ""]
    run = [sys.executable, "-m", "tokenwire_adapters.cli", "run", "--to", "memory://", "--"]
    pairs = {"tokenwire run": (run + empty, "python", empty)}
    for module, base in IMPORTS.items():
        if importlib.util.find_spec(base.partition(".")[0]) is not None:
            ours, theirs = ([sys.executable, "-c", f"import {name}"] for name in (module, base))
            pairs[module] = (ours, base, theirs)
    for name, (ours, base, theirs) in pairs.items():
        times = cpu_of({"ours": ours, "theirs": theirs})
        more = [one - other for one, other in zip(times["ours"], times["theirs"], strict=True)]
        report[name] = {
            "ms": statistics.median(times["ours"]),
            "wraps": base,
            "wrapped_ms": statistics.median(times["theirs"]),
            "beyond_ms": statistics.median(more),
        }
    return report


def growth(counts: list[int], seconds: float, loop: str) -> list[dict[str, Any]]:
    """What a delivery costs, and what a watcher holds, by how many watchers there are."""
    points: list[dict[str, Any]] = []
    for watchers in counts:
        result = load("gateway", watchers, seconds, loop)
        points.append(
            {
                "watchers": watchers,
                "us_per_delivery": 1e6 / result["deliveries_per_cpu_second"],
                "kib_per_watcher": result["kib_per_watcher"],
            }
        )
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
    lines += ["| import | CPU | what is wrapped | beyond it |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{module}` | {row['ms']:.0f} ms | {row['wrapped_ms']:.0f} ms (`{row['wraps']}`)"
        f" | {row['beyond_ms']:.0f} ms |"
        for module, row in report["imports"].items()
    ]
    return "\n".join(lines) + "\n"


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw the growth, both axes logarithmic, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no plot")
        return
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4))
    watchers = [point["watchers"] for point in points]
    for axis, field, title in (
        (axes[0], "us_per_delivery", "CPU of a delivery (µs)"),
        (axes[1], "kib_per_watcher", "memory of an idle watcher (KiB)"),
    ):
        axis.loglog(watchers, [max(point[field], 0.01) for point in points], marker="o")
        axis.set_xlabel("watchers of one channel")
        axis.set_title(title)
        axis.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--short", action="store_true", help="see whether the suite works")
    parser.add_argument("--loop", choices=["auto", "asyncio"], default="auto")
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    sizes, rounds, seconds = ([10], 1, 0.5) if options.short else ([100, 1000], 5, 5.0)
    counts = [1, 10] if options.short else [10, 30, 100, 300, 1000, 3000]
    report: dict[str, Any] = {"machine": gateway_load.machine(), "load_before": os.getloadavg()}
    report["fan_out"] = {n: fan_out(n, rounds, seconds, options.loop) for n in sizes}
    report["growth"] = growth(counts, seconds, options.loop)
    report["imports"] = imports()
    report["load_after"] = os.getloadavg()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    (options.out / "table.md").write_text(table(report), encoding="utf-8")
    draw(report["growth"], options.out / "growth.svg")
    print(table(report))


if __name__ == "__main__":
    main()
