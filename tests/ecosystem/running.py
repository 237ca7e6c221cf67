"""Runs one row: a script under `tokenwire run`, against the scripted provider, beside a watcher."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ecosystem.comparing import differences_of, planned_reply, seen_reply
from tests.ecosystem.environments import environment_for, installed_version
from tests.ecosystem.replies import LONG, REPLIES
from tests.ecosystem.rows import Row
from tests.support.nodejs import node_with
from tokenwire import open_sink
from tokenwire.testing import Spectator
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

__all__ = ["Result", "run_and_cancel", "run_to_the_end"]

SCRIPTS = Path(__file__).parent / "scripts"
SLOW = 25.0
"""Tokens per second of the reply that is to be cancelled: it would take more than a minute."""
# A busy machine takes minutes to import some of these frameworks for the first time.
LIMIT = 600.0


@dataclass
class Result:
    """What one run of a row showed.

    :ivar version: of the row's package.
    :ivar received: what the script printed: what it received itself, by kind.
    :ivar sent: what the provider sent: one for each reply.
    :ivar seen: what the watcher saw: one for each response on the channel.
    :ivar differences: sentences; none when all agree.
    """

    version: str
    received: dict[str, Any] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class _Watcher:
    """Folds a channel's events on a thread, and wakes those who wait for them."""

    def __init__(self, sink: Any, channel: str) -> None:
        self.spectator = Spectator()
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self._watch = sink.watch(channel, rewind="all").open()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._watch:
                with self.changed:
                    self.spectator.see(event)
                    self.changed.notify_all()
        except BaseException as error:
            self.error = error

    @property
    def responses(self) -> list[Any]:
        return sorted(self.spectator.transcript, key=lambda response: response.started_at or 0)

    def wait(self, condition: Any, timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, timeout)

    def wake_at_end_of(self, process: "subprocess.Popen[str]") -> None:
        """Wake those who wait when a process has ended."""

        def wait() -> None:
            process.wait()
            with self.changed:
                self.changed.notify_all()

        threading.Thread(target=wait, daemon=True).start()

    def close(self) -> None:
        self._watch.close()
        self._thread.join(10)
        if self.error is not None:
            raise self.error


def run_to_the_end(row: Row, redis_url: str) -> Result:
    """Run a row, and compare what the script, the watcher and the provider have."""
    channel = f"end-{row.slug}"
    with _running(row, redis_url, channel, pace=0) as (provider, watcher, process, result):
        output, errors = _finish(process)
        count = len(provider.records)
        # The program flushed at its exit: what comes is on its way already.
        watcher.wait(lambda: sum(r.ended for r in watcher.responses) >= count, timeout=10)
        result.sent = [planned_reply(record) for record in provider.records]
        result.seen = [seen_reply(response) for response in watcher.responses]
    if process.returncode != 0:
        last = (errors.strip().splitlines() or [""])[-1]
        result.differences.append(f"it ends with {process.returncode}: {last}\n{errors[-3000:]}")
        return result
    result.received = json.loads(output.strip().splitlines()[-1])
    result.differences += differences_of(row, result.received, result.sent, result.seen)
    return result


def run_and_cancel(row: Row, redis_url: str) -> Result:
    """Run a row on a long reply, cancel the response, and see whether the provider is let go."""
    channel = f"cancel-{row.slug}"
    running = _running(row, redis_url, channel, pace=SLOW, is_long=True)
    with running as (provider, watcher, process, result):
        try:
            watcher.wake_at_end_of(process)
            watcher.wait(
                lambda: any(r.text for r in watcher.responses) or process.poll() is not None,
                timeout=LIMIT / 2,
            )
            if not any(r.text for r in watcher.responses):
                ended = process.poll() is not None
                errors = _finish(process)[1].strip() if ended else ""
                result.differences.append(
                    "no response came while the reply was being sent"
                    + (f"; the program ended:\n{errors[-3000:]}" if ended else "")
                )
                return result
            response = next(r for r in watcher.responses if r.text)
            record = next(record for record in provider.records if record.tokens_planned > 1000)
            outcome = watcher_cancel(redis_url, channel, response.id)
            try:
                ended: str = record.wait(20)
            except TimeoutError:
                ended = "still being sent"
            provider.pace = 0
            if ended != "closed_early":
                result.differences.append(
                    f"cancel says {outcome}, and the reply is {ended}: "
                    f"{record.tokens_sent} of {record.tokens_planned} tokens sent"
                )
            watcher.wait(lambda: _of(watcher, response.id).ended, timeout=10)
            state = _of(watcher, response.id).state
            if state != "cancelled":
                result.differences.append(f"the response is {state}, not cancelled")
        finally:
            if process.poll() is None:
                _finish(process, limit=60)
    return result


