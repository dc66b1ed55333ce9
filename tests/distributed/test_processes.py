import lightning as L
import pytest
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from brcd_lightning.distributed.processes import cluster, data_parallel, require_processes, tells_of_lost_process
from brcd_lightning.errors import InputError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1"}
SRUN |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


def trainer(devices=1, nodes=1):
    options = {"strategy": data_parallel(5), "num_nodes": nodes} if devices * nodes > 1 else {}
    return L.Trainer(accelerator="cpu", devices=devices, logger=False, plugins=cluster(), **options)


@pytest.fixture
def variables(monkeypatch):
    """Sets what starters of processes leave in the environment."""

    def put(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(rank_zero_only, "rank", int(values.get("LOCAL_RANK", values.get("SLURM_PROCID", 0))))

    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    return put


@pytest.mark.parametrize(
    ("given", "devices", "message"),
    [
        (TORCHRUN | {"WORLD_SIZE": "2"}, 1, "torchrun says that this is process 0 of 2, but .* ask for 1"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, 1, "srun says that this is process 1 of 2"),
        (SRUN, 2, "trainer asks for 2 processes, and SLURM starts them: put srun before the command"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, 1, "LOCAL_RANK says that this is process 0 of 2"),
        ({"LOCAL_RANK": "1"}, 1, "LOCAL_RANK says that this is process 1 of 1"),  # it would write nothing
        ({"LOCAL_RANK": "0"}, 2, "LOCAL_RANK says that this is process 0 of 1, .* unset variables that another run"),
    ],
)
def test_another_number_of_processes_is_refused(variables, given, devices, message):
    variables(given)
    with pytest.raises(InputError, match=message):
        require_processes(trainer(devices))


def test_processes_spread_otherwise_over_machines_are_refused(variables):
    variables(SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NNODES": "1"})
    with pytest.raises(InputError, match="trainer: You set `devices=1` in Lightning, but the number of tasks per node"):
        require_processes(trainer(devices=1, nodes=2))


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ({}, 1),
        ({}, 2),  # Lightning starts the other one
        (TORCHRUN | {"WORLD_SIZE": "2"}, 2),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "2"}, 2),
        (SRUN, 1),  # in a batch script
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 2),
    ],
)
def test_the_right_number_of_processes_is_not(variables, given, devices):
    variables(given)
    require_processes(trainer(devices))


def test_lightning_requeues_no_job_of_slurm(variables):
    assert cluster() == []
    variables(SRUN)
    environment = trainer()._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def test_processes_wait_for_each_other_no_longer_than_asked():
    assert data_parallel(12)._timeout.total_seconds() == 12


def test_a_wait_of_nothing_is_refused():
    with pytest.raises(InputError, match="trainer.strategy.timeout_s must be a positive number, got 0"):
        data_parallel(0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/a/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"),
        RuntimeError("Application timeout caused pair closure"),  # when a broadcast waits in vain
        RuntimeError("NCCL communicator was aborted on rank 1."),
        dist.DistNetworkError("a socket"),
    ],
)
def test_errors_of_the_transport_tell_of_a_lost_process(error):
    assert tells_of_lost_process(error)


def test_other_errors_do_not():
    assert not tells_of_lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
