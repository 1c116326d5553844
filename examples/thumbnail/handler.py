"""Makes pictures small: any picture that Pillow reads in, a PNG out."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

#: Pixels. Neither side of a thumbnail is longer.
SIDE = 128


def handle(picture: bytes) -> bytes:
    """A thumbnail of the picture, the right way up, as a PNG."""
    with Image.open(io.BytesIO(picture)) as opened:
        # Cameras don't turn a picture, they note how it was held.
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    upright.thumbnail((SIDE, SIDE))
    png = io.BytesIO()
    upright.save(png, format="PNG", optimize=True)
    return png.getvalue()
