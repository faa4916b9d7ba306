from collections import Counter

import pytest
from omegaconf import OmegaConf

from lightning_cost.hardware.catalogue import conf_dir, described, known_hardware, read_description
from lightning_cost.hardware.description import FIGURES
from lightning_cost.hardware.device import Hardware


@pytest.mark.parametrize("name", known_hardware())
def test_every_description_loads_and_bears_its_file_name(name):
    hardware = Hardware.load(name)
    assert hardware.name == name
    if name != "local":
        assert not hardware.is_local
        assert hardware.source
        assert hardware.date


@pytest.mark.parametrize("name", known_hardware())
def test_every_description_fits_the_schema(name):
    path = conf_dir() / "hardware" / f"{name}.yaml"
    merged = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(path))
    assert OmegaConf.to_object(merged) == Hardware.load(name)


DESCRIBED = [name for name in known_hardware() if name != "local"]


def test_there_are_described_devices_of_every_kind():
    assert len(DESCRIBED) >= 22
    kinds = Counter(Hardware.load(name).kind for name in DESCRIBED)
    assert kinds["server"] >= 4
    assert kinds["laptop"] >= 2
    assert kinds["gpu"] >= 4
    assert kinds["board"] >= 4
    assert kinds["phone"] >= 3
    assert kinds["microcontroller"] >= 3


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_figure_says_where_it_comes_from(name):
    hardware = Hardware.load(name)
    given = {figure for figure in FIGURES if getattr(hardware, figure) is not None}
    assert set(hardware.provenance) == given
    # nothing of the catalogue was measured by us
    assert "measured" not in hardware.provenance.values()


@pytest.mark.parametrize("name", DESCRIBED)
def test_derived_peaks_have_their_derivation(name):
    derived = [
        figure
        for figure, origin in Hardware.load(name).provenance.items()
        if origin == "derived" and figure.startswith("peak")
    ]
    assert bool(derived) == (name in DERIVED)


@pytest.mark.parametrize("name", DESCRIBED)
def test_microcontrollers_have_sram_and_flash(name):
    hardware = Hardware.load(name)
    is_small = hardware.kind == "microcontroller"
    assert is_small == (hardware.sram_bytes is not None) == (hardware.flash_bytes is not None)


# cores, GHz, multiply-accumulates a cycle and core: the comments in the files; where a maker counts
# with sparsity or in TOPS, half of half of it
DERIVED = {
    "xeon_platinum_8280": {"fp32": 28 * 2.7 * 32, "int8": 28 * 2.7 * 128},
    "xeon_platinum_8480": {
        "fp32": 56 * 2.0 * 32,
        "fp16": 56 * 2.0 * 16 * 16 * 32 / 16,
        "int8": 56 * 2.0 * 16 * 16 * 64 / 16,
    },
    "epyc_7763": {"fp32": 64 * 2.45 * 16},
    "epyc_9654": {"fp32": 96 * 2.4 * 16, "fp16": 96 * 2.4 * 32, "int8": 96 * 2.4 * 64},
    "graviton3": {"fp32": 64 * 2.6 * 16, "int8": 64 * 2.6 * 64},
    "core_i7_1185g7": {"fp32": 4 * 3.0 * 16, "int8": 4 * 3.0 * 64},
    "core_i7_8565u": {"fp32": 4 * 1.8 * 16},
    "ryzen_7_7840u": {"fp32": 8 * 3.3 * 16, "fp16": 8 * 3.3 * 32, "int8": 8 * 3.3 * 64},
    "apple_m1": {"fp32": 4 * 3.2 * 16, "int8": 4 * 3.2 * 64},
    "nvidia_h100": {"fp16": 1979e3 / 2 / 2, "int8": 3958e3 / 2 / 2},
    "nvidia_l4": {"fp16": 242e3 / 2 / 2, "int8": 485e3 / 2 / 2},
    "jetson_orin_nano": {"fp32": 1024 * 0.625, "int8": 40_000 / 2 / 2},
    "jetson_agx_orin": {"fp32": 2048 * 1.3, "int8": 170_000 / 2 / 2},
    "raspberry_pi_4": {"fp32": 4 * 1.5 * 4, "int8": 4 * 1.5 * 8},
    "raspberry_pi_5": {"fp32": 4 * 2.4 * 8, "int8": 4 * 2.4 * 32},
    "snapdragon_865": {"fp32": (2.84 + 3 * 2.42) * 8, "int8": (2.84 + 3 * 2.42) * 32},
    "snapdragon_888": {"fp32": 2.84 * 16 + 3 * 2.42 * 8, "int8": 2.84 * 64 + 3 * 2.42 * 32},
    "snapdragon_8_gen_2": {"fp32": 3.2 * 16 + 4 * 2.8 * 8, "int8": 3.2 * 64 + 4 * 2.8 * 32},
    "dimensity_9000": {"fp32": 3.05 * 16 + 3 * 2.85 * 8, "int8": 3.05 * 64 + 3 * 2.85 * 32},
    "cortex_m4": {"fp32": 0.18 / 2, "int8": 0.18 * 2},
    "cortex_m7": {"fp32": 0.48, "int8": 0.48 * 2},
    "cortex_m33": {"fp32": 0.16 / 2, "int8": 0.16 * 2},
    "cortex_m55": {"fp32": 0.4 * 2, "int8": 0.4 * 8},
}
# bits of all channels, million transfers a second
DERIVED_BANDWIDTHS = {
    "xeon_platinum_8280": (6 * 64, 2933),
    "xeon_platinum_8480": (8 * 64, 4800),
    "epyc_7763": (8 * 64, 3200),
    "epyc_9654": (12 * 64, 4800),
    "graviton3": (8 * 64, 4800),
    "core_i7_1185g7": (128, 4267),
    "ryzen_7_7840u": (128, 7500),
    "apple_m1": (128, 4267),
    "raspberry_pi_4": (32, 3200),
    "raspberry_pi_5": (32, 4267),
    "snapdragon_865": (64, 5500),
    "snapdragon_888": (64, 6400),
    "snapdragon_8_gen_2": (64, 8400),
    "dimensity_9000": (64, 7500),
    "cortex_m4": (32, 180),
    "cortex_m7": (64, 240),
    "cortex_m33": (32, 160),
    "cortex_m55": (64, 400),
}


@pytest.mark.parametrize("name", DERIVED)
def test_derived_peaks(name):
    hardware = Hardware.load(name)
    derived = {
        figure.removeprefix("peak_gmacs_"): getattr(hardware, figure)
        for figure, origin in hardware.provenance.items()
        if origin == "derived" and figure.startswith("peak")
    }
    assert derived == {peak: pytest.approx(value) for peak, value in DERIVED[name].items()}


def test_derived_bandwidths():
    derived = {
        name: hardware.bandwidth_gb_s
        for name, hardware in ((name, Hardware.load(name)) for name in DESCRIBED)
        if hardware.provenance["bandwidth_gb_s"] == "derived"
    }
    assert derived == {
        name: pytest.approx(bits / 8 * rate / 1e3, rel=2e-3)
        for name, (bits, rate) in DERIVED_BANDWIDTHS.items()
    }


def test_unknown_hardware_lists_the_known():
    with pytest.raises(ValueError, match=r"hardware must be one of .*raspberry_pi_4.*got 'abacus'"):
        described("abacus")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be that of .*nowhere\.yaml"):
        read_description(tmp_path / "nowhere.yaml")


def test_a_file_without_names(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="must hold names and values, got list"):
        read_description(path)
