"""The dense networks that solve equations."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, field_validator, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.networks.dense import DenseNetwork
from hpctrain.options import Options

# Subdomains along a coordinate: how many, or the places between them.
Subdivision = Annotated[int, Field(ge=2)] | Annotated[list[float], Field(min_length=1)]
# The farthest from 0 and 1 that a uniform number is kept, of which the normal one is then finite.
_LEAST = 1e-12


class DenseOptions(Options):
    """A dense network that solves an equation."""

    kind: Literal["mlp", "residual", "modified"] = Field(
        "residual",
        description="plain, with skip connections y + time_step * tanh(...), or gated by two"
        " encoders of the inputs, whose jets are torch's",
    )
    depth: int = Field(
        ge=1,
        description="number of layers: all linear maps, the output's too; 1 for a sum of Fourier"
        " features alone, which is linear in all that is trained",
    )
    width: int | None = Field(
        None, ge=1, description="neurons of a hidden layer; none where depth = 1"
    )
    activation: Literal["tanh", "adaptive-tanh", "sin", "adaptive-sin"] = Field(
        "adaptive-tanh", description="f(z), or f(10 a z) with one trainable a per layer"
    )
    time_step: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="dt, the weight of a residual layer's update"
    )
    scale_inputs: bool = Field(
        True, description="take coordinates scaled from the equation's domain to [-1, 1]"
    )
    separate: bool | list[list[str]] = Field(
        False,
        description="a network of this size for each field, or for each group of fields; else one"
        " for all fields that depend on the same coordinates",
    )
    subdomains: dict[str, Subdivision] = Field(
        {},
        description="into how many overlapping subdomains the domain is cut along coordinates, each"
        " with a network of this size, or the places between them, which then have as many"
        " collocation points each; by default it is not",
    )
    overlap: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of neighbouring subdomains, in units of a subdomain without its overlap",
    )
    fourier: int = Field(
        0, ge=0, description="random frequencies whose sine and cosine are further inputs"
    )
    fourier_scale: PositiveFloat | dict[str, PositiveFloat] = Field(
        1.0,
        description="standard deviation of the frequencies, on [-1, 1]: of all coordinates, or of"
        " each that is named, and the others have none",
    )

    @model_validator(mode="after")
    def _fit_depth(self) -> "DenseOptions":
        if self.depth > 1:
            if self.width is None:
                raise ValueError("width is missing: the neurons of a hidden layer")
            return self
        if self.width is not None:
            raise ValueError(f"width = {self.width} is for hidden layers: depth = 1 has none")
        if not self.fourier or self.kind == "modified":
            raise ValueError('depth = 1 is for kind = "mlp" or "residual" with fourier > 0')
        return self

    @model_validator(mode="after")
    def _scale_to_subdomains(self) -> "DenseOptions":
        if self.subdomains and not self.scale_inputs:
            raise ValueError(
                "subdomains is for scale_inputs = true: each scales coordinates itself"
            )
        return self

    @field_validator("subdomains")
    @classmethod
    def _ascend(cls, subdomains: dict[str, Subdivision]) -> dict[str, Subdivision]:
        for name, cut in subdomains.items():
            if isinstance(cut, list) and any(not a < b for a, b in pairwise(cut)):
                raise ValueError(f"{name}: places that ascend")
        return subdomains

    def make(self, inputs: int) -> DenseNetwork:
        """Makes the network for so many inputs."""
        return DenseNetwork(
            inputs=inputs,
            width=self.width or 1,
            depth=self.depth,
            residual=self.kind == "residual",
            adaptive=self.activation.startswith("adaptive-"),
            time_step=self.time_step,
            activation="sin" if self.activation.endswith("sin") else "tanh",
            gated=self.kind == "modified",
        )

    def draw_frequencies(self, coordinates: Sequence[str], seed: int) -> Tensor | None:
        """Draws the frequencies (m, d) of Fourier features; None where the job asks for none.

        They are normal. Those of independent numbers leave gaps; these are of a Sobol sequence that
        is shifted at random, modulo 1.

        Sources: A. Rahimi, B. Recht, Random features for large-scale kernel machines, NeurIPS 20
        (2007); J. Yang, V. Sindhwani, H. Avron, M. Mahoney, Quasi-Monte Carlo feature maps for
        shift-invariant kernels, ICML 2014; M. Tancik et al., Fourier features let networks learn
        high frequency functions in low dimensional domains, NeurIPS 33 (2020).

        Args:
            coordinates: their d names.
            seed: determines them.

        Raises:
            InputError: a deviation is given for a coordinate that there is not.
        """
        if not self.fourier:
            return None
        given, d = self.fourier_scale, len(coordinates)
        if isinstance(given, dict):
            for name in given:
                if name not in coordinates:
                    raise InputError(
                        f"network.fourier_scale names {name!r}: one of {', '.join(coordinates)}"
                    )
            scale = [given.get(name, 0.0) for name in coordinates]
        else:
            scale = [given] * d
        shift = to_tensor(make_generator(seed, "fourier").uniform(0, 1, d))
        even = torch.quasirandom.SobolEngine(d).draw(self.fourier, dtype=torch.float64)
        uniform = ((even + shift) % 1).clamp(_LEAST, 1 - _LEAST)
        return torch.special.ndtri(uniform) * torch.tensor(scale, dtype=torch.float64)
