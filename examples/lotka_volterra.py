"""A system in time alone: two rates of a predator-prey model, found from noisy counts."""

from hpctrain.problems.equations import Equations, Initial, Interval, Observations, Unknown


class LotkaVolterra(Equations):
    """x' = x - a x y, y' = b x y - y: prey x and predators y, whose a and b are not known."""

    geometry = Interval(t=(0, 10))
    fields = ("x", "y")
    unknowns = {
        "a": Unknown(0.5, positive=True, true=0.9),
        "b": Unknown(0.5, positive=True, true=0.8),
    }
    conditions = (
        Initial({"x": 1.5, "y": 1.0}, exact=True),
        Observations("examples/lotka_volterra.csv", ["x", "y"], noise=0.05),
    )
    # The equations hold far better than the counts: with less weight the intervals of a and b
    # would count it as one more uncertain measurement.
    certainty = 100.0

    def residuals(self, at, x, y, a, b):
        prey = x.t - x + a * x * y
        predators = y.t - b * x * y + y
        return self.certainty * prey, self.certainty * predators
