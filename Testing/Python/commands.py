"""What the tests of the command share."""


def is_one_sentence(text: str) -> bool:
    """Whether stderr has one line with the name of the program and one sentence."""
    return text.startswith("medinpaint: ") and text.endswith(".\n") and text.count("\n") == 1
