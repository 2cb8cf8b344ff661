"""An unknown field without an equation of its own: a conductivity, from measured temperatures."""

import torch

from hpctrain.problems.equations import Dirichlet, Equations, Interval, Observations

X = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
NOISE = 1e-3 * torch.sin(1e4 * X)  # in the place of errors of measurement
MEASURED = {"x": X, "u": torch.sin(torch.pi * X) + NOISE}


class Conduction(Equations):
    """-(k u_x)_x = f with u = 0 at both ends; k is known at one of them, and 1 + x in truth."""

    geometry = Interval(x=(0, 1))
    fields = ("u", "k")
    conditions = (
        Dirichlet({"u": 0.0}, exact=True),
        Dirichlet({"k": 1.0}, on="x.low", exact=True),
        Observations(MEASURED, ["u"], noise=1e-3),
    )

    def residuals(self, at, u, k):
        sin, cos = torch.sin(torch.pi * at.x), torch.cos(torch.pi * at.x)
        f = torch.pi**2 * (1 + at.x) * sin - torch.pi * cos
        return 10 * (k.x * u.x + k * u.xx + f)

    def reference(self, at):
        return {"u": torch.sin(torch.pi * at.x), "k": 1 + at.x}
