"""The command line: options become a lab and a plan, errors become exit codes.

Every command imports what it needs in its body, so that `labctl --help` does not wait for the Kubernetes client.
"""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from labctl import __version__, ui
from labctl.cli import apps, bundles, complete, demos, hosts, images, reach, settings
from labctl.cli.argv import is_verbose, lab_name, move_global_options_first, wants_json, without_value, writes_events
from labctl.cli.confirm import confirm
from labctl.cli.options import (
    BundleSource,
    DryRun,
    First,
    Ingress,
    Isolated,
    Kubernetes,
    Offline,
    Only,
    Provider,
    Recipe,
    Target,
    Workers,
    Yes,
    seconds,
)
from labctl.cli.tree import COMPLETE, PROGRAM, Root, print_completions, tree
from labctl.commands import endings
from labctl.host import streams
from labctl.model.errors import ExitCode, LabError, UsageError
from labctl.model.events import Result
from labctl.model.options import GlobalOptions
from labctl.model.reports import LabsReport


class Output(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(
    help="A real bare-metal Kubernetes networking lab from one command.",
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(hosts.app, name="hosts")
app.add_typer(bundles.app, name="bundle")
app.add_typer(images.app, name="image")
app.add_typer(apps.app, name="app")
app.add_typer(demos.app, name="demo")
app.add_typer(reach.app)
app.add_typer(settings.app)

HELP = "For details, add `--help`."
PYDANTIC = "Value error, "
"""Where typer reports a value that is not one of several, pydantic's prefix of the reason."""
STOPPED = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def show_version(wanted: bool) -> None:
    """Print labctl's version and exit."""
    if wanted:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def global_options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration file.  [default: ./labctl.yaml]")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="LAB", autocompletion=complete.labs, help="The lab's name.")
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", metavar="FORMAT", help="How to print answers: text or json.")
    ] = Output.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every line of progress.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show labctl's version and exit.")
    ] = False,
) -> None:
    """Make a real bare-metal Kubernetes networking lab with one command.

    These options can be given before or after the command. Answers go to stdout, progress and errors to stderr.
    """
    if verbose and quiet:
        raise UsageError(
            "--verbose and --quiet exclude each other", id="options-contradict", hint="Leave one of them out."
        )
    context.obj = GlobalOptions(config, name, output.value, verbosity=int(verbose) - int(quiet))


