"""Features made of an image's code and its category's name: a conditional VAE (LTAD, equation 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltbench.blocks.training.draws import Draws


class Posterior(NamedTuple):
    """A Gaussian a code, with independent values.

    Args:
        mean: (B, latent).
        log_variance: (B, latent).
    """

    mean: Tensor
    log_variance: Tensor

    def divergence(self) -> Tensor:
        """Return KL(N(mean, variance) || N(0, I)) of each code, (B,), the mean over the latent values.

        The paper's equation 6 is printed with a minus sign and the sample less the mean, which would reward
        divergence; this is the usual term.
        """
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - 1 - self.log_variance).mean(dim=1)

    def sample(self, draws: Draws) -> Tensor:
        """Return one draw a code, (B, latent)."""
        return self.mean + (0.5 * self.log_variance).exp() * draws.normal(self.mean.shape)


class Synthesiser(nn.Module):
    """Makes feature maps of a code z and a text's vector t: D(zhat, t), zhat ~ N(F_mu(z), F_sigma(z)).

    Args:
        code_dim: length of a code.
        latent_dim: length of zhat.
        decoder: makes maps of zhat, or of zhat and t one after the other.
        variational: whether zhat is drawn; without, it is F_mu(z) and there is no divergence.
        conditioned: whether the decoder is given t.
    """

    def __init__(
        self, code_dim: int, latent_dim: int, decoder: nn.Module, *, variational: bool = True, conditioned: bool = True
    ) -> None:
        super().__init__()
        self.mean = nn.Linear(code_dim, latent_dim)
        self.log_variance = nn.Linear(code_dim, latent_dim) if variational else None
        self.decoder = decoder
        self.conditioned = conditioned

    def posterior(self, codes: Tensor) -> Posterior | None:
        """Return the Gaussians of codes (B, code_dim), or None for an autoencoder."""
        if self.log_variance is None:
            return None
        return Posterior(self.mean(codes), self.log_variance(codes))

    def forward(self, codes: Tensor, texts: Tensor | None, draws: Draws) -> tuple[list[Tensor], Tensor]:
        """Return maps (B, C, h, w), finest first, and the divergence of each code, (B,).

        Args:
            codes: (B, code_dim).
            texts: (B, D), or None without conditioning.
            draws: where the samples come from.
        """
        posterior = self.posterior(codes)
        latent = self.mean(codes) if posterior is None else posterior.sample(draws)
        divergence = codes.new_zeros(len(codes)) if posterior is None else posterior.divergence()
        if self.conditioned and texts is not None:
            latent = torch.cat([latent, texts], dim=1)
        return self.decoder(latent), divergence


def synthesis_loss(maps: list[Tensor], targets: list[Tensor], divergence: Tensor, kl_weight: float) -> Tensor:
    """Return the loss of phase 1, a mean over images.

    The squared error is a mean over each map's values, as the text's "MSE" has it, then over the maps.

    Args:
        maps: synthesised, (B, C, h, w) each.
        targets: real, of the same shapes.
        divergence: (B,).
        kl_weight: factor of the divergence.
    """
    errors = [nn.functional.mse_loss(made, real) for made, real in zip(maps, targets, strict=True)]
    return torch.stack(errors).mean() + kl_weight * divergence.mean()
