"""SynthBloodMNIST: eight classes of synthetic blood cells, in the format of MedMNIST's BloodMNIST.

Each image shows a field of a stained smear: a white cell (or platelet) in the centre and red cells
around it. Light is absorbed as in a microscope: each structure is a map of stain density, the
densities add up to an optical density, and the image is exp(-optical density) plus sensor noise.

Lengths are in half-widths of the image (its edges are at -1 and 1), so a scene does not depend on
the image size. Every edge is blurred by the optics and by the width of a pixel.
"""

from dataclasses import dataclass, fields

import numpy as np

CLASS_NAMES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocytes",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
SPLIT_SIZES = {"train": 1800, "val": 300, "test": 800}

# Halfway between BloodMNIST's class fractions (7 to 20 %) and equal ones: no class is too rare.
CLASS_FRACTIONS = (0.10, 0.15, 0.11, 0.15, 0.10, 0.10, 0.16, 0.13)

MAX_LOBES = 5
MAX_GRANULES = 64
MAX_VACUOLES = 6
CHROMATIN_CLUMPS = 40
CLUMP_RADIUS = 0.12  # of the chromatin, in cell radii
VACUOLE_RADIUS = 0.09  # in cell radii
VACUOLE_DEPTH = 0.8  # fraction of the cytoplasm's stain that a vacuole removes
RED_CELLS = 8
CHUNK_PIXELS = 2**17  # a float32 map of half a megabyte fits into a core's cache

LAYERS = ("plasma", "red cells", "cytoplasm", "nucleus", "granules")  # structures that absorb light
CLEAR = (255, 255, 255)  # no absorption
PLASMA_RGB = (244, 228, 226)
RED_CELL_RGB = (222, 186, 180)
RED_CELL_RADIUS = 0.36
POSITION_SPREAD = 0.07  # of the cell's position around the centre
BLUR = 0.022  # standard deviation of the optics' blur in a typical image
MAX_TILT = 0.10  # of the illumination from centre to edge, as an optical density
LOBE_SHARPNESS = 3  # higher values separate the lobes
NOISE = 4.0  # standard deviation of the sensor noise, in grey levels


@dataclass(frozen=True)
class CellType:
    """A typical cell of one class; lengths inside the cell are in cell radii."""

    radius: float  # of the cell, in half-widths of the image
    elongation: float  # long axis over short axis
    lobes: float  # of the nucleus, along an arc: one is round, close ones form a band
    lobe_radius: float
    arc_radius: float
    arc_span: float  # radians
    eccentricity: float  # distance of the nucleus from the centre of the cell
    chromatin: float  # contrast of the clumps in the nucleus
    granules: float  # number
    granule_radius: float
    granule_stain: float  # optical density of a granule relative to its colour
    granules_over_nucleus: float  # fraction of the granules' stain on the nucleus
    vacuoles: float  # number
    nucleus_rgb: tuple[int, int, int]
    cytoplasm_rgb: tuple[int, int, int]
    granule_rgb: tuple[int, int, int]


