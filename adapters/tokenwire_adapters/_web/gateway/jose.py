"""Keys and signatures, by joserfc. Loaded only where there are tokens: cryptography takes long."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry

__all__ = [
    "ALGORITHMS",
    "UNREADABLE",
    "JoseError",
    "algorithms_of",
    "derived_key",
    "load_keys",
    "signed",
    "verified_claims",
]

_KeySource: TypeAlias = str | bytes | Mapping[str, Any] | Key | KeySet

_MIN_SECRET = 32  # bytes; RFC 7518, section 3.2, asks for as many as the hash has
# An algorithm that a key is good for. What is not here ("none" above all) is never accepted.
_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "oct": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("Ed25519", "EdDSA"),
}
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

ALGORITHMS: Final = frozenset(name for names in _ALGORITHMS.values() for name in names)
"""All algorithms that are accepted for any key."""

UNREADABLE: Final = (
    JoseError,
    msgspec.DecodeError,
    ValueError,
    TypeError,
    KeyError,
    RecursionError,
)
"""What is raised for a token that is none, or is not signed by a key."""


def verified_claims(token: str, key: Key, algorithms: Sequence[str]) -> dict[str, Any]:
    """The claims of a token that `key` has signed. :raises JoseError: when it has not."""
    names = list(algorithms)
    registry = JWSRegistry(algorithms=names)
    return jwt.decode(token, key, algorithms=names, registry=registry).claims


def signed(header: dict[str, Any], claims: dict[str, Any], key: Key, algorithm: str) -> str:
    """A token with these claims."""
    return jwt.encode(header, claims, key, registry=JWSRegistry(algorithms=[algorithm]))


def load_keys(source: _KeySource) -> KeySet:
    """Turn any form of key into a key set.

    :raises ValueError: when it is none, or a secret is too short.
    """
    try:
        keys = _load(source)
    except _TooShort:
        raise ValueError(f"a secret must have at least {_MIN_SECRET} bytes") from None
    except (JoseError, TypeError, KeyError, ValueError) as error:
        # The cause may quote the key.
        raise ValueError(f"this is not a usable key ({type(error).__name__})") from None
    for key in keys.keys:
        if isinstance(key, OctKey) and len(key.raw_value) < _MIN_SECRET:
            raise ValueError(f"a secret must have at least {_MIN_SECRET} bytes")
    return keys


def derived_key(keys: KeySet, purpose: bytes) -> bytes | None:
    """A key made of the first secret of `keys`, which does not give that away; None without one."""
    for key in keys.keys:
        if isinstance(key, OctKey):
            return hmac.digest(key.raw_value, purpose, "sha256")
    return None


class _TooShort(Exception):
    """A secret that could be guessed."""


def _load(source: _KeySource) -> KeySet:
    if isinstance(source, KeySet):
        return source
    if isinstance(source, OctKey | RSAKey | ECKey | OKPKey):
        return KeySet([source])
    if isinstance(source, Mapping):
        data: Any = dict(source)
        return KeySet.import_key_set(data) if "keys" in data else KeySet([import_key(data)])
    raw = source.encode() if isinstance(source, str) else source
    if not isinstance(raw, bytes):
        raise TypeError("not a key")
    if not raw.lstrip().startswith(b"-----BEGIN"):
        if len(raw) < _MIN_SECRET:
            raise _TooShort
        return KeySet([OctKey.import_key(raw)])
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return KeySet([kind.import_key(raw)])
        except (JoseError, TypeError, ValueError, AttributeError):
            continue
    raise ValueError("not a PEM of an RSA, EC or Ed25519 key")


def algorithms_of(key: Key) -> list[str]:
    """The algorithms that `key` is good for; the first is the one to sign with."""
    declared = key.get("alg")
    names = list(_ALGORITHMS.get(key.key_type, ()))
    if isinstance(key, ECKey):
        names = [name for curve, name in _CURVES.items() if curve == key.curve_name]
    if isinstance(declared, str):
        names = [name for name in names if name == declared]
    return names
