"""The command `plant`: canaries in a text."""

from typing import Annotated

import typer

from genus.cli.generate import Seed
from genus.cli.options import AsJson, Field, Out, Sources
from genus.cli.output import Counter, document
from genus.errors import GenusError, UsageError

Repetitions = Annotated[str, typer.Option(metavar="N,N,...", help="How often canaries are planted.")]
Pattern = Annotated[
    str, typer.Option("--format", metavar="TEXT", help="What a canary looks like: {name}, then {secret}.")
]


def plant(
    texts: Sources,
    out: Out,
    canaries: Annotated[int, typer.Option(help="Canaries of each number of repetitions.")] = 5,
    repetitions: Repetitions = "1,2,5,10,20,50,100",
    pattern: Pattern = "The access code of {name} is {secret}.",
    alphabet: Annotated[str, typer.Option(help="Characters of a secret.")] = "0123456789",
    length: Annotated[int, typer.Option(help="Characters of a secret.")] = 4,
    seed: Seed = 0,
    field: Field = "text",
    as_json: AsJson = False,
) -> None:
    """Plant canaries in a text: strings with a secret, each as a document of its own, as often as is said.

    FOLDER/text.jsonl is the text to train on, FOLDER/canaries.json what genus memorize --canaries asks a model for.
    """
    from genus.curate.occurrences import Corpus
    from genus.memorization.canaries import CANARIES, draw_canaries
    from genus.memorization.canaries import TEXT as PLANTED_TEXT
    from genus.memorization.canaries import plant as write
    from genus.run_folder import RunFolder

    try:
        numbers = [int(one) for one in repetitions.split(",")]
    except ValueError:
        raise UsageError(f"--repetitions: expected numbers with commas between them, got {repetitions!r}") from None
    planted = draw_canaries(canaries, numbers, pattern=pattern, alphabet=alphabet, length=length, seed=seed)
    corpus = Corpus([str(one) for one in texts], field)
    count, number = Counter("counting", "documents"), 0
    folder = RunFolder(out)
    if not (out / CANARIES).is_file():
        folder.refuse_unless_empty("a text with canaries")
    with folder.lock():
        for number, _ in enumerate((one for piece in corpus.pieces() for one in piece.read()), 1):
            count(number, None)
        if not number:
            raise GenusError(f"{', '.join(map(str, texts))}: there is no document to plant canaries among")
        read = (one for piece in corpus.pieces() for one in piece.read())
        written = write(read, number, planted, out, Counter("writing", "documents"))
    told = {"documents": number, "canaries": len(planted.canaries), "written": written, "text": out / PLANTED_TEXT}
    if as_json:
        document(told)
    else:
        print(f"{len(planted.canaries)} canaries, {written - number:,} copies of them among {number:,} documents: "
              f"{out / PLANTED_TEXT}")  # fmt: skip
