"""The variables by which SDKs and tools are pointed at another server.

`AWS_ENDPOINT_URL_BEDROCK_RUNTIME` is not among them: AWS's SDKs sign the host that they are given,
so what a proxy passes on would be refused. `HF_ENDPOINT` would move more than models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tokenwire_adapters._tools.proxy.upstreams import Upstream

__all__ = ["PROVIDERS", "Provider", "Redirection", "redirect"]


@dataclass(frozen=True)
class Provider:
    """A provider that programs find by variables of the environment.

    :ivar name: of its upstream.
    :ivar url: where it is, where nobody says otherwise; empty where there is no one place.
    :ivar variables: each with what it holds after the address of the server, for the client adds
        the rest: ``/v1``, or nothing.
    """

    name: str
    url: str
    variables: Mapping[str, str]


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "openai", "https://api.openai.com/v1", {"OPENAI_BASE_URL": "/v1", "OPENAI_API_BASE": "/v1"}
    ),
    # The AI SDK wants /v1 in the variable, and Anthropic's own SDKs do not. The upstream's URL ends
    # with it, so paths with and without it lead to the same place.
    Provider(
        "anthropic",
        "https://api.anthropic.com/v1",
        {"ANTHROPIC_BASE_URL": "", "ANTHROPIC_API_BASE": ""},
    ),
    Provider(
        "google",
        "https://generativelanguage.googleapis.com",
        {"GOOGLE_GEMINI_BASE_URL": "", "GEMINI_API_BASE": "/v1beta"},
    ),
    Provider("groq", "https://api.groq.com", {"GROQ_BASE_URL": "", "GROQ_API_BASE": "/openai/v1"}),
    Provider("cohere", "https://api.cohere.com", {"CO_API_URL": ""}),
    Provider("together", "https://api.together.xyz/v1", {"TOGETHER_BASE_URL": ""}),
    Provider("mistral", "https://api.mistral.ai", {}),  # its SDKs read no variable
    Provider("ollama", "http://127.0.0.1:11434", {"OLLAMA_HOST": "", "OLLAMA_API_BASE": ""}),
    Provider("azure", "", {"AZURE_OPENAI_ENDPOINT": ""}),
    Provider("vertex", "", {"GOOGLE_VERTEX_BASE_URL": ""}),
)


@dataclass
class Redirection:
    """What points the clients of an environment at a proxy.

    :ivar upstreams: for the proxy: URLs by name.
    :ivar variables: to be set.
    :ivar unreadable: the variables whose values are no URLs that a proxy can stand before.
    """

    upstreams: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    unreadable: list[str] = field(default_factory=list[str])

    def saved(self, env: Mapping[str, str]) -> str:
        """What `env` has in place of `variables`, for those who want it back, as JSON."""
        return json.dumps({name: env.get(name) for name in self.variables})


def redirect(env: Mapping[str, str], origin: str) -> Redirection:
    """Point every known client at a proxy.

    A server that a variable names already becomes the upstream. Of a provider for which `env` has
    a variable, only that one is set: others might come before it.

    :param origin: of the proxy, ``http://127.0.0.1:PORT``.
    """
    plan = Redirection()
    for provider in PROVIDERS:
        given = [name for name in provider.variables if env.get(name)]
        for variable in given:
            _redirect_given(plan, provider, variable, env[variable], origin)
        if not given and provider.url:
            plan.upstreams[provider.name] = provider.url
            for variable, suffix in provider.variables.items():
                plan.variables[variable] = f"{origin}/{provider.name}{suffix}"
    return plan


def _redirect_given(
    plan: Redirection, provider: Provider, variable: str, value: str, origin: str
) -> None:
    name = provider.name
    try:
        url = _ollama_url(value) if provider.name == "ollama" else value
        if plan.upstreams.get(name, url) != url:
            name = variable.lower().replace("_", "-")
        upstream = Upstream(name, url)
    except ValueError:
        plan.unreadable.append(variable)
        return
    plan.upstreams[name] = url
    plan.variables[variable] = f"{origin}/{name}{upstream.version}"


def _ollama_url(value: str) -> str:
    """The address of a server whose ``OLLAMA_HOST`` may be only a host, or where it listens.

    :raises ValueError: for what is none.
    """
    has_scheme = "://" in value
    parts = urlsplit(value if has_scheme else f"http://{value}")
    host = parts.hostname or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104  (it listens there, and is reached here)
        host = "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    port = parts.port or (None if has_scheme else 11434)
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
