"""The settings of an equation, and the problem that they make."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator

from hpctrain.errors import InputError
from hpctrain.kernels import native_available
from hpctrain.kernels import precision as type_of
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.options import Options
from hpctrain.problems.base import FamilyOptions
from hpctrain.problems.equations import PDE
from hpctrain.problems.equations.checks.guard import guard
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.conditions import SoftConstraints
from hpctrain.problems.equations.errors import ErrorMonitor
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.points import Cluster
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.user_code.own_class import own_class


class ClusterOptions(Options):
    """Where collocation points lie denser along a coordinate: around a layer of the solution."""

    coordinate: str = Field(min_length=1, description='its name, such as "x"')
    at: float = Field(description="where the layer is")
    width: float = Field(gt=0, description="half of the cluster's points are so near")
    share: float = Field(0.5, gt=0, lt=1, description="part of all points in the cluster")


class PinnOptions(FamilyOptions):
    """An equation to be solved by a network."""

    names: ClassVar = tuple(EQUATIONS)
    networks: ClassVar = (DenseOptions,)
    samples_key: ClassVar = "points"

    name: str = Field(description='a shipped equation, such as "burgers", or "my_pde.py:Heat"')
    points: int = Field(10_000, ge=1, description="collocation points, the samples of the loss")
    scale_distance: bool = Field(
        True, description="divide the distance function by its maximum over the domain"
    )
    clusters: list[ClusterOptions] = Field(
        [], description="layers around which the points are denser; by default none"
    )
    constraints: Literal["hard", "soft"] = Field(
        "hard", description="conditions hold exactly, or by penalty terms of the loss"
    )
    penalty: float = Field(1.0, gt=0, description="weight of each penalty term (soft)")
    condition_points: int = Field(
        200, ge=1, description="points of each condition on a face of the domain (soft)"
    )

    @field_validator("clusters")
    @classmethod
    def _leave_a_share(cls, clusters: list[ClusterOptions]) -> list[ClusterOptions]:
        for name in {cluster.coordinate for cluster in clusters}:
            shares = [cluster.share for cluster in clusters if cluster.coordinate == name]
            if sum(shares) >= 1:
                raise ValueError(f"shares along one coordinate, {name}, that add up to less than 1")
        return clusters

    @property
    def columns(self) -> tuple[str, ...]:
        return ErrorMonitor.known_columns

    @property
    def uses_torch_threads(self) -> bool:
        return not native_available()

    def make(self, network: Any, seed: int, precision: str, device: torch.device) -> PinnProblem:
        pde, dtype = guard(_make_pde(self.name)), type_of(precision)
        probe(pde, dtype, device)
        soft = SoftConstraints(self.condition_points, self.penalty)
        return PinnProblem(
            pde,
            network.make(len(pde.coordinates)),
            self.points,
            dtype,
            self.scale_distance,
            [_place_cluster(pde, number, each) for number, each in enumerate(self.clusters)],
            soft if self.constraints == "soft" else None,
            device,
            network.scale_inputs,
        )


def _place_cluster(pde: PDE, number: int, options: ClusterOptions) -> Cluster:
    key, name = f"problem.clusters.{number}", options.coordinate
    if name not in pde.coordinates:
        known = ", ".join(pde.coordinates)
        raise InputError(f"{key}.coordinate = {name!r} is not allowed: one of {known}")
    index = pde.coordinates.index(name)
    low, high = pde.domain[index]
    if not low <= options.at <= high:
        raise InputError(f"{key}.at = {options.at:g} is not allowed: from {low:g} to {high:g}")
    return Cluster(index, options.at, options.width, options.share)


def _make_pde(name: str) -> PDE:
    """A shipped equation, or one of a file of the user's own."""
    if name in EQUATIONS:
        return EQUATIONS[name]()
    return own_class("problem.name", name, PDE)()  # type: ignore[type-abstract]