@app.command()
def up(
    context: typer.Context,
    provider: Provider = None,
    bundle: BundleSource = None,
    ingress: Ingress = None,
    workers: Workers = None,
    kubernetes: Kubernetes = None,
    isolated: Isolated = False,
    recipe: Recipe = None,
    offline: Offline = False,
    first: First = None,
    only: Only = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Bring the lab up, repair it, or resume an interrupted run."""
    from labctl import config
    from labctl.commands import labs, runner
    from labctl.plans import plan
    from labctl.plans import up as plans_up

    overrides = config.Overrides(provider=provider, ingress=ingress, workers=workers, kubernetes=kubernetes)
    lab = labs.requested(
        context.obj,
        overrides,
        isolated=isolated,
        bundle=bundle,
        may_install=yes,
        policy=labs.bundle_policy(recipe, bundle, offline=offline),
        to_boot=True,
    )
    chosen = plan.select(
        plans_up.up(isolated=lab.isolated, remark=labs.ingress_warning(context.obj, lab, ingress)), first, only
    )
    if dry_run:
        ui.document(
            runner.plan_up(lab, chosen, labs.reference_to_pull(lab, bundle)), context.obj.output, sys.stdout, ui.rows
        )
    else:
        runner.run_up(context.obj, lab, chosen, ui.watching(context.obj), labs.reference_to_pull(lab, bundle))


@app.command()
def halt(
    context: typer.Context,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE", autocompletion=complete.nodes, help="Nodes to stop.  [default: all]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Power off at once, without a clean shutdown.")] = False,
) -> None:
    """Stop the nodes, or some of them, and keep their disks.

    `labctl resume` brings the lab back.
    """
    from labctl.commands import labs, runner
    from labctl.plans import up as plans_up

    lab = labs.saved(context.obj)
    chosen = [labs.node(lab, name) for name in nodes or ()]
    plan = plans_up.halt_some(chosen, hard_stop=force) if chosen else plans_up.halt(hard_stop=force)
    runner.run(context.obj, lab, plan, ui.watching(context.obj))


@app.command()
def resume(context: typer.Context) -> None:
    """Bring a halted lab back as it was."""
    from labctl.commands import labs, runner
    from labctl.plans import up as plans_up

    lab = labs.with_measured_slowness(labs.saved(context.obj))
    runner.run(context.obj, lab, plans_up.up(isolated=lab.isolated), ui.watching(context.obj))


@app.command()
def destroy(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the log, saved copies and boxes too.")] = False,
) -> None:
    """Remove the lab: nodes, network, Engine and hosts lines.

    The lab's log and the previous hosts file stay, unless --purge is given.
    """
    from labctl.commands import labs, runner
    from labctl.plans import up as plans_up

    lab = labs.removable(context.obj, purge=purge)
    if not yes:
        confirm(f"Destroy the lab {lab.lab.name}?")
    are_containers, is_destroyed = lab.hypervisor.are_containers, labs.is_destroyed(lab)
    plan = plans_up.destroy(purge=purge, are_containers=are_containers, is_destroyed=is_destroyed)
    runner.run(context.obj, lab, plan, ui.watching(context.obj))


@app.command()
def status(context: typer.Context) -> None:
    """Show nodes, addresses, ingress, apps, and their problems.

    The exit code is 8 if something is broken.
    """
    from labctl.commands import labs
    from labctl.commands.status import report_on

    report = report_on(labs.entered_if_up(context.obj))
    ui.document(report, context.obj.output, sys.stdout, ui.status)
    raise typer.Exit(ExitCode.OK if report["ok"] else ExitCode.BROKEN)


@app.command()
def trace(
    context: typer.Context,
    target: Target = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every second until Ctrl-C.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", parser=seconds, help="Repeat until no hop is broken.")
    ] = 0,
) -> None:
    """Follow a request hop by hop, from the name to the pod.

    Each hop is shown with evidence, and the first broken hop with its cause and fix. The exit code is then 8.
    """
    from labctl.commands import labs
    from labctl.trace import traces

    for report in traces(labs.entered_if_up(context.obj), target, watch=watch, wait=wait):
        ui.document(report, context.obj.output, sys.stdout, ui.trace)
    raise typer.Exit(ExitCode.OK if report["ok"] else ExitCode.BROKEN)


@app.command("open")
def open_page(
    context: typer.Context,
    target: Target = None,
) -> None:
    """Open an app's page in the browser.

    If the page cannot be loaded, labctl reports what is broken, and the exit code is 8. For an isolated lab, the
    browser runs in the lab's network. BROWSER selects another browser.
    """
    from labctl.commands import browser, labs

    ui.document(
        browser.open_page(labs.entered_if_up(context.obj), target), context.obj.output, sys.stdout, ui.opened_page
    )


@app.command("list")
def list_labs(context: typer.Context) -> None:
    """Show every lab on this machine."""
    from labctl.commands import labs

    ui.document(LabsReport(version=1, labs=labs.list_labs()), context.obj.output, sys.stdout, ui.rows)


@app.command()
def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely.")] = False,
) -> None:
    """Check whether this machine can run the lab.

    Each problem is shown with its fix. The exit code is 8 if something is broken.
    """
    from labctl import config
    from labctl.commands import labs
    from labctl.doctor import Machine, examine, repair, report

    lab = labs.requested(context.obj, config.Overrides())
    findings = (repair if fix else examine)(lab, Machine())
    answer = report(lab, findings)
    ui.document(answer, context.obj.output, sys.stdout, ui.findings)
    raise typer.Exit(ExitCode.OK if answer["ok"] else ExitCode.BROKEN)


def main() -> NoReturn:
    """Run the command line; report a failure as one message and an exit code."""
    streams.prepare()
    # Background jobs of scripts inherit SIGINT as ignored, but an interrupted run must always shut down cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, endings.terminate)
    try:
        _run(move_global_options_first(sys.argv[1:]) or ["--help"])
    except (SystemExit, OSError) as end:
        error = streams.output_error()
        if error is None:
            raise
        streams.discard()
        if error.exit_code != ExitCode.PIPE:
            ui.show_error(error, sys.stderr)
        raise SystemExit(error.exit_code) from end


def _run(arguments: list[str]) -> NoReturn:
    try:
        root = tree(app)
        if COMPLETE in os.environ:
            print_completions(root)
        _require_values(arguments)
        with root.make_context(PROGRAM, [*arguments]) as context:
            root.invoke(context)
        sys.exit(ExitCode.OK)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except TyperException as error:
        message = error.format_message().replace(f": {PYDANTIC}", ": ")
        fail(UsageError(message, id="usage", hint=HELP), arguments)
    except (Exception, KeyboardInterrupt) as reason:
        if streams.output_error():
            raise SystemExit(ExitCode.MISSING) from reason
        fail(endings.as_error(reason, lab=lab_name(arguments), verbose=is_verbose(arguments)), arguments)


def _require_values(arguments: list[str]) -> None:
    """Check that global options have their values. Typer cannot: an empty value stands for a missing one."""
    if option := without_value(arguments):
        raise UsageError(f"Option '{option}' requires an argument.", id="usage", hint=HELP)


def fail(error: LabError, arguments: list[str]) -> NoReturn:
    """Report the error in the requested format, and exit with its code."""
    is_run, is_json = writes_events(arguments), wants_json(arguments)
    if is_run and is_json:
        ui.JsonWatcher(sys.stdout).result(Result(changed=False, seconds=0.0, error=error))
    elif error.exit_code in STOPPED and not is_run:
        pass  # the user who stops a read-only command knows why it exits
    elif is_json:
        ui.show_error_json(error, sys.stdout)
    else:
        ui.show_error(error, sys.stderr)
    sys.exit(error.exit_code)
