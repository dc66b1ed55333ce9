"""Shared test material: tiny splits, tiny networks, the reference vectors, and the command in a subprocess."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch.utils.data import default_collate

from brcd_lightning.backbones import small_backbone
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.fake import fake
from brcd_lightning.data.transforms import digit_images
from brcd_lightning.experiment.sweeps.warm_process import WarmProcess
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.hashing.cibhash import CIBHash
from postgres_server import postgres, postgres_address  # noqa: F401  # fixtures

ROOT = Path(__file__).parents[1]
VECTORS = Path(__file__).parent / "vectors"

# The command runs at these sizes in tests: every stage, a second or two each.
TINY = [
    "dataset=fake",
    "trainer=debug",
    "bits=16",
    "data.batch_size=16",
    "teacher.backbone.widths=[4,8]",
    "student.backbone.widths=[4]",
    "kd_method.num_clusters=4",
]


# A job that a shell runs in the background ignores Ctrl-C, and so would all commands that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What the project remembers between runs stays out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items):
    """Files with slow tests or commands come first, so that no worker is left with one of them at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or "run_command" in vars(item.module)}
    items.sort(key=lambda item: item.path not in long)


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def kd_vectors():
    return json.loads((VECTORS / "kd.json").read_text())


@pytest.fixture(scope="session")
def hash_vectors():
    return json.loads((VECTORS / "hash.json").read_text())


@pytest.fixture(params=["v1_hand_b4_m3", "v3_single_cluster_b4_m3"])
def code_vectors(kd_vectors, request):
    """Student codes, teacher codes and expected values of a reference vector, in float64."""
    vector = kd_vectors[request.param]
    student, teacher = (torch.tensor(vector[key], dtype=torch.float64) for key in "st")
    return student, teacher, vector["expected"]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def random_codes(rows, bits, generator):
    return torch.randint(0, 2, (rows, bits), generator=generator) * 2 - 1


def clustered_codes(rows, bits, generator, prototypes=50, flips=0.06):
    """Codes that are noisy copies of a few prototypes, as classes make them."""
    centres = random_codes(prototypes, bits, generator)
    noise = torch.rand(rows, bits, generator=generator) < flips
    return torch.where(noise, -1, 1) * centres[torch.randint(0, prototypes, (rows,), generator=generator)]


@pytest.fixture(scope="session")
def splits():
    return fake()


def make_network(bits=16, widths=(4,), seed=0, freeze="none", model=CIBHash, **options):
    torch.manual_seed(seed)
    backbone = small_backbone(widths, grid=2, freeze=freeze)
    return HashNetwork(backbone, model(backbone.num_features, bits, **options))


def network_input(splits, positions, transforms=None):
    """Images (n, 3, S, S) at positions of the source, under the evaluation transform."""
    transforms = transforms or digit_images(16)
    prepared = [transforms.prepare(splits.source.load(int(position))) for position in positions]
    return transforms.finish(default_collate(prepared))


def make_datamodule(splits, **options):
    return HashingDataModule(splits, digit_images(16), **{"batch_size": 16, "eval_batch_size": 16, **options})


class StartedCommand:
    """A command that runs in a process of its own, with its imports already done, while the test goes on."""

    def __init__(self, *arguments, cwd, module="brcd_lightning.train", env=None):
        self._folder = TemporaryDirectory()
        self._written = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        arguments = [str(argument) for argument in arguments]
        environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "120", **(env or {})}
        self._process = WarmProcess(module, arguments, Path(cwd), environment, *self._written)
        self.pid = self._process.pid

    def poll(self):
        """The exit code, or None while it runs."""
        return self._process.wait(0)

    def wait(self, timeout=300):
        """The exit code."""
        code = self._process.wait(timeout)
        assert code is not None, f"longer than {timeout} s:\n{self.stdout}\n{self.stderr}"
        return code

    def end(self):
        """Ends what is left: itself, and what it has started."""
        self._process.end()

    def send(self, number):
        """Sends a signal to the process alone."""
        os.kill(self.pid, number)

    def kill(self):
        """Ends the process alone, as the system does when memory is short; its children go on."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self._process.wait()

    def wait_for(self, happened):
        """Waits until something has happened; fails if the command ends before."""
        while not happened():
            assert self.poll() is None or happened(), f"ended with {self.poll()}:\n{self.stdout}\n{self.stderr}"
            time.sleep(0.005)

    @property
    def stdout(self):
        """Standard output so far."""
        return self._written[0].read_text() if self._written[0].exists() else ""

    @property
    def stderr(self):
        """Standard error so far."""
        return self._written[1].read_text() if self._written[1].exists() else ""


def run_command(*arguments, cwd, module="brcd_lightning.train", env=None, timeout=300, imported=True):
    """Runs the command in a process of its own; with its imports already done, unless they are tested too."""
    if imported:
        command = StartedCommand(*arguments, cwd=cwd, module=module, env=env)
        try:
            return subprocess.CompletedProcess(arguments, command.wait(timeout), command.stdout, command.stderr)
        finally:
            command.end()
    environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "120", **(env or {})}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
