"""Signed tokens."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import time

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.adapters.gateway.support import SECRET
from tests.support.modules import modules_loaded
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import matches
from tokenwire_adapters.asgi import MaskTokens, Tokens, mint_token

OTHER = "another secret of the tests, long enough"


def code_of(tokens: Tokens, token: str, **options: bool) -> str:
    with pytest.raises(Problem) as caught:
        tokens.check(token, **options)
    assert token not in str(caught.value)
    return caught.value.code


def encoded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_token_says_who_may_do_what() -> None:
    capability = {"chat-*": ["subscribe", "history"], "chat-7": ["cancel"], "mine": ["*"]}
    grant = Tokens(SECRET).check(mint_token(SECRET, subject="u1", capability=capability))
    assert grant.subject == "u1"
    assert 3590 < grant.expires - time.time() <= 3600
    assert grant.allows("chat-7", "subscribe")
    assert grant.allows("chat-7", "cancel")
    assert not grant.allows("chat-8", "cancel")
    assert not grant.allows("my-chat-7", "subscribe")
    assert grant.allows("mine", "input")
    assert not grant.allows("other", "subscribe")


def test_a_token_without_capability_allows_nothing() -> None:
    grant = Tokens(SECRET).check(mint_token(SECRET))
    assert not grant.allows("c", "subscribe")


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "anything", True),
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("user:*:chat", "user:7:chat", True),
        ("user:*:chat", "user:chat", False),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("a?", "ab", False),
        ("*" * 200, "x" * 256, True),
        ("*a" * 100, "a" * 256, True),
        ("*a" * 128 + "b", "a" * 256, False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


@pytest.mark.parametrize(
    "key",
    [
        RSAKey.generate_key(2048),
        ECKey.generate_key("P-256"),
        ECKey.generate_key("P-384"),
        OKPKey.generate_key("Ed25519"),
    ],
    ids=["RSA", "P-256", "P-384", "Ed25519"],
)
def test_asymmetric_keys(key: RSAKey | ECKey | OKPKey) -> None:
    token = mint_token(key.as_pem(private=True), subject="u1")
    public = key.as_pem(private=False)
    for form in (public, public.decode(), key.as_dict(private=False)):
        assert Tokens(form).check(token).subject == "u1"
    # The public key, which everybody has, taken for a secret (CVE-2015-9235).
    claims = {"sub": "admin", "exp": time.time() + 60}
    signed_part = f"{encoded({'alg': 'HS256'})}.{encoded(claims)}"
    mac = hmac.digest(public, signed_part.encode(), "sha256")
    assert code_of(Tokens(public), f"{signed_part}.{encoded(mac)}") == "unauthorized"


def test_forged_tokens_are_refused() -> None:
    tokens = Tokens(SECRET)
    good = mint_token(SECRET, subject="u1", capability={"*": ["*"]})
    head, body, signature = good.split(".")
    claims = {"sub": "admin", "exp": time.time() + 60, "capability": {"*": ["*"]}}
    for forged in (
        mint_token(OTHER, subject="u1"),
        f"{head}.{encoded(claims)}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-2]}{'BA' if signature.endswith('AA') else 'AA'}",
        f"{encoded({'alg': 'none'})}.{encoded(claims)}.",
        f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{encoded(claims)}.{signature}",
        f"{encoded({'alg': 'HS256', 'crit': ['exp']})}.{body}.{signature}",
        f"{encoded({'alg': ['HS256']})}.{body}.{signature}",
        f"{encoded([])}.{body}.{signature}",
        f"{encoded(b'not json')}.{body}.{signature}",
        "....",
        "x",
        "é.é.é",
        "a" * 9000,
        encoded({"alg": "HS256"}) + "." + "e" * 3000 + ".x",
        encoded(b"[" * 4000) + ".e.x",
    ):
        assert code_of(tokens, forged) == "unauthorized", forged
    assert tokens.check(good).subject == "u1"


def test_only_algorithms_asked_for_are_taken() -> None:
    token = mint_token(SECRET * 2, algorithm="HS512")
    Tokens(SECRET * 2).check(token)
    assert code_of(Tokens(SECRET * 2, algorithms=["HS256"]), token) == "unauthorized"
    with pytest.raises(ValueError, match="unknown"):
        Tokens(SECRET, algorithms=["none"])


def signed(**claims: object) -> str:
    from joserfc import jwt

    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({}, "unauthorized"),
        ({"exp": "soon"}, "unauthorized"),
        ({"exp": True}, "unauthorized"),
        ({"exp": -5}, "unauthorized"),
        ({"exp": 1e400}, "unauthorized"),
        ({"exp": 1}, "token_expired"),
        ({"exp": 4e9, "nbf": 3e9}, "unauthorized"),
        ({"exp": 4e9, "iat": 3e9}, "unauthorized"),
        ({"exp": 4e9, "sub": 7}, "unauthorized"),
        ({"exp": 4e9, "sub": ""}, "unauthorized"),
        ({"exp": 4e9, "capability": "*"}, "unauthorized"),
        ({"exp": 4e9, "capability": {"*": "subscribe"}}, "unauthorized"),
        ({"exp": 4e9, "capability": {"*": [7]}}, "unauthorized"),
        ({"exp": 4e9, "capability": {"": ["*"]}}, "unauthorized"),
        ({"exp": 4e9, "capability": {str(n): [] for n in range(300)}}, "unauthorized"),
    ],
)
def test_claims_are_checked(claims: dict[str, object], code: str) -> None:
    assert code_of(Tokens(SECRET), signed(**claims)) == code


def test_issuer_audience_and_lifetime() -> None:
    tokens = Tokens(SECRET, issuer="me", audience="chat", max_lifetime=600)
    Tokens(SECRET).check(mint_token(SECRET, issuer="anybody"))
    good = {"issuer": "me", "audience": "chat", "lifetime": 600}
    tokens.check(mint_token(SECRET, **good))
    now = time.time()
    tokens.check(signed(iss="me", aud=["other", "chat"], iat=now, exp=now + 60))
    for wrong in ({"issuer": "you"}, {"audience": "mail"}, {"audience": None}, {"lifetime": 601}):
        assert code_of(tokens, mint_token(SECRET, **{**good, **wrong})) == "unauthorized"


def test_a_token_in_a_query_must_be_short_lived() -> None:
    tokens = Tokens(SECRET)
    tokens.check(mint_token(SECRET, lifetime=300), in_query=True)
    assert code_of(tokens, mint_token(SECRET, lifetime=301), in_query=True) == "unauthorized"
    # Without iat, its lifetime cannot be known.
    assert code_of(tokens, signed(exp=time.time() + 60), in_query=True) == "unauthorized"


def test_keys_rotate_by_their_ids() -> None:
    old, new = (
        {"kty": "oct", "kid": name, "k": encoded(f"{name} {SECRET}".encode())}
        for name in ("old", "new")
    )
    now = 1000.0
    current = {"keys": [old]}
    tokens = Tokens(lambda: current, clock=lambda: now, refresh=60)
    by_old = mint_token(old, key_id="old", clock=lambda: now)
    by_new = mint_token({"keys": [old, new]}, key_id="new", clock=lambda: now)
    tokens.check(by_old)
    current = {"keys": [old, new]}
    assert code_of(tokens, by_new) == "unauthorized"
    now += 61
    tokens.check(by_old)
    tokens.check(by_new)
    current = {"keys": [new]}
    now += 61
    assert code_of(tokens, by_old) == "unauthorized"
    tokens.check(by_new)
    current = {}
    now += 61
    tokens.check(by_new)  # keys that cannot be read change nothing
    unknown = mint_token(new, key_id="else", clock=lambda: now)
    current = {"keys": [old, new]}
    now += 61
    assert code_of(tokens, unknown) == "unauthorized"


@pytest.mark.parametrize(
    "key", ["short", b"short", "", "-----BEGIN NONSENSE-----", {"kty": "oct"}, {"keys": []}, 7]
)
def test_keys_that_cannot_be_used_are_refused_without_telling_them(key: object) -> None:
    with pytest.raises(ValueError, match=r"key|secret") as caught:
        Tokens(key)  # type: ignore[arg-type]
    assert "NONSENSE" not in str(caught.value)
    assert SECRET not in repr(Tokens(SECRET))


def test_minting_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        mint_token(SECRET, lifetime=0)
    with pytest.raises(ValueError, match="algorithm"):
        mint_token(SECRET, algorithm="RS256")
    with pytest.raises(ValueError, match="pattern"):
        mint_token(SECRET, capability={"": ["*"]})


def test_tokens_are_masked_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    token = mint_token(SECRET)
    logger = logging.getLogger("test.masking")
    mask = MaskTokens()
    logger.addFilter(mask)
    with caplog.at_level(logging.INFO):
        logger.info('%s - "%s %s"', "127.0.0.1", "GET", f"/channels/c/events?token={token}&after=7")
        logger.info("Authorization: %s", f"Bearer {token}")
        logger.info("%(path)s", {"path": f"/x?a=1&access_token={token}"})
        logger.info("%s", f"tokenwire.v1, tokenwire.bearer.{token}")
    logger.removeFilter(mask)
    assert token not in caplog.text
    assert token[:20] not in caplog.text
    assert "token=***&after=7" in caplog.text


def test_a_gateway_without_tokens_does_not_load_what_checks_them() -> None:
    code = "from tokenwire_adapters.asgi import Gateway; import tokenwire; "
    loaded = modules_loaded(code + "Gateway(tokenwire.MemoryBackend())")
    assert "tokenwire_adapters._web.gateway.tokens" in loaded
    assert not {"joserfc.jwt", "cryptography"} & loaded
