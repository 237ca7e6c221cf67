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
    :ivar tools: whether tool calls are compared, or why they cannot be.
    :ivar reasoning: whether the model's reasoning reaches that layer, or why it does not.
    :ivar usage: whether usage must be there, or why it need not.
    :ivar own_requests: why the provider sends replies that the program never sees; what the watcher
        sees is compared with what the program received alone.
    :ivar cancels: None, or why a cancel cannot close the provider's connection.
    :ivar replies: which replies the provider gives, by their name in `tests.ecosystem.replies`.
    :ivar known: None, or what is known to differ: the row is listed as failing.
    :ivar known_of_cancel: likewise, of a cancel.
    """

    name: str
    requires: tuple[str, ...]
    script: str
    arguments: tuple[str, ...] = ()
    layer: str = "HTTP"
    tools: bool | str = True
    reasoning: bool | str = True
    usage: bool | str = True
    own_requests: str | None = None
    cancels: str | None = None
    replies: str = "usual"
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


_UNASKED = "the provider sends usage only where the program asks for it, which this one leaves open"
_WHOLE = "a reply that is not streamed comes at once: there is nothing left to cancel"
_PROXY = ("tokenwire[proxy]",)
_GENAI = ("google-genai",)
_OPENAI = ("openai",)
_ANTHROPIC = ("anthropic",)

_CLAUDE = "anthropic.claude-sonnet-4-20250514-v1:0"
_LANGGRAPH = (
    "langgraph",
    "langchain",
    *(f"langchain-{name}" for name in ["openai", "anthropic", "google-genai", "ollama"]),
    *(f"langchain-{name}" for name in ["mistralai", "groq", "cohere", "aws"]),
)


def _each(
    package: str,
    script: str,
    requires: tuple[str, ...],
    ways: Mapping[str, tuple[str, str]],
    *,
    usage: bool | str = True,
    replies: str = "usual",
) -> list[Row]:
    """Rows of one script: by its arguments, the way's name and the layer that sees it."""
    return [
        Row(
            f"{package}, {name}",
            requires,
            script,
            tuple(arguments.split()),
            layer,
            usage=usage,
            replies=replies,
        )
        for arguments, (name, layer) in ways.items()
    ]


