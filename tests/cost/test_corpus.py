"""Our count beside torch's and fvcore's, on the networks of the field.

Those of torchvision, timm and transformers run where they are installed: `make vision`.
"""

import pytest
import torch

from benchmarks.counting_corpus import cases
from benchmarks.counting_references import TOLERANCE, fvcore_reference, torch_reference
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import count_params

LIBRARIES = ("torchvision", "timm", "transformers")
LARGEST_MACS, LARGEST_PARAMS = 1e9, 20e6  # with fvcore; larger ones in benchmarks/counting.py
SLOW = ("timm/sequencer2d_s", "transformers/recurrent_gemma")  # a step at a time, likewise
CASES = {case.name: case for case in cases() if case.name not in SLOW}
UNCOUNTED = {"transformers/fnet": ("aten._fft_c2c",)}


def of_libraries(names):
    return [
        pytest.param(name, marks=pytest.mark.vision if name.startswith(LIBRARIES) else ())
        for name in names
    ]


@pytest.mark.vision
@pytest.mark.parametrize(("library", "num_cases"), [*zip(LIBRARIES, (80, 90, 70), strict=True)])
def test_the_corpus_is_broad(library, num_cases):
    pytest.importorskip(library)
    assert sum(name.startswith(library) for name in CASES) >= num_cases


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", of_libraries(CASES))
def test_counts_are_those_of_the_references_or_the_difference_is_named(name):
    case = CASES[name]
    network, example = case.on_meta()
    report = count_macs(network, example)
    assert report.total > 0
    assert report.unsupported == UNCOUNTED.get(name, ())
    assert report.by_module[""] == report.total == sum(report.by_operator.values())
    reference = torch_reference(network, example, report)
    assert set(reference.lacking) <= {"aten._grouped_mm"}
    assert_explained(reference, report.total)
    is_small = report.total <= LARGEST_MACS and count_params(network) <= LARGEST_PARAMS
    if is_small and case.dtype is torch.float32:
        network, example = case.on_cpu()
        report = count_macs(network, example)
        assert_explained(torch_reference(network, example, report), report.total)
        assert_explained(fvcore_reference(network, example), report.total)


def assert_explained(reference, total):
    """What the reference counts is what we count; what it does not count is known by name."""
    assert reference.macs + sum(reference.lacking.values()) == pytest.approx(total, rel=TOLERANCE)
