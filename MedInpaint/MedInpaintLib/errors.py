"""The two ways a run ends early: the input is wrong, or the user cancelled."""


class InputError(ValueError):
    """Wrong input or usage. Its message is one sentence: what is wrong and what to do."""


class Cancelled(Exception):
    """The user cancelled the run."""
