"""Demos played: what is run in which order, what ends them, and what is left to be cleaned up."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import ADDRESS, FakeCluster, FakeProvider, set_limits, with_doors
from golden_files import Golden

from labctl import cli
from labctl.commands import labs
from labctl.context import Context
from labctl.demo import names
from labctl.demo import play as playing
from labctl.demo.play import DemoIO
from labctl.host import http_load
from labctl.host.http_probe import Answer
from labctl.host.process import Finished
from labctl.model.errors import ProviderError, Terminated

Demo = Mapping[str, Any]
Run = Callable[..., int]
GOOD = Answer(200, "my-app-1")
SEEN = "http://my-app.local answers 200 within 30 s"


@dataclass
class World:
    """Runs nothing, notes what it would have run, and plays what happens meanwhile."""

    context: Context
    cluster: FakeCluster
    now: float = 0.0
    ran: list[str] = field(default_factory=list)
    """Commands as the user would type them."""
    words: list[Sequence[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    """The exit code of a command, if it is not 0."""
    during: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What happens while a command runs."""
    answer: Answer = GOOD

    def start(
        self,
        words: Sequence[str],
        _input: str | None,
        environment: Mapping[str, str],
        folder: Path,
        on_line: Callable[[str], None],
    ) -> Finished:
        assert list(folder.iterdir()) == []
        prefix, labctl = list(words[:6]), [sys.executable, "-P", "-m", "labctl", "--name", "demo"]
        shown = " ".join(["labctl", *words[6:]] if prefix == labctl else words)
        self.ran.append(shown)
        self.words.append(words)
        self.environments.append(environment)
        self.now += 0.5
        self.during.get(shown, lambda: None)()
        on_line(f"said by {shown}")
        return Finished(self.codes.get(shown, 0), "", (f"said by {shown}",))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def doors(self, environment: Mapping[str, str], **_doors: object) -> DemoIO:
        return DemoIO(environment, self.start, lambda _name: self.answer, lambda: self.now, self.sleep)

    def announced(self, node: str) -> None:
        service = {"serviceNamespace": "ingress-nginx", "serviceName": "ingress-nginx-controller"}
        self.cluster.put(
            "metallb.io/v1beta1", "ServiceL2Status", "l2-1", "metallb-system", status={"node": node, **service}
        )

    def addressed(self, address: str = ADDRESS) -> None:
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        self.cluster.put("v1", "Service", "ingress-nginx-controller", "ingress-nginx", spec={}, status=status)


@pytest.fixture
def world(context: Context, cluster: FakeCluster, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> World:
    """The lab is up, and this process is in its network."""
    made = World(context, cluster)
    provider.nodes |= {node.name for node in context.lab.nodes}
    monkeypatch.setattr(labs, "entered", lambda _options: context)
    monkeypatch.setattr(playing, "DemoIO", made.doors)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(context.folder / "config"))
    return made


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command line in this process and returns its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def play(world: World, labctl: Run, home: Path) -> Callable[..., int]:
    """Plays a demo with these scenes and this cleanup; returns the exit code."""

    def run(demo: Demo, *options: str) -> int:
        assert world.context.lab.name == "demo"
        (home / "tour.yaml").write_text(yaml.safe_dump({"about": "The tour", **demo}))
        return labctl("demo", "run", "tour.yaml", *options)

    return run


def interrupt() -> None:
    raise KeyboardInterrupt


def scenes(*scenes: Mapping[str, Any], cleanup: tuple[str, ...] = ()) -> Demo:
    named = [{"title": f"Scene {number}", **scene} for number, scene in enumerate(scenes, start=1)]
    return {"scenes": named, "cleanup": list(cleanup)}


# The course of a demo


