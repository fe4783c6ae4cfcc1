"""The lab's own network in a Docker Engine: labctl creates, labels and removes it.

Vagrant would use any network with the same subnet, and its `destroy` removes every idle network with a name of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from labctl.host.paths import real
from labctl.host.process import check, run
from labctl.model.errors import ProviderError
from labctl.providers.protocol import LAB_LABEL, STATE_LABEL, LabNetwork

ID_LETTERS = 12
"""How many characters of a network's id are in the name of its bridge."""


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A bridge network with the lab's subnet, in the Engine that `environment` names."""

    lab: str
    subnet: IPv4Network
    state: Path
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return the network's name in the Engine; the Vagrantfile uses it as well."""
        return f"labctl-{self.lab}"

    @property
    def owner(self) -> str:
        """Return the value of this lab's STATE_LABEL: its folder without links, as the Vagrantfile sees it."""
        return str(real(self.state))

    def ensure(self) -> bool:
        """Create the network if it is missing; return whether it was created.

        Raises ProviderError `network-not-ours` if a network of that name is not this lab's, and `network-overlap` if
        another network has the subnet.
        """
        description = inspect(self.name, self.environment)
        if description is None:
            given = [f"--label={LAB_LABEL}={self.lab}", f"--label={STATE_LABEL}={self.owner}"]
            gateway = f"--gateway={self.subnet.network_address + 1}"
            line = ["docker", "network", "create", "--driver=bridge", f"--subnet={self.subnet}", gateway, *given]
            check([*line, self.name], env=self.environment)
            return True
        if not self._is_ours(description):
            raise ProviderError(
                f"Docker network {self.name}: it is not this lab's (label {STATE_LABEL}: "
                f"{_labels(description).get(STATE_LABEL, 'none')})",
                id="network-not-ours",
                hint=f"Give this lab another --name, or remove the network: `docker network rm {self.name}`.",
            )
        return False

    def remove(self) -> str:
        """Remove the network; return why it was left, or an empty text."""
        description = inspect(self.name, self.environment)
        if description is None:
            return ""
        if not self._is_ours(description):
            return f"Docker network {self.name} is not this lab's and was left"
        return remove_idle(description, self.environment)

    def described(self) -> LabNetwork | None:
        """Return the network's bridge and the containers in it; None if the network does not exist."""
        description = inspect(self.name, self.environment)
        if description is None:
            return None
        members = (description.get("Containers") or {}).values()
        bridge = f"br-{description['Id'][:ID_LETTERS]}"
        return LabNetwork(bridge, {each["MacAddress"]: f"container {each['Name']}" for each in members})

    def _is_ours(self, description: Mapping[str, Any]) -> bool:
        return _labels(description).get(STATE_LABEL) == self.owner


def inspect(name: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the Engine's description of a network, or None if there is none of that name."""
    listed = check(["docker", "network", "ls", "--format", "{{.Name}}"], env=environment).splitlines()
    if name not in listed:
        return None
    described: list[dict[str, Any]] = json.loads(check(["docker", "network", "inspect", name], env=environment))
    return described[0]


def remove_idle(network: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Remove a network unless containers use it; return why it was left, or an empty text."""
    name = network["Name"]
    if users := sorted(each["Name"] for each in (network.get("Containers") or {}).values()):
        return f"Docker network {name} was left: in use by {', '.join(users)}. Remove it later with `docker network rm {name}`"
    removed = run(["docker", "network", "rm", name], env=environment)
    return "" if removed.code == 0 else f"Docker network {name} was left: {' '.join(removed.last_lines[-1:])}"


def _labels(network: Mapping[str, Any]) -> Mapping[str, str]:
    description: Mapping[str, str] = network.get("Labels") or {}
    return description
