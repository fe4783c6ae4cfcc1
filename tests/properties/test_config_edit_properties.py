"""Adding and removing an app in labctl.yaml, in any style of YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.config import edit

SHOP = {"name": "shop", "port": 8080}
COMMENTS = st.sampled_from(["", "# a comment\n", "\n", "  # deep: [\n", "\n# - name: x\n\n", "   \n"])
KEYS = st.lists(
    st.sampled_from(["workers: 2\n", "cpus:    3   # three\n", "hosts_file: '/etc/hosts'\n", "memory: >-\n  2GiB\n\n"]),
    unique=True,
)
VALUES = {"image": '"a:1"', "port": "81", "hostname": "'{name}.test'  # ours"}


@st.composite
def _files(draw: st.DrawFn) -> str:
    """Generate a labctl.yaml in any style, with one app or more."""
    indent, gap = draw(st.sampled_from(["", "  ", "    "])), draw(st.sampled_from([" ", "   "]))
    apps = ""
    for number in range(draw(st.integers(1, 3))):
        apps += f"{draw(COMMENTS)}{indent}-{gap}name: app-{number}\n"
        for key in draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True)):
            apps += f"{indent} {gap}{key}: {VALUES[key].format(name=f'app-{number}')}\n"
    keys = draw(KEYS)
    place = draw(st.integers(0, len(keys)))
    parts = [*keys[:place], f"apps:\n{apps}", *keys[place:]]
    text = "".join(draw(COMMENTS) + part for part in parts) + draw(COMMENTS)
    text = text if draw(st.booleans()) else text.removesuffix("\n")
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def _parsed(text: str) -> dict[str, Any]:
    """Return the text as parsed by a YAML parser other than labctl's."""
    document: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return document


@given(text=_files(), which=st.integers(0, 2))
@settings(max_examples=150)
def test_adding_or_removing_an_app_changes_nothing_else_in_any_style(text: str, which: int) -> None:
    values = _parsed(text)
    source = edit.Source(Path("labctl.yaml"), text, values)

    added = source.with_app(SHOP)
    same = next(
        (index for index, (old, new) in enumerate(zip(text, added.text, strict=False)) if old != new), len(text)
    )
    assert added.text.endswith(text[same:])
    assert _parsed(added.text) == {**values, "apps": [*values["apps"], SHOP]}
    assert added.without_app("shop").text == text

    removed = values["apps"][which % len(values["apps"])]["name"]
    left = [app for app in values["apps"] if app["name"] != removed]
    assert _parsed(source.without_app(removed).text) == {**values, "apps": left}
