import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.training.progress import StageProgressBar
from conftest import make_datamodule
from small_training import distillation


def test_the_progress_bar_shows_metrics_and_no_version(tmp_path, splits):
    module = distillation(NoDistillation())
    bar = StageProgressBar()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=CSVLogger(tmp_path, name="metrics", version="student"),
        callbacks=[bar],
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=make_datamodule(splits))
    shown = bar.get_metrics(trainer, module)
    assert "v_num" not in shown
    assert {"train/loss", "val/map_sshp"} <= set(shown)


def test_the_last_step_of_a_training_is_drawn_and_few_others(tmp_path, splits, monkeypatch):
    monkeypatch.setattr("brcd_lightning.training.progress._SECONDS_PER_DRAWING", 1e9)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    drawn = []
    monkeypatch.setattr(
        RichProgressBar, "on_train_batch_end", lambda self, trainer, *_: drawn.append(trainer.global_step)
    )
    module = distillation(NoDistillation())
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=[StageProgressBar()],
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=make_datamodule(splits))
    assert drawn == [trainer.global_step]
