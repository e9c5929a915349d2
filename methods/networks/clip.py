"""A frozen CLIP (Radford et al., ICML 2021): feature maps of images, CLIP's own pooling, and features of prompts with
learned context vectors. Architectures and weights are open_clip's.

Nothing here is trained or uses labels; methods train their own modules on top of CLIP. open_clip takes seconds to
import, so it is imported only where a model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap

# Mean and standard deviation of CLIP's training pixels per channel, for images scaled to 0 ... 1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

Tokenizer = Callable[[list[str]], Tensor]


class Clip(nn.Module):
    """A frozen CLIP: normalised float32 images (B, 3, H, W) to a feature map (B, D, H', W').

    `model` is open_clip's, with a ResNet as image encoder. `last_pooling` replaces its attention pooling, which is
    available as `pooled`. `tokenize` turns texts into tokens (K, L) int64; the largest token ends a text. `image_size`:
    width and height to which images are scaled; None: no scaling.
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
        """The number of channels D of the feature map."""
        return self.attention_pool.v_proj.in_features

    @property
    def embedding_width(self) -> int:
        """The width E of the embeddings by which images and texts are compared."""
        return self.attention_pool.c_proj.out_features

    @property
    def word_width(self) -> int:
        """The width of a word embedding of the text encoder."""
        return self.model.token_embedding.embedding_dim

    def normalise(self, images: Tensor) -> Tensor:
        """The float32 input of `forward` from uint8 images (B, 3, H, W)."""
        pixels = images.to(torch.float32) / 255
        if self.image_size and pixels.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pixels = nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp_(0, 1)
        mean, std = (torch.tensor(values).to(pixels)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def forward(self, images: Tensor) -> Tensor:
        return self.model.visual(images)

    def spatial(self, features: Tensor) -> Tensor:
        """The part of the features from `forward` that has positions in the image: a map (B, D, H', W')."""
        return features

    def pooled(self, features: Tensor) -> Tensor:
        """CLIP's own embedding (B, E) of a whole image: its attention pooling of a map (B, D, H', W').

        The formulas are open_clip's in another order. open_clip has a query for the mean and for each position, and
        uses only the result of the first. With one query, keys and values need not be computed: q . (W x) = (q W) . x,
        the weights sum to 1, and a bias added to all keys does not change the softmax. For a map of 7 x 7 this takes a
        fiftieth of the multiplications.

        Raises `ValueError` if the map has another size than CLIP's pooling.
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
        """Embeddings (B, E, H', W') of each position of a map (B, D, H', W'), comparable with texts: as if the pooling
        attended to this position only."""
        pool = self.attention_pool
        return pool.c_proj(pool.v_proj(features.movedim(1, -1))).movedim(-1, 1)

    def text_features(self, texts: list[str]) -> Tensor:
        """Embeddings (K, E) of texts, without learned context."""
        context = self.model.positional_embedding.new_empty(len(texts), 0, self.word_width)
        return self.prompt_features(context, self.tokenize(texts))

    def prompt_features(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Embeddings (K, E) of prompts [start] [context] [name] [end]. `context` (K, M, word width) are vectors in
        place of words, `tokens` (K, L) are those of the names. Positions after the longest prompt are not computed: the
        attention mask is causal, so they have no effect. Raises `ValueError` if a prompt is too long for the model."""
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
    """A CLIP with a vision transformer as image encoder.

    Features (B, D, 1 + H' W', 1) are its last tokens after the last norm. The first one is the class token, which is
    CLIP's pooling; the others are the patches, which are the map.
    """

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
    """Shape and pooling of a CLIP backbone's output, and the whole model `clip`, which is frozen and in no state."""

    clip: Clip


def pretrained(name: str, weights: str, image_size: int) -> Clip:
    """open_clip's model `name` with `weights`: a tag such as `openai`, which is downloaded, a file, or `random`.

    In a ResNet, average pooling of 2 x 2 with stride 2 replaces the attention pooling, as in the paper (section 4.2).
    With images of twice the original size, the map then keeps its original size, so CLIP's own pooling still applies.
    In a vision transformer, open_clip interpolates the position embeddings to `image_size`. Raises `ValueError` for
    another kind of model.
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
