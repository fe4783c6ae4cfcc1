"""The text of a `labctl.yaml` with one app more, or one less: every other character of it stays where it is.

A YAML writer would put all of the file into its own form. Here PyYAML says where things are, and the text is cut there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

KEY = "apps"
STEP = "  "
"""How far the items of a list that is new are indented."""

Item = Mapping[str, Any]

_BREAK = r"\r?\n"
_DASH = re.compile(r"^( *)-(?=\s)", re.MULTILINE)
_LINE_END = re.compile(rf"{_BREAK}|\Z")
_COLON = re.compile(r"\s*:")
_BREAK_BEFORE = re.compile(rf"{_BREAK}\Z")
_BLANK_LINE_BEFORE = re.compile(rf"{_BREAK}[ \t]*{_BREAK}\Z")
_BLANK_LINE_AFTER = re.compile(rf"{_BREAK}[ \t]*(?={_BREAK})")
_OWN_LINE = re.compile(r"\n([ \t]*)\Z")


class UnclearError(ValueError):
    """Nobody can say where in the text an app begins."""


class _Place(NamedTuple):
    """Where an item of a list in block style is: from its dash to the end of its last line."""

    start: int
    end: int
    indent: str


def with_apps(text: str, items: Sequence[Item]) -> str:
    """The text with these items behind the apps that it has; the key `apps` is made where there is none.

    Raises UnclearError.
    """
    root = _root(text)
    if root is None:
        return _with_last_line(text, _new_key(text, items, indent=""))
    pair = _pair(root)
    if pair is None:
        return _with_key(text, root, items)
    key, apps = pair
    if not apps.value and not root.flow_style:
        return _filled(text, key, apps, items)
    if apps.flow_style:
        shown = ", ".join(_flow(item, is_json=root.flow_style) for item in items)
        return _with_last(text, apps, apps.value, shown)
    return _with_block_items(text, apps, items)


def without_app(text: str, index: int) -> str:
    """The text without that one of its apps. Comments that stand above it stay; those within it go.

    Raises UnclearError.
    """
    root = _root(text)
    pair = _pair(root) if root else None
    if pair is None:
        raise UnclearError
    key, apps = pair
    if apps.flow_style:
        return _without_flow_item(text, apps, index)
    place, is_only = _place(text, apps.value[index]), len(apps.value) == 1
    above = (index and _BLANK_LINE_BEFORE.search(text, 0, place.start)) or _BREAK_BEFORE.search(text, 0, place.start)
    below = None if index or is_only else _BLANK_LINE_AFTER.match(text, place.end)
    start, end = above.start() if above else 0, below.end() if below else place.end
    if is_only:
        colon = _after_colon(text, key)
        return f"{text[:colon]} []{text[colon:start]}{text[end:]}"
    return text[:start] + text[end:]


def _root(text: str) -> yaml.MappingNode | None:
    """What the text holds, which is keys and values; None if it holds nothing."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UnclearError
    return root


def _pair(root: yaml.MappingNode) -> tuple[yaml.Node, yaml.SequenceNode] | None:
    """The key `apps` and its list; None if there is no such key."""
    for key, value in root.value:
        if key.value == KEY:
            if not isinstance(value, yaml.SequenceNode):
                raise UnclearError
            return key, value
    return None


def _with_key(text: str, root: yaml.MappingNode, items: Sequence[Item]) -> str:
    if root.flow_style:
        shown = f"{json.dumps(KEY)}: [{', '.join(_flow(item, is_json=True) for item in items)}]"
        return _with_last(text, root, [key for key, _ in root.value], shown)
    indent = " " * root.start_mark.column
    end = _end(text, root, indent)
    return text[:end] + _newline(text) + _new_key(text, items, indent) + text[end:]


def _filled(text: str, key: yaml.Node, apps: yaml.Node, items: Sequence[Item]) -> str:
    """The list, which is `[]`, in block style."""
    colon, end = _after_colon(text, key), apps.end_mark.index
    line_end = _line_end(text, end)
    lines = _items(text, items, " " * key.start_mark.column + STEP)
    return text[:colon] + text[end:line_end] + _newline(text) + lines + text[line_end:]


