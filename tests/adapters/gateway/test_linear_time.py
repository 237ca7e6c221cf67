"""What clients send is read in time that grows with its length, not faster."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.requests import HTTPConnection

import tokenwire
import tokenwire_adapters
from tests.support.regex_steps import Matching, superlinear
from tokenwire._ids import check_name
from tokenwire.events import Response
from tokenwire.watch import parse_rewind
from tokenwire_adapters._web.ag_ui.messages import asked_by
from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.cookies import cookies_of
from tokenwire_adapters._web.gateway.cors import authority_of, host_name
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.log_masking import masked
from tokenwire_adapters._web.gateway.tokens import matches
from tokenwire_adapters._web.ui.runs import Run
from tokenwire_adapters._web.ui.state import ENVELOPE
from tokenwire_adapters._web.vercel.messages import conversation
from tokenwire_adapters._web.vercel.requests import metadata_of

_METHODS = ("match", "fullmatch", "search", "sub", "subn", "findall", "finditer", "split")
_OF_OPERATORS = ("_tools", "testing")  # read what operators and tests write, not clients


def modules() -> Iterator[tuple[str, Path]]:
    for package in (tokenwire, tokenwire_adapters):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if not set(parts) & set(_OF_OPERATORS):
                yield ".".join((root.name, *parts)).removesuffix(".__init__"), path


def patterns_in(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """The patterns of a module, as source text, and the method that each is used with."""
    tree = ast.parse(path.read_text())
    named: dict[str, ast.Call] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_compile(node.value):
            named[ast.unparse(node.targets[0])] = node.value  # type: ignore[assignment]
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if (method := node.func.attr) in _METHODS:
            owner = ast.unparse(node.func.value)
            if owner in named:
                yield ast.unparse(named[owner]), method
            elif owner == "re":
                yield f"re.compile({ast.unparse(node.args[0])})", method


def _is_compile(node: ast.expr) -> bool:
    match node:
        case ast.Call(ast.Attribute(ast.Name("re"), "compile")):
            return True
    return False


def compiled(source: str, module: str) -> re.Pattern[Any]:
    names = {**vars(importlib.import_module(module)), "re": re}
    # Of a pattern that a setting makes: the path of `TokenwireMiddleware`.
    names |= {"before": "/chats/", "after": "/reply"}
    pattern = eval(source, names)
    assert isinstance(pattern, re.Pattern)
    return pattern


USES = sorted(
    {
        (module, source, how)
        for module, path in modules()
        for source, how in patterns_in(module, path)
    }
)


def test_no_pattern_of_the_product_is_passed_over() -> None:
    for module, path in modules():
        seen = {source for source, _ in patterns_in(module, path)}
        assert path.read_text().count("re.compile(") <= len(seen), module


@pytest.mark.parametrize(("module", "source", "how"), USES, ids=[use[0] for use in USES])
def test_no_pattern_takes_steps_that_grow_faster_than_its_text(
    module: str, source: str, how: str
) -> None:
    assert superlinear(compiled(source, module), how) is None


@pytest.mark.parametrize(
    ("pattern", "how", "grows"),
    [
        (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", "sub", True),
        (r"a+b", "search", True),
        (r"a+b", "fullmatch", False),
        (r"(?:a+)+b", "fullmatch", True),
        (r"\s+$", "search", True),
        (r"a++b", "fullmatch", False),
        (r"[a-z]{1,16}-", "search", False),
    ],
)
def test_the_counting_sees_what_grows(pattern: str, how: str, grows: bool) -> None:
    assert (superlinear(re.compile(pattern), how) is not None) is grows


@pytest.mark.parametrize(
    "pattern",
    [r"(a|b)*?c{2,3}", r"(?i)(?<=x)Y+(?!z)", r"\b\w+\b", r"[^a-c\d]+", r"^a.?$", r"(?>a+)b|a"],
)
@pytest.mark.parametrize("text", ["abcc", "xyyz xYy", "foo bar-1", "a", "aab", "abccc\n"])
def test_the_counting_matches_as_python_does(pattern: str, text: str) -> None:
    compiled = re.compile(pattern)
    assert Matching(compiled, text).match() is (compiled.match(text) is not None)
    assert Matching(compiled, text).fullmatch() is (compiled.fullmatch(text) is not None)


# -- what is parsed without a pattern: steps are calls and lines of our own code


def lines_of(function: Callable[..., object], *arguments: object) -> int:
    """How many lines of Python run in a call, in our code and the standard library."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(Exception):
            function(*arguments)
    finally:
        sys.settrace(before)
    return lines


