"""More accuracy from few labels: rows without any, classes met once, and what other classes have taught."""

from entropic_rl.few_labels.semi_supervised import SemiSupervisedEntropicClassifier

__all__ = ["SemiSupervisedEntropicClassifier"]
