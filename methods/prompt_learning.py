"""Prompt learning for a frozen CLIP (CoOp, Zhou et al., IJCV 2022) with many labels per image: learned words shared by
all classes or one set per class; image features from CLIP's own pooling, or one per class (semantic decoupling, or
semantic attention).

The prompt of class k is t_k = [V]_1 ... [V]_M [name of k] with learned words V, shared or per class (Eq. 7). f_k is the
image's feature of class k, <,> the cosine:

    x_k = <f_k, text encoder(t_k)> / tau + b                                           (Eq. 8 and 9)
    p_k = sigmoid(x_k)
    L = - mean over images, sum over known classes of (1 - p)^g+ log p         for +1  (Eq. 10 and 11; P-ASL)
                                                      q^g- log(1 - q)          for -1, q = max(p - m, 0)

The paper's method has words per class. f_k comes from attention over the map of the image encoder, guided by word
vectors (Eq. 3 to 6, `methods.networks.semantic_decoupling`), and a linear layer to the width of text embeddings. There
is no code. Decisions:

* Eq. 9 is a softmax over the classes. With it, no two classes can both be likely, and nearly all negatives have p < m
  and no loss. So the default is a sigmoid of the same cosine (`score: sigmoid`). `softmax` is the equation as printed.
  `prompt_pair` is DualCoOp's second prompt per class, for its absence. Logits are log-odds log(p / (1 - p)) in all
  three.
* tau is not stated. It is fixed at `temperature`, or learned from this value. The bias b may be learned too, because
  the cosines of CLIP's own image feature with texts are around 0.2, not around 0.
* The paper does not say how CoOp handles many labels. Its image feature is CLIP's own attention pooling. Here it acts
  on the same frozen map as the other variants, the one after the replaced last pooling.
* "A 1024-to-512 linear map" does not fit the 2048 channels of ResNet-101. With `feature_width: 0` the linear layer has
  2048 inputs; 1024 adds SSGRL's 1 x 1 convolution before the attention. Numbers of parameters are in
  docs/clip_parameters.md; no variant has the paper's 4.8 million. The linear layer starts at random, not from the
  weights of the removed pooling.
* "SA" is ADD-GCN's mask per class instead of the attention. The linear layer stays.
* The paper does not say whether the focal weights of P-ASL pass gradient (`focus_gradient`); in the releases of ASL,
  CSL and DualCoOp they do not. P-BCE is P-ASL with g+ = g- = m = 0, with the same sum and mean, and both settings give
  the same computation.
* For a vision transformer, which is not in the paper, the map are the last tokens of the patches, and CLIP's own
  feature is that of the class token (`methods.networks.clip.TransformerClip`).
* A prompt ends with the class name; CoOp's full stop is not in Eq. 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .components.contrastive import unit
from .components.decoupling import Decoupling
from .components.losses import asymmetric_loss, sigmoid_cross_entropy
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Batch, Modules, Objective
from .contract.settings import SettingError, Settings, setting
from .contract.task import Task
from .data.registry import EMBEDDED
from .data.settings import DataSettings
from .networks.clip import Clip, ClipFeatureMap
from .networks.settings import CLIP, NetworkSettings

START_DEVIATION = 0.02  # standard deviation of the initial learned words (CoOp release, coop.py:84-95)


class Prompts(nn.Module):
    """Prompts of M learned words before the names of K classes: `context` (P, K or 1, M, word width). P is the number
    of prompts per class; with 1 in place of K the words are shared by all classes. The text encoder is not part of the
    state."""

    def __init__(self, clip: Clip, classes: tuple[str, ...], length: int, specific: bool, per_class: int):
        super().__init__()
        shape = per_class, len(classes) if specific else 1, length, clip.word_width
        self.context = nn.Parameter(torch.empty(shape).normal_(std=START_DEVIATION))
        self._clip = (clip,)  # in a tuple, so that torch does not register it as a submodule
        self._names = clip.tokenize([name.replace("_", " ") for name in classes])
        # Embeddings without gradient and the version of their words: kept, because each batch of a split needs them.
        self._kept: tuple[int, Tensor] | None = None

    @property
    def clip(self) -> Clip:
        return self._clip[0]

    @property
    def classes(self) -> int:
        return len(self._names)

    def forward(self) -> Tensor:
        """Text embeddings (P, K, E) of length 1."""
        if torch.is_grad_enabled():
            return self._features()
        if self._kept is None or self._kept[0] != self.context._version:
            self._kept = self.context._version, self._features()
        return self._kept[1]

    def _features(self) -> Tensor:
        contexts = self.context.expand(-1, self.classes, -1, -1)
        return unit(torch.stack([self.clip.prompt_features(context, self._names) for context in contexts]))


class Score(nn.Module):
    """Cosines (..., K) to scores: cosine / tau + b. 1 / tau may be learned; b is learned, or absent."""

    def __init__(self, temperature: float, scale_learned: bool, bias_learned: bool):
        super().__init__()
        # The logarithm is learned, as in CLIP: a step changes the scale by a factor and never changes its sign.
        start = -torch.tensor(temperature).log()
        self.log_scale = nn.Parameter(start) if scale_learned else start
        self.bias = nn.Parameter(torch.zeros(())) if bias_learned else None

    def forward(self, cosines: Tensor) -> Tensor:
        scores = cosines * self.log_scale.exp()
        return scores if self.bias is None else scores + self.bias


def log_odds(scores: Tensor) -> Tensor:
    """log(p / (1 - p)) for p = softmax of scores (B, K) over the classes: score minus log-sum-exp of the others."""
    own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return scores - scores[:, None].masked_fill(own, -torch.inf).logsumexp(2)


@dataclass(frozen=True)
class Focus:
    """The parameters of P-ASL: exponents for positives and negatives, the margin m, and whether the focal weights pass
    gradient."""

    gamma_pos: float
    gamma_neg: float
    margin: float
    gradient: bool


@dataclass(frozen=True)
class PromptObjective(Objective):
    """P-ASL or P-BCE of learned prompts. `decoupling` None: CLIP's own pooling. `focus` None: P-BCE."""

    length: int
    specific: bool
    score: Literal["sigmoid", "softmax", "prompt_pair"]
    temperature: float
    scale_learned: bool
    bias_learned: bool
    decoupling: Decoupling | None
    focus: Focus | None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        assert isinstance(features, ClipFeatureMap), "prompts need a text encoder"
        clip, per_class = features.clip, 2 if self.score == "prompt_pair" else 1
        found: dict[str, Callable[[], nn.Module]] = {
            "prompts": partial(Prompts, clip, task.classes, self.length, self.specific, per_class),
            "score": partial(Score, self.temperature, self.scale_learned, self.bias_learned),
        }
        if self.decoupling is not None:
            found |= {name: make for name, make in self.decoupling.modules(features, task).items() if name != "head"}
            found["projection"] = partial(nn.Linear, self.decoupling.width(features), clip.embedding_width)
        return found

    def logits(self, features: Tensor, modules: Modules) -> Tensor:
        images = unit(self.image_features(features, modules))
        cosines = torch.einsum(
            "bkd,pkd->pbk", images.expand(-1, self._prompts(modules).classes, -1), modules["prompts"]()
        )
        scores = modules["score"](cosines)
        if self.score == "prompt_pair":
            return scores[0] - scores[1]
        return log_odds(scores[0]) if self.score == "softmax" else scores[0]

    def image_features(self, features: Tensor, modules: Modules) -> Tensor:
        """Image embeddings of each class (B, K, E), or one for all classes (B, 1, E), from features (B, D, H, W)."""
        if self.decoupling is None:
            return self._prompts(modules).clip.pooled(features)[:, None]
        spatial = self._prompts(modules).clip.spatial(features)
        return modules["projection"](self.decoupling.class_features(spatial, modules))

    def attention(self, features: Tensor, modules: Modules) -> Tensor:
        """The attention maps; without decoupling, the cosines of texts with the embedding at each position."""
        if self.decoupling is None:
            positions = unit(self._prompts(modules).clip.at_positions(features).movedim(1, -1))
            return torch.einsum("bhwd,kd->bkhw", positions, modules["prompts"]()[0])
        return self.decoupling.attention(self._prompts(modules).clip.spatial(features), modules)

    def part_weight(self, labels: Tensor) -> float:
        if self.decoupling is not None:
            self.decoupling.refuse_batch_norm()
        return float(len(labels))

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return known_loss(self.logits(batch.features, modules), batch.labels, self.focus)

    def report(self, modules: Modules, state: Mapping[str, Tensor]) -> dict[str, float]:
        score = modules["score"]
        assert isinstance(score, Score)
        scale = {"scale": score.log_scale.exp().item()} if self.scale_learned else {}
        return scale if score.bias is None else {**scale, "bias": score.bias.item()}

    def _prompts(self, modules: Modules) -> Prompts:
        prompts = modules["prompts"]
        assert isinstance(prompts, Prompts)
        return prompts


