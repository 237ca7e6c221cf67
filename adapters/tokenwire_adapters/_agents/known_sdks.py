"""The SDKs of models that are known, and the layers that see what they receive.

A layer is an instrumentor, by its name in the entry-point group ``tokenwire.instrumentors``. Only
the standard library: this is read when a program imports its first package.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

__all__ = ["KNOWN_SDKS", "KnownSdk", "unseen_sdks"]

_HTTPX = ("httpx", "httpx2")
_PROXY = "send it through `tokenwire proxy`"
_BY_HAND = "publish what it yields by `sink.respond`"


@dataclass(frozen=True, slots=True)
class KnownSdk:
    """One SDK or framework.

    :ivar module: its import name.
    :ivar package: its name on PyPI.
    :ivar layers: the instrumentors beside its own that see it; none where no wire of it is read.
    :ivar transport: what it sends by, for those who ask why it is not seen.
    :ivar remedy: what to do where none of the layers is there.
    :ivar warns: whether to say so at its import: packages that do much besides are imported by
        programs that have no model.
    """

    module: str
    package: str
    layers: tuple[str, ...]
    transport: str = "HTTP"
    remedy: str = _PROXY
    warns: bool = True

    def seen_by(self, instrumentors: Container[str]) -> list[str]:
        """The layers that are there."""
        return [layer for layer in (self.module, *self.layers) if layer in instrumentors]

    def warning(self) -> str:
        """Say that nobody sees it, and what to do."""
        return (
            f"what {self.package} ({self.module}) receives is not published:"
            f" nothing here reads its {self.transport}; {self.remedy}, and see `tokenwire doctor`"
        )


KNOWN_SDKS = (
    KnownSdk("openai", "openai", ()),
    KnownSdk("anthropic", "anthropic", ()),
    KnownSdk("langchain_core", "langchain-core", ()),
    KnownSdk("llama_index.core", "llama-index-core", ()),
    KnownSdk("agents", "openai-agents", ("openai",)),
    KnownSdk("pydantic_ai", "pydantic-ai-slim", ("openai", *_HTTPX)),
    KnownSdk("google.genai", "google-genai", (*_HTTPX, "aiohttp")),
    KnownSdk("google.adk", "google-adk", (*_HTTPX, "aiohttp")),
    KnownSdk("mistralai", "mistralai", _HTTPX),
    KnownSdk("groq", "groq", _HTTPX),
    KnownSdk("cohere", "cohere", _HTTPX),
    KnownSdk("ollama", "ollama", _HTTPX),
    KnownSdk("together", "together", (*_HTTPX, "aiohttp")),
    KnownSdk("huggingface_hub", "huggingface-hub", _HTTPX, warns=False),
    KnownSdk("cerebras.cloud.sdk", "cerebras-cloud-sdk", _HTTPX),
    KnownSdk("fireworks", "fireworks-ai", _HTTPX),
    KnownSdk("litellm", "litellm", (*_HTTPX, "aiohttp")),
    KnownSdk("botocore", "botocore", ("urllib3",), warns=False),
    KnownSdk("aiobotocore", "aiobotocore", ("aiohttp",), warns=False),
    KnownSdk("dspy", "dspy", (), "own transport", "see docs/no-code.md"),
    KnownSdk("claude_agent_sdk", "claude-agent-sdk", ()),
    KnownSdk("google.generativeai", "google-generativeai", (), "gRPC", "use google-genai"),
    KnownSdk("vertexai", "google-cloud-aiplatform", (), "gRPC", "use google-genai"),
    KnownSdk("xai_sdk", "xai-sdk", (), "gRPC", "use openai with xAI's base URL"),
    KnownSdk("replicate", "replicate", (), "own wire format", _BY_HAND),
    KnownSdk("dashscope", "dashscope", (), "own wire format", "use openai with its base URL"),
    KnownSdk("ibm_watsonx_ai", "ibm-watsonx-ai", (), "own wire format", _BY_HAND),
    KnownSdk("llama_cpp", "llama-cpp-python", (), "calls in the process", _BY_HAND),
    KnownSdk("gpt4all", "gpt4all", (), "calls in the process", _BY_HAND),
    KnownSdk("mlx_lm", "mlx-lm", (), "calls in the process", _BY_HAND),
    KnownSdk("vllm", "vllm", (), "calls in the process", _BY_HAND, warns=False),
    KnownSdk("transformers", "transformers", (), "calls in the process", _BY_HAND, warns=False),
)
"""Layers are those of the versions of late 2026; ``docs/compatibility.md`` says what was tried."""


def unseen_sdks(instrumentors: Container[str]) -> Iterator[KnownSdk]:
    """The SDKs that none of these instrumentors sees.

    :param instrumentors: names of entry points.
    """
    return (sdk for sdk in KNOWN_SDKS if not sdk.seen_by(instrumentors))
