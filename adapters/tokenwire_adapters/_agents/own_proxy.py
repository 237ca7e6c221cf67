"""The proxy of ``tokenwire run``, as a program sees it that publishes by itself.

Exactly one of the two publishes a model call. An SDK's wrapper knows more of it than the proxy
(channel, run, framework), so it marks the requests that it publishes to the proxy's backend, and
the proxy passes these on unread. An HTTP client's listener leaves the call to the proxy.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from tokenwire.claims import covering_claim
from tokenwire.instrument import Options
from tokenwire.opening import is_default_sink
from tokenwire.sink import Sink

__all__ = ["PUBLISHED", "is_published_before_proxy", "leads_to_own_proxy", "leave_to_proxy"]

PUBLISHED = "x-tokenwire-published"
"""The header of requests whose replies their sender publishes to the proxy's backend."""

_PROXY = object()  # takes claims


def leads_to_own_proxy(url: object) -> bool:
    """Whether a request to `url` goes to the proxy that ``$TOKENWIRE_PROXY`` names."""
    proxy = os.environ.get("TOKENWIRE_PROXY")
    if not proxy:
        return False
    return _origin(str(url)) == _origin(proxy if "//" in proxy else f"http://{proxy}")


def is_published_before_proxy(url: object, options: Options) -> bool:
    """Whether a request to the proxy is recorded for the proxy's own backend, ``$TOKENWIRE_URL``.

    A sink that the program has opened itself is taken for another one: then both publish.
    """
    if not leads_to_own_proxy(url):
        return False
    claim = covering_claim()
    return _is_of_proxy(options.sink or (claim.sink if claim is not None else None))


def leave_to_proxy() -> None:
    """Have the proxy publish the call that is about to be made, and the layers above not."""
    claim = covering_claim()
    if claim is not None and _is_of_proxy(claim.sink):
        claim.take(_PROXY)


def _is_of_proxy(sink: Sink | None) -> bool:
    """Whether a sink's backend is the proxy's; None is the process's own."""
    url = os.environ.get("TOKENWIRE_URL", "memory:")
    return is_default_sink(sink) and not url.startswith("memory:")


def _origin(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port
