"""Benchmarks in network namespaces: what refuses says why, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TRY = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else []), "true"]
ENTER = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import namespaces as n; n.enter()\n"
TALK = """
import subprocess
network = n.Network()
server, client = network.join("server"), network.join("client")
listen = "import socket, sys; s = socket.create_server((sys.argv[1], 1)); s.settimeout(60);"
listen += "print(1, flush=True); print(s.accept()[0].makefile().read())"
command = [*server.within, sys.executable, "-c", listen, server.address]
listening = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
listening.stdout.readline()
dial = "import socket, sys; address, patience = (sys.argv[1], 1), float(sys.argv[2]);"
dial += "socket.create_connection(address, patience).send(b'x' * 999)"
command = [*client.within, sys.executable, "-c", dial, server.address]
network.plug("server", False)
cut = subprocess.run([*command, "0.1"], capture_output=True).returncode
network.plug("server", True)
subprocess.run([*command, "60"], check=True)
print(cut, len(listening.communicate()[0].strip()), network.sent([client]) > 999)
"""


def run(code: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-c", code]
    environment = os.environ | ({} if path is None else {"PATH": path})
    return subprocess.run(script, capture_output=True, text=True, env=environment, check=False)


def traces() -> list[list[str]]:
    """Network devices, and names of namespaces, of this machine."""
    places = [Path("/sys/class/net"), Path("/run/netns")]
    return [sorted(os.listdir(place)) if place.exists() else [] for place in places]


def test_what_is_missing_is_named() -> None:
    done = run(ENTER, path="")
    assert done.returncode == 1
    assert done.stderr.startswith("namespaces need ip and mount and unshare ")


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    for name, ends in (("ip", "true"), ("mount", "true"), ("unshare", "echo not you >&2; false")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{ends}\n")
        (tmp_path / name).chmod(0o755)
    done = run(ENTER, path=str(tmp_path))
    assert (done.returncode, done.stderr) == (
        1,
        "namespaces are not allowed here; run it as root (not you)\n",
    )


def test_options_of_the_network_need_one() -> None:
    command = [sys.executable, str(BENCHMARKS / "cluster_load.py"), "--cut", "master0:4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--delay and --cut need --namespaces" in done.stderr


def test_nodes_talk_and_leave_nothing_behind(tmp_path: Path) -> None:
    if "CI" in os.environ:
        pytest.skip("whether CI may have namespaces is not known")
    if subprocess.run(TRY, capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    before = traces()
    script = tmp_path / "talk.py"  # it begins again inside, so that it has to be a file
    script.write_text(ENTER + TALK)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("1 999 True\n", 0), done.stderr
    assert traces() == before
