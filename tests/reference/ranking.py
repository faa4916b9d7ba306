"""Global magnitude pruning, one channel at a time, as one would explain it on a blackboard."""


def remove_lowest(scores, num_removed, floors=None):
    """Which channels are left after removing the ``num_removed`` lowest of the whole network."""
    kept = {name: list(range(len(values))) for name, values in scores.items()}
    for _ in range(num_removed):
        candidates = [
            (scores[name][channel], place, channel, name)
            for place, (name, channels) in enumerate(kept.items())
            if len(channels) > max(1, (floors or {}).get(name, 1))
            for channel in channels
        ]
        if not candidates:
            break
        *_, channel, name = min(candidates)
        kept[name].remove(channel)
    return {name: tuple(channels) for name, channels in kept.items()}
