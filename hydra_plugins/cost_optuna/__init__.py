"""Hydra finds the sweeper ``cost_optuna`` here."""
