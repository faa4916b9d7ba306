"""Latency of any widths on a device, from what was measured there."""
