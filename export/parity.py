"""How far the int8 graph is from the fp32 weights: cosine of their embeddings over real texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from export.steps import ExportError
from router.encoder import INPUT, OUTPUT, Encoder, session_options

# Below this mean something is broken rather than rounded; what int8 costs in accuracy the scores show.
LOWEST_MEAN_COSINE = 0.97


def compare(exact: Path, encoder: Encoder, texts: Sequence[str]) -> dict[str, Any]:
    """Cosine between the fp32 graph `exact` and `encoder` on `texts`; ExportError if they have parted."""
    session = onnxruntime.InferenceSession(str(exact), session_options(1), providers=["CPUExecutionProvider"])
    cosines = []
    for text in texts:
        ids = encoder.token_ids(text)
        reference = session.run([OUTPUT], {INPUT: np.array([ids], dtype=np.int32)})[0][0]
        cosines.append(float(reference @ encoder.run(ids)))
    found = np.array(cosines)
    if not np.isfinite(found).all() or found.mean() < LOWEST_MEAN_COSINE:
        raise ExportError(f"parity: mean cosine to fp32 is {found.mean():.4f}, at least {LOWEST_MEAN_COSINE} is asked")
    return {
        "texts": len(texts),
        "cosine_mean": round(float(found.mean()), 5),
        "cosine_p5": round(float(np.quantile(found, 0.05)), 5),
        "cosine_min": round(float(found.min()), 5),
    }


def compare_with_torch(source: Path, exact: Path, encoder: Encoder, texts: Sequence[str]) -> float:
    """Largest difference in any component between the torch model with the usual mean pooling and the fp32 graph."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(source, add_pooling_layer=False).eval()
    session = onnxruntime.InferenceSession(str(exact), session_options(1), providers=["CPUExecutionProvider"])
    largest = 0.0
    for text in texts:
        ids = encoder.token_ids(text)
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
        wanted = torch.nn.functional.normalize(hidden, dim=0).numpy()
        found = session.run([OUTPUT], {INPUT: np.array([ids], dtype=np.int32)})[0][0]
        largest = max(largest, float(np.abs(wanted - found).max()))
    if largest > 1e-4:
        raise ExportError(f"parity: the fp32 graph differs from torch by {largest:.2e}")
    return largest
