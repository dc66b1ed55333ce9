import lightning as L
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
