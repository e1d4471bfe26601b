"""What a search does that the device's memory does not suffice for."""

from types import SimpleNamespace
from weakref import ref

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import Cancelled, InputError, explain_out_of_memory, is_out_of_memory
from MedInpaintLib.search import latent
from MedInpaintLib.settings import Settings

FULL = {  # what is raised where a device's memory is full, or taken
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cuda as it starts": RuntimeError("CUDA error: out of memory"),
    "cuda of another program": RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)."),
}


class Network:
    """Stands for a model: it knows where it is."""

    place = torch.device("cpu")

    def to(self, place):
        self.place = place
        return self


@pytest.fixture
def attempts(monkeypatch):
    """The searches made, (device, chunk); each ends with the next of `outcomes`, or finds something."""
    made = SimpleNamespace(list=[], outcomes=[], released=[])

    def search(network, slices, count, settings, progress, chunk):
        made.list.append((str(network.place), chunk))
        progress(0.5, "half way")
        if made.outcomes:
            raise made.outcomes.pop(0)
        progress(1.0, "settled")
        return f"found on {network.place}"

    monkeypatch.setattr(latent, "search", search)
    monkeypatch.setattr(latent, "release", lambda device: made.released.append(str(device)))
    return made


def run(device="cuda", network=None, progress=lambda done, message: None):
    return search_with_fallback(network or Network(), torch.device(device), None, 96, Settings(), progress)


@pytest.mark.parametrize("device", ["cuda", "mps", "cpu"])
def test_a_search_that_fits_is_made_once_where_it_was_asked_for(attempts, device):
    assert run(device) == (f"found on {device}", device, [])
    assert attempts.list == [(device, 32)]
    assert attempts.released == []


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_device_is_tried_with_smaller_batches(attempts, error):
    attempts.outcomes = [error]
    found, device, (warning,) = run()
    assert (found, device) == ("found on cuda", "cuda")
    assert attempts.list == [("cuda", 32), ("cuda", 8)]
    assert attempts.released == ["cuda"]
    assert warning.startswith("The cuda device was busy or out of memory: the search was done in batches of 8 slices,")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_stays_full_leaves_the_search_to_the_cpu(attempts, device):
    attempts.outcomes = [FULL[device]] * 2
    found, where, (warning,) = run(device)
    assert (found, where) == ("found on cpu", "cpu")
    assert attempts.list == [(device, 32), (device, 8), ("cpu", 32)]
    assert f"The {device} device" in warning
    assert "on the CPU" in warning


def test_a_model_that_does_not_fit_on_the_device_is_searched_on_the_cpu(attempts):
    class Heavy(Network):
        def to(self, place):
            if place.type == "cuda":
                raise FULL["cuda"]
            return super().to(place)

    assert run(network=Heavy())[:2] == ("found on cpu", "cpu")
    assert attempts.list == [("cpu", 32)]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), InputError("Wrong."), Cancelled(), OSError()])
def test_another_error_is_raised_as_it_is_and_nothing_is_tried_again(attempts, error):
    attempts.outcomes = [error]
    with pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert attempts.list == [("cuda", 32)]


def test_a_search_on_the_cpu_is_never_tried_again(attempts):
    attempts.outcomes = [RuntimeError("DefaultCPUAllocator: can't allocate memory")]
    with pytest.raises(RuntimeError, match="allocate"):
        run("cpu")
    assert attempts.list == [("cpu", 32)]


def test_progress_says_what_happens_and_never_goes_back(attempts):
    attempts.outcomes = [FULL["cuda"]] * 2
    told = []
    run(progress=lambda done, message: told.append((done, message)))
    fractions, messages = zip(*told, strict=True)
    assert list(fractions) == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert messages[0] == "preparing the search on cuda"
    starts = [message for message in messages if "starting anew" in message]
    assert [start.split("anew ")[1] for start in starts] == ["in batches of 8 slices", "on the CPU"]


def too_much_for_numpy():
    np.zeros(10**14)


def too_much_for_torch():
    torch.zeros(10**14)


def too_much_for_simpleitk():
    sitk.Image([20000] * 3, sitk.sitkFloat64)


@pytest.mark.parametrize("work", [too_much_for_numpy, too_much_for_torch, too_much_for_simpleitk])
def test_too_little_memory_is_said_in_one_sentence(work):
    with pytest.raises(InputError, match=r"^There is not enough memory.*close other programs or crop the scan.*\.$"):
        explain_out_of_memory()(work)()


def test_other_errors_do_not_count_as_a_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="defect"), explain_out_of_memory():
        raise RuntimeError("defect")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_what_a_failed_search_held_is_given_back_before_the_next_begins(monkeypatch, device):
    class Variables:
        def __init__(self):
            self.optimiser = self  # held in a circle

    def search(*arguments):
        nonlocal held
        if held is None:
            variables = Variables()
            held = ref(variables)
            raise RuntimeError("out of memory")
        return "found"

    held, emptied = None, []
    monkeypatch.setattr(latent, "search", search)
    monkeypatch.setattr(getattr(torch, device), "empty_cache", lambda: emptied.append(held() is None))
    assert run(device)[:2] == ("found", device)
    assert emptied == [True]
