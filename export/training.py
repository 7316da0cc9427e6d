"""Fine-tune the sentence encoder end to end on labelled prompts; the recipe behind the shipped weights.

The network is trained in the form in which it is served: tokens → BERT → mean over the tokens → unit vector
→ one matrix → softmax. Nothing is added that serving would have to compute. Runs that differ only in
their seed are averaged weight by weight ("model soup", Wortsman et al. 2022, arXiv:2203.05482): they share
their start, so they lie in one basin, and the average costs nothing at serving time.

Runs on a CPU: batches hold prompts of like length, so little padding is computed, the matrix products run in
bfloat16 where the CPU has it, and dropout reads precomputed masks. Seeds are fixed; results differ between
machines only by floating-point order.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from export.edits import edited

Tokenise = Callable[[Sequence[str]], list[list[int]]]
"""Texts → token ids with the special tokens, clipped as serving clips them: the serving encoder's own."""

Array = NDArray[np.float32]
Log = Callable[[str], None]

FIRST_HEAD = 1  # seed of the head that every net starts with: weights of strangers could not be averaged


class Labelled(NamedTuple):
    """Prompts and, for each, a distribution over the tiers: `targets` (rows, tiers), one-hot or soft."""

    texts: Sequence[str]
    targets: Array
    weights: Array  # (rows,), of each row's loss


@dataclass(frozen=True)
class Settings:
    """How one net is trained. Learning rates are peaks."""

    epochs: int = 2  # passes over the rows
    encoder_rate: float = 2e-4
    head_rate: float = 2e-3
    averaging: float = 0.99  # decay of the running average of the weights, which is what is kept
    smoothing: float = 0.05  # share of each target spread evenly: even careful readers differ on 3 % of labels
    batch: int = 32
    layer_decay: float = 0.9  # each layer below learns a tenth slower
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps
    hidden_dropout: float = 0.1
    edited: float = 0.3  # share of prompts that get a meaning-preserving edit, drawn anew every epoch
    logit_scale: float = 10.0  # the vector's length in training; folded into the matrix after


@dataclass(frozen=True)
class Head:
    """The softmax head: `logits = unit_vector @ weight.T + bias`; weight (tiers, dims), bias (tiers,)."""

    weight: Array
    bias: Array


