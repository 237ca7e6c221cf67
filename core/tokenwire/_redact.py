"""Sanitises error text shown to watchers: masks credentials and bounds the length."""

from __future__ import annotations

import re

from tokenwire._text import well_formed

__all__ = ["describe", "redact"]

_MAX_ERROR = 2000  # code points of an error's text that watchers get
_SECRETS = re.compile(
    r"(?i)(?<=://)[^\s/@]+(?=@)"  # user:password@host
    r"|\b(?:sk|pk|rk|xox[a-z]|gh[a-z])[-_][\w-]{8,}"  # keys with the usual prefixes
    r"|(?<=bearer )[\w.~+/=-]+"
    r"|(?<=api_key=)[^\s&'\"]+|(?<=api-key: )\S+|(?<=password=)[^\s&'\"]+|(?<=token=)[^\s&'\"]+"
)


def redact(text: str) -> str:
    """Mask what looks like a credential, and bound the length."""
    return well_formed(_SECRETS.sub("***", text))[:_MAX_ERROR]


def describe(error: BaseException | str | None) -> str | None:
    """The text of an error that watchers may see; None for None."""
    if error is None:
        return None
    if isinstance(error, str):
        return redact(error)
    try:
        text = str(error)
    except Exception:
        text = ""
    name = type(error).__name__
    return redact(f"{name}: {text}" if text else name)
