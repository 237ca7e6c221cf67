"""Counts the steps that a regular expression takes, by matching it as Python's engine does.

Python's own engine (`re`, since 3.11) tells no steps, and seconds depend on the machine. The one
here backtracks in the same order, without the shortcuts, over the tree that `re._parser` makes.
"""

from __future__ import annotations

import re
import re._constants as ops  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice, product
from typing import Any

_CATEGORIES = {
    ops.CATEGORY_DIGIT: str.isdecimal,
    ops.CATEGORY_SPACE: str.isspace,
    ops.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    ops.CATEGORY_NOT_DIGIT: lambda char: not char.isdecimal(),
    ops.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    ops.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
}
_ONE_CHARACTER = (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN)


@lru_cache(maxsize=16)
def _tree_of(pattern: re.Pattern[Any]) -> list[Any]:
    source = pattern.pattern
    source = source.decode("latin-1") if isinstance(source, bytes) else source
    return _lists(parser.parse(source, pattern.flags & ~re.UNICODE))


def _lists(nodes: Iterable[Any]) -> list[Any]:
    """The nodes of a tree with lists for `re._parser.SubPattern`, which is slow to read.

    A look ahead or behind has its width as well.
    """
    plain: list[Any] = []
    for op, argument in nodes:
        match op:
            case ops.SUBPATTERN:
                argument = (*argument[:3], _lists(argument[3]))
            case ops.ATOMIC_GROUP:
                argument = _lists(argument)
            case ops.BRANCH:
                argument = (None, [_lists(branch) for branch in argument[1]])
            case ops.MAX_REPEAT | ops.MIN_REPEAT | ops.POSSESSIVE_REPEAT:
                argument = (*argument[:2], _lists(argument[2]))
            case ops.ASSERT | ops.ASSERT_NOT:
                direction, body = argument
                argument = (direction, _lists(body), body.getwidth()[0])
        plain.append((op, argument))
    return plain


class TooManySteps(Exception):
    """The steps are beyond the limit, and would perhaps never end."""


class Matching:
    """One pattern on one text.

    :ivar steps: how many steps were taken.
    :param limit: raises `TooManySteps` beyond this.
    """

    def __init__(self, pattern: re.Pattern[Any], text: str, limit: int = 10**9) -> None:
        self._tree = _tree_of(pattern)
        self._fold = bool(pattern.flags & re.IGNORECASE)
        self._taken: dict[tuple[int, str], bool] = {}
        self._text = text.lower() if self._fold else text
        self.steps = 0
        self._limit = limit

    def search(self) -> None:
        """Find every match, as `sub`, `findall` and `finditer` do."""
        at = 0
        while at <= len(self._text):
            end = next(self._match(self._tree, 0, at), None)
            at = at + 1 if end is None else max(end, at + 1)

    def fullmatch(self) -> bool:
        """Match the whole text."""
        return len(self._text) in self._match(self._tree, 0, 0)

    def match(self) -> bool:
        """Match at the beginning."""
        return next(self._match(self._tree, 0, 0), None) is not None

    def _match(self, nodes: list[Any], index: int, at: int) -> Iterator[int]:
        """Where a match of the nodes from `index` on, beginning at `at`, may end; best first."""
        while True:
            self.steps += 1
            if self.steps > self._limit:
                raise TooManySteps
            if index == len(nodes):
                yield at
                return
            op, argument = nodes[index]
            if op not in _ONE_CHARACTER:
                break
            if at >= len(self._text) or not self._takes(op, argument, self._text[at]):
                return
            index, at = index + 1, at + 1
        for end in self._one(op, argument, at):
            yield from self._match(nodes, index + 1, end)

    def _one(self, op: Any, argument: Any, at: int) -> Iterator[int]:
        if op is ops.SUBPATTERN:
            yield from self._match(argument[3], 0, at)
        elif op is ops.ATOMIC_GROUP:
            yield from self._first(argument, at)
        elif op is ops.BRANCH:
            for branch in argument[1]:
                yield from self._match(branch, 0, at)
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            least, most, body = argument
            ends = self._repeat(body, at, least, most, lazy=op is ops.MIN_REPEAT)
            yield from islice(ends, 1 if op is ops.POSSESSIVE_REPEAT else None)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            direction, body, width = argument
            begin = at if direction > 0 else at - width
            held = begin >= 0 and any(self._first(body, begin))
            if held is (op is ops.ASSERT):
                yield at
        elif op is ops.AT:
            if self._is_at(argument, at):
                yield at
        else:
            raise NotImplementedError(str(op))

    def _first(self, nodes: list[Any], at: int) -> Iterator[int]:
        end = next(self._match(nodes, 0, at), None)
        if end is not None:
            yield end

    def _repeat(
        self, body: list[Any], at: int, least: int, most: int, *, lazy: bool
    ) -> Iterator[int]:
        if len(body) == 1 and body[0][0] in _ONE_CHARACTER and not lazy:
            end = at
            while end < len(self._text) and end - at < most:
                self.steps += 1
                if not self._takes(*body[0], self._text[end]):
                    break
                end += 1
            yield from range(end, at + least - 1, -1)
            return
        if lazy and least == 0:
            yield at
        if most > 0:
            for end in self._match(body, 0, at):
                if end > at:
                    yield from self._repeat(body, end, max(0, least - 1), most - 1, lazy=lazy)
        if not lazy and least == 0:
            yield at

    def _takes(self, op: Any, argument: Any, char: str) -> bool:
        key = (id(argument), char) if op is ops.IN else None
        if key is None:
            return self._compares(op, argument, char)
        if key not in self._taken:
            self._taken[key] = self._compares(op, argument, char)
        return self._taken[key]

    def _compares(self, op: Any, argument: Any, char: str) -> bool:
        if op is ops.ANY:
            return char != "\n"
        if op is ops.LITERAL:
            return self._literal(argument) == char
        if op is ops.NOT_LITERAL:
            return self._literal(argument) != char
        negated, *items = argument if argument[0][0] is ops.NEGATE else (None, *argument)
        return any(self._has(item, char) for item in items) is (negated is None)

    def _literal(self, code: int) -> str:
        return chr(code).lower() if self._fold else chr(code)

    def _has(self, item: Any, char: str) -> bool:
        op, argument = item
        if op is ops.LITERAL:
            return self._literal(argument) == char
        if op is ops.RANGE:
            chars = {char, char.upper()} if self._fold else {char}
            return any(argument[0] <= ord(one) <= argument[1] for one in chars if len(one) == 1)
        return bool(_CATEGORIES[argument](char))

    def _is_at(self, where: Any, at: int) -> bool:
        text, word = self._text, _CATEGORIES[ops.CATEGORY_WORD]
        if where in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
            return at == 0
        if where in (ops.AT_END, ops.AT_END_STRING):
            return at == len(text) or (at == len(text) - 1 and text[at] == "\n")
        before, after = at > 0 and word(text[at - 1]), at < len(text) and word(text[at])
        return (before != after) is (where is ops.AT_BOUNDARY)


