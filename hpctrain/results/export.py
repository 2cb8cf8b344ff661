"""`hpctrain export`: a trained network as a file of its own, for programs that have no hpctrain.

Inputs are points (N, d), a column a coordinate, or samples (N, …) as they are stored; outputs are
the fields (N, k), or the probabilities of the classes (N, classes). What was written is read again,
and compared with the network.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_array
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.equations.slabs.problem import SlabProblem
from hpctrain.results.exported import make_module
from hpctrain.results.samples import Classifier
from hpctrain.results.solution import open_problem
from hpctrain.store import writable
from hpctrain.store.files import make_temporary_name
from hpctrain.store.run_file import read_run

# Inputs with which a network is traced, and on which what was written is tried.
TRACED, TRIED = 32, 13
# How far apart values may be, of the largest, in units of the precision.
ALLOWED_UNITS = 1e3
# Operations of a tensor with a number.
WITH_NUMBERS = {
    "add", "sub", "rsub", "mul", "div", "pow", "__add__", "__radd__", "__sub__", "__rsub__",
    "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__", "__rpow__", "true_divide",
    "subtract", "multiply", "divide",
}  # fmt: skip


@dataclass(frozen=True)
class Exportable:
    """A network to be written.

    Attributes:
        module: takes inputs (N, …), and gives outputs (N, k).
        inputs, outputs: what they are called.
        facts: texts that are kept beside it, such as the names of the columns.
        example: makes so many inputs.
    """

    module: nn.Module
    inputs: str
    outputs: str
    facts: Mapping[str, str]
    example: Callable[[int], Tensor]


def export(run: str, output: str, changed_code: bool = False) -> str:
    """Writes the trained network of a run; says what was done.

    Args:
        run: a finished run file.
        output: .pt2 for torch.export, .pt for TorchScript, .onnx for ONNX.
        changed_code: exports also where a Python file of the job is not the one of the run.

    Raises:
        InputError: the network cannot be written so; there is no output then.
    """
    path = Path(output)
    check_output(path, f"-o {output}")
    exportable = write(*open_problem(read_run(run), changed_code), path)
    described = "; ".join(f"{name}: {value}" for name, value in exportable.facts.items())
    return f"{output}: {exportable.inputs} to {exportable.outputs} ({described})"


def check_output(path: Path, asked: str) -> None:
    """Checks, before any work, that a network can be written.

    Args:
        asked: how messages name the file.

    Raises:
        InputError: it is of a kind that is not written, or cannot be made.
    """
    if path.suffix not in WRITERS:
        allowed = ", ".join(WRITERS)
        raise InputError(f"{asked} is not allowed: its name must end in one of {allowed}")
    writable.check_file(path)


def write(problem: Any, theta: Tensor, path: Path) -> Exportable:
    """Writes the network of a problem with its parameters θ (n,); returns what was written.

    Raises:
        InputError: it cannot be written so; there is no output then.
    """
    exportable = _describe(problem, theta)
    temporary = make_temporary_name(path)
    with writable.explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _silence():
                expected = _evaluate(exportable)
                found = WRITERS[path.suffix](exportable, temporary)
            _compare(expected, found, path)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return exportable


def _describe(problem: Any, theta: Tensor) -> Exportable:
    module = make_module(problem, theta).eval()
    if isinstance(problem, Classifier):
        shape = problem.sample_shape
        facts = {"shape": " x ".join(map(str, shape)), "classes": _join(problem.classes)}

        def draw(count: int) -> Tensor:
            drawn = make_generator(0, "exported").uniform(0, 1, (count, *shape))
            return torch.tensor(drawn, dtype=theta.dtype)

        return Exportable(module, "samples", "probabilities", facts, draw)
    assert isinstance(problem, PinnProblem | SlabProblem)
    first = problem.windows[0] if isinstance(problem, SlabProblem) else problem
    last = problem.windows[-1] if isinstance(problem, SlabProblem) else problem
    pairs = zip(first.frame.region.bounds, last.frame.region.bounds, strict=True)
    bounds = [(low, high) for (low, _), (_, high) in pairs]

    def place(count: int) -> Tensor:
        drawn = make_generator(0, "exported").uniform(0, 1, (count, len(bounds)))
        lows, highs = np.array(bounds).T
        return torch.tensor(lows + drawn * (highs - lows), dtype=theta.dtype)

    facts = {"coordinates": _join(first.coordinates), "fields": _join(first.frame.fields)}
    return Exportable(module, "points", "fields", facts, place)


def _join(names: Any) -> str:
    return ", ".join(map(str, names))


@contextmanager
def _silence() -> Iterator[None]:
    """Drops what torch's exporters say of themselves; what fails is an exception."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _evaluate(exportable: Exportable) -> np.ndarray:
    """What the network gives where it is tried; it computes what it keeps before it is traced."""
    with torch.no_grad():
        return to_array(exportable.module(exportable.example(TRIED)))


