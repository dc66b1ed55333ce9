"""Small teachers and students, and trainers for them."""

import lightning as L
import torch

from brcd_lightning.data.fake import fake
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.storage.checkpoints import AtomicCheckpointIO
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from brcd_lightning.training.teacher_codes import TeacherCodesCallback
from conftest import make_network, network_input


def distillation(method=None, anchor_view="clean", hashing_weight=1.0, **network):
    method = method or BRCD(num_clusters=4, n_init=2)
    student, options = make_network(seed=1, **network), TrainingOptions(1e-3, 20, hashing_weight=hashing_weight)
    return DistillationModule(student, make_teacher(), method, options, {"bits": 16}, anchor_view)


def make_teacher():
    return centred(make_network(seed=2, widths=(8,)))


def centred(teacher):
    """An untrained teacher whose bits differ between images: its logits are centred on the training images."""
    splits = fake()
    head = teacher.eval().hashing_model.head
    with torch.no_grad():
        logits = head(teacher.backbone(network_input(splits, splits.train)))
        last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.bias -= logits.median(dim=0).values
    return teacher


def make_trainer(tmp_path, epochs=1, module=None, callbacks=(), **options):
    own = [TeacherCodesCallback(tmp_path, {})] if isinstance(module, DistillationModule) else []
    return L.Trainer(
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
        callbacks=[*own, *callbacks],
        plugins=[AtomicCheckpointIO()],
        **{"accelerator": "cpu", "enable_checkpointing": False, **options},
    )


def state_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
