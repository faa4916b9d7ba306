"""What people are told when quantisation begins."""

from collections import Counter
from collections.abc import Sequence

from lightning_cost.quantization.prepare import PrepareQuantization


def notes_on(change: PrepareQuantization, path: str, saturating: Sequence[str]) -> list[str]:
    """One line for each thing to know about ``change``.

    Args:
        change: As it is applied.
        path: Of the network in its LightningModule.
        saturating: Runtimes in which large 8-bit products overflow on this machine.
    """
    schemes = Counter(scheme.name for scheme in change.schemes.values())
    notes = [
        f"quantisation ({', '.join(f'{count} {name}' for name, count in schemes.items())}): "
        f"{len(change.sources)} layers, {len(change.folded)} batch norms folded"
    ]
    if saturating:
        notes.append(
            f"quantisation keeps integer weights within ±64: on this machine larger 8-bit "
            f"products overflow in {', '.join(saturating)}"
        )
    notes += [
        f"quantisation leaves {path}.{name} in floating point: {reason}"
        for name, reason in change.left_float.items()
    ]
    return notes
