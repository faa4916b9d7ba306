"""What the modules of a network read and write while it runs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_cost.cost.forward import tensors_of


@dataclass(frozen=True, slots=True)
class Moved:
    """What one call of a module read and wrote.

    Args:
        first_input, first_output: Shapes of its first tensors.
        num_read, num_written: Elements of all of them.
        bytes_read, bytes_written: Their bytes.
        keeps_shape: Whether what it wrote has the shape of what it read.
    """

    first_input: tuple[int, ...]
    first_output: tuple[int, ...]
    num_read: int
    num_written: int
    bytes_read: int
    bytes_written: int
    keeps_shape: bool


@contextmanager
def counting_calls(
    modules: Mapping[str, nn.Module],
) -> Iterator[dict[str, Counter[Moved]]]:
    """How often each module runs meanwhile, by what it moves.

    Args:
        modules: By name.
    """
    calls: dict[str, Counter[Moved]] = defaultdict(Counter)

    def counter(name: str) -> Callable[..., None]:
        def count(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            inputs, outputs = tensors_of((args, kwargs)), tensors_of(output)
            moved = Moved(
                first_input=tuple(inputs[0].shape) if inputs else (),
                first_output=tuple(outputs[0].shape) if outputs else (),
                num_read=sum(tensor.numel() for tensor in inputs),
                num_written=sum(tensor.numel() for tensor in outputs),
                bytes_read=_num_bytes(inputs),
                bytes_written=_num_bytes(outputs),
                keeps_shape={each.shape for each in outputs} == {each.shape for each in inputs},
            )
            calls[name][moved] += 1

        return count

    with ExitStack() as stack:
        for name, module in modules.items():
            hook = module.register_forward_hook(counter(name), with_kwargs=True)
            stack.callback(hook.remove)
        yield calls


def _num_bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
