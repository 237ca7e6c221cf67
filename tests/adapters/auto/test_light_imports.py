"""What adapters, and programs under `tokenwire run`, load; not how long that takes."""

import importlib.util
import subprocess
import sys

import pytest

from tests.support.modules import modules_loaded
from tokenwire_adapters._tools.cli.run import environment

pytestmark = pytest.mark.slow

SLOW = {
    "asyncio",
    "email",
    "importlib.metadata",
    "logging",
    "msgspec",
    "ssl",
    "tempfile",
    "tokenwire",
    "zipfile",
}


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_adapter_loads_no_part_of_its_sdk_that_the_sdk_does_not(sdk: str) -> None:
    if importlib.util.find_spec(sdk) is None:
        pytest.skip(f"{sdk} is not installed")
    beyond = f"import {sdk}; from tokenwire import *"
    loaded = modules_loaded(f"import tokenwire_adapters.{sdk}", beyond=beyond)
    assert f"tokenwire_adapters.{sdk}" in loaded
    assert {name.partition(".")[0] for name in loaded} == {"tokenwire", "tokenwire_adapters"}


def test_the_langchain_adapter_does_not_load_the_client_of_langsmith() -> None:
    if importlib.util.find_spec("langchain_core") is None:
        pytest.skip("langchain_core is not installed")
    loaded = modules_loaded("import tokenwire_adapters.langchain")
    assert "tokenwire_adapters._agents.langchain.quirks" in loaded
    assert not {"langsmith.client", "langchain_core.tracers.langchain"} & loaded


def test_the_gateway_loads_late_what_few_requests_need() -> None:
    if importlib.util.find_spec("starlette") is None or importlib.util.find_spec("joserfc") is None:
        pytest.skip("starlette or joserfc is not installed")
    loaded = modules_loaded("import tokenwire_adapters.asgi", beyond="import starlette.requests")
    assert "tokenwire_adapters._web.gateway.operations" in loaded
    assert not {"opentelemetry", "gzip", "importlib.resources"} & loaded


def test_the_command_run_starts_a_program_without_loading_the_core() -> None:
    code = (
        "import os, sys; os.execve = lambda *_: print(*sys.modules);"
        " from tokenwire_adapters.cli import main;"
        " main(['run', '--to', 'memory://', '--', sys.executable, '-c', ''])"
    )
    path = f"import sys; sys.path += {sys.path!r}"
    command = [sys.executable, "-S", "-c", f"{path}; {code}"]
    env = {"TOKENWIRE_DISABLED": "1"}  # else a file that the program would remove
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "tokenwire_adapters._tools.cli.run" in loaded
    assert not {"tokenwire.sink", "subprocess", *SLOW - {"tokenwire"}} & loaded


def test_a_program_that_uses_no_model_loads_nothing_slow() -> None:
    # Without site-packages that a `.pth` file would load; the paths are those of this process.
    code = f"import sys; sys.path += {sys.path!r}; import sitecustomize; print(*sys.modules)"
    env = environment({"PYTHONPATH": "", "TOKENWIRE_RUN_MARK": "no/such/file"})
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not run.stderr
    assert "tokenwire_adapters.auto" in loaded
    assert not {"tokenwire", *SLOW} & loaded