# fmt: off
CELL_TYPES = (
    # basophil
    CellType(0.52, 1.10, 2.6, 0.44, 0.34, 2.6, 0.08, 0.20, 48, 0.090, 1.2, 0.80, 0.3,
             (112, 74, 150), (206, 184, 218), (84, 48, 124)),
    # eosinophil
    CellType(0.56, 1.10, 2.2, 0.40, 0.42, 2.5, 0.10, 0.20, 60, 0.070, 1.2, 0.15, 0.3,
             (112, 74, 150), (232, 196, 198), (218, 124, 104)),
    # erythroblast
    CellType(0.39, 1.08, 1.0, 0.56, 0.05, 1.0, 0.10, 0.12, 2, 0.050, 0.4, 0.20, 0.2,
             (78, 46, 108), (184, 174, 196), (150, 110, 180)),
    # immature granulocytes
    CellType(0.62, 1.12, 1.5, 0.62, 0.15, 1.4, 0.18, 0.20, 40, 0.055, 0.8, 0.35, 0.4,
             (132, 82, 160), (200, 178, 220), (156, 88, 168)),
    # lymphocyte
    CellType(0.45, 1.10, 1.0, 0.84, 0.08, 1.0, 0.08, 0.22, 3, 0.050, 0.4, 0.20, 0.3,
             (108, 76, 156), (174, 196, 238), (150, 100, 180)),
    # monocyte
    CellType(0.68, 1.16, 3.6, 0.40, 0.42, 2.5, 0.12, 0.22, 6, 0.040, 0.4, 0.20, 3.5,
             (142, 112, 174), (180, 184, 208), (160, 120, 180)),
    # neutrophil
    CellType(0.56, 1.10, 3.6, 0.29, 0.42, 3.4, 0.06, 0.20, 44, 0.040, 0.5, 0.15, 0.4,
             (108, 70, 148), (232, 208, 220), (200, 144, 188)),
    # platelet
    CellType(0.21, 1.25, 1.0, 0.50, 0.00, 1.0, 0.05, 0.20, 24, 0.140, 0.6, 1.00, 0.0,
             CLEAR, (204, 176, 214), (142, 92, 172)),
)
# fmt: on
# Variation between cells: standard deviation of the logarithm of a value above.
SPREAD = {
    "radius": 0.10,
    "elongation": 0.06,
    "lobes": 0.15,
    "lobe_radius": 0.08,
    "arc_radius": 0.15,
    "arc_span": 0.15,
    "eccentricity": 0.50,
    "chromatin": 0.40,
    "granules": 0.30,
    "granule_radius": 0.20,
    "granule_stain": 0.20,
    "vacuoles": 0.60,
}
STAIN_SPREAD = 0.10  # of the strength of each stain
HUE_SPREAD = 0.04  # of each stain, per channel

# Classes that haematologists confuse. Some cells of a class are interpolated towards one of them.
LOOK_ALIKES = {
    "basophil": ("eosinophil", "neutrophil"),
    "eosinophil": ("neutrophil", "basophil"),
    "erythroblast": ("lymphocyte", "lymphocyte"),
    "immature granulocytes": ("monocyte", "neutrophil"),
    "lymphocyte": ("erythroblast", "monocyte"),
    "monocyte": ("immature granulocytes", "lymphocyte"),
    "neutrophil": ("immature granulocytes", "eosinophil"),
    "platelet": ("platelet", "platelet"),  # similar to no other class
}
AMBIGUOUS_FRACTION = 0.12
MAX_DRIFT = 0.55  # interpolation weight of an ambiguous cell: at 0.5 it is halfway


def make_synth_blood(
    size: int = 28, seed: int = 0, split_sizes: dict[str, int] = SPLIT_SIZES
) -> dict[str, np.ndarray]:
    """Return the data set with the keys of a MedMNIST .npz file.

    `{split}_images` are (N, size, size, 3) uint8 and `{split}_labels` (N, 1) uint8. The same seed
    gives the same cells at every size. Each split has its own random generator, so its images do
    not depend on the sizes of the other splits.
    """
    data = {}
    for split, count in split_sizes.items():
        rng = np.random.default_rng([seed, *split.encode()])
        labels = draw_labels(count, rng)
        data[f"{split}_images"] = draw_cells(labels, size, rng)
        data[f"{split}_labels"] = labels[:, None]
    return data


