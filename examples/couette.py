"""Flow between two cylinders: a geometry by set operations, and pieces with names."""

from hpctrain.problems.equations import Dirichlet, Disk, Equations


class Couette(Equations):
    """Navier-Stokes between an inner cylinder that turns and an outer one at rest."""

    geometry = Disk((0, 0), 1.0, name="outer") - Disk((0, 0), 0.5, name="inner")
    fields = ("u", "v", "p")
    up_to_constant = ("p",)
    conditions = (
        Dirichlet({"u": lambda at: -2 * at.y, "v": lambda at: 2 * at.x}, on="inner"),
        Dirichlet({"u": 0.0, "v": 0.0}, on="outer"),
        Dirichlet({"p": 0.0}, on={"x": 0.75, "y": 0.0}),
    )

    def residuals(self, at, u, v, p):
        along_x = u * u.x + v * u.y + p.x - 0.1 * u.laplacian
        along_y = u * v.x + v * v.y + p.y - 0.1 * v.laplacian
        return along_x, along_y, u.x + v.y

    def reference(self, at):
        r2 = at.x**2 + at.y**2
        turn = (1 / r2 - 1) * 2 / 3
        return {"u": -turn * at.y, "v": turn * at.x}
