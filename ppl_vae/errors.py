"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Bad input: the message says what was given, what is expected and how to mend it.

    The command line shows the message alone, on one line, and ends with exit status 2.
    """
