"""A user's network for images 6 x 6: a body that stays as it is made, and two layers to train."""

from torch import nn


class Tuned(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh())
        self.body.requires_grad_(False)
        self.middle = nn.Sequential(nn.Linear(12, 9), nn.Tanh())
        self.head = nn.Linear(9, 10)

    def forward(self, x):
        return self.head(self.middle(self.body(x)))
