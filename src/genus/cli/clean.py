"""The command `clean`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from genus.cli.options import Address, AsJson, EngineName, Field, Language, Settings, Sources, chosen_engine
from genus.cli.output import Counter, columns, document, scaled
from genus.errors import UsageError, say
from genus.files import write_text
from genus.processes import cores

if TYPE_CHECKING:
    from genus.curate import Curation

LOOKED_AT = 16
"""Blocks of text that a dry run reads."""
RULES, GROUPS = 5, 8
"""Rules, and groups such as languages, that the short report shows."""


def clean(
    texts: Sources,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FOLDER", help="Where to write; also a URL, such as s3://bucket/folder."),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="light, c4, gopher, fineweb, pages, wiki, wangchanberta or code; or a .json or .toml file of steps.",
        ),
    ] = "light",
    settings: Settings = [],
    language: Language = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: show what each rule would remove of the first 64 MB.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = cores(),
    engine: EngineName = "local",
    address: Address = None,
    field: Field = "text",
    keep: Annotated[
        list[str],
        typer.Option("--keep", metavar="FIELD", help="A field that goes along with its text; repeatable."),
    ] = [],
    compression: Annotated[str, typer.Option(metavar="FORMAT", help="gz, zst, xz or none.")] = "gz",
    words: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="FOLDER", help="Count tokens by this tokenizer too; it takes longer."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn text into text for pretraining, and say what was removed and why.

    TEXT may also be pages of HTML, archives of a crawl (.warc, .wet) and exports of MediaWiki (.xml), also compressed.
    A run that was stopped goes on where it was.
    """
    from genus.curate.run import fields_of
    from genus.text.sources import skipped

    if out is None and not dry_run:
        raise UsageError("--out: name a folder to write to, or look first with --dry-run")
    if line := skipped(texts, raw=True):
        say(line)
    curation = _curation(preset, language, settings)
    chosen: dict[str, Any] = {
        "fields": fields_of(field, keep),
        "engine": chosen_engine(engine, address, workers),
        "compression": _compression(compression),
        "tokenizer": words,
        "progress": Counter("reading", "B"),
    }
    _tell(_cleaned(curation, [*texts], None if dry_run else out, chosen), dry_run, as_json)


def _cleaned(curation: "Curation", texts: list[Path | str], out: str | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """Clean into a folder with the page of its report, or look at the beginning of the text; return the report."""
    from genus.cli.curation_page import page
    from genus.curate.run import Cleaning
    from genus.places import place
    from genus.text.sources import CURATION_PAGE

    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return Cleaning(curation, texts, Path(folder), blocks=LOOKED_AT, **chosen).run()
    target = place(out)
    report = Cleaning(curation, texts, target, **chosen).run()
    write_text(target / CURATION_PAGE, page(report, target.name or target.resolve().name))
    return report


def _curation(preset: str, language: str | None, settings: list[str]) -> "Curation":
    """Return the steps by their name, as a language wants them, with the settings."""
    from genus import catalog
    from genus.curate import presets
    from genus.curate.spoken import spoken
    from genus.text import language_pack

    found = presets.load(preset)
    return catalog.overridden(found if language is None else spoken(found, language_pack.load(language)), settings)


def _tell(report: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    from genus.text.read import LONGEST_DOCUMENT

    if as_json:
        document(report)
    else:
        print(_samples(report) if dry_run else _short(report))
    if number := report.get("text", {}).get("cut"):
        say(f"{counted(number, 'document')} over {LONGEST_DOCUMENT >> 20} MB: cut there")
    if not report["kept"]["documents"]:
        say("nothing is left; look at the rules with --dry-run")


def _compression(name: str) -> str:
    """Return the name of a compression, if there is one (UsageError)."""
    from genus.curate.shards import Compression

    if name not in (known := get_args(Compression)):
        raise UsageError(f"--compression: {name!r} is none of {', '.join(known)}")
    return name


def _short(report: dict[str, Any]) -> str:
    """Return the report in some ten lines."""
    from genus.curate.report import by_table, removed_most

    rows = [_row("read", "", report["read"]), _row("kept", "", report["kept"])]
    rows += [_row(step, rule, found) for step, rule, found in removed_most(report, RULES)]
    if (rest := sum(map(len, report["removed"].values())) - RULES) > 0:
        rows.append([f"and {rest} more rules", "", "", "", ""])
    lines = [columns(["", "rule", "documents", "lines", "bytes"], rows)]
    for step, facts in report.get("facts", {}).items():
        told = [f"{name} {value}" for name, value in facts.items() if not isinstance(value, list)]
        lines.append(f"{step}: {', '.join(told)}")
    for step, groups in report.get("groups", {}).items():
        most = sorted(groups.items(), key=lambda group: -group[1]["documents"])
        told = [f"{name} {found['documents']:,}" for name, found in most[:GROUPS]]
        lines.append(f"{step}: {', '.join(told)}{f' and {len(most) - GROUPS} more' if len(most) > GROUPS else ''}")
    for table, found in by_table(report).items():
        lines.append(f"{table}: {counted(len(found), 'row')} in {counted(sum(found), 'document')}")
    return "\n".join(lines)


def counted(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _row(step: str, rule: str, found: dict[str, Any]) -> list[str]:
    counts = [f"{found[name]:,}" if name in found else "" for name in ("documents", "lines")]
    return [step, rule, *counts, scaled(found["bytes"], "B")]


def _samples(report: dict[str, Any]) -> str:
    """Return examples of what each rule removes, and what remains."""
    lines = []
    for step, rules in report["removed"].items():
        for rule, found in rules.items():
            counts = ", ".join(f"{found[name]:,} {name}" for name in ("documents", "lines") if name in found)
            lines.append(f"{step}, {rule}: {counts}")
            for sample in found["samples"]:
                text = " ".join(sample["text"].split())
                lines.append(f"    {sample['source']}, {sample['row']}: {text[:100]}")
    return "\n".join([*lines, _short(report)])
