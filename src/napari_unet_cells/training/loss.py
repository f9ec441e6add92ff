"""Loss functions, and soft targets for distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Loss = Callable[[Any, Any], Any]


def make_loss(distance: bool, soft: bool = False) -> Loss:
    """Loss of every pixel; Keras weighs it and takes the mean.

    Parameters
    ----------
    distance : bool
        Whether the last logit is that of the distance to the boundary.
    soft : bool
        Whether the targets are those of `soften`; else those of `Cropper.batch`.

    Returns
    -------
    callable (targets, logits) -> tensor, (n, y, x)
        The cross-entropy of the classes, in nats; plus that of the distance, less the entropy
        of the true one, so that 0 is the best there is. Both count alike.
    """
    of_classes = _of_shares if soft else _of_classes

    def loss(targets: Any, logits: Any) -> Any:
        if not distance:
            return of_classes(targets, logits)
        depth = targets[..., -1] if soft else targets[..., -1] / 255
        classes = targets[..., :-1] if soft else targets[..., 0]
        return of_classes(classes, logits[..., :-1]) + _of_distance(depth, logits[..., -1])

    return loss


def _of_classes(classes: Any, logits: Any) -> Any:
    import keras

    return keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)


def _of_shares(shares: Any, logits: Any) -> Any:
    import keras

    return keras.losses.categorical_crossentropy(shares, logits, from_logits=True)


def _of_distance(distance: Any, logit: Any) -> Any:
    from keras import ops

    distance = ops.cast(distance, logit.dtype)
    # softplus(x) - d x is the cross-entropy of sigmoid(x) and d.
    cross = ops.softplus(logit) - distance * logit
    part = ops.clip(distance, 1e-6, 1 - 1e-6)
    return cross + part * ops.log(part) + (1 - part) * ops.log(1 - part)


def soften(
    targets: NDArray[np.uint8], logits: NDArray[np.float32], distance: bool, share: float
) -> NDArray[np.float32]:
    """Mix what is true with what a teacher thinks of the same crops.

    Its doubts tell more about an image than the truth alone does (Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015).

    Parameters
    ----------
    targets : uint8 array
        As `Cropper.batch` gives them.
    logits : float32 array, (n, y, x, outputs)
        Of the teacher.
    distance : bool
        Whether the last logit is that of the distance to the boundary.
    share : float
        Of the teacher, 0 to 1.

    Returns
    -------
    float32 array, (n, y, x, outputs)
        Share of each class, and last, where there is one, the distance, 0 to 1.
    """
    scores = logits[..., :-1] if distance else logits
    true = targets[..., 0] if distance else targets
    mixed: NDArray[np.float32] = share * special.softmax(scores, axis=-1)
    mixed += (1 - share) * np.eye(scores.shape[-1], dtype=np.float32)[true]
    if not distance:
        return mixed
    depth = share * special.expit(logits[..., -1:])
    depth += (1 - share) * targets[..., 1:].astype(np.float32) / 255
    return np.concatenate([mixed, depth], axis=-1)
