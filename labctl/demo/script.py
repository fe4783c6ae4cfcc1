"""What a demo's file may say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from labctl.demo.placeholders import SAMPLES, checked, filled
from labctl.render.ingress import CONTROLLERS

PROGRAMS = ("labctl", "kubectl")
WITHIN_SECONDS = 30.0
_HOST = re.compile(r"(http://)?([A-Za-z0-9.-]+)/?")
_SERVICE = re.compile(r"[a-z0-9.-]+/[a-z0-9.-]+")


def host(url: str) -> str:
    """The hostname or address in `http://HOST`. Raises ValueError where it is something else."""
    found = _HOST.fullmatch(url)
    if not found:
        raise ValueError("must be http://HOSTNAME, without a port or a path")
    return found[2]


def is_service(text: str) -> bool:
    """Whether this is NAMESPACE/SERVICE."""
    return _SERVICE.fullmatch(text) is not None


def _command(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from error
    if not words or words[0] not in PROGRAMS:
        raise ValueError(f"must begin with {' or '.join(PROGRAMS)}")
    return line


def _url(text: str) -> str:
    host(filled(text, SAMPLES))
    return text


def _service(text: str) -> str:
    if not is_service(filled(text, SAMPLES)):
        raise ValueError("must be NAMESPACE/SERVICE")
    return text


def _owner(text: str) -> str:
    sample = filled(text, SAMPLES)
    if sample in {"any", "none"} or is_service(sample):
        return text
    try:
        IPv4Address(sample)
    except AddressValueError as error:
        raise ValueError("must be an IPv4 address, NAMESPACE/SERVICE, any, or none") from error
    return text


def _controller(name: str) -> str:
    if name not in (names := [controller.name for controller in CONTROLLERS]):
        raise ValueError(f"must be {' or '.join(names)}")
    return name


def _only_its_line(value: object) -> object:
    return {"command": value} if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1), AfterValidator(checked)]
Url = Annotated[Text, AfterValidator(_url)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Command(_Part):
    """A command line, what it reads, and the exit code that it must have."""

    command: Annotated[Text, AfterValidator(_command)]
    input: Text | None = None
    code: Annotated[int, Field(ge=0, le=255)] = 0
    hide: bool = False
    """Whether a recording leaves it out."""


class Traffic(_Part):
    """A client asks for a hostname all the while, from some seconds before the first command to some after the last."""

    hostname: Text
    before: Seconds = 3.0
    after: Seconds = 3.0


class _Polled(_Part):
    within: Seconds = WITHIN_SECONDS


class HttpExpected(_Polled):
    """A GET has this status; if `answered_by` says so, from as many different pods."""

    http: Url
    status: Annotated[int, Field(ge=100, le=599)] = 200
    answered_by: Annotated[int, Field(ge=1, le=50)] | None = None


class AddressExpected(_Polled):
    """A Service has an address: any, this one, that of another Service, or none."""

    address: Annotated[Text, AfterValidator(_service)]
    owned: Annotated[Text, AfterValidator(_owner)] = Field(default="any", alias="is")


class AnnouncerExpected(_Polled):
    """A node announces the ingress controller's address: this one, or another than before (`changed`)."""

    announcer: Text


class NodeExpected(_Polled):
    """A node is Ready, or is not."""

    node: Text
    ready: bool = True


class GapExpected(_Part):
    """No two good answers to the scene's traffic were further apart than this."""

    gap: Seconds


class SecondsExpected(_Part):
    """The scene's commands took no longer than this, all together."""

    seconds: Seconds


KINDS = ("http", "address", "announcer", "node", "gap", "seconds")


def _kind(value: Any) -> str | None:  # noqa: ANN401 - what the file says, or an expectation
    has = type(value).model_fields if isinstance(value, BaseModel) else value
    if not isinstance(has, Mapping):
        return None
    return next((f"({kind})" for kind in KINDS if kind in has), None)


Expectation = Annotated[
    Annotated[HttpExpected, Tag("(http)")]
    | Annotated[AddressExpected, Tag("(address)")]
    | Annotated[AnnouncerExpected, Tag("(announcer)")]
    | Annotated[NodeExpected, Tag("(node)")]
    | Annotated[GapExpected, Tag("(gap)")]
    | Annotated[SecondsExpected, Tag("(seconds)")],
    Discriminator(_kind),
]
CommandOrLine = Annotated[Command, BeforeValidator(_only_its_line)]


class Scene(_Part):
    """One thing that is told, done, and seen to hold."""

    title: Text
    say: Text | None = None
    load: Traffic | None = None
    hide: bool = False
    """Whether a recording leaves it out."""
    run: list[CommandOrLine] = []
    expect: list[Expectation] = []


class Needs(_Part):
    """What a lab must have at least; `replicas` are those of its first app."""

    workers: Annotated[int, Field(ge=0)] = 0
    apps: Annotated[int, Field(ge=0)] = 0
    replicas: Annotated[int, Field(ge=0)] = 0
    addresses: Annotated[int, Field(ge=0)] = 0
    ingress: Annotated[str, AfterValidator(_controller)] | None = None


class Demo(_Part):
    """A demo, as its file describes it."""

    about: Annotated[str, Field(min_length=1)]
    needs: Needs = Needs()
    scenes: Annotated[list[Scene], Field(min_length=1)]
    cleanup: list[CommandOrLine] = []


Polled = HttpExpected | AddressExpected | AnnouncerExpected | NodeExpected
