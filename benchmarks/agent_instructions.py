"""What a wrapped SDK, the listener on HTTP clients and the frameworks' handlers cost the agent's
thread, in instructions.

    python benchmarks/agent_instructions.py [--only openai] [--tokens 300] [--calls 4]

Needs valgrind with its headers, and a C compiler (Debian: ``apt-get install valgrind gcc``). What
other programs do on the machine changes no figure. Each group runs under callgrind in a process
of its own, against the scripted provider in another; only calls that are measured are counted,
on the agent's thread alone. A stream of few tokens and one of many give the price of a token and
of a call. Time passes slower under callgrind, so the times within which text gathers are widened by
as much: about as many publishes a token as without callgrind.

With ``--pace 25``, the provider sends 25 tokens a second, each of which wakes the program and is
published by itself, as at 100 tokens a second where time passes a fourth as fast: the times of the
sink are four times as long. All threads of the process are counted then.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from overhead_common import provider

import tokenwire
from tokenwire._writing import inline

FEW = 20  # tokens of the short stream
PACE = 100  # tokens a second of a model, which `--pace` slows down
WARM = 20  # short streams before: Python specialises what has run a number of times
ASKED: Any = [{"role": "user", "content": "hi"}]

Read = Callable[[], object]
Case = tuple[str, Callable[[str], Read], contextlib.AbstractContextManager[object]]
"""A name, what makes a call of a server's URL, and what is in force meanwhile."""

REQUESTS = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_ZERO_STATS; CALLGRIND_START_INSTRUMENTATION; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def openai_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    def create(client: Any) -> Any:
        return client.chat.completions.create(model="m", messages=ASKED, stream=True)

    yield from _openai_cases("OpenAI Chat Completions", create, sink)


def responses_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    def create(client: Any) -> Any:
        return client.responses.create(model="m", input="hi", stream=True)

    yield from _openai_cases("OpenAI Responses", create, sink)


def _openai_cases(name: str, create: Callable[[Any], Any], sink: tokenwire.Sink) -> Iterator[Case]:
    import openai

    from tokenwire_adapters.openai import unwrap, wrap

    client: Any = openai.OpenAI(base_url="http://unused", api_key="k", max_retries=0)

    def call(url: str) -> Read:
        def read() -> None:
            client.base_url = url
            for _ in create(client):
                pass

        return read

    yield from _sdk_cases(name, openai, client, call, wrap, unwrap, sink)


def anthropic_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    import anthropic

    from tokenwire_adapters.anthropic import unwrap, wrap

    client: Any = anthropic.Anthropic(base_url="http://unused", api_key="k", max_retries=0)

    def call(url: str) -> Read:
        def read() -> None:
            client.base_url = url.removesuffix("/v1")
            create = client.messages.create
            for _ in create(model="m", max_tokens=99_999, messages=ASKED, stream=True):
                pass

        return read

    yield from _sdk_cases("Anthropic Messages", anthropic, client, call, wrap, unwrap, sink)


def _sdk_cases(
    name: str, sdk: Any, client: Any, call: Any, wrap: Any, unwrap: Any, sink: tokenwire.Sink
) -> Iterator[Case]:
    from tokenwire.instrument import Options

    yield f"{name}, plain", call, contextlib.nullcontext()

    @contextlib.contextmanager
    def wrapped() -> Iterator[None]:
        wrap(client, sink, channel="c")
        yield
        unwrap(client)

    yield f"{name}, wrapped", call, wrapped()
    http = sdk.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    listener = getattr(importlib.import_module("tokenwire_adapters.http"), http)

    @contextlib.contextmanager
    def listened() -> Iterator[None]:
        listener.start(Options(sink, "c"))
        yield
        listener.stop()

    yield f"{name}, HTTP listener", call, listened()


