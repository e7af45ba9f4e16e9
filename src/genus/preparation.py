"""The tokenizer and the token stores of a run: found in its folder, given, or made from the corpus."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError, say
from genus.examples.feed.mixing import MixedSource, Mixing, Sources
from genus.export.folder import load_tokenizer
from genus.export.starting.codes import with_codes
from genus.files import expecting, read_json, write_json
from genus.part import diff
from genus.recipe import Budget
from genus.text import TEXT, Corpus
from genus.text.sources import skipped
from genus.tokens import TokenizerConfig
from genus.tokens.store import LARGEST_EXCESS, SMALL, ProgressCallback, Store, counts, curated, prepare
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import dropped_marks
from genus.train.world import is_rank_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.recipe import Recipe
    from genus.run_folder import RunFolder
    from genus.stages import Stage
    from genus.text import Fields, Source

    Text = Sequence[Source] | Mapping[str, Sequence[Source]]

ASKED = "asked.json"
"""File beside a tokenizer that a run trained: the requested choices, which a small corpus may not have reached."""
MIXTURE = "mixture.json"
"""File of a run: how its sources are mixed, by which budget, and how much was to be read of each."""


@dataclass(frozen=True)
class Texts:
    """The text of a run: of one source without a name, or of several with names, which are mixed."""

    corpora: dict[str, Corpus]
    mixing: Mixing | None = None

    @classmethod
    def of(cls, text: Text, fields: Fields = TEXT, mixing: Mixing | None = None) -> Texts:
        """Return the text of files, folders and datasets; given by names, they are mixed, by size if nothing is said.

        Raises:
            UsageError: the mixture is of other sources.
        """
        if not isinstance(text, Mapping):
            return cls({"": Corpus(text, fields)})
        mixing = mixing or Mixing(sources=tuple(MixedSource(name=name) for name in text))
        if [source.name for source in mixing.sources] != [*text]:
            raise UsageError(f"the mixture is of {', '.join(one.name for one in mixing.sources)}, the text of "
                             f"{', '.join(text)}; name the same")  # fmt: skip
        return cls({name: Corpus(several, fields) for name, several in text.items()}, mixing)

    @property
    def whole(self) -> Corpus:
        """The text of all sources."""
        fields = next(iter(self.corpora.values())).fields
        return Corpus([source for corpus in self.corpora.values() for source in corpus.sources], fields)

    def read_by(self, recipe: Recipe, folder: Path, teacher: Path | None) -> tuple[Recipe, Texts]:
        """Return the text of what a run is given, where a format of examples is of something else, such as images.

        The recipe comes back as what else the format reads makes it: with a codebook, by which codes were made.

        Raises:
            UsageError: that is to be mixed.
        """
        examples = recipe.examples
        read = {name: examples.texts_of(corpus, folder) for name, corpus in self.corpora.items()}
        if self.mixing is not None and read != self.corpora:
            raise UsageError(f"{type(examples).__name__} reads no text, and only texts are mixed; name one source")
        return with_codes(recipe, folder, teacher), replace(self, corpora=read)

    def prepare(
        self, recipe: Recipe, run: RunFolder, given: Path | None, progress: ProgressCallback | None
    ) -> tuple[Tokenizer, dict[str, Store]]:
        """Return the tokenizer of a run, and the token store of each source."""
        raw = [corpus for corpus in self.corpora.values() if prepared(corpus) is None]
        for corpus in raw:
            recipe.examples.check_fields(corpus.fields)
            if is_rank_zero() and (line := skipped(corpus.sources)):
                say(line)
        tokenizer = tokenizer_for(recipe, self.whole, run, given)
        stores = {}
        for name, corpus in self.corpora.items():
            with of_source(name):
                stores[name] = token_store(corpus, tokenizer, run.path / "store" / name, progress)
        return tokenizer, stores

    def split(
        self, stores: dict[str, Store], held_out: float, recipe: Recipe, run: RunFolder
    ) -> tuple[Sources, Sources]:
        """Return training and held-out text, of a mixture with the shares that are read."""
        sides: tuple[dict[str, Store], dict[str, Store]] = {}, {}
        for name, store in stores.items():
            with of_source(name):
                sides[0][name], sides[1][name] = held_out_of(store, held_out, name)
        shares = {} if self.mixing is None else shares_of(self.mixing, sides[0], recipe, run)
        return Sources(sides[0], shares), Sources(sides[1], shares)


def shares_of(mixing: Mixing, stores: dict[str, Store], recipe: Recipe, run: RunFolder) -> dict[str, float]:
    """Return the share of the tokens that a run reads of each source, and remember the mixture in its folder.

    A run that has begun keeps its shares when its budget grows.

    Raises:
        UsageError: the run began with another mixture, or reads a source too often.
        GenusError: what is remembered is damaged.
    """
    path, budget, tokens = run.path / MIXTURE, recipe.budget, {name: store.tokens for name, store in stores.items()}
    if run.has_started() and path.exists():
        with expecting(path, "put it back, or begin in another folder"):
            known = read_json(path)
            before, budget = Mixing.from_json(known["mixing"]), Budget.from_json(known["budget"])
        if changes := diff(before, mixing):
            told = "; ".join(f"{where} was {old}, not {new}" for where, old, new in changes[:3])
            raise UsageError(f"{run.path}: holds a run of another mixture ({told}); take another folder")
    read = text_read(recipe, budget, sum(tokens.values()))
    shares = mixing.shares(tokens, read)
    if budget != recipe.budget:
        mixing.check(shares, tokens, text_read(recipe, recipe.budget, sum(tokens.values())))
    elif is_rank_zero():
        sources = {
            name: {"tokens": tokens[name], "share": share, "epochs": read and share * read / tokens[name]}
            for name, share in shares.items()
        }
        write_json(path, {"mixing": mixing.written(), "budget": budget.written(), "sources": sources})
    return shares


def text_read(recipe: Recipe, budget: Budget, tokens: int) -> float | None:
    """Return how many tokens of text a run reads at most; None where its budget does not tell.

    Args:
        recipe: of the run.
        budget: of the run.
        tokens: of the text, which is an epoch.
    """
    rows = [(stage, _text_of_row(recipe, stage)) for stage in recipe.stages]
    match budget.unit:
        case "steps":
            return sum(stage.share * budget.amount * stage.batch * text for stage, text in rows)
        case "tokens":
            return sum(stage.share * budget.amount * text / stage.limits["tokens"] for stage, text in rows)
        case "epochs":
            return budget.amount * tokens
        case _:
            return None


def _text_of_row(recipe: Recipe, stage: Stage) -> int:
    """Return the tokens of text of a row: more than its tokens where an objective shortens them."""
    longest = 0
    for turn in recipe.task_steps(stage):
        limits: Mapping[str, int] = stage.limits
        for objective in reversed(recipe.learning(turn)):
            limits = objective.raw_limits(limits, recipe.tokens.special_tokens)
        longest = max(longest, limits["tokens"])
    return longest


@contextmanager
def of_source(name: str) -> Iterator[None]:
    """Name the source of text in the errors of the block, if it has a name."""
    try:
        yield
    except GenusError as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from None


def tokenizer_for(recipe: Recipe, corpus: Corpus, run: RunFolder, given: Path | None = None) -> Tokenizer:
    """Return the tokenizer of a run: the given one, one trained on the corpus, or a matching one from its folder.

    If the folder has another tokenizer and training has not started, that is replaced and the token store is removed.

    Raises:
        UsageError: training has started with another tokenizer.
    """
    folder = run.path / "tokenizer"
    found = Tokenizer.load(folder) if (folder / "tokenizer.json").exists() else None
    if found is not None:
        if not (why := tokenizer_conflict(recipe, run, found, given)):
            return found
        if run.has_started():
            raise UsageError(f"{folder}: {why}; take another folder")
        say(f"{folder}: {why}; made anew")
    stores = [source for source in corpus.sources if Store.is_at(Path(source))]
    if not given and (store := prepared(corpus) or next(iter(stores), None)):
        raise UsageError(f"{store}: is a prepared store, which needs the tokenizer that made it: --tokenizer FOLDER")
    tokenizer = load_tokenizer(given) if given else recipe.tokens.train(corpus)
    recipe.with_tokens(tokenizer.tokens)  # raises for an unsuitable tokenizer, before the corpus is tokenized
    if found is not None and tokenizer.hash() != found.hash():
        shutil.rmtree(folder)
        if not stores:  # a prepared store may itself be in the run folder
            shutil.rmtree(folder.with_name("store"), ignore_errors=True)
    if not given:
        write_json(folder / ASKED, recipe.tokens.written())
    tokenizer.save(folder)
    return tokenizer


def tokenizer_conflict(recipe: Recipe, run: RunFolder, found: Tokenizer, given: Path | None) -> str:
    """Return how the tokenizer found in a run differs from the given one or the recipe's; "" if it does not."""
    if given:
        same = load_tokenizer(given).hash() == found.hash()
        return "" if same else f"holds another tokenizer than {given}"
    if found.tokens == recipe.tokens:
        return ""
    path = run.path / "tokenizer" / ASKED
    if not path.exists():  # the tokenizer was given, and need not be given again to resume
        return "" if run.has_started() else "holds a tokenizer that was not trained for this run"
    table = read_json(path)
    try:
        asked = TokenizerConfig.from_json(table)
    except UsageError as error:
        raise GenusError(f"{path}: is damaged ({error}); remove it to go on with the tokenizer beside it") from None
    changes = [f"tokens.{where} was {old}, not {new}" for where, old, new in diff(asked, recipe.tokens)]
    return f"holds a tokenizer of other choices ({'; '.join(changes[:3])})" if changes else ""