ROWS = [
    Row("openai, Chat Completions", _OPENAI, "openai_sdk.py", ("chat",), "SDK"),
    Row("openai, Chat Completions, async", _OPENAI, "openai_sdk.py", ("chat_async",), "SDK"),
    Row(
        "openai, Chat Completions, whole",
        _OPENAI,
        "openai_sdk.py",
        ("chat_whole",),
        "SDK",
        cancels=_WHOLE,
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
        cancels=_WHOLE,
    ),
    Row("google-genai, Vertex AI", _GENAI, "google_genai.py", ("vertex",), google_key=False),
    Row("google-genai, Interactions", _GENAI, "google_genai.py", ("interactions",)),
    Row("boto3, converse_stream", ("boto3",), "bedrock.py", ("converse_stream",)),
    Row(
        "boto3, converse",
        ("boto3",),
        "bedrock.py",
        ("converse",),
        cancels=_WHOLE,
    ),
    Row("boto3, invoke_model_with_response_stream", ("boto3",), "bedrock.py", ("invoke_stream",)),
    Row("mistralai", ("mistralai",), "mistral_sdk.py", ("sync",)),
    Row("mistralai, async", ("mistralai",), "mistral_sdk.py", ("asynchronous",)),
    Row("groq", ("groq",), "openai_like.py", ("groq",), usage=_UNASKED),
    Row("groq, async", ("groq",), "openai_like.py", ("groq_async",), usage=_UNASKED),
    Row("together", ("together",), "openai_like.py", ("together",), usage=_UNASKED),
    Row(
        "huggingface_hub", ("huggingface_hub",), "openai_like.py", ("huggingface",), usage=_UNASKED
    ),
    Row(
        "huggingface_hub, async",
        ("huggingface_hub",),
        "openai_like.py",
        ("huggingface_async",),
        usage=_UNASKED,
    ),
    Row("cohere", ("cohere",), "cohere_sdk.py", ("sync",)),
    Row("cohere, async", ("cohere",), "cohere_sdk.py", ("asynchronous",)),
    Row("ollama", ("ollama",), "ollama_sdk.py", ("chat",)),
    Row("ollama, async", ("ollama",), "ollama_sdk.py", ("chat_async",)),
    Row("ollama, generate", ("ollama",), "ollama_sdk.py", ("generate",), tools="the API has none"),
    *_each(
        "pydantic-ai",
        "pydantic_ai_agent.py",
        ("pydantic-ai-slim[openai,anthropic,google,mistral,groq,cohere,bedrock]",),
        {
            "openai-chat:m": ("OpenAI Chat Completions", "SDK"),
            "openai-responses:m": ("OpenAI Responses", "SDK"),
            "anthropic:claude-sonnet-4-5": ("Anthropic", "SDK"),
            "google:gemini-3": ("Gemini", "HTTP"),
            "bedrock:anthropic.claude-sonnet-4-20250514-v1:0": ("Bedrock", "HTTP"),
        },
    ),
    Row(
        "pydantic-ai, Groq",
        ("pydantic-ai-slim[openai,anthropic,google,mistral,groq,cohere,bedrock]",),
        "pydantic_ai_agent.py",
        ("groq:m",),
        usage=_UNASKED,
    ),
    *_each(
        "agno",
        "agno_agent.py",
        ("agno", "openai", "google-genai", "anthropic"),
        {
            "openai:OpenAIChat": ("OpenAI Chat Completions", "SDK"),
            "openai:OpenAIResponses": ("OpenAI Responses", "SDK"),
            "anthropic:Claude": ("Anthropic", "SDK"),
            "google:Gemini:gemini-3": ("Gemini", "HTTP"),
        },
    ),
    Row("google-adk", ("google-adk",), "google_adk_agent.py"),
    *_each(
        "strands-agents",
        "strands_agent.py",
        ("strands-agents[openai,anthropic,ollama,mistral]",),
        {
            "bedrock": ("Bedrock", "HTTP"),
            "anthropic": ("Anthropic", "SDK"),
            "openai": ("OpenAI", "SDK"),
            "ollama": ("Ollama", "HTTP"),
        },
    ),
    *_each(
        "litellm",
        "litellm_calls.py",
        ("litellm",),
        {
            "completion openai/m": ("OpenAI", "SDK"),
            "completion anthropic/m": ("Anthropic", "HTTP"),
            "acompletion anthropic/m": ("Anthropic, async", "HTTP"),
            "completion gemini/gemini-3": ("Gemini", "HTTP"),
            "completion ollama_chat/m": ("Ollama", "HTTP"),
            "completion groq/m": ("Groq", "HTTP"),
            "completion mistral/m": ("Mistral", "HTTP"),
            f"completion bedrock/converse/{_CLAUDE}": ("Bedrock", "HTTP"),
            "responses openai/gpt-4o": ("Responses", "HTTP"),  # unknown models do not stream
            "responses anthropic/m": ("Responses of Anthropic", "HTTP"),
        },
        usage=_UNASKED,
    ),
    Row(
        "litellm, Cohere",
        ("litellm",),
        "litellm_calls.py",
        ("completion", "cohere/command-a"),
        usage=_UNASKED,
        known="LiteLLM 1.110 reads each line of Cohere's event stream as JSON, and raises",
    ),
    *_each(
        "openai-agents",
        "openai_agents_agent.py",
        ("openai-agents",),
        {
            "responses": ("Responses", "SDK"),
            "chat_completions": ("Chat Completions", "SDK"),
        },
        usage=_UNASKED,
    ),
    *_each(
        "langgraph",
        "langgraph_agent.py",
        _LANGGRAPH,
        {
            "openai": ("langchain-openai", "callbacks"),
            "openai-responses": ("langchain-openai, Responses", "callbacks"),
            "anthropic": ("langchain-anthropic", "callbacks"),
            "google": ("langchain-google-genai", "callbacks"),
            "ollama": ("langchain-ollama", "callbacks"),
            "mistral": ("langchain-mistralai", "callbacks"),
            "groq": ("langchain-groq", "callbacks"),
            "aws": ("langchain-aws", "callbacks"),
        },
        usage=_UNASKED,
    ),
    Row(
        "langgraph, langchain-cohere",
        _LANGGRAPH,
        "langgraph_agent.py",
        ("cohere",),
        "callbacks",
        usage=_UNASKED,
        replies="without reasoning",  # of which it makes a message that its next request refuses
    ),
    *_each(
        "llama-index-core",
        "llama_index_agent.py",
        (
            "llama-index-core",
            "llama-index-llms-openai",
            "llama-index-llms-google-genai",
            "llama-index-llms-ollama",
        ),
        {
            "openai": ("OpenAI", "callbacks"),
            "openai-responses": ("OpenAI Responses", "callbacks"),
            "google": ("Gemini", "callbacks"),
            "ollama": ("Ollama", "callbacks"),
        },
        usage=_UNASKED,
    ),
    Row(
        "llama-index-core, Anthropic",
        ("llama-index-core", "llama-index-llms-anthropic", "anthropic<1"),
        "llama_index_agent.py",
        ("anthropic",),
        "callbacks",
        usage=_UNASKED,
    ),
    *_each(
        "crewai",
        "crewai_agent.py",
        ("crewai[anthropic]",),
        {"openai/gpt-4o": ("OpenAI", "SDK"), "anthropic/claude-x": ("Anthropic", "SDK")},
        usage=_UNASKED,
    ),
    *_each(
        "smolagents",
        "smolagents_agent.py",
        ("smolagents[openai,litellm]",),
        {"openai": ("OpenAI", "SDK"), "anthropic/m": ("Anthropic by LiteLLM", "HTTP")},
        usage=_UNASKED,
    ),
    *_each(
        "autogen-agentchat",
        "autogen_agent.py",
        ("autogen-agentchat", "autogen-ext[openai,anthropic,ollama]", "anthropic<1"),
        {
            "openai": ("OpenAI", "SDK"),
            "anthropic": ("Anthropic", "SDK"),
            "ollama": ("Ollama", "HTTP"),
        },
        usage=_UNASKED,
    ),
    *_each(
        "haystack-ai",
        "haystack_agent.py",
        ("haystack-ai", "google-genai-haystack", "anthropic-haystack", "ollama-haystack"),
        {
            "openai": ("OpenAI", "SDK"),
            "anthropic": ("Anthropic", "SDK"),
            "google": ("Gemini", "HTTP"),
            "ollama": ("Ollama", "HTTP"),
        },
        usage=_UNASKED,
    ),
    *_each(
        "semantic-kernel",
        "semantic_kernel_agent.py",
        ("semantic-kernel[google,anthropic,ollama]",),
        {
            "openai": ("OpenAI", "SDK"),
            "anthropic": ("Anthropic", "SDK"),
            "google": ("Gemini", "HTTP"),
            "ollama": ("Ollama", "HTTP"),
        },
        usage=_UNASKED,
    ),
    Row(
        "agent-framework",
        ("agent-framework",),
        "agent_framework_agent.py",
        layer="SDK",
        usage=_UNASKED,
    ),
    *_each(
        "litellm, its proxy",
        "litellm_proxy.py",
        ("litellm[proxy]",),
        {"anthropic/m": ("Anthropic", "HTTP"), "openai/m": ("OpenAI", "SDK")},
        usage=_UNASKED,
    ),
    *_each(
        "instructor",
        "instructor_calls.py",
        ("instructor[anthropic]", "google-genai"),
        {"openai/m": ("OpenAI", "SDK"), "anthropic/m": ("Anthropic", "SDK")},
        usage=_UNASKED,
    ),
    *_each(
        "dspy",
        "dspy_calls.py",
        ("dspy",),
        {
            "openai/m": ('OpenAI, engine="litellm"', "SDK"),
            "anthropic/m": ('Anthropic, engine="litellm"', "HTTP"),
        },
        usage=_UNASKED,
        replies="sections",
    ),
    Row(
        "claude-agent-sdk",
        ("claude-agent-sdk",),
        "claude_agent.py",
        layer="SDK",
        own_requests="Claude Code also asks for itself; the program never sees those replies",
    ),
    *(
        Row(f"{package} (npm){name}", _PROXY, script, arguments, "proxy", npm=package, usage=usage)
        for package, name, script, arguments, usage in (
            ("openai", ", Chat Completions", "node_openai.mjs", ("chat",), True),
            ("openai", ", Responses", "node_openai.mjs", ("responses",), True),
            ("@anthropic-ai/sdk", "", "node_anthropic.mjs", (), True),
            ("@google/genai", "", "node_google.mjs", (), True),
            ("ai", ", OpenAI Responses", "node_ai_sdk.mjs", ("responses",), _UNASKED),
            ("ai", ", OpenAI Chat Completions", "node_ai_sdk.mjs", ("chat",), _UNASKED),
            ("ai", ", Anthropic", "node_ai_sdk.mjs", ("anthropic",), _UNASKED),
        )
    ),
]
