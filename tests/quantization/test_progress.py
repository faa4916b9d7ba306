import torch

from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.gradual import GradualRounding
from lightning_cost.quantization.norms import FoldableNorm
from lightning_cost.quantization.progress import Progress
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.terms import ChosenTerms
from lightning_cost.quantization.weights import quantized_weights
from tests.quantization.networks import prepared

RULES = QuantizationRules(freeze_after=0.5, freeze_norms_after=0.75, gradual=[0.25, 0.5, 1.0])


def standing_still(network):
    """Whether ranges do, whether batch norms do, and the share of weights rounded for good."""
    norms = [module for module in network.modules() if isinstance(module, FoldableNorm)]
    masks = [
        quantizer.rounding.is_rounded.flatten()
        for _, quantizer, _ in quantized_weights(network)
        if isinstance(quantizer.rounding, GradualRounding)
    ]
    return (
        not any(each.observer_enabled for each in activation_fake_quantizers(network).values()),
        all(bool(norm.is_frozen) for norm in norms),
        round(float(torch.cat(masks).float().mean()), 2),
    )


def begun(epochs=2):
    progress = Progress(epochs, RULES)
    progress.is_begun = True
    return progress


def test_things_stand_still_one_after_another_in_the_copies_too():
    network, _ = prepared("residual", gradual=[0.25, 0.5, 1.0])
    copy, _ = prepared("residual", gradual=[0.25, 0.5, 1.0])
    progress, seen = begun(), []
    for step in range(8):  # four steps an epoch
        progress.advance(network, [copy], step % 4 / 4)
        assert standing_still(network) == standing_still(copy)
        seen.append(standing_still(network))
        progress.num_epochs_done += step % 4 == 3
    assert [ranges for ranges, _, _ in seen] == [False] * 4 + [True] * 4
    assert [norms for _, norms, _ in seen] == [False] * 6 + [True] * 2
    shares = [share for *_, share in seen]
    assert shares == sorted(shares)
    assert sorted(set(shares)) == [0.25, 0.5, 1.0]
    assert progress.is_finished


def test_copies_have_the_terms_of_the_network_whatever_averaging_made_of_theirs():
    network, _ = prepared("residual", scheme=FLightNN())
    averaged, _ = prepared("residual", scheme=FLightNN())
    for terms in _terms_of(averaged):
        terms.zero_()
    begun().advance(network, [averaged], 0.0)
    found = [terms.tolist() for terms in _terms_of(network)]
    assert [terms.tolist() for terms in _terms_of(averaged)] == found
    assert any(2 in terms for terms in found)


def _terms_of(network):
    return [
        quantizer.rounding.num_terms
        for _, quantizer, _ in quantized_weights(network)
        if isinstance(quantizer.rounding, ChosenTerms)
    ]


def test_goes_on_from_its_state_wherever_it_was_taken():
    for stop in range(8):
        networks = [prepared("residual", gradual=[0.25, 0.5, 1.0])[0] for _ in range(2)]
        whole, parted = begun(), begun()
        for step in range(8):
            if step == stop:
                state = parted.state_dict()
                parted = Progress(2, RULES)
                parted.load_state_dict(state)
            for progress, network in zip((whole, parted), networks, strict=True):
                progress.advance(network, [], step % 4 / 4)
                progress.num_epochs_done += step % 4 == 3
            assert standing_still(networks[0]) == standing_still(networks[1])
            assert whole.state_dict() == parted.state_dict()


def test_phases():
    progress = Progress(1, RULES)
    assert (progress.is_training, progress.is_finished) == (False, False)
    progress.is_begun = True
    assert (progress.is_training, progress.is_finished) == (True, False)
    progress.num_epochs_done = 1
    assert (progress.is_training, progress.is_finished) == (False, True)
    assert begun(epochs=0).is_finished
