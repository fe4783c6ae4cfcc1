"""Add an app to the text of a `labctl.yaml`, or remove one. Every other character stays where it is.

The text is cut at positions that PyYAML reports: a YAML writer would reformat the whole file. Lines must end with a
line feed. The caller must parse the result and compare it, because edits of unusual YAML may be wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

KEY = "apps"
STEP = "  "
"""The indentation of the items of a new list."""

Item = Mapping[str, Any]

_DASH = re.compile(r"( *)-(?=\s|\Z)")
_NO_CONTENT = re.compile(r"\s*(?:#|\Z)")
_OWN_LINE = re.compile(r"\n[ \t]*\Z")


class UnclearError(ValueError):
    """The text is written in a way that this module cannot change."""


class _Place(NamedTuple):
    """The lines of an item of a list in block style: the first, the one after the last, and their indentation."""

    first: int
    end: int
    indent: str


def with_list(text: str, items: Sequence[Item]) -> str:
    """Return the text, which must have no key `apps`, with these apps. Raises UnclearError."""
    root = _root(text)
    if root and root.flow_style:
        return _with_last(text, root, f"{json.dumps(KEY)}: {json.dumps(items)}")
    indent = " " * root.start_mark.column if root else ""
    line = _end(text, _stop(text, root), indent) if root else _line(text, len(text)) + (text[-1:] not in {"", "\n"})
    block = [f"{indent}{KEY}:", *(line for item in items for line in _item(item, indent + STEP))]
    return _with_lines(text, line, block if items else [f"{indent}{KEY}: []"])


def with_app(text: str, item: Item) -> str:
    """Return the text with this item after the other apps, in the style of the last one. Raises UnclearError."""
    root, (key, apps) = _root(text), _pair(text)
    is_json = bool(root and root.flow_style)
    if apps.flow_style and (apps.value or is_json):
        return _with_last(text, apps, json.dumps(item) if is_json else _flow(item))
    if not apps.value:
        colon = _after_colon(text, key)
        emptied = text[:colon] + text[apps.end_mark.index :]
        return _with_lines(emptied, _line(text, colon) + 1, _item(item, " " * key.start_mark.column + STEP))
    last, place = apps.value[-1], _place(text, apps, len(apps.value) - 1)
    is_beside_dash = _line(text, last.start_mark.index) == place.first
    gap = last.start_mark.column - len(place.indent) - 1 if is_beside_dash else 1
    are_apart = len(apps.value) > 1 and _is_blank(text, place.first - 1)
    block = _item(item, place.indent, " " * gap, flow=bool(last.flow_style))
    return _with_lines(text, place.end, ["", *block] if are_apart else block)


def without_app(text: str, index: int) -> str:
    """Return the text without the app at this index, keeping comments above it. Raises UnclearError."""
    key, apps = _pair(text)
    if apps.flow_style:
        return _without_flow_item(text, apps.value, index)
    first, end, _ = _place(text, apps, index)
    if len(apps.value) == 1:
        colon = _after_colon(text, key)
        text = f"{text[:colon]} []{text[colon:]}"
    elif index and _is_blank(text, first - 1):
        first -= 1
    elif not index and _is_blank(text, end):
        end += 1
    lines = text.split("\n")
    return "\n".join(lines[:first] + lines[end:])


def _root(text: str) -> yaml.MappingNode | None:
    """Return the mapping in the text; None if the text is empty."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UnclearError
    return root


def _pair(text: str) -> tuple[yaml.Node, yaml.SequenceNode]:
    """Return the key `apps` and its list."""
    root = _root(text)
    for key, value in root.value if root else ():
        if key.value == KEY and isinstance(value, yaml.SequenceNode):
            return key, value
    raise UnclearError


def _with_last(text: str, parent: yaml.CollectionNode, shown: str) -> str:
    """Return the text with this as the last child of a collection in flow style, on its own line if the last one is."""
    if not parent.value:
        return text[: parent.start_mark.index + 1] + shown + text[parent.end_mark.index - 1 :]
    last = parent.value[-1]
    first, last = last if isinstance(last, tuple) else (last, last)
    own_line, end = _OWN_LINE.search(text, 0, first.start_mark.index), last.end_mark.index
    return f"{text[:end]},{own_line[0] if own_line else ' '}{shown}{text[end:]}"


def _without_flow_item(text: str, items: Sequence[yaml.Node], index: int) -> str:
    start, end = items[index].start_mark.index, items[index].end_mark.index
    if index + 1 < len(items):
        return text[:start] + text[items[index + 1].start_mark.index :]
    before = items[index - 1].end_mark.index if index else start
    if "#" in text[before:start]:
        before = len(text[:start].rstrip())  # keep the comment on the item before; YAML allows the comma
    return text[:before] + text[end:]


def _place(text: str, apps: yaml.SequenceNode, index: int) -> _Place:
    """Return the place of an item of a list in block style, with the deeper comments below it."""
    first, indent = _dash(text, apps.value[index])
    is_last = index + 1 == len(apps.value)
    stop = _stop(text, apps) if is_last else _dash(text, apps.value[index + 1])[0]
    return _Place(first, _end(text, stop, indent), indent)


def _dash(text: str, item: yaml.Node) -> tuple[int, str]:
    """Return the line of the dash before an item, and its indentation."""
    lines = text.split("\n")
    for number in range(_line(text, item.start_mark.index), -1, -1):
        if dash := _DASH.match(lines[number]):
            return number, dash[1]
    raise UnclearError


def _stop(text: str, node: yaml.CollectionNode) -> int:
    """Return the line where the content after a node in block style begins."""
    end = node.end_mark.index
    return _line(text, end) + (end == len(text))


def _end(text: str, stop: int, indent: str) -> int:
    """Return the line after the last content before `stop`, and after the deeper comments directly below that."""
    lines = text.split("\n")
    while _NO_CONTENT.match(lines[stop - 1]):
        stop -= 1
    while stop < len(lines) and re.match(rf"{indent} +#", lines[stop]):
        stop += 1
    return stop


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index)


def _after_colon(text: str, key: yaml.Node) -> int:
    return text.index(":", key.end_mark.index) + 1


def _with_lines(text: str, number: int, added: Sequence[str]) -> str:
    """Return the text with these lines before the line of that number."""
    lines = text.split("\n")
    return "\n".join([*lines[:number], *added, *lines[number:]])


def _is_blank(text: str, number: int) -> bool:
    return not text.split("\n")[number].strip()


def _item(item: Item, indent: str, gap: str = " ", *, flow: bool = False) -> list[str]:
    """Return the lines of an item of a list in block style."""
    shown = _flow(item) if flow else yaml.safe_dump(dict(item), sort_keys=False, width=math.inf)
    first, *others = shown.splitlines()
    return [f"{indent}-{gap}{first}", *(f"{indent} {gap}{line}" for line in others)]


def _flow(item: Item) -> str:
    return str(yaml.safe_dump(dict(item), sort_keys=False, width=math.inf, default_flow_style=True)).strip()
