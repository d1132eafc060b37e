"""How the batches of a program are divided among processes, and whether they can be.

Which dimension of a draw is the data's is found out by running the program on a few rows and on a part of them: it is
the one that is longer for more rows, whatever its size. The same runs show whether a batch can be divided at all, by
the law that a division rests on: the loss and the gradients of the rows are the sums of those of their parts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import REJECTING, TorchDispatchMode
from ppl_vae.graphs.tracing import agree
from ppl_vae.pairs.restore import modules_kept, random_state_kept, store_kept, tensors_kept
from ppl_vae.training.distributed import my_share
from ppl_vae.training.shared_noise import Axis, Draw, Share, SharedNoise, parts_of, shape_of

Numbers = Sequence[Any]  # the loss, and the gradients
Run = Callable[..., Numbers]
_ROWS = 16  # of a batch, or all where it has fewer, are run to find out: enough for two unequal parts, and cheap
_UNDIVIDED = (
    "the loss and the gradients of a batch are not the sums of those of two parts of it under the same random numbers, "
    "so that several processes would train something else (look for what mixes rows, as batch normalization does, for "
    "a scale by the batch's size, or for numpy's random numbers): take one process"
)


class _Record(TorchDispatchMode):
    """Notes each operation on random numbers with its shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool, list[Any], list[Any]]] = []
        self.rejects: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        given = [shape_of(part) for part in args]
        before = _random_state()
        drawn = func(*args, **(kwargs or {}))
        has_generator = (kwargs or {}).get("generator") is not None
        self.rejects |= {str(func)} if str(func).startswith(REJECTING) and _on_cpu(args[0]) else set()
        moved = has_generator or any(not torch.equal(*states) for states in zip(before, _random_state(), strict=True))
        self.seen.append((str(func), moved, given, [shape_of(part) for part in parts_of(drawn)]))
        return drawn


