"""The settings of an equation, and the problem that they make."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, field_validator, model_validator

from hpctrain.errors import InputError
from hpctrain.kernels import find_dtype as type_of
from hpctrain.kernels import is_native_available
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.options import ClassName, Options
from hpctrain.problems.base import FamilyOptions, Problem
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.adaptive.renewal import check_adaptable
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.errors import ErrorMonitor
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.points import Cluster
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.problems.equations.slabs.problem import SlabProblem
from hpctrain.problems.equations.slabs.windows import count_windows, is_ascending
from hpctrain.user_code.own_class import own_class


class ClusterOptions(Options):
    """Where collocation points lie denser along a coordinate: around a layer of the solution."""

    coordinate: str = Field(min_length=1, description='its name, such as "x"')
    at: float = Field(description="where the layer is")
    width: float = Field(gt=0, description="half of the cluster's points are so near")
    share: float = Field(0.5, gt=0, lt=1, description="part of all points in the cluster")


class PinnOptions(FamilyOptions):
    """Equations to be solved by a network."""

    names: ClassVar = tuple(EQUATIONS)
    networks: ClassVar = (DenseOptions,)
    samples_key: ClassVar = "points"

    name: ClassName = Field(
        description='a shipped equation, such as "burgers", or "my_pde.py:Heat"'
    )
    points: int = Field(10_000, ge=1, description="collocation points, the samples of the loss")
    scale_distance: bool = Field(
        True, description="divide the distance function by its maximum over the domain"
    )
    clusters: list[ClusterOptions] = Field(
        [], description="layers around which the points are denser; by default none"
    )
    constraints: Literal["hard", "soft"] | list[str] = Field(
        "hard",
        description="exact conditions, and those of a written form, hold for every θ; or all, or"
        " those that are named, are penalty terms of the loss",
    )
    penalty: float = Field(1.0, gt=0, description="a factor of the weights of all conditions")
    condition_points: int = Field(
        200, ge=1, description="points of each condition that names no number itself"
    )
    adapt: AdaptOptions | None = Field(
        None, description="what of the loss is renewed in the course of the run; by default nothing"
    )

    slabs: int | list[float] | None = Field(
        None, description="windows of time, solved one after the other: how many, or their ends"
    )

    @field_validator("slabs")
    @classmethod
    def _are_windows(cls, slabs: int | list[float] | None) -> int | list[float] | None:
        is_many = slabs is None or (slabs >= 2 if isinstance(slabs, int) else len(slabs) >= 2)
        if not is_many or (isinstance(slabs, list) and not is_ascending(slabs)):
            raise ValueError("an integer of at least 2, or at least 2 ascending times")
        return slabs

    @model_validator(mode="after")
    def _leave_windows_alone(self) -> "PinnOptions":
        if self.slabs is not None and self.adapt is not None:
            raise ValueError("adapt is not allowed with slabs: what is renewed has no windows yet")
        return self

    @property
    def subject(self) -> str:
        return self.name

    @property
    def windows(self) -> int:
        return 1 if self.slabs is None else count_windows(self.slabs)

    @model_validator(mode="after")
    def _leave_a_choice(self) -> "PinnOptions":
        candidates = self.adapt.candidates if self.adapt else None
        if candidates is not None and candidates < self.points:
            raise ValueError(
                f"adapt.candidates = {candidates} is not allowed: at least points, {self.points}"
            )
        return self

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
        return not is_native_available()

    def make(self, network: Any, seed: int, precision: str, device: torch.device) -> Problem:
        equations, dtype = find_equations(self.name), type_of(precision)
        if isinstance(self.constraints, list):
            equations = soften(equations, self.constraints)
        names = equations.frame.axes.names
        clusters = [_place_cluster(equations, k, each) for k, each in enumerate(self.clusters, 1)]
        for cluster in self.clusters:
            if isinstance(network.subdomains.get(cluster.coordinate), list):
                raise InputError(
                    f"problem.clusters along {cluster.coordinate!r} is not allowed: points are as"
                    " many in each of the subdomains that network.subdomains places along it"
                )
        formulation = Formulation(
            points=self.points,
            condition_points=self.condition_points,
            is_soft=self.constraints == "soft",
            penalty=self.penalty,
            scale_distance=self.scale_distance,
            scale_inputs=network.scale_inputs,
            clusters=tuple(clusters),
            fourier=network.draw_frequencies(names, seed),
            adapt=self.adapt,
            separate=network.separate,
            subdomains=network.subdomains,
            overlap=network.overlap,
        )

        def make(own: Equations) -> PinnProblem:
            return PinnProblem(own, network.make(len(names)), formulation, dtype, device)

        if self.slabs is not None:
            windows = SlabProblem(equations, self.slabs, make, seed)
            probe(windows.windows[0], dtype)
            return windows
        made = make(equations)
        probe(made, dtype)
        if self.adapt is not None:
            check_adaptable(self.adapt, made.frame, made.terms)
        return made


def find_equations(name: str) -> Equations:
    """The shipped equations of this name, or a user's own as "file.py:Class".

    Raises:
        InputError: there are none, or they cannot be made.
    """
    if name in EQUATIONS:
        return EQUATIONS[name]()
    return own_class("problem.name", name, Equations)()  # type: ignore[type-abstract]


def soften(equations: Equations, names: Sequence[str]) -> Equations:
    """The same, with some of their exact conditions as terms of the loss.

    Raises:
        InputError: there is no such condition, or it is no term for another reason.
    """
    key, known = "problem.constraints", equations.named_conditions
    exact = [name for name, each in known.items() if each.is_exact]
    for name in names:
        if name not in exact:
            raise InputError(
                f"{key} names {name!r}: {equations.frame.title} has the exact conditions"
                f" {', '.join(exact) or '(none)'}"
            )
    conditions = [
        replace(cast(Any, each), exact=False) if name in names else each
        for name, each in known.items()
    ]
    return equations.alter(conditions=tuple(conditions))


def _place_cluster(equations: Equations, number: int, options: ClusterOptions) -> Cluster:
    key, name = f"problem.clusters.{number}", options.coordinate
    names = equations.frame.axes.names
    if name not in names:
        raise InputError(f"{key}.coordinate = {name!r} is not allowed: one of {', '.join(names)}")
    index = names.index(name)
    low, high = equations.frame.region.bounds[index]
    if not low <= options.at <= high:
        raise InputError(f"{key}.at = {options.at:g} is not allowed: from {low:g} to {high:g}")
    return Cluster(index, options.at, options.width, options.share)