def draw_labels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return (count,) uint8 in random order; the counts follow CLASS_FRACTIONS, rounded."""
    quantiles = (np.arange(count) + 0.5) / count
    labels = np.searchsorted(np.cumsum(CLASS_FRACTIONS[:-1]), quantiles).astype(np.uint8)
    return rng.permutation(labels)


def draw_cells(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return one image for each of (N,) labels: (N, size, size, 3) uint8."""
    scene = draw_scene(labels, rng)  # before any noise, whose amount depends on the size
    images = np.empty((len(labels), size, size, 3), np.uint8)
    step = max(1, CHUNK_PIXELS // size**2)
    for start in range(0, len(labels), step):
        chunk = slice(start, start + step)
        light = render({name: values[chunk] for name, values in scene.items()}, size)
        light += rng.standard_normal(light.shape, np.float32) * (NOISE / 255)
        np.clip(light, 0, 1, out=light)
        images[chunk] = (light * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return images


def draw_scene(labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the geometry and stains of a field of view for each of (N,) labels, for `render`.

    All arrays are float32 with N as first axis. Standard deviations written in the code are natural
    variation, chosen by eye and the same for every class.
    """
    n = len(labels)
    cell = _draw_cell_numbers(labels, rng)
    radius = cell["radius"][:, None]
    centre = rng.normal(0, POSITION_SPREAD, (n, 1, 2))

    def angles(*shape):
        """Random directions in radians."""
        return rng.uniform(0, 2 * np.pi, (n, *shape))

    def dots(slots, count, dot_radius, weight):
        """Draw `count` dots, at most `slots`, uniformly over the cell."""
        distance = 0.95 * radius * np.sqrt(rng.uniform(0, 1, (n, slots)))
        exists = np.arange(slots) < count[:, None]
        return {
            "at": centre + _polar(distance, angles(slots)),
            "radius": radius * dot_radius[:, None] * rng.lognormal(0, 0.25, (n, slots)),
            "weight": exists * weight,
        }

    lobes, lobe_exists = _draw_lobes(cell, rng)
    lobe_radius = radius * cell["lobe_radius"][:, None]
    red_radius = RED_CELL_RADIUS * rng.lognormal(0, 0.07, (n, RED_CELLS))
    # Red cells surround the white one, from touching it to beyond the corners of the image.
    red_distance = radius + red_radius + rng.uniform(-0.03, 0.9, (n, RED_CELLS))
    red_direction = angles(1) + 2 * np.pi / RED_CELLS * np.arange(RED_CELLS)
    red_direction = red_direction + rng.normal(0, 0.3, (n, RED_CELLS))

    plain = np.tile([_optical_density(PLASMA_RGB), _optical_density(RED_CELL_RGB)], (n, 1, 1))
    # in the order of LAYERS
    colours = [cell[f"{part}_rgb"] for part in ("cytoplasm", "nucleus", "granule")]
    stains = np.concatenate([plain, np.stack(colours, 1)], 1)
    stains *= rng.lognormal(0, STAIN_SPREAD, (n, len(LAYERS), 1))
    stains *= rng.lognormal(0, HUE_SPREAD, stains.shape)

    clump_sign = rng.choice([-1, 1], (n, CHROMATIN_CLUMPS))
    scene = {
        "blur": BLUR * rng.lognormal(0, 0.4, n),
        "tilt": _polar(rng.uniform(0, MAX_TILT, n), angles()),
        "ripple": rng.uniform([0.02, 4, 0], [0.06, 10, 2 * np.pi], (n, 2, 3)),
        "stains": stains,
        "cell_at": centre[:, 0],
        "cell_axes": radius * np.stack([cell["elongation"], 1 / cell["elongation"]], 1) ** 0.5,
        "cell_turn": angles(),
        "lobe_at": centre + radius[..., None] * lobes,
        "lobe_radius": lobe_radius * rng.lognormal(0, 0.08, (n, MAX_LOBES)),
        "lobe_weight": lobe_exists,
        "red_at": centre + _polar(red_distance, red_direction),
        "red_axes": red_radius[..., None] * rng.lognormal(0, 0.06, (n, RED_CELLS, 2)),
        "red_turn": angles(RED_CELLS),
        "granules_over_nucleus": cell["granules_over_nucleus"],
    }
    dot_kinds = {
        "clump": dots(
            CHROMATIN_CLUMPS,
            np.full(n, CHROMATIN_CLUMPS),
            np.full(n, CLUMP_RADIUS),
            clump_sign * cell["chromatin"][:, None],
        ),
        "granule": dots(
            MAX_GRANULES, cell["granules"], cell["granule_radius"], cell["granule_stain"][:, None]
        ),
        "vacuole": dots(MAX_VACUOLES, cell["vacuoles"], np.full(n, VACUOLE_RADIUS), VACUOLE_DEPTH),
    }
    for kind, parts in dot_kinds.items():
        scene |= {f"{kind}_{name}": values for name, values in parts.items()}
    return {name: values.astype(np.float32) for name, values in scene.items()}


def _draw_lobes(cell, rng):
    """Return the positions of the lobes in cell radii, (N, MAX_LOBES, 2), and which exist."""
    n = len(cell["lobes"])
    count = np.clip(np.rint(cell["lobes"] + rng.normal(0, 0.3, n)), 1, MAX_LOBES)[:, None]
    lobe = np.arange(MAX_LOBES)
    along_arc = (lobe - (count - 1) / 2) / np.maximum(count - 1, 1)
    along_arc = along_arc + rng.normal(0, 0.03, along_arc.shape)
    direction, span = rng.uniform(0, 2 * np.pi, (n, 1)), cell["arc_span"][:, None]
    arc_radius = cell["arc_radius"][:, None]
    uneven = rng.lognormal(0, 0.12, (n, MAX_LOBES))
    lobes = _polar(arc_radius * uneven, direction + span * along_arc)
    lobes += _polar(cell["eccentricity"][:, None], rng.uniform(0, 2 * np.pi, (n, 1)))
    # the centroid of an arc is not its circle's centre: correct half of the offset
    lobes -= 0.5 * _polar(arc_radius * np.sinc(span / 2 / np.pi), direction)
    return lobes, lobe < count


def _draw_cell_numbers(labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return CellType values of N cells: (N,) numbers, (N, 3) optical densities for colours."""
    n = len(labels)
    pairs = [[CLASS_NAMES.index(other) for other in LOOK_ALIKES[name]] for name in CLASS_NAMES]
    look_alike = np.array(pairs)[labels, rng.integers(0, 2, n)]
    drift = rng.uniform(0, MAX_DRIFT, n) * (rng.uniform(0, 1, n) < AMBIGUOUS_FRACTION)
    cell = {}
    for field in fields(CellType):
        typical = np.array([getattr(cell_type, field.name) for cell_type in CELL_TYPES], float)
        if field.name.endswith("_rgb"):
            typical = _optical_density(typical)
        weight = drift.reshape(n, *[1] * (typical.ndim - 1))
        values = (1 - weight) * typical[labels] + weight * typical[look_alike]
        cell[field.name] = values * rng.lognormal(0, SPREAD.get(field.name, 0), weight.shape)
    return cell


def render(scene: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Return the transmitted light of N scenes, 1 without a slide: (N, 3, size, size) float32."""
    n = len(scene["blur"])
    axis = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1  # pixel centres
    pixel_blur = 2 / size / 12**0.5  # standard deviation of a box of one pixel's width
    blur = np.hypot(scene["blur"], np.float32(pixel_blur))

    red = np.full((n, size, size), np.inf, np.float32)
    for k in range(RED_CELLS):
        ellipse = scene["red_at"][:, k], scene["red_axes"][:, k], scene["red_turn"][:, k]
        np.minimum(red, _squared_distance(axis, *ellipse, 0.5 * scene["ripple"]), out=red)
    pallor = np.clip(0.45 + 0.8 * red, 0, 1)  # a red cell is thinnest at its centre
    red = _inside(red, scene["red_axes"].mean((1, 2)), blur) * pallor

    ellipse = scene["cell_at"], scene["cell_axes"], scene["cell_turn"]
    cell = _squared_distance(axis, *ellipse, scene["ripple"])
    cell = _inside(cell, scene["cell_axes"].mean(1), blur)
    nucleus = _inside(_lobe_distance(axis, scene), scene["lobe_radius"].mean(1), blur) * cell
    has_nucleus = scene["stains"][:, LAYERS.index("nucleus")].any(1)[:, None, None]
    plasm = cell - nucleus * has_nucleus
    red *= 1 - cell
    clumps = np.maximum(1 + _dots(axis, scene, "clump", blur), 0)
    granules = _dots(axis, scene, "granule", blur)
    granules = 1 - np.exp(-granules)  # overlapping granules saturate
    granules *= plasm + scene["granules_over_nucleus"][:, None, None] * nucleus
    plasm *= 1 - np.minimum(_dots(axis, scene, "vacuole", blur), 1)
    tilt = scene["tilt"][:, :1, None] * axis + scene["tilt"][:, 1:, None] * axis[:, None]

    plasma = np.ones_like(red)
    # in the order of LAYERS
    density = np.stack([plasma, red, plasm * clumps, nucleus * clumps, granules], 1)
    density = scene["stains"].transpose(0, 2, 1) @ density.reshape(n, len(LAYERS), -1)
    light = tilt[:, None] - density.reshape(n, 3, size, size)
    return np.exp(light, out=light)


def _squared_distance(axis, at, axes, turn, ripple):
    """(N, size, size): squared distance from the centre of an ellipse, 1 on its outline.

    at: centre (N, 2). axes: semi-axes (N, 2). turn: angle (N,). ripple: (N, 2, 3) amplitude,
    frequency and phase of a wave that displaces points, so that no cell is an exact ellipse.
    """
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y = axis - at[:, :1], axis - at[:, 1:]
    height, frequency, phase = ripple[..., None].transpose(2, 0, 1, 3)
    from_y = height[:, 0] * np.sin(frequency[:, 0] * y + phase[:, 0])
    from_x = height[:, 1] * np.sin(frequency[:, 1] * x + phase[:, 1])
    # rotation is linear: each coordinate is the sum of a row and a column, without full-size sines
    along = _outer_sum(cos * x + sin * from_x, cos * from_y + sin * y, axes[:, :1])
    across = _outer_sum(cos * from_x - sin * x, cos * y - sin * from_y, axes[:, 1:])
    along *= along
    across *= across
    along += across
    return along


def _outer_sum(row, column, scale):
    """(N, size, size): sum of (N, size) along x and along y, divided by `scale` (N, 1)."""
    return (row / scale)[:, None, :] + (column / scale)[:, :, None]


def _lobe_distance(axis, scene):
    """(N, size, size): squared distance from the centre of the nearest lobe, 1 on its outline.

    A soft minimum, so that close lobes merge like lobes joined by a strand.
    """
    gauss = scene["lobe_radius"] / np.sqrt(2 * LOBE_SHARPNESS, dtype=np.float32)
    total = _gaussians(axis, scene["lobe_at"], gauss, scene["lobe_weight"])
    total += np.float32(1e-30)  # avoids log(0)
    return np.log(total, out=total) / -LOBE_SHARPNESS


def _inside(squared_distance, radius, blur):
    """1 inside an outline, 0 outside, blurred at the edge; `radius` and `blur` are (N,)."""
    logistic_scale = blur * (3**0.5 / np.pi)  # for a standard deviation of `blur`
    steepness = (radius / 2 / logistic_scale)[:, None, None]
    outside = (squared_distance - 1) * steepness
    np.minimum(outside, 50, out=outside)  # exp stays finite
    np.exp(outside, out=outside)
    outside += 1
    return np.reciprocal(outside, out=outside)


def _dots(axis, scene, kind, blur):
    """(N, size, size): blurred dots; blur widens a dot and keeps its total stain."""
    radius = scene[f"{kind}_radius"]
    blurred = np.hypot(radius, blur[:, None])
    weight = scene[f"{kind}_weight"] * (radius / blurred) ** 2
    return _gaussians(axis, scene[f"{kind}_at"], blurred, weight)


def _gaussians(axis, at, deviation, weight):
    """(N, size, size): weighted sum of K isotropic Gaussians; `at` (N, K, 2), others (N, K)."""
    offset = (axis - at[..., None]) / deviation[..., None, None]  # (N, K, 2, size)
    bell = np.exp(-0.5 * offset**2)
    return (weight[..., None] * bell[:, :, 1]).transpose(0, 2, 1) @ bell[:, :, 0]


def _polar(distance, angle):
    """Convert polar to Cartesian coordinates (..., 2)."""
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], -1)


def _optical_density(rgb):
    """Optical density of a stain that turns white light into `rgb`."""
    return -np.log(np.asarray(rgb) / 255)
