# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published autoencoder of Xu et al. (2023): what galaxies of DECaLS look like."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from galml.core import fitting as shared
from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.core.model import InputSpec
from galml.imaging.aligned import bands_shown
from galml.imaging.stamps import as_tensor, galaxy_centers, half_widths, regrid
from galml.morphology.metrics import root_mean_square, structural_similarity
from galml.morphology.operation import TRUNCATED, MorphologyDomain
from galml.physics import PIVOT_WAVELENGTHS

__all__ = [
    "INPUT",
    "StretchedImages",
    "Xu2023",
    "XuDomain",
    "XuRecipe",
    "channels_shown",
    "divergence",
    "draw_noise",
    "midtone",
    "prepare",
    "published_loss",
    "square_halves",
    "stretch",
    "toned",
]

#: What a new network is shown: 256 pixels of DECaLS a side.
INPUT = InputSpec(
    grid=(256, 256),
    channels=("blue", "reference", "red"),
    half_width=33.536,
    width_unit="arcsec",
    stretch={
        # Share of the pixels that are darker than black, bins of the histogram in which
        # they are counted, and where the median is to lie.
        "shadow": 0.001,
        "bins": 65536,
        "median": 0.125,
    },
    parameters={
        # In micron: g, r and z; and how near bands show no color.
        "blue_wavelength": PIVOT_WAVELENGTHS["g"],
        "reference_wavelength": PIVOT_WAVELENGTHS["r"],
        "red_wavelength": PIVOT_WAVELENGTHS["z"],
        "nearest_band": 0.07,
    },
)
#: Place of the reference, the blue and the red band among the channels.
PLACES = [1, 0, 2]
#: Units of the latents, and channels of the convolutions.
LATENTS, WIDTHS = 40, (32, 64, 128)
#: Cells a side behind them.
CELLS = 4
#: Images that are prepared, or judged, at a time.
CHUNK = 64


class Xu2023(nn.Module):
    """The variational autoencoder of Xu et al. (2023).

    It has 443 507 parameters. What it takes for the morphology also tells how a galaxy
    lies in the image.
    """

    widths = (LATENTS, 0)

    def __init__(self):
        super().__init__()
        layers, last = [], 3
        for width in WIDTHS:
            layers += [nn.Conv2d(last, width, 3, stride=2, padding=1)]
            layers += [nn.MaxPool2d(2), nn.LeakyReLU()]
            last = width
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        units = last * CELLS**2
        self.mean, self.log_variance = (nn.Linear(units, LATENTS) for _ in range(2))
        layers = [nn.Linear(LATENTS, units), nn.Unflatten(1, (last, CELLS, CELLS))]
        for width in (*WIDTHS[-2::-1], WIDTHS[0]):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.ConvTranspose2d(last, width, 3, 2, padding=1, output_padding=1),
                nn.LeakyReLU(),
            ]
            last = width
        self.decoder = nn.Sequential(*layers, nn.Conv2d(last, 3, 3, padding=1))

    def encode(self, image):
        """Map images, shape (n, 3, 256, 256), to distributions of their latents.

        Parameters
        ----------
        image : `torch.Tensor`
            Between 0 and 1.

        Returns
        -------
        mean, log_variance : `torch.Tensor`
            Shape (n, 40).
        """
        units = self.encoder(image)
        return self.mean(units), self.log_variance(units)

    def decode(self, latent, pose=None):
        """Draw images from latents.

        Parameters
        ----------
        latent : `torch.Tensor`
            Shape (n, 40).
        pose : `torch.Tensor`, optional
            There is none.

        Returns
        -------
        `torch.Tensor`
            Shape (n, 3, 256, 256), stretched as the input is; not negative.
        """
        return torch.relu(self.decoder(latent))

    def forward(self, inputs):
        """Evaluate the network.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` (n, 3, 256, 256); and in the training ``noise`` (n, 40), see
            `draw_noise`.

        Returns
        -------
        dict of str to `torch.Tensor`
            ``latent`` (n, 40), means of their distributions; ``latent_scatter``, their
            standard deviations; and ``planes`` (n, 3, 256, 256), what the means draw,
            or in the training, latents drawn from the distributions.
        """
        mean, log_variance = self.encode(inputs["image"])
        scatter = (0.5 * log_variance.float()).exp()
        drawn = mean
        if "noise" in inputs:
            drawn = mean + scatter * inputs["noise"]
        planes = self.decode(drawn)
        return {"latent": mean, "latent_scatter": scatter, "planes": planes}


