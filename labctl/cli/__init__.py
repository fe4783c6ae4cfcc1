"""The command line: options become a lab and a plan, errors become exit codes.

Every command imports what it needs itself: `labctl --help` must not wait for the Kubernetes client.
"""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import typer.main
from typer.exceptions import TyperException

from labctl import endings, ui
from labctl.arguments import hoisted, is_verbose, wants_json, writes_events
from labctl.cli import apps, bundles, demos, hosts
from labctl.cli.options import BundleFolder, Ingress, Provider, Workers, Yes
from labctl.errors import ExitCode, LabError, UsageError


class Output(StrEnum):
    """What `-o` takes."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(
    help="A real bare-metal Kubernetes networking lab from one command.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(hosts.app, name="hosts")
app.add_typer(bundles.app, name="bundle")
app.add_typer(apps.app, name="app")
app.add_typer(demos.app, name="demo")

STOPPED = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.callback()
def global_options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Not ./labctl.yaml.")] = None,
    name: Annotated[str | None, typer.Option(metavar="LAB", help="The lab's name.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every line of progress.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """A real bare-metal Kubernetes networking lab from one command."""
    from labctl.session import Session

    context.obj = Session(config, name, output.value, verbosity=int(verbose) - int(quiet))


@app.command()
def up(
    context: typer.Context,
    provider: Provider = None,
    bundle: BundleFolder = None,
    ingress: Ingress = None,
    workers: Workers = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="Use a network and a Docker Engine of its own.")] = False,
    first: Annotated[str | None, typer.Option("--from", metavar="STEP", help="Begin with this step.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STEP", help="Do this step alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the steps, and do nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Bring the lab up, or repair it, or go on where an earlier run ended."""
    from labctl import config, plan, session, steps

    overrides = config.Overrides(provider=provider, ingress=ingress, workers=workers)
    asked = session.asked(context.obj, overrides, isolated=isolated, bundle=bundle, may_install=yes)
    chosen = plan.select(steps.up(isolated=asked.isolated), first, only)
    if dry_run:
        ui.document({"steps": plan.described(chosen)}, context.obj.output, sys.stdout, ui.rows)
    else:
        session.run(context.obj, asked, chosen)


@app.command()
def halt(
    context: typer.Context,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE...]", help="By default the whole lab.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="As a power cut: nothing ends in good order.")] = False,
) -> None:
    """Stop the nodes, or some of them, and keep everything: `labctl resume` brings the lab back."""
    from labctl import session, steps

    made = session.existing(context.obj)
    chosen = [session.node(made, name) for name in nodes or ()]
    plan = steps.halt_some(chosen, power_cut=force) if chosen else steps.halt(power_cut=force)
    session.run(context.obj, made, plan)


@app.command()
def resume(context: typer.Context) -> None:
    """Bring a halted lab back as it was."""
    from labctl import session, steps

    made = session.existing(context.obj)
    session.run(context.obj, made, steps.up(isolated=made.isolated))


@app.command()
def destroy(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the lab's log and copies as well.")] = False,
) -> None:
    """Remove everything of the lab: nodes, network, Engine and hosts lines."""
    from labctl import session, steps

    made = session.existing(context.obj)
    if not yes:
        session.confirm(f"Destroy the lab {made.lab.name}?")
    session.run(context.obj, made, steps.destroy(purge=purge))


@app.command()
def status(context: typer.Context) -> None:
    """Show nodes, addresses, the ingress controller and the apps, and what is wrong with them."""
    from labctl import session
    from labctl.status import report_on

    report = report_on(session.entered_if_up(context.obj))
    ui.document(report, context.obj.output, sys.stdout, ui.status)
    raise typer.Exit(ExitCode.OK if report["ok"] else ExitCode.BROKEN)


@app.command()
def trace(
    context: typer.Context,
    hostname: Annotated[str | None, typer.Argument(metavar="[HOSTNAME]", help="By default the first app's.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, once a second.")] = False,
) -> None:
    """Follow a request from the name to the pod, with evidence for each hop, and name the first that is broken."""
    from labctl import session
    from labctl.trace import traces

    for report in traces(session.entered(context.obj), hostname, watch=watch):
        ui.document(report, context.obj.output, sys.stdout, ui.trace)
    raise typer.Exit(ExitCode.OK if report["ok"] else ExitCode.BROKEN)


@app.command("open")
def open_page(
    context: typer.Context,
    hostname: Annotated[str | None, typer.Argument(metavar="[HOSTNAME]", help="By default the first app's.")] = None,
) -> None:
    """Open an app's page in the browser; that of an isolated lab, in a browser that runs in the lab's network."""
    from labctl import browser, session

    ui.document(browser.opened(session.entered(context.obj), hostname), context.obj.output, sys.stdout, ui.values)


