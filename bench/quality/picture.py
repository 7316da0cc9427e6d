"""The confusion matrix and the reliability curve."""

from __future__ import annotations

from pathlib import Path

from bench.picture import pyplot
from bench.quality.assess import Quality


def draw(quality: Quality, path: Path) -> None:
    """A PNG. Raises `ImportError` with what to install."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    labels, confusion = quality.score.labels, quality.score.confusion
    shares = [[cell / max(1, sum(row)) for cell in row] for row in confusion]
    left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(confusion):
        for x, count in enumerate(row):
            colour = "white" if shares[y][x] > 0.55 else "black"
            left.text(x, y, f"{count}\n{shares[y][x]:.0%}", ha="center", va="center", color=colour, fontsize=9)
    title = f"{quality.score.samples} prompts, accuracy {quality.score.accuracy:.3f}"
    left.set_xticks(range(len(labels)), labels)
    left.set_yticks(range(len(labels)), labels)
    left.set(xlabel="routed to", ylabel="label", title=title)
    right.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    right.plot(
        [each.confidence for each in quality.reliability], [each.accuracy for each in quality.reliability],
        marker="o", color="#0072B2",
    )  # fmt: skip
    most = max(each.samples for each in quality.reliability)
    right.bar(
        [each.confidence for each in quality.reliability], [0.25 * each.samples / most for each in quality.reliability],
        width=0.04, color="#0072B2", alpha=0.2,
    )  # fmt: skip
    right.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bars: share of prompts)",
        title=f"Reliability, ECE {quality.score.ece:.3f}",
    )  # fmt: skip
    right.grid(alpha=0.25)
    figure.savefig(path, dpi=130)
    plt.close(figure)
