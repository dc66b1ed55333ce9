import lightning as L
import torch

from brcd_lightning.training.whole_split import collect, data_of
from conftest import make_datamodule, make_network, network_input
from small_training import distillation, make_trainer


class Collects(L.Callback):
    """Collects features of a role when a validation starts."""

    def __init__(self, role):
        self.role = role

    def on_validation_start(self, trainer, module):
        self.data = data_of(trainer)
        self.found = collect(trainer, module, self.role, module.network.backbone, "Collecting")


def test_values_and_labels_come_in_index_order(tmp_path, splits):
    for role in ("train", "database"):
        module, data, callback = distillation(freeze="full"), make_datamodule(splits), Collects(role)
        trainer = make_trainer(tmp_path, module=module, callbacks=[callback])
        trainer.validate(module, datamodule=data, verbose=False)
        assert callback.data is data
        features, labels = callback.found
        expected = make_network(seed=1, freeze="full").backbone(network_input(splits, splits.positions(role)))
        assert torch.allclose(features, expected, atol=1e-6)
        assert torch.equal(labels, splits.labels(role))