@app.command("list")
def list_labs(context: typer.Context) -> None:
    """Show every lab on this machine."""
    from labctl import inventory

    ui.document({"labs": inventory.labs()}, context.obj.output, sys.stdout, ui.rows)


@app.command()
def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be without harm.")] = False,
) -> None:
    """Look for whatever keeps the lab from coming up on this machine, and say what to do about it."""
    from labctl import config, session
    from labctl.doctor import Surroundings, examine, repair, report

    asked = session.asked(context.obj, config.Overrides())
    found = (repair if fix else examine)(asked, Surroundings())
    answer = report(asked, found)
    ui.document(answer, context.obj.output, sys.stdout, ui.findings)
    raise typer.Exit(ExitCode.OK if answer["ok"] else ExitCode.BROKEN)


@app.command()
def init(context: typer.Context) -> None:
    """Write a labctl.yaml with every key explained."""
    from labctl import inventory
    from labctl.config import FILE_NAME

    path = context.obj.config_file or Path(FILE_NAME)
    ui.document(inventory.write_example(path), context.obj.output, sys.stdout, ui.values)


@app.command()
def render(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Not the lab's own folder.")] = None,
    provider: Provider = None,
    bundle: BundleFolder = None,
    ingress: Ingress = None,
    workers: Workers = None,
) -> None:
    """Write the Vagrantfile, keys, node files and manifests, and start nothing."""
    from labctl import config, labfiles, session

    overrides = config.Overrides(provider=provider, ingress=ingress, workers=workers)
    asked = session.asked(context.obj, overrides, bundle=bundle)
    folder = (out or asked.folder).absolute()
    labfiles.write_lab(asked, folder)
    ui.document({"folder": str(folder)}, context.obj.output, sys.stdout, ui.values)


@app.command("kubeconfig")
def show_kubeconfig(
    context: typer.Context,
    merge: Annotated[bool, typer.Option("--merge", help="Add it to the user's own kubeconfig.")] = False,
) -> None:
    """Print the lab's kubeconfig."""
    from labctl import kubeconfig, session

    path = session.existing(context.obj).folder / "kubeconfig"
    if merge:
        ui.document({"file": str(kubeconfig.merge(path))}, context.obj.output, sys.stdout, ui.values)
    else:
        sys.stdout.write(kubeconfig.text(path))


@app.command(context_settings=PASS_THROUGH)
def ssh(
    context: typer.Context,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node's name, with or without the lab's.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD...]")] = None,
) -> None:
    """Log in to a node, or run a command on it."""
    from labctl import session

    made = session.existing(context.obj)
    session.replace_process(made, made.provider.command(session.node(made, node), command or []), {})


@app.command("exec", context_settings=PASS_THROUGH)
def execute(context: typer.Context, command: Annotated[list[str], typer.Argument(metavar="-- CMD...")]) -> None:
    """Run a command in the lab's network, with KUBECONFIG set and the bundle's kubectl on PATH."""
    from labctl import session

    made = session.existing(context.obj)
    session.replace_process(made, command, session.environment(made))


def main() -> NoReturn:
    """Run the command line; a failure is one message and an exit code."""
    arguments = hoisted(sys.argv[1:]) or ["--help"]
    # Also where a script's background job has inherited SIGINT as ignored: an interrupted run must end in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, endings.terminate)
    command = typer.main.get_command(app)
    try:
        with command.make_context("labctl", [*arguments]) as context:
            command.invoke(context)
        sys.exit(ExitCode.OK)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except TyperException as error:
        fail(UsageError(error.format_message(), id="usage", hint="For details, add `--help`."), arguments)
    except (Exception, KeyboardInterrupt) as reason:  # noqa: BLE001 - the last one who can tell of it
        fail(endings.as_error(reason, endings.common_log(), verbose=is_verbose(arguments)), arguments)


def fail(error: LabError, arguments: list[str]) -> NoReturn:
    """Tell of the error in the form that was asked for, and exit with its code."""
    is_run, is_json = writes_events(arguments), wants_json(arguments)
    if is_run and is_json:
        ui.JsonWatcher(sys.stdout).result(ui.Result(changed=False, seconds=0.0, error=error))
    elif error.exit_code in STOPPED and not is_run:
        pass  # whoever stops a command that only answers knows why it ends
    elif is_json:
        ui.show_error_json(error, sys.stdout)
    else:
        ui.show_error(error, sys.stderr)
    sys.exit(error.exit_code)
