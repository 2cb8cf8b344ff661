"""Symbols: they stand for values that depend on the jets, and record what torch does with them.

`OPERATIONS` holds, by its name in torch, all that can be done with a symbol; the operators of
Python are those of it. Values and derivatives are torch's, also where a function has a kink.
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
    """The value of an instruction.

    Attributes:
        weak: it is a comparison, or a choice between numbers. torch holds these in types of less
            precision until they are combined with a value, and so does what is refused here.
    """

    # NumPy leaves operators to this class, and refuses to apply its functions.
    __array_ufunc__ = None

    def __init__(self, program: Program, index: int, weak: bool = False) -> None:
        self.program = program
        self.index = index
        self.weak = weak

    @property
    def dtype(self) -> torch.dtype:
        return torch.bool if self.weak else self.program.dtype

    @property
    def shape(self) -> torch.Size:
        return torch.Size([self.program.points])

    device, ndim = torch.device("cpu"), 1

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> "Symbol":
        """torch.sin(u), torch.mul(t, u), t * u with a tensor t."""
        return _apply(function.__name__, args, kwargs or {})

    def __getattr__(self, name: str) -> Callable[..., "Symbol"]:
        """u.square(), u.sin() and the like."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPERATIONS:
            raise NotTraceableError(_say_name(name))
        return lambda *args, **kwargs: _apply(name, (self, *args), kwargs)

    def __bool__(self) -> bool:
        raise NotTraceableError("a branch on values")

    def __len__(self) -> int:
        return self.program.points

    __hash__ = object.__hash__


def _apply(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Symbol:
    """The operation of a name in torch, or of Python's operator `__name__`."""
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
    return f"torch.{name}" if hasattr(torch, name) else f"torch.Tensor.{name}"


def symbol(program: Program, given: Any) -> Symbol:
    """A number, an array (N,) of the points, or a symbol, as a symbol."""
    if isinstance(given, Symbol):
        return given
    if hasattr(given, "as_symbol"):  # an object of the caller's that stands for a value
        return symbol(program, given.as_symbol())
    number = _number(given)
    if number is not None:
        return Symbol(program, program.add("constant", constant=number))
    if isinstance(given, Tensor) and given.shape == (program.points,) and not given.is_complex():
        return Symbol(program, program.add_array(given), weak=given.dtype == torch.bool)
    of_what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
    raise NotTraceableError(f"an operand of {of_what}")


def _number(given: Any) -> float | None:
    """A number of Python, or a tensor of one number, as a number."""
    if isinstance(given, Tensor) and given.ndim <= 1 and given.numel() == 1:
        given = given.item()
    return float(given) if isinstance(given, int | float) else None


def _is_exact(number: float, program: Program) -> bool:
    """Whether torch holds a number by itself exactly, in its default type."""
    default = torch.get_default_dtype()
    return default == program.dtype or torch.tensor(number, dtype=default).item() == number


def _record(program: Program, operation: str, *given: Any, constant: float = 0.0) -> Symbol:
    """An instruction for values."""
    weak = all(_number(each) is not None or symbol(program, each).weak for each in given)
    if weak and torch.get_default_dtype() != program.dtype:
        raise NotTraceableError("arithmetic of comparisons with numbers or each other")
    places = [symbol(program, each).index for each in given]
    return Symbol(program, program.add(operation, *places, constant=constant))


def _unary(operation: str) -> Callable[..., Symbol]:
    return lambda program, a: _record(program, operation, a)


def _binary(operation: str) -> Callable[..., Symbol]:
    return lambda program, a, b: _record(program, operation, a, b)


def _compare(operation: str, swapped: bool = False) -> Callable[..., Symbol]:
    def record(program: Program, a: Any, b: Any) -> Symbol:
        pair = (symbol(program, b if swapped else a), symbol(program, a if swapped else b))
        return Symbol(program, program.add(operation, *(each.index for each in pair)), weak=True)

    return record


def _logical(operation: str) -> Callable[..., Symbol]:
    """ "and" as a product of zeros and ones, "or" as a maximum."""

    def record(program: Program, a: Any, b: Any) -> Symbol:
        pair = [_condition(program, each) for each in (a, b)]
        return Symbol(program, program.add(operation, *(each.index for each in pair)), weak=True)

    return record


def _not(program: Program, a: Any) -> Symbol:
    return _equal(program, _condition(program, a), 0.0)


def _condition(program: Program, given: Any) -> Symbol:
    found = symbol(program, given)
    if not found.weak:
        raise NotTraceableError("a condition that is not a comparison")
    return found


def _where(program: Program, condition: Any, a: Any, b: Any) -> Symbol:
    chosen = [symbol(program, a), symbol(program, b)]
    numbers = [n for n in (_number(a), _number(b)) if n is not None]
    weak = len(numbers) + sum(each.weak for each in chosen) == 2
    if weak and not all(_is_exact(number, program) for number in numbers):
        raise NotTraceableError("a choice between numbers that torch rounds to float32")
    places = (each.index for each in (_condition(program, condition), *chosen))
    return Symbol(program, program.add("where", *places), weak)


def _power(program: Program, base: Any, exponent: Any) -> Symbol:
    """Whole powers are products or divide 1; those of 1/2 are roots."""
    number = _number(exponent)
    if number is None:
        return _power_of(program, base, exponent)
    if number == 0:
        return _constant(program, base, 1.0)
    if number.is_integer() and abs(number) <= LARGEST_PRODUCT:
        result = a = symbol(program, base)
        for _ in range(int(abs(number)) - 1):
            result = _multiply(program, result, a)
        return result if number > 0 else _divide(program, 1.0, result)
    if abs(number) == 0.5:
        root = _sqrt(program, base)
        return root if number > 0 else _divide(program, 1.0, root)
    return _record(program, "power", base, constant=number)


def _larger(operation: str) -> Callable[..., Symbol]:
    """maximum and minimum, to which torch takes tensors only."""

    def record(program: Program, a: Any, b: Any) -> Symbol:
        if isinstance(a, int | float) or isinstance(b, int | float):
            raise NotTraceableError(f"torch.{operation} of a number that is no tensor")
        return _record(program, operation, a, b)

    return record


def _clamp(program: Program, a: Any, min: Any = None, max: Any = None) -> Symbol:
    for operation, bound in (("clamp_min", min), ("clamp_max", max)):
        if bound is not None:
            a = _record(program, operation, a, bound)
    return symbol(program, a)


def _relu(program: Program, a: Any, inplace: bool = False) -> Symbol:
    """Its derivative at zero is zero; NaN stays NaN."""
    return _where(program, _less_equal(program, a, 0.0), 0.0, a)


def _softplus(program: Program, a: Any, beta: float = 1, threshold: float = 20) -> Symbol:
    scaled = a if beta == 1 else _multiply(program, a, beta)
    result = _record(program, "softplus", scaled, constant=float(threshold))
    return result if beta == 1 else _divide(program, result, beta)


def _constant(program: Program, a: Any, value: Any) -> Symbol:
    return symbol(program, value)


def _cast(program: Program, a: Any, dtype: Any) -> Symbol:
    """To the type in which the residual is evaluated; any other one would round."""
    dtype = getattr(dtype, "dtype", dtype)
    if dtype != program.dtype:
        raise NotTraceableError(f"{dtype} in a residual of {program.dtype}")
    return Symbol(program, symbol(program, a).index)


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
    return lambda *args: _apply(name, args, {})


def _make_reflected(name: str) -> Callable[..., Symbol]:
    return lambda a, b: _apply(name, (b, a), {})


def _make_refused(what: str) -> Callable[..., Symbol]:
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
