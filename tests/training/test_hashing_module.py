import lightning as L
import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from conftest import make_datamodule, make_network
from small_training import make_trainer


def test_the_teacher_learns_and_is_evaluated(tmp_path, splits):
    L.seed_everything(0, verbose=False)
    module = HashingModule(make_network(), TrainingOptions(3e-3, 20), {"bits": 16})
    losses = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            losses.append(trainer.callback_metrics["train/loss"].item())

    trainer = make_trainer(tmp_path, epochs=8)
    trainer.callbacks.append(Watch())
    trainer.fit(module, datamodule=make_datamodule(splits))
    assert losses[-1] < losses[0] - 0.1
    assert 0.25 < trainer.callback_metrics["val/map"] <= 1
    assert {"train/hash_contrastive", "train/hash_bottleneck", "train/bit_bias"} <= set(trainer.callback_metrics)


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="map_k must be a positive integer, got 0"):
        TrainingOptions(1e-3, 0)
    with pytest.raises(InputError, match="learning_rate must be a positive number, got -1"):
        TrainingOptions(-1, 10)
