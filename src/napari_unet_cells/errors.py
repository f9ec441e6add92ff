"""The one exception that carries a sentence for the user, and what a library's error says.

Wrong input and failures of the machine (a full disk, no memory, an unreadable file) end here:
the widgets show the sentence as a notification, the command line prints it on stderr and exits
with code 2. Anything else that is raised is a defect of ours.
"""


class UserError(Exception):
    """A sentence that names what is wrong and the way out of it."""


class OutOfMemory(UserError):
    """The device has no memory for a batch: go on with smaller ones, or on the CPU.

    Raised by `predict.Network.predict`; `predict.Network.recover` gives the network to go on
    with. Who does not do so shows the sentence, as that of any `UserError`.
    """

    def __init__(
        self,
        message: str = "The memory of the computer is full. Close other programs that use it, "
        "and try again.",
    ) -> None:
        super().__init__(message)


class LostDevice(OutOfMemory):
    """A GPU failed or went away while it computed: go on without it, in a fresh process.

    What its library says afterwards in the same process is not to be trusted.
    """

    def __init__(
        self,
        message: str = "The GPU failed while it computed. Try again: the CPU computes where "
        "it fails.",
    ) -> None:
        super().__init__(message)


def reason(error: BaseException) -> str:
    """Give the line of a library's error that says why, of 200 characters at most.

    OpenVINO and TensorFlow first say where ("Exception from x.cpp:7:"), in lines that end with
    a colon.

    Parameters
    ----------
    error : BaseException
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":")]
    return (telling or lines or [""])[0][:200]
