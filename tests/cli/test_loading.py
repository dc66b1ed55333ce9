import subprocess
import sys

CODE = """
import gc, sys
from brcd_lightning.cli.loading import load_libraries
before = gc.get_threshold()
load_libraries()
frozen = gc.get_freeze_count()
assert frozen > 100_000, frozen
assert gc.get_threshold() == before
assert gc.isenabled()
load_libraries()
assert gc.get_freeze_count() == frozen, "a second job leaves everything as it is"
import brcd_lightning.experiment.run
print("triton" in sys.modules)
"""


def test_libraries_are_loaded_once_and_end_without_a_word():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no library reports leaks"
