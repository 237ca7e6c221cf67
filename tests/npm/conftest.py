"""The browser of the end-to-end tests."""

from __future__ import annotations

from tests.support.needs import needs

needs("playwright")
needs("uvicorn")
needs("starlette")
needs("openai")

from tests.e2e.conftest import browser, context, open_page, own_errors

__all__ = ["browser", "context", "open_page", "own_errors"]