def known_loss(logits: Tensor, labels: Tensor, focus: Focus | None) -> Tensor:
    """Eq. 11, a scalar: sum over known labels, mean over images. Logits (B, K), labels (B, K) of +1, -1, 0."""
    if focus is None:
        entries = sigmoid_cross_entropy(logits, (labels > 0).to(logits.dtype)).masked_fill(labels == 0, 0)
    else:
        entries = asymmetric_loss(
            logits,
            labels,
            gamma_pos=focus.gamma_pos,
            gamma_neg=focus.gamma_neg,
            clip=focus.margin,
            focus_gradient=focus.gradient,
        )
    return entries.sum(1).mean()


_DECOUPLED = {"decoupling": ("semantic_decoupling", "semantic_attention")}
_FOCUSED = {"loss": ("asymmetric",)}


@dataclass(frozen=True)
class PromptSettings(Settings):
    prompts: Literal["shared", "category_specific"] = setting(
        "category_specific",
        "learned words: shared by all classes (CoOp), or separate for each class",
        published="category_specific",
        source="Eq. 7",
    )
    prompt_length: int = setting(
        16, "number of learned words in a prompt", published=16, minimum=1, typical=(4, 16), source="section 4.2: M"
    )
    decoupling: Literal["off", "semantic_decoupling", "semantic_attention"] = setting(
        "semantic_decoupling",
        "image features. off: one from CLIP's own pooling (CoOp). semantic_decoupling: one per class, by attention "
        "from word vectors (SD). semantic_attention: one per class, by a mask (SA)",
        published="semantic_decoupling",
        source="Eq. 3 to 6; Figure 4",
    )
    attention_width: int = setting(
        16,
        "width of the low-rank bilinear attention",
        published=1024,
        minimum=1,
        typical=(8, 16),
        when={"decoupling": ("semantic_decoupling",)},
        source="section 4.2",
    )
    feature_width: int = setting(
        0,
        "number of channels after a 1 x 1 convolution with batch norm; 0: no convolution, channels of the encoder",
        minimum=0,
        typical=(0, 32),
        when=_DECOUPLED,
        source="the paper does not say; 1024 in SST",
    )
    score: Literal["sigmoid", "softmax", "prompt_pair"] = setting(
        "sigmoid",
        "probability of a class: sigmoid of its score, softmax over the classes, or softmax over two prompts per class",
        source="Eq. 9: softmax over the classes; DualCoOp: prompt pair",
    )
    temperature: float = setting(
        0.05, "tau, the divisor of cosines", above=0, typical=(0.01, 0.05), source="DualCoOp: 0.05; CLIP: 0.01"
    )
    scale_learned: bool = setting(False, "1 / tau is learned, starting from `temperature`")
    bias_learned: bool = setting(True, "learn a common bias of scores, starting from 0", when={"score": ("sigmoid",)})
    loss: Literal["asymmetric", "bce"] = setting(
        "asymmetric", "P-ASL or P-BCE, on known labels", published="asymmetric", source="Eq. 10"
    )
    gamma_pos: float = setting(
        1.0,
        "exponent of the focal weight of positives",
        published=1.0,
        minimum=0,
        typical=(0.0, 1.0),
        when=_FOCUSED,
        source="section 4.2",
        title="γ+",
    )
    gamma_neg: float = setting(
        2.0,
        "exponent of the focal weight of negatives",
        published=2.0,
        minimum=0,
        typical=(2.0, 4.0),
        when=_FOCUSED,
        source="section 4.2",
        title="γ−",
    )
    margin: float = setting(
        0.05,
        "m, subtracted from the probabilities of negatives",
        published=0.05,
        minimum=0,
        maximum=1,
        typical=(0.0, 0.05),
        when=_FOCUSED,
        source="section 4.2",
    )
    focus_gradient: bool = setting(
        False,
        "focal weights pass gradient",
        published=False,
        when=_FOCUSED,
        source="ASL, CSL and DualCoOp releases: they do not",
    )


