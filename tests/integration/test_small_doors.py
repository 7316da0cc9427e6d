"""Legacy completions and embeddings, asked for by the official client."""

from __future__ import annotations

import numpy as np
import openai
import pytest

from router.artifacts import default_models_dir
from tests.conftest import Running
from tests.fakes.openai import FakeOpenAI

# --- legacy completions ---


@pytest.mark.parametrize("tier", ["simple", "complex"])
async def test_a_completion(client: openai.AsyncOpenAI, tier: str) -> None:
    completion = await client.completions.create(model=tier, prompt="Once upon", max_tokens=5)
    assert (completion.choices[0].text, completion.object) == ("Hello world", "text_completion")
    texts = []
    async for chunk in await client.completions.create(model=tier, prompt="Once upon", stream=True):
        texts += [choice.text for choice in chunk.choices]
    assert "".join(texts) == "Hello world"


async def test_what_a_completion_cannot_do_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="suffix"):
        await client.completions.create(model="simple", prompt="x", suffix="y")


# --- embeddings ---


async def test_embeddings_of_a_tier(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    answer = await client.embeddings.create(model="simple", input=["a", "b"], dimensions=4, encoding_format="float")
    assert [entry.embedding for entry in answer.data] == [[0.25] * 4] * 2
    assert fake.last.path.endswith("/embeddings")
    assert fake.last.json == {
        "model": "simple-model", "input": ["a", "b"], "dimensions": 4, "encoding_format": "float",
    }  # fmt: skip


async def test_embeddings_that_cannot_be_made(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="all-MiniLM-L6-v2"):
        await client.embeddings.create(model="text-embedding-3-small", input="a")
    with pytest.raises(openai.BadRequestError, match="empty"):
        await client.embeddings.create(model="simple", input="")


async def test_local_embeddings(client: openai.AsyncOpenAI, both: Running) -> None:
    """The SDK asks for base64 unless told otherwise; the numbers are the same."""
    both.classifier.models_dir = default_models_dir()
    texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Quarterly revenue rose."]
    try:
        packed = await client.embeddings.create(model="all-MiniLM-L6-v2", input=texts)
    except openai.NotFoundError as missing:
        assert "python -m export" in str(missing)
        pytest.skip("the artefacts hold no unmodified MiniLM")
    plain = await client.embeddings.create(model="all-MiniLM-L6-v2", input=texts, encoding_format="float")
    cat, kitten, revenue = (np.array(entry.embedding) for entry in packed.data)
    assert cat.shape == (384,)
    assert np.allclose([entry.embedding for entry in plain.data], [cat, kitten, revenue], atol=1e-6)
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-3)
    assert cat @ kitten > 0.5 > cat @ revenue
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(texts)
    with pytest.raises(openai.BadRequestError, match="384"):
        await client.embeddings.create(model="all-MiniLM-L6-v2", input="a", dimensions=256)
    with pytest.raises(openai.BadRequestError, match="tokens"):
        await client.embeddings.create(model="all-MiniLM-L6-v2", input=[1, 2, 3])