def watcher_cancel(redis_url: str, channel: str, response_id: str) -> str:
    """Cancel a response as another process would; return the outcome."""
    with open_sink(redis_url) as sink:
        return str(sink.cancel(channel, response_id, timeout=15))


def _of(watcher: _Watcher, response_id: str) -> Any:
    return watcher.spectator.transcript[response_id]


@contextmanager
def _running(
    row: Row,
    redis_url: str,
    channel: str,
    pace: float,
    is_long: bool = False,
) -> Iterator[tuple[Provider, _Watcher, "subprocess.Popen[str]", Result]]:
    programs = environment_for(row.requires)
    result = Result("")
    with serve_in_thread(pace=pace) as provider, open_sink(redis_url) as sink:
        replies = REPLIES[row.replies]
        provider.script(*((LONG, *replies[1:]) if is_long else replies))
        watcher = _Watcher(sink, channel)
        command, version = _command(row, programs)
        result.version = version
        process = subprocess.Popen(
            [
                programs / "tokenwire",
                "run",
                "--to",
                redis_url,
                "--channel",
                channel,
                *row.options,
                "--",
                *command,
            ],
            cwd=SCRIPTS,
            env=_environment(row, provider.root_url, programs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        try:
            yield provider, watcher, process, result
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
            watcher.close()


def _command(row: Row, programs: Path) -> tuple[list[str], str]:
    if not row.npm:
        command = [str(programs / "python"), str(SCRIPTS / row.script), *row.arguments]
        return command, installed_version(programs, row.package)
    manifest = SCRIPTS / "package.json"
    node = node_with(manifest, major=20)
    package = node.folder / "node_modules" / row.package / "package.json"
    script = node.script(SCRIPTS / row.script)
    version = json.loads(package.read_text())["version"]
    return [node.executable, str(script), *row.arguments], version


def _finish(process: "subprocess.Popen[str]", limit: float = LIMIT) -> tuple[str, str]:
    try:
        return process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        return output, f"it hangs: {errors}"


def _environment(row: Row, url: str, programs: Path) -> dict[str, str]:
    """Every SDK and tool is pointed at the provider by the variables that it documents."""
    names = [
        "OPENAI",
        "ANTHROPIC",
        "GEMINI",
        "GOOGLE",
        "GROQ",
        "TOGETHER",
        "CO",
        "COHERE",
        "MISTRAL",
        "OLLAMA",
        "HF",
        "AWS_BEARER",
    ]
    keys = {f"{name}_API_KEY": "unused" for name in names if name != "AWS_BEARER"}
    if not row.google_key:
        del keys["GOOGLE_API_KEY"]
    return {
        **os.environ,
        **keys,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HF_TOKEN": "unused",
        "PROVIDER_URL": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_BASE": url,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GOOGLE_VERTEX_BASE_URL": url,
        "GEMINI_API_BASE": url,
        "OLLAMA_HOST": url,
        "OLLAMA_API_BASE": url,
        "GROQ_BASE_URL": f"{url}/groq",
        "GROQ_API_BASE": f"{url}/groq/openai/v1",
        "TOGETHER_BASE_URL": f"{url}/together/v1",
        "CO_API_URL": url,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_ACCESS_KEY_ID": "unused",
        "AWS_SECRET_ACCESS_KEY": "unused",
        "AWS_REGION": "eu-north-1",
        "AWS_DEFAULT_REGION": "eu-north-1",
        # None of them may call home from a test.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "OTEL_SDK_DISABLED": "true",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "AGNO_TELEMETRY": "false",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LANGSMITH_TRACING": "false",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "ignore",
        **row.environment,
    }
