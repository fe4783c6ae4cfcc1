"""References and mirrors in the notations that users write."""

from __future__ import annotations

import pytest

from labctl.model.errors import UsageError
from labctl.transfer import mirrors
from labctl.transfer.reference import Reference, parse

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("nginx", Reference("docker.io", "library/nginx")),
        ("nginx:1.29", Reference("docker.io", "library/nginx", "1.29")),
        ("index.docker.io/nginx", Reference("docker.io", "library/nginx")),
        ("traefik/whoami", Reference("docker.io", "traefik/whoami")),
        ("localhost/lab", Reference("localhost", "lab")),
        ("localhost:5000/lab:v1", Reference("localhost:5000", "lab", "v1")),
        ("[::1]:5000/lab:v1", Reference("[::1]:5000", "lab", "v1")),
        ("registry:5000/a/b_c/d__e:V1", Reference("registry:5000", "a/b_c/d__e", "V1")),
        (f"registry.k8s.io/pause:3.10@{DIGEST}", Reference("registry.k8s.io", "pause", "3.10", DIGEST)),
        (f"QUAY.io/metallb/speaker@{DIGEST}", Reference("quay.io", "metallb/speaker", None, DIGEST)),
    ],
)
def test_references_are_parsed_as_docker_parses_them(text: str, reference: Reference) -> None:
    assert parse(text) == reference
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    ["", ":tag", "Nginx", "nginx:", "nginx@sha256:ab", "a//b", "quay.io/", "https://quay.io/a", "a b", "x" * 256],
)
def test_an_invalid_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)

    assert refused.value.id == "reference-invalid"


@pytest.mark.parametrize(
    ("base", "host", "url"),
    [
        ("", "registry.k8s.io", "https://registry.k8s.io/v2/pause"),
        ("", "docker.io", "https://registry-1.docker.io/v2/pause"),
        ("http://10.0.0.5:5000/", "docker.io", "http://10.0.0.5:5000/v2/pause"),
        ("https://mirror.example/k8s", "docker.io", "https://mirror.example/v2/k8s/pause"),
        ("https://mirror.example/repository/v2", "docker.io", "https://mirror.example/repository/v2/pause"),
        ("https://mirror.example/v2/k8s", "docker.io", "https://mirror.example/v2/k8s/pause"),
    ],
)
def test_the_url_of_a_repository_is_below_the_base_url(base: str, host: str, url: str) -> None:
    assert mirrors.parse_mirrors({host: base} if base else {}, "").registry(host, "pause") == url


def test_mirrors_in_the_environment_override_the_configuration() -> None:
    table = {"quay.io": "https://a.example", "dl.k8s.io": "https://a.example/dl/"}

    mirrored = mirrors.parse_mirrors(table, "quay.io=http://[::1]:5000 , docker.io=http://localhost,")

    hosts = ("quay.io", "dl.k8s.io", "docker.io", "registry.k8s.io")
    assert [mirrored.base(host) for host in hosts] == [
        "http://[::1]:5000",
        "https://a.example/dl",
        "http://localhost",
        "https://registry.k8s.io",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "quay.io",
        "=https://a.example",
        "quay.io/metallb=https://a.example",
        "quay.io=a.example",
        "quay.io=ftp://a.example",
        "quay.io=http://a.example",
        "quay.io=http://192.0.2.1.example",
        "quay.io=http://8.8.8.8",
        "quay.io=http://169.254.169.254",
        "quay.io=https://a.example:port",
        "quay.io=https://me:secret@a.example",
        "quay.io=https://a.example?x=1",
    ],
)
def test_an_invalid_mirror_is_refused(entry: str) -> None:
    with pytest.raises(UsageError) as refused:
        mirrors.parse_mirrors({}, entry)

    assert refused.value.id == "mirrors-invalid"
    assert "secret" not in refused.value.message
