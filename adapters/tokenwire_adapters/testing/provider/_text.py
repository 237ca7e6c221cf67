"""Text for a prompt, and its tokens. The same prompt always gives the same text."""

from __future__ import annotations

import hashlib
import re

from tokenwire_adapters.testing.provider._canned_text import SLOTS, TOPICS

__all__ = ["answer", "compose", "preface", "reason", "tokenize"]

_OPENERS = (
    "",
    "",
    "Gladly!\n\n",
    "Good question. Here is what I have.\n\n",
    "Here you go — I hope you like it. 😊\n\n",
)
_PREFACES = ("Let me look that up.", "One moment — I will check.", "I have a tool for that. 🔧")
_BRIEF = frozenset(["short", "brief", "briefly", "quick", "quickly", "summary", "hi", "hello"])
_LONG = frozenset(["long", "longer", "detailed", "everything", "all", "essay"])
_MAX_QUOTE = 2_000
_WORD = re.compile(r"\w+")

# How a tokenizer of today's models cuts: a word takes the space in front of it, digits go in
# threes, punctuation in short runs, line breaks together, everything else (CJK, emoji, combining
# marks, joiners) a code point at a time.
_TOKEN = re.compile(
    r" ?[A-Za-z\u00c0-\u024f]+"
    r"|\d{1,3}"
    r"|\n+"
    r"| +(?= )"
    r"| ?[!-/:-@\[-`{-~]{1,3}"
    r"|.",
    re.DOTALL,
)
_WHOLE_WORD = 7


def tokenize(text: str) -> tuple[str, ...]:
    """Cut ``text`` into model-like tokens; joining them gives exactly ``text`` back."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if len(piece) <= _WHOLE_WORD:
            tokens.append(piece)
            continue
        # Long words come in pieces: "stream" + "ing". Vary the cut, so no width is special.
        start = 0
        while start < len(piece):
            width = 4 + (len(piece) - start) % 3
            tokens.append(piece[start : start + width])
            start += width
    return tuple(tokens)


def compose(prompt: str, *, choice: int = 0, length: int | None = None) -> str:
    """Write a reply to ``prompt``.

    :param prompt: the last thing the user said; its words choose the topic.
    :param choice: which of several replies to the same prompt (``n > 1``).
    :param length: at least this many tokens, whatever the prompt asks for.
    :returns: Markdown; the same for the same arguments, on every machine.
    """
    digest = hashlib.sha256(f"{choice}:{prompt}".encode()).digest()
    words = frozenset(word.lower() for word in _WORD.findall(prompt))
    first = _topic(words, digest, choice)
    if length is not None:
        return _at_least(length, digest, first)
    opener = _OPENERS[digest[1] % len(_OPENERS)]
    if words & _LONG:
        pieces = [_fill(TOPICS[(first + step) % len(TOPICS)].text, digest) for step in range(3)]
        return opener + "\n---\n\n".join(pieces)
    text = _fill(TOPICS[first].text, digest)
    if words & _BRIEF:
        return text.split("\n\n", 2)[1]  # the paragraph under the title
    return opener + text


def answer(prompt: str, results: tuple[str, ...], *, choice: int = 0) -> str:
    """Write the reply after the results of tools."""
    quotes = "\n\n".join(f"> {_clip(result)}" for result in results)
    plural = "tools" if len(results) > 1 else "tool"
    brief = compose(f"brief {prompt}", choice=choice)
    return f"Here is what the {plural} told me:\n\n{quotes}\n\nAnd while you are here: {brief}"


def reason(prompt: str, *, choice: int = 0) -> str:
    """Write the reasoning before a reply."""
    digest = hashlib.sha256(f"reason:{choice}:{prompt}".encode()).digest()
    request = _clip(" ".join(prompt.split()), 120) or "(nothing)"
    consideration = (
        "A list would be tidy, but a story is easier to remember.",
        "They may be in a hurry — I will put the important part first.",
        "I should be concrete: names, numbers, an example. 🤔",
    )[digest[0] % 3]
    return (
        f"The user says: “{request}”.\n\nWhat would help most here? {consideration} "
        "I will keep the headings short, check the accents (naïve, not naive; 茶, not 荼) "
        "and end on something warm.\n\nGood. Writing it now."
    )


def preface(prompt: str) -> str:
    """Write the sentence before a tool call."""
    return _PREFACES[len(prompt) % len(_PREFACES)]


def _topic(words: frozenset[str], digest: bytes, choice: int) -> int:
    scores = [len(words & topic.keywords) for topic in TOPICS]
    best = max(scores)
    chosen = scores.index(best) if best else digest[0] % len(TOPICS)
    return (chosen + choice) % len(TOPICS)


def _fill(text: str, digest: bytes) -> str:
    for position, (slot, fillings) in enumerate(SLOTS.items(), start=2):
        text = text.replace(f"[[{slot}]]", fillings[digest[position] % len(fillings)])
    return text


def _at_least(length: int, digest: bytes, first: int) -> str:
    pieces: list[str] = []
    tokens = 0
    while tokens < length:
        pieces.append(_fill(TOPICS[(first + len(pieces)) % len(TOPICS)].text, digest) + "\n")
        tokens += len(tokenize(pieces[-1]))
    return "".join(pieces)


def _clip(text: str, limit: int = _MAX_QUOTE) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
