"""Clients of the Anthropic SDK for a replay server."""

from typing import Any

from anthropic import Anthropic, AsyncAnthropic, DefaultAsyncHttpxClient, DefaultHttpxClient

from tests.support.replay import Replay
from tests.support.sdk import TLS


def client(replay: Replay, **options: Any) -> Anthropic:
    http = DefaultHttpxClient(verify=TLS)
    options = {"max_retries": 0, **options}
    return Anthropic(base_url=replay.root_url, api_key="x", http_client=http, **options)


def aclient(replay: Replay, **options: Any) -> AsyncAnthropic:
    http = DefaultAsyncHttpxClient(verify=TLS)
    options = {"max_retries": 0, **options}
    return AsyncAnthropic(base_url=replay.root_url, api_key="x", http_client=http, **options)
