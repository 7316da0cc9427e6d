"""The added tokens' vectors, from gloss to average: `pytest -m export`, where `[export]` is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.export, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

GLOSSES = {"写": "write", "证": "prove", "Напиши": "write", "人": "person", "##บ": "-"}


@pytest.fixture(scope="module")
def weights() -> Path:
    """The original weights' folder; no model hub is asked."""
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        from export import source

        return source.resolve(None).folder


def test_a_new_token_begins_as_its_gloss(weights: Path, tmp_path: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    from export.vocabulary import extend

    numbers = extend(weights, tmp_path / "out", GLOSSES)
    old, new = (
        Tokenizer.from_file(str(weights / "tokenizer.json")),
        Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")),
    )
    size = old.get_vocab_size()
    assert old.token_to_id("写") is None and old.token_to_id("人") in numbers
    assert sorted(number for number in numbers if number >= size) == list(range(size, size + 4))
    assert new.encode("напиши 写", add_special_tokens=False).tokens[:2] == ["напиши", "写"]
    assert new.encode("An ordinary sentence.").ids == old.encode("An ordinary sentence.").ids

    before = AutoModel.from_pretrained(weights, add_pooling_layer=False).get_input_embeddings().weight
    after = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False).get_input_embeddings().weight
    cosine = torch.nn.functional.cosine_similarity
    write, prove = before[old.token_to_id("write")], before[old.token_to_id("prove")]
    assert float(cosine(after[new.token_to_id("写")], write, dim=0)) == pytest.approx(1, abs=1e-4)
    assert float(cosine(after[new.token_to_id("证")], prove, dim=0)) == pytest.approx(1, abs=1e-4)
    untouched = [number for number in range(size) if number not in numbers]
    assert torch.equal(before[untouched], after[untouched])


def test_nets_are_averaged_weight_by_weight(weights: Path) -> None:
    import torch

    from export.training import Settings, TierNet, averaged

    nets = []
    for value in (1.0, 3.0, 8.0):
        net = TierNet(weights, 4, Settings())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(value)
        nets.append(net)
    assert all(torch.all((parameter - 4.0).abs() < 1e-5) for parameter in averaged(nets).parameters())
    assert float(nets[0].head.bias[0]) == 1.0, "the nets themselves stay as they were"


def test_a_net_that_never_saw_a_token_has_no_say_in_its_vector(weights: Path) -> None:
    import torch

    from export.training import Settings, TierNet, mixed

    nets = []
    for value in (1.0, 5.0):
        net = TierNet(weights, 4, Settings())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(value)
        nets.append(net)
    table = mixed(*nets, 0.25, [5, 7]).encoder.get_input_embeddings().weight.detach()
    assert (float(table[5, 0]), float(table[6, 0]), float(table[7, 0])) == (1.0, 2.0, 1.0)


def test_a_course_is_the_lines_that_it_names_without_those_that_are_kept_from_the_encoder(tmp_path: Path) -> None:
    from export.finetune import HELD_OUT_MODULUS, _read, is_held_out

    file = tmp_path / "own.jsonl"
    texts = [f"question number {index}" for index in range(60)]
    file.write_text("".join(json.dumps({"text": text, "tier": "simple"}) + "\n" for text in texts))
    wanted = [text for text in texts[2:30] + texts[50:60] if not is_held_out(text, HELD_OUT_MODULUS)]
    assert [row.text for row in _read(file, ((2, 30), (50, 99)))] == wanted
    assert 20 < len(wanted) < 38
