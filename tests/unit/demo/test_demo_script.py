"""Files of demos: what is wrong with one, all at once; the names in them; and which one is meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import lab

from labctl.demo import library, placeholders
from labctl.demo.commands import line
from labctl.demo.script import KINDS, AddressExpected, Command, HttpExpected, NodeExpected, host
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
PROBLEMS = [
    "say: is a duplicate key, in lines 24 and 25",
    "scenes[0].title: $nonsense: there is no name $nonsense; known are lab, app,",
    "scenes[0].say: 5: must be text",
    "scenes[0].run[0].command: rm -rf /: must begin with labctl or kubectl",
    "scenes[0].run[1].command: labctl 'oops: cannot be split into words: No closing quotation",
    "scenes[0].run[2].cod: 1: is not a known key here",
    "scenes[0].run[3]: 7: must be keys and values",
    "scenes[0].run[4].command: kubectl get $: has a $ that begins no name",
    "scenes[0].expect[1].http: ftp://x: must be http://HOSTNAME",
    'scenes[0].expect[1].status: "200": must be a whole number',
    "scenes[0].expect[2].address: foo: must be NAMESPACE/SERVICE",
    "scenes[0].expect[3].is: maybe: must be an IPv4 address, NAMESPACE/SERVICE, any, or none",
    "scenes[0].expect[4]: {'what': 3}: must have one of the keys http, address, announcer, node, gap, seconds",
    "scenes[0].expect[5].within: -1: must be at least 0",
    "scenes[0].expect[6]: nothing: must have one of the keys http,",
    "scenes[1].title: is missing",
    "cleanup: kubectl: must be a list",
    "colour: red: is not a known key here",
    "scenes[0].expect[0].gap: 5: needs a `load` in its scene",
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
    """Where the user keeps demos; labctl has one of its own."""
    own, users = home / "own", home / "config" / "labctl" / "demos"
    for folder in (own, users):
        folder.mkdir(parents=True)
    _write(own / "tour.yaml", "The tour")
    monkeypatch.setattr(library, "OWN", own)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return users


def test_everything_that_is_wrong_is_told_at_once_with_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)

    with pytest.raises(UsageError) as caught:
        library.read(path)

    first, *lines = caught.value.message.splitlines()
    assert (first, caught.value.id) == (f"{path}: {len(PROBLEMS)} problems", "demo-invalid")
    for told, begins in zip(lines, PROBLEMS, strict=True):
        assert told.startswith(f"  {begins}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "about: x\nneeds: {ingress: contour}\nscenes: [{title: t}]\n",
            "needs.ingress: contour: must be ingress-nginx or",
        ),
        ("about: x\nneeds: {workers: -1}\nscenes: [{title: t}]\n", "needs.workers: -1: must be at least 0"),
        ("about: x\nneeds: {gpu: 1}\nscenes: [{title: t}]\n", "needs.gpu: 1: is not a known key here"),
        ("about: x\nscenes: [{title: t, hide: 1}]\n", "scenes[0].hide: 1: must be true or false"),
        ("about: x\nscenes: [{title: $gap}]\n", "scenes[0]: $gap: needs a `load` in a scene before it"),
        ("about: x\nscenes: [{title: t, say: $failures, load: {hostname: x}}]\n", "scenes[0]: $failures: needs"),
        (
            "about: x\nscenes: [{title: t, load: {hostname: x}}, {title: $gap}]\ncleanup: [kubectl get $answers]\n",
            "cleanup: $answers: needs",
        ),
        ("about: [", "is not valid YAML: line 1"),
        ("- 1\n", "must be keys and values"),
        ("", "about: is missing"),
        ("about: ''\nscenes: []\n", "scenes: []: must have at least one"),
        ("about: x\nscenes: 3\n", "scenes: 3: must be a list"),
        ("about: x\nscenes: [3, {title: t, expect: 3}]\n", "scenes[1].expect: 3: must be a list"),
        ("about: x\nscenes: [{title: t, run: ['']}]\n", "scenes[0].run[0].command: '': must not be empty"),
        ("about: x\nscenes: [{title: t, run: ['#']}]\n", "scenes[0].run[0].command: #: must begin with labctl or"),
        ("about: x\nscenes: [{title: t, load: {}}]\n", "scenes[0].load.hostname: is missing"),
    ],
)
def test_a_file_that_is_no_demo_is_told_of(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    path.write_text(text)

    with pytest.raises(UsageError, match="problem") as caught:
        library.read(path)

    assert told in caught.value.message
    assert caught.value.id == "demo-invalid"


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot read the demo {tmp_path}: it is a folder") as caught:
        library.read(tmp_path)

    assert caught.value.id == "demo-invalid"


def test_a_demo_can_say_all_this(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE)

    script = library.read(path)

    scene = script.demo.scenes[0]
    assert (script.name, script.demo.about) == ("whole", "Everything that a demo can say.")
    assert scene.run == [
        Command(command="labctl hosts show"),
        Command(command="kubectl apply -f -", input="kind: ${lab}\n", code=1, hide=True),
    ]
    http, *addresses, _announcer, node, _gap, _seconds = scene.expect
    assert http == HttpExpected(http="$url", status=200, answered_by=3, within=10)
    assert [each.owned for each in addresses if isinstance(each, AddressExpected)] == ["any", "$address", "none", "c/d"]
    assert node == NodeExpected(node="$announcer", ready=False, within=30)
    assert scene.load is not None
    assert (scene.load.before, scene.load.after) == (1, 3)
    assert placeholders.used(script.demo.model_dump()) == {"app", "hostname", "lab", "url", "address", "announcer"}


# Names


def test_names_stand_for_what_the_lab_is() -> None:
    values = placeholders.fixed(lab(), frozenset({"app"}))

    assert placeholders.filled(
        "$lab $app $hostname $url $control_plane ${pool}: $pool_first to $pool_last, $$", values
    ) == (
        "demo my-app my-app.local http://my-app.local demo-control-plane "
        "192.168.56.100-192.168.56.110: 192.168.56.100 to 192.168.56.110, $"
    )
    assert set(values) | placeholders.LIVE | placeholders.MEASURED == set(placeholders.SAMPLES)


def test_a_demo_about_an_app_needs_one_and_others_do_not() -> None:
    empty = lab(apps=[])

    assert "app" not in placeholders.fixed(empty, frozenset({"lab"}))
    with pytest.raises(UsageError) as caught:
        placeholders.fixed(empty, frozenset({"url"}))
    assert caught.value.id == "no-app"


def test_a_command_is_words_and_a_value_is_never_more_than_one() -> None:
    values = {"lab": "demo", "app": "a b; rm 'c"}

    made = line(Command(command="kubectl get 'pod x' $app"), values, Path("own"))
    ours = line(Command(command="labctl app add $app", input="$app", code=8), values, Path("own"))

    assert made.arguments == ("kubectl", "get", "pod x", "a b; rm 'c")
    assert (made.input, made.code) == (None, 0)
    assert ours.arguments[1:] == ("-P", "-m", "labctl", "--name", "demo", "app", "add", "a b; rm 'c")
    assert made.folder == ours.folder == Path("own")
    assert (ours.shown, ours.input, ours.code) == ("labctl app add a b; rm 'c", "a b; rm 'c", 8)


@pytest.mark.parametrize("url", ["http://my-app.local", "http://my-app.local/", "my-app.local"])
def test_a_host_is_the_name_in_the_url(url: str) -> None:
    assert host(url) == "my-app.local"


# Which demo


def test_demos_are_labctls_own_and_the_users(demos: Path) -> None:
    _write(demos / "mine.yaml", "Mine")

    assert library.listed() == [
        {"demo": "mine", "about": "Mine", "file": str(demos / "mine.yaml")},
        {"demo": "tour", "about": "The tour", "file": None},
    ]


def test_the_users_demo_takes_the_place_of_labctls(demos: Path) -> None:
    assert library.find("tour").demo.about == "The tour"

    _write(demos / "tour.yaml", "My tour")

    assert library.find("tour").demo.about == "My tour"
    assert [row["about"] for row in library.listed()] == ["My tour"]


@pytest.mark.usefixtures("demos")
@pytest.mark.parametrize("name", ["here.yaml", "./here.yaml", "./here.yml", "./here"])
def test_a_file_is_named_by_its_slash_or_its_ending(name: str) -> None:
    _write(Path(name), "Here")

    assert library.find(name).demo.about == "Here"


@pytest.mark.usefixtures("demos")
@pytest.mark.parametrize("name", ["fly", "fly.yaml", "./fly", "../own/fly"])
def test_a_demo_that_there_is_not_names_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=f"there is no demo {name}") as caught:
        library.find(name)

    assert caught.value.id == "demo-unknown"
    assert "There are: tour" in caught.value.hint


def test_every_demo_of_labctl_itself_is_right() -> None:
    paths = list(library.OWN.glob("*"))

    assert len(paths) >= 5
    for path in paths:
        assert library.read(path).name == path.stem


def test_the_demo_in_the_docs_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "demos.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")

    assert len(library.read(tmp_path / "example.yaml").demo.scenes[0].expect) == len(KINDS)


def _write(path: Path, about: str) -> None:
    path.write_text(f"about: {about}\nscenes:\n  - title: One\n")
