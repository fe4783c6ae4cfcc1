"""Errors from the failures of tools. tests/golden/every/test_recorded_failures.py tests every row of the table."""

from __future__ import annotations

import pytest

from labctl.host.known_failures import recognise
from labctl.model.errors import MissingError, ProviderError

UNKNOWN = ProviderError("`tool` ended with exit code 1", id="tool-failed", hint="Look.", details=("last line",))


def test_failures_of_nodes_are_recognised_only_in_the_output_of_a_node() -> None:
    output = "labctl: gave up waiting for the control plane"

    assert recognise(UNKNOWN, output) is UNKNOWN
    assert "labctl ssh demo-worker-1 -- " in recognise(UNKNOWN, output, node="demo-worker-1").hint


def test_both_messages_of_vagrant_on_a_missing_plugin_are_recognised() -> None:
    output = (
        "Vagrant is missing plugins required by the currently loaded Vagrantfile.\n"
        "Please install the configured plugins and run this command again. The\n"
        "following plugins are currently missing:\n\n  sahara\n"
    )
    error = recognise(UNKNOWN, output)

    assert error.id == "vagrant-plugin-missing"
    assert "`vagrant plugin install sahara`" in error.hint


@pytest.mark.parametrize(
    ("output", "identity"),
    [
        ("write /var/lib/x: no space left on device", "disk-full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk-full"),
        (
            "Failed to add /run/systemd/ask-password to watch: inotify_add_watch: No space left on device",
            "inotify-exhausted",
        ),
        ("mkdir /sys/fs/cgroup/memory/docker/1: no space left on device", UNKNOWN.id),
    ],
)
def test_no_space_left_is_a_full_disk_unless_another_kernel_limit_is_meant(output: str, identity: str) -> None:
    assert recognise(UNKNOWN, output).id == identity


def test_an_unknown_failure_is_unchanged() -> None:
    assert recognise(UNKNOWN, "segmentation fault") is UNKNOWN


def test_a_known_failure_keeps_the_error_class_and_the_last_lines_of_the_tool() -> None:
    error = recognise(
        MissingError("`go build` failed", id="tool-failed", details=("link: failed",)), "no space left on device"
    )

    assert isinstance(error, MissingError)
    assert (error.id, error.details) == ("disk-full", ("link: failed",))


def test_the_message_includes_what_the_tool_named() -> None:
    error = recognise(UNKNOWN, "ssh: connect to host 192.168.56.11 port 22: No route to host\r\n")

    assert error.id == "no-route-to-node"
    assert all(each in error.message for each in ("192.168.56.11", "No route to host"))


def test_of_several_failures_the_last_one_in_the_output_counts() -> None:
    survived = "Err:1 Temporary failure resolving 'deb.debian.org'\n"
    reason = "The provider 'docker' that was requested to back the machine\n'a' is reporting that it isn't usable on this system.\n"

    assert recognise(UNKNOWN, survived + "E: Unable to locate package vagrant").id == "package-unknown"
    assert (
        recognise(UNKNOWN, reason + "Stderr: Cannot connect to the Docker daemon at unix:///x. Is").id
        == "engine-unreachable"
    )
