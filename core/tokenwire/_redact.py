"""Sanitises error text shown to watchers: masks credentials and bounds the length."""

from __future__ import annotations

import re

from tokenwire._text import well_formed
from tokenwire._values import text_of

__all__ = ["describe", "redact", "redacted"]

_MAX_ERROR = 2000  # code points of an error's text that watchers get
_SECRETS = (  # compiled when it is first needed: that takes longer than most imports
    r"(?i)(?<=://)[^\s/@]+(?=@)"  # user:password@host
    r"|\b(?:sk|pk|rk|xox[a-z]|gh[a-z])[-_][\w-]{8,}"  # keys with the usual prefixes
    r"|(?<=bearer )[\w.~+/=-]+"
    r"|(?<=api_key=)[^\s&'\"]+|(?<=api-key: )\S+|(?<=password=)[^\s&'\"]+|(?<=token=)[^\s&'\"]+"
)


def redact(text: str) -> str:
    """Mask what looks like a credential, and bound the length."""
    return well_formed(re.sub(_SECRETS, "***", text))[:_MAX_ERROR]


def describe(error: BaseException | str | None) -> str | None:
    """The text of an error that watchers may see; None for None."""
    if error is None or isinstance(error, str):
        return redacted(error)
    name, text = type(error).__name__, _text(error)
    return redact(f"{name}: {text}" if text else name)


def redacted(error: object) -> str | None:
    """The text of an error or a reason, whatever it is, that watchers may see; None for None."""
    return None if error is None else redact(_text(error) or type(error).__name__)


def _text(value: object) -> str:
    try:
        return text_of(value)
    except Exception:  # the value's own code
        return ""
