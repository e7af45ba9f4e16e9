"""Images of captions: `draw`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.folders import model_folder, read_model
from genus.cli.options import AsJson, Folder, Running, generating_run
from genus.cli.output import document
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.export.starting.codes import Codebook

Captions = Annotated[
    list[str] | None, typer.Argument(metavar="[CAPTION]...", help="What is to be seen.", show_default=False)
]
Picture = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The picture, .png: a row for each caption.", show_default=False)
]
CaptionFile = Annotated[
    Path | None, typer.Option("--captions", metavar="FILE", help="Captions from a file of text, one a line.")
]
Ranker = Annotated[
    Path | None,
    typer.Option("--rerank", metavar="MODEL", help="Sort the images of a caption by this model's cosines (clip)."),
]
Top = Annotated[Path | None, typer.Option("--top", metavar="IMAGE", help="Go on from the upper part of this image.")]
Keep = Annotated[int | None, typer.Option(metavar="ROWS", help="Rows of codes that --top gives; by default half.")]
VAE = Annotated[
    Path | None,
    typer.Option("--dvae", metavar="MODEL", help="The discrete VAE, where it is not where the run found it."),
]


def draw(
    model: Folder,
    out: Picture,
    captions: Captions = None,
    file: CaptionFile = None,
    count: Annotated[int, typer.Option(help="Images of each caption.")] = 8,
    best: Annotated[int | None, typer.Option(help="With --rerank: how many of them are kept.")] = None,
    temperature: Annotated[
        float, typer.Option(help="Above 0: sample from softmax(logits / temperature); 0: the most probable code.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most probable codes.")] = None,
    rerank: Ranker = None,
    top: Top = None,
    keep: Keep = None,
    dvae: VAE = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Draw images of captions with a model of captions and codes (dall-e).

    Codes are drawn one by one, and decoded by the discrete VAE from which the model learned them.
    """
    from genus.generate.sampling import Sampling
    from genus.tasks.draw import Drawer, ranked, top_of, write
    from genus.train.world import device_of_run

    asked = _captions(captions, file)
    for name, value in (("--count", count), ("--best", best)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected at least 1, got {value}")
    if (best is not None and rerank is None) or (keep is not None and top is None):
        name, other = ("--best", "--rerank MODEL") if best is not None and rerank is None else ("--keep", "--top IMAGE")
        raise UsageError(f"{name}: says nothing without {other}")
    run = generating_run(running)
    drawer = Drawer(read_model(model), _codebook(model, dvae), run.precision)
    ranker, device = None if rerank is None else read_model(rerank), device_of_run(run)
    for one in (drawer.model, drawer.codebook.model, *([] if ranker is None else [ranker])):
        one.learner.to(device)
    given = None if top is None else top_of(top, drawer.codebook, keep)
    found = []
    for drawing in drawer.draw(asked, count, Sampling(temperature=temperature, top_k=top_k), seed, given):
        found.append(drawing if ranker is None else ranked(drawing, ranker))
        write(out, [one.images[:best] for one in found])
    if as_json:
        told = [
            {"caption": one.caption, "codes": one.codes[:best].tolist(), "scores": [*one.scores[:best]]}
            for one in found
        ]
        document({"picture": out, "images": told})
    else:
        print(f"{out}: {len(found)} rows of {len(found[0].images[:best])} images, one for each caption")


def _captions(given: list[str] | None, file: Path | None) -> list[str]:
    """Return the captions of the command line and of a file.

    Raises:
        UsageError: there is none.
    """
    from genus.text import read_documents

    found = [*(given or [])]
    if file is not None:
        found += [line for text in read_documents([file]) for line in text.splitlines()]
    found = [one.strip() for one in found if one.strip()]
    if not found:
        raise UsageError("no caption is given; write one behind the model's folder, or give --captions FILE")
    return found


def _codebook(model: Path, given: Path | None) -> "Codebook":
    """Return the discrete VAE that is named, or else that of the run.

    Raises:
        UsageError: none is known.
    """
    from genus.export.starting.codes import Codebook, remembered

    found = given or remembered(model)
    if found is None:
        raise UsageError(f"{model}: does not tell its discrete VAE; name it with --dvae MODEL")
    return Codebook.read(model_folder(found))
