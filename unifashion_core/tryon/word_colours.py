"""The colours that words tell, as a start for pictures that no garment leads."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordColours(nn.Module):
    """The mean latent that a text tells of, as a sum over its words.

    The noise that sampling starts from has a mean of its own. Where a latent has many places for
    few channels, a network trained on a schedule that never ends in pure noise reads colours out
    of that mean, whatever the text says; so the start is given the text's own.

    Source: Lin et al. 2024 ("Common diffusion noise schedules and sample steps are flawed"),
    section 3, for what goes wrong.
    """

    def __init__(self, vocabulary: int, latent_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary, latent_channels))
        self.bias = nn.Parameter(torch.zeros(latent_channels))

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the text encoder's table, (B, L), to scaled latents, (B, z); each row counts
        once."""
        return presence(ids, len(self.weight)).to(self.weight) @ self.weight + self.bias


def presence(ids: Tensor, vocabulary: int) -> Tensor:
    """Which rows occur in each text, (B, L) -> (B, vocabulary), 0 or 1."""
    found = torch.zeros(len(ids), vocabulary, device=ids.device)
    return found.scatter_(1, ids, 1.0)
