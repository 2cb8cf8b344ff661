"""Symbols, which stand for values that depend on the jets and record what torch does with them.

`OPERATIONS` maps the name of each supported torch function to what records it. Python's operators
on symbols are those functions. Recorded programs have the values and derivatives of torch, also
where a function has a kink.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.program import NotTraceableError, Program

# Powers up to this one are products.
LARGEST_PRODUCT = 16


class Symbol:
    """The value of an instruction, as it is handed to the residual in the place of a tensor (N,).

    Args:
        program: where operations on the symbol are recorded.
        index: the number of the instruction.
        weak: whether it is a comparison, or a choice between plain numbers. torch holds these in a
            less precise type until they are combined with a tensor, so that some operations on them
            are refused.
    """

    # NumPy leaves operators to this class, and refuses to apply its functions.
    __array_ufunc__ = None

    def __init__(self, program: Program, index: int, weak: bool = False) -> None:
        self.program = program
        self.index = index
        self.weak = weak

    @property
    def dtype(self) -> torch.dtype:
        """The type of the tensor that torch would have here."""
        return torch.bool if self.weak else self.program.dtype

    @property
    def shape(self) -> torch.Size:
        """The shape (N,) of the tensor that torch would have here."""
        return torch.Size([self.program.points])

    device, ndim = torch.device("cpu"), 1

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> "Symbol":
        """Records a call of a torch function with a symbol, such as torch.sin(u) or t * u."""
        return _apply(function.__name__, args, kwargs or {})

    def __getattr__(self, name: str) -> Callable[..., "Symbol"]:
        """Returns the method of this name, such as u.square(), which records its operation.

        Raises:
            NotTraceableError: there are no instructions for it.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPERATIONS:
            raise NotTraceableError(_say_name(name))
        return lambda *args, **kwargs: _apply(name, (self, *args), kwargs)

    def __bool__(self) -> bool:
        """Refuses to be true or false.

        Raises:
            NotTraceableError: always, since a branch on values cannot be recorded.
        """
        raise NotTraceableError("a branch on values")

    def __len__(self) -> int:
        return self.program.points

    __hash__ = object.__hash__


