"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Bad input: the message is one line that names the file, parameter or row, what was found and what was expected.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):  # noqa: N818 - it is a request, not an error
    """The step was asked to stop (SIGTERM or SIGINT) and has saved its state; running it again goes on from there."""


class PeerLost(Exception):  # noqa: N818 - what went wrong is told by the other process
    """Another process of the same training has ended, without which this one cannot go on."""
