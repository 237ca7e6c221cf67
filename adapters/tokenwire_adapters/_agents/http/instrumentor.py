"""`HttpInstrumentor`: what the instrumentors of HTTP clients have in common."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import ModuleType
from urllib.parse import urlsplit

from tokenwire._problems import LogOnce
from tokenwire.claims import is_recorded_above
from tokenwire.instrument import SdkInstrumentor
from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.wires.recognition import HttpRequest, recognise

__all__ = ["HttpInstrumentor"]

PROXY_VARIABLE = "TOKENWIRE_PROXY"
"""The URL of a proxy of ours that records what this process asks through it."""

_log = LogOnce()


class HttpInstrumentor(SdkInstrumentor):
    """Records the requests to models that one HTTP client sends, whichever SDK makes them.

    A request that an SDK's own instrumentor records, or that goes through our proxy, is left alone.
    Each request that is sent is a response: an SDK that tries again begins another one.

    :param module: the client's import name.
    """

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module

    def import_client(self) -> ModuleType:
        """The client's module."""
        return importlib.import_module(self.module)

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Exchange | None:
        """Begin to record a request that is about to be sent, if it asks a model.

        To be called only for what `may_be_model_call`. Never raises, but with a strict sink.

        :param headers: by lower-case names.
        :param body: None where it is not known.
        """
        options = self.options_for()
        if options is None or is_recorded_above() or _is_proxied(url):
            return None
        try:
            found = recognise(HttpRequest(method, url, headers, body))
            if found is None:
                return None
            wire, request = found
            recorder = wire.recorder(options, request)
        except Exception as error:
            _log.warning(f"cannot read a request of {self.module}", error)
            return None
        recorder.begin()
        return Exchange(wire, recorder)


def _is_proxied(url: str) -> bool:
    proxy = os.environ.get(PROXY_VARIABLE)
    return bool(proxy) and urlsplit(proxy or "").netloc == urlsplit(url).netloc
