"""The images of a run as its model takes them: with labels where it is conditional, binarized where it wants bits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import one_hot

from ppl_vae.data.images import Images
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.programs import LatentVariableModel
from ppl_vae.runs.zoo import Builder


@dataclass(frozen=True)
class ImageData:
    """What a model of images is trained and tested on.

    Attributes:
        training: the training images, and their labels for a conditional model.
        test: likewise; binarized once where the likelihood is for bits.
        transform: binarizes training images anew at each draw; None where nothing is to be binarized.
        shape: height and width.
    """

    training: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    transform: Callable[[Tensor], Tensor] | None
    shape: tuple[int, int]


def builder_for(source: Images, latents: int, hidden: tuple[int, ...], likelihood: str) -> Builder:
    """Makes what builds models and guides for images of this size and these labels."""
    return Builder(source.name, source.train.shape[1], _classes(source), latents, hidden, likelihood)


def initialized_model(builder: Builder, name: str, source: Images) -> LatentVariableModel:
    """Makes the model of that name, started from the training images where it can be."""
    made = builder.model(name)
    return made.initialize(source.train) if isinstance(made, VAE | LinearGaussian) else made


def data_for(model: LatentVariableModel, source: Images, seed: int, images: int | None = None) -> ImageData:
    """Gives the data as a model takes them.

    Args:
        model: of these images.
        source: the images.
        seed: of the bits of the test images.
        images: how many test images to take, the first ones; all where None.
    """
    train: tuple[Tensor, ...] = (source.train,)
    test: tuple[Tensor, ...] = (source.test[:images],)
    if model.given_count:
        classes = _classes(source) or 0
        train = (*train, _labels(source.train_labels, classes))
        test = (*test, _labels(source.test_labels, classes)[:images])
    support = model.generate(1, *(part[:1] for part in test[1:]))[1].support
    takes_bits = getattr(support, "base_constraint", support) is constraints.boolean
    if not takes_bits or source.binary:
        return ImageData(train, test, None, source.shape)
    bits = torch.bernoulli(test[0], generator=torch.Generator().manual_seed(seed))
    return ImageData(train, (bits, *test[1:]), torch.bernoulli, source.shape)


def _classes(source: Images) -> int | None:
    return None if source.train_labels is None else int(source.train_labels.max()) + 1


def _labels(labels: Tensor | None, classes: int) -> Tensor:
    return one_hot(labels.long(), classes).float() if labels is not None else torch.zeros(0, 0)