def token_store(corpus: Corpus, tokenizer: Tokenizer, folder: Path, progress: ProgressCallback | None = None) -> Store:
    """Return the token store of a corpus: opened if the corpus is one, else prepared in `folder`.

    An interrupted preparation continues when it is restarted. What of the text is dropped or unknown is said.

    Raises:
        GenusError: the store is damaged, as the checksums of one up to a gigabyte tell, or the text cannot be read.
    """
    if (found := prepared(corpus)) is not None:
        folder, store = found, Store.open(found, tokenizer)
    else:
        store = prepare(corpus.sources, tokenizer, folder, fields=corpus.fields, progress=progress)
        if is_rank_zero() and (line := dropped_marks(tokenizer, corpus)):
            say(line)
    if is_rank_zero():
        if store.ids.nbytes <= SMALL:
            Store.check(folder)
        sources = ", ".join(map(str, corpus.sources))
        for line in counts(folder).notices():
            say(f"{sources}: {line}")
    return store


def text_notes(sources: Sources) -> str:
    """Return what a model card says of the text: its mixture, by which curations it was made, and of contamination."""
    notes = []
    if sources.shares:
        parts = ", ".join(f"{share:.3g} of `{name}`" for name, share in sources.shares.items())
        notes.append(f"Its text was a mixture, by shares of the tokens: {parts}.")
    for name, store in sources.stores.items():
        for one in curated(store.folder) if store.folder else ():
            done = " ".join(one["contamination"]) or "Evaluation tables were not looked for in it."
            text = f"Its text `{name}`" if name else "Its text"
            notes.append(f"{text} was curated: `{one['name']}`, by steps with the hash `{one['hash']}`. {done}")
    return "\n\n".join(notes)


def held_out_of(store: Store, share: float, name: str = "") -> tuple[Store, Store]:
    """Split a store into training and held-out text (`Store.split`), and log where that is not whole documents."""
    training, validation = store.split(share)
    parts = len(training.documents) + len(validation.documents) - len(store.documents)
    held = validation.tokens / store.tokens
    if is_rank_zero() and (parts or held > share + LARGEST_EXCESS):
        if parts:
            what = f"the last sentences of {parts:,} documents, as whole ones would be far more than"
        else:
            what = f"{len(validation.documents):,} whole documents, as no fewer can be: more than"
        say(
            f"{name}{': ' if name else ''}held out: {held:.1%} of the text, {what} --run held_out={share:g}; more "
            "documents, with blank lines between them, are held out evenly"
        )
    return training, validation


def prepared(corpus: Corpus) -> Path | None:
    """Return the folder of the prepared store if the corpus is one, else None."""
    folders = [Path(source) for source in corpus.sources]
    return folders[0] if len(folders) == 1 and Store.is_at(folders[0]) else None
