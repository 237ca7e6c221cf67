"""Text that grows at its end, cheaply."""

from __future__ import annotations

__all__ = ["TextBuffer", "joined", "well_formed"]


def well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot carry, by U+FFFD: one code point for one."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def joined(text: str) -> tuple[str, str]:
    """Do what `well_formed` does for text to which more is added: join pairs of surrogates.

    Some servers cut text by UTF-16 units, so that the halves of a pair come one after the other.

    :return: the text, and the first half of a pair at its end, to put before what comes next.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text.removesuffix(half) if half else text
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), half
    return text, ""


class TextBuffer:
    """An append-only text; `length` is in code points.

    Pieces are joined when their number doubles, so that a million appends cost a few dozen joins.
    """

    __slots__ = ("_limit", "_pieces", "length")

    def __init__(self, text: str = "") -> None:
        self._pieces = [text] if text else []
        self._limit = 64
        self.length = len(text)

    def append(self, text: str) -> None:
        """Add `text` at the end."""
        self._pieces.append(text)
        self.length += len(text)
        if len(self._pieces) >= self._limit:
            self._pieces = ["".join(self._pieces)]
            # The next join copies everything again: wait until there is as much new as old.
            self._limit = max(64, min(self._limit * 2, 65536))

    def __str__(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""
