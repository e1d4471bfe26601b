"""The optimiser of the search: it does what torch's Adam and cosine schedule do, without their slow imports."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from MedInpaintLib.search.adam import Adam

SEARCH = """
import sys
import test_latent
from MedInpaintLib.search.latent import search
network = test_latent.network.__wrapped__()
slices = test_latent.slices.__wrapped__(test_latent.truth.__wrapped__(network))
generated, _ = search(network, slices, test_latent.COUNT, test_latent.SETTINGS, lambda done, message: None)
print(generated.iterations, *({"torch._dynamo", "sympy"} & sys.modules.keys()))
"""


def loss(variables):
    """Smooth, not convex, its scales a thousand apart."""
    first, second = variables
    return ((first**2 - 3) ** 2).sum() + 1000 * (second.sin() * first[:2]).sum()


def test_it_takes_the_steps_of_torchs_adam_with_cosine_annealing():
    rates, steps = (0.1, 0.02), 25
    ours, theirs = ([torch.linspace(-1, 2, n).requires_grad_() for n in (5, 2)] for _ in range(2))
    adam = Adam(list(zip(ours, rates, strict=True)), steps)
    reference = torch.optim.Adam([{"params": [v], "lr": rate} for v, rate in zip(theirs, rates, strict=True)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, steps)
    start = [variable.detach().clone() for variable in ours]
    for _ in range(steps):
        loss(ours).backward()
        adam.step()
        reference.zero_grad()
        loss(theirs).backward()
        reference.step()
        schedule.step()
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.detach(), other.detach(), rtol=1e-5)
    assert all((before - after).abs().min() > 0.01 for before, after in zip(start, ours, strict=True))


def test_a_step_forgets_its_gradient():
    variable = torch.ones(3, requires_grad=True)
    adam = Adam([(variable, 0.1)], 10)
    (variable**2).sum().backward()
    adam.step()
    assert variable.grad is None


def test_a_search_loads_neither_torchs_compiler_nor_its_algebra(tmp_path):
    """They would take longer to load than most searches take."""
    script = tmp_path / "search.py"
    here = Path(__file__).parent
    script.write_text(f"import sys\nsys.path[:0] = {[str(here), str(here.parent)]}\n{SEARCH}")
    output = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["8"]
