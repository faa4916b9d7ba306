import torch
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.table import cost_table
from lightning_cost.zoo.resnet import resnet8


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.fft.fft(x).abs())


def test_every_module_has_its_line_down_to_the_depth_asked_for():
    network = resnet8(in_channels=3)
    for depth in (0, 1, 9):
        text = cost_table(network, torch.zeros(1, 3, 32, 32), max_depth=depth)
        modules = text.split("\n\n")[0].splitlines()[1:]
        expected = [name for name, _ in network.named_modules() if len(name.split(".")) <= depth]
        assert [line.split()[0] for line in modules[1:]] == [name for name in expected if name]


def test_figures_are_those_of_the_report():
    network, example = resnet8(in_channels=3), torch.zeros(1, 3, 32, 32)
    report = count_macs(network, example)
    lines = {line.split()[0]: line for line in cost_table(network, example).splitlines() if line}
    macs = report.by_module["classifier"]
    cells = ["classifier", "Linear", "650", "2600", f"{macs}", "0.0", "10"]
    assert lines["classifier"].split() == cells
    assert f"{report.by_operator['aten.convolution'] / 1e6:.4g} M" in lines["aten.convolution"]


def test_what_is_not_counted_or_never_ran_is_named():
    text = cost_table(Odd(), torch.zeros(1, 4))
    assert "not counted: aten._fft_r2c" in text
    assert "never ran: spare" in text


def test_a_network_without_work_has_a_table():
    text = cost_table(nn.Identity(), torch.zeros(1, 4))
    assert "stored: nothing" in text
