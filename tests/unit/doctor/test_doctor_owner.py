"""Two labs with one name: the owner of containers and namespaces is checked before anything is created."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_machine import run_check

from labctl.context import Context
from labctl.doctor.owner import LISTING
from labctl.isolation import isolation
from labctl.model.errors import ProviderError

CONTROL_PLANE, WORKER = "demo-control-plane", "demo-worker-1"
Row = tuple[str, str, str]


@pytest.mark.parametrize(
    ("rows", "state", "names"),
    [
        ([], "ok", ()),
        ([("aaaa", CONTROL_PLANE, "{folder}"), ("bbbb", WORKER, "")], "ok", ()),
        ([("cccc", "web", "")], "ok", ()),
        ([("cccc", "other-worker-1", "/b/labctl/other")], "ok", ()),
        ([("cccc", WORKER, "/b/labctl/demo")], "broken", ("/b/labctl/demo", "XDG_STATE_HOME=/b ")),
        ([("cccc", WORKER, "")], "broken", (WORKER, f"docker rm --force {WORKER}")),
    ],
    ids=["no container", "its own", "another container", "another lab", "another state folder", "nobody's node"],
)
def test_node_containers_of_another_state_folder_are_reported(
    context: Context, rows: list[Row], state: str, names: tuple[str, ...]
) -> None:
    id_file = context.folder / ".vagrant" / "machines" / WORKER / "docker" / "id"
    id_file.parent.mkdir(parents=True)
    id_file.write_text("bbbb")
    listing = "".join("\t".join(row).format(folder=context.folder) + "\n" for row in rows)

    finding = run_check("owner", context, outputs={" ".join(LISTING): (listing, 0)})

    assert finding.state == state
    assert all(name in finding.observation + finding.fix for name in names)


def test_containers_are_not_checked_if_no_engine_responds(context: Context) -> None:
    finding = run_check("owner", context, outputs={" ".join(LISTING): ("Cannot connect", 1)})

    assert finding.state == "not relevant"


@pytest.mark.parametrize(
    ("owner", "record", "state"),
    [
        (None, None, "ok"),
        ("elsewhere/labctl/demo", "lab.json", "broken"),
        ("elsewhere/labctl/demo", "log", "ok"),
        ("{folder}", "lab.json", "ok"),
    ],
    ids=["no namespace", "another state folder", "a lab that is gone", "its own"],
)
def test_a_namespace_of_another_state_folder_is_reported(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str | None, record: str | None, state: str
) -> None:
    monkeypatch.setattr(isolation, "RUNTIME", tmp_path / "run")
    folder = tmp_path / (owner or "nowhere").format(folder=context.folder)
    if owner and record:
        (tmp_path / "run" / "demo").mkdir(parents=True)
        (tmp_path / "run" / "demo" / "state").write_text(str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / record).write_text("{}")

    finding = run_check("owner", replace(context, isolated=True))

    assert finding.state == state
    assert state == "ok" or str(folder) in finding.observation


def test_without_root_the_owner_of_a_namespace_is_not_checked(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    isolated = replace(context, isolated=True)

    assert run_check("owner", isolated, is_root=False).state == "not relevant"
    with pytest.raises(ProviderError) as raised:
        isolated.isolation.other_owner()
    assert raised.value.id == "namespace-closed"


def test_a_state_folder_with_spaces_is_quoted_in_the_fix(context: Context) -> None:
    rows = f"cccc\t{WORKER}\t/my labs/labctl/demo\n"

    assert "XDG_STATE_HOME='/my labs' labctl" in run_check("owner", context, outputs={" ".join(LISTING): (rows, 0)}).fix
