"""Playing demos: the order of commands, what ends a demo, and its cleanup."""

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
from fakes import ADDRESS, FakeCluster, FakeProvider, set_limits, with_fakes
from golden_files import Golden

from labctl import cli
from labctl.commands import labs
from labctl.context import Context
from labctl.demo import names
from labctl.demo import play as playing
from labctl.demo.play import DemoIO
from labctl.host import http_load
from labctl.host.http_probe import ProbeResult
from labctl.host.process import Finished
from labctl.model.errors import ProviderError, Terminated

Demo = Mapping[str, Any]
Run = Callable[..., int]
GOOD = ProbeResult(200, "my-app-1")
MET = "http://my-app.local answers 200 within 30 s"


@dataclass
class FakeWorld:
    """A fake that records commands instead of running them, and calls the functions in `during`."""

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
    """The function to call while a command runs."""
    response: ProbeResult = GOOD

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

    def demo_io(self, environment: Mapping[str, str], **_options: object) -> DemoIO:
        return DemoIO(environment, self.start, lambda _name: self.response, lambda: self.now, self.sleep)

    def set_announcer(self, node: str) -> None:
        service = {"serviceNamespace": "ingress-nginx", "serviceName": "ingress-nginx-controller"}
        self.cluster.put(
            "metallb.io/v1beta1", "ServiceL2Status", "l2-1", "metallb-system", status={"node": node, **service}
        )

    def set_address(self, address: str = ADDRESS) -> None:
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        self.cluster.put("v1", "Service", "ingress-nginx-controller", "ingress-nginx", spec={}, status=status)


