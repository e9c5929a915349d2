"""CLIP (Radford et al., ICML 2021), frozen: a feature map of images, the pooling that CLIP itself ends with, and
features of prompts whose words need not be words. Architectures and weights are open_clip's.

Nothing here is trained, nor knows of labels; what is learned on top of CLIP is a method's matter. open_clip takes
seconds to import: only what builds a model pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap

# Of the pixels CLIP was trained on, per channel; images are scaled to 0 ... 1 first.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

Tokenizer = Callable[[list[str]], Tensor]


class Clip(nn.Module):
    """Images (B, 3, H, W), normalised float32, to a feature map (B, D, H', W'), by a frozen CLIP.

    `model` is open_clip's, with a ResNet as image encoder; `last_pooling` takes the place of its attention pooling,
    which stays at hand as `pooled`. `tokenize` makes texts tokens (K, L) int64, of which the largest ends a text.
    `image_size`: images are scaled to so many pixels each way; None: they are taken as they are.
    """

    def __init__(
        self,
        model: Any,
        tokenize: Tokenizer,
        last_pooling: nn.Module | None,
        *,
        image_size: int | None = None,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ):
        super().__init__()
        if last_pooling is not None:
            self.attention_pool = model.visual.attnpool
            model.visual.attnpool = last_pooling
        self.model = model
        self.tokenize = tokenize
        self.image_size, self.mean, self.std = image_size, mean, std
        self.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """D."""
        return self.attention_pool.v_proj.in_features

    @property
    def embedding_width(self) -> int:
        """E, of what images and texts are compared by."""
        return self.attention_pool.c_proj.out_features

    @property
    def word_width(self) -> int:
        """Of what the text encoder takes for a word."""
        return self.model.token_embedding.embedding_dim

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to float32 as `forward` takes them."""
        pixels = images.to(torch.float32) / 255
        if self.image_size and pixels.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pixels = nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp_(0, 1)
        mean, std = (torch.tensor(values).to(pixels)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def forward(self, images: Tensor) -> Tensor:
        return self.model.visual(images)

    def spatial(self, features: Tensor) -> Tensor:
        """What of features as `forward` makes them has a place in the image, a map (B, D, H', W')."""
        return features

    def pooled(self, features: Tensor) -> Tensor:
        """CLIP's own feature (B, E) of a whole image, by its attention pooling of a map (B, D, H', W').

        By open_clip's formulas in another order. Of its queries, the mean and every position, it keeps the result of
        the first; for one query, keys and values need not be computed at all: q . (W x) = (q W) . x, the weights sum to
        1, and a bias that is added to every key changes no softmax. A fiftieth of the multiplications for 7 x 7.

        Raises `ValueError` for a map of another size than its own.
        """
        pool = self.attention_pool
        positions = features.flatten(2).transpose(1, 2)
        if positions.shape[1] != len(pool.positional_embedding) - 1:
            side = round((len(pool.positional_embedding) - 1) ** 0.5)
            given = " x ".join(map(str, features.shape[2:]))
            raise ValueError(
                f"CLIP's own pooling is for a map of {side} x {side}, not of {given}: "
                "take images of the size that it is for (network.image_size; 448 for most), or a decoupling"
            )
        tokens = torch.cat([positions.mean(1, keepdim=True), positions], 1) + pool.positional_embedding
        heads = pool.num_heads
        query = pool.q_proj(tokens[:, 0]).unflatten(1, (heads, -1))
        asked = torch.einsum("bhe,hed->bhd", query, pool.k_proj.weight.unflatten(0, (heads, -1)))
        weights = (asked @ tokens.transpose(1, 2) / query.shape[2] ** 0.5).softmax(2)
        values = torch.einsum("bhd,hed->bhe", weights @ tokens, pool.v_proj.weight.unflatten(0, (heads, -1)))
        return pool.c_proj(values.flatten(1) + pool.v_proj.bias)

    def at_positions(self, features: Tensor) -> Tensor:
        """A map (B, D, H', W') where images and texts are compared, (B, E, H', W'): each position taken for a whole
        image whose pooling looks nowhere else."""
        pool = self.attention_pool
        return pool.c_proj(pool.v_proj(features.movedim(1, -1))).movedim(-1, 1)

    def text_features(self, texts: list[str]) -> Tensor:
        """Features (K, E) of texts as they are."""
        context = self.model.positional_embedding.new_empty(len(texts), 0, self.word_width)
        return self.prompt_features(context, self.tokenize(texts))

    def prompt_features(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Features (K, E) of prompts [start] [context] [name] [end]: `context` (K, M, word width) in place of words,
        and `tokens` (K, L) of the names.

        Computed no further than the longest prompt ends: the mask is causal, so that nothing behind an end reaches it.
        Raises `ValueError` where a prompt is longer than the model reads.
        """
        tokens = tokens.to(context.device)
        model, ends = self.model, tokens.argmax(1) + context.shape[1]
        length = int(ends.max()) + 1
        if length > model.context_length:
            raise ValueError(f"a prompt of {length} tokens: this CLIP reads at most {model.context_length}")
        words = model.token_embedding(tokens)
        hidden = torch.cat([words[:, :1], context, words[:, 1:]], 1)[:, :length] + model.positional_embedding[:length]
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
        return hidden[torch.arange(len(ends), device=ends.device), ends] @ model.text_projection


class TransformerClip(Clip):
    """A CLIP whose image encoder is a vision transformer. Features (B, D, 1 + H' W', 1) are its last tokens, the class
    token first, as the last norm leaves them: the class token is CLIP's pooling, the patches' are the map."""

    def __init__(self, model: Any, tokenize: Tokenizer, *, image_size: int):
        super().__init__(model, tokenize, None, image_size=image_size)

    @property
    def width(self) -> int:
        return self.model.visual.proj.shape[0]

    @property
    def embedding_width(self) -> int:
        return self.model.visual.proj.shape[1]

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.model.visual.forward_intermediates(
            images,
            indices=1,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        both = torch.cat([tokens["image_intermediates_prefix"][-1], tokens["image_intermediates"][-1]], 1)
        return both.transpose(1, 2)[..., None]

    def spatial(self, features: Tensor) -> Tensor:
        return features[:, :, 1:, 0].unflatten(2, self.model.visual.grid_size)

    def pooled(self, features: Tensor) -> Tensor:
        return features[:, :, 0, 0] @ self.model.visual.proj

    def at_positions(self, features: Tensor) -> Tensor:
        return torch.einsum("bdhw,de->behw", self.spatial(features), self.model.visual.proj)


@dataclass(frozen=True)
class ClipFeatureMap(FeatureMap):
    """Of a backbone that is CLIP's, with the whole of it: `clip` is frozen, and belongs to no module's state."""

    clip: Clip


def pretrained(name: str, weights: str, image_size: int) -> Clip:
    """open_clip's model `name` with `weights`: a tag such as `openai`, which is downloaded, a file, or `random`.

    Of a ResNet the attention pooling is replaced by average pooling of 2 x 2 with stride 2, as the paper says (section
    4.2), which at twice the size that the model was trained on leaves the map as large as it was, and its attention
    pooling applicable. Of a vision transformer open_clip interpolates the positions to `image_size`. Raises
    `ValueError` for a model of another kind.
    """
    import open_clip
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    layers = ((open_clip.get_model_config(name) or {}).get("vision_cfg") or {}).get("layers")
    # Random weights are for tests of shapes; open_clip draws them from torch's global generator.
    model = open_clip.create_model(
        name,
        pretrained=None if weights == "random" else weights,
        force_image_size=image_size if isinstance(layers, int) else None,
    )
    visual, tokenize = model.visual, open_clip.get_tokenizer(name)
    if isinstance(model, open_clip.CLIP):
        if isinstance(visual, ModifiedResNet):
            return Clip(model, tokenize, nn.AvgPool2d(2), image_size=image_size)
        if isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None:
            return TransformerClip(model, tokenize, image_size=image_size)
    raise ValueError(
        f"{name} has neither a ResNet nor a vision transformer with a class token as CLIP has them; take "
        "RN101-quickgelu, ViT-B-16-quickgelu or another of these"
    )
