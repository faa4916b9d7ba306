"""Settings that are of the wrong type, told with what is right."""


def require_type(name: str, value: object, usual: object) -> None:
    """Refuse a value of another type than the usual one; whole numbers are numbers too.

    Args:
        name: Of the setting, as a person knows it.
        value: As it was given.
        usual: A value of the right type: a bool, an int or a float.

    Raises:
        ValueError: If ``value`` is of another type.

    >>> require_type("bits", 4.5, 4)
    Traceback (most recent call last):
    ValueError: bits must be a whole number, got 4.5; 4 is usual
    """
    if isinstance(usual, bool):
        is_right, wanted = isinstance(value, bool), "true or false"
    else:
        allowed = (int, float) if isinstance(usual, float) else int
        is_right = isinstance(value, allowed) and not isinstance(value, bool)
        wanted = "a number" if isinstance(usual, float) else "a whole number"
    if not is_right:
        raise ValueError(f"{name} must be {wanted}, got {value!r}; {usual!r} is usual")
