"""The rows of the table: packages, and the scripts that show what is seen of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    :ivar name: of the package and how it is used.
    :ivar requires: what is installed; the first is the package whose version is shown.
    :ivar script: in the folder ``scripts``.
    :ivar layer: which part of tokenwire sees it.
    :ivar reasoning: whether the model's reasoning reaches that layer.
    :ivar usage: whether the program asks the provider for usage.
    :ivar cancels: None, or why a cancel cannot close the provider's connection.
    :ivar known: None, or what is known to differ: the row is listed as failing.
    :ivar known_of_cancel: likewise, of a cancel.
    """

    name: str
    requires: tuple[str, ...]
    script: str
    arguments: tuple[str, ...] = ()
    layer: str = "HTTP"
    reasoning: bool = True
    usage: bool = True
    cancels: str | None = None
    known: str | None = None
    known_of_cancel: str | None = None
    npm: str = ""
    google_key: bool = True
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The distribution whose version is shown."""
        return self.npm or re.split(r"[\[<>=]", self.requires[0])[0]

    @property
    def slug(self) -> str:
        """Its name, as tests and channels can have it."""
        return re.sub(r"\W+", "-", self.name).strip("-").lower()


_GENAI = ("google-genai",)
_OPENAI = ("openai",)
_ANTHROPIC = ("anthropic",)

ROWS = [
    Row("openai, Chat Completions", _OPENAI, "openai_sdk.py", ("chat",), "SDK"),
    Row("openai, Chat Completions, async", _OPENAI, "openai_sdk.py", ("chat_async",), "SDK"),
    Row(
        "openai, Chat Completions, whole",
        _OPENAI,
        "openai_sdk.py",
        ("chat_whole",),
        "SDK",
        cancels="a whole reply comes at once",
    ),
    Row("openai, Responses", _OPENAI, "openai_sdk.py", ("responses",), "SDK"),
    Row("openai, Responses, async", _OPENAI, "openai_sdk.py", ("responses_async",), "SDK"),
    Row("anthropic", _ANTHROPIC, "anthropic_sdk.py", ("events",), "SDK"),
    Row("anthropic, helper", _ANTHROPIC, "anthropic_sdk.py", ("helper",), "SDK"),
    Row("anthropic, async", _ANTHROPIC, "anthropic_sdk.py", ("events_async",), "SDK"),
    Row("google-genai", _GENAI, "google_genai.py", ("sync",)),
    Row("google-genai, async", _GENAI, "google_genai.py", ("asynchronous",)),
    Row(
        "google-genai, async on aiohttp",
        ("google-genai", "aiohttp"),
        "google_genai.py",
        ("asynchronous",),
    ),
    Row(
        "google-genai, whole",
        _GENAI,
        "google_genai.py",
        ("whole",),
        cancels="a whole reply comes at once",
    ),
    Row("google-genai, Vertex AI", _GENAI, "google_genai.py", ("vertex",), google_key=False),
    Row("google-genai, Interactions", _GENAI, "google_genai.py", ("interactions",)),
    Row("boto3, converse_stream", ("boto3",), "bedrock.py", ("converse_stream",)),
    Row(
        "boto3, converse",
        ("boto3",),
        "bedrock.py",
        ("converse",),
        cancels="a whole reply comes at once",
    ),
    Row("boto3, invoke_model_with_response_stream", ("boto3",), "bedrock.py", ("invoke_stream",)),
    Row("mistralai", ("mistralai",), "mistral_sdk.py", ("sync",)),
    Row("mistralai, async", ("mistralai",), "mistral_sdk.py", ("asynchronous",)),
    Row("groq", ("groq",), "openai_like.py", ("groq",), usage=False),
    Row("groq, async", ("groq",), "openai_like.py", ("groq_async",), usage=False),
    Row("together", ("together",), "openai_like.py", ("together",), usage=False),
    Row("huggingface_hub", ("huggingface_hub",), "openai_like.py", ("huggingface",), usage=False),
    Row(
        "huggingface_hub, async",
        ("huggingface_hub",),
        "openai_like.py",
        ("huggingface_async",),
        usage=False,
    ),
    Row("cohere", ("cohere",), "cohere_sdk.py", ("sync",)),
    Row("cohere, async", ("cohere",), "cohere_sdk.py", ("asynchronous",)),
    Row("ollama", ("ollama",), "ollama_sdk.py", ("chat",)),
    Row("ollama, async", ("ollama",), "ollama_sdk.py", ("chat_async",)),
    Row("ollama, generate", ("ollama",), "ollama_sdk.py", ("generate",)),
]
