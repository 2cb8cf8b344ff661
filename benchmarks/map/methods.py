"""What is on the map: methods and networks, and the runs that are made of each pair.

Burgers as published, with its residual network of eight layers (adaptive tanh), of which the width
alone changes: S = 8 blocks at every size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from benchmarks.published.runs import JobRun, Named
from hpctrain.decomposition.blocks import Decomposition, LayerRange, cut_layers
from hpctrain.methods.quasi_newton.factors import PANEL
from hpctrain.methods.schwarz.block_solvers import has_divided_rows

INNER_LAYERS = 6
# Seconds of a gradient on one quiet core, by the width of the network.
GRADIENT = {20: 0.014, 40: 0.045, 80: 0.16, 160: 0.6}
TARGETS = (1e-1, 1e-2)
POINTS = 10_000
LIMITS = {"stop.max_seconds": 10**8, "stop.max_iterations": 10**8}
MOST_GRADIENTS = 20_000
MOST_SYSTEMS = 500
# Broyden's inverse Hessians of the blocks, kept from one local phase of ten steps to the next.
KEPT = {
    "solver.local_solver": "ssbroyden",
    "solver.keep_local_memory": True,
    "solver.local_steps": 10,
}
MORE_GLOBAL = {"solver.global_solver": "ssbroyden", "solver.global_steps": 40}


def list_layers(width: int) -> list[LayerRange]:
    """The network's layers: W, b and, but for the first and the last, a."""
    shapes = [(2, width, 0), *[(width, width, 1)] * INNER_LAYERS, (width, 1, 0)]
    layers = list[LayerRange]()
    for inputs, outputs, scales in shapes:
        start = layers[-1].stop if layers else 0
        stop = start + (inputs + 1) * outputs + scales
        layers.append(LayerRange(start, stop, inputs * outputs))
    return layers


def count_parameters(width: int) -> int:
    """n."""
    return list_layers(width)[-1].stop


def count_read(size: int, updates: int) -> float:
    """Σ h(n, k), the numbers that so many products by an inverse Hessian read."""
    panels, dense = range(ceil(updates / PANEL)), 2 * size
    columns = (min(4 * PANEL * (p + 1), dense) * min(PANEL, updates - PANEL * p) for p in panels)
    return float(size * sum(columns))


def count_row_ranks(size: int, ranks: int) -> int:
    """How many of the ranks that share a block divide the rows of its inverse Hessian."""
    return ranks if has_divided_rows(size) else 1


