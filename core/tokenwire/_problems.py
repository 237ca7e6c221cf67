"""What is done with problems that must not harm the agent: raise under test, else log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tokenwire._values import Arguments

__all__ = ["LogOnce", "Problems", "Unreadable"]

logger = logging.getLogger("tokenwire")

_MAX_PLACES = 256


class LogOnce:
    """Logs warnings, each text at most once a minute.

    :param max_texts: how many texts are remembered.
    """

    def __init__(self, max_texts: int = 256) -> None:
        self._max_texts = max_texts
        self._logged_at: dict[str, float] = {}

    def warning(self, message: str, error: BaseException | None = None) -> None:
        """Log `message`, unless it was logged within the last minute.

        :param error: logged with its traceback.
        """
        now = time.monotonic()
        last = self._logged_at.get(message)
        if last is None or now - last >= 60:
            if len(self._logged_at) >= self._max_texts:
                self._logged_at.clear()
            self._logged_at[message] = now
            logger.warning("tokenwire: %s", message, exc_info=error)


class Problems:
    """Reports the problems of one sink.

    :ivar strict: whether problems raise into the caller rather than being logged.
    :ivar replaced: how many values of arguments had no form in JSON (see `Arguments`).
    """

    def __init__(self, strict: bool, *, on_io_thread: Callable[[], bool]) -> None:
        self.strict = strict
        self.replaced = 0
        self._on_io_thread = on_io_thread
        self._kept: Exception | None = None
        self._log = LogOnce()

    def report(self, error: Exception) -> None:
        """Raise `error` in strict mode, where the caller can see it; else keep or log it."""
        if self.strict and not self._on_io_thread():
            raise error
        self.keep(error)

    def check(self, args: Arguments) -> None:
        """Report what of the arguments of a call was replaced, if anything was (see `report`)."""
        error = args.error
        if error is not None:
            self.replaced += len(args.replaced)
            self.report(error)

    def check_request(self, args: Arguments) -> None:
        """Do what `check` does, for a call that runs on the I/O thread, and whose caller waits."""
        error = args.error
        if error is not None:
            self.replaced += len(args.replaced)
            if self.strict:
                raise error
            self.keep(error)

    def keep(self, error: Exception) -> None:
        """Log `error`; in strict mode keep it for `raise_kept`. Never raises."""
        if self.strict:
            self._kept = self._kept or error
        else:
            self._log.warning(str(error))

    def raise_kept(self) -> None:
        """Raise the first problem kept since the last call, if any (strict mode)."""
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept


class Unreadable:
    """Counts what readers skip, since it is no event or damaged; logs it once for each place.

    :ivar count: how often something was skipped.
    """

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[str] = set()

    def skip(self, place: str, error: object) -> None:
        """Count something skipped.

        :param place: where it is, such as a channel and a part of it.
        """
        self.count += 1
        if place not in self._logged and len(self._logged) < _MAX_PLACES:
            self._logged.add(place)
            logger.warning(
                "tokenwire: skipped what cannot be read in %s (logged once for each place): %s",
                place,
                str(error)[:200],
            )