def test_scenes_and_cleanup_are_run_in_order(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    demo = scenes(
        {"say": "The lab is $lab.", "run": ["kubectl get nodes", "labctl hosts show"], "expect": [{"http": "$url"}]},
        {"run": [{"command": "labctl trace", "code": 8}]},
        cleanup=("kubectl delete pod $app", "labctl up"),
    )
    world.codes["labctl trace"] = 8

    assert play(demo) == 0

    assert world.ran == [
        "kubectl get nodes",
        "labctl hosts show",
        "labctl trace",
        "kubectl delete pod my-app",
        "labctl up",
    ]
    assert world.environments[0]["KUBECONFIG"] == str(world.context.folder / "kubeconfig")
    out, err = capsys.readouterr()
    assert err == ""
    golden(out)


def test_a_value_is_never_more_than_one_word(play: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "of_lab", lambda _lab: {"lab": "demo", "app": "a b; rm 'c"})

    assert play(scenes({"run": ["kubectl get 'pod x' $app"]})) == 0

    assert world.words == [["kubectl", "get", "pod x", "a b; rm 'c"]]


def test_an_expectation_that_is_not_met_ends_the_demo_and_cleans_up(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.answer = Answer(503)
    demo = scenes(
        {"expect": [{"http": "$url", "within": 1}, {"seconds": 1}]},
        {"run": ["labctl status"]},
        cleanup=("labctl up",),
    )

    assert play(demo) == 8

    assert world.ran == ["labctl up"]
    out, err = capsys.readouterr()
    golden({"stdout": out, "stderr": err})


@pytest.mark.parametrize(("wanted", "code"), [(0, 1), (8, 0)])
def test_another_exit_code_than_expected_ends_the_demo(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden, wanted: int, code: int
) -> None:
    world.codes["labctl trace"] = code

    assert play(scenes({"run": [{"command": "labctl trace", "code": wanted}, "kubectl get pods"]})) == 8

    assert world.ran == ["labctl trace"]
    err = capsys.readouterr().err
    golden(err)


def test_a_cleanup_that_fails_fails_the_demo_and_the_rest_of_it_is_done(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.codes["kubectl delete pod x"] = 1

    assert play(scenes({}, cleanup=("kubectl delete pod x", "labctl up"))) == 8

    assert world.ran == ["kubectl delete pod x", "labctl up"]
    golden(capsys.readouterr().err)


def test_all_that_failed_is_told_in_one_error(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.codes = {"labctl trace": 1, "kubectl delete pod x": 1}

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("kubectl delete pod x",))) == 8

    golden(capsys.readouterr().err)


def test_a_program_that_is_not_there_ends_the_demo_with_its_own_code(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    def missing() -> None:
        raise ProviderError("cannot run kubectl", id="tool-not-started")

    world.during["kubectl get pods"] = missing

    assert play(scenes({"run": ["kubectl get pods"]}, cleanup=("labctl up",))) == 4

    assert world.ran[-1] == "labctl up"
    golden(capsys.readouterr().err)


def test_ctrl_c_ends_the_demo_and_cleans_up(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.during["labctl trace"] = interrupt

    assert play(scenes({"run": ["labctl trace", "kubectl get pods"]}, {}, cleanup=("labctl up",))) == 130

    assert world.ran == ["labctl trace", "labctl up"]
    err = capsys.readouterr().err
    golden(err)


def test_another_ctrl_c_ends_cleaning_up(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.during = {"labctl trace": interrupt, "labctl up": interrupt}

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up", "labctl status"))) == 130

    assert world.ran == ["labctl trace", "labctl up"]
    golden(capsys.readouterr().err)


def test_a_terminated_demo_cleans_up_as_well(play: Run, world: World) -> None:
    def terminate() -> None:
        raise Terminated

    world.during["labctl trace"] = terminate

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up",))) == 143
    assert world.ran == ["labctl trace", "labctl up"]


def test_an_error_of_labctls_own_does_not_keep_it_from_cleaning_up(play: Run, world: World) -> None:
    world.during["labctl trace"] = partial(int, "x")

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up",))) == 1
    assert world.ran == ["labctl trace", "labctl up"]


# Names


def test_live_names_are_those_of_the_moment_the_scene_begins(play: Run, world: World) -> None:
    world.announced("demo-worker-1")
    world.addressed()
    world.during["labctl halt demo-worker-1"] = lambda: world.announced("demo-control-plane")
    demo = scenes(
        {"run": ["labctl halt $announcer", "kubectl get node $announcer"], "expect": [{"announcer": "changed"}]},
        {"title": "Now $announcer, then $standby", "run": ["kubectl get node $announcer", "kubectl get svc $address"]},
        cleanup=("labctl ssh $announcer",),
    )

    assert play(demo) == 0

    assert world.ran == [
        "labctl halt demo-worker-1",
        "kubectl get node demo-worker-1",
        "kubectl get node demo-control-plane",
        f"kubectl get svc {ADDRESS}",
        "labctl ssh demo-worker-1",
    ]


def test_changed_is_told_by_who_announced_when_the_scene_began(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.announced("demo-worker-1")

    assert play(scenes({"expect": [{"announcer": "changed", "within": 1}]})) == 8

    golden(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("demo", "where"),
    [
        (scenes({"say": "$address"}, cleanup=("labctl up",)), "scene 1"),
        (scenes({"run": ["labctl up"]}, cleanup=("labctl ssh $announcer",)), "before its first scene"),
    ],
)
def test_a_name_that_stands_for_nothing_fails_the_demo_in_time(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden, demo: Demo, where: str
) -> None:
    assert play(demo) == 8

    golden(capsys.readouterr().err)
    assert 30 <= world.now < 32
    assert world.ran == (["labctl up"] if where == "scene 1" else [])


def test_a_demo_is_refused_where_the_bundle_with_its_kubectl_is_gone(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    gone = replace(world.context, bundle_folder=home / "gone")
    vars(gone).update(provider=world.context.provider, cluster=world.context.cluster)
    monkeypatch.setattr(labs, "entered", lambda _options: gone)

    assert play(scenes({"run": ["kubectl get pods"]}), "-o", "json") == 3

    assert json.loads(capsys.readouterr().out)["error"]["id"] == "bundle-not-found"
    assert world.ran == []


def test_a_demo_about_an_app_is_refused_where_there_is_none(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = world.context
    without = replace(context, lab=replace(context.lab, apps=()))
    with_doors(without, context.provider, context.cluster, context.bundle)
    monkeypatch.setattr(labs, "entered", lambda _options: without)

    assert play(scenes({"run": ["labctl open $hostname"]}, cleanup=("labctl up",))) == 2

    golden(capsys.readouterr().err)
    assert world.ran == []


@pytest.mark.parametrize(
    ("needs", "commands"),
    [
        ({"workers": 3}, ["up --workers 3"]),
        ({"apps": 3}, ["app add app-1", "app add app-2"]),
        ({"replicas": 4}, ["up"]),
        ({"addresses": 12}, ["up"]),
        ({"ingress": "ingress-nginx"}, ["up --ingress ingress-nginx"]),
        ({"workers": 2, "replicas": 3, "addresses": 99}, ["up --workers 2", "up"]),
    ],
    ids=" ".join,
)
def test_a_demo_that_does_not_fit_the_lab_says_so_and_nothing_is_run_or_written(
    needs: Mapping[str, Any],
    commands: list[str],
    play: Run,
    world: World,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    golden: Golden,
) -> None:
    demo = {"needs": needs, **scenes({"run": ["labctl up"]}, cleanup=("labctl up",))}

    assert play(demo, "-o", "json", "--record", "a.cast") == 2

    error = json.loads(capsys.readouterr().out)["error"]
    assert error["id"] == "demo-does-not-fit"
    assert error["hint"].splitlines()[1:] == [f"labctl --name demo {command}" for command in commands]
    golden(error["message"])
    assert (world.ran, list(home.glob("a.*"))) == ([], [])


def test_a_demo_is_played_in_a_lab_that_has_what_it_needs(play: Run, world: World) -> None:
    needs = {"workers": 1, "apps": 1, "replicas": 2, "addresses": 11, "ingress": "traefik"}

    assert play({"needs": needs, **scenes({"run": ["labctl up"]})}) == 0
    assert world.ran == ["labctl up"]


def test_a_halted_lab_is_said_to_be_one_before_anything_is_run(
    play: Run, world: World, provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.nodes.clear()

    assert play(scenes({"run": ["labctl up"]}), "-o", "json", "--record", "a.cast") == 3

    assert json.loads(capsys.readouterr().out)["error"]["id"] == "lab-not-running"
    assert world.ran == []


def test_what_is_hidden_is_run_and_not_recorded(
    play: Run, world: World, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = {"command": "kubectl get secrets", "hide": True}
    demo = scenes({"run": [secret, "labctl up"]}, {"run": ["labctl status"], "hide": True})

    assert play({**demo, "cleanup": [{"command": "labctl trace", "hide": True}]}, "--record", "a.cast") == 0

    lines = [json.loads(line) for line in (home / "a.cast").read_text().splitlines()[1:]]
    recorded = "".join(text for _, _, text in lines)
    out = capsys.readouterr().out
    assert world.ran == ["kubectl get secrets", "labctl up", "labctl status", "labctl trace"]
    assert "said by labctl up" in recorded
    hidden = ("get secrets", "Scene 2", "labctl status", "Cleaning up", "labctl trace")
    assert [each for each in hidden if each in recorded] == []
    assert [each for each in hidden if each not in out] == []


# Traffic


def test_what_is_said_after_it_has_its_figures(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_real_time(monkeypatch, world)
    traffic = {"hostname": "$hostname", "before": 0.02, "after": 0.02}
    told = {"title": "After $gap", "say": "It saw $answers and $failures."}

    assert play(scenes({"load": traffic, "run": ["labctl up"]}, told, told), "-o", "json") == 0

    seen, *others = json.loads(capsys.readouterr().out)["scenes"]
    load = seen["load"]
    assert {other["title"] for other in others} == {f"After {load['gap']:.1f} s"}
    assert {other["say"] for other in others} == {f"It saw {load['answers']} good answers and 0 failures."}


def test_a_client_asks_while_the_scene_is_played(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _in_real_time(monkeypatch, world)
    world.during["labctl up"] = lambda: [asked.acquire(timeout=60) for _ in range(4)]
    traffic = {"hostname": "$hostname", "before": 0.02, "after": 0.02}

    assert play(scenes({"load": traffic, "run": ["labctl up"], "expect": [{"gap": 5}]}), "-o", "json") == 0

    out, err = capsys.readouterr()
    seen = json.loads(out)["scenes"][0]
    assert seen["load"]["hostname"] == "my-app.local"
    assert seen["load"]["answers"] >= 3
    assert seen["load"]["first_command"] >= 0.02
    text = seen["expectations"][0]["text"]
    assert err.index("0 failures") < err.index(text)
    golden(text)


def test_a_gap_that_is_too_long_fails_the_demo(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_real_time(monkeypatch, world)

    def away() -> None:
        world.answer = Answer(503)
        threading.Event().wait(0.06)
        world.answer = Answer(200)

    world.during["kubectl delete pod x"] = away
    traffic = {"hostname": "$hostname", "before": 0, "after": 0}
    demo = scenes({"load": traffic, "run": ["kubectl delete pod x"], "expect": [{"gap": 0.03}, {"seconds": 10}]})

    assert play(demo) == 8

    out, err = capsys.readouterr()
    assert "never without a good answer for more than 0.03 s; measured: " in err
    assert out.index("✓ the commands take at most 10 s") < out.index("✗ http://my-app.local is never without")


def test_commands_that_take_too_long_fail_the_demo(
    play: Run, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    assert play(scenes({"run": ["labctl up", "labctl status"], "expect": [{"seconds": 0.9}]})) == 8

    golden(capsys.readouterr().err)


def test_a_site_that_does_not_answer_fails_the_demo_and_its_numbers_are_told(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_real_time(monkeypatch, world)
    set_limits(monkeypatch, http_good=0.02)
    world.answer = Answer(503)

    assert play(scenes({"load": {"hostname": "$hostname", "before": 0.01}, "run": ["labctl up"]})) == 8

    out, err = capsys.readouterr()
    assert "scene 1, Scene 1: timed out after 0 s waiting for http://my-app.local: HTTP 503" in err
    assert "0 good answers" in out
    assert world.ran == []


# Streams


def test_json_is_one_document_and_progress_is_plain_text_beside_it(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    assert play(scenes({"run": ["labctl up"], "expect": [{"http": "$url"}]}, cleanup=("labctl status",)), "-ojson") == 0

    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "version": 1,
        "demo": "tour",
        "lab": "demo",
        "ok": True,
        "seconds": 1.0,
        "scenes": [
            {
                "title": "Scene 1",
                "say": None,
                "ok": True,
                "seconds": 0.5,
                "commands": [{"command": "labctl up", "code": 0, "seconds": 0.5}],
                "expectations": [
                    {"text": SEEN, "ok": True, "measured": "HTTP 200 from pod my-app-1", "seconds": 0.0},
                ],
                "load": None,
            }
        ],
        "cleanup": [{"command": "labctl status", "code": 0, "seconds": 0.5}],
        "error": None,
    }
    golden(err)
    assert world.environments[0].get("FORCE_COLOR") is None


def test_a_demo_that_failed_has_its_error_in_the_document(
    play: Run, world: World, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.codes["labctl up"] = 6

    assert play(scenes({"run": ["labctl up"]}, {}), "-o", "json", "-q") == 8

    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["ok"], [scene["ok"] for scene in document["scenes"]]) == (False, [False])
    assert document["error"]["id"] == "demo-failed"
    assert document["error"]["details"] == ["said by labctl up"]
    golden(document["error"])
    assert err == ""


def test_an_interrupted_command_has_no_exit_code(play: Run, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.during["labctl up"] = interrupt

    assert play(scenes({"run": ["labctl up"]}), "-o", "json") == 130

    document = json.loads(capsys.readouterr().out)
    assert document["scenes"][0]["commands"] == [{"command": "labctl up", "code": None, "seconds": 0.5}]
    assert document["error"]["id"] == "interrupted"


def test_quiet_says_how_it_ended_and_nothing_else(
    play: Run, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    assert play(scenes({"run": ["labctl up"]}), "-q") == 0

    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    golden(out)


def test_a_terminal_is_asked_between_scenes_and_nothing_else_is(
    play: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stdout = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("\n\n\n"))
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("TERM", "xterm")

    assert play(scenes({"run": ["labctl up"]}, {}, {})) == 0

    assert stdout.getvalue().count("Press Enter to continue, Ctrl-C to end") == 2
    assert sys.stdin.read() == "\n"
    assert world.environments[0]["FORCE_COLOR"] == "1"


# Recording


@pytest.mark.parametrize(("during", "code"), [(lambda: None, 0), (interrupt, 130)])
def test_a_recording_and_a_report_are_written_however_the_demo_ends(
    labctl: Run,
    world: World,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    during: Callable[[], None],
    code: int,
) -> None:
    world.during["labctl up"] = during
    (home / "tour.yaml").write_text(yaml.safe_dump({"about": "The tour", **scenes({"run": ["labctl up"]})}))

    assert labctl("demo", "run", "./tour.yaml", "--record", "a.cast") == code

    lines = [json.loads(line) for line in (home / "a.cast").read_text().splitlines()]
    assert (lines[0]["version"], lines[0]["title"]) == (2, "The tour")
    recorded = "".join(text for _, _, text in lines[1:])
    assert "\x1b[1;36m1/1 Scene 1" in recorded
    assert ("error: " in recorded) is (code == 130)
    assert f"demo: tour: {'ok' if code == 0 else 'failed'}" in (home / "a.md").read_text()
    out = capsys.readouterr().out
    assert "recorded: a.cast, a.md\n" in out
    assert "\x1b" not in out
    assert world.environments[0]["FORCE_COLOR"] == "1"


def test_a_recording_that_cannot_be_written_is_refused_before_anything_is_run(
    labctl: Run, world: World, home: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    (home / "tour.yaml").write_text(yaml.safe_dump({"about": "x", **scenes({"run": ["labctl up"]})}))

    assert labctl("demo", "run", "tour.yaml", "--record", "missing/a.cast") == 2

    golden(capsys.readouterr().err)
    assert world.ran == []


# What there is


@pytest.mark.usefixtures("world")
def test_demos_are_listed(labctl: Run, capsys: pytest.CaptureFixture[str], context: Context) -> None:
    folder = context.folder / "config" / "labctl" / "demos"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("about: Mine\nscenes: [{title: One}]\n")

    wrong = {"wrong": "about: x\nscenes: []\n", "damaged": "{"}
    for name, text in wrong.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "folder.yaml").mkdir()

    assert labctl("demo", "list", "-o", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"demo": "mine", "about": "Mine", "file": str(folder / "mine.yaml")} in answer["demos"]
    problems = {each["demo"]: each for each in answer["problems"]}
    assert problems.keys() == {*wrong, "folder"}
    assert {each["id"] for each in problems.values()} == {"demo-invalid"}
    for name, problem in problems.items():
        assert problem["file"] == str(folder / f"{name}.yaml")
        assert problem["file"] in problem["text"]

    assert labctl("demo", "list") == 0
    out = capsys.readouterr().out
    assert out.split()[:3] == ["DEMO", "ABOUT", "FILE"]
    assert all(problem["file"] in out for problem in problems.values())


@pytest.mark.usefixtures("world")
def test_a_demo_that_there_is_not_and_one_that_is_wrong_are_wrong_usage(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "wrong.yaml").write_text("about: x\nscenes: []\n")

    assert labctl("demo", "run", "fly", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "demo-unknown"
    assert labctl("demo", "run", "wrong.yaml", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "demo-invalid"


def _in_real_time(monkeypatch: pytest.MonkeyPatch, world: World) -> threading.Semaphore:
    """Let a client ask by the real clock; return what is released with each of its requests."""
    asked = threading.Semaphore(0)

    def answer(_name: str) -> Answer:
        asked.release()
        return world.answer

    monkeypatch.setattr(http_load, "EVERY_SECONDS", 0.002)
    monkeypatch.setattr(http_load, "LOOK_SECONDS", 0.002)
    monkeypatch.setattr(playing, "DemoIO", lambda environment, **_doors: DemoIO(environment, world.start, answer))
    return asked
