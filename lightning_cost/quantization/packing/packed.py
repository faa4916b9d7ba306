"""Saving a quantised network in the bits that its schemes give it, and loading it again."""

from pathlib import Path

from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.network.deploy import Deployable
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.original import original_of
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.packing.container import read_container, write_container
from lightning_cost.quantization.packing.contents import Contents
from lightning_cost.quantization.packing.rebuild import MismatchError, Reader, rebuild


def packed_size_bytes(network: nn.Module) -> int:
    """Bytes of ``network`` as :func:`save_packed` stores it, but for names and structure.

    By the formula: each weight in the bits of the smallest codec that holds its layer's integers,
    with two bits a filter where filters differ in their powers of two; four bytes for each scale,
    one where all of a layer are powers of two; each bias in the fewest bits that hold its layer's;
    five bytes for each activation's grid; what is left in floating point as it is.

    Args:
        network: Converted, or prepared and calibrated; left as it is.

    Raises:
        ValueError: As :func:`save_packed`.
    """
    return Contents.of(_converted(network)).num_bytes()


def save_packed(network: nn.Module, path: str | Path) -> Path:
    """Write ``network`` to one file, each weight in as few bits as its integers need.

    The file holds numbers and the names of modules, no code. It is the form for storage and
    transport: :func:`load_packed` makes of it the network that ``export`` writes for a runtime.

    Args:
        network: Converted, or prepared and calibrated; left as it is.
        path: The file to write.

    Returns:
        ``path``.

    Raises:
        ValueError: If an activation has no range yet, or a tensor is of a type without a form in
            the file.
        OSError: If ``path`` cannot be written.
    """
    contents = Contents.of(_converted(network))
    write_container(Path(path), contents.header(), b"".join(contents.parts()))
    return Path(path)


def load_packed(network: nn.Module, path: str | Path) -> nn.Module:
    """Give a freshly built network the structure and the integers of a packed one.

    Args:
        network: The architecture that the run started from, on the CPU; changed in place.
        path: A file that :func:`save_packed` wrote. No code in it is run.

    Returns:
        ``network``, converted and in evaluation mode. It computes what the saved one did, bit for
        bit and in the same dtypes, whichever it was built in.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is cut off or changed in any bit, with ``network`` left as it was;
            or if it belongs to another architecture.
    """
    header, body = read_container(Path(path))
    try:
        rebuild(original_of(network), header, Reader(body))
    except MismatchError as error:
        raise ValueError(
            f"network must be of the architecture that was packed, got {error}; "
            "build the network that the file was made from"
        ) from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(
            f"path must be a file that save_packed wrote, got {str(path)!r}, which makes no sense "
            f"({type(error).__name__}: {error}); pack the network anew"
        ) from error
    return network.eval().requires_grad_(False)


def _converted(network: nn.Module) -> nn.Module:
    network = original_of(network)
    if not activation_fake_quantizers(network):
        return network
    converted = duplicated(network).eval()
    for module in list(converted.modules()):
        for change in lineage_of(module):
            if isinstance(change, Deployable):
                change.deploy(module)
    return converted
