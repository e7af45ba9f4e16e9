"""GGUF files: written here of random Hugging Face Llamas as llama.cpp's converter does it, and read like a folder."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch

from genus.cli import main
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.pretrained import PretrainedTokenizer

if TYPE_CHECKING:
    from pathlib import Path

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

TEXTS = ["the cat sat on the mat and the dog ran to the door in 2024 .", "naïve café — 東京 12345"] * 20
HARD = ["The cat's 12345 mats,  and   more\n\n\nlines ...", "naïve ½ ٣٤ 東京 12 a1b2", " x", "", "<|endoftext|>a"]
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}


def tokenizer() -> Any:
    return ByteBPE(vocab_size=300, special_tokens=GPT2).train(TEXTS)


def llama(**more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **{
            "vocab_size": tokenizer().vocabulary.size, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "tie_word_embeddings": True, "initializer_range": 0.2,
        }
        | more
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return a matrix with the rows of a head in llama.cpp's order, row by row: n and n + D / 2 side by side."""
    size = len(weight) // heads
    order = [head * size + row + half for head in range(heads) for row in range(size // 2) for half in (0, size // 2)]
    return weight[order]


def write(path: Path, model: Any, pre: str = "gpt-2", quantized: bool = False, **facts: Any) -> Path:
    """Write a model as llama.cpp's conversion/llama.py and gguf-py do."""
    config, backend = model.config, tokenizer().backend
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    ids = backend.get_vocab()
    pieces = sorted(ids, key=ids.__getitem__)
    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_types([3 if piece == "<|endoftext|>" else 1 for piece in pieces])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, value in facts.items():
        getattr(writer, name)(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "q_proj" in name:
            weight = permuted(weight, config.num_attention_heads)
        if "k_proj" in name:
            weight = permuted(weight, config.num_key_value_heads)
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        kind = gguf.GGMLQuantizationType.Q8_0 if quantized and weight.dim() == 2 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(weight.numpy().astype(np.float32), kind)
        writer.add_tensor(ours, data, raw_dtype=kind)
    if config.rope_parameters["rope_type"] == "llama3":
        rates = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)[0].double()
        usual = 1 / config.rope_parameters["rope_theta"] ** (torch.arange(0, config.head_dim, 2) / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (usual / rates).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(found: Any, ids: list[int]) -> torch.Tensor:
    from genus.batch import Batch
    from hand import equal_rows

    with torch.no_grad():
        states = found.learner.network(Batch({"tokens": equal_rows(torch.tensor([ids]))}, {}))["tokens"]
        return found.learner.heads["causal_lm"].lm_head(states)


IDS = list(range(5, 45))


@pytest.mark.parametrize(
    "more",
    [{}, {"tie_word_embeddings": False, "num_key_value_heads": 4}, {"rope_parameters": LLAMA3},
     {"hidden_size": 96, "rope_parameters": {"rope_type": "default", "rope_theta": 250.0}}],
    ids=["tied", "untied", "rescaled", "wide"],
)  # fmt: skip
def test_a_file_gives_the_logits_of_its_model(tmp_path: Path, more: dict[str, Any]) -> None:
    model = llama(**more)
    found = load(write(tmp_path / "model.gguf", model))
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0]
    given = logits(found, IDS)
    assert oracle.relative(given, expected) <= oracle.FLOAT32
    save(tmp_path / "folder", found.recipe, found.learner, found.tokenizer)
    assert max(verify(tmp_path / "folder", found.learner).values()) <= oracle.FLOAT32
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config.get("tie_word_embeddings", False) == model.config.tie_word_embeddings
    assert config["max_position_embeddings"] == 64


def test_quantized_weights_are_read_to_float(tmp_path: Path) -> None:
    model = llama()
    path = write(tmp_path / "model.gguf", model, quantized=True)
    found = load(path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name).eval()
    with torch.no_grad():
        exact, expected = model(torch.tensor([IDS])).logits[0], theirs(torch.tensor([IDS])).logits[0]
    given = logits(found, IDS)
    assert oracle.relative(given, expected) <= oracle.FLOAT32 < oracle.relative(given, exact)
    assert next(found.learner.parameters()).dtype == torch.float32


def test_the_tokenizer_is_the_one_that_was_written(tmp_path: Path) -> None:
    found, own = load(write(tmp_path / "model.gguf", llama())).tokenizer, tokenizer()
    assert found.encode(HARD) == own.encode(HARD)
    assert found.vocabulary.roles["eos"] == 0
    assert type(found.tokens) is ByteBPE


def test_pre_tokenizers_by_name(tmp_path: Path) -> None:
    cut, text = {}, "In 12345 I'LL go  12\n\nx"
    for pre in ("gpt-2", "smollm", "llama-bpe"):
        found = load(write(tmp_path / f"{pre}.gguf", llama(), pre)).tokenizer
        backend = found.backend.pre_tokenizer
        cut[pre] = [piece.replace("Ġ", "_") for piece, _ in backend.pre_tokenize_str(text)]
        assert found.decode(found.encode([text], specials=False)[0]) == text
    assert cut["gpt-2"][:2] == ["In", "_12345"]
    assert cut["smollm"][:7] == ["In", "_", "1", "2", "3", "4", "5"]
    assert cut["llama-bpe"][:5] == ["In", "_", "123", "45", "_I"]
    assert "'LL" in cut["llama-bpe"]
    assert "'LL" not in cut["gpt-2"]
    assert isinstance(found.tokens, PretrainedTokenizer)
    assert found.vocabulary.single[0][0] == 0  # llama-bpe begins a text with a token


def test_the_command_line_takes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "model.gguf", llama())
    assert main(["generate", str(path), "the cat", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("the cat")
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 0
    assert main(["generate", str(tmp_path / "out"), "the cat", "--max-tokens", "3"]) == 0


def test_pretraining_goes_on_from_a_file(tmp_path: Path, corpus: Path) -> None:
    path, out = write(tmp_path / "model.gguf", llama(), "smollm"), tmp_path / "out"
    choices = ["budget.amount=2", "stages.0.max_length=32", "stages.0.batch=4", "stages.0.micro_batch=4"]
    given = ["pretrain", "llama/tiny", str(corpus), "--out", str(out), "--start", str(path)]
    assert main([*given, *(word for choice in choices for word in ("--set", choice))]) == 0
    before, after = load(path), load(out / "model")
    assert after.tokenizer.hash() == before.tokenizer.hash()
    moved = after.learner.network.token_embedding.weight - before.learner.network.token_embedding.weight
    assert 0 < float(moved.detach().abs().max()) < 0.01


def test_without_the_package_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "model.gguf", llama())
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(GenusError, match=r"pip install 'genus\[gguf\]'"):
        load(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"add_tokenizer_model": "llama"}, "tokenizer.ggml.model 'llama' cannot be read"),
        ({"add_tokenizer_pre": "smolm"}, "tokenizer.ggml.pre 'smolm' is unknown. Did you mean 'smollm'?"),
        ({"add_rope_scaling_type": gguf.RopeScalingType.YARN}, "yarn"),
        ({"add_rope_dimension_count": 8}, "a part of each head rotates"),
        ({"add_head_count_kv": 3}, "3 do not divide 4 heads"),
        ({"add_block_count": 3}, "the weights lack model.layers.2"),
        ({"add_block_count": 1}, "the weights have no place for model.layers.1"),
        ({"add_feed_forward_length": 95}, "the weights do not fit"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    path = tmp_path / "model.gguf"
    model = llama()
    write(path, model)
    overwrite(path, model, facts)
    with pytest.raises(GenusError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def overwrite(path: Path, model: Any, facts: dict[str, Any]) -> None:
    """Write the file anew with other facts in place of the true ones."""
    added = dict.fromkeys(facts, 0)
    original = {name: getattr(gguf.GGUFWriter, name) for name in facts}

    def replaced(name: str) -> Any:
        def add(writer: Any, value: Any) -> None:
            added[name] += 1
            original[name](writer, facts[name])

        return add

    with pytest.MonkeyPatch.context() as patch:
        for name in facts:
            patch.setattr(gguf.GGUFWriter, name, replaced(name))
        extra = {name: value for name, value in facts.items() if name == "add_rope_scaling_type"}
        write(path, model, **extra)
    assert all(added.values())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_one_line(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "model.gguf", llama())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(GenusError, match=r"model\.gguf: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_changed_never_end_in_a_traceback(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", llama())
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        changed[int(rng.integers(4, 9000))] = int(rng.integers(256))
        path.write_bytes(changed)
        with contextlib.suppress(GenusError):
            load(path)


def test_a_wrong_length_of_an_array_is_found_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", llama())
    content = bytearray(path.read_bytes())
    length = content.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    assert int.from_bytes(content[length : length + 8], "little") == 300
    content[length : length + 8] = (1 << 62).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(GenusError, match="is damaged"):
        load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="No such file"):
        load(tmp_path / "model.gguf")
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(GenusError, match="is no GGUF file"):
        load(tmp_path / "other.gguf")
