"""Which module an operator belongs to, and which modules no operator came from."""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from lightning_cost.cost.flop_counter import Operation
from lightning_cost.cost.forward import tensors_of
from lightning_cost.cost.storage import storage_key

_IDLE = (nn.Identity, nn.Dropout, nn.modules.dropout._DropoutNd)


class Attribution:
    """Follows the modules of a network while it runs.

    An operator belongs to every module that is running. TorchScript and exported graphs run their
    children unseen; there it belongs to the child whose weights it reads as well.

    Args:
        network: The network; watched while ``following`` is entered.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._hiding = {name for name, module in self._modules.items() if _hides_children(module)}
        self._scripted = {
            id(module)
            for module in self._modules.values()
            if isinstance(module, torch.jit.ScriptModule)
        }
        self._running: list[str] = []
        self._alive: set[str] = set()
        self._owners: dict[Hashable, list[str]] = defaultdict(list)
        for name, module in self._modules.items():
            for tensor in _own_tensors(module):
                self._owners[storage_key(tensor)].append(name)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Know, meanwhile, which modules are running."""
        names = {id(module): name for name, module in self._modules.items()}

        def enter(module: nn.Module, *_: object) -> None:
            self._running.append(names[id(module)])
            self._alive.add(self._running[-1])

        def leave(*_: object) -> None:
            self._running.pop()

        def enter_scripted(module: nn.Module, *_: object) -> None:
            if id(module) in self._scripted:
                enter(module)

        def leave_scripted(module: nn.Module, *_: object) -> None:
            if id(module) in self._scripted:
                leave()

        with ExitStack() as stack:
            for module in self._modules.values():
                if not isinstance(module, torch.jit.ScriptModule):
                    hooks = (
                        module.register_forward_pre_hook(enter),
                        module.register_forward_hook(leave, always_call=True),
                    )
                    for hook in hooks:
                        stack.callback(hook.remove)
            if self._scripted:  # which take no hooks of their own
                stack.callback(register_module_forward_pre_hook(enter_scripted).remove)
                handle = register_module_forward_hook(leave_scripted, always_call=True)
                stack.callback(handle.remove)
            yield

    def modules_of(self, operation: Operation) -> set[str]:
        """The modules that an operator which has just run belongs to, the network included."""
        tensors = tensors_of(operation.arguments)
        owners = {name for tensor in tensors for name in self._owners.get(storage_key(tensor), ())}
        self._alive |= owners
        innermost = self._running[-1] if self._running else ""
        modules = {"", *self._running}
        if innermost in self._hiding and innermost not in owners:
            for owner in owners:
                parents = _with_parents(owner)
                if innermost in parents:
                    modules |= parents
        return modules

    def unused(self) -> tuple[str, ...]:
        """The modules that never ran and whose weights were never read, without what they hold.

        Those that would not have done anything (identities, dropout) are not among them.
        """
        alive = {parent for name in self._alive for parent in _with_parents(name)}
        unused = []
        for name, module in self._modules.items():
            parents = _with_parents(name) - {name}
            is_within = not parents <= alive
            is_unseen = not self._hiding.isdisjoint(parents) and not list(module.parameters())
            if name not in alive and not is_within and not is_unseen and _does_work(module):
                unused.append(name)
        return tuple(unused)


def _hides_children(module: nn.Module) -> bool:
    return isinstance(module, (torch.jit.ScriptModule, torch.fx.GraphModule))


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _with_parents(name: str) -> set[str]:
    """``name`` and the names of the modules around it, the network's included."""
    parts = name.split(".")
    return {".".join(parts[:depth]) for depth in range(len(parts) + 1)}


def _does_work(module: nn.Module) -> bool:
    is_leaf = next(module.children(), None) is None
    if is_leaf and isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
        return False
    if is_leaf:
        return not isinstance(module, _IDLE)
    return any(_does_work(child) for child in module.children())