@dataclass
class StretchedImages:
    """What the network takes, and how it comes from the images.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, 3, 256, 256), float32, between 0 and 1; where nothing is known, the
        median of the channel.
    known : `torch.Tensor` of bool
        The same shape: where something is known.
    tone : `torch.Tensor`
        Shape (n, 3, 3), float64: for each channel its shadow point, its midtone and its
        median, before the stretch.
    frame : `torch.Tensor`
        Shape (n, 10), float64, as that of `galml.imaging.aligned.Prepared`: x and y of
        the center and half of the side of the square in pixels; 0, for it is not
        turned; and for the reference, the blue and the red band the range of brightness
        and the median, in flux per pixel.
    """

    image: torch.Tensor
    known: torch.Tensor
    tone: torch.Tensor
    frame: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return {"image": self.image}


def channels_shown(wavelengths, spec=INPUT):
    """Choose the bands that the channels show.

    Parameters
    ----------
    wavelengths : sequence of float
        Of each band, in micron.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    list of int
        Indices of the bands nearest to g, r and z; that nearest to r stands in for
        those that are missing.
    """
    reference, blue, red = bands_shown(wavelengths, spec)
    return [reference if band is None else band for band in (blue, reference, red)]


def square_halves(images, spec=INPUT):
    """Find half of the side of the square that is seen, in pixels.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), float64: that of a field of 67 arcsec, and where the scale is not
        known, that of the image.
    """
    half = half_widths(images, spec)
    return torch.where(half.isfinite(), half, max(images.values.shape[-2:]) / 2)


def prepare(images, spec=INPUT):
    """Cut images to 256 pixels, and stretch them.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape and in the same bands, of whose channels none is constant;
        they are not changed.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `StretchedImages`
        In the orientation of the images.
    """
    half = square_halves(images, spec)
    parts = [
        _prepare(images[start : start + CHUNK], part, spec)
        for start, part in zip(
            range(0, len(images), CHUNK), half.split(CHUNK), strict=True
        )
    ]
    return StretchedImages(*(torch.cat(one) for one in zip(*parts, strict=True)))


def _prepare(images, half, spec):
    """Give the attributes of `StretchedImages` of some images."""
    shown = channels_shown(images.wavelengths, spec)
    data = as_tensor(images.values)[:, shown].double()
    # Single precision then holds the galaxy, however bright it and the sky are.
    low, width = _range(data)
    data = (data - low) / width
    center = galaxy_centers(images)
    stamps = regrid(data, center, half, spec.grid[0], least_known=0.0)
    known = (stamps.cover > 0).expand(stamps.mean.shape)
    seen = torch.where(known, stamps.mean, torch.nan)
    # The square need not hold the brightest pixel of the image.
    lower, inner = _range(seen)
    inner = inner.clamp_min(1e-12)
    low, width = low + width * lower, width * inner
    image, tone = stretch((seen - lower) / inner, spec.stretch)
    sky = low + width * tone[..., 2:, None]
    place = torch.cat([center, half[:, None], torch.zeros(len(half), 1)], 1)
    light = torch.cat([one[:, PLACES].flatten(1) for one in (width, sky)], 1)
    return image, known, tone, torch.cat([place, light], 1).double()


def _range(planes):
    """Give lowest value and range of planes, over what is known."""
    unknown = planes.isnan()
    low = torch.where(unknown, torch.inf, planes).amin((2, 3), keepdim=True)
    high = torch.where(unknown, -torch.inf, planes).amax((2, 3), keepdim=True)
    return low, high - low


