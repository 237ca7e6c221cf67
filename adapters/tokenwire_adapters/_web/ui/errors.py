"""What pages are shown of errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["GENERIC", "WITHDRAWN", "OnError", "safe_error", "shown_error"]

logger = logging.getLogger("tokenwire")

OnError = Callable[[str], str]
"""From the text of an error to what pages are shown of it."""

GENERIC = "An error occurred."
WITHDRAWN = "The run ended before anybody approved this call."

_INTERNAL = re.compile(
    r"""(?ix)
    (?<![\w)/]) (?:~|\.{1,2})? / [\w.@+-]       # /srv/app, ~/app, ./app
    | \w / \w{1,64} \. \w                       # app/keys.db
    | \b[a-z]:[\\/] | \\\\\w                    # C:\app, \\server\share
    | \w:// | \[(?:errno|winerror)\b | traceback\ \(
    | \b\d{1,3}(?:\.\d{1,3}){3}\b               # addresses
    | (?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b | [0-9a-f]{0,4}::[0-9a-f]{1,4}\b
    | [a-z0-9_-] \. [a-z]{2,}+ \b               # db.example.com, keys.db, module.name
    | [a-z] [\w-]{0,32} : \d{2,5}\b | \blocalhost\b    # redis:6379
    | \bhost(?:\ ?name)?\b | \bserver\ at\b | \bport\ \d | \baddress\ info | name\ resolution
    """
)


def safe_error(text: str) -> str:
    """The text, or a general one where it names a path, a host, an address or a module.

    What a provider says to users ("You have run out of credits") stays.
    """
    return GENERIC if _INTERNAL.search(text) or "\n" in text.strip() else text


def shown_error(text: str, on_error: OnError, where: str) -> str:
    """What pages are shown of an error; the log has all of one that is shown otherwise.

    :param where: what failed, for the log.
    """
    try:
        shown = on_error(text)
    except Exception:
        logger.exception("tokenwire: on_error failed")
        shown = GENERIC
    shown = shown if isinstance(shown, str) and shown else GENERIC
    if shown != text:
        _log(where, text)
    return shown


@lru_cache(maxsize=1024)
def _log(where: str, text: str) -> None:
    """Log an error, once for all pages that are shown it."""
    logger.warning("tokenwire: pages are not shown this error of %s: %s", where, text)
