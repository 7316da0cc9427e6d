"""The added tokens' vectors, from gloss to average: `pytest -m export`, where `[export]` is installed."""

from __future__ import annotations

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


def test_a_net_that_never_saw_a_token_has_no_say_in_its_vector(weights: Path) -> None:
    import torch

    from export.training import Recipe, TierNet, merged

    nets = []
    for value in (1.0, 3.0, 8.0):
        net = TierNet(weights, 4, Recipe())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(value)
        nets.append(net)
    table = merged(nets, [False, True, True], [5, 7]).encoder.get_input_embeddings().weight.detach()
    assert (float(table[5, 0]), float(table[6, 0]), float(table[7, 0])) == (5.5, 4.0, 5.5)
