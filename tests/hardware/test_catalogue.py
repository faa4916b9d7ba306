import pytest
from omegaconf import OmegaConf

from lightning_cost.hardware.catalogue import conf_dir, described, known_hardware, read_description
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


def test_there_are_at_least_ten_described_devices():
    assert len([name for name in known_hardware() if name != "local"]) >= 10


# cores, GHz, multiply-accumulates a cycle and core: the comments in the files
@pytest.mark.parametrize(
    ("name", "fp32", "int8"),
    [
        ("xeon_platinum_8280", 28 * 2.7 * 32, 28 * 2.7 * 128),
        ("epyc_7763", 64 * 2.45 * 16, None),
        ("core_i7_1185g7", 4 * 3.0 * 16, 4 * 3.0 * 64),
        ("jetson_orin_nano", 1024 * 0.625, 40_000 / 2 / 2),
        ("raspberry_pi_4", 4 * 1.5 * 4, 4 * 1.5 * 8),
        ("raspberry_pi_5", 4 * 2.4 * 8, 4 * 2.4 * 32),
        ("snapdragon_865", (2.84 + 3 * 2.42) * 8, (2.84 + 3 * 2.42) * 32),
        ("cortex_m7", 0.48, 0.96),
    ],
)
def test_derived_peaks(name, fp32, int8):
    hardware = Hardware.load(name)
    assert hardware.peak_gmacs_fp32 == pytest.approx(fp32)
    assert hardware.peak_gmacs_int8 == (None if int8 is None else pytest.approx(int8))


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
