"""`HttpInstrumentor`: what the instrumentors of all HTTP clients have in common."""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Callable

from tokenwire.background import on_io_thread
from tokenwire.claims import recorded_above
from tokenwire.instrument import SdkInstrumentor
from tokenwire_adapters._agents.http.exchange import Exchange, open_exchange
from tokenwire_adapters._agents.wires.recognition import HttpRequest

__all__ = ["HttpInstrumentor"]

logger = logging.getLogger("tokenwire")


class HttpInstrumentor(SdkInstrumentor, ABC):
    """Records the replies of models that one HTTP client receives, where no layer above does.

    :param module: the client's import name.
    """

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module

    def exchange(self, make: Callable[[], HttpRequest]) -> Exchange | None:
        """Begin to record a request that is about to be sent; None where it is not recorded.

        :param make: gives the request; called only where it may be recorded.
        """
        if recorded_above() or on_io_thread():  # on that thread, all requests are our own
            return None
        try:
            options = self.options_for()
            return None if options is None else open_exchange(make(), options)
        except Exception:
            if self._is_strict():
                raise
            logger.warning("tokenwire: cannot read a request of %s", self.module, exc_info=True)
            return None

    def _is_strict(self) -> bool:
        options = self._options
        return options is not None and getattr(options.sink, "strict", False) is True
