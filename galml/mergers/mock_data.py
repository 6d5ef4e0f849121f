# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mock galaxies, merging or not, as networks for mergers see them, beside their truth.

Brightness is drawn alike for all kinds, so that it tells nothing.
"""

from dataclasses import replace

import numpy as np
import torch
from astropy.cosmology import Planck18

from galml.imaging import GalaxyImages, regrid
from galml.imaging.color_pictures import SIDE, color_pictures
from galml.imaging.rgb import linear_images
from galml.mergers.posterior import LATEST_POSITIVE, MAJOR
from galml.mergers.preparation import FILTERS, INPUT, prepare
from galml.mocks import (
    DEEP_FIELDS,
    IMAGING_SURVEYS,
    build_mergers,
    build_projections,
    build_stars,
    deep_starlight,
    draw_clumpy,
    draw_mergers,
    draw_stars,
    observe_crowded,
    observe_deep,
    random_orientation,
    starlight,
)
from galml.mocks.deep_fields import DEEP_DEPTHS
from galml.mocks.images import distance, particle_spacing, redshift_of
from galml.mocks.light import depth_before_stars
from galml.mocks.merger_recipe import PASSAGE
from galml.physics import (
    AB_ZERO,
    SOLAR_MAGNITUDES,
    generator_for,
    pivot_wavelengths,
)

__all__ = ["KINDS", "draw_systems", "mock_data_set", "observe_near", "stage_of"]

#: What galaxies are, and how many of a batch, in deep fields and nearby: each of the
#: encounters is looked at in as many moments and from as many sides.
KINDS = ("merger", "clumpy disk", "other galaxy", "projection")
NUMBERS = {"deep": (4, 26, 28, 18), "near": (4, 6, 56, 10)}
SNAPSHOTS, VIEWS = 6, 3
#: Share of encounters of clumpy disks, of three galaxies, and of those of a mass ratio
#: below 1:4 that are kept.
CLUMPY = {"deep": 0.75, "near": 0.15}
TRIPLES, MINOR_KEPT = 0.1, 0.35
#: Moments of an encounter: one in each of these intervals, in Gyr from the first
#: passage (0) or from coalescence (1); without an end, until coalescence. Nearby, more
#: are before it.
MOMENTS = {
    "deep": (
        (0, 0.0, 0.2),
        (0, 0.2, None),
        (1, 0.0, 0.17),
        (1, 0.17, 0.33),
        (1, 0.33, 0.5),
        (1, 0.5, 1.5),
    ),
    "near": (
        (0, 0.0, 0.1),
        (0, 0.1, 0.2),
        (0, 0.2, None),
        (0, 0.2, None),
        (1, 0.0, 0.2),
        (1, 0.2, 0.7),
    ),
}
#: Shares of the types of other galaxies. Nearby, those of ellipticals are as large as
#: in samples that are limited in flux; in deep fields many galaxies have neither arms
#: nor clumps, or mergers would be known by that alone.
OTHER_TYPES = {
    "deep": (0.22, 0.22, 0.12, 0.12, 0.27, 0.05),
    "near": (0.12, 0.2, 0.22, 0.22, 0.2, 0.04),
}
#: Share of other galaxies in deep fields whose disks are smooth, and what they lack.
SMOOTH = 0.6
DETAILS = ("arm_strength", "bar_fraction", "ring_fraction", "clump_fraction")
#: Filters of a batch of deep images: one of each group, with their odds. Of bands: the
#: filter of the training, pixels of an image, AB magnitudes, redshifts.
GROUPS = ((("F814W", 1.0),), (("F160W", 0.6), ("F125W", 0.2), ("F200W", 0.2)))
DEEP_BANDS = {
    "F814W": ("F814W", 144, (20.5, 24.5), (0.5, 1.5)),
    "F160W": ("F160W", 112, (20.5, 24.5), (1.5, 3.0)),
    "F125W": ("F160W", 112, (20.5, 24.5), (1.5, 3.0)),
    "F200W": ("F200W", 144, (20.5, 25.5), (0.5, 3.0)),
}
#: Growth of the logarithm of numbers with magnitude.
DEEP_SLOPE, NEAR_SLOPE = 0.35, 0.5
#: Nearby galaxies: pixels of an image, magnitudes in r, half-mass radii in arcsec and
#: redshifts; share of batches that are seen as color images, and their bands.
NEAR_PIXELS, NEAR_MAGNITUDES, NEAR_SIZES = 176, (13.5, 17.77), (1.5, 8.0)
NEAR_REDSHIFTS = (0.01, 0.2)
COLORED, COLOR_BANDS = 0.5, ("i", "r", "g")
#: Scatter of the width of the field (natural logarithm) and of its middle, in halves of
#: its side.
WIDTH_ERROR, CENTER_ERROR = 0.08, 0.06
#: Share of images that end early, and where, in halves of the field's side.
CUT, CUT_AT = 0.25, (0.6, 1.0)
#: Shares of images whose noise, PSF and scale are not known.
NOISE_UNKNOWN, PSF_UNKNOWN, SCALE_UNKNOWN = 0.5, 0.5, 0.1


def mock_data_set(
    n_batches, *, seed, where, first=0, n_particles=8000, spec=INPUT, cutouts=False
):
    """Prepare mocks as the network sees them, beside their truth.

    Parameters
    ----------
    n_batches, seed, first : int
        Batches, whose content depends on ``seed``, ``where`` and their number alone.
    where : {"deep", "near"}
        In the deep fields of Hubble and Webb, each galaxy once in F814W and once in an
        infrared filter; or in r as SDSS sees it, in half of the batches as color
        images.
    n_particles : int
        Particles of stars of a system.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    cutouts : bool
        Also give the field in 128 pixels a side, ``cutout`` (n, 1, 128, 128) in units
        of the error of a pixel, with ``cutout_psf``, its PSF's FWHM in these pixels.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, channels, 64, 64) in float16, ``scalars`` (n, scalars); and of
        shape (n,): ``stage``, index into `~galml.mergers.posterior.STAGES`; ``time``
        since coalescence, in Gyr, NaN before; ``contamination`` of the circle that fits
        the field; ``filter``, index into `~galml.mergers.preparation.FILTERS`;
        ``field``, index into `~galml.mocks.DEEP_FIELDS` or -1; ``kind``, index into
        `KINDS`; ``system``, the same for all views and moments of one encounter;
        ``since`` coalescence, in Gyr, negative before; ``mass_ratio``, ``inclination``
        of the first disk to the line of sight (NaN for galaxies that do not merge),
        ``redshift``, ``magnitude``, ``colored``.
    """
    columns = {}
    for index in range(first, first + n_batches):
        generator = generator_for(seed, f"mergers {where}", index)
        galaxy, truth, foreign = draw_systems(where, generator, n_particles)
        truth["system"] += 1000 * index
        observe = _observe_deep if where == "deep" else observe_near
        for images, extra in observe(galaxy, truth, foreign, generator):
            row = _columns(images, extra, generator, spec, cutouts) | truth
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
    return {key: torch.cat(parts) for key, parts in columns.items()}


def draw_systems(where, generator, n_particles):
    """Draw encounters and galaxies that do not merge, as they are seen.

    Parameters
    ----------
    where : {"deep", "near"}
        What kinds of galaxies there are.
    generator : `torch.Generator`
        Source of all randomness.
    n_particles : int
        Particles of stars of a system.

    Returns
    -------
    galaxy : list of `~galml.mocks.Galaxy`
        Stars of the systems, in groups of equal numbers of particles, turned as they
        are seen.
    truth : dict of str to `torch.Tensor`
        See `mock_data_set`; of all groups.
    foreign : list of `torch.Tensor` or None
        Particles that are not the galaxy's, of each group.
    """
    n_met, *others = NUMBERS[where]
    met = 3 if float(torch.rand((), generator=generator)) < TRIPLES else 2
    p = _draw_encounters(n_met, generator, met, where)
    galaxy, known = build_mergers(p, n_particles, generator)
    galaxy = _stars_of(galaxy)
    rows = torch.arange(n_met * SNAPSHOTS * VIEWS) // VIEWS
    turned = galaxy[rows].rotated(random_orientation(len(rows), generator))
    known, system = known[rows], rows // SNAPSHOTS
    groups, foreign = [turned], [None]
    nothing = torch.full((len(rows),), torch.nan)
    truth = {
        "stage": stage_of(known),
        "time": torch.where(
            known.time_since_coalescence >= 0, known.time_since_coalescence, nothing
        ),
        "since": known.time_since_coalescence,
        "mass_ratio": known.mass_ratio,
        "inclination": turned.inclination,
        "size": p["size"][:, 0][system],
        "system": system,
        "kind": torch.zeros_like(system),
    }
    for kind, count in enumerate(others, start=1):
        single, own, aside = _draw_single(kind, count, where, generator, n_particles)
        nothing = torch.full((count,), torch.nan)
        rest = {
            "stage": torch.zeros(count, dtype=torch.long),
            **dict.fromkeys(("time", "since", "mass_ratio"), nothing),
            "inclination": single.inclination if kind < 3 else nothing,
            "size": own,
            "system": torch.arange(count) + int(truth["system"].max()) + 1,
            "kind": torch.full((count,), kind),
        }
        truth = {key: torch.cat([truth[key], rest[key]]) for key in truth}
        groups.append(single)
        foreign.append(aside)
    return groups, truth, foreign


def stage_of(known):
    """Find the stage of encounters, an index into `~galml.mergers.posterior.STAGES`.

    Parameters
    ----------
    known : `~galml.mocks.MergerTruth`
        Of n encounters.

    Returns
    -------
    `torch.Tensor`
        Integers of shape (n,), at least 1.
    """
    since, ratio = known.time_since_coalescence, known.mass_ratio
    stage = torch.where(known.time_since_passage < PASSAGE, 1, 2)
    recent = (since <= LATEST_POSITIVE) & (ratio >= MAJOR)
    return torch.where(since >= 0, torch.where(recent, 3, 4), stage)


def _draw_encounters(n, generator, met, where):
    """Draw encounters at the moments that count."""
    kept, missing = [], n
    while missing:
        p = draw_mergers(
            2 * missing,
            generator,
            n_galaxies=met,
            snapshots=1,
            clumpy=CLUMPY[where],
        )
        minor = p["mass_ratio"][:, 1] < MAJOR
        chance = torch.rand(2 * missing, generator=generator) < MINOR_KEPT
        rows = (~minor | chance).nonzero()[:missing, 0]
        kept.append({key: value[rows] for key, value in p.items()})
        missing -= len(rows)
    p = {key: torch.cat([part[key] for part in kept]) for key in kept[0]}
    ends = p["first_passage"], p["coalescence"]
    moments = MOMENTS[where]
    draw = torch.rand(len(moments), n, generator=generator)
    times = []
    for (end, low, high), place in zip(moments, draw, strict=True):
        low = ends[end] + low
        high = ends[1] if high is None else ends[end] + high
        # First passages that end in coalescence at once have no time between.
        low, high = (
            t if end else t.minimum(ends[1] - 0.02).clamp_min(0.01) for t in (low, high)
        )
        times.append(low + (high - low) * place)
    p["time"] = torch.stack(times, 1).sort(1)[0]
    return p


def _draw_single(kind, count, where, generator, n_particles):
    """Draw galaxies that do not merge; give their sizes and what is not theirs."""
    number = 2 * count if KINDS[kind] == "projection" else count
    shares = torch.tensor(OTHER_TYPES[where])
    types = torch.multinomial(shares, number, True, generator=generator)
    p = draw_stars(number, generator, types)
    if where == "deep":
        detailed = torch.rand(number, generator=generator) >= SMOOTH
        p |= {name: p[name] * detailed for name in DETAILS}
    if KINDS[kind] == "clumpy disk":
        p = draw_clumpy(number, generator)
    elif KINDS[kind] == "projection":
        clumped = draw_clumpy(number, generator)
        chosen = torch.rand(number, generator=generator) < CLUMPY[where]
        p = {key: torch.where(chosen, clumped[key], p[key]) for key in p}
        galaxy = _stars_of(build_projections(p, n_particles, generator))
        half = torch.arange(galaxy.n_stars) >= galaxy.n_stars // 2
        return galaxy, p["size"][:count], half.expand(count, -1)
    galaxy = _stars_of(build_stars(p, n_particles, generator, n_gas=0))
    return galaxy.rotated(random_orientation(count, generator)), p["size"], None


def _stars_of(galaxy):
    """Give galaxies without their gas, with the spacing of all views."""
    stars = galaxy.stars
    if stars.spacing is not None:
        return stars
    return replace(stars, spacing=particle_spacing(stars.position))


def _observe_deep(groups, truth, foreign, generator):
    """Take images in F814W, and in an infrared filter."""
    n = len(truth["stage"])
    for group in GROUPS:
        names, odds = zip(*group, strict=True)
        choice = torch.multinomial(torch.tensor(odds), 1, generator=generator)
        band = names[int(choice)]
        name, pixels, magnitudes, (near, far) = DEEP_BANDS[band]
        fields = [f for f in DEEP_FIELDS if band in DEEP_DEPTHS[f]]
        field = fields[int(torch.randint(len(fields), (), generator=generator))]
        redshift = near + (far - near) * torch.rand(n, generator=generator)
        modulus = torch.from_numpy(Planck18.distmod(redshift.double().numpy()).value)
        magnitude = _draw_magnitude(n, magnitudes, DEEP_SLOPE, generator)
        parts, start = [], 0
        for galaxy, aside in zip(groups, foreign, strict=True):
            rows = slice(start, start + len(galaxy))
            start = rows.stop
            light = deep_starlight(galaxy, (band,), redshift[rows])
            light = _as_bright(light, modulus[rows], magnitude[rows])
            parts.append(
                observe_deep(
                    galaxy,
                    light,
                    field,
                    redshift[rows],
                    pixels,
                    generator,
                    bands=(band,),
                    foreign=aside,
                )
            )
        yield (
            _joined(parts),
            {
                "filter": _full(n, list(FILTERS).index(name)),
                "field": _full(n, DEEP_FIELDS.index(field)),
                "colored": torch.zeros(n),
                "redshift": redshift,
                "magnitude": magnitude,
            },
        )


def observe_near(groups, truth, foreign, generator):
    """Take images of systems as SDSS does.

    Parameters
    ----------
    groups, truth, foreign : list or dict
        What `draw_systems` gave.
    generator : `torch.Generator`
        Source of all randomness.

    Yields
    ------
    images : `~galml.mocks.CrowdedImages`
        Of all systems, in r or in three bands.
    extra : dict of str to `torch.Tensor`
        ``filter``, ``field``, ``colored``, ``redshift`` and ``magnitude``, see
        `mock_data_set`.
    """
    n = len(truth["stage"])
    colored = float(torch.rand((), generator=generator)) < COLORED
    bands = COLOR_BANDS if colored else ("r",)
    low, high = NEAR_SIZES
    angle = low * (high / low) ** torch.rand(n, generator=generator)
    redshift = redshift_of(truth["size"] / angle).clamp(*NEAR_REDSHIFTS)
    modulus = distance(redshift)[0]
    magnitude = _draw_magnitude(n, NEAR_MAGNITUDES, NEAR_SLOPE, generator)
    parts, start = [], 0
    for galaxy, aside in zip(groups, foreign, strict=True):
        rows = slice(start, start + len(galaxy))
        start = rows.stop
        depth = depth_before_stars(galaxy)
        light = starlight(galaxy, bands, redshift[rows], depth)
        # Brightness is that in r, and colors stay.
        reference = light[..., bands.index("r")]
        total = reference.sum(1, keepdim=True).clamp_min(1e-30)
        solar = 10 ** (
            -0.4 * (magnitude - modulus)[rows, None] + 0.4 * SOLAR_MAGNITUDES["r"]
        )
        light = light * (solar / total)[..., None]
        parts.append(
            observe_crowded(
                galaxy,
                light,
                IMAGING_SURVEYS[0],
                redshift[rows],
                NEAR_PIXELS,
                generator,
                bands=bands,
                foreign=aside,
            )
        )
    yield (
        _joined(parts),
        {
            "filter": _full(n, list(FILTERS).index("r")),
            "field": _full(n, -1),
            "colored": torch.full((n,), float(colored)),
            "redshift": redshift,
            "magnitude": magnitude,
        },
    )


def _full(n, value):
    return torch.full((n,), value)


def _draw_magnitude(n, limits, slope, generator):
    """Draw magnitudes of which there are more, the fainter they are."""
    low, high = (10 ** (slope * (end - limits[1])) for end in limits)
    share = low + (high - low) * torch.rand(n, generator=generator)
    return limits[1] + share.log10() / slope


def _as_bright(light, modulus, magnitude):
    """Scale light, in nJy at 10 pc, to an apparent magnitude."""
    wanted = AB_ZERO * 10 ** (-0.4 * (magnitude - modulus.float()))
    return light * (wanted / light.sum((1, 2)).clamp_min(1e-30))[:, None, None]


def _joined(parts):
    """Put images of one band and size together."""
    first = parts[0]
    values = {}
    for key, value in vars(first).items():
        if isinstance(value, torch.Tensor):
            values[key] = torch.cat([getattr(part, key) for part in parts])
    return replace(first, **values)


def _columns(images, extra, generator, spec, cutouts):
    """Give what the network sees of a batch, beside its truth."""
    n = len(images.data)
    index = int(extra["filter"][0])
    name = list(FILTERS)[index]
    place = images.bands.index("r") if len(images.bands) > 1 else 0
    own, pixel = FILTERS[name][0], float(images.pixel_scale[0])

    def chance(share):
        return torch.rand(n, generator=generator) < share

    size = images.data.shape[-1]
    half = own / pixel * torch.exp(WIDTH_ERROR * torch.randn(n, generator=generator))
    half = half.clamp(max=0.49 * size).double()
    step = CENTER_ERROR * half[:, None] * torch.randn(n, 2, generator=generator)
    middle = images.center.double() + step
    data, noise, psf = images.data, images.noise[:, place], images.psf_fwhm[:, place]
    scale = images.pixel_scale.double()
    truth_half, truth_middle = half, middle
    if extra["colored"][0]:
        pictures, zoom, corner = color_pictures(
            data, images.noise, images.pixel_scale, middle, generator
        )
        data = linear_images(np.moveaxis(pictures, 3, 1) / 255.0)
        data = torch.from_numpy(data[:, place : place + 1]).float()
        side = torch.full((n,), SIDE / 2.0).double()
        truth_half = side / zoom
        truth_middle = corner + truth_half[:, None] - 0.5
        half, middle = side, torch.full((n, 2), (SIDE - 1) / 2.0).double()
        noise, psf = torch.full_like(noise, torch.nan), psf * zoom.float()
        scale = torch.full_like(scale, torch.nan)
    else:
        data = data[:, place : place + 1].clone()
        _cut(data, middle, half, chance(CUT), generator)
        noise = torch.where(chance(NOISE_UNKNOWN), torch.nan, noise)
        scale = torch.where(chance(SCALE_UNKNOWN), torch.nan, scale)
    share = images.contamination(truth_middle, truth_half)[:, place]
    psf = torch.where(chance(PSF_UNKNOWN), torch.nan, psf)
    band = images.bands[place]
    seen = GalaxyImages(
        values=data.numpy(),
        bands=(band,),
        wavelengths=pivot_wavelengths((band,)),
        calibrated=True,
        r_eff=np.full(n, np.nan),
        noise=noise[:, None].double().numpy(),
        psf_fwhm=psf[:, None].double().numpy(),
        center=middle.numpy(),
        pixel_scale=scale.numpy(),
        flags=np.zeros(n, dtype=int),
        names=[None] * n,
    )
    prepared = prepare(seen, 0, name, spec, half)
    row = {"image": prepared.image.half(), "scalars": prepared.scalars}
    row |= extra | {"contamination": share}
    if cutouts:
        stamps = regrid(data, middle, half, 128)
        cell = stamps.reduction * images.noise[:, place]
        row["cutout"] = (stamps.mean / cell[:, None, None, None]).half()
        row["cutout_psf"] = 64 * images.psf_fwhm[:, place] / half.float()
    return row


def _cut(data, middle, half, early, generator):
    """Let some images end early: what is beyond a square becomes NaN."""
    low, high = CUT_AT
    reach = low + (high - low) * torch.rand(len(data), generator=generator)
    reach = torch.where(early, reach * half, torch.inf)[:, None]
    ny, nx = data.shape[-2:]
    far_x = (torch.arange(nx) - middle[:, :1]).abs() > reach
    far_y = (torch.arange(ny) - middle[:, 1:]).abs() > reach
    far = far_y[:, :, None] | far_x[:, None, :]
    data.masked_fill_(far[:, None], torch.nan)
