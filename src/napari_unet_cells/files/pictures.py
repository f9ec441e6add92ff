"""Pictures: PNG, JPEG, BMP and the like, which carry no pixel size to trust."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import cut_off, damaged, kind_named, kind_of
from napari_unet_cells.files.image import Image

# Pillow's formats by name: a closed list, since some of its readers start other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000")
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".jp2"})

#: Those of them that hold animations, and the bytes of a file up to which its pictures are counted.
_ANIMATED, _LARGEST_ANIMATION = ("GIF", "WEBP", "PNG"), 10**8

# Pillow's mode -> the mode that holds the same picture without palette and alpha
_PLAIN_MODES = {"1": "L", "LA": "L"} | dict.fromkeys(("P", "PA", "RGBA", "CMYK", "YCbCr"), "RGB")


def read_picture(path: Path, header: bytes) -> Image:
    """Read a picture whose first bytes are `header`; errors as `read_image` says."""
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        if header[:8] == b"\x89PNG\r\n\x1a\n" and header[24] == 16 and header[25] != 0:
            data, n_images = _read_deep_png(path), 1
        else:
            # Pillow's size limit holds, as an error; its warning at half of that is noise
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
                picture = pillow.open(path, formats=_FORMATS)
            with picture:
                data, n_images = _picture_data(picture), _count(picture, path)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path.name} is not a {kind_named(path)}, although its name says so: it is "
            f"{kind_of(header)}. Choose the image itself, or save it again from the program "
            "that made it."
        ) from error
    except pillow.DecompressionBombError as error:
        raise UserError(
            f"{path.name} has more pixels than a picture file is trusted with. Open it in "
            "Fiji and save it as a TIFF."
        ) from error
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        # Pillow reports a file that ends too early without an error number
        if isinstance(error, OSError) and error.errno is None:
            raise cut_off(path, kind_named(path)) from error
        raise
    except Exception as error:
        raise damaged(path, kind_named(path), error) from error
    axes = "YXC"[: data.ndim]
    return Image(data, axes, None, "pixel", path, n_images=n_images)


def _count(picture: Any, path: Path) -> int:
    """Count the pictures of an animation; the previews that a camera adds to a JPEG are none."""
    if picture.format not in _ANIMATED or not getattr(picture, "is_animated", False):
        return 1
    # They are found one after the other: a million in 17 MB take 8 s.
    if path.stat().st_size > _LARGEST_ANIMATION:
        raise UserError(
            f"{path.name} is an animation of more than {_LARGEST_ANIMATION // 10**6} MB. Open it "
            "in Fiji and save it as a TIFF."
        )
    return int(picture.n_frames)


def _picture_data(picture: Any) -> NDArray[Any]:
    """Pixels of a Pillow image, of an animation its first frame: (Y, X) or (Y, X, 3)."""
    data = np.array(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _read_deep_png(path: Path) -> NDArray[Any]:
    """Colour or grey + alpha PNG of 16 bits, of which Pillow would drop the lower eight."""
    import imagecodecs

    data = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return data[..., 0] if data.shape[-1] == 2 else data[..., :3]


def write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture (y, x, 3) as a JPEG of moderate size; not atomically."""
    from PIL import Image as pillow

    pillow.fromarray(pixels).save(path, "JPEG", quality=80, optimize=True)
