"""From a configuration to callbacks, and from callbacks to a deployed model with its report."""
