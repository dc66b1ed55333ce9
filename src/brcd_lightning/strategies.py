"""How the processes of one run work together."""

from __future__ import annotations

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy

from brcd_lightning.errors import require_positive


def data_parallel(timeout_s: float = 300) -> DDPStrategy:
    """Data-parallel training whose processes give up waiting for one that hangs.

    Args:
        timeout_s: longest wait for the other processes, in seconds. What only one of them does while the others wait
            (k-means, the files of a checkpoint) must fit into it.
    """
    require_positive("trainer.strategy.timeout_s", timeout_s)
    return DDPStrategy(timeout=timedelta(seconds=timeout_s))
