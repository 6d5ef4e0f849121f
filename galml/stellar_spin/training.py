# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Data sets, losses and augmentation of the stellar spin domain."""

import math

import torch

from galml.core.distributions import bin_centers, histogram_log_density, ranked_score
from galml.mocks import galaxy_images
from galml.stellar_spin import published
from galml.stellar_spin.bands import wavelengths
from galml.stellar_spin.pictures import through_pictures
from galml.stellar_spin.posterior import ellipticity_of
from galml.stellar_spin.preparation import CHANNELS, SCALARS, Stamps, prepare

__all__ = [
    "augment",
    "augment_published",
    "mock_data_set",
    "published_loss",
    "spin_loss",
]

#: Numbers that are unknown where their source is.
BLUE = tuple(name for name in SCALARS if name.endswith("blue") or "blue_" in name)
RED = tuple(name for name in SCALARS if name.endswith("red") or "red_" in name)
PSF = ("has_psf", "log_psf")
CALIBRATION = ("calibrated", "blue_color", "red_color")
#: Error of photometric zero points, in magnitudes.
ZERO_POINT = 0.02
#: Scatter of effective radii (natural logarithm), and of centers in effective radii.
SIZE_ERROR = 0.1
CENTER_ERROR = 0.05
#: Bands of a batch, and how often they are drawn.
BAND_SETS = (
    (("g", "r", "i"), 0.5),
    (("g", "r", "z"), 0.12),
    (("g", "r"), 0.04),
    (("r", "i"), 0.04),
    (("F606W", "F814W"), 0.08),
    (("F814W",), 0.04),
    (("g",), 0.04),
    (("r",), 0.06),
    (("i",), 0.08),
)
#: Share of batches that are seen as color images of SDSS, the pixels a side of these
#: with their odds, and how they differ from others: they are wider, and the galaxies
#: bright enough for people to look at.
PICTURES = 0.35
PICTURE_SIDES = ((64, 0.25), (80, 0.25), (96, 0.22), (128, 0.16), (192, 0.12))
PICTURE_BANDS, UNKNOWN_PSF = ("i", "r", "g"), 0.8
PICTURE = {"survey": "SDSS", "binning": 1, "size": 11.0, "faintest": 17.2}
#: Share of images that end early, and where, in effective radii.
CUT, CUT_AT = 0.2, (2.2, 4.2)


def mock_data_set(
    n_batches, *, seed, first=0, bands=None, pictures=None, colors=False, **options
):
    """Prepare mocks as the network sees them, beside their truth.

    Effective radii are right to 10 %, centers to a twentieth of them; half of the
    galaxies come without their noise, and some images end early. Batches that are seen
    as color images of SDSS are what is left after that, with radii that mostly are
    measured.

    Parameters
    ----------
    n_batches, seed, first
        As in `galml.mocks.galaxy_images`.
    bands : sequence of str, or sequence of such sequences, optional
        Bands of the images, or several sets of bands, of which each batch has one; by
        default those of many surveys.
    pictures : float, optional
        Share of batches that are seen as color images; by default a third, where
        bands are not given, and none, where they are.
    colors : bool
        Also make the color images of the published system: ``colors``, of shape
        (n, 3, 80, 80), in float16.
    **options
        Further ones of `galml.mocks.galaxy_images`.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, channels, 48, 48) in float16, ``scalars`` (n, scalars); of shape
        (n,) the truths of the mocks, such as ``spin`` and ``ellipticity``, ``survey``
        and ``redshift``; and their parameters, with names that begin with "galaxy_".
    """
    columns = {}
    if pictures is None:
        pictures = PICTURES if bands is None else 0.0
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(seed * 7919 + index)
        chosen = _draw_bands(bands, generator)
        own, picture = options, _uniform(generator, 1).item() < pictures
        if picture:
            chosen = PICTURE_BANDS
            own = PICTURE | {"n_pixels": _drawn(PICTURE_SIDES, generator)} | options
        stream = galaxy_images(1, seed=seed, first=index, bands=chosen, **own)
        for parameters, images in stream:
            row = _row(parameters, images, generator, picture, colors)
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
    return {key: torch.cat(parts) for key, parts in columns.items()}