def _compare(expected: np.ndarray, found: np.ndarray, path: Path) -> None:
    """Compares what a file gives with the network.

    Raises:
        InputError: they differ by more than rounding.
    """
    size = float(np.abs(expected).max()) or 1.0
    apart = float(np.abs(found - expected).max()) / size
    if not apart <= ALLOWED_UNITS * np.finfo(expected.dtype).eps:
        raise InputError(
            f"{path}: what was written differs from the network, by {apart:.1e} of the largest"
            " value: a function of the equations is not exported with its precision"
        )


def _write_program(exportable: Exportable, path: Path) -> np.ndarray:
    """Writes a program of torch.export; what it gives where it is tried, as all of these do."""
    program = _trace(exportable, path)
    try:
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={**exportable.facts})
        again = torch.export.load(str(path)).module()
        return to_array(again(exportable.example(TRIED)))
    except OSError:  # of the disk, which the caller explains
        raise
    except Exception as error:  # of any kind: a program that torch traces, but does not keep
        raise _explain(path, error) from error


def _write_script(exportable: Exportable, path: Path) -> np.ndarray:
    """Writes TorchScript, for C++ programs that have libtorch."""
    try:
        with torch.no_grad():
            script = torch.jit.trace(
                exportable.module, (exportable.example(TRACED),), check_trace=False
            )
        torch.jit.save(script, str(path), _extra_files={**exportable.facts})
        return to_array(torch.jit.load(str(path))(exportable.example(TRIED)).detach())
    except Exception as error:  # of any kind, of functions of the user's, or of sizes in the trace
        raise _explain(path, error) from error


def _write_onnx(exportable: Exportable, path: Path) -> np.ndarray:
    """Writes ONNX, in the precision of the run."""
    try:
        import onnx
        import onnxscript  # noqa: F401, which torch's exporter needs
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        name = path.name.removesuffix(".tmp")
        raise InputError(
            f"{name}: {error.name} is not installed: pip install 'hpctrain[export]'"
        ) from None
    program = _trace(exportable, path)
    try:
        made = torch.onnx.export(
            program,
            (),
            input_names=[exportable.inputs],
            output_names=[exportable.outputs],
            dynamo=True,
            verbose=False,
        )
        model = made.model_proto  # type: ignore[union-attr]
    except Exception as error:  # of any kind: an operation that ONNX has not
        raise _explain(path, error) from error
    onnx.helper.set_model_props(model, {**exportable.facts})
    path.write_bytes(model.SerializeToString())
    inputs: Any = {exportable.inputs: to_array(exportable.example(TRIED))}
    outputs: Any = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(outputs[0])


def _trace(exportable: Exportable, path: Path) -> torch.export.ExportedProgram:
    """The operations on any number of inputs."""
    sizes: Any = ({0: torch.export.Dim("N")},)
    try:
        with _ExactNumbers(), torch.no_grad():
            return torch.export.export(
                exportable.module,
                (exportable.example(TRACED),),
                dynamic_shapes=sizes,
                strict=False,
            )
    except Exception as error:  # of any kind, of functions of the user's
        raise _explain(path, error) from error


class _ExactNumbers(TorchFunctionMode):
    """Makes tensors of numbers that single precision does not hold: torch's ONNX rounds numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.full_like and len(args) == 2 and not kwargs:
            like, number = args
            if like.is_floating_point():
                return torch.zeros_like(like) + _make_exact(number)
        if getattr(func, "__name__", "") in WITH_NUMBERS:
            args = tuple(_make_exact(each) for each in args)
        return func(*args, **(kwargs or {}))


def _make_exact(value: Any) -> Any:
    if isinstance(value, float) and float(np.float32(value)) != value:
        return torch.tensor(value, dtype=torch.float64, device="cpu")
    return value


def _explain(path: Path, error: Exception) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    name = path.name.removesuffix(".tmp")
    return InputError(f"{name}: torch cannot export the network: {reason}")


WRITERS: dict[str, Callable[[Exportable, Path], np.ndarray]] = {
    ".pt2": _write_program,
    ".pt": _write_script,
    ".onnx": _write_onnx,
}
