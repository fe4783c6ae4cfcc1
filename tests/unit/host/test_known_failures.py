"""Errors from the failures of tools. tests/golden/every/test_recorded_failures.py tests every row of the table."""

from __future__ import annotations

import pytest

from labctl.host.known_failures import recognised
from labctl.model.errors import MissingError, ProviderError

UNKNOWN = ProviderError("`tool` ended with exit code 1", id="tool-failed", hint="Look.", details=("last line",))


def test_what_only_a_node_prints_is_recognised_where_a_node_is_named() -> None:
    output = "labctl: gave up waiting for the control plane"

    assert recognised(UNKNOWN, output) is UNKNOWN
    assert "labctl ssh demo-worker-1 -- " in recognised(UNKNOWN, output, node="demo-worker-1").hint


def test_vagrant_has_two_ways_to_say_that_a_plugin_is_missing() -> None:
    output = (
        "Vagrant is missing plugins required by the currently loaded Vagrantfile.\n"
        "Please install the configured plugins and run this command again. The\n"
        "following plugins are currently missing:\n\n  sahara\n"
    )
    error = recognised(UNKNOWN, output)

    assert error.id == "vagrant-plugin-missing"
    assert "`vagrant plugin install sahara`" in error.hint


@pytest.mark.parametrize(
    ("output", "known"),
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
def test_a_disk_is_not_said_to_be_full_where_the_kernel_has_no_room_for_something_else(output: str, known: str) -> None:
    assert recognised(UNKNOWN, output).id == known


def test_an_unknown_failure_stays_as_it_is() -> None:
    assert recognised(UNKNOWN, "segmentation fault") is UNKNOWN


def test_a_known_failure_keeps_the_exit_code_of_what_was_tried_and_the_tools_last_lines() -> None:
    error = recognised(
        MissingError("`go build` failed", id="tool-failed", details=("link: failed",)), "no space left on device"
    )

    assert isinstance(error, MissingError)
    assert (error.id, error.details) == ("disk-full", ("link: failed",))


def test_the_message_has_what_the_tool_named() -> None:
    error = recognised(UNKNOWN, "ssh: connect to host 192.168.56.11 port 22: No route to host\r\n")

    assert error.message == "the node at 192.168.56.11 is unreachable: No route to host"


def test_of_several_failures_the_one_told_of_last_counts() -> None:
    survived = "Err:1 Temporary failure resolving 'deb.debian.org'\n"
    reason = "The provider 'docker' that was requested to back the machine\n'a' is reporting that it isn't usable on this system.\n"

    assert recognised(UNKNOWN, survived + "E: Unable to locate package vagrant").id == "package-unknown"
    assert (
        recognised(UNKNOWN, reason + "Stderr: Cannot connect to the Docker daemon at unix:///x. Is").id
        == "engine-unreachable"
    )
