"""A stand-in for a CUDA graph, where there is no GPU."""


class StandIn:
    """Runs what a CUDA graph would have recorded, into the same tensors each time."""

    def __init__(self, run, batch):
        self.run = run
        self.found = [None if part is None else part.clone() for part in run(*batch)]

    def __call__(self, *batch):
        for kept, part in zip(self.found, self.run(*batch), strict=True):
            if kept is not None:
                kept.copy_(part)
        return self.found
