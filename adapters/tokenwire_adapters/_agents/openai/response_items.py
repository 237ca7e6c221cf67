"""The output items of a streamed `Response`: which event is about which item.

Items are told apart by their ids. Servers that copy the API give several items one
``output_index``, count differently in different events, leave ids out, or send another id with
each event; then kind, place, call id and text say which item is meant, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenwire import PartWriter
from tokenwire_adapters._agents.hosted_tools import HostedCall
from tokenwire_adapters._agents.openai.tool_calls import ToolCall
from tokenwire_adapters._agents.openai.whole_items import WholeItem
from tokenwire_adapters._agents.values import join_text

__all__ = ["Item", "Items", "TextPart"]


class TextPart:
    """A text of an item: what has been written of it.

    :ivar sort: which of the item's texts it is, beside its place in the list of these.
    """

    __slots__ = ("_pieces", "part", "place", "sort")

    def __init__(self, part: PartWriter, sort: str, place: Any, text: str) -> None:
        self.part = part
        self.sort = sort
        self.place = place
        self._pieces = [text]

    def write(self, text: str) -> None:
        """Append text."""
        if text:
            self._pieces.append(text)
            self.part.write(text)

    @property
    def text(self) -> str:
        """What has been written."""
        if len(self._pieces) > 1:
            self._pieces = [join_text(self._pieces)]
        return self._pieces[0]


class Item:
    """One output item.

    :ivar kind: its type, such as ``message``.
    :ivar index: its ``output_index``; None where it has none.
    :ivar call_id: of a tool call.
    :ivar added: an event has said that it begins.
    :ivar done: it has come whole.
    :ivar ahead: what was written differs from its deltas so far: the whole is awaited.
    :ivar call: the tool call that it is, if it is one whose arguments grow.
    :ivar hosted: the call of a tool that the provider runs, if it is one that comes whole.
    :ivar digest: what identifies a whole item of other kinds.
    """

    __slots__ = (
        "added",
        "ahead",
        "call",
        "call_id",
        "digest",
        "done",
        "hosted",
        "ids",
        "index",
        "kind",
        "texts",
    )

    def __init__(self, kind: str, index: int | None) -> None:
        self.kind = kind
        self.index = index
        self.ids: set[str] = set()
        self.call_id = ""
        self.added = False
        self.done = False
        self.ahead = False
        self.call: ToolCall | None = None
        self.hosted: HostedCall | None = None
        self.digest = ""
        self.texts: list[TextPart] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it has been written."""
        return not self.texts and not self.digest and (self.call is None or not self.call.filled)

    @property
    def content(self) -> str:
        """All that has been written of it."""
        if self.call is not None:
            return self.call.arguments
        return self.digest or "".join(text.text for text in self.texts)

    def text_at(self, sort: str, place: Any) -> TextPart | None:
        """The text of this sort at `place`; the last one, where a place is not known."""
        for text in reversed(self.texts):
            if text.sort == sort and (text.place == place or place is None or text.place is None):
                return text
        return None


