import subprocess
import sys

import pytest

HEAVY = ("lightning", "pytorch_lightning", "torchmetrics", "matplotlib", "tensorboard")


@pytest.mark.parametrize(
    "statement",
    [
        "import lightning_stiffness",
        "import lightning_stiffness.functional",
        "import lightning_stiffness.gram",
        "from lightning_stiffness.functional import bootstrap_interval, effective_rank",
    ],
)
def test_pure_layers_load_no_framework(statement):
    # In a new interpreter: this one has loaded everything.
    program = f"import sys\n{statement}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_package_itself_loads_no_torch_either():
    program = "import sys, lightning_stiffness\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_of_the_functional_layer_is_there():
    program = "import lightning_stiffness.functional as f\nprint([n for n in f.__all__ if not hasattr(f, n)])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
