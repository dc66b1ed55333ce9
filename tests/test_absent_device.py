import pytest
import torch

from absent_device import ABSENT, AbsentDevice


@pytest.fixture(autouse=True)
def _absent():
    with AbsentDevice():
        yield


def test_it_computes_what_the_cpu_computes(generator):
    rows, weight = torch.randn(5, 4, generator=generator), torch.randn(4, 3, generator=generator)
    found = []
    for device in ("cpu", ABSENT):
        there, factor = rows.clone().to(device), weight.clone().to(device).requires_grad_()
        places = torch.arange(5, device=device).flip(0)
        loss = (there[places] @ factor).mul_(2).softmax(dim=1)[torch.tensor([1, 2])].log().sum()
        loss.backward()
        there[places == 2] = 0
        assert loss.device.type == torch.device(device).type
        found.append([loss.detach().cpu(), factor.grad.cpu(), there.cpu()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_what_was_not_moved_is_refused(generator):
    there, here = torch.randn(4, 4, generator=generator).to(ABSENT), torch.randn(4, 4, generator=generator)
    for operation in (
        lambda: there @ here,
        lambda: torch.cat([there, here]),
        lambda: torch.where(here > 0, there, there),
        lambda: here[there[0] > 0],
        lambda: here.index_select(0, torch.arange(2, device=ABSENT)),
        lambda: there.add_(here),
    ):
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            operation()
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()
    assert there.is_cuda
    assert (there * torch.tensor(2.0)).cpu().equal(2 * there.cpu())  # a number goes everywhere
