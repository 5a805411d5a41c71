"""The errors that a user may see, each with its exit code (docs/reference/exit-codes.md)."""

SET_ASIDE = 3
"""Exit code of a run that is finished but for work that was given up on."""
GATE_FAILED = 4
"""Exit code of a run of which a gate failed (fail_if); it goes before SET_ASIDE."""
MOST_CHARACTERS = 500  # of an error's last line


class AdvrecError(Exception):
    """One clear sentence for the user: what is wrong, where, and how to mend it. Exit code 1."""

    exit_code = 1


class UnreachableError(AdvrecError):
    """A filesystem that does not answer: nothing is known of the file that was asked for. Exit code
    1.
    """


class ConfigError(AdvrecError):
    """A wrong call or a wrong configuration. Exit code 2."""

    exit_code = 2


class StudyError(ConfigError):
    """A wrong value of a loaded study, which does not know its file; the command line names it.

    Exit code 2.
    """


def first_line(error: BaseException) -> str:
    """Reduce an error to its first line; to its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(error: BaseException) -> str:
    """The innermost reason of an error that Ray has wrapped several times; its kind if it is mute.

    Ray says why a process died in the last line of several.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:MOST_CHARACTERS]
