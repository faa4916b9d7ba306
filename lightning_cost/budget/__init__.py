"""How much is allowed: limits on the deployed model and on the run that makes it."""
