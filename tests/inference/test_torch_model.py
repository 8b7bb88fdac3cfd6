"""The packed model against the padded reference, in every arithmetic and both ways to attend, and what is done where one fails."""

from __future__ import annotations

import logging
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from sagerank.models.build import MICRO
from sagerank_inference import jina_bert, torch_precision
from sagerank_inference.artefact import Manifest
from sagerank_inference.checkpoint import JinaBertConfig
from sagerank_inference.engine import Engine
from sagerank_inference.packed_bert import Batch, Form, PackedJinaBert, attend_padded, same_document
from sagerank_inference.packing import BLOCK, bucket, pack
from sagerank_inference.settings import Settings, SettingsError
from sagerank_inference.tokenise import Tokeniser
from sagerank_inference.torch_model import TorchModel

from ..conftest import SMALL, random_model

WIDE = replace(SMALL, num_attention_heads=3)  # heads of 16, which need no filling
SEPARATED = replace(WIDE, segment_separator_id=102)
MIXED = (1, 5, 129, 768, 2, 300, 1025, 1, 127, 128)


def pairs_of(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Texts with words that repeat, as texts have."""
    random = Random(seed)
    return [
        [102 if random.random() < 0.1 else random.randrange(3000) for _ in range(length)]
        for length in lengths
    ]


def folder_of(model: jina_bert.JinaBert, folder: Path) -> Path:
    jina_bert.save(model, folder, torch.float32)
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    return folder


def alone(model: jina_bert.JinaBert, pairs: Sequence[Sequence[int]]) -> list[float]:
    return [jina_bert.score(model, [pair])[0] for pair in pairs]


def batch_of(pairs: Sequence[Sequence[int]], config: JinaBertConfig) -> Batch:
    arrays = pack(pairs, vocabulary=config.vocab_size, separator=config.segment_separator_id)
    return Batch.of(arrays, torch.device("cpu"))


def flexed(model: jina_bert.JinaBert, pairs: Sequence[Sequence[int]], dtype: torch.dtype) -> list[float]:
    """By FlexAttention's own reference, which computes what its kernels do and holds all T x T scores."""
    packed = PackedJinaBert(model, dtype).eval()
    with torch.inference_mode():
        logits: list[float] = packed(batch_of(pairs, model.config), packed=True).tolist()
    return logits


pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize("config", [SMALL, WIDE, SEPARATED, replace(WIDE, num_hidden_layers=1)])
def test_both_ways_to_attend_equal_the_reference(config: Any, tmp_path: Path) -> None:
    model = random_model(config)
    pairs = pairs_of(MIXED)
    expected = pytest.approx(alone(model, pairs), abs=1e-5)
    assert flexed(model, pairs, torch.float32) == expected
    assert TorchModel(folder_of(model, tmp_path), device="cpu", threads=2)(pairs) == expected


def test_8192_tokens_beside_one_equal_the_reference(tmp_path: Path) -> None:
    model = random_model(replace(WIDE, num_hidden_layers=2))
    pairs = pairs_of((8192, 1, 3, 200))
    expected = pytest.approx(alone(model, pairs), abs=1e-5)
    assert TorchModel(folder_of(model, tmp_path), device="cpu", threads=2)(pairs) == expected
    assert flexed(model, pairs, torch.float32) == expected


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_tiles_hold_just_what_the_mask_lets_through(lengths: list[int]) -> None:
    """Every key that a query sees is in a tile that is looked at, every key of a full tile is seen, and no tile twice."""
    packed = pack([[7] * length for length in lengths], vocabulary=10, separator=None)
    document = torch.from_numpy(packed.document)
    size = len(document)
    dense = create_mask(same_document(document), None, None, size, size, device="cpu")[0, 0].numpy()
    tiled = dense.reshape(size // BLOCK, BLOCK, size // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    for row in range(size // BLOCK):
        some = packed.tiles[0, 0, row, : packed.tile_count[0, 0, row]].tolist()
        full = packed.full_tiles[0, 0, row, : packed.full_count[0, 0, row]].tolist()
        assert sorted(some + full) == np.flatnonzero(tiled[row].any((1, 2))).tolist()
        assert full == np.flatnonzero(tiled[row].all((1, 2))).tolist()


@given(st.integers(1, 200_000))
def test_few_sizes_and_little_padding(size: int) -> None:
    assert bucket(size) % BLOCK == 0
    assert size <= bucket(size) < max(2 * BLOCK + 1, size * 9 / 8 + 1, size + BLOCK)
    assert bucket(bucket(size)) == bucket(size)


def test_a_server_s_batches_have_few_sizes_and_no_tensor_of_tokens_squared() -> None:
    assert len({bucket(size) for size in range(1, 16_385)}) < 50
    packed = pack([[1] * 8192, [2] * 8192], vocabulary=10, separator=None)
    assert len(packed.document) == 16_384
    assert packed.buffer()[0].nbytes < 24 * 16_384  # the mask has 16,384 cells a token


@pytest.mark.parametrize("lengths", [(1, 1), (5, 129, 64), (769, 3, 400, 1), (128,) * 9])
def test_no_pair_depends_on_its_company(lengths: tuple[int, ...], tmp_path: Path) -> None:
    model = random_model(WIDE)
    pairs = pairs_of(lengths)
    forward = TorchModel(folder_of(model, tmp_path), device="cpu", threads=2)
    expected = pytest.approx([forward([pair])[0] for pair in pairs], abs=1e-5)
    assert forward(pairs) == expected
    assert forward(pairs[::-1])[::-1] == expected
    assert flexed(model, pairs, torch.float32) == expected


def test_no_pairs_and_many_batches(tmp_path: Path) -> None:
    """In parts that a small device could hold, one pair longer than a part among them."""
    model = random_model(WIDE)
    forward = TorchModel(folder_of(model, tmp_path), device="cpu", threads=2)
    assert forward([]) == []
    pairs = pairs_of([7, 900, 30, 31, 1, 256, 80] * 3, seed=1)
    whole = forward(pairs)
    seen: list[int] = []
    run, forward._most_tokens = forward._run, 512

    def spy(batch: Sequence[Sequence[int]], dtype: torch.dtype | None = None) -> list[float]:
        seen.append(len(batch))
        return run(batch, dtype)

    forward._run = spy  # type: ignore[method-assign]
    assert forward(pairs) == pytest.approx(whole, abs=1e-5)
    assert len(seen) > 3
    assert sum(seen) == len(pairs)


def test_padded_attention_holds_one_block_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory grows with the length, and not with its square."""
    largest = 0
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, attn_mask.numel())
        return attend(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", spy)
    model = PackedJinaBert(random_model(WIDE), torch.float32).eval()
    batch = batch_of(pairs_of((2048,)), model.config)
    query = torch.rand(1, 3, 2048, 16)
    form = Form(model.slopes, 1e-12, torch.float32, 2048)
    attend_padded(query, query, query, batch.place, form)
    assert largest == 3 * 128 * 2048


@pytest.mark.parametrize("attend", ["flex", "padded"])
@pytest.mark.parametrize("length", [1, 129, 1025])
def test_16_bits_are_near_float32_and_float16_nearest(attend: str, length: int, tmp_path: Path) -> None:
    """Products alone are rounded: sums, softmax, ALiBi, LayerNorm, the last layer and the head are float32."""
    model = random_model(WIDE)
    for parameter in model.parameters():  # so that what differs is the arithmetic
        parameter.data = parameter.data.bfloat16().float()
    folder, pairs = folder_of(model, tmp_path), pairs_of((length, 40, max(1, length - 7)))
    exact = torch.tensor(alone(model, pairs))

    def error(precision: str) -> float:
        if attend == "flex":
            logits = flexed(model, pairs, torch_precision.TYPES[precision])
        else:
            logits = TorchModel(folder, device="cpu", threads=2, precision=precision)(pairs)
        return float((torch.tensor(logits) - exact).abs().max())

    assert 0 < error("fp16") < 0.02
    assert error("fp16") < error("bf16") < 0.3


def test_float16_has_no_nan_up_to_8192_tokens(tmp_path: Path) -> None:
    model = random_model(replace(WIDE, num_hidden_layers=2))
    pairs = pairs_of((8192,))
    forward = TorchModel(folder_of(model, tmp_path), device="cpu", threads=2, precision="fp16")
    assert forward(pairs) == pytest.approx(alone(model, pairs), abs=0.02)
    assert flexed(model, pairs, torch.float16) == pytest.approx(alone(model, pairs), abs=0.02)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("fp16", 0.01), ("bf16", 0.1)])
def test_micro_scores_its_golden_pairs(precision: str, most: float) -> None:
    settings = Settings(model_dir=MICRO, backend="torch", precision=precision)
    engine = Engine.load(MICRO, settings)
    assert engine.forward.tolerance == (1e-3 if precision == "fp32" else engine.manifest.bfloat16_tolerance)
    for pair in engine.manifest.golden:
        (logit,) = engine.score(pair.query, [pair.document]).values
        assert logit == pytest.approx(pair.logit, abs=most)


def test_beyond_float16_a_pair_is_computed_in_float32_and_no_other(tmp_path: Path) -> None:
    model = random_model(WIDE)
    weights = model.state_dict()
    pairs = pairs_of((30, 31, 32))
    pairs[1][5] = 2999
    with torch.no_grad():  # a token whose value overflows what follows, and no other's
        for name, index, value in (
            ("bert.embeddings.word_embeddings.weight", 2999, 100.0),
            ("bert.encoder.layer.0.attention.self.value.weight", 0, 15_000.0),
        ):
            weights[name][index] = 0
            weights[name][index, 0] = value
    expected = alone(model, pairs)
    forward = TorchModel(folder_of(model, tmp_path), device="cpu", threads=2, precision="fp16")
    seen: list[tuple[int, torch.dtype | None]] = []
    run = forward._run

    def spy(batch: Sequence[Sequence[int]], dtype: torch.dtype | None = None) -> list[float]:
        seen.append((len(batch), dtype))
        return run(batch, dtype)

    forward._run = spy  # type: ignore[method-assign]
    logits = forward(pairs)
    assert seen[0] == (3, None)
    assert set(seen[1:-1]) == {(1, None)}
    assert seen[-1] == (1, torch.float32), "the overflow has to happen, or this shows nothing"
    assert all(map(math.isfinite, logits))
    assert logits[1] == pytest.approx(expected[1], abs=0.01), "of weights that stay rounded"


def test_what_overflows_in_one_pair_moves_no_other(tmp_path: Path) -> None:
    """The tiles of FlexAttention multiply what is masked with 0, and infinity too."""
    forward = TorchModel(folder_of(random_model(WIDE), tmp_path), device="cpu", threads=2, precision="fp16")
    pairs = pairs_of((30, 31, 32))
    own = forward(pairs)
    run = forward._run

    def infect(batch: Sequence[Sequence[int]], dtype: torch.dtype | None = None) -> list[float]:
        ill = pairs[1] in batch and dtype is None
        return [math.nan] * len(batch) if ill else run(batch, dtype)

    forward._run = infect  # type: ignore[method-assign]
    found = forward(pairs)
    assert [found[0], found[2]] == pytest.approx([own[0], own[2]], abs=1e-5)
    assert found[1] == pytest.approx(run([pairs[1]], torch.float32)[0], abs=1e-5)


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_a_sentence(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        SettingsError, match=rf"The device is {device}, and PyTorch .* sees 0 GPUs here: .*cpu\."
    ):
        TorchModel(folder_of(random_model(), tmp_path), device=device, threads=1)


AMPERE, TURING = (8, 6), (7, 5)


def micro_logits(error: dict[str, float]) -> torch_precision.Logits:
    """Micro's golden logits, so far away in each arithmetic."""
    manifest, tokeniser = Manifest.read(MICRO), Tokeniser.load(MICRO)
    known = {tuple(tokeniser(pair.query, [pair.document]).ids[0]): pair.logit for pair in manifest.golden}
    return lambda name, pairs: [known[tuple(pair)] + error[name] for pair in pairs]


@pytest.mark.parametrize(
    ("capability", "error", "chosen"),
    [
        (AMPERE, {"fp16": 0.01, "bf16": 0.1}, "fp16"),
        (AMPERE, {"fp16": 0.2, "bf16": 0.1}, "bf16"),
        (AMPERE, {"fp16": math.nan, "bf16": 0.1}, "bf16"),
        (AMPERE, {"fp16": 99.0, "bf16": 99.0}, "fp32"),
        (TURING, {"fp16": 0.01}, "fp16"),
        (TURING, {"fp16": math.inf}, "fp32"),
        (None, {}, "fp32"),
    ],
)
def test_the_golden_pairs_choose_the_arithmetic(
    capability: tuple[int, int] | None,
    error: dict[str, float],
    chosen: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tolerance = 1e-3 if chosen == "fp32" else Manifest.read(MICRO).bfloat16_tolerance
    found = torch_precision.choose(MICRO, "auto", capability, micro_logits(error))
    assert found == (chosen, tolerance)
    assert ("float32 is used" in caplog.text) == (chosen == "fp32" and capability is not None)
    wanted = torch_precision.choose(MICRO, "fp32", capability, micro_logits({}))
    assert wanted == ("fp32", 1e-3), "the way out measures nothing"


def test_without_golden_pairs_only_the_range_of_float32_is_trusted(tmp_path: Path) -> None:
    assert torch_precision.choose(tmp_path, "auto", AMPERE, micro_logits({}))[0] == "bf16"
    assert torch_precision.choose(tmp_path, "auto", TURING, micro_logits({}))[0] == "fp32"


def test_where_compiling_fails_pairs_are_padded_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> Tensor:
            raise RuntimeError("no C compiler\nand a long trace")

        return fail

    monkeypatch.setattr("torch.compile", broken)
    model, pairs = random_model(WIDE), pairs_of(MIXED)
    with caplog.at_level(logging.WARNING):
        forward = TorchModel(folder_of(model, tmp_path), device="cpu", threads=2, packed=True)
    assert not forward.packed
    assert forward(pairs) == pytest.approx(alone(model, pairs), abs=1e-5)
    (record,) = caplog.records
    assert "pairs are padded instead" in record.message
    assert record.message.endswith("RuntimeError: no C compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchModel]:
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    folder = folder_of(random_model(WIDE), tmp_path_factory.mktemp("compiled"))
    before = set(sys.modules)
    yield TorchModel(folder, device="cpu", threads=2, packed=True)
    torch._dynamo.reset()
    # The compiler asks Python's own distutils for its flags; setuptools warns whoever comes after it.
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "distutils":
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_the_compiled_kernel_equals_the_reference_and_is_not_compiled_again(compiled: TorchModel) -> None:
    """On a CPU it is another back end's kernel, of the same mask and score; a minute passes while it is made."""
    assert compiled.packed
    model, kernels = random_model(WIDE), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for lengths in (MIXED, (3,), (1, 1), (2000, 5), (600,) * 5):
        pairs = pairs_of(lengths)
        assert compiled(pairs) == pytest.approx(alone(model, pairs), abs=1e-5)
    assert compiled.packed
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == kernels


@pytest.mark.filterwarnings("ignore")
def test_a_kernel_that_fails_later_is_given_up_in_the_midst_of_a_batch(
    compiled: TorchModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(compiled._model, "layer", fail)
    pairs = pairs_of(MIXED)
    assert compiled(pairs) == pytest.approx(alone(random_model(WIDE), pairs), abs=1e-5)
    assert not compiled.packed
    assert "illegal memory access" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("auto", 0.3)])
def test_cuda_agrees(precision: str, most: float, tmp_path: Path) -> None:
    model, pairs = random_model(WIDE), pairs_of((*MIXED, 8192))
    forward = TorchModel(folder_of(model, tmp_path), device="cuda", threads=2, precision=precision)
    assert forward.packed == (torch.cuda.get_device_capability()[0] >= 8)
    assert forward(pairs) == pytest.approx(alone(model, pairs), abs=most)
