"""The benchmarks of the watchers' side and of imports, as one table: `tox -e bench`.

    python benchmarks/suite.py --out bench
    python benchmarks/suite.py --only fan_out redis     # a part of it
    python benchmarks/suite.py --short --out bench      # whether the suite itself works

Peers run in turns with us, round after round, so that what disturbs the machine disturbs all; a row
is the median of its rounds, a ratio the median of the rounds' ratios. It writes
`bench/results.json` (every figure, and what it was measured on), `bench/table.md`, and, where
matplotlib is installed, `bench/growth.svg`: what a token costs, and what is held, as watchers,
channels, responses and a response's length grow. Takes about a quarter of an hour. Peers take part
where they are installed; the others are named with the reason: sse-starlette, nchan (Debian's
`libnginx-mod-nchan`), Durable Streams' server (Node and npm), and over Redis resumable-stream (PyPI
and npm), assistant-stream and agno. The short form takes npm's packages from npm's cache alone.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import gateway_load
import growth

FIELDS = ("deliveries_per_cpu_second", "p50_ms", "p99_ms", "kib_per_watcher")
IMPORTS = {  # what is imported, and what of it is not ours to answer for
    "tokenwire.opening": "msgspec",  # which loads the whole core, as a sink does
    "tokenwire_adapters.asgi": "starlette.requests",
    "tokenwire_adapters.redis": "redis.asyncio",
    "tokenwire_adapters.openai": "openai",
    "tokenwire_adapters.anthropic": "anthropic",
}
SERVERS = ("gateway", "asgi", "joined", "bare", "naive", "nchan", "durable")
PARTS = ("fan_out", "formats", "redis", "growth", "imports")
REDIS = (
    "tokens_per_s",
    "commands_per_token",
    "redis_us_per_token",
    "client_us_per_token",
    "connections",
    "bytes_left_in_redis",
)


FORMATS = ("sse", "ws", "chat", "ag_ui")


def load(kind: str, watchers: int, seconds: float, loop: str, wire: str = "sse") -> dict[str, Any]:
    """One run of `gateway_load`; exits where a watcher missed a token."""
    counts = {**dict.fromkeys(FORMATS, 0), wire: watchers}
    options = argparse.Namespace(**counts, loop=loop)
    result = gateway_load.run(kind, options, rate=60.0, seconds=seconds)
    if kind in ("gateway", "asgi"):
        gateway_load.check(result)
    return result


def fan_out(
    watchers: int, rounds: int, seconds: float, loop: str, left_out: dict[str, str]
) -> dict[str, Any]:
    """Every kind of server in turn, for a number of rounds; the first is the gateway."""
    kinds = [kind for kind in SERVERS if kind not in left_out]
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            runs[kind].append(load(kind, watchers, seconds, loop))
    report: dict[str, Any] = {}
    for kind in kinds:
        medians = {
            field: statistics.median(run[field] or 0.0 for run in runs[kind]) for field in FIELDS
        }
        report[kind] = {
            **medians,
            **ratios(runs["gateway"], runs[kind], FIELDS[0]),
            "complete": min(run["complete"] for run in runs[kind]),
        }
    return report


def ratios(one: list[Any], other: list[Any], field: str) -> dict[str, Any]:
    """How many times as much one is as the other, round by round."""
    found = [mine[field] / its[field] for mine, its in zip(one, other, strict=True)]
    return {"ratio": statistics.median(found), "ratios": found}


def missing_servers() -> dict[str, str]:
    """The peers of the gateway that are not installed, and why."""
    peers = gateway_load.PEERS
    reasons = {kind: peers[kind].missing() for kind in SERVERS if kind in peers}
    if importlib.util.find_spec("sse_starlette") is None:
        reasons["naive"] = "sse-starlette is not installed"
    return {kind: reason for kind, reason in reasons.items() if reason}


def over_redis(tokens: int, watchers: int, rounds: int) -> tuple[dict[str, Any], dict[str, str]]:
    """One response to watchers through Redis, by tokenwire and its peers in turns.

    Returns what was measured, and who was left out and why.
    """
    try:
        import redis_common  # which needs more than the other parts
        import redis_peers

        from tests.redis_support import find_binary

        find_binary()
    except (ImportError, RuntimeError) as error:
        return {}, {"Redis": str(error)}
    runs: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in redis_peers.KINDS}
    left_out: dict[str, str] = {}
    with redis_common.server() as server:
        for _ in range(rounds):
            for kind in redis_peers.KINDS:
                if kind.name not in left_out:
                    try:
                        run = asyncio.run(redis_peers.measure(kind, server, tokens, watchers))
                    except ImportError as error:
                        left_out[kind.name] = str(error)
                    else:
                        runs[kind.name].append(run)
    ours = runs["tokenwire"]
    if any(run["exact"] != watchers for run in ours):
        sys.exit("over Redis, watchers did not get the exact text")
    report: dict[str, Any] = {}
    for name in [name for name in runs if name not in left_out]:
        medians = {field: statistics.median(run[field] for run in runs[name]) for field in REDIS}
        exact = min(run["exact"] for run in runs[name])
        replay = runs[name][0]["replay_when_over"]
        speed = ratios(ours, runs[name], REDIS[0])
        report[name] = {**medians, **speed, "exact": exact, "replay_when_over": replay}
    return report, left_out


def formats(watchers: int, rounds: int, seconds: float, loop: str) -> dict[str, Any]:
    """The gateway's formats in turn: deliveries of a CPU second, as a ratio of event streams'."""
    runs: dict[str, list[dict[str, Any]]] = {wire: [] for wire in FORMATS}
    for _ in range(rounds):
        for wire in FORMATS:
            runs[wire].append(load("gateway", watchers, seconds, loop, wire))
    report: dict[str, Any] = {}
    for wire in FORMATS:
        medians = {
            name: statistics.median(run[name] or 0.0 for run in runs[wire]) for name in FIELDS
        }
        report[wire] = {**medians, **ratios(runs[wire], runs["sse"], FIELDS[0])}
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


def markdown(title: str, heads: str, rows: Iterable[str]) -> list[str]:
    """A table with its title; heads and rows have `|` between their cells."""
    rule = "|".join([" --- "] * (heads.count("|") + 1))
    return [title, "", f"| {heads} |", f"|{rule}|", *(f"| {row} |" for row in rows), ""]


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines: list[str] = []
    speed = "deliveries per CPU second"
    latency = "p50, p99 | KiB per watcher"

    def figures(row: dict[str, Any]) -> str:
        return f"{row['p50_ms']:.0f}, {row['p99_ms']:.0f} ms | {row['kib_per_watcher']:.1f}"

    for watchers, kinds in report.get("fan_out", {}).items():
        lines += markdown(
            f"{watchers} event streams of one channel, 60 tokens a second:",
            f"server | {speed} | the gateway is | {latency} | got every token",
            (
                f"{kind} | {row['deliveries_per_cpu_second']:,.0f} | {row['ratio']:.2f} times"
                f" | {figures(row)} | {row['complete']}"
                for kind, row in kinds.items()
            ),
        )
    if "formats" in report:
        lines += markdown(
            f"The gateway's formats, {report['formats_watchers']} watchers:",
            f"format | {speed} | of event streams' | {latency}",
            (
                f"{wire} | {row['deliveries_per_cpu_second']:,.0f} | {row['ratio']:.2f}"
                f" | {figures(row)}"
                for wire, row in report["formats"].items()
            ),
        )
    if report.get("redis"):
        lines += markdown(
            f"A response to {report['redis_watchers']} watchers through Redis, as fast as can be:",
            "package | tokens a second | tokenwire is | commands per token | Redis' CPU of a token"
            " | clients' CPU of a token | connections | left in Redis | replay when over",
            (
                f"{name} | {row['tokens_per_s']:,.0f} | {row['ratio']:.1f} times"
                f" | {row['commands_per_token']:.2f} | {row['redis_us_per_token']:.1f} µs"
                f" | {row['client_us_per_token']:.1f} µs | {row['connections']:.0f}"
                f" | {row['bytes_left_in_redis']:,.0f} bytes | {row['replay_when_over']}"
                for name, row in report["redis"].items()
            ),
        )
    for kind, points in report.get("growth", {}).items():
        lines += markdown(
            f"Growth of {kind}:",
            f"{kind} | CPU of a token | bytes of each",
            (
                f"{row['count']:,} | {row['us_per_token']:.1f} µs | {row['bytes_each']:,.0f}"
                for row in points
            ),
        )
    if "imports" in report:
        lines += markdown(
            "Imports, beyond what they wrap:",
            "import | CPU | what is wrapped | beyond it",
            (
                f"`{module}` | {row['ms']:.0f} ms | {row['wrapped_ms']:.0f} ms (`{row['wraps']}`)"
                f" | {row['beyond_ms']:.0f} ms"
                for module, row in report["imports"].items()
            ),
        )
    if report["left_out"]:
        lines += ["Left out:", ""]
        lines += [f"- {name}: {reason}" for name, reason in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--short", action="store_true", help="see whether the suite works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts alone")
    parser.add_argument("--loop", choices=["auto", "asyncio"], default="auto")
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    sizes, rounds, seconds = ([10], 1, 0.5) if options.short else ([100, 1000], 5, 5.0)
    watchers = [1, 10] if options.short else [10, 30, 100, 300, 1000, 3000]
    counts = [1, 10] if options.short else [1, 10, 100, 1000, 10_000]
    tokens, readers = (50, 2) if options.short else (1000, 10)
    if options.short:
        os.environ["NPM_CONFIG_OFFLINE"] = "true"
    left_out: dict[str, str] = {}
    report: dict[str, Any] = {"machine": gateway_load.machine(), "load_before": os.getloadavg()}
    if "fan_out" in options.only:
        left_out |= missing_servers()
        report["fan_out"] = {n: fan_out(n, rounds, seconds, options.loop, left_out) for n in sizes}
    if "formats" in options.only:
        report["formats_watchers"] = sizes[-1]
        report["formats"] = formats(sizes[-1], min(rounds, 3), seconds, options.loop)
    if "redis" in options.only:
        report["redis_watchers"] = readers
        report["redis"], without = over_redis(tokens, readers, min(rounds, 3))
        left_out |= without
    if "growth" in options.only:
        report["growth"] = grown(watchers, counts, seconds, options.loop)
    if "imports" in options.only:
        # The SDKs take seconds to compile.
        report["imports"] = imports(1, list(IMPORTS)[:2]) if options.short else imports(5)
    report["left_out"] = left_out
    report["load_after"] = os.getloadavg()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    (options.out / "table.md").write_text(table(report), encoding="utf-8")
    if "growth" in report and not growth.draw(report["growth"], options.out / "growth.svg"):
        print("matplotlib is not installed: no plot")
    print(table(report))


if __name__ == "__main__":
    main()
