"""Compares the speed of the kernels with nested autograd, with each other and with dense products.

Each measurement runs in a process of its own, in turns with the others (`alternation`); a figure is
the median over the rounds. BENCHMARK_THREADS=1 in the environment takes one thread instead of two,
and CPU time.

The peak is that of the fastest product of two large matrices: by torch, which comes with MKL, or by
OpenBLAS. Neither takes AVX-512 on all processors that have it; there OpenBLAS is told, in a third
measurement, that this is one of Intel's (SkylakeX).
"""

import torch
from tabulate import tabulate

from benchmarks.alternation import ROUNDS, THREADS, measure
from benchmarks.worker import NETWORKS, POINTS
from hpctrain.kernels import is_triton_available
from hpctrain.parallel.devices import count_gpus

COMPONENTS = 4
DENSE_LABEL = "dense n = 10,000: update and product in one pass / read-and-write sweep"


def gradient_flops(name: str) -> float:
    """Floating-point operations of the matrix products in one loss and gradient."""
    maps = [layer.inputs * layer.outputs for layer in NETWORKS[name].layers]
    return 2.0 * POINTS * COMPONENTS * (2 * sum(maps) + sum(maps[1:]))


def list_libraries() -> list[str]:
    """The libraries whose products are measured, as `benchmarks.worker.dgemm` calls them."""
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return ["torch", "OpenBLAS", *(["SkylakeX"] if has_avx512 else [])]


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows on the CPU."""
    return [*(label for name in NETWORKS for label in _jet_labels(name)), DENSE_LABEL]


def _jet_labels(name: str) -> list[str]:
    network = name.replace("x", " x ")
    return [
        f"{network}: nested autograd / loss + gradient",
        f"{network}: loss + gradient, torch kernels / native kernels",
        f"{network}: loss + gradient / value only",
        f"{network}: loss + gradient / last layer's block",
        f"{network}: share of the measured dgemm peak",
    ]


def jets(name: str) -> list[list[object]]:
    parts = ("nested", "in_torch", "gradient", "value", "suffix")
    products = [f"dgemm:{library}" for library in list_libraries()]
    ms = measure(*(f"{part}:{name}" for part in parts), *products)
    whole = ms[f"gradient:{name}"]
    fastest = min(products, key=lambda product: ms[product])
    peak = 2e9 / (1e-3 * ms[fastest])
    share = gradient_flops(name) / (1e-3 * whole) / peak
    wanted = {"8x20": 5, "6x50": 3}[name]
    figures = [
        [ms[f"nested:{name}"] / whole, f">= {wanted}",
         f"{ms[f'nested:{name}']:.1f} / {whole:.1f} ms"],
        [ms[f"in_torch:{name}"] / whole, "", f"{ms[f'in_torch:{name}']:.1f} / {whole:.1f} ms"],
        [whole / ms[f"value:{name}"], ">= 2.5", f"{whole:.1f} / {ms[f'value:{name}']:.1f} ms"],
        [whole / ms[f"suffix:{name}"], ">= 4", f"{whole:.1f} / {ms[f'suffix:{name}']:.1f} ms"],
        [share, "", f"peak {peak / 1e9:.0f} GF/s, {fastest}"],
    ]  # fmt: skip
    return [[label, *row] for label, row in zip(_jet_labels(name), figures, strict=True)]


def dense() -> list[list[object]]:
    ms = measure("sweep", "fused")
    ratio = ms["fused"] / ms["sweep"]
    detail = f"{ms['fused']:.1f} / {ms['sweep']:.1f} ms"
    return [[DENSE_LABEL, ratio, "<= 1.3", detail]]


def gpu(name: str) -> list[list[object]]:
    ms = measure(f"gpu:{name}", f"gpu_in_torch:{name}", f"gradient:{name}")
    triton, in_torch, cpu = ms.values()
    return [
        [f"{name}: loss + gradient on a GPU, torch / Triton", in_torch / triton, "",
         f"{in_torch:.1f} / {triton:.1f} ms"],
        [f"{name}: loss + gradient, CPU / GPU", cpu / triton, "", f"{cpu:.1f} / {triton:.1f} ms"],
    ]  # fmt: skip


def main() -> None:
    table = [row for name in NETWORKS for row in jets(name)] + dense()
    if count_gpus() and is_triton_available():
        table += [row for name in NETWORKS for row in gpu(name)]
    print(f"{THREADS} thread(s), {POINTS} points, float64; medians of {ROUNDS} rounds")
    print(tabulate(table, headers=["", "ratio", "wanted", "times"], floatfmt=".2f"), flush=True)


if __name__ == "__main__":
    main()
