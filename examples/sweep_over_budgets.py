"""Three budgets in one sweep, and the table of what each of them costs in accuracy.

Run it: python examples/sweep_over_budgets.py (about three minutes on two cores).
"""

import sys

from lightning_cost.cli import main as lightning_cost


def main() -> int:
    return lightning_cost(["fit", "-m", "compress=quick", "budget.macs=70%,50%,25%"])


if __name__ == "__main__":
    sys.exit(main())
