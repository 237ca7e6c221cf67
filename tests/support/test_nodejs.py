"""The packages of the npm registry that tests run with."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import nodejs
from tests.support.needs import missing


@pytest.fixture
def npm() -> str:
    npm = shutil.which("npm")
    if npm is None:
        missing("needs npm")
        raise AssertionError
    return npm


@pytest.fixture
def registry(npm: str, tmp_path: Path) -> Iterator[str]:
    """A registry that has the package `greeting`; its address."""
    package = tmp_path / "greeting"
    package.mkdir()
    manifest = {"name": "greeting", "version": "1.0.0"}
    package.joinpath("package.json").write_text(json.dumps(manifest))
    package.joinpath("index.js").write_text("module.exports = 'hello'\n")
    subprocess.run([npm, "pack"], cwd=package, check=True, capture_output=True, timeout=60)
    archive = package.joinpath("greeting-1.0.0.tgz").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            versions = {"1.0.0": {**manifest, "dist": {"tarball": f"{address}/greeting.tgz"}}}
            known = {"name": "greeting", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
            body = archive if self.path == "/greeting.tgz" else json.dumps(known).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield address
        server.shutdown()


def test_an_install_that_was_killed_is_begun_anew(
    npm: str, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", registry)
    monkeypatch.setattr(nodejs, "CACHE", tmp_path / "cache")
    manifest = b'{"dependencies": {"greeting": "1.0.0"}}'
    folder = nodejs._install(npm, manifest)
    (folder / "installed").unlink()
    (folder / "node_modules" / ".package-lock.json").unlink()  # npm writes it last
    (folder / "node_modules" / "greeting" / "index.js").unlink()

    assert nodejs._install(npm, manifest) == folder
    assert (folder / "node_modules" / "greeting" / "index.js").is_file()
