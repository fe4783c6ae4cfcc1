"""Files of demos: all problems of one at once, the names in them, and finding one by its name."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from fakes import lab
from golden_files import Golden

from labctl.demo import names, script
from labctl.demo.expect import KINDS, Address, Http, Node
from labctl.demo.script import Command
from labctl.model.errors import UsageError

WRONG = """\
about: hi
colour: red
scenes:
  - title: $nonsense
    say: 5
    run:
      - rm -rf /
      - labctl 'oops
      - command: kubectl get pods
        cod: 1
      - 7
      - kubectl get $
    expect:
      - gap: 5
      - http: ftp://x
        status: "200"
      - address: foo
      - address: a/b
        is: maybe
      - what: 3
      - node: $control_plane
        within: -1
      - nothing
  - say: x
    say: y
cleanup: kubectl
"""
WRONG_KEYS = [
    "say",
    "scenes[0].title",
    "scenes[0].say",
    "scenes[0].run[0].command",
    "scenes[0].run[1].command",
    "scenes[0].run[2].cod",
    "scenes[0].run[3]",
    "scenes[0].run[4].command",
    "scenes[0].expect[1].http",
    "scenes[0].expect[1].status",
    "scenes[0].expect[2].address",
    "scenes[0].expect[3].is",
    "scenes[0].expect[4]",
    "scenes[0].expect[5].within",
    "scenes[0].expect[6]",
    "scenes[1].title",
    "cleanup",
    "colour",
]
WHOLE = """\
about: Everything that a demo can say.
needs: {workers: 1, apps: 1, replicas: 2, addresses: 4, ingress: traefik}
scenes:
  - title: Everything about $app
    say: |
      It costs $$5.

      And more.
    load:
      hostname: $hostname
      before: 1
    run:
      - labctl hosts show
      - command: kubectl apply -f -
        input: |
          kind: ${lab}
        code: 1
        hide: true
    expect:
      - http: $url
        answered_by: 3
        within: 10
      - address: default/$app
      - address: default/$app
        is: $address
      - address: default/$app
        is: none
      - address: a/b
        is: c/d
      - announcer: changed
      - node: $announcer
        ready: false
      - gap: 6
      - seconds: 30.5
cleanup:
  - kubectl delete service x --ignore-not-found
"""


@pytest.fixture
def demos(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's demos; labctl has one built-in demo."""
    own, users = home / "own", home / "config" / "labctl" / "demos"
    for folder in (own, users):
        folder.mkdir(parents=True)
    _write_demo(own / "tour.yaml", "The tour")
    monkeypatch.setattr(script, "OWN_DEMOS", own)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return users


def test_all_problems_are_reported_at_once_with_their_keys(tmp_path: Path, golden: Golden) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)

    with pytest.raises(UsageError) as caught:
        script.read(path)

    _, *lines = caught.value.message.splitlines()
    assert caught.value.id == "demo-invalid"
    assert [line.split(":")[0].strip() for line in lines] == WRONG_KEYS
    golden(caught.value.message)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("about: x\nneeds: {ingress: contour}\nscenes: [{title: t}]\n", "needs.ingress: contour"),
        ("about: x\nneeds: {workers: -1}\nscenes: [{title: t}]\n", "needs.workers: -1"),
        ("about: x\nneeds: {gpu: 1}\nscenes: [{title: t}]\n", "needs.gpu: 1"),
        ("about: x\nscenes: [{title: t, hide: 1}]\n", "scenes[0].hide: 1"),
        ("about: x\nscenes: [{title: $gap}]\n", "$gap"),
        ("about: x\nscenes: [{title: t, say: $failures, load: {hostname: x}}]\n", "$failures"),
        (
            "about: x\nscenes: [{title: t, load: {hostname: x}}, {title: $gap}]\ncleanup: [kubectl get $answers]\n",
            "$answers",
        ),
        ("about: x\nscenes: [{title: t, expect: [{gap: 5}]}]\n", "scenes[0]"),
        ("about: [", "is not valid YAML: line 1"),
        ("- 1\n", ""),
        ("", "about"),
        ("about: ''\nscenes: []\n", "scenes"),
        ("about: x\nscenes: 3\n", "scenes: 3"),
        ("about: x\nscenes: [3, {title: t, expect: 3}]\n", "scenes[1].expect: 3"),
        ("about: x\nscenes: [{title: t, run: ['']}]\n", "scenes[0].run[0].command: ''"),
        ("about: x\nscenes: [{title: t, run: ['#']}]\n", "scenes[0].run[0].command: #"),
        ("about: x\nscenes: [{title: t, load: {}}]\n", "scenes[0].load.hostname"),
        ("about: x\nscenes: [{title: t, expect: [{address: a/b, is: 256.0.0.1}]}]\n", "scenes[0].expect[0].is"),
        ("about: x\nscenes: [{title: t, expect: [{http: http://$url}]}]\n", "scenes[0].expect[0].http"),
    ],
    ids=itertools.count(1),
)
def test_an_invalid_demo_is_refused_with_its_wrong_key(text: str, key: str, tmp_path: Path, golden: Golden) -> None:
    path = tmp_path / "no.yaml"
    path.write_text(text)

    with pytest.raises(UsageError, match="problem") as caught:
        script.read(path)

    assert caught.value.id == "demo-invalid"
    assert f"  {key}" in caught.value.message
    golden(caught.value.message)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        script.read(tmp_path)

    assert caught.value.id == "demo-invalid"


