import subprocess
import sys

import pytest

HEAVY = ("grain", "tensorflow_datasets", "tensorflow", "ml_collections", "orbax", "h5py", "torch", "keras", "onnx")
PROGRAM = """
import sys
{statement}
print(*[name for name in {names} if name in sys.modules])
"""


def imported(statement, names):
    program = PROGRAM.format(statement=statement, names=names)
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.parametrize("statement", ["import vgg_jax, vgg_jax.eval, vgg_jax.weights"])
def test_research_code_needs_none_of_the_training_libraries(statement):
    assert imported(statement, HEAVY) == []


def test_the_check_sees_an_import():
    assert imported("import vgg_jax.checkpoint", HEAVY) != []
