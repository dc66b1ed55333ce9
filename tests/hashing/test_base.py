import torch

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


def test_views_go_through_the_backbone_as_one_batch(generator):
    network = make_network().eval()
    views = [torch.randn(3, 3, 16, 16, generator=generator) for _ in range(2)]
    outputs = network(views)
    for view, output in zip(views, outputs, strict=True):
        assert torch.allclose(output.logits, network([view])[0].logits, atol=1e-6)