def _draw_bands(bands, generator):
    """Bands of one batch."""
    if bands is None:
        return _drawn(BAND_SETS, generator)
    sets = (bands,) if isinstance(bands[0], str) else bands
    return tuple(_drawn([(one, 1.0) for one in sets], generator))


def _drawn(choices, generator):
    """Draw one of several things that have odds."""
    things, odds = zip(*choices, strict=True)
    return things[int(torch.multinomial(torch.tensor(odds), 1, generator=generator))]


def _row(parameters, images, generator, picture, colors):
    """All columns of a batch."""
    r_eff = images.truth.r_eff_pixels.double()
    error = torch.randn(len(r_eff), 3, generator=generator).double()
    center = images.center.double() + CENTER_ERROR * r_eff[:, None] * error[:, 1:]
    r_eff = r_eff * torch.exp(SIZE_ERROR * error[:, 0])
    prepared = _prepared(images, r_eff, center, generator, picture)
    row = {"image": prepared.image.half(), "scalars": prepared.scalars}
    if colors:
        row["colors"] = _pictures(images, r_eff, center).half()
    row |= {"survey": images.survey, "redshift": images.redshift}
    row |= {key: value.float() for key, value in vars(images.truth).items()}
    return row | {
        f"galaxy_{key}": value.float()
        for key, value in parameters.items()
        if value.ndim == 1
    }


def _uniform(generator, *shape):
    return torch.rand(*shape, generator=generator)


def _prepared(images, r_eff, center, generator, picture):
    """Prepare a batch, of which not all is known."""
    data, noise = images.data.clone(), images.noise.double()
    wavelength, psf_fwhm = wavelengths(images.bands), images.psf_fwhm.double()
    if picture:
        data, r_eff, center, factor = through_pictures(
            data, noise, images.pixel_scale, r_eff, center, generator
        )
        noise, psf_fwhm = torch.full_like(noise, torch.nan), factor * psf_fwhm
        # Files of color images do not tell the PSF.
        psf_fwhm[_uniform(generator, len(data)) < UNKNOWN_PSF] = torch.nan
    else:
        _cut(data, center, r_eff, generator)
        noise = torch.where(_uniform(generator, len(data), 1) < 0.5, noise, torch.nan)
    stamps = Stamps(data, wavelength, r_eff, noise, psf_fwhm, center)
    return prepare(stamps)


def _cut(data, center, r_eff, generator):
    """Let some images end early: what is beyond a square becomes NaN."""
    low, high = CUT_AT
    half = low + (high - low) * _uniform(generator, len(data))
    half = torch.where(_uniform(generator, len(data)) < CUT, half * r_eff, torch.inf)
    ny, nx = data.shape[-2:]
    far_x = (torch.arange(nx) - center[:, :1]).abs() > half[:, None]
    far_y = (torch.arange(ny) - center[:, 1:]).abs() > half[:, None]
    far = far_y[:, :, None] | far_x[:, None, :]
    data.masked_fill_(far[:, None], torch.nan)


def _pictures(images, r_eff, center):
    """Color images as the published system takes them."""
    places = published.order(wavelengths(images.bands))
    colors = published.colored(images.data.numpy(), places, images.pixel_scale.numpy())
    return published.prepare(torch.from_numpy(colors), r_eff, center).image