class MaskPool(nn.Module):
    """Dropout whose masks are windows of one precomputed pool: drawing afresh costs a fifth of a step."""

    def __init__(self, share: float, size: int = 1 << 23) -> None:
        super().__init__()
        kept = torch.rand(size, generator=torch.Generator().manual_seed(5)) >= share
        self.pool = kept.to(torch.bfloat16) / (1.0 - share)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` with a share of its entries zeroed and the rest scaled up; unchanged outside training."""
        if not self.training:
            return hidden
        start = int(torch.randint(0, self.pool.numel() - hidden.numel(), (1,)))
        return hidden * self.pool[start : start + hidden.numel()].view_as(hidden)


class TierNet(nn.Module):
    """The encoder with its softmax head, as served."""

    def __init__(self, base: Path, tiers: int, settings: Settings) -> None:
        super().__init__()
        # Eager attention: its backward pass on CPU is a third faster than the fused one at these lengths.
        self.encoder = AutoModel.from_pretrained(base, attn_implementation="eager", add_pooling_layer=False)
        self.scale = settings.logit_scale
        self.head = nn.Linear(int(self.encoder.config.hidden_size), tiers)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self._set_dropout(settings.hidden_dropout)

    def _set_dropout(self, share: float) -> None:
        pool: nn.Module = MaskPool(share) if share else nn.Identity()
        for module in list(self.encoder.modules()):
            if isinstance(getattr(module, "dropout", None), nn.Dropout):
                in_attention = "SelfAttention" in type(module).__name__
                module.dropout = nn.Dropout(0.0) if in_attention else pool

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (rows, dims) of token ids (rows, length), by mean pooling over the mask."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weight = mask.unsqueeze(-1).float()
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (rows, tiers)."""
        vector = functional.dropout(self.embed(ids, mask) * self.scale, 0.1, self.training)
        return self.head(vector)  # type: ignore[no-any-return]

    def served_head(self) -> Head:
        """The head for plain unit vectors."""
        weight, bias = self.head.weight.detach(), self.head.bias.detach()
        return Head((weight * self.scale).numpy().copy(), bias.numpy().copy())


def train(net: TierNet, rows: Labelled, tokenise: Tokenise, settings: Settings, seed: int, log: Log) -> TierNet:
    """Train `net` in place; returns the running average of its weights, in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kept = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(_groups(net, settings), betas=(0.9, 0.98), eps=1e-6, fused=True)
    wanted = torch.from_numpy(smoothed(rows.targets, settings.smoothing))
    weights = torch.from_numpy(rows.weights / rows.weights.mean())
    plain = tokenise(rows.texts)
    total, step = settings.epochs * math.ceil(len(plain) / settings.batch), 0
    net.train()
    for epoch in range(settings.epochs):
        ids, losses = _edit_some(rows.texts, plain, tokenise, settings.edited, rng), 0.0
        for batch in batches(ids, settings.batch, rng):
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate_share(step, total, settings.warmup)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(*padded([ids[row] for row in batch]))
            loss = functional.cross_entropy(logits.float(), wanted[batch], reduction="none")
            loss = (loss * weights[batch]).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            step += 1
            losses += float(loss.detach())
            _follow(kept, net, min(settings.averaging, (1 + step) / (10 + step)))
        log(f"seed {seed}, epoch {epoch + 1}/{settings.epochs}: loss {losses * settings.epochs / total:.3f}")
    return kept.eval()


def smoothed(targets: Array, share: float) -> Array:
    """`targets` with `share` of their mass spread evenly over the tiers."""
    mixed: Array = ((1 - share) * targets + share / targets.shape[1]).astype(np.float32)
    return mixed


def rate_share(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at `step`: a line up over the warm-up, then one down to 2 %."""
    return min(1.0, (step + 1) / max(1.0, warmup * total)) * max(0.02, 1 - step / total)


def _groups(net: TierNet, settings: Settings) -> list[dict[str, object]]:
    """Parameters by learning rate and weight decay (none on biases and norms)."""
    layers = int(net.encoder.config.num_hidden_layers)
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if name.startswith("head"):
            rate = settings.head_rate
        else:
            found = re.search(r"layer\.(\d+)\.", name)
            below = layers - 1 - int(found[1]) if found else layers
            rate = settings.encoder_rate * settings.layer_decay**below
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        grouped.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), members in grouped.items()
    ]


def _edit_some(
    texts: Sequence[str], plain: list[list[int]], tokenise: Tokenise, share: float, rng: np.random.Generator
) -> list[list[int]]:
    chosen = np.flatnonzero(rng.random(len(texts)) < share).tolist()
    ids = list(plain)
    for row, tokens in zip(chosen, tokenise([edited(texts[row], rng) for row in chosen]), strict=True):
        ids[row] = tokens
    return ids


def batches(ids: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Row numbers in batches of like length, in random order: sorted within 24 batches' worth of rows."""
    order = rng.permutation(len(ids))
    found: list[list[int]] = []
    for start in range(0, len(order), size * 24):
        near = sorted(order[start : start + size * 24].tolist(), key=lambda row: len(ids[row]))
        found += [near[at : at + size] for at in range(0, len(near), size)]
    for at in rng.permutation(len(found)):
        yield found[at]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (rows, longest)."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
        mask[at, : len(row)] = 1
    return ids, mask


@torch.no_grad()
def _follow(kept: nn.Module, net: nn.Module, decay: float) -> None:
    for average, weight in zip(kept.parameters(), net.parameters(), strict=True):
        average.lerp_(weight, 1 - decay)


def part_way(net: TierNet, end: TierNet, share: float) -> TierNet:
    """The weights that lie this share of the way from `net` to `end`, which is what further training made of it.

    Weights between the two keep the one's range and have the other's gain (Wortsman et al. 2022, arXiv:2109.01903).
    """
    between = copy.deepcopy(net)
    _follow(between, end, 1 - share)
    return between


def averaged(nets: Sequence[TierNet]) -> TierNet:
    """The average of the weights of `nets`, of which there is at least one."""
    average = copy.deepcopy(nets[0])
    for count, net in enumerate(nets[1:], 2):
        _follow(average, net, 1 - 1 / count)
    return average


@torch.no_grad()
def mixed(net: TierNet, plain: TierNet, share: float, tokens: Sequence[int]) -> TierNet:
    """`net` with a `share` of `plain` in its weights, but for the vectors of `tokens`, which `plain` never learnt."""
    both = copy.deepcopy(net)
    _follow(both, plain, 1 - share)
    rows = list(tokens)
    both.encoder.get_input_embeddings().weight[rows] = net.encoder.get_input_embeddings().weight[rows]
    return both


def together(own: Labelled, real: Labelled, real_weight: float) -> Labelled:
    """Both sets as one, each real row's weight times `real_weight`."""
    return Labelled(
        [*own.texts, *real.texts],
        np.concatenate([own.targets, real.targets]),
        np.concatenate([own.weights, real.weights * np.float32(real_weight)]),
    )


@torch.no_grad()
def embeddings(net: TierNet, texts: Sequence[str], tokenise: Tokenise, batch: int = 64) -> Array:
    """Unit vectors (rows, dims) in float32, in the order of `texts`."""
    net.eval()
    ids = tokenise(texts)
    vectors = np.empty((len(ids), net.head.in_features), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        vectors[rows] = net.embed(*padded([ids[row] for row in rows])).numpy()
    return vectors


def temperature(logits: Array, labels: Sequence[int]) -> float:
    """The divisor of held-out `logits` that makes them likeliest (Guo et al. 2017, arXiv:1706.04599)."""
    grid = np.geomspace(0.3, 5.0, 200)
    rows, wanted = torch.from_numpy(logits), torch.tensor(list(labels))
    losses = [float(functional.cross_entropy(rows / float(divisor), wanted)) for divisor in grid]
    return float(grid[int(np.argmin(losses))])


def save(net: TierNet, folder: Path) -> None:
    """Encoder in the transformers layout, head beside it in `head.npz` (`weight`, `bias`)."""
    folder.mkdir(parents=True, exist_ok=True)
    net.encoder.save_pretrained(folder)
    head = net.served_head()
    np.savez(folder / "head.npz", weight=head.weight, bias=head.bias)