def _apply(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Symbol:
    """Records the operation of a torch function, or of an operator such as `__add__`.

    Raises:
        NotTraceableError: there are no instructions for it, or not with such arguments.
    """
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NotTraceableError(_say_name(name))
    program = next(a.program for a in (*args, *kwargs.values()) if isinstance(a, Symbol))
    try:
        inspect.signature(operation).bind(program, *args, **kwargs)
    except TypeError:
        raise NotTraceableError(f"{_say_name(name)} with such arguments") from None
    return operation(program, *args, **kwargs)


def _say_name(name: str) -> str:
    """Returns how users know a function, such as "torch.sin" or "torch.Tensor.item"."""
    return f"torch.{name}" if hasattr(torch, name) else f"torch.Tensor.{name}"


def make_symbol(program: Program, given: Any) -> Symbol:
    """Returns a symbol for a plain number, an array (N,) with a number for each point, or a symbol.

    Raises:
        NotTraceableError: it is something else.
    """
    if isinstance(given, Symbol):
        return given
    if hasattr(given, "as_symbol"):  # an object of the caller's that stands for a value
        return make_symbol(program, given.as_symbol())
    number = _read_number(given)
    if number is not None:
        return Symbol(program, program.add("constant", constant=number))
    if isinstance(given, Tensor) and given.shape == (program.points,) and not given.is_complex():
        return Symbol(program, program.add_array(given), weak=given.dtype == torch.bool)
    of_what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
    raise NotTraceableError(f"an operand of {of_what}")


def _read_number(given: Any) -> float | None:
    """Returns a plain number, or the number in a tensor of one number, as a float; else None."""
    if isinstance(given, Tensor) and given.ndim <= 1 and given.numel() == 1:
        given = given.item()
    return float(given) if isinstance(given, int | float) else None


def _is_exact(number: float, program: Program) -> bool:
    """Whether torch's default type, in which it holds single numbers, can hold this one exactly."""
    default = torch.get_default_dtype()
    return default == program.dtype or torch.tensor(number, dtype=default).item() == number


def _record(program: Program, operation: str, *given: Any, constant: float = 0.0) -> Symbol:
    """Adds an instruction to the program, and returns the symbol of its value.

    Args:
        program: the program.
        operation: the name of the instruction.
        given: its operands, symbols or what can become one.
        constant: a number that belongs to it.

    Raises:
        NotTraceableError: torch would compute it in a less precise type.
    """
    weak = all(_read_number(each) is not None or make_symbol(program, each).weak for each in given)
    if weak and torch.get_default_dtype() != program.dtype:
        raise NotTraceableError("arithmetic of comparisons with numbers or each other")
    places = [make_symbol(program, each).index for each in given]
    return Symbol(program, program.add(operation, *places, constant=constant))


def _unary(operation: str) -> Callable[..., Symbol]:
    """Returns what records an instruction with one operand."""
    return lambda program, a: _record(program, operation, a)


def _binary(operation: str) -> Callable[..., Symbol]:
    """Returns what records an instruction with two operands."""
    return lambda program, a, b: _record(program, operation, a, b)


def _compare(operation: str, swapped: bool = False) -> Callable[..., Symbol]:
    """Returns what records a comparison, with its operands in the given or the other order."""

    def record(program: Program, a: Any, b: Any) -> Symbol:
        pair = [make_symbol(program, each) for each in ((b, a) if swapped else (a, b))]
        return Symbol(program, program.add(operation, *(each.index for each in pair)), weak=True)

    return record


def _logical(operation: str) -> Callable[..., Symbol]:
    """Returns what records "and" (a product of zeros and ones) or "or" (a maximum)."""

    def record(program: Program, a: Any, b: Any) -> Symbol:
        pair = [_condition(program, each) for each in (a, b)]
        return Symbol(program, program.add(operation, *(each.index for each in pair)), weak=True)

    return record


def _not(program: Program, a: Any) -> Symbol:
    """Records the negation of a condition."""
    return _equal(program, _condition(program, a), 0.0)


def _condition(program: Program, given: Any) -> Symbol:
    """Returns a symbol that is a comparison.

    Raises:
        NotTraceableError: it is not a comparison.
    """
    found = make_symbol(program, given)
    if not found.weak:
        raise NotTraceableError("a condition that is not a comparison")
    return found


def _where(program: Program, condition: Any, a: Any, b: Any) -> Symbol:
    """Records the choice between two values by a condition."""
    chosen = [make_symbol(program, a), make_symbol(program, b)]
    numbers = [n for n in (_read_number(a), _read_number(b)) if n is not None]
    weak = len(numbers) + sum(each.weak for each in chosen) == 2
    if weak and not all(_is_exact(number, program) for number in numbers):
        raise NotTraceableError("a choice between numbers that torch rounds to float32")
    places = (each.index for each in (_condition(program, condition), *chosen))
    return Symbol(program, program.add("where", *places), weak)


def _power(program: Program, base: Any, exponent: Any) -> Symbol:
    """Records a power. Whole powers become products or quotients, powers ± 1/2 square roots."""
    number = _read_number(exponent)
    if number is None:
        return _power_of(program, base, exponent)
    if number == 0:
        return _constant(program, base, 1.0)
    if number.is_integer() and abs(number) <= LARGEST_PRODUCT:
        result = a = make_symbol(program, base)
        for _ in range(int(abs(number)) - 1):
            result = _multiply(program, result, a)
        return result if number > 0 else _divide(program, 1.0, result)
    if abs(number) == 0.5:
        root = _sqrt(program, base)
        return root if number > 0 else _divide(program, 1.0, root)
    return _record(program, "power", base, constant=number)


def _larger(operation: str) -> Callable[..., Symbol]:
    """Returns what records a maximum or minimum, of which torch takes tensors only."""

    def record(program: Program, a: Any, b: Any) -> Symbol:
        if isinstance(a, int | float) or isinstance(b, int | float):
            raise NotTraceableError(f"torch.{operation} of a number that is no tensor")
        return _record(program, operation, a, b)

    return record


def _clamp(program: Program, a: Any, min: Any = None, max: Any = None) -> Symbol:
    """Records the restriction of a value to an interval."""
    for operation, bound in (("clamp_min", min), ("clamp_max", max)):
        if bound is not None:
            a = _record(program, operation, a, bound)
    return make_symbol(program, a)


def _relu(program: Program, a: Any, inplace: bool = False) -> Symbol:
    """Records max(a, 0), with derivative zero at zero; NaN stays NaN."""
    return _where(program, _less_equal(program, a, 0.0), 0.0, a)


def _softplus(program: Program, a: Any, beta: float = 1, threshold: float = 20) -> Symbol:
    """Records log(1 + exp(beta a)) / beta, which is a where beta a is above the threshold."""
    scaled = a if beta == 1 else _multiply(program, a, beta)
    result = _record(program, "softplus", scaled, constant=float(threshold))
    return result if beta == 1 else _divide(program, result, beta)


def _constant(program: Program, a: Any, value: Any) -> Symbol:
    """Returns the symbol of a number, of a tensor such as torch.zeros_like(a)."""
    return make_symbol(program, value)


def _cast(program: Program, a: Any, dtype: Any) -> Symbol:
    """Records a conversion to the type in which the residual is evaluated, which changes nothing.

    Raises:
        NotTraceableError: it is another type, which would round the value.
    """
    dtype = getattr(dtype, "dtype", dtype)
    if dtype != program.dtype:
        raise NotTraceableError(f"{dtype} in a residual of {program.dtype}")
    return Symbol(program, make_symbol(program, a).index)


_UNARY = (
    *("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "atan", "sinh", "cosh", "tanh"),
    *("sigmoid", "abs", "sign", "negate"),
)
_divide, _multiply, _power_of = _binary("divide"), _binary("multiply"), _binary("power_of")
_sin, _cos, _log, _sqrt = _unary("sin"), _unary("cos"), _unary("log"), _unary("sqrt")
_equal, _less_equal = _compare("equal"), _compare("less_equal")

OPERATIONS: dict[str, Callable[..., Symbol]] = {
    **{name: _unary(name) for name in _UNARY},
    "add": _binary("add"),
    "sub": _binary("subtract"),
    "mul": _multiply,
    "div": _divide,
    "pow": _power,
    "softplus": _softplus,
    "square": lambda p, a: _power(p, a, 2),
    "reciprocal": lambda p, a: _divide(p, 1.0, a),
    "rsqrt": lambda p, a: _power(p, a, -0.5),
    "tan": lambda p, a: _divide(p, _sin(p, a), _cos(p, a)),
    "exp2": lambda p, a: _power(p, 2.0, a),
    "log2": lambda p, a: _divide(p, _log(p, a), math.log(2)),
    "log10": lambda p, a: _divide(p, _log(p, a), math.log(10)),
    "relu": _relu,
    "clamp": _clamp,
    "clamp_min": lambda p, a, min: _clamp(p, a, min=min),
    "clamp_max": lambda p, a, max: _clamp(p, a, max=max),
    "maximum": _larger("maximum"),
    "minimum": _larger("minimum"),
    "where": _where,
    "lt": _compare("less"),
    "le": _less_equal,
    "gt": _compare("less", swapped=True),
    "ge": _compare("less_equal", swapped=True),
    "eq": _equal,
    "ne": lambda p, a, b: _not(p, _equal(p, a, b)),
    "and": _logical("multiply"),
    "or": _logical("maximum"),
    "invert": _not,
    "zeros_like": lambda p, a: _constant(p, a, 0.0),
    "ones_like": lambda p, a: _constant(p, a, 1.0),
    "full_like": _constant,
    "to": _cast,
    "type_as": _cast,
    "double": lambda p, a: _cast(p, a, torch.float64),
    "float": lambda p, a: _cast(p, a, torch.float32),
}

_OTHER_NAMES = {
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide true_divide truediv",
    "negate": "neg negative",
    "abs": "absolute",
    "atan": "arctan",
    "sigmoid": "expit special_expit",
    "expm1": "special_expm1",
    "log1p": "special_log1p",
    "clamp": "clip",
    "maximum": "max",
    "minimum": "min",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "ne": "not_equal",
    "and": "logical_and bitwise_and",
    "or": "logical_or bitwise_or",
    "invert": "logical_not bitwise_not",
}
for _name, _others in _OTHER_NAMES.items():
    OPERATIONS.update(dict.fromkeys(_others.split(), OPERATIONS[_name]))

_REFLECTED = ("add", "sub", "mul", "truediv", "pow", "and", "or")
_OPERATORS = (*_REFLECTED, "neg", "abs", "lt", "le", "gt", "ge", "eq", "ne", "invert")
_REFUSED_OPERATORS = {
    "mod": "the operator %",
    "floordiv": "the operator //",
    "matmul": "the operator @",
    "xor": "the operator ^",
    "getitem": "an index into a value",
    "setitem": "an assignment to some points",
    "float": "a value made a number of Python",
    "int": "a value made a number of Python",
    "round": "rounding",
}


def _make_operator(name: str) -> Callable[..., Symbol]:
    """Returns Python's operator of a torch function, such as a + b for torch.add."""
    return lambda *args: _apply(name, args, {})


def _make_reflected(name: str) -> Callable[..., Symbol]:
    """Returns an operator with its operands exchanged, as Python calls it for 1 + symbol."""
    return lambda a, b: _apply(name, (b, a), {})


def _make_refused(what: str) -> Callable[..., Symbol]:
    """Returns an operator that raises a NotTraceableError which names what cannot be recorded."""

    def refuse(*_: Any) -> Symbol:
        raise NotTraceableError(what)

    return refuse


for _name in _OPERATORS:
    setattr(Symbol, f"__{_name}__", _make_operator(_name))
for _name, _what in _REFUSED_OPERATORS.items():
    setattr(Symbol, f"__{_name}__", _make_refused(_what))
for _name in _REFLECTED:
    setattr(Symbol, f"__r{_name}__", _make_reflected(_name))
    OPERATIONS[f"r{_name}"] = lambda p, a, b, name=_name: OPERATIONS[name](p, b, a)
