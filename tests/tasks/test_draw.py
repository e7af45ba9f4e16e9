"""From images to drawn images: a discrete VAE, a decoder of its codes, drawing, ranking, and what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from genus import catalog, pipeline
from genus.cli import main
from genus.export.folder import load
from genus.export.starting.codes import Codebook
from genus.export.verify import verify
from genus.generate.reader import Reader
from genus.generate.sampling import Greedy, Sampling
from genus.tasks.draw import Drawer, picture, ranked
from genus.tasks.image_text import image_vectors, text_vectors
from small import RUN, SIDE, codebook, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

CAPTIONS = ["the old river carries seven stones", "a small train"]


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a few steps: of a discrete VAE, of a decoder of its codes, and of CLIP."""
    folder = tmp_path_factory.mktemp("runs")
    pipeline.pretrain(row("dvae"), [corpus], folder / "dvae", RUN)
    pipeline.pretrain(row("dall-e"), [corpus], folder / "dall-e", RUN, teacher=folder / "dvae" / "model")
    pipeline.pretrain(row("clip"), [corpus], folder / "clip", RUN)
    return folder


def row(member: str) -> Recipe:
    return shrunk(catalog.load(member)).override("budget.amount", 4.0)


def drawer(runs: Path, kind: type[Drawer] = Drawer) -> Drawer:
    return kind(load(runs / "dall-e" / "model"), Codebook.read(runs / "dvae" / "model"))


def test_codes_of_a_run_are_those_of_its_discrete_vae(runs: Path, corpus: Path) -> None:
    """Made once, by the published weights, of the middle of each image."""
    made = np.fromfile(runs / "dall-e" / "codes" / "codes.bin", "<u2").reshape(-1, 16)
    book = Codebook.read(runs / "dvae" / "model")
    files = [json.loads(line)["image"] for line in corpus.read_text().splitlines()]
    images = [(corpus.parent / name).read_bytes() for name in files]
    assert (made == np.concatenate([*book.encode(book.squares(images))])).all()
    recipe: Any = load(runs / "dall-e" / "model").recipe
    assert recipe.examples.codebook == book.fingerprint()
    remembered = json.loads((runs / "dall-e" / "teacher.json").read_text())
    assert remembered == {"folder": str((runs / "dvae" / "model").resolve()), "fingerprint": book.fingerprint()}


