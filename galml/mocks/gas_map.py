# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as maps of their gas: what an ideal receiver sees, and what surveys give."""

import math
from dataclasses import dataclass

import torch

from galml.mocks.galaxy import Batch, Kinematics, kinematics
from galml.mocks.surveys import GAS_SURVEYS

__all__ = [
    "GasMaps",
    "gas_aperture",
    "gas_radius",
    "observe_gas",
    "project",
    "project_gas",
]

#: FWHM of a Gaussian over its standard deviation.
FWHM = 2 * math.sqrt(2 * math.log(2))
#: Most Voronoi bins of a map.
N_BINS = 256
#: Fewest pixels in the FWHM of a beam.
SAMPLING = 1.7
#: Pixels along a side of maps without noise, beam or gaps, and their limit in surface
#: brightness, as a share of the brightest pixel.
IDEAL_PIXELS = 32
IDEAL_DEPTH = 1e-3
#: Maps whose bins are found at a time.
VORONOI_CHUNK = 2


@dataclass
class GasMaps(Batch):
    """Mock observations of n galaxies on one grid of pixels.

    Attributes
    ----------
    velocity, dispersion, uncertainty : `torch.Tensor`
        Shape (n, ny, nx), in km/s; NaN where nothing was measured. The uncertainty is
        that of the velocity.
    center : `torch.Tensor`
        Shape (n, 2): the galaxy's x and y in pixels.
    beam : `torch.Tensor`
        Shape (n,): geometric mean FWHM in pixels.
    beams_across : `torch.Tensor`
        Shape (n,): diameter of the gas in beams.
    snr : `torch.Tensor`
        Shape (n,): scatter of the true velocities over the median noise; infinite
        for a map without noise.
    survey : `torch.Tensor`
        Shape (n,): index into `~galml.mocks.surveys.GAS_SURVEYS`.
    truth : `~galml.mocks.Kinematics`
        Measured on the particles inside the deprojected radius of the mask.
    ideal : `torch.Tensor`
        Shape (n, 32, 32), in km/s: velocities in that radius without noise, beam or
        gaps, on an image as wide as it; NaN without gas.
    stars : `torch.Tensor`
        Boolean, shape (n,): whether it is stars that move. None by default.
    """

    velocity: torch.Tensor
    dispersion: torch.Tensor
    uncertainty: torch.Tensor
    center: torch.Tensor
    beam: torch.Tensor
    beams_across: torch.Tensor
    snr: torch.Tensor
    survey: torch.Tensor
    truth: Kinematics
    ideal: torch.Tensor
    stars: torch.Tensor = None

    def __post_init__(self):
        if self.stars is None:
            self.stars = torch.zeros(len(self.velocity), dtype=torch.bool)


def project(galaxy, light, n_pixels, extent, beam, axis_ratio=None, beam_angle=None):
    """Project particles on the sky and convolve with a beam.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen, of p particles.
    light : `torch.Tensor`
        Shape (n, p), in any unit.
    n_pixels, extent, beam, axis_ratio, beam_angle
        See `project_gas`.

    Returns
    -------
    flux, velocity, dispersion : `torch.Tensor`
        Shape (n, n_pixels, n_pixels), see `project_gas`.
    """
    n = len(extent)
    scale = n_pixels / (2 * extent)[:, None]
    x = galaxy.position[..., 0] * scale + n_pixels / 2
    y = galaxy.position[..., 1] * scale + n_pixels / 2
    seen = (x >= 0) & (x < n_pixels) & (y >= 0) & (y < n_pixels)
    pixel = (y.long() * n_pixels + x.long()).clamp(0, n_pixels**2 - 1)
    light = light * seen
    speed, spread = galaxy.velocity[..., 2], galaxy.line_of_sight_dispersion()
    moments = torch.stack([light, light * speed, light * (speed**2 + spread**2)], 1)
    image = torch.zeros(n, 3, n_pixels**2, dtype=light.dtype)
    image.scatter_add_(2, pixel[:, None].expand(-1, 3, -1), moments)
    image = image.unflatten(2, (n_pixels, n_pixels))
    image = _convolve(image, beam, axis_ratio, beam_angle)
    flux = image[:, 0].clamp_min(0)
    bright = flux > 1e-5 * flux.amax((1, 2), keepdim=True)
    safe = torch.where(bright, flux, torch.nan)
    velocity = image[:, 1] / safe
    dispersion = (image[:, 2] / safe - velocity**2).clamp_min(0).sqrt()
    return flux, velocity, dispersion


