"""The generated pages of docs/ match the sources, and links in the documents beside it are valid.

`python docs/generate.py` writes the pages; so does `pytest --update-golden`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from generate import FOLDER, pages
from generator import environment
from generator.markdown import slug

from labctl.host import known_failures, virtualbox
from labctl.host.parsing import version_text

CHECKOUT = FOLDER.parent
GENERATED = pages()
DOCUMENTS = sorted(CHECKOUT.glob("*.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)")


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_up_to_date(name: str, *, pytestconfig: pytest.Config) -> None:
    if pytestconfig.option.update_golden:
        (FOLDER / name).write_text(GENERATED[name], encoding="utf-8")

    assert (FOLDER / name).read_text(encoding="utf-8") == GENERATED[name], "run `python docs/generate.py`"


def test_the_page_has_every_variable_that_is_read() -> None:
    assert environment.read() - environment.described() == set()


def test_every_vagrant_that_a_virtualbox_needs_is_named() -> None:
    page = (FOLDER / "how-to/virtualbox.md").read_text(encoding="utf-8")
    (known,) = (failure for failure in known_failures.table() if failure.id == "virtualbox-version-unknown")
    needed = {version_text(each): version_text(since) for each, since in virtualbox.VAGRANT_SINCE.items()}

    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) or newer \|$", page, re.MULTILINE)
    assert dict(rows) == needed
    # Labs need a Vagrant that has supported the oldest of them for long.
    assert {each for each in needed.items() if not all(text in known.hint for text in each)} == {("7.0", "2.3.2")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_to_files_and_headings(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))

    assert [(name, anchor) for name, anchor in links if not _target_exists(document, name, anchor)] == []


def _target_exists(document: Path, name: str, anchor: str) -> bool:
    target = document.parent / name if name else document
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(path: Path) -> set[str]:
    return {slug(heading) for heading in re.findall("^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)}
