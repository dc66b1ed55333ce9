import pytest
import torch

from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.training.collapse import CollapseMonitor
from conftest import make_datamodule
from small_training import distillation, make_trainer


@pytest.mark.parametrize("stop", [False, True])
def test_collapse_is_warned_of_once_and_stops_if_asked(tmp_path, splits, stop):
    module = distillation(NoDistillation())
    with torch.no_grad():
        module.network.hashing_model.head.bias += 100  # every bit is +1
    trainer = make_trainer(tmp_path, epochs=3)
    trainer.callbacks.append(CollapseMonitor(stop=stop))
    with pytest.warns(UserWarning, match=r"codes collapse: mean \|bit mean\| 1\.00 in epoch 0") as found:
        trainer.fit(module, datamodule=make_datamodule(splits))
    assert len([warning for warning in found if "collapse" in str(warning.message)]) == 1
    assert trainer.current_epoch == (1 if stop else 3)


def test_healthy_codes_raise_no_alarm(tmp_path, splits, recwarn):
    module = distillation(NoDistillation())
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.callbacks.append(CollapseMonitor(threshold=0.99, stop=True))
    trainer.fit(module, datamodule=make_datamodule(splits))
    assert not [warning for warning in recwarn if "collapse" in str(warning.message)]
