"""More accuracy from few labels: rows without any, classes met once, and what other classes have taught."""

from entropic_rl.few_labels.episodes import Episodes, EpisodeSampler
from entropic_rl.few_labels.prototypical import PrototypicalClassifier, episode_accuracies, prototype_logits
from entropic_rl.few_labels.semi_supervised import SemiSupervisedEntropicClassifier
from entropic_rl.few_labels.transfer import PretrainedBody, pretrained_body

__all__ = [
    "EpisodeSampler",
    "Episodes",
    "PretrainedBody",
    "PrototypicalClassifier",
    "SemiSupervisedEntropicClassifier",
    "episode_accuracies",
    "pretrained_body",
    "prototype_logits",
]
