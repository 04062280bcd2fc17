"""The one exception that a user's mistake raises."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was found, where, what was expected, and the mend.

    Scripts print the sentence alone and exit with status 1; code that imports the package may catch ValueError.
    """


class MissingSplit(InputError):
    """A data set that is there, but without the split that was asked for."""