def asked_runs(size: int) -> list[Run]:
    """Runs that each answer many messages that a page sent."""
    runs: list[Run] = []
    for n in range(size // 10):
        asked = [{"id": f"m{n}-{k}", "role": "user", "parts": []} for k in range(10)]
        metadata = {ENVELOPE: True, "messages": asked, "after": f"m{n - 1}-9"}
        envelope = Response(id=f"r{n}", run=f"r{n}", metadata=metadata)
        runs.append(Run(id=f"r{n}", responses=(envelope,)))
    return runs


def test_a_long_conversation_is_put_together_in_proportion_to_its_messages() -> None:
    many, few = asked_runs(4000), asked_runs(2000)
    assert len(conversation(many)) == 4000
    assert lines_of(conversation, many) <= 2.2 * lines_of(conversation, few)


def request(**parts: Any) -> Request:
    limits = Limits(url_bytes=10**9, header_bytes=10**9)
    scope = {"type": "http", "path": "/", "headers": [], "client": ("127.0.0.1", 1), **parts}
    return Request(scope, limits)


def connection(cookie: bytes) -> HTTPConnection:
    """What `authorize` is given."""
    return Caller(request(headers=[(b"cookie", cookie)])).connection


READERS: dict[str, Callable[[int], object]] = {
    "mask": lambda n: masked("GET /?" + "eyJhbGciOi-" * n + ".a"),
    "mask dots": lambda n: masked("eyJhbGciOi." * n),
    "mask bearer": lambda n: masked("bearer " * n),
    "cookie": lambda n: cookies_of([b"a=b; " * n]),
    "cookie quoted": lambda n: cookies_of([b'name="' + b"\\a" * n + b'"']),
    "cookie for authorize": lambda n: connection(b'name="' + b"\\" * n + b'"').cookies,
    "path": lambda n: request(raw_path=b"/" + b"%61" * n, path="/" + "a" * n),
    "path of slashes": lambda n: request(raw_path=b"/" * n, path="/" * n),
    "query": lambda n: request(query_string=b"a=" + b"%61" * n),
    "query of fields": lambda n: request(query_string=b"a&" * n),
    "origin": lambda n: authority_of("http://" + "a." * n),
    "origin port": lambda n: authority_of("http://a:" + "1" * n),
    "origin brackets": lambda n: authority_of("http://[" + ":" * n + "]"),
    "host": lambda n: host_name("[" * n),
    "rewind": lambda n: parse_rewind("1" * n),
    "name": lambda n: check_name("a" * n, "name"),
    "pattern": lambda n: matches("a*" * n + "b", "a" * n),
    "asked": lambda n: metadata_of([{"role": "user", "parts": []}] * n, {}),
    "asked of an agent": lambda n: asked_by([{"role": "user"}] * n),
}


@pytest.mark.parametrize("reader", READERS)
def test_reading_takes_lines_in_proportion_to_the_text(reader: str) -> None:
    read = READERS[reader]
    lines_of(read, 2000)  # what is imported or cached at first
    assert lines_of(read, 4000) <= 2.2 * lines_of(read, 2000) + 200


# -- and reads it right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("GET /?token=abc&x=1", "GET /?token=***&x=1"),
        ("Bearer abcdefghijkl==, x", "Bearer ***, x"),
        ("eyJhbGciOiJ.eyJzdWIiOiJ.c2ln", "***"),
        ("(eyJhbGciOiJ.eyJzdWIiOiJ.)", "(***)"),
        ("tokenwire.bearer.eyJhbGciOiJ.eyJzdWIiOiJ.c2ln", "tokenwire.bearer.***"),
        ("x.eyJhbGciOiJ.eyJzdWIiOiJ.c2ln.x", "x.***.x"),
        ("a-eyJhbGciOiJ.b.c eyJhbGciOiJ.d.e", "a-*** ***"),
        ("eyJab.eyJhbGciOiJ.b.c", "eyJab.***"),
        ("eyJhbGciOiJ..c eyJhbGciOiJ.b", "eyJhbGciOiJ..c eyJhbGciOiJ.b"),
        ("keyJhbGciOiJ.b.c", "keyJhbGciOiJ.b.c"),
    ],
)
def test_what_looks_like_a_token_is_masked(text: str, right: str) -> None:
    assert masked(text) == right


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b = 2 ;; c;=3;d=", {"a": "1", "b": "2", "": "3", "d": ""}),
        ('a="x y"; b="x\\054y\\"z"; c="', {"a": "x y", "b": 'x,y"z', "c": '"'}),
        ("a=1; a=2", {"a": "2"}),
        ("a[]={}; b=x=y", {"a[]": "{}", "b": "x=y"}),
    ],
)
def test_cookies_are_read_leniently(header: str, right: dict[str, str]) -> None:
    assert cookies_of([header.encode()]) == right
    assert connection(header.encode()).cookies == right
