"""The command line (typer): each command is a thin layer over one library function, imported when it is called."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from genus.cli import (
    analyze,
    attack,
    clean,
    code,
    compare,
    compress,
    data,
    doctor,
    draw,
    embed,
    export,
    features,
    find,
    generate,
    likelihoods,
    memorize,
    mup,
    plan,
    plant,
    prefer,
    probe,
    quickstart,
    rows,
    scale,
    serve,
    training,
    use,
    vectors,
    watch,
)
from genus.errors import INTERRUPTED, MOST_SHOWN, GenusError, UsageError
from genus.files import FULL
from genus.openmp import choose_waiting

TRACEBACK = "GENUS_TRACEBACK"
"""Environment variable that shows tracebacks of errors."""
LONGEST_PATH = 4096
"""Bytes of a path that Linux opens; a longer one is no path, and not told whole."""
NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)
"""In PyTorch's errors, on CPUs and on GPUs."""

app = typer.Typer(
    name="genus",
    help="Pretrain, fine-tune, compare and export members of the BERT family. Start with: genus quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
tokenizer = typer.Typer(help="Make a tokenizer.", no_args_is_help=True, rich_markup_mode=None)

app.command("quickstart")(quickstart.quickstart)
app.command("doctor")(doctor.doctor)
app.command("watch")(watch.watch)
app.command("list")(rows.list_members)
app.command("show")(rows.show)
app.command("table")(rows.table)
app.add_typer(tokenizer, name="tokenizer")
tokenizer.command("train")(data.train_tokenizer)
app.command("plan")(plan.plan)
app.command("compare")(compare.compare)
app.add_typer(scale.app, name="scale")
app.add_typer(mup.app, name="mup")
app.command("clean")(clean.clean)
app.command("find")(find.find)
app.command("prepare")(data.prepare)
app.command("pretrain")(training.pretrain)
app.command("finetune")(training.finetune)
app.command("respond")(prefer.respond)
app.command("prefer")(prefer.prefer)
app.command("evaluate")(use.evaluate)
app.command("analyze")(analyze.analyze)
app.command("attack")(attack.attack)
app.command("evaluate-code")(code.evaluate_code)
app.command("fill")(use.fill)
app.command("embed")(embed.embed)
app.command("features")(features.features)
app.command("vectors")(vectors.vectors)
app.command("generate")(generate.generate)
app.command("draw")(draw.draw)
app.command("serve")(serve.serve)
app.command("probe")(probe.probe)
app.command("plant")(plant.plant)
app.command("memorize")(memorize.memorize)
app.command("attribute")(likelihoods.attribute)
app.command("average")(use.average)
app.command("export")(export.export)
app.command("quantize")(compress.quantize)
app.command("prune")(compress.prune)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"genus {version('genus')}")
        raise typer.Exit


@app.callback()
def settings(
    traceback: Annotated[
        bool, typer.Option("--traceback", help=f"As {TRACEBACK}=1: show where an error arose.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    if traceback:
        os.environ[TRACEBACK] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 (success), 1 (failure), 2 (invalid call), 130 (Ctrl-C)."""
    if "torch" not in sys.modules:  # afterwards it would change nothing, and `run.json` would tell what is not so
        choose_waiting()
    _open_closed_streams()
    try:
        for number, argument in enumerate(sys.argv[1:] if arguments is None else arguments, 1):
            if not argument.isascii() and argument.encode(errors="replace").decode() != argument:
                raise UsageError(
                    f"argument {number}, {argument!a:.80}, is not UTF-8; give text in UTF-8, and rename a file of "
                    "such a name"
                )
        code = app(args=arguments, prog_name="genus", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader closed the pipe
        return 1
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK, "") not in {"", "0"}:
            raise
        return _report(error)
    if code == INTERRUPTED:  # typer converts a KeyboardInterrupt to an exit code
        print("genus: stopped", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Open the null device where standard output or standard error was closed: else a file would take its place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _report(error: Exception) -> int:
    """Print an error as one line and return its exit code."""
    if isinstance(error, GenusError):
        message, code = str(error), error.exit_code
    elif hasattr(error, "format_message"):  # typer's own errors, which have no public base class
        message, code = error.format_message(), int(getattr(error, "exit_code", 2))
        if message.startswith("Usage: "):  # a command without arguments prints its usage, not an error
            print(message, file=sys.stderr)
            return code
    elif isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        # whoever writes a file names it; without a name, it is standard output's
        where = "standard output" if error.filename is None else os.fsdecode(error.filename)
        where = where if len(where) <= LONGEST_PATH else f"{where[:MOST_SHOWN]}..."
        message, code = f"{where}: {error.strerror}", 1
    elif isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        message, code = "there is not enough memory; take a smaller batch (stages.micro_batch), model or table", 1
    else:
        message, code = f"{type(error).__name__}: {error} (unexpected; {TRACEBACK}=1 shows where)", 1
    print(f"genus: error: {' '.join(message.split())}", file=sys.stderr)
    return code
