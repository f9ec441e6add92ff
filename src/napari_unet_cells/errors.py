"""The one exception that carries a sentence for the user.

Everything a biologist can do wrong, and everything her machine can do to her, ends
here: the widgets show the sentence as a notification, the command line prints it on
stderr and exits with code 2. Anything else that is raised is a defect of ours.
"""


class UserError(Exception):
    """A sentence that names what is wrong and the way out of it."""