@dataclass(frozen=True)
class Method:
    """A method on the map.

    Attributes:
        label: in tables and figures.
        job: a name in jobs/, without its ending.
        settings: of the job, by their keys.
        records: iterations from one look at the error to the next.
        timed: iterations of the short runs by which it is timed: of Broyden one panel of updates.
        gradients: how many it takes to 1e-2 at most, about, for the estimate of time.
        blocks: S, 1 where it has none.
        overlap: of the blocks.
        is_additive: whether the blocks are solved at once, each by ranks of its own.
        share: points of the short runs with few of them. With fewer their loss would be at
            round-off within these iterations.
        local_steps: of Broyden on each block, an iteration.
        global_steps: of Broyden on all parameters, an iteration.
        pairs: of L-BFGS on all parameters.
        gathered: vectors of n numbers that an iteration gathers from the ranks.
    """

    label: str
    job: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    records: int = 1
    timed: int = 2
    gradients: int = MOST_GRADIENTS
    blocks: int = 1
    overlap: int = 0
    is_additive: bool = False
    share: int = 500
    local_steps: int = 0
    global_steps: int = 0
    pairs: int = 0
    gathered: int = 0

    @property
    def is_decomposed(self) -> bool:
        """Whether it has blocks."""
        return self.blocks > 1

    def cut(self, width: int) -> Decomposition:
        """The blocks."""
        return cut_layers(list_layers(width), self.blocks, self.overlap)

    def count_read_locally(self, size: int, iterations: int) -> float:
        """The numbers that products by a block's inverse Hessian read, one more than updates."""
        if not self.local_steps:
            return 0.0
        return count_read(size, iterations * self.local_steps) * (1 + 1 / self.local_steps)

    def count_read_globally(self, size: int, iterations: int) -> float:
        """The numbers that products by the inverse Hessian of all parameters read."""
        read = count_read(size, iterations * self.global_steps)
        return read * (1 + 1 / self.global_steps) if self.global_steps and self.blocks > 1 else read

    def count_gathered(self, width: int) -> float:
        """Numbers that all ranks gather in an iteration, where they work on all blocks."""
        n = count_parameters(width)
        gathered = float(self.gathered * n)
        if self.local_steps and not self.is_additive:
            rows = (b.size for b in self.cut(width).blocks if has_divided_rows(b.size))
            gathered += (self.local_steps + 1) * sum(rows)
        return gathered

    def plan_count(self, width: int, seed: int) -> JobRun:
        """The run that counts iterations and gradients to the targets, on one rank."""
        most = {
            "stop.error": TARGETS[-1],
            "stop.max_gradient_evaluations": MOST_GRADIENTS,
            "output.error_every": self.records,
            "output.checkpoint_every": 50 * self.records,
            "seed": seed,
        }
        settings = {"network.width": width, **self.settings, **LIMITS, **most}
        if self.label == NEWTON_KRYLOV:
            settings["stop.max_iterations"] = MOST_SYSTEMS
        label = f"{self.label}-width={width}-seed={seed}"
        return Named(self.job, settings, self.gradients * GRADIENT[width], label=label)

    def plan_timing(self, width: int, ranks: int = 1) -> JobRun:
        """A few iterations from the start: on one rank to be timed, on two to count messages."""
        return self._plan_short(width, f"ranks={ranks}", {}, ranks)

    def plan_share(self, width: int) -> JobRun:
        """The same iterations with the points of one of many ranks."""
        points = {"problem.points": self.share, "parallel.chunks": 1}
        return self._plan_short(width, f"points={self.share}", points, ranks=1)

    def list_runs(self, width: int, seeds: int) -> list[JobRun]:
        """All runs of the method on a network, short ones first."""
        short = [self.plan_timing(width), self.plan_share(width), self.plan_timing(width, 2)]
        return [*short, *(self.plan_count(width, seed) for seed in range(seeds))]

    def _plan_short(self, width: int, word: str, more: Mapping[str, Any], ranks: int) -> JobRun:
        settings = {
            "network.width": width,
            **self.settings,
            **LIMITS,
            "stop.max_iterations": self.timed,
            "stop.error": 1e-300,
            # What looks at the error sends is no part of an iteration.
            "output.error_every": max(1, self.timed // 2),
            "output.checkpoint_every": 0,
            "seed": 0,
            **more,
        }
        label = f"{self.label}-width={width}-short-{word}"
        return Named(self.job, settings, 100 * GRADIENT[width] + 5, ranks, label)


BROYDEN, NEWTON_KRYLOV = "self-scaled Broyden", "Newton-Krylov-Schwarz"
SKETCH = 1024
METHODS = (
    Method(
        BROYDEN,
        "burgers-ssbroyden",
        records=10,
        timed=60,
        gradients=600,
        global_steps=1,
        gathered=1,
    ),
    Method("L-BFGS, m = 3, momentum", "burgers-lbfgs", records=20, timed=60, pairs=3),
    Method(
        "L-BFGS, m = 50",
        "burgers-lbfgs",
        {"solver.memory": 50, "solver.momentum": 1.0},
        records=20,
        timed=60,
        gradients=5000,
        pairs=50,
    ),
    Method(
        "ASPQN, kept Broyden",
        "burgers-aspqn",
        KEPT,
        timed=3,
        blocks=8,
        is_additive=True,
        local_steps=10,
        pairs=3,
        gathered=1,
    ),
    Method(
        "MSPQN, kept Broyden",
        "burgers-mspqn",
        KEPT,
        timed=3,
        gradients=5000,
        blocks=8,
        local_steps=10,
        pairs=3,
    ),
    Method(
        "two-level ASPQN, kept Broyden",
        "burgers-aspqn-two-level",
        KEPT,
        timed=3,
        blocks=4,
        overlap=1,
        is_additive=True,
        local_steps=10,
        pairs=3,
        gathered=1,
    ),
    Method(
        "ASPQN, 40 global Broyden steps",
        "burgers-aspqn",
        KEPT | MORE_GLOBAL,
        timed=3,
        gradients=2000,
        blocks=8,
        is_additive=True,
        local_steps=10,
        global_steps=40,
        gathered=42,
    ),
    Method(
        NEWTON_KRYLOV,
        "burgers-mspqn",
        {"solver": {"name": "newton-krylov-schwarz", "blocks": 8}},
        timed=3,
        blocks=8,
        is_additive=True,
        share=1250,
        gathered=SKETCH,
    ),
)
