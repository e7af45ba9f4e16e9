"""The token store: what is in it, that it survives anything, and that it refuses what does not belong to it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import GenusError
from genus.text import Fields
from genus.text.sentences import split
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, counts, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

TEXTS = [
    f"Document {n} begins. It is caf\u00e9 no. {n * n}!\nThen it goes on, and ends; {'word ' * (n % 7)}."
    for n in range(200)
]
SMALL_BLOCK = 1_000
STORE_FILES = ["documents.bin", "ids.bin", "meta.json", "sentences.bin"]


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return WordPiece(vocab_size=300).train(TEXTS)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return ByteBPE(vocab_size=300).train(TEXTS)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "corpus.jsonl"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("genus.text.read", "genus.tokens.store"):
        monkeypatch.setattr(f"{module}.BLOCK_BYTES", SMALL_BLOCK)


def documents(store: Store) -> list[list[list[int]]]:
    """The ids, by document and sentence."""
    cuts = store.sentences
    return [[store.ids[cuts[s] : cuts[s + 1]].tolist() for s in range(first, last)] for first, last in store.documents]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_ids_are_those_of_the_sentences(
    kind: str, corpus: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    store = prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    expected = [
        [e.ids for e in tokenizer.backend.encode_batch(split(text), add_special_tokens=False)] for text in TEXTS
    ]
    assert documents(store) == expected
    assert store.document_bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert store.ids.dtype == np.uint16


def test_byte_level_ids_decode_to_the_document(corpus: Path, tmp_path: Path, byte_bpe: Tokenizer) -> None:
    store = prepare([corpus], byte_bpe, tmp_path / "store", workers=1)
    assert [byte_bpe.decode([*itertools.chain(*sentences)]) for sentences in documents(store)] == TEXTS


def test_size_on_disk(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    sizes = {name: len(data) for name, data in content(tmp_path / "store").items()}
    found = counts(tmp_path / "store")
    assert list(sizes) == STORE_FILES
    assert (sizes["ids.bin"], sizes["sentences.bin"], sizes["documents.bin"]) == (
        2 * found.tokens,
        8 * (found.sentences + 1),
        24 * found.documents,
    )


@pytest.mark.usefixtures("small_blocks")
def test_any_number_of_workers_writes_the_same(corpus: Path, tmp_path: Path, byte_bpe: Tokenizer) -> None:
    for workers in (1, 2):
        prepare([corpus], byte_bpe, tmp_path / str(workers), workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert counts(tmp_path / "1").blocks > 10


@pytest.mark.usefixtures("small_blocks")
def test_blocks_do_not_show(
    corpus: Path, tmp_path: Path, wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = documents(prepare([corpus], wordpiece, tmp_path / "parts", workers=1))
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 1 << 20)
    assert documents(prepare([corpus], wordpiece, tmp_path / "whole", workers=1)) == parts
    assert counts(tmp_path / "whole").blocks == 1


class Stop(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("after", [1, 5])
def test_a_restart_goes_on(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, after: int) -> None:
    calls: list[int] = []

    def stop(done: int, total: int | None) -> None:
        calls.append(done)
        if len(calls) == after:
            raise Stop

    with pytest.raises(Stop):
        prepare([corpus], wordpiece, tmp_path / "store", workers=1, progress=stop)
    with pytest.raises(GenusError, match="not finished; prepare it again to go on"):
        Store.open(tmp_path / "store")
    stopped_at = calls[-1]
    prepare([corpus], wordpiece, tmp_path / "store", workers=1, progress=lambda done, total: calls.append(done))
    prepare([corpus], wordpiece, tmp_path / "other", workers=1)
    assert calls[after] > stopped_at
    assert calls == sorted(calls)
    assert content(tmp_path / "store") == content(tmp_path / "other")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("damage", ["torn line", "short file", "changed file", "more in file"])
def test_a_restart_after_a_crash(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, damage: str) -> None:
    store = tmp_path / "store"

    def stop(done: int, total: int | None) -> None:
        if done > 5_000:
            raise Stop

    with pytest.raises(Stop):
        prepare([corpus], wordpiece, store, workers=1, progress=stop)
    match damage:
        case "torn line":
            text = (store / "journal.jsonl").read_text(encoding="utf-8")
            (store / "journal.jsonl").write_text(text[:-30], encoding="utf-8")
        case "short file":
            (store / "ids.bin").write_bytes((store / "ids.bin").read_bytes()[:-7])
        case "changed file":
            (store / "sentences.bin").write_bytes(bytes(len((store / "sentences.bin").read_bytes())))
        case "more in file":
            with (store / "documents.bin").open("ab") as file:
                file.write(b"half of a block")
    prepare([corpus], wordpiece, store, workers=1)
    prepare([corpus], wordpiece, tmp_path / "other", workers=1)
    assert content(store) == content(tmp_path / "other")


def test_killed_at_any_moment(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    """SIGKILL in the middle of a block's files, in a process of its own, at three places."""
    wordpiece.save(tmp_path / "tokenizer")
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import genus.text.read, genus.tokens.store
        from genus.tokens.store import journal
        from genus.tokens.tokenizer import Tokenizer
        genus.text.read.BLOCK_BYTES = 1000
        folder, moment = Path(sys.argv[1]), int(sys.argv[2])
        count = 0
        def crc32(data, start=0, crc32=journal.zlib.crc32):
            global count
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return crc32(data, start)
        journal.zlib = type("zlib", (), {"crc32": staticmethod(crc32)})
        genus.tokens.store.prepare([folder / "corpus.jsonl"], Tokenizer.load(folder / "tokenizer"), folder / "store",
        workers=1)
        """
    )
    for moment in ("2", "20", "31"):
        ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), moment], check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        assert not Store.is_at(tmp_path / "store")
    subprocess.run([sys.executable, "-c", script, str(tmp_path), "-1"], check=True, timeout=60)
    store = Store.open(tmp_path / "store", wordpiece)
    assert documents(store) == documents(prepare([corpus], wordpiece, tmp_path / "other", workers=1))


def test_a_finished_store_is_opened_as_it_is(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "store").iterdir()}
    prepare(
        [corpus],
        wordpiece,
        tmp_path / "store",
        workers=1,
        progress=lambda done, total: pytest.fail("nothing is to be done"),
    )
    assert before == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "store").iterdir()}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("finished", [True, False])
def test_what_does_not_belong_to_it_is_refused(
    corpus: Path, tmp_path: Path, wordpiece: Tokenizer, byte_bpe: Tokenizer, finished: bool
) -> None:
    def stop(done: int, total: int | None) -> None:
        raise Stop

    if finished:
        prepare([corpus], wordpiece, tmp_path / "store", workers=1)
        check_error("was made with another tokenizer", lambda: Store.open(tmp_path / "store", byte_bpe))
    else:
        with pytest.raises(Stop):
            prepare([corpus], wordpiece, tmp_path / "store", workers=1, progress=stop)
    (tmp_path / "more.txt").write_text("more", encoding="utf-8")
    refused: list[tuple[str, Callable[[], object]]] = [
        ("was made with another tokenizer", lambda: prepare([corpus], byte_bpe, tmp_path / "store", workers=1)),
        (
            "was made from corpus.jsonl, not",
            lambda: prepare([tmp_path / "more.txt"], wordpiece, tmp_path / "store", workers=1),
        ),
        (
            "was made from the field 'text', not 'title' and 'text'",
            lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1, fields=Fields(title="title")),
        ),
        (
            "was made from the field 'text', not 'b'",
            lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1, fields=Fields("b")),
        ),
    ]
    for message, call in refused:
        check_error(message, call)
    corpus.write_text('{"text": "changed"}', encoding="utf-8")
    check_error(
        "corpus.jsonl changed; delete the folder", lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    )


@pytest.mark.parametrize("name", STORE_FILES)
def test_damage_is_noticed(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, name: str) -> None:
    """A file that is cut off, when a store is opened; one changed bit, when it is checked."""
    prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    file = tmp_path / "store" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x80
    file.write_bytes(data[:-1] if name == "meta.json" else data)
    check_error("is damaged", lambda: Store.check(tmp_path / "store"))
    file.write_bytes(data[:-1])
    check_error("is damaged", lambda: Store.open(tmp_path / "store"))
    file.unlink()
    check_error("there is no token store|is damaged", lambda: Store.open(tmp_path / "store"))


def test_what_was_mended_and_dropped_is_counted(tmp_path: Path, wordpiece: Tokenizer) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n\nbad \xff byte\n\n\xe2\x80\x8b\n\nlast")
    store = prepare([tmp_path / "a.txt"], wordpiece, tmp_path / "store", workers=1)
    found = counts(tmp_path / "store")
    assert (found.documents, found.empty, found.replaced) == (3, 1, 1)  # a lone zero-width space is nothing to BERT
    assert found.bytes == store.document_bytes.sum() == len("goodbad \ufffd bytelast".encode())


def test_errors_of_the_text_come_through_the_workers(
    tmp_path: Path, wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genus.tokens.store.BLOCK_BYTES", 1)
    (tmp_path / "a.txt").write_bytes(b"")
    check_error(
        "the corpus is empty: there is no text in",
        lambda: prepare([tmp_path / "a.txt"], wordpiece, tmp_path / "s", workers=1),
    )
    assert not (tmp_path / "s").exists()
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n{"txt": "y"}', encoding="utf-8")
    for workers in (1, 2):
        check_error(
            "b.jsonl, line 2: there is no field 'text'",
            lambda workers=workers: prepare(
                [tmp_path / "b.jsonl"], wordpiece, tmp_path / f"s{workers}", workers=workers
            ),
        )


def test_a_full_disk(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    check_error("No space left on device", lambda: prepare([corpus], wordpiece, tmp_path / "store", workers=1))
    monkeypatch.undo()
    assert len(prepare([corpus], wordpiece, tmp_path / "store", workers=1).documents) == len(TEXTS)


@pytest.mark.parametrize("held_out", [0.001, 0.1, 0.5, 1.0])
def test_split(corpus: Path, tmp_path: Path, wordpiece: Tokenizer, held_out: float) -> None:
    store = prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    training, other = store.split(held_out)
    both = np.concatenate([training.documents, other.documents])
    assert sorted(both.tolist()) == store.documents.tolist()
    assert training.document_bytes.sum() + other.document_bytes.sum() == store.document_bytes.sum()
    assert len(training.documents) > 0
    # 4 standard deviations of a binomial draw of 200 documents, and the 2 that each side has anyway
    assert abs(len(other.documents) - 200 * held_out) <= 4 * (200 * held_out * (1 - held_out)) ** 0.5 + 2


def test_split_of_nothing_and_of_one(tmp_path: Path, wordpiece: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text("one\ndocument\n\n", encoding="utf-8")
    store = prepare([tmp_path / "a.txt"], wordpiece, tmp_path / "two", workers=1)
    training, other = store.split(0)
    assert (len(training.documents), len(other.documents)) == (2, 0)
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    store = prepare([tmp_path / "a.txt"], wordpiece, tmp_path / "one", workers=1)
    check_error("the corpus has one document, so none can be held out", lambda: store.split(0.01))


def test_a_pickled_store_is_a_few_bytes(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    store = prepare([corpus], wordpiece, tmp_path / "store", workers=1)
    for one in (store, store.split(0.1)[0], store.split(0.1)[1].split(0.5)[0]):
        pickled = pickle.dumps(one)
        assert len(pickled) < 1_000
        again = pickle.loads(pickled)
        assert documents(again) == documents(one)
        assert again.document_bytes.tolist() == one.document_bytes.tolist()


def test_a_store_in_memory_is_pickled_whole() -> None:
    store = Store(np.arange(5, dtype=np.uint16), np.array([0, 2, 5]), np.array([[0, 1], [1, 2]]), np.array([3, 4]))
    assert documents(pickle.loads(pickle.dumps(store.split(0.5)[0]))) in ([[[0, 1]]], [[[2, 3, 4]]])


def test_progress_is_in_bytes_of_text(corpus: Path, tmp_path: Path, wordpiece: Tokenizer) -> None:
    seen: list[tuple[int, int | None]] = []
    prepare([corpus], wordpiece, tmp_path / "store", workers=1, progress=lambda done, total: seen.append((done, total)))
    size = counts(tmp_path / "store").bytes
    assert seen == [(size, size)]


@pytest.mark.shared
def test_more_than_65536_pieces_take_four_bytes(shared: Path, tmp_path: Path) -> None:
    from genus.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(shared / "vocab" / "bert-base-multilingual-cased")
    (tmp_path / "a.txt").write_text("Gr\u00fc\u00dfe \u092f\u0939 \u4e2d\u6587", encoding="utf-8")
    store = prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store", workers=1)
    assert store.ids.dtype == np.uint32
    assert documents(store) == [[tokenizer.encode(["Gr\u00fc\u00dfe \u092f\u0939 \u4e2d\u6587"])[0]]]


def check_error(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(GenusError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
