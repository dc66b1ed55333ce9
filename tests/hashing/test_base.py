import pytest
import torch

from brcd_lightning.codes import sign
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.cibhash import CIBHash
from brcd_lightning.hashing.mecoq import MeCoQ
from brcd_lightning.hashing.tbh import TBH
from conftest import make_network


def test_encode_does_not_depend_on_mode_or_batch_mates(generator):
    network = make_network()
    images = torch.randn(6, 3, 16, 16, generator=generator)
    network.eval()
    codes = network.encode(images)
    network.train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(network.encode(images), codes)
    assert network.training
    assert torch.equal(torch.cat([network.encode(image[None]) for image in images]), codes)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert codes.dtype == torch.int8
    assert set(codes.unique().tolist()) <= {-1, 1}


def test_zero_logits_are_plus_one():
    network = make_network()
    for parameter in network.hashing_model.head.parameters():
        torch.nn.init.zeros_(parameter)
    assert bool((network.encode(torch.randn(2, 3, 16, 16)) == 1).all())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_logits_that_are_not_finite_are_no_codes(value, generator):
    network, images = make_network(), torch.randn(6, 3, 16, 16, generator=generator)
    images[[1, 4]] = float(value)
    network.train()
    with pytest.raises(InputError, match=r"got nan or inf for 2 of 6 images of a batch \(positions 1, 4\);"):
        network.encode(images)
    assert network.training
    assert network.encode(images[[0, 2, 3, 5]]).shape == (4, 16)


def test_damaged_weights_give_no_codes():
    network = make_network()
    network.hashing_model.head.bias.data[3] = float("nan")  # one bit of every image
    with pytest.raises(InputError, match=r"6 of 6 images of a batch \(positions 0, 1, 2, \.\.\.\)") as error:
        network.encode(torch.zeros(6, 3, 16, 16))
    assert "\n" not in str(error.value)


def test_overflow_in_half_precision_gives_no_codes():
    network = make_network()
    torch.nn.init.constant_(network.hashing_model.head.bias, 1e5)  # more than float16 holds
    images = torch.zeros(2, 3, 16, 16)
    assert bool((network.encode(images) == 1).all())
    with pytest.raises(InputError, match=r"overflow in torch.float16.*trainer.precision=32-true"):
        network.half().encode(images.half())


def test_views_go_through_the_backbone_as_one_batch(generator):
    network = make_network().eval()
    views = [torch.randn(3, 3, 16, 16, generator=generator) for _ in range(2)]
    outputs = network(views)
    for view, output in zip(views, outputs, strict=True):
        assert torch.allclose(output.logits, network([view])[0].logits, atol=1e-6)


@pytest.mark.parametrize("model", [CIBHash, TBH, MeCoQ])
def test_soft_values_come_with_the_codes_from_one_pass(generator, model):
    network = make_network(model=model)
    images = torch.randn(6, 3, 16, 16, generator=generator)
    expected = network.eval().hashing_model.soft(network.hashing_model.head(network.backbone(images)))
    passes = []
    network.train().backbone.register_forward_hook(lambda *_: passes.append(network.training))
    codes, values = network.encode_soft(images)
    assert passes == [False]
    assert network.training
    assert torch.equal(codes, network.encode(images))
    assert torch.equal(codes, sign(values).to(torch.int8))
    assert torch.equal(values, expected)
    assert values.dtype == torch.float32
    assert bool((values.abs() < 1).all())
    assert not values.requires_grad
