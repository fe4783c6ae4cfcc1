"""Export, import, push and pull bundles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl import machine_image
from labctl.bundle import Bundle, File, checksums, layout
from labctl.bundle.format import folders
from labctl.bundle.oci import file as bundle_file
from labctl.bundle.oci.pull import pull as pull_bundle
from labctl.bundle.oci.push import push as push_bundle
from labctl.commands import bundles, runner
from labctl.context import Context
from labctl.host.paths import OCI
from labctl.host.processor import architecture
from labctl.machine_image.format import CATALOGUE, DESCRIPTION
from labctl.model.events import Progress, Watching
from labctl.model.options import GlobalOptions
from labctl.plans.plan import Outcome, Step
from labctl.transfer.reference import Reference, parse
from labctl.transfer.registry import Registry

_MIB = 1 << 20


def export(options: GlobalOptions, watching: Watching, file: Path, named: Path | None) -> Mapping[str, object]:
    """Write a bundle to a file, as a run of one step; return what was written."""
    exported: dict[str, object] = {}

    def write(context: Context, report: Progress) -> Outcome:
        bundle = bundles.choose(named, context.cache)
        size = bundle_file.export(_artefact(bundle, context.cache, report), file, report)
        exported.update({"id": bundle.id, "file": str(file), "MiB": size // _MIB})
        return Outcome(changed=True, text=f"{bundle.id} in {file}")

    runner.run_in_cache(options, watching, (Step("bundle", "writes the bundle to a file", write),))
    return exported


def import_bundle(options: GlobalOptions, watching: Watching, file: Path) -> Bundle:
    """Put the bundle in a file into the cache, as a run of one step; return it."""
    imported: list[Bundle] = []

    def read(context: Context, report: Progress) -> Outcome:
        before = folders(context.cache)
        bundle = bundle_file.import_bundle(file, architecture(), context.cache, report)
        imported.append(bundle)
        return Outcome(changed=bundle.folder not in before, text=bundle.id)

    runner.run_in_cache(options, watching, (Step("bundle", "puts the bundle into the cache", read),))
    return imported[0]


def push(options: GlobalOptions, watching: Watching, text: str, named: Path | None) -> Mapping[str, object]:
    """Push a bundle to a registry, as a run of one step; return what was pushed."""
    reference, pushed = _reference(text), dict[str, object]()

    def send(context: Context, report: Progress) -> Outcome:
        bundle = bundles.choose(named, context.cache)
        artefact = _artefact(bundle, context.cache, report)
        result = push_bundle(artefact, reference, Registry(context.mirrors, report), context.cache, report)
        pushed.update(
            {
                "id": bundle.id,
                "reference": str(reference),
                "digest": result.digest,
                "index": result.index,
                "MiB": result.moved // _MIB,
            }
        )
        return Outcome(result.changed, f"{bundle.id} as {reference}, {result.moved // _MIB} MiB pushed")

    runner.run_in_cache(options, watching, (Step("bundle", "pushes the bundle to a registry", send),))
    return pushed


def pull(options: GlobalOptions, watching: Watching, text: str) -> Bundle:
    """Pull a bundle into the cache, as a run of one step; return it."""
    reference = _reference(text)
    pulled: list[Bundle] = []

    def receive(context: Context, report: Progress) -> Outcome:
        arrived = pull_bundle(
            reference,
            Registry(context.mirrors, report),
            architecture(),
            context.cache,
            report,
            may_move=True,
            needs_registry=True,
        )
        pulled.append(arrived.bundle)
        text = f"{arrived.bundle.id}, {arrived.fetched // _MIB} MiB fetched"
        return Outcome(arrived.changed, "; ".join(filter(None, (text, arrived.note))))

    runner.run_in_cache(options, watching, (Step("bundle", "pulls the bundle from a registry", receive),))
    return pulled[0]


def _reference(text: str) -> Reference:
    """Return a registry's reference; it may be written as `--bundle` takes it, with `oci://`."""
    return parse(text.removeprefix(OCI))


def _artefact(bundle: Bundle, cache: Path, report: Progress) -> layout.Artefact:
    """Verify the bundle and its machine image; return them as an artefact to export or push."""
    checksums.verify_once(bundle, cache, report)
    report(f"reading {bundle.folder}")
    return layout.artefact(bundle, _machine_files(bundle, cache, report))


def _machine_files(bundle: Bundle, cache: Path, report: Progress) -> tuple[File, ...]:
    """Return every file of the bundle's machine image; none if it has no machine image."""
    image = machine_image.load(bundle)
    if image is None:
        return ()
    machine_image.verify_once(bundle, image, cache, report)
    documents = (
        File(path, checksums.sha256(bundle.path(path)), bundle.path(path).stat().st_size, "")
        for path in (CATALOGUE, DESCRIPTION)
    )
    return (*image.files, *documents)