def test_codes_that_were_interrupted_go_on(runs: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "dall-e", tmp_path / "run")
    folder = tmp_path / "run" / "codes"
    whole, meta = (folder / "codes.bin").read_bytes(), (folder / "meta.json").read_text()
    (folder / "codes.bin").unlink()
    (folder / "meta.json").rename(folder / "meta.json.part")
    kept = bytearray(whole[: len(whole) // 2 + 3])
    kept[:2] = b"\xff\x00"
    (folder / "codes.bin.part").write_bytes(kept)
    pipeline.pretrain(row("dall-e"), [corpus], tmp_path / "run", RUN, resume=True)
    assert (folder / "codes.bin").read_bytes() == b"\xff\x00" + whole[2:]  # what was there is not made again
    assert (folder / "meta.json").read_text() == meta
    assert {path.name for path in folder.iterdir()} == {"codes.bin", "meta.json"}


def test_folders_give_the_same_codes_and_logits_again(runs: Path) -> None:
    for member in ("dvae", "dall-e"):
        folder = runs / member / "model"
        assert json.loads((folder / "config.json").read_text())["model_type"] == "genus"
        differences = verify(folder, load(folder).learner)
        assert set(differences.values()) == {0.0}
        assert len(differences) == 2


class Uncached(Reader):
    """A reader that reads the whole sequence anew for each code."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.cache = None


class Slow(Drawer):
    reader = Uncached


@pytest.mark.parametrize("decoding", [Greedy(), Sampling(temperature=1.0), Sampling(temperature=0.7, top_k=5)])
def test_drawing_with_a_cache_is_drawing_without(runs: Path, decoding: Any) -> None:
    one, other = (list(drawer(runs, kind).draw(CAPTIONS, 3, decoding)) for kind in (Drawer, Slow))
    for fast, slow in zip(one, other, strict=True):
        assert (fast.codes == slow.codes).all()
        assert (fast.images == slow.images).all()
    assert one[0].images.shape == (3, SIDE, SIDE, 3)


def test_an_image_depends_on_no_other(runs: Path) -> None:
    """Of its seed, caption and number alone: neither the number of images nor what is drawn together changes it."""
    whole = drawer(runs)
    sampling = Sampling(temperature=1.0)
    many = list(whole.draw(CAPTIONS, 40, sampling))
    few = list(whole.draw(CAPTIONS[:1], 2, sampling))
    assert (few[0].codes == many[0].codes[:2]).all()
    assert len({one.tobytes() for one in many[0].codes}) > 20


def test_a_code_is_drawn_from_the_heads_softmax(runs: Path) -> None:
    """The first codes of 300 images, against the softmax of the state at the start of the image."""
    from genus.batch import Batch, Packed, Targets

    whole = drawer(runs)
    learner: Any = whole.model.learner.eval()
    prompt = whole.examples.prompt(whole.ids(CAPTIONS[:1])[0], np.zeros(0, np.int64), whole._tokenizer.vocabulary)
    packed = Packed.laid(torch.tensor(prompt), [[len(prompt)]], len(prompt))
    asked = Targets(torch.tensor([len(prompt) - 1]), torch.tensor([0]))
    with torch.no_grad():
        logits = learner.outputs(Batch({"tokens": packed}, {"image_tokens": asked}))["text_then_image_lm"]["logits"][0]
    likely = logits.topk(3).indices.tolist()
    (found,) = whole.draw(CAPTIONS[:1], 300, Sampling(temperature=1.0, top_k=3))
    shares = np.array([(found.codes[:, 0] == one).mean() for one in likely])
    assert shares.sum() == 1
    np.testing.assert_allclose(shares, logits[likely].softmax(-1).numpy(), atol=0.1)


def test_the_top_of_an_image_is_kept(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = np.random.default_rng(3)
    Image.fromarray(draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(tmp_path / "top.png")
    found = told(capsys, runs, tmp_path, "--top", str(tmp_path / "top.png"), "--count", "4")
    book = Codebook.read(runs / "dvae" / "model")
    (codes,) = book.encode(book.squares([(tmp_path / "top.png").read_bytes()]))
    drawn = np.array(found["images"][0]["codes"])
    assert (drawn[:, :8] == codes[0, :8]).all()
    assert len({one.tobytes() for one in drawn[:, 8:]}) > 1


def told(capsys: pytest.CaptureFixture[str], runs: Path, out: Path, *options: str) -> Any:
    capsys.readouterr()
    arguments = ["draw", str(runs / "dall-e"), *CAPTIONS, "--out", str(out / "drawn.png"), "--json", *options]
    assert main([*arguments, "--run", "device=cpu"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_images_are_ranked_by_the_cosine_with_their_caption(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = told(capsys, runs, tmp_path, "--count", "6")
    ordered = told(capsys, runs, tmp_path, "--count", "6", "--rerank", str(runs / "clip"), "--best", "2")
    ranker = load(runs / "clip" / "model")
    for number, (caption, all_of_it, best) in enumerate(zip(CAPTIONS, plain["images"], ordered["images"], strict=True)):
        assert best["scores"] == sorted(best["scores"], reverse=True)
        assert len(best["codes"]) == 2
        drawing = list(drawer(runs).draw(CAPTIONS, 6, Sampling(temperature=1.0)))[number]
        assert drawing.codes.tolist() == all_of_it["codes"]
        again = ranked(drawing, ranker)
        assert again.codes[:2].tolist() == best["codes"]
        from genus.tasks.draw import png

        vectors = np.concatenate([*image_vectors(ranker, map(png, again.images))])
        scores = vectors @ text_vectors(ranker, [caption])[0]
        assert again.scores == pytest.approx(scores.tolist(), abs=1e-6)
        assert scores.argmax() == 0
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (2 * SIDE + 2, 2 * SIDE + 2)


def test_a_picture_has_a_row_for_each_caption() -> None:
    rows = [np.full((2, 4, 4, 3), 10, np.uint8), np.full((1, 4, 4, 3), 20, np.uint8)]
    made = picture(rows)
    assert made.shape == (10, 10, 3)
    assert (made[:4, 6:] == 10).all()
    assert (made[6:, :4] == 20).all()
    assert (made[6:, 6:] == 255).all()
    assert (made[4:6] == 255).all()


def test_held_out_images_are_measured(runs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for member in ("dvae", "dall-e"):
        capsys.readouterr()
        assert main(["evaluate", str(runs / member), str(corpus), "--json", "--run", "device=cpu"]) == 0
        found = json.loads(capsys.readouterr().out)
        last = [json.loads(line) for line in (runs / member / "metrics.jsonl").read_text().splitlines()][-1]
        assert found.keys() >= {name.removeprefix("held_out/") for name in last if name.startswith("held_out/")}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("genus: error:") == 1
    assert "unexpected" not in error
    return error


def test_what_cannot_be_drawn_is_one_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(runs / "dall-e"), ["--out", str(tmp_path / "out.png")]
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (20, 10)).save(tmp_path / "small.png")
    (tmp_path / "empty.txt").write_text("\n")
    other = codebook(tmp_path / "other")
    wrong = {
        (run,): "no caption is given",
        (run, "--captions", str(tmp_path / "empty.txt")): "no caption is given",
        (run, "a", "--top", str(tmp_path / "none.png")): "none.png: cannot be read",
        (run, "a", "--top", str(tmp_path / "broken.png")): "broken.png: cannot be decoded",
        (run, "a", "--top", str(tmp_path / "small.png")): "is 20 x 10 pixels, and the discrete VAE reads 16 x 16",
        (run, "a", "--dvae", str(other)): "has another codebook than that whose codes were learned",
        (run, "a", "--dvae", str(runs / "clip")): "makes no codes of images",
        (run, "a", "--dvae", str(tmp_path / "nothing")): "there is no such folder",
        (run, "a", "--count", "0"): "--count: expected at least 1",
        (run, "a", "--best", "2"): "--best: says nothing without --rerank",
        (run, "a", "--keep", "1"): "--keep: says nothing without --top",
        (run, "a", "--rerank", run): "has no vectors of images",
        (str(runs / "clip"), "a", "--dvae", str(other)): "draws no images",
    }
    for arguments, line in wrong.items():
        assert line in refused(capsys, "draw", *arguments, *out), arguments
    assert not (tmp_path / "out.png").exists()
    assert "does not predict the next token" in refused(capsys, "generate", run, "a")
    (tmp_path / "task.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n' * 10)
    tuned = ["finetune", str(runs / "dvae"), str(tmp_path / "task.jsonl"), "--out", str(tmp_path / "tuned")]
    assert "reads images, and tasks are of texts" in refused(capsys, *tuned)


def test_a_caption_that_is_too_long_loses_its_end_and_is_counted(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = drawer(runs)
    list(whole.draw([CAPTIONS[0] * 4, "a"], 1, Greedy()))
    assert "1 of 2 captions are longer than 16 tokens and lose their end" in capsys.readouterr().err


def test_a_run_needs_the_discrete_vae_it_began_with(
    runs: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "row.json").write_text(json.dumps(row("dall-e").written()))
    begin = ["pretrain", str(tmp_path / "row.json"), str(corpus), "--out", str(tmp_path / "new")]
    assert "say which with --teacher" in refused(capsys, *begin)
    assert "makes no codes of images" in refused(capsys, *begin, "--teacher", str(runs / "clip"))
    book = Codebook.read(runs / "dvae" / "model")
    (tmp_path / "large.json").write_text(json.dumps(catalog.load("dall-e/mini").written()))
    large = ["pretrain", str(tmp_path / "large.json"), str(corpus), "--out", str(tmp_path / "large")]
    assert "has codes 400, the recipe 512" in refused(capsys, *large, "--teacher", str(book.folder))
    shutil.copytree(runs / "dall-e", tmp_path / "old")
    again = ["pretrain", str(tmp_path / "row.json"), str(corpus), "--out", str(tmp_path / "old"), "--resume"]
    assert "holds codes of another codebook" in refused(capsys, *again, "--teacher", str(codebook(tmp_path / "other")))
