"""Peak memory: what a block takes, whether or not it gives it back."""

import sys

import numpy as np
import pytest
from MedInpaintLib.evaluation.measures import memory
from MedInpaintLib.evaluation.measures.memory import PeakMemory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_that_is_freed_again_is_counted_each_time():
    for _ in range(2):
        with PeakMemory() as peak:
            np.ones(25_000_000).sum()  # 200 MB
        assert peak.megabytes == pytest.approx(200, abs=30)
    with PeakMemory() as peak:
        np.ones(1000).sum()
    assert peak.megabytes < 30


def test_there_is_no_number_where_the_system_does_not_report_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    with PeakMemory() as peak:
        pass
    assert np.isnan(peak.megabytes)
