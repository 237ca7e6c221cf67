"""The API reference: every public name, once, under the name to import it by; and no other name.

``.. public:: tokenwire`` documents the names in its body; ``.. public:: tokenwire.watch``, without
one, a whole module. Names that are documented elsewhere are listed, with links.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, get_args, get_type_hints

import msgspec
from docstrings import process_docstring
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject, PythonDomain
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import inspect as sphinx_inspect
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

__all__ = ["documented_names", "home_of", "public_modules", "public_names", "setup"]

logger = logging.getLogger(__name__)

PACKAGES = ("tokenwire", "tokenwire_adapters")


def is_private(name: str) -> bool:
    """Whether a part of a dotted name begins with one underscore."""
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


@cache
def public_modules() -> dict[str, ModuleType]:
    """The modules of both packages whose names have no underscore in front, by name."""
    modules: dict[str, ModuleType] = {}
    for package in map(importlib.import_module, PACKAGES):
        modules[package.__name__] = package
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not is_private(module.name) and not module.name.endswith("__main__"):
                modules[module.name] = importlib.import_module(module.name)
    return modules


@cache
def public_names() -> dict[str, Any]:
    """What the modules have in ``__all__``, by full name."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in public_modules().values()
        for name in getattr(module, "__all__", ())
    }


@cache
def home_of(full_name: str) -> str:
    """The one name under which an object is documented, of all that it is public by."""
    value = public_names()[full_name]
    name = full_name.rpartition(".")[2]
    same = [
        other
        for other, candidate in public_names().items()
        if candidate is value and other.rpartition(".")[2] == name and shared(value)
    ]
    defined_in = f"{getattr(value, '__module__', None)}.{name}"
    # The package's own name, else that of the module that defines it, else the shortest.
    order = sorted(same, key=lambda other: (other.count(".") > 1, other != defined_in, len(other)))
    return order[0] if order else full_name


@cache
def public_origins() -> frozenset[str]:
    """The full names of public objects in the modules that define them, which may be private."""
    values = public_names().values()
    return frozenset(
        f"{v.__module__}.{v.__qualname__}" for v in values if hasattr(v, "__qualname__")
    )


def shared(value: Any) -> bool:
    """Whether two names for `value` are one thing: small constants may be equal by chance."""
    return not isinstance(value, (str, int, float, tuple, frozenset))


@cache
def members_of(cls: type) -> list[str]:
    """The methods and properties that a class adds to its public bases, in the order of the source.

    Those of private base classes count as its own. An override that has no docstring is left out:
    what the base class says holds.
    """
    public = {value for value in public_names().values() if isinstance(value, type)}
    members: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        ours = base.__module__.partition(".")[0] in PACKAGES
        if base is not cls and (base in public or not ours):
            continue
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if name.startswith(("_", "test_")) or not isinstance(
                function, (FunctionType, property)
            ):
                continue
            if function.__doc__:
                members[name] = None
            elif not any(name in vars(other) for other in cls.__mro__ if other is not base):
                logger.warning("%s.%s: no docstring", cls.__qualname__, name)
    return list(members)


@cache
def documented_names() -> dict[str, str]:
    """All names that can be linked to, and the names under which they are documented."""
    names = {module: module for module in public_modules() if "." in module}
    for full_name, value in public_names().items():
        home = home_of(full_name)
        names[full_name] = home
        if isinstance(value, type):
            for member in members_of(value):
                names[f"{full_name}.{member}"] = f"{home}.{member}"
    return names


def comment_of(full_name: str) -> list[str]:
    """The docstring after an assignment, wherever in our packages the value was assigned."""
    module_name, _, name = full_name.rpartition(".")
    module = public_modules()[module_name]
    sources = [module_name]
    sources += [
        other
        for other, loaded in inspect.sys.modules.items()
        if other.partition(".")[0] in PACKAGES
        and getattr(loaded, name, None) is getattr(module, name)
    ]
    for source in sources:
        comments = ModuleAnalyzer.for_module(source).find_attr_docs()
        if ("", name) in comments:
            return comments["", name]
    logger.warning("%s: no docstring after its assignment", full_name)
    return []


def is_fixture(value: Any) -> bool:
    return type(value).__name__ == "FixtureFunctionDefinition"


def value_lines(value: Any) -> Iterator[str]:
    """What can be said of a constant, an alias of a type or an object in its heading."""
    if isinstance(value, (str, int, float, tuple)):
        yield f"   :value: {value!r}"
    elif isinstance(value, frozenset):
        yield f"   :value: {{{', '.join(sorted(map(repr, value)))}}}"
    elif get_args(value):
        yield f"   :value: {stringify_annotation(value, 'smart').replace('~', '')}"
    else:
        documented = {home_of(name): other for name, other in public_names().items()}
        bases = {other: name for name, other in documented.items() if isinstance(other, type)}
        kinds = [bases[base] for base in type(value).__mro__ if base in bases]
        yield f"   :type: {kinds[0] if kinds else 'object'}"


