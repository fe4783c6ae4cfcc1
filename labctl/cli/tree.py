"""The command tree: its groups in `--help`, examples of each command, and shell completion."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, NoReturn

import typer
import typer.main
from typer.completion import get_completion_inspect_parameters, shell_complete
from typer.core import TyperCommand, TyperGroup

from labctl.cli.argv import move_global_options_first

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

PROGRAM = "labctl"
COMPLETE = "_LABCTL_COMPLETE"
"""Set by the completion scripts; if it is set, labctl prints completions."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Lab": ("up", "halt", "resume", "destroy", "list"),
    "Look": ("status", "trace", "open", "doctor", "logs"),
    "Reach": ("exec", "ssh", "kubeconfig", "hosts"),
    "Apps and demos": ("app", "demo"),
    "Bundles and images": ("bundle", "image"),
    "Settings": ("init", "schema", "render", "completion", "version"),
}
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": ("labctl up --yes", "labctl status", "labctl exec -- curl http://my-app.local", "labctl destroy"),
    "up": ("labctl up", "labctl --name two up --isolated --workers 2", "labctl up --dry-run"),
    "halt": ("labctl halt", "labctl halt worker-1 --force"),
    "resume": ("labctl resume",),
    "destroy": ("labctl destroy", "labctl --name two destroy --yes --purge"),
    "list": ("labctl list", "labctl list -o json"),
    "status": ("labctl status", "labctl status -o json"),
    "trace": ("labctl trace", "labctl trace my-app.local --watch"),
    "open": ("labctl open", "BROWSER=firefox labctl open my-app.local"),
    "doctor": ("labctl doctor", "labctl doctor --fix"),
    "logs": ("labctl logs", "labctl logs worker-1", "labctl logs --export labctl-logs"),
    "exec": ("labctl exec -- kubectl get pods -A", "labctl exec -- curl http://my-app.local"),
    "ssh": ("labctl ssh worker-1", "labctl ssh control-plane -- ip route"),
    "kubeconfig": ("labctl kubeconfig > demo.kubeconfig", "labctl kubeconfig --merge"),
    "hosts": ("labctl hosts show",),
    "hosts sync": ("labctl hosts sync",),
    "hosts remove": ("labctl hosts remove",),
    "hosts show": ("labctl hosts show",),
    "app": ("labctl app add shop",),
    "app add": ("labctl app add shop", "labctl app add api --image nginx --host api.test --replicas 3"),
    "app remove": ("labctl app remove shop",),
    "app list": ("labctl app list",),
    "demo": ("labctl demo run failover",),
    "demo list": ("labctl demo list",),
    "demo run": ("labctl demo run failover", "labctl demo run ./mine.yaml --record mine.cast"),
    "bundle": ("labctl bundle list",),
    "bundle build": ("labctl bundle build --yes", "labctl bundle build --with vm --yes"),
    "bundle download": ("labctl bundle download --yes", "labctl bundle download --recipe FILE"),
    "bundle verify": ("labctl bundle verify", "labctl bundle verify --bundle /media/stick/bundle"),
    "bundle list": ("labctl bundle list",),
    "bundle export": (
        "labctl bundle export /media/stick/bundle.tar",
        "labctl bundle export bundle.tar --bundle kubernetes-1.37.2-amd64-2e3e354a",
    ),
    "bundle pull": ("labctl bundle pull registry.example/labs/kubernetes:1.37",),
    "bundle push": ("labctl bundle push registry.example/labs/kubernetes:1.37",),
    "bundle import": ("labctl bundle import /media/stick/bundle.tar",),
    "bundle remove": ("labctl bundle remove kubernetes-1.37.2-amd64-2e3e354a",),
    "bundle prune": ("labctl bundle prune", "labctl bundle prune --yes"),
    "image": ("labctl image load shop:1",),
    "image load": ("labctl image load shop:1", "labctl image load shop.tar ghcr.io/example/api:2"),
    "image list": ("labctl image list", "labctl image list -o json"),
    "image remove": ("labctl image remove shop:1",),
    "init": ("labctl init", "labctl --config class.yaml init"),
    "schema": ("labctl schema > labctl.schema.json",),
    "render": ("labctl render --out demo", "labctl render --out demo --provider libvirt"),
    "completion": ("source <(labctl completion bash)", "labctl completion fish | source"),
    "version": ("labctl version", "labctl version -o json"),
}
"""By a command's words, which are empty for the program itself."""

OTHERS = ("", f"Options of every command: `{PROGRAM} -h`.")


class Root(TyperGroup):
    """The program itself: its options can be given before or after the command, and its commands have groups."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Move the options of every command to the front."""
        moved = move_global_options_first(args)
        # While a global option's value is completed, parse nothing, so that the root command completes it.
        lacks_value = ctx.resilient_parsing and moved.count("") > args.count("")
        return super().parse_args(ctx, [] if lacks_value else moved)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - typer's signature
        """Write a section for each group of commands, with the same columns in all."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                summaries = (self.commands[name].get_short_help_str(formatter.width - width - 4) for name in names)
                formatter.write_dl([(name.ljust(width), text) for name, text in zip(names, summaries, strict=True)])


@functools.cache
def tree(app: typer.Typer) -> Root:
    """Return the program's commands, each with its examples."""
    root = typer.main.get_command(app)
    assert isinstance(root, Root)  # noqa: S101 - the class that `app` sets
    for words, command in commands(root):
        command.short_help = (command.help or "").partition("\n\n")[0]  # in full: typer would truncate it
        examples = ("\b", "Examples:", *(f"  {line}" for line in EXAMPLES.get(words, ())))
        command.epilog = "\n".join((*examples, *(OTHERS if words else ())))
    return root


def commands(group: TyperGroup, words: str = "") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Yield the group and every command below it, by the words that name it."""
    yield words, group
    for name, command in group.commands.items():
        below = f"{words} {name}".strip()
        if isinstance(command, TyperGroup):
            yield from commands(command, below)
        elif isinstance(command, TyperCommand):
            yield below, command


def context_of(top: Context, words: str) -> Context:
    """Return the context in which the command of these words would run."""
    context = top
    for name in words.split():
        group = context.command
        assert isinstance(group, TyperGroup)  # noqa: S101 - the words come from the tree
        context = group.commands[name].make_context(name, [], parent=context, resilient_parsing=True)
    return context


def print_completions(root: Root) -> NoReturn:
    """Print completions for the shell's script and exit. Print nothing on failure."""
    try:
        _run_completion(root, os.environ[COMPLETE])
    except Exception:  # noqa: BLE001 - a message would garble the user's command line
        raise SystemExit(1) from None
    raise SystemExit(0)


def script(root: Root, shell: str) -> str:
    """Return the shell's script for completion."""
    with redirect_stdout(io.StringIO()) as printed:
        _run_completion(root, f"source_{shell}")
    return printed.getvalue()


def _run_completion(root: Root, instruction: str) -> None:
    get_completion_inspect_parameters()  # it registers the shells
    shell_complete(root, {}, PROGRAM, COMPLETE, instruction)