def langchain_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_openai import ChatOpenAI

    from tokenwire_adapters.langchain import TokenwireCallbackHandler

    class Idle(BaseCallbackHandler):
        run_inline = True

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            pass

        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            pass

    models = functools.cache(lambda url: ChatOpenAI(model="m", base_url=url, api_key="k"))

    def calls(*handlers: Any) -> Callable[[str], Read]:
        def call(url: str) -> Read:
            def read() -> None:
                for _ in models(url).stream("hi", config={"callbacks": list(handlers)}):
                    pass

            return read

        return call

    yield "LangChain, an idle handler", calls(Idle()), contextlib.nullcontext()
    events = TokenwireCallbackHandler(sink, channel="c", stop_provider=False)
    yield "LangChain, events alone", calls(events), contextlib.nullcontext()
    tapped = TokenwireCallbackHandler(sink, channel="c")
    yield "LangChain, stop_provider", calls(tapped), contextlib.nullcontext()


def llama_index_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from llama_index.llms.openai import OpenAI

    from tokenwire_adapters._agents.llama_index import spans
    from tokenwire_adapters.llama_index import TokenwireEventHandler

    root = spans.root_dispatcher()
    models = functools.cache(lambda url: OpenAI(model="gpt-4o", api_base=url, api_key="k"))

    class Idle(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            pass

    @contextlib.contextmanager
    def handled(handler: Any) -> Iterator[None]:
        root.event_handlers = [handler]
        yield
        root.event_handlers = []

    def call(url: str) -> Read:
        def read() -> None:
            for _ in models(url).stream_complete("hi"):
                pass

        return read

    yield "LlamaIndex, an idle handler", call, handled(Idle())
    events = TokenwireEventHandler(sink, channel="c", stop_provider=False)
    yield "LlamaIndex, events alone", call, handled(events)
    yield "LlamaIndex, stop_provider", call, handled(TokenwireEventHandler(sink, channel="c"))


def requests_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    """A plain request that asks no model."""
    import httpx

    from tokenwire.instrument import Options
    from tokenwire_adapters.http import httpx as listener

    client = httpx.Client()

    def call(url: str) -> Read:
        return lambda: client.post(f"{url}/none", json={"a": 1})

    yield "POST elsewhere, plain", call, contextlib.nullcontext()

    @contextlib.contextmanager
    def listened() -> Iterator[None]:
        listener.start(Options(sink, "c"))
        yield
        listener.stop()

    yield "POST elsewhere, HTTP listener", call, listened()


def write_cases(sink: tokenwire.Sink) -> Iterator[Case]:
    """A write, alone and among 1,000 open responses; the `url` is the number of tokens."""

    def call(tokens: str, responses: int = 1) -> Read:
        writers = [sink.respond("c") for _ in range(responses)]
        writes = [writer.write for writer in writers]
        rounds = int(tokens) * 100 // responses

        def read() -> None:
            for _ in range(rounds):
                for write in writes:
                    write(" token")

        return read

    for responses in (1, 1000):
        several = functools.partial(call, responses=responses)
        yield f"write x 100, {responses} open", several, contextlib.nullcontext()


GROUPS: dict[str, Callable[[tokenwire.Sink], Iterator[Case]]] = {
    "openai": openai_cases,
    "responses": responses_cases,
    "anthropic": anthropic_cases,
    "langchain": langchain_cases,
    "llama-index": llama_index_cases,
    "requests": requests_cases,
    "write": write_cases,
}


# -- in the process that is measured


def measure(
    group: str, urls: list[str], calls: int, library: str, native: float | None, pace: float
) -> None:
    """Run a group's cases, and print for each its publishes; natively, also how long one takes."""
    requests: Any = ctypes.CDLL(library) if native is not None else None
    slower = PACE / pace if pace else 1.0  # so much slower time passes, as under callgrind
    if native is not None and not pace:
        with tokenwire.open_sink("memory://slower") as sink:
            _, call, _ = next(GROUPS[group](sink))
            read = call(urls[1])
            read()
            requests.begin()
            slower = seconds(read) / native
            requests.end(b"slower")
    with tokenwire.open_sink("memory://measured") as sink:
        sink._runtime.producer.outbox._interval *= slower  # more than may be asked for
        inline.GRACE *= slower
        inline.BURST_WINDOW *= slower
        for number, (name, call, in_force) in enumerate(GROUPS[group](sink)):
            publishes = []
            with in_force:
                reads = [call(url) for url in urls]
                for _ in range(WARM):
                    reads[-1]()
                for length, read in enumerate(reads[:2]):
                    read()
                    sink.flush(60)
                    gc.collect()
                    gc.freeze()
                    before = sink.stats().writing.publishes
                    if requests is None:
                        costs = [seconds(read) for _ in range(calls)]
                        if number == 0 and length == 1:
                            print(json.dumps(min(costs)))
                    else:
                        requests.begin()
                        for _ in range(calls):
                            read()
                        requests.end(f"{number}-{length}".encode())
                    publishes.append((sink.stats().writing.publishes - before) / calls)
            print(json.dumps([name, publishes]), flush=True)


def seconds(read: Read) -> float:
    begun = time.perf_counter()
    read()
    return time.perf_counter() - begun


# -- in the process that prints


def instructions(folder: Path, threads: str) -> dict[str, int]:
    """By the name of a measurement, the instructions of these threads."""
    found: dict[str, int] = {}
    for path in folder.glob(f"callgrind.out.*-{threads}"):
        name, count = "", 0
        for line in path.read_text().splitlines():
            if line.startswith("desc: Trigger: Client Request: "):
                name = line.rpartition(" ")[2]
            elif line.startswith(("totals: ", "summary: ")):
                count = int(line.split()[1])
        found[name] = found.get(name, 0) + count
    return found


def compare(
    group: str, tokens: int, calls: int, folder: Path, urls: list[str], pace: float
) -> None:
    library = folder / "requests.so"
    (folder / "requests.c").write_text(REQUESTS)
    build = ["cc", "-O1", "-shared", "-fPIC", "-o", library, folder / "requests.c"]
    subprocess.run(build, check=True)
    script = [sys.executable, __file__, "--measure", group, "--calls", str(calls), "--urls", *urls]
    script += ["--pace", str(pace)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = functools.partial(
        subprocess.run, check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    native = run(script).stdout.splitlines()
    quick = json.loads(native[0])
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
    valgrind += ["--separate-threads=yes", f"--callgrind-out-file={folder}/callgrind.out.%p"]
    slow = run([*valgrind, *script, "--library", str(library), "--native", str(quick)])
    counts = instructions(folder, "*" if pace else "01")
    first: tuple[float, float] | None = None
    for number, (line, other) in enumerate(zip(slow.stdout.splitlines(), native[1:], strict=True)):
        name, publishes = json.loads(line)
        few, many = (counts[f"{number}-{length}"] / calls for length in (0, 1))
        token = (many - few) / (tokens - FEW)
        call = few - FEW * token
        first = first or (token, call)
        print(
            f"{name:36}{token:11,.0f} {_more(token, first[0])}{call:12,.0f} {_more(call, first[1])}"
            f"  together {_more(many, first[0] * tokens + first[1])}"
            f"  publishes {publishes[1]:.0f} ({json.loads(other)[1][1]:.0f} without callgrind)",
            flush=True,
        )


def _more(value: float, base: float) -> str:
    return f"{value / base - 1:+8.2%}" if base else " " * 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--tokens", type=int, default=300, help="of the longer streams")
    parser.add_argument("--calls", type=int, default=4, help="of each length")
    parser.add_argument("--pace", type=float, default=0.0, help="tokens a second")
    parser.add_argument("--keep", type=Path, help="a folder for callgrind's files")
    for inner in ("--measure", "--library", "--native"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    parser.add_argument("--urls", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        native = float(args.native) if args.native else None
        measure(args.measure, args.urls, args.calls, args.library, native, args.pace)
        return
    what = "all threads" if args.pace else "agent thread"
    print(f"{f'instructions, {what}':36}{'a token':>11} {'':8}{'a call':>12}")
    with contextlib.ExitStack() as closing:
        lengths = ((FEW, args.pace), (args.tokens, args.pace), (FEW, 0))  # the last to warm up
        urls = [closing.enter_context(provider(*length)) for length in lengths]
        for group in args.only or GROUPS:
            with tempfile.TemporaryDirectory() as folder:
                there = args.keep / group if args.keep else Path(folder)
                there.mkdir(parents=True, exist_ok=True)
                served = [str(FEW), str(args.tokens)] if group == "write" else urls
                compare(group, args.tokens, args.calls, there, served, args.pace)


if __name__ == "__main__":
    main()
