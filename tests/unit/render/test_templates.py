"""Strict rendering of templates."""

from __future__ import annotations

import itertools

import pytest
from jinja2 import UndefinedError

from labctl.render.templates import _yaml, static, text
from labctl.render.yaml_stream import documents, yaml_stream


def test_an_undefined_variable_in_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="memberlist"):
        text("metallb/memberlist.yaml.j2")


def test_a_static_file_is_returned_unchanged() -> None:
    assert "ExecStart=/bin/bash /etc/labctl/bootstrap.sh" in static("node/labctl-node.service")


def test_any_text_survives_a_round_trip_through_yaml() -> None:
    characters = [chr(code) for code in range(128)]
    every_two = "".join(map("".join, itertools.product(characters, repeat=2)))
    plain = ["", "true", "null", "~", "1e3", "0x1f", "12:30", "- a", "a: b", "a #b", "|", "*a"]
    values = {f"value{number}": value for number, value in enumerate([*characters, every_two, *plain])}

    assert documents("".join(f"{key}: {_yaml(value)}\n" for key, value in values.items())) == [values]


def test_a_yaml_stream_round_trips_without_empty_documents() -> None:
    objects: list[dict[str, object]] = [{"kind": "A", "z": 1, "a": [True, None, "true"]}, {"kind": "B"}]

    assert documents("---\n" + yaml_stream(objects) + "---\n") == objects
