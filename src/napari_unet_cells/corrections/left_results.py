"""Corrections of a result that another one takes the place of, kept on the disk.

The session of a labels layer holds what the layer shows. A result that was corrected and then left
for an earlier one gets a session of its own, until it is back in the layer and was saved there::

    session of the layer     run B, corrected | run A, from the list
    session of B                              | made here; offered after a crash, or the next time
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import Session
from napari_unet_cells.segmentation.earlier import EarlierResult, Left

#: Seconds after which what is back in its layer was surely saved there.
SURELY_SAVED = 30.0

_sessions: WeakKeyDictionary[EarlierResult, Session] = WeakKeyDictionary()


def keep(result: EarlierResult, left: Left, description: Mapping[str, Any]) -> Session | None:
    """Write a result as it is left, where anything was corrected or approved in it.

    Parameters
    ----------
    result : EarlierResult
    left : Left
        As it will be kept in the list.
    description : mapping
        Of its layer; see `autosave.describe`.

    Returns
    -------
    Session or None
        None where there was nothing to keep.

    Raises
    ------
    NotSaved
        Where the disk refuses.
    """
    if not left.is_corrected and not left.approved:
        return None
    made = left.state.made
    review = Review(made.unpacked(), None, made.grid)
    for place, date in left.approved.items():
        review.approve(place, date)
    before = _sessions.pop(result, None)
    session = Session()
    session.save(left.labels.unpacked(), review, None, description)
    _sessions[result] = session
    if before is not None:  # only now: there is always one that is whole
        before.discard()
    return session


def forget(result: EarlierResult, seconds: float = SURELY_SAVED) -> None:
    """Delete what was kept of a result, once it has been in its layer for some time.

    Parameters
    ----------
    result : EarlierResult
    seconds : float
    """
    session = _sessions.pop(result, None)
    if session is not None:
        later = threading.Timer(seconds, session.discard)
        later.daemon = True  # where it does not come to it, the corrections are offered once more
        later.start()
