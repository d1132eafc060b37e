"""Networks that models and guides are written with."""

import torch
from torch import Tensor, nn
from torchvision.ops import MLP


class RowTable(nn.Embedding):
    """Parameters of its own for each data point, one row each.

    Its gradient is dense, as every optimizer takes it; while :func:`ppl_vae.fit` runs it is sparse, and a step costs
    the rows of the batch and not the table.
    """


class JointMLP(MLP):
    """torchvision's multilayer perceptron on its inputs side by side, each spread over the first one's leading dims."""

    @property
    def output(self) -> nn.Linear:
        """The last layer."""
        return [layer for layer in self if isinstance(layer, nn.Linear)][-1]

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Inputs of shapes (..., width), whose widths sum to the first layer's."""
        spread = [other.expand(*first.shape[:-1], other.shape[-1]) for other in others]
        return super().forward(torch.cat([first, *spread], -1) if spread else first)
