"""What a run has used so far: computation, time, energy, money, emissions."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightning_cost.cost.plain_data import amount
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.joules import EnergyCounters, NoCounters
from lightning_cost.hardware.prices import Prices
from lightning_cost.monitor.rank_sum import RankSum
from lightning_cost.monitor.step_flops import StepFlops

JOULES_PER_KWH = 3.6e6
_ROUNDING = 1e-9
_PRICED = ("energy_kwh", "co2_kg", "usd")
_AMOUNTS = (
    *("train_flops", "eval_flops", "search_flops", "seconds", "joules", "measured_s"),
    *_PRICED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What a run has used, its earlier parts before a resume included.

    Args:
        train_flops: FLOPs of the training steps: forward, loss, backward and optimizer.
        eval_flops: FLOPs of the validation steps.
        search_flops: FLOPs beside these, such as a search for a ranking.
        wall_clock_s: Time inside ``fit``.
        energy_kwh: Estimated from the training machine's power, or ``None`` if that is unknown.
        measured_energy_kwh: As the machine's own counters tell, or ``None`` without any.
        co2_kg: Estimated from the estimated energy, what a data centre adds to it, and the grid.
        usd: Rent of the training machine, or electricity of one's own, or ``None`` if unknown.
    """

    train_flops: float
    eval_flops: float = 0
    search_flops: float
    wall_clock_s: float
    energy_kwh: float | None = None
    measured_energy_kwh: float | None = None
    co2_kg: float | None = None
    usd: float | None = None

    @property
    def flops(self) -> float:
        """FLOPs of training, validation and search together."""
        return self.train_flops + self.eval_flops + self.search_flops

    def to_dict(self) -> dict[str, float]:
        """The known values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def log_metrics(self) -> dict[str, float]:
        """The known values by log key."""
        return {f"spend/{name}": value for name, value in self.to_dict().items()}


class SpendMeter:
    """Adds up what a run uses; monotonic, and goes on after a resume.

    Args:
        clock: Seconds that never go back.

    Attributes:
        training: Counts this process's training steps.
        evaluation: Counts this process's validation steps.
        searched_flops: FLOPs beside the steps so far.
        power_w: Power of a training machine while it trains; ``None`` if unknown.
        price_usd_per_hour: Rent of a training machine; ``None`` if unknown or owned.
        usd_per_kwh: Price of electricity, for a machine that is owned; else ``None``.
        co2_kg_per_kwh: Intensity of the grid; ``None`` if unknown.
        pue: What its place draws for each watt that it draws.
        num_machines: How many such machines train.

    >>> now = iter([0.0, 7200.0])
    >>> meter = SpendMeter(clock=lambda: next(now))
    >>> meter.price_usd_per_hour = 1.5
    >>> meter.start(); meter.stop()
    >>> meter.spend.usd, meter.spend.train_flops
    (3.0, 0)
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.training = StepFlops()
        self.evaluation = StepFlops()
        self.searched_flops: float = 0
        self.power_w: float | None = None
        self.price_usd_per_hour: float | None = None
        self.usd_per_kwh: float | None = None
        self.co2_kg_per_kwh: float | None = None
        self.pue = 1.0
        self.num_machines = 1
        self._clock = clock
        self._train_flops = RankSum(lambda: self.training.total)
        self._eval_flops = RankSum(lambda: self.evaluation.total)
        self._joules = RankSum(lambda: self._own_joules)
        self._own_joules = 0.0
        self._measured_s: float | None = None
        self._counters: EnergyCounters | None = None
        self._read_at = (0.0, 0.0)
        self._not_measured: dict[str, str] = {}
        self._lost_search_flops: float = 0
        self._seconds = 0.0
        self._seconds_before = 0.0
        self._priced_before: dict[str, float] = {}
        self._started_at: float | None = None

    def start(self) -> None:
        """Let time run; a second call in a row does nothing."""
        if self._started_at is None:
            self._started_at = self._clock()

    def stop(self) -> None:
        """Stop time; a second call in a row does nothing."""
        self.read_joules()
        if self._counters is not None:
            self._counters.close()
            self._counters = None
        self._seconds = self.seconds
        self._started_at = None

    def price_by(self, machine: Hardware, *, num_devices: int, num_nodes: int) -> None:
        """Take power, prices and the grid from the description of what trains.

        A description of a GPU is of one device, any other of a machine.
        """
        prices = Prices.load(machine.prices)
        self.power_w, self.pue = machine.power_w, machine.pue
        self.price_usd_per_hour = machine.rent_usd_per_hour
        owned = prices.usd_per_kwh(machine.region).value
        self.usd_per_kwh = owned if machine.is_owned else None
        self.co2_kg_per_kwh = prices.co2_kg_per_kwh(machine.region).value
        self.num_machines = num_devices if machine.kind == "gpu" else num_nodes

    def measure_energy(self, counters: EnergyCounters | NoCounters) -> None:
        """Read ``counters`` from now on, and close them in the end."""
        if isinstance(counters, NoCounters):
            self._not_measured = {"energy": counters.reason}
            return
        self._counters, self._not_measured = counters, counters.missing
        self._measured_s = self._measured_s or 0.0
        self._read_at = (self.seconds, sum(counters.read_j().values()))

    def read_joules(self) -> None:
        """Bring the measured energy up to date, which no other call does."""
        if self._counters is None or self._measured_s is None:
            return
        before_s, before_j = self._read_at
        try:
            self._read_at = (self.seconds, sum(self._counters.read_j().values()))
        except (OSError, ValueError) as error:
            self._counters.close()
            self._counters, self._not_measured = None, {"energy": f"since then: {error}"}
            return
        self._measured_s += self._read_at[0] - before_s
        self._own_joules += self._read_at[1] - before_j

    def share_with(self, *, num_ranks: int, num_nodes: int) -> None:
        """Take the other ranks to do as this one does, until :meth:`sync` tells better."""
        self._train_flops.num_alike = self._eval_flops.num_alike = num_ranks
        self._joules.num_alike = num_nodes

    def sync(self, sum_over_ranks: Callable[[float], float]) -> None:
        """Add up what all ranks did; to be called on all of them."""
        for total in (self._train_flops, self._eval_flops, self._joules):
            total.sync(sum_over_ranks)

    @property
    def seconds(self) -> float:
        """Time so far, in this run and in those it was resumed from."""
        if self._started_at is None:
            return self._seconds
        return self._seconds + self._clock() - self._started_at

    @property
    def spend(self) -> Spend:
        """Everything so far."""
        joules = self._joules.total
        # a counter that does not move, as virtual machines may have, has not measured nothing
        is_measured = self._measured_s is not None and joules > 0
        return Spend(
            train_flops=self._train_flops.total,
            eval_flops=self._eval_flops.total,
            search_flops=self._lost_search_flops + self.searched_flops,
            wall_clock_s=self.seconds,
            measured_energy_kwh=joules / JOULES_PER_KWH if is_measured else None,
            **{name: self._with_before(name) for name in _PRICED},
        )

    def _with_before(self, name: str) -> float | None:
        """An amount so far: what it was before the resume, and what followed by today's figures.

        Where it was not known before, today's figures price all.
        """
        before = self._priced_before.get(name)
        seconds = self.seconds if before is None else self.seconds - self._seconds_before
        since = self._priced(seconds)[name]
        return since if before is None or since is None else before + since

    def _priced(self, seconds: float) -> dict[str, float | None]:
        """Energy, emissions and money of the training machines in so many seconds."""
        machine_hours = self.num_machines * seconds / 3600
        energy_kwh = None if self.power_w is None else self.power_w * machine_hours / 1e3
        return {
            "energy_kwh": energy_kwh,
            "co2_kg": _times(energy_kwh, self.pue, self.co2_kg_per_kwh),
            "usd": _times(machine_hours, self.price_usd_per_hour)
            if self.price_usd_per_hour is not None
            else _times(energy_kwh, self.pue, self.usd_per_kwh),
        }

    @property
    def assumptions(self) -> dict[str, float | None]:
        """The figures that energy, emissions and money were estimated with."""
        return {
            "power_w": self.power_w,
            "price_usd_per_hour": self.price_usd_per_hour,
            "usd_per_kwh": self.usd_per_kwh,
            "co2_kg_per_kwh": self.co2_kg_per_kwh,
            "pue": self.pue,
        }

    @property
    def estimated(self) -> list[str]:
        """The FLOPs that are not exact."""
        steps = {"train_flops": self.training, "eval_flops": self.evaluation}
        return [name for name, counted in steps.items() if counted.notes]

    @property
    def notes(self) -> dict[str, str]:
        """What FLOPs and measured energy rest on, and leave out."""
        return {
            "train_flops": _note_of(self.training),
            "eval_flops": _note_of(self.evaluation),
            "search_flops": "MACs of the judged candidates × samples",
            "measured_energy_kwh": self._measured_energy_note(),
        }

    def _measured_energy_note(self) -> str:
        """What the counters cover, and why not the rest."""
        missing = "; ".join(
            f"{kind} not measured: {why}" for kind, why in self._not_measured.items()
        )
        if self._measured_s is None:
            return missing
        if self._joules.total == 0:
            return f"the counters did not move in {self._measured_s:.0f} s"
        covered = f"counters read for {self._measured_s:.0f} of {self.seconds:.0f} s, idle included"
        return f"{covered}; {missing}" if missing else covered

    def state_dict(self) -> dict[str, Any]:
        """What is used so far, as plain data."""
        self.read_joules()
        return {
            "train_flops": self._train_flops.total,
            "eval_flops": self._eval_flops.total,
            "search_flops": self._lost_search_flops + self.searched_flops,
            "lost_search_flops": self._lost_search_flops,
            "seconds": self.seconds,
            "joules": self._joules.total,
            "measured_s": self._measured_s,
            **{name: self._with_before(name) for name in _PRICED},
            "training": self.training.state_dict(),
            "evaluation": self.evaluation.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier part of the run had used.

        The time since :meth:`start` counts on top: setting up again is a part of the run.

        Raises:
            ValueError: If an amount is none.
        """
        measured_s, lost = state.get("measured_s"), state.get("lost_search_flops", 0)
        self._train_flops.go_on_from(amount(state["train_flops"], "train_flops"))
        self._eval_flops.go_on_from(amount(state.get("eval_flops", 0), "eval_flops"))
        self._joules.go_on_from(amount(state.get("joules", 0.0), "joules"))
        self._lost_search_flops = amount(lost, "lost_search_flops")
        searched = amount(state["search_flops"], "search_flops", least=(1 - _ROUNDING) * lost)
        self.searched_flops = searched - self._lost_search_flops
        self._seconds = self._seconds_before = amount(state["seconds"], "seconds")
        # older checkpoints have none
        priced = {name: state.get(name) for name in _PRICED}
        self._priced_before = {
            name: amount(value, name) for name, value in priced.items() if value is not None
        }
        self._measured_s = None if measured_s is None else amount(measured_s, "measured_s")
        nothing = StepFlops().state_dict()
        self.training.load_state_dict(state.get("training", nothing))
        self.evaluation.load_state_dict(state.get("evaluation", nothing))


def _times(*factors: float | None) -> float | None:
    """The product, unknown if a factor is."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _note_of(steps: StepFlops) -> str:
    left_out = [f"not counted: {', '.join(steps.unsupported)}"] if steps.unsupported else []
    return "; ".join([*(steps.notes or ("counted on real steps",)), *left_out])


def with_lost_work(saved: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """A meter's state of a checkpoint, and on top what a journal says was used after it.

    >>> saved = {"seconds": 10.0, "joules": 3.0, "search_flops": 0, "lost_search_flops": 0}
    >>> with_lost_work(saved, {"seconds": 12.0, "joules": 2.0, "search_flops": 7})
    {'seconds': 12.0, 'joules': 3.0, 'search_flops': 7, 'lost_search_flops': 7}
    """
    raised = {
        name: max(saved.get(name) or 0, written[name])
        for name in _AMOUNTS
        if written.get(name) is not None
    }
    state = {**saved, **raised}
    # a search is done again from its beginning, and its callback then knows of the second one only
    state["lost_search_flops"] = saved.get("lost_search_flops", 0) + (
        state["search_flops"] - saved["search_flops"]
    )
    return state
