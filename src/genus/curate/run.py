"""Run a curation: text into a folder of JSON lines, with a report; a run that was stopped goes on where it was."""

from __future__ import annotations

import itertools
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genus.curate.document import KEPT
from genus.curate.engines.local import LocalProcesses
from genus.curate.process import REMOVED, Pass
from genus.curate.report import Numbers, added
from genus.curate.shards import Compression, ShardKeys, check
from genus.errors import GenusError, UsageError, say
from genus.files import read_json, reason, replacing, write_json
from genus.places import is_remote, of_one_process, place, remove
from genus.processes import cores
from genus.run_folder import LOCK, RunFolder
from genus.text.fields import TEXT, Fields
from genus.text.read import read_blocks
from genus.text.sources import CURATION, changed, find, fingerprints, markup_of
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from genus.curate import CorpusFilter, Curation
    from genus.curate.engines import Engine
    from genus.text import Source, TextBlock

WORK = "work"
"""The folder of what is not finished."""
IDENTITY = "made_from.json"
"""In `WORK`: of what text the curation is, and with which steps."""
FILE_BYTES = 1 << 28
"""Bytes from which on a file of text is followed by another."""
FORMAT = 2

TAKEN_OUT = {"HTML": ("HtmlText", "pages"), "wikitext": ("WikiText", "wiki")}
"""By what step and preset the text is taken out of a markup."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes of text that are done, and the total (None: unknown)."""


