"""Add apps to labctl.yaml and remove them, and change the lab accordingly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_trace import hop as hop_report
from fakes import FakeCluster, FakeProvider, Watched, bundle, lab, set_limits
from golden_files import Golden

from labctl import config, ui
from labctl.commands import app_change
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import paths
from labctl.isolation.isolation import Isolation
from labctl.model.errors import BrokenError, MissingError, NotReadyError, RefusedError, UsageError
from labctl.model.lab import Lab
from labctl.model.options import GlobalOptions
from labctl.model.reports import HopReport, TraceReport
from labctl.plans import up
from labctl.render.ingress import CONTROLLERS
from labctl.trace import MISSING_NAME

add = partial(app_change.add, sentences=ui.evidence_sentences)
OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)
SHOP = {"name": "shop", "image": "shop:1", "hostname": "shop.test"}
FILE = """\
# Our lab.
workers: 1  # enough
apps:
  - name: my-app  # mine
  # the shop
  - name: shop
    image: shop:1
    hostname: shop.test
"""
PODS = [{"pod": "shop-abc", "address": "10.244.1.7", "node": "demo-worker-1"}]
EVIDENCE: dict[str, dict[str, Any]] = {
    "name": {"address": "192.168.56.100", "source": "/etc/hosts, line 3", "milliseconds": 0.4},
    "address": {
        "address": "192.168.56.100",
        "service": "ingress-nginx/controller",
        "pool": "demo",
        "pools": [],
        "requested": None,
        "shared_with": [],
        "event": None,
    },
    "node": {"announced_by": "demo-worker-1", "answers_arp": [], "route": "dev br-demo"},
    "rule": {
        "ingress": "default/shop",
        "class": "nginx",
        "host": "shop.test",
        "path": "/",
        "backend": {"service": "shop", "port": 80},
        "split": None,
        "other_ingresses": [],
        "controller_pods": [],
    },
    "pod": {"namespace": "default", "service": "shop", "endpoint_slices": ["shop-s"], "pods": PODS},
    "response": {
        "status": 200,
        "taken_by": None,
        "answered_by": "shop-abc",
        "redirect": None,
        "path": "/",
        "milliseconds": {"name": 0.4, "connect": 0.2, "first_byte": 1.1},
        "way_back": "192.168.56.100:80 to 192.168.56.1:40000",
    },
}


@pytest.fixture
def file(home: Path) -> Path:
    path = home / "labctl.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def running_nodes(monkeypatch: pytest.MonkeyPatch, provider: FakeProvider, tmp_path: Path) -> FakeProvider:
    """Run all nodes of every lab."""
    monkeypatch.setattr(Context, "bundle", bundle(tmp_path / "bundle"))
    provider.nodes |= {node.name for node in lab().nodes}
    monkeypatch.setattr(Context, "provider", provider)
    return provider


def _save_lab(isolated: bool = False, **values: Any) -> Lab:  # noqa: ANN401, FBT001, FBT002 - the values of a labctl.yaml
    described = lab(**values)
    saved_lab.write(paths.state(described.name), saved_lab.SavedLab(described, isolated, bundle=Path("/stick")))
    return described


def _names(change: app_change.Change) -> list[str]:
    return [step.name for step in change.plan]


def _problem(act: Callable[[], object]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        act()
    return caught.value


def _trace_report(broken: str = "", **evidence: dict[str, Any]) -> TraceReport:
    hops: list[HopReport] = []
    for hop, observed in {**EVIDENCE, **evidence}.items():
        if hop == broken:
            hops.append(hop_report(hop, "no-pod-ready", "no pod is ready", fix="Wait.", evidence=observed))
            break
        hops.append(hop_report(hop, evidence=observed))
    return {"version": 1, "hostname": "shop.test", "ok": not broken, "hops": hops}


# labctl.yaml


def test_apps_are_listed_from_the_file(file: Path) -> None:
    assert [app["name"] for app in app_change.list_apps(replace(OPTIONS, config_file=file))] == ["my-app", "shop"]


@pytest.mark.usefixtures("home")
def test_without_a_file_the_apps_are_those_of_the_saved_or_default_lab() -> None:
    default = {
        "name": "my-app",
        "image": "nginx",
        "hostname": "my-app.local",
        "port": 80,
        "replicas": lab().apps[0].replicas,
        "path": "/",
        "url": "http://my-app.local",
    }
    assert app_change.list_apps(OPTIONS) == [default]

    _save_lab(apps=[SHOP])
    assert [app["url"] for app in app_change.list_apps(OPTIONS)] == ["http://shop.test"]


def test_omitted_options_are_not_written(file: Path, golden: Golden) -> None:
    change = add(OPTIONS, {"name": "blog", "replicas": 3})

    result = change.write()

    assert (result["file"], result["app"]) == ("labctl.yaml", "blog")
    golden(result["lab"])
    assert file.read_text() == f"{FILE}  - name: blog\n    replicas: 3\n"


def test_without_a_file_a_new_one_includes_the_default_app(home: Path) -> None:
    add(OPTIONS, SHOP).write()

    assert (home / "labctl.yaml").read_text() == (
        "apps:\n  - name: my-app\n  - name: shop\n    image: shop:1\n    hostname: shop.test\n"
    )


def test_a_new_file_describes_the_saved_lab(home: Path) -> None:
    hosts_file = str(home / "hosts")
    saved = _save_lab(name="class", workers=2, memory=4096, hosts_file=hosts_file, apps=[{"name": "blog", "port": 81}])

    add(replace(OPTIONS, lab_name="class"), SHOP).write()

    written = yaml.safe_load((home / "labctl.yaml").read_text())
    assert list(written) == ["name", "workers", "memory", "hosts_file", "apps"]
    assert written["apps"] == [{"name": "blog", "port": 81}, SHOP]
    now = config.load(home / "labctl.yaml", config.Overrides())
    assert replace(now, apps=saved.apps) == saved


def test_an_existing_app_is_not_written_again(file: Path) -> None:
    change = add(OPTIONS, {**SHOP, "port": 80})
    file.unlink()

    assert not change.is_new
    assert change.write()["app"] == "shop"
    assert not file.exists()


def test_adding_an_existing_app_without_a_file_creates_a_file_with_it(home: Path) -> None:
    assert add(OPTIONS, {"name": "my-app"}).write()["file"] == "labctl.yaml"
    assert (home / "labctl.yaml").read_text() == "apps:\n  - name: my-app\n"


@pytest.mark.usefixtures("home", "running_nodes")
def test_the_first_step_writes_the_file_and_reports_whether_it_changed(
    file: Path, context: Context, watched: Watched
) -> None:
    _save_lab()
    blog, shop = add(OPTIONS, {"name": "blog"}), add(OPTIONS, SHOP)
    assert file.read_text() == FILE
    assert blog.context
    assert shop.context

    outcomes = [change.plan[0].run(context, watched.report) for change in (blog, shop)]

    assert [(outcome.changed, outcome.text) for outcome in outcomes] == [(True, "labctl.yaml"), (False, "labctl.yaml")]
    assert file.read_text() == f"{FILE}  - name: blog\n"


@pytest.mark.usefixtures("running_nodes")
def test_an_app_that_the_ingress_controller_rejects_is_not_written(
    file: Path, context: Context, watched: Watched, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_lab()
    vars(context)["controller"] = next(each for each in CONTROLLERS if each.admission)
    denied = 'admission webhook "validate" denied the request: host "blog.local" and path "/" is already defined in ingress a/b'
    not_yet = NotReadyError("failed calling webhook", id="webhook-not-ready")
    write = add(OPTIONS, {"name": "blog"}).plan[0]

    cluster.webhook_refusals = [RefusedError(f"Kubernetes refused Ingress blog: {denied}", id="kubernetes-refused")]
    with pytest.raises(RefusedError, match="a/b") as raised:
        write.run(context, watched.report)
    assert raised.value.id == "ingress-refused"
    assert "delete ingress b" in raised.value.hint
    assert "app remove" not in raised.value.hint
    assert file.read_text() == FILE

    set_limits(monkeypatch, poll=0.0)
    cluster.webhook_refusals = [not_yet, RefusedError(denied, id="kubernetes-refused")]
    with pytest.raises(RefusedError, match="a/b"):
        write.run(context, watched.report)
    assert file.read_text() == FILE

    cluster.webhook_refusals = [not_yet]
    assert write.run(context, watched.report).changed


def test_an_existing_app_with_other_values_is_refused_with_the_differences(file: Path, golden: Golden) -> None:
    error = _problem(partial(add, OPTIONS, {"name": "shop", "port": 81}))

    assert error.id == "app-exists"
    assert [line.split(":")[0].strip() for line in error.message.splitlines()[1:]] == ["image", "hostname", "port"]
    golden({"message": error.message, "hint": error.hint})
    assert file.read_text() == FILE


def test_every_problem_is_reported_under_the_name_of_its_option(file: Path) -> None:
    file.write_text(FILE.replace("workers: 1", "workers: many"))

    error = _problem(partial(add, replace(OPTIONS, lab_name="A"), {"name": "B", "port": 0, "image": " "}))

    assert error.id == "config-invalid"
    keys = {line.split(":")[0].strip() for line in error.message.splitlines()[1:]}
    assert keys == {"--name", "workers", "NAME", "--image", "--port"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": "blog", "hostname": "shop.test"}, "apps.hostname: shop.test: is in 2 apps"),
        ({"name": "blog", "hostname": "demo-worker-1"}, "apps.hostname: demo-worker-1: is the name of a node"),
    ],
)
def test_a_hostname_in_use_is_refused(file: Path, given: dict[str, Any], problem: str) -> None:
    assert problem in _problem(partial(add, OPTIONS, given)).message
    assert file.read_text() == FILE


def test_a_duplicate_app_in_the_file_is_refused(file: Path) -> None:
    file.write_text("apps:\n  - name: shop\n  - name: shop\n")

    assert "apps.name: shop: is in 2 apps" in _problem(partial(add, OPTIONS, {"name": "shop"})).message


def test_a_configuration_file_given_as_an_option_must_exist(home: Path) -> None:
    missing = replace(OPTIONS, config_file=home / "missing.yaml")

    assert _problem(partial(add, missing, SHOP)).id == "config-not-found"


def test_removing_an_app_keeps_comments(file: Path, golden: Golden) -> None:
    result = app_change.remove(OPTIONS, "shop").write()

    golden(result["lab"])
    assert file.read_text() == "# Our lab.\nworkers: 1  # enough\napps:\n  - name: my-app  # mine\n  # the shop\n"


def test_an_unknown_app_cannot_be_removed(file: Path, golden: Golden) -> None:
    error = _problem(partial(app_change.remove, OPTIONS, "blog"))

    assert error.id == "app-unknown"
    golden({"message": error.message, "hint": error.hint})
    assert file.read_text() == FILE


def test_the_last_app_can_be_removed(home: Path, golden: Golden) -> None:
    change = app_change.remove(OPTIONS, "my-app")
    change.write()

    assert (home / "labctl.yaml").read_text() == "apps: []\n"
    assert app_change.list_apps(OPTIONS) == []
    assert "verify" not in _names(change)
    golden(_problem(partial(app_change.remove, OPTIONS, "my-app")).hint)


# The lab


@pytest.mark.usefixtures("file", "running_nodes")
def test_a_running_lab_gets_the_app_by_the_steps_of_up_and_a_trace() -> None:
    saved = _save_lab()

    change = add(OPTIONS, {"name": "blog"})

    assert change.context
    assert change.context.lab == replace(saved, apps=(*lab(apps=[{"name": "my-app"}, SHOP, {"name": "blog"}]).apps,))
    assert _names(change) == ["config", "render", "apps", "hosts", "verify", "trace"]
    assert set(change.plan[1:-1]) <= set(up.up(isolated=False))
    assert "blog.local" in change.plan[-1].does


@pytest.mark.usefixtures("running_nodes")
def test_an_image_that_a_running_lab_lacks_is_refused_before_anything_is_written(file: Path) -> None:
    _save_lab()

    with pytest.raises(MissingError) as caught:
        add(OPTIONS, {"name": "blog", "image": "blog:1"})

    assert caught.value.id == "image-not-loaded"
    assert "labctl image load blog:1" in caught.value.hint
    assert file.read_text() == FILE


@pytest.mark.usefixtures("file", "running_nodes")
def test_an_app_with_zero_replicas_is_not_traced() -> None:
    _save_lab()

    change = add(OPTIONS, {"name": "blog", "replicas": 0})

    assert _names(change) == ["config", "render", "apps", "hosts", "verify"]


@pytest.mark.parametrize("name", ["kubernetes", "demo-first"])
def test_an_app_cannot_replace_a_foreign_object(file: Path, name: str) -> None:
    error = _problem(partial(add, OPTIONS, {"name": name}))

    assert error.id == "config-invalid"
    assert f"NAME: {name}: " in error.message
    assert file.read_text() == FILE


@pytest.mark.usefixtures("file", "running_nodes")
def test_a_running_lab_loses_the_app_by_the_steps_of_up() -> None:
    _save_lab()

    change = app_change.remove(OPTIONS, "shop")

    assert change.context
    assert [app.name for app in change.context.lab.apps] == ["my-app"]
    assert _names(change) == ["config", "render", "apps", "hosts", "verify"]


@pytest.mark.usefixtures("running_nodes")
def test_other_pending_changes_are_left_to_up(file: Path) -> None:
    saved = _save_lab()
    file.write_text(FILE.replace("workers: 1", "workers: 2\ningress: traefik\npool: auto"))

    change = add(OPTIONS, {"name": "blog"})

    assert change.context
    assert asdict(replace(change.context.lab, apps=saved.apps)) == asdict(saved)


@pytest.mark.parametrize("act", [partial(add, OPTIONS, {"name": "blog"}), partial(app_change.remove, OPTIONS, "shop")])
@pytest.mark.usefixtures("running_nodes")
def test_a_change_that_up_refuses_is_refused_before_anything_is_written(file: Path, act: Callable[[], object]) -> None:
    _save_lab(memory=4096, workers=2)

    error = _problem(act)

    assert error.id == "lab-differs"
    assert {line.split(":")[0].strip() for line in error.message.splitlines()[1:]} == {"memory", "workers"}
    assert file.read_text() == FILE


@pytest.mark.parametrize("act", [partial(add, OPTIONS, SHOP), partial(app_change.remove, OPTIONS, "shop")])
def test_without_the_bundle_a_running_lab_is_not_changed(
    file: Path, act: Callable[[], object], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_lab()
    provider.nodes |= {node.name for node in lab().nodes}
    monkeypatch.setattr(Context, "provider", provider)

    with pytest.raises(MissingError) as raised:
        act()

    assert raised.value.id == "bundle-not-found"
    assert file.read_text() == FILE


@pytest.mark.usefixtures("running_nodes", "machine")
def test_a_hostname_of_another_lab_is_refused_before_anything_is_written(file: Path, hosts_file: Path) -> None:
    hosts_file.write_text("# BEGIN labctl other\n10.0.0.1 blog.local\n# END labctl other\n")
    file.write_text(f"{FILE}hosts_file: {hosts_file}\n")
    _save_lab(hosts_file=str(hosts_file))

    with pytest.raises(MissingError) as refused:
        add(OPTIONS, {"name": "blog"})

    assert refused.value.id == "hostname-taken"
    assert "blog" not in file.read_text()


@pytest.mark.parametrize(
    ("namespace", "engine", "nodes", "is_up"),
    [
        (False, False, True, False),
        (True, False, True, False),
        (True, True, False, False),
        (True, True, True, True),
    ],
)
@pytest.mark.usefixtures("file")
def test_an_isolated_lab_is_up_if_its_nodes_run_in_its_network(
    monkeypatch: pytest.MonkeyPatch,
    running_nodes: FakeProvider,
    namespace: bool,  # noqa: FBT001 - a column of the table
    engine: bool,  # noqa: FBT001 - the same
    nodes: bool,  # noqa: FBT001 - the same
    is_up: bool,  # noqa: FBT001 - the same
) -> None:
    _save_lab(isolated=True)
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: namespace)
    monkeypatch.setattr(Isolation, "engine_runs", lambda _isolation: engine)
    if not nodes:
        running_nodes.nodes.clear()

    change = add(OPTIONS, {"name": "blog"})

    assert (change.context is not None) is is_up
    assert change.context is None or change.context.isolated


# The request


@pytest.mark.parametrize(
    "evidence",
    [{}, {"response": {**EVIDENCE["response"], "answered_by": None}}],
    ids=["the pod is known", "a pod of the app"],
)
@pytest.mark.usefixtures("file", "running_nodes")
def test_the_last_step_reports_each_hop_and_the_pod_that_responded(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, evidence: dict[str, Any], golden: Golden
) -> None:
    _save_lab()
    requested: list[str | None] = []

    def follow(_context: Context, hostname: str | None, **_options: object) -> TraceReport:
        requested.append(hostname)
        return _trace_report(**evidence)

    monkeypatch.setattr(app_change, "follow", follow)
    change = add(OPTIONS, SHOP)
    assert change.context

    outcome = change.plan[-1].run(change.context, watched.report)

    assert requested == ["shop.test"]
    assert not outcome.changed
    assert [line.split(":")[0] for line in watched.texts] == list(EVIDENCE)
    golden({"ends": outcome.text, "first": watched.texts[0]})


@pytest.mark.parametrize("cause", sorted(MISSING_NAME))
@pytest.mark.usefixtures("file", "running_nodes")
def test_a_hosts_entry_that_is_left_to_the_user_is_not_a_failure(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, cause: str
) -> None:
    _save_lab()
    report = _trace_report()
    report["hops"][0] |= {"state": "broken", "cause": cause}
    monkeypatch.setattr(
        app_change, "follow", lambda *_arguments, past: report if cause in past else _trace_report("name")
    )
    change = add(OPTIONS, SHOP)
    assert change.context

    assert change.plan[-1].run(change.context, watched.report).text
    assert all(text.partition(": ")[2] for text in watched.texts)


@pytest.mark.parametrize("evidence", [{}, EVIDENCE["pod"]], ids=["without evidence", "with evidence"])
@pytest.mark.usefixtures("file", "running_nodes")
def test_a_request_that_does_not_arrive_is_a_failure_with_cause_and_fix(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, evidence: dict[str, Any]
) -> None:
    _save_lab()
    monkeypatch.setattr(app_change, "follow", lambda *_arguments, **_options: _trace_report("pod", pod=evidence))
    change = add(OPTIONS, SHOP)
    assert change.context

    with pytest.raises(BrokenError) as caught:
        change.plan[-1].run(change.context, watched.report)

    assert (caught.value.id, "shop.test" in caught.value.message) == ("no-pod-ready", True)
    assert caught.value.hint == "Wait."
    assert len(caught.value.details) == (2 if evidence else 0)
    assert [line.split(":")[0] for line in watched.texts] == ["name", "address", "node", "rule"]