class _EvenOdds(TorchDispatchMode):
    """Draws bits and categories with equal odds: a guide that is sure of itself would show no difference."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.multinomial.default:
            args = ((args[0] > 0).to(args[0]), *args[1:])
        elif func is torch.ops.aten.bernoulli.default:
            args = (torch.where((args[0] > 0) & (args[0] < 1), 0.5, args[0]).to(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


class Division:
    """Divides a pair's batches among processes; how, is found out once for each way of running it.

    Args:
        modules: those of the pair.
        state: gives what the estimator remembers.
        coarse: whether the networks compute in few digits.
    """

    def __init__(self, modules: Sequence[nn.Module], state: Callable[[], list[Tensor]], coarse: bool = False) -> None:
        self._modules, self._state, self._digits = modules, state, 0.05 if coarse else 1e-3
        self._share: Share | None = None
        self._batch: tuple[Tensor, ...] = ()
        self._plans: dict[Any, tuple[list[Draw], int]] = {}

    def share(self, batch: tuple[Tensor, ...]) -> Share:
        """Picks this process's rows of a batch, which the runs to come are on."""
        self._share, self._batch = my_share(len(batch[0])), batch
        return self._share

    def noise(self, way: str, run: Run) -> AbstractContextManager[Any]:
        """Makes a context in which ``run`` on the share draws the random numbers of its rows.

        Args:
            way: tells ways of running the pair apart.
            run: gives the loss and the gradients of its arguments, whose sums over rows they are.

        Raises:
            InputError: where those of a batch are not the sums of those of its parts.
        """
        if self._share is None or self._share.total == 1:  # an only row gets all random numbers
            return nullcontext()
        modes = tuple(module.training for module in self._modules)
        key = (way, modes, *((part.shape[1:], part.dtype) for part in self._batch))
        if key not in self._plans:
            self._plans[key] = self._find(run, tuple(part[:_ROWS] for part in self._batch))
        return _in_one_line(SharedNoise(self._share, *self._plans[key]))

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        with random_state_kept(), tensors_kept(self._state()), store_kept(), modules_kept(self._modules):
            yield

    def _find(self, run: Run, batch: tuple[Tensor, ...]) -> tuple[list[Draw], int]:
        total = len(batch[0])
        most = total - max(1, total // 3)
        shares = Share(total, 0, most), Share(total, most, total - most)

        def numbers_of(mode: TorchDispatchMode, share: Share) -> list[Any]:
            with self._untouched(), mode, _EvenOdds():
                return list(run(*share.of(batch)))

        whole, part = _Record(), _Record()
        with self._untouched():
            run(*batch)  # what the ELBO finds out at its first run is no part of the draws
        expected = numbers_of(whole, Share(total, 0, total))
        numbers_of(part, shares[0])
        draws = _planned(whole, part, total, most)
        for outer in _outers(draws):
            sums = [
                _sum(*parts)
                for parts in zip(*(numbers_of(SharedNoise(s, draws, outer), s) for s in shares), strict=True)
            ]
            if agree(_plain(expected), _plain(sums), self._digits):
                return draws, outer
        raise InputError(_UNDIVIDED)


@contextmanager
def _in_one_line(noise: SharedNoise) -> Iterator[None]:
    """Cuts an error inside a program off before the shapes that Pyro writes below it."""
    try:
        with noise:
            yield
    except InputError as error:
        raise InputError(str(error).splitlines()[0]) from None


def _planned(whole: _Record, part: _Record, total: int, most: int) -> list[Draw]:
    """Finds where the data lie in each operation, by its shapes for all rows and for most of them."""
    for name in sorted(whole.rejects):
        raise InputError(
            f"{name} takes as many random numbers as its values ask for, so that processes with other rows "
            "can't draw the same ones (gamma, beta, Dirichlet, Student-t, Poisson): take one process"
        )
    names = [[seen[:2] for seen in record.seen] for record in (whole, part)]
    if names[0] != names[1]:
        raise InputError(
            f"the program draws random numbers {len(names[0])} times for {total} rows and {len(names[1])} times, or "
            f"otherwise, for {most}, so that several processes can't tell which are those of their rows: take one"
        )
    draws = []
    for (name, is_random, *wholes), (_, _, *parts) in zip(whole.seen, part.seen, strict=True):
        given, drawn = (
            tuple(_axis(name, *shapes, total, most) for shapes in zip(*sides, strict=True)) if is_random else ()
            for sides in zip(wholes, parts, strict=True)
        )
        if any(drawn) and not any(given):
            raise InputError(_untold(name, wholes[1][0], parts[1][0], total, most))
        draws.append(Draw(name, is_random, given, drawn))
    return draws


def _axis(name: str, whole: list[int] | None, part: list[int] | None, total: int, most: int) -> Axis | None:
    if whole == part or whole is None or part is None:
        return None
    other = [dim for dim, sizes in enumerate(zip(whole, part, strict=False)) if sizes[0] != sizes[1]]
    if len(whole) != len(part) or len(other) != 1 or whole[other[0]] * most != part[other[0]] * total:
        raise InputError(_untold(name, whole, part, total, most))
    return Axis(other[0], whole[other[0]] // total)


def _untold(name: str, whole: Any, part: Any, total: int, most: int) -> str:
    return (
        f"{name} draws random numbers of shape {whole} for {total} rows and {part} for {most}, of which several "
        "processes can't tell those of their rows: draw them in a shape with one dimension for the rows, or take one "
        "process"
    )


def _outers(draws: Sequence[Draw]) -> list[int]:
    """What may lie before the rows where they are flattened together with other dimensions: divisors of these."""
    flat = math.gcd(*(axis.each for draw in draws for axis in (*draw.given, *draw.drawn) if axis and axis.each > 1))
    return [size for size in range(1, max(1, flat) + 1) if flat % size == 0] if flat else [1]


def _sum(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _plain(numbers: Numbers) -> list[Any]:
    """Replaces sparse gradients by their indices and values, which can be compared."""
    plain: list[Any] = []
    for part in numbers:
        if isinstance(part, Tensor) and part.is_sparse:
            part = part.coalesce()
            plain += [part.indices(), part.values()]
        else:
            plain.append(part)
    return plain


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"  # on a GPU each number has its own place in the stream


def _random_state() -> list[Tensor]:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