@dataclass(frozen=True)
class Cleaning:
    """A curation of some text into a folder."""

    curation: Curation
    texts: list[Path | str]
    folder: Path
    fields: Fields = TEXT
    compression: Compression = "gz"
    engine: Engine = field(default_factory=LocalProcesses)
    blocks: int | None = None
    """Blocks of text (4 MB) that are read at most; None: all."""
    tokenizer: Path | None = None
    """Folder of a tokenizer, by which the report counts tokens beside bytes."""
    progress: Progress | None = None

    def run(self) -> Numbers:
        """Clean the text, and return the report, which is also `curation.json` in the folder.

        Raises:
            UsageError: the folder holds something else, or another process writes into it.
            GenusError: text cannot be read, the folder cannot be written, or a step needs what is not there.
        """
        check(self.compression)
        for step in self.curation.steps:
            step.check()
        sources = self._sources()
        self._check_places(sources)
        with nullcontext() if is_remote(self.folder) else RunFolder(self.folder).lock(), self.engine.running():
            if (self.folder / CURATION).exists():
                report = read_json(self.folder / CURATION)
                self._compare(report.get("made_from", {}), sources)
                remove(self._work)
                return report
            try:
                self._begin(sources)
                return self._passes(sources)
            except OSError as error:
                raise GenusError(
                    f"{self.folder}: cannot be written ({reason(error)}); make room, and run again to go on"
                ) from None

    def _sources(self) -> list[Source]:
        """Return what is read: text, and of the rest that out of which a step takes text; say what is not.

        Raises:
            UsageError: there is nothing else, or a file was named.
        """
        found = find(self.texts, raw=True)
        left = [source for source in found if markup_of(source) not in self._known]
        named = {*map(place, self.texts)}
        if refused := [source for source in left if len(left) == len(found) or source in named]:
            markup = markup_of(refused[0])
            assert markup is not None
            step, preset = TAKEN_OUT[markup]
            raise UsageError(
                f"{refused[0]}: is in {markup}, and no step takes the text out; add {step} to the steps, or take "
                f"--preset {preset}"
            )
        if left:
            say(f"{left[0]}: not read, nor {len(left) - 1:,} more; no step takes text out of {markup_of(left[0])}")
        return [source for source in found if markup_of(source) in self._known]

    @property
    def _known(self) -> set[str | None]:
        """What texts may be written in."""
        return {None, *(step.markup for step in self.curation.steps)}

    def _check_places(self, sources: list[Source]) -> None:
        """Check that the folder holds none of the text, and that all processes see it.

        Raises:
            UsageError: it is not so.
        """
        if inside := [source for source in sources if _is_within(source, self.folder)]:
            raise UsageError(f"{self.folder}: holds text that is to be cleaned ({inside[0]}); take another folder")
        if of_one_process(self.folder) and not self.engine.alone:
            raise UsageError(f"{self.folder}: is seen by one process only; take --workers 1, or another place")

    @cached_property
    def _size(self) -> int | None:
        """Bytes of all text as stored, None where they are not known or not all read."""
        sources = [source for source in find(self.texts, raw=True) if markup_of(source) in self._known]
        files = [source for source in sources if not isinstance(source, str)]
        known = self.blocks is None and len(files) == len(sources)
        return sum(file.stat().st_size for file in files) if known else None

    @property
    def _work(self) -> Path:
        return self.folder / WORK

    def _identity(self, sources: list[Source]) -> Numbers:
        """Return what the result depends on, text and files of steps by their fingerprints."""
        files = [Path(file) for step in self.curation.steps for file in step.files]
        return {
            "format": FORMAT,
            "curation": self.curation.written(),
            "field": self.fields.text,
            "kept": list(self.fields.kept),
            "compression": self.compression,
            "blocks": self.blocks,
            "tokenizer": None if self.tokenizer is None else Tokenizer.load(self.tokenizer).hash(),
            "files": fingerprints([*files], cores()),
            "text": fingerprints(sources, cores()),
        }

    def _begin(self, sources: list[Source]) -> None:
        """Begin in an empty folder, or go on in one in which the same was begun.

        Raises:
            UsageError: the folder holds something else.
        """
        if (self._work / IDENTITY).exists():
            self._compare(read_json(self._work / IDENTITY), sources)
        elif others := sorted(_names(self.folder) - {LOCK, WORK}):
            raise UsageError(f"{self.folder}: is not empty ({others[0]}); write to a new folder")
        else:
            write_json(self._work / IDENTITY, self._identity(sources))

    def _compare(self, known: Numbers, sources: list[Source]) -> None:
        """Check that what the folder was made from is the same text, with the same steps.

        Raises:
            UsageError: it is not.
        """
        now = self._identity([])
        other = [name for name in now if name != "text" and known.get(name) != now[name]]
        why = f"with other choices ({', '.join(other)})" if other else changed(known.get("text", []), sources)
        if why:
            raise UsageError(f"{self.folder}: was made {why.removeprefix('made ')}; delete it, or take another folder")

    def _passes(self, sources: list[Source]) -> Numbers:
        passes = self.curation.passes()
        first = max((number for number in range(len(passes)) if self._done(number).exists()), default=0)
        report: Numbers = {}
        shards = 0
        for number in range(first, len(passes)):
            current = Pass(self.curation, number, self._work, self.compression, self.tokenizer)
            if self._done(number).exists():
                done = read_json(self._done(number))
                report, shards = done["report"], done["shards"]
            else:
                blocks = ((shard, None) for shard in range(shards)) if number else self._blocks(sources)
                report, shards = self._pass(current, blocks, report)
                if not number:
                    self._check_unchanged(sources)
                write_json(self._done(number), {"report": report, "shards": shards})
            remove(current.before.folder)  # what this pass read
            if (place := passes[number][1]) is not None:
                report = added(report, self._decide(current, place, shards))
        return self._finish(report, shards)

    def _check_unchanged(self, sources: list[Source]) -> None:
        """Check that the text is the same as in the beginning.

        Raises:
            GenusError: a file changed while it was read.
        """
        if why := changed(read_json(self._work / IDENTITY)["text"], sources):
            raise GenusError(f"{self.folder}: was {why}; delete it, and run again when the text stays as it is")

    def _done(self, number: int) -> Path:
        """Return the file that says that a pass is complete: the report so far, and the number of shards."""
        return self._work / f"{number}.json"

    def _pass(self, current: Pass, items: Iterable[Any], report: Numbers) -> tuple[Numbers, int]:
        """Make the shards that are not there, and return the sum of all numbers and the number of shards."""
        if not is_remote(self._work):
            current.shards.folder.mkdir(parents=True, exist_ok=True)
        done: dict[int, Numbers] = {}

        def missing() -> Iterator[tuple[int, TextBlock | None]]:
            for item in items:
                there = current.shards.numbers(item[0])
                done[item[0]] = there or {}
                if there is None:
                    pending.append(item)
                    yield item

        pending: deque[Any] = deque()
        for made in self.engine.in_order(current.run, missing()):
            shard, block = pending.popleft()
            done[shard] = made
            if self.progress is not None and block is not None:
                self.progress(block.position, self._size)
        for shard in sorted(done):
            report = added(report, done[shard])
        return report, len(done)

    def _blocks(self, sources: list[Source]) -> Iterator[tuple[int, TextBlock]]:
        yield from enumerate(itertools.islice(read_blocks(sources, self.fields), self.blocks))

    def _decide(self, current: Pass, place: int, shards: int) -> Numbers:
        """Let a corpus filter decide, unless it has, and return what the report says of it."""
        facts = current.shards.folder / "facts.json"
        if not facts.exists():
            step = cast("CorpusFilter", self.curation.steps[place])
            decision = step.decide(ShardKeys(current.shards, shards, self.engine))
            end = 0
            for shard in range(shards):
                begin, end = end, end + int(current.shards.load(shard, "counts").sum())
                if current.shards.derived(shard, REMOVED) is None:
                    current.shards.write_array(shard, REMOVED, decision.removed[begin:end])
            write_json(facts, decision.facts)
        told = read_json(facts)
        return {"facts": {self.curation.names[place]: told}} if told else {}

    def _finish(self, report: Numbers, shards: int) -> Numbers:
        """Join the shards of the last pass to files, write the report, and remove what was only on the way there."""
        last = Pass(self.curation, len(self.curation.passes()) - 1, self._work, self.compression).shards
        suffix = ".jsonl" + ("" if self.compression == "none" else f".{self.compression}")
        parts = [path for path in (last.path(shard, "part") for shard in range(shards)) if path.stat().st_size]
        files = []
        for number, group in enumerate(_groups(parts)):
            files.append(f"text-{number:05d}{suffix}")
            with replacing(self.folder / files[-1]) as work, work.open("wb") as file:
                for path in group:
                    with path.open("rb") as part:
                        shutil.copyfileobj(part, file)
        marks = [step.marks for step in self.curation.steps if step.marks]
        whole = {
            "made_from": read_json(self._work / IDENTITY),
            "hash": self.curation.hash(),
            "contamination": [step.contamination for step in self.curation.steps if step.contamination],
            **({"together": marks[0]} if marks else {}),
            **_complete(report),
            "files": files,
        }
        write_json(self.folder / CURATION, whole)
        remove(self._work)
        return whole


def _is_within(source: Source, folder: Path) -> bool:
    if isinstance(source, str):
        return False
    if is_remote(source) or is_remote(folder):
        return f"{source}/".startswith(f"{str(folder).rstrip('/')}/")
    return source.resolve().is_relative_to(folder.resolve())


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _complete(report: Numbers) -> Numbers:
    """Return a report with the numbers that are nought."""
    nothing = {"documents": 0, "bytes": 0}
    return {"read": nothing, "kept": nothing, "removed": {}, **report}


def _groups(parts: list[Path]) -> Iterator[list[Path]]:
    """Yield the shards of each file."""
    group: list[Path] = []
    size = 0
    for path in parts:
        group.append(path)
        size += path.stat().st_size
        if size >= FILE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def fields_of(text: str, kept: Iterable[str]) -> Fields:
    """Return the fields to read: the text's, and what is kept beside it."""
    return Fields(text, kept=tuple(dict.fromkeys([*KEPT, *kept])))
