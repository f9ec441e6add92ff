"""Say why no network could be made of a file in a few words: Keras says it in pages.

What it raises repeats the whole network, or names the functions of a library. The sentence that the
user reads names the cause; the error itself stays its ``__cause__``, for whoever looks for more.
"""

from __future__ import annotations

import re

from napari_unet_cells.untrusted.rules import printable

#: A layer as Keras writes it: ``<Conv2D name=head, built=True>``.
_LAYER = re.compile(r"<\w+ name=([^,>]+)")

#: Of whatever a library says, the words that tell a cause, and what is said of it.
_CAUSES = (
    (re.compile("OOM|[Oo]ut of memory|[Uu]nable to allocate"), "it does not fit into the memory"),
    (re.compile(r"model\.weights\.h5"), "it has no weights"),
    (re.compile("[Uu]nable to|[Cc]an't open|HDF5|h5py"), "its weights are damaged"),
)


def loading_problem(
    error: BaseException, otherwise: str = "its description is not that of a network"
) -> str:
    """Say why a network could not be loaded, as the end of a sentence.

    Parameters
    ----------
    error : Exception
        Whatever Keras, h5py or a backend raised.
    otherwise : str
        Said where the error does not tell the cause.
    """
    said = str(error)
    if isinstance(error, MemoryError):
        return "it does not fit into the memory"
    for words, cause in _CAUSES:
        if words.search(said):
            return cause
    named = _LAYER.findall(said)
    if named:  # the last one is what was tried; before it the whole network may stand
        return (
            f"the weights of its layer {printable(named[-1], 60)} are missing or of another shape"
        )
    return otherwise