def augment(batch, generator):
    """Mirror images, and forget what a user may not know.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image`` and ``scalars``; the rest stays as it is.
    generator : `torch.Generator`
        On the device of the batch.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch: of half of the images each is mirrored left to right and top to
        bottom; a third lose the PSF, some a color or both or their calibration.
    """
    image, scalars = batch["image"].clone(), batch["scalars"].clone()
    device = image.device

    def chance(probability):
        draw = torch.rand(len(image), generator=generator, device=device)
        return draw < probability

    for axis in (-1, -2):
        mirrored = chance(0.5)
        image[mirrored] = image[mirrored].flip(axis)
    for name in ("blue_color", "red_color"):
        place = SCALARS.index(name)
        error = torch.randn(len(image), generator=generator, device=device)
        known = scalars[:, place] != 0
        scalars[:, place] += ZERO_POINT * error * known
    alone, no_blue, no_red = chance(0.12), chance(0.1), chance(0.1)
    for rows, names in (
        (chance(0.3), PSF),
        (chance(0.1), CALIBRATION),
        (alone | no_blue, BLUE),
        (alone | no_red, RED),
    ):
        for name in names:
            scalars[rows, SCALARS.index(name)] = 0
    image[alone | no_blue, CHANNELS.index("blue")] = 0
    image[alone | no_red, CHANNELS.index("red")] = 0
    return batch | {"image": image, "scalars": scalars}


def spin_loss(network, batch):
    """Negative log-likelihood of spin and ellipticity.

    Truths that are NaN do not count. ``spin_square`` is the mean squared error of the
    mean of the distribution.
    """
    outputs = network(batch)
    known = {key: torch.isfinite(batch[key]) for key in ("spin", "ellipticity")}
    spin, ellipticity = (batch[key].nan_to_num(0.0) for key in known)
    logits = outputs["spin"]
    middle, width = ellipticity_of(outputs)
    terms = {
        "spin": -_mean(histogram_log_density(logits, spin, 1.0, 0.02), known["spin"]),
        "sharpness": _mean(ranked_score(logits, spin), known["spin"]),
        "ellipticity": _mean(
            width.log() + 0.5 * ((ellipticity - middle) / width) ** 2,
            known["ellipticity"],
        ),
    }
    weights = {"sharpness": 20.0, "ellipticity": 0.2}
    loss = sum(weights.get(key, 1.0) * term for key, term in terms.items())
    with torch.no_grad():
        mean = torch.softmax(logits, 1) @ bin_centers(logits, 1.0)
        square = _mean((mean - spin) ** 2, known["spin"])
    return {"loss": loss, **terms, "spin_square": square}


def _mean(values, known):
    """Mean over the objects whose truth is known, zero where there is none."""
    return (values * known).sum() / known.sum().clamp_min(1)


def published_loss(network, batch):
    """Mean squared error of the spin, as the published network was trained with."""
    return {"loss": torch.nn.functional.mse_loss(network(batch)["spin"], batch["spin"])}


def augment_published(batch, generator):
    """Turn, zoom, mirror and shift images as the published training did.

    Rotation by up to 45 degrees, zoom by up to 25 %, separately along both axes, mirror
    images, and shifts by up to 5 % of the image; what comes in is its edge.
    """
    image = batch["image"]

    def uniform(low, high):
        draw = torch.rand(len(image), generator=generator, device=image.device)
        return low + (high - low) * draw

    def sign():
        return torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)

    angle = uniform(-math.pi / 4, math.pi / 4)
    across, up = (uniform(0.75, 1.25) * sign() for _ in range(2))
    cosine, sine = angle.cos(), angle.sin()
    # Coordinates run from -1 to 1: a shift by a share of the image is twice that.
    rows = [
        torch.stack([cosine * across, -sine * up, uniform(-0.1, 0.1)], 1),
        torch.stack([sine * across, cosine * up, uniform(-0.1, 0.1)], 1),
    ]
    places = torch.nn.functional.affine_grid(
        torch.stack(rows, 1), image.shape, align_corners=False
    )
    moved = torch.nn.functional.grid_sample(
        image, places, padding_mode="border", align_corners=False
    )
    return batch | {"image": moved}