def test_every_key_of_a_demo_is_read(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE)

    whole = script.read(path)

    scene = whole.demo.scenes[0]
    assert (whole.name, whole.demo.about) == ("whole", "Everything that a demo can say.")
    assert scene.run == [
        Command(command="labctl hosts show"),
        Command(command="kubectl apply -f -", input="kind: ${lab}\n", code=1, hide=True),
    ]
    http, *addresses, _announcer, node, _gap, _seconds = scene.expect
    assert http == Http(http="$url", status=200, answered_by=3, within=10)
    assert [each.owner for each in addresses if isinstance(each, Address)] == ["any", "$address", "none", "c/d"]
    assert node == Node(node="$announcer", ready=False, within=30)
    assert scene.load is not None
    assert (scene.load.before, scene.load.after) == (1, 3)
    assert names.names_in(whole.demo) == {"app", "hostname", "lab", "url", "address", "announcer"}


# Names


def test_names_are_replaced_by_values_of_the_lab() -> None:
    values = names.lab_values(lab())

    assert names.fill("$lab $app $hostname $url $control_plane ${pool}: $pool_first to $pool_last, $$", values) == (
        "demo my-app my-app.local http://my-app.local demo-control-plane "
        "192.168.56.100-192.168.56.110: 192.168.56.100 to 192.168.56.110, $"
    )
    assert set(values) | names.LIVE | names.MEASURED == set(names.SAMPLES)
    assert set(values) - set(names.lab_values(lab(apps=[]))) == names.APP_NAMES


def test_names_are_replaced_in_texts_only() -> None:
    command = Command(command="kubectl get $app", input="$$", code=8, hide=True)

    assert command.filled({"app": "x"}) == Command.model_construct(
        command="kubectl get x", input="$", code=8, hide=True
    )


# Finding a demo


def test_builtin_and_user_demos_are_listed(demos: Path) -> None:
    _write_demo(demos / "mine.yaml", "Mine")

    assert script.list_demos()["demos"] == [
        {"demo": "mine", "about": "Mine", "file": str(demos / "mine.yaml")},
        {"demo": "tour", "about": "The tour", "file": None},
    ]


def test_a_user_demo_overrides_a_builtin_demo(demos: Path) -> None:
    assert script.find("tour").demo.about == "The tour"

    _write_demo(demos / "tour.yaml", "My tour")

    assert script.find("tour").demo.about == "My tour"
    assert [row["about"] for row in script.list_demos()["demos"]] == ["My tour"]


@pytest.mark.usefixtures("demos")
@pytest.mark.parametrize("name", ["here.yaml", "./here.yaml", "./here.yml", "./here"])
def test_a_name_with_a_slash_or_yaml_suffix_is_a_file(name: str) -> None:
    _write_demo(Path(name), "Here")

    assert script.find(name).demo.about == "Here"


@pytest.mark.usefixtures("demos")
@pytest.mark.parametrize("name", ["fly", "fly.yaml", "./fly", "../own/fly"])
def test_an_unknown_demo_lists_the_existing_ones(name: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        script.find(name)

    assert caught.value.id == "demo-unknown"
    assert "Demos: tour" in caught.value.hint


def test_every_builtin_demo_is_valid() -> None:
    paths = list(script.OWN_DEMOS.glob("*"))

    assert len(paths) >= 5
    for path in paths:
        assert script.read(path).name == path.stem


def test_the_demo_in_the_docs_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "demos.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")

    assert len(script.read(tmp_path / "example.yaml").demo.scenes[0].expect) == len(KINDS)


def _write_demo(path: Path, about: str) -> None:
    path.write_text(f"about: {about}\nscenes:\n  - title: One\n")
