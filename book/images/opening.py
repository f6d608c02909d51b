"""Draw the opening page's picture: a photo, six hand-made filters, what pooling leaves.

Run `python book/images/opening.py` after a change; it writes opening.png beside this file.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.patches import Polygon
from matplotlib.transforms import Affine2D
from PIL import Image

from resnetlib import data
from resnetlib.numpy_ops import conv2d_matmul, global_average_pool, max_pool

COLOURS = ["#ffb000", "#35c9ff", "#ff6f91", "#8be36b", "#c79bff", "#ff8a3d"]
NIGHT = "#0b1526"
FRAME = "#8a94a6"  # reads on white and on black
SLANT = -14  # degrees by which a panel leans, as if seen from the side

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
DIAGONAL = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], float)
SPOT = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], float)
BLUR = np.ones((3, 3))


def kernels() -> np.ndarray:
    """Return the six hand-made kernels, (3, 3, 3, 6): four edges, spots, and red against blue."""
    brightness = [np.repeat(k[..., None], 3, axis=2) for k in (SOBEL, SOBEL.T, DIAGONAL)]
    mirrored = brightness[2][:, ::-1]
    spots = np.repeat(SPOT[..., None], 3, axis=2)
    colour = BLUR[..., None] * np.array([1, 0, -1])
    return np.stack([*brightness, mirrored, spots, colour], axis=-1)


def feature_maps(photo: np.ndarray) -> np.ndarray:
    """Return each filter's positive answers to one (1, H, W, 3) photo, scaled to 0…1."""
    maps = np.maximum(conv2d_matmul(photo / 255.0, kernels(), padding="valid"), 0)
    return np.clip(maps / np.percentile(maps, 99.5, axis=(1, 2), keepdims=True), 0, 1)


def panel(
    ax: plt.Axes,
    picture: np.ndarray,
    x: float,
    height: float,
    order: int,
    squeeze: float,
    shades: str | Colormap,
) -> None:
    """Draw a square picture as a slanted panel, its lower left corner at (x, 0.5 - height / 2)."""
    place = Affine2D().scale(squeeze, 1).skew_deg(0, SLANT).translate(x, 0.5 - height / 2)
    corners = place.transform([(0, 0), (height, 0), (height, height), (0, height)])
    ax.imshow(
        picture,
        cmap=shades,
        vmin=0,
        vmax=1,
        extent=(0, height, 0, height),
        transform=place + ax.transData,
        zorder=order,
    )
    ax.add_patch(Polygon(corners, fill=False, edgecolor=FRAME, linewidth=0.8, zorder=order))


def draw() -> plt.Figure:
    """Return the figure."""
    photo = data.photos().images[:1, 20:408, 24:412]
    halved = photo.reshape(1, 194, 2, 194, 2, 3).mean(axis=(2, 4))
    maps = feature_maps(halved)
    pooled = max_pool(maps, 4)
    left = global_average_pool(pooled)[0]

    fig = plt.figure(figsize=(9, 3.4), dpi=135)
    ax = fig.add_axes((0, 0, 1, 1))
    panel(ax, photo[0], 0.01, 0.98, 0, 0.54, "gray")
    for index, colour in enumerate(COLOURS):
        shades = LinearSegmentedColormap.from_list(colour, [NIGHT, colour, "white"])
        panel(ax, maps[0, ..., index] ** 0.8, 0.63 + 0.19 * index, 0.8, index, 0.4, shades)
        panel(ax, pooled[0, ..., index], 2.0 + 0.1 * index, 0.42, index, 0.4, shades)
        height = 0.62 - 0.09 * index
        ax.barh(height, 0.24 * left[index] / left.max(), 0.06, left=2.76, color=colour)
    ax.set(xlim=(0, 3.02), ylim=(-0.13, 1.0))
    ax.set_aspect("auto")
    ax.axis("off")
    return fig


def main() -> None:
    """Write opening.png, in 256 colours so that the page stays light."""
    target = Path(__file__).with_suffix(".png")
    draw().savefig(target, transparent=True)
    Image.open(target).quantize(256, kmeans=1).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
