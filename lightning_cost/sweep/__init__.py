"""Sweeps over configurations that never train what cannot fit."""
