"""Static vectors as a model: tables of others, training, what reads the mean of words, similarity of words."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.batch import Batch, Packed
from genus.cli import main
from genus.cli.folders import read_model
from genus.errors import GenusError
from genus.export.folder import load
from genus.model.static_vectors import StaticVectors
from genus.tasks.embed import embed
from genus.tasks.word_similarity import WordPair, WordSimilarity, read_pairs
from genus.vectors.read import read_vectors
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["the", "old", "river", "carries", "a", "long", "letter", "seven", "stones", ".", "U.S."]


def table(path: Path, *, header: bool = False, end: str = "\n", words: list[str] = WORDS) -> dict[str, Any]:
    """Write a table of drawn vectors, and return them by word."""
    drawn = dict(zip(words, np.random.default_rng(0).normal(size=(len(words), 6)).round(4), strict=True))
    lines = [" ".join([word, *map(str, vector)]) for word, vector in drawn.items()]
    data = (end.join([*([f"{len(words)} 6"] if header else []), *lines]) + end).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return drawn


@pytest.mark.parametrize(
    ("name", "header", "end"), [("glove.txt", False, "\n"), ("some.vec", True, " \n"), ("some.txt.gz", True, "\r\n")]
)
def test_tables_are_read_as_gensim_reads_them(name: str, header: bool, end: str, tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    table(tmp_path / name, header=header, end=end)
    found = read_vectors(tmp_path / name)
    table(tmp_path / "plain.txt", header=True)  # without one, gensim leaves the file open
    reference = models.KeyedVectors.load_word2vec_format(str(tmp_path / "plain.txt"))
    assert found.words == reference.index_to_key == WORDS
    np.testing.assert_array_equal(found.vectors, reference.vectors)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1 2", "b 1"], "line 2: expected a word and 2 numbers, got 2 columns"),
        (["a 1 2", "b 1 2 3"], "line 2: expected a word and 2 numbers, got 4 columns"),
        (["a 1 2", "b 1 x"], "line 2: 'x' is no number"),
        (["a 1 2", "b nan 1"], "line 2: the vector of 'b' is not finite"),
        (["3 2", "a 1 2", "b 1 2"], "its first line says 3 vectors, there are 2"),
        (["", ""], "holds no word vectors"),
        (["word"], "line 1: expected a word and its numbers"),
    ],
)
def test_damaged_tables_are_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(GenusError, match=message):
        read_vectors(tmp_path / "t.txt")


def test_what_is_left_out_of_a_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a 1 2\na 3 4\n. . 5 6\nb 7 8\n")
    found = read_vectors(tmp_path / "t.txt")
    assert (found.words, found.vectors.tolist()) == (["a", "b"], [[1, 2], [7, 8]])
    assert [line.split(": ", 1)[1][:9] for line in found.notices] == ["1 lines r", "1 entries"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("vectors")
    drawn = table(folder / "glove.txt")
    assert main(["vectors", str(folder / "glove.txt"), "--out", str(folder / "model")]) == 0
    return folder / "model", drawn


def test_a_text_is_the_mean_of_its_words(made: tuple[Path, dict[str, Any]]) -> None:
    folder, drawn = made
    model = load(folder)
    assert model.tokenizer.encode(["The U.S. ."], specials=False) == [[0, 13, 12]]  # a table with capitals keeps them
    texts = ["the old river .", "U.S.", "stones unheard river"]
    found = embed(model, texts)
    for text, vector in zip(texts, found, strict=True):
        expected = np.mean([drawn.get(word, np.zeros(6)) for word in text.split()], 0)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-6)


def test_what_is_packed_beside_a_text_changes_nothing() -> None:
    torch.manual_seed(0)
    network = StaticVectors(size=6).build(20)
    rows = [[4, 1, 3], [2, 5]]
    ids = torch.randint(20, (2, 9))
    packed = Packed.laid(ids.flatten(), rows, 9)
    found = network(Batch({"tokens": packed}, {}))["tokens"]
    for start, end in packed.spans():
        alone = Packed.laid(packed.ids[start:end], [[end - start]], end - start)
        assert found[start:end].equal(network(Batch({"tokens": alone}, {}))["tokens"])
        others = network.token_embedding(packed.ids[start + 1 : end])
        torch.testing.assert_close(found[start], others.mean(0) if len(others) else torch.zeros(6))
        assert found[start + 1 : end].equal(others)


def test_similarity_of_words_equals_gensim_and_scipy(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = pytest.importorskip("scipy.stats")
    models = pytest.importorskip("gensim.models")
    folder, drawn = made
    draw = np.random.default_rng(1)
    every = [*itertools.combinations([*WORDS, "unheard", "strange"], 2)]  # of a pair twice, rounding decides the rank
    pairs = [(*every[number], draw.integers(0, 6) / 2) for number in draw.choice(len(every), 40, replace=False)]
    path = tmp_path / "pairs.tsv"
    path.write_text("# a comment\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in pairs))
    assert main(["evaluate", str(folder), str(path), "--task", "word-similarity", "--run", "device=cpu", "--json"]) == 0
    written = capsys.readouterr()
    found = json.loads(written.out)
    known = [(a, b, score) for a, b, score in pairs if a in drawn and b in drawn]
    assert 0 < len(known) < 40
    assert found["pairs"] == len(known)
    assert f"{40 - len(known)} of 40 pairs are left out" in written.err
    cosines = [drawn[a] @ drawn[b] / np.linalg.norm(drawn[a]) / np.linalg.norm(drawn[b]) for a, b, _ in known]
    truth = [score for *_, score in known]
    assert found["spearman"] == pytest.approx(stats.spearmanr(cosines, truth).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(stats.pearsonr(cosines, truth).statistic, abs=1e-6)
    vectors = models.KeyedVectors(6)
    vectors.add_vectors([*drawn], [*drawn.values()])
    pearson, spearman, unknown = vectors.evaluate_word_pairs(str(path), case_insensitive=False)
    assert found["spearman"] == pytest.approx(spearman.statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(pearson.statistic, abs=1e-6)
    assert unknown == pytest.approx(100 * (40 - len(known)) / 40)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\tb\n", "line 1: expected two words and a number"), ("w\tv\ts\na\tb\tx\n", "'x' is no number"), ("#\n", "no")],
)
def test_damaged_pairs_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(GenusError, match=message):
        read_pairs(tmp_path / "p.tsv")


def test_a_header_and_commas_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("Word 1,Word 2,Human (mean)\nlove,sex,6.77\n")
    assert read_pairs(tmp_path / "p.csv") == [WordPair("love", "sex", 6.77)]


@pytest.mark.shared
def test_the_published_pairs_are_read(shared: Path) -> None:
    folder = shared / "data" / "word_similarity"
    assert len(read_pairs(folder / "wordsim353.tsv")) == 353
    assert len(read_pairs(folder / "simlex999.txt")) == 999


def test_skip_gram_is_trained_and_means_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words that stand in the same places are nearer than others."""
    pytest.importorskip("gensim")
    draw = np.random.default_rng(0)
    groups = [["cat", "dog", "horse"], ["red", "blue", "green"]]
    places = [["eats", "sleeps", "runs"], ["paint", "color", "wall"]]
    lines = []
    for _ in range(2000):
        kind = draw.integers(2)
        lines.append(f"{draw.choice(groups[kind])} {draw.choice(places[kind])} {draw.choice(groups[kind])}")
    (tmp_path / "text.txt").write_text("\n".join(lines))
    asked = ["vectors", str(tmp_path / "text.txt"), "--train", "--set", "size=16", "--set", "subsample=0"]
    for name in ("one", "two"):
        assert main([*asked, "--out", str(tmp_path / name), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["words"] == 12
    weights = [load(tmp_path / name).learner.state_dict()["network.embed.tokens.weight"] for name in ("one", "two")]
    assert weights[0].equal(weights[1])
    model = load(tmp_path / "one")
    near = [WordPair(a, b, 1.0) for group in groups for a, b in itertools.pairwise(group)]
    far = [WordPair(a, b, 0.0) for a, b in zip(*groups, strict=True)]
    assert (WordSimilarity().measure(model, [*near, *far])["pearson"] or 0) > 0.8


def test_gensim_is_asked_for_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    (tmp_path / "text.txt").write_text("a b c\n")
    assert main(["vectors", str(tmp_path / "text.txt"), "--train", "--out", str(tmp_path / "m")]) == 1
    assert "needs gensim: pip install 'genus[vectors]'" in capsys.readouterr().err


TASKS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "classification": ([], {"text": "the river .", "label": "x"}),
    "tagging": (["--text", "tokens", "--label", "ner_tags"], {"tokens": ["the", "river"], "ner_tags": ["O", "B-X"]}),
    "recurrent-tagging": (
        ["--text", "tokens", "--label", "ner_tags", "--task-set", "crf=true", "--task-set", "size=8"],
        {"tokens": ["the", "river"], "ner_tags": ["O", "B-X"]},
    ),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_tasks_are_learned_on_vectors(
    task: str, frozen: bool, made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made
    options, row = TASKS[task]
    rows = [row, {**row, "text": "seven stones", "label": "y"} if "text" in row else {**row, "tokens": ["a", "letter"]}]
    for name, times in (("train", 24), ("validation", 4)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows * times))
    asked = ["finetune", str(folder), str(tmp_path), "--task", task, *options, "--seeds", "1", "--run", "device=cpu"]
    asked += ["--out", str(tmp_path / "run"), "--run", "workers=0", "--set", "finetuning.epochs=8", "--json"]
    asked += ["--set", "finetuning.optimizer.lr=0.01", "--set", "finetuning.batch=4"]
    asked += ["--adapt", "last-layers", "--adapt-set", "layers=0"] if frozen else []
    assert main(asked) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report, told
    held = tmp_path / "validation.jsonl"
    assert main(["evaluate", str(tmp_path / "run"), str(held), "--run", "device=cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy" if task == "classification" else "entity_f1"] == 1.0
    name = "network.embed.tokens.weight"
    before, after = (read_model(one).learner.state_dict()[name] for one in (folder, tmp_path / "run"))
    assert before.equal(after) is frozen


def test_vectors_have_no_layers_to_train(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "the river", "label": "x"}\n{"text": "a letter", "label": "y"}\n' * 9)
    asked = ["finetune", str(made[0]), str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "run"), "--seeds", "1"]
    assert main([*asked, "--adapt", "last-layers", "--run", "device=cpu"]) == 2
    assert "the network has 0 with weights of their own, not 1" in capsys.readouterr().err


def test_features_of_words_and_tokens_are_written(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder, drawn = made
    (tmp_path / "t.txt").write_text("the old\n\nriver strange\n")
    asked = ["features", str(folder), str(tmp_path / "t.txt"), "--run", "device=cpu", "--layers", "0,-1"]
    out = tmp_path / "w.parquet"
    assert main([*asked, "--per", "word", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["texts"], told["vectors"], told["size"]) == (3, 4, 12)
    found = parquet.read_table(out).to_pydict()
    assert (found["row"], found["word"]) == ([1, 1, 3, 3], ["the", "old", "river", "strange"])
    assert (found["start"], found["end"]) == ([0, 4, 0, 6], [3, 7, 5, 13])
    np.testing.assert_allclose(found["vector"][2], [*drawn["river"]] * 2, rtol=0, atol=1e-6)
    assert not any(found["vector"][3])
    assert main([*asked, "--per", "token", "--out", str(out)]) == 0
    found = parquet.read_table(out).to_pydict()
    assert found["token"] == ["[CLS]", "the", "old", "[CLS]", "[CLS]", "river", "[UNK]"]
    assert found["start"] == [None, 0, 4, None, None, 0, 6]
    for wrong, message in (
        (["--out", str(tmp_path / "w.npy"), "--per", "word"], "texts have different numbers of words"),
        (["--out", str(out), "--pooling", "men"], "there is no 'men'. Did you mean 'mean'?"),
        (["--out", str(out), "--layers", "last"], "--layers: expected numbers"),
        (["--out", str(out), "--layers", "2"], "there is no 2: the model has the embeddings"),
    ):
        capsys.readouterr()
        assert main([*asked, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_words_of_a_contextual_model_have_the_mean_of_their_pieces(tmp_path: Path) -> None:
    from genus.tokens.algorithms.wordpiece import WordPiece
    from written import write_model

    transformers = pytest.importorskip("transformers")
    write_model(tmp_path, "bert/tiny", WordPiece(vocab_size=200), documents(40))
    reference = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    words = ["river", "letter", "carries", "stones", "numbers"]
    vectors = []
    for word in words:
        with torch.no_grad():
            hidden = reference(**tokenizer(word, return_tensors="pt"), output_hidden_states=True).hidden_states
        vectors.append(hidden[1][0, 1:-1].mean(0).double())
    pairs = [WordPair(words[i], words[i + 1], float(i * i % 5)) for i in range(4)]
    cosines = [torch.cosine_similarity(vectors[i], vectors[i + 1], dim=0).item() for i in range(4)]
    found = WordSimilarity(layers=(1,)).measure(load(tmp_path), pairs)
    assert found["pearson"] == pytest.approx(np.corrcoef(cosines, [pair.score for pair in pairs])[0, 1], abs=1e-3)