def steps_of(pattern: re.Pattern[Any], how: str, text: str) -> int:
    """The steps that `pattern.how(text)` takes, as far as a thousand for each character."""
    matching = Matching(pattern, text, limit=1000 * len(text))
    with suppress(TooManySteps):
        if how in ("match", "fullmatch"):
            getattr(matching, how)()
        else:
            matching.search()
    return matching.steps


def words_of(pattern: re.Pattern[Any]) -> list[str]:
    """Texts that the pattern is made of: its literals, and a character of each class."""
    words: dict[str, None] = {}
    _collect(_tree_of(pattern), words)
    return list(words)


def _collect(nodes: Iterable[Any], words: dict[str, None]) -> None:
    literal = ""
    for op, argument in [*nodes, (None, None)]:
        if op is ops.LITERAL:
            literal += chr(argument)
            continue
        if literal:
            words[literal] = None
            literal = ""
        if op is ops.IN:
            for kind, value in argument:
                if kind is ops.LITERAL:
                    words[chr(value)] = None
                elif kind is ops.RANGE:
                    words[chr(value[0])] = None
                elif kind is ops.CATEGORY:
                    words[" " if value is ops.CATEGORY_SPACE else "0"] = None
        elif op is ops.SUBPATTERN:
            _collect(argument[3], words)
        elif op is ops.BRANCH:
            for branch in argument[1]:
                _collect(branch, words)
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            _collect(argument[2], words)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            _collect(argument[1], words)


def attacks_on(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """Beginnings, what to repeat after them, and ends, from the words of a pattern."""
    words = words_of(pattern)[:6]
    pumps = [*words, *(a + b for a, b in product(words, words) if a != b), "~", " a"]
    # A word that is long enough for the bounds of the pattern, as `{8,}`.
    pumps += [word + "a" * 8 for word in words]
    yield from product(("", *words), pumps, ("", "\0"))


def superlinear(pattern: re.Pattern[Any], how: str) -> str | None:
    """A text on which the steps grow faster than its length; None where none was seen."""
    for begin, pump, end in attacks_on(pattern):

        def steps(size: int, text: tuple[str, str, str] = (begin, pump, end)) -> int:
            first, repeated, last = text
            return steps_of(pattern, how, first + repeated * (size // len(repeated)) + last)

        # Twice the text: twice the steps. Bounds (`{1,64}`) are beyond reach of the first look.
        some = steps(96)
        if some > 96_000 or (some > 2.7 * steps(48) and steps(768) > 2.7 * steps(384)):
            return f"{begin!a} + {pump!a} * n + {end!a}"
    return None
