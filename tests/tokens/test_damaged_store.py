"""A store whose small files say something else is named in one line; nobody writes beside another, nor outlives one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_store
from test_store import Stop, check_error, content

from genus.errors import UsageError
from genus.tokens.store import prepare

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

corpus, wordpiece, small_blocks = test_store.corpus, test_store.wordpiece, test_store.small_blocks  # fixtures

META_DAMAGE = {
    "no dtype": lambda meta: meta.pop("dtype"),
    "sizes in words": lambda meta: meta.update(sizes=["a", "b", "c"]),
    "two sums": lambda meta: meta.update(crc32=[1, 2]),
    "a tokenizer that is a number": lambda meta: meta.update(tokenizer=3),
    "text without names": lambda meta: meta.update(text=[{}]),
    "counts of something else": lambda meta: meta.update(counts={"words": 3}),
}


@pytest.mark.parametrize("damage", [*META_DAMAGE, "3", "[1]", "[" * 100_000])
def test_a_description_that_says_something_else_is_one_line(
    corpus: Path, tmp_path: Path, wordpiece: Tokenizer, damage: str
) -> None:
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    file = tmp_path / "store" / "meta.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    if damage in META_DAMAGE:
        META_DAMAGE[damage](meta)
    file.write_text(json.dumps(meta) if damage in META_DAMAGE else damage, encoding="utf-8")
    check_error(r"meta\.json: is damaged", lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("line", ["[]", "{}", "3", "\ufffd{}", "[" * 100_000])
def test_a_journal_is_read_as_far_as_it_is_whole(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, line: str) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 5_000:
            raise Stop

    with pytest.raises(Stop):
        prepare([corpus], wordpiece, tmp_path / "store", workers=1, progress=stop)
    journal = tmp_path / "store" / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    journal.write_text("\n".join([line, *lines[1:]]) + "\n", encoding="utf-8")
    check_error(r"journal\.jsonl: is damaged", lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1))
    journal.write_text("\n".join([*lines[:-2], line, lines[-1]]) + "\n", encoding="utf-8")
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    prepare([corpus], wordpiece, tmp_path / "other", workers=1)
    assert content(tmp_path / "store") == content(tmp_path / "other")


ORPHANS = """
import sys, time
from pathlib import Path
import genus.text.read, genus.tokens.store
from genus.tokens.store import prepare
from genus.tokens.tokenizer import Tokenizer
if __name__ == "__main__":
    genus.text.read.BLOCK_BYTES = genus.tokens.store.BLOCK_BYTES = 1000
    folder = Path(sys.argv[1])
    def seen(done, total):
        import multiprocessing
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        time.sleep(600)
    prepare([folder / "corpus.jsonl"], Tokenizer.load(folder / "tokenizer"), folder / "store", workers=2, progress=seen)
"""


def test_no_worker_outlives_a_preparation_that_is_killed(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    """Meanwhile nobody else writes there, and afterwards it goes on."""
    wordpiece.save(tmp_path / "tokenizer")
    (tmp_path / "script.py").write_text(ORPHANS)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            workers = [int(number) for number in process.stdout.readline().split()]
            assert len(workers) == 2
            with pytest.raises(UsageError, match=f"store: is in use by process {process.pid} on "):
                prepare([corpus], wordpiece, tmp_path / "store", workers=1)
        finally:
            process.kill()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{number}").exists() for number in workers)
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