def _with_block_items(text: str, apps: yaml.SequenceNode, items: Sequence[Item]) -> str:
    last = apps.value[-1]
    place = _place(text, last)
    are_apart = len(apps.value) > 1 and _BLANK_LINE_BEFORE.search(text, 0, place.start)
    between = _newline(text) * (2 if are_apart else 1)
    is_beside_dash = "\n" not in text[place.start : last.start_mark.index]
    gap = last.start_mark.column - len(place.indent) - 1 if is_beside_dash and not last.flow_style else 1
    added = [_item(text, item, place.indent, gap, flow=last.flow_style) for item in items]
    return text[: place.end] + "".join(between + each for each in added) + text[place.end :]


def _with_last(text: str, parent: yaml.CollectionNode, children: Sequence[yaml.Node], shown: str) -> str:
    """The collection, in flow style, with this behind what it has; on a line of its own if the last one has one."""
    if not children:
        end = parent.end_mark.index - 1
        return text[: parent.start_mark.index + 1] + shown + text[end:]
    own_line = _OWN_LINE.search(text, 0, children[-1].start_mark.index)
    between = _newline(text) + own_line[1] if own_line else " "
    end = _parts(parent)[-1].end_mark.index
    return f"{text[:end]},{between}{shown}{text[end:]}"


def _without_flow_item(text: str, apps: yaml.SequenceNode, index: int) -> str:
    item, items = apps.value[index], apps.value
    start, end = item.start_mark.index, item.end_mark.index
    if index + 1 < len(items):
        return text[:start] + text[items[index + 1].start_mark.index :]
    before = items[index - 1].end_mark.index if index else start
    if "#" in text[before:start]:
        before = len(text[:start].rstrip())  # a comment on another item; the comma that is left is YAML's
    return text[:before] + text[end:]


def _place(text: str, item: yaml.Node) -> _Place:
    dashes = list(_DASH.finditer(text, 0, item.start_mark.index))
    if not dashes:
        raise UnclearError
    indent = dashes[-1][1]
    return _Place(dashes[-1].start(), _end(text, item, indent), indent)


def _end(text: str, node: yaml.Node, indent: str) -> int:
    """The end of the node's last line, or of the comments right below it that are indented deeper than it is."""
    content = len(text[: max(_ends(node))].rstrip())
    deeper = re.compile(rf"(?:{_BREAK}{indent} +#[^\r\n]*)*")
    end = _line_end(text, content)
    comments = deeper.match(text, end)
    return comments.end() if comments else end


def _ends(node: yaml.Node) -> Iterator[int]:
    """Where the parts of a node end; its own end, in block style, is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        for part in _parts(node):
            yield from _ends(part)
    else:
        yield node.end_mark.index


def _parts(node: yaml.CollectionNode) -> list[yaml.Node]:
    """The items of a list; of a mapping, keys and values."""
    return [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value


def _after_colon(text: str, key: yaml.Node) -> int:
    found = _COLON.match(text, key.end_mark.index)
    return found.end() if found else key.end_mark.index


def _line_end(text: str, index: int) -> int:
    found = _LINE_END.search(text, index)
    return found.start() if found else len(text)


def _newline(text: str) -> str:
    """The line end that the text has first."""
    found = re.search(_BREAK, text)
    return found[0] if found else "\n"


def _with_last_line(text: str, line: str) -> str:
    """The text with this at its end, with a line end behind it unless the text had none."""
    newline = _newline(text)
    return text + line + newline if not text or text.endswith("\n") else text + newline + line


def _new_key(text: str, items: Sequence[Item], indent: str) -> str:
    if not items:
        return f"{indent}{KEY}: []"
    return f"{indent}{KEY}:{_newline(text)}{_items(text, items, indent + STEP)}"


def _items(text: str, items: Sequence[Item], indent: str) -> str:
    return _newline(text).join(_item(text, item, indent, gap=1, flow=False) for item in items)


def _item(text: str, item: Item, indent: str, gap: int, *, flow: bool) -> str:
    shown = _flow(item, is_json=False) if flow else yaml.safe_dump(dict(item), sort_keys=False, width=math.inf).strip()
    first, *others = shown.splitlines()
    below = [f"{indent} {' ' * gap}{line}" for line in others]
    return _newline(text).join([f"{indent}-{' ' * gap}{first}", *below])


def _flow(item: Item, *, is_json: bool) -> str:
    if is_json:
        return json.dumps(item)
    return str(yaml.safe_dump(dict(item), sort_keys=False, width=math.inf, default_flow_style=True)).strip()
