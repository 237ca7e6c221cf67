"""The pytest plugin: fixtures for testing an agent that streams. Loaded through an entry point.

========================  =======================================================================
``tokenwire_sink``        a strict sink on an in-memory store of its own, which takes the place of
                          every sink that the program opens while the test runs
``tokenwire_provider``    a scripted model provider, to which the SDKs' environment variables point
``tokenwire_faults``      what goes wrong between the program and its backend
``tokenwire_backend``     the `FaultyBackend` under ``tokenwire_sink``
``tokenwire_default``     ``tokenwire_sink``, by its older name
========================  =======================================================================

They need no event loop, so that they serve synchronous tests, pytest-asyncio and anyio alike.
`tokenwire.testing.assert_streamed` says what was streamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ImportError as error:
    raise ImportError('the fixtures need pytest: pip install "tokenwire[pytest]"') from error

if TYPE_CHECKING:  # imported in the fixtures, so that test runs without them pay nothing
    from tokenwire import Sink
    from tokenwire.backend import Backend, Granularity
    from tokenwire.testing import Deliver, FaultyBackend, Publish
    from tokenwire_adapters.testing.provider import Provider

__all__ = [
    "Faults",
    "tokenwire_backend",
    "tokenwire_default",
    "tokenwire_faults",
    "tokenwire_provider",
    "tokenwire_sink",
]

# Where the SDKs look for their provider, and keys that they insist on.
_BASE_URLS = (
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",  # LlamaIndex reads only this one; LangChain and LiteLLM read it first
    "MISTRAL_BASE_URL",
)
_ROOT_URLS = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_BASE",  # of LiteLLM
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "CO_API_URL",
    "OLLAMA_HOST",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
)
_KEYS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "MISTRAL_API_KEY",
    "CO_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)


class Faults:
    """What goes wrong between the program and its backend: get it from ``tokenwire_faults``.

    It holds for ``tokenwire_sink`` and for every sink that the program opens.
    """

    def __init__(self, backend: FaultyBackend) -> None:
        self._backends = [backend]

    def publish(self, *faults: Publish) -> None:
        """Say what becomes of the next publishes, one by one.

        :raises TypeError: for what is no `tokenwire.testing.Publish`.
        """
        self._backends[0].publish_faults.extend(faults)

    def deliver(self, *faults: Deliver) -> None:
        """Say what becomes of the next deliveries to watchers, one by one.

        :raises TypeError: for what is no `tokenwire.testing.Deliver`.
        """
        self._backends[0].deliver_faults.extend(faults)

    def kill(self) -> None:
        """Let nothing through in either direction from now on: leases run out."""
        for backend in self._backends:
            backend.kill()

    def revive(self) -> None:
        """Undo `kill`."""
        for backend in self._backends:
            backend.revive()

    def stall(self) -> None:
        """Have calls of the backend hang until `unstall`."""
        for backend in self._backends:
            backend.stall()

    def unstall(self) -> None:
        """Let hanging calls go on."""
        for backend in self._backends:
            backend.unstall()

    def another_backend(self, granularity: Granularity | None = None) -> FaultyBackend:
        """Another connection to the same store, with the same faults.

        :raises ValueError: for another granularity than that of what the store has.
        """
        from tokenwire import MemoryBackend
        from tokenwire.testing import FaultyBackend

        first = self._backends[0]
        if not isinstance(first.inner, MemoryBackend):
            raise TypeError("a tokenwire_backend of your own wraps a MemoryBackend")
        store = first.inner.store
        if granularity is not None and granularity != store.granularity:
            if store.list_channels("", 1, None).items:
                raise ValueError(
                    f"the store of tokenwire_sink has granularity {store.granularity!r} already"
                )
            store.granularity = first.granularity = first.inner.granularity = granularity
        backend = FaultyBackend(MemoryBackend(store), inline=True)
        backend.publish_faults = first.publish_faults
        backend.deliver_faults = first.deliver_faults
        self._backends.append(backend)
        return backend


@pytest.fixture
def tokenwire_backend() -> FaultyBackend:
    """An in-memory backend with faults on demand: ``publish_faults``, ``kill()``, ``stall()``."""
    from tokenwire import MemoryBackend
    from tokenwire.testing import FaultyBackend

    return FaultyBackend(MemoryBackend(), inline=True)


@pytest.fixture
def tokenwire_faults(tokenwire_backend: FaultyBackend) -> Faults:
    """What goes wrong between the program's sinks and their backend."""
    return Faults(tokenwire_backend)


@pytest.fixture
def tokenwire_sink(
    tokenwire_backend: FaultyBackend, tokenwire_faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sink]:
    """A strict sink on a fresh store: what would be logged raises.

    While the test runs, ``open_sink()`` and ``open_sink("redis://…")``, by whatever URL but
    ``memory://NAME``, open strict sinks on the same store, and ``default_sink()`` is this one.
    What a closed response wrote is visible.
    """
    from tokenwire import Sink, registry

    def open_backend(url: str, **options: Any) -> Backend:
        if url.startswith("memory://") and url != "memory://":
            return registry.open_backend(url, **options)
        return tokenwire_faults.another_backend(options.get("granularity"))

    sink = Sink(tokenwire_backend, strict=True)
    monkeypatch.setattr("tokenwire.opening.open_backend", open_backend)
    monkeypatch.setattr("tokenwire.opening._default", sink)
    monkeypatch.setenv("TOKENWIRE_STRICT", "1")
    yield sink
    tokenwire_faults.revive()
    tokenwire_faults.unstall()
    sink.close()


@pytest.fixture
def tokenwire_default(tokenwire_sink: Sink) -> Sink:
    """The sink that code gets which names none: ``tokenwire_sink``, by its older name."""
    return tokenwire_sink


@pytest.fixture
def tokenwire_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A scripted model provider on loopback, for the time of a test.

    The environment variables by which SDKs find their provider name it, so that a client which is
    made in the test, with no URL and no key, asks it.
    """
    from tokenwire_adapters.testing.provider import serve_in_thread

    with serve_in_thread(pace=0) as provider:
        for name in _BASE_URLS:
            monkeypatch.setenv(name, provider.base_url)
        for name in _ROOT_URLS:
            monkeypatch.setenv(name, provider.root_url)
        for name in _KEYS:
            monkeypatch.setenv(name, "unused")
        yield provider
