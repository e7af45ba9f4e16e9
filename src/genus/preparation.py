"""The tokenizer and the token store of a run: found in its folder, given, or made from the corpus."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError, say
from genus.export.folder import load_tokenizer
from genus.files import read_json, write_json
from genus.part import diff
from genus.tokens import TokenizerConfig
from genus.tokens.store import LARGEST_EXCESS, SMALL, ProgressCallback, Store, counts, curated, prepare
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import dropped_marks
from genus.train.world import is_rank_zero

if TYPE_CHECKING:
    from genus.recipe import Recipe
    from genus.run_folder import RunFolder
    from genus.text import Corpus

ASKED = "asked.json"
"""File beside a tokenizer that a run trained: the requested choices, which a small corpus may not have reached."""


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
    if not given and (store := prepared(corpus)):
        raise UsageError(f"{store}: is a prepared store, which needs the tokenizer that made it: --tokenizer FOLDER")
    tokenizer = load_tokenizer(given) if given else recipe.tokens.train(corpus)
    recipe.with_tokens(tokenizer.tokens)  # raises for an unsuitable tokenizer, before the corpus is tokenized
    if found is not None and tokenizer.hash() != found.hash():
        shutil.rmtree(folder)
        if not prepared(corpus):  # a prepared store may itself be in the run folder
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


def text_notes(store: Store) -> str:
    """Return what a model card says of the store's text: by which curations it was made, and of contamination."""
    if store.folder is None:
        return ""
    notes = []
    for one in curated(store.folder):
        done = " ".join(one["contamination"]) or "Evaluation tables were not looked for in it."
        notes.append(f"Its text was curated: `{one['name']}`, by steps with the hash `{one['hash']}`. {done}")
    return "\n\n".join(notes)


def held_out_of(store: Store, share: float) -> tuple[Store, Store]:
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
            f"held out: {held:.1%} of the text, {what} --run held_out={share:g}; more documents, with blank lines "
            "between them, are held out evenly"
        )
    return training, validation


def prepared(corpus: Corpus) -> Path | None:
    """Return the folder of the prepared store if the corpus is one, else None."""
    folders = [Path(source) for source in corpus.sources]
    return folders[0] if len(folders) == 1 and Store.is_at(folders[0]) else None