def stretch(planes, numbers=INPUT.stretch):
    """Stretch the brightness of each channel by its own histogram, as published.

    The darkest 0.1 % are black, and a midtone transfer function brings out what is
    faint. Its midtone is meant to bring the median to 1/8; it brings it near 1/5, where
    the sky is faint.

    Parameters
    ----------
    planes : `torch.Tensor`
        Shape (n, channels, y, x), from 0 for the darkest to 1 for the brightest; NaN
        where unknown.
    numbers : dict of str to float, optional
        ``shadow``, ``bins`` and ``median``, as in ``INPUT``.

    Returns
    -------
    image : `torch.Tensor`
        The same shape, float32, between 0 and 1; the median where unknown.
    tone : `torch.Tensor`
        Shape (n, channels, 3), float64: shadow point, midtone, and the median before
        the stretch.
    """
    values = planes.flatten(2)
    # NaN comes last.
    order = torch.from_numpy(np.sort(values.numpy(), axis=-1))
    count = values.isfinite().sum(-1)

    def ranked(place):
        return order.gather(-1, place[..., None]).double()

    middle = torch.cat([ranked((count - 1) // 2), ranked(count // 2)], -1)
    darkest = ranked((numbers["shadow"] * count).long())
    # The lower edge of a bin of the histogram; the last bin holds the brightest pixel.
    bins = numbers["bins"]
    shadow = (darkest * bins).floor().clamp_max(bins - 1) / bins
    median = middle.mean(-1, keepdim=True)
    start = median - shadow
    clipped = ((middle - shadow) / (1 - shadow)).clamp(0, 1)
    bright = midtone(clipped, start).mean(-1, keepdim=True)
    tones = start * bright / numbers["median"]
    tone = torch.cat([shadow, tones, median], -1)
    values = torch.where(values.isnan(), median, values.double())
    return toned(values.view(planes.shape), tone), tone


def toned(planes, tone):
    """Stretch the brightness of each channel by known numbers.

    Parameters
    ----------
    planes : `torch.Tensor`
        Shape (n, channels, y, x), as those that `stretch` takes.
    tone : `torch.Tensor`
        Shape (n, channels, 3), as `stretch` gives it.

    Returns
    -------
    `torch.Tensor`
        The same shape, float32, between 0 and 1.
    """
    shadow, tones, _ = tone[..., None, None].unbind(2)
    values = ((planes - shadow) / (1 - shadow)).clamp(0, 1)
    return midtone(values, tones).clamp(0, 1).float()


def midtone(values, tone):
    """Apply the midtone transfer function.

    Parameters
    ----------
    values : `torch.Tensor`
        Between 0 and 1.
    tone : `torch.Tensor`
        What becomes 1/2.

    Returns
    -------
    `torch.Tensor`
        0 for 0 and 1 for 1. The inverse is the function of 1 less the tone.
    """
    result = (tone - 1) * values / ((2 * tone - 1) * values - tone)
    # The limits for tones of 0, where half of the pixels are black, and of 1.
    return torch.where((values == 0) | (values == 1), values, result)


class XuDomain(MorphologyDomain):
    """Images of galaxies, as the published network sees them.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    """

    sizes = False

    def problem(self, member):
        """Give for each galaxy the error why it cannot be used, or None."""
        errors = super().problem(member)
        half = square_halves(member, self.spec)[:, None].numpy()
        middle = galaxy_centers(member).numpy()
        ny, nx = member.values.shape[-2:]
        # A pixel counts where its center lies in the square.
        x, y = (
            np.abs(np.arange(size) - middle[:, axis, None]) <= half
            for axis, size in enumerate((nx, ny))
        )
        seen = (y[:, :, None] & x[:, None])[:, None]
        shown = sorted(set(channels_shown(member.wavelengths, self.spec)))
        values = member.values[:, shown]
        known = seen & np.isfinite(values)
        low = np.where(known, values, np.inf).min((2, 3))
        high = np.where(known, values, -np.inf).max((2, 3))
        for row, place in np.argwhere(~(high > low)):
            if errors[row] is None:
                got = f"{member.bands[shown[place]]} that has one value or none"
                errors[row] = InputError("cutouts", got, "light in each band")
        return errors

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        return prepare(images, self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit of each column."""
        columns = super().columns(n_samples)
        del columns["pose"]
        return columns

    def answer(self, outputs, prepared, members):
        """Give the columns; errors of latents are those that the network tells."""
        planes, image, known = outputs["planes"], prepared.image, prepared.known.float()
        values = {
            "latent": outputs["latent"],
            "latent_err": outputs["latent_scatter"],
            "reconstruction_error": root_mean_square(planes, image, known),
            "ssim": structural_similarity(planes, image, known, brightest=1.0),
        }
        return {key: value.numpy().astype(float) for key, value in values.items()}

    def states(self, answer, prepared):
        """Tell for each bit to which images it belongs."""
        tone = prepared.tone[..., 1].numpy()
        known = prepared.known.float().mean((1, 2, 3)).numpy()
        return {
            Flag.TRUNCATED: known < TRUNCATED,
            # The stretch then keeps nothing of the image but what is black and white.
            Flag.OUT_OF_DOMAIN: ~((tone > 0) & (tone < 1)).all(1),
        }

    def brightness(self, planes, prepared=None):
        """Undo the stretch of planes, shape (n, 3, y, x).

        Gives the reference, the blue and the red band, in units of the range of each
        and less its median; stretched as they are where no images are at hand, for each
        has a stretch of its own.
        """
        if prepared is None:
            return planes[:, PLACES]
        shadow, tone, median = prepared.tone[..., None, None].unbind(2)
        values = midtone(planes.double().clamp(0, 1), 1 - tone.clamp(0, 1))
        return (shadow + (1 - shadow) * values - median)[:, PLACES]


class XuRecipe:
    """How the published network is trained.

    The loss is the sum of squared differences to what latents draw that are taken from
    their distributions, and the divergence of these from a normal one. The optimizer of
    `galml.core.training.train` also limits gradients.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    seed : int
        Of no effect: images are shown as they are.
    """

    operation, architecture, kind = "latents", "xu2023", "images"
    truth, needs_truth, needs_calibration = {}, False, True

    def __init__(self, input_spec=None, *, seed=0):
        self.input_spec = INPUT if input_spec is None else input_spec

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {
            "epochs": 50,
            "batch_size": 512,
            "learning_rate": 1e-5,
            "schedule": "plateau",
            "augment": draw_noise,
        }

    def start(self, network, data):
        """Leave the network as it is: it needs to know nothing of the data."""

    def columns(self, data):
        """Reduce a data set to what the training takes."""
        return {"image": data["image"]}

    def loss(self, network, batch):
        """Give the loss of a batch, see `published_loss`."""
        return published_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Measure how well images are drawn that the training has not seen."""
        found = {"ssim": [], "reconstruction_error": []}
        for image in calibration["image"].split(CHUNK):
            planes = shared.evaluate(model.network, {"image": image}, device=device)
            pair, known = (planes["planes"], image.float()), torch.ones(1)
            found["ssim"].append(structural_similarity(*pair, known, brightest=1.0))
            found["reconstruction_error"].append(root_mean_square(*pair, known))
        return {}, {key: float(torch.cat(one).mean()) for key, one in found.items()}


def draw_noise(batch, generator):
    """Draw from the normal distributions of latents.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image``; the rest stays as it is.
    generator : `torch.Generator`
        On the device of the batch.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch with ``noise``, shape (n, 40).
    """
    image = batch["image"]
    size = (len(image), LATENTS)
    noise = torch.randn(size, generator=generator, device=image.device)
    return batch | {"noise": noise}


def published_loss(network, batch):
    """Give the loss of the published training.

    Parameters
    ----------
    network : `Xu2023`
        The network.
    batch : dict of str to `torch.Tensor`
        What it takes.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss``, the sum of ``squares`` of differences and ``divergence`` of a galaxy,
        mean of all.
    """
    outputs = {key: one.float() for key, one in network(batch).items()}
    change = outputs["planes"] - batch["image"]
    squares = change.square().sum((1, 2, 3)).mean()
    apart = divergence(outputs["latent"], outputs["latent_scatter"]).mean()
    return {"loss": squares + apart, "squares": squares, "divergence": apart}


def divergence(mean, scatter):
    """Give the Kullback-Leibler divergence of normal distributions from the unit one.

    Parameters
    ----------
    mean, scatter : `torch.Tensor`
        Shape (n, k); standard deviations are positive.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), summed over the k latents.
    """
    return (0.5 * (mean.square() + scatter.square() - 1) - scatter.log()).sum(1)
