"""What a pair's sites and plates show when it runs on some of the rows, and what keeps it from running on them."""

import inspect
import re
from collections.abc import Iterator
from functools import cached_property

from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine import Trace
from torch import nn

from ppl_vae.pairs.arguments import Batch, batch_size, device_of, rows
from ppl_vae.pairs.mistakes import alone, run
from ppl_vae.pairs.modules import Program, follows_rows, modules_of, own_modules
from ppl_vae.pairs.pairing import support_of
from ppl_vae.pairs.restore import local_parameters, undone_on_error
from ppl_vae.pairs.runs import FEW
from ppl_vae.pairs.traces import DATA_PLATE, Site, is_auxiliary, latent_sites, prior_of, random_sites
from ppl_vae.pairs.units import Unit, plates_of, unit_of

Pairs = list[tuple[int, tuple[Trace, Trace]]]


class Shown:
    """A run of a pair that need not be one: its traces, and what has a log-weight of its own."""

    def __init__(self, model: Program, guide: Program | None, batch: Batch, plate: str | None) -> None:
        self.pair = run(model, guide, batch)
        self._size, self._plate = batch_size(batch), plate

    @cached_property
    def unit(self) -> Unit:
        """What has a log-weight of its own; InputError where it can't be told."""
        return unit_of(*self.pair, self._size, self._plate)


def few_rows(size: int) -> list[int]:
    """Says how many rows to look at: two numbers of them, one of which may equal the number of latents by chance."""
    most = min(size, max(FEW))
    return [count for count in (most, most - 1) if count > 0]


def runs_of(model: Program, guide: Program | None, batch: Batch, counts: list[int]) -> tuple[Pairs, Exception | None]:
    """Runs a pair on so many rows each, by itself; returns the runs, and the first error of those that failed."""
    size, device = batch_size(batch), device_of(batch, model, guide)
    runs: Pairs = []
    first: Exception | None = None
    for count in counts:
        try:
            with alone(), undone_on_error(modules_of(model, guide)):
                runs.append((count, run(model, guide, rows(batch, size, 0, count, device))))
        except Exception as error:
            first = first or error
    return runs, first


def has_fixed_length(model: Program, guide: Program | None, batch: Batch, counts: list[int], plate: str | None) -> bool:
    """Says whether the plate of the data is as long as all of them in both programs, whatever rows they are given."""
    size, device = batch_size(batch), device_of(batch, model, guide)
    part = rows(batch, size, 0, counts[-1], device)
    return all(_lengths(program, part, plate) == {size} for program in (model, guide) if program is not None)


def _lengths(program: Program, part: Batch, plate: str | None) -> set[int]:
    """Returns how long a plate is in a run on a few rows, as far as it comes."""
    lengths: set[int] = set()
    partly = poutine.trace(prior_of(program))
    try:
        with alone(), local_parameters(program), undone_on_error(modules_of(program)):
            partly(*part)
    except Exception as error:
        named = re.search(r"inside plate\('?(\w+)'?\) at site \w+ dim -?\d+, (\d+) vs", str(error))
        lengths |= {int(named[2])} if named and named[1] == plate else set()
    frames = [frame for site in random_sites(partly.trace) for frame in site["cond_indep_stack"]]
    return lengths | {frame.size for frame in frames if frame.name == plate}


def structure(runs: Pairs, unit: Unit, *, alone: bool = False) -> Iterator[str]:
    """Lists the sites that lie outside of the plate of the data, or don't fit it, in runs on some of the rows each.

    Those of the model only, where it is run alone: then its prior, which stands in for a guide, has the same sites.
    """
    plate = unit.plate or DATA_PLATE
    told: set[str] = set()
    for count, traces in runs:
        for kind, trace in (("model", traces[1]),) if alone else zip(("guide", "model"), traces, strict=True):
            for site in random_sites(trace):
                if is_auxiliary(site) and not site["is_observed"]:
                    continue
                others = [_site(pair[kind == "model"], site["name"]) for _, pair in runs]
                line = _misplaced(kind, site, count, plate, _following(others, [size for size, _ in runs]))
                if line and line not in told:
                    told.add(line)
                    yield line


def _site(trace: Trace, name: str) -> Site | None:
    return trace.nodes.get(name)


def _following(sites: list[Site | None], counts: list[int]) -> set[int]:
    """Returns the dimensions of a site's batch shape that have an element for each row, in all runs that have it."""
    shapes = [(count, tuple(site["fn"].batch_shape)) for site, count in zip(sites, counts, strict=True) if site]
    if len({count for count, _ in shapes}) < 2:
        return set()  # one number of rows may be that of something else by chance
    least = min(len(shape) for _, shape in shapes)
    return {dim for dim in range(-least, 0) if all(shape[dim] == count for count, shape in shapes)}


def _misplaced(kind: str, site: Site, count: int, plate: str, following: set[int]) -> str:
    """Says what is wrong with a site's place among the plates; nothing where it is fine."""
    frames = plates_of(site)
    taken = {frame.dim for frame in frames.values()}
    shape = tuple(site["fn"].batch_shape)
    free = [dim for dim in range(-len(shape), 0) if dim not in taken and shape[dim] > 1]
    data = frames.get(plate)
    if data is None:
        if not following.intersection(free):  # the data share it: a vector is summed as a whole
            return ""
        return (
            f"the {kind}'s site {site['name']!r} lies outside the plate {plate!r}, but has an element for each data "
            f'point: sample it inside `with pyro.plate("{plate}", len(x)):`'
        )
    if data.size != count and data.full_size in (None, data.size):
        return (
            f"the {kind}'s plate {plate!r} has size {data.size} for {count} data points: make it as long as the batch, "
            "len(x)"
        )
    if free:
        return (
            f"the {kind}'s site {site['name']!r} has batch shape {shape}, more dimensions than plates: move those of "
            "one data point into the event by .to_event(1)"
        )
    return ""


def wrong_arguments(model: Program, guide: Program | None, batch: Batch) -> Iterator[str]:
    """Says which program can't be called with the data, as far as its signature shows."""
    for kind, program in (("model", model), ("guide", guide)):
        function = program.forward if isinstance(program, nn.Module) else program
        if function is None:
            continue
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # made outside of Python
            continue
        try:
            signature.bind(*batch)
        except TypeError as error:
            yield (
                f"the {kind} can't be called with the data, {len(batch)} argument{'s' * (len(batch) > 1)} ({error}): "
                "both programs are given the same ones, so let both take them all"
            )


def discrete_latents(model: Program, guide: Program | None, batch: Batch) -> Iterator[str]:
    """Says which latents an autoguide that fails can't draw: the discrete ones, which have to be summed over."""
    if guide is None or follows_rows(guide):
        return
    runs, _ = runs_of(model, None, batch, [batch_size(batch)])
    latents = [site for _, pair in runs for site in latent_sites(pair[1])]
    discrete = [site["name"] for site in latents if getattr(support_of(site["fn"]), "is_discrete", False)]
    if discrete:
        auto = next(part for owner in own_modules(guide) for part in owner.modules() if isinstance(part, AutoGuide))
        kind = type(auto).__name__
        yield (
            f"{kind} draws continuous latents only, and the model's {' and '.join(map(repr, discrete))} "
            f"{'is' if len(discrete) == 1 else 'are'} discrete: write {kind}(poutine.block(model, hide={discrete})), "
            'and mark what is hidden by infer={"enumerate": "parallel"}, to be summed over'
        )
