"""What signatures of the reference mention can be imported: no class of ours there is private."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ForwardRef, Literal, get_args, get_origin

import pytest

from tests.support.needs import needs

PACKAGES = ("tokenwire", "tokenwire_adapters")

# Their constructors take parts of the library: users are given them, and never make one.
GIVEN = {
    "tokenwire.ResponseWriter",
    "tokenwire.sink.Channels",
    "tokenwire.sink.Export",
    "tokenwire.watch.ChannelReader",
    "tokenwire_adapters.asgi.EventsResponse",
    "tokenwire_adapters.testing.ably.Faults",
    "tokenwire_adapters.testing.provider.RequestRecord",
}


@pytest.fixture(scope="module")
def reference(monkeypatch_module: pytest.MonkeyPatch) -> Any:
    """The collector that the site is built with."""
    needs("sphinx")
    monkeypatch_module.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "_ext"))
    import public_api  # pyright: ignore[reportMissingImports]

    return public_api


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def is_ours(value: Any) -> bool:
    return getattr(value, "__module__", "").partition(".")[0] in PACKAGES


@cache
def names_of(module: str) -> dict[str, Any]:
    """What a module's annotations may name: also what it imports for type checkers only."""
    loaded = sys.modules[module]
    names = {**vars(builtins), **vars(loaded)}
    for node in ast.parse(inspect.getsource(loaded)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                exec(ast.unparse(statement), names)
    return names


def home_of_alias(name: str, value: str) -> str:
    """The module that defines an alias which is a string."""
    return next(
        other
        for other, loaded in list(sys.modules.items())
        if isinstance(loaded, ModuleType)
        and other.partition(".")[0] in PACKAGES
        and vars(loaded).get(name) == value
        and name in loaded.__annotations__
    )


def classes_in(annotation: Any, module: str) -> Iterator[type]:
    """The classes that an annotation mentions, also by an alias."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        for node in ast.walk(ast.parse(annotation, mode="eval")):
            if isinstance(node, ast.Name):
                value = names_of(module)[node.id]
                home = home_of_alias(node.id, value) if isinstance(value, str) else module
                yield from classes_in(value, home)
    elif isinstance(annotation, (list, tuple)):
        for one in annotation:
            yield from classes_in(one, module)
    elif get_origin(annotation) is Literal:
        return
    elif get_origin(annotation) is not None:
        yield from classes_in(get_origin(annotation), module)
        yield from classes_in(get_args(annotation), module)
    elif isinstance(annotation, type):
        yield annotation


def annotations_of(reference: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """Where each annotation of a public name stands, its module, and the annotation."""
    value = reference.public_names()[name]
    if reference.is_fixture(value):
        value = value.__wrapped__
    functions: dict[str, Any] = {}
    if isinstance(value, type):
        for base in value.__mro__:
            if is_ours(base):
                for field, annotation in vars(base).get("__annotations__", {}).items():
                    if not field.startswith("_"):
                        yield f"{name}.{field}", base.__module__, annotation
        if name not in GIVEN:
            functions[f"{name}()"] = value.__init__
        for member in reference.members_of(value):
            functions[f"{name}.{member}"] = inspect.getattr_static(value, member)
    else:
        functions[name] = value
    for where, function in functions.items():
        if isinstance(function, (classmethod, staticmethod)):
            function = function.__func__
        if isinstance(function, property):
            function = function.fget
        function = inspect.unwrap(function) if callable(function) else function
        if isinstance(function, FunctionType) and is_ours(function):
            for annotation in function.__annotations__.values():
                yield where, function.__module__, annotation


def test_signatures_mention_public_classes_only(reference: Any) -> None:
    names = [name for name in reference.public_names() if reference.home_of(name) == name]
    public = {value for value in reference.public_names().values() if isinstance(value, type)}
    looked_at = 0
    private: set[str] = set()
    for name in names:
        for where, module, annotation in annotations_of(reference, name):
            looked_at += 1
            private |= {
                f"{where}: {cls.__module__}.{cls.__qualname__}"
                for cls in classes_in(annotation, module)
                if is_ours(cls) and cls not in public
            }
    assert looked_at > 1000
    assert not private, "\n".join(sorted(private))


def test_what_users_are_given_takes_parts_of_the_library(reference: Any) -> None:
    public = {value for value in reference.public_names().values() if isinstance(value, type)}
    for name in GIVEN:
        cls = reference.public_names()[name]
        private = [
            one
            for annotation in cls.__init__.__annotations__.values()
            for one in classes_in(annotation, cls.__init__.__module__)
            if is_ours(one) and one not in public
        ]
        assert private, f"{name} can be made from what is public: take it off the list"
