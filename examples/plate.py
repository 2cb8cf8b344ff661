"""A form of one's own (`ansatz`): every network meets the conditions of a clamped plate."""

import torch

from hpctrain.problems.equations import Box, Equations


class Plate(Equations):
    """Δ²w = q, w = ∂w/∂n = 0 on the sides of the unit square."""

    geometry = Box(x=(0, 1), y=(0, 1))
    fields = ("w",)

    def ansatz(self, at):
        edge = at.x * (1 - at.x) * at.y * (1 - at.y)
        return {"w": (0.0, edge**2)}

    def residuals(self, at, w):
        cos_x, cos_y = torch.cos(2 * torch.pi * at.x), torch.cos(2 * torch.pi * at.y)
        q = 4 * torch.pi**4 * (4 * cos_x * cos_y - cos_x - cos_y)
        return (w.xxxx + 2 * w.xxyy + w.yyyy - q) / 1000

    def reference(self, at):
        return (torch.sin(torch.pi * at.x) * torch.sin(torch.pi * at.y)) ** 2
