"""The bodies of error answers, as each API writes them."""

from __future__ import annotations

from typing import Any

from tokenwire_adapters.testing.provider._replies import Api

__all__ = ["error_body", "error_headers"]

_OPENAI = {401: "authentication_error", 429: "rate_limit_error"}
_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GOOGLE = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


_AWS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def error_body(api: Api, status: int, message: str, param: str | None) -> dict[str, Any]:
    """Return the JSON of an error.

    :param param: the field of the request that is wrong, if it is one.
    """
    general = "server_error" if status >= 500 else "invalid_request_error"
    kind = _OPENAI.get(status, general)
    google = _GOOGLE.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    match api:
        case "chat" | "responses":
            return {"error": {"message": message, "type": kind, "param": param, "code": None}}
        case "messages":
            default = "api_error" if status >= 500 else general
            error = {"type": _ANTHROPIC.get(status, default), "message": message}
            return {"type": "error", "error": error}
        case "gemini":
            return {"error": {"code": status, "message": message, "status": google}}
        case "interactions":
            return {"error": {"code": google.lower(), "message": message}}
        case "mistral":
            fields = {"message": message, "type": kind, "param": param, "code": None}
            return {"object": "error"} | fields
        case "ollama" | "ollama-generate":
            return {"error": message}
        case "cohere" | "converse" | "invoke":
            return {"message": message}


def error_headers(api: Api, status: int) -> dict[str, str]:
    """Return the headers of an error: Bedrock names it in one."""
    if api not in ("converse", "invoke"):
        return {}
    return {"x-amzn-errortype": _AWS.get(status, "InternalServerException")}
