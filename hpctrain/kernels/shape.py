"""Which derivatives a jet holds, and how a nonlinearity acts on them.

An index names a derivative by its coordinates, in order: () is the value, (0,) the first derivative
along coordinate 0, (0, 1) a mixed one, (1, 1, 1) a third one. With an index a jet holds all those
whose coordinates are among its own, so that Faà di Bruno's formula closes: for y = f(w),

    y_α = Σ_π f^(|π|)(w) Π_{β in π} w_β,   π over the partitions of the places of α,

where equal products are one with a coefficient: y_xxy = f' w_xxy + f'' (w_xx w_y + 2 w_xy w_x)
+ f''' w_x² w_y. The Laplacian over many coordinates is one component,
y_L = f' w_L + f'' Σ_i w_i².

A product's jet is by Leibniz' rule: (v w)_α = Σ v_β w_γ over the ways to cut α into β and γ.

Source: R. M. Corless, T. Jiang, M. Hardy, Combinatorics of partial derivatives, Electronic Journal
of Combinatorics 13 (2006).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

Index = tuple[int, ...]

# The highest derivative.
MAX_ORDER = 4


@dataclass(frozen=True)
class Product:
    """coefficient f^(k)(w) Π w_c over k factors c, which are components."""

    coefficient: int
    factors: tuple[int, ...]


@dataclass(frozen=True)
class JetShape:
    """The components of a jet: derivatives by their indices, then perhaps a Laplacian.

    Args:
        coordinates: how many there are.
        indices: closed downwards, sorted by order and then as tuples; see `make_closed`.
        laplacian: coordinates i of the last component Σ_i ∂²/∂x_i², none for no such component.

    Raises:
        ValueError: these are not the indices of a jet.
    """

    coordinates: int
    indices: tuple[Index, ...]
    laplacian: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        closed = _close(self.indices, self.laplacian)
        if self.indices != closed:
            raise ValueError(f"the indices {self.indices} are not closed and in order: {closed}")
        named = {*self.laplacian, *(i for index in self.indices for i in index)}
        if not named <= set(range(self.coordinates)):
            raise ValueError(f"{sorted(named)} are not among {self.coordinates} coordinates")
        if max(map(len, self.indices)) > MAX_ORDER:
            raise ValueError(f"a derivative is of order {MAX_ORDER} at most")

    @classmethod
    def make_closed(
        cls, coordinates: int, wanted: Iterable[Index], laplacian: Sequence[int] = ()
    ) -> "JetShape":
        """The smallest jet that holds these derivatives, each index in any order."""
        indices = _close(wanted, laplacian)
        return cls(coordinates, indices, tuple(sorted(laplacian)))

    @property
    def components(self) -> int:
        """Their number."""
        return len(self.indices) + bool(self.laplacian)

    def find_position(self, index: Index) -> int:
        """Which component a derivative is.

        Raises:
            KeyError: the jet does not hold it.
        """
        return self._positions[tuple(sorted(index))]

    @cached_property
    def _positions(self) -> dict[Index, int]:
        return {index: position for position, index in enumerate(self.indices)}

    @cached_property
    def products(self) -> tuple[tuple[Product, ...], ...]:
        """Of each component those whose sum it is, its own f' w_c first; the value has none."""
        by_component = [self._list_products(index) for index in self.indices]
        if self.laplacian:
            squares = [Product(1, (self.find_position((i,)),) * 2) for i in self.laplacian]
            by_component.append((Product(1, (len(self.indices),)), *squares))
        return tuple(by_component)

    def _list_products(self, index: Index) -> tuple[Product, ...]:
        if not index:
            return ()
        merged = Counter(
            tuple(
                sorted(self.find_position(tuple(index[place] for place in block)) for block in each)
            )
            for each in list_partitions(tuple(range(len(index))))
        )
        products = [Product(count, factors) for factors, count in merged.items()]
        return tuple(sorted(products, key=lambda product: (len(product.factors), product.factors)))

    @cached_property
    def pairs(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """Of each component of a product v w its terms count · v_a w_b, as (count, a, b)."""
        by_component = [self._list_pairs(index) for index in self.indices]
        if self.laplacian:
            last, value = len(self.indices), self.find_position(())
            firsts = [self.find_position((i,)) for i in self.laplacian]
            by_component.append(
                ((1, value, last), (1, last, value), *((2, first, first) for first in firsts))
            )
        return tuple(by_component)

    def _list_pairs(self, index: Index) -> tuple[tuple[int, int, int], ...]:
        places = range(len(index))
        parts = [part for k in range(len(index) + 1) for part in combinations(places, k)]
        merged = Counter(
            (
                self.find_position(tuple(index[place] for place in part)),
                self.find_position(tuple(index[place] for place in places if place not in part)),
            )
            for part in parts
        )
        return tuple((count, *pair) for pair, count in merged.items())

    @cached_property
    def tangents(self) -> tuple[tuple[Product, ...], ...]:
        """Of each component's derivative along a direction, in which w_c has the tangent w_{C+c}.

        A tangent is one more index: the derivative of f^(k)(w) Π w_c has one factor more, the
        tangent of the value, or one that is a tangent in the place of its component.
        """
        value, count = self.components, self.components
        by_component: list[tuple[Product, ...]] = [(Product(1, (value,)),)]
        for products in self.products[1:]:
            merged: Counter[tuple[int, ...]] = Counter()
            for product in products:
                merged[*product.factors, value] += product.coefficient
                for place, factor in enumerate(product.factors):
                    rest = product.factors[:place] + product.factors[place + 1 :]
                    merged[*rest, count + factor] += product.coefficient
            by_component.append(tuple(Product(c, factors) for factors, c in merged.items()))
        return tuple(by_component)


def list_partitions(places: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All partitions of a set into blocks; there are as many as Bell numbers say."""
    if not places:
        yield ()
        return
    first, rest = places[0], places[1:]
    for size in range(len(rest) + 1):
        for beside in combinations(rest, size):
            others = tuple(place for place in rest if place not in beside)
            for below in list_partitions(others):
                yield ((first, *beside), *below)


def _close(wanted: Iterable[Index], laplacian: Iterable[int]) -> tuple[Index, ...]:
    indices: set[Index] = {(), *((i,) for i in laplacian)}
    for index in wanted:
        ordered = tuple(sorted(index))
        indices.update(part for k in range(len(ordered) + 1) for part in combinations(ordered, k))
    return tuple(sorted(indices, key=lambda index: (len(index), index)))
