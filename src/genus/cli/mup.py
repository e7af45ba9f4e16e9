"""The command `mup check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.options import AsJson, RecipeName, Settings, Sources
from genus.cli.output import columns, document
from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.scale.coordinates import Coordinate

app = typer.Typer(
    help="Hyperparameters that hold at every width (muTransfer).", no_args_is_help=True, rich_markup_mode=None
)


@app.command("check")
def check(
    recipe: RecipeName,
    texts: Sources,
    widths: Annotated[
        list[int], typer.Option("--width", metavar="H", help="A hidden size; repeatable, twice at least.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Updates, at the peak rate.")] = 4,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="Write the sizes as a page.")] = None,
    settings: Settings = [],
    as_json: AsJson = False,
) -> None:
    """Coordinate check: are activations as large at every width, in the first steps of training?

    Of model.initialization=MuP they are; otherwise some grow with the width, and so does what a rate does.
    """
    from genus import catalog
    from genus.cli.options import chosen_run
    from genus.files import write_text
    from genus.scale.coordinates import coordinates, powers, to_json

    if len(set(widths)) < 2:
        raise UsageError("--width: name two widths at least")
    row = catalog.load(recipe, settings)
    found = coordinates(row, texts, sorted(set(widths)), chosen_run(["device=cpu", "precision=float32"]), steps)
    if page is not None:
        write_text(page, _page(row.name, found))
    if as_json:
        document(to_json(found))
        return
    last = max(one.step for one in found)
    told = [[name, *(f"{one.size:.3g}" for one in found if one.module == name and one.step == last), f"{power:+.2f}"]
            for name, power in powers(found).items()]  # fmt: skip
    header = [f"after {last} updates", *(str(width) for width in sorted(set(widths))), "power of the width"]
    print(columns(header, told))


def _page(name: str, found: "Sequence[Coordinate]") -> str:
    """Return a page with a figure for each module: its size over the width, before training and after each step."""
    from genus.cli.plot import STYLE
    from genus.cli.plot import document as html

    modules = dict.fromkeys(one.module for one in found)
    figures = "".join(f"<h2>{module}</h2>{_figure([one for one in found if one.module == module])}"
                      for module in modules)  # fmt: skip
    note = '<p class="note">The mean of |x| over the width; the darker, the later the step.</p>'
    return html(f"Coordinate check of {name}", STYLE, note + figures)


def _figure(found: "Sequence[Coordinate]") -> str:
    """Return the sizes of a module, a line for each step, over the logarithm of the width."""
    import math

    from genus.cli.plot import Axis, Frame, ticks

    widths = sorted({one.width for one in found})
    high = max(one.size for one in found) or 1.0
    x = Axis(math.log(widths[0]), math.log(widths[-1]), [(math.log(width), str(width)) for width in widths], "width")
    frame = Frame(x, Axis(0.0, 1.05 * high, [(tick, f"{tick:.3g}") for tick in ticks(1.05 * high)]), left=56)
    steps = sorted({one.step for one in found})
    drawn = []
    for step in steps:
        line = frame.path("first", [(math.log(one.width), one.size) for one in found if one.step == step])
        drawn.append(f'<g opacity="{0.25 + 0.75 * step / max(1, steps[-1]):.2f}">{line}</g>')
    return frame.svg(f"{found[0].module} by width", drawn)
