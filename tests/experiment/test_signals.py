import signal

import pytest

from brcd_lightning.errors import RunEnded
from brcd_lightning.experiment.signals import end_when_asked

EPOCHS, STEPS = 4, 4  # 64 training images in batches of 16


def test_outside_of_a_training_sigterm_ends_a_run_at_once(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    try:
        end_when_asked(tmp_path)
        with pytest.raises(RunEnded, match=f"resume=auto and hydra.run.dir={tmp_path}") as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.exit_code == 143
        signal.raise_signal(signal.SIGTERM)  # a second one does not disturb the end
    finally:
        signal.signal(signal.SIGTERM, before)
