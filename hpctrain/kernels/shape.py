"""Which derivatives a jet holds, and how they pass through nonlinearities and products.

A derivative is named by its index, which lists the coordinates by which is differentiated, in
order: () is the value, (0,) the first derivative by coordinate 0, (0, 1) a mixed one, and
(1, 1, 1) a third one by coordinate 1. A jet that holds an index holds all parts of it too, as (0,),
(1,) and () for (0, 1). So a jet of w has all that Faà di Bruno's formula needs for the same jet
of y = f(w),

    y_α = Σ_π f^(|π|)(w) Π_{β in π} w_β,

with the sum over all partitions π of the places of α into |π| parts β. Equal products are
collected into one with a coefficient, as in y_xxy = f' w_xxy + f'' (w_xx w_y + 2 w_xy w_x)
+ f''' w_x² w_y. The Laplacian in many dimensions is one component L = Σ_i ∂²/∂x_i², with
y_L = f' w_L + f'' Σ_i w_i².

The jet of a product follows Leibniz' rule, (v w)_α = Σ v_β w_γ, with the sum over all ways to
divide the places of α into β and γ.

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
    """A term c f^(k)(w) Π_i w_i of Faà di Bruno's formula, with k factors w_i.

    Attributes:
        coefficient: c.
        factors: the components i, by their positions in the jet.
    """

    coefficient: int
    factors: tuple[int, ...]


@dataclass(frozen=True)
class JetShape:
    """The components of a jet: derivatives by their indices, then a Laplacian if there is one.

    Args:
        coordinates: the number of coordinates.
        indices: all derivatives, sorted by order and then as tuples. Every part of an index must
            be among them too; `make_closed` adds them.
        laplacian: the coordinates i over which the last component Σ_i ∂²/∂x_i² sums; empty where
            there is no such component.

    Raises:
        ValueError: a part of an index is missing, the order is wrong, a coordinate does not exist,
            or a derivative is of an order above `MAX_ORDER`.
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
        """Makes the smallest jet that holds some derivatives.

        Args:
            coordinates: the number of coordinates.
            wanted: the derivatives by their indices; the coordinates of each may be in any order.
            laplacian: as for the class.
        """
        indices = _close(wanted, laplacian)
        return cls(coordinates, indices, tuple(sorted(laplacian)))

    @property
    def components(self) -> int:
        """The number of components."""
        return len(self.indices) + bool(self.laplacian)

    @property
    def order(self) -> int:
        """The highest order of a derivative, 2 of a Laplacian."""
        return max(2 if self.laplacian else 0, *map(len, self.indices), 0)

    def find_position(self, index: Index) -> int:
        """Finds the position of a derivative among the components.

        Args:
            index: of the derivative, its coordinates in any order.

        Raises:
            KeyError: the jet does not hold it.
        """
        return self._positions[tuple(sorted(index))]

    @cached_property
    def _positions(self) -> dict[Index, int]:
        return {index: position for position, index in enumerate(self.indices)}

    @cached_property
    def products(self) -> tuple[tuple[Product, ...], ...]:
        """For each component of y = f(w), the terms whose sum it is.

        The first term is f' times the component of w. The value has no terms; it is f(w).
        """
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
        """For each component of a product v w, the terms count · v_a w_b, as (count, a, b)."""
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
        """For each component of y = f(w), the terms of its derivative along a direction in θ.

        Along this direction w_c has the derivative ẇ_c, its tangent, which stands as component C +
        c beside the C components of w. By the product rule, a term f^(k)(w) Π w_i gives one with
        the further factor ẇ_() (the tangent of the value), and for each factor one with its tangent
        instead.
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
    """Yields all partitions of a set into parts, each as a tuple of tuples."""
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
