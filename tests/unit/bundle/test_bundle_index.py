"""Indexes of wheels from the settings of pip and uv, and the files that the pages of an index list."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from labctl.bundle.build.index import SIMPLE, Listed, listed, matches
from labctl.bundle.build.index_settings import DEFAULT_INDEX, index_settings
from labctl.bundle.build.ingredients import Wheel, WheelProgram

SHA = "a" * 64
PROGRAM = WheelProgram(
    "Some.tool-bin", "1.2", "tool", {"amd64": Wheel("manylinux_2_17_x86_64", SHA), "arm64": Wheel("aarch64", "b" * 64)}
)
HOME = {"HOME": "/home/kim"}
USERS = "/home/kim/.config/pip/pip.conf"
FILE = "[global]\nindex-url = https://file.example/simple\n"
PAGE = "https://index.example/simple/some-tool-bin/"


@pytest.mark.parametrize(
    ("environment", "files", "indexes"),
    [
        ({}, {}, [DEFAULT_INDEX]),
        ({"PIP_INDEX_URL": "https://a.example/s"}, {USERS: FILE}, ["https://a.example/s"]),
        ({"UV_INDEX_URL": "https://u.example/s"}, {USERS: FILE}, ["https://u.example/s"]),
        ({"UV_DEFAULT_INDEX": "mine=https://u.example/s"}, {}, ["https://u.example/s"]),
        ({"PIP_INDEX_URL": "https://a.example", "UV_INDEX_URL": "https://u.example"}, {}, ["https://a.example"]),
        ({"PIP_EXTRA_INDEX_URL": "https://a.example https://b.example"}, {}, [DEFAULT_INDEX, "https://a.example", "https://b.example"]),
        ({"UV_INDEX": "x=https://a.example https://b.example"}, {}, [DEFAULT_INDEX, "https://a.example", "https://b.example"]),
        ({}, {USERS: FILE}, ["https://file.example/simple"]),
        ({}, {"/etc/pip.conf": FILE}, ["https://file.example/simple"]),
        ({"XDG_CONFIG_DIRS": ""}, {"/etc/xdg/pip/pip.conf": FILE, "pip/pip.conf": "[global]\nindex-url = x"}, ["https://file.example/simple"]),
        ({"XDG_CONFIG_DIRS": "/c:"}, {"/c/pip/pip.conf": FILE, "pip/pip.conf": "[global]\nindex-url = x"}, ["https://file.example/simple"]),
        ({}, {USERS: "[global]\nindex_url = https://a.example"}, ["https://a.example"]),
        ({}, {"/home/kim/.pip/pip.conf": FILE}, ["https://file.example/simple"]),
        ({}, {f"{sys.prefix}/pip.conf": FILE, USERS: "[global]\nindex-url = x"}, ["https://file.example/simple"]),
        ({"XDG_CONFIG_HOME": "/c"}, {"/c/pip/pip.conf": FILE, USERS: "[global]\nindex-url = x"}, ["https://file.example/simple"]),
        ({"PIP_CONFIG_FILE": "/p"}, {"/p": FILE, USERS: "[global]\nindex-url = x"}, ["https://file.example/simple"]),
        ({"PIP_CONFIG_FILE": "/dev/null"}, {USERS: FILE, "/etc/pip.conf": FILE}, [DEFAULT_INDEX]),
        ({}, {USERS: f"{FILE}[install]\nindex-url = https://install.example"}, ["https://install.example"]),
        ({}, {USERS: "[global]\nextra-index-url =\n  https://a.example\n  https://b.example"}, [DEFAULT_INDEX, "https://a.example", "https://b.example"]),
        ({}, {USERS: "index-url = no section"}, [DEFAULT_INDEX]),
        ({}, {USERS: "[global]\nindex-url = https://a.example/%7Eme"}, ["https://a.example/%7Eme"]),
        ({"PIP_NO_INDEX": "1"}, {USERS: FILE}, []),
        ({}, {USERS: "[global]\nno-index = true"}, []),
    ],
)  # fmt: skip
def test_the_indexes_come_from_the_settings_of_pip_and_uv(
    environment: dict[str, str], files: dict[str, str], indexes: list[str]
) -> None:
    assert list(index_settings({**HOME, **environment}, _reader(files)).indexes) == indexes


@pytest.mark.parametrize(
    ("environment", "files", "verified", "client", "proxy"),
    [
        ({"PIP_CERT": "/a", "SSL_CERT_FILE": "/b"}, {}, "/a", "", ""),
        ({}, {USERS: "[global]\ncert = /a\nclient-cert = /c\nproxy = http://p.example:3128"}, "/a", "/c", "http://p.example:3128"),
        ({"SSL_CERT_FILE": "/a"}, {}, "/a", "", ""),
        ({"REQUESTS_CA_BUNDLE": "/a"}, {}, "/a", "", ""),
        ({"PIP_TRUSTED_HOST": "index.example"}, {}, False, "", ""),
        ({"PIP_TRUSTED_HOST": "index.example:8443"}, {}, False, "", ""),
        ({"UV_INSECURE_HOST": "index.example", "PIP_CERT": "/a"}, {}, False, "", ""),
        ({"PIP_TRUSTED_HOST": "other.example", "PIP_CERT": "/a"}, {}, "/a", "", ""),
    ],
)  # fmt: skip
def test_an_index_is_accessed_with_the_certificates_and_proxy_of_pip_and_uv(
    environment: dict[str, str], files: dict[str, str], verified: str | Literal[False], client: str, proxy: str
) -> None:
    settings = index_settings({**HOME, **environment}, _reader(files))

    assert (settings.verification("index.example:8443"), settings.client_certificate, settings.proxy) == (
        verified,
        client,
        proxy,
    )


def test_certificates_are_verified_by_default() -> None:
    assert index_settings(HOME, _reader({})).verification("pypi.org") is not False


def test_a_distribution_is_searched_in_folders_and_pages_and_by_its_normalised_name() -> None:
    settings = index_settings({"PIP_FIND_LINKS": "/wheels https://a.example/page", **HOME}, _reader({}))

    assert settings.places("Some.tool_bin") == ("/wheels", "https://a.example/page", f"{DEFAULT_INDEX}/some-tool-bin/")


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (
            json.dumps({
                "files": [
                    {"filename": "x-1.whl", "url": "https://files.example/x-1.whl", "hashes": {"sha256": SHA}},
                    {"filename": "y 1.whl", "url": "../../y%201.whl", "hashes": {"md5": "1"}},
                ]
            }),
            SIMPLE,
        ),
        (
            f"""<!DOCTYPE html><a href="https://files.example/x-1.whl#sha256={SHA}">x-1.whl</a>
                <a>none</a><p href="p"></p><A HREF="../../y%201.whl#md5=1">y</A>""",
            "text/html; charset=utf-8",
        ),
    ],
    ids=["json", "html"],
)  # fmt: skip
def test_a_page_lists_files_with_their_addresses_and_checksums(page: str, kind: str) -> None:
    assert list(listed(page, PAGE, kind)) == [
        Listed("x-1.whl", "https://files.example/x-1.whl", SHA),
        Listed("y 1.whl", "https://index.example/y%201.whl", ""),
    ]


@pytest.mark.parametrize(
    ("name", "checksum", "expected"),
    [
        ("whatever.whl", SHA, True),
        ("Some_tool_bin-1.2-py3-none-manylinux_2_17_x86_64.whl", "c" * 64, False),
        ("Some_tool_bin-1.2-py3-none-manylinux_2_17_x86_64.whl", "", True),
        ("Some_tool_bin-1.2-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "", True),
        ("Some_tool_bin-1.2-py3-none-manylinux_2_17_aarch64.whl", "", False),
        ("Some_tool_bin-1.20-py3-none-manylinux_2_17_x86_64.whl", "", False),
        ("Some_tool_bin-1.2.tar.gz", "", False),
        ("other-1.2-py3-none-manylinux_2_17_x86_64.whl", "", False),
    ],
)
def test_a_wheel_is_recognised_by_its_checksum_or_without_one_by_its_name(
    name: str, checksum: str, *, expected: bool
) -> None:  # fmt: skip
    assert matches(Listed(name, "https://x.example", checksum), PROGRAM, "amd64") is expected


def _reader(files: dict[str, str]) -> Callable[[Path], str | None]:
    return lambda path: files.get(str(path))
