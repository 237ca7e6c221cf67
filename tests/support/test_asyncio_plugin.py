"""Beside pytest-asyncio, coroutine tests are anyio's; without ``-p no:asyncio``, none would run."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.needs import needs


async def test_coroutine_tests_run_where_pytest_asyncio_is_installed(
    request: pytest.FixtureRequest, anyio_backend: str
) -> None:
    needs("pytest_asyncio")
    await asyncio.sleep(0)
    assert anyio_backend == "asyncio"
    assert not request.config.pluginmanager.has_plugin("asyncio")
