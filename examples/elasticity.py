"""Plane elasticity: mixed derivatives, and a traction on sides by their outward normals."""

from hpctrain.problems.equations import Box, Condition, Dirichlet, Equations

LAM, MU, PULL = 1.0, 0.5, 0.3  # Lamé's constants, and the stress at x = 1


def traction(at, u, v):
    """The components of σ n, less the pull on sides x, as terms that are to be zero."""
    div, shear, n = LAM * (u.x + v.y), MU * (u.y + v.x), at.normal
    return (div + 2 * MU * u.x - PULL) * n.x + shear * n.y, shear * n.x + (div + 2 * MU * v.y) * n.y


class Elasticity(Equations):
    """div σ = 0 in a quarter of a plate, which is pulled at x = 1; symmetric about x = 0, y = 0."""

    geometry, fields = Box(x=(0, 1), y=(0, 1)), ("u", "v")
    conditions = (
        Dirichlet({"u": 0.0}, on="x.low", exact=True),
        Dirichlet({"v": 0.0}, on="y.low", exact=True),
        Condition(lambda at, u, v: u.y + v.x, on=("x.low", "y.low"), name="symmetry"),
        Condition(traction, on=("x.high", "y.high"), name="traction"),
    )

    def residuals(self, at, u, v):
        a, b = LAM + MU, MU
        return a * (u.xx + v.xy) + b * u.laplacian, a * (u.xy + v.yy) + b * v.laplacian

    def reference(self, at):
        return {"u": 0.2 * at.x, "v": -0.1 * at.y}
