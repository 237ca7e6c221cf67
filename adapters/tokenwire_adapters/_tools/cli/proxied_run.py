"""Runs a program beside a proxy on loopback, which publishes what the program's models say."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Self

from tokenwire import Sink
from tokenwire.instrument import OnCancel
from tokenwire_adapters._tools.cli import proxy_server, server
from tokenwire_adapters._tools.inject import base_urls, published
from tokenwire_adapters._tools.proxy.app import Proxy
from tokenwire_adapters._tools.proxy.variables import redirect

__all__ = ["run_beside_proxy"]

_SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def run_beside_proxy(
    program: list[str],
    env: Mapping[str, str],
    sink: Sink,
    *,
    channel: str | None = None,
    on_cancel: OnCancel | None = None,
    upstreams: Mapping[str, str] | None = None,
) -> int:
    """Run a program to its end, with its clients pointed at a proxy of this process.

    Signals are passed on to it. If one ends it, the same signal ends this process.

    :param env: of the program, but for the proxy.
    :param sink: it is closed at the end.
    :param upstreams: of the proxy, beside those of known providers.
    :return: the program's exit status.
    :raises OSError: when it cannot be started.
    :raises ValueError: when an upstream cannot be one.
    """
    child_env = dict(env)
    mark = published.add_mark(child_env, report_in_program=False)
    published.remove_on_response(mark)
    try:
        with server.bound_socket("127.0.0.1", 0) as listener, sink:
            origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            plan = redirect(env, origin)
            for variable in plan.unreadable:
                sys.stderr.write(
                    f"tokenwire run: ${variable} is no URL to stand before: unchanged\n"
                )
            app = Proxy(
                {**plan.upstreams, **(upstreams or {})}, sink, channel=channel, on_cancel=on_cancel
            )
            child_env[base_urls.PROXY] = origin
            child_env[base_urls.SAVED] = plan.saved(env)
            child_env.update(plan.variables)
            with proxy_server.serving(app, listener):
                status = _run(program, child_env)
        published.report_if_nothing(mark)
    finally:
        published.remove_mark(mark)
    if status < 0:
        _end_by(-status)
    return status


def _run(program: list[str], env: Mapping[str, str]) -> int:
    """Run a program; return its exit status, as `subprocess.Popen.returncode` is."""
    signals = _SignalRelay()
    with (
        signals,
        subprocess.Popen(program, env=env) as child,  # noqa: S603  (what the user asked for)
    ):
        signals.relay_to(child)
        return child.wait()


class _SignalRelay:
    """Sends a child the signals that this process is sent, but those that it is sent as well.

    A context manager, for the main thread. Those that come before there is a child are kept.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._kept: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def relay_to(self, child: subprocess.Popen[bytes]) -> None:
        """Send `child` what came so far, and all that comes."""
        self._child = child
        while self._kept:
            child.send_signal(self._kept.pop(0))

    def _handle(self, number: int, _: Any) -> None:
        if number in (signal.SIGINT, getattr(signal, "SIGQUIT", -1)) and _in_foreground():
            return  # the terminal sends it to both
        if self._child is None:
            self._kept.append(number)
        else:
            self._child.send_signal(number)


def _in_foreground() -> bool:
    """Whether a terminal's keys send signals to this process, and so to its children."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except (OSError, AttributeError):
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _end_by(number: int) -> None:
    """End this process as the program ended: by a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
