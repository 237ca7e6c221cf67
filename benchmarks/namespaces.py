"""A network inside this machine: nodes in network namespaces, each on a cable to one switch.

    namespaces.enter()  # from here on the program runs in the network, as a node of it
    network = namespaces.Network(delay_ms=1)
    server = network.join("server")
    subprocess.Popen([*server.within, "redis-server", "--bind", server.address])

The machine's own network is neither used nor changed. Everything lives in namespaces that only this
program and its children are in, so that it is gone with the last of them, whatever ends them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

_ENTERED = "TOKENWIRE_BENCH_NAMESPACES"
_SWITCH = "switch"


class Node(NamedTuple):
    """Where a process runs.

    :ivar within: what a command begins with to run there.
    """

    name: str
    address: str
    within: tuple[str, ...] = ()


def on_loopback(name: str) -> Node:
    """A node where the program itself is, for what runs with and without a `Network`."""
    return Node(name, "127.0.0.1")


def enter() -> None:
    """Begin the program again in fresh namespaces, unless that is done.

    Needs root, or a kernel that lets users have user namespaces, and exits where it is refused.
    """
    if os.environ.get(_ENTERED):
        return
    missing = [name for name in ("ip", "mount", "unshare") if shutil.which(name) is None]
    if missing:
        sys.exit(f"namespaces need {' and '.join(missing)} (Debian: iproute2, mount, util-linux)")
    fresh = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    tried = subprocess.run([*fresh, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        sys.exit(f"namespaces are not allowed here; run it as root ({tried.stderr.strip()})")
    os.environ[_ENTERED] = "1"
    os.execvp(fresh[0], [*fresh, sys.executable, *sys.argv])


class Network:
    """The switch, and on it this process as the node `watchers`.

    :param delay_ms: by how much what a node sends is delayed.
    """

    def __init__(self, delay_ms: float = 0.0) -> None:
        self._delay_ms = delay_ms
        self._joined = 0
        # Names of namespaces are files: here nobody else sees them, and none has to be removed.
        _run("mount", "-t", "tmpfs", "tmpfs", "/var/run")
        _run("ip", "netns", "add", _SWITCH)
        _run("ip", "-n", _SWITCH, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", _SWITCH, "link", "set", "bridge", "up")
        self._connect("watchers", str(os.getpid()), [])

    def join(self, name: str) -> Node:
        """Add a node, whose processes are started by its `within`."""
        _run("ip", "netns", "add", name)
        address = self._connect(name, name, ["-n", name])
        return Node(name, address, ("ip", "netns", "exec", name))

    def _connect(self, name: str, namespace: str, inside: list[str]) -> str:
        self._joined += 1
        address = f"10.0.0.{self._joined}"
        peer = ["peer", "name", "eth0", "netns", namespace]
        _run("ip", "-n", _SWITCH, "link", "add", "name", name, "type", "veth", *peer)
        _run("ip", "-n", _SWITCH, "link", "set", "dev", name, "master", "bridge", "up")
        _run("ip", *inside, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", *inside, "link", "set", device, "up")
        if self._delay_ms:
            netem = ["root", "netem", "delay", f"{self._delay_ms}ms", "limit", "100000"]
            _run("tc", *inside, "qdisc", "add", "dev", "eth0", *netem)
        return address

    def plug(self, name: str, into: bool) -> None:
        """Pull the node's cable out of the switch, or put it back."""
        _run("ip", "-n", _SWITCH, "link", "set", "dev", name, "up" if into else "down")

    def sent(self, nodes: list[Node]) -> int:
        """Bytes that nodes have sent, with the headers of Ethernet, IP and TCP."""
        links = json.loads(_run("ip", "-n", _SWITCH, "-s", "-j", "link", "show"))
        sent = {link["ifname"]: int(link["stats64"]["rx"]["bytes"]) for link in links}
        return sum(sent[node.name] for node in nodes)


def _run(*command: str) -> str:
    """Exits where the command fails: a kernel without netem, for one, has no delay."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
