"""Every member at one budget: pretrained on Wikipedia, and what that is worth in tasks, beside random weights.

    python benchmarks/family.py --data ../shared/data --out runs/family --jobs 2

It is a use of `genus compare`'s room: each member is pretrained for as many tokens, or with `--flops` for the FLOPs of
the reference's tokens, measured on held-out text, on BLiMP's pairs and by fine-tuning on tasks with few labels, and so
are random weights, with the same settings. Stop it at any moment, and run the same command: it goes on. With more
`--seeds` only the new ones are run. Results go to `--results`: `results.json`, `report.md`, `index.html`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from family_data import PAIRS, TASKS
from family_plan import FAILED, REFERENCE, SETTINGS, flops_per_token, members, parser, prepare, settled

from genus.cli.compare import RUN, write
from genus.recipe import Budget
from genus.study.comparison import Comparison, carried_out, finished
from genus.study.entries import Entry
from genus.study.measurements.likelihood import HeldOutBits, MinimalPairs
from genus.study.measurements.tables import FullFineTuning
from genus.study.results import results
from genus.train.run import Run

if TYPE_CHECKING:
    import argparse

    from genus.study.comparison import Study
    from genus.study.measurements import Measurement

RESULTS = Path(__file__).parent / "family"
MEMBERS = (
    "bert", "genus", "roberta", "albert", "electra", "xlnet", "spanbert", "distilbert", "gpt2", "megatron-bert",
    "ernie2", "elmo", "t5", "bart", "bigbird", "linformer", "transformer-xl", "reformer", "lstm",
)  # fmt: skip
"""One of each idea: the other decoders differ from `gpt2` in less than so small a row shows, or read codes or pairs."""


def measurements(options: argparse.Namespace) -> tuple[Measurement, ...]:
    """Return what every member is measured by."""
    tuned = [
        FullFineTuning(table=str(options.tables / task), task=few.task, runs=SETTINGS.tunings)
        for task, few in TASKS.items()
    ]
    return (HeldOutBits(), MinimalPairs(folder=str(options.data / "blimp"), pairs=options.rows or PAIRS), *tuned)


def comparison(options: argparse.Namespace) -> Comparison:
    """Return the comparison of the members; the reference comes first, and teaches those that learn from a teacher."""
    rows = members(options.size, list(dict.fromkeys(options.members)))
    entries = tuple(Entry(member, settled(row, 0)) for member, row in rows.items())
    budget = Budget(amount=options.tokens, unit="tokens")
    if options.flops:
        budget = Budget(amount=options.tokens * flops_per_token(settled(rows[REFERENCE], 0)), unit="flops")
    run, folder = replace(Run(**RUN), device="cpu", compile=options.compile), options.out / budget.unit
    return Comparison(
        entries, budget, tuple(range(options.seeds)), measurements(options), (str(options.text),), folder, run,
        options.jobs,
    )  # fmt: skip


def main() -> None:
    command = parser(__doc__, RESULTS)
    command.add_argument("--members", nargs="+", default=MEMBERS, help="any that have the size and read plain text")
    command.add_argument("--seeds", type=int, default=2, help="of pretraining")
    command.add_argument("--flops", action="store_true", help="pretrain each for the FLOPs of the reference")
    command.add_argument("--report", action="store_true", help="write the report of what is finished only")
    options = command.parse_args()
    prepare(options)
    asked = comparison(options)

    def ended(study: Study, failed: dict[str, str]) -> None:
        write(results(study, failed), options.results)

    study, failed = (finished(asked), {}) if options.report else carried_out(asked, ended)
    found = results(study, failed)
    write(found, options.results)
    print(f"{options.results / 'report.md'}: {len(found.missing)} jobs missing")
    if failed:
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
