"""Signed tokens: who may do what in which channels, and until when.

JSON Web Tokens (RFC 7519), signed (RFC 7515) with algorithms that the key allows, by joserfc.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from tokenwire_adapters._web.gateway.problems import Problem

if TYPE_CHECKING:
    from joserfc.jwk import Key, KeySet

__all__ = ["Grant", "Tokens", "mint_token"]

logger = logging.getLogger("tokenwire.gateway")

KeySource: TypeAlias = "str | bytes | Mapping[str, Any] | Key | KeySet"

_MAX_TOKEN = 8192
_MAX_PATTERNS = 256


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says.

    :ivar subject: the principal, the claim ``sub``.
    :ivar expires: when it expires, in seconds since 1970.
    :ivar issued: when it was issued, where it says so.
    :ivar capability: from channel patterns to actions: ``subscribe``, ``history``, ``cancel``,
        ``input``; ``*`` is all of them.
    """

    subject: str | None
    expires: float
    issued: float | None
    capability: dict[str, frozenset[str]]

    def allows(self, channel: str, action: str) -> bool:
        """Whether any pattern that fits `channel` grants `action`."""
        return any(
            (action in actions or "*" in actions) and matches(pattern, channel)
            for pattern, actions in self.capability.items()
        )


def matches(pattern: str, name: str) -> bool:
    """Whether `name` fits `pattern`, in which ``*`` matches any characters, and only ``*``.

    Takes linear time, whatever the pattern.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    *middle, last = rest
    at = len(first)
    for piece in middle:
        start = name.find(piece, at)
        if start < 0:
            return False
        at = start + len(piece)
    return len(name) - len(last) >= at and name.endswith(last)


class Tokens:
    """Checks tokens.

    :param keys: a secret (a string or bytes, for HS256; at least 32 bytes), a PEM or JWK of a
        public key, or a key set ``{"keys": [JWK, …]}``, in which a token's ``kid`` finds its
        key. Or a function without arguments that returns any of these, asked every `refresh`
        seconds: that is how keys rotate. It runs on the event loop, so it should be quick; where
        it fails, the keys it gave before stay in use.
    :param algorithms: which to accept, at most; by default all that fit the key's type.
    :param issuer: what ``iss`` must be.
    :param audience: what ``aud`` must be, or have among others.
    :param leeway: by how many seconds clocks may differ.
    :param max_lifetime: of any token, from ``iat`` to ``exp``, in seconds; None for no limit.
    :param max_query_lifetime: of a token in a query string, which logs and histories may keep.
    :param refresh: see `keys`.
    :raises ValueError: when a key cannot be used.
    """

    def __init__(
        self,
        keys: KeySource | Callable[[], KeySource],
        *,
        algorithms: Sequence[str] | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 5.0,
        max_lifetime: float | None = None,
        max_query_lifetime: float = 300.0,
        refresh: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from tokenwire_adapters._web.gateway import jose  # which takes long to import

        self._jose = jose
        self._source = keys if callable(keys) else None
        if algorithms is not None and not set(algorithms) <= jose.ALGORITHMS:
            raise ValueError(f"unknown algorithms: {', '.join(set(algorithms) - jose.ALGORITHMS)}")
        self._algorithms = None if algorithms is None else frozenset(algorithms)
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._max_lifetime = max_lifetime
        self.max_query_lifetime = max_query_lifetime
        self._refresh = refresh
        self.clock = clock
        self._loaded_at = clock()
        self._keys = jose.load_keys(keys() if callable(keys) else keys)

    def __repr__(self) -> str:
        return f"Tokens({len(self._keys.keys)} keys)"

    def derived_key(self, purpose: bytes) -> bytes | None:
        """A key for another purpose, the same in all processes; None where no key is a secret."""
        return self._jose.derived_key(self._keys, purpose)

    def check(self, token: str, *, in_query: bool = False) -> Grant:
        """Check a token.

        :param in_query: it came in a query string, so it must be short-lived.
        :raises Problem: ``unauthorized`` or ``token_expired``. Does not say more than it must.
        """
        if not 0 < len(token) <= _MAX_TOKEN:
            raise Problem("unauthorized", f"a token has 1 to {_MAX_TOKEN} characters")
        self._reload()
        try:
            claims = self._verify(token)
        except self._jose.UNREADABLE as error:
            raise Problem("unauthorized", "the token is not valid") from error
        return self._grant(claims, in_query)

    def _reload(self) -> None:
        now = self.clock()
        if self._source is not None and now - self._loaded_at >= self._refresh:
            self._loaded_at = now
            try:
                self._keys = self._jose.load_keys(self._source())
            except Exception as error:
                # Old keys are better than none. What the error says may quote a key.
                kind = type(error).__name__
                logger.warning("tokenwire gateway: keys not read again (%s); the old stay", kind)

    def _verify(self, token: str) -> dict[str, Any]:
        header = _header_of(token)
        if header.get("crit"):
            raise ValueError("critical extensions are not understood")
        kid = header.get("kid")
        keys = self._keys.keys
        if kid is not None and len(keys) > 1:
            keys = [key for key in keys if key.kid == kid]
        error: Exception = ValueError("no key fits")
        for key in keys:
            names = self._jose.algorithms_of(key)
            if self._algorithms is not None:
                names = [name for name in names if name in self._algorithms]
            if header.get("alg") not in names:
                continue  # this is where "none", and a public key taken for a secret, end
            try:
                return self._jose.verified_claims(token, key, names)
            except self._jose.JoseError as wrong:
                error = wrong
        raise error

    def _grant(self, claims: dict[str, Any], in_query: bool) -> Grant:
        now = self.clock()
        expires = _time(claims, "exp")
        if expires is None:
            raise Problem("unauthorized", "the token has no expiry (exp)")
        if now > expires + self._leeway:
            raise Problem("token_expired", "the token has expired")
        not_before, issued = _time(claims, "nbf"), _time(claims, "iat")
        if max(not_before or 0, issued or 0) > now + self._leeway:
            raise Problem("unauthorized", "the token is not valid yet")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Problem("unauthorized", "the token is from another issuer")
        audience = claims.get("aud")
        named = cast("list[Any]", audience) if isinstance(audience, list) else [audience]
        if self._audience is not None and self._audience not in named:
            raise Problem("unauthorized", "the token is for another audience")
        limit = self.max_query_lifetime if in_query else self._max_lifetime
        if limit is not None and (issued is None or expires - issued > limit):
            where = "in a query string " if in_query else ""
            raise Problem(
                "unauthorized", f"a token {where}must have iat, and live at most {limit:g} s"
            )
        subject = claims.get("sub")
        if subject is not None and (not isinstance(subject, str) or not 0 < len(subject) <= 256):
            raise Problem("unauthorized", "the token's sub is not a name")
        return Grant(
            subject=subject,
            expires=expires,
            issued=issued,
            capability=_capability(claims.get("capability")),
        )


def mint_token(
    key: KeySource,
    *,
    subject: str | None = None,
    capability: Mapping[str, Sequence[str]] | None = None,
    lifetime: float = 3600.0,
    issuer: str | None = None,
    audience: str | None = None,
    algorithm: str | None = None,
    key_id: str | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Make a token.

    :param key: a secret, or a PEM or JWK of a private key; of a key set, the first is used.
    :param subject: the principal.
    :param capability: from channel patterns to actions: ``{"chat-*": ["subscribe"], "*": ["*"]}``.
        By default, nothing is allowed.
    :param lifetime: in seconds.
    :param key_id: names the key, for receivers that have several.
    :raises ValueError: for arguments that cannot be.
    """
    from tokenwire_adapters._web.gateway import jose

    if not 0 < lifetime <= 366 * 86400:
        raise ValueError(f"lifetime must be above 0 and at most 366 days, not {lifetime!r}")
    keys = jose.load_keys(key)
    signer = next((one for one in keys.keys if key_id is None or one.kid == key_id), keys.keys[0])
    names = jose.algorithms_of(signer)
    chosen = algorithm or names[0]
    if chosen not in names:
        raise ValueError(f"algorithm must be one of {', '.join(names)} for this key")
    now = int(clock())
    claims: dict[str, Any] = {"iat": now, "exp": int(now + lifetime)}
    if capability is not None:
        claims["capability"] = {name: list(actions) for name, actions in capability.items()}
        try:
            _capability(claims["capability"])
        except Problem as error:
            raise ValueError(error.detail) from error
    names_of = {"sub": subject, "iss": issuer, "aud": audience}
    claims.update((name, value) for name, value in names_of.items() if value is not None)
    header: dict[str, Any] = {"alg": chosen}
    kid = key_id or (signer.kid if len(keys.keys) > 1 else None)
    if kid is not None:
        header["kid"] = kid
    return jose.signed(header, claims, signer, chosen)


def _header_of(token: str) -> dict[str, Any]:
    first = token.partition(".")[0]
    header: Any = msgspec.json.decode(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return cast("dict[str, Any]", header)


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise Problem("unauthorized", f"the token's {name} is not a time")
    return float(value)


def _capability(value: Any) -> dict[str, frozenset[str]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Problem("unauthorized", "the token's capability is not an object")
    pairs = cast("dict[Any, Any]", value)
    if len(pairs) > _MAX_PATTERNS:
        raise Problem("unauthorized", f"a capability has at most {_MAX_PATTERNS} patterns")
    capability: dict[str, frozenset[str]] = {}
    for pattern, actions in pairs.items():
        if not isinstance(pattern, str) or not 0 < len(pattern) <= 256:
            raise Problem("unauthorized", "a pattern of a capability has 1 to 256 characters")
        if not isinstance(actions, list) or not all(
            isinstance(action, str) for action in cast("list[Any]", actions)
        ):
            raise Problem("unauthorized", "the actions of a capability are a list of names")
        # Actions of later versions are let pass; they allow nothing here.
        capability[pattern] = frozenset(cast("list[str]", actions))
    return capability
