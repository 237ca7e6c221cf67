"""By what tabs find out whether they are of one user: equal for one, and a name for nobody."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

import tokenwire
from tests.adapters.gateway.support import PATIENCE, SECRET, chatting, serving
from tokenwire_adapters.asgi import Gateway, Tokens, mint_token

KEY = "a secret of several processes, long enough"


def by_header(connection: Any, channel: str, action: str) -> str | bool:
    return connection.headers.get("x-user", "") or True


async def digests(gateway: Gateway, headers: dict[str, str]) -> str | None:
    """What the gateway says of a client, which is the same over HTTP and WebSockets."""
    with serving(gateway) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=PATIENCE
        ) as client:
            answer = await client.get("/channels/c/events", params={"wait": "0"})
            assert answer.status_code == 204
        async with chatting(server.ws_url, additional_headers=headers) as chat:
            result = (await chat.ask("subscribe"))["result"]
    assert result.get("user") == answer.headers.get("tokenwire-user")
    digest: str | None = result.get("user")
    return digest


def as_user(name: str) -> dict[str, str]:
    return {"x-user": name}


async def test_users_are_told_apart_and_not_named(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, authorize=by_header)
    first, again, other = [await digests(gateway, as_user(name)) for name in ("u1", "u1", "u2")]
    assert first == again != other
    assert first is not None
    assert "u1" not in first
    assert await digests(gateway, {}) is None


async def test_everybody_is_one_where_nobody_is_asked(sink: tokenwire.Sink) -> None:
    assert await digests(Gateway(sink), {}) == "anyone"


async def test_processes_agree_with_a_key_in_common(sink: tokenwire.Sink) -> None:
    async def ask(key: str | bytes | None) -> str | None:
        return await digests(Gateway(sink, authorize=by_header, tab_key=key), as_user("u1"))

    assert await ask(KEY) == await ask(KEY.encode())
    assert await ask(None) != await ask(None)


@pytest.mark.parametrize("secret", [True, False])
async def test_the_secret_of_tokens_is_a_key_in_common(sink: tokenwire.Sink, secret: bool) -> None:
    private: Any = SECRET if secret else ECKey.generate_key("P-256")
    public: Any = SECRET if secret else private.as_dict(private=False)
    token = mint_token(private, subject="u1", capability={"*": ["*"]})
    headers = {"authorization": f"Bearer {token}"}
    first, second = [await digests(Gateway(sink, tokens=Tokens(public)), headers) for _ in range(2)]
    assert (first == second) is secret


async def test_says_how_long_the_rights_last(sink: tokenwire.Sink) -> None:
    tokens = Tokens(SECRET, clock=lambda: 1000.0)
    token = tokens_until(1250)
    with serving(Gateway(sink, tokens=tokens)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            headers = {"authorization": f"Bearer {token}"}
            answer = await client.get("/channels/c/events?wait=0", headers=headers)
    assert answer.headers["tokenwire-rights"] == "250"
    assert answer.headers["tokenwire-user"]


def tokens_until(expires: int) -> str:
    from joserfc import jwt
    from joserfc.jwk import OctKey

    claims = {"sub": "u1", "exp": expires, "capability": {"*": ["*"]}}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@pytest.mark.parametrize("key", ["short", b"short", 7])
def test_a_key_that_is_none(sink: tokenwire.Sink, key: Any) -> None:
    with pytest.raises(ValueError, match="tab_key"):
        Gateway(sink, authorize=by_header, tab_key=key)
