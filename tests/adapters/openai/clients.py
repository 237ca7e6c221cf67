"""Clients of the OpenAI SDK for a replay server."""

from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests.support.replay import Replay
from tests.support.sdk import TLS


def client(replay: Replay, **options: Any) -> OpenAI:
    http = DefaultHttpxClient(verify=TLS)
    options = {"max_retries": 0, **options}
    return OpenAI(base_url=replay.base_url, api_key="x", http_client=http, **options)


def aclient(replay: Replay, **options: Any) -> AsyncOpenAI:
    http = DefaultAsyncHttpxClient(verify=TLS)
    options = {"max_retries": 0, **options}
    return AsyncOpenAI(base_url=replay.base_url, api_key="x", http_client=http, **options)