class PromptLearning(Method[PromptSettings]):
    """Learned prompts for a frozen CLIP: CoOp, and with semantic decoupling and prompts per class (CLIP-SD)."""

    name = "prompt_learning"
    source = (
        "Ruan et al., Learning Semantic-Aware Representation in Visual-Language Models for Multi-Label Recognition "
        "with Partial Labels, 2024; CoOp, IJCV 2022"
    )
    Settings = PromptSettings
    reports: ClassVar = {"scale": "learned scale of the cosines, 1/τ", "bias": "learned bias of the scores, b"}
    backbones = CLIP
    quick: ClassVar = {"network.backbone": "digit_clip", "prompt_length": 3}
    unshared = "every setting acts from epoch 1 on"

    @classmethod
    def refuse(cls, settings: PromptSettings, data: DataSettings, network: NetworkSettings) -> None:
        if network.backbone == "digit_clip" and data.dataset != EMBEDDED:
            allowed = f"open_clip; the words of digit_clip are those of {EMBEDDED}"
            raise SettingError("network.backbone", network.backbone, allowed)
        if settings.decoupling == "off":
            network.refuse_unpoolable()

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        decoupling = None
        if s.decoupling != "off":
            by_words = s.decoupling == "semantic_decoupling"
            decoupling = Decoupling(s.attention_width if by_words else None, s.feature_width or None, None)
        focused = s.loss == "asymmetric" and (s.gamma_pos or s.gamma_neg or s.margin)
        return PromptObjective(
            length=s.prompt_length,
            specific=s.prompts == "category_specific",
            score=s.score,
            temperature=s.temperature,
            scale_learned=s.scale_learned,
            bias_learned=s.bias_learned and s.score == "sigmoid",
            decoupling=decoupling,
            focus=Focus(s.gamma_pos, s.gamma_neg, s.margin, s.focus_gradient) if focused else None,
        )
