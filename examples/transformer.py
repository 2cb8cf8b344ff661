"""A small vision transformer for images of 32 × 32 pixels in 10 classes, such as CIFAR-10's."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """What each patch takes from the others, by several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Patches (N, patches, width) to as many."""
        N, patches, width = x.shape
        split = self.mixed(x).view(N, patches, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(found.transpose(1, 2).reshape(N, patches, width))


class Residual(nn.Module):
    """x + f(x normalised)."""

    def __init__(self, width: int, f: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.norm(x))


class Patches(nn.Module):
    """Images (N, 3, 32, 32) as patches of size × size pixels, each with its place."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, size, stride=size)
        self.places = nn.Parameter(0.02 * torch.randn((32 // size) ** 2, width))

    def forward(self, images: Tensor) -> Tensor:
        """(N, patches, width)."""
        return self.embed(images).flatten(2).transpose(1, 2) + self.places


class Net(nn.Module):
    """Pre-normalised layers of attention and a perceptron, then the mean over the patches."""

    def __init__(
        self, width: int = 96, depth: int = 4, heads: int = 4, size: int = 8, classes: int = 10
    ) -> None:
        super().__init__()
        layers = []
        for _ in range(depth):
            perceptron = nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )
            layers += [Residual(width, Attention(width, heads)), Residual(width, perceptron)]
        self.layers = nn.Sequential(Patches(width, size), *layers, nn.LayerNorm(width))
        self.classify = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.classify(self.layers(images).mean(1))
