"""The kinds of cost that a network can have, their units and their log keys."""

from enum import Enum


class Resource(str, Enum):
    """A kind of cost; member name and value are equal, so that it reads the same in YAML.

    >>> Resource("latency_ms").log_key, Resource.macs.unit
    ('cost/latency_ms', 'MAC')
    """

    macs = "macs"
    flops = "flops"
    params = "params"
    size_bytes = "size_bytes"
    peak_memory_bytes = "peak_memory_bytes"
    latency_ms = "latency_ms"
    energy_mj = "energy_mj"
    usd_per_million = "usd_per_million"

    @property
    def unit(self) -> str:
        """The unit of every value of this resource."""
        return _UNITS[self]

    @property
    def log_key(self) -> str:
        """The key under which loggers see this resource."""
        return f"cost/{self.value}"

    @property
    def is_counted(self) -> bool:
        """Whether the value follows exactly from the network alone, without a device."""
        return self in _COUNTED

    def __str__(self) -> str:
        return self.value


_UNITS = {
    Resource.macs: "MAC",
    Resource.flops: "FLOP",
    Resource.params: "parameter",
    Resource.size_bytes: "B",
    Resource.peak_memory_bytes: "B",
    Resource.latency_ms: "ms",
    Resource.energy_mj: "mJ",
    Resource.usd_per_million: "USD per million inferences",
}
_COUNTED = {
    Resource.macs,
    Resource.flops,
    Resource.params,
    Resource.size_bytes,
    Resource.peak_memory_bytes,
}
