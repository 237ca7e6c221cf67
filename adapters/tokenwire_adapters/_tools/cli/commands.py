"""The commands: what each does, and where it is."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

__all__ = ["COMMANDS", "Command", "parser_of", "run_command"]


class Command(NamedTuple):
    """One command.

    :ivar module: its module in this package, loaded when the command is used.
    :ivar main: the function that runs it; `parser`: the one that makes its parser.
    """

    help: str
    module: str
    main: str = "main"
    parser: str = "_parser"


COMMANDS = {
    "demo": Command(
        "open a page where an ordinary agent's tokens arrive live; needs no key, no network", "demo"
    ),
    "watch": Command("print a channel's tokens in the terminal", "watch"),
    "history": Command("show the responses of a channel", "channels", "history", "history_parser"),
    "channels": Command(
        "list the channels of a backend", "channels", "channels", "channels_parser"
    ),
    "replay": Command("play a channel again, at its own pace, also to another backend", "replay"),
    "publish": Command("publish stdin as a response: any program's output", "publish"),
    "send": Command("send an input to the agent of a channel", "talking", "send", "send_parser"),
    "cancel": Command("stop a response", "talking", "cancel", "cancel_parser"),
    "delete": Command("delete a channel, responses, or a user's data", "delete"),
    "export": Command("write channels as JSON lines", "transfer", "export", "export_parser"),
    "import": Command("read channels from JSON lines", "transfer", "import_", "import_parser"),
    "serve": Command("run the gateway: channels over HTTP and WebSocket", "serve"),
    "run": Command("run a program as it is, and publish what its models say", "run"),
    "proxy": Command(
        "pass requests on to model providers, and publish what the models say", "proxy"
    ),
    "doctor": Command("check this installation and a backend", "doctor"),
    "token": Command("make a signed token for a gateway's client", "token"),
    "completion": Command("print a script that completes commands in a shell", "completion"),
}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Load a command's module, and with it what only it needs; return the exit status."""
    main = cast("Callable[[Sequence[str]], int]", _load(name, COMMANDS[name].main))
    return main(arguments)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    make = cast("Callable[[], argparse.ArgumentParser]", _load(name, COMMANDS[name].parser))
    return make()


def _load(name: str, attribute: str) -> object:
    module = importlib.import_module(f"tokenwire_adapters._tools.cli.{COMMANDS[name].module}")
    return getattr(module, attribute)