def data_heading(full_name: str) -> Iterator[str]:
    module, _, name = full_name.rpartition(".")
    yield f".. py:data:: {name}"
    yield f"   :module: {module}"


def entry(full_name: str) -> Iterator[str]:
    """The reStructuredText for one public name."""
    value = public_names()[full_name]
    if isinstance(value, type):
        exception = issubclass(value, BaseException)
        yield f".. auto{'exception' if exception else 'class'}:: {full_name}"
        yield f"   :members: {', '.join(members_of(value))}" if members_of(value) else ""
        if any(base in public_names().values() for base in value.__bases__) or exception:
            yield "   :show-inheritance:"
    elif is_fixture(value):
        returned = str(inspect.signature(value.__wrapped__).return_annotation)
        yield from data_heading(full_name)
        yield "   :type: " + returned.removeprefix("Iterator[").removesuffix("]")
        yield from documentation(full_name, value)
    elif callable(value) and inspect.isroutine(value):
        yield f".. autofunction:: {full_name}"
    else:
        yield from data_heading(full_name)
        yield from value_lines(value)
        yield from documentation(full_name, None)
    yield ""


def documentation(full_name: str, value: Any) -> Iterator[str]:
    """The indented docstring of what autodoc cannot read by itself."""
    lines = inspect.getdoc(value).splitlines() if value else comment_of(full_name)
    process_docstring(full_name, value, lines, documented_names())
    yield ""
    for line in lines:
        yield f"   {line}"


class Public(SphinxDirective):
    """``.. public:: MODULE``: the names in the body, or, without one, the whole module."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        (module,) = self.arguments
        names = [name for line in self.content for name in line.split()]
        lines: list[str] = []
        if not names:
            names = list(getattr(public_modules()[module], "__all__", ()))
            lines += [f".. py:module:: {module}", ""]
            text = inspect.getdoc(public_modules()[module]).splitlines()
            process_docstring(module, None, text, documented_names())
            lines += [*text, ""]
        here = [name for name in names if home_of(f"{module}.{name}") == f"{module}.{name}"]
        for name in here:
            lines += entry(f"{module}.{name}")
        elsewhere = sorted({home_of(f"{module}.{name}") for name in names if name not in here})
        if elsewhere:
            lines += ["Also here: " + ", ".join(f":py:obj:`{home}`" for home in elsewhere) + "."]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)


class PublicDomain(PythonDomain):
    """Python's domain, whose inventory has every public name and no private one."""

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        for item in super().get_objects():
            if not is_private(item[0]):
                yield item
        for alias, home in documented_names().items():
            if alias not in self.objects and home in self.objects:
                entry = self.objects[home]
                yield alias, alias, entry.objtype, entry.docname, entry.node_id, -1


def on_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    process_docstring(name, obj, lines, documented_names())
    if isinstance(obj, type):
        lines[:] = with_types(obj, lines)


def with_types(cls: type, lines: list[str]) -> list[str]:
    """Add the types of the attributes that a class's docstring lists."""
    hints = get_type_hints(cls) if is_dataclass(cls) or issubclass(cls, msgspec.Struct) else {}
    typed: list[str] = []
    for line in lines:
        if (field := re.match(r":ivar (\w+):", line)) and field[1] in hints:
            kind = stringify_annotation(hints[field[1]], "smart")
            typed.append(f":vartype {field[1]}: {kind}")
        typed.append(line)
    return typed


def on_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """Leave out how a class is made, where that takes what users cannot have."""
    if inspect.ismethod(obj) and what == "function":  # autodoc would drop its first parameter
        bound = sphinx_inspect.signature(obj, type_aliases={})
        signature = sphinx_inspect.stringify_signature(
            bound, show_return_annotation=False, unqualified_typehints=True
        )
        return signature, returned
    types = set(re.findall(r"tokenwire[\w.]+", signature or ""))
    if what == "class" and any(is_private(name) for name in types - public_origins()):
        return "", returned
    if signature and "<" in signature:  # as of fields with a factory
        return re.sub(r"<\w[^<>]*>", "...", signature), returned
    return None


def on_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """Leave out private bases: what they add is shown as the class's own."""
    bases[:] = [
        base
        for base in bases
        if base.__module__.partition(".")[0] not in PACKAGES or base in public_names().values()
    ]


class LinkedNames(SphinxPostTransform):
    """Makes links of the public names that pages have in backticks: ``tokenwire.open_sink``."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            home = documented_names().get(literal.astext().partition("(")[0])
            if home is None or isinstance(literal.parent, (nodes.reference, pending_xref)):
                continue
            reference = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=home, refexplicit=True, refwarn=True
            )
            literal.replace_self(reference)
            reference += literal


def setup(app: Sphinx) -> ExtensionMetadata:
    public_modules()  # imported once, before pages are read in several processes
    app.add_domain(PublicDomain, override=True)
    app.add_directive("public", Public)
    app.add_post_transform(LinkedNames)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-process-bases", on_bases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
