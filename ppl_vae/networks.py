"""Networks that models and guides are written with."""

from typing import Any

import torch
from torch import Tensor, nn


class RowTable(nn.Embedding):
    """A table with one row of parameters for each data point.

    Its gradient is dense, as every optimizer takes it; while :func:`ppl_vae.fit` runs it is sparse, and a step costs
    the rows of the batch and not the table.

    Examples:
        >>> import torch
        >>> from ppl_vae.networks import RowTable
        >>> RowTable(100, 4)(torch.tensor([7, 3])).shape
        torch.Size([2, 4])
    """


class JointMLP(nn.Sequential):
    """A perceptron of torchvision's on its inputs side by side, each spread over the first one's leading dims.

    Args:
        in_channels: the width of the input, or the sum of the inputs' widths.
        hidden_channels: the widths of the layers, the output's last.
        options: the others of ``torchvision.ops.MLP``, such as ``activation_layer``.

    Examples:
        >>> import torch
        >>> from ppl_vae.networks import JointMLP
        >>> decoder = JointMLP(2 + 10, [32, 64])  # of z and a label
        >>> decoder(torch.zeros(7, 5, 2), torch.eye(10)[:5]).shape
        torch.Size([7, 5, 64])
    """

    def __init__(self, in_channels: int, hidden_channels: list[int], **options: Any) -> None:
        from torchvision.ops import MLP  # as slow to import as torch and Pyro together

        super().__init__(*MLP(in_channels, hidden_channels, **options))

    @property
    def output(self) -> nn.Linear:
        """The last layer."""
        return [layer for layer in self if isinstance(layer, nn.Linear)][-1]

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Runs the perceptron on inputs of shapes (..., width), whose widths sum to the first layer's."""
        spread = [other.expand(*first.shape[:-1], other.shape[-1]) for other in others]
        return super().forward(torch.cat([first, *spread], -1) if spread else first)
