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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_to_files_and_headings(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))

    assert [(name, anchor) for name, anchor in links if not _target_exists(document, name, anchor)] == []


def _target_exists(document: Path, name: str, anchor: str) -> bool:
    target = document.parent / name if name else document
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(path: Path) -> set[str]:
    return {slug(heading) for heading in re.findall("^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)}