class Items:
    """The items of one response, in the order in which they began."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._by_id: dict[tuple[str, str], list[Item]] = {}
        self._written: Item | None = None  # the one that grew last,
        self._count = 0  # and how many there were then
        self._ids_repeat = False  # an id came twice: the server does not make up new ones
        self._missed = False

    def __iter__(self) -> Any:
        return iter(list(self._items))

    def begin(self, kind: str, item_id: str, index: int | None, call_id: str) -> Item:
        """The item that an ``output_item.added`` is about; a new one, unless it was known."""
        item = self._known(kind, item_id, index, call_id, is_open=True)
        if item is not None and item.added and item.index != index:
            item = None  # another that has the same id
        if item is None:  # its text may have come before it
            waiting = [item for item in self._open(kind, index) if not item.added]
            item = _first(waiting, lambda item: not (item.ids and item_id))
        if item is None:
            item = self._new(kind, index)
            item.ahead = False
        item.added = True
        item.call_id = item.call_id or call_id
        self._name(item, item_id)
        return item

    def miss(self) -> None:
        """Note that events did not come: deltas of what they may have begun do not fit."""
        self._missed = True
        for item in self._items:
            item.ahead = not item.done

    def grow(self, kind: str, item_id: str, index: int | None) -> Item:
        """The item that a delta, or the end of a text, is about; a new one if need be."""
        item = self._known(kind, item_id, index, "", is_open=True)
        if item is None:
            item = self._growing(kind, item_id, index) or self._new(kind, index)
        self._name(item, item_id)
        self._written, self._count = item, len(self._items)
        return item

    def _growing(self, kind: str, item_id: str, index: int | None) -> Item | None:
        """The open item that an event may be about, though its id is unknown."""
        open_ = self._open(kind, index)
        if item_id and self._ids_repeat:
            open_ = [item for item in open_ if item.added]
        if self._written in open_:  # unless another has begun since
            newer = [item for item in self._items[self._count :] if item in open_]
            return newer[0] if newer else self._written
        return _first(open_, lambda item: item.is_empty) or (open_[-1] if open_ else None)

    def complete(
        self, kind: str, item_id: str, index: int | None, call_id: str, content: str
    ) -> Item:
        """The item that has come whole in an ``output_item.done``; a new one if need be."""
        item = (
            self._known(kind, item_id, index, call_id, content)
            or self._of_call(kind, call_id)
            or self._alike(self._open(kind, index), call_id, content)
            or self._alike(self._open(kind, None), call_id, content)
        )
        if item is None:
            here = [
                item
                for item in self._open(kind, index)
                if not _differ(item.call_id, call_id)
                and (not item_id or not item.ids or not self._ids_repeat or item.is_empty)
            ]
            item = here[0] if here else self._new(kind, index)
        self._name(item, item_id)
        item.call_id = item.call_id or call_id
        return item

    def match(self, wholes: list[WholeItem]) -> list[Item]:
        """The items of a response that has come whole, each once."""
        matched: dict[int, Item] = {}
        free = list(self._items)
        ways: list[Callable[[Item, WholeItem], bool]] = [
            lambda item, whole: whole.id in item.ids,
            lambda item, whole: bool(whole.call_id) and item.call_id == whole.call_id,
            lambda item, whole: bool(whole.content) and item.content == whole.content,
            lambda item, whole: _overlaps(item.content, whole.content),
            lambda item, whole: item.kind == whole.kind,  # no more than that, in their order
        ]
        for fits in ways:  # the surest first, for all of them
            for number, whole in enumerate(wholes):
                for item in () if number in matched else free:
                    may_be = item.kind == whole.kind and not _differ(item.call_id, whole.call_id)
                    if may_be and fits(item, whole):
                        matched[number] = item
                        free.remove(item)
                        break
        return [
            matched[number] if number in matched else self._new_whole(whole, number)
            for number, whole in enumerate(wholes)
        ]

    def _known(
        self,
        kind: str,
        item_id: str,
        index: int | None,
        call_id: str,
        content: str = "",
        *,
        is_open: bool = False,
    ) -> Item | None:
        """The item with this id; where several have it, the one with this content, or at `index`.

        :param is_open: it has not come whole.
        """
        items = self._by_id.get((kind, item_id), []) if item_id else []
        items = [item for item in items if not _differ(item.call_id, call_id)]
        if is_open:
            items = [item for item in items if not item.done]
        alike = self._alike(items, call_id, content) if len(items) > 1 else None
        if alike is not None:
            return alike
        items = [item for item in items if item.index == index] or items
        return items[-1] if items else None

    def _of_call(self, kind: str, call_id: str) -> Item | None:
        return _first(self._of_kind(kind), lambda item: bool(call_id) and item.call_id == call_id)

    def _alike(self, items: list[Item], call_id: str, content: str) -> Item | None:
        """The item of which the same has been written as `content` says, or the beginning of it."""
        for same in (str.__eq__, _overlaps):
            for item in items:
                if content and not _differ(item.call_id, call_id) and same(item.content, content):
                    return item
        return None

    def _of_kind(self, kind: str) -> list[Item]:
        return [item for item in self._items if item.kind == kind]

    def _open(self, kind: str, index: int | None) -> list[Item]:
        """The items of a kind that have not come whole; those at `index`, where that is known."""
        return [
            item
            for item in self._of_kind(kind)
            if not item.done and (index is None or item.index is None or item.index == index)
        ]

    def _new(self, kind: str, index: int | None) -> Item:
        item = Item(kind, index)
        item.ahead = self._missed
        self._items.append(item)
        return item

    def _new_whole(self, whole: WholeItem, index: int) -> Item:
        item = self._new(whole.kind, index)
        item.call_id = whole.call_id
        self._name(item, whole.id)
        return item

    def _name(self, item: Item, item_id: str) -> None:
        if not item_id:
            return
        if item_id in item.ids:
            self._ids_repeat = True
            return
        item.ids.add(item_id)
        self._by_id.setdefault((item.kind, item_id), []).append(item)


def _first(items: list[Item], fits: Callable[[Item], bool]) -> Item | None:
    return next((item for item in items if fits(item)), None)


def _differ(one: str, other: str) -> bool:
    """Whether two call ids are known, and not the same."""
    return bool(one and other) and one != other


def _overlaps(written: str, whole: str) -> bool:
    return bool(written) and (whole.startswith(written) or written.startswith(whole))
