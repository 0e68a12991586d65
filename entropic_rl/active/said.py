"""What a model says of one row, for people to read; free of torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Said"]


@dataclass(frozen=True, slots=True)
class Said:
    """A model's answer to one row.

    Attributes:
        label: the likeliest.
        probability: its.
        second: the next likeliest label.
        second_probability: its.
        entropy: of all probabilities, nats.
        score: what the strategy ranks by, higher is more wanted; None where it ranks rows together.
    """

    label: str
    probability: float
    second: str
    second_probability: float
    entropy: float
    score: float | None = None

    @property
    def numbers(self) -> list[str]:
        """Probability and entropy as they are written into files."""
        return [f"{self.probability:.4f}", f"{max(self.entropy, 0.0):.4f}"]