def project_gas(galaxy, n_pixels, extent, beam, axis_ratio=None, beam_angle=None):
    """Map the gas of galaxies as an ideal receiver behind a beam sees it.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    n_pixels : int
        Pixels along a side of the square image.
    extent : `torch.Tensor`
        Shape (n,): half the side of the image, in kpc.
    beam : `torch.Tensor`
        Shape (n,): geometric mean FWHM of the beam, in pixels.
    axis_ratio, beam_angle : `torch.Tensor`, optional
        Shape (n,): the beam's axis ratio and the angle of its major axis in radians,
        counter-clockwise from +y. A round beam by default.

    Returns
    -------
    flux, velocity, dispersion : `torch.Tensor`
        Shape (n, n_pixels, n_pixels): mass per pixel, and mean and dispersion of the
        line-of-sight velocity in km/s, weighted by mass; NaN without gas.

    Raises
    ------
    galml.core.InputError
        If there is no gas.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, draw_stars, project_gas
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> extent, beam = torch.tensor([20.0, 20.0]), torch.tensor([3.0, 3.0])
    >>> flux, velocity, dispersion = project_gas(galaxy, 32, extent, beam)
    >>> velocity.shape
    torch.Size([2, 32, 32])
    """
    gas = galaxy.gas
    return project(gas, gas.mass, n_pixels, extent, beam, axis_ratio, beam_angle)


def _convolve(image, beam, axis_ratio=None, beam_angle=None):
    """Convolve (n, c, y, x) with an elliptical Gaussian, padded by a third."""
    size = image.shape[-1]
    padded = size + size // 3
    ratio = torch.ones_like(beam) if axis_ratio is None else axis_ratio
    angle = torch.zeros_like(beam) if beam_angle is None else beam_angle
    ky = torch.fft.fftfreq(padded)[:, None]
    kx = torch.fft.rfftfreq(padded)[None, :]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    major = -sine * kx + cosine * ky
    minor = cosine * kx + sine * ky
    sigma = (beam / FWHM)[:, None, None]
    ratio = ratio[:, None, None]
    exponent = major**2 / ratio + minor**2 * ratio
    kernel = torch.exp(-2 * (math.pi * sigma) ** 2 * exponent)
    spectrum = torch.fft.rfft2(image, s=(padded, padded)) * kernel[:, None]
    return torch.fft.irfft2(spectrum, s=(padded, padded))[..., :size, :size]


def gas_radius(galaxy, share=0.9):
    """Find the radius that holds a share of the gas.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies.
    share : float
        Share of the mass of the gas, between 0 and 1.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), in kpc, of a sphere.

    Raises
    ------
    galml.core.InputError
        If there is no gas.
    """
    gas = galaxy.gas
    distance, order = torch.linalg.vector_norm(gas.position, dim=-1).sort(1)
    inside = gas.mass.gather(1, order).cumsum(1)
    place = (inside < share * inside[:, -1:]).sum(1, keepdim=True)
    return distance.gather(1, place)[:, 0]


