"""What a run does if the memory of its device is not enough."""

from weakref import ref

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import Cancelled, InputError, explain_out_of_memory, is_out_of_memory
from MedInpaintLib.search import device
from MedInpaintLib.search.fallback import with_fallback

FULL = {  # the errors of a device whose memory is full, or used by another program
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cuda as it starts": RuntimeError("CUDA error: out of memory"),
    "cuda of another program": RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)."),
}


class Work:
    """Work that fails with these errors, one for each attempt, and then succeeds."""

    def __init__(self, *errors):
        self.errors, self.attempts = list(errors), []

    def __call__(self, place, chunk, progress):
        self.attempts.append((str(place), chunk))
        progress(0.5, "half way")
        if self.errors:
            raise self.errors.pop(0)
        progress(1.0, "settled")
        return f"found on {place}"


@pytest.fixture
def released(monkeypatch):
    """The devices whose memory is released."""
    devices = []
    monkeypatch.setattr(device, "release_memory", lambda device: devices.append(str(device)))
    return devices


def run(work, device="cuda", progress=lambda done, message: None):
    return with_fallback(work, torch.device(device), progress)


@pytest.mark.parametrize("device", ["cuda", "mps", "cpu"])
def test_work_that_fits_is_done_once_on_the_chosen_device(released, device):
    work = Work()
    assert run(work, device) == (f"found on {device}", device, [])
    assert work.attempts == [(device, 32)]
    assert released == []


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_device_is_tried_with_smaller_batches(released, error):
    work = Work(error)
    outcome, place, (warning,) = run(work)
    assert (outcome, place) == ("found on cuda", "cuda")
    assert work.attempts == [("cuda", 32), ("cuda", 8)]
    assert released == ["cuda"]
    assert warning.startswith("The cuda device was busy or out of memory: the search was done in batches of 8 slices,")


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.usefixtures("released")
def test_if_a_device_stays_full_the_work_is_done_on_the_cpu(device):
    work = Work(FULL[device], FULL[device])
    outcome, place, (warning,) = run(work, device)
    assert (outcome, place) == ("found on cpu", "cpu")
    assert work.attempts == [(device, 32), (device, 8), ("cpu", 32)]
    assert f"The {device} device" in warning
    assert "on the CPU" in warning


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), InputError("Wrong."), Cancelled(), OSError()])
def test_another_error_is_raised_as_it_is_without_a_second_attempt(error):
    work = Work(error)
    with pytest.raises(type(error)) as raised:
        run(work)
    assert raised.value is error
    assert work.attempts == [("cuda", 32)]


def test_on_the_cpu_there_is_no_second_attempt():
    work = Work(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="allocate"):
        run(work, "cpu")
    assert work.attempts == [("cpu", 32)]


@pytest.mark.usefixtures("released")
def test_progress_says_what_happens_and_never_falls():
    events = []
    run(Work(FULL["cuda"], FULL["cuda"]), progress=lambda done, message: events.append((done, message)))
    fractions, messages = zip(*events, strict=True)
    assert list(fractions) == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert messages[0] == "preparing the search on cuda"
    starts = [message for message in messages if "starting again" in message]
    assert [start.split("again ")[1] for start in starts] == ["in batches of 8 slices", "on the CPU"]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_memory_of_a_failed_attempt_is_released_before_the_next_one(monkeypatch, device):
    class Variables:
        def __init__(self):
            self.cycle = self  # a reference cycle, as an optimiser has

    def work(*arguments):
        nonlocal failed
        if failed is None:
            variables = Variables()
            failed = ref(variables)
            raise RuntimeError("out of memory")
        return "found"

    failed, emptied = None, []
    monkeypatch.setattr(getattr(torch, device), "empty_cache", lambda: emptied.append(failed() is None))
    assert run(work, device)[:2] == ("found", device)
    assert emptied == [True]


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.zeros(10**14),
        lambda: torch.zeros(10**14),
        lambda: sitk.Image([20000] * 3, sitk.sitkFloat64),
    ],
    ids=["numpy", "torch", "SimpleITK"],
)
def test_a_lack_of_memory_is_explained_in_one_sentence(allocate):
    with pytest.raises(InputError, match=r"^There is not enough memory.*close other programs or crop the scan.*\.$"):
        explain_out_of_memory()(allocate)()


def test_other_errors_do_not_count_as_a_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="defect"), explain_out_of_memory():
        raise RuntimeError("defect")
