"""Predicts the time of a run on more cores than there are, by CPU times and a model of a network.

A call of P ranks counts as ⌈log₂ P⌉ messages, one after the other, and a message takes

    t = α + bytes / B,

with the latency α and the bandwidth B of the network (Hockney 1994). So a call takes
α ⌈log₂ P⌉ + bytes / B. The communicator counts the messages and bytes of a run. The time of
computation is, for every phase between two records, the CPU time of the slowest rank: ranks that
share cores run in turns, but use about as much CPU time as with a core for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hpctrain.results.summary import StudyError

USEFUL = 0.5


@dataclass(frozen=True)
class Network:
    """A network between ranks.

    Args:
        name: as tables call it.
        latency: α, in seconds.
        bandwidth: B, in bytes per second.
    """

    name: str
    latency: float
    bandwidth: float

    def predict_seconds(self, messages: float, sent: float) -> float:
        """Predicts the seconds of messages one after the other, with `sent` bytes in all."""
        return self.latency * messages + sent / self.bandwidth

    def add_calls(self, calls: "Network") -> "Network":
        """Returns a network whose calls take the time of this one and that of `calls` together."""
        inverse = 1 / self.bandwidth + 1 / calls.bandwidth
        return Network(self.name, self.latency + calls.latency, 1 / inverse)

    def __str__(self) -> str:
        return f"{self.name}: {1e6 * self.latency:.3g} us, {self.bandwidth / 1e9:.3g} GB/s"


# Bandwidths are line rates; latencies are what MPI programs see of such a network, about.
NETWORKS = {
    network.name: network
    for network in (
        Network("infiniband-ndr", 1.0e-6, 50e9),
        Network("infiniband-hdr", 1.0e-6, 25e9),
        Network("infiniband-edr", 1.1e-6, 12.5e9),
        Network("slingshot-11", 2.0e-6, 25e9),
        Network("omni-path-100", 1.2e-6, 12.5e9),
        Network("ethernet-100g", 10e-6, 12.5e9),
        Network("ethernet-25g", 20e-6, 3.125e9),
        Network("ethernet-10g", 30e-6, 1.25e9),
        Network("ethernet-1g", 50e-6, 0.125e9),
    )
}


def find_network(name: str) -> Network:
    """Finds a network of NETWORKS by its name.

    Raises:
        StudyError: there is none of this name.
    """
    if name not in NETWORKS:
        raise StudyError(f"--network {name}: allowed are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def fit_network(
    name: str, messages: Sequence[float], sent: Sequence[float], seconds: Sequence[float]
) -> Network:
    """Fits the model to measured calls, by their relative errors, with α ≥ 0 and 1/B ≥ 0.

    Args:
        name: of the network.
        messages, sent, seconds: for each call its messages, the bytes in all of them, and its time.
    """
    t = np.asarray(seconds, float)
    columns = np.column_stack([messages, sent]).astype(float) / t[:, None]
    scales = np.linalg.norm(columns, axis=0)
    (latency, inverse), _ = nnls(columns / scales, np.ones(len(t)))
    latency, inverse = float(latency / scales[0]), float(inverse / scales[1])
    return Network(name, latency, 1 / inverse if inverse > 0 else np.inf)


def find_worst_ratio(
    network: Network,
    messages: Sequence[float],
    sent: Sequence[float],
    seconds: Sequence[float],
) -> float:
    """Returns the largest factor between the model and a measured call, either way; at least 1."""
    model = np.array([network.predict_seconds(*call) for call in zip(messages, sent, strict=True)])
    ratios = model / np.asarray(seconds, float)
    return float(np.max(np.maximum(ratios, 1 / ratios)))


def compute_speed_ups(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> list[float]:
    """Computes the speed-ups S_P, based on the first rank count P₀, for which S = P₀.

    Strong scaling: P₀ T_{P₀} / T_P. Weak scaling, with P times the samples: P T_{P₀} / T_P.
    """
    first = seconds[0]
    return [(P if weak else ranks[0]) * first / T for P, T in zip(ranks, seconds, strict=True)]


def compute_efficiencies(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> list[float]:
    """Computes the efficiencies S_P / P: for P₀ = 1, T₁ / (P T_P) strong, and T₁ / T_P weak."""
    found = compute_speed_ups(ranks, seconds, weak)
    return [S / P for P, S in zip(ranks, found, strict=True)]


def find_largest_useful(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> int:
    """Finds the largest P up to which the efficiency is at least ½ and each rank count is faster.

    With weak scaling there is no reason to be faster, and only the efficiency counts.
    """
    useful, fastest = ranks[0], seconds[0]
    rows = zip(ranks, seconds, compute_efficiencies(ranks, seconds, weak), strict=True)
    for P, T, efficiency in list(rows)[1:]:
        is_slower = not weak and fastest <= T
        if efficiency < USEFUL or is_slower:
            break
        useful, fastest = P, T
    return useful
