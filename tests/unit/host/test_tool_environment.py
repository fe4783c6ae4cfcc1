"""The user's environment variables that each program gets from labctl."""

from __future__ import annotations

import pytest

from labctl.host.tool_environment import environment, forget_engine

LEAKS = {
    "VAGRANT_CWD": "/home/user/project",
    "VAGRANT_DOTFILE_PATH": "/home/user/.dot",
    "VAGRANT_VAGRANTFILE": "Other",
    "VAGRANT_DEFAULT_PROVIDER": "libvirt",
    "VAGRANT_EXPERIMENTAL": "typed_triggers",
    "DOCKER_DEFAULT_PLATFORM": "linux/arm64",
    "DOCKER_CONTENT_TRUST": "1",
    "COMPOSE_PROJECT_NAME": "mine",
    "KUBECONFIG": "/home/user/.kube/config",
    "RUBYOPT": "-rbundler/setup",
    "RUBYLIB": "/home/user/lib",
    "GEM_HOME": "/home/user/gems",
    "BUNDLE_GEMFILE": "/home/user/Gemfile",
    "PYTHONPATH": "/home/user/python",
    "PYTHONHOME": "/home/user/python",
    "GOFLAGS": "-mod=vendor",
    "GOROOT": "/home/user/go1.19",
    "GOOS": "windows",
    "GOWORK": "/home/user/go.work",
    "CGO_ENABLED": "1",
    "LD_LIBRARY_PATH": "/home/user/conda/lib",
    "LD_PRELOAD": "/home/user/lib.so",
    "LC_ALL": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "IFS": ":",
    "BASH_ENV": "/home/user/.bashenv",
    "IPTABLES_LIB_DIR": "/home/user",
    "TAR_OPTIONS": "--verbose",
}
ENGINE = {
    "DOCKER_HOST": "tcp://192.0.2.1:2376",
    "DOCKER_CONTEXT": "minikube",
    "DOCKER_TLS": "1",
    "DOCKER_TLS_VERIFY": "1",
    "DOCKER_CERT_PATH": "/nonexistent",
    "DOCKER_CONFIG": "/home/user/.docker",
}
VAGRANT = {"VAGRANT_HOME": "/home/user/.vagrant.d", "VBOX_USER_HOME": "/home/user/.vbox"}
PROXIES = {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "example"}
REGISTRIES = {"GOPROXY": "https://go.example", "PIP_INDEX_URL": "https://pip.example"}
KEPT = {
    "PATH": "/usr/bin",
    "HOME": "/home/user",
    "TMPDIR": "/tmp/user",  # noqa: S108 - a value, not a place
    "SSL_CERT_FILE": "/home/user/ca.pem",
    "SSL_CERT_DIR": "/home/user/certificates",
}
EVERYTHING = {**LEAKS, **ENGINE, **VAGRANT, **PROXIES, **REGISTRIES, **KEPT}
IN_ENGLISH = {"LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize(
    ("program", "passed_on"),
    [
        ("vagrant", {**ENGINE, **VAGRANT}),
        ("docker", ENGINE),
        ("dockerd", {}),
        ("containerd", {}),
        ("ip", {}),
        ("iptables", {}),
        ("ssh", {}),
        ("go", {**PROXIES, "GOPROXY": "https://go.example"}),
        ("apt-get", PROXIES),
        ("mmdebstrap", PROXIES),
    ],
)
def test_a_program_gets_only_the_variables_that_it_needs(program: str, passed_on: dict[str, str]) -> None:
    assert environment(program, {}, EVERYTHING) == {**KEPT, **passed_on, **IN_ENGLISH}


@pytest.mark.parametrize("program", ["vagrant", "docker"])
def test_the_engine_of_an_isolated_lab_overrides_the_users_engine(program: str) -> None:
    labs_engine = {"DOCKER_HOST": "unix:///run/labctl/demo/docker.sock"}

    kept = {**KEPT, **(VAGRANT if program == "vagrant" else {})}
    assert environment(program, labs_engine, EVERYTHING) == {**kept, **labs_engine, **IN_ENGLISH}


def test_variables_of_labctl_override_the_users() -> None:
    assert environment("vagrant", {"VAGRANT_HOME": "/state/demo/vagrant"}, EVERYTHING)["VAGRANT_HOME"] == (
        "/state/demo/vagrant"
    )


def test_forget_engine_removes_all_variables_of_the_engine() -> None:
    users = dict(EVERYTHING)

    forget_engine(users)

    assert users.keys() == EVERYTHING.keys() - ENGINE.keys()