def observe_gas(galaxy, radius, beams_across, n_pixels, generator, noisy=True):
    """Observe the gas of galaxies as the surveys do.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    radius : `torch.Tensor`
        Shape (n,): radius of the gas in kpc, see `gas_radius`.
    beams_across : `torch.Tensor`
        Shape (n,): diameter of the gas, in beams.
    n_pixels : int
        Pixels along a side of the maps; pixels must sample the beam.
    generator : `torch.Generator`
        Source of all randomness.
    noisy : bool
        Whether to add noise, outliers, clipping, bins and ragged masks. Without, the
        map is what a perfect receiver behind the same beam sees, down to a limit in
        surface brightness.

    Returns
    -------
    `GasMaps`
        The maps and the truth about what they cover.

    Raises
    ------
    galml.core.InputError
        If there is no gas.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, draw_stars, gas_radius, observe_gas
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> across = torch.tensor([12.0, 12.0])
    >>> maps = observe_gas(galaxy, gas_radius(galaxy), across, 40, generator)
    >>> maps.velocity.shape, maps.truth.kappa.shape
    (torch.Size([2, 40, 40]), torch.Size([2]))
    """
    gas = galaxy.gas
    n = len(radius)

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    survey = torch.randint(len(GAS_SURVEYS), (n,), generator=generator)
    trait = _traits(survey)
    field = trait["field_low"] + (trait["field_high"] - trait["field_low"]) * uniform(
        0, 1
    )
    extent = radius * torch.maximum(field, torch.tensor(0.9)) * 1.05
    beam = (n_pixels / extent * radius / beams_across).clamp_min(SAMPLING)
    beams_across = n_pixels / extent * radius / beam
    flux, velocity, dispersion = project_gas(
        gas,
        n_pixels,
        extent,
        beam,
        trait["axis_ratio"] + (1 - trait["axis_ratio"]) * uniform(0, 1),
        uniform(0, math.pi),
    )
    grid = torch.arange(n_pixels) - (n_pixels - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    footprint = _footprint(x, y, field * radius / extent * n_pixels / 2, trait)
    depth = 10 ** uniform(-3.0, -0.7) if noisy else 10 ** uniform(-3.0, -1.5)
    mask = footprint & (flux > depth[:, None, None] * flux.amax((1, 2), keepdim=True))
    if noisy:
        mask = _ragged(mask, x, y, generator)
    mask &= torch.isfinite(velocity)
    inside = gas_aperture(gas, mask, x, y, extent, n_pixels)
    truth = kinematics(gas, inside)
    ideal = _ideal(gas, _reach(mask, x, y, extent, n_pixels))

    instrument = 0.3 * trait["channel"] * uniform(0, 1)
    dispersion = torch.sqrt(dispersion**2 + instrument[:, None, None] ** 2)
    uncertainty = torch.zeros_like(velocity)
    snr = torch.full((n,), torch.inf)
    if noisy:
        snr = 10 ** uniform(-0.7, 2.3)
        velocity, dispersion, uncertainty = _add_noise(
            velocity, dispersion, flux, mask, snr, beam, survey, generator
        )
        velocity = _damage(velocity, mask, generator)
    systemic = 60 * torch.randn(n, generator=generator)
    blank = torch.where(mask, 0.0, torch.nan)
    return GasMaps(
        velocity=velocity + systemic[:, None, None] + blank,
        dispersion=dispersion + blank,
        uncertainty=uncertainty + blank,
        center=torch.full((n, 2), (n_pixels - 1) / 2),
        beam=beam,
        beams_across=beams_across,
        snr=snr,
        survey=survey,
        truth=truth,
        ideal=ideal,
    )


def _traits(survey):
    """Gather what the instruments of a batch have as tensors of shape (n,)."""
    table = {
        "field_low": [s.field[0] for s in GAS_SURVEYS],
        "field_high": [s.field[1] for s in GAS_SURVEYS],
        "axis_ratio": [s.beam_axis_ratio for s in GAS_SURVEYS],
        "channel": [sum(s.channel_width) / 2 for s in GAS_SURVEYS],
        "hexagon": [float(s.footprint == "hexagon") for s in GAS_SURVEYS],
        "square": [float(s.footprint == "square") for s in GAS_SURVEYS],
    }
    return {key: torch.tensor(row)[survey] for key, row in table.items()}


def _footprint(x, y, reach, trait):
    """Find the field of view of each galaxy: a circle, a hexagon or a square."""
    circle = torch.hypot(x, y)
    hexagon = (
        torch.maximum(x.abs() * math.sqrt(3) / 2 + y.abs() / 2, y.abs())
        / math.cos(math.pi / 6)
        * 0.95
    )
    square = torch.maximum(x.abs(), y.abs())
    six, four = trait["hexagon"][:, None, None], trait["square"][:, None, None]
    distance = six * hexagon + four * square + (1 - six - four) * circle
    return distance <= reach[:, None, None]


def _smooth_field(n, size, waves, generator):
    """Draw a random field of unit variance with a typical number of waves."""
    modes = 6
    k = torch.randn(n, modes, 2, generator=generator) * waves[:, None, None]
    grid = torch.linspace(-0.5, 0.5, size) * 2 * math.pi
    start = 2 * math.pi * torch.rand(n, modes, generator=generator)
    along_y = k[..., 1, None] * grid + start[..., None]
    along_x = k[..., 0, None] * grid
    # cos(a + b), summed over modes, as two matrix products.
    field = torch.einsum("nmy,nmx->nyx", along_y.cos(), along_x.cos())
    field = field - torch.einsum("nmy,nmx->nyx", along_y.sin(), along_x.sin())
    return field * math.sqrt(2 / modes)


def _ragged(mask, x, y, generator):
    """Make masks irregular: patches, one-sided maps, holes of foreground stars."""
    n, size = len(mask), mask.shape[-1]

    def rand():
        return torch.rand(n, 1, 1, generator=generator)

    waves = 0.5 + 3 * torch.rand(n, generator=generator)
    patchy = _smooth_field(n, size, waves, generator) > 1.3 * rand() - 1.6
    angle = 2 * math.pi * rand()
    side = x * angle.cos() + y * angle.sin() > -0.5 * size * rand() * 0.6
    radius = size * 0.35
    star_x, star_y = radius * (2 * rand() - 1), radius * (2 * rand() - 1)
    star = torch.hypot(x - star_x, y - star_y) < size * (0.03 + 0.05 * rand())
    ragged = mask & (patchy | (rand() < 0.65)) & (side | (rand() < 0.88))
    ragged &= ~star | (rand() < 0.85)
    enough = ragged.sum((1, 2), keepdim=True) >= 24
    return torch.where(enough, ragged, mask)


def gas_aperture(galaxy, mask, x, y, extent, n_pixels):
    """Find the particles of gas inside the deprojected radius of a mask.

    A disk's mask reaches its deprojected radius along the major axis, so that this is
    the distance which only the outermost two per cent of the mask exceed.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    mask : `torch.Tensor`
        Boolean, shape (n, n_pixels, n_pixels): True where something was measured.
    x, y : `torch.Tensor`
        Shape (n_pixels, n_pixels): place of the pixels from the center, in pixels.
    extent : `torch.Tensor`
        Shape (n,): half the side of the map, in kpc.
    n_pixels : int
        Pixels along a side.

    Returns
    -------
    `torch.Tensor`
        Boolean, of a column for each particle of gas.
    """
    limit = _reach(mask, x, y, extent, n_pixels)
    return (galaxy.gas.position**2).sum(-1) <= limit[:, None] ** 2


def _reach(mask, x, y, extent, n_pixels):
    """Deprojected radius of masks in kpc, as `gas_aperture` says."""
    distance = torch.where(mask, torch.hypot(x, y), torch.nan).flatten(1)
    reach = torch.nanquantile(distance, 0.98, dim=1) + 0.5
    return reach * 2 * extent / n_pixels


def _ideal(gas, reach):
    """Map velocities without noise or gaps, behind a beam of one pixel."""
    flux, velocity, _ = project(
        gas, gas.mass, IDEAL_PIXELS, reach, torch.ones_like(reach)
    )
    axis = (torch.arange(IDEAL_PIXELS) + 0.5) / IDEAL_PIXELS * 2 - 1
    seen = torch.hypot(axis[:, None], axis) < 1
    seen = seen & (flux > IDEAL_DEPTH * flux.amax((1, 2), keepdim=True))
    return torch.where(seen, velocity, torch.nan)


def _add_noise(velocity, dispersion, flux, mask, snr, beam, survey, generator):
    """Add noise that grows as light fades: smooth, heavy-tailed or in Voronoi bins."""
    n, size = len(velocity), velocity.shape[-1]

    def share(name):
        odds = torch.tensor([getattr(s, name) for s in GAS_SURVEYS])[survey]
        return torch.rand(n, generator=generator) < odds

    smooth, tailed, binned = map(share, ("smooth_noise", "heavy_tails", "binned"))
    seen = torch.where(mask, velocity, torch.nan)
    scatter = _mean((seen - _mean(seen)) ** 2).sqrt().clamp_min(3.0)
    slope = torch.rand(n, 1, 1, generator=generator)
    relative = (flux / flux.amax((1, 2), keepdim=True)).clamp_min(1e-4) ** -slope
    typical = torch.where(mask, relative, torch.nan).flatten(1).nanmedian(1).values
    relative = relative / typical[:, None, None]
    # Bins of equal continuum S/N: even noise for stars, uneven for emission lines.
    highest = 1.5 + 8.5 * torch.rand(n, 1, 1, generator=generator) ** 2
    capped = relative.minimum(highest)
    relative = torch.where(binned[:, None, None], capped, relative)
    sigma = scatter / snr[:, None, None] * relative

    noise = torch.randn(2, n, size, size, generator=generator)
    if smooth.any():
        noise[:, smooth] = _correlate(noise[:, smooth], beam[smooth])
    tails = (torch.rand(n, size, size, generator=generator) < 0.13) & (relative > 1.2)
    noise = torch.where(tails & tailed[:, None, None], 3 * noise, noise)
    if binned.any():
        bins = _voronoi(flux[binned], mask[binned], generator)
        for image in (velocity, dispersion, sigma):
            image[binned] = _bin(image[binned], flux[binned], bins)
        noise[0, binned] = _pick(noise[0, binned], bins)
        noise[1, binned] = _pick(noise[1, binned], bins)
    return velocity + sigma * noise[0], (dispersion + sigma * noise[1]).abs(), sigma


def _correlate(noise, beam):
    """Smooth white noise (2, n, y, x) with the beam, back to unit variance."""
    smooth = _convolve(noise.transpose(0, 1), beam).transpose(0, 1)
    return smooth / smooth.std((2, 3), keepdim=True)


def _mean(image):
    """Average the finite pixels of each image, with the axes kept."""
    return torch.nanmean(image, dim=(1, 2), keepdim=True)


def _voronoi(flux, mask, generator):
    """Assign pixels to the nearest of seeds that are denser where light is."""
    n, size = len(flux), flux.shape[-1]
    light = torch.where(mask, flux.clamp_min(1e-9), 0.0).flatten(1)
    power = 0.2 + 0.8 * torch.rand(n, 1, generator=generator)
    weight = (light / light.amax(1, keepdim=True).clamp_min(1e-9)) ** power
    weight = weight + 1e-9
    seeds = torch.multinomial(weight, N_BINS, replacement=True, generator=generator)
    used = 6 + (N_BINS - 6) * torch.rand(n, 1, generator=generator) ** 1.5
    seed_y, seed_x = (seeds // size).float(), (seeds % size).float()
    far = torch.where(torch.arange(N_BINS) < used, 0.0, 1e6)
    grid = torch.arange(size).float()
    pixel_y = (grid[None, :, None] - seed_y[:, None]) ** 2
    pixel_x = (grid[None, :, None] - seed_x[:, None]) ** 2 + far[:, None]
    # Nearest seed by the sum of the two squared offsets, a few maps at a time: all
    # distances at once would take gigabytes.
    parts = zip(pixel_y.split(VORONOI_CHUNK), pixel_x.split(VORONOI_CHUNK), strict=True)
    return torch.cat(
        [(y[:, :, None] + x[:, None]).argmin(-1).flatten(1) for y, x in parts]
    )


def _pick(image, assignment):
    """Give each pixel the value of one pixel of its bin."""
    return image.flatten(1).gather(1, assignment).reshape(image.shape)


def _bin(image, flux, assignment):
    """Average an image, weighted by light, inside each Voronoi bin."""
    weight = torch.where(torch.isfinite(image), flux, 0.0).flatten(1)
    value = torch.nan_to_num(image).flatten(1) * weight
    total = torch.zeros(len(image), N_BINS).scatter_add_(1, assignment, weight)
    summed = torch.zeros(len(image), N_BINS).scatter_add_(1, assignment, value)
    mean = summed / total.clamp_min(1e-30)
    return mean.gather(1, assignment).reshape(image.shape)


def _damage(velocity, mask, generator):
    """Add absurd outliers to a few maps, and let velocities saturate in others."""
    n, size = len(velocity), velocity.shape[-1]
    struck = torch.rand(n, generator=generator) < 0.15
    shape = (int(struck.sum()), size, size)
    absurd = 10 ** (2.5 + 2.2 * torch.rand(shape, generator=generator))
    sign = torch.rand(shape, generator=generator).sub(0.5).sign()
    hit = torch.rand(shape, generator=generator) < 0.01
    damaged = velocity.clone()
    for rows, low, high in _clipped_rows(n, generator):
        seen = torch.where(mask[rows], velocity[rows], torch.nan).flatten(1)
        bounds = torch.nanquantile(seen, torch.tensor([low, high]), dim=1)
        bounds = bounds.reshape(2, -1, 1, 1)
        damaged[rows] = velocity[rows].clamp(bounds[0], bounds[1])
    damaged[struck] = torch.where(hit, sign * absurd, damaged[struck])
    return damaged


def _clipped_rows(n, generator):
    """Choose the maps that saturate below, above or on both sides."""
    draw = torch.rand(n, generator=generator)
    for start, low, high in ((0.0, 0.08, 1.0), (0.04, 0.0, 0.92), (0.08, 0.06, 0.94)):
        rows = (draw >= start) & (draw < start + 0.04)
        if rows.any():
            yield rows, low, high
