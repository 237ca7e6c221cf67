"""Keys, tokens and capabilities.

Spec: RSA (authentication), TD (token details), TE (token requests), RSA9 (signing). Docs:
auth/capabilities, auth/token (Ably tokens and JWTs: claims ``x-ably-capability`` and
``x-ably-clientId``), errors 40005, 40101, 40104, 40105, 40140 to 40145, 40160.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenwire_adapters.testing._json import as_object
from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._serials import now_ms
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["Auth", "Capability", "Key", "Principal"]

Capability = dict[str, list[str]]
"""The operations that a key or a token allows, by channel; ``*`` stands for all."""

_ALL: Capability = {"*": ["*"]}
_CLOCK_TOLERANCE_MS = 15 * 60 * 1000


def _covers(resource: str, channel: str) -> bool:
    # docs: auth/capabilities, "Wildcards": "*" is everything, "a:*" all that begins with "a:".
    return resource in {"*", channel} or (
        resource.endswith(":*") and channel.startswith(resource[:-1])
    )


def _intersection(first: Capability, second: Capability) -> Capability:
    """Return the common rights (docs: auth/capabilities, "Token capability determination")."""
    both: Capability = {}
    for left, left_ops in first.items():
        for right, right_ops in second.items():
            if _covers(left, right):
                resource = right
            elif _covers(right, left):
                resource = left
            else:
                continue
            if "*" in left_ops:
                operations = right_ops
            elif "*" in right_ops:
                operations = left_ops
            else:
                operations = [op for op in left_ops if op in right_ops]
            if operations:
                both[resource] = sorted({*both.get(resource, []), *operations})
    return both


@dataclass
class Key:
    """An API key: ``NAME:SECRET``, the name being ``APP.ID``."""

    name: str = "app.key"
    secret: str = "secret"
    capability: Capability = field(default_factory=lambda: dict(_ALL))
    revoked: bool = False

    @property
    def full(self) -> str:
        """The key as clients take it, ``NAME:SECRET``."""
        return f"{self.name}:{self.secret}"


@dataclass
class Principal:
    """The identity of a connection or a request, and its rights."""

    capability: Capability
    client_id: str | None = None  # "*" may be anybody (CD2a)
    token: str | None = None
    expires: int | None = None

    def allows(self, operation: str, channel: str) -> bool:
        """Whether an operation is allowed on a channel."""
        return any(
            _covers(resource, channel) and ("*" in operations or operation in operations)
            for resource, operations in self.capability.items()
        )

    def require(self, operation: str, channel: str) -> None:
        """Check that an operation is allowed on a channel.

        :raises AblyError: 40160.
        """
        if not self.allows(operation, channel):
            raise AblyError(40160, f"operation not permitted with provided capability: {operation}")

    def may_be(self, client_id: str) -> bool:
        """Whether it may act as a client. With a key and without an id it may (RTL6e1)."""
        if self.client_id is None:
            return self.token is None
        return self.client_id in {"*", client_id}


class Auth:
    """The keys of one application, and the tokens issued for them."""

    def __init__(self, keys: list[Key], settings: Settings) -> None:
        self.keys = {key.name: key for key in keys}
        self._settings = settings
        self._tokens: dict[str, Principal] = {}
        self._nonces: set[str] = set()
        self._expired_before = 0

    # -- credentials --------------------------------------------------------------------------

    def from_params(self, params: Mapping[str, str]) -> Principal:
        """Authenticate a realtime connection by its query (RTN2d, RTN2e).

        :raises AblyError: 4xxxx
        """
        token = params.get("accessToken") or params.get("access_token")
        if token:
            principal = self._from_token(token)
        elif "key" in params:
            principal = self._from_key(params["key"])
        else:
            raise AblyError(40101, "no authentication information provided")
        return self._as_client(principal, params.get("clientId"))

    def from_headers(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Principal:
        """Authenticate a REST request (RSA11, RSA3a; RSA7e2 for the client id).

        :raises AblyError: 4xxxx
        """
        scheme, _, value = headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() == "basic":
                principal = self._from_key(base64.b64decode(value).decode())
                client_id = headers.get("x-ably-clientid")
                named = base64.b64decode(client_id).decode() if client_id else None
                return self._as_client(principal, named)
            if scheme.lower() == "bearer":
                # Clients encode the token; a JWT may also come as it is.
                plain = value if value.count(".") == 2 else base64.b64decode(value).decode()
                return self._from_token(plain)
        except (binascii.Error, UnicodeDecodeError) as error:
            raise AblyError(40101, "unreadable Authorization header") from error
        return self.from_params(query)

    def _as_client(self, principal: Principal, client_id: str | None) -> Principal:
        if client_id is None or client_id == principal.client_id:
            return principal
        if client_id == "*" or not principal.may_be(client_id):
            raise AblyError(40102, "incompatible credentials: another clientId than the token's")
        return Principal(principal.capability, client_id, principal.token, principal.expires)

    def _from_key(self, full: str) -> Principal:
        name, _, secret = full.partition(":")
        key = self._key(name)
        if not hmac.compare_digest(key.secret.encode(), secret.encode()):
            raise AblyError(40101, "invalid credentials: wrong key")
        return Principal(key.capability)

    def _key(self, name: str) -> Key:
        if name.count(".") != 1:
            raise AblyError(40005, "invalid key: expected APP.KEY:SECRET")
        key = self.keys.get(name)
        if key is None:
            raise AblyError(40400, "no application or key found with that id")
        if key.revoked:
            raise AblyError(40131, "key revoked")
        return key

    # -- tokens -------------------------------------------------------------------------------

    def _from_token(self, token: str) -> Principal:
        principal = self._tokens.get(token)
        if principal is None:
            if token.count(".") == 2:
                principal = self._from_jwt(token)
            else:
                raise AblyError(40143, "token unrecognized")
        if principal.expires is not None and principal.expires <= now_ms():
            raise AblyError(40142, "token expired")
        return principal

    def _from_jwt(self, token: str) -> Principal:
        try:
            head, claims, signature = token.split(".")
            header, payload = (json.loads(_unpadded(part)) for part in (head, claims))
            if header["alg"] != "HS256":
                raise AblyError(40144, "invalid JWT: only HS256 is accepted")
            key = self._key(str(header["kid"]))
            mac = hmac.digest(key.secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256)
            if not hmac.compare_digest(mac, _unpadded(signature)):
                raise AblyError(40144, "invalid JWT: wrong signature")
            if payload["iat"] * 1000 < self._expired_before:
                raise AblyError(40142, "token expired")
            requested = payload.get("x-ably-capability")
            capability = key.capability
            if requested is not None:
                capability = _intersection(capability, json.loads(requested))
            expires = int(payload["exp"]) * 1000
            return Principal(capability, payload.get("x-ably-clientId"), token, expires)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AblyError(40144, f"invalid JWT: {error}") from error

    def request_token(self, key_name: str, body: Any, *, signed: bool = True) -> dict[str, Any]:
        """Answer a token request (RSA8, RSA9, TE). Unsigned ones need the key itself.

        :raises AblyError: 40101 for a wrong signature, 40104 for a stale timestamp, 40105 for a
            nonce seen before, 40160 if nothing of the capability is left
        """
        request = as_object(body)
        if not isinstance(body, dict) or request.get("keyName", key_name) != key_name:
            raise AblyError(40000, "invalid token request")
        key = self._key(key_name)
        if signed:
            self._check_signature(key, request)
        capability = key.capability
        if request.get("capability"):
            try:
                capability = _intersection(capability, json.loads(request["capability"]))
            except (ValueError, TypeError, AttributeError) as error:
                raise AblyError(40003, "invalid capability") from error
            if not capability:
                raise AblyError(40160, "the key has none of the requested capability")
        ttl = int(request.get("ttl") or self._settings.token_ttl * 1000)
        return self.issue(key_name, capability, request.get("clientId"), ttl)

    def _check_signature(self, key: Key, body: dict[str, Any]) -> None:
        # RSA9: the fields in this order, each with a line feed, missing ones empty.
        fields = ("keyName", "ttl", "capability", "clientId", "timestamp", "nonce")
        text = "".join(f"{body.get(name) or ''}\n" for name in fields)
        mac = base64.b64encode(hmac.digest(key.secret.encode(), text.encode(), hashlib.sha256))
        if not hmac.compare_digest(mac.decode(), str(body.get("mac"))):
            raise AblyError(40101, "invalid credentials: the signature does not match")
        if abs(int(body.get("timestamp") or 0) - now_ms()) > _CLOCK_TOLERANCE_MS:
            raise AblyError(40104, "Timestamp not current")
        nonce = str(body.get("nonce"))
        if nonce in self._nonces:
            raise AblyError(40105, "Nonce value replayed")
        self._nonces.add(nonce)

    def issue(
        self,
        key_name: str | None = None,
        capability: Capability | None = None,
        client_id: str | None = None,
        ttl_ms: int | None = None,
    ) -> dict[str, Any]:
        """Issue an Ably token and return its details (TD); tests may call it directly."""
        key = self.keys[key_name] if key_name else next(iter(self.keys.values()))
        granted = key.capability if capability is None else capability
        issued = now_ms()
        expires = issued + (ttl_ms or int(self._settings.token_ttl * 1000))
        token = f"{key.name.partition('.')[0]}.{secrets.token_urlsafe(24)}"
        self._tokens[token] = Principal(granted, client_id, token, expires)
        details: dict[str, Any] = {
            "token": token,
            "keyName": key.name,
            "issued": issued,
            "expires": expires,
            "capability": json.dumps(granted),
        }
        if client_id is not None:
            details["clientId"] = client_id
        return details

    def expire_tokens(self) -> None:
        """Expire every token that was issued so far."""
        self._expired_before = now_ms()
        for principal in self._tokens.values():
            principal.expires = self._expired_before


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
