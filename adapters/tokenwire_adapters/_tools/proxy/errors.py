"""Answers of the proxy itself, in the shape that SDKs of OpenAI and of Anthropic read."""

from __future__ import annotations

from starlette.responses import JSONResponse

__all__ = ["ProxyError"]


class ProxyError(Exception):
    """What the proxy answers in place of the upstream. No key is ever in its text.

    :ivar status: the HTTP status.
    :ivar code: what went wrong, as one word: ``unknown_upstream``, say.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self) -> JSONResponse:
        """The answer to the client."""
        error = {"type": "tokenwire_proxy_error", "code": self.code, "message": str(self)}
        # SDKs retry some statuses: where the proxy refuses, another try would be refused, too.
        headers = {"x-should-retry": "false"} if self.status < 500 else {}
        return JSONResponse({"type": "error", "error": error}, self.status, headers)
