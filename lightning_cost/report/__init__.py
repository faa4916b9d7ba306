"""What came of a run: report.json, its page, the sweep of several runs, tables for a terminal."""
