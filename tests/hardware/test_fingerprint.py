from importlib.metadata import version

from lightning_cost.hardware.fingerprint import machine_fingerprint

CPU_INFO = """processor\t: 0
model name\t: Toy CPU
flags\t\t: fpu avx2 avx512_vnni

processor\t: 1
model name\t: Other
flags\t\t: amx_int8
"""


def test_the_first_processor_and_the_runtimes_are_described(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(CPU_INFO)
    found = machine_fingerprint(path)
    assert found["cpu"] == "Toy CPU"
    assert found["cpu_flags"] == ["avx2", "avx512_vnni"]
    assert found["versions"]["torch"] == version("torch")
    assert found["num_cores"] >= 1


def test_systems_that_do_not_tell_are_described_as_far_as_python_knows(tmp_path):
    found = machine_fingerprint(tmp_path / "absent")
    assert found["cpu_flags"] == []
    assert found["cpu"]
