"""What is trained on what, and how the nets become one: the recipe behind the shipped weights.

Our own examples are many; the prompts that people really sent are few and are what counts. In one pot of equal
weights the majority wins, so a real prompt weighs several times as much. And the later examples, written as people
write, weigh more than the earlier, tidy ones: they alone close the training (docs/quality.md).

Apart from how a net is trained (`export.training`), whose code is part of a finished net's name: with more seeds
here, a run trains the new nets only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from export.training import Settings


class Course(NamedTuple):
    """What some of the nets are trained on: lines of the built-in file, from one up to before another."""

    lines: tuple[tuple[int, int], ...]
    seeds: tuple[int, ...]


# The lines from 19,276 on have what those before lack beside people's prompts: few words, plain wording, all registers.
CLOSING = Course(((19_276, 35_583),), (1, 2, 3, 4))
PLAIN = Course(((0, 11_478),), (1, 2, 3, 4))


@dataclass(frozen=True)
class Recipe:
    """The nets' courses, and the shares in which their weights are mixed."""

    settings: Settings = field(default_factory=Settings)
    # Nets that saw more of the one kind of line and of the other err in different places; their average errs less.
    courses: tuple[Course, ...] = (Course(((0, 25_479),), (1, 2)), Course(((0, 11_478), (19_276, 30_820)), (1, 2)))
    real_weight: float = 4.0  # of a real prompt beside an own example's 1
    # One more epoch for the average, at half the rate, on real prompts and the lines most like them.
    closing: Course = CLOSING
    closing_rate: float = 1e-4
    closing_share: float = 1.0  # how far towards the closed weights
    # A last share goes to nets that saw none of the later lines and are the less sure for it: that lowers the log loss
    # on prompts kept out (docs/quality.md). They were trained without the glosses and have no say in those vectors.
    plain: Course = PLAIN
    plain_real_weight: float = 3.0
    plain_share: float = 0.25

    def gently(self) -> Settings:
        """How the closing epoch is trained."""
        return replace(self.settings, epochs=1, encoder_rate=self.closing_rate)
