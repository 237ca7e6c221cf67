"""The description of the HTTP routes (OpenAPI 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import msgspec

from tokenwire._version import __version__
from tokenwire.encoding import encoder_formats
from tokenwire.events import Response, State

if TYPE_CHECKING:
    from tokenwire_adapters._web.gateway.service import Service

__all__ = ["describe"]

# What Python calls printable cannot be said in a regular expression; this is most of it.
_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "pattern": r"^[^\u0000-\u001f\u007f-\u00a0\u2028\u2029]+$",
}
_CURSOR = {"type": "string", "maxLength": 512}  # an empty one is none
_STATES = list(get_args(State))


def _parameter(name: str, where: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": text,
    }


def _answer(text: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    """An object that has all of these properties."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _operation(
    name: str,
    summary: str,
    answers: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    problem = {"$ref": "#/components/responses/Problem"}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {**answers, "4XX": problem, "5XX": problem},
        **more,
    }


_CHANNEL = _parameter("channel", "path", _NAME, "The channel's name, percent-encoded once.")
_RESPONSE = _parameter("id", "path", _NAME, "The response's id, percent-encoded once.")


def describe(root: str, service: Service) -> dict[str, Any]:
    """Describe the gateway that is mounted at `root`."""
    secured = service.guard.tokens is not None
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tokenwire gateway",
            "version": __version__,
            "description": "Watch, stop and talk to agents. Not described: the WebSocket route, and"
            " POST /events, which speaks its protocol.",
        },
        "servers": [{"url": root}],
        "security": [{"bearer": []}] if secured else [],
        "paths": {
            "/channels/{channel}/events": {"get": _events()},
            "/channels/{channel}/responses": {"get": _history(service.limits.page)},
            "/channels/{channel}/responses/{id}/cancel": {"post": _cancel()},
            "/channels/{channel}/inputs": {"post": _inputs()},
            "/healthz": {"get": _status("health", "Whether the process lives.")},
            "/readyz": {"get": _status("ready", "Whether the backend can be reached.")},
        },
        "components": _components(),
    }


def _events() -> dict[str, Any]:
    rewind = {"type": "string", "pattern": r"^(all|[0-9]{1,6}|[0-9]{1,6}(ms|s|m|h|d))$"}
    flag = {"type": "string", "enum": ["0", "1"]}
    return _operation(
        "watch",
        "What happened, then what happens, as server-sent events.",
        {
            "200": {
                **_answer("A stream.", {"type": "string"}, "text/event-stream"),
                "headers": {
                    "Tokenwire-User": {
                        "description": "A digest of who reads: tabs of one user have the same.",
                        "schema": {"type": "string"},
                    },
                    "Tokenwire-Rights": {
                        "description": "For how many seconds the token is good.",
                        "schema": {"type": "integer", "minimum": 0},
                    },
                },
            },
            "204": {"description": "The response has ended, and the client has seen that."},
        },
        [
            _CHANNEL,
            _parameter("after", "query", _CURSOR, "Go on right after this cursor."),
            _parameter("Last-Event-ID", "header", _CURSOR, "The same; wins over `after`."),
            _parameter("rewind", "query", rewind, "Start in the past."),
            _parameter("response", "query", _NAME, "Only this response."),
            _parameter(
                "format", "query", {"type": "string", "enum": encoder_formats()}, "How to encode."
            ),
            _parameter("wait", "query", flag, "0: answer 204 where nothing is streaming."),
            _parameter(
                "gather",
                "query",
                flag,
                "0: send each event as soon as it comes, however busy the server is.",
            ),
        ],
    )


def _history(most: int) -> dict[str, Any]:
    return _operation(
        "history",
        "Responses, newest first.",
        {"200": _answer("A page.", _ref("Page"))},
        [
            _CHANNEL,
            _parameter(
                "limit",
                "query",
                {"type": "integer", "minimum": 1, "maximum": most, "default": min(20, most)},
                "How many at most.",
            ),
            _parameter("before", "query", _CURSOR, "`next` of the page before."),
        ],
    )


def _cancel() -> dict[str, Any]:
    body = {
        "type": ["object", "null"],
        "properties": {"reason": {"type": ["string", "null"], "maxLength": 500}},
    }
    return _operation(
        "cancel",
        "Stop a response.",
        {
            "200": _answer("It has ended.", _ref("Outcome")),
            "202": _answer("It has not started, or has not ended yet.", _ref("Outcome")),
        },
        [_CHANNEL, _RESPONSE],
        requestBody={"required": False, "content": {"application/json": {"schema": body}}},
    )


def _inputs() -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _NAME,
            "data": {"description": "Anything."},
            "id": {**_NAME, "type": ["string", "null"], "description": "Makes a retry harmless."},
        },
    }
    return _operation(
        "input",
        "Send a message to the agent.",
        {"201": _answer("It is in the channel.", _ref("Accepted"))},
        [_CHANNEL],
        requestBody={"required": True, "content": {"application/json": {"schema": body}}},
    )


def _status(name: str, summary: str) -> dict[str, Any]:
    schema = _object(status={"type": "string"})
    return _operation(name, summary, {"200": _answer("Yes.", schema)}, security=[])


def _response() -> dict[str, Any]:
    """Schemas of a response and its parts, with what the history route adds."""
    _, schemas = msgspec.json.schema_components(
        [Response], ref_template="#/components/schemas/{name}"
    )
    response = schemas["Response"]
    response["required"] = ["id", "text", "reasoning", "tool_calls"]
    response["properties"] |= {
        "text": {"type": "string", "description": "The text parts, joined."},
        "reasoning": {"type": "string", "description": "The reasoning parts, joined."},
        "tool_calls": {"type": "array", "items": _ref("Part")},
    }
    return schemas


def _components() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        "responses": {
            "Problem": _answer(
                "What went wrong (RFC 9457).", _ref("Problem"), "application/problem+json"
            )
        },
        "schemas": {
            "Problem": _object(
                type=text, title=text, status={"type": "integer"}, code=text, detail=text
            ),
            "Page": _object(
                items={"type": "array", "items": _ref("Response")},
                next={"type": ["string", "null"]},
            ),
            **_response(),
            "Outcome": _object(
                response_id=text,
                state={"enum": [*_STATES, "pending"]},
                acknowledged={"type": "boolean"},
            ),
            "Accepted": _object(id=text, cursor={"type": ["string", "null"]}),
        },
    }
