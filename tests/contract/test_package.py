"""The contents of the wheel and the source distribution of this checkout."""

from __future__ import annotations

import email
import shutil
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import labctl
from labctl import cli
from labctl.cli.man import pages
from labctl.cli.tree import tree
from labctl.host.process import check

CHECKOUT = Path(__file__).parents[2]
DATA = f"labctl_k8s-{labctl.__version__}.data/data/share/man/man1/"
REPOSITORY = "https://git.example/owner/labctl"
DOCUMENTS = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(_build("wheel", CHECKOUT, tmp_path_factory.mktemp("wheel")))


def test_the_wheel_has_every_file_that_labctl_reads(wheel: zipfile.ZipFile) -> None:
    product = {f"labctl/{name}" for name in _files(CHECKOUT / "labctl")}
    templates = {f"labctl/templates/{name}" for name in [*_files(CHECKOUT / "templates"), "Vagrantfile.j2"]}
    manual = {DATA + name for name in pages(tree(cli.app))}

    about = {name for name in wheel.namelist() if ".dist-info/" in name}
    assert set(wheel.namelist()) - about == product | templates | manual
    assert "labctl/py.typed" in product


def test_without_a_repository_the_package_has_no_links(wheel: zipfile.ZipFile) -> None:
    metadata = _metadata(wheel)

    assert metadata["Version"] == labctl.__version__
    assert metadata.get_all("Project-URL") is None
    assert "labctl = labctl.__main__:main" in wheel.read(_dist_info(wheel, "entry_points.txt")).decode()


def test_a_repository_adds_links_to_the_package(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(
        CHECKOUT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "tests", "build", "dist", ".*_cache")
    )
    pyproject = copy / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('\nrepository = ""', f'\nrepository = "{REPOSITORY}/"'))

    links = _metadata(zipfile.ZipFile(_build("wheel", copy, tmp_path))).get_all("Project-URL")

    assert links == [
        f"Repository, {REPOSITORY}",
        f"Issues, {REPOSITORY}/issues",
        f"Changelog, {REPOSITORY}/blob/main/CHANGELOG.md",
    ]


def test_the_source_distribution_has_all_files_for_building_and_testing(tmp_path: Path) -> None:
    with tarfile.open(_build("sdist", CHECKOUT, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {*DOCUMENTS, "pyproject.toml", "Vagrantfile.j2", "docs/man_pages.py", "docs/project_urls.py", ".ci/run"}
    for folder in ("labctl", "templates", "tests", "bench", ".ci", ".github"):
        wanted |= {f"{folder}/{name}" for name in _files(CHECKOUT / folder)}
    assert wanted - names == set()


def _build(target: str, checkout: Path, into: Path) -> Path:
    check([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", into], cwd=checkout)
    return next(path for path in into.iterdir() if path.is_file())


def _files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in paths if "__pycache__" not in path.parts]


def _dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    return next(each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))


def _metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(_dist_info(wheel, "METADATA")))