@pytest.fixture
def world(context: Context, cluster: FakeCluster, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    """Let the lab be up, and this process be in its network."""
    world = FakeWorld(context, cluster)
    provider.nodes |= {node.name for node in context.lab.nodes}
    monkeypatch.setattr(labs, "entered", lambda _options: context)
    monkeypatch.setattr(playing, "DemoIO", world.demo_io)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(context.folder / "config"))
    return world


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return a function that runs a command line in this process and returns its exit code."""

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
def play(world: FakeWorld, labctl: Run, home: Path) -> Callable[..., int]:
    """Return a function that plays a demo and returns the exit code."""

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
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
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


def test_a_substituted_value_is_never_split_into_words(
    play: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "lab_values", lambda _lab: {"lab": "demo", "app": "a b; rm 'c"})

    assert play(scenes({"run": ["kubectl get 'pod x' $app"]})) == 0

    assert world.words == [["kubectl", "get", "pod x", "a b; rm 'c"]]


def test_an_unmet_expectation_ends_the_demo_and_cleans_up(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.response = ProbeResult(503)
    demo = scenes(
        {"expect": [{"http": "$url", "within": 1}, {"seconds": 1}]},
        {"run": ["labctl status"]},
        cleanup=("labctl up",),
    )

    assert play(demo) == 8

    assert world.ran == ["labctl up"]
    out, err = capsys.readouterr()
    golden({"stdout": out, "stderr": err})


@pytest.mark.parametrize(("expected_code", "code"), [(0, 1), (8, 0)])
def test_an_unexpected_exit_code_ends_the_demo(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden, expected_code: int, code: int
) -> None:
    world.codes["labctl trace"] = code

    assert play(scenes({"run": [{"command": "labctl trace", "code": expected_code}, "kubectl get pods"]})) == 8

    assert world.ran == ["labctl trace"]
    err = capsys.readouterr().err
    golden(err)


def test_a_failed_cleanup_command_fails_the_demo_and_the_others_still_run(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.codes["kubectl delete pod x"] = 1

    assert play(scenes({}, cleanup=("kubectl delete pod x", "labctl up"))) == 8

    assert world.ran == ["kubectl delete pod x", "labctl up"]
    golden(capsys.readouterr().err)


def test_all_failures_are_reported_in_one_error(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.codes = {"labctl trace": 1, "kubectl delete pod x": 1}

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("kubectl delete pod x",))) == 8

    golden(capsys.readouterr().err)


def test_a_missing_program_ends_the_demo_with_its_own_exit_code(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    def fail() -> None:
        raise ProviderError("cannot run kubectl", id="tool-not-started")

    world.during["kubectl get pods"] = fail

    assert play(scenes({"run": ["kubectl get pods"]}, cleanup=("labctl up",))) == 4

    assert world.ran[-1] == "labctl up"
    golden(capsys.readouterr().err)


def test_ctrl_c_ends_the_demo_and_cleans_up(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.during["labctl trace"] = interrupt

    assert play(scenes({"run": ["labctl trace", "kubectl get pods"]}, {}, cleanup=("labctl up",))) == 130

    assert world.ran == ["labctl trace", "labctl up"]
    err = capsys.readouterr().err
    golden(err)


def test_a_second_ctrl_c_aborts_the_cleanup(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.during = {"labctl trace": interrupt, "labctl up": interrupt}

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up", "labctl status"))) == 130

    assert world.ran == ["labctl trace", "labctl up"]
    golden(capsys.readouterr().err)


def test_a_terminated_demo_cleans_up_as_well(play: Run, world: FakeWorld) -> None:
    def terminate() -> None:
        raise Terminated

    world.during["labctl trace"] = terminate

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up",))) == 143
    assert world.ran == ["labctl trace", "labctl up"]


def test_a_bug_does_not_prevent_the_cleanup(play: Run, world: FakeWorld) -> None:
    world.during["labctl trace"] = partial(int, "x")

    assert play(scenes({"run": ["labctl trace"]}, cleanup=("labctl up",))) == 1
    assert world.ran == ["labctl trace", "labctl up"]


# Names


def test_live_names_are_resolved_when_a_scene_begins(play: Run, world: FakeWorld) -> None:
    world.set_announcer("demo-worker-1")
    world.set_address()
    world.during["labctl halt demo-worker-1"] = lambda: world.set_announcer("demo-control-plane")
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


def test_changed_is_relative_to_the_announcer_at_the_start_of_the_scene(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    world.set_announcer("demo-worker-1")

    assert play(scenes({"expect": [{"announcer": "changed", "within": 1}]})) == 8

    golden(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("demo", "where"),
    [
        (scenes({"say": "$address"}, cleanup=("labctl up",)), "scene 1"),
        (scenes({"run": ["labctl up"]}, cleanup=("labctl ssh $announcer",)), "before its first scene"),
    ],
)
def test_an_unresolvable_live_name_fails_the_demo_after_a_while(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden, demo: Demo, where: str
) -> None:
    assert play(demo) == 8

    golden(capsys.readouterr().err)
    assert 30 <= world.now < 32
    assert world.ran == (["labctl up"] if where == "scene 1" else [])


def test_a_demo_is_refused_if_the_bundle_is_missing(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    without_bundle = replace(world.context, bundle_folder=home / "gone")
    vars(without_bundle).update(provider=world.context.provider, cluster=world.context.cluster)
    monkeypatch.setattr(labs, "entered", lambda _options: without_bundle)

    assert play(scenes({"run": ["kubectl get pods"]}), "-o", "json") == 3

    assert json.loads(capsys.readouterr().out)["error"]["id"] == "bundle-not-found"
    assert world.ran == []


def test_a_demo_about_an_app_is_refused_in_a_lab_without_apps(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = world.context
    without = replace(context, lab=replace(context.lab, apps=()))
    with_fakes(without, context.provider, context.cluster, context.bundle)
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
def test_a_demo_with_unmet_needs_is_refused_before_anything_is_run_or_written(
    needs: Mapping[str, Any],
    commands: list[str],
    play: Run,
    world: FakeWorld,
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


def test_a_demo_is_played_in_a_lab_that_meets_its_needs(play: Run, world: FakeWorld) -> None:
    needs = {"workers": 1, "apps": 1, "replicas": 2, "addresses": 11, "ingress": "traefik"}

    assert play({"needs": needs, **scenes({"run": ["labctl up"]})}) == 0
    assert world.ran == ["labctl up"]


def test_a_halted_lab_is_reported_before_anything_is_run(
    play: Run, world: FakeWorld, provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.nodes.clear()

    assert play(scenes({"run": ["labctl up"]}), "-o", "json", "--record", "a.cast") == 3

    assert json.loads(capsys.readouterr().out)["error"]["id"] == "lab-not-running"
    assert world.ran == []


def test_hidden_commands_and_scenes_are_run_and_not_recorded(
    play: Run, world: FakeWorld, home: Path, capsys: pytest.CaptureFixture[str]
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


def test_later_scenes_can_use_the_figures_of_the_load(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_real_client(monkeypatch, world)
    traffic = {"hostname": "$hostname", "before": 0.02, "after": 0.02}
    later_scene = {"title": "After $gap", "say": "It saw $answers and $failures."}

    assert play(scenes({"load": traffic, "run": ["labctl up"]}, later_scene, later_scene), "-o", "json") == 0

    scene, *others = json.loads(capsys.readouterr().out)["scenes"]
    load = scene["load"]
    assert {scene["title"] for scene in others} == {f"After {load['gap']:.1f} s"}
    assert {scene["say"] for scene in others} == {f"It saw {load['answers']} good answers and 0 failures."}


def test_a_client_sends_requests_while_the_scene_is_played(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = _use_real_client(monkeypatch, world)
    world.during["labctl up"] = lambda: [requests.acquire(timeout=60) for _ in range(4)]
    traffic = {"hostname": "$hostname", "before": 0.02, "after": 0.02}

    assert play(scenes({"load": traffic, "run": ["labctl up"], "expect": [{"gap": 5}]}), "-o", "json") == 0

    out, err = capsys.readouterr()
    scene = json.loads(out)["scenes"][0]
    assert scene["load"]["hostname"] == "my-app.local"
    assert scene["load"]["answers"] >= 3
    assert scene["load"]["first_command"] >= 0.02
    text = scene["expectations"][0]["text"]
    assert err.index("0 failures") < err.index(text)
    golden(text)


def test_a_too_long_gap_fails_the_demo(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_real_client(monkeypatch, world)

    def interrupt_service() -> None:
        world.response = ProbeResult(503)
        threading.Event().wait(0.06)
        world.response = ProbeResult(200)

    world.during["kubectl delete pod x"] = interrupt_service
    traffic = {"hostname": "$hostname", "before": 0, "after": 0}
    demo = scenes({"load": traffic, "run": ["kubectl delete pod x"], "expect": [{"gap": 0.03}, {"seconds": 10}]})

    assert play(demo) == 8

    out, err = capsys.readouterr()
    assert "never without a good answer for more than 0.03 s; measured: " in err
    assert out.index("✓ the commands take at most 10 s") < out.index("✗ http://my-app.local is never without")


def test_too_slow_commands_fail_the_demo(play: Run, capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    assert play(scenes({"run": ["labctl up", "labctl status"], "expect": [{"seconds": 0.9}]})) == 8

    golden(capsys.readouterr().err)


def test_an_unreachable_site_fails_the_demo_and_its_figures_are_printed(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_real_client(monkeypatch, world)
    set_limits(monkeypatch, http_good=0.02)
    world.response = ProbeResult(503)

    assert play(scenes({"load": {"hostname": "$hostname", "before": 0.01}, "run": ["labctl up"]})) == 8

    out, err = capsys.readouterr()
    assert "scene 1, Scene 1: timed out after 0 s waiting for http://my-app.local: HTTP 503" in err
    assert "0 good answers" in out
    assert world.ran == []


# Streams


def test_with_json_the_result_is_one_document_and_progress_goes_to_stderr(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
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
                    {"text": MET, "ok": True, "measured": "HTTP 200 from pod my-app-1", "seconds": 0.0},
                ],
                "load": None,
            }
        ],
        "cleanup": [{"command": "labctl status", "code": 0, "seconds": 0.5}],
        "error": None,
    }
    golden(err)
    assert world.environments[0].get("FORCE_COLOR") is None


def test_the_document_of_a_failed_demo_has_the_error(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str], golden: Golden
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


def test_an_interrupted_command_has_no_exit_code(
    play: Run, world: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.during["labctl up"] = interrupt

    assert play(scenes({"run": ["labctl up"]}), "-o", "json") == 130

    document = json.loads(capsys.readouterr().out)
    assert document["scenes"][0]["commands"] == [{"command": "labctl up", "code": None, "seconds": 0.5}]
    assert document["error"]["id"] == "interrupted"


def test_quiet_prints_only_the_result(play: Run, capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    assert play(scenes({"run": ["labctl up"]}), "-q") == 0

    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    golden(out)


def test_enter_is_waited_for_between_scenes_only_on_a_terminal(
    play: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
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
def test_a_recording_and_a_report_are_written_after_success_and_interrupt(
    labctl: Run,
    world: FakeWorld,
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


def test_an_unwritable_recording_is_refused_before_anything_is_run(
    labctl: Run, world: FakeWorld, home: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    (home / "tour.yaml").write_text(yaml.safe_dump({"about": "x", **scenes({"run": ["labctl up"]})}))

    assert labctl("demo", "run", "tour.yaml", "--record", "missing/a.cast") == 2

    golden(capsys.readouterr().err)
    assert world.ran == []


# The list of demos


@pytest.mark.usefixtures("world")
def test_demos_and_invalid_files_are_listed(labctl: Run, capsys: pytest.CaptureFixture[str], context: Context) -> None:
    folder = context.folder / "config" / "labctl" / "demos"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("about: Mine\nscenes: [{title: One}]\n")

    wrong = {"wrong": "about: x\nscenes: []\n", "damaged": "{"}
    for name, text in wrong.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "folder.yaml").mkdir()

    assert labctl("demo", "list", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {"demo": "mine", "about": "Mine", "file": str(folder / "mine.yaml")} in document["demos"]
    problems = {each["demo"]: each for each in document["problems"]}
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
def test_an_unknown_and_an_invalid_demo_are_usage_errors(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "wrong.yaml").write_text("about: x\nscenes: []\n")

    assert labctl("demo", "run", "fly", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "demo-unknown"
    assert labctl("demo", "run", "wrong.yaml", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "demo-invalid"


def _use_real_client(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> threading.Semaphore:
    """Let a client send requests in real time. Return a semaphore that each request releases."""
    requests = threading.Semaphore(0)

    def respond(_name: str) -> ProbeResult:
        requests.release()
        return world.response

    monkeypatch.setattr(http_load, "EVERY_SECONDS", 0.002)
    monkeypatch.setattr(http_load, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(playing, "DemoIO", lambda environment, **_options: DemoIO(environment, world.start, respond))
    return requests
