"""Corrections of a result that another one takes the place of, kept on the disk.

The session of a labels layer holds what the layer shows. A result that was corrected and then left
for an earlier one gets a session of its own, until it is back in the layer and was saved there::

    session of the layer     run B, corrected | run A, from the list | B again, saved
    session of B                              | made here            | deleted here
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import NotSaved, Session
from napari_unet_cells.corrections.exported import Written
from napari_unet_cells.segmentation.earlier import EarlierResult, Left

_sessions: WeakKeyDictionary[EarlierResult, Session] = WeakKeyDictionary()

#: Held while a session is exchanged for another one: threads keep, the window settles.
_exchanging = threading.Lock()


def keep(
    result: EarlierResult,
    left: Left,
    description: Mapping[str, Any],
    exports: Iterable[Written] = (),
) -> Session | None:
    """Write a result as it is left, where anything was corrected or approved in it.

    Parameters
    ----------
    result : EarlierResult
    left : Left
        As it will be kept in the list.
    description : mapping
        Of its layer; see `autosave.describe`.
    exports : iterable of Written
        Of the session of its layer: what was exported is not offered again.

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
    session = Session()
    for written in exports:
        session.note_written(written)
    session.save(left.labels.unpacked(), review, None, description)
    with _exchanging:
        before = _sessions.pop(result, None)
        _sessions[result] = session
    if before is not None:  # only now: there is always one that is whole
        before.discard()
    return session


def keep_soon(
    result: EarlierResult,
    left: Left,
    description: Mapping[str, Any],
    exports: Iterable[Written] = (),
) -> threading.Thread:
    """Call `keep` in a thread of its own; that the disk refuses is noted in the log alone."""
    thread = threading.Thread(target=_keep, args=(result, left, description, exports))
    thread.start()
    return thread


def _keep(*arguments: Any) -> None:
    try:
        keep(*arguments)
    except NotSaved as error:
        logging.getLogger(__name__).warning(str(error))


def settle(result: EarlierResult, session: Session) -> None:
    """Delete what was kept of a result, since the session of its layer holds it now.

    Parameters
    ----------
    result : EarlierResult
        Shown in the layer, and saved.
    session : Session
        Of the layer; it takes over what was exported of the result.
    """
    with _exchanging:
        kept = _sessions.pop(result, None)
    if kept is None:
        return
    known = {written.path for written in session.exports}
    for written in kept.exports:
        if written.path not in known:
            session.note_written(written)
    kept.discard()
